//! A repository as a store: an OCI image layout of which each file is a request.

use std::collections::HashMap;
use std::io::{self, Cursor, ErrorKind, Read};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use super::blob::BlobReader;
use super::failure::Part;
use super::repository::{Document, Repository};
use super::worker::Worker;
use crate::error::{Error, ErrorKind as Kind, Result};
use crate::image::json::{digest, list_of, parse, text};
use crate::image::store::Store;
use crate::summary::Digest;

/// The repository of one image.
pub(super) struct RegistryStore {
    worker: Arc<Worker>,
    repository: Arc<Repository>,
    index: Vec<u8>,
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    /// The blobs that documents have named.
    blobs: HashMap<Digest, Blob>,
    /// Bytes of the documents that are kept.
    kept: usize,
}

/// A blob that a document has named.
struct Blob {
    kind: BlobKind,
    /// Its bytes, as its descriptor says.
    size: Option<u64>,
    /// A document that was read.
    bytes: Option<Arc<[u8]>>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum BlobKind {
    /// A manifest or an index.
    Manifest,
    Configuration,
    Layer,
}

const OCI_LAYOUT: &[u8] = br#"{"imageLayoutVersion":"1.0.0"}"#;
const BLOBS: &str = "blobs/sha256/";
/// Bytes of documents that are kept at most, so that one is not read twice.
const KEPT_MAX: usize = 16 << 20;
/// Blobs that are remembered at most.
const BLOBS_MAX: usize = 1 << 16;
const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

impl RegistryStore {
    /// Reads the document that the name leads to.
    pub(super) fn new(worker: Arc<Worker>, repository: Arc<Repository>) -> Result<Self> {
        let document = fetch(&worker, &repository, Part::Named)?;
        let found = Digest(Sha256::digest(&document.bytes).into());
        let name = &repository.name;
        let stated = document
            .digest
            .as_ref()
            .and_then(|digest| digest.parse().ok());
        if let Some(expected) = [name.digest(), stated]
            .into_iter()
            .flatten()
            .find(|expected| *expected != found)
        {
            return Err(wrong_digest(&repository, expected, found));
        }
        let value = parse(name, &document.bytes)?;
        let media_type = media_type(&value, document.media_type.as_deref());
        let index = json!({
            "schemaVersion": 2,
            "mediaType": INDEX,
            "manifests": [{
                "mediaType": media_type,
                "digest": found.to_string(),
                "size": document.bytes.len(),
                "annotations": { "io.containerd.image.name": name.to_string() },
            }],
        });
        let store = Self {
            worker,
            repository,
            index: index.to_string().into_bytes(),
            known: Mutex::default(),
        };
        let mut known = store.known();
        known.blobs.insert(
            found,
            Blob {
                kind: BlobKind::Manifest,
                size: None,
                bytes: None,
            },
        );
        known.learn(&value, &store.repository)?;
        known.keep(found, &document.bytes.into());
        drop(known);
        Ok(store)
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A document, from memory if it was read before.
    fn document(&self, digest: Digest, kind: BlobKind) -> Result<Arc<[u8]>> {
        let kept = self
            .known()
            .blobs
            .get(&digest)
            .and_then(|blob| blob.bytes.clone());
        if let Some(kept) = kept {
            return Ok(kept);
        }
        let part = match kind {
            BlobKind::Manifest => Part::Manifest(digest.to_string()),
            BlobKind::Configuration | BlobKind::Layer => Part::Blob(digest.to_string()),
        };
        let document = fetch(&self.worker, &self.repository, part)?;
        let found = Digest(Sha256::digest(&document.bytes).into());
        if found != digest {
            return Err(wrong_digest(&self.repository, digest, found));
        }
        let bytes: Arc<[u8]> = document.bytes.into();
        let mut known = self.known();
        if kind == BlobKind::Manifest {
            known.learn(&parse(digest, &bytes)?, &self.repository)?;
        }
        known.keep(digest, &bytes);
        Ok(bytes)
    }

    fn blob(&self, name: &str) -> Option<(Digest, BlobKind, Option<u64>)> {
        let hex = name.strip_prefix(BLOBS)?;
        let digest = format!("sha256:{hex}").parse().ok()?;
        let known = self.known();
        let blob = known.blobs.get(&digest)?;
        Some((digest, blob.kind, blob.size))
    }
}

fn fetch(worker: &Worker, repository: &Arc<Repository>, part: Part) -> Result<Document> {
    let own = Arc::clone(repository);
    let task = async move { own.document(&part).await };
    worker.run(&repository.options.cancel, task)
}

fn wrong_digest(repository: &Repository, expected: Digest, found: Digest) -> Error {
    let name = &repository.name;
    let registry = name.registry();
    Error::new(
        Kind::Mismatch,
        format!("cannot read {name}: {registry} has something of the digest {found} as {expected}"),
    )
}

/// The media type of a document: its own, else that of the response, else that of its form.
fn media_type(document: &Value, response: Option<&str>) -> String {
    let response = response.map(|text| text.split(';').next().unwrap_or(text).trim());
    let by_form = match document["manifests"].is_array() {
        true => INDEX,
        false => MANIFEST,
    };
    text(document, "mediaType")
        .or(response.filter(|kind| kind.starts_with("application/vnd.")))
        .unwrap_or(by_form)
        .to_owned()
}

impl Known {
    /// Notes the blobs that a manifest or an index names.
    fn learn(&mut self, document: &Value, repository: &Repository) -> Result<()> {
        let configuration = std::slice::from_ref(&document["config"]);
        for (descriptors, kind) in [
            (list_of(document, Some("manifests")), BlobKind::Manifest),
            (configuration, BlobKind::Configuration),
            (list_of(document, Some("layers")), BlobKind::Layer),
        ] {
            for descriptor in descriptors {
                // Whoever reads the image says which digest is none.
                let Ok(digest) = digest(descriptor) else {
                    continue;
                };
                if self.blobs.len() == BLOBS_MAX {
                    let name = &repository.name;
                    return Err(Error::limit(format!(
                        "cannot read {name}: its documents name more than {BLOBS_MAX} blobs"
                    )));
                }
                self.blobs.entry(digest).or_insert_with(|| Blob {
                    kind,
                    size: descriptor["size"].as_u64(),
                    bytes: None,
                });
            }
        }
        Ok(())
    }

    fn keep(&mut self, digest: Digest, bytes: &Arc<[u8]>) {
        if self.kept + bytes.len() > KEPT_MAX {
            return;
        }
        if let Some(blob) = self.blobs.get_mut(&digest)
            && blob.bytes.is_none()
        {
            self.kept += bytes.len();
            blob.bytes = Some(Arc::clone(bytes));
        }
    }
}

impl Store for RegistryStore {
    fn open(&self, name: &str) -> io::Result<Box<dyn Read + Send>> {
        match name {
            "oci-layout" => return Ok(Box::new(OCI_LAYOUT)),
            "index.json" => return Ok(Box::new(Cursor::new(self.index.clone()))),
            _ => {}
        }
        let (digest, kind, size) = self.blob(name).ok_or(ErrorKind::NotFound)?;
        if kind == BlobKind::Layer {
            let repository = Arc::clone(&self.repository);
            return Ok(Box::new(BlobReader::start(
                &self.worker,
                repository,
                digest,
                size,
            )));
        }
        let bytes = self.document(digest, kind).map_err(io::Error::other)?;
        Ok(Box::new(Cursor::new(bytes)))
    }

    fn has(&self, name: &str) -> bool {
        matches!(name, "oci-layout" | "index.json") || self.blob(name).is_some()
    }
}
