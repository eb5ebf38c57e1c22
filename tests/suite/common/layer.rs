//! From entries to an image that every oracle accepts, and what it holds.

use std::cell::OnceCell;
use std::fs;
use std::path::Path;

use tar2vhd::disk::MemoryDisk;
use tar2vhd::{DiskFormat, Error, ErrorKind, Options, Summary, WarningKind};

use super::entry::Entry;
use super::tar::Tar;
use super::tree::{Contents, Node, NodeKind, Tree, text};
use super::{oracle, view};

/// Raw images, which need no tool to unwrap, without syncing.
pub(crate) fn options() -> Options {
    Options::new()
        .format(DiskFormat::Raw)
        .threads(2)
        .fsync(false)
}

/// The conversion of these bytes in memory.
pub(crate) fn convert(tar: &[u8], options: &Options) -> Result<(Vec<u8>, Summary), Error> {
    let disk = MemoryDisk::new();
    let summary = tar2vhd::convert(tar, &disk, options)?;
    Ok((disk.into_vec(), summary))
}

/// A converted layer that e2fsck accepts.
pub(crate) struct Image {
    pub(crate) bytes: Vec<u8>,
    pub(crate) summary: Summary,
    file: tempfile::TempPath,
    tree: OnceCell<Option<Tree>>,
}

/// Entries as a layer with an end marker, converted.
#[track_caller]
pub(crate) fn layer(entries: &[Entry]) -> Image {
    image(&Tar::of(entries), &options())
}

#[track_caller]
pub(crate) fn layer_with(entries: &[Entry], options: &Options) -> Image {
    image(&Tar::of(entries), options)
}

#[track_caller]
pub(crate) fn image(tar: &[u8], options: &Options) -> Image {
    let converted = convert(tar, options);
    let (bytes, summary) = converted.unwrap_or_else(|e| panic!("refused: {e}"));
    assert_eq!(summary.disk.size, bytes.len() as u64);
    let file = tempfile::NamedTempFile::new().unwrap().into_temp_path();
    fs::write(&file, &bytes).unwrap();
    oracle::fsck(&file);
    Image {
        bytes,
        summary,
        file,
        tree: OnceCell::new(),
    }
}

impl Image {
    pub(crate) fn path(&self) -> &Path {
        &self.file
    }

    /// As ext4-view reads it and, where that is possible, as the kernel does too: they must
    /// agree, and the kernel sees more.
    #[track_caller]
    pub(crate) fn tree(&self) -> &Tree {
        self.try_tree()
            .expect("an image with features that ext4-view lacks")
    }

    /// Whether something here can read the image: with some features only the kernel can.
    pub(crate) fn is_readable(&self) -> bool {
        self.try_tree().is_some()
    }

    #[track_caller]
    fn try_tree(&self) -> Option<&Tree> {
        let tree = self
            .tree
            .get_or_init(|| match (view::read(&self.bytes), self.kernel_tree()) {
                (Some(viewed), Some(mounted)) => {
                    let differences = viewed.differences(&mounted);
                    assert!(
                        differences.is_empty(),
                        "ext4-view and the kernel: {differences}"
                    );
                    Some(mounted)
                }
                (viewed, mounted) => mounted.or(viewed),
            });
        tree.as_ref()
    }

    /// As the kernel alone reads it: for what ext4-view cannot read.
    pub(crate) fn kernel_tree(&self) -> Option<Tree> {
        #[cfg(target_os = "linux")]
        return super::kernel::Mount::image(&self.file).map(|mount| mount.tree());
        #[cfg(not(target_os = "linux"))]
        {
            super::skip::oracle_missing("not Linux: no image was read through the kernel");
            None
        }
    }

    #[track_caller]
    pub(crate) fn at(&self, path: impl AsRef<[u8]>) -> &Node {
        let path = path.as_ref();
        self.tree().0.get(path).unwrap_or_else(|| {
            panic!("no {:?} but {:?}", text(path), self.names());
        })
    }

    /// All paths but the root's, in byte order.
    #[track_caller]
    pub(crate) fn names(&self) -> Vec<String> {
        self.tree()
            .0
            .keys()
            .skip(1)
            .map(|path| text(path))
            .collect()
    }

    /// Extended attributes as text; `None` where only the kernel could tell and is not asked.
    #[track_caller]
    pub(crate) fn xattrs(&self, path: impl AsRef<[u8]>) -> Option<Vec<(String, String)>> {
        let xattrs = self.at(path).xattrs.as_ref()?;
        Some(xattrs.iter().map(|(k, v)| (text(k), text(v))).collect())
    }

    /// The attributes are these, where they can be read.
    #[track_caller]
    pub(crate) fn assert_xattrs(&self, path: impl AsRef<[u8]>, wanted: &[(&str, &str)]) {
        if let Some(xattrs) = self.xattrs(path) {
            let xattrs: Vec<_> = xattrs.iter().map(|(k, v)| (&k[..], &v[..])).collect();
            assert_eq!(xattrs, wanted);
        }
    }

    /// Two names of one inode, where that can be seen.
    #[track_caller]
    pub(crate) fn assert_linked(&self, a: &str, b: &str) {
        if let (Some(a), Some(b)) = (&self.at(a).same_as, &self.at(b).same_as) {
            assert_eq!(text(a), text(b));
        }
    }

    #[track_caller]
    pub(crate) fn assert_separate(&self, a: &str, b: &str) {
        if let (Some(a), Some(b)) = (&self.at(a).same_as, &self.at(b).same_as) {
            assert_ne!(text(a), text(b));
        }
    }

    #[track_caller]
    pub(crate) fn assert_file(&self, path: &str, data: impl AsRef<[u8]>) {
        assert_eq!(
            self.at(path).kind,
            NodeKind::File(Contents::of(data.as_ref()))
        );
    }

    #[track_caller]
    pub(crate) fn assert_dir(&self, path: &str) {
        assert_eq!(self.at(path).kind, NodeKind::Dir);
    }

    #[track_caller]
    pub(crate) fn assert_symlink(&self, path: &str, target: impl AsRef<[u8]>) {
        assert_eq!(
            self.at(path).kind,
            NodeKind::Symlink(target.as_ref().to_vec())
        );
    }

    /// A whiteout as overlayfs knows it.
    #[track_caller]
    pub(crate) fn assert_whiteout(&self, path: &str) {
        let node = self.at(path);
        assert!(matches!(node.kind, NodeKind::Char(None | Some((0, 0)))));
        assert_eq!((node.mode, node.uid, node.gid), (0, 0, 0));
    }

    /// An opaque directory as overlayfs knows it, where that can be seen.
    #[track_caller]
    pub(crate) fn assert_opaque(&self, path: &str, opaque: bool) {
        assert_eq!(self.at(path).kind, NodeKind::Dir);
        if let Some(xattrs) = self.xattrs(path) {
            let mark = ("trusted.overlay.opaque".to_owned(), "y".to_owned());
            assert_eq!(xattrs.contains(&mark), opaque, "{xattrs:?}");
        }
    }

    /// Kinds and paths of the warnings, sorted.
    pub(crate) fn warnings(&self) -> Vec<(WarningKind, String)> {
        let warnings = self.summary.warnings.iter();
        let mut list: Vec<_> = warnings.map(|w| (w.kind, text(&w.path))).collect();
        list.sort();
        list
    }

    #[track_caller]
    pub(crate) fn assert_warnings(&self, wanted: &[(WarningKind, &str)]) {
        let warnings = self.warnings();
        let warnings: Vec<_> = warnings.iter().map(|(k, p)| (*k, &p[..])).collect();
        assert_eq!(warnings, wanted);
    }

    #[track_caller]
    pub(crate) fn assert_no_warnings(&self) {
        self.assert_warnings(&[]);
    }
}

/// The entries are refused: the last one is to blame, and the error says so.
#[track_caller]
pub(crate) fn refused(kind: ErrorKind, entries: &[Entry]) -> Error {
    refused_with(kind, entries, &options())
}

#[track_caller]
pub(crate) fn refused_with(kind: ErrorKind, entries: &[Entry], options: &Options) -> Error {
    let tar = entries.iter().fold(Tar::new(), |tar, entry| tar.add(entry));
    let offset = tar.offsets().last().copied();
    let error = refused_tar(kind, &tar.finish(), options);
    assert_eq!(error.offset(), offset, "{error}");
    let path = entries.last().map(|entry| text(&entry.path));
    assert_eq!(error.path().map(text), path, "{error}");
    error
}

/// These bytes are refused, for a reason of this kind.
#[track_caller]
pub(crate) fn refused_tar(kind: ErrorKind, tar: &[u8], options: &Options) -> Error {
    match convert(tar, options) {
        Ok((_, summary)) => panic!("accepted: {summary:?}"),
        Err(error) => {
            assert_eq!(error.kind(), kind, "{error}");
            let line = error.to_string();
            assert!(!line.contains('\n'), "more than a line: {line:?}");
            error
        }
    }
}
