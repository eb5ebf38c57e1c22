//! Whole images: `image convert` beside `convert` of each layer, `image flatten` beside both, and
//! beside umoci with mke2fs.
//!
//! `cargo bench --bench images -- --help` tells the options, BENCHMARKS.md what came out.

#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a program, whose output this is"
)]

mod layout;

use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use clap::Parser;

use layout::{Compression, Layout};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// Times the commands for whole images beside each other.
#[derive(Parser)]
#[command(name = "images", max_term_width = 100)]
struct Args {
    /// How often each command is timed, in turns, after one run that is not.
    #[arg(long, value_name = "N", default_value_t = 5)]
    rounds: usize,

    /// The part of each image to make: 0.01 for a hundredth of its files.
    #[arg(long, value_name = "FACTOR", default_value_t = 1.0)]
    scale: f64,

    /// Where inputs and outputs are; best in memory. /dev/shm if it is there.
    #[arg(long, value_name = "DIRECTORY")]
    work: Option<PathBuf>,

    /// An argument that cargo adds.
    #[arg(long, hide = true)]
    bench: bool,
}

/// The files of an image at full scale.
const FILES: usize = 200_000;

fn main() -> ExitCode {
    match run(&Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("images: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: &Args) -> Result<()> {
    let memory = Path::new("/dev/shm");
    let work = match &args.work {
        Some(work) => work.clone(),
        None if memory.is_dir() => memory.to_owned(),
        None => std::env::temp_dir(),
    };
    let work = tempfile::Builder::new()
        .prefix("tar2vhd-images-")
        .tempdir_in(work)?;
    println!(
        "seconds, medians of {} rounds; ratios beside them",
        args.rounds
    );
    for layers in [3, 12, 60] {
        for compression in [Compression::Gzip, Compression::Zstd] {
            let files = ((FILES as f64 * args.scale) as usize).max(layers);
            let path = work.path().join("image");
            let layout = Layout::write(&path, layers, files, compression)?;
            println!(
                "\n{layers} layers, {files} files, {}: {} MB compressed",
                compression.name(),
                layout.size / 1_000_000
            );
            compare(args, work.path(), &layout)?;
            fs::remove_dir_all(&path)?;
        }
    }
    Ok(())
}

/// A way to make disks of an image.
struct Contestant {
    name: &'static str,
    commands: Vec<Command>,
    /// Removed before each run; what is there else stays.
    output: Option<PathBuf>,
    times: Vec<Duration>,
}

fn compare(args: &Args, work: &Path, layout: &Layout) -> Result<()> {
    let out = work.join("out");
    let tar2vhd = || Command::new(env!("CARGO_BIN_EXE_tar2vhd"));
    let quiet = ["--no-fsync", "--quiet"];
    let one_by_one = layout.blobs.iter().map(|blob| {
        let mut command = tar2vhd();
        let name = blob.file_name().unwrap_or_default();
        command
            .arg("convert")
            .arg(blob)
            .arg(out.join(name))
            .args(quiet);
        command
    });
    let image = |verb: &str, output: &Path| {
        let mut command = tar2vhd();
        command
            .args(["image", verb])
            .arg(&layout.path)
            .arg("-o")
            .arg(output)
            .args(quiet);
        command
    };
    let cache = work.join("cache");
    let mut contestants = vec![
        Contestant::new("convert, one by one", one_by_one.collect(), Some(&out)),
        Contestant::new("image convert", vec![image("convert", &out)], Some(&out)),
        Contestant::new(
            "image flatten",
            vec![image("flatten", &out.join("disk"))],
            Some(&out),
        ),
        Contestant::new(
            "image convert, all there",
            vec![image("convert", &cache)],
            None,
        ),
    ];
    match peer(layout, &out) {
        Some(commands) => {
            contestants.push(Contestant::new("umoci + mke2fs -d", commands, Some(&out)));
        }
        None => println!("umoci + mke2fs -d: not here, or it does not read this compression"),
    }
    for round in 0..=args.rounds {
        for contestant in &mut contestants {
            let took = contestant.run(&out)?;
            // The first run warms the caches, and fills the one that is to be full.
            if round > 0 {
                contestant.times.push(took);
            }
        }
    }
    let _ = fs::remove_dir_all(&cache);
    let _ = fs::remove_dir_all(&out);
    let median = |index: usize| contestants[index].median();
    let (apart, convert, flatten) = (median(0), median(1), median(2));
    for contestant in &contestants {
        let time = contestant.median();
        let ratio = match contestant.name {
            "image convert" => format!("{:.2} of one by one (must 0.90)", convert / apart),
            "image flatten" => format!("{:.2} of image convert (must 1.30)", flatten / convert),
            "umoci + mke2fs -d" => format!("flatten takes {:.2} of it (must 0.20)", flatten / time),
            _ => String::new(),
        };
        println!("{:<26} {time:>8.3}  {ratio}", contestant.name);
    }
    Ok(())
}

/// umoci and mke2fs as somebody would put them together.
fn peer(layout: &Layout, out: &Path) -> Option<Vec<Command>> {
    let is_here = |program: &str| {
        let found = Command::new(program)
            .arg("--version")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
        found.is_ok()
    };
    // Debian's umoci reads no zstd.
    if layout.compression != Compression::Gzip || !is_here("umoci") || !is_here("mke2fs") {
        return None;
    }
    let (bundle, disk) = (out.join("bundle"), out.join("disk"));
    let mut image = layout.path.clone().into_os_string();
    image.push(":latest");
    let mut unpack = Command::new("umoci");
    unpack.arg("unpack").arg("--image").arg(image).arg(&bundle);
    let mut make = Command::new("mke2fs");
    // Room for the files and their inodes.
    let blocks = (layout.content / 4096 + layout.files as u64 * 2 + 20_000).to_string();
    let inodes = (layout.files + layout.files / 4 + 1000).to_string();
    make.args(["-q", "-F", "-t", "ext4", "-b", "4096", "-N", &inodes, "-d"])
        .arg(bundle.join("rootfs"))
        .arg(disk)
        .arg(blocks);
    Some(vec![unpack, make])
}

impl Contestant {
    fn new(name: &'static str, commands: Vec<Command>, output: Option<&PathBuf>) -> Self {
        Self {
            name,
            commands,
            output: output.cloned(),
            times: Vec::new(),
        }
    }

    fn run(&mut self, out: &Path) -> Result<Duration> {
        if let Some(output) = &self.output {
            let _ = fs::remove_dir_all(output);
        }
        fs::create_dir_all(out)?;
        let start = Instant::now();
        for command in &mut self.commands {
            let output = command.stdin(Stdio::null()).output()?;
            if !output.status.success() {
                let text = String::from_utf8_lossy(&output.stderr);
                return Err(format!("{}: {}", self.name, text.trim()).into());
            }
        }
        Ok(start.elapsed())
    }

    /// In seconds.
    fn median(&self) -> f64 {
        let mut times = self.times.clone();
        times.sort_unstable();
        times
            .get(times.len() / 2)
            .map_or(f64::NAN, Duration::as_secs_f64)
    }
}
