//! `verify` and e2fsck on file systems of which one byte of the metadata was changed.
//!
//! A short sample runs with the other tests. `TAR2VHD_FLIPS=5000 cargo test --test flips --
//! --nocapture` makes 5,000 changes and reports by structure; `TAR2VHD_FLIPS_SEED=2` makes others.
//! docs/verify.md explains where the two do not agree.

#[cfg(test)]
mod campaign;
#[cfg(test)]
#[path = "../suite/common/mod.rs"]
#[expect(dead_code, reason = "the suite uses the rest")]
mod common;
#[cfg(test)]
mod explained;
#[cfg(test)]
mod images;
#[cfg(test)]
#[expect(unreachable_pub, reason = "the fuzz targets use it too")]
mod metadata;
#[cfg(test)]
mod seen;
