//! Contents of generated files: text, machine code and what is compressed already. The same on
//! every run, and about as compressible as the real thing.

use std::collections::HashMap;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use flate2::read::GzDecoder;

use crate::result::Result;

/// xorshift64
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        let mut random = Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        // The first numbers of near seeds are near.
        for _ in 0..8 {
            random.next();
        }
        random
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// Less than `end`.
    pub(crate) fn below(&mut self, end: usize) -> usize {
        ((u128::from(self.next()) * end as u128) >> 64) as usize
    }

    /// A size from a distribution: its quantiles at equal steps, between which it is linear.
    pub(crate) fn size(&mut self, quantiles: &[usize]) -> usize {
        let step = self.below(quantiles.len() - 1);
        let (low, high) = (quantiles[step], quantiles[step + 1]);
        low + self.below(high - low + 1)
    }
}

/// Lines of real programs, taken apart into words and put together with other words.
///
/// A word that is replaced is so in all of a file, as if each file had names of its own: what
/// repeats does so within a file, or it is a phrase that programs share.
pub(crate) struct Text {
    tokens: Vec<Box<[u8]>>,
    /// The tokens of all lines, one after the other.
    body: Vec<u32>,
    /// Where in `body` each line starts, and the last one ends.
    lines: Vec<usize>,
    /// The tokens that may take another's place.
    words: Vec<u32>,
    is_word: Vec<bool>,
}

impl Text {
    /// Takes apart the text files of a compressed layer.
    pub(crate) fn of_layer(path: &Path) -> Result<Self> {
        let mut text = Self {
            tokens: Vec::new(),
            body: Vec::new(),
            lines: vec![0],
            words: Vec::new(),
            is_word: Vec::new(),
        };
        let mut known = HashMap::new();
        let mut layer = tar::Archive::new(GzDecoder::new(File::open(path)?));
        for entry in layer.entries()? {
            let mut file = Vec::new();
            entry?.read_to_end(&mut file)?;
            for line in file.split_inclusive(|byte| *byte == b'\n') {
                // Minified programs and data in base64 are a line of megabytes.
                if line.len() < 400 && std::str::from_utf8(line).is_ok() {
                    text.add(line, &mut known);
                }
            }
        }
        Ok(text)
    }

    fn add(&mut self, line: &[u8], known: &mut HashMap<Box<[u8]>, u32>) {
        for token in line.chunk_by(|a, b| a.is_ascii_alphanumeric() == b.is_ascii_alphanumeric()) {
            let next = self.tokens.len() as u32;
            let id = *known.entry(token.into()).or_insert(next);
            if id == next {
                let is_word = token.len() >= 4 && token[0].is_ascii_alphabetic();
                self.tokens.push(token.into());
                self.is_word.push(is_word);
                if is_word {
                    self.words.push(id);
                }
            }
            self.body.push(id);
        }
        self.lines.push(self.body.len());
    }

    /// Appends so many bytes.
    pub(crate) fn take(&self, length: usize, random: &mut Random, out: &mut Vec<u8>) {
        let end = out.len() + length;
        let file = random.next();
        let lines = self.lines.len() - 1;
        let mut line = random.below(lines);
        while out.len() < end {
            for id in &self.body[self.lines[line]..self.lines[line + 1]] {
                out.extend_from_slice(&self.tokens[self.renamed(*id, file) as usize]);
            }
            line = match random.below(16) {
                0 => random.below(lines),
                _ => (line + 1) % lines,
            };
        }
        out.truncate(end);
    }

    fn renamed(&self, id: u32, file: u64) -> u32 {
        if !self.is_word[id as usize] {
            return id;
        }
        let mut hash = (file ^ u64::from(id)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        hash ^= hash >> 29;
        if hash & 7 > 2 {
            return id;
        }
        // The product makes the words that came first more frequent, as some are.
        let (a, b) = ((hash >> 3) & 0xffff, (hash >> 19) & 0xffff);
        self.words[((a * b * self.words.len() as u64) >> 32) as usize]
    }
}

/// Appends what looks to a compressor like machine code: instructions of which some are
/// frequent, with operands of which most are small.
pub(crate) fn machine_code(length: usize, random: &mut Random, out: &mut Vec<u8>) {
    const INSTRUCTIONS: u64 = 2048;
    let end = out.len() + length;
    // The same instructions in every file.
    let instruction = |number: u64| {
        let mut bytes = number.wrapping_mul(0xd6e8_feb8_6659_fd93);
        bytes ^= bytes >> 32;
        (bytes.to_le_bytes(), 2 + (bytes >> 60) as usize % 5)
    };
    while out.len() < end {
        let (a, b) = (random.next(), random.next());
        // The product of the two is small more often than not.
        let number = ((a >> 32) * (b >> 32)) >> 32;
        let (bytes, len) = instruction((number * INSTRUCTIONS) >> 32);
        out.extend_from_slice(&bytes[..len]);
        match a & 15 {
            0 => out.extend_from_slice(&(b as u32 >> 14).to_le_bytes()),
            1 => out.extend_from_slice(&(-((b & 0xffff) as i32)).to_le_bytes()),
            2..6 => out.push((b & 0x3f) as u8 & !7),
            6 => out.extend_from_slice(&[0; 6]),
            // A stretch that was there before: unrolled loops, tables, inlined functions.
            7 | 8 if out.len() > 1 << 12 => {
                let from = out.len() - 96 - (b >> 16) as usize % 4000;
                out.extend_from_within(from..from + 16 + (b & 63) as usize);
            }
            _ => {}
        }
    }
    out.truncate(end);
}

/// Appends what cannot be compressed.
pub(crate) fn compressed(length: usize, random: &mut Random, out: &mut Vec<u8>) {
    let end = out.len() + length;
    while out.len() < end {
        out.extend_from_slice(&random.next().to_le_bytes());
    }
    out.truncate(end);
}
