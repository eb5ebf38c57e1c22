//! Directories: blocks of entries, and the hash trees over them.
//!
//! Source: Linux, Documentation/filesystems/ext4, "Directory Entries".

use std::collections::HashMap;
use std::collections::hash_map;
use std::ops::Range;

use zerocopy::FromBytes;

use super::block_map::Run;
use super::blocks::{Blocks, u16_at, u32_at};
use super::checksum::with_hole;
use super::findings::{FindingKind, Findings, Place};
use super::hash::NameHash;
use super::inode::DIR;
use super::layout::Layout;
use crate::error::Result;
use crate::ext4::checksum::crc32c;
use crate::ext4::format::{
    DIR_ENTRY_SIZE, DIR_TAIL_SIZE, DIR_TAIL_TYPE, DX_ENTRY_SIZE, DX_NODE_OFFSET, DirEntry,
    DirEntryTail, DxRootInfo, I_BLOCK_SIZE, INCOMPAT_FILETYPE, INCOMPAT_INLINE_DATA,
    INCOMPAT_LARGEDIR, INODE_CASEFOLD, INODE_ENCRYPT, INODE_INDEX,
};
use crate::summary::display_path;

/// Where the root of a hash tree has its fields: `.` and `..` take 12 bytes each.
const DX_INFO: usize = 24;
/// The bits of a tree entry that number a block.
const DX_BLOCK_MASK: u32 = 0x0FFF_FFFF;
/// The number of malformed blocks after which a directory is not read on: it is no directory, but
/// may claim to be as large as the disk.
const MAX_MALFORMED: u32 = 100;
/// Where the entries of a directory in its inode start, after the parent's number.
const INLINE_START: usize = 4;

/// A directory as its inode has it.
#[derive(Debug)]
pub(super) struct Directory {
    pub ino: u32,
    pub flags: u32,
    /// The seed of the checksums of its blocks.
    pub seed: Option<u32>,
    pub runs: Vec<Run>,
    /// i_block and the attribute system.data, if the entries are there.
    pub inline: Option<([u8; I_BLOCK_SIZE], Box<[u8]>)>,
}

/// A name in a directory.
#[derive(Clone, Copy, Debug)]
pub(super) struct Name {
    pub ino: u32,
    /// "Directory Entries", file_type.
    pub entry_type: u8,
    /// Where in [`Names::bytes`] it starts.
    start: u32,
    len: u8,
}

/// The names of a directory.
pub(super) struct Names {
    /// The parent according to `..`; 0 if there is none.
    pub parent: u32,
    pub names: Vec<Name>,
    bytes: Vec<u8>,
    pub findings: Findings,
}

impl Names {
    pub(super) fn bytes(&self, name: &Name) -> &[u8] {
        let start = name.start as usize;
        &self.bytes[start..start + usize::from(name.len)]
    }

    pub(super) fn shown(&self, name: &Name) -> String {
        display_path(self.bytes(name))
    }
}

/// The role of a block in an indexed directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    /// No node of the tree leads to it.
    Unknown,
    /// A node of the tree.
    Node,
    /// A leaf, with the hashes that are looked up there: from the first on, below the second.
    Leaf(u32, u64),
}

struct Reader<'a> {
    volume: Blocks<'a>,
    layout: &'a Layout,
    directory: &'a Directory,
    hash: Option<NameHash>,
    /// Blocks that could not be read to their end.
    malformed: u32,
    /// Bytes of the disk that are known to be written.
    written: Range<u64>,
    found: Names,
}

impl Directory {
    pub(super) fn is_indexed(&self) -> bool {
        self.flags & INODE_INDEX != 0 && self.inline.is_none()
    }

    /// Blocks that reading it takes.
    pub(super) fn blocks(&self) -> u64 {
        self.runs.iter().map(|run| run.len).sum()
    }

    /// Reads all of it.
    pub(super) fn read(
        &self,
        volume: Blocks<'_>,
        layout: &Layout,
        findings: Findings,
    ) -> Result<Names> {
        let mut reader = Reader {
            volume,
            layout,
            directory: self,
            hash: None,
            malformed: 0,
            written: 0..0,
            found: Names {
                parent: 0,
                names: Vec::new(),
                bytes: Vec::new(),
                findings,
            },
        };
        match &self.inline {
            Some((i_block, rest)) => reader.inline(i_block, rest),
            None => reader.blocks()?,
        }
        reader.duplicates();
        Ok(reader.found)
    }
}

impl Reader<'_> {
    fn wrong(&mut self, kind: FindingKind, block: Option<u64>, message: impl FnOnce() -> String) {
        let place = Place {
            block,
            ..Place::inode(self.directory.ino)
        };
        self.found.findings.add(kind, place, message);
    }

    fn inline(&mut self, i_block: &[u8; I_BLOCK_SIZE], rest: &[u8]) {
        self.found.parent = u32_at(i_block, 0);
        self.entries(&i_block[INLINE_START..], None, 2, None);
        if !rest.is_empty() {
            self.entries(rest, None, 2, None);
        }
    }

    fn blocks(&mut self) -> Result<()> {
        let directory = self.directory;
        let roles = match directory.is_indexed() {
            true => self.index()?,
            false => None,
        };
        let mut next = 0;
        for run in &directory.runs {
            if run.logical > next {
                self.hole(next);
            }
            if !run.is_initialised {
                self.wrong(FindingKind::BlockMap, Some(run.physical), || {
                    "blocks of a directory are not initialised".into()
                });
            }
            let mut i = 0;
            while i < run.len {
                if self.malformed > MAX_MALFORMED {
                    self.wrong(FindingKind::DirectoryEntry, None, || {
                        "too many blocks of the directory are malformed to look at more of them"
                            .into()
                    });
                    return Ok(());
                }
                let (logical, physical) = (run.logical + i, run.physical + i);
                let unwritten = self.unwritten(physical, run.len - i)?;
                if unwritten > 0 {
                    self.malformed += 1;
                    self.wrong(FindingKind::DirectoryEntry, Some(physical), || {
                        format!(
                            "{unwritten} blocks, from block {logical} of the directory on, were \
                            never written"
                        )
                    });
                    i += unwritten;
                    continue;
                }
                i += 1;
                let role = roles.as_ref().map(|roles| {
                    let role = roles.get(&logical);
                    role.copied().unwrap_or(Role::Unknown)
                });
                if role == Some(Role::Node) && logical > 0 {
                    continue;
                }
                let block = self.volume.read(physical, 1)?;
                self.block(&block, logical, physical, role);
            }
            next = run.logical + run.len;
        }
        if next == 0 {
            self.hole(0);
        }
        Ok(())
    }

    /// The number of next blocks that are known to be zeros without reading them.
    fn unwritten(&mut self, block: u64, most: u64) -> Result<u64> {
        let start = self.volume.offset(block);
        if self.written.contains(&start) {
            return Ok(0);
        }
        let (data, end) = self.volume.disk.extent(start)?;
        if data {
            self.written = start..end;
            return Ok(0);
        }
        Ok(most.min((end - start) / self.volume.block_size as u64))
    }

    fn hole(&mut self, block: u64) {
        let layout = self.layout;
        let allowed = layout.incompat(INCOMPAT_LARGEDIR) && !layout.incompat(INCOMPAT_INLINE_DATA);
        if block == 0 || !allowed {
            self.wrong(FindingKind::DirectoryEntry, None, || {
                format!("the directory has a hole at its block {block}")
            });
        }
    }

    fn block(&mut self, block: &[u8], logical: u64, physical: u64, role: Option<Role>) {
        let dots = if logical == 0 { 0 } else { 2 };
        let mut end = block.len();
        // The root of a tree is checked with the tree.
        if role != Some(Role::Node)
            && let Some(seed) = self.directory.seed
        {
            end -= DIR_TAIL_SIZE;
            self.tail(seed, block, end, physical);
        }
        let range = match role {
            Some(Role::Leaf(first, end)) => Some((first, end)),
            Some(Role::Unknown) => {
                self.wrong(FindingKind::DirectoryIndex, Some(physical), || {
                    format!("the hash tree does not lead to block {logical} of the directory")
                });
                None
            }
            _ => None,
        };
        self.entries(&block[..end], Some(physical), dots, range);
    }

    fn tail(&mut self, seed: u32, block: &[u8], at: usize, physical: u64) {
        let Ok(tail) = DirEntryTail::ref_from_bytes(&block[at..]) else {
            return;
        };
        let is_tail = tail.det_reserved_zero1.get() == 0
            && usize::from(tail.det_rec_len.get()) == DIR_TAIL_SIZE
            && tail.det_reserved_zero2 == 0
            && tail.det_reserved_ft == DIR_TAIL_TYPE;
        let (found, computed) = (tail.det_checksum.get(), crc32c(seed, &block[..at]));
        if !is_tail {
            self.wrong(FindingKind::DirectoryEntry, Some(physical), || {
                "the block ends without room for a checksum".into()
            });
        } else if found != computed {
            self.wrong(FindingKind::Checksum, Some(physical), || {
                format!("the checksum of the entries is {found:08x}, not {computed:08x}")
            });
        }
    }

    /// Reads entries that have to fill `bytes`. `dots` says which comes first: 0 for `.`, 1 for
    /// `..`, 2 for any other.
    fn entries(
        &mut self,
        bytes: &[u8],
        block: Option<u64>,
        mut dots: u8,
        range: Option<(u32, u64)>,
    ) {
        let mut at = 0;
        let mut misplaced = false;
        while at < bytes.len() {
            let rest = &bytes[at..];
            let Ok((entry, after)) = DirEntry::ref_from_prefix(rest) else {
                self.malformed += 1;
                return self.wrong(FindingKind::DirectoryEntry, block, || {
                    format!("the entry at byte {at} does not fit into its place")
                });
            };
            let size = self.record_size(entry.rec_len.get());
            let name = after.get(..usize::from(entry.name_len));
            let Some(name) = name.filter(|name| {
                size >= 12
                    && size.is_multiple_of(4)
                    && size <= rest.len()
                    && DIR_ENTRY_SIZE + name.len() <= size
            }) else {
                self.malformed += 1;
                let len = entry.name_len;
                return self.wrong(FindingKind::DirectoryEntry, block, || {
                    format!("the entry at byte {at} has {size} bytes, for a name of {len}")
                });
            };
            at += size;
            if dots < 2 {
                self.dot(entry, after, size, dots, block);
                dots += 1;
                continue;
            }
            let ino = entry.inode.get();
            if ino == 0 {
                continue;
            }
            self.name(entry, name, block);
            if let (Some((first, end)), Some(hash)) = (range, self.hash) {
                let hash = hash.of(name);
                misplaced |= hash < first & !1 || u64::from(hash) >= end;
            }
        }
        if dots < 2 {
            self.wrong(FindingKind::DirectoryEntry, block, || {
                "the directory does not start with . and ..".into()
            });
        }
        if misplaced {
            self.wrong(FindingKind::DirectoryIndex, block, || {
                "names are not found by their hashes, which belong to another block".into()
            });
        }
    }

    /// A block of 64 KiB is more than a record's length can tell.
    fn record_size(&self, len: u16) -> usize {
        let len = usize::from(len);
        if self.volume.block_size < 1 << 16 {
            len
        } else if len == 0 || len == 0xFFFF {
            self.volume.block_size
        } else {
            len & !3 | (len & 3) << 16
        }
    }

    /// Checks the first or second entry, whose name is `after`'s first bytes.
    fn dot(&mut self, entry: &DirEntry, after: &[u8], size: usize, dots: u8, block: Option<u64>) {
        let name = &after[..usize::from(entry.name_len)];
        let ino = entry.inode.get();
        let expected: &[u8] = if dots == 0 { b"." } else { b".." };
        let is_right = name == expected
            && after.get(name.len()) == Some(&0)
            && (dots == 1 || ino == self.directory.ino && size < 2 * 12)
            && ino != 0;
        if !is_right {
            self.wrong(FindingKind::DirectoryEntry, block, || {
                format!(
                    "the entry {} leads to inode {ino}, in the place of {}",
                    display_path(name),
                    display_path(expected)
                )
            });
        }
        let expected = match self.layout.incompat(INCOMPAT_FILETYPE) {
            true => DIR,
            false => 0,
        };
        if entry.file_type != 0 && entry.file_type != expected {
            let found = entry.file_type;
            self.wrong(FindingKind::FileType, block, || {
                format!("the entry . or .. is of type {found}, not {expected}")
            });
        }
        if dots == 1 {
            self.found.parent = ino;
        }
    }

    fn name(&mut self, entry: &DirEntry, name: &[u8], block: Option<u64>) {
        let ino = entry.inode.get();
        let is_encrypted = self.directory.flags & INODE_ENCRYPT != 0;
        let is_bad = matches!(name, b"" | b"." | b"..")
            || !is_encrypted && name.iter().any(|byte| matches!(byte, 0 | b'/'));
        if is_bad {
            self.wrong(FindingKind::DirectoryEntry, block, || {
                format!("{:?} is no name of a file", display_path(name))
            });
        }
        // The names take no more than the directory, of which the entries are numbered in 32
        // bits.
        let start = self.found.bytes.len() as u32;
        self.found.bytes.extend_from_slice(name);
        self.found.names.push(Name {
            ino,
            entry_type: entry.file_type,
            start,
            len: entry.name_len,
        });
    }

    fn duplicates(&mut self) {
        let mut findings = self.found.findings.another();
        std::mem::swap(&mut findings, &mut self.found.findings);
        let mut sorted: Vec<&Name> = self.found.names.iter().collect();
        sorted.sort_unstable_by_key(|name| self.found.bytes(name));
        for pair in sorted.windows(2) {
            if self.found.bytes(pair[0]) == self.found.bytes(pair[1]) {
                let place = Place::inode(self.directory.ino);
                // Only what is listed is put into words: there may be many million.
                findings.add(FindingKind::DuplicateName, place, || {
                    format!("the name {} is there twice", self.found.shown(pair[0]))
                });
            }
        }
        self.found.findings = findings;
    }

    /// The place of a block of the directory on the disk.
    fn physical(&self, logical: u64) -> Option<u64> {
        let runs = &self.directory.runs;
        let at = runs.partition_point(|run| run.logical + run.len <= logical);
        let run = runs.get(at).filter(|run| run.logical <= logical)?;
        Some(run.physical + (logical - run.logical))
    }

    /// Walks the hash tree; what each block of the directory is to it, of those that it leads
    /// to: `None` if there is no tree.
    fn index(&mut self) -> Result<Option<HashMap<u64, Role>>> {
        let blocks = self
            .directory
            .runs
            .last()
            .map_or(0, |run| run.logical + run.len);
        let Some(root) = self.physical(0) else {
            return Ok(None);
        };
        let bytes = self.volume.read(root, 1)?;
        let Some((at, levels)) = self.root(&bytes, root) else {
            return Ok(None);
        };
        let mut roles = HashMap::from([(0, Role::Node)]);
        let mut pending = Vec::new();
        self.node(&bytes, at, root, (0, 1 << 32), levels, &mut pending);
        while let Some((logical, first, end, levels)) = pending.pop() {
            if self.malformed > MAX_MALFORMED {
                break;
            }
            if logical >= blocks {
                self.wrong(FindingKind::DirectoryIndex, None, || {
                    format!("the hash tree leads to block {logical}, of {blocks}")
                });
                continue;
            }
            let hash_map::Entry::Vacant(role) = roles.entry(logical) else {
                self.wrong(FindingKind::DirectoryIndex, None, || {
                    format!("the hash tree leads to block {logical} twice")
                });
                continue;
            };
            if levels == 0 {
                role.insert(Role::Leaf(first, end));
                continue;
            }
            role.insert(Role::Node);
            let Some(physical) = self.physical(logical) else {
                continue;
            };
            let bytes = self.volume.read(physical, 1)?;
            let is_empty = u32_at(&bytes, 0) == 0
                && self.record_size(u16_at(&bytes, 4)) == bytes.len()
                && bytes[6] == 0;
            if !is_empty {
                self.wrong(FindingKind::DirectoryIndex, Some(physical), || {
                    "a node of the hash tree starts with an entry".into()
                });
            }
            let range = (first, end);
            self.node(
                &bytes,
                DX_NODE_OFFSET,
                physical,
                range,
                levels - 1,
                &mut pending,
            );
        }
        Ok(Some(roles))
    }

    /// Where the entries of the root start, and how many levels are below its own; `None` if
    /// nothing can be looked up through it.
    fn root(&mut self, bytes: &[u8], physical: u64) -> Option<(usize, u8)> {
        let (info, _) = DxRootInfo::ref_from_prefix(&bytes[DX_INFO..]).ok()?;
        let (version, levels) = (info.hash_version, info.indirect_levels);
        let most = match self.layout.incompat(INCOMPAT_LARGEDIR) {
            true => 2,
            false => 1,
        };
        let dots = usize::from(u16_at(bytes, 4)) == 12
            && self.record_size(u16_at(bytes, 16)) == bytes.len() - 12;
        if info.reserved_zero.get() != 0
            || usize::from(info.info_length) != size_of::<DxRootInfo>()
            || info.unused_flags & 1 != 0
            || levels > most
            || !dots
        {
            self.wrong(FindingKind::DirectoryIndex, Some(physical), || {
                "the root of the hash tree is malformed".into()
            });
            return None;
        }
        let folds_case = self.directory.flags & INODE_CASEFOLD != 0;
        let hash = NameHash::new(version, self.layout.unsigned_hash, self.layout.hash_seed);
        if hash.is_none() && !folds_case {
            self.wrong(FindingKind::DirectoryIndex, Some(physical), || {
                format!("the hash tree uses the unknown hash {version}")
            });
        }
        self.hash = hash.filter(|_| !folds_case);
        Some((DX_INFO + usize::from(info.info_length), levels))
    }

    /// Reads a node whose entries start at `at`, for hashes of a range, and notes its children,
    /// which have so many levels below them.
    fn node(
        &mut self,
        bytes: &[u8],
        at: usize,
        physical: u64,
        range: (u32, u64),
        below: u8,
        pending: &mut Vec<(u64, u32, u64, u8)>,
    ) {
        let tail = if self.directory.seed.is_some() { 8 } else { 0 };
        let room = (bytes.len() - tail - at) / DX_ENTRY_SIZE;
        // They stand where the first entry, whose hash is known, would have it.
        let (limit, count) = (
            usize::from(u16_at(bytes, at)),
            usize::from(u16_at(bytes, at + 2)),
        );
        if limit != room || count > limit || count == 0 {
            self.malformed += 1;
            return self.wrong(FindingKind::DirectoryIndex, Some(physical), || {
                format!(
                    "a node of the hash tree has {count} of {limit} entries, in room for {room}"
                )
            });
        }
        if let Some(seed) = self.directory.seed {
            let used = crc32c(seed, &bytes[..at + count * DX_ENTRY_SIZE]);
            let tail = &bytes[at + limit * DX_ENTRY_SIZE..][..8];
            let (found, computed) = (u32_at(tail, 4), with_hole(used, tail, 4..8));
            if found != computed {
                self.wrong(FindingKind::Checksum, Some(physical), || {
                    format!(
                        "the checksum of a node of the hash tree is {found:08x}, not \
                        {computed:08x}"
                    )
                });
            }
        }
        let entry = |i: usize| {
            let bytes = &bytes[at + i * DX_ENTRY_SIZE..];
            (u32_at(bytes, 0), u32_at(bytes, 4) & DX_BLOCK_MASK)
        };
        let first = pending.len();
        let mut low = range.0;
        let mut sorted = true;
        for i in 0..count {
            let end = match i + 1 < count {
                true => u64::from(entry(i + 1).0),
                false => range.1,
            };
            sorted &= u64::from(low & !1) <= end;
            pending.push((u64::from(entry(i).1), low, end, below));
            low = end as u32;
        }
        pending[first..].reverse();
        if !sorted {
            self.wrong(FindingKind::DirectoryIndex, Some(physical), || {
                "the hashes of a node are out of order".into()
            });
        }
    }
}
