//! A scratch disk: an empty file system that a guest mounts and writes to.

use std::path::Path;

use crate::cancel::CancelToken;
use crate::disk::DiskFormat;
use crate::disk::{Container, DiskFile, DiskOutput, Stream, Wrapped};
use crate::error::{Error, ErrorKind, Result};
use crate::ext4::area::BlockSink;
use crate::ext4::capacity::Capacity;
use crate::ext4::format::BLOCK_SIZE;
use crate::ext4::inode::Attributes;
use crate::ext4::parts::Crew;
use crate::ext4::profile::DEFAULT;
use crate::ext4::tree::Ino;
use crate::ext4::writable::Writable;
use crate::ext4::writer::{Config, Writer};
use crate::identity;
use crate::options::{check_size, check_time};
use crate::summary::DiskSummary;

pub use crate::options::ScratchOptions;

/// Makes a disk with an empty ext4 file system, to be mounted and written to.
///
/// It holds `lost+found` and no more. All its tables count as initialised, so that a mount
/// writes nothing but what it must, and the parts of a dynamic disk that are all zero take no
/// place in the file. The same options give the same bytes.
///
/// ```
/// use tar2vhd::disk::MemoryDisk;
/// use tar2vhd::scratch::ScratchOptions;
///
/// let disk = MemoryDisk::new();
/// let summary = tar2vhd::scratch::create(&disk, &ScratchOptions::new())?;
/// assert_eq!(summary.virtual_size, 20 << 30);
/// assert!(disk.into_vec().len() <= 8 << 20);
/// # Ok::<(), tar2vhd::Error>(())
/// ```
///
/// # Errors
/// [`ErrorKind::InvalidOptions`] if an option is out of range, and what the output says.
pub fn create(output: &dyn DiskOutput, options: &ScratchOptions) -> Result<DiskSummary> {
    check(options)?;
    let writable = Writable::new(
        options.size,
        options.inodes,
        options.journal,
        &options.label,
    )?;
    let identity = identity::of_scratch(options);
    let config = Config {
        profile: &DEFAULT,
        max_blocks: writable.blocks,
        keep_zeros: false,
        inline_data: false,
        time: options.time,
        seeded_by: options.compat.then_some(identity.uuid),
        writable: Some(Capacity::Fixed(writable)),
    };
    let container = Container::new(
        options.format,
        options.size,
        Some(options.block_size),
        options.time,
    )?;
    let sink = Blocks {
        disk: Wrapped::new(Stream::inline(output), container, output),
        cancel: &options.cancel,
    };
    let mut writer = Writer::new(sink, config);
    writer.set_attributes(Ino::ROOT, Attributes::of_root(0o755, options.time));
    writer.make_lost_and_found()?;
    let finished = writer.finish(&identity, Crew::ALONE).map_err(too_small)?;
    let zero_end = finished.used_end * BLOCK_SIZE as u64;
    let ids = identity::of_disk(identity.uuid, options.size);
    Ok(DiskSummary {
        size: finished.sink.disk.finish(options.size, zero_end, &ids)?,
        virtual_size: options.size,
        uuid: identity.uuid,
        blocks: finished.blocks,
        inodes: finished.inodes,
    })
}

/// Makes a scratch disk in a file, which appears whole or not at all.
///
/// An existing regular file is replaced when all is done; after an error it is as it was.
///
/// # Errors
/// As [`create`], and if the file cannot be created or published.
pub fn create_file(path: impl AsRef<Path>, options: &ScratchOptions) -> Result<DiskSummary> {
    check(options)?;
    let file = DiskFile::create(path)?;
    let summary = create(&file, options)?;
    file.publish(options.fsync)?;
    Ok(summary)
}

/// Refuses what no disk can be.
fn check(options: &ScratchOptions) -> Result<()> {
    let wrong = |message: String| Err(Error::new(ErrorKind::InvalidOptions, message));
    let ScratchOptions {
        format,
        size,
        block_size,
        time,
        ..
    } = options;
    check_size(*format, *size)?;
    let smallest = match format {
        DiskFormat::Vhd | DiskFormat::VhdDynamic => 4 << 10,
        DiskFormat::Vhdx | DiskFormat::VhdxFixed | DiskFormat::Raw => 1 << 20,
    };
    if !block_size.is_power_of_two() || !(smallest..=256 << 20).contains(block_size) {
        return wrong(format!(
            "blocks of {block_size} bytes; they have a power of two from {smallest} to 256 MiB"
        ));
    }
    check_time(*time)
}

/// The options alone decide whether what every file system has finds room.
fn too_small(error: Error) -> Error {
    match error.kind() {
        ErrorKind::Limit => {
            let same = Error::new(ErrorKind::InvalidOptions, format!("{error:#}"));
            error.option().into_iter().fold(same, Error::allowed_by)
        }
        _ => error,
    }
}

/// Blocks of the file system to bytes of the disk.
struct Blocks<'a> {
    disk: Wrapped<'a>,
    cancel: &'a CancelToken,
}

impl BlockSink for Blocks<'_> {
    fn write(&mut self, block: u64, data: &[u8]) -> Result<()> {
        self.cancel.check()?;
        self.disk.put(block * BLOCK_SIZE as u64, data)
    }
}
