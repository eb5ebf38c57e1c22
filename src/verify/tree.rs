//! Names and what they lead to: whether the directories form one tree, and every file is in it
//! as often as it says.

use std::collections::BTreeMap;

use rayon::prelude::*;

use super::blocks::Blocks;
use super::budget::Budget;
use super::directories::{Directory, Name, Names};
use super::findings::{FindingKind, Findings, Place};
use super::layout::Layout;
use super::record::{Record, Use};
use crate::error::Result;
use crate::ext4::format::{
    INCOMPAT_FILETYPE, INODE_INDEX, LINK_MAX, RO_COMPAT_DIR_NLINK, ROOT_INO,
};

/// Directories that are read at the same time.
const AT_ONCE: usize = 64;

/// The inodes in use, and the names that were found for them.
pub(super) struct Tree<'a> {
    volume: Blocks<'a>,
    layout: &'a Layout,
    records: &'a [Record],
    directories: &'a [Directory],
    /// Names of each record.
    names: Vec<u32>,
    /// For each directory the one that has its name, by number in the list; none for the root
    /// and where no name was found.
    parents: Vec<Option<usize>>,
    /// For each directory the inode that its `..` leads to.
    dotdots: Vec<u32>,
    /// Subdirectories of each directory.
    subdirectories: Vec<u32>,
    /// Whether a directory could be read.
    is_read: Vec<bool>,
}

impl<'a> Tree<'a> {
    pub(super) fn new(
        volume: Blocks<'a>,
        layout: &'a Layout,
        records: &'a [Record],
        directories: &'a [Directory],
    ) -> Self {
        Self {
            volume,
            layout,
            records,
            directories,
            names: vec![0; records.len()],
            parents: vec![None; directories.len()],
            dotdots: vec![0; directories.len()],
            subdirectories: vec![0; directories.len()],
            is_read: vec![false; directories.len()],
        }
    }

    fn record(&self, ino: u32) -> Option<usize> {
        self.records
            .binary_search_by_key(&ino, |record| record.ino)
            .ok()
    }

    fn directory(&self, ino: u32) -> Option<usize> {
        self.directories
            .binary_search_by_key(&ino, |dir| dir.ino)
            .ok()
    }

    /// Reads all directories and checks what they come to.
    pub(super) fn check(&mut self, budget: &mut Budget, findings: &mut Findings) -> Result<u64> {
        let all: Vec<usize> = (0..self.directories.len()).collect();
        let mut count = 0;
        for some in all.chunks(AT_ONCE) {
            let mut readable = Vec::new();
            for index in some {
                let directory = &self.directories[*index];
                // A tree's nodes are read twice.
                if budget.take(directory.blocks()) {
                    readable.push(*index);
                } else {
                    findings.add(
                        FindingKind::SharedBlock,
                        Place::inode(directory.ino),
                        || {
                            "directories have more blocks than there are: this one is not read"
                                .into()
                        },
                    );
                }
            }
            let limit = findings.another();
            let (volume, layout) = (self.volume, self.layout);
            let read: Vec<Result<Names>> = readable
                .par_iter()
                .map(|index| self.directories[*index].read(volume, layout, limit.another()))
                .collect();
            for (index, names) in readable.iter().zip(read) {
                let names = names?;
                count += names.names.len() as u64;
                self.add(*index, names, findings);
            }
        }
        self.check_root(findings);
        self.check_parents(findings);
        self.check_links(findings);
        Ok(count)
    }

    fn add(&mut self, index: usize, mut names: Names, findings: &mut Findings) {
        let own = std::mem::replace(&mut names.findings, findings.another());
        findings.append(own);
        self.dotdots[index] = names.parent;
        self.is_read[index] = true;
        for name in &names.names {
            let place = || Place::inode(self.directories[index].ino);
            let mut wrong = |kind, message: &dyn Fn() -> String| {
                findings.add(kind, place(), message);
            };
            match self.target(index, name) {
                Err(why) => wrong(FindingKind::Name, &|| {
                    format!("the name {} leads to {why}", names.shown(name))
                }),
                Ok(target) => {
                    let record = self.records[target];
                    self.names[target] = self.names[target].saturating_add(1);
                    let expected = match self.layout.incompat(INCOMPAT_FILETYPE) {
                        true => record.entry_type,
                        false => 0,
                    };
                    // The kernel takes 0 for not known.
                    if name.entry_type != 0 && name.entry_type != expected {
                        wrong(FindingKind::FileType, &|| {
                            format!(
                                "the name {} is of type {}, not {expected}",
                                names.shown(name),
                                name.entry_type
                            )
                        });
                    }
                    if record.use_of == Use::Value {
                        wrong(FindingKind::Name, &|| {
                            format!(
                                "the name {} leads to the value of an attribute",
                                names.shown(name)
                            )
                        });
                    }
                    let subdirectory = record.is_dir().then(|| self.directory(record.ino));
                    if let Some(Some(subdirectory)) = subdirectory {
                        self.subdirectories[index] += 1;
                        if self.parents[subdirectory].is_some() {
                            wrong(FindingKind::Tree, &|| {
                                format!(
                                    "the name {} is another one of the directory with inode {}",
                                    names.shown(name),
                                    name.ino
                                )
                            });
                        } else {
                            self.parents[subdirectory] = Some(index);
                        }
                    }
                }
            }
        }
    }

    /// The record that a name leads to, or to what it leads instead.
    fn target(&self, index: usize, name: &Name) -> std::result::Result<usize, String> {
        let ino = name.ino;
        if ino > self.layout.inodes {
            return Err(format!("inode {ino}, of {}", self.layout.inodes));
        }
        if ino == ROOT_INO {
            return Err("the root directory".into());
        }
        if ino == self.directories[index].ino {
            return Err("the directory that it is in".into());
        }
        match self.record(ino) {
            Some(target) if self.records[target].use_of != Use::Special => Ok(target),
            _ if ino < self.layout.first_ino => Err(format!("the reserved inode {ino}")),
            Some(_) => Err(format!("inode {ino}, which is the file system's own")),
            None => Err(format!("inode {ino}, which is not in use")),
        }
    }

    fn check_root(&self, findings: &mut Findings) {
        if self.directory(ROOT_INO).is_none() {
            findings.add(FindingKind::Tree, Place::inode(ROOT_INO), || {
                "there is no root directory".into()
            });
        }
    }

    /// Every `..` leads to the directory with the name, and every such way up to the root.
    fn check_parents(&self, findings: &mut Findings) {
        let root = self.directory(ROOT_INO);
        for (index, directory) in self.directories.iter().enumerate() {
            if !self.is_read[index] {
                continue;
            }
            let expected = match self.parents[index] {
                _ if Some(index) == root => ROOT_INO,
                Some(parent) => self.directories[parent].ino,
                // Found below: no name leads to it.
                None => continue,
            };
            let found = self.dotdots[index];
            if found != expected {
                findings.add(FindingKind::Tree, Place::inode(directory.ino), || {
                    format!("the entry .. leads to inode {found}, not {expected}")
                });
            }
        }
        // 0: not known, 1: on the way that is walked, 2: its end is known.
        let mut seen = vec![0_u8; self.directories.len()];
        for start in 0..self.directories.len() {
            let mut at = start;
            let mut way = Vec::new();
            while seen[at] == 0 {
                seen[at] = 1;
                way.push(at);
                match self.parents[at] {
                    Some(parent) => at = parent,
                    None => break,
                }
            }
            if way.last().is_some_and(|last| *last != at) && seen[at] == 1 {
                let ino = self.directories[at].ino;
                findings.add(FindingKind::Tree, Place::inode(ino), || {
                    "the directory is below itself, and not below the root".into()
                });
            }
            for index in way {
                seen[index] = 2;
            }
        }
    }

    fn check_links(&self, findings: &mut Findings) {
        for (record, names) in self.records.iter().zip(&self.names) {
            if record.use_of != Use::Named {
                continue;
            }
            let place = || Place::inode(record.ino);
            let directory = match record.is_dir() {
                true => self.directory(record.ino),
                false => None,
            };
            if *names == 0 && record.ino != ROOT_INO {
                findings.add(FindingKind::Unreachable, place(), || {
                    "the inode is in use, but has no name".into()
                });
                continue;
            }
            let links = u32::from(record.links);
            let Some(directory) = directory else {
                if links != *names {
                    findings.add(FindingKind::LinkCount, place(), || {
                        format!("the inode counts {links} names, but has {names}")
                    });
                }
                continue;
            };
            // Its name or, of the root, its `..`; its `.`; and the `..` of each below.
            let expected = self.subdirectories[directory].saturating_add(2);
            let may_be_one = self.layout.ro_compat(RO_COMPAT_DIR_NLINK)
                && (expected > LINK_MAX || record.flags & INODE_INDEX != 0);
            if links != expected && !(links == 1 && may_be_one) {
                findings.add(FindingKind::LinkCount, place(), || {
                    format!("the directory counts {links} links, but has {expected}")
                });
            }
        }
    }

    /// The paths of inodes, as far as names lead to them.
    pub(super) fn paths(&self, wanted: &mut BTreeMap<u32, Vec<u8>>) -> Result<()> {
        // Longer ones are cut at the front.
        const MAX_PATH: usize = 4096;
        let mut names_of: Vec<Option<Box<[u8]>>> = vec![None; self.directories.len()];
        let mut files: BTreeMap<u32, (usize, Vec<u8>)> = BTreeMap::new();
        for (index, directory) in self.directories.iter().enumerate() {
            if !self.is_read[index] {
                continue;
            }
            let names = directory.read(self.volume, self.layout, Findings::new(0))?;
            for name in &names.names {
                let below = self.directory(name.ino);
                if let Some(below) = below
                    && self.parents[below] == Some(index)
                {
                    names_of[below].get_or_insert_with(|| names.bytes(name).into());
                } else if wanted.contains_key(&name.ino) {
                    files
                        .entry(name.ino)
                        .or_insert_with(|| (index, names.bytes(name).to_vec()));
                }
            }
        }
        for (ino, path) in wanted {
            let (mut at, mut parts) = match (self.directory(*ino), files.get(ino)) {
                (Some(directory), _) => (directory, Vec::new()),
                (None, Some((parent, name))) => (*parent, vec![&name[..]]),
                (None, None) => continue,
            };
            let mut len = 0;
            while let (Some(parent), Some(name)) = (self.parents[at], &names_of[at]) {
                if len > MAX_PATH {
                    break;
                }
                len += name.len() + 1;
                parts.push(name);
                at = parent;
            }
            let is_whole = self.directories[at].ino == ROOT_INO;
            path.extend_from_slice(if is_whole { b"" } else { b"..." });
            for part in parts.iter().rev() {
                path.push(b'/');
                path.extend_from_slice(part);
            }
            if path.is_empty() {
                path.push(b'/');
            }
        }
        Ok(())
    }
}
