//! Zstandard, RFC 8878: frames one after the other, some of them to be skipped.

mod blocks;

use zstd::zstd_safe::get_error_name;

use self::blocks::{BLOCK_MAX, Blocks, Frame};
use super::codec::{Codec, Format, PartEnd, RestartPattern, RestartPoint, name_of, unsupported};
use super::input::Input;
use crate::buffer::chunk::{CHUNK_SIZE, Chunk, Pool};
use crate::error::{Error, Result};
use crate::summary::Compression;

/// The largest window that libzstd decodes.
const LARGEST_WINDOW_LOG: u32 = if cfg!(target_pointer_width = "64") {
    31
} else {
    30
};

/// Zstandard. Restart points are starts of frames that are not skippable.
pub(super) const FORMAT: Format = Format {
    compression: Compression::Zstd,
    name: "zstd",
    // A skippable frame; LZ4 has the same ones; what follows decides.
    matches: |start| {
        matches!(
            start,
            [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..]
        )
    },
    codec: |config| Ok(Box::new(Zstd::new(config.max_window)?)),
    restart_patterns: &[RestartPattern {
        bytes: &[0x28, 0xb5, 0x2f, 0xfd],
        point: RestartPoint::Frame,
        skip: 0,
    }],
};

pub(super) struct Zstd {
    blocks: Blocks,
    max_window: u64,
    state: State,
    /// Bytes left of the frame's contents, if the frame states their size.
    left: Option<u64>,
    /// Whether a frame that is not skippable has begun.
    began: bool,
    /// The error that the next call returns, after the bytes decoded before it.
    failed: Option<Error>,
    /// A part of a frame that spans two chunks of the input.
    part: Vec<u8>,
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
        Ok(Self {
            blocks: Blocks::new()?,
            max_window: max_window.min(1 << LARGEST_WINDOW_LOG),
            state: State::Magic,
            left: None,
            began: false,
            failed: None,
            part: Vec::new(),
        })
    }

    /// Decodes as many blocks as a chunk has room for.
    fn decode(&mut self, input: &mut Input<'_>, stop: Option<u64>) -> Result<()> {
        while self.blocks.pending() + BLOCK_MAX <= CHUNK_SIZE {
            if self.restart_point().is_some() && stop == Some(input.position()) {
                break;
            }
            match self.state {
                State::End => break,
                State::Magic => self.state = self.begin_frame(input)?,
                State::Frame if self.blocks.has_room() => self.decode_part(input)?,
                State::Frame if self.blocks.pending() > 0 => break,
                State::Frame => self.blocks.make_room()?,
            }
        }
        Ok(())
    }

    /// Decodes the header of a block, or a block.
    fn decode_part(&mut self, input: &mut Input<'_>) -> Result<()> {
        let start = input.position();
        let len = self.blocks.next_input();
        let decoded = match input.fill()?.get(..len) {
            Some(part) => {
                let decoded = self.blocks.decode(part);
                input.consume(len);
                decoded
            }
            None => {
                self.part.resize(len, 0);
                if input.read(&mut self.part)? < len {
                    return Err(truncated(input));
                }
                self.blocks.decode(&self.part)
            }
        };
        let bytes = decoded.map_err(|code| damaged(get_error_name(code), start))? as u64;
        // libzstd does not look at it where the last block is empty.
        let wrong = |what| {
            let what = format!("a frame has {what} bytes than its header says");
            damaged(&what, start)
        };
        if let Some(left) = &mut self.left {
            *left = left.checked_sub(bytes).ok_or_else(|| wrong("more"))?;
        }
        if self.blocks.next_input() == 0 {
            if self.left.is_some_and(|left| left > 0) {
                return Err(wrong("fewer"));
            }
            self.state = State::Magic;
        }
        Ok(())
    }

    /// Reads up to the first block of a frame, or over a skippable frame.
    fn begin_frame(&mut self, input: &mut Input<'_>) -> Result<State> {
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
                let name = name_of(magic);
                // LZ4 has the same skippable frames and may begin with one.
                if let Some(name) = name
                    && !self.began
                {
                    return Err(unsupported(name, start));
                }
                let what = name.unwrap_or("other");
                let what = format!("{what} bytes follow the last frame");
                return Err(damaged(&what, start));
            }
        }
        self.began = true;
        let (frame, dictionary) = header.read(input)?;
        if dictionary != 0 {
            return Err(Error::unsupported(format!(
                "the zstd input needs the dictionary {dictionary}"
            ))
            .at_offset(start));
        }
        if frame.window > self.max_window {
            return Err(Error::limit(format!(
                "the zstd input needs a window of {} bytes, the limit is {}",
                frame.window, self.max_window
            ))
            .allowed_by("max-window")
            .at_offset(start));
        }
        self.blocks.begin(frame)?;
        self.left = frame.content;
        let mut rest = &header.bytes[..header.length];
        while let Some((part, behind)) = rest.split_at_checked(self.blocks.next_input()) {
            let decoded = self.blocks.header(part);
            decoded.map_err(|code| damaged(get_error_name(code), start))?;
            rest = behind;
        }
        debug_assert!(rest.is_empty(), "libzstd reads headers as we do");
        Ok(State::Frame)
    }
}

impl Codec for Zstd {
    fn begin(&mut self, _: RestartPoint) {
        self.state = State::Magic;
        self.failed = None;
    }

    fn fill(&mut self, input: &mut Input<'_>, _: &Pool, stop: Option<u64>) -> Result<Chunk> {
        if let Some(error) = self.failed.take() {
            return Err(error);
        }
        if let Err(error) = self.decode(input, stop) {
            if self.blocks.pending() == 0 {
                return Err(error);
            }
            self.failed = Some(error);
        }
        Ok(self.blocks.take())
    }

    fn restart_point(&self) -> Option<RestartPoint> {
        let is_between_frames = self.state == State::Magic && self.failed.is_none();
        is_between_frames.then_some(RestartPoint::Frame)
    }

    fn end(&self) -> Option<PartEnd> {
        self.restart_point().map(|_| None)
    }

    /// A part ends between frames, so nothing changes.
    fn skip_part(&mut self, _: PartEnd) {}
}

/// The bytes of a frame's header: the magic number, a descriptor, and what that announces.
#[derive(Default)]
struct FrameHeader {
    bytes: [u8; 18],
    length: usize,
}

impl FrameHeader {
    /// The frame that the header announces, and the id of the dictionary it needs (0 for none).
    fn read(&mut self, input: &mut Input<'_>) -> Result<(Frame, u64)> {
        let descriptor = self.field(input, 1)?;
        if descriptor & 0x08 != 0 {
            return Err(damaged("a reserved bit is set", input.position()));
        }
        let single_segment = descriptor & 0x20 != 0;
        let window = match single_segment {
            true => None,
            false => Some(self.field(input, 1)?),
        };
        let dictionary = self.field(input, [0, 1, 2, 4][(descriptor & 3) as usize])?;
        let content = match (descriptor >> 6, single_segment) {
            (0, false) => None,
            (0, true) => Some(self.field(input, 1)?),
            (1, _) => Some(self.field(input, 2)? + 256),
            (2, _) => Some(self.field(input, 4)?),
            (_, _) => Some(self.field(input, 8)?),
        };
        let window = match window {
            // A single segment is its own window.
            None => content.unwrap_or(0),
            Some(descriptor) => {
                let base = 1 << (10 + (descriptor >> 3));
                base + base / 8 * (descriptor & 7)
            }
        };
        Ok((Frame { window, content }, dictionary))
    }

    /// The next `len` bytes as a little-endian number.
    fn field(&mut self, input: &mut Input<'_>, len: usize) -> Result<u64> {
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

fn truncated(input: &Input<'_>) -> Error {
    damaged("it ends early", input.position())
}

fn damaged(what: &str, offset: u64) -> Error {
    Error::corrupt(format!("damaged zstd input: {what}")).at_offset(offset)
}

#[cfg(test)]
mod tests;
