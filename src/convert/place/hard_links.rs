//! Hard links: bound to what stands at their target, now or when something appears there.

use super::super::links::{Halt, Pending, Waiter};
use super::super::metadata::{Access, Raw};
use super::super::walk::{Walk, clean, clean_with_warning, split_last};
use super::{Found, Place, kind_of};
use crate::error::{Error, Result};
use crate::ext4::inode::{Attributes, Body};
use crate::ext4::tree::Ino;
use crate::ext4::writer::BlockSink;
use crate::layer::{Entry, EntryKind};
use crate::summary::display_path;

/// How a search for the target of a hard link ends.
enum Search {
    Found(Ino),
    Halted(Halt),
}

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
        let (target_dir, target_name) = split_last(&target);
        if target_name.is_empty() {
            return Err(link_to_directory(&target));
        }
        match self.search(Walk::new(target_dir), target_name)? {
            Search::Found(ino) => {
                let is_itself = self.writer.tree().lookup(dir, name) == Some(ino)
                    && clean(&entry.path) == target;
                if is_itself {
                    return Ok(());
                }
                let kind = kind_of(self.writer.tree().node(ino));
                self.describe_again(entry, ino, kind)?;
                self.insert(&entry.path, dir, name, ino)
            }
            Search::Halted(halt) => {
                self.links.account(entry, &target)?;
                let link = self.links.next_number();
                let body = Body::PendingLink;
                let placeholder = self.writer.make(Attributes::default(), body)?;
                self.links.push(Pending {
                    placeholder,
                    parent: dir,
                    name: name.into(),
                    target_dir: target_dir.into(),
                    target_name: target_name.into(),
                    entry: entry.clone(),
                });
                self.links.wait(link, halt);
                self.insert(&entry.path, dir, name, placeholder)
            }
        }
    }

    /// Looks for the target of a hard link without making anything.
    fn search(&mut self, mut walk: Walk, name: &[u8]) -> Result<Search> {
        while let Some(component) = walk.next() {
            match self.look(walk.at, &component, &mut false)? {
                Found::Directory(ino) => walk.at = ino,
                Found::Symlink(target) => walk.follow(&target)?,
                Found::Nothing(_) | Found::Other => {
                    let dir = walk.at;
                    return Ok(Search::Halted(Halt {
                        walk,
                        dir,
                        component: Some(component),
                    }));
                }
            }
        }
        let tree = self.writer.tree();
        match tree
            .lookup(walk.at, name)
            .map(|ino| (ino, &tree.node(ino).body))
        {
            Some((_, Body::Directory(_))) => Err(link_to_directory(name)),
            None | Some((_, Body::Whiteout | Body::PendingLink)) => {
                let dir = walk.at;
                Ok(Search::Halted(Halt {
                    walk,
                    dir,
                    component: None,
                }))
            }
            Some((ino, _)) => Ok(Search::Found(ino)),
        }
    }

    /// Lets the links go on that waited for what appeared.
    pub(super) fn settle_links(&mut self) -> Result<()> {
        while let Some(Waiter { link, walk }) = self.links.pop_appeared() {
            self.resume_link(link, walk)?;
        }
        Ok(())
    }

    fn resume_link(&mut self, link: usize, walk: Walk) -> Result<()> {
        let Some(pending) = self.links.get(link) else {
            return Ok(());
        };
        let (dir, name) = (pending.parent, pending.name.clone());
        if self.writer.tree().lookup(dir, &name) != Some(pending.placeholder) {
            self.links.take(link);
            return Ok(());
        }
        let target_name = pending.target_name.clone();
        let (path, offset) = (pending.entry.path.clone(), pending.entry.offset);
        let at_link = |error: Error| error.at_path(&path).at_offset(offset);
        match self.search(walk, &target_name).map_err(at_link)? {
            Search::Halted(halt) => {
                self.links.wait(link, halt);
                Ok(())
            }
            Search::Found(ino) => {
                let Some(pending) = self.links.take(link) else {
                    return Ok(());
                };
                self.bind_link(&pending, ino).map_err(at_link)
            }
        }
    }

    /// Gives a target that appeared after its link the link's name. Its own header came last:
    /// mode, owner, times and attributes stay.
    fn bind_link(&mut self, pending: &Pending, ino: Ino) -> Result<()> {
        let raw = Raw::of(&pending.entry);
        if !raw.is_empty() {
            let node = self.writer.tree().node(ino);
            let (kind, mode) = (kind_of(node), node.attributes.mode);
            let mut described = self.described(&raw, kind)?;
            described.follow(mode);
            if let Access::Dropped(Some(left)) = described.access
                && (mode ^ pending.entry.mode) & 0o777 == 0
            {
                self.writer.set_permissions(ino, left);
            }
            self.writer.add_missing_xattrs(ino, described.set)?;
        }
        self.insert(&pending.entry.path, pending.parent, &pending.name, ino)
    }

    /// Settles what waited for more of the layer, or refuses it.
    pub(super) fn end_links(&mut self) -> Result<()> {
        // A directory on the way may have been replaced, or a link now lead elsewhere.
        self.links.restart();
        for link in 0..self.links.len() {
            let Some(pending) = self.links.get(link) else {
                continue;
            };
            let walk = Walk::new(&pending.target_dir);
            self.resume_link(link, walk)?;
            self.settle_links()?;
        }
        for link in 0..self.links.len() {
            if let Some(pending) = self.links.take(link)
                && self.writer.tree().lookup(pending.parent, &pending.name)
                    == Some(pending.placeholder)
            {
                let EntryKind::HardLink(target) = &pending.entry.kind else {
                    continue;
                };
                let target = display_path(target);
                return Err(Error::entry(format!(
                    "a hard link to {target}, which is not in the layer"
                ))
                .at_path(&pending.entry.path)
                .at_offset(pending.entry.offset));
            }
        }
        Ok(())
    }
}

fn link_to_directory(target: &[u8]) -> Error {
    Error::entry(format!(
        "a hard link to {}, which is a directory",
        display_path(target)
    ))
}
