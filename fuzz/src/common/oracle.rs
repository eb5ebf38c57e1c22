//! Programs that make an image.

use std::io::ErrorKind;
use std::process::{Command, Output};

/// Runs a tool; `None` where the machine has none.
pub(crate) fn run(
    tool: &str,
    command: impl FnOnce(&mut Command) -> &mut Command,
) -> Option<Output> {
    let mut process = Command::new(tool);
    // Debian keeps e2fsck out of an ordinary user's path.
    let path = std::env::var("PATH").unwrap_or_default();
    process.env("PATH", format!("{path}:/usr/sbin:/sbin"));
    match command(&mut process).output() {
        Ok(output) => Some(output),
        Err(error) if error.kind() == ErrorKind::NotFound => None,
        Err(error) => panic!("{tool}: {error}"),
    }
}
