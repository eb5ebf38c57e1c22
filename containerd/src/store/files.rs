//! Files of the store, and the errors that name them.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use tonic::Status;
use tracing::info;

/// Where a database is made.
pub(super) fn temporary(file: &Path) -> PathBuf {
    with_suffix(file, "new")
}

fn with_suffix(file: &Path, suffix: &str) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(format!(".{suffix}"));
    PathBuf::from(name)
}

/// A name beside the file that nothing has.
pub(super) fn free_name(file: &Path, suffix: &str) -> PathBuf {
    let mut number = 1_u64;
    loop {
        let name = with_suffix(file, &format!("{suffix}-{number}"));
        if name.symlink_metadata().is_err() {
            return name;
        }
        number += 1;
    }
}

/// Deletes what a process that was killed while it made a database left: it never was in use.
pub(super) fn discard(temporary: &Path) -> Result<(), Status> {
    match fs::remove_file(temporary) {
        Ok(()) => {
            info!(path = %temporary.display(), "deleting metadata that were never finished");
            Ok(())
        }
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(e) => Err(unusable(temporary, &e)),
    }
}

pub(super) fn unusable(file: &Path, error: &io::Error) -> Status {
    let message = format!("{}: {error}", file.display());
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            Status::resource_exhausted(message)
        }
        _ => Status::unavailable(message),
    }
}

/// Whether a database is lost rather than in use, unreadable for now or of another version.
pub(super) fn lost(file: &Path, what: &str) -> Status {
    let root = file.parent().unwrap_or(Path::new("."));
    Status::data_loss(format!(
        "{} {what}. Nothing was changed. Put a copy of it back, or run \
         `containerd-tar2vhd recover --root {}`, which moves it aside and brings back every \
         snapshot whose directory has a record",
        file.display(),
        root.display()
    ))
}
