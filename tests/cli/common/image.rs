//! Images of layers, in the forms that people hold.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::gzip;

pub(crate) fn sha256(bytes: &[u8]) -> String {
    let digest = Sha256::digest(bytes);
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The blobs of an image in an OCI layout.
pub(crate) struct Layout<'a>(pub(crate) &'a Path);

impl Layout<'_> {
    pub(crate) fn blob(&self, bytes: &[u8], media_type: &str) -> Value {
        let hex = sha256(bytes);
        fs::create_dir_all(self.0.join("blobs/sha256")).unwrap();
        fs::write(self.0.join("blobs/sha256").join(&hex), bytes).unwrap();
        json!({ "mediaType": media_type, "digest": format!("sha256:{hex}"), "size": bytes.len() })
    }

    pub(crate) fn manifest(&self, os: &str, architecture: &str, layers: &[&[u8]]) -> Value {
        let manifest = self.unstored(os, architecture, layers);
        self.blob(manifest.to_string().as_bytes(), "manifest")
    }

    /// A manifest whose blobs are stored, but not itself.
    pub(crate) fn unstored(&self, os: &str, architecture: &str, layers: &[&[u8]]) -> Value {
        let ids: Vec<_> = layers
            .iter()
            .map(|layer| format!("sha256:{}", sha256(layer)))
            .collect();
        let config = json!({
            "os": os, "architecture": architecture, "rootfs": { "diff_ids": ids },
        });
        let kind = "application/vnd.oci.image.layer.v1.tar+gzip";
        json!({
            "config": self.blob(config.to_string().as_bytes(), "config"),
            "layers": layers.iter().map(|l| self.blob(&gzip(l), kind)).collect::<Vec<_>>(),
        })
    }

    pub(crate) fn index(&self, manifests: &[Value]) {
        fs::write(
            self.0.join("oci-layout"),
            r#"{"imageLayoutVersion":"1.0.0"}"#,
        )
        .unwrap();
        let index = json!({ "manifests": manifests });
        fs::write(self.0.join("index.json"), index.to_string()).unwrap();
    }
}

pub(crate) fn archive(directory: &Path) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    tar.append_dir_all(".", directory).unwrap();
    tar.into_inner().unwrap()
}
