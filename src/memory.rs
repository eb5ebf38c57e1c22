//! Memory for what a layer travels in: in huge pages, where there are any.
#![expect(
    unsafe_code,
    reason = "several have parts of the same memory, each its own"
)]

use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;
use std::slice;
use std::sync::Arc;

use memmap2::{MmapMut, MmapOptions};

/// Memory is asked for in pages of this size, as far as it fills them: a page of 4 KiB takes
/// microseconds when it is first written to.
pub(crate) const HUGE_PAGE: usize = 2 << 20;

/// Zeros at first. Who may read and write where, those see to who have it.
pub(crate) struct Memory {
    /// Where it begins, aligned within what is mapped.
    start: NonNull<u8>,
    len: usize,
    _map: MmapMut,
}

// SAFETY: it is memory and where it lies, and nothing here reads or writes it.
unsafe impl Send for Memory {}
// SAFETY: see above.
unsafe impl Sync for Memory {}

impl Memory {
    /// Memory of `len` bytes, which begins with a page; none if there is none.
    pub(crate) fn new(len: usize) -> Option<Self> {
        // Mappings begin with a page, which is aligned enough where no huge page fits in.
        let huge = len / HUGE_PAGE * HUGE_PAGE;
        let spare = if huge > 0 { HUGE_PAGE } else { 0 };
        let mut map = MmapOptions::new()
            .len(len.checked_add(spare)?)
            .map_anon()
            .ok()?;
        let offset = match huge {
            0 => 0,
            // Aligning is never an error, at worst it is not done.
            _ => map.as_ptr().align_offset(HUGE_PAGE).min(spare),
        };
        #[cfg(target_os = "linux")]
        if huge > 0 {
            // Where there are none, it is as well without.
            let _ = map.advise_range(memmap2::Advice::HugePage, offset, huge);
        }
        Some(Self {
            start: NonNull::from(&mut map[offset..][..len]).cast(),
            len,
            _map: map,
        })
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Where it begins: `len` bytes from there may be read and written while this lives.
    pub(crate) fn start(&self) -> NonNull<u8> {
        self.start
    }
}

/// A part of some memory that belongs to whoever has this.
pub(crate) struct Piece {
    start: NonNull<u8>,
    len: usize,
    _memory: Arc<Memory>,
}

// SAFETY: nobody else reads or writes it.
unsafe impl Send for Piece {}
// SAFETY: who shares it only reads it.
unsafe impl Sync for Piece {}

impl Piece {
    /// As many pieces of `len` bytes as a huge page has room for; none if there is no memory.
    pub(crate) fn several(len: usize) -> Vec<Self> {
        let Some(memory) = Memory::new(HUGE_PAGE).map(Arc::new) else {
            return Vec::new();
        };
        let starts = (0..HUGE_PAGE / len).map(|number| number * len);
        let piece = |start| Self {
            // SAFETY: the piece that begins there is within the memory.
            start: unsafe { memory.start.add(start) },
            len,
            _memory: Arc::clone(&memory),
        };
        starts.map(piece).collect()
    }
}

impl Deref for Piece {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: the piece is within the memory, which lives as long as `self` and held zeros
        // before anything else. No other piece has a byte of it, and the memory is nowhere else.
        unsafe { slice::from_raw_parts(self.start.as_ptr(), self.len) }
    }
}

impl DerefMut for Piece {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: see above.
        unsafe { slice::from_raw_parts_mut(self.start.as_ptr(), self.len) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_begins_with_a_page() {
        for len in [0, 1, 4096, HUGE_PAGE - 1, HUGE_PAGE, 2 * HUGE_PAGE + 1] {
            let memory = Memory::new(len).unwrap();
            assert_eq!(memory.len(), len);
            assert_eq!(memory.start().as_ptr() as usize % 4096, 0);
        }
        let huge = Memory::new(HUGE_PAGE).unwrap();
        assert_eq!(huge.start().as_ptr() as usize % HUGE_PAGE, 0);
    }

    #[test]
    fn pieces_have_nothing_in_common() {
        let len = 300_000;
        let mut pieces = Piece::several(len);
        assert_eq!(pieces.len(), 6);
        for (number, piece) in (1..).zip(&mut pieces) {
            assert!(piece.len() == len && piece.iter().all(|byte| *byte == 0));
            piece.fill(number);
        }
        let last = pieces.pop().unwrap();
        for (number, piece) in (1..).zip(&pieces) {
            assert!(piece.iter().all(|byte| *byte == number));
        }
        drop(pieces);
        assert!(last.iter().all(|byte| *byte == 6));
    }
}
