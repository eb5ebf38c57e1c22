//! The metadata of snapshots, in an embedded transactional store.
//!
//! redb, because it commits atomically and durably, lets readers go on beside a writer,
//! locks its file against a second process, and is a Rust crate without C behind it.
//!
//! The rules are those of containerd's own snapshotters (core/snapshots/storage/bolt.go):
//! keys of active snapshots and views and names of committed ones share one space; the id of
//! a snapshot, which names its directory, is never given again and stays over a commit. A crash
//! may lose that an id was given, but not the directory, by which [`Store::never_again`] is told.

mod handle;
mod record;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use redb::{
    Database, DatabaseError, Durability, MultimapTableDefinition, ReadTransaction,
    ReadableMultimapTable, ReadableTable, TableDefinition, WriteTransaction,
};
use tonic::Status;

use handle::Handle;
pub(crate) use record::{Kind, Record, Time, Usage};

type Labels = BTreeMap<String, String>;

/// Snapshots by key or name.
const SNAPSHOTS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("snapshots");
/// Key or name by id.
const KEYS: TableDefinition<'_, u64, &str> = TableDefinition::new("keys");
/// Ids of the snapshots on top of one.
const CHILDREN: MultimapTableDefinition<'_, u64, u64> = MultimapTableDefinition::new("children");
/// The last id that was given, and the version of all this.
const NUMBERS: TableDefinition<'_, &str, u64> = TableDefinition::new("numbers");

const LAST_ID: &str = "last id";
const VERSION: &str = "version";
/// The version of the tables and records written here.
const CURRENT_VERSION: u64 = 1;

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
}

/// The store. Every call is one transaction, and blocks.
#[derive(Debug)]
pub(crate) struct Store {
    database: Handle,
    /// The last id that was given or seen. What the file says of it may be lost in a crash, or
    /// when the file fails.
    last_id: AtomicU64,
}

impl Store {
    /// Opens the store in a file, which is made if it is absent.
    pub(crate) fn open(path: &Path) -> Result<Self, Status> {
        let file = path.to_owned();
        Self::open_with(path, move || Database::create(&file))
    }

    fn open_with(
        path: &Path,
        open: impl Fn() -> Result<Database, DatabaseError> + Send + Sync + 'static,
    ) -> Result<Self, Status> {
        let store = Self {
            database: Handle::open(open)?,
            last_id: AtomicU64::new(0),
        };
        store.write(|transaction| {
            transaction.open_table(SNAPSHOTS).map_err(failed)?;
            transaction.open_table(KEYS).map_err(failed)?;
            transaction.open_multimap_table(CHILDREN).map_err(failed)?;
            let mut numbers = transaction.open_table(NUMBERS).map_err(failed)?;
            let found = numbers.get(VERSION).map_err(failed)?.map(|v| v.value());
            match found {
                None => {
                    numbers.insert(VERSION, CURRENT_VERSION).map_err(failed)?;
                    Ok(())
                }
                Some(CURRENT_VERSION) => Ok(()),
                Some(other) => Err(Status::failed_precondition(format!(
                    "{} is of version {other}; this program knows {CURRENT_VERSION}",
                    path.display()
                ))),
            }
        })?;
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
            transaction.set_durability(durability);
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
            let mut parents = Vec::new();
            if !parent.is_empty() {
                let below = get(&snapshots, parent)?
                    .ok_or_else(|| not_found(format!("the parent {parent:?}")))?;
                if below.kind != Kind::Committed {
                    return Err(Status::invalid_argument(format!(
                        "the parent {parent:?} is not a committed snapshot"
                    )));
                }
                parents = chain(&snapshots, below)?;
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
            found(transaction, key.value())
        })
    }

    /// Whether there is a snapshot of this id, be it unfinished or about to be removed.
    pub(crate) fn knows(&self, id: u64) -> Result<bool, Status> {
        self.read(|transaction| {
            let keys = transaction.open_table(KEYS).map_err(failed)?;
            Ok(keys.get(id).map_err(failed)?.is_some())
        })
    }

    /// Calls back for every snapshot, in the order of keys and names.
    pub(crate) fn walk(&self, mut visit: impl FnMut(&str, &Record)) -> Result<(), Status> {
        self.read(|transaction| {
            let snapshots = transaction.open_table(SNAPSHOTS).map_err(failed)?;
            for entry in snapshots.iter().map_err(failed)? {
                let (key, bytes) = entry.map_err(failed)?;
                let record = Record::from_bytes(bytes.value())?;
                if !record.unfinished {
                    visit(key.value(), &record);
                }
            }
            Ok(())
        })
    }

    /// Turns an active snapshot into a committed one of another name, with these labels
    /// instead of its own, and, if it has none, this parent.
    pub(crate) fn commit(
        &self,
        key: &str,
        name: &str,
        parent: &str,
        labels: Labels,
        usage: Usage,
    ) -> Result<(), Status> {
        check_key(name)?;
        let labels = check_labels(labels)?;
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
            record.usage = usage;
            record.created = SystemTime::now().into();
            record.updated = record.created;
            snapshots.remove(key).map_err(failed)?;
            put(&mut snapshots, name, &record)?;
            let mut keys = transaction.open_table(KEYS).map_err(failed)?;
            keys.insert(record.id, name).map_err(failed)?;
            Ok(())
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
            let transaction = database.begin_write().map_err(failed)?;
            let id = {
                let mut snapshots = transaction.open_table(SNAPSHOTS).map_err(failed)?;
                let record = finished(&snapshots, key)?;
                let children = transaction.open_multimap_table(CHILDREN).map_err(failed)?;
                if !children.get(record.id).map_err(failed)?.is_empty() {
                    return Err(Status::failed_precondition(format!(
                        "other snapshots stand on {key:?}"
                    )));
                }
                drop(children);
                delete(&transaction, &mut snapshots, key, &record)?;
                record.id
            };
            while_held(id)?;
            transaction.commit().map_err(|e| {
                undo(id);
                failed(e)
            })?;
            Ok(id)
        })
    }

    /// Replaces labels: all of them, or by paths of the form `labels` and `labels.KEY` what
    /// they name. A label without a value is none.
    pub(crate) fn update(
        &self,
        key: &str,
        labels: &Labels,
        paths: &[String],
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
            Ok(record)
        })
    }

    /// Gives up everything that was being made when the process ended, and returns the ids
    /// of what there is.
    pub(crate) fn recover(&self) -> Result<Vec<u64>, Status> {
        self.write(|transaction| {
            let mut snapshots = transaction.open_table(SNAPSHOTS).map_err(failed)?;
            let mut ids = Vec::new();
            let mut unfinished = Vec::new();
            for entry in snapshots.iter().map_err(failed)? {
                let (key, bytes) = entry.map_err(failed)?;
                let record = Record::from_bytes(bytes.value())?;
                match record.unfinished {
                    true => unfinished.push((key.value().to_owned(), record)),
                    false => ids.push(record.id),
                }
            }
            for (key, record) in unfinished {
                delete(transaction, &mut snapshots, &key, &record)?;
            }
            Ok(ids)
        })
    }
}

fn failed(error: impl Into<redb::Error>) -> Status {
    let error = error.into();
    match &error {
        redb::Error::Io(e)
            if matches!(
                e.kind(),
                std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded
            ) =>
        {
            Status::resource_exhausted(format!("the metadata cannot be written: {error}"))
        }
        _ => Status::internal(format!("the metadata: {error}")),
    }
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
        Some(bytes) => Record::from_bytes(bytes.value()).map(Some),
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
    let parents = parents(&snapshots, &record)?;
    Ok(Snapshot {
        key: key.to_owned(),
        record,
        parents,
    })
}

fn parents(
    snapshots: &impl ReadableTable<&'static str, &'static [u8]>,
    record: &Record,
) -> Result<Vec<u64>, Status> {
    if record.parent.is_empty() {
        return Ok(Vec::new());
    }
    let parent = &record.parent;
    let below = get(snapshots, parent)?
        .ok_or_else(|| Status::internal(format!("the metadata: no parent {parent:?}")))?;
    chain(snapshots, below)
}

/// The ids of a snapshot and of all below it.
fn chain(
    snapshots: &impl ReadableTable<&'static str, &'static [u8]>,
    mut record: Record,
) -> Result<Vec<u64>, Status> {
    let mut ids = vec![record.id];
    while !record.parent.is_empty() {
        let parent = &record.parent;
        record = get(snapshots, parent)?
            .ok_or_else(|| Status::internal(format!("the metadata: no parent {parent:?}")))?;
        ids.push(record.id);
    }
    Ok(ids)
}

fn put(
    snapshots: &mut redb::Table<'_, &'static str, &'static [u8]>,
    key: &str,
    record: &Record,
) -> Result<(), Status> {
    let bytes = record.to_bytes()?;
    snapshots.insert(key, &bytes[..]).map_err(failed)?;
    Ok(())
}

fn delete(
    transaction: &WriteTransaction,
    snapshots: &mut redb::Table<'_, &'static str, &'static [u8]>,
    key: &str,
    record: &Record,
) -> Result<(), Status> {
    if let Some(below) = parents(snapshots, record)?.first() {
        let mut children = transaction.open_multimap_table(CHILDREN).map_err(failed)?;
        children.remove(below, record.id).map_err(failed)?;
    }
    snapshots.remove(key).map_err(failed)?;
    let mut keys = transaction.open_table(KEYS).map_err(failed)?;
    keys.remove(record.id).map_err(failed)?;
    Ok(())
}
