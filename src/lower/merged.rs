//! Disks of layers, merged as overlayfs merges them.

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use super::disk::{Disk, Kind};
use crate::error::{Error, Result};
use crate::ext4::format::{Inode, ROOT_INO};

/// The inode shown at a path: its disk, its number, and itself.
pub(super) struct Shown {
    pub number: usize,
    pub ino: u32,
    pub inode: Arc<Inode>,
}

/// A directory: the disks that have it, nearest first, as far as one shows through.
type Directory = Arc<[(usize, u32, Arc<Inode>)]>;

pub(super) struct Merged {
    disks: Vec<Disk>,
    root: Directory,
    known: Mutex<Known>,
}

/// Directories that were looked up before: most paths are near the last ones.
#[derive(Default)]
struct Known {
    /// By the number of the directory they are in, the root's is 0, and their name.
    numbers: HashMap<(u32, Box<[u8]>), u32>,
    directories: Vec<Directory>,
    /// The number of inodes of the disks.
    size: usize,
}

impl Known {
    /// The most inodes that are kept.
    const MAX: usize = 4096;
}

impl Merged {
    pub(super) fn new(disks: Vec<Disk>) -> Result<Self> {
        let root = |(number, disk): (usize, &Disk)| {
            Ok((number, ROOT_INO, Arc::new(disk.inode(ROOT_INO)?)))
        };
        let roots: io::Result<Vec<_>> = disks.iter().enumerate().map(root).collect();
        let root = roots.map_err(Error::input)?.into();
        Ok(Self {
            disks,
            root,
            known: Mutex::default(),
        })
    }

    pub(super) fn disk(&self, number: usize) -> &Disk {
        &self.disks[number]
    }

    /// Finds the inode shown at a path.
    pub(super) fn find(&self, path: &[u8]) -> io::Result<Option<Shown>> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.size > Known::MAX {
            *known = Known::default();
        }
        let mut directory = Arc::clone(&self.root);
        let mut number = Some(0);
        let mut names = path
            .split(|b| *b == b'/')
            .filter(|n| !n.is_empty())
            .peekable();
        while let Some(name) = names.next() {
            let key = number.map(|number| (number, Box::from(name)));
            if let Some(found) = key.as_ref().and_then(|key| known.numbers.get(key)).copied() {
                directory = Arc::clone(&known.directories[found as usize - 1]);
                number = Some(found);
                continue;
            }
            directory = match self.step(&directory, name)? {
                Step::Nothing => return Ok(None),
                Step::Other(shown) if names.peek().is_none() => return Ok(Some(shown)),
                Step::Other(_) => return Ok(None),
                Step::Directory(directory) => directory,
            };
            // A path that is longer than what is kept is not kept to its end.
            number = None;
            if let Some(key) = key.filter(|_| known.size <= Known::MAX) {
                known.size += directory.len();
                known.directories.push(Arc::clone(&directory));
                let new = known.directories.len() as u32;
                known.numbers.insert(key, new);
                number = Some(new);
            }
        }
        let nearest = directory.first();
        Ok(nearest.map(|(number, ino, inode)| Shown {
            number: *number,
            ino: *ino,
            inode: Arc::clone(inode),
        }))
    }

    /// Finds the inode that a directory shows under a name.
    fn step(&self, directory: &[(usize, u32, Arc<Inode>)], name: &[u8]) -> io::Result<Step> {
        let mut merged = Vec::new();
        for (number, _, dir) in directory {
            let disk = &self.disks[*number];
            let Some(ino) = disk.find(dir, name)? else {
                continue;
            };
            let inode = Arc::new(disk.inode(ino)?);
            match disk.kind(&inode) {
                Kind::Whiteout => break,
                Kind::Directory => {
                    let opaque = disk.is_opaque(&inode)?;
                    merged.push((*number, ino, inode));
                    if opaque {
                        break;
                    }
                }
                // A directory that is nearer hides it.
                _ if !merged.is_empty() => break,
                _ => {
                    return Ok(Step::Other(Shown {
                        number: *number,
                        ino,
                        inode,
                    }));
                }
            }
        }
        Ok(match merged.is_empty() {
            true => Step::Nothing,
            false => Step::Directory(merged.into()),
        })
    }
}

impl fmt::Debug for Merged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Merged").field(&self.disks).finish()
    }
}

enum Step {
    Nothing,
    Directory(Directory),
    Other(Shown),
}
