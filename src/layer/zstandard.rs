//! Zstandard, RFC 8878: frames one after the other, some of them to be skipped.

use std::io::Read;

use zstd::zstd_safe::{
    DCtx, DParameter, ErrorCode, InBuffer, OutBuffer, ResetDirective, get_error_name,
};

use super::decompress::{Format, unsupported};
use super::input::Input;
use crate::error::{Error, Result};

/// The largest window that libzstd decodes.
const LARGEST_WINDOW_LOG: u32 = if cfg!(target_pointer_width = "64") {
    31
} else {
    30
};

pub(super) struct Zstd {
    context: DCtx<'static>,
    max_window: u64,
    state: State,
    /// A frame began that is not to be skipped.
    began: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    /// Before a frame's magic number.
    Magic,
    /// Past a frame's header.
    Frame,
    /// Past the last frame.
    End,
}

impl Zstd {
    pub(super) fn new(max_window: u64) -> Result<Self> {
        let mut context =
            DCtx::try_create().ok_or_else(|| Error::limit("no memory for the zstd decoder"))?;
        // The limit itself is checked here, where its error can name the size.
        context
            .set_parameter(DParameter::WindowLogMax(LARGEST_WINDOW_LOG))
            .map_err(|code| Error::limit(get_error_name(code)))?;
        Ok(Self {
            context,
            max_window: max_window.min(1 << LARGEST_WINDOW_LOG),
            state: State::Magic,
            began: false,
        })
    }

    /// Ready for frames, whatever became of those before.
    pub(super) fn begin(&mut self) {
        // Only parameters cannot be reset at any time.
        let _ = self.context.reset(ResetDirective::SessionOnly);
        self.state = State::Magic;
    }

    /// What follows can be decoded without what was before.
    pub(super) fn is_at_seam(&self) -> bool {
        self.state == State::Magic
    }

    /// Fills `output`; less only where the input ends, verified to its last byte, or where a
    /// seam is that is to be stopped at.
    pub(super) fn read<R: Read>(
        &mut self,
        input: &mut Input<R>,
        output: &mut [u8],
        stop: Option<u64>,
    ) -> Result<usize> {
        let mut filled = 0;
        while filled < output.len() {
            if self.is_at_seam() && stop == Some(input.position()) {
                break;
            }
            match self.state {
                State::End => break,
                State::Magic => self.state = self.begin_frame(input)?,
                State::Frame => {
                    let available = input.fill()?;
                    let exhausted = available.is_empty();
                    // Called even with no input left: output may be pending.
                    let step = self.decompress(available, &mut output[filled..]);
                    let step = step.map_err(|code| damaged(get_error_name(code), input))?;
                    input.consume(step.consumed);
                    filled += step.produced;
                    if step.ended {
                        self.state = State::Magic;
                    } else if exhausted && step.produced == 0 {
                        return Err(truncated(input));
                    }
                }
            }
        }
        Ok(filled)
    }

    /// Reads up to the first block of a frame, or over a skippable frame.
    fn begin_frame<R: Read>(&mut self, input: &mut Input<R>) -> Result<State> {
        let start = input.position();
        let mut header = FrameHeader::default();
        let len = input.read(&mut header.bytes[..4])?;
        let magic = &header.bytes[..len];
        match *magic {
            [] => return Ok(State::End),
            [0x28, 0xb5, 0x2f, 0xfd] => header.length = 4,
            [0x50..=0x5f, 0x2a, 0x4d, 0x18] => {
                let mut length = [0; 4];
                if input.read(&mut length)? < length.len() {
                    return Err(truncated(input));
                }
                let length = u64::from(u32::from_le_bytes(length));
                if input.skip(length)? < length {
                    return Err(truncated(input));
                }
                return Ok(State::Magic);
            }
            _ => {
                let format = Format::of(magic);
                // LZ4 has the same skippable frames and may begin with one.
                if let Some(format) = format
                    && !self.began
                {
                    return Err(unsupported(format.name(), start));
                }
                let what = format.map_or("other", Format::name);
                return Err(damaged(
                    &format!("{what} bytes follow the last frame"),
                    input,
                ));
            }
        }
        self.began = true;
        let frame = header.read(input)?;
        if frame.dictionary != 0 {
            return Err(Error::unsupported(format!(
                "the zstd input needs the dictionary {}",
                frame.dictionary
            ))
            .at_offset(start));
        }
        if frame.window > self.max_window {
            return Err(Error::limit(format!(
                "the zstd input needs a window of {} bytes, the limit is {}",
                frame.window, self.max_window
            ))
            .at_offset(start));
        }
        // A header alone gives no output, and it is never the whole frame.
        self.decompress(&header.bytes[..header.length], &mut [])
            .map_err(|code| damaged(get_error_name(code), input))?;
        Ok(State::Frame)
    }

    fn decompress(
        &mut self,
        input: &[u8],
        output: &mut [u8],
    ) -> std::result::Result<Step, ErrorCode> {
        let mut input = InBuffer::around(input);
        let mut output = OutBuffer::around(output);
        let hint = self.context.decompress_stream(&mut output, &mut input)?;
        Ok(Step {
            consumed: input.pos(),
            produced: output.pos(),
            ended: hint == 0,
        })
    }
}

/// What one call did.
struct Step {
    consumed: usize,
    produced: usize,
    ended: bool,
}

/// The bytes of a frame's header: the magic number, a descriptor, and what that announces.
#[derive(Default)]
struct FrameHeader {
    bytes: [u8; 18],
    length: usize,
}

/// What a decoder must have before it can begin.
struct Frame {
    window: u64,
    dictionary: u64,
}

impl FrameHeader {
    fn read<R: Read>(&mut self, input: &mut Input<R>) -> Result<Frame> {
        let descriptor = self.field(input, 1)?;
        if descriptor & 0x08 != 0 {
            return Err(damaged("a reserved bit is set", input));
        }
        let single_segment = descriptor & 0x20 != 0;
        let window = match single_segment {
            true => None,
            false => Some(self.field(input, 1)?),
        };
        let dictionary = self.field(input, [0, 1, 2, 4][(descriptor & 3) as usize])?;
        let content_size = match (descriptor >> 6, single_segment) {
            (0, false) => 0,
            (0, true) => self.field(input, 1)?,
            (1, _) => self.field(input, 2)? + 256,
            (2, _) => self.field(input, 4)?,
            (_, _) => self.field(input, 8)?,
        };
        Ok(Frame {
            window: match window {
                // A single segment is its own window.
                None => content_size,
                Some(descriptor) => {
                    let base = 1 << (10 + (descriptor >> 3));
                    base + base / 8 * (descriptor & 7)
                }
            },
            dictionary,
        })
    }

    /// The next `len` bytes as a little-endian number.
    fn field<R: Read>(&mut self, input: &mut Input<R>, len: usize) -> Result<u64> {
        let bytes = &mut self.bytes[self.length..self.length + len];
        if input.read(bytes)? < len {
            return Err(truncated(input));
        }
        self.length += len;
        Ok(bytes
            .iter()
            .rev()
            .fold(0, |number, byte| number << 8 | u64::from(*byte)))
    }
}

fn truncated<R: Read>(input: &Input<R>) -> Error {
    damaged("it ends early", input)
}

fn damaged<R: Read>(what: &str, input: &Input<R>) -> Error {
    Error::corrupt(format!("damaged zstd input: {what}")).at_offset(input.position())
}
