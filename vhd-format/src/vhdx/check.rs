use super::ALIGNMENT;
use super::bat::{BlockState, Entry};
use super::header::Header;
use super::open::Vhdx;
use super::region_table::RegionTable;
use crate::range::Ranges;
use crate::{Error, ReadAt, Result};

/// The least that takes space in the file: a sector bitmap, a block of the least size.
const UNIT: u64 = 1 << 20;

impl<S: ReadAt> Vhdx<S> {
    /// Looks for damage that opening the disk does not find or survives: copies of the header
    /// and the region table, and every entry of the block allocation table. What is found is
    /// reported one by one, with its place in the file.
    ///
    /// # Errors
    /// If reading fails, and the check could not be finished.
    pub fn check(&self, mut report: impl FnMut(Error)) -> Result<()> {
        for (offset, damaged) in Header::OFFSETS.into_iter().zip(self.damaged_headers()) {
            if damaged {
                report(Error::invalid("one of the two headers is damaged").at(offset));
            }
        }
        let tables = RegionTable::OFFSETS.into_iter();
        for (offset, damaged) in tables.zip(self.damaged_region_tables()) {
            if damaged {
                report(Error::invalid("one of the two region tables is damaged").at(offset));
            }
        }
        self.check_table(self.file_size()?, &mut report)?;
        Ok(())
    }

    pub(super) fn file_size(&self) -> Result<u64> {
        self.file
            .size()
            .map_err(|error| Error::io("cannot tell the size of the file", error))
    }

    /// Checks that every block lies within the file and that none lies over another or a
    /// structure. Returns the end of what is in use.
    pub(super) fn check_table(&self, size: u64, report: &mut dyn FnMut(Error)) -> Result<u64> {
        let structures = &self.structures;
        let numbering = &structures.numbering;
        let block_size = u64::from(self.block_size());
        let differencing = self.parent_locator().is_some();
        let header = self.header();

        let mut ranges = Ranges::new(size, UNIT);
        ranges.add(0, ALIGNMENT);
        let log_end = header.log_offset + u64::from(header.log_length);
        ranges.add(header.log_offset, log_end);
        for region in &structures.regions.regions {
            ranges.add(region.offset, region.end());
        }

        // Blocks may keep their place when they give up their contents.
        let mut kept_end = 0;
        let mut partial_in_chunk = false;
        // Counted along, for a division for each of many million entries takes seconds.
        let (mut block, mut next_bitmap) = (0, numbering.bitmap_index(0));
        let bat_offset = structures.regions.bat.offset;
        let entries = numbering.entries(differencing);
        let scanned = self.table.scan(&self.file, entries, |index, bytes| {
            let entry = Entry(u64::from_le_bytes(bytes));
            let mut wrong = |what: String| report(Error::invalid(what).at(bat_offset + index * 8));
            let (length, held);
            if index == next_bitmap {
                next_bitmap += numbering.chunk_ratio + 1;
                (length, held) = (UNIT, entry.is_bitmap_present());
                if held && !differencing {
                    wrong("a sector bitmap on a disk without a parent".to_owned());
                } else if partial_in_chunk && !held {
                    wrong("the sector bitmap of a partially present block is missing".to_owned());
                }
                partial_in_chunk = false;
            } else {
                let state = entry.state();
                let partial = state == Some(BlockState::PartiallyPresent);
                (length, held) = (
                    block_size,
                    partial || state == Some(BlockState::FullyPresent),
                );
                partial_in_chunk |= partial;
                if state.is_none() {
                    wrong(format!("block {block} has a state that does not exist"));
                } else if partial && !differencing {
                    wrong(format!(
                        "block {block} is partially present on a disk without a parent"
                    ));
                }
                block += 1;
            }
            let end = entry.offset().saturating_add(length);
            if !held {
                if end <= size {
                    kept_end = kept_end.max(end);
                }
            } else if end > size {
                wrong("a block lies past the end of the file".to_owned());
            } else {
                ranges.add(entry.offset(), end);
            }
        });
        scanned.map_err(|error| Error::read("the block allocation table", bat_offset, error))?;
        let end = ranges.check(report).max(kept_end);
        Ok(end.next_multiple_of(ALIGNMENT))
    }
}
