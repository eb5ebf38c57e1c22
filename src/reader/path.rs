//! Paths from the root, with the symbolic links on them.

use super::blocks::Blocks;
use super::contents::target;
use super::damage::damaged;
use super::inode::{FileType, Inode};
use super::lookup::lookup;
use crate::error::{Error, Result};
use crate::ext4::format::ROOT_INO;

/// The most symbolic links on one path, as in the kernel.
const LINKS_MAX: u32 = 40;
/// The most bytes of directories that are read for one path.
const DIRECTORIES_MAX: u64 = 4 << 30;

/// What becomes of a symbolic link at the end of a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LastLink {
    Followed,
    Kept,
}

/// The inode at a path; `None` if there is none. Links lead to places in the file system, as if
/// its root were that of the process, and `..` of the root is the root.
pub(super) fn resolve(blocks: &Blocks, path: &[u8], last: LastLink) -> Result<Option<Inode>> {
    let mut left = DIRECTORIES_MAX / blocks.size() as u64;
    let mut links = LINKS_MAX;
    // The directories above the one where names are looked up.
    let mut way = Vec::new();
    let mut directory = root(blocks)?;
    // Names yet to come, the next one last.
    let mut names = Vec::new();
    push(&mut names, path);
    let mut is_directory = path.ends_with(b"/");
    while let Some(name) = names.pop() {
        match &name[..] {
            b".." => {
                if let Some(above) = way.pop() {
                    directory = Inode::read(blocks, above)?;
                }
                continue;
            }
            b"." => continue,
            _ => {}
        }
        let Some(ino) = lookup(blocks, &directory, &name, &mut left)? else {
            return Ok(None);
        };
        let inode = Inode::read(blocks, ino)?;
        let is_last = names.is_empty();
        match inode.file_type() {
            FileType::Directory => {
                way.push(directory.number());
                directory = inode;
            }
            FileType::Symlink if !is_last || is_directory || last == LastLink::Followed => {
                links = links.checked_sub(1).ok_or_else(|| {
                    Error::limit(format!(
                        "more than {LINKS_MAX} symbolic links are on the way"
                    ))
                    .at_path(path)
                })?;
                let target = target(blocks, &inode)?;
                if target.starts_with(b"/") {
                    way.clear();
                    directory = root(blocks)?;
                }
                is_directory |= is_last && target.ends_with(b"/");
                push(&mut names, &target);
            }
            _ => return Ok((is_last && !is_directory).then_some(inode)),
        }
    }
    Ok(Some(directory))
}

fn push(names: &mut Vec<Box<[u8]>>, path: &[u8]) {
    let parts = path.split(|byte| *byte == b'/').rev();
    names.extend(parts.filter(|name| !name.is_empty()).map(Box::from));
}

pub(super) fn root(blocks: &Blocks) -> Result<Inode> {
    let inode = Inode::read(blocks, ROOT_INO)?;
    match inode.file_type() {
        FileType::Directory => Ok(inode),
        _ => Err(damaged("the root is no directory")),
    }
}
