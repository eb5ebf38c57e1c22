//! Images that are made to be read for ever, or over their ends.

use std::collections::BTreeSet;

use tar2vhd::Volume;
use tar2vhd::verify::{FindingKind, Verdict, Verification, VerifyOptions};
use tar2vhd::{DiskFormat, Options};

use super::{EXT4, e2fsck, edited, kinds, mke2fs, plain, position, verified};
use crate::common::entry::file;
use crate::common::layer;
use crate::common::tar::Tar;

#[test]
fn one_claim_over_many_groups_does_not_hide_what_is_in_it() {
    let Some(image) = plain() else { return };
    let prefix = "/d/a-rather-long-name-for-a-file-";
    // The length of the only extent reaches from the first group into the second, over files
    // that end in the first.
    let Some(damaged) = edited(image, &[&format!("sif {prefix}0 block[4] 2500")]) else {
        return;
    };
    let found = verified(&damaged);
    let found_kinds = kinds(&found);
    for kind in [FindingKind::SharedBlock, FindingKind::BlockBitmap] {
        assert!(found_kinds.contains(&kind), "{found:#?}");
    }
    // A block that is claimed twice is in use once.
    assert!(found.examined.blocks <= 4096, "{found:#?}");
    assert_eq!(e2fsck(&damaged), Some(false));
}

#[test]
fn a_descriptor_of_all_ones_is_found() {
    let features = format!("{EXT4},64bit");
    let Some(mut image) = mke2fs(4096, &["-b", "1024", "-g", "2048", "-O", &features]) else {
        return;
    };
    image[2048 + 64..2048 + 128].fill(0xFF);
    let found = verified(&image);
    let messages: Vec<_> = found.findings.iter().map(ToString::to_string).collect();
    let table = format!("the inode table is said to be at block {}", u64::MAX);
    assert!(
        messages.iter().any(|message| message.contains(&table)),
        "{messages:#?}"
    );
    assert_eq!(e2fsck(&image), Some(false));
}

#[test]
fn a_table_of_several_pieces_is_read() {
    let entries: Vec<_> = (0..5000).map(|i| file(format!("{i}"), "")).collect();
    let options = Options::new().format(DiskFormat::Raw).max_size(1 << 30);
    let image = layer::convert(&Tar::of(&entries), &options).unwrap().0;
    let found = verified(&image);
    assert_eq!(found.verdict(), Verdict::Clean, "{found:#?}");
    assert!(found.examined.inodes >= 5000, "{found:#?}");
}

#[test]
fn a_table_larger_than_any_is_refused() {
    use std::io::{Seek, SeekFrom, Write};
    // One group of as many inodes as its bitmap has bits, of half a block each: 8 GiB.
    let (inodes, blocks) = (1_u32 << 18, 200_000_u32);
    let mut superblock = [0; 1024];
    let mut put = |at: usize, value: u32| {
        superblock[at..at + 4].copy_from_slice(&value.to_le_bytes());
    };
    for (at, value) in [
        (0x00, inodes),
        (0x04, blocks),
        (0x18, 6),
        (0x1C, 6),
        (0x20, 1 << 19),
        (0x24, 1 << 19),
        (0x28, inodes),
        (0x38, 0x1_EF53),
        (0x4C, 1),
        (0x54, 11),
        (0x58, 1 << 15),
        (0x60, 0x242),
    ] {
        put(at, value);
    }
    let mut image = tempfile::NamedTempFile::new().unwrap();
    image.as_file().set_len(u64::from(blocks) << 16).unwrap();
    image.seek(SeekFrom::Start(1024)).unwrap();
    image.write_all(&superblock).unwrap();
    let found = Volume::open(image.path())
        .and_then(|disk| disk.verify(&VerifyOptions::new()))
        .unwrap();
    let messages: Vec<_> = found.findings.iter().map(|f| &f.message[..]).collect();
    let message = "the superblock gives 262144 for the inodes of a group";
    assert_eq!(messages, [message]);
}

#[test]
fn values_that_overlap_are_not_hashed() {
    let Some(image) = plain() else { return };
    let xattrs = position(image, &[0, 0, 2, 0xEA, 1, 0, 0, 0, 1]);
    let [first, second] =
        ["first", "second"].map(|name| xattrs + position(&image[xattrs..], name.as_bytes()) - 16);
    // The second has the value of the first; the first lies over the header.
    for (entry, offset) in [
        (second, [image[first + 2], image[first + 3]]),
        (first, [0, 0]),
    ] {
        let mut damaged = image.to_vec();
        damaged[entry + 2..entry + 4].copy_from_slice(&offset);
        damaged[second + 12] ^= 1;
        let found = kinds(&verified(&damaged));
        assert!(found.contains(&FindingKind::Attribute), "{found:?}");
        assert!(!found.contains(&FindingKind::AttributeHash), "{found:?}");
        assert_eq!(e2fsck(&damaged), Some(false));
    }
}

#[test]
fn names_that_are_there_twice_are_counted_past_the_limit() {
    let Some(image) = plain() else { return };
    let mut damaged = image.to_vec();
    let name = b"a-rather-long-name-for-a-file-";
    for at in 0..damaged.len() - name.len() - 3 {
        if damaged[at..].starts_with(name) {
            damaged[at + name.len()..at + name.len() + 3].fill(b'0');
        }
    }
    let of = |most| {
        let options = VerifyOptions::new().max_findings(most);
        Volume::from_bytes(damaged.clone())
            .and_then(|disk| disk.verify(&options))
            .unwrap()
    };
    let (all, some) = (of(10_000), of(10));
    assert!(
        kinds(&all).contains(&FindingKind::DuplicateName),
        "{all:#?}"
    );
    assert_eq!(some.findings[..], all.findings[..10]);
    assert_eq!(some.omitted, all.findings.len() as u64 - 10);
}

#[test]
fn a_disk_of_one_block_again_and_again_is_not_read() {
    // Several blocks of the VHD, of 2 MiB.
    let entries = [file("a", vec![b'a'; 5 << 20])];
    let options = Options::new().format(DiskFormat::VhdDynamic);
    let mut disk = layer::convert(&Tar::of(&entries), &options).unwrap().0;
    assert_eq!(verified(&disk).verdict(), Verdict::Clean);
    let table = u64::from_be_bytes(disk[512 + 16..512 + 24].try_into().unwrap()) as usize;
    disk.copy_within(table..table + 4, table + 4);
    let found = verified(&disk);
    let container = BTreeSet::from([FindingKind::Container]);
    assert_eq!(kinds(&found), container, "{found:#?}");
    assert_eq!(found.examined.groups, 0, "{found:#?}");
}

#[test]
fn a_directory_of_zeros_is_given_up() {
    let Some(image) = plain() else { return };
    let damaged = edited(
        image,
        &[
            "sif /d/below block[4] 1000",
            &format!("sif /d/below size {}", 1000 << 10),
        ],
    );
    let Some(damaged) = damaged else { return };
    let options = VerifyOptions::new().max_findings(10_000);
    let with = |found: &Verification, message: &str| {
        let has = |finding: &&tar2vhd::verify::Finding| finding.message.contains(message);
        found.findings.iter().filter(has).count()
    };
    let found = Volume::from_bytes(damaged.clone())
        .and_then(|disk| disk.verify(&options))
        .unwrap();
    assert_eq!(with(&found, "malformed to look at more"), 1, "{found:#?}");
    assert!(with(&found, "has 0 bytes, for a name of 0") <= 101);
    assert_eq!(with(&found, "never written"), 0);

    // The same with holes for zeros.
    #[cfg(target_os = "linux")]
    {
        use std::os::unix::fs::FileExt;
        let file = tempfile::NamedTempFile::new().unwrap();
        file.as_file().set_len(damaged.len() as u64).unwrap();
        for (i, bytes) in damaged.chunks(1 << 16).enumerate() {
            if bytes.iter().any(|byte| *byte != 0) {
                file.as_file()
                    .write_all_at(bytes, (i as u64) << 16)
                    .unwrap();
            }
        }
        let found = Volume::open(file.path())
            .and_then(|disk| disk.verify(&options))
            .unwrap();
        assert!(with(&found, "never written") > 0, "{found:#?}");
    }
}
