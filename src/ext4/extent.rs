//! Extent trees, built bottom-up while the data goes by.
//!
//! Source: Linux, Documentation/filesystems/ext4, "Extent Tree".

use zerocopy::IntoBytes;

use super::checksum;
use super::format::{
    BLOCK_SIZE, EXTENT_ENTRY_SIZE, EXTENT_MAGIC, EXTENT_MAX_LEN, EXTENT_NODE_MAX, EXTENT_ROOT_MAX,
    ExtentHeader, ExtentIndex, ExtentLeaf, I_BLOCK_SIZE,
};

/// A run of blocks of a file that are adjacent on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Extent {
    /// The first block's number in the file.
    pub logical: u32,
    /// Blocks, at most [`EXTENT_MAX_LEN`].
    pub len: u32,
    /// The first block's number on disk.
    pub physical: u32,
}

impl Extent {
    fn entry(self) -> [u8; EXTENT_ENTRY_SIZE] {
        let leaf = ExtentLeaf {
            ee_block: self.logical.into(),
            ee_len: (self.len as u16).into(),
            ee_start_hi: 0.into(),
            ee_start_lo: self.physical.into(),
        };
        zerocopy::transmute!(leaf)
    }
}

type Entry = [u8; EXTENT_ENTRY_SIZE];

/// The tree of one file under construction.
///
/// Extents come in ascending order. A full node leaves at once through the caller, which
/// gives it a block, so that at most one node of each level is in memory.
#[derive(Default)]
pub(crate) struct ExtentTree {
    open: Option<Extent>,
    /// The unfinished node of each level, leaves first.
    levels: Vec<Vec<Entry>>,
    /// The seed and the inode that checksums of nodes start from, if they have any.
    checksums: Option<(u32, u32)>,
}

/// The final i_block.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum ExtentRoot {
    /// No blocks at all.
    Empty,
    /// One extent, by far the most frequent.
    One(Extent),
    /// The root node.
    Node(Box<[u8; I_BLOCK_SIZE]>),
}

impl ExtentRoot {
    /// The root node as i_block holds it.
    pub(crate) fn i_block(&self) -> [u8; I_BLOCK_SIZE] {
        match self {
            Self::Empty => root_node(0, &[]),
            Self::One(extent) => root_node(0, &[extent.entry()]),
            Self::Node(node) => **node,
        }
    }
}

impl ExtentTree {
    /// A tree of an inode with this number, in a file system with this seed.
    pub(crate) fn new(seed: u32, ino: u32) -> Self {
        Self {
            checksums: Some((seed, ino)),
            ..Self::default()
        }
    }

    /// A tree without checksums.
    pub(crate) fn unchecked() -> Self {
        Self::default()
    }

    /// Appends blocks; `node` writes a finished node and answers with its block.
    pub(crate) fn push<E>(
        &mut self,
        mut logical: u32,
        mut len: u32,
        mut physical: u32,
        node: &mut impl FnMut(&[u8; BLOCK_SIZE]) -> Result<u32, E>,
    ) -> Result<(), E> {
        while len > 0 {
            if let Some(open) = &mut self.open
                && open.len < EXTENT_MAX_LEN
                && open.logical + open.len == logical
                && open.physical + open.len == physical
            {
                let take = len.min(EXTENT_MAX_LEN - open.len);
                open.len += take;
                (logical, len, physical) = (
                    logical.wrapping_add(take),
                    len - take,
                    physical.wrapping_add(take),
                );
            } else if let Some(full) = self.open.replace(Extent {
                logical,
                len: 0,
                physical,
            }) {
                self.append(0, full.entry(), node)?;
            }
        }
        Ok(())
    }

    /// Puts an entry into the node of a level, which first leaves if it is full.
    fn append<E>(
        &mut self,
        level: usize,
        entry: Entry,
        node: &mut impl FnMut(&[u8; BLOCK_SIZE]) -> Result<u32, E>,
    ) -> Result<(), E> {
        if self.levels.len() == level {
            self.levels.push(Vec::new());
        }
        if self.levels[level].len() == EXTENT_NODE_MAX {
            self.flush(level, node)?;
        }
        self.levels[level].push(entry);
        Ok(())
    }

    /// Writes the node of a level and enters it into the level above.
    fn flush<E>(
        &mut self,
        level: usize,
        node: &mut impl FnMut(&[u8; BLOCK_SIZE]) -> Result<u32, E>,
    ) -> Result<(), E> {
        let entries = std::mem::take(&mut self.levels[level]);
        let Some(first) = entries.first() else {
            return Ok(());
        };
        let [a, b, c, d, ..] = *first;
        let mut block = [0; BLOCK_SIZE];
        fill_node(
            &mut block[..BLOCK_SIZE - 4],
            level,
            EXTENT_NODE_MAX,
            &entries,
        );
        if let Some((seed, ino)) = self.checksums {
            let seed = checksum::inode_seed(seed, ino);
            let checksum = checksum::crc32c(seed, &block[..BLOCK_SIZE - 4]);
            block[BLOCK_SIZE - 4..].copy_from_slice(&checksum.to_le_bytes());
        }
        let index = ExtentIndex {
            ei_block: u32::from_le_bytes([a, b, c, d]).into(),
            ei_leaf_lo: node(&block)?.into(),
            ei_leaf_hi: 0.into(),
            ei_unused: 0.into(),
        };
        self.append(level + 1, zerocopy::transmute!(index), node)
    }

    /// Closes the tree.
    pub(crate) fn finish<E>(
        mut self,
        mut node: impl FnMut(&[u8; BLOCK_SIZE]) -> Result<u32, E>,
    ) -> Result<ExtentRoot, E> {
        let Some(last) = self.open.take() else {
            return Ok(ExtentRoot::Empty);
        };
        if self.levels.is_empty() {
            return Ok(ExtentRoot::One(last));
        }
        self.append(0, last.entry(), &mut node)?;
        let mut level = 0;
        while level + 1 < self.levels.len() || self.levels[level].len() > EXTENT_ROOT_MAX {
            self.flush(level, &mut node)?;
            level += 1;
        }
        Ok(ExtentRoot::Node(Box::new(root_node(
            level,
            &self.levels[level],
        ))))
    }
}

fn root_node(depth: usize, entries: &[Entry]) -> [u8; I_BLOCK_SIZE] {
    let mut node = [0; I_BLOCK_SIZE];
    fill_node(&mut node, depth, EXTENT_ROOT_MAX, entries);
    node
}

fn fill_node(node: &mut [u8], depth: usize, max: usize, entries: &[Entry]) {
    let header = ExtentHeader {
        eh_magic: EXTENT_MAGIC.into(),
        eh_entries: (entries.len() as u16).into(),
        eh_max: (max as u16).into(),
        eh_depth: (depth as u16).into(),
        eh_generation: 0.into(),
    };
    let (head, body) = node.split_at_mut(EXTENT_ENTRY_SIZE);
    head.copy_from_slice(header.as_bytes());
    for (slot, entry) in body.chunks_exact_mut(EXTENT_ENTRY_SIZE).zip(entries) {
        slot.copy_from_slice(entry);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::convert::Infallible;

    /// Builds a tree of single-block extents two blocks apart; returns root and nodes.
    fn build(extents: u32) -> (ExtentRoot, Vec<[u8; BLOCK_SIZE]>) {
        let mut nodes = Vec::new();
        let mut sink = |node: &[u8; BLOCK_SIZE]| {
            nodes.push(*node);
            Ok::<_, Infallible>(1_000_000 + nodes.len() as u32 - 1)
        };
        let mut tree = ExtentTree::new(1, 12);
        for i in 0..extents {
            let Ok(()) = tree.push(2 * i, 1, 100 + i, &mut sink);
        }
        let Ok(root) = tree.finish(&mut sink);
        (root, nodes)
    }

    /// Reads the extents back by walking from the root.
    fn walk(node: &[u8], nodes: &[[u8; BLOCK_SIZE]], out: &mut Vec<(u32, u16, u32)>) {
        let u16_at = |at: usize| u16::from_le_bytes([node[at], node[at + 1]]);
        let u32_at = |at: usize| u32::from_le_bytes(node[at..at + 4].try_into().unwrap());
        assert_eq!(u16_at(0), EXTENT_MAGIC);
        for i in 0..usize::from(u16_at(2)) {
            let at = 12 + 12 * i;
            if u16_at(6) == 0 {
                out.push((u32_at(at), u16_at(at + 4), u32_at(at + 8)));
            } else {
                let child = &nodes[u32_at(at + 4) as usize - 1_000_000];
                assert_eq!(
                    u32_at(at),
                    u32::from_le_bytes(child[12..16].try_into().unwrap())
                );
                assert_eq!(
                    u16::from_le_bytes([child[6], child[7]]),
                    u16_at(6) - 1,
                    "a child is one level lower"
                );
                walk(child, nodes, out);
            }
        }
    }

    #[test]
    fn every_depth_holds_every_extent_in_order() {
        let node = EXTENT_NODE_MAX as u32;
        for n in [
            0,
            1,
            2,
            4,
            5,
            node,
            node + 1,
            4 * node,
            4 * node + 1,
            node * node + 1,
        ] {
            let (root, nodes) = build(n);
            let mut got = Vec::new();
            walk(&root.i_block(), &nodes, &mut got);
            assert_eq!(got.len(), n as usize);
            for (i, extent) in got.into_iter().enumerate() {
                assert_eq!(extent, (2 * i as u32, 1, 100 + i as u32));
            }
        }
    }

    #[test]
    fn adjacent_blocks_share_an_extent_up_to_its_limit() {
        let mut tree = ExtentTree::new(1, 12);
        let mut none = |_: &[u8; BLOCK_SIZE]| Err::<u32, ()>(());
        tree.push(0, 10, 50, &mut none).unwrap();
        tree.push(10, EXTENT_MAX_LEN, 60, &mut none).unwrap();
        let root = tree.finish(none).unwrap();
        let mut got = Vec::new();
        walk(&root.i_block(), &[], &mut got);
        assert_eq!(got, [(0, 32768, 50), (32768, 10, 50 + 32768)]);
    }
}
