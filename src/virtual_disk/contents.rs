//! A digest of a disk's contents that does not depend on its format.

use uuid::Builder;

use super::DiskOptions;
use crate::disk::DiskFormat;
use crate::disk::DiskIds;

/// The unit of the digest: large enough that it is made with all of the processor's width.
pub(super) const UNIT: usize = 64 << 10;

/// All units of a disk that are not all zeros, in order.
pub(super) struct Contents {
    /// None for a disk that has no ids.
    hash: Option<blake3::Hasher>,
    len: u64,
}

impl Contents {
    pub(super) fn new(format: DiskFormat) -> Self {
        Self {
            hash: (format != DiskFormat::Raw).then(blake3::Hasher::new),
            len: 0,
        }
    }

    /// Adds the unit of that number, which is whole: what the disk has not is zero.
    pub(super) fn add(&mut self, number: u64, unit: &[u8; UNIT]) {
        if let Some(hash) = &mut self.hash {
            hash.update(&number.to_le_bytes());
            hash.update(blake3::hash(unit).as_bytes());
        }
    }

    /// Counts bytes of pages that are not all zeros.
    pub(super) fn count(&mut self, bytes: usize) {
        self.len += bytes as u64;
    }

    /// Bytes of pages that are not all zeros.
    pub(super) fn len(&self) -> u64 {
        self.len
    }

    /// The ids of a disk with these contents, unless it is to have another.
    pub(super) fn ids(&self, options: &DiskOptions, virtual_size: u64) -> DiskIds {
        let mut all = self.hash.clone().unwrap_or_default();
        all.update(options.format.as_str().as_bytes());
        for number in [
            virtual_size,
            options.block_size.unwrap_or(0).into(),
            options.logical_sector_size.into(),
            options.physical_sector_size.into(),
            options.time,
        ] {
            all.update(&number.to_le_bytes());
        }
        all.update(&options.id.unwrap_or_default());
        let id = |what: &str| {
            let mut hash = all.clone();
            hash.update(b"tar2vhd copy ");
            hash.update(what.as_bytes());
            let mut head = [0; 16];
            hash.finalize_xof().fill(&mut head);
            // Version 8 (RFC 9562, section 5.8).
            Builder::from_custom_bytes(head).into_uuid().into_bytes()
        };
        DiskIds {
            disk: options.id.unwrap_or_else(|| id("disk")),
            file: id("file"),
            data: id("data"),
        }
    }
}
