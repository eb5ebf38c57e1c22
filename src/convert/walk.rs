//! Paths: from what the tar spells to a directory of the tree, as in a chroot.

use std::borrow::Cow;
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::ext4::tree::Ino;
use crate::layer::Entry;
use crate::summary::{WarningKind, Warnings, display_path};

/// The most bytes of a name.
pub(super) const NAME_MAX: usize = 255;

/// A path without empty components, `.` and `..`, which is taken for the component before it
/// and ends at the root.
pub(super) fn clean(path: &[u8]) -> Cow<'_, [u8]> {
    // As most are spelled: at most with "./" before them and a slash behind.
    let inner = path.strip_prefix(b"./").unwrap_or(path);
    let inner = inner.strip_suffix(b"/").unwrap_or(inner);
    // Whether what needs cleaning may be there is seen without a look for each slash.
    let pairs = inner.iter().zip(inner.get(1..).unwrap_or_default());
    let may_be_odd = pairs.fold(
        matches!(inner, [] | [b'/' | b'.', ..]) || inner.ends_with(b"/"),
        |odd, (first, second)| odd | (*first == b'/') & ((*second == b'/') | (*second == b'.')),
    );
    if !may_be_odd {
        return Cow::Borrowed(inner);
    }
    let slashes = memchr::memchr_iter(b'/', inner).map(|slash| slash + 1);
    let is_odd = |start: usize| match &inner[start..] {
        [] | [b'/', ..] => true,
        // A name may begin with dots.
        [b'.', rest @ ..] => {
            let rest = rest.strip_prefix(b".").unwrap_or(rest);
            matches!(rest, [] | [b'/', ..])
        }
        _ => false,
    };
    if !std::iter::once(0).chain(slashes).any(is_odd) {
        return Cow::Borrowed(inner);
    }
    let mut clean = Vec::with_capacity(path.len());
    for component in path.split(|byte| *byte == b'/') {
        match component {
            b"" | b"." => {}
            b".." => clean.truncate(split_last(&clean).0.len()),
            name => {
                if !clean.is_empty() {
                    clean.push(b'/');
                }
                clean.extend_from_slice(name);
            }
        }
    }
    Cow::Owned(clean)
}

/// Whether a path has more `..` than components before them, and so leads out of the root.
fn leaves_root(path: &[u8]) -> bool {
    let mut depth = 0_usize;
    path.split(|byte| *byte == b'/').any(|component| {
        match component {
            b"" | b"." => {}
            b".." => match depth.checked_sub(1) {
                Some(above) => depth = above,
                None => return true,
            },
            _ => depth += 1,
        }
        false
    })
}

/// Cleans a path of an entry, with a warning where it leads out of the root.
pub(super) fn clean_with_warning<'p>(
    what: &str,
    path: &'p [u8],
    entry: &Entry,
    warnings: &mut Warnings,
) -> Cow<'p, [u8]> {
    let clean = clean(path);
    // A path that needs no cleaning has no `..`.
    if matches!(clean, Cow::Owned(_)) && leaves_root(path) {
        let message = format!(
            "the {what} leads out of the root: it was taken for /{}",
            display_path(&clean)
        );
        warnings.push(WarningKind::PathClamped, &entry.path, message);
    }
    clean
}

/// Where the first slash is. Most names are shorter than it takes to look for one many bytes at a
/// time.
fn slash_in(path: &[u8]) -> Option<usize> {
    const SHORT: usize = 8;
    let start = &path[..path.len().min(SHORT)];
    match start.iter().position(|byte| *byte == b'/') {
        None => memchr::memchr(b'/', &path[start.len()..]).map(|n| start.len() + n),
        found => found,
    }
}

/// A clean path's parent and last component.
pub(super) fn split_last(path: &[u8]) -> (&[u8], &[u8]) {
    match memchr::memrchr(b'/', path) {
        Some(slash) => (&path[..slash], &path[slash + 1..]),
        None => (b"", path),
    }
}

/// A path that is being followed, with the targets of the links it went through.
#[derive(Debug)]
pub(super) struct Walk {
    /// Where it is.
    pub at: Ino,
    /// The path and the targets of the links that it is in; the innermost link's last.
    levels: Vec<Level>,
    way: Way,
}

#[derive(Debug)]
struct Level {
    path: Arc<[u8]>,
    /// Bytes of the path already walked.
    done: usize,
    /// The link whose target this is, and the way up to it.
    link: Option<(Link, Way)>,
}

/// A symbolic link in a directory: an inode of the layer, or a name in the layers below.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Link {
    Here(Ino, Ino),
    Below(Ino, Arc<[u8]>),
}

/// The cost of following links.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Way {
    hops: u16,
    /// Components of the targets.
    steps: u32,
}

/// The next step of a walk.
#[derive(Debug)]
pub(super) enum Step {
    /// A component, `..` included.
    Name(Component),
    /// The target of a link was followed to its end, and took this.
    Through(Link, Way),
}

/// The most components that the targets of links on one path may have together: without a
/// bound a short entry could take as long as half a million look-ups.
const STEPS_MAX: u32 = 16 << 10;
const HOPS_MAX: u16 = 255;

/// A component of a path.
#[derive(Clone, Debug)]
pub(super) struct Component {
    path: Arc<[u8]>,
    start: usize,
    end: usize,
}

impl std::ops::Deref for Component {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.path[self.start..self.end]
    }
}

impl Walk {
    /// The start of a path at a directory.
    pub(super) fn starting(at: Ino, path: &[u8]) -> Self {
        let level = Level {
            path: path.into(),
            done: 0,
            link: None,
        };
        Self {
            at,
            levels: vec![level],
            way: Way::default(),
        }
    }

    /// The next component, or the end of a link's target.
    pub(super) fn next(&mut self) -> Option<Step> {
        while let Some(Level { path, done, .. }) = self.levels.last_mut() {
            let start = *done;
            let Some(tail) = path.get(start..).filter(|tail| !tail.is_empty()) else {
                if let Some((link, before)) = self.levels.pop().and_then(|level| level.link) {
                    let took = Way {
                        hops: self.way.hops - before.hops,
                        steps: self.way.steps - before.steps,
                    };
                    return Some(Step::Through(link, took));
                }
                continue;
            };
            let end = slash_in(tail).map_or(path.len(), |n| start + n);
            *done = end + 1;
            if !matches!(&path[start..end], b"" | b".") {
                return Some(Step::Name(Component {
                    path: Arc::clone(path),
                    start,
                    end,
                }));
            }
        }
        None
    }

    /// Where the component ends that [`next`](Self::next) gave last, unless a symbolic link was
    /// on the way.
    pub(super) fn end(&self) -> Option<usize> {
        match &self.levels[..] {
            [level] if self.way.hops == 0 => level.done.checked_sub(1),
            _ => None,
        }
    }

    /// Whether the component that [`next`](Self::next) gave last is of the target of a link.
    pub(super) fn is_in_link(&self) -> bool {
        self.levels.len() > 1
    }

    fn go(&mut self, way: Way) -> Result<()> {
        self.way.hops += way.hops;
        self.way.steps += way.steps;
        if self.way.hops > HOPS_MAX {
            return Err(Error::entry(format!(
                "the path goes through more than {HOPS_MAX} symbolic links"
            )));
        }
        if self.way.steps > STEPS_MAX {
            return Err(Error::entry(format!(
                "the path goes through symbolic links of more than {STEPS_MAX} components"
            )));
        }
        Ok(())
    }

    /// Goes through a symbolic link, and says how many components its target has.
    pub(super) fn follow(&mut self, link: Link, target: &[u8]) -> Result<u32> {
        let before = self.way;
        let steps = 1 + memchr::memchr_iter(b'/', target).count() as u32;
        self.go(Way { hops: 1, steps })?;
        if target.starts_with(b"/") {
            self.at = Ino::ROOT;
        }
        self.levels.push(Level {
            path: target.into(),
            done: 0,
            link: Some((link, before)),
        });
        Ok(steps)
    }

    /// Goes through a symbolic link whose target was followed before, to where that led.
    pub(super) fn jump(&mut self, at: Ino, way: Way) -> Result<()> {
        self.at = at;
        self.go(way)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn cleaning_ends_at_the_root() {
        for (path, want) in [
            ("", ""),
            ("/", ""),
            ("./", ""),
            ("./a/b/", "a/b"),
            (".//a", "a"),
            ("a//", "a"),
            ("a//b/./c/", "a/b/c"),
            ("../../a", "a"),
            ("/a/../../b", "b"),
            ("a/b/..", "a"),
            ("...", "..."),
        ] {
            assert_eq!(*clean(path.as_bytes()), *want.as_bytes(), "{path}");
        }
    }

    #[test]
    fn a_path_leaves_the_root_when_nothing_is_left_to_leave() {
        for (path, leaves) in [
            ("../x", true),
            ("..", true),
            ("/../x", true),
            ("./../x", true),
            ("a/../../b", true),
            ("a/b/../../../a/b", true),
            ("a/..", false),
            ("a/../b", false),
            ("a/b/../../c", false),
            ("...", false),
            ("..a/..b", false),
            ("", false),
        ] {
            assert_eq!(leaves_root(path.as_bytes()), leaves, "{path}");
        }
    }

    proptest! {
        #[test]
        fn what_is_clean_stays(path in "[./a]{0,12}") {
            let components = path.split('/').filter(|component| !matches!(*component, "" | "."));
            let mut naive = Vec::new();
            for component in components {
                match component {
                    ".." => drop(naive.pop()),
                    name => naive.push(name),
                }
            }
            let cleaned = clean(path.as_bytes());
            prop_assert_eq!(cleaned.to_vec(), naive.join("/").into_bytes());
            prop_assert_eq!(clean(&cleaned), &*cleaned);
        }
    }

    const LINK: Link = Link::Here(Ino::ROOT, Ino::ROOT);

    fn name(walk: &mut Walk) -> Option<Vec<u8>> {
        loop {
            match walk.next()? {
                Step::Name(name) => return Some(name.to_vec()),
                Step::Through(..) => {}
            }
        }
    }

    #[test]
    fn links_are_walked_before_the_rest() {
        let mut walk = Walk::starting(Ino::ROOT, b"a/b/c");
        assert_eq!(name(&mut walk).unwrap(), b"a");
        walk.follow(LINK, b"x/../y").unwrap();
        let rest: Vec<_> = std::iter::from_fn(|| name(&mut walk)).collect();
        assert_eq!(rest, [&b"x"[..], b"..", b"y", b"b", b"c"]);
    }

    #[test]
    fn what_a_link_took_is_told_at_its_end() {
        let mut walk = Walk::starting(Ino::ROOT, b"a/b");
        name(&mut walk);
        walk.follow(LINK, b"x/y").unwrap();
        name(&mut walk);
        walk.follow(LINK, b"./z").unwrap();
        let mut took = Vec::new();
        while let Some(step) = walk.next() {
            if let Step::Through(_, way) = step {
                took.push((way.hops, way.steps));
            }
        }
        assert_eq!(took, [(1, 2), (2, 4)]);
    }

    #[test]
    fn links_end_after_255() {
        let mut walk = Walk::starting(Ino::ROOT, b"a/b");
        for _ in 0..255 {
            name(&mut walk);
            walk.follow(LINK, b"a").unwrap();
        }
        assert!(walk.follow(LINK, b"a").is_err());
        let way = Way { hops: 1, steps: 1 };
        let mut walk = Walk::starting(Ino::ROOT, b"a/b");
        for _ in 0..255 {
            walk.jump(Ino::ROOT, way).unwrap();
        }
        assert!(walk.jump(Ino::ROOT, way).is_err());
    }
}
