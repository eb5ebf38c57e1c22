use std::fmt;
use std::sync::Arc;

use vhd_format::{vhd, vhdx};

use crate::cancel::CancelToken;
use crate::disk::DiskFormat;
use crate::disk::Shape;
use crate::error::{Error, ErrorKind, Result};

type ProgressCallback = Arc<dyn Fn(u64) + Send + Sync>;

/// Options of a disk.
///
/// ```
/// use tar2vhd::DiskFormat;
/// use tar2vhd::virtual_disk::DiskOptions;
///
/// let options = DiskOptions::new().format(DiskFormat::Vhdx).block_size(32 << 20);
/// ```
#[derive(Clone)]
#[must_use]
pub struct DiskOptions {
    pub(super) format: DiskFormat,
    pub(super) block_size: Option<u32>,
    pub(super) logical_sector_size: u32,
    pub(super) physical_sector_size: u32,
    pub(super) id: Option<[u8; 16]>,
    pub(super) time: u64,
    pub(super) fsync: bool,
    pub(super) progress: Option<ProgressCallback>,
    pub(super) cancel: CancelToken,
}

impl Default for DiskOptions {
    fn default() -> Self {
        Self {
            format: DiskFormat::Vhdx,
            block_size: None,
            logical_sector_size: 512,
            physical_sector_size: 4096,
            id: None,
            time: 0,
            fsync: true,
            progress: None,
            cancel: CancelToken::new(),
        }
    }
}

impl DiskOptions {
    /// The defaults: a dynamic VHDX with logical sectors of 512 and physical ones of 4,096 bytes.
    pub fn new() -> Self {
        Self::default()
    }

    /// The format; default [`DiskFormat::Vhdx`].
    pub fn format(mut self, format: DiskFormat) -> Self {
        self.format = format;
        self
    }

    /// Bytes of a block, a power of two: 4 KiB to 256 MiB for a dynamic VHD (Windows takes
    /// 512 KiB and 2 MiB), 1 to 256 MiB for a VHDX. By default 2 MiB for a VHD; for a VHDX
    /// 1 MiB, and 32 MiB if the disk is larger than 1 TiB. Other formats have no blocks.
    pub fn block_size(mut self, bytes: u32) -> Self {
        self.block_size = Some(bytes);
        self
    }

    /// The unit in which a guest addresses a VHDX: 512, the default, or 4,096 bytes. That of
    /// other formats is 512.
    pub fn logical_sector_size(mut self, bytes: u32) -> Self {
        self.logical_sector_size = bytes;
        self
    }

    /// The unit in which a guest had better write to a VHDX: 512 or 4,096 bytes, the default.
    pub fn physical_sector_size(mut self, bytes: u32) -> Self {
        self.physical_sector_size = bytes;
        self
    }

    /// The id of the disk: a VHD's unique id, a VHDX's virtual disk id. By default
    /// it follows from what is on the disk and these options, so that equal disks have equal
    /// ids: give one to an empty disk that a guest is to have beside another.
    pub fn id(mut self, id: [u8; 16]) -> Self {
        self.id = Some(id);
        self
    }

    /// When the disk was made, in seconds since 1970; default 0. Only VHDs tell.
    pub fn time(mut self, seconds: u64) -> Self {
        self.time = seconds;
        self
    }

    /// Whether functions that write a file wait until it is on stable storage; default yes.
    pub fn fsync(mut self, fsync: bool) -> Self {
        self.fsync = fsync;
        self
    }

    /// Calls back now and then with the offset in the disk up to which it is copied.
    pub fn progress(mut self, callback: impl Fn(u64) + Send + Sync + 'static) -> Self {
        self.progress = Some(Arc::new(callback));
        self
    }

    /// Lets another thread stop the work.
    pub fn cancel(mut self, token: CancelToken) -> Self {
        self.cancel = token;
        self
    }
}

impl DiskOptions {
    /// The unit of which a disk has a whole number.
    pub(super) fn sector_size(&self) -> u64 {
        match self.format {
            DiskFormat::Raw => 1,
            DiskFormat::Vhd | DiskFormat::VhdDynamic => vhd::SECTOR_SIZE,
            DiskFormat::Vhdx | DiskFormat::VhdxFixed => self.logical_sector_size.into(),
        }
    }

    /// Refuses options that contradict each other or are out of range, and a disk of so many
    /// bytes if the format cannot hold it.
    pub(super) fn check(&self, virtual_size: u64) -> Result<()> {
        let wrong = |message: String| Err(Error::new(ErrorKind::InvalidOptions, message));
        let name = self.format.as_str();
        let (most, blocks) = match self.format {
            DiskFormat::Raw => (i64::MAX as u64, None),
            DiskFormat::Vhd => (vhd::MAX_VIRTUAL_SIZE, None),
            DiskFormat::VhdDynamic => (vhd::MAX_VIRTUAL_SIZE, Some(4 << 10)),
            DiskFormat::Vhdx | DiskFormat::VhdxFixed => (vhdx::MAX_VIRTUAL_SIZE, Some(1 << 20)),
        };
        match (self.block_size, blocks) {
            (None, _) => {}
            (Some(_), None) => {
                return wrong(format!("a block size, but the format {name} has no blocks"));
            }
            (Some(size), Some(least)) => {
                if !size.is_power_of_two() || !(least..=256 << 20).contains(&size) {
                    return wrong(format!(
                        "blocks of {size} bytes; those of the format {name} have a power of two \
                         from {least} to 256 MiB"
                    ));
                }
            }
        }
        for (kind, size) in [
            ("logical", self.logical_sector_size),
            ("physical", self.physical_sector_size),
        ] {
            if size != 512 && size != 4096 {
                return wrong(format!(
                    "{kind} sectors of {size} bytes; they have 512 or 4096"
                ));
            }
        }
        let is_vhdx = matches!(self.format, DiskFormat::Vhdx | DiskFormat::VhdxFixed);
        if self.logical_sector_size != 512 && !is_vhdx {
            return wrong(format!(
                "logical sectors of {} bytes; those of the format {name} have 512",
                self.logical_sector_size
            ));
        }
        if self.physical_sector_size != 4096 && !is_vhdx {
            return wrong(format!(
                "physical sectors of {} bytes, but the format {name} does not tell any",
                self.physical_sector_size
            ));
        }
        if self.id.is_some() && self.format == DiskFormat::Raw {
            return wrong(format!("an id, but the format {name} has none"));
        }
        let sector_size = self.sector_size();
        let is_some = virtual_size > 0 || self.format == DiskFormat::Raw;
        if !is_some || virtual_size > most || !virtual_size.is_multiple_of(sector_size) {
            return Err(Error::limit(format!(
                "a disk of {virtual_size} bytes; the format {name} holds {} to {most}, a \
                 multiple of {sector_size}",
                if self.format == DiskFormat::Raw {
                    0
                } else {
                    sector_size
                },
            )));
        }
        Ok(())
    }

    pub(super) fn shape(&self, size: u64) -> Shape {
        Shape {
            format: self.format,
            size,
            block_size: self.block_size,
            logical_sector_size: self.logical_sector_size,
            physical_sector_size: self.physical_sector_size,
            time: self.time,
        }
    }
}

/// All fields; of the callback whether there is one.
impl fmt::Debug for DiskOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            format,
            block_size,
            logical_sector_size,
            physical_sector_size,
            id,
            time,
            fsync,
            progress,
            cancel,
        } = self;
        f.debug_struct("DiskOptions")
            .field("format", format)
            .field("block_size", block_size)
            .field("logical_sector_size", logical_sector_size)
            .field("physical_sector_size", physical_sector_size)
            .field("id", id)
            .field("time", time)
            .field("fsync", fsync)
            .field("progress", &progress.is_some())
            .field("cancel", cancel)
            .finish()
    }
}
