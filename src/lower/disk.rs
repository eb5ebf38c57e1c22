//! One layer: a file system in the terms of overlayfs.

use std::io;

use super::entry::{LowerContents, LowerKind, LowerMetadata, LowerPiece};
use crate::disk::Volume;
use crate::error::{Error, ErrorKind, Result};
use crate::reader::{FileSystem, FileType, Inode, Piece};

/// The file system of a layer.
#[derive(Debug)]
pub(super) struct Disk(FileSystem);

/// The kind of an inode, as far as following a path needs it.
pub(super) enum Kind {
    Directory,
    /// A character device 0:0.
    Whiteout,
    Other,
}

/// The error as those take it who ask for layers below.
pub(super) fn failed(error: Error) -> io::Error {
    let kind = match error.kind() {
        ErrorKind::InvalidDisk => io::ErrorKind::InvalidData,
        ErrorKind::Unsupported => io::ErrorKind::Unsupported,
        _ => io::ErrorKind::Other,
    };
    io::Error::new(kind, error)
}

impl Disk {
    pub(super) fn open(volume: Volume) -> Result<Self> {
        let system = FileSystem::open(volume)?;
        // Here it is known which disk it is.
        system.root()?;
        Ok(Self(system))
    }

    pub(super) fn root(&self) -> Result<Inode> {
        self.0.root()
    }

    pub(super) fn kind(inode: &Inode) -> Kind {
        match inode.file_type() {
            FileType::Directory => Kind::Directory,
            FileType::CharDevice if inode.device() == Some((0, 0)) => Kind::Whiteout,
            _ => Kind::Other,
        }
    }

    /// What a directory has under a name.
    pub(super) fn find(&self, directory: &Inode, name: &[u8]) -> io::Result<Option<Inode>> {
        let found = self.0.find(directory, name);
        let inode = found.and_then(|ino| ino.map(|ino| self.0.inode(ino)).transpose());
        inode.map_err(failed)
    }

    /// Whether a directory hides what is below it in the layers below.
    pub(super) fn is_opaque(&self, directory: &Inode) -> io::Result<bool> {
        let attributes = self.0.xattrs(directory).map_err(failed)?;
        Ok(attributes
            .iter()
            .any(|(name, value)| name == b"trusted.overlay.opaque" && value == b"y"))
    }

    pub(super) fn kind_of(&self, inode: &Inode) -> io::Result<LowerKind> {
        let (major, minor) = inode.device().unwrap_or_default();
        Ok(match inode.file_type() {
            FileType::Directory => LowerKind::Directory,
            FileType::Regular => LowerKind::File(inode.size()),
            FileType::Symlink => LowerKind::Symlink(self.0.target(inode).map_err(failed)?),
            FileType::CharDevice => LowerKind::CharDevice { major, minor },
            FileType::BlockDevice => LowerKind::BlockDevice { major, minor },
            FileType::Fifo => LowerKind::Fifo,
            FileType::Socket => LowerKind::Other,
        })
    }

    pub(super) fn metadata(&self, inode: &Inode) -> io::Result<LowerMetadata> {
        let metadata = inode.metadata();
        Ok(LowerMetadata {
            mode: metadata.mode,
            uid: metadata.uid,
            gid: metadata.gid,
            mtime: (metadata.modified.seconds, metadata.modified.nanos),
            xattrs: self.0.xattrs(inode).map_err(failed)?,
        })
    }

    pub(super) fn contents(&self, file: &Inode) -> io::Result<LowerContents<'_>> {
        let pieces = self.0.pieces(file).map_err(failed)?;
        Ok(Box::new(pieces.map(|piece| match piece {
            Ok(Piece::Data(data)) => Ok(LowerPiece::Data(data)),
            Ok(Piece::Hole(len)) => Ok(LowerPiece::Hole(len)),
            Err(error) => Err(failed(error)),
        })))
    }
}
