//! Files that are read as disks.

use std::fs::{File, Metadata};
use std::path::Path;

use crate::error::{Error, ErrorKind, Result};

/// Opens a file that is to be read as a disk.
pub(super) fn open_file(path: &Path) -> Result<File> {
    let wrong = |message| Error::new(ErrorKind::Input, message).in_file(path);
    let failed = |e| wrong("cannot be read").with_source(e);
    // Opening a FIFO would wait for a writer.
    let found = path.metadata().map_err(failed)?;
    if let Some(why) = not_a_disk(&found) {
        return Err(wrong(why));
    }
    File::open(path).map_err(failed)
}

/// Why no disk is read from something of this kind: a disk is read here and there.
fn not_a_disk(found: &Metadata) -> Option<&'static str> {
    if found.is_dir() {
        return Some("this is a directory, neither a file nor a disk: name the file of the disk");
    }
    (!found.is_file() && !is_block_device(found))
        .then_some("this is neither a file nor a disk: copy the disk into a file first")
}

#[cfg(unix)]
fn is_block_device(found: &Metadata) -> bool {
    use std::os::unix::fs::FileTypeExt;
    found.file_type().is_block_device()
}

#[cfg(not(unix))]
fn is_block_device(_: &Metadata) -> bool {
    false
}
