//! The command under the name `runhcs`: for callers that expect Microsoft's, and of what that
//! does only what makes disks.
//!
//! Its callers pass flags before the verb, give the layer on standard input, and take what
//! comes on both outputs for the message of an error if the exit status is not 0. So nothing is
//! printed but errors, as they are.

mod flags;
mod log;

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use tar2vhd::disk::{DiskFile, DiskOutput, FileId};
use tar2vhd::scratch::ScratchOptions;
use tar2vhd::{CancelToken, Options, Summary};
use vhd_format::vhdx::Vhdx;

use crate::convert::source_date_epoch;
use crate::failure::Failure;
use crate::signal::{self, Caught};
use crate::signals::Signals;
use crate::{input, output, standard};
use flags::{Flag, Parsed, Refused};
use log::{Level, Log};

/// Whether the command was called by this name, whatever directory and extension it has.
pub(crate) fn is_name(program: &OsStr) -> bool {
    // A path of Windows has to be understood on Windows alone.
    Path::new(program)
        .file_stem()
        .is_some_and(|name| name.eq_ignore_ascii_case("runhcs"))
}

/// Why there is nothing more to do.
enum End {
    /// Help was asked for.
    Help,
    Error(String),
    /// The work was interrupted, with the same words.
    Signal(String, Caught),
}

impl From<String> for End {
    fn from(message: String) -> Self {
        Self::Error(message)
    }
}

impl From<Refused> for End {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::Help => Self::Help,
            Refused::Wrong(message) => Self::Error(message),
        }
    }
}

impl From<Failure> for End {
    fn from(failure: Failure) -> Self {
        Self::Error(failure.message)
    }
}

/// Does what the arguments after the program's name ask for.
pub(crate) fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let mut arguments = arguments.into_iter().collect();
    let mut log = Log::default();
    match act(&mut arguments, &mut log) {
        Ok(()) => ExitCode::SUCCESS,
        Err(End::Help) => match output::stdout(HELP.as_bytes()) {
            Ok(()) => ExitCode::SUCCESS,
            Err(failure) => failure.code.into(),
        },
        Err(End::Error(message)) => {
            report(&message, &mut log);
            ExitCode::FAILURE
        }
        Err(End::Signal(message, caught)) => {
            report(&message, &mut log);
            signal::end_by(caught)
        }
    }
}

/// Writes an error to standard error and to the log, its end of line included.
fn report(message: &str, log: &mut Log) {
    log.write(Level::Error, &format!("{message}\n"));
    output::stderr(format_args!("{message}"));
}

const HELP: &str = "\
runhcs, as far as it makes disks: these are made here, without a virtual machine

    runhcs [GLOBAL FLAGS] tar2vhd --scratchpath VHDX --destpath VHD [--sourcepath TAR]
    runhcs [GLOBAL FLAGS] create-scratch --destpath VHDX [--sizeGB N] [--cache-path VHDX]
                                         [--use-virtual-memory]

Global flags:
    --debug               log more than errors and warnings
    --log FILE            where to log, at the end of what is there
    --log-format FORMAT   text (the default) or json
    --owner, --root       accepted, without effect

A flag has one dash or two, and its value follows after a space or '='. tar2vhd reads the layer
from standard input unless --sourcepath names it; the scratch disk that it wants is looked at and
not used. create-scratch makes 20 GiB unless --sizeGB says otherwise, then by copying the disk at
--cache-path, which it puts there if there is none.
";

const GLOBAL: &[Flag] = &[
    Flag::switch("debug"),
    Flag::value("log"),
    Flag::value("log-format"),
    Flag::value("owner"),
    Flag::value("root"),
];
const TAR2VHD: &[Flag] = &[
    Flag::value("sourcepath"),
    Flag::value("scratchpath"),
    Flag::value("destpath"),
];
const CREATE_SCRATCH: &[Flag] = &[
    Flag::value("destpath"),
    Flag::value("sizeGB"),
    Flag::value("cache-path"),
    Flag::switch("use-virtual-memory"),
];

fn act(arguments: &mut VecDeque<OsString>, log: &mut Log) -> Result<(), End> {
    let global = flags::parse(arguments, GLOBAL)?;
    *log = Log::open(
        global.path("log").as_deref(),
        global.get("log-format"),
        global.is_set("debug"),
    )?;
    let Some(verb) = arguments.pop_front() else {
        return Err(End::Help);
    };
    let mut flags = |known| -> Result<Parsed, End> {
        let flags = flags::parse(arguments, known)?;
        match arguments.front() {
            None => Ok(flags),
            Some(_) => Err(String::from("invalid command usage").into()),
        }
    };
    match verb.to_str() {
        Some("tar2vhd") => tar2vhd(&flags(TAR2VHD)?, log),
        Some("create-scratch") => create_scratch(&flags(CREATE_SCRATCH)?, log),
        Some("help" | "h") => Err(End::Help),
        _ => Err(format!(
            "'{}' is not offered here: this runhcs is tar2vhd, which offers 'tar2vhd' and \
             'create-scratch'",
            verb.display()
        )
        .into()),
    }
}

/// The path that a flag must give.
fn required(flags: &Parsed, name: &str) -> Result<PathBuf, String> {
    flags
        .path(name)
        .ok_or_else(|| format!("'{name}' is required"))
}

fn tar2vhd(flags: &Parsed, log: &Log) -> Result<(), End> {
    let source = flags.path("sourcepath");
    let (input, input_id): (Box<dyn Read + Send>, _) = match &source {
        None => (Box::new(io::stdin()), standard::input()),
        Some(path) if path.is_dir() => {
            let why = input::directory(path);
            return Err(format!("failed to open 'sourcepath': {why}").into());
        }
        Some(path) => {
            let failed = |e| {
                let path = path.display();
                format!("failed to open 'sourcepath': '{path}': {e}")
            };
            let file = File::open(path).map_err(failed)?;
            let id = FileId::of(&file).map_err(failed)?;
            (Box::new(file), Some(id))
        }
    };
    let scratch = required(flags, "scratchpath")?;
    let destination = required(flags, "destpath")?;
    let scratch_id = check_vhdx(&scratch)
        .map_err(|e| format!("failed to open 'scratchpath': '{}': {e}", scratch.display()))?;

    let mut options = Options::new();
    if let Some(seconds) = source_date_epoch()? {
        options = options.time(seconds);
    }
    let signals = Signals::catch()?;
    let mut file = DiskFile::create(&destination).map_err(Failure::from)?;
    if let Some(input) = input_id {
        file.keep(input, "the input").map_err(Failure::from)?;
    }
    file.keep(scratch_id, "the scratch disk")
        .map_err(Failure::from)?;
    file.sync_early();
    let cancel = CancelToken::new();
    let options = options.cancel(cancel.clone());
    let discard = [file.discard_handle()];
    let (done, summary) = std::sync::mpsc::channel::<Summary>();
    signals
        .supervise(&cancel, &discard, move || {
            let summary = tar2vhd::convert(input, &file, &options)?;
            file.publish(true)?;
            // The receiver is gone after a signal.
            let _ = done.send(summary);
            Ok(())
        })
        .map_err(|failure| {
            let to = destination.display();
            let message = format!("failed to convert tar2vhd to '{to}': {}", failure.message);
            match failure.signal {
                None => End::Error(message),
                Some(caught) => End::Signal(message, caught),
            }
        })?;
    if let Ok(summary) = summary.recv() {
        for warning in &summary.warnings {
            log.write(Level::Warning, &warning.to_string());
        }
        let (bytes, to) = (summary.disk.size, destination.display());
        log.write(Level::Debug, &format!("wrote {bytes} bytes to {to}"));
    }
    Ok(())
}

/// The size for which there is a cache, in GiB.
const DEFAULT_SIZE: u64 = 20;

fn create_scratch(flags: &Parsed, log: &Log) -> Result<(), End> {
    let destination = required(flags, "destpath")?;
    let size = match flags.get("sizeGB") {
        None => 0,
        Some(text) => text
            .to_str()
            .and_then(|text| text.parse::<u32>().ok())
            .ok_or_else(|| {
                format!(
                    "invalid value \"{}\" for flag -sizeGB: parse error",
                    text.display()
                )
            })?
            .into(),
    };
    let size = if size == 0 { DEFAULT_SIZE } else { size };
    let cache = flags.path("cache-path").filter(|_| size == DEFAULT_SIZE);
    let to = destination.display();
    // A disk may be in use: it is never replaced.
    if destination.symlink_metadata().is_ok() {
        return Err(format!("failed to create VHDX {to}: there is something of that name").into());
    }
    if let Some(cache) = &cache
        && cache.exists()
    {
        let from = cache.display();
        copy(cache, &destination)
            .map_err(|e| format!("failed to copy cached file '{from}' to '{to}': {e}"))?;
        log.write(Level::Debug, &format!("copied {from} to {to}"));
        return Ok(());
    }
    let mut options = ScratchOptions::new().size(size << 30);
    if let Some(seconds) = source_date_epoch()? {
        options = options.time(seconds);
    }
    tar2vhd::scratch::create_file(&destination, &options)
        .map_err(|e| format!("failed to create VHDX {to}: {e:#}"))?;
    log.write(Level::Debug, &format!("created {to} of {size} GiB"));
    if let Some(cache) = &cache {
        // Others may do the same at this moment: each puts a whole disk there, and all are equal.
        let at = cache.display();
        copy(&destination, cache)
            .map_err(|e| format!("failed to seed cache '{at}' from '{to}': {e}"))?;
        log.write(Level::Debug, &format!("seeded {at}"));
    }
    Ok(())
}

/// Finds a VHDX at `path`, and tells which file it is.
fn check_vhdx(path: &Path) -> Result<FileId, String> {
    let file = File::open(path).map_err(|e| e.to_string())?;
    let id = FileId::of(&file).map_err(|e| e.to_string())?;
    Vhdx::open(file).map(|_| id).map_err(|e| format!("{e:#}"))
}

/// Copies a VHDX to a file that appears whole or not at all.
fn copy(from: &Path, to: &Path) -> Result<(), String> {
    let source_id = check_vhdx(from)?;
    let mut source = File::open(from).map_err(|e| e.to_string())?;
    let mut target = DiskFile::create(to).map_err(|e| format!("{e:#}"))?;
    target
        .keep(source_id, "the disk that is copied")
        .map_err(|e| format!("{e:#}"))?;
    let mut piece = vec![0; 64 << 10];
    let mut at = 0;
    loop {
        let len = match source.read(&mut piece) {
            Ok(0) => break,
            Ok(len) => len,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
            Err(e) => return Err(e.to_string()),
        };
        // Bytes that are not written read as zero.
        if piece[..len].iter().any(|byte| *byte != 0) {
            target
                .write_at(at, &piece[..len])
                .map_err(|e| e.to_string())?;
        }
        at += len as u64;
    }
    target.set_len(at).map_err(|e| e.to_string())?;
    target.publish(true).map_err(|e| format!("{e:#}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_is_the_programs_alone() {
        for name in ["runhcs", "runhcs.exe", "/usr/bin/runhcs", "./RunHCS.EXE"] {
            assert!(is_name(name.as_ref()), "{name}");
        }
        for name in ["tar2vhd", "runhcs/tar2vhd", "runhcs2", "", "/"] {
            assert!(!is_name(name.as_ref()), "{name}");
        }
    }
}
