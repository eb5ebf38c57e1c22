//! Differences between operating systems.

pub(super) use holes::extent;
pub(super) use imp::{copy_attributes, create, mode, open_directory, sync_directory, write_all_at};
pub(super) use unnamed::{give_name, unnamed_temporary};

#[cfg(unix)]
mod imp {
    use std::fs::{File, OpenOptions};
    use std::io;
    use std::os::unix::fs::{FileExt, OpenOptionsExt};
    use std::path::Path;

    pub(crate) use crate::disk::attributes::{copy as copy_attributes, mode};

    /// Writes all of `data` at `offset`.
    pub(crate) fn write_all_at(file: &File, offset: u64, data: &[u8]) -> io::Result<()> {
        file.write_all_at(data, offset)
    }

    /// Makes a file of a name that is new, with a mode from which the umask is taken away.
    pub(crate) fn create(path: &Path, mode: u32) -> io::Result<File> {
        OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .mode(mode)
            .open(path)
    }

    /// Opens a directory for [`sync_directory`].
    pub(crate) fn open_directory(path: &Path) -> io::Result<File> {
        File::open(path)
    }

    /// Waits until the names in a directory are on stable storage.
    pub(crate) fn sync_directory(directory: &File) -> io::Result<()> {
        match directory.sync_all() {
            // Some network file systems cannot, and need not.
            Err(e)
                if matches!(
                    e.kind(),
                    io::ErrorKind::InvalidInput | io::ErrorKind::Unsupported
                ) =>
            {
                Ok(())
            }
            result => result,
        }
    }
}

#[cfg(windows)]
mod imp {
    use std::fs::{File, Metadata, OpenOptions};
    use std::io;
    use std::os::windows::fs::FileExt;
    use std::path::Path;

    /// Writes all of `data` at `offset`.
    pub(crate) fn write_all_at(file: &File, mut offset: u64, mut data: &[u8]) -> io::Result<()> {
        // Offsets are signed there, and the last two of all mean other things.
        offset
            .checked_add(data.len() as u64)
            .and_then(|end| i64::try_from(end).ok())
            .ok_or(io::ErrorKind::InvalidInput)?;
        while !data.is_empty() {
            match file.seek_write(data, offset) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(written) => {
                    data = &data[written..];
                    offset += written as u64;
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }

    /// Makes a file of a name that is new, with the access list that the directory gives it.
    pub(crate) fn create(path: &Path, _: u32) -> io::Result<File> {
        OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .open(path)
    }

    /// There are no modes here.
    pub(crate) fn mode(_: Option<&Metadata>) -> u32 {
        0
    }

    /// A file keeps the access list that the directory gave it.
    pub(crate) fn copy_attributes(_: &File, _: &Path, _: &Metadata) -> io::Result<()> {
        Ok(())
    }

    /// There is no such thing as [`sync_directory`] here.
    pub(crate) fn open_directory(_: &Path) -> io::Result<()> {
        Ok(())
    }

    /// Names are as durable as NTFS's journal makes them.
    pub(crate) fn sync_directory((): &()) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(any(target_os = "linux", target_os = "android"))]
mod unnamed {
    use std::fs::{self, File, OpenOptions};
    use std::io;
    use std::os::fd::AsRawFd;
    use std::os::unix::fs::OpenOptionsExt;
    use std::path::{Path, PathBuf};

    use rustix::fs::{AtFlags, CWD, OFlags};

    /// A temporary file in `directory` without a name: gone with the process, however that
    /// ends. `None` where the file system has no such thing.
    pub(crate) fn unnamed_temporary(directory: &Path, mode: u32) -> Option<File> {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .mode(mode)
            .custom_flags(OFlags::TMPFILE.bits().cast_signed())
            .open(directory)
            .ok()?;
        // Better to learn now than in the end that /proc is not mounted.
        fs::metadata(link(&file)).ok()?;
        Some(file)
    }

    /// Gives an unnamed file a name, which must not exist yet.
    pub(crate) fn give_name(file: &File, path: &Path) -> io::Result<()> {
        // The way without /proc, AT_EMPTY_PATH, is for privileged processes before Linux 6.10.
        rustix::fs::linkat(CWD, link(file), CWD, path, AtFlags::SYMLINK_FOLLOW)?;
        Ok(())
    }

    fn link(file: &File) -> PathBuf {
        format!("/proc/self/fd/{}", file.as_raw_fd()).into()
    }
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
mod unnamed {
    use std::fs::File;
    use std::io;
    use std::path::Path;

    /// There are no unnamed files that can be given a name.
    pub(crate) fn unnamed_temporary(_: &Path, _: u32) -> Option<File> {
        None
    }

    /// See [`unnamed_temporary`].
    pub(crate) fn give_name(_: &File, _: &Path) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

#[cfg(any(target_os = "linux", target_os = "android"))]
mod holes {
    use std::fs::File;

    use rustix::fs::{SeekFrom, seek};
    use rustix::io::Errno;

    /// Whether a file has data at `offset` or a hole, and where that changes: nowhere, if the
    /// file system cannot tell. Moves the file's own position.
    pub(crate) fn extent(file: &File, offset: u64) -> (bool, u64) {
        match seek(file, SeekFrom::Data(offset)) {
            Err(Errno::NXIO) => (false, u64::MAX),
            Ok(data) if data > offset => (false, data),
            Ok(_) => {
                let hole = seek(file, SeekFrom::Hole(offset));
                (true, hole.unwrap_or(u64::MAX))
            }
            Err(_) => (true, u64::MAX),
        }
    }
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
mod holes {
    use std::fs::File;

    /// A file has data everywhere, as far as is known.
    pub(crate) fn extent(_: &File, _: u64) -> (bool, u64) {
        (true, u64::MAX)
    }
}
