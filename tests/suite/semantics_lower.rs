//! SEMANTICS.md, "Entries": hard links to what only the layers below have.

use tar2vhd::lower::LowerDisks;
use tar2vhd::{DiskFormat, ErrorKind, Options, WarningKind};

use crate::common::entry::{
    Entry, Segment, char_device, dir, fifo, file, link, marker, sparse, symlink,
};
use crate::common::kernel::Mount;
use crate::common::layer::{Image, image, layer, layer_with, options, refused_with};
use crate::common::oracle::{run, shown};
use crate::common::tar::{Sparse, Tar};
use crate::common::tree::NodeKind;

fn over(below: &[&Image]) -> Options {
    let disks = LowerDisks::open(below.iter().map(|image| image.path())).unwrap();
    options().lower_layers(disks)
}

fn base() -> Image {
    layer(&[
        dir("private").mode(0o700).owner(3, 4),
        file("private/file", "below").mode(0o604).owner(5, 6),
        link("same", "private/file").mode(0o604).owner(5, 6),
        symlink("lib64", "usr/lib"),
        dir("usr/lib"),
        file("usr/lib/x", "library").xattr("user.a", "b"),
        char_device("null", 1, 3),
        fifo("pipe"),
        symlink("soft", "usr"),
    ])
}

#[test]
fn a_file_below_is_copied_up_with_its_directories() {
    let base = base();
    let image = layer_with(
        &[
            link("l", "private/file").mode(0o640).owner(7, 8),
            link("m", "same").mode(0o640).owner(7, 8),
            link("n", "lib64/x").mode(0o644),
            link("o", "null"),
            link("p", "pipe"),
            link("s", "soft"),
        ],
        &over(&[&base]),
    );
    image.assert_file("l", "below");
    for name in ["private/file", "same", "m"] {
        image.assert_linked("l", name);
    }
    let private = image.at("private");
    assert_eq!((private.mode, private.uid, private.gid), (0o700, 3, 4));
    let linked = image.at("private/file");
    assert_eq!((linked.mode, linked.uid, linked.gid), (0o640, 7, 8));
    image.assert_linked("n", "usr/lib/x");
    image.assert_xattrs("n", &[("user.a", "b")]);
    image.assert_linked("o", "null");
    image.assert_linked("p", "pipe");
    image.assert_symlink("s", "usr");
    image.assert_no_warnings();
}

#[test]
fn what_the_layer_hides_is_not_copied() {
    let base = base();
    let options = over(&[&base]);
    for hides in ["private/.wh.file", ".wh.private", "private/.wh..wh..opq"] {
        let entries = [marker(hides), link("l", "private/file")];
        refused_with(ErrorKind::Entry, &entries, &options);
        // The link was there before: it stays, and the copy's own name goes.
        let entries = [link("l", "private/file"), marker(hides)];
        let image = layer_with(&entries, &options);
        image.assert_file("l", "below");
        let copy = image.tree().0.get(&b"private/file"[..]);
        assert!(copy.is_none_or(|node| matches!(node.kind, NodeKind::Char(_))));
    }
    let entries = [file("private", "in the way"), link("l", "private/file")];
    refused_with(ErrorKind::Entry, &entries, &options);
}

#[test]
fn a_directory_of_copies_alone_goes_without_a_warning() {
    let base = base();
    let options = over(&[&base]);
    let image = layer_with(
        &[link("l", "private/file"), file("private", "in the way")],
        &options,
    );
    image.assert_file("private", "in the way");
    image.assert_file("l", "below");
    image.assert_no_warnings();
    // An entry in it is one of this layer's.
    let image = layer_with(
        &[
            link("l", "private/file"),
            file("private/new", ""),
            file("private", "in the way"),
        ],
        &options,
    );
    image.assert_warnings(&[(WarningKind::ReplacedTree, "private")]);
}

#[test]
fn a_directory_that_paths_only_led_through_can_be_hidden() {
    let base = layer(&[symlink("round", "private/.."), dir("private"), dir("other")]);
    let options = over(&[&base]);
    let image = layer_with(&[marker("round/.wh.private")], &options);
    assert_eq!(image.at("private").kind, NodeKind::Char(Some((0, 0))));
    let entries = [file("round/f", "text"), marker(".wh.private")];
    let image = layer_with(&entries, &options);
    assert_eq!(image.at("private").kind, NodeKind::Char(Some((0, 0))));
    image.assert_file("f", "text");
    // An opaque mark inside makes it the layer's own.
    let opaque = [("trusted.overlay.opaque", "y")];
    for entries in [
        [marker("other/.wh..wh..opq"), marker(".wh.other")],
        [marker(".wh.other"), marker("other/.wh..wh..opq")],
    ] {
        let image = layer_with(&entries, &options);
        assert_eq!(image.at("other").kind, NodeKind::Dir);
        image.assert_xattrs("other", &opaque);
    }
}

#[test]
fn a_copy_is_not_moved_by_what_replaces_it() {
    let base = base();
    let entries = [link("l", "private/file"), file("private/file", "new")];
    let image = layer_with(&entries, &over(&[&base]));
    image.assert_file("l", "below");
    image.assert_file("private/file", "new");
    image.assert_separate("l", "private/file");
}

#[test]
fn a_symbolic_link_that_appears_may_lead_to_what_is_below() {
    let base = base();
    let entries = [link("l", "via/x"), symlink("via", "usr/lib")];
    let image = layer_with(&entries, &over(&[&base]));
    image.assert_linked("l", "usr/lib/x");
}

#[test]
fn the_nearest_layer_decides_and_whiteouts_there_hide() {
    let base = base();
    let middle = layer(&[marker(".wh.private"), file("usr/lib/x", "nearer")]);
    let both = over(&[&middle, &base]);
    let image = layer_with(&[link("l", "usr/lib/x")], &both);
    image.assert_file("l", "nearer");
    refused_with(ErrorKind::Entry, &[link("l", "private/file")], &both);
    refused_with(ErrorKind::Entry, &[link("l", "usr")], &both);
}

#[test]
fn holes_stay_holes_and_contents_are_those_below() {
    let segments = vec![
        Segment::Data(vec![1; 5000]),
        Segment::Hole(64 << 20),
        Segment::Data(vec![2; 300_000]),
        Segment::Hole(10_000),
    ];
    let tar = Tar::new().sparse(Sparse::Pax10);
    let tar = tar
        .add(&sparse("s", segments))
        .add(&sparse("hole", vec![Segment::Hole(1 << 20)]))
        .add(&file("tiny", "x".repeat(100)))
        .finish();
    for options in [options(), options().inline_data(true)] {
        let base = image(&tar, &options);
        let entries = [link("l", "s"), link("h", "hole"), link("t", "tiny")];
        let top = layer_with(&entries, &over(&[&base]));
        assert!(top.bytes.len() < 1 << 20, "{}", top.bytes.len());
        top.assert_file("t", "x".repeat(100));
        let Some(tree) = top.kernel_tree() else {
            return;
        };
        let Some(below) = base.kernel_tree() else {
            return;
        };
        assert_eq!(tree.0[&b"l"[..]].kind, below.0[&b"s"[..]].kind);
        assert_eq!(tree.0[&b"h"[..]].kind, below.0[&b"hole"[..]].kind);
    }
}

#[test]
fn what_was_read_is_in_the_identity() {
    let uuid = |contents: &str| {
        let base = layer(&[file("f", contents)]);
        let top = layer_with(&[link("l", "f")], &over(&[&base]));
        top.summary.disk.uuid
    };
    assert_ne!(uuid("one"), uuid("two"));
    assert_eq!(uuid("one"), uuid("one"));
}

#[test]
fn the_kernel_shows_the_layers_stacked() {
    let base = base();
    let entries: Vec<Entry> = vec![
        link("l", "private/file").mode(0o604).owner(5, 6),
        file("lib64/y", "new"),
    ];
    let top = layer_with(&entries, &over(&[&base]));
    let (Some(upper), Some(lower)) = (Mount::image(top.path()), Mount::image(base.path())) else {
        return;
    };
    let Some(mount) = Mount::overlay(&[&upper, &lower]) else {
        return;
    };
    let read = |path: &str| std::fs::read_to_string(mount.path().join(path)).unwrap();
    assert_eq!(read("l"), "below");
    assert_eq!(read("private/file"), "below");
    assert_eq!(read("lib64/y"), "new");
    assert_eq!(read("usr/lib/x"), "library");
    assert!(mount.path().join("lib64").is_symlink());
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt;
        let private = std::fs::metadata(mount.path().join("private")).unwrap();
        assert_eq!((private.mode() & 0o7777, private.uid()), (0o700, 3));
        let of = |path: &str| std::fs::metadata(mount.path().join(path)).unwrap().ino();
        assert_eq!(of("l"), of("private/file"));
    }
}

/// File systems of mke2fs with blocks of other sizes, block maps and inline data.
#[test]
fn layers_that_others_made_are_read() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(folder.path().join("dir/below")).unwrap();
    std::fs::write(folder.path().join("dir/below/file"), [7; 20_000]).unwrap();
    std::fs::write(folder.path().join("dir/small"), "small").unwrap();
    for options in [
        &["-t", "ext2", "-b", "1024"][..],
        &["-t", "ext4", "-b", "2048", "-O", "inline_data"],
        &["-t", "ext4", "-b", "65536"],
    ] {
        let disk = tempfile::NamedTempFile::new().unwrap().into_temp_path();
        let made = run("mke2fs", |c| {
            let c = c.args(["-q", "-F", "-d"]).arg(folder.path());
            c.args(options).arg(&disk).arg("32M")
        });
        let Some(made) = made else { return };
        assert!(made.status.success(), "{}", shown(&made));
        let lower = LowerDisks::open([&disk]).unwrap();
        let links = [link("l", "dir/below/file"), link("s", "dir/small")];
        let top = layer_with(&links, &self::options().lower_layers(lower));
        top.assert_file("l", [7; 20_000]);
        top.assert_file("s", "small");
        top.assert_linked("l", "dir/below/file");
    }
}

#[test]
fn a_disk_that_is_no_layer_is_refused_by_name() {
    let disk = tempfile::NamedTempFile::new().unwrap().into_temp_path();
    std::fs::write(&disk, [0; 8192]).unwrap();
    let error = LowerDisks::open([&disk]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidDisk);
    assert_eq!(error.file(), Some(&*disk));
}

#[test]
fn disks_of_every_format_are_read() {
    let bytes = Tar::of(&[file("f", "below")]);
    for format in [
        DiskFormat::Raw,
        DiskFormat::Vhd,
        DiskFormat::VhdDynamic,
        DiskFormat::Vhdx,
        DiskFormat::VhdxFixed,
    ] {
        let path = tempfile::NamedTempFile::new().unwrap().into_temp_path();
        let made = Options::new().format(format).fsync(false);
        tar2vhd::convert_file(&bytes[..], &path, &made).unwrap();
        let lower = LowerDisks::open([&path]).unwrap();
        let top = layer_with(&[link("l", "f")], &options().lower_layers(lower));
        top.assert_file("l", "below");
    }
}
