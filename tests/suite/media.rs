//! Disks on what is no ordinary file: full file systems, block devices, files that change.

use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use tar2vhd::disk::MemoryDisk;
use tar2vhd::scratch::{self, ScratchOptions};
use tar2vhd::verify::{Verdict, VerifyOptions};
use tar2vhd::virtual_disk::DiskOptions;
use tar2vhd::{DiskFormat, ErrorKind, Volume};

use crate::common::kernel::Mount;
use crate::common::oracle::{run, shown};

const SIZE: u64 = 64 << 20;

/// An ext4 of 64 MiB that is empty.
fn file_system() -> Vec<u8> {
    let disk = MemoryDisk::new();
    let options = ScratchOptions::new()
        .size(SIZE)
        .format(DiskFormat::Raw)
        .fsync(false);
    scratch::create(&disk, &options).unwrap();
    disk.into_vec()
}

/// Writes a file whose pages of zeros are holes.
fn write_sparse(path: &Path, bytes: &[u8]) {
    let file = fs::File::create_new(path).unwrap();
    file.set_len(bytes.len() as u64).unwrap();
    for (offset, page) in (0..).step_by(4096).zip(bytes.chunks(4096)) {
        if page.iter().any(|byte| *byte != 0) {
            file.write_all_at(page, offset).unwrap();
        }
    }
}

#[test]
fn holes_are_read_where_there_is_no_room_to_fill_them() {
    let Some(mount) = Mount::tmpfs("4M") else {
        return;
    };
    let disk = mount.path().join("disk");
    let bytes = file_system();
    write_sparse(&disk, &bytes);
    let filler = fs::File::create_new(mount.path().join("filler")).unwrap();
    for offset in (0..).step_by(4096) {
        if filler.write_all_at(&[1; 4096], offset).is_err() {
            break;
        }
    }
    fs::write(mount.path().join("more"), [1; 4096]).unwrap_err();

    let found = Volume::open(&disk)
        .and_then(|disk| disk.verify(&VerifyOptions::new()))
        .unwrap();
    assert_eq!(found.verdict(), Verdict::Clean, "{found:?}");
    assert_eq!(
        Volume::open(&disk)
            .and_then(|disk| disk.inspect())
            .unwrap()
            .problems,
        [""; 0]
    );
    let volume = Volume::open(&disk).unwrap();
    let mut read = vec![1; bytes.len()];
    volume.read_at(0, &mut read).unwrap();
    assert!(read == bytes);
}

/// A block device over a file, as long as this value is there.
struct Loop(PathBuf);

impl Loop {
    fn over(file: &Path) -> Option<Self> {
        // As for mounts: none without root or without devices.
        if !crate::common::kernel::can_mount() {
            return None;
        }
        let made = run("losetup", |c| {
            c.args(["--find", "--show", "--read-only"]).arg(file)
        })?;
        if !made.status.success() {
            crate::common::skip::oracle_missing(&format!("no loop device: {}", shown(&made)));
            return None;
        }
        Some(Self(String::from_utf8(made.stdout).unwrap().trim().into()))
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        run("losetup", |c| c.arg("--detach").arg(&self.0));
    }
}

#[test]
fn block_devices_are_disks_like_files() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    let raw = file_system();
    fs::write(at("raw"), &raw).unwrap();
    for format in [DiskFormat::Raw, DiskFormat::Vhd, DiskFormat::Vhdx] {
        let options = DiskOptions::new().format(format).fsync(false);
        Volume::open(at("raw"))
            .and_then(|disk| disk.convert_to_file(at("disk"), &options))
            .unwrap();
        let Some(device) = Loop::over(&at("disk")) else {
            return;
        };
        let file = fs::metadata(at("disk")).unwrap().len();
        let found = Volume::open(&device.0)
            .and_then(|disk| disk.verify(&VerifyOptions::new()))
            .unwrap();
        assert_eq!(found.verdict(), Verdict::Clean, "{found:?}");
        assert_eq!((found.format, found.size), (format, file));
        assert_eq!(
            Volume::open(&device.0)
                .and_then(|disk| disk.inspect())
                .unwrap()
                .problems,
            [""; 0]
        );
        let options = DiskOptions::new().format(DiskFormat::Raw).fsync(false);
        Volume::open(&device.0)
            .and_then(|disk| disk.convert_to_file(at("copy"), &options))
            .unwrap();
        assert!(fs::read(at("copy")).unwrap() == raw, "{format:?}");
    }
}

#[test]
fn what_is_no_disk_is_told_by_its_kind() {
    let directory = tempfile::tempdir().unwrap();
    let error = Volume::open(directory.path()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Input);
    assert!(error.to_string().contains("is a directory"), "{error}");
    let pipe = directory.path().join("pipe");
    let Some(made) = run("mkfifo", |c| c.arg(&pipe)) else {
        return;
    };
    assert!(made.status.success(), "{}", shown(&made));
    let error = Volume::open(&pipe)
        .and_then(|disk| disk.verify(&VerifyOptions::new()))
        .unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Input);
    assert!(error.to_string().contains("copy the disk"), "{error}");
}

#[test]
fn a_file_that_changes_its_size_while_it_is_read_is_an_error() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    let raw = file_system();
    for format in [DiskFormat::Raw, DiskFormat::Vhd, DiskFormat::Vhdx] {
        fs::write(at("raw"), &raw).unwrap();
        let options = DiskOptions::new().format(format).fsync(false);
        Volume::open(at("raw"))
            .and_then(|disk| disk.convert_to_file(at("disk"), &options))
            .unwrap();
        let len = fs::metadata(at("disk")).unwrap().len();
        for changed in [len / 2, len - 512, len + 1, 0] {
            let volume = Volume::open(at("disk")).unwrap();
            let file = fs::OpenOptions::new().write(true).open(at("disk"));
            let file = file.unwrap();
            file.set_len(changed).unwrap();
            let verified = volume.verify(&VerifyOptions::new()).unwrap_err();
            let copied = volume.convert_to(&MemoryDisk::new(), &DiskOptions::new());
            for error in [verified, copied.unwrap_err()] {
                assert_eq!(error.kind(), ErrorKind::Input, "{error}");
                assert!(error.to_string().contains("changed while"), "{error}");
            }
            // Whole again, but for what was cut off.
            fs::remove_file(at("disk")).unwrap();
            Volume::open(at("raw"))
                .and_then(|disk| disk.convert_to_file(at("disk"), &options))
                .unwrap();
        }
    }
}
