use super::ALIGNMENT;
use super::bat::{BlockState, Entry};
use super::open::Vhdx;
use crate::backing::{parent_extent, read_parent};
use crate::range::{Extent, check_range, pieces};
use crate::{Error, ReadAt, Result};

impl<S: ReadAt> Vhdx<S> {
    /// Fills the buffer from that offset of the virtual disk.
    ///
    /// # Errors
    /// If the range ends past the disk, the file is damaged or ends early, or a parent is
    /// missing.
    pub fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<()> {
        check_range(self.virtual_size(), offset, buffer.len())?;
        let differencing = self.parent_locator().is_some();
        for piece in pieces(offset, buffer.len(), self.block_size()) {
            let virtual_offset = offset + piece.range.start as u64;
            let part = &mut buffer[piece.range];
            let (state, place) = self.entry(piece.block)?;
            match state {
                BlockState::FullyPresent => self.read_file(place, piece.within, part)?,
                BlockState::NotPresent if differencing => {
                    read_parent(self.parent.as_deref(), virtual_offset, part)?;
                }
                BlockState::PartiallyPresent => {
                    self.read_partial(piece.block, place, piece.within, virtual_offset, part)?;
                }
                BlockState::NotPresent
                | BlockState::Undefined
                | BlockState::Zero
                | BlockState::Unmapped => part.fill(0),
            }
        }
        Ok(())
    }

    pub(crate) fn extent(&self, offset: u64) -> Result<Extent> {
        let block_size = u64::from(self.block_size());
        let block = offset / block_size;
        let end = (block + 1) * block_size;
        match self.entry(block)?.0 {
            BlockState::FullyPresent | BlockState::PartiallyPresent => {
                Ok(Extent { data: true, end })
            }
            BlockState::NotPresent if self.parent_locator().is_some() => {
                parent_extent(self.parent.as_deref(), offset, end)
            }
            BlockState::NotPresent
            | BlockState::Undefined
            | BlockState::Zero
            | BlockState::Unmapped => Ok(Extent { data: false, end }),
        }
    }

    /// The state of a payload block, and its offset in the file if it has one.
    pub(super) fn entry(&self, block: u64) -> Result<(BlockState, u64)> {
        let index = self.structures.numbering.payload_index(block);
        let entry = self.raw_entry(index)?;
        let place = self.structures.regions.bat.offset + index * 8;
        let state = entry.state().ok_or_else(|| {
            Error::invalid(format!("block {block} has a state that does not exist")).at(place)
        })?;
        if state == BlockState::PartiallyPresent && self.parent_locator().is_none() {
            return Err(Error::invalid(format!(
                "block {block} is partially present on a disk without a parent"
            ))
            .at(place));
        }
        Ok((state, entry.offset()))
    }

    fn raw_entry(&self, index: u64) -> Result<Entry> {
        let place = self.structures.regions.bat.offset + index * 8;
        let bytes = self
            .table
            .get(&self.file, index)
            .map_err(|error| Error::read("the block allocation table", place, error))?;
        Ok(Entry(u64::from_le_bytes(bytes)))
    }

    fn read_file(&self, place: u64, within: u64, buffer: &mut [u8]) -> Result<()> {
        let offset = place
            .checked_add(within)
            .filter(|_| place >= ALIGNMENT)
            .ok_or_else(|| Error::invalid("a block lies outside of the file").at(place))?;
        self.file
            .read_at(offset, buffer)
            .map_err(|error| Error::read("a block", offset, error))
    }

    /// §2.4 Blocks: sectors whose bit is set are in the file, the others in the parent.
    fn read_partial(
        &self,
        block: u64,
        place: u64,
        within: u64,
        virtual_offset: u64,
        buffer: &mut [u8],
    ) -> Result<()> {
        let numbering = &self.structures.numbering;
        let bitmap_entry = self.raw_entry(numbering.bitmap_index(block))?;
        if !bitmap_entry.is_bitmap_present() {
            return Err(Error::invalid(format!(
                "block {block} is partially present and has no sector bitmap"
            )));
        }
        let sector_size = u64::from(self.logical_sector_size());
        let in_chunk = block % numbering.chunk_ratio * u64::from(self.block_size()) + within;
        let first_byte = in_chunk / sector_size / 8;
        let end = in_chunk + buffer.len() as u64;
        let mut bitmap = vec![0; (end.div_ceil(sector_size * 8) - first_byte) as usize];
        self.read_file(bitmap_entry.offset(), first_byte, &mut bitmap)?;
        let is_set = |done: usize| {
            let sector = (in_chunk + done as u64) / sector_size;
            bitmap[(sector / 8 - first_byte) as usize] & (1 << (sector % 8)) != 0
        };

        let mut done = 0;
        while done < buffer.len() {
            let here = is_set(done);
            // Sectors of one kind are read together.
            let mut end = done;
            while end < buffer.len() && is_set(end) == here {
                end += (sector_size - (in_chunk + end as u64) % sector_size) as usize;
            }
            let end = end.min(buffer.len());
            let part = &mut buffer[done..end];
            match here {
                true => self.read_file(place, within + done as u64, part)?,
                false => {
                    let offset = virtual_offset + done as u64;
                    read_parent(self.parent.as_deref(), offset, part)?;
                }
            }
            done = end;
        }
        Ok(())
    }
}
