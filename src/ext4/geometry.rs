//! The number and size of block groups, and the places of their bitmaps and tables: decided
//! last, when the contents are known.

use std::ops::Range;

use super::format::{
    BITS_PER_BLOCK, BLOCK_SIZE, DESCRIPTOR_SIZE, INODE_SIZE, INODES_PER_BLOCK, MAX_BLOCKS,
};
use crate::error::{Error, Result};

/// Descriptors in a block.
const DESCRIPTORS_PER_BLOCK: u64 = (BLOCK_SIZE / DESCRIPTOR_SIZE) as u64;

/// Blocks of group descriptors reserved for a file system of at most `max_blocks`.
pub(crate) fn reserved_descriptor_blocks(max_blocks: u64) -> u32 {
    let groups = max_blocks.div_ceil(BITS_PER_BLOCK.into());
    groups.div_ceil(DESCRIPTORS_PER_BLOCK).max(1) as u32
}

fn too_large(blocks: u64) -> Error {
    let bytes = blocks * BLOCK_SIZE as u64;
    Error::limit(format!(
        "the file system needs {bytes} bytes, more than the maximum size allows"
    ))
    .allowed_by("max-size")
}

/// Runs of blocks of one length, one for each group in their order, which are adjacent but
/// where they step over something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Row {
    /// The groups from which on the runs are adjacent, with the first one's block.
    pieces: Vec<(u32, u64)>,
    /// From a run to the next.
    stride: u32,
}

impl Row {
    /// Runs without a step.
    pub(crate) fn adjacent(start: u64, stride: u32) -> Self {
        Self {
            pieces: vec![(0, start)],
            stride,
        }
    }

    /// Runs that start anew at the groups named; the first is group 0.
    pub(crate) fn new(pieces: Vec<(u32, u64)>, stride: u32) -> Self {
        Self { pieces, stride }
    }

    /// The first block of a group's run.
    pub(crate) fn of(&self, group: u32) -> u64 {
        let after = self.pieces.partition_point(|(first, _)| *first <= group);
        let (first, start) = after
            .checked_sub(1)
            .and_then(|piece| self.pieces.get(piece))
            .copied()
            .unwrap_or_default();
        start + u64::from(group - first) * u64::from(self.stride)
    }
}

/// The sizes that everything after the contents follows from, and the places.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Geometry {
    pub blocks: u64,
    pub groups: u32,
    pub blocks_per_group: u32,
    pub inodes_per_group: u32,
    /// Bytes of a group descriptor.
    pub descriptor_size: usize,
    pub block_bitmaps: Row,
    pub inode_bitmaps: Row,
    pub inode_tables: Row,
    /// The groups beside the first that start with a copy of superblock and descriptors.
    pub backups: Vec<u32>,
    /// Whether groups that nothing uses say so, and have no bitmaps.
    pub uninit: bool,
    /// Free runs besides those that the contents leave, in ascending order.
    pub free: Vec<Range<u64>>,
    /// The block after the last that is in use, backups not counted.
    pub used_end: u64,
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
                return Err(too_large(blocks));
            }
            if groups > reserved * DESCRIPTORS_PER_BLOCK {
                return Err(Error::limit(format!(
                    "the file system needs {groups} block groups for {last_ino} inodes; the \
                     maximum size reserves descriptors for {}",
                    reserved * DESCRIPTORS_PER_BLOCK
                ))
                .allowed_by("max-size"));
            }
            return Ok(Self {
                blocks,
                groups: groups as u32,
                blocks_per_group: blocks_per_group as u32,
                inodes_per_group: inodes_per_group as u32,
                descriptor_size: DESCRIPTOR_SIZE,
                block_bitmaps: Row::adjacent(bitmaps, 2),
                inode_bitmaps: Row::adjacent(bitmaps + 1, 2),
                inode_tables: Row::adjacent(inode_tables, table as u32),
                backups: Vec::new(),
                uninit: false,
                free: vec![
                    1 + groups.div_ceil(DESCRIPTORS_PER_BLOCK)..1 + reserved,
                    used..blocks,
                ],
                used_end: used,
            });
        }
    }

    /// hcsshim's geometry: groups of 32,768 blocks.
    pub(crate) fn hcsshim(end: u32, last_ino: u32, max_blocks: u64) -> Result<Self> {
        let (groups, inodes_per_group) = fewest_groups(end, last_ino)?;
        let (count, table) = (u64::from(groups), inodes_per_group / INODES_PER_BLOCK);
        let inode_tables = u64::from(end);
        let bitmaps = inode_tables + count * u64::from(table);
        let used = bitmaps + 2 * count;
        let blocks = used.max((count - 1) * u64::from(BITS_PER_BLOCK) + 1);
        if blocks > max_blocks.min(MAX_BLOCKS) {
            return Err(too_large(blocks));
        }
        let reserved = u64::from(reserved_descriptor_blocks(max_blocks));
        Ok(Self {
            blocks,
            groups,
            blocks_per_group: BITS_PER_BLOCK,
            inodes_per_group,
            descriptor_size: DESCRIPTOR_SIZE,
            block_bitmaps: Row::adjacent(bitmaps, 2),
            inode_bitmaps: Row::adjacent(bitmaps + 1, 2),
            inode_tables: Row::adjacent(inode_tables, table),
            backups: Vec::new(),
            uninit: false,
            free: vec![
                1 + count.div_ceil(DESCRIPTORS_PER_BLOCK)..1 + reserved,
                used..blocks,
            ],
            used_end: used,
        })
    }

    /// Blocks that the descriptors of all groups take.
    pub(crate) fn descriptor_blocks(&self) -> u64 {
        (u64::from(self.groups) * self.descriptor_size as u64).div_ceil(BLOCK_SIZE as u64)
    }

    /// The first block of a group.
    pub(crate) fn start(&self, group: u32) -> u64 {
        u64::from(group) * u64::from(self.blocks_per_group)
    }

    /// Blocks at the start of a group that superblock and descriptors, or their copies, take.
    pub(crate) fn base(&self, group: u32) -> u64 {
        match group == 0 || self.backups.contains(&group) {
            true => 1 + self.descriptor_blocks(),
            false => 0,
        }
    }

    /// Blocks of one group's inode table.
    pub(crate) fn table_blocks(&self) -> u32 {
        self.inodes_per_group / INODES_PER_BLOCK
    }
}

/// The number of groups, and of inodes in each, that hold these blocks and inodes as hcsshim
/// divides them: as few groups as possible, then as few inodes in each.
fn fewest_groups(blocks: u32, last_ino: u32) -> Result<(u32, u32)> {
    let count = |inodes_per_group: u32| {
        let room = BITS_PER_BLOCK - inodes_per_group / INODES_PER_BLOCK - 2;
        // hcsshim's numbers have 32 bits and wrap around.
        let least = ((last_ino - 1) / inodes_per_group)
            .wrapping_mul(room)
            .wrapping_add(1);
        blocks.max(least).wrapping_add(room - 1) / room
    };
    let sizes = (INODES_PER_BLOCK..=BITS_PER_BLOCK).step_by(INODES_PER_BLOCK as usize);
    let best = sizes
        .min_by_key(|size| count(*size))
        .unwrap_or(INODES_PER_BLOCK);
    let groups = count(best);
    let inodes = u64::from(groups) * u64::from(best);
    if inodes < last_ino.into() || inodes * INODE_SIZE as u64 > u32::MAX.into() {
        return Err(Error::limit(format!(
            "{last_ino} inodes, of which hcsshim makes a damaged file system"
        )));
    }
    Ok((groups, best))
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
            assert_eq!(
                g.blocks.div_ceil(g.blocks_per_group.into()),
                u64::from(g.groups),
                "{what}"
            );
            assert!(g.table_blocks() + 4 <= g.blocks_per_group, "{what}");
            assert!(g.blocks >= g.used_end, "{what}");
        }
    }

    #[test]
    fn many_inodes_take_small_groups() {
        let g = Geometry::new(400, 70_010, MAX).unwrap();
        assert_eq!(g.groups, 3);
        assert!(g.blocks * 4096 < 20_000_000, "{g:?}");
    }

    #[test]
    fn limits_are_errors() {
        assert!(Geometry::new(1000, 11, 1000).is_err());
        // One block of descriptors is 128 groups.
        assert!(Geometry::new(300_000, 129 * BITS_PER_BLOCK, 1 << 22).is_err());
        assert_eq!(reserved_descriptor_blocks(1 << 25), 8);
    }

    #[test]
    fn groups_are_as_few_as_can_be() {
        assert_eq!(fewest_groups(10, 11).unwrap(), (1, 16));
        assert_eq!(fewest_groups(10, 17).unwrap(), (1, 32));
        // 32,768 blocks hold no more than 30,718 and 32,768 inodes with their tables.
        assert_eq!(fewest_groups(30_718, 32_768).unwrap(), (1, 32_768));
        assert_eq!(fewest_groups(30_719, 32_768).unwrap().0, 2);
        // Where hcsshim's numbers wrap around there may be too few inodes: that is no image.
        for last_ino in [1_000_000, 2_000_000, 3_000_000, 50_000_000] {
            if let Ok((groups, inodes)) = fewest_groups(1000, last_ino) {
                assert!(groups * inodes >= last_ino);
            }
        }
        assert!(fewest_groups(1000, 50_000_000).is_err());
    }
}
