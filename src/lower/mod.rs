//! The layers below, read from their disks: what overlayfs would show of them.

mod disk;
mod xattr;

use std::io;
use std::path::Path;

use crate::error::Result;
use crate::ext4::format::ROOT_INO;
use crate::options::{LowerEntry, LowerLayers};
use disk::{Disk, Kind};

/// Layers that were converted before, to convert the one above them with.
///
/// Answers as overlayfs would show the disks, stacked: the nearest layer that has a path
/// decides, whiteouts and opaque directories hide what is further down.
///
/// ```no_run
/// # fn main() -> tar2vhd::Result<()> {
/// let below = tar2vhd::LowerDisks::open(["2/layer.vhd", "1/layer.vhd"])?;
/// let options = tar2vhd::Options::new().lower_layers(below);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct LowerDisks(Vec<Disk>);

impl LowerDisks {
    /// Opens disks that this crate has written, raw or fixed VHDs, the nearest layer first.
    ///
    /// # Errors
    /// [`ErrorKind::Input`](crate::ErrorKind::Input) if a file cannot be read,
    /// [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported) if it holds no file system
    /// of the form that is written here.
    pub fn open<P: AsRef<Path>>(nearest_first: impl IntoIterator<Item = P>) -> Result<Self> {
        let disks = nearest_first.into_iter();
        disks
            .map(|path| Disk::open(path.as_ref()))
            .collect::<Result<_>>()
            .map(Self)
    }
}

impl LowerLayers for LowerDisks {
    fn lookup(&self, path: &[u8]) -> io::Result<Option<LowerEntry>> {
        for disk in &self.0 {
            match look(disk, path)? {
                Look::Found(entry) => return Ok(Some(entry)),
                Look::Hidden => return Ok(None),
                Look::Below => {}
            }
        }
        Ok(None)
    }
}

/// What one layer says of a path.
enum Look {
    Found(LowerEntry),
    /// Nothing stands there, whatever is further down.
    Hidden,
    /// The layers further down decide.
    Below,
}

fn look(disk: &Disk, path: &[u8]) -> io::Result<Look> {
    let mut dir = disk.inode(ROOT_INO)?;
    let mut opaque = false;
    let mut names = path
        .split(|b| *b == b'/')
        .filter(|n| !n.is_empty())
        .peekable();
    if names.peek().is_none() {
        return Ok(Look::Found(LowerEntry::Directory(disk.metadata(&dir)?)));
    }
    while let Some(name) = names.next() {
        let Some(ino) = disk.find(&dir, name)? else {
            return Ok(match opaque {
                true => Look::Hidden,
                false => Look::Below,
            });
        };
        let inode = disk.inode(ino)?;
        let last = names.peek().is_none();
        match disk.kind(&inode)? {
            Kind::Whiteout => return Ok(Look::Hidden),
            Kind::Directory if last => {
                return Ok(Look::Found(LowerEntry::Directory(disk.metadata(&inode)?)));
            }
            Kind::Directory => {
                opaque |= disk.is_opaque(&inode)?;
                dir = inode;
            }
            Kind::Symlink(target) if last => return Ok(Look::Found(LowerEntry::Symlink(target))),
            Kind::Other if last => return Ok(Look::Found(LowerEntry::Other)),
            Kind::Symlink(_) | Kind::Other => return Ok(Look::Hidden),
        }
    }
    Ok(Look::Hidden)
}
