//! Code shared by the fuzz targets, the seeds and the check of the corpus.

pub mod chains;
#[expect(dead_code, reason = "the suite uses the rest")]
mod common;
pub mod convert;
pub mod disk;
pub mod image;
pub mod lower;
pub mod tar_blocks;
pub mod verdict;
pub mod virtual_disk;
pub mod walk;
