//! Files with holes: GNU tar's four ways to say where the data stands.

use super::header::{MAX_SIZE, number};
use super::pax::decimal;
use crate::error::{Error, Result};

/// A stretch of data; all around it is a hole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Segment {
    pub(super) offset: u64,
    pub(super) length: u64,
}

/// Checks that segments ascend without overlap inside a file of `size` bytes and hold just
/// the `stored` bytes that the archive has.
pub(super) fn check(segments: &[Segment], size: u64, stored: u64) -> Result<()> {
    let mut end = 0;
    let mut data = 0_u64;
    for segment in segments {
        if segment.offset < end {
            return Err(Error::corrupt("the sparse map overlaps or goes back"));
        }
        end = match segment.offset.checked_add(segment.length) {
            Some(end) if end <= size => end,
            _ => {
                return Err(Error::corrupt(format!(
                    "the sparse map leaves the file of {size} bytes"
                )));
            }
        };
        // Disjoint and within the size, their sum cannot overflow.
        data += segment.length;
    }
    if data != stored {
        return Err(Error::corrupt(format!(
            "the sparse map tells of {data} bytes, the archive has {stored}"
        )));
    }
    Ok(())
}

/// Checks a size that a PAX record tells.
pub(super) fn check_size(size: u64) -> Result<u64> {
    if size > MAX_SIZE {
        return Err(Error::corrupt(format!("the size {size} is too large")));
    }
    Ok(size)
}

/// Adds the segments of an old GNU header or of a block that extends it.
pub(super) fn read_gnu(fields: &[tar::GnuSparseHeader], segments: &mut Vec<Segment>) -> Result<()> {
    for field in fields {
        // The first unused field ends the list.
        if field.numbytes[0] == 0 {
            break;
        }
        let part = |field: &[u8]| number(field).and_then(|number| u64::try_from(number).ok());
        let (Some(offset), Some(length)) = (part(&field.offset), part(&field.numbytes)) else {
            return Err(Error::corrupt("the sparse map has an invalid number"));
        };
        segments.push(Segment { offset, length });
    }
    Ok(())
}

/// The `GNU.sparse.` records of formats 0.0, 0.1 and 1.0.
#[derive(Debug, Default)]
pub(super) struct PaxSparse {
    /// There is such a record.
    present: bool,
    major: u64,
    minor: u64,
    /// The real name; the header's tells old readers to look for these records.
    pub(super) name: Option<Vec<u8>>,
    /// The real size.
    size: Option<u64>,
    count: Option<u64>,
    /// Format 0.0 has records for the offset and the length of each segment.
    offset: Option<u64>,
    segments: Vec<Segment>,
}

/// Where a sparse file has its map.
pub(super) enum MapPlace {
    /// In the records.
    Records(Vec<Segment>),
    /// Before the data, in format 1.0.
    Data,
}

impl PaxSparse {
    /// Applies a record, its key without the prefix; none if its value is invalid.
    pub(super) fn apply(&mut self, key: &[u8], value: &[u8]) -> Option<()> {
        self.present = true;
        match key {
            b"major" => self.major = decimal(value)?,
            b"minor" => self.minor = decimal(value)?,
            b"name" if value.contains(&0) => return None,
            b"name" => self.name = (!value.is_empty()).then(|| value.to_vec()),
            b"size" | b"realsize" => self.size = Some(decimal(value)?),
            b"numblocks" => self.count = Some(decimal(value)?),
            b"offset" if self.offset.is_some() => return None,
            b"offset" => self.offset = Some(decimal(value)?),
            b"numbytes" => self.segments.push(Segment {
                offset: self.offset.take()?,
                length: decimal(value)?,
            }),
            b"map" => {
                self.segments.clear();
                let mut numbers = value.split(|byte| *byte == b',').map(decimal);
                while let Some(offset) = numbers.next() {
                    // An empty map is one empty number.
                    if value.is_empty() {
                        break;
                    }
                    self.segments.push(Segment {
                        offset: offset?,
                        length: numbers.next()??,
                    });
                }
            }
            _ => {}
        }
        Some(())
    }

    /// The file's real size and where its map is; none for a file without holes.
    pub(super) fn finish(&mut self) -> Result<Option<(u64, MapPlace)>> {
        if !self.present {
            return Ok(None);
        }
        let Some(size) = self.size else {
            return Err(Error::corrupt("a sparse file without its size"));
        };
        let size = check_size(size)?;
        match (self.major, self.minor) {
            (1, 0) => Ok(Some((size, MapPlace::Data))),
            (0, 0 | 1) => {
                let segments = std::mem::take(&mut self.segments);
                let told = self.count.unwrap_or(segments.len() as u64);
                if self.offset.is_some() || told != segments.len() as u64 {
                    return Err(Error::corrupt("the sparse map is incomplete"));
                }
                Ok(Some((size, MapPlace::Records(segments))))
            }
            (major, minor) => Err(Error::unsupported(format!(
                "the GNU sparse format {major}.{minor} is not supported"
            ))),
        }
    }
}

/// Reads the map of format 1.0: decimal numbers, each ended by a newline; first how many
/// segments there are, then the offset and length of each.
#[derive(Debug, Default)]
pub(super) struct MapReader {
    number: Option<u64>,
    count: Option<u64>,
    offset: Option<u64>,
}

impl MapReader {
    /// Reads on in the next block; true when the map is complete, the rest being padding.
    pub(super) fn read(&mut self, block: &[u8], segments: &mut Vec<Segment>) -> Result<bool> {
        for byte in block {
            let complete = self.byte(*byte, segments);
            if complete.ok_or_else(|| Error::corrupt("the sparse map has an invalid number"))? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn byte(&mut self, byte: u8, segments: &mut Vec<Segment>) -> Option<bool> {
        if byte != b'\n' {
            let digit = byte.checked_sub(b'0').filter(|digit| *digit <= 9)?;
            let number = self.number.unwrap_or(0).checked_mul(10)?;
            self.number = Some(number.checked_add(digit.into())?);
            return Some(false);
        }
        let number = self.number.take()?;
        match (self.count, self.offset.take()) {
            (None, _) => self.count = Some(number),
            (Some(_), None) => self.offset = Some(number),
            (Some(_), Some(offset)) => segments.push(Segment {
                offset,
                length: number,
            }),
        }
        Some(self.offset.is_none() && self.count == Some(segments.len() as u64))
    }
}
