//! The one place that maps a file into memory.
#![expect(
    unsafe_code,
    reason = "a map is sound only while nobody changes the file, which no type can say"
)]

use std::fs::File;
use std::io;

use memmap2::{Mmap, MmapOptions};

/// Maps the first `len` bytes of `file`.
///
/// A file that is made shorter while it is mapped kills the process, and one that is written
/// to shows other bytes from one look to the next. Hence only what is read for a report is
/// mapped, never the input of a conversion.
pub(super) fn map(file: &File, len: usize) -> io::Result<Mmap> {
    // SAFETY: nothing here relies on two reads of one byte agreeing: no unsafe code looks at
    // the bytes, and they are validated and used through ordinary checked slices.
    unsafe { MmapOptions::new().len(len).map(file) }
}
