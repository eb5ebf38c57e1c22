//! Findings: errors of a disk and their places.

use std::fmt;

use crate::names::names;
use crate::summary::display_path;

/// The kind of a finding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum FindingKind {
    /// A structure of the VHD or VHDX around the file system.
    Container,
    /// The superblock contradicts itself, its features or the size of the disk.
    Superblock,
    /// A copy of the superblock is not one.
    BackupSuperblock,
    /// A group descriptor points astray or contradicts itself.
    GroupDescriptor,
    /// Parts of the file system proper overlap or lie outside of it.
    Layout,
    /// The kernel has noted errors in the file system.
    RecordedErrors,
    /// The journal is none.
    Journal,
    /// Deleted files wait to be cleaned up.
    Orphan,
    /// A checksum does not match.
    Checksum,
    /// A field of an inode contradicts its kind or the features.
    Inode,
    /// An extent tree or a tree of block numbers is malformed or points astray.
    BlockMap,
    /// A block has two owners.
    SharedBlock,
    /// The size of a file does not agree with its blocks.
    Size,
    /// An inode counts its blocks wrong.
    BlockCount,
    /// The target of a symbolic link is malformed.
    Symlink,
    /// An extended attribute, or a block of them, is malformed.
    Attribute,
    /// The attributes of a block are out of order: the kernel misses some.
    AttributeOrder,
    /// The hash of an attribute does not match.
    AttributeHash,
    /// A count of references to attributes is wrong.
    AttributeReferences,
    /// The inode with the value of an attribute is none such.
    AttributeInode,
    /// An ACL is malformed, or the mode of its inode is not the one that it implies.
    Acl,
    /// A directory block or entry is malformed.
    DirectoryEntry,
    /// A directory has a name twice.
    DuplicateName,
    /// The hash tree of a directory is malformed, or hides names.
    DirectoryIndex,
    /// A directory entry tells another type of file than the inode.
    FileType,
    /// A name leads to no inode, or to one that must not have a name.
    Name,
    /// Directories do not form a tree.
    Tree,
    /// An inode in use has no name.
    Unreachable,
    /// An inode counts its names wrong.
    LinkCount,
    /// A bitmap of blocks does not agree with what is in use.
    BlockBitmap,
    /// A bitmap of inodes does not agree with what is in use.
    InodeBitmap,
    /// The bits of a bitmap past its group are not set.
    BitmapPadding,
    /// A count of free blocks, free inodes or directories is wrong.
    FreeCount,
    /// A file of quotas is malformed, or counts wrong what an owner has.
    Quota,
    /// The hash tree of dm-verity does not agree with the disk or the root hash.
    Verity,
}

names!(FindingKind, "kind of finding", {
    Container = "container",
    Superblock = "superblock",
    BackupSuperblock = "backup-superblock",
    GroupDescriptor = "group-descriptor",
    Layout = "layout",
    RecordedErrors = "recorded-errors",
    Journal = "journal",
    Orphan = "orphan",
    Checksum = "checksum",
    Inode = "inode",
    BlockMap = "block-map",
    SharedBlock = "shared-block",
    Size = "size",
    BlockCount = "block-count",
    Symlink = "symlink",
    Attribute = "attribute",
    AttributeOrder = "attribute-order",
    AttributeHash = "attribute-hash",
    AttributeReferences = "attribute-references",
    AttributeInode = "attribute-inode",
    Acl = "acl",
    DirectoryEntry = "directory-entry",
    DuplicateName = "duplicate-name",
    DirectoryIndex = "directory-index",
    FileType = "file-type",
    Name = "name",
    Tree = "tree",
    Unreachable = "unreachable",
    LinkCount = "link-count",
    BlockBitmap = "block-bitmap",
    InodeBitmap = "inode-bitmap",
    BitmapPadding = "bitmap-padding",
    FreeCount = "free-count",
    Quota = "quota",
    Verity = "verity",
});

/// Where something is wrong, as far as it has such a place.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Place {
    /// The byte of the structure: of the disk that a guest sees, or, for
    /// [`FindingKind::Container`], of the file.
    pub offset: Option<u64>,
    /// The block group.
    pub group: Option<u32>,
    /// The block of the file system.
    pub block: Option<u64>,
    /// The inode.
    pub inode: Option<u32>,
    /// The path of the inode, if names lead to it.
    pub path: Option<Vec<u8>>,
}

impl Place {
    pub(super) fn group(group: u32) -> Self {
        Self {
            group: Some(group),
            ..Self::default()
        }
    }

    pub(super) fn inode(ino: u32) -> Self {
        Self {
            inode: Some(ino),
            ..Self::default()
        }
    }

    pub(super) fn offset(offset: u64) -> Self {
        Self {
            offset: Some(offset),
            ..Self::default()
        }
    }

    pub(super) fn block(mut self, block: u64) -> Self {
        self.block = Some(block);
        self
    }
}

/// As in `/etc/passwd, inode 14, block 520`; nothing if no place is known.
impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut separator = "";
        let mut part = |text: fmt::Arguments<'_>| {
            let done = write!(f, "{separator}{text}");
            separator = ", ";
            done
        };
        if let Some(path) = &self.path {
            part(format_args!("{}", display_path(path)))?;
        }
        if let Some(inode) = self.inode {
            part(format_args!("inode {inode}"))?;
        }
        if let Some(group) = self.group {
            part(format_args!("group {group}"))?;
        }
        match (self.block, self.offset) {
            (Some(block), _) => part(format_args!("block {block}")),
            (None, Some(offset)) => part(format_args!("byte {offset}")),
            (None, None) => Ok(()),
        }
    }
}

/// One thing that is wrong with a disk.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Finding {
    /// The kind of error.
    pub kind: FindingKind,
    /// The place of the error.
    pub place: Place,
    /// The value found and the right one, in one line.
    pub message: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.place != Place::default() {
            write!(f, "{}: ", self.place)?;
        }
        f.write_str(&self.message)
    }
}

/// A time of 32 bits, without a sign, in ISO 8601.
pub(super) fn display_time(seconds: u32) -> String {
    // Days since 0000-03-01, so that leap days come last in their year.
    let (days, second) = (u64::from(seconds) / 86_400 + 719_468, seconds % 86_400);
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = (shifted_month + 2) % 12 + 1;
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

/// Collects a limited number of findings, so that memory does not grow with the damage.
#[derive(Debug)]
pub(super) struct Findings {
    pub kept: Vec<Finding>,
    pub omitted: u64,
    limit: usize,
}

impl Findings {
    pub(super) fn new(limit: usize) -> Self {
        Self {
            kept: Vec::new(),
            omitted: 0,
            limit,
        }
    }

    pub(super) fn add(
        &mut self,
        kind: FindingKind,
        place: Place,
        message: impl FnOnce() -> String,
    ) {
        if self.kept.len() < self.limit {
            self.kept.push(Finding {
                kind,
                place,
                message: message(),
            });
        } else {
            self.omitted += 1;
        }
    }

    /// Adds what was found elsewhere.
    pub(super) fn append(&mut self, other: Self) {
        let room = self.limit - self.kept.len();
        self.omitted += other.omitted + other.kept.len().saturating_sub(room) as u64;
        self.kept.extend(other.kept.into_iter().take(room));
    }

    /// A collector of the same limit.
    pub(super) fn another(&self) -> Self {
        Self::new(self.limit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_told_from_the_name_down() {
        let mut place = Place::inode(14).block(520);
        assert_eq!(place.to_string(), "inode 14, block 520");
        place.path = Some(b"/a\nb".to_vec());
        place.offset = Some(520 * 4096);
        assert_eq!(place.to_string(), r"/a\nb, inode 14, block 520");
        assert_eq!(Place::offset(1024).to_string(), "byte 1024");
        assert_eq!(Place::default().to_string(), "");
    }

    #[test]
    fn times_are_told_in_iso_8601() {
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_399, "2000-02-28T23:59:59Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (951_868_800, "2000-03-01T00:00:00Z"),
            (1_735_689_599, "2024-12-31T23:59:59Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
            (u32::MAX, "2106-02-07T06:28:15Z"),
        ] {
            assert_eq!(display_time(seconds), text);
        }
    }

    #[test]
    fn findings_past_the_limit_are_counted() {
        let mut findings = Findings::new(3);
        let mut other = findings.another();
        for _ in 0..2 {
            findings.add(FindingKind::Size, Place::inode(1), || "x".into());
            other.add(FindingKind::Size, Place::inode(2), || "y".into());
        }
        findings.append(other);
        findings.add(FindingKind::Size, Place::inode(3), String::new);
        assert_eq!((findings.kept.len(), findings.omitted), (3, 2));
    }
}
