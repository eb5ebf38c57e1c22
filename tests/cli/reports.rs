//! What the command says.

use std::fs;

use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::common::{Layer, Place, assert_fails, code, gzip, layer, stderr, stdout, tar2vhd};

fn sha256(bytes: &[u8]) -> String {
    let digest: String = Sha256::digest(bytes)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    format!("sha256:{digest}")
}

fn keys(value: &Value) -> Vec<&str> {
    value
        .as_object()
        .unwrap()
        .keys()
        .map(String::as_str)
        .collect()
}

/// A layer that is converted with a warning: a directory has to be made up.
fn odd_layer() -> Vec<u8> {
    Layer::new()
        .add(tar::EntryType::Regular, "missing\\x/file", b"")
        .finish()
}

#[test]
fn the_json_summary_has_its_shape() {
    let place = Place::new();
    for (input, media_type) in [
        (layer(), "application/vnd.oci.image.layer.v1.tar"),
        (
            gzip(&layer()),
            "application/vnd.oci.image.layer.v1.tar+gzip",
        ),
        (
            zstd::encode_all(&layer()[..], 1).unwrap(),
            "application/vnd.oci.image.layer.v1.tar+zstd",
        ),
    ] {
        let output = place.convert(&input, &["--json"]);
        assert_eq!(code(&output), 0, "{output:?}");
        assert_eq!(stderr(&output), "");
        assert!(stdout(&output).ends_with("}\n"));
        assert_eq!(stdout(&output).lines().count(), 1);
        let summary: Value = serde_json::from_str(stdout(&output)).unwrap();
        let disk = fs::read(place.path("disk")).unwrap();

        assert_eq!(
            keys(&summary),
            [
                "mediaType",
                "digest",
                "size",
                "diffId",
                "compressed",
                "disk",
                "verity",
                "entries",
                "warnings",
                "timings"
            ]
        );
        // A key with nothing to tell is null, not absent.
        assert_eq!(
            (&summary["verity"], &summary["timings"]),
            (&Value::Null, &Value::Null)
        );
        assert_eq!(summary["diffId"], summary["digest"]);
        assert_eq!(
            summary["mediaType"],
            "application/vnd.oci.image.layer.v1.tar"
        );
        assert_eq!(summary["digest"], sha256(&layer()));
        assert_eq!(summary["size"], layer().len());
        assert_eq!(
            keys(&summary["compressed"]),
            ["mediaType", "digest", "size"]
        );
        assert_eq!(summary["compressed"]["mediaType"], media_type);
        assert_eq!(summary["compressed"]["digest"], sha256(&input));
        assert_eq!(summary["compressed"]["size"], input.len());

        let said = &summary["disk"];
        assert_eq!(
            keys(said),
            [
                "path",
                "format",
                "size",
                "virtualSize",
                "uuid",
                "blocks",
                "inodes"
            ]
        );
        assert_eq!(said["path"], "disk");
        assert_eq!(said["format"], "vhd");
        assert_eq!(said["size"], disk.len());
        assert_eq!(said["virtualSize"], disk.len() - 512);
        let uuid = uuid::Uuid::from_slice(&disk[1024 + 0x68..1024 + 0x78]).unwrap();
        assert_eq!(said["uuid"], uuid.to_string());
        assert_eq!(said["blocks"], (disk.len() - 512) / 4096);
        // The root, what the layer holds, and no more.
        assert_eq!(said["inodes"], 6);

        assert_eq!(
            keys(&summary["entries"]),
            [
                "files",
                "directories",
                "symlinks",
                "hardLinks",
                "devices",
                "fifos",
                "whiteouts",
                "opaqueDirectories",
                "tarEntries"
            ]
        );
        assert_eq!(summary["entries"]["files"], 3);
        assert_eq!(summary["entries"]["directories"], 2);
        assert_eq!(summary["entries"]["tarEntries"], 5);
        assert_eq!(summary["warnings"], Value::Array(Vec::new()));
    }
    let output = place.convert(&layer(), &["--json", "--format", "raw"]);
    let summary: Value = serde_json::from_str(stdout(&output)).unwrap();
    assert_eq!(summary["disk"]["format"], "raw");
    assert_eq!(summary["disk"]["size"], summary["disk"]["virtualSize"]);
}

#[test]
fn the_hash_tree_is_told_of() {
    let place = Place::new();
    let salted = ["--json", "--verity", "--verity-salt", "00ff"];
    let output = place.convert(&layer(), &salted);
    let summary: Value = serde_json::from_str(stdout(&output)).unwrap();
    let verity = &summary["verity"];
    let names = [
        "rootHash",
        "hashOffset",
        "algorithm",
        "salt",
        "uuid",
        "dataBlocks",
        "hashBlocks",
        "blockSize",
        "path",
    ];
    assert_eq!(keys(verity), names);
    assert_eq!(verity["path"], "disk");
    assert_eq!(verity["rootHash"].as_str().unwrap().len(), 64);
    assert_eq!(verity["salt"], "00ff");
    let blocks = summary["disk"]["blocks"].as_u64().unwrap();
    assert_eq!(verity["dataBlocks"], blocks);
    assert_eq!(verity["hashOffset"], 4096 * blocks);
    let disk = fs::read(place.path("disk")).unwrap();
    assert!(disk[4096 * blocks as usize..].starts_with(b"verity\0\0"));

    let separate = [&salted[..], &["--verity-separate", "tree"]].concat();
    let output = place.convert(&layer(), &separate);
    let summary: Value = serde_json::from_str(stdout(&output)).unwrap();
    assert_eq!(summary["verity"]["rootHash"], verity["rootHash"]);
    assert_eq!(summary["verity"]["hashOffset"], 0);
    assert_eq!(summary["verity"]["path"], "tree");
    let tree = fs::read(place.path("tree")).unwrap();
    assert!(disk[4096 * blocks as usize..].starts_with(&tree));

    // Both appear, or neither.
    let place = Place::new();
    let output = place.convert(&layer()[..3000], &["--verity", "--verity-separate", "tree"]);
    assert_eq!((code(&output), place.names().len()), (1, 0));
    for wrong in [
        &["--verity-salt", "00"][..],
        &["--verity", "--verity-separate", "./disk"],
        &["--verity", "--verity-separate", "-"],
        &["--verity", "--verity-uuid", "1"],
    ] {
        let output = place.convert(&layer(), wrong);
        assert_eq!((code(&output), place.names().len()), (2, 0), "{wrong:?}");
    }
}

#[test]
fn warnings_are_listed() {
    let place = Place::new();
    let output = place.convert(&odd_layer(), &["--json"]);
    let summary: Value = serde_json::from_str(stdout(&output)).unwrap();
    let warning = &summary["warnings"][0];
    assert_eq!(keys(warning), ["path", "kind", "message"]);
    assert_eq!(warning["kind"], "missing-parent");
    assert!(warning["path"].as_str().unwrap().starts_with(r"missing\\x"));
    assert!(!warning["message"].as_str().unwrap().is_empty());
    assert_eq!(stderr(&output), "");

    let output = place.convert(&odd_layer(), &[]);
    assert_eq!(code(&output), 0);
    assert!(
        stderr(&output).contains("tar2vhd: warning: missing"),
        "{output:?}"
    );
}

#[test]
fn people_get_a_few_warnings_of_a_kind() {
    let place = Place::new();
    let mut layer = Layer::new();
    for i in 0..15 {
        layer = layer.add(tar::EntryType::Regular, &format!("missing{i}/file"), b"");
    }
    let output = place.convert(&layer.finish(), &[]);
    let lines: Vec<_> = stderr(&output)
        .lines()
        .filter(|line| line.starts_with("tar2vhd: warning: "))
        .collect();
    assert_eq!(lines.len(), 11, "{lines:?}");
    assert!(lines[9].contains("missing9: "), "{lines:?}");
    assert!(
        lines[10].contains("5 more of the kind missing-parent"),
        "{lines:?}"
    );
}

#[test]
fn timings_are_told_when_wanted() {
    let place = Place::new();
    let input = gzip(&layer());
    for threads in ["1", "2"] {
        let arguments = ["--timings", "--threads", threads];
        let text = stderr(&place.convert(&input, &arguments)).to_owned();
        let marked = text.lines().filter(|line| line.starts_with("* ")).count();
        assert_eq!(marked, 1, "{text}");

        let output = place.convert(&input, &[&arguments[..], &["--json"]].concat());
        let summary: Value = serde_json::from_str(stdout(&output)).unwrap();
        let timings = summary["timings"].as_array().unwrap();
        let stages = ["decompress", "digest", "place", "write", "finish"];
        assert!(timings.iter().map(|timing| &timing["stage"]).eq(stages));
        let layer = layer().len() as u64;
        let bytes = [layer, layer + input.len() as u64, layer];
        for (timing, bytes) in timings.iter().zip(bytes) {
            assert_eq!(timing["bytes"], bytes, "{timing}");
            let waited = timing["starved"].as_f64().unwrap() + timing["blocked"].as_f64().unwrap();
            let sum = waited + timing["busy"].as_f64().unwrap();
            // What is measured within another measurement is never longer.
            assert!(sum <= timing["wall"].as_f64().unwrap() + 1e-6, "{timing}");
        }
        assert!(timings[3]["bytes"].as_u64().unwrap() >= 4096);
    }
    let output = place.convert(&input, &["--json"]);
    assert!(stdout(&output).contains(r#""timings":null"#));
}

#[test]
fn people_get_a_short_summary() {
    let place = Place::new();
    let input = gzip(&layer());
    let output = place.convert(&input, &[]);
    assert_eq!(stdout(&output), "");
    let text = stderr(&output);
    for part in [
        "disk: ",
        "UUID",
        &sha256(&layer()),
        &sha256(&input),
        "3 files, 2 directories",
    ] {
        assert!(text.contains(part), "{part} is not in {text}");
    }
    assert!(text.lines().count() <= 5, "{text}");
}

#[test]
fn quiet_is_quiet_but_for_errors() {
    let place = Place::new();
    let output = place.convert(&odd_layer(), &["--quiet"]);
    assert_eq!(
        (code(&output), stdout(&output), stderr(&output)),
        (0, "", "")
    );
    let output = place.convert(&odd_layer(), &["--quiet", "--json"]);
    assert_eq!((code(&output), stderr(&output)), (0, ""));
    serde_json::from_str::<Value>(stdout(&output)).unwrap();
    let output = place.convert(b"", &["--quiet"]);
    assert_fails(&output, 1, "empty");
    assert_eq!(stderr(&output).lines().count(), 1);
}

#[test]
fn errors_name_the_entry_and_its_place() {
    let place = Place::new();
    let link = Layer::new()
        .add(tar::EntryType::Regular, "file", b"")
        .add(tar::EntryType::Symlink, "empty\nlink", b"")
        .finish();
    let output = place.convert(&link, &[]);
    assert_fails(&output, 1, r"empty\nlink: ");
    assert_fails(&output, 1, "(at byte 512)");
}

#[test]
fn progress_is_shown_when_wanted() {
    let place = Place::new();
    let large = crate::common::large_layer();
    for arguments in [&[][..], &["--progress", "auto"], &["--progress", "never"]] {
        let output = place.convert(&large, arguments);
        assert!(!stderr(&output).contains("/s,"), "{output:?}");
    }
    let output = place.convert(&large, &["--progress", "always"]);
    let of = format!(" of {:.1} MiB, ", large.len() as f64 / f64::from(1 << 20));
    assert!(stderr(&output).contains(&of), "{output:?}");
    assert!(stderr(&output).contains("/s, "), "{output:?}");
    // The bar of a terminal is its own affair, but must not reach what is not one.
    assert!(!stderr(&output).contains('\u{1b}'), "{output:?}");
}

#[test]
fn progress_is_shown_from_the_first_byte() {
    use std::io::{BufRead, BufReader, Write};

    let place = Place::new();
    let mut child = tar2vhd()
        .current_dir(place.0.path())
        .args(["convert", "-", "-o", "disk", "--progress", "always"])
        .stdin(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(&layer()[..10]).unwrap();
    let mut line = String::new();
    let mut stderr = BufReader::new(child.stderr.take().unwrap());
    stderr.read_line(&mut line).unwrap();
    assert!(line.starts_with("10 B, "), "{line}");
    drop(stdin);
    assert_eq!(child.wait().unwrap().code(), Some(1));
}

#[test]
#[cfg(target_os = "linux")]
fn a_terminal_gets_a_bar() {
    let place = Place::new();
    place.write("layer.tar", crate::common::large_layer());
    let script = std::process::Command::new("script")
        .current_dir(place.0.path())
        .env("TERM", "xterm")
        .args([
            "-qec",
            concat!(
                "stty cols 120; ",
                env!("CARGO_BIN_EXE_tar2vhd"),
                " convert layer.tar -o disk"
            ),
            "/dev/null",
        ])
        .output();
    match script {
        Ok(output) => {
            assert_eq!(code(&output), 0, "{output:?}");
            let text = stdout(&output);
            assert!(text.contains(" of 3.00 MiB, "), "{text}");
            // A terminal's ^C has room beside the bar, which is cleared with it then.
            for frame in text.split('\r').filter(|frame| frame.contains("MiB/s")) {
                let shown = frame.replace("\u{1b}[2K", "");
                assert!(shown.chars().count() <= 117, "{shown:?}");
            }
            assert!(text.contains("UUID"), "{text}");
        }
        Err(_) => crate::skip::oracle_missing("script is not installed"),
    }
}

#[test]
fn inspect_tells_what_there_is() {
    let place = Place::new();
    let mut disk = place.converted(&layer(), &[]);
    let output = tar2vhd()
        .arg("inspect")
        .arg(place.path("disk"))
        .output()
        .unwrap();
    assert_eq!((code(&output), stderr(&output)), (0, ""));
    for part in ["metadata_csum", "footer:", "geometry:", "ok", "UUID:"] {
        assert!(
            stdout(&output).contains(part),
            "{part} is not in {output:?}"
        );
    }
    let json = |expected| {
        let output = tar2vhd()
            .args(["inspect", "--json"])
            .arg(place.path("disk"))
            .output()
            .unwrap();
        assert_eq!(code(&output), expected, "{output:?}");
        serde_json::from_str::<Value>(stdout(&output)).unwrap()
    };
    let found = json(0);
    assert_eq!(
        keys(&found),
        [
            "path",
            "size",
            "format",
            "virtualSize",
            "vhd",
            "vhdx",
            "notes",
            "fileSystem",
            "checks",
            "problems"
        ]
    );
    assert_eq!(found["size"], disk.len());
    assert_eq!(found["virtualSize"], disk.len() - 512);
    assert_eq!(found["fileSystem"]["blockSize"], 4096);
    assert_eq!(found["checks"]["inodes"]["checked"], 6);
    assert_eq!(found["checks"]["groupDescriptors"]["failed"], 0);
    assert_eq!(found["problems"], Value::Array(Vec::new()));

    // The label.
    disk[1024 + 0x78] ^= 1;
    place.write("disk", &disk);
    let found = json(1);
    assert_eq!(found["checks"]["superblock"]["failed"], 1);
    assert_eq!(found["problems"].as_array().unwrap().len(), 1);
    let output = tar2vhd()
        .arg("inspect")
        .arg(place.path("disk"))
        .output()
        .unwrap();
    assert_fails(&output, 1, "1 of the checks failed");
    assert!(stdout(&output).contains("WRONG"), "{output:?}");

    place.write("disk", layer());
    let output = tar2vhd()
        .arg("inspect")
        .arg(place.path("disk"))
        .output()
        .unwrap();
    assert_fails(&output, 1, "no ext4 file system");
    assert_eq!(stdout(&output), "");
}

#[test]
fn a_directory_is_no_layer() {
    let place = Place::new();
    fs::create_dir(place.path("dir")).unwrap();
    fs::create_dir(place.path("image")).unwrap();
    place.write("image/index.json", "{}");
    let convert = |input: &str| {
        tar2vhd()
            .current_dir(place.0.path())
            .args(["convert", input, "-o", "disk"])
            .output()
            .unwrap()
    };
    for input in ["dir", "./dir", "dir/", "dir/.", "image/../dir"] {
        let output = convert(input);
        assert_fails(&output, 1, "is a directory, not a layer: make a tar of it");
        assert!(!stderr(&output).contains("os error"), "{output:?}");
    }
    assert_fails(&convert("image"), 1, "a directory with an image in it");
    assert_eq!(place.names(), ["dir", "image"]);
    for command in [&["inspect"][..], &["verify"], &["disk", "info"]] {
        let output = tar2vhd()
            .current_dir(place.0.path())
            .args(command)
            .arg("dir")
            .output()
            .unwrap();
        assert_fails(
            &output,
            1,
            "dir: this is a directory, neither a file nor a disk",
        );
    }
}

#[test]
fn what_is_no_layer_is_named() {
    let place = Place::new();
    let zip = [&b"PK\x03\x04"[..], &[0; 2000]].concat();
    for input in [zip.clone(), gzip(&zip)] {
        assert_fails(
            &place.convert(&input, &[]),
            1,
            "not a layer but a zip archive: extract it",
        );
    }
    let disk = [&[0; 1024][..], b"more"].concat();
    let output = place.convert(&disk, &[]);
    assert_fails(&output, 1, "begins with zeros");
    assert_eq!(place.names(), [""; 0]);

    let output = place.convert(&[layer(), layer()].concat(), &["--json"]);
    let summary: Value = serde_json::from_str(stdout(&output)).unwrap();
    assert_eq!(summary["warnings"][0]["kind"], "trailing-bytes");
    assert_eq!(summary["warnings"][0]["path"], Value::Null);
    let save = Layer::new()
        .add(tar::EntryType::Regular, "manifest.json", b"[]")
        .add(tar::EntryType::Regular, "aa/layer.tar", b"");
    let output = place.convert(&save.finish(), &["--json"]);
    let summary: Value = serde_json::from_str(stdout(&output)).unwrap();
    let kinds = summary["warnings"].as_array().unwrap().iter();
    let mut kinds = kinds.map(|warning| &warning["kind"]);
    assert!(kinds.any(|kind| kind == "image-archive"), "{summary}");
}
