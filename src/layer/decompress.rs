//! The blob's compression: found by its first bytes, undone chunk by chunk.

use std::io::Read;

use super::entry::ChunkSource;
use super::gzip::Gzip;
use super::header;
use super::input::Input;
use super::zstandard::Zstd;
use crate::chunk::{Chunk, Pool};
use crate::error::{Error, ErrorKind, Result};
use crate::options::Inflater;
use crate::summary::Compression;

/// Turns a blob into the uncompressed layer, and verifies every checksum on the way.
pub(crate) struct Decoder<'t, R> {
    input: Input<'t, R>,
    pool: Pool,
    /// None for a plain tar.
    engine: Option<Engine>,
    /// No uncompressed chunk was handed out yet.
    at_start: bool,
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

enum Engine {
    Gzip(Box<Gzip>),
    Zstd(Box<Zstd>),
}

impl<'t, R: Read> Decoder<'t, R> {
    /// Reads the beginning of `input` to find its format, which must be the expected one if
    /// that is given. An input of no bytes has no format and contradicts nothing.
    pub(crate) fn new(input: R, config: Config, pool: Pool) -> Result<Self> {
        let Config {
            expected,
            max_window,
            inflater,
        } = config;
        let mut input = Input::new(input, pool.clone())?;
        let start = input.fill()?;
        let empty = start.is_empty();
        let engine = match Format::of(start) {
            None => None,
            Some(Format::Gzip) => Some(Engine::Gzip(Box::new(Gzip::new(inflater)))),
            Some(Format::Zstd) => Some(Engine::Zstd(Box::new(Zstd::new(max_window)?))),
            Some(Format::Other(_)) if header::starts_with_header(start) => None,
            Some(format) => return Err(unsupported(format.name(), 0)),
        };
        let decoder = Self {
            input,
            pool,
            engine,
            at_start: true,
        };
        match expected {
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

    /// The next uncompressed chunk: full but for the last. The last one comes, and the end is
    /// told, only after everything to the end of the input was verified.
    pub(crate) fn next_chunk(&mut self) -> Result<Option<Chunk>> {
        let Some(engine) = &mut self.engine else {
            return self.input.next_chunk();
        };
        let mut chunk = self.pool.get();
        let chunk = match engine {
            Engine::Gzip(gzip) => gzip.fill(&mut self.input, chunk)?,
            Engine::Zstd(zstd) => {
                let len = zstd.read(&mut self.input, &mut chunk)?;
                chunk.freeze(len)
            }
        };
        if std::mem::take(&mut self.at_start)
            && let Some(inner) = Format::of(&chunk)
            && !header::starts_with_header(&chunk)
        {
            let outer = name(self.compression());
            return Err(unsupported(&format!("{} inside {outer}", inner.name()), 0));
        }
        Ok((!chunk.is_empty()).then_some(chunk))
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
        "{what} is not supported: layers are plain, gzip or zstd"
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
            [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Self::Other("xz"),
            [b'B', b'Z', b'h', b'1'..=b'9', ..] => Self::Other("bzip2"),
            [0x04, 0x22, 0x4d, 0x18, ..] | [0x02, 0x21, 0x4c, 0x18, ..] => Self::Other("lz4"),
            [0x1f, 0x9d, ..] => Self::Other("compress (.Z)"),
            [b'L', b'Z', b'I', b'P', ..] => Self::Other("lzip"),
            // No magic, but properties and a dictionary size that lzma really writes.
            [0x5d, 0, 0, _, 0..=0x0f, ..] => Self::Other("lzma"),
            _ => return None,
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
