//! `:authority` of clients that call over a Unix socket: those in Python and C++ send the escaped
//! path of the socket (`%2Frun%2Fp.sock`), which HTTP allows in no authority, and h2 ends the
//! connection. A plugin has one authority and no use for it, so what is not allowed in one is
//! replaced here, before h2 sees it.
//!
//! Each byte becomes another one, and none is added: lengths, the compression state that the two
//! ends of a connection share, and all else stay as they are. Only fields that bring a new value
//! of `:authority` are touched; one in Huffman coding is left alone, as those clients send none.
//! Malformed frames pass unchanged, and h2 answers them.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tonic::transport::server::Connected;

/// Bytes before the first frame of a client.
const PREFACE: usize = 24;
const FRAME_HEADER: usize = 9;
const HEADERS: u8 = 1;
const CONTINUATION: u8 = 9;
const PADDED: u8 = 0x8;
const PRIORITY: u8 = 0x20;
const END_HEADERS: u8 = 0x4;
/// The index of `:authority` in the static table of HPACK.
const AUTHORITY: u64 = 1;
const AUTHORITY_NAME: &[u8] = b":authority";

/// A connection whose client may send any `:authority`.
#[derive(Debug)]
pub(crate) struct AnyAuthority<T> {
    connection: T,
    frames: Frames,
}

impl<T> AnyAuthority<T> {
    pub(crate) fn new(connection: T) -> Self {
        Self {
            connection,
            frames: Frames::new(),
        }
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for AnyAuthority<T> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buf.filled().len();
        ready!(Pin::new(&mut this.connection).poll_read(cx, buf))?;
        this.frames.pass(&mut buf.filled_mut()[before..]);
        Poll::Ready(Ok(()))
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for AnyAuthority<T> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.connection).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.connection).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.connection.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.connection).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.connection).poll_shutdown(cx)
    }
}

impl<T: Connected> Connected for AnyAuthority<T> {
    type ConnectInfo = T::ConnectInfo;

    fn connect_info(&self) -> Self::ConnectInfo {
        self.connection.connect_info()
    }
}

/// Where in the frames of a client the next byte is.
#[derive(Debug)]
struct Frames {
    at: At,
    fields: Fields,
}

#[derive(Debug)]
enum At {
    Preface(usize),
    Header {
        bytes: [u8; FRAME_HEADER],
        len: usize,
    },
    /// The length of the padding, and then the priority, in front of a block of fields.
    Padding {
        left: usize,
        skip: usize,
        ends: bool,
    },
    Skip {
        skip: usize,
        left: usize,
        padding: usize,
        ends: bool,
    },
    Block {
        left: usize,
        padding: usize,
        ends: bool,
    },
    /// All of no interest.
    Payload(usize),
}

impl Frames {
    fn new() -> Self {
        Self {
            at: At::Preface(PREFACE),
            fields: Fields::new(),
        }
    }

    /// Takes the next bytes of the connection, and changes those that must be.
    fn pass(&mut self, mut bytes: &mut [u8]) {
        while !bytes.is_empty() {
            let len = self.step(bytes);
            bytes = &mut bytes[len..];
            self.settle();
        }
    }

    /// Takes at least one byte.
    fn step(&mut self, bytes: &mut [u8]) -> usize {
        match &mut self.at {
            At::Preface(left) | At::Payload(left) => {
                let len = bytes.len().min(*left);
                *left -= len;
                len
            }
            At::Header { bytes: header, len } => {
                header[*len] = bytes[0];
                *len += 1;
                1
            }
            At::Padding { left, skip, ends } => {
                let padding = usize::from(bytes[0]);
                self.at = At::Skip {
                    skip: *skip,
                    left: *left,
                    padding,
                    ends: *ends,
                };
                1
            }
            At::Skip { skip, .. } => {
                let len = bytes.len().min(*skip);
                *skip -= len;
                len
            }
            At::Block { left, .. } => {
                let len = bytes.len().min(*left);
                *left -= len;
                self.fields.pass(&mut bytes[..len]);
                len
            }
        }
    }

    /// Goes on from states that take no more bytes.
    fn settle(&mut self) {
        loop {
            self.at = match &self.at {
                At::Preface(0) | At::Payload(0) => At::Header {
                    bytes: [0; FRAME_HEADER],
                    len: 0,
                },
                At::Header { bytes, len } if *len == FRAME_HEADER => self.begin(*bytes),
                At::Skip {
                    skip: 0,
                    left,
                    padding,
                    ends,
                } => match left.checked_sub(*padding) {
                    Some(left) => At::Block {
                        left,
                        padding: *padding,
                        ends: *ends,
                    },
                    // More padding than frame, which h2 refuses.
                    None => At::Payload(*left),
                },
                At::Block {
                    left: 0,
                    padding,
                    ends,
                } => {
                    if *ends {
                        self.fields = Fields::new();
                    }
                    At::Payload(*padding)
                }
                _ => return,
            };
        }
    }

    fn begin(&self, header: [u8; FRAME_HEADER]) -> At {
        let [a, b, c, kind, flags, ..] = header;
        let left = u32::from_be_bytes([0, a, b, c]) as usize;
        let ends = flags & END_HEADERS != 0;
        match kind {
            HEADERS => {
                let skip = if flags & PRIORITY != 0 { 5 } else { 0 };
                let padded = usize::from(flags & PADDED != 0);
                match left.checked_sub(skip + padded) {
                    Some(left) if padded != 0 => At::Padding { left, skip, ends },
                    Some(left) => At::Skip {
                        skip,
                        left,
                        padding: 0,
                        ends,
                    },
                    None => At::Payload(left),
                }
            }
            CONTINUATION => At::Block {
                left,
                padding: 0,
                ends,
            },
            _ => At::Payload(left),
        }
    }
}

/// Where in a block of fields the next byte is.
#[derive(Debug)]
struct Fields {
    next: Next,
    /// Whether the value to come is one of `:authority`.
    is_authority: bool,
    /// The number of bytes of `:authority` that matched so far.
    matched: Option<usize>,
}

#[derive(Clone, Copy, Debug)]
enum Next {
    Field,
    /// More of the index that names a field; nothing follows one that is indexed in whole.
    Index {
        number: Number,
        is_whole: bool,
    },
    NameLength,
    MoreNameLength(Number),
    Name(u64),
    ValueLength,
    MoreValueLength {
        number: Number,
        is_huffman: bool,
    },
    Value {
        left: u64,
        is_huffman: bool,
    },
    /// A number that no field can have.
    Lost,
}

/// An integer of HPACK that goes on.
#[derive(Clone, Copy, Debug)]
struct Number {
    value: u64,
    shift: u32,
}

impl Number {
    /// The value of the prefix, or a number that goes on.
    fn begin(byte: u8, bits: u32) -> Result<u64, Self> {
        let most = (1_u8 << bits) - 1;
        let value = u64::from(byte & most);
        match byte & most == most {
            true => Err(Self { value, shift: 0 }),
            false => Ok(value),
        }
    }

    /// The value; what goes on; or nothing where it has no end.
    fn more(self, byte: u8) -> Option<Result<u64, Self>> {
        if self.shift > 28 {
            return None;
        }
        let value = self.value + (u64::from(byte & 0x7f) << self.shift);
        Some(match byte & 0x80 {
            0 => Ok(value),
            _ => Err(Self {
                value,
                shift: self.shift + 7,
            }),
        })
    }
}

impl Fields {
    fn new() -> Self {
        Self {
            next: Next::Field,
            is_authority: false,
            matched: None,
        }
    }

    fn pass(&mut self, bytes: &mut [u8]) {
        for byte in bytes {
            self.next = self.step(byte);
        }
    }

    fn step(&mut self, byte: &mut u8) -> Next {
        match self.next {
            Next::Field => self.field(*byte),
            Next::Index { number, is_whole } => match number.more(*byte) {
                Some(Ok(_)) if is_whole => Next::Field,
                Some(Ok(index)) => self.indexed_name(index),
                Some(Err(number)) => Next::Index { number, is_whole },
                None => Next::Lost,
            },
            Next::NameLength => {
                let plain = *byte & 0x80 == 0;
                self.matched = plain.then_some(0);
                match Number::begin(*byte, 7) {
                    Ok(length) => Self::name(length),
                    Err(number) => Next::MoreNameLength(number),
                }
            }
            Next::MoreNameLength(number) => match number.more(*byte) {
                Some(Ok(length)) => Self::name(length),
                Some(Err(number)) => Next::MoreNameLength(number),
                None => Next::Lost,
            },
            Next::Name(left) => {
                self.matched = self
                    .matched
                    .filter(|at| AUTHORITY_NAME.get(*at) == Some(byte));
                self.matched = self.matched.map(|at| at + 1);
                match left {
                    1 => {
                        self.is_authority = self.matched == Some(AUTHORITY_NAME.len());
                        Next::ValueLength
                    }
                    _ => Next::Name(left - 1),
                }
            }
            Next::ValueLength => {
                let is_huffman = *byte & 0x80 != 0;
                match Number::begin(*byte, 7) {
                    Ok(length) => Self::value(length, is_huffman),
                    Err(number) => Next::MoreValueLength { number, is_huffman },
                }
            }
            Next::MoreValueLength { number, is_huffman } => match number.more(*byte) {
                Some(Ok(length)) => Self::value(length, is_huffman),
                Some(Err(number)) => Next::MoreValueLength { number, is_huffman },
                None => Next::Lost,
            },
            Next::Value { left, is_huffman } => {
                if self.is_authority && !is_huffman && !is_plain(*byte) {
                    *byte = b'-';
                }
                match left {
                    1 => Next::Field,
                    _ => Next::Value {
                        left: left - 1,
                        is_huffman,
                    },
                }
            }
            Next::Lost => Next::Lost,
        }
    }

    /// The first byte of a field, or of a change of the table's size.
    fn field(&mut self, byte: u8) -> Next {
        let (bits, is_whole) = match byte {
            0x80.. => (7, true),
            0x40..0x80 => (6, false),
            0x20..0x40 => (5, true),
            _ => (4, false),
        };
        match Number::begin(byte, bits) {
            Ok(_) if is_whole => Next::Field,
            Ok(index) => self.indexed_name(index),
            Err(number) => Next::Index { number, is_whole },
        }
    }

    fn indexed_name(&mut self, index: u64) -> Next {
        match index {
            0 => {
                self.is_authority = false;
                Next::NameLength
            }
            // A later index may name it, too, but with the value that was passed here.
            _ => {
                self.is_authority = index == AUTHORITY;
                Next::ValueLength
            }
        }
    }

    fn name(length: u64) -> Next {
        match length {
            0 => Next::ValueLength,
            _ => Next::Name(length),
        }
    }

    fn value(length: u64, is_huffman: bool) -> Next {
        match length {
            0 => Next::Field,
            left => Next::Value { left, is_huffman },
        }
    }
}

/// Whether an authority may have this byte, whatever comes before it.
fn is_plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-._~:[]".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
        let len = u32::try_from(payload.len()).unwrap().to_be_bytes();
        let mut frame = vec![len[1], len[2], len[3], kind, flags, 0, 0, 0, 1];
        frame.extend(payload);
        frame
    }

    fn string(text: &str) -> Vec<u8> {
        let mut bytes = Vec::new();
        match text.len() {
            len @ 0..127 => bytes.push(len as u8),
            len => {
                bytes.push(127);
                let mut rest = len - 127;
                while rest >= 128 {
                    bytes.push((rest % 128) as u8 | 0x80);
                    rest /= 128;
                }
                bytes.push(rest as u8);
            }
        }
        bytes.extend(text.as_bytes());
        bytes
    }

    fn fields(authority: &[u8]) -> Vec<u8> {
        let mut block = vec![0x3f, 0xe1, 0x1f, 0x83, 0x86, 0x44];
        block.extend(string("/a%2Fb/c"));
        block.extend(authority);
        // With a name of its own, never indexed.
        block.push(0x10);
        block.extend(string("x-path"));
        block.extend(string("%2Fkept"));
        block
    }

    /// The output does not depend on how the bytes are split.
    fn passed(bytes: &[u8]) -> Vec<u8> {
        let mut whole = bytes.to_vec();
        Frames::new().pass(&mut whole);
        for size in [1, 2, 3, 7, 64] {
            let mut pieces = bytes.to_vec();
            let mut frames = Frames::new();
            for piece in pieces.chunks_mut(size) {
                frames.pass(piece);
            }
            assert_eq!(pieces, whole, "in pieces of {size}");
        }
        whole
    }

    fn connection(frames: &[Vec<u8>]) -> Vec<u8> {
        let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
        bytes.extend(frame(4, 0, &[0, 1, 0, 0, 0x10, 0]));
        bytes.extend(frames.concat());
        bytes.extend(frame(0, 1, b"%2F in the data"));
        bytes
    }

    #[test]
    fn an_escaped_path_becomes_an_authority() {
        let long = format!("%2F{}.sock", "long%20".repeat(60));
        let tame_long = long.replace('%', "-");
        for (authority, tame) in [
            ("%2Frun%2Fp.sock", "-2Frun-2Fp.sock"),
            ("/run/p q@x.sock", "-run-p-q-x.sock"),
            ("localhost:80", "localhost:80"),
            ("[::1]", "[::1]"),
            ("", ""),
            (&long, &tame_long),
        ] {
            // By the static table, to be indexed or not; and by name.
            for prefix in [
                vec![0x41],
                vec![0x01],
                vec![0x11],
                [&[0x40][..], &string(":authority")].concat(),
            ] {
                let make = |value: &str| fields(&[&prefix[..], &string(value)].concat());
                let (block, wanted) = (make(authority), make(tame));
                let one = |block: &[u8]| connection(&[frame(HEADERS, END_HEADERS, block)]);
                assert_eq!(passed(&one(&block)), one(&wanted));
                // Cut at every place, with padding and priority.
                for at in 0..block.len() {
                    let cut = |block: &[u8]| {
                        let mut first = vec![3, 0, 0, 0, 0, 9];
                        first.extend(&block[..at]);
                        first.extend([b'%'; 3]);
                        connection(&[
                            frame(HEADERS, PADDED | PRIORITY, &first),
                            frame(CONTINUATION, 0, b""),
                            frame(CONTINUATION, END_HEADERS, &block[at..]),
                            frame(HEADERS, END_HEADERS, block),
                        ])
                    };
                    assert_eq!(passed(&cut(&block)), cut(&wanted), "cut at {at}");
                }
            }
        }
    }

    #[test]
    fn all_else_goes_through() {
        // Indexed, in Huffman coding, and in frames that are none.
        let huffman = [0x41, 0x83, 0x25, 0x2f, 0x25];
        for block in [
            fields(&[0xbe]),
            fields(&[0xff, 0x9a, 0x0a]),
            fields(&huffman),
            vec![0x41, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, b'%'],
        ] {
            let bytes = connection(&[frame(HEADERS, END_HEADERS, &block)]);
            assert_eq!(passed(&bytes), bytes);
        }
        for payload in [&b""[..], b"%", b"\xff%"] {
            let bytes = connection(&[frame(HEADERS, PADDED | PRIORITY, payload)]);
            assert_eq!(passed(&bytes), bytes);
        }
        let mut state = 1_u64;
        for _ in 0..200 {
            let noise: Vec<u8> = (0..400)
                .map(|_| {
                    state = state
                        .wrapping_mul(6_364_136_223_846_793_005)
                        .wrapping_add(1);
                    (state >> 56) as u8
                })
                .collect();
            assert_eq!(passed(&noise).len(), noise.len());
        }
    }
}
