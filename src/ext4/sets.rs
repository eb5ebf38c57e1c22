//! The attribute sets of all inodes, each distinct one kept once.

use std::hash::{BuildHasher, RandomState};

use hashbrown::HashTable;
use sha2::{Digest as _, Sha256};

use super::xattr::{INDEX_ACL_ACCESS, INDEX_ACL_DEFAULT, Set};

/// A set that went out at once, in a block of its own.
#[derive(Debug)]
pub(crate) struct Sealed {
    pub block: u32,
    /// The inodes that hold values of it.
    pub values: Box<[u32]>,
    /// The blocks of those values.
    pub value_blocks: u32,
    /// It has an access ACL.
    pub access_acl: bool,
    /// It has a default ACL.
    pub default_acl: bool,
    digest: [u8; 32],
}

/// A set of which at least one inode was given the number.
#[derive(Debug)]
pub(crate) enum Stored {
    /// [`Set::encode`]d; placed when everything is known.
    Live(Box<[u8]>),
    Sealed(Sealed),
}

/// All sets, numbered from 1; 0 is the empty one.
#[derive(Default)]
pub(crate) struct Sets {
    stored: Vec<Stored>,
    /// Finds a live set by its encoding. As in the tree, nothing written depends on the keys.
    index: HashTable<u32>,
    hasher: RandomState,
    /// Bytes of the live sets that take more than an inode.
    large: usize,
}

impl Sets {
    /// The most bytes of sets outside inodes that are kept, so that equal ones
    /// share a block; later sets are written at once.
    const LARGE_MAX: usize = 16 << 20;

    /// The set of a number; `None` for the empty one.
    pub(crate) fn get(&self, number: u32) -> Option<&Stored> {
        self.stored.get(number.checked_sub(1)? as usize)
    }

    /// Whether there is none but the empty one.
    pub(crate) fn is_empty(&self) -> bool {
        self.stored.is_empty()
    }

    /// The count of numbers in use, that of the empty set included.
    pub(crate) fn count(&self) -> usize {
        self.stored.len() + 1
    }

    /// All sets with their numbers.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (u32, &Stored)> {
        (1..).zip(&self.stored)
    }

    /// The number of a live set that equals this one.
    pub(crate) fn find(&self, encoded: &[u8]) -> Option<u32> {
        let hash = self.hasher.hash_one(encoded);
        self.index
            .find(hash, |number| self.is(*number, encoded))
            .copied()
    }

    fn is(&self, number: u32, encoded: &[u8]) -> bool {
        matches!(self.get(number), Some(Stored::Live(bytes)) if **bytes == *encoded)
    }

    /// Whether a set of this encoded size that no inode holds must go out at once.
    pub(crate) fn must_seal(&self, encoded: &[u8]) -> bool {
        self.large + encoded.len() > Self::LARGE_MAX
    }

    /// Keeps a set that [`find`](Self::find) does not find.
    pub(crate) fn insert(&mut self, encoded: Box<[u8]>, fits_inode: bool) -> u32 {
        if !fits_inode {
            self.large += encoded.len();
        }
        let hash = self.hasher.hash_one(&*encoded);
        let number = self.push(Stored::Live(encoded));
        let Self {
            stored,
            index,
            hasher,
            ..
        } = self;
        index.insert_unique(hash, number, |number| match &stored[*number as usize - 1] {
            Stored::Live(bytes) => hasher.hash_one(&**bytes),
            Stored::Sealed(_) => 0,
        });
        number
    }

    /// Notes a set that was written to a block.
    pub(crate) fn seal(&mut self, set: &Set, encoded: &[u8], block: u32) -> u32 {
        let sealed = Sealed {
            block,
            values: set.value_inodes().collect(),
            value_blocks: set.value_blocks(),
            access_acl: set.get(INDEX_ACL_ACCESS, b"").is_some(),
            default_acl: set.get(INDEX_ACL_DEFAULT, b"").is_some(),
            digest: Sha256::digest(encoded).into(),
        };
        self.push(Stored::Sealed(sealed))
    }

    fn push(&mut self, stored: Stored) -> u32 {
        self.stored.push(stored);
        self.stored.len() as u32
    }
}

impl Sealed {
    /// Whether it was made of the set with this encoding.
    pub(crate) fn equals(&self, encoded: &[u8]) -> bool {
        self.digest == *Sha256::digest(encoded)
    }
}
