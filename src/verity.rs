//! dm-verity: the hash tree of a disk, made while its blocks go by, and checked.
//!
//! Source: Linux, Documentation/admin-guide/device-mapper/verity.rst; for the superblock
//! cryptsetup, lib/verity/verity.c. Hashes are SHA-256 of the salt and the block (hash type 1).

mod check;
mod superblock;

use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};

use rayon::prelude::*;
use sha2::{Digest as _, Sha256};
use uuid::Builder;

use crate::disk::DiskOutput;
use crate::error::{Error, ErrorKind, Result};
use crate::ext4::format::BLOCK_SIZE;
use crate::summary::Digest;

pub use check::{BadBlock, BlockKind, VerityCheck};
use superblock::SALT_MAX;
pub(crate) use superblock::{SIGNATURE, Superblock};

/// Bytes of a hash.
const HASH_SIZE: usize = 32;
/// Hashes in a block of the tree.
const HASHES_PER_BLOCK: u64 = (BLOCK_SIZE / HASH_SIZE) as u64;

type Hash = [u8; HASH_SIZE];
type HashBlock = [u8; BLOCK_SIZE];

/// How the hash tree of a disk is made.
///
/// ```
/// let verity = tar2vhd::verity::Verity::new().salt([7; 32]);
/// let options = tar2vhd::Options::new().verity(verity);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub struct Verity {
    pub(crate) salt: Vec<u8>,
    pub(crate) uuid: Option<[u8; 16]>,
}

impl Default for Verity {
    fn default() -> Self {
        Self {
            salt: vec![0; 32],
            uuid: None,
        }
    }
}

impl Verity {
    /// A salt of 32 zero bytes, as hcsshim has it, and a UUID that follows from the contents.
    pub fn new() -> Self {
        Self::default()
    }

    /// The bytes that are hashed before each block, 256 at most.
    pub fn salt(mut self, salt: impl Into<Vec<u8>>) -> Self {
        self.salt = salt.into();
        self
    }

    /// The UUID of the hash device; the root hash does not depend on it.
    pub fn uuid(mut self, uuid: [u8; 16]) -> Self {
        self.uuid = Some(uuid);
        self
    }

    pub(crate) fn check(&self) -> Result<()> {
        if self.salt.len() > SALT_MAX {
            return Err(Error::new(
                ErrorKind::InvalidOptions,
                format!(
                    "a salt of {} bytes; {SALT_MAX} are possible",
                    self.salt.len()
                ),
            ));
        }
        Ok(())
    }
}

/// Hashes blocks with a salt before each.
#[derive(Clone)]
struct Hasher(Sha256);

impl Hasher {
    fn new(salt: &[u8]) -> Self {
        Self(Sha256::new_with_prefix(salt))
    }

    fn hash(&self, block: &[u8]) -> Hash {
        self.0.clone().chain_update(block).finalize().into()
    }
}

/// Blocks of each level of the tree over `data_blocks` blocks, the lowest first; the last has one.
fn level_sizes(data_blocks: u64) -> Vec<u64> {
    let mut sizes = Vec::new();
    let mut blocks = data_blocks;
    // The hash of a single block is the root hash, without a tree.
    while blocks > 1 {
        blocks = blocks.div_ceil(HASHES_PER_BLOCK);
        sizes.push(blocks);
    }
    sizes
}

/// Blocks of the superblock and the tree over `data_blocks` blocks.
pub(crate) fn hash_device_blocks(data_blocks: u64) -> u64 {
    1 + level_sizes(data_blocks).iter().sum::<u64>()
}

/// The hashes of a disk's blocks, which come in any order, from several threads.
///
/// 32 bytes are kept of each block of data, and less where nothing is written: such blocks
/// are zero, and so are their hashes all the same.
pub(crate) struct Hashes {
    verity: Verity,
    hasher: Hasher,
    zero: Hash,
    /// The lowest level of the tree; `None` where no block below has come.
    leaves: Mutex<Vec<Option<Box<HashBlock>>>>,
}

impl Hashes {
    pub(crate) fn new(verity: Verity) -> Self {
        let hasher = Hasher::new(&verity.salt);
        Self {
            zero: hasher.hash(&[0; BLOCK_SIZE]),
            verity,
            hasher,
            leaves: Mutex::default(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Option<Box<HashBlock>>>> {
        self.leaves.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A block of hashes of blocks that are zero.
    fn zero_leaf(&self) -> HashBlock {
        let mut leaf = [0; BLOCK_SIZE];
        let hashes = leaf.chunks_exact_mut(HASH_SIZE);
        hashes.for_each(|hash| hash.copy_from_slice(&self.zero));
        leaf
    }

    /// Closes the tree over a disk of `data_blocks` blocks.
    pub(crate) fn finish(&self, data_blocks: u64) -> Tree {
        let mut leaves = std::mem::take(&mut *self.lock());
        let sizes = level_sizes(data_blocks);
        leaves.resize_with(sizes.first().map_or(0, |n| *n as usize), || None);
        let zero_leaf = self.zero_leaf();
        let used = (data_blocks % HASHES_PER_BLOCK) as usize * HASH_SIZE;
        if used > 0
            && let Some(last) = leaves.last_mut()
        {
            last.get_or_insert_with(|| Box::new(zero_leaf))[used..].fill(0);
        }
        let zero_hash = self.hasher.hash(&zero_leaf);
        let mut hashes: Vec<Hash> = leaves
            .par_iter()
            .map(|leaf| {
                leaf.as_deref()
                    .map_or(zero_hash, |leaf| self.hasher.hash(leaf))
            })
            .collect();
        let mut upper = Vec::new();
        for blocks in sizes.iter().skip(1) {
            let mut level = hashes.concat();
            level.resize(*blocks as usize * BLOCK_SIZE, 0);
            hashes = level
                .par_chunks_exact(BLOCK_SIZE)
                .map(|block| self.hasher.hash(block))
                .collect();
            upper.push(level);
        }
        let root = hashes.first().copied().unwrap_or(self.zero);
        let Verity { salt, uuid } = &self.verity;
        let uuid = uuid.unwrap_or_else(|| derived_uuid(&root, salt));
        Tree {
            superblock: Superblock::new(uuid, salt, data_blocks),
            root: Digest(root),
            upper,
            leaves,
            zero_leaf,
        }
    }
}

/// Takes whole blocks, as the file system writes them.
impl DiskOutput for Hashes {
    fn write_at(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        const AT_A_TIME: usize = 64;
        let mut block = offset / BLOCK_SIZE as u64;
        for part in data.chunks(AT_A_TIME * BLOCK_SIZE) {
            let mut hashes = [[0; HASH_SIZE]; AT_A_TIME];
            let blocks = part.chunks_exact(BLOCK_SIZE);
            let count = blocks.len();
            for (hash, data) in hashes.iter_mut().zip(blocks) {
                *hash = self.hasher.hash(data);
            }
            let mut leaves = self.lock();
            for hash in &hashes[..count] {
                let leaf = (block / HASHES_PER_BLOCK) as usize;
                let at = (block % HASHES_PER_BLOCK) as usize * HASH_SIZE;
                if leaf >= leaves.len() {
                    leaves.resize_with(leaf + 1, || None);
                }
                let leaf = leaves[leaf].get_or_insert_with(|| Box::new(self.zero_leaf()));
                leaf[at..at + HASH_SIZE].copy_from_slice(hash);
                block += 1;
            }
        }
        Ok(())
    }

    /// The size is known last, to [`finish`](Self::finish).
    fn set_len(&self, _: u64) -> io::Result<()> {
        Ok(())
    }
}

/// The hash device of a disk.
pub(crate) struct Tree {
    pub superblock: Superblock,
    pub root: Digest,
    /// The levels above the lowest.
    upper: Vec<Vec<u8>>,
    leaves: Vec<Option<Box<HashBlock>>>,
    zero_leaf: HashBlock,
}

impl Tree {
    /// All blocks of the device in their order: the superblock, then the tree from its top.
    pub(crate) fn write(&self, mut put: impl FnMut(&[u8]) -> Result<()>) -> Result<()> {
        put(&self.superblock.block())?;
        for level in self.upper.iter().rev() {
            put(level)?;
        }
        self.leaves
            .iter()
            .try_for_each(|leaf| put(leaf.as_deref().unwrap_or(&self.zero_leaf)))
    }
}

/// A UUID (version 8) that follows from what is hashed and how.
fn derived_uuid(root: &Hash, salt: &[u8]) -> [u8; 16] {
    let hash: [u8; 32] = Sha256::new_with_prefix(b"tar2vhd verity")
        .chain_update(root)
        .chain_update(salt)
        .finalize()
        .into();
    let mut head = [0; 16];
    head.copy_from_slice(&hash[..16]);
    Builder::from_custom_bytes(head).into_uuid().into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_end_in_one_block() {
        for (data, sizes) in [
            (0, &[][..]),
            (1, &[]),
            (2, &[1]),
            (128, &[1]),
            (129, &[2, 1]),
            (128 * 128, &[128, 1]),
            (128 * 128 + 1, &[129, 2, 1]),
        ] {
            assert_eq!(level_sizes(data), sizes, "{data}");
        }
        assert_eq!(hash_device_blocks(129), 4);
    }

    /// The device as one piece of memory.
    fn device(tree: &Tree) -> Vec<u8> {
        let mut bytes = Vec::new();
        tree.write(|part| {
            bytes.extend_from_slice(part);
            Ok(())
        })
        .unwrap();
        bytes
    }

    #[test]
    fn neither_order_nor_holes_change_the_tree() {
        for blocks in [2_usize, 127, 128, 129, 1000, 17_000] {
            let mut data = vec![0; blocks * BLOCK_SIZE];
            // Every third run of blocks stays zero.
            for (i, byte) in data.iter_mut().enumerate() {
                if i / BLOCK_SIZE / 200 % 3 != 1 {
                    *byte = (i / 7) as u8;
                }
            }
            let in_order = Hashes::new(Verity::new());
            in_order.write_at(0, &data).unwrap();
            let backwards = Hashes::new(Verity::new());
            for (i, part) in data.chunks(3 * BLOCK_SIZE).enumerate().rev() {
                if part.iter().any(|byte| *byte != 0) {
                    let offset = (i * 3 * BLOCK_SIZE) as u64;
                    backwards.write_at(offset, part).unwrap();
                }
            }
            let (a, b) = (
                in_order.finish(blocks as u64),
                backwards.finish(blocks as u64),
            );
            assert_eq!(a.root, b.root);
            assert!(device(&a) == device(&b), "{blocks}");
            let want = hash_device_blocks(blocks as u64) as usize * BLOCK_SIZE;
            assert_eq!(device(&a).len(), want);
        }
    }
}
