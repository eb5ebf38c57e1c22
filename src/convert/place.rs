//! Entries to names and inodes: the only place that knows both what a layer means and how
//! overlayfs spells it.

mod copies;
mod copy_up;
mod hard_links;
mod merge;
mod resolve;
mod stamps;
mod ways;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use sha2::{Digest as _, Sha256};

use super::links::WaitingLinks;
use super::metadata::{self, Access, Described, InodeKind, Raw};
use super::walk::{NAME_MAX, clean_with_warning, split_last};
use crate::error::{Error, Result};
use crate::ext4::area::BlockSink;
use crate::ext4::format::S_IFLNK;
use crate::ext4::inode::{Attributes, Body, DEVICE_MAJOR_MAX, DEVICE_MINOR_MAX, Node};
use crate::ext4::tree::{Ino, Linked, Replaced, Tree};
use crate::ext4::writer::{File, Writer};
use crate::layer::{ChunkSource, Entries, Entry, EntryKind, Piece, Whiteout, classify};
use crate::lower::LowerLayers;
use crate::summary::{EntryCounts, WarningKind, Warnings};
use copies::Copies;
use stamps::Stamps;
use ways::{Effort, LastParent, Ways};

/// How entries are read.
#[derive(Clone, Copy)]
pub(super) struct Rules<'a> {
    /// `.wh.` names are whiteouts and opaque marks.
    pub whiteouts: bool,
    /// There is nothing below that they could hide.
    pub bottom_layer: bool,
    /// The most entries, directories that no entry describes included: a path of a few bytes
    /// can ask for thousands of those.
    pub max_entries: u64,
    pub lower: Option<&'a dyn LowerLayers>,
}

/// Places entries, one after the other, in a file system.
pub(super) struct Place<'a, S> {
    writer: Writer<S>,
    rules: Rules<'a>,
    warnings: Warnings,
    links: WaitingLinks,
    last_parent: Option<LastParent>,
    ways: Ways,
    effort: Effort,
    /// Names of aufs's own, which go in the end.
    hidden: Vec<(Ino, Vec<u8>)>,
    /// Targets of symbolic links that are too long for the inode.
    targets: HashMap<Ino, Arc<[u8]>>,
    targets_size: usize,
    /// Of inodes whose ACL was left out the permissions that their header told, and those that
    /// they have instead.
    dropped_acls: HashMap<Ino, (u16, u16)>,
    /// Inodes whose header told that they have no ACL, or one that was left out, while hard links
    /// waited: a link that waited for them does not bring one.
    without_acls: HashSet<Ino>,
    /// Everything that the lower layers answered: it shapes the bytes too.
    answers: Sha256,
    /// Layers below, given or not, can shape the bytes of this one.
    asks_below: bool,
    copies: Copies,
    /// Only while several layers become one file system.
    merge: Option<Stamps>,
    entries: u64,
    /// Directories made for want of an entry.
    implied: u64,
}

/// A way to place entries in a file system.
pub(super) trait Placing {
    /// All entries, placed.
    type Placed;

    /// Places an entry, whose contents the source gives next.
    fn entry(&mut self, entry: &Entry, source: &mut Entries<impl ChunkSource>) -> Result<()>;

    /// Ends the layer: what waited for more of it is settled or refused.
    fn finish(self) -> Result<Self::Placed>;
}

/// Where the contents of regular files come from.
pub(super) trait Contents<S> {
    /// Makes the inode of a regular file, which has no name yet.
    fn make_file(
        &mut self,
        writer: &mut Writer<S>,
        attributes: Attributes,
        size: u64,
    ) -> Result<Ino>;
}

impl<S: BlockSink, C: ChunkSource> Contents<S> for Entries<C> {
    fn make_file(
        &mut self,
        writer: &mut Writer<S>,
        attributes: Attributes,
        size: u64,
    ) -> Result<Ino> {
        let file = writer.begin_file(attributes, size)?;
        fill(self, writer, file)
    }
}

/// Writes the contents that come next to a file that was begun.
pub(super) fn fill<S: BlockSink>(
    source: &mut Entries<impl ChunkSource>,
    writer: &mut Writer<S>,
    mut file: File,
) -> Result<Ino> {
    while let Some(piece) = source.next_piece()? {
        match piece {
            Piece::Data(data) => writer.write(&mut file, &data)?,
            Piece::Hole(len) => writer.skip(&mut file, len)?,
        }
    }
    writer.end_file(file)
}

/// A file system without its end, and the results of reading the layer.
pub(super) struct Placed<S> {
    pub writer: Writer<S>,
    pub warnings: Warnings,
    pub counts: EntryCounts,
    pub answers: [u8; 32],
    /// Layers below, given or not, can shape the bytes.
    pub asks_below: bool,
}

/// The most bytes of long link targets that are remembered.
const TARGETS_MAX: usize = 16 << 20;

impl<'a, S: BlockSink> Place<'a, S> {
    pub(super) fn new(writer: Writer<S>, rules: Rules<'a>) -> Self {
        Self {
            writer,
            rules,
            warnings: Warnings::default(),
            links: WaitingLinks::default(),
            last_parent: None,
            ways: Ways::default(),
            effort: Effort::new(),
            hidden: Vec::new(),
            targets: HashMap::new(),
            targets_size: 0,
            dropped_acls: HashMap::new(),
            without_acls: HashSet::new(),
            answers: Sha256::new(),
            asks_below: false,
            copies: Copies::default(),
            merge: None,
            entries: 0,
            implied: 0,
        }
    }

    fn place(&mut self, entry: &Entry, source: &mut impl Contents<S>) -> Result<()> {
        let path = clean_with_warning("path", &entry.path, entry, &mut self.warnings);
        if path.is_empty() {
            return self.place_root(entry);
        }
        let (parent, name) = split_last(&path);
        if !self.rules.whiteouts {
            let dir = self
                .parent_dir(entry, parent)?
                .ok_or_else(not_a_directory)?;
            return self.place_at(entry, dir, name, source);
        }
        match classify(name) {
            Whiteout::Invalid => Err(Error::entry("a whiteout of no name, of `.` or of `..`")),
            Whiteout::No | Whiteout::Hidden => {
                let dir = self
                    .parent_dir(entry, parent)?
                    .ok_or_else(not_a_directory)?;
                self.place_at(entry, dir, name, source)
            }
            // Below what is no directory there is nothing to hide.
            Whiteout::Name(hidden) => match self.parent_dir(entry, parent)? {
                Some(dir) => self.place_whiteout(entry, dir, hidden),
                None => Ok(()),
            },
            Whiteout::Opaque => match self.parent_dir(entry, parent)? {
                Some(dir) => self.make_opaque(entry, dir),
                None => Ok(()),
            },
        }
    }

    fn place_root(&mut self, entry: &Entry) -> Result<()> {
        if entry.kind != EntryKind::Directory {
            return Err(Error::entry("the root can only be a directory"));
        }
        self.describe_dir(entry, Ino::ROOT)
    }

    /// Gives a directory what its entry says of it.
    fn describe_dir(&mut self, entry: &Entry, ino: Ino) -> Result<()> {
        self.cover_dir(ino);
        self.writer.set_implicit(ino, false);
        self.writer.disinherit(ino);
        self.describe_again(entry, ino, InodeKind::Directory)
    }

    /// Gives an inode that is there what another entry says of it.
    fn describe_again(&mut self, entry: &Entry, ino: Ino, kind: InodeKind) -> Result<()> {
        let attributes = metadata::attributes(entry, &mut self.warnings);
        let permissions = |place: &Self| place.writer.tree().node(ino).attributes.mode & 0o777;
        let before = permissions(self);
        self.writer.set_attributes(ino, attributes);
        self.set_created(entry, ino);
        let described = self.described(&Raw::of(entry), kind)?;
        if described.access == Access::Unsaid && permissions(self) != before {
            self.writer.acl_follows_mode(ino)?;
        }
        // GNU tar repeats the mode for a hard link, mask and all, and not the ACL.
        if let Some((told, left)) = self.dropped_acls.get(&ino)
            && described.access == Access::Unsaid
            && kind != InodeKind::Directory
            && permissions(self) == *told
        {
            self.writer.set_permissions(ino, *left);
        }
        self.give(ino, described)
    }

    fn set_created(&mut self, entry: &Entry, ino: Ino) {
        let created = metadata::created(entry, &mut self.warnings);
        self.writer.set_created(ino, created);
    }

    fn described(&mut self, raw: &Raw<'_>, kind: InodeKind) -> Result<Described> {
        if raw.is_empty() {
            return Ok(Described::default());
        }
        metadata::describe(raw, kind, self.rules.whiteouts, &mut self.warnings)
    }

    /// Gives an inode that has its mode attributes beside those that it has, and the mode that
    /// an access ACL implies.
    fn give(&mut self, ino: Ino, described: Described) -> Result<()> {
        match described.access {
            Access::Unsaid => {}
            Access::Absent(mode) | Access::Dropped(mode) => {
                if !self.links.is_empty() {
                    self.without_acls.insert(ino);
                }
                self.writer.remove_access_acl(ino)?;
                if let Some(mode) = mode {
                    if matches!(described.access, Access::Dropped(_)) {
                        let told = self.writer.tree().node(ino).attributes.mode & 0o777;
                        self.dropped_acls.insert(ino, (told, mode));
                    }
                    self.writer.set_permissions(ino, mode);
                }
            }
            Access::Present(mode) => self.writer.set_permissions(ino, mode),
        }
        if described.no_default {
            self.writer.remove_default_acl(ino)?;
        }
        self.writer.unite_xattrs(ino, described.set)
    }

    /// Places anything but a whiteout.
    fn place_at(
        &mut self,
        entry: &Entry,
        dir: Ino,
        name: &[u8],
        source: &mut impl Contents<S>,
    ) -> Result<()> {
        check_name(name)?;
        let mut attributes = metadata::attributes(entry, &mut self.warnings);
        let (ino, kind) = match &entry.kind {
            EntryKind::HardLink(target) => return self.place_link(entry, dir, name, target),
            EntryKind::Directory => {
                if let Some(old) = self.writer.tree().lookup(dir, name)
                    && self.writer.tree().node(old).is_dir()
                {
                    return self.describe_dir(entry, old);
                }
                (self.writer.make_dir(dir, attributes)?, InodeKind::Directory)
            }
            EntryKind::File { size } => {
                let ino = source.make_file(&mut self.writer, attributes, *size)?;
                (ino, InodeKind::File)
            }
            EntryKind::Symlink(target) => {
                attributes.mode = 0o777;
                (self.make_symlink(attributes, target)?, InodeKind::Symlink)
            }
            EntryKind::CharDevice { major: 0, minor: 0 } => {
                self.warnings.push(
                    WarningKind::DeviceZero,
                    &entry.path,
                    "a character device 0:0: overlayfs takes it for a whiteout",
                );
                let body = Body::CharDevice { major: 0, minor: 0 };
                (self.writer.make(attributes, body)?, InodeKind::Special)
            }
            EntryKind::CharDevice { major, minor } => {
                let (major, minor) = check_device(*major, *minor)?;
                let body = Body::CharDevice { major, minor };
                (self.writer.make(attributes, body)?, InodeKind::Special)
            }
            EntryKind::BlockDevice { major, minor } => {
                let (major, minor) = check_device(*major, *minor)?;
                let body = Body::BlockDevice { major, minor };
                (self.writer.make(attributes, body)?, InodeKind::Special)
            }
            EntryKind::Fifo => (
                self.writer.make(attributes, Body::Fifo)?,
                InodeKind::Special,
            ),
        };
        self.set_created(entry, ino);
        let described = self.described(&Raw::of(entry), kind)?;
        self.give(ino, described)?;
        self.insert(&entry.path, dir, name, ino)?;
        Ok(())
    }

    fn make_symlink(&mut self, attributes: Attributes, target: &[u8]) -> Result<Ino> {
        if !(1..=TARGET_MAX).contains(&target.len()) {
            return Err(Error::entry(format!(
                "a symbolic link's target of {} bytes; 1 to {TARGET_MAX} are possible",
                target.len()
            )));
        }
        let ino = self.writer.make_symlink(attributes, target)?;
        let is_long = matches!(self.writer.tree().node(ino).body, Body::Blocks { .. });
        if is_long && self.targets_size + target.len() <= TARGETS_MAX {
            self.targets_size += target.len();
            self.targets.insert(ino, target.into());
        }
        Ok(ino)
    }

    /// Gives an inode a name, and says the number of that.
    fn insert(&mut self, path: &[u8], dir: Ino, name: &[u8], ino: Ino) -> Result<u32> {
        let are_copies = self.are_copies(dir, name)?;
        let Linked {
            replaced,
            hides,
            dirent,
        } = self.writer.link(dir, name, ino)?;
        match replaced {
            Replaced::Nothing => {
                if self.rules.whiteouts && classify(name) == Whiteout::Hidden {
                    self.hidden.push((dir, name.to_vec()));
                }
            }
            Replaced::File => {}
            Replaced::Symlink => self.forget_ways()?,
            Replaced::Tree => {
                self.forget_ways()?;
                // That they are there no entry said.
                if !are_copies && !self.is_of_lower(dirent) {
                    self.warnings.push(
                        WarningKind::ReplacedTree,
                        path,
                        "replaces a directory of the same layer and all below it",
                    );
                }
            }
        }
        if hides && self.writer.tree().node(ino).is_dir() {
            self.writer.set_opaque(ino);
        }
        if let Some(merge) = &mut self.merge {
            merge.mark(dirent);
        }
        self.note_change(dir, name)?;
        Ok(dirent)
    }

    fn place_whiteout(&mut self, entry: &Entry, dir: Ino, name: &[u8]) -> Result<()> {
        check_name(name)?;
        if self.merge.is_some() {
            return self.remove_lower(entry, dir, name);
        }
        if self.rules.bottom_layer {
            return Ok(());
        }
        self.drop_copies_at(dir, name)?;
        let old = self.writer.tree().lookup(dir, name);
        match old.map(|old| (old, &self.writer.tree().node(old).body)) {
            // The layer's own inode of this name hides those below; a directory does if it is opaque.
            Some((old, Body::Directory(_))) => {
                self.writer.set_opaque(old);
                self.drop_copies_below(old)?;
                self.hide_below()?;
            }
            Some((_, body)) if !matches!(body, Body::Whiteout) => {}
            _ => {
                let mut attributes = metadata::attributes(entry, &mut self.warnings);
                let mtime = attributes.mtime;
                attributes = Attributes {
                    mtime,
                    atime: mtime,
                    ctime: mtime,
                    ..Default::default()
                };
                let ino = self.writer.make(attributes, Body::Whiteout)?;
                self.insert(&entry.path, dir, name, ino)?;
                self.hide_below()?;
            }
        }
        self.writer.set_hides(dir, name);
        Ok(())
    }

    /// The layer hides more of those below.
    fn hide_below(&mut self) -> Result<()> {
        match self.rules.lower {
            Some(_) => self.forget_ways(),
            None => Ok(()),
        }
    }

    fn make_opaque(&mut self, entry: &Entry, dir: Ino) -> Result<()> {
        if self.merge.is_some() {
            return self.remove_lower_below(dir);
        }
        if self.rules.bottom_layer {
            return Ok(());
        }
        if dir == Ino::ROOT {
            self.warnings.push(
                WarningKind::OpaqueRoot,
                &entry.path,
                "the root is marked opaque, which overlayfs does not heed",
            );
        }
        self.writer.set_opaque(dir);
        self.writer.set_dir_hides(dir);
        if dir != Ino::ROOT {
            self.drop_copies_below(dir)?;
        }
        self.hide_below()
    }

    /// Below an opaque directory nothing shows through that a whiteout could hide; the kernel
    /// would show the whiteout itself.
    fn drop_redundant_whiteouts(&mut self) {
        if !self.writer.tree().directories().any(|(_, dir)| dir.opaque) {
            return;
        }
        let mut covered = vec![false; self.writer.tree().dir_count()];
        let inos: Vec<_> = self
            .writer
            .tree()
            .directories()
            .map(|(ino, _)| ino)
            .collect();
        for ino in inos {
            let tree = self.writer.tree();
            let (Some(dir), Some(index)) = (tree.dir(ino), dir_index(tree.node(ino))) else {
                continue;
            };
            // On the root overlayfs does not heed the mark.
            let is_root = ino == Ino::ROOT;
            let parent = dir_index(tree.node(dir.parent)).is_some_and(|parent| covered[parent]);
            covered[index] = !is_root && (dir.opaque || parent);
            if covered[index] {
                let is_whiteout = |ino| matches!(tree.node(ino).body, Body::Whiteout);
                let names: Vec<_> = tree
                    .children(ino)
                    .into_iter()
                    .filter(|(_, child)| is_whiteout(*child))
                    .map(|(name, _)| name.to_vec())
                    .collect();
                names.iter().for_each(|name| self.writer.unlink(ino, name));
            }
        }
    }

    /// Settles or refuses hard links that wait, and takes away names of aufs's own.
    fn end_layer(&mut self) -> Result<()> {
        self.end_links()?;
        for (dir, name) in std::mem::take(&mut self.hidden) {
            self.writer.unlink(dir, &name);
        }
        Ok(())
    }

    fn warn_of_missing_parents(&mut self) {
        let tree = self.writer.tree();
        let kind = WarningKind::MissingParent;
        // Of one long path each directory is in the one before.
        let (mut last, mut path) = (Ino::ROOT, Vec::new());
        let mut implicit = tree.directories().filter(|(_, dir)| dir.implicit);
        while let Some((ino, _)) = implicit.next() {
            match tree.name_of_dir(ino).filter(|(parent, _)| *parent == last) {
                Some((_, name)) => {
                    if last != Ino::ROOT {
                        path.push(b'/');
                    }
                    path.extend_from_slice(name);
                }
                None => path = tree.path_of(ino),
            }
            last = ino;
            self.warnings.push(
                kind,
                &path,
                "no entry describes this directory: it is 0755, owned by 0:0",
            );
            if self.warnings.is_full(kind) {
                self.warnings.count_more(kind, implicit.count() as u64);
                return;
            }
        }
    }
}

impl<S: BlockSink> Placing for Place<'_, S> {
    type Placed = Placed<S>;

    fn entry(&mut self, entry: &Entry, source: &mut Entries<impl ChunkSource>) -> Result<()> {
        self.entries += 1;
        self.effort.earn(entry);
        self.place(entry, source)
            .and_then(|()| self.settle_links())
            .map_err(|error| metadata::in_entry(error, entry))
    }

    fn finish(mut self) -> Result<Placed<S>> {
        self.end_layer()?;
        self.drop_redundant_whiteouts();
        self.warn_of_missing_parents();
        Ok(Placed {
            counts: count(self.writer.tree(), self.entries),
            writer: self.writer,
            warnings: self.warnings,
            answers: self.answers.finalize().into(),
            asks_below: self.asks_below,
        })
    }
}

/// Counts the entries of a file system.
pub(super) fn count(tree: &Tree, tar_entries: u64) -> EntryCounts {
    let mut counts = EntryCounts {
        tar_entries,
        ..EntryCounts::default()
    };
    for (ino, node) in tree.nodes() {
        match node.body {
            Body::Blocks { .. } if node.file_type == S_IFLNK => counts.symlinks += 1,
            Body::Blocks { .. } | Body::Inline(_) => counts.files += 1,
            Body::FastSymlink(_) => counts.symlinks += 1,
            Body::CharDevice { .. } | Body::BlockDevice { .. } => counts.devices += 1,
            Body::Fifo => counts.fifos += 1,
            Body::Whiteout => counts.whiteouts += 1,
            Body::Directory(_) => {
                counts.directories += 1;
                counts.opaque_directories += u64::from(tree.dir(ino).is_some_and(|dir| dir.opaque));
                continue;
            }
            Body::PendingLink | Body::XattrValue { .. } | Body::Freed => continue,
        }
        counts.hard_links += u64::from(node.links.saturating_sub(1));
    }
    counts
}

/// The most bytes of a symbolic link's target: the kernel's PATH_MAX less the final zero.
pub(super) const TARGET_MAX: usize = 4095;

pub(super) fn check_name(name: &[u8]) -> Result<()> {
    if name.len() > NAME_MAX {
        let len = name.len();
        return Err(Error::entry(format!(
            "a name of {len} bytes; {NAME_MAX} are possible"
        )));
    }
    Ok(())
}

fn check_device(major: u32, minor: u32) -> Result<(u32, u32)> {
    if major > DEVICE_MAJOR_MAX || minor > DEVICE_MINOR_MAX {
        return Err(Error::entry(format!(
            "the device number {major}:{minor}; Linux has 12 bits and 20"
        )));
    }
    Ok((major, minor))
}

fn not_a_directory() -> Error {
    Error::entry("the path goes through something that is not a directory")
}

fn kind_of(node: &Node) -> InodeKind {
    match node.body {
        Body::Directory(_) => InodeKind::Directory,
        Body::FastSymlink(_) => InodeKind::Symlink,
        Body::Blocks { .. } if node.file_type == S_IFLNK => InodeKind::Symlink,
        Body::Blocks { .. } | Body::Inline(_) => InodeKind::File,
        _ => InodeKind::Special,
    }
}

fn dir_index(node: &Node) -> Option<usize> {
    match node.body {
        Body::Directory(index) => Some(index as usize),
        _ => None,
    }
}
