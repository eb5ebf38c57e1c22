//! §2.6 Metadata Region.

use uuid::Uuid;
use zerocopy::byteorder::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::region_table::Region;
use super::{MAX_VIRTUAL_SIZE, ParentLocator};
use crate::{Error, ReadAt, Result};

/// §2.6.1.1 Metadata Table Header.
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct RawTableHeader {
    signature: [u8; 8],
    reserved1: [u8; 2],
    entry_count: U16,
    reserved2: [u8; 20],
}

const _: () = assert!(size_of::<RawTableHeader>() == 32);

/// §2.6.1.2 Metadata Table Entry.
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct RawEntry {
    item_id: [u8; 16],
    offset: U32,
    length: U32,
    flags: U32,
    reserved: [u8; 4],
}

const _: () = assert!(size_of::<RawEntry>() == 32);

/// §2.6.2.1 File Parameters.
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct RawFileParameters {
    block_size: U32,
    flags: U32,
}

const SIGNATURE: [u8; 8] = *b"metadata";
const TABLE_SIZE: usize = 64 << 10;
const MAX_ENTRIES: usize = 2047;
const MAX_ITEM_LENGTH: u32 = 1 << 20;

const IS_USER: u32 = 1;
const IS_VIRTUAL_DISK: u32 = 2;
const IS_REQUIRED: u32 = 4;

const LEAVE_BLOCKS_ALLOCATED: u32 = 1;
const HAS_PARENT: u32 = 2;

const FILE_PARAMETERS: Uuid = Uuid::from_u128(0xcaa16737_fa36_4d43_b3b6_33f0aa44e76b);
const VIRTUAL_DISK_SIZE: Uuid = Uuid::from_u128(0x2fa54224_cd1b_4876_b211_5dbed83bf4b8);
const VIRTUAL_DISK_ID: Uuid = Uuid::from_u128(0xbeca12ab_b2e6_4523_93ef_c309e000c746);
const LOGICAL_SECTOR_SIZE: Uuid = Uuid::from_u128(0x8141bf1d_a96f_4709_ba47_f233a8faab5f);
const PHYSICAL_SECTOR_SIZE: Uuid = Uuid::from_u128(0xcda348c7_445d_4471_9cc9_e9885251c556);
const PARENT_LOCATOR: Uuid = Uuid::from_u128(0xa8d35f2d_b30b_454d_abf7_d3d84834ab0c);

/// An entry of the metadata table, known or not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct MetadataItem {
    /// The id of the item.
    pub id: Uuid,
    /// Where it lies in the metadata region.
    pub offset: u32,
    /// Its size in bytes.
    pub length: u32,
    /// Whether it belongs to the user of the disk and not to the format.
    pub user: bool,
    /// Whether it describes the virtual disk and not the file.
    pub virtual_disk: bool,
    /// Whether a disk with this item may only be opened by who knows it.
    pub required: bool,
}

/// The contents of the metadata region.
#[derive(Clone, Debug)]
pub(super) struct Metadata {
    pub(super) virtual_size: u64,
    pub(super) block_size: u32,
    pub(super) leave_blocks_allocated: bool,
    pub(super) virtual_disk_id: Uuid,
    pub(super) logical_sector_size: u32,
    pub(super) physical_sector_size: u32,
    pub(super) parent_locator: Option<ParentLocator>,
    pub(super) items: Vec<MetadataItem>,
}

impl Metadata {
    /// Whether the values are ones that a disk may have; what is wrong if not.
    pub(super) fn check(&self) -> std::result::Result<(), String> {
        let block_size = self.block_size;
        if !block_size.is_power_of_two() || !(1 << 20..=256 << 20).contains(&block_size) {
            return Err(format!(
                "a block size of {block_size} bytes: it must be a power of two from 1 to 256 MiB"
            ));
        }
        for (kind, size) in [
            ("logical", self.logical_sector_size),
            ("physical", self.physical_sector_size),
        ] {
            if size != 512 && size != 4096 {
                return Err(format!(
                    "a {kind} sector size of {size} bytes: it must be 512 or 4096"
                ));
            }
        }
        let size = self.virtual_size;
        if size == 0 || size > MAX_VIRTUAL_SIZE {
            return Err(format!(
                "a VHDX of {size} bytes: the size must be from one sector to 64 TiB"
            ));
        }
        if !size.is_multiple_of(self.logical_sector_size.into()) {
            return Err(format!(
                "a VHDX of {size} bytes: the size must be a multiple of the logical sector size, {}",
                self.logical_sector_size
            ));
        }
        Ok(())
    }

    /// The metadata table and the items, with their offsets in the region. A parent locator is
    /// not among them: differencing disks are only read.
    pub(super) fn to_bytes(&self) -> [(u64, Vec<u8>); 2] {
        let parameters = RawFileParameters {
            block_size: self.block_size.into(),
            flags: match self.leave_blocks_allocated {
                true => LEAVE_BLOCKS_ALLOCATED.into(),
                false => U32::ZERO,
            },
        };
        let values: [(Uuid, u32, &[u8]); 5] = [
            (FILE_PARAMETERS, IS_REQUIRED, parameters.as_bytes()),
            (
                VIRTUAL_DISK_SIZE,
                IS_VIRTUAL_DISK | IS_REQUIRED,
                &self.virtual_size.to_le_bytes(),
            ),
            (
                VIRTUAL_DISK_ID,
                IS_VIRTUAL_DISK | IS_REQUIRED,
                &self.virtual_disk_id.to_bytes_le(),
            ),
            (
                LOGICAL_SECTOR_SIZE,
                IS_VIRTUAL_DISK | IS_REQUIRED,
                &self.logical_sector_size.to_le_bytes(),
            ),
            (
                PHYSICAL_SECTOR_SIZE,
                IS_VIRTUAL_DISK | IS_REQUIRED,
                &self.physical_sector_size.to_le_bytes(),
            ),
        ];
        let header = RawTableHeader {
            signature: SIGNATURE,
            reserved1: [0; 2],
            entry_count: (values.len() as u16).into(),
            reserved2: [0; 20],
        };
        let mut table = header.as_bytes().to_vec();
        let mut items = Vec::new();
        for (id, flags, value) in values {
            let entry = RawEntry {
                item_id: id.to_bytes_le(),
                offset: ((TABLE_SIZE + items.len()) as u32).into(),
                length: (value.len() as u32).into(),
                flags: flags.into(),
                reserved: [0; 4],
            };
            table.extend_from_slice(entry.as_bytes());
            items.extend_from_slice(value);
        }
        [(0, table), (TABLE_SIZE as u64, items)]
    }

    pub(super) fn read(storage: &impl ReadAt, region: Region) -> Result<Self> {
        let items = read_table(storage, region)?;
        let find = |id: Uuid, name: &str| {
            items
                .iter()
                .find(|item| item.id == id && !item.user)
                .ok_or_else(|| Error::invalid(format!("the metadata has no {name}")))
        };
        let value = |id: Uuid, name: &str| -> Result<Vec<u8>> {
            let item = find(id, name)?;
            let mut bytes = vec![0; item.length as usize];
            let offset = region.offset + u64::from(item.offset);
            storage
                .read_at(offset, &mut bytes)
                .map_err(|error| Error::read(name, offset, error))?;
            Ok(bytes)
        };

        let name = "file parameters";
        let parameters: [u8; 8] = sized(value(FILE_PARAMETERS, name)?, name)?;
        let parameters: RawFileParameters = zerocopy::transmute!(parameters);
        let flags = parameters.flags.get();
        let name = "virtual disk size";
        let virtual_size: U64 =
            zerocopy::transmute!(sized::<8>(value(VIRTUAL_DISK_SIZE, name)?, name)?);
        let name = "virtual disk id";
        let virtual_disk_id = Uuid::from_bytes_le(sized(value(VIRTUAL_DISK_ID, name)?, name)?);
        let name = "logical sector size";
        let logical: U32 =
            zerocopy::transmute!(sized::<4>(value(LOGICAL_SECTOR_SIZE, name)?, name)?);
        let name = "physical sector size";
        let physical: U32 =
            zerocopy::transmute!(sized::<4>(value(PHYSICAL_SECTOR_SIZE, name)?, name)?);
        let parent_locator = match flags & HAS_PARENT {
            0 => None,
            _ => {
                let bytes = value(PARENT_LOCATOR, "parent locator")?;
                Some(ParentLocator::from_bytes(&bytes)?)
            }
        };
        let metadata = Self {
            virtual_size: virtual_size.get(),
            block_size: parameters.block_size.get(),
            leave_blocks_allocated: flags & LEAVE_BLOCKS_ALLOCATED != 0,
            virtual_disk_id,
            logical_sector_size: logical.get(),
            physical_sector_size: physical.get(),
            parent_locator,
            items,
        };
        metadata.check().map_err(Error::invalid)?;
        Ok(metadata)
    }
}

fn sized<const N: usize>(bytes: Vec<u8>, name: &str) -> Result<[u8; N]> {
    let len = bytes.len();
    bytes
        .try_into()
        .map_err(|_| Error::invalid(format!("the {name} has {len} bytes, not {N}")))
}

fn read_table(storage: &impl ReadAt, region: Region) -> Result<Vec<MetadataItem>> {
    let invalid =
        |message: &str| Error::invalid(format!("the metadata table {message}")).at(region.offset);
    let mut bytes = vec![0; TABLE_SIZE];
    storage
        .read_at(region.offset, &mut bytes)
        .map_err(|error| Error::read("the metadata table", region.offset, error))?;
    let Ok((header, entries)) = RawTableHeader::ref_from_prefix(&bytes) else {
        return Err(invalid("is cut short"));
    };
    if header.signature != SIGNATURE {
        return Err(invalid("has no \"metadata\" signature"));
    }
    let count = usize::from(header.entry_count.get());
    if count > MAX_ENTRIES {
        return Err(invalid("has more than 2,047 entries"));
    }
    let Ok((entries, _)) = <[RawEntry]>::ref_from_prefix_with_elems(entries, count) else {
        return Err(invalid("is cut short"));
    };
    let mut items = Vec::with_capacity(count);
    for entry in entries {
        let flags = entry.flags.get();
        let item = MetadataItem {
            id: Uuid::from_bytes_le(entry.item_id),
            offset: entry.offset.get(),
            length: entry.length.get(),
            user: flags & IS_USER != 0,
            virtual_disk: flags & IS_VIRTUAL_DISK != 0,
            required: flags & IS_REQUIRED != 0,
        };
        let end = u64::from(item.offset) + u64::from(item.length);
        let inside = item.offset as usize >= TABLE_SIZE && end <= region.length.into();
        if item.length > MAX_ITEM_LENGTH || (!inside && (item.offset, item.length) != (0, 0)) {
            return Err(invalid("has an item outside of its region"));
        }
        let known = [
            FILE_PARAMETERS,
            VIRTUAL_DISK_SIZE,
            VIRTUAL_DISK_ID,
            LOGICAL_SECTOR_SIZE,
            PHYSICAL_SECTOR_SIZE,
            PARENT_LOCATOR,
        ];
        if item.required && (item.user || !known.contains(&item.id)) {
            return Err(Error::unsupported(format!(
                "the disk requires metadata of the unknown kind {}",
                item.id
            )));
        }
        items.push(item);
    }
    let mut ids: Vec<_> = items.iter().map(|item| (item.id, item.user)).collect();
    ids.sort_unstable();
    if ids.windows(2).any(|pair| pair[0] == pair[1]) {
        return Err(invalid("has an item twice"));
    }
    Ok(items)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ErrorKind, Storage};

    fn region() -> Region {
        super::super::region_table::RegionTable::new((0, 1 << 20), (0, 0)).metadata
    }

    fn metadata() -> Metadata {
        Metadata {
            virtual_size: 5 << 30,
            block_size: 2 << 20,
            leave_blocks_allocated: true,
            virtual_disk_id: Uuid::from_u128(7),
            logical_sector_size: 512,
            physical_sector_size: 4096,
            parent_locator: None,
            items: Vec::new(),
        }
    }

    fn file(metadata: &Metadata) -> Vec<u8> {
        let mut file = vec![0; 1 << 20];
        for (offset, bytes) in metadata.to_bytes() {
            file.write_at(offset, &bytes).unwrap();
        }
        file
    }

    /// The error when an entry is added to the table.
    fn with_entry(id: u128, offset: u32, length: u32, flags: u32) -> Option<ErrorKind> {
        let mut file = file(&metadata());
        file[10] = 6;
        let entry = RawEntry {
            item_id: Uuid::from_u128(id).to_bytes_le(),
            offset: offset.into(),
            length: length.into(),
            flags: flags.into(),
            reserved: [0; 4],
        };
        file.write_at(32 * 6, entry.as_bytes()).unwrap();
        Some(Metadata::read(&file, region()).err()?.kind())
    }

    #[test]
    fn gives_its_values_back() {
        let read = Metadata::read(&file(&metadata()), region()).unwrap();
        assert_eq!(read.items.len(), 5);
        assert!(read.items.iter().all(|item| item.required && !item.user));
        let read = Metadata {
            items: Vec::new(),
            ..read
        };
        assert_eq!(format!("{read:?}"), format!("{:?}", metadata()));
    }

    #[test]
    fn unknown_items_matter_if_required() {
        let id = 0xabcd;
        assert_eq!(with_entry(id, 70_000, 10, 0), None);
        assert_eq!(with_entry(id, 0, 0, IS_USER), None);
        let refused = Some(ErrorKind::Unsupported);
        assert_eq!(with_entry(id, 70_000, 10, IS_REQUIRED), refused);
        assert_eq!(with_entry(id, 70_000, 10, IS_REQUIRED | IS_USER), refused);
        // A user's item may have the id of one of the format's, and is another one.
        let id = VIRTUAL_DISK_SIZE.as_u128();
        assert_eq!(with_entry(id, 70_000, 10, IS_USER), None);
        let refused = Some(ErrorKind::Invalid);
        assert_eq!(with_entry(id, 70_000, 8, 0), refused);
    }

    #[test]
    fn places_are_checked() {
        let refused = Some(ErrorKind::Invalid);
        for (offset, length) in [
            (0, 1),
            (65_535, 1),
            (1 << 20, 1),
            (70_000, 1 << 20),
            (u32::MAX, u32::MAX),
            (70_000, u32::MAX),
        ] {
            assert_eq!(with_entry(1, offset, length, 0), refused);
        }
    }

    #[test]
    fn values_are_checked() {
        let changes: [fn(&mut Metadata); 11] = [
            |m| m.virtual_size = 0,
            |m| m.virtual_size = 513,
            |m| m.virtual_size = MAX_VIRTUAL_SIZE + 512,
            |m| m.block_size = 0,
            |m| m.block_size = 1 << 19,
            |m| m.block_size = 3 << 20,
            |m| m.block_size = 512 << 20,
            |m| m.logical_sector_size = 0,
            |m| m.logical_sector_size = 1024,
            |m| m.physical_sector_size = 8192,
            |m| (m.logical_sector_size, m.virtual_size) = (4096, 4096 + 512),
        ];
        for change in changes {
            let mut metadata = metadata();
            change(&mut metadata);
            let error = Metadata::read(&file(&metadata), region()).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Invalid);
        }
    }

    #[test]
    fn missing_items_are_noticed() {
        for i in 0..5 {
            let mut file = file(&metadata());
            // Another id, not required: an item that nobody knows.
            file[32 * (i + 1)] ^= 1;
            file[32 * (i + 1) + 24] = 0;
            let error = Metadata::read(&file, region()).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Invalid);
        }
    }
}
