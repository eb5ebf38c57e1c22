//! The directories of a tree to blocks on disk.

use super::area::{Area, BlockSink};
use super::checksum;
use super::dir::{self, Directory};
use super::extent::{Extent, ExtentRoot, ExtentTree};
use super::format::{BLOCK_SIZE, EXTENT_MAX_LEN};
use super::hash::half_md4;
use super::hcsshim;
use super::identity::Identity;
use super::inode::Body;
use super::parts::{self, Crew, PART_BLOCKS};
use super::tree::{Ino, Tree};
use super::writer::Writer;
use crate::error::{Error, Result};

/// The blocks of a directory.
pub(super) struct DirBlocks {
    pub root: ExtentRoot,
    pub count: u64,
    pub indexed: bool,
}

impl Default for DirBlocks {
    fn default() -> Self {
        Self {
            root: ExtentRoot::Empty,
            count: 0,
            indexed: false,
        }
    }
}

/// The most directories that one task lays out, and names in them.
const DIRECTORIES_AT_A_TIME: usize = PART_BLOCKS;
const NAMES_AT_A_TIME: usize = 1 << 12;

/// Whether a directory is too much for one task, so that several make its blocks.
fn is_large(tree: &Tree, ino: Ino) -> bool {
    names(tree, ino) > NAMES_AT_A_TIME
}

fn names(tree: &Tree, ino: Ino) -> usize {
    tree.dir(ino).map_or(0, |dir| dir.names as usize)
}

/// Directories that stand one behind the other, and their blocks.
struct DirPart<'t> {
    dirs: Vec<(Ino, Directory<'t>)>,
    blocks: Vec<u8>,
}

impl<'t> DirPart<'t> {
    /// Divides directories that are not large among tasks.
    fn divide<'d>(tree: &Tree, mut dirs: &'d [Ino]) -> Vec<&'d [Ino]> {
        let mut parts = Vec::new();
        while !dirs.is_empty() {
            let mut sum = 0;
            let fits = |ino: &&Ino| {
                sum += names(tree, **ino);
                sum <= NAMES_AT_A_TIME
            };
            let most = &dirs[..dirs.len().min(DIRECTORIES_AT_A_TIME)];
            let count = most.iter().take_while(fits).count();
            // The first one fits by itself.
            let (part, later) = dirs.split_at(count.max(1));
            parts.push(part);
            dirs = later;
        }
        parts
    }

    /// Makes the blocks in a buffer that is all zero.
    fn make(inos: &[Ino], mut blocks: Vec<u8>, lay_out: impl Fn(Ino) -> Directory<'t>) -> Self {
        let dirs: Vec<_> = inos.iter().map(|ino| (*ino, lay_out(*ino))).collect();
        let count: u64 = dirs.iter().map(|(_, dir)| dir.blocks()).sum();
        let len = count as usize * BLOCK_SIZE;
        if blocks.capacity() < len {
            // To grow may take twice as much.
            blocks = Vec::with_capacity(len);
        }
        if blocks.len() < len {
            blocks.resize(len, 0);
        }
        let mut rest = &mut blocks[..];
        for (_, dir) in &dirs {
            let (own, later) = rest.split_at_mut(dir.blocks() as usize * BLOCK_SIZE);
            for (number, block) in own.chunks_exact_mut(BLOCK_SIZE).enumerate() {
                dir.fill(number, block);
            }
            rest = later;
        }
        Self { dirs, blocks }
    }

    /// Writes the directories, to whose blocks `place` gives a place each.
    fn write<S: BlockSink>(
        &self,
        area: &mut Area<S>,
        mut place: impl FnMut(&mut Area<S>, Ino, &Directory<'t>) -> Result<u32>,
    ) -> Result<()> {
        // Adjacent in memory and, later, on disk.
        let (mut start, mut run) = (0, 0..0);
        for (ino, dir) in &self.dirs {
            let at = place(area, *ino, dir)?;
            if start as usize + run.len() / BLOCK_SIZE != at as usize {
                area.sink.write(start.into(), &self.blocks[run.clone()])?;
                (start, run.start) = (at, run.end);
            }
            run.end += dir.blocks() as usize * BLOCK_SIZE;
        }
        area.sink.write(start.into(), &self.blocks[run])
    }

    /// Gives the buffer back, all zero: of most directories few bytes of the block are used.
    fn into_zeros(self) -> Vec<u8> {
        let Self { dirs, mut blocks } = self;
        let mut rest = &mut blocks[..];
        for (_, dir) in &dirs {
            let (own, later) = rest.split_at_mut(dir.blocks() as usize * BLOCK_SIZE);
            dir.clear(own);
            rest = later;
        }
        blocks
    }
}

/// Writes the blocks of a large directory.
fn write_large(
    crew: Crew<'_>,
    sink: &mut impl BlockSink,
    start: u32,
    dir: &Directory<'_>,
) -> Result<()> {
    let blocks = dir.blocks() as usize;
    let firsts: Vec<_> = (0..blocks).step_by(PART_BLOCKS).collect();
    parts::write(crew, sink, &firsts, |first, buffer| {
        buffer.clear();
        buffer.resize(PART_BLOCKS.min(blocks - first) * BLOCK_SIZE, 0);
        for (number, block) in (*first..).zip(buffer.chunks_exact_mut(BLOCK_SIZE)) {
            dir.fill(number, block);
        }
        Ok(u64::from(start) + *first as u64)
    })
}

impl<S: BlockSink> Writer<S> {
    /// Writes all directories; answers their blocks, by [`Body::Directory`]'s index, and the
    /// most levels of a hash tree.
    // Counted by benches/instructions.
    #[inline(never)]
    pub(super) fn write_directories(
        &mut self,
        identity: &Identity,
        crew: Crew<'_>,
    ) -> Result<(Vec<DirBlocks>, usize)> {
        let mut done = Vec::new();
        done.resize_with(self.tree.dir_count(), DirBlocks::default);
        let mut levels = 0;
        let profile = self.config.profile;
        let all: Vec<_> = match profile.hashed_directories {
            true => self.tree.directories().map(|(ino, _)| ino).collect(),
            false => hcsshim::directory_order(&self.tree),
        };
        let Self {
            tree, area, seed, ..
        } = self;
        let lay_out = |ino: Ino| match profile.hashed_directories {
            true => directory(tree, ino, *seed, &identity.hash_seed),
            false => plain_directory(tree, ino),
        };
        let mut extra = Vec::new();
        let mut place = |area: &mut Area<S>, ino: Ino, dir: &Directory<'_>| {
            if dir.indirect_levels() > 2 {
                return Err(Error::limit(
                    "a directory with more names than ext4 can index",
                ));
            }
            levels = levels.max(dir.indirect_levels());
            let start = area.reserve(dir.blocks())?;
            // Up to 2^32 blocks were reserved, so the count fits.
            let len = dir.blocks() as u32;
            let root = if len <= EXTENT_MAX_LEN {
                ExtentRoot::One(Extent {
                    logical: 0,
                    len,
                    physical: start,
                })
            } else {
                let mut extents = match profile.checksums {
                    true => ExtentTree::new(*seed, ino.get()),
                    false => ExtentTree::unchecked(),
                };
                extents.push(0, len, start, &mut |node| area.append(node))?;
                let before = area.taken;
                let root = extents.finish(|node| area.append(node))?;
                if area.taken > before {
                    extra.push((ino, area.taken - before));
                }
                root
            };
            if let Body::Directory(index) = tree.node(ino).body {
                let (count, indexed) = (dir.blocks(), dir.is_indexed());
                done[index as usize] = DirBlocks {
                    root,
                    count,
                    indexed,
                };
            }
            Ok(start)
        };
        for dirs in all.split_inclusive(|ino| is_large(tree, *ino)) {
            let (small, large) = match dirs.split_last() {
                Some((last, before)) if is_large(tree, *last) => (before, Some(*last)),
                _ => (dirs, None),
            };
            parts::make_and_write(
                crew,
                &DirPart::divide(tree, small),
                |inos, buffer| Ok(DirPart::make(inos, buffer, lay_out)),
                |part| {
                    part.write(area, &mut place)?;
                    Ok(part.into_zeros())
                },
            )?;
            if let Some(ino) = large {
                let dir = lay_out(ino);
                let start = place(area, ino, &dir)?;
                write_large(crew, &mut area.sink, start, &dir)?;
            }
        }
        for (ino, blocks) in extra {
            tree.node_mut(ino).blocks = blocks;
        }
        Ok((done, levels))
    }
}

/// The blocks of a directory that is a list, in the order of inode numbers.
fn plain_directory(tree: &Tree, ino: Ino) -> Directory<'_> {
    let parent = tree.dir(ino).map_or(ino, |dir| dir.parent).get();
    let mut children = tree.children(ino);
    children.sort_unstable_by_key(|(name, child)| (*child, *name));
    let entry = |(name, child): (_, Ino)| dir::Entry {
        hash: (0, 0),
        ino: child.get(),
        file_type: tree.node(child).entry_type(),
        name,
    };
    let entries = children.into_iter().map(entry).collect();
    Directory::plain(ino.get(), parent, entries)
}

/// The blocks of a directory: in the order of the entries while one block holds them.
fn directory<'a>(tree: &'a Tree, ino: Ino, seed: u32, hash_seed: &[u32; 4]) -> Directory<'a> {
    let dir = tree.dir(ino);
    let parent = dir.map_or(ino, |dir| dir.parent).get();
    let seed = checksum::inode_seed(seed, ino.get());
    let entry = |name: &'a [u8], child: Ino| dir::Entry {
        hash: (0, 0),
        ino: child.get(),
        file_type: tree.node(child).entry_type(),
        name,
    };
    if let Some((name, child)) = dir.and_then(|dir| tree.only_child(dir)) {
        return Directory::of_one(ino.get(), parent, seed, entry(name, child));
    }
    let mut size = 0;
    let mut entries = tree.children_as(ino, |name: &'a [u8], child| {
        size += dir::entry_size(name.len());
        entry(name, child)
    });
    if dir::is_linear(size) {
        return Directory::linear(ino.get(), parent, seed, entries);
    }
    for entry in &mut entries {
        entry.hash = half_md4(hash_seed, entry.name);
    }
    entries.sort_unstable_by_key(|entry| (entry.hash, entry.name));
    Directory::indexed(ino.get(), parent, seed, entries)
}

#[cfg(test)]
mod tests {
    use super::super::inode::{Attributes, Node};
    use super::*;

    /// Notes where blocks go.
    #[derive(Default)]
    struct Notes(Vec<(u64, Vec<u8>)>);

    impl BlockSink for Notes {
        fn write(&mut self, block: u64, data: &[u8]) -> Result<()> {
            self.0.push((block, data.to_vec()));
            Ok(())
        }
    }

    #[test]
    fn adjacent_directories_are_written_at_once() {
        let name = [b'x'; 255];
        let per_block = (BLOCK_SIZE - 12) / dir::entry_size(name.len());
        // Numbers of blocks, and where they go.
        let dirs = [(1, 7), (2, 8), (3, 10), (1, 500), (1, 501), (1, 499)];
        let lay_out = |ino: Ino| {
            let entry = dir::Entry {
                hash: (0, 0),
                ino: ino.get(),
                file_type: 1,
                name: &name,
            };
            let (blocks, _) = dirs[ino.get() as usize - 20];
            Directory::plain(2, 2, vec![entry; per_block * blocks - 1])
        };
        let inos: Vec<_> = (20..26).map(Ino::numbered).collect();
        let part = DirPart::make(&inos, Vec::new(), lay_out);
        let mut area = Area::new(Notes::default(), 1, 1 << 20);
        let place = |_: &mut Area<Notes>, ino: Ino, dir: &Directory<'_>| {
            let (blocks, start) = dirs[ino.get() as usize - 20];
            assert_eq!(dir.blocks(), blocks as u64);
            Ok(start)
        };
        part.write(&mut area, place).unwrap();
        let written: Vec<_> = area
            .sink
            .0
            .iter()
            .filter(|(_, data)| !data.is_empty())
            .collect();
        let places = written
            .iter()
            .map(|(start, data)| (*start, data.len() / BLOCK_SIZE));
        assert_eq!(places.collect::<Vec<_>>(), [(7, 6), (500, 2), (499, 1)]);
        for (ino, (blocks, start)) in (20..).zip(dirs) {
            let dir = lay_out(Ino::numbered(ino));
            for number in 0..blocks {
                let mut block = [0; BLOCK_SIZE];
                dir.fill(number, &mut block);
                let at = u64::from(start) + number as u64;
                let (first, data) = written
                    .iter()
                    .find(|(first, data)| {
                        (*first..first + (data.len() / BLOCK_SIZE) as u64).contains(&at)
                    })
                    .unwrap();
                assert!(
                    data[(at - first) as usize * BLOCK_SIZE..].starts_with(&block),
                    "{at}"
                );
            }
        }
    }

    #[test]
    fn a_buffer_is_used_again_as_it_was_at_first() {
        let inos: Vec<_> = (20..30).map(Ino::numbered).collect();
        let name = [b'x'; 255];
        let part = DirPart::make(&inos, Vec::new(), |ino| {
            let entry = dir::Entry {
                hash: (0, 0),
                ino: ino.get(),
                file_type: 1,
                name: &name[..ino.get() as usize],
            };
            let names = vec![entry; ino.get() as usize * 2];
            match ino.get() {
                20..23 => Directory::of_one(ino.get(), 2, 7, entry),
                23..26 => Directory::linear(ino.get(), 2, 7, names),
                26..28 => Directory::plain(ino.get(), 2, names),
                _ => Directory::indexed(ino.get(), 2, 7, names),
            }
        });
        let used = part.blocks.chunks(BLOCK_SIZE);
        assert!(
            used.into_iter()
                .all(|block| block.iter().any(|byte| *byte != 0))
        );
        let blocks = part.into_zeros();
        assert!(!blocks.is_empty() && blocks.iter().all(|byte| *byte == 0));
    }

    #[test]
    fn tasks_are_of_many_directories_unless_one_is_large() {
        let mut tree = Tree::new();
        let mut dirs = vec![Ino::ROOT];
        for (i, names) in [3_usize, 4096, 1, 4094, 1, 1, 4097].into_iter().enumerate() {
            let dir = tree.add_dir(Ino::ROOT, Attributes::default()).unwrap();
            tree.link(Ino::ROOT, &[b'a' + i as u8], dir).unwrap();
            for name in 0..names {
                let ino = tree
                    .add(Node::new(Attributes::default(), Body::Fifo))
                    .unwrap();
                tree.link(dir, &name.to_le_bytes(), ino).unwrap();
            }
            dirs.push(dir);
        }
        let counts = |dirs: &[Ino]| -> Vec<_> {
            DirPart::divide(&tree, dirs)
                .into_iter()
                .map(<[_]>::len)
                .collect()
        };
        let large: Vec<_> = dirs.iter().map(|ino| is_large(&tree, *ino)).collect();
        let last = dirs.pop().unwrap();
        assert_eq!(large.iter().position(|large| *large), Some(dirs.len()));
        assert_eq!(names(&tree, last), 4097);
        assert_eq!(counts(&dirs), [2, 1, 3, 1]);
        assert_eq!(counts(&[]), [0; 0]);
        assert_eq!(counts(&[Ino::ROOT; 130]), [64, 64, 2]);
    }
}
