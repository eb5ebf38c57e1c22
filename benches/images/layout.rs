//! An image of generated layers in an OCI layout.

use std::error::Error;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use flate2::write::GzEncoder;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tar::{Builder, EntryType, Header};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Compression {
    Gzip,
    Zstd,
}

impl Compression {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
        }
    }

    fn compress(self, bytes: &[u8]) -> Result<Vec<u8>> {
        match self {
            Self::Gzip => {
                let mut encoder = GzEncoder::new(Vec::new(), flate2::Compression::new(6));
                encoder.write_all(bytes)?;
                Ok(encoder.finish()?)
            }
            Self::Zstd => Ok(zstd::encode_all(bytes, 3)?),
        }
    }
}

/// An image that was written.
pub(crate) struct Layout {
    pub(crate) path: PathBuf,
    pub(crate) compression: Compression,
    /// The blobs of the layers, the lowest first.
    pub(crate) blobs: Vec<PathBuf>,
    /// Bytes of all blobs.
    pub(crate) size: u64,
    /// Bytes of all files.
    pub(crate) content: u64,
    pub(crate) files: usize,
}

impl Layout {
    /// Writes an image whose lowest layer has half of the files. Each layer above changes a tenth
    /// of its own number of files of the lowest, and hides as many.
    pub(crate) fn write(
        path: &Path,
        layers: usize,
        files: usize,
        compression: Compression,
    ) -> Result<Self> {
        let blobs = path.join("blobs/sha256");
        fs::create_dir_all(&blobs)?;
        let mut layout = Self {
            path: path.to_owned(),
            compression,
            blobs: Vec::new(),
            size: 0,
            content: 0,
            files,
        };
        let bottom = files / 2;
        let above = (files - bottom) / (layers - 1).max(1);
        let (mut ids, mut descriptors) = (Vec::new(), Vec::new());
        for number in 0..layers {
            let tar = match number {
                0 => layer(0, bottom, 0, &mut layout.content)?,
                _ => layer(number, above, bottom, &mut layout.content)?,
            };
            ids.push(format!("sha256:{}", hex(&tar)));
            let blob = compression.compress(&tar)?;
            layout.size += blob.len() as u64;
            let name = hex(&blob);
            let kind = match compression {
                Compression::Gzip => "application/vnd.oci.image.layer.v1.tar+gzip",
                Compression::Zstd => "application/vnd.oci.image.layer.v1.tar+zstd",
            };
            descriptors.push(descriptor(&name, blob.len(), kind));
            let file = blobs.join(name);
            fs::write(&file, blob)?;
            layout.blobs.push(file);
        }
        let store = |document: Value, kind: &str| -> Result<Value> {
            let text = document.to_string();
            let name = hex(text.as_bytes());
            fs::write(blobs.join(&name), &text)?;
            Ok(descriptor(&name, text.len(), kind))
        };
        let configuration = json!({
            "os": "linux", "architecture": "amd64", "config": {},
            "rootfs": { "type": "layers", "diff_ids": ids },
        });
        let configuration = store(configuration, "application/vnd.oci.image.config.v1+json")?;
        let manifest_type = "application/vnd.oci.image.manifest.v1+json";
        let manifest = json!({
            "schemaVersion": 2, "mediaType": manifest_type,
            "config": configuration, "layers": descriptors,
        });
        let mut manifest = store(manifest, manifest_type)?;
        manifest["annotations"] = json!({ "org.opencontainers.image.ref.name": "latest" });
        let index = json!({ "schemaVersion": 2, "manifests": [manifest] });
        fs::write(path.join("index.json"), index.to_string())?;
        fs::write(path.join("oci-layout"), r#"{"imageLayoutVersion":"1.0.0"}"#)?;
        Ok(layout)
    }
}

fn descriptor(hex: &str, size: usize, kind: &str) -> Value {
    json!({ "mediaType": kind, "digest": format!("sha256:{hex}"), "size": size })
}

fn hex(bytes: &[u8]) -> String {
    let digest = Sha256::digest(bytes);
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Files of a directory in the layers.
const IN_DIRECTORY: usize = 8;

/// A layer of small files of words. Above the lowest, of which it knows `bottom` files, it changes
/// and hides some.
fn layer(number: usize, files: usize, bottom: usize, content: &mut u64) -> Result<Vec<u8>> {
    let mut tar = Builder::new(Vec::new());
    let mut random = number as u64 + 1;
    let mut next = move || {
        random = random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (random >> 33) as usize
    };
    directory(&mut tar, &format!("layer{number}"))?;
    let mut data = Vec::new();
    for file in 0..files {
        if file % IN_DIRECTORY == 0 {
            directory(&mut tar, &format!("layer{number}/{}", file / IN_DIRECTORY))?;
        }
        data.clear();
        // Most are small, a few are not.
        let size = [200, 900, 2_000, 3_500, 7_000, 12_000, 500, 40_000][next() % 8];
        while data.len() < size {
            write!(data, "word{} ", next() % 4096)?;
        }
        let path = match file % 10 {
            0 if bottom > 0 => in_bottom(next() % bottom, ""),
            1 if bottom > 0 => {
                data.clear();
                in_bottom(next() % bottom, ".wh.")
            }
            _ => format!("layer{number}/{}/{file}", file / IN_DIRECTORY),
        };
        // As builders have it, a layer describes the directories that it changes.
        if let Some((parent, _)) = path
            .rsplit_once('/')
            .filter(|_| path.starts_with("layer0/"))
        {
            directory(&mut tar, "layer0")?;
            directory(&mut tar, parent)?;
        }
        *content += data.len() as u64;
        entry(&mut tar, EntryType::Regular, &path, &data)?;
    }
    Ok(tar.into_inner()?)
}

/// The path of a file of the lowest layer.
fn in_bottom(file: usize, prefix: &str) -> String {
    format!("layer0/{}/{prefix}{file}", file / IN_DIRECTORY)
}

fn directory(tar: &mut Builder<Vec<u8>>, path: &str) -> Result<()> {
    entry(tar, EntryType::Directory, path, &[])
}

fn entry(tar: &mut Builder<Vec<u8>>, kind: EntryType, path: &str, data: &[u8]) -> Result<()> {
    let mut header = Header::new_ustar();
    header.set_entry_type(kind);
    header.set_size(data.len() as u64);
    header.set_mode(if kind.is_dir() { 0o755 } else { 0o644 });
    header.set_mtime(1_700_000_000);
    header.set_path(path)?;
    header.set_cksum();
    Ok(tar.append(&header, data)?)
}
