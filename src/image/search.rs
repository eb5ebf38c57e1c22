//! Indexes, followed to the images that they name.

use std::collections::HashMap;

use serde_json::Value;

use super::documents::Documents;
use super::json::{artifact, digest, malformed, not_an_image, text};
use super::platform::Platform;
use crate::error::{Error, Result};
use crate::summary::Digest;

/// Indexes stand in each other up to this depth.
const DEPTH_MAX: usize = 8;
/// The most images, or mentions of one, that are read.
pub(super) const IMAGES_MAX: usize = 4096;

/// Index digests that were followed, and the images found through them.
type Followed = HashMap<Digest, Vec<usize>>;

/// An image that was found, and not read yet.
pub(super) struct Found {
    /// Names and tags, the most complete first.
    pub(super) names: Vec<String>,
    pub(super) platform: Platform,
    /// The digest of its manifest, or the name of its configuration in an archive of Docker's.
    pub(super) id: String,
    /// Its manifest is there, which that of another platform may not be.
    pub(super) manifest: Option<Manifest>,
}

/// The document that leads to the layers of an image.
#[derive(Clone)]
pub(super) enum Manifest {
    /// In a blob of this descriptor.
    Blob(Value),
    /// An object in manifest.json.
    Here(Value),
}

/// The images that an index leads to.
pub(super) fn search(documents: &Documents, index: &Value) -> Result<Vec<Found>> {
    let mut search = Search {
        documents,
        all: Vec::new(),
        followed: Followed::new(),
        mentions: 0,
        artifact: None,
    };
    search.follow(index, &[], 0)?;
    search.found()
}

/// Images found in a search through indexes.
struct Search<'a> {
    documents: &'a Documents,
    all: Vec<Found>,
    followed: Followed,
    /// Descriptors that were looked at.
    mentions: usize,
    /// Something that is no image was found.
    artifact: Option<String>,
}

impl Search<'_> {
    /// Follows an index to images, each of which is found once, under all its names.
    fn follow(&mut self, index: &Value, names: &[String], depth: usize) -> Result<Vec<usize>> {
        if depth > DEPTH_MAX {
            return Err(malformed(
                "indexes stand in indexes, more than can be followed",
            ));
        }
        let Some(descriptors) = index["manifests"].as_array() else {
            return Err(malformed("the index has no list of manifests"));
        };
        let mut reached = Vec::new();
        for descriptor in descriptors {
            self.mentions += 1;
            if self.mentions > IMAGES_MAX {
                return Err(too_many());
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
            let mut new = self.add_names(digest, &names);
            if new.is_empty() {
                new = self.follow_one(descriptor, digest, platform, &names, depth)?;
            }
            reached.extend(new);
        }
        Ok(reached)
    }

    /// Follows a descriptor that was not followed yet.
    fn follow_one(
        &mut self,
        descriptor: &Value,
        digest: Digest,
        platform: Option<Platform>,
        names: &[String],
        depth: usize,
    ) -> Result<Vec<usize>> {
        let mut found = Found {
            names: names.to_vec(),
            platform: Platform::default(),
            id: digest.to_string(),
            manifest: None,
        };
        // Of an image for several platforms, one may have been copied.
        if let Some(platform) = &platform
            && !self.documents.is_here(descriptor)
        {
            found.platform = platform.clone();
            return Ok(self.push(digest, found));
        }
        // Registries count requests: only the manifest that is chosen is read.
        if self.documents.is_remote
            && let Some(platform) = &platform
            && is_manifest(descriptor)
        {
            found.platform = platform.clone();
            found.manifest = Some(Manifest::Blob(descriptor.clone()));
            return Ok(self.push(digest, found));
        }
        let manifest = self.documents.manifest_json(descriptor)?;
        if manifest["manifests"].is_array() {
            let reached = self.follow(&manifest, names, depth + 1)?;
            self.followed.insert(digest, reached.clone());
            return Ok(reached);
        }
        if let Some(kind) = artifact(&manifest) {
            self.artifact = Some(kind.to_owned());
            return Ok(Vec::new());
        }
        let platform = match platform {
            Some(platform) => Some(platform),
            None => Platform::of_json(&self.documents.configuration(&manifest)?),
        };
        found.platform = platform.unwrap_or_default();
        found.manifest = Some(Manifest::Blob(descriptor.clone()));
        Ok(self.push(digest, found))
    }

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
            (true, None) => Err(malformed("the index names no image")),
        }
    }
}

/// Whether a descriptor is one of an image's manifest by its media type, and not of an index.
fn is_manifest(descriptor: &Value) -> bool {
    const MANIFESTS: [&str; 2] = [
        "application/vnd.oci.image.manifest.v1+json",
        "application/vnd.docker.distribution.manifest.v2+json",
    ];
    let is_image = |kind| MANIFESTS.contains(&kind);
    text(descriptor, "mediaType").is_some_and(is_image)
        && text(descriptor, "artifactType").is_none_or(str::is_empty)
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

/// More images than are read.
pub(super) fn too_many() -> Error {
    Error::limit(format!("more than {IMAGES_MAX} images are named"))
}
