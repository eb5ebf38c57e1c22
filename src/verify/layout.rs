//! The layout that the superblock describes, and whether it is possible.
//!
//! Source: Linux, Documentation/filesystems/ext4, "The Super Block".

use std::ops::Range;

use zerocopy::FromBytes;

use super::checksum::Checksums;
use super::findings::{FindingKind, Findings, Place};
use crate::ext4::checksum::crc32c;
use crate::ext4::format::{
    CHECKSUM_CRC32C, COMPAT_DIR_INDEX, COMPAT_DIR_PREALLOC, COMPAT_EXT_ATTR, COMPAT_FAST_COMMIT,
    COMPAT_HAS_JOURNAL, COMPAT_ORPHAN_FILE, COMPAT_RESIZE_INODE, COMPAT_SPARSE_SUPER2,
    COMPAT_STABLE_INODES, DESCRIPTOR_SIZE, FLAGS_UNSIGNED_HASH, INCOMPAT_64BIT, INCOMPAT_CASEFOLD,
    INCOMPAT_CSUM_SEED, INCOMPAT_EA_INODE, INCOMPAT_ENCRYPT, INCOMPAT_EXTENTS, INCOMPAT_FILETYPE,
    INCOMPAT_FLEX_BG, INCOMPAT_INLINE_DATA, INCOMPAT_LARGEDIR, INCOMPAT_META_BG, INCOMPAT_MMP,
    INCOMPAT_RECOVER, RO_COMPAT_DIR_NLINK, RO_COMPAT_EXTRA_ISIZE, RO_COMPAT_GDT_CSUM,
    RO_COMPAT_HUGE_FILE, RO_COMPAT_LARGE_FILE, RO_COMPAT_METADATA_CSUM, RO_COMPAT_ORPHAN_PRESENT,
    RO_COMPAT_PROJECT, RO_COMPAT_QUOTA, RO_COMPAT_READONLY, RO_COMPAT_SPARSE_SUPER,
    RO_COMPAT_VERITY, SUPER_MAGIC, SUPERBLOCK_OFFSET, Superblock,
};

/// The features whose meaning is known here: compatible, incompatible, read-only compatible.
const UNDERSTOOD: [u32; 3] = [
    COMPAT_DIR_PREALLOC
        | COMPAT_HAS_JOURNAL
        | COMPAT_EXT_ATTR
        | COMPAT_RESIZE_INODE
        | COMPAT_DIR_INDEX
        | COMPAT_SPARSE_SUPER2
        | COMPAT_FAST_COMMIT
        | COMPAT_STABLE_INODES
        | COMPAT_ORPHAN_FILE,
    INCOMPAT_FILETYPE
        | INCOMPAT_RECOVER
        | INCOMPAT_META_BG
        | INCOMPAT_EXTENTS
        | INCOMPAT_64BIT
        | INCOMPAT_MMP
        | INCOMPAT_FLEX_BG
        | INCOMPAT_EA_INODE
        | INCOMPAT_CSUM_SEED
        | INCOMPAT_LARGEDIR
        | INCOMPAT_INLINE_DATA
        | INCOMPAT_ENCRYPT
        | INCOMPAT_CASEFOLD,
    RO_COMPAT_SPARSE_SUPER
        | RO_COMPAT_LARGE_FILE
        | RO_COMPAT_HUGE_FILE
        | RO_COMPAT_GDT_CSUM
        | RO_COMPAT_DIR_NLINK
        | RO_COMPAT_EXTRA_ISIZE
        | RO_COMPAT_QUOTA
        | RO_COMPAT_METADATA_CSUM
        | RO_COMPAT_READONLY
        | RO_COMPAT_PROJECT
        | RO_COMPAT_VERITY
        | RO_COMPAT_ORPHAN_PRESENT,
];

/// s_state: the kernel found errors.
const STATE_ERRORS: u16 = 0x2;
/// s_encoding: UTF-8 of Unicode 12.1, the only one that the kernel mounts.
const ENCODING_UTF8_12_1: u16 = 1;

/// The sizes and places that follow from a superblock. They are true of the disk: all blocks
/// are there, and they are enough for the tables of all groups.
#[derive(Clone, Debug)]
pub(super) struct Layout {
    pub block_size: usize,
    pub blocks: u64,
    pub first_block: u64,
    pub blocks_per_group: u64,
    pub groups: u32,
    pub inodes: u32,
    pub inodes_per_group: u32,
    pub inode_size: usize,
    pub first_ino: u32,
    pub descriptor_size: usize,
    pub checksums: Checksums,
    /// The seed of the hashes of attributes in inodes of their own, with or without checksums.
    pub value_seed: u32,
    pub uuid: [u8; 16],
    pub hash_seed: [u32; 4],
    pub unsigned_hash: bool,
    pub free_blocks: u64,
    pub free_inodes: u32,
    pub journal_ino: u32,
    pub orphan_file_ino: u32,
    /// s_usr_quota_inum, s_grp_quota_inum and s_prj_quota_inum.
    pub quota_inos: [u32; 3],
    pub mmp_block: u64,
    pub reserved_descriptor_blocks: u64,
    pub prealloc_dir_blocks: u64,
    /// Whether a small i_dtime is a link of the list of orphans, not a time.
    pub small_dtime_is_orphan: bool,
    /// Whether the journal holds what belongs elsewhere.
    pub needs_replay: bool,
    features: [u32; 3],
    first_meta_group: u32,
    backup_groups: [u32; 2],
}

impl Layout {
    pub(super) fn compat(&self, feature: u32) -> bool {
        self.features[0] & feature != 0
    }

    pub(super) fn incompat(&self, feature: u32) -> bool {
        self.features[1] & feature != 0
    }

    pub(super) fn ro_compat(&self, feature: u32) -> bool {
        self.features[2] & feature != 0
    }

    /// Whether there is a journal, but none of the inodes is it.
    pub(super) fn has_outer_journal(&self) -> bool {
        self.compat(COMPAT_HAS_JOURNAL) && self.journal_ino == 0
    }

    /// The blocks of a group.
    pub(super) fn group_blocks(&self, group: u32) -> Range<u64> {
        let start = self.first_block + u64::from(group) * self.blocks_per_group;
        start..(start + self.blocks_per_group).min(self.blocks)
    }

    pub(super) fn table_blocks(&self) -> u64 {
        (u64::from(self.inodes_per_group) * self.inode_size as u64).div_ceil(self.block_size as u64)
    }

    fn descriptors_per_block(&self) -> u32 {
        (self.block_size / self.descriptor_size) as u32
    }

    /// Blocks that the descriptors of all groups take.
    pub(super) fn descriptor_blocks(&self) -> u64 {
        u64::from(self.groups.div_ceil(self.descriptors_per_block()))
    }

    /// Whether descriptors know of checksums, and so of groups that are not initialised.
    pub(super) fn has_descriptor_checksums(&self) -> bool {
        self.checksums != Checksums::None
    }

    /// Whether the group starts with a copy of the superblock, or, the first, with itself.
    pub(super) fn has_superblock(&self, group: u32) -> bool {
        if group == 0 {
            return true;
        }
        if self.compat(COMPAT_SPARSE_SUPER2) {
            return self.backup_groups.contains(&group);
        }
        if group == 1 || !self.ro_compat(RO_COMPAT_SPARSE_SUPER) {
            return true;
        }
        [3_u64, 5, 7].into_iter().any(|base| {
            let mut power = base;
            while power < u64::from(group) {
                power *= base;
            }
            power == u64::from(group)
        })
    }

    /// Whether the descriptors of a group stand at the start of its meta group.
    fn is_in_meta_group(&self, group: u32) -> bool {
        self.incompat(INCOMPAT_META_BG)
            && group / self.descriptors_per_block() >= self.first_meta_group
    }

    /// The blocks at the start of a group that the superblock, the descriptors, and the room
    /// for more of these take.
    pub(super) fn fixed_blocks(&self, group: u32) -> Range<u64> {
        let start = self.group_blocks(group).start;
        let has_superblock = u64::from(self.has_superblock(group));
        let descriptors = if self.is_in_meta_group(group) {
            let per_block = self.descriptors_per_block();
            let within = group % per_block;
            u64::from(within < 2 || within == per_block - 1)
        } else if self.incompat(INCOMPAT_META_BG) {
            has_superblock * u64::from(self.first_meta_group)
        } else {
            has_superblock * (self.descriptor_blocks() + self.reserved_descriptor_blocks)
        };
        start..start + has_superblock + descriptors
    }

    /// The block and the byte in it where the descriptor of a group is.
    pub(super) fn descriptor_place(&self, group: u32) -> (u64, usize) {
        let per_block = self.descriptors_per_block();
        let block = if self.is_in_meta_group(group) {
            let first = group - group % per_block;
            self.group_blocks(first).start + u64::from(self.has_superblock(first))
        } else {
            self.first_block + 1 + u64::from(group / per_block)
        };
        (block, (group % per_block) as usize * self.descriptor_size)
    }
}

/// The superblock in bytes read from the start of a disk; `None` if its magic is not there.
pub(super) fn find(start: &[u8]) -> Option<&Superblock> {
    let bytes = start.get(SUPERBLOCK_OFFSET..)?;
    let (superblock, _) = Superblock::ref_from_prefix(bytes).ok()?;
    (superblock.s_magic.get() == SUPER_MAGIC).then_some(superblock)
}

/// The features that are set and not understood here.
pub(super) fn unknown_features(superblock: &Superblock) -> [u32; 3] {
    [
        superblock.s_feature_compat.get() & !UNDERSTOOD[0],
        superblock.s_feature_incompat.get() & !UNDERSTOOD[1],
        superblock.s_feature_ro_compat.get() & !UNDERSTOOD[2],
    ]
}

/// Judges the superblock of a disk of `disk_size` bytes; `None` where it cannot be relied on.
pub(super) fn check(
    superblock: &Superblock,
    bytes: &[u8; 1024],
    disk_size: u64,
    findings: &mut Findings,
) -> Option<Layout> {
    let mut check = Check {
        superblock,
        findings,
        fatal: false,
    };
    check.checksum(bytes);
    let layout = check.layout(disk_size)?;
    check.values(&layout);
    check.features(&layout);
    check.state();
    (!check.fatal).then_some(layout)
}

struct Check<'a> {
    superblock: &'a Superblock,
    findings: &'a mut Findings,
    fatal: bool,
}

impl Check<'_> {
    fn wrong(&mut self, message: impl FnOnce() -> String) {
        let place = Place::offset(SUPERBLOCK_OFFSET as u64);
        self.findings.add(FindingKind::Superblock, place, message);
    }

    /// A value that nothing can be read with.
    fn fatal<T>(&mut self, what: &str, value: u64) -> Option<T> {
        self.wrong(|| format!("the superblock gives {value} for {what}"));
        None
    }

    fn layout(&mut self, disk_size: u64) -> Option<Layout> {
        let s = self.superblock;
        let features = [
            s.s_feature_compat.get(),
            s.s_feature_incompat.get(),
            s.s_feature_ro_compat.get(),
        ];
        let is_64bit = features[1] & INCOMPAT_64BIT != 0;
        let joined = |low: u32, high: u32| match is_64bit {
            true => u64::from(high) << 32 | u64::from(low),
            false => u64::from(low),
        };
        let log = s.s_log_block_size.get();
        if log > 6 {
            return self.fatal("the logarithm of the block size", log.into());
        }
        let block_size = 1024_usize << log;
        let blocks = joined(s.s_blocks_count_lo.get(), s.s_blocks_count_hi.get());
        let first_block = u64::from(s.s_first_data_block.get());
        if first_block != u64::from(log == 0) || blocks <= first_block {
            return self.fatal("the first block", first_block);
        }
        if s.s_log_cluster_size.get() != log {
            return self.fatal(
                "the logarithm of the cluster size",
                s.s_log_cluster_size.get().into(),
            );
        }
        let bits = 8 * block_size as u64;
        let blocks_per_group = u64::from(s.s_blocks_per_group.get());
        let clusters_per_group = u64::from(s.s_clusters_per_group.get());
        if blocks_per_group < 8 || blocks_per_group > bits || !blocks_per_group.is_multiple_of(8) {
            return self.fatal("the blocks of a group", blocks_per_group);
        }
        if clusters_per_group != blocks_per_group {
            return self.fatal("the clusters of a group", clusters_per_group);
        }
        let inode_size = match s.s_rev_level.get() {
            0 => 128,
            1 => usize::from(s.s_inode_size.get()),
            unknown => return self.fatal("the revision", unknown.into()),
        };
        if inode_size < 128 || !inode_size.is_power_of_two() || inode_size > block_size {
            return self.fatal("the size of an inode", inode_size as u64);
        }
        let inodes_per_group = s.s_inodes_per_group.get();
        let per_block = block_size / inode_size;
        // EXT2_MAX_INODES_PER_GROUP of e2fsprogs.
        let most = bits.min((1 << 16) - per_block as u64);
        if u64::from(inodes_per_group) > most
            || (inodes_per_group as usize) < per_block
            || !inodes_per_group.is_multiple_of(8)
        {
            return self.fatal("the inodes of a group", inodes_per_group.into());
        }
        let descriptor_size = match is_64bit {
            true => usize::from(s.s_desc_size.get()),
            false => DESCRIPTOR_SIZE,
        };
        if !(32..=1024).contains(&descriptor_size)
            || !descriptor_size.is_power_of_two()
            || is_64bit && descriptor_size < 64
        {
            return self.fatal("the size of a group descriptor", descriptor_size as u64);
        }
        let groups = (blocks - first_block).div_ceil(blocks_per_group);
        let Ok(groups) = u32::try_from(groups) else {
            return self.fatal("the number of blocks", blocks);
        };
        let inodes = s.s_inodes_count.get();
        if groups.checked_mul(inodes_per_group) != Some(inodes) {
            return self.fatal("the number of inodes", inodes.into());
        }
        let first_ino = match s.s_rev_level.get() {
            0 => 11,
            _ => s.s_first_ino.get(),
        };
        if first_ino < 11 || first_ino > inodes {
            return self.fatal("the first inode that is not reserved", first_ino.into());
        }
        if blocks
            .checked_mul(block_size as u64)
            .is_none_or(|bytes| bytes > disk_size)
        {
            self.wrong(|| {
                format!(
                    "the file system has {blocks} blocks of {block_size} bytes, but the disk \
                    is {disk_size} bytes long"
                )
            });
            return None;
        }
        let times = [
            (s.s_wtime.get(), s.s_wtime_hi),
            (s.s_mtime.get(), s.s_mtime_hi),
            (s.s_mkfs_time.get(), s.s_mkfs_time_hi),
        ];
        let small_time = |(low, high): (u32, u8)| {
            let time = u64::from(high) << 32 | u64::from(low);
            time != 0 && time < u64::from(inodes)
        };
        let layout = Layout {
            block_size,
            blocks,
            first_block,
            blocks_per_group,
            groups,
            inodes,
            inodes_per_group,
            inode_size,
            first_ino,
            descriptor_size,
            checksums: checksums(s),
            value_seed: seed(s),
            uuid: s.s_uuid,
            hash_seed: s.s_hash_seed.map(|word| word.get()),
            unsigned_hash: s.s_flags.get() & FLAGS_UNSIGNED_HASH != 0,
            free_blocks: joined(
                s.s_free_blocks_count_lo.get(),
                s.s_free_blocks_count_hi.get(),
            ),
            free_inodes: s.s_free_inodes_count.get(),
            journal_ino: s.s_journal_inum.get(),
            orphan_file_ino: s.s_orphan_file_inum.get(),
            quota_inos: [
                s.s_usr_quota_inum.get(),
                s.s_grp_quota_inum.get(),
                s.s_prj_quota_inum.get(),
            ],
            mmp_block: s.s_mmp_block.get(),
            reserved_descriptor_blocks: s.s_reserved_gdt_blocks.get().into(),
            prealloc_dir_blocks: s.s_prealloc_dir_blocks.into(),
            small_dtime_is_orphan: !times.into_iter().any(small_time),
            needs_replay: features[1] & INCOMPAT_RECOVER != 0,
            features,
            first_meta_group: s.s_first_meta_bg.get(),
            backup_groups: s.s_backup_bgs.map(|group| group.get()),
        };
        // From here on time and memory are bounded by the size of the disk.
        let tables = u64::from(groups) * (layout.table_blocks() + 2);
        let needed = tables + layout.descriptor_blocks() + first_block + 1;
        if needed > blocks {
            self.wrong(|| {
                format!(
                    "{blocks} blocks are too few for the tables of {groups} groups with \
                    {inodes_per_group} inodes each"
                )
            });
            return None;
        }
        if layout.incompat(INCOMPAT_META_BG)
            && u64::from(layout.first_meta_group) > layout.descriptor_blocks()
        {
            return self.fatal("the first meta group", layout.first_meta_group.into());
        }
        // The last group has to have room for what stands at its start.
        let last = layout.fixed_blocks(groups - 1);
        if last.end > blocks || layout.fixed_blocks(0).end > blocks {
            return self.fatal(
                "the blocks reserved for group descriptors",
                layout.reserved_descriptor_blocks,
            );
        }
        Some(layout)
    }

    fn checksum(&mut self, bytes: &[u8; 1024]) {
        let s = self.superblock;
        if s.s_feature_ro_compat.get() & RO_COMPAT_METADATA_CSUM == 0 {
            return;
        }
        let kind = s.s_checksum_type;
        if kind != CHECKSUM_CRC32C {
            self.wrong(|| format!("the type of checksums is {kind}, which is unknown"));
            self.fatal = true;
            return;
        }
        let (found, computed) = (s.s_checksum.get(), crc32c(!0, &bytes[..1020]));
        if found != computed {
            let place = Place::offset(SUPERBLOCK_OFFSET as u64);
            self.findings.add(FindingKind::Checksum, place, || {
                format!("the superblock's checksum is {found:08x}, not {computed:08x}")
            });
        }
    }

    fn values(&mut self, layout: &Layout) {
        let s = self.superblock;
        let reserved = u64::from(s.s_r_blocks_count_lo.get())
            | match layout.incompat(INCOMPAT_64BIT) {
                true => u64::from(s.s_r_blocks_count_hi.get()) << 32,
                false => 0,
            };
        if reserved > layout.blocks / 2 {
            self.wrong(|| {
                format!(
                    "{reserved} of {} blocks are reserved, more than half",
                    layout.blocks
                )
            });
        }
        let room = layout.reserved_descriptor_blocks;
        if room > layout.block_size as u64 / 4 || room > 0 && !layout.compat(COMPAT_RESIZE_INODE) {
            self.wrong(|| format!("{room} blocks are reserved for group descriptors to come"));
        }
        if layout.inode_size > 128 {
            let most = layout.inode_size - 128;
            for (name, size) in [
                ("s_min_extra_isize", s.s_min_extra_isize.get()),
                ("s_want_extra_isize", s.s_want_extra_isize.get()),
            ] {
                let right = (4..=most).contains(&usize::from(size)) && size.is_multiple_of(4);
                if size != 0 && !right {
                    self.wrong(|| {
                        format!("{name} is {size}, not a multiple of 4 from 4 to {most}")
                    });
                }
            }
        }
        // Without 64bit nothing is read with it, and yet e2fsck takes no superblock in which it is wrong.
        let size = s.s_desc_size.get();
        if size > 1024 || size != 0 && !size.is_power_of_two() {
            self.wrong(|| format!("a group descriptor is said to have {size} bytes"));
        }
        let encoding = s.s_encoding.get();
        if layout.incompat(INCOMPAT_CASEFOLD) && encoding != ENCODING_UTF8_12_1 {
            self.wrong(|| {
                format!("names are said to have the encoding {encoding}, which is unknown")
            });
        }
        let flex = s.s_log_groups_per_flex;
        if flex > 31 {
            self.wrong(|| format!("2^{flex} groups are said to keep their tables together"));
        }
        for group in layout.backup_groups {
            if layout.compat(COMPAT_SPARSE_SUPER2) && group >= layout.groups {
                self.wrong(|| {
                    format!(
                        "a copy of the superblock is said to be in group {group}, but there \
                        are {} groups",
                        layout.groups
                    )
                });
            }
        }
    }

    fn features(&mut self, layout: &Layout) {
        let contradictions = [
            (
                layout.ro_compat(RO_COMPAT_METADATA_CSUM) && layout.ro_compat(RO_COMPAT_GDT_CSUM),
                "the features metadata_csum and uninit_bg exclude each other",
            ),
            (
                layout.incompat(INCOMPAT_CSUM_SEED) && !layout.ro_compat(RO_COMPAT_METADATA_CSUM),
                "the feature metadata_csum_seed needs metadata_csum",
            ),
            (
                layout.incompat(INCOMPAT_64BIT) && !layout.incompat(INCOMPAT_EXTENTS),
                "the feature 64bit needs extent",
            ),
            (
                layout.incompat(INCOMPAT_META_BG) && layout.compat(COMPAT_RESIZE_INODE),
                "the features meta_bg and resize_inode exclude each other",
            ),
            (
                layout.compat(COMPAT_ORPHAN_FILE) && !layout.compat(COMPAT_HAS_JOURNAL),
                "the feature orphan_file needs has_journal",
            ),
            (
                layout.compat(COMPAT_ORPHAN_FILE)
                    && !(1..=layout.inodes).contains(&layout.orphan_file_ino),
                "the superblock names no file of orphans, in spite of the feature orphan_file",
            ),
        ];
        for (wrong, message) in contradictions {
            if wrong {
                self.wrong(|| message.into());
            }
        }
        self.journal(layout);
        // Numbers that programs clear together with the feature that they belong to.
        let strangers = [
            (
                layout.quota_inos[..2] != [0; 2] && !layout.ro_compat(RO_COMPAT_QUOTA),
                "the superblock names files of quotas, without the feature quota",
            ),
            (
                layout.quota_inos[2] != 0
                    && !(layout.ro_compat(RO_COMPAT_QUOTA) && layout.ro_compat(RO_COMPAT_PROJECT)),
                "the superblock names a file of project quotas, without the features quota and \
                project",
            ),
            (
                layout.orphan_file_ino != 0 && !layout.compat(COMPAT_ORPHAN_FILE),
                "the superblock names a file of orphans, without the feature orphan_file",
            ),
            (
                layout.mmp_block != 0 && !layout.incompat(INCOMPAT_MMP),
                "the superblock names a block of multiple mount protection, without the feature mmp",
            ),
        ];
        for (wrong, message) in strangers {
            if wrong {
                self.wrong(|| message.into());
            }
        }
    }

    /// A journal is an inode or another disk, known by its number and UUID, and never both.
    fn journal(&mut self, layout: &Layout) {
        let s = self.superblock;
        let is_inside = s.s_journal_inum.get() != 0;
        let is_outside = s.s_journal_dev.get() != 0 || s.s_journal_uuid != [0; 16];
        let message = match (layout.compat(COMPAT_HAS_JOURNAL), is_inside, is_outside) {
            (false, false, false) | (true, true, false) | (true, false, true) => None,
            (false, ..) => Some("the superblock names a journal, without the feature has_journal"),
            (true, true, true) => Some("the superblock names a journal inside and one outside"),
            (true, false, false) => {
                Some("the superblock names no journal, in spite of the feature has_journal")
            }
        };
        if let Some(message) = message {
            let place = Place::offset(SUPERBLOCK_OFFSET as u64);
            self.findings
                .add(FindingKind::Journal, place, || message.into());
        }
        if layout.needs_replay && !layout.compat(COMPAT_HAS_JOURNAL) {
            self.wrong(|| {
                "a journal is said to wait for replay, without the feature has_journal".into()
            });
            self.fatal = true;
        }
    }

    fn state(&mut self) {
        let s = self.superblock;
        let place = || Place::offset(SUPERBLOCK_OFFSET as u64);
        if s.s_state.get() & STATE_ERRORS != 0 {
            let count = s.s_error_count.get();
            self.findings.add(FindingKind::RecordedErrors, place(), || {
                format!("the file system is marked as having errors; {count} were counted")
            });
        }
        if s.s_feature_incompat.get() & INCOMPAT_RECOVER != 0 {
            // Replay may bring what the rest is about.
            return;
        }
        let orphan = s.s_last_orphan.get();
        let orphans_in_file = s.s_feature_ro_compat.get() & RO_COMPAT_ORPHAN_PRESENT != 0;
        if orphan != 0 || orphans_in_file {
            self.findings
                .add(FindingKind::Orphan, place(), || match orphan {
                    0 => "the orphan file is said to hold deleted files".into(),
                    _ => format!("inode {orphan} heads a list of deleted files"),
                });
        }
    }
}

fn seed(s: &Superblock) -> u32 {
    match s.s_feature_incompat.get() & INCOMPAT_CSUM_SEED {
        0 => crc32c(!0, &s.s_uuid),
        _ => s.s_checksum_seed.get(),
    }
}

fn checksums(s: &Superblock) -> Checksums {
    if s.s_feature_ro_compat.get() & RO_COMPAT_METADATA_CSUM != 0 {
        Checksums::Metadata(seed(s))
    } else if s.s_feature_ro_compat.get() & RO_COMPAT_GDT_CSUM != 0 {
        Checksums::Descriptors
    } else {
        Checksums::None
    }
}

/// Whether another superblock describes a file system of the same sizes.
pub(super) fn describes_the_same(other: &Superblock, layout: &Layout) -> bool {
    let blocks = u64::from(other.s_blocks_count_lo.get())
        | match layout.incompat(INCOMPAT_64BIT) {
            true => u64::from(other.s_blocks_count_hi.get()) << 32,
            false => 0,
        };
    blocks == layout.blocks
        && other.s_inodes_count.get() == layout.inodes
        && u64::from(other.s_blocks_per_group.get()) == layout.blocks_per_group
        && other.s_uuid == layout.uuid
}
