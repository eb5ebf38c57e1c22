//! Whole images: `image convert` and `image flatten`.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Output, Stdio};

use serde_json::{Value, json};

use crate::common::image::{Layout, archive, sha256};
use crate::common::{
    Layer, Place, assert_fails, code, gzip, layer, names, stderr, stdout, tar2vhd,
};

fn image(place: &Place, arguments: &[&str]) -> Output {
    tar2vhd()
        .current_dir(place.0.path())
        .arg("image")
        .args(arguments)
        .output()
        .unwrap()
}

fn with_input(place: &Place, arguments: &[&str], input: &[u8]) -> Output {
    let mut child = tar2vhd()
        .current_dir(place.0.path())
        .arg("image")
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(input).unwrap();
    drop(stdin);
    child.wait_with_output().unwrap()
}

/// Three layers: the second leaves a parent to the first, the third stands alone.
fn layers() -> [Vec<u8>; 3] {
    let bottom = Layer::new()
        .add(tar::EntryType::Directory, "usr/", b"")
        .add(tar::EntryType::Directory, "usr/lib/", b"")
        .add(tar::EntryType::Regular, "usr/lib/a", &[1; 5000])
        .add(tar::EntryType::Regular, "gone", b"gone")
        .finish();
    let middle = Layer::new()
        .add(tar::EntryType::Regular, "usr/lib/b", &[2; 5000])
        .finish();
    let top = Layer::new()
        .add(tar::EntryType::Regular, ".wh.gone", b"")
        .add(tar::EntryType::Regular, "new", b"new")
        .finish();
    [bottom, middle, top]
}

/// An image of these layers in an OCI layout.
fn layout(path: &Path, layers: &[Vec<u8>]) {
    fs::create_dir_all(path).unwrap();
    let layout = Layout(path);
    let layers: Vec<_> = layers.iter().map(Vec::as_slice).collect();
    let manifest = layout.manifest("linux", "amd64", &layers);
    layout.index(&[manifest]);
}

fn lines(output: &Output) -> Vec<Value> {
    assert_eq!(code(output), 0, "{output:?}");
    let lines = stdout(output).lines();
    lines
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

#[test]
fn every_spelling_of_an_image_gives_the_same_disk() {
    let place = Place::new();
    layout(&place.path("layout"), &layers());
    let tar = archive(&place.path("layout"));
    place.write("plain.tar", &tar);
    place.write("packed.tar.gz", gzip(&tar));
    place.write("packed.tar.zst", zstd::encode_all(&tar[..], 1).unwrap());
    let output = image(&place, &["flatten", "layout", "-o", "wanted.img", "-q"]);
    assert_eq!((code(&output), stderr(&output)), (0, ""), "{output:?}");
    let wanted = fs::read(place.path("wanted.img")).unwrap();
    for name in [
        "oci:layout",
        "oci-archive:plain.tar",
        "plain.tar",
        "oci-archive:packed.tar.gz",
        "packed.tar.gz",
        "packed.tar.zst",
    ] {
        let output = image(&place, &["flatten", name, "-o", "disk.img", "-q"]);
        assert_eq!(code(&output), 0, "{name}: {output:?}");
        assert!(
            fs::read(place.path("disk.img")).unwrap() == wanted,
            "{name}"
        );
    }
    for input in [&tar[..], &gzip(&tar)] {
        let output = with_input(&place, &["flatten", "-", "-o", "disk.img", "-q"], input);
        assert_eq!(code(&output), 0, "{output:?}");
        assert!(fs::read(place.path("disk.img")).unwrap() == wanted);
    }
    for (name, message) in [
        (
            "dir:layout",
            "this is an OCI image layout, not what dir: stands for",
        ),
        ("oci:plain.tar", "not what oci: stands for"),
        (
            "docker-archive:plain.tar",
            "not what docker-archive: stands for",
        ),
        ("oci:layout:absent", "there is no image of the tag absent"),
        ("absent", "absent: cannot open it"),
        ("oci:absent", "absent: cannot open it"),
    ] {
        let output = image(&place, &["flatten", name, "-o", "new.img"]);
        assert_fails(&output, 1, message);
        assert!(!place.path("new.img").exists(), "{name}");
    }
}

#[test]
fn the_summary_of_a_merged_image_is_json_too() {
    let place = Place::new();
    layout(&place.path("layout"), &layers());
    let arguments = ["flatten", "layout", "-o", "disk.vhd", "--json", "--verity"];
    let found = lines(&image(&place, &arguments));
    let [object] = &found[..] else {
        panic!("{found:?}");
    };
    let ids: Vec<_> = layers()
        .iter()
        .map(|l| format!("sha256:{}", sha256(l)))
        .collect();
    let told: Vec<_> = (0..3)
        .map(|i| object["layers"][i]["diffId"].clone())
        .collect();
    assert_eq!(told, ids);
    assert_eq!(object["disk"]["format"], "vhd");
    assert_eq!(object["disk"]["path"], "disk.vhd");
    assert_eq!(object["entries"]["files"], 3);
    assert_eq!(object["image"]["platform"], "linux/amd64");
    assert!(object["verity"]["rootHash"].is_string());
    let first = sha256(format!("{} {}", ids[0], ids[1]).as_bytes());
    let chain = sha256(format!("sha256:{first} {}", ids[2]).as_bytes());
    assert_eq!(object["chainId"], format!("sha256:{chain}"));
    let output = image(
        &place,
        &["flatten", "layout", "-o", "disk.vhd", "--no-clobber"],
    );
    assert_fails(&output, 1, "exists");
}

#[test]
fn layers_become_disks_that_images_share() {
    let place = Place::new();
    layout(&place.path("layout"), &layers());
    let arguments = [
        "convert",
        "layout",
        "-o",
        "disks",
        "--json",
        "--threads",
        "2",
    ];
    let found = lines(&image(&place, &arguments));
    assert_eq!(found.len(), 4);
    let whole = &found[3];
    let [bottom, middle, top] = &whole["layers"].as_array().unwrap()[..] else {
        panic!("{whole}");
    };
    let [first, second, third] = layers();
    let chain = sha256(format!("sha256:{} sha256:{}", sha256(&first), sha256(&second)).as_bytes());
    assert_eq!(bottom["path"], format!("sha256/{}.vhd", sha256(&first)));
    assert_eq!(middle["path"], format!("sha256/{chain}.vhd"));
    assert_eq!(middle["chainId"], format!("sha256:{chain}"));
    assert_eq!(top["path"], format!("sha256/{}.vhd", sha256(&third)));
    // The disks are those of `convert`, the second over the first.
    let disks = place.path("disks");
    let read = |layer: &Value| fs::read(disks.join(layer["path"].as_str().unwrap())).unwrap();
    assert!(read(bottom) == place.converted(&first, &[]));
    assert!(read(top) == place.converted(&third, &[]));
    let below = disks.join(bottom["path"].as_str().unwrap());
    let lower = ["--lower", below.to_str().unwrap()];
    assert!(read(middle) == place.converted(&second, &lower));
    let document = fs::read(place.path(whole["document"].as_str().unwrap())).unwrap();
    let document: Value = serde_json::from_slice(&document).unwrap();
    assert_eq!(document["layers"], whole["layers"]);
    assert_eq!(document["configuration"]["os"], "linux");

    // Another image with the same layers at the bottom: one disk is new.
    let mut more = layers().to_vec();
    more.push(layer());
    layout(&place.path("more"), &more);
    let found = lines(&image(
        &place,
        &["convert", "more", "-o", "disks", "--json"],
    ));
    let reused: Vec<_> = found[..4]
        .iter()
        .filter(|layer| layer["reused"] == true)
        .collect();
    assert_eq!((found.len(), reused.len()), (5, 3));

    // What is gone or was cut is made again.
    let kept = read(top);
    fs::write(disks.join(top["path"].as_str().unwrap()), &kept[..100]).unwrap();
    fs::remove_file(disks.join(middle["path"].as_str().unwrap())).unwrap();
    let found = lines(&image(
        &place,
        &["convert", "layout", "-o", "disks", "--json"],
    ));
    let made: Vec<_> = found[..3]
        .iter()
        .filter(|layer| layer["reused"] == false)
        .collect();
    assert_eq!(made.len(), 2, "{found:?}");
    assert!(read(top) == kept);
}

#[test]
fn a_disk_of_other_options_is_neither_used_nor_replaced() {
    let place = Place::new();
    layout(&place.path("layout"), &layers());
    let output = image(&place, &["convert", "layout", "-o", "disks", "-q"]);
    assert_eq!(code(&output), 0, "{output:?}");
    let before = names(&place.path("disks/sha256"));
    for (arguments, difference) in [
        (&["--inline-data"][..], "inlineData"),
        (&["--verity"], "verity"),
        (&["--format", "vhd-dynamic"], "format"),
        (&["--profile", "hcsshim"], "profile"),
    ] {
        let all = [&["convert", "layout", "-o", "disks"], arguments].concat();
        assert_fails(&image(&place, &all), 1, difference);
    }
    assert_eq!(names(&place.path("disks/sha256")), before);
    // Those of another extension have names of their own.
    let output = image(
        &place,
        &["convert", "layout", "-o", "disks", "-f", "vhdx", "-q"],
    );
    assert_eq!(code(&output), 0, "{output:?}");
    #[cfg(unix)]
    {
        let record = before.iter().find(|name| name.ends_with(".json")).unwrap();
        let pipe = place.path("disks/sha256").join(record);
        let record = fs::read(&pipe).unwrap();
        fs::remove_file(&pipe).unwrap();
        let made = std::process::Command::new("mkfifo")
            .arg(&pipe)
            .status()
            .unwrap();
        assert!(made.success());
        let output = image(&place, &["convert", "layout", "-o", "disks"]);
        assert_fails(&output, 1, "it is no regular file");
        fs::remove_file(&pipe).unwrap();
        fs::write(&pipe, record).unwrap();
    }
    let damaged = place
        .path("disks/sha256")
        .join(before.iter().find(|n| n.ends_with(".json")).unwrap());
    fs::write(&damaged, "{").unwrap();
    assert_fails(
        &image(&place, &["convert", "layout", "-o", "disks"]),
        1,
        "is damaged",
    );
}

#[test]
fn the_hcsshim_profile_never_looks_below() {
    let place = Place::new();
    layout(&place.path("layout"), &layers());
    let arguments = [
        "convert",
        "layout",
        "-o",
        "disks",
        "--json",
        "--profile",
        "hcsshim",
        "--verity",
    ];
    let found = lines(&image(&place, &arguments));
    let told = tar2vhd()
        .current_dir(place.0.path())
        .args(["roothash", "layout", "--profile", "hcsshim", "--json"])
        .output()
        .unwrap();
    let told: Value = serde_json::from_str(stdout(&told)).unwrap();
    for i in 0..3 {
        let layer = &found[3]["layers"][i];
        assert_eq!(layer["chainId"], Value::Null);
        assert_eq!(layer["verity"]["rootHash"], told["layers"][i]["rootHash"]);
    }
}

#[test]
fn a_layer_at_the_bottom_and_above_others_is_two_disks() {
    let place = Place::new();
    let [first, second, _] = layers();
    layout(&place.path("alone"), std::slice::from_ref(&second));
    layout(&place.path("above"), &[first, second.clone()]);
    for order in [["alone", "above"], ["above", "alone"]] {
        let mut disks = Vec::new();
        let _ = fs::remove_dir_all(place.path("disks"));
        for name in order.iter().chain(&order) {
            let found = lines(&image(&place, &["convert", name, "-o", "disks", "--json"]));
            let all = &found.last().unwrap()["layers"];
            let path = all.as_array().unwrap().last().unwrap()["path"]
                .as_str()
                .unwrap()
                .to_owned();
            disks.push((
                path.clone(),
                fs::read(place.path("disks").join(path)).unwrap(),
            ));
        }
        assert_ne!(disks[0], disks[1]);
        assert!(disks[..2] == disks[2..], "{order:?}");
        let alone = &disks[usize::from(order[0] != "alone")];
        assert_eq!(alone.0, format!("sha256/{}.vhd", sha256(&second)));
        assert!(alone.1 == place.converted(&second, &[]), "{order:?}");
    }
}

#[test]
fn broken_images_are_refused_and_leave_nothing() {
    let place = Place::new();
    let path = place.path("layout");
    let blob = |hex: &str| path.join("blobs/sha256").join(hex);
    let top = sha256(&gzip(&layers()[2]));
    type Break<'a> = Box<dyn Fn() + 'a>;
    let cases: [(&str, Break<'_>); 4] = [
        (
            "layer 3: ",
            Box::new(|| fs::write(blob(&top), gzip(&layer())).unwrap()),
        ),
        (
            "layer 3: ",
            Box::new(|| fs::write(blob(&top), &gzip(&layers()[2])[..50]).unwrap()),
        ),
        (
            "there is no blobs",
            Box::new(|| fs::remove_file(blob(&top)).unwrap()),
        ),
        (
            "malformed JSON",
            Box::new(|| fs::write(path.join("index.json"), "{").unwrap()),
        ),
    ];
    for (message, damage) in cases {
        let _ = fs::remove_dir_all(&path);
        layout(&path, &layers());
        damage();
        assert_fails(
            &image(&place, &["flatten", "layout", "-o", "disk.vhd"]),
            1,
            message,
        );
        assert!(!place.path("disk.vhd").exists(), "{message}");
        assert_fails(
            &image(&place, &["convert", "layout", "-o", "disks"]),
            1,
            message,
        );
        let left = match place.path("disks/sha256").exists() {
            true => names(&place.path("disks/sha256")),
            false => Vec::new(),
        };
        // Layers that were done before stay: they are whole.
        let bad = format!("{}.vhd", sha256(&layers()[2]));
        assert!(!left.contains(&bad), "{message}: {left:?}");
        let _ = fs::remove_dir_all(place.path("disks"));
    }
}

#[test]
fn a_document_means_one_thing_and_a_layer_has_a_size() {
    let place = Place::new();
    let path = place.path("layout");
    let [first, ..] = layers();
    let both = |manifest: &mut Value| manifest["manifests"] = json!([]);
    let other = |manifest: &mut Value| manifest["mediaType"] = "index".into();
    let negative = |manifest: &mut Value| manifest["layers"][0]["size"] = json!(-1);
    let absent = |manifest: &mut Value| manifest["layers"][0]["size"] = Value::Null;
    type Change<'a> = &'a dyn Fn(&mut Value);
    let cases: [(Change<'_>, &str); 4] = [
        (&both, "is an index and a manifest at once"),
        (
            &other,
            "has the media type \"index\", and its descriptor says \"manifest\"",
        ),
        (&negative, "has no size in bytes"),
        (&absent, "has no size in bytes"),
    ];
    for (change, message) in cases {
        let _ = fs::remove_dir_all(&path);
        fs::create_dir(&path).unwrap();
        let layout = Layout(&path);
        let mut manifest = layout.unstored("linux", "amd64", &[&first]);
        change(&mut manifest);
        layout.index(&[layout.blob(manifest.to_string().as_bytes(), "manifest")]);
        let output = image(&place, &["flatten", "layout", "-o", "disk.vhd"]);
        assert_fails(&output, 1, message);
    }
}

#[test]
fn no_file_of_the_image_is_replaced() {
    let place = Place::new();
    layout(&place.path("layout"), &layers());
    let blob = format!("layout/blobs/sha256/{}", sha256(&gzip(&layers()[0])));
    for output in ["layout/index.json", "layout/oci-layout", &blob] {
        let before = fs::read(place.path(output)).unwrap();
        let result = image(&place, &["flatten", "layout", "-o", output, "-O", "raw"]);
        assert_fails(&result, 2, "the image");
        assert!(fs::read(place.path(output)).unwrap() == before, "{output}");
    }
    let mut tar = b"\x1b[31m text that is no tar".repeat(100);
    tar[148..156].copy_from_slice(b"\x1b\xff\n12345");
    place.write("text", &tar);
    let output = image(&place, &["flatten", "text", "-o", "disk.vhd"]);
    assert_fails(&output, 1, "text: ");
    let lines = stderr(&output).trim_end();
    assert!(!lines.contains(char::is_control), "{lines:?}");
}

#[test]
fn an_image_with_a_choice_says_what_there_is() {
    let place = Place::new();
    let path = place.path("layout");
    fs::create_dir(&path).unwrap();
    let layout = Layout(&path);
    let [first, second, _] = layers();
    let mut manifests = Vec::new();
    for (name, layer) in [("one", &first), ("two", &second)] {
        let mut manifest = layout.manifest("linux", "amd64", &[layer]);
        manifest["annotations"] = json!({ "org.opencontainers.image.ref.name": name });
        manifests.push(manifest);
    }
    layout.index(&manifests);
    let output = image(&place, &["flatten", "layout", "-o", "disk.vhd"]);
    assert_fails(
        &output,
        1,
        "--tag has to say which image: one (linux/amd64), two (linux/amd64)",
    );
    for arguments in [&["oci:layout:two"][..], &["layout", "--tag", "two"]] {
        let all = [&["flatten", "-o", "disk.vhd", "--json"], arguments].concat();
        let found = lines(&image(&place, &all));
        assert_eq!(found[0]["image"]["name"], "two");
        assert_eq!(found[0]["layers"].as_array().unwrap().len(), 1);
    }
    let output = image(
        &place,
        &["flatten", "oci:layout:two", "--tag", "two", "-o", "x"],
    );
    assert_fails(&output, 2, "IMAGE has a tag");
}

#[test]
fn convert_names_the_commands_for_images() {
    let place = Place::new();
    layout(&place.path("layout"), &layers());
    let output = tar2vhd()
        .current_dir(place.0.path())
        .args(["convert", "layout", "disk"])
        .output()
        .unwrap();
    assert_fails(
        &output,
        1,
        "`tar2vhd image convert` makes a disk of each layer",
    );
}
