//! Checksums as readers compute them.
//!
//! Source: Linux, Documentation/filesystems/ext4, "Checksums".

use crate::ext4::checksum::crc32c;

/// How the metadata of a file system is checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Checksums {
    None,
    /// gdt_csum: CRC-16 over descriptors alone, seeded with the UUID.
    Descriptors,
    /// metadata_csum, with the seed of all.
    Metadata(u32),
}

impl Checksums {
    /// The seed of metadata_csum.
    pub(super) fn seed(self) -> Option<u32> {
        match self {
            Self::Metadata(seed) => Some(seed),
            _ => None,
        }
    }
}

/// Over bytes of which those in `hole`, the checksum itself, count as zero.
pub(super) fn with_hole(seed: u32, bytes: &[u8], hole: std::ops::Range<usize>) -> u32 {
    const ZEROS: [u8; 4] = [0; 4];
    let sum = crc32c(seed, &bytes[..hole.start]);
    let sum = crc32c(sum, &ZEROS[..hole.len()]);
    crc32c(sum, &bytes[hole.end..])
}

/// The seed of what belongs to an inode.
pub(super) fn inode_seed(seed: u32, ino: u32, generation: u32) -> u32 {
    crc32c(crc32c(seed, &ino.to_le_bytes()), &generation.to_le_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hole_counts_as_zeros() {
        let zeros = crc32c(7, b"ab\0\0cd");
        assert_eq!(with_hole(7, b"abXYcd", 2..4), zeros);
    }
}
