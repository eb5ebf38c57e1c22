//! Everything that a disk has to say, read in every way, for tests and the fuzzer.

use super::{FileSystem, FileType, Inode, LastLink, Piece};
use crate::disk::Volume;
use crate::error::{Error, ErrorKind, Result};

/// The most bytes of contents to read, and of entries to look at: small disks may have large
/// holes, and repeat their blocks.
const BYTES_MAX: u64 = 64 << 20;
const ENTRIES_MAX: usize = 1 << 16;
/// The number of names to look up.
const LOOKUPS_MAX: usize = 24;

/// Reads what can be read of a disk, and goes on past damage to single files. Gives the number of
/// those that could be read, and the errors that were met.
///
/// # Errors
/// Those that keep a file system from being opened.
///
/// # Panics
/// If two ways to read the same thing disagree. Disks that change are none.
pub(crate) fn exercise(volume: Volume) -> Result<(usize, Vec<Error>)> {
    let system = FileSystem::open(volume)?;
    let (mut errors, mut files, mut left) = (Vec::new(), Vec::new(), BYTES_MAX);
    let mut walk = system.walk()?;
    let mut count = 0;
    while let Some(entry) = walk.next() {
        let entry = match entry {
            Ok(entry) => entry,
            Err(error) => {
                errors.push(error);
                break;
            }
        };
        if count == ENTRIES_MAX {
            break;
        }
        entry.inode.metadata();
        let read = system
            .xattrs(&entry.inode)
            .and_then(|_| match entry.inode.file_type() {
                FileType::Regular => {
                    files.push(entry.inode.clone());
                    contents(&system, &entry.inode, &mut left)
                }
                FileType::Symlink => system.target(&entry.inode).map(|_| ()),
                _ => Ok(()),
            });
        count += usize::from(read.is_ok());
        errors.extend(read.err());
        // Looking up costs as much as the directories on the way are large.
        if count < LOOKUPS_MAX {
            for last in [LastLink::Kept, LastLink::Followed] {
                let failed = system.lookup(walk.path(), last).err();
                // Links in a circle are no damage.
                errors.extend(failed.filter(|e| e.kind() != ErrorKind::Limit));
            }
        }
    }
    errors.extend(system.sort_by_data(&mut files).err());
    Ok((count, errors))
}

/// Reads the contents of a file in two ways.
fn contents(system: &FileSystem, file: &Inode, left: &mut u64) -> Result<()> {
    let mut at = 0;
    for piece in system.pieces(file)? {
        let piece = piece?;
        let (len, expected) = match piece {
            Piece::Hole(len) => (len, None),
            Piece::Data(data) => (data.len() as u64, Some(data)),
        };
        assert!(len > 0, "an empty piece");
        let Some(rest) = left.checked_sub(len.min(1 << 18)) else {
            return Ok(());
        };
        *left = rest;
        let mut bytes = vec![1; len.min(1 << 18) as usize];
        let read = system.read_at(file, at, &mut bytes)?;
        assert_eq!(read, bytes.len(), "a piece beyond the end");
        match expected {
            Some(data) => assert!(data == bytes, "two ways to read, two contents"),
            None => assert!(bytes.iter().all(|byte| *byte == 0), "a hole with data"),
        }
        at += len;
    }
    assert_eq!(at, file.size(), "the pieces are not the file");
    Ok(())
}
