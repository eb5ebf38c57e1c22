//! The blob's compression: found by its first bytes, undone chunk by chunk.

use std::io::Read;
use std::sync::mpsc;
use std::sync::{Arc, Mutex};
use std::vec;

use super::ahead::{self, Ahead, Seam, Seams};
use super::entry::ChunkSource;
use super::gzip::{Gzip, InMember};
use super::header;
use super::input::Input;
use super::zstandard::Zstd;
use crate::chunk::{Chunk, Pool};
use crate::error::{Error, ErrorKind, Result};
use crate::options::Inflater;
use crate::signature;
use crate::summary::Compression;

/// The largest zstd window of frames that others decode, each with one of its own: that of
/// pzstd.
const HELPERS_MAX_WINDOW: u64 = 2 << 20;

/// What a part of a stream ends with that another decoder has done: of gzip, what of a member
/// is in the part, if that is not whole.
pub(super) type PartEnd = Option<InMember>;

/// Turns a blob into the uncompressed layer, and verifies every checksum on the way.
pub(crate) struct Decoder<'t, R> {
    input: Input<'t, R>,
    pool: Pool,
    /// None for a plain tar.
    engine: Option<Engine>,
    config: Config,
    /// No uncompressed chunk was handed out yet.
    at_start: bool,
    /// Parts that others decode before their turn.
    ahead: Option<Ahead>,
    /// Chunks of such a part.
    decoded: vec::IntoIter<Chunk>,
}

/// How a blob is decompressed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Config {
    /// The compression that it must have.
    pub expected: Option<Compression>,
    /// The largest zstd window.
    pub max_window: u64,
    pub inflater: Inflater,
}

/// Decodes one format.
pub(crate) enum Engine {
    Gzip(Box<Gzip>),
    Zstd(Box<Zstd>),
}

impl Engine {
    fn new(format: Format, config: Config) -> Result<Option<Self>> {
        Ok(match format {
            Format::Gzip => Some(Self::Gzip(Box::new(Gzip::new(config.inflater)))),
            Format::Zstd => Some(Self::Zstd(Box::new(Zstd::new(config.max_window)?))),
            Format::Other(_) => None,
        })
    }

    /// Ready for a part of a stream that begins there.
    pub(super) fn begin(&mut self, seam: Seam) {
        match self {
            Self::Gzip(gzip) => gzip.begin(seam),
            Self::Zstd(zstd) => zstd.begin(),
        }
    }

    /// The next chunk; an empty one only where the input ends, or where something begins, at
    /// `stop`, that can be decoded by itself.
    pub(super) fn next<R: Read>(
        &mut self,
        input: &mut Input<'_, R>,
        pool: &Pool,
        stop: Option<u64>,
    ) -> Result<Chunk> {
        match self {
            Self::Gzip(gzip) => gzip.fill(input, pool.get(), stop),
            Self::Zstd(zstd) => zstd.fill(input, stop),
        }
    }

    /// What begins here, if it can be decoded by itself.
    fn seam(&self) -> Option<Seam> {
        match self {
            Self::Gzip(gzip) => gzip.seam(),
            Self::Zstd(zstd) => zstd.is_at_seam().then_some(Seam::Whole),
        }
    }

    /// How a part ends here, if what follows can go on.
    pub(super) fn end(&self) -> Option<PartEnd> {
        match self {
            Self::Gzip(gzip) => gzip.end(),
            Self::Zstd(zstd) => zstd.is_at_seam().then_some(None),
        }
    }

    /// Goes on behind a part that another engine has decoded from here.
    fn leave_out(&mut self, end: PartEnd) {
        match self {
            Self::Gzip(gzip) => gzip.leave_out(end),
            // A frame is whole.
            Self::Zstd(_) => {}
        }
    }
}

impl<'t, R: Read> Decoder<'t, R> {
    /// Reads the beginning of `input` to find its format, which must be the expected one if
    /// that is given. An input of no bytes has no format and contradicts nothing.
    pub(crate) fn new(input: R, config: Config, pool: Pool) -> Result<Self> {
        let mut input = Input::new(input, pool.clone())?;
        let start = input.fill()?;
        let empty = start.is_empty();
        let engine = match Format::of(start) {
            None => None,
            Some(Format::Other(_)) if header::starts_with_header(start) => None,
            Some(Format::Other(name)) => return Err(unsupported(name, 0)),
            Some(format) => Engine::new(format, config)?,
        };
        let decoder = Self {
            input,
            pool,
            engine,
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
        match self.engine {
            None => Compression::None,
            Some(Engine::Gzip(_)) => Compression::Gzip,
            Some(Engine::Zstd(_)) => Compression::Zstd,
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
        let (format, seams) = match self.engine {
            None => return,
            Some(_) if !self.input.fills_a_chunk() => return,
            Some(Engine::Gzip(_)) => (Format::Gzip, Seams::gzip()),
            Some(Engine::Zstd(_)) => (Format::Zstd, Seams::zstd()),
        };
        let config = Config {
            max_window: self.config.max_window.min(HELPERS_MAX_WINDOW),
            ..self.config
        };
        let (jobs, queue) = mpsc::channel();
        let queue = Arc::new(Mutex::new(queue));
        for _ in 0..ahead::HELPERS {
            // They are not needed: no memory for them is no error.
            let Ok(Some(engine)) = Engine::new(format, config) else {
                return;
            };
            let (queue, pool) = (Arc::clone(&queue), self.pool.clone());
            if !spawn(Box::new(move || ahead::work(&queue, engine, &pool))) {
                // Helpers that were started before end with the queue.
                return;
            }
        }
        self.ahead = Some(Ahead::new(seams, jobs, part_min));
    }

    /// The next uncompressed chunk. The end is told only after everything to the end of the
    /// input was verified.
    pub(crate) fn next_chunk(&mut self) -> Result<Option<Chunk>> {
        let Some(engine) = &mut self.engine else {
            return self.input.next_chunk();
        };
        // What the layer begins with is not to depend on where parts begin.
        if std::mem::take(&mut self.at_start) {
            let chunk = engine.next(&mut self.input, &self.pool, None)?;
            if let Some(inner) = Format::of(&chunk)
                && !header::starts_with_header(&chunk)
            {
                let outer = name(self.compression());
                return Err(unsupported(&format!("{} inside {outer}", inner.name()), 0));
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
                if let Some(seam) = engine.seam()
                    && let Some(part) = ahead.take(seam, &mut self.input)?
                {
                    engine.leave_out(part.end);
                    self.decoded = part.chunks.into_iter();
                    continue;
                }
                stop = ahead.next_start();
            }
            let chunk = engine.next(&mut self.input, &self.pool, stop)?;
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
        match self.engine {
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

impl<R: Read> ChunkSource for Decoder<'_, R> {
    fn next_chunk(&mut self) -> Result<Option<Chunk>> {
        Decoder::next_chunk(self)
    }
}

fn name(compression: Compression) -> &'static str {
    match compression {
        Compression::None => "a plain tar",
        Compression::Gzip => "gzip",
        Compression::Zstd => "zstd",
    }
}

/// The input is of a format that is known by name alone, at this byte of it.
pub(super) fn unsupported(what: &str, offset: u64) -> Error {
    Error::unsupported(format!(
        "{what} is not supported: layers are plain, gzip or zstd; decompress it first"
    ))
    .at_offset(offset)
}

/// A compressed format that a stream's first bytes tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    Gzip,
    Zstd,
    /// Known by name alone.
    Other(&'static str),
}

impl Format {
    pub(super) fn of(start: &[u8]) -> Option<Self> {
        Some(match start {
            [0x1f, 0x8b, 8, ..] => Self::Gzip,
            [0x1f, 0x8b, _, ..] => Self::Other("gzip of an unknown method"),
            [0x28, 0xb5, 0x2f, 0xfd, ..] => Self::Zstd,
            // A skippable frame; LZ4 has the same ones; what follows decides.
            [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Self::Zstd,
            _ => Self::Other(signature::compression(start)?.name),
        })
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
            Self::Other(name) => name,
        }
    }
}

#[cfg(test)]
mod tests;
