//! Huffman codes as tables to look symbols up in.
//!
//! A table is indexed by the next bits of the stream. Codes of up to `ROOT` bits are found at
//! once: a code's entry stands wherever the index ends in it. Longer ones share, by their
//! first `ROOT` bits, an entry that leads to a subtable for the bits after those.

use crate::error::Error;

pub(crate) const LITERAL_ROOT: u32 = 11;
pub(crate) const DISTANCE_ROOT: u32 = 9;

/// The longest match.
pub(crate) const MAX_LENGTH: usize = 258;

/// The meaning of the next bits, laid out for the decoder's inner loop:
///
/// | bits | |
/// | --- | --- |
/// | 0-7 | how many bits it takes in all, extra bits included |
/// | 8-11 | bits of the code without extra bits; of a subtable's index |
/// | 13-15 | `END`, `SUBTABLE`, `SPECIAL` |
/// | 16-30 | a literal, the base of a length or distance, the start of a subtable |
/// | 31 | `LITERAL` |
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Entry(pub(crate) u32);

impl Entry {
    const END: u32 = 1 << 13;
    const SUBTABLE: u32 = 1 << 14;
    /// Neither a literal nor a base. With neither flag above: no symbol at all.
    const SPECIAL: u32 = 1 << 15;
    const LITERAL: u32 = 1 << 31;

    const INVALID: Self = Self(Self::SPECIAL);

    const fn literal(byte: u8) -> Self {
        Self(Self::LITERAL | (byte as u32) << 16)
    }

    /// A length or distance from `base` on, with so many extra bits.
    const fn base(base: u16, extra: u32) -> Self {
        Self((base as u32) << 16 | extra)
    }

    /// With the code's length, which the other constructors leave out.
    const fn coded(self, length: u32) -> Self {
        Self(self.0 + (length << 8) + length)
    }

    const fn subtable(start: usize, index_bits: u32) -> Self {
        Self(Self::SPECIAL | Self::SUBTABLE | (start as u32) << 16 | index_bits << 8)
    }

    #[inline(always)]
    pub(crate) fn is_literal(self) -> bool {
        self.0 & Self::LITERAL != 0
    }

    #[inline(always)]
    pub(crate) fn is_special(self) -> bool {
        self.0 & Self::SPECIAL != 0
    }

    #[inline(always)]
    pub(crate) fn is_subtable(self) -> bool {
        self.0 & Self::SUBTABLE != 0
    }

    #[inline(always)]
    pub(crate) fn is_end(self) -> bool {
        self.0 & Self::END != 0
    }

    /// Bits of the code and its extra bits.
    #[inline(always)]
    pub(crate) fn total_bits(self) -> u32 {
        self.0 & 0xff
    }

    /// Bits of the code alone, or of a subtable's index.
    #[inline(always)]
    pub(crate) fn code_bits(self) -> u32 {
        self.0 >> 8 & 0xf
    }

    /// The literal, the base, or the start of the subtable.
    #[inline(always)]
    pub(crate) fn value(self) -> usize {
        (self.0 >> 16 & 0x7fff) as usize
    }

    /// The length or distance of a base, given the bits that the code begins.
    #[inline(always)]
    pub(crate) fn with_extra(self, held: u64) -> usize {
        let bits = held & ((1 << self.total_bits()) - 1);
        // As a base has no flags, nothing need be masked: of a shift only six bits count.
        (self.0 >> 16) as usize + bits.wrapping_shr(self.0 >> 8) as usize
    }
}

/// Both tables of a block with codes.
pub(crate) struct Tables {
    pub(crate) literals: Table<4096>,
    pub(crate) distances: Table<1024>,
    /// They are those of the format's fixed code.
    fixed: bool,
}

impl Tables {
    pub(crate) fn new() -> Self {
        Self {
            literals: Table::new(),
            distances: Table::new(),
            fixed: false,
        }
    }

    pub(crate) fn set_fixed(&mut self) -> Result<(), Error> {
        if !self.fixed {
            let mut literals = [8; 288];
            literals[144..256].fill(9);
            literals[256..280].fill(7);
            self.set_dynamic(&literals, &[5; 32])?;
            self.fixed = true;
        }
        Ok(())
    }

    /// Takes the code lengths of the symbols, at most 15 each, at most 288 and 32.
    pub(crate) fn set_dynamic(&mut self, literals: &[u8], distances: &[u8]) -> Result<(), Error> {
        self.fixed = false;
        self.literals
            .set(LITERAL_ROOT, literals, &LITERALS)
            .ok_or(Error::LiteralCode)?;
        self.distances
            .set(DISTANCE_ROOT, distances, &DISTANCES)
            .ok_or(Error::DistanceCode)
    }
}

/// `SIZE` is a power of two, so that an index that is cut to it needs no check, and leaves
/// ample room for subtables: one of `s` bits is a full binary tree of that depth, which has
/// `s + 1` leaves at least, so subtables take at most 2^s / (s + 1) entries a symbol. For 288
/// literals and `s` up to 4 that is below 922, for 32 distances and `s` up to 6 below 293.
pub(crate) struct Table<const SIZE: usize>([Entry; SIZE]);

impl<const SIZE: usize> Table<SIZE> {
    fn new() -> Self {
        Self([Entry::INVALID; SIZE])
    }

    /// Any index will do: it is cut to the table.
    #[inline(always)]
    pub(crate) fn at(&self, index: usize) -> Entry {
        self.0[index % SIZE]
    }

    /// The entry that these bits begin with, through the subtable if there is one.
    #[inline(always)]
    pub(crate) fn lookup(&self, root: u32, held: u64) -> Entry {
        let entry = self.at((held & ((1 << root) - 1)) as usize);
        if entry.is_subtable() {
            return self.follow(root, entry, held);
        }
        entry
    }

    /// From a subtable's entry to the symbol's.
    #[inline(always)]
    pub(crate) fn follow(&self, root: u32, entry: Entry, held: u64) -> Entry {
        let index = held >> root & ((1 << entry.code_bits()) - 1);
        self.at(entry.value() + index as usize)
    }

    /// Builds the table for symbols with these code lengths; `None` if they make no code. It
    /// must be complete, but for two cases that zlib allows too: no symbol at all, and one
    /// symbol of one bit. Bits that are no symbol then count as one bit.
    fn set(&mut self, root: u32, lengths: &[u8], symbols: &[Entry]) -> Option<()> {
        let code = Code::new(lengths)?;
        if code.incomplete {
            self.0[..1 << root].fill(Entry::INVALID.coded(1));
            if let Some(&symbol) = code.sorted().first() {
                let entry = symbols[usize::from(symbol)].coded(1);
                for slot in self.0[..1 << root].iter_mut().step_by(2) {
                    *slot = entry;
                }
            }
            return Some(());
        }

        let mut sorted = code.sorted().iter();
        let mut reversed = Reversed::default();
        // Entries up to here are right for all codes so far, were the index that short.
        let mut filled = 1;
        for length in 1..=root {
            self.0.copy_within(..filled, filled);
            filled *= 2;
            for &symbol in sorted.by_ref().take(code.count(length)) {
                self.0[reversed.0] = symbols[usize::from(symbol)].coded(length);
                reversed.increment(length);
            }
        }

        let mut prefix = None;
        let (mut start, mut index_bits) = (filled, 0);
        for length in root + 1..=15 {
            for (nth, &symbol) in sorted.by_ref().take(code.count(length)).enumerate() {
                let this = reversed.0 % (1 << root);
                if prefix != Some(this) {
                    // The codes left of this length, then longer ones, up to all there are.
                    prefix = Some(this);
                    start += if index_bits == 0 { 0 } else { 1 << index_bits };
                    index_bits = length - root;
                    let mut codes = code.count(length) - nth;
                    while codes < 1 << index_bits {
                        index_bits += 1;
                        codes = 2 * codes + code.count(root + index_bits);
                    }
                    self.0[this] = Entry::subtable(start, index_bits);
                }
                let entry = symbols[usize::from(symbol)].coded(length);
                let subtable = &mut self.0[start..start + (1 << index_bits)];
                for slot in subtable[reversed.0 >> root..]
                    .iter_mut()
                    .step_by(1 << (length - root))
                {
                    *slot = entry;
                }
                reversed.increment(length);
            }
        }
        Some(())
    }
}

/// The code of a dynamic block's code lengths.
pub(crate) struct LengthTable([(u8, u8); 128]);

impl LengthTable {
    pub(crate) const ROOT: u32 = 7;

    pub(crate) fn new() -> Self {
        Self([(0, 0); 128])
    }

    /// The symbol for these bits, and how many of them it takes.
    pub(crate) fn lookup(&self, index: usize) -> (u8, u32) {
        let (symbol, length) = self.0[index % 128];
        (symbol, u32::from(length))
    }

    /// Takes lengths of at most 7 bits. One symbol must not stand alone here. If there is
    /// none, every bit is the symbol 0, which, as in zlib, soon leads to another error.
    pub(crate) fn set(&mut self, lengths: &[u8; 19]) -> Result<(), Error> {
        let code = Code::new(lengths).ok_or(Error::LengthCode)?;
        if code.sorted().is_empty() {
            self.0.fill((0, 1));
            return Ok(());
        }
        if code.incomplete {
            return Err(Error::LengthCode);
        }
        let mut reversed = Reversed::default();
        for &symbol in code.sorted() {
            let symbol = symbol as u8;
            let length = lengths[usize::from(symbol)];
            for slot in self.0[reversed.0..].iter_mut().step_by(1 << length) {
                *slot = (symbol, length);
            }
            reversed.increment(u32::from(length));
        }
        Ok(())
    }
}

/// A valid set of code lengths.
struct Code {
    /// Symbols of each length; of length 0 none are counted.
    counts: [u16; 16],
    /// Ordered by length, then by themselves: so their codes ascend.
    symbols: [u16; 288],
    used: usize,
    incomplete: bool,
}

impl Code {
    fn new(lengths: &[u8]) -> Option<Self> {
        let mut counts = [0_u16; 16];
        for &length in lengths {
            counts[usize::from(length)] += 1;
        }
        counts[0] = 0;

        let mut starts = [0_u16; 17];
        // In units of what is left at this length.
        let mut left = 1_i32;
        for length in 1..16 {
            left = 2 * left - i32::from(counts[length]);
            if left < 0 {
                return None;
            }
            starts[length + 1] = starts[length] + counts[length];
        }
        let used = usize::from(starts[16]);
        let incomplete = left > 0;
        if incomplete && used > usize::from(counts[1]) {
            return None;
        }

        let mut symbols = [0; 288];
        for (symbol, &length) in lengths.iter().enumerate() {
            if length > 0 {
                let place = &mut starts[usize::from(length)];
                symbols[usize::from(*place)] = symbol as u16;
                *place += 1;
            }
        }
        Some(Self {
            counts,
            symbols,
            used,
            incomplete,
        })
    }

    fn count(&self, length: u32) -> usize {
        usize::from(self.counts[length as usize])
    }

    fn sorted(&self) -> &[u16] {
        &self.symbols[..self.used]
    }
}

/// A code as the stream has it: its first bit lowest.
#[derive(Default)]
struct Reversed(usize);

impl Reversed {
    /// Steps to the next code of this length; from the last one to zero.
    fn increment(&mut self, length: u32) {
        // Adding one from the other end: the ones up to the first zero fall, the zero rises.
        let zeros = !self.0 & ((1 << length) - 1);
        self.0 = match zeros.checked_ilog2() {
            Some(highest) => self.0 & ((1 << highest) - 1) | 1 << highest,
            None => 0,
        };
    }
}

const LITERALS: [Entry; 288] = {
    let mut entries = [Entry::INVALID; 288];
    let mut byte = 0;
    while byte < 256 {
        entries[byte] = Entry::literal(byte as u8);
        byte += 1;
    }
    entries[256] = Entry(Entry::SPECIAL | Entry::END);
    let mut base = 3;
    let mut symbol = 257;
    while symbol < 285 {
        let extra = if symbol < 265 { 0 } else { (symbol - 261) / 4 };
        entries[symbol] = Entry::base(base, extra as u32);
        base += 1 << extra;
        symbol += 1;
    }
    entries[285] = Entry::base(258, 0);
    entries
};

const DISTANCES: [Entry; 32] = {
    let mut entries = [Entry::INVALID; 32];
    let mut base = 1;
    let mut symbol = 0;
    while symbol < 30 {
        let extra = if symbol < 4 { 0 } else { (symbol - 2) / 2 };
        entries[symbol] = Entry::base(base, extra as u32);
        base += 1 << extra;
        symbol += 1;
    }
    entries
};

// The inner loop relies on both.
const _: () = {
    let mut symbol = 0;
    while symbol < LITERALS.len() {
        let entry = LITERALS[symbol].0;
        if entry & (Entry::LITERAL | Entry::SPECIAL) == 0 {
            assert!((entry >> 16) + (1 << (entry & 0xff)) - 1 <= MAX_LENGTH as u32);
        }
        symbol += 1;
    }
    let mut symbol = 0;
    while symbol < DISTANCES.len() {
        assert!(DISTANCES[symbol].0 & Entry::SPECIAL != 0 || DISTANCES[symbol].0 >> 16 > 0);
        symbol += 1;
    }
};

#[cfg(test)]
mod tests;
