use super::DiskType;

/// Parameters of a new disk. Equal parameters give equal files.
#[derive(Clone, Debug)]
pub struct Parameters {
    pub(super) disk_type: DiskType,
    pub(super) virtual_size: u64,
    pub(super) unique_id: [u8; 16],
    pub(super) time_stamp: u32,
    pub(super) block_size: u32,
}

impl Parameters {
    /// The block size of a dynamic disk unless another is chosen: 2 MiB, as the specification
    /// advises.
    pub const DEFAULT_BLOCK_SIZE: u32 = 2 << 20;

    /// A fixed disk: its bytes, all zero until written, and a footer.
    #[must_use]
    pub fn fixed(virtual_size: u64, unique_id: [u8; 16]) -> Self {
        Self {
            disk_type: DiskType::Fixed,
            virtual_size,
            unique_id,
            time_stamp: 0,
            block_size: Self::DEFAULT_BLOCK_SIZE,
        }
    }

    /// A dynamic disk: a block takes space once something but zeros is written to it.
    #[must_use]
    pub fn dynamic(virtual_size: u64, unique_id: [u8; 16]) -> Self {
        Self {
            disk_type: DiskType::Dynamic,
            ..Self::fixed(virtual_size, unique_id)
        }
    }

    /// Sets the block size of a dynamic disk: a power of two from 4 KiB to 256 MiB. Windows
    /// knows 512 KiB and 2 MiB.
    #[must_use]
    pub fn block_size(mut self, block_size: u32) -> Self {
        self.block_size = block_size;
        self
    }

    /// Sets the time of creation, in seconds since 2000-01-01T00:00:00Z; 0 unless set.
    #[must_use]
    pub fn time_stamp(mut self, seconds_since_2000: u32) -> Self {
        self.time_stamp = seconds_since_2000;
        self
    }
}
