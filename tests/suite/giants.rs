//! What takes minutes: only where TAR2VHD_GIANTS is set.

use tar2vhd::scratch::ScratchOptions;
use tar2vhd::{DiskFormat, ErrorKind};

use crate::common::entry::{Segment, dir, file, link, sparse};
use crate::common::kernel::Mount;
use crate::common::layer::{Image, image, options, refused};
use crate::common::oracle::fsck;
use crate::common::skip;
use crate::common::tar::{Header, Sparse, Tar};

fn wanted() -> bool {
    let wanted = std::env::var_os("TAR2VHD_GIANTS").is_some_and(|value| value != "0");
    if !wanted {
        skip::note("giants: TAR2VHD_GIANTS is not set");
    }
    wanted
}

/// So many empty files or directories.
fn many(count: u32, typeflag: u8, name: impl Fn(u32) -> String) -> Vec<u8> {
    let mut tar = Vec::with_capacity(count as usize * 512);
    for i in 0..count {
        let header = Header::new(typeflag).name(name(i)).mode(0o755);
        tar.extend_from_slice(&header.to_bytes());
    }
    tar.resize(tar.len() + 1024, 0);
    tar
}

/// Looks every name up through the kernel.
fn assert_found(image: &Image, count: u32, name: impl Fn(u32) -> String) {
    let Some(mount) = Mount::image(image.path()) else {
        return;
    };
    for i in 0..count {
        let path = mount.path().join(name(i));
        assert!(path.symlink_metadata().is_ok(), "{path:?} is not found");
    }
}

#[test]
fn a_directory_of_100_000_names() {
    if wanted() {
        let name = |i| format!("d/a-name-of-some-length-{i}");
        let image = image(&many(100_000, b'0', name), &options());
        assert_found(&image, 100_000, name);
    }
}

#[test]
fn a_directory_of_70_000_subdirectories() {
    if wanted() {
        let name = |i| format!("d/{i}");
        let image = image(&many(70_000, b'5', name), &options());
        assert_found(&image, 70_000, name);
    }
}

#[test]
fn empty_files_take_little_more_than_their_inodes() {
    if wanted() {
        let name = |i| format!("d{}/{i}", i % 100);
        let small = image(&many(70_000, b'0', name), &options());
        assert!(small.bytes.len() <= 24_000_000, "{}", small.bytes.len());
        let large = image(&many(1_000_000, b'0', name), &options());
        assert!(large.bytes.len() < 330_000_000, "{}", large.bytes.len());
        assert_found(&large, 1_000_000, name);
    }
}

#[test]
fn a_file_of_65_000_names_and_no_more() {
    if wanted() {
        let mut entries = vec![file("a", "x")];
        entries.extend((1..65_000).map(|i| link(format!("l{i}"), "a")));
        let linked = image(&Tar::of(&entries), &options());
        assert_found(&linked, 64_999, |i| {
            format!("l{}", i + 1).replace("l65000", "a")
        });
        // The name again is no further name.
        entries.push(link("l5", "a"));
        image(&Tar::of(&entries), &options());
        entries.push(link("one-more", "a"));
        refused(ErrorKind::Limit, &entries);
    }
}

#[test]
fn a_sparse_file_of_50_gib() {
    if wanted() {
        let hole = (50 << 30) / 2000;
        let mut segments = Vec::new();
        for i in 0..2000u32 {
            segments.push(Segment::Hole(hole - 5000));
            segments.push(Segment::Data(vec![i as u8 | 1; 5000]));
        }
        let entries = [dir("d"), sparse("d/sparse", segments)];
        let tar = Tar::new().sparse(Sparse::Pax10);
        let tar = entries.iter().fold(tar, |tar, entry| tar.add(entry));
        let image = image(&tar.finish(), &options());
        assert!(image.bytes.len() < 30_000_000, "{}", image.bytes.len());
        let Some(mount) = Mount::image(image.path()) else {
            return;
        };
        let found = std::fs::File::open(mount.path().join("d/sparse")).unwrap();
        assert_eq!(found.metadata().unwrap().len(), hole * 2000);
        for i in 0..2000u64 {
            let mut bytes = vec![0; 5000];
            std::os::unix::fs::FileExt::read_exact_at(&found, &mut bytes, (i + 1) * hole - 5000)
                .unwrap();
            assert!(bytes.iter().all(|byte| *byte == i as u8 | 1), "piece {i}");
        }
    }
}

#[test]
fn a_path_of_1_300_levels() {
    if wanted() {
        let path = "directory/".repeat(1300) + "file";
        let image = image(&Tar::of(&[file(&path, "deep")]), &options());
        assert_eq!(image.summary.entries.directories, 1301);
        let Some(mount) = Mount::image(image.path()) else {
            return;
        };
        // Longer than PATH_MAX: a step at a time.
        let mut at = rustix::fs::open(
            mount.path(),
            rustix::fs::OFlags::PATH,
            rustix::fs::Mode::empty(),
        )
        .unwrap();
        for name in path.split('/') {
            at = rustix::fs::openat(
                &at,
                name,
                rustix::fs::OFlags::PATH,
                rustix::fs::Mode::empty(),
            )
            .unwrap();
        }
        assert_eq!(rustix::fs::fstat(&at).unwrap().st_size, 4);
    }
}

#[test]
fn scratch_disks_of_every_size() {
    if wanted() {
        // ext4 below holds no file of 64 TiB, tmpfs does.
        let directory = tempfile::tempdir_in("/dev/shm").unwrap();
        let raw = directory.path().join("raw");
        for (tib, journal) in [(8, true), (16, false), (17, true), (64, false), (64, true)] {
            let options = ScratchOptions::new()
                .size(tib << 40)
                .journal(journal)
                .format(DiskFormat::Raw)
                .fsync(false);
            tar2vhd::scratch::create_file(&raw, &options).unwrap();
            fsck(&raw);
            let vhdx = directory.path().join("vhdx");
            let options = options.format(DiskFormat::Vhdx);
            let summary = tar2vhd::scratch::create_file(&vhdx, &options).unwrap();
            assert!(summary.size < 1 << 30, "{summary:?}");
        }
        let Some(mount) = Mount::writable(&raw) else {
            return;
        };
        std::fs::write(mount.path().join("file"), [7; 100_000]).unwrap();
        drop(mount);
        fsck(&raw);
    }
}

#[test]
fn a_mount_writes_next_to_nothing_to_a_scratch_disk() {
    if wanted() {
        let directory = tempfile::tempdir().unwrap();
        let raw = directory.path().join("raw");
        for journal in [false, true] {
            let options = ScratchOptions::new()
                .format(DiskFormat::Raw)
                .journal(journal);
            tar2vhd::scratch::create_file(&raw, &options).unwrap();
            let allocated = || {
                let file = std::fs::File::open(&raw).unwrap();
                file.sync_all().unwrap();
                std::os::unix::fs::MetadataExt::blocks(&file.metadata().unwrap()) * 512
            };
            let before = allocated();
            let Some(mount) = Mount::writable(&raw) else {
                return;
            };
            // The kernel starts to zero tables within 5 s, where it has to.
            std::thread::sleep(std::time::Duration::from_secs(8));
            drop(mount);
            let more = allocated() - before;
            assert!(more <= 256 << 10, "{more} bytes more");
        }
    }
}
