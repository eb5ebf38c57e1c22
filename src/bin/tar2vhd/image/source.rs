//! The image that a command reads, and the options that both commands have.

use std::io;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use tar2vhd::CancelToken;
use tar2vhd::Options;
use tar2vhd::disk::FileId;
use tar2vhd::image::registry::{ImageName, Registry, RegistryOptions};
use tar2vhd::image::{Image, Images, Reference};

use crate::args::image::{Disk, Source};
use crate::args::{When, verity};
use crate::convert::source_date_epoch;
use crate::failure::Failure;

/// The image that is named, and the files that it comes from.
pub(super) struct Opened {
    pub(super) image: Image,
    /// For messages.
    pub(super) path: PathBuf,
    pub(super) files: Vec<FileId>,
}

pub(super) fn open(source: &Source, cancel: &CancelToken) -> Result<Opened, Failure> {
    if source.image == "-" {
        let path = PathBuf::from("standard input");
        let failed = |error| Failure::reading(&path, error);
        let images = Images::from_stream(io::stdin().lock()).map_err(failed)?;
        let images = images.ok_or_else(|| {
            Failure::error(format!("{}: there is no image in it", path.display()))
        })?;
        let image = images.choose(source.tag.as_deref(), source.platform.as_ref());
        return Ok(Opened {
            image: image.map_err(failed)?,
            files: crate::standard::input().into_iter().collect(),
            path,
        });
    }
    let reference = Reference::parse(&source.image);
    let tag = match (source.tag.as_deref(), reference.name()) {
        (Some(_), Some(_)) => {
            return Err(Failure::usage("IMAGE has a tag, and --tag names one, too"));
        }
        (tag, name) => tag.or(name),
    };
    let platform = source.platform.as_ref();
    match &reference {
        Reference::Local { path, .. } => {
            let image = Images::at(&reference)?.choose(tag, platform);
            Ok(Opened {
                image: image.map_err(|error| Failure::reading(path, error))?,
                path: path.clone(),
                files: files_of(path),
            })
        }
        Reference::Registry(name) => {
            if source.tag.is_some() {
                return Err(Failure::usage(
                    "--tag is for files: a registry's is part of IMAGE",
                ));
            }
            let path = PathBuf::from(&source.image);
            let failed = |error| Failure::reading(&path, error);
            let name: ImageName = name
                .parse()
                .map_err(|error| Failure::usage(format!("{}: {error}", path.display())))?;
            let mut options = RegistryOptions::new()
                .tls_verify(source.tls_verify)
                .cancel(cancel.clone());
            if let Some(file) = &source.ca_file {
                options = options.ca_file(file);
            }
            if let Some(file) = &source.authfile {
                options = options.auth_file(file);
            }
            let registry = Registry::new(options).map_err(failed)?;
            let images = registry.images(&name).map_err(failed)?;
            Ok(Opened {
                image: images.choose(None, platform).map_err(failed)?,
                path,
                files: Vec::new(),
            })
        }
    }
}

/// The files of an image, none of which an output may replace.
fn files_of(image: &Path) -> Vec<FileId> {
    if !image.is_dir() {
        return FileId::at(image).into_iter().collect();
    }
    let blobs = image.join("blobs").join("sha256");
    let found = [image, &blobs]
        .into_iter()
        .filter_map(|dir| dir.read_dir().ok());
    let paths = found.flatten().flatten().map(|entry| entry.path());
    let files = paths.filter(|path| path.is_file());
    files.filter_map(|path| FileId::at(path).ok()).collect()
}

pub(super) fn check(disk: &Disk) -> Result<(), Failure> {
    if disk.quiet && disk.progress == When::Always {
        return Err(Failure::usage("--quiet contradicts --progress always"));
    }
    Ok(())
}

/// The options that both commands have.
pub(super) fn options(disk: &Disk) -> Result<Options, Failure> {
    let mut options = Options::new()
        .max_size(disk.max_size)
        .max_entries(disk.max_entries)
        .max_window(disk.max_window)
        .inflater(disk.inflater)
        .align(disk.align.unwrap_or(0))
        .inline_data(disk.inline_data)
        .keep_zeros(disk.keep_zeros)
        .threads(disk.threads)
        .fsync(!disk.no_fsync);
    if disk.verity {
        options = options.verity(verity(disk.verity_salt.as_ref(), disk.verity_uuid));
    }
    if let Some(seconds) = source_date_epoch()? {
        options = options.time(seconds);
    }
    Ok(options)
}

/// The bytes of all blobs, where the image tells them.
pub(super) fn total(image: &Image) -> Option<u64> {
    image.layers().iter().map(|layer| layer.size).sum()
}

/// The image itself, for a program.
pub(super) fn image_json(image: &Image, path: &Path) -> Value {
    json!({
        "path": tar2vhd::escape_file(path),
        "name": image.name(),
        "platform": image.platform().map(ToString::to_string),
        "id": image.id().to_string(),
        "manifest": image.manifest().map(|digest| digest.to_string()),
    })
}
