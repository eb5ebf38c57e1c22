//! The directories under the root, and what may lie in them.
//!
//! ```text
//! metadata.redb           the store
//! snapshots/7/            snapshot 7, whatever its key or name
//!   layer.vhd             of an extracted layer
//!   sandbox.vhdx          of a container, or a link to that of another
//! snapshots/rm-7/         what was removed, until it is deleted
//! ```

use std::collections::BTreeSet;
use std::fs::{self, DirEntry};
use std::io;
use std::path::{Path, PathBuf};

use tonic::Status;
use tracing::{info, warn};

use crate::platform;
use crate::store::{Snapshot, Usage};

/// The disk of a layer.
pub(crate) const LAYER: &str = "layer.vhd";
/// The disk a container writes to.
pub(crate) const SANDBOX: &str = "sandbox.vhdx";
const REMOVED: &str = "rm-";
/// How the names of the library's temporary files start, where they need names.
const TEMPORARY: &str = ".tar2vhd-";

/// Where snapshots lie.
#[derive(Clone, Debug)]
pub(crate) struct Layout {
    root: PathBuf,
    /// As text, because containerd gets and gives paths as text.
    snapshots: String,
}

impl Layout {
    /// Makes the directories that are absent, for nobody else to look into.
    pub(crate) fn create(root: &Path) -> io::Result<Self> {
        let root = std::path::absolute(root)?;
        platform::create_private_directory(&root)?;
        let snapshots = root.join("snapshots");
        platform::create_private_directory(&snapshots)?;
        let text = snapshots.to_str().ok_or_else(|| {
            let message = format!("the root {} is not UTF-8", root.display());
            io::Error::new(io::ErrorKind::InvalidInput, message)
        })?;
        Ok(Self {
            snapshots: text.to_owned(),
            root,
        })
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    pub(crate) fn metadata(&self) -> PathBuf {
        self.root.join("metadata.redb")
    }

    /// The directory of a snapshot, as mounts name it.
    pub(crate) fn directory(&self, id: u64) -> String {
        self.named(&id.to_string())
    }

    fn named(&self, name: &str) -> String {
        format!("{}{}{name}", self.snapshots, std::path::MAIN_SEPARATOR)
    }

    /// The id whose directory this is, letter by letter.
    pub(crate) fn id_of(&self, directory: &str) -> Option<u64> {
        let name = directory.rsplit(std::path::MAIN_SEPARATOR).next()?;
        let id = name.parse().ok()?;
        (self.directory(id) == directory).then_some(id)
    }

    /// Where the layer of a snapshot is or will be. Nothing on the way is a link.
    pub(crate) fn layer(&self, id: u64) -> Result<PathBuf, Status> {
        let directory = PathBuf::from(self.directory(id));
        let found = directory.symlink_metadata();
        match found {
            Ok(found) if found.is_dir() => {}
            Ok(_) => {
                return Err(Status::failed_precondition(format!(
                    "{} is no directory",
                    directory.display()
                )));
            }
            Err(e) => return Err(failed(&directory, e)),
        }
        let path = directory.join(LAYER);
        match path.symlink_metadata() {
            Ok(found) if !found.is_file() => Err(Status::failed_precondition(format!(
                "{} is no regular file",
                path.display()
            ))),
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(failed(&path, e)),
            _ => Ok(path),
        }
    }

    /// The layers of these snapshots, all of which have to be there.
    pub(crate) fn layers(&self, ids: &[u64]) -> Result<Vec<PathBuf>, Status> {
        let layers = ids.iter().map(|id| {
            let path = self.layer(*id)?;
            match path.exists() {
                true => Ok(path),
                false => Err(Status::failed_precondition(format!(
                    "{} is missing: the parent was committed without a layer",
                    path.display()
                ))),
            }
        });
        layers.collect()
    }

    /// Makes the directory of a snapshot, which must be absent.
    pub(crate) fn create_directory(&self, id: u64) -> Result<PathBuf, Status> {
        let directory = PathBuf::from(self.directory(id));
        if directory.symlink_metadata().is_ok() {
            return Err(failed(&directory, io::ErrorKind::AlreadyExists.into()));
        }
        platform::create_private_directory(&directory).map_err(|e| failed(&directory, e))?;
        Ok(directory)
    }

    /// What a snapshot takes on disk, links not followed.
    pub(crate) fn usage(&self, id: u64) -> Result<Usage, Status> {
        let directory = PathBuf::from(self.directory(id));
        let mut usage = Usage::default();
        let mut count = |metadata: &fs::Metadata| {
            usage.size += platform::allocated(metadata);
            usage.inodes += 1;
        };
        let metadata = match directory.symlink_metadata() {
            // A view of a parent has none.
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(usage),
            other => other.map_err(|e| failed(&directory, e))?,
        };
        count(&metadata);
        if !metadata.is_dir() {
            return Ok(usage);
        }
        // There are no directories below; a file may vanish at any time.
        for entry in fs::read_dir(&directory).map_err(|e| failed(&directory, e))? {
            let entry = entry.map_err(|e| failed(&directory, e))?;
            match entry.path().symlink_metadata() {
                Ok(metadata) => count(&metadata),
                Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                Err(e) => return Err(failed(&entry.path(), e)),
            }
        }
        Ok(usage)
    }

    /// Takes the directory of a snapshot away, in an instant; [`sweep`](Self::sweep) deletes.
    pub(crate) fn set_aside(&self, id: u64) -> Result<(), Status> {
        let directory = self.directory(id);
        match fs::rename(&directory, self.named(&format!("{REMOVED}{id}"))) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
            result => result.map_err(|e| failed(Path::new(&directory), e)),
        }
    }

    /// Puts back what [`set_aside`](Self::set_aside) took.
    pub(crate) fn put_back(&self, id: u64) {
        let directory = self.directory(id);
        let aside = self.named(&format!("{REMOVED}{id}"));
        match fs::rename(&aside, &directory) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => {
                warn!(directory, error = %e, "a snapshot cannot be put back");
            }
            _ => {}
        }
    }

    /// Deletes the directory of a snapshot that was set aside.
    pub(crate) fn delete(&self, id: u64) {
        remove(Path::new(&self.named(&format!("{REMOVED}{id}"))));
    }

    /// Deletes all that was set aside, but for what is known yet: its removal is under way, and
    /// may be taken back.
    pub(crate) fn sweep(&self, is_known: impl Fn(u64) -> bool) -> io::Result<()> {
        self.entries(|name, entry| {
            if let Some(id) = name.strip_prefix(REMOVED)
                && !id_in(id).is_some_and(&is_known)
            {
                remove(&entry.path());
            }
        })
    }

    /// Brings the directories in line with what the store knows, after a crash maybe.
    pub(crate) fn recover(&self, known: &BTreeSet<u64>) -> io::Result<()> {
        self.entries(|name, entry| {
            let path = entry.path();
            match name.strip_prefix(REMOVED) {
                Some(id) => match id_in(id) {
                    Some(id) if known.contains(&id) => {
                        // It was set aside, but the store never heard of it.
                        info!(path = %path.display(), "putting back a snapshot whose removal did not end");
                        self.put_back(id);
                    }
                    _ => remove(&path),
                },
                None => match id_in(name) {
                    Some(id) if known.contains(&id) => {}
                    Some(_) => {
                        info!(path = %path.display(), "deleting a snapshot that was never finished");
                        remove(&path);
                    }
                    None => {
                        warn!(path = %path.display(), "this does not belong here; it is left alone");
                    }
                },
            }
        })
    }

    /// The highest id that a directory has or had.
    pub(crate) fn last_id(&self) -> io::Result<u64> {
        let mut last = 0;
        self.entries(|name, _| {
            let id = id_in(name.strip_prefix(REMOVED).unwrap_or(name));
            last = last.max(id.unwrap_or(0));
        })?;
        Ok(last)
    }

    fn entries(&self, mut visit: impl FnMut(&str, &DirEntry)) -> io::Result<()> {
        for entry in fs::read_dir(&self.snapshots)? {
            let entry = entry?;
            visit(&entry.file_name().to_string_lossy(), &entry);
        }
        Ok(())
    }

    /// Deletes temporary files that a conversion killed in a snapshot's directory left.
    pub(crate) fn sweep_temporaries(&self, known: &BTreeSet<u64>) -> io::Result<()> {
        for id in known {
            let directory = PathBuf::from(self.directory(*id));
            let found = directory.symlink_metadata();
            if !found.is_ok_and(|found| found.is_dir()) {
                continue;
            }
            for entry in fs::read_dir(&directory)? {
                let entry = entry?;
                let name = entry.file_name();
                if name.to_string_lossy().starts_with(TEMPORARY) {
                    info!(path = %entry.path().display(), "deleting a file that was never finished");
                    remove(&entry.path());
                }
            }
        }
        Ok(())
    }

    /// The directory that shows what a snapshot mounts, and the ids below it.
    ///
    /// A view of a parent shows the parent itself.
    pub(crate) fn shown<'a>(&self, snapshot: &'a Snapshot) -> (u64, &'a [u64]) {
        match (snapshot.record.kind, &snapshot.parents[..]) {
            (crate::store::Kind::View, [first, rest @ ..]) => (*first, rest),
            (_, parents) => (snapshot.record.id, parents),
        }
    }
}

/// The id that this is, as it is written.
fn id_in(name: &str) -> Option<u64> {
    let id: u64 = name.parse().ok()?;
    (id.to_string() == name).then_some(id)
}

/// Deletes a file or a directory and all in it. What cannot be deleted is left for the next
/// sweep.
fn remove(path: &Path) {
    let removed = match path.symlink_metadata() {
        Ok(found) if found.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(e) => Err(e),
    };
    match removed {
        Err(e) if e.kind() != io::ErrorKind::NotFound => {
            warn!(path = %path.display(), error = %e, "this cannot be deleted yet");
        }
        _ => {}
    }
}

/// A failure of the file system as a status.
pub(crate) fn failed(path: &Path, error: io::Error) -> Status {
    let message = format!("{}: {error}", path.display());
    match error.kind() {
        io::ErrorKind::NotFound => Status::not_found(message),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            Status::resource_exhausted(message)
        }
        _ => Status::internal(message),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_very_directory_of_a_snapshot_names_it() {
        let root = tempfile::tempdir().unwrap();
        let layout = Layout::create(root.path()).unwrap();
        let snapshots = root.path().join("snapshots");
        let snapshots = snapshots.to_str().unwrap();
        assert_eq!(layout.id_of(&format!("{snapshots}/7")), Some(7));
        for other in [
            "07", "+7", "7/", "../7", "./7", "7/..", "", "rm-7", "-7", "7 ",
        ] {
            assert_eq!(
                layout.id_of(&format!("{snapshots}/{other}")),
                None,
                "{other}"
            );
        }
        for other in ["/7", "7", "/etc/7", ""] {
            assert_eq!(layout.id_of(other), None, "{other}");
        }
        assert_eq!(layout.id_of(&format!("{snapshots}/../snapshots/7")), None);
        assert_eq!(layout.id_of(&format!("{snapshots}//7")), None);
    }

    #[test]
    fn recovery_leaves_what_is_known_and_puts_back_half_removals() {
        let root = tempfile::tempdir().unwrap();
        let layout = Layout::create(root.path()).unwrap();
        for name in ["1", "2", "rm-3", "rm-4", "x", "007", "+7"] {
            fs::create_dir(layout.named(name)).unwrap();
            fs::write(format!("{}/.tar2vhd-x", layout.named(name)), name).unwrap();
            fs::write(format!("{}/layer.vhd", layout.named(name)), name).unwrap();
        }
        layout.recover(&BTreeSet::from([1, 3])).unwrap();
        let mut names = Vec::new();
        layout
            .entries(|name, _| names.push(name.to_owned()))
            .unwrap();
        names.sort();
        assert_eq!(names, ["+7", "007", "1", "3", "x"]);
        assert_eq!(layout.last_id().unwrap(), 3);
        layout.sweep_temporaries(&BTreeSet::from([1, 5])).unwrap();
        assert_eq!(fs::read_dir(layout.named("1")).unwrap().count(), 1);
        assert!(Path::new(&layout.named("1")).join(LAYER).exists());
        assert_eq!(fs::read_dir(layout.named("3")).unwrap().count(), 2);
    }

    #[test]
    fn what_is_being_removed_is_not_swept_and_may_come_back() {
        let root = tempfile::tempdir().unwrap();
        let layout = Layout::create(root.path()).unwrap();
        for id in [1, 2, 3] {
            layout.create_directory(id).unwrap();
        }
        let twice = layout.create_directory(1).unwrap_err();
        assert_eq!(twice.code(), tonic::Code::Internal);
        layout.set_aside(1).unwrap();
        layout.set_aside(2).unwrap();
        layout.sweep(|id| id == 2).unwrap();
        assert!(!Path::new(&layout.named("rm-1")).exists());
        layout.put_back(2);
        assert!(Path::new(&layout.directory(2)).is_dir());
        layout.set_aside(3).unwrap();
        assert_eq!(layout.last_id().unwrap(), 3);
        layout.delete(3);
        assert_eq!(layout.last_id().unwrap(), 2);
    }

    #[cfg(unix)]
    #[test]
    fn no_link_is_taken_for_a_snapshot_or_a_layer() {
        use std::os::unix::fs::{PermissionsExt, symlink};
        let root = tempfile::tempdir().unwrap();
        let layout = Layout::create(root.path()).unwrap();
        let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o7777;
        let made = layout.create_directory(1).unwrap();
        assert_eq!(mode(&made), 0o700);
        assert_eq!(layout.layer(1).unwrap(), made.join(LAYER));
        symlink("/etc/passwd", made.join(LAYER)).unwrap();
        assert!(layout.layer(1).is_err());
        symlink(&made, layout.directory(2)).unwrap();
        assert!(layout.layer(2).is_err());
        assert!(layout.layers(&[1]).is_err());
        assert_eq!(layout.usage(2).unwrap().inodes, 1);
        fs::write(made.join(".tar2vhd-x"), "").unwrap();
        layout.sweep_temporaries(&BTreeSet::from([2])).unwrap();
        assert!(made.join(".tar2vhd-x").exists());
        layout.sweep_temporaries(&BTreeSet::from([1])).unwrap();
        assert!(!made.join(".tar2vhd-x").exists());
        let usage = layout.usage(1).unwrap();
        assert_eq!(usage.inodes, 2);
        assert!(usage.size < 10_000);
    }
}
