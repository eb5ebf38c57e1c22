//! Blocks to a file: positioned writes, and a file that appears whole or not at all.

mod container;
mod output;
mod platform;
mod publish;
mod stream;

pub(crate) use container::{Container, DiskIds};
pub use output::{DiskOutput, MemoryDisk, SeekDisk};
pub use publish::{Discard, DiskFile};
pub(crate) use stream::Stream;
