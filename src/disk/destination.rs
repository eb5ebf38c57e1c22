//! Where a file is to be put, and what stands there.

use std::fs::{self, FileType, Metadata};
use std::io;
use std::path::{self, Path, PathBuf};

use crate::error::{Error, ErrorKind, Result};
use crate::summary::display_file;

/// The place of a file that is to appear.
pub(super) struct Destination {
    /// As the caller spells it, for messages.
    shown: PathBuf,
    /// Absolute, so that the working directory may change meanwhile, and behind the link that
    /// `shown` may be.
    path: PathBuf,
}

impl Destination {
    /// Follows `path` to its file, which must be absent or a regular file. Returns its place, and the
    /// metadata of the file that is there.
    pub(super) fn resolve(path: &Path) -> Result<(Self, Option<Metadata>)> {
        let mut destination = Self::new(path)?;
        let is_link = fs::symlink_metadata(&destination.path).is_ok_and(|found| found.is_symlink());
        if is_link {
            destination.path = destination.follow()?;
        }
        let old = destination.existing()?;
        Ok((destination, old))
    }

    /// `path` itself, where nothing may be, not even a link.
    pub(super) fn absent(path: &Path) -> Result<Self> {
        let destination = Self::new(path)?;
        match fs::symlink_metadata(&destination.path) {
            Ok(_) => Err(destination.exists(None)),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(destination),
            Err(e) => Err(destination.failed(e)),
        }
    }

    fn new(path: &Path) -> Result<Self> {
        // `Path` overlooks a slash at the end.
        let is_directory_name = path
            .as_os_str()
            .as_encoded_bytes()
            .last()
            .is_none_or(|&last| path::is_separator(last.into()));
        if is_directory_name || path.file_name().is_none() {
            let name = display_file(path);
            return Err(Error::new(
                ErrorKind::Output,
                format!("'{name}' is not the name of a file"),
            ));
        }
        let mut destination = Self {
            shown: path.to_owned(),
            path: PathBuf::new(),
        };
        destination.path = path::absolute(path).map_err(|e| destination.failed(e))?;
        Ok(destination)
    }

    /// The file behind the link.
    fn follow(&self) -> Result<PathBuf> {
        // Asking what the link leads to first lets the kernel refuse, as it does for links
        // that others put into a shared directory.
        let found = match fs::metadata(&self.path) {
            Ok(found) => found,
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                let target = fs::read_link(&self.path).unwrap_or_default();
                let message = format!(
                    "cannot write to {}: it is a link to {}, which does not exist",
                    self.name(),
                    display_file(&target)
                );
                return Err(Error::new(ErrorKind::Output, message));
            }
            Err(e) => return Err(self.failed(e)),
        };
        // A target without a path, such as the pipe behind /dev/stdout, is refused by its type.
        self.check_type(found.file_type())?;
        fs::canonicalize(&self.path).map_err(|e| self.failed(e))
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The name for messages.
    pub(super) fn name(&self) -> String {
        display_file(&self.shown)
    }

    pub(super) fn directory(&self) -> &Path {
        self.path.parent().unwrap_or(&self.path)
    }

    /// The metadata of the regular file that stands there; none if nothing does.
    pub(super) fn existing(&self) -> Result<Option<Metadata>> {
        match fs::symlink_metadata(&self.path) {
            Ok(found) => {
                self.check_type(found.file_type())?;
                Ok(Some(found))
            }
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(e) => Err(self.failed(e)),
        }
    }

    fn check_type(&self, found: FileType) -> Result<()> {
        if found.is_file() {
            return Ok(());
        }
        let name = self.name();
        let message = match () {
            () if found.is_dir() => format!("{name} is a directory"),
            () if is_device(found) => format!(
                "{name} is not a regular file: a device is not replaced as a whole; write the \
                 disk to a file and copy that to the device"
            ),
            () => format!(
                "{name} is not a regular file: a disk is not written from start to end and \
                 cannot go there; write it to a file"
            ),
        };
        Err(Error::new(ErrorKind::Output, message))
    }

    pub(super) fn failed(&self, e: io::Error) -> Error {
        Error::output(format!("cannot write to {}", self.name()), e)
    }

    /// No temporary file can be made, of which the caller knows nothing.
    pub(super) fn no_temporary(&self, e: io::Error) -> Error {
        let directory = match self.shown.parent() {
            Some(directory) if !directory.as_os_str().is_empty() => directory,
            _ => Path::new("."),
        };
        Error::output(
            format!("cannot create a file in {}", display_file(directory)),
            e,
        )
    }

    /// Something stands where nothing may.
    pub(super) fn exists(&self, found: Option<io::Error>) -> Error {
        let found = found.unwrap_or_else(|| io::ErrorKind::AlreadyExists.into());
        Error::output(format!("{} is not replaced", self.name()), found)
    }
}

#[cfg(unix)]
fn is_device(found: FileType) -> bool {
    use std::os::unix::fs::FileTypeExt;
    found.is_block_device() || found.is_char_device()
}

#[cfg(not(unix))]
fn is_device(_: FileType) -> bool {
    false
}
