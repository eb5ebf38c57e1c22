//! Entries of a tar, as the conversion sees them.

use crate::buffer::chunk::Chunk;
use crate::error::Result;

/// Where uncompressed chunks come from: a decoder, or a queue from another thread.
pub(crate) trait ChunkSource {
    /// The next chunk; none, for good, at the verified end.
    fn next_chunk(&mut self) -> Result<Option<Chunk>>;
}

/// One entry of the tar, its extension headers applied.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Entry {
    /// Of its first header, extension headers included, in the uncompressed layer.
    pub(crate) offset: u64,
    /// As the tar spells it; neither empty nor with a NUL.
    pub(crate) path: Vec<u8>,
    pub(crate) kind: EntryKind,
    /// The 12 permission bits.
    pub(crate) mode: u16,
    /// Never all ones: to the kernel that means no user.
    pub(crate) uid: u32,
    /// Never all ones.
    pub(crate) gid: u32,
    pub(crate) mtime: Time,
    pub(crate) atime: Option<Time>,
    pub(crate) ctime: Option<Time>,
    /// When the file was made.
    pub(crate) created: Option<Time>,
    /// Full names, each once, and raw values.
    pub(crate) xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    /// A POSIX.1e access ACL as text.
    pub(crate) acl_access: Option<Vec<u8>>,
    /// A POSIX.1e default ACL as text.
    pub(crate) acl_default: Option<Vec<u8>>,
    /// Read as Go does: what is wrong about it then.
    pub(crate) wrong: Vec<String>,
    /// Read as Go does: what is wrong about its inode then, if it makes one.
    pub(crate) wrong_inode: Vec<String>,
    /// Read as Go does: extended attributes that were passed over.
    pub(crate) ignored: Vec<Vec<u8>>,
}

/// The reader whose understanding of a tar is followed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Reading {
    /// The tar's own meaning, including extensions of every known writer.
    #[default]
    Full,
    /// The meaning that Go's archive/tar gives it, on which hcsshim relies.
    Go,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum EntryKind {
    /// Its contents follow in pieces that add up to `size`.
    File {
        size: u64,
    },
    Directory,
    Symlink(Vec<u8>),
    HardLink(Vec<u8>),
    CharDevice {
        major: u32,
        minor: u32,
    },
    BlockDevice {
        major: u32,
        minor: u32,
    },
    Fifo,
}

impl Default for EntryKind {
    fn default() -> Self {
        Self::File { size: 0 }
    }
}

/// A moment: seconds since 1970, rounded down, and nanoseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Time {
    pub(crate) seconds: i64,
    pub(crate) nanos: u32,
}

/// A stretch of a file's contents.
#[derive(Clone, Debug)]
pub(crate) enum Piece {
    Data(Chunk),
    /// Zero bytes that the tar leaves out.
    Hole(u64),
}

impl Entry {
    /// Empties it for the next entry, keeping its memory.
    pub(super) fn clear(&mut self) {
        self.path.clear();
        self.xattrs.clear();
        (self.atime, self.ctime, self.created) = (None, None, None);
        (self.acl_access, self.acl_default) = (None, None);
        self.wrong.clear();
        self.wrong_inode.clear();
        self.ignored.clear();
    }
}
