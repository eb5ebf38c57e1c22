//! One view over every format.

use std::fmt;
use std::io;
use std::ops::Range;

use crate::range::{Extent, check_range};
use crate::vhd::{self, Vhd};
use crate::vhdx::{self, Vhdx};
use crate::{AnyStorage, Error, ReadAt, Result, Storage};

/// Which format a [`Disk`] has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Format {
    /// The disk's bytes and nothing else.
    Raw,
    /// Virtual Hard Disk.
    Vhd,
    /// Virtual Hard Disk v2.
    Vhdx,
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Raw => "raw",
            Self::Vhd => "VHD",
            Self::Vhdx => "VHDX",
        })
    }
}

impl Format {
    /// Tells the format by the file's contents. What is nothing else is raw.
    ///
    /// # Errors
    /// If reading fails.
    pub fn detect(storage: &(impl ReadAt + ?Sized)) -> Result<Self> {
        let size = storage
            .size()
            .map_err(|error| Error::io("cannot tell the size of the file", error))?;
        let starts_with = |offset: u64, magic: &[u8; 8]| {
            if size.saturating_sub(offset) < 8 {
                return Ok(false);
            }
            let mut bytes = [0; 8];
            storage
                .read_at(offset, &mut bytes)
                .map_err(|error| Error::read("the disk", offset, error))?;
            Ok(bytes == *magic)
        };
        if starts_with(0, &vhdx::SIGNATURE)? {
            return Ok(Self::Vhdx);
        }
        // Some footers have 511 bytes; a dynamic disk's may be lost but for its copy.
        for offset in [size.checked_sub(512), size.checked_sub(511), Some(0)] {
            if let Some(offset) = offset
                && starts_with(offset, &vhd::COOKIE)?
            {
                return Ok(Self::Vhd);
            }
        }
        Ok(Self::Raw)
    }
}

/// The parent that a differencing disk names.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum Parent<'a> {
    /// In a VHD.
    Vhd(&'a vhd::ParentReference),
    /// In a VHDX.
    Vhdx(&'a vhdx::ParentLocator),
}

/// A virtual disk of any format, open in `S`.
#[derive(Debug)]
#[non_exhaustive]
pub enum Disk<S> {
    /// A raw disk.
    Raw(Raw<S>),
    /// A VHD.
    Vhd(Vhd<S>),
    /// A VHDX.
    Vhdx(Vhdx<S>),
}

macro_rules! each {
    ($disk:expr, $inner:ident => $result:expr) => {
        match $disk {
            Disk::Raw($inner) => $result,
            Disk::Vhd($inner) => $result,
            Disk::Vhdx($inner) => $result,
        }
    };
}

impl<S: ReadAt> Disk<S> {
    /// Opens a disk for reading, by the format that its contents show.
    ///
    /// # Errors
    /// As the format's own `open`.
    pub fn open(storage: S) -> Result<Self> {
        Ok(match Format::detect(&storage)? {
            Format::Raw => Self::Raw(Raw::open(storage)?),
            Format::Vhd => Self::Vhd(Vhd::open(storage)?),
            Format::Vhdx => Self::Vhdx(Vhdx::open(storage)?),
        })
    }

    /// The format of the disk.
    #[must_use]
    pub fn format(&self) -> Format {
        match self {
            Self::Raw(_) => Format::Raw,
            Self::Vhd(_) => Format::Vhd,
            Self::Vhdx(_) => Format::Vhdx,
        }
    }

    /// The size of the virtual disk in bytes.
    #[must_use]
    pub fn virtual_size(&self) -> u64 {
        each!(self, disk => disk.virtual_size())
    }

    /// Fills the buffer from that offset of the virtual disk.
    ///
    /// # Errors
    /// If the range ends past the disk, the file is damaged or ends early, or a parent is
    /// missing.
    pub fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<()> {
        each!(self, disk => disk.read_at(offset, buffer))
    }

    /// The next range of the virtual disk, from that offset on, that may hold anything but
    /// zeros; none if only zeros follow. What is not allocated is skipped without a look, which
    /// makes copies of large sparse disks fast.
    ///
    /// # Errors
    /// If a block allocation table cannot be read or a parent is missing.
    pub fn next_data(&self, offset: u64) -> Result<Option<Range<u64>>> {
        let mut position = offset;
        let mut start = None;
        while position < self.virtual_size() {
            let extent = self.extent(position)?;
            match (extent.data, start) {
                (true, None) => start = Some(position),
                (false, Some(start)) => return Ok(Some(start..position)),
                _ => {}
            }
            position = extent.end;
        }
        Ok(start.map(|start| start..self.virtual_size()))
    }

    /// Whether the disk holds data at that offset, and how far that is known. Only tables are
    /// looked at: data may still be zeros, and neighbouring extents may be alike.
    ///
    /// # Errors
    /// If the offset lies past the disk, a block allocation table cannot be read or a parent is
    /// missing.
    pub fn extent(&self, offset: u64) -> Result<Extent> {
        check_range(self.virtual_size(), offset, 1)?;
        let mut extent = match self {
            Self::Raw(disk) => Extent {
                data: true,
                end: disk.virtual_size(),
            },
            Self::Vhd(disk) => disk.extent(offset)?,
            Self::Vhdx(disk) => disk.extent(offset)?,
        };
        extent.end = extent.end.min(self.virtual_size());
        Ok(extent)
    }

    /// Looks for damage that opening the disk does not find or survives. What is found is
    /// reported one by one, with its place in the file; a raw disk has nothing to damage.
    ///
    /// # Errors
    /// If reading fails, and the check could not be finished.
    pub fn check(&self, report: impl FnMut(Error)) -> Result<()> {
        match self {
            Self::Raw(_) => Ok(()),
            Self::Vhd(disk) => disk.check(report),
            Self::Vhdx(disk) => disk.check(report),
        }
    }

    /// Where the disk departs from its specification in what most readers do not mind, a
    /// sentence each. [`check`](Self::check) does not report this.
    #[must_use]
    pub fn notes(&self) -> Vec<String> {
        match self {
            Self::Raw(_) => Vec::new(),
            Self::Vhd(disk) => disk.notes(),
            Self::Vhdx(disk) => disk.notes(),
        }
    }

    /// The parent that a differencing disk names.
    #[must_use]
    pub fn parent(&self) -> Option<Parent<'_>> {
        match self {
            Self::Raw(_) => None,
            Self::Vhd(disk) => disk.parent_reference().map(Parent::Vhd),
            Self::Vhdx(disk) => disk.parent_locator().map(Parent::Vhdx),
        }
    }

    /// Gives a differencing disk its parent, which may itself be one with a parent attached.
    ///
    /// # Errors
    /// If the disk has no parent, or the other is not it.
    pub fn attach_parent(&mut self, parent: Disk<AnyStorage>) -> Result<()> {
        match self {
            Self::Raw(_) => Err(Error::input("a raw disk has no parent")),
            Self::Vhd(disk) => match parent {
                Disk::Vhd(parent) => disk.attach_parent(parent),
                _ => Err(Error::parent("the parent of a VHD must be a VHD")),
            },
            Self::Vhdx(disk) => match parent {
                Disk::Vhdx(parent) => disk.attach_parent(parent),
                _ => Err(Error::parent("the parent of a VHDX must be a VHDX")),
            },
        }
    }

    /// Opens a disk for reading, and its parents as far as there are any.
    ///
    /// # Errors
    /// As [`open`](Self::open) and [`attach_chain`](Self::attach_chain).
    pub fn open_chain(
        storage: S,
        find: impl FnMut(Parent<'_>) -> io::Result<AnyStorage>,
    ) -> Result<Self> {
        let mut disk = Self::open(storage)?;
        disk.attach_chain(find)?;
        Ok(disk)
    }

    /// Opens the parents of a disk, as far as there are any, and attaches them.
    ///
    /// `find` opens the file of each parent, by what its child says about it. Mind that a disk
    /// from elsewhere may name any file at all.
    ///
    /// # Errors
    /// As [`open`](Self::open) and [`attach_parent`](Self::attach_parent), if `find` fails or
    /// the chain has more than 256 parents.
    pub fn attach_chain(
        &mut self,
        mut find: impl FnMut(Parent<'_>) -> io::Result<AnyStorage>,
    ) -> Result<()> {
        const MAX_PARENTS: usize = 256;
        let mut chain: Vec<Disk<AnyStorage>> = Vec::new();
        while let Some(parent) = match chain.last() {
            Some(disk) => disk.parent(),
            None => self.parent(),
        } {
            if chain.len() == MAX_PARENTS {
                return Err(Error::parent("the chain of parents has no end"));
            }
            let storage =
                find(parent).map_err(|error| Error::io("cannot open the parent", error))?;
            chain.push(Disk::open(storage)?);
        }
        while let Some(parent) = chain.pop() {
            match chain.last_mut() {
                Some(child) => child.attach_parent(parent)?,
                None => self.attach_parent(parent)?,
            }
        }
        Ok(())
    }
}

impl<S: Storage> Disk<S> {
    /// Opens a disk for reading and writing, by the format that its contents show.
    ///
    /// # Errors
    /// As the format's own `open_writable`.
    pub fn open_writable(storage: S) -> Result<Self> {
        Ok(match Format::detect(&storage)? {
            Format::Raw => Self::Raw(Raw::open_writable(storage)?),
            Format::Vhd => Self::Vhd(Vhd::open_writable(storage)?),
            Format::Vhdx => Self::Vhdx(Vhdx::open_writable(storage)?),
        })
    }

    /// Writes the data at that offset of the virtual disk.
    ///
    /// # Errors
    /// If the range ends past the disk, the disk is open for reading only, or writing fails.
    pub fn write_at(&mut self, offset: u64, data: &[u8]) -> Result<()> {
        each!(self, disk => disk.write_at(offset, data))
    }

    /// Makes everything written so far durable.
    ///
    /// # Errors
    /// If writing or flushing fails.
    pub fn flush(&mut self) -> Result<()> {
        each!(self, disk => disk.flush())
    }

    /// Leaves the file as a cleanly closed disk and gives the storage back.
    ///
    /// # Errors
    /// As [`flush`](Self::flush).
    pub fn close(self) -> Result<S> {
        each!(self, disk => disk.close())
    }
}

impl<S: ReadAt> ReadAt for Disk<S> {
    fn size(&self) -> io::Result<u64> {
        Ok(self.virtual_size())
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        Ok(Self::read_at(self, offset, buffer)?)
    }
}

/// A disk that is its bytes and nothing else.
pub struct Raw<S> {
    storage: S,
    virtual_size: u64,
    writable: bool,
}

impl<S: ReadAt> Raw<S> {
    /// Opens any file as a disk, for reading.
    ///
    /// # Errors
    /// If the size of the storage cannot be told.
    pub fn open(storage: S) -> Result<Self> {
        let virtual_size = storage
            .size()
            .map_err(|error| Error::io("cannot tell the size of the file", error))?;
        Ok(Self {
            storage,
            virtual_size,
            writable: false,
        })
    }

    /// The size of the disk in bytes.
    #[must_use]
    pub fn virtual_size(&self) -> u64 {
        self.virtual_size
    }

    /// Fills the buffer from that offset.
    ///
    /// # Errors
    /// If the range ends past the disk, or reading fails.
    pub fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<()> {
        check_range(self.virtual_size, offset, buffer.len())?;
        self.storage
            .read_at(offset, buffer)
            .map_err(|error| Error::read("the disk's bytes", offset, error))
    }
}

impl<S: Storage> Raw<S> {
    /// Opens any file as a disk, for reading and writing.
    ///
    /// # Errors
    /// If the size of the storage cannot be told.
    pub fn open_writable(storage: S) -> Result<Self> {
        let mut disk = Self::open(storage)?;
        disk.writable = true;
        Ok(disk)
    }

    /// Writes the data at that offset.
    ///
    /// # Errors
    /// If the range ends past the disk, the disk is open for reading only, or writing fails.
    pub fn write_at(&mut self, offset: u64, data: &[u8]) -> Result<()> {
        if !self.writable {
            return Err(Error::read_only("the disk is open for reading only"));
        }
        check_range(self.virtual_size, offset, data.len())?;
        self.storage
            .write_at(offset, data)
            .map_err(|error| Error::write("the disk's bytes", offset, error))
    }

    /// Makes everything written so far durable.
    ///
    /// # Errors
    /// If flushing fails.
    pub fn flush(&mut self) -> Result<()> {
        self.storage.flush().map_err(Error::flush)
    }

    /// Flushes what was written and gives the storage back.
    ///
    /// # Errors
    /// As [`flush`](Self::flush).
    pub fn close(mut self) -> Result<S> {
        if self.writable {
            self.flush()?;
        }
        Ok(self.storage)
    }
}

impl<S> fmt::Debug for Raw<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Raw")
            .field("virtual_size", &self.virtual_size)
            .field("writable", &self.writable)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Disks are read from many threads at once.
    const fn is_shared<T: Send + Sync>() {}
    const _: () = is_shared::<Disk<std::fs::File>>();
    const _: () = is_shared::<Disk<AnyStorage>>();
}
