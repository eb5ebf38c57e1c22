//! Streams by the thousand.

use inflate::Inflater;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;

use crate::blocks::{blocks, write};
use crate::decoders::{Outcome, ROOMY, Verdict, WHOLE, compress, pieces, zlib};

fn agree(input: &[u8], inputs: &[usize], outputs: &[usize]) -> Result<Outcome, TestCaseError> {
    let expected = zlib(input);
    let actual = pieces(&mut Inflater::new(), input, inputs, outputs);
    prop_assert_eq!(actual.1, expected.1, "verdict");
    prop_assert!(actual.0 == expected.0, "bytes");
    Ok(actual)
}

/// Contents that compress: text of few words, runs, noise, copies from far back.
fn contents() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        vec(prop::sample::select(b"etaoin shrdlu\n".to_vec()), 1..500),
        (any::<u8>(), 1..3000_usize).prop_map(|(byte, length)| vec![byte; length]),
        vec(any::<u8>(), 1..600),
        (vec(any::<u8>(), 1..40), 1..60_usize).prop_map(|(unit, times)| unit.repeat(times)),
    ];
    (
        vec(piece, 0..12),
        vec((any::<Index>(), 1..2000_usize), 0..10),
    )
        .prop_map(|(pieces, copies)| {
            let mut contents = pieces.concat();
            for (start, length) in copies {
                if !contents.is_empty() {
                    let start = start.index(contents.len());
                    let end = contents.len().min(start + length);
                    contents.extend_from_within(start..end);
                }
            }
            contents
        })
}

fn sizes() -> impl Strategy<Value = Vec<usize>> {
    prop_oneof![
        vec(1..12_usize, 1..4),
        vec(1..400_usize, 1..4),
        vec(0..5000_usize, 1..4).prop_map(|mut sizes| {
            sizes.push(1);
            sizes
        }),
        Just(vec![100_000]),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn what_was_compressed(
        contents in contents(),
        level in 0..10_u32,
        inputs in sizes(),
        outputs in sizes(),
        trailing in vec(any::<u8>(), 0..20),
    ) {
        let mut input = compress(&contents, level);
        let length = input.len();
        input.extend(trailing);
        for (inputs, outputs) in [(&inputs[..], &outputs[..]), (WHOLE, ROOMY), (WHOLE, &outputs), (&inputs, ROOMY)] {
            let outcome = pieces(&mut Inflater::new(), &input, inputs, outputs);
            prop_assert_eq!(outcome.1, Verdict::Ended(length));
            prop_assert!(outcome.0 == contents);
        }
    }

    #[test]
    fn what_was_damaged(
        contents in contents(),
        level in 0..10_u32,
        inputs in sizes(),
        outputs in sizes(),
        flips in vec(any::<Index>(), 0..4),
        cut in prop::option::of(any::<Index>()),
    ) {
        let mut input = compress(&contents, level);
        for flip in flips {
            let bit = flip.index(input.len() * 8);
            input[bit / 8] ^= 1 << (bit % 8);
        }
        if let Some(cut) = cut {
            input.truncate(cut.index(input.len()));
        }
        agree(&input, &inputs, &outputs)?;
        agree(&input, WHOLE, ROOMY)?;
        agree(&input, &inputs, ROOMY)?;
    }

    #[test]
    fn what_no_compressor_writes(
        blocks in blocks(),
        inputs in sizes(),
        outputs in sizes(),
        flips in prop_oneof![3 => Just(Vec::new()), 1 => vec(any::<Index>(), 1..3)],
    ) {
        let mut input = write(&blocks);
        for flip in flips {
            let bit = flip.index(input.len() * 8);
            input[bit / 8] ^= 1 << (bit % 8);
        }
        agree(&input, &inputs, &outputs)?;
        // So that the inner loop gets to it too.
        input.extend([0; 64]);
        agree(&input, WHOLE, ROOMY)?;
        agree(&input, &inputs, ROOMY)?;
    }

    #[test]
    fn noise(input in vec(any::<u8>(), 0..400), inputs in sizes(), outputs in sizes()) {
        agree(&input, &inputs, &outputs)?;
        agree(&input, WHOLE, ROOMY)?;
    }
}

/// The generator is worth something only if it makes streams of every kind.
#[test]
fn generated_streams_are_valid_often_enough() {
    use proptest::strategy::ValueTree;
    use proptest::test_runner::TestRunner;

    let mut runner = TestRunner::deterministic();
    let (mut valid, mut invalid) = (0, 0);
    for _ in 0..300 {
        let blocks = blocks().new_tree(&mut runner).unwrap().current();
        match zlib(&write(&blocks)) {
            (_, Verdict::Ended(_)) => valid += 1,
            (_, Verdict::Invalid) => invalid += 1,
            (_, Verdict::CutOff) => {}
        }
    }
    assert!(valid > 80 && invalid > 80, "{valid} {invalid}");
}
