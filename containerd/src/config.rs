//! What is configured: a file in TOML, and the command line, which wins.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, ValueEnum};
use serde::Deserialize;

use crate::platform::{DEFAULT_ADDRESS, DEFAULT_CONFIG, DEFAULT_CONTAINERD, DEFAULT_ROOT};

/// The same settings on the command line and, under the same names, in the file.
#[derive(Args, Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub(crate) struct Settings {
    /// Where snapshots and their metadata are kept.
    #[arg(long, value_name = "DIR", global = true)]
    root: Option<PathBuf>,
    /// The socket (on Windows the pipe) that containerd calls.
    #[arg(long, value_name = "PATH", global = true)]
    address: Option<String>,
    /// containerd's socket or pipe, where layers are read from.
    #[arg(long, value_name = "PATH", global = true)]
    containerd_address: Option<String>,
    /// Read layers from this directory of containerd's instead
    /// (ROOT/io.containerd.content.v1.content).
    #[arg(long, value_name = "DIR", global = true)]
    content_root: Option<PathBuf>,
    /// The name of the snapshotter in containerd's configuration.
    #[arg(long, value_name = "NAME", global = true)]
    snapshotter: Option<String>,
    /// The name of the differ in containerd's configuration.
    #[arg(long, value_name = "NAME", global = true)]
    differ: Option<String>,
    /// How many layers are converted at once; by default as many as there are processors.
    #[arg(long, value_name = "N", global = true)]
    max_concurrent: Option<usize>,
    /// How many threads a conversion has; 0, the default, for one per processor.
    #[arg(long, value_name = "N", global = true)]
    threads: Option<usize>,
    /// The most GiB that the disk of a layer may have; default 128.
    #[arg(long, value_name = "GIB", global = true)]
    max_layer_gib: Option<u64>,
    /// A directory below which the label rootfs.location may keep scratch disks; may be
    /// repeated. Without one the label is refused.
    #[arg(long = "scratch-location", value_name = "DIR", global = true)]
    #[serde(default)]
    scratch_locations: Vec<PathBuf>,
    /// The most entries of a layer; default 67108864. Each takes about 200 bytes of memory.
    #[arg(long, value_name = "N", global = true)]
    max_entries: Option<u64>,
    /// How long to wait for a MiB of a layer before its conversion fails; default 120.
    #[arg(long, value_name = "SECONDS", global = true)]
    stall_seconds: Option<u64>,
    /// How long a shutdown waits for conversions before it cancels them; default 30.
    #[arg(long, value_name = "SECONDS", global = true)]
    grace_seconds: Option<u64>,
    /// Metrics for Prometheus at http://ADDRESS/metrics; a loopback address.
    #[arg(long, value_name = "ADDRESS:PORT", global = true)]
    metrics: Option<SocketAddr>,
    /// How the log is written, to standard error.
    #[arg(long, value_name = "FORMAT", global = true)]
    log_format: Option<LogFormat>,
    /// What is logged.
    #[arg(long, value_name = "LEVEL", global = true)]
    log_level: Option<LogLevel>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum LogFormat {
    #[default]
    Text,
    Json,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum LogLevel {
    Error,
    Warn,
    #[default]
    Info,
    Debug,
}

impl Settings {
    /// How to log, as far as the command line says.
    pub(crate) fn log(&self) -> (LogFormat, LogLevel) {
        (
            self.log_format.unwrap_or_default(),
            self.log_level.unwrap_or_default(),
        )
    }
}

/// Everything, with defaults for what is not configured.
#[derive(Debug)]
pub(crate) struct Config {
    pub(crate) root: PathBuf,
    pub(crate) address: String,
    pub(crate) containerd_address: String,
    pub(crate) content_root: Option<PathBuf>,
    pub(crate) snapshotter: String,
    pub(crate) differ: String,
    pub(crate) max_concurrent: usize,
    pub(crate) threads: usize,
    pub(crate) max_layer_size: u64,
    pub(crate) max_entries: u64,
    pub(crate) stall: Duration,
    pub(crate) scratch_locations: Vec<PathBuf>,
    pub(crate) grace: Duration,
    pub(crate) metrics: Option<SocketAddr>,
    pub(crate) log_format: LogFormat,
    pub(crate) log_level: LogLevel,
}

impl Config {
    /// Reads the file, if there is one, and puts the command line over it.
    pub(crate) fn load(file: Option<&Path>, over: Settings) -> io::Result<Self> {
        let wrong = |message: String| io::Error::new(io::ErrorKind::InvalidInput, message);
        let default = Path::new(DEFAULT_CONFIG);
        let under = match file.or_else(|| default.exists().then_some(default)) {
            None => Settings::default(),
            Some(path) => {
                let named = |e: &dyn std::fmt::Display| wrong(format!("{}: {e}", path.display()));
                let text = std::fs::read_to_string(path).map_err(|e| named(&e))?;
                toml::from_str(&text).map_err(|e| named(&e))?
            }
        };
        let max_concurrent = over.max_concurrent.or(under.max_concurrent);
        let config = Self {
            root: over
                .root
                .or(under.root)
                .unwrap_or_else(|| DEFAULT_ROOT.into()),
            address: over
                .address
                .or(under.address)
                .unwrap_or_else(|| DEFAULT_ADDRESS.into()),
            containerd_address: over
                .containerd_address
                .or(under.containerd_address)
                .unwrap_or_else(|| DEFAULT_CONTAINERD.into()),
            content_root: over.content_root.or(under.content_root),
            snapshotter: over
                .snapshotter
                .or(under.snapshotter)
                .unwrap_or_else(|| "lcow".into()),
            differ: over
                .differ
                .or(under.differ)
                .unwrap_or_else(|| "lcowdiff".into()),
            max_concurrent: max_concurrent
                .unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from)),
            threads: over.threads.or(under.threads).unwrap_or(0),
            max_layer_size: over
                .max_layer_gib
                .or(under.max_layer_gib)
                .unwrap_or(128)
                .checked_mul(1 << 30)
                .ok_or_else(|| wrong("max-layer-gib is too large".into()))?,
            max_entries: over.max_entries.or(under.max_entries).unwrap_or(1 << 26),
            stall: Duration::from_secs(over.stall_seconds.or(under.stall_seconds).unwrap_or(120)),
            scratch_locations: match over.scratch_locations.is_empty() {
                true => under.scratch_locations,
                false => over.scratch_locations,
            },
            grace: Duration::from_secs(over.grace_seconds.or(under.grace_seconds).unwrap_or(30)),
            metrics: over.metrics.or(under.metrics),
            log_format: over.log_format.or(under.log_format).unwrap_or_default(),
            log_level: over.log_level.or(under.log_level).unwrap_or_default(),
        };
        config.check().map_err(wrong)?;
        Ok(config)
    }

    fn check(&self) -> Result<(), String> {
        if self.max_concurrent == 0 || self.max_concurrent > 1024 {
            return Err("max-concurrent is from 1 to 1024".into());
        }
        if self.max_layer_size == 0 || self.max_layer_size > 2040 << 30 {
            return Err("max-layer-gib is from 1 to 2040, what a VHD holds".into());
        }
        if self.max_entries == 0 {
            return Err("max-entries is at least 1".into());
        }
        if self.stall.is_zero() {
            return Err("stall-seconds is at least 1".into());
        }
        if let Some(address) = self.metrics
            && !address.ip().is_loopback()
        {
            return Err(format!(
                "metrics are told on a loopback address alone, not on {address}"
            ));
        }
        if self.snapshotter == self.differ {
            return Err("snapshotter and differ need different names in containerd".into());
        }
        for (what, name) in [("snapshotter", &self.snapshotter), ("differ", &self.differ)] {
            let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
            if name.is_empty() || !name.chars().all(plain) {
                return Err(format!(
                    "{what} is a name of letters, digits, '-', '_' and '.'"
                ));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(text: &str, over: Settings) -> io::Result<Config> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(&file, text).unwrap();
        Config::load(Some(file.path()), over)
    }

    #[test]
    fn the_command_line_wins_over_the_file() {
        let file = r#"
            root = "/a"
            max-concurrent = 3
            scratch-locations = ["/b"]
            metrics = "127.0.0.1:9"
            log-format = "json"
        "#;
        let over = Settings {
            root: Some("/c".into()),
            ..Settings::default()
        };
        let config = load(file, over).unwrap();
        assert_eq!(config.root, Path::new("/c"));
        assert_eq!(config.max_concurrent, 3);
        assert_eq!(config.scratch_locations, [Path::new("/b")]);
        assert_eq!(config.log_format, LogFormat::Json);
        assert_eq!(config.log_level, LogLevel::Info);
        assert_eq!(config.address, DEFAULT_ADDRESS);
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for text in [
            "unknown = 1",
            "max-concurrent = 0",
            "max-layer-gib = 2041",
            "max-entries = 0",
            "stall-seconds = 0",
            "metrics = \"0.0.0.0:9\"",
            "differ = \"a b\"",
            "root = 1",
        ] {
            let refused = load(text, Settings::default());
            assert_eq!(
                refused.unwrap_err().kind(),
                io::ErrorKind::InvalidInput,
                "{text}"
            );
        }
        let absent = Config::load(Some(Path::new("/absent")), Settings::default());
        assert!(absent.unwrap_err().to_string().contains("/absent"));
    }
}
