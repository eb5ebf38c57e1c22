//! hcsshim's own placement: extended attributes, times and the order of directories.
//!
//! Source: hcsshim, ext4/internal/compactext4, at the commit that [`profile`](super::profile)
//! names.

use std::collections::BTreeMap;

use zerocopy::IntoBytes;

use super::area::BlockSink;
use super::format::{
    BLOCK_SIZE, I_BLOCK_SIZE, INODE_SIZE, XATTR_ENTRY_SIZE, XATTR_HEADER_SIZE, XATTR_MAGIC,
    XattrHeader,
};
use super::inode::{Body, Node, Timestamp};
use super::profile::HCSSHIM;
use super::sets::Stored;
use super::tree::{Ino, Tree};
use super::writer::Writer;
use super::xattr::{
    Attribute, EmptyValues, INDEX_SYSTEM, INLINE_ENTRY_SIZE, NAME_MAX, Set, Value, put_entries,
};
use crate::error::{Error, Result};

/// Extended attributes by their full names.
pub(crate) type Pairs = BTreeMap<Vec<u8>, Vec<u8>>;

/// Bytes an inode has for attributes, and a block, beside magic numbers and what ends a list.
const INODE_ROOM: usize = INODE_SIZE - 128 - HCSSHIM.extra_isize as usize - 8;
const BLOCK_ROOM: usize = BLOCK_SIZE - XATTR_HEADER_SIZE - 4;

/// The first prefix that fits is taken; index 0 is none.
const PREFIXES: [(&[u8], u8); 7] = [
    (b"system.posix_acl_access", 2),
    (b"system.posix_acl_default", 3),
    (b"system.richacl", 8),
    (b"system.", INDEX_SYSTEM),
    (b"user.", 1),
    (b"trusted.", 4),
    (b"security.", 6),
];

fn attribute(full: &[u8], value: &[u8]) -> Attribute {
    let split = |(prefix, index): &(&[u8], u8)| Some((*index, full.strip_prefix(*prefix)?));
    let (index, name) = PREFIXES.iter().find_map(split).unwrap_or((0, full));
    Attribute {
        index,
        name: name.into(),
        value: Value::Bytes(value.into()),
    }
}

fn full_name(attribute: &Attribute) -> Vec<u8> {
    let prefix = PREFIXES.iter().find(|(_, index)| *index == attribute.index);
    [
        prefix.map_or(&b""[..], |(prefix, _)| prefix),
        &attribute.name,
    ]
    .concat()
}

/// The attributes of a set in the order in which they were placed.
fn placed(set: &Set) -> Vec<Attribute> {
    let mut list: Vec<_> = set.iter().cloned().collect();
    list.sort_by_cached_key(full_name);
    list
}

/// Where the attributes of an inode go.
struct Split {
    inode: Set,
    block: Set,
}

/// By their full names the first that fit go into the inode, the others into a block.
fn split(pairs: &Pairs, inline: Option<usize>) -> Result<Split> {
    let tail = inline.map_or(0, |tail| INLINE_ENTRY_SIZE + tail.next_multiple_of(4));
    let mut inode_room = INODE_ROOM.saturating_sub(tail);
    let mut block_room = BLOCK_ROOM;
    let (mut inode, mut block) = (Set::default(), Set::default());
    for (name, value) in pairs {
        let attribute = attribute(name, value);
        if attribute.name.len() > NAME_MAX {
            let len = attribute.name.len();
            return Err(Error::entry(format!(
                "an extended attribute with a name of {len} bytes; {NAME_MAX} are possible"
            )));
        }
        let size = XATTR_ENTRY_SIZE
            + attribute.name.len().next_multiple_of(4)
            + value.len().next_multiple_of(4);
        if size <= inode_room {
            inode_room -= size;
            inode.insert(attribute);
        } else if size <= block_room {
            block_room -= size;
            block.insert(attribute);
        } else {
            return Err(Error::entry(
                "the extended attributes take more than an inode and a block",
            ));
        }
    }
    Ok(Split { inode, block })
}

/// Sorts as Go's sort.Slice does with hcsshim's comparison, which is true if any of index,
/// length and name is less; `None` where that depends on more of the algorithm than is
/// known here. Up to twelve elements it inserts one after the other.
fn sort_as_hcsshim(list: &mut [Attribute]) -> Option<()> {
    fn less(a: &Attribute, b: &Attribute) -> bool {
        a.index < b.index || a.name.len() < b.name.len() || a.name < b.name
    }
    let is_chain = |list: &[Attribute]| {
        list.windows(2)
            .all(|pair| less(&pair[0], &pair[1]) && !less(&pair[1], &pair[0]))
    };
    if list.len() > 12 {
        list.sort_by(|a, b| a.key().cmp(&b.key()));
        // Where the parts never contradict each other every algorithm comes to this.
        return is_chain(list).then_some(());
    }
    for end in 1..list.len() {
        let mut at = end;
        while at > 0 && less(&list[at], &list[at - 1]) {
            list.swap(at, at - 1);
            at -= 1;
        }
    }
    Some(())
}

/// A block of attributes, empty ones too, and whether the kernel finds them all in it.
fn block(set: &Set) -> Result<([u8; BLOCK_SIZE], bool)> {
    let mut list = placed(set);
    sort_as_hcsshim(&mut list).ok_or_else(|| {
        Error::entry("more than 12 extended attributes in a block that hcsshim misorders")
    })?;
    let is_sorted = list.is_sorted_by(|a, b| a.key() < b.key());
    let header = XattrHeader {
        h_magic: XATTR_MAGIC.into(),
        h_refcount: 1.into(),
        h_blocks: 1.into(),
        h_hash: 0.into(),
        h_checksum: 0.into(),
        h_reserved: [0.into(); 3],
    };
    let mut block = [0; BLOCK_SIZE];
    block[..XATTR_HEADER_SIZE].copy_from_slice(header.as_bytes());
    let values = EmptyValues::HaveOffsets;
    put_entries(
        &mut block,
        XATTR_HEADER_SIZE,
        list.iter(),
        values,
        Attribute::hash,
    );
    Ok((block, is_sorted))
}

/// The part of an inode behind its fields.
pub(super) fn inode_part(set: &Set, inline: Option<&[u8]>) -> Vec<u8> {
    let mut part = vec![0; HCSSHIM.inode_xattr_size()];
    if set.is_empty() && inline.is_none() {
        return part;
    }
    part[..4].copy_from_slice(&XATTR_MAGIC.to_le_bytes());
    let data = inline.map(|tail| attribute(b"system.data", tail));
    let list = placed(set);
    let list = data.iter().chain(&list);
    put_entries(
        &mut part[4..],
        0,
        list,
        EmptyValues::HaveOffsets,
        Attribute::hash,
    );
    part
}

/// Which attributes are read back.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Which {
    /// Those of the inode, inline contents among them: what another entry of the same path
    /// adds to.
    Inode,
    /// All but inline contents: what an opaque mark is added to.
    All,
}

impl<S: BlockSink> Writer<S> {
    fn live_set(&self, number: u32) -> Set {
        match self.sets.get(number) {
            Some(Stored::Live(bytes)) => Set::decode(bytes),
            _ => Set::default(),
        }
    }

    /// The attributes of an inode as hcsshim reads them back: to the first of an empty name,
    /// which it takes for the end.
    pub(crate) fn read_back(&self, ino: Ino, which: Which) -> Pairs {
        let mut pairs = Pairs::new();
        let node = self.tree.node(ino);
        let mut read = |list: Vec<Attribute>| {
            for attribute in list {
                if attribute.name.is_empty() {
                    break;
                }
                if let Value::Bytes(value) = &attribute.value {
                    pairs.insert(full_name(&attribute), value.to_vec());
                }
            }
        };
        if which == Which::All
            && let Some(set) = self.late_blocks.get(&ino)
        {
            let mut list = placed(&self.live_set(*set));
            if sort_as_hcsshim(&mut list).is_some() {
                read(list);
            }
        }
        read(placed(&self.live_set(node.xattrs)));
        match (&node.body, which) {
            (Body::Inline(data), Which::Inode) => {
                let tail = data.len().saturating_sub(I_BLOCK_SIZE);
                // Contents come later: until then there are zeros.
                pairs
                    .entry(b"system.data".to_vec())
                    .or_insert_with(|| vec![0; tail]);
            }
            (_, Which::All) if node.xattrs != 0 => {
                pairs.remove(&b"system.data"[..]);
            }
            _ => {}
        }
        pairs
    }

    /// The names of attributes in an inode's block.
    pub(crate) fn names_in_block(&self, ino: Ino) -> Vec<Vec<u8>> {
        let set = self.late_blocks.get(&ino);
        let set = set.map_or_else(Set::default, |set| self.live_set(*set));
        set.iter().map(full_name).collect()
    }

    /// Gives an inode its attributes, and a block of them its place now, before contents. The
    /// block itself goes out at once if nothing can change it any more (`is_final`). `inline`
    /// is the length of the tail of inline contents. False if the kernel does not find all
    /// attributes of the block.
    pub(crate) fn place_pairs(
        &mut self,
        ino: Ino,
        pairs: &Pairs,
        inline: Option<usize>,
        is_final: bool,
    ) -> Result<bool> {
        let Split { inode, block: rest } = split(pairs, inline)?;
        let number = match inode.is_empty() {
            true => 0,
            false => self.intern(&inode, true),
        };
        self.tree.node_mut(ino).xattrs = number;
        let old = self.tree.node(ino).xattr_block;
        if rest.is_empty() && old == 0 {
            return Ok(true);
        }
        if old != 0 && !self.late_blocks.contains_key(&ino) {
            return Err(Error::limit(
                "extended attributes change that were written out already, because those of \
                 all entries take too much memory",
            ));
        }
        let (bytes, is_sorted) = block(&rest)?;
        let place = match old {
            0 => self.area.reserve(1)?,
            old => old,
        };
        self.tree.node_mut(ino).xattr_block = place;
        let encoded = rest.encode();
        if is_final || (self.sets.find(&encoded).is_none() && self.sets.must_seal(&encoded)) {
            self.late_blocks.remove(&ino);
            self.area.sink.write(place.into(), &bytes)?;
        } else {
            let set = self.intern(&rest, false);
            self.late_blocks.insert(ino, set);
        }
        Ok(is_sorted)
    }

    fn intern(&mut self, set: &Set, fits_inode: bool) -> u32 {
        let encoded = set.encode();
        match self.sets.find(&encoded) {
            Some(number) => number,
            None => self.sets.insert(encoded, fits_inode),
        }
    }

    /// Writes the blocks of attributes that could have changed until now.
    pub(super) fn write_late_blocks(&mut self) -> Result<()> {
        let mut late: Vec<_> = std::mem::take(&mut self.late_blocks)
            .into_iter()
            .map(|(ino, set)| (self.tree.node(ino).xattr_block, set))
            .collect();
        late.sort_unstable();
        for (place, set) in late {
            let (bytes, _) = block(&self.live_set(set))?;
            self.area.sink.write(place.into(), &bytes)?;
        }
        Ok(())
    }

    /// Makes something else of an inode; its names, and a block of attributes, stay.
    pub(crate) fn renew(&mut self, ino: Ino, node: Node) {
        let old = self.tree.node_mut(ino);
        *old = Node {
            links: old.links,
            xattrs: old.xattrs,
            xattr_block: old.xattr_block,
            ..node
        };
    }
}

/// Directories, each right before those below it, in the order of inode numbers.
pub(super) fn directory_order(tree: &Tree) -> Vec<Ino> {
    let mut order = Vec::with_capacity(tree.dir_count());
    let mut next = vec![Ino::ROOT];
    while let Some(dir) = next.pop() {
        order.push(dir);
        let children = tree.children(dir).into_iter().map(|(_, child)| child);
        let mut below: Vec<_> = children
            .filter(|child| tree.node(*child).is_dir())
            .collect();
        below.sort_unstable();
        next.extend(below.into_iter().rev());
    }
    order
}

/// A time as hcsshim stores it: right from 1970 to 2038 and wherever bit 31 of the seconds is
/// clear.
pub(crate) fn timestamp(seconds: i64, nanos: u32) -> Timestamp {
    /// The first moment of the year 1, which to Go is no time.
    const ZERO: i64 = -62_135_596_800;
    const MIN: i64 = -0x8000_0000;
    const MAX: i64 = 0x3_7fff_ffff;
    Timestamp::from_raw(match seconds {
        ZERO if nanos == 0 => 0,
        i64::MIN..MIN => 0x8000_0000,
        MIN..=MAX => seconds as u64 | u64::from(nanos) << 34,
        _ => MAX as u64,
    })
}

/// The time that hcsshim stores in a directory without an entry: the time of the
/// parent, read back and stored again.
pub(crate) fn inherited(time: Timestamp) -> Timestamp {
    let raw = time.raw();
    if raw == 0 {
        return time;
    }
    let mut seconds = (raw & 0x3_ffff_ffff) as i64;
    if (0x8000_0000..0x1_0000_0000).contains(&seconds) {
        seconds -= 1 << 32;
    }
    // The bits of the nanoseconds may hold more than a second.
    let nanos = (raw >> 34) as u32;
    let carry = nanos / 1_000_000_000;
    timestamp(seconds + i64::from(carry), nanos % 1_000_000_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_right_where_bit_31_is_clear() {
        for (seconds, right) in [
            (0, true),
            (0x7fff_ffff, true),
            (0x8000_0000, false),
            (0xffff_ffff, false),
            (0x1_0000_0000, true),
            (0x1_8000_0000, false),
            (0x3_7fff_ffff, true),
            (-1, false),
            (-0x8000_0000, false),
        ] {
            let (held, _) = Timestamp::new(seconds, 7);
            assert_eq!(timestamp(seconds, 7) == held, right, "{seconds}");
        }
        // Out of range.
        assert_eq!(timestamp(i64::MIN, 7).raw(), 0x8000_0000);
        assert_eq!(timestamp(i64::MAX, 7).raw(), 0x3_7fff_ffff);
        // To Go the year 1 begins with no time.
        assert_eq!(timestamp(-62_135_596_800, 0).raw(), 0);
        for (seconds, nanos) in [(-62_135_596_800, 1), (-62_135_596_801, 0)] {
            assert_eq!(timestamp(seconds, nanos).raw(), 0x8000_0000);
        }
    }

    #[test]
    fn inherited_times_stay_unless_they_are_wrong() {
        for (seconds, nanos) in [(0, 0), (1_600_000_000, 999_999_999), (0x1_0000_0000, 1)] {
            let time = timestamp(seconds, nanos);
            assert_eq!(inherited(time), time);
        }
        // -1 is all ones, which is read as the last second and more nanoseconds than it has.
        assert_eq!(timestamp(-1, 0).raw(), u64::MAX);
        assert_eq!(inherited(timestamp(-1, 0)).raw(), 0x3_7fff_ffff);
        assert_eq!(
            inherited(timestamp(0x8000_0000, 0)),
            timestamp(-0x8000_0000, 0)
        );
    }

    fn attributes(names: &[&str]) -> Vec<Attribute> {
        names
            .iter()
            .map(|name| attribute(name.as_bytes(), b""))
            .collect()
    }

    fn sorted(names: &[&str]) -> Option<Vec<String>> {
        let mut list = attributes(names);
        sort_as_hcsshim(&mut list)?;
        let name = |a: &Attribute| String::from_utf8_lossy(&full_name(a)).into_owned();
        Some(list.iter().map(name).collect())
    }

    #[test]
    fn attributes_are_sorted_by_a_comparison_that_contradicts_itself() {
        assert_eq!(sorted(&["user.b", "user.a"]).unwrap(), ["user.a", "user.b"]);
        // Both are less than the other: the one that comes later moves forward.
        assert_eq!(
            sorted(&["user.aa", "user.b"]).unwrap(),
            ["user.b", "user.aa"]
        );
        assert_eq!(
            sorted(&["user.b", "user.aa"]).unwrap(),
            ["user.aa", "user.b"]
        );
        let chain: Vec<_> = (1..=13)
            .map(|n| format!("user.{}", "x".repeat(n)))
            .collect();
        let chain: Vec<_> = chain.iter().map(String::as_str).collect();
        let mut backwards = chain.clone();
        backwards.reverse();
        assert_eq!(sorted(&backwards).unwrap(), chain);
        let mut contradiction = chain;
        contradiction[3] = "user.zz";
        assert_eq!(sorted(&contradiction), None);
    }

    #[test]
    fn names_are_put_together_as_they_were() {
        for name in [
            "user.a",
            "user.",
            "trusted.overlay.opaque",
            "system.posix_acl_access",
            "system.posix_acl_accessory",
            "system.richacl",
            "system.data",
            "com.apple.x",
        ] {
            assert_eq!(full_name(&attribute(name.as_bytes(), b"")), name.as_bytes());
        }
    }
}
