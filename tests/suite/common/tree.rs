//! What a file system holds, as far as a reader can tell, for comparison.

use std::collections::BTreeMap;
use std::fmt;

use sha2::{Digest, Sha256};

use super::entry::{Segment, Time};

/// Everything by path, the root under the empty one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tree(pub(crate) BTreeMap<Vec<u8>, Node>);

/// One name. `None` is what a reader cannot see; it equals anything.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Node {
    pub(crate) kind: NodeKind,
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) mtime: Time,
    pub(crate) atime: Time,
    pub(crate) ctime: Option<Time>,
    pub(crate) xattrs: Option<BTreeMap<Vec<u8>, Vec<u8>>>,
    /// The first path of the same inode; its own where it has no other name.
    pub(crate) same_as: Option<Vec<u8>>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum NodeKind {
    File(Contents),
    Dir,
    Symlink(Vec<u8>),
    Char(Option<(u32, u32)>),
    Block(Option<(u32, u32)>),
    Fifo,
    Socket,
}

const BLOCK: usize = 4096;

/// The contents of a file: its size, its blocks that are not all zero as a hash, and how it
/// begins, for a person.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Contents {
    pub(crate) size: u64,
    hash: [u8; 32],
    start: Vec<u8>,
}

impl fmt::Debug for Contents {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hash = u32::from_be_bytes([self.hash[0], self.hash[1], self.hash[2], self.hash[3]]);
        write!(
            f,
            "{} bytes, {hash:08x}: {:?}",
            self.size,
            text(&self.start)
        )
    }
}

impl Contents {
    pub(crate) fn of(data: &[u8]) -> Self {
        let mut hasher = ContentsHasher::default();
        hasher.update(data);
        hasher.finish()
    }

    pub(crate) fn of_segments(segments: &[Segment]) -> Self {
        let mut hasher = ContentsHasher::default();
        for segment in segments {
            match segment {
                Segment::Data(data) => hasher.update(data),
                Segment::Hole(len) => hasher.skip(*len),
            }
        }
        hasher.finish()
    }
}

/// Hashes contents block by block, zero blocks not at all: a hole costs nothing.
#[derive(Default)]
pub(crate) struct ContentsHasher {
    sha: Sha256,
    size: u64,
    start: Vec<u8>,
    block: Vec<u8>,
}

impl ContentsHasher {
    pub(crate) fn update(&mut self, mut data: &[u8]) {
        let room = 32_usize.saturating_sub(self.start.len());
        if self.start.len() as u64 == self.size {
            self.start.extend_from_slice(&data[..room.min(data.len())]);
        }
        while !data.is_empty() {
            let (now, rest) = data.split_at(data.len().min(BLOCK - self.block.len()));
            self.block.extend_from_slice(now);
            self.size += now.len() as u64;
            data = rest;
            if self.block.len() == BLOCK {
                self.flush();
            }
        }
    }

    /// So many zero bytes.
    pub(crate) fn skip(&mut self, len: u64) {
        let partial = (BLOCK - self.block.len()) as u64 % BLOCK as u64;
        if len <= partial {
            self.update(&vec![0; len as usize]);
            return;
        }
        self.update(&vec![0; partial as usize]);
        let left = len - partial;
        self.size += left / BLOCK as u64 * BLOCK as u64;
        self.update(&vec![0; (left % BLOCK as u64) as usize]);
    }

    fn flush(&mut self) {
        if self.block.iter().any(|b| *b != 0) {
            let number = (self.size - 1) / BLOCK as u64;
            self.sha.update(number.to_le_bytes());
            self.sha.update(&self.block);
        }
        self.block.clear();
    }

    pub(crate) fn finish(mut self) -> Contents {
        if !self.block.is_empty() {
            self.flush();
        }
        // Where a hole begins within the first bytes depends on who read it.
        while self.start.last() == Some(&0) {
            self.start.pop();
        }
        Contents {
            size: self.size,
            hash: self.sha.finalize().into(),
            start: self.start,
        }
    }
}

impl Node {
    /// What differs, as one line per field.
    fn differences(&self, other: &Self) -> Vec<String> {
        let mut list = Vec::new();
        let mut field = |name: &str, a: &dyn fmt::Debug, b: &dyn fmt::Debug, same: bool| {
            if !same {
                list.push(format!("{name} {a:?}, wanted {b:?}"));
            }
        };
        let same_kind = match (&self.kind, &other.kind) {
            (NodeKind::Char(a), NodeKind::Char(b)) | (NodeKind::Block(a), NodeKind::Block(b)) => {
                same(a.as_ref(), b.as_ref())
            }
            (a, b) => a == b,
        };
        field("kind", &self.kind, &other.kind, same_kind);
        let octal = |mode: u32| format!("{mode:04o}");
        field(
            "mode",
            &octal(self.mode),
            &octal(other.mode),
            self.mode == other.mode,
        );
        let owners = [(self.uid, self.gid), (other.uid, other.gid)];
        field("owner", &owners[0], &owners[1], owners[0] == owners[1]);
        field(
            "mtime",
            &self.mtime,
            &other.mtime,
            self.mtime == other.mtime,
        );
        field(
            "atime",
            &self.atime,
            &other.atime,
            self.atime == other.atime,
        );
        let same_ctime = same(self.ctime.as_ref(), other.ctime.as_ref());
        field("ctime", &self.ctime, &other.ctime, same_ctime);
        let xattrs = |node: &Self| {
            let pairs = node.xattrs.iter().flatten();
            pairs
                .map(|(name, value)| {
                    let shown = &value[..value.len().min(40)];
                    format!("{}={:?} ({})", text(name), text(shown), value.len())
                })
                .collect::<Vec<_>>()
        };
        let same_xattrs = same(self.xattrs.as_ref(), other.xattrs.as_ref());
        field("xattrs", &xattrs(self), &xattrs(other), same_xattrs);
        let first = |node: &Self| text(node.same_as.as_deref().unwrap_or_default());
        let same_links = same(self.same_as.as_ref(), other.same_as.as_ref());
        field("link to", &first(self), &first(other), same_links);
        list
    }
}

fn same<T: PartialEq>(a: Option<&T>, b: Option<&T>) -> bool {
    a.is_none() || b.is_none() || a == b
}

impl Tree {
    /// Fills in `same_as` from a number that each inode has alone.
    pub(crate) fn group_links<T: Ord + Clone>(&mut self, inode: impl Fn(&[u8]) -> Option<T>) {
        let mut first: BTreeMap<T, Vec<u8>> = BTreeMap::new();
        for (path, node) in &mut self.0 {
            if let Some(number) = inode(path) {
                let path = first.entry(number).or_insert_with(|| path.clone());
                node.same_as = Some(path.clone());
            }
        }
    }

    /// What differs from what was wanted, for a person; empty when nothing does.
    pub(crate) fn differences(&self, wanted: &Self) -> String {
        let mut lines = Vec::new();
        for (path, node) in &self.0 {
            match wanted.0.get(path) {
                None => lines.push(format!("{}: not wanted: {:?}", text(path), node.kind)),
                Some(other) => lines.extend(
                    node.differences(other)
                        .into_iter()
                        .map(|difference| format!("{}: {difference}", text(path))),
                ),
            }
        }
        for (path, node) in &wanted.0 {
            if !self.0.contains_key(path) {
                lines.push(format!("{}: missing: {:?}", text(path), node.kind));
            }
        }
        let more = lines.len().saturating_sub(40);
        lines.truncate(40);
        if more > 0 {
            lines.push(format!("and {more} differences more"));
        }
        lines.join("\n")
    }
}

/// Bytes as text, escaped where they are not.
pub(crate) fn text(bytes: &[u8]) -> String {
    let shown = bytes.escape_ascii().to_string();
    if shown.len() > 200 {
        format!("{}... ({} bytes)", &shown[..200], bytes.len())
    } else {
        shown
    }
}

#[test]
fn contents_do_not_depend_on_how_they_are_read() {
    let mut data = vec![0; 20_000];
    data[5000..5010].fill(7);
    data[19_999] = 1;
    let whole = Contents::of(&data);
    let pieces = [
        Segment::Hole(4999),
        Segment::Data(data[4999..5020].to_vec()),
        Segment::Hole(14_979),
        Segment::Data(vec![1]),
    ];
    assert_eq!(Contents::of_segments(&pieces), whole);
    data[5009] = 0;
    assert_ne!(Contents::of(&data), whole);
    assert_ne!(Contents::of(&[0; 4096]), Contents::of(&[0; 4097]));
}
