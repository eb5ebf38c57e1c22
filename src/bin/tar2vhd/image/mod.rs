//! Images on disk: what layers there are, and where.
//!
//! Source: OCI image layout, index, manifest and configuration; Docker's schema 2; `docker save`
//! for archives with a manifest.json; containers-transports(5) for `dir:`. Of their JSON a few
//! fields are read, so that no crate for all of it is needed. Everything but [`Image::open_path`]
//! reads from a [`Store`], which may be one in memory.

pub(crate) mod media_type;
pub(crate) mod platform;
pub(crate) mod store;

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::path::Path;

use serde_json::Value;
use sha2::{Digest as _, Sha256};
use tar2vhd::{Compression, Digest};

use media_type::{MediaType, is_artifact, media_type};
use platform::Platform;
use store::{Archive, Directory, Store};

/// Why an image cannot be read, as a person is told.
pub(crate) type Result<T> = std::result::Result<T, String>;

/// An image, or several, in a directory or a tar.
pub(crate) struct Image {
    store: Box<dyn Store>,
    form: Form,
}

/// How the files of images are arranged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    /// An OCI image layout.
    Layout,
    /// An archive of `docker save`.
    DockerArchive,
    /// A directory as skopeo's `dir:` writes it.
    Directory,
}

/// One image, chosen from those that there are.
pub(crate) struct Chosen {
    /// The name under which it is found, if it has any.
    pub tag: Option<String>,
    /// Its platform, if it is stated.
    pub platform: Option<Platform>,
    /// The lowest first.
    pub layers: Vec<Layer>,
}

/// A layer of an image.
pub(crate) struct Layer {
    /// Its name in the store.
    name: String,
    pub digest: Option<Digest>,
    pub size: Option<u64>,
    pub diff_id: Option<Digest>,
    pub compression: Option<Compression>,
}

/// An image that was found, of which little more is known yet than that.
struct Found {
    /// Names and tags, the most complete first.
    names: Vec<String>,
    platform: Platform,
    /// The digest of its manifest, or the name of its configuration in an archive of Docker's.
    id: String,
    /// Its manifest is there, which that of another platform may not be.
    manifest: Option<Manifest>,
}

/// The document that leads to the layers of an image.
#[derive(Clone)]
enum Manifest {
    /// In a blob of this descriptor.
    Blob(Value),
    /// An object in manifest.json.
    Here(Value),
}

/// JSON is read up to so many bytes, as registries do.
const JSON_MAX: u64 = 4 << 20;
/// Indexes stand in each other up to so deep.
const DEPTH_MAX: usize = 8;
/// The most images, or mentions of one, that are read.
const IMAGES_MAX: usize = 4096;

const INDEX: &str = "index.json";
const LAYOUT: &str = "oci-layout";
const MANIFEST: &str = "manifest.json";
/// The file that a `dir:` has beside its manifest.
const VERSION: &str = "version";

/// Index digests that were followed, and the images found through them.
type Followed = HashMap<Digest, Vec<usize>>;

impl Image {
    /// The image at a path; `None` if that is a layer.
    pub(crate) fn open_path(path: &Path) -> Result<Option<Self>> {
        let failed = |e: io::Error| format!("cannot open it: {e}");
        // Windows does not open directories.
        let found = path.metadata().map_err(failed)?;
        if found.is_dir() {
            let image = Self::open(Box::new(Directory(path.to_owned())))?;
            return image.map(Some).ok_or_else(|| {
                format!(
                    "this is a directory without an image in it: neither {INDEX} nor {MANIFEST}"
                )
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
        let image = Self::open(Box::new(store)).unwrap_or(None);
        Ok(image.filter(|image| image.form != Form::Directory || has_version))
    }

    /// The image that a store holds, if it holds one.
    pub(crate) fn open(store: Box<dyn Store>) -> Result<Option<Self>> {
        let mut image = Self {
            store,
            form: Form::Layout,
        };
        if image.store.has(INDEX) {
            // Docker 25 leaves the index empty where images are not kept as blobs of OCI.
            if image.is_index_empty() && image.has_docker_manifest() {
                image.form = Form::DockerArchive;
            }
            return Ok(Some(image));
        }
        if image.store.has(LAYOUT) {
            return Err(format!("there is an {LAYOUT}, but no {INDEX}"));
        }
        if !image.store.has(MANIFEST) {
            return Ok(None);
        }
        let manifest = image.json(MANIFEST)?;
        image.form = match &manifest {
            Value::Array(images) if is_docker(images) => Form::DockerArchive,
            Value::Object(_) if is_manifest(&manifest) => Form::Directory,
            _ => {
                return Err(format!(
                    "{MANIFEST} is neither that of `docker save` nor a manifest of an image"
                ));
            }
        };
        Ok(Some(image))
    }

    fn is_index_empty(&self) -> bool {
        let index = self.json(INDEX).unwrap_or_default();
        index.is_object() && list_of(&index, Some("manifests")).is_empty()
    }

    fn has_docker_manifest(&self) -> bool {
        let manifest = self.json(MANIFEST).unwrap_or_default();
        is_docker(list_of(&manifest, None))
    }

    /// The image that is meant by a tag and a platform, if these are given, or the only one.
    pub(crate) fn choose(&self, tag: Option<&str>, platform: Option<&Platform>) -> Result<Chosen> {
        let mut found = match self.form {
            Form::Layout => self.in_index(&self.json(INDEX)?)?,
            Form::DockerArchive => self.in_docker_archive()?,
            Form::Directory => self.in_directory()?,
        };
        if let Some(tag) = tag {
            let all = names(&found);
            found.retain(|image| image.is_called(tag));
            if found.is_empty() {
                let tag = tag.escape_debug();
                return Err(format!("there is no image of the tag {tag}, but {all}"));
            }
        }
        let image = choose(found, platform)?;
        let Some(manifest) = &image.manifest else {
            let platform = shown(&image.platform);
            return Err(format!("the manifest for {platform} is not there"));
        };
        let (layers, configured) = match manifest {
            Manifest::Blob(descriptor) => self.layers(&self.blob_json(descriptor)?)?,
            Manifest::Here(manifest) => match self.form {
                Form::DockerArchive => self.docker_layers(manifest)?,
                _ => self.layers(manifest)?,
            },
        };
        // Either says so.
        let platforms = [Some(&image.platform), configured.as_ref()];
        if let Some(other) = platforms.into_iter().flatten().find(|p| p.is_windows()) {
            let other = shown(other);
            return Err(format!(
                "this is an image for {other}, whose layers ext4 cannot show: choose one for linux"
            ));
        }
        if layers.is_empty() {
            return Err("the image has no layers".into());
        }
        let known = Some(image.platform).filter(Platform::is_known);
        let called = |name: &&String| tag.is_none_or(|tag| is_called(name, tag));
        Ok(Chosen {
            tag: image
                .names
                .iter()
                .find(called)
                .or(image.names.first())
                .cloned(),
            platform: known.or(configured),
            layers,
        })
    }

    /// Reads a layer.
    pub(crate) fn read(&self, layer: &Layer) -> Result<Box<dyn Read>> {
        self.open_file(&layer.name)
    }

    fn open_file(&self, name: &str) -> Result<Box<dyn Read>> {
        let name_shown = name.escape_debug();
        self.store.open(name).map_err(|e| match e.kind() {
            ErrorKind::NotFound => format!("there is no {name_shown}"),
            _ => format!("cannot read {name_shown}: {e}"),
        })
    }

    fn json(&self, name: &str) -> Result<Value> {
        parse(name, &self.small(name)?)
    }

    fn small(&self, name: &str) -> Result<Vec<u8>> {
        let mut text = Vec::new();
        let mut file = self.open_file(name)?.take(JSON_MAX + 1);
        file.read_to_end(&mut text)
            .map_err(|e| format!("cannot read {}: {e}", name.escape_debug()))?;
        if text.len() as u64 > JSON_MAX {
            let name = name.escape_debug();
            return Err(format!("{name} has more than {JSON_MAX} bytes of JSON"));
        }
        Ok(text)
    }

    /// The JSON that a descriptor names, which has to have its digest.
    fn blob_json(&self, descriptor: &Value) -> Result<Value> {
        let digest = digest(descriptor)?;
        let mut name = self.blob_name(digest);
        // The manifests that a list names have names of their own in a `dir:`.
        let manifest = format!("{name}.{MANIFEST}");
        if self.form == Form::Directory && self.store.has(&manifest) {
            name = manifest;
        }
        let text = self.small(&name)?;
        let found = Digest(Sha256::digest(&text).into());
        match found == digest {
            true => parse(&name, &text),
            false => Err(format!("the blob {digest} has the digest {found}")),
        }
    }

    fn blob_name(&self, digest: Digest) -> String {
        let text = digest.to_string();
        let hex = text.trim_start_matches("sha256:");
        match self.form {
            Form::Directory => hex.to_owned(),
            _ => format!("blobs/sha256/{hex}"),
        }
    }

    /// Whether the JSON that a descriptor names is in the store.
    fn is_here(&self, descriptor: &Value) -> bool {
        let Ok(digest) = digest(descriptor) else {
            return false;
        };
        let name = self.blob_name(digest);
        self.store.has(&name)
            || self.form == Form::Directory && self.store.has(&format!("{name}.{MANIFEST}"))
    }

    /// The images that an index leads to.
    fn in_index(&self, index: &Value) -> Result<Vec<Found>> {
        let mut search = Search::default();
        self.search(index, &[], 0, &mut search)?;
        search.found()
    }

    /// Follows an index to images, each of which is found once, under all its names.
    fn search(
        &self,
        index: &Value,
        names: &[String],
        depth: usize,
        search: &mut Search,
    ) -> Result<Vec<usize>> {
        if depth > DEPTH_MAX {
            return Err("indexes stand in indexes, more than can be followed".into());
        }
        let Some(descriptors) = index["manifests"].as_array() else {
            return Err("the index has no list of manifests".into());
        };
        let mut reached = Vec::new();
        for descriptor in descriptors {
            search.mentions += 1;
            if search.mentions > IMAGES_MAX {
                return Err(format!("more than {IMAGES_MAX} images are named"));
            }
            let platform = Platform::of_json(&descriptor["platform"]);
            // An attestation is not an image.
            if descriptor["annotations"]["vnd.docker.reference.type"].is_string()
                || platform.as_ref().is_some_and(Platform::is_unknown)
            {
                continue;
            }
            let names = own_names(descriptor, names);
            let digest = digest(descriptor)?;
            let mut new = search.add_names(digest, &names);
            if new.is_empty() {
                new = self.search_one(descriptor, digest, platform, &names, depth, search)?;
            }
            reached.extend(new);
        }
        Ok(reached)
    }

    /// Follows a descriptor that was not followed yet.
    fn search_one(
        &self,
        descriptor: &Value,
        digest: Digest,
        platform: Option<Platform>,
        names: &[String],
        depth: usize,
        search: &mut Search,
    ) -> Result<Vec<usize>> {
        let mut found = Found {
            names: names.to_vec(),
            platform: Platform::default(),
            id: digest.to_string(),
            manifest: None,
        };
        // Of an image for several platforms, one may have been copied.
        if let Some(platform) = &platform
            && !self.is_here(descriptor)
        {
            found.platform = platform.clone();
            return Ok(search.push(digest, found));
        }
        let manifest = self.blob_json(descriptor)?;
        if manifest["manifests"].is_array() {
            let reached = self.search(&manifest, names, depth + 1, search)?;
            search.followed.insert(digest, reached.clone());
            return Ok(reached);
        }
        if let Some(kind) = artifact(&manifest) {
            search.artifact = Some(kind.to_owned());
            return Ok(Vec::new());
        }
        let platform = match platform {
            Some(platform) => Some(platform),
            None => Platform::of_json(&self.configuration(&manifest)?),
        };
        found.platform = platform.unwrap_or_default();
        found.manifest = Some(Manifest::Blob(descriptor.clone()));
        Ok(search.push(digest, found))
    }

    fn in_docker_archive(&self) -> Result<Vec<Found>> {
        let manifest = self.json(MANIFEST)?;
        let mut all: Vec<Found> = Vec::new();
        for image in list_of(&manifest, None) {
            if all.len() == IMAGES_MAX {
                return Err(format!("more than {IMAGES_MAX} images are named"));
            }
            let id = text(image, "Config").unwrap_or_default().to_owned();
            let tags = list_of(image, Some("RepoTags")).iter();
            let names: Vec<_> = tags.filter_map(Value::as_str).map(str::to_owned).collect();
            if let Some(known) = all.iter_mut().find(|found| found.id == id) {
                known.names.extend(names);
                continue;
            }
            let configuration = self.json(&id)?;
            all.push(Found {
                names,
                platform: Platform::of_json(&configuration).unwrap_or_default(),
                id,
                manifest: Some(Manifest::Here(image.clone())),
            });
        }
        match all.is_empty() {
            true => Err("the archive holds no image".into()),
            false => Ok(all),
        }
    }

    fn in_directory(&self) -> Result<Vec<Found>> {
        let manifest = self.json(MANIFEST)?;
        if manifest["manifests"].is_array() {
            return self.in_index(&manifest);
        }
        if let Some(kind) = artifact(&manifest) {
            return Err(not_an_image(kind));
        }
        let configuration = self.configuration(&manifest)?;
        Ok(vec![Found {
            names: Vec::new(),
            platform: Platform::of_json(&configuration).unwrap_or_default(),
            id: MANIFEST.to_owned(),
            manifest: Some(Manifest::Here(manifest)),
        }])
    }

    /// The configuration of an image; null where there is none to be read.
    fn configuration(&self, manifest: &Value) -> Result<Value> {
        if !manifest["config"].is_object() {
            return Ok(Value::Null);
        }
        self.blob_json(&manifest["config"])
    }

    /// The layers that a manifest names, and the platform that the configuration tells.
    fn layers(&self, manifest: &Value) -> Result<(Vec<Layer>, Option<Platform>)> {
        if manifest["fsLayers"].is_array() {
            return Err(
                "manifests of Docker's schema 1 are not read: `skopeo copy --format oci` writes \
                another"
                    .into(),
            );
        }
        let Some(descriptors) = manifest["layers"].as_array() else {
            return Err("the manifest has no list of layers".into());
        };
        let configuration = self.configuration(manifest)?;
        let diff_ids = diff_ids(&configuration, descriptors.len())?;
        let mut layers = Vec::new();
        for (descriptor, diff_id) in descriptors.iter().zip(diff_ids) {
            let digest = digest(descriptor)?;
            let text = text(descriptor, "mediaType").unwrap_or_default();
            let MediaType(compression) =
                media_type(text).map_err(|e| format!("\"{}\": {e}", text.escape_debug()))?;
            layers.push(Layer {
                name: self.blob_name(digest),
                digest: Some(digest),
                size: descriptor["size"].as_u64(),
                diff_id: Some(diff_id),
                compression,
            });
        }
        Ok((layers, Platform::of_json(&configuration)))
    }

    fn docker_layers(&self, image: &Value) -> Result<(Vec<Layer>, Option<Platform>)> {
        let configuration = self.json(text(image, "Config").unwrap_or_default())?;
        let names = list_of(image, Some("Layers"));
        let diff_ids = diff_ids(&configuration, names.len())?;
        let layer = |(name, diff_id): (&Value, Digest)| Layer {
            name: name.as_str().unwrap_or_default().to_owned(),
            digest: None,
            size: None,
            diff_id: Some(diff_id),
            compression: None,
        };
        let layers = names.iter().zip(diff_ids).map(layer).collect();
        Ok((layers, Platform::of_json(&configuration)))
    }
}

/// Images found in a search through indexes.
#[derive(Default)]
struct Search {
    all: Vec<Found>,
    followed: Followed,
    /// Descriptors that were looked at.
    mentions: usize,
    /// Something that is no image was found.
    artifact: Option<String>,
}

impl Search {
    fn push(&mut self, digest: Digest, found: Found) -> Vec<usize> {
        let number = vec![self.all.len()];
        self.all.push(found);
        self.followed.insert(digest, number.clone());
        number
    }

    /// Gives more names to what was found under a digest, and says what that is.
    fn add_names(&mut self, digest: Digest, names: &[String]) -> Vec<usize> {
        let numbers = self.followed.get(&digest).cloned().unwrap_or_default();
        for number in &numbers {
            let known = &mut self.all[*number].names;
            for name in names {
                if !known.contains(name) {
                    known.push(name.clone());
                }
            }
        }
        numbers
    }

    fn found(self) -> Result<Vec<Found>> {
        match (self.all.is_empty(), self.artifact) {
            (false, _) => Ok(self.all),
            (true, Some(kind)) => Err(not_an_image(&kind)),
            (true, None) => Err("the index names no image".into()),
        }
    }
}

impl Found {
    fn is_called(&self, tag: &str) -> bool {
        self.id == tag || self.names.iter().any(|name| is_called(name, tag))
    }

    fn shown(&self) -> String {
        let name = self.names.first().unwrap_or(&self.id);
        let name = name.escape_debug();
        match self.platform.is_known() {
            true => format!("{name} ({})", shown(&self.platform)),
            false => name.to_string(),
        }
    }
}

/// Whether a name is meant by a tag, which may leave the registry or all of the repository out.
fn is_called(name: &str, tag: &str) -> bool {
    let ends = |separator: char| {
        let rest = name.strip_suffix(tag);
        rest.is_some_and(|rest| rest.ends_with(separator))
    };
    name == tag || ends('/') || ends(':') && !tag.contains('/')
}

/// The image that is meant, of those that there are.
fn choose(mut found: Vec<Found>, wanted: Option<&Platform>) -> Result<Found> {
    if let Some(wanted) = wanted {
        let all = platforms(&found);
        found.retain(|image| wanted.covers(&image.platform));
        if found.is_empty() {
            let wanted = shown(wanted);
            return Err(format!("there is no image for {wanted}, but {all}"));
        }
    } else if found
        .windows(2)
        .any(|pair| pair[0].platform != pair[1].platform)
    {
        // Those that are there come first.
        if found.iter().any(|image| image.manifest.is_some()) {
            found.retain(|image| image.manifest.is_some());
        }
        let chosen = [Platform::host(), Platform::linux_amd64()]
            .iter()
            // The one that is there, so that its variant is one as well.
            .find_map(|wanted| found.iter().find(|image| wanted.covers(&image.platform)))
            .map(|image| image.platform.clone());
        match chosen {
            Some(chosen) => found.retain(|image| chosen.covers(&image.platform)),
            None if found.len() > 1 => {
                let all = platforms(&found);
                return Err(format!("--platform has to say which image: {all}"));
            }
            None => {}
        }
    }
    let option = match found
        .windows(2)
        .any(|pair| pair[0].platform != pair[1].platform)
    {
        true => "--platform or --tag",
        false => "--tag",
    };
    match (found.pop(), found.is_empty()) {
        (Some(image), true) => Ok(image),
        (Some(last), false) => {
            found.push(last);
            Err(format!(
                "{option} has to say which image: {}",
                names(&found)
            ))
        }
        (None, _) => Err("there is no image".into()),
    }
}

/// A platform as a line of text: an image may call it anything.
fn shown(platform: &Platform) -> String {
    platform.to_string().escape_debug().to_string()
}

/// Each platform once for a message, which must not grow as an index can.
fn platforms(found: &[Found]) -> String {
    const SHOWN: usize = 20;
    let mut all = Vec::new();
    for platform in found.iter().map(|image| shown(&image.platform)) {
        if all.len() < SHOWN && !all.contains(&platform) {
            all.push(platform);
        }
    }
    all.join(", ")
}

/// Names of images for a message, which must not grow as an index can.
fn names(found: &[Found]) -> String {
    const SHOWN: usize = 20;
    let mut all: Vec<_> = found.iter().take(SHOWN).map(Found::shown).collect();
    if let Some(more) = found.len().checked_sub(SHOWN).filter(|more| *more > 0) {
        all.push(format!("and {more} more"));
    }
    all.join(", ")
}

/// The names that a descriptor gives, or else those of the index that it stands in.
fn own_names(descriptor: &Value, outer: &[String]) -> Vec<String> {
    // containerd's has the repository as well.
    const NAMES: [&str; 2] = [
        "io.containerd.image.name",
        "org.opencontainers.image.ref.name",
    ];
    let annotations = &descriptor["annotations"];
    let own: Vec<_> = NAMES
        .iter()
        .filter_map(|name| text(annotations, name))
        .filter(|name| !name.is_empty())
        .map(str::to_owned)
        .collect();
    match own.is_empty() {
        true => outer.to_vec(),
        false => own,
    }
}

/// The type of what has the form of an image's manifest and is none.
fn artifact(manifest: &Value) -> Option<&str> {
    let configuration = text(&manifest["config"], "mediaType").filter(|kind| is_artifact(kind));
    text(manifest, "artifactType")
        .filter(|kind| !kind.is_empty())
        .or(configuration)
}

fn not_an_image(kind: &str) -> String {
    format!(
        "there is no image, but an artifact of the type {}",
        kind.escape_debug()
    )
}

/// Whether a manifest.json is one of `docker save`.
fn is_docker(images: &[Value]) -> bool {
    let is_image = |image: &Value| image["Config"].is_string() && image["Layers"].is_array();
    !images.is_empty() && images.iter().all(is_image)
}

/// Whether a manifest.json is a manifest, or a list of such.
fn is_manifest(manifest: &Value) -> bool {
    ["layers", "manifests", "fsLayers"]
        .iter()
        .any(|list| manifest[*list].is_array())
}

fn diff_ids(configuration: &Value, layers: usize) -> Result<Vec<Digest>> {
    let list = list_of(&configuration["rootfs"], Some("diff_ids"));
    let parse = |id: &Value| id.as_str().and_then(|id| id.parse().ok());
    let ids: Option<Vec<_>> = list.iter().map(parse).collect();
    ids.filter(|ids| ids.len() == layers)
        .ok_or_else(|| "the configuration does not have the diff ID of each layer".into())
}

fn digest(descriptor: &Value) -> Result<Digest> {
    let text = text(descriptor, "digest").unwrap_or_default();
    text.parse().map_err(|_| {
        format!(
            "only SHA-256 digests are read, not \"{}\"",
            text.escape_debug()
        )
    })
}

fn parse(name: &str, text: &[u8]) -> Result<Value> {
    serde_json::from_slice(text)
        .map_err(|e| format!("malformed JSON in {}: {e}", name.escape_debug()))
}

fn text<'a>(object: &'a Value, name: &str) -> Option<&'a str> {
    object[name].as_str()
}

/// A list, or one in an object.
fn list_of<'a>(value: &'a Value, name: Option<&str>) -> &'a [Value] {
    let list = name.map_or(value, |name| &value[name]);
    list.as_array().map_or(&[], Vec::as_slice)
}
