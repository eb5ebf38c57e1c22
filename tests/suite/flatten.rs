//! Layers merged to one file system.

use std::cell::Cell;
use std::fs;
use std::io::Cursor;
use std::path::Path;
use std::time::{Duration, Instant};

use proptest::prelude::*;
use tar2vhd::disk::MemoryDisk;
use tar2vhd::flatten::{FlattenLayer, FlattenSummary, chain_id, flatten};
use tar2vhd::lower::{LowerDisks, LowerLayers};
use tar2vhd::verity::Verity;
use tar2vhd::{Error, ErrorKind, Options, Volume, WarningKind, Writable};

use crate::common::entry::Segment;
use crate::common::entry::{Entry, dir, file, link, marker, sparse, symlink};
use crate::common::layer::options;
use crate::common::oracle;
use crate::common::random::cases;
use crate::common::tar::Tar;
use crate::common::tree::{Node, NodeKind, Tree, text};
use crate::common::view;
use crate::overlay::{Things, difference, forget_links, spelling, things, tree_of};

/// Layers on one disk that e2fsck accepts.
struct Flat {
    bytes: Vec<u8>,
    summary: FlattenSummary,
    /// None if nothing here can read it: with some features only the kernel can.
    tree: Option<Tree>,
}

fn try_flatten(layers: &[Vec<u8>], options: &Options) -> Result<(Vec<u8>, FlattenSummary), Error> {
    let layers: Vec<_> = layers
        .iter()
        .map(|tar| FlattenLayer::new(|| Ok(Cursor::new(tar.clone()))))
        .collect();
    let disk = MemoryDisk::new();
    let summary = flatten(&layers, &disk, options)?;
    Ok((disk.into_vec(), summary))
}

#[track_caller]
fn flat_with(layers: &[&[Entry]], options: &Options) -> Flat {
    let tars: Vec<_> = layers.iter().map(|entries| Tar::of(*entries)).collect();
    let (bytes, summary) = try_flatten(&tars, options).unwrap();
    assert_eq!(summary.disk.size, bytes.len() as u64);
    let path = tempfile::NamedTempFile::new().unwrap().into_temp_path();
    fs::write(&path, &bytes).unwrap();
    oracle::fsck(&path);
    let tree = view::read(&bytes).or_else(|| kernel_tree(&path));
    Flat {
        bytes,
        summary,
        tree,
    }
}

#[cfg(target_os = "linux")]
fn kernel_tree(image: &Path) -> Option<Tree> {
    Some(crate::common::kernel::Mount::image(image)?.tree())
}

#[cfg(not(target_os = "linux"))]
fn kernel_tree(_: &Path) -> Option<Tree> {
    None
}

#[track_caller]
fn flat(layers: &[&[Entry]]) -> Flat {
    flat_with(layers, &options())
}

impl Flat {
    #[track_caller]
    fn tree(&self) -> &Tree {
        self.tree.as_ref().expect("features that ext4-view knows")
    }

    fn names(&self) -> Vec<String> {
        self.tree()
            .0
            .keys()
            .skip(1)
            .map(|path| text(path))
            .collect()
    }

    #[track_caller]
    fn at(&self, path: &str) -> &Node {
        let found = self.tree().0.get(path.as_bytes());
        found.unwrap_or_else(|| panic!("no {path} in {:?}", self.names()))
    }

    #[track_caller]
    fn assert_file(&self, path: &str, data: &str) {
        let NodeKind::File(contents) = &self.at(path).kind else {
            panic!("{path} is no file");
        };
        let wanted = crate::common::tree::Contents::of(data.as_bytes());
        assert_eq!(*contents, wanted, "{path}");
    }

    #[track_caller]
    fn assert_linked(&self, a: &str, b: &str) {
        assert_eq!(self.at(a).same_as, self.at(b).same_as, "{a} and {b}");
    }

    fn read_twice(&self) -> Vec<bool> {
        self.summary
            .layers
            .iter()
            .map(|layer| layer.read_twice)
            .collect()
    }
}

/// Layers that make a tree of one before, and that tree.
fn check(trees: &[&Things], spellings: &[crate::overlay::Spelling]) {
    let mut layers = vec![trees[0].values().cloned().collect::<Vec<_>>()];
    for (pair, spelling) in trees.windows(2).zip(spellings) {
        layers.push(difference(pair[0], pair[1], spelling));
    }
    let layers: Vec<_> = layers.iter().map(Vec::as_slice).collect();
    let one = flat_with(&layers, &options().threads(1));
    if let Some(mut shown) = one.tree.clone() {
        let files = |node: &&Node| matches!(node.kind, NodeKind::File(_));
        let count = shown.0.values().filter(files).count();
        assert_eq!(one.summary.entries.files, count as u64);
        forget_links(&mut shown);
        let differences = shown.differences(&tree_of(trees[trees.len() - 1]));
        assert!(differences.is_empty(), "\n{differences}\nof {layers:#?}");
    }
    let many = flat_with(&layers, &options().threads(4));
    assert!(one.bytes == many.bytes, "the bytes depend on the threads");
}

proptest! {
    #![proptest_config(cases(60))]

    #[test]
    fn layers_make_the_tree_that_the_last_was_made_for(
        trees in [things(), things(), things(), things()],
        spellings in [spelling(), spelling(), spelling()],
    ) {
        check(&trees.each_ref(), &spellings);
    }
}

#[test]
fn whiteouts_and_opaque_marks_take_effect_and_are_gone() {
    let lower = [
        dir("d"),
        file("d/gone", "1"),
        file("d/kept", "lower"),
        dir("o"),
        file("o/hidden", "2"),
        dir("o/sub"),
        file("o/sub/hidden", "3"),
        dir("gone"),
        file("gone/f", "4"),
        file("replaced", "lower"),
    ];
    let upper = [
        marker("d/.wh.gone"),
        file("d/new", "5"),
        dir("o"),
        file("o/sub/new", "6"),
        marker("o/.wh..wh..opq"),
        marker(".wh.gone"),
        file("replaced", "upper"),
        marker("absent/.wh.any"),
    ];
    let flat = flat(&[&lower, &upper]);
    let wanted = [
        "absent",
        "d",
        "d/kept",
        "d/new",
        "o",
        "o/sub",
        "o/sub/new",
        "replaced",
    ];
    assert_eq!(flat.names(), wanted);
    flat.assert_file("replaced", "upper");
    assert_eq!(flat.summary.entries.whiteouts, 0);
    assert_eq!(flat.summary.entries.tar_entries, 18);
    assert_eq!(flat.read_twice(), [false, false]);
}

#[test]
fn a_whiteout_hides_nothing_of_its_own_layer_wherever_it_stands() {
    let lower = [
        dir("d"),
        file("d/old", "1"),
        dir("e"),
        dir("e/s"),
        file("e/s/old", "2"),
        file("f", "old"),
    ];
    let before = [
        marker(".wh.d"),
        file("d/new", "3"),
        marker(".wh.e"),
        file("e/s/new", "4"),
        marker(".wh.f"),
        file("f", "new"),
    ];
    let mut after = before.clone();
    after.swap(0, 1);
    after.swap(2, 3);
    after.swap(4, 5);
    for upper in [before, after] {
        let flat = flat(&[&lower, &upper]);
        assert_eq!(flat.names(), ["d", "d/new", "e", "e/s", "e/s/new", "f"]);
        flat.assert_file("f", "new");
    }
}

#[test]
fn an_opaque_root_leaves_nothing_of_lower_layers() {
    let flat = flat(&[
        &[dir("a"), file("a/b", "1")],
        &[file("c", "2"), marker(".wh..wh..opq")],
    ]);
    assert_eq!(flat.names(), ["c"]);
}

#[test]
fn symbolic_links_of_lower_layers_are_followed() {
    let lower = [
        dir("usr"),
        dir("usr/lib"),
        symlink("lib", "usr/lib"),
        file("usr/lib/old", "1"),
    ];
    let middle = [file("lib/new", "middle"), file("lib/both", "middle")];
    let upper = [file("usr/lib/both", "upper"), marker("lib/.wh.old")];
    let flat = flat(&[&lower, &middle, &upper]);
    assert_eq!(
        flat.names(),
        ["lib", "usr", "usr/lib", "usr/lib/both", "usr/lib/new"]
    );
    flat.assert_file("usr/lib/new", "middle");
    flat.assert_file("usr/lib/both", "upper");
}

#[test]
fn contents_that_looked_hidden_are_read_again() {
    // By its path `lib/f` is hidden by the file `lib` of the top layer.
    let lower = [dir("usr"), symlink("lib", "usr")];
    let middle = [file("lib/f", "through the link"), file("other", "o")];
    let upper = [file("lib", "now a file")];
    let flat = flat(&[&lower, &middle, &upper]);
    assert_eq!(flat.names(), ["lib", "other", "usr", "usr/f"]);
    flat.assert_file("usr/f", "through the link");
    flat.assert_file("lib", "now a file");
    assert_eq!(flat.read_twice(), [false, true, false]);
}

#[test]
fn a_hard_link_keeps_contents_whose_first_name_is_hidden() {
    let large = "x".repeat(9000);
    let lower = [file("a", &large), link("b", "a"), file("c", "c")];
    let flat = flat(&[&lower, &[marker(".wh.a"), file("c", "new")]]);
    assert_eq!(flat.names(), ["b", "c"]);
    flat.assert_file("b", &large);
    assert_eq!(flat.read_twice(), [true, false]);
    assert_eq!(flat.summary.entries.hard_links, 0);
}

#[test]
fn hard_links_lead_into_lower_layers() {
    let lower = [
        dir("d"),
        file("d/f", "lower").mode(0o600),
        file("g", "gone"),
    ];
    let upper = [
        link("l", "d/f").mode(0o600),
        link("m", "g"),
        marker(".wh.g"),
    ];
    let flat = flat(&[&lower, &upper]);
    flat.assert_linked("l", "d/f");
    flat.assert_file("l", "lower");
    // Its target is wanted, though hidden: known before the lower layer is read.
    flat.assert_file("m", "gone");
    assert_eq!(flat.names(), ["d", "d/f", "l", "m"]);
    assert_eq!(flat.read_twice(), [false, false]);
    let error = try_flatten(
        &[Tar::of(&lower), Tar::of(&[link("l", "absent")])],
        &options(),
    );
    let error = error.unwrap_err();
    assert_eq!((error.kind(), error.layer()), (ErrorKind::Entry, Some(1)));
    assert_eq!(error.path(), Some(&b"l"[..]));
    assert!(error.to_string().starts_with("layer 2: l: "), "{error}");
}

#[test]
fn a_directory_is_as_the_topmost_layer_that_describes_it_says() {
    let lower = [
        dir("./").mode(0o711).mtime(5, 0),
        dir("d").mode(0o700).owner(1, 2).xattr("user.lower", "1"),
        dir("e").mode(0o750).xattr("user.kept", "1"),
    ];
    let upper = [
        dir("d").mode(0o755).xattr("user.upper", "2"),
        file("e/f", "x"),
    ];
    let flat = flat(&[&lower, &upper]);
    let disks = LowerDisks::new([Volume::from_bytes(flat.bytes.clone()).unwrap()]).unwrap();
    let xattrs = |path: &str| {
        let found = disks.lookup(path.as_bytes()).unwrap().unwrap();
        let names = found.metadata.xattrs.into_iter();
        names.map(|(name, _)| text(&name)).collect::<Vec<_>>()
    };
    assert_eq!((flat.at("d").mode, flat.at("d").uid), (0o755, 0));
    assert_eq!(xattrs("d"), ["user.upper"]);
    assert_eq!(flat.at("e").mode, 0o750);
    assert_eq!(xattrs("e"), ["user.kept"]);
    assert_eq!(flat.tree().0[&b""[..]].mode, 0o711);
}

#[test]
fn types_replace_each_other() {
    let lower = [
        dir("a"),
        file("a/f", "1"),
        file("b", "2"),
        symlink("c", "a"),
        dir("t"),
        dir("t/deep"),
    ];
    let upper = [
        file("a", "file now"),
        dir("b"),
        file("b/f", "3"),
        dir("c"),
        file("c/f", "4"),
        symlink("t", "b"),
    ];
    let flat = flat(&[&lower, &upper]);
    assert_eq!(flat.names(), ["a", "b", "b/f", "c", "c/f", "t"]);
    // Only within a layer is that worth a word.
    assert!(
        flat.summary.warnings.is_empty(),
        "{:?}",
        flat.summary.warnings
    );
}

#[test]
fn hidden_contents_take_no_place() {
    let data = "y".repeat(1 << 20);
    let small = flat(&[&[file("f", "1")]]);
    let hidden = flat(&[&[file("f", &data)], &[file("f", &data)], &[file("f", "1")]]);
    assert_eq!(hidden.summary.disk.blocks, small.summary.disk.blocks);
}

#[test]
fn the_identity_is_that_of_the_chain_and_the_options() {
    let layers = [Tar::of(&[file("a", "1")]), Tar::of(&[file("b", "2")])];
    let (_, one) = try_flatten(&layers, &options()).unwrap();
    let ids = one.layers.iter().map(|layer| layer.layer.digest);
    assert_eq!(one.chain_id, chain_id(ids));
    let (_, inline) = try_flatten(&layers, &options().inline_data(true)).unwrap();
    assert_eq!(inline.chain_id, one.chain_id);
    let (_, swapped) = try_flatten(&[layers[1].clone(), layers[0].clone()], &options()).unwrap();
    let (_, single) = try_flatten(&layers[..1], &options()).unwrap();
    let alone = crate::common::layer::convert(&layers[0], &options())
        .unwrap()
        .1;
    let mut uuids = vec![
        one.disk.uuid,
        inline.disk.uuid,
        swapped.disk.uuid,
        single.disk.uuid,
        alone.disk.uuid,
    ];
    uuids.sort_unstable();
    uuids.dedup();
    assert_eq!(uuids.len(), 5);
}

#[test]
fn writable_and_verity_disks_are_made_too() {
    let layers: [&[Entry]; 2] = [&[dir("d"), file("d/f", "1")], &[file("g", "2")]];
    let writable = options().writable(Writable::of_size(64 << 20).journal(true));
    let flat = flat_with(&layers, &writable);
    assert_eq!(flat.names(), ["d", "d/f", "g", "lost+found"]);
    assert_eq!(flat.bytes.len(), 64 << 20);
    let verity = options().verity(Verity::new());
    let tars = layers.map(Tar::of);
    let (_, summary) = try_flatten(&tars, &verity).unwrap();
    let tree = summary.verity.unwrap();
    assert_eq!(tree.data_blocks, summary.disk.blocks);
}

#[test]
fn a_large_sparse_file_stays_sparse() {
    let segments = vec![
        Segment::Hole(1 << 20),
        Segment::Data(vec![7; 5000]),
        Segment::Hole(1 << 20),
    ];
    let flat = flat(&[&[sparse("f", segments)], &[marker(".wh.g")]]);
    assert!(
        flat.summary.disk.blocks < 64,
        "{}",
        flat.summary.disk.blocks
    );
}

#[test]
fn warnings_and_limits_are_those_of_layers() {
    let flat = flat(&[&[file("a/f", "1")], &[file("b/f", "2"), dir("a")]]);
    let warned: Vec<_> = flat
        .summary
        .warnings
        .iter()
        .map(|w| (w.kind, text(&w.path)))
        .collect();
    assert_eq!(warned, [(WarningKind::MissingParent, "b".to_owned())]);
    let layers = [
        Tar::of(&[file("a", "1"), file("b", "2")]),
        Tar::of(&[file("c", "3")]),
    ];
    try_flatten(&layers, &options().max_entries(3)).unwrap();
    let error = try_flatten(&layers, &options().max_entries(2)).unwrap_err();
    assert_eq!((error.kind(), error.layer()), (ErrorKind::Limit, Some(1)));
    for refused in [
        options().profile(tar2vhd::Profile::Hcsshim),
        options().whiteouts(false),
        options().bottom_layer(true),
    ] {
        let error = try_flatten(&layers, &refused).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidOptions);
    }
    assert_eq!(
        try_flatten(&[], &options()).unwrap_err().kind(),
        ErrorKind::InvalidOptions
    );
}

#[test]
fn a_layer_that_is_another_one_the_second_time_is_refused() {
    let tars = [
        Tar::of(&[file("a", "first"), link("b", "a")]),
        Tar::of(&[file("a", "other"), link("b", "a")]),
    ];
    let reads = Cell::new(0);
    let changing = FlattenLayer::new(|| {
        let read = reads.replace(reads.get() + 1);
        Ok(Cursor::new(tars[read].clone()))
    });
    let upper = FlattenLayer::new(|| Ok(Cursor::new(Tar::of(&[marker(".wh.a")]))));
    let error = flatten(&[changing, upper], &MemoryDisk::new(), &options()).unwrap_err();
    assert_eq!(
        (error.kind(), error.layer()),
        (ErrorKind::Mismatch, Some(0))
    );
    assert_eq!(reads.get(), 2);
}

#[test]
fn each_opaque_mark_costs_as_much_as_it_hides() {
    // As many marks on one directory as it has names.
    const NAMES: usize = 30_000;
    let names: Vec<_> = (0..NAMES).map(|i| file(format!("d/{i}"), "")).collect();
    let lower = Tar::of(&[dir("d"), file("d/old", "1")]);
    let time = |marks: usize| {
        let marks: Vec<_> = std::iter::repeat_n(marker("d/.wh..wh..opq"), marks).collect();
        let upper = [&[dir("d")][..], &names, &marks].concat();
        let layers = [lower.clone(), Tar::of(&upper)];
        let start = Instant::now();
        let (_, summary) = try_flatten(&layers, &options()).unwrap();
        assert_eq!(summary.entries.files, NAMES as u64);
        start.elapsed()
    };
    // Were the names looked at for each mark, it would be hundreds of times as much.
    let (one, many) = (time(1), time(NAMES));
    assert!(
        many < one * 20 + Duration::from_millis(500),
        "{many:?} and {one:?}"
    );
}
