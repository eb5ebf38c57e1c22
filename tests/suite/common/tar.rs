//! A tar writer of the tests' own, so that every odd header can be made and no mistake is
//! shared with the reader under test.

use super::entry::{Entry, Kind, Segment, Time};

const BLOCK: usize = 512;

/// One header block: a plain ustar one to start with, every field open.
#[derive(Clone)]
pub(crate) struct Header {
    bytes: [u8; BLOCK],
    checksum: Checksum,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Checksum {
    Unsigned,
    Signed,
    Wrong,
}

impl Header {
    pub(crate) fn new(typeflag: u8) -> Self {
        let mut header = Self {
            bytes: [0; BLOCK],
            checksum: Checksum::Unsigned,
        };
        header.bytes[257..265].copy_from_slice(b"ustar\x0000");
        header
            .octal(100, 8, 0o644)
            .octal(108, 8, 0)
            .octal(116, 8, 0)
            .octal(124, 12, 0)
            .octal(136, 12, 1_600_000_000)
            .octal(329, 8, 0)
            .octal(337, 8, 0)
            .field(156, [typeflag])
    }

    /// Any bytes anywhere.
    pub(crate) fn field(mut self, at: usize, bytes: impl AsRef<[u8]>) -> Self {
        let bytes = bytes.as_ref();
        self.bytes[at..at + bytes.len()].copy_from_slice(bytes);
        self
    }

    /// An octal number with a NUL behind it.
    pub(crate) fn octal(self, at: usize, width: usize, value: u64) -> Self {
        let text = format!("{value:0digits$o}\0", digits = width - 1);
        assert_eq!(text.len(), width, "{value} needs more than {width} bytes");
        self.field(at, text)
    }

    /// Octal where it fits, else base-256, as GNU tar writes.
    pub(crate) fn number(self, at: usize, width: usize, value: u64) -> Self {
        if value >> (3 * (width - 1)) == 0 {
            self.octal(at, width, value)
        } else {
            self.base256(at, width, i128::from(value))
        }
    }

    /// GNU's base-256 form of a number.
    pub(crate) fn base256(self, at: usize, width: usize, value: i128) -> Self {
        let mut bytes = value.to_be_bytes()[16 - width..].to_vec();
        bytes[0] |= 0x80;
        self.field(at, bytes)
    }

    pub(crate) fn name(mut self, name: impl AsRef<[u8]>) -> Self {
        self.bytes[..100].fill(0);
        self.field(0, name)
    }

    pub(crate) fn linkname(mut self, name: impl AsRef<[u8]>) -> Self {
        self.bytes[157..257].fill(0);
        self.field(157, name)
    }

    pub(crate) fn mode(self, mode: u64) -> Self {
        self.octal(100, 8, mode)
    }

    pub(crate) fn size(self, size: u64) -> Self {
        self.octal(124, 12, size)
    }

    pub(crate) fn mtime(self, mtime: u64) -> Self {
        self.octal(136, 12, mtime)
    }

    pub(crate) fn device(self, major: u64, minor: u64) -> Self {
        self.octal(329, 8, major).octal(337, 8, minor)
    }

    /// "ustar  " and no version, as GNU tar writes.
    pub(crate) fn gnu(self) -> Self {
        self.field(257, b"ustar  \0")
    }

    /// No magic at all: the tar of 1979.
    pub(crate) fn v7(self) -> Self {
        self.field(257, [0; BLOCK - 257])
    }

    /// The sum of signed bytes that some old tars wrote.
    pub(crate) fn signed_checksum(mut self) -> Self {
        self.checksum = Checksum::Signed;
        self
    }

    pub(crate) fn wrong_checksum(mut self) -> Self {
        self.checksum = Checksum::Wrong;
        self
    }

    pub(crate) fn to_bytes(&self) -> [u8; BLOCK] {
        let mut bytes = self.bytes;
        bytes[148..156].fill(b' ');
        let sum: i64 = match self.checksum {
            Checksum::Unsigned => bytes.iter().map(|b| i64::from(*b)).sum(),
            Checksum::Signed => bytes.iter().map(|b| i64::from(*b as i8)).sum(),
            Checksum::Wrong => bytes.iter().map(|b| i64::from(*b)).sum::<i64>() + 1,
        };
        let text = format!("{sum:06o}\0 ");
        bytes[148..156].copy_from_slice(text.as_bytes());
        bytes
    }
}

/// How files with holes are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Sparse {
    /// Written out with zeros.
    #[default]
    Full,
    /// GNU's old type S.
    Gnu,
    Pax00,
    Pax01,
    Pax10,
}

/// How names that do not fit the header are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Long {
    #[default]
    Pax,
    /// GNU's types L and K.
    Gnu,
    /// Solaris's type X, else as PAX.
    Solaris,
}

/// An archive being written.
#[derive(Clone, Default)]
pub(crate) struct Tar {
    bytes: Vec<u8>,
    offsets: Vec<u64>,
    sparse: Sparse,
    long: Long,
}

impl Tar {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// An archive of these entries with its end marker.
    pub(crate) fn of<'a>(entries: impl IntoIterator<Item = &'a Entry>) -> Vec<u8> {
        entries
            .into_iter()
            .fold(Self::new(), |tar, entry| tar.add(entry))
            .finish()
    }

    pub(crate) fn sparse(mut self, sparse: Sparse) -> Self {
        self.sparse = sparse;
        self
    }

    pub(crate) fn long(mut self, long: Long) -> Self {
        self.long = long;
        self
    }

    /// Bytes so far, which is the offset of what comes next.
    pub(crate) fn len(&self) -> u64 {
        self.bytes.len() as u64
    }

    /// Where the entries added so far begin.
    pub(crate) fn offsets(&self) -> &[u64] {
        &self.offsets
    }

    /// Bytes as they are.
    pub(crate) fn raw(mut self, bytes: impl AsRef<[u8]>) -> Self {
        self.bytes.extend_from_slice(bytes.as_ref());
        self
    }

    /// A header as it is, and contents padded to a block.
    pub(crate) fn header(mut self, header: &Header, contents: impl AsRef<[u8]>) -> Self {
        self.bytes.extend_from_slice(&header.to_bytes());
        self.contents(contents.as_ref());
        self
    }

    fn contents(&mut self, contents: &[u8]) {
        self.bytes.extend_from_slice(contents);
        self.bytes
            .resize(self.bytes.len().next_multiple_of(BLOCK), 0);
    }

    /// An extension header: its size and data, its name as GNU tar spells it.
    pub(crate) fn extension(self, typeflag: u8, data: impl AsRef<[u8]>) -> Self {
        let data = data.as_ref();
        let header = Header::new(typeflag)
            .name("././@Extension")
            .size(data.len() as u64);
        self.header(&header, data)
    }

    /// A PAX header before the next entry.
    pub(crate) fn pax(self, records: &[(&[u8], &[u8])]) -> Self {
        self.extension(b'x', pax_records(records))
    }

    /// A global PAX header.
    pub(crate) fn pax_global(self, records: &[(&[u8], &[u8])]) -> Self {
        self.extension(b'g', pax_records(records))
    }

    /// An entry, in whatever headers it needs.
    pub(crate) fn add(mut self, entry: &Entry) -> Self {
        self.offsets.push(self.len());
        let mut records: Vec<(Vec<u8>, Vec<u8>)> = entry.records.clone();
        let mut record = |key: &str, value: &[u8]| {
            records.push((key.as_bytes().to_vec(), value.to_vec()));
        };
        for (name, value) in &entry.xattrs {
            let name = String::from_utf8_lossy(name);
            record(&format!("SCHILY.xattr.{name}"), value);
        }
        let (mut map, mut data, mut size) = (Vec::new(), Vec::new(), 0);
        let (typeflag, target) = match &entry.kind {
            Kind::File(segments) => {
                for segment in segments {
                    match segment {
                        Segment::Data(bytes) => {
                            map.push((size, bytes.len() as u64));
                            data.extend_from_slice(bytes);
                        }
                        Segment::Hole(len) if self.sparse == Sparse::Full => {
                            data.resize(data.len() + *len as usize, 0);
                        }
                        Segment::Hole(_) => {}
                    }
                    size += segment.len();
                }
                (b'0', &[][..])
            }
            Kind::Dir => (b'5', &[][..]),
            Kind::Symlink(target) => (b'2', &target[..]),
            Kind::Link(target) => (b'1', &target[..]),
            Kind::Char(..) => (b'3', &[][..]),
            Kind::Block(..) => (b'4', &[][..]),
            Kind::Fifo => (b'6', &[][..]),
        };
        let holed = self.sparse != Sparse::Full
            && matches!(&entry.kind, Kind::File(segments) if segments.iter().any(|s| matches!(s, Segment::Hole(_))));
        let mut header = Header::new(typeflag);
        let mut extra = Vec::new();
        let mut path = entry.path.clone();
        if holed {
            if map.last().is_none_or(|(at, len)| at + len < size) {
                // The end of the file, which a hole there would not show.
                map.push((size, 0));
            }
            let numbers = |n: u64| n.to_string().into_bytes();
            match self.sparse {
                Sparse::Full => {}
                Sparse::Gnu => {
                    header = header.gnu().field(156, b"S").number(483, 12, size);
                    (header, extra) = gnu_sparse_map(header, &map);
                }
                Sparse::Pax00 => {
                    record("GNU.sparse.size", &numbers(size));
                    record("GNU.sparse.numblocks", &numbers(map.len() as u64));
                    for (at, len) in &map {
                        record("GNU.sparse.offset", &numbers(*at));
                        record("GNU.sparse.numbytes", &numbers(*len));
                    }
                }
                Sparse::Pax01 => {
                    record("GNU.sparse.size", &numbers(size));
                    record("GNU.sparse.numblocks", &numbers(map.len() as u64));
                    record("GNU.sparse.name", &path);
                    let list: Vec<_> = map.iter().map(|(at, len)| format!("{at},{len}")).collect();
                    record("GNU.sparse.map", list.join(",").as_bytes());
                    path = b"GNUSparseFile.0/file".to_vec();
                }
                Sparse::Pax10 => {
                    record("GNU.sparse.major", b"1");
                    record("GNU.sparse.minor", b"0");
                    record("GNU.sparse.name", &path);
                    record("GNU.sparse.realsize", &numbers(size));
                    let mut list = format!("{}\n", map.len());
                    for (at, len) in &map {
                        list += &format!("{at}\n{len}\n");
                    }
                    let mut list = list.into_bytes();
                    list.resize(list.len().next_multiple_of(BLOCK), 0);
                    list.extend_from_slice(&data);
                    data = list;
                    path = b"GNUSparseFile.0/file".to_vec();
                }
            }
        }
        header = header.mode(u64::from(entry.mode));
        let mut gnu_names = Vec::new();
        for (at, key, typeflag, name) in [
            (0, "path", b'L', &path[..]),
            (157, "linkpath", b'K', target),
        ] {
            // An empty symbolic link is a thing to test, an empty record a deletion.
            if name.len() <= 100 {
                header = header.field(at, name);
            } else if self.long == Long::Gnu {
                header = header.gnu().field(at, &name[..100]);
                gnu_names.push((typeflag, [name, b"\0"].concat()));
            } else {
                header = header.field(at, &name[..100]);
                record(key, name);
            }
        }
        for (at, key, id) in [(108, "uid", entry.uid), (116, "gid", entry.gid)] {
            if id < 1 << 21 {
                header = header.octal(at, 8, id);
            } else {
                record(key, id.to_string().as_bytes());
            }
        }
        match entry.mtime {
            (seconds @ 0..0o100_000_000_000, 0) => header = header.mtime(seconds as u64),
            time => record("mtime", decimal(time).as_bytes()),
        }
        for (key, time) in [("atime", entry.atime), ("ctime", entry.ctime)] {
            if let Some(time) = time {
                record(key, decimal(time).as_bytes());
            }
        }
        if let Kind::Char(major, minor) | Kind::Block(major, minor) = entry.kind {
            header = header.device(u64::from(major), u64::from(minor));
        }
        let stored = data.len() as u64;
        if stored < 1 << 33 {
            header = header.size(stored);
        } else {
            record("size", stored.to_string().as_bytes());
        }
        for (typeflag, name) in gnu_names {
            self = self.extension(typeflag, name);
        }
        if !records.is_empty() {
            let records: Vec<_> = records.iter().map(|(k, v)| (&k[..], &v[..])).collect();
            let typeflag = if self.long == Long::Solaris {
                b'X'
            } else {
                b'x'
            };
            self = self.extension(typeflag, pax_records(&records));
        }
        self.bytes.extend_from_slice(&header.to_bytes());
        self.bytes.extend_from_slice(&extra);
        self.contents(&data);
        self
    }

    /// The archive with its end marker.
    pub(crate) fn finish(self) -> Vec<u8> {
        self.raw([0; 2 * BLOCK]).bytes
    }

    /// The archive without its end marker.
    pub(crate) fn unfinished(self) -> Vec<u8> {
        self.bytes
    }
}

/// Puts the map of a GNU type S entry into its header and the blocks that follow it.
fn gnu_sparse_map(mut header: Header, map: &[(u64, u64)]) -> (Header, Vec<u8>) {
    let place = |block: &mut [u8], pairs: &[(u64, u64)]| {
        for (slot, (at, len)) in block.chunks_exact_mut(24).zip(pairs) {
            let numbers = Header::new(0).number(0, 12, *at).number(12, 12, *len);
            slot.copy_from_slice(&numbers.bytes[..24]);
        }
    };
    let (first, mut rest) = map.split_at(map.len().min(4));
    place(&mut header.bytes[386..482], first);
    header.bytes[482] = u8::from(!rest.is_empty());
    let mut extra = Vec::new();
    while !rest.is_empty() {
        let (here, more) = rest.split_at(rest.len().min(21));
        let mut block = [0; BLOCK];
        place(&mut block[..504], here);
        block[504] = u8::from(!more.is_empty());
        extra.extend_from_slice(&block);
        rest = more;
    }
    (header, extra)
}

/// PAX records, each with its length in front, which counts itself.
pub(crate) fn pax_records(records: &[(&[u8], &[u8])]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (key, value) in records {
        let rest = key.len() + value.len() + 3;
        let mut len = rest + 1;
        while len != rest + len.to_string().len() {
            len = rest + len.to_string().len();
        }
        bytes.extend_from_slice(format!("{len} ").as_bytes());
        bytes.extend_from_slice(key);
        bytes.push(b'=');
        bytes.extend_from_slice(value);
        bytes.push(b'\n');
    }
    bytes
}

/// A time as PAX spells it.
pub(crate) fn decimal((seconds, nanos): Time) -> String {
    if seconds >= 0 || nanos == 0 {
        let text = format!("{seconds}.{nanos:09}");
        return text.trim_end_matches('0').trim_end_matches('.').to_owned();
    }
    // -1.25 is a quarter before second -1: seconds -2, nanoseconds 750,000,000.
    let (seconds, nanos) = (-(seconds + 1), 1_000_000_000 - nanos);
    format!("-{seconds}.{nanos:09}")
}
