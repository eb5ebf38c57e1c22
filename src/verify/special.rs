//! The inodes of the file system itself: the journal, the room to grow, the list of orphans.
//!
//! Source: Linux, Documentation/filesystems/ext4, "Journal (jbd2)", "Orphan file", and
//! e2fsprogs, lib/ext2fs/res_gdt.c.

use zerocopy::FromBytes;

use super::block_map::Run;
use super::blocks::is_zero;
use super::blocks::{Blocks, be32_at, u32_at};
use super::budget::Budget;
use super::checksum::with_hole;
use super::claims::{Claims, Owner};
use super::findings::{FindingKind, Findings, Place};
use super::layout::Layout;
use crate::error::Result;
use crate::ext4::checksum::crc32c;
use crate::ext4::format::{I_BLOCK_SIZE, JOURNAL_MAGIC, JOURNAL_SUPERBLOCK, JournalSuperblock};

/// h_blocktype: a superblock of the first version, without features.
const JOURNAL_SUPERBLOCK_V1: u32 = 3;
/// Checksums of version 2 or 3, of which there is one at most.
const JOURNAL_INCOMPAT_CSUM: u32 = 0x8 | 0x10;
/// Those of the first version, which exclude the others.
const JOURNAL_COMPAT_CHECKSUM: u32 = 0x1;
/// Revoked blocks, wide numbers, early commits, checksums, fast commits.
const JOURNAL_INCOMPAT_KNOWN: u32 = 0x1 | 0x2 | 0x4 | JOURNAL_INCOMPAT_CSUM | 0x20;
/// s_checksum_type: CRC-32C.
const JOURNAL_CHECKSUM_CRC32C: u8 = 4;

const ORPHAN_MAGIC: u32 = 0x0B10_CA04;

/// The number of the inode with the room for group descriptors.
const RESIZE_INO: u32 = 7;
/// Where i_block has the doubly indirect block.
const DOUBLY: usize = 13;

/// The journal inside the file system.
pub(super) struct JournalFile<'a> {
    pub ino: u32,
    pub runs: &'a [Run],
    pub size: u64,
    /// Whether the superblock of the file system says that it holds what belongs elsewhere.
    pub needs_replay: bool,
}

/// The journal's superblock and its place. Its contents are of no account once the file system
/// was unmounted.
pub(super) fn journal(
    volume: Blocks<'_>,
    journal: &JournalFile<'_>,
    findings: &mut Findings,
) -> Result<()> {
    let JournalFile {
        ino,
        runs,
        size,
        needs_replay,
    } = *journal;
    let mut wrong = |message: String| {
        findings.add(FindingKind::Journal, Place::inode(ino), || message);
    };
    let mut end = 0;
    for run in runs {
        if run.logical != end || !run.is_initialised {
            wrong(format!("the journal has a hole at its block {end}"));
            return Ok(());
        }
        end += run.len;
    }
    let Some(first) = runs.first() else {
        wrong("the journal has no blocks".into());
        return Ok(());
    };
    let bytes = volume.read(first.physical, 1)?;
    let Ok((superblock, _)) = JournalSuperblock::ref_from_prefix(&bytes) else {
        return Ok(());
    };
    let kind = superblock.h_blocktype.get();
    if superblock.h_magic.get() != JOURNAL_MAGIC
        || kind != JOURNAL_SUPERBLOCK_V1 && kind != JOURNAL_SUPERBLOCK
    {
        wrong("the journal starts without a superblock".into());
        return Ok(());
    }
    let (block_size, blocks, start) = (
        superblock.s_blocksize.get(),
        u64::from(superblock.s_maxlen.get()),
        superblock.s_start.get(),
    );
    if block_size as usize != volume.block_size
        || blocks > end
        || blocks > size / volume.block_size as u64
    {
        wrong(format!(
            "the journal is said to have {blocks} blocks of {block_size} bytes, in a file of \
            {size}"
        ));
    }
    let first = u64::from(superblock.s_first.get());
    if first == 0 || first >= blocks {
        wrong(format!(
            "the journal starts at its block {first}, of {blocks}, the first of which has its \
            superblock"
        ));
    }
    if start != 0 && !needs_replay {
        wrong(format!(
            "the journal is not empty, it starts at its block {start}, but is not said to need \
            replay"
        ));
    }
    for problem in journal_features(superblock, &bytes) {
        wrong(problem.into());
    }
    Ok(())
}

/// Checks the fields that the second version of a journal's superblock added.
fn journal_features(superblock: &JournalSuperblock, bytes: &[u8]) -> Vec<&'static str> {
    let mut problems = Vec::new();
    let (compat, features, ro_compat, users) = (
        superblock.s_feature_compat.get(),
        superblock.s_feature_incompat.get(),
        superblock.s_feature_ro_compat.get(),
        superblock.s_nr_users.get(),
    );
    if superblock.h_blocktype.get() == JOURNAL_SUPERBLOCK_V1 {
        if compat | features | ro_compat | users != 0 {
            problems.push("a journal of the first version has fields of the second");
        }
        return problems;
    }
    if users > 1 {
        problems.push("the journal is of several file systems");
    }
    if features & !JOURNAL_INCOMPAT_KNOWN != 0 || ro_compat != 0 {
        problems.push("the journal has features that are not known");
    }
    let sums = features & JOURNAL_INCOMPAT_CSUM;
    if sums.count_ones() > 1 || sums != 0 && compat & JOURNAL_COMPAT_CHECKSUM != 0 {
        problems.push("the journal has several kinds of checksums");
    }
    if sums != 0 {
        const FIELD: usize = 0xFC;
        let computed = with_hole(!0, &bytes[..1024], FIELD..FIELD + 4);
        if bytes.get(0x50) != Some(&JOURNAL_CHECKSUM_CRC32C) {
            problems.push("the checksums of the journal are of an unknown type");
        } else if be32_at(bytes, FIELD) != computed {
            problems.push("the checksum of the journal's superblock is wrong");
        }
    }
    problems
}

/// The file of deleted inodes, which is to be empty.
pub(super) struct OrphanFile<'a> {
    pub ino: u32,
    pub seed: Option<u32>,
    pub size: u64,
    pub runs: &'a [Run],
}

impl OrphanFile<'_> {
    pub(super) fn check(
        &self,
        volume: Blocks<'_>,
        budget: &mut Budget,
        findings: &mut Findings,
    ) -> Result<()> {
        let place = || Place::inode(self.ino);
        let mut next = 0;
        for run in self.runs {
            for i in 0..run.len {
                let number = run.physical + i;
                if run.logical + i != next || !budget.take(1) {
                    findings.add(FindingKind::Orphan, place(), || {
                        format!("the orphan file has a hole at its block {next}")
                    });
                    return Ok(());
                }
                next += 1;
                self.block(&volume.read(number, 1)?, number, findings);
            }
        }
        if self.size != next * volume.block_size as u64 {
            findings.add(FindingKind::Size, place(), || {
                format!(
                    "the orphan file of {next} blocks has a size of {}",
                    self.size
                )
            });
        }
        Ok(())
    }

    fn block(&self, bytes: &[u8], number: u64, findings: &mut Findings) {
        let (entries, tail) = bytes.split_at(bytes.len() - 8);
        let place = || Place::inode(self.ino).block(number);
        if u32_at(tail, 0) != ORPHAN_MAGIC {
            findings.add(FindingKind::Orphan, place(), || {
                "a block of the orphan file ends without its magic".into()
            });
            return;
        }
        if entries.iter().any(|byte| *byte != 0) {
            findings.add(FindingKind::Orphan, place(), || {
                "deleted files wait in the orphan file".into()
            });
        }
        if let Some(seed) = self.seed {
            let computed = crc32c(crc32c(seed, &number.to_le_bytes()), entries);
            if u32_at(tail, 4) != computed {
                findings.add(FindingKind::Checksum, place(), || {
                    "the checksum of a block of the orphan file is wrong".into()
                });
            }
        }
    }
}

/// The inode that holds the blocks reserved for descriptors, in all groups with copies. Returns
/// how many blocks it has; `None` if it is not what it should be.
pub(super) fn resize_inode(
    volume: Blocks<'_>,
    layout: &Layout,
    i_block: &[u8; I_BLOCK_SIZE],
    fields_are_right: bool,
    claims: &mut Claims,
    findings: &mut Findings,
) -> Result<Option<u64>> {
    let place = Place::inode(RESIZE_INO);
    let mut wrong = |message: &str| {
        findings.add(FindingKind::Inode, place.clone(), || message.into());
        Ok(None)
    };
    let pointers = i_block.chunks_exact(4).map(|bytes| u32_at(bytes, 0));
    let others = pointers
        .enumerate()
        .any(|(i, pointer)| i != DOUBLY && pointer != 0);
    let doubly = u64::from(u32_at(i_block, 4 * DOUBLY));
    if !fields_are_right || others || !volume.contains(doubly, 1) {
        return wrong("the inode with room for descriptors is malformed");
    }
    claims.add(doubly..doubly + 1, Owner::Inode(RESIZE_INO));
    let table = volume.read(doubly, 1)?;
    let per_block = table.len() / 4;
    let backups: Vec<u32> = (1..layout.groups)
        .filter(|group| layout.has_superblock(*group))
        .take(per_block + 1)
        .collect();
    let used = layout.descriptor_blocks();
    let mut blocks = 1;
    for i in 0..layout.reserved_descriptor_blocks {
        let number = layout.first_block + 1 + used + i;
        let slot = ((used + i) % per_block as u64) as usize;
        if u64::from(u32_at(&table, 4 * slot)) != number {
            return wrong("the inode with room for descriptors has other blocks");
        }
        let copies = volume.read(number, 1)?;
        for (k, group) in backups.iter().enumerate() {
            let copy = number + u64::from(*group) * layout.blocks_per_group;
            if u64::from(u32_at(&copies, 4 * k)) != copy {
                return wrong("the inode with room for descriptors has other blocks");
            }
        }
        // Of a block that stands in for descriptors to come every number counts.
        let rest = copies.get(4 * backups.len()..).unwrap_or_default();
        if !is_zero(rest) {
            return wrong("the inode with room for descriptors has too many blocks");
        }
        blocks += 1 + backups.len() as u64;
    }
    let there = table.chunks_exact(4).filter(|bytes| u32_at(bytes, 0) != 0);
    if there.count() as u64 != layout.reserved_descriptor_blocks {
        return wrong("the inode with room for descriptors has too many blocks");
    }
    Ok(Some(blocks))
}
