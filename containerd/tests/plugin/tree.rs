//! Directory trees: mounted layers, and what GNU tar makes of the same layers.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::skip;

/// A mount that ends with this value.
pub(crate) struct Mount(tempfile::TempDir);

/// Runs a tool; `None`, and a visible skip, if it is missing.
pub(crate) fn run(command: &mut Command) -> Option<Output> {
    match command.env("LC_ALL", "C").output() {
        Ok(output) => Some(output),
        Err(_) => {
            let tool = command.get_program().to_string_lossy().into_owned();
            skip::oracle_missing(&format!("no {tool}"));
            None
        }
    }
}

/// Runs a tool that has to succeed.
#[track_caller]
pub(crate) fn succeed(command: &mut Command) -> Option<String> {
    let output = run(command)?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(
        output.status.success(),
        "{command:?}: {}{}",
        text(&output.stdout),
        text(&output.stderr)
    );
    Some(text(&output.stdout))
}

impl Mount {
    pub(crate) fn new(options: &[&str], source: &Path) -> Option<Self> {
        let point = tempfile::tempdir().unwrap();
        let output = run(Command::new("mount")
            .args(options)
            .arg(source)
            .arg(point.path()))?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        let refusals = [
            "permission denied",
            "not permitted",
            "loop device",
            "superuser",
        ];
        if refusals.iter().any(|refusal| said.contains(refusal)) {
            skip::oracle_missing(&format!("mounting is refused here: {said}"));
            return None;
        }
        assert!(
            output.status.success(),
            "mount {options:?} {source:?}: {said}"
        );
        Some(Self(point))
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        // Another test may start a process at this moment, which holds our files for an
        // instant.
        for attempt in 0..100 {
            let lazy: &[&str] = if attempt == 99 { &["-l"] } else { &[] };
            let done = Command::new("umount")
                .args(lazy)
                .arg(self.0.path())
                .output();
            if done.is_ok_and(|output| output.status.success()) {
                return;
            }
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
    }
}

/// Every path with all that is told of it, but for the times of directories: those that
/// neither layer describes have none that both sides agree on.
pub(crate) fn tree(root: &Path) -> BTreeMap<String, String> {
    let mut tree = BTreeMap::new();
    let mut todo = vec![PathBuf::new()];
    while let Some(relative) = todo.pop() {
        let path = root.join(&relative);
        let metadata = path.symlink_metadata().unwrap();
        let kind = metadata.file_type();
        let mut text = format!(
            "{:o} {}:{}",
            metadata.mode(),
            metadata.uid(),
            metadata.gid()
        );
        if kind.is_dir() {
            let entries = fs::read_dir(&path).unwrap();
            todo.extend(entries.map(|entry| relative.join(entry.unwrap().file_name())));
        } else {
            text += &format!(" {}.{}", metadata.mtime(), metadata.mtime_nsec());
        }
        if kind.is_file() {
            text += &format!(" {}", crate::image::digest(&fs::read(&path).unwrap()));
        } else if kind.is_symlink() {
            text += &format!(" -> {}", fs::read_link(&path).unwrap().display());
        } else if kind.is_char_device() || kind.is_block_device() {
            text += &format!(" {}", metadata.rdev());
        }
        let mut names: Vec<_> = xattr::list(&path).unwrap().collect();
        names.sort();
        for name in names {
            let value = xattr::get(&path, &name).unwrap().unwrap_or_default();
            let value = crate::image::digest(&value);
            text += &format!(" {}={value}", name.to_string_lossy());
        }
        let relative = String::from_utf8(relative.as_os_str().as_bytes().to_vec()).unwrap();
        tree.insert(relative, text);
    }
    tree
}

/// Unpacks layers one over the other with GNU tar, whiteouts applied by hand.
pub(crate) fn unpack(layers: &[(&str, Vec<u8>)], directory: &Path) -> Option<()> {
    for (_, tar) in layers {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(&file, tar).unwrap();
        let list = succeed(Command::new("tar").arg("-tf").arg(file.path()))?;
        for name in list.lines() {
            let path = directory.join(name);
            let (parent, name) = (path.parent()?, path.file_name()?.to_str()?);
            if name == ".wh..wh..opq" {
                for entry in fs::read_dir(parent).into_iter().flatten() {
                    remove(&entry.unwrap().path());
                }
            } else if let Some(hidden) = name.strip_prefix(".wh.") {
                remove(&parent.join(hidden));
            }
        }
        succeed(
            Command::new("tar")
                .args([
                    "-x",
                    "--xattrs",
                    "--xattrs-include=*",
                    "--numeric-owner",
                    "-p",
                ])
                .args(["--keep-directory-symlink", "--exclude=.wh.*", "-f"])
                .arg(file.path())
                .arg("-C")
                .arg(directory),
        )?;
    }
    Some(())
}

fn remove(path: &Path) {
    let removed = match path.symlink_metadata() {
        Ok(found) if found.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(_) => return,
    };
    removed.unwrap();
}
