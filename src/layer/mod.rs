//! From the blob to the entries: the only part that reads the input.

mod blocks;
mod codec;
mod decompress;
mod digest;
mod entry;
mod gzip;
mod header;
mod input;
mod model;
mod number;
mod parallel;
mod pax;
mod shape;
mod sparse;
#[cfg(test)]
mod testing;
mod whiteout;
mod zstandard;

pub(crate) use codec::Config as DecoderConfig;
pub use codec::Inflater;
pub(crate) use decompress::Decoder;
pub(crate) use digest::BlobHasher;
pub(crate) use entry::Entries;
pub(crate) use model::{ChunkSource, Entry, EntryKind, Piece, Reading, Time};
pub(crate) use parallel::PART_MIN;
pub(crate) use whiteout::{Whiteout, classify};
