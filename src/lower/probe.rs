//! Finding out whether a layer needs those below it.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::entry::{LowerEntry, LowerLayers};

/// Layers below that only tell whether they were asked: the conversion that asks fails, and is to
/// be done again with the [disks](super::LowerDisks) of the layers below.
///
/// Few layers ask, so that most images need not be converted from the bottom up. Clones are one.
#[derive(Clone, Debug, Default)]
pub struct LowerProbe(Arc<AtomicBool>);

impl LowerProbe {
    /// A probe that was not asked.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether a layer asked for those below.
    #[must_use]
    pub fn was_asked(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

impl LowerLayers for LowerProbe {
    fn lookup(&self, _: &[u8]) -> io::Result<Option<LowerEntry>> {
        self.0.store(true, Ordering::Relaxed);
        Err(io::Error::other("the layers below are asked for"))
    }
}
