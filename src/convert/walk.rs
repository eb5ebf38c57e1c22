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
    // What needs no cleaning has no `..`.
    if matches!(clean, Cow::Owned(_)) && leaves_root(path) {
        let message = format!(
            "the {what} leads out of the root: it was taken for /{}",
            display_path(&clean)
        );
        warnings.push(WarningKind::PathClamped, &entry.path, message);
    }
    clean
}

/// A clean path's parent and last component.
pub(super) fn split_last(path: &[u8]) -> (&[u8], &[u8]) {
    match memchr::memrchr(b'/', path) {
        Some(slash) => (&path[..slash], &path[slash + 1..]),
        None => (b"", path),
    }
}

/// A path that is being followed, with the targets of the links it went through.
#[derive(Clone, Debug)]
pub(super) struct Walk {
    /// Where it is.
    pub at: Ino,
    /// Paths and how much of each is done; the innermost link's last.
    rest: Vec<(Arc<[u8]>, usize)>,
    hops: u8,
    /// Components of the targets so far.
    steps: usize,
}

/// The most components that the targets of links on one path may have together: without a
/// bound a short entry could take as long as half a million look-ups.
const STEPS_MAX: usize = 16 << 10;

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
    /// The start of a path at the root.
    pub(super) fn new(path: &[u8]) -> Self {
        Self::starting(Ino::ROOT, path)
    }

    /// The start of a path at a directory.
    pub(super) fn starting(at: Ino, path: &[u8]) -> Self {
        Self {
            at,
            rest: vec![(path.into(), 0)],
            hops: 0,
            steps: 0,
        }
    }

    /// The next component, `..` included.
    pub(super) fn next(&mut self) -> Option<Component> {
        while let Some((path, done)) = self.rest.last_mut() {
            let start = *done;
            let Some(tail) = path.get(start..).filter(|tail| !tail.is_empty()) else {
                self.rest.pop();
                continue;
            };
            let end = tail
                .iter()
                .position(|byte| *byte == b'/')
                .map_or(path.len(), |n| start + n);
            *done = end + 1;
            if !matches!(&path[start..end], b"" | b".") {
                return Some(Component {
                    path: Arc::clone(path),
                    start,
                    end,
                });
            }
        }
        None
    }

    /// Where the component ends that [`next`](Self::next) gave last, unless a symbolic link was
    /// on the way.
    pub(super) fn end(&self) -> Option<usize> {
        match &self.rest[..] {
            [(_, done)] if self.hops == 0 => done.checked_sub(1),
            _ => None,
        }
    }

    /// Goes through a symbolic link.
    pub(super) fn follow(&mut self, target: &[u8]) -> Result<()> {
        self.hops = self
            .hops
            .checked_add(1)
            .ok_or_else(|| Error::entry("the path goes through more than 255 symbolic links"))?;
        self.steps += target.split(|byte| *byte == b'/').count();
        if self.steps > STEPS_MAX {
            return Err(Error::entry(format!(
                "the path goes through symbolic links of more than {STEPS_MAX} components"
            )));
        }
        if target.starts_with(b"/") {
            self.at = Ino::ROOT;
        }
        // A path that is done must not wait under the next one: chains of links stay flat.
        self.rest.retain(|(path, done)| *done < path.len());
        self.rest.push((target.into(), 0));
        Ok(())
    }

    /// Takes the component that [`next`](Self::next) gave last back.
    pub(super) fn put_back(&mut self, component: &Component) {
        self.rest.push((component[..].into(), 0));
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

    #[test]
    fn links_are_walked_before_the_rest() {
        let mut walk = Walk::new(b"a/b/c");
        assert_eq!(&*walk.next().unwrap(), b"a");
        walk.follow(b"x/../y").unwrap();
        let mut rest = Vec::new();
        while let Some(component) = walk.next() {
            if &*component == b"y" && rest.len() == 2 {
                walk.put_back(&component);
                rest.push(b"again".to_vec());
                continue;
            }
            rest.push(component.to_vec());
        }
        assert_eq!(rest, [&b"x"[..], b"..", b"again", b"y", b"b", b"c"]);
    }

    #[test]
    fn links_end_after_255() {
        let mut walk = Walk::new(b"a/b");
        for _ in 0..255 {
            walk.next();
            walk.follow(b"a").unwrap();
        }
        assert!(walk.rest.len() <= 2);
        assert!(walk.follow(b"a").is_err());
    }
}
