//! The file system while entries come in, until [`finish`](Writer::finish).

use std::collections::HashMap;

use sha2::{Digest as _, Sha256};

use super::area::{Area, BlockSink};
use super::capacity::Capacity;
use super::checksum;
use super::extent::{Extent, ExtentRoot, ExtentTree};
use super::format::{BLOCK_SIZE, MAX_BLOCKS, S_IFLNK};
use super::geometry::reserved_descriptor_blocks;
use super::inode::{Attributes, Body, FAST_SYMLINK_MAX, Node, Timestamp};
use super::profile::Profile;
use super::sets::{Sets, Stored};
use super::tree::{Ino, Linked, Tree};
use super::xattr::{self, Placement, Reserved, Set, Value};
use crate::error::{Error, Result};

/// Parameters, besides the contents, that shape the bytes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Config {
    /// The most blocks of the file system; descriptors are reserved for all of them.
    pub max_blocks: u64,
    pub profile: &'static Profile,
    /// Writes blocks of zeros that come as data.
    pub keep_zeros: bool,
    /// Keeps small files in their inodes.
    pub inline_data: bool,
    /// The time of the file system itself, in seconds since 1970.
    pub time: u64,
    /// The UUID, if the checksums are to be seeded by it and not by what the superblock says.
    pub seeded_by: Option<[u8; 16]>,
    /// Makes a file system to be written to.
    pub writable: Option<Capacity>,
}

/// A regular file whose contents are coming in.
pub(crate) struct File {
    ino: Ino,
    size: u64,
    /// Bytes received so far.
    at: u64,
    /// Whether data, not just a hole, came for the block that is not full yet.
    dirty: bool,
    /// The block that its end does not fill has its place already.
    ended: bool,
    start: u32,
    /// The number of blocks allocated before its first.
    taken: u32,
    extents: ExtentTree,
    inline: Option<Vec<u8>>,
}

impl<S: BlockSink> Area<S> {
    /// Gives a block of a file, of which `data` is the beginning, the next place and writes it
    /// there, as far as zeros are given a place or written; all but a hole is `dirty`.
    fn put_block(
        &mut self,
        config: &Config,
        file: &mut File,
        logical: u32,
        data: &[u8],
        dirty: bool,
    ) -> Result<()> {
        let written = (dirty && config.keep_zeros) || !is_zero(data);
        if !written && !config.profile.zeros_take_place {
            return Ok(());
        }
        let physical = self.reserve(1)?;
        if written {
            self.sink.write_padded(physical.into(), data)?;
        }
        file.extents
            .push(logical, 1, physical, &mut |node| self.append(node))
    }
}

/// A file system that is being written.
pub(crate) struct Writer<S> {
    /// Of all checksums but the superblock's.
    pub(super) seed: u32,
    pub(super) area: Area<S>,
    pub(super) config: Config,
    pub(super) tree: Tree,
    pub(super) sets: Sets,
    /// Values in inodes of their own, by digest.
    values: HashMap<[u8; 32], Value>,
    /// When the inodes were made of which that is said.
    pub(super) created: HashMap<Ino, Timestamp>,
    /// Blocks of contents that nothing uses any more.
    pub(super) freed: Vec<(u32, u32)>,
    /// Blocks of attributes that have a place and are not written yet: the number of the set
    /// in each inode's.
    pub(super) late_blocks: HashMap<Ino, u32>,
    /// The block of the open file that is not full yet.
    partial: Box<[u8; BLOCK_SIZE]>,
}

/// The most bytes of a file: block numbers in a file have 32 bits, the last is reserved.
const FILE_SIZE_MAX: u64 = (u32::MAX as u64) * BLOCK_SIZE as u64;

impl<S: BlockSink> Writer<S> {
    /// An empty file system: a root of 0755, 0:0 and time 0.
    pub(crate) fn new(sink: S, config: Config) -> Self {
        let max_blocks = config.max_blocks.min(MAX_BLOCKS);
        let (descriptors, gaps, size_option) = match &config.writable {
            Some(capacity) => capacity.layout(max_blocks),
            None => {
                let descriptors = reserved_descriptor_blocks(max_blocks);
                (descriptors, Vec::new(), "max-size")
            }
        };
        let seed = config.seeded_by.as_ref().map(checksum::uuid_seed);
        Self {
            seed: seed.unwrap_or(checksum::SEED),
            area: Area {
                gaps,
                size_option,
                ..Area::new(sink, 1 + descriptors, max_blocks)
            },
            config: Config {
                max_blocks,
                ..config
            },
            tree: Tree::new(),
            sets: Sets::default(),
            values: HashMap::new(),
            created: HashMap::new(),
            freed: Vec::new(),
            late_blocks: HashMap::new(),
            partial: Box::new([0; BLOCK_SIZE]),
        }
    }

    /// Where blocks go.
    pub(crate) fn sink(&self) -> &S {
        &self.area.sink
    }

    /// The names and inodes so far.
    pub(crate) fn tree(&self) -> &Tree {
        &self.tree
    }

    /// Makes a directory without a name, which [`link`](Self::link) gives it in `parent`.
    pub(crate) fn make_dir(&mut self, parent: Ino, attributes: Attributes) -> Result<Ino> {
        self.tree.add_dir(parent, attributes)
    }

    /// Makes the directory that a check of the file system puts into what it finds, unless the
    /// name is taken.
    pub(crate) fn make_lost_and_found(&mut self) -> Result<()> {
        const NAME: &[u8] = b"lost+found";
        if self.tree.lookup(Ino::ROOT, NAME).is_none() {
            let attributes = Attributes::of_root(0o700, self.config.time);
            let ino = self.make_dir(Ino::ROOT, attributes)?;
            self.link(Ino::ROOT, NAME, ino)?;
        }
        Ok(())
    }

    /// Makes a symbolic link without a name; the target has 1 to 4,095 bytes.
    pub(crate) fn make_symlink(&mut self, attributes: Attributes, target: &[u8]) -> Result<Ino> {
        if target.len() <= FAST_SYMLINK_MAX {
            return self.make(attributes, Body::FastSymlink(target.into()));
        }
        let ino = self.make(attributes, NO_BLOCKS)?;
        self.put_target(ino, target)?;
        Ok(ino)
    }

    /// Makes an inode a symbolic link whose target takes a block.
    pub(crate) fn put_target(&mut self, ino: Ino, target: &[u8]) -> Result<()> {
        let mut block = [0; BLOCK_SIZE];
        block[..target.len()].copy_from_slice(target);
        let start = self.area.append(&block)?;
        let root = ExtentRoot::One(Extent {
            logical: 0,
            len: 1,
            physical: start,
        });
        let node = self.tree.node_mut(ino);
        node.body = Body::Blocks { root, start };
        (node.file_type, node.size, node.blocks) = (S_IFLNK, target.len() as u64, 1);
        Ok(())
    }

    /// Makes an inode without contents and without a name.
    pub(crate) fn make(&mut self, attributes: Attributes, body: Body) -> Result<Ino> {
        self.tree.add(Node::new(attributes, body))
    }

    /// Starts a regular file without a name. No other method is called before
    /// [`end_file`](Self::end_file), so that its blocks are adjacent.
    pub(crate) fn begin_file(&mut self, attributes: Attributes, size: u64) -> Result<File> {
        if size > FILE_SIZE_MAX {
            return Err(Error::limit(format!(
                "a file of {size} bytes; ext4 holds files of at most {FILE_SIZE_MAX}"
            )));
        }
        let ino = self.make_file(attributes)?;
        Ok(self.begin_contents(ino, size))
    }

    /// Makes a regular file without contents and without a name.
    pub(crate) fn make_file(&mut self, attributes: Attributes) -> Result<Ino> {
        self.make(attributes, NO_BLOCKS)
    }

    /// Starts the contents of a regular file that has none.
    pub(crate) fn begin_contents(&mut self, ino: Ino, size: u64) -> File {
        File {
            ino,
            size,
            at: 0,
            dirty: false,
            ended: false,
            start: self.area.next,
            taken: self.area.taken,
            extents: self.extent_tree(ino),
            inline: self.is_inline(size).then(Vec::new),
        }
    }

    fn extent_tree(&self, ino: Ino) -> ExtentTree {
        match self.config.profile.checksums {
            true => ExtentTree::new(self.seed, ino.get()),
            false => ExtentTree::unchecked(),
        }
    }

    /// Whether a file of this size stays in its inode.
    pub(crate) fn is_inline(&self, size: u64) -> bool {
        // The room in the inode behind the magic number, the entry and the end of the list.
        let tail = self.config.profile.inode_xattr_size() - 8 - xattr::INLINE_ENTRY_SIZE;
        self.config.inline_data && size <= FAST_INLINE + tail as u64
    }

    /// Appends contents.
    pub(crate) fn write(&mut self, file: &mut File, data: &[u8]) -> Result<()> {
        let mut rest = data;
        if let Some(inline) = &mut file.inline {
            inline.extend_from_slice(rest);
            file.at += rest.len() as u64;
            return Ok(());
        }
        let filled = (file.at % BLOCK_SIZE as u64) as usize;
        if filled > 0 {
            let (head, tail) = rest.split_at(rest.len().min(BLOCK_SIZE - filled));
            self.partial[filled..filled + head.len()].copy_from_slice(head);
            file.dirty |= !head.is_empty();
            file.at += head.len() as u64;
            rest = tail;
            if filled + head.len() < BLOCK_SIZE {
                return Ok(());
            }
            self.end_block(file)?;
        }
        let (whole, tail) = rest.split_at(rest.len() / BLOCK_SIZE * BLOCK_SIZE);
        self.put_blocks(file, whole)?;
        if !tail.is_empty() && file.at + tail.len() as u64 == file.size {
            return self.put_tail(file, tail);
        }
        self.partial[..tail.len()].copy_from_slice(tail);
        file.dirty = !tail.is_empty();
        file.at += tail.len() as u64;
        Ok(())
    }

    /// Appends a hole: bytes that read as zero and need no blocks where whole blocks of
    /// them follow.
    pub(crate) fn skip(&mut self, file: &mut File, len: u64) -> Result<()> {
        if let Some(inline) = &mut file.inline {
            inline.resize(inline.len() + len as usize, 0);
            file.at += len;
            return Ok(());
        }
        let mut rest = len;
        let filled = (file.at % BLOCK_SIZE as u64) as usize;
        if filled > 0 {
            let head = rest.min((BLOCK_SIZE - filled) as u64);
            self.partial[filled..filled + head as usize].fill(0);
            file.at += head;
            rest -= head;
            if filled as u64 + head < BLOCK_SIZE as u64 {
                return Ok(());
            }
            self.end_block(file)?;
        }
        if self.config.profile.zeros_take_place {
            self.put_zeros(file, rest / BLOCK_SIZE as u64)?;
        }
        file.at += rest;
        self.partial[..(rest % BLOCK_SIZE as u64) as usize].fill(0);
        file.dirty = false;
        Ok(())
    }

    /// Gives blocks that are zero, as nothing is written there, a place in a file.
    fn put_zeros(&mut self, file: &mut File, blocks: u64) -> Result<()> {
        let physical = self.area.reserve(blocks)?;
        let logical = (file.at / BLOCK_SIZE as u64) as u32;
        let Self { area, .. } = self;
        // Fewer than 2^32 were left.
        let blocks = blocks as u32;
        file.extents
            .push(logical, blocks, physical, &mut |node| area.append(node))
    }

    /// The block in `partial` ends where the file is now.
    fn end_block(&mut self, file: &mut File) -> Result<()> {
        let last = file.at - 1;
        let logical = (last / BLOCK_SIZE as u64) as u32;
        let data = &self.partial[..=(last % BLOCK_SIZE as u64) as usize];
        let dirty = std::mem::take(&mut file.dirty);
        self.area
            .put_block(&self.config, file, logical, data, dirty)
    }

    /// Appends the end of a file, which does not fill its block.
    fn put_tail(&mut self, file: &mut File, tail: &[u8]) -> Result<()> {
        let logical = (file.at / BLOCK_SIZE as u64) as u32;
        self.area
            .put_block(&self.config, file, logical, tail, true)?;
        file.at += tail.len() as u64;
        file.ended = true;
        Ok(())
    }

    /// Appends whole blocks, all that are not zero in as few writes as they are adjacent.
    fn put_blocks(&mut self, file: &mut File, mut data: &[u8]) -> Result<()> {
        let keep = self.config.keep_zeros;
        while !data.is_empty() {
            let zeros = if keep { 0 } else { leading(data, is_zero) };
            if self.config.profile.zeros_take_place {
                self.put_zeros(file, (zeros / BLOCK_SIZE) as u64)?;
            }
            file.at += zeros as u64;
            let rest = &data[zeros..];
            let len = if keep {
                rest.len()
            } else {
                leading(rest, |block| !is_zero(block))
            };
            let blocks = self.area.adjacent((len / BLOCK_SIZE) as u32);
            let len = blocks as usize * BLOCK_SIZE;
            if len > 0 {
                let physical = self.area.append(&rest[..len])?;
                let logical = (file.at / BLOCK_SIZE as u64) as u32;
                let count = (len / BLOCK_SIZE) as u32;
                let Self { area, .. } = self;
                file.extents
                    .push(logical, count, physical, &mut |node| area.append(node))?;
                file.at += len as u64;
            }
            data = &rest[len..];
        }
        Ok(())
    }

    /// Ends a regular file, which has no name yet.
    pub(crate) fn end_file(&mut self, mut file: File) -> Result<Ino> {
        if file.at != file.size {
            return Err(Error::corrupt(format!(
                "{} bytes of contents where {} were announced",
                file.at, file.size
            )));
        }
        let body = if let Some(inline) = file.inline.take() {
            Body::Inline(inline.into())
        } else {
            let filled = (file.at % BLOCK_SIZE as u64) as usize;
            if filled > 0 && !file.ended {
                self.end_block(&mut file)?;
            }
            let Self { area, .. } = self;
            let root = file.extents.finish(|node| area.append(node))?;
            Body::Blocks {
                root,
                start: file.start,
            }
        };
        let blocks = self.area.taken - file.taken;
        let node = self.tree.node_mut(file.ino);
        (node.size, node.blocks, node.body) = (file.size, blocks, body);
        Ok(file.ino)
    }

    /// Gives an inode a name; what the name stood for before loses it.
    pub(crate) fn link(&mut self, parent: Ino, name: &[u8], ino: Ino) -> Result<Linked> {
        let linked = self.tree.link(parent, name, ino)?;
        if self.tree.has_freed() {
            self.collect_freed();
        }
        Ok(linked)
    }

    /// Takes a name away.
    pub(crate) fn unlink(&mut self, parent: Ino, name: &[u8]) {
        self.tree.unlink(parent, name);
        self.collect_freed();
    }

    /// Frees an inode without a name.
    pub(crate) fn free(&mut self, ino: Ino) {
        self.tree.free(ino);
        self.collect_freed();
    }

    pub(super) fn collect_freed(&mut self) {
        for (_, node) in self.tree.take_freed() {
            let (start, blocks) = node.block_range();
            self.free_blocks(start, blocks);
        }
    }

    /// Frees blocks that were given out one after the other.
    pub(super) fn free_blocks(&mut self, mut start: u32, mut blocks: u32) {
        while blocks > 0 {
            let gap = self.area.gaps.iter().find(|gap| gap.end > start.into());
            let len = gap.map_or(blocks, |gap| {
                u64::from(blocks).min(gap.start.saturating_sub(start.into())) as u32
            });
            match self.freed.last_mut() {
                _ if len == 0 => {}
                Some((last, before)) if *last + *before == start => *before += len,
                _ => self.freed.push((start, len)),
            }
            blocks -= len;
            start = match gap {
                Some(gap) if blocks > 0 => gap.end as u32,
                _ => break,
            };
        }
    }

    /// Sets mode, owner and times. The mode of a symbolic link stays.
    pub(crate) fn set_attributes(&mut self, ino: Ino, attributes: Attributes) {
        let node = self.tree.node_mut(ino);
        let mode = if node.file_type == S_IFLNK {
            node.attributes.mode
        } else {
            attributes.mode
        };
        node.attributes = Attributes { mode, ..attributes };
    }

    /// Says when a file was made, which without that is the mtime.
    pub(crate) fn set_created(&mut self, ino: Ino, created: Option<Timestamp>) {
        match created {
            Some(created) => _ = self.created.insert(ino, created),
            // Few layers say it: most have nothing to forget.
            None if self.created.is_empty() => {}
            None => _ = self.created.remove(&ino),
        }
    }

    /// Marks a directory as opaque.
    pub(crate) fn set_opaque(&mut self, ino: Ino) {
        if let Some(dir) = self.tree.dir_mut(ino) {
            dir.opaque = true;
        }
    }

    /// Says whether no entry has described a directory.
    pub(crate) fn set_implicit(&mut self, ino: Ino, implicit: bool) {
        if let Some(dir) = self.tree.dir_mut(ino) {
            dir.implicit = implicit;
        }
    }

    /// Says that a directory has mode, owner, times and attributes of the layers below.
    pub(crate) fn set_inherited(&mut self, ino: Ino) {
        if let Some(dir) = self.tree.dir_mut(ino) {
            dir.inherited = true;
        }
    }

    /// Drops the extended attributes that a directory has of the layers below.
    pub(crate) fn disinherit(&mut self, ino: Ino) {
        if let Some(dir) = self.tree.dir_mut(ino)
            && std::mem::take(&mut dir.inherited)
        {
            self.clear_xattrs(ino);
        }
    }

    /// Says that no entry has described a directory, and that lower layers have nothing to show
    /// in it.
    pub(crate) fn set_implicit_and_alone(&mut self, ino: Ino) {
        if let Some(dir) = self.tree.dir_mut(ino) {
            (dir.implicit, dir.alone) = (true, true);
        }
    }

    /// See [`Tree::set_hides`].
    pub(crate) fn set_hides(&mut self, parent: Ino, name: &[u8]) {
        self.tree.set_hides(parent, name);
    }

    /// See [`Tree::set_dir_hides`].
    pub(crate) fn set_dir_hides(&mut self, ino: Ino) {
        self.tree.set_dir_hides(ino);
    }

    /// Drops the extended attributes of an inode.
    pub(crate) fn clear_xattrs(&mut self, ino: Ino) {
        self.tree.node_mut(ino).xattrs = 0;
    }

    /// Adds attributes to an inode's, which they replace where the names are equal.
    pub(crate) fn unite_xattrs(&mut self, ino: Ino, incoming: Set) -> Result<()> {
        self.merge_xattrs(ino, incoming, |old, incoming| old.unite(incoming))
    }

    /// Adds those attributes whose names the inode has not.
    pub(crate) fn add_missing_xattrs(&mut self, ino: Ino, incoming: Set) -> Result<()> {
        self.merge_xattrs(ino, incoming, |old, mut incoming| {
            incoming.unite(std::mem::take(old));
            *old = incoming;
        })
    }

    fn merge_xattrs(
        &mut self,
        ino: Ino,
        incoming: Set,
        merge: impl FnOnce(&mut Set, Set),
    ) -> Result<()> {
        if incoming.is_empty() {
            return Ok(());
        }
        let node = self.tree.node(ino);
        let (is_dir, old) = (node.is_dir(), node.xattrs);
        let set = match self.sets.get(old) {
            None => incoming,
            Some(Stored::Live(bytes)) => {
                let mut set = Set::decode(bytes);
                merge(&mut set, incoming);
                set
            }
            Some(Stored::Sealed(_)) => {
                let set = self.fit(incoming, is_dir)?;
                let encoded = set.encode();
                return match self.sets.get(old) {
                    Some(Stored::Sealed(sealed)) if sealed.equals(&encoded) => Ok(()),
                    _ => Err(written_out()),
                };
            }
        };
        self.put_xattrs(ino, set)
    }

    /// Gives an inode the attributes of a set instead of those that it has.
    pub(super) fn put_xattrs(&mut self, ino: Ino, set: Set) -> Result<()> {
        if set.is_empty() {
            self.tree.node_mut(ino).xattrs = 0;
            return Ok(());
        }
        let node = self.tree.node(ino);
        let is_dir = node.is_dir();
        // The kernel before 4.13 takes blocks of values for blocks of a link's target.
        let values_allowed = !matches!(node.body, Body::FastSymlink(_));
        let set = self.fit(set, is_dir)?;
        if !values_allowed && set.value_inodes().next().is_some() {
            return Err(Error::entry(
                "extended attributes of a short symbolic link take more than an inode and a block",
            ));
        }
        let number = self.store(set, is_dir)?;
        if !values_allowed
            && matches!(self.sets.get(number), Some(Stored::Sealed(sealed)) if !sealed.values.is_empty())
        {
            return Err(Error::limit(
                "the extended attributes of all entries take too much memory to keep those of a \
                 short symbolic link in its inode",
            ));
        }
        self.tree.node_mut(ino).xattrs = number;
        Ok(())
    }

    /// The part of an inode that attributes must leave free.
    fn reserved(&self, is_dir: bool) -> Reserved<'static> {
        let bytes = match is_dir {
            true => xattr::OPAQUE_SIZE,
            // The room that a file's contents take in the inode is not known here.
            false if self.config.inline_data => super::format::INODE_XATTR_SIZE,
            false => 0,
        };
        Reserved {
            bytes,
            inline: None,
        }
    }

    /// Moves values to inodes of their own until the rest fits an inode and a block.
    fn fit(&mut self, mut set: Set, is_dir: bool) -> Result<Set> {
        if !set.names_fit() {
            return Err(too_many_attributes());
        }
        let reserved = self.reserved(is_dir);
        while Placement::new(&set, reserved).is_none() {
            self.spill(&mut set)?;
        }
        Ok(set)
    }

    fn spill(&mut self, set: &mut Set) -> Result<()> {
        if set.spill_largest(|bytes| self.write_value(bytes))? {
            return Ok(());
        }
        Err(Error::limit(
            "more extended attributes than an inode and a block can name",
        ))
    }

    /// Keeps a set, or writes it out when too much is kept already; answers its number.
    fn store(&mut self, mut set: Set, is_dir: bool) -> Result<u32> {
        let encoded = set.encode();
        if let Some(number) = self.sets.find(&encoded) {
            return Ok(number);
        }
        let reserved = self.reserved(is_dir);
        let fits_inode = Placement::new(&set, reserved).is_some_and(|place| place.fits_inode());
        if fits_inode || !self.sets.must_seal(&encoded) {
            return Ok(self.sets.insert(encoded, fits_inode));
        }
        loop {
            let next = self.area.next;
            if let Some(block) =
                Placement::in_block(&set).and_then(|place| place.block(self.seed, next, 1))
            {
                let block = self.area.append(&block)?;
                return Ok(self.sets.seal(&set, &encoded, block));
            }
            self.spill(&mut set)?;
        }
    }

    /// Writes a value to an inode of its own, once for equal values.
    fn write_value(&mut self, bytes: &[u8]) -> Result<Value> {
        let digest = Sha256::digest(bytes).into();
        if let Some(value) = self.values.get(&digest) {
            return Ok(value.clone());
        }
        let mut blocks = bytes.to_vec();
        blocks.resize(bytes.len().next_multiple_of(BLOCK_SIZE), 0);
        let start = self.area.append(&blocks)?;
        let len = (blocks.len() / BLOCK_SIZE) as u32;
        let root = ExtentRoot::One(Extent {
            logical: 0,
            len,
            physical: start,
        });
        let hash = checksum::crc32c(self.seed, bytes);
        let attributes = Attributes {
            mode: 0o600,
            ..Attributes::default()
        };
        let mut node = Node::new(attributes, Body::XattrValue { root, start, hash });
        (node.size, node.blocks) = (bytes.len() as u64, len);
        let ino = self.tree.add(node)?.get();
        let value = Value::Inode {
            ino,
            size: bytes.len() as u32,
            hash,
        };
        self.values.insert(digest, value.clone());
        Ok(value)
    }
}

/// The error of a change to attributes that are kept no longer.
pub(super) fn written_out() -> Error {
    Error::limit(
        "extended attributes change that were written out already, because those of all entries \
         take too much memory",
    )
}

fn too_many_attributes() -> Error {
    Error::limit("more extended attributes than an inode and a block can name")
}

/// A regular file without contents.
const NO_BLOCKS: Body = Body::Blocks {
    root: ExtentRoot::Empty,
    start: 0,
};

/// Bytes of inline contents in i_block.
const FAST_INLINE: u64 = super::format::I_BLOCK_SIZE as u64;

/// Bytes of leading blocks that satisfy a condition.
fn leading(data: &[u8], condition: impl Fn(&[u8]) -> bool) -> usize {
    let blocks = data
        .chunks_exact(BLOCK_SIZE)
        .take_while(|block| condition(block));
    blocks.count() * BLOCK_SIZE
}

/// Whether a block is all zero. The first bytes decide of most that are not.
fn is_zero(block: &[u8]) -> bool {
    block
        .chunks(64)
        .all(|chunk| chunk.iter().fold(0, |all, byte| all | byte) == 0)
}
