//! Root hashes without disks.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::common::{Layer, Place, code, gzip, layer, stderr, stdout, tar2vhd};

fn sha256(bytes: &[u8]) -> String {
    let digest = Sha256::digest(bytes);
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The root hash of the disk that convert makes.
fn converted(layer: &[u8], arguments: &[&str]) -> String {
    let place = Place::new();
    let all = [&["--json", "--verity"], arguments].concat();
    let output = place.convert(layer, &all);
    let summary: Value = serde_json::from_str(stdout(&output)).unwrap();
    summary["verity"]["rootHash"].as_str().unwrap().to_owned()
}

fn roothash(place: &Place, arguments: &[&str]) -> std::process::Output {
    tar2vhd()
        .current_dir(place.0.path())
        .arg("roothash")
        .args(arguments)
        .output()
        .unwrap()
}

fn other_layer() -> Vec<u8> {
    Layer::new()
        .add(tar::EntryType::Regular, "other", b"of another")
        .finish()
}

#[test]
fn of_layers() {
    let place = Place::new();
    place.write("plain", layer());
    place.write("gzip", gzip(&layer()));
    let output = roothash(&place, &["plain", "gzip"]);
    assert_eq!(code(&output), 0, "{output:?}");
    let hash = converted(&layer(), &[]);
    assert_eq!(stdout(&output), format!("{hash}  plain\n{hash}  gzip\n"));

    let arguments = [
        "--profile",
        "hcsshim",
        "--max-size",
        "16GiB",
        "--no-whiteouts",
    ];
    let hash = converted(&layer(), &arguments);
    let output = roothash(&place, &[&arguments[..], &["--json", "plain"]].concat());
    let object: Value = serde_json::from_str(stdout(&output)).unwrap();
    assert_eq!(object["input"], "plain");
    assert_eq!(object["layers"][0]["rootHash"], hash);
    assert_eq!(
        object["layers"][0]["diffId"],
        format!("sha256:{}", sha256(&layer()))
    );
    assert_eq!(place.names(), ["gzip", "plain"], "no disk is written");

    place.write("bad", &layer()[..1000]);
    let output = roothash(&place, &["bad"]);
    assert_eq!(code(&output), 1);
    assert!(
        stderr(&output).contains("error: bad: "),
        "{}",
        stderr(&output)
    );
}

/// The blobs of an image in an OCI layout.
struct Layout<'a>(&'a Path);

impl Layout<'_> {
    fn blob(&self, bytes: &[u8], media_type: &str) -> Value {
        let hex = sha256(bytes);
        fs::create_dir_all(self.0.join("blobs/sha256")).unwrap();
        fs::write(self.0.join("blobs/sha256").join(&hex), bytes).unwrap();
        json!({ "mediaType": media_type, "digest": format!("sha256:{hex}"), "size": bytes.len() })
    }

    fn manifest(&self, os: &str, architecture: &str, layers: &[&[u8]]) -> Value {
        let ids: Vec<_> = layers
            .iter()
            .map(|layer| format!("sha256:{}", sha256(layer)))
            .collect();
        let config = json!({
            "os": os, "architecture": architecture, "rootfs": { "diff_ids": ids },
        });
        let kind = "application/vnd.oci.image.layer.v1.tar+gzip";
        let manifest = json!({
            "config": self.blob(config.to_string().as_bytes(), "config"),
            "layers": layers.iter().map(|l| self.blob(&gzip(l), kind)).collect::<Vec<_>>(),
        });
        self.blob(manifest.to_string().as_bytes(), "manifest")
    }

    fn index(&self, manifests: &[Value]) {
        fs::write(
            self.0.join("oci-layout"),
            r#"{"imageLayoutVersion":"1.0.0"}"#,
        )
        .unwrap();
        let index = json!({ "manifests": manifests });
        fs::write(self.0.join("index.json"), index.to_string()).unwrap();
    }
}

fn archive(directory: &Path) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    tar.append_dir_all(".", directory).unwrap();
    tar.into_inner().unwrap()
}

#[test]
fn of_oci_layouts() {
    let place = Place::new();
    let path = place.path("image");
    fs::create_dir(&path).unwrap();
    let layout = Layout(&path);
    let (first, second) = (layer(), other_layer());
    let amd64 = layout.manifest("linux", "amd64", &[&first, &second]);
    let other = layout.manifest("linux", "riscv64", &[&second]);
    let nested = json!({ "manifests": [amd64] });
    let nested = layout.blob(nested.to_string().as_bytes(), "index");
    layout.index(&[other.clone(), nested]);
    place.write("image.tar", archive(&path));

    let hashes = [&first, &second].map(|layer| converted(layer, &[]));
    let line = |hash: &str, input: &str, layer: &[u8]| {
        format!("{hash}  {input} sha256:{}\n", sha256(layer))
    };
    for input in ["image", "image.tar"] {
        let output = roothash(&place, &[input, "--platform", "linux/amd64"]);
        assert_eq!(code(&output), 0, "{output:?}");
        let wanted = line(&hashes[0], input, &first) + &line(&hashes[1], input, &second);
        assert_eq!(stdout(&output), wanted);
        // Neither machine nor wish is for riscv64.
        #[cfg(not(target_arch = "riscv64"))]
        assert_eq!(stdout(&roothash(&place, &[input])), wanted);
        let output = roothash(&place, &[input, "--platform", "linux/riscv64"]);
        assert_eq!(stdout(&output), line(&hashes[1], input, &second));
        let output = roothash(&place, &[input, "--platform", "plan9/amd64"]);
        assert_eq!(code(&output), 1);
        assert!(
            stderr(&output).contains("linux/riscv64, linux/amd64"),
            "{}",
            stderr(&output)
        );
    }

    // A blob that is not what the image says, be it manifest or layer.
    let blobs = path.join("blobs/sha256");
    let hex = |descriptor: &Value| descriptor["digest"].as_str().unwrap()[7..].to_owned();
    layout.index(std::slice::from_ref(&other));
    for name in [hex(&other), sha256(&gzip(&second))] {
        let good = fs::read(blobs.join(&name)).unwrap();
        fs::write(blobs.join(&name), [&good[..], b" "].concat()).unwrap();
        let output = roothash(&place, &["image"]);
        assert_eq!((code(&output), stdout(&output)), (1, ""), "{name}");
        fs::write(blobs.join(&name), good).unwrap();
    }
    assert_eq!(code(&roothash(&place, &["image"])), 0);
    fs::remove_file(path.join("index.json")).unwrap();
    assert_eq!(code(&roothash(&place, &["image"])), 1);
}

#[test]
fn of_docker_archives() {
    let place = Place::new();
    let (first, second) = (layer(), other_layer());
    let ids = [&first, &second].map(|layer| format!("sha256:{}", sha256(layer)));
    let config = json!({ "os": "linux", "architecture": "s390x", "rootfs": { "diff_ids": ids } });
    let manifest = json!([{ "Config": "c.json", "Layers": ["a/layer.tar", "b/layer.tar"] }]);
    let mut tar = tar::Builder::new(Vec::new());
    let mut add = |name: &str, bytes: &[u8]| {
        let mut header = tar::Header::new_ustar();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        tar.append_data(&mut header, name, bytes).unwrap();
    };
    add("manifest.json", manifest.to_string().as_bytes());
    add("c.json", config.to_string().as_bytes());
    add("a/layer.tar", &first);
    add("x/layer.tar", &second);
    // Equal layers are links in some archives.
    let mut header = tar::Header::new_ustar();
    header.set_entry_type(tar::EntryType::Symlink);
    header.set_size(0);
    tar.append_link(&mut header, "b/layer.tar", "../x/layer.tar")
        .unwrap();
    place.write("saved.tar", tar.into_inner().unwrap());

    let output = roothash(&place, &["--json", "saved.tar"]);
    assert_eq!(code(&output), 0, "{output:?}");
    let object: Value = serde_json::from_str(stdout(&output)).unwrap();
    for (i, layer) in [&first, &second].into_iter().enumerate() {
        assert_eq!(object["layers"][i]["diffId"], ids[i]);
        assert_eq!(object["layers"][i]["rootHash"], converted(layer, &[]));
    }
    let output = roothash(&place, &["saved.tar", "--platform", "linux/amd64"]);
    assert_eq!(code(&output), 1, "{output:?}");

    // A layer that has a file of that name is a layer.
    let file = Layer::new().add(tar::EntryType::Regular, "manifest.json", b"{}");
    place.write("layer.tar", file.finish());
    let output = roothash(&place, &["layer.tar"]);
    assert!(stdout(&output).ends_with("  layer.tar\n"), "{output:?}");
}
