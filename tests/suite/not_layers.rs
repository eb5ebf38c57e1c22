//! SEMANTICS.md, "Streams": bytes behind the archive's end, and inputs that are no layers.

use std::io::Write;

use flate2::write::GzEncoder;
use tar2vhd::disk::MemoryDisk;
use tar2vhd::{DiskFormat, ErrorKind, Options, Profile, Volume, WarningKind};

use crate::common::entry::{Entry, dir, file, symlink};
use crate::common::layer::{convert, image, layer, options, refused_tar};
use crate::common::tar::Tar;

fn gzip(data: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(data).unwrap();
    encoder.finish().unwrap()
}

/// A member for each so many bytes, which are decoded ahead of their turn.
fn members(data: &[u8], size: usize) -> Vec<u8> {
    data.chunks(size).flat_map(gzip).collect()
}

fn zstd(data: &[u8]) -> Vec<u8> {
    zstd::encode_all(data, 1).unwrap()
}

/// The input in every compression, in parts and whole.
fn streams(data: &[u8]) -> [Vec<u8>; 4] {
    let frames = data.chunks(200_000).flat_map(zstd).collect();
    [data.to_vec(), gzip(data), members(data, 100_000), frames]
}

fn noise(len: usize) -> Vec<u8> {
    let mut state = 1_u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8 | 1
    };
    std::iter::repeat_with(&mut next).take(len).collect()
}

// bytes after the marker | hashed and counted, never parsed; anything but zeros is a warning

#[test]
fn bytes_after_the_marker_are_told_of_and_never_parsed() {
    let tar = Tar::of(&[file("f", "x")]);
    let other = Tar::of(&[file("hidden", "y")]);
    let zeros = |bytes: usize| vec![0; bytes];
    for (rest, told) in [
        (vec![], None),
        (zeros(100_000), None),
        (zeros(3_000_000), None),
        (
            other.clone(),
            Some((0, other.len(), "where another tar archive begins")),
        ),
        (
            [zeros(8192), other.clone()].concat(),
            Some((8192, other.len(), "another tar archive")),
        ),
        (b"garbage".to_vec(), Some((0, 7, ""))),
        (
            [zeros(77), b"x".to_vec(), zeros(9)].concat(),
            Some((77, 10, "")),
        ),
        (
            [zeros(2_000_000), noise(1_000_000)].concat(),
            Some((2_000_000, 1_000_000, "")),
        ),
        (
            gzip(&other),
            Some((0, gzip(&other).len(), "they look like gzip")),
        ),
    ] {
        let whole = [&tar[..], &rest].concat();
        for stream in streams(&whole) {
            let (single, _) = convert(&stream, &options().threads(1)).unwrap();
            for threads in [1, 2, 4] {
                let (bytes, summary) = convert(&stream, &options().threads(threads)).unwrap();
                assert!(bytes == single, "{threads} threads");
                assert_eq!(summary.layer.size, whole.len() as u64);
                assert_eq!(summary.compressed.size, stream.len() as u64);
                let warnings: Vec<_> = summary.warnings.iter().collect();
                let Some((skipped, length, what)) = told else {
                    assert!(warnings.is_empty(), "{warnings:?}");
                    continue;
                };
                assert_eq!(warnings.len(), 1, "{warnings:?}");
                assert_eq!(warnings[0].kind, WarningKind::TrailingBytes);
                let message = &warnings[0].message;
                assert!(
                    message.starts_with(&format!("{length} bytes behind")),
                    "{message}"
                );
                let place = format!("begin at byte {}", tar.len() + skipped);
                assert!(
                    message.contains(&place) && message.contains(what),
                    "{message}"
                );
            }
        }
        assert_eq!(image(&whole, &options()).names(), ["f"]);
    }
    // A layer without its marker has nothing behind it.
    let open = Tar::new().add(&file("f", "x")).unfinished();
    image(&open, &options()).assert_warnings(&[(WarningKind::NoEndMarker, "")]);
}

#[test]
fn damage_behind_the_end_is_no_warning() {
    let tar = Tar::of(&[file("f", "x")]);
    for rest in [7, 5000, 300_000] {
        let whole = [&tar[..], &noise(rest)].concat();
        let (single, parts) = (gzip(&whole), members(&whole, 100_000));
        for stream in [&single[..single.len() - 4], &parts[..parts.len() - 9], &{
            let mut wrong = single.clone();
            let checksum = wrong.len() - 8;
            wrong[checksum] ^= 1;
            wrong
        }] {
            for threads in [1, 2, 4] {
                refused_tar(ErrorKind::Corrupt, stream, &options().threads(threads));
            }
        }
    }
}

#[test]
fn hcsshim_reads_no_further_either() {
    let hcsshim = || options().profile(Profile::Hcsshim);
    let tar = Tar::of(&[file("f", "x")]);
    let (bytes, _) = convert(&tar, &hcsshim()).unwrap();
    let (same, summary) = convert(&[&tar[..], b"more"].concat(), &hcsshim()).unwrap();
    assert!(bytes == same);
    let kinds: Vec<_> = summary.warnings.iter().map(|w| w.kind).collect();
    assert_eq!(kinds, [WarningKind::TrailingBytes]);

    // To it, zeros and anything are an archive without entries.
    let zeros = [&[0; 1024][..], b"more"].concat();
    refused_tar(ErrorKind::Corrupt, &zeros, &hcsshim());
    let (empty, _) = convert(&[0; 1024], &hcsshim()).unwrap();
    let (same, summary) = convert(&zeros, &hcsshim().faithful(true)).unwrap();
    assert!(empty == same);
    assert_eq!(summary.warnings[0].kind, WarningKind::TrailingBytes);
}

// where no entry came before | an error that says what the input seems to be

#[test]
fn a_disk_is_not_an_empty_layer() {
    let tar = Tar::of(&[file("f", noise(100_000))]);
    for (format, what) in [
        (DiskFormat::Raw, "ext4 file system"),
        (DiskFormat::Vhd, "ext4 file system"),
        (DiskFormat::VhdDynamic, "a VHD"),
        (DiskFormat::Vhdx, "a VHDX"),
    ] {
        let (disk, _) = convert(&tar, &options().format(format)).unwrap();
        for stream in streams(&disk) {
            for threads in [1, 2, 4] {
                for options in [options(), options().profile(Profile::Hcsshim)] {
                    let options = options.threads(threads);
                    let error = refused_tar(ErrorKind::Unsupported, &stream, &options);
                    assert!(error.to_string().contains(what), "{what}: {error}");
                    let error = tar2vhd::root_hash(&stream[..], &options).unwrap_err();
                    assert!(error.to_string().contains(what), "{what}: {error}");
                }
            }
        }
    }
}

#[test]
fn an_empty_disk_is_not_an_empty_layer() {
    for (format, what) in [
        (DiskFormat::Vhd, "a VHD"),
        (DiskFormat::VhdDynamic, "a VHD"),
    ] {
        let disk = MemoryDisk::new();
        let of = tar2vhd::virtual_disk::DiskOptions::new().format(format);
        tar2vhd::virtual_disk::create(1 << 20, &disk, &of).unwrap();
        for stream in streams(&disk.into_vec()) {
            let error = refused_tar(ErrorKind::Unsupported, &stream, &options());
            assert!(error.to_string().contains(what), "{what}: {error}");
        }
    }
}

#[test]
fn zeros_and_anything_are_not_an_empty_layer() {
    for zeros in [1024, 1536, 70_000, 3_000_000] {
        let input = [vec![0; zeros], b"data".to_vec()].concat();
        for stream in streams(&input) {
            for threads in [1, 4] {
                let error = refused_tar(ErrorKind::Corrupt, &stream, &options().threads(threads));
                assert_eq!(error.offset(), Some(zeros as u64), "{error}");
                assert!(error.to_string().contains("begins with zeros"), "{error}");
            }
        }
    }
    // Known by what stands behind, or within, the two blocks.
    for (at, magic, what) in [
        (512, &b"LABELONE"[..], "LVM"),
        (512, b"EFI PART", "GUID partition table"),
        (1024, b"\xe2\xe1\xf5\xe0", "EROFS"),
        (0x8001, b"CD001", "ISO 9660"),
        (0x1_0040, b"_BHRfS_M", "btrfs"),
    ] {
        let mut input = vec![0; 200_000];
        input[at..at + magic.len()].copy_from_slice(magic);
        for stream in streams(&input) {
            let error = refused_tar(ErrorKind::Unsupported, &stream, &options());
            assert!(error.to_string().contains(what), "{what}: {error}");
        }
    }
}

// zip, cpio, HTML ... | error naming what it is

#[test]
fn what_has_no_header_is_called_by_its_name() {
    let padded = |start: &[u8]| [start, &[0; 2000]].concat();
    for (input, what) in [
        (padded(b"PK\x03\x04"), "zip"),
        (
            b"<!DOCTYPE html><html><body>404</body></html>\n".repeat(20),
            "HTML",
        ),
        (b"<html>".to_vec(), "HTML"),
        (padded(b"070701"), "cpio"),
        (padded(b"!<arch>\ndebian-binary   "), "Debian package"),
        (padded(b"!<arch>\n"), "ar archive"),
        (padded(b"7z\xbc\xaf\x27\x1c"), "7z"),
        (padded(b"Rar!\x1a\x07\x01\0"), "RAR"),
        (padded(b"hsqs"), "squashfs"),
        (padded(b"\x7fELF"), "ELF"),
        (padded(b"%PDF-1.7"), "PDF"),
        (padded(b"conectix"), "VHD"),
        (padded(b"vhdxfile"), "VHDX"),
        (padded(b"QFI\xfb"), "qcow2"),
        (padded(b"KDMV"), "VMDK"),
        (
            br#"{"schemaVersion":2,"config":{},"layers":[]}"#.to_vec(),
            "manifest",
        ),
        (br#"{"schemaVersion":2,"manifests":[]}"#.to_vec(), "index"),
        (
            b"version https://git-lfs.github.com/spec/v1\n".to_vec(),
            "Git LFS",
        ),
        (b"manifest unknown\n".to_vec(), "text"),
    ] {
        for stream in streams(&input) {
            for profile in [Profile::Default, Profile::Hcsshim] {
                for threads in [1, 4] {
                    let options = options().threads(threads).profile(profile);
                    let error = refused_tar(ErrorKind::Unsupported, &stream, &options);
                    let text = error.to_string();
                    assert!(
                        text.contains("not a layer but") && text.contains(what),
                        "{text}"
                    );
                }
            }
        }
    }
    // A damaged tar is one, and so is a file that holds anything.
    let mut damaged = Tar::of(&[file("f", "x")]);
    damaged[0] ^= 1;
    let error = refused_tar(ErrorKind::Corrupt, &damaged, &options());
    assert!(error.to_string().contains("checksum"), "{error}");
    layer(&[file("PK\x03\x04", "QFI"), file("QFI", b"QFI\xfb")]).assert_no_warnings();
}

// archives of images | a warning; layers for Windows | an error

#[test]
fn archives_of_images_are_told_of() {
    let hex = "5f70bf18a086007016e948b04aed3b82103a36bea41755b6cddfaf10ace3c6ef";
    let blob = format!("blobs/sha256/{hex}");
    let save = [
        dir("aa"),
        file("aa/layer.tar", Tar::of(&[file("inner", "i")])),
        file(
            "manifest.json",
            r#"[{"Config":"c.json","Layers":["aa/layer.tar"]}]"#,
        ),
        file("c.json", "{}"),
    ];
    let layout = [
        file("oci-layout", r#"{"imageLayoutVersion":"1.0.0"}"#),
        file("index.json", "{}"),
        dir("blobs"),
        dir("blobs/sha256"),
        file(&blob, "{}"),
    ];
    let one_more = |entries: &[Entry], more: Entry| [entries, &[more]].concat();
    for entries in [&save[..], &layout] {
        for profile in [Profile::Default, Profile::Hcsshim] {
            let options = options().profile(profile);
            let (_, summary) = convert(&Tar::of(entries), &options).unwrap();
            let kinds: Vec<_> = summary.warnings.iter().map(|w| w.kind).collect();
            assert_eq!(kinds, [WarningKind::ImageArchive]);
        }
        for more in [dir("etc"), file("a", "a"), symlink("bin", "usr/bin")] {
            layer(&one_more(entries, more)).assert_no_warnings();
        }
    }
    let nested = [dir("srv"), dir("srv/oci"), file("srv/oci/oci-layout", "{}")];
    layer(&nested).assert_no_warnings();
    layer(&[file("manifest.json", "{}"), file("app.js", "")]).assert_no_warnings();
}

#[test]
fn layers_for_windows_are_refused() {
    let marked = dir("any").record("MSWINDOWS.rawsd", "AQAUgBQAAAAkAAAA");
    let with_record = Tar::new().add(&marked);
    let error = refused_tar(
        ErrorKind::Unsupported,
        &with_record.clone().finish(),
        &options(),
    );
    assert!(error.to_string().contains("Windows"), "{error}");
    assert_eq!(error.path(), Some(&b"any"[..]));
    let shape = Tar::of(&[dir("Files"), file("Files/a.txt", "a"), dir("Hives")]);
    let error = refused_tar(ErrorKind::Unsupported, &shape, &options());
    assert!(error.to_string().contains("Windows"), "{error}");

    let hcsshim = options().profile(Profile::Hcsshim);
    for tar in [shape, with_record.finish()] {
        assert!(convert(&tar, &hcsshim).is_err());
        let (_, summary) = convert(&tar, &hcsshim.clone().faithful(true)).unwrap();
        assert!(!summary.warnings.is_empty());
    }
    layer(&[dir("Files"), file("Files/a.txt", "a"), dir("etc")]).assert_no_warnings();
    layer(&[dir("Files"), file("Files/a.txt", "a")]).assert_no_warnings();
}

// Disks: what is no raw disk.

#[test]
fn other_formats_of_disks_are_refused_by_name() {
    let disk = |at: usize, magic: &[u8]| {
        let mut disk = vec![0; 1 << 20];
        disk[at..at + magic.len()].copy_from_slice(magic);
        disk
    };
    let place = tempfile::tempdir().unwrap();
    for (at, magic, what) in [
        (0, &b"QFI\xfb\0\0\0\x03"[..], "qcow2"),
        (0, b"KDMV\x01\0\0\0", "VMDK"),
        (0, b"COWD", "VMDK"),
        (0, b"# Disk DescriptorFile\n", "VMDK"),
        (0x40, b"\x7f\x10\xda\xbe", "VDI"),
        (0, b"QED\0", "QED"),
        (0, b"WithoutFreeSpace", "Parallels"),
        (0, b"WithouFreSpacExt", "Parallels"),
        (0, b"EVF\x09\x0d\x0a\xff\0", "EWF"),
        ((1 << 20) - 512, b"koly\0\0\0\x04", "DMG"),
        (0, b"\x3a\xff\x26\xed", "Android sparse"),
        (0, b"\x1f\x8b\x08\0", "gzip"),
        (0, b"\xfd7zXZ\0", "xz"),
        (0, b"PK\x03\x04", "zip"),
        (
            0,
            b"version https://git-lfs.github.com/spec/v1\n",
            "Git LFS",
        ),
    ] {
        let bytes = disk(at, magic);
        let path = place.path().join("disk");
        std::fs::write(&path, &bytes).unwrap();
        let errors = [
            Volume::from_bytes(bytes.clone()).unwrap_err(),
            Volume::open(&path).unwrap_err(),
            Volume::open_alone(&path).unwrap_err(),
            Volume::open(&path)
                .and_then(|disk| disk.inspect())
                .unwrap_err(),
            Volume::open(&path)
                .and_then(|disk| disk.verify(&tar2vhd::verify::VerifyOptions::new()))
                .unwrap_err(),
        ];
        for error in errors {
            assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
            assert!(error.to_string().contains(what), "{what}: {error}");
        }
        let raw = Volume::open_raw(&path).unwrap();
        assert_eq!(
            (raw.format(), raw.virtual_size()),
            (DiskFormat::Raw, 1 << 20)
        );
        let mut read = vec![0; 1 << 20];
        raw.read_at(0, &mut read).unwrap();
        assert!(read == bytes);
    }
    // A set of VHDs has no magic number that is published.
    let set = place.path().join("disk.VHDS");
    std::fs::write(&set, disk(0, b"")).unwrap();
    let error = Volume::open(&set).unwrap_err();
    assert!(error.to_string().contains("VHD set"), "{error}");

    // What a raw disk begins with.
    for (at, magic) in [
        (0, &b""[..]),
        (0, b"\xeb\x3c\x90MSDOS5.0"),
        (510, b"\x55\xaa"),
        (512, b"EFI PART"),
        (0, b"LUKS\xba\xbe"),
        (0, b"hsqs"),
        (0x8001, b"CD001"),
        (1080, b"\x53\xef"),
    ] {
        let volume = Volume::from_bytes(disk(at, magic)).unwrap();
        assert_eq!(volume.format(), DiskFormat::Raw);
    }
    Volume::from_bytes(Tar::of(&[file("f", "x")])).unwrap();
}

/// Not by chance are all images taken for what they are.
#[test]
fn what_qemu_makes_is_refused_by_name() {
    use crate::common::oracle::{run, shown};
    let place = tempfile::tempdir().unwrap();
    for (format, what) in [
        ("qcow2", "qcow2"),
        ("qcow", "qcow disk image"),
        ("vmdk", "VMDK"),
        ("vdi", "VDI"),
        ("qed", "QED"),
        ("parallels", "Parallels"),
    ] {
        let path = place.path().join(format);
        let made = run("qemu-img", |command| {
            command
                .args(["create", "-q", "-f", format])
                .arg(&path)
                .arg("64M")
        });
        let Some(made) = made else { return };
        assert!(made.status.success(), "{}", shown(&made));
        let error = Volume::open(&path).unwrap_err();
        assert!(error.to_string().contains(what), "{format}: {error}");
    }
}

#[test]
fn options_do_not_change_what_is_refused() {
    let zip = [&b"PK\x03\x04"[..], &[0; 2000]].concat();
    for options in [
        Options::new().verity(tar2vhd::verity::Verity::new()),
        Options::new().allow_empty(true),
    ] {
        let disk = MemoryDisk::new();
        let error = tar2vhd::convert(&zip[..], &disk, &options).unwrap_err();
        assert!(error.to_string().contains("zip"), "{error}");
    }
}
