//! Tables of partitions: whether a disk begins with one, so that it can be said why no file
//! system does.
//!
//! Sources: UEFI specification 2.10, section 5 (GPT), and the BIOS's master boot record.

use byteorder::{ByteOrder, LE};

use super::volume::Volume;
use crate::error::{Error, ErrorKind, Result};

const SECTOR: u64 = 512;
/// Where the four entries of a master boot record stand, and how large each is.
const ENTRIES: usize = 446;
const ENTRY: usize = 16;
/// The type of the entry that keeps old programs off a disk with a GPT.
const PROTECTIVE: u8 = 0xee;

/// The place of s_magic, which tells an ext4 file system.
const EXT4_MAGIC: u64 = 1024 + 0x38;

/// Why a disk has no file system, of which no magic number is there.
pub(crate) fn no_file_system(volume: &Volume) -> Error {
    match describe(volume) {
        Ok(None) => Error::new(
            ErrorKind::InvalidDisk,
            "no ext4 file system: its magic number is missing",
        )
        .at_offset(EXT4_MAGIC),
        Ok(Some(partitions)) => Error::unsupported(format!(
            "no ext4 file system at the start of the disk: {partitions}; copy a partition into \
             a file of its own to look at that"
        )),
        Err(error) => error,
    }
}

/// A sentence about the partitions of a disk, if it is divided into some.
fn describe(volume: &Volume) -> Result<Option<String>> {
    let size = volume.virtual_size();
    if size < 2 * SECTOR {
        return Ok(None);
    }
    let mut record = [0; SECTOR as usize];
    volume.read_at(0, &mut record)?;
    let Some(entries) = master_boot_record(&record, size) else {
        return Ok(None);
    };
    if entries.iter().any(|(kind, _)| *kind == PROTECTIVE) && has_gpt(volume)? {
        return Ok(Some("the disk is partitioned (GPT)".to_owned()));
    }
    let starts: Vec<_> = entries.iter().map(|(_, start)| start.to_string()).collect();
    Ok(Some(format!(
        "the disk is partitioned (MBR): partitions begin at byte {}",
        starts.join(", ")
    )))
}

/// The type and the first byte of each partition, if this is the first sector of a disk of
/// `size` bytes that has some. The boot sector of a file system ends alike, and has code there.
fn master_boot_record(sector: &[u8; SECTOR as usize], size: u64) -> Option<Vec<(u8, u64)>> {
    if !sector.ends_with(&[0x55, 0xaa]) {
        return None;
    }
    let mut found = Vec::new();
    for entry in sector.get(ENTRIES..)?.chunks_exact(ENTRY) {
        let (status, kind) = (*entry.first()?, *entry.get(4)?);
        let start = u64::from(LE::read_u32(entry.get(8..)?)) * SECTOR;
        let is_bootable = status & 0x7f == 0;
        match kind {
            0 if entry.iter().all(|byte| *byte == 0) => {}
            _ if kind > 0 && is_bootable && (SECTOR..size).contains(&start) => {
                found.push((kind, start));
            }
            _ => return None,
        }
    }
    (!found.is_empty()).then_some(found)
}

/// Whether the header of a GPT stands in the second sector, of 512 or of 4,096 bytes.
fn has_gpt(volume: &Volume) -> Result<bool> {
    for sector in [512, 4096] {
        let mut signature = [0; 8];
        if sector + signature.len() as u64 <= volume.virtual_size() {
            volume.read_at(sector, &mut signature)?;
            if &signature == b"EFI PART" {
                return Ok(true);
            }
        }
    }
    Ok(false)
}
