//! Virtual Hard Disk v2 (VHDX), after Microsoft's \[MS-VHDX\], whose sections are cited as "§".

mod bat;
mod check;
mod create;
mod file_identifier;
mod header;
mod layout;
mod log;
mod metadata;
mod open;
mod parameters;
mod parent_locator;
mod read;
mod region_table;
mod replay;
mod session;
mod write;

pub use bat::BlockState;
pub use header::Header;
pub use layout::Layout;
pub use metadata::MetadataItem;
pub use open::Vhdx;
pub use parameters::{Identity, Parameters};
pub use parent_locator::ParentLocator;
pub use region_table::Region;

pub(crate) use file_identifier::SIGNATURE;

/// The largest virtual disk: 64 TiB.
pub const MAX_VIRTUAL_SIZE: u64 = 64 << 40;

/// The alignment of every region, of the log and of every block.
pub const ALIGNMENT: u64 = 1 << 20;
