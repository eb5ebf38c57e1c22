//! Group descriptors, and where the tables of the groups lie.
//!
//! Source: Linux, Documentation/filesystems/ext4, "Block Group Descriptors".

use std::mem::offset_of;

use zerocopy::FromBytes;
use zerocopy::little_endian::{U16, U32};

use super::blocks::{Blocks, u32_at};
use super::checksum::{Checksums, with_hole};
use super::claims::{Claims, Owner};
use super::findings::{FindingKind, Findings, Place};
use super::layout::{self, Layout};
use crate::error::Result;
use crate::ext4::checksum::{crc16, crc32c};
use crate::ext4::format::{
    BG_BLOCK_UNINIT, BG_INODE_UNINIT, GroupDescriptor, GroupDescriptorHigh, INCOMPAT_FLEX_BG,
    INCOMPAT_MMP, SUPER_MAGIC, Superblock,
};

/// mmp_magic of the block of multiple mount protection.
const MMP_MAGIC: u32 = 0x004D_4D50;

/// The number of damaged descriptors after which no more are read: a disk of zeros is no file
/// system, but may claim to be a large one.
const MAX_DAMAGED: u32 = 1 << 16;

/// A group as its descriptor has it.
#[derive(Clone, Debug)]
pub(super) struct Group {
    pub index: u32,
    pub block_bitmap: u64,
    pub inode_bitmap: u64,
    pub inode_table: u64,
    pub free_blocks: u32,
    pub free_inodes: u32,
    pub directories: u32,
    pub block_bitmap_checksum: u32,
    pub inode_bitmap_checksum: u32,
    pub has_block_bitmap: bool,
    pub has_inode_bitmap: bool,
    /// Inodes at the start of the table that were ever used.
    pub inodes: u32,
    /// Whether the bitmaps and the table lie in blocks of their own.
    pub is_sound: bool,
}

/// Reads all descriptors and claims what stands at fixed places. Groups that are not sound are
/// in the list; where it is shorter than the file system has groups, too many are damaged.
pub(super) fn check(
    volume: Blocks<'_>,
    layout: &Layout,
    claims: &mut Claims,
    findings: &mut Findings,
) -> Result<Vec<Group>> {
    let mut groups = Vec::new();
    let mut damaged = 0;
    let mut block = (0, Vec::new());
    for index in 0..layout.groups {
        claims.add(layout.fixed_blocks(index), Owner::Fixed);
        let (number, at) = layout.descriptor_place(index);
        if block.0 != number {
            block = (number, volume.read(number, 1)?);
        }
        let group = Descriptor {
            volume,
            layout,
            index,
            bytes: &block.1[at..at + layout.descriptor_size],
            place: Place::group(index).block(number),
            findings,
        }
        .check();
        let Some(group) = group else {
            continue;
        };
        if group.is_sound {
            claims.add(
                group.block_bitmap..group.block_bitmap + 1,
                Owner::Group(index),
            );
            claims.add(
                group.inode_bitmap..group.inode_bitmap + 1,
                Owner::Group(index),
            );
            let end = group.inode_table + layout.table_blocks();
            claims.add(group.inode_table..end, Owner::Group(index));
        } else {
            damaged += 1;
            if damaged == MAX_DAMAGED {
                findings.add(FindingKind::GroupDescriptor, Place::group(index), || {
                    "too many descriptors are damaged to look at more of them".into()
                });
                return Ok(groups);
            }
        }
        groups.push(group);
    }
    if layout.incompat(INCOMPAT_MMP) {
        check_mmp(volume, layout, claims, findings)?;
    }
    for (first, second) in claims.overlaps() {
        let place = Place::default().block(second.start.max(first.start));
        findings.add(FindingKind::Layout, place, || {
            format!("{} lies over {}", second.owner, first.owner)
        });
        for owner in [first.owner, second.owner] {
            if let Owner::Group(index) = owner
                && let Some(group) = groups.get_mut(index as usize)
            {
                group.is_sound = false;
            }
        }
    }
    check_backups(volume, layout, findings)?;
    Ok(groups)
}

/// Reads the descriptor of a single group.
pub(super) fn descriptor(
    volume: Blocks<'_>,
    layout: &Layout,
    index: u32,
    findings: &mut Findings,
) -> Result<Option<Group>> {
    let (number, at) = layout.descriptor_place(index);
    let block = volume.read(number, 1)?;
    let descriptor = Descriptor {
        volume,
        layout,
        index,
        bytes: &block[at..at + layout.descriptor_size],
        place: Place::group(index).block(number),
        findings,
    };
    Ok(descriptor.check())
}

struct Descriptor<'a> {
    volume: Blocks<'a>,
    layout: &'a Layout,
    index: u32,
    bytes: &'a [u8],
    place: Place,
    findings: &'a mut Findings,
}

impl Descriptor<'_> {
    fn wrong(&mut self, kind: FindingKind, message: impl FnOnce() -> String) {
        self.findings.add(kind, self.place.clone(), message);
    }

    /// The group; `None` cannot be, for the bytes are long enough.
    fn check(mut self) -> Option<Group> {
        let (low, rest) = GroupDescriptor::ref_from_prefix(self.bytes).ok()?;
        let high = GroupDescriptorHigh::ref_from_prefix(rest)
            .ok()
            .map(|(high, _)| high);
        let wide = |low: U32, field: fn(&GroupDescriptorHigh) -> U32| {
            u64::from(low.get()) | high.map_or(0, |high| u64::from(field(high).get()) << 32)
        };
        let joined = |low: U16, field: fn(&GroupDescriptorHigh) -> U16| {
            u32::from(low.get()) | high.map_or(0, |high| u32::from(field(high).get()) << 16)
        };
        let flags = low.bg_flags.get();
        let unused = joined(low.bg_itable_unused_lo, |high| high.bg_itable_unused_hi);
        let per_group = self.layout.inodes_per_group;
        let mut group = Group {
            index: self.index,
            block_bitmap: wide(low.bg_block_bitmap_lo, |high| high.bg_block_bitmap_hi),
            inode_bitmap: wide(low.bg_inode_bitmap_lo, |high| high.bg_inode_bitmap_hi),
            inode_table: wide(low.bg_inode_table_lo, |high| high.bg_inode_table_hi),
            free_blocks: joined(low.bg_free_blocks_count_lo, |high| {
                high.bg_free_blocks_count_hi
            }),
            free_inodes: joined(low.bg_free_inodes_count_lo, |high| {
                high.bg_free_inodes_count_hi
            }),
            directories: joined(low.bg_used_dirs_count_lo, |high| high.bg_used_dirs_count_hi),
            block_bitmap_checksum: joined(low.bg_block_bitmap_csum_lo, |high| {
                high.bg_block_bitmap_csum_hi
            }),
            inode_bitmap_checksum: joined(low.bg_inode_bitmap_csum_lo, |high| {
                high.bg_inode_bitmap_csum_hi
            }),
            has_block_bitmap: true,
            has_inode_bitmap: true,
            inodes: per_group,
            is_sound: true,
        };
        self.checksum(low.bg_checksum.get());
        self.tables(&mut group);

        if self.layout.has_descriptor_checksums() {
            group.has_block_bitmap = flags & BG_BLOCK_UNINIT == 0;
            group.has_inode_bitmap = flags & BG_INODE_UNINIT == 0;
            if !group.has_block_bitmap && self.index + 1 == self.layout.groups {
                self.wrong(FindingKind::GroupDescriptor, || {
                    "the last group has to have a bitmap of blocks".into()
                });
            }
            if unused > per_group || unused > group.free_inodes {
                let free = group.free_inodes;
                self.wrong(FindingKind::GroupDescriptor, || {
                    format!(
                        "{unused} inodes are said never to have been used, of {per_group} of \
                        which {free} are free"
                    )
                });
            } else {
                group.inodes = per_group - unused;
            }
            if !group.has_inode_bitmap {
                group.inodes = 0;
            }
        } else if flags & (BG_BLOCK_UNINIT | BG_INODE_UNINIT) != 0 || unused != 0 {
            self.wrong(FindingKind::GroupDescriptor, || {
                "parts are said not to be initialised, which needs checksums of descriptors".into()
            });
        }
        Some(group)
    }

    fn checksum(&mut self, found: u16) {
        const FIELD: usize = offset_of!(GroupDescriptor, bg_checksum);
        let number = self.index.to_le_bytes();
        let computed = match self.layout.checksums {
            Checksums::None => return,
            Checksums::Metadata(seed) => {
                with_hole(crc32c(seed, &number), self.bytes, FIELD..FIELD + 2) as u16
            }
            Checksums::Descriptors => {
                let sum = crc16(crc16(0xFFFF, &self.layout.uuid), &number);
                crc16(crc16(sum, &self.bytes[..FIELD]), &self.bytes[FIELD + 2..])
            }
        };
        if found != computed {
            self.wrong(FindingKind::Checksum, || {
                format!("the descriptor's checksum is {found:04x}, not {computed:04x}")
            });
        }
    }

    /// Whether the tables lie where they may.
    fn tables(&mut self, group: &mut Group) {
        let own = self.layout.group_blocks(self.index);
        let anywhere = self.layout.incompat(INCOMPAT_FLEX_BG);
        for (what, start, count) in [
            ("bitmap of blocks", group.block_bitmap, 1),
            ("bitmap of inodes", group.inode_bitmap, 1),
            ("inode table", group.inode_table, self.layout.table_blocks()),
        ] {
            let inside = self.volume.contains(start, count);
            // Only what is inside has an end that is a number.
            let inside_group = inside && own.start <= start && start + count <= own.end;
            if !inside || !anywhere && !inside_group {
                group.is_sound = false;
                self.wrong(FindingKind::GroupDescriptor, || {
                    let of = if inside { "group" } else { "file system" };
                    format!("the {what} is said to be at block {start}, which is out of the {of}")
                });
            }
        }
    }
}

fn check_mmp(
    volume: Blocks<'_>,
    layout: &Layout,
    claims: &mut Claims,
    findings: &mut Findings,
) -> Result<()> {
    let number = layout.mmp_block;
    let found = match volume.contains(number, 1) {
        true => {
            claims.add(number..number + 1, Owner::Mmp);
            u32_at(&volume.read(number, 1)?, 0)
        }
        false => 0,
    };
    if found != MMP_MAGIC {
        findings.add(
            FindingKind::Superblock,
            Place::default().block(number),
            || "there is no block of multiple mount protection".into(),
        );
    }
    Ok(())
}

/// The copies of the superblock. What changes with use is not copied, and not compared.
fn check_backups(volume: Blocks<'_>, layout: &Layout, findings: &mut Findings) -> Result<()> {
    // Without sparse_super every group has one; a few say enough.
    const MOST: usize = 64;
    let groups = (1..layout.groups).filter(|group| layout.has_superblock(*group));
    for group in groups.take(MOST) {
        let number = layout.group_blocks(group).start;
        let bytes = volume.read(number, 1)?;
        let Ok((copy, _)) = Superblock::ref_from_prefix(&bytes) else {
            continue;
        };
        let same = copy.s_magic.get() == SUPER_MAGIC
            && layout::describes_the_same(copy, layout)
            && u32::from(copy.s_block_group_nr.get()) == group & 0xFFFF;
        let checksum = u32_at(&bytes, 1020);
        if !same {
            let place = Place::group(group).block(number);
            findings.add(FindingKind::BackupSuperblock, place, || {
                "the copy of the superblock is damaged or of another file system".into()
            });
        } else if layout.checksums.seed().is_some() && checksum != crc32c(!0, &bytes[..1020]) {
            let place = Place::group(group).block(number);
            findings.add(FindingKind::Checksum, place, || {
                "the checksum of the copy of the superblock is wrong".into()
            });
        }
    }
    Ok(())
}
