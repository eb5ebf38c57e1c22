//! Where paths lead: through directories and symbolic links of the layer and of those below.

use std::sync::Arc;

use super::super::metadata::InodeKind;
use super::super::metadata::{self, Raw};
use super::super::walk::{Link, Step, Walk, Way};
use super::ways::{Effort, LastParent};
use super::{Place, check_name};
use crate::error::{Error, ErrorKind, Result};
use crate::ext4::area::BlockSink;
use crate::ext4::format::S_IFLNK;
use crate::ext4::inode::{Attributes, Body, Node, Timestamp};
use crate::ext4::tree::Ino;
use crate::layer::{Entry, Whiteout, classify};
use crate::lower::{LowerEntry, LowerKind, LowerMetadata};
use crate::summary::Warnings;

/// The outcome of looking up one name of a path.
pub(super) enum Found {
    Directory(Ino),
    Symlink(Link, Arc<[u8]>),
    /// A symbolic link that was followed before, where it led, and what that took.
    Followed(Ino, Way),
    /// This layer has no such name; the lower layers may have a directory there.
    Nothing(Option<LowerMetadata>),
    /// An inode that cannot have anything below it.
    Other,
}

/// Where a path leads on which nothing is made.
pub(super) enum Led {
    To(Ino),
    /// Up to a directory that has nothing, or no directory, of this name.
    UpTo(Ino, Box<[u8]>),
    /// Through more symbolic links than are followed.
    Nowhere,
}

pub(super) fn cannot_look(error: std::io::Error) -> Error {
    Error::new(ErrorKind::Input, "cannot look into the layers below").with_source(error)
}

impl<S: BlockSink> Place<'_, S> {
    /// The directory at a clean path, made where it is missing; `None` when something else
    /// stands in the way.
    pub(super) fn parent_dir(&mut self, entry: &Entry, path: &[u8]) -> Result<Option<Ino>> {
        if let Some(last) = &self.last_parent
            && last.spelled == path
        {
            return Ok(Some(last.ino));
        }
        let last = self.last_parent.take();
        let count = last.as_ref().map_or(0, |last| last.shared_with(path));
        let mut steps = last.map_or_else(Vec::new, |last| last.steps);
        steps.truncate(count);
        let (shared, at) = steps.last().copied().unwrap_or((0, Ino::ROOT));
        let rest = &path[shared..];
        if self.rules.whiteouts && memchr::memmem::find(rest, b".wh.").is_some() {
            let mut components = rest.split(|byte| *byte == b'/').map(classify);
            if components.any(|kind| !matches!(kind, Whiteout::No | Whiteout::Hidden)) {
                return Err(Error::entry("a whiteout has nothing below it"));
            }
        }
        let mut walk = Walk::starting(at, rest);
        let mut mtime = None;
        let mut is_new = false;
        while let Some(step) = walk.next() {
            let name = match step {
                Step::Name(name) => name,
                Step::Through(link, way) => {
                    self.ways.learn(link, walk.at, way);
                    continue;
                }
            };
            // A directory that was just made for the previous name is empty.
            let is_missing = is_new && self.rules.lower.is_none() && &name[..] != b"..";
            is_new = false;
            let found = match is_missing {
                true => Found::Nothing(None),
                false => self.look(walk.at, &name)?,
            };
            match found {
                Found::Directory(ino) => walk.at = ino,
                Found::Symlink(link, target) => self.follow(&mut walk, link, &target)?,
                Found::Followed(at, way) => walk.jump(at, way)?,
                Found::Nothing(lower) => {
                    let mtime = *mtime.get_or_insert_with(|| {
                        metadata::attributes(entry, &mut Warnings::default()).mtime
                    });
                    if walk.is_in_link() {
                        self.effort.spend(Effort::MADE)?;
                    }
                    walk.at = self.make_parent(&entry.path, mtime, walk.at, &name, lower)?;
                    is_new = true;
                }
                Found::Other => return Ok(None),
            }
            steps.extend(walk.end().map(|end| (shared + end, walk.at)));
        }
        self.last_parent = Some(LastParent {
            spelled: path.to_vec(),
            ino: walk.at,
            steps,
        });
        Ok(Some(walk.at))
    }

    pub(super) fn follow(&mut self, walk: &mut Walk, link: Link, target: &[u8]) -> Result<()> {
        let steps = walk.follow(link, target)?;
        self.effort.spend(steps as usize + target.len() / 64)
    }

    /// Follows a path without making anything.
    pub(super) fn lead(&mut self, at: Ino, path: &[u8]) -> Result<Led> {
        let mut walk = Walk::starting(at, path);
        while let Some(step) = walk.next() {
            let name = match step {
                Step::Name(name) => name,
                Step::Through(link, way) => {
                    self.ways.learn(link, walk.at, way);
                    continue;
                }
            };
            let through = match self.look(walk.at, &name)? {
                Found::Directory(ino) => {
                    walk.at = ino;
                    continue;
                }
                Found::Symlink(link, target) => self.follow(&mut walk, link, &target),
                Found::Followed(at, way) => walk.jump(at, way),
                Found::Nothing(_) | Found::Other => {
                    return Ok(Led::UpTo(walk.at, name[..].into()));
                }
            };
            match through {
                Ok(()) => {}
                Err(error) if error.kind() == ErrorKind::Entry => return Ok(Led::Nowhere),
                Err(error) => return Err(error),
            }
        }
        Ok(Led::To(walk.at))
    }

    /// Looks a name up in a directory.
    pub(super) fn look(&mut self, dir: Ino, name: &[u8]) -> Result<Found> {
        let tree = self.writer.tree();
        if name == b".." {
            return Ok(Found::Directory(
                tree.dir(dir).map_or(dir, |dir| dir.parent),
            ));
        }
        let Some(ino) = tree.lookup(dir, name) else {
            return self.look_below(dir, name);
        };
        let Node {
            body, file_type, ..
        } = tree.node(ino);
        let link = Link::Here(dir, ino);
        Ok(match body {
            Body::Directory(_) => Found::Directory(ino),
            Body::FastSymlink(_) | Body::Blocks { .. } if *file_type == S_IFLNK => {
                match (self.ways.find(&link), body) {
                    (Some((at, way)), _) => Found::Followed(at, way),
                    (None, Body::FastSymlink(target)) => Found::Symlink(link, target[..].into()),
                    (None, _) => Found::Symlink(link, self.long_target(ino)?),
                }
            }
            Body::Whiteout => Found::Nothing(None),
            _ => Found::Other,
        })
    }

    /// The target of a symbolic link that is too long for the inode.
    fn long_target(&self, ino: Ino) -> Result<Arc<[u8]>> {
        let target = self.targets.get(&ino).ok_or_else(|| {
            Error::limit(format!(
                "the path goes through a symbolic link whose long target is not remembered: \
                 those of the layer take more than {} bytes",
                super::TARGETS_MAX
            ))
        })?;
        Ok(Arc::clone(target))
    }

    /// Looks a name up in the layers below, where this one does not have it.
    fn look_below(&mut self, dir: Ino, name: &[u8]) -> Result<Found> {
        if self.rules.lower.is_none() {
            self.asks_below = self.asks_below || !self.writer.tree().is_hidden_below(dir);
            return Ok(Found::Nothing(None));
        }
        let link = Link::Below(dir, name.into());
        if let Some((at, way)) = self.ways.find(&link) {
            return Ok(Found::Followed(at, way));
        }
        let answer = self.ask_below(dir, &[], name)?;
        Ok(
            match answer.map(|(entry, _)| (entry.kind, entry.metadata)) {
                None => Found::Nothing(None),
                Some((LowerKind::Directory, metadata)) => Found::Nothing(Some(metadata)),
                Some((LowerKind::Symlink(target), _)) => {
                    self.ways.below.insert((dir, name.into()));
                    Found::Symlink(link, target.into())
                }
                Some(_) => Found::Other,
            },
        )
    }

    /// Asks the layers below for a name that is not in this one: in a directory of this layer, or
    /// further down in directories that only they have. Returns the entry and its path.
    pub(super) fn ask_below(
        &mut self,
        dir: Ino,
        names: &[Box<[u8]>],
        name: &[u8],
    ) -> Result<Option<(LowerEntry, Vec<u8>)>> {
        let tree = self.writer.tree();
        let Some(lower) = self.rules.lower.filter(|_| !tree.is_hidden_below(dir)) else {
            return Ok(None);
        };
        self.asks_below = true;
        let mut path = tree.path_of(dir);
        for name in names.iter().map(|name| &name[..]).chain([name]) {
            if !path.is_empty() {
                path.push(b'/');
            }
            path.extend_from_slice(name);
        }
        let depth = memchr::memchr_iter(b'/', &path).count();
        self.effort.spend(1 + depth)?;
        let answer = lower.lookup(&path).map_err(cannot_look)?;
        self.note_answer(&path, &answer);
        Ok(answer.map(|entry| (entry, path)))
    }

    /// Makes a directory that no entry has described yet.
    pub(super) fn make_parent(
        &mut self,
        path: &[u8],
        mtime: Timestamp,
        dir: Ino,
        name: &[u8],
        lower: Option<LowerMetadata>,
    ) -> Result<Ino> {
        check_name(name)?;
        self.implied += 1;
        self.check_entries()?;
        let attributes = match &lower {
            Some(lower) => metadata::of_lower(lower),
            None => Attributes {
                mode: 0o755,
                mtime,
                atime: mtime,
                ctime: mtime,
                ..Default::default()
            },
        };
        let ino = self.writer.make_dir(dir, attributes)?;
        match &lower {
            // The lower layers have no directory there, or it is hidden: they need not be asked
            // about the names below it, whose paths may be long.
            None => self.writer.set_implicit_and_alone(ino),
            Some(lower) => {
                self.hand_up(path, ino, InodeKind::Directory, lower)?;
                self.writer.set_inherited(ino);
            }
        }
        self.insert(path, dir, name, ino)?;
        Ok(ino)
    }

    /// Gives an inode the extended attributes of the layers below. As containerd does: what
    /// overlayfs trusts is never handed up.
    pub(super) fn hand_up(
        &mut self,
        path: &[u8],
        ino: Ino,
        kind: InodeKind,
        lower: &LowerMetadata,
    ) -> Result<()> {
        let handed = lower.xattrs.iter();
        let handed: Vec<_> = handed
            .filter(|(name, _)| !name.starts_with(b"trusted."))
            .cloned()
            .collect();
        let raw = Raw {
            path,
            xattrs: &handed,
            acl_access: None,
            acl_default: None,
        };
        let described = self.described(&raw, kind)?;
        self.give(ino, described)
    }

    /// Refuses more entries than there may be, with directories that no entry describes and
    /// those that hard links wait for.
    pub(super) fn check_entries(&self) -> Result<()> {
        let waited_for = self.links.inner_count() as u64;
        if self.entries + self.implied + waited_for > self.rules.max_entries {
            return Err(Error::limit(format!(
                "more than {} entries, those for missing parents included",
                self.rules.max_entries
            ))
            .allowed_by("max-entries"));
        }
        Ok(())
    }

    /// A directory or a symbolic link went, or the layer hides more of those below: what is
    /// remembered of ways may lead elsewhere now.
    pub(super) fn forget_ways(&mut self) -> Result<()> {
        self.last_parent = None;
        self.ways.forget();
        let again = self.links.follow_again();
        self.effort.spend(again)
    }

    /// A name stands for something else than before.
    pub(super) fn note_change(&mut self, dir: Ino, name: &[u8]) -> Result<()> {
        if !self.ways.below.is_empty() && self.ways.below.contains(&(dir, Arc::from(name))) {
            self.forget_ways()?;
        }
        if !self.links.is_empty() {
            let leading = self.links.change(dir, name);
            self.effort.spend(leading.saturating_sub(1))?;
        }
        Ok(())
    }
}
