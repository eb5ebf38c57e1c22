//! Checking every block of a disk against its hash tree.

use std::fmt;

use rayon::prelude::*;
use zerocopy::FromBytes;

use super::superblock::{ALGORITHM, HASH_TYPE, SIGNATURE, Superblock, VERSION};
use super::{BLOCK_SIZE, HASH_SIZE, HASHES_PER_BLOCK, Hasher, level_sizes};
use crate::disk::Volume;
use crate::error::{Error, ErrorKind, Result};
use crate::summary::Digest;
use crate::threads;

/// The result of checking a disk against its hash tree.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct VerityCheck {
    /// The root hash that the tree has.
    pub root_hash: Digest,
    /// The byte of the hash device at which the superblock is.
    pub hash_offset: u64,
    /// 4 KiB blocks of data that the tree covers.
    pub data_blocks: u64,
    /// The salt.
    pub salt: Vec<u8>,
    /// The UUID of the hash device.
    pub uuid: [u8; 16],
    /// The first block that is not as its hash says; data before the tree.
    pub first_bad: Option<BadBlock>,
}

/// A block that is not as its hash says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct BadBlock {
    /// Its role.
    pub kind: BlockKind,
    /// The byte at which it starts, on the device of data or of hashes.
    pub offset: u64,
}

/// The role of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum BlockKind {
    /// The data.
    Data,
    /// The tree; the level counts from the data, which level 0 is over.
    Hash {
        /// The level.
        level: u32,
    },
    /// The part of a block of the tree that no hash takes, which has to be zero.
    Spare {
        /// The level.
        level: u32,
    },
}

/// As in `data` and `hash of level 0`.
impl fmt::Display for BlockKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Data => f.pad("data"),
            Self::Hash { level } => write!(f, "hash of level {level}"),
            Self::Spare { level } => write!(f, "spare of level {level}"),
        }
    }
}

/// Blocks of hashes that are checked at a time, each over 512 KiB of data.
const AT_A_TIME: u64 = 64;

impl Volume {
    /// Checks every block of this disk against the hash tree whose superblock is at `hash_offset`
    /// of `hashes`, which may be this disk, and every block of the tree against the one above; in
    /// parallel.
    ///
    /// [`verify`](Self::verify) does so where the tree belongs to a file system, and holds it against
    /// a root hash.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidDisk`] if there is no superblock that is understood, or the disks are
    /// too short, [`ErrorKind::Input`] if one of them cannot be read.
    pub fn verify_verity(&self, hashes: &Self, hash_offset: u64) -> Result<VerityCheck> {
        threads::shared(|| check(self, hashes, hash_offset))
    }
}

fn check(data: &Volume, hashes: &Volume, hash_offset: u64) -> Result<VerityCheck> {
    let mut block = [0; size_of::<Superblock>()];
    read(hashes, hash_offset, &mut block)?;
    let superblock = Superblock::read_from_bytes(&block)
        .map_err(|_| invalid("the superblock of the hash device is cut short"))?;
    let salt = understood(&superblock)?;
    let hasher = Hasher::new(salt);
    let data_blocks = superblock.data_blocks.get();
    let sizes = level_sizes(data_blocks);
    // The tree is smaller than the data by far: after this no sum overflows.
    let room = (u64::MAX / 4).checked_sub(hash_offset);
    if room.is_none_or(|room| data_blocks > room / BLOCK_SIZE as u64) {
        return Err(invalid(
            "the hash device is over more data than any disk has",
        ));
    }
    let mut check = VerityCheck {
        root_hash: Digest([0; HASH_SIZE]),
        hash_offset,
        data_blocks,
        salt: salt.to_vec(),
        uuid: superblock.uuid,
        first_bad: None,
    };
    let top = hash_offset + BLOCK_SIZE as u64;
    let (mut below, mut below_start) = (data_blocks, 0);
    for (level, blocks) in sizes.iter().enumerate() {
        // The levels above come first.
        let above: u64 = sizes[level + 1..].iter().sum();
        let start = top + above * BLOCK_SIZE as u64;
        let (source, level) = (if level == 0 { data } else { hashes }, level as u32);
        let over = Level {
            below: source,
            below_start,
            below_blocks: below,
            hashes,
            start,
            blocks: *blocks,
            hasher: &hasher,
            level,
        };
        let bad = over.first_bad()?;
        check.first_bad = check.first_bad.or(bad);
        (below, below_start) = (*blocks, start);
    }
    let mut root = [0; BLOCK_SIZE];
    match sizes.is_empty() {
        true => read(data, 0, &mut root)?,
        false => read(hashes, top, &mut root)?,
    }
    check.root_hash = Digest(hasher.hash(&root));
    Ok(check)
}

/// A level of the tree over what it hashes.
struct Level<'a> {
    below: &'a Volume,
    below_start: u64,
    below_blocks: u64,
    hashes: &'a Volume,
    start: u64,
    blocks: u64,
    hasher: &'a Hasher,
    level: u32,
}

impl Level<'_> {
    fn first_bad(&self) -> Result<Option<BadBlock>> {
        for first in (0..self.blocks).step_by(AT_A_TIME as usize) {
            let last = (first + AT_A_TIME).min(self.blocks);
            let found: Result<Vec<_>> = (first..last)
                .into_par_iter()
                .map(|block| self.bad_below(block))
                .collect();
            if let Some(bad) = found?.into_iter().flatten().next() {
                return Ok(Some(bad));
            }
        }
        Ok(None)
    }

    /// The first bad block under a block of hashes.
    fn bad_below(&self, block: u64) -> Result<Option<BadBlock>> {
        let mut hashes = [0; BLOCK_SIZE];
        let offset = self.start + block * BLOCK_SIZE as u64;
        read(self.hashes, offset, &mut hashes)?;
        let first = block * HASHES_PER_BLOCK;
        let count = (self.below_blocks - first).min(HASHES_PER_BLOCK) as usize;
        let mut below = vec![0; count * BLOCK_SIZE];
        let at = self.below_start + first * BLOCK_SIZE as u64;
        read(self.below, at, &mut below)?;
        let kind = match self.level.checked_sub(1) {
            None => BlockKind::Data,
            Some(level) => BlockKind::Hash { level },
        };
        let pairs = below
            .chunks_exact(BLOCK_SIZE)
            .zip(hashes.chunks_exact(HASH_SIZE));
        let bad = pairs
            .enumerate()
            .find(|(_, (block, hash))| self.hasher.hash(block) != **hash)
            .map(|(i, _)| BadBlock {
                kind,
                offset: at + (i * BLOCK_SIZE) as u64,
            });
        let spare = &hashes[count * HASH_SIZE..];
        Ok(bad.or_else(|| {
            spare.iter().any(|byte| *byte != 0).then_some(BadBlock {
                kind: BlockKind::Spare { level: self.level },
                offset,
            })
        }))
    }
}

/// Refuses what is no superblock of ours or hcsshim's; answers the salt.
fn understood(superblock: &Superblock) -> Result<&[u8]> {
    if superblock.signature != SIGNATURE {
        return Err(invalid("there is no superblock of a hash device"));
    }
    let algorithm = superblock.algorithm.split(|byte| *byte == 0).next();
    let block_size = BLOCK_SIZE as u32;
    if superblock.version.get() != VERSION
        || superblock.hash_type.get() != HASH_TYPE
        || algorithm != Some(ALGORITHM)
        || superblock.data_block_size.get() != block_size
        || superblock.hash_block_size.get() != block_size
    {
        return Err(invalid(format!(
            "only hash devices of version {VERSION}, hash type {HASH_TYPE}, SHA-256 and blocks \
             of {block_size} bytes are read"
        )));
    }
    if superblock.data_blocks.get() == 0 {
        return Err(invalid("the hash device is over no data"));
    }
    superblock
        .salt()
        .ok_or_else(|| invalid("the salt is longer than the superblock has room for"))
}

fn invalid(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::InvalidDisk, message)
}

fn read(device: &Volume, offset: u64, buffer: &mut [u8]) -> Result<()> {
    device.read_at(offset, buffer).map_err(|error| {
        Error::new(error.kind(), format!("cannot read {} bytes", buffer.len()))
            .with_source(error)
            .at_offset(offset)
    })
}
