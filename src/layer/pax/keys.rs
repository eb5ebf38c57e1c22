//! Keys of PAX records: which say nothing that a file system holds, which may not be passed
//! over, and how those that hold names of extended attributes are spelled.

use super::super::number::{decimal, escaped_byte};

/// Treatment of a record whose key the reader does not apply.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Meaning {
    /// A file system cannot hold it, or another record says the same.
    Harmless,
    /// It says something that is lost.
    Unknown,
    /// Without it the entry would be another file than it is.
    Needed(&'static str),
}

impl Meaning {
    pub(super) fn of(key: &[u8], value: &[u8]) -> Self {
        const MULTI_VOLUME: Meaning = Meaning::Needed("multi-volume archives are not supported");
        const SPARSE: Meaning =
            Meaning::Needed("sparse files of other formats than GNU's are not supported");
        match key {
            // POSIX: owners are taken by number, contents and names as bytes.
            b"comment" | b"charset" | b"uname" | b"gname" => Self::Harmless,
            b"hdrcharset" if matches!(value, b"BINARY" | b"ISO-IR 10646 2000 UTF-8") => {
                Self::Harmless
            }
            // star: numbers and names of the file system that it came from, the archive's own.
            b"SCHILY.dev"
            | b"SCHILY.devminorbits"
            | b"SCHILY.ino"
            | b"SCHILY.nlink"
            | b"SCHILY.ddev"
            | b"SCHILY.dino"
            | b"SCHILY.dir"
            | b"SCHILY.acl.type"
            | b"SCHILY.release"
            | b"SCHILY.archtype" => Self::Harmless,
            b"SCHILY.filetype" | b"SCHILY.tarfiletype" => match value {
                b"sparse" => SPARSE,
                b"meta" => Self::Needed("entries without the contents of their file"),
                _ => Self::Harmless,
            },
            b"SCHILY.offset" | b"GNU.volume.offset" if decimal(value) != Some(0) => MULTI_VOLUME,
            b"SCHILY.offset" | b"GNU.volume.offset" => Self::Harmless,
            b"GNU.volume.filename" | b"GNU.volume.size" => MULTI_VOLUME,
            // Solaris: where the holes are, which the contents have as zeros.
            b"SUN.holesdata" => Self::Harmless,
            // The entries of a directory, and the name of the archive.
            b"GNU.dumpdir" | b"GNU.volume.label" => Self::Harmless,
            // For Windows only.
            b"LIBARCHIVE.symlinktype" => Self::Harmless,
            _ if key.starts_with(b"SCHILY.volhdr.") => Self::Harmless,
            _ => Self::Unknown,
        }
    }
}

/// How the keys `SCHILY.xattr.NAME` of an extended header spell the name, which its writer
/// decides.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in super::super) enum AttributeNames {
    /// As it is: Go's archive/tar (containerd, Docker, BuildKit, buildah), Python's tarfile,
    /// star, and the crate tar.
    Plain,
    /// With `%25` for `%` and `%3D` for `=`: GNU tar, and whoever is not known.
    #[default]
    Gnu,
    /// With `%XX` for each byte that is not printable, too: libarchive.
    Url,
}

impl AttributeNames {
    /// Tells writers by the name and mode of the headers that they put before records.
    pub(in super::super) fn of_writer(name: &[u8], mode: Option<u16>) -> Self {
        let mut components = name.rsplit(|byte| *byte == b'/').skip(1);
        match (name, components.next()) {
            (b"" | b"././@PaxHeader", _) => Self::Plain,
            // GNU tar gives its headers permissions.
            (_, Some(b"PaxHeaders.0")) if mode == Some(0) => Self::Plain,
            (_, Some(b"PaxHeader")) => Self::Url,
            _ => Self::Gnu,
        }
    }

    /// The name itself.
    pub(super) fn decode(self, spelled: &[u8]) -> Vec<u8> {
        match self {
            Self::Plain => spelled.to_vec(),
            Self::Gnu => decode(spelled, |byte| matches!(byte, b'%' | b'=')),
            Self::Url => decode(spelled, |_| true),
        }
    }
}

/// Undoes `%XX` of the bytes that are escaped; all else stands for itself.
fn decode(spelled: &[u8], is_escaped: impl Fn(u8) -> bool) -> Vec<u8> {
    let mut decoded = Vec::with_capacity(spelled.len());
    let mut rest = spelled;
    while let [first, tail @ ..] = rest {
        let escaped = escaped_byte(rest).filter(|byte| is_escaped(*byte));
        decoded.push(escaped.unwrap_or(*first));
        rest = match escaped {
            Some(_) => &rest[3..],
            None => tail,
        };
    }
    decoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writers_are_told_by_their_headers() {
        use AttributeNames::{Gnu, Plain, Url};
        for (name, mode, names) in [
            (&b"PaxHeaders.0/f"[..], 0, Plain),
            (b"usr/bin/PaxHeaders.0/f", 0, Plain),
            (b"././@PaxHeader", 0o644, Plain),
            (b"", 0, Plain),
            (b"./PaxHeaders/f", 0o644, Gnu),
            (b"PaxHeaders.0/f", 0o644, Gnu),
            (b"./PaxHeaders.4711/f", 0o644, Gnu),
            (b"PaxHeader/f", 0o644, Url),
            (b"usr/PaxHeader/f", 0o644, Url),
            (b"PaxHeader", 0o644, Gnu),
        ] {
            let got = AttributeNames::of_writer(name, Some(mode));
            assert_eq!(got, names, "{}", name.escape_ascii());
        }
        assert_eq!(AttributeNames::of_writer(b"PaxHeaders.0/f", None), Gnu);
    }

    #[test]
    fn names_are_what_their_writers_meant() {
        for (spelled, gnu, url) in [
            (&b"user.a"[..], &b"user.a"[..], &b"user.a"[..]),
            (b"user.100%25", b"user.100%", b"user.100%"),
            (b"user.k%3Dv", b"user.k=v", b"user.k=v"),
            (b"user.%2525", b"user.%25", b"user.%25"),
            (b"user.a%20%c3", b"user.a%20%c3", b"user.a \xc3"),
            (b"user.%zz%2", b"user.%zz%2", b"user.%zz%2"),
            (b"%", b"%", b"%"),
        ] {
            assert_eq!(AttributeNames::Plain.decode(spelled), spelled);
            assert_eq!(AttributeNames::Gnu.decode(spelled), gnu);
            assert_eq!(AttributeNames::Url.decode(spelled), url);
        }
    }

    #[test]
    fn keys_that_change_the_file_are_needed() {
        use Meaning::{Harmless, Unknown};
        for (key, value, meaning) in [
            ("comment", "x", Some(Harmless)),
            ("hdrcharset", "BINARY", Some(Harmless)),
            ("hdrcharset", "KOI8-R", Some(Unknown)),
            ("SCHILY.volhdr.volno", "1", Some(Harmless)),
            ("SCHILY.filetype", "regular", Some(Harmless)),
            ("SCHILY.filetype", "sparse", None),
            ("SCHILY.offset", "0", Some(Harmless)),
            ("SCHILY.offset", "512", None),
            ("GNU.volume.size", "1", None),
            ("SUN.holesdata", "0 1", Some(Harmless)),
            ("VENDOR.key", "", Some(Unknown)),
            ("security.label", "x", Some(Unknown)),
        ] {
            let got = Meaning::of(key.as_bytes(), value.as_bytes());
            match meaning {
                Some(meaning) => assert_eq!(got, meaning, "{key}"),
                None => assert!(matches!(got, Meaning::Needed(_)), "{key}"),
            }
        }
    }
}
