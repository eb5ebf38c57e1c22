//! Printing of text and JSON.

use std::fmt;
use std::fmt::Write as _;
use std::io::{self, Write};
use std::path::Path;
use std::time::{Duration, SystemTime};

use serde_json::{Map, Value};
use tar2vhd::DiskFormat;

use crate::args::{self, To};
use crate::failure::Failure;

/// Prints the result of the command.
pub(crate) fn stdout(bytes: &[u8]) -> Result<(), Failure> {
    #[cfg(unix)]
    if crate::disposition::stdout_is_closed() {
        return Err(Failure::error(
            "cannot write to standard output: it is closed",
        ));
    }
    let mut stdout = io::stdout().lock();
    stdout
        .write_all(bytes)
        .and_then(|()| stdout.flush())
        .map_err(|e| Failure::error(format!("cannot write to standard output: {e}")))
}

/// Prints a line for a person. If nobody can see it, nobody can be told of that.
pub(crate) fn stderr(line: fmt::Arguments<'_>) {
    let _ = io::stderr().lock().write_fmt(format_args!("{line}\n"));
}

/// The format of the disk, with a warning if it is not what the name says.
pub(crate) fn choose_format(
    asked: Option<DiskFormat>,
    to: &To,
    default: DiskFormat,
    quiet: bool,
) -> DiskFormat {
    let (format, warning) = args::format::choose(asked, to.path(), default);
    if let Some(warning) = warning.filter(|_| !quiet) {
        stderr(format_args!("tar2vhd: warning: {warning}"));
    }
    format
}

/// A number of bytes with three digits and a unit.
pub(crate) fn human(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let mut value = bytes as f64 / 1024.0;
    let mut unit = UNITS[0];
    for next in &UNITS[1..] {
        if value < 1023.95 {
            break;
        }
        value /= 1024.0;
        unit = next;
    }
    format!("{value:.1} {unit}")
}

/// An object that begins with the path of the file that it is about.
pub(crate) fn of_file(path: &Path, rest: Value) -> Map<String, Value> {
    let mut object = Map::new();
    object.insert("path".to_owned(), tar2vhd::escape_file(path).into());
    if let Value::Object(rest) = rest {
        object.extend(rest);
    }
    object
}

/// A report of a line for each field.
#[derive(Default)]
pub(crate) struct Lines(pub String);

impl Lines {
    pub(crate) fn field(&mut self, name: &str, value: impl std::fmt::Display) {
        // Writing to a string does not fail.
        let _ = writeln!(self.0, "{:<19}{value}", format!("{name}:"));
    }
}

/// Seconds since 1970 in ISO 8601, for a report.
pub(crate) fn time(seconds: u64) -> String {
    // The last second of the year 9999.
    const LAST: u64 = 253_402_300_799;
    match seconds {
        0..=LAST => {
            let time = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
            humantime::format_rfc3339_seconds(time).to_string()
        }
        _ => format!("{seconds} s after 1970-01-01T00:00:00Z"),
    }
}

/// A number of bytes as it is, and rounded if it is large.
pub(crate) fn bytes(bytes: u64) -> String {
    match bytes {
        0..1024 => format!("{bytes} B"),
        _ => format!("{bytes} B ({})", human(bytes)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_told_in_iso_8601() {
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (1_700_000_000, "2023-11-14T22:13:20Z"),
            (253_402_300_799, "9999-12-31T23:59:59Z"),
            (
                u64::MAX,
                "18446744073709551615 s after 1970-01-01T00:00:00Z",
            ),
        ] {
            assert_eq!(time(seconds), text);
        }
    }

    #[test]
    fn sizes_are_rounded_for_people() {
        for (bytes, text) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.0 KiB"),
            (1_048_575, "1.0 MiB"),
            (45 << 20, "45.0 MiB"),
            (3 << 29, "1.5 GiB"),
            (u64::MAX, "16.0 EiB"),
        ] {
            assert_eq!(human(bytes), text);
        }
    }
}
