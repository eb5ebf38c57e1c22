use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use crate::names::names;
use crate::summary::{display_file, display_path};

/// The kind of an error: enough to choose a reaction, not to explain it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The options contradict each other or are out of range.
    InvalidOptions,
    /// Reading the input failed.
    Input,
    /// The compressed stream or the tar inside it is damaged, truncated or malformed.
    Corrupt,
    /// The input is well formed but of a kind that is not converted: another compression,
    /// a multi-volume archive, a zstd dictionary.
    Unsupported,
    /// An entry cannot be shown faithfully by ext4, or contradicts another entry.
    Entry,
    /// A limit was passed: disk size, entries, decompression window, links.
    Limit,
    /// The input is not the one that was expected: media type, digest or size differ.
    Mismatch,
    /// Writing the output failed.
    Output,
    /// The output device is full.
    StorageFull,
    /// The conversion was cancelled.
    Cancelled,
    /// A disk or file system that was to be read is damaged.
    InvalidDisk,
}

names!(ErrorKind, "kind of error", {
    InvalidOptions = "invalid-options",
    Input = "input",
    Corrupt = "corrupt",
    Unsupported = "unsupported",
    Entry = "entry",
    Limit = "limit",
    Mismatch = "mismatch",
    Output = "output",
    StorageFull = "storage-full",
    Cancelled = "cancelled",
    InvalidDisk = "invalid-disk",
});

/// The error of every fallible call of this crate.
///
/// It displays as one line that names the file, the layer of an image (counted from 1), the entry's path and the offset in the
/// uncompressed layer where they are known. Its causes are told by
/// [`source`](std::error::Error::source); the alternate form, `{:#}`, has them on the same line.
pub struct Error(Box<Inner>);

struct Inner {
    kind: ErrorKind,
    message: String,
    file: Option<PathBuf>,
    option: Option<&'static str>,
    layer: Option<usize>,
    path: Option<Vec<u8>>,
    offset: Option<u64>,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

/// The result of every fallible call of this crate.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    pub(crate) fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self(Box::new(Inner {
            kind,
            message: message.into(),
            file: None,
            option: None,
            layer: None,
            path: None,
            offset: None,
            source: None,
        }))
    }

    pub(crate) fn corrupt(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Corrupt, message)
    }

    pub(crate) fn unsupported(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Unsupported, message)
    }

    pub(crate) fn entry(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Entry, message)
    }

    pub(crate) fn limit(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Limit, message)
    }

    pub(crate) fn cancelled() -> Self {
        Self::new(ErrorKind::Cancelled, "cancelled")
    }

    /// Reading the input failed. A reader of this crate's knows more about its error.
    pub(crate) fn input(source: io::Error) -> Self {
        source.downcast::<Self>().unwrap_or_else(|source| {
            Self::new(ErrorKind::Input, "cannot read the input").with_source(source)
        })
    }

    /// Writing the output failed; a full device gets its own kind.
    pub(crate) fn output(what: impl Into<String>, source: io::Error) -> Self {
        let mut what = what.into();
        let kind = match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => ErrorKind::StorageFull,
            io::ErrorKind::FileTooLarge => {
                what.push_str(
                    " beyond the largest size of files that ulimit -f or the file system allows",
                );
                ErrorKind::Output
            }
            _ => ErrorKind::Output,
        };
        Self::new(kind, what).with_source(source)
    }

    pub(crate) fn with_source(
        mut self,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        self.0.source = Some(source.into());
        self
    }

    /// Names the file that is read; the innermost name wins.
    pub(crate) fn in_file(mut self, file: &Path) -> Self {
        self.0.file.get_or_insert_with(|| file.to_owned());
        self
    }

    /// Names the option that could allow what is refused, as the command calls it.
    pub(crate) fn allowed_by(mut self, option: &'static str) -> Self {
        self.0.option.get_or_insert(option);
        self
    }

    /// Names the layer of an image, the lowest is 0.
    pub(crate) fn in_layer(mut self, number: usize) -> Self {
        self.0.layer.get_or_insert(number);
        self
    }

    /// Names the entry; the innermost name wins.
    pub(crate) fn at_path(mut self, path: &[u8]) -> Self {
        self.0.path.get_or_insert_with(|| path.to_vec());
        self
    }

    /// Names the offset in the uncompressed layer; the innermost offset wins.
    pub(crate) fn at_offset(mut self, offset: u64) -> Self {
        self.0.offset.get_or_insert(offset);
        self
    }

    /// The kind of failure.
    #[must_use]
    pub fn kind(&self) -> ErrorKind {
        self.0.kind
    }

    /// The file that was to be read, where the call was given its path.
    #[must_use]
    pub fn file(&self) -> Option<&Path> {
        self.0.file.as_deref()
    }

    /// The option that could allow what was refused, as the command calls it: `max-size`,
    /// `max-entries`, `max-window`, `size` or `inodes`. None if there is no such option.
    #[must_use]
    pub fn option(&self) -> Option<&'static str> {
        self.0.option
    }

    /// The layer concerned of an image, the lowest is 0.
    #[must_use]
    pub fn layer(&self) -> Option<usize> {
        self.0.layer
    }

    /// The path of the tar entry concerned, as the tar spells it.
    #[must_use]
    pub fn path(&self) -> Option<&[u8]> {
        self.0.path.as_deref()
    }

    /// The byte offset concerned: of the entry's header in the uncompressed layer, or, when
    /// the compressed stream or a disk is damaged, there.
    #[must_use]
    pub fn offset(&self) -> Option<u64> {
        self.0.offset
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let inner = &*self.0;
        if let Some(file) = &inner.file {
            write!(f, "{}: ", display_file(file))?;
        }
        if let Some(layer) = inner.layer {
            write!(f, "layer {}: ", layer + 1)?;
        }
        if let Some(path) = &inner.path {
            write!(f, "{}: ", display_path(path))?;
        }
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
        self.0.source.as_deref().map(|source| source as _)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn displays_on_one_line_with_path_and_offset() {
        let error = Error::entry("name is empty")
            .at_path(b"a\nb\xff")
            .at_offset(512);
        assert_eq!(error.to_string(), r"a\nb\xff: name is empty (at byte 512)");
        let outer = error.at_path(b"other").at_offset(0);
        assert_eq!(outer.path(), Some(&b"a\nb\xff"[..]));
        assert_eq!(outer.offset(), Some(512));
    }

    #[test]
    fn each_thing_is_told_once() {
        let source = io::Error::other("no power");
        let error = Error::input(source).in_file(Path::new("a")).at_offset(7);
        let error = error.in_file(Path::new("b")).allowed_by("x");
        assert_eq!(error.to_string(), "a: cannot read the input (at byte 7)");
        assert_eq!(
            format!("{error:#}"),
            "a: cannot read the input: no power (at byte 7)"
        );
        assert_eq!(error.file(), Some(Path::new("a")));
        assert_eq!(error.option(), Some("x"));
        let source = std::error::Error::source(&error).unwrap();
        assert_eq!(source.to_string(), "no power");
        // A caller that walks the chain, or wraps the error, also reports each fact once.
        let wrapped = Error::input(io::Error::other(error));
        let text = format!("{wrapped:#}");
        assert_eq!(text.matches("no power").count(), 1, "{text}");
    }

    #[test]
    fn a_full_device_has_its_own_kind() {
        let full = io::Error::from(io::ErrorKind::StorageFull);
        assert_eq!(Error::output("x", full).kind(), ErrorKind::StorageFull);
        let other = io::Error::from(io::ErrorKind::PermissionDenied);
        assert_eq!(Error::output("x", other).kind(), ErrorKind::Output);
    }
}
