//! A file system in its disk: where the blocks of the one become bytes of the other.

use crate::disk::{Container, DiskOutput, Stream};
use crate::error::{Error, Result};
use crate::ext4::finish::{Finished, Identity};
use crate::ext4::format::BLOCK_SIZE;
use crate::ext4::writer::BlockSink;
use crate::identity;
use crate::options::CancelToken;
use crate::summary::DiskSummary;

/// Blocks to bytes of the disk.
pub(crate) struct Blocks<'scope> {
    pub stream: Stream<'scope>,
    pub container: Container,
    pub cancel: CancelToken,
}

impl BlockSink for Blocks<'_> {
    fn write(&mut self, block: u64, data: &[u8]) -> Result<()> {
        self.cancel.check()?;
        let mut offset = block * BLOCK_SIZE as u64;
        let mut rest = data;
        while !rest.is_empty() {
            let (place, len) = self.container.place(offset, rest.len())?;
            let (now, later) = rest.split_at(len);
            self.stream.write(place, now)?;
            offset += len as u64;
            rest = later;
        }
        Ok(())
    }
}

/// Ends a disk of so many bytes around a file system that is whole.
pub(crate) fn finish(
    finished: Finished<Blocks<'_>>,
    virtual_size: u64,
    identity: &Identity,
    output: &dyn DiskOutput,
) -> Result<DiskSummary> {
    let Blocks {
        mut stream,
        container,
        ..
    } = finished.sink;
    let used_end = finished.used_end.map(|block| block * BLOCK_SIZE as u64);
    let rest = container.finish(
        virtual_size,
        used_end.unwrap_or(virtual_size),
        &identity::of_disk(identity.uuid, virtual_size),
    )?;
    for (offset, structure) in &rest.structures {
        stream.write(*offset, structure)?;
    }
    stream.finish()?;
    output
        .set_len(rest.len)
        .map_err(|error| Error::output("cannot set the size of the disk", error))?;
    Ok(DiskSummary {
        size: rest.len,
        virtual_size,
        uuid: identity.uuid,
        blocks: finished.blocks,
        inodes: finished.inodes,
    })
}
