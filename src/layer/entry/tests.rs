use proptest::prelude::*;

use super::super::testing::{Chunks, ReadEntry, TarBuilder, header, read_all, read_as, sample};
use super::*;
use crate::buffer::chunk::Chunk;
use crate::error::ErrorKind;

fn read(tar: TarBuilder) -> Vec<ReadEntry> {
    let (entries, warnings) = read_all(&tar.end(), 1024).unwrap();
    assert_eq!(warnings, [""; 0]);
    entries
}

/// The only entry.
fn read_one(tar: TarBuilder) -> Entry {
    let mut entries = read(tar);
    assert_eq!(entries.len(), 1);
    entries.remove(0).0
}

fn error(tar: TarBuilder) -> Error {
    read_all(&tar.end(), 1024).unwrap_err()
}

fn device(flag: u8, major: u32, minor: u32) -> tar::Header {
    let mut header = header(flag, b"dev", 0);
    header.set_device_major(major).unwrap();
    header.set_device_minor(minor).unwrap();
    header
}

fn link(flag: u8, target: &[u8]) -> tar::Header {
    let mut header = header(flag, b"link", 0);
    header.as_old_mut().linkname[..target.len()].copy_from_slice(target);
    header
}

#[test]
fn every_type() {
    let tar = TarBuilder::new()
        .entry(b'0', b"file", b"hello")
        .entry(0, b"old", b"old!")
        .entry(b'7', b"contiguous", b"12345678")
        .header(&link(b'1', b"file"))
        .header(&link(b'2', b"to"))
        .header(&device(b'3', 0xfff, 0xf_ffff))
        .header(&device(b'4', 8, 1))
        .entry(b'5', b"dir/", b"")
        .entry(0, b"old-dir/", b"")
        .entry(b'0', b"new-dir/", b"")
        .entry(b'6', b"fifo", b"")
        .entry(b'D', b"dumped/", b"Yfile\0\0");
    let entries = read(tar);
    let kinds: Vec<_> = entries.iter().map(|(entry, ..)| &entry.kind).collect();
    assert_eq!(
        kinds,
        [
            &EntryKind::File { size: 5 },
            &EntryKind::File { size: 4 },
            &EntryKind::File { size: 8 },
            &EntryKind::HardLink(b"file".to_vec()),
            &EntryKind::Symlink(b"to".to_vec()),
            &EntryKind::CharDevice {
                major: 0xfff,
                minor: 0xf_ffff
            },
            &EntryKind::BlockDevice { major: 8, minor: 1 },
            &EntryKind::Directory,
            &EntryKind::Directory,
            &EntryKind::Directory,
            &EntryKind::Fifo,
            &EntryKind::Directory,
        ]
    );
    assert_eq!(entries[0].1, b"hello");
    assert_eq!(entries[1].1, b"old!");
    assert_eq!(entries[11].1, b"", "a dump's list is no contents");
    let first = &entries[0].0;
    assert_eq!((first.offset, &first.path[..]), (0, &b"file"[..]));
    assert_eq!((first.mode, first.uid, first.gid), (0o644, 1000, 100));
    let expected = Time {
        seconds: 1_700_000_000,
        nanos: 0,
    };
    assert_eq!(
        (first.mtime, first.atime, first.ctime),
        (expected, None, None)
    );
    assert_eq!(entries[1].0.offset, 1024);
}

/// With a size there are contents behind it, unless a header is.
#[test]
fn a_file_whose_name_ends_in_a_slash_is_a_directory() {
    for flag in [0, b'0', b'7'] {
        for (size, data) in [
            (1000, 1000),
            (512, 512),
            (100_000, 100_000),
            (7, 7),
            (1000, 0),
        ] {
            let mut directory = header(flag, b"d/", 0);
            directory.set_size(size);
            let tar = TarBuilder::new()
                .header(&directory)
                .data(&sample(data))
                .entry(b'0', b"d/f", b"x");
            let (entries, warnings) = read_all(&tar.end(), 700).unwrap();
            let kinds: Vec<_> = entries.iter().map(|(entry, ..)| &entry.kind).collect();
            let file = EntryKind::File { size: 1 };
            assert_eq!(kinds, [&EntryKind::Directory, &file], "{size} {data}");
            assert_eq!(
                (&entries[0].1[..], &entries[1].1[..]),
                (&b""[..], &b"x"[..])
            );
            let offset = 512 + data.next_multiple_of(512) as u64;
            assert_eq!(entries[1].0.offset, offset);
            let lost = if data == 0 {
                "its size"
            } else {
                "its contents"
            };
            assert_eq!(warnings.len(), 1);
            assert!(warnings[0].contains(lost), "{warnings:?}");
        }
    }
    // At the end of the archive, with and without its mark.
    let mut directory = header(b'0', b"d/", 0);
    directory.set_size(9);
    for tar in [TarBuilder::new().header(&directory).end(), {
        TarBuilder::new().header(&directory).0
    }] {
        let (entries, _) = read_all(&tar, 512).unwrap();
        assert_eq!(entries.len(), 1);
    }
    let cut = TarBuilder::new().header(&directory).data(b"contents").0;
    assert!(read_all(&cut[..600], 512).is_err());
}

/// Some writers store the size of a hard link's file, and none its contents.
#[test]
fn links_and_their_like_have_no_contents() {
    for flag in *b"123456" {
        let mut entry = link(flag, b"target");
        entry.set_size(100_000);
        let tar = TarBuilder::new().header(&entry).entry(b'0', b"next", b"x");
        assert_eq!(read(tar)[1].1, b"x", "type {}", flag.escape_ascii());
        let tar = TarBuilder::new().pax(&[("size", b"100000")]);
        let tar = tar.header(&entry).entry(b'0', b"next", b"x");
        assert_eq!(read(tar)[1].1, b"x", "type {}", flag.escape_ascii());
    }
}

#[test]
fn types_that_are_refused() {
    for (flag, message) in [
        (b'M', "multi-volume archives are not supported"),
        (b'N', "entries of type 'N' are not supported"),
        (b'8', "entries of type '8' are not supported"),
        (0xff, "entries of type '\\xff' are not supported"),
        (
            b'S',
            "sparse files of other formats than GNU's are not supported",
        ),
    ] {
        let error = error(
            TarBuilder::new()
                .entry(b'0', b"a", b"")
                .entry(flag, b"b", b""),
        );
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        assert_eq!(error.to_string(), format!("b: {message} (at byte 512)"));
    }
}

#[test]
fn what_is_no_file_is_skipped_with_a_warning() {
    let layer = TarBuilder::new()
        .entry(b'V', b"volume", b"")
        .pax(&[("path", b"gone"), ("SCHILY.xattr.user.gone", b"gone")])
        .entry(b'A', b"acl", &[b'x'; 700])
        .pax(&[("SCHILY.acl.ace", b"everyone@:r::allow")])
        .entry(b'0', b"file", b"x")
        .end();
    let (entries, warnings) = read_all(&layer, 512).unwrap();
    assert_eq!(entries.len(), 1);
    assert_eq!(entries[0].0.path, b"file");
    assert_eq!(entries[0].0.xattrs, []);
    assert_eq!(
        warnings,
        [
            "volume: a volume label was skipped",
            "gone: a Solaris ACL was skipped",
            "file: an NFSv4 ACL was skipped"
        ]
    );
}

#[test]
fn extension_headers_apply_to_the_next_entry_alone() {
    let tar = TarBuilder::new()
        .pax(&[
            ("path", b"long\n\xff"),
            ("linkpath", b"to"),
            ("uid", b"4294967294"),
            ("gid", b"70000"),
            ("mtime", b"-1.5"),
            ("atime", b"2.000000001"),
            ("ctime", b"3"),
            ("uname", b"nobody"),
            ("hdrcharset", b"BINARY"),
            ("SCHILY.xattr.user.a", b"1"),
            ("SCHILY.acl.access", b"u::r"),
        ])
        .header(&link(b'2', b"short"))
        .entry(b'0', b"plain", b"");
    let entries = read(tar);
    let expected = Entry {
        offset: 0,
        path: b"long\n\xff".to_vec(),
        kind: EntryKind::Symlink(b"to".to_vec()),
        mode: 0o644,
        uid: u32::MAX - 1,
        gid: 70_000,
        mtime: Time {
            seconds: -2,
            nanos: 500_000_000,
        },
        atime: Some(Time {
            seconds: 2,
            nanos: 1,
        }),
        ctime: Some(Time {
            seconds: 3,
            nanos: 0,
        }),
        xattrs: vec![(b"user.a".to_vec(), b"1".to_vec())],
        acl_access: Some(b"u::r".to_vec()),
        ..Entry::default()
    };
    assert_eq!(entries[0].0, expected);
    let plain = Entry {
        offset: 1536,
        path: b"plain".to_vec(),
        mode: 0o644,
        uid: 1000,
        gid: 100,
        mtime: Time {
            seconds: 1_700_000_000,
            nanos: 0,
        },
        ..Entry::default()
    };
    assert_eq!(entries[1].0, plain);
}

#[test]
fn an_empty_record_gives_way_to_the_header() {
    let first: [(&str, &[u8]); 3] = [("path", b"x"), ("uid", b"7"), ("mtime", b"7")];
    let second: [(&str, &[u8]); 3] = [("path", b""), ("uid", b""), ("mtime", b"")];
    let entry = read_one(
        TarBuilder::new()
            .pax(&first)
            .pax(&second)
            .entry(b'0', b"name", b""),
    );
    assert_eq!((&entry.path[..], entry.uid), (&b"name"[..], 1000));
    assert_eq!(entry.mtime.seconds, 1_700_000_000);
}

#[test]
fn long_names_win_over_records_and_the_later_over_the_earlier() {
    let entry = read_one(
        TarBuilder::new()
            .entry(b'L', b"././@LongLink", b"gnu-old\0")
            .entry(b'L', b"././@LongLink", b"gnu\0rest")
            .entry(b'K', b"././@LongLink", b"gnu-to")
            .pax(&[("path", b"pax-old"), ("linkpath", b"pax-old")])
            .pax(&[("path", b"pax"), ("linkpath", b"pax-to")])
            .header(&link(b'2', b"short")),
    );
    assert_eq!(entry.path, b"gnu");
    assert_eq!(entry.kind, EntryKind::Symlink(b"gnu-to".to_vec()));
    let entry = read_one(
        TarBuilder::new()
            .pax(&[("path", b"old")])
            .entry(b'X', b"solaris", b"12 path=new\n12 comment=\n")
            .entry(b'0', b"short", b""),
    );
    assert_eq!(entry.path, b"new");
    // A long name of directories, of the type that old tars used for them.
    let tar = TarBuilder::new().pax(&[("path", b"dir/")]);
    assert_eq!(
        read_one(tar.entry(0, b"dir", b"")).kind,
        EntryKind::Directory
    );
}

/// The size in the header may be as wrong as the writer likes.
#[test]
fn the_size_of_a_record_governs_the_skip() {
    let mut entry = header(b'0', b"file", 3);
    let tar = |entry: &tar::Header| {
        TarBuilder::new()
            .pax(&[("size", b"700")])
            .header(entry)
            .data(&[b'x'; 700])
            .entry(b'0', b"next", b"y")
    };
    let entries = read(tar(&entry));
    assert_eq!((entries[0].1.len(), &entries[1].1[..]), (700, &b"y"[..]));
    entry.as_old_mut().size.fill(b'?');
    assert_eq!(read(tar(&entry)).len(), 2);
}

#[test]
fn global_headers_are_ignored_with_a_warning() {
    for (records, warnings) in [
        (
            &b"12 path=all\n"[..],
            &["a global header was ignored; it sets path"][..],
        ),
        (
            b"14 comment=ab\n13 uid=70000\n",
            &["a global header was ignored; it sets uid"],
        ),
        (b"14 comment=ab\n", &[]),
        (b"", &[]),
    ] {
        let tar = TarBuilder::new().entry(b'g', b"global", records);
        let layer = tar.entry(b'0', b"file", b"").end();
        let (entries, got) = read_all(&layer, 512).unwrap();
        assert_eq!(entries[0].0.path, b"file");
        assert_eq!(got, warnings);
    }
    // Damage is damage, even where nobody looks.
    let tar = TarBuilder::new().entry(b'g', b"global", b"13 path=all\n");
    assert_eq!(
        error(tar).to_string(),
        "a PAX record is malformed (at byte 0)"
    );
}

#[test]
fn numbers_out_of_range_are_refused() {
    for (entry, message) in [
        (
            TarBuilder::new().pax(&[("uid", b"4294967295")]),
            "the uid 4294967295 exceeds what",
        ),
        (
            TarBuilder::new().pax(&[("gid", b"4294967296")]),
            "the gid 4294967296 exceeds what",
        ),
        (
            TarBuilder::new().pax(&[("SCHILY.devmajor", b"4096")]),
            "the device 4096:0 has",
        ),
        (
            TarBuilder::new().pax(&[("SCHILY.devminor", b"1048576")]),
            "the device 0:1048576 has",
        ),
    ] {
        let error = error(entry.header(&device(b'4', 0, 0)));
        assert_eq!(error.kind(), ErrorKind::Entry);
        assert_eq!(error.path(), Some(&b"dev"[..]));
        assert!(error.to_string().contains(message), "{error}");
    }
    let mut entry = header(b'0', b"f", 0);
    entry.as_old_mut().uid = [0xff; 8];
    let message = error(TarBuilder::new().header(&entry)).to_string();
    assert_eq!(message, "f: the uid -1 exceeds what Linux has (at byte 0)");
    let too_large = TarBuilder::new().pax(&[("size", b"9223372036854775808")]);
    let message = error(too_large.entry(b'0', b"f", b"")).to_string();
    assert!(
        message.contains("9223372036854775808 is too large"),
        "{message}"
    );
}

/// Times are for the file system to clamp, with a warning.
#[test]
fn any_time_is_read() {
    let mut entry = header(b'0', b"f", 0);
    for (field, seconds) in [
        (*b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", -1),
        (
            *b"\x80\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff",
            i64::MAX,
        ),
        (*b"\xc0\0\0\0\0\0\0\0\0\0\0\0", i64::MIN),
        (*b"777777777777", (1 << 36) - 1),
    ] {
        entry.as_old_mut().mtime = field;
        let entry = read_one(TarBuilder::new().header(&entry));
        assert_eq!(entry.mtime, Time { seconds, nanos: 0 });
    }
}

#[test]
fn empty_names_and_targets_are_refused() {
    for (tar, message) in [
        (
            TarBuilder::new().entry(b'0', b"", b""),
            "the name is empty (at byte 0)",
        ),
        (
            TarBuilder::new().header(&link(b'2', b"")),
            "link: the target of the link is empty (at byte 0)",
        ),
        (
            TarBuilder::new().header(&link(b'1', b"")),
            "link: the target of the link is empty (at byte 0)",
        ),
    ] {
        assert_eq!(error(tar).to_string(), message);
    }
}

#[test]
fn extension_headers_have_a_limit() {
    let limit = 1 << 20;
    let of = |bytes: usize| {
        TarBuilder::new()
            .entry(b'L', b"l", &vec![b'n'; bytes])
            .entry(b'g', b"g", b"")
            .pax(&[("comment", &[])])
    };
    let record = "12 comment=\n".len();
    let fits = of(limit - record).entry(b'0', b"f", b"");
    // The sum starts again with every entry.
    let twice = TarBuilder([fits.0.clone(), fits.0].concat());
    assert_eq!(read(twice)[1].0.path.len(), limit - record);
    let error = error(of(limit - record + 1).entry(b'0', b"f", b""));
    assert_eq!(error.kind(), ErrorKind::Limit);
    assert!(
        error.to_string().contains("exceed 1048576 bytes"),
        "{error}"
    );
    let mut claim = header(b'x', b"x", 0);
    claim.set_size(1 << 40);
    assert!(read_all(&TarBuilder::new().header(&claim).0, 512).is_err());
}

#[test]
fn too_many_entries_are_refused() {
    let tar = TarBuilder::new()
        .entry(b'0', b"a", b"")
        .entry(b'0', b"b", b"");
    for (limit, fits) in [(2, true), (1, false)] {
        let mut entries = Entries::new(Chunks::of(&tar.clone().end(), 512), limit);
        let mut entry = Entry::default();
        assert!(entries.next(&mut entry).unwrap());
        match entries.next(&mut entry) {
            Ok(more) => assert!(more && fits),
            Err(error) => {
                assert!(!fits);
                assert_eq!(error.kind(), ErrorKind::Limit);
                assert_eq!(
                    error.to_string(),
                    "b: the layer has more than 1 entries (at byte 512)"
                );
            }
        }
    }
}

#[test]
fn too_many_global_headers_are_refused_where_they_are_entries() {
    let tar = TarBuilder::new().entry(b'g', b"a", b"");
    let layer = tar.entry(b'g', b"b", b"").end();
    let mut entries = Entries::new(Chunks::of(&layer, 512), 1).reading(Reading::Go);
    let mut entry = Entry::default();
    assert!(entries.next(&mut entry).unwrap());
    assert_eq!(
        entries.next(&mut entry).unwrap_err().kind(),
        ErrorKind::Limit
    );
}

/// Source: Go, archive/tar, `readGNUSparsePAXHeaders`.
#[test]
fn sparse_files_of_go() {
    const PASSED_OVER: &str = "the records of a sparse file are passed over";
    let read = |flag, path: &[u8], records: &[(&str, &str)], long: &[u8]| {
        let records: Vec<_> = records
            .iter()
            .map(|(key, value)| (format!("GNU.sparse.{key}"), value.as_bytes()))
            .collect();
        let records: Vec<_> = records.iter().map(|(k, v)| (&k[..], *v)).collect();
        let tar = match long {
            b"" => TarBuilder::new(),
            long => TarBuilder::new().entry(b'L', b"@", long),
        };
        let layer = tar.pax(&records).entry(flag, path, b"abcd").end();
        let (mut entries, _) = read_as(Reading::Go, &layer, 512)?;
        let (entry, contents, _) = entries.remove(0);
        let path = String::from_utf8(entry.path).unwrap();
        Ok::<_, Error>((path, entry.kind, contents.len(), entry.wrong))
    };
    let sized = [("size", "50"), ("numblocks", "1")];
    let map = ("map", "9,4");
    for (more, len) in [
        (&[map][..], 50),
        (&[("offset", "9"), ("numbytes", "4")], 50),
        (&[map, ("major", "0"), ("minor", "0")], 50),
        (&[map, ("major", "0"), ("minor", "1")], 50),
        (&[map, ("name", "real")], 50),
        (&[], 4),
        (&[("map", "")], 4),
        (&[map, ("major", "0")], 4),
        (&[map, ("minor", "1")], 4),
        (&[map, ("major", "00"), ("minor", "0")], 4),
        (&[map, ("major", "0"), ("minor", "2")], 4),
        (&[map, ("major", "1"), ("minor", "1"), ("name", "real")], 4),
        (&[map, ("major", "2"), ("minor", "0")], 4),
    ] {
        let records = [&sized[..], more].concat();
        for long in [&b""[..], b"long\0"] {
            let (path, kind, got, wrong) = read(b'0', b"f", &records, long).unwrap();
            assert_eq!(kind, EntryKind::File { size: len }, "{more:?}");
            assert_eq!(got as u64, len);
            let given = if long.is_empty() { "f" } else { "long" };
            let is_named = len == 50 && more.contains(&("name", "real"));
            assert_eq!(path, if is_named { "real" } else { given }, "{more:?}");
            let passed_over = len == 4;
            assert_eq!(wrong, [PASSED_OVER; 1][..passed_over.into()], "{more:?}");
        }
    }
    // A name is that of no directory, though it looks so.
    let records = [&sized[..], &[map, ("name", "real/")]].concat();
    let (path, kind, ..) = read(0, b"f", &records, b"").unwrap();
    assert_eq!((&path[..], kind), ("real/", EntryKind::File { size: 50 }));
    // An entry without contents cannot be sparse; other entries need no such check.
    let records = [&sized[..], &[map]].concat();
    for (flag, path) in [(b'5', b"d/"), (b'2', b"l "), (0, b"d/")] {
        let message = read(flag, path, &records, b"").unwrap_err().to_string();
        assert!(message.contains("has no contents"), "{message}");
        let layer = TarBuilder::new().pax(&[("GNU.sparse.size", b"5")]);
        let layer = layer.entry(flag, path, b"").end();
        let (entries, _) = read_as(Reading::Go, &layer, 512).unwrap();
        assert_eq!(entries[0].0.wrong, [""; 0]);
    }
    // Go wants to know how many there are.
    let message = read(b'0', b"f", &[("size", "50"), map], b"").unwrap_err();
    assert!(message.to_string().contains("is incomplete"), "{message}");
    // It names nothing in a global header.
    let layer = TarBuilder::new().entry(b'g', b"global", b"21 GNU.sparse.name=f\n");
    let (entries, _) = read_as(Reading::Go, &layer.end(), 512).unwrap();
    assert_eq!(entries[0].0.path, b"global");
}

#[test]
fn the_end_with_and_without_its_marker() {
    let tar = TarBuilder::new().entry(b'0', b"a", b"x");
    let zeros = |blocks: usize| [tar.0.clone(), vec![0; blocks * 512]].concat();
    let warning = "the archive ends without its marker of two zero blocks";
    let behind = |length: &str, start: u64, what: &str| {
        format!(
            "{length} behind the end-of-archive marker are not on the disk: they begin at byte \
            {start}{what}"
        )
    };
    for (layer, warnings) in [
        (zeros(0), &[warning][..]),
        (zeros(1), &[warning]),
        (zeros(2), &[]),
        (zeros(20), &[]),
        (
            [zeros(2), b"rubbish".to_vec()].concat(),
            &[&behind("7 bytes", 2048, "")],
        ),
        (
            [zeros(2), tar.0.clone()].concat(),
            &[&behind(
                "1024 bytes",
                2048,
                ", where another tar archive begins",
            )],
        ),
        (
            [zeros(3), vec![0xff; 3000]].concat(),
            &[&behind("3000 bytes", 2560, "")],
        ),
    ] {
        let (entries, got) = read_all(&layer, 100).unwrap();
        assert_eq!(entries.len(), 1);
        assert_eq!(got, warnings);
    }
    // Readers disagree on what this is.
    let lone = read_all(&[zeros(1), tar.0.clone()].concat(), 512).unwrap_err();
    assert_eq!(
        lone.to_string(),
        "a lone zero block stands between entries (at byte 1024)"
    );
}

#[test]
fn layers_without_entries() {
    for (layer, empty, warnings) in [
        (&[][..], true, 0),
        (&[0; 512], false, 1),
        (&[0; 1024], false, 0),
        (&[0; 10_240], false, 0),
    ] {
        let mut entries = Entries::new(Chunks::of(layer, 512), 9);
        assert!(!entries.is_empty(), "not known before the end is found");
        assert!(!entries.next(&mut Entry::default()).unwrap());
        assert_eq!(entries.is_empty(), empty);
        assert_eq!(entries.finish().unwrap().1.into_vec().len(), warnings);
    }
}

#[test]
fn garbage_is_refused_where_it_stands() {
    let garbage = [TarBuilder::new().entry(b'0', b"a", b"x").0, vec![b'x'; 512]].concat();
    let message = read_all(&garbage, 512).unwrap_err().to_string();
    assert_eq!(
        message,
        "the checksum of the tar header is wrong (at byte 1024)"
    );
    let tar = TarBuilder::new()
        .entry(b'0', b"a", b"")
        .pax(&[("path", b"x")]);
    let message = read_all(&tar.clone().end(), 512).unwrap_err().to_string();
    assert_eq!(
        message,
        "an extension header has no entry behind it (at byte 512)"
    );
    assert!(read_all(&tar.0, 512).is_err());
}

/// A layer cut anywhere is refused, but between two entries; and then it has a warning.
#[test]
fn truncation_is_noticed_everywhere() {
    let tar = TarBuilder::new()
        .entry(b'L', b"l", &[b'n'; 600])
        .pax(&[("mtime", b"1")])
        .entry(b'0', b"a", &[b'x'; 1000])
        .entry(b'5', b"d/", b"")
        .entry(b'D', b"d/", b"dump");
    let boundaries = [
        0,
        (1 + 2) * 512 + (1 + 1) * 512 + (1 + 2) * 512,
        9 * 512,
        11 * 512,
        12 * 512,
    ];
    let layer = tar.end();
    for cut in (0..layer.len()).filter(|cut| cut % 512 < 3 || cut % 61 == 0) {
        match read_all(&layer[..cut], 512) {
            Ok((_, warnings)) => {
                assert!(boundaries.contains(&cut), "cut at {cut}");
                assert_eq!(warnings.len(), usize::from(cut > 0));
            }
            Err(error) => {
                assert!(!boundaries.contains(&cut), "cut at {cut}: {error}");
                assert_eq!(error.kind(), ErrorKind::Corrupt);
                assert!(
                    error.to_string().contains("the layer ends inside"),
                    "{error}"
                );
            }
        }
    }
    let error = read_all(&layer[..3500], 512).unwrap_err();
    assert_eq!(error.path(), Some(&[b'n'; 600][..]));
    assert_eq!(error.offset(), Some(0));
}

#[test]
fn errors_of_the_source_are_passed_on_as_they_are() {
    struct Failing(Chunks);
    impl ChunkSource for Failing {
        fn next_chunk(&mut self) -> Result<Option<Chunk>> {
            match self.0.next_chunk()? {
                None => Err(Error::corrupt("damaged").at_offset(7)),
                some => Ok(some),
            }
        }
    }
    let layer = TarBuilder::new().entry(b'0', b"a", &[b'x'; 2000]).end();
    for cut in [0, 100, 600, 2560, layer.len()] {
        let source = Failing(Chunks::of(&layer[..cut], 512));
        let mut entries = Entries::new(source, 9);
        let result = (|| {
            while entries.next(&mut Entry::default())? {
                while entries.next_piece()?.is_some() {}
            }
            entries.finish().map(drop)
        })();
        assert_eq!(result.unwrap_err().to_string(), "damaged (at byte 7)");
    }
}

/// Contents that nobody wants are skipped.
#[test]
fn pieces_need_not_be_read() {
    let layer = TarBuilder::new()
        .entry(b'0', b"a", &sample(5000))
        .entry(b'0', b"b", &sample(3000))
        .entry(b'0', b"c", b"")
        .end();
    for taken in 0..4 {
        let mut entries = Entries::new(Chunks::of(&layer, 700), 9);
        let (mut entry, mut paths) = (Entry::default(), Vec::new());
        while entries.next(&mut entry).unwrap() {
            paths.extend_from_slice(&entry.path);
            for _ in 0..taken {
                entries.next_piece().unwrap();
            }
        }
        assert_eq!(paths, b"abc");
    }
}

/// File data is handed on in the buffer it came in.
#[test]
fn data_is_not_copied() {
    let layer = TarBuilder::new().entry(b'0', b"a", &sample(5000)).end();
    let mut source = Chunks::of(&layer, 1 << 16);
    let chunk = source.next_chunk().unwrap().unwrap();
    struct Once(Option<Chunk>);
    impl ChunkSource for Once {
        fn next_chunk(&mut self) -> Result<Option<Chunk>> {
            Ok(self.0.take())
        }
    }
    let mut entries = Entries::new(Once(Some(chunk.clone())), 9);
    assert!(entries.next(&mut Entry::default()).unwrap());
    let Some(Piece::Data(data)) = entries.next_piece().unwrap() else {
        panic!("no data");
    };
    assert_eq!(data.len(), 5000);
    assert!(std::ptr::eq(&raw const data[0], &raw const chunk[512]));
}

/// The entries of a layer do not depend on how it is cut into chunks.
#[test]
fn chunks_may_be_cut_anywhere() {
    let layer = TarBuilder::new()
        .pax(&[("path", b"dir/\xff"), ("SCHILY.xattr.user.a", b"\n\0")])
        .entry(b'0', b"a", &sample(1300))
        .entry(b'K', b"k", &[b'k'; 300])
        .header(&link(b'2', b"short"))
        .entry(b'V', b"label", b"")
        .entry(b'0', b"b", b"x")
        .end();
    let contents = |(entries, warnings): (Vec<ReadEntry>, Vec<String>)| {
        let entries: Vec<_> = entries.into_iter().map(|(e, c, _)| (e, c)).collect();
        (entries, warnings)
    };
    let whole = contents(read_all(&layer, layer.len()).unwrap());
    assert_eq!(whole.0.len(), 3);
    for size in (1..60).chain((60..1100).step_by(7)) {
        assert_eq!(
            contents(read_all(&layer, size).unwrap()),
            whole,
            "chunks of {size}"
        );
    }
}

proptest! {
    /// Any headers at all end the reading without a panic.
    #[test]
    fn hostile_headers_do_no_harm(
        flags in prop::collection::vec(prop::sample::select(&b"\x000123456789SLKxXgDVAM"[..]), 1..6),
        damage in prop::collection::vec((0..512_usize, any::<u8>()), 0..12),
        data: Vec<u8>,
    ) {
        let mut tar = TarBuilder::new();
        for flag in flags {
            let mut header = header(flag, b"name", data.len() as u64);
            for (at, byte) in &damage {
                header.as_mut_bytes()[*at] = *byte;
            }
            tar = tar.header(&header).data(&data);
        }
        // A size may be damaged to any hole; only small ones are written out.
        let mut entries = Entries::new(Chunks::of(&tar.end(), 512), 100);
        let mut entry = Entry::default();
        while let Ok(true) = entries.next(&mut entry) {
            prop_assert!(!entry.path.is_empty() && !entry.path.contains(&0));
            let mut length = 0;
            while let Ok(Some(piece)) = entries.next_piece() {
                length += match piece {
                    Piece::Data(data) => data.len() as u64,
                    Piece::Hole(length) => length,
                };
            }
            if let EntryKind::File { size } = entry.kind {
                prop_assert!(length <= size);
            }
        }
    }
}
