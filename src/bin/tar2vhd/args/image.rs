//! The command line of `tar2vhd image`.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::{ArgAction, Subcommand, ValueHint};
use tar2vhd::image::Platform;
use tar2vhd::{DiskFormat, Inflater, Profile};

use super::named;
use super::size::size;
use super::values::{Salt, To, When, salt, uuid};

/// Convert whole images: each layer to a disk, or all layers to one.
///
/// IMAGE is named as skopeo names it: oci:DIR[:TAG], oci-archive:FILE[:TAG],
/// docker-archive:FILE[:TAG], dir:DIR or docker://HOST[:PORT]/NAME[:TAG|@DIGEST]; or it is a path,
/// and what is there tells. Behind a prefix the path ends at its first colon, except for that of a
/// Windows drive. Archives may be compressed by gzip or zstd, and '-' is one on standard input: these
/// are kept in a temporary file while they are read. Layers of a registry are converted while they
/// come in.
#[derive(Debug, clap::Args)]
pub(crate) struct Image {
    #[command(subcommand)]
    pub command: ImageCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ImageCommand {
    Convert(Box<ConvertImage>),
    Flatten(Box<FlattenImage>),
}

/// Convert every layer of an image to a disk of its own.
///
/// The disks appear as DIR/sha256/HEX.EXTENSION: HEX is the diff ID of the layer, or its chain ID
/// where the layers below shaped the bytes. Beside each stands a record of the options that shaped
/// it. What is there already, made with the same options, is not made again; with other options
/// that is an error. DIR/HEX.EXTENSION.json, HEX being the image ID, names the layers in order.
#[derive(Debug, clap::Args)]
pub(crate) struct ConvertImage {
    #[command(flatten)]
    pub source: Source,

    /// The directory for the disks, which is made if it is not there.
    #[arg(short, long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub output: PathBuf,

    /// Whose file system to write.
    #[arg(long, value_parser = named::profile(), default_value_t)]
    pub profile: Profile,

    /// Reproduce what hcsshim gets wrong, with a warning each, instead of refusing it.
    #[arg(long)]
    pub faithful: bool,

    #[command(flatten)]
    pub disk: Disk,
}

/// Merge all layers of an image to one disk.
///
/// Whiteouts take effect and are gone, and a directory is as the topmost layer that describes it
/// says. What upper layers hide takes no place. The same image and options give the same bytes,
/// wherever the image is.
#[derive(Debug, clap::Args)]
pub(crate) struct FlattenImage {
    #[command(flatten)]
    pub source: Source,

    #[command(flatten)]
    pub to: To,

    #[command(flatten)]
    pub disk: Disk,

    /// Make a file system to be written to, with free blocks and inodes, on a disk of --size or
    /// with room as --free says.
    #[arg(long, requires = "room", conflicts_with = "verity")]
    pub writable: bool,

    /// Bytes of the disk of a writable file system.
    #[arg(long, value_name = "SIZE", value_parser = size, requires = "writable", group = "room")]
    #[arg(conflicts_with_all = ["free", "max_size", "align"])]
    pub size: Option<u64>,

    /// Make a writable file system as large as its contents need and SIZE of free space.
    #[arg(long, value_name = "SIZE", value_parser = size, requires = "writable", group = "room")]
    pub free: Option<u64>,

    /// Give a writable file system a journal, as large as mke2fs makes it.
    #[arg(long, requires = "writable")]
    pub journal: bool,

    /// The least number of inodes of a writable file system; as many as mke2fs makes if not
    /// given: one for every 16 KiB, or 4 KiB of a disk of less than 512 MiB.
    #[arg(long, value_name = "N", requires = "writable")]
    pub inodes: Option<u64>,

    /// Fail if something is at OUTPUT already.
    #[arg(long)]
    pub no_clobber: bool,
}

/// Which image.
#[derive(Debug, clap::Args)]
pub(crate) struct Source {
    /// The image.
    #[arg(value_name = "IMAGE", value_hint = ValueHint::AnyPath)]
    pub image: OsString,

    /// Of several images, the one that is meant: its name, the end of that from a slash or colon
    /// on, or the digest of its manifest. Needed if there are several for the platform.
    #[arg(long, value_name = "TAG")]
    pub tag: Option<String>,

    /// Of an image for several platforms, the one that is meant, OS/ARCHITECTURE[/VARIANT];
    /// by default Linux on this machine's processor, else linux/amd64.
    #[arg(long, value_name = "PLATFORM")]
    pub platform: Option<Platform>,

    /// Whether a registry has to prove who it is; false also allows plain HTTP.
    #[arg(long, value_name = "BOOL", default_value_t = true, action = ArgAction::Set)]
    pub tls_verify: bool,

    /// Certificates to trust for a registry beside those of the system, in PEM.
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub ca_file: Option<PathBuf>,

    /// Credentials for a registry, in the form of docker's config.json; by default those of podman,
    /// skopeo and docker are found.
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub authfile: Option<PathBuf>,
}

/// How a disk is written, and what is told of it.
#[derive(Debug, clap::Args)]
pub(crate) struct Disk {
    /// What to wrap a file system in; by default vhd, or what the extension of a file that is
    /// named says.
    #[arg(short = 'O', visible_short_alias = 'f', long, value_parser = named::format())]
    pub format: Option<DiskFormat>,

    /// The largest disk to make; space for group descriptors is reserved accordingly.
    #[arg(long, value_name = "SIZE", default_value = "128GiB", value_parser = size)]
    pub max_size: u64,

    /// The most tar entries to accept.
    #[arg(long, value_name = "N", default_value_t = 1 << 26)]
    pub max_entries: u64,

    /// The largest zstd window to accept; it takes twice the memory.
    #[arg(long, value_name = "SIZE", default_value = "128MiB", value_parser = size)]
    pub max_window: u64,

    /// What inflates gzip.
    #[arg(long, value_name = "DECODER", value_parser = named::inflater(), default_value_t)]
    pub inflater: Inflater,

    /// Round a disk up to a multiple of SIZE; Azure takes whole MiB and at least 20MiB.
    #[arg(long, value_name = "SIZE", value_parser = size)]
    pub align: Option<u64>,

    /// Keep small files inside their inodes; not for DAX mounts.
    #[arg(long)]
    pub inline_data: bool,

    /// Write file blocks that are all zero instead of leaving holes.
    #[arg(long)]
    pub keep_zeros: bool,

    /// Put a dm-verity hash tree behind a file system.
    #[arg(long)]
    pub verity: bool,

    /// The salt of the hash tree in hexadecimal digits, - for none; 32 zero bytes by default.
    #[arg(long, value_name = "HEX", requires = "verity", value_parser = salt)]
    pub verity_salt: Option<Salt>,

    /// The UUID of the hash tree; by default it follows from what is hashed.
    #[arg(long, value_name = "UUID", requires = "verity", value_parser = uuid)]
    pub verity_uuid: Option<[u8; 16]>,

    /// How many threads to use; 0 for as many as the machine has.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub threads: usize,

    /// Do not wait for stable storage: for output that may be lost in a crash.
    #[arg(long)]
    pub no_fsync: bool,

    /// Print JSON on standard output: an object on a line for each layer, and one for the image.
    ///
    /// In its paths of entries a backslash is written \\, and a byte that is not UTF-8 \xNN.
    #[arg(short, long)]
    pub json: bool,

    /// Print no progress, summary or warnings; errors are always printed.
    #[arg(short, long)]
    pub quiet: bool,

    /// Whether to show progress; auto: when standard error is a terminal.
    #[arg(long, value_name = "WHEN", value_enum, default_value_t)]
    pub progress: When,
}
