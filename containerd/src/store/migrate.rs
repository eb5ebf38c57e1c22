//! A store of version 1, in the file format of redb 2, brought to the current version.
//!
//! The old file is copied, read by the old crate, and kept under another name: whatever happens
//! meanwhile, one of the two is whole.

use std::collections::BTreeMap;
use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};

use redb::ReadableTable as _;
use redb2::{ReadableTable, ReadableTableMetadata};
use tonic::Status;
use tracing::info;

use super::build::{build, insert};
use super::files::{discard, free_name, lost, unusable};
use super::handle::guarded;
use super::record::{Kind, Record};
use super::tables::{LAST_ID, NUMBERS, UNMEASURED, VERSION, failed};

const SNAPSHOTS: redb2::TableDefinition<'_, &str, &[u8]> = redb2::TableDefinition::new("snapshots");
const KEYS: redb2::TableDefinition<'_, u64, &str> = redb2::TableDefinition::new("keys");
const CHILDREN: redb2::MultimapTableDefinition<'_, u64, u64> =
    redb2::MultimapTableDefinition::new("children");
const OLD_NUMBERS: redb2::TableDefinition<'_, &str, u64> = redb2::TableDefinition::new("numbers");

/// The only version that redb 2 wrote.
const OLD_VERSION: u64 = 1;

/// The contents of an old store.
#[derive(Debug, Default)]
struct Contents {
    snapshots: BTreeMap<String, Record>,
    last_id: u64,
}

/// Replaces a file of version 1 by one of the current version.
pub(super) fn migrate(file: &Path, beside: bool) -> Result<(), Status> {
    let original = File::options()
        .read(true)
        .write(true)
        .open(file)
        .map_err(|e| unusable(file, &e))?;
    // An old release that runs holds this lock.
    match original.try_lock() {
        Err(TryLockError::WouldBlock) => {
            return Err(Status::unavailable(format!(
                "{} is already open in another process",
                file.display()
            )));
        }
        // Where there are no locks, redb has none, either.
        Ok(()) | Err(TryLockError::Error(_)) => {}
    }
    let copy = copy_name(file);
    discard(&copy)?;
    let read = fs::copy(file, &copy)
        .map_err(|e| unusable(&copy, &e))
        .and_then(|_| read(file, &copy, beside));
    let _ = fs::remove_file(&copy);
    let contents = read?;
    build_new(file, contents)?;
    Ok(())
}

fn copy_name(file: &Path) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(".migrating");
    PathBuf::from(name)
}

fn build_new(file: &Path, contents: Contents) -> Result<(), Status> {
    let kept = free_name(file, "version-1");
    build(
        file,
        || keep(file, &kept),
        |transaction| {
            for (key, record) in &contents.snapshots {
                let parent = contents.snapshots.get(&record.parent).map(|below| below.id);
                insert(transaction, key, record, parent)?;
            }
            let mut numbers = transaction.open_table(NUMBERS).map_err(failed)?;
            let last = numbers
                .get(LAST_ID)
                .map_err(failed)?
                .map_or(0, |last| last.value());
            numbers
                .insert(LAST_ID, last.max(contents.last_id))
                .map_err(failed)?;
            // Version 1 did not look at the disks that it committed.
            numbers.insert(UNMEASURED, 1).map_err(failed)?;
            Ok(())
        },
    )?;
    info!(
        path = %file.display(), kept = %kept.display(), snapshots = contents.snapshots.len(),
        "the metadata are of version 2 now; the old file is kept"
    );
    Ok(())
}

/// Gives the old file a second name, or copies it where the file system has no links.
fn keep(file: &Path, kept: &Path) -> Result<(), Status> {
    fs::hard_link(file, kept)
        .or_else(|_| {
            fs::copy(file, kept)?;
            File::open(kept)?.sync_all()
        })
        .map_err(|e| unusable(kept, &e))
}

fn read(file: &Path, copy: &Path, beside: bool) -> Result<Contents, Status> {
    let damaged = |why: String| lost(file, &format!("is damaged ({why})"));
    let read = guarded(|| {
        let mut database = redb2::Database::open(copy).map_err(|e| damaged(e.to_string()))?;
        let whole = database
            .check_integrity()
            .map_err(|e| damaged(e.to_string()))?;
        if !whole {
            return Err(damaged("its pages contradict their checksums".into()));
        }
        let transaction = database.begin_read().map_err(|e| damaged(e.to_string()))?;
        contents(file, &transaction, beside)
    });
    // A panic of redb's has no path.
    read.map_err(|status| match status.message().contains("recover --root") {
        true => status,
        false if status.code() == tonic::Code::DataLoss => damaged(status.message().to_owned()),
        false => status,
    })
}

fn contents(
    file: &Path,
    transaction: &redb2::ReadTransaction,
    beside: bool,
) -> Result<Contents, Status> {
    let damaged = |why: String| lost(file, &format!("is damaged ({why})"));
    let numbers = match transaction.open_table(OLD_NUMBERS) {
        // Killed before its first transaction.
        Err(redb2::TableError::TableDoesNotExist(_))
            if !beside
                && transaction
                    .list_tables()
                    .is_ok_and(|tables| tables.count() == 0) =>
        {
            return Ok(Contents::default());
        }
        other => other.map_err(|e| damaged(e.to_string()))?,
    };
    let number = |name| {
        let found = numbers.get(name).map_err(|e| damaged(e.to_string()))?;
        Ok::<_, Status>(found.map(|found| found.value()))
    };
    match number(VERSION)? {
        Some(OLD_VERSION) => {}
        Some(other) => {
            return Err(Status::failed_precondition(format!(
                "{} is of version {other} in the file format of redb 2, which this program does \
                 not know. Nothing was changed",
                file.display()
            )));
        }
        None => return Err(damaged("it has no version".into())),
    }
    let mut contents = Contents {
        last_id: number(LAST_ID)?.unwrap_or(0),
        ..Contents::default()
    };
    let wrong = |e: redb2::StorageError| damaged(e.to_string());
    let open = |e: redb2::TableError| damaged(e.to_string());
    let keys = transaction.open_table(KEYS).map_err(open)?;
    for entry in transaction
        .open_table(SNAPSHOTS)
        .map_err(open)?
        .iter()
        .map_err(wrong)?
    {
        let (key, bytes) = entry.map_err(wrong)?;
        let key = key.value().to_owned();
        let record = Record::from_json(bytes.value())
            .map_err(|e| damaged(format!("the record of {key:?}: {e}")))?;
        let named = keys.get(record.id).map_err(wrong)?;
        if named.is_none_or(|named| named.value() != key) {
            return Err(damaged(format!("the record of {key:?} has another's id")));
        }
        contents.snapshots.insert(key, record);
    }
    let children = transaction.open_multimap_table(CHILDREN).map_err(open)?;
    for (key, record) in &contents.snapshots {
        if record.parent.is_empty() {
            continue;
        }
        let below = contents.snapshots.get(&record.parent);
        let Some(below) = below.filter(|below| below.kind == Kind::Committed) else {
            return Err(damaged(format!(
                "{key:?} has no parent {:?}",
                record.parent
            )));
        };
        let mut found = false;
        for child in children.get(below.id).map_err(wrong)? {
            found |= child.map_err(wrong)?.value() == record.id;
        }
        if !found {
            return Err(damaged(format!(
                "{:?} does not name its child",
                record.parent
            )));
        }
    }
    let named = keys.len().map_err(wrong)?;
    if named != contents.snapshots.len() as u64 {
        return Err(damaged("it names snapshots that have no record".into()));
    }
    Ok(contents)
}
