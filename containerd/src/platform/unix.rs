use std::fs::{DirBuilder, File, Metadata, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::os::unix::net::UnixListener as StdListener;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::net::{UnixListener, UnixStream};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tracing::{info, warn};

use crate::authority::AnyAuthority;

pub(crate) const DEFAULT_ROOT: &str = "/var/lib/containerd-tar2vhd";
pub(crate) const DEFAULT_ADDRESS: &str = "/run/containerd-tar2vhd/containerd-tar2vhd.sock";
pub(crate) const DEFAULT_CONTAINERD: &str = "/run/containerd/containerd.sock";

/// Where settings are read from if there is a file, and none is named.
pub(crate) const DEFAULT_CONFIG: &str = "/etc/containerd-tar2vhd.toml";
/// How long no connection is taken when there are no descriptors for one.
const PAUSE: Duration = Duration::from_millis(200);

/// Connections from containerd.
pub(crate) type Incoming = ReceiverStream<io::Result<AnyAuthority<UnixStream>>>;
/// A connection to containerd.
pub(crate) type Connection = UnixStream;

/// Keeps everything this process makes from other users: before there are threads.
pub(crate) fn keep_private() {
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
}

/// A socket that was made here, to be removed at the end.
#[derive(Debug)]
pub(crate) struct Socket {
    path: PathBuf,
    device: u64,
    inode: u64,
}

impl Socket {
    /// Removes the socket, unless another one has its place by now.
    pub(crate) fn remove(&self) {
        let removed = match self.path.symlink_metadata() {
            Ok(found) if (found.dev(), found.ino()) == (self.device, self.inode) => {
                std::fs::remove_file(&self.path)
            }
            Ok(_) => {
                warn!(path = %self.path.display(), "another socket has this place; it stays");
                return;
            }
            Err(e) => Err(e),
        };
        if let Err(e) = removed {
            warn!(path = %self.path.display(), error = %e, "the socket cannot be removed");
        }
    }
}

/// Connections, where they come in, and the socket to be removed.
pub(crate) struct Listening {
    pub(crate) incoming: Incoming,
    pub(crate) address: String,
    pub(crate) socket: Option<Socket>,
}

/// Listens on the socket that systemd hands over, or on one at `address`. A socket nobody listens
/// on gives way.
pub(crate) fn listen(address: &str) -> io::Result<Listening> {
    let (listener, socket) = match listenfd::ListenFd::from_env().take_unix_listener(0)? {
        Some(listener) => (listener, None),
        None => {
            let path = Path::new(address);
            let listener = bind(path)?;
            let found = path.symlink_metadata()?;
            let socket = Socket {
                path: path.to_owned(),
                device: found.dev(),
                inode: found.ino(),
            };
            (listener, Some(socket))
        }
    };
    let local = listener.local_addr()?;
    let address = match local.as_pathname() {
        Some(path) => path.display().to_string(),
        None => format!("{local:?}"),
    };
    listener.set_nonblocking(true)?;
    let listener = UnixListener::from_std(listener)?;
    let (sender, receiver) = mpsc::channel(1);
    tokio::spawn(accept(listener, sender));
    Ok(Listening {
        incoming: ReceiverStream::new(receiver),
        address,
        socket,
    })
}

/// Takes connections until nobody serves them any more.
async fn accept(
    listener: UnixListener,
    sender: mpsc::Sender<io::Result<AnyAuthority<UnixStream>>>,
) {
    let mut is_told = false;
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = sender.closed() => return,
        };
        match accepted {
            Ok((stream, _)) => {
                is_told = false;
                if sender.send(Ok(AnyAuthority::new(stream))).await.is_err() {
                    return;
                }
            }
            // The next try would fail at once, and so on for ever.
            Err(e) => {
                if !is_told {
                    warn!(error = %e, "no connection can be taken; it is tried again");
                    is_told = true;
                }
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

/// Raises the limit of open files as far as it goes; returns it.
pub(crate) fn raise_descriptors() -> u64 {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    let now = match setrlimit(Resource::Nofile, raised) {
        Ok(()) => limit.maximum,
        Err(e) => {
            warn!(error = %e, "the limit of open files cannot be raised");
            limit.current
        }
    };
    now.unwrap_or(u64::MAX)
}

/// Whether this process or the system has too many files open.
pub(crate) fn is_out_of_descriptors(error: &io::Error) -> bool {
    use rustix::io::Errno;
    let number = error.raw_os_error();
    number == Some(Errno::MFILE.raw_os_error()) || number == Some(Errno::NFILE.raw_os_error())
}

fn bind(path: &Path) -> io::Result<StdListener> {
    if let Some(parent) = path.parent() {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(parent)?;
    }
    match path.symlink_metadata() {
        Ok(found) if !found.file_type().is_socket() => {
            return Err(io::Error::new(
                io::ErrorKind::AlreadyExists,
                "something that is no socket is there",
            ));
        }
        Ok(_) => match std::os::unix::net::UnixStream::connect(path) {
            Ok(_) => {
                return Err(io::Error::new(
                    io::ErrorKind::AddrInUse,
                    "another process listens there",
                ));
            }
            Err(_) => std::fs::remove_file(path)?,
        },
        Err(e) if e.kind() == io::ErrorKind::NotFound => {}
        Err(e) => return Err(e),
    }
    let listener = StdListener::bind(path)?;
    // The umask has kept others out since it was bound.
    std::fs::set_permissions(path, Permissions::from_mode(0o600))?;
    Ok(listener)
}

pub(crate) async fn connect(address: &str) -> io::Result<Connection> {
    UnixStream::connect(address.strip_prefix("unix://").unwrap_or(address)).await
}

/// The signals that ask this process to end.
pub(crate) struct Ending {
    terminate: Signal,
    interrupt: Signal,
    hang_up: Signal,
}

impl Ending {
    pub(crate) fn new() -> io::Result<Self> {
        // A write beyond the limit on the size of files fails from now on, where this signal
        // would end the process without a word. What is installed for it stays.
        drop(signal(SignalKind::from_raw(
            rustix::process::Signal::XFSZ.as_raw(),
        ))?);
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hang_up: signal(SignalKind::hangup())?,
        })
    }

    /// Waits until somebody asks, again after each time.
    pub(crate) async fn asked(&mut self) {
        loop {
            tokio::select! {
                _ = self.terminate.recv() => return,
                _ = self.interrupt.recv() => return,
                // Services are told to read their settings by it.
                _ = self.hang_up.recv() => {
                    info!("SIGHUP: settings are read at the start alone; nothing is done");
                }
            }
        }
    }
}

pub(crate) enum State {
    Ready,
    Stopping,
}

/// Tells systemd how it goes, if it asked to be told.
pub(crate) fn notify(state: State) {
    let state = match state {
        State::Ready => sd_notify::NotifyState::Ready,
        State::Stopping => sd_notify::NotifyState::Stopping,
    };
    if let Err(e) = sd_notify::notify(&[state]) {
        tracing::warn!(error = %e, "systemd cannot be notified");
    }
}

/// Makes a directory for this user alone, with its parents; an existing one stays.
pub(crate) fn create_private_directory(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(path)
}

/// Puts the names in a directory on stable storage.
pub(crate) fn sync_directory(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

/// Opens a regular file: neither a link nor, waiting for a writer, a FIFO.
pub(crate) fn open_regular(path: &Path) -> io::Result<File> {
    let flags = rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK;
    let file = File::options()
        .read(true)
        .custom_flags(flags.bits().cast_signed())
        .open(path)?;
    match file.metadata()?.is_file() {
        true => Ok(file),
        false => Err(io::Error::other("no regular file")),
    }
}

/// Bytes of the blocks that a file has.
pub(crate) fn allocated(metadata: &Metadata) -> u64 {
    metadata.blocks() * 512
}

pub(crate) fn link_file(target: &Path, link: &Path) -> io::Result<()> {
    std::os::unix::fs::symlink(target, link)
}

/// Has no effect: virtual machines that take these disks run on Windows.
pub(crate) fn grant_virtual_machines(_path: &Path) -> io::Result<()> {
    Ok(())
}

/// The inode of the namespace of process ids, 0 where there is none.
pub(crate) fn pid_namespace() -> u64 {
    Path::new("/proc/self/ns/pid")
        .metadata()
        .map_or(0, |metadata| metadata.ino())
}

/// The figures of this process in /proc; `None` on systems without /proc.
pub(crate) fn process() -> Option<super::Process> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    // The name of the process may hold spaces and parentheses.
    let fields: Vec<&str> = stat[stat.rfind(')')? + 1..]
        .split_ascii_whitespace()
        .collect();
    let field = |number: usize| fields.get(number - 3)?.parse::<f64>().ok();
    let ticks = rustix::param::clock_ticks_per_second() as f64;
    let page = rustix::param::page_size() as f64;
    let boot = std::fs::read_to_string("/proc/stat").ok()?;
    let boot = boot.lines().find_map(|line| line.strip_prefix("btime "))?;
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    Some(super::Process {
        cpu_seconds: (field(14)? + field(15)?) / ticks,
        open_descriptors: std::fs::read_dir("/proc/self/fd").ok()?.count() as f64,
        max_descriptors: limit.current.map_or(f64::INFINITY, |most| most as f64),
        virtual_memory: field(23)?,
        resident_memory: field(24)? * page,
        start_seconds: boot.trim().parse::<f64>().ok()? + field(22)? / ticks,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(target_os = "linux")]
    #[test]
    fn a_process_is_known() {
        let process = process().unwrap();
        assert!(process.open_descriptors >= 3.0 && process.resident_memory > 1e6);
        let now = std::time::SystemTime::now();
        let now = now
            .duration_since(std::time::UNIX_EPOCH)
            .unwrap()
            .as_secs_f64();
        assert!((now - 3600.0..now + 2.0).contains(&process.start_seconds));
    }

    #[test]
    fn a_socket_is_private_and_takes_the_place_of_a_dead_one() {
        keep_private();
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("below/p.sock");
        let mode = || path.metadata().unwrap().permissions().mode() & 0o7777;
        let first = bind(&path).unwrap();
        assert_eq!(mode(), 0o600);
        assert_eq!(bind(&path).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        drop(first);
        drop(bind(&path).unwrap());
        std::fs::remove_file(&path).unwrap();
        std::fs::write(&path, "").unwrap();
        assert_eq!(
            bind(&path).unwrap_err().kind(),
            io::ErrorKind::AlreadyExists
        );
    }
}
