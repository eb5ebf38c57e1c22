//! The tests' own tar writer and what it takes, with which the images of `tests/flips` are made.

#[path = "../../../tests/suite/common/entry.rs"]
pub(crate) mod entry;
pub(crate) mod oracle;
#[path = "../../../tests/suite/common/tar.rs"]
pub(crate) mod tar;
#[path = "../../../tests/suite/common/tree.rs"]
pub(crate) mod tree;
