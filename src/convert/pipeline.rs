//! Decompression, digests and placing: as stages on threads of their own, or one after the
//! other for each chunk, with the same result.

use std::cell::RefCell;
use std::io;
use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread::{Scope, ScopedJoinHandle};

use super::check_empty;
use super::place::{Placed, Placing};
use crate::chunk::{Chunk, Pool};
use crate::error::Result;
use crate::layer::{BlobHasher, ChunkSource, Decoder, DecoderConfig, Entries, Entry};
use crate::options::{Options, Progress};
use crate::summary::{Blob, Compression, Warnings};
use crate::timings::{Stage, Timings};

/// A layer that was read to its end.
pub(super) struct Read<S> {
    pub placed: Placed<S>,
    pub layer: Blob,
    pub compressed: Blob,
    pub compression: Compression,
    /// What the reader warned of.
    pub warnings: Warnings,
}

/// Chunks that may wait between two stages.
const QUEUE: usize = 8;

/// Reads a layer on this thread alone.
pub(super) fn inline<P: Placing>(
    input: impl io::Read,
    options: &Options,
    place: P,
) -> Result<Read<P::Sink>> {
    let timings = &options.timings;
    let blob = RefCell::new(BlobHasher::new());
    let mut decoder = decoder(input, options)?;
    let compression = decoder.compression();
    decoder.tap(|chunk| {
        // Not a part of decompression, within which it is done.
        timings.block(Stage::Decompress, || {
            timings.run(Stage::Digest, || blob.borrow_mut().update(chunk));
        });
        timings.count(Stage::Digest, chunk.len());
        options.cancel.check()
    })?;
    let entries = AtomicU64::new(0);
    let source = Inline {
        decoder,
        layer: BlobHasher::new(),
        meter: Meter::new(options, &entries),
    };
    let read = || read(source, options, place, &entries);
    let (source, placed, warnings) = timings.run(Stage::Place, read)?;
    let digests = Digests {
        layer: source.layer,
        blob: blob.take(),
    };
    let (layer, compressed) = digests.finish(compression);
    Ok(Read {
        placed,
        layer,
        compressed,
        compression,
        warnings,
    })
}

/// Reads a layer with decompression on this thread, digests and placing on others.
pub(super) fn threaded<'scope, P: Placing<Sink: Send + 'scope> + Send + 'scope>(
    scope: &'scope Scope<'scope, '_>,
    input: impl io::Read,
    options: &'scope Options,
    place: P,
) -> Result<Read<P::Sink>> {
    let timings = &options.timings;
    let mut decoder = decoder(input, options)?;
    let compression = decoder.compression();
    let entries = Arc::new(AtomicU64::new(0));
    let (to_place, chunks) = sync_channel(QUEUE);
    let (to_digest, parts) = sync_channel(QUEUE);
    let placing = scope.spawn({
        let entries = Arc::clone(&entries);
        move || {
            let source = Queue { chunks, timings };
            let read = || read(source, options, place, &entries);
            let (_, placed, warnings) = timings.run(Stage::Place, read)?;
            Ok((placed, warnings))
        }
    });
    let digesting = scope.spawn(move || {
        timings.run(Stage::Digest, || {
            let mut digests = Digests::default();
            while let Ok(part) = timings.starve(Stage::Digest, || parts.recv()) {
                digests.update(&part);
                timings.count(Stage::Digest, part.len());
            }
            digests.finish(compression)
        })
    });
    let tap = to_digest.clone();
    decoder.tap(move |chunk| {
        // No queue closes early but when its thread ends early, which joining tells.
        let _ = timings.block(Stage::Decompress, || tap.send(Part::Blob(chunk.clone())));
        options.cancel.check()
    })?;
    let mut meter = Meter::new(options, &entries);
    timings.run(Stage::Decompress, || {
        loop {
            let next = options.cancel.check().and_then(|()| decoder.next_chunk());
            let Some(next) = next.transpose() else { break };
            let failed = next.is_err();
            let sent = timings.block(Stage::Decompress, || {
                if let Ok(chunk) = &next {
                    timings.count(Stage::Decompress, chunk.len());
                    let _ = to_digest.send(Part::Layer(chunk.clone()));
                    meter.count(decoder.input_bytes(), chunk);
                }
                to_place.send(next)
            });
            if sent.is_err() || failed {
                break;
            }
        }
    });
    drop((decoder, to_place, to_digest));
    let placed = join(placing);
    let (layer, compressed) = join(digesting);
    let (placed, warnings) = placed?;
    Ok(Read {
        placed,
        layer,
        compressed,
        compression,
        warnings,
    })
}

fn decoder<'t, R: io::Read>(
    input: R,
    options: &'t Options,
) -> Result<Decoder<'t, TimedRead<'t, R>>> {
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
) -> Result<(C, Placed<P::Sink>, Warnings)> {
    let mut entries = Entries::new(source, options.max_entries).reading(options.reading());
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

/// Chunks that are digested as they come out of the decoder.
struct Inline<'a, R> {
    decoder: Decoder<'a, R>,
    layer: BlobHasher,
    meter: Meter<'a>,
}

impl<R: io::Read> ChunkSource for Inline<'_, R> {
    // Counted by benches/instructions.
    #[inline(never)]
    fn next_chunk(&mut self) -> Result<Option<Chunk>> {
        let Self {
            decoder,
            layer,
            meter,
        } = self;
        let timings = &meter.options.timings;
        meter.options.cancel.check()?;
        timings.starve(Stage::Place, || {
            let Some(chunk) = timings.run(Stage::Decompress, || decoder.next_chunk())? else {
                return Ok(None);
            };
            timings.count(Stage::Decompress, chunk.len());
            timings.run(Stage::Digest, || layer.update(&chunk));
            timings.count(Stage::Digest, chunk.len());
            meter.count(decoder.input_bytes(), &chunk);
            timings.count(Stage::Place, chunk.len());
            Ok(Some(chunk))
        })
    }
}

/// Chunks from the thread that decodes, whose error comes last.
struct Queue<'a> {
    chunks: Receiver<Result<Chunk>>,
    timings: &'a Timings,
}

impl ChunkSource for Queue<'_> {
    fn next_chunk(&mut self) -> Result<Option<Chunk>> {
        let next = self.timings.starve(Stage::Place, || self.chunks.recv());
        let chunk = next.ok().transpose()?;
        self.timings
            .count(Stage::Place, chunk.as_ref().map_or(0, |chunk| chunk.len()));
        Ok(chunk)
    }
}

/// What is digested.
enum Part {
    Blob(Chunk),
    Layer(Chunk),
}

impl Deref for Part {
    type Target = Chunk;

    fn deref(&self) -> &Chunk {
        let (Self::Blob(chunk) | Self::Layer(chunk)) = self;
        chunk
    }
}

/// The digests of the layer and of the blob it comes in, unless they are the same bytes.
#[derive(Default)]
struct Digests {
    layer: BlobHasher,
    blob: BlobHasher,
}

impl Digests {
    fn update(&mut self, part: &Part) {
        match part {
            Part::Layer(chunk) => self.layer.update(chunk),
            Part::Blob(chunk) => self.blob.update(chunk),
        }
    }

    /// The layer's, then the blob's.
    fn finish(self, compression: Compression) -> (Blob, Blob) {
        let layer = self.layer.finish();
        match compression {
            Compression::None => (layer, layer),
            _ => (layer, self.blob.finish()),
        }
    }
}
