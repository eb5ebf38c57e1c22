//! The VHD and VHDX virtual disk formats.
#![forbid(unsafe_code)]

mod error;
pub mod vhd;

pub use error::{Error, ErrorKind, Result};
