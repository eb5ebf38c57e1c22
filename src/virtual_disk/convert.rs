use std::ops::Range;
use std::path::Path;

use super::contents::{Contents, PAGE};
use super::{DiskOptions, DiskReport, finish};
use crate::disk::{Container, DiskFile, DiskOutput, Stream, Volume, Wrapped, unreadable};
use crate::error::Result;

/// Copies a disk into one of another format, or of the same.
///
/// A disk whose size is none that the new format can have is filled up with zeros to a whole
/// sector. Pages of 4 KiB that are all zero are not written, and blocks that would hold nothing
/// else take no space in the file. The same contents and options give the same bytes, whatever
/// the format they come from.
///
/// The output gets the disk in any order; after an error what it holds is of no use.
/// [`convert_disk_file`] leaves nothing behind then.
///
/// # Errors
/// [`ErrorKind::InvalidOptions`](crate::ErrorKind::InvalidOptions) if an option is out of range,
/// [`ErrorKind::Limit`](crate::ErrorKind::Limit) if the disk is too large for the format, what
/// [`Volume::read_at`] and the output say.
pub fn convert_disk(
    input: &Volume,
    output: &dyn DiskOutput,
    options: &DiskOptions,
) -> Result<DiskReport> {
    let size = input.virtual_size();
    // No disk is so large that this could overflow.
    let virtual_size = size.next_multiple_of(options.sector_size());
    options.check(virtual_size)?;
    if let Some(damage) = input.footer_damage() {
        return Err(unreadable(damage));
    }
    let container = Container::shaped(&options.shape(virtual_size))?;
    std::thread::scope(|scope| {
        let stream = Stream::threaded(scope, output, 1)?;
        let mut copy = Copy {
            disk: Wrapped::new(stream, container, output),
            contents: Contents::new(),
        };
        copy.run(input, options)?;
        finish(
            copy.disk,
            virtual_size,
            virtual_size,
            &copy.contents,
            options,
        )
    })
}

/// Copies the disk in a file into another, which appears whole or not at all.
///
/// An existing regular file is replaced when all is done; after an error it is as it was.
///
/// # Errors
/// As [`Volume::open`] and [`convert_disk`], if the file cannot be created or published, and
/// [`ErrorKind::InvalidOptions`](crate::ErrorKind::InvalidOptions) if it is the one that is
/// copied or one of its parents.
pub fn convert_disk_file(
    input: impl AsRef<Path>,
    path: impl AsRef<Path>,
    options: &DiskOptions,
) -> Result<DiskReport> {
    let input = Volume::open(input)?;
    let mut file = DiskFile::create(path)?;
    file.keep_volume(&input)?;
    if options.fsync {
        file.sync_early();
    }
    let report = convert_disk(&input, &file, options)?;
    file.publish(options.fsync)?;
    Ok(report)
}

/// What is read at once.
const PIECE: usize = 1 << 20;

struct Copy<'scope> {
    disk: Wrapped<'scope>,
    contents: Contents,
}

impl Copy<'_> {
    fn run(&mut self, input: &Volume, options: &DiskOptions) -> Result<()> {
        const PAGE_SIZE: u64 = PAGE as u64;
        let size = input.virtual_size();
        let mut buffer = vec![0; PIECE];
        // Always at the start of a page.
        let mut position = 0;
        while position < size {
            options.cancel.check()?;
            let (data, end) = input.extent(position)?;
            // A page that is partly data is data.
            let hole_end = match end == size {
                true => end,
                false => end / PAGE_SIZE * PAGE_SIZE,
            };
            if !data && hole_end > position {
                position = hole_end;
            } else {
                let end = end.next_multiple_of(PAGE_SIZE).min(size);
                let piece_end = (position / PIECE as u64 + 1) * PIECE as u64;
                // At most a piece.
                let len = (end.min(piece_end) - position) as usize;
                let piece = &mut buffer[..len];
                input.read_at(position, piece)?;
                self.write(position, piece)?;
                position += len as u64;
            }
            if let Some(progress) = &options.progress {
                progress(position);
            }
        }
        Ok(())
    }

    /// Writes what is not zero of these pages.
    fn write(&mut self, offset: u64, pages: &[u8]) -> Result<()> {
        let mut run = 0..0;
        for page in pages.chunks(PAGE) {
            if is_zero(page) {
                self.write_run(offset, pages, run.clone())?;
                run = run.end + page.len()..run.end + page.len();
            } else {
                run.end += page.len();
            }
        }
        self.write_run(offset, pages, run)
    }

    fn write_run(&mut self, offset: u64, pages: &[u8], run: Range<usize>) -> Result<()> {
        if run.is_empty() {
            return Ok(());
        }
        let offset = offset + run.start as u64;
        self.contents.add(offset, &pages[run.clone()]);
        self.disk.put(offset, &pages[run])
    }
}

fn is_zero(page: &[u8]) -> bool {
    // All of it, for that is done many bytes at once.
    page.iter().fold(0, |sum, byte| sum | byte) == 0
}
