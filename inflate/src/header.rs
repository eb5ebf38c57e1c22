//! The header of a dynamic block: its codes as code lengths, themselves coded.

use crate::bits::Bits;
use crate::error::Error;
use crate::stop::Stop;
use crate::table::{LengthTable, Tables};

/// Where in the header the stream is, and what was read of it.
pub(crate) struct Header {
    stage: Stage,
    literals: usize,
    distances: usize,
    /// Of the code lengths' code.
    count: usize,
    /// Lengths read of the stage's.
    have: usize,
    code: LengthTable,
    lengths: [u8; Self::MAX_LITERALS + Self::MAX_DISTANCES],
}

#[derive(Clone, Copy)]
enum Stage {
    Counts,
    Code,
    Lengths,
}

impl Header {
    const MAX_LITERALS: usize = 286;
    const MAX_DISTANCES: usize = 30;

    pub(crate) fn new() -> Self {
        Self {
            stage: Stage::Counts,
            literals: 0,
            distances: 0,
            count: 0,
            have: 0,
            code: LengthTable::new(),
            lengths: [0; Self::MAX_LITERALS + Self::MAX_DISTANCES],
        }
    }

    pub(crate) fn restart(&mut self) {
        self.stage = Stage::Counts;
    }

    /// Reads on, to the end of the header: the tables are set then.
    pub(crate) fn read(&mut self, bits: &mut Bits<'_>, tables: &mut Tables) -> Result<(), Stop> {
        loop {
            match self.stage {
                Stage::Counts => {
                    let counts = bits.take(14).ok_or(Stop::Starved)?;
                    self.literals = 257 + counts % 32;
                    self.distances = 1 + counts / 32 % 32;
                    self.count = 4 + counts / 1024;
                    if self.literals > Self::MAX_LITERALS || self.distances > Self::MAX_DISTANCES {
                        return Err(Error::SymbolCount.into());
                    }
                    self.have = 0;
                    self.stage = Stage::Code;
                }
                Stage::Code => {
                    while self.have < self.count {
                        self.lengths[self.have] = bits.take(3).ok_or(Stop::Starved)? as u8;
                        self.have += 1;
                    }
                    // Those that matter least come last, so that they can be left out.
                    const ORDER: [usize; 19] = [
                        16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15,
                    ];
                    let mut lengths = [0; 19];
                    for (symbol, length) in ORDER.into_iter().zip(&self.lengths[..self.count]) {
                        lengths[symbol] = *length;
                    }
                    self.code.set(&lengths)?;
                    self.have = 0;
                    self.stage = Stage::Lengths;
                }
                Stage::Lengths => {
                    while self.have < self.literals + self.distances {
                        self.read_length(bits)?;
                    }
                    let (literals, rest) = self.lengths.split_at(self.literals);
                    if literals[256] == 0 {
                        return Err(Error::NoEndOfBlock.into());
                    }
                    tables.set_dynamic(literals, &rest[..self.distances])?;
                    return Ok(());
                }
            }
        }
    }

    /// Reads one symbol: a length, or how often which length repeats.
    fn read_length(&mut self, bits: &mut Bits<'_>) -> Result<(), Stop> {
        bits.refill();
        let (symbol, code_bits) = self.code.lookup(bits.peek(LengthTable::ROOT));
        let (base, extra) = match symbol {
            16 => (3, 2),
            17 => (3, 3),
            18 => (11, 7),
            _ => (1, 0),
        };
        if bits.count < code_bits + extra {
            return Err(Stop::Starved);
        }
        bits.consume(code_bits);
        let length = match symbol {
            16 => *self.lengths[..self.have].last().ok_or(Error::Repeat)?,
            17 | 18 => 0,
            length => length,
        };
        let repeat = base + bits.peek(extra);
        bits.consume(extra);
        self.lengths[..self.literals + self.distances]
            .get_mut(self.have..self.have + repeat)
            .ok_or(Error::Repeat)?
            .fill(length);
        self.have += repeat;
        Ok(())
    }
}
