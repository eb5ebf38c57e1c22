//! Where disks go, and what they are.
//!
//! A conversion writes blocks to a [`DiskOutput`] at their offsets: a [`DiskFile`], which appears
//! whole or not at all, a [`MemoryDisk`], a [`SeekDisk`] over anything that seeks, or one of the
//! caller's. [`Volume::info`](crate::Volume::info) describes a disk as a [`DiskInfo`], and a
//! [`FileId`] tells whether two paths lead to the same file.

#[cfg(unix)]
mod attributes;
mod container;
mod destination;
mod early;
mod file_id;
pub(crate) mod format;
mod holes;
mod info;
mod open;
mod output;
mod parents;
mod partitions;
mod platform;
mod publish;
mod stream;
mod temporary;
pub(crate) mod volume;
mod wrapped;

pub(crate) use container::{Container, DiskIds, Shape};
pub use file_id::FileId;
pub(crate) use format::DiskFormat;
pub use info::{BlockInfo, DiskInfo, ParentInfo, PartInfo, VhdInfo, VhdxInfo};
pub use output::{DiskOutput, MemoryDisk, SeekDisk};
pub(crate) use partitions::no_file_system;
pub use publish::{Discard, DiskFile};
pub(crate) use stream::Stream;
pub(crate) use volume::Volume;
pub(crate) use volume::unreadable;
pub(crate) use wrapped::Wrapped;
