//! `tar2vhd image flatten`.

use std::path::Path;

use serde_json::{Value, json};
use tar2vhd::disk::DiskFile;
use tar2vhd::flatten::FlattenSummary;
use tar2vhd::{CancelToken, DiskFormat, Options};

use super::source::{Opened, check, image_json, open, options, total};
use crate::args::image::FlattenImage;
use crate::convert::{report, writable};
use crate::failure::Failure;
use crate::output;
use crate::progress::Display;
use crate::signals::Signals;
use crate::standard;

pub(crate) fn run(args: FlattenImage) -> Result<(), Failure> {
    check(&args.disk)?;
    let format =
        output::choose_format(args.disk.format, &args.to, DiskFormat::Vhd, args.disk.quiet);
    let mut options = options(&args.disk)?.format(format);
    if let Some(writable) = writable(args.size, args.free) {
        let inodes = args.inodes.unwrap_or(0);
        options = options.writable(writable.journal(args.journal).inodes(inodes));
    }
    let signals = Signals::catch()?;
    let mut file = match args.no_clobber {
        true => DiskFile::create_new(args.to.path()),
        false => DiskFile::create(args.to.path()),
    }?;
    if !args.disk.no_fsync && args.disk.threads != 1 {
        file.sync_early();
    }
    if args.disk.json {
        standard::keep_output(&mut file)?;
    }
    let discard = [file.discard_handle()];
    let cancel = CancelToken::new();
    let display = Display::new(args.disk.progress, args.disk.quiet);
    let result = {
        let display = display.clone();
        let shown = display.clone();
        let options = options.cancel(cancel.clone()).progress(move |progress| {
            shown.show_entries(progress);
            shown.show_bytes(progress.input_bytes);
        });
        let token = cancel.clone();
        signals.supervise(&cancel, &discard, move || {
            work(file, &options, &args, format, &display, &token)
        })
    };
    display.clear();
    result
}

fn work(
    mut file: DiskFile,
    options: &Options,
    args: &FlattenImage,
    format: DiskFormat,
    display: &Display,
    cancel: &CancelToken,
) -> Result<(), Failure> {
    let opened = open(&args.source, cancel)?;
    for id in &opened.files {
        file.keep(*id, "the image")?;
    }
    if let Some(total) = total(&opened.image) {
        display.set_total(total);
    }
    let to = args.to.path();
    let summary = opened
        .image
        .flatten(&file, options)
        .map_err(|error| Failure::copying(&opened.path, to, error))?;
    let fsync = !args.disk.no_fsync;
    // A disk is not published if its report cannot be printed.
    if fsync {
        file.sync()?;
    }
    display.clear();
    if args.disk.json {
        let object = json(&opened, &summary, to, format);
        output::stdout(format!("{object}\n").as_bytes())?;
    }
    file.publish(fsync)?;
    if !args.disk.json && !args.disk.quiet {
        report::flattened(&summary, to);
        report::warnings(&summary.warnings);
    }
    Ok(())
}

/// One object for the image, with its layers in it.
fn json(opened: &Opened, summary: &FlattenSummary, to: &Path, format: DiskFormat) -> Value {
    let mut object = json!({ "image": image_json(&opened.image, &opened.path) });
    if let (Value::Object(object), Value::Object(summary)) = (&mut object, json!(summary)) {
        object.extend(summary);
    }
    object["disk"] = report::disk(&summary.disk, to, format);
    if let Some(verity) = &summary.verity {
        object["verity"] = report::verity_at(verity, to);
    }
    object
}
