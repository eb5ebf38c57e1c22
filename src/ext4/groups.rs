//! Block groups: what of each is in use, in bitmaps and descriptors.

use std::ops::Range;

use zerocopy::IntoBytes;
use zerocopy::little_endian::{U16, U32};

use super::area::BlockSink;
use super::bitmap::Bitmap;
use super::checksum;
use super::format::{
    BG_BLOCK_UNINIT, BG_INODE_UNINIT, BITS_PER_BLOCK, BLOCK_SIZE, DESCRIPTOR_SIZE, GroupDescriptor,
    GroupDescriptorHigh, INCOMPAT_EA_INODE, INCOMPAT_INLINE_DATA, WIDE_DESCRIPTOR_SIZE,
};
use super::geometry::Geometry;
use super::inode::Body;
use super::tree::Tree;
use super::writer::Writer;
use crate::error::Result;

/// Bytes of group descriptors that are written at a time: whole blocks of them.
const DESCRIPTORS_AT_A_TIME: usize = 1 << 20;

/// Findings of one pass over all inodes.
pub(super) struct Census {
    /// Inodes that were freed.
    pub freed: Vec<u32>,
    /// Features that some inode needs.
    pub incompat: u32,
}

impl Census {
    pub(super) fn of(tree: &Tree) -> Self {
        let (mut freed, mut incompat) = (Vec::new(), 0);
        for (ino, node) in tree.nodes() {
            match node.body {
                Body::Freed => freed.push(ino.get()),
                Body::XattrValue { .. } => incompat |= INCOMPAT_EA_INODE,
                Body::Inline(_) => incompat |= INCOMPAT_INLINE_DATA,
                _ => {}
            }
        }
        Self { freed, incompat }
    }
}

impl<S: BlockSink> Writer<S> {
    /// Writes bitmaps and descriptors, and answers what is free.
    pub(super) fn write_groups(&mut self, geometry: &Geometry, census: &Census) -> Result<Totals> {
        let profile = self.config.profile;
        let free = self.take_free(geometry);
        let directories = self.tree.directories().map(|(ino, _)| ino.get());
        let directories: Vec<_> = directories.collect();
        let last_ino = self.tree.last_ino();
        let mut totals = Totals::default();
        let mut table = Vec::new();
        let mut written = 0;
        for group in 0..geometry.groups {
            let first_ino = group * geometry.inodes_per_group + 1;
            let end_ino = first_ino + geometry.inodes_per_group;
            let freed = within(&census.freed, first_ino, end_ino);
            let unused = end_ino.saturating_sub((last_ino + 1).max(first_ino));
            let mut flags = profile.group_flags;
            let (block_csum, free_blocks) = match group_blocks(geometry, group, &free) {
                GroupBlocks::Untouched { free } => {
                    flags |= BG_BLOCK_UNINIT;
                    (0, free)
                }
                GroupBlocks::Used { bitmap, free } => {
                    let place = geometry.block_bitmaps.of(group);
                    self.area.sink.write(place, bitmap.bytes())?;
                    let bits = &bitmap.bytes()[..geometry.blocks_per_group as usize / 8];
                    (self.bitmap_checksum(bits), free)
                }
            };
            let inode_csum = if geometry.uninit && unused == geometry.inodes_per_group {
                flags |= BG_INODE_UNINIT;
                0
            } else {
                let mut bitmap = Bitmap::full();
                let bits = geometry.inodes_per_group;
                let padding = match profile.padded_bitmaps {
                    true => bits,
                    false => BITS_PER_BLOCK,
                };
                bitmap.clear(bits - unused..padding);
                freed
                    .iter()
                    .for_each(|ino| bitmap.clear(ino - first_ino..ino - first_ino + 1));
                let place = geometry.inode_bitmaps.of(group);
                self.area.sink.write(place, bitmap.bytes())?;
                self.bitmap_checksum(&bitmap.bytes()[..bits as usize / 8])
            };
            let free_inodes = unused + freed.len() as u32;
            totals.free_blocks += u64::from(free_blocks);
            totals.free_inodes += free_inodes;
            let descriptor = Descriptor {
                block_bitmap: geometry.block_bitmaps.of(group),
                inode_bitmap: geometry.inode_bitmaps.of(group),
                inode_table: geometry.inode_tables.of(group),
                free_blocks,
                free_inodes,
                used_dirs: within(&directories, first_ino, end_ino).len() as u32,
                unused: if profile.unused_inodes { unused } else { 0 },
                flags,
                block_csum,
                inode_csum,
            };
            let seed = profile.checksums.then_some(self.seed);
            let bytes = descriptor.encode(seed, group, geometry.descriptor_size);
            table.extend_from_slice(&bytes[..geometry.descriptor_size]);
            if group + 1 == geometry.groups || table.len() == DESCRIPTORS_AT_A_TIME {
                table.resize(table.len().next_multiple_of(BLOCK_SIZE), 0);
                let copies = geometry.backups.iter().map(|group| geometry.start(*group));
                for start in std::iter::once(0).chain(copies) {
                    self.area.sink.write(start + 1 + written, &table)?;
                }
                written += (table.len() / BLOCK_SIZE) as u64;
                table.clear();
            }
        }
        Ok(totals)
    }

    fn bitmap_checksum(&self, bits: &[u8]) -> u32 {
        match self.config.profile.checksums {
            true => checksum::bitmap(self.seed, bits),
            false => 0,
        }
    }

    /// Free blocks, in ascending order.
    fn take_free(&mut self, geometry: &Geometry) -> Vec<Range<u64>> {
        let mut free = geometry.free.clone();
        let left = [
            std::mem::take(&mut self.freed),
            std::mem::take(&mut self.area.skipped),
        ];
        for (start, len) in left.into_iter().flatten() {
            free.push(start.into()..u64::from(start) + u64::from(len));
        }
        free.retain(|range| !range.is_empty());
        free.sort_unstable_by_key(|range| range.start);
        free
    }
}

/// Free blocks and inodes of all groups.
#[derive(Default)]
pub(super) struct Totals {
    pub free_blocks: u64,
    pub free_inodes: u32,
}

/// The blocks of a group.
enum GroupBlocks {
    /// Whether only the copy of superblock and descriptors is in use.
    Untouched {
        free: u32,
    },
    Used {
        bitmap: Box<Bitmap>,
        free: u32,
    },
}

/// The used blocks of a group, given all free blocks.
fn group_blocks(geometry: &Geometry, group: u32, free: &[Range<u64>]) -> GroupBlocks {
    let first = geometry.start(group);
    let end = (first + u64::from(geometry.blocks_per_group)).min(geometry.blocks);
    let from = free.partition_point(|range| range.end <= first);
    let to = free.partition_point(|range| range.start < end);
    let pieces = free[from..to]
        .iter()
        .map(|range| (range.start.max(first) - first) as u32..(range.end.min(end) - first) as u32);
    let free = pieces.clone().map(|piece| piece.end - piece.start).sum();
    // e2fsck wants a bitmap of the last group in any case.
    let is_last = group + 1 == geometry.groups;
    if geometry.uninit && !is_last && u64::from(free) == end - first - geometry.base(group) {
        return GroupBlocks::Untouched { free };
    }
    let mut bitmap = Box::new(Bitmap::full());
    pieces.for_each(|piece| bitmap.clear(piece));
    GroupBlocks::Used { bitmap, free }
}

/// The contents of a group descriptor.
struct Descriptor {
    block_bitmap: u64,
    inode_bitmap: u64,
    inode_table: u64,
    free_blocks: u32,
    free_inodes: u32,
    used_dirs: u32,
    /// Inodes at the end of the table that were never used.
    unused: u32,
    flags: u16,
    block_csum: u32,
    inode_csum: u32,
}

impl Descriptor {
    /// The descriptor as the disk has it, of which the first `size` bytes count, with its
    /// checksum if there is a seed.
    fn encode(&self, seed: Option<u32>, group: u32, size: usize) -> [u8; WIDE_DESCRIPTOR_SIZE] {
        let (block_bitmap, inode_bitmap, inode_table) = (
            halves(self.block_bitmap),
            halves(self.inode_bitmap),
            halves(self.inode_table),
        );
        let high = |number: u32| U16::from((number >> 16) as u16);
        let descriptor = GroupDescriptor {
            bg_block_bitmap_lo: block_bitmap.0,
            bg_inode_bitmap_lo: inode_bitmap.0,
            bg_inode_table_lo: inode_table.0,
            bg_free_blocks_count_lo: (self.free_blocks as u16).into(),
            bg_free_inodes_count_lo: (self.free_inodes as u16).into(),
            bg_used_dirs_count_lo: (self.used_dirs as u16).into(),
            bg_flags: self.flags.into(),
            bg_exclude_bitmap_lo: 0.into(),
            bg_block_bitmap_csum_lo: (self.block_csum as u16).into(),
            bg_inode_bitmap_csum_lo: (self.inode_csum as u16).into(),
            bg_itable_unused_lo: (self.unused as u16).into(),
            bg_checksum: 0.into(),
        };
        let upper = GroupDescriptorHigh {
            bg_block_bitmap_hi: block_bitmap.1,
            bg_inode_bitmap_hi: inode_bitmap.1,
            bg_inode_table_hi: inode_table.1,
            bg_free_blocks_count_hi: high(self.free_blocks),
            bg_free_inodes_count_hi: high(self.free_inodes),
            bg_used_dirs_count_hi: high(self.used_dirs),
            bg_itable_unused_hi: high(self.unused),
            bg_exclude_bitmap_hi: 0.into(),
            bg_block_bitmap_csum_hi: high(self.block_csum),
            bg_inode_bitmap_csum_hi: high(self.inode_csum),
            bg_reserved: 0.into(),
        };
        let mut bytes = [0; WIDE_DESCRIPTOR_SIZE];
        let (low, rest) = bytes.split_at_mut(DESCRIPTOR_SIZE);
        low.copy_from_slice(descriptor.as_bytes());
        rest.copy_from_slice(upper.as_bytes());
        if let Some(seed) = seed {
            let sum = checksum::descriptor(seed, group, &bytes[..size]);
            bytes[DESCRIPTOR_SIZE - 2..DESCRIPTOR_SIZE].copy_from_slice(&sum.to_le_bytes());
        }
        bytes
    }
}

/// The part of a sorted list from `first` and before `end`.
fn within(list: &[u32], first: u32, end: u32) -> &[u32] {
    let from = list.partition_point(|n| *n < first);
    let to = list.partition_point(|n| *n < end);
    &list[from..to]
}

/// The low and the high half.
pub(super) fn halves(number: u64) -> (U32, U32) {
    ((number as u32).into(), ((number >> 32) as u32).into())
}
