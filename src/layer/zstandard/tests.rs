use std::collections::{BTreeSet, VecDeque};

use proptest::prelude::*;
use zstd::stream::raw::CParameter;

use super::*;
use crate::buffer::chunk::Pool;
use crate::layer::testing::{Dribble, sample, zstd_frame};

const MIB: usize = 1 << 20;

/// One frame, with or without its content's size, that refers back as far as it can.
fn frame(data: &[u8], window_log: u32, size: bool, checksum: bool) -> Vec<u8> {
    let parameters = [
        CParameter::WindowLog(window_log),
        CParameter::EnableLongDistanceMatching(true),
        CParameter::ChecksumFlag(checksum),
    ];
    zstd_frame(data, size, &parameters)
}

/// Bytes that repeat after `period` bytes, and not before.
fn repeating(period: usize, len: usize) -> Vec<u8> {
    let mut data = sample(period.min(len));
    while data.len() < len {
        let start = data.len() - period;
        let more = period.min(len - data.len()).min(50_000);
        data.extend_from_within(start..start + more);
        // Somewhere it differs, so that there are many sequences.
        let last = data.len() - 1;
        data[last] ^= 0x55;
    }
    data
}

/// Decodes with a reader that keeps so many chunks. What came before an error comes with it.
fn decode(input: &[u8], most: usize, kept: usize) -> (Vec<u8>, Option<Error>) {
    let pool = Pool::new();
    let mut input = Input::new(Dribble::new(input, most), pool.clone()).unwrap();
    let mut zstd = Zstd::new(128 << 20).unwrap();
    let (mut output, mut chunks) = (Vec::new(), VecDeque::new());
    let error = loop {
        match zstd.fill(&mut input, &pool, None) {
            Ok(chunk) if chunk.is_empty() => break None,
            Ok(chunk) => {
                assert!(chunk.len() <= CHUNK_SIZE);
                chunks.push_back(chunk);
            }
            Err(error) => break Some(error),
        }
        // It is looked at as late as can be.
        if chunks.len() > kept {
            output.extend_from_slice(&chunks.pop_front().unwrap());
        }
    };
    for chunk in chunks {
        output.extend_from_slice(&chunk);
    }
    (output, error)
}

/// Shows all chunks of a whole stream, and the decoder after each.
fn each_chunk(stream: &[u8], mut look: impl FnMut(&Zstd, Chunk)) {
    let pool = Pool::new();
    let mut input = Input::new(stream, pool.clone()).unwrap();
    let mut zstd = Zstd::new(128 << 20).unwrap();
    loop {
        let chunk = zstd.fill(&mut input, &pool, None).unwrap();
        if chunk.is_empty() {
            break;
        }
        look(&zstd, chunk);
    }
}

fn decode_whole(input: &[u8], most: usize, kept: usize) -> Vec<u8> {
    let (output, error) = decode(input, most, kept);
    assert!(error.is_none(), "{error:?}");
    output
}

/// Through runs and segments, whoever still reads what.
#[test]
fn blocks_refer_to_what_is_a_window_away() {
    for (window_log, len) in [
        (17, 6 * MIB),
        (21, 55 * MIB),
        (22, 20 * MIB),
        (23, 38 * MIB),
        (25, 90 * MIB),
    ] {
        let window = 1 << window_log;
        for period in [window, window - 1, window / 2 + 3] {
            let data = repeating(period, len);
            let frame = frame(&data, window_log, period % 2 == 0, true);
            assert!(frame.len() < len / 6, "it does refer back");
            for (most, kept) in [(usize::MAX, 0), (100_003, 20), (usize::MAX, 1000)] {
                assert!(decode_whole(&frame, most, kept) == data);
            }
        }
    }
}

/// However long a frame, a reader that keeps up is served from the same few segments.
#[test]
fn segments_are_used_again() {
    for (window_log, len, used, kept) in [
        (21, 11, 7, 7),
        (21, 90, 31, 24),
        (23, 90, 43, 24),
        (25, 120, 67, 65),
    ] {
        let stream = frame(&repeating(MIB, len * MIB), window_log, true, false);
        let mut pages = BTreeSet::new();
        each_chunk(&stream, |zstd, chunk| {
            assert!(zstd.blocks.memory() <= kept * MIB);
            let range = chunk.as_ptr_range();
            pages.extend(range.start as usize / 4096..range.end as usize / 4096);
        });
        assert!(pages.len() * 4096 <= used * MIB, "{} pages", pages.len());
    }
}

/// Of the segments of a reader that does not keep up, few are kept when it is done with them.
#[test]
fn few_segments_are_kept() {
    let stream = frame(&repeating(MIB, 60 * MIB), 21, true, false);
    let mut chunks = Vec::new();
    each_chunk(&stream, |zstd, chunk| {
        chunks.push(chunk);
        let most = if chunks.len() < 50 { 12 } else { 24 };
        assert!(zstd.blocks.memory() <= most * MIB);
    });
    assert!(chunks.len() > 200);
}

/// Memory of a long frame is not kept for short ones.
#[test]
fn memory_shrinks_after_a_long_frame() {
    // Its last run leaves half of a segment.
    let long = frame(&repeating(MIB, 54 * MIB), 21, true, false);
    let short = frame(&sample(200_000), 21, true, false).repeat(200);
    let (mut taken, mut most) = (0, 0);
    each_chunk(&[long, short].concat(), |zstd, chunk| {
        taken += chunk.len();
        let memory = zstd.blocks.memory();
        most = most.max(memory);
        let allowed = match taken / MIB {
            ..55 => 24,
            55..68 => 21,
            _ => 12,
        };
        assert!(memory <= allowed * MIB, "{memory} bytes");
    });
    assert!(most > 23 * MIB && taken > 85 * MIB);
}

/// However far a frame may refer back, it does not do so beyond its beginning.
#[test]
fn a_window_takes_no_more_memory_than_the_content() {
    let mut stream = frame(&sample(5000), 17, true, true);
    assert_eq!(
        stream[4], 0x64,
        "two bytes of size, and the size is the window"
    );
    // As others write it: 128 MiB, and the size besides.
    stream[4] = 0x44;
    stream.insert(5, (27 - 10) << 3);
    each_chunk(&stream, |zstd, chunk| {
        assert!(*chunk == sample(5000));
        assert!(zstd.blocks.memory() < 5 * MIB);
    });
}

#[test]
fn what_comes_before_damage_is_given_but_not_taken_for_what_comes_after() {
    let (data, other) = (repeating(1000, 300_000), sample(100_000));
    let mut stream = frame(&data, 17, true, true);
    *stream.last_mut().unwrap() ^= 1;
    let (output, error) = decode(&stream, usize::MAX, 0);
    assert!(output == data);
    let checksum = stream.len() as u64 - 4;
    assert_eq!(error.unwrap().offset(), Some(checksum));

    // As a decoder of parts does, which stops at the error, or before it was told.
    let good = frame(&other, 17, false, true);
    let pool = Pool::new();
    let mut zstd = Zstd::new(128 << 20).unwrap();
    for chunks in 1..=3 {
        let mut input = Input::new(&stream[..], pool.clone()).unwrap();
        zstd.begin(RestartPoint::Frame);
        for number in 1..=chunks {
            assert_eq!(zstd.fill(&mut input, &pool, None).is_err(), number == 3);
        }
        zstd.begin(RestartPoint::Frame);
        let mut input = Input::new(&good[..], pool.clone()).unwrap();
        assert!(*zstd.fill(&mut input, &pool, None).unwrap() == other);
        assert!(zstd.fill(&mut input, &pool, None).unwrap().is_empty());
    }
}

/// Of windows that grow with every frame, the last two are kept.
#[test]
fn windows_that_grow_are_not_all_kept() {
    let mut stream = Vec::new();
    for size in 0..6 {
        let len = 40 * MIB + size;
        stream.extend(frame(&vec![7; len], 26, true, false));
    }
    each_chunk(&stream, |zstd, _| {
        assert!(zstd.blocks.memory() < 2 * 41 * MIB);
    });
}

/// Small frames lie in one segment, whatever their window, and make full chunks.
#[test]
fn small_frames_share_a_segment() {
    let data = sample(50_000);
    let stream = frame(&data, 27, false, false).repeat(80);
    let mut chunks = Vec::new();
    each_chunk(&stream, |zstd, chunk| {
        chunks.push(chunk);
        assert!(zstd.blocks.memory() <= 10 * MIB);
    });
    assert!(chunks.len() <= 80 * data.len() / (CHUNK_SIZE - BLOCK_MAX) + 2);
    let contents = chunks.iter().flat_map(|chunk| chunk.iter());
    assert!(contents.eq(data.repeat(80).iter()));
}

/// The output of a broken frame does not depend on the frames before it.
fn gives_the_same_anywhere(broken: &[u8]) -> Option<Error> {
    let (alone, error) = decode(broken, usize::MAX, 0);
    let message = |error: &Option<Error>| {
        error.as_ref().map(|error| {
            let text = error.to_string();
            text.split('(').next().map(str::to_owned)
        })
    };
    for len in [1, 100_000, 2 * MIB, 2 * MIB + 300_000, 5 * MIB, 40 * MIB] {
        let before = sample(len);
        let before_frame = frame(&before, 21, true, true);
        let stream = [&before_frame, broken].concat();
        let (output, other) = decode(&stream, usize::MAX, 3);
        assert!(output[..len] == before);
        assert!(output[len..] == alone, "behind {len} bytes");
        assert_eq!(message(&other), message(&error));
        let offsets = other.zip(error.as_ref()).map(|(other, error)| {
            (
                other.offset().unwrap() - before_frame.len() as u64,
                error.offset().unwrap(),
            )
        });
        assert!(offsets.is_none_or(|(other, alone)| other == alone));
    }
    error
}

/// A match beyond the window is an error.
#[test]
fn a_window_too_small() {
    let mut failed = 0;
    let late = [sample(17 * MIB), repeating(3 * MIB, 20 * MIB)].concat();
    let early = [MIB + 1000, 2 * MIB + 200_000, 3 * MIB].map(|period| repeating(period, 9 * MIB));
    for data in early.iter().chain([&late]) {
        let mut broken = frame(data, 22, false, false);
        assert_eq!(broken[5], (22 - 10) << 3, "the window's descriptor");
        broken[5] = (20 - 10) << 3;
        failed += usize::from(gives_the_same_anywhere(&broken).is_some());
    }
    assert!(failed > 0, "something is out of reach");
}

/// So is what gives more than its header says, or less.
#[test]
fn a_wrong_content_size() {
    for period in [MIB + 1000, 2 * MIB + 200_000] {
        let data = repeating(period, 9 * MIB);
        let mut broken = frame(&data, 21, true, false);
        assert_eq!(broken[4], 0x80, "four bytes of size, and a window");
        let size = 6..10;
        assert_eq!(broken[size.clone()], (9 * MIB as u32).to_le_bytes());
        for wrong in [100, 100_000, 3 * MIB, 20 * MIB] {
            broken[size.clone()].copy_from_slice(&(wrong as u32).to_le_bytes());
            let error = gives_the_same_anywhere(&broken).unwrap();
            assert!(
                error.to_string().contains("bytes than its header says"),
                "{error}"
            );
        }
    }
}

#[derive(Debug, Clone)]
struct Spec {
    len: usize,
    window_log: u32,
    size: bool,
    checksum: bool,
}

fn spec() -> impl Strategy<Value = Spec> {
    let len = prop_oneof![
        4 => 0..5000_usize,
        4 => 0..600_000_usize,
        1 => 2 * MIB - 200_000..2 * MIB + 400_000,
        1 => 4 * MIB - 300_000..5 * MIB,
    ];
    (len, 10..24_u32, any::<bool>(), any::<bool>()).prop_map(|(len, window_log, size, checksum)| {
        Spec {
            len,
            window_log,
            size,
            checksum,
        }
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    /// Frames of all sizes one behind the other.
    #[test]
    fn frames_are_decoded_as_by_libzstd(
        specs in prop::collection::vec(spec(), 0..12),
        kept in prop_oneof![Just(0), 0..60_usize],
        most in prop_oneof![Just(usize::MAX), 1000..300_000_usize],
    ) {
        let (mut data, mut stream) = (Vec::new(), Vec::new());
        for (number, spec) in specs.iter().enumerate() {
            let period = (1 << spec.window_log) - number;
            let content = repeating(period, spec.len);
            stream.extend(frame(&content, spec.window_log, spec.size, spec.checksum));
            data.extend(content);
        }
        prop_assert!(decode_whole(&stream, most, kept) == data);
    }

    /// Exactly the streams that libzstd refuses are refused.
    #[test]
    fn damage_is_seen_as_by_libzstd(
        lens in prop::collection::vec(1..400_000_usize, 1..4),
        damage in prop::collection::vec((any::<prop::sample::Index>(), 1..=255_u8), 0..3),
        keep in prop_oneof![Just(None), any::<prop::sample::Index>().prop_map(Some)],
    ) {
        let frames = lens.iter().map(|len| frame(&repeating(100_000, *len), 18, len % 2 == 0, true));
        let mut stream = frames.collect::<Vec<_>>().concat();
        for (at, change) in damage {
            let at = at.index(stream.len());
            stream[at] ^= change;
        }
        if let Some(keep) = keep {
            stream.truncate(keep.index(stream.len()));
        }
        // Unlike its streams, this looks at the content's size even where the last block is empty.
        let most = lens.iter().sum::<usize>() * 2;
        let expected = zstd::bulk::decompress(&stream, most);
        let (output, error) = decode(&stream, usize::MAX, 0);
        match expected {
            Ok(expected) => prop_assert!(error.is_none() && output == expected, "{error:?}"),
            Err(_) => prop_assert!(error.is_some()),
        }
    }
}
