//! Hard links that wait for their targets.
//!
//! The paths of all targets are kept as a tree of names. A name in it that leads to a directory
//! of the layer is noted with that directory, so that a name that appears there finds who waits
//! for it. Names that lead through a symbolic link depend on other names too: they are few, and
//! are followed again whenever a directory or a symbolic link goes.

use std::collections::HashMap;
use std::hash::{BuildHasher, BuildHasherDefault, Hasher, RandomState};

use hashbrown::HashTable;

use crate::ext4::tree::Ino;

/// A hard link that waits.
#[derive(Debug)]
pub(super) struct Waiting {
    /// Where the entry's header is in the layer.
    pub offset: u64,
    /// The entry's extended attributes, which unite with the target's.
    pub attributes: Option<Box<Attributes>>,
    /// The directory of the link and the number of its name there, and the inode that keeps it.
    pub dir: Ino,
    pub dirent: u32,
    pub placeholder: Ino,
}

/// Extended attributes of an entry, and its mode.
#[derive(Debug)]
pub(super) struct Attributes {
    pub mode: u16,
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    pub acl_access: Option<Vec<u8>>,
    pub acl_default: Option<Vec<u8>>,
}

impl Attributes {
    fn size(&self) -> usize {
        let pair = |(name, value): &(Vec<u8>, Vec<u8>)| name.len() + value.len() + 48;
        let acl = |acl: &Option<Vec<u8>>| acl.as_ref().map_or(0, Vec::len);
        self.xattrs.iter().map(pair).sum::<usize>() + acl(&self.acl_access) + acl(&self.acl_default)
    }
}

/// A name on the path of a target.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Target(u32);

impl Target {
    const ROOT: Self = Self(0);
}

const NONE: u32 = u32::MAX;

/// A node of the tree of targets.
#[derive(Debug)]
struct Node {
    /// Where its name is in `names`, and in the low 24 bits how long.
    name: u64,
    /// [`NONE`] of one that is free.
    parent: u32,
    /// Its neighbours among its parent's children.
    next: u32,
    previous: u32,
    /// The newest link that waits for it.
    newest: u32,
    /// Its number among `inner`, if names below it are waited for.
    inner: u32,
}

/// State of names below which other names are waited for.
#[derive(Debug)]
struct Inner {
    first_child: u32,
    children: u32,
    /// The directory it leads to.
    at: Option<Ino>,
    /// The next and previous target that leads to the same directory.
    next_at: u32,
    previous_at: u32,
    /// Its children that lead somewhere or are followed: a list of their own, so that a
    /// directory that goes need not look at all that wait below it.
    first_active: u32,
    next_active: u32,
    previous_active: u32,
    /// Its place among `followed`.
    followed: u32,
}

impl Inner {
    const NEW: Self = Self {
        first_child: NONE,
        children: 0,
        at: None,
        next_at: NONE,
        previous_at: NONE,
        first_active: NONE,
        next_active: NONE,
        previous_active: NONE,
        followed: NONE,
    };

    fn is_active(&self) -> bool {
        self.at.is_some() || self.followed != NONE
    }
}

/// A node in the index, with the hash of its parent and name, which growing needs again.
#[derive(Clone, Copy, Debug)]
struct Indexed {
    hash: u32,
    node: u32,
}

impl Indexed {
    fn spread(hash: u32) -> u64 {
        u64::from(hash).wrapping_mul(SPREAD)
    }
}

const SPREAD: u64 = 0x9e37_79b9_7f4a_7c15;

/// Hashes the numbers of inodes: those are given out one after the other, and to leave many out
/// between two that collide takes as many entries.
#[derive(Default)]
struct InoHasher(u64);

impl Hasher for InoHasher {
    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.write_u32((*byte).into()));
    }

    fn write_u32(&mut self, number: u32) {
        self.0 = (self.0 ^ u64::from(number)).wrapping_mul(SPREAD);
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

/// All links that wait.
#[derive(Default)]
pub(super) struct WaitingLinks {
    nodes: Vec<Node>,
    free_nodes: Vec<u32>,
    inner: Vec<Inner>,
    free_inner: Vec<u32>,
    names: Vec<u8>,
    /// Finds a node by its parent and name.
    index: HashTable<Indexed>,
    hasher: RandomState,
    /// The links, each with the next older one that waits for the same target.
    links: Vec<Option<(Waiting, u32)>>,
    free_links: Vec<u32>,
    /// The first target that leads to a directory.
    leading_to: HashMap<Ino, u32, BuildHasherDefault<InoHasher>>,
    /// Targets that lead through a symbolic link, or would if it led anywhere.
    followed: Vec<u32>,
    /// Names without which a symbolic link leads nowhere, and the targets on whose way it is.
    missing: HashMap<(Ino, Box<[u8]>), Vec<u32>>,
    missing_len: usize,
    /// Targets that are to be looked up again.
    changed: Vec<Target>,
    /// Bytes of attributes that wait.
    attributes: usize,
}

impl WaitingLinks {
    /// Whether no link waits.
    pub(super) fn is_empty(&self) -> bool {
        self.nodes.len() <= 1
    }

    /// Bytes of the attributes of all links.
    pub(super) fn attributes(&self) -> usize {
        self.attributes
    }

    /// The number of names that lead on to others.
    pub(super) fn inner_count(&self) -> usize {
        self.inner.len() - self.free_inner.len()
    }

    /// Lets a link wait for a target at a clean path, which is not empty, and gives the names
    /// of that path, the outermost first.
    pub(super) fn add(&mut self, path: &[u8], waiting: Waiting) -> Vec<Target> {
        if self.nodes.is_empty() {
            self.nodes.push(Node {
                name: 0,
                parent: NONE,
                next: NONE,
                previous: NONE,
                newest: NONE,
                inner: 0,
            });
            self.inner.push(Inner::NEW);
            self.lead(Target::ROOT, Ino::ROOT);
        }
        let mut at = Target::ROOT;
        let mut way = Vec::new();
        for name in path.split(|byte| *byte == b'/') {
            let hash = self.hash(at.0, name);
            let known = self.find(hash, at, name);
            at = known.unwrap_or_else(|| self.grow(hash, at, name));
            way.push(at);
        }
        self.attributes += waiting.attributes.as_ref().map_or(0, |a| a.size());
        let older = self.nodes[at.0 as usize].newest;
        let link = Some((waiting, older));
        let number = match self.free_links.pop() {
            Some(free) => {
                self.links[free as usize] = link;
                free
            }
            None => {
                self.links.push(link);
                self.links.len() as u32 - 1
            }
        };
        self.nodes[at.0 as usize].newest = number;
        way
    }

    fn name_of(&self, node: &Node) -> &[u8] {
        let (start, len) = ((node.name >> 24) as usize, (node.name & 0xff_ffff) as usize);
        &self.names[start..start + len]
    }

    /// The last component of a target.
    pub(super) fn name(&self, Target(node): Target) -> &[u8] {
        self.name_of(&self.nodes[node as usize])
    }

    /// The clean path of a target.
    pub(super) fn path(&self, target: Target) -> Vec<u8> {
        let mut names = Vec::new();
        let mut node = &self.nodes[target.0 as usize];
        while node.parent != NONE {
            names.push(self.name_of(node));
            node = &self.nodes[node.parent as usize];
        }
        names.reverse();
        names.join(&b'/')
    }

    fn hash(&self, parent: u32, name: &[u8]) -> u32 {
        let mut hasher = self.hasher.build_hasher();
        hasher.write(name);
        hasher.write_u32(parent);
        hasher.finish() as u32
    }

    /// The child of a target of this name.
    pub(super) fn child(&self, parent: Target, name: &[u8]) -> Option<Target> {
        self.find(self.hash(parent.0, name), parent, name)
    }

    fn find(&self, hash: u32, Target(parent): Target, name: &[u8]) -> Option<Target> {
        let same = |indexed: &Indexed| {
            let node = &self.nodes[indexed.node as usize];
            indexed.hash == hash && node.parent == parent && self.name_of(node) == name
        };
        let found = self.index.find(Indexed::spread(hash), same);
        found.map(|indexed| Target(indexed.node))
    }

    /// Adds a child.
    fn grow(&mut self, hash: u32, Target(parent): Target, name: &[u8]) -> Target {
        let start = self.names.len() as u64;
        self.names.extend_from_slice(name);
        let inner = self.inner_of(parent);
        self.inner[inner].children += 1;
        let next = self.inner[inner].first_child;
        let node = Node {
            name: start << 24 | name.len() as u64,
            parent,
            next,
            previous: NONE,
            newest: NONE,
            inner: NONE,
        };
        let number = match self.free_nodes.pop() {
            Some(free) => {
                self.nodes[free as usize] = node;
                free
            }
            None => {
                self.nodes.push(node);
                self.nodes.len() as u32 - 1
            }
        };
        self.inner[inner].first_child = number;
        if let Some(next) = self.nodes.get_mut(next as usize) {
            next.previous = number;
        }
        let indexed = Indexed { hash, node: number };
        self.index
            .insert_unique(Indexed::spread(hash), indexed, |indexed| {
                Indexed::spread(indexed.hash)
            });
        Target(number)
    }

    /// The number of a node's inner part, which it gets if it has none.
    fn inner_of(&mut self, node: u32) -> usize {
        let known = self.nodes[node as usize].inner;
        if known != NONE {
            return known as usize;
        }
        let number = match self.free_inner.pop() {
            Some(free) => {
                self.inner[free as usize] = Inner::NEW;
                free
            }
            None => {
                self.inner.push(Inner::NEW);
                self.inner.len() as u32 - 1
            }
        };
        self.nodes[node as usize].inner = number;
        number as usize
    }

    fn inner(&self, node: u32) -> Option<&Inner> {
        self.inner
            .get(self.nodes.get(node as usize)?.inner as usize)
    }

    fn inner_mut(&mut self, node: u32) -> Option<&mut Inner> {
        self.inner
            .get_mut(self.nodes.get(node as usize)?.inner as usize)
    }

    /// Whether the target is still waited for, or names below it.
    pub(super) fn is_live(&self, Target(node): Target) -> bool {
        self.nodes[node as usize].parent != NONE
    }

    /// The number of names waited for below a target.
    pub(super) fn children_count(&self, target: Target) -> u32 {
        self.inner(target.0).map_or(0, |inner| inner.children)
    }

    /// The directory that a target's parent leads to.
    pub(super) fn dir_of(&self, Target(node): Target) -> Option<Ino> {
        self.inner(self.nodes[node as usize].parent)?.at
    }

    /// Whether a target leads somewhere, or is followed.
    pub(super) fn is_active(&self, target: Target) -> bool {
        self.inner(target.0).is_some_and(Inner::is_active)
    }

    fn activate(&mut self, node: u32) {
        let parent = self.nodes[node as usize].parent;
        let Some(inner) = self.inner_mut(parent) else {
            return;
        };
        let next = std::mem::replace(&mut inner.first_active, node);
        if let Some(next) = self.inner_mut(next) {
            next.previous_active = node;
        }
        if let Some(inner) = self.inner_mut(node) {
            (inner.next_active, inner.previous_active) = (next, NONE);
        }
    }

    /// Notes that a target below which others are waited for leads to a directory.
    pub(super) fn lead(&mut self, target: Target, dir: Ino) {
        let node = target.0;
        if !self.is_active(target) {
            self.activate(node);
        }
        let next = self.leading_to.insert(dir, node).unwrap_or(NONE);
        if let Some(next) = self.inner_mut(next) {
            next.previous_at = node;
        }
        if let Some(inner) = self.inner_mut(node) {
            (inner.at, inner.next_at, inner.previous_at) = (Some(dir), next, NONE);
        }
    }

    /// Notes that a target leads through a symbolic link.
    pub(super) fn follow(&mut self, target: Target) {
        let node = target.0;
        if !self.is_active(target) {
            self.activate(node);
        }
        let place = self.followed.len() as u32;
        if let Some(inner) = self.inner_mut(node)
            && inner.followed == NONE
        {
            inner.followed = place;
            self.followed.push(node);
        }
    }

    /// Notes a name that a followed target lacks, and says how many others are to be looked up
    /// again for that.
    pub(super) fn miss(&mut self, target: Target, dir: Ino, name: &[u8]) -> usize {
        let mut again = 0;
        if self.missing_len > 2 * self.followed.len() + 1024 {
            // Most are of targets that were followed again since.
            self.missing = HashMap::new();
            self.missing_len = 0;
            again = self.follow_again();
            self.follow(target);
        }
        let who = self.missing.entry((dir, name.into())).or_default();
        who.push(target.0);
        self.missing_len += 1;
        again
    }

    /// Forgets where a target and all below it lead.
    pub(super) fn clear(&mut self, target: Target) {
        if !self.is_active(target) {
            return;
        }
        let mut doomed = vec![target.0];
        while let Some(node) = doomed.pop() {
            let Some(inner) = self.inner(node).filter(|inner| inner.is_active()) else {
                continue;
            };
            let mut active = inner.first_active;
            while let Some(child) = self.inner(active) {
                doomed.push(active);
                active = child.next_active;
            }
            self.deactivate(node);
        }
    }

    /// Takes an active node out of all lists but that of its own active children.
    fn deactivate(&mut self, node: u32) {
        let Some(inner) = self.inner(node) else {
            return;
        };
        let (at, next_at, previous_at) = (inner.at, inner.next_at, inner.previous_at);
        let (next, previous) = (inner.next_active, inner.previous_active);
        let followed = inner.followed as usize;
        if let Some(dir) = at {
            match (self.inner_mut(previous_at), next_at) {
                (Some(before), _) => before.next_at = next_at,
                (None, NONE) => drop(self.leading_to.remove(&dir)),
                (None, _) => drop(self.leading_to.insert(dir, next_at)),
            }
            if let Some(after) = self.inner_mut(next_at) {
                after.previous_at = previous_at;
            }
        }
        if followed < self.followed.len() {
            self.followed.swap_remove(followed);
            if let Some(moved) = self.followed.get(followed).copied()
                && let Some(moved) = self.inner_mut(moved)
            {
                moved.followed = followed as u32;
            }
        }
        let parent = self.nodes[node as usize].parent;
        match self.inner_mut(previous) {
            Some(before) => before.next_active = next,
            None => {
                if let Some(parent) = self.inner_mut(parent) {
                    parent.first_active = next;
                }
            }
        }
        if let Some(after) = self.inner_mut(next) {
            after.previous_active = previous;
        }
        if let Some(inner) = self.inner_mut(node) {
            inner.at = None;
            inner.followed = NONE;
            inner.first_active = NONE;
        }
    }

    /// Notes that a name now stands for something else: what led through it is to be looked up
    /// again. Says at how many targets was looked.
    pub(super) fn change(&mut self, dir: Ino, name: &[u8]) -> usize {
        let mut looked_at = 0;
        let mut node = self.leading_to.get(&dir).copied().unwrap_or(NONE);
        let mut found = Vec::new();
        while let Some(inner) = self.inner(node) {
            found.extend(self.child(Target(node), name));
            node = inner.next_at;
            looked_at += 1;
        }
        if !self.missing.is_empty()
            && let Some(missing) = self.missing.remove(&(dir, name.into()))
        {
            self.missing_len -= missing.len();
            looked_at += missing.len();
            found.extend(missing.into_iter().map(Target));
        }
        for target in found {
            self.look_again(target);
        }
        looked_at
    }

    /// Notes that a directory or a symbolic link went, through which others may lead, and says
    /// how many targets are to be looked up again for that.
    pub(super) fn follow_again(&mut self) -> usize {
        let followed = self.followed.clone();
        let count = followed.len();
        for node in followed {
            self.clear(Target(node));
            self.changed.push(Target(node));
        }
        count
    }

    /// Notes that a target is to be looked up again.
    pub(super) fn look_again(&mut self, target: Target) {
        self.clear(target);
        self.changed.push(target);
    }

    /// The children of a target.
    pub(super) fn children(&self, target: Target) -> Vec<Target> {
        let mut children = Vec::new();
        let mut node = self.inner(target.0).map_or(NONE, |inner| inner.first_child);
        while let Some(child) = self.nodes.get(node as usize) {
            children.push(Target(node));
            node = child.next;
        }
        children
    }

    /// A target that is to be looked up again.
    pub(super) fn pop_changed(&mut self) -> Option<Target> {
        self.changed.pop()
    }

    /// The links that wait for a target, the newest first.
    pub(super) fn waiting(&self, Target(node): Target) -> impl Iterator<Item = &Waiting> {
        let mut next = self.nodes[node as usize].newest;
        std::iter::from_fn(move || {
            let (waiting, older) = self.links.get(next as usize)?.as_ref()?;
            next = *older;
            Some(waiting)
        })
    }

    /// Every link that waits, with what it waits for.
    pub(super) fn all(&self) -> impl Iterator<Item = (Target, &Waiting)> {
        let targets = (0..self.nodes.len() as u32).map(Target);
        targets.flat_map(|target| self.waiting(target).map(move |waiting| (target, waiting)))
    }

    /// Takes the links that wait for a target away, the newest first, and the target with
    /// them unless others are below it.
    pub(super) fn take(&mut self, target: Target) -> Vec<Waiting> {
        let mut taken = Vec::new();
        let mut next = std::mem::replace(&mut self.nodes[target.0 as usize].newest, NONE);
        while let Some((waiting, older)) = self.links.get_mut(next as usize).and_then(Option::take)
        {
            self.attributes -= waiting.attributes.as_ref().map_or(0, |a| a.size());
            self.free_links.push(next);
            taken.push(waiting);
            next = older;
        }
        self.prune(target);
        taken
    }

    /// Removes a target for which nothing waits, and those above that were only on its way.
    fn prune(&mut self, Target(mut number): Target) {
        loop {
            let node = &self.nodes[number as usize];
            let (parent, next, previous) = (node.parent, node.next, node.previous);
            let is_needed =
                node.newest != NONE || self.inner(number).is_some_and(|inner| inner.children > 0);
            if parent == NONE || is_needed {
                break;
            }
            if self.is_active(Target(number)) {
                self.deactivate(number);
            }
            let hash = self.hash(parent, self.name(Target(number)));
            let this = |indexed: &Indexed| indexed.node == number;
            if let Ok(entry) = self.index.find_entry(Indexed::spread(hash), this) {
                entry.remove();
            }
            if let Some(after) = self.nodes.get_mut(next as usize) {
                after.previous = previous;
            }
            let is_first = match self.nodes.get_mut(previous as usize) {
                Some(before) => {
                    before.next = next;
                    false
                }
                None => true,
            };
            if let Some(inner) = self.inner_mut(parent) {
                inner.children -= 1;
                if is_first {
                    inner.first_child = next;
                }
            }
            let node = &mut self.nodes[number as usize];
            node.parent = NONE;
            let inner = std::mem::replace(&mut node.inner, NONE);
            if inner != NONE {
                self.free_inner.push(inner);
            }
            self.free_nodes.push(number);
            number = parent;
        }
        let nothing_waits = self.inner(0).is_some_and(|root| root.children == 0);
        if nothing_waits && self.changed.is_empty() {
            *self = Self::default();
        }
    }
}
