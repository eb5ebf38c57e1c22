//! The files behind standard input and output, which a shell may have opened for the command.

use std::fs::File;
use std::io;

use tar2vhd::disk::{DiskFile, FileId};

use crate::failure::Failure;

/// The file that standard input comes from.
pub(crate) fn input() -> Option<FileId> {
    FileId::of(&imp::file(&io::stdin()).ok()?).ok()
}

/// Refuses to replace the file that standard output goes to.
pub(crate) fn keep_output(file: &mut DiskFile) -> Result<(), Failure> {
    let id = imp::file(&io::stdout()).and_then(|file| FileId::of(&file));
    // A closed one has no file, and a console none that could be replaced.
    match id {
        Ok(id) => Ok(file.keep(id, "standard output")?),
        Err(_) => Ok(()),
    }
}

#[cfg(unix)]
mod imp {
    use std::os::fd::AsFd;

    use super::{File, io};

    pub(super) fn file(stream: &impl AsFd) -> io::Result<File> {
        Ok(stream.as_fd().try_clone_to_owned()?.into())
    }
}

#[cfg(windows)]
mod imp {
    use std::os::windows::io::AsHandle;

    use super::{File, io};

    pub(super) fn file(stream: &impl AsHandle) -> io::Result<File> {
        Ok(stream.as_handle().try_clone_to_owned()?.into())
    }
}
