//! Errors about a file system that is damaged.

use crate::error::{Error, ErrorKind};

/// The file system contradicts itself.
pub(super) fn damaged(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::InvalidDisk, message)
}

/// An inode, or something that belongs to it, is damaged.
pub(super) fn damaged_inode(ino: u32, message: impl AsRef<str>) -> Error {
    damaged(format!("inode {ino}: {}", message.as_ref()))
}
