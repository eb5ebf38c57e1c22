//! A disk and its ext4 file system, described, and whether their checksums hold.

mod checks;
mod report;

use vhd_format::Disk;

use crate::disk::DiskFormat;
use crate::disk::{DiskInfo, Volume, no_file_system};
use crate::error::{Error, ErrorKind, Result};
use crate::ext4::features;
use crate::ext4::format::{SUPER_MAGIC, SUPERBLOCK_OFFSET, Superblock};
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
    let (file_system, superblock) = describe(volume)?;
    checks::check(volume, &superblock, &file_system, &mut findings)?;
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

fn invalid(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::InvalidDisk, message)
}

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

/// Reads the superblock. What it says of sizes and numbers is true of `volume` after that:
/// all blocks are there, and they are enough for the descriptors, bitmaps and inode tables
/// of all groups.
fn describe(volume: &Volume) -> Result<(FileSystem, Superblock)> {
    const OFFSET: u64 = SUPERBLOCK_OFFSET as u64;
    if volume.virtual_size() < OFFSET + size_of::<Superblock>() as u64 {
        return Err(invalid("too short for a file system"));
    }
    let mut bytes = [0; size_of::<Superblock>()];
    volume.read_at(OFFSET, &mut bytes)?;
    let superblock: Superblock = zerocopy::transmute!(bytes);
    if superblock.s_magic.get() != SUPER_MAGIC {
        return Err(no_file_system(volume));
    }
    let bad = |what: &str, value: u64| {
        invalid(format!("the superblock gives {value} for {what}")).at_offset(OFFSET)
    };
    let is_64bit = checks::is_64bit(&superblock);
    let joined = |low: u32, high: u32| match is_64bit {
        true => u64::from(high) << 32 | u64::from(low),
        false => u64::from(low),
    };

    let log_block_size = superblock.s_log_block_size.get();
    if log_block_size > 6 {
        return Err(bad(
            "the logarithm of the block size",
            log_block_size.into(),
        ));
    }
    let block_size = 1024_u32 << log_block_size;
    let blocks = joined(
        superblock.s_blocks_count_lo.get(),
        superblock.s_blocks_count_hi.get(),
    );
    let first_block = superblock.s_first_data_block.get();
    if u64::from(first_block) >= blocks || first_block > 1 {
        return Err(bad("the first block", first_block.into()));
    }
    let bytes = blocks.checked_mul(block_size.into());
    if bytes.is_none_or(|bytes| bytes > volume.virtual_size()) {
        return Err(invalid(format!(
            "the file system has {blocks} blocks of {block_size} bytes, but the disk is {} bytes long",
            volume.virtual_size()
        )));
    }
    let bits_per_block = 8 * block_size;
    let blocks_per_cluster = checks::blocks_per_cluster(&superblock).ok_or_else(|| {
        bad(
            "the cluster size",
            superblock.s_log_cluster_size.get().into(),
        )
    })?;
    let blocks_per_group = superblock.s_blocks_per_group.get();
    if blocks_per_group == 0
        || !blocks_per_group.is_multiple_of(blocks_per_cluster)
        || blocks_per_group / blocks_per_cluster > bits_per_block
    {
        return Err(bad("the blocks of a group", blocks_per_group.into()));
    }
    let inodes_per_group = superblock.s_inodes_per_group.get();
    if inodes_per_group == 0 || inodes_per_group > bits_per_block {
        return Err(bad("the inodes of a group", inodes_per_group.into()));
    }
    let inode_size = match superblock.s_rev_level.get() {
        0 => 128,
        _ => superblock.s_inode_size.get(),
    };
    if inode_size < 128 || !inode_size.is_power_of_two() || u32::from(inode_size) > block_size {
        return Err(bad("the size of an inode", inode_size.into()));
    }
    let descriptor_size = checks::descriptor_size(&superblock);
    if !(32..=1024).contains(&descriptor_size) || !descriptor_size.is_power_of_two() {
        return Err(bad(
            "the size of a group descriptor",
            descriptor_size.into(),
        ));
    }

    let groups = (blocks - u64::from(first_block)).div_ceil(blocks_per_group.into());
    let groups = u32::try_from(groups).map_err(|_| bad("the number of blocks", blocks))?;
    let inodes = superblock.s_inodes_count.get();
    if groups.checked_mul(inodes_per_group) != Some(inodes) {
        return Err(bad("the number of inodes", inodes.into()));
    }
    // From here on time and memory are bounded by the size of the disk.
    let table_blocks =
        (u64::from(inodes_per_group) * u64::from(inode_size)).div_ceil(block_size.into());
    let descriptor_blocks =
        (u64::from(groups) * u64::from(descriptor_size)).div_ceil(block_size.into());
    let tables = u64::from(groups) * (table_blocks + 2);
    if tables + descriptor_blocks + u64::from(first_block) >= blocks {
        return Err(invalid(format!(
            "{blocks} blocks are too few for the tables of {groups} groups with {inodes_per_group} inodes each"
        )));
    }

    let free_blocks = joined(
        superblock.s_free_blocks_count_lo.get(),
        superblock.s_free_blocks_count_hi.get(),
    );
    let time = |low: u32, high: u8| u64::from(high) << 32 | u64::from(low);
    let label = &superblock.s_volume_name;
    let file_system = FileSystem {
        uuid: superblock.s_uuid,
        label: label[..label.iter().position(|&b| b == 0).unwrap_or(label.len())].to_vec(),
        features: features::names(&superblock),
        block_size,
        blocks,
        free_blocks,
        inodes,
        free_inodes: superblock.s_free_inodes_count.get(),
        inode_size,
        groups,
        blocks_per_group,
        inodes_per_group,
        created: time(superblock.s_mkfs_time.get(), superblock.s_mkfs_time_hi),
        written: time(superblock.s_wtime.get(), superblock.s_wtime_hi),
        checked: time(superblock.s_lastcheck.get(), superblock.s_lastcheck_hi),
    };
    Ok((file_system, superblock))
}
