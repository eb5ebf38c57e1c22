//! A file system read back: what is in it, for everyone but `verify`, which shares none of this
//! so that neither repeats the other's errors.
//!
//! Images of any origin are read: ext2, ext3 and ext4 of every block size. None is trusted.
//! Checksums are held against what they are of, each number is checked before it is used, and
//! nothing recurses into the image. Whatever is wrong is an error that names the place, and of
//! what cannot be understood one that names the feature.

#![expect(dead_code, unused_imports, reason = "who reads through it comes next")]

mod attribute_list;
mod block_map;
mod blocks;
mod checksum;
mod contents;
mod damage;
mod directory;
#[cfg(any(all(test, target_os = "linux"), fuzzing))]
mod exercise;
mod extents;
mod geometry;
mod group;
mod hash_tree;
mod indirect;
mod inode;
mod leaf;
mod lookup;
mod path;
mod walk;
mod xattr;

#[cfg(test)]
#[cfg(target_os = "linux")]
mod tests;

use crate::disk::Volume;
use crate::error::Result;
use blocks::Blocks;
use contents::Contents;

pub(crate) use checksum::inode_is_sound;
pub(crate) use contents::{Piece, Pieces};
pub(crate) use directory::{DirEntry, ReadDir};
#[cfg(fuzzing)]
pub(crate) use exercise::exercise;
pub(crate) use geometry::{Geometry, joined};
pub(crate) use group::Group;
pub(crate) use inode::{FileType, Inode, Metadata, Time};
pub(crate) use path::LastLink;
pub(crate) use walk::{Entry, Walk};
pub(crate) use xattr::Attribute;

/// A file system on a disk of any format, open for reading.
#[derive(Debug)]
pub(crate) struct FileSystem(Blocks);

impl FileSystem {
    /// Opens the file system of a disk.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidDisk`](crate::ErrorKind::InvalidDisk) if there is none or it is
    /// damaged, [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported) if it has a feature
    /// that is not understood, or a journal to be replayed, and the errors of reading the disk.
    /// So it is with everything that is read later.
    pub(crate) fn open(volume: Volume) -> Result<Self> {
        let (geometry, superblock) = Geometry::read(&volume)?;
        geometry.check(&superblock)?;
        Ok(Self(Blocks::new(volume, geometry)))
    }

    /// The root directory.
    pub(crate) fn root(&self) -> Result<Inode> {
        path::root(&self.0)
    }

    /// An inode by its number.
    pub(crate) fn inode(&self, number: u32) -> Result<Inode> {
        Inode::read(&self.0, number)
    }

    /// The inode at a path from the root, on which symbolic links are followed; `None` if there
    /// is none.
    pub(crate) fn lookup(&self, path: &[u8], last: LastLink) -> Result<Option<Inode>> {
        path::resolve(&self.0, path, last)
    }

    /// The number of the inode that a directory has under a name.
    pub(crate) fn find(&self, directory: &Inode, name: &[u8]) -> Result<Option<u32>> {
        let mut left = u64::MAX;
        lookup::lookup(&self.0, directory, name, &mut left)
    }

    /// The entries of a directory in the order in which they stand there.
    pub(crate) fn read_dir(&self, directory: &Inode) -> Result<ReadDir<'_>> {
        ReadDir::new(&self.0, directory)
    }

    /// All names below the root, a directory before what is in it.
    pub(crate) fn walk(&self) -> Result<Walk<'_>> {
        Walk::new(&self.0)
    }

    /// Puts regular files into the order of their data on the disk.
    pub(crate) fn sort_by_data(&self, files: &mut [Inode]) -> Result<()> {
        walk::sort_by_data(&self.0, files)
    }

    /// Fills `buffer` with the contents of a regular file from an offset on; the number of
    /// bytes, which is less than asked for at the end of the file.
    pub(crate) fn read_at(&self, file: &Inode, offset: u64, buffer: &mut [u8]) -> Result<usize> {
        contents::check_regular(file)?;
        Contents::new(&self.0, file)?.read_at(offset, buffer)
    }

    /// The contents of a regular file from start to end.
    pub(crate) fn pieces(&self, file: &Inode) -> Result<Pieces<'_>> {
        Pieces::new(&self.0, file)
    }

    /// The target of a symbolic link.
    pub(crate) fn target(&self, link: &Inode) -> Result<Vec<u8>> {
        contents::target(&self.0, link)
    }

    /// The extended attributes that have a name outside, ACLs in the form of the system call.
    pub(crate) fn xattrs(&self, inode: &Inode) -> Result<Vec<Attribute>> {
        xattr::all(&self.0, inode)
    }
}
