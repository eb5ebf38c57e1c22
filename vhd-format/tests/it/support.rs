//! What the integration tests share: programs to hold the crate against, and a file that
//! remembers in which order it was written.

use std::fs::File;
use std::io;
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex};

use vhd_format::{ReadAt, Storage};

/// Whether the program can be run. Where it is missing, the test that asks is skipped with a
/// word, or fails if `TAR2VHD_REQUIRE_ORACLES=1` says that nothing may be missing.
pub(crate) fn oracle(program: &str) -> bool {
    let found = Command::new(program).arg("--help").output().is_ok();
    let required = std::env::var_os("TAR2VHD_REQUIRE_ORACLES").is_some_and(|value| value == "1");
    assert!(found || !required, "{program} is required and not found");
    if !found {
        eprintln!("SKIPPED: {program} is not installed");
    }
    found
}

/// A directory of images that other programs made.
pub(crate) fn samples() -> Option<std::path::PathBuf> {
    let dir = std::env::var_os("VHD_FORMAT_SAMPLES");
    if dir.is_none() {
        eprintln!("SKIPPED: VHD_FORMAT_SAMPLES names no directory of sample images");
    }
    dir.map(Into::into)
}

/// Runs a program that must succeed, and gives what it says.
pub(crate) fn run(program: &str, arguments: &[&str], files: &[&Path]) -> String {
    let output = Command::new(program)
        .args(arguments)
        .args(files)
        .output()
        .unwrap();
    let text = format!(
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(
        output.status.success(),
        "{program} {arguments:?} {files:?}: {text}"
    );
    text
}

/// An empty file that can be read and written.
pub(crate) fn new_file(path: &Path) -> File {
    let mut options = File::options();
    options.read(true).write(true).create(true).truncate(true);
    options.open(path).unwrap()
}

/// Bytes that look random and are the same each time.
pub(crate) fn noise(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes = Vec::with_capacity(len + 8);
    while bytes.len() < len {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.wrapping_mul(0x2545_f491_4f6c_dd1d).to_le_bytes());
    }
    bytes.truncate(len);
    bytes
}

/// A number below `limit`, from a state that moves on.
pub(crate) fn pick(state: &mut u64, limit: u64) -> u64 {
    *state = state
        .wrapping_mul(6_364_136_223_846_793_005)
        .wrapping_add(1_442_695_040_888_963_407);
    (*state >> 24) % limit
}

#[derive(Clone, Debug)]
pub(crate) enum Operation {
    Write(u64, Vec<u8>),
    Grow(u64),
    Flush,
}

/// A file in memory that keeps a journal of everything done to it.
#[derive(Clone)]
pub(crate) struct Journaled {
    pub(crate) content: Vec<u8>,
    pub(crate) journal: Arc<Mutex<Vec<Operation>>>,
    /// Operations that are let through before every further one fails.
    pub(crate) allowed: u64,
}

impl Journaled {
    pub(crate) fn new(content: Vec<u8>) -> Self {
        Self {
            content,
            journal: Arc::default(),
            allowed: u64::MAX,
        }
    }

    fn record(&mut self, operation: Operation) -> io::Result<()> {
        self.allowed = self
            .allowed
            .checked_sub(1)
            .ok_or_else(|| io::Error::other("injected failure"))?;
        self.journal.lock().unwrap().push(operation);
        Ok(())
    }
}

impl ReadAt for Journaled {
    fn size(&self) -> io::Result<u64> {
        self.content.size()
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.content.read_at(offset, buffer)
    }
}

impl Storage for Journaled {
    fn write_at(&mut self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.record(Operation::Write(offset, data.to_vec()))?;
        self.content.write_at(offset, data)
    }

    fn grow(&mut self, len: u64) -> io::Result<()> {
        self.record(Operation::Grow(len))?;
        self.content.grow(len)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.record(Operation::Flush)
    }
}

/// What a medium may hold when power fails after the first `done` operations: all that was
/// flushed, and of the rest any operations at all, or any sectors of them.
pub(crate) fn crash(base: &[u8], journal: &[Operation], done: usize, state: &mut u64) -> Vec<u8> {
    const SECTOR: usize = 512;
    let flushed = journal[..done]
        .iter()
        .rposition(|operation| matches!(operation, Operation::Flush))
        .unwrap_or(0);
    let mut medium = base.to_vec();
    // Of 16 operations or sectors so many survive: none, some, or all.
    let survivors = pick(state, 18);
    let by_sector = pick(state, 3) == 0;
    for (i, operation) in journal[..done].iter().enumerate() {
        let survives = i < flushed || pick(state, 16) < survivors;
        match operation {
            Operation::Flush => {}
            Operation::Write(offset, data) if by_sector && i >= flushed => {
                let mut position = 0;
                while position < data.len() {
                    let at = *offset as usize + position;
                    let end = (position + SECTOR - at % SECTOR).min(data.len());
                    if pick(state, 16) < survivors {
                        medium.write_at(at as u64, &data[position..end]).unwrap();
                    }
                    position = end;
                }
            }
            Operation::Write(offset, data) if survives => medium.write_at(*offset, data).unwrap(),
            Operation::Grow(len) if survives => medium.grow(*len).unwrap(),
            Operation::Write(..) | Operation::Grow(_) => {}
        }
    }
    medium
}

/// What a disk may hold after a crash: for every byte the value at the last flush, and those
/// written since.
#[derive(Clone)]
pub(crate) struct Possible {
    flushed: Vec<u8>,
    since: Vec<(u64, Vec<u8>)>,
}

impl Possible {
    pub(crate) fn new(content: Vec<u8>) -> Self {
        Self {
            flushed: content,
            since: Vec::new(),
        }
    }

    pub(crate) fn write(&mut self, offset: u64, data: &[u8]) {
        self.since.push((offset, data.to_vec()));
    }

    pub(crate) fn flush(&mut self) {
        for (offset, data) in self.since.drain(..) {
            let start = offset as usize;
            self.flushed[start..start + data.len()].copy_from_slice(&data);
        }
    }

    pub(crate) fn check(&self, found: &[u8]) {
        assert_eq!(found.len(), self.flushed.len());
        let wrong = (0..found.len()).find(|&i| {
            found[i] != self.flushed[i]
                && !self.since.iter().any(|(offset, data)| {
                    i.checked_sub(*offset as usize)
                        .and_then(|within| data.get(within))
                        .is_some_and(|&byte| byte == found[i])
                })
        });
        if let Some(i) = wrong {
            panic!(
                "byte {i} is {:#04x}, neither what was flushed ({:#04x}) nor written since",
                found[i], self.flushed[i]
            );
        }
    }
}
