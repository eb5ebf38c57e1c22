//! Where the metadata of an ext4 image lies, and how its checksums are made right again.
//!
//! It shares no code with `verify`, which it is used to test, and takes any bytes: what leads
//! out of the image is passed over.
//!
//! Source: Linux, Documentation/filesystems/ext4.

use std::collections::{BTreeMap, BTreeSet};

/// A kind of metadata.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Structure {
    /// The superblock of the file system.
    Superblock,
    /// A group descriptor.
    Descriptor,
    /// A bitmap of blocks.
    BlockBitmap,
    /// A bitmap of inodes.
    InodeBitmap,
    /// An inode that is not empty.
    Inode,
    /// A node of an extent tree.
    Extents,
    /// A block of block numbers.
    Indirect,
    /// A block of a directory.
    Directory,
    /// A block of extended attributes.
    Attributes,
    /// The superblock of the journal.
    Journal,
    /// A block of a quota file.
    Quota,
    /// A block of the file of orphans.
    Orphans,
}

/// Bytes of one structure.
#[derive(Clone, Copy, Debug)]
pub struct Piece {
    /// What it is.
    pub structure: Structure,
    /// Its first byte in the image.
    pub start: usize,
    /// Its bytes.
    pub len: usize,
    sum: Sum,
}

/// Where the checksum of a piece is, and of what.
#[derive(Clone, Copy, Debug)]
enum Sum {
    None,
    Superblock,
    Descriptor,
    Bitmap { group: u32, of_inodes: bool },
    Inode { ino: u32 },
    Extents { ino: u32 },
    Entries { ino: u32 },
    Index { ino: u32, entries: usize },
    Attributes { block: u64 },
    Journal,
    Orphans { ino: u32, block: u64 },
}

/// The metadata of an image.
pub struct Map {
    /// All pieces, each byte in one of them at most.
    pub pieces: Vec<Piece>,
    geometry: Geometry,
    descriptors: Vec<usize>,
    inodes: BTreeMap<u32, usize>,
}

const SUPERBLOCK: usize = 1024;
/// Enough for any image that is tested.
const MOST_PIECES: usize = 1 << 16;

const COMPAT_SPARSE_SUPER2: u32 = 0x200;
const COMPAT_ORPHAN_FILE: u32 = 0x1000;
const INCOMPAT_META_BG: u32 = 0x10;
const INCOMPAT_64BIT: u32 = 0x80;
const INCOMPAT_CSUM_SEED: u32 = 0x2000;
const RO_COMPAT_SPARSE_SUPER: u32 = 0x1;
const RO_COMPAT_GDT_CSUM: u32 = 0x10;
const RO_COMPAT_QUOTA: u32 = 0x100;
const RO_COMPAT_METADATA_CSUM: u32 = 0x400;

const INODE_INDEX: u32 = 0x1000;
const INODE_EXTENTS: u32 = 0x8_0000;
const INODE_INLINE_DATA: u32 = 0x1000_0000;

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    let found = bytes.get(at..).and_then(|rest| rest.first_chunk());
    found.map_or(0, |bytes| u16::from_le_bytes(*bytes))
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    let found = bytes.get(at..).and_then(|rest| rest.first_chunk());
    found.map_or(0, |bytes| u32::from_le_bytes(*bytes))
}

fn put(bytes: &mut [u8], at: usize, value: &[u8]) {
    if let Some(place) = bytes.get_mut(at..at.saturating_add(value.len())) {
        place.copy_from_slice(value);
    }
}

/// The kernel's crc32c, which is not inverted.
fn crc(seed: u32, bytes: &[u8]) -> u32 {
    !crc32c::crc32c_append(!seed, bytes)
}

/// CRC-16 (polynomial 0x8005, reflected).
fn crc16(seed: u16, bytes: &[u8]) -> u16 {
    bytes.iter().fold(seed, |sum, byte| {
        (0..8).fold(sum ^ u16::from(*byte), |sum, _| {
            (sum >> 1) ^ (0xA001 * (sum & 1))
        })
    })
}

struct Geometry {
    block_size: usize,
    blocks: u64,
    first_block: u64,
    blocks_per_group: u64,
    inodes_per_group: u32,
    inode_size: usize,
    descriptor_size: usize,
    groups: u32,
    features: [u32; 3],
    backup_groups: [u32; 2],
}

impl Geometry {
    fn read(image: &[u8]) -> Option<Self> {
        let s = image.get(SUPERBLOCK..SUPERBLOCK + 1024)?;
        if u16_at(s, 0x38) != 0xEF53 || u32_at(s, 0x18) > 6 {
            return None;
        }
        let features = [0x5C, 0x60, 0x64].map(|at| u32_at(s, at));
        let wide = features[1] & INCOMPAT_64BIT != 0;
        let blocks = u64::from(u32_at(s, 4))
            | match wide {
                true => u64::from(u32_at(s, 0x150)) << 32,
                false => 0,
            };
        let geometry = Self {
            block_size: 1024 << u32_at(s, 0x18),
            blocks,
            first_block: u32_at(s, 0x14).into(),
            blocks_per_group: u32_at(s, 0x20).into(),
            inodes_per_group: u32_at(s, 0x28),
            inode_size: match u32_at(s, 0x4C) {
                0 => 128,
                _ => u16_at(s, 0x58).into(),
            },
            descriptor_size: match wide {
                true => u16_at(s, 0xFE).into(),
                false => 32,
            },
            groups: 0,
            features,
            backup_groups: [u32_at(s, 0x24C), u32_at(s, 0x250)],
        };
        let bits = 8 * geometry.block_size as u64;
        let sound = (8..=bits).contains(&geometry.blocks_per_group)
            && (1..=bits).contains(&geometry.inodes_per_group.into())
            && (128..=geometry.block_size).contains(&geometry.inode_size)
            && (32..=1024).contains(&geometry.descriptor_size)
            && geometry.first_block < blocks
            && blocks <= (image.len() / geometry.block_size) as u64;
        let groups =
            (blocks.checked_sub(geometry.first_block)?).div_ceil(geometry.blocks_per_group.max(1));
        let groups = u32::try_from(groups).ok().filter(|_| sound)?;
        Some(Self { groups, ..geometry })
    }

    fn has_superblock(&self, group: u32) -> bool {
        let is_power = |base: u32| {
            std::iter::successors(Some(base), |power| power.checked_mul(base))
                .take_while(|power| *power <= group)
                .any(|power| power == group)
        };
        match group {
            0 => true,
            _ if self.features[0] & COMPAT_SPARSE_SUPER2 != 0 => {
                self.backup_groups.contains(&group)
            }
            1 => true,
            _ if self.features[2] & RO_COMPAT_SPARSE_SUPER == 0 => true,
            _ => [3, 5, 7].into_iter().any(is_power),
        }
    }

    /// The place of a descriptor. All groups with `meta_bg` are in meta groups here.
    fn descriptor(&self, group: u32) -> usize {
        let per_block = (self.block_size / self.descriptor_size) as u32;
        let block = match self.features[1] & INCOMPAT_META_BG {
            0 => self.first_block + 1 + u64::from(group / per_block),
            _ => {
                let first = group - group % per_block;
                let start = self.first_block + u64::from(first) * self.blocks_per_group;
                start + u64::from(self.has_superblock(first))
            }
        };
        block as usize * self.block_size + (group % per_block) as usize * self.descriptor_size
    }

    /// A 32-bit field of a descriptor with its other half.
    fn wide(&self, descriptor: &[u8], low: usize, high: usize) -> u64 {
        let high = match self.descriptor_size {
            0..64 => 0,
            _ => u32_at(descriptor, high),
        };
        u64::from(high) << 32 | u64::from(u32_at(descriptor, low))
    }
}

impl Map {
    /// Finds the metadata of an image; `None` if that is no file system.
    pub fn read(image: &[u8]) -> Option<Self> {
        let geometry = Geometry::read(image)?;
        let mut reader = Reader {
            image,
            map: Self {
                pieces: Vec::new(),
                descriptors: Vec::new(),
                inodes: BTreeMap::new(),
                geometry,
            },
            seen: BTreeSet::new(),
        };
        reader.all();
        Some(reader.map)
    }

    fn is_on(&self, image: &[u8], feature: u32) -> bool {
        u32_at(image, SUPERBLOCK + 0x64) & feature != 0
    }

    fn seed(image: &[u8]) -> u32 {
        match u32_at(image, SUPERBLOCK + 0x60) & INCOMPAT_CSUM_SEED {
            0 => crc(!0, &image[SUPERBLOCK + 0x68..SUPERBLOCK + 0x78]),
            _ => u32_at(image, SUPERBLOCK + 0x270),
        }
    }

    fn inode_seed(&self, image: &[u8], ino: u32) -> u32 {
        let at = self.inodes.get(&ino).copied().unwrap_or(0);
        let seed = crc(Self::seed(image), &ino.to_le_bytes());
        crc(seed, &u32_at(image, at + 0x64).to_le_bytes())
    }

    /// Makes all checksums right that the superblock, as it is now, says there are.
    pub fn correct(&self, image: &mut [u8]) {
        let metadata = self.is_on(image, RO_COMPAT_METADATA_CSUM);
        let descriptors = metadata || self.is_on(image, RO_COMPAT_GDT_CSUM);
        if metadata {
            for piece in &self.pieces {
                self.correct_piece(piece, image);
            }
            self.correct_journal(image);
        }
        if descriptors {
            for group in 0..self.descriptors.len() as u32 {
                self.correct_descriptor(group, image);
            }
        }
        if metadata && image.len() >= SUPERBLOCK + 1024 {
            let sum = crc(!0, &image[SUPERBLOCK..SUPERBLOCK + 1020]);
            put(image, SUPERBLOCK + 1020, &sum.to_le_bytes());
        }
    }

    fn correct_piece(&self, piece: &Piece, image: &mut [u8]) {
        let range = piece.start..piece.start + piece.len;
        let Some(bytes) = image.get(range.clone()).map(<[u8]>::to_vec) else {
            return;
        };
        let seed = Self::seed(image);
        match piece.sum {
            Sum::None | Sum::Superblock | Sum::Descriptor | Sum::Journal => {}
            Sum::Bitmap { group, of_inodes } => {
                let bits = match of_inodes {
                    true => self.geometry.inodes_per_group as usize,
                    false => self.geometry.blocks_per_group as usize,
                };
                let sum = crc(seed, &bytes[..(bits / 8).min(bytes.len())]).to_le_bytes();
                let descriptor = self.descriptors[group as usize];
                let (low, high) = if of_inodes {
                    (0x1A, 0x3A)
                } else {
                    (0x18, 0x38)
                };
                put(image, descriptor + low, &sum[..2]);
                if self.geometry.descriptor_size >= 64 {
                    put(image, descriptor + high, &sum[2..]);
                }
            }
            Sum::Inode { ino } => {
                let mut bytes = bytes;
                let is_wide = bytes.len() > 128 && u16_at(&bytes, 0x80) >= 4;
                put(&mut bytes, 0x7C, &[0; 2]);
                if is_wide {
                    put(&mut bytes, 0x82, &[0; 2]);
                }
                let sum = crc(self.inode_seed(image, ino), &bytes).to_le_bytes();
                put(image, piece.start + 0x7C, &sum[..2]);
                if is_wide {
                    put(image, piece.start + 0x82, &sum[2..]);
                }
            }
            Sum::Extents { ino } => {
                let tail = 12 + 12 * usize::from(u16_at(&bytes, 4));
                if tail + 4 <= bytes.len() {
                    let sum = crc(self.inode_seed(image, ino), &bytes[..tail]);
                    put(image, piece.start + tail, &sum.to_le_bytes());
                }
            }
            Sum::Entries { ino } => {
                let end = bytes.len() - 12;
                let sum = crc(self.inode_seed(image, ino), &bytes[..end]);
                put(image, piece.start + end + 8, &sum.to_le_bytes());
            }
            Sum::Index { ino, entries } => {
                let limit = usize::from(u16_at(&bytes, entries));
                let count = usize::from(u16_at(&bytes, entries + 2));
                let tail = entries + 8 * limit;
                if count <= limit && tail + 8 <= bytes.len() {
                    let seed = self.inode_seed(image, ino);
                    let sum = crc(seed, &bytes[..entries + 8 * count]);
                    let sum = crc(crc(sum, &bytes[tail..tail + 4]), &[0; 4]);
                    put(image, piece.start + tail + 4, &sum.to_le_bytes());
                }
            }
            Sum::Attributes { block } => {
                let mut bytes = bytes;
                put(&mut bytes, 0x10, &[0; 4]);
                let sum = crc(crc(seed, &block.to_le_bytes()), &bytes);
                put(image, piece.start + 0x10, &sum.to_le_bytes());
            }
            Sum::Orphans { ino, block } => {
                let end = bytes.len() - 8;
                let seed = crc(self.inode_seed(image, ino), &block.to_le_bytes());
                let sum = crc(seed, &bytes[..end]);
                put(image, piece.start + end + 4, &sum.to_le_bytes());
            }
        }
    }

    /// The journal has a checksum if it says so itself.
    fn correct_journal(&self, image: &mut [u8]) {
        let journals = self.pieces.iter().filter(|p| matches!(p.sum, Sum::Journal));
        for piece in journals {
            let Some(bytes) = image.get(piece.start..piece.start + 1024) else {
                continue;
            };
            let mut bytes = bytes.to_vec();
            if u32_at(&bytes, 0x28).swap_bytes() & 0x18 != 0 {
                put(&mut bytes, 0xFC, &[0; 4]);
                let sum = crc(!0, &bytes).to_be_bytes();
                put(image, piece.start + 0xFC, &sum);
            }
        }
    }

    fn correct_descriptor(&self, group: u32, image: &mut [u8]) {
        let start = self.descriptors[group as usize];
        let Some(bytes) = image.get(start..start + self.geometry.descriptor_size) else {
            return;
        };
        let sum = if self.is_on(image, RO_COMPAT_METADATA_CSUM) {
            let mut bytes = bytes.to_vec();
            put(&mut bytes, 0x1E, &[0; 2]);
            crc(crc(Self::seed(image), &group.to_le_bytes()), &bytes) as u16
        } else {
            let uuid = &image[SUPERBLOCK + 0x68..SUPERBLOCK + 0x78];
            let sum = crc16(crc16(!0, uuid), &group.to_le_bytes());
            let sum = crc16(sum, &bytes[..0x1E]);
            // Smaller descriptors end with the checksum.
            crc16(sum, &bytes[0x20..])
        };
        put(image, start + 0x1E, &sum.to_le_bytes());
    }
}

struct Reader<'a> {
    image: &'a [u8],
    map: Map,
    /// Blocks that are in a piece.
    seen: BTreeSet<u64>,
}

impl Reader<'_> {
    fn all(&mut self) {
        self.piece(Structure::Superblock, SUPERBLOCK, 1024, Sum::Superblock);
        let size = self.map.geometry.descriptor_size;
        for group in 0..self.map.geometry.groups {
            let at = self.map.geometry.descriptor(group);
            if at + size > self.image.len() || self.map.pieces.len() > MOST_PIECES {
                break;
            }
            self.map.descriptors.push(at);
            self.piece(Structure::Descriptor, at, size, Sum::Descriptor);
        }
        for group in 0..self.map.descriptors.len() as u32 {
            self.group(group);
        }
    }

    fn piece(&mut self, structure: Structure, start: usize, len: usize, sum: Sum) {
        self.map.pieces.push(Piece {
            structure,
            start,
            len,
            sum,
        });
    }

    fn block(&self, block: u64) -> Option<&[u8]> {
        let size = self.map.geometry.block_size;
        let start = usize::try_from(block).ok()?.checked_mul(size)?;
        self.image.get(start..start.checked_add(size)?)
    }

    /// Adds a block unless it is there already or out of the image.
    fn add(&mut self, structure: Structure, block: u64, sum: Sum) -> bool {
        let geometry = &self.map.geometry;
        let size = geometry.block_size;
        let is_new = block > geometry.first_block
            && block < geometry.blocks
            && self.map.pieces.len() < MOST_PIECES
            && self.seen.insert(block);
        if is_new {
            self.piece(structure, block as usize * size, size, sum);
        }
        is_new
    }

    fn group(&mut self, group: u32) {
        let geometry = &self.map.geometry;
        let at = self.map.descriptors[group as usize];
        let bytes = &self.image[at..at + geometry.descriptor_size];
        let (blocks, inodes, table) = (
            geometry.wide(bytes, 0, 0x20),
            geometry.wide(bytes, 4, 0x24),
            geometry.wide(bytes, 8, 0x28),
        );
        let flags = match geometry.features[2] & (RO_COMPAT_GDT_CSUM | RO_COMPAT_METADATA_CSUM) {
            0 => 0,
            _ => u16_at(bytes, 0x12),
        };
        let (per_group, inode_size) = (geometry.inodes_per_group, geometry.inode_size);
        let table = table.saturating_mul(geometry.block_size as u64);
        let sum = |of_inodes| Sum::Bitmap { group, of_inodes };
        if flags & 2 == 0 {
            self.add(Structure::BlockBitmap, blocks, sum(false));
        }
        if flags & 1 != 0 {
            return;
        }
        self.add(Structure::InodeBitmap, inodes, sum(true));
        for index in 0..per_group {
            let start = table.saturating_add(u64::from(index) * inode_size as u64);
            let Ok(start) = usize::try_from(start) else {
                return;
            };
            let Some(bytes) = self.image.get(start..start.saturating_add(inode_size)) else {
                return;
            };
            if bytes.iter().all(|byte| *byte == 0) || self.map.pieces.len() >= MOST_PIECES {
                continue;
            }
            let Some(ino) = group
                .checked_mul(per_group)
                .and_then(|n| n.checked_add(index + 1))
            else {
                return;
            };
            self.map.inodes.insert(ino, start);
            self.piece(Structure::Inode, start, inode_size, Sum::Inode { ino });
            self.inode(ino, start);
        }
    }

    fn inode(&mut self, ino: u32, start: usize) {
        let image = self.image;
        let bytes = &image[start..start + self.map.geometry.inode_size];
        let (mode, flags) = (u16_at(bytes, 0) & 0o170_000, u32_at(bytes, 0x20));
        let acl = match self.map.geometry.features[1] & INCOMPAT_64BIT {
            0 => u32_at(bytes, 0x68).into(),
            _ => u64::from(u16_at(bytes, 0x76)) << 32 | u64::from(u32_at(bytes, 0x68)),
        };
        if acl != 0 {
            self.add(Structure::Attributes, acl, Sum::Attributes { block: acl });
        }
        let is_dir = mode == 0o040_000;
        let has_blocks =
            matches!(mode, 0o100_000 | 0o040_000) || mode == 0o120_000 && u32_at(bytes, 4) >= 60;
        if !has_blocks || flags & INODE_INLINE_DATA != 0 {
            return;
        }
        let mut blocks = Vec::new();
        let i_block = &bytes[0x28..0x28 + 60];
        if flags & INODE_EXTENTS != 0 {
            self.extents(ino, i_block, 5, &mut blocks);
        } else {
            for slot in 0..15 {
                let pointer = u32_at(i_block, 4 * slot).into();
                // The leaves of the resize inode are copies of descriptors.
                self.indirect(pointer, slot.saturating_sub(11), &mut blocks);
            }
        }
        let s = &image[SUPERBLOCK..SUPERBLOCK + 1024];
        let [compat, _, ro_compat] = self.map.geometry.features;
        let is_quota = ro_compat & RO_COMPAT_QUOTA != 0
            && [0x240, 0x244, 0x26C].iter().any(|at| u32_at(s, *at) == ino);
        let is_orphans = compat & COMPAT_ORPHAN_FILE != 0 && u32_at(s, 0x280) == ino;
        if is_dir {
            self.directory(ino, flags & INODE_INDEX != 0, &blocks);
        } else if is_quota {
            for block in blocks {
                self.add(Structure::Quota, block, Sum::None);
            }
        } else if is_orphans {
            for block in blocks {
                self.add(Structure::Orphans, block, Sum::Orphans { ino, block });
            }
        } else if ino == u32_at(s, 0xE0)
            && let Some(first) = blocks.first()
            && self.block(*first).is_some()
            && self.seen.insert(*first)
        {
            let start = *first as usize * self.map.geometry.block_size;
            self.piece(Structure::Journal, start, 1024, Sum::Journal);
        }
    }

    fn extents(&mut self, ino: u32, node: &[u8], depth: u32, blocks: &mut Vec<u64>) {
        if u16_at(node, 0) != 0xF30A {
            return;
        }
        let is_leaf = u16_at(node, 6) == 0;
        for entry in node[12..].chunks_exact(12).take(u16_at(node, 2).into()) {
            if is_leaf {
                let len = u64::from(u16_at(entry, 4));
                let len = if len > 32768 { len - 32768 } else { len };
                let start = u64::from(u16_at(entry, 6)) << 32 | u64::from(u32_at(entry, 8));
                if start < self.map.geometry.blocks && blocks.len() < MOST_PIECES {
                    blocks.extend(start..start + len);
                }
            } else if depth > 0 {
                let child = u64::from(u16_at(entry, 8)) << 32 | u64::from(u32_at(entry, 4));
                if self.add(Structure::Extents, child, Sum::Extents { ino })
                    && let Some(node) = self.block(child)
                {
                    let node = node.to_vec();
                    self.extents(ino, &node, depth - 1, blocks);
                }
            }
        }
    }

    fn indirect(&mut self, pointer: u64, levels: usize, blocks: &mut Vec<u64>) {
        if pointer == 0 || blocks.len() > MOST_PIECES {
            return;
        }
        if levels == 0 {
            blocks.push(pointer);
        } else if self.add(Structure::Indirect, pointer, Sum::None)
            && let Some(node) = self.block(pointer)
        {
            for entry in node.to_vec().chunks_exact(4) {
                self.indirect(u32_at(entry, 0).into(), levels - 1, blocks);
            }
        }
    }

    fn directory(&mut self, ino: u32, is_indexed: bool, blocks: &[u64]) {
        let size = self.map.geometry.block_size;
        for (logical, block) in blocks.iter().enumerate() {
            let Some(bytes) = self.block(*block) else {
                continue;
            };
            let is_node = u32_at(bytes, 0) == 0 && usize::from(u16_at(bytes, 4)) == size;
            let sum = match (is_indexed, logical, is_node) {
                (true, 0, _) => Sum::Index { ino, entries: 32 },
                (true, _, true) => Sum::Index { ino, entries: 8 },
                _ => Sum::Entries { ino },
            };
            self.add(Structure::Directory, *block, sum);
        }
    }
}
