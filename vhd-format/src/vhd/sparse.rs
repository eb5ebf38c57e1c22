use super::dynamic_header::DynamicHeader;
use super::{DiskType, Footer, ParentReference, SECTOR_SIZE};
use crate::backing::{Backing, parent_extent, read_parent};
use crate::range::{Extent, Ranges, is_zero, pieces};
use crate::table::Table;
use crate::{Error, ReadAt, Result, Storage};

/// An entry of the block allocation table whose block takes no space.
pub(super) const UNUSED: u32 = u32::MAX;

/// New blocks are placed so that their data, which follows the sector bitmap, is aligned to
/// this: a guest's pages then are pages of the file.
pub(super) const DATA_ALIGNMENT: u64 = 4096;

/// "Data Block": the size of the sector bitmap in front of a block, in whole sectors.
pub(super) fn bitmap_size(block_size: u32) -> u64 {
    let sectors = u64::from(block_size) / SECTOR_SIZE;
    sectors.div_ceil(8).next_multiple_of(SECTOR_SIZE)
}

/// The entry of a block whose sector bitmap starts at that offset.
pub(super) fn sector_of(offset: u64) -> Result<u32> {
    u32::try_from(offset / SECTOR_SIZE)
        .ok()
        .filter(|&sector| sector != UNUSED)
        .ok_or_else(|| Error::input("the file is full: a VHD addresses 2 TiB of sectors"))
}

/// The blocks of a dynamic or differencing disk.
pub(super) struct Sparse {
    header: DynamicHeader,
    header_offset: u64,
    virtual_size: u64,
    /// "Block Allocation Table".
    table: Table,
    /// Where the data ends and the footer belongs.
    end: u64,
    /// The footer is not at the end of the data, where it belongs.
    pub(super) footer_missing: bool,
    pub(super) parent_reference: Option<ParentReference>,
    pub(super) parent: Option<Box<dyn Backing>>,
}

impl Sparse {
    pub(super) fn open(
        storage: &impl ReadAt,
        footer: &Footer,
        end: u64,
        footer_missing: bool,
    ) -> Result<Self> {
        let header_offset = footer.data_offset();
        let mut bytes = [0; DynamicHeader::SIZE];
        storage
            .read_at(header_offset, &mut bytes)
            .map_err(|error| Error::read("the dynamic disk header", header_offset, error))?;
        let header = DynamicHeader::from_bytes(&bytes).map_err(|error| error.at(header_offset))?;

        let blocks = footer
            .virtual_size()
            .div_ceil(u64::from(header.block_size()));
        let table_offset = header.table_offset();
        let table_size = blocks * 4;
        if blocks > u64::from(header.max_table_entries()) {
            return Err(Error::invalid(format!(
                "the block allocation table has {} entries for {blocks} blocks",
                header.max_table_entries()
            ))
            .at(table_offset));
        }
        if table_offset
            .checked_add(table_size)
            .is_none_or(|table_end| table_end > end)
        {
            return Err(
                Error::invalid("the block allocation table lies past the end of the file")
                    .at(table_offset),
            );
        }
        let parent_reference = match footer.disk_type() {
            DiskType::Differencing => Some(ParentReference::read(storage, &header)?),
            _ => None,
        };
        Ok(Self {
            virtual_size: footer.virtual_size(),
            table: Table::new(table_offset, table_size),
            header,
            header_offset,
            end,
            footer_missing,
            parent_reference,
            parent: None,
        })
    }

    pub(super) fn block_size(&self) -> u32 {
        self.header.block_size()
    }

    pub(super) fn max_table_entries(&self) -> u32 {
        self.header.max_table_entries()
    }

    fn blocks(&self) -> u64 {
        self.virtual_size.div_ceil(self.block_size().into())
    }

    /// Where the table ends that the header tells of, at least as long as the disk needs.
    fn table_end(&self) -> u64 {
        let size = u64::from(self.header.max_table_entries()) * 4;
        self.header.table_offset().saturating_add(size)
    }

    /// "Dynamic Disk Header Format": Max Table Entries "should be equal to the number of blocks
    /// in the disk". Writers keep room to grow (XenServer), or count one too many (QEMU before
    /// 2.6); most readers do not mind.
    pub(super) fn note_spare_entries(&self) -> Option<String> {
        let (entries, blocks) = (self.header.max_table_entries(), self.blocks());
        (u64::from(entries) > blocks).then(|| {
            format!(
                "the block allocation table has {entries} entries for a disk of {blocks} blocks: \
                 some readers, such as 7-Zip, refuse a disk whose numbers differ"
            )
        })
    }

    fn bitmap_size(&self) -> u64 {
        bitmap_size(self.block_size())
    }

    /// Where the block's sector bitmap starts in the file.
    pub(super) fn locate(&self, storage: &impl ReadAt, block: u64) -> Result<Option<u64>> {
        let entry = self.table.get(storage, block).map_err(|error| {
            Error::read(
                "the block allocation table",
                self.header.table_offset(),
                error,
            )
        })?;
        match u32::from_be_bytes(entry) {
            UNUSED => Ok(None),
            sector => Ok(Some(u64::from(sector) * SECTOR_SIZE)),
        }
    }

    /// Checks that every block lies within the file and that none lies over another or a
    /// structure.
    pub(super) fn check_table(
        &self,
        storage: &impl ReadAt,
        report: &mut dyn FnMut(Error),
    ) -> Result<()> {
        let stride = self.bitmap_size() + u64::from(self.block_size());
        let table_offset = self.header.table_offset();
        let blocks = self.blocks();
        let mut ranges = Ranges::new(self.end, SECTOR_SIZE);
        ranges.add(0, Footer::SIZE as u64);
        let header_end = self.header_offset + DynamicHeader::SIZE as u64;
        ranges.add(self.header_offset, header_end);
        if self.table_end() > self.end {
            let message = "the block allocation table ends past the end of the file";
            report(Error::invalid(message).at(table_offset));
        }
        // A writer takes all of its entries for its own, those that no block needs as well.
        ranges.add(table_offset, self.table_end().min(self.end));
        let scanned = self.table.scan(storage, blocks, |index, entry| {
            let sector = u32::from_be_bytes(entry);
            let start = u64::from(sector) * SECTOR_SIZE;
            if sector == UNUSED {
            } else if start + stride > self.end {
                let message = format!("block {index} lies past the end of the file");
                report(Error::invalid(message).at(table_offset + index * 4));
            } else if start < Footer::SIZE as u64 {
                // Unused entries are not kept: a hole in the file is a table full of them.
                let message = format!("block {index} lies over the copy of the footer");
                report(Error::invalid(message).at(table_offset + index * 4));
            } else {
                ranges.add(start, start + stride);
            }
        });
        scanned.map_err(|error| Error::read("the block allocation table", table_offset, error))?;
        ranges.check(report);
        Ok(())
    }

    pub(super) fn allocated_blocks(&self, storage: &impl ReadAt) -> Result<u64> {
        let mut allocated = 0;
        self.table
            .scan(storage, self.blocks(), |_, entry| {
                allocated += u64::from(u32::from_be_bytes(entry) != UNUSED);
            })
            .map_err(|error| {
                let offset = self.header.table_offset();
                Error::read("the block allocation table", offset, error)
            })?;
        Ok(allocated)
    }

    pub(super) fn read_at(
        &self,
        storage: &impl ReadAt,
        offset: u64,
        buffer: &mut [u8],
    ) -> Result<()> {
        for piece in pieces(offset, buffer.len(), self.block_size()) {
            let part = &mut buffer[piece.range.clone()];
            match self.locate(storage, piece.block)? {
                None => self.read_absent(offset + piece.range.start as u64, part)?,
                Some(start) => {
                    let virtual_offset = offset + piece.range.start as u64;
                    self.read_block(storage, start, piece.within, virtual_offset, part)?;
                }
            }
        }
        Ok(())
    }

    pub(super) fn extent(&self, storage: &impl ReadAt, offset: u64) -> Result<Extent> {
        let block_size = u64::from(self.block_size());
        let block = offset / block_size;
        let end = (block + 1) * block_size;
        match self.locate(storage, block)? {
            None if self.parent_reference.is_some() => {
                parent_extent(self.parent.as_deref(), offset, end)
            }
            found => Ok(Extent {
                data: found.is_some(),
                end,
            }),
        }
    }

    /// Sectors that are not in this file: the parent's, or zero.
    fn read_absent(&self, offset: u64, buffer: &mut [u8]) -> Result<()> {
        if self.parent_reference.is_some() {
            return read_parent(self.parent.as_deref(), offset, buffer);
        }
        buffer.fill(0);
        Ok(())
    }

    fn read_block(
        &self,
        storage: &impl ReadAt,
        start: u64,
        within: u64,
        virtual_offset: u64,
        buffer: &mut [u8],
    ) -> Result<()> {
        let bitmap = self.read_bitmap(storage, start, within, buffer.len())?;
        let data = start + self.bitmap_size();
        let mut done = 0;
        while done < buffer.len() {
            let present = bitmap.is_set(within + done as u64);
            // Sectors of one kind are read together.
            let mut end = done;
            while end < buffer.len() && bitmap.is_set(within + end as u64) == present {
                let position = within + end as u64;
                end += (SECTOR_SIZE - position % SECTOR_SIZE) as usize;
            }
            let end = end.min(buffer.len());
            let part = &mut buffer[done..end];
            if present {
                let position = data + within + done as u64;
                storage
                    .read_at(position, part)
                    .map_err(|error| Error::read("a block", position, error))?;
            } else {
                self.read_absent(virtual_offset + done as u64, part)?;
            }
            done = end;
        }
        Ok(())
    }

    fn read_bitmap(
        &self,
        storage: &impl ReadAt,
        start: u64,
        within: u64,
        len: usize,
    ) -> Result<Bitmap> {
        let first = within / SECTOR_SIZE / 8;
        let last = (within + len as u64).div_ceil(SECTOR_SIZE * 8);
        let mut bytes = vec![0; (last - first) as usize];
        storage
            .read_at(start + first, &mut bytes)
            .map_err(|error| Error::read("a sector bitmap", start, error))?;
        Ok(Bitmap { first, bytes })
    }

    pub(super) fn write_at(
        &mut self,
        storage: &mut impl Storage,
        offset: u64,
        data: &[u8],
    ) -> Result<()> {
        for piece in pieces(offset, data.len(), self.block_size()) {
            let part = &data[piece.range];
            match self.locate(storage, piece.block)? {
                Some(start) => self.write_block(storage, start, piece.within, part)?,
                None if is_zero(part) => {}
                None => self.allocate(storage, piece.block, piece.within, part)?,
            }
        }
        Ok(())
    }

    fn write_block(
        &self,
        storage: &mut impl Storage,
        start: u64,
        within: u64,
        data: &[u8],
    ) -> Result<()> {
        let mut bitmap = self.read_bitmap(storage, start, within, data.len())?;
        let block = start + self.bitmap_size();
        let write = |storage: &mut _, offset, data: &[u8]| {
            Storage::write_at(storage, offset, data)
                .map_err(|error| Error::write("a block", offset, error))
        };
        // Sectors that were not in use read as zero whatever the file holds there: those at
        // the ends, of which only a part is written, get their zeros now.
        let end = within + data.len() as u64;
        let zeros = [0; SECTOR_SIZE as usize];
        let head = within % SECTOR_SIZE;
        if head != 0 && !bitmap.is_set(within) {
            write(storage, block + within - head, &zeros[..head as usize])?;
        }
        let tail = end.next_multiple_of(SECTOR_SIZE) - end;
        if tail != 0 && !bitmap.is_set(end - 1) {
            write(storage, block + end, &zeros[..tail as usize])?;
        }
        write(storage, block + within, data)?;
        if bitmap.set(within, end) {
            write(storage, start + bitmap.first, &bitmap.bytes)?;
        }
        Ok(())
    }

    fn allocate(
        &mut self,
        storage: &mut impl Storage,
        block: u64,
        within: u64,
        data: &[u8],
    ) -> Result<()> {
        let bitmap_size = self.bitmap_size();
        let start = (self.end + bitmap_size).next_multiple_of(DATA_ALIGNMENT) - bitmap_size;
        let end = start + bitmap_size + u64::from(self.block_size());
        let sector = sector_of(start)?;

        let failed = |error| Error::write("a new block", start, error);
        storage.grow(end + Footer::SIZE as u64).map_err(failed)?;
        // New bytes of the file are zero. Only the old footer's place is not, so what lies
        // there is written in full: the gap before the bitmap and the bitmap.
        let mut front = vec![0; (start - self.end) as usize];
        front.resize(front.len() + bitmap_size as usize, 0xff);
        let front_offset = self.end;
        // Should one of the writes fail, the place is not used again: it may not be zero then.
        self.end = end;
        self.footer_missing = true;
        storage.write_at(front_offset, &front).map_err(failed)?;
        let data_offset = start + bitmap_size + within;
        storage.write_at(data_offset, data).map_err(failed)?;
        self.table
            .set(storage, block, sector.to_be_bytes())
            .map_err(|error| {
                Error::read(
                    "the block allocation table",
                    self.header.table_offset(),
                    error,
                )
            })
    }

    /// The table comes after what it points to, with a flush between: a crash never leaves an
    /// entry without its block.
    pub(super) fn flush(&mut self, storage: &mut impl Storage, footer: &Footer) -> Result<()> {
        if self.footer_missing {
            storage
                .write_at(self.end, &footer.to_bytes())
                .map_err(|error| Error::write("the footer", self.end, error))?;
        }
        storage.flush().map_err(Error::flush)?;
        self.footer_missing = false;
        if self.table.dirty_pages() == 0 {
            return Ok(());
        }
        for (offset, bytes) in self.table.dirty() {
            storage
                .write_at(offset, &bytes)
                .map_err(|error| Error::write("the block allocation table", offset, error))?;
        }
        storage.flush().map_err(Error::flush)?;
        self.table.set_clean();
        Ok(())
    }
}

/// The bytes of a sector bitmap that some range needs, from the byte `first`. The most
/// significant bit comes first.
struct Bitmap {
    first: u64,
    bytes: Vec<u8>,
}

impl Bitmap {
    fn bit(&self, position: u64) -> (usize, u8) {
        let sector = position / SECTOR_SIZE;
        ((sector / 8 - self.first) as usize, 0x80 >> (sector % 8))
    }

    fn is_set(&self, position: u64) -> bool {
        let (byte, bit) = self.bit(position);
        self.bytes[byte] & bit != 0
    }

    /// Sets the bits of the sectors of that range; true if one was clear.
    fn set(&mut self, start: u64, end: u64) -> bool {
        let mut changed = false;
        for sector in start / SECTOR_SIZE..end.div_ceil(SECTOR_SIZE) {
            let (byte, bit) = self.bit(sector * SECTOR_SIZE);
            changed |= self.bytes[byte] & bit == 0;
            self.bytes[byte] |= bit;
        }
        changed
    }
}
