//! Every size that contents and free space may come to.

use super::*;
use crate::ext4::area::{Area, BlockSink};
use crate::ext4::format::MAX_BLOCKS;
use crate::ext4::journal;

struct Nowhere;

impl BlockSink for Nowhere {
    fn write(&mut self, _: u64, _: &[u8]) -> Result<()> {
        Ok(())
    }
}

/// Settles on a size for contents that take so many blocks, and lays it out: blocks that are
/// free, and the file system.
fn laid_out(space: FreeSpace, contents: u64, last_ino: u32, max: u64) -> (u64, Writable) {
    let (descriptors, gaps, _) = Capacity::Free(space).layout(max);
    let mut area = Area::new(Nowhere, 1 + descriptors, max);
    area.gaps = gaps;
    for _ in 0..contents {
        area.reserve(1).unwrap();
    }
    let settled = area.settle(&space, 0, last_ino).unwrap();
    let writable = settled.writable;
    assert!(settled.disk_size >= writable.blocks * BLOCK_SIZE as u64);
    if let Some(blocks) = writable.journal {
        journal::write(&mut area, blocks, 0, [0; 16]).unwrap();
    }
    let geometry = writable.geometry(area.next, last_ino).unwrap();
    let skipped = area.skipped.iter().map(|(_, blocks)| u64::from(*blocks));
    let left = geometry.free.iter().map(|range| range.end - range.start);
    let free = skipped.sum::<u64>() + left.sum::<u64>();
    let copies = 1 + geometry.backups.len() as u64;
    let of_group = u64::from(2 + geometry.table_blocks());
    let used = u64::from(area.taken)
        + copies * (1 + u64::from(writable.descriptor_blocks()))
        + u64::from(geometry.groups) * of_group;
    assert_eq!(free + used, writable.blocks, "{space:?} {contents}");
    assert!(u64::from(geometry.groups * geometry.inodes_per_group) >= last_ino.into());
    (free, writable)
}

#[test]
fn all_that_is_needed_has_its_place() {
    let group = u64::from(BITS_PER_BLOCK);
    let around = |at: u64| [at.saturating_sub(1), at, at + 1];
    let contents = [0, 1, 5_000, group - 18, group, 2 * group, 3 * group - 30];
    let free = [0, 63, 64, 1_000, group - 3_000, 2 * group];
    for contents in contents.into_iter().flat_map(around) {
        for blocks in free.into_iter().flat_map(around) {
            for (journal, align) in [(false, 0), (true, 0), (true, 1 << 8)] {
                let space = FreeSpace {
                    blocks,
                    inodes: 0,
                    journal,
                    align,
                };
                let (found, _) = laid_out(space, contents, 20, 1 << 20);
                assert!(found >= blocks, "{space:?} {contents}: {found}");
                // Blocks that tables and copies skip, and rounding.
                assert!(found <= blocks + 2_400, "{space:?} {contents}: {found}");
            }
        }
    }
}

#[test]
fn groups_come_until_there_are_inodes_enough() {
    for (inodes, last_ino) in [(0, 100_000), (100_000, 20), (1_000_000, 100_000)] {
        let space = FreeSpace {
            blocks: 10,
            inodes,
            journal: false,
            align: 0,
        };
        let (_, writable) = laid_out(space, 10, last_ino, 1 << 20);
        let wanted = inodes.max(last_ino.into());
        let groups = writable.blocks.div_ceil(BITS_PER_BLOCK.into());
        assert_eq!(groups, wanted.div_ceil(BITS_PER_BLOCK.into()), "{inodes}");
    }
}

#[test]
fn the_largest_reserves_and_gives_back() {
    let space = FreeSpace {
        blocks: 1_000,
        inodes: 0,
        journal: true,
        align: 0,
    };
    let (free, writable) = laid_out(space, u64::from(BITS_PER_BLOCK), 20, MAX_BLOCKS);
    // Nearly two groups of inode tables and copies are what is beside.
    assert!(writable.blocks < 3 * u64::from(BITS_PER_BLOCK));
    assert!((1_000..6_000).contains(&free), "{free}");
}
