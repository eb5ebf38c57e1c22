//! Identity of a file system.

/// Values by which file systems are told apart.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Identity {
    pub uuid: [u8; 16],
    /// s_hash_seed: what the directory hashes start from.
    pub hash_seed: [u32; 4],
}
