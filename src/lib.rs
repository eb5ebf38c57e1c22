//! Container image layers to ext4 disk images, in one streaming pass.

mod buffer;
mod cancel;
mod convert;
mod disk;
mod error;
mod ext4;
mod identity;
#[cfg(feature = "image")]
pub mod image;
mod inspect;
mod layer;
mod lower;
mod names;
mod options;
mod scratch;
#[cfg(feature = "serde")]
mod serialize;
mod signature;
mod summary;
mod threads;
mod timings;
mod verify;
mod verity;
mod virtual_disk;

pub use cancel::CancelToken;
pub use convert::{
    FlattenLayer, FlattenSummary, LayerSummary, chain_id, convert, convert_file,
    convert_with_hash_device, flatten, root_hash,
};
pub use disk::{
    BlockInfo, Discard, DiskFile, DiskFormat, DiskInfo, DiskOutput, FileId, MemoryDisk, ParentInfo,
    PartInfo, SeekDisk, VhdInfo, VhdxInfo, Volume,
};
pub use error::{Error, ErrorKind, Result};
pub use inspect::{Checks, FileSystem, Inspection, Tally, inspect, inspect_bytes, inspect_volume};
pub use layer::Inflater;
pub use lower::{
    LowerContents, LowerDisks, LowerEntry, LowerKind, LowerLayers, LowerMetadata, LowerPiece,
};
pub use names::UnknownName;
pub use options::{Options, Profile, Progress, ScratchOptions};
pub use scratch::{scratch, scratch_file};
pub use summary::{
    Blob, Compression, Digest, DiskSummary, EntryCounts, ParseDigestError, Summary, VeritySummary,
    Warning, WarningKind, display_file, escape_file,
};
pub use timings::{Stage, StageTiming, Timings};
pub use verify::{
    Examined, Finding, FindingKind, Place, Verdict, Verification, VerifyOptions, verify,
    verify_bytes, verify_volume,
};
pub use verity::{BadBlock, BlockKind, Verity, VerityCheck, check_verity};
pub use virtual_disk::{
    DiskOptions, DiskReport, convert_disk, convert_disk_file, create_disk, create_disk_file,
};

/// The formats of disks, for what [`Volume::disk`] shows.
pub use vhd_format;

/// The README's example is a test.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
