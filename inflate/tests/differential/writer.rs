//! A writer of streams that no compressor would write.

/// Writes bits, least significant first.
#[derive(Clone, Default)]
pub(crate) struct BitWriter {
    pub(crate) bytes: Vec<u8>,
    used: u32,
}

impl BitWriter {
    pub(crate) fn bits(&mut self, value: u64, count: u32) {
        for bit in 0..count {
            if self.used.is_multiple_of(8) {
                self.bytes.push(0);
            }
            *self.bytes.last_mut().unwrap() |= ((value >> bit & 1) as u8) << (self.used % 8);
            self.used += 1;
        }
    }

    pub(crate) fn align(&mut self) {
        self.used = self.bytes.len() as u32 * 8;
    }

    /// The code of a symbol, most significant bit first; nothing if it has none.
    pub(crate) fn symbol(&mut self, code: &[(u32, u64)], symbol: usize) {
        let Some(&(length, bits)) = code.get(symbol) else {
            return;
        };
        for bit in (0..length).rev() {
            self.bits(bits >> bit & 1, 1);
        }
    }

    pub(crate) fn stored(&mut self, last: bool, contents: &[u8], complement: u16) {
        self.bits(u64::from(last), 3);
        self.align();
        self.bits(contents.len() as u64, 16);
        self.bits(u64::from(complement), 16);
        self.bytes.extend_from_slice(contents);
        self.align();
    }

    /// The header of a dynamic block with these code lengths, each written by itself. The
    /// code of the lengths is complete: 5 bits for each of 16 lengths, 2 for the repeats.
    pub(crate) fn dynamic(&mut self, last: bool, literals: &[u8], distances: &[u8]) {
        self.bits(u64::from(last) | 2 << 1, 3);
        self.bits(literals.len() as u64 - 257, 5);
        self.bits(distances.len() as u64 - 1, 5);
        self.bits(15, 4);
        let mut lengths = [5; 19];
        lengths[16] = 2;
        lengths[17] = 3;
        lengths[18] = 3;
        const ORDER: [usize; 19] = [
            16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15,
        ];
        for symbol in ORDER {
            self.bits(lengths[symbol], 3);
        }
        let lengths = lengths.map(|length| length as u8);
        let code = code(&lengths);
        let mut all = literals.iter().chain(distances).copied().peekable();
        let mut before = None;
        while let Some(length) = all.next() {
            self.symbol(&code, usize::from(length));
            // Repeats go across the border of the two codes.
            before = if before == Some(length) {
                None
            } else {
                Some(length)
            };
            let mut run = 0;
            let longest = if length == 0 { 138 } else { 6 };
            while run < longest && before.is_none() && all.peek() == Some(&length) {
                all.next();
                run += 1;
            }
            match (length, run) {
                (_, 1..=2) => (0..run).for_each(|_| self.symbol(&code, usize::from(length))),
                (0, 3..=10) => {
                    self.symbol(&code, 17);
                    self.bits(run - 3, 3);
                }
                (0, 11..) => {
                    self.symbol(&code, 18);
                    self.bits(run - 11, 7);
                }
                (_, 3..) => {
                    self.symbol(&code, 16);
                    self.bits(run - 3, 2);
                }
                _ => {}
            }
        }
    }
}

/// The codes of symbols with these lengths: length and bits. Lengths that make no code give
/// bits all the same.
pub(crate) fn code(lengths: &[u8]) -> Vec<(u32, u64)> {
    let mut codes = vec![(0, 0); lengths.len()];
    let mut next = 0_u64;
    for length in 1..16 {
        next <<= 1;
        for (symbol, _) in lengths.iter().enumerate().filter(|(_, l)| **l == length) {
            codes[symbol] = (u32::from(length), next);
            next += 1;
        }
    }
    codes
}

/// The lengths of a complete code of so many symbols, at most 15 bits each: a tree whose
/// leaves are split where `choices` say.
pub(crate) fn complete(symbols: usize, choices: &[usize]) -> Vec<u8> {
    let mut leaves = vec![1_u8, 1];
    let mut choices = choices.iter().cycle();
    while leaves.len() < symbols {
        let mut at = choices.next().unwrap() % leaves.len();
        while leaves[at] == 15 {
            at = (at + 1) % leaves.len();
        }
        leaves[at] += 1;
        leaves.insert(at, leaves[at]);
    }
    leaves
}
