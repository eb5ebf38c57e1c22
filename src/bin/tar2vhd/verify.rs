//! `tar2vhd verify`.

use std::fmt::Write;
use std::path::Path;

use serde_json::{Value, json};
use tar2vhd::{Finding, Verdict, Verification, VerifyOptions};

use crate::Failure;
use crate::args::Verify;
use crate::output::{self, escape};

pub(crate) fn run(args: &Verify) -> Result<(), Failure> {
    let mut options = VerifyOptions::new();
    if let Some(root_hash) = args.root_hash {
        options = options.root_hash(root_hash);
    }
    let found = tar2vhd::verify(&args.disk, &options)
        .map_err(|error| Failure::reading(&args.disk, error))?;
    let report = match args.json {
        true => format!("{}\n", json(&args.disk, &found)),
        false => text(&found),
    };
    output::stdout(report.as_bytes())?;
    let name = args.disk.display();
    match found.verdict() {
        Verdict::Clean => Ok(()),
        Verdict::Damaged => Err(Failure::error(format!(
            "{name} is damaged: {}",
            counted(found.findings.len() as u64 + found.omitted, "finding")
        ))),
        _ => Err(Failure::error(format!(
            "{name} could not be checked as a whole"
        ))),
    }
}

fn json(path: &Path, found: &Verification) -> Value {
    let examined = &found.examined;
    json!({
        "path": output::path(path),
        "verdict": found.verdict().as_str(),
        "size": found.size,
        "format": found.format.as_str(),
        "virtualSize": found.virtual_size,
        "findings": found.findings.iter().map(finding).collect::<Vec<_>>(),
        "omittedFindings": found.omitted,
        "notes": found.notes,
        "unchecked": found.unchecked,
        "examined": {
            "groups": examined.groups,
            "blocks": examined.blocks,
            "inodes": examined.inodes,
            "directories": examined.directories,
            "names": examined.names,
        },
    })
}

fn finding(finding: &Finding) -> Value {
    let place = &finding.place;
    json!({
        "kind": finding.kind.as_str(),
        "offset": place.offset,
        "group": place.group,
        "block": place.block,
        "inode": place.inode,
        "path": place.path.as_deref().map(escape),
        "message": finding.message,
    })
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
        found.verdict().as_str(),
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
