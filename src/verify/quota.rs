//! The files of quotas: what they count, against what each owner has.
//!
//! Source: Linux, fs/quota/quota_tree.c and quotaio_v2.h, and e2fsprogs, lib/support/quotaio*.

use std::collections::{BTreeMap, HashMap};
use std::mem::offset_of;

use super::block_map::Run;
use super::blocks::{Blocks, u32_at};
use super::budget::Budget;
use super::findings::{FindingKind, Findings, Place};
use super::inode::Raw;
use super::layout::Layout;
use crate::error::Result;
use crate::ext4::format::{INODE_EA_INODE, Inode, RO_COMPAT_PROJECT, RO_COMPAT_QUOTA};

/// The magic of the files of users, groups and projects.
const MAGICS: [u32; 3] = [0xD9C0_1F11, 0xD9C0_1927, 0xD9C0_3F14];
/// The newest version of the format, which has numbers of 64 bits.
const VERSION: u32 = 1;
/// Bytes of a block of the tree, whatever the blocks of the file system are.
const BLOCK: usize = 1024;
/// The block with the root of the tree.
const ROOT: u32 = 1;
/// Levels of blocks of references.
const DEPTH: u32 = 4;
/// Where the first entry of a block of them is, and the bytes of each.
const HEADER: usize = 16;
const ENTRY: usize = 72;

/// The usage of an owner.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Usage {
    pub bytes: u64,
    pub inodes: u64,
}

/// The usage of users, groups and projects.
#[derive(Debug, Default)]
pub(super) struct Usages([BTreeMap<u32, Usage>; 3]);

impl Usages {
    /// Adds an inode to the usage of its owners: its blocks, and itself with its values as inodes.
    pub(super) fn charge(&mut self, inode: &Raw<'_>, layout: &Layout, blocks: u64, inodes: u64) {
        // Values are counted with the inodes that name them.
        if !layout.ro_compat(RO_COMPAT_QUOTA) || inode.has(INODE_EA_INODE) {
            return;
        }
        let fields = &inode.fields;
        let joined = |low: u16, high: u16| u32::from(high) << 16 | u32::from(low);
        const END: usize = offset_of!(Inode, i_xattrs);
        let has_project = layout.ro_compat(RO_COMPAT_PROJECT)
            && 128 + usize::from(fields.i_extra_isize.get()) >= END
            && inode.bytes.len() >= END;
        let owners = [
            joined(fields.i_uid.get(), fields.i_uid_high.get()),
            joined(fields.i_gid.get(), fields.i_gid_high.get()),
            if has_project {
                fields.i_projid.get()
            } else {
                0
            },
        ];
        let bytes = blocks.saturating_mul(layout.block_size as u64);
        for (usages, owner) in self.0.iter_mut().zip(owners) {
            let usage = usages.entry(owner).or_default();
            usage.inodes += inodes;
            usage.bytes = usage.bytes.saturating_add(bytes);
        }
    }
}

/// A file of quotas.
#[derive(Debug)]
pub(super) struct QuotaFile {
    /// 0 of users, 1 of groups, 2 of projects.
    pub kind: usize,
    pub ino: u32,
    pub size: u64,
    pub runs: Vec<Run>,
}

impl QuotaFile {
    /// Reads the file and compares what it counts.
    pub(super) fn check(
        &self,
        volume: Blocks<'_>,
        usages: &Usages,
        budget: &mut Budget,
        findings: &mut Findings,
    ) -> Result<()> {
        let mut reader = Reader {
            file: self,
            volume,
            budget,
            findings,
            blocks: 0,
            seen: HashMap::new(),
            counted: BTreeMap::new(),
        };
        if !reader.header()? || !reader.tree()? {
            return Ok(());
        }
        let counted = std::mem::take(&mut reader.counted);
        let used = &usages.0[self.kind];
        for (id, counted) in &counted {
            let used = used.get(id).copied().unwrap_or_default();
            if *counted != used {
                reader.wrong(|| {
                    format!(
                        "the quota of {id} counts {} bytes in {} inodes, not {} in {}",
                        counted.bytes, counted.inodes, used.bytes, used.inodes
                    )
                });
            }
        }
        for id in used.keys().filter(|id| !counted.contains_key(id)) {
            reader.wrong(|| format!("there is no quota of {id}, who has inodes"));
        }
        Ok(())
    }

    /// The block of the file system that has a block of the file.
    fn physical(&self, logical: u64) -> Option<u64> {
        let at = self
            .runs
            .partition_point(|run| run.logical + run.len <= logical);
        let run = self.runs.get(at)?;
        (run.logical <= logical && run.is_initialised)
            .then(|| run.physical + (logical - run.logical))
    }
}

struct Reader<'a> {
    file: &'a QuotaFile,
    volume: Blocks<'a>,
    budget: &'a mut Budget,
    findings: &'a mut Findings,
    /// Blocks that the file says it has.
    blocks: u32,
    /// Blocks that were read, and at which depth.
    seen: HashMap<u32, u32>,
    counted: BTreeMap<u32, Usage>,
}

impl Reader<'_> {
    fn wrong(&mut self, message: impl FnOnce() -> String) {
        let place = Place::inode(self.file.ino);
        self.findings.add(FindingKind::Quota, place, message);
    }

    /// A block of the file; `None`, and a finding, if it is not there.
    fn block(&mut self, number: u32) -> Result<Option<Vec<u8>>> {
        let size = self.volume.block_size as u64;
        let byte = u64::from(number) * BLOCK as u64;
        let physical = self.file.physical(byte / size);
        let Some(physical) = physical.filter(|_| self.budget.take(1)) else {
            self.wrong(|| format!("the quota file has no block {number}"));
            return Ok(None);
        };
        let at = self.volume.offset(physical) + byte % size;
        Ok(Some(self.volume.disk.read(at, BLOCK)?))
    }

    fn header(&mut self) -> Result<bool> {
        let Some(bytes) = self.block(0)? else {
            return Ok(false);
        };
        let (magic, version) = (u32_at(&bytes, 0), u32_at(&bytes, 4));
        if magic != MAGICS[self.file.kind] || version > VERSION {
            self.wrong(|| format!("the quota file has the magic {magic:08x}, version {version}"));
            return Ok(false);
        }
        let [blocks, free, partly_free] = [20, 24, 28].map(|at| u32_at(&bytes, at));
        let room = self.file.size / BLOCK as u64;
        if u64::from(blocks) > room || blocks <= ROOT || free >= blocks || partly_free >= blocks {
            self.wrong(|| {
                format!(
                    "the quota file tells of {blocks} blocks in room for {room}, and of the free \
                    ones {free} and {partly_free}"
                )
            });
            return Ok(false);
        }
        self.blocks = blocks;
        Ok(true)
    }

    /// Reads what the tree leads to; whether it is one. No block is read twice.
    fn tree(&mut self) -> Result<bool> {
        let mut pending = vec![(ROOT, 0)];
        while let Some((number, depth)) = pending.pop() {
            match self.seen.insert(number, depth) {
                None => {}
                // Many entries share a block of them.
                Some(DEPTH) if depth == DEPTH => continue,
                Some(_) => {
                    self.wrong(|| format!("the tree of quotas leads to block {number} twice"));
                    return Ok(false);
                }
            }
            let Some(bytes) = self.block(number)? else {
                return Ok(false);
            };
            if depth == DEPTH {
                self.entries(&bytes);
                continue;
            }
            let references = bytes.chunks_exact(4).map(|bytes| u32_at(bytes, 0));
            for child in references.filter(|child| *child != 0) {
                if child >= self.blocks {
                    let blocks = self.blocks;
                    self.wrong(|| format!("the tree of quotas leads to block {child} of {blocks}"));
                    return Ok(false);
                }
                pending.push((child, depth + 1));
            }
        }
        Ok(true)
    }

    fn entries(&mut self, bytes: &[u8]) {
        let wide = |entry: &[u8], at| {
            u64::from(u32_at(entry, at + 4)) << 32 | u64::from(u32_at(entry, at))
        };
        for entry in bytes[HEADER..].chunks_exact(ENTRY) {
            if entry.iter().any(|byte| *byte != 0) {
                let usage = Usage {
                    inodes: wide(entry, 24),
                    bytes: wide(entry, 48),
                };
                let id = u32_at(entry, 0);
                if self.counted.insert(id, usage).is_some() {
                    self.wrong(|| format!("the quota of {id} is there twice"));
                }
            }
        }
    }
}
