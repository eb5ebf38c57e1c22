//! Layers to convert, and what the command does with them.

pub(crate) mod image;

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use flate2::write::GzEncoder;
use tempfile::TempDir;

/// The command, not knowing of this environment's time.
pub(crate) fn tar2vhd() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tar2vhd"));
    command.env_remove("SOURCE_DATE_EPOCH").stdin(Stdio::null());
    command
}

/// A tar with a directory, a file, a link and a whiteout.
pub(crate) fn layer() -> Vec<u8> {
    Layer::new()
        .add(tar::EntryType::Directory, "dir/", b"")
        .add(tar::EntryType::Regular, "dir/file", &[7; 10_000])
        .add(tar::EntryType::Regular, "dir/zeros", &[0; 40_960])
        .add(tar::EntryType::Regular, "dir/tiny", b"tiny")
        .add(tar::EntryType::Regular, "dir/.wh.gone", b"")
        .finish()
}

/// A tar that takes more than any pipe holds.
pub(crate) fn large_layer() -> Vec<u8> {
    // Not to be compressed, nor to be left out.
    let mut state = 1_u64;
    let random: Vec<u8> = std::iter::repeat_with(|| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (state >> 56) as u8
    })
    .take(3 << 20)
    .collect();
    Layer::new()
        .add(tar::EntryType::Regular, "large", &random)
        .finish()
}

/// Builds a tar.
pub(crate) struct Layer(tar::Builder<Vec<u8>>);

impl Layer {
    pub(crate) fn new() -> Self {
        Self(tar::Builder::new(Vec::new()))
    }

    pub(crate) fn add(mut self, kind: tar::EntryType, path: &str, data: &[u8]) -> Self {
        let mut header = tar::Header::new_ustar();
        header.set_entry_type(kind);
        header.set_size(data.len() as u64);
        header.set_mode(0o755);
        header.set_mtime(1_600_000_000);
        // As it is: `set_path` would change what it takes for wrong.
        header.as_old_mut().name[..path.len()].copy_from_slice(path.as_bytes());
        header.set_cksum();
        self.0.append(&header, data).unwrap();
        self
    }

    pub(crate) fn finish(self) -> Vec<u8> {
        self.0.into_inner().unwrap()
    }
}

pub(crate) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// A directory where things happen.
pub(crate) struct Place(pub(crate) TempDir);

impl Place {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
        let path = self.path(name);
        fs::write(&path, bytes).unwrap();
        path
    }

    /// The names in it, hidden ones too.
    pub(crate) fn names(&self) -> Vec<String> {
        names(self.0.path())
    }

    /// Converts a layer with more arguments, to "disk" unless they say otherwise.
    pub(crate) fn convert(&self, layer: &[u8], arguments: &[&str]) -> Output {
        let input = tempfile::NamedTempFile::new().unwrap();
        fs::write(&input, layer).unwrap();
        tar2vhd()
            .current_dir(self.0.path())
            .arg("convert")
            .arg(input.path())
            .args(["-o", "disk"])
            .args(arguments)
            .output()
            .unwrap()
    }

    /// The same, which has to succeed; the disk.
    pub(crate) fn converted(&self, layer: &[u8], arguments: &[&str]) -> Vec<u8> {
        let output = self.convert(layer, arguments);
        assert_eq!(code(&output), 0, "{output:?}");
        fs::read(self.path("disk")).unwrap()
    }
}

pub(crate) fn names(directory: &Path) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

/// The exit status, which must not be a signal's.
pub(crate) fn code(output: &Output) -> i32 {
    output.status.code().unwrap_or_else(|| panic!("{output:?}"))
}

pub(crate) fn stdout(output: &Output) -> &str {
    std::str::from_utf8(&output.stdout).unwrap()
}

pub(crate) fn stderr(output: &Output) -> &str {
    std::str::from_utf8(&output.stderr).unwrap()
}

/// The command failed in this way, and said so as it always does.
pub(crate) fn assert_fails(output: &Output, expected: i32, message: &str) {
    assert_eq!(code(output), expected, "{output:?}");
    let text = stderr(output);
    let line = text
        .lines()
        .find(|line| line.starts_with("tar2vhd: error: "))
        .unwrap_or_else(|| panic!("no error in {text}"));
    assert!(line.contains(message), "{message:?} is not in {line}");
    assert!(!text.contains("panicked"), "{text}");
}
