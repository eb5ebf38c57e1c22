//! Images to be served, and what the library makes of them.

use std::collections::HashMap;
use std::fs;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tar2vhd::image::registry::{ImageName, Registry, RegistryOptions};
use tar2vhd::image::{Image, Layer};

use crate::server::{Answer, Request, Server};

pub(crate) const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
pub(crate) const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const CONFIGURATION: &str = "application/vnd.oci.image.config.v1+json";
pub(crate) const GZIP: &str = "application/vnd.oci.image.layer.v1.tar+gzip";

pub(crate) fn digest(bytes: &[u8]) -> String {
    let digest = Sha256::digest(bytes);
    let hex: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{hex}")
}

/// Bytes that no compression makes smaller.
pub(crate) fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed * 2 + 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    (0..len).map(|_| next()).collect()
}

/// A layer with one file.
pub(crate) fn layer(name: &str, contents: &[u8]) -> Vec<u8> {
    let mut header = tar::Header::new_ustar();
    header.set_path(name).unwrap();
    header.set_mode(0o644);
    header.set_size(contents.len() as u64);
    header.set_cksum();
    let mut tar = tar::Builder::new(Vec::new());
    tar.append(&header, contents).unwrap();
    tar.into_inner().unwrap()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// The blobs of a repository, by their digests, and the one that its tag leads to.
#[derive(Clone, Default)]
pub(crate) struct Content {
    pub(crate) blobs: HashMap<String, Arc<[u8]>>,
    manifests: Vec<String>,
    pub(crate) top: String,
    top_type: String,
    /// The digests of the layers of the image that was added last, the lowest first.
    pub(crate) layers: Vec<String>,
}

impl Content {
    /// An image for linux/amd64 of these layers.
    pub(crate) fn new(layers: &[Vec<u8>]) -> Self {
        let mut content = Self::default();
        let descriptor = content.image("amd64", layers);
        content.top = descriptor["digest"].as_str().unwrap().to_owned();
        content.top_type = MANIFEST.into();
        content
    }

    /// Images for these architectures, of a layer each.
    pub(crate) fn for_architectures(architectures: &[&str]) -> Self {
        let mut content = Self::default();
        let mut manifests = Vec::new();
        for architecture in architectures {
            let layer = layer(architecture, architecture.as_bytes());
            let mut descriptor = content.image(architecture, &[layer]);
            descriptor["platform"] = json!({ "os": "linux", "architecture": architecture });
            manifests.push(descriptor);
        }
        let index = json!({ "schemaVersion": 2, "mediaType": INDEX, "manifests": manifests });
        let index = content.blob(index.to_string().as_bytes(), INDEX);
        content.top = index["digest"].as_str().unwrap().to_owned();
        content.top_type = INDEX.into();
        content.manifests.push(content.top.clone());
        content
    }

    fn image(&mut self, architecture: &str, layers: &[Vec<u8>]) -> Value {
        let ids: Vec<_> = layers.iter().map(|layer| digest(layer)).collect();
        let configuration = json!({
            "os": "linux", "architecture": architecture,
            "config": { "Cmd": ["/bin/true"] },
            "rootfs": { "type": "layers", "diff_ids": ids },
        });
        let configuration = self.blob(configuration.to_string().as_bytes(), CONFIGURATION);
        let layers: Vec<_> = layers.iter().map(|l| self.blob(&gzip(l), GZIP)).collect();
        let digests = layers.iter().map(|l| l["digest"].as_str().unwrap());
        self.layers = digests.map(str::to_owned).collect();
        let manifest = json!({
            "schemaVersion": 2, "mediaType": MANIFEST, "config": configuration, "layers": layers,
        });
        let manifest = self.blob(manifest.to_string().as_bytes(), MANIFEST);
        let digest = manifest["digest"].as_str().unwrap();
        self.manifests.push(digest.to_owned());
        manifest
    }

    fn blob(&mut self, bytes: &[u8], media_type: &str) -> Value {
        let digest = digest(bytes);
        self.blobs.insert(digest.clone(), bytes.into());
        json!({ "mediaType": media_type, "digest": digest, "size": bytes.len() })
    }

    /// The bytes of the lowest layer, as they are stored.
    pub(crate) fn lowest(&self) -> Arc<[u8]> {
        Arc::clone(&self.blobs[&self.layers[0]])
    }

    /// The answer of a registry that does as it should; the repository is `r`, the tag `t`.
    pub(crate) fn answer(&self, request: &Request) -> Answer {
        let name = request.path.rsplit('/').next().unwrap();
        let is_manifest = request.path.starts_with("/v2/r/manifests/");
        let name = match name {
            "t" if is_manifest => &self.top,
            name => name,
        };
        let Some(blob) = self.blobs.get(name) else {
            return Answer::new(404, *br#"{"errors":[{"code":"MANIFEST_UNKNOWN"}]}"#);
        };
        if is_manifest != self.manifests.iter().any(|manifest| manifest == name) {
            return Answer::status(404);
        }
        if !is_manifest {
            return ranged(request, blob);
        }
        let kind = match name == self.top {
            true => &self.top_type,
            false => MANIFEST,
        };
        let accepted = request.header("accept").unwrap();
        assert!(accepted.contains(kind), "{accepted}");
        Answer::ok(Arc::clone(blob))
            .header("Content-Type", kind)
            .header("Docker-Content-Digest", name)
    }

    pub(crate) fn serve(self) -> Server {
        Server::start(move |request| self.answer(request))
    }

    /// Writes an OCI layout.
    pub(crate) fn write(&self, directory: &Path) {
        let blobs = directory.join("blobs/sha256");
        fs::create_dir_all(&blobs).unwrap();
        for (digest, bytes) in &self.blobs {
            fs::write(blobs.join(&digest["sha256:".len()..]), bytes).unwrap();
        }
        let layout = r#"{"imageLayoutVersion":"1.0.0"}"#;
        fs::write(directory.join("oci-layout"), layout).unwrap();
        let index = json!({ "schemaVersion": 2, "manifests": [{
            "mediaType": self.top_type, "digest": self.top, "size": self.blobs[&self.top].len(),
            "annotations": { "org.opencontainers.image.ref.name": "t" },
        }] });
        fs::write(directory.join("index.json"), index.to_string()).unwrap();
    }
}

/// A blob from where a range begins.
pub(crate) fn ranged(request: &Request, blob: &Arc<[u8]>) -> Answer {
    match request.from() {
        0 => Answer::ok(Arc::clone(blob)),
        from => {
            let (last, size) = (blob.len() - 1, blob.len());
            let range = format!("bytes {from}-{last}/{size}");
            Answer::new(206, &blob[from..]).header("Content-Range", range)
        }
    }
}

/// Options for servers without TLS, nobody's credentials, and short pauses.
pub(crate) fn options() -> RegistryOptions {
    static NONE: LazyLock<PathBuf> = LazyLock::new(|| {
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("no-credentials.json");
        fs::write(&path, "{}").unwrap();
        path
    });
    RegistryOptions::new()
        .tls_verify(false)
        .auth_file(&*NONE)
        .retry_pause(Duration::from_millis(2))
        .retries(2)
}

pub(crate) fn name(server: &Server) -> ImageName {
    format!("{}/r:t", server.address).parse().unwrap()
}

/// The image of a server for linux/amd64.
pub(crate) fn choose(server: &Server, options: RegistryOptions) -> tar2vhd::Result<Image> {
    let registry = Registry::new(options)?;
    let platform = "linux/amd64".parse().unwrap();
    registry
        .images(&name(server))?
        .choose(None, Some(&platform))
}

/// The image of a server for everyone.
pub(crate) fn image(server: &Server) -> Image {
    choose(server, options()).unwrap()
}

pub(crate) fn read(image: &Image, layer: &Layer) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut blob = image.open_layer(layer).map_err(io::Error::other)?;
    blob.read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Reads the lowest layer.
pub(crate) fn read_lowest(image: &Image) -> Result<Vec<u8>, tar2vhd::Error> {
    read(image, &image.layers()[0]).map_err(|e| e.downcast().unwrap())
}
