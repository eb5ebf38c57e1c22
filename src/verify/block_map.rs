//! From the blocks of a file to those of the disk: extent trees, and the indirect blocks of
//! ext2.
//!
//! Source: Linux, Documentation/filesystems/ext4, "Extent Tree", "Direct/Indirect Block
//! Addressing".

use std::collections::HashSet;

use zerocopy::FromBytes;

use super::blocks::{Blocks, u32_at};
use super::claims::{Claims, Owner};
use super::findings::{FindingKind, Findings, Place};
use crate::error::Result;
use crate::ext4::checksum::crc32c;
use crate::ext4::format::{
    EXTENT_ENTRY_SIZE, EXTENT_MAGIC, EXTENT_MAX_LEN, ExtentHeader, ExtentIndex, ExtentLeaf,
    I_BLOCK_SIZE,
};

/// The deepest tree that the kernel makes (EXT4_MAX_EXTENT_DEPTH).
const MAX_DEPTH: u16 = 5;
/// Blocks that i_block names itself, before the one of indirect blocks.
const DIRECT: usize = 12;

/// Adjacent blocks of a file that are adjacent on the disk.
#[derive(Clone, Copy, Debug)]
pub(super) struct Run {
    pub logical: u64,
    pub physical: u64,
    pub len: u64,
    pub is_initialised: bool,
}

/// The blocks of a file together.
#[derive(Debug, Default)]
pub(super) struct Mapping {
    /// Blocks that the file takes, those of the tree included.
    pub blocks: u64,
    /// The block after the last that is mapped.
    pub end: u64,
    /// The block after the last that is mapped and initialised.
    pub initialised_end: u64,
    /// The blocks, if they were asked for.
    pub runs: Vec<Run>,
}

/// Walks the trees of all inodes, one after the other.
pub(super) struct BlockMaps<'a> {
    volume: Blocks<'a>,
    /// Nodes that were walked. None is walked twice, so that the time is linear in them.
    walked: HashSet<u64>,
}

/// The inode whose tree is walked.
pub(super) struct Owned<'a> {
    pub ino: u32,
    pub i_block: &'a [u8; I_BLOCK_SIZE],
    /// The seed of the checksums of its blocks.
    pub seed: Option<u32>,
    /// Whether to keep the runs.
    pub keep: bool,
}

struct Walk<'a, 'b> {
    maps: &'a mut BlockMaps<'b>,
    inode: &'a Owned<'a>,
    claims: &'a mut Claims,
    findings: &'a mut Findings,
    mapping: Mapping,
}

impl<'a> BlockMaps<'a> {
    pub(super) fn new(volume: Blocks<'a>) -> Self {
        Self {
            volume,
            walked: HashSet::new(),
        }
    }

    /// The mapping of an inode with an extent tree.
    pub(super) fn extents(
        &mut self,
        inode: &Owned<'_>,
        claims: &mut Claims,
        findings: &mut Findings,
    ) -> Result<Mapping> {
        let mut walk = Walk::new(self, inode, claims, findings);
        walk.extents()?;
        Ok(walk.mapping)
    }

    /// The mapping of an inode with block numbers.
    pub(super) fn indirect(
        &mut self,
        inode: &Owned<'_>,
        claims: &mut Claims,
        findings: &mut Findings,
    ) -> Result<Mapping> {
        let mut walk = Walk::new(self, inode, claims, findings);
        walk.indirect()?;
        Ok(walk.mapping)
    }
}

/// A node of an extent tree that is walked next, and what its parent says of it.
struct Pending {
    block: u64,
    logical: u64,
    depth: u16,
}

impl<'a, 'b> Walk<'a, 'b> {
    fn new(
        maps: &'a mut BlockMaps<'b>,
        inode: &'a Owned<'a>,
        claims: &'a mut Claims,
        findings: &'a mut Findings,
    ) -> Self {
        Self {
            maps,
            inode,
            claims,
            findings,
            mapping: Mapping::default(),
        }
    }

    fn wrong(&mut self, block: Option<u64>, message: impl FnOnce() -> String) {
        let place = Place {
            block,
            ..Place::inode(self.inode.ino)
        };
        self.findings.add(FindingKind::BlockMap, place, message);
    }

    /// Claims a block of the tree; whether it is to be walked.
    fn claim_node(&mut self, block: u64) -> bool {
        if !self.maps.volume.contains(block, 1) {
            self.wrong(Some(block), || {
                format!("a node is said to be at block {block}, which is out of the file system")
            });
            return false;
        }
        self.claims
            .add(block..block + 1, Owner::Inode(self.inode.ino));
        self.mapping.blocks += 1;
        self.maps.walked.insert(block)
    }

    fn map(&mut self, run: Run) {
        let end = run.physical + run.len;
        self.claims
            .add(run.physical..end, Owner::Inode(self.inode.ino));
        self.mapping.blocks += run.len;
        self.mapping.end = run.logical + run.len;
        if run.is_initialised {
            self.mapping.initialised_end = self.mapping.end;
        }
        if !self.inode.keep {
            return;
        }
        match self.mapping.runs.last_mut() {
            Some(last)
                if last.logical + last.len == run.logical
                    && last.physical + last.len == run.physical
                    && last.is_initialised == run.is_initialised =>
            {
                last.len += run.len;
            }
            _ => self.mapping.runs.push(run),
        }
    }

    fn extents(&mut self) -> Result<()> {
        // Blocks yet to be walked, the next one last.
        let mut pending = Vec::new();
        let i_block: &[u8] = self.inode.i_block;
        self.extent_node(None, i_block, None, 0, &mut pending);
        while let Some(node) = pending.pop() {
            if !self.claim_node(node.block) {
                continue;
            }
            let bytes = self.maps.volume.read(node.block, 1)?;
            let (block, depth) = (Some(node.block), Some(node.depth));
            self.extent_node(block, &bytes, depth, node.logical, &mut pending);
        }
        Ok(())
    }

    fn extent_node(
        &mut self,
        block: Option<u64>,
        bytes: &[u8],
        depth: Option<u16>,
        logical: u64,
        pending: &mut Vec<Pending>,
    ) {
        let Ok((header, entries)) = ExtentHeader::ref_from_prefix(bytes) else {
            return;
        };
        let room = entries.len() / EXTENT_ENTRY_SIZE;
        let (count, most) = (
            usize::from(header.eh_entries.get()),
            usize::from(header.eh_max.get()),
        );
        let found = header.eh_depth.get();
        if header.eh_magic.get() != EXTENT_MAGIC {
            return self.wrong(block, || "an extent node starts without its magic".into());
        }
        if count > most || most > room || most + 2 < room {
            return self.wrong(block, || {
                format!("an extent node has {count} of {most} entries, in room for {room}")
            });
        }
        if depth.is_none() && found > MAX_DEPTH {
            return self.wrong(block, || {
                format!("the extent tree is {found} deep, more than {MAX_DEPTH}")
            });
        }
        // The kernel refuses a node of another depth. Where it stands tells what its entries are.
        let depth = depth.unwrap_or(found);
        if found != depth {
            self.wrong(block, || {
                format!("an extent node is of depth {found}, not {depth}")
            });
        }
        if let Some(seed) = self.inode.seed
            && block.is_some()
        {
            // After the last entry that there is room for.
            let tail = EXTENT_ENTRY_SIZE * (most + 1);
            let (sum, computed) = (u32_at(bytes, tail), crc32c(seed, &bytes[..tail]));
            if sum != computed {
                let place = Place {
                    block,
                    ..Place::inode(self.inode.ino)
                };
                self.findings.add(FindingKind::Checksum, place, || {
                    format!("an extent node's checksum is {sum:08x}, not {computed:08x}")
                });
            }
        }
        if count == 0 && depth > 0 {
            return self.wrong(block, || "an inner extent node is empty".into());
        }
        let entries = entries.chunks_exact(EXTENT_ENTRY_SIZE).take(count);
        if depth == 0 {
            for (i, entry) in entries.enumerate() {
                if let Ok(extent) = ExtentLeaf::ref_from_bytes(entry) {
                    let start = (i == 0 && block.is_some()).then_some(logical);
                    self.extent(block, extent, start);
                }
            }
            return;
        }
        let first = pending.len();
        let mut least = logical;
        for (i, entry) in entries.enumerate() {
            let Ok(index) = ExtentIndex::ref_from_bytes(entry) else {
                continue;
            };
            let start = u64::from(index.ei_block.get());
            let child = u64::from(index.ei_leaf_hi.get()) << 32 | u64::from(index.ei_leaf_lo.get());
            if start < least || i == 0 && block.is_some() && start != logical {
                self.wrong(block, || {
                    format!("an index of an extent tree starts at {start}, not {least} or later")
                });
            }
            least = start + 1;
            pending.push(Pending {
                block: child,
                logical: start,
                depth: depth - 1,
            });
        }
        pending[first..].reverse();
    }

    /// Maps an extent; if it is the first of a leaf it has to start where its index says.
    fn extent(&mut self, block: Option<u64>, extent: &ExtentLeaf, start: Option<u64>) {
        let logical = u64::from(extent.ee_block.get());
        let raw = u32::from(extent.ee_len.get());
        let is_initialised = raw <= EXTENT_MAX_LEN;
        let len = u64::from(if is_initialised {
            raw
        } else {
            raw - EXTENT_MAX_LEN
        });
        let physical =
            u64::from(extent.ee_start_hi.get()) << 32 | u64::from(extent.ee_start_lo.get());
        if start.is_some_and(|start| start != logical) {
            self.wrong(block, || {
                format!(
                    "the first extent of a node is of file block {logical}, its index tells of {}",
                    start.unwrap_or_default()
                )
            });
        }
        if len == 0 {
            return self.wrong(block, || {
                format!("the extent of file block {logical} is empty")
            });
        }
        if !self.maps.volume.contains(physical, len) {
            return self.wrong(block, || {
                format!(
                    "the {len} blocks from file block {logical} on are said to be at \
                    {physical}, which is out of the file system"
                )
            });
        }
        let end = self.mapping.end;
        if logical < end || logical + len > 1 << 32 {
            return self.wrong(block, || {
                format!("an extent of {len} blocks is of file block {logical}, not {end} or later")
            });
        }
        self.map(Run {
            logical,
            physical,
            len,
            is_initialised,
        });
    }

    fn indirect(&mut self) -> Result<()> {
        let per_block = self.maps.volume.block_size as u64 / 4;
        let mut logical = 0;
        for slot in 0..I_BLOCK_SIZE / 4 {
            let pointer = u64::from(u32_at(self.inode.i_block, slot * 4));
            // Levels of indirect blocks between it and the data.
            let levels = (slot + 1).saturating_sub(DIRECT) as u32;
            self.pointer(None, pointer, levels, logical)?;
            logical += per_block.pow(levels);
        }
        Ok(())
    }

    /// Maps what a block number leads to. At most three calls are within one another.
    fn pointer(
        &mut self,
        block: Option<u64>,
        pointer: u64,
        levels: u32,
        logical: u64,
    ) -> Result<()> {
        if pointer == 0 {
            return Ok(());
        }
        if levels == 0 {
            if self.maps.volume.contains(pointer, 1) {
                self.map(Run {
                    logical,
                    physical: pointer,
                    len: 1,
                    is_initialised: true,
                });
            } else {
                self.wrong(block, || {
                    format!(
                        "file block {logical} is said to be block {pointer}, which is out of \
                        the file system"
                    )
                });
            }
            return Ok(());
        }
        if !self.claim_node(pointer) {
            return Ok(());
        }
        let bytes = self.maps.volume.read(pointer, 1)?;
        let span = (bytes.len() as u64 / 4).pow(levels - 1);
        for (i, entry) in bytes.chunks_exact(4).enumerate() {
            let below = u64::from(u32_at(entry, 0));
            self.pointer(Some(pointer), below, levels - 1, logical + i as u64 * span)?;
        }
        Ok(())
    }
}
