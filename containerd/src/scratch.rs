//! `sandbox.vhdx`: made, copied from a directory of scratch disks, or shared, as labels say.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io;
use std::path::{Component, Path, PathBuf};
use std::sync::Mutex;

use tar2vhd::DiskFormat;
use tar2vhd::scratch::ScratchOptions;
use tonic::Status;

use crate::files::failed;
use crate::layout::{Layout, SANDBOX};
use crate::platform;
use crate::store::{Kind, Snapshot, Store};

const SIZE: &str = "containerd.io/snapshot/io.microsoft.container.storage.rootfs.size-gb";
const LOCATION: &str = "containerd.io/snapshot/io.microsoft.container.storage.rootfs.location";
const REUSE: &str = "containerd.io/snapshot/io.microsoft.container.storage.reuse-scratch";
const OWNER: &str = "containerd.io/snapshot/io.microsoft.owner.key";

/// The size of a disk in GiB, where the container asks for none.
const DEFAULT_SIZE: u64 = 20;

/// Where a container's disk comes from.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Request {
    /// A disk of its own of so many GiB, `None` for the default, copied from a directory if
    /// that is given.
    Own {
        size: Option<u64>,
        location: Option<PathBuf>,
    },
    /// That of another container, which has this key in the same namespace.
    Shared { key: String },
}

impl Request {
    pub(crate) fn from_labels(key: &str, labels: &HashMap<String, String>) -> Result<Self, Status> {
        let label = |name| labels.get(name).map_or("", |value| &value[..]);
        if label(REUSE) == "true" && !label(OWNER).is_empty() {
            let prefix = prefix_of(key).unwrap_or_default();
            let key = format!("{prefix}{}", label(OWNER));
            return Ok(Self::Shared { key });
        }
        let size = match label(SIZE) {
            "" => None,
            text => match text.parse().ok().filter(|_| !text.starts_with('+')) {
                // The annotation's value where it was not set.
                Some(0) => None,
                Some(size) => Some(size),
                None => {
                    return Err(Status::invalid_argument(format!(
                        "the label {SIZE} has the value {text:?}, which is no number of GiB"
                    )));
                }
            },
        };
        let location = match label(LOCATION) {
            "" => None,
            text => Some(PathBuf::from(text)),
        };
        Ok(Self::Own { size, location })
    }
}

/// The namespace of a key `namespace/number/key`, with both slashes and the number left out.
fn prefix_of(key: &str) -> Option<&str> {
    let slash = key.find('/')?;
    let rest = &key[slash + 1..];
    let end = rest.find('/')?;
    rest[..end].parse::<u64>().ok()?;
    Some(&key[..=slash])
}

/// Makes scratch disks.
#[derive(Debug)]
pub(crate) struct Scratches {
    /// Directories below which a label may name one, links resolved.
    allowed: Vec<PathBuf>,
    /// One is made in such a directory at a time.
    making: Mutex<()>,
}

impl Scratches {
    pub(crate) fn new(allowed: &[PathBuf]) -> io::Result<Self> {
        let resolve = |path: &PathBuf| {
            let resolved = path.canonicalize();
            resolved.map_err(|e| io::Error::new(e.kind(), format!("{}: {e}", path.display())))
        };
        Ok(Self {
            allowed: allowed.iter().map(resolve).collect::<Result<_, _>>()?,
            making: Mutex::new(()),
        })
    }

    /// Makes `sandbox.vhdx` in the directory of a snapshot.
    pub(crate) fn make(
        &self,
        request: &Request,
        directory: &Path,
        store: &Store,
        layout: &Layout,
    ) -> Result<(), Status> {
        let sandbox = directory.join(SANDBOX);
        match request {
            Request::Own {
                size,
                location: None,
            } => create(&sandbox, *size),
            Request::Own {
                size,
                location: Some(location),
            } => {
                let template = self.template(location, *size)?;
                let copied = platform::open_regular(&template)
                    .and_then(|mut from| copy(&mut from, &sandbox));
                copied.map_err(|e| failed(&template, e))
            }
            Request::Shared { key } => {
                let target = owner_sandbox(key, store, layout)?;
                platform::link_file(&target, &sandbox).map_err(|e| failed(&sandbox, e))
            }
        }
    }

    /// The disk to copy, which is made if it is absent.
    fn template(&self, location: &Path, size: Option<u64>) -> Result<PathBuf, Status> {
        let refused = || {
            Status::permission_denied(format!(
                "scratch disks may not be kept in {}: it is below none of the configured \
                 scratch-locations",
                location.display()
            ))
        };
        let plain = |component: Component<'_>| !matches!(component, Component::ParentDir);
        if !location.is_absolute() || !location.components().all(plain) {
            return Err(refused());
        }
        let resolved = location.canonicalize().map_err(|e| match e.kind() {
            // Whether it exists is told only of what is allowed.
            io::ErrorKind::NotFound if self.allowed.iter().any(|ok| location.starts_with(ok)) => {
                Status::failed_precondition(format!("{} does not exist", location.display()))
            }
            _ => refused(),
        })?;
        if !self.allowed.iter().any(|ok| resolved.starts_with(ok)) {
            return Err(refused());
        }
        let name = match size {
            None => "scratch.vhdx".to_owned(),
            Some(size) => format!("scratch_{size}.vhdx"),
        };
        let path = resolved.join(name);
        let _making = self.making.lock();
        match path.symlink_metadata() {
            Ok(found) if found.is_file() => Ok(path),
            Ok(_) => Err(Status::failed_precondition(format!(
                "{} is no regular file",
                path.display()
            ))),
            Err(e) if e.kind() == io::ErrorKind::NotFound => {
                create(&path, size)?;
                Ok(path)
            }
            Err(e) => Err(failed(&path, e)),
        }
    }
}

fn copy(from: &mut File, to: &Path) -> io::Result<()> {
    let mut to = File::options().write(true).create_new(true).open(to)?;
    io::copy(from, &mut to)?;
    to.sync_all()
}

fn create(path: &Path, size: Option<u64>) -> Result<(), Status> {
    let bytes = size
        .unwrap_or(DEFAULT_SIZE)
        .checked_mul(1 << 30)
        .ok_or_else(|| Status::invalid_argument("a scratch disk of impossible size"))?;
    let options = ScratchOptions::new().format(DiskFormat::Vhdx).size(bytes);
    tar2vhd::scratch::create_file(path, &options).map_err(|e| match e.kind() {
        tar2vhd::ErrorKind::InvalidOptions | tar2vhd::ErrorKind::Limit => {
            Status::invalid_argument(format!("a scratch disk of {bytes} bytes: {e:#}"))
        }
        tar2vhd::ErrorKind::StorageFull => Status::resource_exhausted(format!("{e:#}")),
        _ => Status::internal(format!("{e:#}")),
    })?;
    Ok(())
}

/// The disk of the container with this key: `namespace/` and what follows the number.
fn owner_sandbox(owner: &str, store: &Store, layout: &Layout) -> Result<PathBuf, Status> {
    let mut found: Vec<Snapshot> = Vec::new();
    let mut keys = Vec::new();
    store.walk(|key, record| {
        let name = match prefix_of(key) {
            None => key.to_owned(),
            Some(prefix) => {
                let rest = &key[prefix.len()..];
                let name = rest.split_once('/').map_or(rest, |(_, name)| name);
                format!("{prefix}{name}")
            }
        };
        if record.kind == Kind::Active && name == owner {
            keys.push(key.to_owned());
        }
    })?;
    for key in keys {
        found.push(store.get(&key)?);
    }
    let [snapshot] = &found[..] else {
        return Err(match found.is_empty() {
            true => Status::not_found(format!("no container {owner:?} to share a disk with")),
            false => Status::failed_precondition(format!("several containers are {owner:?}")),
        });
    };
    let sandbox = PathBuf::from(layout.directory(snapshot.record.id)).join(SANDBOX);
    match sandbox.symlink_metadata() {
        Ok(metadata) if metadata.is_file() => Ok(sandbox),
        // A link there is ours: it leads to the disk of the first owner.
        Ok(metadata) if metadata.is_symlink() => {
            let target = fs::read_link(&sandbox).map_err(|e| failed(&sandbox, e))?;
            let directory = target.parent().and_then(Path::to_str);
            match directory.and_then(|directory| layout.id_of(directory)) {
                Some(_) if target.is_file() => Ok(target),
                _ => Err(Status::failed_precondition(format!(
                    "the disk that {owner:?} shares is gone"
                ))),
            }
        }
        Ok(_) => Err(Status::failed_precondition(format!(
            "{} is no disk",
            sandbox.display()
        ))),
        Err(_) => Err(Status::failed_precondition(format!(
            "the container {owner:?} has no disk to share"
        ))),
    }
}
