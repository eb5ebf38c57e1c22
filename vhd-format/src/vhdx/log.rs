//! §2.3 Log: its structures, and entries of our own.

use uuid::Uuid;
use zerocopy::byteorder::little_endian::{U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::header::checksum;

/// The unit of the log, and of what its data descriptors replace.
pub(super) const SECTOR: usize = 4096;
pub(super) type Sector = [u8; SECTOR];

/// §2.3.1.1 Entry Header.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(super) struct RawEntryHeader {
    pub(super) signature: [u8; 4],
    pub(super) checksum: U32,
    pub(super) entry_length: U32,
    pub(super) tail: U32,
    pub(super) sequence_number: U64,
    pub(super) descriptor_count: U32,
    pub(super) reserved: [u8; 4],
    pub(super) log_guid: [u8; 16],
    pub(super) flushed_file_offset: U64,
    pub(super) last_file_offset: U64,
}

const _: () = assert!(size_of::<RawEntryHeader>() == 64);

/// §2.3.1.2 Zero Descriptor and §2.3.1.3 Data Descriptor, which have the same shape.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(super) struct RawDescriptor {
    pub(super) signature: [u8; 4],
    /// Of a data descriptor: the last 4 bytes of the sector.
    pub(super) trailing_bytes: [u8; 4],
    /// Of a data descriptor: the first 8 bytes. Of a zero descriptor: how many zeros.
    pub(super) leading_bytes: [u8; 8],
    pub(super) file_offset: U64,
    pub(super) sequence_number: U64,
}

const _: () = assert!(size_of::<RawDescriptor>() == 32);

/// §2.3.1.4 Data Sector: the sector but for what the descriptor has.
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(super) struct RawDataSector {
    pub(super) signature: [u8; 4],
    pub(super) sequence_high: U32,
    pub(super) data: [u8; 4084],
    pub(super) sequence_low: U32,
}

const _: () = assert!(size_of::<RawDataSector>() == SECTOR);

pub(super) const ENTRY: [u8; 4] = *b"loge";
pub(super) const ZERO_DESCRIPTOR: [u8; 4] = *b"zero";
pub(super) const DATA_DESCRIPTOR: [u8; 4] = *b"desc";
pub(super) const DATA_SECTOR: [u8; 4] = *b"data";

/// Descriptors behind the header in the first sector of an entry.
pub(super) const FIRST_DESCRIPTORS: usize =
    (SECTOR - size_of::<RawEntryHeader>()) / size_of::<RawDescriptor>();
/// Descriptors in each further sector.
pub(super) const MORE_DESCRIPTORS: usize = SECTOR / size_of::<RawDescriptor>();

/// The most sectors that an entry of ours replaces. It then takes at most 127 sectors of the
/// log and one that ends it; the log has at least 256. So the entry before it is never
/// overwritten, and with it the log always holds a valid one.
pub(super) const MAX_PAGES: usize = FIRST_DESCRIPTORS;

/// Where the next entry of ours goes, and what it is numbered.
#[derive(Debug)]
pub(super) struct LogWriter {
    pub(super) guid: Uuid,
    /// Whether the headers name the log's GUID, so that its entries count.
    pub(super) active: bool,
    sequence_number: u64,
    position: u32,
}

impl LogWriter {
    pub(super) fn new(guid: Uuid) -> Self {
        Self {
            guid,
            active: false,
            sequence_number: 1,
            position: 0,
        }
    }

    /// The next entry, as pieces with their positions in the log: one, or two where the log
    /// wraps around.
    ///
    /// It is a sequence of its own: its tail is itself, which says that what all earlier
    /// entries replaced has been written and flushed.
    pub(super) fn entry(
        &mut self,
        pages: &[(u64, Vec<u8>)],
        file_size: u64,
        log_length: u32,
    ) -> Vec<(u32, Vec<u8>)> {
        debug_assert!(pages.len() <= MAX_PAGES);
        let length = (SECTOR * (1 + pages.len())) as u32;
        let sequence_number = self.sequence_number;
        let header = RawEntryHeader {
            signature: ENTRY,
            checksum: U32::ZERO,
            entry_length: length.into(),
            tail: self.position.into(),
            sequence_number: sequence_number.into(),
            descriptor_count: (pages.len() as u32).into(),
            reserved: [0; 4],
            log_guid: self.guid.to_bytes_le(),
            flushed_file_offset: file_size.into(),
            last_file_offset: file_size.into(),
        };
        let mut bytes = header.as_bytes().to_vec();
        let mut sectors = Vec::with_capacity(pages.len() * SECTOR);
        for (file_offset, page) in pages {
            let mut descriptor = RawDescriptor {
                signature: DATA_DESCRIPTOR,
                trailing_bytes: [0; 4],
                leading_bytes: [0; 8],
                file_offset: (*file_offset).into(),
                sequence_number: sequence_number.into(),
            };
            descriptor.leading_bytes.copy_from_slice(&page[..8]);
            descriptor
                .trailing_bytes
                .copy_from_slice(&page[SECTOR - 4..]);
            bytes.extend_from_slice(descriptor.as_bytes());

            sectors.extend_from_slice(&DATA_SECTOR);
            sectors.extend_from_slice(&((sequence_number >> 32) as u32).to_le_bytes());
            sectors.extend_from_slice(&page[8..SECTOR - 4]);
            sectors.extend_from_slice(&(sequence_number as u32).to_le_bytes());
        }
        bytes.resize(SECTOR, 0);
        bytes.extend_from_slice(&sectors);
        let crc = checksum(&bytes);
        bytes[4..8].copy_from_slice(&crc.to_le_bytes());
        // A sector of zeros, which the next entry overwrites, ends the run: some readers
        // (QEMU) go on from an entry to whichever valid one follows, and after a turn around
        // the ring an old one may.
        bytes.resize(bytes.len() + SECTOR, 0);

        let start = self.position;
        self.sequence_number += 1;
        self.position = ((u64::from(start) + u64::from(length)) % u64::from(log_length)) as u32;
        let before_wrap = ((log_length - start) as usize).min(bytes.len());
        let wrapped = bytes.split_off(before_wrap);
        let mut pieces = vec![(start, bytes)];
        if !wrapped.is_empty() {
            pieces.push((0, wrapped));
        }
        pieces
    }
}
