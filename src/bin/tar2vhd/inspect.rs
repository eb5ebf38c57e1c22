//! `tar2vhd inspect`.

use serde_json::{Value, json};
use std::fmt::Write;
use tar2vhd::Inspection;
use uuid::Uuid;

use crate::Failure;
use crate::args::Inspect;
use crate::output::{self, escape, human};

pub(crate) fn run(args: &Inspect) -> Result<(), Failure> {
    let found = tar2vhd::inspect(&args.disk)?;
    let report = match args.json {
        true => format!("{}\n", json(&found)),
        false => text(&found),
    };
    output::stdout(report.as_bytes())?;
    let failed: u64 = found.checks.named().iter().map(|(_, t)| t.failed).sum();
    match failed {
        0 => Ok(()),
        _ => Err(Failure::error(format!(
            "{}: {failed} of the checks failed",
            args.disk.display()
        ))),
    }
}

fn json(found: &Inspection) -> Value {
    let system = &found.file_system;
    let checks: serde_json::Map<_, _> = found
        .checks
        .named()
        .into_iter()
        .map(|(name, tally)| {
            let value = json!({ "checked": tally.checked, "failed": tally.failed });
            (camel_case(name), value)
        })
        .collect();
    json!({
        "size": found.size,
        "format": found.format.as_str(),
        "footer": found.footer.as_ref().map(|footer| json!({
            "virtualSize": footer.virtual_size,
            "cylinders": footer.geometry.0,
            "heads": footer.geometry.1,
            "sectorsPerTrack": footer.geometry.2,
            "created": footer.created,
            "creator": escape(&footer.creator),
            "uniqueId": Uuid::from_bytes(footer.unique_id).to_string(),
        })),
        "fileSystem": {
            "uuid": Uuid::from_bytes(system.uuid).to_string(),
            "label": escape(&system.label),
            "features": system.features,
            "blockSize": system.block_size,
            "blocks": system.blocks,
            "freeBlocks": system.free_blocks,
            "inodes": system.inodes,
            "freeInodes": system.free_inodes,
            "inodeSize": system.inode_size,
            "groups": system.groups,
            "blocksPerGroup": system.blocks_per_group,
            "inodesPerGroup": system.inodes_per_group,
            "created": system.created,
            "written": system.written,
            "checked": system.checked,
        },
        "checks": checks,
        "problems": found.problems,
    })
}

/// "free counts" as `freeCounts`.
fn camel_case(words: &str) -> String {
    let mut name = String::new();
    for word in words.split(' ') {
        match name.is_empty() {
            true => name.push_str(word),
            false => {
                let (first, rest) = word.split_at(1);
                name.push_str(&first.to_uppercase());
                name.push_str(rest);
            }
        }
    }
    name
}

fn text(found: &Inspection) -> String {
    let system = &found.file_system;
    let mut lines = Lines::default();
    lines.field("size", bytes(found.size));
    lines.field("format", found.format.as_str());
    if let Some(footer) = &found.footer {
        let (cylinders, heads, sectors) = footer.geometry;
        lines.field("virtual size", bytes(footer.virtual_size));
        lines.field("geometry", format!("{cylinders}/{heads}/{sectors}"));
        lines.field("creator", footer.creator.escape_ascii());
        lines.field("disk made", time(footer.created));
        lines.field("unique id", Uuid::from_bytes(footer.unique_id));
    }
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
            (1, 0) => "right".to_owned(),
            (1, _) => "WRONG".to_owned(),
            (checked, 0) => format!("all {checked} right"),
            (checked, failed) => format!("{failed} of {checked} WRONG"),
        };
        lines.field(name, verdict);
    }
    for problem in &found.problems {
        lines.field("problem", problem);
    }
    lines.0
}

#[derive(Default)]
struct Lines(String);

impl Lines {
    fn field(&mut self, name: &str, value: impl std::fmt::Display) {
        // Writing to a string does not fail.
        let _ = writeln!(self.0, "{:<19}{value}", format!("{name}:"));
    }
}

fn time(seconds: u64) -> String {
    format!("{seconds} s after 1970")
}

fn bytes(bytes: u64) -> String {
    match bytes {
        0..1024 => format!("{bytes} B"),
        _ => format!("{bytes} B ({})", human(bytes)),
    }
}
