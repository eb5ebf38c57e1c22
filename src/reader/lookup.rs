//! Names looked up in directories.

use super::blocks::Blocks;
use super::damage::damaged_inode;
use super::directory::{DirBlocks, ReadDir, check_directory};
use super::hash_tree::{self, Node};
use super::inode::Inode;
use crate::error::{Error, Result};
use crate::ext4::hash::half_md4;

/// The most blocks of a directory in which one name is looked for. A hash leads to one leaf, or
/// a few where names share it.
const LEAVES_MAX: u32 = 4096;

/// The inode of a name in a directory, byte by byte, also where others do not mind the case.
/// `left` counts the blocks down that may still be read.
pub(super) fn lookup(
    blocks: &Blocks,
    dir: &Inode,
    name: &[u8],
    left: &mut u64,
) -> Result<Option<u32>> {
    check_directory(dir)?;
    if let Some(hash) = hash_of(blocks, dir, name)
        && let Some(found) = by_hash(blocks, dir, (name, hash), left)?
    {
        return Ok(found);
    }
    let mut entries = ReadDir::new(blocks, dir)?;
    let mut found = None;
    for entry in entries.by_ref() {
        let entry = entry?;
        if &*entry.name == name {
            found = Some(entry.ino);
            break;
        }
    }
    *left = left
        .checked_sub(entries.seen().len() as u64)
        .ok_or_else(|| too_many(dir))?;
    Ok(found)
}

fn too_many(dir: &Inode) -> Error {
    Error::limit(format!(
        "inode {}: the directories on the way are too large",
        dir.number()
    ))
}

/// The hash of a name, as far as it is known how the directory hashes it.
fn hash_of(blocks: &Blocks, dir: &Inode, name: &[u8]) -> Option<u32> {
    let geometry = &blocks.geometry;
    // Bytes that have no sign are the same with and without.
    let is_known = dir.has_hash_tree()
        && !dir.has_inline_data()
        && !dir.folds_case()
        && (!geometry.unsigned_hash || name.is_ascii());
    is_known.then(|| half_md4(&geometry.hash_seed, name).0)
}

/// Looks into every leaf that may hold names of this hash. `None` if the tree is of a kind that
/// is not known here.
fn by_hash(
    blocks: &Blocks,
    dir: &Inode,
    (name, hash): (&[u8], u32),
    left: &mut u64,
) -> Result<Option<Option<u32>>> {
    let wrong = |what: &str| damaged_inode(dir.number(), what);
    let mut blocks = DirBlocks::new(blocks, dir);
    let Ok(root) = blocks.read(0)? else {
        return Ok(None);
    };
    let Some(levels) = hash_tree::levels(&root.bytes) else {
        return Ok(None);
    };
    let no_node = || wrong("a node of the directory's hash tree is malformed");
    // Blocks yet to be looked into, the next one last, and the levels below them.
    let mut pending = Vec::new();
    let push = |pending: &mut Vec<_>, node: Node<'_>, levels: u8| {
        pending.extend(node.children(hash).rev().map(|child| (child, levels)));
    };
    push(
        &mut pending,
        Node::new(0, &root.bytes).ok_or_else(no_node)?,
        levels,
    );
    let mut leaves = LEAVES_MAX;
    while let Some((logical, levels)) = pending.pop() {
        leaves = leaves
            .checked_sub(1)
            .ok_or_else(|| wrong("the directory's hash tree leads to too many blocks"))?;
        *left = left.checked_sub(1).ok_or_else(|| too_many(dir))?;
        if logical == 0 || logical >= blocks.count() {
            return Err(wrong("the directory's hash tree leads out of it"));
        }
        let Ok(block) = blocks.read(logical)? else {
            return Err(wrong("the directory's hash tree leads to a hole"));
        };
        if let Some(below) = levels.checked_sub(1) {
            let node = Node::new(logical, &block.bytes).ok_or_else(no_node)?;
            push(&mut pending, node, below);
            continue;
        }
        let mut found = None;
        blocks.entries(&block, |ino, entry| {
            if entry == name {
                found.get_or_insert(ino);
            }
        })?;
        if found.is_some() {
            return Ok(Some(found));
        }
    }
    Ok(Some(None))
}
