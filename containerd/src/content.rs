//! Where the bytes of a blob come from: containerd, by gRPC, or the directory of its content
//! store.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use hyper_util::rt::TokioIo;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::{Channel, Endpoint, Uri};
use tonic::{Request, Status};

use crate::api::content::v1::ReadContentRequest;
use crate::api::content::v1::content_client::ContentClient;
use crate::digest::{BlobDigest, Check};
use crate::files::failed;
use crate::platform;

/// Names the namespace of a request to containerd.
pub(crate) const NAMESPACE: &str = "containerd-namespace";
/// Messages of the stream that wait for the conversion; containerd sends up to 1 MiB in one.
const QUEUED: usize = 4;
/// The least that a stream brings while it is waited for as long as is configured: less is a
/// stream that stands still, however it does so.
const LEAST: usize = 1 << 20;

/// A content store.
#[derive(Clone, Debug)]
pub(crate) enum Content {
    /// containerd's, asked through its socket.
    Containerd(ContentClient<Channel>),
    /// The directory of one.
    Directory(PathBuf),
}

impl Content {
    /// A directory, which has to be one of a content store.
    pub(crate) fn directory(root: &Path) -> io::Result<Self> {
        match root.join("blobs").metadata() {
            Ok(found) if found.is_dir() => Ok(Self::Directory(root.to_owned())),
            Ok(_) | Err(_) => Err(io::Error::new(
                io::ErrorKind::NotFound,
                format!(
                    "content-root {}: there is no directory blobs in it, as there is in containerd's \
                     ROOT/io.containerd.content.v1.content",
                    root.display()
                ),
            )),
        }
    }

    /// containerd at an address; the connection is made when it is needed, and again when it
    /// is lost.
    pub(crate) fn containerd(address: String) -> Self {
        // The URI is of no meaning: the connector knows where to go.
        let channel = Endpoint::from_static("http://containerd").connect_with_connector_lazy(
            tower::service_fn(move |_: Uri| {
                let address = address.clone();
                async move { platform::connect(&address).await.map(TokioIo::new) }
            }),
        );
        Self::Containerd(ContentClient::new(channel))
    }

    /// Opens a blob of a size, `None` if that is unknown. `namespace` is asked for only where it
    /// matters. A stream that stands still for as long as `stall` ends.
    pub(crate) async fn open(
        &self,
        digest: &BlobDigest,
        size: Option<u64>,
        stall: Duration,
        namespace: impl FnOnce() -> Result<String, Status>,
    ) -> Result<Blob, Status> {
        let source = match self {
            Self::Directory(root) => {
                let (algorithm, hex) = digest.parts();
                let path = root.join("blobs").join(algorithm).join(hex);
                let opened = platform::open_regular(&path).map_err(|e| failed(&path, e))?;
                Source::File(opened)
            }
            Self::Containerd(client) => {
                let mut request = Request::new(ReadContentRequest {
                    digest: digest.to_string(),
                    offset: 0,
                    size: 0,
                });
                let namespace: MetadataValue<Ascii> = namespace()?
                    .parse()
                    .map_err(|_| Status::invalid_argument("the namespace is no name"))?;
                request.metadata_mut().insert(NAMESPACE, namespace);
                let (sender, receiver) = mpsc::channel(QUEUED);
                let failure = Arc::default();
                let task = tokio::spawn(forward(
                    client.clone(),
                    request,
                    sender,
                    Arc::clone(&failure),
                    stall,
                ));
                Source::Stream {
                    receiver,
                    rest: Vec::new(),
                    at: 0,
                    ended: false,
                    failure,
                    task,
                }
            }
        };
        Ok(Blob {
            source,
            left: size,
            check: digest.check(),
        })
    }
}

/// Why a stream ended before its time.
type Failure = Arc<Mutex<Option<Status>>>;

/// A message of the stream, or `None` for its proper end.
type Message = Option<Vec<u8>>;

async fn forward(
    mut client: ContentClient<Channel>,
    request: Request<ReadContentRequest>,
    sender: mpsc::Sender<Message>,
    failure: Failure,
    stall: Duration,
) {
    let forwarded = async {
        let mut patience = Patience::new(stall);
        let mut stream = patience.wait(client.read(request)).await?.into_inner();
        while let Some(message) = patience.wait(stream.message()).await? {
            patience.received(message.data.len());
            if sender.send(Some(message.data)).await.is_err() {
                return Ok(());
            }
        }
        // A blob that is no longer read has no one waiting for its end.
        let _ = sender.send(None).await;
        Ok::<_, Status>(())
    };
    if let Err(status) = forwarded.await {
        *failure.lock().unwrap_or_else(PoisonError::into_inner) = Some(status);
    }
}

/// How long a stream is waited for; the time that its reader takes does not count.
#[derive(Debug)]
struct Patience {
    stall: Duration,
    left: Duration,
    received: usize,
}

impl Patience {
    fn new(stall: Duration) -> Self {
        Self {
            stall,
            left: stall,
            received: 0,
        }
    }

    async fn wait<T>(
        &mut self,
        next: impl Future<Output = Result<T, Status>>,
    ) -> Result<T, Status> {
        let started = Instant::now();
        let waited = tokio::time::timeout(self.left, next).await;
        self.left = self.left.saturating_sub(started.elapsed());
        waited.map_err(|_| {
            Status::deadline_exceeded(format!(
                "{} bytes came in {} seconds; stall-seconds says how long to wait for more",
                self.received,
                self.stall.as_secs()
            ))
        })?
    }

    fn received(&mut self, bytes: usize) {
        self.received = self.received.saturating_add(bytes);
        if self.received >= LEAST {
            *self = Self::new(self.stall);
        }
    }
}

/// A blob that is read once, on a thread that may block.
#[derive(Debug)]
pub(crate) struct Blob {
    source: Source,
    /// Bytes up to the size of the descriptor; what follows is not read.
    left: Option<u64>,
    /// The digest that is to be found at the end, where the library does not look for it.
    check: Option<Check>,
}

#[derive(Debug)]
enum Source {
    File(File),
    Stream {
        receiver: mpsc::Receiver<Message>,
        rest: Vec<u8>,
        at: usize,
        ended: bool,
        failure: Failure,
        task: JoinHandle<()>,
    },
}

/// Progress of a blob that another task reads.
#[derive(Debug)]
pub(crate) struct Watch {
    failure: Failure,
    task: Option<tokio::task::AbortHandle>,
}

impl Watch {
    /// Why containerd gave no more of it.
    pub(crate) fn failure(&self) -> Option<Status> {
        let mut failure = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
        failure.take()
    }
}

impl Watch {
    /// Ends the stream: a reader that waits for more gets an error.
    pub(crate) fn end(&self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.end();
    }
}

impl Blob {
    pub(crate) fn watch(&self) -> Watch {
        match &self.source {
            Source::File(_) => Watch {
                failure: Failure::default(),
                task: None,
            },
            Source::Stream { failure, task, .. } => Watch {
                failure: Arc::clone(failure),
                task: Some(task.abort_handle()),
            },
        }
    }
}

impl Blob {
    /// Holds the blob against its digest once, at its end.
    fn finish(&mut self) -> io::Result<()> {
        if let Source::Stream { task, .. } = &self.source {
            task.abort();
        }
        match self.check.take().map(Check::finish) {
            Some(Err(why)) => Err(io::Error::new(io::ErrorKind::InvalidData, why)),
            Some(Ok(())) | None => Ok(()),
        }
    }

    /// Reads what a conversion has left, which holds all of it against the digest.
    pub(crate) fn drain(&mut self) -> io::Result<()> {
        io::copy(self, &mut io::sink()).map(drop)
    }
}

impl Read for Blob {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        if buf.is_empty() {
            return Ok(0);
        }
        let most = match self.left {
            Some(left) => buf.len().min(usize::try_from(left).unwrap_or(usize::MAX)),
            None => buf.len(),
        };
        let len = match most {
            0 => 0,
            _ => self.source.read(&mut buf[..most])?,
        };
        if len == 0 {
            self.finish()?;
        }
        if let Some(check) = &mut self.check {
            check.update(&buf[..len]);
        }
        if let Some(left) = &mut self.left {
            *left -= len as u64;
        }
        Ok(len)
    }
}

impl Read for Source {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::File(file) => file.read(buf),
            Self::Stream {
                receiver,
                rest,
                at,
                ended,
                ..
            } => {
                while *at == rest.len() && !*ended {
                    match receiver.blocking_recv() {
                        Some(Some(data)) => (*rest, *at) = (data, 0),
                        Some(None) => *ended = true,
                        None => {
                            return Err(io::Error::new(
                                io::ErrorKind::UnexpectedEof,
                                "the stream from containerd broke off",
                            ));
                        }
                    }
                }
                let len = buf.len().min(rest.len() - *at);
                buf[..len].copy_from_slice(&rest[*at..*at + len]);
                *at += len;
                Ok(len)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patience_ends_with_a_stream_that_trickles() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .unwrap();
        runtime.block_on(async {
            let slowly = async |value: Result<usize, Status>| {
                tokio::time::sleep(Duration::from_millis(30)).await;
                value
            };
            let mut patience = Patience::new(Duration::from_millis(200));
            // Enough each time.
            for _ in 0..10 {
                let len = patience.wait(slowly(Ok(LEAST))).await.unwrap();
                patience.received(len);
            }
            let mut came = 0;
            let ended = loop {
                match patience.wait(slowly(Ok(1))).await {
                    Ok(len) => patience.received(len),
                    Err(status) => break status,
                }
                came += 1;
                assert!(came < 10, "it never ends");
            };
            assert_eq!(ended.code(), tonic::Code::DeadlineExceeded);
            let cause = Patience::new(Duration::from_secs(9))
                .wait(slowly(Err(Status::not_found("x"))))
                .await;
            assert_eq!(cause.unwrap_err().code(), tonic::Code::NotFound);
        });
    }
}
