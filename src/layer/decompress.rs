//! The blob's compression: found by its first bytes, undone chunk by chunk.

use std::io::Read;
use std::sync::mpsc;
use std::sync::{Arc, Mutex};
use std::vec;

use super::codec::{Codec, Config, Format, name_of, unsupported};
use super::input::Input;
use super::model::ChunkSource;
use super::parallel::{self, ParallelDecoder, Patterns};
use super::{gzip, header, zstandard};
use crate::buffer::chunk::{Chunk, Pool};
use crate::error::{Error, ErrorKind, Result};
use crate::summary::Compression;

/// The compressions that are decoded.
const FORMATS: [Format; 2] = [gzip::FORMAT, zstandard::FORMAT];

/// The largest zstd window of frames that others decode, each with one of its own: that of
/// pzstd.
const HELPERS_MAX_WINDOW: u64 = 2 << 20;

/// Turns a blob into the uncompressed layer, and verifies every checksum on the way.
pub(crate) struct Decoder<'t> {
    input: Input<'t>,
    pool: Pool,
    /// The format of the blob and its decoder; `None` for a plain tar.
    codec: Option<(&'static Format, Box<dyn Codec>)>,
    config: Config,
    /// No uncompressed chunk was handed out yet.
    at_start: bool,
    /// Parts that others decode before their turn.
    ahead: Option<ParallelDecoder>,
    /// Chunks of such a part.
    decoded: vec::IntoIter<Chunk>,
}

impl<'t> Decoder<'t> {
    /// Reads the beginning of `input` to find its format, which must be the expected one if
    /// that is given. An input of no bytes has no format and contradicts nothing.
    pub(crate) fn new(input: impl Read + 't, config: Config, pool: Pool) -> Result<Self> {
        let mut input = Input::new(input, pool.clone())?;
        let start = input.fill()?;
        let empty = start.is_empty();
        let codec = match format_of(start) {
            Some(format) => Some((format, (format.codec)(config)?)),
            None => match name_of(start) {
                Some(name) if !header::starts_with_header(start) => {
                    return Err(unsupported(name, 0));
                }
                _ => None,
            },
        };
        let decoder = Self {
            input,
            pool,
            codec,
            config,
            at_start: true,
            ahead: None,
            decoded: vec::IntoIter::default(),
        };
        match config.expected {
            Some(expected) if !empty && expected != decoder.compression() => Err(Error::new(
                ErrorKind::Mismatch,
                format!(
                    "the input is {}, not {} as was expected",
                    name(decoder.compression()),
                    name(expected)
                ),
            )),
            _ => Ok(decoder),
        }
    }

    pub(crate) fn compression(&self) -> Compression {
        match &self.codec {
            None => Compression::None,
            Some((format, _)) => format.compression,
        }
    }

    /// Lets other threads decode parts of a compressed input before their turn, if the input is
    /// not a small one. A part has at least `part_min` bytes. `spawn` starts a thread and says
    /// whether it could; the threads end with the decoder.
    pub(crate) fn look_ahead(
        &mut self,
        part_min: u64,
        mut spawn: impl FnMut(Box<dyn FnOnce() + Send>) -> bool,
    ) {
        let Some((format, _)) = &self.codec else {
            return;
        };
        if !self.input.fills_a_chunk() {
            return;
        }
        let config = Config {
            max_window: self.config.max_window.min(HELPERS_MAX_WINDOW),
            ..self.config
        };
        let patterns = Patterns::new(format.restart_patterns);
        let (tasks, queue) = mpsc::channel();
        let queue = Arc::new(Mutex::new(queue));
        for _ in 0..parallel::HELPERS {
            // They are not needed: no memory for them is no error.
            let Ok(codec) = (format.codec)(config) else {
                return;
            };
            let (queue, pool) = (Arc::clone(&queue), self.pool.clone());
            if !spawn(Box::new(move || parallel::work(&queue, codec, &pool))) {
                // Helpers that were started before end with the queue.
                return;
            }
        }
        self.ahead = Some(ParallelDecoder::new(patterns, tasks, part_min));
    }

    /// The next uncompressed chunk. The end is told only after everything to the end of the
    /// input was verified.
    pub(crate) fn next_chunk(&mut self) -> Result<Option<Chunk>> {
        let Some((_, codec)) = &mut self.codec else {
            return self.input.next_chunk();
        };
        // The first chunk is decoded in order, so that its check does not depend on where parts begin.
        if std::mem::take(&mut self.at_start) {
            let chunk = codec.fill(&mut self.input, &self.pool, None)?;
            if let Some(inner) = name_of(&chunk)
                && !header::starts_with_header(&chunk)
            {
                let outer = name(self.compression());
                return Err(unsupported(&format!("{inner} inside {outer}"), 0));
            }
            return Ok((!chunk.is_empty()).then_some(chunk));
        }
        loop {
            if let Some(ahead) = &mut self.ahead {
                ahead.look(&mut self.input);
            }
            if let Some(chunk) = self.decoded.next() {
                return Ok(Some(chunk));
            }
            let mut stop = None;
            if let Some(ahead) = &mut self.ahead {
                if let Some(point) = codec.restart_point()
                    && let Some(part) = ahead.take(point, &mut self.input)?
                {
                    codec.skip_part(part.end);
                    self.decoded = part.chunks.into_iter();
                    continue;
                }
                stop = ahead.next_start();
            }
            let chunk = codec.fill(&mut self.input, &self.pool, stop)?;
            if !chunk.is_empty() {
                return Ok(Some(chunk));
            }
            // Parts have bytes: there is no end where one begins.
            if stop != Some(self.input.position()) {
                return Ok(None);
            }
        }
    }

    /// Shows all chunks of a compressed input as they are read, also where they give no
    /// output for long; an error of `tap` ends the decoding. Those of a plain tar are not
    /// shown: the uncompressed chunks are the input.
    pub(crate) fn tap(&mut self, tap: impl FnMut(&Chunk) -> Result<()> + 't) -> Result<()> {
        match self.codec {
            Some(_) => self.input.tap(Box::new(tap)),
            None => Ok(()),
        }
    }

    /// Parts that others decoded.
    #[cfg(test)]
    pub(super) fn counted(&self) -> usize {
        self.ahead.as_ref().map_or(0, |ahead| ahead.counted)
    }

    /// Bytes read from the input so far.
    pub(crate) fn input_bytes(&self) -> u64 {
        self.input.total()
    }
}

impl ChunkSource for Decoder<'_> {
    fn next_chunk(&mut self) -> Result<Option<Chunk>> {
        Decoder::next_chunk(self)
    }
}

fn name(compression: Compression) -> &'static str {
    match compression {
        Compression::None => "a plain tar",
        compressed => FORMATS
            .iter()
            .find(|format| format.compression == compressed)
            .map_or("of another compression", |format| format.name),
    }
}

/// The format of a compressed stream.
fn format_of(start: &[u8]) -> Option<&'static Format> {
    FORMATS.iter().find(|format| (format.matches)(start))
}

#[cfg(test)]
mod tests;
