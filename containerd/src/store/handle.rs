//! The open database, and what becomes of it when its file fails.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{PoisonError, RwLock};

use redb::{Database, StorageError, TransactionError};
use tonic::{Code, Status};
use tracing::{error, info};

use crate::log;

type Open = dyn Fn() -> Result<Database, Status> + Send + Sync;

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

/// Calls redb, which panics on some damage that it meets in its file: here alone that becomes
/// an error.
pub(super) fn guarded<T>(work: impl FnOnce() -> Result<T, Status>) -> Result<T, Status> {
    let _quiet = log::panics_are_handled();
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(result) => result,
        Err(panic) => {
            let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
            let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
            let text = text.unwrap_or_else(|| "redb panicked".into());
            Err(Status::data_loss(format!("the metadata: {text}")))
        }
    }
}

impl Handle {
    pub(super) fn open(
        open: impl Fn() -> Result<Database, Status> + Send + Sync + 'static,
    ) -> Result<Self, Status> {
        let database = open()?;
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
        let mut unwound = true;
        let result = guarded(|| {
            let result = work(database);
            unwound = false;
            result
        });
        let suspect = matches!(&result, Err(status) if may_be_the_file(status));
        if unwound || suspect && is_broken(database) {
            drop(guard);
            error!("the metadata's file failed; it will be opened anew");
            self.close();
        }
        result
    }

    /// Closes the database once nobody is at it any more.
    fn close(&self) {
        let mut guard = self
            .database
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        let database = guard.take();
        // Closing writes to the file, and so may fail as anything else.
        let closed = guarded(|| {
            drop(database);
            Ok(())
        });
        if let Err(status) = closed {
            error!(error = status.message(), "the metadata cannot be closed");
        }
    }

    fn reopen(&self) -> Result<(), Status> {
        let mut guard = self
            .database
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        if guard.is_none() {
            let database = (self.open)().map_err(|status| {
                Status::unavailable(format!(
                    "the metadata cannot be opened anew: {}",
                    status.message()
                ))
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

/// Whether redb refuses every further transaction until its file is opened anew.
fn is_broken(database: &Database) -> bool {
    let begun = guarded(|| {
        Ok(matches!(
            database.begin_write(),
            Err(TransactionError::Storage(
                StorageError::PreviousIo
                    | StorageError::Corrupted(_)
                    | StorageError::DatabaseClosed
                    | StorageError::LockPoisoned(_)
            ))
        ))
    });
    begun.unwrap_or(true)
}
