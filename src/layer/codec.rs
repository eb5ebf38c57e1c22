//! Compressions: the interface between a decoder of one and everything else.
//!
//! A compression is a file that implements [`Codec`] and describes itself as a [`Format`], and a
//! line in the table of `decompress`.

use super::input::Input;
use crate::buffer::chunk::{Chunk, Pool};
use crate::error::{Error, Result};
use crate::names::names;
use crate::signature;
use crate::summary::Compression;

/// The decoder of gzip. Both accept the same streams and give the same bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Inflater {
    /// The project's own, the fastest. Its inner loop is unsafe code.
    #[default]
    Own,
    /// zlib-rs, through flate2.
    ZlibRs,
}

names!(Inflater, "inflater", {
    Own = "own",
    ZlibRs = "zlib-rs",
});

/// Settings of the decoders.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Config {
    /// The compression that the input must have.
    pub expected: Option<Compression>,
    /// The largest zstd window.
    pub max_window: u64,
    pub inflater: Inflater,
}

/// A compressed format.
pub(super) struct Format {
    pub compression: Compression,
    /// Its name in messages.
    pub name: &'static str,
    /// Whether a stream that starts with these bytes has this format.
    pub matches: fn(&[u8]) -> bool,
    pub codec: fn(Config) -> Result<Box<dyn Codec>>,
    /// Byte strings in front of which, or behind which, a restart point may lie.
    pub restart_patterns: &'static [RestartPattern],
}

/// A decoder of one format.
pub(super) trait Codec: Send {
    /// Makes the decoder ready for a part of a stream that starts at this kind of restart point,
    /// whatever it decoded before.
    fn begin(&mut self, at: RestartPoint);

    /// Decodes the next chunk. An empty one means that the input ends, verified to its last byte,
    /// or that it stands at `stop`, and a restart point is there.
    fn fill(&mut self, input: &mut Input<'_>, pool: &Pool, stop: Option<u64>) -> Result<Chunk>;

    /// The kind of restart point at which the decoder stands.
    fn restart_point(&self) -> Option<RestartPoint>;

    /// State another decoder needs to continue from here. `None` unless this is a restart point
    /// from which it can.
    fn end(&self) -> Option<PartEnd>;

    /// Continues behind a part that another decoder decoded from here on.
    fn skip_part(&mut self, end: PartEnd);
}

/// A position in a compressed stream from which it can be decoded without the bytes before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RestartPoint {
    /// The start of a gzip member or a zstd frame.
    Frame,
    /// The start of a block that refers to no earlier one, within a gzip member.
    Block,
}

/// Bytes that hint at a restart point.
pub(super) struct RestartPattern {
    pub bytes: &'static [u8],
    pub point: RestartPoint,
    /// Distance from the start of the bytes to the restart point.
    pub skip: usize,
}

/// The end of a part that another decoder decoded: within a gzip member its state, else `None`.
pub(super) type PartEnd = Option<OpenMember>;

/// State of a gzip member between two of its blocks.
pub(super) struct OpenMember {
    pub crc: crc32fast::Hasher,
    pub length: u32,
    /// Ends with the whole window that later blocks may refer to.
    pub last: Chunk,
}

/// The name of the compression that starts with these bytes, decoded here or not.
pub(super) fn name_of(start: &[u8]) -> Option<&'static str> {
    match start {
        [0x1f, 0x8b, 8, ..] => Some("gzip"),
        [0x1f, 0x8b, _, ..] => Some("gzip of an unknown method"),
        [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Some("zstd"),
        _ => signature::compression(start).map(|signature| signature.name),
    }
}

/// The error of an input whose format, found at this offset, is known by name alone.
pub(super) fn unsupported(what: &str, offset: u64) -> Error {
    Error::unsupported(format!(
        "{what} is not supported: layers are plain, gzip or zstd; decompress it first"
    ))
    .at_offset(offset)
}
