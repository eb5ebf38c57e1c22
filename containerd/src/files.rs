//! Names and errors of files below the root.

use std::io;
use std::path::Path;

use tonic::Status;

use crate::platform;

/// How the names of temporary files start, the library's and those made here.
pub(crate) const TEMPORARY: &str = ".tar2vhd-";

/// A failure of the file system as a status.
pub(crate) fn failed(path: &Path, error: io::Error) -> Status {
    let message = format!("{}: {error}", path.display());
    if platform::is_out_of_descriptors(&error) {
        return Status::unavailable(message);
    }
    match error.kind() {
        io::ErrorKind::InvalidData => Status::failed_precondition(message),
        io::ErrorKind::NotFound => Status::not_found(message),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            Status::resource_exhausted(message)
        }
        _ => Status::internal(message),
    }
}
