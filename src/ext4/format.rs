//! The structures of ext4 on disk, under the kernel's field names, little-endian.
//!
//! Source: Linux, Documentation/filesystems/ext4, named by section.

use zerocopy::big_endian;
use zerocopy::little_endian::{U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// Bytes of a block; the only block size written here.
pub(crate) const BLOCK_SIZE: usize = 4096;
/// Bytes of an inode.
pub(crate) const INODE_SIZE: usize = 256;
/// Inodes in a block of the inode table.
pub(crate) const INODES_PER_BLOCK: u32 = (BLOCK_SIZE / INODE_SIZE) as u32;
/// Bits in a bitmap block: the most blocks, and the most inodes, of a block group.
pub(crate) const BITS_PER_BLOCK: u32 = 8 * BLOCK_SIZE as u32;
/// Where the superblock starts.
pub(crate) const SUPERBLOCK_OFFSET: usize = 1024;
/// The most blocks of a file system with 32-bit block numbers.
pub(crate) const MAX_BLOCKS: u64 = u32::MAX as u64;
/// The most names a file can have (the kernel's EXT4_LINK_MAX).
pub(crate) const LINK_MAX: u32 = 65_000;

/// The root directory's inode ("Special inodes").
pub(crate) const ROOT_INO: u32 = 2;
/// The journal's inode.
pub(crate) const JOURNAL_INO: u32 = 8;
/// The first inode that is not reserved.
pub(crate) const FIRST_INO: u32 = 11;

/// "The Super Block", s_magic.
pub(crate) const SUPER_MAGIC: u16 = 0xEF53;
/// s_checksum_type: CRC-32C.
pub(crate) const CHECKSUM_CRC32C: u8 = 1;
/// s_flags: directory hashes take bytes as signed.
pub(crate) const FLAGS_SIGNED_HASH: u32 = 0x1;
/// s_def_hash_version and dx_root.hash_version: half MD4.
pub(crate) const HASH_HALF_MD4: u8 = 1;
/// s_default_mount_opts: user_xattr, acl.
pub(crate) const DEFAULT_MOUNT_OPTS: u32 = 0x4 | 0x8;

/// s_flags: directory hashes take bytes as unsigned.
pub(crate) const FLAGS_UNSIGNED_HASH: u32 = 0x2;

pub(crate) const COMPAT_DIR_PREALLOC: u32 = 0x1;
pub(crate) const COMPAT_HAS_JOURNAL: u32 = 0x4;
pub(crate) const COMPAT_EXT_ATTR: u32 = 0x8;
pub(crate) const COMPAT_RESIZE_INODE: u32 = 0x10;
pub(crate) const COMPAT_DIR_INDEX: u32 = 0x20;
pub(crate) const COMPAT_SPARSE_SUPER2: u32 = 0x200;
pub(crate) const COMPAT_FAST_COMMIT: u32 = 0x400;
pub(crate) const COMPAT_STABLE_INODES: u32 = 0x800;
pub(crate) const COMPAT_ORPHAN_FILE: u32 = 0x1000;

pub(crate) const INCOMPAT_FILETYPE: u32 = 0x2;
pub(crate) const INCOMPAT_RECOVER: u32 = 0x4;
pub(crate) const INCOMPAT_JOURNAL_DEV: u32 = 0x8;
pub(crate) const INCOMPAT_META_BG: u32 = 0x10;
pub(crate) const INCOMPAT_EXTENTS: u32 = 0x40;
pub(crate) const INCOMPAT_64BIT: u32 = 0x80;
pub(crate) const INCOMPAT_MMP: u32 = 0x100;
pub(crate) const INCOMPAT_FLEX_BG: u32 = 0x200;
pub(crate) const INCOMPAT_EA_INODE: u32 = 0x400;
pub(crate) const INCOMPAT_CSUM_SEED: u32 = 0x2000;
pub(crate) const INCOMPAT_LARGEDIR: u32 = 0x4000;
pub(crate) const INCOMPAT_INLINE_DATA: u32 = 0x8000;
pub(crate) const INCOMPAT_ENCRYPT: u32 = 0x1_0000;
pub(crate) const INCOMPAT_CASEFOLD: u32 = 0x2_0000;

pub(crate) const RO_COMPAT_SPARSE_SUPER: u32 = 0x1;
pub(crate) const RO_COMPAT_LARGE_FILE: u32 = 0x2;
pub(crate) const RO_COMPAT_HUGE_FILE: u32 = 0x8;
/// uninit_bg: descriptors have checksums.
pub(crate) const RO_COMPAT_GDT_CSUM: u32 = 0x10;
pub(crate) const RO_COMPAT_DIR_NLINK: u32 = 0x20;
pub(crate) const RO_COMPAT_EXTRA_ISIZE: u32 = 0x40;
pub(crate) const RO_COMPAT_QUOTA: u32 = 0x100;
pub(crate) const RO_COMPAT_BIGALLOC: u32 = 0x200;
pub(crate) const RO_COMPAT_METADATA_CSUM: u32 = 0x400;
pub(crate) const RO_COMPAT_READONLY: u32 = 0x1000;
pub(crate) const RO_COMPAT_PROJECT: u32 = 0x2000;
pub(crate) const RO_COMPAT_VERITY: u32 = 0x8000;
pub(crate) const RO_COMPAT_ORPHAN_PRESENT: u32 = 0x1_0000;

/// bg_flags: no inode of the group is in use, and its bitmap is not there.
pub(crate) const BG_INODE_UNINIT: u16 = 0x1;
/// bg_flags: nothing of the group is in use but what is at its fixed place, and the bitmap
/// of blocks is not there.
pub(crate) const BG_BLOCK_UNINIT: u16 = 0x2;
/// bg_flags: the inode table was zeroed, so that no mount does it.
pub(crate) const BG_INODE_ZEROED: u16 = 0x4;

/// i_flags: the contents, and the names of a directory, are encrypted.
pub(crate) const INODE_ENCRYPT: u32 = 0x800;
/// i_flags: the directory has a hash tree.
pub(crate) const INODE_INDEX: u32 = 0x1000;
/// i_flags: i_blocks counts blocks of the file system.
pub(crate) const INODE_HUGE_FILE: u32 = 0x4_0000;
/// i_flags: i_block holds an extent tree.
pub(crate) const INODE_EXTENTS: u32 = 0x8_0000;
/// i_flags: the inode holds the value of an extended attribute.
pub(crate) const INODE_EA_INODE: u32 = 0x20_0000;
/// i_flags: names of the directory are compared without regard to case.
pub(crate) const INODE_CASEFOLD: u32 = 0x4000_0000;
/// i_flags: the contents are in i_block and the attribute system.data.
pub(crate) const INODE_INLINE_DATA: u32 = 0x1000_0000;

pub(crate) const S_IFIFO: u16 = 0o010_000;
pub(crate) const S_IFCHR: u16 = 0o020_000;
pub(crate) const S_IFDIR: u16 = 0o040_000;
pub(crate) const S_IFBLK: u16 = 0o060_000;
pub(crate) const S_IFREG: u16 = 0o100_000;
pub(crate) const S_IFLNK: u16 = 0o120_000;
pub(crate) const S_IFSOCK: u16 = 0o140_000;
pub(crate) const S_IFMT: u16 = 0o170_000;

/// "The Super Block".
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(crate) struct Superblock {
    pub s_inodes_count: U32,
    pub s_blocks_count_lo: U32,
    pub s_r_blocks_count_lo: U32,
    pub s_free_blocks_count_lo: U32,
    pub s_free_inodes_count: U32,
    pub s_first_data_block: U32,
    pub s_log_block_size: U32,
    pub s_log_cluster_size: U32,
    pub s_blocks_per_group: U32,
    pub s_clusters_per_group: U32,
    pub s_inodes_per_group: U32,
    pub s_mtime: U32,
    pub s_wtime: U32,
    pub s_mnt_count: U16,
    pub s_max_mnt_count: U16,
    pub s_magic: U16,
    pub s_state: U16,
    pub s_errors: U16,
    pub s_minor_rev_level: U16,
    pub s_lastcheck: U32,
    pub s_checkinterval: U32,
    pub s_creator_os: U32,
    pub s_rev_level: U32,
    pub s_def_resuid: U16,
    pub s_def_resgid: U16,
    pub s_first_ino: U32,
    pub s_inode_size: U16,
    pub s_block_group_nr: U16,
    pub s_feature_compat: U32,
    pub s_feature_incompat: U32,
    pub s_feature_ro_compat: U32,
    pub s_uuid: [u8; 16],
    pub s_volume_name: [u8; 16],
    pub s_last_mounted: [u8; 64],
    pub s_algorithm_usage_bitmap: U32,
    pub s_prealloc_blocks: u8,
    pub s_prealloc_dir_blocks: u8,
    pub s_reserved_gdt_blocks: U16,
    pub s_journal_uuid: [u8; 16],
    pub s_journal_inum: U32,
    pub s_journal_dev: U32,
    pub s_last_orphan: U32,
    pub s_hash_seed: [U32; 4],
    pub s_def_hash_version: u8,
    pub s_jnl_backup_type: u8,
    pub s_desc_size: U16,
    pub s_default_mount_opts: U32,
    pub s_first_meta_bg: U32,
    pub s_mkfs_time: U32,
    pub s_jnl_blocks: [U32; 17],
    pub s_blocks_count_hi: U32,
    pub s_r_blocks_count_hi: U32,
    pub s_free_blocks_count_hi: U32,
    pub s_min_extra_isize: U16,
    pub s_want_extra_isize: U16,
    pub s_flags: U32,
    pub s_raid_stride: U16,
    pub s_mmp_interval: U16,
    pub s_mmp_block: U64,
    pub s_raid_stripe_width: U32,
    pub s_log_groups_per_flex: u8,
    pub s_checksum_type: u8,
    pub s_encryption_level: u8,
    pub s_reserved_pad: u8,
    pub s_kbytes_written: U64,
    pub s_snapshot_inum: U32,
    pub s_snapshot_id: U32,
    pub s_snapshot_r_blocks_count: U64,
    pub s_snapshot_list: U32,
    pub s_error_count: U32,
    pub s_first_error_time: U32,
    pub s_first_error_ino: U32,
    pub s_first_error_block: U64,
    pub s_first_error_func: [u8; 32],
    pub s_first_error_line: U32,
    pub s_last_error_time: U32,
    pub s_last_error_ino: U32,
    pub s_last_error_line: U32,
    pub s_last_error_block: U64,
    pub s_last_error_func: [u8; 32],
    pub s_mount_opts: [u8; 64],
    pub s_usr_quota_inum: U32,
    pub s_grp_quota_inum: U32,
    pub s_overhead_blocks: U32,
    pub s_backup_bgs: [U32; 2],
    pub s_encrypt_algos: [u8; 4],
    pub s_encrypt_pw_salt: [u8; 16],
    pub s_lpf_ino: U32,
    pub s_prj_quota_inum: U32,
    pub s_checksum_seed: U32,
    pub s_wtime_hi: u8,
    pub s_mtime_hi: u8,
    pub s_mkfs_time_hi: u8,
    pub s_lastcheck_hi: u8,
    pub s_first_error_time_hi: u8,
    pub s_last_error_time_hi: u8,
    pub s_first_error_errcode: u8,
    pub s_last_error_errcode: u8,
    pub s_encoding: U16,
    pub s_encoding_flags: U16,
    pub s_orphan_file_inum: U32,
    pub s_reserved: [U32; 94],
    pub s_checksum: U32,
}
const _: () = assert!(size_of::<Superblock>() == 1024);

/// "Block Group Descriptors", the 32-byte form of file systems without the 64bit feature.
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(crate) struct GroupDescriptor {
    pub bg_block_bitmap_lo: U32,
    pub bg_inode_bitmap_lo: U32,
    pub bg_inode_table_lo: U32,
    pub bg_free_blocks_count_lo: U16,
    pub bg_free_inodes_count_lo: U16,
    pub bg_used_dirs_count_lo: U16,
    pub bg_flags: U16,
    pub bg_exclude_bitmap_lo: U32,
    pub bg_block_bitmap_csum_lo: U16,
    pub bg_inode_bitmap_csum_lo: U16,
    pub bg_itable_unused_lo: U16,
    pub bg_checksum: U16,
}
/// Bytes of a group descriptor.
pub(crate) const DESCRIPTOR_SIZE: usize = size_of::<GroupDescriptor>();
const _: () = assert!(DESCRIPTOR_SIZE == 32);

/// The second half of a descriptor of 64 bytes.
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(crate) struct GroupDescriptorHigh {
    pub bg_block_bitmap_hi: U32,
    pub bg_inode_bitmap_hi: U32,
    pub bg_inode_table_hi: U32,
    pub bg_free_blocks_count_hi: U16,
    pub bg_free_inodes_count_hi: U16,
    pub bg_used_dirs_count_hi: U16,
    pub bg_itable_unused_hi: U16,
    pub bg_exclude_bitmap_hi: U32,
    pub bg_block_bitmap_csum_hi: U16,
    pub bg_inode_bitmap_csum_hi: U16,
    pub bg_reserved: U32,
}
/// Bytes of a group descriptor with the feature 64bit.
pub(crate) const WIDE_DESCRIPTOR_SIZE: usize = DESCRIPTOR_SIZE + size_of::<GroupDescriptorHigh>();
const _: () = assert!(WIDE_DESCRIPTOR_SIZE == 64);

/// "Index Nodes": the 128 bytes of old and 32 of the extra fields. Extended attributes
/// fill the rest of the 256.
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(crate) struct Inode {
    pub i_mode: U16,
    pub i_uid: U16,
    pub i_size_lo: U32,
    pub i_atime: U32,
    pub i_ctime: U32,
    pub i_mtime: U32,
    pub i_dtime: U32,
    pub i_gid: U16,
    pub i_links_count: U16,
    pub i_blocks_lo: U32,
    pub i_flags: U32,
    pub i_version_lo: U32,
    pub i_block: [u8; 60],
    pub i_generation: U32,
    pub i_file_acl_lo: U32,
    pub i_size_high: U32,
    pub i_obso_faddr: U32,
    pub i_blocks_high: U16,
    pub i_file_acl_high: U16,
    pub i_uid_high: U16,
    pub i_gid_high: U16,
    pub i_checksum_lo: U16,
    pub i_reserved: U16,
    pub i_extra_isize: U16,
    pub i_checksum_hi: U16,
    pub i_ctime_extra: U32,
    pub i_mtime_extra: U32,
    pub i_atime_extra: U32,
    pub i_crtime: U32,
    pub i_crtime_extra: U32,
    pub i_version_hi: U32,
    pub i_projid: U32,
    pub i_xattrs: [u8; INODE_XATTR_SIZE],
}
const _: () = assert!(size_of::<Inode>() == INODE_SIZE);

/// Bytes of the extra fields: i_extra_isize.
pub(crate) const EXTRA_ISIZE: u16 = 32;
/// Bytes an inode has for extended attributes.
pub(crate) const INODE_XATTR_SIZE: usize = INODE_SIZE - 128 - EXTRA_ISIZE as usize;
/// Bytes of i_block.
pub(crate) const I_BLOCK_SIZE: usize = 60;

/// "Extent Tree", the header of every node.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(crate) struct ExtentHeader {
    pub eh_magic: U16,
    pub eh_entries: U16,
    pub eh_max: U16,
    pub eh_depth: U16,
    pub eh_generation: U32,
}
/// eh_magic.
pub(crate) const EXTENT_MAGIC: u16 = 0xF30A;
/// Bytes of a header, an index and an extent alike.
pub(crate) const EXTENT_ENTRY_SIZE: usize = 12;
const _: () = assert!(size_of::<ExtentHeader>() == EXTENT_ENTRY_SIZE);
/// Entries of the root in i_block.
pub(crate) const EXTENT_ROOT_MAX: usize = I_BLOCK_SIZE / EXTENT_ENTRY_SIZE - 1;
/// Entries of a node in a block; the four bytes that remain are its checksum.
pub(crate) const EXTENT_NODE_MAX: usize = (BLOCK_SIZE - 4) / EXTENT_ENTRY_SIZE - 1;
/// The most blocks of one initialised extent.
pub(crate) const EXTENT_MAX_LEN: u32 = 32_768;

/// A leaf entry of the extent tree.
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(crate) struct ExtentLeaf {
    pub ee_block: U32,
    pub ee_len: U16,
    pub ee_start_hi: U16,
    pub ee_start_lo: U32,
}
const _: () = assert!(size_of::<ExtentLeaf>() == EXTENT_ENTRY_SIZE);

/// An interior entry of the extent tree.
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(crate) struct ExtentIndex {
    pub ei_block: U32,
    pub ei_leaf_lo: U32,
    pub ei_leaf_hi: U16,
    pub ei_unused: U16,
}
const _: () = assert!(size_of::<ExtentIndex>() == EXTENT_ENTRY_SIZE);

/// "Journal (jbd2)", the superblock, big-endian as all of the journal.
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(crate) struct JournalSuperblock {
    pub h_magic: big_endian::U32,
    pub h_blocktype: big_endian::U32,
    pub h_sequence: big_endian::U32,
    pub s_blocksize: big_endian::U32,
    pub s_maxlen: big_endian::U32,
    pub s_first: big_endian::U32,
    pub s_sequence: big_endian::U32,
    pub s_start: big_endian::U32,
    pub s_errno: big_endian::U32,
    pub s_feature_compat: big_endian::U32,
    pub s_feature_incompat: big_endian::U32,
    pub s_feature_ro_compat: big_endian::U32,
    pub s_uuid: [u8; 16],
    pub s_nr_users: big_endian::U32,
    pub s_rest: [u8; 956],
}
const _: () = assert!(size_of::<JournalSuperblock>() == 1024);
/// h_magic.
pub(crate) const JOURNAL_MAGIC: u32 = 0xC03B_3998;
/// h_blocktype: a superblock with features.
pub(crate) const JOURNAL_SUPERBLOCK: u32 = 4;
/// s_jnl_backup_type: s_jnl_blocks has what the journal's inode has.
pub(crate) const JOURNAL_BACKUP_BLOCKS: u8 = 1;

/// "Linear (Classic) Directories": an entry without its name, struct ext4_dir_entry_2.
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(crate) struct DirEntry {
    pub inode: U32,
    pub rec_len: U16,
    pub name_len: u8,
    pub file_type: u8,
}
/// Bytes of a directory entry before its name.
pub(crate) const DIR_ENTRY_SIZE: usize = size_of::<DirEntry>();
const _: () = assert!(DIR_ENTRY_SIZE == 8);

/// The checksum at the end of a directory block, which looks like an unused entry.
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(crate) struct DirEntryTail {
    pub det_reserved_zero1: U32,
    pub det_rec_len: U16,
    pub det_reserved_zero2: u8,
    pub det_reserved_ft: u8,
    pub det_checksum: U32,
}
/// Bytes of the tail.
pub(crate) const DIR_TAIL_SIZE: usize = size_of::<DirEntryTail>();
const _: () = assert!(DIR_TAIL_SIZE == 12);
/// det_reserved_ft.
pub(crate) const DIR_TAIL_TYPE: u8 = 0xDE;

/// "Hash Tree Directories": dx_root_info, after the entries `.` and `..`.
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(crate) struct DxRootInfo {
    pub reserved_zero: U32,
    pub hash_version: u8,
    pub info_length: u8,
    pub indirect_levels: u8,
    pub unused_flags: u8,
}
const _: () = assert!(size_of::<DxRootInfo>() == 8);

/// An entry of a hash tree node.
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(crate) struct DxEntry {
    pub hash: U32,
    pub block: U32,
}
/// Bytes of a hash tree entry, and of the dx_tail after the last possible one.
pub(crate) const DX_ENTRY_SIZE: usize = size_of::<DxEntry>();
const _: () = assert!(DX_ENTRY_SIZE == 8);
/// Where the entries of the root start: `.` and `..` take 12 bytes each.
pub(crate) const DX_ROOT_OFFSET: usize = 12 + 12 + size_of::<DxRootInfo>();
/// Where the entries of an inner node start: after an empty directory entry.
pub(crate) const DX_NODE_OFFSET: usize = DIR_ENTRY_SIZE;
/// Entries of the root.
pub(crate) const DX_ROOT_LIMIT: usize = (BLOCK_SIZE - DX_ROOT_OFFSET) / DX_ENTRY_SIZE - 1;
/// Entries of an inner node.
pub(crate) const DX_NODE_LIMIT: usize = (BLOCK_SIZE - DX_NODE_OFFSET) / DX_ENTRY_SIZE - 1;

/// "Extended Attributes": the header of a block of them.
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(crate) struct XattrHeader {
    pub h_magic: U32,
    pub h_refcount: U32,
    pub h_blocks: U32,
    pub h_hash: U32,
    pub h_checksum: U32,
    pub h_reserved: [U32; 3],
}
/// Bytes of the header.
pub(crate) const XATTR_HEADER_SIZE: usize = size_of::<XattrHeader>();
const _: () = assert!(XATTR_HEADER_SIZE == 32);
/// h_magic, also before the attributes of an inode.
pub(crate) const XATTR_MAGIC: u32 = 0xEA02_0000;
/// The most inodes that may share a block of attributes (EXT4_XATTR_REFCOUNT_MAX).
pub(crate) const XATTR_REFCOUNT_MAX: u32 = 1024;

/// An attribute, without its name.
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(crate) struct XattrEntry {
    pub e_name_len: u8,
    pub e_name_index: u8,
    pub e_value_offs: U16,
    pub e_value_inum: U32,
    pub e_value_size: U32,
    pub e_hash: U32,
}
/// Bytes of an attribute before its name.
pub(crate) const XATTR_ENTRY_SIZE: usize = size_of::<XattrEntry>();
const _: () = assert!(XATTR_ENTRY_SIZE == 16);
