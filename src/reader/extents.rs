//! Extent trees.
//!
//! Source: Linux, Documentation/filesystems/ext4, "Extent Tree".

use zerocopy::FromBytes;

use super::blocks::Blocks;
use super::damage::damaged_inode;
use super::inode::Inode;
use super::leaf::{Leaf, Mapped};
use crate::error::{Error, Result};
use crate::ext4::checksum::crc32c;
use crate::ext4::format::{
    EXTENT_ENTRY_SIZE, EXTENT_MAGIC, EXTENT_MAX_LEN, ExtentHeader, ExtentIndex, ExtentLeaf,
};

/// The deepest tree that the kernel makes (EXT4_MAX_EXTENT_DEPTH).
const MAX_DEPTH: u16 = 5;
/// The number of blocks that a file can have.
const MAX_BLOCKS: u64 = 1 << 32;

/// A node on the way to a leaf.
struct Node<'a> {
    inode: &'a Inode,
    /// Where it is on the disk; `None` for the root, in the inode.
    place: Option<u64>,
    range: std::ops::Range<u64>,
}

/// The leaf that has a logical block. `read` reads a node by its block and the logical block it
/// starts with.
pub(super) fn leaf(
    blocks: &Blocks,
    inode: &Inode,
    logical: u64,
    read: &mut impl FnMut(u64, u64) -> Result<Vec<u8>>,
) -> Result<Leaf> {
    let mut node = Node {
        inode,
        place: None,
        range: 0..MAX_BLOCKS,
    };
    let mut bytes = inode.i_block().to_vec();
    let mut depth = None;
    if logical >= MAX_BLOCKS {
        return Err(node.wrong("it has more blocks than a file can have"));
    }
    // The depth falls with each node.
    loop {
        let (found, entries) = node.entries(&bytes, depth)?;
        depth = Some(found);
        if found == 0 {
            return node.leaf(entries, blocks);
        }
        let Some(child) = node.child(entries, logical)? else {
            return Ok(Leaf {
                range: node.range,
                mapped: Vec::new(),
            });
        };
        bytes = read(child, node.range.start)?;
        node.place = Some(blocks.offset(child));
    }
}

impl Node<'_> {
    fn wrong(&self, what: &str) -> Error {
        let error = damaged_inode(self.inode.number(), what);
        match self.place {
            None => error,
            Some(offset) => error.at_offset(offset),
        }
    }

    /// The depth and the entries of a node whose parent is of depth `above`.
    fn entries<'b>(
        &self,
        bytes: &'b [u8],
        above: Option<u16>,
    ) -> Result<(u16, impl Iterator<Item = &'b [u8]> + use<'b>)> {
        let short = || self.wrong("a node of its extent tree is cut short");
        let (header, entries) = ExtentHeader::ref_from_prefix(bytes).map_err(|_| short())?;
        if header.eh_magic.get() != EXTENT_MAGIC {
            return Err(self.wrong("a node of its extent tree starts without its magic"));
        }
        let depth = header.eh_depth.get();
        let is_right = match above {
            None => depth <= MAX_DEPTH,
            Some(above) => depth.checked_add(1) == Some(above),
        };
        if !is_right {
            return Err(self.wrong("a node of its extent tree is of a wrong depth"));
        }
        let (count, most) = (
            usize::from(header.eh_entries.get()),
            usize::from(header.eh_max.get()),
        );
        if count > most || most > entries.len() / EXTENT_ENTRY_SIZE {
            return Err(self.wrong("a node of its extent tree has too many entries"));
        }
        if let (Some(seed), Some(_)) = (self.inode.seed(), self.place) {
            // After the last entry that there is room for.
            let end = EXTENT_ENTRY_SIZE * (most + 1);
            let stored = bytes.get(end..).and_then(<[u8]>::first_chunk);
            let stored = stored.ok_or_else(short)?;
            if u32::from_le_bytes(*stored) != crc32c(seed, &bytes[..end]) {
                return Err(self.wrong("the checksum of a node of its extent tree is wrong"));
            }
        }
        Ok((depth, entries.chunks_exact(EXTENT_ENTRY_SIZE).take(count)))
    }

    /// The block of the child that has a logical block; then the range is the child's, else that
    /// of the gap.
    fn child<'b>(
        &mut self,
        entries: impl Iterator<Item = &'b [u8]>,
        logical: u64,
    ) -> Result<Option<u64>> {
        let mut child = None;
        let mut before = None;
        let end = self.range.end;
        for index in entries.filter_map(|bytes| ExtentIndex::ref_from_bytes(bytes).ok()) {
            let start = u64::from(index.ei_block.get());
            if before.is_some_and(|before| start <= before) || !self.range.contains(&start) {
                return Err(self.wrong("the indexes of its extent tree are out of order"));
            }
            before = Some(start);
            if start > logical {
                self.range.end = start;
                break;
            }
            self.range = start..end;
            child =
                Some(u64::from(index.ei_leaf_hi.get()) << 32 | u64::from(index.ei_leaf_lo.get()));
        }
        Ok(child)
    }

    fn leaf<'b>(self, entries: impl Iterator<Item = &'b [u8]>, blocks: &Blocks) -> Result<Leaf> {
        let mut mapped = Vec::new();
        let mut from = self.range.start;
        for extent in entries.filter_map(|bytes| ExtentLeaf::ref_from_bytes(bytes).ok()) {
            let logical = u64::from(extent.ee_block.get());
            let len = u32::from(extent.ee_len.get());
            // A longer one is allocated but not written: it reads as zeros.
            let is_written = len <= EXTENT_MAX_LEN;
            let len = u64::from(if is_written {
                len
            } else {
                len - EXTENT_MAX_LEN
            });
            let end = logical + len;
            if len == 0 || logical < from || end > self.range.end {
                return Err(self.wrong("the extents of its extent tree are out of order"));
            }
            from = end;
            let physical =
                u64::from(extent.ee_start_hi.get()) << 32 | u64::from(extent.ee_start_lo.get());
            if !blocks.contains(physical, len) {
                return Err(self.wrong(&format!(
                    "its {len} blocks at {physical} are out of the file system"
                )));
            }
            if is_written {
                mapped.push(Mapped {
                    logical,
                    len,
                    physical,
                });
            }
        }
        Ok(Leaf {
            range: self.range,
            mapped,
        })
    }
}
