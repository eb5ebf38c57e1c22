//! Where everything of a new disk lies, decided before any of it is written.

use std::collections::BTreeMap;
use std::iter;

use super::dynamic_header::DynamicHeader;
use super::parameters::Parameters;
use super::sparse::{DATA_ALIGNMENT, UNUSED, bitmap_size, sector_of};
use super::{DiskType, Footer, SECTOR_SIZE};
use crate::{Error, Result, Storage};

/// Where the block allocation table of a new dynamic disk lies: after the footer's copy and
/// the dynamic disk header.
const TABLE_OFFSET: u64 = (Footer::SIZE + DynamicHeader::SIZE) as u64;

/// Entries of the table that are given out at once.
const ENTRIES_PER_PIECE: u64 = 16 << 10;

/// The plan of a new VHD, for producers that write the blocks themselves.
///
/// A layout does no I/O. It gives every block of a dynamic disk that is
/// [placed](Self::place) the offset of its data in the file, in the order of the calls and of
/// nothing else, and it gives out the file's [structures](Self::structures) as bytes with their
/// offsets. Both can be written in any order; what neither covers must read as zero.
///
/// On a fixed disk every block is at its own offset, and only the footer is a structure.
///
/// ```
/// use vhd_format::vhd::{Layout, Parameters, Vhd};
///
/// let mut layout = Layout::new(&Parameters::dynamic(64 << 20, [0x5a; 16]))?;
/// let place = layout.place(20)?;
///
/// let mut file = vec![0; layout.file_size() as usize];
/// file[place as usize..][..5].copy_from_slice(b"hello");
/// for (offset, bytes) in layout.structures() {
///     file[offset as usize..][..bytes.len()].copy_from_slice(&bytes);
/// }
///
/// let disk = Vhd::open(file)?;
/// let mut buffer = [0; 5];
/// disk.read_at(20 * u64::from(layout.block_size()), &mut buffer)?;
/// assert_eq!(&buffer, b"hello");
/// # Ok::<(), vhd_format::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Layout {
    footer: Footer,
    time_stamp: u32,
    block_size: u32,
    /// Entries that there is room for in front of the blocks, as many as the disk may need in
    /// the end.
    reserved_entries: u32,
    /// The sectors of the blocks that have been placed.
    placed: BTreeMap<u64, u32>,
}

impl Layout {
    /// Lays out a disk without any blocks placed.
    ///
    /// # Errors
    /// If a parameter is out of range.
    pub fn new(parameters: &Parameters) -> Result<Self> {
        let &Parameters {
            disk_type,
            virtual_size,
            unique_id,
            time_stamp,
            block_size,
        } = parameters;
        let footer = new_footer(disk_type, virtual_size, unique_id, time_stamp)?;
        if !block_size.is_power_of_two() || !(4 << 10..=256 << 20).contains(&block_size) {
            return Err(Error::input(format!(
                "a block size of {block_size} bytes: it must be a power of two from 4 KiB to 256 MiB"
            )));
        }
        let blocks = virtual_size.div_ceil(u64::from(block_size));
        let reserved_entries = u32::try_from(blocks)
            .map_err(|_| Error::input("the blocks are too small for a disk of this size"))?;
        Ok(Self {
            footer,
            time_stamp,
            block_size,
            reserved_entries,
            placed: BTreeMap::new(),
        })
    }

    /// The size of the virtual disk in bytes.
    #[must_use]
    pub fn virtual_size(&self) -> u64 {
        self.footer.virtual_size()
    }

    /// The size of a block in bytes. On a dynamic disk the last block has it too, even where
    /// the disk ends within.
    #[must_use]
    pub fn block_size(&self) -> u32 {
        self.block_size
    }

    /// The number of blocks.
    #[must_use]
    pub fn blocks(&self) -> u64 {
        self.virtual_size().div_ceil(u64::from(self.block_size))
    }

    /// The size of the file, once every block that has been placed is in it.
    #[must_use]
    pub fn file_size(&self) -> u64 {
        self.footer_offset() + Footer::SIZE as u64
    }

    /// Where the block's data has been placed in the file.
    #[must_use]
    pub fn offset_of(&self, block: u64) -> Option<u64> {
        if self.is_fixed() {
            return (block < self.blocks()).then(|| block * u64::from(self.block_size));
        }
        let start = u64::from(*self.placed.get(&block)?) * SECTOR_SIZE;
        Some(start + bitmap_size(self.block_size))
    }

    /// Gives the block the next place in the file, unless it has one, and returns the offset of
    /// its data.
    ///
    /// # Errors
    /// If the disk has no such block, or the file grows past the 2 TiB that can be addressed.
    pub fn place(&mut self, block: u64) -> Result<u64> {
        if block >= self.blocks() {
            return Err(Error::input(format!(
                "block {block} of a disk of {} blocks",
                self.blocks()
            )));
        }
        if let Some(offset) = self.offset_of(block) {
            return Ok(offset);
        }
        let offset = self.data_offset(self.placed.len() as u64);
        let sector = sector_of(offset - bitmap_size(self.block_size))?;
        self.placed.insert(block, sector);
        Ok(offset)
    }

    /// Changes the size of the virtual disk, to any that the table was laid out for. The table
    /// then has an entry for each block of the disk and no more; the rest of its room stays
    /// unused.
    ///
    /// # Errors
    /// If the table is too small for it, the size is none that a disk may have, or a block of
    /// a dynamic disk has been placed past it.
    pub fn set_virtual_size(&mut self, virtual_size: u64) -> Result<()> {
        let footer = new_footer(
            self.footer.disk_type(),
            virtual_size,
            self.footer.unique_id(),
            self.time_stamp,
        )?;
        let blocks = virtual_size.div_ceil(u64::from(self.block_size));
        if blocks > u64::from(self.reserved_entries) {
            return Err(Error::input(format!(
                "the block allocation table was laid out for a smaller disk than {virtual_size} bytes"
            )));
        }
        if self.placed.range(blocks..).next().is_some() {
            return Err(Error::input(format!(
                "a block has been placed past the new end of the disk, {virtual_size} bytes"
            )));
        }
        self.footer = footer;
        Ok(())
    }

    /// Changes the id of the disk, for one that is known only once the data is.
    pub fn set_unique_id(&mut self, unique_id: [u8; 16]) {
        self.footer = self.footer.clone().with_unique_id(unique_id);
    }

    /// Every structure of the file as bytes with their offset, in ascending order: the
    /// footer's copy, header, block allocation table and sector bitmaps of a dynamic disk, and
    /// the footer.
    pub fn structures(&self) -> impl Iterator<Item = (u64, Vec<u8>)> {
        let footer = self.footer.to_bytes().to_vec();
        let sparse = (!self.is_fixed()).then(|| {
            let header = DynamicHeader::new(TABLE_OFFSET, self.table_entries(), self.block_size);
            let mut front = footer.clone();
            front.extend_from_slice(&header.to_bytes());
            let bitmap = vec![0xff; bitmap_size(self.block_size) as usize];
            // Blocks are placed one behind the other, whichever they are.
            let bitmaps = (0..self.placed.len() as u64).map(move |rank| {
                let start = self.data_offset(rank) - bitmap.len() as u64;
                (start, bitmap.clone())
            });
            iter::once((0, front))
                .chain(self.table_pieces())
                .chain(bitmaps)
        });
        let footer = iter::once((self.footer_offset(), footer));
        sparse.into_iter().flatten().chain(footer)
    }

    /// Writes the structures into storage that is empty and gives the file its size.
    ///
    /// # Errors
    /// If the storage is not empty or writing fails.
    pub fn write_to(&self, storage: &mut impl Storage) -> Result<()> {
        let size = storage
            .size()
            .map_err(|error| Error::io("cannot tell the size of the file", error))?;
        if size != 0 {
            return Err(Error::input(
                "the storage of a new disk must be empty, or old bytes would show through",
            ));
        }
        let size = self.file_size();
        storage
            .grow(size)
            .map_err(|error| Error::write("the end of the file", size, error))?;
        for (offset, bytes) in self.structures() {
            storage
                .write_at(offset, &bytes)
                .map_err(|error| Error::write("the disk's structures", offset, error))?;
        }
        Ok(())
    }

    fn is_fixed(&self) -> bool {
        self.footer.disk_type() == DiskType::Fixed
    }

    /// "Dynamic Disk Header Format": Max Table Entries "should be equal to the number of blocks
    /// in the disk". 7-Zip refuses all other numbers.
    fn table_entries(&self) -> u32 {
        // No more than are reserved.
        u32::try_from(self.blocks()).unwrap_or(u32::MAX)
    }

    /// "Block Allocation Table and Data Blocks": unused entries are all ones, and the table is
    /// padded to whole sectors.
    fn table_pieces(&self) -> impl Iterator<Item = (u64, Vec<u8>)> {
        let entries = u64::from(self.table_entries()).next_multiple_of(SECTOR_SIZE / 4);
        let mut next = 0;
        iter::from_fn(move || {
            if next == entries {
                return None;
            }
            let first = next;
            next = entries.min(first + ENTRIES_PER_PIECE);
            let mut bytes = vec![0xff; (next - first) as usize * 4];
            for (block, sector) in self.placed.range(first..next) {
                let at = (block - first) as usize * 4;
                bytes[at..at + 4].copy_from_slice(&sector.to_be_bytes());
            }
            Some((TABLE_OFFSET + first * 4, bytes))
        })
    }

    /// Where the data of the block that was placed at that rank lies.
    fn data_offset(&self, rank: u64) -> u64 {
        let table_end = table_end(self.reserved_entries);
        let bitmap_size = bitmap_size(self.block_size);
        let first = (table_end + bitmap_size).next_multiple_of(DATA_ALIGNMENT);
        // The data ends aligned, so a bitmap rounded up is what lies between two blocks'.
        let gap = bitmap_size.next_multiple_of(DATA_ALIGNMENT);
        first + rank * (u64::from(self.block_size) + gap)
    }

    fn footer_offset(&self) -> u64 {
        if self.is_fixed() {
            return self.virtual_size();
        }
        match (self.placed.len() as u64).checked_sub(1) {
            Some(last) => self.data_offset(last) + u64::from(self.block_size),
            None => table_end(self.table_entries()),
        }
    }
}

/// Where a table of so many entries ends.
fn table_end(entries: u32) -> u64 {
    TABLE_OFFSET + (u64::from(entries) * 4).next_multiple_of(SECTOR_SIZE)
}

fn new_footer(
    disk_type: DiskType,
    virtual_size: u64,
    unique_id: [u8; 16],
    time_stamp: u32,
) -> Result<Footer> {
    let footer = match disk_type {
        DiskType::Fixed => Footer::fixed(virtual_size, unique_id),
        DiskType::Dynamic | DiskType::Differencing => Footer::dynamic(virtual_size, unique_id),
    };
    Ok(footer?.with_time_stamp(time_stamp))
}

const _: () = assert!(UNUSED == u32::MAX, "the table's bytes are made all ones");
