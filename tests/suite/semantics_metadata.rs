//! SEMANTICS.md, "Metadata": each test is a line of the table.

use std::collections::BTreeMap;

use tar2vhd::{ErrorKind, WarningKind};

use crate::common::entry::{
    Entry, Pairs, block_device, char_device, dir, fifo, file, link, symlink,
};
use crate::common::layer::{
    Image, image, layer, layer_with, options, refused, refused_tar, refused_with,
};
use crate::common::oracle;
use crate::common::tar::{Header, Tar};

// mtime, PAX atime and ctime | kept to the nanosecond from 1901-12-13 to 2446-05-10

const FIRST: i64 = -(1 << 31);
const LAST: i64 = (1 << 34) - (1 << 31) - 1;

#[test]
fn times_are_kept_to_the_nanosecond_from_1901_to_2446() {
    let times = [
        (FIRST, 0),
        (FIRST, 1),
        (-2, 750_000_000),
        (-1, 999_999_999),
        (0, 0),
        (0, 1),
        (1_234_567_890, 123_456_789),
        ((1 << 31) - 1, 999_999_999),
        (1 << 31, 0),
        ((1 << 32) - 1, 5),
        (1 << 32, 6),
        (3 << 31, 7),
        (1 << 33, 8),
        (LAST, 999_999_999),
    ];
    let entries: Vec<_> = times
        .iter()
        .enumerate()
        .map(|(i, (seconds, nanos))| file(i.to_string(), "").mtime(*seconds, *nanos))
        .collect();
    let image = layer(&entries);
    image.assert_no_warnings();
    // Not through ext4-view, which cannot read half of these.
    let Some(tree) = image.kernel_tree() else {
        return;
    };
    for (i, time) in times.iter().enumerate() {
        let node = &tree.0[i.to_string().as_bytes()];
        assert_eq!(
            (node.mtime, node.atime, node.ctime),
            (*time, *time, Some(*time))
        );
    }
}

#[test]
fn times_outside_are_clamped_with_a_warning() {
    let image = layer(&[
        file("early", "").mtime(FIRST - 1, 999_999_999),
        file("late", "").mtime(LAST + 1, 0),
        file("atime", "").atime(i64::MIN, 0),
        file("ctime", "").ctime(i64::MAX, 5),
    ]);
    image.assert_warnings(&[
        (WarningKind::TimeClamped, "atime"),
        (WarningKind::TimeClamped, "ctime"),
        (WarningKind::TimeClamped, "early"),
        (WarningKind::TimeClamped, "late"),
    ]);
    let Some(tree) = image.kernel_tree() else {
        return;
    };
    assert_eq!(tree.0[&b"early"[..]].mtime, (FIRST, 0));
    assert_eq!(tree.0[&b"late"[..]].mtime.0, LAST);
    assert_eq!(tree.0[&b"atime"[..]].atime, (FIRST, 0));
    assert_eq!(tree.0[&b"ctime"[..]].ctime.unwrap().0, LAST);
}

#[test]
fn header_times_before_1970_and_after_2242_are_read() {
    // base-256, and octal that fills all twelve places.
    let tar = Tar::new()
        .header(
            &Header::new(b'0').gnu().name("neg").base256(136, 12, -5),
            "",
        )
        .header(
            &Header::new(b'0')
                .gnu()
                .name("far")
                .base256(136, 12, i128::from(LAST)),
            "",
        )
        .header(
            &Header::new(b'0').name("octal").field(136, b"77777777777\0"),
            "",
        );
    let image = image(&tar.finish(), &options());
    image.assert_no_warnings();
    if let Some(tree) = image.kernel_tree() {
        assert_eq!(tree.0[&b"neg"[..]].mtime, (-5, 0));
        assert_eq!(tree.0[&b"far"[..]].mtime, (LAST, 0));
        assert_eq!(tree.0[&b"octal"[..]].mtime, (0o77_777_777_777, 0));
    }
}

#[test]
fn atime_and_ctime_are_kept_and_else_are_the_mtime() {
    let image = layer(&[
        file("all", "").mtime(10, 1).atime(20, 2).ctime(30, 3),
        file("mtime", "").mtime(10, 1),
        symlink("link", "x").mtime(10, 1).atime(20, 2),
        dir("dir").mtime(10, 1).ctime(30, 3),
        file("dir/child", "").mtime(99, 9),
    ]);
    let times = |path: &str| {
        let node = image.at(path);
        (node.mtime, node.atime, node.ctime.unwrap_or((30, 3)))
    };
    assert_eq!(times("all"), ((10, 1), (20, 2), (30, 3)));
    assert_eq!(times("dir"), ((10, 1), (10, 1), (30, 3)));
    let ctime = |path: &str| image.at(path).ctime.unwrap_or((10, 1));
    assert_eq!(
        (image.at("mtime").atime, ctime("mtime")),
        ((10, 1), (10, 1))
    );
    assert_eq!((image.at("link").atime, ctime("link")), ((20, 2), (10, 1)));
}

// uid, gid | 32 bits less the all-ones value; more is an error

const MAX_ID: u64 = 0xffff_fffe;

#[test]
fn owners_take_32_bits_less_all_ones() {
    for (uid, gid) in [(65_535, 65_536), (1 << 21, (1 << 21) - 1), (MAX_ID, MAX_ID)] {
        let image = layer(&[
            file("f", "").owner(uid, gid),
            dir("d").owner(uid, gid),
            symlink("s", "f").owner(uid, gid),
        ]);
        for path in ["f", "d", "s"] {
            let node = image.at(path);
            assert_eq!((u64::from(node.uid), u64::from(node.gid)), (uid, gid));
        }
    }
    let tar = Tar::new().header(
        &Header::new(b'0')
            .gnu()
            .name("f")
            .base256(108, 8, i128::from(MAX_ID)),
        "",
    );
    assert_eq!(
        u64::from(image(&tar.finish(), &options()).at("f").uid),
        MAX_ID
    );
}

#[test]
fn more_than_32_bits_or_all_ones_is_refused() {
    for id in [MAX_ID + 1, MAX_ID + 2, u64::MAX] {
        refused(ErrorKind::Entry, &[file("f", "").owner(id, 0)]);
        refused(ErrorKind::Entry, &[dir("f").owner(0, id)]);
    }
    for id in [-1, -2, 1 << 32] {
        let header = Header::new(b'0').gnu().name("f").base256(108, 8, id);
        let error = refused_any(&Tar::new().header(&header, "").finish());
        assert_eq!(error.offset(), Some(0));
    }
}

/// Refused as malformed or as impossible, which is a matter of taste.
#[track_caller]
fn refused_any(tar: &[u8]) -> tar2vhd::Error {
    match crate::common::layer::convert(tar, &options()) {
        Ok((_, summary)) => panic!("accepted: {summary:?}"),
        Err(error) => {
            let kinds = [ErrorKind::Corrupt, ErrorKind::Entry];
            assert!(kinds.contains(&error.kind()), "{error:?}");
            error
        }
    }
}

// mode | 12 permission bits

#[test]
fn modes_keep_12_bits() {
    for mode in [0, 0o1, 0o7777, 0o4000, 0o2000, 0o1000] {
        let image = layer(&[file("f", "").mode(mode), dir("d").mode(mode)]);
        assert_eq!((image.at("f").mode, image.at("d").mode), (mode, mode));
    }
    // Some tars put the whole st_mode there.
    let tar = Tar::new().header(&Header::new(b'0').name("f").mode(0o100_755), "");
    assert_eq!(image(&tar.finish(), &options()).at("f").mode, 0o755);
}

// SCHILY.xattr.*, LIBARCHIVE.xattr.* (base64), RHT.security.selinux | kept

#[test]
fn xattrs_of_every_spelling_are_kept() {
    let image = layer(&[
        file("schily", "").xattr("user.a", b"1\0=\n\xff"),
        file("libarchive", "").record("LIBARCHIVE.xattr.user.b", "AAEC/w=="),
        file("unpadded", "").record("LIBARCHIVE.xattr.user.b", "AAEC/w"),
        file("quoted", "").record("LIBARCHIVE.xattr.user.%25b", "eA=="),
        file("selinux", "").record("RHT.security.selinux", "system_u:object_r:bin_t:s0\0"),
        file("empty", "").xattr("user.empty", ""),
        file("both", "")
            .record("LIBARCHIVE.xattr.user.c", "Yg==")
            .xattr("user.d", "d"),
    ]);
    image.assert_no_warnings();
    image.assert_xattrs("schily", &[("user.a", "1\\x00=\\n\\xff")]);
    image.assert_xattrs("libarchive", &[("user.b", "\\x00\\x01\\x02\\xff")]);
    image.assert_xattrs("unpadded", &[("user.b", "\\x00\\x01\\x02\\xff")]);
    image.assert_xattrs("quoted", &[("user.%b", "x")]);
    let label = "system_u:object_r:bin_t:s0\\x00";
    image.assert_xattrs("selinux", &[("security.selinux", label)]);
    image.assert_xattrs("empty", &[("user.empty", "")]);
    image.assert_xattrs("both", &[("user.c", "b"), ("user.d", "d")]);
}

#[test]
fn damaged_base64_is_refused() {
    let bad = file("f", "").record("LIBARCHIVE.xattr.user.b", "A*B=");
    let tar = Tar::of(&[bad]);
    refused_any(&tar);
}

/// A file with these attributes keeps them all, in any order and mix of sizes.
fn assert_kept(xattrs: &Pairs) -> Image {
    let mut entry = file("f", "data");
    entry.xattrs.clone_from(xattrs);
    let mut on_dir = dir("d");
    on_dir.xattrs.clone_from(xattrs);
    let image = layer(&[entry, on_dir]);
    image.assert_no_warnings();
    if image.is_readable() && image.xattrs("f").is_some() {
        let wanted: BTreeMap<_, _> = xattrs.iter().cloned().collect();
        assert_eq!(image.at("f").xattrs.as_ref(), Some(&wanted));
        assert_eq!(image.at("d").xattrs.as_ref(), Some(&wanted));
    }
    image
}

fn has_feature(image: &Image, feature: &str) -> Option<bool> {
    let features = oracle::debugfs(image.path(), "features")?;
    Some(features.split_whitespace().any(|word| word == feature))
}

fn named(count: usize, len: usize, value: usize) -> Pairs {
    (0..count)
        .map(|i| {
            let name = format!("user.{:x<len$}", format!("{i}."), len = len - 5);
            (name.into_bytes(), vec![i as u8 + 1; value])
        })
        .collect()
}

#[test]
fn xattrs_go_to_the_inode_then_a_block_then_inodes_of_their_own() {
    for (count, len, value, own_inode) in [
        (1, 8, 10, false),
        (3, 8, 8, false),
        (1, 8, 70, false), // around what an inode holds
        (1, 8, 80, false),
        (1, 8, 90, false),
        (14, 10, 30, false), // a block
        (60, 10, 40, false),
        (1, 8, 3900, false),
        (1, 8, 4000, false), // around what a block holds
        (1, 8, 4096, true),
        (1, 8, 5000, true),
        (2, 8, 3000, true),
        (3, 20, 65_536, true),
        (40, 30, 2000, true),
    ] {
        let image = assert_kept(&named(count, len, value));
        if let Some(feature) = has_feature(&image, "ea_inode") {
            assert_eq!(feature, own_inode, "{count} of {len} and {value}");
        }
    }
}

#[test]
fn xattrs_of_every_prefix_and_order_are_found() {
    // The order on disk is index, length, name: neither the tar's nor the alphabet's.
    let mut xattrs: Pairs = [
        "user.z",
        "user.aa",
        "user.b",
        "security.zz",
        "security.a",
        "user.ab",
    ]
    .map(|name| (name.as_bytes().to_vec(), name.as_bytes().to_vec()))
    .to_vec();
    xattrs.extend(named(13, 30, 20));
    assert_kept(&xattrs);
    xattrs.reverse();
    assert_kept(&xattrs);
}

#[test]
fn files_with_equal_large_values_each_read_their_own() {
    let value = "v".repeat(10_000);
    let image = layer(&[
        file("a", "").xattr("user.a", &value),
        file("b", "").xattr("user.a", &value),
        file("c", "").xattr("user.other", &value),
        file("d", "").xattr("user.a", "w".repeat(10_000)),
        link("e", "a"),
    ]);
    for (path, name, value) in [
        ("a", "user.a", &value),
        ("b", "user.a", &value),
        ("c", "user.other", &value),
        ("d", "user.a", &"w".repeat(10_000)),
    ] {
        let wanted = BTreeMap::from([(name.as_bytes().to_vec(), value.clone().into_bytes())]);
        if image.is_readable()
            && let Some(xattrs) = &image.at(path).xattrs
        {
            assert_eq!(xattrs, &wanted);
        }
    }
}

#[test]
fn a_security_capability_is_kept() {
    // cap_net_bind_service+ep, version 2 and version 3 with a root of its own.
    let v2 = [1, 0, 0, 2, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let image = layer(&[file("ping", "")
        .mode(0o755)
        .xattr("security.capability", v2)]);
    let wanted = BTreeMap::from([(b"security.capability".to_vec(), v2.to_vec())]);
    if let Some(xattrs) = &image.at("ping").xattrs {
        assert_eq!(xattrs, &wanted);
    }
}

#[test]
fn later_headers_of_one_inode_unite_xattrs() {
    let image = layer(&[
        file("f", "").xattr("user.a", "1").xattr("user.b", "1"),
        link("l", "f").xattr("user.b", "2").xattr("user.c", "2"),
    ]);
    image.assert_xattrs("f", &[("user.a", "1"), ("user.b", "2"), ("user.c", "2")]);
}

// system.posix_acl_access / _default; SCHILY.acl.access/default text

/// An ACL in the form of the system call.
fn acl(entries: &[(u16, u16, u32)]) -> Vec<u8> {
    let mut bytes = 2_u32.to_le_bytes().to_vec();
    for (tag, perm, id) in entries {
        bytes.extend_from_slice(&tag.to_le_bytes());
        bytes.extend_from_slice(&perm.to_le_bytes());
        bytes.extend_from_slice(&id.to_le_bytes());
    }
    bytes
}

const NO_ID: u32 = u32::MAX;

fn sample_acl() -> Vec<u8> {
    acl(&[
        (0x01, 6, NO_ID),
        (0x02, 4, 1000),
        (0x04, 4, NO_ID),
        (0x08, 7, 2000),
        (0x10, 6, NO_ID),
        (0x20, 0, NO_ID),
    ])
}

#[test]
fn posix_acls_read_back_as_the_system_call_gave_them() {
    let image = layer(&[
        file("f", "")
            .mode(0o660)
            .xattr("system.posix_acl_access", sample_acl()),
        dir("d")
            .mode(0o660)
            .xattr("system.posix_acl_default", sample_acl()),
        dir("e")
            .mode(0o660)
            .xattr("system.posix_acl_access", sample_acl())
            .xattr("system.posix_acl_default", sample_acl())
            .xattr("user.a", "v"),
    ]);
    image.assert_no_warnings();
    for (path, name) in [
        ("f", "system.posix_acl_access"),
        ("d", "system.posix_acl_default"),
        ("e", "system.posix_acl_access"),
        ("e", "system.posix_acl_default"),
    ] {
        if let Some(xattrs) = &image.at(path).xattrs {
            assert_eq!(
                xattrs.get(name.as_bytes()),
                Some(&sample_acl()),
                "{path} {name}"
            );
        }
    }
    image.assert_xattrs(
        "f",
        &[(
            "system.posix_acl_access",
            &crate::common::tree::text(&sample_acl()),
        )],
    );
}

#[test]
fn acls_as_text_are_the_same_acls() {
    let texts = [
        // As star writes them, as bsdtar does, and as people do.
        "user::rw-,user:joe:r--:1000,group::r--,group:staff:rwx:2000,mask::rw-,other::---",
        "user::rw-\nuser:1000:r--\ngroup::r--\ngroup:2000:rwx\nmask::rw-\nother::---\n",
        "u::rw,u:1000:r,g::r,g:2000:rwx,m::rw,o::-",
    ];
    for text in texts {
        let image = layer(&[
            file("f", "").mode(0o660).record("SCHILY.acl.access", text),
            dir("d").mode(0o755).record("SCHILY.acl.default", text),
        ]);
        image.assert_no_warnings();
        let wanted = crate::common::tree::text(&sample_acl());
        image.assert_xattrs("f", &[("system.posix_acl_access", &wanted)]);
        image.assert_xattrs("d", &[("system.posix_acl_default", &wanted)]);
    }
}

#[test]
fn damaged_acls_are_refused() {
    for bad in [
        &b"\x03\0\0\0\x01\0\x07\0\xff\xff\xff\xff"[..], // another version
        b"\x02\0\0\0\x01\0\x07\0",                      // cut short
        b"\x02\0\0\0\x03\0\x07\0\xff\xff\xff\xff",      // no such tag
    ] {
        let entry = file("f", "").xattr("system.posix_acl_access", bad);
        refused_any(&Tar::of(&[entry]));
    }
    refused_any(&Tar::of(&[
        file("f", "").record("SCHILY.acl.access", "user::what")
    ]));
}

#[test]
fn nfs4_acls_are_left_out_with_a_warning() {
    let entry = file("f", "").record("SCHILY.acl.ace", "owner@:rw-p--aARWcCos:-------:allow");
    let image = layer(&[entry]);
    image.assert_xattrs("f", &[]);
    let kinds: Vec<_> = image.warnings().into_iter().collect();
    assert_eq!(kinds, [(WarningKind::Skipped, "f".to_owned())]);
}

// user.* on a symlink, device or fifo | skipped with a warning

#[test]
fn user_xattrs_on_anything_but_files_and_directories_are_left_out_with_a_warning() {
    let entries: [Entry; 4] = [
        symlink("x", "t"),
        char_device("x", 1, 3),
        block_device("x", 8, 0),
        fifo("x"),
    ];
    for entry in entries {
        let image = layer(&[entry.xattr("user.a", "v").xattr("security.b", "kept")]);
        image.assert_xattrs("x", &[("security.b", "kept")]);
        image.assert_warnings(&[(WarningKind::XattrDropped, "x")]);
    }
    // A hard link is what it leads to.
    let image = layer(&[symlink("s", "t"), link("l", "s").xattr("user.a", "v")]);
    image.assert_xattrs("s", &[]);
    image.assert_warnings(&[(WarningKind::XattrDropped, "l")]);
}

#[test]
fn symlinks_of_both_kinds_keep_xattrs_in_a_block() {
    let value = "v".repeat(3000);
    for target in ["short".to_owned(), "t/".repeat(500)] {
        let image = layer(&[symlink("s", &target).xattr("security.a", &value)]);
        image.assert_symlink("s", &target);
        if let Some(xattrs) = &image.at("s").xattrs {
            assert_eq!(xattrs[&b"security.a"[..]], value.as_bytes());
        }
    }
}

// trusted.* from the tar, in whiteout mode | dropped with a warning

#[test]
fn trusted_xattrs_are_dropped_with_a_warning_in_whiteout_mode_alone() {
    let entries = [
        dir("d")
            .xattr("trusted.overlay.opaque", "y")
            .xattr("user.a", "v"),
        file("f", "").xattr("trusted.overlay.redirect", "/etc"),
        file("g", "").xattr("trusted.anything", "x"),
    ];
    let image = layer(&entries);
    image.assert_xattrs("d", &[("user.a", "v")]);
    image.assert_xattrs("f", &[]);
    image.assert_xattrs("g", &[]);
    image.assert_warnings(&[
        (WarningKind::XattrDropped, "d"),
        (WarningKind::XattrDropped, "f"),
        (WarningKind::XattrDropped, "g"),
    ]);
    let image = layer_with(&entries, &options().whiteouts(false));
    image.assert_xattrs("d", &[("trusted.overlay.opaque", "y"), ("user.a", "v")]);
    image.assert_xattrs("f", &[("trusted.overlay.redirect", "/etc")]);
    image.assert_xattrs("g", &[("trusted.anything", "x")]);
    image.assert_no_warnings();
}

// prefixes the kernel has no handler for, system.data, system.* but ACLs

#[test]
fn xattrs_without_a_handler_are_left_out_with_a_warning() {
    for name in [
        "com.apple.quarantine",
        "system.data",
        "system.nfs4_acl",
        "system.richacl",
        "os2.x",
        "user",
        "nodots",
    ] {
        let image = layer(&[file("f", "").xattr(name, "v").xattr("user.a", "v")]);
        image.assert_xattrs("f", &[("user.a", "v")]);
        image.assert_warnings(&[(WarningKind::XattrDropped, "f")]);
    }
}

// xattr name over 255 bytes, value over 64 KiB, more than inode, block and ea_inode can hold

#[test]
fn xattrs_beyond_what_the_kernel_takes_are_refused() {
    let name = |len: usize| format!("user.{}", "n".repeat(len - 5));
    assert_kept(&vec![(name(255).into_bytes(), vec![7; 65_536])]);
    refused(ErrorKind::Entry, &[file("f", "").xattr(name(256), "v")]);
    refused(
        ErrorKind::Entry,
        &[file("f", "").xattr("user.a", vec![7; 65_537])],
    );
    refused_with(
        ErrorKind::Entry,
        &[dir("d").xattr("trusted.a", vec![7; 65_537])],
        &options().whiteouts(false),
    );
}

#[test]
fn more_xattrs_than_inode_and_block_name_are_refused() {
    assert_kept(&named(15, 255, 1));
    let mut entry = file("f", "");
    entry.xattrs = named(20, 255, 1);
    refused_tar_any_path(&Tar::of(&[entry]));
}

/// Refused with the path, wherever it was noticed.
#[track_caller]
fn refused_tar_any_path(tar: &[u8]) {
    let error = refused_tar(ErrorKind::Limit, tar, &options());
    assert_eq!(error.path(), Some(&b"f"[..]), "{error}");
}
