//! What the fuzz targets, the seeds and the check of the corpus share.

pub mod chains;
pub mod convert;
pub mod disk;
pub mod image;
pub mod lower;
pub mod tar_blocks;
pub mod virtual_disk;
pub mod walk;
