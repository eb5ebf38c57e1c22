//! One inode as it lies on disk.
//!
//! Source: Linux, Documentation/filesystems/ext4, "Index Nodes".

use std::mem::offset_of;

use zerocopy::FromBytes;

use super::checksum::{inode_seed, with_hole};
use crate::ext4::checksum::crc32c;
use crate::ext4::format::{
    INODE_SIZE, Inode, S_IFBLK, S_IFCHR, S_IFDIR, S_IFIFO, S_IFLNK, S_IFMT, S_IFREG, S_IFSOCK,
};

/// file_type of a directory.
pub(super) const DIR: u8 = 2;

/// An inode as it lies on disk.
pub(super) struct Raw<'a> {
    pub ino: u32,
    pub bytes: &'a [u8],
    pub fields: Inode,
}

impl<'a> Raw<'a> {
    pub(super) fn new(ino: u32, bytes: &'a [u8]) -> Option<Self> {
        // An inode of 128 bytes has no extra fields.
        let mut whole = [0; INODE_SIZE];
        let len = bytes.len().min(INODE_SIZE);
        whole[..len].copy_from_slice(&bytes[..len]);
        let fields = Inode::read_from_bytes(&whole).ok()?;
        Some(Self { ino, bytes, fields })
    }

    pub(super) fn mode(&self) -> u16 {
        self.fields.i_mode.get()
    }

    pub(super) fn links(&self) -> u16 {
        self.fields.i_links_count.get()
    }

    pub(super) fn flags(&self) -> u32 {
        self.fields.i_flags.get()
    }

    pub(super) fn has(&self, flag: u32) -> bool {
        self.flags() & flag != 0
    }

    pub(super) fn size(&self) -> u64 {
        u64::from(self.fields.i_size_high.get()) << 32 | u64::from(self.fields.i_size_lo.get())
    }

    pub(super) fn is(&self, kind: u16) -> bool {
        self.mode() & S_IFMT == kind
    }

    pub(super) fn i_block_is_zero(&self) -> bool {
        self.fields.i_block.iter().all(|byte| *byte == 0)
    }

    pub(super) fn entry_type(&self) -> u8 {
        match self.mode() & S_IFMT {
            S_IFREG => 1,
            S_IFDIR => DIR,
            S_IFCHR => 3,
            S_IFBLK => 4,
            S_IFIFO => 5,
            S_IFSOCK => 6,
            S_IFLNK => 7,
            _ => 0,
        }
    }

    /// Whether the checksum matches: the one found and the one computed if not.
    pub(super) fn checksum(&self, seed: u32) -> std::result::Result<(), (u32, u32)> {
        const LOW: usize = offset_of!(Inode, i_checksum_lo);
        const HIGH: usize = offset_of!(Inode, i_checksum_hi);
        let (low, high) = (
            u32::from(self.fields.i_checksum_lo.get()),
            u32::from(self.fields.i_checksum_hi.get()),
        );
        let seed = inode_seed(seed, self.ino, self.fields.i_generation.get());
        let extra = usize::from(self.fields.i_extra_isize.get());
        let (found, computed) = if self.bytes.len() > 128 && 128 + extra >= HIGH + 2 {
            let sum = with_hole(seed, &self.bytes[..HIGH], LOW..LOW + 2);
            let sum = crc32c(crc32c(sum, &[0; 2]), &self.bytes[HIGH + 2..]);
            (high << 16 | low, sum)
        } else {
            (low, with_hole(seed, self.bytes, LOW..LOW + 2) & 0xFFFF)
        };
        match found == computed {
            true => Ok(()),
            false => Err((found, computed)),
        }
    }
}
