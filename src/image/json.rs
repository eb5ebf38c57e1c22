//! The few fields of the JSON documents of images that are read.
//!
//! Sources: OCI image specification 1.1 (index, manifest, configuration), Docker image manifest
//! version 2 schema 2, `docker save`.

use std::fmt::Display;

use serde_json::Value;

use super::media_type::is_artifact;
use crate::error::{Error, ErrorKind, Result};
use crate::summary::Digest;

/// An image that contradicts its specification, or lacks a part.
pub(super) fn malformed(message: impl Into<String>) -> Error {
    Error::corrupt(message)
}

/// An image that is well formed and not the one that was asked for.
pub(super) fn refused(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::Mismatch, message)
}

pub(super) fn parse(name: impl Display, text: &[u8]) -> Result<Value> {
    serde_json::from_slice(text).map_err(|e| malformed(format!("malformed JSON in {name}: {e}")))
}

pub(super) fn text<'a>(object: &'a Value, name: &str) -> Option<&'a str> {
    object[name].as_str()
}

/// A list, or one in an object; empty if there is none.
pub(super) fn list_of<'a>(value: &'a Value, name: Option<&str>) -> &'a [Value] {
    let list = name.map_or(value, |name| &value[name]);
    list.as_array().map_or(&[], Vec::as_slice)
}

/// The digest of a descriptor.
pub(super) fn digest(descriptor: &Value) -> Result<Digest> {
    let text = text(descriptor, "digest").unwrap_or_default();
    text.parse().map_err(|_| {
        Error::unsupported(format!(
            "only SHA-256 digests are read, not \"{}\"",
            text.escape_debug()
        ))
    })
}

/// The size of the blob of a descriptor, which has to have one.
pub(super) fn size(descriptor: &Value) -> Result<u64> {
    descriptor["size"]
        .as_u64()
        .ok_or_else(|| malformed("the descriptor of a layer has no size in bytes"))
}

/// The diff IDs of a configuration, of which a manifest has `layers`.
pub(super) fn diff_ids(configuration: &Value, layers: usize) -> Result<Vec<Digest>> {
    let list = list_of(&configuration["rootfs"], Some("diff_ids"));
    let parse = |id: &Value| id.as_str().and_then(|id| id.parse().ok());
    let ids: Option<Vec<_>> = list.iter().map(parse).collect();
    ids.filter(|ids| ids.len() == layers)
        .ok_or_else(|| malformed("the configuration does not have the diff ID of each layer"))
}

/// Whether a manifest.json is one of `docker save`.
pub(super) fn is_docker(images: &[Value]) -> bool {
    let is_image = |image: &Value| image["Config"].is_string() && image["Layers"].is_array();
    !images.is_empty() && images.iter().all(is_image)
}

/// Whether a manifest.json is a manifest, or a list of such.
pub(super) fn is_manifest(manifest: &Value) -> bool {
    ["layers", "manifests", "fsLayers"]
        .iter()
        .any(|list| manifest[*list].is_array())
}

/// The type of a document that has the form of an image's manifest and is none.
pub(super) fn artifact(manifest: &Value) -> Option<&str> {
    let configuration = text(&manifest["config"], "mediaType").filter(|kind| is_artifact(kind));
    text(manifest, "artifactType")
        .filter(|kind| !kind.is_empty())
        .or(configuration)
}

pub(super) fn not_an_image(kind: &str) -> Error {
    Error::unsupported(format!(
        "there is no image, but an artifact of the type {}",
        kind.escape_debug()
    ))
}
