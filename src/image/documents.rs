//! The JSON documents of a store: those with a name, and those with a digest.

use std::io::{self, ErrorKind, Read};
use std::sync::Arc;

use serde_json::Value;
use sha2::{Digest as _, Sha256};

use super::json::{digest, malformed, parse, refused, text};
use super::store::Store;
use crate::error::{Error, ErrorKind as Kind, Result};
use crate::summary::Digest;

pub(super) struct Documents {
    pub(super) store: Arc<dyn Store>,
    pub(super) form: Form,
    /// Reading a document takes a request.
    pub(super) is_remote: bool,
}

/// How the files of images are arranged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// An OCI image layout.
    Layout,
    /// An archive of `docker save`.
    DockerArchive,
    /// A directory as skopeo's `dir:` writes it.
    Directory,
}

impl Form {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Layout => "an OCI image layout",
            Self::DockerArchive => "an archive of `docker save`",
            Self::Directory => "a directory of skopeo's dir:",
        }
    }
}

/// Bytes of a JSON document that are read at most, as registries do.
const JSON_MAX: u64 = 4 << 20;

pub(super) const MANIFEST: &str = "manifest.json";

impl Documents {
    pub(super) fn json(&self, name: &str) -> Result<Value> {
        parse(name.escape_debug(), &self.document(name)?)
    }

    pub(super) fn document(&self, name: &str) -> Result<Vec<u8>> {
        let mut text = Vec::new();
        let mut file = open(&*self.store, name)?.take(JSON_MAX + 1);
        file.read_to_end(&mut text).map_err(|e| failed(name, e))?;
        if text.len() as u64 > JSON_MAX {
            let name = name.escape_debug();
            return Err(Error::limit(format!(
                "{name} has more than {JSON_MAX} bytes of JSON"
            )));
        }
        Ok(text)
    }

    /// The JSON that a descriptor names, which has to have its digest.
    pub(super) fn blob_json(&self, descriptor: &Value) -> Result<Value> {
        let digest = digest(descriptor)?;
        let mut name = self.blob_name(digest);
        // The manifests that a list names have names of their own in a `dir:`.
        let manifest = format!("{name}.{MANIFEST}");
        if self.form == Form::Directory && self.store.has(&manifest) {
            name = manifest;
        }
        let text = self.document(&name)?;
        let found = Digest(Sha256::digest(&text).into());
        match found == digest {
            true => parse(name, &text),
            false => Err(refused(format!("the blob {digest} has the digest {found}"))),
        }
    }

    /// The manifest or index that a descriptor names. It must not be another thing to a reader that
    /// goes by the descriptor than to one that goes by the document (OCI image specification 1.1,
    /// "Image Manifest", mediaType).
    pub(super) fn manifest_json(&self, descriptor: &Value) -> Result<Value> {
        let manifest = self.blob_json(descriptor)?;
        let has = |name: &str| !manifest[name].is_null();
        if has("manifests") && (has("layers") || has("config")) {
            return Err(malformed("a document is an index and a manifest at once"));
        }
        let [said, is] = [descriptor, &manifest].map(|object| text(object, "mediaType"));
        match (said, is) {
            (Some(said), Some(is)) if said != is => Err(refused(format!(
                "a document has the media type \"{}\", and its descriptor says \"{}\"",
                is.escape_debug(),
                said.escape_debug()
            ))),
            _ => Ok(manifest),
        }
    }

    pub(super) fn blob_name(&self, digest: Digest) -> String {
        let hex = digest.to_hex();
        match self.form {
            Form::Directory => hex,
            _ => format!("blobs/sha256/{hex}"),
        }
    }

    /// Whether the JSON that a descriptor names is in the store.
    pub(super) fn is_here(&self, descriptor: &Value) -> bool {
        let Ok(digest) = digest(descriptor) else {
            return false;
        };
        let name = self.blob_name(digest);
        self.store.has(&name)
            || self.form == Form::Directory && self.store.has(&format!("{name}.{MANIFEST}"))
    }

    /// The configuration of an image; null where there is none to be read.
    pub(super) fn configuration(&self, manifest: &Value) -> Result<Value> {
        if !manifest["config"].is_object() {
            return Ok(Value::Null);
        }
        self.blob_json(&manifest["config"])
    }
}

pub(super) fn open(store: &dyn Store, name: &str) -> Result<Box<dyn Read + Send>> {
    store.open(name).map_err(|e| match e.kind() {
        ErrorKind::NotFound => {
            let name = name.escape_debug();
            Error::new(Kind::Input, format!("there is no {name}"))
        }
        _ => failed(name, e),
    })
}

/// The error of reading a file, which may know more about itself.
fn failed(name: &str, error: io::Error) -> Error {
    error.downcast::<Error>().unwrap_or_else(|error| {
        let name = name.escape_debug();
        Error::new(Kind::Input, format!("cannot read {name}")).with_source(error)
    })
}
