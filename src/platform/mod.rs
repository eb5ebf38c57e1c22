//! What differs between systems, and nothing else does: the socket or pipe, private
//! directories, links, allocated bytes, access for virtual machines.

#[cfg(unix)]
mod unix;
#[cfg(windows)]
mod windows;

#[cfg(unix)]
pub(crate) use unix::*;
#[cfg(windows)]
pub(crate) use windows::*;
