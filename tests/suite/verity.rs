//! Hash trees, which veritysetup judges.

use std::fs;
use std::path::Path;
use std::process::Output;

use tar2vhd::disk::MemoryDisk;
use tar2vhd::verity::{BadBlock, BlockKind, Verity, VerityCheck};
use tar2vhd::{
    DiskFormat, ErrorKind, Options, Summary, VeritySummary, Volume, convert_with_hash_device,
};

use crate::common::entry::{Segment, dir, file, sparse};
use crate::common::layer::{convert, options};
use crate::common::oracle::{run, shown};
use crate::common::tar::Tar;

const BLOCK: usize = 4096;

/// A layer of a few megabytes with holes and with blocks that are zero.
fn tar() -> Vec<u8> {
    let mut noise: Vec<u8> = (0..3_000_000u32)
        .map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8)
        .collect();
    noise[500_000..1_500_000].fill(0);
    let entries = [
        dir("d"),
        file("d/noise", noise),
        sparse("hole", vec![Segment::Hole(20 << 20)]),
    ];
    Tar::of(&entries)
}

/// The layer whose file system has so many blocks of contents and little else.
fn tar_of(blocks: usize) -> Vec<u8> {
    let bytes = (0..blocks * BLOCK)
        .map(|i| (i / 5) as u8)
        .collect::<Vec<_>>();
    Tar::of(&[file("f", bytes)])
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn verity(summary: &Summary) -> &VeritySummary {
    summary.verity.as_ref().expect("a hash tree was asked for")
}

fn veritysetup(disk: &Path, hashes: &Path, found: &VeritySummary) -> Option<Output> {
    run("veritysetup", |c| {
        c.arg("verify")
            .args([disk, hashes])
            .arg(hex(&found.root_hash.0))
            .arg(format!("--hash-offset={}", found.hash_offset))
    })
}

fn check(data: &[u8], hashes: &[u8], offset: u64) -> Result<VerityCheck, tar2vhd::Error> {
    let disk = |bytes: &[u8]| Volume::raw_from_storage(bytes.to_vec());
    disk(data)?.verify_verity(&disk(hashes)?, offset)
}

#[test]
fn veritysetup_accepts_the_tree() {
    let place = tempfile::tempdir().unwrap();
    let (disk, hashes) = (place.path().join("disk"), place.path().join("hashes"));
    let uuid = [0xff; 16];
    let trees = [
        Verity::new(),
        Verity::new().salt([]),
        Verity::new().salt([1, 2, 3]).uuid(uuid),
        Verity::new().salt([7; 256]),
    ];
    // One block of hashes, one that is full, two levels.
    let tars = [Tar::of(&[]), tar_of(100), tar_of(119), tar_of(120), tar()];
    for (tar, tree) in tars
        .iter()
        .flat_map(|tar| trees.iter().map(move |t| (tar, t)))
    {
        let (bytes, summary) = convert(tar, &options().verity(tree.clone())).unwrap();
        let found = verity(&summary);
        assert_eq!(found.hash_offset, summary.disk.blocks * BLOCK as u64);
        let end = (found.data_blocks + found.hash_blocks) * BLOCK as u64;
        assert_eq!(bytes.len() as u64, end);
        fs::write(&disk, &bytes).unwrap();
        if let Some(output) = veritysetup(&disk, &disk, found) {
            assert!(output.status.success(), "{}", shown(&output));
        }
        let ours = check(&bytes, &bytes, found.hash_offset).unwrap();
        assert_eq!((ours.root_hash, ours.first_bad), (found.root_hash, None));
        assert_eq!(ours.salt, found.salt);

        let (plain, _) = convert(tar, &options()).unwrap();
        assert!(bytes[..plain.len()] == plain, "the file system is the same");
        let (data, device) = (MemoryDisk::new(), MemoryDisk::new());
        let apart = options().verity(tree.clone());
        let summary = convert_with_hash_device(&tar[..], &data, &device, &apart).unwrap();
        let (data, device) = (data.into_vec(), device.into_vec());
        assert!(data == plain);
        assert!(device == bytes[plain.len()..], "the same tree apart");
        let apart = verity(&summary);
        assert_eq!((apart.root_hash, apart.hash_offset), (found.root_hash, 0));
        fs::write(&hashes, &device).unwrap();
        if let Some(output) = veritysetup(&disk, &hashes, apart) {
            assert!(output.status.success(), "{}", shown(&output));
        }
    }
    if let Some(output) = run("veritysetup", |c| c.arg("dump").arg(&hashes)) {
        // Of the last tree, whose UUID followed from the contents.
        assert!(
            shown(&output).contains(&hex(&[7; 256])),
            "{}",
            shown(&output)
        );
    }
}

#[test]
fn threads_and_formats_change_nothing_of_it() {
    let tar = tar();
    let (raw, wanted) = convert(&tar, &options().threads(1).verity(Verity::new())).unwrap();
    for threads in [2, 5] {
        let (bytes, summary) =
            convert(&tar, &options().threads(threads).verity(Verity::new())).unwrap();
        assert!(bytes == raw);
        assert_eq!(summary, wanted);
    }
    for format in [
        DiskFormat::Vhd,
        DiskFormat::VhdDynamic,
        DiskFormat::Vhdx,
        DiskFormat::VhdxFixed,
    ] {
        let (bytes, summary) =
            convert(&tar, &options().format(format).verity(Verity::new())).unwrap();
        assert_eq!(summary.verity, wanted.verity, "{format:?}");
        let disk = vhd_format::Disk::open(bytes).unwrap();
        assert_eq!(disk.virtual_size(), raw.len() as u64);
        let mut inside = vec![0; raw.len()];
        disk.read_at(0, &mut inside).unwrap();
        assert!(inside == raw, "{format:?}");
    }
    let (aligned, summary) =
        convert(&tar, &options().align(1 << 20).verity(Verity::new())).unwrap();
    assert_eq!(summary.verity, wanted.verity);
    assert_eq!(aligned.len() % (1 << 20), 0);
    assert!(aligned[..raw.len()] == raw);
}

/// The byte that veritysetup names.
fn named_by_veritysetup(output: &Output) -> Option<u64> {
    let text = shown(output);
    let (_, rest) = text.split_once("at position ")?;
    let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
    rest[..digits].parse().ok()
}

#[test]
fn one_flipped_bit_is_found_where_veritysetup_finds_it() {
    let place = tempfile::tempdir().unwrap();
    let disk = place.path().join("disk");
    let (bytes, summary) = convert(&tar_of(300), &options().verity(Verity::new())).unwrap();
    let found = verity(&summary);
    let (data_blocks, tree) = (found.data_blocks, found.hash_offset + BLOCK as u64);
    // The top, then the three blocks over the data.
    assert_eq!(found.hash_blocks, 5);
    let at = |block: u64| block * BLOCK as u64;
    let level_0 = tree + at(1);
    for bit in [
        0,
        8 * 1024 + 3,
        8 * (at(data_blocks / 2) + 77),
        8 * (at(data_blocks) - 1) + 7,
        // Hashes of blocks 0, 130 and the last; then of a block of hashes.
        8 * level_0,
        8 * (level_0 + at(1) + 2 * 32 + 5),
        8 * (level_0 + 32 * data_blocks - 1),
        8 * (tree + 32),
    ] {
        let mut bad = bytes.clone();
        bad[(bit / 8) as usize] ^= 1 << (bit % 8);
        let ours = check(&bad, &bad, found.hash_offset).unwrap();
        let BadBlock { offset, .. } = ours.first_bad.expect("the bit is found");
        fs::write(&disk, &bad).unwrap();
        if let Some(output) = veritysetup(&disk, &disk, found) {
            assert!(!output.status.success());
            assert_eq!(
                Some(offset),
                named_by_veritysetup(&output),
                "bit {bit}: {}",
                shown(&output)
            );
        }
    }
    // Behind the hashes there are zeros.
    let mut bad = bytes.clone();
    bad[tree as usize + 3 * 32] = 1;
    let ours = check(&bad, &bad, found.hash_offset).unwrap();
    let spare = ours.first_bad.unwrap();
    assert_eq!(
        (spare.kind, spare.offset),
        (BlockKind::Spare { level: 1 }, tree)
    );
    // The hash of a block that is not what it was is not either.
    assert_ne!(ours.root_hash, found.root_hash);
}

#[test]
fn what_is_no_hash_device_is_said_to_be_none() {
    let (bytes, summary) = convert(&tar_of(3), &options().verity(Verity::new())).unwrap();
    let offset = verity(&summary).hash_offset;
    let start = offset as usize;
    for (at, value) in [
        (0, 0),
        (8, 2),
        (12, 0),
        (35, b'5'),
        (64, 1),
        (69, 1),
        // The number of blocks: none, then more than there are.
        (72, 0),
        (79, 0xff),
        (74, 1),
        // The size of the salt.
        (81, 2),
    ] {
        let mut bad = bytes.clone();
        bad[start + at] = value;
        let error = check(&bad, &bad, offset).map(|_| at).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidDisk, "{at}: {error}");
    }
    let error = check(&bytes, &bytes[..start + 600], offset).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidDisk);
}

#[test]
fn the_tree_is_not_counted_against_the_maximum_size() {
    let tar = tar_of(64);
    let (bytes, _) = convert(&tar, &options()).unwrap();
    let exact = options().max_size(bytes.len() as u64);
    convert(&tar, &exact).unwrap();
    for format in [DiskFormat::Raw, DiskFormat::Vhd, DiskFormat::Vhdx] {
        convert(&tar, &exact.clone().format(format).verity(Verity::new())).unwrap();
    }
    let error = convert(&tar, &Options::new().verity(Verity::new().salt([0; 257]))).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidOptions);
}
