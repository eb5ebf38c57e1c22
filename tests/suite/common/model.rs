//! What a layer becomes, computed as plainly as possible: the tables of SEMANTICS.md in the
//! order of a reader's finger. Slow, in memory, and without a line shared with the product.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use tar2vhd::WarningKind;

use super::entry::{Entry, Kind, Time};
use super::tree::{Contents, Node, NodeKind, Tree};

/// What is known and asked for besides the layer.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Settings<'a> {
    /// `.wh.` names are plain names.
    pub(crate) plain: bool,
    /// There is nothing below.
    pub(crate) bottom: bool,
    /// What is below, for missing parents.
    pub(crate) lower: Option<&'a Tree>,
}

#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) tree: Tree,
    pub(crate) warnings: BTreeSet<WarningKind>,
}

/// The layer is to be refused.
#[derive(Debug)]
pub(crate) struct Refused {
    pub(crate) why: String,
    /// The entry without which it might not be.
    pub(crate) entry: usize,
}

type Result<T, E = String> = std::result::Result<T, E>;

fn refuse<T>(why: &str) -> Result<T> {
    Err(why.to_owned())
}

#[derive(Clone, Debug)]
struct Meta {
    mode: u32,
    uid: u32,
    gid: u32,
    mtime: Time,
    atime: Time,
    ctime: Time,
    xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
    /// No entry says any of this.
    implied: bool,
    /// The layers below say it.
    inherited: bool,
}

#[derive(Debug)]
enum Body {
    Dir(Dir),
    Other(NodeKind),
    /// A hard link whose target has not appeared: its entry and that entry's number.
    Waiting(Entry, usize),
}

#[derive(Debug, Default)]
struct Dir {
    names: BTreeMap<Vec<u8>, usize>,
    /// Names that the layer hides below, and the time of that entry.
    whiteouts: BTreeMap<Vec<u8>, Time>,
    opaque: bool,
    /// When it was made, nothing below could show through it.
    alone: bool,
}

struct Model<'a> {
    settings: Settings<'a>,
    inodes: Vec<(Meta, Body)>,
    warnings: BTreeSet<WarningKind>,
    /// The number of the entry at hand.
    now: usize,
    /// Directory, name and inode of what is there only because a hard link leads to it below.
    copies: Vec<(usize, Vec<u8>, usize)>,
    /// What was copied, by the first path that it has below.
    copied: BTreeMap<Vec<u8>, usize>,
}

const ROOT: usize = 0;

pub(crate) fn apply(entries: &[Entry], settings: Settings<'_>) -> Result<Outcome, Refused> {
    let mut model = Model {
        settings,
        inodes: vec![(plain_dir((0, 0)), Body::Dir(Dir::default()))],
        warnings: BTreeSet::new(),
        now: 0,
        copies: Vec::new(),
        copied: BTreeMap::new(),
    };
    for (number, entry) in entries.iter().enumerate() {
        model.now = number;
        let refused = |why| Refused { why, entry: number };
        model.entry(entry).map_err(refused)?;
        model.bind_waiting().map_err(refused)?;
    }
    if let Some((_, _, inode)) = model.waiting().first()
        && let Body::Waiting(_, entry) = model.inodes[*inode].1
    {
        let why = "a hard link whose target never came".to_owned();
        return Err(Refused { why, entry });
    }
    Ok(model.finish())
}

fn plain_dir(time: Time) -> Meta {
    Meta {
        mode: 0o755,
        uid: 0,
        gid: 0,
        mtime: time,
        atime: time,
        ctime: time,
        xattrs: BTreeMap::new(),
        implied: false,
        inherited: false,
    }
}

/// The names of a path, as if it stood in a root that `..` cannot leave.
fn names(path: &[u8]) -> Vec<Vec<u8>> {
    let mut names = Vec::new();
    for name in path.split(|b| *b == b'/') {
        match name {
            b"" | b"." => {}
            b".." => drop(names.pop()),
            name => names.push(name.to_vec()),
        }
    }
    names
}

/// Whether `..` would leave that root.
fn leaves_root(path: &[u8]) -> bool {
    let mut depth = 0_i64;
    path.split(|b| *b == b'/').any(|name| {
        depth += match name {
            b"" | b"." => 0,
            b".." => -1,
            _ => 1,
        };
        depth < 0
    })
}

/// Names that aufs kept its own things under.
fn is_aufs(name: &[u8]) -> bool {
    matches!(name, b".wh..wh.aufs" | b".wh..wh.orph" | b".wh..wh.plnk")
}

impl Model<'_> {
    fn dir(&mut self, inode: usize) -> &mut Dir {
        match &mut self.inodes[inode].1 {
            Body::Dir(dir) => dir,
            other => panic!("{other:?} is no directory"),
        }
    }

    fn is_dir(&self, inode: usize) -> bool {
        matches!(self.inodes[inode].1, Body::Dir(_))
    }

    /// Nothing below shows through; the root's own mark has no effect.
    fn hides_all(&mut self, inode: usize) -> bool {
        let dir = self.dir(inode);
        dir.alone || (dir.opaque && inode != ROOT)
    }

    fn lookup(&self, dir: usize, name: &[u8]) -> Option<usize> {
        match &self.inodes[dir].1 {
            Body::Dir(dir) => dir.names.get(name).copied(),
            _ => None,
        }
    }

    fn entry(&mut self, entry: &Entry) -> Result<()> {
        if leaves_root(&entry.path) {
            self.warnings.insert(WarningKind::PathClamped);
        }
        let mut path = names(&entry.path);
        let Some(last) = path.pop() else {
            if entry.kind != Kind::Dir {
                return refuse("the root is a directory");
            }
            let meta = self.meta(entry, true)?;
            self.update(ROOT, meta);
            return Ok(());
        };
        let marker = !self.settings.plain && !is_aufs(&last) && last.starts_with(b".wh.");
        if !self.settings.plain
            && path
                .iter()
                .any(|name| name.starts_with(b".wh.") && !is_aufs(name))
        {
            return refuse("a whiteout has nothing below it");
        }
        // What counts is the name that comes of it.
        let name = if marker { &last[4..] } else { &last };
        if path.iter().any(|name| name.len() > 255) || name.len() > 255 {
            return refuse("a component over 255 bytes");
        }
        if marker {
            return self.marker(&path, &last[4..], entry.mtime);
        }
        let Some(parent) = self.parent(&path, entry.mtime)? else {
            return refuse("a parent is no directory");
        };
        let there = self.lookup(parent, &last);
        if let Kind::Link(target) = &entry.kind {
            if leaves_root(target) {
                self.warnings.insert(WarningKind::PathClamped);
            }
            let found = match self.find(target)? {
                Some(found) if !matches!(self.inodes[found].1, Body::Waiting(..)) => Some(found),
                other => self.copy_up(target)?.or(other),
            };
            // To copy it up may have given the name at hand an inode.
            let there = self.lookup(parent, &last);
            return match found {
                Some(found) if self.is_dir(found) => refuse("a hard link to a directory"),
                Some(found) if there == Some(found) && names(&entry.path) == names(target) => {
                    Ok(())
                }
                Some(found) if !matches!(self.inodes[found].1, Body::Waiting(..)) => {
                    let symlink = matches!(self.inodes[found].1, Body::Other(NodeKind::Symlink(_)));
                    let mut meta = self.meta(entry, self.takes_user_xattrs(found))?;
                    if symlink {
                        meta.mode = 0o777;
                    }
                    self.update(found, meta);
                    self.put(parent, &last, found);
                    Ok(())
                }
                _ => {
                    let waiting = Body::Waiting(entry.clone(), self.now);
                    self.inodes.push((plain_dir(entry.mtime), waiting));
                    self.put(parent, &last, self.inodes.len() - 1);
                    Ok(())
                }
            };
        }
        let user = matches!(entry.kind, Kind::Dir | Kind::File(_));
        let mut meta = self.meta(entry, user)?;
        let body = match &entry.kind {
            Kind::File(segments) => Body::Other(NodeKind::File(Contents::of_segments(segments))),
            Kind::Dir => match there.filter(|there| self.is_dir(*there)) {
                Some(there) => {
                    self.update(there, meta);
                    return Ok(());
                }
                None => Body::Dir(Dir::default()),
            },
            Kind::Symlink(target) => {
                if target.is_empty() || target.len() > 4095 {
                    return refuse("no such link can be");
                }
                meta.mode = 0o777;
                Body::Other(NodeKind::Symlink(target.clone()))
            }
            Kind::Link(_) => unreachable!("handled above"),
            Kind::Char(0, 0) => {
                self.warnings.insert(WarningKind::DeviceZero);
                Body::Other(NodeKind::Char(Some((0, 0))))
            }
            Kind::Char(major, minor) => Body::Other(NodeKind::Char(Some((*major, *minor)))),
            Kind::Block(major, minor) => Body::Other(NodeKind::Block(Some((*major, *minor)))),
            Kind::Fifo => Body::Other(NodeKind::Fifo),
        };
        if let Body::Other(
            NodeKind::Char(Some((major, minor))) | NodeKind::Block(Some((major, minor))),
        ) = body
            && (major >= 1 << 12 || minor >= 1 << 20)
        {
            return refuse("device numbers beyond 12 and 20 bits");
        }
        self.inodes.push((meta, body));
        self.put(parent, &last, self.inodes.len() - 1);
        Ok(())
    }

    /// `.wh.NAME` and the opaque mark.
    fn marker(&mut self, parents: &[Vec<u8>], name: &[u8], time: Time) -> Result<()> {
        if matches!(name, b"" | b"." | b"..") {
            return refuse("a whiteout of nothing");
        }
        let Some(parent) = self.parent(parents, time)? else {
            // What would be hidden is hidden by the thing that is no directory.
            return Ok(());
        };
        if self.settings.bottom {
            return Ok(());
        }
        if name != b".wh..opq" {
            if let Some(there) = self.lookup(parent, name)
                && self.is_copy(parent, name, there)
            {
                self.dir(parent).names.remove(name);
            }
            self.dir(parent).whiteouts.insert(name.to_vec(), time);
            if let Some(there) = self
                .lookup(parent, name)
                .filter(|there| self.is_dir(*there))
            {
                self.dir(there).opaque = true;
                self.drop_copies(there);
            }
            return Ok(());
        }
        if parent == ROOT {
            self.warnings.insert(WarningKind::OpaqueRoot);
        }
        self.dir(parent).opaque = true;
        if parent != ROOT {
            self.drop_copies(parent);
        }
        Ok(())
    }

    /// Whether a name is there only for what was copied up.
    fn is_copy(&self, dir: usize, name: &[u8], inode: usize) -> bool {
        match &self.inodes[inode].1 {
            Body::Dir(inner) => {
                self.inodes[inode].0.inherited
                    && !inner.opaque
                    && inner
                        .names
                        .iter()
                        .all(|(name, child)| self.is_copy(inode, name, *child))
                    && inner.whiteouts.is_empty()
            }
            _ => self.copies.contains(&(dir, name.to_vec(), inode)),
        }
    }

    /// A directory hides what is below: what was copied up from there goes.
    fn drop_copies(&mut self, dir: usize) {
        let names: Vec<_> = self.dir(dir).names.clone().into_iter().collect();
        for (name, child) in names {
            if self.is_dir(child) {
                let held_copies = !self.dir(child).names.is_empty();
                self.drop_copies(child);
                let emptied = held_copies && self.dir(child).names.is_empty();
                if emptied && self.is_copy(dir, &name, child) {
                    self.dir(dir).names.remove(&name);
                }
            } else if self.is_copy(dir, &name, child) {
                self.dir(dir).names.remove(&name);
            }
        }
    }

    /// What the layers below show at a hard link's target, copied to this one.
    fn copy_up(&mut self, target: &[u8]) -> Result<Option<usize>> {
        let Some(lower) = self.settings.lower else {
            return Ok(None);
        };
        let mut path = names(target);
        let Some(last) = path.pop() else {
            return Ok(None);
        };
        // Inodes of this layer, none where a directory is only below, and paths.
        let mut stack: Vec<(Option<usize>, Vec<Vec<u8>>)> = vec![(Some(ROOT), Vec::new())];
        let mut todo: VecDeque<Vec<u8>> = path.into_iter().collect();
        let mut hops = 0;
        let shown = |model: &mut Self, stack: &[(Option<usize>, Vec<Vec<u8>>)], name: &[u8]| {
            let real: Vec<_> = stack.iter().filter_map(|(inode, _)| *inode).collect();
            let hidden = real.iter().any(|dir| model.hides_all(*dir));
            let (dir, path) = stack.last().unwrap();
            let gone = dir.is_some_and(|dir| model.dir(dir).whiteouts.contains_key(name));
            let full = [&path[..], &[name.to_vec()]].concat().join(&b'/');
            lower.0.get(&full).filter(|_| !hidden && !gone)
        };
        while let Some(name) = todo.pop_front() {
            match &name[..] {
                b"" | b"." => continue,
                b".." => {
                    if stack.len() > 1 {
                        stack.pop();
                    }
                    continue;
                }
                _ => {}
            }
            let (dir, path) = stack.last().cloned().unwrap();
            let full = [&path[..], std::slice::from_ref(&name)].concat();
            let here = dir.and_then(|dir| self.lookup(dir, &name));
            let link = match here.map(|here| &self.inodes[here].1) {
                Some(Body::Dir(_)) => None,
                Some(Body::Other(NodeKind::Symlink(target))) => Some(target.clone()),
                Some(_) => return Ok(None),
                None => match shown(self, &stack, &name).map(|node| &node.kind) {
                    Some(NodeKind::Dir) => None,
                    Some(NodeKind::Symlink(target)) => Some(target.clone()),
                    _ => return Ok(None),
                },
            };
            let Some(target) = link else {
                stack.push((here, full));
                continue;
            };
            hops += 1;
            if hops > 255 {
                return Ok(None);
            }
            if target.first() == Some(&b'/') {
                stack.truncate(1);
            }
            for name in target.split(|b| *b == b'/').rev() {
                todo.push_front(name.to_vec());
            }
        }
        let here = stack
            .last()
            .unwrap()
            .0
            .and_then(|dir| self.lookup(dir, &last));
        let Some(node) = shown(self, &stack, &last).filter(|_| here.is_none()) else {
            return Ok(None);
        };
        if node.kind == NodeKind::Dir {
            return refuse("a hard link to a directory");
        }
        let mut dir = ROOT;
        for (inode, path) in &stack[1..] {
            dir = match inode {
                Some(inode) => *inode,
                None => {
                    let meta = lower_meta(&lower.0[&path.join(&b'/')]);
                    self.inodes.push((meta, Body::Dir(Dir::default())));
                    let new = self.inodes.len() - 1;
                    self.put(dir, path.last().unwrap(), new);
                    new
                }
            };
        }
        let first = node.same_as.clone().unwrap_or_default();
        let is_named = |model: &Self, inode: usize| {
            let mut dirs = vec![ROOT];
            while let Some(dir) = dirs.pop() {
                if let Body::Dir(dir) = &model.inodes[dir].1 {
                    if dir.names.values().any(|child| *child == inode) {
                        return true;
                    }
                    dirs.extend(dir.names.values());
                }
            }
            false
        };
        let known = self.copied.get(&first).copied();
        let inode = match known.filter(|inode| is_named(self, *inode)) {
            Some(inode) => inode,
            None => {
                let mut meta = lower_meta(node);
                meta.inherited = false;
                self.inodes.push((meta, Body::Other(node.kind.clone())));
                self.inodes.len() - 1
            }
        };
        self.copied.insert(first, inode);
        self.put(dir, &last, inode);
        self.copies.push((dir, last, inode));
        Ok(Some(inode))
    }

    /// The directory of these names, missing ones made; `None` where something else stands.
    fn parent(&mut self, path: &[Vec<u8>], time: Time) -> Result<Option<usize>> {
        self.walk(path, Some(time))
    }

    /// The non-directory or directory at a hard link's target, its last name not followed.
    fn find(&mut self, target: &[u8]) -> Result<Option<usize>> {
        let mut path = names(target);
        let Some(last) = path.pop() else {
            return Ok(Some(ROOT));
        };
        // Through a circle of links it leads nowhere yet.
        let parent = self.walk(&path, None).unwrap_or_default();
        Ok(parent.and_then(|parent| self.lookup(parent, &last)))
    }

    fn walk(&mut self, path: &[Vec<u8>], make: Option<Time>) -> Result<Option<usize>> {
        let mut stack = vec![(ROOT, Vec::new())];
        let mut todo: VecDeque<Vec<u8>> = path.iter().cloned().collect();
        let mut hops = 0;
        while let Some(name) = todo.pop_front() {
            let (dir, path) = stack.last().cloned().unwrap();
            match &name[..] {
                b"" | b"." => continue,
                b".." => {
                    if stack.len() > 1 {
                        stack.pop();
                    }
                    continue;
                }
                _ => {}
            }
            let full = [&path[..], std::slice::from_ref(&name)].concat();
            let mut link = None;
            let mut next = self.lookup(dir, &name);
            match next.map(|next| &self.inodes[next].1) {
                Some(Body::Dir(_)) => {}
                Some(Body::Other(NodeKind::Symlink(target))) => link = Some(target.clone()),
                Some(_) => return Ok(None),
                None => {
                    let hidden = stack.iter().any(|(dir, _)| {
                        let dir = *dir;
                        self.hides_all(dir)
                    });
                    let hidden = hidden || self.dir(dir).whiteouts.contains_key(&name);
                    let below = self
                        .settings
                        .lower
                        .filter(|_| !hidden)
                        .and_then(|tree| tree.0.get(&full.join(&b'/')));
                    let mut meta = plain_dir(make.unwrap_or_default());
                    match below {
                        None => meta.implied = true,
                        Some(node) => match &node.kind {
                            NodeKind::Dir => meta = lower_meta(node),
                            NodeKind::Symlink(target) => link = Some(target.clone()),
                            _ => return Ok(None),
                        },
                    }
                    if link.is_none() {
                        if make.is_none() {
                            return Ok(None);
                        }
                        self.inodes.push((meta, Body::Dir(Dir::default())));
                        next = Some(self.inodes.len() - 1);
                        self.put(dir, &name, self.inodes.len() - 1);
                    }
                }
            }
            if let Some(target) = link {
                hops += 1;
                if hops > 255 {
                    return refuse("too many symbolic links");
                }
                if target.first() == Some(&b'/') {
                    stack.truncate(1);
                }
                for name in target.split(|b| *b == b'/').rev() {
                    todo.push_front(name.to_vec());
                }
            } else {
                stack.push((next.unwrap(), full));
            }
        }
        Ok(stack.last().map(|(dir, _)| *dir))
    }

    /// A name gets an inode; what stood there goes.
    fn put(&mut self, parent: usize, name: &[u8], inode: usize) {
        let hidden = self.hides_all(parent);
        let whited = self.dir(parent).whiteouts.contains_key(name);
        let old = self.lookup(parent, name);
        let of_entries = old.is_some_and(|old| !self.is_copy(parent, name, old));
        self.dir(parent).names.insert(name.to_vec(), inode);
        if of_entries && old.is_some_and(|old| self.is_dir(old)) {
            self.warnings.insert(WarningKind::ReplacedTree);
        }
        if old.is_some_and(|old| self.is_dir(old) && self.dir(old).opaque) {
            // What the layer hides stays hidden, whatever takes the name meanwhile.
            self.dir(parent)
                .whiteouts
                .insert(name.to_vec(), Time::default());
        }
        if self.is_dir(inode) {
            let dir = self.dir(inode);
            dir.alone = hidden;
            dir.opaque |= whited;
        }
    }

    /// A later header for the same inode.
    fn update(&mut self, inode: usize, meta: Meta) {
        let old = &mut self.inodes[inode].0;
        let mut xattrs = std::mem::take(&mut old.xattrs);
        if old.inherited {
            xattrs.clear();
        }
        xattrs.extend(meta.xattrs.clone());
        *old = Meta { xattrs, ..meta };
    }

    fn takes_user_xattrs(&self, inode: usize) -> bool {
        matches!(
            self.inodes[inode].1,
            Body::Dir(_) | Body::Other(NodeKind::File(_))
        )
    }

    fn meta(&mut self, entry: &Entry, user: bool) -> Result<Meta> {
        let id = |id: u64| match u32::try_from(id) {
            Ok(id) if id != u32::MAX => Ok(id),
            _ => refuse("an owner over 32 bits"),
        };
        let (uid, gid) = (id(entry.uid)?, id(entry.gid)?);
        let mtime = self.time(entry.mtime);
        let atime = entry.atime.map_or(mtime, |time| self.time(time));
        let ctime = entry.ctime.map_or(mtime, |time| self.time(time));
        Ok(Meta {
            mode: entry.mode & 0o7777,
            uid,
            gid,
            mtime,
            atime,
            ctime,
            xattrs: self.xattrs(entry, user)?,
            implied: false,
            inherited: false,
        })
    }

    fn xattrs(&mut self, entry: &Entry, user: bool) -> Result<BTreeMap<Vec<u8>, Vec<u8>>> {
        let mut xattrs = BTreeMap::new();
        for (name, value) in &entry.xattrs {
            if name.len() > 255 || value.len() > 65_536 {
                return refuse("an attribute beyond what the kernel takes");
            }
            let kept = match name.split(|b| *b == b'.').next() {
                Some(b"user") => user,
                Some(b"trusted") => self.settings.plain,
                Some(b"security") => true,
                _ => matches!(
                    &name[..],
                    b"system.posix_acl_access" | b"system.posix_acl_default"
                ),
            };
            if kept {
                xattrs.insert(name.clone(), value.clone());
            } else {
                self.warnings.insert(WarningKind::XattrDropped);
            }
        }
        Ok(xattrs)
    }

    fn time(&mut self, (seconds, nanos): Time) -> Time {
        let (min, max) = (-(1 << 31), (1 << 34) - (1 << 31) - 1);
        if (min..=max).contains(&seconds) {
            return (seconds, nanos);
        }
        self.warnings.insert(WarningKind::TimeClamped);
        if seconds < min {
            (min, 0)
        } else {
            (max, 999_999_999)
        }
    }

    /// Every name that leads to a link in waiting: directory, name, inode.
    fn waiting(&self) -> Vec<(usize, Vec<u8>, usize)> {
        let mut list = Vec::new();
        let mut todo = vec![ROOT];
        while let Some(inode) = todo.pop() {
            let Body::Dir(dir) = &self.inodes[inode].1 else {
                continue;
            };
            for (name, child) in &dir.names {
                match self.inodes[*child].1 {
                    Body::Dir(_) => todo.push(*child),
                    Body::Waiting(..) => list.push((inode, name.clone(), *child)),
                    Body::Other(_) => {}
                }
            }
        }
        list
    }

    /// Binds links whose target has appeared, in turns until nothing changes; of a turn the
    /// last entry first.
    fn bind_waiting(&mut self) -> Result<()> {
        loop {
            let mut turn = Vec::new();
            for (dir, name, inode) in self.waiting() {
                let Body::Waiting(entry, number) = &self.inodes[inode].1 else {
                    continue;
                };
                let (entry, number) = (entry.clone(), *number);
                let Kind::Link(target) = &entry.kind else {
                    continue;
                };
                let found = match self.find(target)? {
                    None => self.copy_up(target)?,
                    found => found,
                };
                match found {
                    Some(found) if self.is_dir(found) => {
                        return refuse("a hard link to a directory");
                    }
                    Some(found) if !matches!(self.inodes[found].1, Body::Waiting(..)) => {
                        turn.push((number, dir, name, found, entry));
                    }
                    _ => {}
                }
            }
            if turn.is_empty() {
                return Ok(());
            }
            turn.sort_by_key(|(number, ..)| std::cmp::Reverse(*number));
            for (_, dir, name, found, entry) in turn {
                // The target's own header is the later one.
                let user = self.takes_user_xattrs(found);
                for (name, value) in self.xattrs(&entry, user)? {
                    let meta = &mut self.inodes[found].0;
                    meta.xattrs.entry(name).or_insert(value);
                }
                self.put(dir, &name, found);
            }
        }
    }

    fn finish(mut self) -> Outcome {
        let mut tree = Tree::default();
        let mut inodes = BTreeMap::new();
        // Path, inode, and whether everything below is hidden already.
        let mut todo = vec![(Vec::new(), ROOT, false)];
        while let Some((path, inode, hidden)) = todo.pop() {
            let mut xattrs = self.inodes[inode].0.xattrs.clone();
            let mut kind = NodeKind::Dir;
            match &mut self.inodes[inode].1 {
                Body::Waiting(..) => unreachable!("none waits"),
                Body::Other(other) => kind = other.clone(),
                Body::Dir(dir) => {
                    let dir = std::mem::take(dir);
                    if self.inodes[inode].0.implied {
                        self.warnings.insert(WarningKind::MissingParent);
                    }
                    // The root's mark has no effect, so hides nothing.
                    let hidden = hidden || (dir.opaque && inode != ROOT);
                    if dir.opaque {
                        xattrs.insert(b"trusted.overlay.opaque".to_vec(), b"y".to_vec());
                    }
                    let join = |name: &[u8]| {
                        let slash: &[u8] = if path.is_empty() { b"" } else { b"/" };
                        [&path[..], slash, name].concat()
                    };
                    for (name, time) in &dir.whiteouts {
                        if !hidden && !dir.names.contains_key(name) {
                            let kind = NodeKind::Char(Some((0, 0)));
                            let mut meta = plain_dir(*time);
                            meta.mode = 0;
                            tree.0.insert(join(name), node(&meta, kind));
                        }
                    }
                    for (name, child) in &dir.names {
                        if self.settings.plain || !is_aufs(name) {
                            todo.push((join(name), *child, hidden));
                        }
                    }
                }
            }
            let mut meta = self.inodes[inode].0.clone();
            meta.xattrs = xattrs;
            tree.0.insert(path.clone(), node(&meta, kind.clone()));
            if kind != NodeKind::Dir {
                inodes.insert(path, inode);
            }
        }
        tree.group_links(|path| inodes.get(path).copied());
        for (path, node) in &mut tree.0 {
            if node.same_as.is_none() && node.kind == NodeKind::Char(Some((0, 0))) {
                node.same_as = Some(path.clone());
            }
        }
        Outcome {
            tree,
            warnings: self.warnings,
        }
    }
}

fn lower_meta(node: &Node) -> Meta {
    Meta {
        mode: node.mode,
        uid: node.uid,
        gid: node.gid,
        mtime: node.mtime,
        atime: node.mtime,
        ctime: node.mtime,
        xattrs: node.xattrs.clone().unwrap_or_default(),
        implied: false,
        inherited: true,
    }
}

fn node(meta: &Meta, kind: NodeKind) -> Node {
    Node {
        kind,
        mode: meta.mode,
        uid: meta.uid,
        gid: meta.gid,
        mtime: meta.mtime,
        atime: meta.atime,
        ctime: Some(meta.ctime),
        xattrs: Some(meta.xattrs.clone()),
        same_as: None,
    }
}
