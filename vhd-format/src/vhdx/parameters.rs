//! Parameters and ids of a new disk.

use uuid::Uuid;

use super::ALIGNMENT;
use super::header::Header;
use super::metadata::Metadata;
use crate::{Error, Result};

/// The ids of a disk. Whoever makes a disk that is to be the same each time chooses them;
/// two different disks must never share them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Stands for the contents of the file: §2.2.2 FileWriteGuid.
    pub file_write_guid: Uuid,
    /// Stands for the contents of the virtual disk: §2.2.2 DataWriteGuid. Children find their
    /// parent by it.
    pub data_write_guid: Uuid,
    /// Tells the virtual disk from others: §2.6.2.3 Virtual Disk ID, which a guest sees as
    /// page 83 of the SCSI inquiry.
    pub virtual_disk_id: Uuid,
}

impl Identity {
    /// Ids that no other disk has.
    #[must_use]
    pub fn random() -> Self {
        Self {
            file_write_guid: Uuid::new_v4(),
            data_write_guid: Uuid::new_v4(),
            virtual_disk_id: Uuid::new_v4(),
        }
    }
}

/// Parameters of a new disk. With an [identity](Self::identity) of the caller's, equal
/// parameters give equal files.
#[derive(Clone, Debug)]
pub struct Parameters {
    pub(super) virtual_size: u64,
    pub(super) block_size: u32,
    pub(super) fixed: bool,
    pub(super) logical_sector_size: u32,
    pub(super) physical_sector_size: u32,
    pub(super) log_size: u32,
    pub(super) creator: String,
    pub(super) identity: Identity,
}

impl Parameters {
    /// A dynamic disk as Windows makes it: blocks of 32 MiB, logical sectors of 512 bytes,
    /// physical ones of 4096 and a log of 1 MiB. The ids are random.
    ///
    /// The virtual size must be a multiple of the logical sector size, up to 64 TiB.
    #[must_use]
    pub fn new(virtual_size: u64) -> Self {
        Self {
            virtual_size,
            block_size: 32 << 20,
            fixed: false,
            logical_sector_size: 512,
            physical_sector_size: 4096,
            log_size: 1 << 20,
            creator: concat!("vhd-format ", env!("CARGO_PKG_VERSION")).to_owned(),
            identity: Identity::random(),
        }
    }

    /// Chooses whether every block is in the file from the start and stays there.
    #[must_use]
    pub fn fixed(mut self, fixed: bool) -> Self {
        self.fixed = fixed;
        self
    }

    /// Sets the block size: a power of two from 1 to 256 MiB.
    #[must_use]
    pub fn block_size(mut self, block_size: u32) -> Self {
        self.block_size = block_size;
        self
    }

    /// Sets the unit in which a guest addresses the disk: 512 or 4096.
    #[must_use]
    pub fn logical_sector_size(mut self, logical_sector_size: u32) -> Self {
        self.logical_sector_size = logical_sector_size;
        self
    }

    /// Sets the unit in which a guest should write to the disk: 512 or 4096.
    #[must_use]
    pub fn physical_sector_size(mut self, physical_sector_size: u32) -> Self {
        self.physical_sector_size = physical_sector_size;
        self
    }

    /// Sets the size of the log: whole MiB, less than 4 GiB.
    #[must_use]
    pub fn log_size(mut self, log_size: u32) -> Self {
        self.log_size = log_size;
        self
    }

    /// Names the program that makes the disk, in at most 256 UTF-16 units.
    #[must_use]
    pub fn creator(mut self, creator: impl Into<String>) -> Self {
        self.creator = creator.into();
        self
    }

    /// Sets the ids of the disk.
    #[must_use]
    pub fn identity(mut self, identity: Identity) -> Self {
        self.identity = identity;
        self
    }

    pub(super) fn metadata(&self) -> Result<Metadata> {
        if self.log_size == 0 || !u64::from(self.log_size).is_multiple_of(ALIGNMENT) {
            return Err(Error::input(format!(
                "a log of {} bytes: it must have whole MiB",
                self.log_size
            )));
        }
        let metadata = Metadata {
            virtual_size: self.virtual_size,
            block_size: self.block_size,
            leave_blocks_allocated: self.fixed,
            virtual_disk_id: self.identity.virtual_disk_id,
            logical_sector_size: self.logical_sector_size,
            physical_sector_size: self.physical_sector_size,
            parent_locator: None,
            items: Vec::new(),
        };
        metadata.check().map_err(Error::input)?;
        Ok(metadata)
    }

    /// The two headers, with their offsets.
    pub(super) fn headers(&self) -> [(u64, [u8; Header::SIZE]); 2] {
        let header = |sequence_number| Header {
            sequence_number,
            file_write_guid: self.identity.file_write_guid,
            data_write_guid: self.identity.data_write_guid,
            log_guid: Uuid::nil(),
            log_length: self.log_size,
            log_offset: ALIGNMENT,
        };
        let [first, second] = Header::OFFSETS;
        [
            (first, header(1).to_bytes()),
            (second, header(2).to_bytes()),
        ]
    }
}
