//! Signals, which end a conversion however it is occupied, and its process as they always do.

use std::fs;
use std::io::Write;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::common::{Place, assert_fails, code, large_layer, layer, stderr, tar2vhd};

fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < Duration::from_secs(30), "not {what}");
        thread::sleep(Duration::from_millis(5));
    }
}

fn send(child: &Child, signal: &str) {
    let status = Command::new("kill")
        .args([format!("-{signal}"), child.id().to_string()])
        .status()
        .unwrap();
    assert!(status.success());
}

/// Waits for the end, for so long and no longer.
fn end(mut child: Child) -> Output {
    wait_until("ended by the signal", || {
        child.try_wait().unwrap().is_some()
    });
    child.wait_with_output().unwrap()
}

/// The parent sees the signal, a person reads of it.
fn assert_ended_by(output: &Output, signal: &str) {
    let numbers = [("HUP", 1), ("INT", 2), ("QUIT", 3), ("TERM", 15)];
    let (_, number) = numbers.iter().find(|(name, _)| *name == signal).unwrap();
    assert_eq!(output.status.signal(), Some(*number), "{output:?}");
    let line = format!("tar2vhd: error: interrupted by SIG{signal}\n");
    assert_eq!(stderr(output), line);
}

/// Whether the process catches SIGTERM.
#[cfg(target_os = "linux")]
fn catches_signals(child: &Child) -> bool {
    let status = fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap();
    let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:"));
    let caught = u64::from_str_radix(caught.unwrap().trim(), 16).unwrap();
    caught >> (15 - 1) & 1 == 1
}

#[cfg(not(target_os = "linux"))]
fn catches_signals(_: &Child) -> bool {
    thread::sleep(Duration::from_millis(500));
    true
}

fn start(place: &Place, input: &str) -> Child {
    tar2vhd()
        .current_dir(place.0.path())
        .args(["convert", input, "-o", "disk"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

#[test]
fn a_signal_ends_a_conversion_that_waits_for_input() {
    let layer = large_layer();
    for signal in ["INT", "TERM", "HUP"] {
        for sent in [0, 1, 100_000, 2 << 20] {
            for old in [false, true] {
                let place = Place::new();
                if old {
                    place.write("disk", "old");
                }
                let mut child = start(&place, "-");
                let mut stdin = child.stdin.take().unwrap();
                // Comes back when all but what a pipe holds is read.
                stdin.write_all(&layer[..sent]).unwrap();
                wait_until("catching signals", || catches_signals(&child));
                send(&child, signal);
                let output = end(child);
                drop(stdin);
                assert_ended_by(&output, signal);
                let left: &[&str] = if old { &["disk"] } else { &[] };
                assert_eq!(place.names(), left);
                if old {
                    assert_eq!(fs::read(place.path("disk")).unwrap(), b"old");
                }
            }
        }
    }
}

#[test]
fn a_signal_ends_a_conversion_that_waits_for_a_fifo() {
    let place = Place::new();
    let status = Command::new("mkfifo").arg(place.path("fifo")).status();
    assert!(status.unwrap().success());
    let child = start(&place, "fifo");
    wait_until("catching signals", || catches_signals(&child));
    send(&child, "TERM");
    assert_ended_by(&end(child), "TERM");
    assert_eq!(place.names(), ["fifo"]);
}

#[test]
fn a_signal_that_comes_at_any_time_does_no_harm() {
    let place = Place::new();
    let expected = place.converted(&large_layer(), &[]);
    let layer = place.write("layer.tar", large_layer());
    let layer = layer.to_str().unwrap();
    let mut ends = [0, 0];
    for step in 0..60 {
        let place = Place::new();
        let child = start(&place, layer);
        wait_until("catching signals", || {
            catches_signals(&child) || place.path("disk").exists()
        });
        thread::sleep(Duration::from_micros(step * 700));
        send(&child, "INT");
        let output = end(child);
        match output.status.code() {
            Some(0) => {
                assert_eq!(place.names(), ["disk"]);
                assert!(fs::read(place.path("disk")).unwrap() == expected);
                ends[0] += 1;
            }
            _ => {
                assert_ended_by(&output, "INT");
                assert_eq!(place.names(), [""; 0]);
                ends[1] += 1;
            }
        }
    }
    assert!(ends[1] > 0, "{ends:?}");
}

/// Runs a script that has the command in TAR2VHD.
fn start_shell(place: &Place, script: &str) -> Child {
    Command::new("sh")
        .args(["-c", script])
        .env("TAR2VHD", env!("CARGO_BIN_EXE_tar2vhd"))
        .env_remove("SOURCE_DATE_EPOCH")
        .current_dir(place.0.path())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

#[test]
fn sigquit_leaves_nothing_either() {
    let place = Place::new();
    let script = "ulimit -c 0; exec \"$TAR2VHD\" convert - -o disk";
    let child = start_shell(&place, script);
    wait_until("catching signals", || catches_signals(&child));
    send(&child, "QUIT");
    assert_ended_by(&end(child), "QUIT");
    assert_eq!(place.names(), [""; 0]);
}

#[test]
fn signals_that_are_ignored_stay_so() {
    let place = Place::new();
    let script = "trap '' HUP INT QUIT; exec \"$TAR2VHD\" convert - -o disk --quiet";
    let mut child = start_shell(&place, script);
    wait_until("catching signals", || catches_signals(&child));
    for signal in ["HUP", "INT", "QUIT"] {
        send(&child, signal);
    }
    thread::sleep(Duration::from_millis(100));
    child.stdin.take().unwrap().write_all(&layer()).unwrap();
    assert_eq!(code(&end(child)), 0);
    assert_eq!(place.names(), ["disk"]);
}

/// Else the signal would end the process without a word.
#[test]
fn a_limit_on_the_size_of_files_is_told() {
    let place = Place::new();
    place.write("layer.tar", large_layer());
    for command in [
        "convert layer.tar -o disk",
        "scratch -o disk --format raw --size 1GiB --journal",
    ] {
        let script = format!("ulimit -f 16; exec \"$TAR2VHD\" {command}");
        let output = end(start_shell(&place, &script));
        assert_fails(&output, 1, "ulimit -f");
        assert_eq!(place.names(), ["layer.tar"]);
    }
}

/// Where a temporary file needs a name: without /proc it cannot get one later.
#[test]
#[cfg(target_os = "linux")]
fn a_signal_removes_a_temporary_name() {
    for signal in ["INT", "TERM"] {
        let place = Place::new();
        place.write("disk", "old");
        let mut child = Command::new("unshare")
            .args(["--user", "--map-root-user", "--mount", "sh", "-ec"])
            .arg("mount -t tmpfs none /proc; exec \"$TAR2VHD\" convert - -o disk")
            .env("TAR2VHD", env!("CARGO_BIN_EXE_tar2vhd"))
            .current_dir(place.0.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdin = child.stdin.take().unwrap();
        if stdin.write_all(&large_layer()[..2 << 20]).is_err() {
            let output = end(child);
            crate::skip::oracle_missing(&format!("name spaces are refused here: {output:?}"));
            return;
        }
        let temporary = |place: &Place| place.names().iter().any(|name| name != "disk");
        wait_until("there a temporary file", || temporary(&place));
        send(&child, signal);
        let output = end(child);
        assert_ended_by(&output, signal);
        assert_eq!(place.names(), ["disk"]);
        assert_eq!(fs::read(place.path("disk")).unwrap(), b"old");
    }
}

/// Nothing can be caught or removed then: the file must not have a name.
#[test]
#[cfg(target_os = "linux")]
fn nothing_is_left_even_by_sigkill() {
    let place = Place::new();
    if !has_unnamed_files(place.0.path()) {
        crate::skip::oracle_missing("no unnamed files here: no SIGKILL was tried");
        return;
    }
    let mut child = start(&place, "-");
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(&large_layer()[..2 << 20]).unwrap();
    send(&child, "KILL");
    let output = end(child);
    assert_eq!(output.status.code(), None);
    assert_eq!(place.names(), [""; 0]);
}

#[cfg(target_os = "linux")]
fn has_unnamed_files(directory: &Path) -> bool {
    use rustix::fs::{Mode, OFlags, open};
    open(directory, OFlags::TMPFILE | OFlags::WRONLY, Mode::RUSR).is_ok()
}
