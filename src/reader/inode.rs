//! Inodes: metadata, and where the rest begins.
//!
//! Source: Linux, Documentation/filesystems/ext4, "Index Nodes".

use std::fmt;
use std::mem::offset_of;
use std::sync::Arc;

use zerocopy::FromBytes;
use zerocopy::little_endian::U32;

use super::blocks::Blocks;
use super::checksum;
use super::damage::{damaged, damaged_inode};
use super::group::Group;
use crate::error::{Error, Result};
use crate::ext4::format::{
    I_BLOCK_SIZE, INCOMPAT_64BIT, INCOMPAT_LARGEDIR, INODE_CASEFOLD, INODE_EA_INODE, INODE_ENCRYPT,
    INODE_EXTENTS, INODE_INDEX, INODE_INLINE_DATA, INODE_SIZE, Inode as Fields, S_IFBLK, S_IFCHR,
    S_IFDIR, S_IFIFO, S_IFLNK, S_IFMT, S_IFREG, S_IFSOCK,
};

/// Bytes of an inode before its extra fields.
const OLD_SIZE: usize = 128;

/// The type of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FileType {
    Regular,
    Directory,
    Symlink,
    CharDevice,
    BlockDevice,
    Fifo,
    Socket,
}

/// Seconds since 1970 and nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Time {
    pub seconds: i64,
    pub nanos: u32,
}

/// The metadata of a file but its attributes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Metadata {
    pub file_type: FileType,
    /// The 12 permission bits.
    pub mode: u16,
    pub uid: u32,
    pub gid: u32,
    /// Bytes of the contents.
    pub size: u64,
    /// The number of names; 1 for a directory with more subdirectories than can be counted.
    pub links: u16,
    pub accessed: Time,
    pub changed: Time,
    pub modified: Time,
    /// When the file was made, where inodes have room for that.
    pub created: Option<Time>,
    /// Major and minor number of a device.
    pub device: Option<(u32, u32)>,
}

/// An inode in use. Clones are one.
#[derive(Clone)]
pub(crate) struct Inode(Arc<Data>);

struct Data {
    number: u32,
    fields: Fields,
    /// Bytes of the extra fields that there are.
    extra: usize,
    /// Bytes behind the extra fields, for attributes.
    attributes: Box<[u8]>,
    file_type: FileType,
    size: u64,
    attribute_block: u64,
    /// The seed of the checksums of what belongs to it.
    seed: Option<u32>,
}

impl Inode {
    /// Reads an inode that is in use.
    pub(super) fn read(blocks: &Blocks, number: u32) -> Result<Self> {
        let geometry = &blocks.geometry;
        if number == 0 || number > geometry.inodes {
            return Err(damaged(format!("there is no inode {number}")));
        }
        let group = Group::read(blocks, (number - 1) / geometry.inodes_per_group)?;
        let index = (number - 1) % geometry.inodes_per_group;
        let within = u64::from(index) * u64::from(geometry.inode_size);
        let offset = blocks.offset(group.inode_table) + within;
        let mut bytes = vec![0; usize::from(geometry.inode_size)];
        blocks.read_at(offset, &mut bytes)?;
        Self::parse(blocks, number, &bytes).map_err(|e| e.at_offset(offset))
    }

    fn parse(blocks: &Blocks, number: u32, bytes: &[u8]) -> Result<Self> {
        let wrong = |what: &str| damaged_inode(number, what);
        let geometry = &blocks.geometry;
        let checksums = geometry.checksums.seed();
        // An inode of 128 bytes has no extra fields.
        let mut whole = [0; INODE_SIZE];
        let len = bytes.len().min(INODE_SIZE);
        whole[..len].copy_from_slice(&bytes[..len]);
        let fields = Fields::read_from_bytes(&whole).map_err(|_| wrong("too short"))?;
        if fields.i_links_count.get() == 0 || fields.i_mode.get() == 0 {
            return Err(wrong("is not in use"));
        }
        if let Some(seed) = checksums
            && !checksum::inode_is_sound(seed, number, bytes)
        {
            return Err(wrong("its checksum is wrong"));
        }
        let extra = match bytes.len() {
            OLD_SIZE => 0,
            _ => usize::from(fields.i_extra_isize.get()),
        };
        let attributes = bytes
            .get(OLD_SIZE + extra..)
            .ok_or_else(|| wrong("its extra fields are larger than itself"))?;
        let file_type = match fields.i_mode.get() & S_IFMT {
            S_IFREG => FileType::Regular,
            S_IFDIR => FileType::Directory,
            S_IFLNK => FileType::Symlink,
            S_IFCHR => FileType::CharDevice,
            S_IFBLK => FileType::BlockDevice,
            S_IFIFO => FileType::Fifo,
            S_IFSOCK => FileType::Socket,
            _ => return Err(wrong("is of no type of file")),
        };
        // Elsewhere the high half once was the block of a directory's ACL.
        let is_large = file_type == FileType::Regular || geometry.incompat(INCOMPAT_LARGEDIR);
        let size_high = if is_large {
            fields.i_size_high.get()
        } else {
            0
        };
        let acl_high = match geometry.incompat(INCOMPAT_64BIT) {
            true => fields.i_file_acl_high.get(),
            false => 0,
        };
        Ok(Self(Arc::new(Data {
            number,
            extra,
            attributes: attributes.into(),
            file_type,
            size: u64::from(size_high) << 32 | u64::from(fields.i_size_lo.get()),
            attribute_block: u64::from(acl_high) << 32 | u64::from(fields.i_file_acl_lo.get()),
            seed: checksums
                .map(|seed| checksum::inode_seed(seed, number, fields.i_generation.get())),
            fields,
        })))
    }

    /// Its number.
    pub(crate) fn number(&self) -> u32 {
        self.0.number
    }

    pub(crate) fn file_type(&self) -> FileType {
        self.0.file_type
    }

    /// Bytes of its contents.
    pub(crate) fn size(&self) -> u64 {
        self.0.size
    }

    /// The number of its names.
    pub(crate) fn links(&self) -> u16 {
        self.0.fields.i_links_count.get()
    }

    fn has(&self, flag: u32) -> bool {
        self.0.fields.i_flags.get() & flag != 0
    }

    pub(super) fn has_extents(&self) -> bool {
        self.has(INODE_EXTENTS)
    }

    pub(super) fn has_inline_data(&self) -> bool {
        self.has(INODE_INLINE_DATA)
    }

    pub(super) fn has_hash_tree(&self) -> bool {
        self.has(INODE_INDEX)
    }

    pub(super) fn folds_case(&self) -> bool {
        self.has(INODE_CASEFOLD)
    }

    /// Whether it holds the value of an attribute, and is no file.
    pub(crate) fn is_value(&self) -> bool {
        self.has(INODE_EA_INODE)
    }

    pub(super) fn refuse_encrypted(&self) -> Result<()> {
        match self.has(INODE_ENCRYPT) {
            false => Ok(()),
            true => Err(Error::unsupported(format!(
                "inode {} is encrypted (encrypt)",
                self.0.number
            ))),
        }
    }

    pub(super) fn i_block(&self) -> &[u8; I_BLOCK_SIZE] {
        &self.0.fields.i_block
    }

    pub(super) fn seed(&self) -> Option<u32> {
        self.0.seed
    }

    /// Its part for attributes, behind the extra fields.
    pub(super) fn attributes(&self) -> &[u8] {
        &self.0.attributes
    }

    /// The block of its attributes; 0 if it has none.
    pub(super) fn attribute_block(&self) -> u64 {
        self.0.attribute_block
    }

    /// Of an inode that holds a value: the hash of that, and the inode whose value it is, with the
    /// generation of that, where Lustre made it.
    pub(super) fn value_fields(&self) -> (u32, (u32, u32)) {
        let fields = &self.0.fields;
        let parent = (fields.i_mtime.get(), fields.i_generation.get());
        (fields.i_atime.get(), parent)
    }

    pub(super) fn generation(&self) -> u32 {
        self.0.fields.i_generation.get()
    }

    pub(crate) fn metadata(&self) -> Metadata {
        let fields = &self.0.fields;
        let whole = |low: u16, high: u16| u32::from(high) << 16 | u32::from(low);
        Metadata {
            file_type: self.0.file_type,
            mode: fields.i_mode.get() & 0o7777,
            uid: whole(fields.i_uid.get(), fields.i_uid_high.get()),
            gid: whole(fields.i_gid.get(), fields.i_gid_high.get()),
            size: self.0.size,
            links: self.links(),
            accessed: time(fields.i_atime, self.extra_field(ACCESSED)),
            changed: time(fields.i_ctime, self.extra_field(CHANGED)),
            modified: time(fields.i_mtime, self.extra_field(MODIFIED)),
            created: match self.has_field(CREATED) {
                true => Some(time(fields.i_crtime, self.extra_field(CREATED_EXTRA))),
                false => None,
            },
            device: self.device(),
        }
    }

    /// Major and minor number of a device.
    pub(crate) fn device(&self) -> Option<(u32, u32)> {
        if !matches!(
            self.0.file_type,
            FileType::CharDevice | FileType::BlockDevice
        ) {
            return None;
        }
        let word = |at: usize| {
            let bytes = self.0.fields.i_block[at..].first_chunk();
            bytes.map_or(0, |bytes| u32::from_le_bytes(*bytes))
        };
        // The old form is of 8 bits each, where it reaches.
        Some(match word(0) {
            0 => {
                let new = word(4);
                (new >> 8 & 0xfff, new & 0xff | new >> 12 & 0xf_ff00)
            }
            old => (old >> 8 & 0xff, old & 0xff),
        })
    }

    /// Whether the inode has the extra field that starts at that byte.
    fn has_field(&self, at: usize) -> bool {
        at + 4 <= OLD_SIZE + self.0.extra
    }

    fn extra_field(&self, at: usize) -> u32 {
        let field = match at {
            CHANGED => self.0.fields.i_ctime_extra,
            MODIFIED => self.0.fields.i_mtime_extra,
            ACCESSED => self.0.fields.i_atime_extra,
            _ => self.0.fields.i_crtime_extra,
        };
        if self.has_field(at) { field.get() } else { 0 }
    }
}

/// A time of two fields.
fn time(low: U32, extra: u32) -> Time {
    // Two bits of the extra field carry the seconds on.
    let seconds = i64::from(low.get() as i32) + (i64::from(extra & 3) << 32);
    // The other bits can tell of more than a second, which neither the kernel nor e2fsck minds.
    let nanos = (extra >> 2).min(999_999_999);
    Time { seconds, nanos }
}

impl fmt::Debug for Inode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inode")
            .field("number", &self.0.number)
            .field("file_type", &self.0.file_type)
            .field("size", &self.0.size)
            .finish_non_exhaustive()
    }
}

const CHANGED: usize = offset_of!(Fields, i_ctime_extra);
const MODIFIED: usize = offset_of!(Fields, i_mtime_extra);
const ACCESSED: usize = offset_of!(Fields, i_atime_extra);
const CREATED: usize = offset_of!(Fields, i_crtime);
const CREATED_EXTRA: usize = offset_of!(Fields, i_crtime_extra);
