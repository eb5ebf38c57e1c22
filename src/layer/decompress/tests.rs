use std::cell::RefCell;
use std::io::{self, Write};

use flate2::{Crc, GzBuilder};
use proptest::prelude::*;
use zstd::stream::raw::CParameter;

use super::super::codec::Inflater;
use super::super::testing::{Dribble, TarBuilder, sample, zstd_frame as zstd};
use super::*;
use crate::buffer::chunk::CHUNK_SIZE;

const MAX_WINDOW: u64 = 128 << 20;

fn config(max_window: u64) -> Config {
    Config {
        expected: None,
        max_window,
        inflater: Inflater::Own,
    }
}

/// Decodes all of `input`, which comes in pieces of at most `most` bytes, and checks what
/// holds for every input. Both inflaters have one opinion.
fn decode_in(input: &[u8], most: usize, max_window: u64) -> Result<(Compression, Vec<u8>)> {
    let own = decode_with(input, most, config(max_window));
    let zlib = Config {
        inflater: Inflater::ZlibRs,
        ..config(max_window)
    };
    match (&own, decode_with(input, most, zlib)) {
        (Ok(own), Ok(zlib)) => assert!(*own == zlib, "the inflaters' outputs differ"),
        (Err(own), Err(zlib)) => assert_eq!(own.kind(), zlib.kind()),
        (own, zlib) => panic!("{:?}, but zlib-rs: {:?}", own.is_ok(), zlib.is_ok()),
    }
    own
}

fn decode_with(input: &[u8], most: usize, config: Config) -> Result<(Compression, Vec<u8>)> {
    let tapped = RefCell::new(Vec::new());
    let mut decoder = Decoder::new(Dribble::new(input, most), config, Pool::new())?;
    decoder.tap(|chunk| {
        tapped.borrow_mut().extend_from_slice(chunk);
        Ok(())
    })?;
    let mut output = Vec::new();
    while let Some(chunk) = decoder.next_chunk()? {
        if decoder.compression() != Compression::Zstd {
            assert_eq!(output.len() % CHUNK_SIZE, 0, "all but the last are full");
        }
        assert!((1..=CHUNK_SIZE).contains(&chunk.len()));
        output.extend_from_slice(&chunk);
    }
    assert!(decoder.next_chunk()?.is_none(), "the end is the end");
    let tapped = tapped.borrow();
    let compression = decoder.compression();
    match compression {
        Compression::None => assert!(tapped.is_empty()),
        _ => assert!(*tapped == input, "all of the input is tapped"),
    }
    assert_eq!(decoder.input_bytes(), input.len() as u64);
    Ok((compression, output))
}

fn decode(input: &[u8]) -> Result<Vec<u8>> {
    decode_in(input, usize::MAX, MAX_WINDOW).map(|(_, output)| output)
}

fn error(input: &[u8]) -> Error {
    decode(input).expect_err("it is refused")
}

/// One member with no more than a fixed header.
fn gzip(data: &[u8]) -> Vec<u8> {
    gzip_with(GzBuilder::new(), data)
}

fn gzip_with(builder: GzBuilder, data: &[u8]) -> Vec<u8> {
    let mut encoder = builder.write(Vec::new(), flate2::Compression::fast());
    encoder.write_all(data).unwrap();
    encoder.finish().unwrap()
}

/// One member with every field that a header can have, its own CRC among them.
fn gzip_with_all_fields(data: &[u8]) -> Vec<u8> {
    let builder = GzBuilder::new()
        .mtime(7)
        .extra(sample(300))
        .filename("name")
        .comment("comment");
    let mut member = gzip_with(builder, data);
    let header = 10 + 2 + 300 + "name\0".len() + "comment\0".len();
    member[3] |= 3;
    let mut crc = Crc::new();
    crc.update(&member[..header]);
    let crc = (crc.sum() as u16).to_le_bytes();
    member.splice(header..header, crc);
    member
}

const CHECKED: [CParameter; 1] = [CParameter::ChecksumFlag(true)];

fn skippable(nibble: u8, content: &[u8]) -> Vec<u8> {
    let length = u32::try_from(content.len()).unwrap().to_le_bytes();
    [&[0x50 | nibble, 0x2a, 0x4d, 0x18][..], &length, content].concat()
}

/// Streams of some chunks, in every form that is accepted.
fn streams(data: &[u8]) -> Vec<(&'static str, Compression, Vec<u8>)> {
    let (start, end) = data.split_at(data.len() / 3);
    let members = |size: usize| data.chunks(size).flat_map(gzip).collect();
    let frames = |size| {
        let parts = data.chunks(size);
        parts.flat_map(|part| zstd(part, true, &CHECKED)).collect()
    };
    vec![
        ("plain", Compression::None, data.to_vec()),
        ("gzip", Compression::Gzip, gzip(data)),
        (
            "all header fields",
            Compression::Gzip,
            gzip_with_all_fields(data),
        ),
        (
            "an extra field alone, as in bgzip",
            Compression::Gzip,
            gzip_with(GzBuilder::new().extra(b"BC\x02\0\x1b\0".to_vec()), data),
        ),
        (
            "two members of them, one empty between",
            Compression::Gzip,
            [
                gzip_with_all_fields(start),
                gzip(b""),
                gzip_with_all_fields(end),
            ]
            .concat(),
        ),
        ("members of a chunk", Compression::Gzip, members(CHUNK_SIZE)),
        (
            "many members",
            Compression::Gzip,
            members(data.len() / 50 + 1),
        ),
        (
            "zero padding",
            Compression::Gzip,
            [gzip(data), vec![0; 3000]].concat(),
        ),
        ("zstd", Compression::Zstd, zstd(data, true, &CHECKED)),
        (
            "no content size",
            Compression::Zstd,
            zstd(data, false, &CHECKED),
        ),
        ("no checksum", Compression::Zstd, zstd(data, true, &[])),
        ("frames of a chunk", Compression::Zstd, frames(CHUNK_SIZE)),
        (
            "many frames",
            Compression::Zstd,
            frames(data.len() / 50 + 1),
        ),
        (
            "skippable frames",
            Compression::Zstd,
            [
                skippable(0, b""),
                skippable(15, b"first"),
                zstd(start, false, &[]),
                skippable(7, &sample(2000)),
                zstd(b"", true, &CHECKED),
                zstd(end, true, &CHECKED),
                skippable(3, b"last"),
            ]
            .concat(),
        ),
    ]
}

#[test]
fn every_form_of_stream() {
    for len in [
        1,
        511,
        CHUNK_SIZE - 1,
        CHUNK_SIZE,
        CHUNK_SIZE + 1,
        3 * CHUNK_SIZE + 7,
    ] {
        let data = sample(len);
        for (name, compression, stream) in streams(&data) {
            for most in [usize::MAX, 65_537] {
                let (found, output) = decode_in(&stream, most, MAX_WINDOW).unwrap();
                assert_eq!(found, compression, "{name} of {len} bytes");
                assert!(output == data, "{name} of {len} bytes");
            }
        }
    }
}

#[test]
fn readers_may_give_as_little_as_they_like() {
    let data = sample(2000);
    for (name, _, stream) in streams(&data) {
        for most in 1..40 {
            let output = decode_in(&stream, most, MAX_WINDOW).unwrap().1;
            assert!(output == data, "{name}, {most} bytes at a time");
        }
    }
}

/// Headers and trailers that lie across chunks of the input, at every offset.
#[test]
fn seams_may_lie_anywhere_in_the_input() {
    let data = sample(1000);
    let tail = [gzip_with_all_fields(&data), gzip(&data), vec![0; 600]].concat();
    for back in (1..tail.len()).step_by(7) {
        let mut first = gzip_with(
            GzBuilder::new().comment("x".repeat(CHUNK_SIZE - 40 - back)),
            b"",
        );
        let rest = CHUNK_SIZE - back - first.len();
        first = gzip_with(
            GzBuilder::new().comment("x".repeat(CHUNK_SIZE - 40 - back + rest)),
            b"",
        );
        assert_eq!(first.len() + back, CHUNK_SIZE);
        let output = decode(&[first, tail.clone()].concat()).unwrap();
        assert!(output == data.repeat(2), "{back} bytes before the seam");
    }
    let frame = zstd(&data, true, &CHECKED);
    let tail = [frame.clone(), skippable(1, b"skipped"), frame].concat();
    for back in (1..tail.len()).step_by(7) {
        let first = skippable(0, &vec![7; CHUNK_SIZE - 8 - back]);
        let output = decode(&[first, tail.clone()].concat()).unwrap();
        assert!(output == data.repeat(2), "{back} bytes before the seam");
    }
}

/// A plain tar that is cut is for the tar to notice.
#[test]
fn truncation_is_noticed_everywhere() {
    for (name, compression, stream) in streams(&sample(700)) {
        if compression == Compression::None {
            continue;
        }
        let whole = decode(&stream).unwrap();
        for cut in 1..stream.len() {
            match decode(&stream[..cut]) {
                Err(error) => {
                    let text = error.to_string();
                    let early = text.contains("it ends early");
                    // The start of a magic number is as well other bytes.
                    let seam = (cut.saturating_sub(3)..cut).any(|at| ends_at_a_seam(&stream, at));
                    assert!(early || seam, "{name}, cut at {cut}: {text}");
                    assert!(
                        !early || error.offset() == Some(cut as u64),
                        "{text}, not {cut}"
                    );
                }
                // Cut between members, in the padding, or where no magic number is yet.
                Ok(output) => assert!(
                    cut < 4 || ends_at_a_seam(&stream, cut) && whole.starts_with(&output),
                    "{name}, cut at {cut}"
                ),
            }
        }
    }
}

fn ends_at_a_seam(stream: &[u8], cut: usize) -> bool {
    let rest = &stream[cut..];
    format_of(rest).is_some() || rest.iter().all(|byte| *byte == 0)
}

/// Never other bytes than those that were packed: an error, or the flip does not matter.
#[test]
fn flipped_bits_are_noticed() {
    let data = sample(300);
    for (name, compression, stream) in streams(&data) {
        if compression == Compression::None || ["no checksum", "skippable frames"].contains(&name) {
            continue;
        }
        for bit in 0..stream.len() * 8 {
            let mut damaged = stream.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            if let Ok((found, output)) = decode_in(&damaged, usize::MAX, MAX_WINDOW) {
                // Without its magic number it is no such stream.
                assert!(found != compression || output == data, "{name}, bit {bit}");
            }
        }
    }
    // A header with its own CRC has no bit that does not matter.
    let stream = gzip_with_all_fields(&data);
    let header = 10 + 2 + 300 + "name\0".len() + "comment\0".len() + 2;
    for bit in 24..header * 8 {
        let mut damaged = stream.clone();
        damaged[bit / 8] ^= 1 << (bit % 8);
        let error = error(&damaged);
        assert_eq!(error.kind(), ErrorKind::Corrupt, "bit {bit}: {error}");
    }
}

#[test]
fn damaged_gzip_is_refused() {
    let data = sample(700);
    let good = gzip(&data);
    let crc = good.len() - 8;
    let with = |at: usize, byte: u8| {
        let mut damaged = good.clone();
        damaged[at] ^= byte;
        damaged
    };
    let fields = gzip_with_all_fields(&data);
    let hcrc = 10 + 2 + 300 + 5 + 8;
    let wrong_hcrc = [&fields[..hcrc], &[!fields[hcrc]], &fields[hcrc + 1..]].concat();
    for (input, message, offset) in [
        (with(crc, 1), "the CRC of the contents is wrong", good.len()),
        (
            with(crc + 4, 1),
            "the length of the contents is wrong",
            good.len(),
        ),
        (with(3, 0x20), "reserved flags are set", 10),
        (wrong_hcrc, "the CRC of the header is wrong", hcrc + 2),
        (
            [&good[..], b"x"].concat(),
            "other bytes follow the last member",
            good.len(),
        ),
        (
            [&good[..], &[0, 0, 1]].concat(),
            "other bytes follow the last member",
            good.len() + 2,
        ),
        (
            [&good[..], &[0x1f; 20]].concat(),
            "other bytes follow the last member",
            good.len() + 10,
        ),
        (
            [&good[..], &[0], &good].concat(),
            "other bytes follow the last member",
            good.len() + 1,
        ),
        (
            [&good[..], &[0x1f, 0x8b, 9], &good[3..]].concat(),
            "an unknown method",
            good.len() + 10,
        ),
        (
            [&good[..10], &[7], &good[11..]].concat(),
            "an invalid deflate stream",
            10,
        ),
    ] {
        let error = error(&input);
        assert_eq!(error.kind(), ErrorKind::Corrupt);
        let text = error.to_string();
        assert!(
            text.starts_with(&format!("damaged gzip input: {message}")),
            "{text}"
        );
        assert!(
            error.offset().unwrap().abs_diff(offset as u64) < 3,
            "{text}, not {offset}"
        );
    }
    let method = error(&with(2, 1));
    assert_eq!(method.kind(), ErrorKind::Unsupported);
    assert!(
        method.to_string().starts_with("gzip of an unknown method"),
        "{method}"
    );
}

const LZ4: [u8; 5] = [0x04, 0x22, 0x4d, 0x18, 0];

#[test]
fn lz4_is_known_behind_skippable_frames_too() {
    let hidden = [&skippable(0, b"")[..], &skippable(3, b"x"), &LZ4].concat();
    for (input, offset) in [(&LZ4[..], 0), (&hidden, 17)] {
        let error = error(input);
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        assert!(
            error.to_string().starts_with("lz4 is not supported"),
            "{error}"
        );
        assert_eq!(error.offset(), Some(offset));
    }
}

/// The start of a layer is judged by a full chunk, however small its first frames are.
#[test]
fn a_first_frame_may_be_small() {
    let tar = TarBuilder::new().entry(b'0', b"BZh1", &sample(9000)).end();
    let stream = |window_log| {
        let frames = [&tar[..1], &tar[1..4], &tar[4..100], &tar[100..]];
        frames
            .map(|part| zstd(part, false, &[CParameter::WindowLog(window_log)]))
            .concat()
    };
    for window_log in [10, 23, 27] {
        assert!(decode(&stream(window_log)).unwrap() == tar);
    }
    let nested = gzip(&tar);
    let nested =
        [&nested[..1], &nested[1..]].map(|part| zstd(part, false, &[CParameter::WindowLog(27)]));
    assert!(
        error(&nested.concat())
            .to_string()
            .starts_with("gzip inside zstd")
    );
}

#[test]
fn damaged_zstd_is_refused() {
    let data = sample(700);
    let good = zstd(&data, true, &CHECKED);
    let with = |at: usize, byte: u8| {
        let mut damaged = good.clone();
        damaged[at] ^= byte;
        damaged
    };
    for (input, message) in [
        (
            with(good.len() - 1, 1),
            "Restored data doesn't match checksum",
        ),
        (with(4, 8), "a reserved bit is set"),
        (
            [&good[..], b"rubbish"].concat(),
            "other bytes follow the last frame",
        ),
        (
            [&good[..], b"\0"].concat(),
            "other bytes follow the last frame",
        ),
        (
            [&good[..], &gzip(b"")].concat(),
            "gzip bytes follow the last frame",
        ),
        (
            [&good[..], &LZ4].concat(),
            "lz4 bytes follow the last frame",
        ),
    ] {
        let error = error(&input);
        assert_eq!(error.kind(), ErrorKind::Corrupt);
        let text = error.to_string();
        assert!(
            text.starts_with(&format!("damaged zstd input: {message}")),
            "{text}"
        );
        assert!(error.offset().is_some());
    }
}

/// A frame's header: a descriptor, a window, a dictionary, a content size.
fn frame(fields: &[u8]) -> Vec<u8> {
    // An empty raw block, the last, ends the frame.
    [&[0x28, 0xb5, 0x2f, 0xfd], fields, &[1, 0, 0]].concat()
}

#[test]
fn windows_have_a_limit() {
    let window = |exponent: u8, mantissa: u8| frame(&[0, exponent << 3 | mantissa]);
    let (mib128, more) = (window(17, 0), window(17, 1));
    assert!(decode(&mib128).is_ok());
    let error_of = |frame: &[u8], limit| decode_in(frame, 99, limit).unwrap_err();
    for (frame, limit, size) in [
        (&more, 128 << 20, 150_994_944_u64),
        (&mib128, (128 << 20) - 1, 134_217_728),
        // Beyond what libzstd decodes, whatever the limit.
        (&window(21, 1), u64::MAX, 2_415_919_104),
        (&window(31, 7), u64::MAX, 4_123_168_604_160),
        // A single segment is its own window.
        (&frame(&[0x20, 255]), 254, 255),
        (&frame(&[0x60, 0xff, 0xff]), 65_790, 65_791),
        (&frame(&[0xa0, 0, 0, 0, 9]), 128 << 20, 150_994_944),
        (
            &frame(&[0xe0, 0, 0, 0, 0, 0, 0, 0, 0x80]),
            u64::MAX,
            1 << 63,
        ),
    ] {
        let error = error_of(frame, limit);
        assert_eq!(error.kind(), ErrorKind::Limit);
        let told = format!("needs a window of {size} bytes, the limit is");
        assert!(error.to_string().contains(&told), "{error}");
        assert_eq!(error.offset(), Some(0));
    }
    assert!(decode_in(&more, 99, 1 << 28).is_ok());
    // The limit of 2^31 that libzstd has can be used in full.
    assert!(decode_in(&window(21, 0), 99, u64::MAX).is_ok());
    let far = [CParameter::WindowLog(28)];
    let stream = zstd(&sample(5000), false, &far);
    assert!(
        error_of(&stream, MAX_WINDOW)
            .to_string()
            .contains("268435456")
    );
    assert!(decode_in(&stream, 99, 1 << 28).unwrap().1 == sample(5000));
}

#[test]
fn dictionaries_are_refused_by_their_number() {
    for (fields, number) in [
        (&[1, 0, 7][..], 7),
        (&[2, 0, 1, 2], 0x201),
        (&[3, 0, 1, 2, 3, 4], 0x403_0201),
    ] {
        let stream = [zstd(b"first", true, &[]), frame(fields)].concat();
        let error = error(&stream);
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        let told = format!("the zstd input needs the dictionary {number} (at byte ");
        assert!(error.to_string().starts_with(&told), "{error}");
    }
    assert_eq!(
        decode(&frame(&[3, 0, 0, 0, 0, 0])).unwrap(),
        b"",
        "0 is none"
    );
}

/// Every length that the content size can have in a frame's header.
#[test]
fn content_sizes() {
    for len in [
        0,
        1,
        255,
        256,
        257,
        65_535,
        65_536 + 255,
        65_536 + 256,
        100_000,
    ] {
        let data = sample(len);
        assert!(
            decode(&zstd(&data, true, &CHECKED)).unwrap() == data,
            "{len}"
        );
    }
}

/// The beginnings of formats that are known by name.
const OTHERS: [(&str, &[u8]); 7] = [
    ("xz", b"\xfd7zXZ\0"),
    ("bzip2", b"BZh91AY&SY"),
    ("lz4", b"\x04\x22\x4d\x18"),
    ("lz4", b"\x02\x21\x4c\x18"),
    ("compress (.Z)", b"\x1f\x9d\x90"),
    ("lzip", b"LZIP\x01"),
    ("lzma", b"\x5d\0\0\x80\0"),
];

#[test]
fn other_formats_are_refused_by_name() {
    for (name, magic) in OTHERS {
        let start = [magic, &sample(1000)].concat();
        let text =
            "is not supported: layers are plain, gzip or zstd; decompress it first (at byte 0)";
        let error_plain = error(&start);
        assert_eq!(error_plain.kind(), ErrorKind::Unsupported);
        assert_eq!(error_plain.to_string(), format!("{name} {text}"));
        let inside = error(&gzip(&start)).to_string();
        assert_eq!(inside, format!("{name} inside gzip {text}"));
    }
    for (outer, stream) in [
        ("gzip", gzip(&gzip(&sample(1000)))),
        ("zstd", zstd(&gzip(&sample(1000)), true, &[])),
    ] {
        let error = error(&stream);
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        assert!(
            error
                .to_string()
                .starts_with(&format!("gzip inside {outer} is")),
            "{error}"
        );
    }
    let inner = zstd(&sample(1000), true, &[]);
    assert!(
        error(&gzip(&inner))
            .to_string()
            .starts_with("zstd inside gzip is")
    );
}

/// A file may well be called BZh1: what is a tar is read as one.
#[test]
fn names_are_not_taken_for_formats() {
    for (name, magic) in OTHERS {
        let layer = TarBuilder::new().entry(b'0', magic, b"x").end();
        assert!(decode(&layer).unwrap() == layer, "{name}");
        assert!(decode(&gzip(&layer)).unwrap() == layer, "{name}");
    }
}

#[test]
fn the_expected_compression_is_checked() {
    let expecting = |expected| Config {
        expected: Some(expected),
        ..config(MAX_WINDOW)
    };
    let all = [Compression::None, Compression::Gzip, Compression::Zstd];
    let data = sample(600);
    for (input, is) in [
        (data.clone(), 0),
        (gzip(&data), 1),
        (zstd(&data, true, &[]), 2),
    ] {
        for expected in all {
            match Decoder::new(&input[..], expecting(expected), Pool::new()) {
                Ok(decoder) => assert_eq!(decoder.compression(), expected),
                Err(error) => {
                    assert_ne!(expected, all[is]);
                    assert_eq!(error.kind(), ErrorKind::Mismatch);
                    assert!(error.to_string().starts_with("the input is "), "{error}");
                }
            }
        }
    }
    for expected in all {
        let decoder = Decoder::new(&b""[..], expecting(expected), Pool::new());
        assert_eq!(decoder.unwrap().compression(), Compression::None);
    }
}

#[test]
fn nothing_in_nothing_out() {
    for (compression, input) in [
        (Compression::None, vec![]),
        (Compression::Gzip, gzip(b"")),
        (Compression::Zstd, zstd(b"", true, &CHECKED)),
        (Compression::Zstd, skippable(0, b"x")),
    ] {
        let (found, output) = decode_in(&input, 1, MAX_WINDOW).unwrap();
        assert_eq!((found, output), (compression, vec![]));
    }
}

#[test]
fn a_failing_reader_is_an_error_of_the_input() {
    struct Failing(usize);
    impl io::Read for Failing {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let len = self.0.min(buffer.len());
            if len == 0 {
                return Err(io::Error::other("unplugged"));
            }
            buffer[..len].fill(b'x');
            self.0 -= len;
            Ok(len)
        }
    }
    for bytes in [0, 1, CHUNK_SIZE, CHUNK_SIZE + 5] {
        let result = Decoder::new(Failing(bytes), config(MAX_WINDOW), Pool::new()).and_then(
            |mut decoder| {
                while decoder.next_chunk()?.is_some() {}
                Ok(())
            },
        );
        let error = result.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Input);
        let text = format!("cannot read the input: unplugged (at byte {bytes})");
        assert_eq!(format!("{error:#}"), text);
    }
}

/// However long a stream, the same few buffers serve.
#[test]
fn buffers_are_recycled() {
    let data = vec![7; 40 * CHUNK_SIZE];
    let pool = Pool::new();
    for stream in [
        data.clone(),
        gzip(&data),
        zstd(&sample(10 * CHUNK_SIZE), true, &[]),
    ] {
        let mut decoder = Decoder::new(&stream[..], config(MAX_WINDOW), pool.clone()).unwrap();
        while decoder.next_chunk().unwrap().is_some() {}
    }
    assert!(pool.idle() <= 4, "{} buffers", pool.idle());
}

/// Input that gives no output costs no memory, and can be stopped.
#[test]
fn padding_is_not_kept() {
    let padding = vec![0; 40 * CHUNK_SIZE];
    for stream in [
        [gzip(b""), padding.clone()].concat(),
        [skippable(0, &padding), zstd(b"", true, &[])].concat(),
        gzip(b"").repeat(10 * CHUNK_SIZE / 20),
    ] {
        let pool = Pool::new();
        let mut seen = 0;
        let mut decoder = Decoder::new(&stream[..], config(MAX_WINDOW), pool.clone()).unwrap();
        decoder
            .tap(|chunk| {
                seen += chunk.len();
                Ok(())
            })
            .unwrap();
        assert!(decoder.next_chunk().unwrap().is_none());
        drop(decoder);
        assert_eq!(seen, stream.len());
        assert!(pool.idle() <= 4, "{} buffers", pool.idle());

        let mut left = 3;
        let mut decoder = Decoder::new(&stream[..], config(MAX_WINDOW), pool).unwrap();
        decoder
            .tap(|_| {
                left -= 1;
                if left > 0 {
                    Ok(())
                } else {
                    Err(Error::cancelled())
                }
            })
            .unwrap();
        assert_eq!(
            decoder.next_chunk().unwrap_err().kind(),
            ErrorKind::Cancelled
        );
    }
}

proptest! {
    /// Any bytes after a magic number end the decoding without a panic.
    #[test]
    fn hostile_streams_do_no_harm(
        start in prop::sample::select(vec![gzip(b"hello"), zstd(b"hello", true, &CHECKED)]),
        keep in 3..20_usize,
        rest: Vec<u8>,
    ) {
        let input = [&start[..keep.min(start.len())], &rest].concat();
        let _ = decode(&input);
    }
}
