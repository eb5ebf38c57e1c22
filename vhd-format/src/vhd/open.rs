use std::fmt;
use std::io;

use super::sparse::Sparse;
use super::{COOKIE, DiskType, Footer, ParentReference};
use crate::backing::Backing;
use crate::range::{Extent, check_range, first_error};
use crate::{AnyStorage, Error, ReadAt, Result, Storage};

/// A virtual hard disk, open in `S`.
///
/// ```
/// use vhd_format::vhd::{Parameters, Vhd};
///
/// let mut disk = Vhd::create(Vec::new(), &Parameters::dynamic(64 << 20, [0x5a; 16]))?;
/// disk.write_at(20 << 20, b"hello")?;
/// let file = disk.close()?;
/// assert!(file.len() < 3 << 20);
///
/// let disk = Vhd::open(file)?;
/// let mut buffer = [0; 5];
/// disk.read_at(20 << 20, &mut buffer)?;
/// assert_eq!(&buffer, b"hello");
/// # Ok::<(), vhd_format::Error>(())
/// ```
///
/// # Crashes
/// [`flush`](Self::flush) makes all that was written before it durable. A crash before leaves
/// a disk that opens, with the old or the new bytes where it was written to; a dynamic disk's
/// footer may have to be taken from its copy at the front, which
/// [`open`](Self::open) does on its own.
pub struct Vhd<S> {
    storage: S,
    footer: Box<Footer>,
    writable: bool,
    /// A flush failed: what the medium holds is not known any more.
    failed: bool,
    /// None for a fixed disk.
    sparse: Option<Box<Sparse>>,
}

impl<S: ReadAt> Vhd<S> {
    /// Opens a disk for reading.
    ///
    /// A differencing disk opens too, and needs
    /// [`attach_parent`](Self::attach_parent) before sectors that it does not hold can be
    /// read.
    ///
    /// # Errors
    /// If no valid VHD is found, or reading fails.
    pub fn open(storage: S) -> Result<Self> {
        let size = storage
            .size()
            .map_err(|error| Error::io("cannot tell the size of the file", error))?;
        let found = FoundFooter::find(&storage, size)?;
        let footer = Box::new(found.footer);
        let sparse = if footer.disk_type() == DiskType::Fixed {
            if footer.virtual_size() > found.offset {
                return Err(Error::invalid(format!(
                    "a fixed VHD of {} bytes whose file has {} before the footer",
                    footer.virtual_size(),
                    found.offset
                )));
            }
            None
        } else {
            // Without its footer the file ends with a block, or with part of one.
            let end = match found.at_end {
                true => found.offset,
                false => size.next_multiple_of(super::SECTOR_SIZE),
            };
            let sparse = Sparse::open(&storage, &footer, end, !found.at_end)?;
            Some(Box::new(sparse))
        };
        Ok(Self {
            storage,
            footer,
            writable: false,
            failed: false,
            sparse,
        })
    }

    /// The size of the virtual disk in bytes.
    #[must_use]
    pub fn virtual_size(&self) -> u64 {
        self.footer.virtual_size()
    }

    /// The footer, or its copy at the front if the footer is damaged.
    #[must_use]
    pub fn footer(&self) -> &Footer {
        &self.footer
    }

    /// The block size of a dynamic or differencing disk.
    #[must_use]
    pub fn block_size(&self) -> Option<u32> {
        Some(self.sparse.as_ref()?.block_size())
    }

    /// The entries that the header of a dynamic or differencing disk gives its block allocation
    /// table; there should be one for each block.
    #[must_use]
    pub fn max_table_entries(&self) -> Option<u32> {
        Some(self.sparse.as_ref()?.max_table_entries())
    }

    /// The parent that a differencing disk names.
    #[must_use]
    pub fn parent_reference(&self) -> Option<&ParentReference> {
        self.sparse.as_ref()?.parent_reference.as_ref()
    }

    /// Gives a differencing disk its parent, which may itself be one with a parent attached.
    ///
    /// # Errors
    /// If this disk has no parent, or the other's unique id is not the parent's.
    pub fn attach_parent(&mut self, parent: Vhd<AnyStorage>) -> Result<()> {
        let Some(sparse) = &mut self.sparse else {
            return Err(Error::input("a fixed VHD has no parent"));
        };
        let Some(reference) = &sparse.parent_reference else {
            return Err(Error::input("a dynamic VHD has no parent"));
        };
        if parent.footer.unique_id() != reference.unique_id {
            return Err(Error::parent(
                "the disk given as parent has another unique id than the child names",
            ));
        }
        sparse.parent = Some(Box::new(parent));
        Ok(())
    }

    /// Fills the buffer from that offset of the virtual disk.
    ///
    /// # Errors
    /// If the range ends past the disk, the file is damaged or ends early, or a parent is
    /// missing.
    pub fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<()> {
        check_range(self.virtual_size(), offset, buffer.len())?;
        match &self.sparse {
            None => self
                .storage
                .read_at(offset, buffer)
                .map_err(|error| Error::read("the disk's bytes", offset, error)),
            Some(sparse) => sparse.read_at(&self.storage, offset, buffer),
        }
    }

    /// Whether that block of a dynamic or differencing disk takes space in the file; true for
    /// a fixed disk.
    ///
    /// # Errors
    /// If the block allocation table cannot be read.
    pub fn is_allocated(&self, block: u64) -> Result<bool> {
        match &self.sparse {
            None => Ok(true),
            Some(sparse) => Ok(sparse.locate(&self.storage, block)?.is_some()),
        }
    }

    /// The number of blocks of a dynamic or differencing disk in the file; 0 for a fixed
    /// disk, which has none. Changes since the last flush do not count.
    ///
    /// # Errors
    /// If the block allocation table cannot be read.
    pub fn allocated_blocks(&self) -> Result<u64> {
        match &self.sparse {
            None => Ok(0),
            Some(sparse) => sparse.allocated_blocks(&self.storage),
        }
    }

    pub(crate) fn extent(&self, offset: u64) -> Result<Extent> {
        match &self.sparse {
            None => Ok(Extent {
                data: true,
                end: self.virtual_size(),
            }),
            Some(sparse) => sparse.extent(&self.storage, offset),
        }
    }

    /// Looks for damage that opening the disk does not find or survives: the footer or its
    /// copy, and every entry of the block allocation table. What is found is reported one by
    /// one, with its place in the file.
    ///
    /// # Errors
    /// If reading fails, and the check could not be finished.
    pub fn check(&self, mut report: impl FnMut(Error)) -> Result<()> {
        let Some(sparse) = &self.sparse else {
            return Ok(());
        };
        if sparse.footer_missing {
            report(Error::invalid("the footer is not at the end of the file"));
        }
        let mut copy = [0; Footer::SIZE];
        self.storage
            .read_at(0, &mut copy)
            .map_err(|error| Error::read("the copy of the footer", 0, error))?;
        if copy != self.footer.to_bytes() {
            report(Error::invalid("the copy of the footer differs from it").at(0));
        }
        sparse.check_table(&self.storage, &mut report)
    }

    /// Where the disk departs from the specification in what most readers do not mind, a
    /// sentence each.
    #[must_use]
    pub fn notes(&self) -> Vec<String> {
        let sparse = self.sparse.iter();
        sparse.filter_map(|s| s.note_spare_entries()).collect()
    }

    /// Gives the storage back. What was not [flushed](Self::flush) may be lost:
    /// [`close`](Self::close) a disk that was written to.
    pub fn into_inner(self) -> S {
        self.storage
    }
}

impl<S: Storage> Vhd<S> {
    /// Opens a fixed or dynamic disk for reading and writing.
    ///
    /// The block allocation table is checked to the last entry, so that no write can harm
    /// another block or a structure.
    ///
    /// # Errors
    /// As [`open`](Self::open), and for differencing disks, which are only read.
    pub fn open_writable(storage: S) -> Result<Self> {
        let mut disk = Self::open(storage)?;
        if disk.footer.disk_type() == DiskType::Differencing {
            return Err(Error::read_only("differencing VHDs are only read"));
        }
        if let Some(sparse) = &disk.sparse {
            first_error(|report| sparse.check_table(&disk.storage, report))?;
        }
        disk.writable = true;
        Ok(disk)
    }

    /// Writes the data at that offset of the virtual disk. Zeros that are written to a block
    /// that is not allocated leave it so.
    ///
    /// # Errors
    /// If the range ends past the disk, or the disk is open for reading only, or writing
    /// fails.
    pub fn write_at(&mut self, offset: u64, data: &[u8]) -> Result<()> {
        self.check_writable()?;
        check_range(self.virtual_size(), offset, data.len())?;
        match &mut self.sparse {
            None => self
                .storage
                .write_at(offset, data)
                .map_err(|error| Error::write("the disk's bytes", offset, error)),
            Some(sparse) => sparse.write_at(&mut self.storage, offset, data),
        }
    }

    /// Makes everything written so far durable.
    ///
    /// # Errors
    /// If writing or flushing fails. The disk takes no more writes then, for it is not known
    /// which of the earlier ones are on the medium.
    pub fn flush(&mut self) -> Result<()> {
        self.check_writable()?;
        let flushed = match &mut self.sparse {
            None => self.storage.flush().map_err(Error::flush),
            Some(sparse) => sparse.flush(&mut self.storage, &self.footer),
        };
        self.failed = flushed.is_err();
        flushed
    }

    /// Flushes a disk that was opened for writing, and gives the storage back.
    ///
    /// # Errors
    /// As [`flush`](Self::flush).
    pub fn close(mut self) -> Result<S> {
        if self.writable {
            self.flush()?;
        }
        Ok(self.storage)
    }

    fn check_writable(&self) -> Result<()> {
        if !self.writable {
            return Err(Error::read_only("the VHD is open for reading only"));
        }
        if self.failed {
            let error = io::Error::other("an earlier flush failed");
            return Err(Error::io("cannot write to the VHD", error));
        }
        Ok(())
    }
}

impl<S: ReadAt> ReadAt for Vhd<S> {
    fn size(&self) -> io::Result<u64> {
        Ok(self.virtual_size())
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        Ok(Self::read_at(self, offset, buffer)?)
    }
}

impl Backing for Vhd<AnyStorage> {
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

impl<S> fmt::Debug for Vhd<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Vhd")
            .field("footer", &self.footer)
            .field("writable", &self.writable)
            .finish_non_exhaustive()
    }
}

struct FoundFooter {
    footer: Footer,
    offset: u64,
    at_end: bool,
}

impl FoundFooter {
    fn find(storage: &impl ReadAt, size: u64) -> Result<Self> {
        let Some(offset) = size.checked_sub(Footer::SIZE as u64) else {
            return Err(Error::invalid("the file is too short for a VHD footer"));
        };
        let mut bytes = [0; Footer::SIZE];
        let mut read = |offset| {
            storage
                .read_at(offset, &mut bytes)
                .map_err(|error| Error::read("the VHD footer", offset, error))?;
            Ok(bytes)
        };
        let last = read(offset)?;
        let failure = match Footer::from_bytes(&last) {
            Ok(footer) => {
                return Ok(Self {
                    footer,
                    offset,
                    at_end: true,
                });
            }
            Err(error) => error.at(offset),
        };
        // "Hard Disk Footer Format": footers made before Virtual PC 2004 have 511 bytes.
        if last[1..].starts_with(&COOKIE) {
            let mut short = [0; Footer::SIZE];
            short[..511].copy_from_slice(&last[1..]);
            let footer = Footer::from_bytes(&short).map_err(|error| error.at(offset + 1))?;
            return Ok(Self {
                footer,
                offset: offset + 1,
                at_end: true,
            });
        }
        match Footer::from_bytes(&read(0)?) {
            Ok(footer) if footer.disk_type() != DiskType::Fixed => Ok(Self {
                footer,
                offset: 0,
                at_end: false,
            }),
            _ => Err(failure),
        }
    }
}
