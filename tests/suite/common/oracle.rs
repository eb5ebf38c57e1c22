//! Programs that judge an image.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::{Command, Output};
use std::sync::{Mutex, PoisonError};

use tar2vhd::Volume;
use tar2vhd::verify::{Verdict, VerifyOptions};

use super::skip;

/// Runs a tool; `None`, and a visible skip, where the machine has none.
pub(crate) fn run(
    tool: &str,
    command: impl FnOnce(&mut Command) -> &mut Command,
) -> Option<Output> {
    static MISSING: Mutex<BTreeMap<String, ()>> = Mutex::new(BTreeMap::new());
    let missing = || MISSING.lock().unwrap_or_else(PoisonError::into_inner);
    if !missing().contains_key(tool) {
        let mut process = Command::new(tool);
        process.env("LC_ALL", "C");
        // Debian keeps e2fsck out of an ordinary user's path.
        let path = std::env::var("PATH").unwrap_or_default();
        process.env("PATH", format!("{path}:/usr/sbin:/sbin"));
        match command(&mut process).output() {
            Ok(output) => return Some(output),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                missing().insert(tool.to_owned(), ());
            }
            Err(error) => panic!("{tool}: {error}"),
        }
    }
    skip::oracle_missing(&format!("{tool} is not installed"));
    None
}

pub(crate) fn shown(output: &Output) -> String {
    let [out, err] = [&output.stdout, &output.stderr].map(|s| String::from_utf8_lossy(s));
    format!("{}\n{out}{err}", output.status)
}

/// `e2fsck -fn` finds nothing to complain about, and neither does our own check.
pub(crate) fn fsck(image: &Path) {
    let found = Volume::open(image)
        .and_then(|disk| disk.verify(&VerifyOptions::new()))
        .unwrap();
    assert_eq!(found.verdict(), Verdict::Clean, "{found:#?}");
    let Some(output) = run("e2fsck", |c| c.arg("-fn").arg(image)) else {
        return;
    };
    assert!(output.status.success(), "e2fsck -fn: {}", shown(&output));
}

/// The standard output of one `debugfs` request.
pub(crate) fn debugfs(image: &Path, request: &str) -> Option<String> {
    let output = run("debugfs", |c| c.args(["-R", request]).arg(image))?;
    assert!(output.status.success(), "debugfs: {}", shown(&output));
    Some(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Rebuilds all directories of a copy with `e2fsck -fyD`; the copy's path.
pub(crate) fn rebuilt_directories(image: &Path) -> Option<tempfile::TempPath> {
    let copy = tempfile::NamedTempFile::new().unwrap().into_temp_path();
    fs::copy(image, &copy).unwrap();
    // The read-only feature keeps e2fsck from writing, as it should.
    run("tune2fs", |c| c.args(["-O", "^read-only"]).arg(&copy))?;
    let output = run("e2fsck", |c| c.arg("-fyD").arg(&copy))?;
    // 1 says that it changed something, which -D always does.
    assert!(
        matches!(output.status.code(), Some(0 | 1)),
        "e2fsck -fyD: {}",
        shown(&output)
    );
    Some(copy)
}
