use std::fmt;
use std::sync::Arc;

use crate::cancel::CancelToken;
use crate::disk::DiskFormat;
use crate::error::{Error, ErrorKind, Result};
use crate::ext4::capacity::{Capacity, FreeSpace};
use crate::ext4::format::{BLOCK_SIZE, MAX_BLOCKS};
use crate::ext4::writable::{self, SIZE_MAX};
use crate::layer::{Inflater, Reading};
use crate::lower::LowerLayers;
use crate::names::names;
use crate::summary::{Compression, Digest};
use crate::timings::Timings;
use crate::verity::Verity;

/// The kind of file system to write.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Profile {
    /// An ext4 with today's features.
    #[default]
    Default,
    /// Byte for byte what hcsshim's tar2ext4 writes, whose root hash the policies of
    /// confidential containers name. Entries are read by its rules: links before their targets
    /// and most paths that come twice are errors, parents that no entry describes are like
    /// their parents, there is `lost+found`. What it gets wrong is refused; see
    /// [`Options::faithful`].
    Hcsshim,
}

names!(Profile, "profile", {
    Default = "default",
    Hcsshim = "hcsshim",
});

/// How far a conversion has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Progress {
    /// Bytes read of the input, compressed as it is.
    pub input_bytes: u64,
    /// Bytes of the uncompressed layer.
    pub layer_bytes: u64,
    /// Tar entries placed.
    pub entries: u64,
}

type ProgressCallback = Arc<dyn Fn(Progress) + Send + Sync>;

/// How a layer becomes a disk.
///
/// ```
/// let options = tar2vhd::Options::new().max_size(1 << 30).threads(1);
/// ```
#[derive(Clone)]
#[must_use]
pub struct Options {
    pub(crate) format: DiskFormat,
    pub(crate) profile: Profile,
    pub(crate) faithful: bool,
    pub(crate) whiteouts: bool,
    pub(crate) max_size: u64,
    pub(crate) max_entries: u64,
    pub(crate) max_window: u64,
    pub(crate) compression: Option<Compression>,
    pub(crate) inflater: Inflater,
    pub(crate) bottom_layer: bool,
    pub(crate) allow_empty: bool,
    pub(crate) align: u64,
    pub(crate) writable: Option<u64>,
    pub(crate) free: Option<u64>,
    pub(crate) journal: bool,
    pub(crate) inodes: u64,
    pub(crate) inline_data: bool,
    pub(crate) keep_zeros: bool,
    pub(crate) verity: Option<Verity>,
    pub(crate) expect_diff_id: Option<Digest>,
    pub(crate) expect_digest: Option<Digest>,
    pub(crate) expect_size: Option<u64>,
    pub(crate) time: u64,
    pub(crate) threads: usize,
    pub(crate) fsync: bool,
    pub(crate) progress: Option<ProgressCallback>,
    pub(crate) cancel: CancelToken,
    pub(crate) timings: Timings,
    pub(crate) lower: Option<Arc<dyn LowerLayers>>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            format: DiskFormat::Vhd,
            profile: Profile::Default,
            faithful: false,
            whiteouts: true,
            max_size: 128 << 30,
            max_entries: 1 << 26,
            max_window: 128 << 20,
            compression: None,
            inflater: Inflater::Own,
            bottom_layer: false,
            allow_empty: false,
            align: 0,
            writable: None,
            free: None,
            journal: false,
            inodes: 0,
            inline_data: false,
            keep_zeros: false,
            verity: None,
            expect_diff_id: None,
            expect_digest: None,
            expect_size: None,
            time: 0,
            threads: 0,
            fsync: true,
            progress: None,
            cancel: CancelToken::new(),
            timings: Timings::new(),
            lower: None,
        }
    }
}

impl Options {
    /// The defaults: a fixed VHD of at most 128 GiB, whiteouts in overlayfs's form.
    pub fn new() -> Self {
        Self::default()
    }

    /// The disk format; default [`DiskFormat::Vhd`].
    pub fn format(mut self, format: DiskFormat) -> Self {
        self.format = format;
        self
    }

    /// The kind of file system; default [`Profile::Default`].
    pub fn profile(mut self, profile: Profile) -> Self {
        self.profile = profile;
        self
    }

    /// With [`Profile::Hcsshim`]: reproduces what hcsshim gets wrong, as a policy may name it,
    /// with a warning each, instead of refusing it. What makes a damaged file system stays
    /// refused.
    pub fn faithful(mut self, faithful: bool) -> Self {
        self.faithful = faithful;
        self
    }

    /// Whether `.wh.` names become overlayfs's whiteouts and opaque marks (the default) or
    /// stay plain files.
    pub fn whiteouts(mut self, whiteouts: bool) -> Self {
        self.whiteouts = whiteouts;
        self
    }

    /// The most bytes the disk may take, footer and hash tree not counted; default 128 GiB.
    ///
    /// Block group descriptors are reserved for this size, 32 bytes for every 128 MiB.
    pub fn max_size(mut self, bytes: u64) -> Self {
        self.max_size = bytes;
        self
    }

    /// The most tar entries; default 2^26.
    pub fn max_entries(mut self, entries: u64) -> Self {
        self.max_entries = entries;
        self
    }

    /// The largest zstd window in bytes, of which the decoder needs twice the memory; default
    /// 128 MiB.
    pub fn max_window(mut self, bytes: u64) -> Self {
        self.max_window = bytes;
        self
    }

    /// The compression that the input must have; by default any is accepted.
    pub fn compression(mut self, compression: Compression) -> Self {
        self.compression = Some(compression);
        self
    }

    /// The decoder of gzip; default [`Inflater::Own`].
    pub fn inflater(mut self, inflater: Inflater) -> Self {
        self.inflater = inflater;
        self
    }

    /// Says that there is no layer below: whiteouts and opaque marks hide nothing and are
    /// left out.
    pub fn bottom_layer(mut self, bottom: bool) -> Self {
        self.bottom_layer = bottom;
        self
    }

    /// Takes an input of no bytes for an empty layer, with a warning, instead of an error.
    pub fn allow_empty(mut self, allow: bool) -> Self {
        self.allow_empty = allow;
        self
    }

    /// Rounds the disk's virtual size up to a multiple of so many bytes, a multiple of 4,096
    /// itself; 0, the default, for none. Azure takes whole MiB and at least 20 MiB.
    pub fn align(mut self, bytes: u64) -> Self {
        self.align = bytes;
        self
    }

    /// Makes a file system to be written to, such as the root of a microVM.
    ///
    /// It has free blocks and inodes, `lost+found`, and copies of its superblock.
    pub fn writable(mut self, writable: Writable) -> Self {
        let Writable {
            room,
            inodes,
            journal,
        } = writable;
        (self.writable, self.free) = match room {
            Room::Size(bytes) => (Some(bytes), None),
            Room::Free(bytes) => (None, Some(bytes)),
        };
        (self.inodes, self.journal) = (inodes, journal);
        self
    }

    /// Keeps small files inside their inodes. Not for DAX mounts.
    pub fn inline_data(mut self, inline: bool) -> Self {
        self.inline_data = inline;
        self
    }

    /// Writes file blocks that are all zero instead of leaving holes.
    pub fn keep_zeros(mut self, keep: bool) -> Self {
        self.keep_zeros = keep;
        self
    }

    /// Puts a dm-verity superblock and hash tree behind the file system, which is hashed as it
    /// is written.
    ///
    /// That takes 32 bytes of memory for each block of the file system that is not zero, and
    /// 0.8 % more room on the disk, which [`max_size`](Self::max_size) does not count.
    pub fn verity(mut self, verity: Verity) -> Self {
        self.verity = Some(verity);
        self
    }

    /// Fails unless the uncompressed layer has this digest.
    pub fn expect_diff_id(mut self, digest: Digest) -> Self {
        self.expect_diff_id = Some(digest);
        self
    }

    /// Fails unless the input as it comes in has this digest.
    pub fn expect_digest(mut self, digest: Digest) -> Self {
        self.expect_digest = Some(digest);
        self
    }

    /// Fails unless the input as it comes in has this many bytes.
    pub fn expect_size(mut self, bytes: u64) -> Self {
        self.expect_size = Some(bytes);
        self
    }

    /// The time of the file system and the disk themselves in seconds since 1970, as
    /// `SOURCE_DATE_EPOCH` gives it; default 0. The times of files come from the tar alone.
    pub fn time(mut self, seconds: u64) -> Self {
        self.time = seconds;
        self
    }

    /// The number of threads; 0, the default, for as many as the machine has. More than 16 are
    /// not used, because they would not help. The output does not depend on it.
    ///
    /// If the system refuses a thread that is needed, the conversion fails with
    /// [`ErrorKind::Limit`](crate::ErrorKind::Limit).
    ///
    /// From four on, parts of a compressed layer that can be decoded by themselves are decoded
    /// two at a time: gzip members as bgzip and eStargz have them, blocks of
    /// `pigz --independent`, zstd frames as pzstd and zstd:chunked have them.
    pub fn threads(mut self, threads: usize) -> Self {
        self.threads = threads;
        self
    }

    /// Whether [`convert_file`](crate::convert_file) waits until the file and its directory
    /// are on stable storage; default yes. With more than one thread it begins to while the
    /// layer is converted.
    pub fn fsync(mut self, fsync: bool) -> Self {
        self.fsync = fsync;
        self
    }

    /// Calls back after every chunk of the input, on a thread of the conversion.
    pub fn progress(mut self, callback: impl Fn(Progress) + Send + Sync + 'static) -> Self {
        self.progress = Some(Arc::new(callback));
        self
    }

    /// Lets another thread stop the conversion.
    pub fn cancel(mut self, token: CancelToken) -> Self {
        self.cancel = token;
        self
    }

    /// Measures where the time of the conversion goes.
    pub fn timings(mut self, timings: Timings) -> Self {
        self.timings = timings;
        self
    }

    /// Asks the layers below about parents that the layer does not describe, and about targets
    /// of hard links that it has not.
    pub fn lower_layers(mut self, lower: impl LowerLayers + 'static) -> Self {
        self.lower = Some(Arc::new(lower));
        self
    }
}

impl Options {
    /// The reading of the tar that belongs to the profile.
    pub(crate) fn reading(&self) -> Reading {
        match self.profile {
            Profile::Default => Reading::Full,
            Profile::Hcsshim => Reading::Go,
        }
    }

    /// Refuses options that contradict each other or are out of range.
    pub(crate) fn check(&self) -> Result<()> {
        const BLOCK: u64 = BLOCK_SIZE as u64;
        self.verity.as_ref().map_or(Ok(()), Verity::check)?;
        let wrong = |message: String| Err(Error::new(ErrorKind::InvalidOptions, message));
        if self.faithful && self.profile != Profile::Hcsshim {
            return wrong("only hcsshim's profile has errors to be faithful to".into());
        }
        let contradicts = [
            (self.bottom_layer, "bottom layers"),
            (self.keep_zeros, "blocks of zeros, which it always keeps"),
            (self.lower.is_some(), "layers below"),
            (self.is_writable(), "file systems to be written to"),
        ];
        if self.profile == Profile::Hcsshim
            && let Some((_, what)) = contradicts.iter().find(|(given, _)| *given)
        {
            return wrong(format!("hcsshim's profile has no option for {what}"));
        }
        if self.bottom_layer && self.lower.is_some() {
            return wrong("a bottom layer has no layers below".into());
        }
        let most = most_bytes(self.format);
        if self.max_size > most {
            let max_size = self.max_size;
            return wrong(format!(
                "a maximum size of {max_size} bytes; the format holds {most} at most"
            ));
        }
        if self.max_size < MIN_SIZE {
            let max_size = self.max_size;
            return wrong(format!(
                "a maximum size of {max_size} bytes; an empty file system takes {MIN_SIZE}"
            ));
        }
        if !self.align.is_multiple_of(BLOCK) {
            let align = self.align;
            return wrong(format!(
                "an alignment of {align} bytes, not a multiple of {BLOCK}"
            ));
        }
        if self.writable.is_some() && (self.align > 0 || self.verity.is_some()) {
            return wrong("a writable file system has its size, and no hash tree".into());
        }
        if let Some(size) = self.writable {
            check_size(self.format, size)?;
        }
        self.check_free()?;
        check_time(self.time)
    }

    fn check_free(&self) -> Result<()> {
        let wrong = |message: String| Err(Error::new(ErrorKind::InvalidOptions, message));
        let Some(free) = self.free else {
            return Ok(());
        };
        if self.verity.is_some() {
            return wrong("a writable file system has no hash tree".into());
        }
        let (inodes, max_size) = (self.inodes, self.max_size);
        if inodes > u32::MAX.into() {
            let most = u32::MAX;
            return wrong(format!("{inodes} inodes; a file system has {most} at most"));
        }
        if free > max_size {
            return wrong(format!(
                "{free} bytes of free space; the maximum size is {max_size}"
            ));
        }
        Ok(())
    }

    /// Whether the file system is to be written to.
    pub(crate) fn is_writable(&self) -> bool {
        self.writable.is_some() || self.free.is_some()
    }

    /// How large a writable file system is to be.
    pub(crate) fn capacity(&self) -> Result<Option<Capacity>> {
        if let Some(size) = self.writable {
            let writable = writable::Writable::new(size, self.inodes, self.journal, "")?;
            return Ok(Some(Capacity::Fixed(writable)));
        }
        const BLOCK: u64 = BLOCK_SIZE as u64;
        Ok(self.free.map(|bytes| {
            Capacity::Free(FreeSpace {
                blocks: bytes.div_ceil(BLOCK),
                inodes: self.inodes,
                journal: self.journal,
                align: self.align / BLOCK,
            })
        }))
    }
}

/// How a file system to be written to is made: as large as is said, or as its contents need.
///
/// ```
/// use tar2vhd::{Options, Writable};
///
/// let root = Writable::with_free(512 << 20).journal(true);
/// let options = Options::new().writable(root);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub struct Writable {
    room: Room,
    inodes: u64,
    journal: bool,
}

/// How large a file system is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Room {
    /// Bytes of the disk.
    Size(u64),
    /// Bytes beside the contents.
    Free(u64),
}

impl Writable {
    fn new(room: Room) -> Self {
        Self {
            room,
            inodes: 0,
            journal: false,
        }
    }

    /// On a disk of so many bytes: a multiple of 4,096 from 1 MiB to 64 TiB, or 2,040 GiB as VHD.
    ///
    /// What [`Options::max_size`] says is of no meaning then.
    pub fn of_size(bytes: u64) -> Self {
        Self::new(Room::Size(bytes))
    }

    /// As large as the contents need and so many bytes more, rounded up to whole blocks.
    ///
    /// So many are free at least, as `statfs` counts them for root (`f_bfree`), what tables and
    /// journal take not among them. Of all blocks of the file system 5 of 100 are for root alone
    /// and 2 of 100 (16 MiB at most) for the kernel, so that `f_bavail` is less. Free inodes are as
    /// many at least as mke2fs would make for so many bytes, and if a group of 128 MiB more is
    /// needed for them, it is there. [`Options::max_size`] bounds the disk, [`Options::align`]
    /// rounds it up.
    pub fn with_free(bytes: u64) -> Self {
        Self::new(Room::Free(bytes))
    }

    /// Whether there is a journal, as large as mke2fs makes it; default no. It needs 8 MiB at
    /// least.
    pub fn journal(mut self, journal: bool) -> Self {
        self.journal = journal;
        self
    }

    /// The least number of inodes; 0, the default, for as many as mke2fs makes: one for every 4 KiB
    /// of a disk of less than 512 MiB (8 KiB below 3 MiB), 16 KiB of a larger one, 32 KiB above
    /// 4 TiB, 64 KiB above 16 TiB.
    pub fn inodes(mut self, inodes: u64) -> Self {
        self.inodes = inodes;
        self
    }
}

/// Options of an empty, writable file system.
///
/// ```
/// let options = tar2vhd::scratch::ScratchOptions::new().size(1 << 30).label("scratch");
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct ScratchOptions {
    pub(crate) size: u64,
    pub(crate) block_size: u32,
    pub(crate) format: DiskFormat,
    pub(crate) journal: bool,
    pub(crate) label: String,
    pub(crate) uuid: Option<[u8; 16]>,
    pub(crate) inodes: u64,
    pub(crate) compat: bool,
    pub(crate) time: u64,
    pub(crate) fsync: bool,
    pub(crate) cancel: CancelToken,
}

impl Default for ScratchOptions {
    fn default() -> Self {
        Self {
            size: 20 << 30,
            block_size: 1 << 20,
            format: DiskFormat::Vhdx,
            journal: false,
            label: String::new(),
            uuid: None,
            inodes: 0,
            compat: false,
            time: 0,
            fsync: true,
            cancel: CancelToken::new(),
        }
    }
}

impl ScratchOptions {
    /// The defaults: a dynamic VHDX of 20 GiB in blocks of 1 MiB, without a journal.
    pub fn new() -> Self {
        Self::default()
    }

    /// Bytes of the disk that a guest sees: a multiple of 4,096, at least 1 MiB, at most
    /// 64 TiB, or 2,040 GiB as VHD; default 20 GiB.
    ///
    /// A last group of 128 MiB that would hold little stays unused.
    pub fn size(mut self, bytes: u64) -> Self {
        self.size = bytes;
        self
    }

    /// Bytes of a block of a dynamic disk, the unit in which its file grows: a power of two,
    /// of a VHDX from 1 to 256 MiB, of a VHD from 4 KiB to 256 MiB; default 1 MiB.
    pub fn block_size(mut self, bytes: u32) -> Self {
        self.block_size = bytes;
        self
    }

    /// The disk format; default [`DiskFormat::Vhdx`].
    pub fn format(mut self, format: DiskFormat) -> Self {
        self.format = format;
        self
    }

    /// Whether there is a journal, as large as mke2fs makes it; default no. It needs 8 MiB at
    /// least.
    pub fn journal(mut self, journal: bool) -> Self {
        self.journal = journal;
        self
    }

    /// The label: at most 16 bytes, none of them zero; default none.
    pub fn label(mut self, label: impl Into<String>) -> Self {
        self.label = label.into();
        self
    }

    /// The UUID, in the order of its text; by default it follows from the other options, so
    /// that equal options give equal bytes, and equal UUIDs.
    pub fn uuid(mut self, uuid: [u8; 16]) -> Self {
        self.uuid = Some(uuid);
        self
    }

    /// The least number of inodes; 0, the default, for as many as mke2fs makes: one for
    /// every 4 KiB of a disk of less than 512 MiB (8 KiB below 3 MiB), 16 KiB of a larger one,
    /// 32 KiB above 4 TiB, 64 KiB above 16 TiB.
    pub fn inodes(mut self, inodes: u64) -> Self {
        self.inodes = inodes;
        self
    }

    /// Leaves out what kernels before 4.14 may lack, which is `metadata_csum_seed`; default no.
    pub fn compat(mut self, compat: bool) -> Self {
        self.compat = compat;
        self
    }

    /// The time of the file system and the disk in seconds since 1970; default 0.
    pub fn time(mut self, seconds: u64) -> Self {
        self.time = seconds;
        self
    }

    /// Whether [`create_file`](crate::scratch::create_file) waits until the file and its directory
    /// are on stable storage; default yes.
    pub fn fsync(mut self, fsync: bool) -> Self {
        self.fsync = fsync;
        self
    }

    /// Lets another thread stop the work.
    pub fn cancel(mut self, token: CancelToken) -> Self {
        self.cancel = token;
        self
    }
}

/// The most bytes of a file system in a disk of this format.
pub(crate) fn most_bytes(format: DiskFormat) -> u64 {
    match format {
        DiskFormat::Vhd | DiskFormat::VhdDynamic => vhd_format::vhd::MAX_VIRTUAL_SIZE,
        DiskFormat::Vhdx | DiskFormat::VhdxFixed | DiskFormat::Raw => {
            MAX_BLOCKS * BLOCK_SIZE as u64
        }
    }
}

/// Refuses a size that a format does not hold, beside those that no file system has.
pub(crate) fn check_size(format: DiskFormat, size: u64) -> Result<()> {
    let most = match format {
        DiskFormat::Vhd | DiskFormat::VhdDynamic => vhd_format::vhd::MAX_VIRTUAL_SIZE,
        DiskFormat::Vhdx | DiskFormat::VhdxFixed | DiskFormat::Raw => SIZE_MAX,
    };
    if size > most {
        return Err(Error::new(
            ErrorKind::InvalidOptions,
            format!("a size of {size} bytes; the format holds {most} at most"),
        ));
    }
    Ok(())
}

/// Refuses a time that a superblock does not hold.
pub(crate) fn check_time(time: u64) -> Result<()> {
    if time > MAX_TIME {
        return Err(Error::new(
            ErrorKind::InvalidOptions,
            format!("a time of {time} seconds; a superblock holds {MAX_TIME}"),
        ));
    }
    Ok(())
}

/// Superblock, descriptors, the root directory, its inode and bitmaps, and as many blocks as
/// a group needs beside its inode table.
const MIN_SIZE: u64 = 8 * BLOCK_SIZE as u64;

/// The superblock's times have 40 bits.
const MAX_TIME: u64 = (1 << 40) - 1;

/// All fields; of callbacks and layers below whether there are any.
impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            format,
            profile,
            faithful,
            whiteouts,
            max_size,
            max_entries,
            max_window,
            compression,
            inflater,
            bottom_layer,
            allow_empty,
            align,
            writable,
            free,
            journal,
            inodes,
            inline_data,
            keep_zeros,
            verity,
            expect_diff_id,
            expect_digest,
            expect_size,
            time,
            threads,
            fsync,
            progress,
            cancel,
            timings,
            lower,
        } = self;
        f.debug_struct("Options")
            .field("format", format)
            .field("profile", profile)
            .field("faithful", faithful)
            .field("whiteouts", whiteouts)
            .field("max_size", max_size)
            .field("max_entries", max_entries)
            .field("max_window", max_window)
            .field("compression", compression)
            .field("inflater", inflater)
            .field("bottom_layer", bottom_layer)
            .field("allow_empty", allow_empty)
            .field("align", align)
            .field("writable", writable)
            .field("free", free)
            .field("journal", journal)
            .field("inodes", inodes)
            .field("inline_data", inline_data)
            .field("keep_zeros", keep_zeros)
            .field("verity", verity)
            .field("expect_diff_id", expect_diff_id)
            .field("expect_digest", expect_digest)
            .field("expect_size", expect_size)
            .field("time", time)
            .field("threads", threads)
            .field("fsync", fsync)
            .field("progress", &progress.is_some())
            .field("cancel", cancel)
            .field("timings", timings)
            .field("lower", &lower.is_some())
            .finish()
    }
}
