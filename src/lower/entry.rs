//! Questions to the layers below, and their answers.

use std::io;

/// Owner, mode, times and extended attributes of what a lower layer has.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct LowerMetadata {
    /// The 12 permission bits.
    pub mode: u16,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Modification time: seconds since 1970 and nanoseconds.
    pub mtime: (i64, u32),
    /// Extended attributes as (full name, value), ACLs in the form of the system call.
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

impl LowerMetadata {
    /// Permission bits and owner; the time is 0, and there are no attributes.
    #[must_use]
    pub fn new(mode: u16, uid: u32, gid: u32) -> Self {
        Self {
            mode,
            uid,
            gid,
            ..Self::default()
        }
    }

    /// With a modification time: seconds since 1970 and nanoseconds.
    #[must_use]
    pub fn mtime(mut self, seconds: i64, nanos: u32) -> Self {
        self.mtime = (seconds, nanos);
        self
    }

    /// With one more extended attribute: its full name and its value, an ACL in the form of
    /// the system call.
    #[must_use]
    pub fn xattr(mut self, name: impl Into<Vec<u8>>, value: impl Into<Vec<u8>>) -> Self {
        self.xattrs.push((name.into(), value.into()));
        self
    }
}

/// The kind of inode at a path in the layers below.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum LowerKind {
    /// A directory: a missing parent takes its metadata.
    Directory,
    /// A regular file of a size in bytes.
    File(u64),
    /// A symbolic link and its target: entries below the path go where it leads.
    Symlink(Vec<u8>),
    /// A character device.
    CharDevice {
        /// Its major number.
        major: u32,
        /// Its minor number.
        minor: u32,
    },
    /// A block device.
    BlockDevice {
        /// Its major number.
        major: u32,
        /// Its minor number.
        minor: u32,
    },
    /// A FIFO.
    Fifo,
    /// Anything else: no entry can stand below it, and no hard link lead to it.
    Other,
}

/// The inode at a path in the layers below.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LowerEntry {
    /// Its kind.
    pub kind: LowerKind,
    /// Owner, mode, times and extended attributes.
    pub metadata: LowerMetadata,
    /// A number that all names of one inode have, and no name of another.
    pub id: Option<u64>,
}

impl LowerEntry {
    /// Something with metadata, of which it is not known what other names it has.
    #[must_use]
    pub fn new(kind: LowerKind, metadata: LowerMetadata) -> Self {
        Self {
            kind,
            metadata,
            id: None,
        }
    }

    /// With the number that all names of its inode have, and no name of another.
    #[must_use]
    pub fn with_id(mut self, id: u64) -> Self {
        self.id = Some(id);
        self
    }
}

/// A part of a file's contents.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum LowerPiece {
    /// Bytes.
    Data(Vec<u8>),
    /// As many zeros, which take no place.
    Hole(u64),
}

/// The parts of a file's contents in order, which together are as long as the file.
pub type LowerContents<'a> = Box<dyn Iterator<Item = io::Result<LowerPiece>> + 'a>;

/// Answers from the layers below: for parents that the layer does not describe, and for hard
/// links to files that the layer has not.
///
/// Without it such directories are made 0755, 0:0: merged by overlayfs, a `/tmp` of 1777
/// would turn 0755; and such links are errors.
pub trait LowerLayers: Send + Sync {
    /// Looks up `path` in the merged lower layers. It is relative to the root and has no `.`,
    /// `..`, doubled or outer slashes; symbolic links in it are not followed.
    ///
    /// # Errors
    /// Any error ends the conversion.
    fn lookup(&self, path: &[u8]) -> io::Result<Option<LowerEntry>>;

    /// The contents of the regular file at `path`, which a hard link leads to. By default
    /// there are none to be had.
    ///
    /// # Errors
    /// Any error ends the conversion, those of the parts too.
    fn contents(&self, path: &[u8]) -> io::Result<LowerContents<'_>> {
        let _ = path;
        Err(io::Error::new(
            io::ErrorKind::Unsupported,
            "this look-up does not give the contents of files",
        ))
    }
}
