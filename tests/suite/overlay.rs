//! Two converted layers, stacked by overlayfs as a guest does, are the tree that the second
//! layer was made for.
//!
//! The model is that tree itself: two random trees, and between them a layer with what one
//! has and the other has not, in one of the many spellings that builders use.

use std::collections::BTreeMap;

use proptest::collection::{btree_map, vec};
use proptest::prelude::*;

use tar2vhd::lower::{LowerDisks, LowerEntry, LowerLayers};

use crate::common::entry::{Entry, Kind, dir, file, link, marker, symlink};
use crate::common::kernel::Mount;
use crate::common::layer::{Image, layer_with, options};
use crate::common::model::{self, Settings};
use crate::common::random::{cases, node, plain_path};
use crate::common::tree::Tree;
use crate::properties::LowerTree;

/// Entries by path, each below directories that are there too.
pub(crate) type Things = BTreeMap<Vec<u8>, Entry>;

fn parent(path: &[u8]) -> Option<&[u8]> {
    let slash = path.iter().rposition(|b| *b == b'/')?;
    Some(&path[..slash])
}

/// A tree without hard links, which a second layer would break.
pub(crate) fn things() -> impl Strategy<Value = Things> {
    btree_map(plain_path(), node(), 0..12).prop_map(|things| {
        let mut whole: Things = BTreeMap::new();
        for (path, mut entry) in things {
            let mut above = parent(&path);
            while let Some(path) = above {
                let missing = !matches!(whole.get(path), Some(e) if e.kind == Kind::Dir);
                if missing {
                    whole.insert(path.to_vec(), dir(path));
                }
                above = parent(path);
            }
            entry.path.clone_from(&path);
            // A device 0:0 would hide what is below.
            if !matches!(entry.kind, Kind::Char(0, 0)) {
                whole.insert(path, entry);
            }
        }
        let below_files: Vec<_> = whole
            .keys()
            .filter(|path| {
                let mut above = parent(path);
                let mut stands = true;
                while let Some(path) = above {
                    stands &= whole.get(path).is_some_and(|e| e.kind == Kind::Dir);
                    above = parent(path);
                }
                !stands
            })
            .cloned()
            .collect();
        for path in below_files {
            whole.remove(&path);
        }
        whole
    })
}

/// How a builder writes a layer.
#[derive(Clone, Debug)]
pub(crate) struct Spelling {
    /// Draws for choices, used in turn.
    draws: Vec<u8>,
    markers_first: bool,
}

pub(crate) fn spelling() -> impl Strategy<Value = Spelling> {
    (vec(any::<u8>(), 1..40), any::<bool>()).prop_map(|(draws, markers_first)| Spelling {
        draws,
        markers_first,
    })
}

/// The layer that makes `new` of `old`.
pub(crate) fn difference(old: &Things, new: &Things, spelling: &Spelling) -> Vec<Entry> {
    let mut turn = 0;
    let mut draw = |of: u8| {
        turn += 1;
        spelling.draws[turn % spelling.draws.len()] % of
    };
    let is_dir = |things: &Things, path: &[u8]| {
        things
            .get(path)
            .is_some_and(|entry| entry.kind == Kind::Dir)
    };
    let join = |dir: &[u8], name: &[u8]| match dir {
        b"" => name.to_vec(),
        dir => [dir, b"/", name].concat(),
    };
    let name = |path: &[u8]| path[parent(path).map_or(0, |p| p.len() + 1)..].to_vec();
    let whiteout = |path: &[u8]| {
        let name = [b".wh.", &name(path)[..]].concat();
        marker(join(parent(path).unwrap_or_default(), &name))
    };
    let mut markers = Vec::new();
    let mut entries = Vec::new();
    // Directories whose old contents are hidden as a whole.
    let mut opaque: Vec<Vec<u8>> = Vec::new();
    for (path, entry) in new {
        let hidden = opaque
            .iter()
            .any(|dir| path.starts_with(&[&dir[..], b"/"].concat()));
        let was = old.get(path).filter(|_| !hidden);
        let same = was == Some(entry);
        if entry.kind == Kind::Dir && is_dir(old, path) && !hidden {
            match draw(6) {
                0 => {
                    markers.push(marker(join(path, b".wh..wh..opq")));
                    opaque.push(path.clone());
                    entries.push(entry.clone());
                    continue;
                }
                1 => {
                    // Removed and made anew.
                    markers.push(whiteout(path));
                    opaque.push(path.clone());
                    entries.push(entry.clone());
                    continue;
                }
                _ => {}
            }
            // overlayfs shows the attributes of the upper directory alone.
            if !same || draw(2) == 0 {
                entries.push(entry.clone());
            }
        } else if !same || draw(4) == 0 {
            if was.is_some() && draw(3) == 0 {
                markers.push(whiteout(path));
                if entry.kind == Kind::Dir {
                    opaque.push(path.clone());
                }
            }
            entries.push(entry.clone());
        }
    }
    for path in old.keys() {
        let above = parent(path).unwrap_or_default();
        let stands = above.is_empty() || (is_dir(old, above) && is_dir(new, above));
        let hidden = opaque
            .iter()
            .any(|dir| path.starts_with(&[&dir[..], b"/"].concat()));
        if !new.contains_key(path) && stands && (!hidden || draw(3) == 0) {
            markers.push(whiteout(path));
        }
    }
    if spelling.markers_first {
        markers.append(&mut entries);
        return markers;
    }
    entries.append(&mut markers);
    entries
}

/// What the kernel shows of the second layer over the first.
fn stacked(lower: &Image, upper: &Image) -> Option<Tree> {
    let lower = Mount::image(lower.path())?;
    let upper = Mount::image(upper.path())?;
    let stack = Mount::overlay(&[&upper, &lower])?;
    Some(stack.tree())
}

/// The things as a tree, without what tells of links across layers.
pub(crate) fn tree_of(things: &Things) -> Tree {
    let entries: Vec<_> = things.values().cloned().collect();
    let settings = Settings {
        bottom: true,
        ..Settings::default()
    };
    let mut tree = model::apply(&entries, settings).unwrap().tree;
    forget_links(&mut tree);
    tree
}

pub(crate) fn forget_links(tree: &mut Tree) {
    for node in tree.0.values_mut() {
        node.same_as = None;
    }
    // The stack's root is the upper's, which no entry describes.
    tree.0.remove(&b""[..]);
}

fn bottom(things: &Things) -> Image {
    let entries: Vec<_> = things.values().cloned().collect();
    layer_with(&entries, &options().threads(1).bottom_layer(true))
}

fn check(old: &Things, new: &Things, spelling: &Spelling) {
    let lower = bottom(old);
    let entries = difference(old, new, spelling);
    // The layer need not repeat directories that stay as they are.
    let options = options().threads(1).lower_layers(LowerTree(tree_of(old)));
    let upper = layer_with(&entries, &options);
    let Some(mut shown) = stacked(&lower, &upper) else {
        return;
    };
    assert_lookups(&[&upper, &lower], &shown, old.keys().chain(new.keys()));
    forget_links(&mut shown);
    let differences = shown.differences(&tree_of(new));
    assert!(differences.is_empty(), "\n{differences}\nby {entries:#?}");
}

/// The disks, nearest first, answer for these paths as the kernel shows them stacked.
fn assert_lookups<'a>(
    disks: &[&Image],
    shown: &Tree,
    paths: impl IntoIterator<Item = &'a Vec<u8>>,
) {
    let disks = LowerDisks::open(disks.iter().map(|disk| disk.path())).unwrap();
    let shown = LowerTree(shown.clone());
    for path in paths {
        let mut answer = disks.lookup(path).unwrap();
        if let Some(LowerEntry { metadata, id, .. }) = &mut answer {
            *id = None;
            // What overlayfs keeps to itself.
            metadata
                .xattrs
                .retain(|(name, _)| !name.starts_with(b"trusted."));
            metadata.xattrs.sort();
        }
        let path_text = String::from_utf8_lossy(path);
        assert_eq!(answer, shown.lookup(path).unwrap(), "{path_text}");
    }
}

proptest! {
    #![proptest_config(cases(100))]

    #[test]
    fn two_layers_stacked_are_the_tree_that_the_second_was_made_for(
        old in things(),
        new in things(),
        spelling in spelling(),
    ) {
        check(&old, &new, &spelling);
    }

    #[test]
    fn so_are_layers_with_few_changes(
        old in things(),
        changes in things(),
        gone in any::<u16>(),
        spelling in spelling(),
    ) {
        let mut new = old.clone();
        new.extend(changes.iter().filter(|(p, e)| {
            // Nothing that would stand in the way of what is there.
            e.kind == Kind::Dir || !old.contains_key(*p)
        }).map(|(p, e)| (p.clone(), e.clone())));
        let doomed: Vec<_> = new.keys().enumerate().filter(|(i, _)| gone >> (i % 16) & 3 == 3).map(|(_, p)| p.clone()).collect();
        for path in doomed {
            let below = [&path[..], b"/"].concat();
            new.retain(|p, _| *p != path && !p.starts_with(&below));
        }
        let whole = |p: &Vec<u8>| {
            let mut above = parent(p);
            while let Some(path) = above {
                if !new.get(path).is_some_and(|e| e.kind == Kind::Dir) {
                    return false;
                }
                above = parent(path);
            }
            true
        };
        let keep: Vec<_> = new.keys().filter(|p| whole(p)).cloned().collect();
        new.retain(|p, _| keep.contains(p));
        check(&old, &new, &spelling);
    }
}

fn merged(lower: &[Entry], upper: &[Entry]) -> Option<Tree> {
    let lower = layer_with(lower, &options().bottom_layer(true));
    let upper = layer_with(upper, &options());
    stacked(&lower, &upper)
}

fn names(tree: &Tree) -> Vec<String> {
    let text = |path: &Vec<u8>| String::from_utf8_lossy(path).into_owned();
    tree.0.keys().skip(1).map(text).collect()
}

#[test]
fn whiteouts_and_opaque_marks_hide_what_is_below() {
    let lower = [
        dir("d"),
        file("d/gone", ""),
        file("d/kept", "lower"),
        dir("o"),
        file("o/hidden", ""),
        dir("o/sub"),
        file("o/sub/hidden", ""),
        dir("gone"),
        file("gone/f", ""),
        file("replaced", "lower"),
    ];
    let upper = [
        marker("d/.wh.gone"),
        file("d/new", ""),
        dir("o"),
        marker("o/.wh..wh..opq"),
        marker("o/.wh.hidden"),
        dir("o/sub"),
        file("o/sub/new", ""),
        marker(".wh.gone"),
        file("replaced", "upper"),
    ];
    if let Some(tree) = merged(&lower, &upper) {
        let wanted = [
            "d",
            "d/kept",
            "d/new",
            "o",
            "o/sub",
            "o/sub/new",
            "replaced",
        ];
        assert_eq!(names(&tree), wanted);
    }
}

#[test]
fn a_whiteout_and_its_name_in_one_layer_show_the_name_alone() {
    let lower = [
        dir("d"),
        file("d/old", ""),
        dir("e"),
        file("e/old", ""),
        file("f", "old"),
    ];
    let upper = [
        marker(".wh.d"),
        file("d/new", ""),
        dir("e"),
        file("e/new", ""),
        marker(".wh.e"),
        file("f", "new"),
        marker(".wh.f"),
    ];
    if let Some(tree) = merged(&lower, &upper) {
        assert_eq!(names(&tree), ["d", "d/new", "e", "e/new", "f"]);
    }
}

#[test]
fn what_is_no_directory_hides_one_and_the_other_way_round() {
    let lower = [
        dir("a"),
        file("a/f", ""),
        file("b", ""),
        symlink("c", "a"),
        dir("t"),
    ];
    let upper = [
        file("a", "file now"),
        dir("b"),
        file("b/f", ""),
        dir("c"),
        file("c/f", ""),
        link("t", "a"),
        marker("a/.wh.f"),
    ];
    if let Some(tree) = merged(&lower, &upper) {
        assert_eq!(names(&tree), ["a", "b", "b/f", "c", "c/f", "t"]);
    }
}

#[test]
fn an_opaque_mark_on_the_root_has_no_effect() {
    let lower = [file("lower", ""), dir("d"), file("d/lower", "")];
    let upper = [
        marker(".wh..wh..opq"),
        marker(".wh.gone"),
        file("d/upper", ""),
    ];
    if let Some(tree) = merged(&lower, &upper) {
        assert_eq!(names(&tree), ["d", "d/lower", "d/upper", "lower"]);
    }
}
