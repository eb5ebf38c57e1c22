//! §2.6.2.6 Parent Locator.

use uuid::Uuid;
use zerocopy::byteorder::little_endian::{U16, U32};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::{Error, Result};

/// §2.6.2.6.1 Parent Locator Header.
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct RawHeader {
    locator_type: [u8; 16],
    reserved: [u8; 2],
    key_value_count: U16,
}

const _: () = assert!(size_of::<RawHeader>() == 20);

/// §2.6.2.6.2 Parent Locator Entry.
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct RawEntry {
    key_offset: U32,
    value_offset: U32,
    key_length: U16,
    value_length: U16,
}

const _: () = assert!(size_of::<RawEntry>() == 12);

/// §2.6.2.6.3: a parent that is a VHDX file.
const VHDX_PARENT: Uuid = Uuid::from_u128(0xb04aefb7_d19e_4a81_b789_25b8e9445913);

/// The parent locator of a differencing disk: names and values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParentLocator {
    pairs: Vec<(String, String)>,
}

impl ParentLocator {
    pub(super) fn from_bytes(bytes: &[u8]) -> Result<Self> {
        let cut = || Error::invalid("the parent locator is cut short");
        let (header, rest) = RawHeader::ref_from_prefix(bytes).map_err(|_| cut())?;
        let kind = Uuid::from_bytes_le(header.locator_type);
        if kind != VHDX_PARENT {
            return Err(Error::unsupported(format!(
                "a parent locator of the unknown kind {kind}"
            )));
        }
        let count = usize::from(header.key_value_count.get());
        let (entries, _) =
            <[RawEntry]>::ref_from_prefix_with_elems(rest, count).map_err(|_| cut())?;
        let text = |offset: U32, length: U16| {
            let start = offset.get() as usize;
            let units = bytes
                .get(start..)
                .and_then(|rest| rest.get(..usize::from(length.get())))
                .ok_or_else(cut)?
                .chunks_exact(2)
                .map(|pair| u16::from_le_bytes([pair[0], pair[1]]))
                .collect::<Vec<_>>();
            Ok(String::from_utf16_lossy(&units))
        };
        let mut pairs = Vec::with_capacity(count);
        for entry in entries {
            pairs.push((
                text(entry.key_offset, entry.key_length)?,
                text(entry.value_offset, entry.value_length)?,
            ));
        }
        Ok(Self { pairs })
    }

    /// The value of that name, such as `relative_path`, `volume_path` or
    /// `absolute_win32_path`.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&str> {
        let pair = self.pairs.iter().find(|(name, _)| name == key)?;
        Some(&pair.1)
    }

    /// All names and values, in the disk's order.
    pub fn pairs(&self) -> impl Iterator<Item = (&str, &str)> {
        self.pairs.iter().map(|(key, value)| (&**key, &**value))
    }

    /// Whether the disk with that [data-write GUID](super::Header::data_write_guid) is the
    /// parent. A merge that was interrupted leaves two that are.
    #[must_use]
    pub fn links_to(&self, data_write_guid: Uuid) -> bool {
        ["parent_linkage", "parent_linkage2"]
            .into_iter()
            .filter_map(|key| Uuid::try_parse(self.get(key)?).ok())
            .any(|linkage| linkage == data_write_guid)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ErrorKind;

    fn locator(pairs: &[(&str, &str)]) -> Vec<u8> {
        let mut bytes = RawHeader {
            locator_type: VHDX_PARENT.to_bytes_le(),
            reserved: [0; 2],
            key_value_count: (pairs.len() as u16).into(),
        }
        .as_bytes()
        .to_vec();
        let mut strings = Vec::new();
        let strings_offset = 20 + 12 * pairs.len();
        for (key, value) in pairs {
            let mut add = |text: &str| {
                let start = strings_offset + strings.len();
                strings.extend(text.encode_utf16().flat_map(u16::to_le_bytes));
                (
                    start as u32,
                    (strings_offset + strings.len() - start) as u16,
                )
            };
            let ((key_offset, key_length), (value_offset, value_length)) = (add(key), add(value));
            let entry = RawEntry {
                key_offset: key_offset.into(),
                value_offset: value_offset.into(),
                key_length: key_length.into(),
                value_length: value_length.into(),
            };
            bytes.extend_from_slice(entry.as_bytes());
        }
        bytes.extend_from_slice(&strings);
        bytes
    }

    #[test]
    fn gives_values_by_name() {
        let bytes = locator(&[
            ("relative_path", "..\\größe.vhdx"),
            ("parent_linkage", "{11111111-2222-3333-4444-555555555555}"),
        ]);
        let found = ParentLocator::from_bytes(&bytes).unwrap();
        assert_eq!(found.get("relative_path"), Some("..\\größe.vhdx"));
        assert_eq!(found.get("volume_path"), None);
        assert_eq!(found.pairs().count(), 2);
        let id = Uuid::from_u128(0x11111111_2222_3333_4444_555555555555);
        assert!(found.links_to(id));
        assert!(!found.links_to(Uuid::nil()));
    }

    #[test]
    fn the_second_linkage_counts_too() {
        let bytes = locator(&[
            ("parent_linkage", "{11111111-2222-3333-4444-555555555555}"),
            ("parent_linkage2", "{21111111-2222-3333-4444-555555555555}"),
        ]);
        let found = ParentLocator::from_bytes(&bytes).unwrap();
        let id = 0x11111111_2222_3333_4444_555555555555;
        assert!(found.links_to(Uuid::from_u128(id)));
        assert!(found.links_to(Uuid::from_u128(id + (1 << 124))));
    }

    #[test]
    fn every_cut_is_an_error_and_no_panic() {
        let bytes = locator(&[("parent_linkage", "x"), ("relative_path", "y")]);
        for len in 0..bytes.len() {
            let error = ParentLocator::from_bytes(&bytes[..len]).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Invalid);
        }
        let mut other = bytes;
        other[0] ^= 1;
        let error = ParentLocator::from_bytes(&other).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
    }
}
