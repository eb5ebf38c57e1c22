//! SEMANTICS.md, "Entries": hard links.

use tar2vhd::ErrorKind;

use crate::common::entry::{char_device, dir, fifo, file, link, symlink};
use crate::common::layer::{layer, options, refused, refused_tar};
use crate::common::tar::Tar;

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
fn a_hard_link_that_led_into_a_circle_for_a_while_binds() {
    let image = layer(&[
        link("l", "a/t"),
        symlink("a", "b"),
        symlink("a", "a"),
        dir("a"),
        file("a/t", "x"),
    ]);
    image.assert_file("l", "x");
    image.assert_linked("l", "a/t");
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
