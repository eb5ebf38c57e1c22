//! SEMANTICS.md, "Entries": paths, the root, and parents that are missing or symbolic links.

use std::collections::BTreeMap;
use std::io;

use tar2vhd::lower::{LowerEntry, LowerKind, LowerLayers, LowerMetadata};
use tar2vhd::{ErrorKind, WarningKind};

use crate::common::entry::{
    Entry, Kind, MTIME, block_device, char_device, dir, fifo, file, link, marker, symlink,
};
use crate::common::layer::{image, layer, layer_with, options, refused, refused_tar, refused_with};
use crate::common::tar::{Header, Tar};
use crate::common::tree::NodeKind;

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
    refused(ErrorKind::Entry, &[file("f", ""), file(".", "")]);
    for kind in [
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

fn lower_other(kind: LowerKind) -> LowerEntry {
    LowerEntry::new(kind, LowerMetadata::default())
}

fn lower_dir(mode: u16) -> LowerEntry {
    let metadata = LowerMetadata::new(mode, 11, 12).mtime(13, 14);
    LowerEntry::new(
        LowerKind::Directory,
        metadata.xattr("security.selinux", "label"),
    )
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
    assert!(format!("{error:#}").contains("no such snapshot"), "{error}");
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
    image.assert_warnings(&[
        (WarningKind::Skipped, "g/"),
        (WarningKind::PathClamped, "../../d/e"),
        (WarningKind::PathClamped, "d/../../f"),
        (WarningKind::PathClamped, "h"),
    ]);
}

#[test]
fn a_path_that_leaves_the_root_is_cut_there_with_a_warning() {
    let image = layer(&[
        file("../x", "x"),
        dir("/../d"),
        symlink("s", "../../x"),
        link("l", "../x"),
        dir("d/.."),
    ]);
    assert_eq!(image.names(), ["d", "l", "s", "x"]);
    image.assert_linked("x", "l");
    image.assert_symlink("s", "../../x");
    image.assert_warnings(&[
        (WarningKind::PathClamped, "../x"),
        (WarningKind::PathClamped, "/../d"),
        (WarningKind::PathClamped, "l"),
    ]);
    let message = &image.summary.warnings[0].message;
    assert_eq!(
        message,
        "the path leads out of the root: it was taken for /x"
    );
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
fn each_path_is_resolved_as_if_none_had_been_before() {
    let before = [
        file("a/b/c/1", ""),
        file("a/b/c/2", ""),
        file("a/bc/3", ""),
        file("a/b/cd/4", ""),
        file("a/b/c/5/6", ""),
        file("a/b/7", ""),
        file("b/c/8", ""),
    ];
    let image = layer(&before);
    let files = |image: &crate::common::layer::Image| -> Vec<String> {
        let names = image.names().into_iter();
        names
            .filter(|name| name.ends_with(|last: char| last.is_ascii_digit()))
            .collect()
    };
    assert_eq!(
        files(&image),
        [
            "a/b/7",
            "a/b/c/1",
            "a/b/c/2",
            "a/b/c/5",
            "a/b/c/5/6",
            "a/b/cd/4",
            "a/bc/3",
            "b/c/8"
        ]
    );
    // A directory on the way becomes a link, and a link a directory.
    let after = [
        dir("x/c"),
        symlink("l", "x"),
        file("l/c/1", ""),
        file("l/d/2", ""),
        file("a/b/c/d/3", ""),
        symlink("a/b", "../x"),
        file("a/b/c/4", ""),
        file("a/b/c/d/5", ""),
        dir("l"),
        file("l/c/6", ""),
        file("a/b/c/7", ""),
        file("x/c/d/8", ""),
        symlink("m", "x/c"),
        file("m/9", ""),
        file("m/n/1", ""),
    ];
    let image = layer(&after);
    assert_eq!(
        files(&image),
        [
            "l/c/6", "x/c/1", "x/c/4", "x/c/7", "x/c/9", "x/c/d/5", "x/c/d/8", "x/c/n/1", "x/d/2"
        ]
    );
    // An entry replaces what its own path goes through.
    let own = [
        symlink("s", "."),
        dir("s/s"),
        file("s/1", ""),
        dir("d"),
        symlink("d/up", ".."),
        dir("e"),
        symlink("d/up/d", "e"),
        file("d/up/2", ""),
    ];
    assert_eq!(files(&layer(&own)), ["e/up/2", "s/1"]);
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
        ("lib", lower_other(LowerKind::Symlink(b"usr/lib".to_vec()))),
        ("usr", lower_dir(0o755)),
        ("usr/lib", lower_dir(0o711)),
        ("file", lower_other(LowerKind::Other)),
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

#[test]
fn nested_links_are_followed_once() {
    // Each of the links leads through the one before 12 times.
    let mut entries = vec![dir("d"), symlink("s0", "d/../".repeat(17) + "d")];
    for i in 1..=2 {
        let before = format!("s{}", i - 1);
        let target = format!("{before}/../").repeat(12) + &before;
        entries.push(symlink(format!("s{i}"), target));
    }
    // Every other path is another one.
    entries.extend((0..20_000).map(|i| match i % 2 {
        0 => file(format!("s2/{i}"), ""),
        _ => file(format!("d/{i}"), ""),
    }));
    let start = std::time::Instant::now();
    let image = layer(&entries);
    assert!(start.elapsed().as_secs() < 60, "{:?}", start.elapsed());
    assert_eq!(image.summary.entries.files, 20_000);
}

#[test]
fn work_without_end_for_a_few_bytes_is_refused() {
    let mut entries = vec![dir("d"), symlink("s", "d/../".repeat(800) + "d")];
    // A symbolic link that is replaced may be on the way of any.
    entries.extend((0..4000).flat_map(|i| [symlink("x", "d"), file(format!("s/{i}"), "")]));
    let error = refused_tar(ErrorKind::Limit, &Tar::of(&entries), &options());
    assert!(error.to_string().contains("symbolic links"), "{error}");
    // Of a layer that was made to be unpacked each path goes through a few.
    let mut entries = vec![dir("usr/lib"), symlink("lib", "usr/lib")];
    entries.extend((0..4000).flat_map(|i| [symlink("x", "d"), file(format!("lib/{i}/f"), "")]));
    layer(&entries);
}
