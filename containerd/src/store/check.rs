//! Whether the tables of a store agree: each of them is whole when redb says so, and they may
//! still be those of different times.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use redb::{ReadTransaction, ReadableMultimapTable, ReadableTable, ReadableTableMetadata};
use tonic::{Code, Status};

use super::record::{Kind, Record};
use super::tables::{CHILDREN, KEYS, NUMBERS, REMOVED, SNAPSHOTS, failed};
use super::{Store, files};

impl Store {
    /// Reads every record and holds the tables against each other.
    pub(super) fn check(&self, file: &Path) -> Result<(), Status> {
        self.read(check).map_err(|status| match status.code() {
            Code::DataLoss => files::lost(file, &format!("is damaged ({})", status.message())),
            _ => status,
        })
    }
}

fn check(transaction: &ReadTransaction) -> Result<(), Status> {
    let damaged = |why: String| Status::data_loss(why);
    let mut records = BTreeMap::new();
    let snapshots = transaction.open_table(SNAPSHOTS).map_err(failed)?;
    for entry in snapshots.iter().map_err(failed)? {
        let (key, bytes) = entry.map_err(failed)?;
        let record = Record::from_bytes(key.value(), bytes.value())?;
        records.insert(key.value().to_owned(), record);
    }

    let keys = transaction.open_table(KEYS).map_err(failed)?;
    for (key, record) in &records {
        let named = keys.get(record.id).map_err(failed)?;
        if named.is_none_or(|named| named.value() != key) {
            return Err(damaged(format!(
                "{key:?} has the id {}, another's",
                record.id
            )));
        }
    }
    if keys.len().map_err(failed)? != records.len() as u64 {
        return Err(damaged("it names snapshots that have no record".into()));
    }

    let mut wanted = BTreeSet::new();
    for (key, record) in &records {
        if record.parent.is_empty() {
            continue;
        }
        let below = records.get(&record.parent);
        let below = below.filter(|below| below.kind == Kind::Committed);
        let Some(below) = below else {
            return Err(damaged(format!(
                "{key:?} has no parent {:?}",
                record.parent
            )));
        };
        wanted.insert((below.id, record.id));
    }
    let children = transaction.open_multimap_table(CHILDREN).map_err(failed)?;
    let mut found = BTreeSet::new();
    for entry in children.iter().map_err(failed)? {
        let (parent, ids) = entry.map_err(failed)?;
        for id in ids {
            found.insert((parent.value(), id.map_err(failed)?.value()));
        }
    }
    if found != wanted {
        return Err(damaged("parents and children contradict each other".into()));
    }
    check_chains(&records)?;

    let removed = transaction.open_table(REMOVED).map_err(failed)?;
    for entry in removed.iter().map_err(failed)? {
        let (id, _) = entry.map_err(failed)?;
        if keys.get(id.value()).map_err(failed)?.is_some() {
            return Err(damaged(format!("the snapshot {} was removed", id.value())));
        }
    }
    let numbers = transaction.open_table(NUMBERS).map_err(failed)?;
    for entry in numbers.iter().map_err(failed)? {
        entry.map_err(failed)?;
    }
    Ok(())
}

/// Every snapshot stands on one without a parent in the end, and not on itself.
fn check_chains(records: &BTreeMap<String, Record>) -> Result<(), Status> {
    let mut grounded = BTreeSet::new();
    for start in records.keys() {
        let mut path = BTreeSet::new();
        let mut key = &start[..];
        while !key.is_empty() && !grounded.contains(key) {
            if !path.insert(key) {
                return Err(Status::data_loss(format!("{start:?} stands on itself")));
            }
            key = records.get(key).map_or("", |record| &record.parent[..]);
        }
        grounded.extend(path);
    }
    Ok(())
}
