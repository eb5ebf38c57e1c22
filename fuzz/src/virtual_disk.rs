//! Disk files in a short form, for a VHDX takes megabytes that are mostly zeros.
//!
//! The form is the size of the file (4 bytes), flags (1 byte), then pieces: their sector (2
//! bytes), their length (2 bytes) and as many bytes. Numbers are little-endian. Any bytes are a
//! file in this form.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;

use vhd_format::{AnyStorage, Disk, ErrorKind, ReadAt, Result, Storage};

const SECTOR: usize = 512;
const MAX_SIZE: u32 = 32 << 20;
const HEAD: usize = 5;
const PIECE_HEAD: usize = 4;
/// Sectors that a file may have with anything in them.
const MAX_SECTORS: usize = 64 << 11;

const CORRECT_CHECKSUMS: u8 = 1;

/// A file of which only sectors that were written to take memory.
#[derive(Clone, Debug, Default)]
pub struct Sparse {
    size: u64,
    sectors: BTreeMap<u64, [u8; SECTOR]>,
}

impl Sparse {
    /// The file whose short form this is.
    pub fn from_short(data: &[u8]) -> Self {
        let Some((head, mut rest)) = data.split_first_chunk::<HEAD>() else {
            return Self::default();
        };
        let [size @ .., flags] = head;
        let mut file = Self {
            size: u64::from(u32::from_le_bytes(*size) % (MAX_SIZE + 1)),
            ..Self::default()
        };
        while let Some((piece, after)) = rest.split_first_chunk::<PIECE_HEAD>() {
            let [a, b, c, d] = *piece;
            let len = usize::from(u16::from_le_bytes([c, d])).min(after.len());
            let (bytes, after) = after.split_at(len);
            let start = u64::from(u16::from_le_bytes([a, b])) * SECTOR as u64;
            let inside = file.size.saturating_sub(start).min(len as u64) as usize;
            file.put(start, &bytes[..inside]);
            rest = after;
        }
        if flags & CORRECT_CHECKSUMS != 0 {
            file.correct_checksums();
        }
        file
    }

    /// The short form of a file, whose checksums are to be corrected when it has changed.
    pub fn to_short(file: &[u8]) -> Vec<u8> {
        let mut short = (file.len() as u32).to_le_bytes().to_vec();
        short.push(CORRECT_CHECKSUMS);
        let sectors = file.chunks(SECTOR).enumerate();
        for (number, sector) in sectors.filter(|(_, s)| s.iter().any(|&byte| byte != 0)) {
            let used = sector
                .iter()
                .rposition(|&byte| byte != 0)
                .map_or(0, |i| i + 1);
            short.extend((number as u16).to_le_bytes());
            short.extend((used as u16).to_le_bytes());
            short.extend(&sector[..used]);
        }
        short
    }

    fn put(&mut self, offset: u64, data: &[u8]) {
        let mut done = 0;
        while done < data.len() {
            let at = offset + done as u64;
            let within = (at % SECTOR as u64) as usize;
            let len = (SECTOR - within).min(data.len() - done);
            let sector = self
                .sectors
                .entry(at / SECTOR as u64)
                .or_insert([0; SECTOR]);
            sector[within..within + len].copy_from_slice(&data[done..done + len]);
            done += len;
        }
    }

    /// Only with these right does a change get further than them.
    fn correct_checksums(&mut self) {
        for (offset, len) in [
            (64 << 10, 4096),
            (128 << 10, 4096),
            (192 << 10, 64 << 10),
            (256 << 10, 64 << 10),
            (1 << 20, 8192),
        ] {
            let mut bytes = vec![0; len];
            if self.read_at(offset, &mut bytes).is_ok() && bytes[..4] != [0; 4] {
                bytes[4..8].fill(0);
                let sum = crc32c::crc32c(&bytes);
                self.put(offset + 4, &sum.to_le_bytes());
            }
        }
        let last = self.size.saturating_sub(SECTOR as u64);
        for (offset, len, field) in [(0, 512, 64), (512, 1024, 36), (last, 512, 64)] {
            let mut bytes = vec![0; len];
            let starts =
                |bytes: &[u8]| bytes.starts_with(b"conectix") || bytes.starts_with(b"cxsp");
            if self.read_at(offset, &mut bytes).is_ok() && starts(&bytes) {
                bytes[field..field + 4].fill(0);
                let sum: u32 = bytes.iter().map(|&byte| u32::from(byte)).sum();
                self.put(offset + field as u64, &(!sum).to_be_bytes());
            }
        }
    }
}

impl ReadAt for Sparse {
    fn size(&self) -> io::Result<u64> {
        Ok(self.size)
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        let end = offset.checked_add(buffer.len() as u64);
        if end.is_none_or(|end| end > self.size) {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        buffer.fill(0);
        let end = offset + buffer.len() as u64;
        let first = offset / SECTOR as u64;
        for (number, sector) in self.sectors.range(first..end.div_ceil(SECTOR as u64)) {
            let start = number * SECTOR as u64;
            let (from, to) = (start.max(offset), (start + SECTOR as u64).min(end));
            buffer[(from - offset) as usize..(to - offset) as usize]
                .copy_from_slice(&sector[(from - start) as usize..(to - start) as usize]);
        }
        Ok(())
    }
}

impl Storage for Sparse {
    fn write_at(&mut self, offset: u64, data: &[u8]) -> io::Result<()> {
        let end = offset.checked_add(data.len() as u64);
        self.grow(end.ok_or(io::ErrorKind::StorageFull)?)?;
        self.put(offset, data);
        match self.sectors.len() > MAX_SECTORS {
            true => Err(io::ErrorKind::StorageFull.into()),
            false => Ok(()),
        }
    }

    fn grow(&mut self, len: u64) -> io::Result<()> {
        self.size = self.size.max(len);
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The contents of a disk from an offset on.
fn read(disk: &Disk<impl ReadAt>, place: u64) -> Result<Vec<u8>> {
    let len = 70_000.min(disk.virtual_size() - place);
    let mut bytes = vec![0xee; len as usize];
    disk.read_at(place, &mut bytes).map(|()| bytes)
}

/// The files of a chain at most.
const MAX_FILES: usize = 4;

/// Files in their short forms, one behind the other, behind a byte that says which file is whose
/// parent: the length of each comes before it (4 bytes, little-endian).
pub fn join_chain(order: u8, files: &[Vec<u8>]) -> Vec<u8> {
    let mut data = vec![order];
    for short in files {
        data.extend((short.len() as u32).to_le_bytes());
        data.extend(short);
    }
    data
}

/// Opens the first file with parents, each of which is one of the files, in any order and also
/// again and again, and reads here and there.
pub fn exercise_chain(data: &[u8]) {
    let Some((order, mut rest)) = data.split_first() else {
        return;
    };
    let mut files = Vec::new();
    while let Some((len, after)) = rest.split_first_chunk::<4>()
        && files.len() < MAX_FILES
    {
        let len = (u32::from_le_bytes(*len) as usize).min(after.len());
        let (short, after) = after.split_at(len);
        files.push(Arc::new(Sparse::from_short(short)));
        rest = after;
    }
    let Some(first) = files.first() else {
        return;
    };
    let mut asked = 0;
    let found = Disk::open_chain(Arc::clone(first), |parent| {
        let _ = format!("{parent:?}");
        let turn = order >> (2 * (asked % 4)) & 3;
        asked += 1;
        let file = &files[usize::from(turn) % files.len()];
        Ok(Box::new(Arc::clone(file)) as AnyStorage)
    });
    assert!(asked <= 256, "a chain has an end");
    let Ok(disk) = found else {
        return;
    };
    let mut damage = 0_u64;
    let _ = disk.check(|_| damage += 1);
    let size = disk.virtual_size();
    let places = [0, size / 3, size.saturating_sub(70_000), 5_000.min(size)];
    for place in places {
        let once = read(&disk, place).ok();
        assert!(once == read(&disk, place).ok(), "other bytes at {place}");
    }
    let mut position = 0;
    for _ in 0..200 {
        let Ok(extent) = disk.extent(position) else {
            break;
        };
        assert!(extent.end > position && extent.end <= size);
        let mut bytes = vec![0xee; (extent.end - position).min(5_000) as usize];
        if !extent.data && disk.read_at(position, &mut bytes).is_ok() {
            assert!(
                bytes.iter().all(|byte| *byte == 0),
                "no zeros at {position}"
            );
        }
        position = extent.end;
        if position == size {
            break;
        }
    }
}

/// Opens the file, reads here and there, writes, and finds again what was written.
pub fn exercise(data: &[u8]) {
    let file = Sparse::from_short(data);
    let Ok(disk) = Disk::open(&file) else {
        // A disk that cannot be read is not written to either.
        Disk::open_writable(file.clone()).unwrap_err();
        return;
    };
    let _ = format!("{disk:?} {:?}", disk.parent());
    match &disk {
        Disk::Vhd(disk) => _ = disk.allocated_blocks(),
        Disk::Vhdx(disk) => _ = disk.allocated_blocks(),
        _ => {}
    }
    let mut damage = 0_u64;
    let checked = disk.check(|_| damage += 1);
    let size = disk.virtual_size();
    let places = [0, size / 3, size.saturating_sub(70_000), 5_000.min(size)];
    for place in places {
        let _ = read(&disk, place);
    }
    let mut position = 0;
    for _ in 0..200 {
        match disk.extent(position) {
            Ok(extent) if extent.end < size => position = extent.end,
            _ => break,
        }
    }

    let mut disk = match Disk::open_writable(file.clone()) {
        Ok(disk) => disk,
        Err(error) => {
            // Damage to what has a copy is no reason.
            let expected = damage > 0 || checked.is_err() || error.kind() != ErrorKind::Invalid;
            assert!(expected, "a sound disk is not written to: {error}");
            return;
        }
    };
    let before = places.map(|place| read(&disk, place).ok());
    let mut model = before;
    for (i, place) in places.into_iter().enumerate() {
        let data = vec![i as u8; 3_000.min(size - place) as usize];
        if disk.write_at(place, &data).is_err() {
            return;
        }
        for (other, bytes) in places.into_iter().zip(&mut model) {
            let Some(bytes) = bytes else { continue };
            let end = other + bytes.len() as u64;
            let (from, to) = (place.max(other), (place + data.len() as u64).min(end));
            if from < to {
                bytes[(from - other) as usize..(to - other) as usize].fill(i as u8);
            }
        }
    }
    let Ok(written) = disk.close() else { return };
    let disk = Disk::open(written).expect("what was written opens");
    for (place, bytes) in places.into_iter().zip(model) {
        if let Some(bytes) = bytes {
            let found = read(&disk, place).expect("what was written is read");
            assert!(found == bytes, "other bytes at {place}");
        }
    }
}
