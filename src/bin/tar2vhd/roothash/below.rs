//! The layers of an image that are below the one that is hashed: converted to disks only when
//! one above them asks.

use std::fs;
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

use tar2vhd::image::Layer;
use tar2vhd::lower::LowerDisks;
use tar2vhd::{DiskFormat, Options, Volume};

use crate::failure::Failure;

/// The layers of an image, the lowest first, and the disks of as many as were needed.
pub(super) struct Below<'a> {
    options: &'a Options,
    layers: &'a [Layer],
    disks: Vec<Temporary>,
}

impl<'a> Below<'a> {
    pub(super) fn new(options: &'a Options, layers: &'a [Layer]) -> Self {
        Self {
            options,
            layers,
            disks: Vec::new(),
        }
    }

    /// The disks of the lowest layers.
    pub(super) fn disks<R: io::Read>(
        &mut self,
        count: usize,
        read: impl Fn(&Layer) -> Result<R, Failure>,
    ) -> Result<LowerDisks, Failure> {
        for layer in &self.layers[self.disks.len()..count] {
            let mut options = self.options.clone().format(DiskFormat::Raw).fsync(false);
            if !self.disks.is_empty() {
                options = options.lower_layers(opened(&self.disks)?);
            }
            self.disks.push(Temporary::convert(read(layer)?, &options)?);
        }
        opened(&self.disks)
    }
}

fn opened(disks: &[Temporary]) -> Result<LowerDisks, Failure> {
    let nearest_first = disks.iter().rev().map(|disk| disk.volume.clone());
    Ok(LowerDisks::new(nearest_first)?)
}

/// A disk in the directory for temporary files, which goes with it.
struct Temporary {
    volume: Volume,
    path: PathBuf,
}

impl Temporary {
    fn convert(layer: impl io::Read, options: &Options) -> Result<Self, Failure> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("tar2vhd-roothash-{}-{number}.img", std::process::id());
        let path = std::env::temp_dir().join(name);
        tar2vhd::convert_file(layer, &path, options)?;
        let volume = Volume::open(&path);
        // Where a file that is open can go, it goes now, and no end of the process leaves it.
        if cfg!(unix) || volume.is_err() {
            let _ = fs::remove_file(&path);
        }
        Ok(Self {
            volume: volume?,
            path,
        })
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        if !cfg!(unix) {
            let _ = fs::remove_file(&self.path);
        }
    }
}
