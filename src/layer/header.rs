//! The 512-byte header of an entry: POSIX.1-1988 ustar, GNU's and star's variants of it, and
//! what was before.

use std::ops::Range;

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

    /// What a sparse file of the old GNU format has besides.
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
    let sum = |bytes: &[u8]| bytes.iter().map(|byte| u32::from(*byte)).sum::<u32>();
    let unsigned = sum(block) - sum(&block[148..156]) + 8 * u32::from(b' ');
    if i128::from(unsigned) == expected {
        return true;
    }
    let negative = block[..148].iter().chain(&block[156..]);
    let negative = negative.filter(|byte| **byte >= 0x80).count();
    i128::from(unsigned) - 256 * negative as i128 == expected
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

/// The number in a header field of at most 12 bytes; none if it has no such form.
///
/// It is octal text, led by spaces or NULs and ended by one or by the field. For what is
/// larger or negative, GNU's form is a first byte with its top bit set and all other bits a
/// two's complement number, the most significant first.
pub(super) fn number(field: &[u8]) -> Option<i128> {
    if let [first @ 0x80..=0xff, rest @ ..] = field {
        // Bit 6, not bit 7, is the sign.
        let first = i128::from((first << 1).cast_signed() >> 1);
        return Some(
            rest.iter()
                .fold(first, |number, byte| number << 8 | i128::from(*byte)),
        );
    }
    let blank = |byte: &u8| matches!(byte, b' ' | 0);
    let start = field.iter().position(|byte| !blank(byte));
    let digits = &field[start.unwrap_or(field.len())..];
    let mut number = 0_u64;
    for digit in digits.iter().take_while(|byte| !blank(byte)) {
        match digit {
            b'0'..=b'7' => number = number << 3 | u64::from(digit - b'0'),
            _ => return None,
        }
    }
    Some(number.into())
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
