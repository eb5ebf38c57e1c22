//! The record that a snapshot's directory has of its own: what the store knows of it, so that
//! snapshots outlive the store.
//!
//! ```text
//! tar2vhd-snapshot 1 crc32c:1c291ca3
//! {"key":"default/3/sha256:…","id":7,"kind":"committed",…}
//! ```
//!
//! It is written before the store's transaction is committed. So it may be ahead of the store
//! after a crash, and the next start replaces it; it is never behind.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::Path;

use serde::{Deserialize, Serialize};
use tonic::Status;

use crate::files::{TEMPORARY, failed};
use crate::platform;
use crate::store::Record;

/// The name of the file.
pub(crate) const SNAPSHOT: &str = "snapshot";
const FORMAT: &str = "tar2vhd-snapshot";
const VERSION: u64 = 1;
/// More than a record can have: a key, and labels within the bound of a request.
const MAX: u64 = 64 << 20;

#[derive(Serialize)]
struct Named<'a> {
    key: &'a str,
    #[serde(flatten)]
    record: &'a Record,
}

#[derive(Deserialize)]
struct Read1 {
    key: String,
    #[serde(flatten)]
    record: Record,
}

/// Replaces the record in a directory; the new one is on stable storage then.
pub(crate) fn write(directory: &Path, key: &str, record: &Record) -> Result<(), Status> {
    let json = serde_json::to_string(&Named { key, record })
        .map_err(|e| Status::internal(format!("the record of a snapshot: {e}")))?;
    let sum = crc32c::crc32c(json.as_bytes());
    let text = format!("{FORMAT} {VERSION} crc32c:{sum:08x}\n{json}\n");
    let path = directory.join(SNAPSHOT);
    let temporary = directory.join(format!("{TEMPORARY}{SNAPSHOT}"));
    let written = File::create(&temporary).and_then(|mut file| {
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&temporary, &path)?;
        platform::sync_directory(directory)
    });
    written.map_err(|e| {
        let _ = fs::remove_file(&temporary);
        failed(&path, e)
    })
}

/// The key and record in a directory; `None` without one.
pub(crate) fn read(directory: &Path) -> Result<Option<(String, Record)>, String> {
    let path = directory.join(SNAPSHOT);
    let named = |e: &dyn std::fmt::Display| format!("{}: {e}", path.display());
    let file = match platform::open_regular(&path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        other => other.map_err(|e| named(&e))?,
    };
    let mut text = String::new();
    let read = file.take(MAX).read_to_string(&mut text);
    read.map_err(|e| named(&e))?;
    parse(&text).map(Some).map_err(|e| named(&e))
}

fn parse(text: &str) -> Result<(String, Record), String> {
    let (head, rest) = text.split_once('\n').ok_or("it is cut")?;
    let json = rest.strip_suffix('\n').ok_or("it is cut")?;
    let words: Vec<_> = head.split(' ').collect();
    let [FORMAT, version, sum] = words[..] else {
        return Err("it is no record of a snapshot".into());
    };
    if version != VERSION.to_string() {
        return Err(format!(
            "it is of version {version}; this program knows {VERSION}"
        ));
    }
    if sum != format!("crc32c:{:08x}", crc32c::crc32c(json.as_bytes())) {
        return Err("its checksum is wrong".into());
    }
    let read: Read1 = serde_json::from_str(json).map_err(|e| e.to_string())?;
    Ok((read.key, read.record))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{Kind, Layer, Time, Usage};

    fn record() -> Record {
        Record {
            id: 7,
            kind: Kind::Committed,
            parent: "below".into(),
            labels: [("a\"b".to_owned(), "c\nd".to_owned())].into(),
            created: Time {
                seconds: 1,
                nanos: 2,
            },
            updated: Time {
                seconds: 3,
                nanos: 4,
            },
            usage: Usage { size: 5, inodes: 6 },
            layer: Some(Layer {
                diff_id: Some("sha256:7".into()),
                size: 8,
                ends: 9,
            }),
            unfinished: false,
        }
    }

    #[test]
    fn what_is_written_is_read_and_every_flipped_bit_is_noticed() {
        let directory = tempfile::tempdir().unwrap();
        assert_eq!(read(directory.path()), Ok(None));
        write(directory.path(), "key", &record()).unwrap();
        let found = read(directory.path()).unwrap().unwrap();
        assert_eq!(found, ("key".to_owned(), record()));
        let path = directory.path().join(SNAPSHOT);
        let bytes = fs::read(&path).unwrap();
        for bit in 0..bytes.len() * 8 {
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            fs::write(&path, flipped).unwrap();
            assert!(read(directory.path()).is_err(), "bit {bit}");
        }
        for len in 0..bytes.len() {
            fs::write(&path, &bytes[..len]).unwrap();
            assert!(read(directory.path()).is_err(), "{len} bytes");
        }
    }

    #[test]
    fn a_later_version_is_refused_by_name() {
        let later = parse("tar2vhd-snapshot 2 crc32c:00000000\n{}\n").unwrap_err();
        assert!(later.contains("version 2; this program knows 1"), "{later}");
    }
}
