use std::collections::BTreeSet;
use std::io::{self, Read, Write};
use std::thread;
use std::time::Instant;

use flate2::{Compress, Compression as Level, FlushCompress, GzBuilder};
use zstd::stream::raw::CParameter;

use super::super::codec::Config;
use super::super::codec::Inflater;
use super::super::decompress::Decoder;
use super::super::gzip;
use super::super::testing::{Dribble, sample, zstd_frame};
use super::*;
use crate::error::{Error, ErrorKind};

const CONFIG: Config = Config {
    expected: None,
    max_window: 128 << 20,
    inflater: Inflater::Own,
};

/// The output before the end or the error, and the error.
type Outcome = (Vec<u8>, Option<Error>);

fn outcome(mut decoder: Decoder<'_>) -> (Outcome, usize) {
    let mut output = Vec::new();
    let error = loop {
        match decoder.next_chunk() {
            Ok(Some(chunk)) => output.extend_from_slice(&chunk),
            Ok(None) => break None,
            Err(error) => break Some(error),
        }
    };
    ((output, error), decoder.counted())
}

/// Whether two outcomes are the same, but for where a decoder of gzip was when it found an error,
/// which depends on where chunks end.
fn same(a: &Outcome, b: &Outcome) -> bool {
    match (&a.1, &b.1) {
        (None, None) => a.0 == b.0,
        (Some(error), Some(other)) => {
            let message = |error: &Error| error.to_string().split('(').next().map(str::to_owned);
            let off_by = error.offset().unwrap().abs_diff(other.offset().unwrap());
            let most = match message(error) {
                // The error may lie anywhere in a block's header, behind the last contents.
                Some(text) if text.contains("an invalid deflate stream") => 400,
                _ => 0,
            };
            a.0 == b.0
                && error.kind() == other.kind()
                && message(error) == message(other)
                && off_by <= most
        }
        _ => false,
    }
}

fn in_order(input: impl Read) -> Outcome {
    let decoder = Decoder::new(input, CONFIG, Pool::new()).unwrap();
    outcome(decoder).0
}

/// Decodes with helpers, by parts of at least so many bytes, and says how many parts counted.
fn ahead(input: impl Read, part_min: u64) -> (Outcome, usize) {
    thread::scope(|scope| {
        let mut decoder = Decoder::new(input, CONFIG, Pool::new()).unwrap();
        decoder.look_ahead(part_min, |work| {
            scope.spawn(work);
            true
        });
        outcome(decoder)
    })
}

/// A pseudo-random sequence, the same every time.
fn random(seed: u64) -> impl FnMut(usize) -> usize {
    let mut state = seed ^ 0x2545_f491_4f6c_dd1d;
    move |below| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state % below as u64) as usize
    }
}

fn member(data: &[u8]) -> Vec<u8> {
    let mut encoder = GzBuilder::new().write(Vec::new(), Level::fast());
    encoder.write_all(data).unwrap();
    encoder.finish().unwrap()
}

/// One member in blocks of `size`, each behind what `flushes` leave. zlib forgets what was
/// before with the last of them, if that is full.
fn flushed(data: &[u8], size: usize, flushes: &[FlushCompress]) -> Vec<u8> {
    flushed_at(data, std::iter::repeat(size), flushes)
}

/// The same for blocks of these sizes.
fn flushed_at(
    data: &[u8],
    sizes: impl Iterator<Item = usize>,
    flushes: &[FlushCompress],
) -> Vec<u8> {
    let mut deflate = Compress::new(Level::fast(), false);
    let mut stream = vec![0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 255];
    let mut left = data;
    for size in sizes {
        if left.is_empty() {
            break;
        }
        let (block, behind) = left.split_at(size.min(left.len()));
        left = behind;
        stream.reserve(2 * block.len() + 100);
        let (mut rest, mut flushes) = (block, flushes.iter());
        let mut flush = FlushCompress::None;
        loop {
            let before = deflate.total_in();
            deflate.compress_vec(rest, &mut stream, flush).unwrap();
            rest = &rest[(deflate.total_in() - before) as usize..];
            match flushes.next() {
                Some(next) => flush = *next,
                None => break,
            }
        }
        assert!(rest.is_empty());
    }
    stream.reserve(100);
    deflate
        .compress_vec(&[], &mut stream, FlushCompress::Finish)
        .unwrap();
    let mut crc = crc32fast::Hasher::new();
    crc.update(data);
    stream.extend(crc.finalize().to_le_bytes());
    stream.extend((data.len() as u32).to_le_bytes());
    stream
}

/// As `pigz --independent` does.
const INDEPENDENT: [FlushCompress; 2] = [FlushCompress::Sync, FlushCompress::Full];

fn frame(data: &[u8]) -> Vec<u8> {
    zstd_frame(data, false, &[CParameter::ChecksumFlag(true)])
}

fn skippable(content: &[u8]) -> Vec<u8> {
    let length = (content.len() as u32).to_le_bytes();
    [&[0x5e, 0x2a, 0x4d, 0x18][..], &length, content].concat()
}

/// Streams with many places where decoding can begin.
fn streams(data: &[u8], size: usize) -> Vec<(&'static str, Vec<u8>)> {
    let each = |pack: fn(&[u8]) -> Vec<u8>| data.chunks(size).flat_map(pack).collect::<Vec<_>>();
    let third = data.len() / 3;
    vec![
        ("members", each(member)),
        (
            "members behind a large one",
            [member(&data[..third]), each(member)].concat(),
        ),
        ("one member", flushed(data, size, &INDEPENDENT)),
        (
            "members of both kinds",
            [
                flushed(data, size, &INDEPENDENT),
                each(member),
                flushed(&data[third..], size, &INDEPENDENT),
                flushed(data, size, &INDEPENDENT),
            ]
            .concat(),
        ),
        ("padding", [each(member), vec![0; 5000]].concat()),
        ("frames", each(frame)),
        (
            "frames with others to be skipped",
            each(|part| [skippable(&part[..part.len().min(9)]), frame(part)].concat()),
        ),
    ]
}

#[test]
fn parts_make_the_same_bytes() {
    let data = sample(6_000_000);
    for (size, part_min, least) in [(60_000, PART_MIN, 2), (300_000, 70_000, 3), (9_000, 1, 100)] {
        for (name, stream) in streams(&data, size) {
            let expected = in_order(&stream[..]);
            assert!(expected.1.is_none(), "{name}");
            for most in [usize::MAX, 50_001] {
                let (found, counted) = ahead(Dribble::new(&stream, most), part_min);
                assert!(
                    same(&found, &expected),
                    "{name} of {size}, {most} at a time"
                );
                // Blocks have to fill the window.
                let window =
                    size < 32_768 && (name == "one member" || name == "members of both kinds");
                assert!(
                    counted >= least || window,
                    "{name} of {size}: {counted} parts"
                );
            }
        }
    }
}

/// Every error of a stream is reported as if it were decoded in order, after the same
/// bytes.
#[test]
fn parts_make_the_same_errors() {
    let data = sample(900_000);
    let mut random = random(1);
    let mut errors = 0;
    for (name, stream) in streams(&data, 40_000) {
        for round in 0..60 {
            let mut damaged = stream.clone();
            let at = random(damaged.len());
            match round % 4 {
                0 => damaged.truncate(at),
                1 => damaged[at] ^= 1 << random(8),
                2 => {
                    damaged.splice(at..at, stream[..random(3000)].iter().copied());
                }
                _ => {
                    let end = damaged.len().min(at + random(100_000));
                    damaged.drain(at..end);
                }
            }
            let Ok(decoder) = Decoder::new(&damaged[..], CONFIG, Pool::new()) else {
                continue;
            };
            let (expected, _) = outcome(decoder);
            errors += usize::from(expected.1.is_some());
            let (found, _) = ahead(&damaged[..], 1 + random(80_000) as u64);
            assert!(
                same(&found, &expected),
                "{name}, {round}: {:?}, not {:?}",
                found.1,
                expected.1
            );
        }
    }
    assert!(errors > 200, "{errors} errors");
}

/// An error between members of a part is reported after the contents before it.
#[test]
fn damage_between_members_of_a_part_is_told() {
    let data = sample(6_000_000);
    let members: Vec<_> = data.chunks(40_000).map(member).collect();
    for damaged in [70, 90, 100, 120] {
        let mut stream = members.clone();
        // A flag that is reserved: its header looks like that of a member.
        stream[damaged][3] |= 0x20;
        let stream = stream.concat();
        let expected = in_order(&stream[..]);
        assert_eq!(expected.0.len(), damaged * 40_000);
        for part_min in [50_000, 100_000] {
            let (found, counted) = ahead(&stream[..], part_min);
            assert!(counted > 0);
            assert!(same(&found, &expected), "{:?}", found.1);
            assert_eq!(found.0.len(), expected.0.len());
        }
    }
}

/// Zeros may follow the last member, and none before it.
#[test]
fn padding_ends_a_stream_also_between_parts() {
    let data = sample(2_000_000);
    let members: Vec<u8> = data.chunks(40_000).flat_map(member).collect();
    let stream = [&members[..], &[0; 3], &members].concat();
    let expected = in_order(&stream[..]);
    let (found, counted) = ahead(&stream[..], 1);
    assert!(counted > 0);
    assert!(same(&found, &expected));
    assert!(found.1.unwrap().to_string().contains("other bytes follow"));
}

/// Stored bytes may look like a restart point without being one.
#[test]
fn accidents_do_not_count() {
    let data = sample(1_500_000);
    for (_, inner) in streams(&data, 40_000) {
        // Not a stream in a stream, which is refused.
        let inner = [&b"0123456789"[..], &inner].concat();
        let stored = |data: &[u8]| {
            let mut encoder = GzBuilder::new().write(Vec::new(), Level::none());
            encoder.write_all(data).unwrap();
            encoder.finish().unwrap()
        };
        // libzstd does not find anything to compress here.
        for stream in [stored(&inner), frame(&inner)] {
            let expected = in_order(&stream[..]);
            assert!(expected.1.is_none());
            let (found, counted) = ahead(&stream[..], 1000);
            assert!(same(&found, &expected));
            assert_eq!(counted, 0);
        }
    }
}

/// Blocks that refer to what was before them do not count, and those that do not are what others
/// behind them refer to.
#[test]
fn blocks_may_refer_to_parts() {
    let mut random = random(3);
    // Of other bytes, so that nothing in one is found in the other.
    let unique: Vec<u8> = (0..60_000).map(|_| random(128) as u8 | 128).collect();
    let text: Vec<u8> = sample(60_000).iter().map(|byte| byte & 127).collect();
    for (pieces, expected_to_count) in [
        // One that is alone, and the next refers to it.
        (vec![&text[..], &text, &unique, &unique[35_000..], &text], 1),
        // One that is alone, but too short for all that the next refers to.
        (
            vec![&text, &text, &unique[..9000], &text[40_000..], &text],
            0,
        ),
        (vec![&text, &text, &text, &text, &text], 0),
    ] {
        let data: Vec<u8> = pieces.concat().repeat(8);
        let mut ends = pieces.iter().cycle().map(|piece| piece.len());
        let stream = flushed_at(
            &data,
            std::iter::from_fn(|| ends.next()),
            &[FlushCompress::Sync],
        );
        let stream = double_markers(&stream);
        let expected = in_order(&stream[..]);
        assert!(expected.0 == data && expected.1.is_none());
        let (found, counted) = ahead(&stream[..], 1);
        assert!(same(&found, &expected), "{:?}", found.1);
        assert_eq!(counted.min(1), expected_to_count);
    }
    // The first block of a member, that the second refers to.
    let pieces = [&unique[..], &unique[35_000..]];
    let sizes = pieces.iter().map(|piece| piece.len());
    let first = double_markers(&flushed_at(&pieces.concat(), sizes, &[FlushCompress::Sync]));
    let stream = [member(&sample(300_000)), first.repeat(8)].concat();
    let expected = in_order(&stream[..]);
    assert!(expected.1.is_none());
    let (found, counted) = ahead(&stream[..], 1);
    assert!(counted > 0);
    assert!(same(&found, &expected), "{:?}", found.1);
}

/// A member where a block should be is no part of the stream.
#[test]
fn parts_begin_as_what_is_decoded_in_order_does() {
    let data = sample(900_000);
    let member = flushed(&data, 40_000, &INDEPENDENT);
    let flush = [0, 0, 0xff, 0xff, 0, 0, 0, 0xff, 0xff];
    let last = memmem::rfind(&member, &flush).unwrap() + flush.len();
    // Another empty block, so that it is not taken for where a block may be.
    let stream = [&member[..last], &flush[4..], &member, &member].concat();
    let expected = in_order(&stream[..]);
    let (found, counted) = ahead(&stream[..], 1);
    assert!(counted > 0);
    assert!(same(&found, &expected), "{:?}", found.1);
    let error = found.1.unwrap().to_string();
    assert!(error.contains("invalid deflate stream"), "{error}");
}

/// Adds an empty stored block to each.
fn double_markers(stream: &[u8]) -> Vec<u8> {
    const MARKER: &[u8] = &[0, 0, 0xff, 0xff];
    let mut doubled = Vec::new();
    let mut rest = stream;
    while let Some(at) = memmem::find(rest, MARKER) {
        let (before, after) = rest.split_at(at + MARKER.len());
        doubled.extend_from_slice(before);
        doubled.push(0);
        doubled.extend_from_slice(MARKER);
        rest = after;
    }
    doubled.extend_from_slice(rest);
    doubled
}

/// Fails after its bytes.
struct Failing<'a>(&'a [u8]);

impl Read for Failing<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.0.read(buffer)? {
            0 => Err(io::ErrorKind::ConnectionReset.into()),
            read => Ok(read),
        }
    }
}

#[test]
fn an_input_that_fails_does_so_in_its_turn() {
    let data = sample(3_000_000);
    for (name, stream) in streams(&data, 50_000) {
        for end in [400_000, stream.len()] {
            let expected = in_order(Failing(&stream[..end]));
            let (found, counted) = ahead(Failing(&stream[..end]), 10_000);
            assert!(counted > 0, "{name}");
            assert!(
                same(&found, &expected),
                "{name}: {:?}, {:?}",
                found.1,
                expected.1
            );
            assert!(found.1.unwrap().kind() == ErrorKind::Input);
        }
    }
}

/// Neither what a small part expands to nor what comes of many is held in memory.
#[test]
fn memory_is_bounded() {
    let zeros = vec![0; 60 << 20];
    let mut random = random(5);
    let noise: Vec<u8> = (0..60 << 20).map(|_| random(256) as u8).collect();
    let data = sample(40_000);
    for pack in [member, frame] {
        let (bomb, large) = (pack(&zeros), pack(&noise));
        let small: Vec<u8> = std::iter::repeat_n(pack(&data), 300).flatten().collect();
        let stream = [&small[..], &bomb, &small, &large, &small].concat();
        let pool = Pool::new();
        let (output, counted) = thread::scope(|scope| {
            let mut decoder = Decoder::new(&stream[..], CONFIG, pool.clone()).unwrap();
            decoder.look_ahead(PART_MIN, |work| {
                scope.spawn(work);
                true
            });
            let mut output = 0;
            while let Some(chunk) = decoder.next_chunk().unwrap() {
                output += chunk.len();
            }
            (output, decoder.counted())
        });
        assert_eq!(output, 900 * data.len() + zeros.len() + noise.len());
        assert!(counted > 5, "{counted} parts");
        let most = PARTS * (CONTENTS_MAX + PART_MAX as usize) / CHUNK_SIZE;
        assert!(pool.idle() < most, "{} chunks", pool.idle());
    }
}

/// Where parts may be, no more is read than those that wait may have.
#[test]
fn reading_ahead_is_bounded() {
    let mut stream = vec![1; 20 << 20];
    stream[..3].copy_from_slice(&[0x1f, 0x8b, 8]);
    let (tasks, _) = mpsc::channel();
    let mut ahead = ParallelDecoder::new(
        Patterns::new(gzip::FORMAT.restart_patterns),
        tasks,
        PART_MIN,
    );
    let mut input = Input::new(&stream[..], Pool::new()).unwrap();
    for _ in 0..100 {
        ahead.look(&mut input);
    }
    let read = input.total();
    assert!(
        (AHEAD_MAX..AHEAD_MAX + 3 * CHUNK_SIZE as u64).contains(&read),
        "{read}"
    );
}

/// Where nothing counts, little is tried.
#[test]
fn looking_pauses_where_nothing_is_found() {
    let len = 3 * PAUSE as usize;
    let false_members = [0x1f, 0x8b, 8, 0].repeat(len / 4);
    for takes in [false, true] {
        let (tasks, _) = mpsc::channel();
        let mut ahead = ParallelDecoder::new(
            Patterns::new(gzip::FORMAT.restart_patterns),
            tasks,
            PART_MIN,
        );
        let mut input = Input::new(&false_members[..], Pool::new()).unwrap();
        let mut tried = BTreeSet::new();
        while !input.fill().unwrap().is_empty() {
            ahead.look(&mut input);
            tried.extend(ahead.next_start());
            if takes {
                let part = ahead.take(RestartPoint::Frame, &mut input).unwrap();
                assert!(part.is_none());
            }
            input.consume(4);
        }
        let most = 4 * (MISSES_MAX as usize + PARTS);
        assert!((9..=most).contains(&tried.len()), "{}", tried.len());
    }
}

/// A member's trailer covers the whole member, not only the blocks in a part.
#[test]
fn a_member_ends_in_order() {
    let data = sample(1_600_000);
    let (a, b) = data.split_at(800_000);
    let whole = flushed(&data, 400_000, &INDEPENDENT);
    let trailer = |contents: &[u8]| {
        let mut crc = crc32fast::Hasher::new();
        crc.update(contents);
        [
            crc.finalize().to_le_bytes(),
            (contents.len() as u32).to_le_bytes(),
        ]
        .concat()
    };
    let body = &whole[..whole.len() - 8];
    let next = flushed(a, 100_000, &INDEPENDENT);
    for ends in [b, &data[1_200_000..], a, &[]] {
        // Behind it another member, whole or cut at a flush by where the part ends.
        for behind in [&member(a)[..], &next] {
            let stream = [&member(b), body, &trailer(ends), behind, &member(b)].concat();
            let expected = in_order(&stream[..]);
            let error = expected.1.as_ref().unwrap().to_string();
            assert!(error.contains("of the contents is wrong"), "{error}");
            for part_min in [1, 30_000, 60_000, 100_000, 200_000] {
                let (found, _) = ahead(&stream[..], part_min);
                assert!(same(&found, &expected), "{:?}, {part_min}", found.1);
            }
        }
    }
}

/// Decoding alone, in order and by parts, of 200 MB in each form of stream.
#[test]
#[ignore = "measures, and needs a machine that does nothing else"]
fn how_much_faster() {
    let data = sample(200_000_000);
    for (name, stream) in streams(&data, 1 << 20) {
        let mut times = [Vec::new(), Vec::new()];
        for _ in 0..5 {
            for (way, times) in times.iter_mut().enumerate() {
                let start = Instant::now();
                thread::scope(|scope| {
                    let mut decoder = Decoder::new(&stream[..], CONFIG, Pool::new()).unwrap();
                    if way == 1 {
                        decoder.look_ahead(PART_MIN, |work| {
                            scope.spawn(work);
                            true
                        });
                    }
                    while decoder.next_chunk().unwrap().is_some() {}
                });
                times.push(start.elapsed());
            }
        }
        let [in_order, by_parts] = times.map(|mut times| {
            times.sort();
            times[2]
        });
        println!("{name}: {in_order:.2?} in order, {by_parts:.2?} by parts");
    }
}
