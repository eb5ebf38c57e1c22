//! What one node of a block map tells.

use std::ops::Range;

/// Adjacent blocks of a file that are adjacent on the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Mapped {
    pub logical: u64,
    pub len: u64,
    pub physical: u64,
}

/// Adjacent blocks of a file that are adjacent on the disk, or read as zeros.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Run {
    pub len: u64,
    /// The first of them on the disk; `None` for zeros.
    pub physical: Option<u64>,
}

/// The blocks of a range; what is not mapped in it reads as zeros.
#[derive(Debug, Default)]
pub(super) struct Leaf {
    pub range: Range<u64>,
    /// In order, within the range.
    pub mapped: Vec<Mapped>,
}

impl Leaf {
    /// The blocks from one in the range on.
    pub(super) fn run(&self, logical: u64) -> Run {
        let next = self
            .mapped
            .partition_point(|mapped| mapped.logical + mapped.len <= logical);
        match self.mapped.get(next) {
            Some(mapped) if mapped.logical <= logical => {
                let within = logical - mapped.logical;
                Run {
                    len: mapped.len - within,
                    physical: Some(mapped.physical + within),
                }
            }
            next => Run {
                len: next.map_or(self.range.end, |next| next.logical) - logical,
                physical: None,
            },
        }
    }
}
