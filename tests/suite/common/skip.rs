//! Oracles that this machine lacks: named where a person sees it, or an error.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

/// Set, a missing oracle fails the test that wants it.
const REQUIRE: &str = "TAR2VHD_REQUIRE_ORACLES";

static SEEN: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());

/// Notes that something could not be checked because an oracle is missing.
pub(crate) fn oracle_missing(what: &str) {
    assert!(
        std::env::var_os(REQUIRE).is_none_or(|value| value == "0"),
        "{what}, and {REQUIRE} is set"
    );
    note(what);
}

/// Says on the terminal, past the capture of the test harness, that something was not done,
/// and keeps it for `zz_skipped`, which runs last. Once for each reason.
pub(crate) fn note(what: &str) {
    let mut seen = SEEN.lock().unwrap_or_else(PoisonError::into_inner);
    if !seen.insert(what.to_owned()) {
        return;
    }
    let _ = writeln!(std::io::stderr(), "SKIPPED: {what}");
    let list = Path::new(env!("CARGO_TARGET_TMPDIR")).join("skipped");
    let lines: String = seen.iter().map(|what| format!("{what}\n")).collect();
    fs::create_dir_all(&list).unwrap();
    fs::write(list.join(env!("CARGO_CRATE_NAME")), lines).unwrap();
}
