//! Where everything of a new disk lies, decided before any of it is written.

use std::collections::BTreeMap;
use std::ops::Range;

use super::ALIGNMENT;
use super::bat::{BlockState, Entry, Numbering};
use super::file_identifier::FileIdentifier;
use super::metadata::Metadata;
use super::parameters::{Identity, Parameters};
use super::region_table::RegionTable;
use crate::table::PAGE_SIZE;
use crate::{Error, Result, Storage};

const METADATA_LENGTH: u32 = 1 << 20;
const ENTRIES_PER_PAGE: u64 = PAGE_SIZE as u64 / 8;
/// Pages of the block allocation table that are given out at once.
const PAGES_PER_PIECE: u64 = 64;
/// In place of an entry, for none was set. No block of a new disk is partially present.
const UNSET: u64 = u64::MAX;

/// The plan of a new VHDX, for producers that write the blocks themselves.
///
/// A layout does no I/O. It gives every block that is [placed](Self::place) its offset in the
/// file, in the order of the calls and of nothing else, so that writers that run in parallel
/// and finish in any order still make the same file; and it gives out the file's
/// [structures](Self::structures) as bytes with their offsets. The structures come after the
/// blocks or before them, as it suits: their own places never depend on the blocks.
///
/// - Who knows the state of every block beforehand [assigns](Self::assign) them all, writes
///   the structures and streams the blocks in order.
/// - Who learns them as the data passes calls [`place`](Self::place) for each block that gets
///   data, writes it there, and the structures when all is done. The virtual size may be
///   changed at the end too: [`set_virtual_size`](Self::set_virtual_size).
///
/// Parts of the file that neither a block's data nor a structure covers must read as zero: give
/// a new file the size [`file_size`](Self::file_size) says.
///
/// ```
/// use vhd_format::vhdx::{BlockState, Layout, Parameters, Vhdx};
///
/// let mut layout = Layout::new(&Parameters::new(8 << 20).block_size(1 << 20))?;
/// // Blocks 0 and 5 hold data, 1 must read as zero, nobody cares for the rest.
/// let first = layout.place(0)?;
/// layout.set(1..2, BlockState::Zero)?;
/// let second = layout.place(5)?;
///
/// let mut file = vec![0; layout.file_size() as usize];
/// file[first as usize..][..5].copy_from_slice(b"hello");
/// file[second as usize..][..5].copy_from_slice(b"world");
/// for (offset, bytes) in layout.structures() {
///     file[offset as usize..][..bytes.len()].copy_from_slice(&bytes);
/// }
///
/// let disk = Vhdx::open(file)?;
/// let mut buffer = [0; 5];
/// disk.read_at(5 << 20, &mut buffer)?;
/// assert_eq!(&buffer, b"world");
/// # Ok::<(), vhd_format::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Layout {
    identifier: [u8; FileIdentifier::SIZE],
    parameters: Parameters,
    metadata: Metadata,
    numbering: Numbering,
    bat_offset: u64,
    bat_length: u32,
    /// Entries that were set or placed, by pages, for a table may have half a gigabyte.
    pages: BTreeMap<u64, Box<[u64; ENTRIES_PER_PAGE as usize]>>,
    /// The entry of a payload block that no page has.
    rest: Entry,
    /// The number of blocks placed so far.
    placed: u64,
}

impl Layout {
    /// Lays out a disk. All blocks of a dynamic one are
    /// [`NotPresent`](BlockState::NotPresent), and all of a fixed one are placed in order.
    ///
    /// # Errors
    /// If a parameter is out of range.
    pub fn new(parameters: &Parameters) -> Result<Self> {
        let metadata = parameters.metadata()?;
        let numbering = Numbering::new(
            metadata.virtual_size,
            metadata.block_size,
            metadata.logical_sector_size,
        );
        let identifier = FileIdentifier {
            creator: parameters.creator.clone(),
        };
        let bat_size = numbering.entries(false) * 8;
        let bat_length = u32::try_from(bat_size.next_multiple_of(ALIGNMENT))
            .map_err(|_| Error::input("the block allocation table is too large"))?;
        let bat_offset = ALIGNMENT + u64::from(parameters.log_size) + u64::from(METADATA_LENGTH);
        Ok(Self {
            identifier: identifier.to_bytes()?,
            parameters: parameters.clone(),
            metadata,
            numbering,
            bat_offset,
            bat_length,
            pages: BTreeMap::new(),
            rest: Entry::new(BlockState::NotPresent, 0),
            placed: 0,
        })
    }

    /// The size of the virtual disk in bytes.
    #[must_use]
    pub fn virtual_size(&self) -> u64 {
        self.metadata.virtual_size
    }

    /// The size of a block in bytes. The last block has it too, even where the disk ends
    /// within.
    #[must_use]
    pub fn block_size(&self) -> u32 {
        self.numbering.block_size
    }

    /// The number of blocks.
    #[must_use]
    pub fn blocks(&self) -> u64 {
        self.numbering.blocks
    }

    /// The size of the file, once every block that has been placed is in it.
    #[must_use]
    pub fn file_size(&self) -> u64 {
        let blocks = match self.parameters.fixed {
            true => self.blocks(),
            false => self.placed,
        };
        self.block_offset(blocks)
    }

    /// Where the block has been placed in the file.
    #[must_use]
    pub fn offset_of(&self, block: u64) -> Option<u64> {
        let entry = self.entry(self.numbering.payload_index(block));
        let present = block < self.blocks() && entry.state() == Some(BlockState::FullyPresent);
        present.then(|| entry.offset())
    }

    /// Gives the block the next place in the file, unless it has one, and returns its offset.
    ///
    /// # Errors
    /// If the disk has no such block.
    pub fn place(&mut self, block: u64) -> Result<u64> {
        self.check_block(block)?;
        if let Some(offset) = self.offset_of(block) {
            return Ok(offset);
        }
        let offset = self.block_offset(self.placed);
        self.placed += 1;
        self.set_entry(block, Entry::new(BlockState::FullyPresent, offset));
        Ok(offset)
    }

    /// Sets the state of blocks that take no space: [`Zero`](BlockState::Zero) for those that
    /// must read as zero, [`NotPresent`](BlockState::NotPresent),
    /// [`Unmapped`](BlockState::Unmapped) or [`Undefined`](BlockState::Undefined) where the
    /// contents do not matter.
    ///
    /// # Errors
    /// If the disk has no such blocks, one of them has been placed, or the state is one of
    /// blocks that take space.
    pub fn set(&mut self, blocks: Range<u64>, state: BlockState) -> Result<()> {
        check_takes_no_space(state)?;
        if let Some(last) = blocks.end.checked_sub(1) {
            self.check_block(last)?;
        }
        for block in blocks {
            if self.offset_of(block).is_some() {
                return Err(Error::input(format!("block {block} has been placed")));
            }
            self.set_entry(block, Entry::new(state, 0));
        }
        Ok(())
    }

    /// Sets the state of all blocks of a dynamic disk that have been neither placed nor set,
    /// now or later, at no cost of memory.
    ///
    /// # Errors
    /// If the state is one of blocks that take space.
    pub fn set_rest(&mut self, state: BlockState) -> Result<()> {
        check_takes_no_space(state)?;
        self.rest = Entry::new(state, 0);
        Ok(())
    }

    /// Sets the states of the blocks from the first on and places those that are
    /// [`FullyPresent`](BlockState::FullyPresent), in order. Blocks past the end of the states
    /// stay as they are.
    ///
    /// # Errors
    /// If there are more states than blocks, or as [`set`](Self::set).
    pub fn assign(&mut self, states: impl IntoIterator<Item = BlockState>) -> Result<()> {
        for (block, state) in (0..).zip(states) {
            match state {
                BlockState::FullyPresent => {
                    self.place(block)?;
                }
                state => self.set(block..block + 1, state)?,
            }
        }
        Ok(())
    }

    /// Changes the size of the virtual disk, to any that the space set aside for the block
    /// allocation table allows: at least the size that the layout was made with, and all below
    /// it.
    ///
    /// # Errors
    /// If the table is too small for it, the size is none that a disk may have, or a block of
    /// a dynamic disk has been placed past it.
    pub fn set_virtual_size(&mut self, virtual_size: u64) -> Result<()> {
        let metadata = Metadata {
            virtual_size,
            ..self.metadata.clone()
        };
        metadata.check().map_err(Error::input)?;
        let numbering = Numbering::new(
            virtual_size,
            metadata.block_size,
            metadata.logical_sector_size,
        );
        if numbering.entries(false) * 8 > u64::from(self.bat_length) {
            return Err(Error::input(format!(
                "the block allocation table was laid out for a smaller disk than {virtual_size} bytes"
            )));
        }
        // Entries past the end must be gone, should the disk grow again.
        let entries = numbering.entries(false);
        let last_page = entries / ENTRIES_PER_PAGE;
        for (&page, values) in self.pages.range(last_page..) {
            for (i, &value) in (page * ENTRIES_PER_PAGE..).zip(values.iter()) {
                if i >= entries && Entry(value).state() == Some(BlockState::FullyPresent) {
                    return Err(Error::input(format!(
                        "a block has been placed past the new end of the disk, {virtual_size} bytes"
                    )));
                }
            }
        }
        self.pages.retain(|&page, values| {
            for (i, value) in (page * ENTRIES_PER_PAGE..).zip(values.iter_mut()) {
                if i >= entries {
                    *value = UNSET;
                }
            }
            page <= last_page
        });
        self.metadata = metadata;
        self.numbering = numbering;
        Ok(())
    }

    /// Changes the ids of the disk, for those that are known only once the data is.
    pub fn set_identity(&mut self, identity: Identity) {
        self.parameters.identity = identity;
        self.metadata.virtual_disk_id = identity.virtual_disk_id;
    }

    /// Every structure of the file as bytes with their offset, in ascending order: file
    /// identifier, headers, region tables, metadata and what is not zero of the block
    /// allocation table. The log of a new file is empty.
    pub fn structures(&self) -> impl Iterator<Item = (u64, Vec<u8>)> {
        let mut pieces = vec![(0, self.identifier.to_vec())];
        for (offset, bytes) in self.parameters.headers() {
            pieces.push((offset, bytes.to_vec()));
        }
        let metadata_offset = self.bat_offset - u64::from(METADATA_LENGTH);
        let regions = RegionTable::new(
            (metadata_offset, METADATA_LENGTH),
            (self.bat_offset, self.bat_length),
        );
        for offset in RegionTable::OFFSETS {
            let mut bytes = regions.to_bytes();
            bytes.truncate(PAGE_SIZE);
            pieces.push((offset, bytes));
        }
        for (offset, bytes) in self.metadata.to_bytes() {
            pieces.push((metadata_offset + offset, bytes));
        }
        pieces.into_iter().chain(self.bat_pieces())
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

    /// The pages of the block allocation table that are not zero, neighbours together.
    fn bat_pieces(&self) -> impl Iterator<Item = (u64, Vec<u8>)> {
        let entries = self.numbering.entries(false);
        let pages = entries.div_ceil(ENTRIES_PER_PAGE);
        let every_page = self.parameters.fixed || self.rest.0 != 0;
        let mut next = 0;
        std::iter::from_fn(move || {
            if !every_page {
                next = *self.pages.range(next..pages).next()?.0;
            }
            if next >= pages {
                return None;
            }
            let first = next;
            let wanted = |page| every_page || self.pages.contains_key(&page);
            let mut bytes = Vec::new();
            while next < pages && next < first + PAGES_PER_PIECE && wanted(next) {
                for index in next * ENTRIES_PER_PAGE..(next + 1) * ENTRIES_PER_PAGE {
                    let entry = match index < entries {
                        true => self.entry(index).0,
                        false => 0,
                    };
                    bytes.extend_from_slice(&entry.to_le_bytes());
                }
                next += 1;
            }
            Some((self.bat_offset + first * PAGE_SIZE as u64, bytes))
        })
    }

    fn entry(&self, index: u64) -> Entry {
        if self.parameters.fixed {
            return match self.numbering.block(index) {
                Some(block) => Entry::new(BlockState::FullyPresent, self.block_offset(block)),
                None => Entry(0),
            };
        }
        let page = self.pages.get(&(index / ENTRIES_PER_PAGE));
        match page.map_or(UNSET, |page| page[(index % ENTRIES_PER_PAGE) as usize]) {
            UNSET if self.numbering.block(index).is_some() => self.rest,
            UNSET => Entry(0),
            entry => Entry(entry),
        }
    }

    fn set_entry(&mut self, block: u64, entry: Entry) {
        let index = self.numbering.payload_index(block);
        let page = index / ENTRIES_PER_PAGE;
        let entries = self
            .pages
            .entry(page)
            .or_insert_with(|| Box::new([UNSET; ENTRIES_PER_PAGE as usize]));
        entries[(index % ENTRIES_PER_PAGE) as usize] = entry.0;
    }

    /// Where the block of that rank lies in the file.
    fn block_offset(&self, rank: u64) -> u64 {
        self.bat_offset + u64::from(self.bat_length) + rank * u64::from(self.block_size())
    }

    fn check_block(&self, block: u64) -> Result<()> {
        if block >= self.blocks() {
            return Err(Error::input(format!(
                "block {block} of a disk of {} blocks",
                self.blocks()
            )));
        }
        Ok(())
    }
}

fn check_takes_no_space(state: BlockState) -> Result<()> {
    use BlockState::{NotPresent, Undefined, Unmapped, Zero};
    match state {
        NotPresent | Undefined | Unmapped | Zero => Ok(()),
        _ => Err(Error::input(
            "only the state of blocks that take no space is set; others are placed",
        )),
    }
}
