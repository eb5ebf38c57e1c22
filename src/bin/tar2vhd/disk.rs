//! `tar2vhd disk`.

pub(crate) mod info;

use std::path::Path;

use serde_json::{Value, json};
use tar2vhd::disk::DiskFile;
use tar2vhd::virtual_disk::{DiskOptions, DiskReport};
use tar2vhd::{CancelToken, DiskFormat, Volume};
use uuid::Uuid;

use crate::args::disk::{Convert, Create, DiskCommand, InputFormat, Shape, Writing};
use crate::args::{Disk, To, When};
use crate::convert::source_date_epoch;
use crate::failure::Failure;
use crate::output::{self, human};
use crate::progress::Display;
use crate::signals::Signals;
use crate::{args, standard};

pub(crate) fn run(args: Disk) -> Result<(), Failure> {
    match args.command {
        DiskCommand::Create(args) => create(args),
        DiskCommand::Convert(args) => convert(args),
        DiskCommand::Info(args) => info::run(&args),
    }
}

fn create(args: Create) -> Result<(), Failure> {
    let Create {
        to,
        format,
        shape,
        writing,
        ..
    } = &args;
    let format = output::choose_format(*format, to, DiskFormat::Vhdx, writing.quiet);
    let options = options(format, shape, writing)?;
    let signals = Signals::catch()?;
    let mut file = writing.start(to)?;
    if args.writing.json {
        standard::keep_output(&mut file)?;
    }
    let cancel = CancelToken::new();
    let options = options.cancel(cancel.clone());
    let discard = [file.discard_handle()];
    signals.supervise(&cancel, &discard, move || {
        let to = args.to.path();
        let report = tar2vhd::virtual_disk::create(args.size(), &file, &options)
            .map_err(|error| Failure::copying(to, to, error))?;
        publish(file, &report, args.to.path(), &args.writing)
    })
}

fn convert(args: Convert) -> Result<(), Failure> {
    if args.writing.quiet && args.progress == When::Always {
        return Err(Failure::usage("--quiet contradicts --progress always"));
    }
    let format = output::choose_format(args.format, &args.to, DiskFormat::Vhdx, args.writing.quiet);
    let options = options(format, &args.shape, &args.writing)?;
    let input = match args.input_format {
        InputFormat::Auto => Volume::open(&args.input)?,
        InputFormat::Raw => Volume::open_raw(&args.input)?,
    };
    let signals = Signals::catch()?;
    let mut file = args.writing.start(&args.to)?;
    file.keep_volume(&input)?;
    if args.writing.json {
        standard::keep_output(&mut file)?;
    }
    if !args.writing.no_fsync {
        file.sync_early();
    }
    let cancel = CancelToken::new();
    let display = Display::new(args.progress, args.writing.quiet);
    display.set_disk_total(input.virtual_size());
    let shown = display.clone();
    let options = options
        .cancel(cancel.clone())
        .progress(move |position| shown.show_bytes(position));
    let discard = [file.discard_handle()];
    let to_clear = display.clone();
    let result = signals.supervise(&cancel, &discard, move || {
        let report = input
            .convert_to(&file, &options)
            .map_err(|error| Failure::copying(&args.input, args.to.path(), error))?;
        if !args.writing.no_fsync {
            file.sync()?;
        }
        display.clear();
        publish(file, &report, args.to.path(), &args.writing)
    });
    to_clear.clear();
    result
}

impl Writing {
    fn start(&self, to: &To) -> Result<DiskFile, Failure> {
        Ok(match self.no_clobber {
            true => DiskFile::create_new(to.path()),
            false => DiskFile::create(to.path()),
        }?)
    }
}

fn options(format: DiskFormat, shape: &Shape, writing: &Writing) -> Result<DiskOptions, Failure> {
    let mut options = DiskOptions::new()
        .format(format)
        .logical_sector_size(shape.logical_sector)
        .physical_sector_size(shape.physical_sector)
        .fsync(!writing.no_fsync);
    if let Some(size) = shape.block_size {
        options = options.block_size(size);
    }
    if let Some(id) = shape.uuid {
        options = options.id(id);
    }
    if let Some(seconds) = source_date_epoch()? {
        options = options.time(seconds);
    }
    Ok(options)
}

/// A disk is not published if its report cannot be printed.
fn publish(
    file: DiskFile,
    report: &DiskReport,
    path: &Path,
    writing: &args::disk::Writing,
) -> Result<(), Failure> {
    if writing.json {
        let object = output::of_file(path, json!(report));
        output::stdout(format!("{}\n", Value::Object(object)).as_bytes())?;
    }
    file.publish(!writing.no_fsync)?;
    if !writing.json && !writing.quiet {
        output::stderr(format_args!("{}", text(report, path)));
    }
    Ok(())
}

fn text(report: &DiskReport, path: &Path) -> String {
    let mut text = format!(
        "{}: {} with {} of data, {} in the file",
        tar2vhd::display_file(path),
        human(report.virtual_size),
        human(report.data),
        human(report.size),
    );
    if let Some(id) = report.id {
        text.push_str(&format!(", UUID {}", Uuid::from_bytes(id)));
    }
    text
}
