//! Contestants over one input, and their figures.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use tar2vhd::Compression;

use crate::contestants::{
    COPY, Check, Contestant, IGZIP, ONE_THREAD, OPENSSL, SHA256SUM, SYNCED, TAR2VHD, ZSTD,
};
use crate::input::Input;
use crate::measure::Run;

/// A contestant and what it took.
pub(crate) struct Row {
    pub(crate) contestant: Contestant,
    pub(crate) runs: Vec<Run>,
    /// Whether it runs in the next round.
    pub(crate) stays: bool,
    failure: Option<String>,
    gave_up: Option<u64>,
}

impl Row {
    pub(crate) fn new(contestant: Contestant) -> Self {
        Self {
            contestant,
            runs: Vec::new(),
            stays: true,
            failure: None,
            gave_up: None,
        }
    }

    pub(crate) fn fail(&mut self, how: String) {
        self.failure = Some(how);
        self.stays = false;
    }

    pub(crate) fn give_up(&mut self, limit: u64) {
        self.gave_up = Some(limit);
        self.stays = false;
    }

    /// Whether a ratio is made of it, which takes every round.
    pub(crate) fn is_compared(&self) -> bool {
        self.is_ours() || [IGZIP, ZSTD, OPENSSL, SHA256SUM, COPY].contains(&self.contestant.name)
    }

    fn is_ours(&self) -> bool {
        [TAR2VHD, ONE_THREAD, SYNCED].contains(&self.contestant.name)
    }

    fn of(&self, figure: impl Fn(&Run) -> Option<f64>) -> Option<Spread> {
        Spread::of(self.runs.iter().map(figure).collect::<Option<_>>()?)
    }

    pub(crate) fn wall(&self) -> Option<Spread> {
        self.of(|run| Some(run.wall))
    }

    pub(crate) fn cpu(&self) -> Option<Spread> {
        self.of(|run| run.cpu)
    }

    pub(crate) fn peak(&self) -> Option<Spread> {
        self.of(|run| run.peak.map(|bytes| bytes as f64))
    }
}

/// The middle of some figures, and their ends.
#[derive(Clone, Copy)]
pub(crate) struct Spread {
    pub(crate) median: f64,
    pub(crate) min: f64,
    pub(crate) max: f64,
}

impl Spread {
    pub(crate) fn of(mut figures: Vec<f64>) -> Option<Self> {
        figures.sort_by(f64::total_cmp);
        let (min, max) = (*figures.first()?, *figures.last()?);
        let middle = figures.len() / 2;
        let median = match figures.len() % 2 {
            1 => figures[middle],
            _ => f64::midpoint(figures[middle - 1], figures[middle]),
        };
        Some(Self { median, min, max })
    }

    pub(crate) fn map(self, by: impl Fn(f64) -> f64) -> Self {
        Self {
            median: by(self.median),
            min: by(self.min),
            max: by(self.max),
        }
    }
}

/// An input and all that was done with it.
pub(crate) struct Case {
    pub(crate) layer: String,
    pub(crate) title: String,
    pub(crate) compression: Compression,
    size: u64,
    tar_size: u64,
    pub(crate) entries: u64,
    rows: Vec<Row>,
    pub(crate) missing: Vec<String>,
    checked: String,
}

impl Case {
    pub(crate) fn new(
        input: &Input,
        rows: Vec<Row>,
        missing: Vec<String>,
        checked: String,
    ) -> Self {
        Self {
            layer: input.layer.clone(),
            title: input.title(),
            compression: input.compression,
            size: input.size,
            tar_size: input.tar_size,
            entries: input.entries,
            rows,
            missing,
            checked,
        }
    }

    /// The row of a command, if it ran.
    pub(crate) fn row(&self, name: &str) -> Option<&Row> {
        let mut rows = self.rows.iter();
        rows.find(|row| row.contestant.name == name && !row.runs.is_empty())
    }

    pub(crate) fn digest(&self) -> Option<&Row> {
        self.row(OPENSSL).or_else(|| self.row(SHA256SUM))
    }

    /// The floor of a conversion that decompresses and digests: the slower of the
    /// fastest decompressor and the digest.
    pub(crate) fn floor(&self) -> Option<&Row> {
        match self.compression {
            // Slower than the digest.
            Compression::Gzip => self.row(IGZIP),
            Compression::Zstd => {
                let rows = [self.row(ZSTD)?, self.digest()?];
                let wall = |row: &&Row| row.wall().map_or(0.0, |wall| wall.median);
                rows.into_iter().max_by(|a, b| wall(a).total_cmp(&wall(b)))
            }
            _ => self.digest(),
        }
    }

    /// Prints all but those missing that were `told` before.
    pub(crate) fn print(&self, told: &BTreeSet<&String>) {
        let mb = |bytes: u64| bytes as f64 / 1e6;
        println!("\n### {}\n", self.title);
        println!(
            "{} entries, {:.1} MB of tar, {:.1} MB of input. {}.\n",
            self.entries,
            mb(self.tar_size),
            mb(self.size),
            self.checked
        );
        let floor = self
            .floor()
            .and_then(|row| Some((row.contestant.name, row.wall()?)));
        let floor_name = floor.map_or("floor", |(name, _)| name);
        println!("| command | wall s | min–max | MB/s | CPU s | peak MiB | × {floor_name} |");
        println!("| --- | ---: | ---: | ---: | ---: | ---: | ---: |");
        for row in &self.rows {
            let name = row.contestant.name;
            let Some(wall) = row.wall() else {
                let why = match (&row.failure, row.gave_up) {
                    (Some(_), _) => "failed".to_owned(),
                    (_, Some(limit)) => format!("more than {limit}"),
                    _ => "not run".to_owned(),
                };
                println!("| {name} | {why} | | | | | |");
                continue;
            };
            let or_dash = |figure: Option<String>| figure.unwrap_or_else(|| "–".to_owned());
            println!(
                "| {name} | {:.3} | {:.3}–{:.3} | {:.0} | {} | {} | {} |",
                wall.median,
                wall.min,
                wall.max,
                mb(self.tar_size) / wall.median,
                or_dash(row.cpu().map(|cpu| format!("{:.3}", cpu.median))),
                or_dash(
                    row.peak()
                        .map(|peak| format!("{:.1}", peak.median / 1_048_576.0))
                ),
                or_dash(floor.map(|(_, floor)| format!("{:.2}", wall.median / floor.median))),
            );
        }
        println!();
        for row in &self.rows {
            if let Some(failure) = &row.failure {
                println!("- {}: FAILED: {failure}", row.contestant.name);
            } else if !row.stays && !row.runs.is_empty() {
                println!("- {}: slow, so it ran only once", row.contestant.name);
            }
        }
        let missing = self.missing.iter().filter(|line| !told.contains(line));
        missing.for_each(|line| println!("- {line}"));
    }

    /// Whether tar2vhd was wrong, or one of what it is held against. Of other converters that
    /// is a line in the report: some fail on what they cannot do.
    pub(crate) fn failed(&self) -> bool {
        self.rows.iter().any(|row| {
            row.failure.is_some() && (row.is_ours() || row.contestant.check != Check::Image)
        })
    }

    pub(crate) fn json(&self) -> Value {
        let rows = self.rows.iter().map(|row| {
            let args = row.contestant.args.iter();
            json!({
                "name": row.contestant.name,
                "program": row.contestant.program.to_string_lossy(),
                "arguments": args.map(|arg| arg.to_string_lossy()).collect::<Vec<_>>(),
                "runs": row.runs.iter().map(Run::json).collect::<Vec<_>>(),
                "failure": row.failure,
                "gaveUpAfter": row.gave_up,
            })
        });
        json!({
            "layer": self.layer,
            "compression": self.compression.media_type(),
            "entries": self.entries,
            "tarBytes": self.tar_size,
            "inputBytes": self.size,
            "commands": rows.collect::<Vec<_>>(),
            "missing": self.missing,
        })
    }
}
