use super::header::BLOCK_SIZE;
use super::model::ChunkSource;
use crate::buffer::chunk::Chunk;
use crate::error::{Error, Result};

/// The uncompressed layer as a row of bytes: copied out for headers, sliced for data.
/// Its only errors are those of the source.
pub(super) struct Blocks<S> {
    source: S,
    /// The chunk being consumed, from `consumed` on.
    chunk: Option<Chunk>,
    consumed: usize,
    offset: u64,
    failed: bool,
}

impl<S: ChunkSource> Blocks<S> {
    pub(super) fn new(source: S) -> Self {
        Self {
            source,
            chunk: None,
            consumed: 0,
            offset: 0,
            failed: false,
        }
    }

    /// Where the next byte stands.
    pub(super) fn offset(&self) -> u64 {
        self.offset
    }

    /// Whether the source returned an error.
    pub(super) fn failed(&self) -> bool {
        self.failed
    }

    /// Fills `block` as far as the layer goes and says how far that is.
    pub(super) fn read(&mut self, block: &mut [u8; BLOCK_SIZE]) -> Result<usize> {
        let mut filled = 0;
        while filled < BLOCK_SIZE {
            let Some((chunk, start)) = self.fill()? else {
                break;
            };
            let len = (chunk.len() - start).min(BLOCK_SIZE - filled);
            block[filled..filled + len].copy_from_slice(&chunk[start..start + len]);
            filled += len;
            self.consume(len);
        }
        Ok(filled)
    }

    /// The next bytes, `most` of them or fewer; none at the end of the layer.
    pub(super) fn take(&mut self, most: u64) -> Result<Option<Chunk>> {
        let Some((chunk, start)) = self.fill()? else {
            return Ok(None);
        };
        let len = most.min((chunk.len() - start) as u64) as usize;
        let part = chunk.slice(start..start + len);
        self.consume(len);
        Ok(Some(part))
    }

    /// Skips `bytes` bytes. Returns false if the layer ends first.
    pub(super) fn skip(&mut self, mut bytes: u64) -> Result<bool> {
        while bytes > 0 {
            let Some((chunk, start)) = self.fill()? else {
                return Ok(false);
            };
            let len = bytes.min((chunk.len() - start) as u64);
            self.consume(len as usize);
            bytes -= len;
        }
        Ok(true)
    }

    /// Appends what follows to `bytes`, up to a length of `most`, as far as the layer goes.
    pub(super) fn append(&mut self, bytes: &mut Vec<u8>, most: usize) -> Result<()> {
        while bytes.len() < most {
            let Some(part) = self.take((most - bytes.len()) as u64)? else {
                break;
            };
            bytes.extend_from_slice(&part);
        }
        Ok(())
    }

    /// Steps over zeros; false if there is nothing else up to the end of the layer.
    pub(super) fn skip_zeros(&mut self) -> Result<bool> {
        loop {
            let Some((chunk, start)) = self.fill()? else {
                return Ok(false);
            };
            let zeros = leading_zeros(&chunk[start..]);
            let found = start + zeros < chunk.len();
            self.consume(zeros);
            if found {
                return Ok(true);
            }
        }
    }

    /// Steps over all that is left.
    pub(super) fn skip_all(&mut self) -> Result<()> {
        while let Some((chunk, start)) = self.fill()? {
            let len = chunk.len() - start;
            self.consume(len);
        }
        Ok(())
    }

    /// Reads to the end of the layer and gives the source back.
    pub(super) fn drain(mut self) -> Result<S> {
        self.skip_all()?;
        Ok(self.source)
    }

    /// A chunk and where its unconsumed bytes, at least one, begin; none at the end.
    fn fill(&mut self) -> Result<Option<(&Chunk, usize)>> {
        while self
            .chunk
            .as_ref()
            .is_none_or(|chunk| self.consumed == chunk.len())
        {
            // The old chunk goes back to the pool before the source asks it for another.
            self.chunk = None;
            self.consumed = 0;
            self.chunk = match self.source.next_chunk() {
                Ok(Some(chunk)) => Some(chunk),
                Ok(None) => return Ok(None),
                Err(error) => {
                    self.failed = true;
                    return Err(error);
                }
            };
        }
        Ok(self.chunk.as_ref().map(|chunk| (chunk, self.consumed)))
    }

    fn consume(&mut self, bytes: usize) {
        self.consumed += bytes;
        self.offset += bytes as u64;
    }
}

/// The number of zero bytes at the start.
fn leading_zeros(bytes: &[u8]) -> usize {
    // Folding whole pieces lets the compiler use vector instructions.
    const PIECE: usize = 1024;
    let is_zero = |piece: &[u8]| piece.iter().fold(0, |all, byte| all | byte) == 0;
    let pieces = bytes.chunks(PIECE).take_while(|piece| is_zero(piece));
    let whole = (pieces.count() * PIECE).min(bytes.len());
    let rest = &bytes[whole..];
    whole
        + rest
            .iter()
            .position(|byte| *byte != 0)
            .unwrap_or(rest.len())
}
/// Bytes of padding behind `bytes` bytes of contents.
pub(super) fn padding(bytes: u64) -> u64 {
    bytes.wrapping_neg() % BLOCK_SIZE as u64
}

pub(super) fn truncated(what: &str) -> Error {
    Error::corrupt(format!("the layer ends inside {what}"))
}
