//! What a conversion did, for people and for programs.

use std::path::Path;

use serde_json::{Value, json};
use tar2vhd::{Blob, Compression, DiskFormat, EntryCounts, Summary};
use uuid::Uuid;

use crate::args::Format;
use crate::output::{self, escape, human};

/// One JSON object on a line of its own.
pub(super) fn json(summary: &Summary, path: &Path, format: Format) -> Vec<u8> {
    let blob = |blob: &Blob, compression: Compression| {
        json!({
            "mediaType": compression.media_type(),
            "digest": blob.digest.to_string(),
            "size": blob.size,
        })
    };
    let mut object = blob(&summary.layer, Compression::None);
    object["compressed"] = blob(&summary.compressed, summary.compression);
    let disk = &summary.disk;
    object["disk"] = json!({
        "path": output::path(path),
        "format": DiskFormat::from(format).as_str(),
        "size": disk.size,
        "virtualSize": disk.virtual_size,
        "uuid": Uuid::from_bytes(disk.uuid).to_string(),
        "blocks": disk.blocks,
        "inodes": disk.inodes,
    });
    object["entries"] = entries(&summary.entries);
    object["warnings"] = summary
        .warnings
        .iter()
        .map(|warning| {
            json!({
                "path": escape(&warning.path),
                "kind": warning.kind.as_str(),
                "message": warning.message,
            })
        })
        .collect();
    format!("{object}\n").into_bytes()
}

fn entries(entries: &EntryCounts) -> Value {
    json!({
        "files": entries.files,
        "directories": entries.directories,
        "symlinks": entries.symlinks,
        "hardLinks": entries.hard_links,
        "devices": entries.devices,
        "fifos": entries.fifos,
        "whiteouts": entries.whiteouts,
        "opaqueDirectories": entries.opaque_directories,
        "tarEntries": entries.tar_entries,
    })
}

/// A few lines on standard error.
pub(super) fn summary(summary: &Summary, path: &Path) {
    let disk = &summary.disk;
    output::stderr(format_args!(
        "{}: {}, UUID {}",
        path.display(),
        human(disk.size),
        Uuid::from_bytes(disk.uuid)
    ));
    let compression = match summary.compression {
        Compression::Gzip => Some("gzip"),
        Compression::Zstd => Some("zstd"),
        _ => None,
    };
    if let Some(compression) = compression {
        let Blob { digest, size } = summary.compressed;
        output::stderr(format_args!("  {compression} {}, {digest}", human(size)));
    }
    let Blob { digest, size } = summary.layer;
    output::stderr(format_args!("  tar  {}, {digest}", human(size)));
    output::stderr(format_args!("  {}", counts(&summary.entries)));
}

/// What there is, without what there is not.
fn counts(entries: &EntryCounts) -> String {
    let all = [
        (entries.files, "file", "files"),
        (entries.directories, "directory", "directories"),
        (entries.symlinks, "symbolic link", "symbolic links"),
        (entries.hard_links, "hard link", "hard links"),
        (entries.devices, "device", "devices"),
        (entries.fifos, "FIFO", "FIFOs"),
        (entries.whiteouts, "whiteout", "whiteouts"),
        (
            entries.opaque_directories,
            "opaque directory",
            "opaque directories",
        ),
    ];
    let named: Vec<_> = all
        .into_iter()
        .filter(|(number, ..)| *number > 0)
        .map(|(number, one, many)| format!("{number} {}", if number == 1 { one } else { many }))
        .collect();
    named.join(", ")
}

/// A line for each warning on standard error.
pub(super) fn warnings(summary: &Summary) {
    for warning in &summary.warnings {
        output::stderr(format_args!("tar2vhd: warning: {warning}"));
    }
}
