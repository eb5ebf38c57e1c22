//! Inodes, directories and file contents of a disk that this crate has written.
//!
//! Numbers on the disk are checked before they are used: a damaged disk gives an error.

use std::io;

use zerocopy::{FromBytes, FromZeros, IntoBytes};

use super::entry::LowerKind;
use crate::disk::Volume;
use crate::error::{Error, Result};
use crate::ext4::format::{
    BLOCK_SIZE, DESCRIPTOR_SIZE, DIR_ENTRY_SIZE, DX_ENTRY_SIZE, DX_NODE_OFFSET, DX_ROOT_OFFSET,
    DirEntry, DxEntry, DxRootInfo, EXTENT_ENTRY_SIZE, EXTENT_MAGIC, EXTENT_MAX_LEN, ExtentHeader,
    ExtentIndex, ExtentLeaf, GroupDescriptor, HASH_HALF_MD4, INCOMPAT_64BIT, INCOMPAT_CSUM_SEED,
    INCOMPAT_EA_INODE, INCOMPAT_EXTENTS, INCOMPAT_FILETYPE, INCOMPAT_FLEX_BG, INCOMPAT_INLINE_DATA,
    INCOMPAT_LARGEDIR, INODE_EXTENTS, INODE_INDEX, INODE_INLINE_DATA, INODE_SIZE, Inode, S_IFBLK,
    S_IFCHR, S_IFDIR, S_IFIFO, S_IFLNK, S_IFMT, S_IFREG, SUPER_MAGIC, SUPERBLOCK_OFFSET,
    Superblock,
};
use crate::ext4::hash::half_md4;

/// The features that are understood; any other may change the meaning of the rest.
const INCOMPAT_KNOWN: u32 = INCOMPAT_FILETYPE
    | INCOMPAT_EXTENTS
    | INCOMPAT_FLEX_BG
    | INCOMPAT_EA_INODE
    | INCOMPAT_CSUM_SEED
    | INCOMPAT_LARGEDIR
    | INCOMPAT_INLINE_DATA
    | INCOMPAT_64BIT;
/// The kernel's bound on the depth of an extent tree.
const MAX_DEPTH: u16 = 5;
/// The kernel's bound on the levels between a hash tree's root and its leaves.
const MAX_LEVELS: u8 = 2;
/// Where dx_root_info stands: after `.` and `..`.
const DX_ROOT_INFO: usize = DX_ROOT_OFFSET - size_of::<DxRootInfo>();
/// The most bytes of a symbolic link's target.
const TARGET_MAX: u64 = 4095;

pub(super) type Block = [u8; BLOCK_SIZE];

/// The most blocks of a directory in which one name is looked for. A hash leads to one leaf, or
/// a few where names share it.
const LEAVES_MAX: u32 = 4096;

/// One layer.
#[derive(Debug)]
pub(super) struct Disk {
    volume: Volume,
    blocks: u32,
    inodes: u32,
    inodes_per_group: u32,
    descriptor_size: u64,
    hash_seed: [u32; 4],
}

/// The kind of an inode, as far as following a path needs it.
pub(super) enum Kind {
    Directory,
    /// A character device 0:0.
    Whiteout,
    Other,
}

pub(super) fn damaged(what: &str) -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        format!("a damaged layer: {what}"),
    )
}

impl Disk {
    /// Reads the superblock of a disk; `name` is for errors.
    pub(super) fn open(volume: Volume, name: &str) -> Result<Self> {
        let foreign = || {
            Error::unsupported(format!(
                "{name} does not hold a layer of the form that is written here"
            ))
        };
        if volume.virtual_size() < BLOCK_SIZE as u64 {
            return Err(foreign());
        }
        let mut superblock = Superblock::new_zeroed();
        volume.read_at(SUPERBLOCK_OFFSET as u64, superblock.as_mut_bytes())?;
        let incompatible = superblock.s_feature_incompat.get();
        let descriptor_size = match incompatible & INCOMPAT_64BIT {
            0 => DESCRIPTOR_SIZE as u64,
            _ => u64::from(superblock.s_desc_size.get()),
        };
        let known = superblock.s_magic.get() == SUPER_MAGIC
            && superblock.s_log_block_size.get() == BLOCK_SIZE.trailing_zeros() - 10
            && superblock.s_inode_size.get() == INODE_SIZE as u16
            && superblock.s_inodes_per_group.get() != 0
            && incompatible & INCOMPAT_EXTENTS != 0
            && incompatible & !INCOMPAT_KNOWN == 0
            && superblock.s_blocks_count_hi.get() == 0
            && (DESCRIPTOR_SIZE as u64..=BLOCK_SIZE as u64).contains(&descriptor_size);
        if !known {
            return Err(foreign());
        }
        Ok(Self {
            volume,
            blocks: superblock.s_blocks_count_lo.get(),
            inodes: superblock.s_inodes_count.get(),
            inodes_per_group: superblock.s_inodes_per_group.get(),
            descriptor_size,
            hash_seed: superblock.s_hash_seed.map(|word| word.get()),
        })
    }

    /// The number of blocks.
    pub(super) fn blocks(&self) -> u32 {
        self.blocks
    }

    fn read_at(&self, offset: u64, bytes: &mut [u8]) -> io::Result<()> {
        self.volume.read_at(offset, bytes).map_err(io::Error::other)
    }

    /// Reads blocks from a number on.
    pub(super) fn blocks_at(&self, number: u32, bytes: &mut [u8]) -> io::Result<()> {
        let count = bytes.len().div_ceil(BLOCK_SIZE) as u64;
        if number == 0 || u64::from(number) + count > u64::from(self.blocks) {
            return Err(damaged("a block number out of range"));
        }
        self.read_at(u64::from(number) * BLOCK_SIZE as u64, bytes)
    }

    pub(super) fn block(&self, number: u32) -> io::Result<Block> {
        let mut block = [0; BLOCK_SIZE];
        self.blocks_at(number, &mut block)?;
        Ok(block)
    }

    pub(super) fn inode(&self, ino: u32) -> io::Result<Inode> {
        if ino == 0 || ino > self.inodes {
            return Err(damaged("an inode number out of range"));
        }
        let group = (ino - 1) / self.inodes_per_group;
        let index = (ino - 1) % self.inodes_per_group;
        let mut descriptor = GroupDescriptor::new_zeroed();
        let offset = BLOCK_SIZE as u64 + u64::from(group) * self.descriptor_size;
        self.read_at(offset, descriptor.as_mut_bytes())?;
        let table = descriptor.bg_inode_table_lo.get();
        if table == 0 || table >= self.blocks {
            return Err(damaged("an inode table out of range"));
        }
        let mut inode = Inode::new_zeroed();
        let offset = u64::from(table) * BLOCK_SIZE as u64 + u64::from(index) * INODE_SIZE as u64;
        self.read_at(offset, inode.as_mut_bytes())?;
        Ok(inode)
    }

    pub(super) fn kind(&self, inode: &Inode) -> Kind {
        match inode.i_mode.get() & S_IFMT {
            S_IFDIR => Kind::Directory,
            S_IFCHR if inode.i_block[..8] == [0; 8] => Kind::Whiteout,
            _ => Kind::Other,
        }
    }

    fn target(&self, inode: &Inode) -> io::Result<Vec<u8>> {
        let len = size(inode);
        if len == 0 || len > TARGET_MAX {
            return Err(damaged("a symbolic link of impossible length"));
        }
        let len = len as usize;
        if inode.i_flags.get() & INODE_EXTENTS != 0 {
            let mut target = self.file_block(inode, 0)?.to_vec();
            target.truncate(len);
            return Ok(target);
        }
        if inode.i_flags.get() & INODE_INLINE_DATA != 0 {
            return Err(io::Error::new(
                io::ErrorKind::Unsupported,
                "a layer whose symbolic links are kept as inline data",
            ));
        }
        let target = inode.i_block.get(..len);
        Ok(target
            .ok_or_else(|| damaged("a symbolic link too long for its inode"))?
            .to_vec())
    }

    /// A block of a file's or a directory's contents; zeros where there is a hole.
    pub(super) fn file_block(&self, inode: &Inode, logical: u32) -> io::Result<Block> {
        match self.run(inode, logical)? {
            (Some(physical), _) => self.block(physical),
            (None, _) => Ok([0; BLOCK_SIZE]),
        }
    }

    /// Where a block of a file is, if it is no hole, and how many blocks from there on are one
    /// behind the other, or holes.
    pub(super) fn run(&self, inode: &Inode, logical: u32) -> io::Result<(Option<u32>, u32)> {
        if inode.i_flags.get() & INODE_EXTENTS == 0 {
            // A file of nothing but holes has no tree.
            return match inode.i_block.iter().all(|byte| *byte == 0) {
                true => Ok((None, (u32::MAX - logical).max(1))),
                false => Err(damaged("blocks that are not in extents")),
            };
        }
        let mut node = inode.i_block.to_vec();
        let mut above = MAX_DEPTH + 1;
        // Where what is known of the tree ends.
        let mut end = u32::MAX;
        loop {
            let (header, entries) = ExtentHeader::read_from_prefix(&node)
                .map_err(|_| damaged("an extent tree cut short"))?;
            let depth = header.eh_depth.get();
            if header.eh_magic.get() != EXTENT_MAGIC || depth >= above {
                return Err(damaged("an extent tree"));
            }
            above = depth;
            let count = usize::from(header.eh_entries.get());
            let entries = entries
                .get(..count * EXTENT_ENTRY_SIZE)
                .ok_or_else(|| damaged("an extent node with too many entries"))?
                .chunks_exact(EXTENT_ENTRY_SIZE);
            if depth == 0 {
                for leaf in entries.filter_map(|bytes| ExtentLeaf::read_from_bytes(bytes).ok()) {
                    let (first, len) = (leaf.ee_block.get(), u32::from(leaf.ee_len.get()));
                    if first > logical {
                        end = end.min(first);
                        continue;
                    }
                    let within = logical - first;
                    // A longer one is allocated but not written: it reads as zeros.
                    let written = len <= EXTENT_MAX_LEN;
                    let len = if written { len } else { len - EXTENT_MAX_LEN };
                    if within >= len {
                        continue;
                    }
                    let physical = leaf.ee_start_lo.get().checked_add(within);
                    let physical = physical.ok_or_else(|| damaged("an extent out of range"))?;
                    return Ok((written.then_some(physical), len - within));
                }
                return Ok((None, (end - logical).max(1)));
            }
            let mut child = None;
            for index in entries.filter_map(|bytes| ExtentIndex::read_from_bytes(bytes).ok()) {
                match index.ei_block.get() <= logical {
                    true => child = Some(index.ei_leaf_lo.get()),
                    false => {
                        end = end.min(index.ei_block.get());
                        break;
                    }
                }
            }
            match child {
                None => return Ok((None, (end - logical).max(1))),
                Some(child) => node = self.block(child)?.to_vec(),
            }
        }
    }

    /// The inode of a name in a directory.
    pub(super) fn find(&self, dir: &Inode, name: &[u8]) -> io::Result<Option<u32>> {
        if dir.i_flags.get() & INODE_INLINE_DATA != 0 {
            return Err(io::Error::new(
                io::ErrorKind::Unsupported,
                "a layer whose directories are kept as inline data",
            ));
        }
        if dir.i_flags.get() & INODE_INDEX != 0 {
            let root = self.file_block(dir, 0)?;
            let info = DxRootInfo::read_from_bytes(&root[DX_ROOT_INFO..DX_ROOT_OFFSET])
                .map_err(|_| damaged("a hash tree"))?;
            if info.hash_version != HASH_HALF_MD4 || info.indirect_levels > MAX_LEVELS {
                return Err(damaged("a hash tree of another kind"));
            }
            let (hash, _) = half_md4(&self.hash_seed, name);
            let node = (&root, DX_ROOT_OFFSET);
            let mut left = LEAVES_MAX;
            return self.find_hashed(dir, node, info.indirect_levels, (name, hash), &mut left);
        }
        let blocks = size(dir).div_ceil(BLOCK_SIZE as u64);
        let blocks = u32::try_from(blocks).map_err(|_| damaged("a directory's size"))?;
        if blocks > self.blocks {
            return Err(damaged("a directory larger than the disk"));
        }
        for logical in 0..blocks {
            if let Some(ino) = find_in_block(&self.file_block(dir, logical)?, name)? {
                return Ok(Some(ino));
            }
        }
        Ok(None)
    }

    /// Looks into every leaf that may hold names of this hash: more than one, if a leaf
    /// ended among them. The node is a block and where its entries start.
    fn find_hashed(
        &self,
        dir: &Inode,
        (block, offset): (&Block, usize),
        levels: u8,
        (name, hash): (&[u8], u32),
        left: &mut u32,
    ) -> io::Result<Option<u32>> {
        // In the place of the first hash stand the limit of entries and their count.
        let count = usize::from(u16::from_le_bytes([block[offset + 2], block[offset + 3]]));
        let entries: Vec<_> = block
            .get(offset..offset + count * DX_ENTRY_SIZE)
            .ok_or_else(|| damaged("a hash tree node with too many entries"))?
            .chunks_exact(DX_ENTRY_SIZE)
            .filter_map(|bytes| DxEntry::read_from_bytes(bytes).ok())
            .collect();
        for (i, entry) in entries.iter().enumerate() {
            let starts = if i == 0 { 0 } else { entry.hash.get() & !1 };
            // The lowest bit says that names of this very hash stand before it, too.
            let next = entries.get(i + 1).map(|next| next.hash.get());
            if starts > hash || next.is_some_and(|next| next <= hash) {
                continue;
            }
            *left = left
                .checked_sub(1)
                .ok_or_else(|| damaged("a hash tree that leads to too many blocks"))?;
            let child = self.file_block(dir, entry.block.get())?;
            let found = match levels.checked_sub(1) {
                Some(levels) => {
                    let node = (&child, DX_NODE_OFFSET);
                    self.find_hashed(dir, node, levels, (name, hash), left)?
                }
                None => find_in_block(&child, name)?,
            };
            if found.is_some() {
                return Ok(found);
            }
        }
        Ok(None)
    }
}

/// The kind of an inode.
pub(super) fn kind_of(disk: &Disk, inode: &Inode) -> io::Result<LowerKind> {
    let word = |at: usize| {
        let bytes = inode.i_block[at..].first_chunk();
        bytes.map_or(0, |bytes| u32::from_le_bytes(*bytes))
    };
    // The old form is of 8 bits each, where it reaches.
    let (major, minor) = match word(0) {
        0 => {
            let new = word(4);
            (new >> 8 & 0xfff, new & 0xff | new >> 12 & 0xf_ff00)
        }
        old => (old >> 8 & 0xff, old & 0xff),
    };
    Ok(match inode.i_mode.get() & S_IFMT {
        S_IFDIR => LowerKind::Directory,
        S_IFREG => LowerKind::File(size(inode)),
        S_IFLNK => LowerKind::Symlink(disk.target(inode)?),
        S_IFCHR => LowerKind::CharDevice { major, minor },
        S_IFBLK => LowerKind::BlockDevice { major, minor },
        S_IFIFO => LowerKind::Fifo,
        _ => LowerKind::Other,
    })
}

fn find_in_block(block: &Block, name: &[u8]) -> io::Result<Option<u32>> {
    let mut rest = &block[..];
    while !rest.is_empty() {
        let (entry, after) =
            DirEntry::read_from_prefix(rest).map_err(|_| damaged("a directory entry cut short"))?;
        let len = usize::from(entry.rec_len.get());
        if len < DIR_ENTRY_SIZE || len > rest.len() {
            return Err(damaged("a directory entry's length"));
        }
        let ino = entry.inode.get();
        if ino != 0 && after.get(..usize::from(entry.name_len)) == Some(name) {
            return Ok(Some(ino));
        }
        rest = &rest[len..];
    }
    Ok(None)
}

pub(super) fn size(inode: &Inode) -> u64 {
    u64::from(inode.i_size_high.get()) << 32 | u64::from(inode.i_size_lo.get())
}
