//! Disks of layers, merged as overlayfs merges them.

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use super::disk::{Disk, Kind};
use crate::error::Result;
use crate::reader::Inode;

/// The inode shown at a path, and the number of its disk.
pub(super) struct Shown {
    pub number: usize,
    pub inode: Inode,
}

/// A directory: the disks that have it, nearest first, as far as one shows through.
type Directory = Arc<[(usize, Inode)]>;

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
        let root = |(number, disk): (usize, &Disk)| Ok((number, disk.root()?));
        let roots: Result<Vec<_>> = disks.iter().enumerate().map(root).collect();
        Ok(Self {
            root: roots?.into(),
            disks,
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
        Ok(nearest.map(|(number, inode)| Shown {
            number: *number,
            inode: inode.clone(),
        }))
    }

    /// Finds the inode that a directory shows under a name.
    fn step(&self, directory: &[(usize, Inode)], name: &[u8]) -> io::Result<Step> {
        let mut merged = Vec::new();
        for (number, dir) in directory {
            let disk = &self.disks[*number];
            let Some(inode) = disk.find(dir, name)? else {
                continue;
            };
            match Disk::kind(&inode) {
                Kind::Whiteout => break,
                Kind::Directory => {
                    let opaque = disk.is_opaque(&inode)?;
                    merged.push((*number, inode));
                    if opaque {
                        break;
                    }
                }
                // A directory that is nearer hides it.
                _ if !merged.is_empty() => break,
                _ => {
                    return Ok(Step::Other(Shown {
                        number: *number,
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
