//! Measurements, as tables and as JSON.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::time::SystemTime;

use serde_json::{Value, json};

use crate::case::{Case, Spread};
use crate::goals;
use crate::program::find;

/// All that was measured.
pub(crate) struct Report {
    head: Vec<(&'static str, String)>,
    scale: f64,
    cases: Vec<Case>,
}

impl Report {
    pub(crate) fn new(work: &Path, rounds: usize, scale: f64) -> Self {
        let cores = std::thread::available_parallelism().map_or(0, usize::from);
        let cpu = std::fs::read_to_string("/proc/cpuinfo")
            .ok()
            .and_then(|text| {
                let line = text.lines().find(|line| line.starts_with("model name"))?;
                Some(line.split_once(": ")?.1.to_owned())
            });
        let cpu = cpu.unwrap_or_else(|| std::env::consts::ARCH.to_owned());
        let seconds = SystemTime::UNIX_EPOCH
            .elapsed()
            .map_or(0, |since| since.as_secs());
        let head = vec![
            (
                "machine",
                format!("{cpu}, {cores} cores, {}", std::env::consts::OS),
            ),
            ("date", date(seconds)),
            (
                "work directory",
                work.parent().unwrap_or(work).display().to_string(),
            ),
            ("rounds", format!("{rounds} after a warm-up, scale {scale}")),
            ("versions", versions()),
            ("commit", commit()),
        ];
        Self {
            head,
            scale,
            cases: Vec::new(),
        }
    }

    pub(crate) fn print_head(&self) {
        for (name, value) in &self.head {
            println!("- {name}: {value}");
        }
    }

    pub(crate) fn add(&mut self, case: Case) {
        case.print(&self.cases.iter().flat_map(|case| &case.missing).collect());
        self.cases.push(case);
    }

    pub(crate) fn failed(&self) -> bool {
        self.cases.iter().any(Case::failed)
    }

    pub(crate) fn print_goals(&self) {
        let lines = goals::lines(&self.cases);
        if lines.is_empty() {
            return;
        }
        println!("\n### Ratios\n");
        if self.scale < 1.0 {
            println!(
                "At scale {}, starting a process counts for more.\n",
                self.scale
            );
        }
        println!("| | median | min–max | limit | aim |");
        println!("| --- | ---: | ---: | ---: | ---: |");
        for line in lines {
            let Spread { median, min, max } = line.spread;
            println!(
                "| {} | {median:.2} | {min:.2}–{max:.2} | {:.2} | {:.2} |",
                line.what, line.limit, line.aim
            );
        }
    }

    pub(crate) fn json(&self) -> Value {
        let head = self.head.iter();
        let goals = goals::lines(&self.cases).into_iter().map(|line| {
            json!({
                "what": line.what,
                "median": line.spread.median,
                "min": line.spread.min,
                "max": line.spread.max,
                "limit": line.limit,
                "aim": line.aim,
            })
        });
        json!({
            "about": head.map(|(name, value)| (*name, value)).collect::<BTreeMap<_, _>>(),
            "scale": self.scale,
            "cases": self.cases.iter().map(Case::json).collect::<Vec<_>>(),
            "ratios": goals.collect::<Vec<_>>(),
        })
    }
}

/// Year, month and day of a time in seconds since 1970.
fn date(seconds: u64) -> String {
    let mut days = seconds / 86_400;
    let mut year = 1970;
    let is_leap = |year: u64| {
        year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
    };
    while days >= 365 + u64::from(is_leap(year)) {
        days -= 365 + u64::from(is_leap(year));
        year += 1;
    }
    let february = 28 + u64::from(is_leap(year));
    let months = [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let mut month = 1;
    for length in months {
        if days < length {
            break;
        }
        days -= length;
        month += 1;
    }
    format!("{year}-{month:02}-{:02}", days + 1)
}

/// The state of the sources, if they are in a repository.
fn commit() -> String {
    let said = Command::new("git")
        .args(["describe", "--always", "--dirty"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output();
    match said {
        Ok(said) if said.status.success() => {
            String::from_utf8_lossy(&said.stdout).trim().to_owned()
        }
        _ => "unknown".to_owned(),
    }
}

/// The versions of the programs, from the first lines that they print.
fn versions() -> String {
    let tar2vhd = Path::new(env!("CARGO_BIN_EXE_tar2vhd")).to_owned();
    let programs = [
        (Some(tar2vhd), "--version"),
        (find("igzip"), "--version"),
        (find("pigz"), "--version"),
        (find("gzip"), "--version"),
        (find("zstd"), "--version"),
        (find("openssl"), "version"),
        (find("mke2fs"), "-V"),
        (find("genext2fs"), "--version"),
    ];
    let mut versions = Vec::new();
    for (program, option) in programs {
        let Some(output) = program.and_then(|path| Command::new(path).arg(option).output().ok())
        else {
            continue;
        };
        let said = [output.stdout, output.stderr].concat();
        let said = String::from_utf8_lossy(&said);
        versions.extend(
            said.lines()
                .map(str::trim)
                .find(|line| !line.is_empty())
                .map(str::to_owned),
        );
    }
    versions.join("; ")
}
