use proptest::prelude::*;

use super::*;

/// Codes of these lengths as the format defines them: by length, then by symbol.
fn codes(lengths: &[u8]) -> Vec<(usize, u32, u64)> {
    let mut next = 0_u64;
    let mut codes = Vec::new();
    for length in 1..16 {
        next <<= 1;
        for (symbol, _) in lengths.iter().enumerate().filter(|(_, l)| **l == length) {
            let first_bit_lowest = next.reverse_bits() >> (64 - u32::from(length));
            codes.push((symbol, u32::from(length), first_bit_lowest));
            next += 1;
        }
    }
    codes
}

/// Every code, whatever bits follow it, leads to its symbol.
fn check_table<const SIZE: usize>(
    table: &Table<SIZE>,
    root: u32,
    lengths: &[u8],
    symbols: &[Entry],
) {
    for (symbol, length, code) in codes(lengths) {
        for beyond in [0, !0, 0x5555_5555_5555_5555, 0xdead_beef_0bad_cafe_u64] {
            assert_eq!(
                table.lookup(root, code | beyond << length),
                symbols[symbol].coded(length),
                "symbol {symbol} of {lengths:?}"
            );
        }
    }
}

/// The lengths of a complete code of so many symbols, at most 15 bits: a tree whose leaves
/// are split where `choices` say.
fn complete(symbols: usize, choices: &[usize]) -> Vec<u8> {
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

/// Where the deepest leaf is split again and again, subtables are the deepest.
fn chain(symbols: usize, depth: u8) -> Vec<u8> {
    let mut lengths: Vec<u8> = (1..=depth).collect();
    lengths.push(depth);
    let mut shortest = 0;
    while lengths.len() < symbols {
        while lengths[shortest] == depth {
            shortest += 1;
        }
        lengths[shortest] += 1;
        lengths.push(lengths[shortest]);
    }
    lengths
}

proptest! {
    #[test]
    fn complete_codes_decode(
        symbols in 2..288_usize,
        choices in prop::collection::vec(any::<usize>(), 1..300),
        shift in any::<prop::sample::Index>(),
    ) {
        let mut lengths = complete(symbols, &choices);
        lengths.resize(288, 0);
        lengths.rotate_right(shift.index(288));
        let mut table = Table::<4096>::new();
        prop_assert_eq!(table.set(LITERAL_ROOT, &lengths, &LITERALS), Some(()));
        check_table(&table, LITERAL_ROOT, &lengths, &LITERALS);
        // Once more, over the entries of the one before.
        lengths.rotate_right(100);
        prop_assert_eq!(table.set(LITERAL_ROOT, &lengths, &LITERALS), Some(()));
        check_table(&table, LITERAL_ROOT, &lengths, &LITERALS);
    }

    #[test]
    fn complete_distance_codes_decode(
        symbols in 2..=32_usize,
        choices in prop::collection::vec(any::<usize>(), 1..40),
        deep in any::<bool>(),
    ) {
        let lengths = if deep {
            chain(symbols, (symbols as u8 - 1).min(15))
        } else {
            complete(symbols, &choices)
        };
        let mut table = Table::<1024>::new();
        prop_assert_eq!(table.set(DISTANCE_ROOT, &lengths, &DISTANCES), Some(()));
        check_table(&table, DISTANCE_ROOT, &lengths, &DISTANCES);
    }

    /// A length more or less, and the code is over-subscribed or incomplete.
    #[test]
    fn other_codes_are_refused(
        symbols in 3..200_usize,
        choices in prop::collection::vec(any::<usize>(), 1..300),
        at in any::<prop::sample::Index>(),
        change in -1..=1_i8,
    ) {
        let mut lengths = complete(symbols, &choices);
        let at = at.index(symbols);
        let old = lengths[at];
        lengths[at] = match change {
            0 => 0,
            change => old.saturating_add_signed(change).clamp(1, 15),
        };
        let mut table = Table::<4096>::new();
        let valid = lengths[at] == old;
        prop_assert_eq!(
            table.set(LITERAL_ROOT, &lengths, &LITERALS).is_some(),
            valid
        );
    }

    #[test]
    fn code_lengths_decode(symbols in 2..=19_usize, choices in prop::collection::vec(any::<usize>(), 1..20)) {
        let complete = complete(symbols, &choices);
        let mut lengths = [0; 19];
        lengths[..symbols].copy_from_slice(&complete);
        let mut table = LengthTable::new();
        if complete.iter().any(|length| *length > 7) {
            return Ok(());
        }
        prop_assert_eq!(table.set(&lengths), Ok(()));
        for (symbol, length, code) in codes(&lengths) {
            for beyond in [0, 0x55, 0x7f] {
                let index = code as usize | beyond << length;
                prop_assert_eq!(table.lookup(index), (symbol as u8, length));
            }
        }
    }
}

#[test]
fn the_largest_subtables_fit() {
    for depth in 9..=15 {
        for symbols in 100..=288 {
            let lengths = chain(symbols, depth);
            let mut table = Table::<4096>::new();
            assert_eq!(table.set(LITERAL_ROOT, &lengths, &LITERALS), Some(()));
            check_table(&table, LITERAL_ROOT, &lengths, &LITERALS);
        }
    }
}

#[test]
fn one_symbol_of_one_bit_is_a_code() {
    let mut table = Table::<1024>::new();
    for symbol in [0, 7, 29] {
        let mut lengths = [0; 30];
        lengths[symbol] = 1;
        assert_eq!(
            table.set(DISTANCE_ROOT, &lengths, &DISTANCES),
            Some(()),
            "{symbol}"
        );
        for held in 0..1024 {
            let expected = if held % 2 == 0 {
                DISTANCES[symbol]
            } else {
                Entry::INVALID
            };
            assert_eq!(table.lookup(DISTANCE_ROOT, held), expected.coded(1));
        }
        lengths[symbol] = 2;
        assert_eq!(table.set(DISTANCE_ROOT, &lengths, &DISTANCES), None);
    }
}

#[test]
fn no_symbol_is_a_code() {
    let mut table = Table::<1024>::new();
    assert_eq!(table.set(DISTANCE_ROOT, &[0; 30], &DISTANCES), Some(()));
    for held in 0..1024 {
        assert_eq!(table.lookup(DISTANCE_ROOT, held), Entry::INVALID.coded(1));
    }
    let mut table = LengthTable::new();
    assert_eq!(table.set(&[0; 19]), Ok(()));
    assert_eq!(table.lookup(127), (0, 1));
}

#[test]
fn a_lone_code_length_is_no_code() {
    let mut lengths = [0; 19];
    lengths[4] = 1;
    let mut table = LengthTable::new();
    assert_eq!(table.set(&lengths), Err(Error::LengthCode));
    lengths[5] = 1;
    assert_eq!(table.set(&lengths), Ok(()));
}

/// RFC 1951, 3.2.5.
#[test]
fn bases_are_those_of_the_format() {
    let of = |entry: Entry| (entry.value(), entry.total_bits());
    assert_eq!(of(LITERALS[257]), (3, 0));
    assert_eq!(of(LITERALS[264]), (10, 0));
    assert_eq!(of(LITERALS[265]), (11, 1));
    assert_eq!(of(LITERALS[268]), (17, 1));
    assert_eq!(of(LITERALS[269]), (19, 2));
    assert_eq!(of(LITERALS[284]), (227, 5));
    assert_eq!(of(LITERALS[285]), (258, 0));
    assert_eq!(of(DISTANCES[0]), (1, 0));
    assert_eq!(of(DISTANCES[3]), (4, 0));
    assert_eq!(of(DISTANCES[4]), (5, 1));
    assert_eq!(of(DISTANCES[15]), (193, 6));
    assert_eq!(of(DISTANCES[29]), (24577, 13));
    for none in [LITERALS[286], LITERALS[287], DISTANCES[30], DISTANCES[31]] {
        assert_eq!(none, Entry::INVALID);
    }
    assert!(LITERALS[256].is_end());
    assert!(LITERALS[255].is_literal() && LITERALS[255].value() == 255);
}
