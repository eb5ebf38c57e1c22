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
fn a_target_is_looked_up_anew_where_its_directory_was_replaced() {
    let image = layer(&[
        dir("d"),
        link("l", "d/t"),
        file("d", "in between"),
        dir("d"),
        file("d/t", "first"),
        file("d/t", "second"),
    ]);
    image.assert_file("l", "first");
    image.assert_file("d/t", "second");
    image.assert_separate("l", "d/t");
}

#[test]
fn a_target_is_looked_up_anew_where_a_symbolic_link_was_replaced() {
    let image = layer(&[
        dir("one"),
        dir("two"),
        symlink("s", "one"),
        symlink("via", "s"),
        link("l", "via/t"),
        symlink("s", "two"),
        file("one/t", "wrong"),
        file("two/t", "right"),
        link("late", "s/u"),
        file("two/u", "late"),
        symlink("s", "one"),
        link("m", "via/t"),
    ]);
    image.assert_file("l", "right");
    image.assert_linked("l", "two/t");
    image.assert_linked("late", "two/u");
    image.assert_linked("m", "one/t");
    // What a link newly leads to may hold the target already.
    let image = layer(&[
        dir("full"),
        file("full/t", "x"),
        link("l", "s/t"),
        symlink("s", "full"),
    ]);
    image.assert_linked("l", "full/t");
}

#[test]
fn the_target_of_one_link_may_be_on_the_way_of_another() {
    let image = layer(&[
        link("l", "p/t"),
        link("m", "p"),
        symlink("q", "d"),
        symlink("p", "d"),
        file("d/t", "x"),
    ]);
    image.assert_symlink("m", "d");
    image.assert_linked("m", "p");
    image.assert_linked("l", "d/t");
}

#[test]
fn of_links_that_waited_the_last_attributes_count() {
    let image = layer(&[
        link("l", "t").xattr("security.x", "first"),
        link("m", "t").xattr("security.x", "last"),
        file("t", ""),
    ]);
    let xattrs = image.at("t").xattrs.clone();
    let value = xattrs.and_then(|xattrs| xattrs.get(&b"security.x"[..]).cloned());
    assert_eq!(value, Some(b"last".to_vec()));
}

#[test]
fn links_that_wait_take_time_in_proportion_to_their_number() {
    const LINKS: usize = 40_000;
    let waiting = (0..LINKS).map(|i| link(format!("l/{i}"), format!("d/{i}/t")));
    // Each replaces the directory below which all targets are waited for.
    let replacing = (0..LINKS).map(|i| match i % 2 {
        0 => dir("d"),
        _ => file("d", ""),
    });
    let start = std::time::Instant::now();
    let mut entries: Vec<_> = waiting.chain(replacing).collect();
    entries.push(dir("d"));
    entries.extend((0..LINKS).map(|i| file(format!("d/{i}/t"), "")));
    let image = layer(&entries);
    assert!(start.elapsed().as_secs() < 60, "{:?}", start.elapsed());
    assert_eq!(image.summary.entries.hard_links, LINKS as u64);
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
    // Nor does it while it waits for another target.
    let image = layer(&[link("l", "f"), link("l", "./l"), file("f", "x")]);
    image.assert_linked("l", "f");
    refused(ErrorKind::Entry, &[link("l", "l")]);
}
