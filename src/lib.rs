//! Container image layers to ext4 disk images, in one streaming pass.
//!
//! A layer (a tar, plain or compressed by gzip or zstd) goes in at one end, once, and a disk with an
//! ext4 file system comes out at the other: raw, or as a VHD or VHDX. No mount, no root, no
//! temporary copy. The same layer and options give the same bytes, on every machine and with any
//! number of threads.
//!
//! | to | there is |
//! | --- | --- |
//! | convert a layer | [`convert`](crate::convert()), [`convert_file`], [`Options`] |
//! | hash a layer's disk without writing it | [`root_hash`] |
//! | merge layers to one disk | [`flatten`] |
//! | make a disk to be written to | [`scratch`], or [`Options::writable`] for one with contents |
//! | open a disk of any format | [`Volume`] |
//! | look into it, check it, copy it | [`Volume::inspect`], [`Volume::verify`], [`Volume::convert_to`] |
//! | make an empty disk | [`virtual_disk`] |
//!
//! # From a layer to a disk and back
//!
//! ```
//! use tar2vhd::disk::MemoryDisk;
//! use tar2vhd::verify::{Verdict, VerifyOptions};
//! use tar2vhd::{DiskFormat, Options, Volume};
//!
//! # fn main() -> tar2vhd::Result<()> {
//! // Two blocks of zeros are an empty tar.
//! let layer = [0; 1024];
//! let output = MemoryDisk::new();
//! let options = Options::new().format(DiskFormat::Vhdx);
//! let summary = tar2vhd::convert(&layer[..], &output, &options)?;
//! assert_eq!(summary.entries.directories, 1);
//!
//! let disk = Volume::from_bytes(output.into_vec())?;
//! assert_eq!(disk.format(), DiskFormat::Vhdx);
//! assert_eq!(disk.inspect()?.file_system.uuid, summary.disk.uuid);
//! assert_eq!(disk.verify(&VerifyOptions::new())?.verdict(), Verdict::Clean);
//! # Ok(())
//! # }
//! ```
//!
//! # Who reads, seeks and writes
//!
//! - **Input** is any [`Read`](std::io::Read). It is read from start to end, once, on the thread of
//!   the caller, and never sought; it need not be `Send`.
//! - **Output** is a [`DiskOutput`](disk::DiskOutput), which gets buffers at offsets in any order, no
//!   two of which overlap, and perhaps from several threads at once. It is not read.
//!   [`MemoryDisk`](disk::MemoryDisk), [`SeekDisk`](disk::SeekDisk) and
//!   [`DiskFile`](disk::DiskFile) are outputs.
//! - **Files** appear whole or not at all: functions whose names end in `_file` write beside the path
//!   that they are given, sync, and rename. After an error, what was at the path is as it was. To
//!   choose the moment oneself there are [`DiskFile::create`](disk::DiskFile::create) and
//!   [`publish`](disk::DiskFile::publish).
//! - **Disks** are read at offsets, not mapped, by [`Volume`], which may be shared by threads.
//! - **Threads** are started by a call and ended before it returns ([`Options::threads`]); with one
//!   thread a conversion starts none but a pool for the end. Memory is bounded by the number of
//!   entries, not by their sizes.
//! - **A call ends early** by a [`CancelToken`], from another thread or at a deadline.
//!
//! Nothing is printed or logged.
//!
//! # Errors
//!
//! Every fallible call returns [`Error`]: its [`kind`](Error::kind) is for programs, its text, one
//! line with the file, the entry's path and the offset where they are known, for people. What is
//! converted and differs from the tar is no error but a [`Warning`] in the [`Summary`]. What is
//! wrong with a disk is a [`Finding`](verify::Finding) where the disk can be read at all. No input
//! makes the library panic.
//!
//! # Features
//!
//! | feature | |
//! | --- | --- |
//! | `cli` (default) | the command `tar2vhd`, and all features below; libraries turn it off |
//! | `image` | the module `image`: images with their layers, from directories and archives |
//! | `serde` | `Serialize` for summaries, reports and named values: the JSON of the command |
//!
//! Values that have names, such as [`DiskFormat`] and [`WarningKind`], are displayed and parsed by
//! the names that the command and its JSON use; each has a list `ALL`.

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
mod reader;
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
pub use options::{Options, Profile, Progress, Writable};
pub use summary::{
    Blob, Compression, Digest, DiskSummary, EntryCounts, ParseDigestError, Summary, VeritySummary,
    Warning, WarningKind, display_file, escape_file,
};

/// The formats of disks, for what [`Volume::disk`] shows.
pub use vhd_format;

/// The reader of file systems, for the fuzzer alone.
///
/// # Errors
/// If there is no file system that can be read.
#[cfg(fuzzing)]
#[doc(hidden)]
pub fn exercise_reader(volume: Volume) -> Result<(usize, Vec<Error>)> {
    reader::exercise(volume)
}

/// The README's example is a test.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
