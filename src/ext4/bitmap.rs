//! Block and inode bitmaps.
//!
//! Source: Linux, Documentation/filesystems/ext4, "Block and inode Bitmaps".

use std::ops::Range;

use super::format::{BITS_PER_BLOCK, BLOCK_SIZE};

/// The bitmap of one group; a set bit is in use.
pub(crate) struct Bitmap([u8; BLOCK_SIZE]);

impl Bitmap {
    /// All in use: the bits past the end of the group stay so, as e2fsck wants them.
    pub(crate) fn full() -> Self {
        Self([0xff; BLOCK_SIZE])
    }

    /// Marks bits as free.
    pub(crate) fn clear(&mut self, bits: Range<u32>) {
        let end = bits.end.min(BITS_PER_BLOCK);
        let mut bit = bits.start;
        while bit < end {
            let byte = &mut self.0[(bit / 8) as usize];
            if bit.is_multiple_of(8) && end - bit >= 8 {
                *byte = 0;
                bit += 8;
            } else {
                *byte &= !(1 << (bit % 8));
                bit += 1;
            }
        }
    }

    pub(crate) fn bytes(&self) -> &[u8; BLOCK_SIZE] {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clears_just_the_bits_named() {
        for (start, end) in [
            (0, 0),
            (0, 1),
            (3, 7),
            (5, 29),
            (8, 16),
            (0, BITS_PER_BLOCK),
        ] {
            let mut bitmap = Bitmap::full();
            bitmap.clear(start..end);
            for bit in 0..BITS_PER_BLOCK {
                let used = bitmap.bytes()[(bit / 8) as usize] >> (bit % 8) & 1 == 1;
                assert_eq!(used, !(start..end).contains(&bit), "{start}..{end}: {bit}");
            }
        }
    }
}
