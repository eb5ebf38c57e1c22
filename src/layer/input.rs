use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read};
use std::ops::Range;

use crate::buffer::chunk::{CHUNK_SIZE, Chunk, Pool};
use crate::error::{Error, Result};

/// The blob as it comes in, read in whole chunks and handed on byte by byte or in slices.
pub(super) struct Input<'t> {
    reader: Box<dyn Read + 't>,
    pool: Pool,
    /// The chunk being consumed, from `consumed` on.
    chunk: Chunk,
    consumed: usize,
    /// Bytes before `chunk`.
    before: u64,
    /// Chunks behind it that were read already.
    ahead: VecDeque<Chunk>,
    /// The error of reading on behind those.
    failed: Option<Error>,
    /// Bytes read so far.
    total: u64,
    /// A reader is not asked again after its end: a terminal would go on.
    ended: bool,
    tap: Option<Tap<'t>>,
}

/// Sees every chunk as it is read; its error ends the reading.
type Tap<'t> = Box<dyn FnMut(&Chunk) -> Result<()> + 't>;

impl<'t> Input<'t> {
    /// An input of these chunks alone.
    pub(super) fn of(chunks: Vec<Chunk>, pool: &Pool) -> Self {
        let total = chunks.iter().map(|chunk| chunk.len() as u64).sum();
        let mut ahead = VecDeque::from(chunks);
        Self {
            reader: Box::new(io::empty()),
            chunk: ahead.pop_front().unwrap_or_else(|| pool.get().freeze(0)),
            pool: pool.clone(),
            consumed: 0,
            before: 0,
            total,
            ahead,
            failed: None,
            ended: true,
            tap: None,
        }
    }

    /// Reads the first chunk, so that the caller can look at it.
    pub(super) fn new(reader: impl Read + 't, pool: Pool) -> Result<Self> {
        let mut input = Self {
            reader: Box::new(reader),
            chunk: pool.get().freeze(0),
            pool,
            consumed: 0,
            before: 0,
            ahead: VecDeque::new(),
            failed: None,
            total: 0,
            ended: false,
            tap: None,
        };
        input.fill()?;
        Ok(input)
    }

    /// The chunk being consumed, and where in the input it begins.
    pub(super) fn current(&self) -> (u64, Chunk) {
        (self.before, self.chunk.clone())
    }

    /// Reads a chunk before its turn, and says where in the input it begins. None at the end,
    /// or if reading fails, which is told in its turn.
    pub(super) fn look_ahead(&mut self) -> Option<(u64, Chunk)> {
        if self.failed.is_some() {
            return None;
        }
        let start = self.total;
        let chunk = match self.read_chunk() {
            Ok(chunk) => chunk?,
            Err(error) => {
                self.failed = Some(error);
                return None;
            }
        };
        self.ahead.push_back(chunk.clone());
        Some((start, chunk))
    }

    /// Whether the chunk being consumed is full: the input is no small one.
    pub(super) fn fills_a_chunk(&self) -> bool {
        self.chunk.len() == CHUNK_SIZE
    }

    /// Whether there is a chunk that was read before its turn.
    pub(super) fn is_ahead(&self) -> bool {
        !self.ahead.is_empty()
    }

    /// The chunks that hold this range of the input, as far as it has been read and not consumed.
    pub(super) fn slices(&self, range: Range<u64>) -> Vec<Chunk> {
        let mut slices = Vec::new();
        let mut start = self.before;
        for chunk in std::iter::once(&self.chunk).chain(&self.ahead) {
            let end = start + chunk.len() as u64;
            let (from, to) = (range.start.max(start), range.end.min(end));
            if from < to {
                slices.push(chunk.slice((from - start) as usize..(to - start) as usize));
            }
            start = end;
        }
        slices
    }

    /// Bytes not yet consumed; none only at the end of the input.
    pub(super) fn fill(&mut self) -> Result<&[u8]> {
        if self.consumed == self.chunk.len()
            && let Some(next) = self.next_in_turn()?
        {
            self.before += self.chunk.len() as u64;
            self.consumed = 0;
            if let Some(tap) = &mut self.tap {
                tap(&next)?;
            }
            self.chunk = next;
        }
        Ok(&self.chunk[self.consumed..])
    }

    /// Steps over bytes that `fill` gave.
    pub(super) fn consume(&mut self, bytes: usize) {
        self.consumed += bytes;
        debug_assert!(self.consumed <= self.chunk.len());
    }

    /// The rest of the chunk being consumed, or the whole next one.
    pub(super) fn next_chunk(&mut self) -> Result<Option<Chunk>> {
        if self.fill()?.is_empty() {
            return Ok(None);
        }
        let rest = self.chunk.slice(self.consumed..self.chunk.len());
        self.consumed = self.chunk.len();
        Ok(Some(rest))
    }

    /// Fills `bytes` as far as the input goes and says how far that is.
    pub(super) fn read(&mut self, bytes: &mut [u8]) -> Result<usize> {
        let mut filled = 0;
        while filled < bytes.len() {
            let available = self.fill()?;
            if available.is_empty() {
                break;
            }
            let len = available.len().min(bytes.len() - filled);
            bytes[filled..filled + len].copy_from_slice(&available[..len]);
            self.consume(len);
            filled += len;
        }
        Ok(filled)
    }

    /// Skips `bytes` bytes, or up to the end of the input. Returns the number skipped.
    pub(super) fn skip(&mut self, bytes: u64) -> Result<u64> {
        let mut skipped = 0;
        while skipped < bytes {
            let available = self.fill()?.len();
            if available == 0 {
                break;
            }
            let step = (bytes - skipped).min(available as u64);
            self.consume(step as usize);
            skipped += step;
        }
        Ok(skipped)
    }

    /// Where the next byte stands.
    pub(super) fn position(&self) -> u64 {
        self.before + self.consumed as u64
    }

    /// Bytes read so far, consumed or not.
    pub(super) fn total(&self) -> u64 {
        self.total
    }

    /// Shows the chunk being consumed and all that follow.
    pub(super) fn tap(&mut self, mut tap: Tap<'t>) -> Result<()> {
        tap(&self.chunk)?;
        self.tap = Some(tap);
        Ok(())
    }

    fn next_in_turn(&mut self) -> Result<Option<Chunk>> {
        match (self.ahead.pop_front(), self.failed.take()) {
            (Some(chunk), failed) => {
                self.failed = failed;
                Ok(Some(chunk))
            }
            (None, Some(error)) => Err(error),
            (None, None) => self.read_chunk(),
        }
    }

    /// A full chunk, or what is left before the end.
    fn read_chunk(&mut self) -> Result<Option<Chunk>> {
        if self.ended {
            return Ok(None);
        }
        let mut chunk = self.pool.get();
        let mut len = 0;
        while len < CHUNK_SIZE {
            match self.reader.read(&mut chunk[len..]) {
                Ok(0) => {
                    self.ended = true;
                    break;
                }
                Ok(read) => len += read.min(CHUNK_SIZE - len),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(Error::input(error).at_offset(self.total + len as u64)),
            }
        }
        self.total += len as u64;
        Ok((len > 0).then(|| chunk.freeze(len)))
    }
}
