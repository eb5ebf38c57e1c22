//! The features of ext4 by the names that e2fsprogs prints.

use super::format::Superblock;

/// Names by bit, lowest first; an empty one has none.
const COMPAT: [&str; 13] = [
    "dir_prealloc",
    "imagic_inodes",
    "has_journal",
    "ext_attr",
    "resize_inode",
    "dir_index",
    "lazy_bg",
    "",
    "snapshot_bitmap",
    "sparse_super2",
    "fast_commit",
    "stable_inodes",
    "orphan_file",
];
const INCOMPAT: [&str; 18] = [
    "compression",
    "filetype",
    "needs_recovery",
    "journal_dev",
    "meta_bg",
    "",
    "extent",
    "64bit",
    "mmp",
    "flex_bg",
    "ea_inode",
    "",
    "dirdata",
    "metadata_csum_seed",
    "large_dir",
    "inline_data",
    "encrypt",
    "casefold",
];
const RO_COMPAT: [&str; 17] = [
    "sparse_super",
    "large_file",
    "",
    "huge_file",
    "uninit_bg",
    "dir_nlink",
    "extra_isize",
    "",
    "quota",
    "bigalloc",
    "metadata_csum",
    "replica",
    "read-only",
    "project",
    "shared_blocks",
    "verity",
    "orphan_present",
];

/// The features that are set, in the order of dumpe2fs.
pub(crate) fn names(superblock: &Superblock) -> Vec<String> {
    names_of([
        superblock.s_feature_compat.get(),
        superblock.s_feature_incompat.get(),
        superblock.s_feature_ro_compat.get(),
    ])
}

/// The names of compatible, incompatible and read-only compatible features.
pub(crate) fn names_of([compat, incompat, ro_compat]: [u32; 3]) -> Vec<String> {
    let sets: [(u32, &[&str], char); 3] = [
        (compat, &COMPAT, 'C'),
        (incompat, &INCOMPAT, 'I'),
        (ro_compat, &RO_COMPAT, 'R'),
    ];
    let mut found = Vec::new();
    for (bits, names, letter) in sets {
        for bit in (0..32).filter(|bit| bits >> bit & 1 == 1) {
            found.push(match names.get(bit) {
                Some(name) if !name.is_empty() => (*name).to_owned(),
                _ => format!("FEATURE_{letter}{bit}"),
            });
        }
    }
    found
}
