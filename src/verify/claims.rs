//! Owners of blocks.

use std::fmt;
use std::ops::Range;

/// The owner of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Owner {
    /// A superblock, the descriptors, and room for more of them.
    Fixed,
    /// Multiple mount protection.
    Mmp,
    /// The bitmaps and the inode table of a group.
    Group(u32),
    /// An inode.
    Inode(u32),
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fixed => f.write_str("the superblock and descriptors"),
            Self::Mmp => f.write_str("the block of multiple mount protection"),
            Self::Group(group) => write!(f, "a bitmap or the inode table of group {group}"),
            Self::Inode(ino) => write!(f, "inode {ino}"),
        }
    }
}

/// Adjacent blocks of one owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Claim {
    pub start: u64,
    pub end: u64,
    pub owner: Owner,
}

/// All claims. They take memory for each run of blocks, and never for more runs than the file
/// system has blocks: of more, some overlap, which is found with those that are kept.
pub(super) struct Claims {
    claims: Vec<Claim>,
    /// Blocks that have been claimed, those claimed twice counted twice.
    claimed: u64,
    blocks: u64,
}

impl Claims {
    pub(super) fn new(blocks: u64) -> Self {
        Self {
            claims: Vec::new(),
            claimed: 0,
            blocks,
        }
    }

    pub(super) fn add(&mut self, blocks: Range<u64>, owner: Owner) {
        if blocks.is_empty() || self.claimed > self.blocks {
            return;
        }
        self.claimed += blocks.end - blocks.start;
        match self.claims.last_mut() {
            Some(last) if last.owner == owner && last.end == blocks.start => {
                last.end = blocks.end;
            }
            _ => self.claims.push(Claim {
                start: blocks.start,
                end: blocks.end,
                owner,
            }),
        }
    }

    /// Sorts the claims and finds those that start within another: the other and it.
    pub(super) fn overlaps(&mut self) -> Vec<(Claim, Claim)> {
        self.claims.sort_unstable();
        let mut overlaps = Vec::new();
        let mut furthest: Option<Claim> = None;
        for claim in &self.claims {
            match furthest {
                Some(before) if claim.start < before.end => {
                    overlaps.push((before, *claim));
                    if claim.end > before.end {
                        furthest = Some(*claim);
                    }
                }
                _ => furthest = Some(*claim),
            }
        }
        overlaps
    }

    /// Leaves each block to the first that claims it, once they were looked at for overlaps:
    /// what is walked group by group must not reach over groups for the sake of one claim.
    pub(super) fn separate(&mut self) {
        let mut end = 0;
        self.claims.retain_mut(|claim| {
            claim.start = claim.start.max(end);
            end = end.max(claim.end);
            claim.start < claim.end
        });
    }

    /// The claims, in the order of blocks once they were looked at for overlaps.
    pub(super) fn sorted(&self) -> &[Claim] {
        &self.claims
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: Owner = Owner::Inode(12);
    const B: Owner = Owner::Inode(13);

    #[test]
    fn neighbours_of_one_owner_are_one_claim() {
        let mut claims = Claims::new(100);
        for start in [5, 6, 7, 9] {
            claims.add(start..start + 1, A);
        }
        claims.add(10..10, B);
        claims.add(10..12, B);
        assert_eq!(claims.overlaps(), []);
        let ranges: Vec<_> = claims.sorted().iter().map(|c| (c.start, c.end)).collect();
        assert_eq!(ranges, [(5, 8), (9, 10), (10, 12)]);
    }

    #[test]
    fn every_claim_in_another_is_found() {
        let mut claims = Claims::new(100);
        for (range, owner) in [(10..30, A), (12..13, B), (20..40, B), (35..36, A)] {
            claims.add(range, owner);
        }
        let found: Vec<_> = claims
            .overlaps()
            .iter()
            .map(|(before, claim)| (before.start, claim.start))
            .collect();
        assert_eq!(found, [(10, 12), (10, 20), (20, 35)]);
        claims.separate();
        let ranges: Vec<_> = claims.sorted().iter().map(|c| (c.start, c.end)).collect();
        assert_eq!(ranges, [(10, 30), (30, 40)]);
    }

    #[test]
    fn more_claims_than_blocks_are_not_kept() {
        let mut claims = Claims::new(10);
        for _ in 0..1000 {
            claims.add(3..4, A);
            claims.add(3..4, B);
        }
        assert!(claims.sorted().len() <= 11);
        assert!(!claims.overlaps().is_empty());
    }
}
