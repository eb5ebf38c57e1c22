//! Decompression, digests and placing: as stages on threads of their own, or one after the
//! other for each chunk, with the same result.

use std::cell::RefCell;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::{Scope, ScopedJoinHandle};

use super::blocks::STAGES;
use super::handover::{Digests, handover};
use super::place::Placing;
use crate::buffer::chunk::{Chunk, Pool};
use crate::error::{Error, Result};
use crate::layer::{ChunkSource, Decoder, DecoderConfig, Entries, Entry, PART_MIN};
use crate::options::{Options, Progress};
use crate::summary::{Blob, Compression, WarningKind, Warnings};
use crate::threads;
use crate::timings::{Stage, Timings};

/// A layer that was read to its end.
pub(super) struct Read<T> {
    /// The result of placing.
    pub placed: T,
    pub layer: Blob,
    pub compressed: Blob,
    pub compression: Compression,
    /// Warnings of the reader.
    pub warnings: Warnings,
}

/// Reads a layer on this thread alone.
pub(super) fn inline<P: Placing>(
    input: impl io::Read,
    options: &Options,
    place: P,
) -> Result<Read<P::Placed>> {
    let timings = &options.timings;
    let digests = RefCell::new(Waiting::default());
    let mut decoder = decoder(input, options)?;
    let compression = decoder.compression();
    decoder.tap(|chunk| {
        // Not a part of decompression, within which it is done.
        timings.block(Stage::Decompress, || {
            timings.run(Stage::Digest, || digests.borrow_mut().add_blob(chunk));
        });
        timings.count(Stage::Digest, chunk.len());
        options.cancel.check()
    })?;
    let entries = AtomicU64::new(0);
    let source = Inline {
        decoder,
        digests: &digests,
        meter: Meter::new(options, &entries),
    };
    let read = || read(source, options, place, &entries);
    let (_, placed, warnings) = timings.run(Stage::Place, read)?;
    let digests = timings.run(Stage::Digest, || digests.take().all());
    let (layer, compressed) = digests.finish(compression);
    Ok(Read {
        placed,
        layer,
        compressed,
        compression,
        warnings,
    })
}

/// Reads a layer with decompression on this thread and placing on another, digests on whichever
/// has time, or on a third if there may be one.
pub(super) fn threaded<'scope, P: Placing<Placed: Send + 'scope> + Send + 'scope>(
    scope: &'scope Scope<'scope, '_>,
    input: impl io::Read,
    options: &'scope Options,
    threads: usize,
    place: P,
) -> Result<Read<P::Placed>> {
    let timings = &options.timings;
    let (giver, taker) = handover(timings);
    let mut decoder = decoder(input, options)?;
    let compression = decoder.compression();
    // Each of the stages has a thread before decoding has more. This one mostly waits for those.
    if threads >= STAGES {
        decoder.look_ahead(PART_MIN, |work| {
            threads::spawn(scope, "decode", work).is_ok()
        });
    }
    let entries = Arc::new(AtomicU64::new(0));
    let placing = threads::spawn(scope, "place", {
        let entries = Arc::clone(&entries);
        move || {
            let read = || read(taker, options, place, &entries);
            let (_, placed, warnings) = timings.run(Stage::Place, read)?;
            Ok((placed, warnings))
        }
    })?;
    let shared = giver.shared();
    // Without this thread the other two compute the digests.
    let digesting = (threads > 2).then(|| {
        let shared = Arc::clone(&shared);
        threads::spawn(scope, "digest", move || shared.digest_all()).ok()
    });
    decoder.tap(|chunk| {
        match timings.block(Stage::Decompress, || giver.give_blob(chunk)) {
            true => options.cancel.check(),
            // Placing failed, and its error is the one that is told.
            false => Err(Error::cancelled()),
        }
    })?;
    let mut meter = Meter::new(options, &entries);
    timings.run(Stage::Decompress, || {
        loop {
            let next = options.cancel.check().and_then(|()| decoder.next_chunk());
            let Some(next) = next.transpose() else { break };
            if let Ok(chunk) = &next {
                timings.count(Stage::Decompress, chunk.len());
                meter.count(decoder.input_bytes(), chunk);
            }
            let failed = next.is_err();
            let wanted = timings.block(Stage::Decompress, || giver.give(next));
            if failed || !wanted {
                break;
            }
        }
    });
    drop(decoder);
    drop(giver);
    let digests = shared.take_digests();
    let (placed, warnings) = join(placing)?;
    if let Some(digesting) = digesting.flatten() {
        join(digesting);
    }
    let (layer, compressed) = digests.finish(compression);
    Ok(Read {
        placed,
        layer,
        compressed,
        compression,
        warnings,
    })
}

fn decoder<'t>(input: impl io::Read + 't, options: &'t Options) -> Result<Decoder<'t>> {
    let input = TimedRead {
        input,
        timings: &options.timings,
    };
    let config = DecoderConfig {
        expected: options.compression,
        max_window: options.max_window,
        inflater: options.inflater,
    };
    Decoder::new(input, config, Pool::new())
}

/// An input of which it is known how long it lets the decoder wait.
struct TimedRead<'a, R> {
    input: R,
    timings: &'a Timings,
}

impl<R: io::Read> io::Read for TimedRead<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = || self.input.read(buffer);
        self.timings.starve(Stage::Decompress, read)
    }
}

/// A thread's result; its panic goes on here.
fn join<T>(thread: ScopedJoinHandle<'_, T>) -> T {
    thread
        .join()
        .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// Places all entries of a source.
fn read<C: ChunkSource, P: Placing>(
    source: C,
    options: &Options,
    mut place: P,
    placed: &AtomicU64,
) -> Result<(C, P::Placed, Warnings)> {
    let mut entries = Entries::new(source, options.max_entries)
        .reading(options.reading())
        .accept_all(options.faithful);
    let mut entry = Entry::default();
    while entries.next(&mut entry)? {
        place.entry(&entry, &mut entries)?;
        placed.fetch_add(1, Ordering::Relaxed);
    }
    let is_empty = entries.is_empty();
    let (source, mut warnings) = entries.finish()?;
    if is_empty {
        check_empty(options, &mut warnings)?;
    }
    Ok((source, place.finish()?, warnings))
}

/// Judges an input without a byte.
fn check_empty(options: &Options, warnings: &mut Warnings) -> Result<()> {
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

/// Tells how far a conversion has come.
struct Meter<'a> {
    options: &'a Options,
    entries: &'a AtomicU64,
    layer_bytes: u64,
}

impl<'a> Meter<'a> {
    fn new(options: &'a Options, entries: &'a AtomicU64) -> Self {
        Self {
            options,
            entries,
            layer_bytes: 0,
        }
    }

    fn count(&mut self, input_bytes: u64, chunk: &[u8]) {
        self.layer_bytes += chunk.len() as u64;
        if let Some(progress) = &self.options.progress {
            let entries = self.entries.load(Ordering::Relaxed);
            progress(Progress {
                input_bytes,
                layer_bytes: self.layer_bytes,
                entries,
            });
        }
    }
}

/// Digests, and a chunk of the blob that waits to be digested beside one of the layer.
#[derive(Default)]
struct Waiting {
    digests: Digests,
    blob: Option<Chunk>,
}

impl Waiting {
    fn add_blob(&mut self, chunk: &Chunk) {
        let before = self.blob.replace(chunk.clone());
        self.digests.update(None, before.as_ref());
    }

    fn add_layer(&mut self, chunk: &Chunk) {
        self.digests.update(Some(chunk), self.blob.take().as_ref());
    }

    /// The digests, with what still waited.
    fn all(mut self) -> Digests {
        self.digests.update(None, self.blob.as_ref());
        self.digests
    }
}

/// Chunks that are digested as they come out of the decoder.
struct Inline<'a> {
    decoder: Decoder<'a>,
    digests: &'a RefCell<Waiting>,
    meter: Meter<'a>,
}

impl ChunkSource for Inline<'_> {
    // Counted by benches/instructions.
    #[inline(never)]
    fn next_chunk(&mut self) -> Result<Option<Chunk>> {
        let Self {
            decoder,
            digests,
            meter,
        } = self;
        let timings = &meter.options.timings;
        meter.options.cancel.check()?;
        timings.starve(Stage::Place, || {
            let Some(chunk) = timings.run(Stage::Decompress, || decoder.next_chunk())? else {
                return Ok(None);
            };
            timings.count(Stage::Decompress, chunk.len());
            let digest = || digests.borrow_mut().add_layer(&chunk);
            timings.run(Stage::Digest, digest);
            timings.count(Stage::Digest, chunk.len());
            meter.count(decoder.input_bytes(), &chunk);
            timings.count(Stage::Place, chunk.len());
            Ok(Some(chunk))
        })
    }
}
