//! A file system to be written to: with free inodes and blocks, and copies of the superblock.

use std::ops::Range;

use super::format::{BITS_PER_BLOCK, BLOCK_SIZE, INODES_PER_BLOCK, WIDE_DESCRIPTOR_SIZE};
use super::geometry::{Geometry, Row};
use crate::error::{Error, ErrorKind, Result};

/// The sizes of such a file system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Writable {
    pub blocks: u64,
    groups: u32,
    inodes_per_group: u32,
    /// The groups that start with a copy of superblock and descriptors, 0 for none.
    backups: [u32; 2],
    /// Blocks of the journal, if there is one.
    pub(super) journal: Option<u32>,
    /// s_volume_name.
    pub(super) label: [u8; 16],
}

/// The largest disk that any of the formats holds.
pub(crate) const SIZE_MAX: u64 = 64 << 40;
/// The smallest that is worth making.
pub(crate) const SIZE_MIN: u64 = 1 << 20;

/// Bytes of the disk for each inode, as mke2fs has it for its types floppy, small, default, big
/// and huge.
pub(super) fn inode_ratio(size: u64) -> u64 {
    const MIB: u64 = 1 << 20;
    const TIB: u64 = 1 << 40;
    match size {
        _ if size < 3 * MIB => 8 << 10,
        _ if size < 512 * MIB => 4 << 10,
        _ if size <= 4 * TIB => 16 << 10,
        _ if size <= 16 * TIB => 32 << 10,
        _ => 64 << 10,
    }
}

impl Writable {
    /// The file system of a disk of `size` bytes with at least this many inodes, 0 for as many as
    /// mke2fs makes.
    pub(crate) fn new(size: u64, inodes: u64, journal: bool, label: &str) -> Result<Self> {
        let wrong = |message: String| Error::new(ErrorKind::InvalidOptions, message);
        if !(SIZE_MIN..=SIZE_MAX).contains(&size) {
            return Err(wrong(format!(
                "a size of {size} bytes; a writable file system has {SIZE_MIN} to {SIZE_MAX}"
            )));
        }
        if !size.is_multiple_of(BLOCK_SIZE as u64) {
            return Err(wrong(format!(
                "a size of {size} bytes, not a multiple of {BLOCK_SIZE}"
            )));
        }
        let mut s_volume_name = [0; 16];
        let too_long = || {
            let len = label.len();
            wrong(format!("a label of {len} bytes; a superblock holds 16"))
        };
        let place = s_volume_name.get_mut(..label.len()).ok_or_else(too_long)?;
        place.copy_from_slice(label.as_bytes());
        if label.contains('\0') {
            return Err(wrong("a label with a zero byte".into()));
        }
        let per_group = u64::from(BITS_PER_BLOCK);
        let mut blocks = size / BLOCK_SIZE as u64;
        let copy = |blocks: u64| {
            let bytes = blocks.div_ceil(per_group) * WIDE_DESCRIPTOR_SIZE as u64;
            1 + bytes.div_ceil(BLOCK_SIZE as u64)
        };
        // A last group with room for little more than a copy is left unused.
        let rest = blocks % per_group;
        if blocks > per_group && rest < copy(blocks) + LAST_GROUP_MIN {
            blocks -= rest;
        }
        let groups = blocks.div_ceil(per_group);
        let most = per_group.min(u64::from(u32::MAX) / groups / 16 * 16);
        let wanted = match inodes {
            0 => (size / inode_ratio(size)).min(most * groups),
            inodes => inodes,
        };
        let inodes_per_group = wanted
            .max(INODES_MIN)
            .div_ceil(groups)
            .next_multiple_of(INODES_PER_BLOCK.into());
        if inodes_per_group > most {
            return Err(wrong(format!(
                "{inodes} inodes; a disk of {size} bytes has {} at most",
                most * groups
            )));
        }
        let journal_blocks = journal_blocks(blocks);
        if journal && journal_blocks.is_none() {
            return Err(wrong(format!(
                "a size of {size} bytes; a file system with a journal has 8 MiB at least"
            )));
        }
        let last = groups as u32 - 1;
        Ok(Self {
            blocks,
            groups: groups as u32,
            inodes_per_group: inodes_per_group as u32,
            backups: match last {
                0 => [0, 0],
                1 => [1, 0],
                _ => [1, last],
            },
            journal: journal_blocks.filter(|_| journal),
            label: s_volume_name,
        })
    }

    /// s_backup_bgs: the groups that start with a copy of superblock and descriptors, 0 for
    /// none.
    pub(crate) fn backups(&self) -> [u32; 2] {
        self.backups
    }

    /// Blocks of the descriptors of all groups.
    pub(super) fn descriptor_blocks(&self) -> u32 {
        (self.groups as usize * WIDE_DESCRIPTOR_SIZE).div_ceil(BLOCK_SIZE) as u32
    }

    /// Where the copies lie: nothing else goes there.
    pub(super) fn copies(&self) -> Vec<Range<u64>> {
        let copy = |group: &u32| {
            let start = u64::from(*group) * u64::from(BITS_PER_BLOCK);
            start..start + 1 + u64::from(self.descriptor_blocks())
        };
        let groups = self.backups.iter().filter(|group| **group > 0);
        groups.map(copy).collect()
    }

    /// Blocks that are kept for root, 5 of 100 as mke2fs does.
    pub(super) fn reserved_blocks(&self) -> u64 {
        self.blocks / 20
    }

    /// Does without the last group's copy if contents stand in its place, which they do if they
    /// go on to `next`.
    pub(super) fn leave_out_copy_before(&mut self, next: u64) {
        let [_, last] = &mut self.backups;
        if u64::from(*last) * u64::from(BITS_PER_BLOCK) <= next {
            *last = 0;
        }
    }

    /// The least number of free blocks besides `placed` blocks of contents.
    pub(super) fn free_beside(&self, placed: u64) -> u64 {
        let copies: u64 = self.copies().iter().map(|copy| copy.end - copy.start).sum();
        let base = 1 + u64::from(self.descriptor_blocks()) + copies;
        let of_group = u64::from(2 + self.inodes_per_group / INODES_PER_BLOCK);
        let used = base + placed + self.journal_end(0) + u64::from(self.groups) * of_group;
        self.blocks.saturating_sub(used)
    }

    /// Where the journal ends that begins at a block, as if no copy were in its way.
    fn journal_end(&self, start: u64) -> u64 {
        // Of more than four extents, one block tells where they are.
        start + self.journal.map_or(0, |blocks| u64::from(blocks) + 1)
    }

    /// The block after the last that is in use if contents end before `next`, or one a little
    /// farther on.
    pub(super) fn used_end(&self, next: u64) -> u64 {
        let copies = self.copies();
        let after_journal = copies.iter().fold(self.journal_end(next), |end, copy| {
            match (next..end).contains(&copy.start) {
                true => end + copy.end - copy.start,
                false => end,
            }
        });
        let mut cursor = Cursor::new(after_journal, &copies);
        self.rows(&mut cursor);
        cursor.next
    }

    /// Block bitmaps, inode bitmaps and inode tables.
    fn rows(&self, cursor: &mut Cursor<'_>) -> [Row; 3] {
        let table = self.inodes_per_group / INODES_PER_BLOCK;
        [1, 1, table].map(|len| cursor.row(self.groups, len))
    }

    /// Places what follows the contents, which end before `end` with inodes up to `last_ino`.
    ///
    /// All that is written lies close together at the front, so that a dynamic disk has few
    /// blocks. flex_bg allows that.
    pub(super) fn geometry(&self, end: u32, last_ino: u32) -> Result<Geometry> {
        let &Self {
            blocks,
            groups,
            inodes_per_group,
            ..
        } = self;
        if u64::from(last_ino) > u64::from(groups) * u64::from(inodes_per_group) {
            return Err(Error::limit(format!(
                "{last_ino} inodes are needed, and the file system has {}",
                u64::from(groups) * u64::from(inodes_per_group)
            ))
            .allowed_by("inodes"));
        }
        let copies = self.copies();
        let mut cursor = Cursor::new(end.into(), &copies);
        let [block_bitmaps, inode_bitmaps, inode_tables] = self.rows(&mut cursor);
        let used_end = cursor.next;
        if used_end > blocks {
            return Err(Error::limit(format!(
                "contents, inode tables and bitmaps take {} bytes, and the file system has {}",
                used_end * BLOCK_SIZE as u64,
                blocks * BLOCK_SIZE as u64
            ))
            .allowed_by("size"));
        }
        let mut free = cursor.skipped;
        let mut at = used_end;
        for copy in copies.iter().filter(|copy| copy.start >= used_end) {
            free.push(at..copy.start);
            at = copy.end;
        }
        free.push(at..blocks);
        Ok(Geometry {
            blocks,
            groups,
            blocks_per_group: BITS_PER_BLOCK,
            inodes_per_group,
            descriptor_size: WIDE_DESCRIPTOR_SIZE,
            block_bitmaps,
            inode_bitmaps,
            inode_tables,
            backups: copies
                .iter()
                .zip(self.backups)
                .map(|(_, group)| group)
                .collect(),
            uninit: true,
            free,
            used_end,
        })
    }
}

/// Blocks beside the copy that make a last group worth having.
pub(super) const LAST_GROUP_MIN: u64 = 64;
/// The reserved inodes, lost+found and a few to use.
const INODES_MIN: u64 = 16;

/// Gives out blocks one after the other, but for the copies.
struct Cursor<'a> {
    next: u64,
    copies: &'a [Range<u64>],
    skipped: Vec<Range<u64>>,
}

impl<'a> Cursor<'a> {
    fn new(next: u64, copies: &'a [Range<u64>]) -> Self {
        Self {
            next,
            copies,
            skipped: Vec::new(),
        }
    }

    /// A run of `len` blocks for each of `groups`.
    fn row(&mut self, groups: u32, len: u32) -> Row {
        let mut pieces = Vec::new();
        let mut group = 0;
        while group < groups {
            let left = groups - group;
            let copy = self.copies.iter().find(|copy| copy.start >= self.next);
            let runs = copy.map_or(left, |copy| {
                let fit = (copy.start - self.next) / u64::from(len);
                fit.min(left.into()) as u32
            });
            if runs > 0 {
                pieces.push((group, self.next));
                group += runs;
                self.next += u64::from(runs) * u64::from(len);
            }
            if group < groups
                && let Some(copy) = copy
            {
                self.skipped.push(self.next..copy.start);
                self.next = copy.end;
            }
        }
        Row::new(pieces, len)
    }
}

/// Blocks of the journal that mke2fs gives a file system of this many blocks. `None` if there
/// are too few for one.
fn journal_blocks(file_system: u64) -> Option<u32> {
    /// For a file system of fewer blocks than the first, a journal of the second.
    const SIZES: [(u64, u32); 7] = [
        (0x8000, 1_024),
        (0x4_0000, 4_096),
        (0x8_0000, 8_192),
        (0x40_0000, 16_384),
        (0x80_0000, 32_768),
        (0x100_0000, 65_536),
        (0x200_0000, 131_072),
    ];
    let larger = SIZES.into_iter().find(|(end, _)| file_system < *end);
    (file_system >= 2_048).then(|| larger.map_or(262_144, |(_, journal)| journal))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inodes_are_as_many_as_mke2fs_makes() {
        const MIB: u64 = 1 << 20;
        for (size, inodes) in [
            (MIB, 128),
            (2 * MIB, 256),
            (3 * MIB, 768),
            (79 * MIB, 20_224),
            (511 * MIB, 130_816),
            // With a last group that is left unused.
            (134_483_968, 32_768),
            (512 * MIB, 32_768),
            (20 << 30, 1_310_720),
            (4 << 40, 1 << 28),
            (5 << 40, 5 << 25),
        ] {
            let made = Writable::new(size, 0, false, "").unwrap();
            let found = u64::from(made.groups) * u64::from(made.inodes_per_group);
            let rounded = inodes + u64::from(made.groups * INODES_PER_BLOCK);
            assert!((inodes..rounded).contains(&found), "{size}: {found}");
        }
    }

    #[test]
    fn journals_are_as_large_as_those_of_mke2fs() {
        // Journals that `mkfs.ext4 -b 4096` of e2fsprogs 1.47 makes for these sizes, in MiB.
        for (file_system, journal) in [
            (64, Some(4)),
            (127, Some(4)),
            (128, Some(16)),
            (1 << 10, Some(32)),
            (2 << 10, Some(64)),
            (20 << 10, Some(128)),
            (32 << 10, Some(256)),
            (64 << 10, Some(512)),
            (128 << 10, Some(1 << 10)),
            (2 << 20, Some(1 << 10)),
            (7, None),
        ] {
            let blocks = journal_blocks(file_system << 8);
            assert_eq!(
                blocks.map(|blocks| blocks >> 8),
                journal,
                "{file_system} MiB"
            );
        }
    }
}
