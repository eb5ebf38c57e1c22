//! The command line.

pub(crate) mod disk;
pub(crate) mod format;
pub(crate) mod image;
mod named;
mod scratch;
mod size;
mod values;

use std::path::PathBuf;

use clap::builder::{OsStringValueParser, TypedValueParser};
use clap::{ArgAction, Parser, Subcommand, ValueHint};
use tar2vhd::image::{MediaTypeError, Platform, layer_compression};
use tar2vhd::{Compression, Digest, DiskFormat, Inflater, Profile};

pub(crate) use disk::{Disk, InputFormat};
pub(crate) use scratch::{Runhcs, Scratch, ScratchUuid};
use size::size;
pub(crate) use values::{Salt, To, When, verity};
use values::{output, salt, uuid};

/// Converts container image layers to ext4 disk images.
#[derive(Debug, Parser)]
#[command(name = "tar2vhd", version, max_term_width = 100)]
// Without a command there is an error to tell of, not a question to answer.
#[command(arg_required_else_help = false)]
#[command(disable_version_flag = true)]
#[command(
    after_help = "Exit status: 0 if all went well, 1 after an error, 2 if the command \
    line is wrong. After an error the output file is as it was before. Interrupted by SIGINT, \
    SIGTERM, SIGHUP or SIGQUIT the command ends by that signal, which a shell shows as 130, \
    143, 129 or 131."
)]
pub(crate) struct Args {
    /// Print the version.
    #[arg(short = 'V', visible_short_alias = 'v', long, action = ArgAction::Version)]
    version: Option<bool>,

    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    Convert(Box<Convert>),
    Image(image::Image),
    Inspect(Inspect),
    Roothash(Roothash),
    Verify(Verify),
    Disk(Disk),
    Scratch(Scratch),
    Runhcs(Runhcs),
    /// Print a script that completes command lines.
    Completions {
        /// The shell that it is for.
        shell: clap_complete::Shell,
    },
    /// Print the manual page, in the language of man(7).
    Man {
        /// The command that the page is about, such as 'convert' or 'disk convert'; all of
        /// tar2vhd if none is named.
        command: Vec<String>,

        /// Write the pages of all commands to files in DIR, which is made if it is not there.
        #[arg(long, value_name = "DIR", conflicts_with = "command")]
        #[arg(value_hint = ValueHint::DirPath)]
        all: Option<PathBuf>,
    },
}

/// Convert a layer (tar, gzip or zstd) to an ext4 disk image.
///
/// The layer is read once, from start to end. The disk appears at OUTPUT when it is whole:
/// after any error, and when interrupted, OUTPUT is as it was before.
///
/// The same layer and options give the same bytes. The time of the file system itself is 0,
/// or what the environment variable SOURCE_DATE_EPOCH says.
///
/// SIZE is a number of bytes, or one with a unit, in upper or lower case: K or KiB (1024 bytes),
/// M, G, T and P, or KB (1000 bytes), MB, GB, TB and PB. 1.5G is a size too.
#[derive(Debug, clap::Args)]
pub(crate) struct Convert {
    /// The layer; standard input if absent or '-'.
    #[arg(value_hint = ValueHint::FilePath)]
    pub input: Option<PathBuf>,

    #[command(flatten)]
    pub to: To,

    /// What to wrap the file system in; by default what the extension of OUTPUT says (.vhd,
    /// .vhdx, .raw, .img), else vhd.
    #[arg(short = 'O', visible_short_alias = 'f', long, value_parser = named::format())]
    pub format: Option<DiskFormat>,

    /// Whose file system to write.
    #[arg(long, value_parser = named::profile(), default_value_t)]
    pub profile: Profile,

    /// Reproduce what hcsshim gets wrong, with a warning each, instead of refusing it.
    ///
    /// What would be a damaged file system stays refused.
    #[arg(long)]
    pub faithful: bool,

    /// Keep .wh. names as plain files, not as overlayfs's whiteouts.
    #[arg(long)]
    pub no_whiteouts: bool,

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

    /// The OCI or Docker media type that the layer has to be of.
    #[arg(long, value_name = "TYPE", value_parser = media_type)]
    pub media_type: Option<MediaType>,

    /// There is no layer below: leave out whiteouts, which have nothing to hide.
    #[arg(long, conflicts_with = "no_whiteouts")]
    pub bottom_layer: bool,

    /// The disk of a layer below, for what the layer leaves to it; once for each, nearest first.
    ///
    /// Directories that no entry describes are as they are there, symbolic links there are
    /// followed, and files there that hard links lead to are copied into this layer. DISK is
    /// one that this program made, a VHD, a VHDX or a raw image.
    #[arg(long, value_name = "DISK", value_hint = ValueHint::FilePath)]
    #[arg(conflicts_with = "bottom_layer")]
    pub lower: Vec<PathBuf>,

    /// Round the disk up to a multiple of SIZE; Azure takes whole MiB and at least 20MiB.
    #[arg(long, value_name = "SIZE", value_parser = size)]
    pub align: Option<u64>,

    /// Make a file system to be written to, with free blocks and inodes, on a disk of --size or
    /// with room as --free says.
    #[arg(long, requires = "room", conflicts_with_all = ["verity", "verity_separate"])]
    pub writable: bool,

    /// Bytes of the disk of a writable file system.
    #[arg(long, value_name = "SIZE", value_parser = size, requires = "writable", group = "room")]
    #[arg(conflicts_with_all = ["free", "max_size", "align"])]
    pub size: Option<u64>,

    /// Make a writable file system as large as its contents need and SIZE of free space.
    ///
    /// That is what root can write. Of all blocks of the file system, 5 of 100 are for root
    /// alone, as mke2fs has it.
    #[arg(long, value_name = "SIZE", value_parser = size, requires = "writable", group = "room")]
    pub free: Option<u64>,

    /// Give a writable file system a journal, as large as mke2fs makes it.
    #[arg(long, requires = "writable")]
    pub journal: bool,

    /// The least number of inodes of a writable file system; as many as mke2fs makes if not
    /// given: one for every 16 KiB, or 4 KiB of a disk of less than 512 MiB.
    #[arg(long, value_name = "N", requires = "writable")]
    pub inodes: Option<u64>,

    /// Keep small files inside their inodes; not for DAX mounts.
    #[arg(long)]
    pub inline_data: bool,

    /// Write file blocks that are all zero instead of leaving holes.
    #[arg(long)]
    pub keep_zeros: bool,

    /// Put a dm-verity hash tree behind the file system.
    #[arg(long)]
    pub verity: bool,

    /// The salt of the hash tree in hexadecimal digits, - for none; 32 zero bytes by default.
    #[arg(long, value_name = "HEX", requires = "verity", value_parser = salt)]
    pub verity_salt: Option<Salt>,

    /// The UUID of the hash tree; by default it follows from what is hashed.
    #[arg(long, value_name = "UUID", requires = "verity", value_parser = uuid)]
    pub verity_uuid: Option<[u8; 16]>,

    /// Write the hash tree to FILE, not to the disk: nothing or a regular file may be there.
    #[arg(long, value_name = "FILE", requires = "verity", value_hint = ValueHint::FilePath)]
    #[arg(value_parser = OsStringValueParser::new().try_map(output))]
    pub verity_separate: Option<PathBuf>,

    /// Fail unless the uncompressed layer has this digest.
    #[arg(long, value_name = "DIGEST")]
    pub expect_diff_id: Option<Digest>,

    /// Fail unless the layer as it comes in has this digest.
    #[arg(long, value_name = "DIGEST")]
    pub expect_digest: Option<Digest>,

    /// Fail unless the layer as it comes in has this many bytes.
    #[arg(long, value_name = "SIZE", value_parser = size)]
    pub expect_size: Option<u64>,

    /// How many threads to use; 0 for as many as the machine has.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub threads: usize,

    /// Fail if something is at OUTPUT already, or at the file of --verity-separate.
    #[arg(long)]
    pub no_clobber: bool,

    /// Do not wait for stable storage: for output that may be lost in a crash.
    #[arg(long)]
    pub no_fsync: bool,

    /// Print the summary as one JSON object on standard output.
    ///
    /// In its paths of entries a backslash is written \\, and a byte that is not UTF-8 \xNN.
    #[arg(short, long)]
    pub json: bool,

    /// Tell how long each stage of the conversion worked and waited.
    #[arg(long)]
    pub timings: bool,

    /// Print no progress, summary or warnings; errors are always printed.
    #[arg(short, long)]
    pub quiet: bool,

    /// Whether to show progress; auto: when standard error is a terminal.
    #[arg(long, value_name = "WHEN", value_enum, default_value_t)]
    pub progress: When,
}

/// Tell what a disk holds and whether its checksums hold.
///
/// DISK is a VHD, a VHDX or a raw image with an ext4 file system. If a checksum is wrong, or
/// the counts of free blocks or inodes are, or the structures of the format, that is an error.
#[derive(Debug, clap::Args)]
pub(crate) struct Inspect {
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

/// Check disks to the bottom.
///
/// DISK is a VHD, a VHDX or a raw image with an ext4 file system, made by whatever program.
/// Its structures are checked and held against one another, like e2fsck -fn does; nothing is
/// written. Exit status 0 says that nothing is wrong with any of the disks. 1 says that
/// something is, could not be checked, or that a journal has to be replayed first: the verdict
/// says which.
#[derive(Debug, clap::Args)]
pub(crate) struct Verify {
    /// The disks.
    #[arg(value_name = "DISK", required = true, value_hint = ValueHint::FilePath)]
    pub disks: Vec<PathBuf>,

    /// The format of the disks: known by their contents, or raw whatever these are.
    #[arg(long, value_name = "FORMAT", value_enum, default_value_t)]
    pub input_format: InputFormat,

    /// Check every block against the dm-verity tree behind the file system, of this root hash.
    ///
    /// 64 hexadecimal digits, with or without sha256: in front. It is of one disk.
    #[arg(long, value_name = "DIGEST", value_parser = root_hash)]
    pub root_hash: Option<Digest>,

    /// Take the dm-verity tree from this file, as --verity-separate of convert writes it.
    #[arg(long, value_name = "FILE", requires = "root_hash", value_hint = ValueHint::FilePath)]
    pub hash_device: Option<PathBuf>,

    /// Print a JSON object for each disk, on a line of its own.
    ///
    /// In its paths a backslash is written \\, and a byte that is not UTF-8 \xNN.
    #[arg(short, long)]
    pub json: bool,
}

/// Print the dm-verity root hashes of the disks that layers would be, and write no disk.
///
/// INPUT is a layer, or an image with all its layers, the lowest first: an OCI layout, what
/// `docker save` writes, or skopeo's `dir:`, a directory or a plain tar. A line has the root hash
/// and INPUT, of an image the layer's diff ID as well. The layers have to be what the image says
/// they are. A layer that leaves directories or targets of hard links to those below it is taken
/// with these, as convert --lower does; that makes disks of them for a while, in the directory for
/// temporary files.
#[derive(Debug, clap::Args)]
pub(crate) struct Roothash {
    /// Layers and images; '-' for a layer on standard input.
    #[arg(value_name = "INPUT", required = true, value_hint = ValueHint::AnyPath)]
    pub inputs: Vec<PathBuf>,

    /// Of several images, the one that is meant: its name, the end of that from a slash or colon
    /// on, or the digest of its manifest. Needed if there are several for the platform.
    #[arg(long, value_name = "TAG")]
    pub tag: Option<String>,

    /// Of an image for several platforms, the one that is meant, OS/ARCHITECTURE[/VARIANT];
    /// by default Linux on this machine's processor, else linux/amd64.
    #[arg(long, value_name = "PLATFORM")]
    pub platform: Option<Platform>,

    /// Whose file system the disk has.
    #[arg(long, value_parser = named::profile(), default_value_t)]
    pub profile: Profile,

    /// Reproduce what hcsshim gets wrong, with a warning each, instead of refusing it.
    #[arg(long)]
    pub faithful: bool,

    /// Keep .wh. names as plain files, not as overlayfs's whiteouts.
    #[arg(long)]
    pub no_whiteouts: bool,

    /// The largest disk; space for group descriptors is reserved accordingly.
    #[arg(long, value_name = "SIZE", default_value = "128GiB", value_parser = size)]
    pub max_size: u64,

    /// Keep small files inside their inodes.
    #[arg(long)]
    pub inline_data: bool,

    /// The salt of the hash tree in hexadecimal digits, - for none; 32 zero bytes by default.
    #[arg(long, value_name = "HEX", value_parser = salt)]
    pub verity_salt: Option<Salt>,

    /// How many threads to use; 0 for as many as the machine has.
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub threads: usize,

    /// Print one JSON object for each INPUT.
    #[arg(short, long)]
    pub json: bool,

    /// Print no warnings.
    #[arg(short, long)]
    pub quiet: bool,
}

/// The compression that a media type promises; none if it promises nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct MediaType(pub Option<Compression>);

fn media_type(text: &str) -> Result<MediaType, MediaTypeError> {
    layer_compression(text).map(MediaType)
}

/// 64 hexadecimal digits, as veritysetup has them.
fn root_hash(text: &str) -> Result<Digest, String> {
    let digits = text.to_lowercase();
    let digits = digits.strip_prefix("sha256:").unwrap_or(&digits);
    format!("sha256:{digits}")
        .parse()
        .map_err(|e: tar2vhd::ParseDigestError| e.to_string())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use clap::CommandFactory;

    use super::*;

    fn convert(arguments: &[&str]) -> Result<Convert, clap::Error> {
        let all = ["tar2vhd", "convert"].iter().chain(arguments);
        Args::try_parse_from(all).map(|args| match args.command {
            Command::Convert(convert) => *convert,
            other => panic!("{other:?}"),
        })
    }

    #[test]
    fn the_definitions_agree_with_themselves() {
        Args::command().debug_assert();
    }

    #[test]
    fn defaults_are_the_librarys() {
        let args = convert(&["-o", "x"]).unwrap();
        assert_eq!(args.max_size, 128 << 30);
        assert_eq!(args.max_entries, 1 << 26);
        assert_eq!(args.max_window, 128 << 20);
        assert_eq!(args.align, None);
        assert_eq!(args.threads, 0);
        assert_eq!(args.format, None);
    }

    #[test]
    fn salts_are_pairs_of_digits() {
        assert_eq!(salt("-"), Ok(Salt(vec![])));
        assert_eq!(salt("00fFa1"), Ok(Salt(vec![0, 0xff, 0xa1])));
        assert_eq!(salt(&"7f".repeat(256)).unwrap().0.len(), 256);
        for text in ["", "0", "0g", "+1", "00 1", "\u{e4}", &"00".repeat(257)] {
            salt(text).unwrap_err();
        }
    }

    #[test]
    fn standard_output_is_refused_by_name() {
        let error = convert(&["-o", "-"]).unwrap_err().to_string();
        assert!(error.contains("cannot go to standard output"), "{error}");
        assert_eq!(convert(&["-o", "./-"]).unwrap().to.path(), Path::new("./-"));
        let error = convert(&["layer", "-"]).unwrap_err().to_string();
        assert!(error.contains("cannot go to standard output"), "{error}");
        let args = convert(&["layer", "disk"]).unwrap();
        assert_eq!(args.to.path(), Path::new("disk"));
        assert_eq!(args.input, Some("layer".into()));
        assert_eq!(convert(&["-", "-o", "x"]).unwrap().input, Some("-".into()));
    }
}
