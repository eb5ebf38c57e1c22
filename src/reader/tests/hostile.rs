//! Disks that are damaged or lie.

use std::path::Path;

use super::images::{debugfs, filled_by_kernel, own, run};
use crate::disk::{DiskFormat, Volume};
use crate::error::{Error, ErrorKind, Result};
use crate::options::{Options, Profile};
use crate::reader::exercise::exercise;
use crate::reader::{FileSystem, LastLink};

/// Reads everything of a disk in memory.
fn read(bytes: &[u8]) -> Result<(usize, Vec<Error>)> {
    exercise(Volume::from_bytes(bytes.to_vec())?)
}

/// Whether a disk cannot be read to its end without an error.
fn is_refused(bytes: &[u8]) -> bool {
    read(bytes).map_or(true, |(_, errors)| !errors.is_empty())
}

/// Some of the bytes of these images that are not zero are changed; the fuzzer does the rest.
#[test]
fn no_byte_makes_a_panic() {
    let options = || Options::new().format(DiskFormat::Raw);
    for (name, options) in [
        ("default", options()),
        ("inline data", options().inline_data(true)),
        (
            "writable",
            options().writable(crate::Writable::of_size(16 << 20)),
        ),
        ("hcsshim", options().profile(Profile::Hcsshim)),
    ] {
        let mut bytes = own(&options, name != "hcsshim");
        assert!(!is_refused(&bytes), "{name}");
        let places: Vec<_> = (1024..bytes.len()).filter(|at| bytes[*at] != 0).collect();
        for (at, bits) in places
            .iter()
            .step_by(places.len() / 60)
            .zip([1, 0xff].repeat(60))
        {
            bytes[*at] ^= bits;
            let _ = read(&bytes);
            bytes[*at] ^= bits;
        }
    }
}

/// Every block of metadata that is read has a checksum, and each is looked at.
#[test]
fn every_checksum_is_looked_at() {
    let mut bytes = own(&Options::new().format(DiskFormat::Raw), true);
    let system = FileSystem::open(Volume::from_bytes(bytes.clone()).unwrap()).unwrap();
    let inode = |path: &[u8]| system.lookup(path, LastLink::Kept).unwrap().unwrap();
    let block = |number: u64| number as usize * 4096;
    let pointer = |path: &[u8], at: usize| {
        let bytes = inode(path).i_block()[at..].first_chunk().copied();
        u64::from(u32::from_le_bytes(bytes.unwrap()))
    };
    let table = u32::from_le_bytes(*bytes[4096 + 8..].first_chunk().unwrap());
    let root = block(table.into()) + 256;
    // The first index of a tree that is one level deep, and the first extent.
    let (node, tree) = (pointer(b"torn", 16), pointer(b"many", 20));
    let attributes = inode(b"dir/attributes").attribute_block();
    // It is in an inode of its own, which has its hash.
    let value = bytes.chunks(4096).position(|block| block == [b'v'; 4096]);
    for (name, at) in [
        ("the superblock", 1024 + 0x78),
        ("a descriptor", 4096 + 12),
        ("an inode", root + 0x8),
        ("an extra field of an inode", root + 0x90),
        ("an extent node", block(node) + 8),
        ("the root of a hash tree", block(tree) + 40),
        ("a directory", block(pointer(b"", 20)) + 4090),
        ("a block of attributes", block(attributes) + 4000),
        ("a value", block(value.unwrap() as u64)),
    ] {
        assert!(!is_refused(&bytes), "before {name}");
        bytes[at] ^= 4;
        assert!(is_refused(&bytes), "{name} was changed unseen");
        bytes[at] ^= 4;
    }
}

/// A file system without checksums, and its blocks of 1 KiB.
fn without_checksums() -> Option<tempfile::NamedTempFile> {
    let options = ["-t", "ext2", "-b", "1024", "-O", "^dir_index"];
    filled_by_kernel(&options).map(|filled| filled.image)
}

fn errors(image: &Path) -> String {
    let (_, errors) = exercise(Volume::open(image).unwrap()).unwrap();
    let errors = errors.iter().map(|error| format!("{error:#}\n"));
    errors.collect()
}

#[test]
fn claims_that_contradict_each_other_are_refused() {
    let Some(image) = without_checksums() else {
        return;
    };
    let image = image.path();
    assert_eq!(errors(image), "");
    for (request, back, expected) in [
        // A directory in itself has no end.
        (
            "ln deep d/loop",
            "unlink d/loop",
            "a directory with two names",
        ),
        (
            "sif d/other block[0] 1000000",
            "sif d/other block[0] 0",
            "out of the file system",
        ),
        ("sif d size 0xffffffff", "sif d size 1024", ""),
        (
            "sif d/link-of-59 size 0",
            "sif d/link-of-59 size 59",
            "impossible length",
        ),
        (
            "sif d/link-of-59 size 5000",
            "sif d/link-of-59 size 59",
            "impossible length",
        ),
        (
            "sif d/other mode 0",
            "sif d/other mode 0100644",
            "not in use",
        ),
        (
            "sif d/other mode 0170644",
            "sif d/other mode 0100644",
            "no type of file",
        ),
        (
            "sif <2> mode 0100755",
            "sif <2> mode 040755",
            "no directory",
        ),
        (
            "sif d/other file_acl 1000000",
            "sif d/other file_acl 0",
            "out of the file system",
        ),
        (
            "sif d/other file_acl 5",
            "sif d/other file_acl 0",
            "is none",
        ),
    ] {
        if debugfs(image, request).is_none() {
            return;
        }
        let found = match exercise(Volume::open(image).unwrap()) {
            Ok((_, errors)) => errors.iter().map(|e| format!("{e:#}\n")).collect(),
            Err(error) => error.to_string(),
        };
        assert!(found.contains(expected), "{request}: {found}");
        debugfs(image, back);
    }
}

/// A time may have more nanoseconds than a second has, to the kernel and e2fsck too.
#[test]
fn nanoseconds_stay_below_a_second() {
    let Some(filled) = filled_by_kernel(&["-t", "ext4", "-O", "^metadata_csum"]) else {
        return;
    };
    let image = filled.image.path();
    debugfs(image, "sif d/other mtime_extra 0xffffffff");
    let system = FileSystem::open(Volume::open(image).unwrap()).unwrap();
    let file = system.lookup(b"d/other", LastLink::Kept).unwrap().unwrap();
    assert_eq!(file.metadata().modified.nanos, 999_999_999);
}

/// A few blocks that tell of a map without end are read once.
#[test]
fn maps_of_blocks_that_are_there_twice_are_refused() {
    let Some(image) = without_checksums() else {
        return;
    };
    let path = image.path();
    let shown = run("debugfs", &["-R", "stat d/of-300000"], path).unwrap();
    let place = |name: &str| {
        let (_, rest) = shown.split_once(name).unwrap();
        let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
        digits.parse::<usize>().unwrap()
    };
    let (indirect, double) = (place("(IND):"), place("(DIND):"));
    let mut bytes = std::fs::read(path).unwrap();
    for pointer in bytes[double * 1024..][..1024].chunks_exact_mut(4) {
        pointer.copy_from_slice(&(indirect as u32).to_le_bytes());
    }
    std::fs::write(path, &bytes).unwrap();
    debugfs(path, "sif d/of-300000 size 60000000");
    assert!(errors(path).contains("is there twice"), "{}", errors(path));
}

/// A directory whose blocks are all the same one.
#[test]
fn blocks_of_directories_that_are_there_twice_are_refused() {
    let Some(image) = without_checksums() else {
        return;
    };
    let path = image.path();
    let shown = run("debugfs", &["-R", "blocks d"], path).unwrap();
    let first = shown.lines().next().unwrap().split_whitespace().next();
    let request = format!("sif few block[1] {}", first.unwrap());
    debugfs(path, &request);
    debugfs(path, "sif few size 2048");
    let found = errors(path);
    assert!(found.contains("directory is there twice"), "{found}");
}

#[test]
fn sizes_beyond_a_file_do_not_take_memory() {
    let raw = own(&Options::new().format(DiskFormat::Raw), true);
    for len in [0, 1023, 2047, 4096, 8191, raw.len() / 2] {
        let bytes = &raw[..len];
        let refused = Volume::from_bytes(bytes.to_vec()).and_then(FileSystem::open);
        let kind = refused.unwrap_err().kind();
        assert!(
            matches!(kind, ErrorKind::InvalidDisk | ErrorKind::Input),
            "{len}: {kind:?}"
        );
    }
}
