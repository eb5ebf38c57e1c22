//! From the blocks of a file to those of the disk.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use super::blocks::Blocks;
use super::damage::damaged_inode;
use super::inode::Inode;
use super::leaf::{Leaf, Run};
use super::{extents, indirect};
use crate::error::Result;

/// Where the blocks of a file are. Each leaf of the map is read once, as long as blocks are asked
/// for in order.
pub(super) struct BlockMap<'a> {
    blocks: &'a Blocks,
    inode: Inode,
    leaf: Leaf,
    /// The nodes that were read, and the logical block that each starts with. No node stands for
    /// two parts of a file: without that rule a few blocks could tell of a map without end.
    nodes: HashMap<u64, u64>,
}

impl<'a> BlockMap<'a> {
    pub(super) fn new(blocks: &'a Blocks, inode: Inode) -> Self {
        Self {
            blocks,
            inode,
            leaf: Leaf::default(),
            nodes: HashMap::new(),
        }
    }

    /// The blocks from a logical one on.
    pub(super) fn run(&mut self, logical: u64) -> Result<Run> {
        if !self.leaf.range.contains(&logical) {
            let (blocks, inode) = (self.blocks, &self.inode);
            let mut node = |number: u64, start: u64| {
                let wrong = |what: &str| {
                    damaged_inode(
                        inode.number(),
                        format!("the node of its block map in block {number} {what}"),
                    )
                };
                if !blocks.contains(number, 1) {
                    return Err(wrong("is out of the file system"));
                }
                match self.nodes.entry(number) {
                    Entry::Occupied(known) if *known.get() != start => {
                        return Err(wrong("is there twice"));
                    }
                    Entry::Occupied(_) => {}
                    Entry::Vacant(new) => {
                        new.insert(start);
                    }
                }
                blocks.block(number)
            };
            self.leaf = match inode.has_extents() {
                true => extents::leaf(blocks, inode, logical, &mut node)?,
                false => indirect::leaf(blocks, inode, logical, &mut node)?,
            };
        }
        Ok(self.leaf.run(logical))
    }
}
