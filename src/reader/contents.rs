//! The contents of files.

use super::attribute_list::inline_data;
use super::block_map::BlockMap;
use super::blocks::Blocks;
use super::damage::damaged_inode;
use super::inode::{FileType, Inode};
use crate::error::Result;

/// The most bytes of a piece that is data.
const PIECE: u64 = 256 << 10;
/// The most bytes of a symbolic link's target.
const TARGET_MAX: u64 = 4095;

/// A part of a file's contents.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Piece {
    /// Bytes.
    Data(Vec<u8>),
    /// As many zeros, which take no place.
    Hole(u64),
}

/// Where a part of a file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Segment {
    pub len: u64,
    /// The byte on the disk; `None` for zeros.
    pub place: Option<u64>,
}

/// The contents of an inode of any type that has some.
pub(super) struct Contents<'a> {
    blocks: &'a Blocks,
    inode: Inode,
    source: Source<'a>,
}

enum Source<'a> {
    /// In the inode itself.
    Inline(Vec<u8>),
    Mapped(BlockMap<'a>),
}

impl<'a> Contents<'a> {
    pub(super) fn new(blocks: &'a Blocks, inode: &Inode) -> Result<Self> {
        inode.refuse_encrypted()?;
        let source = match inode.has_inline_data() {
            true => Source::Inline(inline(inode)?),
            false => Source::Mapped(BlockMap::new(blocks, inode.clone())),
        };
        Ok(Self {
            blocks,
            inode: inode.clone(),
            source,
        })
    }

    /// Where the part from an offset within the file on is, as far as it is in one place.
    fn segment(map: &mut BlockMap<'_>, blocks: &Blocks, offset: u64, end: u64) -> Result<Segment> {
        let block_size = blocks.size() as u64;
        let (logical, within) = (offset / block_size, offset % block_size);
        let run = map.run(logical)?;
        // Blocks that are mapped are on the disk, whose bytes can be counted.
        let len = run.len.saturating_mul(block_size) - within;
        Ok(Segment {
            len: len.min(end - offset),
            place: run
                .physical
                .map(|physical| blocks.offset(physical) + within),
        })
    }

    /// The byte on the disk where the first data is, if any is in blocks.
    pub(super) fn start(&mut self) -> Result<Option<u64>> {
        let Source::Mapped(map) = &mut self.source else {
            return Ok(None);
        };
        let (mut offset, size) = (0, self.inode.size());
        while offset < size {
            let segment = Self::segment(map, self.blocks, offset, size)?;
            if segment.place.is_some() {
                return Ok(segment.place);
            }
            offset += segment.len;
        }
        Ok(None)
    }

    /// Fills `buffer` from an offset on; the number of bytes, less than asked for at the end.
    pub(super) fn read_at(&mut self, offset: u64, buffer: &mut [u8]) -> Result<usize> {
        let left = self.inode.size().saturating_sub(offset);
        let len = usize::try_from(left).map_or(buffer.len(), |left| left.min(buffer.len()));
        let buffer = &mut buffer[..len];
        match &mut self.source {
            // As much of it is there as the file is large, so the offset is within.
            Source::Inline(data) if len > 0 => {
                let start = offset as usize;
                buffer.copy_from_slice(&data[start..start + len]);
            }
            Source::Inline(_) => {}
            Source::Mapped(map) => {
                let (mut at, mut rest) = (offset, buffer);
                while !rest.is_empty() {
                    let end = at + rest.len() as u64;
                    let segment = Self::segment(map, self.blocks, at, end)?;
                    let (now, later) = rest.split_at_mut(segment.len as usize);
                    match segment.place {
                        Some(place) => self.blocks.read_at(place, now)?,
                        None => now.fill(0),
                    }
                    at += segment.len;
                    rest = later;
                }
            }
        }
        Ok(len)
    }

    /// All of it, of which there are not more than `most` bytes.
    pub(super) fn all(&mut self, most: u64) -> Result<Vec<u8>> {
        let size = self.inode.size();
        if size > most {
            return Err(damaged_inode(
                self.inode.number(),
                format!("it has {size} bytes, but {most} are the most"),
            ));
        }
        let mut bytes = vec![0; size as usize];
        self.read_at(0, &mut bytes)?;
        Ok(bytes)
    }
}

/// Makes sure that an inode is a regular file.
pub(super) fn check_regular(inode: &Inode) -> Result<()> {
    match inode.file_type() {
        FileType::Regular => Ok(()),
        _ => Err(damaged_inode(inode.number(), "is no regular file")),
    }
}

/// The contents that an inode holds itself.
fn inline(inode: &Inode) -> Result<Vec<u8>> {
    let mut data = inode.i_block().to_vec();
    data.extend(inline_data(inode)?);
    match usize::try_from(inode.size()) {
        Ok(size) if size <= data.len() => data.truncate(size),
        _ => return Err(damaged_inode(inode.number(), "inline data cut short")),
    }
    Ok(data)
}

/// The target of a symbolic link.
pub(super) fn target(blocks: &Blocks, inode: &Inode) -> Result<Vec<u8>> {
    let wrong = |what: &str| damaged_inode(inode.number(), what);
    if inode.file_type() != FileType::Symlink {
        return Err(wrong("is no symbolic link"));
    }
    inode.refuse_encrypted()?;
    let len = inode.size();
    if len == 0 || len > TARGET_MAX {
        return Err(wrong("a symbolic link of impossible length"));
    }
    let is_elsewhere = inode.has_extents() || inode.has_inline_data();
    let target = match inode.i_block().get(..len as usize) {
        // The last byte of i_block ends the target.
        Some(target) if !is_elsewhere && target.len() < inode.i_block().len() => target.to_vec(),
        _ => Contents::new(blocks, inode)?.all(TARGET_MAX)?,
    };
    match target.contains(&0) {
        true => Err(wrong("the target of a symbolic link has a zero byte")),
        false => Ok(target),
    }
}

/// Pieces of a file, from its start to its end.
pub(crate) struct Pieces<'a> {
    contents: Contents<'a>,
    at: u64,
    /// The number of bytes in blocks that may still come: no two parts of a file share a block.
    left: u64,
}

impl<'a> Pieces<'a> {
    pub(super) fn new(blocks: &'a Blocks, inode: &Inode) -> Result<Self> {
        check_regular(inode)?;
        Ok(Self {
            contents: Contents::new(blocks, inode)?,
            at: 0,
            left: blocks.offset(blocks.geometry.blocks),
        })
    }

    fn piece(&mut self) -> Result<Piece> {
        let Contents {
            blocks,
            inode,
            source,
        } = &mut self.contents;
        let size = inode.size();
        let map = match source {
            Source::Inline(data) => {
                self.at = size;
                return Ok(Piece::Data(std::mem::take(data)));
            }
            Source::Mapped(map) => map,
        };
        let mut hole = 0;
        while self.at < size {
            let segment = Contents::segment(map, blocks, self.at, size)?;
            let Some(place) = segment.place else {
                hole += segment.len;
                self.at += segment.len;
                continue;
            };
            if hole > 0 {
                break;
            }
            let len = segment.len.min(PIECE);
            self.left = self
                .left
                .checked_sub(len)
                .ok_or_else(|| damaged_inode(inode.number(), "it has more data than the disk"))?;
            let mut data = vec![0; len as usize];
            blocks.read_at(place, &mut data)?;
            self.at += len;
            return Ok(Piece::Data(data));
        }
        Ok(Piece::Hole(hole))
    }
}

impl Iterator for Pieces<'_> {
    type Item = Result<Piece>;

    fn next(&mut self) -> Option<Self::Item> {
        (self.at < self.contents.inode.size()).then(|| {
            let piece = self.piece();
            if piece.is_err() {
                self.at = self.contents.inode.size();
            }
            piece
        })
    }
}
