//! Memory that one goes on writing while others read what was written before.
#![expect(
    unsafe_code,
    reason = "no slice can be lent while the same memory is written behind it"
)]

use std::ops::{Deref, Range};
use std::ptr::{self, NonNull};
use std::slice;
use std::sync::Arc;

use crate::buffer::aligned::LINE;

/// Memory is asked for in pages of this size, as far as a segment fills them: a page of 4 KiB
/// takes microseconds when it is first written to.
const HUGE_PAGE: usize = 2 << 20;

/// Bytes that are written from the first to the last, the first of which begins a line of the
/// processor's cache. What was written may be lent, and does not change while anybody has it.
pub(crate) struct Segment {
    memory: Arc<Memory>,
    written: usize,
}

impl Segment {
    /// Memory of `len` bytes; none if there is none.
    pub(crate) fn new(len: usize) -> Option<Self> {
        Some(Self {
            memory: Arc::new(Memory::new(len)?),
            written: 0,
        })
    }

    pub(crate) fn len(&self) -> usize {
        self.memory.len
    }

    pub(crate) fn written(&self) -> usize {
        self.written
    }

    /// Bytes left to be written.
    pub(crate) fn room(&self) -> usize {
        self.memory.len - self.written
    }

    /// The unwritten rest, no part of which is lent: the owner of the segment may write
    /// there, until [`keep`](Self::keep). It may also read everything, while it has the segment.
    pub(crate) fn spare(&mut self) -> *mut [u8] {
        // SAFETY: it is at most the end of the memory.
        let start = unsafe { self.memory.start.add(self.written) };
        ptr::slice_from_raw_parts_mut(start.as_ptr(), self.room())
    }

    /// Counts `bytes` more bytes as written.
    ///
    /// # Panics
    /// When that are more than there is room for.
    pub(crate) fn keep(&mut self, bytes: usize) {
        assert!(bytes <= self.room(), "a segment has an end");
        self.written += bytes;
    }

    /// Lends what was written.
    ///
    /// # Panics
    /// When it was not.
    pub(crate) fn lend(&self, range: Range<usize>) -> Lent {
        assert!(
            range.start <= range.end && range.end <= self.written,
            "{range:?} is not written yet"
        );
        Lent {
            memory: Arc::clone(&self.memory),
            range,
        }
    }

    /// Begins anew, unless something is still lent.
    pub(crate) fn restart(&mut self) -> bool {
        let unused = Arc::get_mut(&mut self.memory).is_some();
        if unused {
            self.written = 0;
        }
        unused
    }
}

/// A part of a segment that does not change any more.
pub(crate) struct Lent {
    memory: Arc<Memory>,
    range: Range<usize>,
}

impl Deref for Lent {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        let Range { start, end } = self.range;
        // SAFETY: the bytes lie within the memory, which lives as long as `self` and held zeros
        // before anything else. They are before what its segment has written, where nobody
        // writes: a segment gives out what is behind for that, and begins anew only when
        // nothing of the memory is lent.
        unsafe { slice::from_raw_parts(self.memory.start.add(start).as_ptr(), end - start) }
    }
}

struct Memory {
    /// Where it begins, aligned within the zeros.
    start: NonNull<u8>,
    len: usize,
    _zeros: Zeros,
}

// SAFETY: it is memory and where it lies; who may read and write it, `Segment` and `Lent` see to.
unsafe impl Send for Memory {}
// SAFETY: see above.
unsafe impl Sync for Memory {}

impl Memory {
    fn new(len: usize) -> Option<Self> {
        let huge = match cfg!(target_os = "linux") {
            true => len / HUGE_PAGE * HUGE_PAGE,
            false => 0,
        };
        let alignment = if huge > 0 { HUGE_PAGE } else { LINE };
        // Aligned here, since the allocator would have to write the zeros of what it aligns.
        let mut zeros = zeros(len.checked_add(alignment)?)?;
        // Aligning is never an error, at worst it is not done.
        let offset = zeros.as_ptr().align_offset(alignment).min(alignment);
        #[cfg(target_os = "linux")]
        if huge > 0 {
            // Where there are none, it is as well without.
            let _ = zeros.advise_range(memmap2::Advice::HugePage, offset, huge);
        }
        Some(Self {
            start: NonNull::from(&mut zeros[offset..][..len]).cast(),
            len,
            _zeros: zeros,
        })
    }
}

/// Memory that takes no time before it is used.
#[cfg(target_os = "linux")]
type Zeros = memmap2::MmapMut;

#[cfg(not(target_os = "linux"))]
type Zeros = Vec<u8>;

#[cfg(target_os = "linux")]
fn zeros(len: usize) -> Option<Zeros> {
    memmap2::MmapOptions::new().len(len).map_anon().ok()
}

/// As `vec!` does, which aborts if there is no memory.
#[cfg(not(target_os = "linux"))]
fn zeros(len: usize) -> Option<Zeros> {
    use std::alloc::{Layout, alloc_zeroed};

    let layout = Layout::array::<u8>(len).ok()?;
    // SAFETY: the layout has a size: `len` counts what is spare.
    let start = NonNull::new(unsafe { alloc_zeroed(layout) })?;
    // SAFETY: it was allocated with the layout of a vector's bytes, and all of them are zero.
    Some(unsafe { Vec::from_raw_parts(start.as_ptr(), len, len) })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Writes `bytes` as a decoder would.
    fn write(segment: &mut Segment, bytes: &[u8]) -> Lent {
        let start = segment.written();
        let spare = segment.spare();
        assert!(bytes.len() <= spare.len());
        // SAFETY: it is the spare room of the segment, and there is enough of it.
        unsafe { ptr::copy_nonoverlapping(bytes.as_ptr(), spare.cast(), bytes.len()) };
        segment.keep(bytes.len());
        segment.lend(start..segment.written())
    }

    #[test]
    fn what_is_lent_stays_while_more_is_written() {
        let mut segment = Segment::new(10).unwrap();
        assert_eq!(segment.spare().cast::<u8>() as usize % LINE, 0);
        let first = write(&mut segment, b"first");
        let reader = std::thread::spawn(move || first.to_vec());
        let other = write(&mut segment, b"other");
        assert_eq!(reader.join().unwrap(), b"first");
        assert_eq!(*segment.lend(3..7), *b"stot");
        assert_eq!((segment.room(), segment.len()), (0, 10));
        assert!(!segment.restart());
        assert_eq!(segment.written(), 10);
        drop(other);
        assert!(segment.restart());
        assert_eq!(*write(&mut segment, b"again"), *b"again");
    }

    #[test]
    fn a_large_one_is_there_to_its_end() {
        for len in [HUGE_PAGE - 1, HUGE_PAGE, 2 * HUGE_PAGE + 5] {
            let bytes: Vec<_> = (0..len).map(|at| (at % 251) as u8).collect();
            let mut segment = Segment::new(len).unwrap();
            let start = segment.spare().cast::<u8>() as usize;
            let is_huge = cfg!(target_os = "linux") && len >= HUGE_PAGE;
            assert_eq!(start % if is_huge { HUGE_PAGE } else { LINE }, 0);
            assert!(*write(&mut segment, &bytes) == bytes);
            assert_eq!(segment.room(), 0);
        }
    }

    #[test]
    fn it_outlives_its_segment() {
        let mut segment = Segment::new(5).unwrap();
        let lent = write(&mut segment, b"bytes");
        drop(segment);
        assert_eq!(*lent, *b"bytes");
    }

    #[test]
    fn there_may_be_no_memory() {
        assert!(Segment::new(usize::MAX).is_none());
        assert!(Segment::new(isize::MAX as usize).is_none());
        // The largest size that may be asked for; no machine has that much.
        assert!(Segment::new(isize::MAX as usize - 2 * HUGE_PAGE).is_none());
    }

    #[test]
    #[should_panic(expected = "not written yet")]
    fn what_was_not_written_is_not_lent() {
        let mut segment = Segment::new(10).unwrap();
        let _ = write(&mut segment, b"bytes");
        let _ = segment.lend(3..6);
    }

    #[test]
    #[should_panic(expected = "has an end")]
    fn no_more_is_kept_than_there_is_room_for() {
        Segment::new(10).unwrap().keep(11);
    }
}
