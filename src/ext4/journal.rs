//! The journal of a file system to be written to: its inode and its superblock, and nothing
//! in it yet.
//!
//! Source: Linux, Documentation/filesystems/ext4, "Journal (jbd2)"; the sizes are those of
//! e2fsprogs, ext2fs_default_journal_size.

use zerocopy::{FromZeros, IntoBytes};

use super::area::{Area, BlockSink};
use super::extent::{ExtentRoot, ExtentTree};
use super::format::{
    BLOCK_SIZE, JOURNAL_INO, JOURNAL_MAGIC, JOURNAL_SUPERBLOCK, JournalSuperblock,
};
use super::inode::{Attributes, Body, Node};
use crate::error::Result;

/// Takes the blocks of a journal and writes its superblock; answers its inode.
pub(super) fn write<S: BlockSink>(
    area: &mut Area<S>,
    blocks: u32,
    seed: u32,
    uuid: [u8; 16],
) -> Result<Node> {
    let mut extents = ExtentTree::new(seed, JOURNAL_INO);
    let (start, before) = (area.next, area.taken);
    let mut logical = 0;
    while logical < blocks {
        let len = area.adjacent(blocks - logical);
        let physical = area.reserve(len.into())?;
        extents.push(logical, len, physical, &mut |node| area.append(node))?;
        logical += len;
    }
    area.sink.write(start.into(), &superblock(blocks, uuid))?;
    let root = extents.finish(|node| area.append(node))?;
    let attributes = Attributes {
        mode: 0o600,
        ..Attributes::default()
    };
    let mut node = Node::new(attributes, Body::Blocks { root, start });
    node.links = 1;
    node.size = u64::from(blocks) * BLOCK_SIZE as u64;
    node.blocks = area.taken - before;
    Ok(node)
}

/// s_jnl_blocks: what of the inode a check needs, should the inode be lost.
pub(super) fn backup(node: &Node) -> [u32; 17] {
    let mut words = [0; 17];
    if let Body::Blocks { root, .. } = &node.body {
        let i_block = ExtentRoot::i_block(root);
        for (word, bytes) in words.iter_mut().zip(i_block.chunks_exact(4)) {
            *word = bytes
                .iter()
                .rfold(0, |word, byte| word << 8 | u32::from(*byte));
        }
    }
    words[15] = (node.size >> 32) as u32;
    words[16] = node.size as u32;
    words
}

/// The first block of a journal without transactions.
fn superblock(blocks: u32, uuid: [u8; 16]) -> [u8; BLOCK_SIZE] {
    let mut superblock = JournalSuperblock::new_zeroed();
    superblock.h_magic = JOURNAL_MAGIC.into();
    superblock.h_blocktype = JOURNAL_SUPERBLOCK.into();
    superblock.s_blocksize = (BLOCK_SIZE as u32).into();
    superblock.s_maxlen = blocks.into();
    superblock.s_first = 1.into();
    superblock.s_sequence = 1.into();
    superblock.s_uuid = uuid;
    superblock.s_nr_users = 1.into();
    let mut block = [0; BLOCK_SIZE];
    block[..size_of::<JournalSuperblock>()].copy_from_slice(superblock.as_bytes());
    block
}
