//! Buffers that begin with a line of the processor's cache.
//!
//! Malloc puts large ones 16 bytes behind a page. The kernel copies with `rep movsb`, which takes
//! a third longer to such a place, and 3 % from there.

use std::ops::{Deref, DerefMut};

/// The bytes of a line.
pub(crate) const LINE: usize = 64;

/// Bytes that are aligned as long as no more come than there is room for.
#[derive(Default)]
pub(crate) struct Aligned {
    bytes: Vec<u8>,
    /// Where it begins to be aligned. Aligning is never an error, at worst it is not done.
    start: usize,
}

impl Aligned {
    /// `len` zero bytes.
    pub(crate) fn zeroed(len: usize) -> Self {
        let mut bytes = vec![0; len + LINE - 1];
        let start = bytes.as_ptr().align_offset(LINE).min(LINE - 1);
        bytes.truncate(start + len);
        Self { bytes, start }
    }

    /// No bytes, with room for `len`.
    pub(crate) fn with_capacity(len: usize) -> Self {
        let mut empty = Self::zeroed(len);
        empty.clear();
        empty
    }

    pub(crate) fn extend_from_slice(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    pub(crate) fn clear(&mut self) {
        self.bytes.truncate(self.start);
    }
}

impl Deref for Aligned {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes[self.start..]
    }
}

impl DerefMut for Aligned {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.bytes[self.start..]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_begins_with_a_line_and_keeps_what_comes() {
        for len in [0, 1, 64, 1000, 300_000] {
            let mut bytes = Aligned::zeroed(len);
            assert!(bytes.len() == len && bytes.iter().all(|byte| *byte == 0));
            bytes.fill(7);
            bytes.extend_from_slice(b"more");
            assert!(bytes[..len].iter().all(|byte| *byte == 7) && bytes[len..] == *b"more");

            let mut bytes = Aligned::with_capacity(len);
            for byte in [1, 2] {
                assert!(bytes.is_empty());
                bytes.extend_from_slice(&vec![byte; len]);
                assert_eq!(*bytes, *vec![byte; len]);
                assert_eq!(bytes.as_ptr() as usize % LINE, 0);
                bytes.clear();
            }
        }
    }
}
