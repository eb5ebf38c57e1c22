//! Reading an image through the kernel's own mount: as root on Linux.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::{self, File};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use rustix::fs::{SeekFrom, major, minor, seek};

use super::skip;
use super::tree::{Contents, ContentsHasher, Node, NodeKind, Tree};

/// A mount that ends with this value, also when a test panics.
pub(crate) struct Mount {
    point: tempfile::TempDir,
}

/// Whether this process may mount; if not, a visible skip.
pub(crate) fn can_mount() -> bool {
    let root = fs::metadata("/proc/self").is_ok_and(|process| process.uid() == 0);
    if !root {
        skip::oracle_missing("not root: no image was read through the kernel");
    }
    root
}

impl Mount {
    /// An image, as guests mount layers.
    pub(crate) fn image(image: &Path) -> Option<Self> {
        Self::new(&["-t", "ext4", "-o", "loop,ro,noload"], image)
    }

    /// An image to write to, as guests mount scratch disks.
    pub(crate) fn writable(image: &Path) -> Option<Self> {
        Self::new(&["-t", "ext4", "-o", "loop,rw"], image)
    }

    /// An empty file system in memory of that size, as mount takes it.
    pub(crate) fn tmpfs(size: &str) -> Option<Self> {
        Self::new(
            &["-t", "tmpfs", "-o", &format!("size={size}")],
            Path::new("tmpfs"),
        )
    }

    /// Layers stacked below a scratch disk's directories `upper` and `work`, the uppermost
    /// first, to write to.
    pub(crate) fn overlay_over(layers: &[&Mount], scratch: &Mount) -> Option<Self> {
        let lower: Vec<_> = layers.iter().map(|m| m.path().to_string_lossy()).collect();
        let scratch = scratch.path().display();
        let options = format!(
            "rw,lowerdir={},upperdir={scratch}/upper,workdir={scratch}/work",
            lower.join(":")
        );
        Self::new(&["-t", "overlay", "-o", &options], Path::new("overlay"))
    }

    /// Mounted directories stacked by overlayfs, the uppermost first, read only.
    pub(crate) fn overlay(layers: &[&Mount]) -> Option<Self> {
        let lower: Vec<_> = layers.iter().map(|m| m.path().to_string_lossy()).collect();
        let options = format!("ro,lowerdir={}", lower.join(":"));
        Self::new(&["-t", "overlay", "-o", &options], Path::new("overlay"))
    }

    fn new(options: &[&str], source: &Path) -> Option<Self> {
        if !can_mount() {
            return None;
        }
        let point = tempfile::tempdir().unwrap();
        let mount = || {
            Command::new("mount")
                .env("LC_ALL", "C")
                .args(options)
                .arg(source)
                .arg(point.path())
                .output()
                .unwrap()
        };
        let mut output = mount();
        let mut said = super::oracle::shown(&output);
        for _ in 0..20 {
            // Other processes take and free loop devices at the same time: between its finding
            // one and mounting it, it may have become another's.
            if output.status.success() || said.contains("denied") || said.contains("permitted") {
                break;
            }
            std::thread::sleep(Duration::from_millis(50));
            output = mount();
            said = super::oracle::shown(&output);
        }
        // Root in a container may not be allowed to, or have no loop devices.
        let refusals = ["permission denied", "not permitted", "loop device"];
        if refusals.iter().any(|refusal| said.contains(refusal)) {
            skip::oracle_missing(&format!("mounting is refused here: {said}"));
            return None;
        }
        assert!(output.status.success(), "mount: {said}");
        Some(Self { point })
    }

    pub(crate) fn path(&self) -> &Path {
        self.point.path()
    }

    /// Everything in it, each name looked up, each attribute read.
    pub(crate) fn tree(&self) -> Tree {
        let (tree, phantoms) = self.tree_and_phantoms();
        assert!(phantoms.is_empty(), "names that lead nowhere: {phantoms:?}");
        tree
    }

    /// The same, and names that are listed but lead nowhere.
    pub(crate) fn tree_and_phantoms(&self) -> (Tree, Vec<PathBuf>) {
        let mut tree = Tree::default();
        let mut inodes = BTreeMap::new();
        let mut phantoms = Vec::new();
        let mut todo = vec![PathBuf::new()];
        while let Some(relative) = todo.pop() {
            let path = self.path().join(&relative);
            let metadata = match fs::symlink_metadata(&path) {
                Ok(metadata) => metadata,
                Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
                    phantoms.push(relative);
                    continue;
                }
                Err(e) => panic!("{}: {e}", path.display()),
            };
            if metadata.is_dir() {
                let names = fs::read_dir(&path).unwrap();
                todo.extend(names.map(|entry| relative.join(entry.unwrap().file_name())));
            }
            let key = relative.into_os_string().into_vec();
            if !metadata.is_dir() {
                inodes.insert(key.clone(), (metadata.dev(), metadata.ino()));
            }
            let twice = tree.0.insert(key, node(&path, &metadata));
            assert!(twice.is_none(), "{} is there twice", path.display());
        }
        tree.group_links(|path| inodes.get(path).copied());
        (tree, phantoms)
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        // A test that starts a process at this moment has all our files open in it for an
        // instant: then the mount is busy.
        for attempt in 0..100 {
            let lazy: &[&str] = if attempt == 99 { &["-l"] } else { &[] };
            let done = Command::new("umount")
                .args(lazy)
                .arg(self.point.path())
                .output();
            if done.is_ok_and(|output| output.status.success()) {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

fn node(path: &Path, metadata: &fs::Metadata) -> Node {
    let file_type = metadata.file_type();
    let device = Some((major(metadata.rdev()), minor(metadata.rdev())));
    let kind = if file_type.is_file() {
        NodeKind::File(contents(path))
    } else if file_type.is_dir() {
        NodeKind::Dir
    } else if file_type.is_symlink() {
        let target = fs::read_link(path).unwrap();
        NodeKind::Symlink(target.into_os_string().into_vec())
    } else if file_type.is_char_device() {
        NodeKind::Char(device)
    } else if file_type.is_block_device() {
        NodeKind::Block(device)
    } else if file_type.is_fifo() {
        NodeKind::Fifo
    } else {
        NodeKind::Socket
    };
    Node {
        kind,
        mode: metadata.mode() & 0o7777,
        uid: metadata.uid(),
        gid: metadata.gid(),
        mtime: (metadata.mtime(), metadata.mtime_nsec() as u32),
        atime: (metadata.atime(), metadata.atime_nsec() as u32),
        ctime: Some((metadata.ctime(), metadata.ctime_nsec() as u32)),
        xattrs: Some(xattrs(path)),
        same_as: None,
    }
}

fn xattrs(path: &Path) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let names = xattr::list(path).unwrap_or_else(|e| panic!("{}: list: {e}", path.display()));
    names
        .map(|name: OsString| {
            let value = xattr::get(path, &name)
                .unwrap_or_else(|e| panic!("{}: {}: {e}", path.display(), name.display()))
                .unwrap_or_else(|| panic!("{}: no {}", path.display(), name.display()));
            (name.as_bytes().to_vec(), value)
        })
        .collect()
}

/// The stretches of a file that are not holes.
pub(crate) fn data_ranges(file: &File) -> Vec<(u64, u64)> {
    let mut ranges = Vec::new();
    let mut at = 0;
    while let Ok(start) = seek(file, SeekFrom::Data(at)) {
        at = seek(file, SeekFrom::Hole(start)).unwrap();
        ranges.push((start, at));
    }
    ranges
}

fn contents(path: &Path) -> Contents {
    let file = File::open(path).unwrap();
    let mut hasher = ContentsHasher::default();
    let mut buffer = vec![0; 1 << 18];
    let mut at = 0;
    for (start, end) in data_ranges(&file) {
        hasher.skip(start - at);
        at = start;
        while at < end {
            let room = buffer.len().min((end - at) as usize);
            file.read_exact_at(&mut buffer[..room], at).unwrap();
            hasher.update(&buffer[..room]);
            at += room as u64;
        }
    }
    hasher.skip(file.metadata().unwrap().len() - at);
    hasher.finish()
}
