//! Tables of the database, and how writing to them fails.

use redb::{MultimapTableDefinition, TableDefinition};
use tonic::Status;

use super::record::Record;

/// Snapshots by key or name.
pub(super) const SNAPSHOTS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("snapshots");
/// Key or name by id.
pub(super) const KEYS: TableDefinition<'_, u64, &str> = TableDefinition::new("keys");
/// Ids of the snapshots on top of one.
pub(super) const CHILDREN: MultimapTableDefinition<'_, u64, u64> =
    MultimapTableDefinition::new("children");
/// Ids whose directories are named `rm-ID` and wait to be deleted. Only these are swept.
pub(super) const REMOVED: TableDefinition<'_, u64, ()> = TableDefinition::new("removed");
/// The last id that was given, the version of all this, and what is yet to be done.
pub(super) const NUMBERS: TableDefinition<'_, &str, u64> = TableDefinition::new("numbers");

pub(super) const LAST_ID: &str = "last id";
pub(super) const VERSION: &str = "version";
/// Set until the disks are measured that a store of version 1 has committed.
pub(super) const UNMEASURED: &str = "unmeasured";
/// The version of the tables and records written here. 1 had no checksums, was in the file
/// format of redb 2, and is migrated.
pub(super) const CURRENT_VERSION: u64 = 2;

pub(super) fn put(
    snapshots: &mut redb::Table<'_, &'static str, &'static [u8]>,
    key: &str,
    record: &Record,
) -> Result<(), Status> {
    let bytes = record.to_bytes(key)?;
    snapshots.insert(key, &bytes[..]).map_err(failed)?;
    Ok(())
}

pub(super) fn failed(error: impl Into<redb::Error>) -> Status {
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
