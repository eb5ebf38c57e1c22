//! Disks as such, whatever is on them: made empty, or copied from one format to another.

mod contents;
mod convert;
mod create;
mod options;

pub use convert::{convert_disk, convert_disk_file};
pub use create::{create_disk, create_disk_file};
pub use options::DiskOptions;

use vhd_format::vhdx::BlockState;

use crate::disk::{Container, DiskOutput, Stream};
use crate::error::{Error, Result};
use crate::options::DiskFormat;

/// What a new disk is.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct DiskReport {
    /// The format.
    pub format: DiskFormat,
    /// Bytes of the disk's file.
    pub size: u64,
    /// Bytes of the disk as a guest sees it.
    pub virtual_size: u64,
    /// Bytes of the disk in pages of 4 KiB that are not all zero.
    pub data: u64,
    /// What tells the disk from others: a VHD's unique id, a VHDX's virtual disk id. A raw disk
    /// has none.
    pub id: Option<[u8; 16]>,
}

/// Writes all that is not a disk's contents, and says what there is.
fn finish(
    mut container: Container,
    mut stream: Stream<'_>,
    output: &dyn DiskOutput,
    options: &DiskOptions,
    virtual_size: u64,
    contents: &contents::Contents,
    rest: BlockState,
) -> Result<DiskReport> {
    let ids = contents.ids(options, virtual_size);
    container.identify(&ids, rest)?;
    for (offset, structure) in container.structures() {
        options.cancel.check()?;
        stream.write(offset, &structure)?;
    }
    stream.finish()?;
    let size = container.file_size().unwrap_or(virtual_size);
    output
        .set_len(size)
        .map_err(|error| Error::output("cannot set the size of the disk", error))?;
    Ok(DiskReport {
        format: options.format,
        size,
        virtual_size,
        data: contents.len(),
        id: (options.format != DiskFormat::Raw).then_some(ids.disk),
    })
}
