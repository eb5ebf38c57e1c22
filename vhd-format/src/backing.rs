//! The parent of a differencing disk, as its child reads it.

use crate::range::Extent;
use crate::{Error, Result};

/// A disk that supplies the sectors its child does not hold.
pub(crate) trait Backing: Send + Sync {
    /// Bytes of the virtual disk.
    fn virtual_size(&self) -> u64;

    /// Fills the buffer from that offset of the virtual disk.
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<()>;

    /// The run of data or zeros at that offset. It may end past the disk, where its last block does.
    fn extent(&self, offset: u64) -> Result<Extent>;
}

/// Reads sectors from the parent. A parent that is smaller than its child, which may have grown,
/// ends in zeros.
pub(crate) fn read_parent(
    parent: Option<&dyn Backing>,
    offset: u64,
    buffer: &mut [u8],
) -> Result<()> {
    let parent = parent.ok_or_else(no_parent)?;
    let there = parent.virtual_size().saturating_sub(offset);
    let (inside, past) = buffer.split_at_mut(there.min(buffer.len() as u64) as usize);
    past.fill(0);
    if inside.is_empty() {
        return Ok(());
    }
    parent.read_at(offset, inside)
}

/// The parent's run at `offset`, up to `end`.
pub(crate) fn parent_extent(parent: Option<&dyn Backing>, offset: u64, end: u64) -> Result<Extent> {
    let parent = parent.ok_or_else(no_parent)?;
    if offset >= parent.virtual_size() {
        return Ok(Extent { data: false, end });
    }
    let extent = parent.extent(offset)?;
    Ok(Extent {
        end: extent.end.min(parent.virtual_size()).min(end),
        ..extent
    })
}

fn no_parent() -> Error {
    Error::parent("a differencing disk was read without its parent")
}
