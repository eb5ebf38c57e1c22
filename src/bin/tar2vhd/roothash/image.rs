//! Images on disk: what layers there are, and where.
//!
//! Source: OCI image layout, index, manifest and configuration; `docker save` for archives with
//! a manifest.json. Of their JSON a few fields are read, so that no crate for all of it is
//! needed.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Component, Path, PathBuf};

use serde_json::Value;
use sha2::{Digest as _, Sha256};
use tar2vhd::{Compression, Digest};

use crate::Failure;
use crate::args::{MediaType, media_type};
use crate::platform::Platform;

/// A layer of an image.
pub(super) struct Layer {
    place: Place,
    pub digest: Option<Digest>,
    pub size: Option<u64>,
    pub diff_id: Option<Digest>,
    pub compression: Option<Compression>,
}

/// Where a file of an image is.
#[derive(Clone)]
enum Place {
    File(PathBuf),
    /// A stretch of an archive.
    Stretch {
        offset: u64,
        size: u64,
    },
}

/// An image, or several, in a directory or a tar.
pub(super) struct Image {
    path: PathBuf,
    /// Of a tar: its files by their names.
    files: Option<HashMap<Vec<u8>, Place>>,
}

/// JSON is read up to so many bytes, as registries do.
const JSON_MAX: u64 = 4 << 20;
/// Indexes stand in each other up to so deep.
const DEPTH_MAX: usize = 8;
/// An archive of more files than this is a layer.
const FILES_MAX: usize = 1 << 16;
/// Symbolic links in an archive lead to others up to so often.
const HOPS_MAX: usize = 8;

const INDEX: &str = "index.json";
const MANIFEST: &str = "manifest.json";

impl Image {
    /// The image at a path; `None` if that is a layer.
    pub(super) fn open(path: &Path) -> Result<Option<Self>, Failure> {
        let failed = |e| Failure::error(format!("cannot open {}: {e}", path.display()));
        let mut file = File::open(path).map_err(failed)?;
        if file.metadata().map_err(failed)?.is_dir() {
            let files = None;
            let path = path.to_owned();
            let image = Self { path, files };
            return match image.has(INDEX) || image.has(MANIFEST) {
                true => Ok(Some(image)),
                false => Err(Failure::error(format!(
                    "{} is a directory without an image in it: neither {INDEX} nor {MANIFEST}",
                    image.path.display()
                ))),
            };
        }
        if !file.metadata().map_err(failed)?.is_file() {
            return Ok(None);
        }
        // What is no plain tar, or damaged, is for the conversion to judge.
        let files = list(&mut file).unwrap_or_default();
        let is_layout = files.contains_key(&b"oci-layout"[..]);
        let image = Self {
            path: path.to_owned(),
            files: Some(files),
        };
        if is_layout && image.has(INDEX) {
            return Ok(Some(image));
        }
        let saved = image.has(MANIFEST) && image.docker_images().is_ok_and(|all| !all.is_empty());
        Ok(saved.then_some(image))
    }

    /// The layers of all its images for a platform, the lowest first.
    pub(super) fn layers(&self, wanted: Option<&Platform>) -> Result<Vec<Layer>, Failure> {
        if !self.has(INDEX) {
            return self.docker_layers(wanted);
        }
        let mut found = Vec::new();
        self.manifests(&self.json(&self.place(INDEX)?)?, 0, &mut found)?;
        let platforms: Vec<_> = found.iter().map(|(platform, _)| platform).collect();
        let chosen = choose(&platforms, wanted).map_err(|e| self.failed(&e))?;
        let mut layers = Vec::new();
        for (platform, manifest) in &found {
            if chosen.is_none_or(|chosen| chosen.covers(platform)) {
                self.manifest_layers(manifest, &mut layers)?;
            }
        }
        Ok(layers)
    }

    /// Reads a layer.
    pub(super) fn read(&self, layer: &Layer) -> Result<Box<dyn Read>, Failure> {
        self.open_place(&layer.place)
    }

    fn failed(&self, why: &str) -> Failure {
        Failure::error(format!("{}: {why}", self.path.display()))
    }

    fn has(&self, name: &str) -> bool {
        self.place(name).is_ok()
    }

    /// Where a file of the image is, whose name is relative and leads nowhere else.
    fn place(&self, name: &str) -> Result<Place, Failure> {
        let missing = || self.failed(&format!("there is no {}", name.escape_debug()));
        if let Some(files) = &self.files {
            return files.get(name.as_bytes()).cloned().ok_or_else(missing);
        }
        let relative = Path::new(name);
        let inside = relative
            .components()
            .all(|component| matches!(component, Component::Normal(_)));
        let path = self.path.join(relative);
        match inside && path.is_file() {
            true => Ok(Place::File(path)),
            false => Err(missing()),
        }
    }

    fn open_place(&self, place: &Place) -> Result<Box<dyn Read>, Failure> {
        let failed = |e: io::Error| self.failed(&e.to_string());
        Ok(match place {
            Place::File(path) => Box::new(File::open(path).map_err(failed)?),
            Place::Stretch { offset, size } => {
                let mut file = File::open(&self.path).map_err(failed)?;
                file.seek(SeekFrom::Start(*offset)).map_err(failed)?;
                Box::new(file.take(*size))
            }
        })
    }

    fn json(&self, place: &Place) -> Result<Value, Failure> {
        self.parse(&self.small(place)?)
    }

    /// The JSON that a descriptor names, which has to have its digest.
    fn blob_json(&self, descriptor: &Value) -> Result<Value, Failure> {
        let (place, digest, _) = self.blob(descriptor)?;
        let text = self.small(&place)?;
        let found = Digest(Sha256::digest(&text).into());
        match found == digest {
            true => self.parse(&text),
            false => Err(self.failed(&format!("the blob {digest} has the digest {found}"))),
        }
    }

    fn parse(&self, text: &[u8]) -> Result<Value, Failure> {
        serde_json::from_slice(text).map_err(|e| self.failed(&format!("malformed JSON: {e}")))
    }

    fn small(&self, place: &Place) -> Result<Vec<u8>, Failure> {
        let mut text = Vec::new();
        let mut file = self.open_place(place)?.take(JSON_MAX + 1);
        file.read_to_end(&mut text)
            .map_err(|e| self.failed(&e.to_string()))?;
        if text.len() as u64 > JSON_MAX {
            return Err(self.failed(&format!("JSON of more than {JSON_MAX} bytes")));
        }
        Ok(text)
    }

    /// The place of what a descriptor names, with its digest and size.
    fn blob(&self, descriptor: &Value) -> Result<(Place, Digest, Option<u64>), Failure> {
        let text = text(descriptor, "digest").unwrap_or_default();
        let digest: Digest = text
            .parse()
            .map_err(|_| self.failed(&format!("only SHA-256 digests are read, not \"{text}\"")))?;
        let hex = text.trim_start_matches("sha256:");
        let place = self.place(&format!("blobs/sha256/{hex}"))?;
        Ok((place, digest, descriptor["size"].as_u64()))
    }

    /// The manifests that an index leads to, with their platforms.
    fn manifests(
        &self,
        index: &Value,
        depth: usize,
        found: &mut Vec<(Platform, Value)>,
    ) -> Result<(), Failure> {
        if depth > DEPTH_MAX {
            return Err(self.failed("indexes in indexes, too many to follow"));
        }
        for descriptor in list_of(index, "manifests") {
            // What attests to an image is none.
            if descriptor["annotations"]["vnd.docker.reference.type"].is_string() {
                continue;
            }
            let manifest = self.blob_json(descriptor)?;
            if manifest["manifests"].is_array() {
                self.manifests(&manifest, depth + 1, found)?;
                continue;
            }
            let platform = match Platform::of_json(&descriptor["platform"]) {
                Some(platform) => Some(platform),
                None => Platform::of_json(&self.configuration(&manifest)?),
            };
            found.push((platform.unwrap_or_default(), manifest));
        }
        Ok(())
    }

    /// The configuration of an image; null where there is none to be read.
    fn configuration(&self, manifest: &Value) -> Result<Value, Failure> {
        if !manifest["config"].is_object() {
            return Ok(Value::Null);
        }
        self.blob_json(&manifest["config"])
    }

    fn manifest_layers(&self, manifest: &Value, layers: &mut Vec<Layer>) -> Result<(), Failure> {
        let configuration = self.configuration(manifest)?;
        let descriptors = list_of(manifest, "layers");
        let diff_ids = self.diff_ids(&configuration, descriptors.len())?;
        for (descriptor, diff_id) in descriptors.iter().zip(diff_ids) {
            let (place, digest, size) = self.blob(descriptor)?;
            let text = text(descriptor, "mediaType").unwrap_or_default();
            let MediaType(compression) = media_type(text)
                .map_err(|e| self.failed(&format!("\"{}\": {e}", text.escape_debug())))?;
            layers.push(Layer {
                place,
                digest: Some(digest),
                size,
                diff_id: Some(diff_id),
                compression,
            });
        }
        Ok(())
    }

    fn diff_ids(&self, configuration: &Value, layers: usize) -> Result<Vec<Digest>, Failure> {
        let list = list_of(&configuration["rootfs"], "diff_ids");
        let parse = |id: &Value| id.as_str().and_then(|id| id.parse().ok());
        let ids: Option<Vec<_>> = list.iter().map(parse).collect();
        ids.filter(|ids| ids.len() == layers)
            .ok_or_else(|| self.failed("the configuration does not have the diff ID of each layer"))
    }

    fn docker_images(&self) -> Result<Vec<Value>, Failure> {
        let manifest = self.json(&self.place(MANIFEST)?)?;
        let images = manifest.as_array().cloned().unwrap_or_default();
        let is_image = |image: &Value| image["Config"].is_string() && image["Layers"].is_array();
        match images.iter().all(is_image) {
            true => Ok(images),
            false => Err(self.failed(&format!("{MANIFEST} is not that of an archive of images"))),
        }
    }

    fn docker_layers(&self, wanted: Option<&Platform>) -> Result<Vec<Layer>, Failure> {
        let mut found = Vec::new();
        for image in self.docker_images()? {
            let name = text(&image, "Config").unwrap_or_default();
            let configuration = self.json(&self.place(name)?)?;
            let platform = Platform::of_json(&configuration).unwrap_or_default();
            found.push((platform, configuration, image));
        }
        let platforms: Vec<_> = found.iter().map(|(platform, ..)| platform).collect();
        let chosen = choose(&platforms, wanted).map_err(|e| self.failed(&e))?;
        let mut layers = Vec::new();
        for (platform, configuration, image) in &found {
            if chosen.is_some_and(|chosen| !chosen.covers(platform)) {
                continue;
            }
            let names = list_of(image, "Layers");
            let diff_ids = self.diff_ids(configuration, names.len())?;
            for (name, diff_id) in names.iter().zip(diff_ids) {
                layers.push(Layer {
                    place: self.place(name.as_str().unwrap_or_default())?,
                    digest: None,
                    size: None,
                    diff_id: Some(diff_id),
                    compression: None,
                });
            }
        }
        Ok(layers)
    }
}

/// The platform whose images are taken; `None` takes all, which are of one.
fn choose<'a>(
    found: &[&'a Platform],
    wanted: Option<&'a Platform>,
) -> Result<Option<&'a Platform>, String> {
    let has = |wanted: &Platform| found.iter().any(|platform| wanted.covers(platform));
    let shown = || {
        let names: Vec<_> = found.iter().map(ToString::to_string).collect();
        names.join(", ")
    };
    if let Some(wanted) = wanted {
        return match has(wanted) {
            true => Ok(Some(wanted)),
            false => Err(format!("there is no image for {wanted}, but {}", shown())),
        };
    }
    if found.windows(2).all(|pair| pair[0] == pair[1]) {
        return Ok(None);
    }
    for wanted in [Platform::host(), Platform::linux_amd64()] {
        // The one that is there, so that its variant is one as well.
        if let Some(platform) = found.iter().find(|platform| wanted.covers(platform)) {
            return Ok(Some(platform));
        }
    }
    Err(format!("--platform has to say which image: {}", shown()))
}

fn text<'a>(object: &'a Value, name: &str) -> Option<&'a str> {
    object[name].as_str()
}

fn list_of<'a>(object: &'a Value, name: &str) -> &'a [Value] {
    object[name].as_array().map_or(&[], Vec::as_slice)
}

/// The files of a tar by their names, links among them followed.
fn list(file: &mut File) -> io::Result<HashMap<Vec<u8>, Place>> {
    let mut files = HashMap::new();
    let mut links = Vec::new();
    let mut archive = tar::Archive::new(file);
    for entry in archive.entries_with_seek()? {
        let entry = entry?;
        if files.len() + links.len() == FILES_MAX {
            return Ok(HashMap::new());
        }
        let name = clean(&entry.path_bytes());
        let kind = entry.header().entry_type();
        if kind.is_file() {
            let place = Place::Stretch {
                offset: entry.raw_file_position(),
                size: entry.size(),
            };
            files.insert(name, place);
        } else if let Some(target) = entry.link_name_bytes() {
            let target = match kind.is_symlink() {
                true => {
                    let parent = name.iter().rposition(|byte| *byte == b'/');
                    clean(&[&name[..parent.map_or(0, |at| at + 1)], &*target].concat())
                }
                false => clean(&target),
            };
            links.push((name, target));
        }
    }
    for _ in 0..HOPS_MAX {
        links.retain(|(name, target)| match files.get(target).cloned() {
            None => true,
            Some(place) => {
                files.insert(name.clone(), place);
                false
            }
        });
    }
    Ok(files)
}

/// A path without `.`, `..`, and needless slashes.
fn clean(path: &[u8]) -> Vec<u8> {
    let mut parts: Vec<&[u8]> = Vec::new();
    for part in path.split(|byte| *byte == b'/') {
        match part {
            b"" | b"." => {}
            b".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    parts.join(&b'/')
}
