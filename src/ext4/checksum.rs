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
    crc32c(seed, &u64::from(ino).to_le_bytes())
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
}
