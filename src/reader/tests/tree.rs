//! Trees as the kernel and as the reader show them.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use rustix::fs::{major, minor};

use crate::disk::Volume;
use crate::reader::{FileSystem, FileType, Inode, LastLink, Piece};

type Time = (i64, u32);

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Node {
    file_type: FileType,
    mode: u16,
    uid: u32,
    gid: u32,
    links: u64,
    size: u64,
    /// Of access, modification and change.
    times: Option<[Time; 3]>,
    created: Option<Time>,
    device: Option<(u32, u32)>,
    xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
    /// Contents or target.
    bytes: Vec<u8>,
    /// The first path of the same inode.
    same_as: Vec<u8>,
}

/// By their paths from the root, whose own path is empty.
#[derive(Debug)]
pub(super) struct Tree(pub(super) BTreeMap<Vec<u8>, Node>);

impl Tree {
    pub(super) fn assert_same(&self, expected: &Self, what: &str) {
        let paths = |tree: &Self| tree.0.keys().cloned().collect::<Vec<_>>();
        let shown = |paths: Vec<Vec<u8>>| {
            let shown = paths
                .iter()
                .map(|path| String::from_utf8_lossy(path).into_owned());
            shown.collect::<Vec<_>>().join("\n")
        };
        assert_eq!(shown(paths(self)), shown(paths(expected)), "{what}");
        for (path, node) in &self.0 {
            let expected = &expected.0[path];
            let path = String::from_utf8_lossy(path);
            assert!(node.bytes == expected.bytes, "{what}: contents of {path}");
            let small = |node: &Node| Node {
                bytes: Vec::new(),
                ..node.clone()
            };
            assert_eq!(small(node), small(expected), "{what}: {path}");
        }
    }

    /// Without what mke2fs does not copy.
    pub(super) fn without_times(mut self) -> Self {
        self.0.remove(&b"lost+found"[..]);
        for node in self.0.values_mut() {
            node.times = None;
            node.created = None;
            if node.file_type == FileType::Directory {
                // Those of other file systems are counted otherwise.
                (node.size, node.links) = (0, 0);
            }
        }
        // The root is made, not copied.
        self.0.remove(&b""[..]);
        self
    }

    /// Names the first path of each inode.
    fn group(mut self, inodes: &BTreeMap<Vec<u8>, u64>) -> Self {
        let mut first = BTreeMap::new();
        for (path, node) in &mut self.0 {
            let path = first.entry(inodes[path]).or_insert(path.clone());
            node.same_as.clone_from(path);
        }
        self
    }
}

pub(super) fn by_kernel(root: &Path) -> Tree {
    let mut tree = Tree(BTreeMap::new());
    let mut inodes = BTreeMap::new();
    let mut todo = vec![PathBuf::new()];
    while let Some(relative) = todo.pop() {
        let path = root.join(&relative);
        let metadata = fs::symlink_metadata(&path).unwrap();
        if metadata.is_dir() {
            let names = fs::read_dir(&path).unwrap();
            todo.extend(names.map(|entry| relative.join(entry.unwrap().file_name())));
        }
        let key = relative.into_os_string().into_vec();
        inodes.insert(key.clone(), metadata.ino());
        tree.0.insert(key, node_of_kernel(&path, &metadata));
    }
    tree.group(&inodes)
}

fn node_of_kernel(path: &Path, metadata: &fs::Metadata) -> Node {
    let kind = metadata.file_type();
    let file_type = match () {
        () if kind.is_file() => FileType::Regular,
        () if kind.is_dir() => FileType::Directory,
        () if kind.is_symlink() => FileType::Symlink,
        () if kind.is_char_device() => FileType::CharDevice,
        () if kind.is_block_device() => FileType::BlockDevice,
        () if kind.is_fifo() => FileType::Fifo,
        () => FileType::Socket,
    };
    let created = metadata.created().ok().map(|time| {
        let after = time.duration_since(UNIX_EPOCH).unwrap();
        (after.as_secs() as i64, after.subsec_nanos())
    });
    let names = xattr::list(path).unwrap();
    Node {
        file_type,
        mode: (metadata.mode() & 0o7777) as u16,
        uid: metadata.uid(),
        gid: metadata.gid(),
        links: metadata.nlink(),
        size: metadata.size(),
        times: Some([
            (metadata.atime(), metadata.atime_nsec() as u32),
            (metadata.mtime(), metadata.mtime_nsec() as u32),
            (metadata.ctime(), metadata.ctime_nsec() as u32),
        ]),
        created,
        device: matches!(file_type, FileType::CharDevice | FileType::BlockDevice)
            .then(|| (major(metadata.rdev()), minor(metadata.rdev()))),
        xattrs: names
            .map(|name| {
                let value = xattr::get(path, &name).unwrap().unwrap();
                (name.as_bytes().to_vec(), value)
            })
            .collect(),
        bytes: match file_type {
            FileType::Regular => fs::read(path).unwrap(),
            FileType::Symlink => fs::read_link(path).unwrap().into_os_string().into_vec(),
            _ => Vec::new(),
        },
        same_as: Vec::new(),
    }
}

pub(super) fn by_reader(volume: Volume) -> Tree {
    let system = FileSystem::open(volume).unwrap();
    let mut tree = Tree(BTreeMap::new());
    let mut inodes = BTreeMap::new();
    let root = system.root().unwrap();
    inodes.insert(Vec::new(), u64::from(root.number()));
    tree.0.insert(Vec::new(), node_of_reader(&system, &root));
    let mut walk = system.walk().unwrap();
    while let Some(entry) = walk.next() {
        let entry = entry.unwrap();
        let path = walk.path().to_vec();
        let inode = &entry.inode;
        assert!(path.ends_with(&entry.name));
        // Looked up it is the same, also where that goes by hashes.
        let found = system.lookup(&path, LastLink::Kept).unwrap();
        assert_eq!(found.unwrap().number(), inode.number());
        inodes.insert(path.clone(), u64::from(inode.number()));
        let twice = tree.0.insert(path, node_of_reader(&system, inode));
        assert_eq!(twice, None);
    }
    tree.group(&inodes)
}

fn node_of_reader(system: &FileSystem, inode: &Inode) -> Node {
    let metadata = inode.metadata();
    let time = |time: crate::reader::Time| (time.seconds, time.nanos);
    Node {
        file_type: metadata.file_type,
        mode: metadata.mode,
        uid: metadata.uid,
        gid: metadata.gid,
        links: metadata.links.into(),
        size: metadata.size,
        times: Some([metadata.accessed, metadata.modified, metadata.changed].map(time)),
        created: metadata.created.map(time),
        device: metadata.device,
        xattrs: system.xattrs(inode).unwrap().into_iter().collect(),
        bytes: match metadata.file_type {
            FileType::Regular => contents(system, inode),
            FileType::Symlink => system.target(inode).unwrap(),
            _ => Vec::new(),
        },
        same_as: Vec::new(),
    }
}

fn contents(system: &FileSystem, inode: &Inode) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut data_len = 0;
    for piece in system.pieces(inode).unwrap() {
        match piece.unwrap() {
            Piece::Data(data) => {
                data_len += data.len();
                bytes.extend(data);
            }
            Piece::Hole(len) => bytes.resize(bytes.len() + len as usize, 0),
        }
    }
    // Ours have blocks of 64 KiB at most, with 5 of them in the sparse file.
    let is_sparse = bytes.len() > 64 << 20;
    assert!(!is_sparse || data_len <= 10 << 16, "holes are read");
    // In other parts, from anywhere.
    for (start, len) in [(0, 7), (1, 5000), (4095, 9000), (12 << 10, 600_000)] {
        let mut part = vec![9; len];
        let read = system.read_at(inode, start as u64, &mut part).unwrap();
        let end = bytes.len().min(start + len);
        let expected = bytes.get(start..end).unwrap_or_default();
        assert!(part[..read] == *expected, "{len} bytes at {start}");
    }
    bytes
}
