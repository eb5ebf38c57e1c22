//! Hard links that wait for their targets.

use std::io::Write;
use std::process::{Command, Stdio};

use nix::sys::resource::{UsageWho, getrusage};
use tar::{EntryType, Header};

/// Links that wait, each for a target of its own.
const LINKS: u64 = 400_000;
const DIRECTORIES: u64 = 1000;

/// As README.md has it: what everything takes, and each entry beside its names.
const AT_MOST: u64 = 64 << 20;
const PER_ENTRY: u64 = 256;

fn link(i: u64) -> String {
    format!("links/link-{i:06}")
}

fn target(i: u64) -> String {
    format!("targets/{:03}/target-{i:06}", i % DIRECTORIES)
}

/// Bytes of the names of all links, and of their targets' as often as they are kept.
fn names(targets: u64) -> u64 {
    let last = |path: String| path.rsplit('/').next().map_or(0, str::len) as u64;
    LINKS * (last(link(0)) + targets * last(target(0)))
}

/// Converts all links, with their targets behind them or without; the most memory that this and
/// what was converted before took, and whether it succeeded.
fn convert(with_targets: bool) -> (u64, bool) {
    let directory = tempfile::tempdir().unwrap();
    let mut child = Command::new(env!("CARGO_BIN_EXE_tar2vhd"))
        .args(["convert", "-", "--quiet", "--no-fsync", "-o"])
        .arg(directory.path().join("disk"))
        .stdin(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    // The layer never is in the memory of this process, which counts as the child's until that
    // runs its own program.
    let mut input = std::io::BufWriter::new(child.stdin.take().unwrap());
    let mut append = |kind, path: String, target: Option<String>| {
        let mut header = Header::new_ustar();
        header.set_entry_type(kind);
        header.set_path(path).unwrap();
        if let Some(target) = target {
            header.set_link_name(target).unwrap();
        }
        header.set_mode(0o644);
        header.set_size(0);
        header.set_cksum();
        input.write_all(header.as_bytes()).unwrap();
    };
    for i in 0..LINKS {
        append(EntryType::Link, link(i), Some(target(i)));
    }
    for i in (0..LINKS).filter(|_| with_targets) {
        append(EntryType::Regular, target(i), None);
    }
    input.write_all(&[0; 1024]).unwrap();
    drop(input);
    let succeeded = child.wait().unwrap().success();
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN).unwrap();
    (u64::try_from(usage.max_rss()).unwrap() << 10, succeeded)
}

/// Those that wait take the names of their targets, too, and each directory on the way counts as
/// an entry.
#[test]
fn hard_links_before_their_targets_take_what_is_promised() {
    let (waiting, succeeded) = convert(false);
    assert!(!succeeded, "none of the targets is there");
    let promised = AT_MOST + PER_ENTRY * (LINKS + DIRECTORIES) + names(1);
    assert!(waiting <= promised, "{waiting} bytes; {promised} at most");
    // The second is more than the first.
    let (bound, succeeded) = convert(true);
    assert!(succeeded);
    let promised = AT_MOST + PER_ENTRY * (2 * LINKS + 2 * DIRECTORIES) + names(2);
    assert!(bound <= promised, "{bound} bytes; {promised} at most");
    eprintln!("{waiting} bytes while they wait, {bound} with their targets");
}
