//! Memory of where paths led, and the budget for following them.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::super::walk::{Link, Way};
use crate::error::{Error, Result};
use crate::ext4::tree::Ino;
use crate::layer::{Entry, EntryKind};

/// The parent directory of the entry before: most entries share it with the next, or are near.
pub(super) struct LastParent {
    /// As the tar spells it.
    pub(super) spelled: Vec<u8>,
    pub(super) ino: Ino,
    /// Prefixes of the path, by their lengths, and the directories they lead to; only those without a
    /// symbolic link on the way.
    pub(super) steps: Vec<(usize, Ino)>,
}

impl LastParent {
    /// The number of leading steps that a path shares, found in time proportional to the length that
    /// it shares.
    pub(super) fn shared_with(&self, path: &[u8]) -> usize {
        let shared = common_prefix(&self.spelled, path);
        let count = self.steps.partition_point(|(end, _)| *end <= shared);
        match self.steps[..count].last() {
            // The name goes on in the path.
            Some((end, _)) if path.get(*end).is_some_and(|byte| *byte != b'/') => count - 1,
            _ => count,
        }
    }
}

/// The length of the common prefix of two slices.
fn common_prefix(one: &[u8], other: &[u8]) -> usize {
    fn count<T: PartialEq>(one: &[T], other: &[T]) -> usize {
        let same = one
            .iter()
            .zip(other)
            .take_while(|(one, other)| one == other);
        same.count()
    }
    let (words, others) = (one.as_chunks::<16>().0, other.as_chunks::<16>().0);
    let words = 16 * count(words, others);
    words + count(&one[words..], &other[words..])
}

/// Where symbolic links led, for as long as no directory and no symbolic link goes.
#[derive(Default)]
pub(super) struct Ways {
    pub(super) known: HashMap<Link, (Ino, Way, u64)>,
    pub(super) generation: u64,
    /// Links of the layers below that were followed, which the layer may yet cover.
    pub(super) below: HashSet<(Ino, Arc<[u8]>)>,
}

impl Ways {
    /// The most links that are remembered.
    const MAX: usize = 1 << 16;

    pub(super) fn find(&self, link: &Link) -> Option<(Ino, Way)> {
        let (at, way, generation) = self.known.get(link)?;
        (*generation == self.generation).then_some((*at, *way))
    }

    pub(super) fn learn(&mut self, link: Link, at: Ino, way: Way) {
        if self.known.len() >= Self::MAX {
            self.known = HashMap::new();
        }
        self.known.insert(link, (at, way, self.generation));
    }

    pub(super) fn forget(&mut self) {
        self.generation += 1;
        self.below.clear();
    }
}

/// Bounds the work that is not in proportion to the layer's bytes: a short path can lead
/// through thousands of components of symbolic links, and a change of one link can move the
/// targets of thousands of hard links. A layer earns steps with every entry, far more than any
/// that was made to be unpacked takes.
pub(super) struct Effort(u64);

impl Effort {
    const PER_ENTRY: u64 = 64;
    const AT_FIRST: u64 = 1 << 16;
    /// Extra steps for making a directory on the target of a link. A short link can make many of
    /// them again and again, while a path that is spelled out has a byte for each of its own.
    pub(super) const MADE: usize = 31;

    pub(super) fn new() -> Self {
        Self(Self::AT_FIRST)
    }

    pub(super) fn earn(&mut self, entry: &Entry) {
        let target = match &entry.kind {
            EntryKind::HardLink(target) => target.len(),
            _ => 0,
        };
        self.0 += Self::PER_ENTRY + (entry.path.len() + target) as u64 / 8;
    }

    pub(super) fn spend(&mut self, steps: usize) -> Result<()> {
        self.0 = self.0.checked_sub(steps as u64).ok_or_else(|| {
            Error::limit(format!(
                "to follow symbolic links and to look for the targets of hard links takes more \
                 than {} steps for each entry so far",
                Self::PER_ENTRY
            ))
        })?;
        Ok(())
    }
}
