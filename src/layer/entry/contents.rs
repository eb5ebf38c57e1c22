//! Reads what stands behind the headers of an entry: the map of a sparse file, and contents.

use super::super::blocks::{padding, truncated};
use super::super::header::{BLOCK_SIZE, Header};
use super::super::model::{ChunkSource, EntryKind, Piece, Reading};
use super::super::sparse::{self, MapPlace, MapReader, Segment};
use super::Entries;
use crate::error::{Error, Result};

/// Maps of more segments than this are an attack on memory: they take 16 MiB.
const SEGMENTS_MAX: usize = 1 << 20;

impl<S: ChunkSource> Entries<S> {
    /// Bytes of the entry's contents in the archive.
    pub(super) fn stored(&self, header: &Header<'_>) -> Result<u64> {
        match self.extensions.size {
            None => header.size(),
            Some(size) => sparse::check_size(size),
        }
    }

    pub(super) fn begin_file(&mut self, header: &Header<'_>) -> Result<EntryKind> {
        let stored = self.stored(header)?;
        self.body.begin(stored);
        let mut map_size = 0;
        match self.extensions.sparse.finish(self.reading)? {
            None if self.extensions.star_size.is_some_and(|size| size != stored) => {
                return Err(Error::unsupported(
                    "sparse files of other formats than GNU's are not supported",
                ));
            }
            None => {
                self.body.segments.push(Segment {
                    offset: 0,
                    length: stored,
                });
                self.body.size = stored;
                return Ok(EntryKind::File { size: stored });
            }
            Some((size, MapPlace::Records(segments))) => {
                self.body.segments = segments;
                self.body.size = size;
            }
            Some((size, MapPlace::Data)) => {
                self.body.size = size;
                let mut map = MapReader::default();
                let mut block = [0; BLOCK_SIZE];
                let mut complete = false;
                while !complete {
                    map_size += BLOCK_SIZE as u64;
                    if map_size > stored {
                        return Err(Error::corrupt(
                            "the sparse map is longer than the entry's contents",
                        ));
                    }
                    self.read_map_block(&mut block)?;
                    complete = map.read(&block, &mut self.body.segments)?;
                }
            }
        }
        self.check_sparse(header, map_size)
    }

    pub(super) fn begin_gnu_sparse(&mut self, header: &Header<'_>) -> Result<EntryKind> {
        let stored = self.stored(header)?;
        self.body.begin(stored);
        let Some(fields) = header.gnu() else {
            return Err(Error::unsupported(
                "sparse files of other formats than GNU's are not supported",
            ));
        };
        self.body.size = header.real_size(fields)?;
        sparse::read_gnu(&fields.sparse, &mut self.body.segments)?;
        let mut extended = fields.isextended[0] != 0;
        let mut block = tar::GnuExtSparseHeader::new();
        while extended {
            self.read_map_block(block.as_mut_bytes())?;
            sparse::read_gnu(&block.sparse, &mut self.body.segments)?;
            extended = block.isextended[0] != 0;
        }
        self.check_sparse(header, 0)
    }

    /// Reads a block of a map, unless there is enough of it already.
    fn read_map_block(&mut self, block: &mut [u8; BLOCK_SIZE]) -> Result<()> {
        if self.body.segments.len() > SEGMENTS_MAX {
            return Err(Error::limit(format!(
                "the sparse map has more than {SEGMENTS_MAX} segments"
            )));
        }
        if self.blocks.read(block)? < BLOCK_SIZE {
            return Err(truncated("a sparse map"));
        }
        Ok(())
    }

    /// Checks a map against the contents; `map_size` bytes of these are the map itself.
    fn check_sparse(&mut self, header: &Header<'_>, map_size: u64) -> Result<EntryKind> {
        let body = &mut self.body;
        let (size, mut stored) = (body.size, body.stored);
        // Some writers tell the size of the file in a PAX record, and in the header what the
        // archive holds of it: the map says which it is.
        if self.reading == Reading::Full && self.extensions.size == Some(size) {
            let data = sparse::data(&body.segments);
            let total = data.and_then(|data| data.checked_add(map_size));
            if let Ok(of_header) = header.size()
                && total == Some(of_header)
                && of_header != stored
            {
                stored = of_header;
                body.padding = padding(stored);
            }
        }
        let stored = stored.checked_sub(map_size);
        let stored = stored
            .ok_or_else(|| Error::corrupt("the sparse map is longer than the entry's contents"))?;
        body.stored = stored;
        sparse::check(&body.segments, size, stored)?;
        Ok(EntryKind::File { size })
    }

    pub(super) fn read_piece(&mut self) -> Result<Option<Piece>> {
        let body = &mut self.body;
        while let Some(segment) = body.segments.get(body.next) {
            if body.position < segment.offset {
                let hole = segment.offset - body.position;
                body.position = segment.offset;
                return Ok(Some(Piece::Hole(hole)));
            }
            let left = segment.offset + segment.length - body.position;
            if left == 0 {
                body.next += 1;
                continue;
            }
            let part = self.blocks.take(left)?;
            let part = part.ok_or_else(|| truncated("the contents"))?;
            body.position += part.len() as u64;
            body.stored -= part.len() as u64;
            return Ok(Some(Piece::Data(part)));
        }
        let hole = body.size - body.position;
        body.position = body.size;
        Ok((hole > 0).then_some(Piece::Hole(hole)))
    }

    pub(super) fn skip_body(&mut self) -> Result<()> {
        // Neither is near the limit of its type.
        let left = self.body.stored + self.body.padding;
        if !self.blocks.skip(left)? {
            return Err(truncated("the contents"));
        }
        Ok(())
    }
}
