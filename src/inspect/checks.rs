//! Whether the parts of a file system agree with their checksums and with one another.
//!
//! Source: Linux, Documentation/filesystems/ext4, "Checksums", "Block Group Descriptors".

use std::cell::Cell;

use zerocopy::transmute_ref;

use super::report::{Checks, Findings, Tally};
use crate::disk::Volume;
use crate::error::{Error, ErrorKind, Result};
use crate::ext4::checksum::{self, crc32c};
use crate::ext4::format::{
    BG_BLOCK_UNINIT, BG_INODE_UNINIT, CHECKSUM_CRC32C, DESCRIPTOR_SIZE, INCOMPAT_META_BG,
    INCOMPAT_RECOVER, RO_COMPAT_METADATA_CSUM, Superblock,
};
use crate::reader::{Geometry, Group, inode_is_sound, joined};
use crate::verify;

/// Whether the journal holds what belongs elsewhere: until it is replayed, nothing has to
/// agree with anything.
fn needs_recovery(superblock: &Superblock) -> bool {
    superblock.s_feature_incompat.get() & INCOMPAT_RECOVER != 0
}

/// Verifies all of a volume whose superblock says where everything is.
pub(super) fn check(
    volume: &Volume,
    superblock: &Superblock,
    geometry: &Geometry,
    findings: &mut Findings,
) -> Result<()> {
    let seed = check_superblock(superblock, geometry, findings);
    // There the descriptors are spread over the groups; it takes a resized or a huge file
    // system to have that.
    let descriptors_are_together = superblock.s_feature_incompat.get() & INCOMPAT_META_BG == 0;
    if !needs_recovery(superblock) && descriptors_are_together {
        let checker = Checker {
            volume,
            geometry,
            free_blocks: joined(
                superblock,
                superblock.s_free_blocks_count_lo.get(),
                superblock.s_free_blocks_count_hi.get(),
            ),
            free_inodes: superblock.s_free_inodes_count.get(),
            seed,
            budget: Cell::new(2 * volume.file_size() + Checker::LEAST_BUDGET),
            unread: Cell::new(None),
        };
        checker.check_groups(findings);
        if let Some(error) = checker.unread.into_inner() {
            return Err(error);
        }
    }
    Ok(())
}

/// The seed of the other checksums, if there are any.
fn check_superblock(
    superblock: &Superblock,
    geometry: &Geometry,
    findings: &mut Findings,
) -> Option<u32> {
    if superblock.s_feature_ro_compat.get() & RO_COMPAT_METADATA_CSUM == 0 {
        return None;
    }
    let kind = superblock.s_checksum_type;
    if kind != CHECKSUM_CRC32C {
        findings.check(superblocks, false, || {
            format!("the superblock names an unknown type of checksum, {kind}")
        });
        return None;
    }
    let computed = checksum::superblock(transmute_ref!(superblock));
    let stored = superblock.s_checksum.get();
    findings.check(superblocks, computed == stored, || {
        "the superblock's checksum is wrong".into()
    });
    geometry.checksums.seed()
}

// Which number a check belongs to.
fn superblocks(checks: &mut Checks) -> &mut Tally {
    &mut checks.superblock
}
fn group_descriptors(checks: &mut Checks) -> &mut Tally {
    &mut checks.group_descriptors
}
fn block_bitmaps(checks: &mut Checks) -> &mut Tally {
    &mut checks.block_bitmaps
}
fn inode_bitmaps(checks: &mut Checks) -> &mut Tally {
    &mut checks.inode_bitmaps
}
fn inodes(checks: &mut Checks) -> &mut Tally {
    &mut checks.inodes
}
fn free_counts(checks: &mut Checks) -> &mut Tally {
    &mut checks.free_counts
}
fn root_directory(checks: &mut Checks) -> &mut Tally {
    &mut checks.root_directory
}

struct Checker<'a> {
    volume: &'a Volume,
    geometry: &'a Geometry,
    free_blocks: u64,
    free_inodes: u32,
    seed: Option<u32>,
    /// Bytes that may still be looked at. A sound file system has each of its bytes looked at
    /// once, and has them all in the file.
    budget: Cell<u64>,
    /// Why the file could not be read somewhere, which says nothing of the file system.
    unread: Cell<Option<Error>>,
}

impl Checker<'_> {
    const LEAST_BUDGET: u64 = 64 << 20;
    /// Wrong descriptors after which no more groups are looked at.
    const MAX_WRONG_GROUPS: u64 = 100_000;

    fn check_groups(&self, findings: &mut Findings) {
        let (mut free_clusters, mut free_inodes) = (0_u64, 0_u64);
        for index in 0..self.geometry.groups {
            if findings.checks.group_descriptors.failed >= Self::MAX_WRONG_GROUPS {
                findings.note(|| format!("the groups from {index} on were not looked at"));
                return;
            }
            let Some(group) = self.group(index, findings) else {
                continue;
            };
            free_clusters += u64::from(group.free_clusters);
            free_inodes += u64::from(group.free_inodes);
            self.check_blocks(index, &group, findings);
            self.check_inodes(index, &group, findings);
        }
        // Without all the groups the sums say nothing.
        if findings.checks.group_descriptors.failed > 0 {
            return;
        }
        let free_blocks = free_clusters * u64::from(self.geometry.blocks_per_cluster);
        let (blocks, inodes) = (self.free_blocks, self.free_inodes);
        findings.check(free_counts, free_blocks == blocks, || {
            format!("the superblock counts {blocks} free blocks, its groups {free_blocks}")
        });
        findings.check(free_counts, free_inodes == u64::from(inodes), || {
            format!("the superblock counts {inodes} free inodes, its groups {free_inodes}")
        });
    }

    /// Whether these bytes from the start of a block on are in the volume. Block 0 is not: it
    /// holds the superblock or what comes before it, and is what a field of zeros points to.
    fn is_inside(&self, first: u64, bytes: usize) -> bool {
        let end = first
            .checked_mul(self.geometry.block_size.into())
            .and_then(|start| start.checked_add(bytes as u64));
        first > 0 && end.is_some_and(|end| end <= self.volume.virtual_size())
    }

    /// Bytes from the start of a block on, of which there have to be as many.
    fn read(&self, first: u64, bytes: usize) -> Result<Vec<u8>> {
        self.read_at(first * u64::from(self.geometry.block_size), bytes)
    }

    fn read_at(&self, offset: u64, bytes: usize) -> Result<Vec<u8>> {
        let len = bytes as u64;
        if self.volume.is_hole(offset, len)? {
            return Ok(vec![0; bytes]);
        }
        let left = self.budget.get().checked_sub(len).ok_or_else(|| {
            Error::new(
                ErrorKind::InvalidDisk,
                "groups share their bitmaps or tables, and there is no end to them",
            )
        })?;
        self.budget.set(left);
        self.volume.read(offset, bytes).map_err(|e| {
            if e.kind() != ErrorKind::Input {
                return e;
            }
            let message = format!("{e:#}");
            self.unread.set(Some(e));
            Error::new(ErrorKind::Input, message)
        })
    }

    fn group(&self, index: u32, findings: &mut Findings) -> Option<Group> {
        let block_size = self.geometry.block_size as usize;
        let start = self.geometry.descriptor_place(index);
        let bytes = match self.read_at(start, self.geometry.descriptor_size.into()) {
            Ok(bytes) => bytes,
            Err(e) => {
                findings.check(group_descriptors, false, || {
                    format!("group {index}'s descriptor cannot be read: {e:#}")
                });
                return None;
            }
        };
        let group = Group::parse(&bytes)?;
        let checksums = self.geometry.checksums;
        let sound = self.seed.is_none() || checksums.hold_for_descriptor(index, &bytes);
        let inside = self.is_inside(group.block_bitmap, block_size)
            && self.is_inside(group.inode_bitmap, block_size)
            && self.is_inside(group.inode_table, self.inode_table_size());
        findings.check(group_descriptors, sound && inside, || {
            if inside {
                format!("the checksum of group {index}'s descriptor is wrong")
            } else {
                format!("group {index}'s descriptor points out of the file system")
            }
        });
        inside.then_some(group)
    }

    fn inode_table_size(&self) -> usize {
        self.geometry.inodes_per_group as usize * usize::from(self.geometry.inode_size)
    }

    fn check_blocks(&self, index: u32, group: &Group, findings: &mut Findings) {
        if group.flags & BG_BLOCK_UNINIT != 0 {
            return;
        }
        let per_group = u64::from(self.geometry.blocks_per_group);
        let start = self.geometry.first_block + u64::from(index) * per_group;
        let blocks = per_group.min(self.geometry.blocks - start);
        let clusters = blocks.div_ceil(self.geometry.blocks_per_cluster.into()) as usize;
        let clusters_per_group =
            (self.geometry.blocks_per_group / self.geometry.blocks_per_cluster) as usize;
        let bitmap = match self.read(group.block_bitmap, clusters_per_group.div_ceil(8)) {
            Ok(bitmap) => bitmap,
            Err(e) => {
                return findings.check(block_bitmaps, false, || {
                    format!("group {index}'s block bitmap cannot be read: {e:#}")
                });
            }
        };
        if let Some(seed) = self.seed {
            let sum = self.bitmap_checksum(seed, &bitmap, clusters_per_group);
            findings.check(block_bitmaps, sum == group.block_bitmap_checksum, || {
                format!("the checksum of group {index}'s block bitmap is wrong")
            });
        }
        let (counted, free) = (group.free_clusters, count_zeros(&bitmap, clusters));
        findings.check(free_counts, counted as usize == free, || {
            format!("group {index} counts {counted} free blocks, its bitmap has {free}")
        });
    }

    fn check_inodes(&self, index: u32, group: &Group, findings: &mut Findings) {
        let per_group = self.geometry.inodes_per_group as usize;
        if group.flags & BG_INODE_UNINIT != 0 {
            return;
        }
        let bitmap = match self.read(group.inode_bitmap, per_group.div_ceil(8)) {
            Ok(bitmap) => bitmap,
            Err(e) => {
                return findings.check(inode_bitmaps, false, || {
                    format!("group {index}'s inode bitmap cannot be read: {e:#}")
                });
            }
        };
        let (counted, free) = (group.free_inodes, count_zeros(&bitmap, per_group));
        findings.check(free_counts, counted as usize == free, || {
            format!("group {index} counts {counted} free inodes, its bitmap has {free}")
        });
        let Some(seed) = self.seed else {
            return;
        };
        let sum = self.bitmap_checksum(seed, &bitmap, per_group);
        findings.check(inode_bitmaps, sum == group.inode_bitmap_checksum, || {
            format!("the checksum of group {index}'s inode bitmap is wrong")
        });
        let initialised = per_group.saturating_sub(group.unused_inodes as usize);
        if let Err(e) = self.check_inode_table(index, group, &bitmap, initialised, seed, findings) {
            findings.check(inodes, false, || {
                format!("group {index}'s inode table cannot be read: {e:#}")
            });
        }
    }

    /// Checks the inodes in use among the first `initialised` of a group.
    fn check_inode_table(
        &self,
        index: u32,
        group: &Group,
        bitmap: &[u8],
        initialised: usize,
        seed: u32,
        findings: &mut Findings,
    ) -> Result<()> {
        const PIECE: usize = 64 << 10;
        let inode_size = usize::from(self.geometry.inode_size);
        // Both are powers of two, and no inode is larger than a block.
        let per_piece = PIECE / inode_size;
        let table = group.inode_table * u64::from(self.geometry.block_size);
        let in_use = |i: usize| bitmap[i / 8] >> (i % 8) & 1 == 1;
        for first in (0..initialised).step_by(per_piece) {
            let end = initialised.min(first + per_piece);
            if !(first..end).any(in_use) {
                continue;
            }
            let start = table + (first * inode_size) as u64;
            let piece = self.read_at(start, (end - first) * inode_size)?;
            for (i, inode) in (first..).zip(piece.chunks_exact(inode_size)) {
                // Reserved inodes are in use, but most were never written.
                if in_use(i) && inode.iter().any(|&byte| byte != 0) {
                    // The number of inodes was found to fit 32 bits.
                    let ino = index * self.geometry.inodes_per_group + i as u32 + 1;
                    findings.check(inodes, inode_is_sound(seed, ino, inode), || {
                        format!("the checksum of inode {ino} is wrong")
                    });
                }
            }
        }
        Ok(())
    }

    /// As much of the checksum as a descriptor of this size has room for.
    fn bitmap_checksum(&self, seed: u32, bitmap: &[u8], bits: usize) -> u32 {
        let sum = crc32c(seed, &bitmap[..bits / 8]);
        match usize::from(self.geometry.descriptor_size) {
            DESCRIPTOR_SIZE => sum & 0xFFFF,
            _ => sum,
        }
    }
}

/// Zeros among the first `bits` bits.
fn count_zeros(bitmap: &[u8], bits: usize) -> usize {
    let (whole, rest) = bitmap.split_at(bits / 8);
    let zeros: usize = whole.iter().map(|byte| byte.count_zeros() as usize).sum();
    let last = rest.first().map_or(0, |&byte| {
        (0..bits % 8).filter(|bit| byte >> bit & 1 == 0).count()
    });
    zeros + last
}

/// Whether there is use in [`read_root`].
pub(super) fn root_can_be_read(superblock: &Superblock, findings: &Findings) -> bool {
    let Checks {
        structures,
        superblock: superblocks,
        group_descriptors,
        ..
    } = findings.checks;
    !needs_recovery(superblock)
        && structures.failed + superblocks.failed + group_descriptors.failed == 0
}

/// Reads the root directory as `verify` does.
pub(super) fn read_root(volume: &Volume, findings: &mut Findings) -> Result<()> {
    let most = 2 * volume.file_size() + Checker::LEAST_BUDGET;
    match verify::root_directory(volume, most) {
        // A feature is set that is not known here.
        Ok(None) => {}
        Ok(Some(Ok(()))) => findings.check(root_directory, true, String::new),
        Ok(Some(Err(problem))) => findings.check(root_directory, false, || {
            format!("the root directory cannot be read: {problem}")
        }),
        Err(e) if e.kind() == ErrorKind::Input => return Err(e),
        Err(e) => findings.check(root_directory, false, || {
            format!("the root directory cannot be read: {e:#}")
        }),
    }
    Ok(())
}
