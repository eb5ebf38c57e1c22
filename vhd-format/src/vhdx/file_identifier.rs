//! §2.2.1 File Type Identifier.

use zerocopy::byteorder::little_endian::U16;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::{Error, ReadAt, Result};

pub(crate) const SIGNATURE: [u8; 8] = *b"vhdxfile";

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct RawFileIdentifier {
    signature: [u8; 8],
    creator: [U16; 256],
}

const _: () = assert!(size_of::<RawFileIdentifier>() == FileIdentifier::SIZE);

/// The first structure of the file, by which it is known.
pub(super) struct FileIdentifier {
    /// The program that made the file.
    pub(super) creator: String,
}

impl FileIdentifier {
    pub(super) const SIZE: usize = 520;

    pub(super) fn read(storage: &impl ReadAt) -> Result<Self> {
        let mut bytes = [0; Self::SIZE];
        storage
            .read_at(0, &mut bytes)
            .map_err(|error| Error::read("the file type identifier", 0, error))?;
        let raw: RawFileIdentifier = zerocopy::transmute!(bytes);
        if raw.signature != SIGNATURE {
            return Err(Error::invalid("the file has no \"vhdxfile\" signature").at(0));
        }
        let units = raw.creator.iter().map(|unit| unit.get());
        let units = units.take_while(|&unit| unit != 0).collect::<Vec<_>>();
        Ok(Self {
            creator: String::from_utf16_lossy(&units),
        })
    }

    pub(super) fn to_bytes(&self) -> Result<[u8; Self::SIZE]> {
        let mut creator = [U16::ZERO; 256];
        let mut units = self.creator.encode_utf16();
        for (place, unit) in creator.iter_mut().zip(&mut units) {
            *place = unit.into();
        }
        if units.next().is_some() {
            return Err(Error::input(
                "the creator's name is longer than 256 UTF-16 units",
            ));
        }
        Ok(zerocopy::transmute!(RawFileIdentifier {
            signature: SIGNATURE,
            creator,
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_the_creator() {
        for creator in ["", "Grüße 💾", &"x".repeat(256)] {
            let identifier = FileIdentifier {
                creator: creator.into(),
            };
            let bytes = identifier.to_bytes().unwrap();
            assert_eq!(bytes[..8], SIGNATURE);
            let again = FileIdentifier::read(&bytes.as_slice()).unwrap();
            assert_eq!(again.creator, creator);
        }
        let creator = "x".repeat(257);
        assert!(FileIdentifier { creator }.to_bytes().is_err());
    }
}
