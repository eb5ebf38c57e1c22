//! The layers below, read from their disks: what overlayfs would show of them.

mod contents;
mod disk;
mod entry;
mod merged;
mod metadata;
mod xattr;

use std::io;
use std::path::Path;

use crate::disk::Volume;
use crate::error::Result;
use crate::summary::display_file;
use contents::Contents;
use disk::{Disk, kind_of};
use merged::{Merged, Shown};

pub use entry::{LowerContents, LowerEntry, LowerKind, LowerLayers, LowerMetadata, LowerPiece};

/// Layers that were converted before, to convert the one above them with.
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
    /// Opens disks that this crate has written, of any [`DiskFormat`](crate::DiskFormat), the
    /// nearest layer first.
    ///
    /// # Errors
    /// As [`Volume::open`], and [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported) if a
    /// disk holds no file system of the form that is written here.
    pub fn open<P: AsRef<Path>>(nearest_first: impl IntoIterator<Item = P>) -> Result<Self> {
        let open = |path: P| {
            let path = path.as_ref();
            Disk::open(Volume::open(path)?, &display_file(path))
        };
        let disks: Result<Vec<_>> = nearest_first.into_iter().map(open).collect();
        Merged::new(disks?).map(Self)
    }

    /// Reads disks that are open, of layers that this crate has written, the nearest first.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn new(nearest_first: impl IntoIterator<Item = Volume>) -> Result<Self> {
        let disks = nearest_first.into_iter();
        let disks: Result<Vec<_>> = disks.map(|volume| Disk::open(volume, "the disk")).collect();
        Merged::new(disks?).map(Self)
    }
}

impl LowerLayers for LowerDisks {
    fn lookup(&self, path: &[u8]) -> io::Result<Option<LowerEntry>> {
        let Some(Shown { number, ino, inode }) = self.0.find(path)? else {
            return Ok(None);
        };
        let disk = self.0.disk(number);
        let entry = LowerEntry::new(kind_of(disk, &inode)?, disk.metadata(&inode)?);
        Ok(Some(entry.with_id((number as u64) << 32 | u64::from(ino))))
    }

    fn contents(&self, path: &[u8]) -> io::Result<LowerContents<'_>> {
        match self.0.find(path)? {
            Some(Shown { number, inode, .. }) => {
                Ok(Box::new(Contents::new(self.0.disk(number), inode)?))
            }
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }
}
