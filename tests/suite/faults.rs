//! Every write of a conversion fails once, in each way that writes fail.

use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};

use tar2vhd::disk::{DiskOutput, MemoryDisk};
use tar2vhd::{DiskFormat, ErrorKind, convert};

use crate::common::entry::{dir, file, symlink};
use crate::common::layer::options;
use crate::common::tar::Tar;

/// Counts the calls and fails one of them.
struct Faulty {
    disk: MemoryDisk,
    calls: AtomicUsize,
    fails_at: usize,
    kind: io::ErrorKind,
    /// How much of the data is written before the failure.
    half: bool,
}

impl Faulty {
    fn new(fails_at: usize, kind: io::ErrorKind, half: bool) -> Self {
        Self {
            disk: MemoryDisk::new(),
            calls: AtomicUsize::new(0),
            fails_at,
            kind,
            half,
        }
    }

    fn call(&self) -> io::Result<()> {
        match self.calls.fetch_add(1, Ordering::Relaxed) == self.fails_at {
            true => Err(self.kind.into()),
            false => Ok(()),
        }
    }
}

impl DiskOutput for Faulty {
    fn write_at(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        if let Err(error) = self.call() {
            if self.half {
                self.disk.write_at(offset, &data[..data.len() / 2])?;
            }
            return Err(error);
        }
        self.disk.write_at(offset, data)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.call()?;
        self.disk.set_len(len)
    }
}

fn tar() -> Vec<u8> {
    let noise: Vec<u8> = (0..700_000u32).map(|i| (i % 251) as u8 + 1).collect();
    let mut entries = vec![
        dir("d"),
        symlink("d/l", "t".repeat(100)),
        file("d/f", noise),
    ];
    entries.extend((0..300).map(|i| file(format!("d/{i}"), format!("{i}"))));
    Tar::of(&entries)
}

#[test]
fn whichever_write_fails_the_conversion_does() {
    let tar = tar();
    for format in [DiskFormat::Raw, DiskFormat::Vhd, DiskFormat::Vhdx] {
        for threads in [1, 3] {
            let options = options().format(format).threads(threads);
            let whole = Faulty::new(usize::MAX, io::ErrorKind::Other, false);
            convert(&tar[..], &whole, &options).unwrap();
            let calls = whole.calls.into_inner();
            assert!(calls > 5, "{calls} writes");
            for n in 0..calls {
                for (fault, kind, half) in [
                    (io::ErrorKind::Other, ErrorKind::Output, false),
                    (io::ErrorKind::WriteZero, ErrorKind::Output, true),
                    (io::ErrorKind::StorageFull, ErrorKind::StorageFull, true),
                ] {
                    let faulty = Faulty::new(n, fault, half);
                    let error = convert(&tar[..], &faulty, &options).unwrap_err();
                    assert_eq!(error.kind(), kind, "call {n}: {error}");
                    if fault == io::ErrorKind::StorageFull && n + 1 < calls {
                        assert!(
                            error.to_string().contains("bytes more are needed"),
                            "{error}"
                        );
                    }
                }
            }
        }
    }
}
