//! What a file system is wrapped in changes where its bytes are, never which.

use tar2vhd::disk::MemoryDisk;
use tar2vhd::{DiskFormat, Options, Summary, Volume, convert};
use vhd_format::Disk;

use crate::common::entry::{dir, file};
use crate::common::oracle::{run, shown};
use crate::common::tar::Tar;

const FORMATS: [(DiskFormat, &str); 5] = [
    (DiskFormat::Raw, "raw"),
    (DiskFormat::Vhd, "vpc"),
    (DiskFormat::VhdDynamic, "vpc"),
    (DiskFormat::Vhdx, "vhdx"),
    (DiskFormat::VhdxFixed, "vhdx"),
];

/// A layer that spans several blocks of every format, with a tail that fills none.
fn tar() -> Vec<u8> {
    let noise: Vec<u8> = (0..5_000_000u32)
        .map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8)
        .collect();
    let entries = [dir("d"), file("d/noise", noise), file("text", "x")];
    Tar::of(&entries)
}

fn disk(tar: &[u8], options: Options) -> (Vec<u8>, Summary) {
    let disk = MemoryDisk::new();
    let summary = convert(tar, &disk, &options).unwrap();
    let bytes = disk.into_vec();
    assert_eq!(bytes.len() as u64, summary.disk.size);
    (bytes, summary)
}

fn read_back(disk: Vec<u8>, virtual_size: u64) -> Vec<u8> {
    let disk = Disk::open(disk).unwrap();
    assert_eq!(disk.virtual_size(), virtual_size);
    let mut problems = Vec::new();
    disk.check(|problem| problems.push(problem.to_string()))
        .unwrap();
    assert_eq!(problems, [""; 0]);
    let mut bytes = vec![0; virtual_size as usize];
    disk.read_at(0, &mut bytes).unwrap();
    bytes
}

#[test]
fn every_format_holds_the_same_file_system() {
    let tar = tar();
    for align in [0, 1 << 20] {
        let options = || Options::new().max_size(3 << 30).align(align);
        let (raw, summary) = disk(&tar, options().format(DiskFormat::Raw));
        for (format, name) in FORMATS {
            let (bytes, wrapped) = disk(&tar, options().format(format));
            assert_eq!(wrapped.disk.uuid, summary.disk.uuid);
            assert_eq!(wrapped.disk.virtual_size, raw.len() as u64);
            let name = format!("{} ({name})", format.as_str());
            assert!(
                read_back(bytes, raw.len() as u64) == raw,
                "{name} holds other bytes"
            );
        }
    }
}

#[test]
fn a_dynamic_vhd_has_a_table_for_its_blocks_whatever_it_might_have_been() {
    let tar = tar();
    let gib = |n: u64| n << 30;
    for options in [
        Options::new(),
        Options::new().max_size(gib(100)),
        Options::new().max_size(gib(100)).align(16 << 20),
    ] {
        let (bytes, summary) = disk(&tar, options.format(DiskFormat::VhdDynamic));
        let number = |at: usize| u32::from_be_bytes(bytes[at..at + 4].try_into().unwrap());
        let (entries, block_size) = (number(512 + 28), number(512 + 32));
        let blocks = summary.disk.virtual_size.div_ceil(block_size.into());
        assert_eq!(u64::from(entries), blocks);
        let info = Volume::from_bytes(bytes).unwrap().info().unwrap();
        assert_eq!(info.notes, [""; 0]);
        assert_eq!(info.vhd.unwrap().max_table_entries, Some(entries));
    }
}

#[test]
fn qemu_reads_the_same_from_every_format() {
    let tar = tar();
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    let options = || Options::new().max_size(200 << 30).align(1 << 20);
    let (raw, _) = disk(&tar, options().format(DiskFormat::Raw));
    for (format, name) in FORMATS {
        let (bytes, _) = disk(&tar, options().format(format));
        std::fs::write(at("disk"), bytes).unwrap();
        let converted = run("qemu-img", |c| {
            c.args(["convert", "-f", name, "-O", "raw"])
                .args([at("disk"), at("raw")])
        });
        let Some(output) = converted else { return };
        assert!(
            output.status.success(),
            "{}: {}",
            format.as_str(),
            shown(&output)
        );
        assert!(
            std::fs::read(at("raw")).unwrap() == raw,
            "{}",
            format.as_str()
        );
        if name == "vhdx" {
            let checked = run("qemu-img", |c| {
                c.args(["check", "-f", name]).arg(at("disk"))
            });
            let Some(output) = checked else { return };
            assert!(output.status.success(), "{}", shown(&output));
        }
    }
}

#[test]
fn no_thread_count_changes_a_format() {
    let tar = tar();
    for (format, _) in FORMATS {
        let options = || Options::new().max_size(1 << 40).format(format);
        let (one, _) = disk(&tar, options().threads(1));
        let (four, _) = disk(&tar, options().threads(4));
        assert!(one == four, "{}", format.as_str());
    }
}
