//! Hard links whose target has not appeared yet.

use std::collections::HashMap;

use super::walk::{Component, Walk};
use crate::error::{Error, Result};
use crate::ext4::tree::Ino;
use crate::layer::Entry;

/// A hard link that waits.
pub(super) struct Pending {
    /// The inode that keeps its name until the target appears, and where that name is.
    pub placeholder: Ino,
    pub parent: Ino,
    pub name: Box<[u8]>,
    /// The directory of the target, clean, and its name there.
    pub target_dir: Box<[u8]>,
    pub target_name: Box<[u8]>,
    /// The entry itself: its extended attributes unite with the target's.
    pub entry: Entry,
}

/// Where a search for a target came to a halt.
pub(super) struct Halt {
    pub walk: Walk,
    pub dir: Ino,
    /// The name that must appear there; `None` for that of the target itself.
    pub component: Option<Component>,
}

/// A link whose search goes on when a name appears.
pub(super) struct Waiter {
    pub link: usize,
    pub walk: Walk,
}

type Name = (Ino, Box<[u8]>);

/// All links that wait.
#[derive(Default)]
pub(super) struct PendingLinks {
    /// By the number that their placeholders have; `None` when bound or replaced.
    list: Vec<Option<Box<Pending>>>,
    /// Waiting for a directory or symbolic link on the way to the target.
    on_the_way: HashMap<Name, Vec<Waiter>>,
    /// Waiting for the target itself.
    at_the_end: HashMap<Name, Vec<Waiter>>,
    /// What appeared and was not looked at yet.
    appeared: Vec<Waiter>,
    /// Bytes of long paths and attributes that wait.
    size: usize,
}

/// What appeared under a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Appeared {
    Directory,
    Symlink,
    Other,
}

impl PendingLinks {
    /// Long paths and attributes of links that wait are kept up to so many bytes.
    const SIZE_MAX: usize = 16 << 20;

    /// Accounts for what a link that is to wait takes in memory.
    pub(super) fn account(&mut self, entry: &Entry, target: &[u8]) -> Result<()> {
        /// What every link may take.
        const SHORT: usize = 256;
        let pair = |(name, value): &(Vec<u8>, Vec<u8>)| name.len() + value.len() + 48;
        let xattrs: usize = entry.xattrs.iter().map(pair).sum();
        // The target is kept as it is spelled, cleaned, and on its way.
        let size = entry.path.len() + 3 * target.len() + xattrs;
        self.size += size.saturating_sub(SHORT);
        if self.size > Self::SIZE_MAX {
            return Err(Error::limit(
                "the paths and attributes of hard links before their targets take too much memory",
            ));
        }
        Ok(())
    }

    /// The number that the next link gets.
    pub(super) fn next_number(&self) -> usize {
        self.list.len()
    }

    pub(super) fn push(&mut self, pending: Pending) {
        self.list.push(Some(Box::new(pending)));
    }

    pub(super) fn len(&self) -> usize {
        self.list.len()
    }

    pub(super) fn get(&self, link: usize) -> Option<&Pending> {
        self.list.get(link)?.as_deref()
    }

    pub(super) fn take(&mut self, link: usize) -> Option<Box<Pending>> {
        self.list.get_mut(link)?.take()
    }

    /// Lets a link wait where its search came to a halt.
    pub(super) fn wait(&mut self, link: usize, halt: Halt) {
        let Halt {
            mut walk,
            dir,
            component,
        } = halt;
        let (map, name) = match &component {
            Some(component) => {
                walk.put_back(component);
                (&mut self.on_the_way, component[..].into())
            }
            None => {
                let Some(pending) = self.get(link) else {
                    return;
                };
                let name = pending.target_name.clone();
                (&mut self.at_the_end, name)
            }
        };
        map.entry((dir, name))
            .or_default()
            .push(Waiter { link, walk });
    }

    /// Notes that a name appeared: searches that this helps on go on.
    pub(super) fn appear(&mut self, dir: Ino, name: &[u8], what: Appeared) {
        if self.on_the_way.is_empty() && self.at_the_end.is_empty() {
            return;
        }
        let key = (dir, name.into());
        // A file on the way helps nobody: looking at all who wait would take time for nothing.
        if what != Appeared::Other {
            self.appeared
                .extend(self.on_the_way.remove(&key).into_iter().flatten());
        }
        self.appeared
            .extend(self.at_the_end.remove(&key).into_iter().flatten());
    }

    /// A search that can go on.
    pub(super) fn pop_appeared(&mut self) -> Option<Waiter> {
        self.appeared.pop()
    }

    /// Forgets where links wait, so that all can search again from the start.
    pub(super) fn restart(&mut self) {
        self.on_the_way.clear();
        self.at_the_end.clear();
    }
}
