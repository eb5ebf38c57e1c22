//! The directories under the root, and what may lie in them.
//!
//! ```text
//! lock                    held by the process that has this root
//! metadata.redb           the store
//! reserve                 room for a removal on a full disk
//! snapshots/7/            snapshot 7, whatever its key or name
//!   snapshot              its own record, for the day on which the store is lost
//!   layer.vhd             of an extracted layer
//!   sandbox.vhdx          of a container, or a link to that of another
//! snapshots/new-7/        what is being made, until everybody may see it
//! snapshots/rm-7/         what was removed, until it is deleted
//! ```

use std::fs::{self, File, TryLockError};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use tonic::Status;
use tracing::{info, warn};

use crate::files::{TEMPORARY, failed};
use crate::platform;
use crate::snapshot_file::{self, SNAPSHOT};
use crate::store::{Kind, Layer, Record, Snapshot, Usage};

/// The disk of a layer.
pub(crate) const LAYER: &str = "layer.vhd";
/// The disk a container writes to.
pub(crate) const SANDBOX: &str = "sandbox.vhdx";
const REMOVED: &str = "rm-";
const NEW: &str = "new-";
/// Bytes that are kept free for removals: a commit of the store writes a few dozen pages.
const RESERVE: usize = 1 << 20;
/// Bytes at the start and the end of a disk that are measured.
const HEAD: usize = 4096;
const TAIL: usize = 512;

/// The kind of an entry among the snapshots, told by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Name {
    Snapshot(u64),
    /// It is being made.
    New(u64),
    /// It was set aside to be deleted.
    Removed(u64),
    Other,
}

impl Name {
    pub(crate) fn of(name: &str) -> Self {
        // As it is written, and in no other way.
        let id_in = |text: &str| {
            let id: u64 = text.parse().ok()?;
            (id.to_string() == text).then_some(id)
        };
        if let Some(id) = id_in(name) {
            Self::Snapshot(id)
        } else if let Some(id) = name.strip_prefix(NEW).and_then(id_in) {
            Self::New(id)
        } else if let Some(id) = name.strip_prefix(REMOVED).and_then(id_in) {
            Self::Removed(id)
        } else {
            Self::Other
        }
    }

    fn id(self) -> Option<u64> {
        match self {
            Self::Snapshot(id) | Self::New(id) | Self::Removed(id) => Some(id),
            Self::Other => None,
        }
    }
}

/// Holds a root for this process.
#[derive(Debug)]
pub(crate) struct Lock(#[expect(dead_code, reason = "held, not used")] File);

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
        let named = |path: &Path, e: io::Error| {
            io::Error::new(e.kind(), format!("{}: {e}", path.display()))
        };
        let layout = Self::existing(root)?;
        for directory in [layout.root.clone(), PathBuf::from(&layout.snapshots)] {
            platform::create_private_directory(&directory).map_err(|e| named(&directory, e))?;
        }
        platform::sync_directory(&layout.root).map_err(|e| named(&layout.root, e))?;
        Ok(layout)
    }

    /// A root whose directories are there or are made later.
    pub(crate) fn existing(root: &Path) -> io::Result<Self> {
        let root = std::path::absolute(root)?;
        let snapshots = root.join("snapshots");
        let text = snapshots.to_str().ok_or_else(|| {
            let message = format!("the root {} is not UTF-8", root.display());
            io::Error::new(io::ErrorKind::InvalidInput, message)
        })?;
        Ok(Self {
            snapshots: text.to_owned(),
            root,
        })
    }

    /// Takes the root for this process.
    pub(crate) fn lock(&self) -> Result<Lock, Status> {
        let path = self.root.join("lock");
        let file = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .map_err(|e| failed(&path, e))?;
        match file.try_lock() {
            Err(TryLockError::WouldBlock) => Err(Status::unavailable(format!(
                "the root {} is already open in another process",
                self.root.display()
            ))),
            // A file system without locks; the store's own may help.
            Err(TryLockError::Error(e)) if e.kind() != io::ErrorKind::Unsupported => {
                Err(failed(&path, e))
            }
            _ => Ok(Lock(file)),
        }
    }

    /// Keeps some room, so that a removal can be recorded when the disk is full. Does without
    /// where there is none.
    pub(crate) fn keep_reserve(&self) {
        let path = self.reserve();
        if path
            .metadata()
            .is_ok_and(|found| found.len() == RESERVE as u64)
        {
            return;
        }
        let written = File::create(&path).and_then(|mut file| {
            file.write_all(&[0; RESERVE])?;
            // Blocks may be given only now.
            file.sync_all()
        });
        if written.is_err() {
            let _ = fs::remove_file(&path);
        }
    }

    /// Gives the room to what is to be recorded now. False if there is none.
    pub(crate) fn release_reserve(&self) -> bool {
        fs::remove_file(self.reserve()).is_ok()
    }

    fn reserve(&self) -> PathBuf {
        self.root.join("reserve")
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

    /// Where the directory of a snapshot waits to be deleted.
    pub(crate) fn aside(&self, id: u64) -> String {
        self.named(&format!("{REMOVED}{id}"))
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

    /// Makes the directory of a snapshot under the name that it has until it is
    /// [settled](Self::settle). Neither may be there.
    pub(crate) fn create_directory(&self, id: u64) -> Result<PathBuf, Status> {
        let directory = PathBuf::from(self.named(&format!("{NEW}{id}")));
        for path in [Path::new(&self.directory(id)), &directory] {
            if path.symlink_metadata().is_ok() {
                return Err(failed(path, io::ErrorKind::AlreadyExists.into()));
            }
        }
        platform::create_private_directory(&directory).map_err(|e| failed(&directory, e))?;
        Ok(directory)
    }

    /// Puts all that was made of a snapshot on stable storage, with its own record.
    pub(crate) fn record_new(&self, key: &str, record: &Record) -> Result<(), Status> {
        let directory = PathBuf::from(self.named(&format!("{NEW}{}", record.id)));
        snapshot_file::write(&directory, key, record)?;
        self.sync()
    }

    /// Replaces a snapshot's own record.
    pub(crate) fn record(&self, key: &str, record: &Record) -> Result<(), Status> {
        let directory = PathBuf::from(self.directory(record.id));
        let mut record = record.clone();
        // The store hears of a layer when it is committed, the directory when it is converted.
        if record.kind == Kind::Active
            && record.layer.is_none()
            && let Ok(Some((_, own))) = snapshot_file::read(&directory)
        {
            record.layer = own.layer;
        }
        match snapshot_file::write(&directory, key, &record) {
            // A view of a parent has none.
            Err(status) if status.code() == tonic::Code::NotFound => Ok(()),
            written => written,
        }
    }

    /// Gives the directory of a snapshot its name.
    pub(crate) fn settle(&self, id: u64) -> Result<(), Status> {
        let directory = self.directory(id);
        fs::rename(self.named(&format!("{NEW}{id}")), &directory)
            .map_err(|e| failed(Path::new(&directory), e))
    }

    /// Deletes the directory of a snapshot that could not be made.
    pub(crate) fn discard(&self, id: u64) {
        remove(Path::new(&self.named(&format!("{NEW}{id}"))));
    }

    /// Puts the names of all directories on stable storage.
    pub(crate) fn sync(&self) -> Result<(), Status> {
        let path = Path::new(&self.snapshots);
        platform::sync_directory(path).map_err(|e| failed(path, e))
    }

    /// Notes in a snapshot's own record what its layer is.
    pub(crate) fn record_layer(&self, snapshot: &Snapshot, diff_id: String) -> Result<(), Status> {
        let mut record = snapshot.record.clone();
        record.layer = self.measure(record.id)?.map(|layer| Layer {
            diff_id: Some(diff_id),
            ..layer
        });
        self.record(&snapshot.key, &record)
    }

    /// The disk of a layer, with what was noted of it when it was converted.
    pub(crate) fn layer_to_commit(&self, id: u64) -> Result<Option<Layer>, Status> {
        let directory = PathBuf::from(self.directory(id));
        let Some(mut layer) = self.measure(id)? else {
            return Ok(None);
        };
        if let Ok(Some((_, own))) = snapshot_file::read(&directory)
            && let Some(noted) = own.layer
            && (noted.size, noted.ends) == (layer.size, layer.ends)
        {
            layer.diff_id = noted.diff_id;
        }
        Ok(Some(layer))
    }

    /// Measures the disk of a layer; `None` without one.
    pub(crate) fn measure(&self, id: u64) -> Result<Option<Layer>, Status> {
        let path = self.layer(id)?;
        match platform::open_regular(&path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
            opened => {
                let measured = opened.and_then(|mut file| measure(&mut file));
                measured.map(Some).map_err(|e| failed(&path, e))
            }
        }
    }

    /// Holds a disk against what it was when it was committed.
    pub(crate) fn check_layer(&self, id: u64, wanted: &Layer) -> Result<(), String> {
        let path = PathBuf::from(self.directory(id)).join(LAYER);
        match self.measure(id) {
            Ok(None) => Err(format!("{} is missing", path.display())),
            Ok(Some(found)) if found.size != wanted.size => Err(format!(
                "{} has {} bytes, and had {} when it was committed",
                path.display(),
                found.size,
                wanted.size
            )),
            Ok(Some(found)) if found.ends != wanted.ends => Err(format!(
                "{} is not the disk that was committed: its superblock or footer differs",
                path.display()
            )),
            Ok(Some(_)) => Ok(()),
            Err(status) => Err(status.message().to_owned()),
        }
    }

    /// Holds the disks of the snapshots below against what they were when they were committed.
    pub(crate) fn check_below(&self, snapshot: &Snapshot) -> Result<(), Status> {
        for (id, layer) in snapshot.parents.iter().zip(&snapshot.layers) {
            let Some(layer) = layer else { continue };
            self.check_layer(*id, layer).map_err(|why| {
                Status::failed_precondition(format!(
                    "a layer below {:?} is damaged: {why}. Remove the image and its snapshots, \
                     and pull it again",
                    snapshot.key
                ))
            })?;
        }
        Ok(())
    }

    /// Measures the disk usage of a snapshot, without following links.
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
            if entry.file_name() == SNAPSHOT {
                // Counted by nobody: it is no part of what a snapshot holds.
                continue;
            }
            match entry.path().symlink_metadata() {
                Ok(metadata) => count(&metadata),
                Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                Err(e) => return Err(failed(&entry.path(), e)),
            }
        }
        Ok(usage)
    }

    /// Takes the directory of a snapshot away, in an instant; [`delete`](Self::delete) deletes.
    pub(crate) fn set_aside(&self, id: u64) -> Result<(), Status> {
        let directory = self.directory(id);
        let aside = self.aside(id);
        // It may get its name at this moment.
        for name in [&directory, &self.named(&format!("{NEW}{id}")), &directory] {
            match fs::rename(name, &aside) {
                Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                result => return result.map_err(|e| failed(Path::new(&directory), e)),
            }
        }
        Ok(())
    }

    /// Puts back what [`set_aside`](Self::set_aside) took.
    pub(crate) fn put_back(&self, id: u64) {
        let directory = self.directory(id);
        let aside = self.aside(id);
        if Path::new(&directory).symlink_metadata().is_ok() {
            warn!(
                directory,
                aside, "a snapshot is there twice; both are left alone"
            );
            return;
        }
        match fs::rename(&aside, &directory) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => {
                warn!(directory, error = %e, "a snapshot cannot be put back");
            }
            _ => {}
        }
    }

    /// Deletes the directory of a snapshot that was set aside; false if something is left.
    pub(crate) fn delete(&self, id: u64) -> bool {
        let path = self.aside(id);
        remove(Path::new(&path));
        Path::new(&path).symlink_metadata().is_err()
    }

    /// The highest id that a directory has or had.
    pub(crate) fn last_id(&self) -> io::Result<u64> {
        let ids = self.entries()?.into_iter();
        Ok(ids.filter_map(|(_, name)| name.id()).max().unwrap_or(0))
    }

    /// Whether there is anything that a store would know.
    pub(crate) fn has_snapshots(&self) -> io::Result<bool> {
        Ok(self.last_id()? > 0)
    }

    /// All that lies among the snapshots.
    pub(crate) fn entries(&self) -> io::Result<Vec<(PathBuf, Name)>> {
        let named = |e: io::Error| io::Error::new(e.kind(), format!("{}: {e}", self.snapshots));
        let mut entries = Vec::new();
        for entry in fs::read_dir(&self.snapshots).map_err(named)? {
            let entry = entry.map_err(named)?;
            let name = Name::of(&entry.file_name().to_string_lossy());
            entries.push((entry.path(), name));
        }
        entries.sort();
        Ok(entries)
    }

    /// Deletes temporary files that a conversion killed in a snapshot's directory left.
    pub(crate) fn sweep_temporaries(&self, id: u64) -> io::Result<()> {
        let directory = PathBuf::from(self.directory(id));
        let found = directory.symlink_metadata();
        if !found.is_ok_and(|found| found.is_dir()) {
            return Ok(());
        }
        for entry in fs::read_dir(&directory)? {
            let entry = entry?;
            let name = entry.file_name();
            if name.to_string_lossy().starts_with(TEMPORARY) {
                info!(path = %entry.path().display(), "deleting a file that was never finished");
                remove(&entry.path());
            }
        }
        Ok(())
    }

    /// The directory that shows what a snapshot mounts, and the ids below it.
    ///
    /// A view of a parent shows the parent itself.
    pub(crate) fn shown<'a>(&self, snapshot: &'a Snapshot) -> (u64, &'a [u64]) {
        match (snapshot.record.kind, &snapshot.parents[..]) {
            (Kind::View, [first, rest @ ..]) => (*first, rest),
            (_, parents) => (snapshot.record.id, parents),
        }
    }
}

/// Reads the ends of a disk.
fn measure(file: &mut File) -> io::Result<Layer> {
    let size = file.metadata()?.len();
    let mut head = Vec::with_capacity(HEAD);
    Read::by_ref(file)
        .take(HEAD as u64)
        .read_to_end(&mut head)?;
    file.seek(SeekFrom::Start(size.saturating_sub(TAIL as u64)))?;
    let mut tail = Vec::with_capacity(TAIL);
    file.take(TAIL as u64).read_to_end(&mut tail)?;
    Ok(Layer {
        diff_id: None,
        size,
        ends: crc32c::crc32c_append(crc32c::crc32c(&head), &tail),
    })
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
    fn what_is_made_and_removed_has_other_names() {
        let root = tempfile::tempdir().unwrap();
        let layout = Layout::create(root.path()).unwrap();
        for id in [1, 2, 3] {
            layout.create_directory(id).unwrap();
            assert!(!Path::new(&layout.directory(id)).exists());
            let twice = layout.create_directory(id).unwrap_err();
            assert_eq!(twice.code(), tonic::Code::Internal);
        }
        layout.settle(1).unwrap();
        let twice = layout.create_directory(1).unwrap_err();
        assert_eq!(twice.code(), tonic::Code::Internal);
        // The thread that removes it may be faster than the one that makes it.
        layout.set_aside(1).unwrap();
        layout.set_aside(2).unwrap();
        assert_eq!(layout.settle(2).unwrap_err().code(), tonic::Code::NotFound);
        layout.set_aside(2).unwrap();
        layout.put_back(2);
        assert!(Path::new(&layout.directory(2)).is_dir());
        layout.discard(3);
        assert!(layout.delete(1));
        let names: Vec<_> = layout
            .entries()
            .unwrap()
            .into_iter()
            .map(|(_, n)| n)
            .collect();
        assert_eq!(names, [Name::Snapshot(2)]);
        assert_eq!(layout.last_id().unwrap(), 2);
    }

    #[test]
    fn names_have_one_spelling() {
        assert_eq!(Name::of("7"), Name::Snapshot(7));
        assert_eq!(Name::of("new-7"), Name::New(7));
        assert_eq!(Name::of("rm-7"), Name::Removed(7));
        for other in ["07", "+7", "rm-07", "rm-", "new-x", "x", "7.bak", ""] {
            assert_eq!(Name::of(other), Name::Other, "{other}");
        }
    }

    #[test]
    fn one_process_has_a_root() {
        let root = tempfile::tempdir().unwrap();
        let layout = Layout::create(root.path()).unwrap();
        let held = layout.lock().unwrap();
        let twice = layout.lock().unwrap_err();
        assert!(twice.message().contains("already open"), "{twice}");
        drop(held);
        layout.lock().unwrap();
    }

    #[test]
    fn a_disk_that_changed_is_noticed() {
        let root = tempfile::tempdir().unwrap();
        let layout = Layout::create(root.path()).unwrap();
        layout.create_directory(1).unwrap();
        layout.settle(1).unwrap();
        assert_eq!(layout.measure(1).unwrap(), None);
        let disk = Path::new(&layout.directory(1)).join(LAYER);
        let bytes: Vec<u8> = (0..40_000_u32).map(|i| (i / 7).to_le_bytes()[0]).collect();
        fs::write(&disk, &bytes).unwrap();
        let measured = layout.measure(1).unwrap().unwrap();
        layout.check_layer(1, &measured).unwrap();
        for (at, is_noticed) in [(0, true), (1024, true), (39_999, true), (20_000, false)] {
            let mut changed = bytes.clone();
            changed[at] ^= 1;
            fs::write(&disk, changed).unwrap();
            assert_eq!(
                layout.check_layer(1, &measured).is_err(),
                is_noticed,
                "{at}"
            );
        }
        fs::write(&disk, &bytes[..39_999]).unwrap();
        let cut = layout.check_layer(1, &measured).unwrap_err();
        assert!(cut.contains("has 39999 bytes, and had 40000"), "{cut}");
        fs::remove_file(&disk).unwrap();
        let gone = layout.check_layer(1, &measured).unwrap_err();
        assert!(gone.ends_with("1/layer.vhd is missing"), "{gone}");
    }

    #[test]
    fn a_reserve_is_given_once() {
        let root = tempfile::tempdir().unwrap();
        let layout = Layout::create(root.path()).unwrap();
        assert!(!layout.release_reserve());
        layout.keep_reserve();
        layout.keep_reserve();
        assert!(layout.release_reserve());
        assert!(!layout.release_reserve());
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
        layout.settle(1).unwrap();
        let made = PathBuf::from(layout.directory(1));
        assert_eq!(layout.layer(1).unwrap(), made.join(LAYER));
        symlink("/etc/passwd", made.join(LAYER)).unwrap();
        assert!(layout.layer(1).is_err());
        symlink(&made, layout.directory(2)).unwrap();
        assert!(layout.layer(2).is_err());
        assert!(layout.layers(&[1]).is_err());
        assert_eq!(layout.usage(2).unwrap().inodes, 1);
        fs::write(made.join(".tar2vhd-x"), "").unwrap();
        layout.sweep_temporaries(2).unwrap();
        assert!(made.join(".tar2vhd-x").exists());
        layout.sweep_temporaries(1).unwrap();
        assert!(!made.join(".tar2vhd-x").exists());
        let usage = layout.usage(1).unwrap();
        assert_eq!(usage.inodes, 2);
        assert!(usage.size < 10_000);
    }
}
