//! ACLs that the kernel would not have stored so.

use tar2vhd::verify::{FindingKind, Verdict};

use super::{edited, kinds, position, verified};
use crate::common::entry::{Entry, dir, fifo, file, symlink};
use crate::common::layer::layer;

const ACCESS: &str = "system.posix_acl_access";

/// user::rw-, named users, group::r--, mask::rw-, other::---, in the form of the system call.
fn acl(users: u32) -> Vec<u8> {
    let mut bytes = 2_u32.to_le_bytes().to_vec();
    let mut entry = |tag: u16, perm: u16, id: u32| {
        bytes.extend(tag.to_le_bytes());
        bytes.extend(perm.to_le_bytes());
        bytes.extend(id.to_le_bytes());
    };
    entry(1, 6, u32::MAX);
    (0..users).for_each(|user| entry(2, 6, 1000 + user));
    entry(4, 4, u32::MAX);
    entry(16, 6, u32::MAX);
    entry(32, 0, u32::MAX);
    bytes
}

/// In an inode, in a block of its own, in one that two inodes share, in an inode of its own.
fn entries() -> Vec<Entry> {
    let with = |entry: Entry, users| entry.xattr(ACCESS, acl(users));
    vec![
        with(file("inode", "x"), 1),
        with(file("block", "x"), 40),
        with(file("shared", "x"), 50),
        with(fifo("sharing"), 50),
        with(dir("d"), 600),
        symlink("link", "inode"),
        file("none", ""),
    ]
}

#[test]
fn a_mode_that_is_not_that_of_its_acl_is_found() {
    let image = layer(&entries());
    assert_eq!(verified(&image.bytes).verdict(), Verdict::Clean);
    for (name, kind) in [
        ("inode", 0o100_000),
        ("block", 0o100_000),
        ("shared", 0o100_000),
        ("sharing", 0o010_000),
        ("d", 0o040_000),
    ] {
        for (mode, heeded) in [
            // Not the mask's, nobody's, another owner's, another's.
            (0o640, true),
            (0o600, false),
            (0o460, true),
            (0o664, true),
        ] {
            let command = format!("sif /{name} mode 0{:o}", kind | mode);
            let Some(damaged) = edited(&image.bytes, &[&command]) else {
                return;
            };
            let found = verified(&damaged);
            let [finding] = &found.findings[..] else {
                panic!("{command}: {found:#?}");
            };
            assert_eq!(finding.kind, FindingKind::Acl, "{command}");
            let path = format!("/{name}").into_bytes();
            assert_eq!(finding.place.path.as_ref(), Some(&path));
            let says = finding.message.contains("does not heed");
            assert_eq!(says, !heeded, "{finding}");
        }
        // Other bits are no matter of an ACL's.
        let command = format!("sif /{name} mode 0{:o}", kind | 0o7660);
        if let Some(image) = edited(&image.bytes, &[&command]) {
            assert_eq!(verified(&image).verdict(), Verdict::Clean, "{command}");
        }
    }
}

#[test]
fn an_acl_that_the_kernel_cannot_read_is_found() {
    let image = layer(&[
        file("f", "").xattr(ACCESS, acl(1)),
        dir("d").xattr("system.posix_acl_default", acl(2)),
        dir("e").xattr(ACCESS, acl(600)),
    ]);
    for users in [1, 2, 600] {
        // The first entries on disk: version 1, the owner, a named user.
        let mut stored = vec![1, 0, 0, 0, 1, 0, 6, 0];
        for user in 0..users {
            stored.extend([2, 0, 6, 0]);
            stored.extend((1000_u32 + user).to_le_bytes());
        }
        stored.extend([4, 0]);
        let at = position(&image.bytes, &stored);
        // Another version, an unknown tag, unknown permissions.
        for (offset, byte) in [(0, 2), (4, 3), (6, 9)] {
            let mut damaged = image.bytes.clone();
            damaged[at + offset] = byte;
            let found = verified(&damaged);
            assert!(kinds(&found).contains(&FindingKind::Acl), "{found:#?}");
        }
    }
}

/// What mke2fs copies from a directory on a file system of the kernel's.
#[cfg(target_os = "linux")]
#[test]
fn what_the_kernel_stored_is_right() {
    let directory = tempfile::tempdir().unwrap();
    let files = directory.path().join("files");
    std::fs::create_dir_all(files.join("d")).unwrap();
    for (i, name) in ["a", "b", "d"].into_iter().enumerate() {
        let path = files.join(name);
        if name != "d" {
            std::fs::write(&path, name).unwrap();
        }
        if xattr::set(&path, ACCESS, &acl(1 + i as u32)).is_err() {
            crate::common::skip::note("no ACLs on the file system of temporary files");
            return;
        }
    }
    let path = directory.path().join("image");
    let made = crate::common::oracle::run("mke2fs", |command| {
        let image = command.args(["-q", "-F", "-t", "ext4", "-d"]).arg(&files);
        image.arg(&path).arg("8m")
    });
    if made.is_some_and(|output| output.status.success()) {
        let image = std::fs::read(&path).unwrap();
        assert_eq!(verified(&image).verdict(), Verdict::Clean);
        let Some(damaged) = edited(&image, &["sif /a mode 0100600"]) else {
            return;
        };
        assert!(kinds(&verified(&damaged)).contains(&FindingKind::Acl));
    }
}
