//! A content store whose streams a test holds up.

use std::os::unix::net::UnixListener;
use std::pin::Pin;
use std::sync::mpsc::Receiver;
use std::sync::{Arc, Mutex};

use tokio_stream::Stream;
use tokio_stream::wrappers::{ReceiverStream, UnixListenerStream};
use tonic::{Request, Response, Status, Streaming};

use crate::api::containerd::services::content::v1 as api;
use crate::api::containerd::services::content::v1::content_server::{Content, ContentServer};
use crate::process::Plugin;

type Messages<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

struct Feed {
    bytes: Vec<u8>,
    fed: Arc<Mutex<Receiver<bool>>>,
}

/// Serves these bytes for any digest: half of them, the rest when `true` comes, and an error
/// when `false` does.
pub(crate) fn serve_content(
    plugin: &Plugin,
    listener: UnixListener,
    bytes: Vec<u8>,
    fed: Receiver<bool>,
) {
    let fed = Arc::new(Mutex::new(fed));
    plugin.spawn(async move {
        let listener = tokio::net::UnixListener::from_std(listener).unwrap();
        tonic::transport::Server::builder()
            .add_service(ContentServer::new(Feed { bytes, fed }))
            .serve_with_incoming(UnixListenerStream::new(listener))
            .await
    });
}

fn none<T>() -> Result<T, Status> {
    Err(Status::unimplemented("not asked for"))
}

#[tonic::async_trait]
impl Content for Feed {
    type ReadStream = Messages<api::ReadContentResponse>;
    type ListStream = Messages<api::ListContentResponse>;
    type WriteStream = Messages<api::WriteContentResponse>;

    async fn read(
        &self,
        request: Request<api::ReadContentRequest>,
    ) -> Result<Response<Self::ReadStream>, Status> {
        let namespace = request.metadata().get("containerd-namespace");
        if namespace.is_none_or(|namespace| namespace != "given") {
            return Err(Status::failed_precondition("a namespace is required"));
        }
        let (sender, receiver) = tokio::sync::mpsc::channel(1);
        let (bytes, fed) = (self.bytes.clone(), Arc::clone(&self.fed));
        tokio::spawn(async move {
            let (first, rest) = bytes.split_at(bytes.len() / 2);
            let message = |data: &[u8]| {
                Ok(api::ReadContentResponse {
                    offset: 0,
                    data: data.to_vec(),
                })
            };
            let _ = sender.send(message(first)).await;
            let fed = tokio::task::spawn_blocking(move || fed.lock().unwrap().recv()).await;
            let last = match fed {
                Ok(Ok(true)) => message(rest),
                _ => Err(Status::data_loss("the store is gone")),
            };
            let _ = sender.send(last).await;
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }

    async fn info(
        &self,
        _: Request<api::InfoRequest>,
    ) -> Result<Response<api::InfoResponse>, Status> {
        none()
    }

    async fn update(
        &self,
        _: Request<api::UpdateRequest>,
    ) -> Result<Response<api::UpdateResponse>, Status> {
        none()
    }

    async fn list(
        &self,
        _: Request<api::ListContentRequest>,
    ) -> Result<Response<Self::ListStream>, Status> {
        none()
    }

    async fn delete(&self, _: Request<api::DeleteContentRequest>) -> Result<Response<()>, Status> {
        none()
    }

    async fn status(
        &self,
        _: Request<api::StatusRequest>,
    ) -> Result<Response<api::StatusResponse>, Status> {
        none()
    }

    async fn list_statuses(
        &self,
        _: Request<api::ListStatusesRequest>,
    ) -> Result<Response<api::ListStatusesResponse>, Status> {
        none()
    }

    async fn write(
        &self,
        _: Request<Streaming<api::WriteContentRequest>>,
    ) -> Result<Response<Self::WriteStream>, Status> {
        none()
    }

    async fn abort(&self, _: Request<api::AbortRequest>) -> Result<Response<()>, Status> {
        none()
    }
}
