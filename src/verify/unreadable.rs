//! Media that cannot be read everywhere.

use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use vhd_format::ReadAt;

use super::VerifyOptions;
use crate::disk::DiskFormat;
use crate::disk::{MemoryDisk, Volume};
use crate::error::ErrorKind;
use crate::options::Options;

/// A disk of which some bytes cannot be read.
struct BadMedium {
    bytes: Arc<Vec<u8>>,
    bad: Range<u64>,
    /// How often something was read there.
    failed: Arc<AtomicU64>,
}

impl ReadAt for BadMedium {
    fn size(&self) -> io::Result<u64> {
        Ok(self.bytes.len() as u64)
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        if offset < self.bad.end && self.bad.start < offset + buffer.len() as u64 {
            self.failed.fetch_add(1, Ordering::Relaxed);
            return Err(io::Error::other("the medium is worn out"));
        }
        self.bytes.read_at(offset, buffer)
    }
}

/// `inspect` looks at less, and reads the root directory with a reader that tells no kinds.
fn assert_inspection_fails(bytes: &Arc<Vec<u8>>, start: u64) {
    let failed = Arc::new(AtomicU64::new(0));
    let medium = BadMedium {
        bytes: Arc::clone(bytes),
        bad: start..start + 4096,
        failed: Arc::clone(&failed),
    };
    let found = Volume::from_storage(medium).and_then(|v| v.inspect());
    match found {
        Ok(found) if failed.load(Ordering::Relaxed) > 0 => assert_ne!(found.problems, [""; 0]),
        Ok(found) => assert_eq!(found.problems, [""; 0]),
        Err(e) => assert_eq!(e.kind(), ErrorKind::Input, "{start}: {e}"),
    }
}

/// A layer with a directory of its own blocks, a symbolic link and files.
fn layer() -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    for i in 0..300 {
        let mut header = tar::Header::new_ustar();
        header.set_size(5000);
        header.set_mode(0o644);
        let name = format!("directory/a name that takes some room {i}");
        tar.append_data(&mut header, name, &[i as u8; 5000][..])
            .unwrap();
    }
    tar.into_inner().unwrap()
}

#[test]
fn a_sector_that_cannot_be_read_is_no_damage_but_an_error_with_its_place() {
    for format in [DiskFormat::Raw, DiskFormat::Vhd, DiskFormat::Vhdx] {
        let disk = MemoryDisk::new();
        let options = Options::new()
            .format(format)
            .max_size(1 << 30)
            .verity(crate::verity::Verity::new());
        let summary = crate::convert(&layer()[..], &disk, &options).unwrap();
        let bytes = Arc::new(disk.into_vec());
        let mut refused = 0;
        for start in (0..bytes.len() as u64).step_by(4096) {
            let failed = Arc::new(AtomicU64::new(0));
            let medium = BadMedium {
                bytes: Arc::clone(&bytes),
                bad: start..start + 4096,
                failed: Arc::clone(&failed),
            };
            let options =
                VerifyOptions::new().root_hash(summary.verity.as_ref().unwrap().root_hash);
            let found = Volume::from_storage(medium).and_then(|v| v.verify(&options));
            let read = failed.load(Ordering::Relaxed) > 0;
            if read {
                assert_inspection_fails(&bytes, start);
            }
            match found {
                // Headers and region tables of a VHDX have copies.
                Ok(found) if read => {
                    let copies = 64 << 10..320 << 10;
                    assert!(
                        format == DiskFormat::Vhdx && copies.contains(&start),
                        "{start}"
                    );
                    assert_eq!(found.findings.len(), 1, "{found:?}");
                }
                Ok(found) => assert!(found.findings.is_empty(), "{found:?}"),
                Err(e) => {
                    refused += 1;
                    assert!(read);
                    assert_eq!(e.kind(), ErrorKind::Input, "{format:?}, {start}: {e}");
                    assert!(format!("{e:#}").contains("worn out"), "{e}");
                    assert!(e.offset().is_some(), "{e}");
                }
            }
        }
        assert!(refused > 100, "{refused}");
    }
}
