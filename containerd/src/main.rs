//! A plugin of containerd for Linux containers on Windows: a snapshotter whose layers are
//! ext4 disks, and a differ that makes them.

mod api;
// Only clients of a Unix socket send its path as `:authority`.
#[cfg(unix)]
mod authority;
mod config;
mod content;
mod conversions;
mod diff;
mod digest;
mod files;
mod filter;
mod introspection;
mod layout;
mod log;
mod metrics;
mod platform;
mod recovery;
mod rpc;
mod scratch;
mod server;
mod snapshot_file;
mod snapshots;
mod snippet;
mod store;

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use config::{Config, LogFormat, Settings};

/// containerd proxy plugin for Linux containers on Windows: layers become layer.vhd,
/// containers get sandbox.vhdx, without a virtual machine.
#[derive(Parser)]
#[command(name = "containerd-tar2vhd", version, about, max_term_width = 100)]
struct Arguments {
    /// A file in TOML with the names of these options, without the dashes in front; what
    /// the command line says wins. By default /etc/containerd-tar2vhd.toml (on Windows
    /// C:\\ProgramData\\containerd-tar2vhd\\config.toml), if there is one.
    #[arg(long, value_name = "FILE", global = true)]
    config: Option<PathBuf>,
    #[command(flatten)]
    settings: Settings,
    #[command(subcommand)]
    verb: Option<Verb>,
}

#[derive(Subcommand)]
enum Verb {
    /// Print what containerd's configuration needs to call this plugin.
    Config {
        /// The release of containerd.
        #[arg(long, value_enum, default_value = "2")]
        containerd: snippet::Release,
        /// The snapshotter that the host's own images go on being unpacked into.
        #[arg(long, value_name = "NAME", default_value = snippet::HOST_SNAPSHOTTER)]
        host_snapshotter: String,
    },
    /// Bring back what the directories of snapshots tell after metadata.redb was lost or damaged;
    /// the damaged file and what cannot be brought back are moved aside, nothing is deleted. Stop
    /// the plugin first.
    Recover,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    platform::keep_private();
    let asked = arguments.settings.log();
    let config = Config::load(arguments.config.as_deref(), arguments.settings);
    // An error in the file is told in the form that the command line asks for.
    let (format, level) = config
        .as_ref()
        .map_or(asked, |config| (config.log_format, config.log_level));
    log::start(format, level);
    let ran = config.and_then(|config| run(config, arguments.verb));
    match ran {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            match format {
                LogFormat::Json => tracing::error!(error = %e, "the plugin ends"),
                // There is nowhere else to tell it.
                LogFormat::Text => drop(writeln!(io::stderr(), "containerd-tar2vhd: {e}")),
            }
            ExitCode::FAILURE
        }
    }
}

fn run(config: Config, verb: Option<Verb>) -> io::Result<()> {
    match verb {
        Some(Verb::Config {
            containerd,
            host_snapshotter,
        }) => {
            let text = snippet::snippet(containerd, &host_snapshotter, &config);
            return io::stdout().write_all(text.as_bytes());
        }
        Some(Verb::Recover) => {
            let layout = layout::Layout::existing(&config.root)?;
            let report = recovery::recover(&layout).map_err(|e| recovery::as_io(&e))?;
            return write!(io::stdout(), "{report}");
        }
        None => {}
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        // Calls wait for one disk: more threads would only wait beside them.
        .max_blocking_threads(64)
        .build()?;
    let served = runtime.block_on(server::serve(config));
    // A conversion that was cut off ends on its own thread, or with the process.
    runtime.shutdown_background();
    served
}
