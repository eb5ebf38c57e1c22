//! Checksums of metadata as the kernel checks them.
//!
//! Source: Linux, Documentation/filesystems/ext4, "Checksums".

use std::mem::offset_of;
use std::ops::Range;

use zerocopy::FromBytes;

use crate::ext4::checksum::{crc16, crc32c, uuid_seed};
use crate::ext4::format::{
    GroupDescriptor, INCOMPAT_CSUM_SEED, Inode, RO_COMPAT_GDT_CSUM, RO_COMPAT_METADATA_CSUM,
    Superblock,
};

/// Which checksums a file system has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Checksums {
    None,
    /// uninit_bg: CRC-16 of the group descriptors alone.
    Descriptors {
        /// Of the UUID.
        seed: u16,
    },
    /// metadata_csum: CRC-32C of all metadata.
    Metadata {
        seed: u32,
    },
}

impl Checksums {
    pub(super) fn of(superblock: &Superblock) -> Self {
        let features = superblock.s_feature_ro_compat.get();
        if features & RO_COMPAT_METADATA_CSUM != 0 {
            Self::Metadata {
                seed: seed(superblock),
            }
        } else if features & RO_COMPAT_GDT_CSUM != 0 {
            Self::Descriptors {
                seed: crc16(!0, &superblock.s_uuid),
            }
        } else {
            Self::None
        }
    }

    /// The seed of everything that has a CRC-32C.
    pub(crate) fn seed(self) -> Option<u32> {
        match self {
            Self::Metadata { seed } => Some(seed),
            _ => None,
        }
    }

    /// Whether a group descriptor has its checksum.
    pub(crate) fn hold_for_descriptor(self, group: u32, bytes: &[u8]) -> bool {
        const FIELD: usize = offset_of!(GroupDescriptor, bg_checksum);
        let Ok((descriptor, _)) = GroupDescriptor::ref_from_prefix(bytes) else {
            return false;
        };
        let stored = descriptor.bg_checksum.get();
        let number = group.to_le_bytes();
        match self {
            Self::None => true,
            Self::Descriptors { seed } => {
                let sum = crc16(crc16(seed, &number), &bytes[..FIELD]);
                crc16(sum, &bytes[FIELD + 2..]) == stored
            }
            Self::Metadata { seed } => {
                let sum = with_hole(crc32c(seed, &number), bytes, FIELD..FIELD + 2);
                sum & 0xFFFF == u32::from(stored)
            }
        }
    }
}

/// The seed of checksums and of the hashes of values in inodes, which has a meaning without
/// checksums too.
pub(super) fn seed(superblock: &Superblock) -> u32 {
    match superblock.s_feature_incompat.get() & INCOMPAT_CSUM_SEED {
        0 => uuid_seed(&superblock.s_uuid),
        _ => superblock.s_checksum_seed.get(),
    }
}

/// The seed of what belongs to an inode.
pub(super) fn inode_seed(seed: u32, ino: u32, generation: u32) -> u32 {
    crc32c(crc32c(seed, &ino.to_le_bytes()), &generation.to_le_bytes())
}

/// Of bytes of which those in `hole`, at most four, count as zero.
pub(super) fn with_hole(seed: u32, bytes: &[u8], hole: Range<usize>) -> u32 {
    let sum = crc32c(seed, &bytes[..hole.start]);
    let sum = crc32c(sum, &[0; 4][..hole.len()]);
    crc32c(sum, &bytes[hole.end..])
}

/// Whether an inode of any size, of 128 bytes at least, has its checksum.
pub(crate) fn inode_is_sound(seed: u32, ino: u32, bytes: &[u8]) -> bool {
    const GENERATION: usize = offset_of!(Inode, i_generation);
    const LOW: usize = offset_of!(Inode, i_checksum_lo);
    const EXTRA_ISIZE: usize = offset_of!(Inode, i_extra_isize);
    const HIGH: usize = offset_of!(Inode, i_checksum_hi);
    let field = |at: usize| u16::from_le_bytes([bytes[at], bytes[at + 1]]);

    let generation = u32::from(field(GENERATION + 2)) << 16 | u32::from(field(GENERATION));
    let seed = inode_seed(seed, ino, generation);
    let low = u32::from(field(LOW));
    let has_high = bytes.len() > 128 && usize::from(field(EXTRA_ISIZE)) >= HIGH + 2 - 128;
    if has_high {
        let sum = with_hole(seed, &bytes[..HIGH], LOW..LOW + 2);
        let sum = with_hole(sum, &bytes[HIGH..], 0..2);
        sum == u32::from(field(HIGH)) << 16 | low
    } else {
        with_hole(seed, bytes, LOW..LOW + 2) & 0xFFFF == low
    }
}
