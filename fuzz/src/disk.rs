//! The few fields of a disk that the targets read and correct themselves.

const SUPERBLOCK: usize = 1024;
const SUPERBLOCK_SIZE: usize = 1024;
const CHECKSUM: usize = 1020;
const INCOMPATIBLE: usize = 0x60;
const READ_ONLY_COMPATIBLE: usize = 0x64;
const BLOCK: usize = 4096;
/// Bytes of a VHD footer.
pub const FOOTER: usize = 512;

/// EXT4_FEATURE_INCOMPAT_EA_INODE
pub const EA_INODE: u32 = 0x400;
/// EXT4_FEATURE_INCOMPAT_LARGEDIR
pub const LARGE_DIR: u32 = 0x4000;
/// EXT4_FEATURE_RO_COMPAT_METADATA_CSUM
pub const METADATA_CSUM: u32 = 0x400;

/// EXT4_FEATURE_INCOMPAT_INLINE_DATA
pub const INLINE_DATA: u32 = 0x8000;

/// The superblock of an image.
#[derive(Clone, Copy)]
pub struct Superblock<'a>(&'a [u8]);

impl<'a> Superblock<'a> {
    /// The superblock of an image that has one.
    pub fn new(image: &'a [u8]) -> Self {
        Self(&image[SUPERBLOCK..SUPERBLOCK + SUPERBLOCK_SIZE])
    }

    fn u16(self, at: usize) -> u16 {
        u16::from_le_bytes(self.0[at..at + 2].try_into().unwrap())
    }

    fn u32(self, at: usize) -> u32 {
        u32::from_le_bytes(self.0[at..at + 4].try_into().unwrap())
    }

    /// s_feature_incompat
    pub fn incompatible(self) -> u32 {
        self.u32(INCOMPATIBLE)
    }

    /// Panics unless the superblock says what the summary says.
    pub fn check(self, image: &[u8], summary: &tar2vhd::Summary) {
        assert_eq!(self.u16(0x38), 0xef53, "s_magic");
        assert_eq!(crc(self.0), self.u32(CHECKSUM), "s_checksum");
        assert_eq!(self.u32(0x18), 2, "s_log_block_size");
        let (inodes, blocks) = (self.u32(0x0), u64::from(self.u32(0x4)));
        let (free_blocks, free_inodes) = (u64::from(self.u32(0xc)), self.u32(0x10));
        assert_eq!(blocks, summary.disk.blocks, "s_blocks_count");
        assert!(free_blocks < blocks && free_inodes < inodes);
        // Of the ten reserved inodes the summary counts the root alone.
        let in_use = u64::from(inodes - free_inodes - 9);
        assert_eq!(in_use, summary.disk.inodes, "inodes in use");
        assert_eq!(self.u16(0x3a), 1, "s_state is clean");
        assert_eq!(self.u32(READ_ONLY_COMPATIBLE) & 0x1000, 0x1000, "read-only");
        assert_eq!(self.0[0x68..0x78], summary.disk.uuid, "s_uuid");
        assert!(blocks * 4096 <= summary.disk.virtual_size);
        assert_eq!(image.len() as u64, summary.disk.size);
    }
}

/// The checksum of a superblock, whose last field it is.
fn crc(superblock: &[u8]) -> u32 {
    // The kernel's crc32c is not inverted at the end.
    !crc32c::crc32c(&superblock[..CHECKSUM])
}

/// A copy that ext4-view reads.
///
/// Without features that it refuses though they do not touch what it reads: it reads no
/// extended attributes, and one level of an index as well as three. And without the sign of
/// times, which it takes for damage; only where there are such times it cannot check checksums.
pub fn readable(image: &[u8]) -> Vec<u8> {
    let mut image = image.to_vec();
    let superblock = Superblock::new(&image);
    let incompatible = superblock.incompatible() & !(EA_INODE | LARGE_DIR | INLINE_DATA);
    let mut compatible = superblock.u32(READ_ONLY_COMPATIBLE);
    let signed = signed_times(&image);
    if !signed.is_empty() {
        compatible &= !METADATA_CSUM;
    }
    signed.into_iter().for_each(|at| image[at] &= 0x7f);
    for (at, features) in [
        (INCOMPATIBLE, incompatible),
        (READ_ONLY_COMPATIBLE, compatible),
    ] {
        image[SUPERBLOCK + at..][..4].copy_from_slice(&features.to_le_bytes());
    }
    correct_superblock(&mut image);
    image
}

/// Where the highest bytes of the times are whose sign is set.
fn signed_times(image: &[u8]) -> Vec<usize> {
    let superblock = Superblock::new(image);
    let (inodes, per_group) = (superblock.u32(0x0), superblock.u32(0x28));
    let fields = |inode: u32| {
        let descriptor = BLOCK + (inode / per_group) as usize * 32;
        let table = u32::from_le_bytes(image[descriptor + 8..][..4].try_into().unwrap());
        let at = table as usize * BLOCK + (inode % per_group) as usize * 256;
        // i_atime, i_ctime, i_mtime, i_crtime
        [0x8, 0xc, 0x10, 0x90].map(|field| at + field + 3)
    };
    let signed = |at: &usize| image[*at] & 0x80 != 0;
    (0..inodes).flat_map(fields).filter(signed).collect()
}

/// Makes the checksum of the superblock right, if there is room for one.
pub fn correct_superblock(image: &mut [u8]) {
    if let Some(superblock) = image.get_mut(SUPERBLOCK..SUPERBLOCK + SUPERBLOCK_SIZE) {
        let checksum = crc(superblock);
        superblock[CHECKSUM..].copy_from_slice(&checksum.to_le_bytes());
    }
}

/// Makes the checksum of the footer right, if there is room for one.
pub fn correct_footer(disk: &mut [u8]) {
    if let Some(footer) = disk.last_chunk_mut::<FOOTER>() {
        footer[64..68].fill(0);
        let sum: u32 = footer.iter().map(|byte| u32::from(*byte)).sum();
        footer[64..68].copy_from_slice(&(!sum).to_be_bytes());
    }
}
