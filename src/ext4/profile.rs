//! The differences between two kinds of file system from one writer.
//!
//! hcsshim's numbers are facts of its ext4/internal/compactext4 at commit
//! 7c9ff7f481383ff47524bade75d1b25d631b49ce, whose images policies of confidential containers
//! name by their root hash.

use super::format::{
    BG_INODE_ZEROED, COMPAT_DIR_INDEX, COMPAT_EXT_ATTR, COMPAT_SPARSE_SUPER2, DEFAULT_MOUNT_OPTS,
    EXTRA_ISIZE, FIRST_INO, FLAGS_SIGNED_HASH, HASH_HALF_MD4, INCOMPAT_EXTENTS, INCOMPAT_FILETYPE,
    INCOMPAT_FLEX_BG, INCOMPAT_INLINE_DATA, INODE_SIZE, RO_COMPAT_DIR_NLINK, RO_COMPAT_EXTRA_ISIZE,
    RO_COMPAT_HUGE_FILE, RO_COMPAT_LARGE_FILE, RO_COMPAT_METADATA_CSUM,
};

/// The decisions and numbers of a kind of file system.
#[derive(Debug)]
pub(crate) struct Profile {
    /// Structures carry checksums (metadata_csum).
    pub checksums: bool,
    /// Blocks of files that are zero have their place on the disk.
    pub zeros_take_place: bool,
    /// Attributes, with a block of their own for each inode, have their place before the
    /// contents.
    pub xattrs_come_first: bool,
    /// Directories of more than a block have hash trees and lie in the order of their inodes;
    /// else all are lists in the order of inode numbers, each right before those below it.
    pub hashed_directories: bool,
    /// Groups are as small as they can be; else of 32,768 blocks each.
    pub small_groups: bool,
    /// The bits behind the last inode of a group are set, as e2fsck wants them.
    pub padded_bitmaps: bool,
    /// bg_flags.
    pub group_flags: u16,
    /// bg_itable_unused is told.
    pub unused_inodes: bool,
    /// i_extra_isize: bytes of further fields, behind which attributes follow.
    pub extra_isize: u16,
    /// i_blocks counts blocks of the file system (EXT4_HUGE_FILE_FL), not of 512 bytes.
    pub counts_blocks: bool,
    /// A file without blocks has the root of an extent tree nevertheless.
    pub empty_extent_roots: bool,
    /// Small device numbers have the old form.
    pub old_device_numbers: bool,
    /// The file system has a UUID, a hash seed and times.
    pub identified: bool,
    /// s_feature_compat and its sisters; more are set where they are used, and read-only
    /// unless the file system is to be written to.
    pub compat: u32,
    pub incompat: u32,
    pub ro_compat: u32,
    /// INCOMPAT_INLINE_DATA where files may be inline, not just where one is.
    pub inline_data_announced: bool,
    pub max_mnt_count: u16,
    pub def_hash_version: u8,
    pub default_mount_opts: u32,
    pub flags: u32,
    pub log_groups_per_flex: u8,
    /// s_lpf_ino: lost+found.
    pub lpf_ino: u32,
}

/// The file system of the default profile.
pub(crate) static DEFAULT: Profile = Profile {
    checksums: true,
    zeros_take_place: false,
    xattrs_come_first: false,
    hashed_directories: true,
    small_groups: true,
    padded_bitmaps: true,
    group_flags: BG_INODE_ZEROED,
    unused_inodes: true,
    extra_isize: EXTRA_ISIZE,
    counts_blocks: false,
    empty_extent_roots: true,
    old_device_numbers: true,
    identified: true,
    compat: COMPAT_EXT_ATTR | COMPAT_DIR_INDEX | COMPAT_SPARSE_SUPER2,
    incompat: INCOMPAT_FILETYPE | INCOMPAT_EXTENTS | INCOMPAT_FLEX_BG,
    ro_compat: RO_COMPAT_LARGE_FILE
        | RO_COMPAT_HUGE_FILE
        | RO_COMPAT_DIR_NLINK
        | RO_COMPAT_EXTRA_ISIZE
        | RO_COMPAT_METADATA_CSUM,
    inline_data_announced: false,
    max_mnt_count: u16::MAX,
    def_hash_version: HASH_HALF_MD4,
    default_mount_opts: DEFAULT_MOUNT_OPTS,
    flags: FLAGS_SIGNED_HASH,
    // libfsext refuses more. Up to 32,768 groups are one flexible group.
    log_groups_per_flex: 15,
    lpf_ino: 0,
};

/// The file system that hcsshim writes.
pub(crate) static HCSSHIM: Profile = Profile {
    checksums: false,
    zeros_take_place: true,
    xattrs_come_first: true,
    hashed_directories: false,
    small_groups: false,
    padded_bitmaps: false,
    group_flags: 0,
    unused_inodes: false,
    // i_version_hi and i_projid make room for attributes.
    extra_isize: EXTRA_ISIZE - 8,
    counts_blocks: true,
    empty_extent_roots: false,
    old_device_numbers: false,
    identified: false,
    compat: COMPAT_EXT_ATTR | COMPAT_SPARSE_SUPER2,
    incompat: INCOMPAT_FILETYPE | INCOMPAT_EXTENTS | INCOMPAT_FLEX_BG,
    ro_compat: RO_COMPAT_LARGE_FILE | RO_COMPAT_HUGE_FILE | RO_COMPAT_EXTRA_ISIZE,
    inline_data_announced: true,
    max_mnt_count: 0,
    def_hash_version: 0,
    default_mount_opts: 0,
    flags: 0,
    log_groups_per_flex: 31,
    lpf_ino: FIRST_INO,
};

impl Profile {
    /// Bytes an inode has for attributes.
    pub(crate) fn inode_xattr_size(&self) -> usize {
        INODE_SIZE - 128 - usize::from(self.extra_isize)
    }

    /// INCOMPAT_INLINE_DATA, if all file systems with such an option have it.
    pub(crate) fn announced(&self, inline_data: bool) -> u32 {
        match self.inline_data_announced && inline_data {
            true => INCOMPAT_INLINE_DATA,
            false => 0,
        }
    }
}
