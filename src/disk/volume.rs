//! A disk file, read as a guest would see it.

use std::fs::{File, Metadata};
use std::io;
use std::path::Path;
use std::sync::Arc;

use ext4_view::Ext4Read;
use vhd_format::vhd::{DiskType, Footer};
use vhd_format::{AnyStorage, Disk, Format, ReadAt};

use super::map;
use crate::error::{Error, ErrorKind, Result};
use crate::options::DiskFormat;

/// The bytes of a disk in a file of any format, for reading. Clones read the same disk.
#[derive(Clone)]
pub(crate) struct Volume {
    disk: Arc<Disk<AnyStorage>>,
    file_size: u64,
    /// What is wrong with the footer of a fixed VHD that could be opened without it.
    footer_damage: Option<Arc<vhd_format::Error>>,
}

impl Volume {
    /// Opens the disk in a file by what the file holds.
    ///
    /// The file is mapped into memory where the system can do that, and must not be made
    /// shorter meanwhile.
    ///
    /// # Errors
    /// [`ErrorKind::Input`] if there is no such file or it cannot be read, else as
    /// [`open`](Self::open).
    pub(crate) fn open_file(path: &Path) -> Result<Self> {
        let (file, len) = open_file(path)?;
        // An address space can be too small, and not everything that is read can be mapped.
        let mapped = usize::try_from(len).map(|len| map::map(&file, len));
        match mapped {
            Ok(Ok(map)) if len > 0 => Self::open(Box::new(Bytes(map))),
            _ => Self::open(Box::new(file)),
        }
    }

    /// Opens the disk that these bytes are.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub(crate) fn from_bytes(bytes: impl AsRef<[u8]> + Send + Sync + 'static) -> Result<Self> {
        Self::open(Box::new(Bytes(bytes)))
    }

    /// Opens the disk in `storage` by what that holds.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidDisk`] if it is damaged, [`ErrorKind::Unsupported`] if it requires
    /// what is not known here, [`ErrorKind::Input`] if it cannot be read.
    pub(crate) fn open(storage: AnyStorage) -> Result<Self> {
        let storage = Arc::new(storage);
        let file_size = storage.size().map_err(Error::input)?;
        let mut footer_damage = None;
        let opened = Disk::open(Box::new(Arc::clone(&storage)) as AnyStorage);
        let disk = match opened {
            Ok(disk) => disk,
            Err(e) => {
                // What is before the footer of a fixed VHD is the disk, whatever the footer says.
                let rest = before_footer(storage, file_size, &e).ok_or_else(|| unreadable(&e))?;
                footer_damage = Some(Arc::new(e));
                Disk::Raw(vhd_format::Raw::open(rest).map_err(|e| unreadable(&e))?)
            }
        };
        Ok(Self {
            disk: Arc::new(disk),
            file_size,
            footer_damage,
        })
    }

    /// The disk itself.
    pub(crate) fn disk(&self) -> &Disk<AnyStorage> {
        &self.disk
    }

    /// The size of the disk's file in bytes.
    pub(crate) fn file_size(&self) -> u64 {
        self.file_size
    }

    /// What is wrong with the footer of a fixed VHD, all of whose other bytes are then read as
    /// the disk.
    pub(crate) fn footer_damage(&self) -> Option<&vhd_format::Error> {
        self.footer_damage.as_deref()
    }

    /// The format of the file. A differencing disk has that of a dynamic one.
    pub(crate) fn format(&self) -> DiskFormat {
        match self.disk() {
            Disk::Vhdx(disk) if disk.is_fixed() => DiskFormat::VhdxFixed,
            Disk::Vhdx(_) => DiskFormat::Vhdx,
            Disk::Vhd(disk) if disk.footer().disk_type() == DiskType::Fixed => DiskFormat::Vhd,
            Disk::Vhd(_) => DiskFormat::VhdDynamic,
            _ if self.footer_damage.is_some() => DiskFormat::Vhd,
            _ => DiskFormat::Raw,
        }
    }

    /// The size of the disk in bytes, as a guest sees it.
    pub(crate) fn len(&self) -> u64 {
        self.disk.virtual_size()
    }

    /// Fills `buffer` with the bytes of the disk from `offset` on.
    ///
    /// # Errors
    /// If the disk ends first, or its file is damaged or cannot be read.
    pub(crate) fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<()> {
        self.disk()
            .read_at(offset, buffer)
            .map_err(|e| unreadable(&e))
    }

    /// `len` bytes of the disk from `offset` on: as many as the caller has reason to expect.
    ///
    /// # Errors
    /// As [`read_at`](Self::read_at).
    pub(crate) fn read(&self, offset: u64, len: usize) -> Result<Vec<u8>> {
        let mut bytes = vec![0; len];
        self.read_at(offset, &mut bytes)?;
        Ok(bytes)
    }

    /// Whether `len` bytes from `offset` on are known to be zeros without a look at them.
    ///
    /// # Errors
    /// As [`read_at`](Self::read_at).
    pub(crate) fn is_hole(&self, offset: u64, len: u64) -> Result<bool> {
        let mut position = offset;
        while position < offset.saturating_add(len) {
            let extent = self.disk.extent(position).map_err(|e| unreadable(&e))?;
            if extent.data {
                return Ok(false);
            }
            position = extent.end;
        }
        Ok(true)
    }
}

impl Ext4Read for Volume {
    fn read(
        &mut self,
        start: u64,
        into: &mut [u8],
    ) -> std::result::Result<(), Box<dyn std::error::Error + Send + Sync>> {
        Ok(self.disk().read_at(start, into)?)
    }
}

/// Opens a file that is to be read as a disk, and tells its size.
///
/// # Errors
/// [`ErrorKind::Input`], also for what is neither a file nor a disk.
pub(crate) fn open_file(path: &Path) -> Result<(File, u64)> {
    let name = path.display();
    let failed = |e| Error::new(ErrorKind::Input, format!("cannot read {name}")).with_source(e);
    // Opening a FIFO would wait for a writer.
    let found = path.metadata().map_err(failed)?;
    if !is_disk(&found) {
        return Err(Error::new(
            ErrorKind::Input,
            format!("{name} is neither a file nor a disk"),
        ));
    }
    let file = File::open(path).map_err(failed)?;
    let len = file.size().map_err(failed)?;
    Ok((file, len))
}

#[cfg(unix)]
fn is_disk(found: &Metadata) -> bool {
    use std::os::unix::fs::FileTypeExt;
    found.is_file() || found.file_type().is_block_device()
}

#[cfg(not(unix))]
fn is_disk(found: &Metadata) -> bool {
    found.is_file()
}

/// Why a disk cannot be read.
pub(crate) fn unreadable(error: &vhd_format::Error) -> Error {
    let kind = match error.kind() {
        vhd_format::ErrorKind::Io => ErrorKind::Input,
        vhd_format::ErrorKind::Unsupported => ErrorKind::Unsupported,
        _ => ErrorKind::InvalidDisk,
    };
    // It names its place and source itself.
    Error::new(kind, error.to_string())
}

/// All but the last 512 bytes, if these were once the footer of a fixed VHD and `error` says
/// that they are not a good one.
fn before_footer(
    storage: Arc<AnyStorage>,
    size: u64,
    error: &vhd_format::Error,
) -> Option<AnyStorage> {
    let len = size.checked_sub(Footer::SIZE as u64)?;
    let starts_with_cookie = |offset| {
        let mut cookie = [0; 8];
        storage.read_at(offset, &mut cookie).is_ok() && &cookie == b"conectix"
    };
    let is_fixed = error.kind() == vhd_format::ErrorKind::Invalid
        && Format::detect(&storage).is_ok_and(|format| format == Format::Vhd)
        && starts_with_cookie(len)
        && (len == 0 || !starts_with_cookie(0));
    is_fixed.then(|| Box::new(Shortened { storage, len }) as AnyStorage)
}

/// The first bytes of something.
struct Shortened {
    storage: Arc<AnyStorage>,
    len: u64,
}

impl ReadAt for Shortened {
    fn size(&self) -> io::Result<u64> {
        Ok(self.len)
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        match offset.checked_add(buffer.len() as u64) {
            Some(end) if end <= self.len => self.storage.read_at(offset, buffer),
            _ => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }
}

/// A file in memory.
struct Bytes<T>(T);

impl<T: AsRef<[u8]>> ReadAt for Bytes<T> {
    fn size(&self) -> io::Result<u64> {
        self.0.as_ref().size()
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.0.as_ref().read_at(offset, buffer)
    }
}
