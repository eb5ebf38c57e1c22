//! `tar2vhd convert`.

mod report;

use std::env::{self, VarError};
use std::fs::File;
use std::io::{self, IsTerminal, Read};
use std::panic::{self, AssertUnwindSafe};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;

use tar2vhd::{CancelToken, Discard, DiskFile, FileId, Options, Timings, Verity};

use crate::Failure;
use crate::args::{Convert, MediaType, Salt, When};
use crate::output;
use crate::progress::Display;
use crate::standard;

/// What the main thread waits for.
enum Event {
    Signal,
    Finished(Result<(), Failure>),
}

pub(crate) fn run(args: Convert) -> Result<(), Failure> {
    if args.quiet && args.progress == When::Always {
        return Err(Failure::usage("--quiet contradicts --progress always"));
    }
    let input = args.input.clone().filter(|path| *path != Path::new("-"));
    if args.input.is_none() && io::stdin().is_terminal() {
        return Err(Failure::usage(
            "no INPUT is named, and standard input is a terminal",
        ));
    }
    let options = options(&args)?;

    let signals = Signals::catch()?;
    let mut files = Files::create(&args)?;
    // What cannot be found is told when it is opened.
    let source = match &input {
        None => standard::input(),
        Some(path) => FileId::at(path).ok(),
    };
    if let Some(source) = source {
        files.keep_input(source)?;
    }
    let discard = files.discard_handles();
    let cancel = CancelToken::new();
    let display = Display::new(args.progress, args.quiet);
    let result = {
        let display = display.clone();
        let shown = display.clone();
        let options = options
            .cancel(cancel.clone())
            .progress(move |progress| shown.show(progress));
        signals.supervise(&cancel, &discard, move || {
            work(input, files, &options, &args, &display)
        })
    };
    display.clear();
    result
}

/// What appears when all went well.
struct Files {
    disk: DiskFile,
    hash_device: Option<DiskFile>,
}

impl Files {
    fn create(args: &Convert) -> Result<Self, Failure> {
        let mut disk = DiskFile::create(&args.output)?;
        if !args.no_fsync && args.threads != 1 {
            disk.sync_early();
        }
        let hash_device = args.verity_separate.as_ref().map(DiskFile::create);
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

    /// Refuses to replace what the layer is read from.
    fn keep_input(&mut self, input: FileId) -> Result<(), Failure> {
        let keep = |file: &mut DiskFile| file.keep(input, "the input");
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
        .format(args.format.into())
        .profile(args.profile.into())
        .faithful(args.faithful)
        .whiteouts(!args.no_whiteouts)
        .max_size(args.max_size)
        .max_entries(args.max_entries)
        .max_window(args.max_window)
        .inflater(args.inflater.into())
        .bottom_layer(args.bottom_layer)
        .align(args.align.unwrap_or(0))
        .inline_data(args.inline_data)
        .keep_zeros(args.keep_zeros)
        .journal(args.journal)
        .inodes(args.inodes.unwrap_or(0))
        .threads(args.threads)
        .fsync(!args.no_fsync);
    if let Some(size) = args.size {
        options = options.writable(size);
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
        let mut verity = Verity::new();
        if let Some(Salt(salt)) = &args.verity_salt {
            verity = verity.salt(salt.as_slice());
        }
        if let Some(uuid) = args.verity_uuid {
            verity = verity.uuid(uuid);
        }
        options = options.verity(verity);
    }
    if let Some(seconds) = source_date_epoch()? {
        options = options.time(seconds);
    }
    Ok(options)
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

/// Signals that ask the process to end, from now on.
pub(crate) struct Signals {
    events: Sender<Event>,
    received: Receiver<Event>,
}

impl Signals {
    pub(crate) fn catch() -> Result<Self, Failure> {
        let (events, received) = mpsc::channel();
        let on_signal = events.clone();
        ctrlc::set_handler(move || {
            // Nobody listens when all is done.
            let _ = on_signal.send(Event::Signal);
        })
        .map_err(|e| Failure::error(format!("cannot handle signals: {e}")))?;
        Ok(Self { events, received })
    }

    /// Runs `work` until it ends or a signal comes, which leaves nothing of the files that
    /// `discard` discards.
    pub(crate) fn supervise(
        self,
        cancel: &CancelToken,
        discard: &[Discard],
        work: impl FnOnce() -> Result<(), Failure> + Send + 'static,
    ) -> Result<(), Failure> {
        supervise(self.events, &self.received, cancel, discard, work)
    }
}

/// Runs `work` on a thread of its own, because reading may block for ever, and waits for its
/// end or a signal.
fn supervise(
    events: Sender<Event>,
    received: &Receiver<Event>,
    cancel: &CancelToken,
    discard: &[Discard],
    work: impl FnOnce() -> Result<(), Failure> + Send + 'static,
) -> Result<(), Failure> {
    thread::Builder::new()
        .name("convert".into())
        .spawn(move || {
            // What is left behind by a panic is dropped before its message is sent.
            let result = panic::catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|_| {
                Err(Failure::error(
                    "internal error: please report it with the message above",
                ))
            });
            // Nobody listens after a signal.
            let _ = events.send(Event::Finished(result));
        })
        .map_err(|e| Failure::error(format!("cannot start a thread: {e}")))?;
    loop {
        match received.recv() {
            Ok(Event::Finished(result)) => return result,
            Ok(Event::Signal) => {
                cancel.cancel();
                // What is published already is there to stay: that was in time.
                let discarded = discard.iter().map(Discard::discard);
                if discarded.fold(false, |any, one| any | one) {
                    return Err(Failure::error("interrupted by a signal"));
                }
            }
            Err(_) => return Err(Failure::error("the conversion ended without a result")),
        }
    }
}

/// The conversion itself.
fn work(
    input: Option<PathBuf>,
    mut files: Files,
    options: &Options,
    args: &Convert,
    display: &Display,
) -> Result<(), Failure> {
    let input: Box<dyn Read> = match input {
        None => Box::new(io::stdin().lock()),
        Some(path) => {
            let failed = |e| Failure::error(format!("cannot open {}: {e}", path.display()));
            let file = File::open(&path).map_err(failed)?;
            let found = file.metadata().map_err(failed)?;
            if found.is_file() {
                display.set_total(found.len());
            }
            // Another file may have got the name since it was looked at.
            files.keep_input(FileId::of(&file).map_err(failed)?)?;
            Box::new(file)
        }
    };
    let Files { disk, hash_device } = &files;
    let timings = Timings::new();
    let options = &options.clone().timings(timings.clone());
    let summary = match hash_device {
        None => tar2vhd::convert(input, disk, options)?,
        Some(device) => tar2vhd::convert_with_hash_device(input, disk, device, options)?,
    };
    let timings = args.timings.then(|| timings.stages());
    // Who cannot be told of the disk does not get it.
    if !args.no_fsync {
        files.sync()?;
    }
    display.clear();
    if args.json {
        output::stdout(&report::json(&summary, timings.as_deref(), args))?;
    }
    files.publish(!args.no_fsync)?;
    if !args.json && !args.quiet {
        report::summary(&summary, &args.output);
        report::warnings(&summary);
        report::timings(&timings.unwrap_or_default());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use tar2vhd::DiskOutput;

    use super::*;

    /// Supervises work on a file; the result, and the names that are left.
    fn supervised(
        work: impl FnOnce(DiskFile, Sender<Event>) -> Result<(), Failure> + Send + 'static,
    ) -> (Result<(), Failure>, Vec<String>) {
        let directory = tempfile::tempdir().unwrap();
        let file = DiskFile::create(directory.path().join("disk")).unwrap();
        file.write_at(0, b"x").unwrap();
        let discard = file.discard_handle();
        let (events, received) = mpsc::channel();
        let to_work = events.clone();
        let result = supervise(
            events,
            &received,
            &CancelToken::new(),
            &[discard],
            move || work(file, to_work),
        );
        let names = fs::read_dir(&directory)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        (result, names)
    }

    #[test]
    fn a_panic_is_an_error_that_leaves_nothing() {
        let (result, names) = supervised(|_file, _| panic!("as the test wants"));
        let failure = result.unwrap_err();
        assert_eq!(failure.code, 1);
        assert!(failure.message.contains("internal error"));
        assert_eq!(names, [""; 0]);
    }

    #[test]
    fn a_signal_ends_work_that_never_ends() {
        let (result, names) = supervised(|_file, events| {
            events.send(Event::Signal).unwrap();
            loop {
                thread::park();
            }
        });
        assert!(result.unwrap_err().message.contains("signal"));
        // On Windows a name can outlive its removal until the file is closed.
        if !cfg!(windows) {
            assert_eq!(names, [""; 0]);
        }
    }

    #[test]
    fn a_signal_after_the_end_comes_too_late() {
        let (result, names) = supervised(|file, events| {
            file.publish(false)?;
            events.send(Event::Signal).unwrap();
            Ok(())
        });
        result.unwrap();
        assert_eq!(names, ["disk"]);
    }
}
