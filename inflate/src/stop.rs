//! Ends of a decoding step.

use crate::error::Error;

/// The reason a decoding step ends early.
#[derive(Debug)]
pub(crate) enum Stop {
    /// It needs more input than there is, and holds all there is.
    Starved,
    /// It needs more room.
    Full,
    Ended,
    Failed(Error),
}

impl From<Error> for Stop {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}
