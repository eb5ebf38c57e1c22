//! The tree of names and inodes, in memory and without blocks.

use std::hash::{BuildHasher, RandomState};

use hashbrown::HashTable;

use super::format::{FIRST_INO, LINK_MAX, ROOT_INO, S_IFLNK};
use super::inode::{Attributes, Body, Node};
use crate::error::{Error, Result};

/// An inode number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Ino(u32);

impl Ino {
    pub(crate) const ROOT: Self = Self(ROOT_INO);

    pub(crate) fn get(self) -> u32 {
        self.0
    }

    #[cfg(test)]
    pub(crate) fn numbered(number: u32) -> Self {
        Self(number)
    }

    /// Nodes are kept without the gap between the root and the first ordinary inode.
    fn index(self) -> usize {
        self.0.saturating_sub(FIRST_INO - 1) as usize
    }

    fn of_index(index: usize) -> Self {
        if index == 0 {
            Self::ROOT
        } else {
            Self(index as u32 + FIRST_INO - 1)
        }
    }
}

const NONE: u32 = u32::MAX;

/// A name in a directory.
#[derive(Debug)]
struct Dirent {
    /// The inode; the root, which has no name, for a name that was removed.
    ino: Ino,
    /// The name that came before it in the directory.
    previous: u32,
    name: NameRef,
}

const _: () = assert!(size_of::<Dirent>() == 16);

/// Fields of directories.
#[derive(Debug)]
pub(crate) struct Dir {
    ino: Ino,
    pub parent: Ino,
    /// The newest name.
    newest: u32,
    /// The number of names it was ever given, removed ones included.
    pub names: u32,
    /// Its name in its parent; none of the root.
    dirent: u32,
    /// No entry has described it.
    pub implicit: bool,
    /// No entry has described it, and it is as in the layers below.
    pub inherited: bool,
    /// The layers below have no directory of its path.
    pub alone: bool,
    /// Hides what lower layers have here (trusted.overlay.opaque).
    pub opaque: bool,
    /// Finds names by their hash, once there are more than [`LISTED_MAX`].
    ///
    /// Each directory has an index of its own: the names of one directory mostly come together,
    /// and an index over all of them would leave the processor's caches with each look-up.
    index: Option<Box<HashTable<Indexed>>>,
}

/// The most names of a directory that are compared one after the other. That few were added a
/// moment ago and are in the processor's cache.
const LISTED_MAX: u32 = 12;

/// Where a name is: its length in the low byte, its offset above, and in the highest bit whether
/// something in the layer hides what lower layers have under this name.
#[derive(Clone, Copy, Debug)]
struct NameRef(u64);

impl NameRef {
    const HIDES: u64 = 1 << 63;

    fn hides(self) -> bool {
        self.0 & Self::HIDES != 0
    }

    fn set_hides(&mut self) {
        self.0 |= Self::HIDES;
    }
}

/// The bytes of all names, in pieces that never move.
#[derive(Default)]
struct Names(Vec<Vec<u8>>);

impl Names {
    const PIECE: usize = 1 << 20;

    fn push(&mut self, name: &[u8]) -> NameRef {
        if self
            .0
            .last()
            .is_none_or(|piece| piece.len() + name.len() > Self::PIECE)
        {
            self.0.push(Vec::with_capacity(Self::PIECE));
        }
        let piece = self.0.len() - 1;
        let at = self.0[piece].len();
        self.0[piece].extend_from_slice(name);
        NameRef(((piece * Self::PIECE + at) as u64) << 8 | name.len() as u64)
    }

    fn get(&self, NameRef(name): NameRef) -> &[u8] {
        let offset = (name & !NameRef::HIDES) >> 8;
        let (at, len) = (offset as usize, (name & 0xff) as usize);
        &self.0[at / Self::PIECE][at % Self::PIECE..][..len]
    }
}

/// A dirent in an index, with the hash of its name: comparing and growing need no look at the
/// dirents, which lie all over the memory.
#[derive(Clone, Copy, Debug)]
struct Indexed {
    hash: u32,
    dirent: u32,
}

impl Indexed {
    /// The table takes its place from the low bits and a tag from the high ones.
    fn spread(hash: u32) -> u64 {
        u64::from(hash).wrapping_mul(0x9e37_79b9_7f4a_7c15)
    }
}

/// The tree of names and inodes.
pub(crate) struct Tree {
    nodes: Vec<Node>,
    dirs: Vec<Dir>,
    dirents: Vec<Dirent>,
    names: Names,
    /// Hashes names for the indexes. Its keys are random so that no input can aim at collisions;
    /// no output depends on them.
    hasher: RandomState,
    /// Nodes that were freed since [`take_freed`](Self::take_freed), as they were.
    freed: Vec<(Ino, Node)>,
}

/// The change made by giving an inode a name.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Linked {
    pub replaced: Replaced,
    /// [`set_hides`](Tree::set_hides) was called of the name, whatever it stood for.
    pub hides: bool,
    /// The number of the name, for [`named`](Tree::named).
    pub dirent: u32,
}

/// The inode that had a name before another took it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Replaced {
    Nothing,
    File,
    Symlink,
    /// A directory with all below it.
    Tree,
}

impl Tree {
    /// An empty root: 0755, 0:0, time 0.
    pub(crate) fn new() -> Self {
        let attributes = Attributes {
            mode: 0o755,
            ..Attributes::default()
        };
        Self {
            nodes: vec![Node::new(attributes, Body::Directory(0))],
            dirs: vec![Dir {
                ino: Ino::ROOT,
                parent: Ino::ROOT,
                newest: NONE,
                names: 0,
                dirent: NONE,
                implicit: false,
                inherited: false,
                alone: false,
                opaque: false,
                index: None,
            }],
            dirents: Vec::new(),
            names: Names::default(),
            hasher: RandomState::new(),
            freed: Vec::new(),
        }
    }

    pub(crate) fn node(&self, ino: Ino) -> &Node {
        &self.nodes[ino.index()]
    }

    pub(crate) fn node_mut(&mut self, ino: Ino) -> &mut Node {
        &mut self.nodes[ino.index()]
    }

    /// The inode of a number, if it was ever given out.
    pub(crate) fn get(&self, number: u32) -> Option<(Ino, &Node)> {
        let ino = Ino(number);
        let known = ino == Ino::ROOT || number >= FIRST_INO;
        known
            .then(|| self.nodes.get(ino.index()))
            .flatten()
            .map(|node| (ino, node))
    }

    /// The number of directories ever made.
    pub(crate) fn dir_count(&self) -> usize {
        self.dirs.len()
    }

    /// All inodes, freed ones too, in order.
    pub(crate) fn nodes(&self) -> impl ExactSizeIterator<Item = (Ino, &Node)> {
        self.nodes
            .iter()
            .enumerate()
            .map(|(i, node)| (Ino::of_index(i), node))
    }

    /// Directories in use in order, parents before their children.
    pub(crate) fn directories(&self) -> impl Iterator<Item = (Ino, &Dir)> {
        let in_use = |dir: &&Dir| self.node(dir.ino).is_dir();
        self.dirs.iter().filter(in_use).map(|dir| (dir.ino, dir))
    }

    /// The directory's own part; `None` for anything else.
    pub(crate) fn dir(&self, ino: Ino) -> Option<&Dir> {
        match self.node(ino).body {
            Body::Directory(dir) => self.dirs.get(dir as usize),
            _ => None,
        }
    }

    pub(crate) fn dir_mut(&mut self, ino: Ino) -> Option<&mut Dir> {
        match self.node(ino).body {
            Body::Directory(dir) => self.dirs.get_mut(dir as usize),
            _ => None,
        }
    }

    fn hash(&self, name: &[u8]) -> u32 {
        self.hasher.hash_one(name) as u32
    }

    fn find(&self, parent: Ino, name: &[u8]) -> Option<u32> {
        let dir = self.dir(parent)?;
        match &dir.index {
            Some(index) => self.find_indexed(index, self.hash(name), name),
            None => self.find_listed(dir, name),
        }
    }

    fn find_listed(&self, dir: &Dir, name: &[u8]) -> Option<u32> {
        let mut names = self.dirents_of(dir);
        let same = |(_, dirent): &(u32, &Dirent)| {
            dirent.ino != Ino::ROOT && self.names.get(dirent.name) == name
        };
        names.find(same).map(|(i, _)| i)
    }

    /// The names of a directory, the newest first, those that went again included.
    fn dirents_of(&self, dir: &Dir) -> impl Iterator<Item = (u32, &Dirent)> {
        let mut next = dir.newest;
        std::iter::from_fn(move || {
            let dirent = self.dirents.get(next as usize)?;
            Some((std::mem::replace(&mut next, dirent.previous), dirent))
        })
    }

    fn find_indexed(&self, index: &HashTable<Indexed>, hash: u32, name: &[u8]) -> Option<u32> {
        let same = |indexed: &Indexed| {
            let dirent = &self.dirents[indexed.dirent as usize];
            indexed.hash == hash && self.names.get(dirent.name) == name
        };
        let found = index.find(Indexed::spread(hash), same);
        found.map(|indexed| indexed.dirent)
    }

    /// The inode of a name.
    pub(crate) fn lookup(&self, parent: Ino, name: &[u8]) -> Option<Ino> {
        self.find(parent, name)
            .map(|i| self.dirents[i as usize].ino)
    }

    /// The number of names a directory was ever given, removed ones included.
    pub(crate) fn names_given(&self, dir: Ino) -> u32 {
        self.dir(dir).map_or(0, |dir| dir.names)
    }

    /// The name in a directory that was never given another.
    pub(crate) fn only_child(&self, dir: &Dir) -> Option<(&[u8], Ino)> {
        if dir.names != 1 {
            return None;
        }
        let (name, ino) = self.named(dir.newest);
        (ino != Ino::ROOT).then_some((name, ino))
    }

    /// The names of a directory in the order in which they came.
    pub(crate) fn children(&self, dir: Ino) -> Vec<(&[u8], Ino)> {
        self.children_as(dir, |name, ino| (name, ino))
    }

    /// The same, each as something else.
    pub(crate) fn children_as<'t, T>(
        &'t self,
        dir: Ino,
        mut child: impl FnMut(&'t [u8], Ino) -> T,
    ) -> Vec<T> {
        let Some(dir) = self.dir(dir) else {
            return Vec::new();
        };
        let mut list = Vec::with_capacity(dir.names as usize);
        let in_use = |(_, dirent): &(u32, &Dirent)| dirent.ino != Ino::ROOT;
        for (_, dirent) in self.dirents_of(dir).filter(in_use) {
            list.push(child(self.names.get(dirent.name), dirent.ino));
        }
        list.reverse();
        list
    }

    /// The name and the inode of what [`link`](Self::link) numbered; the root where the name
    /// was removed.
    #[inline]
    pub(crate) fn named(&self, dirent: u32) -> (&[u8], Ino) {
        let Dirent { ino, name, .. } = &self.dirents[dirent as usize];
        (self.names.get(*name), *ino)
    }

    /// The number and the inode of a name.
    pub(crate) fn numbered(&self, parent: Ino, name: &[u8]) -> Option<(u32, Ino)> {
        let found = self.find(parent, name);
        found.map(|i| (i, self.dirents[i as usize].ino))
    }

    /// The numbers and inodes of the names of a directory.
    pub(crate) fn numbered_children(&self, dir: Ino) -> Vec<(u32, Ino)> {
        let names = self.dir(dir).map(|dir| self.dirents_of(dir));
        let numbered = names.into_iter().flatten().map(|(i, name)| (i, name.ino));
        numbered.filter(|(_, ino)| *ino != Ino::ROOT).collect()
    }

    /// The number of the name of a directory; none of the root.
    pub(crate) fn dirent_of(&self, dir: Ino) -> Option<u32> {
        let dirent = self.dir(dir)?.dirent;
        (dirent != NONE).then_some(dirent)
    }

    /// The directory that a directory is in, and its name there; none of the root.
    pub(crate) fn name_of_dir(&self, dir: Ino) -> Option<(Ino, &[u8])> {
        let dir = self.dir(dir)?;
        let dirent = self.dirents.get(dir.dirent as usize)?;
        Some((dir.parent, self.names.get(dirent.name)))
    }

    /// The path of a directory.
    pub(crate) fn path_of(&self, mut dir: Ino) -> Vec<u8> {
        let mut names = Vec::new();
        while let Some(Dir { parent, dirent, .. }) = self.dir(dir)
            && let Some(dirent) = self.dirents.get(*dirent as usize)
        {
            names.push(self.names.get(dirent.name));
            dir = *parent;
        }
        names.reverse();
        names.join(&b'/')
    }

    /// Notes that the layer hides what lower layers have under a name that stands.
    pub(crate) fn set_hides(&mut self, parent: Ino, name: &[u8]) {
        if let Some(i) = self.find(parent, name) {
            self.dirents[i as usize].name.set_hides();
        }
    }

    /// Notes the same of the name of a directory.
    pub(crate) fn set_dir_hides(&mut self, dir: Ino) {
        if let Some(i) = self.dir(dir).map(|dir| dir.dirent)
            && let Some(dirent) = self.dirents.get_mut(i as usize)
        {
            dirent.name.set_hides();
        }
    }

    /// Whether nothing of the lower layers shows through a directory. The root's own mark
    /// does not count: overlayfs does not heed it.
    pub(crate) fn shows_nothing_below(&self, ino: Ino) -> bool {
        self.dir(ino)
            .is_none_or(|dir| dir.alone || (dir.opaque && ino != Ino::ROOT))
    }

    /// The same of a directory or one that it is in.
    pub(crate) fn is_hidden_below(&self, mut ino: Ino) -> bool {
        while ino != Ino::ROOT {
            if self.shows_nothing_below(ino) {
                return true;
            }
            ino = self.dir(ino).map_or(Ino::ROOT, |dir| dir.parent);
        }
        self.shows_nothing_below(Ino::ROOT)
    }

    /// Makes an inode without a name.
    pub(crate) fn add(&mut self, node: Node) -> Result<Ino> {
        let ino = Ino::of_index(self.nodes.len());
        if self.nodes.len() as u64 + u64::from(FIRST_INO) >= u64::from(u32::MAX) {
            return Err(Error::limit("the file system has no more inode numbers"));
        }
        self.nodes.push(node);
        Ok(ino)
    }

    /// Makes a directory without a name, which [`link`](Self::link) gives it.
    pub(crate) fn add_dir(&mut self, parent: Ino, attributes: Attributes) -> Result<Ino> {
        let dir = self.dirs.len() as u32;
        let ino = self.add(Node::new(attributes, Body::Directory(dir)))?;
        let alone = self.shows_nothing_below(parent);
        self.dirs.push(Dir {
            ino,
            parent,
            newest: NONE,
            names: 0,
            dirent: NONE,
            implicit: false,
            inherited: false,
            alone,
            opaque: false,
            index: None,
        });
        Ok(ino)
    }

    /// Gives an inode a name; what the name stood for before loses it.
    pub(crate) fn link(&mut self, parent: Ino, name: &[u8], ino: Ino) -> Result<Linked> {
        // A new directory on a long path holds nothing that could be found.
        let dir = self.dir(parent).filter(|dir| dir.names > 0);
        let index = dir.and_then(|dir| dir.index.as_deref());
        let hash = index.map(|_| self.hash(name));
        let found = match (index, hash) {
            (Some(index), Some(hash)) => self.find_indexed(index, hash, name),
            _ => dir.and_then(|dir| self.find_listed(dir, name)),
        };
        let standing = found.map(|i| &self.dirents[i as usize]);
        let hides = standing.is_some_and(|dirent| dirent.name.hides());
        let linked = |replaced, dirent| {
            Ok(Linked {
                replaced,
                hides,
                dirent,
            })
        };
        if let Some(i) = found
            && !self.node(ino).is_dir()
            && self.dirents[i as usize].ino == ino
        {
            return linked(Replaced::Nothing, i);
        }
        // Before the old one goes: the inode may stand inside the tree that is replaced.
        if self.node(ino).is_dir() {
            self.node_mut(parent).links += 1;
        } else {
            if self.node(ino).links == LINK_MAX {
                return Err(Error::limit(format!(
                    "more than {LINK_MAX} hard links to a file"
                )));
            }
            self.node_mut(ino).links += 1;
        }
        if let Some(i) = found {
            self.name_dir(ino, i);
            let old = std::mem::replace(&mut self.dirents[i as usize].ino, ino);
            return linked(self.drop_name(parent, old), i);
        }
        let i = self.dirents.len() as u32;
        if i == NONE {
            return Err(Error::limit("the file system has too many names"));
        }
        self.name_dir(ino, i);
        let name = self.names.push(name);
        let (previous, names) = self.dir_mut(parent).map_or((NONE, 0), |dir| {
            dir.names += 1;
            (std::mem::replace(&mut dir.newest, i), dir.names)
        });
        self.dirents.push(Dirent {
            ino,
            previous,
            name,
        });
        match hash {
            Some(hash) => self.insert(parent, hash, i),
            None if names > LISTED_MAX => self.index_names(parent),
            None => {}
        }
        linked(Replaced::Nothing, i)
    }

    /// Gives a directory an index once it has more names than are quickly compared.
    #[cold]
    fn index_names(&mut self, parent: Ino) {
        let Some(dir) = self.dir(parent) else {
            return;
        };
        let in_use = self
            .dirents_of(dir)
            .filter(|(_, dirent)| dirent.ino != Ino::ROOT);
        let hashed = in_use.map(|(i, dirent)| (self.hash(self.names.get(dirent.name)), i));
        let hashed: Vec<_> = hashed.collect();
        if let Some(dir) = self.dir_mut(parent) {
            dir.index = Some(Box::default());
        }
        hashed
            .into_iter()
            .for_each(|(hash, i)| self.insert(parent, hash, i));
    }

    fn insert(&mut self, parent: Ino, hash: u32, dirent: u32) {
        if let Some(index) = self.dir_mut(parent).and_then(|dir| dir.index.as_mut()) {
            let indexed = Indexed { hash, dirent };
            index.insert_unique(Indexed::spread(hash), indexed, |indexed| {
                Indexed::spread(indexed.hash)
            });
        }
    }

    /// Tells a directory which of the names is its own.
    fn name_dir(&mut self, ino: Ino, dirent: u32) {
        if let Some(dir) = self.dir_mut(ino) {
            dir.dirent = dirent;
        }
    }

    /// Takes a name away.
    pub(crate) fn unlink(&mut self, parent: Ino, name: &[u8]) {
        if let Some(i) = self.find(parent, name) {
            self.unindex(parent, i);
            let old = std::mem::replace(&mut self.dirents[i as usize].ino, Ino::ROOT);
            self.drop_name(parent, old);
        }
    }

    /// Takes a dirent out of its directory's index, if it is there.
    fn unindex(&mut self, parent: Ino, dirent: u32) {
        let hash = self.hash(self.names.get(self.dirents[dirent as usize].name));
        let this = |indexed: &Indexed| indexed.dirent == dirent;
        if let Some(index) = self.dir_mut(parent).and_then(|dir| dir.index.as_mut())
            && let Ok(slot) = index.find_entry(Indexed::spread(hash), this)
        {
            slot.remove();
        }
    }

    /// An inode lost a name: without any left it goes, a directory with all below it.
    fn drop_name(&mut self, parent: Ino, ino: Ino) -> Replaced {
        if !self.node(ino).is_dir() {
            let was_symlink = self.node(ino).file_type == S_IFLNK;
            self.drop_link(ino);
            return match was_symlink {
                true => Replaced::Symlink,
                false => Replaced::File,
            };
        }
        self.node_mut(parent).links -= 1;
        // Not recursive: a tree can be deeper than any stack.
        let mut doomed = vec![ino];
        while let Some(dir) = doomed.pop() {
            let mut next = NONE;
            if let Some(dir) = self.dir_mut(dir) {
                next = dir.newest;
                dir.index = None;
            }
            while next != NONE {
                let dirent = &mut self.dirents[next as usize];
                let child = std::mem::replace(&mut dirent.ino, Ino::ROOT);
                next = dirent.previous;
                if child == Ino::ROOT {
                    continue;
                }
                if self.node(child).is_dir() {
                    doomed.push(child);
                } else {
                    self.drop_link(child);
                }
            }
            self.free(dir);
        }
        Replaced::Tree
    }

    fn drop_link(&mut self, ino: Ino) {
        let node = self.node_mut(ino);
        node.links -= 1;
        if node.links == 0 {
            self.free(ino);
        }
    }

    /// Frees an inode that no name leads to.
    pub(crate) fn free(&mut self, ino: Ino) {
        let freed = Node::new(Attributes::default(), Body::Freed);
        let node = std::mem::replace(self.node_mut(ino), freed);
        self.freed.push((ino, node));
    }

    /// Whether nodes were freed since [`take_freed`](Self::take_freed).
    #[inline]
    pub(crate) fn has_freed(&self) -> bool {
        !self.freed.is_empty()
    }

    /// The nodes freed since the last call.
    pub(crate) fn take_freed(&mut self) -> Vec<(Ino, Node)> {
        std::mem::take(&mut self.freed)
    }

    /// The highest inode number in use or freed.
    pub(crate) fn last_ino(&self) -> u32 {
        Ino::of_index(self.nodes.len() - 1).0.max(FIRST_INO - 1)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn fifo(tree: &mut Tree) -> Ino {
        tree.add(Node::new(Attributes::default(), Body::Fifo))
            .unwrap()
    }

    fn dir(tree: &mut Tree, parent: Ino, name: &[u8]) -> Ino {
        let ino = tree.add_dir(parent, Attributes::default()).unwrap();
        tree.link(parent, name, ino).unwrap();
        ino
    }

    fn replaced(tree: &mut Tree, parent: Ino, name: &[u8], ino: Ino) -> Replaced {
        tree.link(parent, name, ino).unwrap().replaced
    }

    proptest! {
        /// Before and after there are too many names in a directory to be compared.
        #[test]
        fn names_are_found_among_few_and_many(
            steps in proptest::collection::vec((0..2_usize, 0..20_u8, 0..4_u8), 0..120),
        ) {
            let mut tree = Tree::new();
            let dirs = [dir(&mut tree, Ino::ROOT, b"0"), dir(&mut tree, Ino::ROOT, b"1")];
            let mut model = [Vec::new(), Vec::new()];
            for (which, name, step) in steps {
                let (at, names) = (dirs[which], &mut model[which]);
                let name = [b'a' + name];
                let place = names.iter().position(|(other, _)| *other == name);
                if step == 0 {
                    tree.unlink(at, &name);
                    place.map(|place| names.remove(place));
                } else {
                    let ino = fifo(&mut tree);
                    let expected = match place {
                        Some(place) => {
                            names[place].1 = ino;
                            Replaced::File
                        }
                        None => {
                            names.push((name, ino));
                            Replaced::Nothing
                        }
                    };
                    prop_assert_eq!(replaced(&mut tree, at, &name, ino), expected);
                }
                for (at, names) in dirs.iter().zip(&model) {
                    let found: Vec<_> = tree.children(*at);
                    let expected = names.iter().map(|(name, ino)| (&name[..], *ino));
                    prop_assert!(found.into_iter().eq(expected));
                    for name in b'a'..b'a' + 20 {
                        let expected = names.iter().find(|(other, _)| *other == [name]);
                        prop_assert_eq!(tree.lookup(*at, &[name]), expected.map(|(_, ino)| *ino));
                    }
                }
            }
            // Replacing a directory removes all names in it.
            let last = fifo(&mut tree);
            prop_assert_eq!(replaced(&mut tree, Ino::ROOT, b"0", last), Replaced::Tree);
            for name in b'a'..b'a' + 20 {
                prop_assert_eq!(tree.lookup(dirs[0], &[name]), None);
            }
            let indexes = tree.dirs.iter().filter(|dir| dir.index.is_some());
            prop_assert!(indexes.map(|dir| dir.ino).all(|ino| ino == dirs[1]));
        }
    }

    #[test]
    fn names_come_back_in_order() {
        let mut tree = Tree::new();
        let a = dir(&mut tree, Ino::ROOT, b"a");
        let f = fifo(&mut tree);
        assert_eq!(replaced(&mut tree, Ino::ROOT, b"f", f), Replaced::Nothing);
        assert_eq!(replaced(&mut tree, a, b"f", f), Replaced::Nothing);
        assert_eq!(tree.children(Ino::ROOT), [(&b"a"[..], a), (b"f", f)]);
        assert_eq!(tree.lookup(a, b"f"), Some(f));
        assert_eq!(tree.lookup(a, b"g"), None);
        assert_eq!((tree.node(f).links, tree.node(Ino::ROOT).links), (2, 1));
    }

    #[test]
    fn a_replaced_tree_goes_whole_but_keeps_what_has_other_names() {
        let mut tree = Tree::new();
        let a = dir(&mut tree, Ino::ROOT, b"a");
        let b = dir(&mut tree, a, b"b");
        let (kept, lost) = (fifo(&mut tree), fifo(&mut tree));
        tree.link(b, b"kept", kept).unwrap();
        tree.link(b, b"lost", lost).unwrap();
        // The replacement itself stands in the tree that goes.
        assert_eq!(replaced(&mut tree, Ino::ROOT, b"a", kept), Replaced::Tree);
        let freed: Vec<_> = tree.take_freed().into_iter().map(|(ino, _)| ino).collect();
        assert_eq!(freed, [a, lost, b]);
        let left: Vec<_> = tree.directories().map(|(ino, _)| ino).collect();
        assert_eq!(left, [Ino::ROOT]);
        assert_eq!(tree.node(kept).links, 1);
        assert_eq!(tree.node(Ino::ROOT).links, 0);
        assert_eq!(tree.lookup(b, b"kept"), None);
        assert_eq!(tree.children(Ino::ROOT), [(&b"a"[..], kept)]);
    }

    #[test]
    fn an_unlinked_name_can_return() {
        let mut tree = Tree::new();
        let f = fifo(&mut tree);
        tree.link(Ino::ROOT, b"f", f).unwrap();
        tree.unlink(Ino::ROOT, b"f");
        assert_eq!(tree.lookup(Ino::ROOT, b"f"), None);
        assert!(tree.children(Ino::ROOT).is_empty());
        let g = fifo(&mut tree);
        tree.link(Ino::ROOT, b"f", g).unwrap();
        assert_eq!(tree.children(Ino::ROOT), [(&b"f"[..], g)]);
    }

    #[test]
    fn links_are_counted_to_the_limit() {
        let mut tree = Tree::new();
        let f = fifo(&mut tree);
        for i in 0..LINK_MAX {
            tree.link(Ino::ROOT, &i.to_le_bytes(), f).unwrap();
        }
        assert!(tree.link(Ino::ROOT, b"one more", f).is_err());
    }
}
