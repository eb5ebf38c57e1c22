//! State of a VHDX that is open for writing.

use uuid::Uuid;

use super::log::LogWriter;

/// State of a disk that is open for writing.
pub(super) struct Session {
    /// The ids that stand for the contents; nil until the session has changed them.
    pub(super) file_write_guid: Uuid,
    pub(super) data_write_guid: Uuid,
    pub(super) log: LogWriter,
    /// Where the next block goes.
    pub(super) end: u64,
    /// Before this, the file may hold old bytes although no block is there.
    pub(super) stale_end: u64,
    /// Something failed that leaves unknown what the medium holds.
    pub(super) failed: bool,
}

impl Session {
    pub(super) fn new(log: LogWriter, end: u64, stale_end: u64) -> Self {
        Self {
            file_write_guid: Uuid::nil(),
            data_write_guid: Uuid::nil(),
            log,
            end,
            stale_end,
            failed: false,
        }
    }
}
