//! The blocks of a file system, wherever they are kept.

use crate::disk::Volume;
use crate::error::Result;

/// A file system's blocks, all of which are on the disk.
#[derive(Clone, Copy)]
pub(super) struct Blocks<'a> {
    pub disk: &'a Volume,
    pub block_size: usize,
    /// The number of blocks.
    pub count: u64,
}

impl Blocks<'_> {
    /// A number of adjacent blocks; the caller has made sure that they exist, and that their
    /// number is bounded.
    pub(super) fn read(&self, block: u64, count: usize) -> Result<Vec<u8>> {
        self.disk.read(self.offset(block), count * self.block_size)
    }

    /// Where a block of the file system starts on the disk.
    pub(super) fn offset(&self, block: u64) -> u64 {
        block * self.block_size as u64
    }

    /// Whether blocks are all of the file system, and none is the first, which holds no
    /// other than the superblock.
    pub(super) fn contains(&self, first: u64, count: u64) -> bool {
        first > 0
            && first
                .checked_add(count)
                .is_some_and(|end| end <= self.count)
    }
}

/// A little-endian number of two bytes.
pub(super) fn u16_at(bytes: &[u8], at: usize) -> u16 {
    bytes
        .get(at..)
        .and_then(<[u8]>::first_chunk)
        .map_or(0, |bytes| u16::from_le_bytes(*bytes))
}

/// A little-endian number of four bytes.
pub(super) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    bytes
        .get(at..)
        .and_then(<[u8]>::first_chunk)
        .map_or(0, |bytes| u32::from_le_bytes(*bytes))
}

/// A big-endian number of four bytes, as the journal has them.
pub(super) fn be32_at(bytes: &[u8], at: usize) -> u32 {
    bytes
        .get(at..)
        .and_then(<[u8]>::first_chunk)
        .map_or(0, |bytes| u32::from_be_bytes(*bytes))
}

pub(super) fn bit(bitmap: &[u8], at: usize) -> bool {
    bitmap
        .get(at / 8)
        .is_some_and(|byte| byte >> (at % 8) & 1 == 1)
}

pub(super) fn is_zero(bytes: &[u8]) -> bool {
    bytes.iter().fold(0, |sum, byte| sum | byte) == 0
}
