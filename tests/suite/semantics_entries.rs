//! SEMANTICS.md, "Entries": each test is a line of the table.

use std::fmt::Write as _;

use tar2vhd::{ErrorKind, WarningKind};

use crate::common::entry::{
    Entry, MTIME, Segment, block_device, char_device, dir, fifo, file, link, sparse, symlink,
};
use crate::common::layer::{Image, image, layer, layer_with, options, refused, refused_tar};
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
