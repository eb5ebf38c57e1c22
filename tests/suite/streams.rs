//! SEMANTICS.md, "Streams": each test is a line of the table.

mod parts;

use std::io::{self, Read, Write};

use flate2::Crc;
use flate2::write::{DeflateEncoder, GzEncoder};
use tar2vhd::disk::MemoryDisk;
use tar2vhd::{Compression, Error, ErrorKind, Options, WarningKind};

use crate::common::entry::{dir, file};
use crate::common::layer::{convert, image, layer_with, options, refused_tar};
use crate::common::tar::{Header, Tar};

/// A layer of several chunks.
fn sample() -> Vec<u8> {
    let mut noise = 1_u32;
    let mut data = vec![0; 700_000];
    for byte in &mut data {
        noise = noise.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        // Half of it compresses.
        *byte = if noise >> 31 == 0 {
            (noise >> 23) as u8
        } else {
            7
        };
    }
    Tar::of(&[dir("d"), file("d/f", data), file("g", "small")])
}

fn gzip(data: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(data).unwrap();
    encoder.finish().unwrap()
}

/// Which optional fields a gzip header has (RFC 1952, 2.3).
#[derive(Clone, Copy, Default)]
struct Fields {
    text: bool,
    crc: bool,
    extra: bool,
    name: bool,
    comment: bool,
    wrong_crc: bool,
}

fn gzip_with(data: &[u8], fields: Fields) -> Vec<u8> {
    let flags = u8::from(fields.text)
        | u8::from(fields.crc) << 1
        | u8::from(fields.extra) << 2
        | u8::from(fields.name) << 3
        | u8::from(fields.comment) << 4;
    let mut bytes = vec![0x1f, 0x8b, 8, flags, 1, 2, 3, 4, 0, 255];
    if fields.extra {
        bytes.extend_from_slice(b"\x06\0AB\x02\0xy");
    }
    if fields.name {
        bytes.extend_from_slice(b"layer.tar\0");
    }
    if fields.comment {
        bytes.extend_from_slice(b"a comment\0");
    }
    if fields.crc {
        let mut crc = Crc::new();
        crc.update(&bytes);
        let sum = crc.sum() as u16 ^ u16::from(fields.wrong_crc);
        bytes.extend_from_slice(&sum.to_le_bytes());
    }
    let mut encoder = DeflateEncoder::new(bytes, flate2::Compression::fast());
    encoder.write_all(data).unwrap();
    let mut bytes = encoder.finish().unwrap();
    let mut crc = Crc::new();
    crc.update(data);
    bytes.extend_from_slice(&crc.sum().to_le_bytes());
    bytes.extend_from_slice(&(data.len() as u32).to_le_bytes());
    bytes
}

fn zstd(data: &[u8]) -> Vec<u8> {
    zstd::stream::encode_all(data, 1).unwrap()
}

/// A frame of raw blocks with any header (RFC 8878, 3.1.1).
struct Frame {
    /// Log of the window less 10, and eighths.
    window: (u8, u8),
    dictionary: Option<u8>,
}

impl Frame {
    fn encode(&self, data: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0x28, 0xb5, 0x2f, 0xfd];
        bytes.push(u8::from(self.dictionary.is_some()));
        bytes.push(self.window.0 << 3 | self.window.1);
        bytes.extend(self.dictionary);
        let mut blocks = data.chunks(100_000).peekable();
        while let Some(block) = blocks.next() {
            let last = u32::from(blocks.peek().is_none());
            let header = (block.len() as u32) << 3 | last;
            bytes.extend_from_slice(&header.to_le_bytes()[..3]);
            bytes.extend_from_slice(block);
        }
        bytes
    }
}

fn skippable(data: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0x5e, 0x2a, 0x4d, 0x18];
    bytes.extend_from_slice(&(data.len() as u32).to_le_bytes());
    bytes.extend_from_slice(data);
    bytes
}

/// The stream gives the disk that the plain tar gives.
#[track_caller]
fn assert_same(plain: &[u8], stream: &[u8], compression: Compression, what: &str) {
    let (wanted, wanted_summary) = convert(plain, &options()).unwrap();
    let (disk, summary) = convert(stream, &options()).unwrap_or_else(|e| panic!("{what}: {e}"));
    assert_eq!(summary.compression, compression, "{what}");
    assert_eq!(summary.layer, wanted_summary.layer, "{what}");
    assert_eq!(summary.compressed.size, stream.len() as u64, "{what}");
    assert_eq!(summary.compressed.digest, sha256(stream), "{what}");
    assert!(disk == wanted, "{what}: another disk");
}

fn sha256(bytes: &[u8]) -> tar2vhd::Digest {
    use sha2::Digest as _;
    tar2vhd::Digest(sha2::Sha256::digest(bytes).into())
}

// plain tar, gzip, zstd | accepted

#[test]
fn a_plain_tar_is_accepted() {
    let tar = sample();
    assert_same(&tar, &tar, Compression::None, "plain");
    let (_, summary) = convert(&tar, &options()).unwrap();
    assert_eq!(summary.layer.digest, sha256(&tar));
    assert_eq!(summary.layer, summary.compressed);
}

#[test]
fn gzip_with_all_header_fields_is_accepted() {
    let tar = sample();
    for bits in 0..32 {
        let has = |bit: u32| bits >> bit & 1 == 1;
        let fields = Fields {
            text: has(0),
            crc: has(1),
            extra: has(2),
            name: has(3),
            comment: has(4),
            wrong_crc: false,
        };
        let stream = gzip_with(&tar, fields);
        assert_same(
            &tar,
            &stream,
            Compression::Gzip,
            &format!("flags {bits:05b}"),
        );
    }
}

#[test]
fn gzip_of_many_members_is_accepted() {
    let tar = sample();
    let members = |pieces: &[&[u8]]| pieces.iter().flat_map(|p| gzip(p)).collect::<Vec<_>>();
    let (a, b) = tar.split_at(1000);
    let empty: &[u8] = &[];
    for (what, pieces) in [
        ("two", vec![a, b]),
        ("an empty one first", vec![empty, &tar]),
        ("an empty one last, as bgzip writes", vec![&tar, empty]),
        (
            "many, as eStargz has",
            tar.chunks(512)
                .take(200)
                .chain([&tar[200 * 512..]])
                .collect(),
        ),
        ("many of odd sizes", tar.chunks(65_280).collect()),
    ] {
        assert_same(&tar, &members(&pieces), Compression::Gzip, what);
    }
}

#[test]
fn gzip_with_sync_flushes_is_accepted() {
    // As pigz -i and rsyncable writers make.
    let tar = sample();
    let mut encoder = GzEncoder::new(Vec::new(), flate2::Compression::default());
    for piece in tar.chunks(50_000) {
        encoder.write_all(piece).unwrap();
        encoder.flush().unwrap();
    }
    assert_same(
        &tar,
        &encoder.finish().unwrap(),
        Compression::Gzip,
        "flushes",
    );
    let mut stored = GzEncoder::new(Vec::new(), flate2::Compression::none());
    stored.write_all(&tar).unwrap();
    assert_same(&tar, &stored.finish().unwrap(), Compression::Gzip, "stored");
}

#[test]
fn zstd_of_every_kind_is_accepted() {
    let tar = sample();
    let (a, b) = tar.split_at(300_000);
    let mut checked = zstd::stream::Encoder::new(Vec::new(), 3).unwrap();
    checked.include_checksum(true).unwrap();
    checked.write_all(&tar).unwrap();
    let mut sized = zstd::stream::Encoder::new(Vec::new(), 3).unwrap();
    sized.set_pledged_src_size(Some(tar.len() as u64)).unwrap();
    sized.write_all(&tar).unwrap();
    let chunked = [
        skippable(b"x"),
        zstd(a),
        zstd(b),
        skippable(&[7; 1000]),
        skippable(b"footer"),
    ];
    for (what, stream) in [
        ("one frame without size or checksum", zstd(&tar)),
        ("a checksum", checked.finish().unwrap()),
        ("a content size", sized.finish().unwrap()),
        ("frames", [zstd(a), zstd(b)].concat()),
        (
            "an empty frame",
            [zstd(b""), zstd(&tar), zstd(b"")].concat(),
        ),
        ("skippable frames, as zstd:chunked has", chunked.concat()),
        (
            "only raw blocks",
            Frame {
                window: (8, 0),
                dictionary: None,
            }
            .encode(&tar),
        ),
    ] {
        assert_same(&tar, &stream, Compression::Zstd, what);
    }
}

#[test]
fn chunks_of_a_blob_that_give_nothing_are_digested() {
    // Chunks are 256 KiB: the last one of the layer is full, and the end is found behind it.
    let mut tar = sample();
    tar.resize(tar.len().next_multiple_of(256 << 10), 0);
    let stream = [
        skippable(&[1; 900_000]),
        zstd(&tar),
        skippable(&[2; 900_000]),
    ]
    .concat();
    for threads in [1, 2, 3, 4] {
        let options = options().threads(threads);
        let summary = tar2vhd::convert(&stream[..], &MemoryDisk::new(), &options).unwrap();
        assert_eq!(summary.compressed.size, stream.len() as u64, "{threads}");
        assert_eq!(summary.compressed.digest, sha256(&stream), "{threads}");
        assert_eq!(summary.layer.digest, sha256(&tar), "{threads}");
    }
}

#[test]
fn a_media_type_that_contradicts_the_bytes_is_refused() {
    let tar = sample();
    let streams = [
        (Compression::None, tar.clone()),
        (Compression::Gzip, gzip(&tar)),
        (Compression::Zstd, zstd(&tar)),
    ];
    for (expected, _) in &streams {
        for (actual, stream) in &streams {
            let options = options().compression(*expected);
            if expected == actual {
                convert(stream, &options).unwrap();
            } else {
                refused_tar(ErrorKind::Mismatch, stream, &options);
            }
        }
    }
}

// zero padding after the last gzip member | accepted

#[test]
fn zero_padding_after_gzip_is_accepted() {
    let tar = sample();
    for padding in [1, 7, 511, 512, 10_240, 300_000] {
        let stream = [gzip(&tar), vec![0; padding]].concat();
        assert_same(
            &tar,
            &stream,
            Compression::Gzip,
            &format!("{padding} zeros"),
        );
    }
}

// any other bytes after it; bad CRC, length, checksum; truncation anywhere | error

#[test]
fn other_bytes_after_the_stream_are_refused() {
    let tar = sample();
    for garbage in [
        &b"x"[..],
        b"\0\0x",
        b"\x1f",
        b"\x1f\x8b",
        &[0x1f, 0x8b, 8, 0, 0],
    ] {
        let stream = [&gzip(&tar)[..], garbage].concat();
        refused_tar(ErrorKind::Corrupt, &stream, &options());
    }
    for garbage in [&b"x"[..], b"\0", b"\x28\xb5", &[0; 512]] {
        let stream = [&zstd(&tar)[..], garbage].concat();
        refused_tar(ErrorKind::Corrupt, &stream, &options());
    }
}

#[test]
fn a_member_after_padding_is_refused() {
    let tar = sample();
    let (a, b) = tar.split_at(1000);
    let stream = [gzip(a), vec![0; 100], gzip(b)].concat();
    refused_tar(ErrorKind::Corrupt, &stream, &options());
}

#[test]
fn bad_checks_are_refused() {
    let tar = sample();
    let good = gzip_with(&tar, Fields::default());
    for from_end in [1, 4, 5, 8] {
        let mut bad = good.clone();
        let at = bad.len() - from_end;
        bad[at] ^= 0x10;
        refused_tar(ErrorKind::Corrupt, &bad, &options());
    }
    let crc = Fields {
        crc: true,
        name: true,
        wrong_crc: true,
        ..Fields::default()
    };
    refused_tar(ErrorKind::Corrupt, &gzip_with(&tar, crc), &options());
    // Reserved flags and another method than deflate.
    for (at, byte) in [(3, 0x20), (3, 0x80), (2, 7)] {
        let mut bad = good.clone();
        bad[at] = byte;
        refused_some(&bad);
    }
    let mut encoder = zstd::stream::Encoder::new(Vec::new(), 1).unwrap();
    encoder.include_checksum(true).unwrap();
    encoder.write_all(&tar).unwrap();
    let mut bad = encoder.finish().unwrap();
    *bad.last_mut().unwrap() ^= 1;
    refused_tar(ErrorKind::Corrupt, &bad, &options());
}

/// Refused, as damaged or as something we do not read.
#[track_caller]
fn refused_some(stream: &[u8]) -> Error {
    match convert(stream, &options()) {
        Ok((_, summary)) => panic!("accepted: {summary:?}"),
        Err(error) => {
            let kinds = [ErrorKind::Corrupt, ErrorKind::Unsupported];
            assert!(kinds.contains(&error.kind()), "{error:?}");
            error
        }
    }
}

#[test]
fn truncation_anywhere_is_refused() {
    let tar = Tar::of(&[file("f", [7; 3000]), file("g", "x")]);
    for (what, stream) in [("gzip", gzip(&tar)), ("zstd", zstd(&tar))] {
        for len in 1..stream.len() {
            let error = refused_some(&stream[..len]);
            assert!(!error.to_string().is_empty(), "{what} of {len} bytes");
        }
    }
    // A plain tar is whole only where an entry ends.
    for len in 1..tar.len() - 1024 {
        let whole = len == 512 + 3072;
        assert_eq!(
            convert(&tar[..len], &options()).is_ok(),
            whole,
            "{len} bytes"
        );
    }
    let big = gzip(&sample());
    for len in [big.len() / 3, big.len() - 9, big.len() - 1] {
        refused_tar(ErrorKind::Corrupt, &big[..len], &options());
    }
}

// zstd window over 128 MiB; zstd needing a dictionary | error naming the size / the id

#[test]
fn zstd_windows_over_the_limit_are_refused_by_size() {
    let tar = sample();
    let frame = |log: u8, eighths| Frame {
        window: (log - 10, eighths),
        dictionary: None,
    };
    let stream = frame(27, 0).encode(&tar);
    assert_same(&tar, &stream, Compression::Zstd, "128 MiB");
    for (log, eighths, size) in [
        (27, 1, 150_994_944_u64),
        (28, 0, 1 << 28),
        (31, 0, 1 << 31),
        (41, 7, (1 << 41) / 8 * 15),
    ] {
        let stream = frame(log, eighths).encode(&tar);
        let error = refused_tar(ErrorKind::Limit, &stream, &options());
        let text = error.to_string();
        let mib = (size >> 20).to_string();
        assert!(
            text.contains(&size.to_string()) || text.contains(&mib),
            "{size}: {text}"
        );
    }
    let options = options().max_window(1 << 28);
    assert!(convert(&frame(28, 0).encode(&tar), &options).is_ok());
    refused_tar(ErrorKind::Limit, &frame(28, 1).encode(&tar), &options);
    // Also when it is not the first frame.
    let stream = [
        frame(20, 0).encode(&tar[..512]),
        frame(29, 0).encode(&tar[512..]),
    ]
    .concat();
    refused_tar(ErrorKind::Limit, &stream, &options);
}

#[test]
fn a_zstd_dictionary_is_refused_by_id() {
    let frame = Frame {
        window: (8, 0),
        dictionary: Some(77),
    };
    let error = refused_tar(ErrorKind::Unsupported, &frame.encode(&sample()), &options());
    assert!(error.to_string().contains("77"), "{error}");
}

// xz, bzip2, lz4, compress, lzip; gzip inside gzip | error naming the format

#[test]
fn other_compressions_are_refused_by_name() {
    for (name, magic) in [
        ("xz", &b"\xfd7zXZ\0\0\x04"[..]),
        ("bzip2", b"BZh91AY&SY"),
        ("lz4", b"\x04\x22\x4d\x18\x64\x40\xa7"),
        ("compress", b"\x1f\x9d\x90"),
        ("lzip", b"LZIP\x01\x0c"),
    ] {
        let mut stream = magic.to_vec();
        stream.resize(2000, 0x55);
        let error = refused_tar(ErrorKind::Unsupported, &stream, &options());
        let text = error.to_string().to_lowercase();
        assert!(text.contains(name), "{name}: {text}");
        // And inside another.
        let error = refused_some(&gzip(&stream));
        assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
    }
    let tar = sample();
    for twice in [gzip(&gzip(&tar)), gzip(&zstd(&tar)), zstd(&gzip(&tar))] {
        let error = refused_tar(ErrorKind::Unsupported, &twice, &options());
        let text = error.to_string().to_lowercase();
        assert!(text.contains("gzip") || text.contains("zstd"), "{text}");
    }
}

// 0 bytes, also after decompression | error: empty input; an option allows it, with a warning

#[test]
fn empty_input_is_refused_unless_allowed() {
    for stream in [vec![], gzip(b""), zstd(b""), skippable(b"nothing")] {
        let error = refused_tar(ErrorKind::Corrupt, &stream, &options());
        assert!(error.to_string().contains("empty"), "{error}");
        let image = image(&stream, &options().allow_empty(true));
        assert!(image.names().is_empty());
        image.assert_warnings(&[(WarningKind::EmptyInput, "")]);
        assert_eq!(image.summary.layer.digest, sha256(b""));
        assert_eq!(image.summary.compressed.digest, sha256(&stream));
    }
}

// two zero blocks (the empty layer) | an empty file system

#[test]
fn the_empty_layer_is_an_empty_file_system() {
    let tar = vec![0; 1024];
    for stream in [tar.clone(), gzip(&tar), zstd(&tar), vec![0; 10_240]] {
        let image = image(&stream, &options());
        assert!(image.names().is_empty());
        image.assert_no_warnings();
        assert_eq!(image.summary.entries.tar_entries, 0);
    }
}

// no end-of-archive marker, at an entry boundary | accepted, with a warning

#[test]
fn an_archive_without_an_end_marker_is_accepted_with_a_warning() {
    let tar = Tar::new().add(&file("f", "x"));
    for stream in [
        tar.clone().unfinished(),
        // One block of zeros is half a marker.
        tar.clone().raw([0; 512]).unfinished(),
    ] {
        let image = image(&stream, &options());
        image.assert_file("f", "x");
        image.assert_warnings(&[(WarningKind::NoEndMarker, "")]);
    }
    let stream = tar.finish();
    image(&stream, &options()).assert_no_warnings();
}

// bad header checksum (signed sums accepted), negative or overflowing size, NUL in a PAX path,
// extension headers of one entry over 1 MiB, lone garbage block | error

#[test]
fn signed_header_checksums_are_accepted_and_wrong_ones_refused() {
    let header = Header::new(b'0').name(b"caf\xe9");
    let tar = Tar::new().header(&header.clone().signed_checksum(), "");
    assert_eq!(image(&tar.finish(), &options()).names(), ["caf\\xe9"]);
    let tar = Tar::new()
        .add(&file("f", ""))
        .header(&header.wrong_checksum(), "");
    let error = refused_tar(ErrorKind::Corrupt, &tar.finish(), &options());
    assert_eq!(error.offset(), Some(512));
}

#[test]
fn negative_and_overflowing_sizes_are_refused() {
    let plain = |size: i128| Header::new(b'0').gnu().name("f").base256(124, 12, size);
    for header in [
        plain(-1),
        plain(i128::from(u64::MAX)),
        plain(i128::from(i64::MAX)),
        plain(1 << 80),
        Header::new(b'0').name("f").field(124, "-0000000001\0"),
        Header::new(b'0').name("f").field(124, "notanumber\0"),
    ] {
        let error = refused_limits(&Tar::new().header(&header, "").finish());
        assert_eq!(error.offset(), Some(0), "{error}");
    }
    for size in [
        "-1",
        "18446744073709551616",
        "9223372036854775807",
        "1x",
        "",
    ] {
        let tar = Tar::new()
            .pax(&[(b"size", size.as_bytes())])
            .header(&Header::new(b'0').name("f"), "");
        // An empty record deletes the key: then there is nothing wrong.
        if size.is_empty() {
            convert(&tar.finish(), &options()).unwrap();
        } else {
            refused_limits(&tar.finish());
        }
    }
}

/// Refused as malformed, or as larger than any disk: without trying to hold it.
#[track_caller]
fn refused_limits(tar: &[u8]) -> Error {
    match convert(tar, &options()) {
        Ok((_, summary)) => panic!("accepted: {summary:?}"),
        Err(error) => {
            let kinds = [ErrorKind::Corrupt, ErrorKind::Limit];
            assert!(kinds.contains(&error.kind()), "{error:?}");
            error
        }
    }
}

#[test]
fn a_nul_in_a_pax_path_is_refused() {
    for key in [&b"path"[..], b"linkpath"] {
        let tar = Tar::new()
            .pax(&[(key, b"a\0b")])
            .header(&Header::new(b'2').name("f").linkname("t"), "");
        refused_tar(ErrorKind::Corrupt, &tar.finish(), &options());
    }
}

#[test]
fn malformed_pax_records_are_refused() {
    for data in [
        &b"5 a=b\n"[..],
        b"60 path=x\n",
        b"x path=x\n",
        b"11 path=name",
        b"8 pathx\n",
        b"0 path=x\n",
        b"99999999999999999999 path=x\n",
    ] {
        let tar = Tar::new().extension(b'x', data).add(&file("f", ""));
        let error = refused_tar(ErrorKind::Corrupt, &tar.finish(), &options());
        assert_eq!(error.offset(), Some(0), "{error}");
    }
    // An extension header with nothing to extend.
    let tar = Tar::new().add(&file("f", "")).pax(&[(b"path", b"x")]);
    refused_tar(ErrorKind::Corrupt, &tar.finish(), &options());
}

#[test]
fn extension_headers_of_one_entry_over_1_mib_are_refused() {
    let value = vec![b'v'; 500_000];
    let under = Tar::new()
        .pax(&[(b"comment", &value)])
        .pax(&[(b"comment", &value)])
        .add(&file("f", ""));
    image(&under.finish(), &options());
    let over = Tar::new()
        .pax(&[(b"comment", &value)])
        .pax(&[(b"comment", &value)])
        .pax(&[(b"comment", &value)])
        .add(&file("f", ""));
    refused_limits(&over.finish());
    // What a header claims is believed only so far.
    for typeflag in [b'x', b'g', b'L', b'K', b'X'] {
        let header = Header::new(typeflag).name("big").size(0o77_777_777_777);
        refused_limits(&Tar::new().header(&header, "").finish());
    }
}

#[test]
fn a_lone_garbage_block_is_refused() {
    let mut garbage = [0x55; 512];
    refused_some(&garbage);
    garbage[0] = 0;
    refused_tar(ErrorKind::Corrupt, &garbage, &options());
    let tar = Tar::new().add(&file("f", "x")).raw([0; 512]).raw([1; 512]);
    let error = refused_tar(ErrorKind::Corrupt, &tar.finish(), &options());
    assert!(error.offset().is_some());
}

// more entries than --max-entries, more data than --max-size | error

#[test]
fn more_entries_than_max_entries_are_refused() {
    let tar = Tar::of(&[file("a", ""), file("b", ""), file("c", "")]);
    assert!(convert(&tar, &options().max_entries(3)).is_ok());
    let error = refused_tar(ErrorKind::Limit, &tar, &options().max_entries(2));
    assert_eq!(
        (error.path(), error.offset()),
        (Some(&b"c"[..]), Some(1024))
    );
}

#[test]
fn more_data_than_max_size_is_refused() {
    let entries = [file("a", vec![7; 1 << 20]), file("b", vec![7; 3 << 20])];
    // What is reserved depends on the limit itself.
    let whole = layer_with(&entries, &options().max_size(8 << 20));
    let size = whole.summary.disk.virtual_size;
    for max in [size - 4096, 2 << 20, 1 << 20] {
        let error = refused_tar(
            ErrorKind::Limit,
            &Tar::of(&entries),
            &options().max_size(max),
        );
        assert!(!error.to_string().is_empty());
    }
    let exact = layer_with(&entries, &options().max_size(size));
    assert_eq!(exact.bytes.len() as u64, size);
}

// What reads the stream.

/// Gives so many bytes at a time, then fails in the way that a test wants.
struct Piecewise<'a> {
    data: &'a [u8],
    sizes: &'a [usize],
    turn: usize,
    error: Option<io::ErrorKind>,
}

impl Read for Piecewise<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.turn += 1;
        if self.turn.is_multiple_of(5) {
            return Err(io::ErrorKind::Interrupted.into());
        }
        if let (true, Some(error)) = (self.data.is_empty(), self.error) {
            return Err(io::Error::new(error, "the cable"));
        }
        let size = self.sizes[self.turn % self.sizes.len()];
        let size = size.min(buffer.len()).min(self.data.len());
        let (now, rest) = self.data.split_at(size);
        buffer[..size].copy_from_slice(now);
        self.data = rest;
        Ok(size)
    }
}

fn convert_pieces(data: &[u8], sizes: &[usize], options: &Options) -> Result<Vec<u8>, Error> {
    let disk = MemoryDisk::new();
    let input = Piecewise {
        data,
        sizes,
        turn: 0,
        error: None,
    };
    tar2vhd::convert(input, &disk, options).map(|_| disk.into_vec())
}

#[test]
fn inputs_that_come_in_odd_pieces_and_interrupted_give_the_same_disk() {
    let tar = sample();
    for stream in [tar.clone(), gzip(&tar), zstd(&tar)] {
        let (whole, _) = convert(&stream, &options()).unwrap();
        for sizes in [
            &[1_000_000][..],
            &[4096],
            &[511, 513, 1],
            &[262_143, 2, 777],
        ] {
            let pieces = convert_pieces(&stream, sizes, &options()).unwrap();
            assert!(pieces == whole, "{sizes:?}");
        }
    }
    let small = Tar::of(&[file("f", "x")]);
    for stream in [small.clone(), gzip(&small), zstd(&small)] {
        let (whole, _) = convert(&stream, &options()).unwrap();
        assert!(convert_pieces(&stream, &[1], &options()).unwrap() == whole);
    }
}

#[test]
fn an_input_that_fails_is_an_input_error() {
    let tar = sample();
    for stream in [tar.clone(), gzip(&tar), zstd(&tar)] {
        for len in [0, 1, 100, stream.len() / 2, stream.len()] {
            let input = Piecewise {
                data: &stream[..len],
                sizes: &[50_000],
                turn: 0,
                error: Some(io::ErrorKind::ConnectionReset),
            };
            let disk = MemoryDisk::new();
            let error = tar2vhd::convert(input, &disk, &options()).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Input, "{error}");
            assert!(format!("{error:#}").contains("the cable"), "{error}");
        }
    }
}

#[test]
fn expected_digests_and_sizes_are_verified() {
    let tar = sample();
    let stream = gzip(&tar);
    let good = options()
        .expect_diff_id(sha256(&tar))
        .expect_digest(sha256(&stream))
        .expect_size(stream.len() as u64);
    convert(&stream, &good).unwrap();
    for bad in [
        good.clone().expect_diff_id(sha256(&stream)),
        good.clone().expect_digest(sha256(&tar)),
        good.clone().expect_size(stream.len() as u64 - 1),
        good.expect_size(stream.len() as u64 + 1),
    ] {
        refused_tar(ErrorKind::Mismatch, &stream, &bad);
    }
}
