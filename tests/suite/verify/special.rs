//! `verify` on what is the file system's own, and on contents that are in the inode.

use std::collections::BTreeSet;
use std::fs;

use tar2vhd::Volume;
use tar2vhd::disk::MemoryDisk;
use tar2vhd::scratch::ScratchOptions;
use tar2vhd::verify::{FindingKind as F, Verdict, VerifyOptions};
use tar2vhd::{DiskFormat, Options};

use super::{EXT4, e2fsck, edited, kinds, mke2fs, own, position, verified};
use crate::common::oracle::run;

/// What a mount leaves when it is not ended: the journal holds a part of the metadata.
#[cfg(target_os = "linux")]
#[test]
fn a_journal_that_waits_for_replay_is_a_state_of_its_own() {
    use crate::common::kernel::{Mount, can_mount};
    if !can_mount() {
        return;
    }
    let disk = MemoryDisk::new();
    let options = ScratchOptions::new()
        .size(32 << 20)
        .format(DiskFormat::Raw)
        .journal(true)
        .fsync(false);
    tar2vhd::scratch::create(&disk, &options).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let [image, crashed] = ["image", "crashed"].map(|name| directory.path().join(name));
    fs::write(&image, disk.into_vec()).unwrap();
    let Some(mount) = Mount::writable(&image) else {
        return;
    };
    for i in 0..50 {
        fs::create_dir(mount.path().join(format!("directory-{i}"))).unwrap();
    }
    let file = fs::File::open(mount.path()).unwrap();
    rustix::fs::syncfs(&file).unwrap();
    fs::copy(&image, &crashed).unwrap();
    drop(file);
    drop(mount);

    let verified = |path| {
        Volume::open(path)
            .and_then(|disk| disk.verify(&VerifyOptions::new()))
            .unwrap()
    };
    assert_eq!(verified(&image).verdict(), Verdict::Clean);
    let found = verified(&crashed);
    assert_eq!(found.verdict(), Verdict::NeedsReplay, "{found:#?}");
    assert_eq!(
        found.unchecked,
        ["all but the superblock and the journal, which has to be replayed first"]
    );
    // A journal that cannot be replayed is damage.
    let mut damaged = fs::read(&crashed).unwrap();
    let journal = position(&damaged, &[0xC0, 0x3B, 0x39, 0x98, 0, 0, 0, 4]);
    damaged[journal] = 0;
    let found = super::verified(&damaged);
    assert!(kinds(&found).contains(&F::Journal), "{found:#?}");

    let Some(output) = run("e2fsck", |c| c.arg("-p").arg(&crashed)) else {
        return;
    };
    assert!(matches!(output.status.code(), Some(0 | 1)), "{output:?}");
    assert_eq!(verified(&crashed).verdict(), Verdict::Clean);
}

#[test]
fn contents_in_the_inode_are_no_longer_than_there_is_room() {
    let features = format!("{EXT4},inline_data");
    let Some(image) = mke2fs(2048, &["-b", "1024", "-O", &features]) else {
        return;
    };
    // 8 bytes in i_block, 60 of room; a directory has just its room, a link its target.
    let file = "/d/a-rather-long-name-for-a-file-1";
    for (path, size, is_right) in [
        (file, 9_u64, true),
        (file, 60, true),
        (file, 61, false),
        (file, 1 << 10, false),
        (file, 1 << 40, false),
        ("/d/below", 61, false),
        ("/d/below", 59, false),
        ("/d/below", 1024, false),
        ("/d/below", 1 << 40, false),
        ("/long", 60, false),
        ("/long", 199, false),
        ("/long", 201, false),
        ("/long", 1 << 40, false),
    ] {
        let Some(changed) = edited(&image, &[&format!("sif {path} size {size}")]) else {
            return;
        };
        let found = verified(&changed);
        let is_found = [F::Size, F::Symlink]
            .iter()
            .any(|kind| kinds(&found).contains(kind));
        assert_eq!(!is_found, is_right, "{path} of {size}: {found:#?}");
    }
}

/// What stands before inline contents has to be read to find them, by e2fsprogs as well.
#[test]
fn a_value_in_an_inode_of_its_own_has_no_offset_beside_inline_contents() {
    for (has_inline, expected) in [
        (true, BTreeSet::from([F::Checksum, F::Attribute])),
        (false, BTreeSet::from([F::Checksum])),
    ] {
        let mut image = own(Options::new().inline_data(has_inline));
        assert_eq!(verified(&image).verdict(), Verdict::Clean);
        // e_value_offs, 16 bytes of fields before the name.
        let offset = position(&image, b"large") - 16 + 2;
        assert_eq!(image[offset..offset + 2], [0; 2]);
        image[offset] = 8;
        let found = verified(&image);
        assert_eq!(kinds(&found), expected, "{has_inline}: {found:#?}");
    }
}

/// The blocks of numbers that stand in for descriptors to come hold no others.
#[test]
fn every_number_of_the_room_for_descriptors_counts() {
    let features = format!("{EXT4},resize_inode,metadata_csum");
    for arguments in [
        &["-b", "1024", "-g", "1024", "-E", "resize=65536"][..],
        &["-b", "1024", "-E", "resize=65536"],
        &["-E", "resize=16777216"],
    ] {
        let arguments = [arguments, &["-O", &features]].concat();
        let Some(image) = mke2fs(4096, &arguments) else {
            return;
        };
        assert_eq!(verified(&image).verdict(), Verdict::Clean);
        let number = |at: usize| u32::from_le_bytes(image[at..at + 4].try_into().unwrap());
        let block_size = 1024_usize << number(1024 + 0x18);
        let reserved = u16::from_le_bytes([image[1024 + 0xCE], image[1024 + 0xCF]]);
        assert!(reserved > 0, "{arguments:?}");
        // After the superblock and one block of descriptors.
        let first = number(1024 + 0x14) as usize + 2;
        for block in [first, first + usize::from(reserved) - 1] {
            for slot in [0, 4, 17, block_size / 4 - 1] {
                let mut damaged = image.clone();
                let at = block * block_size + 4 * slot;
                damaged[at] ^= 5;
                let found = verified(&damaged);
                assert!(
                    kinds(&found).contains(&F::Inode),
                    "{arguments:?}, block {block}, slot {slot}: {found:#?}"
                );
                // e2fsck looks at the first of the numbers that there should be alone, and counts.
                if slot >= 4 {
                    assert_eq!(e2fsck(&damaged), Some(false));
                }
            }
        }
    }
}

/// What quota files count is held against what the owners have.
#[test]
fn quotas_count_what_their_owners_have() {
    let features = format!("{EXT4},quota,project");
    let quotas = "quotatype=usrquota:grpquota:prjquota";
    for block_size in ["1024", "4096"] {
        let arguments = ["-b", block_size, "-E", quotas, "-O", &features];
        let Some(image) = mke2fs(4096, &arguments) else {
            return;
        };
        let found = verified(&image);
        assert_eq!(found.verdict(), Verdict::Clean, "{found:#?}");
        assert_eq!(found.unchecked, [""; 0]);
        // Small blocks of a file are not all adjacent.
        if block_size != "4096" {
            continue;
        }
        // The files of users, groups and projects.
        for magic in [0xD9C0_1F11_u32, 0xD9C0_1927, 0xD9C0_3F14] {
            let file = position(&image, &[magic.to_le_bytes(), [1, 0, 0, 0]].concat());
            let damages: [(usize, u8); 8] = [
                // The magic, the blocks, a free block, the root's reference, a leaf's.
                (1, 0x10),
                (21, 1),
                (26, 1),
                (1024, 0x40),
                (4096, 4),
                // The owner, inodes and bytes of the first entry.
                (5 * 1024 + 16, 1),
                (5 * 1024 + 16 + 24, 1),
                (5 * 1024 + 16 + 49, 0x10),
            ];
            for (at, bit) in damages {
                let mut damaged = image.clone();
                damaged[file + at] ^= bit;
                let found = verified(&damaged);
                assert_eq!(
                    kinds(&found),
                    BTreeSet::from([F::Quota]),
                    "{magic:x} + {at}: {found:#?}"
                );
                // Without its magic e2fsck passes the file over.
                assert_eq!(e2fsck(&damaged), Some(at < 4), "{magic:x} + {at}");
            }
        }
        // An owner that has no quota, and one that has too much.
        let Some(changed) = edited(&image, &["sif /sparse uid 77"]) else {
            return;
        };
        assert_eq!(kinds(&verified(&changed)), BTreeSet::from([F::Quota]));
        assert_eq!(e2fsck(&changed), Some(false));
    }
}
