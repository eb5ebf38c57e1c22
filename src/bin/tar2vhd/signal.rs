//! Signals that ask the process to end.
//!
//! After the clean-up the process ends by the signal itself, with its default action: a shell, make
//! or xargs that started it sees that it was interrupted, and stops too.

use std::io;
use std::process::ExitCode;

pub(crate) use imp::{Caught, report_size_limit};

/// Calls `on_signal` for each signal from now on, from a thread of its own.
pub(crate) fn catch(on_signal: impl Fn(Caught) + Send + 'static) -> io::Result<()> {
    imp::catch(on_signal)
}

/// Ends the process by the signal; the status that says the same if that cannot be.
pub(crate) fn end_by(caught: Caught) -> ExitCode {
    imp::end_by(caught)
}

#[cfg(unix)]
mod imp {
    use std::fmt;
    use std::io;
    use std::process::ExitCode;
    use std::sync::Arc;
    use std::thread;

    use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGXFSZ};
    use signal_hook::iterator::Signals;
    use signal_hook::low_level::{emulate_default_handler, signal_name};

    use crate::disposition;

    /// The number of a signal.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub(crate) struct Caught(pub i32);

    impl fmt::Display for Caught {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str(signal_name(self.0).unwrap_or("a signal"))
        }
    }

    pub(super) fn catch(on_signal: impl Fn(Caught) + Send + 'static) -> io::Result<()> {
        let all = [SIGHUP, SIGINT, SIGQUIT, SIGTERM].into_iter();
        // nohup ignores one, and a shell without job control two in the background.
        let mut signals = Signals::new(all.filter(|signal| !disposition::is_ignored(*signal)))?;
        thread::Builder::new()
            .name("signals".into())
            .spawn(move || {
                signals
                    .forever()
                    .for_each(|signal| on_signal(Caught(signal)))
            })?;
        Ok(())
    }

    pub(super) fn end_by(caught: Caught) -> ExitCode {
        // It comes back only if the signal could not be raised.
        let _ = emulate_default_handler(caught.0);
        ExitCode::from(u8::try_from(128 + caught.0).unwrap_or(u8::MAX))
    }

    /// Has a write beyond the limit on the size of files fail, where a signal would end the
    /// process without a word.
    pub(crate) fn report_size_limit() {
        // Any handler does, and none can be refused for this signal.
        let _ = signal_hook::flag::register(SIGXFSZ, Arc::default());
    }
}

#[cfg(windows)]
mod imp {
    use std::fmt;
    use std::io;
    use std::process::ExitCode;

    /// Ctrl-C, Ctrl-Break, or the end of the console or the session.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub(crate) struct Caught;

    impl fmt::Display for Caught {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("Ctrl-C or the end of the session")
        }
    }

    pub(super) fn catch(on_signal: impl Fn(Caught) + Send + 'static) -> io::Result<()> {
        ctrlc::set_handler(move || on_signal(Caught)).map_err(io::Error::other)
    }

    /// The status with which the default handler would end the process.
    #[expect(
        clippy::exit,
        reason = "the status has 32 bits, and an ExitCode holds 8"
    )]
    pub(super) fn end_by(_: Caught) -> ExitCode {
        const STATUS_CONTROL_C_EXIT: u32 = 0xC000_013A;
        std::process::exit(STATUS_CONTROL_C_EXIT.cast_signed())
    }

    /// There is no such limit.
    pub(crate) fn report_size_limit() {}
}
