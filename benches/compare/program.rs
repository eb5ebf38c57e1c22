//! Programs on PATH.

use std::path::PathBuf;

/// A program on PATH.
pub(crate) fn find(program: &str) -> Option<PathBuf> {
    let file = format!("{program}{}", std::env::consts::EXE_SUFFIX);
    std::env::split_paths(&std::env::var_os("PATH")?)
        // Where Debian has mke2fs, and PATH has not for those who are not root.
        .chain(["/usr/sbin".into(), "/sbin".into()])
        .map(|directory| directory.join(&file))
        .find(|path| path.is_file())
}
