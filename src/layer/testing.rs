//! Helpers of this module's tests: tars built block by block, frames of zstd, and input in
//! pieces.

use std::collections::VecDeque;
use std::io::{self, Read, Write};

use zstd::stream::raw::CParameter;

use super::entry::Entries;
use super::header::BLOCK_SIZE;
use super::model::{ChunkSource, Entry, Piece, Reading};
use crate::buffer::chunk::{CHUNK_SIZE, Chunk, Pool};
use crate::error::Result;

/// A tar in the making.
#[derive(Clone, Default)]
pub(super) struct TarBuilder(pub(super) Vec<u8>);

impl TarBuilder {
    pub(super) fn new() -> Self {
        Self::default()
    }

    /// A ustar entry of a type, the size in its header being that of `data`.
    pub(super) fn entry(self, flag: u8, path: &[u8], data: &[u8]) -> Self {
        self.header(&header(flag, path, data.len() as u64))
            .data(data)
    }

    /// A header as it is, but for the checksum, which is made right.
    pub(super) fn header(mut self, header: &tar::Header) -> Self {
        let mut header = header.clone();
        header.set_cksum();
        self.0.extend_from_slice(header.as_bytes());
        self
    }

    /// Bytes, padded to whole blocks.
    pub(super) fn data(mut self, data: &[u8]) -> Self {
        self.0.extend_from_slice(data);
        self.0.resize(self.0.len().next_multiple_of(BLOCK_SIZE), 0);
        self
    }

    /// An extended header.
    pub(super) fn pax(self, records: &[(&str, &[u8])]) -> Self {
        let data: Vec<u8> = records
            .iter()
            .flat_map(|(key, value)| pax_record(key.as_bytes(), value))
            .collect();
        self.entry(b'x', b"PaxHeader", &data)
    }

    /// The end marker.
    pub(super) fn end(mut self) -> Vec<u8> {
        self.0.resize(self.0.len() + 2 * BLOCK_SIZE, 0);
        self.0
    }
}

pub(super) fn header(flag: u8, path: &[u8], size: u64) -> tar::Header {
    let mut header = tar::Header::new_ustar();
    header.as_old_mut().name[..path.len()].copy_from_slice(path);
    header.as_old_mut().linkflag = [flag];
    header.set_size(size);
    header.set_mode(0o644);
    header.set_uid(1000);
    header.set_gid(100);
    header.set_mtime(1_700_000_000);
    header
}

pub(super) fn pax_record(key: &[u8], value: &[u8]) -> Vec<u8> {
    let rest = key.len() + value.len() + 3;
    let mut length = rest + 1;
    while length != rest + length.to_string().len() {
        length = rest + length.to_string().len();
    }
    let mut record = format!("{length} ").into_bytes();
    record.extend_from_slice(key);
    record.push(b'=');
    record.extend_from_slice(value);
    record.push(b'\n');
    record
}

/// An uncompressed layer in chunks of any size.
pub(super) struct Chunks(VecDeque<Chunk>);

impl Chunks {
    /// Cut into pieces of this many bytes.
    pub(super) fn of(layer: &[u8], size: usize) -> Self {
        let pool = Pool::new();
        let whole = layer.chunks(CHUNK_SIZE).map(|part| chunk(&pool, part));
        let cut = |whole: Chunk| {
            let starts = (0..whole.len()).step_by(size);
            let cut = starts.map(|start| whole.slice(start..whole.len().min(start + size)));
            cut.collect::<Vec<_>>()
        };
        Self(whole.flat_map(cut).collect())
    }
}

fn chunk(pool: &Pool, bytes: &[u8]) -> Chunk {
    let mut chunk = pool.get();
    chunk[..bytes.len()].copy_from_slice(bytes);
    chunk.freeze(bytes.len())
}

impl ChunkSource for Chunks {
    fn next_chunk(&mut self) -> Result<Option<Chunk>> {
        Ok(self.0.pop_front())
    }
}

/// An entry with its contents, holes written out, and the pieces they came in: a positive
/// number of bytes of data, a negative one of a hole.
pub(super) type ReadEntry = (Entry, Vec<u8>, Vec<i64>);

/// All entries of a layer and the warnings, as one line each.
pub(super) fn read_all(layer: &[u8], size: usize) -> Result<(Vec<ReadEntry>, Vec<String>)> {
    read_as(Reading::Full, layer, size)
}

/// As [`read_all`], with another's eyes.
pub(super) fn read_as(
    reading: Reading,
    layer: &[u8],
    size: usize,
) -> Result<(Vec<ReadEntry>, Vec<String>)> {
    let entries = Entries::new(Chunks::of(layer, size.min(CHUNK_SIZE)), 1000);
    let mut entries = entries.reading(reading);
    let mut all = Vec::new();
    let mut entry = Entry::default();
    while entries.next(&mut entry)? {
        let (mut contents, mut pieces) = (Vec::new(), Vec::new());
        while let Some(piece) = entries.next_piece()? {
            match piece {
                Piece::Data(data) => {
                    contents.extend_from_slice(&data);
                    pieces.push(data.len() as i64);
                }
                Piece::Hole(length) => {
                    contents.resize(contents.len() + length as usize, 0);
                    pieces.push(-(length as i64));
                }
            }
        }
        all.push((entry.clone(), contents, pieces));
    }
    assert!(!entries.next(&mut entry)?, "the end is the end");
    let (mut source, warnings) = entries.finish()?;
    assert!(source.next_chunk()?.is_none(), "finish drains");
    let warnings = warnings.into_vec();
    Ok((all, warnings.iter().map(ToString::to_string).collect()))
}

/// A reader that gives a limited number of bytes at a time, is interrupted before each, and fails
/// the test when read again after its end.
pub(super) struct Dribble<'a> {
    pub(super) bytes: &'a [u8],
    pub(super) most: usize,
    interrupted: bool,
    ended: bool,
}

impl<'a> Dribble<'a> {
    pub(super) fn new(bytes: &'a [u8], most: usize) -> Self {
        Self {
            bytes,
            most,
            interrupted: false,
            ended: false,
        }
    }
}

impl Read for Dribble<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        assert!(!buffer.is_empty() && !self.ended);
        self.interrupted = !self.interrupted;
        if self.interrupted {
            return Err(io::ErrorKind::Interrupted.into());
        }
        let len = self.most.min(buffer.len()).min(self.bytes.len());
        buffer[..len].copy_from_slice(&self.bytes[..len]);
        self.bytes = &self.bytes[len..];
        self.ended = len == 0;
        Ok(len)
    }
}

/// `len` bytes that compress moderately.
pub(super) fn sample(len: usize) -> Vec<u8> {
    let mut state = 1_u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    let mut bytes = Vec::with_capacity(len + 64);
    while bytes.len() < len {
        let byte = next();
        match byte % 3 {
            0 => bytes.extend_from_slice(b"usr/share/doc/copyright"),
            1 => bytes.resize(bytes.len() + usize::from(byte) / 8, byte),
            _ => bytes.push(byte),
        }
    }
    bytes.truncate(len);
    bytes
}

/// One frame of zstd: `size` is whether its header tells the content's.
pub(super) fn zstd_frame(data: &[u8], size: bool, parameters: &[CParameter]) -> Vec<u8> {
    let mut encoder = zstd::Encoder::new(Vec::new(), 1).unwrap();
    for parameter in parameters {
        encoder.set_parameter(*parameter).unwrap();
    }
    if size {
        encoder
            .set_pledged_src_size(Some(data.len() as u64))
            .unwrap();
    }
    encoder.write_all(data).unwrap();
    encoder.finish().unwrap()
}
