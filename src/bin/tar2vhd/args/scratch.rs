//! `tar2vhd scratch` and `tar2vhd runhcs`.

use std::ffi::OsString;

use tar2vhd::DiskFormat;
use uuid::Uuid;

use super::{To, named, size};

/// Make a disk with an empty ext4 file system to write to.
///
/// Nothing is formatted and no machine started: the file system is written as it is after
/// mkfs, in milliseconds. The disk appears at OUTPUT when it is whole.
///
/// The same options give the same bytes, and the same UUID; --uuid makes disks that differ.
///
/// SIZE is a number of bytes, or one with a unit, in upper or lower case: K or KiB (1024 bytes),
/// M, G, T and P, or KB (1000 bytes), MB, GB, TB and PB. 1.5G is a size too.
#[derive(Debug, clap::Args)]
pub(crate) struct Scratch {
    #[command(flatten)]
    pub to: To,

    /// Bytes of the disk that a guest sees: from 1MiB to 64TiB, or 2040GiB as VHD.
    #[arg(long, value_name = "SIZE", default_value = "20GiB", value_parser = size)]
    pub size: u64,

    /// The unit in which a dynamic disk grows: a power of two, from 1MiB to 256MiB, or from
    /// 4KiB as VHD; 1MiB unless given.
    #[arg(long, value_name = "SIZE", value_parser = size)]
    pub block_size: Option<u64>,

    /// What to wrap the file system in; by default what the extension of OUTPUT says (.vhd,
    /// .vhdx, .raw, .img), else vhdx.
    #[arg(short = 'O', visible_short_alias = 'f', long, value_parser = named::format())]
    pub format: Option<DiskFormat>,

    /// Make a journal, as large as mke2fs makes it.
    #[arg(long)]
    pub journal: bool,

    /// The label of the file system: at most 16 bytes.
    #[arg(long)]
    pub label: Option<String>,

    /// The UUID of the file system, or 'random'; follows from the other options unless given.
    #[arg(long, value_parser = uuid)]
    pub uuid: Option<ScratchUuid>,

    /// The least number of inodes; 0 for as many as mke2fs makes: one for every 16 KiB, or 4 KiB
    /// of a disk of less than 512 MiB, and fewer above 4 TiB.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub inodes: u64,

    /// Leave out what kernels before 4.14 may lack.
    #[arg(long)]
    pub compat: bool,

    /// Fail if something is at OUTPUT already.
    #[arg(long)]
    pub no_clobber: bool,

    /// Do not wait for stable storage: for a disk that may be lost in a crash.
    #[arg(long)]
    pub no_fsync: bool,

    /// Print the summary as one JSON object on standard output.
    #[arg(short, long)]
    pub json: bool,

    /// Print errors alone.
    #[arg(short, long)]
    pub quiet: bool,
}

/// What --uuid asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ScratchUuid {
    Random,
    Given(Uuid),
}

fn uuid(text: &str) -> Result<ScratchUuid, String> {
    match text {
        "random" => Ok(ScratchUuid::Random),
        text => Uuid::try_parse(text)
            .map(ScratchUuid::Given)
            .map_err(|e| format!("{e}; or it may be 'random'")),
    }
}

/// Act as Microsoft's runhcs does, as far as it makes disks.
///
/// This is also what the command does when it is called by the name runhcs. 'runhcs --help'
/// tells more.
#[derive(Debug, clap::Args)]
#[command(disable_help_flag = true)]
pub(crate) struct Runhcs {
    /// The arguments of runhcs.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    pub arguments: Vec<OsString>,
}
