//! The block maps of ext2: direct and indirect blocks.
//!
//! Source: Linux, Documentation/filesystems/ext4, "Direct/Indirect Block Addressing".

use super::blocks::Blocks;
use super::damage::damaged_inode;
use super::inode::Inode;
use super::leaf::{Leaf, Mapped};
use crate::error::Result;

/// Blocks that i_block names itself, before those of indirect blocks.
const DIRECT: usize = 12;
/// Bytes of a block's number.
const POINTER: usize = 4;

/// The block numbers that have a logical block, or the hole that has it. `read` reads an
/// indirect block by its number and the logical block it starts with.
pub(super) fn leaf(
    blocks: &Blocks,
    inode: &Inode,
    logical: u64,
    read: &mut impl FnMut(u64, u64) -> Result<Vec<u8>>,
) -> Result<Leaf> {
    let (direct, indirect) = inode.i_block().split_at(DIRECT * POINTER);
    if logical < DIRECT as u64 {
        return of_pointers(blocks, inode, 0, direct);
    }
    let per_block = (blocks.size() / POINTER) as u64;
    let mut start = DIRECT as u64;
    // The blocks below each pointer of the node that is looked at.
    let mut span = 1;
    for root in indirect.chunks_exact(POINTER) {
        span *= per_block;
        if logical - start >= span {
            start += span;
            continue;
        }
        let mut pointer = number(root);
        loop {
            if pointer == 0 {
                return Ok(Leaf {
                    range: start..start + span,
                    mapped: Vec::new(),
                });
            }
            let node = read(pointer, start)?;
            span /= per_block;
            if span == 1 {
                return of_pointers(blocks, inode, start, &node);
            }
            let index = (logical - start) / span;
            start += index * span;
            let at = index as usize * POINTER;
            pointer = node.get(at..).map_or(0, number);
        }
    }
    // A file of nothing but holes may be larger than its map can tell.
    Ok(Leaf {
        range: start..u64::MAX,
        mapped: Vec::new(),
    })
}

fn number(bytes: &[u8]) -> u64 {
    let bytes = bytes.first_chunk();
    bytes.map_or(0, |bytes| u32::from_le_bytes(*bytes).into())
}

fn of_pointers(blocks: &Blocks, inode: &Inode, start: u64, pointers: &[u8]) -> Result<Leaf> {
    let mut mapped: Vec<Mapped> = Vec::new();
    let mut end = start;
    for pointer in pointers.chunks_exact(POINTER) {
        let (logical, physical) = (end, number(pointer));
        end += 1;
        if physical == 0 {
            continue;
        }
        if !blocks.contains(physical, 1) {
            return Err(damaged_inode(
                inode.number(),
                format!("its block {physical} is out of the file system"),
            ));
        }
        match mapped.last_mut() {
            Some(last)
                if last.logical + last.len == logical && last.physical + last.len == physical =>
            {
                last.len += 1;
            }
            _ => mapped.push(Mapped {
                logical,
                len: 1,
                physical,
            }),
        }
    }
    Ok(Leaf {
        range: start..end,
        mapped,
    })
}
