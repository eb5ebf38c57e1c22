//! The `tar2vhd` command.

mod args;
mod convert;
mod disk;
#[cfg(unix)]
mod disposition;
mod image;
mod input;
mod inspect;
mod manual;
mod output;
mod progress;
mod roothash;
mod runhcs;
mod scratch;
mod signals;
mod standard;
mod verify;

use std::path::Path;
use std::process::ExitCode;

use clap::{CommandFactory, Parser};
use tar2vhd::{Error, ErrorKind};

use args::{Args, Command};
use signals::Caught;

fn main() -> ExitCode {
    signals::report_size_limit();
    let mut arguments = std::env::args_os();
    if arguments.next().is_some_and(|name| runhcs::is_name(&name)) {
        return runhcs::run(arguments);
    }
    let result = match Args::try_parse() {
        Ok(args) => run(args.command),
        Err(e) => match e.use_stderr() {
            true => {
                // Its text starts with "error: ".
                output::stderr(format_args!(
                    "tar2vhd: {}",
                    e.render().to_string().trim_end()
                ));
                return Failure::USAGE.into();
            }
            // Help or the version was asked for.
            false => output::stdout(e.render().to_string().as_bytes()).map(|()| ExitCode::SUCCESS),
        },
    };
    match result {
        Ok(code) => code,
        Err(failure) => {
            output::stderr(format_args!("tar2vhd: error: {}", failure.message));
            match failure.signal {
                None => failure.code.into(),
                Some(caught) => signals::end_by(caught),
            }
        }
    }
}

fn run(command: Command) -> Result<ExitCode, Failure> {
    match command {
        Command::Convert(args) => convert::run(*args)?,
        Command::Inspect(args) => inspect::run(&args)?,
        Command::Roothash(args) => roothash::run(&args)?,
        Command::Verify(args) => verify::run(&args)?,
        Command::Disk(args) => disk::run(args)?,
        Command::Scratch(args) => scratch::run(args)?,
        // It ends as its callers expect.
        Command::Runhcs(args) => return Ok(runhcs::run(args.arguments)),
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Args::command(), "tar2vhd", &mut script);
            output::stdout(&script)?;
        }
        Command::Man { command, all } => manual::run(&command, all.as_deref())?,
    }
    Ok(ExitCode::SUCCESS)
}

/// Why the command ends without success.
#[derive(Debug)]
struct Failure {
    message: String,
    code: u8,
    /// What interrupted the work.
    signal: Option<Caught>,
}

impl Failure {
    const ERROR: u8 = 1;
    const USAGE: u8 = 2;

    fn error(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            code: Self::ERROR,
            signal: None,
        }
    }

    fn usage(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            code: Self::USAGE,
            signal: None,
        }
    }

    fn interrupted(caught: Caught) -> Self {
        Self {
            signal: Some(caught),
            ..Self::error(format!("interrupted by {caught}"))
        }
    }
}

impl Failure {
    /// The error of a call that read `input`, which its message names.
    fn reading(input: &Path, error: Error) -> Self {
        let named = match error.kind() {
            ErrorKind::InvalidOptions | ErrorKind::Cancelled => None,
            _ => Some(input).filter(|_| error.file().is_none()),
        };
        Self::of(named, &error)
    }

    /// The error of a call that read `input` and wrote to `output`: its message names the one
    /// that it is about.
    fn copying(input: &Path, output: &Path, error: Error) -> Self {
        match error.kind() {
            ErrorKind::Output | ErrorKind::StorageFull => Self::of(Some(output), &error),
            _ => Self::reading(input, error),
        }
    }

    fn of(named: Option<&Path>, error: &Error) -> Self {
        let mut message = match named {
            Some(path) => format!("{}: {error:#}", path.display()),
            None => format!("{error:#}"),
        };
        if let Some(option) = error.option() {
            message.push_str(&match option {
                "lower" => "; if a layer below has it, name the disk of that one \
                    (convert --lower)"
                    .to_owned(),
                _ => format!("; --{option} can be larger"),
            });
        }
        match error.kind() {
            ErrorKind::InvalidOptions => Self::usage(message),
            _ => Self::error(message),
        }
    }
}

/// The error of a call that names its file, or has none.
impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::of(None, &error)
    }
}
