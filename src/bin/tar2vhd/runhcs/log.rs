//! The log: lines as logrus writes them, as text or JSON.

use std::ffi::OsStr;
use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::time::SystemTime;

use serde_json::json;

/// The severity of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Level {
    Debug,
    Warning,
    Error,
}

impl Level {
    fn name(self) -> &'static str {
        match self {
            Self::Debug => "debug",
            Self::Warning => "warning",
            Self::Error => "error",
        }
    }
}

/// Where lines go, if anywhere.
#[derive(Debug, Default)]
pub(super) struct Log {
    file: Option<File>,
    is_json: bool,
    debug: bool,
}

impl Log {
    /// Opens a file, or a named pipe of Windows, to write at its end.
    pub(super) fn open(
        path: Option<&Path>,
        format: Option<&OsStr>,
        debug: bool,
    ) -> Result<Self, String> {
        let is_json = match format {
            None => false,
            Some(format) if format == "text" => false,
            Some(format) if format == "json" => true,
            Some(format) => return Err(format!("unknown log-format \"{}\"", format.display())),
        };
        // The null device of Windows, where that is none, would be a file of this name.
        let path = path.filter(|path| !path.as_os_str().eq_ignore_ascii_case("nul"));
        let open = |path: &Path| {
            let mut options = File::options();
            match path.starts_with(r"\\.\pipe\") {
                true => options.write(true),
                false => options.append(true).create(true),
            };
            let failed = |e| format!("open {}: {e}", path.display());
            options.open(path).map_err(failed)
        };
        Ok(Self {
            file: path.map(open).transpose()?,
            is_json,
            debug,
        })
    }

    /// Writes a line at once, so that those of several processes do not mix.
    pub(super) fn write(&self, level: Level, message: &str) {
        let Some(mut file) = self.file.as_ref() else {
            return;
        };
        if level == Level::Debug && !self.debug {
            return;
        }
        let time = humantime::format_rfc3339_seconds(SystemTime::now()).to_string();
        let line = line(level, message, &time, self.is_json);
        // A log that cannot be written has no other place for its own error.
        let _ = file.write_all(line.as_bytes());
    }
}

fn line(level: Level, message: &str, time: &str, is_json: bool) -> String {
    let level = level.name();
    match is_json {
        true => format!(
            "{}\n",
            json!({"level": level, "msg": message, "time": time})
        ),
        // logrus quotes as JSON does.
        false => format!("time=\"{time}\" level={level} msg={}\n", json!(message)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_have_the_form_of_logrus() {
        let time = "2026-01-02T03:04:05Z";
        assert_eq!(
            line(Level::Error, "'destpath' is required\n", time, true),
            "{\"level\":\"error\",\"msg\":\"'destpath' is required\\n\",\
             \"time\":\"2026-01-02T03:04:05Z\"}\n"
        );
        assert_eq!(
            line(Level::Warning, "a \"b\"\n", time, false),
            "time=\"2026-01-02T03:04:05Z\" level=warning msg=\"a \\\"b\\\"\\n\"\n"
        );
    }
}
