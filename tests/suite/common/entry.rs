//! An entry of a layer as the tests think of it, before any tar encoding.

use std::fmt;

use super::tree::text;

/// Seconds since 1970 and nanoseconds.
pub(crate) type Time = (i64, u32);

/// A list of names or values as bytes.
pub(crate) type Pairs = Vec<(Vec<u8>, Vec<u8>)>;

#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) path: Vec<u8>,
    pub(crate) kind: Kind,
    pub(crate) mode: u32,
    pub(crate) uid: u64,
    pub(crate) gid: u64,
    pub(crate) mtime: Time,
    pub(crate) atime: Option<Time>,
    pub(crate) ctime: Option<Time>,
    /// Full names and raw values, written as SCHILY.xattr records.
    pub(crate) xattrs: Pairs,
    /// Further PAX records, written as they are.
    pub(crate) records: Pairs,
}

/// One line, and of it what is not as always: a failing layer is read by a person.
impl fmt::Debug for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = text(&self.path);
        match &self.kind {
            Kind::File(segments) => write!(f, "file {path}: {segments:?}")?,
            Kind::Dir => write!(f, "dir {path}")?,
            Kind::Symlink(target) => write!(f, "symlink {path} -> {}", text(target))?,
            Kind::Link(target) => write!(f, "link {path} = {}", text(target))?,
            Kind::Char(major, minor) => write!(f, "char {path} {major}:{minor}")?,
            Kind::Block(major, minor) => write!(f, "block {path} {major}:{minor}")?,
            Kind::Fifo => write!(f, "fifo {path}")?,
        }
        write!(
            f,
            " {:o} {}:{} {:?}",
            self.mode, self.uid, self.gid, self.mtime
        )?;
        for (name, time) in [("atime", self.atime), ("ctime", self.ctime)] {
            if let Some(time) = time {
                write!(f, " {name} {time:?}")?;
            }
        }
        for (name, value) in self.xattrs.iter().chain(&self.records) {
            write!(f, " {}={}", text(name), text(value))?;
        }
        Ok(())
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    File(Vec<Segment>),
    Dir,
    Symlink(Vec<u8>),
    Link(Vec<u8>),
    Char(u32, u32),
    Block(u32, u32),
    Fifo,
}

/// A stretch of a file's contents.
#[derive(Clone, PartialEq, Eq)]
pub(crate) enum Segment {
    Data(Vec<u8>),
    Hole(u64),
}

impl fmt::Debug for Segment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Data(data) => write!(f, "{} of {:?}", data.len(), data.first()),
            Self::Hole(len) => write!(f, "hole of {len}"),
        }
    }
}

impl Segment {
    pub(crate) fn len(&self) -> u64 {
        match self {
            Self::Data(data) => data.len() as u64,
            Self::Hole(len) => *len,
        }
    }
}

/// The time that entries get unless they say otherwise.
pub(crate) const MTIME: Time = (1_600_000_000, 0);

impl Entry {
    pub(crate) fn new(path: impl AsRef<[u8]>, kind: Kind, mode: u32) -> Self {
        Self {
            path: path.as_ref().to_vec(),
            kind,
            mode,
            uid: 0,
            gid: 0,
            mtime: MTIME,
            atime: None,
            ctime: None,
            xattrs: Vec::new(),
            records: Vec::new(),
        }
    }

    pub(crate) fn mode(mut self, mode: u32) -> Self {
        self.mode = mode;
        self
    }

    pub(crate) fn owner(mut self, uid: u64, gid: u64) -> Self {
        (self.uid, self.gid) = (uid, gid);
        self
    }

    pub(crate) fn mtime(mut self, seconds: i64, nanos: u32) -> Self {
        self.mtime = (seconds, nanos);
        self
    }

    pub(crate) fn atime(mut self, seconds: i64, nanos: u32) -> Self {
        self.atime = Some((seconds, nanos));
        self
    }

    pub(crate) fn ctime(mut self, seconds: i64, nanos: u32) -> Self {
        self.ctime = Some((seconds, nanos));
        self
    }

    pub(crate) fn xattr(mut self, name: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Self {
        let pair = (name.as_ref().to_vec(), value.as_ref().to_vec());
        self.xattrs.push(pair);
        self
    }

    pub(crate) fn record(mut self, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Self {
        let pair = (key.as_ref().to_vec(), value.as_ref().to_vec());
        self.records.push(pair);
        self
    }
}

pub(crate) fn file(path: impl AsRef<[u8]>, data: impl AsRef<[u8]>) -> Entry {
    let data = data.as_ref();
    let segments = if data.is_empty() {
        Vec::new()
    } else {
        vec![Segment::Data(data.to_vec())]
    };
    Entry::new(path, Kind::File(segments), 0o644)
}

pub(crate) fn sparse(path: impl AsRef<[u8]>, segments: Vec<Segment>) -> Entry {
    Entry::new(path, Kind::File(segments), 0o644)
}

pub(crate) fn dir(path: impl AsRef<[u8]>) -> Entry {
    Entry::new(path, Kind::Dir, 0o755)
}

pub(crate) fn symlink(path: impl AsRef<[u8]>, target: impl AsRef<[u8]>) -> Entry {
    Entry::new(path, Kind::Symlink(target.as_ref().to_vec()), 0o777)
}

pub(crate) fn link(path: impl AsRef<[u8]>, target: impl AsRef<[u8]>) -> Entry {
    Entry::new(path, Kind::Link(target.as_ref().to_vec()), 0o644)
}

pub(crate) fn char_device(path: impl AsRef<[u8]>, major: u32, minor: u32) -> Entry {
    Entry::new(path, Kind::Char(major, minor), 0o600)
}

pub(crate) fn block_device(path: impl AsRef<[u8]>, major: u32, minor: u32) -> Entry {
    Entry::new(path, Kind::Block(major, minor), 0o600)
}

pub(crate) fn fifo(path: impl AsRef<[u8]>) -> Entry {
    Entry::new(path, Kind::Fifo, 0o600)
}

/// An empty file of this name, as layers spell whiteouts and opaque marks.
pub(crate) fn marker(path: impl AsRef<[u8]>) -> Entry {
    file(path, "").mode(0)
}
