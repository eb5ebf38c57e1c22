//! Inodes, one by one: their fields, their blocks and their attributes.
//!
//! Source: Linux, Documentation/filesystems/ext4, "Index Nodes", "Special inodes".

use rayon::prelude::*;

use super::acl::Gathered;
use super::attributes::{self, Attributes, Found, Value};
use super::block_map::{BlockMaps, Mapping, Owned, Run};
use super::blocks::{Blocks, bit, is_zero, u32_at};
use super::budget::{Budget, Unchecked};
use super::checksum::inode_seed;
use super::claims::Claims;
use super::directories::Directory;
use super::findings::{FindingKind, Findings, Place, display_time};
use super::groups::Group;
use super::inode::Raw;
use super::layout::Layout;
use super::quota::{QuotaFile, Usages};
use super::record::{Record, Use};
use super::special;
use crate::error::Result;
use crate::ext4::checksum::crc32c;
use crate::ext4::format::{
    COMPAT_DIR_INDEX, COMPAT_HAS_JOURNAL, COMPAT_ORPHAN_FILE, COMPAT_RESIZE_INODE, I_BLOCK_SIZE,
    INCOMPAT_64BIT, INCOMPAT_CASEFOLD, INCOMPAT_EXTENTS, INCOMPAT_INLINE_DATA, INCOMPAT_LARGEDIR,
    INODE_CASEFOLD, INODE_EA_INODE, INODE_ENCRYPT, INODE_EXTENTS, INODE_HUGE_FILE, INODE_INDEX,
    INODE_INLINE_DATA, JOURNAL_INO, RO_COMPAT_HUGE_FILE, RO_COMPAT_QUOTA, ROOT_INO, S_IFBLK,
    S_IFCHR, S_IFDIR, S_IFIFO, S_IFLNK, S_IFMT, S_IFREG, S_IFSOCK,
};

// i_flags that are read but never written here.
const INODE_IMMUTABLE: u32 = 0x10;
const INODE_APPEND: u32 = 0x20;
/// An inode of a directory of AFS, with the feature imagic_inodes.
const INODE_IMAGIC: u32 = 0x2000;
const INODE_VERITY: u32 = 0x10_0000;

// "Special inodes".
const BAD_BLOCKS_INO: u32 = 1;
const BOOT_LOADER_INO: u32 = 5;
const RESIZE_INO: u32 = 7;

/// The size from which on a file is not found in i_block with the rest of the fields.
const SHORT: usize = I_BLOCK_SIZE;

/// A piece of the part of a group's inode table that is in use.
struct Piece<'a> {
    group: &'a Group,
    /// The first inode's place in the group.
    first: usize,
    inodes: usize,
}

impl Piece<'_> {
    /// Where it starts on the disk.
    fn start(&self, volume: Blocks<'_>, layout: &Layout) -> u64 {
        volume.offset(self.group.inode_table) + (self.first * layout.inode_size) as u64
    }
}

/// A piece of a table as it was read.
struct Table {
    first_ino: u32,
    /// Where the first inode has its bit.
    first: usize,
    bitmap: Vec<u8>,
    bytes: Vec<u8>,
}

/// All that a look at every inode gives.
pub(super) struct Inodes<'a> {
    maps: BlockMaps<'a>,
    volume: Blocks<'a>,
    layout: &'a Layout,
    attributes: Attributes<'a>,
    pub claims: Claims,
    pub findings: Findings,
    pub budget: Budget,
    pub unchecked: Unchecked,
    usages: Usages,
    quota_files: Vec<QuotaFile>,
    /// In the order of their numbers.
    pub records: Vec<Record>,
    pub directories: Vec<Directory>,
}

impl<'a> Inodes<'a> {
    pub(super) fn new(
        volume: Blocks<'a>,
        layout: &'a Layout,
        claims: Claims,
        findings: Findings,
    ) -> Self {
        Self {
            maps: BlockMaps::new(volume),
            volume,
            layout,
            attributes: Attributes::new(volume, layout),
            claims,
            findings,
            budget: Budget::new(volume.count),
            unchecked: Unchecked::default(),
            usages: Usages::default(),
            quota_files: Vec::new(),
            records: Vec::new(),
            directories: Vec::new(),
        }
    }

    /// Looks at the inodes of all groups that are sound.
    pub(super) fn scan(&mut self, groups: &[Group]) -> Result<()> {
        // Bytes of tables that are read at once, and such pieces before they are looked at: a
        // table may be larger than the memory.
        const PIECE: usize = 512 << 10;
        const AHEAD: usize = 64;
        let inode_size = self.layout.inode_size;
        let most = PIECE / inode_size;
        let mut ahead = Vec::new();
        for group in groups.iter().filter(|group| group.is_sound) {
            // Bytes past the last inode are not read.
            let inodes = group.inodes as usize;
            for first in (0..inodes).step_by(most) {
                let piece = Piece {
                    group,
                    first,
                    inodes: most.min(inodes - first),
                };
                let len = (piece.inodes * inode_size) as u64;
                if self
                    .volume
                    .disk
                    .is_hole(piece.start(self.volume, self.layout), len)?
                {
                    continue;
                }
                ahead.push(piece);
                if ahead.len() == AHEAD {
                    self.pieces(&ahead)?;
                    ahead.clear();
                }
            }
        }
        self.pieces(&ahead)?;
        self.records.sort_unstable_by_key(|record| record.ino);
        self.directories.sort_unstable_by_key(|dir| dir.ino);
        self.attributes.finish(&mut self.findings);
        for file in &self.quota_files {
            let (budget, findings) = (&mut self.budget, &mut self.findings);
            file.check(self.volume, &self.usages, budget, findings)?;
        }
        Ok(())
    }

    fn pieces(&mut self, pieces: &[Piece<'_>]) -> Result<()> {
        let limit = self.findings.another();
        let tables: Vec<_> = pieces
            .par_iter()
            .map(|piece| read_table(self.volume, self.layout, piece, limit.another()))
            .collect();
        for table in tables {
            let (table, findings) = table?;
            self.findings.append(findings);
            self.table(&table)?;
        }
        Ok(())
    }

    fn table(&mut self, table: &Table) -> Result<()> {
        let inodes = table.bytes.chunks_exact(self.layout.inode_size);
        for (i, bytes) in inodes.enumerate() {
            let is_marked = bit(&table.bitmap, table.first + i);
            if !is_marked && is_zero(bytes) {
                continue;
            }
            let ino = table.first_ino + i as u32;
            if let Some(inode) = Raw::new(ino, bytes) {
                self.inode(&inode)?;
            }
        }
        Ok(())
    }

    fn wrong(&mut self, inode: &Raw<'_>, kind: FindingKind, message: impl FnOnce() -> String) {
        self.findings.add(kind, Place::inode(inode.ino), message);
    }

    fn record(&mut self, inode: &Raw<'_>, use_of: Use) {
        self.records.push(Record {
            ino: inode.ino,
            entry_type: inode.entry_type(),
            links: inode.links(),
            flags: inode.flags(),
            use_of,
        });
    }

    /// Looks at one inode that is marked as in use or not empty.
    pub(super) fn inode(&mut self, inode: &Raw<'_>) -> Result<()> {
        let ino = inode.ino;
        let dtime = inode.fields.i_dtime.get();
        let orphan = dtime != 0 && dtime < self.layout.inodes && self.layout.small_dtime_is_orphan;
        if orphan {
            self.wrong(inode, FindingKind::Orphan, || {
                format!("the inode is one of a list of deleted ones, the next of which is {dtime}")
            });
        }
        if self.is_special(ino) {
            return self.special(inode);
        }
        if inode.links() == 0 {
            if dtime == 0 && inode.mode() != 0 {
                self.wrong(inode, FindingKind::Inode, || {
                    "the inode has no links, but no time of deletion either".into()
                });
            }
            return Ok(());
        }
        if dtime != 0 && !orphan {
            self.wrong(inode, FindingKind::Inode, || {
                let time = display_time(dtime);
                format!("the inode is in use, but was deleted at {time}")
            });
        }
        if ino == ROOT_INO && !inode.is(S_IFDIR) {
            self.wrong(inode, FindingKind::Inode, || {
                "the root is not a directory".into()
            });
        }
        let use_of = match inode.has(INODE_EA_INODE) {
            true => Use::Value,
            false => Use::Named,
        };
        self.record(inode, use_of);
        self.flags_of_directories(inode);
        self.fields(inode);
        self.contents(inode, use_of)
    }

    /// Whether an inode is the file system's own.
    fn is_special(&self, ino: u32) -> bool {
        ino != ROOT_INO && ino < self.layout.first_ino || self.is_named_by_superblock(ino)
    }

    fn is_named_by_superblock(&self, ino: u32) -> bool {
        let quota = self.layout.ro_compat(RO_COMPAT_QUOTA) && self.layout.quota_inos.contains(&ino);
        let orphans = self.layout.compat(COMPAT_ORPHAN_FILE) && ino == self.layout.orphan_file_ino;
        quota || orphans
    }

    fn special(&mut self, inode: &Raw<'_>) -> Result<()> {
        let ino = inode.ino;
        self.record(inode, Use::Special);
        self.flags_of_directories(inode);
        let is_journal = self.layout.compat(COMPAT_HAS_JOURNAL)
            && self.layout.journal_ino == JOURNAL_INO
            && ino == JOURNAL_INO;
        if ino == BAD_BLOCKS_INO {
            let fields = &inode.fields;
            let clear = inode.mode() == 0
                && fields.i_uid.get() == 0
                && fields.i_gid.get() == 0
                && inode.links() == 0
                && fields.i_file_acl_lo.get() == 0;
            if !clear || inode.has(INODE_INLINE_DATA) {
                self.wrong(inode, FindingKind::Inode, || {
                    "the list of bad blocks has fields that it must not have".into()
                });
            }
            if !inode.i_block_is_zero() {
                self.map(inode, false)?;
                self.unchecked.note("the list of bad blocks");
            }
            return Ok(());
        }
        if is_journal || self.is_named_by_superblock(ino) {
            if !inode.is(S_IFREG) {
                self.wrong(inode, FindingKind::Inode, || {
                    "an inode of the file system itself is not a regular file".into()
                });
            }
            let mapping = self.blocks(inode, Found::default(), true)?;
            self.size(inode, &mapping, None);
            if is_journal {
                if inode.links() == 0 {
                    self.wrong(inode, FindingKind::Journal, || {
                        "the journal has no links".into()
                    });
                }
                special::journal(
                    self.volume,
                    &special::JournalFile {
                        ino,
                        runs: &mapping.runs,
                        size: inode.size(),
                        needs_replay: self.layout.needs_replay,
                    },
                    &mut self.findings,
                )?;
            } else if ino == self.layout.orphan_file_ino {
                let generation = inode.fields.i_generation.get();
                let seed = self.layout.checksums.seed();
                let seed = seed.map(|seed| inode_seed(seed, ino, generation));
                let orphans = special::OrphanFile {
                    ino,
                    seed,
                    size: inode.size(),
                    runs: &mapping.runs,
                };
                orphans.check(self.volume, &mut self.budget, &mut self.findings)?;
            } else {
                let kind = self
                    .layout
                    .quota_inos
                    .iter()
                    .position(|quota| *quota == ino);
                self.quota_files.extend(kind.map(|kind| QuotaFile {
                    kind,
                    ino,
                    size: inode.size(),
                    runs: mapping.runs,
                }));
            }
            return Ok(());
        }
        if ino == RESIZE_INO && self.layout.compat(COMPAT_RESIZE_INODE) {
            let right = inode.is(S_IFREG) && inode.links() > 0;
            let blocks = special::resize_inode(
                self.volume,
                self.layout,
                &inode.fields.i_block,
                right,
                &mut self.claims,
                &mut self.findings,
            )?;
            if let Some(blocks) = blocks {
                self.block_count(inode, blocks);
            }
            return Ok(());
        }
        let mode_is_wrong = match ino {
            BOOT_LOADER_INO => inode.is(S_IFDIR),
            RESIZE_INO => inode.mode() != 0 && !inode.is(S_IFREG),
            _ => inode.mode() != 0,
        };
        let is_quota = ino == 3 || ino == 4;
        if mode_is_wrong
            || (ino == RESIZE_INO || ino == JOURNAL_INO || is_quota) && !inode.i_block_is_zero()
            || (ino == JOURNAL_INO || is_quota) && inode.links() != 0
        {
            self.wrong(inode, FindingKind::Inode, || {
                "a reserved inode that is not in use is not clear".into()
            });
        }
        if is_zero(inode.bytes) {
            return Ok(());
        }
        let mapping = self.blocks(inode, Found::default(), false)?;
        self.size(inode, &mapping, None);
        Ok(())
    }

    /// Flags that only directories have, with a feature.
    fn flags_of_directories(&mut self, inode: &Raw<'_>) {
        let (is_dir, layout) = (inode.is(S_IFDIR), self.layout);
        if inode.has(INODE_INDEX) && !(is_dir && layout.compat(COMPAT_DIR_INDEX)) {
            self.wrong(inode, FindingKind::Inode, || {
                "a hash tree needs a directory and the feature dir_index".into()
            });
        }
        if inode.has(INODE_CASEFOLD) && !(is_dir && layout.incompat(INCOMPAT_CASEFOLD)) {
            self.wrong(inode, FindingKind::Inode, || {
                "folding of case needs a directory and the feature casefold".into()
            });
        }
    }

    /// Checks fields that must be zero, and flags that exclude each other.
    fn fields(&mut self, inode: &Raw<'_>) {
        let layout = self.layout;
        let fields = &inode.fields;
        let is_dir = inode.is(S_IFDIR);
        let contradictions = [
            (
                inode.entry_type() == 0,
                "the mode is of no type of file that there is",
            ),
            (fields.i_obso_faddr.get() != 0, "i_faddr is not 0"),
            (
                inode.has(INODE_IMAGIC),
                "the flag of AFS's inodes needs the feature imagic_inodes",
            ),
            (
                is_dir && fields.i_size_high.get() != 0 && !layout.incompat(INCOMPAT_LARGEDIR),
                "so large a directory needs the feature large_dir",
            ),
            (
                fields.i_file_acl_high.get() != 0 && !layout.incompat(INCOMPAT_64BIT),
                "so high a number of a block needs the feature 64bit",
            ),
            (
                fields.i_blocks_high.get() != 0 && !layout.ro_compat(RO_COMPAT_HUGE_FILE),
                "so many blocks need the feature huge_file",
            ),
            (
                inode.has(INODE_EXTENTS) && !layout.incompat(INCOMPAT_EXTENTS),
                "an extent tree needs the feature extent",
            ),
            (
                inode.has(INODE_INLINE_DATA) && !layout.incompat(INCOMPAT_INLINE_DATA),
                "inline contents need the feature inline_data",
            ),
            (
                inode.has(INODE_INLINE_DATA) && inode.has(INODE_EXTENTS),
                "contents are inline and in an extent tree",
            ),
            (
                inode.has(INODE_EA_INODE) && !inode.is(S_IFREG),
                "the value of an attribute is not in a regular file",
            ),
        ];
        for (wrong, message) in contradictions {
            if wrong {
                self.wrong(inode, FindingKind::Inode, || message.into());
            }
        }
        // Files that are mapped by block numbers but look like an extent tree.
        let looks_like_tree = layout.incompat(INCOMPAT_EXTENTS)
            && (inode.is(S_IFREG) || is_dir)
            && !inode.has(INODE_EXTENTS | INODE_INLINE_DATA)
            && fields.i_block.starts_with(&[0x0A, 0xF3])
            && u32_at(&fields.i_block, 4) & 0xFFFF == 4;
        if looks_like_tree {
            self.wrong(inode, FindingKind::Inode, || {
                "an extent tree is not marked as one".into()
            });
        }
        if inode.has(INODE_ENCRYPT) {
            self.unchecked.essential("encrypted files");
        }
        if inode.has(INODE_CASEFOLD) {
            self.unchecked.essential("directories that fold case");
        }
        let special = matches!(
            inode.mode() & S_IFMT,
            S_IFCHR | S_IFBLK | S_IFIFO | S_IFSOCK
        );
        if special
            && (inode.has(
                INODE_INDEX | INODE_EXTENTS | INODE_INLINE_DATA | INODE_IMMUTABLE | INODE_APPEND,
            ) || inode.size() != 0)
        {
            self.wrong(inode, FindingKind::Inode, || {
                "a device, FIFO or socket has flags or a size that it must not have".into()
            });
        }
        if inode.is(S_IFLNK) && inode.has(INODE_IMMUTABLE | INODE_APPEND) {
            self.wrong(inode, FindingKind::Inode, || {
                "a symbolic link has flags that it must not have".into()
            });
        }
    }

    /// Blocks, attributes, and what they hold as far as it is structure.
    fn contents(&mut self, inode: &Raw<'_>, use_of: Use) -> Result<()> {
        let ino = inode.ino;
        let mut found = Found::default();
        let extra = usize::from(inode.fields.i_extra_isize.get());
        let most = self.layout.inode_size - 128;
        if most > 0 {
            if extra != 0 && (!(4..=most).contains(&extra) || !extra.is_multiple_of(4)) {
                self.wrong(inode, FindingKind::Inode, || {
                    format!(
                        "the extra fields take {extra} bytes, not a multiple of 4 from 4 to {most}"
                    )
                });
            } else {
                self.attributes.in_inode(
                    ino,
                    &inode.bytes[128 + extra..],
                    &mut found,
                    &mut self.findings,
                );
            }
        }
        let inline_data = found.inline_data.take();
        if inode.has(INODE_INLINE_DATA) && inline_data.is_none() {
            self.wrong(inode, FindingKind::Inode, || {
                "contents are said to be inline, but the attribute system.data is missing".into()
            });
        }
        let keep = inode.is(S_IFDIR) || inode.is(S_IFLNK) || use_of == Use::Value;
        let mapping = self.blocks(inode, found, keep)?;
        self.size(inode, &mapping, inline_data.as_deref());
        if use_of == Use::Value {
            self.value(inode, &mapping)?;
        } else if inode.is(S_IFLNK) {
            self.symlink(inode, &mapping, inline_data.as_deref())?;
        } else if inode.is(S_IFDIR) {
            let generation = inode.fields.i_generation.get();
            let seed = self.layout.checksums.seed();
            let inline = inode.has(INODE_INLINE_DATA).then(|| {
                (
                    inode.fields.i_block,
                    inline_data.unwrap_or_default().into_boxed_slice(),
                )
            });
            self.directories.push(Directory {
                ino,
                flags: inode.flags(),
                seed: seed.map(|seed| inode_seed(seed, ino, generation)),
                runs: mapping.runs,
                inline,
            });
        }
        Ok(())
    }

    fn has_blocks(&self, inode: &Raw<'_>) -> bool {
        match inode.mode() & S_IFMT {
            S_IFCHR | S_IFBLK | S_IFIFO | S_IFSOCK => false,
            S_IFLNK => inode.size() >= SHORT as u64 && !inode.has(INODE_INLINE_DATA),
            _ => !inode.has(INODE_INLINE_DATA),
        }
    }

    fn map(&mut self, inode: &Raw<'_>, keep: bool) -> Result<Mapping> {
        let seed = self.layout.checksums.seed();
        let generation = inode.fields.i_generation.get();
        let owned = Owned {
            ino: inode.ino,
            i_block: &inode.fields.i_block,
            seed: seed.map(|seed| inode_seed(seed, inode.ino, generation)),
            keep,
        };
        match inode.has(INODE_EXTENTS) {
            true => self
                .maps
                .extents(&owned, &mut self.claims, &mut self.findings),
            false => self
                .maps
                .indirect(&owned, &mut self.claims, &mut self.findings),
        }
    }

    /// Maps the blocks of an inode, and its block of attributes, and counts them.
    fn blocks(&mut self, inode: &Raw<'_>, mut found: Found, keep: bool) -> Result<Mapping> {
        let mut number = u64::from(inode.fields.i_file_acl_lo.get());
        if self.layout.incompat(INCOMPAT_64BIT) {
            number |= u64::from(inode.fields.i_file_acl_high.get()) << 32;
        }
        if number != 0 {
            self.attributes.in_block(
                inode.ino,
                number,
                &mut found,
                &mut self.claims,
                &mut self.findings,
            )?;
        }
        // e2fsprogs then reads no attributes of the inode, and so not its contents either.
        if found.stray_offset && inode.has(INODE_INLINE_DATA) {
            self.wrong(inode, FindingKind::Attribute, || {
                "the value of an attribute is said to be here and in an inode of its own".into()
            });
        }
        // No ACL is heeded on a symbolic link, and all may be done with it.
        if !inode.is(S_IFLNK) {
            self.attributes
                .check_mode(inode.ino, inode.mode(), &found, &mut self.findings);
        }
        let mapping = match self.has_blocks(inode) {
            true => self.map(inode, keep)?,
            false => Mapping::default(),
        };
        let blocks = mapping.blocks + found.blocks;
        self.block_count(inode, blocks);
        if !self.is_special(inode.ino) {
            self.usages
                .charge(inode, self.layout, blocks, 1 + found.values);
        }
        Ok(mapping)
    }

    fn block_count(&mut self, inode: &Raw<'_>, blocks: u64) {
        let huge = self.layout.ro_compat(RO_COMPAT_HUGE_FILE);
        let mut declared = u64::from(inode.fields.i_blocks_lo.get());
        if huge {
            declared |= u64::from(inode.fields.i_blocks_high.get()) << 32;
        }
        let (unit, expected) = match huge && inode.has(INODE_HUGE_FILE) {
            true => ("blocks", blocks),
            false => ("sectors", blocks * (self.layout.block_size as u64 / 512)),
        };
        if declared != expected {
            self.wrong(inode, FindingKind::BlockCount, || {
                format!("i_blocks counts {declared} {unit}, but {expected} are in use")
            });
        }
    }

    fn size(&mut self, inode: &Raw<'_>, mapping: &Mapping, inline_data: Option<&[u8]>) {
        let size = inode.size();
        let block_size = self.layout.block_size as u64;
        let wrong = if inode.has(INODE_INLINE_DATA) {
            let room = (I_BLOCK_SIZE + inline_data.map_or(0, <[u8]>::len)) as u64;
            // A regular file may end before its room does.
            match inode.is(S_IFREG) {
                true => (size > room).then(|| format!("at most {room}, which are inline")),
                false => (size != room).then(|| room.to_string()),
            }
        } else if inode.is(S_IFDIR) {
            let blocks = size / block_size;
            let right = size.is_multiple_of(block_size)
                && blocks <= mapping.end
                && mapping.end - blocks <= self.layout.prealloc_dir_blocks;
            let end = mapping.end * block_size;
            (!right || blocks == 0).then(|| end.to_string())
        } else if inode.is(S_IFREG) || self.is_special(inode.ino) {
            // The last block may be there in part.
            let least = mapping.initialised_end.saturating_sub(1) * block_size;
            let most = match inode.has(INODE_EXTENTS) {
                true => (block_size << 32) - 1,
                false => {
                    let pointers = block_size / 4;
                    let blocks = 12 + pointers + pointers.pow(2) + pointers.pow(3);
                    blocks.saturating_mul(block_size)
                }
            };
            if size < least && !inode.has(INODE_VERITY) {
                Some(format!("at least {least}"))
            } else {
                (size > most).then(|| format!("at most {most}"))
            }
        } else {
            None
        };
        if let Some(expected) = wrong {
            self.wrong(inode, FindingKind::Size, || {
                format!("the size is {size} bytes, not {expected}")
            });
        }
    }

    fn symlink(
        &mut self,
        inode: &Raw<'_>,
        mapping: &Mapping,
        inline_data: Option<&[u8]>,
    ) -> Result<()> {
        let size = inode.size();
        let mut target = Vec::new();
        let mut room = SHORT;
        if inode.has(INODE_INLINE_DATA) {
            target.extend_from_slice(&inode.fields.i_block);
            target.extend_from_slice(inline_data.unwrap_or_default());
            // It may fill its place to the last byte.
            room = target.len() + 1;
        } else if !self.has_blocks(inode) {
            if inode.has(INODE_EXTENTS) {
                self.wrong(inode, FindingKind::Symlink, || {
                    "the target is in the inode, but an extent tree is said to be there".into()
                });
                return Ok(());
            }
            target.extend_from_slice(&inode.fields.i_block);
        } else if let [run] = mapping.runs[..]
            && run.logical == 0
            && run.len == 1
        {
            target = self.volume.read(run.physical, 1)?;
            room = target.len();
        } else {
            self.wrong(inode, FindingKind::Symlink, || {
                "the target is not in one block".into()
            });
            return Ok(());
        }
        if inode.has(INODE_ENCRYPT) {
            return Ok(());
        }
        let len = target
            .iter()
            .position(|byte| *byte == 0)
            .unwrap_or(target.len());
        if len >= room || len as u64 != size || size == 0 || inode.has(INODE_INDEX) {
            self.wrong(inode, FindingKind::Symlink, || {
                format!("the target has {len} bytes, the size is {size}")
            });
        }
        Ok(())
    }

    /// Notes an inode that holds the value of an attribute.
    fn value(&mut self, inode: &Raw<'_>, mapping: &Mapping) -> Result<()> {
        let size = inode.size();
        let (hash, acl) = match attributes::value_size(size) {
            Some(size) => self.contents_of_value(&mapping.runs, size)?,
            None => (None, Gathered::default()),
        };
        if inode.links() != 1 {
            let links = inode.links();
            self.wrong(inode, FindingKind::LinkCount, || {
                format!("the value of an attribute has {links} links, not 1")
            });
        }
        self.attributes.add_value(
            inode.ino,
            Value {
                size,
                hash: inode.fields.i_atime.get(),
                references: u64::from(inode.fields.i_ctime.get()) << 32
                    | u64::from(inode.fields.i_version_lo.get()),
                computed_hash: hash,
                acl: acl.finish(),
            },
        );
        Ok(())
    }

    /// The hash of a value, with or without metadata_csum, `None` if it has holes; and the ACL
    /// that it may be.
    fn contents_of_value(&mut self, runs: &[Run], size: usize) -> Result<(Option<u32>, Gathered)> {
        let block_size = self.layout.block_size;
        let mut hash = self.layout.value_seed;
        let mut acl = Gathered::new(size);
        let (mut rest, mut next) = (size, 0);
        for run in runs {
            for i in 0..run.len {
                if rest == 0 {
                    break;
                }
                if run.logical + i != next || !run.is_initialised || !self.budget.take(1) {
                    return Ok((None, acl));
                }
                let block = self.volume.read(run.physical + i, 1)?;
                let len = rest.min(block_size);
                hash = crc32c(hash, &block[..len]);
                acl.push(&block[..len]);
                rest -= len;
                next += 1;
            }
        }
        Ok(((rest == 0).then_some(hash), acl))
    }
}

/// Reads a group's bitmap and a piece of its table, and verifies checksums.
fn read_table(
    volume: Blocks<'_>,
    layout: &Layout,
    piece: &Piece<'_>,
    mut findings: Findings,
) -> Result<(Table, Findings)> {
    let start = piece.start(volume, layout);
    let table = Table {
        first_ino: piece.group.index * layout.inodes_per_group + piece.first as u32 + 1,
        first: piece.first,
        bitmap: volume.read(piece.group.inode_bitmap, 1)?,
        bytes: volume.disk.read(start, piece.inodes * layout.inode_size)?,
    };
    if let Some(seed) = layout.checksums.seed() {
        for (i, bytes) in table.bytes.chunks_exact(layout.inode_size).enumerate() {
            if is_zero(bytes) {
                continue;
            }
            let ino = table.first_ino + i as u32;
            let sum = Raw::new(ino, bytes).map_or(Ok(()), |inode| inode.checksum(seed));
            if let Err((found, computed)) = sum {
                let mut place = Place::inode(ino);
                place.offset = Some(start + (i * layout.inode_size) as u64);
                findings.add(FindingKind::Checksum, place, || {
                    format!("the inode's checksum is {found:08x}, not {computed:08x}")
                });
            }
        }
    }
    Ok((table, findings))
}
