//! Both decoders behind one face.

use std::io::Write;

use flate2::write::DeflateEncoder;
use flate2::{Compression, Decompress, FlushDecompress, Status};
use inflate::{Inflater, WINDOW};

pub(crate) const WHOLE: &[usize] = &[usize::MAX / 2];
/// An output that takes the inner loop but for its last bytes, and calls that follow one
/// another closely enough for matches to reach across them.
pub(crate) const ROOMY: &[usize] = &[40_000];

/// Bytes behind the buffer that must stay as they are.
const GUARD: usize = 64;

/// How a stream ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// After so many bytes of input.
    Ended(usize),
    Invalid,
    CutOff,
}

/// Everything that an input inflates to, and the verdict on it.
pub(crate) type Outcome = (Vec<u8>, Verdict);

/// What zlib makes of it, in one piece.
pub(crate) fn zlib(input: &[u8]) -> Outcome {
    let mut engine = Decompress::new(false);
    let mut contents = Vec::new();
    let mut piece = vec![0; 128 * 1024];
    loop {
        let (consumed, produced) = (engine.total_in() as usize, engine.total_out());
        let status = engine.decompress(&input[consumed..], &mut piece, FlushDecompress::None);
        let fresh = (engine.total_out() - produced) as usize;
        contents.extend_from_slice(&piece[..fresh]);
        match status {
            Err(_) => return (contents, Verdict::Invalid),
            Ok(Status::StreamEnd) => {
                return (contents, Verdict::Ended(engine.total_in() as usize));
            }
            Ok(_) if fresh == 0 && engine.total_in() as usize == consumed => {
                return (contents, Verdict::CutOff);
            }
            Ok(_) => {}
        }
    }
}

/// What the inflater makes of it, given pieces of input and output of these sizes in turn.
pub(crate) fn pieces(
    inflater: &mut Inflater,
    input: &[u8],
    inputs: &[usize],
    outputs: &[usize],
) -> Outcome {
    let mut contents = Vec::new();
    let mut filled = 0;
    let mut consumed = 0;
    let (mut inputs, mut outputs) = (inputs.iter().cycle(), outputs.iter().cycle());
    let mut end = 0;
    let mut idle = 0;
    let verdict = loop {
        if consumed == end || idle > 0 {
            end = input.len().min(end + inputs.next().unwrap());
        }
        let room = *outputs.next().unwrap();
        // What a call leaves behind must not matter to the next.
        contents.truncate(filled);
        contents.resize(filled + room + GUARD, 0xa5);
        let start = filled.min(WINDOW);
        assert_eq!(inflater.window(), start);
        let buffer = &mut contents[filled - start..filled + room];
        let result = inflater.inflate(&input[consumed..end], buffer, start);
        let guard = &contents[filled + room..];
        assert_eq!(guard, [0xa5; GUARD], "it writes beyond the buffer");
        let Ok(progress) = result else {
            let buffer = &mut contents[filled - start..filled + room];
            let again = inflater.inflate(&input[consumed..], buffer, start);
            assert!(again.is_err());
            break Verdict::Invalid;
        };
        consumed += progress.consumed;
        assert!(consumed <= end);
        filled += progress.produced;
        if progress.ended {
            let after = inflater.inflate(&input[consumed..], &mut contents, filled);
            let after = after.unwrap();
            assert_eq!((after.consumed, after.produced, after.ended), (0, 0, true));
            break Verdict::Ended(consumed);
        }
        if progress.consumed > 0 || progress.produced > 0 {
            idle = 0;
            continue;
        }
        // With room it must have taken the input; without, the next call has room.
        assert!(room == 0 || consumed == end, "it is stuck");
        idle += 1;
        if end == input.len() && room > 0 {
            break Verdict::CutOff;
        }
    };
    contents.truncate(filled);
    (contents, verdict)
}

pub(crate) fn compress(contents: &[u8], level: u32) -> Vec<u8> {
    let mut encoder = DeflateEncoder::new(Vec::new(), Compression::new(level));
    encoder.write_all(contents).unwrap();
    encoder.finish().unwrap()
}
