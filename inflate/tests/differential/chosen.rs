//! Streams that are worth a test of their own.

use inflate::Inflater;

use crate::blocks::{Codes, Symbol, write_symbols};
use crate::decoders::{ROOMY, Verdict, WHOLE, compress, pieces, zlib};
use crate::writer::BitWriter;

/// Small streams of every block type, cut at every place of the input, the output in pieces
/// of one size and another.
#[test]
fn every_split() {
    let text = b"abcabcabcabcaaaaaaaaaaaaaaaaaaaaaaaaaaaa to be or not to be, abcabc, be to or be";
    let long: Vec<u8> = (0..900_u32)
        .map(|i| (i.wrapping_mul(i) >> 5) as u8 & 0x1f)
        .collect();
    let mut streams = vec![
        compress(b"", 6),
        compress(text, 0),
        compress(text, 1),
        compress(text, 9),
        compress(&long, 6),
    ];
    let mut mixed = BitWriter::default();
    mixed.stored(false, b"stored", !6);
    mixed.stored(false, b"", !0);
    mixed.bits(1 << 1, 3);
    let codes = Codes::fixed();
    write_symbols(
        &mut mixed,
        &codes,
        &[Symbol::Literal(200), Symbol::Match(284, 5, 0x1f1f)],
    );
    mixed.stored(true, b"more", !4);
    streams.push(mixed.bytes);

    let mut inflater = Inflater::new();
    for stream in &streams {
        for damage in 0..=stream.len() {
            let mut stream = stream.clone();
            if let Some(byte) = stream.get_mut(damage) {
                *byte ^= 0x11 << (damage % 4);
            }
            let expected = zlib(&stream);
            for split in 1..=stream.len() {
                let inputs = [split, stream.len()];
                for outputs in [&[1][..], &[2, 0], &[3], &[17, 1], &[299], &[5000]] {
                    inflater.reset();
                    let actual = pieces(&mut inflater, &stream, &inputs, outputs);
                    assert_eq!(actual, expected, "{split} {outputs:?} {damage} {stream:?}");
                }
                if damage % 8 != 0 && damage < stream.len() {
                    break;
                }
            }
            inflater.reset();
            assert_eq!(pieces(&mut inflater, &stream, &[1], &[5000]), expected);
        }
    }
}

/// Matches at the longest distances, in calls that leave the window in every position.
#[test]
fn the_whole_window() {
    let mut state = 1_u32;
    let noise: Vec<u8> = std::iter::repeat_with(|| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    })
    .take(32_768)
    .collect();
    let mut out = BitWriter::default();
    out.stored(false, &noise, !32_768);
    out.bits(1 | 1 << 1, 3);
    let codes = Codes::fixed();
    // 32,768, 32,767 and so on, with all lengths.
    let symbols: Vec<Symbol> = (0..600_usize)
        .map(|i| {
            Symbol::Match(
                257 + i % 29,
                29,
                ((8191 - i as u64 / 7) << 8) | (i as u64 % 32),
            )
        })
        .collect();
    write_symbols(&mut out, &codes, &symbols);
    let expected = zlib(&out.bytes);
    assert!(matches!(expected.1, Verdict::Ended(_)));
    for outputs in [
        &[1][..],
        &[300],
        &[1000],
        &[4096],
        &[32_767],
        &[32_768],
        &[32_769],
        &[40_000],
        &[65_536],
        &[1_000_000],
    ] {
        let actual = pieces(&mut Inflater::new(), &out.bytes, WHOLE, outputs);
        assert_eq!(actual.1, expected.1, "{outputs:?}");
        assert!(actual.0 == expected.0, "{outputs:?}");
    }
}

/// As many bits as the format allows between one refill of the bit buffer and the next.
#[test]
fn the_longest_codes() {
    let noise: Vec<u8> = (0..33_000_u32).map(|i| ((i * i) >> 6) as u8).collect();
    // A literal, a length and a distance with the most extra bits take so many bits each.
    for (literal, distance) in [(11, 9), (11, 15), (12, 9), (15, 9), (15, 15), (11, 8)] {
        // One code of each length, and what is left shared by codes of the longest.
        let shared = |longest: u8, symbols: &[usize]| {
            let least = symbols.len().next_power_of_two().trailing_zeros() as u8;
            let mut lengths = vec![0; 286];
            let mut fillers = (0..256).filter(|filler| !symbols.contains(filler));
            for length in 1..=longest - least {
                lengths[fillers.next().unwrap()] = length;
            }
            for symbol in symbols {
                lengths[*symbol] = longest;
            }
            for _ in symbols.len()..1 << least {
                lengths[fillers.next().unwrap()] = longest;
            }
            lengths
        };
        let codes = Codes {
            literals: shared(literal, &[97, 98, 99, 256, 281, 284]),
            distances: shared(distance, &[26, 27, 28, 29])[..30].to_vec(),
        };
        let mut out = BitWriter::default();
        out.stored(false, &noise, !33_000);
        out.dynamic(true, &codes.literals, &codes.distances);
        let mut symbols = Vec::new();
        for i in 0..4000_usize {
            let literals = i.wrapping_mul(i) / 7 % 5;
            symbols.extend((0..literals).map(|j| Symbol::Literal(97 + ((i + j) % 3) as u8)));
            let extra = (i as u64).wrapping_mul(0x9e37_79b9) & 0x1f_ffff;
            symbols.push(Symbol::Match(281 + i % 2 * 3, 26 + i % 4, extra));
        }
        write_symbols(&mut out, &codes, &symbols);
        let expected = zlib(&out.bytes);
        assert!(matches!(expected.1, Verdict::Ended(_)));
        for outputs in [ROOMY, &[1_000_000], &[300]] {
            let actual = pieces(&mut Inflater::new(), &out.bytes, WHOLE, outputs);
            assert_eq!(actual.1, expected.1, "{literal} {distance}");
            assert!(actual.0 == expected.0, "{literal} {distance}");
        }
    }
}

/// One byte further back than there is.
#[test]
fn too_far_back() {
    let codes = Codes::fixed();
    for before in [0, 1, 5, 1023, 1024, 2000] {
        for (symbol, base) in [(0, 1), (1, 2), (4, 5), (19, 769), (20, 1025)] {
            let mut out = BitWriter::default();
            out.stored(false, &vec![7; before], !(before as u16));
            out.bits(1 | 1 << 1, 3);
            write_symbols(&mut out, &codes, &[Symbol::Match(260, symbol, 0)]);
            out.bytes.extend([0; 100]);
            let expected = zlib(&out.bytes);
            assert_eq!(expected.1 == Verdict::Invalid, base > before);
            for outputs in [&[1][..], &[7], &[500], &[5000]] {
                let actual = pieces(&mut Inflater::new(), &out.bytes, WHOLE, outputs);
                assert_eq!(actual, expected, "{before} {symbol} {outputs:?}");
            }
        }
    }
}

/// Nothing of one stream shows in the next, however the first one ended.
#[test]
fn reset() {
    let streams = [
        compress(b"first first first", 6),
        vec![0xff],
        vec![0x04],
        compress(b"second", 0),
        Vec::new(),
        compress(&[1; 100_000], 9),
    ];
    let mut inflater = Inflater::default();
    for first in &streams {
        for second in &streams {
            for stream in [first, second] {
                inflater.reset();
                assert_eq!(pieces(&mut inflater, stream, WHOLE, ROOMY), zlib(stream));
            }
        }
    }
}
