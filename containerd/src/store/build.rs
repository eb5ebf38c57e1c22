//! Makes databases: whole and on stable storage, or not at all.

use std::fs::{self, File};
use std::path::Path;

use redb::{ReadableTable as _, WriteTransaction};
use tonic::Status;

use super::files::{temporary, unusable};
use super::handle::guarded;
use super::record::Record;
use super::tables::{
    CHILDREN, CURRENT_VERSION, KEYS, LAST_ID, NUMBERS, REMOVED, SNAPSHOTS, VERSION, failed, put,
};
use crate::platform;

/// The most bytes of the file that are kept in memory.
pub(super) const CACHE: usize = 32 << 20;

/// Makes an empty database.
pub(super) fn create(file: &Path) -> Result<(), Status> {
    build(file, || Ok(()), |_| Ok(()))
}

/// Makes a database with these contents, under its name only when it is whole and on stable
/// storage. `replace` is called in the moment before.
pub(super) fn build(
    file: &Path,
    replace: impl FnOnce() -> Result<(), Status>,
    fill: impl FnOnce(&WriteTransaction) -> Result<(), Status>,
) -> Result<(), Status> {
    let temporary = temporary(file);
    let built = guarded(|| {
        let database = redb::Builder::new()
            .set_cache_size(CACHE)
            .create(&temporary)
            .map_err(failed)?;
        let mut transaction = database.begin_write().map_err(failed)?;
        keep_whole(&mut transaction);
        {
            transaction.open_table(SNAPSHOTS).map_err(failed)?;
            transaction.open_table(KEYS).map_err(failed)?;
            transaction.open_multimap_table(CHILDREN).map_err(failed)?;
            transaction.open_table(REMOVED).map_err(failed)?;
            let mut numbers = transaction.open_table(NUMBERS).map_err(failed)?;
            numbers.insert(VERSION, CURRENT_VERSION).map_err(failed)?;
        }
        fill(&transaction)?;
        transaction.commit().map_err(failed)?;
        database.close().map_err(failed)
    });
    let placed = built.and_then(|()| {
        File::open(&temporary)
            .and_then(|made| made.sync_all())
            .map_err(|e| unusable(&temporary, &e))?;
        replace()?;
        fs::rename(&temporary, file)
            .and_then(|()| match file.parent() {
                Some(directory) => platform::sync_directory(directory),
                None => Ok(()),
            })
            .map_err(|e| unusable(file, &e))
    });
    if placed.is_err() {
        // The next start discards it where that fails.
        let _ = fs::remove_file(&temporary);
    }
    placed.map_err(|status| {
        let message = format!("{} cannot be made: {}", file.display(), status.message());
        Status::new(status.code(), message)
    })
}

/// Commits in two phases, each on stable storage before the next.
///
/// In one phase redb takes a last transaction that is damaged for one that a crash cut off, and
/// goes back to the one before without a word: what was acknowledged would be lost.
pub(super) fn keep_whole(transaction: &mut WriteTransaction) {
    transaction.set_two_phase_commit(true);
}

/// Puts a snapshot into tables that are being filled.
pub(super) fn insert(
    transaction: &WriteTransaction,
    key: &str,
    record: &Record,
    parent: Option<u64>,
) -> Result<(), Status> {
    let mut snapshots = transaction.open_table(SNAPSHOTS).map_err(failed)?;
    put(&mut snapshots, key, record)?;
    let mut keys = transaction.open_table(KEYS).map_err(failed)?;
    keys.insert(record.id, key).map_err(failed)?;
    if let Some(parent) = parent {
        let mut children = transaction.open_multimap_table(CHILDREN).map_err(failed)?;
        children.insert(parent, record.id).map_err(failed)?;
    }
    let mut numbers = transaction.open_table(NUMBERS).map_err(failed)?;
    let last = numbers
        .get(LAST_ID)
        .map_err(failed)?
        .map_or(0, |last| last.value());
    numbers
        .insert(LAST_ID, last.max(record.id))
        .map_err(failed)?;
    Ok(())
}
