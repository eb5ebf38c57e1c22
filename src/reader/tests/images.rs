//! Images, filled by the kernel, by mke2fs and by this crate.

use std::fs::{self, File};
use std::os::unix::fs::{FileExt, PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;

use rustix::fs::{AtFlags, CWD, FileType, Mode, Timespec, Timestamps, makedev, mknodat, utimensat};

use super::kernel::Mount;
use crate::convert::convert;
use crate::disk::MemoryDisk;
use crate::options::Options;

/// A missing oracle is an error where `TAR2VHD_REQUIRE_ORACLES` is set.
pub(super) fn oracle_missing(what: &str) {
    assert!(
        std::env::var_os("TAR2VHD_REQUIRE_ORACLES").is_none_or(|value| value == "0"),
        "{what}"
    );
}

/// Runs a tool over an image; `None` where the machine has none.
pub(super) fn run(tool: &str, arguments: &[&str], image: &Path) -> Option<String> {
    let path = std::env::var("PATH").unwrap_or_default();
    let output = Command::new(tool)
        .env("LC_ALL", "C")
        .env("PATH", format!("{path}:/usr/sbin:/sbin"))
        .args(arguments)
        .arg(image)
        .output();
    let output = match output {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            oracle_missing(&format!("{tool} is not installed"));
            return None;
        }
        output => output.unwrap(),
    };
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said).into_owned();
    // 1 says that e2fsck changed something, which -D always does.
    let is_well = output.status.success() || tool == "e2fsck" && output.status.code() == Some(1);
    assert!(is_well, "{tool}: {said}");
    Some(said)
}

/// Changes an image with a request to debugfs.
pub(super) fn debugfs(image: &Path, request: &str) -> Option<String> {
    run("debugfs", &["-w", "-R", request], image)
}

/// An image and what it was filled from.
pub(super) struct Filled {
    pub(super) image: tempfile::NamedTempFile,
    pub(super) source: tempfile::TempDir,
}

const OPTIONS: [&str; 8] = [
    "-q",
    "-F",
    "-N",
    "4096",
    "-U",
    "12345678-9abc-def0-1122-334455667788",
    "-E",
    "hash_seed=87654321-9abc-def0-1122-334455667788",
];

fn mke2fs(options: &[&str]) -> Option<tempfile::NamedTempFile> {
    let image = tempfile::NamedTempFile::new().unwrap();
    image.as_file().set_len(96 << 20).unwrap();
    run("mke2fs", &[&OPTIONS[..], options].concat(), image.path())?;
    Some(image)
}

/// A file system that the kernel has filled.
pub(super) fn filled_by_kernel(options: &[&str]) -> Option<Filled> {
    let image = mke2fs(options)?;
    let mount = Mount::writable(image.path())?;
    fill(mount.path(), options.contains(&"ea_inode"));
    drop(mount);
    let source = tempfile::tempdir().unwrap();
    Some(Filled { image, source })
}

/// A file system that mke2fs has filled.
pub(super) fn filled_by_mke2fs(options: &[&str]) -> Option<Filled> {
    let source = tempfile::tempdir().unwrap();
    fill(source.path(), false);
    let folder = source.path().to_str().unwrap();
    let image = mke2fs(&[options, &["-d", folder]].concat())?;
    Some(Filled { image, source })
}

/// Bytes that are not zero and not alike.
fn noise(len: usize) -> Vec<u8> {
    (0..len as u32)
        .map(|i| (i.wrapping_mul(77) >> 5) as u8 | 1)
        .collect()
}

/// An ACL of a user by number, with a mask.
const ACL: &[u8] = &[
    2, 0, 0, 0, 1, 0, 6, 0, 255, 255, 255, 255, 2, 0, 6, 0, 5, 0, 0, 0, 4, 0, 4, 0, 255, 255, 255,
    255, 16, 0, 6, 0, 255, 255, 255, 255, 32, 0, 0, 0, 255, 255, 255, 255,
];

/// Makes something of every kind.
fn fill(root: &Path, has_large_values: bool) {
    let at = |path: &str| root.join(path);
    fs::create_dir(at("d")).unwrap();
    fs::create_dir_all(at("deep/deeper/deepest")).unwrap();
    symlink("..", at("d/up")).unwrap();
    fs::write(at("d/file"), b"contents").unwrap();
    fs::write(at("d/other"), noise(5000)).unwrap();
    for len in [
        0, 1, 59, 60, 61, 150, 400, 1024, 4096, 12_288, 70_000, 300_000,
    ] {
        fs::write(at(&format!("d/of-{len}")), noise(len)).unwrap();
    }
    // Data here and there, far enough for blocks that are three times indirect.
    let sparse = File::create(at("sparse")).unwrap();
    for start in [0, 20_000, 300_000, 2 << 20, 70 << 20] {
        sparse.write_all_at(&noise(3000), start).unwrap();
    }
    // A tree of extents, or many indirect blocks.
    let torn = File::create(at("torn")).unwrap();
    for i in 0..700 {
        torn.write_all_at(&noise(100), i * 65_536).unwrap();
    }
    let reserved = File::create(at("reserved")).unwrap();
    let flags = rustix::fs::FallocateFlags::empty();
    if rustix::fs::fallocate(&reserved, flags, 0, 1 << 20).is_ok() {
        reserved.write_all_at(&noise(5000), 500_000).unwrap();
    } else {
        reserved.set_len(1 << 20).unwrap();
    }
    for len in [1, 58, 59, 60, 61, 100, 700] {
        symlink("x".repeat(len), at(&format!("d/link-of-{len}"))).unwrap();
    }
    symlink("d", at("to-d")).unwrap();
    symlink("/d", at("absolute")).unwrap();
    symlink("/d", at("deep/deeper/absolute")).unwrap();
    symlink("to-d/file", at("to-file")).unwrap();
    symlink("nowhere", at("dangling")).unwrap();
    symlink("circle", at("circle")).unwrap();
    symlink("d/file", at("chain-1")).unwrap();
    for n in 1..41 {
        symlink(format!("chain-{n}"), at(&format!("chain-{}", n + 1))).unwrap();
    }
    fs::hard_link(at("d/file"), at("deep/again")).unwrap();
    for (name, kind, device) in [
        ("null", FileType::CharacterDevice, (1, 3)),
        ("large", FileType::BlockDevice, (259, 70_000)),
        ("pipe", FileType::Fifo, (0, 0)),
        ("socket", FileType::Socket, (0, 0)),
    ] {
        let device = makedev(device.0, device.1);
        mknodat(CWD, at(name), kind, Mode::from_raw_mode(0o640), device).unwrap();
    }
    fs::create_dir(at("many")).unwrap();
    for n in 0..1500 {
        let name = format!("many/a name of which there are many {n}");
        fs::write(at(&name), b"").unwrap();
    }
    fs::write(at("many/Főtanúsítvány"), b"not ASCII").unwrap();
    fs::create_dir(at("few")).unwrap();
    for n in 0..3 {
        fs::write(at(&format!("few/{n}")), b"").unwrap();
    }
    std::os::unix::fs::chown(at("d/other"), Some(70_000), Some(4_000_000_000)).unwrap();
    fs::set_permissions(at("d/of-60"), fs::Permissions::from_mode(0o6751)).unwrap();
    for (path, value) in [("d/of-61", 20), ("d/of-150", 300), ("d", 60)] {
        xattr::set(at(path), "user.of-file", &noise(value)).unwrap();
    }
    xattr::set(at("d/of-61"), "trusted.x", b"").unwrap();
    xattr::set(at("d/of-61"), "security.y", b"value").unwrap();
    xattr::set(at("d/of-400"), "system.posix_acl_access", ACL).unwrap();
    xattr::set(at("deep"), "system.posix_acl_default", ACL).unwrap();
    if has_large_values {
        xattr::set(at("d/of-59"), "user.large", &noise(60_000)).unwrap();
        xattr::set(at("d/of-60"), "user.large", &noise(60_000)).unwrap();
    }
    for (path, seconds, nanos) in [
        ("d/of-0", -5, 999_999_999),
        ("d/of-1", 5_000_000_000, 1),
        ("d/of-59", 1_000_000_000, 0),
    ] {
        let time = Timespec {
            tv_sec: seconds,
            tv_nsec: nanos,
        };
        let times = Timestamps {
            last_access: time,
            last_modification: time,
        };
        utimensat(CWD, at(path), &times, AtFlags::SYMLINK_NOFOLLOW).unwrap();
    }
}

/// A tar in the making.
struct Tar(tar::Builder<Vec<u8>>);

impl Tar {
    fn add(&mut self, kind: tar::EntryType, path: &str, target: &str, data: &[u8]) {
        let mut header = tar::Header::new_ustar();
        header.set_entry_type(kind);
        header.set_path(path).unwrap();
        if !target.is_empty() {
            header.set_link_name(target).unwrap();
        }
        header.set_mode(0o4751);
        header.set_uid(7);
        header.set_gid(70_000);
        header.set_mtime(1_700_000_000);
        if path == "null" {
            header.set_device_major(300).unwrap();
            header.set_device_minor(70_000).unwrap();
        }
        header.set_size(data.len() as u64);
        header.set_cksum();
        self.0.append(&header, data).unwrap();
    }

    fn file(&mut self, path: &str, data: &[u8]) {
        self.add(tar::EntryType::Regular, path, "", data);
    }

    fn xattr(&mut self, name: &str, value: &[u8]) {
        let name = format!("SCHILY.xattr.{name}");
        self.0.append_pax_extensions([(&name[..], value)]).unwrap();
    }
}

/// A disk of a layer with something of every kind, as far as the hcsshim profile takes it.
pub(super) fn own(options: &Options, with_all: bool) -> Vec<u8> {
    use tar::EntryType;
    let mut tar = Tar(tar::Builder::new(Vec::new()));
    tar.xattr("user.small", b"value");
    tar.add(EntryType::Directory, "dir/", "", b"");
    for len in [0, 1, 60, 61, 130, 5000, 70_000] {
        tar.file(&format!("dir/of-{len}"), &noise(len));
    }
    tar.xattr("user.a", &noise(300));
    tar.file("dir/attributes", b"x");
    let mut torn = Vec::new();
    for _ in 0..400 {
        torn.extend([&noise(100)[..], &[0; 8092]].concat());
    }
    tar.file("torn", &torn);
    for name in ["ordered-z", "ordered-a", "ordered-empty", "ordered-m"] {
        let len = if name.ends_with("empty") { 0 } else { 5000 };
        tar.file(name, &noise(len));
    }
    tar.add(EntryType::Symlink, "short", "dir", b"");
    tar.add(EntryType::Symlink, "long", &"./".repeat(40), b"");
    tar.add(EntryType::Link, "same", "dir/of-5000", b"");
    tar.add(EntryType::Fifo, "pipe", "", b"");
    tar.add(EntryType::Char, "null", "", b"");
    if with_all {
        tar.xattr("user.large", &[b'v'; 9000]);
        tar.file("dir/large", b"x");
        tar.xattr("system.posix_acl_access", ACL);
        tar.file("dir/acl", b"x");
    }
    for n in 0..600 {
        tar.file(&format!("many/a name of which there are many {n}"), b"");
    }
    let disk = MemoryDisk::new();
    let options = options.clone().threads(1).fsync(false).max_size(64 << 20);
    convert(&tar.0.into_inner().unwrap()[..], &disk, &options).unwrap();
    disk.into_vec()
}
