//! Runs the work of a command until it ends or a signal asks the process to end.

use std::panic::{self, AssertUnwindSafe};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread;
use std::time::Duration;

use tar2vhd::CancelToken;
use tar2vhd::disk::Discard;

use crate::failure::Failure;
use crate::signal::{self, Caught};

/// Events that the main thread waits for.
enum Event {
    Signal(Caught),
    Finished(Result<(), Failure>),
}

/// The time that work has to end by itself after a signal.
const PATIENCE: Duration = Duration::from_secs(5);

/// The signals are caught from now on.
pub(crate) struct Signals {
    events: Sender<Event>,
    received: Receiver<Event>,
}

impl Signals {
    pub(crate) fn catch() -> Result<Self, Failure> {
        let (events, received) = mpsc::channel();
        let on_signal = events.clone();
        signal::catch(move |caught| {
            // The receiver is gone when all is done.
            let _ = on_signal.send(Event::Signal(caught));
        })
        .map_err(|e| Failure::error(format!("cannot handle signals: {e}")))?;
        Ok(Self { events, received })
    }

    /// Runs `work` until it ends or a signal comes, which leaves nothing of the files that
    /// `discard` discards.
    ///
    /// The work has a thread of its own, because reading may block for ever.
    pub(crate) fn supervise(
        self,
        cancel: &CancelToken,
        discard: &[Discard],
        work: impl FnOnce() -> Result<(), Failure> + Send + 'static,
    ) -> Result<(), Failure> {
        let Self { events, received } = self;
        thread::Builder::new()
            .name("convert".into())
            .spawn(move || {
                // The values of a panicking thread are dropped before its result is sent.
                let result = panic::catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|_| {
                    Err(Failure::error(
                        "internal error: please report it with the message above",
                    ))
                });
                // The receiver is gone after a signal.
                let _ = events.send(Event::Finished(result));
            })
            .map_err(|e| Failure::error(format!("cannot start a thread: {e}")))?;
        let mut interrupted = None;
        loop {
            let event = match interrupted {
                None => received.recv().map_err(|_| RecvTimeoutError::Disconnected),
                Some(_) => received.recv_timeout(PATIENCE),
            };
            match event {
                Ok(Event::Finished(result)) => {
                    return match interrupted {
                        Some(caught) if result.is_err() => Err(Failure::interrupted(caught)),
                        _ => result,
                    };
                }
                // The work has files that are not known here, and ends by itself, unless it waits
                // for input; by a second signal it ends at once.
                Ok(Event::Signal(caught)) if discard.is_empty() => {
                    cancel.cancel();
                    if interrupted.replace(caught).is_some() {
                        return Err(Failure::interrupted(caught));
                    }
                }
                Ok(Event::Signal(caught)) => {
                    cancel.cancel();
                    // A disk that is published already stays.
                    let discarded = discard.iter().map(Discard::discard);
                    if discarded.fold(false, |any, one| any | one) {
                        return Err(Failure::interrupted(caught));
                    }
                }
                Err(RecvTimeoutError::Timeout) => {
                    if let Some(caught) = interrupted {
                        return Err(Failure::interrupted(caught));
                    }
                }
                Err(RecvTimeoutError::Disconnected) => {
                    return Err(Failure::error("the work ended without a result"));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use tar2vhd::disk::{DiskFile, DiskOutput};

    use super::*;

    #[cfg(unix)]
    const CAUGHT: Caught = Caught(15);
    #[cfg(windows)]
    const CAUGHT: Caught = Caught;

    /// Supervises work on a file; the result, and the names that are left.
    fn supervised(
        work: impl FnOnce(DiskFile, Sender<Event>) -> Result<(), Failure> + Send + 'static,
    ) -> (Result<(), Failure>, Vec<String>) {
        let directory = tempfile::tempdir().unwrap();
        let file = DiskFile::create(directory.path().join("disk")).unwrap();
        file.write_at(0, b"x").unwrap();
        let discard = file.discard_handle();
        let (events, received) = mpsc::channel();
        let to_work = events.clone();
        let signals = Signals { events, received };
        let result =
            signals.supervise(&CancelToken::new(), &[discard], move || work(file, to_work));
        let names = fs::read_dir(&directory)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        (result, names)
    }

    #[test]
    fn a_panic_is_an_error_that_leaves_nothing() {
        let (result, names) = supervised(|_file, _| panic!("as the test wants"));
        let failure = result.unwrap_err();
        assert_eq!((failure.code, failure.signal), (1, None));
        assert!(failure.message.contains("internal error"));
        assert_eq!(names, [""; 0]);
    }

    #[test]
    fn work_without_files_here_has_time_to_end_and_no_more() {
        let (events, received) = mpsc::channel();
        let signal = events.clone();
        let signals = Signals { events, received };
        let result = signals.supervise(&CancelToken::new(), &[], move || {
            signal.send(Event::Signal(CAUGHT)).unwrap();
            Err(Failure::error("cancelled"))
        });
        assert_eq!(result.unwrap_err().signal, Some(CAUGHT));
        let (events, received) = mpsc::channel();
        let signal = events.clone();
        let signals = Signals { events, received };
        let result = signals.supervise(&CancelToken::new(), &[], move || {
            signal.send(Event::Signal(CAUGHT)).unwrap();
            loop {
                thread::park();
            }
        });
        assert_eq!(result.unwrap_err().signal, Some(CAUGHT));
    }

    #[test]
    fn a_signal_ends_work_that_never_ends() {
        let (result, names) = supervised(|_file, events| {
            events.send(Event::Signal(CAUGHT)).unwrap();
            loop {
                thread::park();
            }
        });
        let failure = result.unwrap_err();
        assert_eq!(failure.signal, Some(CAUGHT));
        assert!(failure.message.contains("interrupted by"));
        // On Windows a name can outlive its removal until the file is closed.
        if !cfg!(windows) {
            assert_eq!(names, [""; 0]);
        }
    }

    #[test]
    fn a_signal_after_the_end_comes_too_late() {
        let (result, names) = supervised(|file, events| {
            file.publish(false)?;
            events.send(Event::Signal(CAUGHT)).unwrap();
            Ok(())
        });
        result.unwrap();
        assert_eq!(names, ["disk"]);
    }
}
