//! `tar2vhd scratch`.

use tar2vhd::disk::DiskFile;
use tar2vhd::scratch::ScratchOptions;
use tar2vhd::{CancelToken, DiskFormat, DiskSummary};
use uuid::Uuid;

use crate::args::{Scratch, ScratchUuid};
use crate::convert::{report, source_date_epoch};
use crate::failure::Failure;
use crate::output::{self, human};
use crate::signals::Signals;
use crate::standard;

pub(crate) fn run(args: Scratch) -> Result<(), Failure> {
    let format = output::choose_format(args.format, &args.to, DiskFormat::Vhdx, args.quiet);
    if args.block_size.is_some() && matches!(format, DiskFormat::Vhd | DiskFormat::Raw) {
        return Err(Failure::usage(format!(
            "a block size, but the format {format} has no blocks"
        )));
    }
    let mut options = ScratchOptions::new()
        .size(args.size)
        .format(format)
        .journal(args.journal)
        .inodes(args.inodes)
        .compat(args.compat)
        .fsync(!args.no_fsync);
    if let Some(block_size) = args.block_size {
        // Too large for 32 bits is too large for any format.
        options = options.block_size(u32::try_from(block_size).unwrap_or(u32::MAX));
    }
    if let Some(label) = &args.label {
        options = options.label(label);
    }
    match args.uuid {
        None => {}
        Some(ScratchUuid::Random) => options = options.uuid(Uuid::new_v4().into_bytes()),
        Some(ScratchUuid::Given(uuid)) => options = options.uuid(uuid.into_bytes()),
    }
    if let Some(seconds) = source_date_epoch()? {
        options = options.time(seconds);
    }
    let signals = Signals::catch()?;
    let mut file = match args.no_clobber {
        true => DiskFile::create_new(args.to.path()),
        false => DiskFile::create(args.to.path()),
    }?;
    if args.json {
        standard::keep_output(&mut file)?;
    }
    let cancel = CancelToken::new();
    let options = options.cancel(cancel.clone());
    let discard = [file.discard_handle()];
    signals.supervise(&cancel, &discard, move || {
        let to = args.to.path();
        let summary = tar2vhd::scratch::create(&file, &options)
            .map_err(|error| Failure::copying(to, to, error))?;
        // A disk is not published if its report cannot be printed.
        if !args.no_fsync {
            file.sync()?;
        }
        if args.json {
            output::stdout(&report(&summary, &args, format))?;
        }
        file.publish(!args.no_fsync)?;
        if !args.json && !args.quiet {
            output::stderr(format_args!(
                "{}: {} in a file of {}, UUID {}",
                tar2vhd::display_file(args.to.path()),
                human(summary.virtual_size),
                human(summary.size),
                Uuid::from_bytes(summary.uuid)
            ));
        }
        Ok(())
    })
}

/// One JSON object on a line of its own.
fn report(summary: &DiskSummary, args: &Scratch, format: DiskFormat) -> Vec<u8> {
    let object = report::disk(summary, args.to.path(), format);
    format!("{object}\n").into_bytes()
}
