//! File systems that are as large as their contents need, with room beside.

use std::fs;
use std::path::PathBuf;

use tar2vhd::{DiskFormat, ErrorKind, Options, Summary, Writable};

use super::{MIB, unwrap};
use crate::common::entry::{Entry, dir, file};
use crate::common::layer::{convert, options};
use crate::common::oracle::{fsck, run, shown};
use crate::common::tar::Tar;

fn with_free(bytes: u64) -> Options {
    of(Writable::with_free(bytes))
}

fn of(writable: Writable) -> Options {
    options().writable(writable).bottom_layer(true)
}

/// A layer's file system, of which e2fsck has nothing to say, as a sparse file.
fn written(entries: &[Entry], options: &Options) -> (tempfile::TempDir, PathBuf, Summary) {
    let options = options.clone().format(DiskFormat::Vhdx);
    let (bytes, summary) = convert(&Tar::of(entries), &options).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("raw");
    unwrap(bytes, &path);
    fsck(&path);
    (directory, path, summary)
}

/// A number in the superblock, as dumpe2fs prints it.
fn header(text: &str, name: &str) -> u64 {
    let line = text.lines().find(|line| line.starts_with(name)).unwrap();
    line[name.len()..].trim().parse().unwrap()
}

/// Bytes without a block of zeros.
fn noise(bytes: u32) -> Vec<u8> {
    let words = 0..bytes / 4;
    words
        .flat_map(|i| (i ^ 7).wrapping_mul(2_654_435_761).to_le_bytes())
        .collect()
}

#[test]
fn it_has_the_room_that_is_asked_for_and_little_more() {
    let small = [dir("bin"), file("bin/init", "#!")];
    let large = [
        file("replaced", noise(3_000_000)),
        file("replaced", "small"),
        file("large", noise(140_000_000)),
    ];
    let larger = [file("larger", vec![7; 275_000_000])];
    let up_to_the_copy = [file("large", noise((32_768 - 18) * 4096))];
    for (entries, free, journal) in [
        (&small[..], 0, false),
        (&small, 1, true),
        (&small, MIB, false),
        (&small, 20 * MIB, true),
        // Where the second group would hold little, and where inodes become fewer.
        (&small, 118 * MIB, false),
        (&small, 119 * MIB, false),
        (&small, 120 * MIB, false),
        (&small, 121 * MIB, false),
        (&small, 480 * MIB, true),
        (&small, 520 * MIB, false),
        // The journal takes two extents and more.
        (&small, 40 << 30, true),
        // Contents reach into the second group, which is the last or not.
        (&large, 0, false),
        (&large, 100 * MIB, true),
        (&large, 300 * MIB, true),
        (&up_to_the_copy, 5 * MIB, false),
        // They reach into the last of three: it has no copy.
        (&larger, 20 * MIB, true),
    ] {
        let what = format!("{} entries, {free} free, journal {journal}", entries.len());
        let (_directory, path, summary) =
            written(entries, &of(Writable::with_free(free).journal(journal)));
        let size = fs::metadata(&path).unwrap().len();
        assert_eq!(size, summary.disk.virtual_size, "{what}");
        let Some(output) = run("dumpe2fs", |c| c.arg("-h").arg(&path)) else {
            return;
        };
        assert!(output.status.success(), "{what}: {}", shown(&output));
        let text = String::from_utf8(output.stdout).unwrap();
        let found = header(&text, "Free blocks:") * 4096;
        // The largest table of inodes that a copy can stand in the way of, and what is reserved
        // for descriptors.
        assert!(found >= free, "{what}: {found}");
        assert!(found <= free + 9 * MIB, "{what}: {found}");
        let blocks = header(&text, "Block count:");
        assert_eq!(header(&text, "Reserved block count:"), blocks / 20);
        let ratio = match size {
            _ if size < 3 * MIB => 8192,
            _ if size < 512 * MIB => 4096,
            _ => 16384,
        };
        let inodes = header(&text, "Free inodes:");
        assert!(inodes >= free / ratio, "{what}: {inodes}");
        assert_eq!(text.contains("has_journal"), journal);
        if journal {
            let fixed = options().writable(Writable::of_size(size).journal(true));
            let (_directory, fixed, _) = written(&small, &fixed);
            let fixed = run("dumpe2fs", |c| c.arg("-h").arg(&fixed)).unwrap().stdout;
            let fixed = String::from_utf8(fixed).unwrap();
            let blocks = |text| header(text, "Total journal blocks:");
            assert_eq!(blocks(&text), blocks(&fixed), "{what}");
        }
    }
}

#[test]
fn inodes_are_there_for_the_contents_and_for_what_comes() {
    let mut entries: Vec<_> = (0..40_000).map(|i| file(format!("d/{i}"), "")).collect();
    entries.insert(0, dir("d"));
    for (inodes, least_free) in [(0, 8 * MIB / 4096), (10, 0), (80_000, 39_900)] {
        let (_directory, path, _) =
            written(&entries, &of(Writable::with_free(8 * MIB).inodes(inodes)));
        let Some(output) = run("dumpe2fs", |c| c.arg("-h").arg(&path)) else {
            return;
        };
        let text = String::from_utf8(output.stdout).unwrap();
        let free = header(&text, "Free inodes:");
        assert!(free >= least_free, "{inodes}: {free}");
        assert!(header(&text, "Inode count:") >= inodes);
    }
}

#[test]
fn threads_change_nothing() {
    let entries = [
        file("a", noise(9_000_000)),
        file("a", "b"),
        dir("d"),
        file("d/c", noise(100_000)),
    ];
    let tar = Tar::of(&entries);
    let writable = Writable::with_free(30 * MIB).journal(true);
    let options = of(writable);
    let [first, others @ ..] =
        [1, 2, 3, 8].map(|threads| convert(&tar, &options.clone().threads(threads)).unwrap().0);
    assert!(others.iter().all(|other| *other == first));
    // Nor is the name the same where the bytes are not.
    let uuid = |options: &Options| convert(&tar, options).unwrap().1.disk.uuid;
    let mut uuids = [
        options.clone(),
        options.clone().align(MIB),
        of(writable.journal(false)),
        of(writable.inodes(20_000)),
        of(Writable::with_free(31 * MIB).journal(true)),
    ]
    .map(|options| uuid(&options))
    .to_vec();
    uuids.sort_unstable();
    uuids.dedup();
    assert_eq!(uuids.len(), 5);
}

#[test]
fn the_disk_can_be_aligned() {
    let entries = [file("a", noise(123_456))];
    let options = with_free(10 * MIB).align(16 * MIB);
    let (_directory, path, summary) = written(&entries, &options);
    assert_eq!(summary.disk.virtual_size, 16 * MIB);
    assert_eq!(fs::metadata(path).unwrap().len(), 16 * MIB);
}

#[test]
fn what_cannot_be_is_refused() {
    let tar = Tar::of(&[file("a", noise(1_000_000))]);
    let kind = |options: &Options| convert(&tar, options).unwrap_err().kind();
    let too_much = with_free(MIB * 2).max_size(MIB);
    assert_eq!(kind(&too_much), ErrorKind::InvalidOptions);
    let inodes = of(Writable::with_free(MIB).inodes(1 << 32));
    assert_eq!(kind(&inodes), ErrorKind::InvalidOptions);
    let verity = with_free(MIB).verity(tar2vhd::verity::Verity::new());
    assert_eq!(kind(&verity), ErrorKind::InvalidOptions);
    for max_size in [2, 3, 9] {
        let options = with_free(MIB * (max_size - 1)).max_size(max_size * MIB);
        let error = convert(&tar, &options).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Limit, "{error}");
        assert_eq!(error.option(), Some("max-size"));
    }
}

#[test]
#[cfg(target_os = "linux")]
fn a_guest_can_fill_the_room() {
    use std::io::Write;

    use crate::common::kernel::Mount;

    let entries = [dir("bin"), file("bin/init", noise(140_000_000))];
    let free = 50 * MIB;
    for journal in [false, true] {
        let (_directory, path, _) =
            written(&entries, &of(Writable::with_free(free).journal(journal)));
        let Some(mount) = Mount::writable(&path) else {
            return;
        };
        let found = rustix::fs::statvfs(mount.path()).unwrap();
        assert!(found.f_bfree * found.f_frsize >= free, "{}", found.f_bfree);
        let mut filled = fs::File::create(mount.path().join("new")).unwrap();
        // The kernel keeps a 50th of the blocks for itself.
        let data = noise(MIB as u32);
        let kept = found.f_blocks * found.f_frsize / 50;
        for _ in 0..(free - kept) / MIB - 1 {
            filled.write_all(&data).unwrap();
        }
        filled.sync_all().unwrap();
        drop((filled, mount));
        fsck(&path);
    }
}
