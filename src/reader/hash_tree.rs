//! Hash trees of directories.
//!
//! Source: Linux, Documentation/filesystems/ext4, "Hash Tree Directories".

use zerocopy::FromBytes;

use super::checksum::with_hole;
use crate::ext4::checksum::crc32c;
use crate::ext4::format::{
    DX_ENTRY_SIZE, DX_NODE_OFFSET, DX_ROOT_OFFSET, DxEntry, DxRootInfo, HASH_HALF_MD4,
};

/// The most levels between the root and the leaves.
const LEVELS_MAX: u8 = 2;
/// The bits of an entry that number a block.
const BLOCK_MASK: u32 = 0x0FFF_FFFF;

/// A node of a tree.
pub(super) struct Node<'a> {
    bytes: &'a [u8],
    /// Where its entries start.
    start: usize,
    count: usize,
}

/// The number of levels below the root, if names are hashed as is known here.
pub(super) fn levels(root: &[u8]) -> Option<u8> {
    let info = root.get(DX_ROOT_OFFSET - size_of::<DxRootInfo>()..)?;
    let (info, _) = DxRootInfo::ref_from_prefix(info).ok()?;
    let is_known = info.reserved_zero.get() == 0
        && info.hash_version == HASH_HALF_MD4
        && usize::from(info.info_length) == size_of::<DxRootInfo>()
        && info.indirect_levels <= LEVELS_MAX;
    is_known.then_some(info.indirect_levels)
}

impl<'a> Node<'a> {
    /// The node in a block of a directory; `None` if it is none.
    pub(super) fn new(logical: u64, bytes: &'a [u8]) -> Option<Self> {
        let start = match logical {
            0 => DX_ROOT_OFFSET,
            _ => DX_NODE_OFFSET,
        };
        // In the place of the first hash stand the limit of entries and their count.
        let count = bytes.get(start + 2..).and_then(<[u8]>::first_chunk)?;
        let count = usize::from(u16::from_le_bytes(*count));
        let entries = bytes.get(start..)?.len() / DX_ENTRY_SIZE;
        (1..=entries).contains(&count).then_some(Self {
            bytes,
            start,
            count,
        })
    }

    /// The blocks that may hold names of a hash: more than one, if a block ended among them.
    pub(super) fn children(&self, hash: u32) -> impl DoubleEndedIterator<Item = u64> {
        let entries: Vec<_> = self.bytes[self.start..]
            .chunks_exact(DX_ENTRY_SIZE)
            .take(self.count)
            .filter_map(|bytes| DxEntry::read_from_bytes(bytes).ok())
            .collect();
        let mut children = Vec::new();
        for (i, entry) in entries.iter().enumerate() {
            // The lowest bit says that names of this very hash stand before it, too.
            let starts = if i == 0 { 0 } else { entry.hash.get() & !1 };
            let next = entries.get(i + 1).map(|next| next.hash.get());
            if starts <= hash && next.is_none_or(|next| next > hash) {
                children.push(u64::from(entry.block.get() & BLOCK_MASK));
            }
        }
        children.into_iter()
    }
}

/// Whether a node has its checksum, which stands behind the last entry that there is room for.
pub(super) fn checksum_holds(seed: u32, logical: u64, bytes: &[u8]) -> bool {
    const TAIL: usize = 8;
    let Some(node) = Node::new(logical, bytes) else {
        return false;
    };
    let limit = usize::from(u16::from_le_bytes([
        bytes[node.start],
        bytes[node.start + 1],
    ]));
    let end = node.start + limit * DX_ENTRY_SIZE;
    let Some(tail) = bytes.get(end..end + TAIL).filter(|_| node.count <= limit) else {
        return false;
    };
    let used = crc32c(seed, &bytes[..node.start + node.count * DX_ENTRY_SIZE]);
    const FIELD: usize = TAIL - 4;
    let stored = u32::from_le_bytes([tail[4], tail[5], tail[6], tail[7]]);
    with_hole(used, tail, FIELD..TAIL) == stored
}
