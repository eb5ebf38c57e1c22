//! Scratch disks in files, without waiting for stable storage; and the same by qemu-img and
//! mkfs.ext4, where they are installed, which have to write what here is left out.

use std::error::Error;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use criterion::Criterion;
use ext4_view::Ext4;
use tar2vhd::DiskFormat;
use tar2vhd::disk::MemoryDisk;
use tar2vhd::scratch::ScratchOptions;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// The commands that hcsshim runs in the guest, for a file of 20 GiB, and its conversion to a disk.
const OTHERS: &str = "\
    qemu-img create -q -f raw raw 20G && \
    mkfs.ext4 -q -F -E lazy_itable_init=0,nodiscard \
        -O ^has_journal,sparse_super2,^resize_inode raw && \
    qemu-img convert -f raw -O vhdx -o block_size=1M raw others.vhdx && \
    rm raw others.vhdx";

fn main() -> Result<()> {
    let mut criterion = Criterion::default().configure_from_args();
    check()?;
    let directory = tempfile::tempdir()?;
    let path = directory.path().join("scratch.vhdx");
    let mut group = criterion.benchmark_group("scratch");
    group.sample_size(10);
    for (name, size) in [("1GiB", 1 << 30), ("20GiB", 20 << 30), ("2TiB", 2 << 40)] {
        let options = ScratchOptions::new().size(size).fsync(false);
        group.bench_function(name, |bencher| {
            // A new file each time: to replace one, some file systems wait for the disk.
            bencher.iter_custom(|iterations| {
                let mut total = Duration::ZERO;
                for _ in 0..iterations {
                    let start = Instant::now();
                    let made = tar2vhd::scratch::create_file(&path, &options);
                    total += start.elapsed();
                    assert!(made.is_ok() && std::fs::remove_file(&path).is_ok());
                }
                total
            });
        });
    }
    if others(directory.path()) {
        group.bench_function("20GiB by qemu-img and mkfs.ext4", |bencher| {
            bencher.iter(|| assert!(others(directory.path())));
        });
    }
    group.finish();
    criterion.final_summary();
    Ok(())
}

/// Checks that the timed output is a file system.
fn check() -> Result<()> {
    let disk = MemoryDisk::new();
    let options = ScratchOptions::new().size(64 << 20).format(DiskFormat::Raw);
    tar2vhd::scratch::create(&disk, &options)?;
    let fs = Ext4::load(Box::new(disk.into_vec()))?;
    assert!(fs.metadata("/lost+found")?.is_dir());
    Ok(())
}

/// Whether the others are here, and did it.
fn others(directory: &Path) -> bool {
    let path = std::env::var("PATH").unwrap_or_default();
    Command::new("sh")
        .args(["-c", OTHERS])
        .env("PATH", format!("{path}:/usr/sbin:/sbin"))
        .current_dir(directory)
        .output()
        .is_ok_and(|output| output.status.success())
}
