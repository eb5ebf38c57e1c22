//! What the kernel does with a file system that it may write to.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

use rustix::fs::statvfs;
use tar2vhd::scratch::ScratchOptions;
use tar2vhd::{DiskFormat, ErrorKind, Writable};

use super::{MIB, made, unwrap};
use crate::common::entry::{dir, file, marker};
use crate::common::kernel::Mount;
use crate::common::layer::{convert, layer_with, options};
use crate::common::oracle::fsck;
use crate::common::tar::Tar;

/// A disk, as a raw copy in a directory that goes with it.
fn raw(options: &ScratchOptions) -> (tempfile::TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("raw");
    unwrap(made(options).0, &path);
    (directory, path)
}

/// The files of this project, which are those of any.
fn sources() -> BTreeMap<PathBuf, Vec<u8>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = BTreeMap::new();
    let mut todo: Vec<_> = ["src", "tests", "testdata"].map(PathBuf::from).into();
    while let Some(relative) = todo.pop() {
        let path = root.join(&relative);
        if path.is_dir() {
            let names = fs::read_dir(&path).unwrap();
            todo.extend(names.map(|entry| relative.join(entry.unwrap().file_name())));
        } else {
            files.insert(relative, fs::read(path).unwrap());
        }
    }
    files
}

fn used(mount: &Mount) -> f64 {
    let found = statvfs(mount.path()).unwrap();
    1.0 - found.f_bfree as f64 / found.f_blocks as f64
}

#[test]
fn it_takes_files_until_it_is_full() {
    let sources = sources();
    for journal in [false, true] {
        let options = ScratchOptions::new().size(200 * MIB).journal(journal);
        let (_directory, path) = raw(&options.inodes(60_000));
        let Some(mount) = Mount::writable(&path) else {
            return;
        };
        let mut copies = 0;
        while used(&mount) < 0.95 {
            for (name, contents) in &sources {
                let to = mount.path().join(copies.to_string()).join(name);
                fs::create_dir_all(to.parent().unwrap()).unwrap();
                fs::write(to, contents).unwrap();
            }
            copies += 1;
            // What waits in memory has no place yet.
            File::open(mount.path()).unwrap().sync_all().unwrap();
            rustix::fs::syncfs(File::open(mount.path()).unwrap()).unwrap();
        }
        drop(mount);
        fsck(&path);
        let Some(mount) = Mount::image(&path) else {
            return;
        };
        for (name, contents) in &sources {
            for copy in 0..copies {
                let from = mount.path().join(copy.to_string()).join(name);
                assert!(fs::read(&from).unwrap() == *contents, "{from:?}");
            }
        }
    }
}

#[test]
fn containers_work_on_it() {
    let lower = layer_with(
        &[
            dir("etc"),
            file("etc/passwd", "root"),
            file("etc/gone", "x"),
            dir("usr"),
            file("usr/large", vec![7; 300_000]),
        ],
        &options().bottom_layer(true),
    );
    let upper = layer_with(
        &[
            marker("etc/.wh.gone"),
            file("etc/hosts", "localhost"),
            dir("new"),
            file("new/f", "1"),
        ],
        &options(),
    );
    let (_directory, path) = raw(&ScratchOptions::new().size(64 * MIB));
    let layers = [Mount::image(upper.path()), Mount::image(lower.path())];
    let [Some(upper), Some(lower)] = &layers else {
        return;
    };
    let names = |mount: &Mount| {
        let tree = mount.tree();
        let text = |path: &Vec<u8>| String::from_utf8_lossy(path).into_owned();
        tree.0.keys().skip(1).map(text).collect::<Vec<_>>()
    };
    {
        let Some(scratch) = Mount::writable(&path) else {
            return;
        };
        for name in ["upper", "work"] {
            fs::create_dir(scratch.path().join(name)).unwrap();
        }
        let Some(stack) = Mount::overlay_over(&[upper, lower], &scratch) else {
            return;
        };
        let at = |name: &str| stack.path().join(name);
        // Changed where it was large, changed, deleted, deleted as a whole, made anew, new.
        let mut large = File::options().append(true).open(at("usr/large")).unwrap();
        std::io::Write::write_all(&mut large, b"end").unwrap();
        drop(large);
        fs::write(at("etc/passwd"), "root user").unwrap();
        fs::remove_file(at("etc/hosts")).unwrap();
        fs::remove_dir_all(at("new")).unwrap();
        fs::create_dir(at("new")).unwrap();
        fs::write(at("etc/gone"), "back").unwrap();
        fs::rename(at("usr/large"), at("new/large")).unwrap();
    }
    fsck(&path);
    // After all is unmounted and mounted again it is as the container left it.
    let Some(scratch) = Mount::writable(&path) else {
        return;
    };
    let Some(stack) = Mount::overlay_over(&[upper, lower], &scratch) else {
        return;
    };
    assert_eq!(
        names(&stack),
        ["etc", "etc/gone", "etc/passwd", "new", "new/large", "usr"]
    );
    let read = |name: &str| fs::read(stack.path().join(name)).unwrap();
    assert_eq!(read("etc/passwd"), b"root user");
    assert_eq!(read("etc/gone"), b"back");
    assert_eq!(read("new/large"), [&[7; 300_000][..], b"end"].concat());
}

#[test]
fn its_journal_is_replayed_after_a_crash() {
    let (directory, path) = raw(&ScratchOptions::new().size(64 * MIB).journal(true));
    let Some(mount) = Mount::writable(&path) else {
        return;
    };
    let file = mount.path().join("file");
    fs::write(&file, vec![7; 100_000]).unwrap();
    File::open(&file).unwrap().sync_all().unwrap();
    // What a crash at this moment would leave.
    let crashed = directory.path().join("crashed");
    fs::copy(&path, &crashed).unwrap();
    drop(mount);
    let mut superblock = [0; 1024 + 100];
    File::open(&crashed)
        .unwrap()
        .read_exact(&mut superblock)
        .unwrap();
    assert_ne!(superblock[1024 + 96] & 4, 0, "no need to recover");
    let Some(mount) = Mount::writable(&crashed) else {
        return;
    };
    let read = fs::read(mount.path().join("file")).unwrap();
    assert_eq!(read, vec![7; 100_000]);
    drop(mount);
    fsck(&crashed);
}

#[test]
fn a_layer_becomes_a_root_that_can_grow() {
    let entries = [
        dir("bin"),
        file("bin/init", "#!"),
        dir("var"),
        file("var/large", vec![3; 2_000_000]),
    ];
    for journal in [false, true] {
        let options = options()
            .writable(Writable::of_size(64 * MIB).journal(journal))
            .bottom_layer(true);
        let image = layer_with(&entries, &options);
        assert_eq!(image.bytes.len() as u64, 64 * MIB);
        let Some(mount) = Mount::writable(image.path()) else {
            return;
        };
        let at = |name: &str| mount.path().join(name);
        assert!(at("lost+found").is_dir());
        assert!(used(&mount) < 0.2);
        fs::create_dir_all(at("home/user")).unwrap();
        fs::write(at("home/user/file"), vec![1; 20_000_000]).unwrap();
        fs::remove_file(at("var/large")).unwrap();
        assert_eq!(fs::read(at("bin/init")).unwrap(), b"#!");
        drop(mount);
        fsck(image.path());
        let Some(mount) = Mount::image(image.path()) else {
            return;
        };
        let read = fs::read(mount.path().join("home/user/file")).unwrap();
        assert!(read == vec![1; 20_000_000]);
    }
}

/// The copies of the superblock stand in the way of what is larger than a group.
#[test]
fn contents_step_over_the_copies() {
    let noise = |seed: u32| -> Vec<u8> {
        (0..34_500_000_u32)
            .flat_map(|i| ((i ^ seed).wrapping_mul(2_654_435_761)).to_le_bytes())
            .collect()
    };
    let [before, after] = [noise(1), noise(2)];
    let many: Vec<_> = (0..3000).map(|i| file(format!("many/{i}"), "")).collect();
    let mut entries = vec![
        file("replaced", before),
        file("replaced", "small"),
        file("large", after.clone()),
        dir("many"),
    ];
    entries.extend(many);
    let options = options()
        .writable(Writable::of_size(300 * MIB))
        .format(DiskFormat::Raw);
    let tar = Tar::of(&entries);
    let (bytes, summary) = convert(&tar, &options).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("raw");
    fs::write(&path, bytes).unwrap();
    assert_eq!(summary.disk.blocks, 300 << 8);
    fsck(&path);
    let Some(mount) = Mount::image(&path) else {
        return;
    };
    assert!(fs::read(mount.path().join("large")).unwrap() == after);
    assert_eq!(
        fs::read_dir(mount.path().join("many")).unwrap().count(),
        3000
    );
    drop(mount);
    // And when it is too small, that is said.
    let error = convert(&tar, &options.writable(Writable::of_size(260 * MIB))).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Limit, "{error}");
}
