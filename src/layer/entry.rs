//! What an entry of a layer is, once its headers are read.

use crate::chunk::Chunk;
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
    /// Full names, each once, and raw values.
    pub(crate) xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    /// A POSIX.1e access ACL as text.
    pub(crate) acl_access: Option<Vec<u8>>,
    /// A POSIX.1e default ACL as text.
    pub(crate) acl_default: Option<Vec<u8>>,
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
    /// So many bytes that the tar does not hold, because they are zero.
    Hole(u64),
}
