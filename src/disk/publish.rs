use std::fmt;
use std::fs::File;
use std::io;
use std::mem;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tempfile::TempPath;

use super::destination::Destination;
use super::early::EarlySync;
use super::{DiskOutput, FileId, Volume, platform, temporary};
use crate::error::{Error, ErrorKind, Result};

/// A file that appears at its destination whole, by [`publish`](Self::publish), or not at
/// all.
///
/// Until then it has no name on Linux where the file system allows that, so that nothing is
/// left of it however the process ends. Elsewhere, and on Linux for the moment in which it
/// replaces another file, it has a temporary name beside the destination,
/// `.tar2vhd-PID-XXXXXX.tmp`. That is removed when the file is dropped or [discarded](Discard);
/// one that a process left behind because it was killed is removed by the next `DiskFile` in the
/// same directory.
///
/// ```no_run
/// use tar2vhd::disk::{DiskFile, DiskOutput};
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let file = DiskFile::create("layer.vhd")?;
/// file.write_at(0, b"...")?;
/// file.publish(true)?;
/// # Ok(())
/// # }
/// ```
pub struct DiskFile {
    file: File,
    destination: Destination,
    /// Whether it may take the place of another file.
    replaces: bool,
    temporary: Discard,
    early: Option<EarlySync>,
    kept: Vec<(FileId, String)>,
}

impl DiskFile {
    /// Starts a file that will stand at `path`, which has to be absent or a regular file.
    ///
    /// The file will have the permissions of the one it replaces, or those of any new file. On
    /// Unix these are owner and group, as far as the process may give files to them, mode
    /// without the bits that change the user or group, and on Linux the access list.
    /// A symbolic link to a regular file stays, and that file is replaced.
    ///
    /// # Errors
    /// [`ErrorKind::Output`] if `path` is something else or its directory cannot be written.
    pub fn create(path: impl AsRef<Path>) -> Result<Self> {
        Self::start(path.as_ref(), true, platform::unnamed_temporary)
    }

    /// Starts a file that will stand at `path`, where nothing may be, now or when it is
    /// published.
    ///
    /// # Errors
    /// [`ErrorKind::Output`] if something is there or the directory cannot be written.
    pub fn create_new(path: impl AsRef<Path>) -> Result<Self> {
        Self::start(path.as_ref(), false, platform::unnamed_temporary)
    }

    fn start(
        path: &Path,
        replaces: bool,
        unnamed_temporary: fn(&Path, u32) -> Option<File>,
    ) -> Result<Self> {
        let (destination, old) = match replaces {
            true => Destination::resolve(path)?,
            false => (Destination::absent(path)?, None),
        };
        let directory = destination.directory();
        temporary::sweep(directory);
        let mode = platform::mode(old.as_ref());
        let (file, temporary) = match unnamed_temporary(directory, mode) {
            Some(file) => {
                // Held before it has a name.
                temporary::hold(&file);
                (file, Temporary::Unnamed)
            }
            None => temporary::create_held(directory, |path| platform::create(path, mode))
                .map(|(file, path)| (file, Temporary::Named(path)))
                .map_err(|e| destination.no_temporary(e))?,
        };
        if let Some(old) = &old {
            platform::copy_attributes(&file, destination.path(), old)
                .map_err(|e| destination.failed(e))?;
        }
        Ok(Self {
            file,
            destination,
            replaces,
            temporary: Discard(Arc::new(Mutex::new(temporary))),
            early: None,
            kept: Vec::new(),
        })
    }

    /// Refuses to replace `file`, such as one that is still to be read; `role` tells in an error
    /// what it is: "the input".
    ///
    /// The destination is compared now and again by [`publish`](Self::publish), by identity: no
    /// link or other spelling of a path leads around it.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidOptions`] if the destination is that file.
    pub fn keep(&mut self, file: FileId, role: impl Into<String>) -> Result<()> {
        self.kept.push((file, role.into()));
        self.check_kept()
    }

    /// Refuses to replace a file that holds `volume`, or one of its parents.
    ///
    /// # Errors
    /// As [`keep`](Self::keep).
    pub fn keep_volume(&mut self, volume: &Volume) -> Result<()> {
        volume.files().iter().enumerate().try_for_each(|(n, file)| {
            let role = match n {
                0 => "the disk that is read",
                _ => "a parent of the disk that is read",
            };
            self.keep(*file, role)
        })
    }

    /// Refuses to replace what `other` publishes or replaces, and to stand where it will stand;
    /// `role` tells in an error what that is.
    ///
    /// # Errors
    /// As [`keep`](Self::keep).
    pub fn keep_other(&mut self, other: &Self, role: &str) -> Result<()> {
        let place = |destination: &Destination| -> io::Result<_> {
            let name = destination.path().file_name().map(ToOwned::to_owned);
            Ok((FileId::at(destination.directory())?, name))
        };
        let failed = |e| self.destination.failed(e);
        let (this, that) = (place(&self.destination), place(&other.destination));
        if this.map_err(failed)? == that.map_err(failed)? {
            return Err(self.would_replace(role));
        }
        let published = FileId::of(&other.file).map_err(failed)?;
        if let Ok(replaced) = FileId::at(other.destination.path()) {
            self.keep(replaced, role)?;
        }
        self.keep(published, role)
    }

    fn check_kept(&self) -> Result<()> {
        if self.kept.is_empty() {
            return Ok(());
        }
        let found = match FileId::at(self.destination.path()) {
            Ok(found) => found,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(e) => return Err(self.destination.failed(e)),
        };
        match self.kept.iter().find(|(kept, _)| *kept == found) {
            Some((_, role)) => Err(self.would_replace(role)),
            None => Ok(()),
        }
    }

    fn would_replace(&self, role: &str) -> Error {
        let name = self.destination.name();
        Error::new(
            ErrorKind::InvalidOptions,
            format!("{name} is {role} itself, which would be lost: write to another file"),
        )
    }

    /// Discards the file from elsewhere, as a handler of signals may have to.
    #[must_use]
    pub fn discard_handle(&self) -> Discard {
        self.temporary.clone()
    }

    /// Has a thread bring what is written from now on to stable storage while more is written,
    /// so that [`sync`](Self::sync) has less to wait for. Worth it for hundreds of megabytes.
    ///
    /// Does nothing if the system refuses the thread.
    pub fn sync_early(&mut self) {
        let file = self.file.try_clone();
        self.early = file
            .and_then(|file| EarlySync::start(move || file.sync_data()))
            .ok();
    }

    /// Waits until what was written is on stable storage, so that
    /// [`publish`](Self::publish) is quick.
    ///
    /// # Errors
    /// If the system says that something could not be written.
    pub fn sync(&self) -> Result<()> {
        let name = self.destination.name();
        self.early
            .as_ref()
            .map_or(Ok(()), EarlySync::finish)
            .and_then(|()| self.file.sync_all())
            .map_err(|e| Error::output(format!("cannot write {name} to stable storage"), e))
    }

    /// Puts the file in the place of what stands at its destination, atomically.
    ///
    /// With `fsync` the file is on stable storage before, and its name after.
    ///
    /// # Errors
    /// If anything fails the destination stays as it was, but for a failure to sync the
    /// directory after all else is done.
    pub fn publish(self, fsync: bool) -> Result<()> {
        let name = self.destination.name();
        let failed = |e| Error::output(format!("cannot publish {name}"), e);
        let not_published = |e: io::Error| match e.kind() {
            io::ErrorKind::AlreadyExists if !self.replaces => self.destination.exists(Some(e)),
            _ => failed(e),
        };
        let mut directory_to_sync = None;
        if fsync {
            self.sync()?;
            let directory = self.destination.directory();
            directory_to_sync = Some(platform::open_directory(directory).map_err(failed)?);
        }
        let mut exists = false;
        if self.replaces {
            exists = self.destination.existing()?.is_some();
            self.check_kept()?;
        }

        let mut temporary = self.temporary.lock();
        match mem::replace(&mut *temporary, Temporary::Gone) {
            Temporary::Unnamed => self.publish_unnamed(exists).map_err(not_published)?,
            Temporary::Named(path) => {
                let destination = self.destination.path();
                let persisted = match self.replaces {
                    true => path.persist(destination),
                    false => path.persist_noclobber(destination),
                };
                persisted.map_err(|e| not_published(e.error))?;
            }
            Temporary::Gone => {
                return Err(Error::new(
                    ErrorKind::Cancelled,
                    format!("{name} was discarded"),
                ));
            }
        }
        drop(temporary);

        if let Some(directory) = directory_to_sync {
            platform::sync_directory(&directory).map_err(|e| {
                Error::output(
                    format!("{name} is published, but may not outlast a crash of the system"),
                    e,
                )
            })?;
        }
        Ok(())
    }

    fn publish_unnamed(&self, exists: bool) -> io::Result<()> {
        let destination = self.destination.path();
        if !exists {
            match platform::give_name(&self.file, destination) {
                Err(e) if self.replaces && e.kind() == io::ErrorKind::AlreadyExists => {}
                result => return result,
            }
        }
        // A file can be renamed over another, but not linked over it.
        let give_name = |path: &Path| platform::give_name(&self.file, path);
        let ((), path) = temporary::create(self.destination.directory(), give_name)?;
        path.persist(destination).map_err(|e| e.error)
    }
}

impl Drop for DiskFile {
    fn drop(&mut self) {
        self.temporary.discard();
    }
}

impl fmt::Debug for DiskFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DiskFile")
            .field("destination", &self.destination.path())
            .finish_non_exhaustive()
    }
}

impl DiskOutput for DiskFile {
    fn write_at(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        DiskOutput::write_at(&self.file, offset, data)?;
        self.early
            .as_ref()
            .map_or(Ok(()), |early| early.wrote(data.len()))
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }
}

/// Discards a [`DiskFile`], from any thread.
#[derive(Clone)]
pub struct Discard(Arc<Mutex<Temporary>>);

enum Temporary {
    Unnamed,
    Named(TempPath),
    /// Published or discarded.
    Gone,
}

impl Discard {
    /// Removes the temporary file and makes a later [`DiskFile::publish`] fail. Waits for one
    /// that is under way.
    ///
    /// Returns false if there was nothing to discard: the file was published or discarded
    /// before.
    pub fn discard(&self) -> bool {
        !matches!(
            mem::replace(&mut *self.lock(), Temporary::Gone),
            Temporary::Gone
        )
    }

    fn lock(&self) -> MutexGuard<'_, Temporary> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Discard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Discard").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::PathBuf;

    use super::*;

    /// Both ways to start a file, of which the first may fall back to the second.
    fn starts() -> [fn(&Path) -> Result<DiskFile>; 2] {
        [
            |path| DiskFile::create(path),
            |path| DiskFile::start(path, true, |_, _| None),
        ]
    }

    #[test]
    fn what_could_not_be_synced_early_is_not_published() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("disk");
        let mut file = DiskFile::create(&path).unwrap();
        let (called, calls) = std::sync::mpsc::channel();
        let sync = move || {
            called.send(()).unwrap();
            Err(io::ErrorKind::QuotaExceeded.into())
        };
        file.early = Some(EarlySync::start(sync).unwrap());
        let data = vec![1; 1 << 20];
        for n in 0..70 {
            file.write_at(n << 20, &data).unwrap();
        }
        calls.recv().unwrap();
        assert_eq!(file.sync().unwrap_err().kind(), ErrorKind::StorageFull);
        let error = file.publish(true).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::StorageFull);
        assert_eq!(names(directory.path()), [""; 0]);
    }

    #[test]
    fn what_is_synced_early_is_what_was_written() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("disk");
        let mut file = DiskFile::create(&path).unwrap();
        file.sync_early();
        assert!(file.early.is_some());
        let data = vec![1; 1 << 20];
        for n in 0..70 {
            file.write_at(n << 20, &data).unwrap();
        }
        file.publish(true).unwrap();
        assert!(fs::read(&path).unwrap() == data.repeat(70));
    }

    fn names(directory: &Path) -> Vec<String> {
        let mut names: Vec<_> = fs::read_dir(directory)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn a_file_appears_when_published() {
        for start in starts() {
            for fsync in [false, true] {
                let directory = tempfile::tempdir().unwrap();
                let path = directory.path().join("disk");
                for content in ["new", "replaced"] {
                    let before = fs::read(&path).ok();
                    let file = start(&path).unwrap();
                    file.write_at(0, content.as_bytes()).unwrap();
                    assert_eq!(fs::read(&path).ok(), before);
                    file.publish(fsync).unwrap();
                    assert_eq!(fs::read_to_string(&path).unwrap(), content);
                    assert_eq!(names(directory.path()), ["disk"]);
                }
            }
        }
    }

    #[test]
    fn nothing_is_left_of_a_file_that_is_not_published() {
        for start in starts() {
            let directory = tempfile::tempdir().unwrap();
            let path = directory.path().join("disk");
            for _ in 0..2 {
                let left = names(directory.path());
                let file = start(&path).unwrap();
                let handle = file.discard_handle();
                file.write_at(0, b"x").unwrap();
                drop(file);
                assert!(!handle.discard());
                assert_eq!(names(directory.path()), left);

                let file = start(&path).unwrap();
                let handle = file.discard_handle();
                assert!(handle.discard() && !handle.discard());
                let error = file.publish(true).unwrap_err();
                assert_eq!(error.kind(), ErrorKind::Cancelled);
                assert_eq!(names(directory.path()), left);
                fs::write(&path, "old").unwrap();
            }
            assert_eq!(fs::read(&path).unwrap(), b"old");
        }
    }

    #[test]
    fn a_published_file_cannot_be_discarded() {
        for start in starts() {
            let directory = tempfile::tempdir().unwrap();
            let path = directory.path().join("disk");
            let file = start(&path).unwrap();
            let handle = file.discard_handle();
            file.publish(false).unwrap();
            assert!(!handle.discard());
            assert!(path.exists());
        }
    }

    #[test]
    fn a_file_that_appears_meanwhile_is_replaced_and_a_directory_is_not() {
        for start in starts() {
            let directory = tempfile::tempdir().unwrap();
            let path = directory.path().join("disk");
            let file = start(&path).unwrap();
            file.write_at(0, b"new").unwrap();
            fs::write(&path, "meanwhile").unwrap();
            // The name can also appear after it was last looked for.
            if matches!(*file.temporary.lock(), Temporary::Unnamed) {
                file.publish_unnamed(false).unwrap();
            } else {
                file.publish(false).unwrap();
            }
            assert_eq!(fs::read(&path).unwrap(), b"new");

            let file = start(&path).unwrap();
            fs::remove_file(&path).unwrap();
            fs::create_dir(&path).unwrap();
            let error = file.publish(false).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Output);
            assert_eq!(names(directory.path()), ["disk"]);
            assert!(path.is_dir());
        }
    }

    #[test]
    fn a_file_that_is_kept_is_not_replaced() {
        for start in starts() {
            let directory = tempfile::tempdir().unwrap();
            let inside = |name: &str| directory.path().join(name);
            fs::write(inside("source"), "source").unwrap();
            fs::hard_link(inside("source"), inside("link")).unwrap();
            let source = FileId::at(inside("source")).unwrap();
            for name in ["source", "link"] {
                let error = start(&inside(name)).unwrap().keep(source, "the input");
                let error = error.unwrap_err();
                assert_eq!(error.kind(), ErrorKind::InvalidOptions);
                assert!(error.to_string().contains("is the input itself"), "{error}");
            }
            // It may also come to stand at the destination later.
            let mut file = start(&inside("disk")).unwrap();
            file.keep(source, "the input").unwrap();
            fs::rename(inside("source"), inside("disk")).unwrap();
            let error = file.publish(false).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidOptions);
            assert_eq!(names(directory.path()), ["disk", "link"]);
            assert_eq!(fs::read(inside("disk")).unwrap(), b"source");
        }
    }

    #[test]
    fn a_new_file_replaces_nothing() {
        let starts: [fn(&Path) -> Result<DiskFile>; 2] = [
            |path| DiskFile::create_new(path),
            |path| DiskFile::start(path, false, |_, _| None),
        ];
        for start in starts {
            for fsync in [false, true] {
                let directory = tempfile::tempdir().unwrap();
                let path = directory.path().join("disk");
                let file = start(&path).unwrap();
                file.write_at(0, b"one").unwrap();
                let late = start(&path).unwrap();
                file.publish(fsync).unwrap();
                let already = |error: Error| {
                    assert_eq!(error.kind(), ErrorKind::Output);
                    let source = std::error::Error::source(&error).unwrap();
                    let source: &io::Error = source.downcast_ref().unwrap();
                    assert_eq!(source.kind(), io::ErrorKind::AlreadyExists);
                };
                already(late.publish(fsync).unwrap_err());
                already(start(&path).unwrap_err());
                assert_eq!(names(directory.path()), ["disk"]);
                assert_eq!(fs::read(&path).unwrap(), b"one");
                #[cfg(unix)]
                {
                    let link = directory.path().join("link");
                    std::os::unix::fs::symlink("absent", &link).unwrap();
                    already(start(&link).unwrap_err());
                }
            }
        }
    }

    /// As if the process were killed when the file has a temporary name.
    #[test]
    fn what_a_process_left_behind_goes_with_the_next_file() {
        for start in starts() {
            let directory = tempfile::tempdir().unwrap();
            let path = directory.path().join("disk");
            fs::write(&path, "old").unwrap();
            let killed = start(&path).unwrap();
            let unnamed = matches!(*killed.temporary.lock(), Temporary::Unnamed);
            if unnamed {
                let name = |path: &Path| platform::give_name(&killed.file, path);
                let ((), path) = temporary::create(directory.path(), name).unwrap();
                path.keep().unwrap();
            }
            let left = names(directory.path());
            assert!(
                left.len() == 2 && left[0].starts_with(".tar2vhd-"),
                "{left:?}"
            );
            // It is held as long as the process lives.
            drop(start(&path).unwrap());
            assert_eq!(names(directory.path()), left);
            let Temporary::Named(name) =
                mem::replace(&mut *killed.temporary.lock(), Temporary::Gone)
            else {
                drop(killed);
                drop(start(&path).unwrap());
                assert_eq!(names(directory.path()), ["disk"]);
                continue;
            };
            name.keep().unwrap();
            drop(killed);
            assert_eq!(names(directory.path()), left);
            start(&path).unwrap().publish(false).unwrap();
            assert_eq!(names(directory.path()), ["disk"]);
        }
    }

    #[test]
    fn two_files_do_not_replace_each_other() {
        for start in starts() {
            let directory = tempfile::tempdir().unwrap();
            let inside = |name: &str| directory.path().join(name);
            fs::write(inside("old"), "old").unwrap();
            fs::hard_link(inside("old"), inside("link")).unwrap();
            let dotted = directory.path().join(".").join("new");
            for (one, other) in [
                (inside("new"), inside("new")),
                (inside("new"), dotted),
                (inside("old"), inside("link")),
            ] {
                let (mut one, other) = (start(&one).unwrap(), start(&other).unwrap());
                let error = one.keep_other(&other, "the other").unwrap_err();
                assert_eq!(error.kind(), ErrorKind::InvalidOptions);
            }
            // Names that a file system takes for the same show it only when there is one.
            let mut one = start(&inside("one")).unwrap();
            let other = start(&inside("other")).unwrap();
            one.keep_other(&other, "the other").unwrap();
            other.publish(false).unwrap();
            fs::rename(inside("other"), inside("one")).unwrap();
            let error = one.publish(false).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::InvalidOptions);
        }
    }

    #[test]
    fn what_is_no_regular_file_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let inside = |name: &str| directory.path().join(name);
        fs::write(inside("file"), "old").unwrap();
        for (path, message) in [
            (directory.path().to_owned(), "is a directory"),
            (PathBuf::new(), "'' is not the name of a file"),
            (inside("absent/"), "is not the name of a file"),
            (inside(".."), "is not the name of a file"),
            (inside("absent/disk"), "cannot create a file in"),
            // The error of this one depends on the system.
            (inside("file/disk"), "cannot"),
        ] {
            for start in starts() {
                let error = start(&path).unwrap_err();
                assert_eq!(error.kind(), ErrorKind::Output);
                assert!(error.to_string().contains(message), "{error}");
            }
        }
        assert_eq!(names(directory.path()), ["file"]);
    }

    #[cfg(unix)]
    mod unix {
        use std::os::unix::fs::{PermissionsExt, symlink};
        use std::os::unix::net::UnixListener;

        use super::*;

        fn mode(path: &Path) -> u32 {
            fs::symlink_metadata(path).unwrap().permissions().mode() & 0o7777
        }

        #[test]
        fn modes_are_the_old_files_or_a_new_files() {
            for start in starts() {
                let directory = tempfile::tempdir().unwrap();
                let path = directory.path().join("disk");
                fs::write(directory.path().join("plain"), "").unwrap();
                start(&path).unwrap().publish(false).unwrap();
                assert_eq!(mode(&path), mode(&directory.path().join("plain")));
                for old in [0o600, 0o666, 0o440, 0o755] {
                    fs::set_permissions(&path, fs::Permissions::from_mode(old)).unwrap();
                    let file = start(&path).unwrap();
                    assert_eq!(
                        file.file.metadata().unwrap().permissions().mode() & 0o7777,
                        old
                    );
                    file.publish(false).unwrap();
                    assert_eq!(mode(&path), old);
                }
            }
        }

        #[test]
        fn a_disk_never_runs_as_somebody_else() {
            for start in starts() {
                let directory = tempfile::tempdir().unwrap();
                let path = directory.path().join("disk");
                fs::write(&path, "").unwrap();
                fs::set_permissions(&path, fs::Permissions::from_mode(0o7755)).unwrap();
                start(&path).unwrap().publish(false).unwrap();
                assert_eq!(mode(&path), 0o755);
            }
        }

        /// As root it is; another user may keep the group alone.
        #[test]
        fn owner_and_group_are_the_old_files() {
            use std::os::unix::fs::{MetadataExt, chown};

            for start in starts() {
                let directory = tempfile::tempdir().unwrap();
                let path = directory.path().join("disk");
                fs::write(&path, "").unwrap();
                if chown(&path, Some(12), Some(34)).is_err() {
                    return;
                }
                fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
                start(&path).unwrap().publish(false).unwrap();
                let found = fs::metadata(&path).unwrap();
                assert_eq!((found.uid(), found.gid(), mode(&path)), (12, 34, 0o640));
            }
        }

        /// user::rw-, user:1:rw-, group::---, mask::rw-, other::---.
        #[cfg(target_os = "linux")]
        const LIST: [u8; 44] = [
            2, 0, 0, 0, 1, 0, 6, 0, 255, 255, 255, 255, 2, 0, 6, 0, 1, 0, 0, 0, 4, 0, 0, 0, 255,
            255, 255, 255, 16, 0, 6, 0, 255, 255, 255, 255, 32, 0, 0, 0, 255, 255, 255, 255,
        ];

        #[cfg(target_os = "linux")]
        #[test]
        fn an_access_list_is_the_old_files_or_none() {
            const ACCESS: &str = "system.posix_acl_access";
            for start in starts() {
                let directory = tempfile::tempdir().unwrap();
                let path = directory.path().join("disk");
                fs::write(&path, "").unwrap();
                // The directory gives one to all that is new.
                if xattr::set(directory.path(), "system.posix_acl_default", &LIST).is_err() {
                    return;
                }
                start(&path).unwrap().publish(false).unwrap();
                assert_eq!(xattr::get(&path, ACCESS).unwrap(), None);
                assert_eq!(mode(&path), mode_of_new());
                xattr::set(&path, ACCESS, &LIST).unwrap();
                start(&path).unwrap().publish(false).unwrap();
                assert_eq!(xattr::get(&path, ACCESS).unwrap().unwrap(), LIST);
                assert_eq!(mode(&path), 0o660);
            }
        }

        #[cfg(target_os = "linux")]
        fn mode_of_new() -> u32 {
            let directory = tempfile::tempdir().unwrap();
            fs::write(directory.path().join("plain"), "").unwrap();
            mode(&directory.path().join("plain"))
        }

        #[test]
        fn links_lead_to_the_file_that_is_replaced() {
            for start in starts() {
                let directory = tempfile::tempdir().unwrap();
                let inside = |name: &str| directory.path().join(name);
                fs::create_dir(inside("elsewhere")).unwrap();
                fs::write(inside("elsewhere/file"), "old").unwrap();
                symlink("elsewhere/file", inside("direct")).unwrap();
                symlink("direct", inside("link")).unwrap();
                let file = start(&inside("link")).unwrap();
                file.write_at(0, b"new").unwrap();
                file.publish(true).unwrap();
                assert_eq!(fs::read(inside("elsewhere/file")).unwrap(), b"new");
                assert!(inside("link").is_symlink() && inside("direct").is_symlink());
                assert_eq!(names(&inside("elsewhere")), ["file"]);
            }
        }

        #[test]
        fn links_and_sockets_that_are_no_files_are_refused() {
            let directory = tempfile::tempdir().unwrap();
            let inside = |name: &str| directory.path().join(name);
            symlink("absent", inside("dangling")).unwrap();
            symlink("loop", inside("loop")).unwrap();
            symlink("/dev/null", inside("device")).unwrap();
            symlink(".", inside("directory")).unwrap();
            let _socket = UnixListener::bind(inside("socket")).unwrap();
            let left = names(directory.path());
            for (name, message) in [
                ("dangling", "it is a link to absent, which does not exist"),
                ("loop", "cannot write to"),
                ("device", "is not a regular file: a device"),
                ("directory", "is a directory"),
                (
                    "socket",
                    "is not a regular file: a disk is not written from start to end",
                ),
            ] {
                for start in starts() {
                    let error = start(&inside(name)).unwrap_err();
                    assert_eq!(error.kind(), ErrorKind::Output);
                    assert!(error.to_string().contains(message), "{error}");
                }
            }
            assert_eq!(names(directory.path()), left);
        }
    }
}
