use std::io::{ErrorKind, Read};

use crate::chunk::{CHUNK_SIZE, Chunk, Pool};
use crate::error::{Error, Result};

/// The blob as it comes in, read in whole chunks and handed on byte by byte or in slices.
pub(super) struct Input<'t, R> {
    reader: R,
    pool: Pool,
    /// The chunk being consumed, from `consumed` on.
    chunk: Chunk,
    consumed: usize,
    /// Bytes before `chunk`.
    before: u64,
    /// Bytes read so far.
    total: u64,
    /// A reader is not asked again after its end: a terminal would go on.
    ended: bool,
    tap: Option<Tap<'t>>,
}

/// Sees every chunk as it is read; its error ends the reading.
type Tap<'t> = Box<dyn FnMut(&Chunk) -> Result<()> + 't>;

impl<'t, R: Read> Input<'t, R> {
    /// Reads the first chunk, so that the caller can look at it.
    pub(super) fn new(reader: R, pool: Pool) -> Result<Self> {
        let mut input = Self {
            reader,
            chunk: pool.get().freeze(0),
            pool,
            consumed: 0,
            before: 0,
            total: 0,
            ended: false,
            tap: None,
        };
        input.fill()?;
        Ok(input)
    }

    /// Bytes not yet consumed; none only at the end of the input.
    pub(super) fn fill(&mut self) -> Result<&[u8]> {
        if self.consumed == self.chunk.len()
            && let Some(next) = self.read_chunk()?
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

    /// What is left of the chunk being consumed, or the next one, whole.
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

    /// Steps over so many bytes, or to the end of the input; says how many those were.
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
