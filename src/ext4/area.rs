//! Alone decides where blocks go.
//!
//! Blocks of contents are given out in ascending order and never twice: until the file system is
//! finished, the sink gets one sequential stream.

use std::ops::Range;

use super::format::BLOCK_SIZE;
use crate::error::{Error, Result};

/// Takes blocks in: those never written read as zero.
pub(crate) trait BlockSink: Send {
    /// Writes whole blocks from a block number on.
    fn write(&mut self, block: u64, data: &[u8]) -> Result<()>;

    /// Writes a block of which `data` is the beginning, and the rest zero.
    fn write_padded(&mut self, block: u64, data: &[u8]) -> Result<()> {
        let mut bytes = [0; BLOCK_SIZE];
        bytes[..data.len()].copy_from_slice(data);
        self.write(block, &bytes)
    }
}

/// The part of the disk that is given out in ascending order.
pub(super) struct Area<S> {
    pub sink: S,
    pub next: u32,
    /// The number of allocated blocks.
    pub taken: u32,
    pub max_blocks: u64,
    /// The command's name for the option that sets it.
    pub size_option: &'static str,
    /// Runs that must not be allocated, in ascending order; `next` is in none of them.
    pub gaps: Vec<Range<u64>>,
    /// Runs that were skipped, because the contents did not fit in front of a gap.
    pub skipped: Vec<(u32, u32)>,
}

impl<S: BlockSink> Area<S> {
    /// Of the blocks from `next` on.
    pub(super) fn new(sink: S, next: u32, max_blocks: u64) -> Self {
        Self {
            sink,
            next,
            taken: 0,
            max_blocks,
            size_option: "max-size",
            gaps: Vec::new(),
            skipped: Vec::new(),
        }
    }

    /// Writes whole blocks to the next place and says where that is.
    pub(super) fn append(&mut self, data: &[u8]) -> Result<u32> {
        let start = self.reserve((data.len() / BLOCK_SIZE) as u64)?;
        self.sink.write(start.into(), data)?;
        Ok(start)
    }

    /// Takes the next blocks without writing them.
    pub(super) fn reserve(&mut self, blocks: u64) -> Result<u32> {
        if self.gaps.is_empty() {
            let end = u64::from(self.next) + blocks;
            if end > self.max_blocks {
                return Err(self.too_large());
            }
            self.taken += blocks as u32;
            return Ok(std::mem::replace(&mut self.next, end as u32));
        }
        let mut start = u64::from(self.next);
        for gap in &self.gaps {
            if gap.start < start || start + blocks <= gap.start {
                continue;
            }
            let skipped = gap.start - start;
            self.skipped.push((start as u32, skipped as u32));
            start = gap.end;
        }
        let end = start + blocks;
        if end > self.max_blocks {
            return Err(self.too_large());
        }
        self.next = match self.gaps.iter().find(|gap| gap.start == end) {
            Some(gap) => gap.end as u32,
            None => end as u32,
        };
        self.taken += blocks as u32;
        Ok(start as u32)
    }

    fn too_large(&self) -> Error {
        Error::limit("the file system would take more than its size allows")
            .allowed_by(self.size_option)
    }

    /// The number of `blocks` that fit contiguously at the next place.
    pub(super) fn adjacent(&self, blocks: u32) -> u32 {
        let next = u64::from(self.next);
        let gap = self.gaps.iter().find(|gap| gap.start >= next);
        gap.map_or(blocks, |gap| u64::from(blocks).min(gap.start - next) as u32)
    }
}
