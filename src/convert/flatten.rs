//! All layers of an image to one file system.
//!
//! Each layer is read once, the top one first: by then it is known what the layers above hide, and
//! contents that nobody will see are not written. The entries are recorded meanwhile (`Records`),
//! and applied when all are known, the lowest layer first, to one tree (`Place::merging`). So
//! symbolic links of any layer are followed as an extraction of one layer after the other would
//! follow them. Where that shows contents that were taken for hidden, their layers are read again.

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::Scope;

use sha2::{Digest as _, Sha256};

use super::blocks::{Blocks, Outputs, TimedOutput};
use super::finish::{Finished, check_expected, config, finish_disk};
use super::metadata;
use super::pipeline::{self, Read as LayerRead};
use super::place::{Contents, Place, Placed, Placing, Rules, fill};
use super::record::{RECORDS_MAX, Records};
use super::shadow::Shadow;
use super::walk::{clean, split_last};
use crate::disk::DiskOutput;
use crate::error::{Error, ErrorKind, Result};
use crate::ext4::area::BlockSink;
use crate::ext4::inode::{Attributes, Body};
use crate::ext4::profile::DEFAULT;
use crate::ext4::tree::Ino;
use crate::ext4::writer::Writer;
use crate::identity;
use crate::layer::{ChunkSource, Entries, Entry, EntryKind, Whiteout, classify};
use crate::options::{Options, Profile, Progress};
use crate::summary::{
    Blob, Compression, Digest, DiskSummary, EntryCounts, VeritySummary, Warning, Warnings,
};
use crate::threads;
use crate::timings::Stage;
use crate::verity::Hashes;

/// Opens the blob of a layer.
type Open<'a> = Box<dyn Fn() -> io::Result<Box<dyn io::Read>> + 'a>;

/// A layer to be merged with others.
pub struct FlattenLayer<'a> {
    open: Open<'a>,
    compression: Option<Compression>,
    digest: Option<Digest>,
    size: Option<u64>,
    diff_id: Option<Digest>,
}

impl<'a> FlattenLayer<'a> {
    /// A layer whose blob `open` opens. It is called once, and once more if the layer has to be read
    /// again.
    pub fn new<R: io::Read + 'static>(open: impl Fn() -> io::Result<R> + 'a) -> Self {
        Self {
            open: Box::new(move || Ok(Box::new(open()?))),
            compression: None,
            digest: None,
            size: None,
            diff_id: None,
        }
    }

    /// Fails unless the blob has this compression; by default it is told by its first bytes.
    #[must_use]
    pub fn compression(mut self, compression: Compression) -> Self {
        self.compression = Some(compression);
        self
    }

    /// Fails unless the blob has this digest.
    #[must_use]
    pub fn expect_digest(mut self, digest: Digest) -> Self {
        self.digest = Some(digest);
        self
    }

    /// Fails unless the blob has this many bytes.
    #[must_use]
    pub fn expect_size(mut self, bytes: u64) -> Self {
        self.size = Some(bytes);
        self
    }

    /// Fails unless the uncompressed layer has this digest.
    #[must_use]
    pub fn expect_diff_id(mut self, digest: Digest) -> Self {
        self.diff_id = Some(digest);
        self
    }
}

impl fmt::Debug for FlattenLayer<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FlattenLayer")
            .field("compression", &self.compression)
            .field("digest", &self.digest)
            .field("size", &self.size)
            .field("diff_id", &self.diff_id)
            .finish_non_exhaustive()
    }
}

/// A layer that was read.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LayerSummary {
    /// The uncompressed layer; its digest is the diff ID.
    pub layer: Blob,
    /// The blob as it came in.
    pub compressed: Blob,
    /// The compression of the blob.
    pub compression: Compression,
    /// The layer had to be read a second time, for contents that looked hidden and were not.
    pub read_twice: bool,
}

/// The result of merging layers.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct FlattenSummary {
    /// The chain ID of all layers (OCI image specification, "Layer ChainID").
    pub chain_id: Digest,
    /// The layers, the lowest first.
    pub layers: Vec<LayerSummary>,
    /// The disk that was written.
    pub disk: DiskSummary,
    /// The hash tree, if one was asked for.
    pub verity: Option<VeritySummary>,
    /// The entries of the file system; [`tar_entries`](EntryCounts::tar_entries) are those of all
    /// layers.
    pub entries: EntryCounts,
    /// The differences between layers and file system.
    pub warnings: Vec<Warning>,
}

/// Merges layers, the lowest first, to one file system on a disk.
///
/// The tree is the one that overlayfs shows of the layers' disks, and that an extraction of one
/// layer after the other makes: whiteouts and opaque directories take effect and are gone. A
/// directory is as the topmost layer that describes it says. Contents that nobody would see are not
/// written; memory does not grow with contents, and the records of all entries take 1 GiB at most.
///
/// The UUID follows from the [chain ID](FlattenSummary::chain_id) and the options.
///
/// # Errors
/// As [`convert`](crate::convert); [`Error::layer`] says which layer an error is about.
pub fn flatten(
    layers: &[FlattenLayer<'_>],
    disk: &dyn DiskOutput,
    options: &Options,
) -> Result<FlattenSummary> {
    check(layers, options)?;
    let threads = threads::count(options.threads);
    let hashes = options.verity.clone().map(Hashes::new);
    let disk = &TimedOutput {
        output: disk,
        timings: &options.timings,
    };
    let outputs = Outputs {
        disk,
        hash_device: None,
        hashes: hashes.as_ref(),
    };
    let totals = Arc::new(Totals::default());
    let each: Vec<_> = layers
        .iter()
        .map(|layer| of_layer(layer, options, &totals))
        .collect();
    std::thread::scope(|scope| {
        let blocks = match threads {
            1 => Blocks::inline(outputs, options)?,
            _ => Blocks::threaded(scope, outputs, options, threads)?,
        };
        let pass = Pass {
            layers,
            options: &each,
            threads,
            totals: &totals,
        };
        let writer = Writer::new(blocks, config(&DEFAULT, options)?);
        run(&pass, scope, writer, options)
    })
}

fn check(layers: &[FlattenLayer<'_>], options: &Options) -> Result<()> {
    options.check()?;
    let wrong = |message: &str| Err(Error::new(ErrorKind::InvalidOptions, message));
    if options.profile != Profile::Default {
        return wrong("an image is flattened under the default profile alone");
    }
    if !options.whiteouts || options.bottom_layer || options.lower.is_some() {
        return wrong("an image is flattened with its whiteouts and with nothing below it");
    }
    if layers.is_empty() {
        return wrong("an image without layers");
    }
    if layers.len() > usize::from(u16::MAX) {
        return Err(Error::limit(format!("more than {} layers", u16::MAX)));
    }
    Ok(())
}

/// Progress of the layers that are done.
#[derive(Default)]
struct Totals {
    input_bytes: AtomicU64,
    layer_bytes: AtomicU64,
    entries: AtomicU64,
}

/// The options for one layer, whose progress goes on where that of the others ended.
fn of_layer(layer: &FlattenLayer<'_>, options: &Options, totals: &Arc<Totals>) -> Options {
    let mut options = options.clone();
    if let Some(compression) = layer.compression {
        options = options.compression(compression);
    }
    (options.expect_digest, options.expect_size) = (layer.digest, layer.size);
    options.expect_diff_id = layer.diff_id;
    if let Some(progress) = options.progress.take() {
        let totals = Arc::clone(totals);
        options = options.progress(move |now| {
            progress(Progress {
                input_bytes: totals.input_bytes.load(Ordering::Relaxed) + now.input_bytes,
                layer_bytes: totals.layer_bytes.load(Ordering::Relaxed) + now.layer_bytes,
                entries: totals.entries.load(Ordering::Relaxed) + now.entries,
            });
        });
    }
    options
}

/// The layers, each with its options.
struct Pass<'a> {
    layers: &'a [FlattenLayer<'a>],
    options: &'a [Options],
    threads: usize,
    totals: &'a Totals,
}

impl<'a> Pass<'a> {
    /// Reads one layer.
    fn read<'scope, P>(
        &self,
        scope: &'scope Scope<'scope, '_>,
        number: usize,
        place: P,
    ) -> Result<LayerRead<P::Placed>>
    where
        P: Placing<Placed: Send + 'scope> + Send + 'scope,
        'a: 'scope,
    {
        let in_layer = |error: Error| error.in_layer(number);
        let options = &self.options[number];
        let input = (self.layers[number].open)().map_err(|error| in_layer(cannot_open(error)))?;
        let read = match self.threads {
            1 => pipeline::inline(input, options, place),
            threads => pipeline::threaded(scope, input, options, threads, place),
        };
        let read = read.map_err(in_layer)?;
        check_expected(options, &read.layer, &read.compressed).map_err(in_layer)?;
        let totals = self.totals;
        totals
            .input_bytes
            .fetch_add(read.compressed.size, Ordering::Relaxed);
        totals
            .layer_bytes
            .fetch_add(read.layer.size, Ordering::Relaxed);
        Ok(read)
    }
}

fn run<'scope, 'a: 'scope>(
    pass: &Pass<'a>,
    scope: &'scope Scope<'scope, '_>,
    mut writer: Writer<Blocks<'scope>>,
    options: &Options,
) -> Result<FlattenSummary> {
    let mut shadow = Shadow::default();
    let mut records = Vec::new();
    let mut layers = Vec::new();
    let mut warnings = Warnings::default();
    let mut size = 0;
    for number in (0..pass.layers.len()).rev() {
        let recorder = Recorder {
            writer,
            shadow,
            is_lowest: number == 0,
            records: Records::default(),
            records_max: RECORDS_MAX - size,
            entries: 0,
        };
        let read = pass.read(scope, number, recorder)?;
        Recorder { writer, shadow, .. } = read.placed;
        pass.totals
            .entries
            .fetch_add(read.placed.entries, Ordering::Relaxed);
        size += read.placed.records.size();
        records.push(read.placed.records);
        layers.push(LayerSummary {
            layer: read.layer,
            compressed: read.compressed,
            compression: read.compression,
            read_twice: false,
        });
        warnings.append(read.warnings);
    }
    drop(shadow);
    layers.reverse();
    let timings = &options.timings;
    let (placed, missing) = timings.run(Stage::Place, || apply(writer, records, options))?;
    writer = placed.writer;
    warnings.append(placed.warnings);
    for (number, contents) in missing.into_iter().enumerate().rev() {
        let mut contents = contents;
        let tree = writer.tree();
        contents.retain(|_, ino| !matches!(tree.node(*ino).body, Body::Freed));
        if contents.is_empty() {
            continue;
        }
        let refill = Refill {
            writer,
            contents,
            entry: 0,
        };
        let read = pass.read(scope, number, refill)?;
        writer = read.placed;
        if read.layer != layers[number].layer {
            let message = "the layer was another one when it was read a second time";
            return Err(Error::new(ErrorKind::Mismatch, message).in_layer(number));
        }
        layers[number].read_twice = true;
    }
    let chain_id = chain_id(layers.iter().map(|layer| layer.layer.digest));
    let identity = identity::of_image(chain_id, options);
    let finish = || finish_disk(writer, &identity, options, pass.threads);
    let Finished { disk, verity } = timings.run(Stage::Finish, finish)?;
    Ok(FlattenSummary {
        chain_id,
        layers,
        disk,
        verity,
        entries: placed.counts,
        warnings: warnings.into_vec(),
    })
}

/// The error of an opening, which may be one of this crate.
fn cannot_open(error: io::Error) -> Error {
    error.downcast::<Error>().unwrap_or_else(|error| {
        Error::new(ErrorKind::Input, "cannot open the layer").with_source(error)
    })
}

/// The chain ID of layers, the lowest first (OCI image specification, "Layer ChainID").
#[must_use]
pub fn chain_id(diff_ids: impl IntoIterator<Item = Digest>) -> Digest {
    let mut ids = diff_ids.into_iter();
    let first = ids.next().unwrap_or(Digest([0; 32]));
    ids.fold(first, |chain, id| {
        Digest(Sha256::digest(format!("{chain} {id}")).into())
    })
}

/// Writes what the layers above do not hide of a layer's contents, and records its entries.
struct Recorder<S> {
    writer: Writer<S>,
    shadow: Shadow,
    /// There is no layer below that the entries could hide.
    is_lowest: bool,
    records: Records,
    records_max: usize,
    entries: u64,
}

impl<S: BlockSink> Recorder<S> {
    fn record(&mut self, entry: &Entry, source: &mut Entries<impl ChunkSource>) -> Result<()> {
        let path = clean(&entry.path);
        let is_whiteout = !matches!(
            classify(split_last(&path).1),
            Whiteout::No | Whiteout::Hidden
        );
        let contents = match entry.kind {
            EntryKind::File { size } if !is_whiteout && (size == 0 || self.shadow.shows(&path)) => {
                Some(source.make_file(&mut self.writer, Attributes::default(), size)?)
            }
            _ => None,
        };
        if !self.is_lowest {
            self.shadow.note(&path, entry);
        }
        self.records.push(entry, contents);
        self.entries += 1;
        if self.records.size() > self.records_max {
            return Err(Error::limit(format!(
                "the entries of all layers take more than {RECORDS_MAX} bytes of memory"
            )));
        }
        Ok(())
    }
}

impl<S: BlockSink> Placing for Recorder<S> {
    type Placed = Self;

    fn entry(&mut self, entry: &Entry, source: &mut Entries<impl ChunkSource>) -> Result<()> {
        self.record(entry, source)
            .map_err(|error| metadata::in_entry(error, entry))
    }

    fn finish(mut self) -> Result<Self> {
        self.shadow.end_layer();
        self.records.shrink();
        Ok(self)
    }
}

/// Of each layer the files without contents, by the numbers of their entries.
type Missing = Vec<HashMap<u64, Ino>>;

/// Applies the records of all layers, those of the top layer first in the list.
fn apply<S: BlockSink>(
    writer: Writer<S>,
    mut records: Vec<Records>,
    options: &Options,
) -> Result<(Placed<S>, Missing)> {
    let rules = Rules {
        whiteouts: true,
        bottom_layer: false,
        max_entries: options.max_entries,
        lower: None,
    };
    let mut place = Place::merging(writer, rules);
    let mut missing = Missing::new();
    let mut entry = Entry::default();
    while let Some(records) = records.pop() {
        let number = missing.len();
        let in_layer = |error: Error| error.in_layer(number);
        place.begin_layer(number as u16).map_err(in_layer)?;
        let mut without = HashMap::new();
        let mut reader = records.read();
        let mut count = 0;
        while let Some(contents) = reader.next(&mut entry)? {
            if count % 4096 == 0 {
                options.cancel.check()?;
            }
            let found = place.writer().tree().get(contents).map(|(ino, _)| ino);
            let mut recorded = Recorded {
                contents: found.filter(|_| contents != 0),
                missing: None,
            };
            place.apply(&entry, &mut recorded).map_err(in_layer)?;
            without.extend(recorded.missing.map(|ino| (count, ino)));
            count += 1;
        }
        missing.push(without);
    }
    let last = missing.len() - 1;
    let placed = place.finish().map_err(|error| error.in_layer(last))?;
    Ok((placed, missing))
}

/// Contents that were written when the entry was recorded, or were left out.
struct Recorded {
    contents: Option<Ino>,
    /// The inode that was made without contents.
    missing: Option<Ino>,
}

impl<S: BlockSink> Contents<S> for Recorded {
    fn make_file(&mut self, writer: &mut Writer<S>, attributes: Attributes, _: u64) -> Result<Ino> {
        if let Some(ino) = self.contents {
            writer.set_attributes(ino, attributes);
            return Ok(ino);
        }
        let ino = writer.make_file(attributes)?;
        self.missing = Some(ino);
        Ok(ino)
    }
}

/// Writes contents that were left out.
struct Refill<S> {
    writer: Writer<S>,
    /// By the numbers of the entries.
    contents: HashMap<u64, Ino>,
    entry: u64,
}

impl<S: BlockSink> Placing for Refill<S> {
    type Placed = Writer<S>;

    fn entry(&mut self, entry: &Entry, source: &mut Entries<impl ChunkSource>) -> Result<()> {
        let number = self.entry;
        self.entry += 1;
        let Some(ino) = self.contents.remove(&number) else {
            return Ok(());
        };
        let EntryKind::File { size } = entry.kind else {
            return Ok(());
        };
        let file = self.writer.begin_contents(ino, size);
        let filled = fill(source, &mut self.writer, file);
        filled
            .map(drop)
            .map_err(|error| metadata::in_entry(error, entry))
    }

    fn finish(self) -> Result<Writer<S>> {
        Ok(self.writer)
    }
}
