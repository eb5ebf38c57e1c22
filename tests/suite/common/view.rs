//! Reading an image through ext4-view: anywhere, without privileges.

use std::collections::BTreeMap;

use ext4_view::{Ext4, Ext4Error, FileType, Metadata, PathBuf, Timestamp};

use super::tree::{ContentsHasher, Node, NodeKind, Tree};

fn time(time: Timestamp) -> (i64, u32) {
    (time.seconds(), time.nanoseconds())
}

/// `None` for file systems with a feature that ext4-view does not know: inline data and
/// attributes in inodes of their own.
pub(crate) fn read(image: &[u8]) -> Option<Tree> {
    let fs = match Ext4::load(Box::new(image.to_vec())) {
        Ok(fs) => fs,
        Err(Ext4Error::Incompatible(_)) => return None,
        Err(error) => panic!("ext4-view cannot load the image: {error}"),
    };
    let mut tree = BTreeMap::new();
    let root = fs.symlink_metadata("/").unwrap();
    tree.insert(Vec::new(), node(&fs, &PathBuf::new(b"/"), &root));
    let mut todo = vec![PathBuf::new(b"/")];
    while let Some(dir) = todo.pop() {
        for entry in fs.read_dir(&dir).unwrap() {
            let entry = entry.unwrap();
            let name = entry.file_name();
            if name == "." || name == ".." {
                continue;
            }
            let path = entry.path();
            // By path and not from the entry: this looks the name up.
            let metadata = fs
                .symlink_metadata(&path)
                .unwrap_or_else(|e| panic!("{}: {e}", path.display()));
            assert_eq!(entry.file_type().unwrap(), metadata.file_type());
            let key = path.as_ref()[1..].to_vec();
            let twice = tree.insert(key, node(&fs, &path, &metadata));
            assert!(twice.is_none(), "{} is there twice", path.display());
            if metadata.is_dir() {
                todo.push(path);
            }
        }
    }
    Some(Tree(tree))
}

fn node(fs: &Ext4, path: &PathBuf, metadata: &Metadata) -> Node {
    let kind = match metadata.file_type() {
        FileType::Regular => {
            let mut file = fs.open(path).unwrap();
            let mut hasher = ContentsHasher::default();
            let mut buffer = vec![0; 1 << 16];
            loop {
                match file.read_bytes(&mut buffer).unwrap() {
                    0 => break,
                    n => hasher.update(&buffer[..n]),
                }
            }
            NodeKind::File(hasher.finish())
        }
        FileType::Directory => NodeKind::Dir,
        FileType::Symlink => NodeKind::Symlink(fs.read_link(path).unwrap().as_ref().to_vec()),
        FileType::CharacterDevice => NodeKind::Char(None),
        FileType::BlockDevice => NodeKind::Block(None),
        FileType::Fifo => NodeKind::Fifo,
        FileType::Socket => NodeKind::Socket,
    };
    Node {
        kind,
        mode: u32::from(metadata.mode()),
        uid: metadata.uid(),
        gid: metadata.gid(),
        mtime: time(metadata.modified()),
        atime: time(metadata.accessed()),
        ctime: None,
        xattrs: None,
        same_as: None,
    }
}
