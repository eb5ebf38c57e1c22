//! The superblock of a hash device, alone in its block.

use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::ext4::format::BLOCK_SIZE;

/// Bytes of the longest salt.
pub(super) const SALT_MAX: usize = 256;

/// struct verity_sb.
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(crate) struct Superblock {
    pub signature: [u8; 8],
    pub version: U32,
    pub hash_type: U32,
    pub uuid: [u8; 16],
    pub algorithm: [u8; 32],
    pub data_block_size: U32,
    pub hash_block_size: U32,
    pub data_blocks: U64,
    pub salt_size: U16,
    pub pad1: [u8; 6],
    pub salt: [u8; SALT_MAX],
    pub pad2: [u8; 168],
}
const _: () = assert!(size_of::<Superblock>() == 512);

/// signature.
pub(crate) const SIGNATURE: [u8; 8] = *b"verity\0\0";
/// version.
pub(super) const VERSION: u32 = 1;
/// hash_type: the salt comes before the block.
pub(super) const HASH_TYPE: u32 = 1;
/// algorithm, the rest zero.
pub(super) const ALGORITHM: &[u8] = b"sha256";

impl Superblock {
    pub(super) fn new(uuid: [u8; 16], salt: &[u8], data_blocks: u64) -> Self {
        let mut superblock = Self::new_zeroed();
        superblock.signature = SIGNATURE;
        superblock.version = VERSION.into();
        superblock.hash_type = HASH_TYPE.into();
        superblock.uuid = uuid;
        superblock.algorithm[..ALGORITHM.len()].copy_from_slice(ALGORITHM);
        superblock.data_block_size = (BLOCK_SIZE as u32).into();
        superblock.hash_block_size = (BLOCK_SIZE as u32).into();
        superblock.data_blocks = data_blocks.into();
        superblock.salt_size = (salt.len() as u16).into();
        superblock.salt[..salt.len()].copy_from_slice(salt);
        superblock
    }

    /// Its block, the rest zero.
    pub(super) fn block(&self) -> [u8; BLOCK_SIZE] {
        let mut block = [0; BLOCK_SIZE];
        block[..size_of::<Self>()].copy_from_slice(self.as_bytes());
        block
    }

    /// The salt, when its size is one that there can be.
    pub(crate) fn salt(&self) -> Option<&[u8]> {
        self.salt.get(..self.salt_size.get().into())
    }
}
