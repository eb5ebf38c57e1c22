//! Blocks as data: generated, then written.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;

use crate::writer::{BitWriter, code, complete};

#[derive(Clone, Debug)]
pub(crate) enum Block {
    Stored(Vec<u8>, bool),
    Fixed(Vec<Symbol>),
    Dynamic(Codes, Vec<Symbol>),
    Reserved,
}

#[derive(Clone, Debug)]
pub(crate) enum Symbol {
    Literal(u8),
    /// A length symbol, a distance symbol, and bits for both.
    Match(usize, usize, u64),
}

/// The code lengths of a dynamic block.
#[derive(Clone, Debug)]
pub(crate) struct Codes {
    pub(crate) literals: Vec<u8>,
    pub(crate) distances: Vec<u8>,
}

fn symbols() -> impl Strategy<Value = Vec<Symbol>> {
    let symbol = prop_oneof![
        12 => any::<u8>().prop_map(Symbol::Literal),
        // Near, so that they are often valid.
        10 => (257..286_usize, 0..6_usize, any::<u64>()).prop_map(|(l, d, x)| Symbol::Match(l, d, x)),
        1 => (257..286_usize, 0..26_usize, any::<u64>()).prop_map(|(l, d, x)| Symbol::Match(l, d, x)),
    ];
    let rare = (280..288_usize, 0..32_usize, any::<u64>());
    (
        vec(symbol, 0..120),
        prop::option::weighted(0.05, (any::<Index>(), rare)),
    )
        .prop_map(|(mut symbols, rare)| {
            if let Some((at, (length, distance, extra))) = rare {
                let at = at.index(symbols.len() + 1);
                symbols.insert(at, Symbol::Match(length, distance, extra));
            }
            symbols
        })
}

fn codes() -> impl Strategy<Value = Codes> {
    let distances = prop_oneof![
        12 => (2..=30_usize, vec(any::<usize>(), 1..40)).prop_map(|(n, c)| complete(n, &c)),
        1 => Just(vec![0]),
        1 => (1..=30_usize).prop_map(|n| {
            let mut lengths = vec![0; n];
            lengths[n - 1] = 1;
            lengths
        }),
        1 => vec(0..16_u8, 1..33),
    ];
    (
        2..=286_usize,
        vec(any::<usize>(), 1..300),
        any::<Index>(),
        distances,
        prop::option::weighted(0.05, (any::<Index>(), 0..16_u8)),
    )
        .prop_map(|(used, choices, shift, distances, damage)| {
            let mut literals = complete(used, &choices);
            literals.resize(286, 0);
            literals.rotate_right(shift.index(286));
            // Mostly there is an end of block.
            if literals[256] == 0 && shift.index(8) > 0 {
                let at = literals.iter().position(|length| *length > 0).unwrap();
                literals.swap(at, 256);
            }
            if shift.index(64) == 1 {
                literals.fill(0);
                literals[256] = 1;
            }
            if let Some((at, length)) = damage {
                let at = at.index(literals.len());
                literals[at] = length;
            }
            Codes {
                literals,
                distances,
            }
        })
}

fn block() -> impl Strategy<Value = Block> {
    prop_oneof![
        6 => (vec(any::<u8>(), 0..300), prop::bool::weighted(0.98))
            .prop_map(|(contents, right)| Block::Stored(contents, right)),
        12 => symbols().prop_map(Block::Fixed),
        24 => (codes(), symbols()).prop_map(|(codes, symbols)| Block::Dynamic(codes, symbols)),
        1 => Just(Block::Reserved),
    ]
}

impl Codes {
    pub(crate) fn fixed() -> Self {
        let mut literals = vec![8; 288];
        literals[144..256].fill(9);
        literals[256..280].fill(7);
        let distances = vec![5; 32];
        Self {
            literals,
            distances,
        }
    }
}

/// Mostly after enough contents for a match to find something.
pub(crate) fn blocks() -> impl Strategy<Value = Vec<Block>> {
    let start = prop_oneof![
        1 => Just(0),
        4 => Just(700),
        4 => Just(33_000),
    ];
    (start, any::<u8>(), vec(block(), 1..5)).prop_map(|(start, byte, mut blocks)| {
        if start > 0 {
            let contents = (0..start).map(|i| (i as u8).wrapping_mul(byte)).collect();
            blocks.insert(0, Block::Stored(contents, true));
        }
        blocks
    })
}

pub(crate) fn write_symbols(out: &mut BitWriter, lengths: &Codes, symbols: &[Symbol]) {
    let (literals, distances) = (code(&lengths.literals), code(&lengths.distances));
    let has = |code: &[(u32, u64)], symbol: usize| code.get(symbol).is_some_and(|c| c.0 > 0);
    for symbol in symbols {
        match *symbol {
            Symbol::Literal(byte) => out.symbol(&literals, usize::from(byte)),
            Symbol::Match(length, distance, extra) if has(&literals, length) => {
                out.symbol(&literals, length);
                let bits = match length {
                    265..=284 => (length - 261) / 4,
                    _ => 0,
                };
                out.bits(extra, bits as u32);
                out.symbol(&distances, distance);
                if has(&distances, distance) {
                    out.bits(extra >> 8, (distance.max(2) as u32 - 2) / 2);
                } else if distances.iter().all(|c| c.0 < 2) {
                    // Bits that are no symbol.
                    out.bits(1, 1);
                }
            }
            Symbol::Match(..) => {}
        }
    }
    out.symbol(&literals, 256);
}

pub(crate) fn write(blocks: &[Block]) -> Vec<u8> {
    let mut out = BitWriter::default();
    for (nth, block) in blocks.iter().enumerate() {
        let last = nth + 1 == blocks.len();
        match block {
            Block::Stored(contents, right) => {
                let complement = !(contents.len() as u16);
                out.stored(last, contents, complement ^ u16::from(!right) << 9);
            }
            Block::Fixed(symbols) => {
                out.bits(u64::from(last) | 1 << 1, 3);
                write_symbols(&mut out, &Codes::fixed(), symbols);
            }
            Block::Dynamic(codes, symbols) => {
                out.dynamic(last, &codes.literals, &codes.distances);
                write_symbols(&mut out, codes, symbols);
            }
            Block::Reserved => out.bits(u64::from(last) | 3 << 1, 3),
        }
    }
    out.bytes
}
