//! Where the files of an image are: in a directory, or in a tar.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufReader, Cursor, ErrorKind, Read, Seek, SeekFrom};
use std::path::{Component, Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use flate2::read::MultiGzDecoder;

use crate::summary::display_file;

/// The files of an image by their names, which are relative, have slashes between their parts
/// and lead nowhere else.
pub trait Store: Send + Sync {
    /// Opens a file.
    ///
    /// # Errors
    /// [`ErrorKind::NotFound`] if it is not there; any error that reading may have.
    fn open(&self, name: &str) -> io::Result<Box<dyn Read + Send>>;

    /// Whether a file is there.
    fn has(&self, name: &str) -> bool {
        self.open(name).is_ok()
    }
}

/// A directory.
pub(super) struct Directory(pub PathBuf);

impl Store for Directory {
    fn open(&self, name: &str) -> io::Result<Box<dyn Read + Send>> {
        let name = String::from_utf8_lossy(&clean(name.as_bytes())).into_owned();
        let relative = Path::new(&name);
        // On Windows a name can have other separators, or a drive.
        let inside = relative
            .components()
            .all(|component| matches!(component, Component::Normal(_)));
        let path = self.0.join(relative);
        if !inside || !path.is_file() {
            return Err(ErrorKind::NotFound.into());
        }
        Ok(Box::new(File::open(path)?))
    }
}

/// A plain tar.
pub(super) struct Archive {
    source: Source,
    files: HashMap<Vec<u8>, Stretch>,
}

/// Where the bytes of an archive are.
enum Source {
    Path(PathBuf),
    /// A temporary file without a name.
    Spool(Arc<Mutex<File>>),
}

/// A part of a file.
#[derive(Clone, Copy)]
struct Stretch {
    offset: u64,
    size: u64,
}

/// An archive of more files than this is a layer.
const FILES_MAX: usize = 1 << 16;
/// Symbolic links in an archive lead to others up to so often.
const HOPS_MAX: usize = 8;

impl Archive {
    /// Reads what there is. An input that is no plain tar has no files: the conversion says what
    /// is wrong with it.
    pub(super) fn new(path: &Path, file: &mut File) -> Self {
        Self {
            source: Source::Path(path.to_owned()),
            files: list(file).unwrap_or_default(),
        }
    }

    /// Reads an archive to its end, decompresses it if it is compressed, and keeps it in a temporary
    /// file, where the parts of an image can be read in any order.
    pub(super) fn spool(input: impl Read) -> io::Result<Self> {
        const HEAD: usize = 4;
        let mut input = BufReader::new(input);
        let mut head = Vec::with_capacity(HEAD);
        input.by_ref().take(HEAD as u64).read_to_end(&mut head)?;
        let is_gzip = head.starts_with(&[0x1f, 0x8b]);
        let is_zstd = head == [0x28, 0xb5, 0x2f, 0xfd];
        let input = Cursor::new(head).chain(input);
        let mut input: Box<dyn Read> = match (is_gzip, is_zstd) {
            (true, _) => Box::new(MultiGzDecoder::new(input)),
            (_, true) => Box::new(zstd::stream::read::Decoder::new(input)?),
            _ => Box::new(input),
        };
        let mut file = tempfile::tempfile().map_err(|e| {
            let directory = std::env::temp_dir();
            let directory = display_file(&directory);
            io::Error::new(e.kind(), format!("no temporary file in {directory}: {e}"))
        })?;
        io::copy(&mut input, &mut file)?;
        file.rewind()?;
        let files = list(&mut file)?;
        Ok(Self {
            source: Source::Spool(Arc::new(Mutex::new(file))),
            files,
        })
    }
}

/// A part of a file that others read, too.
struct Part {
    file: Arc<Mutex<File>>,
    at: u64,
    left: u64,
}

impl Read for Part {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let len = self.left.min(buffer.len() as u64) as usize;
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        file.seek(SeekFrom::Start(self.at))?;
        let read = file.read(&mut buffer[..len])?;
        self.at += read as u64;
        self.left -= read as u64;
        Ok(read)
    }
}

impl Store for Archive {
    fn open(&self, name: &str) -> io::Result<Box<dyn Read + Send>> {
        let found = self.files.get(&clean(name.as_bytes()));
        let Stretch { offset, size } = *found.ok_or(ErrorKind::NotFound)?;
        Ok(match &self.source {
            Source::Path(path) => {
                let mut file = File::open(path)?;
                file.seek(SeekFrom::Start(offset))?;
                Box::new(file.take(size))
            }
            Source::Spool(file) => Box::new(Part {
                file: Arc::clone(file),
                at: offset,
                left: size,
            }),
        })
    }
}

/// The files of a tar by their names, links among them followed.
fn list(file: &mut File) -> io::Result<HashMap<Vec<u8>, Stretch>> {
    let mut files = HashMap::new();
    let mut links = Vec::new();
    let mut archive = tar::Archive::new(file);
    for entry in archive.entries_with_seek()? {
        let entry = entry?;
        if files.len() + links.len() == FILES_MAX {
            return Err(io::Error::other(format!(
                "there are more than {FILES_MAX} files in it"
            )));
        }
        let name = clean(&entry.path_bytes());
        let kind = entry.header().entry_type();
        if kind.is_file() {
            let place = Stretch {
                offset: entry.raw_file_position(),
                size: entry.size(),
            };
            files.insert(name, place);
        } else if let Some(target) = entry.link_name_bytes() {
            let target = match kind.is_symlink() {
                true => {
                    let parent = name.iter().rposition(|byte| *byte == b'/');
                    clean(&[&name[..parent.map_or(0, |at| at + 1)], &*target].concat())
                }
                false => clean(&target),
            };
            links.push((name, target));
        }
    }
    for _ in 0..HOPS_MAX {
        links.retain(|(name, target)| match files.get(target).copied() {
            None => true,
            Some(place) => {
                files.insert(name.clone(), place);
                false
            }
        });
    }
    Ok(files)
}

/// A path without `.`, `..`, and needless slashes.
fn clean(path: &[u8]) -> Vec<u8> {
    let mut parts: Vec<&[u8]> = Vec::new();
    for part in path.split(|byte| *byte == b'/') {
        match part {
            b"" | b"." => {}
            b".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    parts.join(&b'/')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_have_one_spelling() {
        for (path, expected) in [
            ("a/b", "a/b"),
            ("./a//b/", "a/b"),
            ("/a/./b", "a/b"),
            ("../a/c/../b", "a/b"),
            ("..", ""),
        ] {
            assert_eq!(clean(path.as_bytes()), expected.as_bytes(), "{path}");
        }
    }
}
