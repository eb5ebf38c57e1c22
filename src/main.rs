//! A plugin of containerd for Linux containers on Windows: a snapshotter whose layers are
//! ext4 disks, and a differ that makes them.

mod api;
mod config;
mod content;
mod conversions;
mod diff;
mod filter;
mod introspection;
mod layout;
mod log;
mod metrics;
mod platform;
mod rpc;
mod scratch;
mod server;
mod snapshots;
mod snippet;
mod store;

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use config::{Config, Settings};

/// containerd proxy plugin for Linux containers on Windows: layers become layer.vhd,
/// containers get sandbox.vhdx, without a virtual machine.
#[derive(Parser)]
#[command(name = "containerd-tar2vhd", version, about, max_term_width = 100)]
struct Arguments {
    /// A file in TOML with the names of these options, without the dashes in front; what
    /// the command line says wins.
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
    },
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    platform::keep_private();
    let ran = run(arguments);
    match ran {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            // There is nowhere else to tell it.
            let _ = writeln!(io::stderr(), "containerd-tar2vhd: {e}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: Arguments) -> io::Result<()> {
    let config = Config::load(arguments.config.as_deref(), arguments.settings)?;
    if let Some(Verb::Config { containerd }) = arguments.verb {
        let text = snippet::snippet(containerd, &config);
        return io::stdout().write_all(text.as_bytes());
    }
    log::start(config.log_format, config.log_level);
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
