//! ext4: from a tree of names and inodes to blocks.
//!
//! Only [`writer`] decides where blocks go; the other modules turn state into bytes.

pub(crate) mod acl;
pub(crate) mod checksum;
pub(crate) mod dir;
pub(crate) mod extent;
pub(crate) mod format;
pub(crate) mod geometry;
pub(crate) mod hash;
pub(crate) mod inode;
pub(crate) mod tree;
pub(crate) mod xattr;
