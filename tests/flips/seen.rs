//! A change for each row of docs/verify.md's table, so that none of them is a guess.

use std::fs;

use crate::campaign::Verdicts;
use crate::common::skip;
use crate::explained::{EXPLANATIONS, explain};
use crate::images;
use crate::metadata::{Map, Structure};

/// Changes an image; `None` if it does not have what would be changed.
type Change = fn(&Map, &mut [u8]) -> Option<()>;

/// What each change is called in docs/verify.md, and the image that it is made to.
const SEEN: [(&str, &str, Change); 22] = [
    ("hash-of-value", "4 KiB, large values", |_, image| {
        // The first block of the value.
        let mut blocks = image.chunks_exact_mut(4096);
        blocks.find(|block| **block == [7; 4096])?[0] = 8;
        Some(())
    }),
    ("attribute-name", "4 KiB, inline data", |map, image| {
        // e_name_len of system.data, the first attribute of a file whose contents are inline.
        let at = inode(map, |at| is_inline_file(image, at))? + 128 + 32 + 4;
        (image[at..at + 2] == [4, 7]).then(|| image[at] = 5)
    }),
    ("attribute-order", "1 KiB, uninit_bg", |map, image| {
        // e_name_index of the first of two attributes, from that of `user.` to `security.`
        let at = first(map, Structure::Attributes, |at| image[at + 33] == 1)?;
        image[at + 33] = 6;
        Some(())
    }),
    ("copy-of-superblock", "1 KiB, resize inode", |_, image| {
        // s_uuid
        image[1024 + 0x68] ^= 1;
        Some(())
    }),
    (
        "room-for-descriptors",
        "1 KiB, resize inode",
        |map, image| {
            // Two copies of a block of descriptors change places.
            let has_two =
                |at: usize| image[at + 4..at + 8] != [0; 4] && image[at..at + 4] != [0; 4];
            let at = first(map, Structure::Indirect, has_two)?;
            image[at..at + 8].rotate_left(4);
            Some(())
        },
    ),
    ("empty-inner-node", "4 KiB", |map, image| {
        // eh_depth of a tree without entries
        let is_empty = |at| image[at + 0x28..at + 0x2c] == [0x0a, 0xf3, 0, 0];
        let at = inode(map, is_empty)?;
        image[at + 0x2e] = 1;
        Some(())
    }),
    ("inline-size", "4 KiB, inline data", |map, image| {
        // The second byte of i_size.
        let at = inode(map, |at| is_inline_file(image, at))?;
        image[at + 5] = 9;
        Some(())
    }),
    ("acl-and-mode", "4 KiB", |map, image| {
        // A bit of the group's in the mode of the one file that has an ACL.
        let has_acl = |at| image[at..at + 2] == 0o100_664_u16.to_le_bytes();
        let at = inode(map, has_acl)?;
        image[at] ^= 0o020;
        Some(())
    }),
    ("time-to-come", "4 KiB, no checksums", |_, image| {
        // s_wtime, in the year 2091
        image[1024 + 0x33] ^= 0x80;
        Some(())
    }),
    ("waits-for-replay", "4 KiB, 64bit, journal", |_, image| {
        // EXT4_FEATURE_INCOMPAT_RECOVER
        image[1024 + 0x60] |= 4;
        Some(())
    }),
    ("unknown-feature", "4 KiB, no checksums", |_, image| {
        // EXT4_FEATURE_RO_COMPAT_SHARED_BLOCKS
        image[1024 + 0x65] |= 0x40;
        Some(())
    }),
    ("recorded-errors", "4 KiB, no checksums", |_, image| {
        // s_state
        image[1024 + 0x3a] |= 2;
        Some(())
    }),
    ("reserved-inode", "4 KiB, no checksums", |map, image| {
        // i_mode of inode 8, which stands behind the root, without a journal.
        let root = inode(map, |at| image[at + 1] & 0xf0 == 0x40)?;
        image[root + 6 * 256] = 1;
        Some(())
    }),
    (
        "size-of-quotas",
        "4 KiB, quota, project, no checksums",
        |map, image| {
            // i_size of the quotas of users, inode 3, which stands behind the root: 2 GiB more.
            let root = inode(map, |at| image[at + 1] & 0xf0 == 0x40)?;
            image[root + 256 + 7] = 0x80;
            Some(())
        },
    ),
    ("bits-of-tables", "1 KiB, uninit_bg", |map, image| {
        // Blocks 49 to 56, of the inode table of a group whose bitmap is not initialised.
        let at = first(map, Structure::BlockBitmap, |_| true)?;
        image[at + 6] = 0;
        Some(())
    }),
    ("list-of-orphans", "4 KiB, no checksums", |_, image| {
        // s_last_orphan
        image[1024 + 0xe8] = 14;
        Some(())
    }),
    (
        "number-without-feature",
        "4 KiB, no checksums",
        |_, image| {
            // s_mmp_block
            image[1024 + 0x168] = 14;
            Some(())
        },
    ),
    ("start-of-journal", "4 KiB, 64bit, journal", |map, image| {
        // The third byte of s_first, whose last one is the lowest.
        let at = first(map, Structure::Journal, |_| true)?;
        image[at + 0x16] = 0x20;
        Some(())
    }),
    ("depth-of-node", "4 KiB", |map, image| {
        // The second byte of eh_depth.
        let at = first(map, Structure::Extents, |_| true)?;
        image[at + 7] = 1;
        Some(())
    }),
    ("named-value", "4 KiB, large values", |map, image| {
        // EXT4_EA_INODE_FL of an empty file
        let at = inode(map, |at| {
            image[at + 1] & 0xf0 == 0x80 && image[at + 4..at + 8] == [0; 4]
        })?;
        image[at + 0x22] |= 0x20;
        Some(())
    }),
    (
        "tree-of-quotas",
        "4 KiB, quota, large values",
        |map, image| {
            // A reference of block 2, which leads from the root, block 1, to the rest, back to it.
            let at = first(map, Structure::Quota, |_| true)? + 2048 + 4 * 153;
            image[at] = 1;
            Some(())
        },
    ),
    (
        "magic-of-quotas",
        "4 KiB, quota, large values",
        |map, image| {
            let at = first(map, Structure::Quota, |_| true)?;
            image[at] ^= 1;
            Some(())
        },
    ),
];

/// Where the first piece of a structure is that something holds of.
fn first(map: &Map, structure: Structure, holds: impl Fn(usize) -> bool) -> Option<usize> {
    let mut pieces = map.pieces.iter();
    let found = pieces.find(|piece| piece.structure == structure && holds(piece.start));
    found.map(|piece| piece.start)
}

fn inode(map: &Map, holds: impl Fn(usize) -> bool) -> Option<usize> {
    first(map, Structure::Inode, holds)
}

fn is_inline_file(image: &[u8], at: usize) -> bool {
    image[at + 1] & 0xf0 == 0x80 && image[at + 0x23] & 0x10 != 0
}

#[test]
fn every_explanation_is_seen() {
    let mut names: Vec<_> = SEEN.iter().map(|(name, ..)| *name).collect();
    let mut known: Vec<_> = EXPLANATIONS.iter().map(|known| known.name).collect();
    names.sort_unstable();
    known.sort_unstable();
    assert_eq!(names, known);

    let Some(images) = images::foreign() else {
        return;
    };
    let mut wrong = String::new();
    for (name, of, change) in SEEN {
        let mut bytes = images
            .iter()
            .find(|image| image.name == of)
            .unwrap()
            .bytes
            .clone();
        let map = Map::read(&bytes).unwrap();
        if change(&map, &mut bytes).is_none() {
            wrong += &format!("{name}: {of} has no such place\n");
            continue;
        }
        map.correct(&mut bytes);
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(&file, &bytes).unwrap();
        let Some(verdicts) = Verdicts::of(bytes, file.path()) else {
            return skip::note("explanations: there is no e2fsck");
        };
        let found = explain(&verdicts).map(|known| known.name);
        if found != Some(name) {
            wrong += &format!("{name} is explained by {found:?}\n{verdicts}");
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}
