//! Scratch disks: empty, small, the same each time, and fit to be written to.

mod free;
#[cfg(target_os = "linux")]
mod mounted;

use std::fs::File;
use std::io::{Seek, SeekFrom, Write};
use std::path::Path;

use proptest::prelude::*;
use tar2vhd::disk::MemoryDisk;
use tar2vhd::scratch::{self, ScratchOptions};
use tar2vhd::{DiskFormat, DiskSummary, ErrorKind};
use vhd_format::Disk;

use crate::common::oracle::{fsck, run, shown};
use crate::common::random::cases;

const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;
const TIB: u64 = 1 << 40;

fn made(options: &ScratchOptions) -> (Vec<u8>, DiskSummary) {
    let disk = MemoryDisk::new();
    let summary = scratch::create(&disk, options).unwrap_or_else(|e| panic!("{options:?}: {e}"));
    let bytes = disk.into_vec();
    assert_eq!(bytes.len() as u64, summary.size);
    (bytes, summary)
}

/// What a disk holds, as a sparse file.
fn unwrap(disk: Vec<u8>, path: &Path) {
    let disk = Disk::open(disk).unwrap();
    let mut problems = Vec::new();
    disk.check(|problem| problems.push(problem.to_string()))
        .unwrap();
    assert_eq!(problems, [""; 0]);
    let mut file = File::create(path).unwrap();
    file.set_len(disk.virtual_size()).unwrap();
    let mut at = 0;
    while let Some(data) = disk.next_data(at).unwrap() {
        let mut buffer = vec![0; 4096];
        for offset in data.clone().step_by(buffer.len()) {
            let len = (data.end - offset).min(buffer.len() as u64) as usize;
            disk.read_at(offset, &mut buffer[..len]).unwrap();
            if buffer[..len].iter().any(|byte| *byte != 0) {
                file.seek(SeekFrom::Start(offset)).unwrap();
                file.write_all(&buffer[..len]).unwrap();
            }
        }
        at = data.end;
    }
}

#[test]
fn every_size_is_clean_and_small() {
    let directory = tempfile::tempdir().unwrap();
    let raw = directory.path().join("raw");
    for (size, most) in [
        (MIB, 5 * MIB),
        (64 * MIB, 5 * MIB),
        // The second group has no room for anything, then for a little.
        (128 * MIB + 65 * 4096, 5 * MIB),
        (128 * MIB + 66 * 4096, 6 * MIB),
        (256 * MIB, 6 * MIB),
        (GIB, 7 * MIB),
        (20 * GIB, 8 * MIB),
        (2 * TIB, 32 * MIB),
    ] {
        for (journal, compat) in [(false, false), (true, false), (false, true)] {
            let takes_long = size > TIB && (journal || compat);
            if takes_long || journal && size < 8 * MIB {
                continue;
            }
            let options = ScratchOptions::new()
                .size(size)
                .journal(journal)
                .compat(compat);
            let (disk, summary) = made(&options);
            let more = if journal { 2 * MIB } else { 0 };
            assert!(summary.size <= most + more, "{options:?}: {summary:?}");
            assert_eq!(summary.virtual_size, size);
            unwrap(disk, &raw);
            fsck(&raw);
        }
    }
}

/// `dumpe2fs`, but for the header.
#[test]
fn every_group_says_what_it_has() {
    let directory = tempfile::tempdir().unwrap();
    let raw = directory.path().join("raw");
    let (disk, _) = made(&ScratchOptions::new().journal(true).label("scratch"));
    unwrap(disk, &raw);
    let Some(output) = run("dumpe2fs", |c| c.arg(&raw)) else {
        return;
    };
    let text = String::from_utf8(output.stdout).unwrap();
    let lines = |part: &str| text.lines().filter(|line| line.contains(part)).count();
    assert_eq!(lines("(Blocks "), 160);
    // No mount has tables to zero.
    assert_eq!(lines("ITABLE_ZEROED"), 160);
    assert_eq!(lines("INODE_UNINIT"), 159);
    // Beside those that hold the tables, only the last has a bitmap.
    assert_eq!(lines("BLOCK_UNINIT"), 160 - 4 - 1);
    let field = |name: &str| {
        let line = text.lines().find(|line| line.starts_with(name)).unwrap();
        line[name.len()..].trim().to_owned()
    };
    assert_eq!(
        field("Filesystem features:"),
        "has_journal ext_attr dir_index sparse_super2 filetype extent 64bit flex_bg \
         metadata_csum_seed sparse_super large_file huge_file dir_nlink extra_isize metadata_csum"
    );
    assert_eq!(field("Filesystem volume name:"), "scratch");
    assert_eq!(field("Reserved block count:"), "262144");
    assert_eq!(field("Backup block groups:"), "1 159");
    assert_eq!(field("Total journal size:"), "128M");
    assert_eq!(field("Inode count:"), (20 * GIB / (16 << 10)).to_string());
}

#[test]
fn a_lost_superblock_is_found_in_its_copies() {
    let directory = tempfile::tempdir().unwrap();
    let raw = directory.path().join("raw");
    let (disk, _) = made(&ScratchOptions::new().size(600 * MIB).journal(true));
    for copy in [32_768, 131_072] {
        unwrap(disk.clone(), &raw);
        let mut file = File::options().write(true).open(&raw).unwrap();
        file.write_all(&[0; 8192]).unwrap();
        let done = run("e2fsck", |c| {
            c.args(["-fy", "-B", "4096", "-b", &copy.to_string()])
                .arg(&raw)
        });
        let Some(output) = done else { return };
        // 1 says that something was changed.
        assert_eq!(output.status.code(), Some(1), "{}", shown(&output));
        fsck(&raw);
    }
}

proptest! {
    #![proptest_config(cases(40))]

    #[test]
    fn any_size_is_refused_or_clean(
        blocks in 256_u64..200_000,
        inodes in prop_oneof![Just(0_u64), 1_u64..100_000],
        journal in any::<bool>(),
        compat in any::<bool>(),
    ) {
        let options = ScratchOptions::new()
            .size(blocks * 4096)
            .inodes(inodes)
            .journal(journal)
            .compat(compat);
        let disk = MemoryDisk::new();
        match scratch::create(&disk, &options) {
            Ok(summary) => {
                let directory = tempfile::tempdir().unwrap();
                let raw = directory.path().join("raw");
                unwrap(disk.into_vec(), &raw);
                fsck(&raw);
                prop_assert!(summary.blocks <= blocks);
            }
            Err(error) => {
                prop_assert_eq!(error.kind(), ErrorKind::InvalidOptions);
                prop_assert!(journal && blocks < 2048 || inodes > blocks, "{}", error);
            }
        }
    }
}

#[test]
fn every_format_holds_the_same_file_system() {
    let directory = tempfile::tempdir().unwrap();
    let raw = directory.path().join("raw");
    let options = |format| ScratchOptions::new().size(64 * MIB).format(format);
    let (bytes, _) = made(&options(DiskFormat::Raw));
    assert_eq!(bytes.len() as u64, 64 * MIB);
    for format in [
        DiskFormat::Vhd,
        DiskFormat::VhdDynamic,
        DiskFormat::Vhdx,
        DiskFormat::VhdxFixed,
    ] {
        let (disk, _) = made(&options(format));
        unwrap(disk, &raw);
        assert!(std::fs::read(&raw).unwrap() == bytes, "{}", format.as_str());
    }
}

#[test]
fn qemu_takes_it() {
    let directory = tempfile::tempdir().unwrap();
    let [disk, raw, ours] = ["disk", "raw", "ours"].map(|name| directory.path().join(name));
    for block_size in [1 << 20, 32 << 20, 256 << 20] {
        let (bytes, _) = made(&ScratchOptions::new().block_size(block_size));
        std::fs::write(&disk, &bytes).unwrap();
        let done = run("qemu-img", |c| c.args(["check", "-f", "vhdx"]).arg(&disk));
        let Some(output) = done else { return };
        assert!(output.status.success(), "{}", shown(&output));
        let convert = ["convert", "-f", "vhdx", "-O", "raw"];
        let done = run("qemu-img", |c| c.args(convert).args([&disk, &raw]));
        let Some(output) = done else { return };
        assert!(output.status.success(), "{}", shown(&output));
        unwrap(bytes, &ours);
        let compare = ["compare", "-f", "raw", "-F", "raw"];
        let done = run("qemu-img", |c| c.args(compare).args([&ours, &raw]));
        let Some(output) = done else { return };
        assert!(output.status.success(), "{}", shown(&output));
        fsck(&raw);
    }
}

#[test]
fn what_does_not_fit_together_is_refused() {
    let new = ScratchOptions::new;
    for (options, message) in [
        (new().size(0), "a size of 0 bytes"),
        (new().size(MIB - 4096), "1048576"),
        (new().size(64 * TIB + 4096), "70368744177664"),
        (new().size(GIB + 512), "not a multiple of 4096"),
        (new().size(7 * MIB).journal(true), "8 MiB at least"),
        (
            new().size(3 * TIB).format(DiskFormat::Vhd),
            "the format holds",
        ),
        (new().block_size(3 << 20), "a power of two"),
        (new().block_size(512 << 20), "a power of two"),
        (new().block_size(1 << 19), "from 1048576"),
        (new().label("seventeen letters"), "a label of 17 bytes"),
        (new().label("a\0b"), "a zero byte"),
        (new().inodes(u64::MAX), "inodes"),
        (new().size(GIB).inodes(300_000), "262144 at most"),
        (new().size(MIB).inodes(4096), "take"),
        (new().time(1 << 40), "a time"),
    ] {
        let error = scratch::create(&MemoryDisk::new(), &options).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidOptions, "{error}");
        assert!(error.to_string().contains(message), "{message:?}: {error}");
    }
}

#[test]
fn the_same_options_give_the_same_bytes() {
    let options = || ScratchOptions::new().size(GIB);
    let (bytes, summary) = made(&options());
    assert!(bytes == made(&options()).0);
    let same_name = |other: ScratchOptions| made(&other).1.uuid == summary.uuid;
    assert!(same_name(options().block_size(2 << 20)));
    assert!(same_name(options().format(DiskFormat::VhdDynamic)));
    for other in [
        options().size(2 * GIB),
        options().journal(true),
        options().label("x"),
        options().inodes(1000),
        options().compat(true),
        options().time(1),
    ] {
        assert!(!same_name(other.clone()), "{other:?}");
    }
    let named = options().uuid([7; 16]);
    assert_eq!(made(&named).1.uuid, [7; 16]);
}
