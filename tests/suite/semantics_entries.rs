//! SEMANTICS.md, "Entries": each test is a line of the table.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io;

use tar2vhd::{ErrorKind, LowerEntry, LowerLayers, LowerMetadata, WarningKind};

use crate::common::entry::{
    Entry, Kind, MTIME, Segment, block_device, char_device, dir, fifo, file, link, marker, sparse,
    symlink,
};
use crate::common::layer::{
    Image, image, layer, layer_with, options, refused, refused_tar, refused_with,
};
use crate::common::oracle;
use crate::common::tar::{Header, Long, Sparse, Tar};
use crate::common::tree::NodeKind;

/// Looks at a file through the kernel; nothing where that is not possible.
#[cfg(target_os = "linux")]
fn data_ranges(image: &Image, path: &str) -> Option<Vec<(u64, u64)>> {
    use crate::common::kernel;
    let mount = kernel::Mount::image(image.path())?;
    let file = std::fs::File::open(mount.path().join(path)).unwrap();
    Some(kernel::data_ranges(&file))
}

#[cfg(not(target_os = "linux"))]
fn data_ranges(_: &Image, _: &str) -> Option<Vec<(u64, u64)>> {
    None
}

// regular, contiguous (7) | file

#[test]
fn regular_contiguous_and_old_regular_are_files() {
    let tar = Tar::new()
        .header(&Header::new(b'0').name("ustar").size(3), "one")
        .header(&Header::new(b'7').name("contiguous").size(3), "two")
        .header(&Header::new(0).name("nul").size(5), "three")
        .header(&Header::new(0).v7().name("v7").size(4), "four")
        .header(&Header::new(b'0').gnu().name("gnu").size(4), "five");
    let image = image(&tar.finish(), &options());
    for (path, data) in [
        ("ustar", "one"),
        ("contiguous", "two"),
        ("nul", "three"),
        ("v7", "four"),
        ("gnu", "five"),
    ] {
        image.assert_file(path, data);
    }
    image.assert_no_warnings();
    assert_eq!(image.summary.entries.files, 5);
    assert_eq!(image.summary.entries.tar_entries, 5);
}

#[test]
fn old_regular_with_a_trailing_slash_is_a_directory() {
    let tar = Tar::new()
        .header(&Header::new(0).v7().name("d/").mode(0o750), "")
        .header(&Header::new(0).v7().name("d/f"), "");
    let image = image(&tar.finish(), &options());
    image.assert_dir("d");
    assert_eq!(image.at("d").mode, 0o750);
    image.assert_file("d/f", "");
}

#[test]
fn files_of_all_sizes_around_blocks_and_chunks_keep_their_bytes() {
    let sizes = [
        1, 511, 512, 513, 4095, 4096, 4097, 262_143, 262_144, 262_145, 1_000_000,
    ];
    let data = |size: usize| -> Vec<u8> { (0..size).map(|i| (i * 31 % 251 + 1) as u8).collect() };
    let entries: Vec<_> = sizes
        .iter()
        .map(|size| file(size.to_string(), data(*size)))
        .collect();
    let image = layer(&entries);
    for size in sizes {
        image.assert_file(&size.to_string(), data(size));
    }
}

// dir, symlink, hard link, char, block, fifo | themselves

#[test]
fn every_type_becomes_itself() {
    let image = layer(&[
        dir("d").mode(0o1777).owner(1, 2),
        symlink("s", "d/../x").owner(3, 4),
        file("f", "data").mode(0o4755).owner(5, 6),
        link("h", "f").mode(0o4755).owner(5, 6),
        char_device("c", 1, 3).mode(0o666),
        block_device("b", 259, 70_000).mode(0o660).owner(0, 6),
        fifo("p").mode(0o640),
    ]);
    image.assert_dir("d");
    image.assert_symlink("s", "d/../x");
    image.assert_file("f", "data");
    image.assert_file("h", "data");
    image.assert_linked("f", "h");
    let kind = |path| image.at(path).kind.clone();
    assert!(matches!(kind("c"), NodeKind::Char(None | Some((1, 3)))));
    assert!(matches!(
        kind("b"),
        NodeKind::Block(None | Some((259, 70_000)))
    ));
    assert_eq!(kind("p"), NodeKind::Fifo);
    for (path, mode, uid, gid) in [
        ("d", 0o1777, 1, 2),
        ("s", 0o777, 3, 4),
        ("f", 0o4755, 5, 6),
        ("c", 0o666, 0, 0),
        ("b", 0o660, 0, 6),
        ("p", 0o640, 0, 0),
    ] {
        let node = image.at(path);
        assert_eq!((node.mode, node.uid, node.gid), (mode, uid, gid), "{path}");
        assert_eq!(node.mtime, MTIME, "{path}");
    }
    image.assert_no_warnings();
    let counts = image.summary.entries;
    assert_eq!(
        (counts.files, counts.directories, counts.symlinks),
        (1, 2, 1)
    );
    assert_eq!((counts.hard_links, counts.devices, counts.fifos), (1, 2, 1));
}

#[test]
fn a_size_on_types_1_to_6_is_ignored_and_no_data_follows() {
    let mut tar = Tar::new().header(&Header::new(b'0').name("f").size(1), "x");
    for typeflag in b'1'..=b'6' {
        let name = format!("t{}", typeflag as char);
        let header = Header::new(typeflag).name(name).linkname("f").size(1024);
        tar = tar.header(&header.device(1, 1), "");
    }
    let image = image(&tar.finish(), &options());
    assert_eq!(image.names(), ["f", "t1", "t2", "t3", "t4", "t5", "t6"]);
    image.assert_linked("t1", "f");
    image.assert_dir("t5");
}

#[test]
fn device_numbers_over_12_bits_major_or_20_minor_are_refused() {
    let image = layer(&[
        char_device("c", 4095, 1_048_575),
        block_device("b", 255, 256),
        block_device("o", 255, 255),
    ]);
    let kind = |path| image.at(path).kind.clone();
    assert!(matches!(
        kind("c"),
        NodeKind::Char(None | Some((4095, 1_048_575)))
    ));
    assert!(matches!(
        kind("b"),
        NodeKind::Block(None | Some((255, 256)))
    ));
    assert!(matches!(
        kind("o"),
        NodeKind::Block(None | Some((255, 255)))
    ));
    refused(ErrorKind::Entry, &[char_device("c", 4096, 0)]);
    refused(ErrorKind::Entry, &[block_device("b", 0, 1_048_576)]);
}

// character device 0:0 from the tar | kept, with a warning

#[test]
fn a_character_device_0_0_is_kept_with_a_warning() {
    let image = layer(&[
        char_device("d/c", 0, 0).mode(0o600),
        block_device("b", 0, 0),
    ]);
    assert!(matches!(
        image.at("d/c").kind,
        NodeKind::Char(None | Some((0, 0)))
    ));
    assert_eq!(image.at("d/c").mode, 0o600);
    let warnings = image.warnings();
    assert!(warnings.contains(&(WarningKind::DeviceZero, "d/c".to_owned())));
    assert_eq!(
        warnings
            .iter()
            .filter(|w| w.0 == WarningKind::DeviceZero)
            .count(),
        1
    );
}

// GNU sparse (old S, PAX 0.0, 0.1, 1.0) | file with real holes

const SPARSE: [Sparse; 4] = [Sparse::Gnu, Sparse::Pax00, Sparse::Pax01, Sparse::Pax10];

fn sparse_cases() -> Vec<Entry> {
    let data = |n: usize| Segment::Data((0..n).map(|i| (i % 250 + 1) as u8).collect());
    let hole = Segment::Hole;
    // More than the 4 pairs of a header and the 21 of an extension block.
    let mut many = Vec::new();
    for i in 0..60 {
        many.push(hole(8192 + i % 3 * 512));
        many.push(data(512));
    }
    vec![
        sparse("end", vec![data(4096), hole(1 << 20)]),
        sparse("start", vec![hole(1 << 20), data(4096)]),
        sparse("all", vec![hole(1 << 20)]),
        sparse(
            "odd",
            vec![hole(5000), data(17), hole(9001), data(4097), hole(3)],
        ),
        sparse("many", many),
        file("after", "after"),
    ]
}

#[test]
fn gnu_sparse_of_each_form_is_a_file_with_real_holes() {
    let plain = layer(&sparse_cases());
    plain.assert_no_warnings();
    for form in SPARSE {
        let mut tar = Tar::new().sparse(form);
        for entry in sparse_cases() {
            tar = tar.add(&entry);
        }
        let image = image(&tar.finish(), &options());
        let differences = image.tree().differences(plain.tree());
        assert!(differences.is_empty(), "{form:?}: {differences}");
        image.assert_no_warnings();
        for (path, wanted) in [
            ("end", vec![(0, 4096)]),
            ("start", vec![(1 << 20, (1 << 20) + 4096)]),
            ("all", vec![]),
            ("odd", vec![(4096, 8192), (12_288, 18_118)]),
        ] {
            if let Some(ranges) = data_ranges(&image, path) {
                // The last block is read to its end or to the file's, as kernels differ.
                let up = |(start, end): (u64, u64)| (start, end.next_multiple_of(4096));
                let ranges: Vec<_> = ranges.into_iter().map(up).collect();
                let wanted: Vec<_> = wanted.into_iter().map(up).collect();
                assert_eq!(ranges, wanted, "{form:?} {path}");
            }
        }
    }
}

#[test]
fn gnu_sparse_long_names_are_the_real_ones() {
    let name = "n".repeat(180);
    for form in SPARSE {
        for long in [Long::Pax, Long::Gnu] {
            let entry = sparse(&name, vec![Segment::Hole(8192), Segment::Data(vec![1; 10])]);
            let tar = Tar::new().sparse(form).long(long).add(&entry);
            let image = image(&tar.finish(), &options());
            assert_eq!(image.names(), [name.as_str()], "{form:?} {long:?}");
        }
    }
}

#[test]
fn gnu_sparse_maps_that_contradict_the_data_are_refused() {
    let pax10 = |map: &str, size: u64| {
        let mut data = map.as_bytes().to_vec();
        data.resize(512, 0);
        data.extend_from_slice(&[7; 512]);
        let size = size.to_string();
        Tar::new()
            .pax(&[
                (b"GNU.sparse.major", b"1"),
                (b"GNU.sparse.minor", b"0"),
                (b"GNU.sparse.name", b"f"),
                (b"GNU.sparse.realsize", size.as_bytes()),
            ])
            .header(&Header::new(b'0').name("x").size(1024), data)
            .finish()
    };
    image(&pax10("1\n4096\n512\n", 8192), &options());
    for (map, size) in [
        ("1\n4096\n513\n", 8192),                 // more data than there is
        ("1\n4096\n100\n", 8192),                 // less
        ("2\n4096\n256\n4000\n256\n", 8192),      // overlapping or out of order
        ("1\n8000\n512\n", 8192),                 // past the end
        ("1\n18446744073709551615\n512\n", 8192), // overflowing
        ("99999999999\n", 8192),                  // more pairs than any header holds
        ("1\n-4096\n512\n", 8192),
        ("x", 8192),
    ] {
        refused_tar(ErrorKind::Corrupt, &pax10(map, size), &options());
    }
}

// GNU L/K, PAX x, Solaris X | applied to the next entry

#[test]
fn long_names_and_targets_apply_to_the_next_entry_alone() {
    let name = format!("{}/{}", "d".repeat(200), "f".repeat(255));
    let target = "/t".repeat(150);
    for long in [Long::Gnu, Long::Pax, Long::Solaris] {
        let tar = Tar::new()
            .long(long)
            .add(&dir("d".repeat(200)))
            .add(&symlink(&name, &target))
            .add(&file("plain", "x"));
        let image = image(&tar.finish(), &options());
        image.assert_symlink(&name, &target);
        image.assert_file("plain", "x");
        assert_eq!(image.names().len(), 3, "{long:?}");
        image.assert_no_warnings();
    }
}

#[test]
fn pax_records_override_the_header() {
    let tar = Tar::new()
        .pax(&[
            (b"path", b"real"),
            (b"uid", b"70000"),
            (b"gid", b"80000"),
            (b"mtime", b"12.5"),
            (b"uname", b"nobody"),
            (b"comment", b"no matter"),
        ])
        .header(&Header::new(b'0').name("header"), "")
        .add(&file("next", ""));
    let image = image(&tar.finish(), &options());
    assert_eq!(image.names(), ["next", "real"]);
    let real = image.at("real");
    assert_eq!(
        (real.uid, real.gid, real.mtime),
        (70_000, 80_000, (12, 500_000_000))
    );
    assert_eq!((image.at("next").uid, image.at("next").mtime), (0, MTIME));
}

#[test]
fn pax_size_governs_the_skip() {
    let tar = Tar::new()
        .pax(&[(b"size", b"5")])
        .header(&Header::new(b'0').name("f").size(0), "hello")
        .add(&file("next", "x"));
    let image = image(&tar.finish(), &options());
    image.assert_file("f", "hello");
    image.assert_file("next", "x");
}

#[test]
fn gnu_l_wins_over_pax_path() {
    for gnu_first in [true, false] {
        let gnu = |tar: Tar| tar.extension(b'L', b"gnu\0");
        let pax = |tar: Tar| tar.pax(&[(b"path", b"pax")]);
        let tar = if gnu_first {
            pax(gnu(Tar::new()))
        } else {
            gnu(pax(Tar::new()))
        };
        let tar = tar.header(&Header::new(b'0').name("header"), "");
        assert_eq!(image(&tar.finish(), &options()).names(), ["gnu"]);
    }
}

#[test]
fn ustar_prefix_is_part_of_the_name() {
    let tar = Tar::new()
        .header(&Header::new(b'5').name("dir/"), "")
        .header(&Header::new(b'0').name("f").field(345, "dir"), "");
    assert_eq!(image(&tar.finish(), &options()).names(), ["dir", "dir/f"]);
}

// PAX g | ignored, with a warning unless it holds only comments

#[test]
fn pax_globals_are_ignored_with_a_warning() {
    let tar = Tar::new()
        .pax_global(&[(b"path", b"everything"), (b"uid", b"7"), (b"mtime", b"1")])
        .add(&file("a", ""))
        .add(&file("b", ""));
    let image = image(&tar.finish(), &options());
    assert_eq!(image.names(), ["a", "b"]);
    assert_eq!((image.at("a").uid, image.at("b").mtime), (0, MTIME));
    let kinds: Vec<_> = image.warnings().into_iter().map(|w| w.0).collect();
    assert_eq!(kinds, [WarningKind::GlobalHeader]);
}

#[test]
fn pax_globals_of_comments_alone_need_no_warning() {
    let tar = Tar::new()
        .pax_global(&[(b"comment", b"0123456789abcdef0123456789abcdef01234567")])
        .add(&file("a", ""));
    image(&tar.finish(), &options()).assert_no_warnings();
}

// GNU D (dumpdir) | directory; V, A: skipped with a warning; M and unknown letters: error

#[test]
fn gnu_dumpdir_is_a_directory() {
    let tar = Tar::new()
        .header(&Header::new(b'D').gnu().name("d/").size(6), b"Yfile\0")
        .header(&Header::new(b'0').gnu().name("d/file").size(1), "x");
    let image = image(&tar.finish(), &options());
    image.assert_dir("d");
    assert_eq!(image.names(), ["d", "d/file"]);
}

#[test]
fn volume_labels_and_solaris_acls_are_skipped_with_a_warning() {
    let tar = Tar::new()
        .header(&Header::new(b'V').gnu().name("label"), "")
        .header(&Header::new(b'A').name("acl").size(9), "user::rwx")
        .add(&file("f", "x"));
    let image = image(&tar.finish(), &options());
    assert_eq!(image.names(), ["f"]);
    let kinds: Vec<_> = image.warnings().into_iter().map(|w| w.0).collect();
    assert_eq!(kinds, [WarningKind::Skipped; 2]);
}

#[test]
fn multi_volume_and_unknown_letters_are_refused() {
    for typeflag in [b'M', b'N', b'8', b'9', b'Z', b'?', 0xff] {
        let tar = Tar::new()
            .add(&file("f", "x"))
            .header(&Header::new(typeflag).gnu().name("odd"), "");
        let error = refused_tar(ErrorKind::Unsupported, &tar.finish(), &options());
        assert_eq!(error.path(), Some(&b"odd"[..]));
        assert_eq!(error.offset(), Some(1024));
    }
}

// file data whose blocks are all zero | hole (--keep-zeros writes them)

#[test]
fn zero_blocks_are_holes_unless_kept() {
    let mut data = vec![0; 1 << 20];
    data[300_000] = 1;
    let entries = [file("f", &data), file("zeros", vec![0; 600_000])];
    let holes = layer(&entries);
    holes.assert_file("f", &data);
    holes.assert_file("zeros", vec![0; 600_000]);
    let kept = layer_with(&entries, &options().keep_zeros(true));
    kept.assert_file("f", &data);
    assert!(kept.summary.disk.size > holes.summary.disk.size + 1_600_000 - 16_384);
    if let Some(ranges) = data_ranges(&holes, "f") {
        assert_eq!(ranges, [(299_008, 303_104)]);
        assert_eq!(data_ranges(&holes, "zeros"), Some(vec![]));
        assert_eq!(data_ranges(&kept, "f"), Some(vec![(0, 1 << 20)]));
        assert_eq!(data_ranges(&kept, "zeros"), Some(vec![(0, 600_000)]));
    }
}

// ./ | the root's metadata; absent: 0755, 0:0, time 0

#[test]
fn dot_slash_is_the_roots_metadata() {
    for name in ["./", ".", "/", "a/.."] {
        let root = dir(name)
            .mode(0o2711)
            .owner(7, 8)
            .mtime(99, 5)
            .xattr("user.r", "v");
        let image = layer(&[root, file("./f", "")]);
        let root = image.at("");
        assert_eq!(
            (root.mode, root.uid, root.gid, root.mtime),
            (0o2711, 7, 8, (99, 5)),
            "{name}"
        );
        image.assert_xattrs("", &[("user.r", "v")]);
        assert_eq!(image.names(), ["f"]);
        image.assert_no_warnings();
    }
}

#[test]
fn the_root_without_an_entry_is_0755_0_0_time_0() {
    let image = layer(&[file("f", "").owner(5, 5)]);
    let root = image.at("");
    assert_eq!((root.mode, root.uid, root.gid), (0o755, 0, 0));
    assert_eq!((root.mtime, root.atime), ((0, 0), (0, 0)));
}

#[test]
fn the_root_can_be_nothing_but_a_directory() {
    for kind in [
        Kind::File(vec![]),
        Kind::Symlink(b"x".to_vec()),
        Kind::Fifo,
        Kind::Link(b"f".to_vec()),
    ] {
        refused(
            ErrorKind::Entry,
            &[file("f", ""), Entry::new("./", kind, 0o644)],
        );
    }
}

// missing parents, of whiteouts too

#[test]
fn missing_parents_are_0755_0_0_with_the_entrys_mtime_and_a_warning() {
    let image = layer(&[
        file("a/b/f", "").owner(5, 5).mode(0o600).mtime(77, 8),
        marker("w/.wh.x").mtime(78, 0),
        marker("o/.wh..wh..opq").mtime(79, 0),
    ]);
    for (path, mtime) in [
        ("a", (77, 8)),
        ("a/b", (77, 8)),
        ("w", (78, 0)),
        ("o", (79, 0)),
    ] {
        let node = image.at(path);
        assert_eq!(node.kind, NodeKind::Dir);
        assert_eq!(
            (node.mode, node.uid, node.gid, node.mtime),
            (0o755, 0, 0, mtime),
            "{path}"
        );
        assert_eq!(node.atime, mtime, "{path}");
    }
    let kinds: Vec<_> = image.warnings().into_iter().map(|w| w.0).collect();
    assert!(
        kinds.len() >= 3 && kinds.iter().all(|k| *k == WarningKind::MissingParent),
        "{kinds:?}"
    );
}

#[test]
fn a_later_entry_sets_a_missing_parents_metadata() {
    let image = layer(&[
        file("a/f", ""),
        dir("a")
            .mode(0o700)
            .owner(3, 4)
            .mtime(5, 6)
            .xattr("user.a", "v"),
    ]);
    let node = image.at("a");
    assert_eq!(
        (node.mode, node.uid, node.gid, node.mtime),
        (0o700, 3, 4, (5, 6))
    );
    image.assert_xattrs("a", &[("user.a", "v")]);
    assert_eq!(image.names(), ["a", "a/f"]);
}

/// Lower layers as a map.
struct Lower(BTreeMap<Vec<u8>, LowerEntry>);

impl Lower {
    fn new(entries: &[(&str, LowerEntry)]) -> Self {
        let entry = |(path, entry): &(&str, LowerEntry)| (path.as_bytes().to_vec(), entry.clone());
        Self(entries.iter().map(entry).collect())
    }
}

impl LowerLayers for Lower {
    fn lookup(&self, path: &[u8]) -> io::Result<Option<LowerEntry>> {
        let odd = path.is_empty()
            || path
                .split(|b| *b == b'/')
                .any(|c| matches!(c, b"" | b"." | b".."));
        if odd {
            return Err(io::Error::other(format!(
                "asked for {:?}",
                path.escape_ascii()
            )));
        }
        Ok(self.0.get(path).cloned())
    }
}

fn lower_dir(mode: u16) -> LowerEntry {
    LowerEntry::Directory(LowerMetadata {
        mode,
        uid: 11,
        gid: 12,
        mtime: (13, 14),
        xattrs: vec![(b"security.selinux".to_vec(), b"label".to_vec())],
    })
}

#[test]
fn missing_parents_are_what_a_lookup_says() {
    let lower = Lower::new(&[
        ("tmp", lower_dir(0o1777)),
        ("var", lower_dir(0o755)),
        ("var/lib", lower_dir(0o711)),
    ]);
    let image = layer_with(
        &[
            file("tmp/f", ""),
            marker("var/lib/.wh.x"),
            file("new/f", "").mtime(44, 0),
            dir("var").mode(0o700),
        ],
        &options().lower_layers(lower),
    );
    let tmp = image.at("tmp");
    assert_eq!(
        (tmp.mode, tmp.uid, tmp.gid, tmp.mtime),
        (0o1777, 11, 12, (13, 14))
    );
    image.assert_xattrs("tmp", &[("security.selinux", "label")]);
    assert_eq!(image.at("var/lib").mode, 0o711);
    assert_eq!(
        (image.at("var").mode, image.at("var").mtime),
        (0o700, MTIME)
    );
    // Its own entry came, if late: nothing is left of the lower one.
    image.assert_xattrs("var", &[]);
    assert_eq!(
        (image.at("new").mode, image.at("new").mtime),
        (0o755, (44, 0))
    );
    let kinds: Vec<_> = image.warnings().into_iter().map(|w| w.0).collect();
    assert_eq!(
        kinds,
        [WarningKind::MissingParent],
        "{:?}",
        image.warnings()
    );
}

#[test]
fn a_lookup_that_fails_ends_the_conversion() {
    struct Broken;
    impl LowerLayers for Broken {
        fn lookup(&self, _: &[u8]) -> io::Result<Option<LowerEntry>> {
            Err(io::Error::other("no such snapshot"))
        }
    }
    let tar = Tar::of(&[file("a/f", "")]);
    let error = refused_tar(ErrorKind::Input, &tar, &options().lower_layers(Broken));
    assert!(error.to_string().contains("no such snapshot"), "{error}");
}

// //, absolute, trailing slash | normalised; .. is clamped at the root

#[test]
fn odd_paths_are_normalised_and_dotdot_is_clamped_at_the_root() {
    let image = layer(&[
        dir("/d//"),
        file("//d///a", "a"),
        file("./d/./b", "b"),
        file("d/x/../c", "c"),
        file("../../d/e", "e"),
        file("d/../../f", "f"),
        file("g/", "g"),
        link("h", "/../d//a"),
    ]);
    assert_eq!(
        image.names(),
        ["d", "d/a", "d/b", "d/c", "d/e", "f", "g", "h"]
    );
    image.assert_linked("h", "d/a");
}

// path component over 255 bytes; empty name | error

#[test]
fn components_over_255_bytes_and_empty_names_are_refused() {
    let name = "n".repeat(255);
    let image = layer(&[file(&name, "x"), file(format!("d/{name}/{name}"), "y")]);
    image.assert_file(&name, "x");
    image.assert_file(&format!("d/{name}/{name}"), "y");
    let long = "n".repeat(256);
    refused(ErrorKind::Entry, &[file(&long, "")]);
    refused(ErrorKind::Entry, &[file(format!("d/{long}/f"), "")]);
    let tar = Tar::new().header(&Header::new(b'0').name(""), "");
    let error = refused_tar(ErrorKind::Entry, &tar.finish(), &options());
    assert_eq!(error.offset(), Some(0));
    let tar = Tar::new()
        .pax(&[(b"path", b"")])
        .header(&Header::new(b'0').name(""), "");
    refused_tar(ErrorKind::Entry, &tar.finish(), &options());
}

// any length and depth (within 1 MiB), any non-NUL bytes in names

#[test]
fn any_bytes_but_nul_and_slash_are_a_name() {
    let every: Vec<u8> = (1..=255).filter(|b| *b != b'/').collect();
    let mut entries = vec![file(&every, "all"), symlink("link", &every)];
    entries.extend(
        (1..=255)
            .filter(|b| !b"/.".contains(b))
            .map(|b| file([b], [b])),
    );
    let image = layer(&entries);
    assert_eq!(image.names().len(), 255);
    assert_eq!(image.tree().0[&every].kind, image.at(&every).kind);
    image.assert_symlink("link", &every);
}

#[test]
fn deep_paths_take_time_linear_in_the_input_and_no_recursion() {
    // 4,000 levels in one name, then a thousand names beside each other at that depth.
    let deep = "d/".repeat(4000);
    let mut entries = vec![file(format!("{deep}f"), "x")];
    entries.extend((0..1000).map(|i| file(format!("{deep}{i}"), "")));
    let tar = Tar::of(&entries);
    let start = std::time::Instant::now();
    let image = image(&tar, &options());
    assert!(start.elapsed().as_secs() < 20, "{:?}", start.elapsed());
    assert_eq!(image.summary.entries.directories, 4001);
    assert_eq!(image.summary.entries.files, 1001);
    #[cfg(target_os = "linux")]
    if let Some(mount) = crate::common::kernel::Mount::image(image.path()) {
        use rustix::fs::{AtFlags, Mode, OFlags, openat, statat};
        let mut dir = std::fs::File::open(mount.path()).unwrap();
        for _ in 0..4000 {
            let flags = OFlags::DIRECTORY | OFlags::RDONLY;
            dir = openat(&dir, "d", flags, Mode::empty()).unwrap().into();
        }
        for name in ["f", "0", "999"] {
            statat(&dir, name, AtFlags::SYMLINK_NOFOLLOW).unwrap();
        }
    }
}

// parent is a symlink made in this layer | resolved inside the image root, as in a chroot

#[test]
fn a_parent_symlink_is_resolved_inside_the_root() {
    let image = layer(&[
        dir("usr/lib"),
        dir("usr/share"),
        symlink("lib", "usr/lib"),
        symlink("abs", "/usr/lib"),
        symlink("usr/rel", "../usr/share"),
        symlink("out", "../../../usr"),
        symlink("chain", "out/rel"),
        file("lib/a", "a"),
        file("abs/b", "b"),
        file("usr/rel/c", "c"),
        file("out/d", "d"),
        file("chain/e", "e"),
        dir("lib/sub"),
        link("lib/hard", "abs/b"),
    ]);
    image.assert_symlink("lib", "usr/lib");
    for path in [
        "usr/lib/a",
        "usr/lib/b",
        "usr/share/c",
        "usr/d",
        "usr/share/e",
    ] {
        image.assert_file(path, &path[path.len() - 1..]);
    }
    image.assert_dir("usr/lib/sub");
    image.assert_linked("usr/lib/hard", "usr/lib/b");
    image.assert_warnings(&[(WarningKind::MissingParent, "usr")]);
}

#[test]
fn a_dangling_parent_symlink_has_its_target_created_as_directories() {
    let image = layer(&[symlink("s", "x/y"), file("s/f", "f").mtime(33, 0)]);
    image.assert_symlink("s", "x/y");
    image.assert_file("x/y/f", "f");
    assert_eq!(
        (image.at("x/y").mode, image.at("x/y").mtime),
        (0o755, (33, 0))
    );
    assert!(
        image
            .warnings()
            .iter()
            .all(|w| w.0 == WarningKind::MissingParent)
    );
    assert!(!image.warnings().is_empty());
}

#[test]
fn over_255_hops_are_refused() {
    let chain = |links: usize| -> Vec<Entry> {
        let mut entries = vec![dir("s0")];
        entries.extend((1..=links).map(|i| symlink(format!("s{i}"), format!("s{}", i - 1))));
        entries.push(file(format!("s{links}/f"), "end"));
        entries
    };
    layer(&chain(255)).assert_file("s0/f", "end");
    refused(ErrorKind::Entry, &chain(256));
    refused(ErrorKind::Entry, &[symlink("s", "s"), file("s/f", "")]);
    refused(
        ErrorKind::Entry,
        &[symlink("a", "b/x"), symlink("b", "a/x"), file("a/f", "")],
    );
}

#[test]
fn a_lookup_may_tell_of_links_in_lower_layers() {
    let lower = Lower::new(&[
        ("lib", LowerEntry::Symlink(b"usr/lib".to_vec())),
        ("usr", lower_dir(0o755)),
        ("usr/lib", lower_dir(0o711)),
        ("file", LowerEntry::Other),
    ]);
    let options = options().lower_layers(lower);
    let image = layer_with(&[file("lib/a", "a")], &options);
    assert_eq!(image.names(), ["usr", "usr/lib", "usr/lib/a"]);
    assert_eq!(image.at("usr/lib").mode, 0o711);
    image.assert_no_warnings();
    refused_with(ErrorKind::Entry, &[file("file/a", "")], &options);
}

// parent is some other non-directory | error

#[test]
fn a_parent_that_is_no_directory_is_refused() {
    for parent in [
        file("p", ""),
        fifo("p"),
        char_device("p", 1, 3),
        block_device("p", 8, 0),
    ] {
        refused(ErrorKind::Entry, &[parent.clone(), file("p/f", "")]);
        refused(ErrorKind::Entry, &[parent, file("p/q/f", "")]);
    }
    refused(
        ErrorKind::Entry,
        &[file("f", ""), link("p", "f"), dir("p/d")],
    );
    refused(
        ErrorKind::Entry,
        &[file("f", ""), symlink("s", "f"), file("s/x", "")],
    );
}

// symlink target empty or over 4095 bytes | error; mode is 0777 always

#[test]
fn symlink_targets_take_1_to_4095_bytes_and_mode_0777() {
    // ext4-view takes components over 255 bytes for damage.
    let target = |len: usize| "t/".repeat(len.div_ceil(2))[..len].to_owned();
    let lengths = [1, 59, 60, 61, 100, 101, 255, 256, 4094, 4095];
    let entries: Vec<_> = lengths
        .iter()
        .map(|n| symlink(n.to_string(), target(*n)).mode(0o640))
        .collect();
    let image = layer(&entries);
    for n in lengths {
        image.assert_symlink(&n.to_string(), target(n));
        assert_eq!(image.at(n.to_string()).mode, 0o777);
    }
    refused(ErrorKind::Entry, &[symlink("s", "")]);
    refused(ErrorKind::Entry, &[symlink("s", "t".repeat(4096))]);
}

// same path again | the last one wins

#[test]
fn file_over_file_the_last_wins() {
    let image = layer(&[
        file("f", "first").xattr("user.old", "x"),
        file("f", "second!").mode(0o600).owner(1, 2).mtime(9, 9),
    ]);
    image.assert_file("f", "second!");
    let node = image.at("f");
    assert_eq!((node.mode, node.uid, node.mtime), (0o600, 1, (9, 9)));
    image.assert_xattrs("f", &[]);
    assert_eq!(image.summary.entries.files, 1);
    image.assert_no_warnings();
}

#[test]
fn any_non_directory_over_any_other_the_last_wins() {
    let kinds = [
        file("p", "data"),
        symlink("p", "target"),
        fifo("p"),
        char_device("p", 1, 3),
        block_device("p", 8, 1),
    ];
    for first in &kinds {
        for last in &kinds {
            let image = layer(&[first.clone(), last.clone()]);
            let alone = layer(std::slice::from_ref(last));
            let differences = image.tree().differences(alone.tree());
            assert!(differences.is_empty(), "{:?} {differences}", first.kind);
        }
    }
}

#[test]
fn file_over_directory_the_tree_goes_with_a_warning() {
    for last in [
        file("d", "now a file"),
        symlink("d", "elsewhere"),
        fifo("d"),
    ] {
        let image = layer(&[
            dir("d"),
            dir("d/sub"),
            file("d/sub/f", "x".repeat(10_000)),
            link("kept", "d/sub/f"),
            last,
        ]);
        assert_eq!(image.names(), ["d", "kept"]);
        image.assert_file("kept", "x".repeat(10_000));
        image.assert_warnings(&[(WarningKind::ReplacedTree, "d")]);
        assert_eq!(image.summary.entries.directories, 1);
        assert_eq!(image.summary.entries.hard_links, 0);
    }
}

#[test]
fn directory_over_file_replaces_it() {
    for first in [
        file("d", "data"),
        symlink("d", "x"),
        fifo("d"),
        char_device("d", 1, 3),
    ] {
        let image = layer(&[first, dir("d").mode(0o711), file("d/f", "x")]);
        assert_eq!(image.names(), ["d", "d/f"]);
        assert_eq!(image.at("d").mode, 0o711);
    }
}

#[test]
fn directory_over_directory_keeps_children_takes_metadata_and_unites_xattrs() {
    let image = layer(&[
        dir("d")
            .xattr("user.a", "1")
            .xattr("user.b", "1")
            .atime(4, 4),
        file("d/f", "x"),
        dir("d/")
            .mode(0o500)
            .owner(8, 9)
            .mtime(10, 11)
            .xattr("user.b", "2")
            .xattr("user.c", "3"),
    ]);
    let node = image.at("d");
    assert_eq!((node.mode, node.uid, node.gid), (0o500, 8, 9));
    assert_eq!((node.mtime, node.atime), ((10, 11), (10, 11)));
    image.assert_xattrs("d", &[("user.a", "1"), ("user.b", "2"), ("user.c", "3")]);
    image.assert_file("d/f", "x");
    image.assert_no_warnings();
}

#[test]
fn freed_blocks_and_inodes_are_free_and_zero_and_not_reused() {
    let data = vec![7; 40_960];
    let image = layer(&[
        file("f", &data).xattr("user.big", "v".repeat(2000)),
        file("g", "g"),
        file("f", "now small"),
    ]);
    // f was the first file of all.
    let Some(output) = oracle::debugfs(image.path(), "testi <11>") else {
        return;
    };
    assert!(output.contains("not in use"), "{output}");
    let stat = oracle::debugfs(image.path(), "stat <11>").unwrap();
    for zero in ["Mode:  0000", "Size: 0", "Links: 0", "Blockcount: 0"] {
        assert!(stat.contains(zero), "{stat}");
    }
    let stats = oracle::debugfs(image.path(), "stats -h").unwrap();
    let free = stats
        .lines()
        .find(|l| l.starts_with("Free blocks:"))
        .unwrap();
    let free: u64 = free.split_whitespace().last().unwrap().parse().unwrap();
    assert!(
        free >= 11,
        "ten blocks of data and one of attributes: {free}"
    );
}

// hard link

#[test]
fn a_hard_link_binds_to_what_stands_there_now() {
    let image = layer(&[
        file("f", "old"),
        link("l", "f"),
        file("f", "new"),
        link("m", "f"),
    ]);
    image.assert_file("l", "old");
    image.assert_file("m", "new");
    image.assert_file("f", "new");
    image.assert_linked("f", "m");
    image.assert_separate("f", "l");
}

#[test]
fn a_hard_link_binds_when_its_target_appears() {
    let image = layer(&[
        link("l", "d/f"),
        link("chain", "l"),
        dir("d"),
        file("d/f", "late"),
        file("d/f", "later"),
    ]);
    image.assert_file("l", "late");
    image.assert_linked("l", "chain");
    image.assert_file("d/f", "later");
    image.assert_separate("l", "d/f");
    image.assert_no_warnings();
}

#[test]
fn hard_links_may_lead_to_any_non_directory() {
    let image = layer(&[
        symlink("s", "t"),
        char_device("c", 1, 3),
        fifo("p"),
        link("ls", "s").mode(0o644),
        link("lc", "c"),
        link("lp", "p"),
        file("f", ""),
        symlink("to-f", "f"),
        link("not-followed", "to-f"),
    ]);
    image.assert_symlink("ls", "t");
    image.assert_symlink("not-followed", "f");
    assert_eq!(image.at("s").mode, 0o777);
    for (a, b) in [
        ("s", "ls"),
        ("c", "lc"),
        ("p", "lp"),
        ("to-f", "not-followed"),
    ] {
        assert_eq!(image.at(a).kind, image.at(b).kind);
        image.assert_linked(a, b);
    }
}

#[test]
fn a_hard_links_last_header_sets_mode_owner_and_times() {
    let image = layer(&[
        file("f", "x").mode(0o600).owner(1, 1).mtime(1, 1),
        link("l", "f")
            .mode(0o755)
            .owner(2, 3)
            .mtime(2, 2)
            .atime(3, 3),
        // Here the file's own header is the later one.
        link("early", "g").mode(0o755).owner(2, 3).mtime(2, 2),
        file("g", "x").mode(0o640).owner(4, 5).mtime(4, 4),
    ]);
    let node = image.at("f");
    assert_eq!((node.mode, node.uid, node.gid), (0o755, 2, 3));
    assert_eq!((node.mtime, node.atime), ((2, 2), (3, 3)));
    let node = image.at("early");
    assert_eq!(
        (node.mode, node.uid, node.gid, node.mtime),
        (0o640, 4, 5, (4, 4))
    );
}

#[test]
fn a_hard_link_over_something_else_replaces_it() {
    let image = layer(&[
        file("f", "x"),
        file("old", "y"),
        dir("d"),
        file("d/z", "z"),
        link("old", "f"),
        link("d", "f"),
    ]);
    assert_eq!(image.names(), ["d", "f", "old"]);
    image.assert_linked("old", "f");
    image.assert_linked("d", "f");
    assert_eq!(image.summary.entries.hard_links, 2);
}

#[test]
fn a_hard_link_unbound_at_the_end_is_refused_naming_both() {
    let tar = Tar::new().add(&file("f", "")).add(&link("l", "missing/t"));
    let error = refused_tar(ErrorKind::Entry, &tar.finish(), &options());
    assert_eq!(error.path(), Some(&b"l"[..]));
    assert_eq!(error.offset(), Some(512));
    assert!(error.to_string().contains("missing/t"), "{error}");
    // A circle never binds.
    let tar = Tar::of(&[link("a", "b"), link("b", "a")]);
    refused_tar(ErrorKind::Entry, &tar, &options());
}

#[test]
fn a_hard_link_that_was_replaced_need_not_bind() {
    let image = layer(&[link("l", "missing"), file("l", "instead")]);
    image.assert_file("l", "instead");
    let image = layer(&[dir("d"), link("d/l", "missing"), file("d", "instead")]);
    image.assert_file("d", "instead");
}

#[test]
fn a_hard_link_to_a_directory_is_refused() {
    refused(ErrorKind::Entry, &[dir("d"), link("l", "d")]);
    refused(ErrorKind::Entry, &[link("l", "/")]);
    // The directory appears later, by itself or as a parent.
    for entry in [dir("d"), file("d/f", "")] {
        let tar = Tar::of(&[link("l", "d"), entry]);
        refused_tar(ErrorKind::Entry, &tar, &options());
    }
}

#[test]
fn a_hard_link_to_itself_changes_nothing() {
    let image = layer(&[file("f", "x").mode(0o600), link("f", "./f").mode(0o777)]);
    image.assert_file("f", "x");
    assert_eq!(image.at("f").mode, 0o600);
    assert_eq!(image.summary.entries.hard_links, 0);
}

// file named lost+found | accepted

#[test]
fn lost_and_found_is_a_name_like_any_other() {
    layer(&[file("lost+found", "x")]).assert_file("lost+found", "x");
    let image = layer(&[dir("lost+found").mode(0o700), file("lost+found/f", "x")]);
    assert_eq!(image.names(), ["lost+found", "lost+found/f"]);
    assert!(layer(&[]).names().is_empty(), "none of our own making");
}

// The oracles themselves.

#[test]
fn rebuilding_the_directories_changes_no_name() {
    let mut entries = vec![dir("small"), file("small/one", "")];
    // Long names: several blocks and a hash tree.
    let name = |i: u32| {
        let mut name = format!("large/{i}-");
        let _ = write!(name, "{:x}", i.wrapping_mul(0x9e37_79b9));
        name.push_str(&"x".repeat(100));
        name
    };
    entries.extend((0..3000).map(|i| file(name(i), "")));
    let image = layer(&entries);
    assert_eq!(image.names().len(), 3003);
    let Some(copy) = oracle::rebuilt_directories(image.path()) else {
        return;
    };
    let mut rebuilt = crate::common::view::read(&std::fs::read(&copy).unwrap()).unwrap();
    // A writing e2fsck makes one.
    rebuilt.0.remove(&b"lost+found"[..]);
    let names = |tree: &crate::common::tree::Tree| tree.0.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(&rebuilt), names(image.tree()));
}
