//! The file of the store: how it comes to be, what it may look like, and when it is refused.
//!
//! A new file is made under another name and renamed when it is whole, so that a process killed
//! at its first start, or a full disk, leaves no half of one. A file that is missing or damaged
//! beside directories of snapshots is an error, and nothing is changed: those directories may be
//! all that is left.

use std::fs;
use std::io::{self, Read};
use std::path::Path;

use redb::{Database, DatabaseError, StorageError};
use tonic::Status;
use tracing::{info, warn};

use super::build::{CACHE, create};
use super::files::{discard, free_name, lost, temporary, unusable};
use super::handle::guarded;
use super::migrate::migrate;
use super::tables::{CURRENT_VERSION, NUMBERS, VERSION, failed};
use crate::platform;

/// How a file of redb begins, whatever its version.
const MAGIC: &[u8; 9] = b"redb\x1a\x0a\xa9\x0d\x0a";

/// A file as it is found at the start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Found {
    Absent,
    /// Empty, or nothing but zeros.
    Blank,
    /// The beginning that redb writes last is still zeros: it was never a whole database.
    Unfinished,
    /// Something else.
    Foreign,
    /// A database, whole or not.
    Database,
}

/// Opens the database in a file, brought to the current version. Without a file it is made,
/// unless there are snapshots `beside` it, which a lost file must have known.
pub(super) fn open(file: &Path, beside: bool) -> Result<Database, Status> {
    discard(&temporary(file))?;
    match (look(file)?, beside) {
        (Found::Database, _) => {}
        (Found::Absent, false) => create(file)?,
        (Found::Blank, false) => {
            info!(path = %file.display(), "the metadata was never written; it is made anew");
            create(file)?;
        }
        (Found::Unfinished, false) => {
            let aside = free_name(file, "unfinished");
            fs::rename(file, &aside).map_err(|e| unusable(file, &e))?;
            warn!(path = %aside.display(), "metadata that were never finished are moved aside");
            create(file)?;
        }
        (Found::Absent, true) => return Err(lost(file, "is missing")),
        (Found::Blank, true) => return Err(lost(file, "is empty or holds nothing but zeros")),
        (Found::Unfinished | Found::Foreign, _) => {
            return Err(lost(file, "does not begin as a database does"));
        }
    }
    match open_checked(file) {
        Ok(database) => Ok(database),
        Err(Refused::Old) => {
            migrate(file, beside)?;
            open_checked(file).map_err(|refused| refused.status(file))
        }
        Err(refused) => Err(refused.status(file)),
    }
}

/// Opens a database that was open before, in the current version.
pub(super) fn open_again(file: &Path) -> Result<Database, Status> {
    open_checked(file).map_err(|refused| refused.status(file))
}

/// Why a database was not opened.
enum Refused {
    /// It is in the file format of redb 2.
    Old,
    Unusable(Status),
    Damaged(String),
}

impl Refused {
    fn status(self, file: &Path) -> Status {
        match self {
            Self::Old => lost(file, "is in the file format of an older version"),
            Self::Unusable(status) => status,
            Self::Damaged(why) => lost(file, &format!("is damaged ({why})")),
        }
    }
}

/// Opens a database and holds every page of it against its checksum, which redb does not do by
/// itself.
fn open_checked(file: &Path) -> Result<Database, Refused> {
    let mut refused = None;
    let opened = guarded(|| {
        let opened = redb::Builder::new()
            .set_cache_size(CACHE)
            .set_check_integrity_on_open(true)
            .open(file);
        Ok(match opened {
            Ok(database) => Some(database),
            Err(e) => {
                refused = Some(refusal(file, e));
                None
            }
        })
    });
    match (opened, refused) {
        (Ok(Some(database)), _) => Ok(database),
        (_, Some(refused)) => Err(refused),
        (Err(status), None) => Err(Refused::Damaged(status.message().to_owned())),
        (Ok(None), None) => Err(Refused::Damaged("it cannot be opened".into())),
    }
}

fn refusal(file: &Path, error: DatabaseError) -> Refused {
    match error {
        // 1 and 2 are formats that redb 2 reads.
        DatabaseError::UpgradeRequired(1 | 2) => Refused::Old,
        DatabaseError::DatabaseAlreadyOpen | DatabaseError::LockProtocolMismatch => {
            Refused::Unusable(Status::unavailable(format!(
                "{} is already open in another process",
                file.display()
            )))
        }
        // The file ends before the database does.
        DatabaseError::Storage(StorageError::Io(e))
            if !matches!(
                e.kind(),
                io::ErrorKind::UnexpectedEof | io::ErrorKind::InvalidData
            ) =>
        {
            Refused::Unusable(unusable(file, &e))
        }
        other => Refused::Damaged(other.to_string()),
    }
}

/// The version of tables and records, and whether it is one that this program made.
pub(super) fn check_version(file: &Path, database: &Database, beside: bool) -> Result<(), Status> {
    let found = guarded(|| {
        use redb::ReadableDatabase;
        let transaction = database.begin_read().map_err(failed)?;
        match transaction.open_table(NUMBERS) {
            Ok(numbers) => Ok(numbers.get(VERSION).map_err(failed)?.map(|v| v.value())),
            Err(redb::TableError::TableDoesNotExist(_)) => Ok(None),
            Err(e) => Err(failed(e)),
        }
    })?;
    match found {
        Some(CURRENT_VERSION) => Ok(()),
        Some(other) => Err(Status::failed_precondition(format!(
            "{} is of version {other}; this program knows {CURRENT_VERSION}, and 1, which it \
             migrates. Nothing was changed: start the newer release that made it",
            file.display()
        ))),
        // redb 4 and this program make both in one rename.
        None => Err(lost(
            file,
            match beside {
                true => "is a database without a version, beside snapshots",
                false => "is a database of something else, without a version",
            },
        )),
    }
}

fn look(file: &Path) -> Result<Found, Status> {
    let mut opened = match platform::open_regular(file) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Found::Absent),
        other => other.map_err(|e| unusable(file, &e))?,
    };
    let mut buffer = vec![0; 64 << 10];
    let mut head = [0; MAGIC.len()];
    let mut at = 0;
    let mut blank = true;
    loop {
        let len = opened.read(&mut buffer).map_err(|e| unusable(file, &e))?;
        if len == 0 {
            break;
        }
        for (to, from) in head.iter_mut().skip(at).zip(&buffer[..len]) {
            *to = *from;
        }
        at += len;
        blank &= buffer[..len].iter().all(|byte| *byte == 0);
        if !blank && at >= head.len() {
            break;
        }
    }
    Ok(match &head {
        _ if blank => Found::Blank,
        MAGIC => Found::Database,
        [0, 0, 0, 0, 0, 0, 0, 0, 0] => Found::Unfinished,
        _ => Found::Foreign,
    })
}
