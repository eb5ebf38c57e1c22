//! `tar2vhd scratch`, and `convert --writable`.

use std::fs;
use std::process::Output;

use serde_json::Value;
use tar2vhd::DiskFormat;
use tar2vhd::disk::MemoryDisk;
use tar2vhd::scratch::{self, ScratchOptions};

use crate::common::{Place, assert_fails, code, layer, stderr, stdout, tar2vhd};

fn run(place: &Place, arguments: &[&str]) -> Output {
    tar2vhd()
        .current_dir(place.0.path())
        .args(["scratch", "-o", "disk", "--no-fsync"])
        .args(arguments)
        .output()
        .unwrap()
}

fn made(place: &Place, arguments: &[&str]) -> Vec<u8> {
    let output = run(place, arguments);
    assert_eq!(code(&output), 0, "{output:?}");
    fs::read(place.path("disk")).unwrap()
}

#[test]
fn the_flags_are_the_librarys_options() {
    let place = Place::new();
    let new = || ScratchOptions::new().size(64 << 20);
    for (arguments, options) in [
        ("", ScratchOptions::new()),
        ("--size 64MiB", new()),
        ("--size 64MiB --block-size 2MiB", new().block_size(2 << 20)),
        ("--size 64MiB --journal", new().journal(true)),
        ("--size 64MiB --label here", new().label("here")),
        ("--size 64MiB --inodes 9000", new().inodes(9000)),
        ("--size 64MiB --compat", new().compat(true)),
        ("--size 64MiB --format raw", new().format(DiskFormat::Raw)),
        (
            "--size 64MiB --uuid 07070707-0707-0707-0707-070707070707",
            new().uuid([7; 16]),
        ),
    ] {
        let arguments: Vec<_> = arguments.split_whitespace().collect();
        let disk = MemoryDisk::new();
        scratch::create(&disk, &options).unwrap();
        assert!(made(&place, &arguments) == disk.into_vec(), "{arguments:?}");
    }
}

#[test]
fn random_disks_differ() {
    let place = Place::new();
    let random = ["--size", "1MiB", "--uuid", "random"];
    assert!(made(&place, &random) != made(&place, &random));
}

#[test]
fn the_time_is_the_environments() {
    let place = Place::new();
    let mut command = tar2vhd();
    command.env("SOURCE_DATE_EPOCH", "1000000000");
    let output = command
        .current_dir(place.0.path())
        .args(["scratch", "--size", "1MiB", "-o", "disk"])
        .output()
        .unwrap();
    assert_eq!(code(&output), 0, "{output:?}");
    let disk = MemoryDisk::new();
    scratch::create(
        &disk,
        &ScratchOptions::new().size(1 << 20).time(1_000_000_000),
    )
    .unwrap();
    assert!(fs::read(place.path("disk")).unwrap() == disk.into_vec());
}

#[test]
fn what_was_made_is_told() {
    let place = Place::new();
    let output = run(&place, &["--json"]);
    let json: Value = serde_json::from_str(stdout(&output)).unwrap();
    assert_eq!(json["path"], "disk");
    assert_eq!(json["format"], "vhdx");
    assert_eq!(json["virtualSize"], 20u64 << 30);
    assert_eq!(json["blocks"], 5 << 20);
    assert_eq!(
        json["size"],
        fs::metadata(place.path("disk")).unwrap().len()
    );
    let output = run(&place, &[]);
    assert!(
        stderr(&output).contains("disk: 20.0 GiB in a file of "),
        "{output:?}"
    );
    assert!(
        stderr(&output).contains(json["uuid"].as_str().unwrap()),
        "{output:?}"
    );
    let output = run(&place, &["--quiet"]);
    assert!(
        output.stdout.is_empty() && output.stderr.is_empty(),
        "{output:?}"
    );
}

#[test]
fn what_cannot_be_is_a_usage_error() {
    let place = Place::new();
    for (arguments, message) in [
        (&["--size", "0"][..], "a size of 0 bytes"),
        (&["--size", "65TiB"], "a size of 71468255805440 bytes"),
        (
            &["--size", "2041GiB", "--format", "vhd"],
            "the format holds",
        ),
        (&["--size", "7MiB", "--journal"], "8 MiB at least"),
        (&["--block-size", "3MiB"], "a power of two"),
        (&["--block-size", "8TiB"], "a power of two"),
        (&["--label", "more than 16 bytes"], "a label of 18 bytes"),
        (&["--inodes", "99999999999"], "inodes"),
    ] {
        assert_fails(&run(&place, arguments), 2, message);
        assert_eq!(place.names(), [""; 0]);
    }
    for arguments in [
        &["--size", "1GB"][..],
        &["--uuid", "7"],
        &["--format", "qcow2"],
    ] {
        assert_eq!(code(&run(&place, arguments)), 2, "{arguments:?}");
    }
}

#[test]
fn a_writable_file_system_has_the_size_that_is_asked_for() {
    let place = Place::new();
    let disk = place.converted(
        &layer(),
        &[
            "--writable",
            "--size",
            "64MiB",
            "--journal",
            "--format",
            "raw",
        ],
    );
    assert_eq!(disk.len(), 64 << 20);
    let free = ["--writable", "--free", "20MiB", "--format", "raw"];
    let disk = place.converted(&layer(), &free);
    // Contents of a few blocks, and an inode for each 4 KiB.
    assert!((20 << 20..23 << 20).contains(&disk.len()));
    for (arguments, message) in [
        (&["--writable"][..], "--size"),
        (&["--writable"], "--free"),
        (&["--free", "1MiB"], "--writable"),
        (
            &["--writable", "--size", "64MiB", "--free", "1MiB"],
            "--size",
        ),
        (&["--writable", "--free", "1MiB", "--verity"], "--verity"),
        (
            &["--writable", "--size", "64MiB", "--max-size", "1GiB"],
            "--max-size",
        ),
        (&["--size", "64MiB"], "--writable"),
        (&["--journal"], "--writable"),
        (
            &["--writable", "--size", "64MiB", "--align", "1MiB"],
            "--align",
        ),
    ] {
        let output = place.convert(&layer(), arguments);
        assert_eq!(code(&output), 2, "{output:?}");
        assert!(stderr(&output).contains(message), "{output:?}");
    }
    let small = ["--writable", "--free", "2MiB", "--max-size", "2MiB"];
    assert_fails(&place.convert(&layer(), &small), 1, "--max-size can be");
    let output = place.convert(&layer(), &["--writable", "--size", "1KiB"]);
    assert_fails(&output, 2, "a size of 1024 bytes");
}
