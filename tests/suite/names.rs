//! Names of values, which programs compare with: they stay as they are.

use std::fmt::{Debug, Display};
use std::str::FromStr;

use tar2vhd::timings::Stage;
use tar2vhd::verify::{FindingKind, Verdict};
use tar2vhd::verity::BlockKind;
use tar2vhd::{Compression, DiskFormat, ErrorKind, Inflater, Profile, UnknownName, WarningKind};

#[track_caller]
fn check<T>(all: &[T], names: &str)
where
    T: Copy + Debug + Display + PartialEq + FromStr<Err = UnknownName>,
{
    let displayed: Vec<_> = all.iter().map(ToString::to_string).collect();
    assert_eq!(displayed.join(" "), names);
    for (value, name) in all.iter().zip(&displayed) {
        assert_eq!(name.parse(), Ok(*value));
    }
    let upper = displayed[0].to_uppercase();
    for wrong in ["", "no-such", &format!(" {}", displayed[0]), &upper] {
        let error = wrong.parse::<T>().unwrap_err();
        assert_eq!(error.possible().join(" "), names);
        let message = error.to_string();
        for name in &displayed {
            assert!(message.contains(&**name), "{message}");
        }
    }
}

#[test]
fn names_are_read_as_they_are_written() {
    check(DiskFormat::ALL, "vhd vhd-dynamic vhdx vhdx-fixed raw");
    check(Profile::ALL, "default hcsshim");
    check(Compression::ALL, "none gzip zstd");
    check(Inflater::ALL, "own zlib-rs");
    check(Stage::ALL, "decompress digest place write finish");
    check(Verdict::ALL, "clean damaged undecided needs-replay");
    check(
        ErrorKind::ALL,
        "invalid-options input corrupt unsupported entry limit mismatch output storage-full \
         cancelled invalid-disk",
    );
    check(
        WarningKind::ALL,
        "empty-input no-end-marker trailing-bytes image-archive global-header skipped \
         device-zero missing-parent replaced-tree time-clamped time-unreadable path-clamped \
         xattr-dropped opaque-root hcsshim more",
    );
    check(
        FindingKind::ALL,
        "container superblock backup-superblock group-descriptor layout recorded-errors journal \
         orphan checksum inode block-map shared-block size block-count symlink attribute \
         attribute-order attribute-hash attribute-references attribute-inode acl \
         directory-entry duplicate-name directory-index file-type name tree unreachable \
         link-count block-bitmap inode-bitmap bitmap-padding free-count quota verity",
    );
}

#[test]
fn a_wrong_name_is_told_what_is_possible() {
    let error = "qcow2".parse::<DiskFormat>().unwrap_err();
    assert_eq!(
        error.to_string(),
        "\"qcow2\" is not a disk format: it is one of vhd, vhd-dynamic, vhdx, vhdx-fixed, raw"
    );
}

#[test]
fn names_fill_the_width_that_is_asked_for() {
    assert_eq!(
        format!("{:>6}|{:<5}|", DiskFormat::Raw, Compression::Gzip),
        "   raw|gzip |"
    );
    assert_eq!(BlockKind::Data.to_string(), "data");
    assert_eq!(BlockKind::Hash { level: 3 }.to_string(), "hash of level 3");
}
