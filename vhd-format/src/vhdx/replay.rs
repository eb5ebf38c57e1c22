//! §2.3.2 Log Sequence and §2.3.3 Log Replay.

use std::collections::BTreeMap;
use std::io;

use uuid::Uuid;
use zerocopy::FromBytes;

use super::header::Header;
use super::log::{
    DATA_DESCRIPTOR, DATA_SECTOR, ENTRY, FIRST_DESCRIPTORS, MORE_DESCRIPTORS, RawDataSector,
    RawDescriptor, RawEntryHeader, SECTOR, Sector, ZERO_DESCRIPTOR,
};
use super::region_table::RegionTable;
use crate::{Error, ReadAt, Result, Storage};

/// No file is as large: 64 TiB of blocks, their bitmaps, and room for every structure.
const MAX_FILE_SIZE: u64 = 128 << 40;

/// A file as it is once its log is replayed. The storage is left as it is until
/// [`apply`](Self::apply).
pub(super) struct Replayed<S> {
    pub(super) storage: S,
    overlay: Overlay,
    /// The size that the log says the file must have.
    min_size: u64,
    /// The number of log entries that were replayed.
    pub(super) entries: u64,
    /// The log is in use and holds nothing to replay.
    pub(super) log_is_unused: bool,
}

impl<S: ReadAt> Replayed<S> {
    pub(super) fn new(storage: S, header: &Header) -> Result<Self> {
        let mut replayed = Self {
            storage,
            overlay: Overlay::default(),
            min_size: 0,
            entries: 0,
            log_is_unused: false,
        };
        if header.log_guid.is_nil() {
            return Ok(replayed);
        }
        let log = Log {
            storage: &replayed.storage,
            offset: header.log_offset,
            length: header.log_length,
            guid: header.log_guid,
        };
        let sequence = log.active_sequence()?;
        let Some(last) = sequence.last() else {
            log.check_unused()?;
            replayed.log_is_unused = true;
            return Ok(replayed);
        };
        let size = replayed
            .storage
            .size()
            .map_err(|error| Error::io("cannot tell the size of the file", error))?;
        if last.flushed_file_offset > size {
            return Err(Error::invalid(format!(
                "the file has {size} bytes and had {} when its log was written: it was cut short",
                last.flushed_file_offset
            )));
        }
        if last.last_file_offset > MAX_FILE_SIZE {
            return Err(Error::invalid("the log is of a file of an impossible size"));
        }
        let (min_size, entries) = (last.last_file_offset, sequence.len() as u64);
        let mut overlay = Overlay::default();
        for entry in &sequence {
            log.read_descriptors(entry, &mut overlay)?;
        }
        replayed.overlay = overlay;
        replayed.min_size = min_size;
        replayed.entries = entries;
        Ok(replayed)
    }
}

impl<S: Storage> Replayed<S> {
    /// Writes to the storage what the log says, and flushes it.
    pub(super) fn apply(&mut self) -> Result<()> {
        let grown = self.storage.grow(self.min_size);
        grown.map_err(|error| Error::write("the end of the file", self.min_size, error))?;
        let zeros = vec![0; 64 << 10];
        for (&start, segment) in &self.overlay.segments {
            let failed = |error| Error::write("what the log says", start, error);
            match segment.source {
                Source::Page(page) => {
                    let bytes = page.read(&self.storage).map_err(failed)?;
                    self.storage.write_at(start, &bytes).map_err(failed)?;
                }
                Source::Zeros => {
                    let mut position = start;
                    while position < segment.end {
                        let len = (segment.end - position).min(zeros.len() as u64);
                        self.storage
                            .write_at(position, &zeros[..len as usize])
                            .map_err(failed)?;
                        position += len;
                    }
                }
            }
        }
        self.storage.flush().map_err(Error::flush)?;
        self.overlay = Overlay::default();
        self.min_size = 0;
        Ok(())
    }
}

impl<S: ReadAt> ReadAt for Replayed<S> {
    fn size(&self) -> io::Result<u64> {
        Ok(self.storage.size()?.max(self.min_size))
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        if self.min_size == 0 && self.overlay.segments.is_empty() {
            return self.storage.read_at(offset, buffer);
        }
        let size = self.storage.size()?;
        let end = offset.checked_add(buffer.len() as u64);
        if end.is_none_or(|end| end > size.max(self.min_size)) {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        // Room that the log adds at the end is zero.
        let there = size.saturating_sub(offset).min(buffer.len() as u64) as usize;
        let (inside, past) = buffer.split_at_mut(there);
        past.fill(0);
        if !inside.is_empty() {
            self.storage.read_at(offset, inside)?;
        }
        self.overlay.read(&self.storage, offset, buffer)
    }
}

/// Replacements for parts of the file, their ranges in order and disjoint. Memory is
/// taken for descriptors that are there, and not for what they say.
#[derive(Default)]
struct Overlay {
    segments: BTreeMap<u64, Segment>,
}

#[derive(Clone, Copy)]
struct Segment {
    end: u64,
    source: Source,
}

#[derive(Clone, Copy)]
enum Source {
    Zeros,
    Page(Page),
}

/// A sector that is put together from a data descriptor and a data sector.
#[derive(Clone, Copy)]
struct Page {
    data_sector: u64,
    leading_bytes: [u8; 8],
    trailing_bytes: [u8; 4],
}

impl Page {
    fn read(&self, storage: &impl ReadAt) -> io::Result<Sector> {
        let mut bytes = [0; SECTOR];
        storage.read_at(self.data_sector, &mut bytes)?;
        bytes[..8].copy_from_slice(&self.leading_bytes);
        bytes[SECTOR - 4..].copy_from_slice(&self.trailing_bytes);
        Ok(bytes)
    }
}

impl Overlay {
    /// Later ones win. All borders are whole sectors, so a page is never cut.
    fn insert(&mut self, start: u64, end: u64, source: Source) {
        let before = self.segments.range_mut(..start).next_back();
        if let Some((_, segment)) = before
            && segment.end > start
        {
            let old = *segment;
            segment.end = start;
            if old.end > end {
                self.segments.insert(end, old);
            }
        }
        while let Some((&first, &old)) = self.segments.range(start..end).next() {
            self.segments.remove(&first);
            if old.end > end {
                self.segments.insert(end, old);
            }
        }
        self.segments.insert(start, Segment { end, source });
    }

    fn read(&self, storage: &impl ReadAt, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        let end = offset + buffer.len() as u64;
        let before = self.segments.range(..offset).next_back();
        for (&start, segment) in before.into_iter().chain(self.segments.range(offset..end)) {
            let (from, to) = (start.max(offset), segment.end.min(end));
            if from >= to {
                continue;
            }
            let part = &mut buffer[(from - offset) as usize..(to - offset) as usize];
            match segment.source {
                Source::Zeros => part.fill(0),
                Source::Page(page) => {
                    let bytes = page.read(storage)?;
                    part.copy_from_slice(&bytes[(from - start) as usize..(to - start) as usize]);
                }
            }
        }
        Ok(())
    }
}

/// The log of a file: a ring of sectors.
struct Log<'a, S> {
    storage: &'a S,
    offset: u64,
    length: u32,
    guid: Uuid,
}

/// An entry of the log that was found valid.
#[derive(Clone, Copy)]
struct Entry {
    position: u32,
    length: u32,
    tail: u32,
    sequence_number: u64,
    descriptor_count: u32,
    flushed_file_offset: u64,
    last_file_offset: u64,
}

impl Entry {
    /// The sectors that the header and the descriptors take.
    fn descriptor_sectors(&self) -> u64 {
        descriptor_sectors(self.descriptor_count)
    }
}

fn descriptor_sectors(count: u32) -> u64 {
    let further = u64::from(count).saturating_sub(FIRST_DESCRIPTORS as u64);
    1 + further.div_ceil(MORE_DESCRIPTORS as u64)
}

impl<S: ReadAt> Log<'_, S> {
    /// The position that many sectors after another, around the ring.
    fn after(&self, position: u32, sectors: u64) -> u32 {
        let position = u64::from(position) + sectors * SECTOR as u64;
        (position % u64::from(self.length)) as u32
    }

    fn read_sector(&self, position: u32) -> Result<Sector> {
        let mut bytes = [0; SECTOR];
        let offset = self.offset + u64::from(position);
        self.storage
            .read_at(offset, &mut bytes)
            .map_err(|error| Error::read("the log", offset, error))?;
        Ok(bytes)
    }

    /// §2.3.2: the sequence with the highest number whose entries reach back to its tail.
    ///
    /// A run of entries that follow each other is looked at once from its start, or twice if
    /// it lies at the start of the ring and another run leads up to it: the time is linear in
    /// the size of the log, whatever that holds.
    fn active_sequence(&self) -> Result<Vec<Entry>> {
        let mut active: Vec<Entry> = Vec::new();
        let mut position = 0_u64;
        while position < u64::from(self.length) {
            let run = self.run(position as u32)?;
            let length: u64 = run.iter().map(|entry| u64::from(entry.length)).sum();
            // An entry that was started over by its neighbour may lie at any sector.
            position += length.max(SECTOR as u64);
            let Some(last) = run.last() else {
                continue;
            };
            let newer = active
                .last()
                .is_none_or(|active| last.sequence_number > active.sequence_number);
            let tail = run.iter().position(|entry| entry.position == last.tail);
            if let Some(tail) = tail
                && newer
            {
                active = run[tail..].to_vec();
            }
        }
        Ok(active)
    }

    /// The valid entries that follow each other from that position.
    fn run(&self, start: u32) -> Result<Vec<Entry>> {
        let mut run: Vec<Entry> = Vec::new();
        let (mut position, mut length) = (start, 0);
        while let Some(entry) = self.read_entry(position)? {
            length += u64::from(entry.length);
            let follows = run.last().is_none_or(|last| {
                Some(entry.sequence_number) == last.sequence_number.checked_add(1)
            });
            if !follows || length > u64::from(self.length) {
                break;
            }
            position = self.after(position, u64::from(entry.length) / SECTOR as u64);
            run.push(entry);
            if length == u64::from(self.length) {
                break;
            }
        }
        Ok(run)
    }

    /// Makes sure that a log without a valid sequence never had one.
    ///
    /// §2.2.2: a writer names the log by a new GUID before it writes the first entry under that.
    /// If it ends in between, or within that entry, nothing of the file has been replaced yet:
    /// QEMU opens such a disk, and so does this. Whatever else is left of an entry is damage,
    /// and the file may be half replaced.
    fn check_unused(&self) -> Result<()> {
        let mut traces = Vec::new();
        for position in (0..self.length).step_by(SECTOR) {
            if self.is_trace(&self.read_sector(position)?) {
                traces.push(position);
            }
        }
        let unused = match *traces {
            [] => true,
            [position] => self.is_cut_short(position)?,
            _ => false,
        };
        if unused {
            return Ok(());
        }
        let message = "the log is in use, and has no valid sequence of entries";
        Err(Error::invalid(message).at(self.offset))
    }

    /// Whether a sector was once the start of an entry of this log, damaged or not.
    fn is_trace(&self, sector: &Sector) -> bool {
        let Ok((header, _)) = RawEntryHeader::read_from_prefix(sector) else {
            return false;
        };
        let guid = self.guid.to_bytes_le();
        let equal = guid.iter().zip(header.log_guid).filter(|(a, b)| **a == *b);
        match equal.count() {
            16 => true,
            // Different GUIDs do not have half of their bytes in common.
            8.. => header.signature == ENTRY,
            _ => false,
        }
    }

    /// Whether the entry at that position starts a sequence, and was not written to its end: a
    /// sector of it was never written, so that it has other contents and other marks.
    fn is_cut_short(&self, position: u32) -> Result<bool> {
        let first = self.read_sector(position)?;
        let Some((entry, checksum)) = self.plausible(position, &first) else {
            return Ok(false);
        };
        let Some(mut data_sectors) = count_data(&first, &entry, 0) else {
            return Ok(false);
        };
        if entry.tail != position {
            return Ok(false);
        }
        let mut crc = start_checksum(&first);
        let mut missing = false;
        for i in 1..u64::from(entry.length) / SECTOR as u64 {
            let mut sector = self.read_sector(self.after(position, i))?;
            if i < entry.descriptor_sectors() {
                let Some(more) = count_data(&sector, &entry, i) else {
                    return Ok(true);
                };
                data_sectors += more;
            } else if !is_data_of(&sector, entry.sequence_number) {
                missing = true;
                mark_as_data(&mut sector, entry.sequence_number);
            }
            crc = crc32c::crc32c_append(crc, &sector);
        }
        let sectors = entry.descriptor_sectors() + data_sectors;
        let complete = u64::from(entry.length) == sectors * SECTOR as u64;
        // If the contents are right, only the marks are damaged.
        Ok(missing && complete && crc != checksum)
    }

    /// Reads the first sector of an entry. Returns its fields, if they are possible, and the
    /// checksum.
    fn plausible(&self, position: u32, first: &Sector) -> Option<(Entry, u32)> {
        let (header, _) = RawEntryHeader::read_from_prefix(first).ok()?;
        let entry = Entry {
            position,
            length: header.entry_length.get(),
            tail: header.tail.get(),
            sequence_number: header.sequence_number.get(),
            descriptor_count: header.descriptor_count.get(),
            flushed_file_offset: header.flushed_file_offset.get(),
            last_file_offset: header.last_file_offset.get(),
        };
        let sectors = u64::from(entry.length) / SECTOR as u64;
        let plausible = header.signature == ENTRY
            && header.log_guid == self.guid.to_bytes_le()
            && entry.sequence_number > 0
            && entry.length.is_multiple_of(SECTOR as u32)
            && entry.length <= self.length
            && entry.tail.is_multiple_of(SECTOR as u32)
            && entry.tail < self.length
            && entry.descriptor_sectors() <= sectors;
        plausible.then(|| (entry, header.checksum.get()))
    }

    /// The entry at that position, if there is a valid one.
    fn read_entry(&self, position: u32) -> Result<Option<Entry>> {
        let first = self.read_sector(position)?;
        let Some((entry, checksum)) = self.plausible(position, &first) else {
            return Ok(None);
        };
        let sectors = u64::from(entry.length) / SECTOR as u64;
        let mut crc = start_checksum(&first);
        // Sectors are looked at before they are taken into the checksum: what starts another
        // entry ends this one, and no sector is read for many entries.
        let mut data_sectors = count_data(&first, &entry, 0);
        for i in 1..sectors {
            let sector = self.read_sector(self.after(position, i))?;
            if i < entry.descriptor_sectors() {
                match (data_sectors, count_data(&sector, &entry, i)) {
                    (Some(sum), Some(more)) => data_sectors = Some(sum + more),
                    _ => return Ok(None),
                }
            } else if !is_data_of(&sector, entry.sequence_number) {
                return Ok(None);
            }
            crc = crc32c::crc32c_append(crc, &sector);
        }
        let complete = data_sectors == Some(sectors - entry.descriptor_sectors());
        Ok((complete && crc == checksum).then_some(entry))
    }

    /// Takes what a valid entry says into the overlay.
    fn read_descriptors(&self, entry: &Entry, overlay: &mut Overlay) -> Result<()> {
        let mut data_sectors = 0;
        for i in 0..entry.descriptor_sectors() {
            let place = self.after(entry.position, i);
            let sector = self.read_sector(place)?;
            for descriptor in descriptors(&sector, entry, i) {
                let start = descriptor.file_offset.get();
                let (len, source) = if descriptor.signature == ZERO_DESCRIPTOR {
                    let len = u64::from_le_bytes(descriptor.leading_bytes);
                    (len, Source::Zeros)
                } else {
                    let sectors = entry.descriptor_sectors() + data_sectors;
                    data_sectors += 1;
                    let data_sector = self.after(entry.position, sectors);
                    let page = Page {
                        data_sector: self.offset + u64::from(data_sector),
                        leading_bytes: descriptor.leading_bytes,
                        trailing_bytes: descriptor.trailing_bytes,
                    };
                    (SECTOR as u64, Source::Page(page))
                };
                let end = self.check_target(start, len).ok_or_else(|| {
                    Error::invalid(format!(
                        "the log replaces {len} bytes at {start}, where it must not"
                    ))
                    .at(self.offset + u64::from(place))
                })?;
                if len > 0 {
                    overlay.insert(start, end, source);
                }
            }
        }
        Ok(())
    }

    /// The end of a range that the log may replace: not the headers, which are changed without
    /// it, and not the log.
    fn check_target(&self, start: u64, len: u64) -> Option<u64> {
        let end = start.checked_add(len)?;
        let aligned = start.is_multiple_of(SECTOR as u64) && len.is_multiple_of(SECTOR as u64);
        let log_end = self.offset + u64::from(self.length);
        let over_log = start < log_end && self.offset < end;
        let first = RegionTable::OFFSETS[0];
        (aligned && start >= first && !over_log && end <= MAX_FILE_SIZE).then_some(end)
    }
}

/// The descriptors in the `i`th sector of an entry.
fn descriptors<'a>(
    sector: &'a Sector,
    entry: &Entry,
    i: u64,
) -> impl Iterator<Item = &'a RawDescriptor> {
    let (start, before, most) = match i {
        0 => (size_of::<RawEntryHeader>(), 0, FIRST_DESCRIPTORS),
        _ => {
            let before = FIRST_DESCRIPTORS as u64 + (i - 1) * MORE_DESCRIPTORS as u64;
            (0, before, MORE_DESCRIPTORS)
        }
    };
    let left = u64::from(entry.descriptor_count).saturating_sub(before);
    let count = left.min(most as u64) as usize;
    let found = <[RawDescriptor]>::ref_from_prefix_with_elems(&sector[start..], count);
    found.map_or(&[][..], |(found, _)| found).iter()
}

/// The number of data sectors that the descriptors in the `i`th sector of an entry need. `None` if
/// one of them is not of this entry.
fn count_data(sector: &Sector, entry: &Entry, i: u64) -> Option<u64> {
    let mut count = 0;
    for descriptor in descriptors(sector, entry, i) {
        if descriptor.sequence_number.get() != entry.sequence_number {
            return None;
        }
        match descriptor.signature {
            DATA_DESCRIPTOR => count += 1,
            ZERO_DESCRIPTOR => {}
            _ => return None,
        }
    }
    Some(count)
}

/// The checksum of an entry after its first sector, in which its own field counts as zero.
fn start_checksum(first: &Sector) -> u32 {
    let crc = crc32c::crc32c(&first[..4]);
    let crc = crc32c::crc32c_append(crc, &[0; 4]);
    crc32c::crc32c_append(crc, &first[8..])
}

/// Gives a data sector the marks of an entry.
fn mark_as_data(sector: &mut Sector, sequence_number: u64) {
    let sector: &mut RawDataSector = zerocopy::transmute_mut!(sector);
    sector.signature = DATA_SECTOR;
    sector.sequence_high = ((sequence_number >> 32) as u32).into();
    sector.sequence_low = (sequence_number as u32).into();
}

fn is_data_of(sector: &Sector, sequence_number: u64) -> bool {
    let sector: &RawDataSector = zerocopy::transmute_ref!(sector);
    let high = u64::from(sector.sequence_high.get());
    let low = u64::from(sector.sequence_low.get());
    sector.signature == DATA_SECTOR && (high << 32 | low) == sequence_number
}
