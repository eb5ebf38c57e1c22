//! The record of a snapshot, as JSON: small, readable with any tool, open to new fields. Its
//! checksum stands in front of it.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use tonic::Status;

/// The purpose of a snapshot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Kind {
    /// Something may be written to it.
    Active,
    /// It shows its parents.
    View,
    /// A layer others stand on; it never changes.
    Committed,
}

impl Kind {
    /// The name that filters use.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::View => "view",
            Self::Committed => "committed",
        }
    }
}

/// The disk usage of a snapshot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Usage {
    /// Bytes.
    pub(crate) size: u64,
    /// Files and directories.
    pub(crate) inodes: u64,
}

/// A time as containerd gives it on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Time {
    /// Seconds since 1970.
    pub(crate) seconds: u64,
    pub(crate) nanos: u32,
}

impl From<SystemTime> for Time {
    fn from(time: SystemTime) -> Self {
        // A clock before 1970 is wrong anyhow.
        let since: Duration = time.duration_since(UNIX_EPOCH).unwrap_or_default();
        Self {
            seconds: since.as_secs(),
            nanos: since.subsec_nanos(),
        }
    }
}

/// `layer.vhd` as it was when the snapshot was committed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Layer {
    /// The digest of the uncompressed layer, of one that was converted here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) diff_id: Option<String>,
    /// Bytes of the file.
    pub(crate) size: u64,
    /// The CRC-32C of its first 4 KiB, where the superblock is, and its last 512 bytes, the
    /// footer of the VHD.
    pub(crate) ends: u32,
}

/// The record of a snapshot under its key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Record {
    /// The number that names its directory.
    pub(crate) id: u64,
    pub(crate) kind: Kind,
    /// The name of the snapshot below; empty for none.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(crate) parent: String,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) labels: BTreeMap<String, String>,
    pub(crate) created: Time,
    pub(crate) updated: Time,
    /// As it was at the commit.
    #[serde(default)]
    pub(crate) usage: Usage,
    /// The disk that a committed snapshot has; `None` without one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) layer: Option<Layer>,
    /// It is being made, or was when the process ended.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) unfinished: bool,
}

/// Bytes of the checksum in front of a record.
const SUM: usize = 4;

impl Record {
    /// Reads what is kept under a key.
    pub(super) fn from_bytes(key: &str, bytes: &[u8]) -> Result<Self, Status> {
        let damaged = |why: String| {
            Status::data_loss(format!(
                "the metadata: the record of {key:?} is damaged: {why}"
            ))
        };
        let Some((sum, json)) = bytes.split_first_chunk::<SUM>() else {
            return Err(damaged("it is cut".into()));
        };
        if u32::from_le_bytes(*sum) != sum_of(key, json) {
            return Err(damaged("its checksum is wrong".into()));
        }
        serde_json::from_slice(json).map_err(|e| damaged(e.to_string()))
    }

    /// Reads a record of version 1, which has no checksum.
    pub(super) fn from_json(bytes: &[u8]) -> Result<Self, serde_json::Error> {
        serde_json::from_slice(bytes)
    }

    pub(super) fn to_bytes(&self, key: &str) -> Result<Vec<u8>, Status> {
        let mut bytes = vec![0; SUM];
        serde_json::to_writer(&mut bytes, self)
            .map_err(|e| Status::internal(format!("the metadata: a record: {e}")))?;
        let sum = sum_of(key, &bytes[SUM..]);
        bytes[..SUM].copy_from_slice(&sum.to_le_bytes());
        Ok(bytes)
    }
}

/// Covers the key, too: a record that turns up under another key is damage.
fn sum_of(key: &str, json: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(key.as_bytes()), json)
}
