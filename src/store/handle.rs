//! The open database, and what becomes of it when the disk fails.

use std::fmt;
use std::sync::{PoisonError, RwLock};

use redb::{Database, DatabaseError, StorageError, TransactionError};
use tonic::{Code, Status};
use tracing::{error, info};

use super::failed;

type Open = dyn Fn() -> Result<Database, DatabaseError> + Send + Sync;

/// A database that is opened anew after an error of its file: redb does nothing more with one
/// that had one, however short the disk was full.
pub(super) struct Handle {
    open: Box<Open>,
    database: RwLock<Option<Database>>,
}

impl fmt::Debug for Handle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handle").finish_non_exhaustive()
    }
}

impl Handle {
    pub(super) fn open(
        open: impl Fn() -> Result<Database, DatabaseError> + Send + Sync + 'static,
    ) -> Result<Self, Status> {
        let database = open().map_err(failed)?;
        Ok(Self {
            open: Box::new(open),
            database: RwLock::new(Some(database)),
        })
    }

    /// Does something with the database, all transactions of which end with it.
    pub(super) fn with<T>(
        &self,
        work: impl FnOnce(&Database) -> Result<T, Status>,
    ) -> Result<T, Status> {
        let guard = loop {
            let guard = self.database.read().unwrap_or_else(PoisonError::into_inner);
            if guard.is_some() {
                break guard;
            }
            drop(guard);
            self.reopen()?;
        };
        let Some(database) = &*guard else {
            return Err(Status::unavailable("the metadata is not open"));
        };
        let result = work(database);
        let failed = matches!(&result, Err(status) if may_be_the_file(status));
        if failed && is_broken(database) {
            drop(guard);
            error!("the metadata's file failed; it will be opened anew");
            // Once nobody is at it any more.
            *self
                .database
                .write()
                .unwrap_or_else(PoisonError::into_inner) = None;
        }
        result
    }

    fn reopen(&self) -> Result<(), Status> {
        let mut guard = self
            .database
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        if guard.is_none() {
            let database = (self.open)().map_err(|e| {
                Status::unavailable(format!("the metadata cannot be opened anew: {e}"))
            })?;
            info!("the metadata is open again");
            *guard = Some(database);
        }
        Ok(())
    }
}

fn may_be_the_file(status: &Status) -> bool {
    matches!(status.code(), Code::Internal | Code::ResourceExhausted)
}

fn is_broken(database: &Database) -> bool {
    matches!(
        database.begin_write(),
        Err(TransactionError::Storage(StorageError::PreviousIo))
    )
}
