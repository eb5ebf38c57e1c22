//! Extended attributes: in inodes, in blocks that inodes share, and in inodes of their own.
//!
//! Source: Linux, Documentation/filesystems/ext4, "Extended Attributes".

use std::collections::BTreeMap;
use std::ops::Range;

use zerocopy::FromBytes;

use super::acl::{self, Acl, INDEX_ACCESS, INDEX_DEFAULT};
use super::blocks::{Blocks, u32_at};
use super::checksum::with_hole;
use super::claims::{Claims, Owner};
use super::findings::{FindingKind, Findings, Place};
use super::layout::Layout;
use crate::error::Result;
use crate::ext4::checksum::crc32c;
use crate::ext4::format::{
    COMPAT_EXT_ATTR, INCOMPAT_EA_INODE, XATTR_ENTRY_SIZE, XATTR_HEADER_SIZE, XATTR_MAGIC,
    XattrEntry, XattrHeader,
};
use crate::summary::display_path;

/// e_name_index of `system.`, and the name of the attribute that holds inline data.
const INDEX_SYSTEM: u8 = 7;
const INLINE_DATA: &[u8] = b"data";
/// The largest value that an inode of its own may hold (EXT4_XATTR_SIZE_MAX).
const VALUE_MAX: u64 = 1 << 24;

/// The prefixes by e_name_index.
const PREFIXES: [&str; 9] = [
    "",
    "user.",
    "system.posix_acl_access",
    "system.posix_acl_default",
    "trusted.",
    "",
    "security.",
    "system.",
    "system.richacl",
];

/// The attributes of all inodes.
pub(super) struct Attributes<'a> {
    volume: Blocks<'a>,
    layout: &'a Layout,
    blocks: BTreeMap<u64, AttributeBlock>,
    references: Vec<Reference>,
    values: BTreeMap<u32, Value>,
    /// ACLs in inodes of their own.
    acls: Vec<AclReference>,
}

/// An ACL whose value is in an inode of its own.
struct AclReference {
    owner: u32,
    ino: u32,
    index: u8,
    /// The mode of the inode that has it.
    mode: u16,
}

/// The ACL that an inode has to agree with.
#[derive(Clone, Copy, Debug)]
enum AccessAcl {
    /// The bits of the mode that belong to it.
    Mode(u16),
    /// It is in an inode of its own.
    Value(u32),
}

/// A block of attributes that was read.
struct AttributeBlock {
    /// The first inode that names it.
    ino: u32,
    /// `None` if the block is none of attributes.
    declared: Option<u32>,
    found: u32,
    value_blocks: u64,
    values: u64,
    stray_offset: bool,
    access_acl: Option<AccessAcl>,
}

/// An attribute whose value is in an inode of its own.
struct Reference {
    owner: u32,
    ino: u32,
    size: u32,
    hash: u32,
    /// Of the name, over bytes as they are and as signed ones.
    name_hashes: [u32; 2],
}

/// An inode that says that it holds a value.
pub(super) struct Value {
    pub size: u64,
    /// i_atime.
    pub hash: u32,
    /// i_ctime and i_version.
    pub references: u64,
    /// Of the contents, if they could be read.
    pub computed_hash: Option<u32>,
    /// The bytes as an ACL, if an attribute takes them for one.
    pub acl: Acl,
}

/// The attributes of one inode together.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// Blocks that i_blocks counts: of attributes, and of values elsewhere.
    pub blocks: u64,
    /// Whether a value in an inode of its own is also said to be here.
    pub stray_offset: bool,
    /// Values in inodes of their own, each of which quotas count as an inode of its owner.
    pub values: u64,
    /// The rest of contents that are inline.
    pub inline_data: Option<Vec<u8>>,
    access_acl: Option<AccessAcl>,
}

impl<'a> Attributes<'a> {
    pub(super) fn new(volume: Blocks<'a>, layout: &'a Layout) -> Self {
        Self {
            volume,
            layout,
            blocks: BTreeMap::new(),
            references: Vec::new(),
            values: BTreeMap::new(),
            acls: Vec::new(),
        }
    }

    /// Notes an inode that holds a value.
    pub(super) fn add_value(&mut self, ino: u32, value: Value) {
        self.values.insert(ino, value);
    }

    /// Checks what an inode holds after its extra fields.
    pub(super) fn in_inode(
        &mut self,
        ino: u32,
        area: &[u8],
        found: &mut Found,
        findings: &mut Findings,
    ) {
        if area.len() < 8 || u32_at(area, 0) != XATTR_MAGIC {
            return;
        }
        let mut parse = Parse {
            bytes: area,
            first: 4,
            values: 4,
            is_block: false,
            place: Place::inode(ino),
            findings,
            entries: Vec::new(),
        };
        parse.entries();
        parse.acls();
        for entry in &parse.entries {
            self.note(ino, entry, found);
            if entry.index == INDEX_SYSTEM && entry.name == INLINE_DATA && entry.ino == 0 {
                found.inline_data = Some(entry.value.to_vec());
            }
        }
    }

    fn note(&mut self, owner: u32, entry: &Entry<'_>, found: &mut Found) {
        if entry.index == INDEX_ACCESS && found.access_acl.is_none() {
            found.access_acl = match (entry.ino, Acl::read(entry.value)) {
                (0, Acl::Mode(mode)) => Some(AccessAcl::Mode(mode)),
                (0, Acl::Empty | Acl::Malformed(_)) => None,
                (ino, _) => Some(AccessAcl::Value(ino)),
            };
        }
        if entry.index == INDEX_DEFAULT && entry.ino != 0 {
            self.acls.push(AclReference {
                owner,
                ino: entry.ino,
                index: entry.index,
                mode: 0,
            });
        }
        if entry.ino != 0 {
            found.blocks += u64::from(entry.size).div_ceil(self.layout.block_size as u64);
            found.values += 1;
            found.stray_offset |= entry.offset != 0;
            self.references.push(Reference {
                owner,
                ino: entry.ino,
                size: entry.size,
                hash: entry.hash,
                name_hashes: [false, true].map(|signed| name_hash(entry.name, signed)),
            });
        }
    }

    /// Checks the block that an inode names, unless another one named it before.
    pub(super) fn in_block(
        &mut self,
        ino: u32,
        number: u64,
        found: &mut Found,
        claims: &mut Claims,
        findings: &mut Findings,
    ) -> Result<()> {
        let place = Place::inode(ino).block(number);
        if !self.layout.compat(COMPAT_EXT_ATTR) || !self.volume.contains(number, 1) {
            findings.add(FindingKind::Inode, Place::inode(ino), || {
                format!(
                    "the block of attributes is said to be {number}, which is out of the file \
                    system or needs the feature ext_attr"
                )
            });
            return Ok(());
        }
        found.blocks += 1;
        if let Some(block) = self.blocks.get_mut(&number) {
            block.found += 1;
            found.blocks += block.value_blocks;
            found.values += block.values;
            found.stray_offset |= block.stray_offset;
            found.access_acl = found.access_acl.or(block.access_acl);
            return Ok(());
        }
        claims.add(number..number + 1, Owner::Inode(ino));
        let bytes = self.volume.read(number, 1)?;
        let Ok((header, _)) = XattrHeader::ref_from_prefix(&bytes) else {
            return Ok(());
        };
        let mut block = AttributeBlock {
            ino,
            declared: Some(header.h_refcount.get()),
            found: 1,
            value_blocks: 0,
            values: 0,
            stray_offset: false,
            access_acl: None,
        };
        if header.h_magic.get() == XATTR_MAGIC && header.h_blocks.get() == 1 {
            if let Some(seed) = self.layout.checksums.seed() {
                let (sum, field) = (header.h_checksum.get(), 16..20);
                let seed = crc32c(seed, &number.to_le_bytes());
                let computed = with_hole(seed, &bytes, field);
                if sum != computed {
                    findings.add(FindingKind::Checksum, place.clone(), || {
                        format!("the checksum of the attributes is {sum:08x}, not {computed:08x}")
                    });
                }
            }
            let mut parse = Parse {
                bytes: &bytes,
                first: XATTR_HEADER_SIZE,
                values: 0,
                is_block: true,
                place,
                findings,
                entries: Vec::new(),
            };
            parse.entries();
            parse.acls();
            let mut of_block = Found::default();
            for entry in &parse.entries {
                self.note(ino, entry, &mut of_block);
            }
            block.value_blocks = of_block.blocks;
            block.values = of_block.values;
            found.blocks += of_block.blocks;
            found.values += of_block.values;
            block.stray_offset = of_block.stray_offset;
            found.stray_offset |= of_block.stray_offset;
            block.access_acl = of_block.access_acl;
            found.access_acl = found.access_acl.or(block.access_acl);
        } else {
            findings.add(FindingKind::Attribute, place, || {
                "the block of attributes starts without its magic, or is not alone".into()
            });
            // Its reference count has no meaning.
            block.declared = None;
        }
        self.blocks.insert(number, block);
        Ok(())
    }

    /// Holds the mode of an inode against its access ACL.
    pub(super) fn check_mode(
        &mut self,
        ino: u32,
        mode: u16,
        found: &Found,
        findings: &mut Findings,
    ) {
        match found.access_acl {
            None => {}
            Some(AccessAcl::Mode(acl)) => disagree(ino, mode, acl, findings),
            Some(AccessAcl::Value(value)) => self.acls.push(AclReference {
                owner: ino,
                ino: value,
                index: INDEX_ACCESS,
                mode,
            }),
        }
    }

    fn check_acls(&self, findings: &mut Findings) {
        for reference in &self.acls {
            // Where there is no such value, something else is said of it.
            let Some(value) = self.values.get(&reference.ino) else {
                continue;
            };
            match value.acl {
                Acl::Mode(acl) if reference.index == INDEX_ACCESS => {
                    disagree(reference.owner, reference.mode, acl, findings);
                }
                Acl::Mode(_) | Acl::Empty => {}
                Acl::Malformed(why) => {
                    let place = Place::inode(reference.owner);
                    findings.add(FindingKind::Acl, place, || malformed(reference.index, why));
                }
            }
        }
    }

    /// Compares the counts, when all inodes were seen.
    pub(super) fn finish(&self, findings: &mut Findings) {
        self.check_acls(findings);
        for (number, block) in &self.blocks {
            let found = block.found;
            if let Some(declared) = block.declared
                && declared != found
            {
                let place = Place::inode(block.ino).block(*number);
                findings.add(FindingKind::AttributeReferences, place, || {
                    format!("the attributes count {declared} inodes, but {found} name them")
                });
            }
        }
        let mut counts: BTreeMap<u32, u64> = BTreeMap::new();
        for reference in &self.references {
            *counts.entry(reference.ino).or_default() += 1;
            self.check_reference(reference, findings);
        }
        for (ino, value) in &self.values {
            let place = || Place::inode(*ino);
            let found = counts.get(ino).copied().unwrap_or(0);
            let declared = value.references;
            if found != declared {
                findings.add(FindingKind::AttributeReferences, place(), || {
                    format!("the value counts {declared} attributes, but {found} name it")
                });
            }
            match value.computed_hash {
                Some(hash) if hash == value.hash => {}
                Some(hash) => findings.add(FindingKind::AttributeHash, place(), || {
                    format!(
                        "the hash of the value is {:08x}, not {hash:08x}",
                        value.hash
                    )
                }),
                None => findings.add(FindingKind::AttributeInode, place(), || {
                    "the value is longer than its blocks, or has holes".into()
                }),
            }
        }
    }

    fn check_reference(&self, reference: &Reference, findings: &mut Findings) {
        let place = || Place::inode(reference.owner);
        if !self.layout.incompat(INCOMPAT_EA_INODE) {
            findings.add(FindingKind::AttributeInode, place(), || {
                "an attribute in an inode of its own needs the feature ea_inode".into()
            });
        }
        let Some(value) = self.values.get(&reference.ino) else {
            findings.add(FindingKind::AttributeInode, place(), || {
                format!(
                    "an attribute is said to be in inode {}, which holds none",
                    reference.ino
                )
            });
            return;
        };
        if reference.size == 0 || u64::from(reference.size) != value.size {
            findings.add(FindingKind::AttributeInode, place(), || {
                format!(
                    "an attribute has {} bytes, but inode {} holds {}",
                    reference.size, reference.ino, value.size
                )
            });
        }
        let right = reference
            .name_hashes
            .iter()
            .any(|name| name.rotate_left(16) ^ value.hash == reference.hash);
        if !right {
            findings.add(FindingKind::AttributeHash, place(), || {
                format!(
                    "the hash of the attribute in inode {} is wrong",
                    reference.ino
                )
            });
        }
    }
}

fn disagree(ino: u32, mode: u16, acl: u16, findings: &mut Findings) {
    if let Some(message) = acl::disagreement(mode, acl) {
        findings.add(FindingKind::Acl, Place::inode(ino), || message);
    }
}

fn malformed(index: u8, why: &str) -> String {
    let name = shown(index, b"");
    format!("the kernel cannot use {name}: {why}")
}

/// The bytes of a value in an inode; `None` if they are too many.
pub(super) fn value_size(size: u64) -> Option<usize> {
    (size <= VALUE_MAX).then_some(size as usize)
}

/// An attribute as it lies in an inode or a block.
#[derive(Clone, Copy)]
struct Entry<'a> {
    index: u8,
    name: &'a [u8],
    ino: u32,
    offset: u16,
    size: u32,
    hash: u32,
    value: &'a [u8],
}

struct Parse<'a, 'f> {
    bytes: &'a [u8],
    /// Where the first entry is.
    first: usize,
    /// Where the offsets of values count from.
    values: usize,
    is_block: bool,
    place: Place,
    findings: &'f mut Findings,
    entries: Vec<Entry<'a>>,
}

impl<'a> Parse<'a, '_> {
    fn wrong(&mut self, kind: FindingKind, message: impl FnOnce() -> String) {
        self.findings.add(kind, self.place.clone(), message);
    }

    fn entries(&mut self) {
        // A value cannot lie before the first entry either.
        let mut taken: Vec<Range<usize>> = std::iter::once(0..self.first).collect();
        let mut at = self.first;
        loop {
            match self.bytes.get(at..at + 4) {
                Some([0, 0, 0, 0]) => break,
                Some(_) => {}
                None => {
                    return self.wrong(FindingKind::Attribute, || {
                        "the attributes have no end".into()
                    });
                }
            }
            let rest = &self.bytes[at..];
            let Ok((fields, names)) = XattrEntry::ref_from_prefix(rest) else {
                return self.wrong(FindingKind::Attribute, || {
                    "an attribute does not fit into its place".into()
                });
            };
            let Some(name) = names.get(..usize::from(fields.e_name_len)) else {
                return self.wrong(FindingKind::Attribute, || {
                    "the name of an attribute does not fit into its place".into()
                });
            };
            let end = at + (XATTR_ENTRY_SIZE + name.len()).next_multiple_of(4);
            taken.push(at..end);
            at = end;
            let (size, ino) = (fields.e_value_size.get(), fields.e_value_inum.get());
            let index = fields.e_name_index;
            if index == 0 || name.contains(&0) {
                self.wrong(FindingKind::Attribute, || {
                    format!("{} is no name of an attribute", shown(index, name))
                });
            }
            let mut value: &[u8] = &[];
            if ino == 0 {
                let start = self.values + usize::from(fields.e_value_offs.get());
                let range = start..start.saturating_add(size as usize);
                let Some(found) = self.bytes.get(range.clone()) else {
                    self.wrong(FindingKind::Attribute, || {
                        format!(
                            "the value of {} does not fit into its place",
                            shown(index, name)
                        )
                    });
                    continue;
                };
                value = found;
                if size > 0 {
                    taken.push(range.start..range.end.next_multiple_of(4));
                }
            }
            let hash = fields.e_hash.get();
            self.entries.push(Entry {
                index,
                name,
                ino,
                offset: fields.e_value_offs.get(),
                size,
                hash,
                value,
            });
        }
        taken.push(at..at + 4);
        taken.sort_unstable_by_key(|range| (range.start, range.end));
        let overlap = taken.windows(2).any(|pair| pair[0].end > pair[1].start);
        if overlap {
            self.wrong(FindingKind::Attribute, || {
                "names and values of attributes overlap".into()
            });
        } else {
            // Each byte is of one value: the time is linear in them.
            self.hashes();
        }
        self.order();
    }

    fn hashes(&mut self) {
        for i in 0..self.entries.len() {
            let Entry {
                index,
                name,
                ino,
                hash,
                value,
                ..
            } = self.entries[i];
            // In an inode the hash may be left out.
            if ino != 0 || !self.is_block && hash == 0 {
                continue;
            }
            let right = [false, true]
                .into_iter()
                .any(|signed| value_hash(name_hash(name, signed), value) == hash);
            if !right {
                self.wrong(FindingKind::AttributeHash, || {
                    format!("the hash of {} is wrong", shown(index, name))
                });
            }
        }
    }

    /// ACLs whose value is here.
    fn acls(&mut self) {
        for i in 0..self.entries.len() {
            let Entry {
                index, ino, value, ..
            } = self.entries[i];
            if matches!(index, INDEX_ACCESS | INDEX_DEFAULT)
                && ino == 0
                && let Acl::Malformed(why) = Acl::read(value)
            {
                self.wrong(FindingKind::Acl, || malformed(index, why));
            }
        }
    }

    /// The kernel looks for a name in a block until it meets a greater one.
    fn order(&mut self) {
        let key = |entry: &Entry<'a>| (entry.index, entry.name.len(), entry.name);
        let mut keys: Vec<_> = self.entries.iter().map(key).collect();
        let unsorted = keys
            .windows(2)
            .find(|pair| pair[0] > pair[1])
            .map(|pair| (pair[1].0, pair[1].2));
        if let Some((index, name)) = unsorted
            && self.is_block
        {
            self.wrong(FindingKind::AttributeOrder, || {
                format!("{} stands after a greater name", shown(index, name))
            });
        }
        keys.sort_unstable();
        if let Some(pair) = keys.windows(2).find(|pair| pair[0] == pair[1]) {
            let (index, name) = (pair[0].0, pair[0].2);
            self.wrong(FindingKind::Attribute, || {
                format!("{} is there twice", shown(index, name))
            });
        }
    }
}

fn shown(index: u8, name: &[u8]) -> String {
    let prefix = PREFIXES.get(usize::from(index)).unwrap_or(&"?.");
    format!("{prefix}{}", display_path(name))
}

/// ext4_xattr_hash_entry over the name; some kernels took its bytes as signed.
fn name_hash(name: &[u8], signed: bool) -> u32 {
    name.iter().fold(0, |hash: u32, byte| {
        let byte = match signed {
            true => i32::from(*byte as i8) as u32,
            false => u32::from(*byte),
        };
        hash.rotate_left(5) ^ byte
    })
}

/// The rest of it, over the words of the value.
fn value_hash(name_hash: u32, value: &[u8]) -> u32 {
    value.chunks(4).fold(name_hash, |hash, chunk| {
        let mut word = [0; 4];
        word[..chunk.len()].copy_from_slice(chunk);
        hash.rotate_left(16) ^ u32::from_le_bytes(word)
    })
}
