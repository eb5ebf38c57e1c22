//! Virtual Hard Disk (VHD), after Microsoft's "Virtual Hard Disk Image Format Specification",
//! version 1.0 of 11 October 2006. Section names in this module are that document's.

mod create;
mod dynamic_header;
mod footer;
mod geometry;
mod layout;
mod open;
mod parameters;
mod parent;
mod sparse;

pub(crate) use footer::COOKIE;
pub use footer::{DiskType, Footer};
pub use geometry::Geometry;
pub use layout::Layout;
pub use open::Vhd;
pub use parameters::Parameters;
pub use parent::{ParentLocator, ParentReference};

/// The unit of every size and offset in a VHD.
pub const SECTOR_SIZE: u64 = 512;

/// The largest virtual disk of any type: 2,040 GiB.
pub const MAX_VIRTUAL_SIZE: u64 = 2040 << 30;
