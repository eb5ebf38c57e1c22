//! The log, to standard error: lines of text or of JSON.

use std::io::{self, IsTerminal};

use tracing::level_filters::LevelFilter;

use crate::config::{LogFormat, LogLevel};

/// Starts the log.
pub(crate) fn start(format: LogFormat, level: LogLevel) {
    let level = match level {
        LogLevel::Error => LevelFilter::ERROR,
        LogLevel::Warn => LevelFilter::WARN,
        LogLevel::Info => LevelFilter::INFO,
        LogLevel::Debug => LevelFilter::DEBUG,
    };
    // What the libraries below tell is for their own authors.
    let own = tracing_subscriber::filter::Targets::new()
        .with_target("containerd_tar2vhd", level)
        .with_default(LevelFilter::WARN.min(level));
    use tracing_subscriber::layer::SubscriberExt;
    let registry = tracing_subscriber::registry().with(own);
    let layer = tracing_subscriber::fmt::layer()
        .with_writer(io::stderr)
        .with_target(false);
    let started = match format {
        LogFormat::Text => {
            let text = layer.with_ansi(io::stderr().is_terminal());
            tracing::subscriber::set_global_default(registry.with(text))
        }
        LogFormat::Json => {
            let json = layer.json().flatten_event(true).with_span_list(false);
            tracing::subscriber::set_global_default(registry.with(json))
        }
    };
    // It is started once.
    debug_assert!(started.is_ok());
}
