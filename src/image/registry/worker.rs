//! The thread that does the requests, so that callers may be threads of any kind.

use std::future::Future;
use std::io;
use std::sync::mpsc::{RecvTimeoutError, sync_channel};
use std::thread;
use std::time::Duration;

use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;
use tokio::task::AbortHandle;

use crate::cancel::CancelToken;
use crate::error::{Error, ErrorKind, Result};

/// A thread with a runtime of its own. It ends, and with it every request, when this is dropped.
pub(super) struct Worker {
    handle: Handle,
    /// Dropped, it ends the thread.
    _stop: oneshot::Sender<()>,
}

/// The longest time until a cancellation is noticed.
pub(super) const NOTICE: Duration = Duration::from_millis(50);

impl Worker {
    pub(super) fn start() -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let handle = runtime.handle().clone();
        let (stop, stopped) = oneshot::channel();
        thread::Builder::new()
            .name("registry".into())
            .spawn(move || {
                let _ = runtime.block_on(stopped);
                // A look-up of a name that hangs is not waited for.
                runtime.shutdown_background();
            })?;
        Ok(Self {
            handle,
            _stop: stop,
        })
    }

    /// Does something beside the caller.
    pub(super) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) -> AbortHandle {
        self.handle.spawn(task).abort_handle()
    }

    /// Does something and waits for it.
    pub(super) fn run<T: Send + 'static>(
        &self,
        cancel: &CancelToken,
        task: impl Future<Output = Result<T>> + Send + 'static,
    ) -> Result<T> {
        let (sender, receiver) = sync_channel(1);
        let task = self.spawn(async move {
            // Nobody waits any more after a cancellation.
            let _ = sender.send(task.await);
        });
        loop {
            let result = match receiver.recv_timeout(NOTICE) {
                Ok(result) => result,
                Err(RecvTimeoutError::Timeout) if !cancel.is_cancelled() => continue,
                Err(RecvTimeoutError::Timeout) => Err(Error::cancelled()),
                Err(RecvTimeoutError::Disconnected) => Err(ended()),
            };
            task.abort();
            return result;
        }
    }
}

/// The error of a request that nobody does any more.
pub(super) fn ended() -> Error {
    Error::new(ErrorKind::Input, "the thread for registries has ended")
}
