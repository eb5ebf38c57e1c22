//! §2.5 BAT (Block Allocation Table).

use super::ALIGNMENT;

/// §2.5.1.1 Payload BAT Entry States: what a block of the virtual disk holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum BlockState {
    /// Not present: the contents are undefined, and every known reader gives zeros. In a
    /// differencing disk, the parent's.
    NotPresent,
    /// Contents were dropped and are undefined.
    Undefined,
    /// Zeros, by definition.
    Zero,
    /// The guest has trimmed the block.
    Unmapped,
    /// The file holds the contents.
    FullyPresent,
    /// In a differencing disk: what the file holds where the sector bitmap says so, the
    /// parent's elsewhere.
    PartiallyPresent,
}

/// The bits of an entry that are its state; the offset is whole MiB.
const STATE_MASK: u64 = 7;
const OFFSET_MASK: u64 = !(ALIGNMENT - 1);

/// §2.5.1.2: a sector bitmap block that is there.
const BITMAP_PRESENT: u64 = 6;

/// §2.5.1 BAT Entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Entry(pub(super) u64);

impl Entry {
    pub(super) fn new(state: BlockState, offset: u64) -> Self {
        let state = match state {
            BlockState::NotPresent => 0,
            BlockState::Undefined => 1,
            BlockState::Zero => 2,
            BlockState::Unmapped => 3,
            BlockState::FullyPresent => 6,
            BlockState::PartiallyPresent => 7,
        };
        Self(state | (offset & OFFSET_MASK))
    }

    /// None for the states that are reserved.
    pub(super) fn state(self) -> Option<BlockState> {
        match self.0 & STATE_MASK {
            0 => Some(BlockState::NotPresent),
            1 => Some(BlockState::Undefined),
            2 => Some(BlockState::Zero),
            3 => Some(BlockState::Unmapped),
            6 => Some(BlockState::FullyPresent),
            7 => Some(BlockState::PartiallyPresent),
            _ => None,
        }
    }

    pub(super) fn is_bitmap_present(self) -> bool {
        self.0 & STATE_MASK == BITMAP_PRESENT
    }

    pub(super) fn offset(self) -> u64 {
        self.0 & OFFSET_MASK
    }
}

/// How the blocks of a disk are numbered and where their entries stand in the table.
#[derive(Clone, Copy, Debug)]
pub(super) struct Numbering {
    pub(super) block_size: u32,
    /// Payload blocks of the disk.
    pub(super) blocks: u64,
    /// §2.5: payload blocks for each sector bitmap block. Every so many entries one for a
    /// sector bitmap block follows, used or not.
    pub(super) chunk_ratio: u64,
}

impl Numbering {
    pub(super) fn new(virtual_size: u64, block_size: u32, logical_sector_size: u32) -> Self {
        // A sector bitmap block has 2^23 bits, one for each sector.
        let chunk_size = u64::from(logical_sector_size) << 23;
        Self {
            block_size,
            blocks: virtual_size.div_ceil(block_size.into()),
            chunk_ratio: chunk_size / u64::from(block_size),
        }
    }

    /// The index of the entry of a payload block.
    pub(super) fn payload_index(&self, block: u64) -> u64 {
        block + block / self.chunk_ratio
    }

    /// The index of the entry of the sector bitmap block that a payload block belongs to.
    pub(super) fn bitmap_index(&self, block: u64) -> u64 {
        let chunk = block / self.chunk_ratio;
        chunk * (self.chunk_ratio + 1) + self.chunk_ratio
    }

    /// The payload block of the entry of that index; none for a sector bitmap block's.
    pub(super) fn block(&self, index: u64) -> Option<u64> {
        let stride = self.chunk_ratio + 1;
        (index % stride != self.chunk_ratio).then(|| index - index / stride)
    }

    /// The number of entries. A differencing disk's table ends with a sector bitmap block's.
    pub(super) fn entries(&self, differencing: bool) -> u64 {
        match differencing {
            true => self.blocks.div_ceil(self.chunk_ratio) * (self.chunk_ratio + 1),
            false => self.blocks + self.blocks.saturating_sub(1) / self.chunk_ratio,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_keep_state_and_offset() {
        for state in [
            BlockState::NotPresent,
            BlockState::Undefined,
            BlockState::Zero,
            BlockState::Unmapped,
            BlockState::FullyPresent,
            BlockState::PartiallyPresent,
        ] {
            let entry = Entry::new(state, 77 << 20);
            assert_eq!((entry.state(), entry.offset()), (Some(state), 77 << 20));
        }
        assert_eq!(Entry(4).state(), None);
        assert_eq!(Entry(5).state(), None);
    }

    #[test]
    fn bitmap_entries_follow_each_chunk() {
        // 1 MiB of a bitmap covers 4 GiB of 512-byte sectors: 16 blocks of 256 MiB.
        let numbering = Numbering::new(10 << 30, 256 << 20, 512);
        assert_eq!(numbering.chunk_ratio, 16);
        assert_eq!(numbering.blocks, 40);
        assert_eq!(numbering.payload_index(15), 15);
        assert_eq!(numbering.bitmap_index(15), 16);
        assert_eq!(numbering.payload_index(16), 17);
        assert_eq!(numbering.bitmap_index(39), 50);
        assert_eq!(numbering.entries(false), 42);
        assert_eq!(numbering.entries(true), 51);
        for block in 0..40 {
            assert_eq!(numbering.block(numbering.payload_index(block)), Some(block));
            assert_eq!(numbering.block(numbering.bitmap_index(block)), None);
        }
        assert_eq!(Numbering::new(1 << 20, 1 << 20, 4096).chunk_ratio, 32_768);
    }

    #[test]
    fn a_chunk_that_ends_the_disk_has_no_bitmap_entry() {
        let numbering = Numbering::new(4 << 30, 256 << 20, 512);
        assert_eq!(numbering.entries(false), 16);
        assert_eq!(numbering.entries(true), 17);
    }
}
