use std::fmt;
use std::path::Path;
use std::str::FromStr;

use crate::names::names;

/// A SHA-256 digest, displayed and parsed as `sha256:` and 64 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Digest(pub [u8; 32]);

impl Digest {
    /// The 64 hexadecimal digits alone, as veritysetup has them.
    #[must_use]
    pub fn to_hex(&self) -> String {
        self.0.iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("sha256:")?;
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The text is not `sha256:` followed by 64 hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ParseDigestError;

impl fmt::Display for ParseDigestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a digest is written sha256: and 64 hexadecimal digits")
    }
}

impl std::error::Error for ParseDigestError {}

impl FromStr for Digest {
    type Err = ParseDigestError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let hex = text.strip_prefix("sha256:").ok_or(ParseDigestError)?;
        // The OCI image specification allows lower case alone: a digest is compared as text.
        let digit = |c: u8| match c {
            b'0'..=b'9' => Ok(c - b'0'),
            b'a'..=b'f' => Ok(c - b'a' + 10),
            _ => Err(ParseDigestError),
        };
        if hex.len() != 64 {
            return Err(ParseDigestError);
        }
        let mut bytes = [0; 32];
        for (byte, pair) in bytes.iter_mut().zip(hex.as_bytes().chunks_exact(2)) {
            *byte = digit(pair[0])? << 4 | digit(pair[1])?;
        }
        Ok(Self(bytes))
    }
}

/// How a layer blob is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Compression {
    /// A plain tar.
    None,
    /// gzip, RFC 1952, of one member or many.
    Gzip,
    /// Zstandard, RFC 8878, of one frame or many.
    Zstd,
}

names!(Compression, "compression", {
    None = "none",
    Gzip = "gzip",
    Zstd = "zstd",
});

impl Compression {
    /// The OCI media type of a layer compressed in this way.
    #[must_use]
    pub fn media_type(self) -> &'static str {
        match self {
            Self::None => "application/vnd.oci.image.layer.v1.tar",
            Self::Gzip => "application/vnd.oci.image.layer.v1.tar+gzip",
            Self::Zstd => "application/vnd.oci.image.layer.v1.tar+zstd",
        }
    }
}

/// The digest and length of a stream of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Blob {
    /// SHA-256 of the bytes.
    pub digest: Digest,
    /// Their number.
    pub size: u64,
}

/// The disk that was written.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct DiskSummary {
    /// Bytes of the disk file, its footer included.
    pub size: u64,
    /// Bytes of the disk a guest sees.
    pub virtual_size: u64,
    /// The file system's UUID, derived from the diff ID and the options.
    pub uuid: [u8; 16],
    /// 4 KiB blocks of the file system.
    pub blocks: u64,
    /// Inodes in use.
    pub inodes: u64,
}

/// The hash tree that was made of a file system.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct VeritySummary {
    /// The root hash, which proves everything else.
    pub root_hash: Digest,
    /// The byte of the hash device at which its superblock is: on the disk itself, or 0 on a
    /// device apart.
    pub hash_offset: u64,
    /// 4 KiB blocks of data that the tree covers: the file system.
    pub data_blocks: u64,
    /// 4 KiB blocks of superblock and tree.
    pub hash_blocks: u64,
    /// The salt.
    pub salt: Vec<u8>,
    /// The UUID of the hash device.
    pub uuid: [u8; 16],
}

/// Counts of the finished image's entries by type, the root directory included.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct EntryCounts {
    /// Regular files, each counted once however many names it has.
    pub files: u64,
    /// Directories.
    pub directories: u64,
    /// Symbolic links.
    pub symlinks: u64,
    /// Names of a file beyond its first.
    pub hard_links: u64,
    /// Character and block devices, without whiteouts.
    pub devices: u64,
    /// FIFOs.
    pub fifos: u64,
    /// Whiteouts.
    pub whiteouts: u64,
    /// Opaque directories.
    pub opaque_directories: u64,
    /// Entries of the tar, extension headers not counted.
    pub tar_entries: u64,
}

/// Why something of the layer is not in the image as the tar has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum WarningKind {
    /// The input held nothing.
    EmptyInput,
    /// The archive ends without its marker.
    NoEndMarker,
    /// More than zeros stands behind the archive's end marker, and was only hashed.
    TrailingBytes,
    /// The input is an archive of images, not a layer: the disk has the archive's own files.
    ImageArchive,
    /// A global PAX header was ignored.
    GlobalHeader,
    /// A volume label, an NFSv4 ACL, file flags or another record with no place in the image, or
    /// of no known meaning, was skipped.
    Skipped,
    /// A character device 0:0 came from the tar: overlayfs takes it for a whiteout.
    DeviceZero,
    /// A directory that no entry describes was made.
    MissingParent,
    /// A directory and all below it gave way to an entry of the same path.
    ReplacedTree,
    /// A time outside 1901-12-13 to 2446-05-10 was clamped.
    TimeClamped,
    /// A time could not be read, and another was taken.
    TimeUnreadable,
    /// A path led out of the root, and was cut there.
    PathClamped,
    /// An extended attribute was left out.
    XattrDropped,
    /// An opaque mark on the root, where overlayfs does not heed it.
    OpaqueRoot,
    /// hcsshim gets it wrong, and that was reproduced.
    Hcsshim,
    /// More warnings of one kind than are listed.
    More,
}

names!(WarningKind, "kind of warning", {
    EmptyInput = "empty-input",
    NoEndMarker = "no-end-marker",
    TrailingBytes = "trailing-bytes",
    ImageArchive = "image-archive",
    GlobalHeader = "global-header",
    Skipped = "skipped",
    DeviceZero = "device-zero",
    MissingParent = "missing-parent",
    ReplacedTree = "replaced-tree",
    TimeClamped = "time-clamped",
    TimeUnreadable = "time-unreadable",
    PathClamped = "path-clamped",
    XattrDropped = "xattr-dropped",
    OpaqueRoot = "opaque-root",
    Hcsshim = "hcsshim",
    More = "more",
});

/// Something of the layer that is not in the image as the tar has it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Warning {
    /// The entry's path as the tar spells it; empty for the layer as a whole.
    pub path: Vec<u8>,
    /// Why.
    pub kind: WarningKind,
    /// One line for a person.
    pub message: String,
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.path.is_empty() {
            write!(f, "{}: ", display_path(&self.path))?;
        }
        f.write_str(&self.message)
    }
}

/// The result of a conversion.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Summary {
    /// The uncompressed layer; its digest is the diff ID.
    pub layer: Blob,
    /// The layer as it came in.
    pub compressed: Blob,
    /// How it was compressed.
    pub compression: Compression,
    /// The disk.
    pub disk: DiskSummary,
    /// The hash tree, if one was asked for.
    pub verity: Option<VeritySummary>,
    /// Entries of the image.
    pub entries: EntryCounts,
    /// The layer leaves directories, or targets of hard links, to the layers below it: with others
    /// below, the disk may be another.
    pub depends_on_lower: bool,
    /// Differences from the tar. At most 1,000 of a kind are listed; one of
    /// [`WarningKind::More`] then gives their number.
    pub warnings: Vec<Warning>,
}

/// Collects warnings, so many of a kind and no more: memory must not grow with bad input.
#[derive(Debug, Default)]
pub(crate) struct Warnings {
    list: Vec<Warning>,
    /// How often each kind occurred, listed or not.
    counts: std::collections::BTreeMap<WarningKind, u64>,
}

impl Warnings {
    const LISTED_PER_KIND: u64 = 1000;
    /// A path is quoted to this many bytes.
    const PATH_BYTES: usize = 4096;

    pub(crate) fn push(&mut self, kind: WarningKind, path: &[u8], message: impl Into<String>) {
        let count = self.counts.entry(kind).or_default();
        *count += 1;
        if *count <= Self::LISTED_PER_KIND {
            self.list.push(Warning {
                path: path[..path.len().min(Self::PATH_BYTES)].to_vec(),
                kind,
                message: message.into(),
            });
        }
    }

    /// As [`push`](Self::push), with a path that is made only when it is listed.
    pub(crate) fn push_with(
        &mut self,
        kind: WarningKind,
        path: impl FnOnce() -> Vec<u8>,
        message: &str,
    ) {
        match self.is_full(kind) {
            true => self.count_more(kind, 1),
            false => self.push(kind, &path(), message),
        }
    }

    /// Whether no more warnings of a kind are listed.
    pub(crate) fn is_full(&self, kind: WarningKind) -> bool {
        let count = self.counts.get(&kind);
        count.is_some_and(|count| *count >= Self::LISTED_PER_KIND)
    }

    /// Counts warnings that are not listed.
    pub(crate) fn count_more(&mut self, kind: WarningKind, more: u64) {
        *self.counts.entry(kind).or_default() += more;
    }

    /// Adds all of another list, bounded together.
    pub(crate) fn append(&mut self, other: Self) {
        let mut listed = std::collections::BTreeMap::<_, u64>::new();
        for warning in other.list {
            *listed.entry(warning.kind).or_default() += 1;
            self.push(warning.kind, &warning.path, warning.message);
        }
        for (kind, count) in other.counts {
            *self.counts.entry(kind).or_default() += count - listed.get(&kind).unwrap_or(&0);
        }
    }

    pub(crate) fn into_vec(self) -> Vec<Warning> {
        let mut list = self.list;
        for (kind, count) in self.counts {
            if let Some(more) = count.checked_sub(Self::LISTED_PER_KIND).filter(|n| *n > 0) {
                list.push(Warning {
                    path: Vec::new(),
                    kind: WarningKind::More,
                    message: format!("{more} more warnings of the kind {}", kind.as_str()),
                });
            }
        }
        list
    }
}

/// The path of a file as one line of text, as errors spell it: what is not printable text is
/// escaped, and a backslash is doubled where it does not separate names.
#[must_use]
pub fn display_file(path: &Path) -> String {
    escape(path.as_os_str().as_encoded_bytes(), !cfg!(windows))
}

/// A path as one line of text: what is not printable UTF-8 is escaped.
pub(crate) fn display_path(path: &[u8]) -> String {
    escape(path, true)
}

/// The path of a file as the command's JSON has it, for a program that hands it on: as it is, or, if
/// it is not UTF-8, with each backslash doubled and each other byte as `\xNN`.
#[must_use]
pub fn escape_file(path: &Path) -> String {
    path.to_str().map_or_else(
        || escape_bytes(path.as_os_str().as_encoded_bytes()),
        str::to_owned,
    )
}

/// Bytes as text that can be turned back: a backslash is doubled, what is not UTF-8 becomes
/// `\xNN`.
pub(crate) fn escape_bytes(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        text.push_str(&chunk.valid().replace('\\', r"\\"));
        for byte in chunk.invalid() {
            text.push_str(&format!("\\x{byte:02x}"));
        }
    }
    text
}

fn escape(path: &[u8], backslash: bool) -> String {
    let mut text = String::with_capacity(path.len());
    for chunk in path.utf8_chunks() {
        for c in chunk.valid().chars() {
            if c.is_control() || (backslash && c == '\\') {
                text.extend(c.escape_default());
            } else {
                text.push(c);
            }
        }
        for byte in chunk.invalid() {
            text.push_str(&format!("\\x{byte:02x}"));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_parse_what_they_display() {
        let digest = Digest(std::array::from_fn(|i| i as u8 * 7));
        assert_eq!(digest.to_string().parse(), Ok(digest));
        for bad in ["", "sha256:", "md5:00", &digest.to_string().to_uppercase()] {
            assert_eq!(bad.parse::<Digest>(), Err(ParseDigestError));
        }
        assert_eq!(
            format!("{digest}0").parse::<Digest>(),
            Err(ParseDigestError)
        );
    }

    #[test]
    fn escaped_bytes_can_be_told_apart() {
        assert_eq!(escape_bytes(b"usr/lib"), "usr/lib");
        assert_eq!(escape_bytes("h\u{fc}lle\n".as_bytes()), "h\u{fc}lle\n");
        assert_eq!(escape_bytes(b"a\xffb"), r"a\xffb");
        assert_eq!(escape_bytes(br"a\xffb"), r"a\\xffb");
    }

    #[test]
    fn warnings_are_bounded_and_counted() {
        let mut warnings = Warnings::default();
        for _ in 0..1500 {
            warnings.push(WarningKind::Skipped, b"a", "x");
        }
        warnings.push(WarningKind::DeviceZero, b"b", "y");
        let list = warnings.into_vec();
        assert_eq!(list.len(), 1002);
        assert_eq!(
            list[1001].to_string(),
            "500 more warnings of the kind skipped"
        );
    }
}
