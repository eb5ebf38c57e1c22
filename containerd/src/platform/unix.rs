use std::fs::{DirBuilder, File, Metadata, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::os::unix::net::UnixListener as StdListener;
use std::path::{Path, PathBuf};

use tokio::net::{UnixListener, UnixStream};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_stream::wrappers::UnixListenerStream;

pub(crate) const DEFAULT_ROOT: &str = "/var/lib/containerd-tar2vhd";
pub(crate) const DEFAULT_ADDRESS: &str = "/run/containerd-tar2vhd/containerd-tar2vhd.sock";
pub(crate) const DEFAULT_CONTAINERD: &str = "/run/containerd/containerd.sock";

/// Connections from containerd.
pub(crate) type Incoming = UnixListenerStream;
/// A connection to containerd.
pub(crate) type Connection = UnixStream;

/// Keeps everything this process makes from other users: before there are threads.
pub(crate) fn keep_private() {
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
}

/// The socket that systemd hands over, or one at `address`. A socket nobody listens on gives
/// way; the path of the one made here is returned, to be removed at the end.
pub(crate) fn listen(address: &str) -> io::Result<(Incoming, Option<PathBuf>)> {
    let (listener, path) = match listenfd::ListenFd::from_env().take_unix_listener(0)? {
        Some(listener) => (listener, None),
        None => (bind(Path::new(address))?, Some(PathBuf::from(address))),
    };
    listener.set_nonblocking(true)?;
    let listener = UnixListener::from_std(listener)?;
    Ok((UnixListenerStream::new(listener), path))
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

/// What asks this process to end.
pub(crate) struct Ending {
    terminate: Signal,
    interrupt: Signal,
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
        })
    }

    /// Waits until somebody asks, again after each time.
    pub(crate) async fn asked(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
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

/// Nothing: virtual machines that take these disks run on Windows.
pub(crate) fn grant_virtual_machines(_path: &Path) -> io::Result<()> {
    Ok(())
}

/// The inode of the namespace of process ids, 0 where there is none.
pub(crate) fn pid_namespace() -> u64 {
    Path::new("/proc/self/ns/pid")
        .metadata()
        .map_or(0, |metadata| metadata.ino())
}

#[cfg(test)]
mod tests {
    use super::*;

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
