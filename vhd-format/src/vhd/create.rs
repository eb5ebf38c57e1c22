use super::dynamic_header::DynamicHeader;
use super::open::Vhd;
use super::{DiskType, Footer, SECTOR_SIZE};
use crate::{Error, Result, Storage};

/// Where the block allocation table of a new dynamic disk lies: after the footer's copy and
/// the dynamic disk header.
const TABLE_OFFSET: u64 = (Footer::SIZE + DynamicHeader::SIZE) as u64;

/// What a new disk is to be. Equal parameters give equal files.
#[derive(Clone, Debug)]
pub struct Parameters {
    disk_type: DiskType,
    virtual_size: u64,
    unique_id: [u8; 16],
    time_stamp: u32,
    block_size: u32,
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

impl<S: Storage> Vhd<S> {
    /// Makes a new disk in storage that is empty and opens it for writing.
    ///
    /// # Errors
    /// If a parameter is out of range, the storage is not empty or writing fails.
    pub fn create(mut storage: S, parameters: &Parameters) -> Result<Self> {
        let &Parameters {
            virtual_size,
            unique_id,
            time_stamp,
            block_size,
            ..
        } = parameters;
        let footer = match parameters.disk_type {
            DiskType::Fixed => Footer::fixed(virtual_size, unique_id),
            DiskType::Dynamic | DiskType::Differencing => Footer::dynamic(virtual_size, unique_id),
        }?
        .with_time_stamp(time_stamp);
        let size = storage
            .size()
            .map_err(|error| Error::io("cannot tell the size of the file", error))?;
        if size != 0 {
            return Err(Error::input(
                "the storage of a new disk must be empty, or old bytes would show through",
            ));
        }

        if parameters.disk_type == DiskType::Fixed {
            write(&mut storage, virtual_size, &footer.to_bytes())?;
        } else {
            if !block_size.is_power_of_two() || !(4 << 10..=256 << 20).contains(&block_size) {
                return Err(Error::input(format!(
                    "a block size of {block_size} bytes: it must be a power of two from 4 KiB to 256 MiB"
                )));
            }
            let blocks = virtual_size.div_ceil(u64::from(block_size));
            let max_table_entries = u32::try_from(blocks)
                .map_err(|_| Error::input("the blocks are too small for a disk of this size"))?;
            let header = DynamicHeader::new(TABLE_OFFSET, max_table_entries, block_size);
            let mut front = footer.to_bytes().to_vec();
            front.extend_from_slice(&header.to_bytes());
            write(&mut storage, 0, &front)?;
            // "Block Allocation Table and Data Blocks": unused entries are all ones, and the
            // table is padded to whole sectors.
            let table_size = (blocks * 4).next_multiple_of(SECTOR_SIZE);
            let ones = [0xff; 64 << 10];
            let mut written = 0;
            while written < table_size {
                let piece = (table_size - written).min(ones.len() as u64);
                write(
                    &mut storage,
                    TABLE_OFFSET + written,
                    &ones[..piece as usize],
                )?;
                written += piece;
            }
            write(&mut storage, TABLE_OFFSET + table_size, &footer.to_bytes())?;
        }
        Self::open_writable(storage)
    }
}

fn write(storage: &mut impl Storage, offset: u64, data: &[u8]) -> Result<()> {
    storage
        .write_at(offset, data)
        .map_err(|error| Error::write("the disk", offset, error))
}
