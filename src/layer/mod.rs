//! From the blob to the entries: the only part that reads the input.

mod ahead;
mod blocks;
mod decompress;
mod digest;
mod entry;
mod gzip;
mod header;
mod input;
mod pax;
mod shape;
mod sparse;
#[cfg(test)]
mod testing;
mod whiteout;
mod zstandard;

pub(crate) use ahead::PART_MIN;
pub(crate) use decompress::{Config as DecoderConfig, Decoder};
pub(crate) use digest::BlobHasher;
pub(crate) use entry::{ChunkSource, Entries, Entry, EntryKind, Piece, Reading, Time};
pub(crate) use whiteout::{Whiteout, classify};
