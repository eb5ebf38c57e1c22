//! From the blob to the entries: the only part that reads the input.

mod blocks;
pub(crate) mod decompress;
pub(crate) mod digest;
pub(crate) mod entry;
mod gzip;
mod header;
mod input;
mod pax;
mod sparse;
pub(crate) mod whiteout;
mod zstandard;

#[cfg(test)]
mod testing;
