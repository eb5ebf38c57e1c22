//! `tar2vhd verify`.

use std::fmt::Write;
use std::path::Path;

use serde_json::{Value, json};
use tar2vhd::Volume;
use tar2vhd::verify::{Verdict, Verification, VerifyOptions};

use crate::args::{InputFormat, Verify};
use crate::failure::Failure;
use crate::output;

pub(crate) fn run(args: &Verify) -> Result<(), Failure> {
    let mut options = VerifyOptions::new();
    if let Some(root_hash) = args.root_hash {
        if args.disks.len() > 1 {
            return Err(Failure::usage("--root-hash is of one disk"));
        }
        options = options.root_hash(root_hash);
    }
    if let Some(device) = &args.hash_device {
        options = options
            .hash_device(Volume::open(device).map_err(|error| Failure::reading(device, error))?);
    }
    let [disk] = &args.disks[..] else {
        return several(args, &options);
    };
    let found = verified(args, disk, &options).map_err(|error| Failure::reading(disk, error))?;
    let report = match args.json {
        true => format!("{}\n", json(disk, &found)),
        false => text(&found),
    };
    output::stdout(report.as_bytes())?;
    match complaint(&found) {
        None => Ok(()),
        Some(complaint) => Err(Failure::error(format!(
            "{} {complaint}",
            tar2vhd::display_file(disk)
        ))),
    }
}

fn verified(args: &Verify, disk: &Path, options: &VerifyOptions) -> tar2vhd::Result<Verification> {
    match args.input_format {
        InputFormat::Auto => Volume::open(disk).and_then(|disk| disk.verify(options)),
        InputFormat::Raw => Volume::open_raw(disk)?.verify(options),
    }
}

/// Verifies disks one after the other; one that cannot be read does not keep the others from it.
fn several(args: &Verify, options: &VerifyOptions) -> Result<(), Failure> {
    let mut unclean = 0;
    for disk in &args.disks {
        let name = tar2vhd::display_file(disk);
        let found = verified(args, disk, options);
        let report = match (&found, args.json) {
            (Ok(found), true) => format!("{}\n", json(disk, found)),
            (Ok(found), false) => {
                let lines = text(found);
                lines
                    .lines()
                    .map(|line| format!("{name}: {line}\n"))
                    .collect()
            }
            (Err(error), true) => {
                let error = format!("{error:#}");
                let object = output::of_file(disk, json!({ "error": error }));
                format!("{}\n", Value::Object(object))
            }
            (Err(error), false) => format!("{name}: error: {error:#}\n"),
        };
        output::stdout(report.as_bytes())?;
        unclean += usize::from(found.map_or(true, |found| found.verdict() != Verdict::Clean));
    }
    match unclean {
        0 => Ok(()),
        _ => {
            let are = if unclean == 1 { "is" } else { "are" };
            let all = args.disks.len();
            Err(Failure::error(format!(
                "{unclean} of {all} disks {are} not clean"
            )))
        }
    }
}

/// The verdict on a disk that is not clean, printed behind its name.
fn complaint(found: &Verification) -> Option<String> {
    match found.verdict() {
        Verdict::Clean => None,
        Verdict::Damaged => Some(format!(
            "is damaged: {}",
            counted(found.findings.len() as u64 + found.omitted, "finding")
        )),
        Verdict::NeedsReplay => Some(
            "has a journal that has to be replayed first: mount it once, or run e2fsck -p".into(),
        ),
        _ => Some("could not be checked as a whole".into()),
    }
}

fn json(disk: &Path, found: &Verification) -> Value {
    Value::Object(output::of_file(disk, json!(found)))
}

fn text(found: &Verification) -> String {
    let mut text = String::new();
    // Writing to a string does not fail.
    let mut line = |line: String| {
        let _ = writeln!(text, "{line}");
    };
    for finding in &found.findings {
        line(finding.to_string());
    }
    if found.omitted > 0 {
        line(format!("and {} more", counted(found.omitted, "finding")));
    }
    for note in &found.notes {
        line(format!("note: {note}"));
    }
    for what in &found.unchecked {
        line(format!("not checked: {what}"));
    }
    let examined = &found.examined;
    line(format!(
        "{}: {}, {} in use, {}, {}",
        found.verdict(),
        counted(examined.groups, "group"),
        counted(examined.blocks, "block"),
        counted(examined.inodes, "inode"),
        counted(examined.names, "name"),
    ));
    text
}

fn counted(number: u64, what: &str) -> String {
    match number {
        1 => format!("1 {what}"),
        _ => format!("{number} {what}s"),
    }
}
