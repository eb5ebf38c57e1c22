//! Inodes in use, as later stages of the check need them.

use super::inode::DIR;

/// An inode in use, for the directories that name it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Record {
    pub ino: u32,
    /// "Directory Entries", file_type; 0 for none that there is.
    pub entry_type: u8,
    pub links: u16,
    pub flags: u32,
    pub use_of: Use,
}

/// The purpose of an inode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Use {
    /// Names lead to it.
    Named,
    /// It holds the value of attributes.
    Value,
    /// It belongs to the file system, and no name leads to it.
    Special,
}

impl Record {
    pub(super) fn is_dir(&self) -> bool {
        self.entry_type == DIR
    }
}

/// Directories among the records, for the counts of groups.
pub(super) fn is_directory(record: &Record) -> bool {
    record.entry_type == DIR
}
