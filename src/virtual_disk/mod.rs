//! Disks as such, whatever is on them: made empty, or copied from one format to another.

mod contents;
mod convert;
mod create;
mod options;

pub use create::{create, create_file};
pub use options::DiskOptions;

use contents::Contents;

use crate::disk::DiskFormat;
use crate::disk::Wrapped;
use crate::error::Result;

/// A disk that was made.
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
    /// The id of the disk: a VHD's unique id, a VHDX's virtual disk id. A raw disk
    /// has none.
    pub id: Option<[u8; 16]>,
}

/// Ends a disk, which reads as zero before `zero_end` where nothing was put.
fn finish(
    disk: Wrapped<'_>,
    virtual_size: u64,
    zero_end: u64,
    contents: &Contents,
    options: &DiskOptions,
) -> Result<DiskReport> {
    let ids = contents.ids(options, virtual_size);
    Ok(DiskReport {
        format: options.format,
        size: disk.finish(virtual_size, zero_end, &ids)?,
        virtual_size,
        data: contents.len(),
        id: (options.format != DiskFormat::Raw).then_some(ids.disk),
    })
}
