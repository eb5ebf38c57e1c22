//! Bitmaps and counts, against what is in use.
//!
//! Source: Linux, Documentation/filesystems/ext4, "Block and inode Bitmaps".

use super::blocks::Blocks;
use super::blocks::bit;
use super::claims::{Claim, Owner};
use super::findings::{FindingKind, Findings, Place};
use super::groups::Group;
use super::layout::Layout;
use super::record::{Record, is_directory};
use crate::error::Result;
use crate::ext4::checksum::crc32c;
use crate::ext4::format::{DESCRIPTOR_SIZE, SUPERBLOCK_OFFSET};

/// Compares the bitmaps of all groups with what is in use, and the counts with the bitmaps.
pub(super) struct Bitmaps<'a> {
    pub volume: Blocks<'a>,
    pub layout: &'a Layout,
    pub groups: &'a [Group],
    /// Blocks in use, in order, each once.
    pub claims: &'a [Claim],
    pub records: &'a [Record],
}

impl Bitmaps<'_> {
    pub(super) fn check(&self, findings: &mut Findings) -> Result<()> {
        let (mut free_blocks, mut free_inodes) = (0_u64, 0_u64);
        let (mut claim, mut record) = (0, 0);
        for group in self.groups {
            let blocks = self.layout.group_blocks(group.index);
            while self
                .claims
                .get(claim)
                .is_some_and(|c| c.end <= blocks.start)
            {
                claim += 1;
            }
            let claims = &self.claims[claim..];
            let claims = &claims[..claims.partition_point(|c| c.start < blocks.end)];
            free_blocks += self.blocks(group, claims, findings)?;

            let last = (group.index + 1) * self.layout.inodes_per_group;
            let records = &self.records[record..];
            let records = &records[..records.partition_point(|r| r.ino <= last)];
            record += records.len();
            free_inodes += self.inodes(group, records, findings)?;
        }
        if self.groups.len() == self.layout.groups as usize {
            self.totals(free_blocks, free_inodes, findings);
        }
        Ok(())
    }

    fn totals(&self, free_blocks: u64, free_inodes: u64, findings: &mut Findings) {
        for (what, declared, found) in [
            ("blocks", self.layout.free_blocks, free_blocks),
            ("inodes", self.layout.free_inodes.into(), free_inodes),
        ] {
            if declared != found {
                let place = Place::offset(SUPERBLOCK_OFFSET as u64);
                findings.add(FindingKind::FreeCount, place, || {
                    format!("the superblock counts {declared} free {what}, not {found}")
                });
            }
        }
    }

    /// Checks the blocks of a group; how many are free.
    fn blocks(&self, group: &Group, claims: &[Claim], findings: &mut Findings) -> Result<u64> {
        let range = self.layout.group_blocks(group.index);
        let bits = (range.end - range.start) as usize;
        let mut used = vec![0_u8; self.layout.block_size];
        let mut is_bare = true;
        for claim in claims {
            is_bare &= match claim.owner {
                Owner::Fixed => true,
                Owner::Group(index) => index == group.index,
                Owner::Mmp | Owner::Inode(_) => false,
            };
            let start = claim.start.max(range.start) - range.start;
            let end = claim.end.min(range.end) - range.start;
            set_bits(&mut used, start as usize, end as usize);
        }
        let free = bits as u64 - count_ones(&used);
        if u64::from(group.free_blocks) != free {
            findings.add(FindingKind::FreeCount, Place::group(group.index), || {
                format!(
                    "the group counts {} free blocks, not {free}",
                    group.free_blocks
                )
            });
        }
        if !group.has_block_bitmap {
            if !is_bare {
                findings.add(FindingKind::BlockBitmap, Place::group(group.index), || {
                    "blocks are in use, but the bitmap is said not to be initialised".into()
                });
            }
            return Ok(free);
        }
        if !self.volume.contains(group.block_bitmap, 1) {
            return Ok(free);
        }
        let bitmap = self.volume.read(group.block_bitmap, 1)?;
        let place = || Place::group(group.index).block(group.block_bitmap);
        let whole = self.layout.blocks_per_group as usize;
        let sum = (group.block_bitmap_checksum, &bitmap[..whole / 8]);
        self.checksum("blocks", sum, place(), findings);
        let first = range.start;
        self.compare(&bitmap, &used, bits, |what, start, count| {
            let kind = FindingKind::BlockBitmap;
            let message = || message("block", what, first + start as u64, count);
            findings.add(kind, place(), message);
        });
        padding(&bitmap, bits, place(), findings);
        Ok(free)
    }

    /// Checks the inodes of a group; how many are free.
    fn inodes(&self, group: &Group, records: &[Record], findings: &mut Findings) -> Result<u64> {
        let bits = self.layout.inodes_per_group as usize;
        let first = group.index * self.layout.inodes_per_group + 1;
        let mut used = vec![0_u8; self.layout.block_size];
        // Reserved inodes are in use, whether or not they were written.
        let reserved = self.layout.first_ino.saturating_sub(first) as usize;
        set_bits(&mut used, 0, reserved.min(bits));
        for record in records {
            let at = (record.ino - first) as usize;
            set_bits(&mut used, at, at + 1);
        }
        let free = bits as u64 - count_ones(&used);
        let directories = records.iter().filter(|r| is_directory(r)).count();
        for (what, declared, found) in [
            ("free inodes", group.free_inodes, free),
            ("directories", group.directories, directories as u64),
        ] {
            // Without its table nothing is known.
            if group.is_sound && u64::from(declared) != found {
                findings.add(FindingKind::FreeCount, Place::group(group.index), || {
                    format!("the group counts {declared} {what}, not {found}")
                });
            }
        }
        if !group.has_inode_bitmap || !group.is_sound {
            return Ok(free);
        }
        let bitmap = self.volume.read(group.inode_bitmap, 1)?;
        let place = || Place::group(group.index).block(group.inode_bitmap);
        let sum = (group.inode_bitmap_checksum, &bitmap[..bits / 8]);
        self.checksum("inodes", sum, place(), findings);
        self.compare(&bitmap, &used, bits, |what, start, count| {
            let kind = FindingKind::InodeBitmap;
            let message = || message("inode", what, u64::from(first) + start as u64, count);
            findings.add(kind, place(), message);
        });
        padding(&bitmap, bits, place(), findings);
        Ok(free)
    }

    fn checksum(
        &self,
        of: &str,
        (found, bits): (u32, &[u8]),
        place: Place,
        findings: &mut Findings,
    ) {
        let Some(seed) = self.layout.checksums.seed() else {
            return;
        };
        let computed = match self.layout.descriptor_size {
            DESCRIPTOR_SIZE => crc32c(seed, bits) & 0xFFFF,
            _ => crc32c(seed, bits),
        };
        if found != computed {
            findings.add(FindingKind::Checksum, place, || {
                format!("the checksum of the bitmap of {of} is {found:x}, not {computed:x}")
            });
        }
    }

    /// Tells of each run of bits that differ.
    fn compare(
        &self,
        bitmap: &[u8],
        used: &[u8],
        bits: usize,
        mut differ: impl FnMut(Difference, usize, usize),
    ) {
        let difference = |at: usize| match (bit(bitmap, at), bit(used, at)) {
            (true, false) => Some(Difference::MarkedOnly),
            (false, true) => Some(Difference::UsedOnly),
            _ => None,
        };
        let mut at = 0;
        while at < bits {
            if at.is_multiple_of(8) && bitmap.get(at / 8) == used.get(at / 8) {
                at += 8;
                continue;
            }
            let Some(what) = difference(at) else {
                at += 1;
                continue;
            };
            let start = at;
            while at < bits && difference(at) == Some(what) {
                at += 1;
            }
            differ(what, start, at - start);
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Difference {
    MarkedOnly,
    UsedOnly,
}

fn message(of: &str, what: Difference, first: u64, count: usize) -> String {
    let which = match count {
        1 => format!("{of} {first} is"),
        _ => format!("{of}s {first} to {} are", first + count as u64 - 1),
    };
    match what {
        Difference::MarkedOnly => format!("{which} marked as in use, but free"),
        Difference::UsedOnly => format!("{which} in use, but marked as free"),
    }
}

/// The bits past the end of a group have to be set.
fn padding(bitmap: &[u8], bits: usize, place: Place, findings: &mut Findings) {
    let within = (bits..bits.next_multiple_of(8)).all(|at| bit(bitmap, at));
    let rest = &bitmap[bits.div_ceil(8)..];
    if !within || rest.iter().any(|byte| *byte != 0xFF) {
        findings.add(FindingKind::BitmapPadding, place, || {
            format!("the bits after the first {bits} are not all set")
        });
    }
}

fn set_bits(bits: &mut [u8], start: usize, end: usize) {
    let mut at = start;
    while at < end {
        let byte = at / 8;
        if at.is_multiple_of(8) && end - at >= 8 {
            bits[byte] = 0xFF;
            at += 8;
        } else {
            bits[byte] |= 1 << (at % 8);
            at += 1;
        }
    }
}

fn count_ones(bits: &[u8]) -> u64 {
    bits.iter()
        .map(|byte| u64::from(byte.count_ones() as u8))
        .sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn just_the_bits_named_are_set() {
        for (start, end) in [(0, 0), (0, 1), (3, 7), (5, 29), (8, 16), (0, 64)] {
            let mut bits = [0; 8];
            set_bits(&mut bits, start, end);
            for at in 0..64 {
                assert_eq!(bit(&bits, at), (start..end).contains(&at), "{start}..{end}");
            }
            assert_eq!(count_ones(&bits), (end - start) as u64);
        }
    }
}
