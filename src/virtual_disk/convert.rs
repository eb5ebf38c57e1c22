use std::ops::Range;
use std::path::Path;

use super::contents::{Contents, UNIT};
use super::{DiskOptions, DiskReport, finish};
use crate::buffer::aligned::Aligned;
use crate::disk::{Container, DiskFile, DiskOutput, Stream, Volume, Wrapped, unreadable};
use crate::error::Result;

impl Volume {
    /// Copies the disk into one of another format, or of the same.
    ///
    /// A disk whose size is none that the new format can have is filled up with zeros to a whole
    /// sector. Pages of 4 KiB that are all zero are not written, and blocks that would hold nothing
    /// else take no space in the file. The same contents and options give the same bytes, whatever
    /// the format they come from.
    ///
    /// The output gets the disk in any order; after an error what it holds is of no use.
    /// [`convert_to_file`](Self::convert_to_file) leaves nothing behind then.
    ///
    /// # Errors
    /// [`ErrorKind::InvalidOptions`](crate::ErrorKind::InvalidOptions) if an option is out of
    /// range, [`ErrorKind::Limit`](crate::ErrorKind::Limit) if the disk is too large for the
    /// format, what [`read_at`](Self::read_at) and the output say.
    pub fn convert_to(&self, output: &dyn DiskOutput, options: &DiskOptions) -> Result<DiskReport> {
        copy(self, output, options)
    }

    /// Copies the disk into a file, which appears whole or not at all.
    ///
    /// An existing regular file is replaced when all is done; after an error it is as it was.
    ///
    /// # Errors
    /// As [`convert_to`](Self::convert_to), if the file cannot be created or published, and
    /// [`ErrorKind::InvalidOptions`](crate::ErrorKind::InvalidOptions) if it is the one that is
    /// copied or one of its parents.
    pub fn convert_to_file(
        &self,
        path: impl AsRef<Path>,
        options: &DiskOptions,
    ) -> Result<DiskReport> {
        let mut file = DiskFile::create(path)?;
        file.keep_volume(self)?;
        if options.fsync {
            file.sync_early();
        }
        let report = self.convert_to(&file, options)?;
        file.publish(options.fsync)?;
        Ok(report)
    }
}

fn copy(input: &Volume, output: &dyn DiskOutput, options: &DiskOptions) -> Result<DiskReport> {
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
            contents: Contents::new(options.format),
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

/// The unit in which zeros are left out, and which all formats share.
const PAGE: usize = 4096;

/// Bytes that are read at once: few enough that they are still in the processor's cache when
/// they are hashed and written.
const PIECE: usize = 4 * UNIT;

struct Copy<'scope> {
    disk: Wrapped<'scope>,
    contents: Contents,
}

impl Copy<'_> {
    fn run(&mut self, input: &Volume, options: &DiskOptions) -> Result<()> {
        const UNIT_SIZE: u64 = UNIT as u64;
        let size = input.virtual_size();
        let mut buffer = Aligned::zeroed(PIECE);
        // Always at the start of a unit.
        let mut position = 0;
        while position < size {
            options.cancel.check()?;
            let (data, end) = input.extent(position)?;
            // A unit that is partly data is data.
            let hole_end = match end == size {
                true => end,
                false => end / UNIT_SIZE * UNIT_SIZE,
            };
            if !data && hole_end > position {
                position = hole_end;
            } else {
                let end = end.next_multiple_of(UNIT_SIZE).min(size);
                let piece_end = (position / PIECE as u64 + 1) * PIECE as u64;
                // At most a piece.
                let len = (end.min(piece_end) - position) as usize;
                input.read_at(position, &mut buffer[..len])?;
                // The disk may end within a unit.
                buffer[len..len.next_multiple_of(UNIT)].fill(0);
                self.write(position, &buffer, len)?;
                position += len as u64;
            }
            if let Some(progress) = &options.progress {
                progress(position);
            }
        }
        input.check_size()
    }

    /// Writes what is not zero of the first `len` bytes, which zeros fill up to whole units.
    fn write(&mut self, offset: u64, bytes: &[u8], len: usize) -> Result<()> {
        let (units, _) = bytes.as_chunks::<UNIT>();
        let units = &units[..len.div_ceil(UNIT)];
        let mut run = 0..0;
        for (number, unit) in (offset / UNIT as u64..).zip(units) {
            let mut is_zero = true;
            for page in unit.chunks(PAGE) {
                if self::is_zero(page) {
                    self.write_run(offset, &bytes[..len], run.clone())?;
                    run = run.end + page.len()..run.end + page.len();
                } else {
                    run.end += page.len();
                    is_zero = false;
                }
            }
            if !is_zero {
                self.contents.add(number, unit);
            }
        }
        self.write_run(offset, &bytes[..len], run)
    }

    fn write_run(&mut self, offset: u64, bytes: &[u8], run: Range<usize>) -> Result<()> {
        let run = run.start..run.end.min(bytes.len());
        if run.is_empty() {
            return Ok(());
        }
        self.contents.count(run.len());
        self.disk.put(offset + run.start as u64, &bytes[run])
    }
}

fn is_zero(page: &[u8]) -> bool {
    // A piece is looked at as a whole, for that is done many bytes at once; most pages that are
    // not zero are so from their start.
    let mut pieces = page.chunks(256);
    pieces.all(|piece| piece.iter().fold(0, |sum, byte| sum | byte) == 0)
}
