//! The metadata of snapshots, in an embedded transactional store.
//!
//! redb, because it commits atomically and durably, lets readers go on beside a writer,
//! locks its file against a second process, and is a Rust crate without C behind it.
//!
//! The rules are those of containerd's own snapshotters (core/snapshots/storage/bolt.go):
//! keys of active snapshots and views and names of committed ones share one space; the id of
//! a snapshot, which names its directory, is never given again and stays over a commit. A crash
//! may lose that an id was given, but not the directory, by which [`Store::never_again`] is told.
//!
//! redb holds pages against their checksums at the start alone, so every record carries one of
//! its own, which each read checks.

mod build;
mod check;
mod files;
mod handle;
mod migrate;
mod open;
#[cfg(test)]
mod open_tests;
mod record;
mod tables;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

use redb::{
    Database, Durability, ReadTransaction, ReadableDatabase, ReadableMultimapTable, ReadableTable,
    WriteTransaction,
};
use tonic::Status;

use handle::Handle;
pub(crate) use record::{Kind, Layer, Record, Time, Usage};
use tables::{CHILDREN, KEYS, LAST_ID, NUMBERS, REMOVED, SNAPSHOTS, UNMEASURED, failed, put};

type Labels = BTreeMap<String, String>;

/// The most bytes of a key: names come from containerd, which keeps them in keys of its own
/// store, of at most this length.
const KEY_MAX: usize = 32_768;
/// The most bytes of a label, key and value together, as containerd's API says.
const LABEL_MAX: usize = 4096;

/// A snapshot that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Snapshot {
    /// Its key, or its name once it is committed.
    pub(crate) key: String,
    pub(crate) record: Record,
    /// Ids of the snapshots below, the nearest first.
    pub(crate) parents: Vec<u64>,
    /// The disks that those were committed with, in the same order.
    pub(crate) layers: Vec<Option<Layer>>,
}

/// How an active snapshot is committed.
#[derive(Clone, Debug, Default)]
pub(crate) struct Commit {
    pub(crate) name: String,
    /// Given to a snapshot that has none.
    pub(crate) parent: String,
    /// Replace those it has.
    pub(crate) labels: Labels,
    pub(crate) usage: Usage,
    pub(crate) layer: Option<Layer>,
}

/// The snapshots of a store when it is opened.
#[derive(Debug, Default)]
pub(crate) struct Inventory {
    pub(crate) snapshots: BTreeMap<u64, (String, Record)>,
    /// Ids of what was removed and may not be deleted yet.
    pub(crate) removed: BTreeSet<u64>,
    /// Whether what is committed is yet to be measured.
    pub(crate) unmeasured: bool,
}

/// A part of a list, and the key behind which the next one begins.
pub(crate) type Page<T> = (Vec<T>, Option<String>);

/// The store. Every call is one transaction, and blocks.
#[derive(Debug)]
pub(crate) struct Store {
    database: Handle,
    /// The last id that was given or seen. What the file says of it may be lost in a crash, or
    /// when the file fails.
    last_id: AtomicU64,
    /// Ids whose directories are deleted, which the next removal takes from its list.
    deleted: Mutex<Vec<u64>>,
}

impl Store {
    /// Opens the store in a file. It is made if it is absent, unless there are snapshots
    /// `beside` it: then it is lost.
    pub(crate) fn open(file: &Path, beside: bool) -> Result<Self, Status> {
        let first = Mutex::new(Some(open::open(file, beside)?));
        let path = file.to_owned();
        let store = Self::open_with(file, beside, move || {
            let mut first = first.lock().unwrap_or_else(PoisonError::into_inner);
            match first.take() {
                Some(database) => Ok(database),
                None => open::open_again(&path),
            }
        })?;
        store.check(file)?;
        Ok(store)
    }

    fn open_with(
        file: &Path,
        beside: bool,
        open: impl Fn() -> Result<Database, Status> + Send + Sync + 'static,
    ) -> Result<Self, Status> {
        let store = Self {
            database: Handle::open(open)?,
            last_id: AtomicU64::new(0),
            deleted: Mutex::default(),
        };
        store
            .database
            .with(|database| open::check_version(file, database, beside))?;
        Ok(store)
    }

    fn write<T>(
        &self,
        change: impl FnOnce(&WriteTransaction) -> Result<T, Status>,
    ) -> Result<T, Status> {
        self.write_with(Durability::Immediate, change)
    }

    fn write_with<T>(
        &self,
        durability: Durability,
        change: impl FnOnce(&WriteTransaction) -> Result<T, Status>,
    ) -> Result<T, Status> {
        self.database.with(|database| {
            let mut transaction = database.begin_write().map_err(failed)?;
            transaction.set_durability(durability).map_err(failed)?;
            build::keep_whole(&mut transaction);
            let changed = change(&transaction)?;
            transaction.commit().map_err(failed)?;
            Ok(changed)
        })
    }

    fn read<T>(
        &self,
        look: impl FnOnce(&ReadTransaction) -> Result<T, Status>,
    ) -> Result<T, Status> {
        self.database
            .with(|database| look(&database.begin_read().map_err(failed)?))
    }

    /// Takes a key and an id for a snapshot that is being made: nobody sees it until
    /// [`publish`](Self::publish), but the key is taken and the parent held.
    ///
    /// That is not waited for to be on stable storage: what a crash leaves of it is a
    /// directory that nothing knows of.
    pub(crate) fn create(
        &self,
        kind: Kind,
        key: &str,
        parent: &str,
        labels: Labels,
    ) -> Result<Snapshot, Status> {
        check_key(key)?;
        let labels = check_labels(labels)?;
        self.write_with(Durability::None, |transaction| {
            let mut snapshots = transaction.open_table(SNAPSHOTS).map_err(failed)?;
            let (mut parents, mut layers) = (Vec::new(), Vec::new());
            if !parent.is_empty() {
                let below = get(&snapshots, parent)?
                    .ok_or_else(|| not_found(format!("the parent {parent:?}")))?;
                if below.kind != Kind::Committed {
                    return Err(Status::invalid_argument(format!(
                        "the parent {parent:?} is not a committed snapshot"
                    )));
                }
                (parents, layers) = chain(&snapshots, below)?;
            }
            if snapshots.get(key).map_err(failed)?.is_some() {
                return Err(exists(key));
            }
            let mut numbers = transaction.open_table(NUMBERS).map_err(failed)?;
            let last = numbers.get(LAST_ID).map_err(failed)?;
            let last = last.map_or(0, |last| last.value());
            let id = last.max(self.last_id.load(Ordering::Relaxed)) + 1;
            self.never_again(id);
            numbers.insert(LAST_ID, id).map_err(failed)?;
            let now = SystemTime::now().into();
            let record = Record {
                id,
                kind,
                parent: parent.to_owned(),
                labels,
                created: now,
                updated: now,
                usage: Usage::default(),
                layer: None,
                unfinished: true,
            };
            put(&mut snapshots, key, &record)?;
            let mut keys = transaction.open_table(KEYS).map_err(failed)?;
            keys.insert(id, key).map_err(failed)?;
            if let Some(below) = parents.first() {
                let mut children = transaction.open_multimap_table(CHILDREN).map_err(failed)?;
                children.insert(below, id).map_err(failed)?;
            }
            Ok(Snapshot {
                key: key.to_owned(),
                record,
                parents,
                layers,
            })
        })
    }

    /// Lets everybody see a snapshot that is made now.
    pub(crate) fn publish(&self, key: &str) -> Result<(), Status> {
        self.write(|transaction| {
            let mut snapshots = transaction.open_table(SNAPSHOTS).map_err(failed)?;
            let mut record =
                get(&snapshots, key)?.ok_or_else(|| not_found(format!("{key:?}, just made,")))?;
            record.unfinished = false;
            put(&mut snapshots, key, &record)
        })
    }

    /// Gives up a snapshot that could not be made.
    pub(crate) fn abandon(&self, key: &str) -> Result<(), Status> {
        self.write(|transaction| {
            let mut snapshots = transaction.open_table(SNAPSHOTS).map_err(failed)?;
            match get(&snapshots, key)? {
                Some(record) if record.unfinished => {
                    delete(transaction, &mut snapshots, key, &record)
                }
                _ => Ok(()),
            }
        })
    }

    /// An id that is not to be given any more.
    pub(crate) fn never_again(&self, id: u64) {
        self.last_id.fetch_max(id, Ordering::Relaxed);
    }

    /// A snapshot of any kind.
    pub(crate) fn get(&self, key: &str) -> Result<Snapshot, Status> {
        self.read(|transaction| found(transaction, key))
    }

    /// A snapshot by its id.
    pub(crate) fn by_id(&self, id: u64) -> Result<Snapshot, Status> {
        self.read(|transaction| {
            let keys = transaction.open_table(KEYS).map_err(failed)?;
            let key = keys.get(id).map_err(failed)?;
            let key = key.ok_or_else(|| not_found(format!("a snapshot with the id {id}")))?;
            let snapshot = found(transaction, key.value())?;
            match snapshot.record.id == id {
                true => Ok(snapshot),
                false => Err(Status::data_loss(format!(
                    "the metadata: {:?} has the id {}, not {id}",
                    snapshot.key, snapshot.record.id
                ))),
            }
        })
    }

    /// Ids of what was removed and may not be deleted yet.
    pub(crate) fn removed(&self) -> Result<BTreeSet<u64>, Status> {
        self.read(|transaction| {
            let removed = transaction.open_table(REMOVED).map_err(failed)?;
            let ids = removed.iter().map_err(failed)?;
            ids.map(|entry| entry.map(|(id, _)| id.value()))
                .collect::<Result<_, _>>()
                .map_err(failed)
        })
    }

    /// Notes that nothing is left of what was removed.
    pub(crate) fn deleted(&self, id: u64) {
        let mut deleted = self.deleted.lock().unwrap_or_else(PoisonError::into_inner);
        deleted.push(id);
    }

    /// Calls back for every snapshot, in the order of keys and names.
    pub(crate) fn walk(&self, mut visit: impl FnMut(&str, &Record)) -> Result<(), Status> {
        self.read(|transaction| {
            let snapshots = transaction.open_table(SNAPSHOTS).map_err(failed)?;
            for entry in snapshots.iter().map_err(failed)? {
                let (key, bytes) = entry.map_err(failed)?;
                let record = Record::from_bytes(key.value(), bytes.value())?;
                if !record.unfinished {
                    visit(key.value(), &record);
                }
            }
            Ok(())
        })
    }

    /// Maps the snapshots behind a key by `select`, in the order of keys and names, until
    /// `enough` is true of it.
    ///
    /// Each part is a transaction of its own: a reader that is slow holds up nothing.
    pub(crate) fn page<T>(
        &self,
        behind: Option<&str>,
        mut select: impl FnMut(&str, &Record) -> Option<T>,
        mut enough: impl FnMut(&[T]) -> bool,
    ) -> Result<Page<T>, Status> {
        self.read(|transaction| {
            let snapshots = transaction.open_table(SNAPSHOTS).map_err(failed)?;
            let from = behind.map_or(Bound::Unbounded, Bound::Excluded);
            let range = snapshots
                .range::<&str>((from, Bound::Unbounded))
                .map_err(failed)?;
            let mut selected = Vec::new();
            for entry in range {
                let (key, bytes) = entry.map_err(failed)?;
                let record = Record::from_bytes(key.value(), bytes.value())?;
                if !record.unfinished {
                    selected.extend(select(key.value(), &record));
                }
                if enough(&selected) {
                    return Ok((selected, Some(key.value().to_owned())));
                }
            }
            Ok((selected, None))
        })
    }

    /// Turns an active snapshot into a committed one of another name. `before` gets the new
    /// record and has a last say before the transaction is committed.
    pub(crate) fn commit(
        &self,
        key: &str,
        commit: Commit,
        before: impl FnOnce(&Record) -> Result<(), Status>,
    ) -> Result<(), Status> {
        let (name, parent) = (&commit.name[..], &commit.parent[..]);
        check_key(name)?;
        let labels = check_labels(commit.labels)?;
        self.write(|transaction| {
            let mut snapshots = transaction.open_table(SNAPSHOTS).map_err(failed)?;
            if snapshots.get(name).map_err(failed)?.is_some() {
                return Err(exists(name));
            }
            let mut record = finished(&snapshots, key)?;
            if record.kind != Kind::Active {
                return Err(Status::failed_precondition(format!(
                    "the snapshot {key:?} is not active"
                )));
            }
            let rebased = record.parent.is_empty() && !parent.is_empty();
            if !rebased && !parent.is_empty() && parent != record.parent {
                return Err(Status::invalid_argument(format!(
                    "the snapshot {key:?} has another parent already: {:?}",
                    record.parent
                )));
            }
            if rebased {
                let below = get(&snapshots, parent)?
                    .ok_or_else(|| not_found(format!("the parent {parent:?}")))?;
                if below.kind != Kind::Committed {
                    return Err(Status::failed_precondition(format!(
                        "the parent {parent:?} is not a committed snapshot"
                    )));
                }
                parent.clone_into(&mut record.parent);
                let mut children = transaction.open_multimap_table(CHILDREN).map_err(failed)?;
                children.insert(below.id, record.id).map_err(failed)?;
            }
            record.kind = Kind::Committed;
            record.labels = labels;
            record.usage = commit.usage;
            record.layer = commit.layer;
            record.created = SystemTime::now().into();
            record.updated = record.created;
            snapshots.remove(key).map_err(failed)?;
            put(&mut snapshots, name, &record)?;
            let mut keys = transaction.open_table(KEYS).map_err(failed)?;
            keys.insert(record.id, name).map_err(failed)?;
            before(&record)
        })
    }

    /// Removes a snapshot nothing stands on. `while_held` gets its id and has a last say
    /// before the transaction is committed; `undo` takes back what that did if the commit
    /// fails.
    pub(crate) fn remove(
        &self,
        key: &str,
        while_held: impl FnOnce(u64) -> Result<(), Status>,
        undo: impl FnOnce(u64),
    ) -> Result<u64, Status> {
        self.database.with(|database| {
            let mut transaction = database.begin_write().map_err(failed)?;
            build::keep_whole(&mut transaction);
            let (id, forgotten) = {
                let mut snapshots = transaction.open_table(SNAPSHOTS).map_err(failed)?;
                let record = finished(&snapshots, key)?;
                let children = transaction.open_multimap_table(CHILDREN).map_err(failed)?;
                if !children.get(record.id).map_err(failed)?.is_empty() {
                    return Err(Status::failed_precondition(format!(
                        "cannot remove the snapshot {key:?}: other snapshots stand on it"
                    )));
                }
                drop(children);
                delete(&transaction, &mut snapshots, key, &record)?;
                let mut removed = transaction.open_table(REMOVED).map_err(failed)?;
                let deleted = self.deleted.lock().unwrap_or_else(PoisonError::into_inner);
                for id in deleted.iter() {
                    removed.remove(id).map_err(failed)?;
                }
                removed.insert(record.id, ()).map_err(failed)?;
                (record.id, deleted.len())
            };
            while_held(id)?;
            transaction.commit().map_err(|e| {
                undo(id);
                failed(e)
            })?;
            let mut deleted = self.deleted.lock().unwrap_or_else(PoisonError::into_inner);
            deleted.drain(..forgotten);
            Ok(id)
        })
    }

    /// Replaces labels: all of them, or by paths of the form `labels` and `labels.KEY` what
    /// they name. A label without a value is none. `before` gets the new record and has a last
    /// say before the transaction is committed.
    pub(crate) fn update(
        &self,
        key: &str,
        labels: &Labels,
        paths: &[String],
        before: impl FnOnce(&Record) -> Result<(), Status>,
    ) -> Result<Record, Status> {
        self.write(|transaction| {
            let mut snapshots = transaction.open_table(SNAPSHOTS).map_err(failed)?;
            let mut record = finished(&snapshots, key)?;
            if paths.is_empty() {
                record.labels.clone_from(labels);
            }
            for path in paths {
                if path == "labels" {
                    record.labels.clone_from(labels);
                } else if let Some(label) = path.strip_prefix("labels.") {
                    let value = labels.get(label).cloned().unwrap_or_default();
                    record.labels.insert(label.to_owned(), value);
                } else {
                    return Err(Status::invalid_argument(format!(
                        "the field {path:?} of a snapshot cannot be updated"
                    )));
                }
            }
            record.labels = check_labels(record.labels)?;
            record.updated = SystemTime::now().into();
            put(&mut snapshots, key, &record)?;
            before(&record)?;
            Ok(record)
        })
    }

    /// Gives up everything that was being made when the process ended: its directories are to
    /// be removed. Returns what there is.
    pub(crate) fn recover(&self) -> Result<Inventory, Status> {
        self.write(|transaction| {
            let mut snapshots = transaction.open_table(SNAPSHOTS).map_err(failed)?;
            let mut removed = transaction.open_table(REMOVED).map_err(failed)?;
            let numbers = transaction.open_table(NUMBERS).map_err(failed)?;
            let unmeasured = numbers.get(UNMEASURED).map_err(failed)?;
            let mut inventory = Inventory {
                unmeasured: unmeasured.is_some_and(|flag| flag.value() != 0),
                ..Inventory::default()
            };
            let mut unfinished = Vec::new();
            for entry in snapshots.iter().map_err(failed)? {
                let (key, bytes) = entry.map_err(failed)?;
                let record = Record::from_bytes(key.value(), bytes.value())?;
                let snapshot = (key.value().to_owned(), record);
                match snapshot.1.unfinished {
                    true => unfinished.push(snapshot),
                    false => {
                        inventory.snapshots.insert(snapshot.1.id, snapshot);
                    }
                }
            }
            for (key, record) in unfinished {
                delete(transaction, &mut snapshots, &key, &record)?;
                removed.insert(record.id, ()).map_err(failed)?;
            }
            for entry in removed.iter().map_err(failed)? {
                let (id, _) = entry.map_err(failed)?;
                inventory.removed.insert(id.value());
            }
            Ok(inventory)
        })
    }

    /// Names directories that wait to be deleted, after a migration.
    pub(crate) fn measured(
        &self,
        layers: BTreeMap<u64, Layer>,
        removed: &BTreeSet<u64>,
    ) -> Result<(), Status> {
        self.write(|transaction| {
            let mut snapshots = transaction.open_table(SNAPSHOTS).map_err(failed)?;
            let keys = transaction.open_table(KEYS).map_err(failed)?;
            for (id, layer) in layers {
                let Some(key) = keys.get(id).map_err(failed)? else {
                    continue;
                };
                let mut record = finished(&snapshots, key.value())?;
                record.layer = Some(layer);
                put(&mut snapshots, key.value(), &record)?;
            }
            let mut waiting = transaction.open_table(REMOVED).map_err(failed)?;
            for id in removed {
                waiting.insert(id, ()).map_err(failed)?;
            }
            let mut numbers = transaction.open_table(NUMBERS).map_err(failed)?;
            numbers.remove(UNMEASURED).map_err(failed)?;
            Ok(())
        })
    }

    /// Takes in snapshots that directories tell of: each parent comes before its children.
    pub(crate) fn adopt(&self, snapshots: &[(String, Record)]) -> Result<(), Status> {
        self.write(|transaction| {
            for (key, record) in snapshots {
                let parent = match &record.parent[..] {
                    "" => None,
                    parent => {
                        let table = transaction.open_table(SNAPSHOTS).map_err(failed)?;
                        Some(finished(&table, parent)?.id)
                    }
                };
                build::insert(transaction, key, record, parent)?;
            }
            Ok(())
        })
    }
}

/// Whether the file at this path is lost, or only cannot be used now; `None` if it is whole.
/// Changes the file only where a crash left it to be repaired.
pub(crate) fn damage(file: &Path) -> Result<Option<Status>, Status> {
    match Store::open(file, true) {
        Ok(_) => Ok(None),
        Err(status) if status.code() == tonic::Code::DataLoss => Ok(Some(status)),
        Err(status) => Err(status),
    }
}

/// Makes a new store of these snapshots in place of what is moved aside by `replace`, which is
/// called when the new one is whole.
pub(crate) fn rebuild(
    file: &Path,
    snapshots: &[(String, Record)],
    last_id: u64,
    replace: impl FnOnce() -> Result<(), Status>,
) -> Result<(), Status> {
    let ids: BTreeMap<_, _> = snapshots
        .iter()
        .map(|(key, record)| (&key[..], record.id))
        .collect();
    build::build(file, replace, |transaction| {
        for (key, record) in snapshots {
            build::insert(
                transaction,
                key,
                record,
                ids.get(&record.parent[..]).copied(),
            )?;
        }
        let mut numbers = transaction.open_table(NUMBERS).map_err(failed)?;
        numbers.insert(LAST_ID, last_id).map_err(failed)?;
        Ok(())
    })
}

/// Where a file of the store is moved that is not used any more.
pub(crate) fn aside(file: &Path) -> PathBuf {
    files::free_name(file, "damaged")
}

fn not_found(what: String) -> Status {
    Status::not_found(format!("{what} does not exist"))
}

fn exists(key: &str) -> Status {
    Status::already_exists(format!("the snapshot {key:?} exists"))
}

fn check_key(key: &str) -> Result<(), Status> {
    match key.len() {
        0 => Err(Status::invalid_argument("a snapshot needs a key")),
        1..=KEY_MAX => Ok(()),
        _ => Err(Status::invalid_argument(format!(
            "a key of more than {KEY_MAX} bytes"
        ))),
    }
}

/// Without those that are empty, which containerd drops, too.
fn check_labels(mut labels: Labels) -> Result<Labels, Status> {
    if let Some((key, _)) = labels.iter().find(|(k, v)| k.len() + v.len() > LABEL_MAX) {
        let start: String = key.chars().take(64).collect();
        return Err(Status::invalid_argument(format!(
            "the label {start:?} has more than {LABEL_MAX} bytes"
        )));
    }
    labels.retain(|_, value| !value.is_empty());
    Ok(labels)
}

fn get(
    snapshots: &impl ReadableTable<&'static str, &'static [u8]>,
    key: &str,
) -> Result<Option<Record>, Status> {
    match snapshots.get(key).map_err(failed)? {
        None => Ok(None),
        Some(bytes) => Record::from_bytes(key, bytes.value()).map(Some),
    }
}

fn finished(
    snapshots: &impl ReadableTable<&'static str, &'static [u8]>,
    key: &str,
) -> Result<Record, Status> {
    get(snapshots, key)?
        .filter(|record| !record.unfinished)
        .ok_or_else(|| not_found(format!("the snapshot {key:?}")))
}

fn found(transaction: &ReadTransaction, key: &str) -> Result<Snapshot, Status> {
    let snapshots = transaction.open_table(SNAPSHOTS).map_err(failed)?;
    let record = finished(&snapshots, key)?;
    let (parents, layers) = parents(&snapshots, &record)?;
    Ok(Snapshot {
        key: key.to_owned(),
        record,
        parents,
        layers,
    })
}

/// Ids and disks of snapshots, the nearest first.
type Chain = (Vec<u64>, Vec<Option<Layer>>);

fn parents(
    snapshots: &impl ReadableTable<&'static str, &'static [u8]>,
    record: &Record,
) -> Result<Chain, Status> {
    if record.parent.is_empty() {
        return Ok(Chain::default());
    }
    chain(snapshots, parent_of(snapshots, record)?)
}

fn parent_of(
    snapshots: &impl ReadableTable<&'static str, &'static [u8]>,
    record: &Record,
) -> Result<Record, Status> {
    let parent = &record.parent;
    get(snapshots, parent)?
        .ok_or_else(|| Status::data_loss(format!("the metadata: no parent {parent:?}")))
}

/// A snapshot and all below it.
fn chain(
    snapshots: &impl ReadableTable<&'static str, &'static [u8]>,
    mut record: Record,
) -> Result<Chain, Status> {
    let mut ids = vec![record.id];
    let mut layers = vec![record.layer.take()];
    while !record.parent.is_empty() {
        record = parent_of(snapshots, &record)?;
        ids.push(record.id);
        layers.push(record.layer.take());
    }
    Ok((ids, layers))
}

fn delete(
    transaction: &WriteTransaction,
    snapshots: &mut redb::Table<'_, &'static str, &'static [u8]>,
    key: &str,
    record: &Record,
) -> Result<(), Status> {
    if !record.parent.is_empty() {
        let below = parent_of(snapshots, record)?.id;
        let mut children = transaction.open_multimap_table(CHILDREN).map_err(failed)?;
        children.remove(below, record.id).map_err(failed)?;
    }
    snapshots.remove(key).map_err(failed)?;
    let mut keys = transaction.open_table(KEYS).map_err(failed)?;
    keys.remove(record.id).map_err(failed)?;
    Ok(())
}
