//! Parts of a compressed input that other threads decode before their turn.
//!
//! Members of gzip and frames of zstd need nothing of what stands before them, nor do blocks
//! behind a full flush, as `pigz --independent` makes them. Where one of them may begin is seen
//! in the bytes. It may be an accident: what was made of a part counts only if decoding in
//! order arrives at its beginning, and if it ends where the next part begins. What does not
//! count is decoded in its turn, as is everything that is damaged. So the bytes, and whether an
//! input is refused, depend neither on what was found nor on the number of threads.

use std::collections::VecDeque;
use std::io::Read;
use std::mem;
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use memchr::memmem;

use super::decompress::{Engine, PartEnd};
use super::input::Input;
use crate::chunk::{CHUNK_SIZE, Chunk, Pool};
use crate::error::Result;

/// How many threads decode. More would be faster than the one that digests.
pub(super) const HELPERS: usize = 2;

/// Parts that are under way or wait for their turn.
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

/// After so many parts in a row that did not count, none are looked for in so many bytes.
const MISSES_MAX: u32 = 8;
const PAUSE: u64 = 32 << 20;

/// What begins at a place where decoding can begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Seam {
    /// A member or a frame.
    Whole,
    /// A block in a member.
    Block,
}

/// A part of the input, to be decoded.
pub(crate) struct Job {
    input: Vec<Chunk>,
    seam: Seam,
    decoded: Sender<Decoded>,
    /// Gone when the part was passed, or the conversion failed.
    wanted: Weak<()>,
}

/// What became of a part.
pub(super) struct Decoded {
    pub chunks: Vec<Chunk>,
    pub end: PartEnd,
}

/// Decodes parts until no more come, by an engine of this thread.
pub(crate) fn work(jobs: &Mutex<Receiver<Job>>, mut engine: Engine, pool: &Pool) {
    loop {
        let job = jobs.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok(job) = job else {
            return;
        };
        let decoded = job.decoded.clone();
        if let Some(part) = job.decode(&mut engine, pool) {
            // Nobody waits for it if the conversion failed.
            let _ = decoded.send(part);
        }
    }
}

impl Job {
    /// Decodes a part; none if it is not a whole number of what it seems to begin with.
    fn decode(self, engine: &mut Engine, pool: &Pool) -> Option<Decoded> {
        let len = self.input.iter().map(|chunk| chunk.len() as u64).sum();
        let mut input = Input::of(self.input, pool);
        engine.begin(self.seam);
        let (mut chunks, mut contents) = (Vec::new(), 0);
        while contents < CONTENTS_MAX && self.wanted.strong_count() > 0 {
            let chunk = engine.next(&mut input, pool, Some(len)).ok()?;
            if chunk.is_empty() {
                return Some(Decoded {
                    chunks,
                    end: engine.end()?,
                });
            }
            contents += chunk.len();
            chunks.push(chunk);
        }
        None
    }
}

/// Where parts begin, and those that are under way.
pub(super) struct Ahead {
    seams: Seams,
    jobs: Sender<Job>,
    parts: VecDeque<Part>,
    /// Where the next part begins.
    open: Option<(u64, Seam)>,
    /// The least bytes of a part.
    part_min: u64,
    /// What was read before the first look is not looked through yet.
    at_start: bool,
    /// A part may have begun somewhere: more may follow.
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
    seam: Seam,
    decoded: Receiver<Decoded>,
    _wanted: Arc<()>,
}

impl Ahead {
    pub(super) fn new(seams: Seams, jobs: Sender<Job>, part_min: u64) -> Self {
        Self {
            seams,
            jobs,
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
    pub(super) fn look<R: Read>(&mut self, input: &mut Input<'_, R>) {
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

    /// Cuts parts at the seams of a chunk, which begins there in the input.
    fn look_through<R: Read>(&mut self, input: &Input<'_, R>, start: u64, chunk: &Chunk) {
        loop {
            let from = match self.open {
                Some((open, _)) => open + self.part_min,
                None => input.position(),
            };
            let from = usize::try_from(from.saturating_sub(start)).unwrap_or(usize::MAX);
            let Some((at, seam)) = self.seams.find(chunk, from) else {
                return;
            };
            self.seen = true;
            self.cut(input, start + at as u64, seam);
        }
    }

    /// Ends a part, if one is open, and begins another.
    fn cut<R: Read>(&mut self, input: &Input<'_, R>, at: u64, seam: Seam) {
        if let Some((start, first)) = self.open.replace((at, seam)) {
            let (decoded, result) = mpsc::channel();
            let wanted = Arc::new(());
            let job = Job {
                input: input.slices(start..at),
                seam: first,
                decoded,
                wanted: Arc::downgrade(&wanted),
            };
            // Without helpers the part is not decoded, which is one that does not count.
            let _ = self.jobs.send(job);
            self.parts.push_back(Part {
                start,
                end: at,
                seam: first,
                decoded: result,
                _wanted: wanted,
            });
        }
    }

    /// What was made of the part that begins where the input stands, with `seam`, as soon as it
    /// is done; steps over the part. None if there is none, or it does not count.
    pub(super) fn take<R: Read>(
        &mut self,
        seam: Seam,
        input: &mut Input<'_, R>,
    ) -> Result<Option<Decoded>> {
        let position = input.position();
        if self.next_start() != Some(position) {
            return Ok(None);
        }
        let Some(part) = self.parts.pop_front() else {
            return Ok(None);
        };
        // Receiving is an error if the part was not decoded to its end.
        let decoded = (part.seam == seam).then(|| part.decoded.recv().ok());
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

/// Finds what parts may begin with.
pub(super) struct Seams(Vec<Pattern>);

struct Pattern {
    finder: memmem::Finder<'static>,
    seam: Seam,
    /// How far behind the beginning of the pattern it is.
    skip: usize,
}

impl Seams {
    /// Of gzip: headers of members, and two empty stored blocks, of which a full flush by pigz
    /// consists: the last bytes of one and the other.
    pub(super) fn gzip() -> Self {
        const FLUSH: &[u8] = &[0, 0, 0xff, 0xff, 0, 0, 0, 0xff, 0xff];
        Self(vec![
            Pattern::new(&[0x1f, 0x8b, 8], Seam::Whole, 0),
            Pattern::new(FLUSH, Seam::Block, FLUSH.len()),
        ])
    }

    /// Of zstd: frames that are not to be skipped.
    pub(super) fn zstd() -> Self {
        let magic = &[0x28, 0xb5, 0x2f, 0xfd];
        Self(vec![Pattern::new(magic, Seam::Whole, 0)])
    }

    /// Where the first part may begin, from an index on. What lies across the ends of `bytes`
    /// is not found.
    fn find(&self, bytes: &[u8], from: usize) -> Option<(usize, Seam)> {
        let found = self.0.iter().filter_map(|pattern| {
            let from = from.saturating_sub(pattern.skip);
            let start = pattern.finder.find(bytes.get(from..)?)?;
            Some((from + start + pattern.skip, pattern.seam))
        });
        found.min_by_key(|(at, _)| *at)
    }
}

impl Pattern {
    fn new(bytes: &'static [u8], seam: Seam, skip: usize) -> Self {
        Self {
            finder: memmem::Finder::new(bytes),
            seam,
            skip,
        }
    }
}

#[cfg(test)]
mod tests;
