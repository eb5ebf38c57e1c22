//! §2.2.3 Region Table.

use uuid::Uuid;
use zerocopy::byteorder::little_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::ALIGNMENT;
use super::header::checksum;
use crate::{Error, ReadAt, Result};

/// §2.2.3.1 Region Table Header.
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct RawTableHeader {
    signature: [u8; 4],
    checksum: U32,
    entry_count: U32,
    reserved: [u8; 4],
}

const _: () = assert!(size_of::<RawTableHeader>() == 16);

/// §2.2.3.2 Region Table Entry.
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct RawEntry {
    guid: [u8; 16],
    file_offset: U64,
    length: U32,
    required: U32,
}

const _: () = assert!(size_of::<RawEntry>() == 32);

const SIGNATURE: [u8; 4] = *b"regi";
const MAX_ENTRIES: usize = 2047;

const BAT: Uuid = Uuid::from_u128(0x2dc27766_f623_4200_9d64_115e9bfd4a08);
const METADATA: Uuid = Uuid::from_u128(0x8b7ca206_4790_4b9a_b8fe_575f050f886e);

/// A part of the file that the region table names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Region {
    /// The kind of the region.
    pub id: Uuid,
    /// Where it starts in the file.
    pub offset: u64,
    /// Its size in bytes.
    pub length: u32,
    /// Whether a disk with this region may only be opened by who knows it.
    pub required: bool,
}

impl Region {
    /// The end of the region; the table was refused if that is no number.
    pub(super) fn end(&self) -> u64 {
        self.offset.saturating_add(self.length.into())
    }
}

/// The regions of a file, by the first valid of its two region tables.
#[derive(Clone)]
pub(super) struct RegionTable {
    pub(super) bat: Region,
    pub(super) metadata: Region,
    /// All of them, in the table's order.
    pub(super) regions: Vec<Region>,
    pub(super) damaged: [bool; 2],
}

impl RegionTable {
    pub(super) const SIZE: usize = 64 << 10;
    /// Where the two tables lie.
    pub(super) const OFFSETS: [u64; 2] = [192 << 10, 256 << 10];

    /// A table with the two regions that every file has.
    pub(super) fn new(metadata: (u64, u32), bat: (u64, u32)) -> Self {
        let region = |id, (offset, length)| Region {
            id,
            offset,
            length,
            required: true,
        };
        let (metadata, bat) = (region(METADATA, metadata), region(BAT, bat));
        Self {
            bat,
            metadata,
            regions: vec![bat, metadata],
            damaged: [false; 2],
        }
    }

    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let header = RawTableHeader {
            signature: SIGNATURE,
            checksum: U32::ZERO,
            entry_count: (self.regions.len() as u32).into(),
            reserved: [0; 4],
        };
        let mut bytes = header.as_bytes().to_vec();
        for region in &self.regions {
            let entry = RawEntry {
                guid: region.id.to_bytes_le(),
                file_offset: region.offset.into(),
                length: region.length.into(),
                required: u32::from(region.required).into(),
            };
            bytes.extend_from_slice(entry.as_bytes());
        }
        bytes.resize(Self::SIZE, 0);
        let crc = crc32c::crc32c(&bytes);
        bytes[4..8].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// `log` is the range of the log, which no region may touch.
    pub(super) fn read(storage: &impl ReadAt, log: (u64, u64)) -> Result<Self> {
        let read = |offset| {
            let mut bytes = vec![0; Self::SIZE];
            storage
                .read_at(offset, &mut bytes)
                .map_err(|error| Error::read("a region table", offset, error))?;
            parse(&bytes, log).map_err(|error| error.at(offset))
        };
        let [first, second] = Self::OFFSETS.map(read);
        let damaged = [first.is_err(), second.is_err()];
        let table = match (first, second) {
            (Ok(table), _) | (Err(_), Ok(table)) => table,
            (Err(error), Err(_)) => return Err(error),
        };
        Ok(Self { damaged, ..table })
    }
}

fn parse(bytes: &[u8], log: (u64, u64)) -> Result<RegionTable> {
    let invalid = |message: &str| Error::invalid(format!("the region table {message}"));
    let Ok((header, entries)) = RawTableHeader::ref_from_prefix(bytes) else {
        return Err(invalid("is cut short"));
    };
    if header.signature != SIGNATURE {
        return Err(invalid("has no \"regi\" signature"));
    }
    if header.checksum.get() != checksum(bytes) {
        return Err(invalid("has a wrong checksum"));
    }
    let count = header.entry_count.get() as usize;
    if count > MAX_ENTRIES {
        return Err(invalid("has more than 2,047 entries"));
    }
    let Ok((entries, _)) = <[RawEntry]>::ref_from_prefix_with_elems(entries, count) else {
        return Err(invalid("is cut short"));
    };

    let mut regions = Vec::with_capacity(count);
    for entry in entries {
        let region = Region {
            id: Uuid::from_bytes_le(entry.guid),
            offset: entry.file_offset.get(),
            length: entry.length.get(),
            required: entry.required.get() & 1 != 0,
        };
        let aligned = region.offset.is_multiple_of(ALIGNMENT)
            && u64::from(region.length).is_multiple_of(ALIGNMENT);
        if !aligned || region.offset < ALIGNMENT || region.length == 0 {
            return Err(invalid("has a region that is not aligned to 1 MiB"));
        }
        if region.offset.checked_add(region.length.into()).is_none() {
            return Err(invalid("has a region past the end of the file"));
        }
        if region.required && region.id != BAT && region.id != METADATA {
            return Err(Error::unsupported(format!(
                "the disk requires a region of the unknown kind {}",
                region.id
            )));
        }
        regions.push(region);
    }
    check_overlaps(&regions, log)?;

    let find = |id: Uuid, name: &str| {
        let mut found = regions.iter().filter(|region| region.id == id);
        match (found.next(), found.next()) {
            (Some(&region), None) => Ok(region),
            (None, _) => Err(invalid(&format!("names no {name}"))),
            (Some(_), Some(_)) => Err(invalid(&format!("names two of the {name}"))),
        }
    };
    Ok(RegionTable {
        bat: find(BAT, "block allocation table")?,
        metadata: find(METADATA, "metadata region")?,
        regions,
        damaged: [false; 2],
    })
}

fn check_overlaps(regions: &[Region], log: (u64, u64)) -> Result<()> {
    let mut ranges: Vec<_> = regions.iter().map(|r| (r.offset, r.end())).collect();
    ranges.push(log);
    ranges.sort_unstable();
    match ranges.windows(2).find(|pair| pair[1].0 < pair[0].1) {
        Some(pair) => Err(Error::invalid(format!(
            "two regions, or a region and the log, overlap at byte {} of the file",
            pair[1].0
        ))),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ErrorKind;

    const LOG: (u64, u64) = (1 << 20, 2 << 20);
    const MIB: u32 = 1 << 20;

    fn table() -> RegionTable {
        RegionTable::new((2 << 20, MIB), (3 << 20, MIB))
    }

    fn kind(change: impl FnOnce(&mut Vec<Region>)) -> ErrorKind {
        let mut table = table();
        change(&mut table.regions);
        parse(&table.to_bytes(), LOG).err().unwrap().kind()
    }

    #[test]
    fn gives_its_regions_back() {
        let table = parse(&table().to_bytes(), LOG).unwrap();
        assert_eq!(
            (table.bat.offset, table.metadata.offset),
            (3 << 20, 2 << 20)
        );
    }

    #[test]
    fn places_are_checked() {
        assert_eq!(kind(|r| r[0].offset = 2 << 20), ErrorKind::Invalid);
        assert_eq!(kind(|r| r[0].offset = 1 << 20), ErrorKind::Invalid);
        assert_eq!(kind(|r| r[0].offset = 0), ErrorKind::Invalid);
        assert_eq!(kind(|r| r[0].offset += 4096), ErrorKind::Invalid);
        assert_eq!(kind(|r| r[0].offset = u64::MAX << 20), ErrorKind::Invalid);
        assert_eq!(kind(|r| r[0].length = 0), ErrorKind::Invalid);
        assert_eq!(kind(|r| r[1].length = 2 * MIB), ErrorKind::Invalid);
        assert_eq!(kind(|r| r.push(r[1])), ErrorKind::Invalid);
        assert_eq!(kind(|r| r.truncate(1)), ErrorKind::Invalid);
        assert_eq!(kind(|r| *r = r[1..].to_vec()), ErrorKind::Invalid);
    }

    #[test]
    fn unknown_regions_matter_if_required() {
        let unknown = |required| Region {
            id: Uuid::from_u128(77),
            offset: 9 << 20,
            length: MIB,
            required,
        };
        assert_eq!(kind(|r| r.push(unknown(true))), ErrorKind::Unsupported);
        let mut table = table();
        table.regions.push(unknown(false));
        assert_eq!(parse(&table.to_bytes(), LOG).unwrap().regions.len(), 3);
    }

    #[test]
    fn either_copy_will_do() {
        let bytes = table().to_bytes();
        let mut file = vec![0; 1 << 20];
        for offset in RegionTable::OFFSETS {
            file[offset as usize..][..bytes.len()].copy_from_slice(&bytes);
        }
        for i in 0..2 {
            let mut file = file.clone();
            file[RegionTable::OFFSETS[i] as usize + 60_000] ^= 1;
            let table = RegionTable::read(&file, LOG).unwrap();
            assert_eq!(table.damaged, [i == 0, i == 1]);
            assert_eq!(table.bat.offset, 3 << 20);
            file[RegionTable::OFFSETS[1 - i] as usize] ^= 1;
            let error = RegionTable::read(&file, LOG).err().unwrap();
            assert_eq!(error.kind(), ErrorKind::Invalid);
        }
    }

    #[test]
    fn too_many_entries_are_refused() {
        let mut bytes = table().to_bytes();
        bytes[8..12].copy_from_slice(&2048_u32.to_le_bytes());
        let crc = checksum(&bytes);
        bytes[4..8].copy_from_slice(&crc.to_le_bytes());
        parse(&bytes, LOG).err().unwrap();
    }
}
