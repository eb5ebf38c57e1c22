//! Lists of extended attributes, as they stand in inodes and in blocks.
//!
//! Source: Linux, Documentation/filesystems/ext4, "Extended Attributes".

use zerocopy::FromBytes;

use super::damage::damaged_inode;
use super::inode::Inode;
use crate::error::Result;
use crate::ext4::format::{XATTR_ENTRY_SIZE, XATTR_MAGIC, XattrEntry};
use crate::ext4::xattr::{INDEX_SYSTEM, VALUE_MAX};

/// An attribute as a list has it.
pub(super) struct Listed<'a> {
    pub index: u8,
    /// The name behind the prefix that the index stands for.
    pub name: &'a [u8],
    pub value: Value<'a>,
}

pub(super) enum Value<'a> {
    Here(&'a [u8]),
    /// The contents of an inode.
    Inode {
        ino: u32,
        len: usize,
    },
}

/// The attributes in an inode's own part.
pub(super) fn in_inode(inode: &Inode) -> Result<Vec<Listed<'_>>> {
    let magic = XATTR_MAGIC.to_le_bytes();
    match inode.attributes().strip_prefix(&magic) {
        Some(entries) => list(inode, entries, entries),
        None => Ok(Vec::new()),
    }
}

/// The contents of a file or the entries of a directory in its inode, beyond i_block.
pub(super) fn inline_data(inode: &Inode) -> Result<Vec<u8>> {
    for listed in in_inode(inode)? {
        if listed.index == INDEX_SYSTEM && listed.name == b"data" {
            return match listed.value {
                Value::Here(value) => Ok(value.to_vec()),
                Value::Inode { .. } => Err(damaged_inode(
                    inode.number(),
                    "its inline data is elsewhere",
                )),
            };
        }
    }
    Ok(Vec::new())
}

/// Reads entries up to the four zero bytes that end them; values lie at their offset in
/// `values`. The end of the area ends them as well.
pub(super) fn list<'a>(
    inode: &Inode,
    mut entries: &'a [u8],
    values: &'a [u8],
) -> Result<Vec<Listed<'a>>> {
    let wrong = |what: &str| damaged_inode(inode.number(), what);
    let short = || wrong("an extended attribute is cut short");
    let mut found = Vec::new();
    while entries.get(..4).is_some_and(|head| head != [0; 4]) {
        let (entry, rest) = XattrEntry::ref_from_prefix(entries).map_err(|_| short())?;
        let name_len = usize::from(entry.e_name_len);
        let len = entry.e_value_size.get() as usize;
        if len > VALUE_MAX {
            return Err(wrong("an extended attribute is too large"));
        }
        let start = usize::from(entry.e_value_offs.get());
        found.push(Listed {
            index: entry.e_name_index,
            name: rest.get(..name_len).ok_or_else(short)?,
            value: match entry.e_value_inum.get() {
                // Where an empty value is has no meaning.
                0 if len == 0 => Value::Here(&[]),
                0 => Value::Here(values.get(start..start + len).ok_or_else(short)?),
                ino => Value::Inode { ino, len },
            },
        });
        let next = XATTR_ENTRY_SIZE + name_len.next_multiple_of(4);
        entries = entries.get(next..).ok_or_else(short)?;
    }
    Ok(found)
}
