use zerocopy::byteorder::big_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::SECTOR_SIZE;
use super::footer::ones_complement_sum;
use crate::{Error, Result};

/// "Dynamic Disk Header Format".
#[derive(Clone, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct RawHeader {
    cookie: [u8; 8],
    data_offset: U64,
    table_offset: U64,
    header_version: U32,
    max_table_entries: U32,
    block_size: U32,
    checksum: U32,
    parent_unique_id: [u8; 16],
    parent_time_stamp: U32,
    reserved1: [u8; 4],
    parent_unicode_name: [U16; 256],
    parent_locators: [RawLocator; 8],
    reserved2: [u8; 256],
}

const _: () = assert!(size_of::<RawHeader>() == DynamicHeader::SIZE);

/// An entry of "Parent Locator Entries".
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct RawLocator {
    platform_code: [u8; 4],
    platform_data_space: U32,
    platform_data_length: U32,
    reserved: [u8; 4],
    platform_data_offset: U64,
}

const _: () = assert!(size_of::<RawLocator>() == 24);

const COOKIE: [u8; 8] = *b"cxsparse";
const VERSION_1_0: u32 = 0x0001_0000;

/// Where the bytes of a [`ParentLocator`](super::ParentLocator) lie.
pub(super) struct LocatorPlace {
    pub(super) platform_code: [u8; 4],
    pub(super) offset: u64,
    pub(super) length: u32,
}

/// The header that dynamic and differencing disks have besides the footer.
pub(super) struct DynamicHeader {
    raw: Box<RawHeader>,
}

impl DynamicHeader {
    pub(super) const SIZE: usize = 1024;

    /// The header of a dynamic disk, which has no parent.
    pub(super) fn new(table_offset: u64, max_table_entries: u32, block_size: u32) -> Self {
        let mut raw = RawHeader {
            cookie: COOKIE,
            data_offset: u64::MAX.into(),
            table_offset: table_offset.into(),
            header_version: VERSION_1_0.into(),
            max_table_entries: max_table_entries.into(),
            block_size: block_size.into(),
            checksum: 0.into(),
            parent_unique_id: [0; 16],
            parent_time_stamp: 0.into(),
            reserved1: [0; 4],
            parent_unicode_name: [0.into(); 256],
            parent_locators: [RawLocator {
                platform_code: [0; 4],
                platform_data_space: 0.into(),
                platform_data_length: 0.into(),
                reserved: [0; 4],
                platform_data_offset: 0.into(),
            }; 8],
            reserved2: [0; 256],
        };
        raw.checksum = checksum(&raw).into();
        Self { raw: Box::new(raw) }
    }

    pub(super) fn to_bytes(&self) -> [u8; Self::SIZE] {
        zerocopy::transmute!(RawHeader::clone(&self.raw))
    }

    pub(super) fn from_bytes(bytes: &[u8; Self::SIZE]) -> Result<Self> {
        let raw: RawHeader = zerocopy::transmute!(*bytes);
        if raw.cookie != COOKIE {
            return Err(Error::invalid(
                "the dynamic disk header has no \"cxsparse\" cookie",
            ));
        }
        let (stored, computed) = (raw.checksum.get(), checksum(&raw));
        if stored != computed {
            return Err(Error::invalid(format!(
                "the dynamic disk header's checksum is {stored:#010x}, its bytes give {computed:#010x}"
            )));
        }
        let version = raw.header_version.get();
        if version >> 16 != VERSION_1_0 >> 16 {
            return Err(Error::unsupported(format!(
                "dynamic disk header version {}.{} is not known",
                version >> 16,
                version & 0xffff
            )));
        }
        let block_size = u64::from(raw.block_size.get());
        if !block_size.is_power_of_two() || block_size < SECTOR_SIZE {
            return Err(Error::invalid(format!(
                "the block size is {block_size}: it must be a power of two from 512 bytes"
            )));
        }
        Ok(Self { raw: Box::new(raw) })
    }

    pub(super) fn table_offset(&self) -> u64 {
        self.raw.table_offset.get()
    }

    pub(super) fn max_table_entries(&self) -> u32 {
        self.raw.max_table_entries.get()
    }

    pub(super) fn block_size(&self) -> u32 {
        self.raw.block_size.get()
    }

    pub(super) fn parent_unique_id(&self) -> [u8; 16] {
        self.raw.parent_unique_id
    }

    pub(super) fn parent_time_stamp(&self) -> u32 {
        self.raw.parent_time_stamp.get()
    }

    /// The parent's file name, up to its terminator.
    pub(super) fn parent_name(&self) -> String {
        let units = self.raw.parent_unicode_name.iter().map(|unit| unit.get());
        String::from_utf16_lossy(&units.take_while(|&unit| unit != 0).collect::<Vec<_>>())
    }

    pub(super) fn locators(&self) -> impl Iterator<Item = LocatorPlace> {
        self.raw
            .parent_locators
            .iter()
            .filter(|raw| raw.platform_code != [0; 4])
            .map(|raw| LocatorPlace {
                platform_code: raw.platform_code,
                offset: raw.platform_data_offset.get(),
                length: raw.platform_data_length.get(),
            })
    }
}

fn checksum(raw: &RawHeader) -> u32 {
    ones_complement_sum(raw.as_bytes(), raw.checksum.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gives_its_bytes_back() {
        let header = DynamicHeader::new(1536, 100, 2 << 20);
        let again = DynamicHeader::from_bytes(&header.to_bytes()).unwrap();
        assert_eq!(again.table_offset(), 1536);
        assert_eq!(again.max_table_entries(), 100);
        assert_eq!(again.block_size(), 2 << 20);
        assert_eq!(again.parent_name(), "");
        assert_eq!(again.locators().count(), 0);
    }

    #[test]
    fn every_flipped_bit_is_noticed() {
        let bytes = DynamicHeader::new(1536, 100, 2 << 20).to_bytes();
        for bit in 0..bytes.len() * 8 {
            let mut bytes = bytes;
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert!(DynamicHeader::from_bytes(&bytes).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn block_sizes_are_checked() {
        for block_size in [0, 1, 256, 513, 3 << 20, u32::MAX] {
            let bytes = DynamicHeader::new(1536, 1, block_size).to_bytes();
            assert!(DynamicHeader::from_bytes(&bytes).is_err(), "{block_size}");
        }
    }
}
