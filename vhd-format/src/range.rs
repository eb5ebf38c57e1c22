//! Ranges of the virtual disk and of the file.

use std::ops::Range;

use crate::{Error, Result};

pub(crate) fn check_range(virtual_size: u64, offset: u64, len: usize) -> Result<()> {
    match offset.checked_add(len as u64) {
        Some(end) if end <= virtual_size => Ok(()),
        _ => Err(Error::input(format!(
            "{len} bytes at {offset} of a disk of {virtual_size} bytes"
        ))),
    }
}

/// Whether there is nothing but zeros.
pub(crate) fn is_zero(data: &[u8]) -> bool {
    // Folding whole pieces lets the compiler use vector instructions.
    let mut pieces = data.chunks(1024);
    pieces.all(|piece| piece.iter().fold(0, |sum, byte| sum | byte) == 0)
}

/// The first error of a check that reports many.
pub(crate) fn first_error(check: impl FnOnce(&mut dyn FnMut(Error)) -> Result<()>) -> Result<()> {
    let mut first = None;
    check(&mut |error| {
        first.get_or_insert(error);
    })?;
    first.map_or(Ok(()), Err)
}

/// Ranges of the file that are in use, to be found apart from each other.
pub(crate) struct Ranges {
    ranges: Vec<(u64, u64)>,
    most: u64,
}

impl Ranges {
    /// Of a file of `size` bytes that holds ranges of at least `unit` bytes each: more of them
    /// than fit are not kept, for then some overlap anyway.
    pub(crate) fn new(size: u64, unit: u64) -> Self {
        Self {
            ranges: Vec::new(),
            most: size / unit + 1,
        }
    }

    pub(crate) fn add(&mut self, start: u64, end: u64) {
        if self.ranges.len() as u64 <= self.most {
            self.ranges.push((start, end));
        }
    }

    /// Reports every range that starts within another; returns the end of them all.
    pub(crate) fn check(mut self, report: &mut dyn FnMut(Error)) -> u64 {
        self.ranges.sort_unstable();
        let mut last_end = 0;
        for (start, end) in self.ranges {
            if start < last_end {
                let message = "a block lies over another or over a structure";
                report(Error::overlap(message).at(start));
            }
            last_end = last_end.max(end);
        }
        last_end
    }
}

/// A run of the virtual disk that is all data or all zeros.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Extent {
    /// Whether it may be anything but zeros.
    pub data: bool,
    /// Where that ends, as an offset in the virtual disk.
    pub end: u64,
}

/// A part of a range that lies in one block.
pub(crate) struct Piece {
    pub(crate) block: u64,
    /// Where in the block the part starts.
    pub(crate) within: u64,
    /// Which bytes of the whole range it is.
    pub(crate) range: Range<usize>,
}

/// Cuts a range of the virtual disk at the borders of blocks.
pub(crate) fn pieces(offset: u64, len: usize, block_size: u32) -> impl Iterator<Item = Piece> {
    let block_size = u64::from(block_size);
    let mut done = 0;
    std::iter::from_fn(move || {
        if done == len {
            return None;
        }
        let position = offset + done as u64;
        let within = position % block_size;
        let size = (block_size - within).min((len - done) as u64) as usize;
        let start = done;
        done += size;
        Some(Piece {
            block: position / block_size,
            within,
            range: start..done,
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zeros_are_told_from_others() {
        for len in [0, 1, 1023, 1024, 1025, 5000] {
            let mut data = vec![0; len];
            assert!(is_zero(&data));
            for place in [0, len / 2, len.saturating_sub(1)] {
                if let Some(byte) = data.get_mut(place) {
                    *byte = 0x80;
                    assert!(!is_zero(&data));
                    data[place] = 0;
                }
            }
        }
    }

    #[test]
    fn ranges_are_cut_at_blocks() {
        let cut = |offset, len| -> Vec<_> {
            let pieces = pieces(offset, len, 10);
            pieces.map(|p| (p.block, p.within, p.range)).collect()
        };
        assert_eq!(cut(5, 0), []);
        assert_eq!(cut(5, 5), [(0, 5, 0..5)]);
        assert_eq!(cut(5, 20), [(0, 5, 0..5), (1, 0, 5..15), (2, 0, 15..20)]);
    }

    #[test]
    fn overlaps_are_reported_once_each() {
        let mut ranges = Ranges::new(1000, 10);
        for (start, end) in [(50, 60), (0, 40), (10, 20), (30, 45), (45, 50)] {
            ranges.add(start, end);
        }
        let mut places = Vec::new();
        let end = ranges.check(&mut |error| places.push(error.offset()));
        assert_eq!(places, [Some(10), Some(30)]);
        assert_eq!(end, 60);
    }
}
