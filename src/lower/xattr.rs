//! Extended attributes of an inode: from the inode, its block and values in inodes.
//!
//! Source: Linux, Documentation/filesystems/ext4, "Extended Attributes".

use std::io;

use zerocopy::FromBytes;

use super::disk::{Disk, damaged, size};
use crate::ext4::acl;
use crate::ext4::format::{
    BLOCK_SIZE, EXTRA_ISIZE, Inode, XATTR_ENTRY_SIZE, XATTR_HEADER_SIZE, XATTR_MAGIC, XattrEntry,
};
use crate::ext4::xattr::{INDEX_SYSTEM, VALUE_MAX, full_name};

type Attribute = (Vec<u8>, Vec<u8>);

/// All attributes that have a name outside, ACLs in the form of the system call.
pub(super) fn all(disk: &Disk, inode: &Inode) -> io::Result<Vec<Attribute>> {
    let mut found = Vec::new();
    if inode.i_extra_isize.get() == EXTRA_ISIZE
        && let Some(entries) = inode.i_xattrs.strip_prefix(&XATTR_MAGIC.to_le_bytes())
    {
        read(disk, entries, entries, &mut found)?;
    }
    match inode.i_file_acl_lo.get() {
        0 => {}
        number => {
            let block = disk.block(number)?;
            if !block.starts_with(&XATTR_MAGIC.to_le_bytes()) {
                return Err(damaged("a block of extended attributes"));
            }
            read(disk, &block[XATTR_HEADER_SIZE..], &block, &mut found)?;
        }
    }
    Ok(found)
}

/// The contents of a file that are in its inode: in i_block, and behind that in an attribute.
pub(super) fn inline_data(inode: &Inode, size: u64) -> io::Result<Vec<u8>> {
    let short = || damaged("inline data cut short");
    let len = usize::try_from(size).map_err(|_| short())?;
    let mut data = inode.i_block.to_vec();
    if len > data.len() {
        let values = inode
            .i_xattrs
            .strip_prefix(&XATTR_MAGIC.to_le_bytes())
            .ok_or_else(short)?;
        let mut entries = values;
        while entries.get(..4).is_some_and(|head| head != [0; 4]) {
            let (entry, rest) = XattrEntry::read_from_prefix(entries).map_err(|_| short())?;
            let name_len = usize::from(entry.e_name_len);
            let name = rest.get(..name_len).ok_or_else(short)?;
            if entry.e_name_index == INDEX_SYSTEM && name == b"data" {
                let start = usize::from(entry.e_value_offs.get());
                let end = start + entry.e_value_size.get() as usize;
                data.extend_from_slice(values.get(start..end).ok_or_else(short)?);
            }
            let next = XATTR_ENTRY_SIZE + name_len.next_multiple_of(4);
            entries = entries.get(next..).ok_or_else(short)?;
        }
    }
    if data.len() < len {
        return Err(short());
    }
    data.truncate(len);
    Ok(data)
}

/// Reads entries up to the four zero bytes that end them; values lie at their offset in
/// `values`.
fn read(
    disk: &Disk,
    mut entries: &[u8],
    values: &[u8],
    found: &mut Vec<Attribute>,
) -> io::Result<()> {
    let short = || damaged("an extended attribute cut short");
    while entries.get(..4).is_some_and(|head| head != [0; 4]) {
        let (entry, rest) = XattrEntry::read_from_prefix(entries).map_err(|_| short())?;
        let name_len = usize::from(entry.e_name_len);
        let name = rest.get(..name_len).ok_or_else(short)?;
        let size = entry.e_value_size.get() as usize;
        if size > VALUE_MAX {
            return Err(damaged("an extended attribute's size"));
        }
        if let Some(name) = full_name(entry.e_name_index, name) {
            let value = match entry.e_value_inum.get() {
                0 => {
                    let start = usize::from(entry.e_value_offs.get());
                    values.get(start..start + size).ok_or_else(short)?.to_vec()
                }
                ino => value_of_inode(disk, ino, size)?,
            };
            let value = match &name[..] {
                b"system.posix_acl_access" | b"system.posix_acl_default" => {
                    acl::to_xattr(&value).ok_or_else(|| damaged("an ACL"))?
                }
                _ => value,
            };
            found.push((name, value));
        }
        let next = XATTR_ENTRY_SIZE + name_len.next_multiple_of(4);
        entries = entries.get(next..).ok_or_else(short)?;
    }
    Ok(())
}

fn value_of_inode(disk: &Disk, ino: u32, len: usize) -> io::Result<Vec<u8>> {
    let inode = disk.inode(ino)?;
    if size(&inode) != len as u64 {
        return Err(damaged("an extended attribute's value in an inode"));
    }
    let mut value = Vec::with_capacity(len);
    for logical in 0..len.div_ceil(BLOCK_SIZE) {
        let block = disk.file_block(&inode, logical as u32)?;
        value.extend_from_slice(&block[..BLOCK_SIZE.min(len - value.len())]);
    }
    Ok(value)
}
