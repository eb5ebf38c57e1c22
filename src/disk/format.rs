//! Formats of disk files.

use crate::names::names;

/// The format of a disk file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum DiskFormat {
    /// A fixed VHD: the file system and a 512-byte footer. At most 2,040 GiB.
    #[default]
    Vhd,
    /// A dynamic VHD: blocks of 2 MiB, only those in it that are not all zero. At most
    /// 2,040 GiB.
    VhdDynamic,
    /// A dynamic VHDX. At most 64 TiB, or 16 TiB less one block for a file system that is not to
    /// be written to.
    Vhdx,
    /// A fixed VHDX, which has room for every block.
    VhdxFixed,
    /// The file system alone. At most as [`Vhdx`](Self::Vhdx).
    Raw,
}

names!(DiskFormat, "disk format", {
    Vhd = "vhd",
    VhdDynamic = "vhd-dynamic",
    Vhdx = "vhdx",
    VhdxFixed = "vhdx-fixed",
    Raw = "raw",
});
