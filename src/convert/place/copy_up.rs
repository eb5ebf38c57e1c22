//! Files of the layers below that hard links lead to: copied into this layer, as overlayfs
//! copies up what is linked.

use sha2::{Digest as _, Sha256};

use super::super::metadata;
use super::super::walk::{Link, Step, Walk, split_last};
use super::hard_links::link_to_directory;
use super::resolve::{Found, cannot_look};
use super::{Place, check_device, kind_of};
use crate::error::{Error, ErrorKind, Result};
use crate::ext4::area::BlockSink;
use crate::ext4::inode::{Attributes, Body, Timestamp};
use crate::ext4::tree::Ino;
use crate::lower::{LowerEntry, LowerKind, LowerMetadata, LowerPiece};
use crate::summary::display_path;

/// Where a name of the layers below is: in a directory of this one, below directories that
/// only they have.
struct Spot {
    dir: Ino,
    names: Vec<Box<[u8]>>,
}

impl<S: BlockSink> Place<'_, S> {
    /// Copies what the layers below show at a clean path, unless that is nothing.
    pub(super) fn copy_up(&mut self, target: &[u8]) -> Result<Option<Ino>> {
        if self.rules.lower.is_none() {
            self.asks_below = true;
            return Ok(None);
        }
        let (parent, name) = split_last(target);
        let Some(Spot { mut dir, names }) = self.lead_below(parent)? else {
            return Ok(None);
        };
        if names.is_empty() && self.writer.tree().lookup(dir, name).is_some() {
            return Ok(None);
        }
        let Some((entry, path)) = self.ask_below(dir, &names, name)? else {
            return Ok(None);
        };
        if entry.kind == LowerKind::Directory {
            return Err(link_to_directory(target));
        }
        for name in &names {
            let Found::Nothing(Some(lower)) = self.look(dir, name)? else {
                return Ok(None);
            };
            dir = self.make_parent(&path, Timestamp::default(), dir, name, Some(lower))?;
        }
        let known = entry.id.and_then(|id| self.copies.by_id.get(&id)).copied();
        let is_in_use = |ino: &Ino| !matches!(self.writer.tree().node(*ino).body, Body::Freed);
        let ino = match known.filter(is_in_use) {
            Some(ino) => ino,
            None => self.copy(&entry, &path)?,
        };
        let dirent = self.insert(&path, dir, name, ino)?;
        self.copies.names.insert(dirent, (dir, ino));
        self.copies.by_id.extend(entry.id.map(|id| (id, ino)));
        Ok(Some(ino))
    }

    /// Follows a path through this layer and those below, without making anything.
    fn lead_below(&mut self, path: &[u8]) -> Result<Option<Spot>> {
        let mut walk = Walk::starting(Ino::ROOT, path);
        let mut names: Vec<Box<[u8]>> = Vec::new();
        while let Some(step) = walk.next() {
            // Where a link led is not remembered, because this layer may cover the way later.
            let Step::Name(name) = step else { continue };
            if &*name == b".." && names.pop().is_some() {
                continue;
            }
            let through = if names.is_empty() {
                match self.look(walk.at, &name)? {
                    Found::Directory(ino) => {
                        walk.at = ino;
                        continue;
                    }
                    Found::Nothing(Some(_)) => {
                        names.push(name[..].into());
                        continue;
                    }
                    Found::Symlink(link, to) => self.follow(&mut walk, link, &to),
                    Found::Followed(at, way) => walk.jump(at, way),
                    Found::Nothing(None) | Found::Other => return Ok(None),
                }
            } else {
                match self.ask_below(walk.at, &names, &name)? {
                    Some((entry, path)) => match entry.kind {
                        LowerKind::Directory => {
                            names.push(name[..].into());
                            continue;
                        }
                        LowerKind::Symlink(to) => {
                            if to.starts_with(b"/") {
                                names.clear();
                            }
                            let link = Link::Below(walk.at, path.into());
                            self.follow(&mut walk, link, &to)
                        }
                        _ => return Ok(None),
                    },
                    None => return Ok(None),
                }
            };
            match through {
                Ok(()) => {}
                Err(error) if error.kind() == ErrorKind::Entry => return Ok(None),
                Err(error) => return Err(error),
            }
        }
        Ok(Some(Spot {
            dir: walk.at,
            names,
        }))
    }

    /// Makes an inode like one of the layers below.
    fn copy(&mut self, entry: &LowerEntry, path: &[u8]) -> Result<Ino> {
        let mut attributes = metadata::of_lower(&entry.metadata);
        let ino = match &entry.kind {
            LowerKind::File(size) => self.copy_file(attributes, *size, path)?,
            LowerKind::Symlink(target) => {
                attributes.mode = 0o777;
                self.make_symlink(attributes, target)?
            }
            LowerKind::CharDevice { major, minor } => {
                let (major, minor) = check_device(*major, *minor)?;
                self.writer
                    .make(attributes, Body::CharDevice { major, minor })?
            }
            LowerKind::BlockDevice { major, minor } => {
                let (major, minor) = check_device(*major, *minor)?;
                self.writer
                    .make(attributes, Body::BlockDevice { major, minor })?
            }
            LowerKind::Fifo => self.writer.make(attributes, Body::Fifo)?,
            _ => {
                return Err(Error::entry(format!(
                    "a hard link to {}, which in the layers below is nothing that can be copied",
                    display_path(path)
                )));
            }
        };
        let kind = kind_of(self.writer.tree().node(ino));
        self.hand_up(path, ino, kind, &entry.metadata)?;
        Ok(ino)
    }

    fn copy_file(&mut self, attributes: Attributes, size: u64, path: &[u8]) -> Result<Ino> {
        let wrong_size = || {
            let error = "a file's contents are not as long as the file";
            cannot_look(std::io::Error::other(error))
        };
        let Some(lower) = self.rules.lower else {
            return Err(wrong_size());
        };
        let mut file = self.writer.begin_file(attributes, size)?;
        // How the bytes are cut into pieces does not matter, where holes are does.
        let mut bytes = Sha256::new();
        let mut holes = Vec::new();
        let (mut at, mut hole_start) = (0_u64, None);
        for piece in lower.contents(path).map_err(cannot_look)? {
            let (data, len) = match piece.map_err(cannot_look)? {
                LowerPiece::Data(data) => {
                    let len = data.len() as u64;
                    (Some(data), len)
                }
                LowerPiece::Hole(len) => (None, len),
            };
            if len > size - at {
                return Err(wrong_size());
            }
            match data {
                Some(data) => {
                    holes.extend(hole_start.take().map(|start| (start, at)));
                    bytes.update(&data);
                    self.writer.write(&mut file, &data)?;
                }
                None => {
                    hole_start.get_or_insert(at);
                    self.writer.skip(&mut file, len)?;
                }
            }
            at += len;
        }
        holes.extend(hole_start.map(|start| (start, at)));
        if at != size {
            return Err(wrong_size());
        }
        self.answers.update(bytes.finalize());
        self.answers.update((holes.len() as u64).to_le_bytes());
        for (start, end) in holes {
            self.answers.update(u64::to_le_bytes(start));
            self.answers.update(u64::to_le_bytes(end));
        }
        self.writer.end_file(file)
    }

    /// Takes an answer of the layers below into the identity.
    pub(super) fn note_answer(&mut self, path: &[u8], answer: &Option<LowerEntry>) {
        let mut field = |bytes: &[u8]| {
            self.answers.update((bytes.len() as u64).to_le_bytes());
            self.answers.update(bytes);
        };
        field(path);
        let Some(LowerEntry {
            kind,
            metadata:
                LowerMetadata {
                    mode,
                    uid,
                    gid,
                    mtime,
                    xattrs,
                },
            id,
        }) = answer
        else {
            return field(b"none");
        };
        match kind {
            LowerKind::Directory => field(b"directory"),
            LowerKind::File(size) => {
                field(b"file");
                field(&size.to_le_bytes());
            }
            LowerKind::Symlink(target) => {
                field(b"symlink");
                field(target);
            }
            LowerKind::CharDevice { major, minor } => {
                field(b"character device");
                field(&major.to_le_bytes());
                field(&minor.to_le_bytes());
            }
            LowerKind::BlockDevice { major, minor } => {
                field(b"block device");
                field(&major.to_le_bytes());
                field(&minor.to_le_bytes());
            }
            LowerKind::Fifo => field(b"fifo"),
            LowerKind::Other => field(b"other"),
        }
        field(&mode.to_le_bytes());
        field(&uid.to_le_bytes());
        field(&gid.to_le_bytes());
        field(&mtime.0.to_le_bytes());
        field(&mtime.1.to_le_bytes());
        field(&(xattrs.len() as u64).to_le_bytes());
        for (name, value) in xattrs {
            field(name);
            field(value);
        }
        field(&id.map_or([0; 8], u64::to_le_bytes));
    }

    /// Whether a name stands for a copy that no entry has named.
    fn is_copy(&self, dirent: u32, ino: Ino) -> bool {
        self.copies
            .names
            .get(&dirent)
            .is_some_and(|copy| copy.1 == ino)
    }

    /// Whether a directory is there for copies alone, or only because a path led through it.
    fn holds_only_copies(&mut self, dir: Ino) -> Result<bool> {
        let mut todo = vec![dir];
        while let Some(dir) = todo.pop() {
            let tree = self.writer.tree();
            if tree.dir(dir).is_none_or(|dir| !dir.inherited || dir.opaque) {
                return Ok(false);
            }
            let names = tree.numbered_children(dir);
            for (dirent, ino) in &names {
                if tree.node(*ino).is_dir() {
                    todo.push(*ino);
                } else if !self.is_copy(*dirent, *ino) {
                    return Ok(false);
                }
            }
            self.effort.spend(1 + names.len())?;
        }
        Ok(true)
    }

    /// Whether what stands at a name is a directory that is there for copies alone.
    pub(super) fn are_copies(&mut self, dir: Ino, name: &[u8]) -> Result<bool> {
        if self.rules.lower.is_none() {
            return Ok(false);
        }
        let tree = self.writer.tree();
        match tree.lookup(dir, name) {
            Some(ino) if tree.node(ino).is_dir() => self.holds_only_copies(ino),
            _ => Ok(false),
        }
    }

    /// Takes a name away that is there for copies alone: the layer hides what they are of.
    pub(super) fn drop_copies_at(&mut self, dir: Ino, name: &[u8]) -> Result<()> {
        if self.rules.lower.is_none() {
            return Ok(());
        }
        let Some((dirent, ino)) = self.writer.tree().numbered(dir, name) else {
            return Ok(());
        };
        let is_copy = match self.writer.tree().node(ino).is_dir() {
            true => self.holds_only_copies(ino)?,
            false => self.is_copy(dirent, ino),
        };
        match is_copy {
            true => self.drop_copy(dir, name),
            false => Ok(()),
        }
    }

    fn drop_copy(&mut self, dir: Ino, name: &[u8]) -> Result<()> {
        self.writer.unlink(dir, name);
        self.forget_ways()?;
        self.note_change(dir, name)
    }

    /// Takes the names away that are there for copies alone, below a directory that hides what
    /// they are of.
    pub(super) fn drop_copies_below(&mut self, top: Ino) -> Result<()> {
        let copies: Vec<_> = self.copies.names.iter().map(|(d, i)| (*d, *i)).collect();
        for (dirent, (mut dir, ino)) in copies {
            let tree = self.writer.tree();
            let (name, standing) = tree.named(dirent);
            let mut name = name.to_vec();
            if standing != ino {
                self.copies.names.remove(&dirent);
                continue;
            }
            let mut depth = 1;
            let mut above = dir;
            while above != top && above != Ino::ROOT {
                above = tree.dir(above).map_or(Ino::ROOT, |dir| dir.parent);
                depth += 1;
            }
            self.effort.spend(depth)?;
            if above != top {
                continue;
            }
            self.drop_copy(dir, &name)?;
            self.copies.names.remove(&dirent);
            // Directories that were made for it.
            while dir != top && self.holds_only_copies(dir)? {
                let tree = self.writer.tree();
                if !tree.numbered_children(dir).is_empty() {
                    break;
                }
                let Some((parent, own)) = tree.name_of_dir(dir) else {
                    break;
                };
                (dir, name) = (parent, own.to_vec());
                self.drop_copy(dir, &name)?;
            }
        }
        Ok(())
    }
}
