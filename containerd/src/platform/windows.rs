use std::fs::{self, File, Metadata};
use std::io;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::process::Command;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::windows::named_pipe::{
    ClientOptions, NamedPipeClient, NamedPipeServer, ServerOptions,
};
use tokio::signal::windows::{CtrlC, CtrlClose, CtrlShutdown, ctrl_c, ctrl_close, ctrl_shutdown};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::server::Connected;

pub(crate) const DEFAULT_ROOT: &str = r"C:\ProgramData\containerd-tar2vhd\root";
pub(crate) const DEFAULT_ADDRESS: &str = r"\\.\pipe\containerd-tar2vhd";
pub(crate) const DEFAULT_CONTAINERD: &str = r"\\.\pipe\containerd-containerd";

/// The group that all virtual machines belong to.
const VIRTUAL_MACHINES: &str = "*S-1-5-83-0";

/// Where settings are read from if there is a file, and none is named.
pub(crate) const DEFAULT_CONFIG: &str = r"C:\ProgramData\containerd-tar2vhd\config.toml";

/// Connections from containerd.
pub(crate) type Incoming = ReceiverStream<io::Result<PipeConnection>>;
/// A connection to containerd.
pub(crate) type Connection = NamedPipeClient;

/// Has no effect: without an access list of its own a pipe can be written by administrators and
/// the system alone, and directories inherit that of `ProgramData`.
pub(crate) fn keep_private() {}

/// A socket to be removed: a pipe ends with its last handle, so there is none.
#[derive(Debug)]
pub(crate) enum Socket {}

impl Socket {
    pub(crate) fn remove(&self) {
        match *self {}
    }
}

/// Connections, and where they come in.
pub(crate) struct Listening {
    pub(crate) incoming: Incoming,
    pub(crate) address: String,
    pub(crate) socket: Option<Socket>,
}

/// Makes a pipe that is the first of its name: nobody else can have put one there.
pub(crate) fn listen(address: &str) -> io::Result<Listening> {
    let name = address.to_owned();
    let mut server = ServerOptions::new()
        .first_pipe_instance(true)
        .create(&name)?;
    let (sender, receiver) = mpsc::channel(1);
    tokio::spawn(async move {
        loop {
            let connected = server.connect().await;
            // The next instance is there before this one is served: a client that comes in
            // between would find no pipe.
            let next = match ServerOptions::new().create(&name) {
                Ok(next) => next,
                Err(e) => {
                    let _ = sender.send(Err(e)).await;
                    return;
                }
            };
            let pipe = std::mem::replace(&mut server, next);
            let incoming = connected.map(|()| PipeConnection(pipe));
            if sender.send(incoming).await.is_err() {
                return;
            }
        }
    });
    Ok(Listening {
        incoming: ReceiverStream::new(receiver),
        address: address.to_owned(),
        socket: None,
    })
}

/// Handles are bounded by memory alone.
pub(crate) fn raise_descriptors() -> u64 {
    u64::MAX
}

/// `ERROR_TOO_MANY_OPEN_FILES`.
pub(crate) fn is_out_of_descriptors(error: &io::Error) -> bool {
    error.raw_os_error() == Some(4)
}

/// A pipe as a connection of the server.
pub(crate) struct PipeConnection(NamedPipeServer);

impl Connected for PipeConnection {
    type ConnectInfo = ();

    fn connect_info(&self) -> Self::ConnectInfo {}
}

impl AsyncRead for PipeConnection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl AsyncWrite for PipeConnection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

pub(crate) async fn connect(address: &str) -> io::Result<Connection> {
    ClientOptions::new().open(address.strip_prefix("npipe://").unwrap_or(address))
}

/// The events that ask this process to end.
pub(crate) struct Ending {
    c: CtrlC,
    close: CtrlClose,
    shutdown: CtrlShutdown,
}

impl Ending {
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self {
            c: ctrl_c()?,
            close: ctrl_close()?,
            shutdown: ctrl_shutdown()?,
        })
    }

    /// Waits until somebody asks, again after each time.
    pub(crate) async fn asked(&mut self) {
        tokio::select! {
            _ = self.c.recv() => {}
            _ = self.close.recv() => {}
            _ = self.shutdown.recv() => {}
        }
    }
}

pub(crate) enum State {
    Ready,
    Stopping,
}

/// Has no effect: there is no systemd.
pub(crate) fn notify(_state: State) {}

pub(crate) fn create_private_directory(path: &Path) -> io::Result<()> {
    fs::create_dir_all(path)
}

/// Has no effect: NTFS keeps the order of names in its journal, and a directory cannot be flushed.
pub(crate) fn sync_directory(_path: &Path) -> io::Result<()> {
    Ok(())
}

/// Opens a regular file, no link.
pub(crate) fn open_regular(path: &Path) -> io::Result<File> {
    match path.symlink_metadata()?.is_file() {
        true => File::open(path),
        false => Err(io::Error::other("no regular file")),
    }
}

/// The length: what is allocated cannot be asked without unsafe code.
pub(crate) fn allocated(metadata: &Metadata) -> u64 {
    metadata.len()
}

pub(crate) fn link_file(target: &Path, link: &Path) -> io::Result<()> {
    std::os::windows::fs::symlink_file(target, link)
}

/// Lets virtual machines read a disk, as hcsshim expects.
///
/// A volume without access lists, such as FAT, makes this fail: layers need NTFS or ReFS.
pub(crate) fn grant_virtual_machines(path: &Path) -> io::Result<()> {
    let system = std::env::var_os("SystemRoot").unwrap_or_else(|| r"C:\Windows".into());
    let output = Command::new(PathBuf::from(system).join(r"System32\icacls.exe"))
        .arg(path)
        .args(["/grant", &format!("{VIRTUAL_MACHINES}:(R)"), "/Q"])
        .output()?;
    match output.status.success() {
        true => Ok(()),
        false => Err(io::Error::other(format!(
            "icacls cannot grant virtual machines access to {}: {}",
            path.display(),
            String::from_utf8_lossy(&output.stderr).trim()
        ))),
    }
}

/// Returns `None`: there is no /proc.
pub(crate) fn process() -> Option<super::Process> {
    None
}

pub(crate) fn pid_namespace() -> u64 {
    0
}
