//! Differences between systems, all of them: the socket or pipe, private
//! directories, links, allocated bytes, access for virtual machines.

/// The system's figures of this process.
#[derive(Clone, Copy, Debug)]
#[cfg_attr(windows, allow(dead_code, reason = "there is no /proc to make one of"))]
pub(crate) struct Process {
    pub(crate) cpu_seconds: f64,
    pub(crate) open_descriptors: f64,
    pub(crate) max_descriptors: f64,
    pub(crate) virtual_memory: f64,
    pub(crate) resident_memory: f64,
    pub(crate) start_seconds: f64,
}

#[cfg(unix)]
mod unix;
#[cfg(windows)]
mod windows;

#[cfg(unix)]
pub(crate) use unix::*;
#[cfg(windows)]
pub(crate) use windows::*;
