//! Blocks of the file system to bytes of the disk, and the disk's end.

use std::io;
use std::thread::Scope;
use std::time::Duration;

use crate::cancel::CancelToken;
use crate::disk::{Container, DiskOutput, Stream, Wrapped};
use crate::error::{Error, Result};
use crate::ext4::area::BlockSink;
use crate::ext4::format::BLOCK_SIZE;
use crate::identity;
use crate::options::{self, Options};
use crate::summary::VeritySummary;
use crate::timings::{Stage, Timings};
use crate::verity::{Hashes, hash_device_blocks};

/// The outputs of a conversion.
#[derive(Clone, Copy)]
pub(super) struct Outputs<'a> {
    pub disk: &'a dyn DiskOutput,
    /// Where the hash tree goes; on the disk, if nowhere else.
    pub hash_device: Option<&'a dyn DiskOutput>,
    /// The hashes of the blocks, if a tree is wanted.
    pub hashes: Option<&'a Hashes>,
}

/// An output of which it is known how long writing takes.
pub(super) struct TimedOutput<'a> {
    pub output: &'a dyn DiskOutput,
    pub timings: &'a Timings,
}

impl DiskOutput for TimedOutput<'_> {
    fn write_at(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.timings.count(Stage::Write, data.len());
        let write = || self.output.write_at(offset, data);
        self.timings.run(Stage::Write, write)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.output.set_len(len)
    }
}

/// Blocks to bytes of the disk.
pub(super) struct Blocks<'scope> {
    disk: Wrapped<'scope>,
    /// Blocks on their way to the hash tree.
    hashed: Option<Stream<'scope>>,
    outputs: Outputs<'scope>,
    cancel: CancelToken,
}

/// Decompression, digests, placing, and writing.
pub(super) const STAGES: usize = 4;

/// A disk that is whole.
pub(super) struct Disk {
    pub size: u64,
    pub virtual_size: u64,
    pub verity: Option<VeritySummary>,
}

impl<'scope> Blocks<'scope> {
    /// Everything on the caller's thread.
    pub(super) fn inline(outputs: Outputs<'scope>, options: &Options) -> Result<Self> {
        let hashed = outputs.hashes.map(|hashes| Stream::inline(hashes));
        Self::new(Stream::inline(outputs.disk), hashed, outputs, options)
    }

    /// Writes on a thread of `scope`, if each stage may have one, and hashes on as many as may be.
    pub(super) fn threaded<'env>(
        scope: &'scope Scope<'scope, 'env>,
        outputs: Outputs<'scope>,
        options: &Options,
        threads: usize,
    ) -> Result<Self> {
        let stream = match threads < STAGES {
            true => Stream::inline(outputs.disk),
            false => Stream::threaded(scope, outputs.disk, 1)?,
        };
        let hashed = outputs
            .hashes
            .map(|hashes| Stream::threaded(scope, hashes, threads))
            .transpose()?;
        Self::new(stream, hashed, outputs, options)
    }

    fn new(
        stream: Stream<'scope>,
        hashed: Option<Stream<'scope>>,
        outputs: Outputs<'scope>,
        options: &Options,
    ) -> Result<Self> {
        let most = most_bytes(outputs, options);
        let container = Container::new(options.format, most, None, options.time)?;
        Ok(Self {
            disk: Wrapped::new(stream, container, outputs.disk),
            hashed,
            outputs,
            cancel: options.cancel.clone(),
        })
    }

    /// How long writing and hashing kept the caller waiting.
    pub(super) fn waited(&self) -> Duration {
        let hashed = self.hashed.as_ref().map(Stream::waited);
        self.disk.waited() + hashed.unwrap_or_default()
    }

    /// Ends a disk whose file system has `blocks` blocks.
    pub(super) fn finish(mut self, blocks: u64, uuid: [u8; 16], options: &Options) -> Result<Disk> {
        let mut size = blocks * BLOCK_SIZE as u64;
        let verity = self.write_tree(blocks)?;
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
                .allowed_by("max-size")
            })?;
        let ids = identity::of_disk(uuid, virtual_size);
        let size = self.disk.finish(virtual_size, virtual_size, &ids)?;
        Ok(Disk {
            size,
            virtual_size,
            verity,
        })
    }

    /// Ends a disk of that size, in whose file system nothing matters from `zero_end` on.
    pub(super) fn finish_writable(
        self,
        virtual_size: u64,
        zero_end: u64,
        uuid: [u8; 16],
    ) -> Result<Disk> {
        let ids = identity::of_disk(uuid, virtual_size);
        Ok(Disk {
            size: self.disk.finish(virtual_size, zero_end, &ids)?,
            virtual_size,
            verity: None,
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
                self.disk.put(offset, part)?;
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
                device.set_len(offset).map_err(|error| {
                    Error::output("cannot set the size of the hash device", error)
                })?;
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
    if let Some(size) = options.writable {
        return size;
    }
    match (outputs.hashes, outputs.hash_device) {
        (Some(_), None) => {
            let tree = hash_device_blocks(options.max_size / BLOCK_SIZE as u64);
            let most = options.max_size + tree * BLOCK_SIZE as u64;
            most.min(options::most_bytes(options.format))
        }
        _ => options.max_size,
    }
}

impl Blocks<'_> {
    fn put(&mut self, offset: u64, data: &[u8]) -> Result<()> {
        if let Some(hashed) = &mut self.hashed {
            hashed.write(offset, data)?;
        }
        self.disk.put(offset, data)
    }
}

impl BlockSink for Blocks<'_> {
    fn write(&mut self, block: u64, data: &[u8]) -> Result<()> {
        self.cancel.check()?;
        self.put(block * BLOCK_SIZE as u64, data)
    }

    fn write_padded(&mut self, block: u64, data: &[u8]) -> Result<()> {
        const ZEROS: [u8; BLOCK_SIZE] = [0; BLOCK_SIZE];
        self.cancel.check()?;
        let offset = block * BLOCK_SIZE as u64;
        self.put(offset, data)?;
        self.put(offset + data.len() as u64, &ZEROS[data.len()..])
    }
}
