//! Counts the instructions of a conversion, part by part: a number that a busy machine does not
//! change.
//!
//! The program runs itself under callgrind, with a layer and options that leave no choice to
//! threads or to the system, and holds what was counted against `counts.json`. A part is one
//! function with all that it calls, less what another part of it is; `#[inline(never)]` keeps
//! those functions apart.
//!
//! Counts are comparable only between builds by the same compiler. More than 5 % over the kept
//! ones is a failure; `-- --update` keeps the new ones.
//!
//! Then layers that are made to be slow (`inputs`) are held against one of empty files: for each
//! byte of the tar, with digests and all, none may take more than 20 times as many instructions.

#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a program, whose output this is"
)]

mod callgrind;
mod inputs;
mod result;

use std::fs;
use std::hint::black_box;
use std::io;
use std::path::Path;
use std::process::{Command, ExitCode};

use serde_json::{Map, Value, json};
use tar::{Builder, EntryType, Header};
use tar2vhd::Options;
use tar2vhd::disk::DiskOutput;

use inputs::Input;
use result::Result;

/// A part of the conversion: a function, less others that it calls.
struct Part {
    name: &'static str,
    function: &'static str,
    less: &'static [&'static str],
}

/// Reads, decodes and digests the next chunk of the layer.
const DECODING: &str = "pipeline::Inline as tar2vhd::layer::model::ChunkSource>::next_chunk";

const PARTS: [Part; 4] = [
    Part {
        name: "tar parser",
        function: "tar2vhd::layer::entry::Entries<S>::next",
        less: &[DECODING],
    },
    Part {
        name: "directory builder",
        function: "tar2vhd::ext4::directories::<impl tar2vhd::ext4::writer::Writer<S>>::write_directories",
        less: &[],
    },
    Part {
        name: "inode writer",
        function: "tar2vhd::ext4::finish::<impl tar2vhd::ext4::writer::Writer<S>>::write_inode_tables",
        less: &[],
    },
    Part {
        name: "conversion without decoding and digests",
        function: CONVERSION,
        less: &[DECODING],
    },
];

const COMMAND: &str = "cargo bench --bench instructions -- --update";

/// Set, a missing valgrind is an error.
const REQUIRE: &str = "TAR2VHD_REQUIRE_ORACLES";

/// The allowed growth of a part.
const TOLERANCE: f64 = 0.05;

/// All of a conversion.
const CONVERSION: &str = "tar2vhd::convert::convert";

/// The most that a byte of a layer may cost, in multiples of a byte of empty files.
const WORST: f64 = 20.0;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let has = |name: &str| args.iter().any(|arg| arg == name);
    let done = if has("--convert") {
        convert().map(|()| true)
    } else if let Some(name) = args.iter().find_map(|arg| arg.strip_prefix(INPUT)) {
        convert_input(name).map(|()| true)
    } else {
        count(has("--update"))
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("instructions: {error}");
            ExitCode::FAILURE
        }
    }
}

/// The conversions that are counted.
fn convert() -> Result<()> {
    let layer = layer()?;
    let options = Options::new().threads(1);
    let summary = tar2vhd::convert(black_box(&layer[..]), &Nowhere, &options)?;
    match summary.entries.tar_entries {
        ENTRIES => Ok(()),
        other => Err(format!("{other} entries instead of {ENTRIES}").into()),
    }
}

/// Before the name of an input to convert.
const INPUT: &str = "--input=";

fn convert_input(name: &str) -> Result<()> {
    let mut inputs = inputs::INPUTS.iter().chain([&inputs::EMPTY_FILES]);
    let input = inputs.find(|input| input.name == name);
    let layer = input.ok_or("no such input")?.layer();
    let options = Options::new().threads(1);
    tar2vhd::convert(black_box(&layer[..]), &Nowhere, &options)?;
    Ok(())
}

/// An output that takes everything and keeps nothing.
struct Nowhere;

impl DiskOutput for Nowhere {
    fn write_at(&self, _: u64, _: &[u8]) -> io::Result<()> {
        Ok(())
    }

    fn set_len(&self, _: u64) -> io::Result<()> {
        Ok(())
    }
}

/// Files in a directory of their own, and as many in small ones.
const FILES: u64 = 10_000;
/// With the directories.
const ENTRIES: u64 = 2 * FILES + FILES / 10 + 1;

/// Empty files, so that nothing but entries counts: half of them in one large directory, the
/// others in a thousand small ones, and every fourth with times in an extended header.
fn layer() -> Result<Vec<u8>> {
    let mut tar = Builder::new(Vec::new());
    let mut append = |kind, path: &str, mtime: Option<u64>| -> Result<()> {
        if let Some(nanos) = mtime {
            let time = format!("1700000000.{nanos:09}");
            tar.append_pax_extensions([("mtime", time.as_bytes())])?;
        }
        let mut header = Header::new_ustar();
        header.set_entry_type(kind);
        header.set_mode(0o755);
        header.set_uid(1000);
        header.set_gid(1000);
        header.set_mtime(1_700_000_000);
        header.set_size(0);
        tar.append_data(&mut header, path, &[][..])?;
        Ok(())
    };
    append(EntryType::Directory, "usr/lib/large", None)?;
    for file in 0..FILES {
        let mtime = file.is_multiple_of(4).then_some(file);
        append(
            EntryType::Regular,
            &format!("usr/lib/large/module-{file:05}.js"),
            mtime,
        )?;
    }
    for file in 0..FILES {
        let directory = format!("usr/share/package-{:03}", file / 10);
        if file.is_multiple_of(10) {
            append(EntryType::Directory, &directory, None)?;
        }
        let mtime = file.is_multiple_of(4).then_some(file);
        append(
            EntryType::Regular,
            &format!("{directory}/module-{file:05}.js"),
            mtime,
        )?;
    }
    Ok(tar.into_inner()?)
}

/// Counts and compares; whether nothing got worse.
fn count(update: bool) -> Result<bool> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/instructions/counts.json");
    let rustc = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let compiler = version(Command::new(rustc).arg("-vV"))?;
    let valgrind = match version(Command::new("valgrind").arg("--version")) {
        Ok(version) => version,
        Err(error) if std::env::var_os(REQUIRE).is_some_and(|value| value != "0") => {
            return Err(format!("no valgrind ({error}), and {REQUIRE} is set").into());
        }
        Err(error) => {
            println!("SKIPPED: instructions were not counted: no valgrind ({error})");
            return Ok(true);
        }
    };
    let (worst, ratio) = worst()?;
    let profile = callgrind::run("--convert")?;
    let mut counts = Map::new();
    for part in &PARTS {
        let less: Result<Vec<u64>> = part
            .less
            .iter()
            .map(|less| profile.inclusive(less))
            .collect();
        let count = profile.inclusive(part.function)? - less?.iter().sum::<u64>();
        counts.insert(part.name.to_owned(), count.into());
    }
    if update {
        let kept = json!({
            "command": COMMAND,
            "compiler": compiler,
            "valgrind": valgrind,
            "entries": ENTRIES,
            "instructions": counts,
            "worst input": worst,
            "times empty files": (ratio * 10.0).round() / 10.0,
        });
        fs::write(&path, format!("{kept:#}\n"))?;
    }
    let kept: Value = serde_json::from_slice(&fs::read(&path)?)?;
    let comparable = kept["compiler"] == compiler;
    let holds = compare(&kept["instructions"], &counts);
    if !comparable {
        println!(
            "NOT COMPARED: the counts kept are of another compiler:\n  {}\nthis one is\n  {}",
            kept["compiler"],
            Value::from(compiler)
        );
    } else if !holds {
        println!(
            "More than {:.0} % over what is kept. If there is a good reason:\n  {COMMAND}",
            TOLERANCE * 100.0
        );
    }
    if ratio > WORST {
        println!("{worst}: more than {WORST} times as many instructions a byte as empty files");
    }
    Ok((holds || !comparable) && ratio <= WORST)
}

/// Prints what each input takes; the worst, and how many times as much as empty files it takes.
fn worst() -> Result<(&'static str, f64)> {
    let per_byte = |input: &Input| -> Result<f64> {
        let profile = callgrind::run(&format!("{INPUT}{}", input.name))?;
        Ok(profile.inclusive(CONVERSION)? as f64 / input.layer().len() as f64)
    };
    let empty = per_byte(&inputs::EMPTY_FILES)?;
    let mut worst = (inputs::EMPTY_FILES.name, 1.0);
    println!("| instructions a byte of the tar | | times empty files |");
    println!("| --- | ---: | ---: |");
    println!("| {} | {empty:.1} | 1.0 |", worst.0);
    for input in &inputs::INPUTS {
        let taken = per_byte(input)?;
        let ratio = taken / empty;
        println!("| {} | {taken:.1} | {ratio:.1} |", input.name);
        if ratio > worst.1 {
            worst = (input.name, ratio);
        }
    }
    println!();
    Ok(worst)
}

/// Prints a line for each part; whether all are within the tolerance.
fn compare(kept: &Value, counts: &Map<String, Value>) -> bool {
    let mut holds = true;
    println!("| instructions | kept | now | | per entry |");
    println!("| --- | ---: | ---: | ---: | ---: |");
    for (name, now) in counts {
        let now = now.as_u64().unwrap_or_default() as f64;
        // A part without a kept count counts as worse.
        let before = kept[name].as_u64().unwrap_or_default() as f64;
        let more = now / before - 1.0;
        holds &= more <= TOLERANCE;
        let per_entry = now / ENTRIES as f64;
        println!(
            "| {name} | {before} | {now} | {:+.1} % | {per_entry:.0} |",
            more * 100.0
        );
    }
    holds
}

/// The version that a program prints, on one line.
fn version(command: &mut Command) -> Result<String> {
    let output = command.output()?;
    if !output.status.success() {
        return Err(output.status.to_string().into());
    }
    let lines = String::from_utf8(output.stdout)?;
    Ok(lines.lines().collect::<Vec<_>>().join("; "))
}
