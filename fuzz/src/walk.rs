//! Reads an image by a reader that shares no code with the writer, and holds what it finds
//! against the summary.

use std::collections::VecDeque;

use ext4_view::{Ext4, Ext4Error, FileType, Metadata, PathBuf};
use tar2vhd::Summary;

use crate::disk::{INLINE_DATA, Superblock, readable};

/// Cases that the reader refuses, or follows slowly: it looks up every path from the root.
const MAX_PATH: usize = 4096;
const MAX_DEPTH: usize = 24;
/// Of larger files only the ends are read: holes may make them huge.
const MAX_READ: u64 = 1 << 20;
/// No inode of 256 bytes holds more of its file.
const INODE_SIZE: u64 = 256;

#[derive(Debug, Default)]
struct Found {
    directories: u64,
    names: u64,
    regular: u64,
    symlinks: u64,
    cut: bool,
}

/// Reads every directory, every link and all files, each found by its name; panics where
/// anything is not as the summary has it.
pub fn check(image: &[u8], summary: &Summary) {
    let inline = Superblock::new(image).incompatible() & INLINE_DATA != 0;
    let fs = Ext4::load(Box::new(readable(image))).unwrap();
    assert_eq!(fs.uuid().as_bytes(), &summary.disk.uuid);
    let found = walk(&fs, inline).unwrap();

    let counts = &summary.entries;
    if !found.cut {
        let names = counts.files
            + counts.symlinks
            + counts.hard_links
            + counts.devices
            + counts.fifos
            + counts.whiteouts;
        assert_eq!(found.names, names, "{found:?} {counts:?}");
        assert_eq!(found.directories, counts.directories);
        assert!(found.regular >= counts.files && found.symlinks >= counts.symlinks);
    }
}

fn walk(fs: &Ext4, inline: bool) -> Result<Found, Ext4Error> {
    let mut found = Found {
        directories: 1,
        ..Found::default()
    };
    let mut queue = VecDeque::from([(PathBuf::new("/"), 0)]);
    while let Some((directory, depth)) = queue.pop_front() {
        for entry in fs.read_dir(&directory)? {
            let entry = entry?;
            if [&b"."[..], b".."].contains(&entry.file_name().as_ref()) {
                continue;
            }
            let path = entry.path();
            // It takes every directory's hashes for those of signed bytes, too.
            if path.as_ref().len() > MAX_PATH || !path.as_ref().is_ascii() {
                found.cut = true;
                continue;
            }
            let metadata = fs.symlink_metadata(&path)?;
            assert_eq!(metadata, entry.metadata()?, "the name leads elsewhere");
            assert_eq!(metadata.file_type(), entry.file_type()?);
            found.names += 1;
            match metadata.file_type() {
                FileType::Directory => {
                    found.names -= 1;
                    found.directories += 1;
                    if depth < MAX_DEPTH {
                        queue.push_back((path, depth + 1));
                    } else {
                        found.cut = true;
                    }
                }
                FileType::Symlink => {
                    found.symlinks += 1;
                    // Longer targets than the one kept in i_block may be inline as well.
                    if !inline {
                        let target = fs.read_link(&path)?;
                        assert_eq!(target.as_ref().len() as u64, metadata.len());
                    }
                }
                FileType::Regular => {
                    found.regular += 1;
                    if !inline || metadata.len() > INODE_SIZE {
                        read(fs, &path, &metadata)?;
                    }
                }
                _ => {}
            }
        }
    }
    Ok(found)
}

fn read(fs: &Ext4, path: &PathBuf, metadata: &Metadata) -> Result<(), Ext4Error> {
    let mut file = fs.open(path)?;
    let mut buf = vec![0; 1 << 16];
    let mut read = 0;
    loop {
        let n = file.read_bytes(&mut buf)?;
        if n == 0 {
            break;
        }
        read += n as u64;
        if read >= MAX_READ && read < metadata.len() - buf.len() as u64 {
            read = metadata.len() - buf.len() as u64;
            file.seek_to(read)?;
        }
    }
    assert_eq!(read, metadata.len());
    Ok(())
}
