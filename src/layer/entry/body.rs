//! The part of an entry behind its headers that is yet to be read.

use super::super::blocks::padding;
use super::super::header::BLOCK_SIZE;
use super::super::sparse::Segment;

/// The unread rest of the current entry behind its headers.
#[derive(Default)]
pub(super) struct Body {
    /// Runs of data in the file.
    pub(super) segments: Vec<Segment>,
    /// The segment being read.
    pub(super) next: usize,
    /// How far the file was read, of how many bytes.
    pub(super) position: u64,
    pub(super) size: u64,
    /// Bytes of data left in the archive.
    pub(super) stored: u64,
    /// Bytes behind them that fill their last block.
    pub(super) padding: u64,
}

impl Body {
    pub(super) fn begin(&mut self, stored: u64) {
        self.segments.clear();
        // A large map of the entry before does not stay.
        self.segments.shrink_to(1 << 12);
        (self.next, self.position, self.size) = (0, 0, 0);
        self.stored = stored;
        self.padding = padding(stored);
    }

    /// The first block of all was consumed.
    pub(super) fn consume_block(&mut self) {
        // Neither is near the limit of its type, and together they are whole blocks.
        let left = self.stored + self.padding - BLOCK_SIZE as u64;
        (self.stored, self.padding) = (left, 0);
    }
}
