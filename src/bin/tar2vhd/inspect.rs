//! `tar2vhd inspect`.

use serde_json::{Value, json};
use tar2vhd::Volume;
use tar2vhd::inspect::Inspection;
use uuid::Uuid;

use crate::args::{InputFormat, Inspect};
use crate::disk::info;
use crate::failure::Failure;
use crate::output::{self, Lines, bytes, time};

pub(crate) fn run(args: &Inspect) -> Result<(), Failure> {
    let found = match args.input_format {
        InputFormat::Auto => Volume::open(&args.disk).and_then(|disk| disk.inspect()),
        InputFormat::Raw => Volume::open_raw(&args.disk).and_then(|volume| volume.inspect()),
    }
    .map_err(|error| Failure::reading(&args.disk, error))?;
    let report = match args.json {
        true => {
            let object = output::of_file(&args.disk, json!(found));
            format!("{}\n", Value::Object(object))
        }
        false => text(&found),
    };
    output::stdout(report.as_bytes())?;
    let failed: u64 = found.checks.named().iter().map(|(_, t)| t.failed).sum();
    match failed {
        0 => Ok(()),
        _ => Err(Failure::error(format!(
            "{}: {failed} of the checks failed",
            tar2vhd::display_file(&args.disk)
        ))),
    }
}

fn text(found: &Inspection) -> String {
    let system = &found.file_system;
    let mut lines = Lines::default();
    info::text(&found.disk, &mut lines);
    lines.field("UUID", Uuid::from_bytes(system.uuid));
    if !system.label.is_empty() {
        lines.field("label", system.label.escape_ascii());
    }
    lines.field("features", system.features.join(" "));
    lines.field("block size", bytes(system.block_size.into()));
    for (name, all, free) in [
        ("blocks", system.blocks, system.free_blocks),
        ("inodes", system.inodes.into(), system.free_inodes.into()),
    ] {
        // The superblock may say anything.
        let used = all.saturating_sub(free);
        lines.field(name, format!("{all}, {used} used, {free} free"));
    }
    let (groups, blocks, inodes) = (
        system.groups,
        system.blocks_per_group,
        system.inodes_per_group,
    );
    lines.field(
        "groups",
        format!("{groups} of {blocks} blocks and {inodes} inodes"),
    );
    lines.field("inode size", bytes(system.inode_size.into()));
    lines.field("made", time(system.created));
    lines.field("written", time(system.written));
    lines.field("checked", time(system.checked));
    for (name, tally) in found.checks.named() {
        let verdict = match (tally.checked, tally.failed) {
            (0, _) => "not checked".to_owned(),
            (_, 0) => "ok".to_owned(),
            (1, _) => "WRONG".to_owned(),
            (checked, failed) => format!("{failed} of {checked} WRONG"),
        };
        lines.field(name, verdict);
    }
    for problem in &found.problems {
        lines.field("problem", problem);
    }
    lines.0
}
