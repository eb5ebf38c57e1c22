//! What the tests share: a tar writer, oracles, and the trees that they read.

pub(crate) mod entry;
#[cfg(target_os = "linux")]
pub(crate) mod kernel;
pub(crate) mod layer;
pub(crate) mod model;
pub(crate) mod oracle;
pub(crate) mod random;
pub(crate) mod skip;
pub(crate) mod tar;
pub(crate) mod tree;
pub(crate) mod view;
