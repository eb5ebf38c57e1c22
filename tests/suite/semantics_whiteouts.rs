//! SEMANTICS.md, "Whiteouts": each test is a line of the table.

use tar2vhd::{ErrorKind, WarningKind};

use crate::common::entry::{dir, file, link, marker, symlink};
use crate::common::layer::{layer, layer_with, options, refused};
use crate::common::tree::NodeKind;

// .wh.NAME, once or more | character device 0:0, mode 000, mtime of the entry

#[test]
fn a_whiteout_is_a_character_device_0_0_with_the_entrys_mtime() {
    let image = layer(&[
        dir("d"),
        marker("d/.wh.x").mtime(55, 5).mode(0o644).owner(4, 4),
        marker(".wh.top").mtime(56, 6),
        // The name is bytes like any other.
        marker(b"d/.wh.\xff"),
        marker("d/.wh...."),
    ]);
    image.assert_whiteout("d/x");
    assert_eq!(image.at("d/x").mtime, (55, 5));
    image.assert_xattrs("d/x", &[]);
    image.assert_whiteout("top");
    assert_eq!(image.at("top").mtime, (56, 6));
    image.assert_whiteout("d/...");
    assert_eq!(image.names(), ["d", "d/...", "d/x", "d/\\xff", "top"]);
    image.assert_no_warnings();
    assert_eq!(image.summary.entries.whiteouts, 4);
    assert_eq!(
        (image.summary.entries.files, image.summary.entries.devices),
        (0, 0)
    );
}

#[test]
fn whiteouts_of_one_name_are_one() {
    let image = layer(&[marker(".wh.x").mtime(1, 0), marker("./.wh.x").mtime(2, 0)]);
    image.assert_whiteout("x");
    assert_eq!(image.at("x").mtime, (2, 0));
    assert_eq!(image.summary.entries.whiteouts, 1);
}

#[test]
fn a_whiteout_may_be_of_any_type() {
    // Some tools write them as hard links to one file, or with contents.
    let image = layer(&[
        marker(".wh.a"),
        link(".wh.b", ".wh.a"),
        file(".wh.c", "contents"),
        symlink(".wh.d", "x"),
    ]);
    for path in ["a", "b", "c", "d"] {
        image.assert_whiteout(path);
    }
    assert_eq!(image.names().len(), 4);
}

#[test]
fn without_whiteout_mode_the_names_are_plain() {
    let image = layer_with(
        &[
            file(".wh.x", "x"),
            marker(".wh..wh..opq"),
            dir(".wh.d"),
            file(".wh.d/f", ""),
            marker(".wh."),
            dir(".wh..wh.plnk"),
        ],
        &options().whiteouts(false),
    );
    image.assert_file(".wh.x", "x");
    assert_eq!(
        image.names(),
        [
            ".wh.",
            ".wh..wh..opq",
            ".wh..wh.plnk",
            ".wh.d",
            ".wh.d/f",
            ".wh.x",
        ]
    );
    image.assert_xattrs("", &[]);
    image.assert_no_warnings();
}

// .wh..wh..opq | trusted.overlay.opaque=y on the directory, before or after it appears

#[test]
fn an_opaque_mark_may_come_before_or_after_its_directory_and_names() {
    let image = layer(&[
        dir("before"),
        file("before/f", ""),
        marker("before/.wh..wh..opq"),
        marker("after/.wh..wh..opq"),
        dir("after").mode(0o700),
        file("after/f", ""),
        dir("not"),
    ]);
    image.assert_opaque("before", true);
    image.assert_opaque("after", true);
    image.assert_opaque("not", false);
    assert_eq!(image.at("after").mode, 0o700);
    assert_eq!(
        image.names(),
        ["after", "after/f", "before", "before/f", "not"]
    );
    assert_eq!(image.summary.entries.opaque_directories, 2);
}

#[test]
fn whiteouts_inside_an_opaque_directory_are_dropped() {
    for opaque_first in [true, false] {
        let mut markers = vec![marker("d/.wh.x"), marker("d/.wh..wh..opq")];
        if opaque_first {
            markers.reverse();
        }
        let mut entries = vec![dir("d"), dir("d/sub")];
        entries.extend(markers);
        entries.push(marker("d/sub/.wh.y"));
        let image = layer(&entries);
        image.assert_opaque("d", true);
        assert_eq!(image.names(), ["d", "d/sub"]);
        assert_eq!(image.summary.entries.whiteouts, 0);
    }
}

#[test]
fn an_opaque_mark_on_the_root_is_kept_with_a_warning() {
    let image = layer(&[marker(".wh..wh..opq"), file("f", "")]);
    image.assert_opaque("", true);
    assert_eq!(image.names(), ["f"]);
    image.assert_warnings(&[(WarningKind::OpaqueRoot, ".wh..wh..opq")]);
}

#[test]
fn opaque_and_other_xattrs_stand_side_by_side() {
    let big = "v".repeat(3000);
    let mut directory = dir("d").xattr("user.big", &big);
    for i in 0..20 {
        directory = directory.xattr(format!("user.{i}"), "v");
    }
    let image = layer(&[directory, marker("d/.wh..wh..opq")]);
    image.assert_opaque("d", true);
    if let Some(xattrs) = image.xattrs("d") {
        assert_eq!(xattrs.len(), 22);
    }
}

// .wh.NAME and NAME in one layer, either order, NAME implicit too

#[test]
fn a_name_wins_over_its_whiteout_in_either_order() {
    for whiteout_first in [true, false] {
        let mut entries = vec![
            marker(".wh.file"),
            marker(".wh.dir"),
            marker(".wh.implicit"),
            marker(".wh.link"),
            file("file", "f"),
            dir("dir").mode(0o711),
            file("dir/child", "c"),
            file("implicit/child", "c"),
            symlink("link", "x"),
        ];
        if !whiteout_first {
            entries.rotate_left(4);
        }
        let image = layer(&entries);
        image.assert_file("file", "f");
        image.assert_opaque("dir", true);
        assert_eq!(image.at("dir").mode, 0o711);
        image.assert_opaque("implicit", true);
        image.assert_file("dir/child", "c");
        image.assert_file("implicit/child", "c");
        image.assert_symlink("link", "x");
        assert_eq!(image.summary.entries.whiteouts, 0);
        assert_eq!(image.summary.entries.opaque_directories, 2);
    }
}

#[test]
fn a_directory_that_replaces_a_whited_out_file_is_opaque() {
    let whiteout = marker(".wh.x");
    for entries in [
        [whiteout.clone(), file("x", ""), dir("x")],
        [file("x", ""), whiteout.clone(), dir("x")],
        [file("x", ""), dir("x"), whiteout],
    ] {
        layer(&entries).assert_opaque("x", true);
    }
}

// a whiteout below a path that this layer made a non-directory | redundant, ignored

#[test]
fn a_whiteout_below_a_non_directory_is_ignored() {
    let image = layer(&[
        file("f", "x"),
        marker("f/.wh.y"),
        marker("f/.wh..wh..opq"),
        marker("f/deep/.wh.z"),
    ]);
    assert_eq!(image.names(), ["f"]);
    image.assert_file("f", "x");
    assert_eq!(image.summary.entries.whiteouts, 0);
}

// the caller says that this is the bottom layer

#[test]
fn in_the_bottom_layer_whiteouts_and_opaque_marks_are_dropped() {
    let image = layer_with(
        &[
            dir("d"),
            marker("d/.wh.x"),
            marker("d/.wh..wh..opq"),
            marker(".wh.e"),
            dir("e"),
            file("e/f", ""),
            marker(".wh..wh..opq"),
        ],
        &options().bottom_layer(true),
    );
    assert_eq!(image.names(), ["d", "e", "e/f"]);
    for path in ["", "d", "e"] {
        image.assert_opaque(path, false);
    }
    image.assert_no_warnings();
    assert_eq!(image.summary.entries.whiteouts, 0);
    assert_eq!(image.summary.entries.opaque_directories, 0);
}

// .wh..wh.aufs, .wh..wh.orph, .wh..wh.plnk

#[test]
fn aufs_names_are_dropped() {
    let image = layer(&[
        marker(".wh..wh.aufs"),
        dir(".wh..wh.orph"),
        file(".wh..wh.orph/x", "x"),
        dir(".wh..wh.plnk"),
        file("f", ""),
    ]);
    assert_eq!(image.names(), ["f"]);
    assert_eq!(image.summary.entries.directories, 1);
}

#[test]
fn files_under_plnk_stay_reachable_as_hard_link_targets() {
    let image = layer(&[
        dir(".wh..wh.plnk"),
        file(".wh..wh.plnk/123.456", "shared"),
        link("a", ".wh..wh.plnk/123.456"),
        link("b", ".wh..wh.plnk/123.456"),
    ]);
    assert_eq!(image.names(), ["a", "b"]);
    image.assert_file("a", "shared");
    image.assert_linked("a", "b");
    assert_eq!(
        (
            image.summary.entries.files,
            image.summary.entries.hard_links
        ),
        (1, 1)
    );
}

// .wh., .wh.., .wh...; a .wh. component that is not the last | error

#[test]
fn whiteouts_of_nothing_and_with_something_below_are_refused() {
    for name in [".wh.", ".wh..", ".wh...", "d/.wh.", "d/.wh..."] {
        refused(ErrorKind::Entry, &[dir("d"), marker(name)]);
    }
    refused(ErrorKind::Entry, &[file(".wh.d/f", "")]);
    refused(ErrorKind::Entry, &[marker("a/.wh.d/.wh.x")]);
}

#[test]
fn a_link_never_binds_to_a_whiteout() {
    let image = layer(&[marker(".wh.t"), link("l", "t"), file("t", "came later")]);
    image.assert_file("l", "came later");
    image.assert_linked("l", "t");
    let tar = crate::common::tar::Tar::of(&[marker(".wh.t"), link("l", "t")]);
    crate::common::layer::refused_tar(ErrorKind::Entry, &tar, &options());
}

#[test]
fn a_whiteout_in_a_replaced_directory_goes_with_it() {
    let image = layer(&[
        dir("d"),
        marker("d/.wh.x"),
        marker("d/.wh..wh..opq"),
        file("d", ""),
        dir("d"),
    ]);
    assert_eq!(image.names(), ["d"]);
    assert_eq!(image.at("d").kind, NodeKind::Dir);
}
