//! metadata_csum: CRC-32C with the seed kept in the superblock (INCOMPAT_CSUM_SEED).
//!
//! Source: Linux, Documentation/filesystems/ext4, "Checksums".

use super::format::{BLOCK_SIZE, INODE_SIZE};

/// The seed of every checksum but the superblock's, where the superblock names it.
///
/// Without one in the superblock the seed follows from the UUID, which follows from the diff
/// ID, which is known only after blocks with checksums have gone out.
pub(crate) const SEED: u32 = 0x7461_7232;

/// The seed where the superblock names none.
pub(crate) fn uuid_seed(uuid: &[u8; 16]) -> u32 {
    crc32c(!0, uuid)
}

/// CRC-32C as the kernel chains it: no inversion before or after.
pub(crate) fn crc32c(seed: u32, data: &[u8]) -> u32 {
    !crc32c::crc32c_append(!seed, data)
}

/// The checksum of data followed by zeros; `zeros` counts units of four bytes.
///
/// A checksum without inversion is the remainder of a polynomial, which zeros at its end
/// multiply by a power of x: that of a block that is mostly zero takes no look at the zeros.
pub(crate) fn crc32c_before_zeros(seed: u32, data: &[u8], zeros: usize) -> u32 {
    let sum = crc32c(seed, data);
    match POWERS.get(zeros) {
        Some(power) => multiply(sum, *power),
        None => {
            let last = POWERS.len() - 1;
            crc32c_before_zeros(multiply(sum, POWERS[last]), &[], zeros - last)
        }
    }
}

/// Castagnoli's polynomial without x to 32; the highest bit is the coefficient of 1.
const POLYNOMIAL: u32 = 0x82f6_3b78;

/// The powers of x to 0, 32, 64 and so on.
static POWERS: [u32; BLOCK_SIZE / 4 + 1] = {
    let mut powers = [1 << 31; BLOCK_SIZE / 4 + 1];
    let mut i = 1;
    while i < powers.len() {
        powers[i] = multiply(powers[i - 1], POLYNOMIAL);
        i += 1;
    }
    powers
};

/// The contribution of each value of the first four of eight bytes, if the others are zero.
static FIRST_OF_EIGHT: [[u32; 256]; 4] = {
    let mut tables = [[0; 256]; 4];
    let mut table = 0;
    while table < 4 {
        // x to 64, 56, 48 and 40: to 32, and to 32, 24, 16 and 8.
        let power = match table {
            0 => multiply(POLYNOMIAL, POLYNOMIAL),
            _ => multiply(POLYNOMIAL, 1 << (8 * table - 1)),
        };
        let mut byte = 0;
        while byte < 256 {
            tables[table][byte] = multiply(byte as u32, power);
            byte += 1;
        }
        table += 1;
    }
    tables
};

/// Remainders of the four highest powers, which multiplying by x^4 moves past the last.
const REMAINDERS: [u32; 16] = {
    let mut remainders = [0; 16];
    let mut i = 0;
    while i < 16 {
        remainders[i] = times_x(times_x(times_x(times_x(i as u32))));
        i += 1;
    }
    remainders
};

const fn times_x(one: u32) -> u32 {
    one >> 1 ^ POLYNOMIAL & (one & 1).wrapping_neg()
}

/// The product of two remainders, by four powers of the first at a time.
const fn multiply(one: u32, other: u32) -> u32 {
    let mut multiples = [0; 16];
    multiples[8] = other;
    multiples[4] = times_x(multiples[8]);
    multiples[2] = times_x(multiples[4]);
    multiples[1] = times_x(multiples[2]);
    let mut i = 3;
    while i < 16 {
        multiples[i] = multiples[i & (i - 1)] ^ multiples[i & i.wrapping_neg()];
        i += 1;
    }
    let (mut product, mut shift) = (0, 0);
    while shift < 32 {
        let moved = product >> 4 ^ REMAINDERS[(product & 15) as usize];
        product = moved ^ multiples[(one >> shift & 15) as usize];
        shift += 4;
    }
    product
}

/// CRC-16 (polynomial 0x8005, reflected), as gdt_csum has it.
pub(crate) fn crc16(mut sum: u16, bytes: &[u8]) -> u16 {
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

/// Of a superblock, without its last four bytes.
pub(crate) fn superblock(bytes: &[u8; 1024]) -> u32 {
    crc32c(!0, &bytes[..1020])
}

/// Of a group descriptor whose own checksum field is zero.
pub(crate) fn descriptor(seed: u32, group: u32, bytes: &[u8]) -> u16 {
    crc32c(crc32c(seed, &group.to_le_bytes()), bytes) as u16
}

/// Of the bits of a bitmap that its group has; a short descriptor keeps the lower half.
pub(crate) fn bitmap(seed: u32, bits: &[u8]) -> u32 {
    crc32c(seed, bits)
}

/// The seed of everything that belongs to an inode: of its number and its generation, which is
/// zero here.
pub(crate) fn inode_seed(seed: u32, ino: u32) -> u32 {
    let bytes = (seed ^ ino).to_le_bytes();
    let parts = FIRST_OF_EIGHT.iter().zip(bytes);
    parts.fold(0, |sum, (table, byte)| sum ^ table[usize::from(byte)])
}

/// Of an inode whose checksum fields are zero.
pub(crate) fn inode(seed: u32, ino: u32, bytes: &[u8; INODE_SIZE]) -> u32 {
    crc32c(inode_seed(seed, ino), bytes)
}

/// Of a block of extended attributes whose checksum field is zero.
pub(crate) fn xattr_block(seed: u32, block: u32, bytes: &[u8; BLOCK_SIZE]) -> u32 {
    crc32c(crc32c(seed, &u64::from(block).to_le_bytes()), bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chains_as_the_kernel_does() {
        // RFC 3720, B.4: 32 bytes of zeros give 8a9136aa with inversion at both ends.
        assert_eq!(!crc32c(!0, &[0; 32]), 0x8a91_36aa);
        assert_eq!(crc32c(crc32c(7, b"ab"), b"cd"), crc32c(7, b"abcd"));
    }

    #[test]
    fn crc16_of_the_usual_text() {
        // CRC-16/ARC starts with 0, CRC-16/MODBUS with all ones.
        assert_eq!(crc16(0, b"123456789"), 0xBB3D);
        assert_eq!(crc16(0xFFFF, b"123456789"), 0x4B37);
    }

    #[test]
    fn inodes_count_as_eight_bytes() {
        for ino in [0, 1, 2, 11, 0x1234_5678, u32::MAX] {
            for seed in [0, SEED, u32::MAX] {
                let sum = crc32c(seed, &u64::from(ino).to_le_bytes());
                assert_eq!(inode_seed(seed, ino), sum, "{seed} {ino}");
            }
        }
    }

    #[test]
    fn zeros_at_the_end_count_as_if_they_were_there() {
        for zeros in [0, 1, 2, 3, 100, 1021, 1024, 1025, 3000] {
            for start in [&b""[..], b"data", &[7; 1000]] {
                let whole = [start, &vec![0; 4 * zeros]].concat();
                let sum = crc32c_before_zeros(SEED, start, zeros);
                assert_eq!(sum, crc32c(SEED, &whole), "{} {zeros}", start.len());
            }
        }
    }
}
