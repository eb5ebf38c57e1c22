//! Extended headers: PAX records, POSIX.1-2001, and the vendors' keys in them.

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

use super::entry::{Entry, Time};
use super::sparse::PaxSparse;
use crate::error::{Error, Result};
use crate::summary::display_path;

/// Some writers leave the padding out.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// The records of an extended header, `LENGTH KEY=VALUE\n`, the length in decimal and of all
/// of the record: a value may hold any byte.
pub(super) struct Records<'a>(&'a [u8]);

impl<'a> Records<'a> {
    pub(super) fn new(header: &'a [u8]) -> Self {
        Self(header)
    }

    fn split(&mut self) -> Option<(&'a [u8], &'a [u8])> {
        let space = self.0.iter().take(20).position(|byte| *byte == b' ')?;
        let length = usize::try_from(decimal(&self.0[..space])?).ok()?;
        let (record, rest) = self.0.split_at_checked(length)?;
        let record = record.get(space + 1..)?.strip_suffix(b"\n")?;
        let equals = record.iter().position(|byte| *byte == b'=')?;
        let (key, value) = (&record[..equals], &record[equals + 1..]);
        if key.is_empty() || key.contains(&0) {
            return None;
        }
        self.0 = rest;
        Some((key, value))
    }
}

impl<'a> Iterator for Records<'a> {
    type Item = Result<(&'a [u8], &'a [u8])>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        Some(self.split().ok_or_else(|| {
            self.0 = &[];
            Error::corrupt("a PAX record is malformed")
        }))
    }
}

/// What extension headers said about the next entry, where its own header may say otherwise.
#[derive(Debug, Default)]
pub(super) struct Extensions {
    /// GNU's long names come before those of PAX.
    pub(super) gnu_path: Option<Vec<u8>>,
    pub(super) gnu_link: Option<Vec<u8>>,
    pub(super) path: Option<Vec<u8>>,
    pub(super) link: Option<Vec<u8>>,
    pub(super) size: Option<u64>,
    pub(super) uid: Option<u64>,
    pub(super) gid: Option<u64>,
    pub(super) mtime: Option<Time>,
    pub(super) device_major: Option<u64>,
    pub(super) device_minor: Option<u64>,
    pub(super) sparse: PaxSparse,
    /// An NFSv4 ACL, for which ext4 has no place.
    pub(super) nfs4_acl: bool,
}

impl Extensions {
    /// Applies a record; `entry` takes what no header field has.
    pub(super) fn apply(&mut self, key: &[u8], value: &[u8], entry: &mut Entry) -> Result<()> {
        match key {
            b"path" => self.path = text(key, value)?,
            b"linkpath" => self.link = text(key, value)?,
            b"size" => self.size = parse(key, value, decimal)?,
            b"uid" => self.uid = parse(key, value, decimal)?,
            b"gid" => self.gid = parse(key, value, decimal)?,
            b"mtime" => self.mtime = parse(key, value, time)?,
            b"atime" => entry.atime = parse(key, value, time)?,
            b"ctime" => entry.ctime = parse(key, value, time)?,
            b"SCHILY.devmajor" => self.device_major = parse(key, value, decimal)?,
            b"SCHILY.devminor" => self.device_minor = parse(key, value, decimal)?,
            b"SCHILY.acl.access" => entry.acl_access = some(value),
            b"SCHILY.acl.default" => entry.acl_default = some(value),
            b"SCHILY.acl.ace" => self.nfs4_acl = !value.is_empty(),
            b"RHT.security.selinux" => push_xattr(entry, b"security.selinux".to_vec(), value),
            _ => {
                if let Some(name) = key.strip_prefix(b"SCHILY.xattr.") {
                    push_xattr(entry, name.to_vec(), value);
                } else if let Some(name) = key.strip_prefix(b"LIBARCHIVE.xattr.") {
                    let value = BASE64.decode(value).map_err(|_| invalid(key, value))?;
                    let name = percent_decode(name).ok_or_else(|| invalid(key, name))?;
                    push_xattr(entry, name, &value);
                } else if let Some(key_of_sparse) = key.strip_prefix(b"GNU.sparse.") {
                    let applied = self.sparse.apply(key_of_sparse, value);
                    applied.ok_or_else(|| invalid(key, value))?;
                }
            }
        }
        Ok(())
    }
}

/// An empty value is as good as an attribute of no bytes can be told: it deletes nothing.
fn push_xattr(entry: &mut Entry, name: Vec<u8>, value: &[u8]) {
    entry.xattrs.push((name, value.to_vec()));
}

/// Leaves the last value of each name, in time that many records cannot make quadratic.
pub(super) fn unite_xattrs(xattrs: &mut Vec<(Vec<u8>, Vec<u8>)>) {
    xattrs.sort_by(|a, b| a.0.cmp(&b.0));
    xattrs.dedup_by(|later, kept| {
        let same = later.0 == kept.0;
        if same {
            std::mem::swap(&mut later.1, &mut kept.1);
        }
        same
    });
}

fn some(value: &[u8]) -> Option<Vec<u8>> {
    (!value.is_empty()).then(|| value.to_vec())
}

/// A path; an empty one deletes what was said before.
fn text(key: &[u8], value: &[u8]) -> Result<Option<Vec<u8>>> {
    if value.contains(&0) {
        return Err(Error::corrupt(format!(
            "the PAX record {} has a NUL in it",
            display_path(key)
        )));
    }
    Ok(some(value))
}

/// A number or time; an empty one deletes what was said before.
fn parse<T>(key: &[u8], value: &[u8], with: fn(&[u8]) -> Option<T>) -> Result<Option<T>> {
    match value {
        [] => Ok(None),
        _ => with(value).map(Some).ok_or_else(|| invalid(key, value)),
    }
}

fn invalid(key: &[u8], value: &[u8]) -> Error {
    let shown = &value[..value.len().min(40)];
    Error::corrupt(format!(
        "the PAX record {} has an invalid value: \"{}\"",
        display_path(key),
        display_path(shown)
    ))
}

/// A decimal number of digits alone; none if it has another form or exceeds 64 bits.
pub(super) fn decimal(text: &[u8]) -> Option<u64> {
    if text.is_empty() {
        return None;
    }
    text.iter().try_fold(0_u64, |number, digit| {
        let digit = digit.checked_sub(b'0').filter(|digit| *digit <= 9)?;
        number.checked_mul(10)?.checked_add(digit.into())
    })
}

/// Decimal seconds with an optional sign and fraction, rounded down to the nanosecond; those
/// beyond 64 bits are clamped, as later those are that ext4 cannot store.
pub(super) fn time(text: &[u8]) -> Option<Time> {
    let (negative, text) = match text {
        [b'-', rest @ ..] => (true, rest),
        [b'+', rest @ ..] => (false, rest),
        _ => (false, text),
    };
    let point = text.iter().position(|byte| *byte == b'.');
    let (whole, fraction) = match point {
        Some(point) => (&text[..point], &text[point + 1..]),
        None => (text, &[][..]),
    };
    let all_digits = |text: &[u8]| text.iter().all(u8::is_ascii_digit);
    if whole.is_empty() || !all_digits(whole) || !all_digits(fraction) {
        return None;
    }
    let seconds = decimal(whole).and_then(|seconds| i64::try_from(seconds).ok());
    let seconds = seconds.unwrap_or(i64::MAX);
    let digits = fraction.iter().copied().chain(std::iter::repeat(b'0'));
    let nanos = digits
        .take(9)
        .fold(0, |nanos, digit| nanos * 10 + u32::from(digit - b'0'));
    if !negative {
        return Some(Time { seconds, nanos });
    }
    // Down is away from zero: what the nanoseconds do not hold counts as one more.
    let inexact = fraction.iter().skip(9).any(|digit| *digit != b'0');
    let nanos = nanos + u32::from(inexact);
    Some(match nanos {
        0 => Time {
            seconds: -seconds,
            nanos,
        },
        _ => Time {
            seconds: -seconds - 1,
            nanos: 1_000_000_000 - nanos,
        },
    })
}

/// Undoes `%XX`.
fn percent_decode(text: &[u8]) -> Option<Vec<u8>> {
    let mut decoded = Vec::with_capacity(text.len());
    let mut rest = text;
    while let [first, tail @ ..] = rest {
        (decoded, rest) = match (first, tail) {
            (b'%', [high, low, tail @ ..]) => {
                let digit = |byte: &u8| char::from(*byte).to_digit(16);
                let byte = digit(high)? << 4 | digit(low)?;
                decoded.push(byte as u8);
                (decoded, tail)
            }
            (b'%', _) => return None,
            _ => {
                decoded.push(*first);
                (decoded, tail)
            }
        };
    }
    Some(decoded)
}
