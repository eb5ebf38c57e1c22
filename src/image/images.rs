//! Places where images are kept, and one image out of them.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::sync::Arc;

use serde_json::Value;
use sha2::{Digest as _, Sha256};

use super::choice::{choose, is_called, names, shown};
use super::documents::{Documents, Form, MANIFEST, open};
use super::json::{
    artifact, diff_ids, digest, is_docker, is_manifest, list_of, malformed, not_an_image, parse,
    refused, size, text,
};
use super::media_type::layer_compression;
use super::platform::Platform;
use super::reference::{Reference, Transport};
use super::search::{Found, IMAGES_MAX, Manifest, search, too_many};
use super::store::{Archive, Directory, Store};
use crate::error::{Error, ErrorKind as Kind, Result};
use crate::options::Options;
use crate::summary::{Compression, Digest};

/// An image, or several, in a directory, in an archive or wherever a [`Store`] has them.
pub struct Images(Documents);

/// One image.
#[derive(Clone)]
pub struct Image {
    store: Arc<dyn Store>,
    name: Option<String>,
    platform: Option<Platform>,
    id: Digest,
    manifest: Option<Digest>,
    configuration: Value,
    layers: Vec<Layer>,
}

/// A layer of an image.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Layer {
    /// Its name in the store.
    name: String,
    /// The digest of the blob as it is stored; none in an archive of `docker save`.
    pub digest: Option<Digest>,
    /// Bytes of the blob as it is stored; none where the image does not say.
    pub size: Option<u64>,
    /// The digest of the uncompressed layer.
    pub diff_id: Digest,
    /// The compression that the media type promises; none if it promises nothing.
    pub compression: Option<Compression>,
}

const INDEX: &str = "index.json";
const LAYOUT: &str = "oci-layout";
/// The file that a `dir:` has beside its manifest.
const VERSION: &str = "version";

impl Images {
    /// The images at a path: a directory, or a plain tar. `None` if that is a layer.
    ///
    /// # Errors
    /// If the path cannot be read, or the documents there contradict their specification.
    pub fn open(path: impl AsRef<Path>) -> Result<Option<Self>> {
        let path = path.as_ref();
        let failed = |e: io::Error| Error::new(Kind::Input, "cannot open it").with_source(e);
        // Windows does not open directories.
        let found = path.metadata().map_err(failed)?;
        if found.is_dir() {
            let images = Self::from_store(Directory(path.to_owned()))?;
            return images.map(Some).ok_or_else(|| {
                refused(format!(
                    "this is a directory without an image in it: neither {INDEX} nor {MANIFEST}"
                ))
            });
        }
        if !found.is_file() {
            return Ok(None);
        }
        let mut file = File::open(path).map_err(failed)?;
        let store = Archive::new(path, &mut file);
        // A layer may have files of these names, too.
        let is_image = match store.has(INDEX) {
            true => store.has(LAYOUT),
            false => store.has(MANIFEST),
        };
        if !is_image {
            return Ok(None);
        }
        let has_version = store.has(VERSION);
        let images = Self::from_store(store).unwrap_or(None);
        Ok(images.filter(|images| images.0.form != Form::Directory || has_version))
    }

    /// The images in an archive that is compressed by gzip or zstd, or cannot be sought in.
    ///
    /// It is read to its end and kept in a temporary file without a name. `None` if it is no archive
    /// of images.
    ///
    /// # Errors
    /// If it cannot be read or decompressed, if the temporary file cannot be written, or if the
    /// documents in it contradict their specification.
    pub fn from_stream(input: impl Read) -> Result<Option<Self>> {
        // The tar crate's messages can have bytes of the input in them.
        let failed = |e: io::Error| {
            let cause = e.to_string().escape_debug().to_string();
            Error::new(Kind::Input, "cannot read the archive").with_source(cause)
        };
        Self::from_store(Archive::spool(input).map_err(failed)?)
    }

    /// The images that a reference leads to; those of a registry are read by
    /// [`registry`](Reference::Registry) alone.
    ///
    /// # Errors
    /// If there is none, and as [`open`](Self::open) and [`from_stream`](Self::from_stream).
    pub fn at(reference: &Reference) -> Result<Self> {
        let (transport, path) = match reference {
            Reference::Local {
                transport, path, ..
            } => (*transport, path),
            Reference::Registry(name) => {
                return Err(Error::unsupported(format!(
                    "{name} is in a registry, which this build does not read"
                )));
            }
        };
        let named = |error: Error| error.in_file(path);
        let no_image = || refused("there is no image in it").in_file(path);
        let images = match Self::open(path).map_err(named)? {
            Some(images) => images,
            None => {
                let file = File::open(path)
                    .map_err(|e| named(Error::new(Kind::Input, "cannot open it").with_source(e)))?;
                Self::from_stream(file)
                    .map_err(named)?
                    .ok_or_else(no_image)?
            }
        };
        let is_dir = path.is_dir();
        let expected = match transport {
            None => true,
            Some(Transport::Oci) => is_dir && images.0.form == Form::Layout,
            Some(Transport::OciArchive) => !is_dir && images.0.form == Form::Layout,
            Some(Transport::DockerArchive) => !is_dir && images.has_docker_archive(),
            Some(Transport::Dir) => is_dir && images.0.form == Form::Directory,
        };
        match (expected, transport) {
            (true, Some(Transport::DockerArchive)) => {
                let form = Form::DockerArchive;
                Ok(Self(Documents { form, ..images.0 }))
            }
            (true, _) => Ok(images),
            (false, _) => Err(refused(format!(
                "this is {}, not what {} stands for",
                images.0.form.name(),
                transport.map_or("", Transport::prefix)
            ))
            .in_file(path)),
        }
    }

    /// Whether there is a manifest of `docker save`, also beside an OCI layout as Docker 25 has it.
    fn has_docker_archive(&self) -> bool {
        self.0.form == Form::DockerArchive || has_docker_manifest(&self.0)
    }

    /// The images that a store holds; `None` if it holds none.
    ///
    /// # Errors
    /// If the documents there contradict their specification.
    pub fn from_store(store: impl Store + 'static) -> Result<Option<Self>> {
        let mut images = Documents {
            store: Arc::new(store),
            form: Form::Layout,
            is_remote: false,
        };
        if images.store.has(INDEX) {
            // Docker 25 leaves the index empty where images are not kept as blobs of OCI.
            if is_index_empty(&images) && has_docker_manifest(&images) {
                images.form = Form::DockerArchive;
            }
            return Ok(Some(Self(images)));
        }
        if images.store.has(LAYOUT) {
            return Err(malformed(format!("there is an {LAYOUT}, but no {INDEX}")));
        }
        if !images.store.has(MANIFEST) {
            return Ok(None);
        }
        let manifest = images.json(MANIFEST)?;
        images.form = match &manifest {
            Value::Array(images) if is_docker(images) => Form::DockerArchive,
            Value::Object(_) if is_manifest(&manifest) => Form::Directory,
            _ => {
                return Err(malformed(format!(
                    "{MANIFEST} is neither that of `docker save` nor a manifest of an image"
                )));
            }
        };
        Ok(Some(Self(images)))
    }

    /// The images of an OCI image layout of which each file takes a request to read.
    #[cfg(feature = "registry")]
    pub(super) fn remote(store: impl Store + 'static) -> Self {
        Self(Documents {
            store: Arc::new(store),
            form: Form::Layout,
            is_remote: true,
        })
    }

    /// The image that is meant by a name and a platform, or the only one.
    ///
    /// A name may leave the registry or all of the repository out, and may be the digest of a
    /// manifest. Without a platform the image for Linux on this machine's processor is meant,
    /// else that for linux/amd64.
    ///
    /// # Errors
    /// [`Mismatch`](Kind::Mismatch) if there is none, or a choice is needed: the message lists
    /// what there is. [`Unsupported`](Kind::Unsupported) for images of Windows and artifacts.
    /// Others if the documents contradict their specification or their digests.
    pub fn choose(&self, name: Option<&str>, platform: Option<&Platform>) -> Result<Image> {
        let mut found = match self.0.form {
            Form::Layout => search(&self.0, &self.0.json(INDEX)?)?,
            Form::DockerArchive => self.in_docker_archive()?,
            Form::Directory => self.in_directory()?,
        };
        if let Some(name) = name {
            let all = names(&found);
            found.retain(|image| image.is_called(name));
            if found.is_empty() {
                let name = name.escape_debug();
                return Err(refused(format!(
                    "there is no image of the tag {name}, but {all}"
                )));
            }
        }
        let found = choose(found, platform)?;
        let Some(manifest) = &found.manifest else {
            let platform = shown(&found.platform);
            return Err(malformed(format!(
                "the manifest for {platform} is not there"
            )));
        };
        let mut image = match (manifest, self.0.form) {
            (Manifest::Here(manifest), Form::DockerArchive) => self.docker_image(manifest)?,
            (Manifest::Here(manifest), _) => self.image(manifest)?,
            (Manifest::Blob(descriptor), _) => {
                let manifest = self.0.manifest_json(descriptor)?;
                if let Some(kind) = artifact(&manifest) {
                    return Err(not_an_image(kind));
                }
                let mut image = self.image(&manifest)?;
                image.manifest = Some(digest(descriptor)?);
                image
            }
        };
        // Either says so.
        let platforms = [Some(&found.platform), image.platform.as_ref()];
        if let Some(other) = platforms.into_iter().flatten().find(|p| p.is_windows()) {
            let other = shown(other);
            return Err(Error::unsupported(format!(
                "this is an image for {other}, whose layers ext4 cannot show: choose one for linux"
            )));
        }
        if image.layers.is_empty() {
            return Err(malformed("the image has no layers"));
        }
        let called = |other: &&String| name.is_none_or(|name| is_called(other, name));
        let called = found.names.iter().find(called).or(found.names.first());
        image.name = called.cloned();
        if found.platform.is_known() {
            image.platform = Some(found.platform);
        }
        Ok(image)
    }

    fn in_docker_archive(&self) -> Result<Vec<Found>> {
        let manifest = self.0.json(MANIFEST)?;
        let mut all: Vec<Found> = Vec::new();
        for image in list_of(&manifest, None) {
            if all.len() == IMAGES_MAX {
                return Err(too_many());
            }
            let id = text(image, "Config").unwrap_or_default().to_owned();
            let tags = list_of(image, Some("RepoTags")).iter();
            let names: Vec<_> = tags.filter_map(Value::as_str).map(str::to_owned).collect();
            if let Some(known) = all.iter_mut().find(|found| found.id == id) {
                known.names.extend(names);
                continue;
            }
            let configuration = self.0.json(&id)?;
            all.push(Found {
                names,
                platform: Platform::of_json(&configuration).unwrap_or_default(),
                id,
                manifest: Some(Manifest::Here(image.clone())),
            });
        }
        match all.is_empty() {
            true => Err(malformed("the archive holds no image")),
            false => Ok(all),
        }
    }

    fn in_directory(&self) -> Result<Vec<Found>> {
        let manifest = self.0.json(MANIFEST)?;
        if manifest["manifests"].is_array() {
            return search(&self.0, &manifest);
        }
        if let Some(kind) = artifact(&manifest) {
            return Err(not_an_image(kind));
        }
        let configuration = self.0.configuration(&manifest)?;
        Ok(vec![Found {
            names: Vec::new(),
            platform: Platform::of_json(&configuration).unwrap_or_default(),
            id: MANIFEST.to_owned(),
            manifest: Some(Manifest::Here(manifest)),
        }])
    }

    /// The image of a manifest.
    fn image(&self, manifest: &Value) -> Result<Image> {
        if manifest["fsLayers"].is_array() {
            return Err(Error::unsupported(
                "manifests of Docker's schema 1 are not read: `skopeo copy --format oci` writes \
                another",
            ));
        }
        let Some(descriptors) = manifest["layers"].as_array() else {
            return Err(malformed("the manifest has no list of layers"));
        };
        let configuration = self.0.configuration(manifest)?;
        let diff_ids = diff_ids(&configuration, descriptors.len())?;
        let mut layers = Vec::new();
        for (descriptor, diff_id) in descriptors.iter().zip(diff_ids) {
            let digest = digest(descriptor)?;
            let text = text(descriptor, "mediaType").unwrap_or_default();
            let compression = layer_compression(text)
                .map_err(|e| Error::unsupported(format!("\"{}\": {e}", text.escape_debug())))?;
            layers.push(Layer {
                name: self.0.blob_name(digest),
                digest: Some(digest),
                size: Some(size(descriptor)?),
                diff_id,
                compression,
            });
        }
        let id = digest(&manifest["config"])?;
        Ok(self.made_of(id, configuration, layers))
    }

    fn docker_image(&self, image: &Value) -> Result<Image> {
        let config = text(image, "Config").unwrap_or_default();
        let document = self.0.document(config)?;
        let id = Digest(Sha256::digest(&document).into());
        let configuration = parse(config.escape_debug(), &document)?;
        let names = list_of(image, Some("Layers"));
        let diff_ids = diff_ids(&configuration, names.len())?;
        let layer = |(name, diff_id): (&Value, Digest)| Layer {
            name: name.as_str().unwrap_or_default().to_owned(),
            digest: None,
            size: None,
            diff_id,
            compression: None,
        };
        let layers = names.iter().zip(diff_ids).map(layer).collect();
        Ok(self.made_of(id, configuration, layers))
    }

    fn made_of(&self, id: Digest, configuration: Value, layers: Vec<Layer>) -> Image {
        Image {
            store: Arc::clone(&self.0.store),
            name: None,
            platform: Platform::of_json(&configuration),
            id,
            manifest: None,
            configuration,
            layers,
        }
    }
}

impl Layer {
    /// The options for this layer: its conversion fails unless the layer is what the image says.
    pub fn options(&self, options: &Options) -> Options {
        let mut options = options.clone().expect_diff_id(self.diff_id);
        if let Some(compression) = self.compression {
            options = options.compression(compression);
        }
        (options.expect_digest, options.expect_size) = (self.digest, self.size);
        options
    }
}

impl Image {
    /// The name under which the image was found, if it has any.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        self.name.as_deref()
    }

    /// The platform that it is for, if that is stated.
    #[must_use]
    pub fn platform(&self) -> Option<&Platform> {
        self.platform.as_ref()
    }

    /// The image ID: the digest of its configuration.
    #[must_use]
    pub fn id(&self) -> Digest {
        self.id
    }

    /// The digest of its manifest; none in an archive of `docker save` and in a `dir:`.
    #[must_use]
    pub fn manifest(&self) -> Option<Digest> {
        self.manifest
    }

    /// Its configuration, a JSON document (OCI image specification, "Image Configuration").
    #[must_use]
    pub fn configuration(&self) -> &Value {
        &self.configuration
    }

    /// Its layers, the lowest first.
    #[must_use]
    pub fn layers(&self) -> &[Layer] {
        &self.layers
    }

    /// Opens the blob of a layer, as it is stored.
    ///
    /// # Errors
    /// [`Input`](Kind::Input) if it is not there or cannot be opened.
    pub fn open_layer(&self, layer: &Layer) -> Result<Box<dyn Read + Send>> {
        open(&*self.store, &layer.name)
    }
}

fn is_index_empty(documents: &Documents) -> bool {
    let index = documents.json(INDEX).unwrap_or_default();
    index.is_object() && list_of(&index, Some("manifests")).is_empty()
}

fn has_docker_manifest(documents: &Documents) -> bool {
    let manifest = documents.json(MANIFEST).unwrap_or_default();
    is_docker(list_of(&manifest, None))
}
