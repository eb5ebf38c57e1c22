//! Inodes: what is known of one in memory, and its 256 bytes on disk.

use std::mem::offset_of;

use zerocopy::IntoBytes;

use super::checksum;
use super::extent::ExtentRoot;
use super::format::{
    I_BLOCK_SIZE, INODE_EA_INODE, INODE_EXTENTS, INODE_HUGE_FILE, INODE_INDEX, INODE_INLINE_DATA,
    INODE_SIZE, INODE_XATTR_SIZE, Inode, LINK_MAX, S_IFBLK, S_IFCHR, S_IFDIR, S_IFIFO, S_IFLNK,
    S_IFMT, S_IFREG,
};
use super::profile::Profile;

/// A point in time as the disk has it: 34 bits of seconds since 1901-12-13 and nanoseconds.
///
/// The low half is i_mtime, the high half i_mtime_extra ("Inode Timestamps").
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Timestamp(u64);

impl Timestamp {
    const MIN: i64 = i32::MIN as i64;
    const MAX: i64 = Self::MIN + (1 << 34) - 1;

    /// The nearest time that the disk can hold, and whether that is the time asked for.
    pub(crate) fn new(seconds: i64, nanos: u32) -> (Self, bool) {
        let (held, nanos) = match seconds {
            i64::MIN..Self::MIN => (Self::MIN, 0),
            Self::MIN..=Self::MAX => (seconds, nanos),
            _ => (Self::MAX, 999_999_999),
        };
        let low = held as u32;
        // The epoch counts from the signed reading of the low word.
        let epoch = ((held - i64::from(low as i32)) >> 32) as u32;
        let extra = nanos << 2 | epoch;
        (
            Self(u64::from(extra) << 32 | u64::from(low)),
            held == seconds,
        )
    }

    /// The disk's form, the low half first.
    pub(crate) fn from_raw(raw: u64) -> Self {
        Self(raw)
    }

    /// See [`from_raw`](Self::from_raw).
    pub(crate) fn raw(self) -> u64 {
        self.0
    }

    fn low(self) -> u32 {
        self.0 as u32
    }

    fn extra(self) -> u32 {
        (self.0 >> 32) as u32
    }
}

/// Owner, mode and times.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Attributes {
    /// The 12 permission bits.
    pub mode: u16,
    pub uid: u32,
    pub gid: u32,
    pub atime: Timestamp,
    pub ctime: Timestamp,
    pub mtime: Timestamp,
}

impl Attributes {
    /// Of what root made at a time in seconds since 1970.
    pub(crate) fn of_root(mode: u16, time: u64) -> Self {
        let (time, _) = Timestamp::new(time.try_into().unwrap_or(i64::MAX), 0);
        Self {
            mode,
            atime: time,
            ctime: time,
            mtime: time,
            ..Self::default()
        }
    }
}

/// The kind of an inode, with the fields of that kind.
#[derive(Debug)]
pub(crate) enum Body {
    /// A regular file, or a symbolic link too long for its inode; the first of its blocks on
    /// disk, which are adjacent.
    Blocks {
        root: ExtentRoot,
        start: u32,
    },
    /// A regular file whose contents are in its inode.
    Inline(Box<[u8]>),
    /// The index of its [`Dir`](super::tree::Dir).
    Directory(u32),
    /// A symbolic link of at most 59 bytes.
    FastSymlink(Box<[u8]>),
    CharDevice {
        major: u32,
        minor: u32,
    },
    BlockDevice {
        major: u32,
        minor: u32,
    },
    Fifo,
    /// A character device 0:0 of our making.
    Whiteout,
    /// A hard link whose target has not appeared.
    PendingLink,
    /// The value of an extended attribute.
    XattrValue {
        root: ExtentRoot,
        start: u32,
        hash: u32,
    },
    /// Free again, and zero on disk.
    Freed,
}

/// An inode in memory.
#[derive(Debug)]
pub(crate) struct Node {
    pub attributes: Attributes,
    /// S_IFREG and so on.
    pub file_type: u16,
    /// Names of a file; of a directory its subdirectories.
    pub links: u32,
    /// Bytes of the contents.
    pub size: u64,
    /// Blocks on disk, those of the extent tree included, those of attributes not.
    pub blocks: u32,
    /// The number of the attribute set, 0 for none.
    pub xattrs: u32,
    /// The block of attributes, 0 for none; known at the end.
    pub xattr_block: u32,
    pub body: Body,
}

impl Node {
    pub(crate) fn new(attributes: Attributes, body: Body) -> Self {
        let file_type = match &body {
            Body::Blocks { .. } | Body::Inline(_) | Body::XattrValue { .. } => S_IFREG,
            Body::Directory(_) => S_IFDIR,
            Body::FastSymlink(_) => S_IFLNK,
            Body::CharDevice { .. } | Body::Whiteout => S_IFCHR,
            Body::BlockDevice { .. } => S_IFBLK,
            Body::Fifo => S_IFIFO,
            Body::PendingLink | Body::Freed => 0,
        };
        let size = match &body {
            Body::FastSymlink(target) => target.len() as u64,
            _ => 0,
        };
        Self {
            attributes,
            file_type,
            links: 0,
            size,
            blocks: 0,
            xattrs: 0,
            xattr_block: 0,
            body,
        }
    }

    /// The file_type of directory entries ("Directory Entries").
    pub(crate) fn entry_type(&self) -> u8 {
        match self.file_type & S_IFMT {
            S_IFREG => 1,
            S_IFDIR => super::dir::FT_DIR,
            S_IFCHR => 3,
            S_IFBLK => 4,
            S_IFIFO => 5,
            S_IFLNK => 7,
            _ => 0,
        }
    }

    pub(crate) fn is_dir(&self) -> bool {
        matches!(self.body, Body::Directory(_))
    }

    /// The blocks that the contents take, as a range of the disk.
    pub(crate) fn block_range(&self) -> (u32, u32) {
        match &self.body {
            Body::Blocks { start, .. } | Body::XattrValue { start, .. } => (*start, self.blocks),
            _ => (0, 0),
        }
    }
}

/// Fields on disk that are not in [`Node`] and are known at the end.
pub(crate) struct Finish<'a> {
    /// Of a directory: its blocks and whether it has a hash tree.
    pub directory: Option<(&'a ExtentRoot, u64, bool)>,
    /// The attributes that the inode holds, up to its end.
    pub xattr_part: Vec<u8>,
    /// The block of further attributes, 0 for none.
    pub xattr_block: u32,
    /// Blocks of attributes, the values in inodes of their own included.
    pub xattr_blocks: u32,
    /// Of an attribute's value: how many entries name it.
    pub references: u32,
    /// When it was made, if that is not the time of its contents.
    pub created: Option<Timestamp>,
}

impl Finish<'_> {
    /// Of an inode that is no directory and has no attributes.
    pub(crate) const PLAIN: Self = Finish {
        directory: None,
        xattr_part: Vec::new(),
        xattr_block: 0,
        xattr_blocks: 0,
        references: 0,
        created: None,
    };
}

/// Bytes of i_block a fast symbolic link may fill; one stays zero.
pub(crate) const FAST_SYMLINK_MAX: usize = I_BLOCK_SIZE - 1;

/// Makes bytes the inode as the disk has it, with its checksum of that seed, if there is one.
pub(crate) fn encode(
    profile: &Profile,
    seed: u32,
    ino: u32,
    node: &Node,
    finish: &Finish<'_>,
    bytes: &mut [u8; INODE_SIZE],
) {
    let Attributes {
        mode,
        uid,
        gid,
        mut atime,
        mut ctime,
        mut mtime,
    } = node.attributes;
    let mut i_block = [0; I_BLOCK_SIZE];
    let mut flags = 0;
    let mut size = node.size;
    let mut blocks = u64::from(node.blocks) + u64::from(finish.xattr_blocks);
    let mut links = node.links as u16;
    let mut version = 0;
    match &node.body {
        Body::Freed | Body::PendingLink => {
            bytes.fill(0);
            return;
        }
        Body::Blocks {
            root: ExtentRoot::Empty,
            ..
        } if !profile.empty_extent_roots => {}
        Body::Blocks { root, .. } => {
            flags |= INODE_EXTENTS;
            i_block = root.i_block();
        }
        Body::Inline(data) => {
            flags |= INODE_INLINE_DATA;
            let len = data.len().min(I_BLOCK_SIZE);
            i_block[..len].copy_from_slice(&data[..len]);
        }
        Body::Directory(_) => {
            if let Some((root, count, indexed)) = finish.directory {
                flags |= INODE_EXTENTS | if indexed { INODE_INDEX } else { 0 };
                i_block = root.i_block();
                size = count * super::format::BLOCK_SIZE as u64;
                blocks += count;
            }
            // dir_nlink: a count that does not fit is 1, for "unknown".
            links = if node.links + 2 > LINK_MAX {
                1
            } else {
                node.links as u16 + 2
            };
        }
        Body::FastSymlink(target) => i_block[..target.len()].copy_from_slice(target),
        Body::CharDevice { major, minor } | Body::BlockDevice { major, minor } => {
            let device = encode_device(*major, *minor, profile.old_device_numbers);
            i_block[..8].copy_from_slice(&device);
        }
        Body::Whiteout | Body::Fifo => {}
        Body::XattrValue { root, hash, .. } => {
            flags |= INODE_EXTENTS | INODE_EA_INODE;
            i_block = root.i_block();
            links = 1;
            // The kernel keeps the hash in i_atime and the count in i_ctime and i_version.
            (atime, ctime, mtime) = (Timestamp(u64::from(*hash)), Timestamp(0), Timestamp(0));
            version = finish.references;
        }
    }
    // huge_file: 48 bits of 512-byte units, or of blocks.
    let sectors = match profile.counts_blocks {
        true => blocks,
        false => blocks * 8,
    };
    if profile.counts_blocks {
        flags |= INODE_HUGE_FILE;
    }
    let created = finish.created.unwrap_or(mtime);
    let inode = Inode {
        i_mode: (node.file_type | mode).into(),
        i_uid: (uid as u16).into(),
        i_size_lo: (size as u32).into(),
        i_atime: atime.low().into(),
        i_ctime: ctime.low().into(),
        i_mtime: mtime.low().into(),
        i_dtime: 0.into(),
        i_gid: (gid as u16).into(),
        i_links_count: links.into(),
        i_blocks_lo: (sectors as u32).into(),
        i_flags: flags.into(),
        i_version_lo: version.into(),
        i_block,
        i_generation: 0.into(),
        i_file_acl_lo: finish.xattr_block.into(),
        i_size_high: ((size >> 32) as u32).into(),
        i_obso_faddr: 0.into(),
        i_blocks_high: ((sectors >> 32) as u16).into(),
        i_file_acl_high: 0.into(),
        i_uid_high: ((uid >> 16) as u16).into(),
        i_gid_high: ((gid >> 16) as u16).into(),
        i_checksum_lo: 0.into(),
        i_reserved: 0.into(),
        i_extra_isize: profile.extra_isize.into(),
        i_checksum_hi: 0.into(),
        i_ctime_extra: ctime.extra().into(),
        i_mtime_extra: mtime.extra().into(),
        i_atime_extra: atime.extra().into(),
        i_crtime: created.low().into(),
        i_crtime_extra: created.extra().into(),
        i_version_hi: 0.into(),
        i_projid: 0.into(),
        i_xattrs: [0; INODE_XATTR_SIZE],
    };
    bytes.copy_from_slice(inode.as_bytes());
    bytes[INODE_SIZE - finish.xattr_part.len()..].copy_from_slice(&finish.xattr_part);
    if !profile.checksums {
        return;
    }
    let sum = checksum::inode(seed, ino, bytes);
    const LOW: usize = offset_of!(Inode, i_checksum_lo);
    const HIGH: usize = offset_of!(Inode, i_checksum_hi);
    bytes[LOW..LOW + 2].copy_from_slice(&(sum as u16).to_le_bytes());
    bytes[HIGH..HIGH + 2].copy_from_slice(&((sum >> 16) as u16).to_le_bytes());
}

/// The first eight bytes of i_block of a device: the old form, if wanted, where it reaches,
/// else the new.
fn encode_device(major: u32, minor: u32, old_form: bool) -> [u8; 8] {
    let (old, new) = if old_form && major < 256 && minor < 256 {
        (major << 8 | minor, 0)
    } else {
        (0, (minor & 0xff) | major << 8 | (minor & !0xff) << 12)
    };
    let mut bytes = [0; 8];
    bytes[..4].copy_from_slice(&old.to_le_bytes());
    bytes[4..].copy_from_slice(&new.to_le_bytes());
    bytes
}

/// The largest device numbers the new form holds: 12 bits and 20.
pub(crate) const DEVICE_MAJOR_MAX: u32 = (1 << 12) - 1;
/// See [`DEVICE_MAJOR_MAX`].
pub(crate) const DEVICE_MINOR_MAX: u32 = (1 << 20) - 1;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timestamps_as_the_kernel_documents_them() {
        // The table of "Inode Timestamps": seconds, epoch bits, low word.
        for (seconds, epoch, low) in [
            (-0x8000_0000, 0, 0x8000_0000u32),
            (-1, 0, 0xffff_ffff),
            (0, 0, 0),
            (0x7fff_ffff, 0, 0x7fff_ffff),
            (0x8000_0000, 1, 0x8000_0000),
            (0x1_0000_0000, 1, 0),
            (0x1_8000_0000, 2, 0x8000_0000),
            (0x3_7fff_ffff, 3, 0x7fff_ffff),
        ] {
            let (time, exact) = Timestamp::new(seconds, 999_999_999);
            assert!(exact);
            assert_eq!((time.low(), time.extra() & 3), (low, epoch), "{seconds}");
            assert_eq!(time.extra() >> 2, 999_999_999);
        }
        for outside in [i64::MIN, -0x8000_0001, 0x3_8000_0000, i64::MAX] {
            assert!(!Timestamp::new(outside, 5).1);
        }
    }

    #[test]
    fn devices_use_the_old_form_where_it_reaches() {
        assert_eq!(encode_device(255, 255, true), [255, 255, 0, 0, 0, 0, 0, 0]);
        assert_eq!(encode_device(256, 1, true), [0, 0, 0, 0, 1, 0, 1, 0]);
        assert_eq!(
            encode_device(0xfff, 0xf_ffff, true),
            [0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff]
        );
    }
}
