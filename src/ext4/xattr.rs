//! Extended attributes: names, ACLs, and where each attribute of an inode goes.
//!
//! Source: Linux, Documentation/filesystems/ext4, "Extended Attributes".

use zerocopy::IntoBytes;

use super::checksum;
use super::format::{
    BLOCK_SIZE, INODE_XATTR_SIZE, XATTR_ENTRY_SIZE, XATTR_HEADER_SIZE, XATTR_MAGIC, XattrEntry,
    XattrHeader,
};

/// e_name_index of `user.`.
pub(crate) const INDEX_USER: u8 = 1;
/// e_name_index of system.posix_acl_access, whose name is empty then.
pub(crate) const INDEX_ACL_ACCESS: u8 = 2;
/// e_name_index of system.posix_acl_default.
pub(crate) const INDEX_ACL_DEFAULT: u8 = 3;
/// e_name_index of `trusted.`.
pub(crate) const INDEX_TRUSTED: u8 = 4;
/// e_name_index of `security.`.
const INDEX_SECURITY: u8 = 6;
/// e_name_index of `system.`, used for inline data alone.
pub(crate) const INDEX_SYSTEM: u8 = 7;

/// The most bytes of a full attribute name (the kernel's XATTR_NAME_MAX).
pub(crate) const NAME_MAX: usize = 255;
/// The most bytes of a value (the kernel's XATTR_SIZE_MAX).
pub(crate) const VALUE_MAX: usize = 65_536;

/// Splits a full name into e_name_index and the rest; `None` where the kernel has no handler.
pub(crate) fn split_name(name: &[u8]) -> Option<(u8, &[u8])> {
    const PREFIXES: [(&[u8], u8); 3] = [
        (b"user.", INDEX_USER),
        (b"trusted.", INDEX_TRUSTED),
        (b"security.", INDEX_SECURITY),
    ];
    match name {
        b"system.posix_acl_access" => return Some((INDEX_ACL_ACCESS, b"")),
        b"system.posix_acl_default" => return Some((INDEX_ACL_DEFAULT, b"")),
        _ => {}
    }
    PREFIXES.iter().find_map(|(prefix, index)| {
        let rest = name.strip_prefix(*prefix)?;
        (!rest.is_empty()).then_some((*index, rest))
    })
}

/// The full name of what [`split_name`] splits; `None` for an index that it does not give.
pub(crate) fn full_name(index: u8, rest: &[u8]) -> Option<Vec<u8>> {
    let prefix: &[u8] = match index {
        INDEX_USER => b"user.",
        INDEX_ACL_ACCESS => b"system.posix_acl_access",
        INDEX_ACL_DEFAULT => b"system.posix_acl_default",
        INDEX_TRUSTED => b"trusted.",
        INDEX_SECURITY => b"security.",
        _ => return None,
    };
    Some([prefix, rest].concat())
}

/// Where the bytes of a value are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Value {
    /// Here.
    Bytes(Box<[u8]>),
    /// In an inode of their own (ea_inode): its number, their number and their hash.
    Inode { ino: u32, size: u32, hash: u32 },
}

impl Value {
    /// Bytes it takes beside its entry.
    fn stored_size(&self) -> usize {
        match self {
            Self::Bytes(bytes) => bytes.len().next_multiple_of(4),
            Self::Inode { .. } => 0,
        }
    }
}

/// An attribute; the derived order is not the order on disk, [`Set`] keeps that.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Attribute {
    pub index: u8,
    pub name: Box<[u8]>,
    pub value: Value,
}

impl Attribute {
    fn stored_size(&self) -> usize {
        XATTR_ENTRY_SIZE + self.name.len().next_multiple_of(4) + self.value.stored_size()
    }

    /// The order of entries in a block.
    pub(super) fn key(&self) -> (u8, usize, &[u8]) {
        (self.index, self.name.len(), &self.name)
    }

    /// ext4_xattr_hash_entry: over the name and the value's words, or, for a value in an
    /// inode, over the name and the value's hash.
    pub(super) fn hash(&self) -> u32 {
        let name = self
            .name
            .iter()
            .fold(0u32, |hash, byte| hash.rotate_left(5) ^ u32::from(*byte));
        let word = |hash: u32, word: u32| hash.rotate_left(16) ^ word;
        match &self.value {
            Value::Inode { hash, .. } => word(name, *hash),
            Value::Bytes(bytes) => bytes.chunks(4).fold(name, |hash, chunk| {
                let mut bytes = [0; 4];
                bytes[..chunk.len()].copy_from_slice(chunk);
                word(hash, u32::from_le_bytes(bytes))
            }),
        }
    }
}

/// The attributes of an inode, in the order of the disk: index, length of name, name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Set(Vec<Attribute>);

impl Set {
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Adds an attribute or replaces the one of its name.
    pub(crate) fn insert(&mut self, attribute: Attribute) {
        match self
            .0
            .binary_search_by(|old| old.key().cmp(&attribute.key()))
        {
            Ok(i) => self.0[i] = attribute,
            Err(i) => self.0.insert(i, attribute),
        }
    }

    /// Adds or replaces every attribute of another set.
    pub(crate) fn unite(&mut self, other: Self) {
        other
            .0
            .into_iter()
            .for_each(|attribute| self.insert(attribute));
    }

    /// Removes an attribute; whether there was one.
    pub(crate) fn remove(&mut self, index: u8, name: &[u8]) -> bool {
        let found = self.find(index, name);
        found.map(|i| self.0.remove(i)).is_some()
    }

    /// An attribute's value.
    pub(crate) fn get(&self, index: u8, name: &[u8]) -> Option<&Value> {
        self.find(index, name).map(|i| &self.0[i].value)
    }

    /// Replaces the value of an attribute, if it is here, by what `change` makes of it.
    pub(crate) fn change(
        &mut self,
        index: u8,
        name: &[u8],
        change: impl FnOnce(&[u8]) -> Option<Box<[u8]>>,
    ) {
        if let Some(i) = self.find(index, name)
            && let Value::Bytes(bytes) = &mut self.0[i].value
            && let Some(changed) = change(bytes)
        {
            *bytes = changed;
        }
    }

    fn find(&self, index: u8, name: &[u8]) -> Option<usize> {
        let key = (index, name.len(), name);
        self.0
            .binary_search_by(|attribute| attribute.key().cmp(&key))
            .ok()
    }

    pub(crate) fn iter(&self) -> std::slice::Iter<'_, Attribute> {
        self.0.iter()
    }

    /// Moves the largest value into an inode of its own, which `spill` makes of the bytes;
    /// false when there is none to move.
    pub(crate) fn spill_largest<E>(
        &mut self,
        spill: impl FnOnce(&[u8]) -> Result<Value, E>,
    ) -> Result<bool, E> {
        let size = |attribute: &&mut Attribute| attribute.value.stored_size();
        // Ties go to the first in order, so that the choice does not depend on the past.
        let Some(largest) = self.0.iter_mut().rev().max_by_key(size) else {
            return Ok(false);
        };
        match &largest.value {
            Value::Bytes(bytes) if !bytes.is_empty() => largest.value = spill(bytes)?,
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// Whether an inode and a block can name them all, their values elsewhere.
    pub(crate) fn names_fit(&self) -> bool {
        let name =
            |attribute: &Attribute| XATTR_ENTRY_SIZE + attribute.name.len().next_multiple_of(4);
        self.0.iter().map(name).sum::<usize>() <= INODE_ROOM + BLOCK_ROOM
    }

    /// The inodes that hold values.
    pub(crate) fn value_inodes(&self) -> impl Iterator<Item = u32> {
        self.0.iter().filter_map(|attribute| match attribute.value {
            Value::Inode { ino, .. } => Some(ino),
            Value::Bytes(_) => None,
        })
    }

    /// Blocks of the values in inodes of their own; the owner's i_blocks counts them too.
    pub(crate) fn value_blocks(&self) -> u32 {
        let blocks = |attribute: &Attribute| match attribute.value {
            Value::Inode { size, .. } => size.div_ceil(BLOCK_SIZE as u32),
            Value::Bytes(_) => 0,
        };
        self.0.iter().map(blocks).sum()
    }

    /// A compact form that is equal for equal sets.
    pub(crate) fn encode(&self) -> Box<[u8]> {
        let mut out = Vec::new();
        for Attribute { index, name, value } in &self.0 {
            out.extend([*index, name.len() as u8]);
            out.extend_from_slice(name);
            match value {
                Value::Bytes(bytes) => {
                    out.push(0);
                    out.extend((bytes.len() as u32).to_le_bytes());
                    out.extend_from_slice(bytes);
                }
                Value::Inode { ino, size, hash } => {
                    out.push(1);
                    [ino, size, hash]
                        .iter()
                        .for_each(|word| out.extend(word.to_le_bytes()));
                }
            }
        }
        out.into()
    }

    /// The set of an encoded form that [`encode`](Self::encode) made.
    pub(crate) fn decode(mut bytes: &[u8]) -> Self {
        fn take<'a>(bytes: &mut &'a [u8], len: usize) -> &'a [u8] {
            let (head, rest) = bytes.split_at(len);
            *bytes = rest;
            head
        }
        fn word(bytes: &mut &[u8]) -> u32 {
            take(bytes, 4)
                .iter()
                .rev()
                .fold(0, |word, byte| word << 8 | u32::from(*byte))
        }
        let mut set = Vec::new();
        while !bytes.is_empty() {
            let &[index, name_len] = take(&mut bytes, 2) else {
                break;
            };
            let name = take(&mut bytes, name_len.into()).into();
            let value = if take(&mut bytes, 1) == [0] {
                let len = word(&mut bytes) as usize;
                Value::Bytes(take(&mut bytes, len).into())
            } else {
                let [ino, size, hash] = std::array::from_fn(|_| word(&mut bytes));
                Value::Inode { ino, size, hash }
            };
            set.push(Attribute { index, name, value });
        }
        Self(set)
    }
}

/// Room in an inode: after the magic number, before the four zero bytes that end the list.
const INODE_ROOM: usize = INODE_XATTR_SIZE - 8;
/// Room in a block, likewise.
const BLOCK_ROOM: usize = BLOCK_SIZE - XATTR_HEADER_SIZE - 4;
/// Bytes of system.data besides its value.
pub(super) const INLINE_ENTRY_SIZE: usize = XATTR_ENTRY_SIZE + 4;

/// Where the attributes of a set go.
#[derive(Debug, Default)]
pub(crate) struct Placement<'a> {
    in_inode: Vec<&'a Attribute>,
    in_block: Vec<&'a Attribute>,
}

/// Bytes that the opaque mark of a directory takes in the inode.
pub(crate) const OPAQUE_SIZE: usize = XATTR_ENTRY_SIZE + 16 + 4;

/// The mark by which overlayfs hides the layers below: trusted.overlay.opaque.
pub(crate) fn opaque_mark() -> Attribute {
    Attribute {
        index: INDEX_TRUSTED,
        name: (*b"overlay.opaque").into(),
        value: Value::Bytes((*b"y").into()),
    }
}

/// The rest of the inode's part.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Reserved<'a> {
    /// Bytes to leave free.
    pub bytes: usize,
    /// The tail of inline file contents; `Some` also when it is empty.
    pub inline: Option<&'a [u8]>,
}

impl<'a> Placement<'a> {
    /// Fills the inode first, then a block; `None` when that does not hold them.
    pub(crate) fn new(set: &'a Set, reserved: Reserved<'_>) -> Option<Self> {
        let inline = reserved
            .inline
            .map_or(0, |tail| INLINE_ENTRY_SIZE + tail.len().next_multiple_of(4));
        let mut inode_room = INODE_ROOM.saturating_sub(reserved.bytes + inline);
        let mut block_room = BLOCK_ROOM;
        let mut placement = Self::default();
        for attribute in set.iter() {
            let size = attribute.stored_size();
            if size <= inode_room {
                inode_room -= size;
                placement.in_inode.push(attribute);
            } else {
                block_room = block_room.checked_sub(size)?;
                placement.in_block.push(attribute);
            }
        }
        Some(placement)
    }

    /// Puts one more into the inode, into room that was reserved for it.
    pub(crate) fn add_to_inode(&mut self, attribute: &'a Attribute) {
        self.in_inode.push(attribute);
    }

    /// Everything in a block, the inode's part left free.
    pub(crate) fn in_block(set: &'a Set) -> Option<Self> {
        Self::new(
            set,
            Reserved {
                bytes: INODE_ROOM,
                inline: None,
            },
        )
    }

    /// Whether the inode holds them all.
    pub(crate) fn fits_inode(&self) -> bool {
        self.in_block.is_empty()
    }

    /// Values in inodes of their own, by where the entries that name them stand.
    pub(crate) fn value_inodes(&self) -> (impl Iterator<Item = u32>, impl Iterator<Item = u32>) {
        fn inodes<'s>(list: &'s [&Attribute]) -> impl Iterator<Item = u32> + 's {
            list.iter().filter_map(|attribute| match attribute.value {
                Value::Inode { ino, .. } => Some(ino),
                Value::Bytes(_) => None,
            })
        }
        (inodes(&self.in_inode), inodes(&self.in_block))
    }

    /// The part of the inode after its fields.
    pub(crate) fn inode_part(&self, inline: Option<&[u8]>) -> [u8; INODE_XATTR_SIZE] {
        let mut part = [0; INODE_XATTR_SIZE];
        if self.in_inode.is_empty() && inline.is_none() {
            return part;
        }
        part[..4].copy_from_slice(&XATTR_MAGIC.to_le_bytes());
        let data = inline.map(|tail| Attribute {
            index: INDEX_SYSTEM,
            name: (*b"data").into(),
            value: Value::Bytes(tail.into()),
        });
        // Entries are hashed in blocks only, but for values in inodes, which the kernel checks.
        let list = data.iter().chain(self.in_inode.iter().copied());
        let values = EmptyValues::HaveNone;
        put_entries(
            &mut part[4..],
            0,
            list,
            values,
            |attribute| match attribute.value {
                Value::Bytes(_) => 0,
                Value::Inode { .. } => attribute.hash(),
            },
        );
        part
    }

    /// The block, when there is one, with its checksum for the place it goes to.
    pub(crate) fn block(&self, seed: u32, number: u32, refcount: u32) -> Option<[u8; BLOCK_SIZE]> {
        if self.in_block.is_empty() {
            return None;
        }
        let hashes = self.in_block.iter().map(|attribute| attribute.hash());
        let hash = hashes
            .clone()
            .fold(0u32, |all, hash| all.rotate_left(16) ^ hash);
        let header = XattrHeader {
            h_magic: XATTR_MAGIC.into(),
            h_refcount: refcount.into(),
            h_blocks: 1.into(),
            h_hash: if hashes.clone().any(|hash| hash == 0) {
                0
            } else {
                hash
            }
            .into(),
            h_checksum: 0.into(),
            h_reserved: [0.into(); 3],
        };
        let mut block = [0; BLOCK_SIZE];
        block[..XATTR_HEADER_SIZE].copy_from_slice(header.as_bytes());
        let list = self.in_block.iter().copied();
        let values = EmptyValues::HaveNone;
        put_entries(&mut block, XATTR_HEADER_SIZE, list, values, Attribute::hash);
        let sum = checksum::xattr_block(seed, number, &block);
        block[16..20].copy_from_slice(&sum.to_le_bytes());
        Some(block)
    }
}

/// e_value_offs of empty values; no reader uses it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum EmptyValues {
    HaveNone,
    HaveOffsets,
}

/// Writes entries upwards from `at` and their values downwards from the end of the area.
pub(super) fn put_entries<'a>(
    area: &mut [u8],
    mut at: usize,
    list: impl Iterator<Item = &'a Attribute>,
    empty: EmptyValues,
    hash: impl Fn(&Attribute) -> u32,
) {
    let mut end = area.len();
    for attribute in list {
        let (offset, ino, size) = match &attribute.value {
            Value::Inode { ino, size, .. } => (0, *ino, *size),
            Value::Bytes(bytes) if bytes.is_empty() && empty == EmptyValues::HaveNone => (0, 0, 0),
            Value::Bytes(bytes) => {
                end -= attribute.value.stored_size();
                area[end..end + bytes.len()].copy_from_slice(bytes);
                (end, 0, bytes.len() as u32)
            }
        };
        let entry = XattrEntry {
            e_name_len: attribute.name.len() as u8,
            e_name_index: attribute.index,
            e_value_offs: (offset as u16).into(),
            e_value_inum: ino.into(),
            e_value_size: size.into(),
            e_hash: hash(attribute).into(),
        };
        let name_at = at + XATTR_ENTRY_SIZE;
        area[at..name_at].copy_from_slice(entry.as_bytes());
        area[name_at..name_at + attribute.name.len()].copy_from_slice(&attribute.name);
        at = name_at + attribute.name.len().next_multiple_of(4);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attribute(index: u8, name: &[u8], len: usize) -> Attribute {
        Attribute {
            index,
            name: name.into(),
            value: Value::Bytes(vec![7; len].into()),
        }
    }

    fn set(list: &[(u8, &[u8], usize)]) -> Set {
        let mut set = Set::default();
        list.iter()
            .for_each(|(index, name, len)| set.insert(attribute(*index, name, *len)));
        set
    }

    #[test]
    fn names_split_where_the_kernel_has_a_handler() {
        assert_eq!(split_name(b"user.a"), Some((1, &b"a"[..])));
        assert_eq!(split_name(b"security.selinux"), Some((6, &b"selinux"[..])));
        assert_eq!(split_name(b"system.posix_acl_default"), Some((3, &b""[..])));
        for none in [&b"user."[..], b"user", b"system.data", b"com.apple.x", b""] {
            assert_eq!(split_name(none), None);
        }
    }

    #[test]
    fn order_is_index_length_name() {
        let set = set(&[(6, b"a", 0), (1, b"bb", 0), (1, b"c", 0), (1, b"b", 0)]);
        let names: Vec<_> = set.iter().map(|a| (a.index, &*a.name)).collect();
        assert_eq!(names, [(1, &b"b"[..]), (1, b"c"), (1, b"bb"), (6, b"a")]);
    }

    #[test]
    fn encoding_keeps_everything() {
        let mut set = set(&[(1, b"a", 3), (6, b"", 0)]);
        let value = Value::Inode {
            ino: 70_000,
            size: 65_536,
            hash: 0xdead_beef,
        };
        set.insert(Attribute {
            index: 4,
            name: (*b"x").into(),
            value,
        });
        assert_eq!(Set::decode(&set.encode()), set);
        assert_eq!(Set::decode(&Set::default().encode()), Set::default());
    }

    #[test]
    fn fills_inode_then_block_then_overflows() {
        let exact = set(&[(1, b"name", INODE_ROOM - 20)]);
        assert!(
            Placement::new(&exact, Reserved::default())
                .unwrap()
                .fits_inode()
        );
        let over = set(&[(1, b"name", INODE_ROOM - 19)]);
        assert!(
            !Placement::new(&over, Reserved::default())
                .unwrap()
                .fits_inode()
        );
        let full = set(&[(1, b"name", BLOCK_ROOM - 20)]);
        let placement = Placement::new(&full, Reserved::default()).unwrap();
        let block = placement.block(checksum::SEED, 9, 1).unwrap();
        // The list ends with four zero bytes before the first value.
        assert_eq!(block[XATTR_HEADER_SIZE + 20..][..4], [0; 4]);
        assert_eq!(block[XATTR_HEADER_SIZE + 24], 7);
        assert!(
            Placement::new(&set(&[(1, b"name", BLOCK_ROOM - 19)]), Reserved::default()).is_none()
        );
    }

    #[test]
    fn the_opaque_mark_takes_what_is_reserved_for_it() {
        assert_eq!(opaque_mark().stored_size(), OPAQUE_SIZE);
    }

    #[test]
    fn spilling_takes_the_largest_value() {
        let mut set = set(&[(1, b"a", 10), (1, b"b", 30), (1, b"c", 29)]);
        let spill = |bytes: &[u8]| {
            Ok::<_, ()>(Value::Inode {
                ino: 11,
                size: bytes.len() as u32,
                hash: 0,
            })
        };
        assert_eq!(set.spill_largest(spill), Ok(true));
        let sizes: Vec<_> = set.iter().map(|a| a.value.stored_size()).collect();
        assert_eq!(sizes, [12, 0, 32]);
        while set.spill_largest(spill) == Ok(true) {}
        assert!(set.iter().all(|a| matches!(a.value, Value::Inode { .. })));
    }
}
