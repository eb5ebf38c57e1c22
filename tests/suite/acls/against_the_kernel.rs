//! Trees that the kernel's own setxattr made, archived by the tools that know ACLs.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use tar2vhd::Options;

use super::{ACCESS, Acl, DEFAULT, acl, raw, shapes, written};
use crate::common::entry::{Entry, Kind, Segment, file, link};
use crate::common::kernel::Mount;
use crate::common::layer::{Image, image, layer_with, options};
use crate::common::oracle;
use crate::common::tar::Tar;
use crate::common::tree::{Node, NodeKind, text};

const OWNER: u32 = 7;
const OWNING_GROUP: u32 = 8;

/// To be written to, so that permission to write can be seen.
fn writable() -> Options {
    options().writable(tar2vhd::Writable::of_size(64 << 20))
}

/// Files, directories, FIFOs and devices with every shape of ACL, and hard links to files.
fn make_tree(root: &Path, shapes: &[(&str, Acl)]) {
    for (name, acl) in shapes {
        for (kind, mode) in [
            ("file", 0o600),
            ("dir", 0o700),
            ("fifo", 0o600),
            ("null", 0),
        ] {
            let path = root.join(format!("{name}.{kind}"));
            match kind {
                "file" => fs::write(&path, name).unwrap(),
                "dir" => fs::create_dir(&path).unwrap(),
                "fifo" => mknod(&path, &["p"]),
                _ => mknod(&path, &["c", "1", "3"]),
            }
            chown(&path, Some(OWNER), Some(OWNING_GROUP)).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            xattr::set(&path, ACCESS, &raw(acl)).unwrap();
            if kind == "file" {
                fs::hard_link(&path, root.join(format!("{name}.link"))).unwrap();
            }
        }
        let dir = root.join(format!("{name}.default"));
        fs::create_dir(&dir).unwrap();
        fs::set_permissions(&dir, fs::Permissions::from_mode(0o2750)).unwrap();
        xattr::set(&dir, DEFAULT, &raw(acl)).unwrap();
    }
}

fn mknod(path: &Path, kind: &[&str]) {
    let made = Command::new("mknod").arg(path).args(kind).output().unwrap();
    assert!(made.status.success(), "{}", oracle::shown(&made));
}

/// An empty file system of the kernel's to make a tree on.
struct Reference {
    _image: Image,
    mount: Mount,
}

impl Reference {
    fn new() -> Option<Self> {
        let image = layer_with(&[], &writable());
        let mount = Mount::writable(image.path())?;
        fs::remove_dir(mount.path().join("lost+found")).unwrap();
        Some(Self {
            _image: image,
            mount,
        })
    }
}

/// Path, mode, owner and attributes of everything but lost+found, whose names share an inode.
fn permissions(mount: &Mount) -> Vec<String> {
    let tree = mount.tree();
    let nodes = tree.0.iter().filter(|(path, _)| *path != b"lost+found");
    let line = |(path, node): (&Vec<u8>, &Node)| {
        let xattrs: Vec<_> = node.xattrs.iter().flatten().collect();
        let xattrs: Vec<_> = xattrs
            .iter()
            .map(|(name, value)| format!("{}={}", text(name), text(value)))
            .collect();
        format!(
            "{} {:o} {}:{} {:?} {}",
            text(path),
            node.mode,
            node.uid,
            node.gid,
            node.same_as.as_ref().map(|path| text(path)),
            xattrs.join(" ")
        )
    };
    nodes.map(line).collect()
}

/// Which of read, write and execute each user has, by a process of that user's.
fn access(root: &Path) -> Vec<String> {
    // Named users, members of named groups and of the owning one, the owner, anybody.
    let users = [
        (1042, 1),
        (1001, 1),
        (70_000, 2),
        (3, 2000),
        (3, 1001),
        (3, OWNING_GROUP),
        (OWNER, 3),
        (OWNER, 2000),
        (1042, 2000),
        (4, 4),
    ];
    let script = r#"for f in *; do
        a=; for t in -r -w -x; do if test $t "$f"; then a="$a$t"; fi; done
        echo "$f $a"
    done"#;
    let mut lines = Vec::new();
    for (uid, gid) in users {
        // Root may drop all other groups, which setting the user does.
        let output = Command::new("sh")
            .args(["-c", script])
            .current_dir(root)
            .uid(uid)
            .gid(gid)
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", oracle::shown(&output));
        let seen = String::from_utf8(output.stdout).unwrap();
        let seen = seen.lines().filter(|line| !line.starts_with("lost+found"));
        lines.extend(seen.map(|line| format!("{uid}:{gid} {line}")));
    }
    lines
}

#[track_caller]
fn assert_same(wanted: &Mount, layer: &[u8], of: &str) {
    let image = image(layer, &writable());
    image.assert_no_warnings();
    let Some(mount) = Mount::writable(image.path()) else {
        return;
    };
    assert_eq!(permissions(&mount), permissions(wanted), "{of}");
    assert_eq!(access(mount.path()), access(wanted.path()), "{of}");
}

/// A tool's archive of a directory; `None` if the tool is not there.
fn archive(tool: &str, options: &[&str], dir: &Path) -> Option<Vec<u8>> {
    let output = oracle::run(tool, |command| {
        command
            .args(options)
            .args(["-cf", "-", "-C"])
            .arg(dir)
            .arg(".")
    })?;
    assert!(output.status.success(), "{}", oracle::shown(&output));
    Some(output.stdout)
}

#[test]
fn archives_of_every_shape_give_what_setxattr_gives() {
    let Some(reference) = Reference::new() else {
        return;
    };
    make_tree(reference.mount.path(), &shapes());
    // The oracle sees ACLs: this one lets a user in whom the rest of the mode keeps out.
    let seen = access(reference.mount.path());
    assert!(
        seen.contains(&"1042:1 user.file -r-w".to_owned()),
        "{seen:?}"
    );
    assert!(seen.contains(&"4:4 user.file ".to_owned()), "{seen:?}");
    let root = reference.mount.path();
    for (tool, options) in [
        (
            "bsdtar",
            &["--format=pax", "--acls", "--exclude=./lost+found"][..],
        ),
        (
            "tar",
            &[
                "--format=posix",
                "--acls",
                "--numeric-owner",
                "--exclude=./lost+found",
            ],
        ),
        (
            "tar",
            &[
                "--format=posix",
                "--acls",
                "--xattrs",
                "--xattrs-include=*",
                "--numeric-owner",
            ],
        ),
    ] {
        if let Some(layer) = archive(tool, options, root) {
            assert_same(&reference.mount, &layer, &format!("{tool} {options:?}"));
        }
    }
}

/// Headers whose mode is that before setxattr, in any order of the names of a file.
#[test]
fn headers_without_the_mask_give_what_setxattr_gives() {
    let Some(reference) = Reference::new() else {
        return;
    };
    make_tree(reference.mount.path(), &shapes());
    let tree = reference.mount.tree();
    for spelling in 0..3 {
        let mut entries = Vec::new();
        for (path, node) in &tree.0 {
            if path.is_empty() {
                continue;
            }
            let kind = match &node.kind {
                NodeKind::Dir => Kind::Dir,
                NodeKind::Fifo => Kind::Fifo,
                NodeKind::Char(_) => Kind::Char(1, 3),
                _ => match &node.same_as {
                    Some(first) if first != path => Kind::Link(first.clone()),
                    _ => Kind::File(vec![Segment::Data(
                        fs::read(reference.mount.path().join(text(path))).unwrap(),
                    )]),
                },
            };
            let mode = match path.ends_with(b".default") {
                true => node.mode,
                // The kernel gave the rest.
                false => 0o600,
            };
            let mut entry =
                Entry::new(path, kind, mode).owner(u64::from(node.uid), u64::from(node.gid));
            let name = text(path);
            let shape = name.rsplit_once('.').unwrap().0;
            let shapes = shapes();
            let (_, acl) = shapes.iter().find(|(name, _)| *name == shape).unwrap();
            let (key, record) = match path.ends_with(b".default") {
                true => (DEFAULT, "SCHILY.acl.default"),
                false => (ACCESS, "SCHILY.acl.access"),
            };
            if spelling != 1 {
                entry = entry.record(record, written(acl));
            }
            if spelling != 0 {
                entry = entry.xattr(key, raw(acl));
            }
            entries.push(entry);
        }
        assert_same(&reference.mount, &Tar::of(&entries), "own");
    }
}

/// GNU tar writes names without numbers, unless it is told not to.
#[test]
fn acls_of_unknown_names_leave_what_setfacl_leaves_without_them() {
    let Some(reference) = Reference::new() else {
        return;
    };
    let root = reference.mount.path();
    // User and group 1 have a name everywhere.
    let shapes = [
        ("wide", acl([7, 4, 0], Some(7), &[(1, 7)], &[])),
        ("narrow", acl([6, 7, 4], Some(1), &[], &[(1, 7)])),
        ("none", acl([6, 7, 0], Some(0), &[(1, 7)], &[(1, 7)])),
        ("group", acl([6, 0, 0], Some(6), &[], &[(1, 6)])),
    ];
    make_tree(root, &shapes);
    for (name, _) in &shapes {
        fs::remove_dir(root.join(format!("{name}.default"))).unwrap();
    }
    let Some(layer) = archive("tar", &["--format=posix", "--acls"], root) else {
        return;
    };
    let stripped = oracle::run("setfacl", |c| c.args(["-R", "-P", "-b"]).arg(root));
    let Some(stripped) = stripped else {
        return;
    };
    assert!(stripped.status.success(), "{}", oracle::shown(&stripped));
    let image = image(&layer, &writable());
    // A file, a directory, a FIFO and a device of each; the link has no record of its own.
    assert_eq!(image.summary.warnings.len(), 4 * shapes.len());
    if let Some(mount) = Mount::writable(image.path()) {
        assert_eq!(permissions(&mount), permissions(&reference.mount));
        assert_eq!(access(mount.path()), access(root));
    }
}

/// A link before its target: the kernel has the file with the link's ACL, then its own header's.
#[test]
fn a_second_acl_gives_what_setxattr_gives() {
    let Some(reference) = Reference::new() else {
        return;
    };
    let root = reference.mount.path();
    let mut entries = Vec::new();
    for (i, (_, first)) in shapes().into_iter().enumerate() {
        for (j, (_, second)) in shapes().into_iter().enumerate() {
            let (name, alias) = (format!("{i}-{j}"), format!("link-{i}-{j}"));
            let path = root.join(&name);
            fs::write(&path, "").unwrap();
            fs::hard_link(&path, root.join(&alias)).unwrap();
            for acl in [&first, &second] {
                xattr::set(&path, ACCESS, &raw(acl)).unwrap();
            }
            let forward = link(&alias, &name).mode(0o600);
            entries.extend([
                forward.xattr(ACCESS, raw(&first)),
                file(&name, "").mode(0o600).xattr(ACCESS, raw(&second)),
            ]);
        }
    }
    assert_same(&reference.mount, &Tar::of(&entries), "setxattr twice");
}

/// The kernel's own chmod, of what a first header left.
#[test]
fn a_second_mode_gives_what_chmod_gives() {
    let Some(reference) = Reference::new() else {
        return;
    };
    let root = reference.mount.path();
    let mut entries = Vec::new();
    for (name, acl) in shapes() {
        for mode in [0o700, 0o755, 0o2001, 0o070] {
            let name = format!("{name}.{mode:o}");
            let path = root.join(&name);
            fs::create_dir(&path).unwrap();
            xattr::set(&path, ACCESS, &raw(&acl)).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            let dir = |mode| Entry::new(&name, Kind::Dir, mode);
            entries.extend([dir(0o700).xattr(ACCESS, raw(&acl)), dir(mode)]);
        }
    }
    assert_same(&reference.mount, &Tar::of(&entries), "chmod");
}
