//! The input as bits, least significant first.

/// The input of one call behind the bits that earlier calls left.
///
/// Bits are held in advance. [`give_back`](Self::give_back) returns the bytes among them that
/// no one needed, so that the stream's last byte is the last one consumed. Bytes of an earlier
/// call cannot be returned and need not be: a call ends without returning bytes only if all
/// of them belong to one element (a symbol, a length with its distance, a header field) that
/// is not complete, and the next call that completes it uses them up.
pub(crate) struct Bits<'a> {
    /// Zero above `count`.
    pub(crate) held: u64,
    /// At most 63.
    pub(crate) count: u32,
    pub(crate) input: &'a [u8],
    /// Of the first byte that is not held.
    pub(crate) position: usize,
}

impl<'a> Bits<'a> {
    pub(crate) fn new(held: u64, count: u32, input: &'a [u8]) -> Self {
        Self {
            held,
            count,
            input,
            position: 0,
        }
    }

    /// Holds at least 56 bits, or all there are.
    pub(crate) fn refill(&mut self) {
        if let Some(word) = self.input[self.position..].first_chunk() {
            self.held |= u64::from_le_bytes(*word) << self.count;
            self.position += (63 - self.count as usize) / 8;
            self.count |= 56;
            self.held &= (1 << self.count) - 1;
            return;
        }
        while self.count < 56
            && let Some(&byte) = self.input.get(self.position)
        {
            self.held |= u64::from(byte) << self.count;
            self.position += 1;
            self.count += 8;
        }
    }

    /// The next bits, zero where there are none yet.
    pub(crate) fn peek(&self, bits: u32) -> usize {
        (self.held & ((1 << bits) - 1)) as usize
    }

    /// Uses up so many of the held bits.
    pub(crate) fn consume(&mut self, bits: u32) {
        debug_assert!(bits <= self.count);
        self.held >>= bits;
        self.count -= bits;
    }

    /// The next bits, used up; `None` if they have not come yet.
    pub(crate) fn take(&mut self, bits: u32) -> Option<usize> {
        self.refill();
        if self.count < bits {
            return None;
        }
        let value = self.peek(bits);
        self.consume(bits);
        Some(value)
    }

    /// Steps to the next byte of the stream.
    pub(crate) fn align(&mut self) {
        self.consume(self.count % 8);
    }

    /// Returns whole bytes that are held to the input.
    pub(crate) fn give_back(&mut self) {
        let bytes = (self.count as usize / 8).min(self.position);
        self.position -= bytes;
        self.count -= bytes as u32 * 8;
        self.held &= (1 << self.count) - 1;
    }
}
