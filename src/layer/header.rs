//! The 512-byte header of an entry: POSIX.1-1988 ustar, GNU's and star's variants of it, and
//! what was before.

use std::ops::Range;

use super::model::{Entry, Time};
use super::number::number;
use crate::error::{Error, Result};
use crate::summary::display_path;

pub(super) const BLOCK_SIZE: usize = 512;

/// No file is larger on any system, and sums of two sizes cannot overflow.
pub(super) const MAX_SIZE: u64 = i64::MAX as u64;

/// Which fields a header has beyond those of Unix version 7.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Dialect {
    /// None.
    V7,
    /// Devices, and a prefix to the name.
    Ustar,
    /// Devices; times, seldom used, where the prefix would be.
    Gnu,
}

const PREFIX: Range<usize> = 345..500;
/// star has times behind a shorter prefix.
const STAR_PREFIX: Range<usize> = 345..476;
const GNU_TIMES: [Range<usize>; 2] = [345..357, 357..369];
const STAR_TIMES: [Range<usize>; 2] = [476..488, 488..500];

/// A header whose checksum holds.
pub(super) struct Header<'a> {
    fields: &'a tar::Header,
    dialect: Dialect,
}

impl<'a> Header<'a> {
    pub(super) fn parse(block: &'a [u8; BLOCK_SIZE]) -> Result<Self> {
        if !checksum_holds(block) {
            return Err(Error::corrupt("the checksum of the tar header is wrong"));
        }
        let fields = tar::Header::from_byte_slice(block);
        // Some writers leave the version of ustar blank, and no reader looks at it.
        let dialect = match &block[257..265] {
            b"ustar  \0" if go_prefix(block) => Dialect::Ustar,
            b"ustar  \0" => Dialect::Gnu,
            [b'u', b's', b't', b'a', b'r', 0, ..] => Dialect::Ustar,
            _ => Dialect::V7,
        };
        Ok(Self { fields, dialect })
    }

    pub(super) fn type_flag(&self) -> u8 {
        self.fields.as_old().linkflag[0]
    }

    /// Replaces `path` by the path of the header.
    pub(super) fn read_path(&self, path: &mut Vec<u8>) {
        path.clear();
        if self.dialect == Dialect::Ustar {
            path.extend_from_slice(self.prefix());
            if !path.is_empty() {
                path.push(b'/');
            }
        }
        path.extend_from_slice(until_nul(&self.fields.as_old().name));
    }

    fn prefix(&self) -> &'a [u8] {
        let block = self.fields.as_bytes();
        until_nul(match &block[508..] {
            b"tar\0" => &block[STAR_PREFIX],
            _ => &block[PREFIX],
        })
    }

    pub(super) fn link_name(&self) -> &'a [u8] {
        until_nul(&self.fields.as_old().linkname)
    }

    pub(super) fn size(&self) -> Result<u64> {
        size(&self.fields.as_old().size)
    }

    /// The permission bits; others, which old writers added, tell nothing new.
    pub(super) fn mode(&self) -> Result<u16> {
        Ok((field_number("mode", &self.fields.as_old().mode)? & 0o7777) as u16)
    }

    pub(super) fn uid(&self) -> Result<i128> {
        field_number("uid", &self.fields.as_old().uid)
    }

    pub(super) fn gid(&self) -> Result<i128> {
        field_number("gid", &self.fields.as_old().gid)
    }

    /// Seconds since 1970; what is beyond all reason is clamped here, as the rest will be.
    pub(super) fn mtime(&self) -> Result<i64> {
        let seconds = field_number("mtime", &self.fields.as_old().mtime)?;
        Ok(seconds.clamp(i64::MIN.into(), i64::MAX.into()) as i64)
    }

    /// The times of access and change that headers of GNU and star may have, where no
    /// extended header gave others.
    pub(super) fn read_times(&self, entry: &mut Entry) -> Result<()> {
        let block = self.fields.as_bytes();
        let is_star = self.dialect == Dialect::Ustar && block[508..] == *b"tar\0";
        let fields = match self.dialect {
            Dialect::Gnu => GNU_TIMES,
            Dialect::Ustar if is_star => STAR_TIMES,
            _ => return Ok(()),
        };
        let [atime, ctime] = fields.map(|field| -> Result<Option<Time>> {
            let field = &block[field];
            if !is_star && field[0] == 0 {
                return Ok(None);
            }
            let seconds = field_number("time", field)?;
            let seconds = seconds.clamp(i64::MIN.into(), i64::MAX.into()) as i64;
            Ok(Some(Time { seconds, nanos: 0 }))
        });
        let (atime, ctime) = (atime?, ctime?);
        entry.atime = entry.atime.or(atime);
        entry.ctime = entry.ctime.or(ctime);
        Ok(())
    }

    /// The numbers of a device, which version 7 did not know.
    pub(super) fn device(&self) -> Result<(i128, i128)> {
        if self.dialect == Dialect::V7 {
            return Ok((0, 0));
        }
        let block = self.fields.as_bytes();
        Ok((
            field_number("device major", &block[329..337])?,
            field_number("device minor", &block[337..345])?,
        ))
    }

    /// The fields of a sparse file in the old GNU format.
    pub(super) fn gnu(&self) -> Option<&'a tar::GnuHeader> {
        self.fields.as_gnu()
    }

    /// The size of a sparse file, holes and all.
    pub(super) fn real_size(&self, fields: &tar::GnuHeader) -> Result<u64> {
        size(&fields.realsize)
    }
}

/// Whether an uncompressed layer begins with an entry, however unlikely its first bytes.
pub(super) fn starts_with_header(layer: &[u8]) -> bool {
    layer
        .first_chunk()
        .is_some_and(|block: &[u8; BLOCK_SIZE]| checksum_holds(block))
}

/// The sum of all bytes, those of the checksum itself counted as spaces. Writers disagreed
/// on whether a byte has a sign, so that readers take both.
fn checksum_holds(block: &[u8; BLOCK_SIZE]) -> bool {
    let Some(expected) = number(&block[148..156]) else {
        return false;
    };
    let own = block[148..156].iter().map(|byte| u32::from(*byte));
    let unsigned = sum(block) - own.sum::<u32>() + 8 * u32::from(b' ');
    if i128::from(unsigned) == expected {
        return true;
    }
    let negative = block[..148].iter().chain(&block[156..]);
    let negative = negative.filter(|byte| **byte >= 0x80).count();
    i128::from(unsigned) - 256 * negative as i128 == expected
}

/// The sum of all bytes: every other one of a word is added to 16 bits, which it cannot exceed.
fn sum(block: &[u8; BLOCK_SIZE]) -> u32 {
    const EVEN: u64 = 0x00ff_00ff_00ff_00ff;
    let (words, _) = block.as_chunks();
    let sums = words.iter().fold(0, |sums, word| {
        let word = u64::from_le_bytes(*word);
        sums + (word & EVEN) + (word >> 8 & EVEN)
    });
    let lanes = [sums, sums >> 16, sums >> 32, sums >> 48];
    lanes.iter().map(|lane| u32::from(*lane as u16)).sum()
}

/// Whether a GNU header has a prefix after all, as the headers of long names had that Go
/// wrote before 1.8, and with it Docker: Go still reads it where the times are no numbers.
fn go_prefix(block: &[u8; BLOCK_SIZE]) -> bool {
    let is_time = |field: &[u8]| field[0] == 0 || number(field).is_some();
    !GNU_TIMES.into_iter().all(|field| is_time(&block[field]))
        && until_nul(&block[PREFIX]).is_ascii()
}

/// The bytes before the first NUL.
pub(super) fn until_nul(bytes: &[u8]) -> &[u8] {
    let end = bytes.iter().position(|byte| *byte == 0);
    &bytes[..end.unwrap_or(bytes.len())]
}

fn field_number(name: &str, field: &[u8]) -> Result<i128> {
    number(field).ok_or_else(|| invalid(name, field))
}

fn size(field: &[u8]) -> Result<u64> {
    match u64::try_from(field_number("size", field)?) {
        Ok(size) if size <= MAX_SIZE => Ok(size),
        _ => Err(invalid("size", field)),
    }
}

fn invalid(name: &str, field: &[u8]) -> Error {
    Error::corrupt(format!(
        "the {name} field of the tar header is invalid: \"{}\"",
        display_path(field)
    ))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::testing::header;
    use super::*;

    proptest! {
        #[test]
        fn every_byte_counts(block in proptest::collection::vec(any::<u8>(), BLOCK_SIZE)) {
            let naive = block.iter().map(|byte| u32::from(*byte)).sum::<u32>();
            prop_assert_eq!(sum(block.first_chunk().unwrap()), naive);
        }
    }

    fn path_of(header: &mut tar::Header) -> String {
        header.set_cksum();
        let mut path = b"old".to_vec();
        Header::parse(header.as_bytes())
            .unwrap()
            .read_path(&mut path);
        String::from_utf8(path).unwrap()
    }

    #[test]
    fn only_ustar_has_a_prefix() {
        let mut plain = header(b'0', b"name", 0);
        assert_eq!(path_of(&mut plain), "name");
        plain.as_mut_bytes()[PREFIX][..3].copy_from_slice(b"dir");
        assert_eq!(path_of(&mut plain), "dir/name");
        plain.as_mut_bytes()[263..265].copy_from_slice(b"  ");
        assert_eq!(path_of(&mut plain), "dir/name", "a blank version");

        let mut full = header(b'0', &[b'n'; 100], 0);
        full.as_mut_bytes()[PREFIX].fill(b'p');
        assert_eq!(path_of(&mut full), format!("{:p>155}/{:n>100}", "", ""));

        let mut v7 = plain.clone();
        v7.as_mut_bytes()[257..265].fill(0);
        assert_eq!(path_of(&mut v7), "name");
    }

    #[test]
    fn star_has_a_shorter_prefix() {
        let mut star = header(b'0', b"name", 0);
        star.as_mut_bytes()[PREFIX].fill(b'p');
        star.as_mut_bytes()[508..].copy_from_slice(b"tar\0");
        assert_eq!(path_of(&mut star), format!("{:p>131}/name", ""));
    }

    #[test]
    fn gnu_has_times_where_the_prefix_is() {
        let mut gnu = header(b'0', b"name", 0);
        gnu.as_mut_bytes()[257..265].copy_from_slice(b"ustar  \0");
        gnu.as_mut_bytes()[345..357].copy_from_slice(b"14000000000\0");
        assert_eq!(path_of(&mut gnu), "name");
        gnu.as_mut_bytes()[345..357].copy_from_slice(b"usr/lib\0\0\0\0\0");
        assert_eq!(path_of(&mut gnu), "usr/lib/name", "as Go 1.7 wrote it");
        gnu.as_mut_bytes()[345] = 0xfe;
        assert_eq!(path_of(&mut gnu), "name");
    }

    #[test]
    fn checksums_of_both_kinds() {
        let mut header = header(b'0', b"n\xe4\xf6\xff", 0);
        header.set_cksum();
        assert!(checksum_holds(header.as_bytes()));
        let unsigned = header.cksum().unwrap();
        let signed = unsigned - 3 * 256;
        header.as_old_mut().cksum = *format!("{signed:06o}\0 ").as_bytes().first_chunk().unwrap();
        assert!(checksum_holds(header.as_bytes()));
        for wrong in [unsigned + 1, signed - 1, signed + 256, 0] {
            header.as_old_mut().cksum =
                *format!("{wrong:06o}\0 ").as_bytes().first_chunk().unwrap();
            assert!(!checksum_holds(header.as_bytes()), "{wrong}");
        }
        assert!(!checksum_holds(&[0; BLOCK_SIZE]));
        assert_eq!(sum(&[0xff; BLOCK_SIZE]), 0xff * BLOCK_SIZE as u32);
        assert!(!starts_with_header(&[0; 100]));
    }

    #[test]
    fn sizes_have_a_limit() {
        let of = |size: &[u8; 12]| {
            let mut header = header(b'0', b"n", 0);
            header.as_old_mut().size = *size;
            header.set_cksum();
            let size = Header::parse(header.as_bytes()).unwrap().size();
            size.map_err(|error| error.to_string())
        };
        assert_eq!(of(b"77777777777\0"), Ok((1 << 33) - 1));
        assert_eq!(
            of(b"\x80\0\0\0\x7f\xff\xff\xff\xff\xff\xff\xff"),
            Ok(MAX_SIZE)
        );
        let invalid = "the size field of the tar header is invalid";
        for bad in [
            b"\x80\0\0\0\x80\0\0\0\0\0\0\0",
            b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff",
            b"0000000000x\0",
        ] {
            assert!(of(bad).unwrap_err().starts_with(invalid));
        }
    }
}
