//! The blocks of a file system, wherever they are kept.

use std::ops::Range;

use vhd_format::{Disk, ReadAt};

use crate::error::{Error, ErrorKind, Result};

/// A disk to read from.
pub(super) trait Source: Sync {
    fn read(&self, offset: u64, buffer: &mut [u8]) -> Result<()>;

    /// The next range from that offset on that may hold anything but zeros.
    fn next_data(&self, offset: u64) -> Result<Option<Range<u64>>>;
}

impl<S: ReadAt + Sync> Source for Disk<S> {
    fn read(&self, offset: u64, buffer: &mut [u8]) -> Result<()> {
        self.read_at(offset, buffer).map_err(from_container)
    }

    fn next_data(&self, offset: u64) -> Result<Option<Range<u64>>> {
        Disk::next_data(self, offset).map_err(from_container)
    }
}

/// Reading a disk failed.
pub(super) fn from_container(error: vhd_format::Error) -> Error {
    let kind = match error.kind() {
        vhd_format::ErrorKind::Io => ErrorKind::Input,
        vhd_format::ErrorKind::Unsupported | vhd_format::ErrorKind::Parent => {
            ErrorKind::Unsupported
        }
        _ => ErrorKind::InvalidDisk,
    };
    Error::new(kind, "the disk cannot be read").with_source(error)
}

/// A file system's blocks, all of which are on the disk.
#[derive(Clone, Copy)]
pub(super) struct Volume<'a> {
    pub disk: &'a dyn Source,
    pub block_size: usize,
    pub blocks: u64,
}

impl Volume<'_> {
    /// A number of adjacent blocks; the caller has made sure that they exist, and that their
    /// number is bounded.
    pub(super) fn read(&self, block: u64, count: usize) -> Result<Vec<u8>> {
        let mut bytes = vec![0; count * self.block_size];
        self.disk.read(self.offset(block), &mut bytes)?;
        Ok(bytes)
    }

    /// Where a block of the file system starts on the disk.
    pub(super) fn offset(&self, block: u64) -> u64 {
        block * self.block_size as u64
    }

    /// Whether blocks are all of the file system, and none is the first, which holds no
    /// other than the superblock.
    pub(super) fn contains(&self, first: u64, count: u64) -> bool {
        first > 0
            && first
                .checked_add(count)
                .is_some_and(|end| end <= self.blocks)
    }
}

/// A little-endian number of two bytes.
pub(super) fn u16_at(bytes: &[u8], at: usize) -> u16 {
    bytes
        .get(at..)
        .and_then(<[u8]>::first_chunk)
        .map_or(0, |bytes| u16::from_le_bytes(*bytes))
}

/// A little-endian number of four bytes.
pub(super) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    bytes
        .get(at..)
        .and_then(<[u8]>::first_chunk)
        .map_or(0, |bytes| u32::from_le_bytes(*bytes))
}

/// A big-endian number of four bytes, as the journal has them.
pub(super) fn be32_at(bytes: &[u8], at: usize) -> u32 {
    bytes
        .get(at..)
        .and_then(<[u8]>::first_chunk)
        .map_or(0, |bytes| u32::from_be_bytes(*bytes))
}
