//! Printing of text and JSON.

use std::fmt;
use std::fmt::Write as _;
use std::io::{self, Write};
use std::path::Path;
use std::time::{Duration, SystemTime};

use crate::args::{Format, To};
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
    asked: Option<Format>,
    to: &To,
    default: Format,
    quiet: bool,
) -> Format {
    let (format, warning) = Format::choose(asked, to.path(), default);
    if let Some(warning) = warning.filter(|_| !quiet) {
        stderr(format_args!("tar2vhd: warning: {warning}"));
    }
    format
}

/// Bytes as text that can be turned back: a backslash is doubled, what is not UTF-8 becomes
/// `\xNN`.
pub(crate) fn escape(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        text.push_str(&chunk.valid().replace('\\', r"\\"));
        for byte in chunk.invalid() {
            text.push_str(&format!("\\x{byte:02x}"));
        }
    }
    text
}

/// Bytes as hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
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

/// A path for a program, which hands it on as it is: escaped only if it must be.
pub(crate) fn path(path: &Path) -> String {
    path.to_str().map_or_else(
        || escape(path.as_os_str().as_encoded_bytes()),
        str::to_owned,
    )
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
    fn escaped_bytes_can_be_told_apart() {
        assert_eq!(escape(b"usr/lib"), "usr/lib");
        assert_eq!(escape("h\u{fc}lle\n".as_bytes()), "h\u{fc}lle\n");
        assert_eq!(escape(b"a\xffb"), r"a\xffb");
        assert_eq!(escape(br"a\xffb"), r"a\\xffb");
    }

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
