//! The layer that a command reads.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use tar2vhd::disk::FileId;

use crate::failure::Failure;

/// A layer, how many bytes of it there are if that is known, and which file it is.
pub(crate) struct Input {
    pub reader: Box<dyn Read>,
    pub len: Option<u64>,
    pub id: Option<FileId>,
}

/// Opens the file of a layer; `-` is standard input.
pub(crate) fn open(path: &Path) -> Result<Input, Failure> {
    if path == Path::new("-") {
        return Ok(Input {
            reader: Box::new(io::stdin().lock()),
            len: None,
            id: None,
        });
    }
    let failed = |e| Failure::error(format!("cannot open {}: {e}", tar2vhd::display_file(path)));
    // Linux opens directories and fails to read them, Windows fails to open them.
    let found = path.metadata().map_err(failed)?;
    if found.is_dir() {
        return Err(Failure::error(directory(path)));
    }
    let file = File::open(path).map_err(failed)?;
    let id = FileId::of(&file).map_err(failed)?;
    Ok(Input {
        reader: Box::new(file),
        len: found.is_file().then_some(found.len()),
        id: Some(id),
    })
}

/// The reason why a directory is no input, and the remedy.
pub(crate) fn directory(path: &Path) -> String {
    let name = tar2vhd::display_file(path);
    let has = |file: &str| path.join(file).is_file();
    match has("index.json") || has("manifest.json") {
        true => format!(
            "cannot read {name}: it is a directory with an image in it, not a layer: `tar2vhd \
            image convert` makes a disk of each layer, `tar2vhd image flatten` one of all"
        ),
        false => format!(
            "cannot read {name}: it is a directory, not a layer: make a tar of it, such as with \
            `tar -C {name} -c .`"
        ),
    }
}
