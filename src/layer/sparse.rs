//! Files with holes: GNU tar's four ways to say where the data stands.

use super::header::MAX_SIZE;
use super::model::Reading;
use super::number::{decimal, number};
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

/// Bytes of data in a map. `None` on overflow.
pub(super) fn data(segments: &[Segment]) -> Option<u64> {
    let mut lengths = segments.iter().map(|segment| segment.length);
    lengths.try_fold(0, u64::checked_add)
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
    pub(super) present: bool,
    /// The version as it is spelled, which matters to Go.
    major: Vec<u8>,
    minor: Vec<u8>,
    /// The real name; the header's tells old readers to look for these records.
    pub(super) name: Option<Vec<u8>>,
    /// The real size, which has two keys.
    size: Option<u64>,
    real_size: Option<u64>,
    count: Option<u64>,
    /// Format 0.0 has records for the offset and the length of each segment.
    offset: Option<u64>,
    /// Format 0.1 has one record for all of them.
    mapped: bool,
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
            b"major" => {
                decimal(value)?;
                self.major = value.to_vec();
            }
            b"minor" => {
                decimal(value)?;
                self.minor = value.to_vec();
            }
            b"name" if value.contains(&0) => return None,
            b"name" => self.name = (!value.is_empty()).then(|| value.to_vec()),
            b"size" => self.size = Some(decimal(value)?),
            b"realsize" => self.real_size = Some(decimal(value)?),
            b"numblocks" => self.count = Some(decimal(value)?),
            b"offset" if self.offset.is_some() => return None,
            b"offset" => self.offset = Some(decimal(value)?),
            // Readers disagree which of two maps counts.
            b"numbytes" if self.mapped => return None,
            b"map" if !self.mapped && !self.segments.is_empty() => return None,
            b"numbytes" => self.segments.push(Segment {
                offset: self.offset.take()?,
                length: decimal(value)?,
            }),
            b"map" => {
                self.mapped = true;
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

    /// Whether Go takes the file for a sparse one: by these versions, spelled so, or by a map
    /// without a version.
    pub(super) fn is_known_to_go(&self) -> bool {
        match (&self.major[..], &self.minor[..]) {
            (b"0", b"0" | b"1") | (b"1", b"0") => true,
            (b"", b"") => self.offset.is_some() || !self.segments.is_empty(),
            _ => false,
        }
    }

    /// The file's real size and where its map is; none for a file without holes.
    pub(super) fn finish(&mut self, reading: Reading) -> Result<Option<(u64, MapPlace)>> {
        if !self.present {
            return Ok(None);
        }
        let size = match (self.size, self.real_size) {
            (Some(size), Some(real_size)) if size != real_size => {
                return Err(Error::corrupt("a sparse file with two sizes"));
            }
            (size, real_size) => size.or(real_size),
        };
        let Some(size) = size else {
            return Err(Error::corrupt("a sparse file without its size"));
        };
        let size = check_size(size)?;
        // Checked when they were read, if they were.
        let version = |part| decimal(part).unwrap_or(0);
        match (version(&self.major), version(&self.minor)) {
            (1, 0) => Ok(Some((size, MapPlace::Data))),
            (0, 0 | 1) => {
                let segments = std::mem::take(&mut self.segments);
                let count = segments.len() as u64;
                // Go insists on the record.
                let told = self.count.or((reading == Reading::Full).then_some(count));
                if self.offset.is_some() || told != Some(count) {
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::testing::{ReadEntry, TarBuilder, header, read_all, sample};
    use super::*;

    fn segment(offset: u64, length: u64) -> Segment {
        Segment { offset, length }
    }

    /// A file's segments, its size, and the data that the archive holds.
    type Sparse = (Vec<Segment>, u64, Vec<u8>);

    /// Holes, data, holes, data: some of no length.
    fn sparse_files() -> impl Strategy<Value = Sparse> {
        let lengths = (0..3000_u64, 0..2000_u64);
        (prop::collection::vec(lengths, 0..60), 0..2000_u64).prop_map(|(runs, tail)| {
            let mut end = 0;
            let mut segments = Vec::new();
            for (hole, data) in runs {
                segments.push(segment(end + hole, data));
                end += hole + data;
            }
            let stored = segments.iter().map(|segment| segment.length).sum::<u64>();
            (segments, end + tail, sample(stored as usize))
        })
    }

    fn field(number: u64) -> [u8; 12] {
        *format!("{number:011o}\0").as_bytes().first_chunk().unwrap()
    }

    fn gnu_fields(segments: &[Segment], fields: &mut [tar::GnuSparseHeader]) {
        for (segment, place) in segments.iter().zip(fields) {
            place.offset = field(segment.offset);
            place.numbytes = field(segment.length);
        }
    }

    fn old_gnu((segments, size, data): &Sparse) -> TarBuilder {
        let mut first = header(b'S', b"file", data.len() as u64);
        first.as_mut_bytes()[257..265].copy_from_slice(b"ustar  \0");
        let gnu = first.as_gnu_mut().unwrap();
        gnu_fields(segments, &mut gnu.sparse);
        gnu.realsize = field(*size);
        let mut rest = segments.get(4..).unwrap_or_default().chunks(21).peekable();
        gnu.isextended = [u8::from(rest.peek().is_some())];
        let mut tar = TarBuilder::new().header(&first);
        while let Some(part) = rest.next() {
            let mut block = tar::GnuExtSparseHeader::new();
            gnu_fields(part, &mut block.sparse);
            block.isextended = [u8::from(rest.peek().is_some())];
            tar = tar.data(block.as_bytes());
        }
        tar.data(data)
    }

    fn pax_0_0((segments, size, data): &Sparse) -> TarBuilder {
        let mut records = vec![
            ("GNU.sparse.size", size.to_string()),
            ("GNU.sparse.numblocks", segments.len().to_string()),
        ];
        for segment in segments {
            records.push(("GNU.sparse.offset", segment.offset.to_string()));
            records.push(("GNU.sparse.numbytes", segment.length.to_string()));
        }
        pax(&records).entry(b'0', b"file", data)
    }

    fn pax_0_1((segments, size, data): &Sparse) -> TarBuilder {
        let map: Vec<String> = segments
            .iter()
            .map(|segment| format!("{},{}", segment.offset, segment.length))
            .collect();
        let records = [
            ("GNU.sparse.size", size.to_string()),
            ("GNU.sparse.numblocks", segments.len().to_string()),
            ("GNU.sparse.name", "file".to_owned()),
            ("GNU.sparse.map", map.join(",")),
        ];
        pax(&records).entry(b'0', b"GNUSparseFile.1/file", data)
    }

    fn pax_1_0((segments, size, data): &Sparse) -> TarBuilder {
        let mut map = format!("{}\n", segments.len());
        for segment in segments {
            map += &format!("{}\n{}\n", segment.offset, segment.length);
        }
        let map = TarBuilder::new().data(map.as_bytes()).0;
        let records = [
            ("GNU.sparse.major", "1".to_owned()),
            ("GNU.sparse.minor", "0".to_owned()),
            ("GNU.sparse.name", "file".to_owned()),
            ("GNU.sparse.realsize", size.to_string()),
        ];
        pax(&records).entry(b'0', b"GNUSparseFile.1/file", &[map, data.clone()].concat())
    }

    fn pax(records: &[(&str, String)]) -> TarBuilder {
        let records: Vec<_> = records
            .iter()
            .map(|(key, value)| (*key, value.as_bytes()))
            .collect();
        TarBuilder::new().pax(&records)
    }

    const FORMATS: [fn(&Sparse) -> TarBuilder; 4] = [old_gnu, pax_0_0, pax_0_1, pax_1_0];

    proptest! {
        #[test]
        fn every_format_gives_the_file(file in sparse_files(), size in 1..2000_usize) {
            let (segments, real_size, data) = &file;
            let mut contents = vec![0; *real_size as usize];
            let mut rest = &data[..];
            for segment in segments {
                let (part, after) = rest.split_at(segment.length as usize);
                contents[segment.offset as usize..][..part.len()].copy_from_slice(part);
                rest = after;
            }
            for format in FORMATS {
                let layer = format(&file).entry(b'0', b"next", b"x").end();
                let (entries, warnings) = read_all(&layer, size).unwrap();
                prop_assert_eq!(warnings.len(), 0);
                let [(entry, got, pieces), (next, ..)] = &entries[..] else {
                    panic!("{} entries", entries.len());
                };
                prop_assert_eq!((&entry.path[..], &next.path[..]), (&b"file"[..], &b"next"[..]));
                prop_assert_eq!(got, &contents);
                let held: i64 = pieces.iter().filter(|piece| **piece > 0).sum();
                prop_assert_eq!(held, data.len() as i64, "holes stay holes");
            }
        }

        #[test]
        fn a_map_is_checked_as_a_naive_model_does(
            segments in prop::collection::vec((0..8_u64, 0..3_u64), 0..4), size in 0..10_u64
        ) {
            let segments: Vec<_> = segments.into_iter().map(|(o, l)| segment(o, l)).collect();
            let stored = segments.iter().map(|segment| segment.length).sum();
            let ascending = segments.is_sorted_by(|a, b| a.offset + a.length <= b.offset);
            let inside = segments.iter().all(|segment| segment.offset + segment.length <= size);
            prop_assert_eq!(check(&segments, size, stored).is_ok(), ascending && inside);
            prop_assert!(check(&segments, size, stored + 1).is_err());
        }
    }

    #[test]
    fn hostile_maps_do_not_overflow() {
        for segments in [
            &[segment(u64::MAX, 1)][..],
            &[segment(1, u64::MAX)],
            &[segment(0, MAX_SIZE), segment(MAX_SIZE, MAX_SIZE)],
        ] {
            assert!(check(segments, MAX_SIZE, 1).is_err());
        }
        assert!(check(&[segment(MAX_SIZE, 0)], MAX_SIZE, 0).is_ok());
    }

    fn error(tar: TarBuilder) -> String {
        read_all(&tar.end(), 512).unwrap_err().to_string()
    }

    #[test]
    fn damaged_maps_are_refused() {
        let good: Sparse = (
            vec![segment(10, 4), segment(20, 4)],
            30,
            b"aaaabbbb".to_vec(),
        );
        let bad = |segments: &[Segment], size| (segments.to_vec(), size, good.2.clone());
        for format in FORMATS {
            assert!(read_all(&format(&good).end(), 512).is_ok());
            let overlap = bad(&[segment(10, 4), segment(13, 4)], 30);
            assert!(error(format(&overlap)).contains("overlaps or goes back"));
            let outside = bad(&[segment(10, 4), segment(20, 4)], 23);
            assert!(error(format(&outside)).contains("leaves the file of 23 bytes"));
            let short = bad(&[segment(10, 4), segment(20, 3)], 30);
            let told = "tells of 7 bytes, the archive has 8";
            assert!(error(format(&short)).contains(told));
        }
        for (records, message) in [
            (&[("GNU.sparse.size", b"x")][..], "has an invalid value"),
            (&[("GNU.sparse.map", b"1")], "has an invalid value"),
            (&[("GNU.sparse.numbytes", b"1")], "has an invalid value"),
            (&[("GNU.sparse.name", b"\0")], "has an invalid value"),
            (&[("GNU.sparse.major", b"1")], "without its size"),
            (
                &[("GNU.sparse.size", b"1"), ("GNU.sparse.offset", b"1")],
                "is incomplete",
            ),
            (
                &[("GNU.sparse.size", b"1"), ("GNU.sparse.numblocks", b"1")],
                "is incomplete",
            ),
            (
                &[("GNU.sparse.size", b"1"), ("GNU.sparse.realsize", b"2")],
                "two sizes",
            ),
            (
                &[("GNU.sparse.size", b"1"), ("GNU.sparse.major", b"2")],
                "format 2.0 is not supported",
            ),
        ] {
            let records: Vec<_> = records.iter().map(|(k, v)| (*k, &v[..])).collect();
            let message_of = error(TarBuilder::new().pax(&records).entry(b'0', b"f", b""));
            assert!(message_of.contains(message), "{message_of}");
        }
    }

    #[test]
    fn two_maps_are_refused() {
        let (offset, numbytes) = (("GNU.sparse.offset", "1"), ("GNU.sparse.numbytes", "1"));
        let map = ("GNU.sparse.map", "1,1");
        for records in [[map, offset, numbytes], [offset, numbytes, map]] {
            let records = records.map(|(key, value)| (key, value.to_owned()));
            let message = error(pax(&records).entry(b'0', b"f", b"x"));
            assert!(message.contains("has an invalid value"), "{message}");
        }
    }

    #[test]
    fn damaged_maps_in_the_data_are_refused() {
        for (map, message) in [
            (&b""[..], "longer than the entry's contents"),
            (b"x\n", "invalid number"),
            (b"\n", "invalid number"),
            (b"18446744073709551616\n", "invalid number"),
            (b"2\n0\n1\n", "invalid number"),
            (&[b'1'; 512], "invalid number"),
            (
                &[&[b'0'; 511][..], b"1"].concat(),
                "longer than the entry's contents",
            ),
        ] {
            let records: [(&str, &[u8]); 3] = [
                ("GNU.sparse.major", b"1"),
                ("GNU.sparse.minor", b"0"),
                ("GNU.sparse.realsize", b"1"),
            ];
            let padded = TarBuilder::new().data(map).0;
            let got = error(TarBuilder::new().pax(&records).entry(b'0', b"f", &padded));
            assert!(got.contains(message), "{got}");
        }
    }

    /// Memory is bounded by what the archive really holds, and that by a limit.
    #[test]
    fn long_maps_are_refused() {
        let many = |count: u64| -> Sparse {
            let segments: Vec<_> = (0..count).map(|i| segment(2 * i, 0)).collect();
            (segments, 2 * count, Vec::new())
        };
        let headers = "the extension headers of one entry exceed 1048576 bytes";
        let map = "the sparse map has more than 1048576 segments";
        for (format, fits, too_many, why) in [
            (FORMATS[0], 200_000, 1_100_000, map),
            (FORMATS[1], 12_000, 200_000, headers),
            (FORMATS[2], 100_000, 200_000, headers),
            (FORMATS[3], 1_040_000, 1_100_000, map),
        ] {
            let read = |count| -> Result<(Vec<ReadEntry>, Vec<String>)> {
                read_all(&format(&many(count)).end(), 1 << 16)
            };
            assert!(read(fits).is_ok());
            let message = read(too_many).unwrap_err().to_string();
            assert!(message.contains(why), "{message}");
        }
    }

    /// In a PAX record, as some writers tell it, while the header has that of the archive's part.
    #[test]
    fn the_size_of_the_file_may_be_that_of_the_record() {
        let good: Sparse = (
            vec![segment(10, 4), segment(2000, 4)],
            4000,
            b"aaaabbbb".to_vec(),
        );
        for format in FORMATS {
            let with_size = |size: u64| {
                let size = size.to_string();
                let records = [("size", size.as_bytes())];
                TarBuilder::new()
                    .pax(&records)
                    .data(&format(&good).0)
                    .entry(b'0', b"next", b"x")
            };
            let (entries, _) = read_all(&with_size(4000).end(), 512).unwrap();
            let [(_, contents, _), (next, ..)] = &entries[..] else {
                panic!("{} entries", entries.len());
            };
            assert_eq!(contents.len(), 4000);
            assert_eq!(
                (&contents[10..14], &contents[2000..2004]),
                (&b"aaaa"[..], &b"bbbb"[..])
            );
            assert_eq!(next.path, b"next");
            // Any other size is that of the archive's part, and a wrong one.
            let message = error(with_size(3999));
            assert!(message.contains("the archive has"), "{message}");
        }
    }
}
