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
    /// A directory or symbolic link was replaced while links waited: where a path leads then
    /// changes with everything that comes, and whether it ever led to the target in between is
    /// not promised.
    pub(crate) shifting: bool,
    pub(crate) warnings: BTreeSet<WarningKind>,
}

/// The layer is to be refused.
#[derive(Debug)]
pub(crate) struct Refused {
    pub(crate) why: String,
    /// The entry without which it might not be.
    pub(crate) entry: usize,
    /// Where a link that waits leads is to blame, and that is not promised: see
    /// [`Outcome::shifting`].
    pub(crate) shifting: bool,
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
    shifting: bool,
}

const ROOT: usize = 0;

pub(crate) fn apply(entries: &[Entry], settings: Settings<'_>) -> Result<Outcome, Refused> {
    let mut model = Model {
        settings,
        inodes: vec![(plain_dir((0, 0)), Body::Dir(Dir::default()))],
        warnings: BTreeSet::new(),
        now: 0,
        shifting: false,
    };
    for (number, entry) in entries.iter().enumerate() {
        model.now = number;
        let refused = |why, shifting| Refused {
            why,
            entry: number,
            shifting,
        };
        model.entry(entry).map_err(|why| refused(why, false))?;
        let bound = model.bind_waiting();
        bound.map_err(|why| refused(why, model.shifting))?;
    }
    if let Some((_, _, inode)) = model.waiting().first()
        && let Body::Waiting(_, entry) = model.inodes[*inode].1
    {
        let why = "a hard link whose target never came".to_owned();
        return Err(Refused {
            why,
            entry,
            shifting: model.shifting,
        });
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
            return match self.find(target)? {
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
            self.dir(parent).whiteouts.insert(name.to_vec(), time);
            if let Some(there) = self
                .lookup(parent, name)
                .filter(|there| self.is_dir(*there))
            {
                self.dir(there).opaque = true;
            }
            return Ok(());
        }
        if parent == ROOT {
            self.warnings.insert(WarningKind::OpaqueRoot);
        }
        self.dir(parent).opaque = true;
        Ok(())
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
        let parent = self.walk(&path, None)?;
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
                    let Some(time) = make else { return Ok(None) };
                    let below = self
                        .settings
                        .lower
                        .filter(|_| {
                            !self.hides_all(dir) && !self.dir(dir).whiteouts.contains_key(&name)
                        })
                        .and_then(|tree| tree.0.get(&full.join(&b'/')));
                    let mut meta = plain_dir(time);
                    match below {
                        None => meta.implied = true,
                        Some(node) => match &node.kind {
                            NodeKind::Dir => meta = lower_meta(node),
                            NodeKind::Symlink(target) => link = Some(target.clone()),
                            _ => return Ok(None),
                        },
                    }
                    if link.is_none() {
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
        let old = self.dir(parent).names.insert(name.to_vec(), inode);
        if let Some(old) = old {
            let was_dir = self.is_dir(old);
            if was_dir {
                self.warnings.insert(WarningKind::ReplacedTree);
            }
            let was_link = matches!(self.inodes[old].1, Body::Other(NodeKind::Symlink(_)));
            self.shifting |= (was_dir || was_link) && !self.waiting().is_empty();
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

    /// Binds links whose target has appeared, until nothing changes.
    fn bind_waiting(&mut self) -> Result<()> {
        loop {
            let mut bound = false;
            for (dir, name, inode) in self.waiting() {
                let Body::Waiting(entry, _) = &self.inodes[inode].1 else {
                    continue;
                };
                let entry = entry.clone();
                let Kind::Link(target) = &entry.kind else {
                    continue;
                };
                match self.find(target)? {
                    Some(found) if self.is_dir(found) => {
                        return refuse("a hard link to a directory");
                    }
                    Some(found) if !matches!(self.inodes[found].1, Body::Waiting(..)) => {
                        // The target's own header is the later one.
                        let user = self.takes_user_xattrs(found);
                        for (name, value) in self.xattrs(&entry, user)? {
                            let meta = &mut self.inodes[found].0;
                            meta.xattrs.entry(name).or_insert(value);
                        }
                        self.put(dir, &name, found);
                        bound = true;
                    }
                    _ => {}
                }
            }
            if !bound {
                return Ok(());
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
            shifting: self.shifting,
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
