//! Identities of file systems: the same for the same layer and options, on every machine.

use sha2::{Digest as _, Sha256};
use uuid::Builder;
#[cfg(feature = "image")]
use uuid::Uuid;

use crate::disk::DiskIds;
use crate::ext4::identity::Identity;
use crate::options::{Options, Profile, ScratchOptions};
use crate::summary::Digest;
#[cfg(feature = "image")]
use crate::verity::Verity;

/// Raised whenever other bytes come out for the same input; CHANGELOG.md notes it.
pub(crate) const LAYOUT_VERSION: u32 = 2;

/// The identity of a layer's file system: from the diff ID and everything else that shapes
/// its bytes.
pub(crate) fn of_layer(diff_id: Digest, options: &Options, answers: [u8; 32]) -> Identity {
    let Options {
        profile,
        whiteouts,
        max_size,
        bottom_layer,
        align,
        writable,
        free,
        journal,
        inodes,
        inline_data,
        keep_zeros,
        time,
        // Reproduces errors of hcsshim, whose file systems have no identity.
        faithful: _,
        // The disk format, and the hash tree behind the file system, do not change it.
        format: _,
        verity: _,
        // `answers` has all that was read of the layers below.
        lower: _,
        // These decide whether there is an image, not which one.
        max_entries: _,
        max_window: _,
        compression: _,
        allow_empty: _,
        expect_diff_id: _,
        expect_digest: _,
        expect_size: _,
        cancel: _,
        // These decide how it is made.
        inflater: _,
        threads: _,
        fsync: _,
        progress: _,
        timings: _,
    } = options;
    let mut hash = Sha256::new();
    hash.update(b"tar2vhd ext4");
    hash.update(LAYOUT_VERSION.to_le_bytes());
    hash.update(diff_id.0);
    hash.update(answers);
    hash.update(max_size.to_le_bytes());
    hash.update(time.to_le_bytes());
    hash.update([whiteouts, bottom_layer, inline_data, keep_zeros].map(|flag| u8::from(*flag)));
    if *profile == Profile::Hcsshim {
        // Its file systems have no identity; the disks around them have.
        hash.update(b"hcsshim");
    }
    if let Some(size) = writable {
        hash.update(b"writable");
        hash.update(size.to_le_bytes());
        hash.update(inodes.to_le_bytes());
        hash.update([u8::from(*journal)]);
    }
    if let Some(free) = free {
        hash.update(b"free");
        for number in [free, inodes, align] {
            hash.update(number.to_le_bytes());
        }
        hash.update([u8::from(*journal)]);
    }
    of_hash(&hash.finalize().into())
}

/// The options that shape the bytes of a disk, by the names that records give them.
#[cfg(feature = "image")]
pub(crate) fn shaping(options: &Options) -> Vec<(&'static str, String)> {
    let Options {
        format,
        profile,
        faithful,
        whiteouts,
        max_size,
        bottom_layer,
        align,
        writable,
        free,
        journal,
        inodes,
        inline_data,
        keep_zeros,
        time,
        verity,
        // These decide whether there is an image, not which one, or how it is made.
        lower: _,
        max_entries: _,
        max_window: _,
        compression: _,
        allow_empty: _,
        expect_diff_id: _,
        expect_digest: _,
        expect_size: _,
        cancel: _,
        inflater: _,
        threads: _,
        fsync: _,
        progress: _,
        timings: _,
    } = options;
    let size = |size: &Option<u64>| size.map_or("no".to_owned(), |size| size.to_string());
    vec![
        ("format", format.as_str().to_owned()),
        ("profile", profile.as_str().to_owned()),
        ("faithful", faithful.to_string()),
        ("whiteouts", whiteouts.to_string()),
        ("maxSize", max_size.to_string()),
        ("bottomLayer", bottom_layer.to_string()),
        ("align", align.to_string()),
        ("writable", size(writable)),
        ("free", size(free)),
        ("journal", journal.to_string()),
        ("inodes", inodes.to_string()),
        ("inlineData", inline_data.to_string()),
        ("keepZeros", keep_zeros.to_string()),
        ("time", time.to_string()),
        ("verity", verity.as_ref().map_or("no".to_owned(), described)),
    ]
}

#[cfg(feature = "image")]
fn described(Verity { salt, uuid }: &Verity) -> String {
    let salt: String = salt.iter().map(|byte| format!("{byte:02x}")).collect();
    let uuid = uuid.map_or("by contents".to_owned(), |uuid| {
        Uuid::from_bytes(uuid).to_string()
    });
    format!("salt {salt}, UUID {uuid}")
}

/// The identity of the file system of a whole image: from the chain ID of its layers and the
/// options. It is never that of the image's only layer, of which whiteouts would be kept.
pub(crate) fn of_image(chain_id: Digest, options: &Options) -> Identity {
    let answers = Sha256::digest(b"tar2vhd flattened").into();
    of_layer(chain_id, options, answers)
}

/// The identity of an empty file system: from everything that shapes its bytes.
pub(crate) fn of_scratch(options: &ScratchOptions) -> Identity {
    let ScratchOptions {
        size,
        inodes,
        journal,
        compat,
        label,
        uuid,
        time,
        // The disk format does not change it.
        format: _,
        block_size: _,
        fsync: _,
        cancel: _,
    } = options;
    let mut hash = Sha256::new();
    hash.update(b"tar2vhd scratch");
    hash.update(LAYOUT_VERSION.to_le_bytes());
    for number in [size, inodes, time] {
        hash.update(number.to_le_bytes());
    }
    hash.update([u8::from(*journal), u8::from(*compat)]);
    hash.update(label);
    hash.update([0]);
    if let Some(uuid) = uuid {
        hash.update(uuid);
    }
    let identity = of_hash(&hash.finalize().into());
    Identity {
        uuid: uuid.unwrap_or(identity.uuid),
        ..identity
    }
}

fn of_hash(hash: &[u8; 32]) -> Identity {
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
pub(crate) fn of_disk(uuid: [u8; 16], virtual_size: u64) -> DiskIds {
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
