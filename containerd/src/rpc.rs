//! Common parts of every call: a thread that may block, a line in the log, a count.

use std::time::Instant;

use tonic::{Code, Response, Status};
use tracing::{Span, debug, warn};

use crate::metrics::{Call, Metrics};

/// Does what may block on a thread for that.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Status> + Send + 'static,
) -> Result<T, Status> {
    let span = Span::current();
    tokio::task::spawn_blocking(move || span.in_scope(work))
        .await
        .map_err(|_| Status::internal("the call broke down"))?
}

/// Logs and counts how a call ends.
pub(crate) async fn traced<T>(
    metrics: &Metrics,
    call: Call,
    work: impl Future<Output = Result<T, Status>>,
) -> Result<Response<T>, Status> {
    let started = Instant::now();
    let unfinished = Unfinished {
        metrics,
        call,
        started,
    };
    let result = work.await;
    std::mem::forget(unfinished);
    let milliseconds = started.elapsed().as_secs_f64() * 1e3;
    let code = result.as_ref().map_or_else(Status::code, |_| Code::Ok);
    metrics.called(call, code);
    match &result {
        Ok(_) => debug!(call = call.as_str(), milliseconds, "done"),
        // containerd asks for what is not there, and makes what is, in its everyday work.
        Err(status) if matches!(code, Code::NotFound | Code::AlreadyExists) => {
            debug!(
                call = call.as_str(),
                milliseconds,
                ?code,
                error = status.message(),
                "failed"
            );
        }
        Err(status) => {
            warn!(
                call = call.as_str(),
                milliseconds,
                ?code,
                error = status.message(),
                "failed"
            );
        }
    }
    result.map(Response::new)
}

/// A call whose caller may go away before it ends.
struct Unfinished<'a> {
    metrics: &'a Metrics,
    call: Call,
    started: Instant,
}

impl Drop for Unfinished<'_> {
    fn drop(&mut self) {
        self.metrics.called(self.call, Code::Cancelled);
        warn!(
            call = self.call.as_str(),
            milliseconds = self.started.elapsed().as_secs_f64() * 1e3,
            code = ?Code::Cancelled,
            "the caller went away before the answer"
        );
    }
}
