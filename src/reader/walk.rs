//! All of a tree, and all of the inodes.

use std::collections::HashSet;

use super::blocks::Blocks;
use super::contents::Contents;
use super::damage::damaged_inode;
use super::directory::{DirEntry, ReadDir};
use super::inode::{FileType, Inode};
use super::path::root;
use crate::error::Result;

/// A name below the root.
#[derive(Debug)]
pub(crate) struct Entry {
    /// The directory that has it.
    pub parent: u32,
    pub name: Box<[u8]>,
    pub inode: Inode,
}

/// All names below the root, a directory before what is in it.
pub(crate) struct Walk<'a> {
    blocks: &'a Blocks,
    /// Directories whose entries are yet to come, the next one last.
    open: Vec<Open>,
    /// The directory of the last entry, whose own entries come next.
    next: Option<Inode>,
    /// Each directory has one name.
    seen: HashSet<u32>,
    /// The path of the last entry.
    path: Vec<u8>,
    /// Blocks of directories: none belongs to two.
    blocks_seen: HashSet<u64>,
}

/// A directory with the entries that have not come.
struct Open {
    ino: u32,
    /// The last one first.
    entries: Vec<DirEntry>,
    /// Bytes of its path.
    path: usize,
}

impl<'a> Walk<'a> {
    pub(super) fn new(blocks: &'a Blocks) -> Result<Self> {
        let root = root(blocks)?;
        Ok(Self {
            blocks,
            open: Vec::new(),
            seen: HashSet::from([root.number()]),
            next: Some(root),
            path: Vec::new(),
            blocks_seen: HashSet::new(),
        })
    }

    /// The path of the entry that came last, relative to the root.
    pub(crate) fn path(&self) -> &[u8] {
        &self.path
    }

    fn enter(&mut self, directory: &Inode) -> Result<()> {
        let seen = std::mem::take(&mut self.blocks_seen);
        let mut reader = ReadDir::after(self.blocks, directory, seen)?;
        let mut entries = reader.by_ref().collect::<Result<Vec<_>>>()?;
        self.blocks_seen = reader.seen();
        entries.reverse();
        self.open.push(Open {
            ino: directory.number(),
            entries,
            path: self.path.len(),
        });
        Ok(())
    }

    fn step(&mut self) -> Result<Option<Entry>> {
        if let Some(directory) = self.next.take() {
            self.enter(&directory)?;
        }
        while let Some(open) = self.open.last_mut() {
            let Some(DirEntry { ino, name }) = open.entries.pop() else {
                self.open.pop();
                continue;
            };
            self.path.truncate(open.path);
            if open.path > 0 {
                self.path.push(b'/');
            }
            self.path.extend_from_slice(&name);
            let parent = open.ino;
            let inode = Inode::read(self.blocks, ino)?;
            if inode.file_type() == FileType::Directory {
                if !self.seen.insert(ino) {
                    return Err(damaged_inode(ino, "a directory with two names"));
                }
                self.next = Some(inode.clone());
            }
            return Ok(Some(Entry {
                parent,
                name,
                inode,
            }));
        }
        Ok(None)
    }
}

impl Iterator for Walk<'_> {
    type Item = Result<Entry>;

    /// After an error none comes.
    fn next(&mut self) -> Option<Self::Item> {
        let step = self.step().map_err(|e| e.at_path(&self.path));
        if step.is_err() {
            self.open.clear();
            self.next = None;
        }
        step.transpose()
    }
}

/// Puts files into the order in which their contents begin on the disk; those without blocks
/// come first. So all are read in one sweep.
pub(super) fn sort_by_data(blocks: &Blocks, files: &mut [Inode]) -> Result<()> {
    let mut failed = None;
    files.sort_by_cached_key(|inode| {
        let start = Contents::new(blocks, inode).and_then(|mut contents| contents.start());
        start.unwrap_or_else(|error| {
            failed.get_or_insert(error);
            None
        })
    });
    failed.map_or(Ok(()), Err)
}
