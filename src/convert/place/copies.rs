//! Files copied up from the layers below.

use std::collections::{BTreeMap, HashMap};

use crate::ext4::tree::Ino;

/// Copies in this layer.
#[derive(Default)]
pub(super) struct Copies {
    /// By the numbers that the lower layers give.
    pub(super) by_id: HashMap<u64, Ino>,
    /// Names that stand for copies and that no entry has: the number of each, its directory and
    /// its inode.
    pub(super) names: BTreeMap<u32, (Ino, Ino)>,
}
