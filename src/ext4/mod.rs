//! ext4: from a tree of names and inodes to blocks.
//!
//! Only [`area`] decides where blocks go; the other modules turn state into bytes.

pub(crate) mod acl;
pub(crate) mod area;
mod bitmap;
pub(crate) mod capacity;
pub(crate) mod checksum;
pub(crate) mod dir;
mod directories;
pub(crate) mod extent;
pub(crate) mod features;
pub(crate) mod finish;
pub(crate) mod format;
pub(crate) mod geometry;
mod groups;
pub(crate) mod hash;
pub(crate) mod hcsshim;
pub(crate) mod identity;
pub(crate) mod inode;
mod journal;
pub(crate) mod parts;
mod permissions;
pub(crate) mod profile;
mod sets;
pub(crate) mod tree;
pub(crate) mod writable;
pub(crate) mod writer;
pub(crate) mod xattr;

#[cfg(test)]
mod tests;
