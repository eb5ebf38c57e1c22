//! Layers, and an image of them as an OCI archive.

use std::io::Write;

use sha2::{Digest, Sha256};
use tar::{Builder, EntryType, Header};

pub(crate) const PLAIN: &str = "application/vnd.oci.image.layer.v1.tar";
pub(crate) const GZIP: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
pub(crate) const ZSTD: &str = "application/vnd.oci.image.layer.v1.tar+zstd";

pub(crate) fn digest(bytes: &[u8]) -> String {
    let hash = Sha256::digest(bytes);
    let hex: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{hex}")
}

/// A layer in the making.
pub(crate) struct Layer(Builder<Vec<u8>>);

/// When everything in the layers was changed.
const TIME: u64 = 1_600_000_000;

impl Layer {
    pub(crate) fn new() -> Self {
        Self(Builder::new(Vec::new()))
    }

    fn add(mut self, kind: EntryType, path: &str, mode: u32, owner: u64, data: &[u8]) -> Self {
        let mut header = Header::new_ustar();
        header.set_entry_type(kind);
        header.set_path(path).unwrap();
        header.set_mode(mode);
        header.set_uid(owner);
        header.set_gid(owner);
        header.set_mtime(TIME);
        header.set_size(data.len() as u64);
        header.set_cksum();
        self.0.append(&header, data).unwrap();
        self
    }

    pub(crate) fn dir(self, path: &str, mode: u32) -> Self {
        self.add(EntryType::Directory, path, mode, 0, b"")
    }

    pub(crate) fn file(self, path: &str, data: impl AsRef<[u8]>) -> Self {
        self.add(EntryType::Regular, path, 0o644, 1000, data.as_ref())
    }

    fn link(mut self, kind: EntryType, path: &str, target: &str) -> Self {
        let mut header = Header::new_ustar();
        header.set_entry_type(kind);
        header.set_path(path).unwrap();
        header.set_link_name(target).unwrap();
        // A link's header speaks for the file, too.
        let (mode, owner) = match kind {
            EntryType::Link => (0o644, 1000),
            _ => (0o777, 0),
        };
        header.set_mode(mode);
        header.set_uid(owner);
        header.set_gid(owner);
        header.set_mtime(TIME);
        header.set_size(0);
        header.set_cksum();
        self.0.append(&header, &b""[..]).unwrap();
        self
    }

    pub(crate) fn symlink(self, path: &str, target: &str) -> Self {
        self.link(EntryType::Symlink, path, target)
    }

    pub(crate) fn hard_link(self, path: &str, target: &str) -> Self {
        self.link(EntryType::Link, path, target)
    }

    /// An attribute of the entry that follows.
    pub(crate) fn xattr(mut self, name: &str, value: &[u8]) -> Self {
        let name = format!("SCHILY.xattr.{name}");
        self.0.append_pax_extensions([(&name[..], value)]).unwrap();
        self
    }

    pub(crate) fn whiteout(self, path: &str) -> Self {
        let (parent, name) = path.rsplit_once('/').unwrap_or(("", path));
        let slash = if parent.is_empty() { "" } else { "/" };
        self.file(&format!("{parent}{slash}.wh.{name}"), "")
    }

    pub(crate) fn opaque(self, path: &str) -> Self {
        self.file(&format!("{path}/.wh..wh..opq"), "")
    }

    pub(crate) fn tar(self) -> Vec<u8> {
        self.0.into_inner().unwrap()
    }
}

/// Bytes that do not compress, always the same.
pub(crate) fn noise(len: usize, seed: u64) -> Vec<u8> {
    let mut state = seed | 1;
    let words = (0..len.div_ceil(8)).flat_map(|_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    });
    words.take(len).collect()
}

pub(crate) fn compress(media_type: &str, tar: &[u8]) -> Vec<u8> {
    match media_type {
        GZIP => {
            let level = flate2::Compression::fast();
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), level);
            encoder.write_all(tar).unwrap();
            encoder.finish().unwrap()
        }
        ZSTD => zstd::encode_all(tar, 1).unwrap(),
        _ => tar.to_vec(),
    }
}

/// Layers with everything that images have, as tars, the bottom one first.
pub(crate) fn layers() -> Vec<(&'static str, Vec<u8>)> {
    let big = noise(3 << 20, 7);
    let bottom = Layer::new()
        .dir("bin", 0o755)
        .file("bin/sh", "#!shell")
        .hard_link("bin/ash", "bin/sh")
        .dir("etc", 0o755)
        .file("etc/passwd", "root:x:0:0")
        .file("etc/group", "root:x:0")
        .dir("etc/old", 0o750)
        .file("etc/old/a", "a")
        .file("etc/old/b", "b")
        .dir("tmp", 0o1777)
        .xattr("user.on-a-directory", b"kept")
        .dir("usr", 0o711)
        .dir("usr/lib", 0o755)
        .file("usr/lib/x", "x")
        .file("usr/lib/big", &big)
        .symlink("lib", "usr/lib")
        .dir("gone", 0o755)
        .file("gone/with/everything", "in it")
        .dir("turns", 0o755)
        .file("turns/into", "a file");
    // Parents that only the layer below describes, and one reached through a link there.
    let second = Layer::new()
        .whiteout("etc/passwd")
        .opaque("etc/old")
        .file("etc/old/c", "c")
        .file("tmp/made-later", "keeps the mode of /tmp")
        .xattr(
            "security.capability",
            b"\x01\0\0\x02\0\x04\0\0\0\0\0\0\0\0\0\0\0\0\0\0",
        )
        .file("usr/bin/ping", "ping")
        .file("lib/through-a-link", "lands in usr/lib");
    let third = Layer::new()
        .whiteout("gone")
        .whiteout("turns")
        .file("turns", "now a file")
        .file("bin/sh", "another shell")
        .whiteout("usr/lib/x")
        .xattr("user.on-a-file", &noise(3000, 9))
        .file("usr/lib/y", "y")
        .file("new/deep/path", "new");
    vec![
        (GZIP, bottom.tar()),
        (ZSTD, second.tar()),
        (PLAIN, third.tar()),
        // A layer that changes nothing, as builders make of every RUN.
        (GZIP, Layer::new().tar()),
    ]
}

/// An OCI archive of one image.
pub(crate) fn archive(name: &str, layers: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let mut blobs = Builder::new(Vec::new());
    let mut put = |path: &str, data: &[u8]| {
        let mut header = Header::new_ustar();
        header.set_mode(0o644);
        header.set_size(data.len() as u64);
        blobs.append_data(&mut header, path, data).unwrap();
    };
    let mut blob = |media_type: &str, data: &[u8]| {
        let digest = digest(data);
        put(&format!("blobs/sha256/{}", &digest[7..]), data);
        serde_json::json!({"mediaType": media_type, "digest": digest, "size": data.len()})
    };
    let diff_ids: Vec<_> = layers.iter().map(|(_, tar)| digest(tar)).collect();
    let descriptors: Vec<_> = layers
        .iter()
        .map(|(media_type, tar)| blob(media_type, &compress(media_type, tar)))
        .collect();
    let architecture = match std::env::consts::ARCH {
        "aarch64" => "arm64",
        "x86_64" => "amd64",
        other => other,
    };
    let config = serde_json::json!({
        "architecture": architecture,
        "os": "linux",
        "config": {},
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
    });
    let config = blob(
        "application/vnd.oci.image.config.v1+json",
        config.to_string().as_bytes(),
    );
    let manifest_type = "application/vnd.oci.image.manifest.v1+json";
    let manifest = serde_json::json!({
        "schemaVersion": 2,
        "mediaType": manifest_type,
        "config": config,
        "layers": descriptors,
    });
    let mut manifest = blob(manifest_type, manifest.to_string().as_bytes());
    manifest["annotations"] = serde_json::json!({
        "io.containerd.image.name": name,
        "org.opencontainers.image.ref.name": "latest",
    });
    let index = serde_json::json!({"schemaVersion": 2, "manifests": [manifest]});
    put("index.json", index.to_string().as_bytes());
    put("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#);
    blobs.into_inner().unwrap()
}
