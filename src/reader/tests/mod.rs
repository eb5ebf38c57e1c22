//! Images of all kinds, read back and held against the kernel and against what they were made of.

mod hostile;
mod images;
mod kernel;
mod tree;

use std::path::Path;

use super::exercise::exercise;
use super::{FileSystem, LastLink};
use crate::disk::{DiskFormat, MemoryDisk, Volume};
use crate::error::ErrorKind;
use crate::options::{Options, Profile};
use images::{Filled, debugfs, filled_by_kernel, filled_by_mke2fs, own};
use kernel::Mount;
use tree::{by_kernel, by_reader};

/// Images that the kernel writes to, with what distinguishes them.
const MOUNTED: [(&str, &[&str]); 9] = [
    ("ext4", &["-t", "ext4"]),
    ("ext2", &["-t", "ext2", "-b", "1024", "-I", "128"]),
    ("ext3", &["-t", "ext3", "-b", "2048"]),
    (
        "block maps and CRC-16",
        &[
            "-t",
            "ext4",
            "-O",
            "^extent,^64bit,^metadata_csum,uninit_bg",
            "-b",
            "1024",
        ],
    ),
    (
        "inline data",
        &["-t", "ext4", "-O", "inline_data", "-I", "512"],
    ),
    (
        "values in inodes",
        &["-t", "ext4", "-O", "ea_inode", "-b", "1024"],
    ),
    (
        "meta groups",
        &[
            "-t",
            "ext4",
            "-O",
            "meta_bg,^resize_inode,^flex_bg,^sparse_super",
            "-b",
            "1024",
            "-g",
            "1024",
        ],
    ),
    (
        "few copies",
        &[
            "-t",
            "ext4",
            "-O",
            "sparse_super2,^resize_inode,metadata_csum_seed,large_dir",
        ],
    ),
    (
        "clusters",
        &["-t", "ext4", "-O", "bigalloc", "-C", "16384", "-b", "1024"],
    ),
];

#[test]
fn the_kernel_shows_the_same() {
    for (name, options) in MOUNTED {
        let Some(Filled { image, .. }) = filled_by_kernel(options) else {
            return;
        };
        same_as_kernel(name, image.path());
        // Hash trees where there were none, and other checksums.
        if images::run("e2fsck", &["-fyD"], image.path()).is_none() {
            return;
        }
        same_as_kernel(name, image.path());
    }
}

fn same_as_kernel(name: &str, image: &Path) {
    let Some(mount) = Mount::read_only(image) else {
        return;
    };
    let expected = by_kernel(mount.path());
    let found = by_reader(Volume::open(image).unwrap());
    found.assert_same(&expected, name);
    let (count, errors) = exercise(Volume::open(image).unwrap()).unwrap();
    assert!(errors.is_empty(), "{name}: {errors:?}");
    // The root has no name.
    assert_eq!(count, expected.0.len() - 1, "{name}");
}

#[test]
fn blocks_of_any_size_are_read() {
    for (name, options) in [
        ("64 KiB", &["-t", "ext4", "-b", "65536"][..]),
        ("64 KiB, block maps", &["-t", "ext2", "-b", "65536"]),
        ("32 KiB", &["-t", "ext4", "-b", "32768"]),
        (
            "casefold",
            &["-t", "ext4", "-O", "casefold", "-E", "encoding=utf8"],
        ),
        ("1 KiB", &["-t", "ext4", "-b", "1024"]),
    ] {
        let Some(Filled { image, source }) = filled_by_mke2fs(options) else {
            return;
        };
        let expected = by_kernel(source.path());
        let found = by_reader(Volume::open(image.path()).unwrap());
        // mke2fs keeps no parts of seconds and no time of access or change.
        found
            .without_times()
            .assert_same(&expected.without_times(), name);
        let (_, errors) = exercise(Volume::open(image.path()).unwrap()).unwrap();
        assert!(errors.is_empty(), "{name}: {errors:?}");
    }
}

#[test]
fn layers_of_our_own_are_read() {
    let options = Options::new;
    let mut all = Vec::new();
    for (name, options) in [
        ("default", options()),
        ("inline data", options().inline_data(true)),
        (
            "writable",
            options().writable(crate::Writable::of_size(64 << 20)),
        ),
        (
            "with a journal",
            options().writable(crate::Writable::of_size(64 << 20).journal(true)),
        ),
        ("hcsshim", options().profile(Profile::Hcsshim)),
    ] {
        let with_all = name != "hcsshim";
        let raw = own(&options.format(DiskFormat::Raw), with_all);
        let image = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(image.path(), &raw).unwrap();
        same_as_kernel(name, image.path());
        let tree = by_reader(Volume::from_bytes(raw).unwrap());
        if with_all {
            all.push((name, tree));
        }
    }
    for format in [DiskFormat::Vhd, DiskFormat::VhdDynamic, DiskFormat::Vhdx] {
        let disk = own(&options().format(format), true);
        let tree = by_reader(Volume::from_bytes(disk).unwrap());
        tree.assert_same(&all[0].1, &format!("{format:?}"));
    }
}

#[test]
fn paths_are_resolved_inside() {
    let Some(Filled { image, .. }) = filled_by_kernel(&["-t", "ext4"]) else {
        return;
    };
    let system = FileSystem::open(Volume::open(image.path()).unwrap()).unwrap();
    let find = |path: &str, last| {
        let found = system.lookup(path.as_bytes(), last).unwrap();
        found.map(|inode| inode.number())
    };
    let file = find("d/file", LastLink::Kept);
    assert!(file.is_some());
    for path in [
        "/d/file",
        "d//./file",
        "../../d/file",
        "d/up/d/file",
        "to-d/file",
        "absolute/file",
        "to-d/../d/file",
        "deep/deeper/absolute/../d/file",
        "to-file",
        "chain-40",
    ] {
        assert_eq!(find(path, LastLink::Followed), file, "{path}");
    }
    let link = find("to-file", LastLink::Kept);
    assert!(link.is_some() && link != file);
    for path in [
        "d/file/",
        "d/file/x",
        "nowhere",
        "dangling",
        "d/nowhere/x",
        "to-file/",
    ] {
        assert_eq!(find(path, LastLink::Followed), None, "{path}");
    }
    assert_eq!(find("to-d/", LastLink::Kept), find("d", LastLink::Kept));
    assert_eq!(find("", LastLink::Kept), Some(2));
    for path in ["chain-41", "circle"] {
        let error = system.lookup(path.as_bytes(), LastLink::Followed);
        assert_eq!(error.unwrap_err().kind(), ErrorKind::Limit, "{path}");
    }
    // Names beside one another that a hash leads to, and one that it does not.
    for n in [0, 1, 1499] {
        let path = format!("many/a name of which there are many {n}");
        assert!(find(&path, LastLink::Kept).is_some(), "{path}");
    }
    assert_eq!(
        find("many/a name of which there are many 1500", LastLink::Kept),
        None
    );
}

#[test]
fn files_come_in_the_order_of_their_data() {
    let raw = own(&Options::new().format(DiskFormat::Raw), true);
    let system = FileSystem::open(Volume::from_bytes(raw).unwrap()).unwrap();
    let mut names = Vec::new();
    let mut files = Vec::new();
    for entry in system.walk().unwrap() {
        let entry = entry.unwrap();
        if entry.parent == 2 && entry.name.starts_with(b"ordered-") {
            names.push((entry.inode.number(), entry.name));
            files.push(entry.inode.clone());
        }
    }
    system.sort_by_data(&mut files).unwrap();
    let found: Vec<_> = files
        .iter()
        .map(|file| {
            let name = names.iter().find(|(ino, _)| *ino == file.number());
            String::from_utf8_lossy(&name.unwrap().1).into_owned()
        })
        .collect();
    // As the tar has them; the empty one has no data.
    assert_eq!(
        found,
        ["ordered-empty", "ordered-z", "ordered-a", "ordered-m"]
    );
}

#[test]
fn what_cannot_be_read_is_named() {
    let Some(Filled { image, .. }) = filled_by_kernel(&["-t", "ext4", "-O", "^metadata_csum"])
    else {
        return;
    };
    let bytes = std::fs::read(image.path()).unwrap();
    let with = |at: usize, bits: u32| {
        let mut bytes = bytes.clone();
        let at = 1024 + at;
        let old = u32::from_le_bytes(*bytes[at..].first_chunk().unwrap());
        bytes[at..at + 4].copy_from_slice(&(old | bits).to_le_bytes());
        bytes
    };
    const INCOMPAT: usize = 0x60;
    for (bits, name) in [
        (0x4, "needs_recovery"),
        (0x8, "journal_dev"),
        (0x1, "compression"),
        (0x1000, "dirdata"),
        (0x8000_0000, "FEATURE_I31"),
    ] {
        let volume = Volume::from_bytes(with(INCOMPAT, bits)).unwrap();
        let error = FileSystem::open(volume).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported, "{name}");
        assert!(error.to_string().contains(name), "{error}");
    }
    // An encrypted file keeps others from nothing.
    if debugfs(image.path(), "sif /d/file flags 0x80800").is_none() {
        return;
    }
    let system = FileSystem::open(Volume::open(image.path()).unwrap()).unwrap();
    let file = system.lookup(b"d/file", LastLink::Kept).unwrap().unwrap();
    let error = system.read_at(&file, 0, &mut [0; 9]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(error.to_string().contains("encrypt"), "{error}");
    assert!(system.lookup(b"d/other", LastLink::Kept).unwrap().is_some());
}

#[test]
fn a_disk_without_a_file_system_is_none() {
    let disk = MemoryDisk::new();
    let options = crate::virtual_disk::DiskOptions::new();
    crate::virtual_disk::create(4 << 20, &disk, &options).unwrap();
    let error = FileSystem::open(Volume::from_bytes(disk.into_vec()).unwrap()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidDisk);
}
