//! The VHD and VHDX virtual disk formats.
#![forbid(unsafe_code)]
