//! A disk, checked to the bottom.
//!
//! Shares the declarations of structures with the writer, and reads them by code of its own.

mod acl;
mod attributes;
mod bitmaps;
mod block_map;
mod blocks;
mod checksum;
mod claims;
mod directories;
mod findings;
mod groups;
mod hash;
mod inode;
mod inodes;
mod layout;
mod special;
mod tree;
#[cfg(test)]
mod unreadable;

use std::collections::BTreeMap;
use std::path::Path;

use crate::disk::Volume;
use crate::error::{Error, ErrorKind, Result};
use crate::ext4::format::SUPERBLOCK_OFFSET;
use crate::inspect::features;
use crate::options::DiskFormat;
use crate::summary::Digest;
use crate::threads;
use crate::verity::check_verity;
use bitmaps::Bitmaps;
use blocks::Blocks;
use claims::{Claims, Owner};
use findings::Findings;
use inodes::Inodes;
use layout::Layout;
use tree::Tree;

pub use findings::{Finding, FindingKind, Place};

/// How to verify a disk.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct VerifyOptions {
    max_findings: usize,
    root_hash: Option<Digest>,
}

impl Default for VerifyOptions {
    fn default() -> Self {
        Self {
            max_findings: 1000,
            root_hash: None,
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
}

/// What is to be said of a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Verdict {
    /// Everything was checked, and nothing is wrong.
    Clean,
    /// Something is wrong.
    Damaged,
    /// Nothing was found to be wrong, but not everything could be checked.
    Undecided,
}

impl Verdict {
    /// A name for programs.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Clean => "clean",
            Self::Damaged => "damaged",
            Self::Undecided => "undecided",
        }
    }
}

/// What was found when a disk was verified.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Verification {
    /// Bytes of the file, what the disk is wrapped in included.
    pub size: u64,
    /// Bytes of the disk that a guest sees.
    pub virtual_size: u64,
    /// What the disk is wrapped in.
    pub format: DiskFormat,
    /// What is wrong, in the order in which it was found: the superblock first, the counts
    /// last.
    pub findings: Vec<Finding>,
    /// Findings that are not listed, because there are too many.
    pub omitted: u64,
    /// Where the VHD or VHDX departs from its specification in what most readers do not mind, a
    /// sentence each.
    pub notes: Vec<String>,
    /// What was not checked, although it is there.
    pub unchecked: Vec<String>,
    /// What was looked at.
    pub examined: Examined,
    is_decided: bool,
}

/// How much was looked at.
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
        match (
            self.findings.is_empty() && self.omitted == 0,
            self.is_decided,
        ) {
            (false, _) => Verdict::Damaged,
            (true, true) => Verdict::Clean,
            (true, false) => Verdict::Undecided,
        }
    }
}

/// Verifies a disk file to the bottom: the structures of a VHD or VHDX, then the ext4 inside,
/// of this crate's making or another's.
///
/// It says what `e2fsck -fn` would, and some things more: attributes and names that the kernel
/// would not find, values of attributes with holes. Nothing is written. The time is linear in
/// the metadata, and the memory in the inodes and runs of blocks, whatever the disk claims.
/// What is in files, in the journal and behind the file system is not looked at, unless there
/// is a root hash to check it against. Nor is the file system, if blocks of the VHD or VHDX lie
/// over each other.
///
/// # Errors
/// [`ErrorKind::InvalidDisk`] if the disk cannot be opened or there is no ext4 file system,
/// [`ErrorKind::Unsupported`] if the disk is of another kind, [`ErrorKind::Input`] if the file
/// cannot be read. Everything else that is wrong is a [`Finding`].
pub fn verify(path: impl AsRef<Path>, options: &VerifyOptions) -> Result<Verification> {
    let path = path.as_ref();
    Volume::open(path)
        .and_then(|disk| verify_volume(&disk, options))
        .map_err(|error| error.in_file(path))
}

/// Verifies a disk as [`verify`] does, in memory.
///
/// # Errors
/// As [`verify`] does.
pub fn verify_bytes(
    disk: impl AsRef<[u8]> + Send + Sync + 'static,
    options: &VerifyOptions,
) -> Result<Verification> {
    verify_volume(&Volume::from_bytes(disk)?, options)
}

/// Verifies a disk as [`verify`] does, that was opened before: with its parents, say.
///
/// # Errors
/// As [`verify`] does.
pub fn verify_volume(disk: &Volume, options: &VerifyOptions) -> Result<Verification> {
    threads::shared(|| verify_all(disk, options))
}

fn verify_all(disk: &Volume, options: &VerifyOptions) -> Result<Verification> {
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
    };
    let mut unchecked = Unchecked::default();
    let findings = match overlaps {
        // A file that names one of its blocks again and again is a disk of any size, all of
        // which would have to be read.
        true => findings,
        false => file_system(
            disk,
            options.root_hash.as_ref(),
            findings,
            &mut unchecked,
            &mut verification.examined,
        )?,
    };
    disk.check_size()?;
    verification.findings = findings.kept;
    verification.omitted = findings.omitted;
    verification.is_decided = !unchecked.is_essential;
    verification.unchecked = unchecked.what;
    Ok(verification)
}

fn file_system(
    disk: &Volume,
    root_hash: Option<&Digest>,
    mut findings: Findings,
    unchecked: &mut Unchecked,
    examined: &mut Examined,
) -> Result<Findings> {
    let invalid = |message: &str| Error::new(ErrorKind::InvalidDisk, message);
    const END: usize = SUPERBLOCK_OFFSET + 1024;
    if disk.virtual_size() < END as u64 {
        return Err(invalid("too short for a file system"));
    }
    let mut start = [0; END];
    disk.read_at(0, &mut start)?;
    let superblock = layout::find(&start).ok_or_else(|| {
        invalid("no ext4 file system: its magic number is missing")
            .at_offset(SUPERBLOCK_OFFSET as u64 + 0x38)
    })?;
    let Some(bytes) = start.last_chunk::<1024>() else {
        return Err(invalid("too short for a file system"));
    };
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
    if let Some(root_hash) = root_hash {
        let end = volume.offset(layout.blocks);
        check_hashes(disk, end, root_hash, &mut findings)?;
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

/// Checks all blocks against the hash tree that starts where the file system ends.
fn check_hashes(
    disk: &Volume,
    end: u64,
    root_hash: &Digest,
    findings: &mut Findings,
) -> Result<()> {
    let read = |offset: u64, buffer: &mut [u8]| {
        disk.read_at(offset, buffer).map_err(std::io::Error::other)
    };
    let mut wrong = |offset, message: String| {
        findings.add(FindingKind::Verity, Place::offset(offset), || message);
    };
    match check_verity(&read, &read, end) {
        Err(e) if e.kind() == ErrorKind::Input => return Err(e),
        Err(e) => wrong(end, format!("{e:#}")),
        Ok(found) => {
            if let Some(bad) = found.first_bad {
                wrong(bad.offset, "a block is not as its hash says".into());
            }
            if found.root_hash != *root_hash {
                wrong(
                    end,
                    format!("the root hash is {}, not {root_hash}", found.root_hash),
                );
            }
            if found.data_blocks.checked_mul(4096) != Some(end) {
                wrong(
                    end,
                    format!("the hashes are of {} blocks, not all", found.data_blocks),
                );
            }
        }
    }
    Ok(())
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

/// Blocks that may still be read for the contents of directories and values: no more than the
/// file system has, even if inodes share them.
struct Budget(u64);

impl Budget {
    fn new(blocks: u64) -> Self {
        Self(blocks)
    }

    fn take(&mut self, blocks: u64) -> bool {
        let rest = self.0.checked_sub(blocks);
        self.0 = rest.unwrap_or(self.0);
        rest.is_some()
    }
}

/// What was not checked.
#[derive(Debug, Default)]
struct Unchecked {
    what: Vec<String>,
    /// Whether damage may have been missed.
    is_essential: bool,
}

impl Unchecked {
    /// Notes something that is contents rather than structure.
    fn note(&mut self, what: impl Into<String>) {
        let what = what.into();
        if !self.what.contains(&what) {
            self.what.push(what);
        }
    }

    /// Notes something without which there is no verdict.
    fn essential(&mut self, what: impl Into<String>) {
        self.is_essential = true;
        self.note(what);
    }

    fn append(&mut self, other: Self) {
        self.is_essential |= other.is_essential;
        for what in other.what {
            self.note(what);
        }
    }
}
