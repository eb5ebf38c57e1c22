//! Where the parents of differencing disks are.

use std::io;
use std::path::{Component, Path, PathBuf};

use vhd_format::{AnyStorage, Disk, Parent};

use super::FileId;
use super::open::open_file;
use crate::summary::display_file;

/// Opens the parents of the disk in the file at `path`, if it has any, and attaches them; adds
/// the identities of their files to `files`.
pub(super) fn attach(
    disk: &mut Disk<AnyStorage>,
    path: &Path,
    files: &mut Vec<FileId>,
) -> vhd_format::Result<()> {
    let mut directory = parent_of(path);
    disk.attach_chain(|parent| {
        let (file, found) = find(&parent, &directory)?;
        files.push(FileId::of(&file)?);
        directory = parent_of(&found);
        Ok(Box::new(file))
    })
}

fn parent_of(path: &Path) -> PathBuf {
    path.parent().map(Path::to_owned).unwrap_or_default()
}

/// Opens the first of the places where the parent may be. That it is the right disk is seen
/// when it is attached.
fn find(parent: &Parent<'_>, directory: &Path) -> io::Result<(std::fs::File, PathBuf)> {
    let candidates = candidates(parent);
    let mut missing = None;
    for candidate in &candidates {
        let path = directory.join(candidate);
        match path.metadata() {
            Ok(_) => {
                let file = open_file(&path).map_err(io::Error::other)?;
                return Ok((file, path));
            }
            Err(e) => missing = missing.or(Some((path, e))),
        }
    }
    Err(match missing {
        Some((path, e)) => io::Error::new(e.kind(), format!("{}: {e}", display_file(&path))),
        None => io::Error::new(
            io::ErrorKind::NotFound,
            "the disk does not say where that is relative to itself",
        ),
    })
}

/// Paths relative to the child: what it says of that first, then names of files beside it.
///
/// Whole paths are left alone. On Windows they can name other machines, which would learn who
/// looks at a disk from a stranger.
fn candidates(parent: &Parent<'_>) -> Vec<PathBuf> {
    let mut relative = Vec::new();
    let mut names = Vec::new();
    match parent {
        Parent::Vhd(reference) => {
            for locator in &reference.locators {
                match &locator.platform_code {
                    b"W2ru" => relative.extend(locator.text()),
                    b"W2ku" => names.extend(locator.text()),
                    _ => {}
                }
            }
            names.push(reference.name.clone());
        }
        Parent::Vhdx(locator) => {
            relative.extend(locator.get("relative_path").map(str::to_owned));
            for key in ["absolute_win32_path", "volume_path"] {
                names.extend(locator.get(key).map(str::to_owned));
            }
        }
        _ => {}
    }
    names.extend(relative.iter().cloned());
    let name = |path: &String| path.rsplit(['\\', '/']).next().map(PathBuf::from);
    let mut all: Vec<PathBuf> = relative
        .iter()
        .filter_map(|path| as_relative(path))
        .collect();
    all.extend(
        names
            .iter()
            .filter_map(name)
            .filter(|path| is_relative(path)),
    );
    all.dedup();
    all
}

/// A path as Windows writes it, if it is relative.
fn as_relative(path: &str) -> Option<PathBuf> {
    const SEPARATORS: [char; 2] = ['\\', '/'];
    if path.starts_with(SEPARATORS) {
        return None;
    }
    let parts = path.split(SEPARATORS).filter(|part| *part != ".");
    Some(parts.collect()).filter(|path: &PathBuf| is_relative(path))
}

fn is_relative(path: &Path) -> bool {
    let inside = |part| matches!(part, Component::Normal(_) | Component::ParentDir);
    !path.as_os_str().is_empty() && path.components().all(inside)
}
