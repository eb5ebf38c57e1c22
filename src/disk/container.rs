//! Disk formats around a file system: where in the file its bytes go.

use uuid::Uuid;
use vhd_format::{vhd, vhdx};

use super::DiskFormat;
use crate::error::{Error, ErrorKind, Result};

/// A disk whose size and identity are known last.
pub(crate) enum Container {
    Raw,
    Vhd(Box<vhd::Layout>),
    Vhdx(Box<vhdx::Layout>),
}

/// The ids of a disk, which all follow from its contents.
#[derive(Clone, Copy, Debug)]
pub(crate) struct DiskIds {
    /// The VHD's unique id, or the VHDX's virtual disk id.
    pub disk: [u8; 16],
    /// Of a VHDX: what stands for the file and for the data in it.
    pub file: [u8; 16],
    pub data: [u8; 16],
}

/// 2000-01-01, from where a VHD counts its seconds.
const VHD_EPOCH: u64 = 946_684_800;

/// Parameters of a disk.
pub(crate) struct Shape {
    pub format: DiskFormat,
    /// The most bytes that a guest will see, in whole sectors.
    pub size: u64,
    /// Of a format that has blocks.
    pub block_size: Option<u32>,
    /// Of a VHDX.
    pub logical_sector_size: u32,
    /// Of a VHDX.
    pub physical_sector_size: u32,
    /// When it was made, in seconds since 1970.
    pub time: u64,
}

impl Container {
    /// A disk of at most `max_size` bytes, made at a time in seconds since 1970. A block size
    /// is for formats that have blocks.
    pub(crate) fn new(
        format: DiskFormat,
        max_size: u64,
        block_size: Option<u32>,
        time: u64,
    ) -> Result<Self> {
        Self::shaped(&Shape {
            format,
            size: max_size / SECTOR * SECTOR,
            block_size,
            logical_sector_size: 512,
            physical_sector_size: 4096,
            time,
        })
    }

    pub(crate) fn shaped(shape: &Shape) -> Result<Self> {
        let &Shape { format, size, .. } = shape;
        let stamp = u32::try_from(shape.time.saturating_sub(VHD_EPOCH)).unwrap_or(u32::MAX);
        let vhd = |parameters: vhd::Parameters| {
            let layout = vhd::Layout::new(&parameters.time_stamp(stamp)).map_err(out_of_range)?;
            Ok(Self::Vhd(Box::new(layout)))
        };
        match format {
            DiskFormat::Raw => Ok(Self::Raw),
            DiskFormat::Vhd => vhd(vhd::Parameters::fixed(size, [0; 16])),
            DiskFormat::VhdDynamic => {
                let block_size = shape
                    .block_size
                    .unwrap_or(vhd::Parameters::DEFAULT_BLOCK_SIZE);
                vhd(vhd::Parameters::dynamic(size, [0; 16]).block_size(block_size))
            }
            DiskFormat::Vhdx | DiskFormat::VhdxFixed => {
                // The table of blocks has its place before them: small blocks waste less at
                // the end, large ones keep the table of a large disk small.
                let by_size = if size <= ONE_TIB { 1 << 20 } else { 32 << 20 };
                let parameters = vhdx::Parameters::new(size)
                    .fixed(format == DiskFormat::VhdxFixed)
                    .block_size(shape.block_size.unwrap_or(by_size))
                    .logical_sector_size(shape.logical_sector_size)
                    .physical_sector_size(shape.physical_sector_size)
                    .creator("tar2vhd")
                    .identity(vhdx_ids(&NO_IDS));
                let layout = vhdx::Layout::new(&parameters).map_err(out_of_range)?;
                Ok(Self::Vhdx(Box::new(layout)))
            }
        }
    }

    /// Where a byte of the disk goes in the file, and how many of `len` bytes from there on
    /// go behind it.
    pub(crate) fn place(&mut self, offset: u64, len: usize) -> Result<(u64, usize)> {
        let (place, block_size) = match self {
            Self::Raw => return Ok((offset, len)),
            Self::Vhd(layout) => {
                let block_size = u64::from(layout.block_size());
                (layout.place(offset / block_size), block_size)
            }
            Self::Vhdx(layout) => {
                let block_size = u64::from(layout.block_size());
                (layout.place(offset / block_size), block_size)
            }
        };
        let within = offset % block_size;
        let place = place.map_err(out_of_range)? + within;
        let left = usize::try_from(block_size - within).unwrap_or(usize::MAX);
        Ok((place, len.min(left)))
    }

    /// Ends the disk. Where nothing was placed it reads as zero before `zero_end`, and behind
    /// it what it holds is undefined.
    pub(crate) fn finish(&mut self, virtual_size: u64, zero_end: u64, ids: &DiskIds) -> Result<()> {
        match self {
            Self::Raw => {}
            Self::Vhd(layout) => {
                layout
                    .set_virtual_size(virtual_size)
                    .map_err(out_of_range)?;
                layout.set_unique_id(ids.disk);
            }
            Self::Vhdx(layout) => {
                layout
                    .set_virtual_size(virtual_size)
                    .map_err(out_of_range)?;
                layout.set_identity(vhdx_ids(ids));
                // Blocks taken for zero must be guaranteed to read as zero.
                let zero = vhdx::BlockState::Zero;
                let blocks = zero_end.div_ceil(layout.block_size().into());
                if blocks >= layout.blocks() {
                    return layout.set_rest(zero).map_err(out_of_range);
                }
                for block in 0..blocks {
                    if layout.offset_of(block).is_none() {
                        layout.set(block..block + 1, zero).map_err(out_of_range)?;
                    }
                }
            }
        }
        Ok(())
    }

    /// The structures around the disk's own bytes, with their offsets in the file. The disk must be
    /// ended.
    pub(crate) fn structures(&self) -> Box<dyn Iterator<Item = (u64, Vec<u8>)> + '_> {
        match self {
            Self::Raw => Box::new(std::iter::empty()),
            Self::Vhd(layout) => Box::new(layout.structures()),
            Self::Vhdx(layout) => Box::new(layout.structures()),
        }
    }

    /// The size of the file of a disk that is ended.
    pub(crate) fn file_size(&self, virtual_size: u64) -> u64 {
        match self {
            Self::Raw => virtual_size,
            Self::Vhd(layout) => layout.file_size(),
            Self::Vhdx(layout) => layout.file_size(),
        }
    }
}

/// Up to here, small blocks do not make large tables.
const ONE_TIB: u64 = 1 << 40;

/// The unit of all these sizes.
const SECTOR: u64 = 512;

const NO_IDS: DiskIds = DiskIds {
    disk: [0; 16],
    file: [0; 16],
    data: [0; 16],
};

fn vhdx_ids(ids: &DiskIds) -> vhdx::Identity {
    vhdx::Identity {
        file_write_guid: Uuid::from_bytes(ids.file),
        data_write_guid: Uuid::from_bytes(ids.data),
        virtual_disk_id: Uuid::from_bytes(ids.disk),
    }
}

fn out_of_range(error: vhd_format::Error) -> Error {
    Error::new(ErrorKind::Limit, "the format cannot hold the disk").with_source(error)
}
