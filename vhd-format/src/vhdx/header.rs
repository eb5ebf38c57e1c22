//! §2.2.2 Headers.

use uuid::Uuid;
use zerocopy::byteorder::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use super::ALIGNMENT;
use crate::{Error, ReadAt, Result, Storage};

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct RawHeader {
    signature: [u8; 4],
    checksum: U32,
    sequence_number: U64,
    file_write_guid: [u8; 16],
    data_write_guid: [u8; 16],
    log_guid: [u8; 16],
    log_version: U16,
    version: U16,
    log_length: U32,
    log_offset: U64,
    reserved: [u8; 4016],
}

const _: () = assert!(size_of::<RawHeader>() == Header::SIZE);

const SIGNATURE: [u8; 4] = *b"head";
const VERSION: u16 = 1;
const LOG_VERSION: u16 = 0;

/// One of the two headers: ids of the file's contents, and the place of its log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Header {
    /// The header with the higher number is the current one.
    pub sequence_number: u64,
    /// Changes whenever the file is opened and modified in any way.
    pub file_write_guid: Uuid,
    /// Changes whenever the file is opened and the virtual disk's contents are modified. A
    /// child disk knows its parent by it.
    pub data_write_guid: Uuid,
    /// Tells the valid entries of the log from older ones; nil if there are none.
    pub log_guid: Uuid,
    /// The size of the log in bytes.
    pub log_length: u32,
    /// Where the log starts in the file.
    pub log_offset: u64,
}

impl Header {
    pub(super) const SIZE: usize = 4096;
    /// Where the two headers lie.
    pub(super) const OFFSETS: [u64; 2] = [64 << 10, 128 << 10];

    pub(super) fn to_bytes(self) -> [u8; Self::SIZE] {
        let raw = RawHeader {
            signature: SIGNATURE,
            checksum: U32::ZERO,
            sequence_number: self.sequence_number.into(),
            file_write_guid: self.file_write_guid.to_bytes_le(),
            data_write_guid: self.data_write_guid.to_bytes_le(),
            log_guid: self.log_guid.to_bytes_le(),
            log_version: LOG_VERSION.into(),
            version: VERSION.into(),
            log_length: self.log_length.into(),
            log_offset: self.log_offset.into(),
            reserved: [0; 4016],
        };
        let mut bytes: [u8; Self::SIZE] = zerocopy::transmute!(raw);
        let crc = crc32c::crc32c(&bytes);
        bytes[4..8].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    fn from_bytes(bytes: &[u8; Self::SIZE]) -> Result<Self> {
        let raw: RawHeader = zerocopy::transmute!(*bytes);
        if raw.signature != SIGNATURE {
            return Err(Error::invalid("a VHDX header has no \"head\" signature"));
        }
        if raw.checksum.get() != checksum(bytes) {
            return Err(Error::invalid("a VHDX header's checksum is wrong"));
        }
        let version = raw.version.get();
        if version != VERSION {
            return Err(Error::unsupported(format!(
                "VHDX version {version} is not known"
            )));
        }
        let header = Self {
            sequence_number: raw.sequence_number.get(),
            file_write_guid: Uuid::from_bytes_le(raw.file_write_guid),
            data_write_guid: Uuid::from_bytes_le(raw.data_write_guid),
            log_guid: Uuid::from_bytes_le(raw.log_guid),
            log_length: raw.log_length.get(),
            log_offset: raw.log_offset.get(),
        };
        let log_version = raw.log_version.get();
        if log_version != LOG_VERSION && !header.log_guid.is_nil() {
            return Err(Error::unsupported(format!(
                "VHDX log version {log_version} is not known"
            )));
        }
        let aligned = header.log_offset.is_multiple_of(ALIGNMENT)
            && u64::from(header.log_length).is_multiple_of(ALIGNMENT);
        if !aligned || header.log_offset < ALIGNMENT || header.log_length == 0 {
            return Err(Error::invalid(format!(
                "a log of {} bytes at {}: both must be whole MiB",
                header.log_length, header.log_offset
            )));
        }
        if header
            .log_offset
            .checked_add(header.log_length.into())
            .is_none()
        {
            return Err(Error::invalid("the log lies past the end of the file"));
        }
        Ok(header)
    }
}

/// §1.3 CRC-32C of a structure whose checksum, its second field, counts as zero.
pub(super) fn checksum(bytes: &[u8]) -> u32 {
    let crc = crc32c::crc32c(&bytes[..4]);
    let crc = crc32c::crc32c_append(crc, &[0; 4]);
    crc32c::crc32c_append(crc, &bytes[8..])
}

/// The two headers of a file, of which one is current.
#[derive(Clone, Copy)]
pub(super) struct Headers {
    pub(super) current: Header,
    /// Which of the two it is.
    slot: usize,
    pub(super) damaged: [bool; 2],
}

impl Headers {
    /// Updates that a session makes at most: a log that was left behind is replayed and let go,
    /// the ids change, a new log begins and ends.
    const SESSION_UPDATES: u64 = 5;

    pub(super) fn read(storage: &impl ReadAt) -> Result<Self> {
        let read = |offset| {
            let mut bytes = [0; Header::SIZE];
            storage
                .read_at(offset, &mut bytes)
                .map_err(|error| Error::read("a VHDX header", offset, error))?;
            Header::from_bytes(&bytes).map_err(|error| error.at(offset))
        };
        let [first, second] = Header::OFFSETS.map(read);
        let damaged = [first.is_err(), second.is_err()];
        let (current, slot) = match (first, second) {
            (Ok(first), Ok(second)) if second.sequence_number > first.sequence_number => {
                (second, 1)
            }
            // Disk2vhd writes the same header twice, although one should be newer. Of two that
            // differ, nothing says which is.
            (Ok(first), Ok(second))
                if first.sequence_number == second.sequence_number && first != second =>
            {
                return Err(Error::invalid(
                    "the two headers have the same number and different contents",
                )
                .at(Header::OFFSETS[0]));
            }
            (Ok(first), _) => (first, 0),
            (Err(_), Ok(second)) => (second, 1),
            (Err(error), Err(_)) => return Err(error),
        };
        Ok(Self {
            current,
            slot,
            damaged,
        })
    }

    /// Refuses headers whose numbers would not last a session of writing, before it writes.
    ///
    /// The specification says nothing of a number after the highest.
    pub(super) fn check_numbers(&self) -> Result<()> {
        let number = self.current.sequence_number;
        match number.checked_add(2 * Self::SESSION_UPDATES) {
            Some(_) => Ok(()),
            None => Err(Self::used_up().at(Header::OFFSETS[self.slot])),
        }
    }

    fn used_up() -> Error {
        Error::unsupported("the sequence numbers of the VHDX headers are used up")
    }

    /// §2.2.2.1 Updating the Headers. The update is made twice, so that the loss of either
    /// header loses nothing.
    pub(super) fn update(
        &mut self,
        storage: &mut impl Storage,
        change: impl Fn(&mut Header),
    ) -> Result<()> {
        for _ in 0..2 {
            let mut header = self.current;
            header.sequence_number = header
                .sequence_number
                .checked_add(1)
                .ok_or_else(Self::used_up)?;
            change(&mut header);
            let slot = 1 - self.slot;
            let offset = Header::OFFSETS[slot];
            storage
                .write_at(offset, &header.to_bytes())
                .map_err(|error| Error::write("a VHDX header", offset, error))?;
            storage.flush().map_err(Error::flush)?;
            self.current = header;
            self.slot = slot;
            self.damaged[slot] = false;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ErrorKind;

    fn header(sequence_number: u64) -> Header {
        Header {
            sequence_number,
            file_write_guid: Uuid::from_u128(1),
            data_write_guid: Uuid::from_u128(2),
            log_guid: Uuid::nil(),
            log_length: 1 << 20,
            log_offset: 1 << 20,
        }
    }

    fn file(first: &[u8], second: &[u8]) -> Vec<u8> {
        let mut file = vec![0; 1 << 20];
        file[64 << 10..][..first.len()].copy_from_slice(first);
        file[128 << 10..][..second.len()].copy_from_slice(second);
        file
    }

    #[test]
    fn the_higher_valid_number_is_current() {
        let (five, six) = (header(5).to_bytes(), header(6).to_bytes());
        let mut damaged = six;
        damaged[4000] ^= 1;
        for (first, second, number, states) in [
            (five, six, 6, [false, false]),
            (six, five, 6, [false, false]),
            (six, six, 6, [false, false]),
            (five, damaged, 5, [false, true]),
            (damaged, five, 5, [true, false]),
        ] {
            let headers = Headers::read(&file(&first, &second)).unwrap();
            assert_eq!(headers.current, header(number));
            assert_eq!(headers.damaged, states);
        }
        let mut other = header(6);
        other.log_guid = Uuid::from_u128(3);
        let error = Headers::read(&file(&six, &other.to_bytes())).err().unwrap();
        assert_eq!(error.kind(), ErrorKind::Invalid);
        let error = Headers::read(&file(&damaged, &damaged)).err().unwrap();
        assert_eq!(error.kind(), ErrorKind::Invalid);
        assert_eq!(error.offset(), Some(64 << 10));
    }

    #[test]
    fn an_update_leaves_both_current() {
        let mut file = file(&header(5).to_bytes(), &[]);
        let mut headers = Headers::read(&file).unwrap();
        headers
            .update(&mut file, |header| header.log_guid = Uuid::from_u128(3))
            .unwrap();
        let read = Headers::read(&file).unwrap();
        assert_eq!(read.damaged, [false, false]);
        assert_eq!(read.current.sequence_number, 7);
        assert_eq!(read.current, headers.current);
        // Either alone would do.
        for offset in Header::OFFSETS {
            let mut file = file.clone();
            file[offset as usize] ^= 1;
            let header = Headers::read(&file).unwrap().current;
            assert_eq!(header.log_guid, Uuid::from_u128(3));
        }
    }

    #[test]
    fn every_flipped_bit_is_noticed() {
        let bytes = header(5).to_bytes();
        for bit in 0..bytes.len() * 8 {
            let mut bytes = bytes;
            bytes[bit / 8] ^= 1 << (bit % 8);
            Header::from_bytes(&bytes).unwrap_err();
        }
    }

    #[test]
    fn places_of_the_log_are_checked() {
        for (log_offset, log_length) in [
            (0, 1 << 20),
            (1 << 20, 0),
            (1 << 20, 4096),
            ((1 << 20) + 4096, 1 << 20),
            (u64::MAX << 20, 2 << 20),
        ] {
            let bytes = Header {
                log_offset,
                log_length,
                ..header(1)
            }
            .to_bytes();
            let error = Header::from_bytes(&bytes).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Invalid);
        }
    }
}
