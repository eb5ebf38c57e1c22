//! Brings what was written to stable storage while more is written, so that little is left to
//! wait for in the end.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, LockResult, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};

/// Bytes written between two syncs: enough that the device writes for
/// longer than it takes to ask it, and little enough for the last ones.
const STEP: u64 = 64 << 20;

/// A thread that syncs after every [`STEP`].
pub(super) struct EarlySync {
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

#[derive(Default)]
struct Shared {
    written: AtomicU64,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// More was written than is synced.
    due: bool,
    ended: bool,
    /// The system tells of a failure only once; here it stays.
    failed: Option<(io::ErrorKind, String)>,
}

impl EarlySync {
    /// Starts the thread, which calls `sync`.
    pub(super) fn start(sync: impl Fn() -> io::Result<()> + Send + 'static) -> io::Result<Self> {
        let shared = Arc::new(Shared::default());
        let thread = thread::Builder::new().name("sync".to_owned()).spawn({
            let shared = Arc::clone(&shared);
            move || shared.run(sync)
        })?;
        Ok(Self {
            shared,
            thread: Mutex::new(Some(thread)),
        })
    }

    /// Counts bytes written. Never waits for the storage; fails if a sync has failed.
    pub(super) fn wrote(&self, len: usize) -> io::Result<()> {
        let len = len as u64;
        let before = self.shared.written.fetch_add(len, Ordering::Relaxed);
        if before / STEP != before.wrapping_add(len) / STEP {
            let mut state = self.shared.lock();
            state.check()?;
            state.due = true;
            self.shared.changed.notify_one();
        }
        Ok(())
    }

    /// Ends the thread, after what it is at, and tells what failed.
    pub(super) fn finish(&self) -> io::Result<()> {
        self.end();
        let thread = ignore_poison(self.thread.lock()).take();
        if let Some(Err(panic)) = thread.map(JoinHandle::join)
            && !thread::panicking()
        {
            std::panic::resume_unwind(panic);
        }
        self.shared.lock().check()
    }

    fn end(&self) {
        self.shared.lock().ended = true;
        self.shared.changed.notify_one();
    }
}

impl State {
    fn check(&self) -> io::Result<()> {
        match &self.failed {
            None => Ok(()),
            Some((kind, message)) => Err(io::Error::new(*kind, message.clone())),
        }
    }
}

impl Drop for EarlySync {
    /// Does not wait for the thread: what it syncs is not wanted.
    fn drop(&mut self) {
        self.end();
    }
}

/// Ignores poison: a panic leaves no half-done state, and continues where the thread is joined.
fn ignore_poison<G>(result: LockResult<G>) -> G {
    result.unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        ignore_poison(self.state.lock())
    }

    fn run(&self, sync: impl Fn() -> io::Result<()>) {
        let mut state = self.lock();
        while !state.ended {
            if std::mem::take(&mut state.due) {
                drop(state);
                let result = sync();
                state = self.lock();
                if let Err(error) = result {
                    state.failed = Some((error.kind(), error.to_string()));
                    return;
                }
            } else {
                state = ignore_poison(self.changed.wait(state));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;
    use std::sync::mpsc;
    use std::time::Duration;

    use super::*;

    #[test]
    fn syncs_while_more_is_written() {
        let (called, calls) = mpsc::channel();
        let (release, released) = mpsc::channel();
        let early = EarlySync::start(move || {
            called.send(()).unwrap();
            released.recv().unwrap();
            Ok(())
        })
        .unwrap();
        for _ in 0..STEP / 4096 - 1 {
            early.wrote(4096).unwrap();
        }
        calls.try_recv().unwrap_err();
        early.wrote(4096).unwrap();
        calls.recv().unwrap();
        // Neither a step nor many of them wait for the one that is under way.
        for _ in 0..5 {
            early.wrote(STEP as usize).unwrap();
        }
        release.send(()).unwrap();
        // All of them are one.
        calls.recv().unwrap();
        release.send(()).unwrap();
        calls.recv_timeout(Duration::from_millis(50)).unwrap_err();
        early.finish().unwrap();
        early.wrote(STEP as usize).unwrap();
        early.finish().unwrap();
    }

    #[test]
    fn a_failure_is_told_in_the_end() {
        let tried = Arc::new(AtomicUsize::new(0));
        let early = EarlySync::start({
            let tried = Arc::clone(&tried);
            move || {
                tried.fetch_add(1, Ordering::Relaxed);
                Err(io::ErrorKind::QuotaExceeded.into())
            }
        })
        .unwrap();
        early.wrote(STEP as usize).unwrap();
        let error = loop {
            if let Err(error) = early.wrote(STEP as usize) {
                break error;
            }
            thread::yield_now();
        };
        assert_eq!(error.kind(), io::ErrorKind::QuotaExceeded);
        for _ in 0..2 {
            let error = early.finish().unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::QuotaExceeded);
        }
        assert_eq!(tried.load(Ordering::Relaxed), 1);
    }

    #[test]
    fn what_is_thrown_away_is_not_waited_for() {
        let (called, calls) = mpsc::channel();
        let (release, released) = mpsc::channel::<()>();
        let early = EarlySync::start(move || {
            called.send(()).unwrap();
            let _ = released.recv();
            Ok(())
        })
        .unwrap();
        early.wrote(STEP as usize).unwrap();
        calls.recv().unwrap();
        drop(early);
        drop(release);
    }
}
