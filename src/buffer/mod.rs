//! Memory for bytes on their way: aligned for direct I/O, shared as chunks, lent from segments.

pub(crate) mod aligned;
pub(crate) mod chunk;
pub(crate) mod segment;
