//! The superblock: sizes and places that follow from it, and features.
//!
//! Source: Linux, Documentation/filesystems/ext4, "The Super Block".

use super::checksum::{self, Checksums};
use super::damage::damaged;
use crate::disk::{Volume, no_file_system};
use crate::error::{Error, Result};
use crate::ext4::checksum as sums;
use crate::ext4::features;
use crate::ext4::format::{
    CHECKSUM_CRC32C, COMPAT_SPARSE_SUPER2, DESCRIPTOR_SIZE, FLAGS_UNSIGNED_HASH, INCOMPAT_64BIT,
    INCOMPAT_CASEFOLD, INCOMPAT_CSUM_SEED, INCOMPAT_EA_INODE, INCOMPAT_ENCRYPT, INCOMPAT_EXTENTS,
    INCOMPAT_FILETYPE, INCOMPAT_FLEX_BG, INCOMPAT_INLINE_DATA, INCOMPAT_JOURNAL_DEV,
    INCOMPAT_LARGEDIR, INCOMPAT_META_BG, INCOMPAT_MMP, INCOMPAT_RECOVER, RO_COMPAT_BIGALLOC,
    RO_COMPAT_METADATA_CSUM, RO_COMPAT_SPARSE_SUPER, SUPER_MAGIC, SUPERBLOCK_OFFSET, Superblock,
};

/// Incompatible features that are understood; any other may change the meaning of the rest.
/// Encryption is refused where it is met.
const UNDERSTOOD: u32 = INCOMPAT_FILETYPE
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
    | INCOMPAT_CASEFOLD;

/// The sizes and places that a superblock gives. They are true of the disk: all blocks are
/// there, and they are enough for the tables of all groups.
#[derive(Clone, Debug)]
pub(crate) struct Geometry {
    pub block_size: u32,
    pub blocks: u64,
    pub first_block: u64,
    pub blocks_per_group: u32,
    pub blocks_per_cluster: u32,
    pub groups: u32,
    pub inodes: u32,
    pub inodes_per_group: u32,
    pub inode_size: u16,
    pub descriptor_size: u16,
    pub checksums: Checksums,
    /// The seed of the hashes of values in inodes.
    pub value_seed: u32,
    pub hash_seed: [u32; 4],
    pub unsigned_hash: bool,
    /// Compatible, incompatible, read-only compatible.
    features: [u32; 3],
    first_meta_group: u32,
    backup_groups: [u32; 2],
}

fn bad(what: &str, value: u64) -> Error {
    damaged(format!("the superblock gives {value} for {what}")).at_offset(SUPERBLOCK_OFFSET as u64)
}

/// The number of blocks for each bit of a block bitmap; none if the superblock's word for it
/// makes no sense.
fn blocks_per_cluster(superblock: &Superblock) -> Option<u32> {
    if superblock.s_feature_ro_compat.get() & RO_COMPAT_BIGALLOC == 0 {
        return Some(1);
    }
    let log = superblock
        .s_log_cluster_size
        .get()
        .checked_sub(superblock.s_log_block_size.get())?;
    1_u32.checked_shl(log)
}

/// A number in two halves, of which only 64bit has the high one.
pub(crate) fn joined(superblock: &Superblock, low: u32, high: u32) -> u64 {
    match superblock.s_feature_incompat.get() & INCOMPAT_64BIT {
        0 => u64::from(low),
        _ => u64::from(high) << 32 | u64::from(low),
    }
}

impl Geometry {
    /// Reads the superblock of a disk. Its checksum and its features are not looked at yet:
    /// [`check`](Self::check) does that.
    pub(crate) fn read(volume: &Volume) -> Result<(Self, Superblock)> {
        const OFFSET: u64 = SUPERBLOCK_OFFSET as u64;
        if volume.virtual_size() < OFFSET + size_of::<Superblock>() as u64 {
            return Err(damaged("too short for a file system"));
        }
        let mut bytes = [0; size_of::<Superblock>()];
        volume.read_at(OFFSET, &mut bytes)?;
        let superblock: Superblock = zerocopy::transmute!(bytes);
        if superblock.s_magic.get() != SUPER_MAGIC {
            return Err(no_file_system(volume));
        }
        let geometry = Self::of(&superblock, volume.virtual_size())?;
        Ok((geometry, superblock))
    }

    fn of(superblock: &Superblock, disk_size: u64) -> Result<Self> {
        let log_block_size = superblock.s_log_block_size.get();
        if log_block_size > 6 {
            return Err(bad(
                "the logarithm of the block size",
                log_block_size.into(),
            ));
        }
        let block_size = 1024_u32 << log_block_size;
        let blocks = joined(
            superblock,
            superblock.s_blocks_count_lo.get(),
            superblock.s_blocks_count_hi.get(),
        );
        let first_block = superblock.s_first_data_block.get();
        if u64::from(first_block) >= blocks || first_block > 1 {
            return Err(bad("the first block", first_block.into()));
        }
        let bytes = blocks.checked_mul(block_size.into());
        if bytes.is_none_or(|bytes| bytes > disk_size) {
            return Err(damaged(format!(
                "the file system has {blocks} blocks of {block_size} bytes, but the disk is \
                 {disk_size} bytes long"
            )));
        }
        let bits_per_block = 8 * block_size;
        let blocks_per_cluster = blocks_per_cluster(superblock).ok_or_else(|| {
            bad(
                "the cluster size",
                superblock.s_log_cluster_size.get().into(),
            )
        })?;
        let blocks_per_group = superblock.s_blocks_per_group.get();
        if blocks_per_group == 0
            || !blocks_per_group.is_multiple_of(blocks_per_cluster)
            || blocks_per_group / blocks_per_cluster > bits_per_block
        {
            return Err(bad("the blocks of a group", blocks_per_group.into()));
        }
        let inodes_per_group = superblock.s_inodes_per_group.get();
        if inodes_per_group == 0 || inodes_per_group > bits_per_block {
            return Err(bad("the inodes of a group", inodes_per_group.into()));
        }
        let inode_size = match superblock.s_rev_level.get() {
            0 => 128,
            _ => superblock.s_inode_size.get(),
        };
        if inode_size < 128 || !inode_size.is_power_of_two() || u32::from(inode_size) > block_size {
            return Err(bad("the size of an inode", inode_size.into()));
        }
        let descriptor_size = match superblock.s_feature_incompat.get() & INCOMPAT_64BIT {
            0 => DESCRIPTOR_SIZE as u16,
            _ => superblock.s_desc_size.get(),
        };
        if !(32..=1024).contains(&descriptor_size) || !descriptor_size.is_power_of_two() {
            return Err(bad(
                "the size of a group descriptor",
                descriptor_size.into(),
            ));
        }
        let groups = (blocks - u64::from(first_block)).div_ceil(blocks_per_group.into());
        let groups = u32::try_from(groups).map_err(|_| bad("the number of blocks", blocks))?;
        let inodes = superblock.s_inodes_count.get();
        if groups.checked_mul(inodes_per_group) != Some(inodes) {
            return Err(bad("the number of inodes", inodes.into()));
        }
        let geometry = Self {
            block_size,
            blocks,
            first_block: first_block.into(),
            blocks_per_group,
            blocks_per_cluster,
            groups,
            inodes,
            inodes_per_group,
            inode_size,
            descriptor_size,
            checksums: Checksums::of(superblock),
            value_seed: checksum::seed(superblock),
            hash_seed: superblock.s_hash_seed.map(|word| word.get()),
            unsigned_hash: superblock.s_flags.get() & FLAGS_UNSIGNED_HASH != 0,
            features: [
                superblock.s_feature_compat.get(),
                superblock.s_feature_incompat.get(),
                superblock.s_feature_ro_compat.get(),
            ],
            first_meta_group: superblock.s_first_meta_bg.get(),
            backup_groups: superblock.s_backup_bgs.map(|group| group.get()),
        };
        // From here on time and memory are bounded by the size of the disk.
        let descriptor_blocks =
            (u64::from(groups) * u64::from(descriptor_size)).div_ceil(block_size.into());
        let tables = u64::from(groups) * (geometry.table_blocks() + 2);
        if tables + descriptor_blocks + u64::from(first_block) >= blocks {
            return Err(damaged(format!(
                "{blocks} blocks are too few for the tables of {groups} groups with \
                 {inodes_per_group} inodes each"
            )));
        }
        Ok(geometry)
    }

    /// Makes sure that the superblock is sound and that nothing is missing to understand the
    /// rest.
    pub(super) fn check(&self, superblock: &Superblock) -> Result<()> {
        let incompatible = self.features[1];
        let unsupported = |what: String| Err(Error::unsupported(what));
        if incompatible & INCOMPAT_JOURNAL_DEV != 0 {
            return unsupported(
                "the disk holds the journal of a file system on another disk (journal_dev)".into(),
            );
        }
        let unknown = incompatible & !(UNDERSTOOD | INCOMPAT_RECOVER);
        if unknown != 0 {
            let names = features::names_of([0, unknown, 0]).join(", ");
            return unsupported(format!(
                "the file system has features that are not read: {names}"
            ));
        }
        if self.ro_compat(RO_COMPAT_METADATA_CSUM) {
            let kind = superblock.s_checksum_type;
            if kind != CHECKSUM_CRC32C {
                return unsupported(format!(
                    "the superblock names an unknown type of checksum, {kind}"
                ));
            }
            let computed = sums::superblock(zerocopy::transmute_ref!(superblock));
            if computed != superblock.s_checksum.get() {
                return Err(damaged("the superblock's checksum is wrong")
                    .at_offset(SUPERBLOCK_OFFSET as u64));
            }
        }
        if incompatible & INCOMPAT_RECOVER != 0 {
            let place = match superblock.s_journal_inum.get() {
                0 => ", which is on another disk",
                _ => "",
            };
            return unsupported(format!(
                "the file system was not unmounted: what its journal{place} holds has to be \
                 replayed first (needs_recovery)"
            ));
        }
        Ok(())
    }

    pub(super) fn compat(&self, feature: u32) -> bool {
        self.features[0] & feature != 0
    }

    pub(super) fn incompat(&self, feature: u32) -> bool {
        self.features[1] & feature != 0
    }

    pub(super) fn ro_compat(&self, feature: u32) -> bool {
        self.features[2] & feature != 0
    }

    /// The blocks of a group's inode table.
    pub(crate) fn table_blocks(&self) -> u64 {
        (u64::from(self.inodes_per_group) * u64::from(self.inode_size))
            .div_ceil(self.block_size.into())
    }

    /// Whether a group starts with a copy of the superblock, or, the first, with itself.
    fn has_superblock(&self, group: u32) -> bool {
        if group == 0 {
            return true;
        }
        if self.compat(COMPAT_SPARSE_SUPER2) {
            return self.backup_groups.contains(&group);
        }
        let is_power = |base: u32| {
            let mut rest = group;
            while rest.is_multiple_of(base) {
                rest /= base;
            }
            rest == 1
        };
        group == 1 || !self.ro_compat(RO_COMPAT_SPARSE_SUPER) || [3, 5, 7].into_iter().any(is_power)
    }

    /// Where the descriptor of a group stands on the disk.
    pub(crate) fn descriptor_place(&self, group: u32) -> u64 {
        let (block_size, size) = (self.block_size, u32::from(self.descriptor_size));
        let per_block = block_size / size;
        let number = group / per_block;
        let is_in_meta_group = self.incompat(INCOMPAT_META_BG) && number >= self.first_meta_group;
        let first = number * per_block;
        // The table follows the block with the superblock.
        let block = if is_in_meta_group && first > 0 {
            let start = self.first_block + u64::from(first) * u64::from(self.blocks_per_group);
            start + u64::from(self.has_superblock(first))
        } else {
            let of_group = if is_in_meta_group { 0 } else { number };
            SUPERBLOCK_OFFSET as u64 / u64::from(block_size) + 1 + u64::from(of_group)
        };
        block * u64::from(block_size) + u64::from(group % per_block * size)
    }
}
