//! The contents of a file on the disk of a lower layer.

use std::io;
use std::sync::Arc;

use super::disk::{Disk, damaged, size};
use super::entry::LowerPiece;
use super::xattr;
use crate::ext4::format::{BLOCK_SIZE, INODE_INLINE_DATA, Inode};

/// The most blocks of one piece.
const PIECE: u32 = 64;

/// Pieces of a file, from its start to its end.
pub(super) struct Contents<'a> {
    disk: &'a Disk,
    inode: Arc<Inode>,
    /// Contents held by the inode itself.
    inline: Option<Vec<u8>>,
    size: u64,
    at: u64,
    /// The number of data blocks that may still come: no two parts of a file share one.
    left: u32,
}

impl<'a> Contents<'a> {
    pub(super) fn new(disk: &'a Disk, inode: Arc<Inode>) -> io::Result<Self> {
        let size = size(&inode);
        let is_inline = inode.i_flags.get() & INODE_INLINE_DATA != 0;
        let inline = match is_inline {
            true => Some(xattr::inline_data(&inode, size)?),
            false => None,
        };
        Ok(Self {
            disk,
            inode,
            inline,
            size,
            at: 0,
            left: disk.blocks(),
        })
    }

    fn piece(&mut self) -> io::Result<LowerPiece> {
        if let Some(inline) = self.inline.take() {
            self.at = self.size;
            return Ok(LowerPiece::Data(inline));
        }
        const BLOCK: u64 = BLOCK_SIZE as u64;
        let logical =
            u32::try_from(self.at / BLOCK).map_err(|_| damaged("a file's size is impossible"))?;
        let (physical, run) = self.disk.run(&self.inode, logical)?;
        let rest = self.size - self.at;
        let Some(physical) = physical else {
            let len = rest.min(u64::from(run) * BLOCK);
            self.at += len;
            return Ok(LowerPiece::Hole(len));
        };
        let run = run.min(PIECE);
        self.left = self
            .left
            .checked_sub(run)
            .ok_or_else(|| damaged("a file of more blocks than the disk has"))?;
        let len = rest.min(u64::from(run) * BLOCK);
        let mut data = vec![0; len as usize];
        self.disk.blocks_at(physical, &mut data)?;
        self.at += len;
        Ok(LowerPiece::Data(data))
    }
}

impl Iterator for Contents<'_> {
    type Item = io::Result<LowerPiece>;

    fn next(&mut self) -> Option<Self::Item> {
        (self.at < self.size).then(|| {
            let piece = self.piece();
            if piece.is_err() {
                self.at = self.size;
            }
            piece
        })
    }
}
