//! What is on a disk, as a digest that its format has no part in.

use sha2::{Digest as _, Sha256};
use uuid::Builder;

use super::DiskOptions;
use crate::disk::DiskIds;

/// The unit in which zeros are left out, and which all formats share.
pub(super) const PAGE: usize = 4096;

/// All pages of a disk that are not zero, in order.
pub(super) struct Contents {
    hash: Sha256,
    len: u64,
}

impl Contents {
    pub(super) fn new() -> Self {
        Self {
            hash: Sha256::new(),
            len: 0,
        }
    }

    /// Adds pages that follow each other; only the disk's last one may be short.
    pub(super) fn add(&mut self, offset: u64, pages: &[u8]) {
        for (page, number) in pages.chunks(PAGE).zip(offset / PAGE as u64..) {
            self.hash.update(number.to_le_bytes());
            self.hash.update(page);
        }
        self.len += pages.len() as u64;
    }

    /// Bytes of these pages.
    pub(super) fn len(&self) -> u64 {
        self.len
    }

    /// The ids of a disk with these contents, unless it is to have another.
    pub(super) fn ids(&self, options: &DiskOptions, virtual_size: u64) -> DiskIds {
        let mut all = self.hash.clone();
        all.update(options.format.as_str());
        for number in [
            virtual_size,
            options.block_size.unwrap_or(0).into(),
            options.logical_sector_size.into(),
            options.physical_sector_size.into(),
            options.time,
        ] {
            all.update(number.to_le_bytes());
        }
        all.update(options.id.unwrap_or_default());
        let id = |what: &str| {
            let mut hash = all.clone();
            hash.update("tar2vhd copy ");
            hash.update(what);
            let mut head = [0; 16];
            let hash = hash.finalize();
            head.iter_mut().zip(hash).for_each(|(to, from)| *to = from);
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
