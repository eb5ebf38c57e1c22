//! Which paths the layers above hide, as far as the paths themselves tell.
//!
//! Symbolic links are not followed, and hashes stand for paths, so that an answer can be wrong. A
//! file that was taken for a hidden one costs a second reading of its layer, one that was taken for
//! a visible one costs its blocks; the tree that comes out is the same.

use std::collections::HashMap;
use std::collections::hash_map::Entry as Slot;

use super::walk::{clean, split_last};
use crate::layer::{Entry, EntryKind, Whiteout, classify};

/// The paths of the layers that were read, the top one first.
#[derive(Default)]
pub(super) struct Shadow {
    above: HashMap<u64, u8>,
    /// Those of the layer that is read: they hide nothing of itself.
    here: Vec<(u64, u8)>,
}

/// Anything but a directory: it hides what is at its path and below it.
const OTHER: u8 = 1;
/// A directory: it hides anything else at its path.
const DIRECTORY: u8 = 1 << 1;
/// A directory that hides everything below it.
const OPAQUE: u8 = 1 << 2;
/// A whiteout hides as much as a file does, and has no contents.
const WHITEOUT: u8 = 1 << 3;
/// The target of a hard link of a layer above.
const WANTED: u8 = 1 << 4;

/// The hash of the root.
const ROOT: u64 = 0;

impl Shadow {
    /// Whether a regular file at a clean path is visible, or wanted for another reason.
    pub(super) fn shows(&self, path: &[u8]) -> bool {
        if self.above.is_empty() {
            return true;
        }
        let of = |hash: u64| self.above.get(&hash).copied().unwrap_or(0);
        let mut hash = ROOT;
        let mut hidden = false;
        let mut flags = of(hash);
        for name in path.split(|byte| *byte == b'/') {
            hidden |= flags & (OTHER | WHITEOUT | OPAQUE) != 0;
            hash = step(hash, name);
            flags = of(hash);
        }
        hidden |= flags & (OTHER | WHITEOUT | DIRECTORY) != 0;
        !hidden || flags & WANTED != 0
    }

    /// Notes an entry of the layer that is read, at a clean path.
    pub(super) fn note(&mut self, path: &[u8], entry: &Entry) {
        if path.is_empty() {
            return;
        }
        let (parent, name) = split_last(path);
        let noted = match classify(name) {
            Whiteout::Name(hidden) => (step(hash_of(parent), hidden), WHITEOUT),
            Whiteout::Opaque => (hash_of(parent), OPAQUE),
            Whiteout::No | Whiteout::Hidden | Whiteout::Invalid => match &entry.kind {
                EntryKind::Directory => (hash_of(path), DIRECTORY),
                EntryKind::HardLink(target) => {
                    self.here.push((hash_of(&clean(target)), WANTED));
                    (hash_of(path), OTHER)
                }
                _ => (hash_of(path), OTHER),
            },
        };
        self.here.push(noted);
    }

    /// Ends the layer: from now on it hides those below.
    pub(super) fn end_layer(&mut self) {
        let mut here: HashMap<u64, u8> = HashMap::with_capacity(self.here.len());
        for (hash, flags) in std::mem::take(&mut self.here) {
            *here.entry(hash).or_default() |= flags;
        }
        for (hash, mut flags) in here {
            // The layer has the target itself.
            let has_contents = flags & OTHER != 0;
            if has_contents {
                flags &= !WANTED;
            }
            match self.above.entry(hash) {
                Slot::Vacant(slot) => _ = slot.insert(flags),
                Slot::Occupied(mut slot) => {
                    let above = slot.get_mut();
                    if has_contents {
                        *above &= !WANTED;
                    }
                    *above |= flags;
                }
            }
        }
    }
}

/// The hash of a clean path.
fn hash_of(path: &[u8]) -> u64 {
    match path {
        [] => ROOT,
        _ => path.split(|byte| *byte == b'/').fold(ROOT, step),
    }
}

/// The hash of a path with one name more.
fn step(parent: u64, name: &[u8]) -> u64 {
    const MULTIPLIER: u64 = 0x9e37_79b9_7f4a_7c15;
    let mix = |hash: u64, word: u64| {
        let product = u128::from(hash ^ word ^ MULTIPLIER) * u128::from(MULTIPLIER | 1 << 63);
        (product as u64) ^ (product >> 64) as u64
    };
    let (words, rest) = name.as_chunks::<8>();
    let hash = words
        .iter()
        .fold(parent, |hash, word| mix(hash, u64::from_le_bytes(*word)));
    let mut last = [0; 8];
    last[..rest.len()].copy_from_slice(rest);
    mix(mix(hash, u64::from_le_bytes(last)), name.len() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn noted(shadow: &mut Shadow, path: &str, kind: EntryKind) {
        let entry = Entry {
            path: path.into(),
            kind,
            ..Entry::default()
        };
        shadow.note(path.as_bytes(), &entry);
    }

    fn file() -> EntryKind {
        EntryKind::File { size: 1 }
    }

    #[test]
    fn a_layer_hides_those_below_and_not_itself() {
        let mut shadow = Shadow::default();
        noted(&mut shadow, "file", file());
        noted(&mut shadow, "dir", EntryKind::Directory);
        noted(&mut shadow, "opaque/.wh..wh..opq", file());
        noted(&mut shadow, "a/.wh.gone", file());
        assert!(shadow.shows(b"file"));
        shadow.end_layer();
        for hidden in [
            "file",
            "file/below",
            "dir",
            "opaque/x",
            "opaque/x/y",
            "a/gone",
            "a/gone/x",
        ] {
            assert!(!shadow.shows(hidden.as_bytes()), "{hidden}");
        }
        for shown in ["dir/x", "opaque", "a", "a/other", "other"] {
            assert!(shadow.shows(shown.as_bytes()), "{shown}");
        }
    }

    #[test]
    fn the_target_of_a_hard_link_above_is_wanted_from_the_next_layer_that_has_it() {
        let mut shadow = Shadow::default();
        noted(
            &mut shadow,
            "link",
            EntryKind::HardLink(b"./target".to_vec()),
        );
        noted(&mut shadow, "here", file());
        noted(&mut shadow, "again", EntryKind::HardLink(b"here".to_vec()));
        shadow.end_layer();
        noted(&mut shadow, ".wh.target", file());
        shadow.end_layer();
        assert!(shadow.shows(b"target") && !shadow.shows(b"here"));
        noted(&mut shadow, "target", file());
        shadow.end_layer();
        assert!(!shadow.shows(b"target"));
    }

    #[test]
    fn an_opaque_root_hides_everything() {
        let mut shadow = Shadow::default();
        noted(&mut shadow, ".wh..wh..opq", file());
        shadow.end_layer();
        assert!(!shadow.shows(b"any"));
    }

    #[test]
    fn names_of_all_lengths_have_hashes_of_their_own() {
        let names: Vec<_> = (0..40).map(|len| "a".repeat(len)).collect();
        let hashes: std::collections::HashSet<_> = names
            .iter()
            .map(|name| step(ROOT, name.as_bytes()))
            .collect();
        assert_eq!(hashes.len(), names.len());
        assert_ne!(hash_of(b"a/b"), hash_of(b"ab"));
        assert_ne!(hash_of(b"a/b"), hash_of(b"b/a"));
    }
}
