//! Which file a path or a handle leads to.

use std::fs::File;
use std::io;
use std::path::Path;

/// The identity of a file, whatever names and links lead to it.
///
/// It holds as long as the file exists: a file that is made later may get that of one that is
/// gone.
///
/// ```
/// use tar2vhd::disk::FileId;
///
/// let directory = tempfile::tempdir()?;
/// let (one, other) = (directory.path().join("one"), directory.path().join("other"));
/// std::fs::write(&one, "")?;
/// std::fs::hard_link(&one, &other)?;
/// assert_eq!(FileId::at(&one)?, FileId::at(&other)?);
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FileId {
    volume: u64,
    file: u64,
}

impl FileId {
    /// The identity of an open file.
    ///
    /// # Errors
    /// If the system cannot tell it.
    pub fn of(file: &File) -> io::Result<Self> {
        imp::of(file)
    }

    /// The identity of the file that a path leads to, through symbolic links.
    ///
    /// # Errors
    /// If there is none or the system cannot tell it.
    pub fn at(path: impl AsRef<Path>) -> io::Result<Self> {
        imp::at(path.as_ref())
    }
}

#[cfg(unix)]
mod imp {
    use std::fs::{File, Metadata};
    use std::io;
    use std::os::unix::fs::MetadataExt;
    use std::path::Path;

    use super::FileId;

    pub(super) fn of(file: &File) -> io::Result<FileId> {
        file.metadata().map(id)
    }

    /// Opens nothing, because opening a FIFO would wait for its other end.
    pub(super) fn at(path: &Path) -> io::Result<FileId> {
        path.metadata().map(id)
    }

    fn id(metadata: Metadata) -> FileId {
        FileId {
            volume: metadata.dev(),
            file: metadata.ino(),
        }
    }
}

#[cfg(windows)]
mod imp {
    use std::fs::{File, OpenOptions};
    use std::io;
    use std::os::windows::fs::OpenOptionsExt;
    use std::path::Path;

    use winapi_util::file::information;

    use super::FileId;

    pub(super) fn of(file: &File) -> io::Result<FileId> {
        let found = information(file)?;
        Ok(FileId {
            volume: found.volume_serial_number(),
            file: found.file_index(),
        })
    }

    /// Asks for no access, so that files that are in use can be looked at.
    pub(super) fn at(path: &Path) -> io::Result<FileId> {
        // Directories are opened with it alone.
        const FILE_FLAG_BACKUP_SEMANTICS: u32 = 0x0200_0000;
        let file = OpenOptions::new()
            .access_mode(0)
            .custom_flags(FILE_FLAG_BACKUP_SEMANTICS)
            .open(path)?;
        of(&file)
    }
}
