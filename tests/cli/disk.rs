//! `tar2vhd disk`: the disks themselves are tested by the library's tests.

use std::fs;
use std::process::Output;

use serde_json::Value;

use crate::common::{Place, assert_fails, code, stderr, stdout, tar2vhd};

fn disk(place: &Place, arguments: &[&str]) -> Output {
    tar2vhd()
        .current_dir(place.0.path())
        .arg("disk")
        .args(arguments)
        .output()
        .unwrap()
}

fn json(output: &Output) -> Value {
    assert_eq!(code(output), 0, "{output:?}");
    assert_eq!(stderr(output), "");
    serde_json::from_str(stdout(output)).unwrap()
}

fn keys(value: &Value) -> Vec<&str> {
    value.as_object().unwrap().keys().map(|k| &**k).collect()
}

#[test]
fn create_makes_what_info_tells_of() {
    let place = Place::new();
    let id = "5e1f0b2a-93c4-4d6e-8f70-123456789abc";
    let made = json(&disk(
        &place,
        &[
            "create",
            "new.vhdx",
            "--size=20GiB",
            "--block-size=2MiB",
            "--logical-sector=4096",
            "--physical-sector=4096",
            "--uuid",
            id,
            "--json",
            "--no-fsync",
        ],
    ));
    let expected = ["path", "format", "size", "virtualSize", "data", "uuid"];
    assert_eq!(keys(&made), expected);
    assert_eq!(made["path"], "new.vhdx");
    assert_eq!(
        made["size"],
        place.path("new.vhdx").metadata().unwrap().len()
    );
    assert_eq!(
        (&made["format"], &made["uuid"]),
        (&"vhdx".into(), &id.into())
    );
    let told = json(&disk(&place, &["info", "new.vhdx", "--json"]));
    let expected = [
        "path",
        "size",
        "format",
        "virtualSize",
        "vhd",
        "vhdx",
        "notes",
        "problems",
    ];
    assert_eq!(keys(&told), expected);
    assert_eq!(told["virtualSize"], 20_u64 << 30);
    assert_eq!(told["vhd"], Value::Null);
    let vhdx = &told["vhdx"];
    assert_eq!(vhdx["virtualDiskId"], id);
    assert_eq!(vhdx["logicalSectorSize"], 4096);
    assert_eq!(vhdx["blocks"]["size"], 2 << 20);
    assert_eq!(vhdx["blocks"]["all"], 10_240);
    assert_eq!(vhdx["blocks"]["allocated"], 0);
    assert_eq!(vhdx["damagedHeaders"], Value::from(vec![false, false]));
    assert_eq!(told["problems"], Value::Array(vec![]));

    let output = disk(&place, &["info", "new.vhdx"]);
    assert_eq!((code(&output), stderr(&output)), (0, ""));
    for part in [
        "virtual size:",
        "20.0 GiB",
        "4096 B logical",
        id,
        "both ok",
        "empty",
        "BAT 2dc27766-f623-4200-9d64-115e9bfd4a08 at",
        "logical sector size 8141bf1d-a96f-4709-ba47-f233a8faab5f at",
    ] {
        assert!(stdout(&output).contains(part), "{part}: {output:?}");
    }

    // Ids are random only for those who ask.
    let id = |arguments: &[&str]| {
        let all = [&["create", "x", "--size", "1M", "--json"], arguments].concat();
        json(&disk(&place, &all))["uuid"].clone()
    };
    assert_eq!(id(&[]), id(&[]));
    assert_ne!(id(&["--uuid=random"]), id(&["--uuid=random"]));
    assert_eq!(id(&["--format=raw"]), Value::Null);
}

#[test]
fn convert_copies_and_publishes_at_once() {
    let place = Place::new();
    let mut raw = vec![0; 3 << 20];
    raw[1_000_000..1_000_100].fill(7);
    place.write("raw", &raw);
    let output = disk(&place, &["convert", "raw", "copy"]);
    assert_eq!((code(&output), stdout(&output)), (0, ""));
    let summary = stderr(&output);
    for part in ["copy: 3.0 MiB with 4.0 KiB of data", "UUID"] {
        assert!(summary.contains(part), "{summary}");
    }
    let output = disk(
        &place,
        &[
            "convert",
            "copy",
            "dynamic",
            "--format=vhd-dynamic",
            "--quiet",
        ],
    );
    assert_eq!((code(&output), stderr(&output)), (0, ""));
    let told = json(&disk(&place, &["info", "dynamic", "--json"]));
    assert_eq!(told["format"], "vhd-dynamic");
    assert_eq!(told["vhd"]["blocks"]["allocated"], 1);
    assert_eq!(told["vhd"]["creator"], "win ");
    let output = disk(
        &place,
        &[
            "convert",
            "dynamic",
            "back",
            "--format=raw",
            "--progress=always",
        ],
    );
    assert_eq!(code(&output), 0, "{output:?}");
    assert!(stderr(&output).contains("of 3.0 MiB, "), "{output:?}");
    assert!(fs::read(place.path("back")).unwrap() == raw);
    assert_eq!(place.names(), ["back", "copy", "dynamic", "raw"]);
}

#[test]
fn the_time_of_a_vhd_is_the_environments() {
    let place = Place::new();
    let output = tar2vhd()
        .current_dir(place.0.path())
        .env("SOURCE_DATE_EPOCH", "1700000000")
        .args([
            "disk",
            "create",
            "x",
            "--size=1MiB",
            "--format=vhd",
            "--quiet",
        ])
        .output()
        .unwrap();
    assert_eq!(code(&output), 0, "{output:?}");
    let told = json(&disk(&place, &["info", "x", "--json"]));
    assert_eq!(told["vhd"]["created"], 1_700_000_000);
}

#[test]
fn what_is_wrong_is_said_and_touches_nothing() {
    let place = Place::new();
    place.write("old", "old");
    place.write("raw", [1; 4096]);
    let usage: &[(&[&str], &str)] = &[
        (&[], "requires a subcommand"),
        (&["create", "old"], "required arguments"),
        (
            &["create", "-", "--size=1M"],
            "cannot go to standard output",
        ),
        (&["create", "old", "--size=1000"], "multiple of 512"),
        (&["create", "old", "--size=0"], "multiple of 512"),
        (&["create", "old", "--size=65TiB"], "70368744177664"),
        (
            &["create", "old", "--size=1M", "--block-size=3M"],
            "power of two",
        ),
        (
            &["create", "old", "--size=1M", "--block-size=8G"],
            "256 MiB",
        ),
        (
            &["create", "old", "--size=1M", "--logical-sector=1024"],
            "512 or 4096",
        ),
        (
            &["create", "old", "--size=1M", "--uuid=x"],
            "invalid value 'x'",
        ),
        (
            &[
                "convert",
                "raw",
                "old",
                "--format=vhd",
                "--logical-sector=4096",
            ],
            "have 512",
        ),
        (
            &["convert", "raw", "old", "--format=raw", "--block-size=1M"],
            "has no blocks",
        ),
        (
            &["convert", "raw", "old", "--quiet", "--progress=always"],
            "contradicts",
        ),
        (&["info"], "required arguments"),
    ];
    for (arguments, message) in usage {
        assert_fails(&disk(&place, arguments), 2, message);
    }
    let errors: &[(&[&str], &str)] = &[
        (&["convert", "absent", "old"], "absent: cannot be read"),
        (
            &["convert", ".", "old"],
            "is a directory, neither a file nor a disk",
        ),
        (&["convert", "raw", "absent/x"], "cannot create a file"),
        (&["info", "absent"], "absent: cannot be read"),
    ];
    for (arguments, message) in errors {
        assert_fails(&disk(&place, arguments), 1, message);
    }
    assert_eq!(fs::read(place.path("old")).unwrap(), b"old");
    assert_eq!(place.names(), ["old", "raw"]);
}

#[test]
fn damage_is_told_and_is_an_error() {
    let place = Place::new();
    let made = disk(&place, &["create", "x", "--size=1MiB", "--quiet"]);
    assert_eq!(code(&made), 0, "{made:?}");
    let mut bytes = fs::read(place.path("x")).unwrap();
    bytes[128 << 10] ^= 1;
    place.write("x", &bytes);
    let output = disk(&place, &["info", "x"]);
    assert_fails(&output, 1, "something is damaged");
    assert!(
        stdout(&output).contains("the second is DAMAGED"),
        "{output:?}"
    );
    bytes[256 << 10] ^= 1;
    place.write("x", &bytes);
    let output = disk(&place, &["info", "x", "--json"]);
    assert_fails(&output, 1, "2 things are damaged");
    let told: Value = serde_json::from_str(stdout(&output)).unwrap();
    assert_eq!(told["problems"].as_array().unwrap().len(), 2);
    bytes[64 << 10] ^= 1;
    place.write("x", &bytes);
    assert_fails(&disk(&place, &["info", "x"]), 1, "signature");
}

#[test]
fn other_formats_are_raw_only_if_that_is_said() {
    let place = Place::new();
    let mut qcow2 = vec![0; 65_536];
    qcow2[..8].copy_from_slice(b"QFI\xfb\0\0\0\x03");
    place.write("disk.img", &qcow2);
    for command in [
        &["info", "disk.img"][..],
        &["convert", "disk.img", "out.vhdx"],
    ] {
        let output = disk(&place, command);
        assert_fails(&output, 1, "a qcow2 disk image: `qemu-img convert -O raw`");
        assert_eq!(place.names(), ["disk.img"]);
    }
    let told = json(&disk(
        &place,
        &["info", "disk.img", "--input-format", "raw", "--json"],
    ));
    assert_eq!(
        (&told["format"], &told["path"]),
        (&"raw".into(), &"disk.img".into())
    );
    let arguments = [
        "convert",
        "disk.img",
        "out.img",
        "--format=raw",
        "--input-format=raw",
    ];
    let output = disk(&place, &arguments);
    assert_eq!(code(&output), 0, "{output:?}");
    assert!(fs::read(place.path("out.img")).unwrap() == qcow2);
}

#[test]
fn an_empty_file_is_no_disk_unless_it_is_said_to_be_raw() {
    let place = Place::new();
    place.write("empty", "");
    let run = |arguments: &[&str]| {
        let mut command = tar2vhd();
        command.current_dir(place.0.path()).args(arguments);
        command.output().unwrap()
    };
    for arguments in [
        &["disk", "convert", "empty", "copy"][..],
        &["disk", "info", "empty"],
        &["inspect", "empty"],
    ] {
        assert_fails(&run(arguments), 1, "empty: the file is empty");
    }
    let raw = ["disk", "info", "empty", "--input-format", "raw"];
    assert_eq!(code(&run(&raw)), 0);
    let raw = ["convert", "empty", "copy.img", "--input-format", "raw"];
    let output = run(&[&["disk"][..], &raw].concat());
    assert_eq!(code(&output), 0, "{output:?}");
    assert_eq!(std::fs::read(place.path("copy.img")).unwrap(), b"");
}
