//! Where the bytes of a blob come from: containerd, by gRPC, or the directory of its content
//! store.

use std::fs::File;
use std::io::{self, Read};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use hyper_util::rt::TokioIo;
use tar2vhd::Digest;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::transport::{Channel, Endpoint, Uri};
use tonic::{Request, Status};

use crate::api::content::v1::ReadContentRequest;
use crate::api::content::v1::content_client::ContentClient;
use crate::layout::failed;
use crate::platform;

/// Names the namespace of a request to containerd.
pub(crate) const NAMESPACE: &str = "containerd-namespace";
/// Messages of the stream that wait for the conversion; containerd sends up to 1 MiB in one.
const QUEUED: usize = 4;

/// A content store.
#[derive(Clone, Debug)]
pub(crate) enum Content {
    /// containerd's, asked through its socket.
    Containerd(ContentClient<Channel>),
    /// The directory of one.
    Directory(PathBuf),
}

impl Content {
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

    /// Opens a blob. `namespace` is asked for only where it matters.
    pub(crate) async fn open(
        &self,
        digest: Digest,
        namespace: impl FnOnce() -> Result<String, Status>,
    ) -> Result<Blob, Status> {
        match self {
            Self::Directory(root) => {
                let hex = digest.to_string();
                let hex = hex.trim_start_matches("sha256:");
                let path = root.join("blobs").join("sha256").join(hex);
                let opened = platform::open_regular(&path).map_err(|e| failed(&path, e))?;
                Ok(Blob(Source::File(opened)))
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
                ));
                Ok(Blob(Source::Stream {
                    receiver,
                    rest: Vec::new(),
                    at: 0,
                    ended: false,
                    failure,
                    task,
                }))
            }
        }
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
) {
    let forwarded = async {
        let mut stream = client.read(request).await?.into_inner();
        while let Some(message) = stream.message().await? {
            if sender.send(Some(message.data)).await.is_err() {
                return Ok(());
            }
        }
        // Nobody waits for the end of what is no longer read.
        let _ = sender.send(None).await;
        Ok::<_, Status>(())
    };
    if let Err(status) = forwarded.await {
        *failure.lock().unwrap_or_else(PoisonError::into_inner) = Some(status);
    }
}

/// A blob that is read once, on a thread that may block.
#[derive(Debug)]
pub(crate) struct Blob(Source);

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

/// What there is to tell of a blob while it is read elsewhere.
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
        match &self.0 {
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

impl Read for Blob {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        match &mut self.0 {
            Source::File(file) => file.read(buf),
            Source::Stream {
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
