//! `tar2vhd disk`.

use std::path::PathBuf;

use clap::{Subcommand, ValueEnum, ValueHint};
use tar2vhd::DiskFormat;

use super::{To, When, named, size};

/// Make, copy and describe disks, whatever is on them.
///
/// SIZE is a number of bytes, or one with a unit, in upper or lower case: K or KiB (1024 bytes),
/// M, G, T and P, or KB (1000 bytes), MB, GB, TB and PB. 1.5G is a size too.
#[derive(Debug, clap::Args)]
// Without a command there is an error to tell of, not a question to answer.
#[command(arg_required_else_help = false)]
pub(crate) struct Disk {
    #[command(subcommand)]
    pub command: DiskCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum DiskCommand {
    Create(Create),
    Convert(Convert),
    Info(Info),
}

/// Make an empty disk.
///
/// No file system is on it: 'tar2vhd scratch' makes a disk with one.
#[derive(Debug, clap::Args)]
pub(crate) struct Create {
    #[command(flatten)]
    pub to: To,

    /// Bytes of the disk that a guest sees: whole sectors, up to 2040 GiB as VHD or 64 TiB as
    /// VHDX.
    #[arg(value_name = "SIZE", value_parser = size, required_unless_present = "size")]
    bytes: Option<u64>,

    /// The same as an option.
    #[arg(long, value_name = "SIZE", value_parser = size, conflicts_with = "bytes")]
    size: Option<u64>,

    /// The format of the disk; by default what the extension of OUTPUT says (.vhd, .vhdx,
    /// .raw, .img), else vhdx.
    #[arg(short = 'O', visible_short_alias = 'f', long, value_parser = named::format())]
    pub format: Option<DiskFormat>,

    #[command(flatten)]
    pub shape: Shape,

    #[command(flatten)]
    pub writing: Writing,
}

impl Create {
    pub(crate) fn size(&self) -> u64 {
        // One of them is there, or the command line was refused.
        self.bytes.or(self.size).unwrap_or(0)
    }
}

/// Copy a disk into another format.
///
/// INPUT is a VHD, a VHDX or a raw disk, as its contents show; the parents of a differencing
/// disk are looked for where it says relative to itself, or beside it. Blocks of zeros take no
/// space in OUTPUT, which appears when it is whole: after any error, and when interrupted, it is
/// as it was before. A raw disk that does not end with a sector is filled up with zeros.
///
/// A disk of another format, such as qcow2, VMDK or VDI, is refused by name, and so is what is an
/// archive or compressed: `--input-format raw` copies the file's bytes as they are.
#[derive(Debug, clap::Args)]
pub(crate) struct Convert {
    /// The disk to copy.
    #[arg(value_hint = ValueHint::FilePath)]
    pub input: PathBuf,

    #[command(flatten)]
    pub to: To,

    /// The format of the copy; by default what the extension of OUTPUT says (.vhd, .vhdx,
    /// .raw, .img), else vhdx.
    #[arg(short = 'O', long, value_parser = named::format())]
    pub format: Option<DiskFormat>,

    /// The format of INPUT: known by its contents, or raw whatever these are.
    #[arg(long, value_name = "FORMAT", value_enum, default_value_t)]
    pub input_format: InputFormat,

    #[command(flatten)]
    pub shape: Shape,

    #[command(flatten)]
    pub writing: Writing,

    /// Whether to show progress; auto: when standard error is a terminal.
    #[arg(long, value_name = "WHEN", value_enum, default_value_t)]
    pub progress: When,
}

/// Tell what a disk is: its format, sizes, ids and blocks, and what is damaged.
///
/// Damage that does not keep the disk from being read, such as that of one of two copies, is
/// an error too. What is on the disk does not matter: `tar2vhd inspect` looks at that.
#[derive(Debug, clap::Args)]
pub(crate) struct Info {
    /// The disk.
    #[arg(value_hint = ValueHint::FilePath)]
    pub disk: PathBuf,

    /// The format of DISK: known by its contents, or raw whatever these are.
    #[arg(long, value_name = "FORMAT", value_enum, default_value_t)]
    pub input_format: InputFormat,

    /// Print one JSON object.
    #[arg(short, long)]
    pub json: bool,
}

/// How the format of a disk is found out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum InputFormat {
    /// By its contents.
    #[default]
    Auto,
    /// It is raw, even if it begins like a disk of another format.
    Raw,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Shape {
    /// Bytes of a block, a power of two: up to 256MiB, from 4KiB for vhd-dynamic or 1MiB for
    /// VHDX.
    ///
    /// By default 2MiB for vhd-dynamic, and for VHDX 1MiB, or 32MiB above 1TiB.
    #[arg(long, value_name = "SIZE", value_parser = block_size)]
    pub block_size: Option<u32>,

    /// The unit in which a guest addresses the disk: 512, or for VHDX also 4096.
    #[arg(long, value_name = "SIZE", default_value = "512", value_parser = sector_size)]
    pub logical_sector: u32,

    /// The unit in which a guest had better write to a VHDX: 512 or 4096.
    #[arg(long, value_name = "SIZE", default_value = "4096", value_parser = sector_size)]
    pub physical_sector: u32,

    /// The disk's id, or 'random'; by default it follows from contents and options.
    ///
    /// Disks that are equal have equal ids then: give one to an empty disk that a guest is to
    /// have beside another.
    #[arg(long, value_name = "UUID", value_parser = uuid)]
    pub uuid: Option<[u8; 16]>,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Writing {
    /// Fail if something is at OUTPUT already.
    #[arg(long)]
    pub no_clobber: bool,

    /// Do not wait for stable storage: for output that may be lost in a crash.
    #[arg(long)]
    pub no_fsync: bool,

    /// Print what was made as one JSON object on standard output.
    #[arg(short, long)]
    pub json: bool,

    /// Print no progress or summary; errors are always printed.
    #[arg(short, long)]
    pub quiet: bool,
}

fn block_size(text: &str) -> Result<u32, String> {
    u32::try_from(size(text)?).map_err(|_| "blocks have 256 MiB at most".into())
}

fn sector_size(text: &str) -> Result<u32, String> {
    u32::try_from(size(text)?).map_err(|_| "sectors have 4096 bytes at most".into())
}

fn uuid(text: &str) -> Result<[u8; 16], String> {
    if text == "random" {
        let identity = vhd_format::vhdx::Identity::random();
        return Ok(identity.virtual_disk_id.into_bytes());
    }
    let uuid = uuid::Uuid::try_parse(text).map_err(|e| e.to_string())?;
    Ok(uuid.into_bytes())
}
