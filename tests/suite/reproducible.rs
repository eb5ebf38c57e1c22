//! The same layer and options give the same bytes, whatever else differs.

use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;
use sha2::{Digest, Sha256};
use tar2vhd::Options;

use crate::common::entry::{char_device, dir, file, link, marker, symlink};
use crate::common::layer::{convert, options};
use crate::common::tar::Tar;

fn tar() -> Vec<u8> {
    let noise: Vec<u8> = (0..1_000_000u32)
        .map(|i| (i.wrapping_mul(2_654_435_761) >> 15) as u8)
        .collect();
    let mut entries = vec![
        dir("d").xattr("user.name", "value"),
        file("d/noise", noise).xattr("user.large", vec![7; 3000]),
        file("d/huge-value", "x").xattr("user.huge", vec![8; 60_000]),
        link("late", "d/500"),
        symlink("d/l", "t".repeat(100)),
        char_device("d/null", 1, 3),
        marker("gone/.wh.file"),
        marker("gone/.wh..wh..opq"),
    ];
    entries.extend((0..1000).map(|i| file(format!("d/{i}"), format!("{i}"))));
    // Replaced, so that something is freed.
    entries.push(file("d/noise", "short"));
    Tar::of(&entries)
}

#[test]
fn neither_threads_nor_compression_change_a_byte() {
    let tar = tar();
    let (wanted, summary) = convert(&tar, &options().threads(1)).unwrap();
    for threads in [2, 3, 8] {
        let (bytes, other) = convert(&tar, &options().threads(threads)).unwrap();
        assert!(bytes == wanted, "{threads} threads");
        assert_eq!(other, summary);
    }
    let mut gzip = GzEncoder::new(Vec::new(), Compression::fast());
    gzip.write_all(&tar).unwrap();
    let zstd = zstd::bulk::compress(&tar, 1).unwrap();
    for blob in [gzip.finish().unwrap(), zstd] {
        let (bytes, other) = convert(&blob, &options()).unwrap();
        assert!(bytes == wanted);
        assert_eq!(
            (other.layer, other.disk),
            (summary.layer, summary.disk.clone())
        );
    }
}

#[test]
fn what_shapes_the_bytes_changes_the_uuid() {
    let tar = tar();
    let changes: [fn(Options) -> Options; 7] = [
        |options| options,
        |options| options.whiteouts(false),
        |options| options.bottom_layer(true),
        |options| options.max_size(1 << 40),
        |options| options.inline_data(true),
        |options| options.keep_zeros(true),
        |options| options.time(1_700_000_000),
    ];
    let uuids = changes.map(|change| convert(&tar, &change(options())).unwrap().1.disk.uuid);
    for (i, uuid) in uuids.iter().enumerate() {
        assert_eq!(uuid[6] >> 4, 8, "the version");
        assert!(!uuids[..i].contains(uuid), "option {i}");
    }
    let (_, same) = convert(&tar, &options().threads(5).align(1 << 20)).unwrap();
    assert_eq!(same.disk.uuid, uuids[0]);
}

/// Bytes change only with the layout version, and with a line in CHANGELOG.md.
#[test]
fn the_bytes_of_this_layout_version_stay() {
    let (bytes, _) = convert(&tar(), &options()).unwrap();
    let digest: String = Sha256::digest(&bytes)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    assert_eq!(
        digest,
        "14211a6bd32784d3627fa8db78346b0fbcdc8d27ee0694d133193cbc1b634168"
    );
}
