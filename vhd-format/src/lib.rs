//! The virtual disk formats of Hyper-V, read and written without it: VHD and VHDX.
//!
//! | | fixed | dynamic | differencing |
//! | --- | --- | --- | --- |
//! | [VHD](vhd) | create, read, write | create, read, write | read, with parents |
//! | [VHDX](vhdx) | create, read, write | create, read, write | read, with parents |
//!
//! [`Disk`] opens any of them, or a raw disk, by what the file holds. [`vhd::Vhd`] and
//! [`vhdx::Vhdx`] show what is particular to a format. All of them read and write at any offset
//! of the virtual disk, over any [`Storage`]: a file, bytes in memory, anything that seeks.
//!
//! ```
//! use vhd_format::vhdx::{Parameters, Vhdx};
//! use vhd_format::{Disk, Format};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let dir = tempfile::tempdir()?;
//! # let path = dir.path().join("disk.vhdx");
//! let mut options = std::fs::File::options();
//! let file = options.read(true).write(true).create_new(true).open(&path)?;
//! let mut disk = Vhdx::create(file, &Parameters::new(20 << 30))?;
//! disk.write_at(4096, b"hello")?;
//! disk.close()?;
//!
//! let disk = Disk::open(std::fs::File::open(&path)?)?;
//! assert_eq!(disk.format(), Format::Vhdx);
//! let mut buffer = [0; 5];
//! disk.read_at(4096, &mut buffer)?;
//! assert_eq!(&buffer, b"hello");
//! # Ok(())
//! # }
//! ```
//!
//! # Life cycle, I/O and errors
//! A disk is opened or created over a storage that it owns, and given back by
//! [`close`](Disk::close), which flushes. A disk that is only read needs a [`ReadAt`]; one that is
//! written to a [`Storage`]. Every call does its I/O before it returns, on the caller's thread, and
//! reads take `&self`, so that threads may share a disk. An [`Error`] has a [kind](Error::kind),
//! and the [offset](Error::offset) in the file where that is known.
//!
//! # What it promises
//! - **Crashes.** What was [flushed](Disk::flush) stays. Cut off at any point, a VHDX or a
//!   dynamic VHD opens again, and each byte that was written to since has its old or a new
//!   value. VHDX keeps its tables in order by its log, VHD by the order of writes alone.
//! - **Hostile files.** A damaged or malicious disk gives an error: no panic, no endless work,
//!   no memory for sizes that the file only claims. Mind the storage, though: a VHDX that is
//!   opened for writing may ask for a file as large as it says its log left it.
//! - **Copies.** Whatever the formats keep twice (VHDX headers and region tables, a dynamic
//!   VHD's footer) may be damaged once; [`Disk::check`] tells.
//! - **Same in, same out.** Nothing is random where the caller gives the ids: equal parameters
//!   and writes give equal files.
//!
//! # What it does not do
//! Change the size of a disk, write to differencing disks, compact or merge, take locks. Two
//! that write to one file at once destroy it.
//!
//! # Producing a disk in one pass
//! [`vhd::Layout`] and [`vhdx::Layout`] tell where each block goes before any I/O is done, for
//! producers that write blocks themselves, in any order or in parallel.
#![forbid(unsafe_code)]

mod backing;
mod disk;
mod error;
mod range;
pub mod storage;
mod table;
pub mod vhd;
pub mod vhdx;

pub use disk::{Disk, Format, Parent, Raw};
pub use error::{Error, ErrorKind, Result};
pub use range::Extent;
pub use storage::{AnyStorage, ReadAt, Storage};
