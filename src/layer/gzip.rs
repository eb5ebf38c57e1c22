//! gzip, RFC 1952: members one after the other, each with a header, a deflate stream and a
//! trailer.

use crc32fast::Hasher as Crc;
use flate2::{Decompress, FlushDecompress, Status};

use super::codec::Inflater;
use super::codec::{Codec, Format, OpenMember, PartEnd, RestartPattern, RestartPoint};
use super::input::Input;
use crate::buffer::chunk::{Chunk, Pool, WINDOW};
use crate::error::{Error, Result};
use crate::summary::Compression;

const FHCRC: u8 = 1 << 1;
const FEXTRA: u8 = 1 << 2;
const FNAME: u8 = 1 << 3;
const FCOMMENT: u8 = 1 << 4;
const RESERVED: u8 = 0xe0;

/// gzip. Restart points are starts of members, and blocks behind two empty stored ones, of which a
/// full flush by pigz consists: the last bytes of the first and the whole second.
pub(super) const FORMAT: Format = Format {
    compression: Compression::Gzip,
    name: "gzip",
    matches: |start| start.starts_with(&[0x1f, 0x8b, 8]),
    codec: |config| Ok(Box::new(Gzip::new(config.inflater))),
    restart_patterns: &[
        RestartPattern {
            bytes: &[0x1f, 0x8b, 8],
            point: RestartPoint::Frame,
            skip: 0,
        },
        RestartPattern {
            bytes: FLUSH,
            point: RestartPoint::Block,
            skip: FLUSH.len(),
        },
    ],
};
const FLUSH: &[u8] = &[0, 0, 0xff, 0xff, 0, 0, 0, 0xff, 0xff];

pub(super) struct Gzip {
    deflate: Deflate,
    /// Of the member's uncompressed bytes.
    crc: Crc,
    /// Their number, modulo 2^32.
    length: u32,
    state: State,
    /// The previous chunk, to which the next may refer.
    last: Option<Chunk>,
    /// Decoding began within a member, so its trailer covers bytes that were not seen here.
    headless: bool,
    /// The error that the next call returns. Bytes decoded before an error are handed out first, so
    /// that the output does not depend on where chunks end.
    failed: Option<Error>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    /// Before a member's header.
    Header,
    /// In its deflate stream.
    Body,
    /// Behind its trailer.
    Trailer,
    /// Past the last member.
    End,
}

impl Gzip {
    pub(super) fn new(inflater: Inflater) -> Self {
        Self {
            deflate: Deflate::new(inflater),
            crc: Crc::new(),
            length: 0,
            state: State::Header,
            last: None,
            headless: false,
            failed: None,
        }
    }

    fn begin_member(&mut self) {
        self.deflate.reset();
        self.crc.reset();
        self.length = 0;
    }

    /// Fills `output` from the index `filled` on, which moves on with it.
    fn inflate(
        &mut self,
        input: &mut Input<'_>,
        output: &mut [u8],
        filled: &mut usize,
        stop: Option<u64>,
    ) -> Result<()> {
        loop {
            let left = stop.and_then(|stop| stop.checked_sub(input.position()));
            if left == Some(0) && self.restart_point().is_some() {
                break;
            }
            match self.state {
                State::End => break,
                State::Trailer => self.state = after_member(input)?,
                State::Header | State::Body if *filled == output.len() => break,
                State::Header => {
                    read_header(input)?;
                    self.begin_member();
                    self.state = State::Body;
                }
                State::Body => {
                    let mut available = input.fill()?;
                    let exhausted = available.is_empty();
                    if let Some(left @ 1..) = left {
                        available = &available[..available.len().min(left as usize)];
                    }
                    // Called even with no input left: output may be pending.
                    let step = self.deflate.inflate(available, output, *filled);
                    let Some(step) = step else {
                        return Err(damaged("an invalid deflate stream", input));
                    };
                    input.consume(step.consumed);
                    self.crc.update(&output[*filled..*filled + step.produced]);
                    self.length = self.length.wrapping_add(step.produced as u32);
                    *filled += step.produced;
                    if step.ended && self.headless {
                        return Err(damaged("a part ends its member", input));
                    } else if step.ended {
                        self.read_trailer(input)?;
                        self.state = State::Trailer;
                    } else if step.consumed == 0 && step.produced == 0 {
                        return Err(if exhausted {
                            truncated(input)
                        } else {
                            damaged("an invalid deflate stream", input)
                        });
                    }
                }
            }
        }
        Ok(())
    }

    fn read_trailer(&mut self, input: &mut Input<'_>) -> Result<()> {
        let [c0, c1, c2, c3, s0, s1, s2, s3] = read_array(input)?;
        if u32::from_le_bytes([c0, c1, c2, c3]) != self.crc.clone().finalize() {
            return Err(damaged("the CRC of the contents is wrong", input));
        }
        if u32::from_le_bytes([s0, s1, s2, s3]) != self.length {
            return Err(damaged("the length of the contents is wrong", input));
        }
        Ok(())
    }
}

impl Codec for Gzip {
    fn begin(&mut self, at: RestartPoint) {
        self.begin_member();
        self.last = None;
        self.failed = None;
        self.headless = at == RestartPoint::Block;
        self.state = match at {
            RestartPoint::Frame => State::Header,
            RestartPoint::Block => State::Body,
        };
    }

    fn restart_point(&self) -> Option<RestartPoint> {
        match self.state {
            _ if self.failed.is_some() => None,
            State::Header | State::Trailer => Some(RestartPoint::Frame),
            State::Body if self.deflate.is_between_blocks() => Some(RestartPoint::Block),
            State::Body | State::End => None,
        }
    }

    fn end(&self) -> Option<PartEnd> {
        match self.restart_point()? {
            RestartPoint::Frame => Some(None),
            // A part is long enough to fill the window, or another one may lie open.
            RestartPoint::Block if self.deflate.window() == WINDOW => Some(Some(OpenMember {
                crc: self.crc.clone(),
                length: self.length,
                last: self.last.clone()?,
            })),
            RestartPoint::Block => None,
        }
    }

    fn skip_part(&mut self, end: PartEnd) {
        let Some(part) = end else {
            self.state = State::Trailer;
            self.last = None;
            return;
        };
        if self.state != State::Body {
            self.begin_member();
            self.state = State::Body;
        }
        self.crc.combine(&part.crc);
        self.length = self.length.wrapping_add(part.length);
        self.deflate.leave_out(WINDOW);
        self.last = Some(part.last);
    }

    fn fill(&mut self, input: &mut Input<'_>, pool: &Pool, stop: Option<u64>) -> Result<Chunk> {
        if let Some(error) = self.failed.take() {
            return Err(error);
        }
        let mut chunk = pool.get();
        if let Some(last) = &self.last {
            chunk.follow(last, self.deflate.window());
        }
        let mut filled = WINDOW;
        if let Err(error) = self.inflate(input, chunk.with_window(), &mut filled, stop) {
            if filled == WINDOW {
                return Err(error);
            }
            self.failed = Some(error);
        }
        let chunk = chunk.freeze(filled - WINDOW);
        self.last = (self.deflate.window() > 0).then(|| chunk.clone());
        Ok(chunk)
    }
}

/// Reads a member's header and checks what can be checked in it.
fn read_header(input: &mut Input<'_>) -> Result<()> {
    let mut crc = Crc::new();
    let fixed: [u8; 10] = read_array(input)?;
    crc.update(&fixed);
    let [0x1f, 0x8b, method, flags, ..] = fixed else {
        return Err(trailing(input));
    };
    if method != 8 {
        return Err(damaged("an unknown method", input));
    }
    if flags & RESERVED != 0 {
        return Err(damaged("reserved flags are set", input));
    }
    if flags & FEXTRA != 0 {
        let length: [u8; 2] = read_array(input)?;
        crc.update(&length);
        for _ in 0..u16::from_le_bytes(length) {
            crc.update(&read_array::<1>(input)?);
        }
    }
    for text in [FNAME, FCOMMENT] {
        if flags & text != 0 {
            loop {
                let byte: [u8; 1] = read_array(input)?;
                crc.update(&byte);
                if byte == [0] {
                    break;
                }
            }
        }
    }
    if flags & FHCRC != 0 {
        let expected = crc.finalize() & 0xffff;
        if u32::from(u16::from_le_bytes(read_array(input)?)) != expected {
            return Err(damaged("the CRC of the header is wrong", input));
        }
    }
    Ok(())
}

/// After a member stands the next one, or zero padding, or nothing.
fn after_member(input: &mut Input<'_>) -> Result<State> {
    match input.fill()?.first() {
        Some(0x1f) => return Ok(State::Header),
        Some(0) | None => {}
        Some(_) => return Err(trailing(input)),
    }
    loop {
        let padding = input.fill()?;
        if padding.is_empty() {
            return Ok(State::End);
        }
        let zeros = padding.iter().take_while(|byte| **byte == 0).count();
        let all = zeros == padding.len();
        input.consume(zeros);
        if !all {
            return Err(trailing(input));
        }
    }
}

fn read_array<const N: usize>(input: &mut Input<'_>) -> Result<[u8; N]> {
    let mut bytes = [0; N];
    if input.read(&mut bytes)? < N {
        return Err(truncated(input));
    }
    Ok(bytes)
}

fn truncated(input: &Input<'_>) -> Error {
    damaged("it ends early", input)
}

fn trailing(input: &Input<'_>) -> Error {
    damaged("other bytes follow the last member", input)
}

fn damaged(what: &str, input: &Input<'_>) -> Error {
    Error::corrupt(format!("damaged gzip input: {what}")).at_offset(input.position())
}

/// A decoder of raw deflate streams, one after the other.
enum Deflate {
    Own(Box<inflate::Inflater>),
    ZlibRs(Box<Decompress>),
}

/// The progress of one call.
struct Step {
    consumed: usize,
    produced: usize,
    ended: bool,
}

impl Deflate {
    fn new(inflater: Inflater) -> Self {
        match inflater {
            Inflater::Own => Self::Own(Box::default()),
            Inflater::ZlibRs => Self::ZlibRs(Box::new(Decompress::new(false))),
        }
    }

    fn reset(&mut self) {
        match self {
            Self::Own(inflater) => inflater.reset(),
            Self::ZlibRs(zlib) => zlib.reset(false),
        }
    }

    /// Bytes of earlier contents that must precede the next output.
    fn window(&self) -> usize {
        match self {
            Self::Own(inflater) => inflater.window(),
            Self::ZlibRs(_) => 0,
        }
    }

    /// Whether a block begins with the next byte; not all can tell.
    fn is_between_blocks(&self) -> bool {
        match self {
            Self::Own(inflater) => inflater.is_between_blocks(),
            Self::ZlibRs(_) => false,
        }
    }

    /// Skips blocks that decode to `contents` bytes.
    fn leave_out(&mut self, contents: usize) {
        if let Self::Own(inflater) = self {
            inflater.leave_out(contents);
        }
    }

    /// Inflates as much as fits from `start` on; none if the stream is invalid.
    fn inflate(&mut self, input: &[u8], output: &mut [u8], start: usize) -> Option<Step> {
        match self {
            Self::Own(inflater) => {
                let progress = inflater.inflate(input, output, start).ok()?;
                Some(Step {
                    consumed: progress.consumed,
                    produced: progress.produced,
                    ended: progress.ended,
                })
            }
            Self::ZlibRs(zlib) => {
                let (before_in, before_out) = (zlib.total_in(), zlib.total_out());
                let output = &mut output[start..];
                let status = zlib.decompress(input, output, FlushDecompress::None).ok()?;
                Some(Step {
                    consumed: (zlib.total_in() - before_in) as usize,
                    produced: (zlib.total_out() - before_out) as usize,
                    ended: status == Status::StreamEnd,
                })
            }
        }
    }
}
