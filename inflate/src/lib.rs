//! A streaming DEFLATE (RFC 1951) decoder, as fast as the format allows.
//!
//! [`Inflater`] takes a stream in pieces of any size and gives out its contents in pieces of
//! any size, to buffers in which the end of the piece before stands in front. What surrounds
//! the stream, such as the header and trailer of gzip or zlib, is the caller's.
//!
//! It accepts what zlib accepts, and refuses what zlib refuses, byte for byte.
//!
//! - **Life cycle.** [`Inflater::new`] allocates the tables, [`Inflater::inflate`] decodes until the
//!   input is used up, the output is full or the stream ends, and [`Inflater::reset`] begins another
//!   stream with the same tables.
//! - **I/O.** It does none, starts no thread and allocates nothing per call.
//! - **Errors.** An [`Error`] says what is wrong with the stream; every call fails from then on,
//!   until a reset. No stream makes it panic.
//! - **Unsafe code** is in one loop, `fast.rs`, which says what it relies on.
//!
//! ```
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use std::io::Read;
//!
//! /// Inflates a stream from a reader; what follows the stream in the last piece is lost.
//! fn inflate(mut reader: impl Read) -> Result<Vec<u8>, Box<dyn std::error::Error>> {
//!     let mut inflater = inflate::Inflater::new();
//!     let mut input = [0; 4096];
//!     let (mut contents, mut filled) = (Vec::new(), 0);
//!     loop {
//!         let read = reader.read(&mut input)?;
//!         let mut rest = &input[..read];
//!         loop {
//!             contents.resize(filled + 65536, 0);
//!             let progress = inflater.inflate(rest, &mut contents, filled)?;
//!             rest = &rest[progress.consumed..];
//!             filled += progress.produced;
//!             if progress.ended {
//!                 contents.truncate(filled);
//!                 return Ok(contents);
//!             }
//!             if progress.produced == 0 {
//!                 break; // It needs more input.
//!             }
//!         }
//!         if read == 0 {
//!             return Err("the stream ends early".into());
//!         }
//!     }
//! }
//!
//! let stream = b"\x2b\xc9\x57\x48\x4a\xd5\x51\xc8\x2f\x52\xc8\xcb\x2f\x51\x28\x01\xf1\xb8\x00";
//! assert_eq!(inflate(&stream[..])?, b"to be, or not to be\n");
//! # Ok(())
//! # }
//! ```

mod bits;
mod error;
mod fast;
mod header;
mod output;
mod stop;
mod table;

use bits::Bits;
pub use error::Error;
use header::Header;
use output::Output;
pub use output::WINDOW;
use stop::Stop;
use table::{DISTANCE_ROOT, Entry, LITERAL_ROOT, Tables};

/// Inflates one DEFLATE stream after the other.
pub struct Inflater {
    state: State,
    /// The block is the stream's last.
    last: bool,
    /// Bits of an element that is not complete.
    held: u64,
    count: u32,
    header: Box<Header>,
    tables: Box<Tables>,
    /// See [`window`](Self::window).
    window: usize,
    fast: fast::Loop,
}

/// The progress of one call of [`Inflater::inflate`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Bytes of the input that are used up.
    pub consumed: usize,
    /// Bytes of the output that are filled.
    pub produced: usize,
    /// The stream ended with the last byte consumed.
    pub ended: bool,
}

/// The position of the next bit in the stream.
#[derive(Clone, Copy)]
enum State {
    /// Before a block, or past the last one.
    Block,
    /// Before the length of a stored block.
    StoredLength,
    /// In a stored block, with this many bytes left.
    Stored(usize),
    /// In the header of a dynamic block.
    Header,
    /// Among the symbols of a block.
    Symbols,
    /// In a match that the output had no more room for.
    Match {
        distance: usize,
        length: usize,
    },
    Ended,
    Failed(Error),
}

impl Default for Inflater {
    fn default() -> Self {
        Self::new()
    }
}

impl Inflater {
    /// Ready for a stream.
    pub fn new() -> Self {
        Self {
            state: State::Block,
            last: false,
            held: 0,
            count: 0,
            header: Box::new(Header::new()),
            tables: Box::new(Tables::new()),
            window: 0,
            fast: fast::best(),
        }
    }

    /// Ready for another stream, whatever became of the one before.
    pub fn reset(&mut self) {
        self.state = State::Block;
        self.last = false;
        self.held = 0;
        self.count = 0;
        self.window = 0;
    }

    /// The most bytes of the stream's contents that the next call refers to: all there are
    /// so far, or the last [`WINDOW`].
    pub fn window(&self) -> usize {
        self.window
    }

    /// Whether the next block begins with the next byte of the input. What is consumed by then
    /// and what follows can be decoded apart, if nothing refers from one to the other.
    pub fn is_between_blocks(&self) -> bool {
        matches!(self.state, State::Block) && !self.last && self.count == 0
    }

    /// Leaves blocks out that were decoded elsewhere, and have contents of so many bytes: the
    /// last [`window`](Self::window) of them stand before what comes next.
    ///
    /// # Panics
    ///
    /// If it does not stand [between blocks](Self::is_between_blocks).
    pub fn leave_out(&mut self, contents: usize) {
        assert!(self.is_between_blocks(), "whole blocks can be left out");
        self.window = self.window.saturating_add(contents).min(WINDOW);
    }

    /// Inflates as much as `input` has and `buffer` has room for from `start` on.
    ///
    /// The next call goes on with what was not consumed of the input. Before `start`, in the
    /// same buffer or a copy of its end, stand the last [`window`](Self::window) bytes that
    /// earlier calls produced. A call that neither consumes nor produces anything, with room
    /// in `buffer`, needs more input, and if there is none the stream was cut off.
    ///
    /// The buffer beyond [`Progress::produced`] may be overwritten with bytes that mean nothing.
    /// After the stream's end nothing is consumed or produced.
    ///
    /// # Errors
    ///
    /// If the stream is invalid, once the bytes before that place are given out: they may
    /// have come with a call that told of no error, and the next one does. From then on every
    /// call fails, until [`reset`](Self::reset).
    ///
    /// # Panics
    ///
    /// If `start` is less than [`window`](Self::window), or beyond the buffer.
    pub fn inflate(
        &mut self,
        input: &[u8],
        buffer: &mut [u8],
        start: usize,
    ) -> Result<Progress, Error> {
        assert!(
            (self.window..=buffer.len()).contains(&start),
            "the window stands in front, in the buffer"
        );
        let mut bits = Bits::new(self.held, self.count, input);
        let mut output = Output {
            bytes: &mut buffer[start - self.window..],
            filled: self.window,
        };
        let run = Run {
            state: &mut self.state,
            last: &mut self.last,
            header: &mut self.header,
            tables: &mut self.tables,
            fast: self.fast,
        };
        let stop = run.until_stop(&mut bits, &mut output);
        let produced = output.filled - self.window;
        self.window = output.filled.min(WINDOW);
        if !matches!(stop, Stop::Starved) {
            bits.give_back();
        }
        if let Stop::Failed(error) = stop {
            self.state = State::Failed(error);
            if produced == 0 {
                return Err(error);
            }
        }
        self.held = bits.held;
        self.count = bits.count;
        Ok(Progress {
            consumed: bits.position,
            produced,
            ended: matches!(stop, Stop::Ended),
        })
    }
}

/// The state of an inflater, as its parts are needed.
struct Run<'a> {
    state: &'a mut State,
    last: &'a mut bool,
    header: &'a mut Header,
    tables: &'a mut Tables,
    fast: fast::Loop,
}

impl Run<'_> {
    fn until_stop(mut self, bits: &mut Bits<'_>, output: &mut Output<'_>) -> Stop {
        loop {
            match self.step(bits, output) {
                Ok(next) => *self.state = next,
                Err(stop) => return stop,
            }
        }
    }

    /// From one state to the next.
    fn step(&mut self, bits: &mut Bits<'_>, output: &mut Output<'_>) -> Result<State, Stop> {
        Ok(match *self.state {
            State::Block if *self.last => {
                bits.align();
                State::Ended
            }
            State::Block => {
                let header = bits.take(3).ok_or(Stop::Starved)?;
                *self.last = header % 2 == 1;
                match header / 2 {
                    0 => State::StoredLength,
                    1 => {
                        self.tables.set_fixed()?;
                        State::Symbols
                    }
                    2 => {
                        self.header.restart();
                        State::Header
                    }
                    _ => return Err(Error::BlockType.into()),
                }
            }
            State::StoredLength => {
                bits.align();
                let both = bits.take(32).ok_or(Stop::Starved)?;
                let (length, complement) = (both & 0xffff, both >> 16);
                if length ^ complement != 0xffff {
                    return Err(Error::StoredLength.into());
                }
                State::Stored(length)
            }
            State::Stored(0) => State::Block,
            State::Stored(length) => {
                bits.give_back();
                let input = &bits.input[bits.position..];
                let room = output.bytes.len() - output.filled;
                let step = length.min(input.len()).min(room);
                if step == 0 {
                    return Err(if room == 0 { Stop::Full } else { Stop::Starved });
                }
                output.extend(&input[..step]);
                bits.position += step;
                State::Stored(length - step)
            }
            State::Header => {
                self.header.read(bits, self.tables)?;
                State::Symbols
            }
            State::Symbols => {
                if (self.fast)(self.tables, bits, output)? {
                    State::Block
                } else {
                    self.symbol(bits, output)?
                }
            }
            State::Match { distance, length } => {
                if output.is_full() {
                    return Err(Stop::Full);
                }
                match length - output.repeat(distance, length)? {
                    0 => State::Symbols,
                    length => State::Match { distance, length },
                }
            }
            State::Ended => return Err(Stop::Ended),
            State::Failed(error) => return Err(error.into()),
        })
    }

    /// Decodes one symbol, a length with its distance: what is left where the input or the
    /// output of a call ends. Only what is complete is used up.
    fn symbol(&mut self, bits: &mut Bits<'_>, output: &mut Output<'_>) -> Result<State, Stop> {
        bits.refill();
        let (held, count) = (bits.held, bits.count);
        // The bits beyond are zero, not known: an entry that takes no more than there are is
        // right all the same.
        let entry = self.tables.literals.lookup(LITERAL_ROOT, held);
        if entry.total_bits() > count {
            // An entry that is no symbol has no extra bits, so it is not mistaken for one here.
            return Err(Stop::Starved);
        }
        if entry.is_literal() {
            if output.is_full() {
                return Err(Stop::Full);
            }
            output.push(entry.value() as u8);
            bits.consume(entry.total_bits());
            return Ok(State::Symbols);
        }
        if entry.is_end() {
            bits.consume(entry.total_bits());
            return Ok(State::Block);
        }
        if entry.is_special() {
            return Err(Error::Literal.into());
        }
        let length = entry.with_extra(held);

        let (held, count) = (held >> entry.total_bits(), count - entry.total_bits());
        let code: Entry = self.tables.distances.lookup(DISTANCE_ROOT, held);
        if code.code_bits() > count {
            return Err(Stop::Starved);
        }
        if code.is_special() {
            return Err(Error::Distance.into());
        }
        if code.total_bits() > count {
            return Err(Stop::Starved);
        }
        let distance = code.with_extra(held);
        bits.consume(entry.total_bits() + code.total_bits());
        Ok(State::Match { distance, length })
    }
}
