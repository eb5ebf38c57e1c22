//! The `tar2vhd` command.

mod args;
mod convert;
mod disk;
#[cfg(unix)]
mod disposition;
mod failure;
mod image;
mod input;
mod inspect;
mod manual;
mod output;
mod progress;
mod roothash;
mod runhcs;
mod scratch;
mod signal;
mod signals;
mod standard;
mod verify;

use std::process::ExitCode;

use clap::{CommandFactory, Parser};

use args::{Args, Command};
use failure::Failure;

fn main() -> ExitCode {
    signal::report_size_limit();
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
                Some(caught) => signal::end_by(caught),
            }
        }
    }
}

fn run(command: Command) -> Result<ExitCode, Failure> {
    match command {
        Command::Convert(args) => convert::run(*args)?,
        Command::Image(args) => image::run(args)?,
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
