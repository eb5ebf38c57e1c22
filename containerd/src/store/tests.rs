//! The rules of containerd's metadata store, each as a test.

use std::fs::File;
use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use tonic::Code;

use super::*;

struct Fixture {
    store: Store,
    _directory: tempfile::TempDir,
}

impl std::ops::Deref for Fixture {
    type Target = Store;
    fn deref(&self) -> &Store {
        &self.store
    }
}

fn empty() -> Fixture {
    let directory = tempfile::tempdir().unwrap();
    Fixture {
        store: Store::open(&directory.path().join("metadata.redb"), false).unwrap(),
        _directory: directory,
    }
}

/// Two committed snapshots, three active ones and two views, with none, one and two below.
fn populated() -> Fixture {
    let store = empty();
    store.active("tmp-1", "");
    store.commit_plainly("tmp-1", "committed-1", 1);
    store.active("tmp-2", "committed-1");
    store.commit_plainly("tmp-2", "committed-2", 2);
    store.active("active-1", "");
    store.active("active-2", "committed-1");
    store.active("active-3", "committed-2");
    store.view("view-1", "");
    store.view("view-2", "committed-2");
    store
}

impl Fixture {
    fn make(&self, kind: Kind, key: &str, parent: &str) -> Result<Snapshot, Status> {
        let snapshot = self.create(kind, key, parent, Labels::new())?;
        self.publish(key)?;
        Ok(snapshot)
    }

    fn active(&self, key: &str, parent: &str) -> Snapshot {
        self.make(Kind::Active, key, parent).unwrap()
    }

    fn view(&self, key: &str, parent: &str) -> Snapshot {
        self.make(Kind::View, key, parent).unwrap()
    }

    fn commit_plainly(&self, key: &str, name: &str, size: u64) {
        let commit = Commit {
            name: name.to_owned(),
            usage: Usage { size, inodes: 1 },
            ..Commit::default()
        };
        self.commit(key, commit, |_| Ok(())).unwrap();
    }

    fn commit_to(&self, key: &str, name: &str, parent: &str) -> Result<(), Status> {
        let commit = Commit {
            name: name.to_owned(),
            parent: parent.to_owned(),
            ..Commit::default()
        };
        self.commit(key, commit, |_| Ok(()))
    }

    fn relabel(&self, key: &str, labels: &Labels, paths: &[String]) -> Result<Record, Status> {
        self.update(key, labels, paths, |_| Ok(()))
    }

    fn drop_snapshot(&self, key: &str) -> Result<u64, Status> {
        self.remove(key, |_| Ok(()), |_| ())
    }

    fn id(&self, key: &str) -> u64 {
        self.get(key).unwrap().record.id
    }

    fn names(&self) -> Vec<String> {
        let mut names = Vec::new();
        self.walk(|key, _| names.push(key.to_owned())).unwrap();
        names
    }
}

#[track_caller]
fn code<T: std::fmt::Debug>(result: Result<T, Status>) -> Code {
    result.unwrap_err().code()
}

fn labels(pairs: &[(&str, &str)]) -> Labels {
    let pairs = pairs.iter();
    pairs
        .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
        .collect()
}

#[test]
fn all_that_is_made_is_found() {
    let store = populated();
    let wanted = [
        ("active-1", Kind::Active, ""),
        ("active-2", Kind::Active, "committed-1"),
        ("active-3", Kind::Active, "committed-2"),
        ("committed-1", Kind::Committed, ""),
        ("committed-2", Kind::Committed, "committed-1"),
        ("view-1", Kind::View, ""),
        ("view-2", Kind::View, "committed-2"),
    ];
    for (key, kind, parent) in wanted {
        let record = store.get(key).unwrap().record;
        assert_eq!((record.kind, &record.parent[..]), (kind, parent), "{key}");
        let age = SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .unwrap()
            .as_secs()
            - record.created.seconds;
        assert!(age < 30 && record.created == record.updated);
    }
    let keys: Vec<_> = wanted.iter().map(|(key, ..)| *key).collect();
    assert_eq!(store.names(), keys);
    assert_eq!(code(store.get("absent")), Code::NotFound);
}

#[test]
fn ids_are_never_given_again_and_stay_over_a_commit() {
    let store = empty();
    let a = store.active("a", "").record.id;
    let v = store.view("v", "").record.id;
    assert_ne!(a, v);
    store.commit_plainly("a", "c", 0);
    assert_eq!(store.id("c"), a);
    assert_eq!(store.by_id(a).unwrap().key, "c");
    let b = store.active("b", "c");
    assert_eq!(b.parents, [a]);
    assert!(![a, v].contains(&b.record.id));
    store.drop_snapshot("b").unwrap();
    let again = store.active("b", "c").record.id;
    assert!(![a, v, b.record.id].contains(&again));
    assert_eq!(code(store.by_id(b.record.id)), Code::NotFound);
}

#[test]
fn keys_and_names_share_one_space() {
    let store = populated();
    for taken in ["active-1", "committed-1", "view-1"] {
        assert_eq!(
            code(store.make(Kind::Active, taken, "")),
            Code::AlreadyExists
        );
        assert_eq!(code(store.make(Kind::View, taken, "")), Code::AlreadyExists);
        assert_eq!(
            code(store.commit_to("active-2", taken, "")),
            Code::AlreadyExists
        );
    }
}

#[test]
fn a_parent_is_there_and_committed_before_a_key_matters() {
    let store = populated();
    let make = |key, parent| code(store.make(Kind::Active, key, parent));
    assert_eq!(make("new", "absent"), Code::NotFound);
    assert_eq!(make("new", "active-1"), Code::InvalidArgument);
    assert_eq!(make("new", "view-1"), Code::InvalidArgument);
    assert_eq!(make("active-1", "absent"), Code::NotFound);
    assert_eq!(make("active-1", "active-2"), Code::InvalidArgument);
    assert_eq!(make("active-1", "committed-1"), Code::AlreadyExists);
}

#[test]
fn a_commit_renames_replaces_labels_and_keeps_usage() {
    let store = empty();
    let given = labels(&[("old", "1")]);
    store.create(Kind::Active, "a", "", given).unwrap();
    store.publish("a").unwrap();
    let before = store.get("a").unwrap().record;
    let commit = Commit {
        name: "c".to_owned(),
        parent: String::new(),
        labels: labels(&[("new", "2")]),
        usage: Usage { size: 7, inodes: 3 },
        layer: Some(Layer {
            diff_id: None,
            size: 5,
            ends: 6,
        }),
    };
    let refused = store.commit("a", commit.clone(), |_| Err(Status::internal("no")));
    assert_eq!(code(refused), Code::Internal);
    assert_eq!(store.get("a").unwrap().record, before);
    let mut seen = None;
    let look = |record: &Record| {
        seen = Some(record.clone());
        Ok(())
    };
    store.commit("a", commit.clone(), look).unwrap();
    assert_eq!(code(store.get("a")), Code::NotFound);
    let record = store.get("c").unwrap().record;
    assert_eq!(seen.as_ref(), Some(&record));
    assert!(record.created >= before.created && record.created == record.updated);
    assert_eq!(
        (record.kind, record.usage, record.labels, record.layer),
        (
            Kind::Committed,
            commit.usage,
            commit.labels,
            commit.layer.clone()
        )
    );
    assert_eq!(store.view("v", "c").layers, [commit.layer]);
}

#[test]
fn a_commit_asks_for_the_name_before_the_key() {
    let store = populated();
    assert_eq!(
        code(store.commit_to("absent", "committed-1", "")),
        Code::AlreadyExists
    );
    assert_eq!(code(store.commit_to("absent", "new", "")), Code::NotFound);
    for other in ["committed-1", "view-1"] {
        assert_eq!(
            code(store.commit_to(other, "new", "")),
            Code::FailedPrecondition
        );
    }
    assert_eq!(
        code(store.commit_to("active-1", "", "")),
        Code::InvalidArgument
    );
}

#[test]
fn what_others_stand_on_stays() {
    let store = populated();
    for _ in 0..2 {
        let refused = store.drop_snapshot("committed-1").unwrap_err();
        assert_eq!(refused.code(), Code::FailedPrecondition);
        // containerd's conformance suite looks for the word.
        assert!(refused.message().contains("remove"), "{refused}");
    }
    assert_eq!(code(store.drop_snapshot("absent")), Code::NotFound);
    for key in ["active-2", "active-3", "view-2", "committed-2"] {
        let id = store.id(key);
        assert_eq!(store.drop_snapshot(key).unwrap(), id);
        assert_eq!(code(store.get(key)), Code::NotFound);
    }
    store.drop_snapshot("committed-1").unwrap();
    assert_eq!(store.names(), ["active-1", "view-1"]);
}

#[test]
fn a_removal_that_cannot_be_done_changes_nothing() {
    let store = populated();
    let refuse = |_| Err(Status::internal("no"));
    let refused = store.remove("view-2", refuse, |_| ());
    assert_eq!(code(refused), Code::Internal);
    assert_eq!(store.get("view-2").unwrap().parents.len(), 2);
    let still_held = store.drop_snapshot("committed-2");
    assert_eq!(code(still_held), Code::FailedPrecondition);
}

#[test]
fn a_removed_key_can_be_taken_by_another_kind() {
    let store = empty();
    store.active("a", "");
    store.commit_plainly("a", "committed-1", 0);
    store.active("reuse-1", "committed-1");
    store.drop_snapshot("reuse-1").unwrap();
    store.view("reuse-1", "committed-1");
    store.drop_snapshot("reuse-1").unwrap();
    store.active("reuse-1", "");
    store.drop_snapshot("committed-1").unwrap();
    store.commit_plainly("reuse-1", "committed-1", 0);
}

#[test]
fn parents_come_the_nearest_first() {
    let store = populated();
    let (one, two) = (store.id("committed-1"), store.id("committed-2"));
    for (key, wanted) in [
        ("committed-1", vec![]),
        ("committed-2", vec![one]),
        ("active-1", vec![]),
        ("active-2", vec![one]),
        ("active-3", vec![two, one]),
        ("view-1", vec![]),
        ("view-2", vec![two, one]),
    ] {
        assert_eq!(store.get(key).unwrap().parents, wanted, "{key}");
    }
}

#[test]
fn a_commit_may_bring_a_parent_where_there_is_none() {
    let store = populated();
    for (key, name, old, new, wanted) in [
        ("a-1", "c-1", "", "committed-1", Ok(())),
        ("a-2", "c-2", "committed-1", "committed-1", Ok(())),
        ("a-3", "c-3", "", "absent", Err(Code::NotFound)),
        ("a-4", "c-4", "committed-1", "", Ok(())),
        ("a-5", "c-5", "", "active-1", Err(Code::FailedPrecondition)),
        (
            "a-6",
            "c-6",
            "committed-1",
            "committed-2",
            Err(Code::InvalidArgument),
        ),
    ] {
        let id = store.active(key, old).record.id;
        let committed = store.commit_to(key, name, new).map_err(|e| e.code());
        assert_eq!(committed, wanted, "{key}");
        if committed.is_err() {
            assert_eq!(store.get(key).unwrap().record.parent, old);
            continue;
        }
        let view = store.view(&format!("{name}-view"), name);
        assert_eq!(view.parents, [id, store.id("committed-1")]);
        assert_eq!(code(store.drop_snapshot(name)), Code::FailedPrecondition);
    }
}

#[test]
fn labels_are_updated_by_path() {
    let store = populated();
    for key in ["committed-1", "active-1", "view-2"] {
        let made = store.get(key).unwrap().record;
        let all = labels(&[("l1", "v1"), ("l2", "v2"), ("l3", "v3")]);
        let updated = store.relabel(key, &all, &[]).unwrap();
        assert_eq!(updated.labels, all);
        assert!(updated.updated > made.updated && updated.created == made.created);
        assert_eq!((updated.kind, updated.parent), (made.kind, made.parent));

        let other = labels(&[("l1", "updated"), ("l3", "ignored")]);
        let paths = ["labels.l1".to_owned(), "labels.l2".to_owned()];
        let updated = store.relabel(key, &other, &paths).unwrap();
        assert_eq!(updated.labels, labels(&[("l1", "updated"), ("l3", "v3")]));

        let dotted = labels(&[("a.b/c", "d")]);
        let updated = store
            .relabel(key, &dotted, &["labels.a.b/c".to_owned()])
            .unwrap();
        assert_eq!(updated.labels["a.b/c"], "d");

        let updated = store.relabel(key, &other, &["labels".to_owned()]).unwrap();
        assert_eq!(updated.labels, other);
        assert_eq!(store.get(key).unwrap().record, updated);
        for path in ["parent", "kind", "name", "labelsX"] {
            let refused = store.relabel(key, &all, &["labels".to_owned(), path.to_owned()]);
            assert_eq!(code(refused), Code::InvalidArgument);
        }
        assert_eq!(store.get(key).unwrap().record, updated);
    }
    assert_eq!(
        code(store.relabel("absent", &Labels::new(), &[])),
        Code::NotFound
    );
}

#[test]
fn keys_and_labels_are_bounded() {
    let store = empty();
    let long = "x".repeat(KEY_MAX + 1);
    assert_eq!(
        code(store.make(Kind::Active, &long, "")),
        Code::InvalidArgument
    );
    assert_eq!(
        code(store.make(Kind::Active, "", "")),
        Code::InvalidArgument
    );
    store.active(&long[1..], "");
    let label = |len: usize| labels(&[("k", &"v".repeat(len))]);
    let full = label(LABEL_MAX - 1);
    store.create(Kind::View, "v", "", full).unwrap();
    let refused = store.create(Kind::View, "w", "", label(LABEL_MAX));
    assert_eq!(code(refused), Code::InvalidArgument);
}

#[test]
fn what_is_being_made_is_held_but_not_seen() {
    let store = populated();
    let made = store.create(Kind::Active, "half", "committed-2", Labels::new());
    let id = made.unwrap().record.id;
    assert_eq!(code(store.get("half")), Code::NotFound);
    assert_eq!(code(store.by_id(id)), Code::NotFound);
    assert_eq!(code(store.drop_snapshot("half")), Code::NotFound);
    assert_eq!(code(store.commit_to("half", "new", "")), Code::NotFound);
    assert!(!store.names().contains(&"half".to_owned()));
    assert_eq!(
        code(store.make(Kind::Active, "half", "")),
        Code::AlreadyExists
    );
    store.drop_snapshot("active-3").unwrap();
    store.drop_snapshot("view-2").unwrap();
    assert_eq!(
        code(store.drop_snapshot("committed-2")),
        Code::FailedPrecondition
    );
    store.abandon("half").unwrap();
    store.abandon("half").unwrap();
    store.drop_snapshot("committed-2").unwrap();
    store.abandon("active-1").unwrap();
    assert!(store.get("active-1").is_ok());
}

#[test]
fn recovery_gives_up_what_was_being_made() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("metadata.redb");
    let store = Store::open(&path, false).unwrap();
    store
        .create(Kind::Active, "whole", "", Labels::new())
        .unwrap();
    store.publish("whole").unwrap();
    let half = store.create(Kind::Active, "half", "", Labels::new());
    let half = half.unwrap().record.id;
    // Makes the half one durable, too.
    store
        .update("whole", &Labels::new(), &[], |_| Ok(()))
        .unwrap();
    let locked = Store::open(&path, true).unwrap_err();
    assert_eq!(locked.code(), Code::Unavailable, "{locked}");
    drop(store);
    let store = Store::open(&path, true).unwrap();
    let inventory = store.recover().unwrap();
    let whole = store.get("whole").unwrap().record.id;
    assert_eq!(inventory.snapshots.into_keys().collect::<Vec<_>>(), [whole]);
    // Its directory may be deleted, and no other.
    assert_eq!(inventory.removed, BTreeSet::from([half]));
    store.deleted(half);
    let other = store.create(Kind::View, "other", "", Labels::new());
    let other = other.unwrap().record.id;
    store.publish("other").unwrap();
    assert_eq!(store.remove("other", |_| Ok(()), |_| ()).unwrap(), other);
    assert_eq!(store.removed().unwrap(), BTreeSet::from([other]));
    assert_eq!(code(store.by_id(half)), Code::NotFound);
    let next = store
        .create(Kind::Active, "half", "", Labels::new())
        .unwrap();
    assert!(next.record.id > half);
}

/// A file that fails while it is told to.
#[derive(Debug)]
struct Failing {
    file: redb::backends::FileBackend,
    fails: Arc<AtomicBool>,
}

impl Failing {
    fn check(&self) -> io::Result<()> {
        match self.fails.load(Ordering::Relaxed) {
            true => Err(io::ErrorKind::StorageFull.into()),
            false => Ok(()),
        }
    }
}

impl redb::StorageBackend for Failing {
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.file.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.check()?;
        self.file.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.check()?;
        self.file.sync_data()
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.check()?;
        self.file.write(offset, data)
    }
}

#[test]
fn a_disk_that_was_full_is_used_again_when_it_has_room() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("metadata.redb");
    let fails = Arc::new(AtomicBool::new(false));
    let open = {
        let (path, fails) = (path.clone(), Arc::clone(&fails));
        move || {
            let file = File::options().read(true).write(true).open(&path).unwrap();
            let backend = Failing {
                file: redb::backends::FileBackend::new(file).unwrap(),
                fails: Arc::clone(&fails),
            };
            let opened = redb::Database::builder().create_with_backend(backend);
            opened.map_err(failed)
        }
    };
    drop(Store::open(&path, false).unwrap());
    let fixture = Fixture {
        store: Store::open_with(&path, false, open).unwrap(),
        _directory: directory,
    };
    let before = fixture.active("before", "");
    // Not on stable storage when the disk fails.
    let lost = fixture
        .create(Kind::Active, "lost", "", Labels::new())
        .unwrap();
    fails.store(true, Ordering::Relaxed);
    let full = fixture.publish("lost");
    assert_eq!(code(full), Code::ResourceExhausted);
    assert_eq!(code(fixture.get("before").map(drop)), Code::Unavailable);
    fails.store(false, Ordering::Relaxed);
    assert_eq!(fixture.get("before").unwrap().record.id, before.record.id);
    assert_eq!(code(fixture.publish("lost")), Code::NotFound);
    // Neither is its id given again, as its directory is still there.
    let after = fixture.active("after", "");
    assert!(after.record.id > lost.record.id);
    assert_eq!(fixture.by_id(after.record.id).unwrap().key, "after");
    assert!(fixture.by_id(before.record.id).is_ok());
    assert_eq!(code(fixture.by_id(lost.record.id)), Code::NotFound);
}

#[test]
fn an_id_that_was_seen_is_not_given() {
    let store = empty();
    store.never_again(41);
    assert_eq!(store.active("a", "").record.id, 42);
    store.never_again(7);
    assert_eq!(store.active("b", "").record.id, 43);
}

#[test]
fn pages_go_on_behind_the_last_key() {
    let store = populated();
    let mut behind: Option<String> = None;
    let mut pages = Vec::new();
    loop {
        let select = |key: &str, record: &Record| {
            let is_wanted = record.kind != Kind::View;
            is_wanted.then(|| key.to_owned())
        };
        let page = store.page(behind.as_deref(), select, |selected| selected.len() == 2);
        let (page, next) = page.unwrap();
        pages.push(page);
        let Some(next) = next else { break };
        behind = Some(next);
    }
    let wanted = [
        vec!["active-1", "active-2"],
        vec!["active-3", "committed-1"],
        vec!["committed-2"],
    ];
    assert_eq!(pages, wanted);
}
