//! The pipeline: a layer in, a disk out, a summary back.

mod blocks;
mod finish;
pub mod flatten;
mod handover;
mod hcsshim;
mod links;
mod metadata;
mod pipeline;
mod place;
mod record;
mod shadow;
mod walk;

use std::io::{self, Read};
use std::path::Path;

use crate::disk::{DiskFile, DiskOutput};
use crate::error::Result;
use crate::ext4::format::{BLOCK_SIZE, MAX_BLOCKS};
use crate::ext4::profile::{DEFAULT, HCSSHIM};
use crate::ext4::writer::Writer;
use crate::identity;
use crate::options::{Options, Profile};
use crate::summary::Summary;
use crate::threads;
use crate::timings::Stage;
use crate::verity::{Hashes, Verity};
use blocks::{Blocks, Outputs, TimedOutput};
use finish::{Finished, check_expected, config, finish_disk};
use hcsshim::Hcsshim;
use pipeline::Read as LayerRead;
use place::{Place, Placed, Rules};

/// Converts a layer to a disk.
///
/// The output gets the disk from its first byte on, in any order; after an error what it
/// holds is of no use. [`convert_file`] leaves nothing behind then.
///
/// # Errors
/// See [`ErrorKind`](crate::ErrorKind); every error of an entry names its path and the offset of its header in
/// the uncompressed layer.
// Counted by benches/instructions.
#[inline(never)]
pub fn convert(input: impl Read, output: &dyn DiskOutput, options: &Options) -> Result<Summary> {
    run(input, output, None, options)
}

/// Converts a layer to a disk, and writes the dm-verity superblock and hash tree of the disk
/// to a device of their own, which gets nothing else.
///
/// The tree is made as [`Options::verity`] says, or as [`Verity::new`] does.
///
/// # Errors
/// As [`convert`].
pub fn convert_with_hash_device(
    input: impl Read,
    output: &dyn DiskOutput,
    hash_device: &dyn DiskOutput,
    options: &Options,
) -> Result<Summary> {
    run(input, output, Some(hash_device), options)
}

fn run(
    input: impl Read,
    disk: &dyn DiskOutput,
    hash_device: Option<&dyn DiskOutput>,
    options: &Options,
) -> Result<Summary> {
    options.check()?;
    let threads = threads::count(options.threads);
    let verity = options.verity.clone();
    let hashes = verity
        .or_else(|| hash_device.map(|_| Verity::new()))
        .map(Hashes::new);
    let disk = &TimedOutput {
        output: disk,
        timings: &options.timings,
    };
    let outputs = Outputs {
        disk,
        hash_device,
        hashes: hashes.as_ref(),
    };
    let timings = &options.timings;
    if threads == 1 {
        let blocks = Blocks::inline(outputs, options)?;
        let read = match options.profile {
            Profile::Default => pipeline::inline(input, options, place(blocks, options)?),
            Profile::Hcsshim => pipeline::inline(input, options, hcsshim(blocks, options)?),
        }?;
        let waited = read.placed.writer.sink().waited();
        timings.was_blocked(Stage::Place, waited);
        return timings.run(Stage::Finish, || finish(read, options, threads));
    }
    std::thread::scope(|scope| {
        let blocks = Blocks::threaded(scope, outputs, options, threads)?;
        let read = match options.profile {
            Profile::Default => {
                pipeline::threaded(scope, input, options, threads, place(blocks, options)?)
            }
            Profile::Hcsshim => {
                pipeline::threaded(scope, input, options, threads, hcsshim(blocks, options)?)
            }
        }?;
        let waited = read.placed.writer.sink().waited();
        timings.was_blocked(Stage::Place, waited);
        timings.run(Stage::Finish, || finish(read, options, threads))
    })
}

/// The dm-verity root hash of the disk that a layer would be, of which nothing is written.
///
/// The tree is made as [`Options::verity`] says, or as [`Verity::new`] does, and would stand
/// behind the file system; the [`verity`](Summary::verity) of the summary is always there.
///
/// # Errors
/// As [`convert`].
pub fn root_hash(input: impl Read, options: &Options) -> Result<Summary> {
    match options.verity {
        Some(_) => run(input, &Nowhere, None, options),
        None => run(
            input,
            &Nowhere,
            None,
            &options.clone().verity(Verity::new()),
        ),
    }
}

/// Where what is only hashed goes.
struct Nowhere;

impl DiskOutput for Nowhere {
    fn write_at(&self, _: u64, _: &[u8]) -> io::Result<()> {
        Ok(())
    }

    fn set_len(&self, _: u64) -> io::Result<()> {
        Ok(())
    }
}

/// Converts a layer to a disk in a file, which appears whole or not at all.
///
/// An existing regular file is replaced when all is done; after an error it is as it was. Where
/// `input` reads a file, `path` must not lead to it: [`convert`] to a
/// [`DiskFile`](crate::disk::DiskFile) that [keeps](crate::disk::DiskFile::keep) the input refuses that.
///
/// # Errors
/// As [`convert`], and if the file cannot be created or published.
pub fn convert_file(
    input: impl Read,
    path: impl AsRef<Path>,
    options: &Options,
) -> Result<Summary> {
    let mut file = DiskFile::create(path)?;
    if options.fsync && options.threads != 1 {
        file.sync_early();
    }
    let summary = convert(input, &file, options)?;
    file.publish(options.fsync)?;
    Ok(summary)
}

fn place<'a>(blocks: Blocks<'a>, options: &'a Options) -> Result<Place<'a, Blocks<'a>>> {
    let rules = Rules {
        whiteouts: options.whiteouts,
        bottom_layer: options.bottom_layer,
        max_entries: options.max_entries,
        lower: options.lower.as_deref(),
    };
    let writer = Writer::new(blocks, config(&DEFAULT, options)?);
    Ok(Place::new(writer, rules))
}

fn hcsshim<'a>(blocks: Blocks<'a>, options: &Options) -> Result<Hcsshim<Blocks<'a>>> {
    let mut config = config(&HCSSHIM, options)?;
    // hcsshim rounds up.
    let most = options.max_size.div_ceil(BLOCK_SIZE as u64);
    config.max_blocks = most.min(MAX_BLOCKS);
    Hcsshim::new(Writer::new(blocks, config), options)
}

/// Everything is read: writes what only the end tells.
fn finish(
    read: LayerRead<Placed<Blocks<'_>>>,
    options: &Options,
    threads: usize,
) -> Result<Summary> {
    let LayerRead {
        placed,
        layer,
        compressed,
        compression,
        warnings,
    } = read;
    check_expected(options, &layer, &compressed)?;
    let identity = identity::of_layer(layer.digest, options, placed.answers);
    let Finished { disk, verity } = finish_disk(placed.writer, &identity, options, threads)?;
    let mut all = warnings;
    all.append(placed.warnings);
    Ok(Summary {
        layer,
        compressed,
        compression,
        disk,
        verity,
        entries: placed.counts,
        depends_on_lower: placed.asks_below,
        warnings: all.into_vec(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::MemoryDisk;

    #[test]
    fn one_thread_converts_more_than_once() {
        for threads in [1, 1, 2, 1] {
            let options = Options::new().threads(threads);
            convert(&[0; 1024][..], &MemoryDisk::new(), &options).unwrap();
        }
    }
}
