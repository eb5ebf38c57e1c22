//! Every layer of an image to a disk of its own, in a directory that several images share.

use std::fmt;
use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

use serde_json::{Value, json};

use super::images::{Image, Layer};
use super::record;
use crate::convert::convert;
use crate::convert::flatten::chain_id;
use crate::disk::{DiskFile, DiskFormat, DiskOutput};
use crate::error::{Error, ErrorKind, Result};
use crate::lower::{LowerDisks, LowerProbe};
use crate::options::{Options, Profile, Progress};
use crate::summary::{Digest, Summary, display_file};
use crate::threads;

/// A layer that is a disk.
#[derive(Debug)]
#[non_exhaustive]
pub struct ConvertedLayer {
    /// The digest of the uncompressed layer.
    pub diff_id: Digest,
    /// The chain ID, if the layers below shaped the bytes of the disk.
    pub chain_id: Option<Digest>,
    /// The disk.
    pub path: PathBuf,
    /// The record beside the disk, a JSON document.
    pub record: Value,
    /// The summary of the conversion; none if the disk was there already.
    pub summary: Option<Summary>,
}

/// An image of which every layer is a disk.
#[derive(Debug)]
#[non_exhaustive]
pub struct ConvertedImage {
    /// The layers, the lowest first.
    pub layers: Vec<ConvertedLayer>,
    /// The document that names the layers in order.
    pub path: PathBuf,
    /// The same document.
    pub document: Value,
}

/// News of the conversion of an image. Layers are numbered from 0, the lowest.
#[derive(Debug)]
#[non_exhaustive]
pub enum ImageEvent<'a> {
    /// A layer is begun.
    Begun {
        /// The layer.
        layer: usize,
    },
    /// How far a layer has come.
    Progress {
        /// The layer.
        layer: usize,
        /// Since its beginning.
        progress: Progress,
    },
    /// A layer asked for those below before they were there, and is begun again when they are.
    Postponed {
        /// The layer.
        layer: usize,
    },
    /// A layer is a disk.
    Done {
        /// The layer.
        layer: usize,
        /// The disk.
        converted: &'a ConvertedLayer,
    },
}

impl Image {
    /// Converts every layer to a disk in `directory`, which is made if it is not there.
    ///
    /// The disks are `sha256/HEX.EXTENSION` in it. HEX is the diff ID of the layer, or its chain ID
    /// where the layers below shaped the bytes, as they do for parents that the layer does not
    /// describe (not under [`Profile::Hcsshim`], whose bytes depend on the layer alone). Beside each
    /// disk stands a record, `HEX.EXTENSION.json`. A disk of which there is a record of the same
    /// options is not made again. The document of the image is `HEX.EXTENSION.json` in `directory`,
    /// where HEX is its [`id`](Image::id).
    ///
    /// Layers are converted at the same time, as many as there are threads, and the largest first.
    /// Each takes the memory of a conversion of its own. All files appear whole or not at all.
    ///
    /// # Errors
    /// As [`convert`](crate::convert); [`Error::layer`] says which layer an error is about.
    /// [`Mismatch`](ErrorKind::Mismatch) if there is a disk that other options shaped.
    /// [`InvalidOptions`](ErrorKind::InvalidOptions) for options of one layer, such as
    /// [`Options::bottom_layer`].
    pub fn convert(
        &self,
        directory: impl AsRef<Path>,
        options: &Options,
        events: &(dyn Fn(ImageEvent<'_>) + Sync),
    ) -> Result<ConvertedImage> {
        check(options)?;
        let directory = directory.as_ref();
        let disks = directory.join("sha256");
        fs::create_dir_all(&disks)
            .map_err(|e| Error::output(format!("cannot make {}", display_file(&disks)), e))?;
        let layers = self.layers();
        let threads = threads::count(options.threads);
        let at_once = layers.len().min(threads.div_ceil(2).max(2)).min(threads);
        let job = Job {
            image: self,
            disks: &disks,
            options: options.clone().threads(match threads {
                1 => 1,
                _ => (threads / at_once).max(2),
            }),
            shaping: record::options_json(options),
            extension: extension(options.format),
            events,
            stop: AtomicBool::new(false),
        };
        let queue = Queue::new(layers);
        thread::scope(|scope| {
            for _ in 1..at_once {
                // With fewer threads it takes longer.
                let _ = threads::spawn(scope, "layer", || queue.work(&job));
            }
            queue.work(&job);
        });
        let converted = queue.into_layers()?;
        let name = format!("{}.{}.json", self.id().to_hex(), job.extension);
        let path = directory.join(name);
        let document = self.document(&converted, job.extension);
        publish(&path, &document, options.fsync)?;
        Ok(ConvertedImage {
            layers: converted,
            path,
            document,
        })
    }

    /// The document that names the disks of the layers in order.
    fn document(&self, layers: &[ConvertedLayer], extension: &str) -> Value {
        let layers: Vec<_> = layers
            .iter()
            .map(|layer| {
                let id = layer.chain_id.unwrap_or(layer.diff_id);
                let mut object = layer.record.clone();
                object["path"] = format!("sha256/{}.{extension}", id.to_hex()).into();
                object
            })
            .collect();
        json!({
            "version": 1,
            "id": self.id(),
            "name": self.name(),
            "platform": self.platform().map(ToString::to_string),
            "manifest": self.manifest(),
            "layers": layers,
            "configuration": self.configuration(),
        })
    }
}

fn check(options: &Options) -> Result<()> {
    options.check()?;
    if options.bottom_layer || options.lower.is_some() {
        return Err(Error::new(
            ErrorKind::InvalidOptions,
            "the layers of an image know which of them are below",
        ));
    }
    if options.expect_diff_id.is_some()
        || options.expect_digest.is_some()
        || options.expect_size.is_some()
        || options.compression.is_some()
    {
        return Err(Error::new(
            ErrorKind::InvalidOptions,
            "an image says itself what its layers have to be",
        ));
    }
    Ok(())
}

fn extension(format: DiskFormat) -> &'static str {
    match format {
        DiskFormat::Vhd | DiskFormat::VhdDynamic => "vhd",
        DiskFormat::Vhdx | DiskFormat::VhdxFixed => "vhdx",
        DiskFormat::Raw => "img",
    }
}

/// Writes a JSON document to a file, which appears whole or not at all.
fn publish(path: &Path, document: &Value, fsync: bool) -> Result<()> {
    let file = DiskFile::create(path)?;
    let text = format!("{document:#}\n");
    file.write_at(0, text.as_bytes())
        .map_err(|e| Error::output(format!("cannot write {}", display_file(path)), e))?;
    file.publish(fsync)
}

/// A record that is there already.
fn read_record(path: &Path) -> Result<Option<Value>> {
    const MAX: u64 = 1 << 20;
    let failed = |e| {
        let path = display_file(path);
        Error::new(ErrorKind::Input, format!("cannot read the record {path}")).with_source(e)
    };
    // To open a pipe would wait for somebody to write to it.
    match fs::metadata(path) {
        Ok(found) if found.is_file() => {}
        Ok(_) => return Err(failed(io::Error::other("it is no regular file"))),
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(e) => return Err(failed(e)),
    }
    let file = fs::File::open(path).map_err(failed)?;
    let mut text = Vec::new();
    file.take(MAX).read_to_end(&mut text).map_err(failed)?;
    serde_json::from_slice(&text).map(Some).map_err(|e| {
        let path = display_file(path);
        Error::corrupt(format!(
            "the record {path} is damaged: remove it to make the disk again"
        ))
        .with_source(e)
    })
}

/// The conversion of an image.
struct Job<'a> {
    image: &'a Image,
    /// The directory of the disks.
    disks: &'a Path,
    /// Those of each layer.
    options: Options,
    shaping: Value,
    extension: &'static str,
    events: &'a (dyn Fn(ImageEvent<'_>) + Sync),
    /// A layer failed: the others need not go on.
    stop: AtomicBool,
}

/// The layers of an image, and which of them are disks.
struct Queue<'a> {
    layers: &'a [Layer],
    state: Mutex<State>,
    /// A layer is a disk, or all ends.
    changed: Condvar,
}

struct State {
    /// Those that are not begun, the largest first.
    todo: Vec<Todo>,
    /// The diff IDs of those that are converted now.
    running: Vec<Digest>,
    done: Vec<Option<ConvertedLayer>>,
    failed: Option<Error>,
}

#[derive(Clone, Copy)]
struct Todo {
    layer: usize,
    /// It begins when all layers below are disks.
    needs_lower: bool,
}

impl<'a> Queue<'a> {
    fn new(layers: &'a [Layer]) -> Self {
        let mut todo: Vec<_> = (0..layers.len())
            .map(|layer| Todo {
                layer,
                needs_lower: false,
            })
            .collect();
        todo.sort_by_key(|todo| std::cmp::Reverse(layers[todo.layer].size));
        Self {
            layers,
            state: Mutex::new(State {
                todo,
                running: Vec::new(),
                done: layers.iter().map(|_| None).collect(),
                failed: None,
            }),
            changed: Condvar::new(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes layers until none is left or one failed.
    fn work(&self, job: &Job<'_>) {
        while let Some(todo) = self.take() {
            let running = Running {
                queue: self,
                diff_id: self.layers[todo.layer].diff_id,
            };
            let lower = self.lower(todo);
            let result = job.convert(&self.layers[todo.layer], todo, &lower);
            let result = result.map_err(|error| error.in_layer(todo.layer));
            // Not under the lock: the caller may take its time.
            match &result {
                Ok(Some(converted)) => (job.events)(ImageEvent::Done {
                    layer: todo.layer,
                    converted,
                }),
                Ok(None) => (job.events)(ImageEvent::Postponed { layer: todo.layer }),
                Err(_) => {}
            }
            let mut state = self.lock();
            match result {
                Ok(Some(converted)) => state.done[todo.layer] = Some(converted),
                Ok(None) => {
                    state.todo.push(Todo {
                        needs_lower: true,
                        ..todo
                    });
                }
                // The first error is the one that is told; others may follow from it.
                Err(error) => {
                    job.stop.store(true, Ordering::Relaxed);
                    state.failed.get_or_insert(error);
                }
            }
            drop(state);
            drop(running);
        }
    }

    /// Takes the next layer that can begin; none if there is none left or one failed.
    fn take(&self) -> Option<Todo> {
        let mut state = self.lock();
        loop {
            if state.failed.is_some() || state.todo.is_empty() {
                return None;
            }
            let can_begin = |todo: &Todo| {
                let is_running = state.running.contains(&self.layers[todo.layer].diff_id);
                let lower = &state.done[..todo.layer];
                !is_running && (!todo.needs_lower || lower.iter().all(Option::is_some))
            };
            if let Some(next) = state.todo.iter().position(can_begin) {
                let todo = state.todo.remove(next);
                state.running.push(self.layers[todo.layer].diff_id);
                return Some(todo);
            }
            state = self
                .changed
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// The disks below a layer, the nearest first, if it needs them.
    fn lower(&self, todo: Todo) -> Vec<PathBuf> {
        if !todo.needs_lower {
            return Vec::new();
        }
        let state = self.lock();
        let lower = state.done[..todo.layer].iter().rev();
        lower.flatten().map(|layer| layer.path.clone()).collect()
    }

    fn into_layers(self) -> Result<Vec<ConvertedLayer>> {
        let state = self
            .state
            .into_inner()
            .unwrap_or_else(PoisonError::into_inner);
        match state.failed {
            Some(error) => Err(error),
            None => Ok(state.done.into_iter().flatten().collect()),
        }
    }
}

/// A layer that is being converted; that it is not any more is told also if its thread panics.
struct Running<'a> {
    queue: &'a Queue<'a>,
    diff_id: Digest,
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        let mut state = self.queue.lock();
        state.running.retain(|running| *running != self.diff_id);
        if thread::panicking() {
            let error = Error::new(ErrorKind::Cancelled, "a thread panicked");
            state.failed.get_or_insert(error);
        }
        self.queue.changed.notify_all();
    }
}

impl Job<'_> {
    fn path(&self, id: Digest) -> PathBuf {
        let name = format!("{}.{}", id.to_hex(), self.extension);
        self.disks.join(name)
    }

    /// The disk of a name, if it is there and was made with the same options.
    fn existing(&self, id: Digest) -> Result<Option<(PathBuf, Value)>> {
        let path = self.path(id);
        let Some(record) = read_record(&record_path(&path))? else {
            return Ok(None);
        };
        record::check(&record, &self.shaping).map_err(|error| error.in_file(&path))?;
        if !has_disk(&record) {
            return Ok(Some((path, record)));
        }
        let size = fs::metadata(&path).map(|found| found.len()).ok();
        // A disk that is gone, or was cut, is made again.
        let is_whole = size.is_some() && size == record["disk"]["size"].as_u64();
        Ok(is_whole.then_some((path, record)))
    }

    /// Makes the disk of a layer; `None` if it needs those below and they are not given.
    fn convert(
        &self,
        layer: &Layer,
        todo: Todo,
        lower: &[PathBuf],
    ) -> Result<Option<ConvertedLayer>> {
        let converted = |chain_id, (path, record), summary| ConvertedLayer {
            diff_id: layer.diff_id,
            chain_id,
            path,
            record,
            summary,
        };
        let chain = || {
            let below = &self.image.layers()[..=todo.layer];
            chain_id(below.iter().map(|layer| layer.diff_id))
        };
        let known = self.existing(layer.diff_id)?;
        let is_bottom = todo.layer == 0;
        match known.map(|found| (record::is_dependent(&found.1), found)) {
            Some((false, found)) => return Ok(Some(converted(None, found, None))),
            // Of the lowest layer diff ID and chain ID are one.
            Some((true, found)) if is_bottom && has_disk(&found.1) => {
                return Ok(Some(converted(Some(layer.diff_id), found, None)));
            }
            Some((true, _)) if !is_bottom => {
                let chain = chain();
                if let Some(found) = self.existing(chain)? {
                    return Ok(Some(converted(Some(chain), found, None)));
                }
                if !todo.needs_lower {
                    return Ok(None);
                }
            }
            _ => {}
        }
        (self.events)(ImageEvent::Begun { layer: todo.layer });
        let asked = LowerProbe::new();
        let mut options = layer.options(&self.options);
        if todo.needs_lower {
            options = options.lower_layers(LowerDisks::open(lower)?);
        } else if todo.layer > 0 && options.profile != Profile::Hcsshim {
            options = options.lower_layers(asked.clone());
        }
        let (number, events) = (todo.layer, self.events);
        let shown = Shown {
            input: self.image.open_layer(layer)?,
            bytes: 0,
            stop: &self.stop,
            show: |input_bytes| {
                let progress = Progress {
                    input_bytes,
                    ..Progress::default()
                };
                events(ImageEvent::Progress {
                    layer: number,
                    progress,
                });
            },
        };
        let mut chain_id = todo.needs_lower.then(chain);
        let path = self.path(chain_id.unwrap_or(layer.diff_id));
        let mut file = DiskFile::create(&path)?;
        if options.fsync && options.threads != 1 {
            file.sync_early();
        }
        let summary = convert(shown, &file, &options);
        if asked.was_asked() {
            return Ok(None);
        }
        let summary = summary?;
        file.publish(options.fsync)?;
        // The record comes last: where it stands, the disk does.
        if is_bottom && summary.depends_on_lower {
            chain_id = Some(layer.diff_id);
        }
        let record = record::of_disk(&summary, chain_id, &self.shaping);
        publish(&record_path(&path), &record, options.fsync)?;
        let path_of_record = record_path(&self.path(layer.diff_id));
        // There may be a disk of that name, of the same layer at the bottom of another image.
        if chain_id.is_some() && !path_of_record.exists() {
            let dependent = record::of_dependent(layer.diff_id, &self.shaping);
            publish(&path_of_record, &dependent, options.fsync)?;
        }
        Ok(Some(converted(chain_id, (path, record), Some(summary))))
    }
}

/// Whether a record is one of a disk, and not of a layer whose disks have other names.
fn has_disk(record: &Value) -> bool {
    record["disk"].is_object()
}

fn record_path(disk: &Path) -> PathBuf {
    let mut path = disk.as_os_str().to_owned();
    path.push(".json");
    path.into()
}

/// Input whose progress is shown.
struct Shown<'a, R, F> {
    input: R,
    bytes: u64,
    stop: &'a AtomicBool,
    show: F,
}

impl<R: Read, F: Fn(u64)> Read for Shown<'_, R, F> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.stop.load(Ordering::Relaxed) {
            return Err(io::Error::other("another layer failed"));
        }
        let read = self.input.read(buffer)?;
        self.bytes += read as u64;
        (self.show)(self.bytes);
        Ok(read)
    }
}

impl fmt::Debug for Image {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Image")
            .field("name", &self.name())
            .field("id", &self.id())
            .field("layers", &self.layers())
            .finish_non_exhaustive()
    }
}
