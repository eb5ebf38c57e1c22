//! Entries to names and inodes by hcsshim's rules, which are not those of [`place`](super::place).
//!
//! Source: hcsshim, ext4/tar2ext4 and ext4/internal/compactext4, at the commit that
//! `ext4::profile` names.

use super::metadata;
use super::place::{Placed, Placing, TARGET_MAX, check_name, count};
use super::walk::{clean_with_warning, split_last};
use crate::error::{Error, Result};
use crate::ext4::area::BlockSink;
use crate::ext4::extent::ExtentRoot;
use crate::ext4::format::{BLOCK_SIZE, EXTENT_MAX_LEN, EXTENT_NODE_MAX, I_BLOCK_SIZE, LINK_MAX};
use crate::ext4::hcsshim::{Pairs, Which, inherited, timestamp};
use crate::ext4::inode::{Attributes, Body, FAST_SYMLINK_MAX, Node, Timestamp};
use crate::ext4::tree::Ino;
use crate::ext4::writer::Writer;
use crate::ext4::xattr::{
    INDEX_ACL_ACCESS, INDEX_ACL_DEFAULT, INDEX_TRUSTED, INDEX_USER, split_name,
};
use crate::layer::{ChunkSource, Entries, Entry, EntryKind, Piece, Time};
use crate::options::Options;
use crate::summary::{WarningKind, Warnings, display_path};

/// Places entries, one after the other, as hcsshim does.
pub(super) struct Hcsshim<S> {
    writer: Writer<S>,
    whiteouts: bool,
    /// Whether errors of hcsshim are reproduced with a warning instead of refused.
    faithful: bool,
    max_entries: u64,
    warnings: Warnings,
    /// The clean path of the directory of the entry before; directories are never replaced.
    last_parent: Option<(Vec<u8>, Ino)>,
    entries: u64,
    /// Directories made for want of an entry.
    implied: u64,
}

/// The most bytes of a file: from 340 extents on hcsshim writes a node too many, which is
/// damaged.
const FILE_SIZE_MAX: u64 = (EXTENT_NODE_MAX as u64 - 1) * EXTENT_MAX_LEN as u64 * BLOCK_SIZE as u64;

const WHITEOUT_PREFIX: &[u8] = b".wh.";
const OPAQUE: &[u8] = b".wh..wh..opq";

/// The attribute that holds what inline contents have beyond the block map.
const INLINE_CONTENTS: &[u8] = b"system.data";

/// The effect of an entry on its path.
enum New<'a> {
    Directory,
    File {
        size: u64,
    },
    Symlink(&'a [u8]),
    /// A device, FIFO or whiteout.
    Special(Body),
}

/// The contents, written after the inode and its attributes.
enum Contents<'a> {
    None,
    File(u64),
    Target(&'a [u8]),
}

impl<S: BlockSink> Hcsshim<S> {
    /// A root with lost+found.
    pub(super) fn new(mut writer: Writer<S>, options: &Options) -> Result<Self> {
        let attributes = Attributes {
            mode: 0o700,
            ..Attributes::default()
        };
        let lost_and_found = writer.make_dir(Ino::ROOT, attributes)?;
        writer.link(Ino::ROOT, b"lost+found", lost_and_found)?;
        Ok(Self {
            writer,
            whiteouts: options.whiteouts,
            faithful: options.faithful,
            max_entries: options.max_entries,
            warnings: Warnings::default(),
            last_parent: None,
            entries: 0,
            implied: 0,
        })
    }

    /// Refuses what hcsshim gets wrong, or notes that it is reproduced.
    fn wrong(&mut self, entry: &Entry, why: &str) -> Result<()> {
        if !self.faithful {
            return Err(Error::entry(format!("hcsshim gets it wrong: {why}")));
        }
        self.warnings.push(WarningKind::Hcsshim, &entry.path, why);
        Ok(())
    }

    fn place(&mut self, entry: &Entry, source: &mut Entries<impl ChunkSource>) -> Result<()> {
        for why in &entry.wrong {
            self.wrong(entry, why)?;
        }
        self.warn_of_ignored(entry);
        let path = clean_with_warning("path", &entry.path, entry, &mut self.warnings);
        let (parent, name) = split_last(&path);
        let dir = self.parents(parent)?;
        let spelled = entry.path.rsplit(|byte| *byte == b'/').next();
        if self.whiteouts
            && let Some(hidden) = spelled.and_then(|name| name.strip_prefix(WHITEOUT_PREFIX))
        {
            if name == OPAQUE {
                return self.make_opaque(entry, dir);
            }
            if matches!(hidden, b"" | b"." | b"..") {
                return Err(Error::entry("a whiteout of no name, of `.` or of `..`"));
            }
            let whiteout = New::Special(Body::Whiteout);
            return self.create(entry, dir, hidden, Attributes::default(), whiteout, source);
        }
        let new = match &entry.kind {
            EntryKind::HardLink(target) => return self.link(entry, dir, name, target),
            EntryKind::Directory => New::Directory,
            EntryKind::File { size } => New::File { size: *size },
            EntryKind::Symlink(target) => New::Symlink(target),
            EntryKind::CharDevice { major, minor } => {
                let (major, minor) = (*major, *minor);
                if (major, minor) == (0, 0) {
                    self.warnings.push(
                        WarningKind::DeviceZero,
                        &entry.path,
                        "a character device 0:0: overlayfs takes it for a whiteout",
                    );
                }
                New::Special(Body::CharDevice { major, minor })
            }
            EntryKind::BlockDevice { major, minor } => New::Special(Body::BlockDevice {
                major: *major,
                minor: *minor,
            }),
            EntryKind::Fifo => New::Special(Body::Fifo),
        };
        let mut attributes = self.attributes(entry)?;
        if matches!(new, New::Symlink(_)) {
            attributes.mode |= 0o777;
        }
        self.create(entry, dir, name, attributes, new, source)
    }

    /// Mode, owner and times; those that the tar does not give are 0.
    fn attributes(&mut self, entry: &Entry) -> Result<Attributes> {
        for why in &entry.wrong_inode {
            self.wrong(entry, why)?;
        }
        let mut stored = |time: Option<Time>| -> Result<Timestamp> {
            let Some(Time { seconds, nanos }) = time else {
                return Ok(Timestamp::default());
            };
            let stored = timestamp(seconds, nanos);
            if Timestamp::new(seconds, nanos) != (stored, true) {
                let why = format!("the time of {seconds} seconds is stored as another");
                self.wrong(entry, &why)?;
            }
            Ok(stored)
        };
        Ok(Attributes {
            mode: entry.mode,
            uid: entry.uid,
            gid: entry.gid,
            atime: stored(entry.atime)?,
            ctime: stored(entry.ctime)?,
            mtime: stored(Some(entry.mtime))?,
        })
    }

    fn warn_of_ignored(&mut self, entry: &Entry) {
        for name in &entry.ignored {
            // They are sorted, and there may be many.
            let found = entry.xattrs.binary_search_by(|(other, _)| other.cmp(name));
            if found.is_err() {
                let name = display_path(name);
                let message = format!("the extended attribute {name} was left out, as by hcsshim");
                self.warnings
                    .push(WarningKind::XattrDropped, &entry.path, message);
            }
        }
    }

    /// The attributes that an entry asks for, those that hcsshim gets wrong judged.
    fn pairs(&mut self, entry: &Entry, new: &New<'_>) -> Result<Pairs> {
        for (name, _) in &entry.xattrs {
            let shown = display_path(name);
            match split_name(name) {
                None => self.wrong(entry, &format!("Linux has no place for {shown}"))?,
                Some((INDEX_ACL_ACCESS | INDEX_ACL_DEFAULT, _)) => {
                    self.wrong(
                        entry,
                        &format!("no kernel can read {shown} as it is stored"),
                    )?;
                }
                Some((INDEX_TRUSTED, _)) if self.whiteouts => {
                    let message = format!("{shown} is kept, which overlayfs may heed");
                    self.warnings
                        .push(WarningKind::Hcsshim, &entry.path, message);
                }
                Some((INDEX_USER, _)) if !matches!(new, New::File { .. } | New::Directory) => {
                    let message = format!("{shown} is kept, on which overlayfs fails to copy up");
                    self.warnings
                        .push(WarningKind::Hcsshim, &entry.path, message);
                }
                Some(_) => {}
            }
        }
        Ok(entry.xattrs.iter().cloned().collect())
    }

    /// Makes something under a name, or something else of what stands there. The root has an
    /// empty name.
    fn create(
        &mut self,
        entry: &Entry,
        dir: Ino,
        name: &[u8],
        attributes: Attributes,
        new: New<'_>,
        source: &mut Entries<impl ChunkSource>,
    ) -> Result<()> {
        let whiteout = matches!(new, New::Special(Body::Whiteout));
        let existing = self.existing(dir, name)?;
        let reused = self.reusable(existing, dir, &new)?;
        let mut pairs = match whiteout {
            true => Pairs::new(),
            false => self.pairs(entry, &new)?,
        };
        if let Some(ino) = reused {
            let old = self.writer.read_back(ino, Which::Inode);
            if old.contains_key(INLINE_CONTENTS) && !pairs.contains_key(INLINE_CONTENTS) {
                self.wrong(entry, "system.data of what it replaces stays behind")?;
            }
            for (name, value) in old {
                pairs.entry(name).or_insert(value);
            }
            self.judge_lost(entry, ino, &pairs)?;
        }
        let (mut inline, mut is_final) = (None, false);
        let mut contents = Contents::None;
        let body = match new {
            New::Directory => None,
            New::File { size } => {
                check_size(size)?;
                let is_inline = self.writer.is_inline(size);
                inline = is_inline.then(|| (size as usize).saturating_sub(I_BLOCK_SIZE));
                is_final = size > 0 && !is_inline;
                contents = Contents::File(size);
                Some(Body::Blocks {
                    root: ExtentRoot::Empty,
                    start: 0,
                })
            }
            New::Symlink(target) => {
                check_target(target)?;
                is_final = target.len() > FAST_SYMLINK_MAX;
                if is_final {
                    contents = Contents::Target(target);
                }
                let short = if is_final { &[][..] } else { target };
                Some(Body::FastSymlink(short.into()))
            }
            New::Special(body) => Some(body),
        };
        let ino = match (reused, body) {
            (Some(ino), Some(body)) => {
                self.writer.renew(ino, Node::new(attributes, body));
                ino
            }
            (Some(ino), None) => {
                self.writer.set_attributes(ino, attributes);
                self.writer.set_implicit(ino, false);
                ino
            }
            (None, Some(body)) => self.writer.make(attributes, body)?,
            (None, None) => self.writer.make_dir(dir, attributes)?,
        };
        if !self.writer.place_pairs(ino, &pairs, inline, is_final)? {
            self.wrong(
                entry,
                "the kernel does not find all extended attributes of a block",
            )?;
        }
        match contents {
            Contents::None => {}
            Contents::File(size) => {
                let mut file = self.writer.begin_contents(ino, size);
                while let Some(piece) = source.next_piece()? {
                    match piece {
                        Piece::Data(data) => self.writer.write(&mut file, &data)?,
                        Piece::Hole(len) => self.writer.skip(&mut file, len)?,
                    }
                }
                self.writer.end_file(file)?;
            }
            Contents::Target(target) => self.writer.put_target(ino, target)?,
        }
        if reused.is_none() {
            self.writer.link(dir, name, ino)?;
        }
        Ok(())
    }

    /// Looks a name up.
    fn existing(&self, dir: Ino, name: &[u8]) -> Result<Option<Ino>> {
        if name.is_empty() {
            return Ok(Some(Ino::ROOT));
        }
        check_name(name)?;
        Ok(self.writer.tree().lookup(dir, name))
    }

    /// The inode that goes on under another description, if there is one.
    fn reusable(&self, existing: Option<Ino>, dir: Ino, new: &New<'_>) -> Result<Option<Ino>> {
        let refused = |why: &str| Err(Error::entry(format!("hcsshim refuses it: {why}")));
        let tree = self.writer.tree();
        let is_dir = matches!(new, New::Directory);
        let Some(old) = existing else {
            // Directories count their subdirectories, themselves and their parent.
            if is_dir && tree.node(dir).links + 2 >= LINK_MAX {
                return refused("too many subdirectories");
            }
            return Ok(None);
        };
        let node = tree.node(old);
        match (node.is_dir(), is_dir) {
            (true, true) => Ok(Some(old)),
            (true, false) => refused("a directory is replaced by something else"),
            (false, true) => refused("a directory replaces something else"),
            (false, false) if node.links >= 2 => Ok(None),
            (false, false) => match node.body {
                Body::Blocks {
                    root: ExtentRoot::Empty,
                    ..
                } => Ok(Some(old)),
                Body::Blocks { .. } => refused("a file with contents is replaced"),
                _ => Ok(Some(old)),
            },
        }
    }

    /// Attributes that an inode has and that another entry of its path makes hcsshim forget.
    fn judge_lost(&mut self, entry: &Entry, ino: Ino, pairs: &Pairs) -> Result<()> {
        let names = self.writer.names_in_block(ino);
        match names.iter().find(|name| !pairs.contains_key(*name)) {
            None => Ok(()),
            Some(name) => {
                let name = display_path(name);
                self.wrong(
                    entry,
                    &format!("the extended attribute {name} is forgotten"),
                )
            }
        }
    }

    fn make_opaque(&mut self, entry: &Entry, dir: Ino) -> Result<()> {
        if dir == Ino::ROOT {
            self.warnings.push(
                WarningKind::OpaqueRoot,
                &entry.path,
                "the root is marked opaque, which overlayfs does not heed",
            );
        }
        let mut pairs = self.writer.read_back(dir, Which::All);
        pairs.insert(b"trusted.overlay.opaque".to_vec(), b"y".to_vec());
        for (name, value) in self.writer.read_back(dir, Which::Inode) {
            pairs.entry(name).or_insert(value);
        }
        self.judge_lost(entry, dir, &pairs)?;
        let attributes = read_again(self.writer.tree().node(dir).attributes);
        self.writer.set_attributes(dir, attributes);
        self.writer.set_implicit(dir, false);
        self.writer.set_opaque(dir);
        if !self.writer.place_pairs(dir, &pairs, None, false)? {
            self.wrong(
                entry,
                "the kernel does not find all extended attributes of a block",
            )?;
        }
        Ok(())
    }

    /// Gives what stands at a path another name.
    fn link(&mut self, entry: &Entry, dir: Ino, name: &[u8], target: &[u8]) -> Result<()> {
        let what = "target of the hard link";
        let target = clean_with_warning(what, target, entry, &mut self.warnings);
        let tree = self.writer.tree();
        let existing = self.existing(dir, name)?;
        let alone = |ino| tree.node(ino).is_dir() || tree.node(ino).links < 2;
        if existing.is_some_and(alone) {
            return Err(Error::entry(
                "hcsshim refuses it: a hard link replaces the last name of something",
            ));
        }
        let mut found = Ino::ROOT;
        for component in target.split(|byte| *byte == b'/') {
            found = tree.lookup(found, component).ok_or_else(|| {
                Error::entry(format!(
                    "a hard link to {}, which is not there yet",
                    display_path(&target)
                ))
            })?;
        }
        if tree.node(found).is_dir() {
            return Err(Error::entry("a hard link to a directory"));
        }
        self.writer.link(dir, name, found)?;
        Ok(())
    }

    /// The directory at a clean path; those that are missing are made like their parents.
    fn parents(&mut self, path: &[u8]) -> Result<Ino> {
        if path.is_empty() {
            return Ok(Ino::ROOT);
        }
        if let Some((last, ino)) = &self.last_parent
            && last == path
        {
            return Ok(*ino);
        }
        let mut at = Ino::ROOT;
        for name in path.split(|byte| *byte == b'/') {
            at = match self.writer.tree().lookup(at, name) {
                Some(ino) if self.writer.tree().node(ino).is_dir() => ino,
                Some(_) => {
                    return Err(Error::entry(
                        "the path goes through something that is not a directory",
                    ));
                }
                None => self.make_parent(at, name)?,
            };
        }
        self.last_parent = Some((path.to_vec(), at));
        Ok(at)
    }

    fn make_parent(&mut self, dir: Ino, name: &[u8]) -> Result<Ino> {
        check_name(name)?;
        self.reusable(None, dir, &New::Directory)?;
        self.implied += 1;
        if self.entries + self.implied > self.max_entries {
            return Err(Error::limit(format!(
                "more than {} entries, those for missing parents included",
                self.max_entries
            ))
            .allowed_by("max-entries"));
        }
        let attributes = read_again(self.writer.tree().node(dir).attributes);
        let ino = self.writer.make_dir(dir, attributes)?;
        self.writer.set_implicit(ino, true);
        self.writer.link(dir, name, ino)?;
        Ok(ino)
    }

    fn warn_of_missing_parents(&mut self) {
        let tree = self.writer.tree();
        for (ino, dir) in tree.directories() {
            if dir.implicit {
                self.warnings.push_with(
                    WarningKind::MissingParent,
                    || tree.path_of(ino),
                    "no entry describes this directory: it is like its parent",
                );
            }
        }
    }
}

impl<S: BlockSink> Placing for Hcsshim<S> {
    type Placed = Placed<S>;

    fn entry(&mut self, entry: &Entry, source: &mut Entries<impl ChunkSource>) -> Result<()> {
        self.entries += 1;
        self.place(entry, source)
            .map_err(|error| metadata::in_entry(error, entry))
    }

    fn finish(mut self) -> Result<Placed<S>> {
        self.warn_of_missing_parents();
        Ok(Placed {
            counts: count(self.writer.tree(), self.entries),
            writer: self.writer,
            warnings: self.warnings,
            answers: [0; 32],
            asks_below: false,
        })
    }
}

/// Attributes of a directory as hcsshim reads them and stores them again.
fn read_again(attributes: Attributes) -> Attributes {
    Attributes {
        atime: inherited(attributes.atime),
        ctime: inherited(attributes.ctime),
        mtime: inherited(attributes.mtime),
        ..attributes
    }
}

/// hcsshim makes damaged file systems of larger ones, so they are refused always.
fn check_size(size: u64) -> Result<()> {
    if size > FILE_SIZE_MAX {
        return Err(Error::limit(format!(
            "a file of {size} bytes, of which hcsshim makes a damaged one; {FILE_SIZE_MAX} are \
             possible"
        )));
    }
    Ok(())
}

/// See [`check_size`].
fn check_target(target: &[u8]) -> Result<()> {
    if !(1..=TARGET_MAX).contains(&target.len()) {
        return Err(Error::entry(format!(
            "a symbolic link's target of {} bytes, of which hcsshim makes a damaged one; 1 to \
             {TARGET_MAX} are possible",
            target.len()
        )));
    }
    Ok(())
}
