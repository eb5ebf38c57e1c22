//! Limits of the work for a disk, and the parts that were left out.

/// Blocks that may still be read for the contents of directories and values: no more than the
/// file system has, even if inodes share them.
pub(super) struct Budget(u64);

impl Budget {
    pub(super) fn new(blocks: u64) -> Self {
        Self(blocks)
    }

    pub(super) fn take(&mut self, blocks: u64) -> bool {
        let rest = self.0.checked_sub(blocks);
        self.0 = rest.unwrap_or(self.0);
        rest.is_some()
    }
}

/// Parts of the file system that were not checked.
#[derive(Debug, Default)]
pub(super) struct Unchecked {
    pub what: Vec<String>,
    /// Whether damage may have been missed.
    pub is_essential: bool,
    /// Whether that is because the journal was not replayed.
    pub needs_replay: bool,
}

impl Unchecked {
    /// Notes something that is contents rather than structure.
    pub(super) fn note(&mut self, what: impl Into<String>) {
        let what = what.into();
        if !self.what.contains(&what) {
            self.what.push(what);
        }
    }

    /// Notes something without which there is no verdict.
    pub(super) fn essential(&mut self, what: impl Into<String>) {
        self.is_essential = true;
        self.note(what);
    }

    pub(super) fn append(&mut self, other: Self) {
        self.is_essential |= other.is_essential;
        for what in other.what {
            self.note(what);
        }
    }
}
