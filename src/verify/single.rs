//! One inode by itself: the root directory for one who looks at a disk rather than verifying it,
//! and a journal that has to be replayed before the rest can be judged.

use super::blocks::Blocks;
use super::blocks::is_zero;
use super::budget::Budget;
use super::claims::Claims;
use super::findings::{FindingKind, Findings, Place};
use super::groups;
use super::inode::Raw;
use super::inodes::Inodes;
use super::layout::{self, Layout};
use super::start::start_of;
use crate::disk::Volume;
use crate::error::Result;
use crate::ext4::format::{JOURNAL_INO, ROOT_INO};

/// Findings about one inode; more say nothing new.
const MOST: usize = 64;

/// Findings that keep a directory from being read; [`verify`](super::verify) finds the others.
const FATAL: [FindingKind; 8] = [
    FindingKind::Superblock,
    FindingKind::GroupDescriptor,
    FindingKind::Checksum,
    FindingKind::Inode,
    FindingKind::BlockMap,
    FindingKind::Size,
    FindingKind::DirectoryEntry,
    FindingKind::DirectoryIndex,
];

/// Reads the root directory, at most `most_bytes` of it. `None` if a feature is set whose
/// meaning is not known here; else the first thing that is wrong, if anything is.
pub(crate) fn root_directory(
    disk: &Volume,
    most_bytes: u64,
) -> Result<Option<std::result::Result<(), String>>> {
    let start = start_of(disk)?;
    let (superblock, bytes) = start.superblock(disk)?;
    if layout::unknown_features(superblock) != [0; 3] {
        return Ok(None);
    }
    let mut findings = Findings::new(MOST);
    // With a layout the rest of the superblock does not keep the directory from being read.
    if let Some(layout) = layout::check(superblock, bytes, disk.virtual_size(), &mut findings) {
        findings = root_of(disk, &layout, most_bytes)?;
    }
    let problem = findings.kept.into_iter().find(|f| FATAL.contains(&f.kind));
    Ok(Some(problem.map_or(Ok(()), |f| Err(f.to_string()))))
}

fn root_of(disk: &Volume, layout: &Layout, most_bytes: u64) -> Result<Findings> {
    let volume = Blocks {
        disk,
        block_size: layout.block_size,
        count: layout.blocks,
    };
    let mut inodes = Inodes::new(
        volume,
        layout,
        Claims::new(layout.blocks),
        Findings::new(MOST),
    );
    look_at(ROOT_INO, volume, layout, &mut inodes)?;
    let (mut findings, directories) = (inodes.findings, inodes.directories);
    let Some(directory) = directories.first() else {
        findings.add(FindingKind::Inode, Place::inode(ROOT_INO), || {
            "there is no root directory".into()
        });
        return Ok(findings);
    };
    // Extents may say that they cover what they like.
    let mut budget = Budget::new(layout.blocks.min(most_bytes / layout.block_size as u64));
    if budget.take(directory.blocks()) {
        let limit = findings.another();
        findings.append(directory.read(volume, layout, limit)?.findings);
    } else {
        findings.add(FindingKind::Size, Place::inode(ROOT_INO), || {
            "the directory is larger than the disk".into()
        });
    }
    Ok(findings)
}

/// Whether the journal is one that can be replayed: its inode and its superblock. No transaction
/// changes these.
pub(super) fn journal(volume: Blocks<'_>, layout: &Layout, findings: &mut Findings) -> Result<()> {
    if layout.has_outer_journal() {
        return Ok(());
    }
    let limit = findings.another();
    let mut inodes = Inodes::new(volume, layout, Claims::new(layout.blocks), limit);
    look_at(JOURNAL_INO, volume, layout, &mut inodes)?;
    findings.append(inodes.findings);
    Ok(())
}

/// Looks at one of the reserved inodes, for which the first group always has room.
fn look_at(ino: u32, volume: Blocks<'_>, layout: &Layout, inodes: &mut Inodes<'_>) -> Result<()> {
    let mut of_group = inodes.findings.another();
    let group = groups::descriptor(volume, layout, 0, &mut of_group)?;
    let Some(group) = group.filter(|group| group.is_sound) else {
        inodes.findings.append(of_group);
        return Ok(());
    };
    let at = volume.offset(group.inode_table) + u64::from(ino - 1) * layout.inode_size as u64;
    let bytes = volume.disk.read(at, layout.inode_size)?;
    let Some(inode) = Raw::new(ino, &bytes) else {
        return Ok(());
    };
    if let Some(seed) = layout.checksums.seed()
        && !is_zero(&bytes)
        && inode.checksum(seed).is_err()
    {
        inodes
            .findings
            .add(FindingKind::Checksum, Place::inode(ino), || {
                "the inode's checksum is wrong".into()
            });
    }
    inodes.inode(&inode)
}
