//! Directories, read from their start to their end.
//!
//! Source: Linux, Documentation/filesystems/ext4, "Directory Entries".

use std::collections::{HashSet, VecDeque};

use zerocopy::FromBytes;

use super::attribute_list::inline_data;
use super::block_map::BlockMap;
use super::blocks::Blocks;
use super::damage::damaged_inode;
use super::hash_tree;
use super::inode::{FileType, Inode};
use crate::error::{Error, Result};
use crate::ext4::checksum::crc32c;
use crate::ext4::format::{
    DIR_ENTRY_SIZE, DIR_TAIL_SIZE, DIR_TAIL_TYPE, DirEntry as Fields, DirEntryTail,
};

/// Where the entries of a directory in its inode start, after the parent's number.
const INLINE_START: usize = 4;

/// A name in a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct DirEntry {
    pub ino: u32,
    /// Neither `.` nor `..`, without slashes and zero bytes.
    pub name: Box<[u8]>,
}

/// The blocks of a directory.
pub(super) struct DirBlocks<'a> {
    blocks: &'a Blocks,
    inode: Inode,
    map: BlockMap<'a>,
}

impl<'a> DirBlocks<'a> {
    pub(super) fn new(blocks: &'a Blocks, inode: &Inode) -> Self {
        Self {
            blocks,
            inode: inode.clone(),
            map: BlockMap::new(blocks, inode.clone()),
        }
    }

    /// The number of blocks that it is said to have, holes included.
    pub(super) fn count(&self) -> u64 {
        self.inode.size().div_ceil(self.blocks.size() as u64)
    }

    fn wrong(&self, place: u64, what: &str) -> Error {
        damaged_inode(self.inode.number(), what).at_offset(place)
    }

    /// A block whose checksum holds, and where it is on the disk; or the number of blocks from
    /// there on that are holes.
    pub(super) fn read(&mut self, logical: u64) -> Result<std::result::Result<DirBlock, u64>> {
        let run = self.map.run(logical)?;
        let Some(physical) = run.physical else {
            return Ok(Err(run.len));
        };
        let mut block = DirBlock {
            bytes: self.blocks.block(physical)?,
            number: physical,
            place: self.blocks.offset(physical),
        };
        // In blocks of 64 KiB that would be no names, any number of times on a sparse disk.
        if block.bytes.iter().all(|byte| *byte == 0) {
            return Err(self.wrong(block.place, "a block of the directory is zero"));
        }
        if let Some(seed) = self.inode.seed() {
            self.check(seed, logical, &mut block)?;
        }
        Ok(Ok(block))
    }

    /// Checks the checksum, and takes it off a block of entries.
    fn check(&self, seed: u32, logical: u64, block: &mut DirBlock) -> Result<()> {
        let holds = if self.is_node(logical, &block.bytes) {
            hash_tree::checksum_holds(seed, logical, &block.bytes)
        } else {
            let end = block.bytes.len() - DIR_TAIL_SIZE;
            let tail = DirEntryTail::ref_from_bytes(&block.bytes[end..]).ok();
            let tail = tail.filter(|tail| {
                tail.det_reserved_zero1.get() == 0
                    && usize::from(tail.det_rec_len.get()) == DIR_TAIL_SIZE
                    && tail.det_reserved_zero2 == 0
                    && tail.det_reserved_ft == DIR_TAIL_TYPE
            });
            let stored = tail.map(|tail| tail.det_checksum.get());
            let holds = stored == Some(crc32c(seed, &block.bytes[..end]));
            block.bytes.truncate(end);
            holds
        };
        match holds {
            true => Ok(()),
            false => Err(self.wrong(
                block.place,
                "the checksum of a block of the directory is wrong or missing",
            )),
        }
    }

    /// Whether a block is a node of a hash tree, which to others is a block without names.
    fn is_node(&self, logical: u64, bytes: &[u8]) -> bool {
        let is_empty = || {
            Fields::ref_from_prefix(bytes).is_ok_and(|(entry, _)| {
                entry.inode.get() == 0
                    && record_len(entry.rec_len.get(), self.blocks.size()) == bytes.len()
            })
        };
        self.inode.has_hash_tree() && (logical == 0 || is_empty())
    }

    /// The entries of a block.
    pub(super) fn entries(&self, block: &DirBlock, found: impl FnMut(u32, &[u8])) -> Result<()> {
        entries(&self.inode, &block.bytes, self.blocks.size(), found)
            .map_err(|e| e.at_offset(block.place))
    }
}

/// A block of a directory.
pub(super) struct DirBlock {
    pub bytes: Vec<u8>,
    number: u64,
    place: u64,
}

/// The length of an entry: a block of 64 KiB is more than the field can tell.
fn record_len(field: u16, block_size: usize) -> usize {
    let len = usize::from(field);
    if block_size < 1 << 16 {
        len
    } else if len == 0 || len == 0xFFFF {
        block_size
    } else {
        len & !3 | (len & 3) << 16
    }
}

/// Calls `found` with the inode and name of each entry but `.` and `..`.
fn entries(
    inode: &Inode,
    bytes: &[u8],
    block_size: usize,
    mut found: impl FnMut(u32, &[u8]),
) -> Result<()> {
    let wrong = |what: &str| damaged_inode(inode.number(), what);
    let mut rest = bytes;
    while !rest.is_empty() {
        let (entry, after) =
            Fields::ref_from_prefix(rest).map_err(|_| wrong("a directory entry is cut short"))?;
        let len = record_len(entry.rec_len.get(), block_size);
        let name = after.get(..usize::from(entry.name_len));
        let fits = |name: &&[u8]| {
            DIR_ENTRY_SIZE + name.len() <= len && len.is_multiple_of(4) && len <= rest.len()
        };
        let name = name
            .filter(fits)
            .ok_or_else(|| wrong("a directory entry does not fit into its place"))?;
        rest = &rest[len..];
        let ino = entry.inode.get();
        if ino == 0 || matches!(name, b"." | b"..") {
            continue;
        }
        if name.is_empty() || name.iter().any(|byte| matches!(byte, 0 | b'/')) {
            return Err(wrong("a directory entry has no name that a file can have"));
        }
        found(ino, name);
    }
    Ok(())
}

/// Makes sure that an inode is a directory that can be read.
pub(super) fn check_directory(inode: &Inode) -> Result<()> {
    if inode.file_type() != FileType::Directory {
        return Err(damaged_inode(inode.number(), "is no directory"));
    }
    inode.refuse_encrypted()
}

/// The entries of a directory, block by block.
pub(crate) struct ReadDir<'a> {
    source: Source<'a>,
    found: VecDeque<DirEntry>,
    /// Blocks that were read, of which none has two parts of a directory, or of two directories.
    seen: HashSet<u64>,
}

enum Source<'a> {
    Inline(Inode),
    Blocks(DirBlocks<'a>, u64),
    End,
}

impl<'a> ReadDir<'a> {
    pub(super) fn new(blocks: &'a Blocks, inode: &Inode) -> Result<Self> {
        Self::after(blocks, inode, HashSet::new())
    }

    /// The entries of a directory that has none of the blocks that were seen.
    pub(super) fn after(blocks: &'a Blocks, inode: &Inode, seen: HashSet<u64>) -> Result<Self> {
        check_directory(inode)?;
        Ok(Self {
            source: match inode.has_inline_data() {
                true => Source::Inline(inode.clone()),
                false => Source::Blocks(DirBlocks::new(blocks, inode), 0),
            },
            found: VecDeque::new(),
            seen,
        })
    }

    /// The blocks that were read.
    pub(super) fn seen(self) -> HashSet<u64> {
        self.seen
    }

    /// Reads on until there are entries, or none is left.
    fn fill(&mut self) -> Result<()> {
        while self.found.is_empty() {
            match &mut self.source {
                Source::End => return Ok(()),
                Source::Inline(inode) => {
                    let inode = inode.clone();
                    self.source = Source::End;
                    let rest = inline_data(&inode)?;
                    let start = &inode.i_block()[INLINE_START..];
                    for part in [start, &rest[..]] {
                        // No entry is longer than the inode.
                        entries(&inode, part, 0, |ino, name| {
                            let name = name.into();
                            self.found.push_back(DirEntry { ino, name });
                        })?;
                    }
                }
                Source::Blocks(blocks, at) if *at < blocks.count() => match blocks.read(*at)? {
                    Err(holes) if *at > 0 => *at = at.saturating_add(holes),
                    Err(_) => return Err(blocks.wrong(0, "a directory without a first block")),
                    Ok(block) => {
                        if !self.seen.insert(block.number) {
                            let what = "a block of the directory is there twice";
                            return Err(blocks.wrong(block.place, what));
                        }
                        blocks.entries(&block, |ino, name| {
                            let name = name.into();
                            self.found.push_back(DirEntry { ino, name });
                        })?;
                        *at += 1;
                    }
                },
                Source::Blocks(..) => self.source = Source::End,
            }
        }
        Ok(())
    }
}

impl Iterator for ReadDir<'_> {
    type Item = Result<DirEntry>;

    fn next(&mut self) -> Option<Self::Item> {
        if let Err(error) = self.fill() {
            self.source = Source::End;
            self.found.clear();
            return Some(Err(error));
        }
        self.found.pop_front().map(Ok)
    }
}
