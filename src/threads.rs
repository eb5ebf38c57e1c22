//! Threads of a conversion or a check: how many there may be, and what happens if the system
//! refuses one.

use std::thread::{Builder, Scope, ScopedJoinHandle};

use rayon::{ThreadPool, ThreadPoolBuilder};

use crate::error::{Error, ErrorKind, Result};

/// More threads than this help no conversion: hashing, the widest stage, is then faster than
/// any disk. Each thread holds buffers, so the cap also bounds their memory.
pub(crate) const THREADS_MAX: usize = 16;

/// The number of threads to use when `wanted` were asked for, or as many as there are
/// processors for 0.
pub(crate) fn count(wanted: usize) -> usize {
    let threads = match wanted {
        0 => std::thread::available_parallelism().map_or(1, usize::from),
        wanted => wanted,
    };
    threads.min(THREADS_MAX)
}

/// Starts a thread of a scope, where [`Scope::spawn`] would panic if the system refuses it.
pub(crate) fn spawn<'scope, T: Send + 'scope>(
    scope: &'scope Scope<'scope, '_>,
    name: &str,
    work: impl FnOnce() -> T + Send + 'scope,
) -> Result<ScopedJoinHandle<'scope, T>> {
    let thread = Builder::new().name(name.to_owned());
    thread.spawn_scoped(scope, work).map_err(refused)
}

/// A pool of `threads` threads that share work.
pub(crate) fn pool(threads: usize) -> Result<ThreadPool> {
    let pool = ThreadPoolBuilder::new().num_threads(threads.max(1)).build();
    pool.map_err(refused)
}

/// Runs `work` on a pool of its own, unless the caller is on one already.
///
/// Rayon's global pool, which work would go to otherwise, panics if the system refuses a thread.
pub(crate) fn shared<T: Send>(work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    match rayon::current_thread_index() {
        Some(_) => work(),
        None => pool(count(0))?.install(work),
    }
}

fn refused(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
    let message = "the system refuses another thread (fewer threads, or a higher limit of \
                   processes, may help)";
    Error::new(ErrorKind::Limit, message).with_source(error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_threads_are_used_than_help() {
        assert_eq!(count(1), 1);
        assert_eq!(count(THREADS_MAX), THREADS_MAX);
        assert_eq!(count(usize::MAX), THREADS_MAX);
        assert!((1..=THREADS_MAX).contains(&count(0)));
    }
}
