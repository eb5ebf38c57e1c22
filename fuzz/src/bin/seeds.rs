//! Writes the seeds of the fuzz targets into the folder given, those of each target into a folder
//! of its name.

// The coverage that everything here is compiled with calls into it.
use libfuzzer_sys as _;
use std::error::Error;
use std::fs;
use std::io::Write;
use std::path::Path;

use flate2::Compression;
use flate2::write::{DeflateEncoder, GzEncoder};
use tar::{Builder, EntryType, Header};
use tar2vhd::disk::MemoryDisk;
use tar2vhd::verity::Verity;
use tar2vhd::{DiskFormat, Options};
use tar2vhd_fuzz::chains;
use tar2vhd_fuzz::convert::Choice;
use tar2vhd_fuzz::tar_blocks::correct_checksums;
use tar2vhd_fuzz::verdict::{CHANGE, CHANGES_MAX};
use tar2vhd_fuzz::virtual_disk::{Sparse, join_chain};
use uuid::Uuid;
use vhd_format::vhdx::Identity;

const TARGETS: [&str; 14] = [
    "chain", "convert", "footer", "hcsshim", "image", "inflate", "lower", "reader", "sparse",
    "verdict", "verify", "verity", "vhd", "vhdx",
];

type Result<T> = std::result::Result<T, Box<dyn Error>>;

fn main() -> Result<()> {
    let folder = std::env::args_os().nth(1).ok_or("usage: seeds FOLDER")?;
    let folder = Path::new(&folder);
    for target in TARGETS {
        fs::create_dir_all(folder.join(target))?;
    }

    for (number, seed) in tar2vhd_fuzz::lower::seeds().into_iter().enumerate() {
        fs::write(folder.join("lower").join(number.to_string()), seed)?;
    }
    let tars = tars()?;
    for (name, tar) in &tars {
        for prefix in [[0, 0], [0x83, 0], [0x64, 0], [0x39, 2]] {
            write_layer(folder, &format!("{name}-{:02x}", prefix[0]), prefix, tar)?;
        }
        write_layer(folder, &format!("{name}-gzip"), [0, 0], &gzip(tar)?)?;
        write_layer(folder, &format!("{name}-zstd"), [0, 0], &zstd(tar)?)?;
    }
    for (name, tar) in &tars {
        for choice in [0, 1, 0x82] {
            let seed = [&[choice], &tar[..]].concat();
            fs::write(
                folder.join("hcsshim").join(format!("{name}-{choice:02x}")),
                seed,
            )?;
        }
    }
    for (version, map) in ["0\n9\n4000\n52\n", "0,9,4000,52", "2\n0\n9\n4000\n52\n"]
        .into_iter()
        .enumerate()
    {
        // Files of 8,192 bytes, of which 61 are data.
        let seed = [&[version as u8, 0, 32, 0, 0, 1], map.as_bytes()].concat();
        fs::write(folder.join("sparse").join(version.to_string()), seed)?;
    }
    let tree = &tars[0].1;
    write_layer(folder, "empty", [0, 1], b"")?;
    write_layer(folder, "no-marker", [0, 0], &tree[..tree.len() - 1024])?;
    write_layer(
        folder,
        "after-marker",
        [0, 0],
        &[tree, &b"rest"[..]].concat(),
    )?;
    let (first, second) = tree.split_at(tree.len() / 3);
    write_layer(
        folder,
        "members",
        [0, 0],
        &[gzip(first)?, gzip(second)?, vec![0; 9]].concat(),
    )?;
    let skippable = b"\x50\x2a\x4d\x18\x03\0\0\0abc".to_vec();
    write_layer(
        folder,
        "frames",
        [0, 0],
        &[zstd(first)?, skippable, zstd(second)?].concat(),
    )?;

    for (name, tar) in &tars {
        // A small limit: the descriptors reserved for it take one block.
        for prefix in [[0, 4], [1, 4], [4, 4]] {
            let input = [&prefix, &tar[..]].concat();
            let (choice, layer) = Choice::split(&input).ok_or("no prefix")?;
            if let Ok((disk, _)) = choice.convert(layer, 1) {
                for target in ["footer", "verify"] {
                    let file = format!("{name}-{}", prefix[0]);
                    fs::write(folder.join(target).join(file), &disk)?;
                }
            }
        }
    }
    for image in 0..32_u8 {
        // Without changes, with one, and with as many as there may be, corrected or not.
        for (changes, corrects) in [(0, 0), (0, 1), (1, 0), (1, 1), (CHANGES_MAX, 1)] {
            let mut seed = vec![image, corrects];
            seed.extend((0..changes * CHANGE).map(|i| 1 << (i % 8)));
            let file = format!("{image}-{changes}-{corrects}");
            for target in ["reader", "verdict"] {
                fs::write(folder.join(target).join(&file), &seed)?;
            }
        }
    }
    write_streams(&folder.join("inflate"), tree)?;
    for (name, seed) in tar2vhd_fuzz::image::seeds() {
        fs::write(folder.join("image").join(name), seed)?;
    }
    for (name, file) in vhds()? {
        fs::write(folder.join("vhd").join(name), Sparse::to_short(&file))?;
    }
    for (name, file) in vhdxs()? {
        fs::write(folder.join("vhdx").join(name), Sparse::to_short(&file))?;
    }
    write_chains(&folder.join("chain"))?;
    write_verity(&folder.join("verity"), tree)?;
    Ok(())
}

/// Disks with their parents, and one that is its own.
fn write_chains(folder: &Path) -> Result<()> {
    use vhd_format::vhd::{Parameters, Vhd};
    use vhd_format::vhdx::{Parameters as VhdxParameters, Vhdx};
    let short = |file: Vec<u8>| Sparse::to_short(&file);
    let mut base = Vhd::create(Vec::new(), &Parameters::fixed(10 << 10, [1; 16]))?;
    base.write_at(0, &[1; 10 << 10])?;
    let vhds = [
        short(chains::vhd([3; 16], [2; 16])?),
        short(chains::vhd([2; 16], [1; 16])?),
        short(base.close()?),
    ];
    let parameters = VhdxParameters::new(4 << 20)
        .block_size(1 << 20)
        .identity(chains::identity(1));
    let mut base = Vhdx::create(Vec::new(), &parameters)?;
    base.write_at(0, &[1; 9_000])?;
    let vhdxs = [
        short(chains::vhdx(3, 2)?),
        short(chains::vhdx(2, 1)?),
        short(base.close()?),
    ];
    for (name, files) in [("vhd", &vhds), ("vhdx", &vhdxs)] {
        // The first asks for the second and that for the third; or the second for itself.
        fs::write(folder.join(name), join_chain(0b1001, files))?;
        fs::write(
            folder.join(format!("{name}-one")),
            join_chain(0, &files[1..]),
        )?;
        fs::write(
            folder.join(format!("{name}-wrong")),
            join_chain(0b0101, files),
        )?;
    }
    let itself = [
        short(chains::vhd([7; 16], [7; 16])?),
        short(chains::vhdx(7, 7)?),
    ];
    for (i, file) in itself.into_iter().enumerate() {
        fs::write(folder.join(format!("loop-{i}")), join_chain(0, &[file]))?;
    }
    Ok(())
}

/// Disks with a hash tree behind their file system, or apart from it.
fn write_verity(folder: &Path, layer: &[u8]) -> Result<()> {
    let options = || Options::new().format(DiskFormat::Raw).max_size(1 << 20);
    let disk = MemoryDisk::new();
    let options_with = options().verity(Verity::new());
    let summary = tar2vhd::convert(layer, &disk, &options_with)?;
    let bytes = disk.into_vec();
    let verity = summary.verity.ok_or("no hash tree")?;
    let seed = |place: u64, apart: u8, bytes: &[u8]| {
        let mut seed = (place as u32).to_le_bytes().to_vec();
        seed.push(apart);
        seed.extend(bytes);
        seed
    };
    let start = verity.hash_offset;
    fs::write(folder.join("behind"), seed(start, 0, &bytes))?;
    fs::write(folder.join("apart"), seed(start, 1, &bytes))?;
    let salted = MemoryDisk::new();
    let salt = options().verity(Verity::new().salt([7; 32]));
    let verity = tar2vhd::convert(layer, &salted, &salt)?.verity;
    let start = verity.ok_or("no hash tree")?.hash_offset;
    fs::write(folder.join("salted"), seed(start, 0, &salted.into_vec()))?;
    Ok(())
}

/// Deflate streams of every kind of block, to be cut into small and large pieces.
fn write_streams(folder: &Path, data: &[u8]) -> Result<()> {
    let few = &data[..data.len().min(600)];
    for (name, data, level) in [("dynamic", data, 9), ("fixed", few, 1), ("stored", few, 0)] {
        let mut encoder = DeflateEncoder::new(Vec::new(), Compression::new(level));
        encoder.write_all(data)?;
        let stream = encoder.finish()?;
        for sizes in [[255, 255], [0, 255], [255, 0], [40, 70]] {
            let seed = [&sizes, &stream[..]].concat();
            fs::write(
                folder.join(format!("{name}-{}-{}", sizes[0], sizes[1])),
                seed,
            )?;
        }
    }
    Ok(())
}

type Named = Vec<(String, Vec<u8>)>;

fn vhds() -> Result<Named> {
    use vhd_format::vhd::{Parameters, Vhd};
    let mut seeds = Named::new();
    for (name, parameters) in [
        ("fixed", Parameters::fixed(10 << 10, [7; 16])),
        (
            "dynamic-4k",
            Parameters::dynamic(60 << 10, [7; 16]).block_size(4 << 10),
        ),
        (
            "dynamic-64k",
            Parameters::dynamic((1 << 20) - 512, [7; 16]).block_size(64 << 10),
        ),
    ] {
        let empty = Vhd::create(Vec::new(), &parameters)?.close()?;
        seeds.push((format!("{name}-empty"), empty));
        let mut disk = Vhd::create(Vec::new(), &parameters)?;
        disk.write_at(5_000, &[1; 600])?;
        let end = disk.virtual_size() - 2;
        disk.write_at(end, &[2; 2])?;
        let file = disk.close()?;
        // The type of a differencing disk, which then names no parent.
        let mut child = file.clone();
        let last = child.len() - 512;
        (child[63], child[last + 63]) = (4, 4);
        seeds.push((format!("{name}-child"), child));
        seeds.push((name.to_owned(), file));
    }
    Ok(seeds)
}

fn vhdxs() -> Result<Named> {
    use vhd_format::vhdx::{Parameters, Vhdx};
    let mut seeds = Named::new();
    for (name, parameters) in [
        ("dynamic", Parameters::new(5 << 20).block_size(1 << 20)),
        (
            "4k-sectors",
            Parameters::new(9 << 30)
                .block_size(1 << 20)
                .logical_sector_size(4096),
        ),
        (
            "large-blocks",
            Parameters::new(64 << 40)
                .block_size(256 << 20)
                .log_size(2 << 20),
        ),
        (
            "fixed",
            Parameters::new(3 << 20).block_size(1 << 20).fixed(true),
        ),
    ] {
        let mut disk = Vhdx::create(
            Vec::new(),
            &parameters.identity(Identity {
                file_write_guid: Uuid::from_u128(1),
                data_write_guid: Uuid::from_u128(2),
                virtual_disk_id: Uuid::from_u128(3),
            }),
        )?;
        if name != "large-blocks" {
            disk.write_at(5_000, &[1; 600])?;
            disk.write_at((2 << 20) - 3, &[2; 6])?;
            disk.write_at(0, &[0; 3])?;
            disk.flush()?;
        }
        let closed = name != "dynamic";
        seeds.push((
            name.to_owned(),
            if closed {
                disk.close()?
            } else {
                disk.into_inner()
            },
        ));
    }
    // A log that was left behind, and the same disk closed.
    let dirty = seeds[0].1.clone();
    let disk = Vhdx::open_writable(dirty)?;
    seeds.push(("replayed".to_owned(), disk.close()?));
    Ok(seeds)
}

fn write_layer(folder: &Path, name: &str, prefix: [u8; 2], layer: &[u8]) -> Result<()> {
    let input = [&prefix, layer].concat();
    let (choice, layer) = Choice::split(&input).ok_or("no prefix")?;
    // A seed that is refused leads nowhere; lower layers that answer at random may refuse.
    if !choice.lower_layers() {
        choice
            .convert(layer, 1)
            .map_err(|error| format!("{name}: {error}"))?;
    }
    fs::write(folder.join("convert").join(name), input)?;
    Ok(())
}

fn gzip(data: &[u8]) -> Result<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(data)?;
    Ok(encoder.finish()?)
}

fn zstd(data: &[u8]) -> Result<Vec<u8>> {
    Ok(zstd::encode_all(data, 3)?)
}

/// A tar under construction; every entry differs in owner, mode and time.
struct Seed(Builder<Vec<u8>>);

impl Seed {
    fn new() -> Self {
        Self(Builder::new(Vec::new()))
    }

    fn header(kind: EntryType, size: usize) -> Header {
        let mut header = Header::new_gnu();
        header.set_entry_type(kind);
        header.set_size(size as u64);
        header.set_mode(0o644);
        header.set_uid(1000);
        header.set_gid(100);
        header.set_mtime(1_700_000_000);
        header
    }

    fn data(mut self, path: &str, data: &[u8]) -> Result<Self> {
        let mut header = Self::header(EntryType::Regular, data.len());
        self.0.append_data(&mut header, path, data)?;
        Ok(self)
    }

    fn empty(mut self, kind: EntryType, path: &str) -> Result<Self> {
        let mut header = Self::header(kind, 0);
        header.set_mode(if kind == EntryType::Directory {
            0o755
        } else {
            0o600
        });
        header.set_device_major(1)?;
        header.set_device_minor(3)?;
        self.0.append_data(&mut header, path, &b""[..])?;
        Ok(self)
    }

    fn link(mut self, kind: EntryType, path: &str, target: &str) -> Result<Self> {
        let mut header = Self::header(kind, 0);
        self.0.append_link(&mut header, path, target)?;
        Ok(self)
    }

    fn pax(mut self, records: &[(&str, &[u8])]) -> Result<Self> {
        self.0.append_pax_extensions(records.iter().copied())?;
        Ok(self)
    }

    /// A header as it is, with whatever follows it.
    fn raw(mut self, kind: u8, path: &str, size: usize, body: &[u8]) -> Result<Self> {
        let mut header = Self::header(EntryType::new(kind), size);
        header.set_path(path)?;
        header.set_cksum();
        self.0.append(&header, body)?;
        Ok(self)
    }

    fn finish(self) -> Result<Vec<u8>> {
        Ok(self.0.into_inner()?)
    }
}

fn tars() -> Result<Vec<(&'static str, Vec<u8>)>> {
    use EntryType::{Block, Char, Continuous, Directory, Fifo, Link, Symlink};
    let long = "n".repeat(200);
    let deep = format!("{}leaf", "d/".repeat(300));
    let mixed: Vec<u8> = (0..20_000u32).map(|i| (i % 251) as u8).collect();
    let mut holes = vec![0; 6 * 4096];
    holes[4096 * 2] = 1;

    let mut many = Seed::new().empty(Directory, "many/")?;
    for i in 0..50 {
        many = many.data(&format!("many/{i:0>80}"), b"")?;
    }
    let mut links = Seed::new().data("f", b"1")?;
    for i in 0..8 {
        links = links.link(
            Link,
            &format!("l{i}"),
            if i % 2 == 0 { "f" } else { "later" },
        )?;
    }
    Ok(vec![
        (
            "tree",
            Seed::new()
                .empty(Directory, "./")?
                .empty(Directory, "a/")?
                .data("a/file", b"some text")?
                .data("a/large", &mixed)?
                .link(Symlink, "a/fast", "file")?
                .link(Symlink, "a/slow", &long)?
                .link(Link, "a/hard", "a/file")?
                .finish()?,
        ),
        (
            "kinds",
            Seed::new()
                .empty(Char, "c")?
                .empty(Block, "b")?
                .empty(Fifo, "p")?
                .empty(Continuous, "7")?
                .finish()?,
        ),
        (
            "whiteouts",
            Seed::new()
                .data("d/.wh.gone", b"")?
                .data("d/.wh..wh..opq", b"")?
                .data("d/kept", b"x")?
                .data(".wh.kept", b"")?
                .data("kept/below", b"x")?
                .data(".wh..wh.plnk/1.2", b"linked")?
                .link(Link, "to", ".wh..wh.plnk/1.2")?
                .finish()?,
        ),
        (
            "again",
            Seed::new()
                .data("x", &mixed)?
                .empty(Directory, "x/")?
                .data("x/y/z", b"1")?
                .data("x", b"2")?
                .link(Symlink, "s", "t/../u")?
                .data("s/v", b"3")?
                .finish()?,
        ),
        ("links", links.data("later", b"2")?.finish()?),
        ("many", many.finish()?),
        (
            "names",
            Seed::new()
                .data(&deep, b"x")?
                .data(&format!("{long}/{long}"), b"")?
                .finish()?,
        ),
        ("holes", Seed::new().data("h", &holes)?.finish()?),
        ("attributes", attributes(&mixed)?),
        (
            "pax",
            Seed::new()
                .pax(&[
                    ("path", b"caf\xc3\xa9"),
                    ("mtime", b"-1.25"),
                    ("atime", b"16000000000.000000001"),
                    ("uid", b"4000000000"),
                    ("size", b"3"),
                ])?
                .raw(b'0', "short", 3, b"abc")?
                .raw(b'g', "global", 16, b"16 comment=abcd\n")?
                .raw(b'V', "label", 0, b"")?
                .raw(b'D', "dump", 6, b"Yname\0")?
                .finish()?,
        ),
        ("sparse", sparse()?),
    ])
}

fn attributes(large: &[u8]) -> Result<Vec<u8>> {
    let acl_v2 = b"\x02\0\0\0\x01\0\x07\0\xff\xff\xff\xff\x04\0\x05\0\xff\xff\xff\xff\x20\0\x05\0\xff\xff\xff\xff";
    Seed::new()
        .pax(&[
            ("SCHILY.xattr.user.small", b"value"),
            (
                "SCHILY.xattr.security.capability",
                b"\x01\0\0\x02\0\x20\0\0\0\0\0\0\0\0\0\0\0\0\0\0",
            ),
            ("LIBARCHIVE.xattr.user.base64", b"AAECAw"),
            ("RHT.security.selinux", b"system_u:object_r:etc_t:s0"),
            (
                "SCHILY.acl.access",
                b"user::rwx,user:7:r--,group::r-x,mask::r-x,other::r-x",
            ),
        ])?
        .data("small", b"x")?
        .pax(&[("SCHILY.xattr.user.block", &large[..3000])])?
        .data("block", b"x")?
        .pax(&[("SCHILY.xattr.user.inode", &large[..9000])])?
        .data("inode", b"x")?
        .pax(&[
            ("SCHILY.xattr.system.posix_acl_access", acl_v2),
            ("SCHILY.acl.default", b"user::rwx,group::r-x,other::r-x"),
        ])?
        .empty(EntryType::Directory, "acl/")?
        .finish()
}

/// Sparse files in the four forms there are, one after the other.
fn sparse() -> Result<Vec<u8>> {
    let seed = Seed::new()
        .pax(&[
            ("GNU.sparse.size", b"100000"),
            ("GNU.sparse.numblocks", b"1"),
            ("GNU.sparse.offset", b"50000"),
            ("GNU.sparse.numbytes", b"4"),
        ])?
        .raw(b'0', "pax00", 4, b"data")?
        .pax(&[
            ("GNU.sparse.name", b"named"),
            ("GNU.sparse.size", b"100000"),
            ("GNU.sparse.map", b"0,2,50000,2"),
        ])?
        .raw(b'0', "pax01", 4, b"data")?;
    let mut map = b"2\n0\n2\n50000\n2\n".to_vec();
    map.resize(512, 0);
    map.extend_from_slice(b"data");
    let seed = seed
        .pax(&[
            ("GNU.sparse.major", b"1"),
            ("GNU.sparse.minor", b"0"),
            ("GNU.sparse.name", b"one"),
            ("GNU.sparse.realsize", b"100000"),
        ])?
        .raw(b'0', "pax10", map.len(), &map)?;

    let mut header = Seed::header(EntryType::GNUSparse, 4);
    header.set_path("old")?;
    let gnu = header.as_gnu_mut().ok_or("not a GNU header")?;
    for (sparse, (offset, length)) in gnu.sparse.iter_mut().zip([(0, 2), (50_000, 2)]) {
        sparse.set_offset(offset);
        sparse.set_length(length);
    }
    gnu.set_real_size(100_000);
    let mut old = header.as_bytes().to_vec();
    correct_checksums(&mut old);
    old.extend_from_slice(b"data");
    old.resize(1024, 0);
    let mut tar = old;
    tar.extend(seed.finish()?);
    Ok(tar)
}
