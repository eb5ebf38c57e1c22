use std::fmt;
use std::io;

use uuid::Uuid;

use super::bat::{BlockState, Entry, Numbering};
use super::file_identifier::FileIdentifier;
use super::header::{Header, Headers};
use super::metadata::{Metadata, MetadataItem};
use super::parent_locator::ParentLocator;
use super::region_table::{Region, RegionTable};
use super::replay::Replayed;
use super::session::Session;
use crate::backing::Backing;
use crate::range::Extent;
use crate::table::Table;
use crate::{AnyStorage, Error, ReadAt, Result};

/// A virtual hard disk v2, open in `S`.
///
/// ```
/// use vhd_format::vhdx::{Parameters, Vhdx};
///
/// let parameters = Parameters::new(1 << 40).block_size(1 << 20);
/// let mut disk = Vhdx::create(Vec::new(), &parameters)?;
/// disk.write_at(20 << 30, b"hello")?;
/// let file = disk.close()?;
///
/// let disk = Vhdx::open(file)?;
/// let mut buffer = [0; 5];
/// disk.read_at(20 << 30, &mut buffer)?;
/// assert_eq!(&buffer, b"hello");
/// # Ok::<(), vhd_format::Error>(())
/// ```
///
/// # Crashes
/// [`flush`](Self::flush) makes all that was written before it durable; what was not flushed
/// is there or is not, as on a disk with a write cache. The block allocation table is only ever
/// changed through the log, after a flush of the blocks that it points to, so the file is a
/// valid disk at any moment, provided that the storage keeps to its
/// [contract](crate::Storage::flush). [`close`](Self::close) leaves the log empty; without it
/// the next to open the file replays the log.
pub struct Vhdx<S> {
    pub(super) file: Replayed<S>,
    pub(super) structures: Box<Structures>,
    /// §2.5 BAT.
    pub(super) table: Table,
    pub(super) parent: Option<Box<dyn Backing>>,
    /// None for a disk that is open for reading.
    pub(super) session: Option<Box<Session>>,
}

/// Structures read when the disk was opened.
pub(super) struct Structures {
    creator: String,
    pub(super) headers: Headers,
    pub(super) regions: RegionTable,
    pub(super) metadata: Metadata,
    pub(super) numbering: Numbering,
}

impl<S: ReadAt> Vhdx<S> {
    /// Opens a disk for reading. Nothing is written: if the log has to be replayed, then in
    /// memory.
    ///
    /// A differencing disk opens too, and needs
    /// [`attach_parent`](Self::attach_parent) before sectors that it does not hold can be
    /// read.
    ///
    /// # Errors
    /// If no valid VHDX is found, the disk requires what this crate does not know, or reading
    /// fails.
    pub fn open(storage: S) -> Result<Self> {
        let identifier = FileIdentifier::read(&storage)?;
        let headers = Headers::read(&storage)?;
        let file = Replayed::new(storage, &headers.current)?;
        let log_offset = headers.current.log_offset;
        let log_end = log_offset + u64::from(headers.current.log_length);
        let regions = RegionTable::read(&file, (log_offset, log_end))?;
        let metadata = Metadata::read(&file, regions.metadata)?;
        let numbering = Numbering::new(
            metadata.virtual_size,
            metadata.block_size,
            metadata.logical_sector_size,
        );
        let entries = numbering.entries(metadata.parent_locator.is_some());
        if entries * 8 > u64::from(regions.bat.length) {
            return Err(Error::invalid(format!(
                "the block allocation table has {} bytes for {entries} entries",
                regions.bat.length
            ))
            .at(regions.bat.offset));
        }
        Ok(Self {
            table: Table::new(regions.bat.offset, regions.bat.length.into()),
            file,
            structures: Box::new(Structures {
                creator: identifier.creator,
                headers,
                regions,
                metadata,
                numbering,
            }),
            parent: None,
            session: None,
        })
    }

    /// The size of the virtual disk in bytes.
    #[must_use]
    pub fn virtual_size(&self) -> u64 {
        self.structures.metadata.virtual_size
    }

    /// The size of a block in bytes.
    #[must_use]
    pub fn block_size(&self) -> u32 {
        self.structures.metadata.block_size
    }

    /// The number of blocks.
    #[must_use]
    pub fn blocks(&self) -> u64 {
        self.structures.numbering.blocks
    }

    /// The unit in which a guest addresses the disk: 512 or 4096.
    #[must_use]
    pub fn logical_sector_size(&self) -> u32 {
        self.structures.metadata.logical_sector_size
    }

    /// The unit in which a guest should write to the disk: 512 or 4096.
    #[must_use]
    pub fn physical_sector_size(&self) -> u32 {
        self.structures.metadata.physical_sector_size
    }

    /// The id by which a guest tells the disk from others.
    #[must_use]
    pub fn virtual_disk_id(&self) -> Uuid {
        self.structures.metadata.virtual_disk_id
    }

    /// Whether the disk is fixed: its blocks stay in the file.
    #[must_use]
    pub fn is_fixed(&self) -> bool {
        self.structures.metadata.leave_blocks_allocated
    }

    /// The program that made the disk.
    #[must_use]
    pub fn creator(&self) -> &str {
        &self.structures.creator
    }

    /// The current header.
    #[must_use]
    pub fn header(&self) -> &Header {
        &self.structures.headers.current
    }

    /// Which of the two headers were found damaged. One is enough.
    #[must_use]
    pub fn damaged_headers(&self) -> [bool; 2] {
        self.structures.headers.damaged
    }

    /// The regions of the file.
    #[must_use]
    pub fn regions(&self) -> &[Region] {
        &self.structures.regions.regions
    }

    /// Which of the two region tables were found damaged. One is enough.
    #[must_use]
    pub fn damaged_region_tables(&self) -> [bool; 2] {
        self.structures.regions.damaged
    }

    /// The items of the metadata, those that are not known to this crate included.
    #[must_use]
    pub fn metadata_items(&self) -> &[MetadataItem] {
        &self.structures.metadata.items
    }

    /// The number of log entries that were replayed; 0 for a disk that was closed cleanly.
    #[must_use]
    pub fn replayed_entries(&self) -> u64 {
        self.file.entries
    }

    /// Where the disk departs from the specification in what most readers do not mind, a
    /// sentence each.
    #[must_use]
    pub fn notes(&self) -> Vec<String> {
        match self.file.log_is_unused {
            true => vec![
                "the disk was not closed: its log is in use and holds no whole entry, so there is \
                 nothing to replay"
                    .to_owned(),
            ],
            false => Vec::new(),
        }
    }

    /// The parent locator of a differencing disk.
    #[must_use]
    pub fn parent_locator(&self) -> Option<&ParentLocator> {
        self.structures.metadata.parent_locator.as_ref()
    }

    /// Gives a differencing disk its parent, which may itself be one with a parent attached.
    ///
    /// # Errors
    /// If this disk has no parent, or the other's data-write GUID or sector size is not the
    /// parent's.
    pub fn attach_parent(&mut self, parent: Vhdx<AnyStorage>) -> Result<()> {
        let Some(locator) = self.parent_locator() else {
            return Err(Error::input("this VHDX is not a differencing disk"));
        };
        if !locator.links_to(parent.header().data_write_guid) {
            return Err(Error::parent(
                "the disk given as parent is not the one that the child was made from, or has been written to since",
            ));
        }
        if parent.logical_sector_size() != self.logical_sector_size() {
            return Err(Error::parent("the parent has another logical sector size"));
        }
        self.parent = Some(Box::new(parent));
        Ok(())
    }

    /// The state of a block and, if the file holds it, where.
    ///
    /// # Errors
    /// If the disk has no such block, or the block allocation table cannot be read or has an
    /// entry there that no disk may have.
    pub fn block_state(&self, block: u64) -> Result<(BlockState, Option<u64>)> {
        if block >= self.blocks() {
            return Err(Error::input(format!(
                "block {block} of a disk of {} blocks",
                self.blocks()
            )));
        }
        let (state, offset) = self.entry(block)?;
        let held = matches!(
            state,
            BlockState::FullyPresent | BlockState::PartiallyPresent
        );
        Ok((state, held.then_some(offset)))
    }

    /// The number of blocks that take space in the file. Changes since the last flush do not count.
    ///
    /// # Errors
    /// If the block allocation table cannot be read.
    pub fn allocated_blocks(&self) -> Result<u64> {
        let numbering = &self.structures.numbering;
        let mut next_bitmap = numbering.bitmap_index(0);
        let mut allocated = 0;
        self.table
            .scan(&self.file, numbering.entries(false), |index, bytes| {
                let state = Entry(u64::from_le_bytes(bytes)).state();
                if index == next_bitmap {
                    next_bitmap += numbering.chunk_ratio + 1;
                } else if let Some(BlockState::FullyPresent | BlockState::PartiallyPresent) = state
                {
                    allocated += 1;
                }
            })
            .map_err(|error| {
                let offset = self.structures.regions.bat.offset;
                Error::read("the block allocation table", offset, error)
            })?;
        Ok(allocated)
    }

    /// Gives the storage back as it is: [`close`](Self::close) a disk that was written to.
    pub fn into_inner(self) -> S {
        self.file.storage
    }
}

impl<S: ReadAt> ReadAt for Vhdx<S> {
    fn size(&self) -> io::Result<u64> {
        Ok(self.virtual_size())
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        Ok(Self::read_at(self, offset, buffer)?)
    }
}

impl Backing for Vhdx<AnyStorage> {
    fn virtual_size(&self) -> u64 {
        self.virtual_size()
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<()> {
        self.read_at(offset, buffer)
    }

    fn extent(&self, offset: u64) -> Result<Extent> {
        self.extent(offset)
    }
}

impl<S> fmt::Debug for Vhdx<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Vhdx")
            .field("creator", &self.structures.creator)
            .field("header", &self.structures.headers.current)
            .field("metadata", &self.structures.metadata)
            .field("writable", &self.session.is_some())
            .finish_non_exhaustive()
    }
}
