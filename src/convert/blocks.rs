//! Blocks of the file system to bytes of the disk, and the disk's end.

use std::thread::Scope;

use super::identity;
use crate::disk::{Container, DiskOutput, Stream};
use crate::error::{Error, Result};
use crate::ext4::format::BLOCK_SIZE;
use crate::ext4::writer::BlockSink;
use crate::options::{CancelToken, Options};
use crate::summary::VeritySummary;
use crate::verity::{Hashes, hash_device_blocks};

/// What a conversion writes to.
#[derive(Clone, Copy)]
pub(super) struct Outputs<'a> {
    pub disk: &'a dyn DiskOutput,
    /// Where the hash tree goes; on the disk, if nowhere else.
    pub hash_device: Option<&'a dyn DiskOutput>,
    /// The hashes of the blocks, if a tree is wanted.
    pub hashes: Option<&'a Hashes>,
}

/// Blocks to bytes of the disk.
pub(super) struct Blocks<'scope> {
    stream: Stream<'scope>,
    /// Blocks on their way to the hash tree.
    hashed: Option<Stream<'scope>>,
    outputs: Outputs<'scope>,
    container: Container,
    cancel: CancelToken,
}

/// More threads than this hash no faster than a disk is written.
const HASHERS_MAX: usize = 16;

/// A disk that is whole.
pub(super) struct Disk {
    pub size: u64,
    pub virtual_size: u64,
    pub verity: Option<VeritySummary>,
}

impl<'scope> Blocks<'scope> {
    /// Everything on the caller's thread.
    pub(super) fn inline(outputs: Outputs<'scope>, options: &Options) -> Result<Self> {
        let stream = Stream::inline(outputs.disk);
        let hashed = outputs.hashes.map(|hashes| Stream::inline(hashes));
        Self::new(stream, hashed, outputs, options)
    }

    /// Writes on a thread of `scope`, and hashes on as many as may be.
    pub(super) fn threaded<'env>(
        scope: &'scope Scope<'scope, 'env>,
        outputs: Outputs<'scope>,
        options: &Options,
        threads: usize,
    ) -> Result<Self> {
        let stream = Stream::threaded(scope, outputs.disk, 1);
        let hashed = outputs
            .hashes
            .map(|hashes| Stream::threaded(scope, hashes, threads.min(HASHERS_MAX)));
        Self::new(stream, hashed, outputs, options)
    }

    fn new(
        stream: Stream<'scope>,
        hashed: Option<Stream<'scope>>,
        outputs: Outputs<'scope>,
        options: &Options,
    ) -> Result<Self> {
        let most = most_bytes(outputs, options);
        Ok(Self {
            stream,
            hashed,
            outputs,
            container: Container::new(options.format, most, options.time)?,
            cancel: options.cancel.clone(),
        })
    }

    /// Writes bytes of the disk that are not hashed.
    fn put(&mut self, mut offset: u64, mut data: &[u8]) -> Result<()> {
        while !data.is_empty() {
            let (place, len) = self.container.place(offset, data.len())?;
            let (now, later) = data.split_at(len);
            self.stream.write(place, now)?;
            offset += len as u64;
            data = later;
        }
        Ok(())
    }

    /// Ends a disk whose file system has so many blocks.
    pub(super) fn finish(mut self, blocks: u32, uuid: [u8; 16], options: &Options) -> Result<Disk> {
        let mut size = u64::from(blocks) * BLOCK_SIZE as u64;
        let verity = self.write_tree(u64::from(blocks))?;
        if let Some(verity) = &verity
            && self.outputs.hash_device.is_none()
        {
            size += verity.hash_blocks * BLOCK_SIZE as u64;
        }
        let most = most_bytes(self.outputs, options);
        let virtual_size = size
            .checked_next_multiple_of(options.align.max(1))
            .filter(|size| *size <= most)
            .ok_or_else(|| {
                Error::limit(format!(
                    "the disk of {size} bytes, aligned to {}, is larger than the maximum size \
                     of {most}",
                    options.align
                ))
            })?;
        let Self {
            mut stream,
            container,
            outputs,
            ..
        } = self;
        let rest = container.finish(virtual_size, &identity::of_disk(uuid, virtual_size))?;
        for (offset, structure) in &rest.structures {
            stream.write(*offset, structure)?;
        }
        stream.finish()?;
        set_len(outputs.disk, rest.len)?;
        Ok(Disk {
            size: rest.len,
            virtual_size,
            verity,
        })
    }

    /// Closes the hash tree over the file system and writes it.
    fn write_tree(&mut self, data_blocks: u64) -> Result<Option<VeritySummary>> {
        let (Some(hashed), Some(hashes)) = (self.hashed.take(), self.outputs.hashes) else {
            return Ok(None);
        };
        hashed.finish()?;
        let tree = hashes.finish(data_blocks);
        let hash_blocks = hash_device_blocks(data_blocks);
        let hash_offset = match self.outputs.hash_device {
            None => data_blocks * BLOCK_SIZE as u64,
            Some(_) => 0,
        };
        let mut offset = hash_offset;
        match self.outputs.hash_device {
            None => tree.write(|part| {
                self.cancel.check()?;
                self.put(offset, part)?;
                offset += part.len() as u64;
                Ok(())
            })?,
            Some(device) => {
                let mut stream = Stream::inline(device);
                tree.write(|part| {
                    self.cancel.check()?;
                    stream.write(offset, part)?;
                    offset += part.len() as u64;
                    Ok(())
                })?;
                stream.finish()?;
                set_len(device, offset)?;
            }
        }
        Ok(Some(VeritySummary {
            root_hash: tree.root,
            hash_offset,
            data_blocks,
            hash_blocks,
            salt: tree.superblock.salt().unwrap_or_default().to_vec(),
            uuid: tree.superblock.uuid,
        }))
    }
}

/// The most bytes of the disk: a hash tree on it comes on top of what the options allow the
/// file system, as far as the format goes.
fn most_bytes(outputs: Outputs<'_>, options: &Options) -> u64 {
    match (outputs.hashes, outputs.hash_device) {
        (Some(_), None) => {
            let tree = hash_device_blocks(options.max_size / BLOCK_SIZE as u64);
            let most = options.max_size + tree * BLOCK_SIZE as u64;
            most.min(options.format.most_bytes())
        }
        _ => options.max_size,
    }
}

fn set_len(output: &dyn DiskOutput, len: u64) -> Result<()> {
    output
        .set_len(len)
        .map_err(|error| Error::output("cannot set the size of the disk", error))
}

impl BlockSink for Blocks<'_> {
    fn write(&mut self, block: u32, data: &[u8]) -> Result<()> {
        self.cancel.check()?;
        let offset = u64::from(block) * BLOCK_SIZE as u64;
        if let Some(hashed) = &mut self.hashed {
            hashed.write(offset, data)?;
        }
        self.put(offset, data)
    }
}
