//! How large a file system to be written to is: of a size that is given, or as large as its
//! contents need with room to spare.

use std::ops::Range;

use super::format::{BITS_PER_BLOCK, BLOCK_SIZE, WIDE_DESCRIPTOR_SIZE};
use super::writable::{LAST_GROUP_MIN, SIZE_MIN, Writable, inode_ratio};
use crate::error::{Error, Result};

/// The wishes that decide the size.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Capacity {
    /// It is known before the contents.
    Fixed(Writable),
    /// It follows from the contents.
    Free(FreeSpace),
}

/// Room wanted besides the contents.
#[derive(Clone, Copy, Debug)]
pub(crate) struct FreeSpace {
    /// Free blocks, those that are kept for root among them.
    pub blocks: u64,
    /// The least number of inodes, used ones among them; 0 for one more for each share of the
    /// free space that mke2fs would give one.
    pub inodes: u64,
    pub journal: bool,
    /// The disk is a multiple of this many blocks.
    pub align: u64,
}

/// Blocks of 512 MiB, from where on mke2fs makes one inode where it made four before.
const FEWER_INODES: u64 = (512 << 20) / BLOCK_SIZE as u64;

/// Room taken by the contents.
pub(super) struct Placed {
    /// The block that the next of them would get.
    pub next: u64,
    /// The number of blocks they use.
    pub used: u64,
    pub max_blocks: u64,
}

/// The chosen size.
pub(super) struct Settled {
    /// Runs that were reserved for a larger file system and are free.
    pub free: Vec<(u32, u32)>,
    pub writable: Writable,
    /// Bytes of the disk.
    pub disk_size: u64,
}

/// The part at the front and the copies that a file system of up to `max_blocks` may need: the
/// contents are placed before it is known how much of it is used.
fn reserved(max_blocks: u64) -> (u32, Option<Range<u64>>) {
    let per_group = u64::from(BITS_PER_BLOCK);
    let groups = max_blocks.div_ceil(per_group);
    let descriptors = (groups * WIDE_DESCRIPTOR_SIZE as u64).div_ceil(BLOCK_SIZE as u64);
    let copy = per_group..per_group + 1 + descriptors;
    // At most 2^17 groups, whose descriptors are 2^11 blocks.
    (descriptors as u32, (groups > 1).then_some(copy))
}

impl Capacity {
    /// Blocks of descriptors at the front, the places of the copies, and the option that bounds
    /// all of it.
    pub(super) fn layout(&self, max_blocks: u64) -> (u32, Vec<Range<u64>>, &'static str) {
        match self {
            Self::Fixed(writable) => (writable.descriptor_blocks(), writable.copies(), "size"),
            Self::Free(_) => {
                let (descriptors, copy) = reserved(max_blocks);
                (descriptors, copy.into_iter().collect(), "max-size")
            }
        }
    }
}

impl FreeSpace {
    /// A file system that has so much room and little more beside what was placed, and beside inodes
    /// up to `last_ino`.
    pub(super) fn settle(&self, placed: Placed, last_ino: u32) -> Result<Settled> {
        let Placed {
            next,
            used: placed,
            max_blocks,
        } = placed;
        let (reserved, copy) = reserved(max_blocks);
        let least = if self.journal { 8 << 20 } else { SIZE_MIN } / BLOCK_SIZE as u64;
        let mut blocks = (1 + placed + self.blocks).max(next).max(least);
        let writable = loop {
            let size = self.disk_size(blocks);
            if size / BLOCK_SIZE as u64 > max_blocks {
                return Err(Error::limit(format!(
                    "contents and free space take {size} bytes or more, and the maximum size is {}",
                    max_blocks * BLOCK_SIZE as u64
                ))
                .allowed_by("max-size"));
            }
            let inodes = self.inodes(size, last_ino);
            let mut writable = match Writable::new(size, inodes, self.journal, "") {
                Ok(writable) => writable,
                // Another group has room for more inodes.
                Err(_) => {
                    let group = u64::from(BITS_PER_BLOCK);
                    let copy = 1 + u64::from(reserved);
                    let mut more = blocks / group * group + copy + LAST_GROUP_MIN;
                    if more <= blocks {
                        more += group;
                    }
                    blocks = more;
                    continue;
                }
            };
            writable.leave_out_copy_before(next);
            let missing = self
                .blocks
                .saturating_sub(writable.free_beside(placed))
                .max(writable.used_end(next).saturating_sub(writable.blocks));
            if missing == 0 {
                break writable;
            }
            let more = blocks + missing;
            // Where inodes become fewer, less may do.
            blocks = match blocks < FEWER_INODES {
                true => more.min(FEWER_INODES),
                false => more,
            };
        };
        let used = writable.descriptor_blocks();
        let mut free = Vec::new();
        if used < reserved {
            free.push((1 + used, reserved - used));
        }
        if let Some(copy) = copy
            && copy.end <= next
        {
            let end = copy.start + 1 + u64::from(used);
            free.push((end as u32, (copy.end - end) as u32));
        }
        Ok(Settled {
            writable,
            disk_size: self.disk_size(writable.blocks),
            free,
        })
    }

    /// Bytes of a disk whose file system has `blocks` blocks.
    fn disk_size(&self, blocks: u64) -> u64 {
        blocks.next_multiple_of(self.align.max(1)) * BLOCK_SIZE as u64
    }

    /// The least number of inodes of a disk of that size.
    fn inodes(&self, size: u64, last_ino: u32) -> u64 {
        match self.inodes {
            0 => {
                let ratio = inode_ratio(size);
                let for_free = u64::from(last_ino) + self.blocks * BLOCK_SIZE as u64 / ratio;
                for_free.max(size / ratio)
            }
            inodes => inodes.max(last_ino.into()),
        }
    }
}

#[cfg(test)]
mod tests;
