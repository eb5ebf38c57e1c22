//! The writer by itself: what it writes, ext4-view reads back.

use ext4_view::{Ext4, FileType};

use super::area::BlockSink;
use super::format::BLOCK_SIZE;
use super::identity::Identity;
use super::inode::{Attributes, Body};
use super::parts::Crew;
use super::tree::Ino;
use super::writer::{Config, Writer};
use super::xattr::{Attribute, Set, Value};
use crate::error::Result;

#[derive(Default)]
struct Memory(Vec<u8>);

impl BlockSink for Memory {
    fn write(&mut self, block: u64, data: &[u8]) -> Result<()> {
        let at = block as usize * BLOCK_SIZE;
        assert_eq!(data.len() % BLOCK_SIZE, 0);
        self.0.resize(self.0.len().max(at + data.len()), 0);
        self.0[at..at + data.len()].copy_from_slice(data);
        Ok(())
    }
}

const CONFIG: Config = Config {
    profile: &super::profile::DEFAULT,
    max_blocks: 1 << 20,
    keep_zeros: false,
    inline_data: false,
    time: 0,
    seeded_by: None,
    writable: None,
};
const IDENTITY: Identity = Identity {
    uuid: [7; 16],
    hash_seed: [1, 2, 3, 4],
};

fn writer(config: Config) -> Writer<Memory> {
    Writer::new(Memory::default(), config)
}

fn attributes(mode: u16) -> Attributes {
    Attributes {
        mode,
        ..Attributes::default()
    }
}

fn add_file(writer: &mut Writer<Memory>, name: &[u8], pieces: &[&[u8]]) -> Ino {
    let size = pieces.iter().map(|piece| piece.len() as u64).sum();
    let mut file = writer.begin_file(attributes(0o644), size).unwrap();
    pieces
        .iter()
        .for_each(|piece| writer.write(&mut file, piece).unwrap());
    let ino = writer.end_file(file).unwrap();
    writer.link(Ino::ROOT, name, ino).unwrap();
    ino
}

fn finish(writer: Writer<Memory>) -> Vec<u8> {
    finish_with(Crew::ALONE, writer)
}

fn finish_with(crew: Crew<'_>, writer: Writer<Memory>) -> Vec<u8> {
    let finished = writer.finish(&IDENTITY, crew).unwrap();
    let mut image = finished.sink.0;
    image.resize(finished.blocks as usize * BLOCK_SIZE, 0);
    if let Some(path) = std::env::var_os("TAR2VHD_DUMP") {
        std::fs::write(path, &image).unwrap();
    }
    image
}

fn load(image: Vec<u8>) -> Ext4 {
    Ext4::load(Box::new(image)).unwrap()
}

#[test]
fn contents_come_back_however_they_were_cut() {
    let data: Vec<u8> = (0..100_000u32).map(|i| (i % 251) as u8 + 1).collect();
    for cut in [1, 7, 4095, 4096, 4097, 8192, 99_999] {
        let mut writer = writer(CONFIG);
        let pieces: Vec<_> = data.chunks(cut).collect();
        add_file(&mut writer, b"file", &pieces);
        add_file(&mut writer, b"small", &[&data[..100]]);
        let fs = load(finish(writer));
        assert_eq!(fs.read("/file").unwrap(), data, "cut at {cut}");
        assert_eq!(fs.read("/small").unwrap(), &data[..100]);
    }
}

#[test]
fn zeros_become_holes_unless_kept() {
    let zeros = vec![0; 10 * BLOCK_SIZE];
    for (keep_zeros, blocks) in [(false, 1), (true, 11)] {
        let mut writer = writer(Config {
            keep_zeros,
            ..CONFIG
        });
        let ino = add_file(&mut writer, b"file", &[&zeros[1..], b"\0x"]);
        assert_eq!(writer.tree().node(ino).blocks, blocks);
        let fs = load(finish(writer));
        let read = fs.read("/file").unwrap();
        assert_eq!((read.len(), read[zeros.len()]), (zeros.len() + 1, b'x'));
    }
}

#[test]
fn holes_need_no_blocks() {
    let mut writer = writer(CONFIG);
    let size = 20 * BLOCK_SIZE as u64;
    let mut file = writer.begin_file(attributes(0o644), size).unwrap();
    writer.write(&mut file, b"head").unwrap();
    writer.skip(&mut file, size - 4 - 3).unwrap();
    writer.write(&mut file, b"end").unwrap();
    let ino = writer.end_file(file).unwrap();
    writer.link(Ino::ROOT, b"file", ino).unwrap();
    assert_eq!(writer.tree().node(ino).blocks, 2);
    let read = load(finish(writer)).read("/file").unwrap();
    assert_eq!(
        (&read[..5], &read[size as usize - 4..]),
        (&b"head\0"[..], &b"\0end"[..])
    );
}

#[test]
fn every_type_and_name_is_found() {
    let mut writer = writer(CONFIG);
    let dir = writer.make_dir(Ino::ROOT, attributes(0o755)).unwrap();
    writer.link(Ino::ROOT, b"dir", dir).unwrap();
    for i in 0..3000 {
        let ino = writer.make(attributes(0o600), Body::Fifo).unwrap();
        writer
            .link(dir, format!("fifo-{i}").as_bytes(), ino)
            .unwrap();
    }
    // Of short components: ext4-view takes a target for a path.
    let target = |len: usize| -> Vec<u8> { b"t/".iter().copied().cycle().take(len).collect() };
    for len in [1, 59, 60, 4095] {
        let ino = writer
            .make_symlink(attributes(0o777), &target(len))
            .unwrap();
        writer
            .link(Ino::ROOT, format!("link-{len}").as_bytes(), ino)
            .unwrap();
    }
    let device = Body::CharDevice {
        major: 1,
        minor: 300,
    };
    let ino = writer.make(attributes(0o660), device).unwrap();
    writer.link(Ino::ROOT, b"null", ino).unwrap();
    let fs = load(finish(writer));
    assert_eq!(fs.read_dir("/dir").unwrap().count(), 3002);
    for i in 0..3000 {
        let found = fs
            .symlink_metadata(format!("/dir/fifo-{i}").as_str())
            .unwrap();
        assert_eq!(found.file_type(), FileType::Fifo);
    }
    for len in [1, 59, 60, 4095] {
        let read = fs.read_link(format!("/link-{len}").as_str()).unwrap();
        assert_eq!(read.as_ref(), target(len));
    }
    assert_eq!(
        fs.metadata("/null").unwrap().file_type(),
        FileType::CharacterDevice
    );
}

#[test]
fn attributes_of_every_size_are_placed() {
    let mut writer = writer(CONFIG);
    let mut numbers = Vec::new();
    for (i, len) in [0, 10, 100, 4000].into_iter().enumerate() {
        for copy in 0..3 {
            let ino = add_file(&mut writer, format!("{i}-{copy}").as_bytes(), &[b"x"]);
            let mut set = Set::default();
            let value = Value::Bytes(vec![i as u8; len].into());
            set.insert(Attribute {
                index: 1,
                name: (*b"name").into(),
                value,
            });
            writer.unite_xattrs(ino, set.clone()).unwrap();
            writer.unite_xattrs(ino, set).unwrap();
            numbers.push(writer.tree().node(ino).xattrs);
        }
    }
    writer.set_opaque(Ino::ROOT);
    numbers.dedup();
    assert_eq!(numbers.len(), 4, "equal sets are kept once");
    load(finish(writer));
}

#[test]
fn equal_large_values_share_an_inode() {
    let mut writer = writer(CONFIG);
    for len in [4100, 65_536] {
        let before = writer.tree().last_ino();
        for name in [b"a", b"b", b"c"] {
            let ino = add_file(&mut writer, name, &[]);
            let mut set = Set::default();
            let value = Value::Bytes(vec![7; len].into());
            set.insert(Attribute {
                index: 1,
                name: (*b"name").into(),
                value,
            });
            writer.unite_xattrs(ino, set.clone()).unwrap();
            writer.unite_xattrs(ino, set).unwrap();
        }
        assert_eq!(writer.tree().last_ino(), before + 4);
    }
    finish(writer);
}

#[test]
fn what_is_replaced_is_free() {
    let mut writer = writer(CONFIG);
    let before = finish(self::writer(CONFIG));
    for _ in 0..5 {
        add_file(&mut writer, b"file", &[&[1; 3 * BLOCK_SIZE]]);
    }
    writer.unlink(Ino::ROOT, b"file");
    let after = finish(writer);
    let used = |image: &[u8]| {
        let word = |at: usize| u32::from_le_bytes(image[1024 + at..][..4].try_into().unwrap());
        (word(4) - word(12), word(0) - word(16))
    };
    assert_eq!(used(&before).1, used(&after).1);
    // A block more for the inodes that were given out.
    assert!(
        used(&after).0 - used(&before).0 <= 1,
        "{:?} {:?}",
        used(&before),
        used(&after)
    );
}

/// More names than one task takes, of several parts of blocks, between directories with few.
#[test]
fn large_and_small_directories_are_the_same_to_any_crew() {
    let counts = [3_usize, 9000, 0, 1, 5000, 2];
    let image = |crew: Crew<'_>| {
        let mut writer = writer(CONFIG);
        for (number, count) in counts.into_iter().enumerate() {
            let dir = writer.make_dir(Ino::ROOT, attributes(0o755)).unwrap();
            let name = format!("dir{number}");
            writer.link(Ino::ROOT, name.as_bytes(), dir).unwrap();
            for file in 0..count {
                let ino = writer.make(attributes(0o644), Body::Fifo).unwrap();
                let name = format!("{file:060}");
                writer.link(dir, name.as_bytes(), ino).unwrap();
            }
        }
        finish_with(crew, writer)
    };
    let alone = image(Crew::ALONE);
    for helpers in [1, 3] {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(helpers).build();
        let pool = pool.unwrap();
        let together = image(Crew::with(&pool));
        assert!(together == alone, "{helpers}");
    }
    let fs = load(alone);
    for (number, count) in counts.into_iter().enumerate() {
        for file in 0..count {
            let path = format!("/dir{number}/{file:060}");
            assert!(fs.exists(path.as_str()).unwrap(), "{path}");
        }
        let entries = fs.read_dir(format!("/dir{number}").as_str()).unwrap();
        assert_eq!(entries.count(), count + 2);
    }
}
