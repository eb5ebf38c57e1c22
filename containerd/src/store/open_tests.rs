//! Files that are missing, cut, zeroed, flipped, old or of the future.
#![cfg(unix)]

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use tonic::Code;

use super::tables::VERSION;
use super::*;

struct Root {
    directory: tempfile::TempDir,
}

impl Root {
    fn new() -> Self {
        Self {
            directory: tempfile::tempdir().unwrap(),
        }
    }

    fn file(&self) -> PathBuf {
        self.directory.path().join("metadata.redb")
    }

    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(self.directory.path()).unwrap();
        let mut names: Vec<_> = entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    /// A store of 40 committed snapshots, one on the other, and one that was removed.
    fn filled() -> Self {
        let root = Self::new();
        let store = Store::open(&root.file(), false).unwrap();
        let mut parent = String::new();
        for i in 0..40 {
            let label = [("label".to_owned(), "x".repeat(100))].into();
            store
                .create(Kind::Active, &format!("key-{i}"), &parent, label)
                .unwrap();
            store.publish(&format!("key-{i}")).unwrap();
            parent = format!("name-{i}");
            let commit = Commit {
                name: parent.clone(),
                ..Commit::default()
            };
            store
                .commit(&format!("key-{i}"), commit, |_| Ok(()))
                .unwrap();
        }
        store.create(Kind::View, "view", "", Labels::new()).unwrap();
        store.publish("view").unwrap();
        store.remove("view", |_| Ok(()), |_| ()).unwrap();
        root
    }
}

/// All that a store says.
fn contents(file: &Path) -> Result<String, Status> {
    let store = Store::open(file, true)?;
    let inventory = store.recover()?;
    Ok(format!("{inventory:?}"))
}

#[test]
fn a_first_start_leaves_a_whole_file_or_none() {
    let root = Root::new();
    drop(Store::open(&root.file(), false).unwrap());
    assert_eq!(root.names(), ["metadata.redb"]);
    let made = fs::read(root.file()).unwrap();
    // A file whose making was killed before it had its name is made again.
    for len in [0, 1, 4096, made.len()] {
        let root = Root::new();
        fs::write(
            root.directory.path().join("metadata.redb.new"),
            &made[..len],
        )
        .unwrap();
        drop(Store::open(&root.file(), false).unwrap());
        assert_eq!(root.names(), ["metadata.redb"]);
    }
}

#[test]
fn what_older_releases_left_of_a_first_start_is_made_anew_when_nothing_is_beside() {
    let made = {
        let root = Root::new();
        let database = redb2::Database::create(root.file()).unwrap();
        drop(database);
        fs::read(root.file()).unwrap()
    };
    let mut unfinished = made.clone();
    unfinished[..9].fill(0);
    for (bytes, names) in [
        (vec![], vec!["metadata.redb"]),
        (vec![0; 77], vec!["metadata.redb"]),
        (vec![0; 1 << 20], vec!["metadata.redb"]),
        (
            unfinished,
            vec!["metadata.redb", "metadata.redb.unfinished-1"],
        ),
        // Killed before its first transaction.
        (made, vec!["metadata.redb", "metadata.redb.version-1-1"]),
    ] {
        let root = Root::new();
        fs::write(root.file(), &bytes).unwrap();
        let refused = Store::open(&root.file(), true).unwrap_err();
        assert_eq!(refused.code(), Code::DataLoss, "{refused}");
        assert_eq!(fs::read(root.file()).unwrap(), bytes);
        drop(Store::open(&root.file(), false).unwrap());
        assert_eq!(root.names(), names);
        drop(Store::open(&root.file(), true).unwrap());
    }
}

#[test]
fn a_file_that_is_missing_beside_snapshots_is_an_error_that_says_what_to_do() {
    let root = Root::new();
    let refused = Store::open(&root.file(), true).unwrap_err();
    assert_eq!(refused.code(), Code::DataLoss);
    let file = root.file();
    let start = format!("{} is missing. Nothing was changed.", file.display());
    assert!(refused.message().starts_with(&start), "{refused}");
    let recover = format!("recover --root {}`", root.directory.path().display());
    assert!(refused.message().contains(&recover), "{refused}");
    assert_eq!(root.names(), [""; 0]);
}

#[test]
fn something_else_is_not_overwritten() {
    for beside in [false, true] {
        let root = Root::new();
        fs::write(root.file(), "a file of somebody's").unwrap();
        let refused = Store::open(&root.file(), beside).unwrap_err();
        assert_eq!(refused.code(), Code::DataLoss, "{refused}");
        assert_eq!(fs::read(root.file()).unwrap(), b"a file of somebody's");
    }
    let root = Root::new();
    fs::create_dir(root.file()).unwrap();
    let refused = Store::open(&root.file(), false).unwrap_err();
    assert!(refused.message().contains("metadata.redb"), "{refused}");
}

/// A damage by name.
type Change = (String, Box<dyn Fn(&Path)>);

/// Opens damaged files: each says what the whole one does, or is refused by name. Returns how
/// often it was refused.
fn damaged(whole: &Path, changes: impl Iterator<Item = Change>) -> usize {
    let wanted = contents(whole).unwrap();
    let bytes = fs::read(whole).unwrap();
    let root = Root::new();
    let mut refused = 0;
    for (name, change) in changes {
        fs::write(root.file(), &bytes).unwrap();
        change(&root.file());
        let before = fs::read(root.file()).unwrap();
        match contents(&root.file()) {
            Ok(found) => assert_eq!(found, wanted, "{name}"),
            Err(status) => {
                refused += 1;
                assert!(
                    matches!(status.code(), Code::DataLoss | Code::FailedPrecondition),
                    "{name}: {status}"
                );
                let path = root.file().display().to_string();
                assert!(status.message().starts_with(&path), "{name}: {status}");
                // redb may have marked that it looked, and no more.
                let after = fs::read(root.file()).unwrap();
                assert_eq!(after.len(), before.len(), "{name}");
            }
        }
        for name in root.names() {
            fs::remove_file(root.directory.path().join(name)).unwrap();
        }
    }
    refused
}

fn flips(len: usize, count: usize) -> impl Iterator<Item = Change> {
    // The header in whole, and the rest in steps that fall on every kind of page.
    let mut state = 7_u64;
    (0..count).map(move |i| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        let at = match i % 4 {
            0 => (state >> 33) as usize % 512,
            _ => (state >> 33) as usize % len,
        };
        let bit = (state >> 20) % 8;
        let change: Box<dyn Fn(&Path)> = Box::new(move |file| {
            let file = fs::File::options()
                .read(true)
                .write(true)
                .open(file)
                .unwrap();
            // Closing it may have made the file shorter.
            let at = at as u64 % file.metadata().unwrap().len();
            let mut byte = [0];
            file.read_exact_at(&mut byte, at).unwrap();
            byte[0] ^= 1 << bit;
            file.write_all_at(&byte, at).unwrap();
        });
        (format!("bit {bit} of byte {at}"), change)
    })
}

fn cuts(len: usize, count: usize) -> impl Iterator<Item = Change> {
    (0..count).map(move |i| {
        let to = len * i / count;
        let change: Box<dyn Fn(&Path)> = Box::new(move |file| {
            let file = fs::File::options().write(true).open(file).unwrap();
            file.set_len(to as u64).unwrap();
        });
        (format!("{to} of {len} bytes"), change)
    })
}

#[test]
fn a_flipped_or_cut_file_is_refused_or_says_the_same() {
    let root = Root::filled();
    let len = fs::read(root.file()).unwrap().len();
    let refused = damaged(&root.file(), flips(len, 120));
    // Unused pages are most of a file.
    assert!(refused >= 10, "{refused}");
    let refused = damaged(&root.file(), cuts(len, 20));
    assert!(refused >= 15, "{refused}");
}

/// A store as the releases before version 2 made it.
fn old(root: &Root, version: u64, snapshots: &[(&str, &str)]) {
    let database = redb2::Database::create(root.file()).unwrap();
    let transaction = database.begin_write().unwrap();
    {
        let mut numbers = transaction
            .open_table(redb2::TableDefinition::<&str, u64>::new("numbers"))
            .unwrap();
        numbers.insert("version", version).unwrap();
        numbers.insert("last id", 90).unwrap();
        let mut table = transaction
            .open_table(redb2::TableDefinition::<&str, &[u8]>::new("snapshots"))
            .unwrap();
        let mut keys = transaction
            .open_table(redb2::TableDefinition::<u64, &str>::new("keys"))
            .unwrap();
        let mut children = transaction
            .open_multimap_table(redb2::MultimapTableDefinition::<u64, u64>::new("children"))
            .unwrap();
        for (i, (name, parent)) in snapshots.iter().enumerate() {
            let id = i as u64 + 1;
            let parent_field = match parent.is_empty() {
                true => String::new(),
                false => format!(r#""parent":"{parent}","#),
            };
            let json = format!(
                r#"{{"id":{id},"kind":"committed",{parent_field}"labels":{{"l":"{id}"}},"created":{{"seconds":1,"nanos":2}},"updated":{{"seconds":3,"nanos":4}},"usage":{{"size":5,"inodes":6}}}}"#
            );
            table.insert(*name, json.as_bytes()).unwrap();
            keys.insert(id, *name).unwrap();
            if let Some(below) = snapshots.iter().position(|(name, _)| name == parent) {
                children.insert(below as u64 + 1, id).unwrap();
            }
        }
    }
    transaction.commit().unwrap();
}

#[test]
fn a_store_of_version_1_is_migrated_and_kept() {
    let root = Root::new();
    old(&root, 1, &[("a", ""), ("b", "a"), ("c", "b")]);
    let before = fs::read(root.file()).unwrap();
    let store = Store::open(&root.file(), true).unwrap();
    let c = store.get("c").unwrap();
    assert_eq!((c.record.id, &c.parents[..]), (3, &[2, 1][..]));
    assert_eq!(c.record.labels["l"], "3");
    assert_eq!(c.record.usage, Usage { size: 5, inodes: 6 });
    let inventory = store.recover().unwrap();
    assert!(inventory.unmeasured && inventory.snapshots.len() == 3);
    let layer = Layer {
        diff_id: None,
        size: 1,
        ends: 2,
    };
    let measured = [(2, layer.clone())].into();
    store.measured(measured, &BTreeSet::from([50])).unwrap();
    let refused = store.remove("a", |_| Ok(()), |_| ()).unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition);
    let made = store.create(Kind::View, "v", "c", Labels::new()).unwrap();
    assert_eq!(made.record.id, 91);
    assert_eq!(made.layers, [None, Some(layer), None]);
    drop(store);
    assert_eq!(root.names(), ["metadata.redb", "metadata.redb.version-1-1"]);
    let kept = root.directory.path().join("metadata.redb.version-1-1");
    assert_eq!(fs::read(kept).unwrap(), before);
    let store = Store::open(&root.file(), true).unwrap();
    let inventory = store.recover().unwrap();
    assert!(!inventory.unmeasured && inventory.removed.contains(&50));
    drop(store);
    // The releases before this one cannot read it, and do no harm.
    let wanted = contents(&root.file()).unwrap();
    let old = handle::guarded(|| Ok(redb2::Database::create(root.file()).is_ok()));
    assert!(!matches!(old, Ok(true)));
    assert_eq!(contents(&root.file()).unwrap(), wanted);
}

#[test]
fn a_damaged_store_of_version_1_is_not_migrated() {
    let root = Root::new();
    let names: Vec<_> = (0..60).map(|i| format!("name-{i}")).collect();
    let snapshots: Vec<_> = (0..60)
        .map(|i| (&names[i][..], if i > 0 { &names[i - 1][..] } else { "" }))
        .collect();
    old(&root, 1, &snapshots);
    let whole = Root::new();
    fs::copy(root.file(), whole.file()).unwrap();
    let len = fs::read(root.file()).unwrap().len();
    let bytes = fs::read(whole.file()).unwrap();
    let wanted = contents(&root.file()).unwrap();
    let mut refused = 0;
    for (name, change) in flips(len.min(200_000), 30).chain(cuts(len, 5)) {
        let root = Root::new();
        fs::write(root.file(), &bytes).unwrap();
        change(&root.file());
        let before = fs::read(root.file()).unwrap();
        match contents(&root.file()) {
            Ok(found) => assert_eq!(found, wanted, "{name}"),
            Err(status) => {
                refused += 1;
                assert!(
                    status.message().contains("metadata.redb"),
                    "{name}: {status}"
                );
                assert_eq!(fs::read(root.file()).unwrap(), before, "{name}");
                assert_eq!(root.names(), ["metadata.redb"], "{name}");
            }
        }
    }
    assert!(refused >= 6, "{refused}");
}

#[test]
fn versions_of_the_future_are_refused_by_name() {
    let root = Root::new();
    old(&root, 7, &[]);
    let refused = Store::open(&root.file(), true).unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition);
    assert!(refused.message().contains("of version 7"), "{refused}");
    assert_eq!(root.names(), ["metadata.redb"]);

    let root = Root::filled();
    let database = redb::Database::open(root.file()).unwrap();
    let transaction = database.begin_write().unwrap();
    transaction
        .open_table(NUMBERS)
        .unwrap()
        .insert(VERSION, 3)
        .unwrap();
    transaction.commit().unwrap();
    drop(database);
    let refused = Store::open(&root.file(), true).unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition);
    assert!(refused.message().contains("of version 3"), "{refused}");
    assert!(damage(&root.file()).is_err());
}

#[test]
fn tables_of_different_times_are_damage() {
    type Write = fn(&WriteTransaction);
    let changes: [(&str, Write); 6] = [
        ("its checksum is wrong", |transaction| {
            let mut snapshots = transaction.open_table(SNAPSHOTS).unwrap();
            let bytes = snapshots.get("name-3").unwrap().unwrap().value().to_owned();
            snapshots.insert("name-4", &bytes[..]).unwrap();
        }),
        ("it is cut", |transaction| {
            let mut snapshots = transaction.open_table(SNAPSHOTS).unwrap();
            snapshots.insert("name-4", &b"x"[..]).unwrap();
        }),
        ("another's", |transaction| {
            let mut keys = transaction.open_table(KEYS).unwrap();
            keys.insert(3, "name-9").unwrap();
        }),
        ("that have no record", |transaction| {
            let mut keys = transaction.open_table(KEYS).unwrap();
            keys.insert(300, "name-300").unwrap();
        }),
        ("contradict each other", |transaction| {
            let mut children = transaction.open_multimap_table(CHILDREN).unwrap();
            children.insert(1, 40).unwrap();
        }),
        ("was removed", |transaction| {
            let mut removed = transaction.open_table(REMOVED).unwrap();
            removed.insert(3, ()).unwrap();
        }),
    ];
    for (wanted, change) in changes {
        let root = Root::filled();
        let database = redb::Database::open(root.file()).unwrap();
        let transaction = database.begin_write().unwrap();
        change(&transaction);
        transaction.commit().unwrap();
        drop(database);
        let refused = Store::open(&root.file(), true).unwrap_err();
        assert_eq!(refused.code(), Code::DataLoss);
        assert!(refused.message().contains(wanted), "{wanted}: {refused}");
    }
}

#[test]
fn a_record_that_is_damaged_while_the_store_is_open_is_an_error() {
    let root = Root::filled();
    let store = Store::open(&root.file(), true).unwrap();
    let write = |store: &Store| {
        store.write(|transaction| {
            let mut snapshots = transaction.open_table(SNAPSHOTS).map_err(failed)?;
            let mut bytes = snapshots
                .get("name-7")
                .map_err(failed)?
                .unwrap()
                .value()
                .to_owned();
            bytes[20] ^= 1;
            snapshots.insert("name-7", &bytes[..]).map_err(failed)?;
            Ok(())
        })
    };
    write(&store).unwrap();
    let damaged = store.get("name-7").unwrap_err();
    assert_eq!(damaged.code(), Code::DataLoss);
    assert!(damaged.message().contains("\"name-7\""), "{damaged}");
    store.get("name-6").unwrap();
}

#[test]
fn a_panic_of_redb_is_an_error_and_the_file_is_opened_anew() {
    let root = Root::filled();
    let store = Store::open(&root.file(), true).unwrap();
    let panicked = store.read::<()>(|_| panic!("a page that cannot be"));
    let status = panicked.unwrap_err();
    assert_eq!(status.code(), Code::DataLoss);
    assert!(
        status.message().contains("a page that cannot be"),
        "{status}"
    );
    store.get("name-7").unwrap();
    // In the middle of a write, too.
    let panicked = store.write::<()>(|transaction| {
        let mut snapshots = transaction.open_table(SNAPSHOTS).map_err(failed)?;
        snapshots.remove("name-39").map_err(failed)?;
        panic!("at a bad time")
    });
    assert_eq!(panicked.unwrap_err().code(), Code::DataLoss);
    store.get("name-39").unwrap();
}
