//! The start of a disk, where the superblock is.

use super::layout;
use crate::disk::{Volume, no_file_system};
use crate::error::{Error, ErrorKind, Result};
use crate::ext4::format::{SUPERBLOCK_OFFSET, Superblock};

/// The start of a disk, up to the end of the superblock.
pub(super) struct Start(pub [u8; SUPERBLOCK_OFFSET + SUPERBLOCK_SIZE]);

pub(super) const SUPERBLOCK_SIZE: usize = size_of::<Superblock>();

pub(super) fn start_of(disk: &Volume) -> Result<Start> {
    let mut start = Start([0; SUPERBLOCK_OFFSET + SUPERBLOCK_SIZE]);
    if disk.virtual_size() < start.0.len() as u64 {
        return Err(Error::new(
            ErrorKind::InvalidDisk,
            "too short for a file system",
        ));
    }
    disk.read_at(0, &mut start.0)?;
    Ok(start)
}

impl Start {
    /// The superblock of the disk, and its bytes.
    pub(super) fn superblock(
        &self,
        disk: &Volume,
    ) -> Result<(&Superblock, &[u8; SUPERBLOCK_SIZE])> {
        let superblock = layout::find(&self.0).zip(self.0.last_chunk());
        superblock.ok_or_else(|| no_file_system(disk))
    }
}
