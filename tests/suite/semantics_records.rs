//! SEMANTICS.md, "Records": what the writers of tars add to an entry, and how they spell it.

use tar2vhd::{ErrorKind, WarningKind};

use crate::common::entry::{char_device, fifo, file, link, symlink};
use crate::common::layer::{Image, image, layer, options, refused, refused_tar};
use crate::common::oracle;
use crate::common::tar::{Header, Tar, pax_records};

/// Of a file whose extended header has a name and a mode, as a writer gives it.
fn written_by(header: &str, mode: u64, records: &[(&[u8], &[u8])]) -> Image {
    let records = pax_records(records);
    let extension = Header::new(b'x')
        .name(header)
        .mode(mode)
        .size(records.len() as u64);
    let tar = Tar::new()
        .header(&extension, records)
        .header(&Header::new(b'0').name("f"), "");
    image(&tar.finish(), &options())
}

// regular, contiguous (7) | \0, 0 or 7 with a trailing slash: directory

#[test]
fn a_file_whose_name_ends_in_a_slash_is_a_directory() {
    for typeflag in [0, b'0', b'7'] {
        let header = Header::new(typeflag).name("pkg/").mode(0o711);
        let inner = Header::new(b'0').name("pkg/x").size(1);
        for (tar, warned) in [
            (Tar::new().header(&header, ""), false),
            // What the directory took on disk.
            (Tar::new().header(&header.clone().size(4096), ""), true),
            // Contents, which no directory has.
            (
                Tar::new().header(&header.clone().size(11), "hello world"),
                true,
            ),
        ] {
            let image = image(&tar.header(&inner, "x").finish(), &options());
            image.assert_dir("pkg");
            assert_eq!(image.at("pkg").mode, 0o711);
            image.assert_file("pkg/x", "x");
            let warnings = [(WarningKind::Skipped, "pkg/")];
            image.assert_warnings(&warnings[..usize::from(warned)]);
        }
    }
}

// SCHILY.xattr.NAME | as its writer spells it

#[test]
fn names_of_attributes_are_what_their_writers_meant() {
    let spelled: &[(&[u8], &[u8])] = &[
        (b"SCHILY.xattr.user.100%25", b"a"),
        (b"SCHILY.xattr.user.k%3Dv", b"b"),
        (b"SCHILY.xattr.user.s%20t", b"c"),
    ];
    let plain = [
        ("user.100%25", "a"),
        ("user.k%3Dv", "b"),
        ("user.s%20t", "c"),
    ];
    let gnu = [("user.100%", "a"), ("user.k=v", "b"), ("user.s%20t", "c")];
    let url = [("user.100%", "a"), ("user.k=v", "b"), ("user.s t", "c")];
    for (header, mode, wanted) in [
        // Go, and with it containerd, Docker, BuildKit and buildah.
        ("PaxHeaders.0/f", 0, &plain),
        ("usr/lib/PaxHeaders.0/f", 0, &plain),
        // Python and star.
        ("././@PaxHeader", 0o644, &plain),
        ("./PaxHeaders/f", 0o644, &gnu),
        ("./PaxHeaders.4711/f", 0o644, &gnu),
        ("PaxHeaders.0/f", 0o644, &gnu),
        ("PaxHeader/f", 0o644, &url),
        ("somebody/else", 0o644, &gnu),
    ] {
        let image = written_by(header, mode, spelled);
        image.assert_no_warnings();
        image.assert_xattrs("f", wanted);
    }
}

/// Both of its records, which are one attribute.
#[test]
fn libarchive_has_each_attribute_once() {
    let records: &[(&[u8], &[u8])] = &[
        (b"LIBARCHIVE.xattr.user.a%25%20b", b"dg"),
        (b"SCHILY.xattr.user.a%25%20b", b"v"),
    ];
    let image = written_by("PaxHeader/f", 0o644, records);
    image.assert_xattrs("f", &[("user.a% b", "v")]);
}

#[cfg(target_os = "linux")]
#[test]
fn names_of_attributes_survive_the_tools() {
    use crate::common::kernel::Mount;

    let empty = crate::common::layer::layer_with(
        &[],
        &options().writable(tar2vhd::Writable::of_size(16 << 20)),
    );
    let Some(mount) = Mount::writable(empty.path()) else {
        return;
    };
    let path = mount.path().join("f");
    std::fs::write(&path, "").unwrap();
    for name in [
        "user.100%",
        "user.k=v",
        "user.a b",
        "user.%25",
        "user.%3D",
        "user.%zz",
    ] {
        xattr::set(&path, name, b"v").unwrap();
    }
    for (tool, options_of_tool) in [
        ("tar", &["--format=posix", "--xattrs"][..]),
        ("bsdtar", &["--format=pax"]),
        (
            "bsdtar",
            &["--format=pax", "--options", "xattrheader=SCHILY"],
        ),
    ] {
        let archive = oracle::run(tool, |command| {
            let options = ["-cf", "-", "-C"];
            command
                .args(options_of_tool)
                .args(options)
                .arg(mount.path())
                .arg("f")
        });
        let Some(archive) = archive else { continue };
        assert!(archive.status.success(), "{}", oracle::shown(&archive));
        let image = image(&archive.stdout, &options());
        let wanted = mount.tree().0.remove(&b"f"[..]).unwrap().xattrs;
        assert_eq!(image.at("f").xattrs, wanted, "{tool} {options_of_tool:?}");
    }
}

// SCHILY.fflags | warning with their names

#[test]
fn file_flags_are_left_out_with_a_warning_that_names_them() {
    let image = layer(&[file("f", "").record("SCHILY.fflags", "schg,nodump")]);
    image.assert_warnings(&[(WarningKind::Skipped, "f")]);
    let message = &image.summary.warnings[0].message;
    assert!(message.contains("schg,nodump"), "{message}");
    if let Some(stat) = oracle::debugfs(image.path(), "stat f") {
        assert!(stat.contains("Flags: 0x80000"), "{stat}");
    }
}

// LIBARCHIVE.creationtime | the inode's

#[test]
fn creation_times_are_kept_and_else_are_the_mtime() {
    let created = |entry: crate::common::entry::Entry, time: &str| {
        entry.mtime(10, 0).record("LIBARCHIVE.creationtime", time)
    };
    let image = layer(&[
        created(file("f", "data"), "1000000000.5"),
        created(crate::common::entry::dir("d"), "1000000000.5").xattr("user.a", "v"),
        created(symlink("s", "f"), "1000000000.5"),
        created(fifo("p"), "-1"),
        file("without", "").mtime(10, 0),
        created(file("again", ""), "7"),
        // The last header is that of the file.
        link("l", "again").mtime(10, 0),
        created(file("late", ""), "99999999999999"),
    ]);
    image.assert_warnings(&[(WarningKind::TimeClamped, "late")]);
    for (path, crtime) in [
        ("f", "crtime: 0x3b9aca00:77359400"),
        ("d", "crtime: 0x3b9aca00:77359400"),
        ("s", "crtime: 0x3b9aca00:77359400"),
        ("p", "crtime: 0xffffffff:00000000"),
        ("without", "crtime: 0x0000000a:00000000"),
        ("again", "crtime: 0x0000000a:00000000"),
    ] {
        if let Some(stat) = oracle::debugfs(image.path(), &format!("stat {path}")) {
            assert!(stat.contains(crtime), "{path}: {stat}");
        }
    }
}

// a time that cannot be read | warning

#[test]
fn a_time_that_cannot_be_read_does_not_stop_the_layer() {
    for (key, bad) in [
        ("mtime", "now"),
        ("atime", "1.2.3"),
        ("ctime", "0x10"),
        ("LIBARCHIVE.creationtime", "12,5"),
    ] {
        let image = layer(&[
            file("f", "data").mtime(99, 0).record(key, bad),
            file("g", "").mtime(5, 0),
        ]);
        image.assert_warnings(&[(WarningKind::TimeUnreadable, "f")]);
        let message = &image.summary.warnings[0].message;
        assert!(message.contains(key) && message.contains(bad), "{message}");
        let node = image.at("f");
        assert_eq!((node.mtime, node.atime), ((99, 0), (99, 0)), "{key}");
    }
    let tar = Tar::new()
        .header(
            &Header::new(b'0').name("f").field(136, b"zzzzzzzzzzz\0"),
            "",
        )
        .header(&Header::new(b'0').name("g"), "");
    let image = image(&tar.finish(), &options());
    image.assert_warnings(&[(WarningKind::TimeUnreadable, "f")]);
    assert_eq!(image.at("f").mtime, (0, 0));
    assert_eq!(image.at("g").mtime, (1_600_000_000, 0));
}

// GNU sparse | a PAX size that is that of the file; maps of any length in the contents

#[test]
fn a_sparse_file_may_have_its_own_size_in_the_record() {
    let data = [vec![b'A'; 512], vec![b'B'; 512]].concat();
    let mut map = b"3\n0\n512\n1048576\n512\n4194304\n0\n".to_vec();
    map.resize(512, 0);
    let records: &[(&[u8], &[u8])] = &[
        (b"size", b"4194304"),
        (b"GNU.sparse.major", b"1"),
        (b"GNU.sparse.minor", b"0"),
        (b"GNU.sparse.name", b"img"),
        (b"GNU.sparse.realsize", b"4194304"),
    ];
    let tar = Tar::new()
        .pax(records)
        .header(
            &Header::new(b'0').name("GNUSparseFile.0/img").size(1536),
            [map, data].concat(),
        )
        .header(&Header::new(b'0').name("after").size(1), "z");
    let image = image(&tar.finish(), &options());
    image.assert_no_warnings();
    let mut contents = vec![0; 4 << 20];
    contents[..512].fill(b'A');
    contents[1 << 20..][..512].fill(b'B');
    image.assert_file("img", contents);
    image.assert_file("after", "z");
}

#[test]
fn a_sparse_map_may_be_longer_than_an_extension_header() {
    let sparse = |count: usize| {
        let mut map = format!("{count}\n").into_bytes();
        for i in 0..count {
            map.extend_from_slice(format!("{:09}\n{:09}\n", 2 * i, i % 2).as_bytes());
        }
        map.resize(map.len().next_multiple_of(512), 0);
        map.resize(map.len() + count / 2, b'x');
        let size = (2 * count).to_string();
        let records: &[(&[u8], &[u8])] = &[
            (b"GNU.sparse.major", b"1"),
            (b"GNU.sparse.minor", b"0"),
            (b"GNU.sparse.realsize", size.as_bytes()),
        ];
        let header = Header::new(b'0').name("f").size(map.len() as u64);
        Tar::new().pax(records).header(&header, map).finish()
    };
    // Two MiB of numbers.
    let image = image(&sparse(100_000), &options());
    let mut contents = vec![0; 200_000];
    contents
        .iter_mut()
        .skip(2)
        .step_by(4)
        .for_each(|byte| *byte = b'x');
    image.assert_file("f", contents);
    let error = refused_tar(ErrorKind::Limit, &sparse(1_100_000), &options());
    assert!(error.to_string().contains("segments"), "{error}");
}

// other keys

#[test]
fn records_of_no_known_meaning_are_skipped_with_a_warning() {
    for (key, value) in [
        ("VENDOR.colour", "blue"),
        ("security.label", "x"),
        ("hdrcharset", "KOI8-R"),
    ] {
        let image = layer(&[file("f", "")
            .record(key, value)
            .record("VENDOR.second", "x")]);
        image.assert_warnings(&[(WarningKind::Skipped, "f")]);
        let message = &image.summary.warnings[0].message;
        assert!(message.contains(key), "{message}");
    }
    let mut harmless = file("f", "");
    for (key, value) in [
        ("comment", "x"),
        ("uname", "root"),
        ("gname", "root"),
        ("hdrcharset", "BINARY"),
        ("charset", "ISO-IR 10646 2000 UTF-8"),
        ("SCHILY.dev", "7"),
        ("SCHILY.ino", "7"),
        ("SCHILY.nlink", "2"),
        ("SCHILY.filetype", "regular"),
        ("SCHILY.realsize", "0"),
        ("LIBARCHIVE.symlinktype", "file"),
        ("GNU.volume.label", "x"),
        ("SUN.holesdata", " 0 0"),
    ] {
        harmless = harmless.record(key, value);
    }
    layer(&[harmless]).assert_no_warnings();
}

#[test]
fn records_without_which_a_file_is_another_are_refused() {
    for (key, value) in [
        ("SCHILY.realsize", "4096"),
        ("SCHILY.filetype", "sparse"),
        ("SCHILY.tarfiletype", "meta"),
        ("SCHILY.offset", "512"),
        ("GNU.volume.offset", "512"),
    ] {
        refused(
            ErrorKind::Unsupported,
            &[file("f", "data").record(key, value)],
        );
    }
    let tar = Tar::new()
        .pax_global(&[
            (b"GNU.volume.filename", b"f"),
            (b"GNU.volume.offset", b"512"),
        ])
        .header(&Header::new(b'0').name("f"), "");
    refused_tar(ErrorKind::Unsupported, &tar.finish(), &options());
}

#[test]
fn solaris_tells_devices_as_star_does() {
    let device = char_device("c", 0, 1)
        .record("SUN.devmajor", "300")
        .record("SUN.devminor", "70000");
    let image = layer(&[device]);
    if let Some(stat) = oracle::debugfs(image.path(), "stat c") {
        assert!(
            stat.contains("300:70000") || stat.contains("(300, 70000)"),
            "{stat}"
        );
    }
    image.assert_no_warnings();
}
