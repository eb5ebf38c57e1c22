//! One run of a command: wall time, CPU time and peak memory of it and all that it starts.
//!
//! Each run has a process of its own in between, this program with `--measure`: what the system
//! counts for a process's children is then that run's alone. The peak of a child is never less
//! than what its parent had when it started it, and this parent is small.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};

use serde_json::{Value, json};

use crate::result::Result;

/// The first argument of the process in between.
pub(crate) const MEASURE: &str = "--measure";

/// The cost of a run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Run {
    /// Seconds from start to end.
    pub(crate) wall: f64,
    /// Seconds of user and system time, where the system tells.
    pub(crate) cpu: Option<f64>,
    /// Bytes of resident memory of the largest process, where the system tells.
    pub(crate) peak: Option<u64>,
}

impl Run {
    pub(crate) fn json(&self) -> Value {
        json!({ "wall": self.wall, "cpu": self.cpu, "peak": self.peak })
    }

    fn of_json(value: &Value) -> Option<Self> {
        Some(Self {
            wall: value["wall"].as_f64()?,
            cpu: value["cpu"].as_f64(),
            peak: value["peak"].as_u64(),
        })
    }
}

/// How a run ended.
enum End {
    Done(Run),
    Failed(String),
    TimedOut,
}

/// Runs a command with its standard output in a file; nothing if it took longer than `limit`
/// seconds.
pub(crate) fn run(
    program: &Path,
    args: &[OsString],
    stdout: &Path,
    stderr: &Path,
    limit: u64,
) -> Result<Option<Run>> {
    let between = Command::new(std::env::current_exe()?)
        .args([OsStr::new(MEASURE), stdout.as_ref(), stderr.as_ref()])
        .arg(limit.to_string())
        .arg(program)
        .args(args)
        .stderr(Stdio::inherit())
        .output()?;
    let end: Value = serde_json::from_slice(&between.stdout)?;
    if let Some(how) = end["failed"].as_str() {
        let said = std::fs::read(stderr).unwrap_or_default();
        let said = String::from_utf8_lossy(&said);
        return Err(format!("{} {how}: {}", program.display(), said.trim()).into());
    }
    Ok(Run::of_json(&end))
}

/// The process in between.
pub(crate) fn main(args: &[OsString]) -> Result<ExitCode> {
    let [stdout, stderr, limit, program, args @ ..] = args else {
        return Err("--measure STDOUT STDERR LIMIT PROGRAM [ARGUMENT…]".into());
    };
    let limit = limit.to_str().ok_or("a limit that is none")?.parse()?;
    let mut command = Command::new(program);
    command
        .args(args)
        .stdin(Stdio::null())
        .stdout(File::create(stdout)?)
        .stderr(File::create(stderr)?);
    let end = system::run(command, limit)?;
    let end = match end {
        End::Done(run) => run.json(),
        End::Failed(how) => json!({ "failed": how }),
        End::TimedOut => Value::Null,
    };
    println!("{end}");
    Ok(ExitCode::SUCCESS)
}

#[cfg(unix)]
mod system {
    use std::os::unix::process::CommandExt;
    use std::process::Command;
    use std::sync::mpsc::{RecvTimeoutError, channel};
    use std::time::{Duration, Instant};

    use nix::sys::resource::{UsageWho, getrusage};
    use nix::sys::signal::{Signal, killpg};
    use nix::sys::time::TimeValLike;
    use nix::unistd::Pid;

    use super::{End, Run};
    use crate::result::Result;

    pub(super) fn run(mut command: Command, limit: u64) -> Result<End> {
        // A group, so that a pipeline ends as a whole.
        command.process_group(0);
        let start = Instant::now();
        let mut child = command.spawn()?;
        let group = Pid::from_raw(i32::try_from(child.id())?);
        let (ended, end) = channel::<()>();
        let (status, timed_out) = std::thread::scope(|scope| {
            let watch = scope.spawn(move || {
                let late = end.recv_timeout(Duration::from_secs(limit));
                let late = late == Err(RecvTimeoutError::Timeout);
                late && killpg(group, Signal::SIGKILL).is_ok()
            });
            let status = child.wait().map(|status| (status, start.elapsed()));
            drop(ended);
            (status, watch.join().unwrap_or(false))
        });
        let (status, wall) = status?;
        if timed_out {
            return Ok(End::TimedOut);
        }
        if !status.success() {
            return Ok(End::Failed(status.to_string()));
        }
        let usage = getrusage(UsageWho::RUSAGE_CHILDREN)?;
        let cpu = usage.user_time() + usage.system_time();
        // Kilobytes everywhere but on Apple's systems.
        let unit = if cfg!(target_vendor = "apple") {
            1
        } else {
            1024
        };
        Ok(End::Done(Run {
            wall: wall.as_secs_f64(),
            cpu: Some(cpu.num_microseconds() as f64 / 1e6),
            peak: Some(usage.max_rss() as u64 * unit),
        }))
    }
}

#[cfg(not(unix))]
mod system {
    use std::process::Command;
    use std::time::Instant;

    use super::{End, Run};
    use crate::result::Result;

    /// Without a limit: a process cannot be ended with all that it started.
    pub(super) fn run(mut command: Command, _: u64) -> Result<End> {
        let start = Instant::now();
        let status = command.status()?;
        let wall = start.elapsed().as_secs_f64();
        Ok(match status.success() {
            false => End::Failed(status.to_string()),
            true => End::Done(Run {
                wall,
                cpu: None,
                peak: None,
            }),
        })
    }
}
