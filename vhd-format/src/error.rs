use std::fmt;
use std::io;

/// The kind of an error: enough to choose a reaction, not to explain it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The storage below failed.
    Io,
    /// The disk is damaged or violates its specification.
    Invalid,
    /// The disk is well formed but uses what this crate does not implement.
    Unsupported,
    /// An argument is out of range: a size, a block size, an offset past the end of the disk.
    InvalidInput,
    /// The disk was opened for reading, or is of a kind that is only read.
    ReadOnly,
    /// The disk needs its parent, and none or the wrong one was attached.
    Parent,
}

/// The error of every fallible call of this crate.
///
/// It displays as one line, with the offset in the file where that is known. Its cause is told by
/// [`source`](std::error::Error::source); the alternate form, `{:#}`, has it on the same line.
pub struct Error(Box<Inner>);

struct Inner {
    kind: ErrorKind,
    message: String,
    is_overlap: bool,
    offset: Option<u64>,
    source: Option<io::Error>,
}

/// The result of every fallible call of this crate.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    pub(crate) fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self(Box::new(Inner {
            kind,
            message: message.into(),
            is_overlap: false,
            offset: None,
            source: None,
        }))
    }

    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Invalid, message)
    }

    /// A block lies over another or over a structure.
    pub(crate) fn overlap(message: impl Into<String>) -> Self {
        let mut error = Self::invalid(message);
        error.0.is_overlap = true;
        error
    }

    pub(crate) fn unsupported(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Unsupported, message)
    }

    pub(crate) fn read_only(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::ReadOnly, message)
    }

    pub(crate) fn parent(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Parent, message)
    }

    /// The storage failed while doing that.
    pub(crate) fn io(message: impl Into<String>, source: io::Error) -> Self {
        let mut error = Self::new(ErrorKind::Io, message);
        error.0.source = Some(source);
        error
    }

    /// Reading failed: a file that ends early is a damaged disk, not a failing storage.
    pub(crate) fn read(what: impl fmt::Display, offset: u64, source: io::Error) -> Self {
        if source.kind() == io::ErrorKind::UnexpectedEof {
            Self::invalid(format!("the file ends before the end of {what}")).at(offset)
        } else {
            Self::io(format!("cannot read {what}"), source).at(offset)
        }
    }

    /// Writing failed.
    pub(crate) fn write(what: impl fmt::Display, offset: u64, source: io::Error) -> Self {
        Self::io(format!("cannot write {what}"), source).at(offset)
    }

    /// Flushing failed.
    pub(crate) fn flush(source: io::Error) -> Self {
        Self::io("cannot flush the file", source)
    }

    /// Names the offset in the file; the innermost wins.
    pub(crate) fn at(mut self, offset: u64) -> Self {
        self.0.offset.get_or_insert(offset);
        self
    }

    pub(crate) fn input(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::InvalidInput, message)
    }

    /// The kind of failure.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// Whether a block lies over another or over a structure. There may be far more to read
    /// from such a disk than its file holds.
    #[must_use]
    pub fn is_overlap(&self) -> bool {
        self.0.is_overlap
    }

    /// The offset in the file of the structure concerned.
    #[must_use]
    pub fn offset(&self) -> Option<u64> {
        self.0.offset
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let inner = &*self.0;
        f.write_str(&inner.message)?;
        let mut cause = std::error::Error::source(self).filter(|_| f.alternate());
        while let Some(error) = cause {
            write!(f, ": {error}")?;
            cause = error.source();
        }
        if let Some(offset) = inner.offset {
            write!(f, " (at byte {offset})")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Error")
            .field("kind", &self.0.kind)
            .field("message", &format_args!("{self:#}"))
            .finish()
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.0.source.as_ref().map(|source| source as _)
    }
}

/// A disk is storage too, so its errors must fit where storage's do.
impl From<Error> for io::Error {
    fn from(error: Error) -> Self {
        let kind = match (error.kind(), &error.0.source) {
            (ErrorKind::Io, Some(source)) => source.kind(),
            (ErrorKind::Unsupported, _) => io::ErrorKind::Unsupported,
            (ErrorKind::InvalidInput, _) => io::ErrorKind::InvalidInput,
            (ErrorKind::ReadOnly, _) => io::ErrorKind::PermissionDenied,
            _ => io::ErrorKind::InvalidData,
        };
        Self::new(kind, error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn displays_on_one_line() {
        let error = Error::read("the footer", 512, io::ErrorKind::PermissionDenied.into());
        assert_eq!(error.kind(), ErrorKind::Io);
        assert_eq!(error.offset(), Some(512));
        assert_eq!(error.to_string(), "cannot read the footer (at byte 512)");
        assert_eq!(
            format!("{error:#}"),
            "cannot read the footer: permission denied (at byte 512)"
        );
        assert_eq!(
            io::Error::from(error).kind(),
            io::ErrorKind::PermissionDenied
        );
    }

    #[test]
    fn a_short_file_is_damaged() {
        let error = Error::read("the footer", 0, io::ErrorKind::UnexpectedEof.into());
        assert_eq!(error.kind(), ErrorKind::Invalid);
        assert_eq!(io::Error::from(error).kind(), io::ErrorKind::InvalidData);
    }
}
