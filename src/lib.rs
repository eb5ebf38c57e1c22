//! Container image layers to ext4 disk images, in one streaming pass.

mod chunk;
mod convert;
mod disk;
mod error;
mod ext4;
mod identity;
mod inspect;
mod layer;
mod options;
mod scratch;
mod summary;
mod verity;

pub use convert::{convert, convert_file, convert_with_hash_device};
pub use disk::{Discard, DiskFile, DiskOutput, MemoryDisk, SeekDisk};
pub use error::{Error, ErrorKind, Result};
pub use inspect::{Checks, FileSystem, Inspection, Tally, VhdFooter, inspect, inspect_bytes};
pub use options::{
    CancelToken, DiskFormat, LowerEntry, LowerLayers, LowerMetadata, Options, Profile, Progress,
    ScratchOptions,
};
pub use scratch::{scratch, scratch_file};
pub use summary::{
    Blob, Compression, Digest, DiskSummary, EntryCounts, ParseDigestError, Summary, VeritySummary,
    Warning, WarningKind,
};
pub use verity::{BadBlock, BlockKind, Verity, VerityCheck, check_verity};

/// The README's example is a test.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
