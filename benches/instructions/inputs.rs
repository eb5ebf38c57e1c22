//! Layers that take more work than others of their size: none may take out of proportion more than
//! one of empty files.

use tar::{EntryType, Header};

/// A layer, and the name of what it is made to be slow at.
pub(crate) struct Input {
    pub(crate) name: &'static str,
    make: fn() -> Vec<u8>,
}

impl Input {
    pub(crate) fn layer(&self) -> Vec<u8> {
        let mut layer = (self.make)();
        layer.resize(layer.len() + 1024, 0);
        layer
    }
}

const fn input(name: &'static str, make: fn() -> Vec<u8>) -> Input {
    Input { name, make }
}

/// The input that the others are compared with.
pub(crate) const EMPTY_FILES: Input = input("empty files", empty_files);

pub(crate) const INPUTS: [Input; 16] = [
    input("a deep path in a PAX record", || deep(1, 0, pax_path)),
    input("a deep path of GNU", || deep(1, 0, gnu_path)),
    input("deep paths that share nothing", || deep(5, 0, pax_path)),
    input("deep paths that share their half", || {
        deep(5, 10_000, pax_path)
    }),
    input("deep paths, over and over", || {
        (0..10)
            .flat_map(|i| pax_path(&named(i % 2, 5000)))
            .collect()
    }),
    input("a hard link to a deep path", deep_link),
    input("hard links that wait in deep directories", waiting_links),
    input("hard links whose way moves", moving_links),
    input(
        "a link to nothing, through another that moves",
        dangling_link,
    ),
    input(
        "a long link to nothing, through another",
        long_dangling_link,
    ),
    input("a chain of links", chain_of_links),
    input("trees that are replaced", replaced_trees),
    input("marks of opaque directories", opaque_directories),
    input("attributes of one directory, one by one", united_attributes),
    input("tiny records", || {
        let records = b"5 a=\n".repeat(20_000);
        [pax(b'x', &records), entry(b'0', b"f")].concat()
    }),
    input("a sparse file of small pieces", sparse_file),
];

fn header(flag: u8, name: &[u8], link: &[u8], size: u64) -> Header {
    let mut header = Header::new_ustar();
    header.set_entry_type(EntryType::new(flag));
    header.set_mode(0o755);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(1_700_000_000);
    header.set_size(size);
    let fields = header.as_old_mut();
    fields.name[..name.len()].copy_from_slice(name);
    fields.linkname[..link.len()].copy_from_slice(link);
    header.set_cksum();
    header
}

fn entry(flag: u8, name: &[u8]) -> Vec<u8> {
    header(flag, name, b"", 0).as_bytes().to_vec()
}

fn link(flag: u8, name: &[u8], target: &[u8]) -> Vec<u8> {
    header(flag, name, target, 0).as_bytes().to_vec()
}

/// An entry with contents.
fn contents(flag: u8, name: &[u8], contents: &[u8]) -> Vec<u8> {
    let header = header(flag, name, b"", contents.len() as u64);
    let mut bytes = [&header.as_bytes()[..], contents].concat();
    bytes.resize(bytes.len().next_multiple_of(512), 0);
    bytes
}

fn record(key: &str, value: &[u8]) -> Vec<u8> {
    let rest = 3 + key.len() + value.len();
    let digits = (1..).find(|digits| (rest + digits).to_string().len() == *digits);
    let len = rest + digits.unwrap_or_default();
    [format!("{len} {key}=").as_bytes(), value, b"\n"].concat()
}

fn pax(flag: u8, records: &[u8]) -> Vec<u8> {
    contents(flag, b"PaxHeaders/x", records)
}

fn pax_path(path: &[u8]) -> Vec<u8> {
    [pax(b'x', &record("path", path)), entry(b'0', b"f")].concat()
}

fn gnu_path(path: &[u8]) -> Vec<u8> {
    [contents(b'L', b"././@LongLink", path), entry(b'0', b"f")].concat()
}

fn empty_files() -> Vec<u8> {
    (0..5000)
        .flat_map(|i| entry(b'0', format!("d{}/file-{i:06}", i % 25).as_bytes()))
        .collect()
}

/// A path of so many directories below one of a number.
fn named(number: usize, depth: usize) -> Vec<u8> {
    [number.to_string().as_bytes(), &b"/a".repeat(depth)].concat()
}

/// Paths of together 50,000 directories, below so many that they share.
fn deep(paths: usize, shared: usize, entry: fn(&[u8]) -> Vec<u8>) -> Vec<u8> {
    (0..paths)
        .flat_map(|i| entry(&[b"s/".repeat(shared), named(i, 50_000 / paths)].concat()))
        .collect()
}

fn deep_link() -> Vec<u8> {
    let path = named(0, 20_000);
    let link = [pax(b'x', &record("linkpath", &path)), entry(b'1', b"l")];
    [link.concat(), pax_path(&path)].concat()
}

fn waiting_links() -> Vec<u8> {
    let target = |i| [&named(i, 40)[..], b"/t"].concat();
    let links = (0..500).flat_map(|i| link(b'1', format!("l{i}").as_bytes(), &target(i)));
    let targets = (0..500).flat_map(|i| entry(b'0', &target(i)));
    links.chain(targets).collect()
}

fn moving_links() -> Vec<u8> {
    let mut layer = [entry(b'5', b"d"), link(b'2', b"s", b"e")].concat();
    for i in 0..500 {
        layer.extend(link(
            b'1',
            format!("l{i}").as_bytes(),
            format!("s/t{i}").as_bytes(),
        ));
    }
    for i in 0..501 {
        layer.extend(link(b'2', b"s", if i % 2 == 0 { b"d" } else { b"e" }));
    }
    for i in 0..500 {
        layer.extend(entry(b'0', format!("d/t{i}").as_bytes()));
    }
    layer
}

/// As much as the bound on following links allows at first.
fn long_dangling_link() -> Vec<u8> {
    let target = [&b"r"[..], &b"/a".repeat(990)].concat();
    let mut layer = [
        contents(b'K', b"././@LongLink", &target),
        link(b'2', b"s", b"x"),
    ]
    .concat();
    for i in 0..2 {
        layer.extend(link(b'2', b"r", i.to_string().as_bytes()));
        layer.extend(entry(b'0', b"s/f"));
    }
    layer
}

/// As much as it allows with each entry.
fn dangling_link() -> Vec<u8> {
    let mut layer = link(b'2', b"s", &[&b"r"[..], &b"/a".repeat(6)].concat());
    for i in 0..500 {
        layer.extend(link(b'2', b"r", i.to_string().as_bytes()));
        layer.extend(entry(b'0', b"s/f"));
    }
    layer
}

fn chain_of_links() -> Vec<u8> {
    let mut layer = [entry(b'5', b"d"), link(b'2', b"l0", &b"d/../".repeat(12))].concat();
    for i in 1..500 {
        let before = format!("l{}", i - 1);
        let target = if i % 100 == 0 { "d" } else { &before };
        layer.extend(link(b'2', format!("l{i}").as_bytes(), target.as_bytes()));
        layer.extend(entry(b'0', format!("l{i}/f{i}").as_bytes()));
    }
    layer
}

fn replaced_trees() -> Vec<u8> {
    let mut layer = Vec::new();
    for i in 0..500 {
        layer.extend(entry(b'0', &named(i % 2, 40)));
        layer.extend(entry(b'0', (i % 2).to_string().as_bytes()));
        layer.extend(entry(b'5', (i % 2).to_string().as_bytes()));
    }
    layer
}

fn opaque_directories() -> Vec<u8> {
    (0..1000)
        .flat_map(|i| entry(b'0', format!("d{i}/.wh..wh..opq").as_bytes()))
        .collect()
}

fn united_attributes() -> Vec<u8> {
    let attribute = |i| format!("SCHILY.xattr.user.{}", i % 140);
    let records = (0..400).map(|i: u32| record(&attribute(i), i.to_string().as_bytes()));
    records
        .flat_map(|record| [pax(b'x', &record), entry(b'5', b"d")].concat())
        .collect()
}

fn sparse_file() -> Vec<u8> {
    const PIECES: u32 = 10_000;
    let map: Vec<_> = (0..PIECES).map(|i| format!("{},1", i * 4096)).collect();
    let records = [
        record("GNU.sparse.name", b"f"),
        record("GNU.sparse.size", (PIECES * 4096).to_string().as_bytes()),
        record("GNU.sparse.numblocks", PIECES.to_string().as_bytes()),
        record("GNU.sparse.map", map.join(",").as_bytes()),
    ];
    let data = vec![1; PIECES as usize];
    [pax(b'x', &records.concat()), contents(b'0', b"f", &data)].concat()
}
