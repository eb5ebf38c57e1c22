//! Container image layers to ext4 disk images, in one streaming pass.

mod buffer;
mod cancel;
mod convert;
pub mod disk;
mod error;
mod ext4;
mod identity;
#[cfg(feature = "image")]
pub mod image;
pub mod inspect;
mod layer;
pub mod lower;
mod names;
mod options;
pub mod scratch;
#[cfg(feature = "serde")]
mod serialize;
mod signature;
mod summary;
mod threads;
pub mod timings;
pub mod verify;
pub mod verity;
pub mod virtual_disk;

pub use cancel::CancelToken;
pub use convert::flatten;
pub use convert::{convert, convert_file, convert_with_hash_device, root_hash};
pub use disk::format::DiskFormat;
pub use disk::volume::Volume;
pub use error::{Error, ErrorKind, Result};
pub use layer::Inflater;
pub use names::UnknownName;
pub use options::{Options, Profile, Progress};
pub use summary::{
    Blob, Compression, Digest, DiskSummary, EntryCounts, ParseDigestError, Summary, VeritySummary,
    Warning, WarningKind, display_file, escape_file,
};

/// The formats of disks, for what [`Volume::disk`] shows.
pub use vhd_format;

/// The README's example is a test.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
