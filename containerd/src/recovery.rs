//! Directories and store in line: after a crash at every start, and after the loss of the store
//! when somebody asks for it.
//!
//! A start deletes what a committed transaction of the store has named, and directories whose
//! name says that nobody was ever given them. All else is put back or left alone, and told.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use tonic::{Code, Status};
use tracing::{error, info, warn};

use crate::files::failed;
use crate::layout::{LAYER, Layout, Name};
use crate::platform;
use crate::snapshot_file;
use crate::store::{self, Inventory, Kind, Record, Store};

/// The most directories that are named in the log, one by one.
const NAMED: usize = 20;

/// Opens the store and brings directories in line with it.
pub(crate) fn start(layout: &Layout) -> Result<Store, Status> {
    let beside = layout.has_snapshots().map_err(unreadable)?;
    let store = Store::open(&layout.metadata(), beside)?;
    store.never_again(layout.last_id().map_err(unreadable)?);
    let mut inventory = store.recover()?;
    if inventory.unmeasured {
        finish_migration(&store, layout, &inventory)?;
        inventory = store.recover()?;
    }
    let mut unknown = Vec::new();
    for (path, name) in layout.entries().map_err(unreadable)? {
        match name {
            Name::Snapshot(id) if inventory.snapshots.contains_key(&id) => {}
            // A release before this one made it under this name, and never finished it.
            Name::Snapshot(id) if inventory.removed.contains(&id) => {
                info!(path = %path.display(), "deleting a snapshot that was removed or never finished");
                tolerate(layout.set_aside(id), &path);
                delete(&store, layout, id);
            }
            Name::Removed(id) if inventory.snapshots.contains_key(&id) => {
                info!(path = %path.display(), "putting back a snapshot whose removal did not end");
                layout.put_back(id);
            }
            Name::Removed(id) if inventory.removed.contains(&id) => delete(&store, layout, id),
            Name::New(id) if inventory.snapshots.contains_key(&id) => {
                tolerate(layout.settle(id), &path);
            }
            // The name says that nobody was given it, and so there is no layer in it.
            Name::New(id) if path.join(LAYER).symlink_metadata().is_err() => {
                info!(path = %path.display(), "deleting a snapshot that was never finished");
                layout.discard(id);
                store.deleted(id);
            }
            Name::Snapshot(_) | Name::New(_) | Name::Removed(_) | Name::Other => {
                unknown.push(path);
            }
        }
    }
    for id in &inventory.removed {
        // Those whose directories are gone need no name any more.
        let left = [layout.directory(*id), layout.aside(*id)];
        if left
            .iter()
            .all(|path| Path::new(path).symlink_metadata().is_err())
        {
            store.deleted(*id);
        }
    }
    for path in unknown.iter().take(NAMED) {
        error!(
            path = %path.display(),
            "the metadata do not know this; it is left alone (`recover` takes it in if it has a record)"
        );
    }
    if unknown.len() > NAMED {
        error!(
            more = unknown.len() - NAMED,
            "there is more that the metadata do not know"
        );
    }
    for (id, (key, record)) in &inventory.snapshots {
        layout.sweep_temporaries(*id).map_err(unreadable)?;
        check(layout, *id, key, record);
    }
    layout.sync()?;
    Ok(store)
}

/// Measures what a store of version 1 has committed, and names what it had set aside.
fn finish_migration(store: &Store, layout: &Layout, inventory: &Inventory) -> Result<(), Status> {
    let mut layers = BTreeMap::new();
    for (id, (key, record)) in &inventory.snapshots {
        if record.kind != Kind::Committed {
            continue;
        }
        match layout.measure(*id) {
            Ok(Some(layer)) => {
                layers.insert(*id, layer);
            }
            Ok(None) => {}
            Err(status) => error!(id, key, error = status.message(), "a layer cannot be read"),
        }
    }
    let mut removed = BTreeSet::new();
    for (_, name) in layout.entries().map_err(unreadable)? {
        if let Name::Removed(id) = name
            && !inventory.snapshots.contains_key(&id)
        {
            removed.insert(id);
        }
    }
    store.measured(layers, &removed)
}

/// One directory that cannot be put in order keeps nobody from all others.
fn tolerate(result: Result<(), Status>, path: &Path) {
    if let Err(status) = result {
        error!(path = %path.display(), error = status.message(), "this is left as it is");
    }
}

fn delete(store: &Store, layout: &Layout, id: u64) {
    if layout.delete(id) {
        store.deleted(id);
    }
}

/// Holds the directory of a snapshot against its record, and mends its own record.
fn check(layout: &Layout, id: u64, key: &str, record: &Record) {
    let directory = PathBuf::from(layout.directory(id));
    if record.kind == Kind::View && !record.parent.is_empty() {
        // It shows its parent's.
        return;
    }
    if !directory
        .symlink_metadata()
        .is_ok_and(|found| found.is_dir())
    {
        error!(path = %directory.display(), id, key, "the directory of a snapshot is gone");
        return;
    }
    match snapshot_file::read(&directory) {
        Ok(Some((_, own))) if own.id != id => {
            error!(
                path = %directory.display(), id, key, found = own.id,
                "the directory is that of another snapshot; it is left alone"
            );
            return;
        }
        Ok(Some((own_key, own))) if own_key == key && is_same(&own, record) => {}
        other => {
            if let Err(why) = other {
                warn!(
                    id,
                    key,
                    error = why,
                    "the record in a directory is damaged; it is written anew"
                );
            }
            if let Err(status) = layout.record(key, record) {
                warn!(
                    id,
                    key,
                    error = status.message(),
                    "a snapshot has no record of its own"
                );
            }
        }
    }
    if let Some(layer) = &record.layer
        && let Err(why) = layout.check_layer(id, layer)
    {
        error!(
            id,
            key,
            error = why,
            "a committed layer is damaged; snapshots on it will be refused"
        );
    }
}

/// Whether a directory's own record says what the store does; it may say more of a layer that is
/// not committed yet.
fn is_same(own: &Record, record: &Record) -> bool {
    let layer = match record.kind {
        Kind::Active => own.layer.clone(),
        Kind::View | Kind::Committed => record.layer.clone(),
    };
    *own == Record {
        layer,
        ..record.clone()
    }
}

fn unreadable(error: io::Error) -> Status {
    Status::internal(error.to_string())
}

/// The findings and actions of [`recover`].
#[derive(Debug, Default)]
pub(crate) struct Report {
    /// Why the store was given up, and where its file is now, if there was one.
    lost: Option<(String, Option<PathBuf>)>,
    /// Keys and names of snapshots that were brought back.
    back: Vec<String>,
    /// Moved files: their names, their new places, the reasons.
    aside: Vec<(PathBuf, PathBuf, String)>,
    known: usize,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.lost {
            None => writeln!(f, "the metadata are whole: {} snapshots", self.known)?,
            Some((why, None)) => writeln!(f, "the metadata are made anew: {why}")?,
            Some((why, Some(kept))) => writeln!(
                f,
                "the metadata are made anew: {why}; the file is {} now",
                kept.display()
            )?,
        }
        writeln!(f, "{} snapshots are brought back", self.back.len())?;
        for key in &self.back {
            writeln!(f, "  {}", key.escape_debug())?;
        }
        writeln!(f, "{} directories are moved aside", self.aside.len())?;
        for (from, to, why) in &self.aside {
            writeln!(f, "  {} -> {}: {why}", from.display(), to.display())?;
        }
        Ok(())
    }
}

/// A directory whose record can be read.
struct Candidate {
    id: u64,
    path: PathBuf,
    key: String,
    record: Record,
}

/// Rebuilds a store that is lost from the records in the directories, and takes those in that a
/// whole one does not know. What has none is moved aside; nothing is deleted.
pub(crate) fn recover(layout: &Layout) -> Result<Report, Status> {
    let file = layout.metadata();
    if !layout.root().is_dir() {
        return Err(Status::not_found(format!(
            "{} is no directory",
            layout.root().display()
        )));
    }
    let _lock = layout.lock()?;
    let beside = layout.has_snapshots().map_err(unreadable)?;
    let mut report = Report::default();
    let mut known = BTreeMap::new();
    let mut settled = BTreeSet::new();
    match store::damage(&file)? {
        // There is no database to bring back; the next start makes one.
        Some(_) if !beside && file.symlink_metadata().is_err() => return Ok(report),
        Some(why) => report.lost = Some((reason(&why), None)),
        None => {
            // Leftovers of a crash are put in order first, by the rules of every start.
            let store = start(layout)?;
            let inventory = store.recover()?;
            report.known = inventory.snapshots.len();
            settled.extend(inventory.removed);
            for (id, (key, record)) in inventory.snapshots {
                settled.insert(id);
                known.insert(key, record.kind);
            }
        }
    }

    let aside = Aside::new(layout);
    let mut candidates: Vec<Candidate> = Vec::new();
    let mut rejected: Vec<(PathBuf, String)> = Vec::new();
    for (path, name) in layout.entries().map_err(unreadable)? {
        let id = match name {
            Name::Snapshot(id) | Name::Removed(id) if settled.contains(&id) => continue,
            // Whether its removal was committed only the store knew. containerd removes again
            // what it does not want.
            Name::Snapshot(id) | Name::Removed(id) => id,
            Name::New(_) => {
                rejected.push((path, "it was never finished".into()));
                continue;
            }
            Name::Other => {
                rejected.push((path, "its name is not that of a snapshot".into()));
                continue;
            }
        };
        match snapshot_file::read(&path) {
            Ok(Some((_, record))) if record.id != id => {
                let why = format!("its record is that of the snapshot {}", record.id);
                rejected.push((path, why));
            }
            Ok(Some((_, record))) if record.unfinished => {
                rejected.push((path, "it was never finished".into()));
            }
            Ok(Some((key, record))) => candidates.push(Candidate {
                id,
                path,
                key,
                record,
            }),
            Ok(None) => rejected.push((path, "it has no record".into())),
            Err(why) => rejected.push((path, why)),
        }
    }
    // The later of two with one key is what containerd means by it.
    candidates.sort_by_key(|candidate| std::cmp::Reverse(candidate.id));
    let mut keys: BTreeSet<String> = known.keys().cloned().collect();
    let mut ids = BTreeSet::new();
    candidates.retain(|candidate| {
        let is_new = ids.insert(candidate.id) && keys.insert(candidate.key.clone());
        if !is_new {
            let why = format!("another snapshot has its id or the key {:?}", candidate.key);
            rejected.push((candidate.path.clone(), why));
        }
        is_new
    });
    let adopted = order(candidates, &known, &mut rejected);

    let last_id = layout.last_id().map_err(unreadable)?;
    let snapshots: Vec<_> = adopted
        .iter()
        .map(|candidate| (candidate.key.clone(), candidate.record.clone()))
        .collect();
    for candidate in &adopted {
        let directory = layout.directory(candidate.id);
        if candidate.path != Path::new(&directory) {
            fs::rename(&candidate.path, &directory).map_err(|e| failed(&candidate.path, e))?;
        }
        report.back.push(candidate.key.clone());
    }
    for (path, why) in rejected {
        let to = aside.take(&path)?;
        report.aside.push((path, to, why));
    }
    layout.sync()?;
    match &mut report.lost {
        Some((_, kept)) => {
            let replace = || {
                if file.symlink_metadata().is_ok() {
                    let to = store::aside(&file);
                    fs::rename(&file, &to).map_err(|e| failed(&file, e))?;
                    *kept = Some(to);
                }
                Ok(())
            };
            store::rebuild(&file, &snapshots, last_id, replace)?;
        }
        None => Store::open(&file, true)?.adopt(&snapshots)?,
    }
    Ok(report)
}

/// The first sentence of an error that says more.
fn reason(status: &Status) -> String {
    let message = status.message();
    let end = message
        .find(". Nothing was changed")
        .unwrap_or(message.len());
    message[..end].to_owned()
}

/// Puts each snapshot behind its parent. What has none is rejected.
fn order(
    mut candidates: Vec<Candidate>,
    known: &BTreeMap<String, Kind>,
    rejected: &mut Vec<(PathBuf, String)>,
) -> Vec<Candidate> {
    let mut committed: BTreeSet<String> = known
        .iter()
        .filter(|(_, kind)| **kind == Kind::Committed)
        .map(|(key, _)| key.clone())
        .collect();
    let mut ordered = Vec::new();
    // Parents are made before their children, so that one pass is enough but under rebase.
    candidates.sort_by_key(|candidate| candidate.id);
    loop {
        let before = candidates.len();
        for candidate in std::mem::take(&mut candidates) {
            let parent = &candidate.record.parent;
            if parent.is_empty() || committed.contains(parent) {
                if candidate.record.kind == Kind::Committed {
                    committed.insert(candidate.key.clone());
                }
                ordered.push(candidate);
            } else {
                candidates.push(candidate);
            }
        }
        if candidates.len() == before {
            break;
        }
    }
    for candidate in candidates {
        let why = format!("its parent {:?} is gone", candidate.record.parent);
        rejected.push((candidate.path, why));
    }
    ordered
}

/// A directory for what is moved aside, made when it is needed.
struct Aside<'a> {
    layout: &'a Layout,
    directory: PathBuf,
}

impl<'a> Aside<'a> {
    fn new(layout: &'a Layout) -> Self {
        let mut number = 1_u64;
        let directory = loop {
            let directory = layout.root().join(format!("aside-{number}"));
            if directory.symlink_metadata().is_err() {
                break directory;
            }
            number += 1;
        };
        Self { layout, directory }
    }

    fn take(&self, path: &Path) -> Result<PathBuf, Status> {
        platform::create_private_directory(&self.directory)
            .and_then(|()| platform::sync_directory(self.layout.root()))
            .map_err(|e| failed(&self.directory, e))?;
        let to = self.directory.join(path.file_name().unwrap_or_default());
        fs::rename(path, &to).map_err(|e| failed(path, e))?;
        Ok(to)
    }
}

/// The status as an error of the process.
pub(crate) fn as_io(status: &Status) -> io::Error {
    let kind = match status.code() {
        Code::DataLoss => io::ErrorKind::InvalidData,
        Code::ResourceExhausted => io::ErrorKind::StorageFull,
        _ => io::ErrorKind::Other,
    };
    io::Error::new(kind, status.message().to_owned())
}
