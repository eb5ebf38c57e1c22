//! A disk file, read as a guest would see it.

use std::fmt;
use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::Arc;

use vhd_format::vhd::{DiskType, Footer};
use vhd_format::{AnyStorage, Disk, Format, ReadAt};

use super::DiskFormat;
use super::holes::Holes;
use super::open::open_file;
use super::{FileId, parents, platform};
use crate::error::{Error, ErrorKind, Result};
use crate::signature::{self, HEAD, Signature, TAIL, VHD_SET};

/// A disk in a file of any [`DiskFormat`], open for reading: the bytes that a guest would see.
///
/// Clones read the same disk.
///
/// ```
/// use tar2vhd::{DiskFormat, Volume};
/// use tar2vhd::disk::MemoryDisk;
/// use tar2vhd::virtual_disk::DiskOptions;
///
/// let file = MemoryDisk::new();
/// let options = DiskOptions::new().format(DiskFormat::Vhdx);
/// tar2vhd::virtual_disk::create(1 << 30, &file, &options)?;
///
/// let volume = Volume::from_bytes(file.into_vec())?;
/// let mut bytes = [1; 512];
/// volume.read_at((1 << 30) - 512, &mut bytes)?;
/// assert_eq!(bytes, [0; 512]);
/// # Ok::<(), tar2vhd::Error>(())
/// ```
#[derive(Clone)]
pub struct Volume {
    disk: Arc<Disk<AnyStorage>>,
    file_size: u64,
    /// The file, unless the disk is in memory.
    file: Option<Arc<File>>,
    /// The holes of the file, if the disk's bytes stand in it as they are.
    holes: Option<Arc<Holes>>,
    /// Damage to the footer of a fixed VHD that could be opened without it.
    footer_damage: Option<Arc<vhd_format::Error>>,
    files: Vec<FileId>,
    /// The path of the file, for errors.
    path: Option<Arc<Path>>,
}

impl Volume {
    /// Opens the disk in a file by what the file holds, and the parents of a differencing disk.
    ///
    /// A file that is neither VHD nor VHDX is a raw disk, unless it shows another format of disks
    /// or archives, such as qcow2 or zip, or is empty: [`open_raw`](Self::open_raw) opens those as
    /// raw too.
    ///
    /// Parents are looked for where the disk says relative to itself, and then by their names
    /// beside it; where it gives a whole path, that is not followed.
    ///
    /// # Errors
    /// [`ErrorKind::Input`] if a file cannot be read, is not there or not a file or a block
    /// device, [`ErrorKind::InvalidDisk`] if one is empty, damaged or not the parent that it should be,
    /// [`ErrorKind::Unsupported`] if it requires what is not known here, or is of another format.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let mut volume = Self::open_alone(path)?;
        if let Some(disk) = Arc::get_mut(&mut volume.disk) {
            parents::attach(disk, path, &mut volume.files)
                .map_err(|e| unreadable(&e).in_file(path))?;
        }
        Ok(volume)
    }

    /// Opens the disk in a file as [`open`](Self::open) does, but no parents: what a
    /// differencing disk has of them cannot be read.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn open_alone(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        Self::with_file(path, |storage| {
            let volume = Self::of_storage(storage)?;
            volume.check_file(path).map(|()| volume)
        })
    }

    /// Opens a file as a raw disk, whatever it holds.
    ///
    /// # Errors
    /// [`ErrorKind::Input`] if the file cannot be read, is not there or not a file or a block
    /// device.
    pub fn open_raw(path: impl AsRef<Path>) -> Result<Self> {
        Self::with_file(path.as_ref(), Self::raw)
    }

    /// The disk that `open` makes of a file.
    fn with_file(path: &Path, open: impl FnOnce(AnyStorage) -> Result<Self>) -> Result<Self> {
        let file = Arc::new(open_file(path)?);
        let opened = || {
            let mut volume = open(Box::new(Arc::clone(&file)))?;
            if matches!(volume.format(), DiskFormat::Raw | DiskFormat::Vhd) {
                volume.holes = Some(Arc::new(Holes::new(volume.virtual_size())));
            }
            volume.files.push(FileId::of(&file).map_err(Error::input)?);
            Ok(volume)
        };
        let mut volume = opened().map_err(|error: Error| error.in_file(path))?;
        volume.file = Some(Arc::clone(&file));
        volume.path = Some(path.into());
        Ok(volume)
    }

    /// Opens the disk that these bytes are.
    ///
    /// # Errors
    /// As [`open`](Self::open). What a differencing disk has of its parent cannot be read.
    pub fn from_bytes(bytes: impl AsRef<[u8]> + Send + Sync + 'static) -> Result<Self> {
        Self::from_storage(Bytes(bytes))
    }

    /// Opens the disk that is in `storage`.
    ///
    /// # Errors
    /// As [`open`](Self::open). What a differencing disk has of its parent cannot be read.
    pub fn from_storage(storage: impl ReadAt + Send + Sync + 'static) -> Result<Self> {
        Self::of_storage(Box::new(storage))
    }

    /// Opens `storage` as a raw disk, whatever it holds.
    ///
    /// # Errors
    /// [`ErrorKind::Input`] if its size cannot be had.
    pub fn raw_from_storage(storage: impl ReadAt + Send + Sync + 'static) -> Result<Self> {
        Self::raw(Box::new(storage))
    }

    fn raw(storage: AnyStorage) -> Result<Self> {
        let file_size = storage.size().map_err(Error::input)?;
        let raw = vhd_format::Raw::open(storage).map_err(|e| unreadable(&e))?;
        Ok(Self {
            disk: Arc::new(Disk::Raw(raw)),
            file_size,
            file: None,
            holes: None,
            footer_damage: None,
            files: Vec::new(),
            path: None,
        })
    }

    fn of_storage(storage: AnyStorage) -> Result<Self> {
        let storage = Arc::new(storage);
        let file_size = storage.size().map_err(Error::input)?;
        let mut footer_damage = None;
        let opened = Disk::open(Box::new(Arc::clone(&storage)) as AnyStorage);
        let disk = match opened {
            Ok(Disk::Raw(disk)) => {
                if let Some(message) = other_format(&storage, file_size)? {
                    return Err(Error::unsupported(message));
                }
                Disk::Raw(disk)
            }
            Ok(disk) => disk,
            Err(e) => {
                // Bytes before the footer of a fixed VHD are the disk, whatever the footer says.
                let rest = before_footer(storage, file_size, &e).ok_or_else(|| unreadable(&e))?;
                footer_damage = Some(Arc::new(e));
                Disk::Raw(vhd_format::Raw::open(rest).map_err(|e| unreadable(&e))?)
            }
        };
        Ok(Self {
            disk: Arc::new(disk),
            file_size,
            file: None,
            holes: None,
            footer_damage,
            files: Vec::new(),
            path: None,
        })
    }

    /// Refuses an empty file, and what only its name tells from a raw disk.
    fn check_file(&self, path: &Path) -> Result<()> {
        if self.file_size == 0 {
            return Err(Error::new(ErrorKind::InvalidDisk, "the file is empty"));
        }
        let is_set = path
            .extension()
            .is_some_and(|e| e.eq_ignore_ascii_case("vhds"));
        let is_set = is_set && self.format() == DiskFormat::Raw;
        match VHD_SET.instead_of_disk().filter(|_| is_set) {
            Some(message) => Err(Error::unsupported(message)),
            None => Ok(()),
        }
    }

    /// The disk itself, with all that is particular to its format.
    #[must_use]
    pub fn disk(&self) -> &Disk<AnyStorage> {
        &self.disk
    }

    /// The files that hold the disk: its own, and those of the parents that were opened. None of
    /// them may be replaced while the disk is needed.
    #[must_use]
    pub fn files(&self) -> &[FileId] {
        &self.files
    }

    /// The size of the disk's file in bytes.
    #[must_use]
    pub fn file_size(&self) -> u64 {
        self.file_size
    }

    /// Damage to the footer of a fixed VHD, all of whose other bytes are then read as
    /// the disk.
    pub(crate) fn footer_damage(&self) -> Option<&vhd_format::Error> {
        self.footer_damage.as_deref()
    }

    /// Looks for what is wrong with the disk's structures although it could be opened, and
    /// reports it piece by piece.
    ///
    /// # Errors
    /// As [`read_at`](Self::read_at), and the check is not finished.
    pub fn check(&self, mut report: impl FnMut(&vhd_format::Error)) -> Result<()> {
        if let Some(damage) = self.footer_damage() {
            report(damage);
        }
        let checked = self.disk().check(|damage| report(&damage));
        checked.map_err(|e| self.failed(&e))
    }

    /// The format of the file. A differencing disk has that of a dynamic one.
    #[must_use]
    pub fn format(&self) -> DiskFormat {
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
    #[must_use]
    pub fn virtual_size(&self) -> u64 {
        self.disk.virtual_size()
    }

    /// Fills `buffer` with the bytes of the disk from `offset` on.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidDisk`] if the disk ends first or its file is damaged,
    /// [`ErrorKind::Input`] if that cannot be read, or has become shorter since.
    pub fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<()> {
        self.disk()
            .read_at(offset, buffer)
            .map_err(|e| self.failed(&e))
    }

    /// Names the file of the disk in an error.
    pub(crate) fn named<T>(&self, result: Result<T>) -> Result<T> {
        result.map_err(|error| match &self.path {
            Some(path) => error.in_file(path),
            None => error,
        })
    }

    /// Why the disk cannot be read. A file that is cut short meanwhile looks like a damaged one.
    pub(crate) fn failed(&self, error: &vhd_format::Error) -> Error {
        self.check_size().err().unwrap_or_else(|| unreadable(error))
    }

    /// Makes sure that the file has the size that it had when it was opened: what was read from
    /// it is of one disk, and no hole was the end of the file.
    ///
    /// # Errors
    /// [`ErrorKind::Input`] if the size has changed.
    pub(crate) fn check_size(&self) -> Result<()> {
        let Some(file) = &self.file else {
            return Ok(());
        };
        let (then, now) = (self.file_size, file.size().map_err(Error::input)?);
        if then == now {
            return Ok(());
        }
        Err(Error::new(
            ErrorKind::Input,
            format!(
                "the disk's file had {then} bytes and has {now} now: it changed while it was read"
            ),
        ))
    }

    /// `len` bytes of the disk from `offset` on: as many as the caller has reason to expect.
    pub(crate) fn read(&self, offset: u64, len: usize) -> Result<Vec<u8>> {
        let mut bytes = vec![0; len];
        self.read_at(offset, &mut bytes)?;
        Ok(bytes)
    }

    /// Whether there is data at `offset`, which is in the disk, or zeros for certain, and up to
    /// where that is known.
    pub(crate) fn extent(&self, offset: u64) -> Result<(bool, u64)> {
        let extent = self.disk.extent(offset).map_err(|e| self.failed(&e))?;
        if let (Some(holes), Some(file)) = (&self.holes, &self.file) {
            return Ok(holes.extent(offset, |offset| platform::extent(file, offset)));
        }
        Ok((extent.data, extent.end))
    }

    /// Whether `len` bytes from `offset` on are known to be zeros without a look at them.
    pub(crate) fn is_hole(&self, offset: u64, len: u64) -> Result<bool> {
        let mut position = offset;
        while position < offset.saturating_add(len) {
            let (data, end) = self.extent(position)?;
            if data {
                return Ok(false);
            }
            position = end;
        }
        Ok(true)
    }
}

impl fmt::Debug for Volume {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Volume")
            .field("format", &self.format())
            .field("virtual_size", &self.virtual_size())
            .finish_non_exhaustive()
    }
}

/// The format that a file shows which is not read, and what to do about it; none if the file may
/// be a raw disk.
fn other_format(storage: &AnyStorage, size: u64) -> Result<Option<String>> {
    let mut head = vec![0; size.min(HEAD as u64) as usize];
    let failed = |e, at| Error::input(e).at_offset(at);
    storage.read_at(0, &mut head).map_err(|e| failed(e, 0))?;
    let found = signature::identify(&head).and_then(|found| found.instead_of_disk());
    let Some(end) = size.checked_sub(TAIL as u64).filter(|_| found.is_none()) else {
        return Ok(found);
    };
    let mut tail = [0; TAIL];
    storage
        .read_at(end, &mut tail)
        .map_err(|e| failed(e, end))?;
    let found = signature::identify_end(&tail);
    Ok(found.as_ref().and_then(Signature::instead_of_disk))
}

/// Why a disk cannot be read.
pub(crate) fn unreadable(error: &vhd_format::Error) -> Error {
    let kind = match error.kind() {
        vhd_format::ErrorKind::Io => ErrorKind::Input,
        vhd_format::ErrorKind::Unsupported => ErrorKind::Unsupported,
        _ => ErrorKind::InvalidDisk,
    };
    // It names its source and its place itself.
    let message = format!("{error:#}");
    match error.offset() {
        None => Error::new(kind, message),
        Some(offset) => {
            let place = format!(" (at byte {offset})");
            let message = message.strip_suffix(&place).unwrap_or(&message);
            Error::new(kind, message).at_offset(offset)
        }
    }
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
