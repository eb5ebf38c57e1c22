//! Temporary files beside the destination, and those that a process left behind because it could
//! not remove them.
//!
//! Their names tell whose they are, `.tar2vhd-PID-XXXXXX.tmp`, and the process that writes one
//! holds it: by a lock on Unix, by its open handle on Windows. One that no process holds is left
//! over, and [`sweep`] removes it.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io;
use std::path::Path;
use std::process;

use tempfile::{Builder, TempPath};

pub(super) use imp::hold;

const PREFIX: &str = ".tar2vhd-";
const SUFFIX: &str = ".tmp";
const RANDOM: usize = 6;

/// Makes a file of a new name in `directory` by `make`, which fails with
/// [`AlreadyExists`](io::ErrorKind::AlreadyExists) for a name that is taken.
pub(super) fn create<F>(
    directory: &Path,
    make: impl FnMut(&Path) -> io::Result<F>,
) -> io::Result<(F, TempPath)> {
    let prefix = format!("{PREFIX}{}-", process::id());
    Builder::new()
        .prefix(&prefix)
        .suffix(SUFFIX)
        .rand_bytes(RANDOM)
        .make_in(directory, make)
        .map(tempfile::NamedTempFile::into_parts)
}

/// Makes a file that this process holds.
pub(super) fn create_held(
    directory: &Path,
    make: impl Fn(&Path) -> io::Result<File>,
) -> io::Result<(File, TempPath)> {
    create(directory, |path| {
        let file = make(path)?;
        // Another process may have swept it away before it was held.
        match hold(&file) && imp::is_at(&file, path) {
            true => Ok(file),
            false => Err(io::ErrorKind::AlreadyExists.into()),
        }
    })
}

/// Removes what is left over in a directory, as far as that is possible.
pub(super) fn sweep(directory: &Path) {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    for entry in entries {
        if is_temporary(&entry.file_name()) {
            imp::remove_unless_held(&entry.path());
        }
    }
}

fn is_temporary(name: &OsStr) -> bool {
    let middle = name.to_str().and_then(|name| {
        let rest = name.strip_prefix(PREFIX)?.strip_suffix(SUFFIX)?;
        rest.split_once('-')
    });
    middle.is_some_and(|(pid, random)| {
        pid.parse::<u32>().is_ok()
            && random.len() == RANDOM
            && random.bytes().all(|byte| byte.is_ascii_alphanumeric())
    })
}

#[cfg(unix)]
mod imp {
    use std::fs::{self, File, OpenOptions};
    use std::os::unix::fs::OpenOptionsExt;
    use std::path::Path;

    use rustix::fs::{FlockOperation, OFlags, flock};
    use rustix::io::Errno;

    use crate::disk::FileId;

    /// Holds a file until it is closed; false if another process does. Where the file system
    /// knows no locks nothing is ever swept.
    pub(crate) fn hold(file: &File) -> bool {
        flock(file, FlockOperation::NonBlockingLockExclusive) != Err(Errno::WOULDBLOCK)
    }

    pub(super) fn is_at(file: &File, path: &Path) -> bool {
        matches!((FileId::of(file), FileId::at(path)), (Ok(this), Ok(there)) if this == there)
    }

    pub(super) fn remove_unless_held(path: &Path) {
        let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed();
        let open = |write: bool| {
            let mut options = OpenOptions::new();
            options.read(true).write(write).custom_flags(flags);
            options.open(path)
        };
        // A lock on a network file system may need one that is open for writing.
        let Ok(file) = open(true).or_else(|_| open(false)) else {
            return;
        };
        let is_file = file.metadata().is_ok_and(|found| found.is_file());
        // The process that held it may have published it until now.
        if is_file
            && flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok()
            && is_at(&file, path)
        {
            let _ = fs::remove_file(path);
        }
    }
}

#[cfg(windows)]
mod imp {
    use std::fs::{File, OpenOptions};
    use std::os::windows::fs::OpenOptionsExt;
    use std::path::Path;

    /// An open handle is enough: see [`remove_unless_held`].
    pub(crate) fn hold(_: &File) -> bool {
        true
    }

    pub(super) fn is_at(_: &File, _: &Path) -> bool {
        true
    }

    /// Opens the file so that closing removes it, which the system refuses as long as another
    /// handle is open.
    pub(super) fn remove_unless_held(path: &Path) {
        const DELETE: u32 = 0x0001_0000;
        const FILE_FLAG_OPEN_REPARSE_POINT: u32 = 0x0020_0000;
        const FILE_FLAG_DELETE_ON_CLOSE: u32 = 0x0400_0000;
        let _ = OpenOptions::new()
            .access_mode(DELETE)
            .share_mode(0)
            .custom_flags(FILE_FLAG_OPEN_REPARSE_POINT | FILE_FLAG_DELETE_ON_CLOSE)
            .open(path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn make(path: &Path) -> io::Result<File> {
        File::options()
            .read(true)
            .write(true)
            .create_new(true)
            .open(path)
    }

    #[test]
    fn what_is_held_stays_and_what_is_left_over_goes() {
        let directory = tempfile::tempdir().unwrap();
        let (held, held_path) = create_held(directory.path(), make).unwrap();
        let (left, left_path) = create_held(directory.path(), make).unwrap();
        let left_path = left_path.keep().unwrap();
        for name in ["disk", ".tar2vhd-1-abc.tmp", ".tar2vhd-x-abcdef.tmp"] {
            fs::write(directory.path().join(name), "").unwrap();
        }
        fs::create_dir(directory.path().join(".tar2vhd-1-abcdef.tmp")).unwrap();
        sweep(directory.path());
        assert!(left_path.exists());
        drop(left);
        sweep(directory.path());
        assert!(!left_path.exists() && held_path.exists());
        assert_eq!(fs::read_dir(&directory).unwrap().count(), 5);
        drop(held);
        sweep(directory.path());
        assert!(!held_path.exists());
    }

    #[cfg(unix)]
    #[test]
    fn links_are_neither_followed_nor_removed() {
        let directory = tempfile::tempdir().unwrap();
        let inside = |name: &str| directory.path().join(name);
        fs::write(inside("file"), "").unwrap();
        std::os::unix::fs::symlink("file", inside(".tar2vhd-1-abcdef.tmp")).unwrap();
        sweep(directory.path());
        assert!(inside("file").exists() && inside(".tar2vhd-1-abcdef.tmp").is_symlink());
    }
}
