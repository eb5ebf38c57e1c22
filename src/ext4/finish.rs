//! The end of a file system: attributes, directories, inode tables, bitmaps, descriptors and
//! superblock, which are known only when all entries are.

use std::collections::HashMap;

use zerocopy::{FromZeros, IntoBytes};

use super::area::{Area, BlockSink};
use super::capacity::{Capacity, FreeSpace, Placed, Settled};
use super::checksum;
use super::directories::DirBlocks;
use super::format::{
    BITS_PER_BLOCK, BLOCK_SIZE, CHECKSUM_CRC32C, COMPAT_HAS_JOURNAL, FIRST_INO, I_BLOCK_SIZE,
    INCOMPAT_64BIT, INCOMPAT_CSUM_SEED, INCOMPAT_LARGEDIR, INODE_SIZE, INODES_PER_BLOCK,
    JOURNAL_BACKUP_BLOCKS, JOURNAL_INO, RO_COMPAT_READONLY, RO_COMPAT_SPARSE_SUPER, SUPER_MAGIC,
    SUPERBLOCK_OFFSET, Superblock, XATTR_REFCOUNT_MAX,
};
use super::geometry::Geometry;
use super::groups::{Census, Totals, halves};
use super::hcsshim;
use super::identity::Identity;
use super::inode::{Body, Finish, Node, encode};
use super::journal;
use super::parts::{self, Crew, PART_BLOCKS};
use super::sets::{Sets, Stored};
use super::tree::{Ino, Tree};
use super::writable::Writable;
use super::writer::Writer;
use super::xattr::{self, Attribute, OPAQUE_SIZE, Placement, Reserved, Set};
use crate::error::{Error, Result};

/// A file system that is whole.
pub(crate) struct Finished<S> {
    pub sink: S,
    pub blocks: u64,
    /// The block from which on nothing matters but copies of the superblock.
    pub used_end: u64,
    /// Inodes in use, the reserved ones not counted but for the root.
    pub inodes: u64,
    /// Bytes of the disk, if that follows from the contents and not from the options.
    pub disk_size: Option<u64>,
}

/// How often each value's inode is named by an entry.
type References = HashMap<u32, u32>;

/// Blocks of a group's inode table.
struct TablePart {
    /// The inode of the first.
    first_ino: u32,
    start: u64,
    blocks: u32,
}

impl TablePart {
    /// The tables up to an inode: what is behind it stays zero, as it is.
    fn all(geometry: &Geometry, last_ino: u32) -> Vec<Self> {
        let end = last_ino.div_ceil(INODES_PER_BLOCK);
        let mut parts = Vec::new();
        let (mut first, mut group, mut within) = (0, 0, 0);
        while first < end {
            let left = (geometry.table_blocks() - within).min(end - first);
            let blocks = left.min(PART_BLOCKS as u32);
            parts.push(Self {
                first_ino: first * INODES_PER_BLOCK + 1,
                start: geometry.inode_tables.of(group) + u64::from(within),
                blocks,
            });
            first += blocks;
            within += blocks;
            if within == geometry.table_blocks() {
                (group, within) = (group + 1, 0);
            }
        }
        parts
    }
}

impl<S: BlockSink> Area<S> {
    /// Decides about the size, now that all contents have their places: of the blocks that were
    /// given out `freed` are in use no longer.
    pub(super) fn settle(
        &mut self,
        space: &FreeSpace,
        freed: u64,
        last_ino: u32,
    ) -> Result<Settled> {
        let placed = Placed {
            next: self.next.into(),
            used: u64::from(self.taken) - freed,
            max_blocks: self.max_blocks,
        };
        let settled = space.settle(placed, last_ino)?;
        self.skipped.extend(&settled.free);
        self.gaps = settled.writable.copies();
        self.max_blocks = settled.writable.blocks;
        Ok(settled)
    }
}

impl<S: BlockSink> Writer<S> {
    /// Writes everything that is left and the superblock last.
    pub(crate) fn finish(mut self, identity: &Identity, crew: Crew<'_>) -> Result<Finished<S>> {
        let opaque = xattr::opaque_mark();
        let profile = self.config.profile;
        let references = match profile.xattrs_come_first {
            true => {
                self.write_late_blocks()?;
                References::new()
            }
            false => self.place_xattrs(&opaque)?,
        };
        self.free_unused_values(&references);
        let (dirs, levels) = self.write_directories(identity, crew)?;
        let (writable, disk_size) = match self.config.writable {
            None => (None, None),
            Some(Capacity::Fixed(writable)) => (Some(writable), None),
            Some(Capacity::Free(space)) => {
                let freed = self.freed.iter().map(|(_, blocks)| u64::from(*blocks));
                let settled = self
                    .area
                    .settle(&space, freed.sum(), self.tree.last_ino())?;
                (Some(settled.writable), Some(settled.disk_size))
            }
        };
        let journal_blocks = writable.and_then(|writable| writable.journal);
        let journal = match journal_blocks {
            Some(blocks) => Some(journal::write(
                &mut self.area,
                blocks,
                self.seed,
                identity.uuid,
            )?),
            None => None,
        };
        let (end, last_ino) = (self.area.next, self.tree.last_ino());
        let geometry = match &writable {
            Some(writable) => writable.geometry(end, last_ino)?,
            None if profile.small_groups => Geometry::new(end, last_ino, self.config.max_blocks)?,
            None => Geometry::hcsshim(end, last_ino, self.config.max_blocks)?,
        };
        self.write_inode_tables(
            crew,
            &geometry,
            &dirs,
            &references,
            journal.as_ref(),
            &opaque,
        )?;
        let census = Census::of(&self.tree);
        let totals = self.write_groups(&geometry, &census)?;
        let incompat = match levels {
            2 => census.incompat | INCOMPAT_LARGEDIR,
            _ => census.incompat,
        };
        let mut superblock =
            self.superblock(identity, writable.as_ref(), &geometry, &totals, incompat);
        if let Some(journal) = &journal {
            superblock.s_feature_compat |= COMPAT_HAS_JOURNAL;
            superblock.s_journal_inum = JOURNAL_INO.into();
            superblock.s_jnl_backup_type = JOURNAL_BACKUP_BLOCKS;
            superblock.s_jnl_blocks = journal::backup(journal).map(Into::into);
        }
        for group in &geometry.backups {
            superblock.s_block_group_nr = (*group as u16).into();
            let block = superblock_block(&mut superblock, 0);
            self.area.sink.write(geometry.start(*group), &block)?;
        }
        superblock.s_block_group_nr = 0.into();
        let block = superblock_block(&mut superblock, SUPERBLOCK_OFFSET);
        self.area.sink.write(0, &block)?;
        Ok(Finished {
            sink: self.area.sink,
            blocks: geometry.blocks,
            used_end: geometry.used_end,
            inodes: (self.tree.nodes().len() - census.freed.len()) as u64,
            disk_size,
        })
    }

    /// Gives every inode whose attributes take a block that block.
    fn place_xattrs(&mut self, opaque: &Attribute) -> Result<References> {
        /// Where the plain users of a live set stand.
        #[derive(Clone, Copy)]
        struct Shared {
            users: u32,
            block: u32,
            /// Users that the block can take yet.
            left: u32,
        }
        if self.sets.is_empty() {
            return Ok(References::new());
        }
        let mut shared = vec![
            Shared {
                users: 0,
                block: 0,
                left: 0
            };
            self.sets.count()
        ];
        for (ino, node) in self.tree.nodes() {
            if is_plain(&self.tree, ino, node) {
                shared[node.xattrs as usize].users += 1;
            }
        }
        let mut references = References::new();
        let mut blocks = Vec::new();
        for (ino, node) in self.tree.nodes() {
            let set = match self.sets.get(node.xattrs) {
                None => continue,
                Some(Stored::Sealed(sealed)) => {
                    sealed
                        .values
                        .iter()
                        .for_each(|ino| *references.entry(*ino).or_default() += 1);
                    blocks.push((ino, sealed.block));
                    continue;
                }
                Some(Stored::Live(bytes)) => Set::decode(bytes),
            };
            let place = placement(&self.tree, ino, node, &set, opaque)?;
            let (in_inode, in_block) = place.value_inodes();
            in_inode.for_each(|ino| *references.entry(ino).or_default() += 1);
            let state = &mut shared[node.xattrs as usize];
            let plain = is_plain(&self.tree, ino, node);
            if !plain || state.left == 0 {
                let users = if plain {
                    state.users.min(XATTR_REFCOUNT_MAX)
                } else {
                    1
                };
                let Some(block) = place.block(self.seed, self.area.next, users) else {
                    continue;
                };
                let number = self.area.append(&block)?;
                in_block.for_each(|ino| *references.entry(ino).or_default() += 1);
                if !plain {
                    blocks.push((ino, number));
                    continue;
                }
                (state.block, state.left) = (number, users);
                state.users -= users;
            }
            state.left -= 1;
            blocks.push((ino, state.block));
        }
        for (ino, block) in blocks {
            self.tree.node_mut(ino).xattr_block = block;
        }
        Ok(references)
    }

    /// Frees values and blocks of attributes that no inode has any more.
    fn free_unused_values(&mut self, references: &References) {
        if self.sets.is_empty() {
            return;
        }
        let unused = |(ino, node): (Ino, &Node)| {
            let is_value = matches!(node.body, Body::XattrValue { .. });
            (is_value && !references.contains_key(&ino.get())).then_some(ino)
        };
        let unused: Vec<_> = self.tree.nodes().filter_map(unused).collect();
        unused.into_iter().for_each(|ino| self.free(ino));
        let mut used = vec![false; self.sets.count()];
        for (_, node) in self.tree.nodes() {
            used[node.xattrs as usize] = true;
        }
        let unused = |(number, stored): (u32, &Stored)| match stored {
            Stored::Sealed(sealed) if !used[number as usize] => Some(sealed.block),
            _ => None,
        };
        let unused: Vec<_> = self.sets.iter().filter_map(unused).collect();
        unused
            .into_iter()
            .for_each(|block| self.free_blocks(block, 1));
    }

    // Counted by benches/instructions.
    #[inline(never)]
    fn write_inode_tables(
        &mut self,
        crew: Crew<'_>,
        geometry: &Geometry,
        dirs: &[DirBlocks],
        references: &References,
        journal: Option<&Node>,
        opaque: &Attribute,
    ) -> Result<()> {
        let profile = self.config.profile;
        let Self {
            tree,
            sets,
            area,
            seed,
            created,
            ..
        } = self;
        let parts = TablePart::all(geometry, tree.last_ino());
        parts::write(crew, &mut area.sink, &parts, |part, table| {
            table.resize(part.blocks as usize * BLOCK_SIZE, 0);
            let (slots, _) = table.as_chunks_mut::<INODE_SIZE>();
            for (ino, slot) in (part.first_ino..).zip(slots) {
                let Some((ino, node)) = tree.get(ino) else {
                    match journal.filter(|_| ino == JOURNAL_INO) {
                        Some(node) => encode(profile, *seed, ino, node, &Finish::PLAIN, slot),
                        None => slot.fill(0),
                    }
                    continue;
                };
                let directory = match node.body {
                    Body::Freed => {
                        slot.fill(0);
                        continue;
                    }
                    Body::Directory(index) => Some(&dirs[index as usize]),
                    _ => None,
                };
                let mut finish = match profile.xattrs_come_first {
                    true => finish_of_hcsshim(sets, node, directory),
                    false => finish_of(tree, sets, ino, node, directory, references, opaque)?,
                };
                finish.created = created.get(&ino).copied();
                encode(profile, *seed, ino.get(), node, &finish, slot);
            }
            Ok(part.start)
        })
    }

    /// The superblock, but for its checksum; with features of what there is beside the profile's.
    fn superblock(
        &self,
        identity: &Identity,
        writable: Option<&Writable>,
        geometry: &Geometry,
        totals: &Totals,
        mut incompat: u32,
    ) -> Superblock {
        let profile = self.config.profile;
        incompat |= profile.incompat | profile.announced(self.config.inline_data);
        let (time, time_hi) = (self.config.time as u32, (self.config.time >> 32) as u8);
        let mut sb = Superblock::new_zeroed();
        sb.s_inodes_count = (geometry.inodes_per_group * geometry.groups).into();
        (sb.s_blocks_count_lo, sb.s_blocks_count_hi) = halves(geometry.blocks);
        (sb.s_free_blocks_count_lo, sb.s_free_blocks_count_hi) = halves(totals.free_blocks);
        sb.s_free_inodes_count = totals.free_inodes.into();
        sb.s_log_block_size = BLOCK_SIZE.trailing_zeros().saturating_sub(10).into();
        sb.s_log_cluster_size = sb.s_log_block_size;
        sb.s_blocks_per_group = geometry.blocks_per_group.into();
        sb.s_clusters_per_group = geometry.blocks_per_group.into();
        sb.s_inodes_per_group = geometry.inodes_per_group.into();
        if profile.identified {
            (sb.s_wtime, sb.s_wtime_hi) = (time.into(), time_hi);
            (sb.s_lastcheck, sb.s_lastcheck_hi) = (time.into(), time_hi);
            (sb.s_mkfs_time, sb.s_mkfs_time_hi) = (time.into(), time_hi);
            sb.s_uuid = identity.uuid;
            sb.s_hash_seed = identity.hash_seed.map(Into::into);
        }
        sb.s_max_mnt_count = profile.max_mnt_count.into();
        sb.s_magic = SUPER_MAGIC.into();
        sb.s_state = STATE_CLEAN.into();
        sb.s_errors = ERRORS_CONTINUE.into();
        sb.s_rev_level = DYNAMIC_REVISION.into();
        sb.s_first_ino = FIRST_INO.into();
        sb.s_inode_size = (INODE_SIZE as u16).into();
        sb.s_feature_compat = profile.compat.into();
        let mut ro_compat = profile.ro_compat;
        match writable {
            None => ro_compat |= RO_COMPAT_READONLY,
            Some(writable) => {
                ro_compat |= RO_COMPAT_SPARSE_SUPER;
                incompat |= INCOMPAT_64BIT;
                sb.s_desc_size = (geometry.descriptor_size as u16).into();
                sb.s_backup_bgs = writable.backups().map(Into::into);
                sb.s_volume_name = writable.label;
                (sb.s_r_blocks_count_lo, sb.s_r_blocks_count_hi) =
                    halves(writable.reserved_blocks());
            }
        }
        if profile.checksums && self.config.seeded_by.is_none() {
            incompat |= INCOMPAT_CSUM_SEED;
            sb.s_checksum_seed = self.seed.into();
        }
        sb.s_feature_incompat = incompat.into();
        sb.s_feature_ro_compat = ro_compat.into();
        sb.s_def_hash_version = profile.def_hash_version;
        sb.s_default_mount_opts = profile.default_mount_opts.into();
        sb.s_min_extra_isize = profile.extra_isize.into();
        sb.s_want_extra_isize = profile.extra_isize.into();
        sb.s_flags = profile.flags.into();
        sb.s_log_groups_per_flex = profile.log_groups_per_flex;
        sb.s_lpf_ino = profile.lpf_ino.into();
        if profile.checksums {
            sb.s_checksum_type = CHECKSUM_CRC32C;
        }
        sb
    }
}

/// A block with the superblock in it, checksum included where there are checksums.
fn superblock_block(sb: &mut Superblock, offset: usize) -> [u8; BLOCK_SIZE] {
    let mut bytes = [0; size_of::<Superblock>()];
    bytes.copy_from_slice(sb.as_bytes());
    if sb.s_checksum_type == CHECKSUM_CRC32C {
        sb.s_checksum = checksum::superblock(&bytes).into();
    }
    let mut block = [0; BLOCK_SIZE];
    block[offset..offset + bytes.len()].copy_from_slice(sb.as_bytes());
    block
}

/// s_state: unmounted cleanly.
const STATE_CLEAN: u16 = 1;
/// s_errors: go on after an error.
const ERRORS_CONTINUE: u16 = 1;
/// s_rev_level: inode size and features are in the superblock.
const DYNAMIC_REVISION: u32 = 1;

/// Whether nothing but the attribute set decides what the inode's part and its block hold.
fn is_plain(tree: &Tree, ino: Ino, node: &Node) -> bool {
    !matches!(node.body, Body::Inline(_)) && !tree.dir(ino).is_some_and(|dir| dir.opaque)
}

/// Where the attributes of an inode go.
fn placement<'a>(
    tree: &Tree,
    ino: Ino,
    node: &Node,
    set: &'a Set,
    opaque: &'a Attribute,
) -> Result<Placement<'a>> {
    let is_opaque = tree.dir(ino).is_some_and(|dir| dir.opaque);
    let reserved = Reserved {
        bytes: if is_opaque { OPAQUE_SIZE } else { 0 },
        inline: inline_tail(node),
    };
    // The set was made to fit with less room than this.
    let mut place = Placement::new(set, reserved)
        .ok_or_else(|| Error::limit("extended attributes do not fit"))?;
    if is_opaque {
        place.add_to_inode(opaque);
    }
    Ok(place)
}

/// The part of inline contents that goes into the attribute system.data.
fn inline_tail(node: &Node) -> Option<&[u8]> {
    match &node.body {
        Body::Inline(data) => Some(data.get(I_BLOCK_SIZE..).unwrap_or_default()),
        _ => None,
    }
}

fn finish_of<'a>(
    tree: &Tree,
    sets: &Sets,
    ino: Ino,
    node: &Node,
    directory: Option<&'a DirBlocks>,
    references: &References,
    opaque: &Attribute,
) -> Result<Finish<'a>> {
    let directory = directory.map(|dir| (&dir.root, dir.count, dir.indexed));
    let references = references.get(&ino.get()).copied().unwrap_or_default();
    // As most are.
    if node.xattrs == 0 && is_plain(tree, ino, node) {
        return Ok(Finish {
            directory,
            references,
            ..Finish::PLAIN
        });
    }
    let mut value_blocks = 0;
    let set = match sets.get(node.xattrs) {
        Some(Stored::Live(bytes)) => Set::decode(bytes),
        Some(Stored::Sealed(sealed)) => {
            value_blocks = sealed.value_blocks;
            Set::default()
        }
        None => Set::default(),
    };
    let place = placement(tree, ino, node, &set, opaque)?;
    Ok(Finish {
        directory,
        xattr_part: place.inode_part(inline_tail(node)).to_vec(),
        xattr_block: node.xattr_block,
        xattr_blocks: set.value_blocks() + value_blocks + u32::from(node.xattr_block != 0),
        references,
        created: None,
    })
}

/// The same where blocks of attributes have their places already.
fn finish_of_hcsshim<'a>(sets: &Sets, node: &Node, directory: Option<&'a DirBlocks>) -> Finish<'a> {
    let set = match sets.get(node.xattrs) {
        Some(Stored::Live(bytes)) => Set::decode(bytes),
        _ => Set::default(),
    };
    Finish {
        directory: directory.map(|dir| (&dir.root, dir.count, dir.indexed)),
        xattr_part: hcsshim::inode_part(&set, inline_tail(node)),
        xattr_block: node.xattr_block,
        xattr_blocks: u32::from(node.xattr_block != 0),
        references: 0,
        created: None,
    }
}

const _: () = assert!(
    BITS_PER_BLOCK <= u16::MAX as u32,
    "counts of a group fit 16 bits"
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_are_divided_where_their_groups_end() {
        let geometry = Geometry::new(3 * BITS_PER_BLOCK, 40_000, u64::from(u32::MAX)).unwrap();
        let table = geometry.table_blocks();
        for last_ino in [1, 16, 17, 16 * table, 16 * table + 1, 40_000] {
            let parts = TablePart::all(&geometry, last_ino);
            let mut next = 0;
            for part in &parts {
                assert_eq!(part.first_ino, next * INODES_PER_BLOCK + 1);
                let (group, within) = (next / table, next % table);
                assert_eq!(
                    part.start,
                    geometry.inode_tables.of(group) + u64::from(within)
                );
                assert!(within + part.blocks <= table && part.blocks as usize <= PART_BLOCKS);
                next += part.blocks;
            }
            assert_eq!(next, last_ino.div_ceil(16));
        }
    }
}
