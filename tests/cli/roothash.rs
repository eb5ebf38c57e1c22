//! Root hashes without disks.

use std::fs;

use serde_json::{Value, json};

use crate::common::image::{Layout, archive, sha256};
use crate::common::{Layer, Place, assert_fails, code, gzip, layer, stderr, stdout, tar2vhd};

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
    assert_eq!(object["path"], "plain");
    assert_eq!(
        (&object["tag"], &object["platform"]),
        (&Value::Null, &Value::Null)
    );
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

/// A descriptor under a name.
fn tagged(descriptor: &Value, tag: &str) -> Value {
    let mut tagged = descriptor.clone();
    tagged["annotations"] = json!({ "org.opencontainers.image.ref.name": tag });
    tagged
}

fn parsed(output: &std::process::Output) -> Value {
    assert_eq!(code(output), 0, "{output:?}");
    serde_json::from_str(stdout(output)).unwrap()
}

#[test]
fn a_tag_says_which_image() {
    let place = Place::new();
    let path = place.path("image");
    fs::create_dir(&path).unwrap();
    let layout = Layout(&path);
    let (first, second) = (layer(), other_layer());
    let one = layout.manifest("linux", "amd64", &[&first]);
    let two = layout.manifest("linux", "amd64", &[&second]);
    layout.index(&[
        tagged(&one, "app:1"),
        tagged(&two, "app:2"),
        tagged(&one, "app:latest"),
    ]);

    let output = roothash(&place, &["image"]);
    assert_fails(
        &output,
        1,
        "image: --tag has to say which image: app:1 (linux/amd64), app:2",
    );
    for (tag, layer, shown) in [
        ("app:1", &first, "app:1"),
        ("latest", &first, "app:latest"),
        ("2", &second, "app:2"),
        (two["digest"].as_str().unwrap(), &second, "app:2"),
    ] {
        let object = parsed(&roothash(&place, &["image", "--json", "--tag", tag]));
        assert_eq!(object["tag"], shown, "{tag}");
        assert_eq!(object["platform"], "linux/amd64");
        assert_eq!(object["layers"].as_array().unwrap().len(), 1);
        assert_eq!(object["layers"][0]["rootHash"], converted(layer, &[]));
    }
    let output = roothash(&place, &["image", "--tag", "3"]);
    assert_fails(&output, 1, "no image of the tag 3, but app:1");

    // The same image under two names is one.
    layout.index(&[tagged(&one, "a"), tagged(&one, "b")]);
    let object = parsed(&roothash(&place, &["image", "--json"]));
    assert_eq!(object["tag"], "a");
    // The names of an index are those of its images.
    let nested = json!({ "manifests": [one] });
    let nested = layout.blob(nested.to_string().as_bytes(), "index");
    layout.index(&[tagged(&nested, "n"), tagged(&nested, "m")]);
    let object = parsed(&roothash(&place, &["image", "--json", "--tag", "m"]));
    assert_eq!(object["tag"], "m");
    // Images without names have digests.
    layout.index(&[one.clone(), two.clone()]);
    let output = roothash(&place, &["image"]);
    assert_fails(&output, 1, one["digest"].as_str().unwrap());
}

#[test]
fn what_is_no_image_is_no_success() {
    let place = Place::new();
    let path = place.path("image");
    fs::create_dir(&path).unwrap();
    let layout = Layout(&path);
    let first = layer();
    let fails = |message: &str| {
        let output = roothash(&place, &["image", "--platform", "linux/amd64"]);
        assert_eq!(stdout(&output), "", "{message}");
        assert_fails(&output, 1, message);
        let output = roothash(&place, &["image", "--json"]);
        assert_eq!(stdout(&output), "", "{message}");
        assert_fails(&output, 1, message);
    };
    layout.index(&[]);
    fails("image: the index names no image");
    fs::write(path.join("index.json"), "{}").unwrap();
    fails("no list of manifests");
    fs::write(path.join("index.json"), "[").unwrap();
    fails("malformed JSON in index.json");
    layout.index(&[layout.manifest("linux", "amd64", &[])]);
    fails("the image has no layers");
    let listless = json!({ "schemaVersion": 2 });
    layout.index(&[layout.blob(listless.to_string().as_bytes(), "manifest")]);
    assert_fails(&roothash(&place, &["image"]), 1, "no list of layers");
    let mut chart = layout.unstored("linux", "amd64", &[&first]);
    chart["config"]["mediaType"] = "application/vnd.cncf.helm.config.v1+json".into();
    layout.index(&[layout.blob(chart.to_string().as_bytes(), "manifest")]);
    fails("an artifact of the type application/vnd.cncf.helm");
    let attestation = json!({ "vnd.docker.reference.type": "attestation-manifest" });
    let mut only = layout.manifest("unknown", "unknown", &[&first]);
    only["annotations"] = attestation;
    layout.index(&[only]);
    fails("the index names no image");

    // What signs or describes an image stands beside it.
    let image = layout.manifest("linux", "amd64", &[&first]);
    let chart = layout.blob(chart.to_string().as_bytes(), "manifest");
    layout.index(&[chart, image]);
    assert_eq!(code(&roothash(&place, &["image"])), 0);

    fs::remove_file(path.join("index.json")).unwrap();
    fails("no index.json");
    fs::create_dir(place.path("empty")).unwrap();
    let output = roothash(&place, &["empty"]);
    assert_fails(&output, 1, "empty: this is a directory without an image");
}

#[test]
fn images_for_windows_are_refused() {
    let place = Place::new();
    let path = place.path("image");
    fs::create_dir(&path).unwrap();
    let layout = Layout(&path);
    let (first, second) = (layer(), other_layer());
    let windows = layout.manifest("windows", "amd64", &[&first]);
    let linux = layout.manifest("linux", "amd64", &[&second]);
    layout.index(std::slice::from_ref(&windows));
    let output = roothash(&place, &["image"]);
    assert_eq!(stdout(&output), "");
    assert_fails(&output, 1, "an image for windows/amd64");
    // The descriptor may say otherwise.
    let mut lying = windows.clone();
    lying["platform"] = json!({ "os": "linux", "architecture": "amd64" });
    layout.index(&[lying]);
    assert_fails(
        &roothash(&place, &["image"]),
        1,
        "an image for windows/amd64",
    );
    layout.index(&[windows, linux]);
    let object = parsed(&roothash(&place, &["image", "--json"]));
    assert_eq!(object["layers"][0]["rootHash"], converted(&second, &[]));
    let output = roothash(&place, &["image", "--platform", "windows/amd64"]);
    assert_fails(&output, 1, "an image for windows/amd64");
}

/// Of an image for several platforms one may have been copied, with the index of all.
#[test]
fn manifests_of_other_platforms_may_be_missing() {
    let place = Place::new();
    let path = place.path("image");
    fs::create_dir(&path).unwrap();
    let layout = Layout(&path);
    let platform = |mut descriptor: Value, architecture: &str| {
        descriptor["platform"] = json!({ "os": "linux", "architecture": architecture });
        descriptor
    };
    let here = platform(layout.manifest("linux", "riscv64", &[&layer()]), "riscv64");
    let gone = json!({ "digest": format!("sha256:{}", "0".repeat(64)), "size": 3 });
    let gone = platform(gone, "amd64");
    layout.index(&[gone, here]);
    let object = parsed(&roothash(&place, &["image", "--json"]));
    assert_eq!(object["platform"], "linux/riscv64");
    let output = roothash(&place, &["image", "--platform", "linux/amd64"]);
    assert_fails(&output, 1, "the manifest for linux/amd64 is not there");
}

#[test]
fn of_skopeos_directories() {
    let place = Place::new();
    let path = place.path("image");
    fs::create_dir(&path).unwrap();
    let layout = Layout(&path);
    let (first, second) = (layer(), other_layer());
    let manifest = layout.unstored("linux", "amd64", &[&first, &second]);
    let listed = layout.manifest("linux", "riscv64", &[&second]);
    // Blobs are called by their digests, without folders.
    let dir = place.path("dir");
    fs::create_dir(&dir).unwrap();
    for blob in fs::read_dir(path.join("blobs/sha256")).unwrap() {
        let blob = blob.unwrap();
        fs::copy(blob.path(), dir.join(blob.file_name())).unwrap();
    }
    fs::write(dir.join("manifest.json"), manifest.to_string()).unwrap();
    fs::write(dir.join("version"), "Directory Transport Version: 1.1\n").unwrap();
    place.write("dir.tar", archive(&dir));
    for input in ["dir", "dir.tar"] {
        let object = parsed(&roothash(&place, &["--json", input]));
        let hashes = [&first, &second].map(|layer| converted(layer, &[]));
        let found = object["layers"].as_array().unwrap().iter();
        assert!(
            found.map(|layer| &layer["rootHash"]).eq(&hashes),
            "{object}"
        );
        assert_eq!(object["platform"], "linux/amd64");
    }
    // A list, whose manifests have names of their own.
    let hex = &listed["digest"].as_str().unwrap()[7..];
    fs::rename(dir.join(hex), dir.join(format!("{hex}.manifest.json"))).unwrap();
    let list = json!({ "manifests": [listed] });
    fs::write(dir.join("manifest.json"), list.to_string()).unwrap();
    let object = parsed(&roothash(&place, &["--json", "dir"]));
    assert_eq!(object["layers"][0]["rootHash"], converted(&second, &[]));

    fs::write(dir.join("manifest.json"), r#"{"fsLayers":[]}"#).unwrap();
    assert_fails(&roothash(&place, &["dir"]), 1, "schema 1");
    for neither in ["{}", "[]", "3", r#"[{"Config":1}]"#] {
        fs::write(dir.join("manifest.json"), neither).unwrap();
        let output = roothash(&place, &["dir"]);
        assert_eq!(stdout(&output), "", "{neither}");
        assert_fails(&output, 1, "manifest.json is neither");
    }
}

/// An archive of `docker save`, some of whose paths are spelled in another way.
fn saved(layers: &[(&str, &[u8])], images: &Value) -> Vec<u8> {
    let ids: Vec<_> = layers
        .iter()
        .map(|(_, layer)| format!("sha256:{}", sha256(layer)))
        .collect();
    let mut tar = tar::Builder::new(Vec::new());
    let mut add = |name: &str, bytes: &[u8]| {
        let mut header = tar::Header::new_ustar();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        tar.append_data(&mut header, name, bytes).unwrap();
    };
    add("manifest.json", images.to_string().as_bytes());
    for (number, id) in ids.iter().enumerate() {
        let config = json!({
            "os": "linux", "architecture": "amd64", "rootfs": { "diff_ids": [id] },
        });
        add(&format!("c{number}.json"), config.to_string().as_bytes());
    }
    for (name, layer) in layers {
        add(name, layer);
    }
    tar.into_inner().unwrap()
}

#[test]
fn of_several_images_of_docker() {
    let place = Place::new();
    let (first, second) = (layer(), other_layer());
    let images = json!([
        { "Config": "./c0.json", "RepoTags": ["one:1", "one:latest"], "Layers": ["./a//layer.tar"] },
        { "Config": "c1.json", "RepoTags": ["example.org/two:1"], "Layers": ["b/../b/layer.tar"] },
    ]);
    let tar = saved(
        &[("a/layer.tar", &first), ("b/layer.tar", &second)],
        &images,
    );
    place.write("saved.tar", &tar);
    let output = roothash(&place, &["saved.tar"]);
    assert_fails(
        &output,
        1,
        "--tag has to say which image: one:1 (linux/amd64), example.org/two:1",
    );
    for (tag, layer, shown) in [
        ("one:latest", &first, "one:latest"),
        ("two:1", &second, "example.org/two:1"),
        ("example.org/two:1", &second, "example.org/two:1"),
    ] {
        let object = parsed(&roothash(&place, &["saved.tar", "--json", "--tag", tag]));
        assert_eq!(object["tag"], shown);
        assert_eq!(
            object["layers"][0]["rootHash"],
            converted(layer, &[]),
            "{tag}"
        );
    }
    assert_fails(
        &roothash(&place, &["saved.tar", "--tag", "1"]),
        1,
        "--tag has to say which",
    );

    // Docker 25 writes an index as well, which may be empty.
    for index in [r#"{"manifests":null}"#, r#"{"manifests":[]}"#] {
        let images = json!([{ "Config": "c0.json", "Layers": ["a/layer.tar"] }]);
        let mut start = saved(&[("a/layer.tar", &first)], &images);
        start.truncate(start.len() - 1024);
        let mut tar = tar::Builder::new(start);
        for (name, text) in [("index.json", index), ("oci-layout", "{}")] {
            let mut header = tar::Header::new_ustar();
            header.set_size(text.len() as u64);
            header.set_mode(0o644);
            tar.append_data(&mut header, name, text.as_bytes()).unwrap();
        }
        place.write("docker25.tar", tar.into_inner().unwrap());
        let object = parsed(&roothash(&place, &["docker25.tar", "--json"]));
        assert_eq!(object["layers"][0]["rootHash"], converted(&first, &[]));
    }

    // Compressed, or through a pipe, it cannot be read from here and there.
    place.write("saved.tar.gz", gzip(&tar));
    let output = roothash(&place, &["saved.tar.gz"]);
    assert_eq!(stdout(&output), "");
    assert_fails(&output, 1, "saved.tar.gz: this is an archive of images");
}

/// What `roothash` and `convert` say of a layer, they say under the same names.
#[test]
fn json_is_that_of_convert() {
    let place = Place::new();
    let odd = Layer::new()
        .add(tar::EntryType::Regular, "missing/file", b"")
        .finish();
    place.write("layer", gzip(&odd));
    let hashed = parsed(&roothash(&place, &["--json", "layer"]));
    let hashed = hashed["layers"][0].as_object().unwrap();
    let summary = parsed(&place.convert(&gzip(&odd), &["--json", "--verity"]));
    for (key, value) in hashed {
        let same = summary.get(key).or_else(|| summary["verity"].get(key));
        assert_eq!(Some(value), same, "{key}");
    }
    for key in [
        "diffId",
        "compressed",
        "rootHash",
        "hashOffset",
        "salt",
        "dataBlocks",
        "warnings",
    ] {
        assert!(hashed.contains_key(key), "{key}");
    }
    assert!(hashed["hashOffset"].as_u64().unwrap() > 0);
}

#[test]
fn a_layer_that_leaves_parents_to_those_below_is_hashed_with_them() {
    let base = Layer::new()
        .add(tar::EntryType::Directory, "etc/", b"")
        .finish();
    let top = Layer::new()
        .add(tar::EntryType::Regular, "etc/file", b"x")
        .finish();
    let place = Place::new();
    let image = place.path("image");
    fs::create_dir(&image).unwrap();
    let layout = Layout(&image);
    let linux = layout.manifest("linux", "amd64", &[&base, &top]);
    layout.index(&[linux]);
    place.write("base", &base);
    let to_disk = tar2vhd()
        .current_dir(place.0.path())
        .args(["convert", "base", "-o", "base.vhdx", "--format", "vhdx"])
        .output()
        .unwrap();
    assert_eq!(code(&to_disk), 0);
    let lower = place.path("base.vhdx");
    let alone = converted(&top, &[]);
    let with = converted(&top, &["--lower", lower.to_str().unwrap()]);
    assert_ne!(alone, with);
    let output = roothash(&place, &["--json", "--platform", "linux/amd64", "image"]);
    assert_eq!(code(&output), 0, "{output:?}");
    let object: Value = serde_json::from_str(stdout(&output)).unwrap();
    let hash = |n: usize| {
        let layer = &object["layers"][n];
        let verity = &layer["verity"]["rootHash"];
        let hash = verity.as_str().or_else(|| layer["rootHash"].as_str());
        hash.unwrap().to_owned()
    };
    assert_eq!(hash(0), converted(&base, &[]));
    assert_eq!(hash(1), with);
}
