//! tar2vhd beside other converters, and beside what no conversion can be faster than.
//!
//! `cargo bench --bench compare -- --help` tells the options, BENCHMARKS.md how to read what
//! comes out.

#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::exit,
    reason = "a program, whose output this is"
)]

mod case;
mod contents;
mod contestants;
mod goals;
mod input;
mod layers;
mod measure;
mod program;
mod report;
mod result;

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Parser;
use tempfile::TempDir;

use case::{Case, Row};
use contents::Text;
use contestants::{Field, Place};
use input::Input;
use layers::Kind;
use report::Report;
use result::Result;

/// Times tar2vhd beside every other converter found on PATH, and beside decompressors and
/// digests alone, which no conversion can be faster than.
#[derive(Parser)]
#[command(name = "compare", max_term_width = 100)]
struct Args {
    /// How often each command is timed, one after the other, after one run that is not.
    #[arg(long, value_name = "N", default_value_t = 5)]
    rounds: usize,

    /// The part of each generated layer to make: 0.01 for a hundredth of its files.
    #[arg(long, value_name = "FACTOR", default_value_t = 1.0, value_parser = scale)]
    scale: f64,

    /// The kinds of layer to generate; all if none is named.
    #[arg(long, value_name = "KIND", value_delimiter = ',')]
    kinds: Vec<Kind>,

    /// A layer of one's own instead of generated ones.
    #[arg(long, value_name = "FILE")]
    layer: Vec<PathBuf>,

    /// Where inputs and outputs are; best in memory. /dev/shm if it is there and has room.
    #[arg(long, value_name = "DIRECTORY")]
    work: Option<PathBuf>,

    /// Also time tar2vhd without --no-fsync, with its output in this directory on a disk.
    #[arg(long, value_name = "DIRECTORY")]
    synced: Option<PathBuf>,

    /// Leave the other converters out.
    #[arg(long)]
    floors_only: bool,

    /// A command that takes longer than so many seconds is not run again, unless a ratio is made
    /// of it.
    #[arg(long, value_name = "SECONDS", default_value_t = 5)]
    slow: u64,

    /// A command that takes longer than so many seconds is ended.
    #[arg(long, value_name = "SECONDS", default_value_t = 30)]
    limit: u64,

    /// Write every run's figures here.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,

    /// An argument that cargo adds.
    #[arg(long, hide = true)]
    bench: bool,
}

fn scale(text: &str) -> std::result::Result<f64, String> {
    match text.parse() {
        Ok(scale) if scale > 0.0 && scale <= 100.0 => Ok(scale),
        _ => Err("a number above 0, 100 at most".to_owned()),
    }
}

fn main() -> ExitCode {
    let args: Vec<OsString> = std::env::args_os().skip(1).collect();
    let done = match args.first() {
        Some(first) if first == measure::MEASURE => measure::main(&args[1..]),
        _ => compare(&Args::parse()),
    };
    done.unwrap_or_else(|error| {
        eprintln!("compare: {error}");
        ExitCode::FAILURE
    })
}

fn compare(args: &Args) -> Result<ExitCode> {
    let kinds = match &args.kinds[..] {
        [] => &Kind::ALL[..],
        kinds => kinds,
    };
    let work = tempfile::Builder::new()
        .prefix("tar2vhd-compare-")
        .tempdir_in(work_directory(args, kinds)?)?;
    let path = work.path().to_owned();
    ctrlc::set_handler(move || {
        let _ = fs::remove_dir_all(&path);
        std::process::exit(130);
    })?;
    let mut report = Report::new(work.path(), args.rounds, args.scale);
    report.print_head();
    if args.layer.is_empty() {
        let text = Text::of_layer(&sample())?;
        for kind in kinds {
            let directory = work.path().join(kind.name());
            fs::create_dir(&directory)?;
            for mut input in generate(*kind, args.scale, &text, &directory)? {
                report.add(case(&mut input, work.path(), args)?);
            }
            fs::remove_dir_all(directory)?;
        }
    } else {
        for path in &args.layer {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            let copy = work.path().join("layer");
            let tar = work.path().join("layer.tar");
            fs::copy(path, &copy)?;
            let tar = input::decompress(&copy, &tar)?;
            let mut input = Input::new(&name, copy, tar)?;
            report.add(case(&mut input, work.path(), args)?);
        }
    }
    report.print_goals();
    if let Some(path) = &args.json {
        fs::write(path, format!("{:#}\n", report.json()))?;
    }
    Ok(if report.failed() {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}

/// A real layer, of whose text the generated files are made.
fn sample() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/node-app.tar.gz")
}

/// A layer's tar and, of those that are about decompression too, what it compresses to.
fn generate(kind: Kind, scale: f64, text: &Text, directory: &Path) -> Result<Vec<Input>> {
    eprintln!("generating: {}", kind.name());
    let tar = directory.join("layer.tar");
    kind.write(scale, text, &tar)?;
    let mut inputs = vec![Input::new(kind.name(), tar.clone(), tar.clone())?];
    let (gzip, zstd) = (directory.join("layer.gz"), directory.join("layer.zst"));
    if let Kind::Small | Kind::Debian = kind {
        input::compress(&tar, &gzip, &zstd)?;
        for path in [gzip, zstd] {
            inputs.push(Input::new(kind.name(), path, tar.clone())?);
        }
    }
    Ok(inputs)
}

/// The directory given, else one in memory that has room, else that of temporary files.
fn work_directory(args: &Args, kinds: &[Kind]) -> Result<PathBuf> {
    if let Some(work) = &args.work {
        return Ok(work.clone());
    }
    let shm = PathBuf::from("/dev/shm");
    // The layer, compressed twice, as a directory, and as images of two converters.
    let size = if args.layer.is_empty() {
        let largest = kinds.iter().map(|kind| kind.size()).max().unwrap_or(0);
        (largest as f64 * args.scale) as u64
    } else {
        let mut largest = 0;
        for layer in &args.layer {
            largest = largest.max(fs::metadata(layer)?.len().saturating_mul(4));
        }
        largest
    };
    let need = size.saturating_mul(6);
    if free_space(&shm).is_some_and(|free| free >= need) {
        return Ok(shm);
    }
    let work = std::env::temp_dir();
    eprintln!(
        "no /dev/shm with {need} bytes free: working in {}",
        work.display()
    );
    Ok(work)
}

#[cfg(unix)]
fn free_space(directory: &Path) -> Option<u64> {
    let stat = rustix::fs::statvfs(directory).ok()?;
    stat.f_bavail.checked_mul(stat.f_frsize)
}

#[cfg(not(unix))]
fn free_space(_: &Path) -> Option<u64> {
    None
}

/// Times all that can be done with an input.
fn case(input: &mut Input, work: &Path, args: &Args) -> Result<Case> {
    eprintln!("timing: {}", input.title());
    let scene = tempfile::tempdir_in(work)?;
    let checked = input.convert(scene.path())?;
    let disk = args.synced.as_ref().map(tempfile::tempdir_in).transpose()?;
    let place = Place {
        work: scene.path(),
        disk: disk.as_ref().map(TempDir::path),
        floors_only: args.floors_only,
    };
    let Field {
        contestants,
        missing,
    } = Field::of(input, &place);
    let mut rows: Vec<Row> = contestants.into_iter().map(Row::new).collect();
    let (stdout, stderr) = (scene.path().join("stdout"), scene.path().join("stderr"));
    let null = Path::new(if cfg!(windows) { "NUL" } else { "/dev/null" });
    // The first round warms up, and tells who is too slow for more.
    for round in 0..=args.rounds {
        for row in rows.iter_mut().filter(|row| row.stays) {
            let contestant = &row.contestant;
            let output = contestant.output.as_deref();
            let run = measure::run(
                &contestant.program,
                &contestant.args,
                if contestant.prints() { &stdout } else { null },
                &stderr,
                args.limit,
            );
            let run = run.and_then(|run| {
                if run.is_some() {
                    contestant.check.holds(input, &stdout, output, round == 0)?;
                }
                Ok(run)
            });
            if let Some(output) = output.filter(|output| output.exists()) {
                fs::remove_file(output)?;
            }
            match run {
                Err(error) => row.fail(error.to_string()),
                Ok(None) => row.give_up(args.limit),
                Ok(Some(run)) => {
                    let is_slow = run.wall > args.slow as f64 && !row.is_compared();
                    row.stays = !is_slow;
                    if round > 0 || is_slow || args.rounds == 0 {
                        row.runs.push(run);
                    }
                }
            }
        }
    }
    Ok(Case::new(input, rows, missing, checked))
}
