//! A disk and its ext4 file system, described, and whether their checksums hold.

mod checks;
mod report;

use vhd_format::Disk;
use zerocopy::little_endian::U32;

use crate::disk::DiskFormat;
use crate::disk::{DiskInfo, Volume};
use crate::error::{ErrorKind, Result};
use crate::ext4::features;
use crate::ext4::format::Superblock;
use crate::reader::{Geometry, joined};
use report::Findings;
pub use report::{Checks, FileSystem, Tally};

/// A disk and its file system, and whether their checksums hold.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Inspection {
    /// The format of the disk file.
    pub disk: DiskInfo,
    /// The file system.
    pub file_system: FileSystem,
    /// The checks made.
    pub checks: Checks,
    /// The first 100 errors, one line each.
    pub problems: Vec<String>,
}

impl Volume {
    /// Looks into a disk that holds an ext4 file system.
    ///
    /// Damage that leaves the file system recognisable is counted in [`Inspection::checks`].
    ///
    /// # Errors
    /// [`ErrorKind::InvalidDisk`] if there is no ext4 file system that could be described,
    /// [`ErrorKind::Unsupported`] if the disk is partitioned, [`ErrorKind::Input`] if it cannot be
    /// read.
    pub fn inspect(&self) -> Result<Inspection> {
        self.named(inspect(self))
    }
}

fn inspect(volume: &Volume) -> Result<Inspection> {
    let mut findings = Findings::default();
    check_footer(volume, &mut findings);
    check_structures(volume, &mut findings)?;
    let (file_system, geometry, superblock) = describe(volume)?;
    checks::check(volume, &superblock, &geometry, &mut findings)?;
    if checks::root_can_be_read(&superblock, &findings) {
        checks::read_root(volume, &mut findings)?;
    }
    volume.check_size()?;
    Ok(Inspection {
        disk: volume.info()?,
        file_system,
        checks: findings.checks,
        problems: findings.problems,
    })
}

const SECTOR: u64 = vhd_format::vhd::SECTOR_SIZE;
/// Bytes of the footers of old programs, whose last byte is missing.
const SHORT_FOOTER: u64 = SECTOR - 1;

/// Holds the footer of a VHD against the file.
fn check_footer(volume: &Volume, findings: &mut Findings) {
    if let Some(damage) = volume.footer_damage() {
        findings.check(|checks| &mut checks.footer, false, || format!("{damage:#}"));
    }
    let Disk::Vhd(disk) = volume.disk() else {
        return;
    };
    let says = disk.virtual_size();
    let has = match volume.format() {
        DiskFormat::Vhd => (volume.file_size() - SHORT_FOOTER) / SECTOR * SECTOR,
        _ => says,
    };
    findings.check(
        |checks| &mut checks.footer,
        says == has,
        || format!("the VHD footer tells of {says} bytes, where there are {has}"),
    );
}

/// Looks for what is wrong with the structures of a dynamic disk although it could be opened.
fn check_structures(volume: &Volume, findings: &mut Findings) -> Result<()> {
    let structures: fn(&mut Checks) -> &mut Tally = |checks| &mut checks.structures;
    // The copies that there are, and the entries of the table of blocks.
    let all = match volume.disk() {
        Disk::Vhdx(disk) => 2 + 2 + disk.blocks(),
        Disk::Vhd(disk) => match disk.block_size() {
            Some(block_size) => 1 + disk.virtual_size().div_ceil(block_size.into()),
            None => return Ok(()),
        },
        _ => return Ok(()),
    };
    let finished = volume.disk().check(|damage| {
        findings.check(structures, false, || format!("{damage:#}"));
    });
    if let Err(e) = finished {
        let e = volume.failed(&e);
        if e.kind() == ErrorKind::Input {
            return Err(e);
        }
        findings.check(structures, false, || format!("{e:#}"));
    }
    let tally = structures(&mut findings.checks);
    tally.checked = tally.failed.max(all);
    Ok(())
}

/// Reads the superblock, and describes the file system.
fn describe(volume: &Volume) -> Result<(FileSystem, Geometry, Superblock)> {
    let (geometry, superblock) = Geometry::read(volume)?;
    let time = |low: U32, high: u8| u64::from(high) << 32 | u64::from(low.get());
    let label = &superblock.s_volume_name;
    let file_system = FileSystem {
        uuid: superblock.s_uuid,
        label: label[..label.iter().position(|&b| b == 0).unwrap_or(label.len())].to_vec(),
        features: features::names(&superblock),
        block_size: geometry.block_size,
        blocks: geometry.blocks,
        free_blocks: joined(
            &superblock,
            superblock.s_free_blocks_count_lo.get(),
            superblock.s_free_blocks_count_hi.get(),
        ),
        inodes: geometry.inodes,
        free_inodes: superblock.s_free_inodes_count.get(),
        inode_size: geometry.inode_size,
        groups: geometry.groups,
        blocks_per_group: geometry.blocks_per_group,
        inodes_per_group: geometry.inodes_per_group,
        created: time(superblock.s_mkfs_time, superblock.s_mkfs_time_hi),
        written: time(superblock.s_wtime, superblock.s_wtime_hi),
        checked: time(superblock.s_lastcheck, superblock.s_lastcheck_hi),
    };
    Ok((file_system, geometry, superblock))
}
