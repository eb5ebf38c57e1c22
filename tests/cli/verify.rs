//! `tar2vhd verify`: exit status, and what people and programs read.

use std::path::Path;
use std::process::Output;

use serde_json::Value;

use crate::common::{Place, assert_fails, code, layer, stderr, stdout, tar2vhd};

fn verify(disk: &Path, arguments: &[&str]) -> Output {
    tar2vhd()
        .arg("verify")
        .arg(disk)
        .args(arguments)
        .output()
        .unwrap()
}

fn keys(value: &Value) -> Vec<&str> {
    value
        .as_object()
        .unwrap()
        .keys()
        .map(String::as_str)
        .collect()
}

/// Where the directory entry of a regular file is.
fn entry_of(disk: &[u8], name: &str) -> usize {
    let entry = [&[name.len() as u8, 1], name.as_bytes()].concat();
    let at = disk.windows(entry.len()).position(|bytes| bytes == entry);
    at.unwrap() - 6
}

#[test]
fn a_clean_disk_of_every_format_exits_with_0() {
    let place = Place::new();
    for format in ["vhd", "vhd-dynamic", "vhdx", "vhdx-fixed", "raw"] {
        let size = place.converted(&layer(), &["--format", format]).len();
        let output = verify(&place.path("disk"), &[]);
        assert_eq!((code(&output), stderr(&output)), (0, ""), "{format}");
        assert_eq!(
            stdout(&output).lines().count(),
            1,
            "one line for people: {output:?}"
        );
        assert!(
            stdout(&output).starts_with("clean: 1 group, "),
            "{output:?}"
        );

        let output = verify(&place.path("disk"), &["--json"]);
        assert_eq!((code(&output), stderr(&output)), (0, ""));
        let found: Value = serde_json::from_str(stdout(&output)).unwrap();
        assert_eq!(
            keys(&found),
            [
                "path",
                "verdict",
                "size",
                "format",
                "virtualSize",
                "findings",
                "omittedFindings",
                "notes",
                "unchecked",
                "examined"
            ]
        );
        assert_eq!(found["verdict"], "clean");
        assert_eq!(found["format"], format);
        assert_eq!(found["size"], size);
        assert_eq!(found["findings"], Value::Array(Vec::new()));
        assert_eq!(found["examined"]["names"], 5);
    }
}

#[test]
fn a_finding_has_its_place_for_people_and_programs() {
    let place = Place::new();
    let mut disk = place.converted(&layer(), &["--format", "raw"]);
    // The type of an entry, and with it the checksum of the block.
    let at = entry_of(&disk, "tiny");
    disk[at + 7] = 2;
    place.write("disk", &disk);
    let output = verify(&place.path("disk"), &[]);
    assert_fails(&output, 1, "is damaged: 2 findings");
    let text = stdout(&output);
    assert!(
        text.contains("/dir, inode 11") && text.contains("the name tiny is of type 2, not 1"),
        "{text}"
    );

    let output = verify(&place.path("disk"), &["--json"]);
    assert_eq!(code(&output), 1);
    let found: Value = serde_json::from_str(stdout(&output)).unwrap();
    assert_eq!(found["verdict"], "damaged");
    let finding = &found["findings"][0];
    assert_eq!(
        keys(finding),
        [
            "kind", "offset", "group", "block", "inode", "path", "message"
        ]
    );
    assert_eq!(finding["kind"], "checksum");
    assert_eq!(finding["block"], at / 4096);
    assert_eq!(finding["offset"], at / 4096 * 4096);
    assert_eq!(finding["inode"], 11);
    assert_eq!(finding["path"], "/dir");
    assert_eq!(found["findings"][1]["kind"], "file-type");
}

#[test]
fn damage_to_the_format_is_a_finding_too() {
    let place = Place::new();
    let mut disk = place.converted(&layer(), &[]);
    let footer = disk.len() - 512;
    // The time stamp.
    disk[footer + 24] ^= 1;
    place.write("disk", &disk);
    let output = verify(&place.path("disk"), &["--json"]);
    assert_fails(&output, 1, "1 finding");
    let found: Value = serde_json::from_str(stdout(&output)).unwrap();
    assert_eq!(found["findings"][0]["kind"], "container");
    assert_eq!(found["findings"][0]["path"], Value::Null);
}

/// The first sector of a disk with partitions of these types, from these sectors on.
fn boot_record(partitions: &[(u8, u32)]) -> Vec<u8> {
    let mut disk = vec![0; 1 << 20];
    for (n, (kind, start)) in partitions.iter().enumerate() {
        let entry = 446 + 16 * n;
        disk[entry + 4] = *kind;
        disk[entry + 8..entry + 12].copy_from_slice(&start.to_le_bytes());
        disk[entry + 12..entry + 16].copy_from_slice(&100_u32.to_le_bytes());
    }
    disk[510..512].copy_from_slice(&[0x55, 0xaa]);
    disk
}

#[test]
fn a_disk_with_partitions_is_told_from_one_without_a_file_system() {
    let place = Place::new();
    let mbr = boot_record(&[(0x83, 8), (0x82, 200)]);
    let mut gpt = boot_record(&[(0xee, 1)]);
    let mut native = gpt.clone();
    gpt[512..520].copy_from_slice(b"EFI PART");
    native[4096..4104].copy_from_slice(b"EFI PART");
    // Boot sectors of FAT: code where partitions would be.
    let mut fat = boot_record(&[(0x83, 8)]);
    fat[462..510].fill(0x90);
    let mut code = boot_record(&[(0x83, 8)]);
    code[446] = 0x10;
    let outside = boot_record(&[(0x83, 1 << 30)]);
    for (name, bytes, message) in [
        (
            "mbr",
            &mbr,
            "no ext4 file system at the start of the disk: the disk is partitioned (MBR): \
             partitions begin at byte 4096, 102400; ",
        ),
        ("gpt", &gpt, "the disk is partitioned (GPT); "),
        ("native", &native, "the disk is partitioned (GPT); "),
        ("fat", &fat, "no ext4 file system: its magic number"),
        ("code", &code, "no ext4 file system: its magic number"),
        ("outside", &outside, "no ext4 file system: its magic number"),
        ("none", &boot_record(&[]), "no ext4 file system: its magic"),
    ] {
        let disk = place.write(name, bytes);
        for command in ["inspect", "verify"] {
            let output = tar2vhd().arg(command).arg(&disk).output().unwrap();
            assert_fails(&output, 1, message);
        }
    }
}

#[test]
fn a_disk_can_be_taken_for_raw() {
    let place = Place::new();
    let mut disk = place.converted(&layer(), &["--format", "raw"]);
    // The place of a boot record is the disk's own.
    disk[..4].copy_from_slice(b"QFI\xfb");
    let disk = place.write("disk", &disk);
    for command in ["inspect", "verify"] {
        let run = |arguments: &[&str]| {
            let mut process = tar2vhd();
            process.arg(command).arg(&disk).args(arguments);
            process.output().unwrap()
        };
        assert_fails(&run(&[]), 1, "qcow2");
        assert_fails(&run(&["--input-format", "auto"]), 1, "qcow2");
        let output = run(&["--input-format", "raw"]);
        assert_eq!(code(&output), 0, "{output:?}");
        place.write("empty", "");
        let output = tar2vhd()
            .args([command, "empty", "--input-format", "raw"])
            .current_dir(place.0.path())
            .output()
            .unwrap();
        assert_fails(&output, 1, "empty: too short for a file system");
    }
}

#[test]
fn what_is_no_file_system_is_an_error_without_a_report() {
    let place = Place::new();
    for (name, bytes, message) in [
        ("empty", Vec::new(), "empty: the file is empty"),
        ("short", vec![0; 2047], "too short for a file system"),
        ("tar", layer(), "no ext4 file system"),
        ("zeros", vec![0; 1 << 20], "no ext4 file system"),
    ] {
        let output = verify(&place.write(name, bytes), &[]);
        assert_fails(&output, 1, message);
        assert_eq!(stdout(&output), "", "{name}");
    }
    assert_fails(
        &verify(&place.path("missing"), &[]),
        1,
        "missing: cannot be read: ",
    );
    assert_fails(
        &verify(place.0.path(), &[]),
        1,
        "is a directory, neither a file nor a disk",
    );
}

#[test]
fn a_disk_that_was_cut_short_is_damaged() {
    let place = Place::new();
    let disk = place.converted(&layer(), &["--format", "raw"]);
    for len in [2048, 4096, disk.len() - 4096, disk.len() - 1] {
        let output = verify(&place.write("cut", &disk[..len]), &[]);
        assert_fails(&output, 1, "1 finding");
        assert!(stdout(&output).contains("the disk is"), "{output:?}");
    }
}

#[test]
fn a_feature_that_is_not_known_leaves_no_verdict() {
    let place = Place::new();
    let mut disk = place.converted(&layer(), &["--format", "raw"]);
    // EXT4_FEATURE_RO_COMPAT_BIGALLOC
    disk[1024 + 0x65] |= 2;
    place.write("disk", &disk);
    let output = verify(&place.path("disk"), &["--json"]);
    assert_fails(&output, 1, "could not be checked as a whole");
    let found: Value = serde_json::from_str(stdout(&output)).unwrap();
    assert_eq!(found["verdict"], "undecided");
    assert_eq!(
        found["unchecked"][0],
        "anything, because of the feature bigalloc"
    );
}

#[test]
fn a_root_hash_is_checked_block_by_block() {
    let place = Place::new();
    let output = place.convert(&layer(), &["--format", "raw", "--verity", "--json"]);
    assert_eq!(code(&output), 0, "{output:?}");
    let summary: Value = serde_json::from_str(stdout(&output)).unwrap();
    let root_hash = summary["verity"]["rootHash"].as_str().unwrap();
    let arguments = ["--root-hash", root_hash];
    for spelling in [
        root_hash.to_owned(),
        root_hash.trim_start_matches("sha256:").to_owned(),
        root_hash.to_uppercase(),
    ] {
        let output = verify(&place.path("disk"), &["--root-hash", &spelling]);
        assert_eq!((code(&output), stderr(&output)), (0, ""), "{output:?}");
    }

    // Contents that no structure tells of.
    let mut disk = std::fs::read(place.path("disk")).unwrap();
    let at = disk.windows(4).position(|bytes| bytes == [7; 4]).unwrap();
    disk[at] = 8;
    place.write("disk", &disk);
    assert_eq!(code(&verify(&place.path("disk"), &[])), 0);
    let output = verify(&place.path("disk"), &arguments);
    assert_fails(&output, 1, "1 finding");
    let line = format!("byte {}: a block is not as its hash says", at / 4096 * 4096);
    assert!(stdout(&output).contains(&line), "{output:?}");

    disk[at] = 7;
    place.write("disk", &disk);
    let other = "0".repeat(64);
    let output = verify(&place.path("disk"), &["--root-hash", &other]);
    assert!(stdout(&output).contains("the root hash is"), "{output:?}");
    let output = verify(&place.path("disk"), &["--root-hash", "12"]);
    assert_fails(&output, 2, "64 hexadecimal digits");
}

#[test]
fn a_hash_tree_is_looked_for_where_it_is_said_to_be() {
    let place = Place::new();
    let tree = place.path("tree");
    let separate = [
        "--format",
        "raw",
        "--json",
        "--verity",
        "--verity-separate",
        tree.to_str().unwrap(),
    ];
    let output = place.convert(&layer(), &separate);
    assert_eq!(code(&output), 0, "{output:?}");
    let summary: Value = serde_json::from_str(stdout(&output)).unwrap();
    let root_hash = summary["verity"]["rootHash"].as_str().unwrap();
    let disk = place.path("disk");
    let with = |device: &Path| {
        let device = device.to_str().unwrap();
        verify(&disk, &["--root-hash", root_hash, "--hash-device", device])
    };
    let output = with(&tree);
    assert_eq!((code(&output), stderr(&output)), (0, ""), "{output:?}");

    let output = verify(&disk, &["--root-hash", root_hash]);
    assert_fails(&output, 1, "1 finding");
    assert!(
        stdout(&output).contains("there is no hash tree behind the file system"),
        "{output:?}"
    );
    let output = with(&disk);
    assert!(
        stdout(&output).contains("the hash device holds no hash tree"),
        "{output:?}"
    );
    let mut bytes = std::fs::read(&tree).unwrap();
    let last = bytes.len() - 4096;
    bytes[last] ^= 1;
    assert_eq!(code(&with(&place.write("damaged", bytes))), 1);
    let output = verify(&disk, &["--hash-device", "tree"]);
    assert_fails(&output, 2, "required arguments");
}

#[test]
fn several_disks_have_a_verdict_each() {
    let place = Place::new();
    let mut disk = place.converted(&layer(), &["--format", "raw"]);
    let clean = place.path("disk");
    let at = entry_of(&disk, "tiny");
    disk[at + 7] = 2;
    let damaged = place.write("damaged", &disk);
    let missing = place.path("missing");
    let run = |disks: &[&Path], arguments: &[&str]| {
        let mut command = tar2vhd();
        command.arg("verify").args(disks).args(arguments);
        command.output().unwrap()
    };
    let output = run(&[&clean, &clean], &[]);
    assert_eq!((code(&output), stderr(&output)), (0, ""));
    assert_eq!(stdout(&output).lines().count(), 2);

    let output = run(&[&clean, &missing, &damaged], &["--json"]);
    assert_fails(&output, 1, "2 of 3 disks are not clean");
    let found: Vec<Value> = stdout(&output)
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let verdicts: Vec<_> = found
        .iter()
        .map(|found| found["verdict"].as_str())
        .collect();
    assert_eq!(verdicts, [Some("clean"), None, Some("damaged")]);
    for (found, path) in found.iter().zip([&clean, &missing, &damaged]) {
        assert_eq!(found["path"], path.to_str().unwrap());
    }
    assert!(found[1]["error"].is_string(), "{found:?}");

    let output = run(&[&clean, &damaged], &[]);
    assert_fails(&output, 1, "1 of 2 disks is not clean");
    let name = damaged.display().to_string();
    let lines = stdout(&output).lines().skip(1);
    assert!(lines.clone().count() >= 2 && lines.clone().all(|line| line.starts_with(&name)));
    let hash = "0".repeat(64);
    let output = run(&[&clean, &damaged], &["--root-hash", &hash]);
    assert_fails(&output, 2, "--root-hash is of one disk");
}
