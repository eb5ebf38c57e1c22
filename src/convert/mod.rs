//! The pipeline: a layer in, a disk out, a summary back.

mod identity;
mod links;
mod metadata;
mod pipeline;
mod place;
mod walk;

use std::io::Read;
use std::path::Path;

use rayon::ThreadPoolBuilder;

use crate::disk::{Container, DiskFile, DiskOutput, Stream};
use crate::error::{Error, ErrorKind, Result};
use crate::ext4::format::{BLOCK_SIZE, MAX_BLOCKS};
use crate::ext4::writer::{BlockSink, Config, Writer};
use crate::options::{CancelToken, Options};
use crate::summary::{Blob, DiskSummary, Summary, WarningKind};
use pipeline::Read as LayerRead;
use place::{Place, Rules};

/// Converts a layer to a disk.
///
/// The output gets the disk from its first byte on, in any order; after an error what it
/// holds is of no use. [`convert_file`] leaves nothing behind then.
///
/// # Errors
/// See [`ErrorKind`]; every error of an entry names its path and the offset of its header in
/// the uncompressed layer.
// Counted by benches/instructions.
#[inline(never)]
pub fn convert(input: impl Read, output: &dyn DiskOutput, options: &Options) -> Result<Summary> {
    options.check()?;
    let threads = match options.threads {
        0 => std::thread::available_parallelism().map_or(1, usize::from),
        threads => threads,
    };
    let max_blocks = (options.max_size / BLOCK_SIZE as u64).min(MAX_BLOCKS);
    let config = Config {
        max_blocks,
        keep_zeros: options.keep_zeros,
        inline_data: options.inline_data,
        time: options.time,
    };
    let container = Container::new(options.format, options.max_size, options.time)?;
    if threads == 1 {
        let place = place(Stream::inline(output), container, config, options);
        let read = pipeline::inline(input, options, place)?;
        return finish(read, output, options, threads);
    }
    std::thread::scope(|scope| {
        let stream = Stream::threaded(scope, output, 1);
        let place = place(stream, container, config, options);
        let read = pipeline::threaded(scope, input, options, place)?;
        finish(read, output, options, threads)
    })
}

/// Converts a layer to a disk in a file, which appears whole or not at all.
///
/// An existing regular file is replaced when all is done; after an error it is as it was.
///
/// # Errors
/// As [`convert`], and if the file cannot be created or published.
pub fn convert_file(
    input: impl Read,
    path: impl AsRef<Path>,
    options: &Options,
) -> Result<Summary> {
    let file = DiskFile::create(path)?;
    let summary = convert(input, &file, options)?;
    file.publish(options.fsync)?;
    Ok(summary)
}

fn place<'a>(
    stream: Stream<'a>,
    container: Container,
    config: Config,
    options: &'a Options,
) -> Place<'a, Blocks<'a>> {
    let sink = Blocks {
        stream,
        container,
        cancel: options.cancel.clone(),
    };
    let rules = Rules {
        whiteouts: options.whiteouts,
        bottom_layer: options.bottom_layer,
        max_entries: options.max_entries,
        lower: options.lower.as_deref(),
    };
    Place::new(Writer::new(sink, config), rules)
}

/// Everything is read: writes what only the end tells.
fn finish(
    read: LayerRead<Blocks<'_>>,
    output: &dyn DiskOutput,
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
    let identity = identity::of(layer.digest, options, placed.answers);
    // Not the caller's own thread, also when it is one: a thread joins a pool once and for all.
    let pool = ThreadPoolBuilder::new().num_threads(threads).build();
    let pool = pool.map_err(|error| {
        Error::new(ErrorKind::Output, "cannot start threads").with_source(error)
    })?;
    let finished = pool.install(|| placed.writer.finish(&identity))?;
    let Blocks {
        mut stream,
        container,
        ..
    } = finished.sink;
    let size = u64::from(finished.blocks) * BLOCK_SIZE as u64;
    let virtual_size = size
        .checked_next_multiple_of(options.align.max(1))
        .filter(|size| *size <= options.max_size)
        .ok_or_else(|| {
            Error::limit(format!(
                "the disk of {size} bytes, aligned to {}, is larger than the maximum size of {}",
                options.align, options.max_size
            ))
        })?;
    let rest = container.finish(
        virtual_size,
        &identity::of_disk(identity.uuid, virtual_size),
    )?;
    for (offset, structure) in &rest.structures {
        stream.write(*offset, structure)?;
    }
    stream.finish()?;
    let len = rest.len;
    output
        .set_len(len)
        .map_err(|error| Error::output("cannot set the size of the disk", error))?;
    let mut all = warnings;
    all.append(placed.warnings);
    Ok(Summary {
        layer,
        compressed,
        compression,
        disk: DiskSummary {
            size: len,
            virtual_size,
            uuid: identity.uuid,
            blocks: finished.blocks.into(),
            inodes: finished.inodes,
        },
        entries: placed.counts,
        warnings: all.into_vec(),
    })
}

fn check_expected(options: &Options, layer: &Blob, compressed: &Blob) -> Result<()> {
    let mismatch = |what: &str, is: &dyn std::fmt::Display, should: &dyn std::fmt::Display| {
        Error::new(
            ErrorKind::Mismatch,
            format!("the {what} is {is}, expected {should}"),
        )
    };
    if let Some(size) = options.expect_size.filter(|size| *size != compressed.size) {
        return Err(mismatch("size of the input", &compressed.size, &size));
    }
    if let Some(digest) = options
        .expect_digest
        .filter(|digest| *digest != compressed.digest)
    {
        return Err(mismatch("digest of the input", &compressed.digest, &digest));
    }
    if let Some(digest) = options
        .expect_diff_id
        .filter(|digest| *digest != layer.digest)
    {
        return Err(mismatch("diff ID of the layer", &layer.digest, &digest));
    }
    Ok(())
}

/// Blocks to bytes of the disk.
pub(crate) struct Blocks<'scope> {
    stream: Stream<'scope>,
    container: Container,
    cancel: CancelToken,
}

impl BlockSink for Blocks<'_> {
    fn write(&mut self, block: u32, data: &[u8]) -> Result<()> {
        self.cancel.check()?;
        let mut offset = u64::from(block) * BLOCK_SIZE as u64;
        let mut rest = data;
        while !rest.is_empty() {
            let (place, len) = self.container.place(offset, rest.len())?;
            let (now, later) = rest.split_at(len);
            self.stream.write(place, now)?;
            offset += len as u64;
            rest = later;
        }
        Ok(())
    }
}

/// What the layer's reader says of an input without a byte.
fn check_empty(options: &Options, warnings: &mut crate::summary::Warnings) -> Result<()> {
    if !options.allow_empty {
        return Err(Error::corrupt("the input is empty"));
    }
    warnings.push(
        WarningKind::EmptyInput,
        b"",
        "the input is empty: so is the file system",
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::MemoryDisk;

    #[test]
    fn one_thread_converts_more_than_once() {
        for threads in [1, 1, 2, 1] {
            let options = Options::new().threads(threads);
            convert(&[0; 1024][..], &MemoryDisk::new(), &options).unwrap();
        }
    }
}
