//! `tar2vhd convert`.

pub(crate) mod report;

use std::env::{self, VarError};
use std::io::{self, IsTerminal};
use std::path::{Path, PathBuf};

use tar2vhd::disk::{Discard, DiskFile, FileId};
use tar2vhd::lower::LowerDisks;
use tar2vhd::timings::Timings;
use tar2vhd::{CancelToken, DiskFormat, Options, Profile, Writable};

use crate::args::{Convert, MediaType, When, verity};
use crate::failure::Failure;
use crate::input::{self, Input};
use crate::output;
use crate::progress::Display;
use crate::signals::Signals;
use crate::standard;

pub(crate) fn run(args: Convert) -> Result<(), Failure> {
    if args.quiet && args.progress == When::Always {
        return Err(Failure::usage("--quiet contradicts --progress always"));
    }
    if args.quiet && args.timings && !args.json {
        return Err(Failure::usage(
            "--quiet contradicts --timings without --json",
        ));
    }
    let input = args.input.clone().filter(|path| *path != Path::new("-"));
    if args.input.is_none() && io::stdin().is_terminal() {
        return Err(Failure::usage(
            "no INPUT is named, and standard input is a terminal",
        ));
    }
    let format = output::choose_format(args.format, &args.to, DiskFormat::Vhd, args.quiet);
    let options = options(&args)?.format(format);

    let signals = Signals::catch()?;
    let mut files = Files::create(&args)?;
    // A missing file is reported when it is opened.
    let source = match &input {
        None => standard::input(),
        Some(path) => FileId::at(path).ok(),
    };
    if let Some(source) = source {
        files.keep(source, "the input")?;
    }
    for lower in &args.lower {
        if let Ok(id) = FileId::at(lower) {
            files.keep(id, "the disk of a layer below")?;
        }
    }
    let discard = files.discard_handles();
    let cancel = CancelToken::new();
    let display = Display::new(args.progress, args.quiet);
    let result = {
        let display = display.clone();
        let shown = display.clone();
        let options = options
            .cancel(cancel.clone())
            .progress(move |progress| shown.show_entries(progress));
        signals.supervise(&cancel, &discard, move || {
            work(input, files, &options, &args, format, &display)
        })
    };
    display.clear();
    result
}

/// The files that appear when all went well.
struct Files {
    disk: DiskFile,
    hash_device: Option<DiskFile>,
}

impl Files {
    fn create(args: &Convert) -> Result<Self, Failure> {
        let create = |path: &Path| match args.no_clobber {
            true => DiskFile::create_new(path),
            false => DiskFile::create(path),
        };
        let mut disk = create(args.to.path())?;
        if !args.no_fsync && args.threads != 1 {
            disk.sync_early();
        }
        let hash_device = args.verity_separate.as_deref().map(create);
        let hash_device = hash_device.transpose()?;
        if let Some(hash_device) = &hash_device {
            disk.keep_other(hash_device, "the file of --verity-separate")?;
        }
        let mut files = Self { disk, hash_device };
        if args.json {
            files.all_mut().try_for_each(standard::keep_output)?;
        }
        Ok(files)
    }

    /// Refuses to replace what is read.
    fn keep(&mut self, source: FileId, what: &'static str) -> Result<(), Failure> {
        let keep = |file: &mut DiskFile| file.keep(source, what);
        Ok(self.all_mut().try_for_each(keep)?)
    }

    fn all_mut(&mut self) -> impl Iterator<Item = &mut DiskFile> {
        self.hash_device.iter_mut().chain([&mut self.disk])
    }

    fn all(&self) -> impl Iterator<Item = &DiskFile> {
        self.hash_device.iter().chain([&self.disk])
    }

    fn discard_handles(&self) -> Vec<Discard> {
        self.all().map(DiskFile::discard_handle).collect()
    }

    fn sync(&self) -> Result<(), Failure> {
        Ok(self.all().try_for_each(DiskFile::sync)?)
    }

    /// The disk last: where it stands, its hash tree does.
    fn publish(self, fsync: bool) -> Result<(), Failure> {
        if let Some(hash_device) = self.hash_device {
            hash_device.publish(fsync)?;
        }
        Ok(self.disk.publish(fsync)?)
    }
}

fn options(args: &Convert) -> Result<Options, Failure> {
    let mut options = Options::new()
        .profile(args.profile)
        .faithful(args.faithful)
        .whiteouts(!args.no_whiteouts)
        .max_size(args.max_size)
        .max_entries(args.max_entries)
        .max_window(args.max_window)
        .inflater(args.inflater)
        .bottom_layer(args.bottom_layer)
        .align(args.align.unwrap_or(0))
        .inline_data(args.inline_data)
        .keep_zeros(args.keep_zeros)
        .threads(args.threads)
        .fsync(!args.no_fsync);
    if let Some(writable) = writable(args.size, args.free) {
        let inodes = args.inodes.unwrap_or(0);
        options = options.writable(writable.journal(args.journal).inodes(inodes));
    }
    if !args.lower.is_empty() {
        if args.profile == Profile::Hcsshim {
            return Err(Failure::usage(
                "--lower is not for --profile hcsshim, whose layers do not depend on others",
            ));
        }
        options = options.lower_layers(LowerDisks::open(&args.lower)?);
    }
    if let Some(MediaType(Some(compression))) = args.media_type {
        options = options.compression(compression);
    }
    if let Some(digest) = args.expect_diff_id {
        options = options.expect_diff_id(digest);
    }
    if let Some(digest) = args.expect_digest {
        options = options.expect_digest(digest);
    }
    if let Some(size) = args.expect_size {
        options = options.expect_size(size);
    }
    if args.verity {
        options = options.verity(verity(args.verity_salt.as_ref(), args.verity_uuid));
    }
    if let Some(seconds) = source_date_epoch()? {
        options = options.time(seconds);
    }
    Ok(options)
}

/// The file system to be written to that --size or --free asks for, of which there is one.
pub(crate) fn writable(size: Option<u64>, free: Option<u64>) -> Option<Writable> {
    let sized = size.map(Writable::of_size);
    sized.or_else(|| free.map(Writable::with_free))
}

/// The time that <https://reproducible-builds.org/specs/source-date-epoch/> sets.
pub(crate) fn source_date_epoch() -> Result<Option<u64>, Failure> {
    const NAME: &str = "SOURCE_DATE_EPOCH";
    let invalid = || Failure::usage(format!("{NAME} has to be a number of seconds since 1970"));
    match env::var(NAME) {
        Ok(text) if text.bytes().all(|c| c.is_ascii_digit()) => {
            text.parse().map(Some).map_err(|_| invalid())
        }
        Ok(_) | Err(VarError::NotUnicode(_)) => Err(invalid()),
        Err(VarError::NotPresent) => Ok(None),
    }
}

/// The conversion itself.
fn work(
    input: Option<PathBuf>,
    mut files: Files,
    options: &Options,
    args: &Convert,
    format: DiskFormat,
    display: &Display,
) -> Result<(), Failure> {
    let shown = input.clone().unwrap_or("standard input".into());
    let Input { reader, len, id } = input::open(input.as_deref().unwrap_or(Path::new("-")))?;
    if let Some(id) = id {
        // Another file may have got the name since it was looked at.
        files.keep(id, "the input")?;
    }
    if let Some(len) = len {
        display.set_total(len);
    }
    let reader = display.counting(reader);
    let Files { disk, hash_device } = &files;
    let timings = Timings::new();
    let options = &options.clone().timings(timings.clone());
    let summary = match hash_device {
        None => tar2vhd::convert(reader, disk, options),
        Some(device) => tar2vhd::convert_with_hash_device(reader, disk, device, options),
    }
    .map_err(|error| Failure::copying(&shown, args.to.path(), error))?;
    let timings = args.timings.then(|| timings.stages());
    // A disk is not published if its report cannot be printed.
    if !args.no_fsync {
        files.sync()?;
    }
    display.clear();
    if args.json {
        output::stdout(&report::json(&summary, timings.as_deref(), args, format))?;
    }
    files.publish(!args.no_fsync)?;
    if !args.json && !args.quiet {
        report::summary(&summary, args.to.path());
        report::warnings(&summary.warnings);
        report::timings(&timings.unwrap_or_default());
    }
    Ok(())
}
