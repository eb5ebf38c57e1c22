//! Reports of a conversion, for people and for programs.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::{Value, json};
use tar2vhd::flatten::FlattenSummary;
use tar2vhd::timings::StageTiming;
use tar2vhd::{
    Blob, Compression, DiskFormat, DiskSummary, EntryCounts, Summary, VeritySummary, Warning,
    WarningKind,
};
use uuid::Uuid;

use crate::args::Convert;
use crate::output::{self, human};

/// One JSON object on a line of its own. A key is there even if it has nothing to tell: it is
/// null then.
pub(super) fn json(
    summary: &Summary,
    timings: Option<&[StageTiming]>,
    args: &Convert,
    format: DiskFormat,
) -> Vec<u8> {
    let mut object = json!(summary);
    object["disk"] = disk(&summary.disk, args.to.path(), format);
    if let Some(verity) = &summary.verity {
        let hash_device = args.verity_separate.as_deref();
        object["verity"] = verity_at(verity, hash_device.unwrap_or(args.to.path()));
    }
    object["timings"] = json!(timings);
    format!("{object}\n").into_bytes()
}

/// A disk at a path.
pub(crate) fn disk(disk: &DiskSummary, path: &Path, format: DiskFormat) -> Value {
    let mut object = output::of_file(path, json!({ "format": format }));
    if let Value::Object(disk) = json!(disk) {
        object.extend(disk);
    }
    Value::Object(object)
}

/// A hash tree, and where it is.
pub(crate) fn verity_at(verity: &VeritySummary, path: &Path) -> Value {
    let mut object = json!(verity);
    object["path"] = tar2vhd::escape_file(path).into();
    object
}

/// A table on standard error, with a mark at the stage that the others wait for.
pub(super) fn timings(timings: &[StageTiming]) {
    if timings.is_empty() {
        return;
    }
    output::stderr(format_args!(
        "  {:<10} {:>8} {:>8} {:>8} {:>8} {:>10}",
        "stage", "wall s", "busy", "starved", "blocked", "MiB/s busy"
    ));
    let floor = timings.iter().map(StageTiming::busy).max();
    for timing in timings {
        let busy = timing.busy();
        let rate = match busy.as_secs_f64() {
            seconds if seconds > 0.0 && timing.bytes > 0 => {
                format!("{:.0}", timing.bytes as f64 / seconds / f64::from(1 << 20))
            }
            _ => String::new(),
        };
        output::stderr(format_args!(
            "{} {:<10} {:>8.3} {:>8.3} {:>8.3} {:>8.3} {rate:>10}",
            if Some(busy) == floor { '*' } else { ' ' },
            timing.stage,
            timing.wall.as_secs_f64(),
            busy.as_secs_f64(),
            timing.starved.as_secs_f64(),
            timing.blocked.as_secs_f64(),
        ));
    }
}

/// A few lines on standard error.
pub(super) fn summary(summary: &Summary, path: &Path) {
    let disk = &summary.disk;
    output::stderr(format_args!(
        "{}: {}, UUID {}",
        tar2vhd::display_file(path),
        human(disk.size),
        Uuid::from_bytes(disk.uuid)
    ));
    let compression = summary.compression;
    if compression != Compression::None {
        let Blob { digest, size } = summary.compressed;
        output::stderr(format_args!("  {compression} {}, {digest}", human(size)));
    }
    let Blob { digest, size } = summary.layer;
    output::stderr(format_args!("  tar  {}, {digest}", human(size)));
    if let Some(verity) = &summary.verity {
        output::stderr(format_args!("  root hash {}", verity.root_hash.to_hex()));
    }
    output::stderr(format_args!("  {}", counts(&summary.entries)));
}

/// The same of the layers of an image on one disk.
pub(crate) fn flattened(summary: &FlattenSummary, path: &Path) {
    let disk = &summary.disk;
    output::stderr(format_args!(
        "{}: {}, UUID {}",
        tar2vhd::display_file(path),
        human(disk.size),
        Uuid::from_bytes(disk.uuid)
    ));
    let size = summary.layers.iter().map(|layer| layer.layer.size).sum();
    let twice = summary
        .layers
        .iter()
        .filter(|layer| layer.read_twice)
        .count();
    output::stderr(format_args!(
        "  {} layers of {}, chain ID {}{}",
        summary.layers.len(),
        human(size),
        summary.chain_id,
        match twice {
            0 => String::new(),
            twice => format!("; {twice} read twice"),
        }
    ));
    if let Some(verity) = &summary.verity {
        output::stderr(format_args!("  root hash {}", verity.root_hash.to_hex()));
    }
    output::stderr(format_args!("  {}", counts(&summary.entries)));
}

/// A list of the counts that are not zero.
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

/// More warnings of a kind than a person reads are counted.
const SHOWN_PER_KIND: usize = 10;

/// A line for each warning on standard error, as long as there are few of its kind.
pub(crate) fn warnings(warnings: &[Warning]) {
    let mut kinds = BTreeMap::<WarningKind, usize>::new();
    for warning in warnings {
        let number = kinds.entry(warning.kind).or_default();
        *number += 1;
        if *number <= SHOWN_PER_KIND {
            output::stderr(format_args!("tar2vhd: warning: {warning}"));
        }
    }
    for (kind, number) in kinds {
        if let Some(more) = number.checked_sub(SHOWN_PER_KIND).filter(|more| *more > 0) {
            output::stderr(format_args!(
                "tar2vhd: warning: {more} more of the kind {kind}, which --json lists"
            ));
        }
    }
}
