//! What a file system is wrapped in: where in the file its bytes go.

use uuid::Uuid;
use vhd_format::{vhd, vhdx};

use crate::error::{Error, ErrorKind, Result};
use crate::options::DiskFormat;

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

/// What is left to write: structures with their offsets, and the size of the file.
pub(crate) struct Rest {
    pub structures: Vec<(u64, Vec<u8>)>,
    pub len: u64,
}

/// 2000-01-01, from where a VHD counts its seconds.
const VHD_EPOCH: u64 = 946_684_800;

impl Container {
    /// A disk of at most `max_size` bytes, made at a time in seconds since 1970. A block size
    /// is for formats that have blocks.
    pub(crate) fn new(
        format: DiskFormat,
        max_size: u64,
        block_size: Option<u32>,
        time: u64,
    ) -> Result<Self> {
        let stamp = u32::try_from(time.saturating_sub(VHD_EPOCH)).unwrap_or(u32::MAX);
        let max_size = max_size / SECTOR * SECTOR;
        let vhd = |parameters: vhd::Parameters| {
            let layout = vhd::Layout::new(&parameters.time_stamp(stamp)).map_err(out_of_range)?;
            Ok(Self::Vhd(Box::new(layout)))
        };
        match format {
            DiskFormat::Raw => Ok(Self::Raw),
            DiskFormat::Vhd => vhd(vhd::Parameters::fixed(max_size, [0; 16])),
            DiskFormat::VhdDynamic => {
                let parameters = vhd::Parameters::dynamic(max_size, [0; 16]);
                vhd(match block_size {
                    Some(size) => parameters.block_size(size),
                    None => parameters,
                })
            }
            DiskFormat::Vhdx | DiskFormat::VhdxFixed => {
                // The table of blocks has its place before them: small blocks waste less at
                // the end, large ones keep the table of a large disk small.
                let block_size = block_size.unwrap_or(match max_size {
                    ..=ONE_TIB => 1 << 20,
                    _ => 32 << 20,
                });
                let parameters = vhdx::Parameters::new(max_size)
                    .fixed(format == DiskFormat::VhdxFixed)
                    .block_size(block_size)
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
    pub(crate) fn finish(self, virtual_size: u64, zero_end: u64, ids: &DiskIds) -> Result<Rest> {
        match self {
            Self::Raw => Ok(Rest {
                structures: Vec::new(),
                len: virtual_size,
            }),
            Self::Vhd(mut layout) => {
                layout
                    .set_virtual_size(virtual_size)
                    .map_err(out_of_range)?;
                layout.set_unique_id(ids.disk);
                let structures = layout.structures().collect();
                Ok(Rest {
                    structures,
                    len: layout.file_size(),
                })
            }
            Self::Vhdx(mut layout) => {
                layout
                    .set_virtual_size(virtual_size)
                    .map_err(out_of_range)?;
                layout.set_identity(vhdx_ids(ids));
                // What the file system takes for zero must read so, not just happen to.
                let blocks = zero_end.div_ceil(layout.block_size().into());
                for block in 0..blocks.min(layout.blocks()) {
                    if layout.offset_of(block).is_none() {
                        let zero = vhdx::BlockState::Zero;
                        layout.set(block..block + 1, zero).map_err(out_of_range)?;
                    }
                }
                let structures = layout.structures().collect();
                Ok(Rest {
                    structures,
                    len: layout.file_size(),
                })
            }
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
