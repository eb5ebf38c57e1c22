//! Cancellation of long work.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use crate::error::{Error, Result};

/// Stops a conversion from another thread, or when its time is over: it ends with
/// [`ErrorKind::Cancelled`](crate::ErrorKind::Cancelled) before the next chunk.
///
/// No token ends a call of [`Read::read`](std::io::Read::read) that is under way: an input that may
/// block for ever, such as a socket, needs a time limit of its own, or has to be closed from
/// elsewhere.
#[derive(Clone, Debug, Default)]
pub struct CancelToken {
    cancelled: Arc<AtomicBool>,
    deadline: Option<Instant>,
}

impl CancelToken {
    /// A token that is not cancelled.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A token that is cancelled at this time, unless it is before.
    #[must_use]
    pub fn with_deadline(deadline: Instant) -> Self {
        Self {
            deadline: Some(deadline),
            ..Self::default()
        }
    }

    /// Cancels every conversion that holds a clone of this token.
    pub fn cancel(&self) {
        self.cancelled.store(true, Ordering::Relaxed);
    }

    /// An error once the token is cancelled.
    pub(crate) fn check(&self) -> Result<()> {
        if self.is_cancelled() {
            return Err(Error::cancelled());
        }
        Ok(())
    }

    /// Whether [`cancel`](Self::cancel) was called or the deadline has passed.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        let is_over = |deadline| Instant::now() >= deadline;
        self.cancelled.load(Ordering::Relaxed) || self.deadline.is_some_and(is_over)
    }
}
