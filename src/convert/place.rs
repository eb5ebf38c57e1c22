//! Entries to names and inodes: the only place that knows both what a layer means and how
//! overlayfs spells it.

mod hard_links;

use std::collections::HashMap;
use std::sync::Arc;

use sha2::{Digest as _, Sha256};

use super::links::{Appeared, PendingLinks};
use super::metadata::{self, Access, Described, InodeKind, Raw};
use super::walk::{NAME_MAX, Walk, clean_with_warning, split_last};
use crate::error::{Error, ErrorKind, Result};
use crate::ext4::format::S_IFLNK;
use crate::ext4::inode::{Attributes, Body, DEVICE_MAJOR_MAX, DEVICE_MINOR_MAX, Node};
use crate::ext4::tree::{Ino, Linked, Replaced, Tree};
use crate::ext4::writer::{BlockSink, Writer};
use crate::layer::{ChunkSource, Entries, Entry, EntryKind, Piece, Whiteout, classify};
use crate::options::{LowerEntry, LowerLayers, LowerMetadata};
use crate::summary::{EntryCounts, WarningKind, Warnings};

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

/// The parent directory of the entry before: most entries share it with the next, or are near.
struct LastParent {
    /// As the tar spells it.
    spelled: Vec<u8>,
    ino: Ino,
    /// How much of it leads to which directory, as far as no symbolic link is on the way.
    steps: Vec<(usize, Ino)>,
}

impl LastParent {
    /// What of a path leads to a directory that is known, and to which.
    fn shared_with(&self, path: &[u8]) -> (usize, Ino) {
        let is_shared = |(end, _): &&(usize, Ino)| {
            path.get(..*end) == Some(&self.spelled[..*end])
                && path.get(*end).is_none_or(|byte| *byte == b'/')
        };
        let shared = self.steps.iter().rev().find(is_shared);
        shared.copied().unwrap_or((0, Ino::ROOT))
    }
}

/// Places entries, one after the other, in a file system.
pub(super) struct Place<'a, S> {
    writer: Writer<S>,
    rules: Rules<'a>,
    warnings: Warnings,
    links: PendingLinks,
    last_parent: Option<LastParent>,
    /// Names of aufs's own, which go in the end.
    hidden: Vec<(Ino, Vec<u8>)>,
    /// Targets of symbolic links that are too long for the inode.
    targets: HashMap<Ino, Arc<[u8]>>,
    targets_size: usize,
    /// Of inodes whose ACL was left out the permissions that their header told, and those that
    /// they have instead.
    dropped_acls: HashMap<Ino, (u16, u16)>,
    /// Everything that the lower layers answered: it shapes the bytes too.
    answers: Sha256,
    entries: u64,
    /// Directories made for want of an entry.
    implied: u64,
}

/// A way to place entries in a file system.
pub(super) trait Placing {
    /// Where blocks go.
    type Sink;

    /// Places an entry, whose contents the source gives next.
    fn entry(&mut self, entry: &Entry, source: &mut Entries<impl ChunkSource>) -> Result<()>;

    /// Ends the layer: what waited for more of it is settled or refused.
    fn finish(self) -> Result<Placed<Self::Sink>>;
}

/// What a file system holds and what the layer's other wishes were.
pub(super) struct Placed<S> {
    pub writer: Writer<S>,
    pub warnings: Warnings,
    pub counts: EntryCounts,
    pub answers: [u8; 32],
}

/// Long link targets are remembered up to so many bytes.
const TARGETS_MAX: usize = 16 << 20;

/// What is found under a name on the way.
enum Found {
    Directory(Ino),
    Symlink(Arc<[u8]>),
    /// Nothing; the lower layers may have a directory there.
    Nothing(Option<LowerMetadata>),
    /// Something that nothing can stand below.
    Other,
}

impl<'a, S: BlockSink> Place<'a, S> {
    pub(super) fn new(writer: Writer<S>, rules: Rules<'a>) -> Self {
        Self {
            writer,
            rules,
            warnings: Warnings::default(),
            links: PendingLinks::default(),
            last_parent: None,
            hidden: Vec::new(),
            targets: HashMap::new(),
            targets_size: 0,
            dropped_acls: HashMap::new(),
            answers: Sha256::new(),
            entries: 0,
            implied: 0,
        }
    }

    fn place(&mut self, entry: &Entry, source: &mut Entries<impl ChunkSource>) -> Result<()> {
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
                Some(dir) => {
                    self.make_opaque(entry, dir);
                    Ok(())
                }
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
        source: &mut Entries<impl ChunkSource>,
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
                let mut file = self.writer.begin_file(attributes, *size)?;
                while let Some(piece) = source.next_piece()? {
                    match piece {
                        Piece::Data(data) => self.writer.write(&mut file, &data)?,
                        Piece::Hole(len) => self.writer.skip(&mut file, len)?,
                    }
                }
                (self.writer.end_file(file)?, InodeKind::File)
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
        self.insert(&entry.path, dir, name, ino)
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

    /// Gives an inode a name.
    fn insert(&mut self, path: &[u8], dir: Ino, name: &[u8], ino: Ino) -> Result<()> {
        let Linked { replaced, hides } = self.writer.link(dir, name, ino)?;
        match replaced {
            Replaced::Nothing => {
                if self.rules.whiteouts && classify(name) == Whiteout::Hidden {
                    self.hidden.push((dir, name.to_vec()));
                }
            }
            Replaced::File => self.last_parent = None,
            Replaced::Tree => {
                self.last_parent = None;
                self.warnings.push(
                    WarningKind::ReplacedTree,
                    path,
                    "replaces a directory of the same layer and all below it",
                );
            }
        }
        let node = self.writer.tree().node(ino);
        let what = match node.body {
            Body::Directory(_) if hides => {
                self.writer.set_opaque(ino);
                Appeared::Directory
            }
            Body::Directory(_) => Appeared::Directory,
            Body::PendingLink | Body::Whiteout => return Ok(()),
            _ if node.file_type == S_IFLNK => Appeared::Symlink,
            _ => Appeared::Other,
        };
        self.links.appear(dir, name, what);
        Ok(())
    }

    fn place_whiteout(&mut self, entry: &Entry, dir: Ino, name: &[u8]) -> Result<()> {
        check_name(name)?;
        if self.rules.bottom_layer {
            return Ok(());
        }
        let old = self.writer.tree().lookup(dir, name);
        match old.map(|old| (old, &self.writer.tree().node(old).body)) {
            // What the layer has under the name hides the rest, a directory if it is opaque.
            Some((old, Body::Directory(_))) => self.writer.set_opaque(old),
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
            }
        }
        self.writer.set_hides(dir, name);
        Ok(())
    }

    fn make_opaque(&mut self, entry: &Entry, dir: Ino) {
        if self.rules.bottom_layer {
            return;
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
    }

    /// The directory at a clean path, made where it is missing; `None` when something else
    /// stands in the way.
    fn parent_dir(&mut self, entry: &Entry, path: &[u8]) -> Result<Option<Ino>> {
        if let Some(last) = &self.last_parent
            && last.spelled == path
        {
            return Ok(Some(last.ino));
        }
        let last = self.last_parent.take();
        let (shared, at) = last
            .as_ref()
            .map_or((0, Ino::ROOT), |last| last.shared_with(path));
        let rest = &path[shared..];
        if self.rules.whiteouts {
            let mut components = rest.split(|byte| *byte == b'/').map(classify);
            if components.any(|kind| !matches!(kind, Whiteout::No | Whiteout::Hidden)) {
                return Err(Error::entry("a whiteout has nothing below it"));
            }
        }
        let mut steps = last.map_or_else(Vec::new, |last| last.steps);
        steps.retain(|(end, _)| *end <= shared);
        let mut walk = Walk::starting(at, rest);
        let mut lasting = true;
        while let Some(name) = walk.next() {
            match self.look(walk.at, &name, &mut lasting)? {
                Found::Directory(ino) => walk.at = ino,
                Found::Symlink(target) => walk.follow(&target)?,
                Found::Nothing(lower) => {
                    walk.at = self.make_parent(entry, walk.at, &name, lower)?
                }
                Found::Other => return Ok(None),
            }
            steps.extend(walk.end().map(|end| (shared + end, walk.at)));
        }
        if lasting {
            self.last_parent = Some(LastParent {
                spelled: path.to_vec(),
                ino: walk.at,
                steps,
            });
        }
        Ok(Some(walk.at))
    }

    /// What stands under a name; `lasting` is unset when the answer may change without a
    /// name being replaced.
    fn look(&mut self, dir: Ino, name: &[u8], lasting: &mut bool) -> Result<Found> {
        let tree = self.writer.tree();
        if name == b".." {
            return Ok(Found::Directory(
                tree.dir(dir).map_or(dir, |dir| dir.parent),
            ));
        }
        let Some(ino) = tree.lookup(dir, name) else {
            return self.look_below(dir, name, lasting);
        };
        let Node {
            body, file_type, ..
        } = tree.node(ino);
        Ok(match body {
            Body::Directory(_) => Found::Directory(ino),
            Body::FastSymlink(target) => Found::Symlink(target[..].into()),
            Body::Blocks { .. } if *file_type == S_IFLNK => {
                let target = self.targets.get(&ino).ok_or_else(|| {
                    Error::limit(format!(
                        "the path goes through a symbolic link whose long target is not \
                         remembered: those of the layer take more than {TARGETS_MAX} bytes"
                    ))
                })?;
                Found::Symlink(Arc::clone(target))
            }
            Body::Whiteout => Found::Nothing(None),
            _ => Found::Other,
        })
    }

    /// What the layers below have under a name that this one has not.
    fn look_below(&mut self, dir: Ino, name: &[u8], lasting: &mut bool) -> Result<Found> {
        let tree = self.writer.tree();
        let hidden = tree.shows_nothing_below(dir);
        let Some(lower) = self.rules.lower.filter(|_| !hidden) else {
            return Ok(Found::Nothing(None));
        };
        let mut path = tree.path_of(dir);
        if !path.is_empty() {
            path.push(b'/');
        }
        path.extend_from_slice(name);
        let answer = lower.lookup(&path).map_err(|error| {
            Error::new(ErrorKind::Input, "cannot look into the layers below").with_source(error)
        })?;
        self.note_answer(&path, &answer);
        Ok(match answer {
            None => Found::Nothing(None),
            Some(LowerEntry::Directory(metadata)) => Found::Nothing(Some(metadata)),
            Some(LowerEntry::Symlink(target)) => {
                *lasting = false;
                Found::Symlink(target.into())
            }
            Some(LowerEntry::Other) => Found::Other,
        })
    }

    fn note_answer(&mut self, path: &[u8], answer: &Option<LowerEntry>) {
        let mut field = |bytes: &[u8]| {
            self.answers.update((bytes.len() as u64).to_le_bytes());
            self.answers.update(bytes);
        };
        field(path);
        match answer {
            None => field(b"none"),
            Some(LowerEntry::Other) => field(b"other"),
            Some(LowerEntry::Symlink(target)) => {
                field(b"symlink");
                field(target);
            }
            Some(LowerEntry::Directory(LowerMetadata {
                mode,
                uid,
                gid,
                mtime,
                xattrs,
            })) => {
                field(b"directory");
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
            }
        }
    }

    /// Makes a directory that no entry has described yet.
    fn make_parent(
        &mut self,
        entry: &Entry,
        dir: Ino,
        name: &[u8],
        lower: Option<LowerMetadata>,
    ) -> Result<Ino> {
        check_name(name)?;
        self.implied += 1;
        if self.entries + self.implied > self.rules.max_entries {
            return Err(Error::limit(format!(
                "more than {} entries, those for missing parents included",
                self.rules.max_entries
            ))
            .allowed_by("max-entries"));
        }
        let attributes = match &lower {
            Some(lower) => metadata::of_lower(lower),
            None => {
                let mtime = metadata::attributes(entry, &mut Warnings::default()).mtime;
                Attributes {
                    mode: 0o755,
                    mtime,
                    atime: mtime,
                    ctime: mtime,
                    ..Default::default()
                }
            }
        };
        let ino = self.writer.make_dir(dir, attributes)?;
        self.writer.set_implicit(ino, lower.is_none());
        if lower.is_none() {
            // Nothing stands there in the lower layers, or it is hidden: no need to ask
            // them about what is below, whose path may be long.
            self.writer.set_alone(ino);
        }
        if let Some(lower) = &lower {
            // As containerd does: what overlayfs trusts is never handed up.
            let handed: Vec<_> = lower
                .xattrs
                .iter()
                .filter(|(name, _)| !name.starts_with(b"trusted."))
                .cloned()
                .collect();
            let raw = Raw {
                path: &entry.path,
                xattrs: &handed,
                acl_access: None,
                acl_default: None,
            };
            let described = self.described(&raw, InodeKind::Directory)?;
            self.give(ino, described)?;
            self.writer.set_inherited(ino);
        }
        self.insert(&entry.path, dir, name, ino)?;
        Ok(ino)
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

    fn warn_of_missing_parents(&mut self) {
        let tree = self.writer.tree();
        for (ino, dir) in tree.directories() {
            if dir.implicit {
                self.warnings.push_with(
                    WarningKind::MissingParent,
                    || tree.path_of(ino),
                    "no entry describes this directory: it is 0755, owned by 0:0",
                );
            }
        }
    }
}

impl<S: BlockSink> Placing for Place<'_, S> {
    type Sink = S;

    fn entry(&mut self, entry: &Entry, source: &mut Entries<impl ChunkSource>) -> Result<()> {
        self.entries += 1;
        self.place(entry, source)
            .and_then(|()| self.settle_links())
            .map_err(|error| match error.kind() {
                // No fault of the entry, and those of the input say where they are.
                ErrorKind::Output
                | ErrorKind::StorageFull
                | ErrorKind::Cancelled
                | ErrorKind::Input => error,
                _ if error.offset().is_some() => error,
                _ => error.at_path(&entry.path).at_offset(entry.offset),
            })
    }

    fn finish(mut self) -> Result<Placed<S>> {
        self.end_links()?;
        for (dir, name) in std::mem::take(&mut self.hidden) {
            self.writer.unlink(dir, &name);
        }
        self.drop_redundant_whiteouts();
        self.warn_of_missing_parents();
        Ok(Placed {
            counts: count(self.writer.tree(), self.entries),
            writer: self.writer,
            warnings: self.warnings,
            answers: self.answers.finalize().into(),
        })
    }
}

/// What a file system holds.
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
