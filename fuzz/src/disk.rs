//! The few fields of a disk that the targets read and correct themselves.

const SUPERBLOCK: usize = 1024;
const SUPERBLOCK_SIZE: usize = 1024;
const CHECKSUM: usize = 1020;
const INCOMPATIBLE: usize = 0x60;
/// Bytes of a VHD footer.
pub const FOOTER: usize = 512;

/// EXT4_FEATURE_INCOMPAT_EA_INODE
pub const EA_INODE: u32 = 0x400;
/// EXT4_FEATURE_INCOMPAT_LARGEDIR
pub const LARGE_DIR: u32 = 0x4000;
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
        assert_eq!(self.u32(0x64) & 0x1000, 0x1000, "read-only");
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

/// A copy without the features that ext4-view refuses though they do not touch what it reads:
/// it reads no extended attributes, and one level of an index as well as three.
pub fn without_features(image: &[u8]) -> Vec<u8> {
    let mut image = image.to_vec();
    let features = Superblock::new(&image).incompatible() & !(EA_INODE | LARGE_DIR | INLINE_DATA);
    let at = SUPERBLOCK + INCOMPATIBLE;
    image[at..at + 4].copy_from_slice(&features.to_le_bytes());
    correct_superblock(&mut image);
    image
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
