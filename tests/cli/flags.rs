//! What each flag does, as far as it shows from outside.

use std::fs;

use tar2vhd::DiskFormat;
use tar2vhd::Volume;
use tar2vhd::inspect::Inspection;

use crate::common::{Layer, Place, assert_fails, code, gzip, layer, tar2vhd};

fn inspected(disk: Vec<u8>) -> Inspection {
    let found = Volume::from_bytes(disk)
        .and_then(|disk| disk.inspect())
        .unwrap();
    assert!(found.checks.hold(), "{found:?}");
    found
}

fn json(place: &Place, layer: &[u8], arguments: &[&str]) -> serde_json::Value {
    let output = place.convert(layer, &[arguments, &["--json"]].concat());
    assert_eq!(code(&output), 0, "{output:?}");
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn formats_differ_by_a_footer() {
    let place = Place::new();
    let vhd = inspected(place.converted(&layer(), &[]));
    assert_eq!(vhd.disk.format, DiskFormat::Vhd);
    assert_eq!(vhd.disk.size % 4096, 512);
    let same = place.converted(&layer(), &["--format", "vhd"]);
    assert_eq!(inspected(same), vhd);
    let raw = inspected(place.converted(&layer(), &["--format", "raw"]));
    assert_eq!(raw.disk.format, DiskFormat::Raw);
    assert_eq!(raw.disk.size, vhd.disk.size - 512);
}

#[test]
fn input_comes_from_a_file_or_standard_input() {
    let place = Place::new();
    let expected = place.converted(&gzip(&layer()), &[]);
    let input = place.write("layer.tar.gz", gzip(&layer()));
    for arguments in [&["convert"][..], &["convert", "-"]] {
        fs::remove_file(place.path("disk")).unwrap();
        let output = tar2vhd()
            .args(arguments)
            .arg("-o")
            .arg(place.path("disk"))
            .stdin(fs::File::open(&input).unwrap())
            .output()
            .unwrap();
        assert_eq!(code(&output), 0, "{output:?}");
        assert!(fs::read(place.path("disk")).unwrap() == expected);
    }
}

#[test]
fn neither_threads_nor_fsync_change_a_byte() {
    let place = Place::new();
    let layer = crate::common::large_layer();
    let expected = place.converted(&layer, &[]);
    for arguments in [
        &["--threads", "1"][..],
        &["--threads", "2"],
        &["--threads", "7"],
        &["--no-fsync"],
        &["--quiet"],
    ] {
        assert!(
            place.converted(&layer, arguments) == expected,
            "{arguments:?}"
        );
    }
}

#[test]
fn source_date_epoch_sets_the_time() {
    let place = Place::new();
    let input = place.write("layer.tar", layer());
    for (epoch, file_system, footer) in [
        (None, 0, 946_684_800),
        (Some("1700000000"), 1_700_000_000, 1_700_000_000),
    ] {
        let mut command = tar2vhd();
        if let Some(epoch) = epoch {
            command.env("SOURCE_DATE_EPOCH", epoch);
        }
        let output = command
            .arg("convert")
            .arg(&input)
            .arg("-o")
            .arg(place.path("disk"))
            .output()
            .unwrap();
        assert_eq!(code(&output), 0, "{output:?}");
        let found = inspected(fs::read(place.path("disk")).unwrap());
        assert_eq!(found.file_system.created, file_system);
        assert_eq!(found.disk.vhd.unwrap().created, footer);
    }
}

#[test]
fn whiteouts_are_made_kept_or_dropped() {
    let place = Place::new();
    for (arguments, whiteouts, files) in [
        (&[][..], 1, 3),
        (&["--no-whiteouts"], 0, 4),
        (&["--bottom-layer"], 0, 3),
    ] {
        let summary = json(&place, &layer(), arguments);
        assert_eq!(summary["entries"]["whiteouts"], whiteouts, "{arguments:?}");
        assert_eq!(summary["entries"]["files"], files, "{arguments:?}");
    }
}

#[test]
fn the_shape_of_the_disk_can_be_chosen() {
    let place = Place::new();
    let plain = inspected(place.converted(&layer(), &[])).file_system;
    let used = |system: &tar2vhd::inspect::FileSystem| system.blocks - system.free_blocks;

    let aligned = json(&place, &layer(), &["--align", "1MiB"]);
    assert_eq!(aligned["disk"]["virtualSize"], 1 << 20);
    assert_eq!(aligned["disk"]["size"], (1 << 20) + 512);
    let disk = fs::read(place.path("disk")).unwrap();
    assert_eq!(inspected(disk).disk.virtual_size, 1 << 20);

    let zeros = inspected(place.converted(&layer(), &["--keep-zeros"])).file_system;
    assert_eq!(used(&zeros), used(&plain) + 10);

    let inline = inspected(place.converted(&layer(), &["--inline-data"])).file_system;
    assert!(inline.features.contains(&"inline_data".to_owned()));
    assert!(!plain.features.contains(&"inline_data".to_owned()));

    // A descriptor of 32 bytes for each 128 MiB, in whole blocks.
    let small = inspected(place.converted(&layer(), &["--max-size", "1GiB"])).file_system;
    assert_eq!(plain.blocks - small.blocks, 7);
}

#[test]
fn limits_are_kept() {
    let place = Place::new();
    // A directory, three files, a whiteout.
    place.converted(&layer(), &["--max-entries", "5"]);
    let output = place.convert(&layer(), &["--max-entries", "4"]);
    assert_fails(&output, 1, "");

    let large = crate::common::large_layer();
    place.converted(&large, &["--max-size", "4MiB"]);
    let output = place.convert(&large, &["--max-size", "3MiB"]);
    assert_fails(&output, 1, "");

    let mut encoder = zstd::Encoder::new(Vec::new(), 1).unwrap();
    encoder.window_log(22).unwrap();
    encoder.include_contentsize(false).unwrap();
    std::io::Write::write_all(&mut encoder, &large).unwrap();
    let compressed = encoder.finish().unwrap();
    place.converted(&compressed, &["--max-window", "4MiB"]);
    let output = place.convert(&compressed, &["--max-window", "2MiB"]);
    assert_fails(&output, 1, "");
}

#[test]
fn what_is_expected_is_verified() {
    let place = Place::new();
    let compressed = gzip(&layer());
    let summary = json(&place, &compressed, &[]);
    let diff_id = summary["digest"].as_str().unwrap();
    let digest = summary["compressed"]["digest"].as_str().unwrap();
    let size = compressed.len().to_string();
    let oci = "application/vnd.oci.image.layer.v1.tar+gzip";
    let docker = "application/vnd.docker.image.rootfs.diff.tar";
    let right = ["--expect-diff-id", diff_id, "--expect-digest", digest];
    let right = [&right[..], &["--expect-size", &size, "--media-type", oci]].concat();
    let expected = place.converted(&compressed, &[]);
    assert!(place.converted(&compressed, &right) == expected);
    assert!(place.converted(&compressed, &["--media-type", docker]) == expected);

    for wrong in [
        ["--expect-diff-id", digest],
        ["--expect-digest", diff_id],
        ["--expect-size", "1"],
        ["--media-type", "application/vnd.oci.image.layer.v1.tar"],
        [
            "--media-type",
            "application/vnd.oci.image.layer.v1.tar+zstd",
        ],
    ] {
        assert_fails(&place.convert(&compressed, &wrong), 1, "");
    }
    assert!(fs::read(place.path("disk")).unwrap() == expected);
}

#[test]
fn an_empty_layer_is_a_disk() {
    let place = Place::new();
    let summary = json(&place, &Layer::new().finish(), &[]);
    assert_eq!(summary["entries"]["directories"], 1);
    inspected(fs::read(place.path("disk")).unwrap());
}

#[test]
fn small_files_fit_small_writable_disks() {
    let mut layer = Layer::new();
    for n in 0..20_000 {
        layer = layer.add(tar::EntryType::Regular, &format!("f{n}"), b"");
    }
    let place = Place::new();
    place.converted(&layer.finish(), &["--writable", "--size", "79MiB"]);
}
