//! The `tar2vhd` command.

mod args;
mod convert;
mod disk;
mod inspect;
mod output;
mod platform;
mod progress;
mod roothash;
mod runhcs;
mod scratch;
mod standard;
mod verify;

use std::process::ExitCode;

use clap::{CommandFactory, Parser};
use tar2vhd::{Error, ErrorKind};

use args::{Args, Command};

fn main() -> ExitCode {
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
            failure.code.into()
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
        Command::Man { command } => man(command.as_deref())?,
    }
    Ok(ExitCode::SUCCESS)
}

fn man(command: Option<&str>) -> Result<(), Failure> {
    let mut all = Args::command().disable_help_subcommand(true);
    // Gives the commands their full names.
    all.build();
    let command = match command {
        None => all,
        Some(name) => all
            .find_subcommand(name)
            .cloned()
            .ok_or_else(|| Failure::usage(format!("there is no command '{name}'")))?,
    };
    let mut page = Vec::new();
    clap_mangen::Man::new(command)
        .source(concat!("tar2vhd ", env!("CARGO_PKG_VERSION")))
        .manual("tar2vhd manual")
        .render(&mut page)
        .map_err(|e| Failure::error(format!("cannot make the manual page: {e}")))?;
    output::stdout(&page)
}

/// Why the command ends without success.
#[derive(Debug)]
struct Failure {
    message: String,
    code: u8,
}

impl Failure {
    const ERROR: u8 = 1;
    const USAGE: u8 = 2;

    fn error(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            code: Self::ERROR,
        }
    }

    fn usage(message: impl Into<String>) -> Self {
        Self {
            message: message.into(),
            code: Self::USAGE,
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        match error.kind() {
            ErrorKind::InvalidOptions => Self::usage(error.to_string()),
            _ => Self::error(error.to_string()),
        }
    }
}
