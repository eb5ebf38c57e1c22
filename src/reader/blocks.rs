//! The blocks of a file system.

use super::damage::damaged;
use super::geometry::Geometry;
use crate::disk::Volume;
use crate::error::Result;

/// A file system's blocks, all of which are on the disk.
///
/// Everything that is read passes here: newer blocks that a journal holds are to be laid over
/// those of the disk at this place.
#[derive(Debug)]
pub(crate) struct Blocks {
    volume: Volume,
    pub(crate) geometry: Geometry,
}

impl Blocks {
    pub(super) fn new(volume: Volume, geometry: Geometry) -> Self {
        Self { volume, geometry }
    }

    /// Bytes of a block.
    pub(super) fn size(&self) -> usize {
        self.geometry.block_size as usize
    }

    /// Where a block starts on the disk.
    pub(super) fn offset(&self, block: u64) -> u64 {
        block.saturating_mul(self.geometry.block_size.into())
    }

    /// Whether blocks are of the file system. Block 0 is not: it has the superblock or what
    /// comes before it, and is what a field of zeros leads to.
    pub(super) fn contains(&self, first: u64, count: u64) -> bool {
        first > 0
            && first
                .checked_add(count)
                .is_some_and(|end| end <= self.geometry.blocks)
    }

    /// Fills `buffer` from the disk.
    pub(super) fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<()> {
        self.volume.read_at(offset, buffer)
    }

    /// Reads one block.
    pub(super) fn block(&self, number: u64) -> Result<Vec<u8>> {
        if !self.contains(number, 1) {
            return Err(damaged(format!("block {number} is out of the file system")));
        }
        let mut block = vec![0; self.size()];
        self.read_at(self.offset(number), &mut block)?;
        Ok(block)
    }
}
