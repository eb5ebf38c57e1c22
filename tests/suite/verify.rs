//! `verify` beside e2fsck: on what others make, and on what was damaged.

mod acl;
mod hostile;
mod special;

use std::collections::BTreeSet;
use std::fs;
use std::sync::OnceLock;

use tar2vhd::Volume;
use tar2vhd::verify::{FindingKind, Verdict, Verification, VerifyOptions};
use tar2vhd::{DiskFormat, Options};

use crate::common::entry::{dir, file, link, symlink};
use crate::common::layer;
use crate::common::oracle::{self, run};
use crate::common::tar::Tar;

fn verified(image: &[u8]) -> Verification {
    Volume::from_bytes(image.to_vec())
        .and_then(|disk| disk.verify(&VerifyOptions::new()))
        .unwrap()
}

fn kinds(found: &Verification) -> BTreeSet<FindingKind> {
    found.findings.iter().map(|finding| finding.kind).collect()
}

/// Whether e2fsck is content with an image.
fn e2fsck(image: &[u8]) -> Option<bool> {
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(&file, image).unwrap();
    let output = run("e2fsck", |c| c.arg("-fn").arg(file.path()))?;
    Some(output.status.success())
}

/// An image with something of every kind, as mke2fs makes it.
fn mke2fs(kib: u32, arguments: &[&str]) -> Option<Vec<u8>> {
    let directory = tempfile::tempdir().unwrap();
    let files = directory.path().join("files");
    fs::create_dir_all(files.join("d/below")).unwrap();
    for i in 0..120 {
        let name = files.join(format!("d/a-rather-long-name-for-a-file-{i}"));
        fs::write(name, if i < 3 { "contents" } else { "" }).unwrap();
    }
    #[cfg(unix)]
    for (name, target) in [("short", "/x".to_owned()), ("long", "y".repeat(200))] {
        std::os::unix::fs::symlink(target, files.join(name)).unwrap();
    }
    // Fragments: more extents than an inode has room for.
    let mut sparse = vec![0; 640 << 10];
    (0..10).for_each(|i| sparse[i << 16] = 1);
    fs::write(files.join("sparse"), sparse).unwrap();
    fs::hard_link(files.join("sparse"), files.join("hard")).unwrap();
    let path = directory.path().join("image");
    let output = run("mke2fs", |c| {
        c.env("E2FSPROGS_FAKE_TIME", "1700000000")
            .env("MKE2FS_CONFIG", "/dev/null")
            .args(["-q", "-F", "-N", "512", "-I", "256"])
            .args(["-U", "12345678-9abc-def0-1122-334455667788"])
            .args(["-E", "hash_seed=12345678-9abc-def0-1122-334455667788"])
            .arg("-d")
            .arg(&files)
            .args(arguments)
            .arg(&path)
            .arg(format!("{kib}k"))
    })?;
    assert!(output.status.success(), "{arguments:?} {output:?}");
    // Makes hash trees.
    run("e2fsck", |c| c.arg("-fyD").arg(&path))?;
    Some(fs::read(path).unwrap())
}

/// What debugfs makes of an image; it corrects checksums.
fn edited(image: &[u8], commands: &[&str]) -> Option<Vec<u8>> {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    fs::write(at("image"), image).unwrap();
    fs::write(at("value"), [7; 200]).unwrap();
    fs::write(at("commands"), commands.join("\n")).unwrap();
    let output = run("debugfs", |c| {
        c.current_dir(directory.path())
            .args(["-w", "-f", "commands", "image"])
    })?;
    let changed = fs::read(at("image")).unwrap();
    assert!(changed != image, "{commands:?} {output:?}");
    Some(changed)
}

/// The features of ext4 but for the journal and checksums.
const EXT4: &str = "none,extent,flex_bg,filetype,dir_index,ext_attr,sparse_super,large_file,huge_file,\
    dir_nlink,extra_isize";

/// Small blocks without checksums: what is changed is found by what it says.
fn plain() -> Option<&'static [u8]> {
    static IMAGE: OnceLock<Option<Vec<u8>>> = OnceLock::new();
    let image = IMAGE.get_or_init(|| {
        let image = mke2fs(4096, &["-b", "1024", "-g", "2048", "-O", EXT4])?;
        edited(
            &image,
            &[
                "ea_set -f value /d user.first",
                "ea_set -f value /d user.second",
            ],
        )
    });
    image.as_deref()
}

/// The same with block numbers instead of extents.
fn indirect() -> Option<&'static [u8]> {
    static IMAGE: OnceLock<Option<Vec<u8>>> = OnceLock::new();
    let features = EXT4.replace("extent,", "");
    let image = IMAGE.get_or_init(|| mke2fs(2048, &["-b", "1024", "-O", &features]));
    image.as_deref()
}

#[test]
fn what_others_make_is_clean() {
    let all = format!("{EXT4},metadata_csum");
    let with = |more: &str| format!("{all},{more}");
    let variants: Vec<(Vec<&str>, String)> = vec![
        (vec![], all.clone()),
        (vec![], EXT4.into()),
        (vec![], with("64bit,has_journal,metadata_csum_seed")),
        (vec!["-b", "1024"], with("has_journal,resize_inode")),
        (vec!["-b", "2048"], with("inline_data")),
        (vec!["-b", "65536"], all.clone()),
        (vec!["-I", "128"], all.clone()),
        (vec!["-I", "1024"], with("inline_data,ea_inode,large_dir")),
        (vec!["-b", "1024", "-g", "1024"], with("meta_bg")),
        (vec!["-b", "1024", "-g", "2048"], with("sparse_super2")),
        (
            vec!["-b", "1024", "-g", "2048"],
            format!("{EXT4},uninit_bg"),
        ),
        (vec![], "none".into()),
        (
            vec!["-b", "1024"],
            "none,sparse_super,has_journal,dir_index,resize_inode".into(),
        ),
        (vec![], with("has_journal,orphan_file")),
        (
            vec![],
            with("casefold,encrypt,verity,project,stable_inodes"),
        ),
        (vec![], with("mmp")),
    ];
    for (arguments, features) in variants {
        let arguments: Vec<_> = arguments.into_iter().chain(["-O", &features]).collect();
        let Some(image) = mke2fs(16 << 10, &arguments) else {
            return;
        };
        let found = verified(&image);
        assert_eq!(found.verdict(), Verdict::Clean, "{arguments:?} {found:#?}");
        assert_eq!(e2fsck(&image), Some(true), "{arguments:?}");
        assert!(found.examined.names >= 126, "{arguments:?} {found:?}");
    }
}

#[test]
fn what_is_not_understood_is_said_so() {
    let features = format!("{EXT4},bigalloc");
    let Some(image) = mke2fs(16 << 10, &["-O", &features]) else {
        return;
    };
    let found = verified(&image);
    assert_eq!(found.verdict(), Verdict::Undecided, "{found:?}");
    assert_eq!(
        found.unchecked,
        ["anything, because of the feature bigalloc"]
    );

    // EXT4_ENCRYPT_FL, EXT4_CASEFOLD_FL
    let encrypted = mke2fs(4096, &["-O", &format!("{EXT4},encrypt,casefold")])
        .and_then(|image| edited(&image, &["sif /d/below flags 0x40080800"]));
    let Some(image) = encrypted else { return };
    let found = verified(&image);
    assert_eq!(found.verdict(), Verdict::Undecided, "{found:?}");
    let unchecked = ["encrypted files", "directories that fold case"];
    assert_eq!(found.unchecked, unchecked);
}

/// Damage, what it has to be found as, and whether e2fsck sees it.
type Damage = (&'static [&'static str], FindingKind, bool);

#[test]
fn damage_to_fields_is_found_by_its_kind() {
    use FindingKind as F;
    let Some(image) = plain() else { return };
    assert_eq!(verified(image).verdict(), Verdict::Clean);
    let damages: &[Damage] = &[
        (&["ssv r_blocks_count 4000"], F::Superblock, true),
        (&["ssv reserved_gdt_blocks 3"], F::Superblock, true),
        (&["ssv desc_size 24"], F::Superblock, true),
        (&["ssv log_groups_per_flex 32"], F::Superblock, true),
        (&["ssv desc_size 2048"], F::Superblock, true),
        (&["feature casefold"], F::Superblock, true),
        (&["feature orphan_file"], F::Superblock, true),
        (&["ssv state 2"], F::RecordedErrors, false),
        (&["feature has_journal needs_recovery"], F::Journal, true),
        (&["feature needs_recovery"], F::Superblock, true),
        (&["ssv usr_quota_inum 3"], F::Superblock, false),
        (&["ssv grp_quota_inum 4"], F::Superblock, false),
        (&["ssv prj_quota_inum 14"], F::Superblock, true),
        (&["ssv orphan_file_inum 14"], F::Superblock, true),
        (&["ssv mmp_block 14"], F::Superblock, false),
        (
            &["ssv journal_uuid 12345678-9abc-def0-1122-334455667788"],
            F::Journal,
            true,
        ),
        (&["ssv journal_inum 8"], F::Journal, true),
        (&["ssv last_orphan 14"], F::Orphan, false),
        (&["set_bg 0 block_bitmap 99999"], F::GroupDescriptor, true),
        (&["set_bg 1 itable_unused 1"], F::GroupDescriptor, false),
        (&["set_bg 0 free_blocks_count 7"], F::FreeCount, true),
        (&["set_bg 0 used_dirs_count 7"], F::FreeCount, true),
        (&["ssv free_inodes_count 7"], F::FreeCount, false),
        (&["setb 1900"], F::BlockBitmap, true),
        (&["freeb 1"], F::BlockBitmap, true),
        (&["seti <180>"], F::InodeBitmap, true),
        (&["freei <14>"], F::InodeBitmap, true),
        (&["sif /sparse mode 0"], F::Inode, true),
        (&["sif /sparse dtime 1700000000"], F::Inode, true),
        (&["sif /sparse faddr 1"], F::Inode, true),
        (&["sif /sparse extra_isize 33"], F::Inode, true),
        (&["sif /short flags 0x10"], F::Inode, false),
        (&["sif /sparse flags 0x82000"], F::Inode, true),
        // An inode that is reserved, for room for descriptors.
        (&["sif <7> flags 0x1000"], F::Inode, true),
        (&["sif <7> flags 0x40000000"], F::Inode, true),
        (&["sif <7> size 0x80000000000"], F::Size, true),
        (&["sif /sparse size 1000"], F::Size, true),
        (&["sif /d size 1025"], F::Size, true),
        (&["sif /sparse blocks 2"], F::BlockCount, true),
        (&["sif /short size 1"], F::Symlink, true),
        (&["sif /long size 100"], F::Symlink, true),
        (&["sif /sparse block[0] 0"], F::BlockMap, true),
        (&["sif /sparse flags 0"], F::BlockMap, true),
        (&["sif /d/below links_count 5"], F::LinkCount, true),
        (&["sif /sparse links_count 1"], F::LinkCount, true),
        (&["unlink /short"], F::Unreachable, true),
        (&["unlink /d"], F::Unreachable, true),
        (&["clri /short"], F::Name, true),
        (&["link /d /again"], F::Tree, true),
        (&["sif <2> mode 0100644"], F::Tree, true),
        (&["sif /d file_acl 0"], F::BlockBitmap, true),
        (&["sif /d/below flags 0x81000"], F::DirectoryIndex, true),
    ];
    for (commands, kind, seen) in damages {
        let Some(damaged) = edited(image, commands) else {
            return;
        };
        let found = verified(&damaged);
        assert!(
            kinds(&found).contains(kind),
            "{commands:?} is not found as {kind}: {found:#?}"
        );
        assert_eq!(e2fsck(&damaged), Some(!seen), "{commands:?}");
    }
}

fn position(image: &[u8], bytes: &[u8]) -> usize {
    image
        .windows(bytes.len())
        .position(|window| window == bytes)
        .unwrap_or_else(|| panic!("{bytes:?} is not there"))
}

/// Where the entry of a name is.
fn entry(image: &[u8], name: &str, kind: u8) -> usize {
    position(
        image,
        &[&[name.len() as u8, kind], name.as_bytes()].concat(),
    ) - 6
}

/// ext4_xattr_hash_entry
fn xattr_hash(name: &[u8], value: &[u8]) -> u32 {
    let name = name
        .iter()
        .fold(0_u32, |hash, byte| hash.rotate_left(5) ^ u32::from(*byte));
    value.chunks(4).fold(name, |hash, word| {
        hash.rotate_left(16) ^ u32::from_le_bytes(word.try_into().unwrap())
    })
}

/// What a change has to be found as, whether e2fsck sees it, and the change.
type Change<'a> = (FindingKind, bool, &'a dyn Fn(&mut [u8]));

#[test]
fn damage_to_bytes_is_found_by_its_kind() {
    use FindingKind as F;
    let Some(image) = plain() else { return };
    let xattrs = position(image, &[0, 0, 2, 0xEA, 1, 0, 0, 0, 1]);
    // 16 bytes before each name.
    let [first, second] =
        ["first", "second"].map(|name| xattrs + position(&image[xattrs..], name.as_bytes()) - 16);
    let root = position(image, &[0, 0, 0, 0, 1, 8, 0, 0]) - 24;
    let name = "a-rather-long-name-for-a-file-1";
    let at = entry(image, &format!("{name}0"), 1);
    let below = entry(image, "below", 2);
    let backup = 1024 * 2049 + 0x38;
    let cases: &[Change<'_>] = &[
        (F::BackupSuperblock, false, &|b| b[backup] = 0),
        // The second of the groups has the bitmap of the first.
        (F::Layout, true, &|b| b.copy_within(2048..2052, 2048 + 32)),
        (F::DirectoryEntry, true, &|b| b[at + 4] = 9),
        (F::DirectoryEntry, true, &|b| b[at + 9] = b'/'),
        (F::DuplicateName, true, &|b| {
            // In the same block, which a linear search would take for one.
            let other = entry(b, &format!("{name}1"), 1);
            b[other + 8 + name.len()] = b'0';
            let first = entry(b, &format!("{name}0"), 1);
            assert!(first / 1024 == other / 1024 || first != other);
        }),
        (F::FileType, true, &|b| b[at + 7] = 2),
        (F::Name, true, &|b| b[at] = 190),
        (F::Tree, true, &|b| {
            // The `..` of the directory.
            let ino = b[below];
            let dots = position(b, &[ino, 0, 0, 0, 12, 0, 1, 2, b'.', 0, 0, 0]);
            b[dots + 12] = 2;
        }),
        // The root's second hash, its limit, its count, its hash version, its first child.
        (F::DirectoryIndex, true, &|b| {
            b[root + 40..root + 44].fill(0xFE)
        }),
        (F::DirectoryIndex, true, &|b| b[root + 32] += 1),
        (F::DirectoryIndex, true, &|b| b[root + 34] = 1),
        (F::DirectoryIndex, true, &|b| b[root + 28] = 5),
        (F::DirectoryIndex, true, &|b| b[root + 36] = 2),
        (F::Attribute, true, &|b| b[first] = 255),
        (F::Attribute, true, &|b| b[first + 9] = 0xFF),
        (F::Attribute, true, &|b| b[xattrs] = 1),
        (F::AttributeHash, true, &|b| b[second + 12] ^= 1),
        (F::AttributeReferences, true, &|b| b[xattrs + 4] = 2),
        (F::AttributeReferences, true, &|b| b[xattrs + 4] = 0),
        (F::AttributeOrder, false, &|b| {
            // A name of this length that sorts before the shorter one of another index.
            b[second + 1] = 1;
            b[first + 1] = 6;
            let hash = xattr_hash(b"first", &[7; 200]);
            b[first + 12..first + 16].copy_from_slice(&hash.to_le_bytes());
        }),
        (F::BitmapPadding, true, &|b| {
            let bitmap = u32::from_le_bytes(b[2052..2056].try_into().unwrap()) as usize;
            b[bitmap * 1024 + 1023] = 0;
        }),
    ];
    for (number, (kind, seen, damage)) in cases.iter().enumerate() {
        let mut damaged = image.to_vec();
        damage(&mut damaged);
        assert!(damaged != image, "{kind} ({number}) changes nothing");
        let found = verified(&damaged);
        assert!(
            kinds(&found).contains(kind),
            "{kind} ({number}) is not found: {found:#?}"
        );
        assert_eq!(e2fsck(&damaged), Some(!seen), "{kind} ({number})");
    }
}

#[test]
fn blocks_with_two_owners_are_found() {
    let Some(image) = indirect() else { return };
    assert_eq!(verified(image).verdict(), Verdict::Clean);
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(&file, image).unwrap();
    let prefix = "/d/a-rather-long-name-for-a-file-";
    let block = oracle::debugfs(file.path(), &format!("bmap {prefix}1 0"));
    let Some(block) = block else { return };
    // Another file's block, the descriptors, the inode table.
    for block in [block.trim(), "2", "80"] {
        let command = format!("sif {prefix}0 block[0] {block}");
        let Some(damaged) = edited(image, &[&command]) else {
            return;
        };
        let found = verified(&damaged);
        let found_kinds = kinds(&found);
        assert!(
            found_kinds.contains(&FindingKind::SharedBlock),
            "{found:#?}"
        );
        assert_eq!(e2fsck(&damaged), Some(false));
    }
    // A block of block numbers that leads to itself is not followed twice.
    let block = first_indirect(image, "/sparse");
    let mut damaged = image.to_vec();
    let at = block as usize * 1024;
    for slot in damaged[at..at + 1024].chunks_exact_mut(4) {
        slot.copy_from_slice(&block.to_le_bytes());
    }
    let found = verified(&damaged);
    assert!(
        kinds(&found).contains(&FindingKind::SharedBlock),
        "{found:#?}"
    );
}

#[test]
fn damage_to_the_journal_and_to_flexible_groups_is_found() {
    let features = format!("{EXT4},has_journal");
    let Some(image) = mke2fs(8192, &["-b", "1024", "-O", &features]) else {
        return;
    };
    assert_eq!(verified(&image).verdict(), Verdict::Clean);
    let has = |damaged: &[u8], message: &str| {
        let found = verified(damaged);
        let is_there = found.findings.iter().any(|f| f.message.contains(message));
        assert!(is_there, "{message}: {found:#?}");
    };
    for (command, message) in [
        ("sif <8> links_count 0", "has no links"),
        ("ssv journal_inum 0", "names no journal"),
        ("ssv log_groups_per_flex 40", "2^40 groups"),
        ("feature orphan_file", "names no file of orphans"),
        (
            "ssv journal_uuid 12345678-9abc-def0-1122-334455667788",
            "names a journal inside and one outside",
        ),
        (
            "ssv journal_dev 2049",
            "names a journal inside and one outside",
        ),
        (
            "feature ^has_journal needs_recovery",
            "wait for replay, without",
        ),
    ] {
        let Some(damaged) = edited(&image, &[command]) else {
            return;
        };
        has(&damaged, message);
    }
    let journal = position(&image, &[0xC0, 0x3B, 0x39, 0x98, 0, 0, 0, 4]);
    for first in [0, 0xFF] {
        let mut damaged = image.clone();
        damaged[journal + 0x14..journal + 0x18].fill(first);
        has(&damaged, "the journal starts at its block");
    }
}

/// The block of block numbers that an inode has, by what debugfs dumps of i_block.
fn first_indirect(image: &[u8], path: &str) -> u32 {
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(&file, image).unwrap();
    let dump = oracle::debugfs(file.path(), &format!("inode_dump -b {path}")).unwrap();
    // "0060  1c00 0000 2100 0000 …": the offset is octal, the bytes are in the order of the disk.
    let line = dump.lines().find(|line| line.starts_with("0060")).unwrap();
    let digits: String = line.split_whitespace().skip(1).take(2).collect();
    u32::from_str_radix(&digits, 16).unwrap().swap_bytes()
}

/// Images of this crate, with checksums, that differ in where they keep things.
fn own(options: Options) -> Vec<u8> {
    let noise: Vec<u8> = (0..60_000u32).map(|i| ((i * 77) >> 5) as u8).collect();
    let mut entries = vec![
        dir("d"),
        file("d/file", b"contents").xattr("user.large", noise),
        file("d/other", b"others").xattr("user.a", [1; 300]),
        link("again", "d/file"),
        symlink("short", "x"),
        symlink("long", [b'y'; 100]),
    ];
    entries.extend((0..300).map(|i| file(format!("many-names-in-one-directory-{i}"), "")));
    let options = options.format(DiskFormat::Raw).max_size(1 << 30);
    layer::convert(&Tar::of(&entries), &options).unwrap().0
}

#[test]
fn damage_to_values_in_inodes_of_their_own_is_found() {
    use FindingKind as F;
    let image = own(Options::new());
    assert_eq!(verified(&image).verdict(), Verdict::Clean);
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(&file, &image).unwrap();
    // The last of the inodes with EXT4_EA_INODE_FL.
    let value = (11..400).find(|ino| {
        let stat = oracle::debugfs(file.path(), &format!("stat <{ino}>"));
        stat.is_some_and(|stat| stat.contains("Flags: 0x280000"))
    });
    let Some(value) = value else { return };
    let damages = [
        ("flags 0x80000", F::AttributeInode),
        ("size 59999", F::AttributeInode),
        ("version 5", F::AttributeReferences),
        ("atime 5", F::AttributeHash),
        ("links_count 2", F::LinkCount),
    ];
    for (field, kind) in damages {
        let commands = [
            "feature ^read-only".to_owned(),
            format!("sif <{value}> {field}"),
        ];
        let Some(damaged) = edited(&image, &[&commands[0], &commands[1]]) else {
            return;
        };
        let found = verified(&damaged);
        assert!(kinds(&found).contains(&kind), "{field}: {found:#?}");
    }
    // A byte of the value: e2fsck does not read it.
    let noise: Vec<u8> = (0..64_u32).map(|i| ((i * 77) >> 5) as u8).collect();
    let mut damaged = image.clone();
    damaged[position(&image, &noise) + 5] ^= 1;
    let found = verified(&damaged);
    assert_eq!(
        kinds(&found),
        BTreeSet::from([F::AttributeHash]),
        "{found:#?}"
    );
    assert_eq!(e2fsck(&damaged), Some(true));
}

#[test]
fn every_checksum_is_checked() {
    let image = own(Options::new());
    let blocks = u32::from_le_bytes(image[1028..1032].try_into().unwrap()) as usize;
    let of = |found: &Verification| {
        let checksums = found
            .findings
            .iter()
            .filter(|finding| finding.kind == FindingKind::Checksum);
        checksums
            .map(|f| f.message.clone())
            .collect::<BTreeSet<_>>()
    };
    let mut messages = BTreeSet::new();
    for block in 0..blocks {
        let bytes = &image[block * 4096..][..4096];
        let first = bytes.iter().position(|byte| *byte != 0);
        let last = bytes.iter().rposition(|byte| *byte != 0);
        for at in [first, last, (block == 0).then_some(1024 + 0x78)] {
            let Some(at) = at else { continue };
            let mut damaged = image.clone();
            damaged[block * 4096 + at] ^= 0x40;
            if let Ok(found) =
                Volume::from_bytes(damaged).and_then(|disk| disk.verify(&VerifyOptions::new()))
            {
                messages.extend(of(&found));
            }
        }
    }
    for what in [
        "superblock's",
        "descriptor's",
        "bitmap of blocks",
        "bitmap of inodes",
        "inode's",
        "the attributes",
        "the entries",
        "node of the hash tree",
    ] {
        assert!(
            messages.iter().any(|message| message.contains(what)),
            "{what} is not among {messages:#?}"
        );
    }
}

#[test]
fn findings_past_the_limit_are_counted() {
    let Some(image) = plain() else { return };
    let mut damaged = image.to_vec();
    // The types of all names in the directory.
    let name = b"a-rather-long-name-for-a-file-";
    for at in 0..damaged.len() - name.len() {
        if damaged[at..].starts_with(name) {
            damaged[at - 1] = 2;
        }
    }
    let options = VerifyOptions::new().max_findings(10);
    let found = Volume::from_bytes(damaged)
        .and_then(|disk| disk.verify(&options))
        .unwrap();
    assert_eq!((found.findings.len(), found.omitted), (10, 110));
    assert_eq!(found.findings[0].place.path.as_deref(), Some(&b"/d"[..]));
}
