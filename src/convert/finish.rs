//! The parameters of a file system from the options, and its end, when everything is read.

use super::blocks::Blocks;
use crate::error::{Error, ErrorKind, Result};
use crate::ext4::capacity::Capacity;
use crate::ext4::format::{BLOCK_SIZE, MAX_BLOCKS};
use crate::ext4::identity::Identity;
use crate::ext4::parts::Crew;
use crate::ext4::profile::Profile as Ext4Profile;
use crate::ext4::writer::{Config, Writer};
use crate::options::{Options, Profile};
use crate::summary::{Blob, DiskSummary, VeritySummary};
use crate::threads;

pub(super) fn config(profile: &'static Ext4Profile, options: &Options) -> Result<Config> {
    let writable = options.capacity()?;
    let most = (options.max_size / BLOCK_SIZE as u64).min(MAX_BLOCKS);
    Ok(Config {
        max_blocks: match writable {
            Some(Capacity::Fixed(writable)) => writable.blocks,
            _ => most,
        },
        profile,
        keep_zeros: options.keep_zeros,
        inline_data: options.inline_data,
        time: options.time,
        seeded_by: None,
        writable,
    })
}

/// A disk that is whole.
pub(super) struct Finished {
    pub(super) disk: DiskSummary,
    pub(super) verity: Option<VeritySummary>,
}

/// Writes everything but the contents.
pub(super) fn finish_disk(
    mut writer: Writer<Blocks<'_>>,
    identity: &Identity,
    options: &Options,
    threads: usize,
) -> Result<Finished> {
    if options.is_writable() {
        writer.make_lost_and_found()?;
    }
    // Not the caller's own thread, also when it is one: a thread joins a pool once and for all.
    let pool = threads::pool(threads.max(2) - 1)?;
    let crew = match threads {
        1 => Crew::ALONE,
        _ => Crew::with(&pool),
    };
    let finished = writer.finish(identity, crew)?;
    let (blocks, inodes) = (finished.blocks, finished.inodes);
    // A hash tree is closed on the current pool.
    let disk = pool.install(|| match options.writable.or(finished.disk_size) {
        None => finished.sink.finish(blocks, identity.uuid, options),
        Some(size) => {
            let zero_end = finished.used_end * BLOCK_SIZE as u64;
            finished.sink.finish_writable(size, zero_end, identity.uuid)
        }
    })?;
    Ok(Finished {
        disk: DiskSummary {
            size: disk.size,
            virtual_size: disk.virtual_size,
            uuid: match options.profile {
                Profile::Default => identity.uuid,
                Profile::Hcsshim => [0; 16],
            },
            blocks,
            inodes,
        },
        verity: disk.verity,
    })
}

pub(super) fn check_expected(options: &Options, layer: &Blob, compressed: &Blob) -> Result<()> {
    let mismatch = |what: &str, is: &dyn std::fmt::Display, should: &dyn std::fmt::Display| {
        Error::new(
            ErrorKind::Mismatch,
            format!("the {what} is {is}, expected {should}"),
        )
    };
    if let Some(size) = options.expect_size.filter(|size| *size != compressed.size) {
        return Err(mismatch("size of the input", &compressed.size, &size));
    }
    if let Some(digest) = options
        .expect_digest
        .filter(|digest| *digest != compressed.digest)
    {
        return Err(mismatch("digest of the input", &compressed.digest, &digest));
    }
    if let Some(digest) = options
        .expect_diff_id
        .filter(|digest| *digest != layer.digest)
    {
        return Err(mismatch("diff ID of the layer", &layer.digest, &digest));
    }
    Ok(())
}
