//! Errors of the command: a message, an exit status, perhaps a signal.

use std::path::Path;

use tar2vhd::{Error, ErrorKind};

use crate::signal::Caught;

/// Why the command ends without success.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) message: String,
    pub(crate) code: u8,
    /// The signal that interrupted the work.
    pub(crate) signal: Option<Caught>,
}

impl Failure {
    pub(crate) const ERROR: u8 = 1;
    pub(crate) const USAGE: u8 = 2;

    pub(crate) fn error(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            code: Self::ERROR,
            signal: None,
        }
    }

    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            code: Self::USAGE,
            signal: None,
        }
    }

    pub(crate) fn interrupted(caught: Caught) -> Self {
        Self {
            signal: Some(caught),
            ..Self::error(format!("interrupted by {caught}"))
        }
    }
}

impl Failure {
    /// The error of a call that read `input`, which its message names.
    pub(crate) fn reading(input: &Path, error: Error) -> Self {
        let named = match error.kind() {
            ErrorKind::InvalidOptions | ErrorKind::Cancelled => None,
            _ => Some(input).filter(|_| error.file().is_none()),
        };
        Self::of(named, &error)
    }

    /// The error of a call that read `input` and wrote to `output`: its message names the one
    /// that it is about.
    pub(crate) fn copying(input: &Path, output: &Path, error: Error) -> Self {
        match error.kind() {
            ErrorKind::Output | ErrorKind::StorageFull => Self::of(Some(output), &error),
            _ => Self::reading(input, error),
        }
    }

    fn of(named: Option<&Path>, error: &Error) -> Self {
        let mut message = match named {
            Some(path) => format!("{}: {error:#}", tar2vhd::display_file(path)),
            None => format!("{error:#}"),
        };
        if let Some(option) = error.option() {
            message.push_str(&match option {
                "lower" => "; if a layer below has it, name the disk of that one \
                    (convert --lower)"
                    .to_owned(),
                _ => format!("; --{option} can be larger"),
            });
        }
        match error.kind() {
            ErrorKind::InvalidOptions => Self::usage(message),
            _ => Self::error(message),
        }
    }
}

/// The error of a call that names its file, or has none.
impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::of(None, &error)
    }
}
