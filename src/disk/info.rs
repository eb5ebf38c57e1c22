//! The structures of a disk, described.

use vhd_format::vhd::{DiskType, ParentReference, Vhd};
use vhd_format::vhdx::Vhdx;
use vhd_format::{AnyStorage, Disk};

use super::DiskFormat;
use super::Volume;
use super::volume::unreadable;
use crate::error::Result;

/// A disk, as the structures of its format describe it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct DiskInfo {
    /// Bytes of the disk's file.
    pub size: u64,
    /// The format. A differencing disk has that of a dynamic one.
    pub format: DiskFormat,
    /// Bytes of the disk as a guest sees it.
    pub virtual_size: u64,
    /// Of a VHD, unless its footer is damaged.
    pub vhd: Option<VhdInfo>,
    /// Of a VHDX.
    pub vhdx: Option<VhdxInfo>,
    /// Where the disk departs from its specification in what most readers do not mind, a
    /// sentence each.
    pub notes: Vec<String>,
}

/// Fields of a VHD.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct VhdInfo {
    /// Bytes of the disk when it was made.
    pub original_size: u64,
    /// Cylinders, heads and sectors per track.
    pub geometry: (u16, u8, u8),
    /// When the disk was made, in seconds since 1970.
    pub created: u64,
    /// The application that made it, such as `win `.
    pub creator: [u8; 4],
    /// Major and minor version of that application.
    pub creator_version: (u16, u16),
    /// The system that it was made on: `Wi2k` or `Mac `.
    pub creator_host_os: [u8; 4],
    /// The unique id, in the order of the bytes on disk.
    pub unique_id: [u8; 16],
    /// Whether it belongs to a virtual machine in a saved state.
    pub saved_state: bool,
    /// Its blocks, unless it is fixed.
    pub blocks: Option<BlockInfo>,
    /// Entries of the table of blocks, unless it is fixed. There should be one for each block.
    pub max_table_entries: Option<u32>,
    /// The parent that a differencing disk names.
    pub parent: Option<ParentInfo>,
}

/// Fields of a VHDX.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct VhdxInfo {
    /// The program that made the disk.
    pub creator: String,
    /// The unit in which a guest addresses the disk.
    pub logical_sector_size: u32,
    /// The unit in which a guest should write to it.
    pub physical_sector_size: u32,
    /// The virtual disk id, in the order in which it is written as text.
    pub virtual_disk_id: [u8; 16],
    /// The file write GUID: changes whenever the file does.
    pub file_write_guid: [u8; 16],
    /// The data write GUID: changes whenever the data of the disk does.
    pub data_write_guid: [u8; 16],
    /// The number of the current header.
    pub sequence_number: u64,
    /// Bytes of the log.
    pub log_size: u32,
    /// Entries of the log that had to be replayed, for a disk that was not closed.
    pub replayed_entries: u64,
    /// Which of the two headers are damaged.
    pub damaged_headers: [bool; 2],
    /// Which of the two region tables are damaged.
    pub damaged_region_tables: [bool; 2],
    /// Its blocks.
    pub blocks: BlockInfo,
    /// Regions of the file.
    pub regions: Vec<PartInfo>,
    /// Items of the metadata, with their places in their region.
    pub metadata: Vec<PartInfo>,
    /// The parent that a differencing disk names.
    pub parent: Option<ParentInfo>,
}

/// The blocks of a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct BlockInfo {
    /// Bytes of a block.
    pub size: u32,
    /// The number of blocks.
    pub all: u64,
    /// The number of blocks that the file holds.
    pub allocated: u64,
}

/// A region of a VHDX or an item of its metadata.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PartInfo {
    /// Its id, in the order in which it is written as text.
    pub id: [u8; 16],
    /// Where it starts.
    pub offset: u64,
    /// Its size in bytes.
    pub size: u32,
    /// Whether only those may open the disk who know it.
    pub required: bool,
}

/// The parent that a differencing disk names.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ParentInfo {
    /// Names and values, as the disk has them: of a VHDX its parent locator; of a VHD the name
    /// and the id of the parent, and paths by the code of their platform.
    pub pairs: Vec<(String, String)>,
}

/// 2000-01-01T00:00:00Z in seconds since 1970: where a VHD's time starts.
const YEAR_2000: u64 = 946_684_800;

impl Volume {
    /// Describes the structures of the disk. Whether they are sound,
    /// [`check`](vhd_format::Disk::check) finds out.
    ///
    /// # Errors
    /// As [`read_at`](Self::read_at), if the table of blocks cannot be read.
    pub fn info(&self) -> Result<DiskInfo> {
        let (mut vhd, mut vhdx) = (None, None);
        match self.disk() {
            Disk::Vhd(disk) => vhd = Some(describe_vhd(disk)?),
            Disk::Vhdx(disk) => vhdx = Some(describe_vhdx(disk)?),
            _ => {}
        }
        Ok(DiskInfo {
            size: self.file_size(),
            format: self.format(),
            virtual_size: self.virtual_size(),
            vhd,
            vhdx,
            notes: self.disk().notes(),
        })
    }
}

fn describe_vhd(disk: &Vhd<AnyStorage>) -> Result<VhdInfo> {
    let footer = disk.footer();
    let geometry = footer.geometry();
    let blocks = match (footer.disk_type(), disk.block_size()) {
        (DiskType::Fixed, _) | (_, None) => None,
        (_, Some(size)) => Some(BlockInfo {
            size,
            all: disk.virtual_size().div_ceil(size.into()),
            allocated: disk.allocated_blocks().map_err(|e| unreadable(&e))?,
        }),
    };
    Ok(VhdInfo {
        original_size: footer.original_size(),
        geometry: (
            geometry.cylinders,
            geometry.heads,
            geometry.sectors_per_track,
        ),
        created: YEAR_2000 + u64::from(footer.time_stamp()),
        creator: footer.creator_application(),
        creator_version: footer.creator_version(),
        creator_host_os: footer.creator_host_os(),
        unique_id: footer.unique_id(),
        saved_state: footer.saved_state(),
        max_table_entries: blocks.and_then(|_| disk.max_table_entries()),
        blocks,
        parent: disk.parent_reference().map(parent_of_vhd),
    })
}

fn parent_of_vhd(reference: &ParentReference) -> ParentInfo {
    let id = uuid::Uuid::from_bytes(reference.unique_id);
    let mut pairs = vec![
        ("name".to_owned(), reference.name.clone()),
        ("unique id".to_owned(), id.to_string()),
    ];
    for locator in &reference.locators {
        let code = locator.platform_code.escape_ascii().to_string();
        let text = locator.text();
        let value = text.unwrap_or_else(|| locator.data.escape_ascii().to_string());
        pairs.push((code, value));
    }
    ParentInfo { pairs }
}

fn describe_vhdx(disk: &Vhdx<AnyStorage>) -> Result<VhdxInfo> {
    let header = disk.header();
    let regions = disk.regions().iter().map(|region| PartInfo {
        id: region.id.into_bytes(),
        offset: region.offset,
        size: region.length,
        required: region.required,
    });
    let metadata = disk.metadata_items().iter().map(|item| PartInfo {
        id: item.id.into_bytes(),
        offset: item.offset.into(),
        size: item.length,
        required: item.required,
    });
    let owned = |(key, value): (&str, &str)| (key.to_owned(), value.to_owned());
    Ok(VhdxInfo {
        creator: disk.creator().to_owned(),
        logical_sector_size: disk.logical_sector_size(),
        physical_sector_size: disk.physical_sector_size(),
        virtual_disk_id: disk.virtual_disk_id().into_bytes(),
        file_write_guid: header.file_write_guid.into_bytes(),
        data_write_guid: header.data_write_guid.into_bytes(),
        sequence_number: header.sequence_number,
        log_size: header.log_length,
        replayed_entries: disk.replayed_entries(),
        damaged_headers: disk.damaged_headers(),
        damaged_region_tables: disk.damaged_region_tables(),
        blocks: BlockInfo {
            size: disk.block_size(),
            all: disk.blocks(),
            allocated: disk.allocated_blocks().map_err(|e| unreadable(&e))?,
        },
        regions: regions.collect(),
        metadata: metadata.collect(),
        parent: disk.parent_locator().map(|locator| ParentInfo {
            pairs: locator.pairs().map(owned).collect(),
        }),
    })
}
