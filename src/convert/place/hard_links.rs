//! Hard links: bound to what stands at their target, now or when something appears there.

use super::super::links::{self, Target, Waiting};
use super::super::metadata::{Access, Raw};
use super::super::walk::{clean, clean_with_warning, split_last};
use super::resolve::{Found, Led};
use super::{Place, kind_of};
use crate::error::{Error, Result};
use crate::ext4::area::BlockSink;
use crate::ext4::inode::{Attributes, Body};
use crate::ext4::tree::Ino;
use crate::ext4::xattr::INDEX_ACL_ACCESS;
use crate::layer::Entry;
use crate::summary::display_path;

/// The most bytes of extended attributes of links that wait.
const ATTRIBUTES_MAX: usize = 16 << 20;

impl<S: BlockSink> Place<'_, S> {
    /// Gives the target of a hard link another name, now or as soon as there is a target.
    pub(super) fn place_link(
        &mut self,
        entry: &Entry,
        dir: Ino,
        name: &[u8],
        target: &[u8],
    ) -> Result<()> {
        let what = "target of the hard link";
        let target = clean_with_warning(what, target, entry, &mut self.warnings);
        if target.is_empty() {
            return Err(link_to_directory(&target));
        }
        let standing = match self.target_of_link(&target)? {
            Some(ino) => Some(ino),
            None => self.copy_up(&target)?,
        };
        let old = self.writer.tree().lookup(dir, name);
        let is_waiting = |ino: Ino| matches!(self.writer.tree().node(ino).body, Body::PendingLink);
        let is_itself = match standing {
            Some(ino) => old == Some(ino),
            // A link that waits goes on waiting for its own target.
            None => old.is_some_and(is_waiting),
        };
        if is_itself && clean(&entry.path) == target {
            return Ok(());
        }
        if let Some(ino) = standing {
            let kind = kind_of(self.writer.tree().node(ino));
            self.describe_again(entry, ino, kind)?;
            self.insert(&entry.path, dir, name, ino)?;
            return Ok(());
        }
        let placeholder = self.writer.make(Attributes::default(), Body::PendingLink)?;
        let dirent = self.insert(&entry.path, dir, name, placeholder)?;
        let raw = Raw::of(entry);
        let attributes = (!raw.is_empty()).then(|| {
            Box::new(links::Attributes {
                mode: entry.mode,
                xattrs: entry.xattrs.clone(),
                acl_access: entry.acl_access.clone(),
                acl_default: entry.acl_default.clone(),
            })
        });
        let waiting = Waiting {
            offset: entry.offset,
            attributes,
            dir,
            dirent,
            placeholder,
        };
        let way = self.links.add(&target, waiting);
        if self.links.attributes() > ATTRIBUTES_MAX {
            return Err(Error::limit(
                "the extended attributes of hard links before their targets take too much memory",
            ));
        }
        self.check_entries()?;
        for target in way {
            // Where the path leads so far. Links that waited before wait for something else.
            if self.links.dir_of(target).is_none() {
                break;
            }
            if !self.links.is_active(target) {
                self.find_again(target, &mut Vec::new(), false)?;
            }
        }
        Ok(())
    }

    /// Looks up the target of a hard link.
    fn target_of_link(&mut self, target: &[u8]) -> Result<Option<Ino>> {
        let (dir, name) = split_last(target);
        let Led::To(dir) = self.lead(Ino::ROOT, dir)? else {
            return Ok(None);
        };
        let tree = self.writer.tree();
        match tree
            .lookup(dir, name)
            .map(|ino| (ino, &tree.node(ino).body))
        {
            Some((_, Body::Directory(_))) => Err(link_to_directory(target)),
            None | Some((_, Body::Whiteout | Body::PendingLink)) => Ok(None),
            Some((ino, _)) => Ok(Some(ino)),
        }
    }

    /// Binds the links whose target has appeared: in turns, because a link that is bound may
    /// be the target of others or on the way to them. Of one turn the last entry counts first.
    pub(super) fn settle_links(&mut self) -> Result<()> {
        let mut found = Vec::new();
        loop {
            while let Some(target) = self.links.pop_changed() {
                self.effort.spend(1)?;
                self.find_again(target, &mut found, true)?;
            }
            if found.is_empty() {
                return Ok(());
            }
            found.sort_unstable_by_key(|(waiting, _): &(Waiting, Ino)| waiting.offset);
            while let Some((waiting, ino)) = found.pop() {
                self.bind_link(&waiting, ino)
                    .map_err(|error| self.at_link(error, &waiting))?;
            }
        }
    }

    /// Looks for a target in the directory that its parent leads to: links that wait for what
    /// is found there are found, and what they wait for below it is looked up again.
    fn find_again(
        &mut self,
        target: Target,
        found: &mut Vec<(Waiting, Ino)>,
        with_children: bool,
    ) -> Result<()> {
        if !self.links.is_live(target) {
            return Ok(());
        }
        self.links.clear(target);
        let Some(dir) = self.links.dir_of(target) else {
            return Ok(());
        };
        let name: Box<[u8]> = self.links.name(target).into();
        let tree = self.writer.tree();
        let standing = tree.lookup(dir, &name);
        if self.links.children_count(target) > 0 {
            let at = match self.look(dir, &name)? {
                Found::Directory(ino) => Some(ino),
                Found::Symlink(..) | Found::Followed(..) => {
                    self.links.follow(target);
                    match self.lead(dir, &name)? {
                        Led::To(ino) => Some(ino),
                        Led::UpTo(dir, name) => {
                            let again = self.links.miss(target, dir, &name);
                            self.effort.spend(again)?;
                            None
                        }
                        Led::Nowhere => None,
                    }
                }
                Found::Nothing(_) | Found::Other => None,
            };
            if let Some(at) = at {
                self.links.lead(target, at);
                if with_children {
                    self.look_below_target(target, at)?;
                }
            }
        }
        if with_children && self.rules.lower.is_some() && self.links.children_count(target) > 0 {
            self.copy_targets_below(target)?;
        }
        let tree = self.writer.tree();
        match standing.map(|ino| (ino, &tree.node(ino).body)) {
            None | Some((_, Body::Whiteout | Body::PendingLink)) => Ok(()),
            Some((_, Body::Directory(_))) => {
                let mut waiting = self.links.waiting(target);
                match waiting.find(|waiting| self.is_waiting(waiting)) {
                    Some(waiting) => {
                        let error = link_to_directory(&self.links.path(target));
                        Err(self.at_link(error, waiting))
                    }
                    None => Ok(()),
                }
            }
            Some((ino, _)) => {
                for waiting in self.links.take(target) {
                    if self.is_waiting(&waiting) {
                        found.push((waiting, ino));
                    }
                }
                Ok(())
            }
        }
    }

    /// Looks again for what is waited for below a target that now leads to a directory.
    fn look_below_target(&mut self, target: Target, dir: Ino) -> Result<()> {
        let children = self.links.children_count(target);
        let names = self.writer.tree().names_given(dir);
        self.effort.spend(children.min(names) as usize)?;
        if names == 0 {
            return Ok(());
        }
        let again = if children <= names {
            self.links.children(target)
        } else {
            let names = self.writer.tree().children(dir).into_iter();
            names
                .filter_map(|(name, _)| self.links.child(target, name))
                .collect()
        };
        again
            .into_iter()
            .for_each(|child| self.links.look_again(child));
        Ok(())
    }

    /// Copies what the layers below have of what is waited for below a target that may lead
    /// elsewhere now. That the copies appear lets their links be found.
    fn copy_targets_below(&mut self, target: Target) -> Result<()> {
        let mut todo = self.links.children(target);
        while let Some(target) = todo.pop() {
            self.effort.spend(1)?;
            let is_waited_for = self
                .links
                .waiting(target)
                .any(|waiting| self.is_waiting(waiting));
            if is_waited_for {
                let path = self.links.path(target);
                self.copy_up(&path)?;
            }
            todo.extend(self.links.children(target));
        }
        Ok(())
    }

    /// Whether a link was not replaced meanwhile.
    fn is_waiting(&self, waiting: &Waiting) -> bool {
        self.writer.tree().named(waiting.dirent).1 == waiting.placeholder
    }

    /// Gives a target that appeared after its link the link's name. Its own header came last:
    /// mode, owner, times and attributes stay.
    fn bind_link(&mut self, waiting: &Waiting, ino: Ino) -> Result<()> {
        if let Some(attributes) = &waiting.attributes {
            let path = self.path_of_link(waiting);
            let raw = Raw {
                path: &path,
                xattrs: &attributes.xattrs,
                acl_access: attributes.acl_access.as_deref(),
                acl_default: attributes.acl_default.as_deref(),
            };
            let node = self.writer.tree().node(ino);
            let (kind, mode) = (kind_of(node), node.attributes.mode);
            let mut described = self.described(&raw, kind)?;
            described.follow(mode);
            if self.without_acls.contains(&ino) {
                // As setxattr of such an ACL removes the one that the link brought.
                described.set.remove(INDEX_ACL_ACCESS, b"");
            } else if let Access::Dropped(Some(left)) = described.access
                && (mode ^ attributes.mode) & 0o777 == 0
            {
                self.writer.set_permissions(ino, left);
            }
            self.writer.add_missing_xattrs(ino, described.set)?;
        }
        let name = self.writer.tree().named(waiting.dirent).0.to_vec();
        self.insert(b"", waiting.dir, &name, ino)?;
        Ok(())
    }

    fn path_of_link(&self, waiting: &Waiting) -> Vec<u8> {
        let tree = self.writer.tree();
        let (name, _) = tree.named(waiting.dirent);
        let mut path = tree.path_of(waiting.dir);
        if !path.is_empty() {
            path.push(b'/');
        }
        path.extend_from_slice(name);
        path
    }

    /// Says that the fault is a link's that waited.
    fn at_link(&self, error: Error, waiting: &Waiting) -> Error {
        error
            .at_path(&self.path_of_link(waiting))
            .at_offset(waiting.offset)
    }

    /// Refuses what still waits.
    pub(super) fn end_links(&mut self) -> Result<()> {
        let left = self.links.all();
        let left = left.filter(|(_, waiting)| self.is_waiting(waiting));
        let Some((target, waiting)) = left.min_by_key(|(_, waiting)| waiting.offset) else {
            return Ok(());
        };
        let path = self.links.path(target);
        let path = display_path(&path);
        let error = match self.rules.lower.is_some() || self.merge.is_some() {
            true => Error::entry(format!(
                "a hard link to {path}, which is neither in the layer nor in those below"
            )),
            false => Error::entry(format!("a hard link to {path}, which is not in the layer"))
                .allowed_by("lower"),
        };
        Err(self.at_link(error, waiting))
    }
}

pub(super) fn link_to_directory(target: &[u8]) -> Error {
    Error::entry(format!(
        "a hard link to {}, which is a directory",
        display_path(target)
    ))
}
