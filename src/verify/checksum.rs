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

/// CRC-16 (polynomial 0x8005, reflected), as gdt_csum has it.
pub(super) fn crc16(mut sum: u16, bytes: &[u8]) -> u16 {
    for byte in bytes {
        sum ^= u16::from(*byte);
        for _ in 0..8 {
            sum = match sum & 1 {
                1 => sum >> 1 ^ 0xA001,
                _ => sum >> 1,
            };
        }
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn crc16_of_the_usual_text() {
        // CRC-16/ARC starts with 0, CRC-16/MODBUS with all ones.
        assert_eq!(crc16(0, b"123456789"), 0xBB3D);
        assert_eq!(crc16(0xFFFF, b"123456789"), 0x4B37);
    }

    #[test]
    fn a_hole_counts_as_zeros() {
        let zeros = crc32c(7, b"ab\0\0cd");
        assert_eq!(with_hole(7, b"abXYcd", 2..4), zeros);
    }
}
