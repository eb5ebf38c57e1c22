use std::path::Path;

use super::contents::Contents;
use super::{DiskOptions, DiskReport, finish};
use crate::disk::{Container, DiskFile, DiskOutput, Stream, Wrapped};
use crate::error::{Error, ErrorKind, Result};

/// Makes an empty disk of `size` bytes.
///
/// It reads as zeros, and only a fixed VHDX or VHD takes the space of its blocks, where the file
/// system has no holes.
///
/// # Errors
/// [`ErrorKind::InvalidOptions`] if the size or another option is out of range, and what the
/// output says.
pub fn create(size: u64, output: &dyn DiskOutput, options: &DiskOptions) -> Result<DiskReport> {
    check(size, options)?;
    let container = Container::shaped(&options.shape(size))?;
    let disk = Wrapped::new(Stream::inline(output), container, output);
    // As Windows leaves the blocks of a new disk: there is nothing in them to be kept.
    let zero_end = 0;
    finish(
        disk,
        size,
        zero_end,
        &Contents::new(options.format),
        options,
    )
}

/// Makes an empty disk in a file, which appears whole or not at all.
///
/// An existing regular file is replaced when all is done; after an error it is as it was.
///
/// # Errors
/// As [`create`], and if the file cannot be created or published.
pub fn create_file(size: u64, path: impl AsRef<Path>, options: &DiskOptions) -> Result<DiskReport> {
    check(size, options)?;
    let file = DiskFile::create(path)?;
    let report = create(size, &file, options)?;
    file.publish(options.fsync)?;
    Ok(report)
}

/// The size is an option like others here.
fn check(size: u64, options: &DiskOptions) -> Result<()> {
    options.check(size).map_err(|error| match error.kind() {
        ErrorKind::Limit => Error::new(ErrorKind::InvalidOptions, format!("{error:#}")),
        _ => error,
    })
}
