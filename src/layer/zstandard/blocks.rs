//! The blocks of a frame, by the part of libzstd that leaves it to the caller where they go.
//!
//! Its streams keep a window of their own and copy all that they decode out of it. Here blocks
//! are decoded to where they stay: chunks are lent from there, and the blocks behind refer to
//! them there.
//!
//! A frame is decoded in runs, each of them without a gap. Of what is before a run libzstd sees
//! the one run before it ("Buffer-less streaming decompression" in zstd.h): the first one may be
//! short, since the next sees all that there is, the others are longer than the window. Matches
//! in the run before are slower to copy, so a long frame has long runs. How long they are depends
//! on the frame alone, so that what a broken frame refers to does not depend on where it lies.
#![expect(
    unsafe_code,
    reason = "libzstd keeps pointers to what it decoded before"
)]

use std::mem;
use std::ptr::NonNull;

use zstd::zstd_safe::{ErrorCode, zstd_sys};

use crate::buffer::chunk::Chunk;
use crate::buffer::segment::Segment;
use crate::error::{Error, Result};

/// The most bytes that a block has, RFC 8878, section 3.1.1.2.4.
pub(super) const BLOCK_MAX: usize = 128 << 10;

/// Room behind a block that libzstd may write to, to be fast; twice its `WILDCOPY_OVERLENGTH`.
const SLACK: usize = 64;

/// The room of a frame's first run, and the least of any other.
const RUN_MIN: usize = (1 << 20) + BLOCK_MAX + SLACK;

/// The least room for a run, by the number of frame bytes before it.
const LONG_RUN_MIN: usize = 12 << 20;

/// The number of smallest runs that fit a segment: small frames then waste little of it, and the
/// very first chunk is full.
const RUNS: usize = 2;

/// Bytes of segments that are kept for reuse; within a frame at least one segment, however large.
/// More are in use when readers lag behind.
const KEPT_MAX: usize = 9 << 20;

/// A frame as its header describes it.
#[derive(Clone, Copy)]
pub(super) struct Frame {
    /// The window: the longest distance of a match, in bytes.
    pub window: u64,
    /// Bytes of its contents, if the header states them.
    pub content: Option<u64>,
}

/// Decodes frames block by block.
pub(super) struct Blocks {
    context: NonNull<zstd_sys::ZSTD_DCtx>,
    /// Where blocks go.
    current: Segment,
    /// Those before, of which something may still be lent. The frame may refer to the last one.
    others: Vec<Segment>,
    /// The end of the bytes taken from the current segment.
    taken: usize,
    /// The start of the run, once there is one.
    run: Option<usize>,
    /// The room of the run, or of the next one if none has begun.
    run_room: usize,
    /// The least room of every run behind the frame's first.
    next_room: usize,
    /// Bytes of the frame in earlier runs.
    before: usize,
    /// The room that libzstd needs for any block of the frame.
    block_room: usize,
}

// SAFETY: the context belongs to this alone, and libzstd does not mind which thread uses it.
unsafe impl Send for Blocks {}

impl Blocks {
    pub(super) fn new() -> Result<Self> {
        // SAFETY: it asks for nothing.
        let context = NonNull::new(unsafe { zstd_sys::ZSTD_createDCtx() });
        let (Some(context), Some(current)) = (context, Segment::new(0)) else {
            return Err(Error::limit("no memory for the zstd decoder"));
        };
        // SAFETY: the context is one. What it expects next is set only here.
        unsafe { zstd_sys::ZSTD_decompressBegin(context.as_ptr()) };
        Ok(Self {
            context,
            current,
            others: Vec::new(),
            taken: 0,
            run: None,
            run_room: 0,
            next_room: 0,
            before: 0,
            block_room: 0,
        })
    }

    /// Ready for the header of this frame, whatever became of the one before.
    pub(super) fn begin(&mut self, frame: Frame) -> Result<()> {
        let content = frame.content.unwrap_or(u64::MAX);
        // It refers no further back than to its beginning.
        let window = usize::try_from(frame.window.min(content)).ok();
        let next = window.and_then(|window| window.checked_add(BLOCK_MAX + SLACK));
        self.next_room = next.ok_or_else(|| no_memory(frame.window))?.max(RUN_MIN);
        self.block_room = frame.window.min(BLOCK_MAX as u64) as usize + SLACK;
        let whole = content.saturating_add(self.block_room as u64);
        self.run_room = whole.min(RUN_MIN as u64) as usize;
        (self.run, self.before) = (None, 0);
        // SAFETY: the context is one.
        unsafe { zstd_sys::ZSTD_decompressBegin(self.context.as_ptr()) };
        self.drop_some(0);
        Ok(())
    }

    /// Bytes of input that libzstd needs next, at most [`BLOCK_MAX`]; 0 at the end of a frame.
    pub(super) fn next_input(&self) -> usize {
        // SAFETY: the context is one; it is not changed.
        unsafe { zstd_sys::ZSTD_nextSrcSizeToDecompress(self.context.as_ptr()) }
    }

    /// Whether there is room for a block behind what was not taken yet.
    pub(super) fn has_room(&self) -> bool {
        match self.run {
            None => self.run_room <= self.current.room(),
            Some(start) => self.current.written() - start + self.block_room <= self.run_room,
        }
    }

    /// Makes room for a run, once there is none for a block and everything was taken.
    pub(super) fn make_room(&mut self) -> Result<()> {
        assert_eq!(self.pending(), 0, "what was decoded has to be taken");
        debug_assert!(!self.has_room());
        if let Some(start) = self.run.take() {
            self.before = self.before.saturating_add(self.current.written() - start);
            self.run_room = match self.before {
                ..LONG_RUN_MIN => self.next_room,
                _ => self.next_room.max(LONG_RUN_MIN),
            };
        }
        // A run behind another one without a gap would be the same run to libzstd.
        if SLACK + self.run_room <= self.current.room() {
            self.current.keep(SLACK);
        } else {
            // The next run refers to the current segment alone.
            let next = self.unused()?;
            self.others.push(mem::replace(&mut self.current, next));
            self.drop_some(1);
        }
        self.taken = self.current.written();
        Ok(())
    }

    /// A segment with room for a run, of which nothing is lent.
    fn unused(&mut self) -> Result<Segment> {
        let len = self.run_room.max(RUNS * (RUN_MIN + SLACK));
        let fits = |segment: &mut Segment| segment.len() >= len && segment.restart();
        // The one that was used last may still be in the processor's cache.
        if let Some(found) = self.others.iter_mut().rposition(fits) {
            return Ok(self.others.remove(found));
        }
        Segment::new(len).ok_or_else(|| no_memory(len as u64))
    }

    /// Drops segments beyond the limit, but keeps the last `referred`.
    fn drop_some(&mut self, referred: usize) {
        while self.others.len() > referred && self.kept() > KEPT_MAX {
            self.others.remove(0);
        }
    }

    /// Bytes of all segments that are kept for reuse.
    fn kept(&self) -> usize {
        self.others.iter().map(Segment::len).sum()
    }

    /// Takes the next part of a frame's header, which is read in two, each of
    /// [`next_input`](Self::next_input) bytes.
    pub(super) fn header(&mut self, input: &[u8]) -> std::result::Result<(), ErrorCode> {
        self.go_on(input, 0).map(drop)
    }

    /// Decodes the next part of a frame, of [`next_input`](Self::next_input) bytes: the header
    /// of a block, or a block. Needs room. Says how many bytes it gave.
    pub(super) fn decode(&mut self, input: &[u8]) -> std::result::Result<usize, ErrorCode> {
        self.run.get_or_insert(self.current.written());
        self.go_on(input, self.block_room)
    }

    fn go_on(&mut self, input: &[u8], room: usize) -> std::result::Result<usize, ErrorCode> {
        // So it would be after an error, when libzstd expects nothing and looks all the same.
        assert!(!input.is_empty(), "there is no frame to go on with");
        let spare = self.current.spare();
        // SAFETY: libzstd reads all of `input` and at most that, and writes to the beginning
        // of the segment's spare room, at most `room` bytes of it. It reads what it wrote
        // since `begin`, no further back than to where the run before this one began: that run
        // is in this segment or in the last of the others, which is neither dropped nor written
        // to before this one has taken its place. What of the spare room it reads beyond holds
        // zeros or what was there before.
        let produced = unsafe {
            zstd_sys::ZSTD_decompressContinue(
                self.context.as_ptr(),
                spare.cast(),
                spare.len().min(room),
                input.as_ptr().cast(),
                input.len(),
            )
        };
        // SAFETY: it looks at the number alone.
        if unsafe { zstd_sys::ZSTD_isError(produced) } != 0 {
            return Err(produced);
        }
        self.current.keep(produced);
        Ok(produced)
    }

    /// Bytes decoded and not taken yet.
    pub(super) fn pending(&self) -> usize {
        self.current.written() - self.taken
    }

    /// Takes what was decoded.
    pub(super) fn take(&mut self) -> Chunk {
        let start = mem::replace(&mut self.taken, self.current.written());
        self.current.lend(start..self.taken).into()
    }
}

#[cfg(test)]
impl Blocks {
    /// Bytes of all segments.
    pub(super) fn memory(&self) -> usize {
        self.current.len() + self.kept()
    }
}

impl Drop for Blocks {
    fn drop(&mut self) {
        // SAFETY: the context is one, and not used again.
        unsafe { zstd_sys::ZSTD_freeDCtx(self.context.as_ptr()) };
    }
}

fn no_memory(bytes: u64) -> Error {
    Error::limit(format!("no {bytes} bytes of memory for the zstd decoder"))
}
