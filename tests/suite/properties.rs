//! Random layers against the model of [`common::model`](crate::common::model).

use std::collections::BTreeSet;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use tar2vhd::Options;
use tar2vhd::lower::{LowerDisks, LowerEntry, LowerKind, LowerLayers, LowerMetadata};

use crate::common::entry::{Entry, Segment, file, sparse};
use crate::common::layer::{Image, convert, image, options};
use crate::common::model::{self, Outcome, Settings};
use crate::common::random::{cases, layer, shifting_layer};
use crate::common::tar::{Long, Sparse, Tar};
use crate::common::tree::{NodeKind, Tree, text};
use crate::common::{oracle, view};

/// A tree as what the layers below hold.
pub(crate) struct LowerTree(pub(crate) Tree);

impl LowerLayers for LowerTree {
    fn lookup(&self, path: &[u8]) -> std::io::Result<Option<LowerEntry>> {
        Ok(self.0.0.get(path).map(|node| {
            let (seconds, nanos) = node.mtime;
            let mut metadata =
                LowerMetadata::new(node.mode as u16, node.uid, node.gid).mtime(seconds, nanos);
            for (name, value) in node.xattrs.iter().flatten() {
                metadata = metadata.xattr(name.as_slice(), value.as_slice());
            }
            let kind = match &node.kind {
                NodeKind::Dir => LowerKind::Directory,
                NodeKind::Symlink(target) => LowerKind::Symlink(target.clone()),
                NodeKind::File(contents) => LowerKind::File(contents.size),
                NodeKind::Char(Some((major, minor))) => LowerKind::CharDevice {
                    major: *major,
                    minor: *minor,
                },
                NodeKind::Block(Some((major, minor))) => LowerKind::BlockDevice {
                    major: *major,
                    minor: *minor,
                },
                NodeKind::Fifo => LowerKind::Fifo,
                _ => LowerKind::Other,
            };
            LowerEntry::new(kind, metadata)
        }))
    }
}

fn encode(entries: &[Entry], form: (Sparse, Long)) -> Vec<u8> {
    let tar = Tar::new().sparse(form.0).long(form.1);
    entries
        .iter()
        .fold(tar, |tar, entry| tar.add(entry))
        .finish()
}

fn forms() -> impl Strategy<Value = (Sparse, Long)> {
    let sparse = [
        Sparse::Full,
        Sparse::Gnu,
        Sparse::Pax00,
        Sparse::Pax01,
        Sparse::Pax10,
    ];
    let long = [Long::Pax, Long::Gnu, Long::Solaris];
    (select(sparse.to_vec()), select(long.to_vec()))
}

/// What the model refuses is refused; without the entries to blame it is converted, and what
/// comes out is the model's tree.
fn check(mut entries: Vec<Entry>, form: (Sparse, Long), settings: Settings<'_>, options: &Options) {
    let outcome = loop {
        match model::apply(&entries, settings) {
            Ok(outcome) => break outcome,
            Err(refused) => {
                let converted = convert(&encode(&entries, form), options);
                assert!(converted.is_err(), "accepted although: {}", refused.why);
                entries.remove(refused.entry);
            }
        }
    };
    let tar = encode(&entries, form);
    assert_outcome(&image(&tar, options), &outcome);
}

fn assert_outcome(image: &Image, outcome: &Outcome) {
    if image.is_readable() {
        let differences = image.tree().differences(&outcome.tree);
        assert!(differences.is_empty(), "\n{differences}");
    }
    let warnings: BTreeSet<_> = image.summary.warnings.iter().map(|w| w.kind).collect();
    assert_eq!(warnings, outcome.warnings, "{:?}", image.summary.warnings);
    let nodes = &outcome.tree.0;
    let count =
        |is: &dyn Fn(&NodeKind) -> bool| nodes.values().filter(|n| is(&n.kind)).count() as u64;
    let counts = image.summary.entries;
    assert_eq!(counts.directories, count(&|k| *k == NodeKind::Dir));
    assert_eq!(
        counts.fifos,
        count(&|k| *k == NodeKind::Fifo) - links(nodes, &NodeKind::Fifo)
    );
    let names = nodes.len() as u64;
    let all = [
        counts.files,
        counts.directories,
        counts.symlinks,
        counts.hard_links,
        counts.devices,
        counts.fifos,
        counts.whiteouts,
    ];
    assert_eq!(all.iter().sum::<u64>(), names, "{counts:?}");
}

/// Names of this kind beyond the first of their inode.
fn links(
    nodes: &std::collections::BTreeMap<Vec<u8>, crate::common::tree::Node>,
    kind: &NodeKind,
) -> u64 {
    let later = |(path, node): &(&Vec<u8>, &crate::common::tree::Node)| {
        node.kind == *kind && node.same_as.as_ref() != Some(*path)
    };
    nodes.iter().filter(later).count() as u64
}

proptest! {
    #![proptest_config(cases(300))]

    #[test]
    fn a_layer_becomes_what_the_model_says(entries in layer(30), form in forms()) {
        check(entries, form, Settings::default(), &options().threads(1));
    }
}

proptest! {
    #![proptest_config(cases(600))]

    #[test]
    fn hard_links_find_their_targets_wherever_paths_lead_meanwhile(
        entries in shifting_layer(24),
    ) {
        let form = (Sparse::Full, Long::Pax);
        check(entries, form, Settings::default(), &options().threads(1));
    }
}

proptest! {
    #![proptest_config(cases(60))]

    #[test]
    fn a_layer_of_plain_names_becomes_what_the_model_says(entries in layer(30), form in forms()) {
        let settings = Settings { plain: true, ..Settings::default() };
        check(entries, form, settings, &options().whiteouts(false).inline_data(true));
    }

    #[test]
    fn a_bottom_layer_becomes_what_the_model_says(entries in layer(30), form in forms()) {
        let settings = Settings { bottom: true, ..Settings::default() };
        check(entries, form, settings, &options().bottom_layer(true).keep_zeros(true));
    }

    #[test]
    fn hard_links_lead_into_the_layers_below(
        below in shifting_layer(16),
        entries in shifting_layer(16),
    ) {
        let bottom = Settings { bottom: true, ..Settings::default() };
        let form = (Sparse::Full, Long::Pax);
        let mut below = below;
        let lower = loop {
            match model::apply(&below, bottom) {
                Ok(outcome) => break outcome,
                Err(refused) => drop(below.remove(refused.entry)),
            }
        };
        let disk = image(&encode(&below, form), &options().bottom_layer(true));
        let disks = LowerDisks::open([disk.path()]).unwrap();
        let settings = Settings { lower: Some(&lower.tree), ..Settings::default() };
        check(entries, form, settings, &options().threads(1).lower_layers(disks));
    }

    #[test]
    fn a_layer_over_others_becomes_what_the_model_says(
        below in layer(20),
        entries in layer(20),
        form in forms(),
    ) {
        let Ok(lower) = model::apply(&below, Settings { bottom: true, ..Settings::default() }) else {
            return Ok(());
        };
        let settings = Settings { lower: Some(&lower.tree), ..Settings::default() };
        let disk = image(&encode(&below, form), &options().bottom_layer(true));
        let disks = LowerDisks::open([disk.path()]).unwrap();
        check(entries, form, settings, &options().threads(1).lower_layers(disks));
    }
}

proptest! {
    #![proptest_config(cases(12))]

    #[test]
    fn every_name_of_a_large_directory_is_found(
        names in vec((vec(any::<u8>(), 1..60), 1_usize..240), 1..4000),
    ) {
        let mut unique = BTreeSet::new();
        for (mut name, len) in names {
            name.retain(|b| !b"/\0.".contains(b));
            if !name.is_empty() {
                name.resize(name.len().max(len.min(name.len() * 8)), b'x');
                unique.insert(name);
            }
        }
        let entries: Vec<_> = unique.iter().map(|name| file([b"d/", &name[..]].concat(), "")).collect();
        let image = image(&Tar::of(&entries), &options().whiteouts(false));
        let tree = image.tree();
        prop_assert_eq!(tree.0.len(), unique.len() + if unique.is_empty() { 1 } else { 2 });
        for name in &unique {
            let path = [b"d/", &name[..]].concat();
            prop_assert!(tree.0.contains_key(&path), "{}", text(&path));
        }
        let lower = LowerDisks::open([image.path()]).unwrap();
        for name in &unique {
            let found = lower.lookup(&[b"d/", &name[..]].concat()).unwrap();
            prop_assert_eq!(found.map(|entry| entry.kind), Some(LowerKind::File(0)), "{}", text(name));
        }
        prop_assert_eq!(lower.lookup(b"d/.absent").unwrap(), None);
        if let Some(copy) = oracle::rebuilt_directories(image.path()) {
            let mut rebuilt = view::read(&std::fs::read(&copy).unwrap()).unwrap();
            rebuilt.0.remove(&b"lost+found"[..]);
            prop_assert!(rebuilt.0.keys().eq(tree.0.keys()));
        }
    }

    #[test]
    fn sparse_files_of_any_shape_keep_their_bytes(
        pieces in vec((0_u64..100, 1_usize..9000, 1_u8..=255), 1..400),
        far in any::<bool>(),
        form in forms(),
    ) {
        let mut segments = Vec::new();
        for (hole, len, byte) in pieces {
            if hole > 0 {
                let unit = if far { 64 << 20 } else { 2048 };
                segments.push(Segment::Hole(hole * unit));
            }
            match segments.last_mut() {
                Some(Segment::Data(data)) => data.extend(vec![byte; len]),
                _ => segments.push(Segment::Data(vec![byte; len])),
            }
        }
        // Written out it would be as large as it says.
        let form = (if far && form.0 == Sparse::Full { Sparse::Gnu } else { form.0 }, form.1);
        let entries = [sparse("f", segments)];
        let image = image(&encode(&entries, form), &options());
        let wanted = model::apply(&entries, Settings::default()).unwrap().tree;
        let tree = if far { image.kernel_tree() } else { Some(image.tree().clone()) };
        if let Some(tree) = tree {
            let differences = tree.differences(&wanted);
            prop_assert!(differences.is_empty(), "\n{}", differences);
        }
    }
}
