use super::*;

/// A file with these bytes at a place, and zeros before and behind.
fn file(offset: usize, magic: &[u8]) -> Vec<u8> {
    let mut file = vec![0; HEAD];
    file[offset..][..magic.len()].copy_from_slice(magic);
    file
}

fn name(head: &[u8]) -> Option<&'static str> {
    identify(head).map(|found| found.name)
}

#[test]
fn each_row_is_found() {
    for Row(offset, magic, expected, class) in TABLE {
        assert!(offset + magic.len() <= HEAD, "{expected}");
        let mut file = file(*offset, magic);
        if *expected == "bzip2" {
            file[3..10].copy_from_slice(b"91AY&SY");
        }
        let found = identify(&file).unwrap_or_else(|| panic!("{expected}"));
        assert_eq!((found.name, found.class), (*expected, *class));
        assert!(found.instead_of_layer().is_some(), "{expected}");
        // Cut within the magic number, it is nothing yet or something else.
        assert_ne!(
            name(&file[..offset + magic.len() - 1]),
            Some(*expected),
            "{expected}"
        );
    }
}

#[test]
fn formats_without_a_row() {
    let mut ext4 = file(1024 + 56, b"\x53\xef");
    assert_eq!(name(&ext4), Some("an ext2, ext3 or ext4 file system"));
    ext4[1024 + 24] = 7;
    assert_eq!(name(&ext4), None, "blocks of 128 KiB");

    let mut pe = file(0, b"MZ");
    pe[60] = 128;
    assert_eq!(name(&pe), None);
    pe[128..132].copy_from_slice(b"PE\0\0");
    assert_eq!(name(&pe), Some("a Windows program"));

    let mut disk = file(510, b"\x55\xaa");
    assert_eq!(name(&disk), None);
    disk[446 + 4] = 0x83;
    let boots = "a disk with a partition table, or a boot sector";
    assert_eq!(name(&disk), Some(boots));
    assert_eq!(identify(&file(0, b"-lh5-")), None);
    assert_eq!(name(&file(2, b"-lh5-")), Some("an LHA archive"));
    assert_eq!(name(b"\x5d\0\0\x80\0\xff"), Some("lzma"));

    let mut tail = [0; TAIL];
    assert_eq!(identify_end(&tail), None);
    tail[..8].copy_from_slice(b"koly\0\0\0\x04");
    assert!(identify_end(&tail).is_some());
}

#[test]
fn texts_are_told_apart() {
    for (text, expected) in [
        (
            "<!DOCTYPE html><html><body>404</body></html>",
            Some("an HTML page"),
        ),
        ("\u{feff}\n <HTML lang=\"en\">", Some("an HTML page")),
        ("<?xml version=\"1.0\"?><Error/>", Some("an XML document")),
        ("Not Found\n", Some("text")),
        ("#!/bin/sh\nexit", Some("a script")),
        ("{}", Some("JSON")),
        (
            r#"{"schemaVersion":2,"manifests":[{}]}"#,
            Some("the index of an image (JSON)"),
        ),
        (
            r#"{"config":{},"layers":[]}"#,
            Some("the manifest of an image (JSON)"),
        ),
        (
            r#"{"fsLayers":[]}"#,
            Some("the manifest of an image (JSON)"),
        ),
        (
            r#"{"rootfs":{"diff_ids":[]}}"#,
            Some("the configuration of an image (JSON)"),
        ),
        (
            r#"{"imageLayoutVersion":"1.0.0"}"#,
            Some("the oci-layout file of an image (JSON)"),
        ),
        (
            r#"{"errors":[{"code":"UNAUTHORIZED"}]}"#,
            Some("an error message (JSON)"),
        ),
        (
            r#"[{"Config":"c.json","Layers":["a.tar"]}]"#,
            Some("the manifest.json of a `docker save` archive"),
        ),
        (
            "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 3\n",
            Some("a pointer of Git LFS"),
        ),
        (
            "# Disk DescriptorFile\nversion=1\n",
            Some("a VMDK descriptor"),
        ),
        // The name in a header that is cut.
        ("usr/share/doc/a", None),
        ("", None),
        ("a b\0c d e f g", None),
    ] {
        assert_eq!(name(text.as_bytes()), expected, "{text}");
    }
    let long = "\u{e4}\u{f6} ".repeat(4000);
    for cut in 4090..4100 {
        assert_eq!(name(&long.as_bytes()[..cut]), Some("text"), "cut at {cut}");
    }
}

#[test]
fn a_raw_disk_may_begin_with_anything_but_another_format() {
    for (offset, magic) in [
        (0, &b"QFI\xfb"[..]),
        (0, b"KDMV"),
        (0x40, b"\x7f\x10\xda\xbe"),
        (0, b"PK\x03\x04"),
    ] {
        let found = identify(&file(offset, magic)).unwrap();
        assert!(found.instead_of_disk().is_some(), "{}", found.name);
    }
    for (offset, magic) in [
        (0, &b"hsqs"[..]),
        (0x8001, b"CD001"),
        (257, b"ustar"),
        (0, b"\x1f\x9d"),
        (0, b"{\"a\": 1}\n"),
        (0x202, b"HdrS"),
    ] {
        let found = identify(&file(offset, magic));
        assert_eq!(
            found.and_then(|found| found.instead_of_disk()),
            None,
            "{found:?}"
        );
    }
    let mut ova = file(257, b"ustar");
    ova[..8].copy_from_slice(b"disk.ovf");
    assert!(identify(&ova).unwrap().instead_of_disk().is_some());
}
