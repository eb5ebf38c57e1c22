//! What a file system is called: the same for the same layer and options, on every machine.

use sha2::{Digest as _, Sha256};
use uuid::Builder;

use crate::disk::DiskIds;
use crate::ext4::finish::Identity;
use crate::options::{Options, Profile};
use crate::summary::Digest;

/// Raised whenever other bytes come out for the same input; CHANGELOG.md notes it.
const LAYOUT_VERSION: u32 = 1;

/// The identity of a file system: from the diff ID and everything else that shapes its bytes.
pub(super) fn of(diff_id: Digest, options: &Options, answers: [u8; 32]) -> Identity {
    let mut hash = Sha256::new();
    hash.update(b"tar2vhd ext4");
    hash.update(LAYOUT_VERSION.to_le_bytes());
    hash.update(diff_id.0);
    hash.update(answers);
    hash.update(options.max_size.to_le_bytes());
    hash.update(options.time.to_le_bytes());
    let Options {
        whiteouts,
        bottom_layer,
        inline_data,
        keep_zeros,
        ..
    } = options;
    hash.update([whiteouts, bottom_layer, inline_data, keep_zeros].map(|flag| u8::from(*flag)));
    if options.profile == Profile::Hcsshim {
        // Its file systems have no identity; the disks around them have.
        hash.update(b"hcsshim");
    }
    let hash: [u8; 32] = hash.finalize().into();
    let (uuid, seed) = hash.split_at(16);
    let mut words = seed
        .chunks_exact(4)
        .map(|word| word.iter().fold(0, |w, b| w << 8 | u32::from(*b)));
    Identity {
        uuid: custom_uuid(uuid),
        hash_seed: std::array::from_fn(|_| words.next().unwrap_or_default()),
    }
}

/// The ids of a disk around a file system.
pub(super) fn of_disk(uuid: [u8; 16], virtual_size: u64) -> DiskIds {
    let id = |what: &str| {
        let mut hash = Sha256::new();
        hash.update(b"tar2vhd disk ");
        hash.update(what);
        hash.update(uuid);
        hash.update(virtual_size.to_le_bytes());
        custom_uuid(&hash.finalize())
    };
    DiskIds {
        disk: id("disk"),
        file: id("file"),
        data: id("data"),
    }
}

/// A UUID of version 8 (RFC 9562, section 5.8) of the first 16 bytes.
fn custom_uuid(bytes: &[u8]) -> [u8; 16] {
    let mut head = [0; 16];
    head.iter_mut()
        .zip(bytes)
        .for_each(|(to, from)| *to = *from);
    Builder::from_custom_bytes(head).into_uuid().into_bytes()
}
