//! Parts of a compressed input that other threads decode before their turn.
//!
//! Members of gzip and frames of zstd need nothing of what stands before them, nor do blocks
//! behind a full flush, as `pigz --independent` makes them. Where one of them may begin is seen
//! in the bytes. It may be an accident: what was made of a part counts only if decoding in
//! order arrives at its beginning, and if it ends where the next part begins. What does not
//! count is decoded in its turn, as is everything that is damaged. So the bytes, and whether an
//! input is refused, depend neither on what was found nor on the number of threads.

use std::collections::VecDeque;
use std::mem;
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use memchr::memmem;

use super::codec::{Codec, PartEnd, RestartPattern, RestartPoint};
use super::input::Input;
use crate::buffer::chunk::{CHUNK_SIZE, Chunk, Pool};
use crate::error::Result;

/// Threads that decode. More would outrun the one that digests.
pub(super) const HELPERS: usize = 2;

/// Parts that are being decoded or wait for their turn.
const PARTS: usize = HELPERS;

/// The least bytes of a part for which handing it over is worth it.
pub(crate) const PART_MIN: u64 = CHUNK_SIZE as u64;

/// The most bytes of a part.
const PART_MAX: u64 = 4 << 20;

/// The most bytes that a part may have uncompressed: frames of pzstd have 8 MiB.
const CONTENTS_MAX: usize = (8 << 20) + CHUNK_SIZE;

/// The most bytes that are read before their turn: of the part that is decoded in order, and of
/// those behind it.
const AHEAD_MAX: u64 = (PARTS as u64 + 1) * PART_MAX;

/// Chunks that are read at a time, so that the conversion is not kept waiting by a slow input.
const READS: usize = 2;

/// After this many useless parts in a row, the search pauses for `PAUSE` bytes.
const MISSES_MAX: u32 = 8;
const PAUSE: u64 = 32 << 20;

/// A part of the input, to be decoded.
pub(crate) struct DecodeTask {
    input: Vec<Chunk>,
    point: RestartPoint,
    decoded: Sender<Decoded>,
    /// Gone when the part was passed, or the conversion failed.
    wanted: Weak<()>,
}

/// A part after decoding.
pub(super) struct Decoded {
    pub chunks: Vec<Chunk>,
    pub end: PartEnd,
}

/// Decodes parts until no more come, by a decoder of this thread.
pub(crate) fn work(tasks: &Mutex<Receiver<DecodeTask>>, mut codec: Box<dyn Codec>, pool: &Pool) {
    loop {
        let task = tasks.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(task) = task else {
            return;
        };
        let decoded = task.decoded.clone();
        if let Some(part) = task.decode(&mut *codec, pool) {
            // The receiver is gone if the conversion failed.
            let _ = decoded.send(part);
        }
    }
}

impl DecodeTask {
    /// Decodes a part; none if it is not a whole number of what it seems to begin with.
    fn decode(self, codec: &mut dyn Codec, pool: &Pool) -> Option<Decoded> {
        let len = self.input.iter().map(|chunk| chunk.len() as u64).sum();
        let mut input = Input::of(self.input, pool);
        codec.begin(self.point);
        let (mut chunks, mut contents) = (Vec::new(), 0);
        while contents < CONTENTS_MAX && self.wanted.strong_count() > 0 {
            let chunk = codec.fill(&mut input, pool, Some(len)).ok()?;
            if chunk.is_empty() {
                return Some(Decoded {
                    chunks,
                    end: codec.end()?,
                });
            }
            contents += chunk.len();
            chunks.push(chunk);
        }
        None
    }
}

/// Where parts begin, and those that are under way.
pub(super) struct ParallelDecoder {
    patterns: Patterns,
    tasks: Sender<DecodeTask>,
    parts: VecDeque<Part>,
    /// Where the next part begins.
    open: Option<(u64, RestartPoint)>,
    /// The least bytes of a part.
    part_min: u64,
    /// Whether the chunk read before the first search is yet to be searched.
    at_start: bool,
    /// Whether a restart pattern was found, so that more may follow.
    seen: bool,
    misses: u32,
    /// Where looking begins again.
    resumes: u64,
    /// Parts that counted.
    #[cfg(test)]
    pub counted: usize,
}

struct Part {
    start: u64,
    end: u64,
    point: RestartPoint,
    decoded: Receiver<Decoded>,
    _wanted: Arc<()>,
}

impl ParallelDecoder {
    pub(super) fn new(patterns: Patterns, tasks: Sender<DecodeTask>, part_min: u64) -> Self {
        Self {
            patterns,
            tasks,
            parts: VecDeque::new(),
            open: None,
            part_min,
            at_start: true,
            seen: false,
            misses: 0,
            resumes: 0,
            #[cfg(test)]
            counted: 0,
        }
    }

    /// Reads on a bit for parts that can be decoded, if more of them may wait.
    pub(super) fn look(&mut self, input: &mut Input<'_>) {
        let position = input.position();
        while self.parts.front().is_some_and(|part| part.start < position) {
            self.parts.pop_front();
            self.miss(position);
        }
        self.open = self.open.filter(|(start, _)| *start >= position);
        if position < self.resumes {
            return;
        }
        if mem::take(&mut self.at_start) {
            let (start, chunk) = input.current();
            self.look_through(input, start, &chunk);
        }
        for _ in 0..READS {
            let is_ahead = input.total() - input.position();
            let wants_more = self.seen && self.parts.len() < PARTS && is_ahead < AHEAD_MAX;
            if input.is_ahead() && !wants_more {
                break;
            }
            let Some((start, chunk)) = input.look_ahead() else {
                break;
            };
            self.look_through(input, start, &chunk);
            let end = start + chunk.len() as u64;
            self.open = self.open.filter(|(start, _)| end - start <= PART_MAX);
        }
    }

    /// Where the first part begins that has not been passed.
    pub(super) fn next_start(&self) -> Option<u64> {
        self.parts.front().map(|part| part.start)
    }

    /// Cuts parts at the restart points of a chunk, which begins there in the input.
    fn look_through(&mut self, input: &Input<'_>, start: u64, chunk: &Chunk) {
        loop {
            let from = match self.open {
                Some((open, _)) => open + self.part_min,
                None => input.position(),
            };
            let from = usize::try_from(from.saturating_sub(start)).unwrap_or(usize::MAX);
            let Some((at, point)) = self.patterns.find(chunk, from) else {
                return;
            };
            self.seen = true;
            self.cut(input, start + at as u64, point);
        }
    }

    /// Ends a part, if one is open, and begins another.
    fn cut(&mut self, input: &Input<'_>, at: u64, point: RestartPoint) {
        if let Some((start, first)) = self.open.replace((at, point)) {
            let (decoded, result) = mpsc::channel();
            let wanted = Arc::new(());
            let task = DecodeTask {
                input: input.slices(start..at),
                point: first,
                decoded,
                wanted: Arc::downgrade(&wanted),
            };
            // Without helpers the part is not decoded, which is one that does not count.
            let _ = self.tasks.send(task);
            self.parts.push_back(Part {
                start,
                end: at,
                point: first,
                decoded: result,
                _wanted: wanted,
            });
        }
    }

    /// Waits for the pre-decoded part that starts at the current position and skips the input past
    /// it. `None` if there is none or the guess was wrong.
    pub(super) fn take(
        &mut self,
        point: RestartPoint,
        input: &mut Input<'_>,
    ) -> Result<Option<Decoded>> {
        let position = input.position();
        if self.next_start() != Some(position) {
            return Ok(None);
        }
        let Some(part) = self.parts.pop_front() else {
            return Ok(None);
        };
        // Receiving is an error if the part was not decoded to its end.
        let decoded = (part.point == point).then(|| part.decoded.recv().ok());
        let Some(decoded) = decoded.flatten() else {
            self.miss(position);
            return Ok(None);
        };
        self.misses = 0;
        #[cfg(test)]
        {
            self.counted += 1;
        }
        input.skip(part.end - part.start)?;
        Ok(Some(decoded))
    }

    fn miss(&mut self, position: u64) {
        self.misses += 1;
        if self.misses == MISSES_MAX {
            self.misses = 0;
            self.resumes = position + PAUSE;
            self.seen = false;
            self.open = None;
            self.parts.clear();
        }
    }
}

/// Finds positions that may be restart points.
pub(super) struct Patterns(Vec<(memmem::Finder<'static>, &'static RestartPattern)>);

impl Patterns {
    pub(super) fn new(patterns: &'static [RestartPattern]) -> Self {
        let finder =
            |pattern: &'static RestartPattern| (memmem::Finder::new(pattern.bytes), pattern);
        Self(patterns.iter().map(finder).collect())
    }

    /// The first position, from an index on, that may be a restart point. Patterns that lie across
    /// the ends of `bytes` are not found.
    fn find(&self, bytes: &[u8], from: usize) -> Option<(usize, RestartPoint)> {
        let found = self.0.iter().filter_map(|(finder, pattern)| {
            let from = from.saturating_sub(pattern.skip);
            let start = finder.find(bytes.get(from..)?)?;
            Some((from + start + pattern.skip, pattern.point))
        });
        found.min_by_key(|(at, _)| *at)
    }
}

#[cfg(test)]
mod tests;
