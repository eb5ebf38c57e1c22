//! The layers below, read from their disks: what overlayfs would show of them.

mod disk;
mod entry;
mod merged;
mod probe;

use std::io;
use std::path::Path;

use crate::disk::Volume;
use crate::error::Result;
use disk::Disk;
use merged::{Merged, Shown};

pub use entry::{LowerContents, LowerEntry, LowerKind, LowerLayers, LowerMetadata, LowerPiece};
pub use probe::LowerProbe;

/// Layers on disks, to convert the one above them with.
///
/// Answers as overlayfs would show the disks, stacked: the nearest layer that has a path
/// decides, whiteouts and opaque directories hide what is further down.
///
/// ```no_run
/// # fn main() -> tar2vhd::Result<()> {
/// let below = tar2vhd::lower::LowerDisks::open(["2/layer.vhd", "1/layer.vhd"])?;
/// let options = tar2vhd::Options::new().lower_layers(below);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct LowerDisks(Merged);

impl LowerDisks {
    /// Opens disks of any [`DiskFormat`](crate::DiskFormat) that hold ext2, ext3 or ext4, the
    /// nearest layer first.
    ///
    /// # Errors
    /// As [`Volume::open`]; [`ErrorKind::InvalidDisk`](crate::ErrorKind::InvalidDisk) if there is
    /// no file system or it is damaged, [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported)
    /// if it has a feature that is not read, or was not unmounted.
    pub fn open<P: AsRef<Path>>(nearest_first: impl IntoIterator<Item = P>) -> Result<Self> {
        let open = |path: P| {
            let path = path.as_ref();
            Disk::open(Volume::open(path)?).map_err(|error| error.in_file(path))
        };
        let disks: Result<Vec<_>> = nearest_first.into_iter().map(open).collect();
        Merged::new(disks?).map(Self)
    }

    /// Reads disks that are open, the nearest layer first.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn new(nearest_first: impl IntoIterator<Item = Volume>) -> Result<Self> {
        let disks = nearest_first.into_iter();
        let disks: Result<Vec<_>> = disks.map(Disk::open).collect();
        Merged::new(disks?).map(Self)
    }
}

impl LowerLayers for LowerDisks {
    fn lookup(&self, path: &[u8]) -> io::Result<Option<LowerEntry>> {
        let Some(Shown { number, inode }) = self.0.find(path)? else {
            return Ok(None);
        };
        let disk = self.0.disk(number);
        let entry = LowerEntry::new(disk.kind_of(&inode)?, disk.metadata(&inode)?);
        let id = (number as u64) << 32 | u64::from(inode.number());
        Ok(Some(entry.with_id(id)))
    }

    fn contents(&self, path: &[u8]) -> io::Result<LowerContents<'_>> {
        match self.0.find(path)? {
            Some(Shown { number, inode }) => self.0.disk(number).contents(&inode),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }
}
