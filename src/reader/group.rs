//! Group descriptors.
//!
//! Source: Linux, Documentation/filesystems/ext4, "Block Group Descriptors".

use zerocopy::FromBytes;
use zerocopy::little_endian::{U16, U32};

use super::blocks::Blocks;
use super::damage::damaged;
use crate::error::Result;
use crate::ext4::format::{GroupDescriptor, GroupDescriptorHigh};

/// A group descriptor, its halves joined.
#[derive(Debug)]
pub(crate) struct Group {
    pub block_bitmap: u64,
    pub inode_bitmap: u64,
    pub inode_table: u64,
    pub free_clusters: u32,
    pub free_inodes: u32,
    pub unused_inodes: u32,
    pub flags: u16,
    pub block_bitmap_checksum: u32,
    pub inode_bitmap_checksum: u32,
}

impl Group {
    /// From 32 bytes or more; with 64 the high halves are there.
    pub(crate) fn parse(bytes: &[u8]) -> Option<Self> {
        let (low, rest) = GroupDescriptor::ref_from_prefix(bytes).ok()?;
        let high = GroupDescriptorHigh::ref_from_prefix(rest)
            .ok()
            .map(|(high, _)| high);
        let wide = |low: U32, field: fn(&GroupDescriptorHigh) -> U32| {
            let high = high.map_or(0, |high| field(high).get());
            u64::from(high) << 32 | u64::from(low.get())
        };
        let whole = |low: U16, field: fn(&GroupDescriptorHigh) -> U16| {
            let high = high.map_or(0, |high| field(high).get());
            u32::from(high) << 16 | u32::from(low.get())
        };
        Some(Self {
            block_bitmap: wide(low.bg_block_bitmap_lo, |high| high.bg_block_bitmap_hi),
            inode_bitmap: wide(low.bg_inode_bitmap_lo, |high| high.bg_inode_bitmap_hi),
            inode_table: wide(low.bg_inode_table_lo, |high| high.bg_inode_table_hi),
            free_clusters: whole(low.bg_free_blocks_count_lo, |high| {
                high.bg_free_blocks_count_hi
            }),
            free_inodes: whole(low.bg_free_inodes_count_lo, |high| {
                high.bg_free_inodes_count_hi
            }),
            unused_inodes: whole(low.bg_itable_unused_lo, |high| high.bg_itable_unused_hi),
            flags: low.bg_flags.get(),
            block_bitmap_checksum: whole(low.bg_block_bitmap_csum_lo, |high| {
                high.bg_block_bitmap_csum_hi
            }),
            inode_bitmap_checksum: whole(low.bg_inode_bitmap_csum_lo, |high| {
                high.bg_inode_bitmap_csum_hi
            }),
        })
    }

    /// Reads the descriptor of a group that there is.
    pub(super) fn read(blocks: &Blocks, index: u32) -> Result<Self> {
        let geometry = &blocks.geometry;
        let offset = geometry.descriptor_place(index);
        let mut bytes = vec![0; usize::from(geometry.descriptor_size)];
        blocks.read_at(offset, &mut bytes)?;
        let wrong = |what: &str| damaged(format!("group {index}'s {what}")).at_offset(offset);
        let group = Self::parse(&bytes)
            .filter(|_| geometry.checksums.hold_for_descriptor(index, &bytes))
            .ok_or_else(|| wrong("descriptor has a wrong checksum"))?;
        if !blocks.contains(group.inode_table, geometry.table_blocks()) {
            return Err(wrong("inode table is out of the file system"));
        }
        Ok(group)
    }
}
