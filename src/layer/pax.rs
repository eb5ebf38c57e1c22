//! Extended headers: PAX records, POSIX.1-2001, and the vendors' keys in them.

mod keys;

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

use super::model::{Entry, Reading, Time};
use super::number::{decimal, escaped_byte};
use super::sparse::PaxSparse;
use crate::error::{Error, Result};
use crate::summary::display_path;
use keys::Meaning;

pub(super) use keys::AttributeNames;

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

/// Values from extension headers that override those of the next entry's own header.
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
    /// Attributes or a security descriptor of NTFS.
    pub(super) windows: bool,
    /// The flags of the file, for which there is a place, but which nothing that unpacks layers
    /// sets: immutable files of a layer could not be copied up.
    pub(super) flags: Option<Vec<u8>>,
    /// The size that star gives a file of which the archive holds another number of bytes.
    pub(super) star_size: Option<u64>,
    /// How the header spells names of extended attributes.
    pub(super) names: AttributeNames,
    /// Of each kind of time the last that could not be read.
    pub(super) unreadable: [Option<Vec<u8>>; 4],
    /// The first key of a meaning that is not known.
    pub(super) unknown: Option<Vec<u8>>,
    /// Why the entry is not what it seems to be.
    pub(super) refused: Option<&'static str>,
}

/// The keys of times, in the order of [`Extensions::unreadable`].
pub(super) const TIMES: [&str; 4] = ["mtime", "atime", "ctime", "LIBARCHIVE.creationtime"];

impl Extensions {
    /// Applies a record; `entry` takes what no header field has.
    pub(super) fn apply(
        &mut self,
        key: &[u8],
        value: &[u8],
        reading: Reading,
        entry: &mut Entry,
    ) -> Result<()> {
        match key {
            b"path" => self.path = text(key, value)?,
            b"linkpath" => self.link = text(key, value)?,
            b"size" => self.size = parse(key, value, decimal)?,
            b"uid" => self.uid = parse(key, value, decimal)?,
            b"gid" => self.gid = parse(key, value, decimal)?,
            b"mtime" => self.mtime = self.time(0, value, reading, self.mtime)?,
            b"atime" => entry.atime = self.time(1, value, reading, entry.atime)?,
            b"ctime" => entry.ctime = self.time(2, value, reading, entry.ctime)?,
            b"SCHILY.devmajor" => self.device_major = parse(key, value, decimal)?,
            b"SCHILY.devminor" => self.device_minor = parse(key, value, decimal)?,
            b"SCHILY.acl.access" => entry.acl_access = some(value),
            b"SCHILY.acl.default" => entry.acl_default = some(value),
            b"SCHILY.acl.ace" => self.nfs4_acl = !value.is_empty(),
            b"RHT.security.selinux" => push_xattr(entry, b"security.selinux".to_vec(), value),
            _ => {
                if let Some(name) = key.strip_prefix(b"SCHILY.xattr.") {
                    let name = match reading {
                        Reading::Full => self.names.decode(name),
                        Reading::Go => name.to_vec(),
                    };
                    push_xattr(entry, name, value);
                } else if let Some(name) = key.strip_prefix(b"LIBARCHIVE.xattr.") {
                    let value = BASE64.decode(value).map_err(|_| invalid(key, value))?;
                    let name = percent_decode(name).ok_or_else(|| invalid(key, name))?;
                    push_xattr(entry, name, &value);
                } else if let Some(key_of_sparse) = key.strip_prefix(b"GNU.sparse.") {
                    let applied = self.sparse.apply(key_of_sparse, value);
                    applied.ok_or_else(|| invalid(key, value))?;
                } else if key.starts_with(b"MSWINDOWS.") {
                    self.windows = true;
                } else if reading == Reading::Full {
                    self.apply_rare(key, value, entry)?;
                }
            }
        }
        Ok(())
    }

    /// Applies a record that Go, and what is built on it, has no meaning for.
    fn apply_rare(&mut self, key: &[u8], value: &[u8], entry: &mut Entry) -> Result<()> {
        match key {
            b"LIBARCHIVE.creationtime" => {
                entry.created = self.time(3, value, Reading::Full, entry.created)?;
            }
            b"SCHILY.fflags" => self.flags = some(value),
            b"SCHILY.realsize" => self.star_size = parse(key, value, decimal)?,
            b"SUN.devmajor" => self.device_major = parse(key, value, decimal)?,
            b"SUN.devminor" => self.device_minor = parse(key, value, decimal)?,
            _ => match Meaning::of(key, value) {
                Meaning::Harmless => {}
                Meaning::Unknown => {
                    self.unknown.get_or_insert_with(|| key.to_vec());
                }
                Meaning::Needed(why) => self.refused = Some(why),
            },
        }
        Ok(())
    }

    /// A time, by its place in [`TIMES`]; one that cannot be read is noted and leaves what was
    /// said before, but for Go, to which it is an error.
    fn time(
        &mut self,
        which: usize,
        value: &[u8],
        reading: Reading,
        before: Option<Time>,
    ) -> Result<Option<Time>> {
        if reading == Reading::Go {
            return parse(TIMES[which].as_bytes(), value, time_as_go);
        }
        let time = match value {
            [] => Ok(None),
            _ => time(value).map(Some).ok_or(before),
        };
        self.unreadable[which] = time.is_err().then(|| value.to_vec());
        Ok(time.unwrap_or_else(|before| before))
    }
}

/// Why a global header with a record cannot be passed over.
pub(super) fn refused_globally(key: &[u8], value: &[u8]) -> Option<&'static str> {
    match Meaning::of(key, value) {
        Meaning::Needed(why) => Some(why),
        Meaning::Harmless | Meaning::Unknown => None,
    }
}

/// Whether Go's archive/tar or hcsshim passes a record over that this reader knows; notes the
/// extended attribute that is lost.
pub(super) fn is_ignored_by_go(key: &[u8], entry: &mut Entry) -> bool {
    let name: &[u8] = match key {
        b"SCHILY.devmajor" | b"SCHILY.devminor" | b"SCHILY.acl.ace" => return true,
        b"SCHILY.acl.access" => b"system.posix_acl_access",
        b"SCHILY.acl.default" => b"system.posix_acl_default",
        b"RHT.security.selinux" => b"security.selinux",
        _ => match key.strip_prefix(b"LIBARCHIVE.xattr.") {
            Some(name) => name,
            None => return false,
        },
    };
    entry.ignored.push(name.to_vec());
    true
}

/// An empty value deletes nothing: it is the only way to tell of an attribute of no bytes.
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
            shown(key)
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
    Error::corrupt(format!(
        "the PAX record {} has an invalid value: \"{}\"",
        shown(key),
        shown(value)
    ))
}

/// The start of a key or value for a message, which must not grow as they can.
pub(super) fn shown(bytes: &[u8]) -> String {
    const LONGEST: usize = 80;
    match bytes.split_at_checked(LONGEST) {
        Some((start, [_, ..])) => display_path(start) + "...",
        _ => display_path(bytes),
    }
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

/// As [`time`], but of digits after the ninth Go takes no notice.
fn time_as_go(text: &[u8]) -> Option<Time> {
    time(text)?;
    let point = text.iter().position(|byte| *byte == b'.');
    let end = point.map_or(text.len(), |point| text.len().min(point + 10));
    time(&text[..end])
}

/// Undoes `%XX`; none where a `%` begins no such thing.
fn percent_decode(text: &[u8]) -> Option<Vec<u8>> {
    let mut decoded = Vec::with_capacity(text.len());
    let mut rest = text;
    while let [first, tail @ ..] = rest {
        (decoded, rest) = match first {
            b'%' => {
                decoded.push(escaped_byte(rest)?);
                (decoded, &rest[3..])
            }
            _ => {
                decoded.push(*first);
                (decoded, tail)
            }
        };
    }
    Some(decoded)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::testing::pax_record;
    use super::*;

    fn split(header: &[u8]) -> Result<Vec<(Vec<u8>, Vec<u8>)>> {
        Records::new(header)
            .map(|record| record.map(|(key, value)| (key.to_vec(), value.to_vec())))
            .collect()
    }

    proptest! {
        #[test]
        fn records_are_what_was_written(
            records in prop::collection::vec(("[^=\0]{1,9}", any::<Vec<u8>>()), 0..9)
        ) {
            let records: Vec<_> = records.into_iter().map(|(k, v)| (k.into_bytes(), v)).collect();
            let header: Vec<u8> = records.iter().flat_map(|(k, v)| pax_record(k, v)).collect();
            prop_assert_eq!(&split(&header).unwrap(), &records);
            for cut in 1..header.len() {
                if let Ok(part) = split(&header[..cut]) {
                    prop_assert!(records.starts_with(&part));
                }
            }
        }

        #[test]
        fn any_bytes_are_records_or_are_not(header: Vec<u8>) {
            let _ = split(&header);
        }

        #[test]
        fn times_are_rounded_down(seconds in -1_i64 << 40..1 << 40, digits in "[0-9]{0,15}") {
            let text = format!("{seconds}.{digits}");
            let time = time(text.as_bytes()).unwrap();
            // In units of 10^-15 s, the sign of -0 aside.
            let fraction: i128 = format!("{digits:0<15}").parse().unwrap();
            let sign = if seconds < 0 { -1 } else { 1 };
            let exact = i128::from(seconds) * 1_000_000_000_000_000 + sign * fraction;
            let got = i128::from(time.seconds) * 1_000_000_000 + i128::from(time.nanos);
            prop_assert!(time.nanos < 1_000_000_000);
            prop_assert_eq!(got, exact.div_euclid(1_000_000));
        }
    }

    #[test]
    fn malformed_records() {
        for bad in [
            &b"6 a=b"[..],
            b"5 a=b\n",
            b"7 a=b\n",
            b"6 a=bx",
            b"6  ab\n",
            b"5 ab\n",
            b"5 =b\n",
            b"7 a\0=b\n",
            b"6\ta=b\n",
            b"-6 a=b\n",
            b"+6 a=b\n",
            b"x a=b\n",
            b" 6 a=b\n",
            b"2 \n",
            b"1 ",
            b"0 a=b\n",
            b"6",
            b"\0\0\0",
            b"6 a=b\n\0",
            b"18446744073709551616 a=b\n",
            b"99999999999999999999999999 a=b\n",
        ] {
            let error = split(bad).unwrap_err().to_string();
            assert_eq!(error, "a PAX record is malformed", "{}", bad.escape_ascii());
        }
        assert_eq!(
            split(b"006 a=\n").unwrap_err().to_string(),
            "a PAX record is malformed"
        );
        assert_eq!(split(b"007 a=\n").unwrap(), [(b"a".to_vec(), b"".to_vec())]);
        assert_eq!(split(b"").unwrap(), []);
    }

    #[test]
    fn times() {
        let time_of = |text: &str| time(text.as_bytes()).map(|time| (time.seconds, time.nanos));
        for (text, expected) in [
            ("0", Some((0, 0))),
            ("1.5", Some((1, 500_000_000))),
            ("+1.", Some((1, 0))),
            ("-1", Some((-1, 0))),
            ("-1.25", Some((-2, 750_000_000))),
            ("-0.000000001", Some((-1, 999_999_999))),
            ("-0.0000000001", Some((-1, 999_999_999))),
            ("-0.9999999999", Some((-1, 0))),
            ("-0.0000000000", Some((0, 0))),
            ("0.9999999999", Some((0, 999_999_999))),
            ("99999999999999999999999", Some((i64::MAX, 0))),
            ("-99999999999999999999999", Some((-i64::MAX, 0))),
            ("", None),
            ("-", None),
            (".5", None),
            ("1.5.2", None),
            ("1e9", None),
            ("1.-5", None),
            ("--1", None),
            (" 1", None),
            ("1,5", None),
        ] {
            assert_eq!(time_of(text), expected, "{text}");
        }
    }

    #[test]
    fn times_are_cut_for_go() {
        for (text, expected) in [
            ("-1.0000000001", Some((-1, 0))),
            ("-0.9999999999", Some((-1, 1))),
            ("-1.25", Some((-2, 750_000_000))),
            ("1.9999999999", Some((1, 999_999_999))),
            ("-1", Some((-1, 0))),
            ("-1.0000000000x", None),
        ] {
            let got = time_as_go(text.as_bytes()).map(|time| (time.seconds, time.nanos));
            assert_eq!(got, expected, "{text}");
            let (mut extensions, mut entry) = (Extensions::default(), Entry::default());
            let value = text.as_bytes();
            let applied = extensions.apply(b"mtime", value, Reading::Go, &mut entry);
            assert_eq!(applied.is_ok(), expected.is_some(), "{text}");
            let got = extensions.mtime.map(|time| (time.seconds, time.nanos));
            assert_eq!(got, expected, "{text}");
        }
    }

    #[test]
    fn extended_attributes_in_every_spelling() {
        let mut extensions = Extensions::default();
        let mut entry = Entry::default();
        for (key, value) in [
            (&b"SCHILY.xattr.user.a"[..], &b"old"[..]),
            (b"LIBARCHIVE.xattr.user.%25%3d", b"AP/+"),
            (b"LIBARCHIVE.xattr.user.pad", b"YQ=="),
            (b"LIBARCHIVE.xattr.user.nopad", b"YQ"),
            (b"RHT.security.selinux", b"a:b"),
            (b"SCHILY.xattr.user.a", b"\n\0="),
            (b"SCHILY.xattr.user.empty", b""),
            (b"SCHILY.acl.access", b"u::r"),
            (b"SCHILY.acl.default", b"u::w"),
            (b"comment", b"\0"),
        ] {
            extensions
                .apply(key, value, Reading::Full, &mut entry)
                .unwrap();
        }
        unite_xattrs(&mut entry.xattrs);
        let got: Vec<_> = entry.xattrs.iter().map(|(n, v)| (&n[..], &v[..])).collect();
        let expected: [(&[u8], &[u8]); 6] = [
            (b"security.selinux", b"a:b"),
            (b"user.%=", b"\0\xff\xfe"),
            (b"user.a", b"\n\0="),
            (b"user.empty", b""),
            (b"user.nopad", b"a"),
            (b"user.pad", b"a"),
        ];
        assert_eq!(got, expected);
        assert_eq!(entry.acl_access.as_deref(), Some(&b"u::r"[..]));
        assert_eq!(entry.acl_default.as_deref(), Some(&b"u::w"[..]));
        for (key, value) in [
            (&b"LIBARCHIVE.xattr.user.a"[..], &b"!"[..]),
            (b"LIBARCHIVE.xattr.user.%4", b"YQ"),
            (b"LIBARCHIVE.xattr.user.%zz", b"YQ"),
            (b"path", b"a\0b"),
            (b"linkpath", b"\0"),
            (b"size", b"-1"),
            (b"size", b"18446744073709551616"),
            (b"uid", b"1.0"),
            (b"SCHILY.realsize", b"x"),
        ] {
            let error = extensions.apply(key, value, Reading::Full, &mut entry);
            let error = error.unwrap_err();
            let name = key.escape_ascii().to_string();
            assert!(error.to_string().contains(&name), "{error}");
        }
    }

    #[test]
    fn a_time_that_cannot_be_read_leaves_what_was_said_before() {
        for (which, key) in TIMES.iter().enumerate() {
            let (mut extensions, mut entry) = (Extensions::default(), Entry::default());
            let mut said = Vec::new();
            for value in [&b"7.5"[..], b"now", b"", b"1.2.3", b"9"] {
                let applied = extensions.apply(key.as_bytes(), value, Reading::Full, &mut entry);
                applied.unwrap();
                let times = [extensions.mtime, entry.atime, entry.ctime, entry.created];
                said.push(times[which].map(|time| time.seconds));
                let is_noted = extensions.unreadable[which].is_some();
                assert_eq!(is_noted, time(value).is_none() && !value.is_empty());
            }
            assert_eq!(said, [Some(7), Some(7), None, None, Some(9)], "{key}");
            let mut go = Extensions::default();
            let applied = go.apply(key.as_bytes(), b"now", Reading::Go, &mut entry);
            assert_eq!(applied.is_ok(), which == 3, "{key}");
        }
    }

    #[test]
    fn what_is_lost_is_noted() {
        let (mut extensions, mut entry) = (Extensions::default(), Entry::default());
        for (key, value) in [
            ("SCHILY.fflags", "schg,nodump"),
            ("SCHILY.ino", "7"),
            ("VENDOR.first", "x"),
            ("VENDOR.second", "x"),
            ("SUN.devmajor", "3"),
            ("SUN.devminor", "4"),
            ("SCHILY.realsize", "5"),
        ] {
            let (key, value) = (key.as_bytes(), value.as_bytes());
            extensions
                .apply(key, value, Reading::Full, &mut entry)
                .unwrap();
        }
        assert_eq!(extensions.flags.as_deref(), Some(&b"schg,nodump"[..]));
        assert_eq!(extensions.unknown.as_deref(), Some(&b"VENDOR.first"[..]));
        let device = (extensions.device_major, extensions.device_minor);
        assert_eq!(device, (Some(3), Some(4)));
        assert_eq!(extensions.star_size, Some(5));
        assert_eq!(extensions.refused, None);
        extensions
            .apply(b"SCHILY.filetype", b"sparse", Reading::Full, &mut entry)
            .unwrap();
        assert!(extensions.refused.is_some());
    }

    #[test]
    fn messages_stay_short() {
        assert_eq!(shown(&[b'a'; 80]), "a".repeat(80));
        assert_eq!(shown(&[b'a'; 81]), "a".repeat(80) + "...");
        assert_eq!(shown(b""), "");
    }

    #[test]
    fn an_empty_value_deletes() {
        let mut extensions = Extensions::default();
        let mut entry = Entry::default();
        for value in [&b"7"[..], b""] {
            for key in [
                "path", "linkpath", "size", "uid", "gid", "mtime", "atime", "ctime",
            ] {
                let applied = extensions.apply(key.as_bytes(), value, Reading::Full, &mut entry);
                applied.unwrap();
            }
            let some = !value.is_empty();
            assert_eq!(extensions.path.is_some(), some);
            assert_eq!(extensions.link.is_some(), some);
            assert_eq!(extensions.size.is_some(), some);
            assert_eq!(extensions.uid.is_some(), some);
            assert_eq!(extensions.gid.is_some(), some);
            assert_eq!(extensions.mtime.is_some(), some);
            assert_eq!(entry.atime.is_some(), some);
            assert_eq!(entry.ctime.is_some(), some);
        }
    }
}
