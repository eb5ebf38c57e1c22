//! Layers applied one above the other to one tree.
//!
//! Each name is stamped with the layer that gave it. A whiteout takes away the names of lower layers
//! and none of its own layer, wherever in the layer it stands, as overlayfs shows the disks of the
//! layers one above the other. Source: OCI image specification, "Whiteouts"; Linux,
//! Documentation/filesystems/overlayfs.

use super::super::metadata;
use super::stamps::Stamps;
use super::{Contents, Copies, Place, Rules};
use crate::error::Result;
use crate::ext4::area::BlockSink;
use crate::ext4::inode::Attributes;
use crate::ext4::tree::Ino;
use crate::ext4::writer::Writer;
use crate::layer::Entry;

impl<'a, S: BlockSink> Place<'a, S> {
    /// Applies layers, the lowest first, to a tree of which contents may be written already.
    pub(in super::super) fn merging(writer: Writer<S>, rules: Rules<'a>) -> Self {
        let mut place = Self::new(writer, rules);
        place.merge = Some(Stamps::default());
        place
    }

    pub(in super::super) fn writer(&self) -> &Writer<S> {
        &self.writer
    }

    /// Begins the next layer.
    pub(in super::super) fn begin_layer(&mut self, layer: u16) -> Result<()> {
        self.end_layer()?;
        if let Some(merge) = &mut self.merge {
            merge.begin_layer(layer);
        }
        self.copies = Copies::default();
        self.forget_ways()
    }

    /// Applies an entry of the layer.
    pub(in super::super) fn apply(
        &mut self,
        entry: &Entry,
        contents: &mut impl Contents<S>,
    ) -> Result<()> {
        self.entries += 1;
        self.effort.earn(entry);
        self.check_entries()
            .and_then(|()| self.place(entry, contents))
            .and_then(|()| self.settle_links())
            .map_err(|error| metadata::in_entry(error, entry))
    }

    /// Whether a name is one of a lower layer.
    pub(super) fn is_of_lower(&self, dirent: u32) -> bool {
        let merge = self.merge.as_ref();
        merge.is_some_and(|merge| merge.is_lower(dirent))
    }

    /// A directory of a lower layer gets mode, owner, times and attributes of this one alone.
    pub(super) fn cover_dir(&mut self, ino: Ino) {
        let dirent = self.writer.tree().dirent_of(ino);
        let Some(merge) = &mut self.merge else {
            return;
        };
        let is_lower = match dirent {
            Some(dirent) => {
                let is_lower = merge.is_lower(dirent);
                merge.mark(dirent);
                is_lower
            }
            None => merge.mark_root(),
        };
        if is_lower {
            self.writer.clear_xattrs(ino);
            self.dropped_acls.remove(&ino);
            self.without_acls.remove(&ino);
        }
    }

    /// Takes away a name of lower layers, and all of theirs below it.
    pub(super) fn remove_lower(&mut self, entry: &Entry, dir: Ino, name: &[u8]) -> Result<()> {
        let tree = self.writer.tree();
        let Some((dirent, ino)) = tree.numbered(dir, name) else {
            return Ok(());
        };
        let is_dir = tree.node(ino).is_dir();
        if is_dir {
            self.remove_lower_below(ino)?;
        }
        if !self.is_of_lower(dirent) {
            return Ok(());
        }
        if is_dir && !self.writer.tree().children(ino).is_empty() {
            // The layer has names in it and did not describe it.
            self.cover_dir(ino);
            let attributes = Attributes::of_root(0o755, 0);
            let mtime = metadata::attributes(entry, &mut self.warnings).mtime;
            self.writer.set_attributes(
                ino,
                Attributes {
                    mtime,
                    atime: mtime,
                    ctime: mtime,
                    ..attributes
                },
            );
            self.writer.set_implicit(ino, true);
            return Ok(());
        }
        self.writer.unlink(dir, name);
        self.forget_ways()
    }

    /// Takes away the names of lower layers below a directory. Of a directory of theirs in which
    /// the layer has names, these stay, and itself.
    pub(super) fn remove_lower_below(&mut self, top: Ino) -> Result<()> {
        let tree = self.writer.tree();
        // Not recursive: a tree can be deeper than any stack. Parents come before their children.
        let mut dirs = Vec::new();
        let mut todo = vec![top];
        while let Some(dir) = todo.pop() {
            let merge = self.merge.as_mut();
            if merge.is_some_and(|merge| merge.clear(dir)) {
                dirs.push(dir);
                let children = tree.numbered_children(dir).into_iter().map(|(_, ino)| ino);
                todo.extend(children.filter(|ino| tree.node(*ino).is_dir()));
            }
        }
        for dir in dirs.into_iter().rev() {
            let tree = self.writer.tree();
            let is_doomed = |(dirent, ino): &(u32, Ino)| {
                self.is_of_lower(*dirent)
                    && (!tree.node(*ino).is_dir() || tree.children(*ino).is_empty())
            };
            let doomed = tree.numbered_children(dir).into_iter();
            let names: Vec<_> = doomed
                .filter(is_doomed)
                .map(|(dirent, _)| tree.named(dirent).0.to_vec())
                .collect();
            names.iter().for_each(|name| self.writer.unlink(dir, name));
        }
        self.forget_ways()
    }
}
