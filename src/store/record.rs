//! What is kept of a snapshot, as JSON: small, readable with any tool, open to new fields.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use tonic::Status;

/// What a snapshot is for.
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

/// What a snapshot takes on disk.
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

/// What is kept of a snapshot under its key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Record {
    /// What names its directory.
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
    /// It is being made, or was when the process ended.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) unfinished: bool,
}

impl Record {
    pub(super) fn from_bytes(bytes: &[u8]) -> Result<Self, Status> {
        serde_json::from_slice(bytes)
            .map_err(|e| Status::data_loss(format!("the metadata: a damaged record: {e}")))
    }

    pub(super) fn to_bytes(&self) -> Result<Vec<u8>, Status> {
        serde_json::to_vec(self)
            .map_err(|e| Status::internal(format!("the metadata: a record: {e}")))
    }
}
