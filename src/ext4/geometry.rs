//! How many block groups, and of what size: decided last, when the contents are known.

use super::format::{BITS_PER_BLOCK, BLOCK_SIZE, DESCRIPTOR_SIZE, INODES_PER_BLOCK, MAX_BLOCKS};
use crate::error::{Error, Result};

/// Descriptors in a block.
const DESCRIPTORS_PER_BLOCK: u64 = (BLOCK_SIZE / DESCRIPTOR_SIZE) as u64;

/// Blocks of group descriptors reserved for a file system of at most `max_blocks`.
pub(crate) fn reserved_descriptor_blocks(max_blocks: u64) -> u32 {
    let groups = max_blocks.div_ceil(BITS_PER_BLOCK.into());
    groups.div_ceil(DESCRIPTORS_PER_BLOCK).max(1) as u32
}

/// The sizes that everything after the contents follows from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Geometry {
    pub blocks: u32,
    pub groups: u32,
    pub blocks_per_group: u32,
    pub inodes_per_group: u32,
    /// The first block of the inode tables, which are adjacent, in order of their groups.
    pub inode_tables: u32,
    /// The first block of the bitmaps: each group's block bitmap, then its inode bitmap.
    pub bitmaps: u32,
}

impl Geometry {
    /// The smallest geometry whose contents end before `end` and whose inodes are numbered
    /// up to `last_ino`.
    pub(crate) fn new(end: u32, last_ino: u32, max_blocks: u64) -> Result<Self> {
        let reserved = u64::from(reserved_descriptor_blocks(max_blocks));
        let mut groups = u64::from(last_ino.div_ceil(BITS_PER_BLOCK));
        loop {
            let inodes_per_group = u64::from(last_ino)
                .div_ceil(groups)
                .next_multiple_of(INODES_PER_BLOCK.into());
            let table = inodes_per_group / u64::from(INODES_PER_BLOCK);
            let inode_tables = u64::from(end);
            let bitmaps = inode_tables + groups * table;
            let used = bitmaps + 2 * groups;
            // A group must be larger than its share of the inodes: e2fsck asks for four
            // blocks beside the table.
            let blocks_per_group = used.div_ceil(groups).max(table + 4).next_multiple_of(8);
            if blocks_per_group > u64::from(BITS_PER_BLOCK) {
                groups = groups.max(used.div_ceil(BITS_PER_BLOCK.into()) - 1) + 1;
                continue;
            }
            // Rounding may leave the last groups without blocks: free ones follow then.
            let blocks = used.max((groups - 1) * blocks_per_group + 1);
            if blocks > max_blocks.min(MAX_BLOCKS) {
                return Err(Error::limit(format!(
                    "the file system needs {blocks} blocks of 4 KiB, more than the {max_blocks} \
                     that the maximum size allows"
                )));
            }
            if groups > reserved * DESCRIPTORS_PER_BLOCK {
                return Err(Error::limit(format!(
                    "the file system needs {groups} block groups for {last_ino} inodes; the \
                     maximum size reserves descriptors for {}",
                    reserved * DESCRIPTORS_PER_BLOCK
                )));
            }
            return Ok(Self {
                blocks: blocks as u32,
                groups: groups as u32,
                blocks_per_group: blocks_per_group as u32,
                inodes_per_group: inodes_per_group as u32,
                inode_tables: inode_tables as u32,
                bitmaps: bitmaps as u32,
            });
        }
    }

    /// hcsshim's geometry: groups of 32,768 blocks.
    pub(crate) fn hcsshim(end: u32, last_ino: u32, max_blocks: u64) -> Result<Self> {
        let (groups, inodes_per_group) = super::hcsshim::groups(end, last_ino)?;
        let table = groups * (inodes_per_group / INODES_PER_BLOCK);
        let used = u64::from(end) + u64::from(table) + 2 * u64::from(groups);
        let blocks = used.max(u64::from(groups - 1) * u64::from(BITS_PER_BLOCK) + 1);
        if blocks > max_blocks.min(MAX_BLOCKS) {
            return Err(Error::limit(format!(
                "the file system needs {blocks} blocks of 4 KiB, more than the {max_blocks} \
                 that the maximum size allows"
            )));
        }
        Ok(Self {
            blocks: blocks as u32,
            groups,
            blocks_per_group: BITS_PER_BLOCK,
            inodes_per_group,
            inode_tables: end,
            bitmaps: end + table,
        })
    }

    /// The first block that nothing uses.
    pub(crate) fn used_end(&self) -> u32 {
        self.bitmaps + 2 * self.groups
    }

    /// Blocks that the descriptors of all groups take.
    pub(crate) fn descriptor_blocks(&self) -> u32 {
        u64::from(self.groups).div_ceil(DESCRIPTORS_PER_BLOCK) as u32
    }

    /// Blocks of one group's inode table.
    pub(crate) fn table_blocks(&self) -> u32 {
        self.inodes_per_group / INODES_PER_BLOCK
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAX: u64 = 1 << 25;

    #[test]
    fn follows_the_rules_at_every_size() {
        let ends = [
            10, 100, 32_700, 32_760, 32_767, 32_768, 65_530, 1_000_000, 30_000_000,
        ];
        let inodes = [10, 11, 16, 17, 32_768, 32_769, 70_000, 1_000_000];
        for (end, last) in ends
            .into_iter()
            .flat_map(|end| inodes.map(|ino| (end, ino)))
        {
            let g = Geometry::new(end, last, MAX).unwrap();
            let what = format!("{end} {last} {g:?}");
            assert!(g.inodes_per_group * g.groups >= last, "{what}");
            assert!(g.inodes_per_group <= BITS_PER_BLOCK, "{what}");
            assert!(g.blocks_per_group <= BITS_PER_BLOCK, "{what}");
            assert_eq!(g.blocks_per_group % 8, 0, "{what}");
            assert_eq!(g.blocks.div_ceil(g.blocks_per_group), g.groups, "{what}");
            assert!(g.table_blocks() + 4 <= g.blocks_per_group, "{what}");
            assert!(g.blocks >= g.used_end(), "{what}");
        }
    }

    #[test]
    fn many_inodes_take_small_groups() {
        let g = Geometry::new(400, 70_010, MAX).unwrap();
        assert_eq!(g.groups, 3);
        assert!(u64::from(g.blocks) * 4096 < 20_000_000, "{g:?}");
    }

    #[test]
    fn limits_are_errors() {
        assert!(Geometry::new(1000, 11, 1000).is_err());
        // One block of descriptors is 128 groups.
        assert!(Geometry::new(300_000, 129 * BITS_PER_BLOCK, 1 << 22).is_err());
        assert_eq!(reserved_descriptor_blocks(1 << 25), 8);
    }
}
