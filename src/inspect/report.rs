//! A description of a file system, and the outcome of its checks.

/// An ext4 file system, as its superblock describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct FileSystem {
    /// The UUID.
    pub uuid: [u8; 16],
    /// The label, without the zero bytes that fill it up.
    pub label: Vec<u8>,
    /// The names of the features, as dumpe2fs gives them.
    pub features: Vec<String>,
    /// Bytes of a block.
    pub block_size: u32,
    /// Blocks.
    pub blocks: u64,
    /// Blocks that are free.
    pub free_blocks: u64,
    /// Inodes.
    pub inodes: u32,
    /// Inodes that are free.
    pub free_inodes: u32,
    /// Bytes of an inode.
    pub inode_size: u16,
    /// Block groups.
    pub groups: u32,
    /// Blocks of every group but the last.
    pub blocks_per_group: u32,
    /// Inodes of every group.
    pub inodes_per_group: u32,
    /// When it was made, in seconds since 1970.
    pub created: u64,
    /// When it was written last, in seconds since 1970.
    pub written: u64,
    /// When it was checked last, in seconds since 1970.
    pub checked: u64,
}

/// How often something was verified, and how often it was wrong.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Tally {
    /// The number of structures checked.
    pub checked: u64,
    /// The number of those that were wrong.
    pub failed: u64,
}

/// The checks made. Where the file system keeps no checksums, or needs a journal to be
/// replayed first, nothing is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Checks {
    /// The checksum and size of a VHD's footer.
    pub footer: Tally,
    /// The other structures of a dynamic VHD or a VHDX: their copies, and every entry of the
    /// block allocation table.
    pub structures: Tally,
    /// The superblock's checksum.
    pub superblock: Tally,
    /// The checksums of the group descriptors, and that they point into the file system.
    pub group_descriptors: Tally,
    /// The checksums of the bitmaps of blocks.
    pub block_bitmaps: Tally,
    /// The checksums of the bitmaps of inodes.
    pub inode_bitmaps: Tally,
    /// The checksums of the inodes in use.
    pub inodes: Tally,
    /// The counts of free blocks and inodes, in each group and in all, against the bitmaps.
    pub free_counts: Tally,
    /// That the root directory can be read.
    pub root_directory: Tally,
}

impl Checks {
    /// Every check with a name for it.
    #[must_use]
    pub fn named(&self) -> [(&'static str, Tally); 9] {
        [
            ("footer", self.footer),
            ("structures", self.structures),
            ("superblock", self.superblock),
            ("group descriptors", self.group_descriptors),
            ("block bitmaps", self.block_bitmaps),
            ("inode bitmaps", self.inode_bitmaps),
            ("inodes", self.inodes),
            ("free counts", self.free_counts),
            ("root directory", self.root_directory),
        ]
    }

    /// Whether nothing that was looked at is wrong.
    #[must_use]
    pub fn hold(&self) -> bool {
        self.named().iter().all(|(_, tally)| tally.failed == 0)
    }
}

/// Findings so far.
#[derive(Default)]
pub(super) struct Findings {
    pub checks: Checks,
    pub problems: Vec<String>,
}

impl Findings {
    const MAX_PROBLEMS: usize = 100;

    /// Counts a check, and notes what is wrong if it failed.
    pub(super) fn check(
        &mut self,
        tally: fn(&mut Checks) -> &mut Tally,
        passed: bool,
        problem: impl FnOnce() -> String,
    ) {
        let tally = tally(&mut self.checks);
        tally.checked += 1;
        if !passed {
            tally.failed += 1;
            self.note(problem);
        }
    }

    /// Notes a problem, unless there are enough.
    pub(super) fn note(&mut self, problem: impl FnOnce() -> String) {
        if self.problems.len() < Self::MAX_PROBLEMS {
            self.problems.push(problem());
        }
    }
}
