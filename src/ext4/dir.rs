//! Directory blocks: one linear block, or a hash tree over leaves filled in hash order.
//!
//! Source: Linux, Documentation/filesystems/ext4, "Directory Entries".

use zerocopy::IntoBytes;

use super::checksum;
use super::format::{
    BLOCK_SIZE, DIR_ENTRY_SIZE, DIR_TAIL_SIZE, DIR_TAIL_TYPE, DX_ENTRY_SIZE, DX_NODE_LIMIT,
    DX_NODE_OFFSET, DX_ROOT_LIMIT, DX_ROOT_OFFSET, DirEntry, DirEntryTail, DxEntry, DxRootInfo,
    HASH_HALF_MD4,
};

/// A name of a directory.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Entry<'a> {
    /// Its hash, major and minor; of no meaning while the directory is linear.
    pub hash: (u32, u32),
    pub ino: u32,
    /// "Directory Entries", file_type.
    pub file_type: u8,
    pub name: &'a [u8],
}

/// file_type of a directory.
pub(crate) const FT_DIR: u8 = 2;

/// Bytes of an entry with a name of this length.
pub(crate) fn entry_size(name_len: usize) -> usize {
    (DIR_ENTRY_SIZE + name_len).next_multiple_of(4)
}

/// Room for entries in a block.
const ROOM: usize = BLOCK_SIZE - DIR_TAIL_SIZE;
/// Bytes of `.` and `..`.
const DOTS_SIZE: usize = 2 * 12;
/// Room of a linear directory beside them.
const LINEAR_ROOM: usize = ROOM - DOTS_SIZE;

/// Whether names of this total entry size fit a directory of one block.
pub(crate) fn is_linear(entries_size: usize) -> bool {
    entries_size <= LINEAR_ROOM
}

/// The first entry of each leaf, those that were begun included, the last with so much room.
fn leaves(entries: &[Entry<'_>], mut room: usize, mut begun: Vec<u32>) -> Vec<u32> {
    for (i, entry) in entries.iter().enumerate() {
        let size = entry_size(entry.name.len());
        if size > room {
            begun.push(i as u32);
            room = ROOM;
        }
        room -= size;
    }
    begun
}

/// The names of one directory. Most hold few, and those on a long path one: to ask for memory
/// for each would take longer than to write them.
enum Entries<'a> {
    One([Entry<'a>; 1]),
    Many(Vec<Entry<'a>>),
}

impl<'a> std::ops::Deref for Entries<'a> {
    type Target = [Entry<'a>];

    fn deref(&self) -> &Self::Target {
        match self {
            Self::One(entry) => entry,
            Self::Many(entries) => entries,
        }
    }
}

/// The blocks of one directory, each of which can be made on its own.
pub(crate) struct Directory<'a> {
    ino: u32,
    parent: u32,
    seed: u32,
    entries: Entries<'a>,
    /// First entry of each leaf; empty for a linear directory.
    leaves: Vec<u32>,
    /// Nodes of each tier of the hash tree, the root's first.
    tiers: Vec<usize>,
    /// A list over as many blocks as it takes, without checksums.
    plain: bool,
}

impl<'a> Directory<'a> {
    /// A directory of one name, which fits a block.
    pub(crate) fn of_one(ino: u32, parent: u32, seed: u32, entry: Entry<'a>) -> Self {
        Self::list(ino, parent, seed, Entries::One([entry]))
    }

    /// A directory in one block; the entries keep their order.
    pub(crate) fn linear(ino: u32, parent: u32, seed: u32, entries: Vec<Entry<'a>>) -> Self {
        Self::list(ino, parent, seed, Entries::Many(entries))
    }

    fn list(ino: u32, parent: u32, seed: u32, entries: Entries<'a>) -> Self {
        Self {
            ino,
            parent,
            seed,
            entries,
            leaves: Vec::new(),
            tiers: Vec::new(),
            plain: false,
        }
    }

    /// A list in the order of the entries over as many blocks as it takes, the end of each an
    /// unused record, as hcsshim has it.
    pub(crate) fn plain(ino: u32, parent: u32, entries: Vec<Entry<'a>>) -> Self {
        let leaves = leaves(&entries, ROOM - DOTS_SIZE, vec![0]);
        Self {
            ino,
            parent,
            seed: 0,
            entries: Entries::Many(entries),
            leaves,
            tiers: Vec::new(),
            plain: true,
        }
    }

    /// A directory with a hash tree; the entries are sorted by hash, then name.
    pub(crate) fn indexed(ino: u32, parent: u32, seed: u32, entries: Vec<Entry<'a>>) -> Self {
        let leaves = leaves(&entries, 0, Vec::new());
        let mut tiers = Vec::new();
        let mut children = leaves.len();
        while children > DX_ROOT_LIMIT {
            children = children.div_ceil(DX_NODE_LIMIT);
            tiers.insert(0, children);
        }
        tiers.insert(0, 1);
        Self {
            ino,
            parent,
            seed,
            entries: Entries::Many(entries),
            leaves,
            tiers,
            plain: false,
        }
    }

    /// Whether there is a hash tree.
    pub(crate) fn is_indexed(&self) -> bool {
        !self.tiers.is_empty()
    }

    /// Tiers of the hash tree below the root: two need large_dir, three cannot be.
    pub(crate) fn indirect_levels(&self) -> usize {
        self.tiers.len().saturating_sub(1)
    }

    /// Blocks of the directory.
    pub(crate) fn blocks(&self) -> u64 {
        if self.is_indexed() || self.plain {
            self.tiers.iter().map(|n| *n as u64).sum::<u64>() + self.leaves.len() as u64
        } else {
            1
        }
    }

    /// Makes a block; `block` is zero before.
    pub(crate) fn fill(&self, number: usize, block: &mut [u8]) {
        if self.plain {
            self.fill_plain(number, block);
            return;
        }
        if !self.is_indexed() {
            let at = self.dots(block, 12);
            self.fill_entries(&self.entries, block, at, 12);
            return;
        }
        let mut first = 0;
        for (tier, count) in self.tiers.iter().enumerate() {
            if number < first + count {
                self.fill_node(tier, number - first, first + count, block);
                return;
            }
            first += count;
        }
        self.fill_entries(self.leaf(number - first), block, 0, 0);
    }

    /// Zeros the blocks that [`fill`](Self::fill) made.
    pub(crate) fn clear(&self, blocks: &mut [u8]) {
        if self.is_indexed() || self.plain {
            blocks.fill(0);
            return;
        }
        let used = self
            .entries
            .iter()
            .map(|entry| entry_size(entry.name.len()));
        blocks[..DOTS_SIZE + used.sum::<usize>()].fill(0);
        blocks[ROOM..BLOCK_SIZE].fill(0);
    }

    /// The entries of a leaf.
    fn leaf(&self, leaf: usize) -> &[Entry<'a>] {
        let end = self.leaves.get(leaf + 1);
        let end = end.map_or(self.entries.len(), |end| *end as usize);
        &self.entries[self.leaves[leaf] as usize..end]
    }

    fn fill_plain(&self, number: usize, block: &mut [u8]) {
        let mut at = match number {
            0 => self.dots(block, 12),
            _ => 0,
        };
        for entry in self.leaf(number) {
            let size = entry_size(entry.name.len());
            put_entry(block, at, entry.ino, size, entry.file_type, entry.name);
            at += size;
        }
        put_entry(block, at, 0, BLOCK_SIZE - at, 0, b"");
    }

    /// Writes `.` and `..`, whose record takes `dotdot_len` bytes; returns their end.
    fn dots(&self, block: &mut [u8], dotdot_len: usize) -> usize {
        put_entry(block, 0, self.ino, 12, FT_DIR, b".");
        put_entry(block, 12, self.parent, dotdot_len, FT_DIR, b"..");
        24
    }

    /// Writes entries from `at`, where the last record before it starts `last_len` bytes
    /// earlier; the last record takes what remains.
    fn fill_entries(&self, entries: &[Entry<'_>], block: &mut [u8], at: usize, last_len: usize) {
        let mut last = at - last_len;
        let mut at = at;
        for entry in entries {
            let size = entry_size(entry.name.len());
            put_entry(block, at, entry.ino, size, entry.file_type, entry.name);
            last = at;
            at += size;
        }
        let rest = (ROOM - last) as u16;
        block[last + 4..last + 6].copy_from_slice(&rest.to_le_bytes());
        // The rest of the block is zero. Some of it is summed with the entries, since summing eight
        // bytes at a time is faster than four.
        let used = at.next_multiple_of(8).min(ROOM);
        let zeros = (ROOM - used) / 4;
        let sum = checksum::crc32c_before_zeros(self.seed, &block[..used], zeros);
        let tail = DirEntryTail {
            det_reserved_zero1: 0.into(),
            det_rec_len: (DIR_TAIL_SIZE as u16).into(),
            det_reserved_zero2: 0,
            det_reserved_ft: DIR_TAIL_TYPE,
            det_checksum: sum.into(),
        };
        block[ROOM..].copy_from_slice(tail.as_bytes());
    }

    /// Writes a node of the hash tree; the tier below starts at block `below`.
    fn fill_node(&self, tier: usize, node: usize, below: usize, block: &mut [u8]) {
        let (offset, limit) = if tier == 0 {
            self.dots(block, BLOCK_SIZE - 12);
            let info = DxRootInfo {
                reserved_zero: 0.into(),
                hash_version: HASH_HALF_MD4,
                info_length: size_of::<DxRootInfo>() as u8,
                indirect_levels: self.indirect_levels() as u8,
                unused_flags: 0,
            };
            block[24..DX_ROOT_OFFSET].copy_from_slice(info.as_bytes());
            (DX_ROOT_OFFSET, DX_ROOT_LIMIT)
        } else {
            put_entry(block, 0, 0, BLOCK_SIZE, 0, b"");
            (DX_NODE_OFFSET, DX_NODE_LIMIT)
        };
        // Leaves below one child of this tier.
        let span = DX_NODE_LIMIT.pow((self.tiers.len() - 1 - tier) as u32);
        let children = self
            .tiers
            .get(tier + 1)
            .copied()
            .unwrap_or(self.leaves.len());
        let first = node * limit;
        let count = (children - first).min(limit);
        for i in 0..count {
            let child = DxEntry {
                hash: self.leaf_hash((first + i) * span).into(),
                block: ((below + first + i) as u32).into(),
            };
            let at = offset + i * DX_ENTRY_SIZE;
            block[at..at + DX_ENTRY_SIZE].copy_from_slice(child.as_bytes());
        }
        // The first entry's hash is implied; limit and count take its place.
        block[offset..offset + 2].copy_from_slice(&(limit as u16).to_le_bytes());
        block[offset + 2..offset + 4].copy_from_slice(&(count as u16).to_le_bytes());
        // dx_tail: a reserved word and the checksum, which covers both as zero.
        let used = checksum::crc32c(self.seed, &block[..offset + count * DX_ENTRY_SIZE]);
        let sum = checksum::crc32c(used, &[0; 8]);
        let tail = offset + limit * DX_ENTRY_SIZE;
        block[tail + 4..tail + 8].copy_from_slice(&sum.to_le_bytes());
    }

    /// The lowest hash of a leaf; its lowest bit says that names of that hash stand in the
    /// leaf before as well.
    fn leaf_hash(&self, leaf: usize) -> u32 {
        let start = self.leaves[leaf] as usize;
        let hash = self.entries[start].hash.0;
        let before = start.checked_sub(1).map(|i| self.entries[i].hash.0);
        hash | u32::from(before == Some(hash))
    }
}

fn put_entry(block: &mut [u8], at: usize, ino: u32, size: usize, file_type: u8, name: &[u8]) {
    let entry = DirEntry {
        inode: ino.into(),
        rec_len: (size as u16).into(),
        name_len: name.len() as u8,
        file_type,
    };
    let name_at = at + DIR_ENTRY_SIZE;
    block[at..name_at].copy_from_slice(entry.as_bytes());
    block[name_at..name_at + name.len()].copy_from_slice(name);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(hash: u32, name: &[u8]) -> Entry<'_> {
        Entry {
            hash: (hash, 0),
            ino: 12,
            file_type: 1,
            name,
        }
    }

    #[test]
    fn tiers_grow_as_nodes_fill() {
        // Fifteen names of 255 bytes fill a leaf.
        let name = [b'x'; 255];
        let per_leaf = ROOM / entry_size(255);
        for (leaves, tiers) in [
            (2, 0),
            (DX_ROOT_LIMIT, 0),
            (DX_ROOT_LIMIT + 1, 1),
            (DX_ROOT_LIMIT * DX_NODE_LIMIT, 1),
            (DX_ROOT_LIMIT * DX_NODE_LIMIT + 1, 2),
        ] {
            let entries = (0..leaves * per_leaf)
                .map(|i| entry(2 * i as u32, &name))
                .collect();
            let dir = Directory::indexed(2, 2, 0, entries);
            assert_eq!((dir.leaves.len(), dir.indirect_levels()), (leaves, tiers));
        }
    }

    #[test]
    fn a_hash_that_spans_leaves_is_marked_continued() {
        let names: Vec<_> = (0..40).map(|i| [i; 255]).collect();
        let entries = names.iter().map(|name| entry(8, name)).collect();
        let dir = Directory::indexed(2, 2, 0, entries);
        assert_eq!(dir.leaves, [0, 15, 30]);
        assert_eq!([0, 1, 2].map(|leaf| dir.leaf_hash(leaf)), [8, 9, 9]);
    }

    #[test]
    fn records_cover_every_block() {
        let names: Vec<_> = (0..500u32)
            .map(|i| format!("name-{i}").into_bytes())
            .collect();
        let mut entries: Vec<_> = names.iter().map(|name| entry(0, name)).collect();
        for (i, entry) in entries.iter_mut().enumerate() {
            entry.hash.0 = 2 * i as u32;
        }
        let small = entries[..3].to_vec();
        for dir in [
            Directory::indexed(2, 2, 0, entries),
            Directory::linear(2, 2, 0, small),
        ] {
            for number in 0..dir.blocks() as usize {
                let mut block = vec![0; BLOCK_SIZE];
                dir.fill(number, &mut block);
                let mut at = 0;
                while at < BLOCK_SIZE {
                    let len = u16::from_le_bytes([block[at + 4], block[at + 5]]);
                    assert!(
                        len >= 12 && len.is_multiple_of(4),
                        "record of {len} bytes at {at}"
                    );
                    at += usize::from(len);
                }
                assert_eq!(at, BLOCK_SIZE);
            }
        }
    }
}
