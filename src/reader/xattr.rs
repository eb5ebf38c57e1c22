//! Extended attributes of an inode: from the inode, its block and values in inodes.

use std::mem::offset_of;

use zerocopy::FromBytes;

use super::attribute_list::{Listed, Value, in_inode, list};
use super::blocks::Blocks;
use super::checksum::with_hole;
use super::contents::Contents;
use super::damage::damaged_inode;
use super::inode::Inode;
use crate::error::{Error, Result};
use crate::ext4::acl;
use crate::ext4::checksum::crc32c;
use crate::ext4::format::{INCOMPAT_EA_INODE, XATTR_MAGIC, XattrHeader};
use crate::ext4::xattr::{INDEX_ACL_ACCESS, INDEX_ACL_DEFAULT, VALUE_MAX, full_name};

/// An attribute: its full name and its value, an ACL in the form of the system call.
pub(crate) type Attribute = (Vec<u8>, Vec<u8>);

/// The most bytes of the values of one inode: more are only in a block whose entries name one
/// large value again and again.
const ALL_MAX: usize = 64 << 20;

/// All attributes that have a name outside.
pub(super) fn all(blocks: &Blocks, inode: &Inode) -> Result<Vec<Attribute>> {
    let mut reader = Reader {
        blocks,
        inode,
        room: ALL_MAX,
        found: Vec::new(),
    };
    reader.add(in_inode(inode)?)?;
    let number = inode.attribute_block();
    if number != 0 {
        if !blocks.contains(number, 1) {
            let what = format!("its attributes in block {number} are out of the file system");
            return Err(damaged_inode(inode.number(), what));
        }
        let block = blocks.block(number)?;
        let place = blocks.offset(number);
        let listed = in_block(blocks, inode, number, &block).and_then(|list| reader.add(list));
        listed.map_err(|e| e.at_offset(place))?;
    }
    Ok(reader.found)
}

/// The attributes in the block of that number.
fn in_block<'a>(
    blocks: &Blocks,
    inode: &Inode,
    number: u64,
    block: &'a [u8],
) -> Result<Vec<Listed<'a>>> {
    const FIELD: usize = offset_of!(XattrHeader, h_checksum);
    let wrong = |what: &str| damaged_inode(inode.number(), what);
    let header = XattrHeader::ref_from_prefix(block).ok();
    let header = header.filter(|(h, _)| h.h_magic.get() == XATTR_MAGIC && h.h_blocks.get() == 1);
    let Some((header, entries)) = header else {
        return Err(wrong("its block of extended attributes is none"));
    };
    if let Some(seed) = blocks.geometry.checksums.seed() {
        let seed = crc32c(seed, &number.to_le_bytes());
        if with_hole(seed, block, FIELD..FIELD + 4) != header.h_checksum.get() {
            return Err(wrong(
                "the checksum of its block of extended attributes is wrong",
            ));
        }
    }
    list(inode, entries, block)
}

struct Reader<'a> {
    blocks: &'a Blocks,
    inode: &'a Inode,
    /// Bytes of values that may still come.
    room: usize,
    found: Vec<Attribute>,
}

impl Reader<'_> {
    fn add(&mut self, list: Vec<Listed<'_>>) -> Result<()> {
        for Listed { index, name, value } in list {
            let Some(name) = full_name(index, name) else {
                continue;
            };
            let len = match value {
                Value::Here(value) => value.len(),
                Value::Inode { len, .. } => len,
            };
            self.room = self.room.checked_sub(len).ok_or_else(|| {
                Error::limit(format!(
                    "inode {}: its extended attributes have more than {ALL_MAX} bytes",
                    self.inode.number()
                ))
            })?;
            let value = match value {
                Value::Here(value) => value.to_vec(),
                Value::Inode { ino, len } => self.value_of(ino, len)?,
            };
            let value = match index {
                INDEX_ACL_ACCESS | INDEX_ACL_DEFAULT => acl::to_xattr(&value)
                    .ok_or_else(|| damaged_inode(self.inode.number(), "an ACL is malformed"))?,
                _ => value,
            };
            self.found.push((name, value));
        }
        Ok(())
    }

    fn value_of(&self, ino: u32, len: usize) -> Result<Vec<u8>> {
        let wrong = |what: &str| {
            damaged_inode(
                self.inode.number(),
                format!("an extended attribute in inode {ino}: {what}"),
            )
        };
        if !self.blocks.geometry.incompat(INCOMPAT_EA_INODE) {
            return Err(wrong("the feature ea_inode is missing"));
        }
        let holder = Inode::read(self.blocks, ino)?;
        if !holder.is_value() || holder.size() != len as u64 {
            return Err(wrong("that holds another or none"));
        }
        let value = Contents::new(self.blocks, &holder)?.all(VALUE_MAX as u64)?;
        let (hash, parent) = holder.value_fields();
        let is_lustre = parent == (self.inode.number(), self.inode.generation());
        if crc32c(self.blocks.geometry.value_seed, &value) != hash && !is_lustre {
            return Err(wrong("the hash of the value is wrong"));
        }
        Ok(value)
    }
}
