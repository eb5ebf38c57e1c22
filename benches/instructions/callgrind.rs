//! Runs this program under callgrind and reads what it counted.

use std::collections::HashMap;
use std::fs;
use std::process::Command;

use crate::result::Result;

/// The cost of each function, and of the functions it called.
#[derive(Default)]
pub(crate) struct Profile {
    functions: HashMap<String, Function>,
}

#[derive(Default)]
struct Function {
    /// Instructions of its own.
    own: u64,
    /// And of what it called, all together.
    called: u64,
}

/// Counts the instructions of this program with an argument.
pub(crate) fn run(argument: &str) -> Result<Profile> {
    let directory = tempfile::tempdir()?;
    let out = directory.path().join("callgrind.out");
    let mut to = std::ffi::OsString::from("--callgrind-out-file=");
    to.push(&out);
    let run = Command::new("valgrind")
        .args([
            "--tool=callgrind",
            "--compress-strings=no",
            "--compress-pos=no",
        ])
        .arg(to)
        .arg(std::env::current_exe()?)
        .arg(argument)
        .output()?;
    if !run.status.success() {
        return Err(String::from_utf8_lossy(&run.stderr).into());
    }
    Profile::parse(&String::from_utf8_lossy(&fs::read(out)?))
}

impl Profile {
    /// Reads callgrind's format, without its compressions: `fn=` begins a function's lines, each
    /// of which is a position and a number of instructions. Behind a line `calls=` it is that of
    /// the call.
    fn parse(text: &str) -> Result<Self> {
        let mut profile = Self::default();
        let mut name = "";
        let mut is_call = false;
        for line in text.lines() {
            if let Some(function) = line.strip_prefix("fn=") {
                name = function;
            } else if line.starts_with("calls=") {
                is_call = true;
            } else if line.starts_with(|first: char| first.is_ascii_digit()) {
                let count = line
                    .split(' ')
                    .nth(1)
                    .ok_or_else(|| format!("what is {line}?"))?;
                let function = profile.functions.entry(name.to_owned()).or_default();
                match std::mem::take(&mut is_call) {
                    true => function.called += count.parse::<u64>()?,
                    false => function.own += count.parse::<u64>()?,
                }
            }
        }
        Ok(profile)
    }

    /// The cost of the one function of this name, with all functions that it called.
    pub(crate) fn inclusive(&self, part: &str) -> Result<u64> {
        let mut found = self
            .functions
            .iter()
            .filter(|(name, _)| is_named(name, part));
        let (Some((_, function)), None) = (found.next(), found.next()) else {
            return Err(format!(
                "not one function is named {part}: it was renamed, or is no longer kept apart \
                 by #[inline(never)]"
            )
            .into());
        };
        Ok(function.own + function.called)
    }
}

/// Whether a function has this name, whatever it is a method or instance of.
fn is_named(function: &str, name: &str) -> bool {
    let goes_on = |c: char| c.is_alphanumeric() || "_:".contains(c);
    function
        .split_once(name)
        .is_some_and(|(_, rest)| !rest.starts_with(goes_on))
}
