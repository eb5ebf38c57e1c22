//! All layers of an image to one disk.

use std::io;
use std::path::Path;

use super::images::{Image, Layer};
use crate::convert::flatten::{FlattenLayer, FlattenSummary, flatten};
use crate::disk::{DiskFile, DiskOutput};
use crate::error::Result;
use crate::options::Options;

impl Image {
    /// Merges the layers to one file system on a disk, as [`flatten`](crate::flatten::flatten)
    /// does. Blobs are held against their digests, layers against the diff IDs of the configuration.
    ///
    /// # Errors
    /// As [`flatten`](crate::flatten::flatten).
    pub fn flatten(&self, disk: &dyn DiskOutput, options: &Options) -> Result<FlattenSummary> {
        let layers: Vec<_> = self
            .layers()
            .iter()
            .map(|layer| self.to_merge(layer))
            .collect();
        flatten(&layers, disk, options)
    }

    /// The same to a file, which appears whole or not at all.
    ///
    /// # Errors
    /// As [`flatten`](Self::flatten), and if the file cannot be created or published.
    pub fn flatten_file(
        &self,
        path: impl AsRef<Path>,
        options: &Options,
    ) -> Result<FlattenSummary> {
        let mut file = DiskFile::create(path)?;
        if options.fsync && options.threads != 1 {
            file.sync_early();
        }
        let summary = self.flatten(&file, options)?;
        file.publish(options.fsync)?;
        Ok(summary)
    }

    /// A layer with all that the image says of it.
    fn to_merge<'a>(&'a self, layer: &'a Layer) -> FlattenLayer<'a> {
        let open = move || self.open_layer(layer).map_err(io::Error::other);
        let mut merged = FlattenLayer::new(open).expect_diff_id(layer.diff_id);
        if let Some(compression) = layer.compression {
            merged = merged.compression(compression);
        }
        if let Some(digest) = layer.digest {
            merged = merged.expect_digest(digest);
        }
        if let Some(size) = layer.size {
            merged = merged.expect_size(size);
        }
        merged
    }
}
