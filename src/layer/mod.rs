//! From the blob to the entries: the only part that reads the input.

pub(crate) mod digest;
pub(crate) mod entry;
pub(crate) mod whiteout;
