//! A disk, checked to the bottom.
//!
//! Shares the declarations of structures with the writer, and reads them by code of its own.

mod acl;
mod attributes;
mod bitmaps;
mod block_map;
mod blocks;
mod budget;
mod checksum;
mod claims;
mod directories;
mod findings;
mod groups;
mod hash;
mod inode;
mod inodes;
mod layout;
mod quota;
mod record;
mod single;
mod special;
mod start;
mod tree;
#[cfg(test)]
mod unreadable;

use std::collections::BTreeMap;

use crate::disk::DiskFormat;
use crate::disk::Volume;
use crate::error::{ErrorKind, Result};
use crate::ext4::features;
use crate::names::names;
use crate::summary::Digest;
use crate::threads;
use crate::verity;
use bitmaps::Bitmaps;
use blocks::Blocks;
use budget::Unchecked;
use claims::{Claims, Owner};
use findings::Findings;
use inodes::Inodes;
use layout::Layout;
use start::start_of;
use tree::Tree;

pub use findings::{Finding, FindingKind, Place};
pub(crate) use single::root_directory;

/// How to verify a disk.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct VerifyOptions {
    max_findings: usize,
    root_hash: Option<Digest>,
    hash_device: Option<Volume>,
}

impl Default for VerifyOptions {
    fn default() -> Self {
        Self {
            max_findings: 1000,
            root_hash: None,
            hash_device: None,
        }
    }
}

impl VerifyOptions {
    /// The defaults.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The most findings to list, 1,000 unless said otherwise; more are counted.
    #[must_use]
    pub fn max_findings(mut self, most: usize) -> Self {
        self.max_findings = most;
        self
    }

    /// Check every block against the dm-verity hash tree behind the file system, which has to
    /// have this root hash. This reads all of the disk.
    #[must_use]
    pub fn root_hash(mut self, root_hash: Digest) -> Self {
        self.root_hash = Some(root_hash);
        self
    }

    /// Take the hash tree from this disk, where it starts at the first byte, rather than from
    /// behind the file system. It is looked at only with a root hash.
    #[must_use]
    pub fn hash_device(mut self, hash_device: Volume) -> Self {
        self.hash_device = Some(hash_device);
        self
    }
}

/// The verdict on a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Verdict {
    /// Everything was checked, and nothing is wrong.
    Clean,
    /// Something is wrong.
    Damaged,
    /// No error was found, but not everything could be checked.
    Undecided,
    /// The journal holds changes that are yet to be applied, as after a crash. The superblock and the journal
    /// are sound; the rest can be judged after a mount or `e2fsck -p` has replayed it.
    NeedsReplay,
}

names!(Verdict, "verdict", {
    Clean = "clean",
    Damaged = "damaged",
    Undecided = "undecided",
    NeedsReplay = "needs-replay",
});

/// The result of verifying a disk.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Verification {
    /// Bytes of the file, what the disk is wrapped in included.
    pub size: u64,
    /// Bytes of the disk that a guest sees.
    pub virtual_size: u64,
    /// The format of the disk file.
    pub format: DiskFormat,
    /// Errors in the order in which they were found: the superblock first, the counts last.
    pub findings: Vec<Finding>,
    /// Findings that are not listed, because there are too many.
    pub omitted: u64,
    /// Where the VHD or VHDX departs from its specification in what most readers do not mind, a
    /// sentence each.
    pub notes: Vec<String>,
    /// Parts that are there and were not checked.
    pub unchecked: Vec<String>,
    /// Numbers of the structures that were checked.
    pub examined: Examined,
    is_decided: bool,
    needs_replay: bool,
}

/// Numbers of structures that were checked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Examined {
    /// Block groups.
    pub groups: u64,
    /// Inodes in use.
    pub inodes: u64,
    /// Directories.
    pub directories: u64,
    /// Names in them.
    pub names: u64,
    /// Blocks in use.
    pub blocks: u64,
}

impl Verification {
    /// Whether the disk is sound.
    #[must_use]
    pub fn verdict(&self) -> Verdict {
        if !self.findings.is_empty() || self.omitted > 0 {
            Verdict::Damaged
        } else if self.needs_replay {
            Verdict::NeedsReplay
        } else if self.is_decided {
            Verdict::Clean
        } else {
            Verdict::Undecided
        }
    }
}

impl Volume {
    /// Verifies a disk to the bottom: the structures of a VHD or VHDX, then the ext4 inside,
    /// of this crate's making or another's.
    ///
    /// It says what `e2fsck -fn` would, and some things more: attributes and names that the kernel
    /// would not find, values of attributes with holes. Nothing is written. The time is linear in
    /// the metadata, and the memory in the inodes and runs of blocks, whatever the disk claims.
    /// Contents of files, of the journal and behind the file system are not checked, unless there
    /// is a root hash to check them against. Nor is the file system, if blocks of the VHD or VHDX
    /// lie over each other, or if its journal has to be replayed first: [`Verdict::NeedsReplay`].
    ///
    /// # Errors
    /// [`ErrorKind::InvalidDisk`] if there is no ext4 file system, [`ErrorKind::Unsupported`] if
    /// the disk is partitioned, [`ErrorKind::Input`] if it cannot be read. Everything else that is
    /// wrong is a [`Finding`].
    pub fn verify(&self, options: &VerifyOptions) -> Result<Verification> {
        self.named(threads::shared(|| verify(self, options)))
    }
}

fn verify(disk: &Volume, options: &VerifyOptions) -> Result<Verification> {
    let mut findings = Findings::new(options.max_findings);
    let mut overlaps = false;
    let mut wrong = |problem: &vhd_format::Error| {
        overlaps |= problem.is_overlap();
        let place = problem.offset().map_or_else(Place::default, Place::offset);
        findings.add(FindingKind::Container, place, || format!("{problem:#}"));
    };
    disk.check(&mut wrong)?;
    let mut verification = Verification {
        size: disk.file_size(),
        virtual_size: disk.virtual_size(),
        format: disk.format(),
        findings: Vec::new(),
        omitted: 0,
        notes: disk.disk().notes(),
        unchecked: Vec::new(),
        examined: Examined::default(),
        is_decided: true,
        needs_replay: false,
    };
    let mut unchecked = Unchecked::default();
    let findings = match overlaps {
        // A file that names one of its blocks again and again is a disk of any size, all of
        // which would have to be read.
        true => findings,
        false => file_system(
            disk,
            options,
            findings,
            &mut unchecked,
            &mut verification.examined,
        )?,
    };
    disk.check_size()?;
    verification.findings = findings.kept;
    verification.omitted = findings.omitted;
    verification.is_decided = !unchecked.is_essential;
    verification.needs_replay = unchecked.needs_replay;
    verification.unchecked = unchecked.what;
    Ok(verification)
}

fn file_system(
    disk: &Volume,
    options: &VerifyOptions,
    mut findings: Findings,
    unchecked: &mut Unchecked,
    examined: &mut Examined,
) -> Result<Findings> {
    let start = start_of(disk)?;
    let (superblock, bytes) = start.superblock(disk)?;
    let unknown = layout::unknown_features(superblock);
    if unknown != [0; 3] {
        for name in features::names_of(unknown) {
            unchecked.essential(format!("anything, because of the feature {name}"));
        }
        return Ok(findings);
    }
    let Some(layout) = layout::check(superblock, bytes, disk.virtual_size(), &mut findings) else {
        return Ok(findings);
    };
    let volume = Blocks {
        disk,
        block_size: layout.block_size,
        count: layout.blocks,
    };
    if let Some(root_hash) = &options.root_hash {
        let end = volume.offset(layout.blocks);
        let (hashes, start) = match &options.hash_device {
            Some(device) => (device, 0),
            None => (disk, end),
        };
        let tree = HashTree {
            disk,
            end,
            hashes,
            start,
        };
        tree.check(root_hash, &mut findings)?;
    }
    if layout.needs_replay {
        single::journal(volume, &layout, &mut findings)?;
        unchecked.needs_replay = true;
        unchecked
            .essential("all but the superblock and the journal, which has to be replayed first");
        return Ok(findings);
    }
    if layout.has_outer_journal() {
        unchecked.essential("the journal, which is on another disk");
    }
    let mut claims = Claims::new(layout.blocks);
    let groups = groups::check(volume, &layout, &mut claims, &mut findings)?;
    let mut inodes = Inodes::new(volume, &layout, claims, findings);
    inodes.scan(&groups)?;
    let Inodes {
        mut claims,
        mut findings,
        mut budget,
        unchecked: of_inodes,
        records,
        directories,
        ..
    } = inodes;
    unchecked.append(of_inodes);
    check_sharing(&mut claims, &mut findings);
    claims.separate();
    let mut tree = Tree::new(volume, &layout, &records, &directories);
    examined.names = tree.check(&mut budget, &mut findings)?;
    Bitmaps {
        volume,
        layout: &layout,
        groups: &groups,
        claims: claims.sorted(),
        records: &records,
    }
    .check(&mut findings)?;
    examined.groups = groups.len() as u64;
    examined.inodes = records.len() as u64;
    examined.directories = directories.len() as u64;
    examined.blocks = claims.sorted().iter().map(|c| c.end - c.start).sum();
    name_places(&layout, &tree, &mut findings)?;
    Ok(findings)
}

/// The hash tree of a disk, and where it is.
struct HashTree<'a> {
    disk: &'a Volume,
    /// Where the file system ends, all of which the tree is over.
    end: u64,
    hashes: &'a Volume,
    start: u64,
}

impl HashTree<'_> {
    fn check(&self, root_hash: &Digest, findings: &mut Findings) -> Result<()> {
        let mut wrong = |offset, message: String| {
            findings.add(FindingKind::Verity, Place::offset(offset), || message);
        };
        let mut signature = [0; verity::SIGNATURE.len()];
        let is_there = match self.hashes.read_at(self.start, &mut signature) {
            Err(e) if e.kind() == ErrorKind::Input => return Err(e.at_offset(self.start)),
            read => read.is_ok() && signature == verity::SIGNATURE,
        };
        if !is_there {
            wrong(
                self.start,
                match self.start {
                    0 => "the hash device holds no hash tree".into(),
                    _ => "there is no hash tree behind the file system".into(),
                },
            );
            return Ok(());
        }
        match self.disk.verify_verity(self.hashes, self.start) {
            Err(e) if e.kind() == ErrorKind::Input => return Err(e),
            Err(e) => wrong(self.start, format!("{e:#}")),
            Ok(found) => {
                if let Some(bad) = found.first_bad {
                    wrong(bad.offset, "a block is not as its hash says".into());
                }
                if found.root_hash != *root_hash {
                    wrong(
                        self.start,
                        format!("the root hash is {}, not {root_hash}", found.root_hash),
                    );
                }
                if found.data_blocks.checked_mul(4096) != Some(self.end) {
                    let blocks = found.data_blocks;
                    wrong(
                        self.start,
                        format!("the hashes are of {blocks} blocks, not all"),
                    );
                }
            }
        }
        Ok(())
    }
}

/// No two inodes have a block in common, nor has one a block of the file system's own.
fn check_sharing(claims: &mut Claims, findings: &mut Findings) {
    for (first, second) in claims.overlaps() {
        let ((Owner::Inode(ino), _) | (_, Owner::Inode(ino))) = (second.owner, first.owner) else {
            // Found with the groups.
            continue;
        };
        let other = match second.owner == Owner::Inode(ino) {
            true => first.owner,
            false => second.owner,
        };
        let place = Place::inode(ino).block(second.start);
        findings.add(FindingKind::SharedBlock, place, || match other {
            Owner::Inode(same) if same == ino => "the inode has a block twice".into(),
            other => format!("the inode has a block that belongs to {other}"),
        });
    }
}

/// Adds the paths of the inodes that something is wrong with, and the bytes of places.
fn name_places(layout: &Layout, tree: &Tree<'_>, findings: &mut Findings) -> Result<()> {
    let mut paths: BTreeMap<u32, Vec<u8>> = findings
        .kept
        .iter()
        .filter_map(|finding| Some((finding.place.inode?, Vec::new())))
        .collect();
    if !paths.is_empty() {
        tree.paths(&mut paths)?;
    }
    for place in findings.kept.iter_mut().map(|finding| &mut finding.place) {
        let path = place.inode.and_then(|ino| paths.get(&ino));
        place.path = path.filter(|path| !path.is_empty()).cloned();
        if let (None, Some(block)) = (place.offset, place.block) {
            // A place out of the file system is none on the disk.
            place.offset = (block < layout.blocks).then(|| block * layout.block_size as u64);
        }
    }
    Ok(())
}
