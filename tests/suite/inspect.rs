//! The inspector, on file systems that mke2fs made and on what is left of them.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use tar2vhd::inspect::{Checks, Inspection, Tally};
use tar2vhd::verify::VerifyOptions;
use tar2vhd::{DiskFormat, ErrorKind, Volume};
use vhd_format::vhd::{self, Footer, Vhd};
use vhd_format::vhdx::{self, Vhdx};

use crate::common::entry::dir;
use crate::common::{layer, oracle};

fn inspect(path: impl AsRef<Path>) -> tar2vhd::Result<Inspection> {
    Volume::open(path)?.inspect()
}

fn inspect_bytes(disk: Vec<u8>) -> tar2vhd::Result<Inspection> {
    Volume::from_bytes(disk)?.inspect()
}

const UUID: &str = "5e1f0b2a-93c4-4d6e-8f70-123456789abc";

/// What mke2fs does unless told otherwise, the same on every machine.
const MKE2FS_CONF: &str = "\
[defaults]
    base_features = sparse_super,large_file,filetype,resize_inode,dir_index,ext_attr
    blocksize = 4096
    inode_size = 256
    inode_ratio = 16384
[fs_types]
    ext4 = {
        features = has_journal,extent,huge_file,flex_bg,metadata_csum,64bit,dir_nlink,extra_isize
    }
";

/// An image of so many KiB with a few files, as mke2fs makes it.
fn image(kib: u32, arguments: &[&str]) -> Option<Vec<u8>> {
    let directory = tempfile::tempdir().unwrap();
    let files = directory.path().join("files");
    fs::create_dir(&files).unwrap();
    for i in 0..20 {
        fs::write(files.join(format!("file{i}")), vec![1; i * 1000]).unwrap();
        fs::create_dir(files.join(format!("directory{i}"))).unwrap();
    }
    let configuration = directory.path().join("mke2fs.conf");
    fs::write(&configuration, MKE2FS_CONF).unwrap();
    let path = directory.path().join("image");
    let output = oracle::run("mke2fs", |command| {
        command
            .env("MKE2FS_CONFIG", configuration)
            .env("E2FSPROGS_FAKE_TIME", "1700000000")
            .args([
                "-q", "-F", "-t", "ext4", "-T", "ext4", "-U", UUID, "-L", "a label",
            ])
            .args(["-E", "lazy_itable_init=0,nodiscard", "-d"])
            .arg(&files)
            .args(arguments)
            .arg(&path)
            .arg(format!("{kib}k"))
    })?;
    assert!(output.status.success(), "{output:?}");
    assert!(output.stderr.is_empty(), "{output:?}");
    Some(fs::read(path).unwrap())
}

/// What dumpe2fs says of an image.
fn dumped(image: &[u8]) -> Option<BTreeMap<String, String>> {
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(&file, image).unwrap();
    let output = oracle::run("dumpe2fs", |command| command.arg("-h").arg(file.path()))?;
    let text = String::from_utf8(output.stdout).unwrap();
    let fields = text.lines().filter_map(|line| line.split_once(':'));
    Some(
        fields
            .map(|(key, value)| (key.to_owned(), value.trim().to_owned()))
            .collect(),
    )
}

/// Images of many shapes.
fn images() -> Vec<Vec<u8>> {
    let shapes: [(u32, &[&str]); 10] = [
        (8192, &["-O", "^has_journal"]),
        (16384, &["-O", "^64bit,metadata_csum_seed,sparse_super2"]),
        (8192, &["-O", "^metadata_csum"]),
        (65536, &["-b", "1024", "-O", "^has_journal,^flex_bg"]),
        (4096, &["-b", "2048", "-I", "128", "-O", "^has_journal"]),
        (65536, &["-I", "1024", "-O", "inline_data"]),
        (65536, &["-O", "bigalloc", "-C", "16384"]),
        (
            65536,
            &["-b", "1024", "-C", "4096", "-O", "bigalloc,^64bit"],
        ),
        (32768, &["-O", "meta_bg,^resize_inode"]),
        (
            16384,
            &["-g", "1024", "-N", "2048", "-O", "uninit_bg,^metadata_csum"],
        ),
    ];
    shapes
        .into_iter()
        .filter_map(|(kib, arguments)| image(kib, arguments))
        .collect()
}

fn has(found: &Inspection, feature: &str) -> bool {
    found
        .file_system
        .features
        .iter()
        .any(|name| name == feature)
}

#[test]
fn agrees_with_dumpe2fs() {
    for image in images() {
        let Some(expected) = dumped(&image) else {
            return;
        };
        let found = inspect_bytes(image.clone()).unwrap();
        let said = &found.file_system;
        for (key, value) in [
            (
                "Filesystem volume name",
                String::from_utf8(said.label.clone()).unwrap(),
            ),
            ("Filesystem features", said.features.join(" ")),
            ("Block size", said.block_size.to_string()),
            ("Block count", said.blocks.to_string()),
            ("Free blocks", said.free_blocks.to_string()),
            ("Inode count", said.inodes.to_string()),
            ("Free inodes", said.free_inodes.to_string()),
            ("Inode size", said.inode_size.to_string()),
            ("Blocks per group", said.blocks_per_group.to_string()),
            ("Inodes per group", said.inodes_per_group.to_string()),
        ] {
            assert_eq!(expected[key], value, "{key}");
        }
        let uuid = uuid::Uuid::from_bytes(said.uuid);
        assert_eq!(uuid.to_string(), UUID);
        assert_eq!(said.created, 1_700_000_000);
        assert_eq!(found.disk.format, DiskFormat::Raw);
        assert_eq!(found.disk.size, image.len() as u64);
    }
}

#[test]
fn finds_nothing_wrong_with_what_is_right() {
    for image in images() {
        let found = inspect_bytes(image).unwrap();
        assert!(found.checks.hold(), "{found:?}");
        assert_eq!(found.problems, [""; 0]);
        let checks = found.checks;
        let groups = u64::from(found.file_system.groups);
        if has(&found, "metadata_csum") {
            assert_eq!(checks.superblock.checked, 1);
            if !has(&found, "meta_bg") {
                assert_eq!(checks.group_descriptors.checked, groups);
                assert!((1..=groups).contains(&checks.block_bitmaps.checked));
                assert!((1..=groups).contains(&checks.inode_bitmaps.checked));
                // The root, lost+found, 40 more.
                assert!((42..60).contains(&checks.inodes.checked), "{found:?}");
                assert!(checks.free_counts.checked >= 4);
            }
        } else {
            assert_eq!(checks.superblock.checked, 0);
            assert_eq!(checks.inodes.checked, 0);
            assert!(checks.free_counts.checked >= 4);
        }
        let readable = !has(&found, "bigalloc");
        assert_eq!(checks.root_directory.checked, u64::from(readable));
    }
}

/// A number in an image.
fn number(image: &[u8], at: usize) -> usize {
    u32::from_le_bytes(image[at..at + 4].try_into().unwrap()) as usize
}

#[test]
fn finds_every_damage() {
    // One group, whose descriptor is in block 1.
    let Some(image) = image(8192, &["-b", "4096", "-O", "^has_journal,^64bit"]) else {
        return;
    };
    let block_bitmap = number(&image, 4096) * 4096;
    let inode_bitmap = number(&image, 4096 + 4) * 4096;
    let inode_table = number(&image, 4096 + 8) * 4096;
    let inode_size = 256;
    type Pick = fn(&Checks) -> Tally;
    let damages: [(usize, Pick); 9] = [
        // The label, then the counts of free blocks and inodes.
        (1024 + 0x78, |checks| checks.superblock),
        (1024 + 0x0c, |checks| checks.free_counts),
        (1024 + 0x10, |checks| checks.free_counts),
        (4096 + 0x0c, |checks| checks.group_descriptors),
        // Its pointer to the inode table leads out.
        (4096 + 0x0b, |checks| checks.group_descriptors),
        (block_bitmap + 5, |checks| checks.block_bitmaps),
        (block_bitmap + 5, |checks| checks.free_counts),
        (inode_bitmap, |checks| checks.inode_bitmaps),
        (inode_bitmap, |checks| checks.free_counts),
    ];
    assert!(inspect_bytes(image.clone()).unwrap().checks.hold());
    for (at, pick) in damages {
        let mut damaged = image.clone();
        damaged[at] ^= 0x10;
        let found = inspect_bytes(damaged).unwrap();
        assert!(pick(&found.checks).failed >= 1, "byte {at}: {found:?}");
        assert!(!found.checks.hold() && !found.problems.is_empty());
    }
    // Any byte of an inode counts.
    for at in 0..inode_size {
        let mut damaged = image.clone();
        damaged[inode_table + 11 * inode_size + at] ^= 0x10;
        let found = inspect_bytes(damaged).unwrap();
        assert_eq!(found.checks.inodes.failed, 1, "byte {at}: {found:?}");
        assert_eq!(found.problems, ["the checksum of inode 12 is wrong"]);
    }
}

/// A field that counts only with a feature that is not set claims nothing: no memory is taken
/// for the groups that a disk of 64 TiB would have.
#[test]
fn fields_without_their_feature_claim_nothing() {
    let image = layer::layer(&[dir("d")]).bytes;
    let sound = inspect_bytes(image.clone()).unwrap();
    // s_blocks_count_hi, s_r_blocks_count_hi and s_free_blocks_count_hi without 64bit,
    // s_first_meta_bg without meta_bg, s_mmp_block without mmp.
    let fields: [(usize, u32); 6] = [
        (0x150, 1),
        (0x150, 7),
        (0x154, u32::MAX),
        (0x158, u32::MAX),
        (0x104, u32::MAX),
        (0x168, u32::MAX),
    ];
    for (field, value) in fields {
        let mut crafted = image.clone();
        crafted[1024 + field..][..4].copy_from_slice(&value.to_le_bytes());
        let sum = !crc32c::crc32c(&crafted[1024..2044]);
        crafted[2044..2048].copy_from_slice(&sum.to_le_bytes());
        let found = inspect_bytes(crafted).unwrap();
        assert_eq!(found, sound, "{field:#x}: {found:#?}");
    }
}

fn with_footer(mut image: Vec<u8>) -> Vec<u8> {
    let footer = Footer::fixed(image.len() as u64, [7; 16])
        .unwrap()
        .with_time_stamp(1000);
    image.extend(footer.to_bytes());
    image
}

#[test]
fn reads_and_checks_the_footer() {
    let Some(image) = image(8192, &[]) else {
        return;
    };
    let disk = with_footer(image.clone());
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(&file, &disk).unwrap();
    let found = inspect(&file).unwrap();
    assert!(found.checks.hold(), "{found:?}");
    assert_eq!(found.checks.footer.checked, 1);
    assert_eq!(found.disk.format, DiskFormat::Vhd);
    assert_eq!(found.disk.size, disk.len() as u64);
    assert_eq!(found.disk.virtual_size, image.len() as u64);
    let footer = found.disk.vhd.unwrap();
    assert_eq!(footer.original_size, image.len() as u64);
    assert_eq!(footer.unique_id, [7; 16]);
    assert_eq!(footer.creator, *b"win ");
    assert_eq!(footer.created, 946_685_800);

    let mut damaged = disk.clone();
    let last = damaged.len() - 1;
    damaged[last] ^= 1;
    let found = inspect_bytes(damaged).unwrap();
    assert_eq!(found.checks.footer.failed, 1);
    assert_eq!(found.disk.vhd, None);
    assert_eq!(found.disk.format, DiskFormat::Vhd);
    assert!(found.problems[0].contains("checksum"), "{found:?}");

    // The footer of a disk of another size.
    let mut longer = image.clone();
    longer.resize(image.len() + 512, 0);
    longer.extend(&disk[image.len()..]);
    let found = inspect_bytes(longer).unwrap();
    assert_eq!(found.checks.footer.failed, 1);
    assert!(found.disk.vhd.is_some());
}

/// The image in a disk of each format that has structures of its own.
fn wrapped(image: &[u8]) -> [(DiskFormat, Vec<u8>); 4] {
    let size = image.len() as u64;
    let vhd = |parameters| {
        let mut disk = Vhd::create(Vec::new(), &parameters).unwrap();
        disk.write_at(0, image).unwrap();
        disk.close().unwrap()
    };
    let vhdx = |fixed| {
        let parameters = vhdx::Parameters::new(size).block_size(1 << 20).fixed(fixed);
        let mut disk = Vhdx::create(Vec::new(), &parameters).unwrap();
        disk.write_at(0, image).unwrap();
        disk.close().unwrap()
    };
    [
        (DiskFormat::Vhd, vhd(vhd::Parameters::fixed(size, [7; 16]))),
        (
            DiskFormat::VhdDynamic,
            vhd(vhd::Parameters::dynamic(size, [7; 16]).block_size(512 << 10)),
        ),
        (DiskFormat::Vhdx, vhdx(false)),
        (DiskFormat::VhdxFixed, vhdx(true)),
    ]
}

#[test]
fn looks_into_every_format() {
    let Some(image) = image(8192, &[]) else {
        return;
    };
    let raw = inspect_bytes(image.clone()).unwrap();
    assert_eq!(raw.checks.structures, Tally::default());
    for (format, disk) in wrapped(&image) {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(&file, &disk).unwrap();
        let found = inspect(&file).unwrap();
        assert_eq!(
            (found.disk.format, found.disk.size),
            (format, disk.len() as u64)
        );
        assert_eq!(found.file_system, raw.file_system);
        assert!(found.checks.hold(), "{found:?}");
        let checks = |found: &Inspection| {
            let mut checks = found.checks;
            (checks.footer, checks.structures) = Default::default();
            checks
        };
        assert_eq!(checks(&found), checks(&raw));
        let structures = match format {
            DiskFormat::Vhd => 0,
            DiskFormat::VhdDynamic => 1 + 16,
            _ => 4 + 8,
        };
        assert_eq!(found.checks.structures.checked, structures);
    }
}

#[test]
fn finds_damage_in_the_format_and_below_it() {
    let Some(image) = image(8192, &["-O", "^has_journal"]) else {
        return;
    };
    let [_, (_, vhd), (_, vhdx), _] = wrapped(&image);
    let damaged = |disk: &[u8], at: usize| {
        let mut disk = disk.to_vec();
        disk[at] ^= 0x10;
        inspect_bytes(disk).unwrap()
    };
    // The copy of the footer, a header, a region table.
    for (disk, at) in [(&vhd, 20), (&vhdx, 64 << 10), (&vhdx, 256 << 10)] {
        let found = damaged(disk, at);
        assert_eq!(found.checks.structures.failed, 1, "{found:?}");
        assert_eq!(found.problems.len(), 1);
        assert_eq!(found.checks.superblock.failed, 0);
    }
    // The label.
    let label = vhdx.windows(7).position(|at| at == b"a label").unwrap();
    let found = damaged(&vhdx, label);
    assert_eq!(found.checks.superblock.failed, 1, "{found:?}");
    assert_eq!(found.checks.structures.failed, 0);

    // The table of blocks: the first one has its file system, so let the last one be lost.
    let mut disk = vhdx;
    let bat = u64::from_le_bytes(disk[(192 << 10) + 32..][..8].try_into().unwrap()) as usize;
    let entry = &mut disk[bat + 7 * 8..][..8];
    entry.copy_from_slice(&((1 << 40) | 6_u64).to_le_bytes());
    let found = inspect_bytes(disk).unwrap();
    assert_eq!(found.checks.structures.failed, 1, "{found:?}");
    assert!(found.problems[0].contains("past the end"), "{found:?}");
}

/// The footer of a dynamic disk.
fn dynamic_footer() -> [u8; 512] {
    let mut footer = Footer::fixed(1 << 30, [7; 16]).unwrap().to_bytes();
    footer[16..24].copy_from_slice(&512_u64.to_be_bytes());
    footer[60..64].copy_from_slice(&3_u32.to_be_bytes());
    footer[64..68].fill(0);
    let sum: u32 = footer.iter().map(|&byte| u32::from(byte)).sum();
    footer[64..68].copy_from_slice(&(!sum).to_be_bytes());
    footer
}

#[test]
fn other_things_are_refused() {
    let kind = |bytes: Vec<u8>| inspect_bytes(bytes).unwrap_err().kind();
    for len in [0, 1, 511, 512, 1024, 2047, 2048, 10_000] {
        assert_eq!(kind(vec![0; len]), ErrorKind::InvalidDisk, "{len}");
    }
    assert_eq!(kind(with_footer(vec![0; 512])), ErrorKind::InvalidDisk);
    assert_eq!(kind(b"vhdxfile and more".to_vec()), ErrorKind::InvalidDisk);
    assert_eq!(kind(dynamic_footer().to_vec()), ErrorKind::InvalidDisk);
    // A good disk with nothing on it.
    assert_eq!(
        kind(wrapped(&[0; 4096])[1].1.clone()),
        ErrorKind::InvalidDisk
    );

    let directory = tempfile::tempdir().unwrap();
    for name in ["", "absent"] {
        let error = inspect(directory.path().join(name)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Input);
    }
    let empty = directory.path().join("empty");
    fs::write(&empty, "").unwrap();
    assert_eq!(inspect(&empty).unwrap_err().kind(), ErrorKind::InvalidDisk);
    #[cfg(unix)]
    assert_eq!(inspect("/dev/null").unwrap_err().kind(), ErrorKind::Input);

    // A file system that was cut short.
    let Some(image) = image(1024, &["-O", "^has_journal"]) else {
        return;
    };
    assert!(inspect_bytes(image.clone()).is_ok());
    assert_eq!(
        kind(image[..image.len() - 1].to_vec()),
        ErrorKind::InvalidDisk
    );
}

/// No bytes make the inspector panic, run on or take memory.
#[test]
fn damage_does_no_harm() {
    let mut random = 88_172_645_463_325_252_u64;
    let mut random = move |below: usize| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        random as usize % below
    };
    let interesting = [0, 1, 2, 7, 0x10, 0x7f, 0x80, 0xff];
    let (mut refused, mut described) = (0, 0);
    for image in [
        image(1024, &["-b", "1024", "-O", "^has_journal"]),
        image(4096, &["-O", "^has_journal,bigalloc", "-C", "8192"]),
    ] {
        let Some(image) = image else { return };
        let block_size = 1024 << image[1024 + 0x18];
        let descriptors = (1024 / block_size + 1) * block_size;
        for _ in 0..1500 {
            let mut damaged = image.clone();
            for _ in 0..=random(3) {
                let at = match random(4) {
                    0 => descriptors + random(64),
                    1 => random(damaged.len()),
                    _ => 1024 + random(0x160),
                };
                damaged[at] = interesting[random(interesting.len())];
            }
            // Without metadata_csum no sum stands between the damage and what reads it.
            if random(2) == 0 {
                damaged[1024 + 0x65] &= !4;
            }
            match inspect_bytes(damaged) {
                Ok(_) => described += 1,
                Err(error) => {
                    assert!(!error.to_string().is_empty());
                    refused += 1;
                }
            }
        }
    }
    assert!(refused > 200 && described > 200, "{refused} {described}");
}

/// A superblock with so many blocks of 4 KiB, in groups of so many with so many inodes.
fn superblock(blocks: u64, per_group: u32, inodes_per_group: u32) -> [u8; 1024] {
    let mut bytes = [0; 1024];
    let groups = blocks.div_ceil(per_group.into()) as u32;
    let mut put = |at: usize, value: u32| {
        bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
    };
    put(0x0, groups * inodes_per_group);
    put(0x4, blocks as u32);
    put(0x150, (blocks >> 32) as u32);
    put(0x18, 2);
    put(0x20, per_group);
    put(0x28, inodes_per_group);
    put(0x38, 0xef53);
    put(0x4c, 1);
    put(0x58, 256);
    // extents, 64bit; metadata_csum.
    put(0x60, 0x40 | 0x80);
    put(0x64, 0x400);
    // CRC-32C, descriptors of 64 bytes.
    put(0xfc, 64 << 16);
    put(0x174, 1 << 8);
    bytes
}

/// A disk can say that it is much larger than its file.
#[test]
fn an_error_names_the_file_that_the_disk_was_opened_from() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("disk");
    std::fs::write(&path, [0; 1 << 20]).unwrap();
    for volume in [Volume::open(&path), Volume::open_raw(&path)] {
        let volume = volume.unwrap();
        let errors = [
            volume.inspect().unwrap_err(),
            volume.verify(&VerifyOptions::new()).unwrap_err(),
        ];
        for error in errors {
            assert_eq!(error.file(), Some(&*path), "{error}");
        }
    }
    let error = inspect_bytes(vec![0; 1 << 20]).unwrap_err();
    assert_eq!(error.file(), None, "{error}");
}

#[test]
fn claims_of_a_small_file_do_not_keep_it_busy() {
    let disk = |size: u64, pieces: &[(u64, Vec<u8>)]| {
        let parameters = vhdx::Parameters::new(size).block_size(64 << 20);
        let file = tempfile::tempfile().unwrap();
        let mut disk = Vhdx::create(file, &parameters).unwrap();
        for (offset, bytes) in pieces {
            disk.write_at(*offset, bytes).unwrap();
        }
        let mut bytes = Vec::new();
        let mut file = disk.close().unwrap();
        std::io::Seek::rewind(&mut file).unwrap();
        std::io::Read::read_to_end(&mut file, &mut bytes).unwrap();
        inspect_bytes(bytes).unwrap()
    };
    // Two thousand million groups, whose descriptors are a hole.
    let found = disk(64 << 40, &[(1024, superblock(1 << 34, 8, 1).to_vec())]);
    assert!(
        found.checks.group_descriptors.failed < 1_000_000,
        "{found:?}"
    );

    // Many groups that share one inode table with all inodes in use.
    let groups = 8192;
    let mut descriptor = [0; 64];
    for (at, block) in [(0, 1024_u32), (4, 1024), (8, 2048)] {
        descriptor[at..at + 4].copy_from_slice(&block.to_le_bytes());
    }
    let pieces = [
        (1024, superblock(32_768 * groups, 32_768, 32_768).to_vec()),
        (4096, descriptor.repeat(groups as usize)),
        (1024 * 4096, vec![0xff; 4096]),
        (2048 * 4096, vec![7; 8 << 20]),
    ];
    let found = disk(1 << 40, &pieces);
    // The file is good for a few of them.
    let inodes = found.checks.inodes;
    assert!(
        (32_768..100 * 32_768).contains(&inodes.failed),
        "{inodes:?}"
    );
    // Descriptors that are wrong, and then ones that are not looked at any more.
    assert_eq!(found.checks.group_descriptors.failed, groups);
}
