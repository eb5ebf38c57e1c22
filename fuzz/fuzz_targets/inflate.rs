//! Any bytes, as a deflate stream in pieces, to the inflater: the same contents and the same
//! verdict as zlib's.

#![no_main]

use flate2::{Decompress, FlushDecompress, Status};
use inflate::Inflater;
use libfuzzer_sys::fuzz_target;

/// The most bytes of contents that are looked at.
const MOST: usize = 1 << 20;

/// Bytes behind the buffer that must stay as they are.
const GUARD: usize = 64;

#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    /// After so many bytes of input.
    Ended(usize),
    Invalid,
    CutOff,
    /// The contents are too long to be looked at.
    TooLong,
}

fuzz_target!(|data: &[u8]| {
    let Some((&[input, output], stream)) = data.split_first_chunk() else {
        return;
    };
    // Sizes below and above the margins of the inner loop.
    let size = |byte: u8| 1 + usize::from(byte).pow(2) / 4;
    let (contents, verdict) = ours(stream, size(input), size(output));
    let (expected, expected_verdict) = zlib(stream);
    let len = contents.len().min(expected.len());
    assert!(contents[..len] == expected[..len], "the contents differ");
    if verdict != Verdict::TooLong && expected_verdict != Verdict::TooLong {
        assert_eq!(verdict, expected_verdict);
        assert_eq!(contents.len(), expected.len());
    }
});

fn ours(stream: &[u8], input: usize, output: usize) -> (Vec<u8>, Verdict) {
    let mut inflater = Inflater::new();
    let mut contents = Vec::new();
    let (mut consumed, mut end, mut filled) = (0, 0, 0);
    let verdict = loop {
        if filled >= MOST {
            break Verdict::TooLong;
        }
        if consumed == end {
            end = stream.len().min(end + input);
        }
        let room_end = filled + output;
        contents.resize(contents.len().max(room_end + GUARD), 0);
        contents[room_end..room_end + GUARD].fill(0xa5);
        let start = inflater.window();
        let buffer = &mut contents[filled - start..room_end];
        let result = inflater.inflate(&stream[consumed..end], buffer, start);
        let guard = &contents[room_end..room_end + GUARD];
        assert!(guard == [0xa5; GUARD], "it writes beyond the buffer");
        let Ok(progress) = result else {
            break Verdict::Invalid;
        };
        consumed += progress.consumed;
        filled += progress.produced;
        if progress.ended {
            break Verdict::Ended(consumed);
        }
        if progress.consumed == 0 && progress.produced == 0 {
            assert_eq!(consumed, end, "it is stuck");
            if end == stream.len() {
                break Verdict::CutOff;
            }
        }
    };
    contents.truncate(filled);
    (contents, verdict)
}

fn zlib(stream: &[u8]) -> (Vec<u8>, Verdict) {
    let mut engine = Decompress::new(false);
    let mut room = vec![0; 64 << 10];
    let mut contents = Vec::new();
    while contents.len() < MOST {
        let (consumed, produced) = (engine.total_in() as usize, engine.total_out());
        let status = engine.decompress(&stream[consumed..], &mut room, FlushDecompress::None);
        let fresh = (engine.total_out() - produced) as usize;
        contents.extend_from_slice(&room[..fresh]);
        let now = engine.total_in() as usize;
        match status {
            Err(_) => return (contents, Verdict::Invalid),
            Ok(Status::StreamEnd) => return (contents, Verdict::Ended(now)),
            Ok(_) if fresh == 0 && now == consumed => return (contents, Verdict::CutOff),
            Ok(_) => {}
        }
    }
    (contents, Verdict::TooLong)
}
