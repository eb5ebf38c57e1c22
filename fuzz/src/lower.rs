//! From the bytes that the fuzzer gives to layers below a conversion.

use std::sync::LazyLock;

use tar::{Builder, EntryType, Header};
use tar2vhd::disk::MemoryDisk;
use tar2vhd::lower::LowerDisks;
use tar2vhd::verify::{Verdict, VerifyOptions};
use tar2vhd::{DiskFormat, ErrorKind, Options, Volume};

/// Bytes of one change of a good disk: where, and what to exclude-or with.
const CHANGE: usize = 5;
/// The most changes.
const CHANGES: usize = 64;

/// The disks that are changed, from which the first byte chooses.
static GOOD: LazyLock<Vec<Vec<u8>>> = LazyLock::new(|| {
    let raw = || Options::new().format(DiskFormat::Raw);
    [
        raw(),
        raw().inline_data(true),
        raw().writable(tar2vhd::Writable::of_size(4 << 20)),
        Options::new().format(DiskFormat::Vhd),
        Options::new().format(DiskFormat::Vhdx),
    ]
    .map(|options| made(&below(), &options))
    .into()
});

/// A layer that leads into the layers below in every possible way.
static ABOVE: LazyLock<Vec<u8>> = LazyLock::new(above);

/// The layer below the changed disk, parts of which that disk may hide.
static LOWEST: LazyLock<Vec<u8>> =
    LazyLock::new(|| made(&below(), &Options::new().format(DiskFormat::Raw)));

fn made(tar: &[u8], options: &Options) -> Vec<u8> {
    let disk = MemoryDisk::new();
    let options = options.clone().threads(1).max_size(8 << 20);
    tar2vhd::convert(tar, &disk, &options).expect("a good layer");
    disk.into_vec()
}

/// A tar in the making.
struct Tar(Builder<Vec<u8>>);

impl Tar {
    fn add(&mut self, kind: EntryType, path: &str, target: &str, data: &[u8]) {
        let mut header = Header::new_ustar();
        header.set_entry_type(kind);
        header.set_path(path).expect("a short path");
        if !target.is_empty() {
            header.set_link_name(target).expect("a short target");
        }
        header.set_mode(0o755);
        header.set_size(data.len() as u64);
        header.set_cksum();
        self.0.append(&header, data).expect("memory");
    }

    fn xattr(&mut self, name: &str, value: &[u8]) {
        let name = format!("SCHILY.xattr.{name}");
        let record = [(&name[..], value)];
        self.0.append_pax_extensions(record).expect("memory");
    }

    fn finish(self) -> Vec<u8> {
        self.0.into_inner().expect("memory")
    }
}

/// A layer with something of every kind.
pub fn below() -> Vec<u8> {
    let mut tar = Tar(Builder::new(Vec::new()));
    tar.xattr("user.of-directory", b"value");
    tar.add(EntryType::Directory, "dir/", "", b"");
    tar.xattr("user.large", &[7; 3_000]);
    tar.add(EntryType::Regular, "dir/file", "", &[1; 9_000]);
    tar.xattr("user.huge", &[8; 9_000]);
    tar.add(EntryType::Regular, "dir/huge", "", b"x");
    tar.xattr("system.posix_acl_access", ACL);
    tar.add(EntryType::Regular, "dir/tiny", "", b"tiny");
    let mut sparse = vec![0; 40_960];
    sparse[20_000] = 1;
    tar.add(EntryType::Regular, "dir/sparse", "", &sparse);
    tar.add(EntryType::Link, "same", "dir/file", b"");
    tar.add(EntryType::Symlink, "link", "dir", b"");
    let long = "./".repeat(40) + "dir";
    tar.add(EntryType::Symlink, "long", &long, b"");
    tar.add(EntryType::Fifo, "dir/pipe", "", b"");
    tar.add(EntryType::Directory, "dir/deep/deeper/", "", b"");
    tar.add(EntryType::Regular, "dir/deep/deeper/file", "", b"deep");
    // Enough names for a hash tree.
    for n in 0..200 {
        let name = format!("many/a-name-that-takes-room-in-a-block-{n:03}");
        tar.add(EntryType::Fifo, &name, "", b"");
    }
    tar.add(EntryType::Regular, "opaque/.wh..wh..opq", "", b"");
    tar.add(EntryType::Regular, "opaque/file", "", b"");
    tar.add(EntryType::Regular, ".wh.gone", "", b"");
    tar.finish()
}

/// An ACL of a user by number, with a mask.
const ACL: &[u8] = &[
    2, 0, 0, 0, 1, 0, 6, 0, 255, 255, 255, 255, 2, 0, 6, 0, 5, 0, 0, 0, 4, 0, 4, 0, 255, 255, 255,
    255, 16, 0, 6, 0, 255, 255, 255, 255, 32, 0, 0, 0, 255, 255, 255, 255,
];

fn above() -> Vec<u8> {
    let mut tar = Tar(Builder::new(Vec::new()));
    // A link waits while others are bound.
    tar.add(EntryType::Link, "forward", "link/deep/later", b"");
    for (n, target) in [
        "dir/file",
        "dir/huge",
        "dir/tiny",
        "dir/sparse",
        "dir/pipe",
        "same",
        "link",
        "long",
        "link/file",
        "long/deep/deeper/file",
        "many/a-name-that-takes-room-in-a-block-077",
        "opaque/file",
        "link/../dir/./file",
    ]
    .into_iter()
    .enumerate()
    {
        tar.add(EntryType::Link, &format!("links/{n}"), target, b"");
    }
    for parent in ["dir/new", "link/deep/new", "many/new", "gone/new", "long/x"] {
        tar.add(EntryType::Regular, parent, "", b"new");
    }
    tar.add(EntryType::Regular, "dir/deep/later", "", b"later");
    tar.add(EntryType::Regular, "dir/.wh.deep", "", b"");
    tar.add(EntryType::Regular, "many/.wh..wh..opq", "", b"");
    tar.add(EntryType::Regular, "dir", "", b"in the way");
    tar.finish()
}

/// Takes the bytes for a disk, or for changes of a good one, and converts a layer over it.
pub fn exercise(data: &[u8]) {
    let Some((&choice, rest)) = data.split_first() else {
        return;
    };
    let (number, stacked) = (usize::from(choice & 7), choice & 0x80 != 0);
    let disk = match GOOD.get(number) {
        None => rest.to_vec(),
        Some(good) => changed(good, rest),
    };
    let Ok(volume) = Volume::from_bytes(disk) else {
        return;
    };
    let mut volumes = vec![volume];
    if stacked {
        let lowest = Volume::from_bytes(&LOWEST[..]).expect("a good disk");
        volumes.push(lowest);
    }
    let Ok(lower) = LowerDisks::new(volumes) else {
        return;
    };
    let options = Options::new()
        .format(DiskFormat::Raw)
        .max_size(16 << 20)
        .threads(1)
        .lower_layers(lower);
    let above = match choice & 0x40 {
        0 => &ABOVE[..],
        // Without its last entries, which hide much of the rest.
        _ => &ABOVE[..ABOVE.len() - 1024 - 5 * 512],
    };
    let disk = MemoryDisk::new();
    match tar2vhd::convert(above, &disk, &options) {
        Ok(_) => {
            let found = Volume::from_bytes(disk.into_vec())
                .and_then(|disk| disk.verify(&VerifyOptions::new()))
                .expect("a file system");
            assert_eq!(found.verdict(), Verdict::Clean, "{:?}", found.findings);
        }
        Err(error) => assert_ne!(error.kind(), ErrorKind::InvalidOptions, "{error:#}"),
    }
}

/// A good disk with bytes changed as the input says.
fn changed(good: &[u8], changes: &[u8]) -> Vec<u8> {
    let mut disk = good.to_vec();
    for change in changes.chunks_exact(CHANGE).take(CHANGES) {
        let at = change
            .iter()
            .take(4)
            .fold(0, |at, byte| at << 8 | usize::from(*byte));
        let at = at % disk.len();
        disk[at] ^= change[4];
    }
    disk
}

/// Inputs to start from: every good disk changed nowhere, here and there, and as bytes.
pub fn seeds() -> Vec<Vec<u8>> {
    let mut seeds = Vec::new();
    for (number, good) in GOOD.iter().enumerate() {
        for flags in [0, 0x40, 0x80, 0xc0] {
            let choice = number as u8 | flags;
            seeds.push(vec![choice]);
            // A byte of each part of the disk that is in use.
            for at in (1024..good.len().min(1 << 20)).step_by(4096 + 36) {
                if good[at] != 0 {
                    let at = (at as u32).to_be_bytes();
                    seeds.push([&[choice][..], &at, &[1]].concat());
                }
            }
        }
        if good.len() < 1 << 20 {
            seeds.push([&[7][..], good].concat());
        }
    }
    seeds
}
