//! The journal of a file system to be written to: its inode and its superblock, and nothing
//! in it yet.
//!
//! Source: Linux, Documentation/filesystems/ext4, "Journal (jbd2)"; the sizes are those of
//! e2fsprogs, ext2fs_default_journal_size.

use zerocopy::{FromZeros, IntoBytes};

use super::extent::{ExtentRoot, ExtentTree};
use super::format::{
    BLOCK_SIZE, JOURNAL_INO, JOURNAL_MAGIC, JOURNAL_SUPERBLOCK, JournalSuperblock,
};
use super::inode::{Attributes, Body, Node};
use super::writer::{Area, BlockSink};
use crate::error::Result;

/// Blocks of the journal that mke2fs gives a file system of so many; none if there are too
/// few for one.
pub(super) fn blocks(file_system: u64) -> Option<u32> {
    /// For a file system of fewer blocks than the first, a journal of the second.
    const SIZES: [(u64, u32); 7] = [
        (0x8000, 1_024),
        (0x4_0000, 4_096),
        (0x8_0000, 8_192),
        (0x40_0000, 16_384),
        (0x80_0000, 32_768),
        (0x100_0000, 65_536),
        (0x200_0000, 131_072),
    ];
    let larger = SIZES.into_iter().find(|(end, _)| file_system < *end);
    (file_system >= 2_048).then(|| larger.map_or(262_144, |(_, journal)| journal))
}

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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_those_of_mke2fs() {
        // What `mkfs.ext4 -b 4096` of e2fsprogs 1.47 makes of these sizes, in MiB.
        for (file_system, journal) in [
            (64, Some(4)),
            (127, Some(4)),
            (128, Some(16)),
            (1 << 10, Some(32)),
            (2 << 10, Some(64)),
            (20 << 10, Some(128)),
            (32 << 10, Some(256)),
            (64 << 10, Some(512)),
            (128 << 10, Some(1 << 10)),
            (2 << 20, Some(1 << 10)),
            (7, None),
        ] {
            let blocks = blocks(file_system << 8);
            assert_eq!(
                blocks.map(|blocks| blocks >> 8),
                journal,
                "{file_system} MiB"
            );
        }
    }
}
