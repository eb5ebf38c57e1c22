//! The VHD and VHDX virtual disk formats.
#![forbid(unsafe_code)]

mod disk;
mod error;
pub mod storage;
mod table;
pub mod vhd;
pub mod vhdx;

pub use disk::{AnyStorage, Disk, Format, Parent, Raw};
pub use error::{Error, ErrorKind, Result};
pub use storage::{ReadAt, Storage};
