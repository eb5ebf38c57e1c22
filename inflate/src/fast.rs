//! The loop that decodes nearly everything: far enough from the ends of input and output,
//! nothing is checked but what the stream says.
//!
//! The one module with unsafe code. What it relies on:
//!
//! - An iteration starts only with `IN_MARGIN` bytes of input ahead of its cursor and
//!   `OUT_MARGIN` bytes of room behind the other, and reads and writes no further than that.
//! - A length is at most `MAX_LENGTH` and a distance at least 1, whatever the stream says:
//!   both are asserted at compile time of every entry that tables are made of.
//! - A match is copied from no further back than the output's first byte. One that begins
//!   before that is an error.

#![expect(
    unsafe_code,
    reason = "checking every access costs a tenth of the speed"
)]
#![deny(unsafe_op_in_unsafe_fn)]

use crate::bits::Bits;
use crate::error::Error;
use crate::output::Output;
use crate::stop::Stop;
use crate::table::{DISTANCE_ROOT, Entry, LITERAL_ROOT, MAX_LENGTH, Tables};

/// Bytes of input that an iteration reads at most. It refills at most three times, the first
/// one with the refill before the loop, with a word each, and the cursor steps by 7 at most.
const IN_MARGIN: usize = 7 + 7 + 8;

/// The bits of a distance whose code is found at once, extra bits included.
const DISTANCE_BITS: u32 = DISTANCE_ROOT + 13;

/// Bytes of output that an iteration writes at most: two literals and a match, or three
/// literals.
const OUT_MARGIN: usize = 2 + MAX_LENGTH + COPY_MARGIN;

/// Bytes that copying a match may write beyond its end.
const COPY_MARGIN: usize = COPIED;

/// Bytes of a match that are copied at once, more often than not too many.
const COPIED: usize = 40;

/// Decodes symbols until the block ends or there is less than a margin; says whether the
/// block ended.
pub(crate) type Loop = fn(&Tables, &mut Bits<'_>, &mut Output<'_>) -> Result<bool, Stop>;

/// The loop as this processor runs it fastest.
pub(crate) fn best() -> Loop {
    #[cfg(target_arch = "x86_64")]
    if std::arch::is_x86_feature_detected!("bmi2") {
        /// Shifts by a register in one step instead of three.
        #[target_feature(enable = "bmi2")]
        fn with_bmi2(
            tables: &Tables,
            bits: &mut Bits<'_>,
            output: &mut Output<'_>,
        ) -> Result<bool, Stop> {
            run(tables, bits, output)
        }
        return |tables, bits, output| {
            // SAFETY: `best` returns this function only where the processor has BMI2.
            unsafe { with_bmi2(tables, bits, output) }
        };
    }
    portable
}

/// The loop as any processor can run it.
fn portable(tables: &Tables, bits: &mut Bits<'_>, output: &mut Output<'_>) -> Result<bool, Stop> {
    run(tables, bits, output)
}

#[inline(always)]
fn run(tables: &Tables, bits: &mut Bits<'_>, output: &mut Output<'_>) -> Result<bool, Stop> {
    let (input, room) = (
        &bits.input[bits.position..],
        output.bytes.len() - output.filled,
    );
    if input.len() < IN_MARGIN || room < OUT_MARGIN {
        return Ok(false);
    }
    let input = bits.input.as_ptr_range();
    let bytes = output.bytes.as_mut_ptr_range();
    // SAFETY: the slice above was taken from `position` on, so it lies within the input, which has
    // at least IN_MARGIN bytes: both were checked above.
    let (mut next, in_limit) =
        unsafe { (input.start.add(bits.position), input.end.sub(IN_MARGIN)) };
    // SAFETY: `Output` keeps `filled` at most its length, and the room behind it was checked to be
    // at least OUT_MARGIN.
    let (mut out, out_limit) =
        unsafe { (bytes.start.add(output.filled), bytes.end.sub(OUT_MARGIN)) };
    let mut held = bits.held;
    // Only the low byte counts, and it is at most 63.
    let mut count = bits.count;

    /// Holds at least 56 bits. Above `count` there are bits of the next byte, which come
    /// again, the same, with the next word.
    macro_rules! refill {
        () => {
            // SAFETY: an iteration starts with `next` at most at `in_limit`, and refills at most
            // three times, each of which reads a word and moves on by at most 7: IN_MARGIN covers
            // that.
            let word = unsafe { next.cast::<[u8; 8]>().read() };
            held |= u64::from_le_bytes(word).wrapping_shl(count);
            // (63 - count) / 8, in fewer steps.
            // SAFETY: as above; the step is at most 7, so `next` stays within the input.
            next = unsafe { next.add(7).sub((count >> 3 & 7) as usize) };
            count |= 56;
        };
    }
    macro_rules! consume {
        ($entry:expr) => {
            // The bits above the number of bits are not part of the shift, nor of the count.
            held = held.wrapping_shr($entry.0);
            count = count.wrapping_sub($entry.0);
        };
    }
    macro_rules! literal {
        ($entry:expr) => {
            // SAFETY: an iteration starts with `out` at most at `out_limit`, and writes at most
            // three literals, or two and a match: OUT_MARGIN covers both.
            unsafe {
                out.write($entry.value() as u8);
                out = out.add(1);
            }
        };
    }
    macro_rules! lookup {
        () => {
            tables
                .literals
                .at((held & ((1 << LITERAL_ROOT) - 1)) as usize)
        };
    }

    refill!();
    let mut entry = lookup!();
    let result = loop {
        // 56 bits are held: two literals of the table's root, a length of 20 bits and a
        // look at a distance take 51.
        if entry.is_literal() {
            consume!(entry);
            literal!(entry);
            entry = lookup!();
            if entry.is_literal() {
                consume!(entry);
                literal!(entry);
                entry = lookup!();
                if entry.is_literal() {
                    consume!(entry);
                    literal!(entry);
                    entry = lookup!();
                    refill!();
                    if next > in_limit || out > out_limit {
                        break Ok(false);
                    }
                    continue;
                }
            }
        }
        if entry.is_special() {
            if entry.is_subtable() {
                entry = tables.literals.follow(LITERAL_ROOT, entry, held);
            }
            if entry.is_literal() {
                consume!(entry);
                literal!(entry);
                entry = lookup!();
                refill!();
                if next > in_limit || out > out_limit {
                    break Ok(false);
                }
                continue;
            }
            if entry.is_special() {
                if !entry.is_end() {
                    break Err(Error::Literal);
                }
                consume!(entry);
                break Ok(true);
            }
        }
        let length = entry.with_extra(held);
        consume!(entry);

        let mut code: Entry = tables
            .distances
            .at((held & ((1 << DISTANCE_ROOT) - 1)) as usize);
        if code.is_special() {
            refill!();
            if code.is_subtable() {
                code = tables.distances.follow(DISTANCE_ROOT, code, held);
            }
            if code.is_special() {
                break Err(Error::Distance);
            }
        } else if count & 0xff < DISTANCE_BITS + LITERAL_ROOT {
            // Seldom. Each refill waits for the one before: two of them in every iteration
            // measured slower by 3 %.
            refill!();
        }
        let distance = code.with_extra(held);
        consume!(code);
        // 11 bits are held.
        entry = lookup!();
        refill!();

        // SAFETY: both pointers come from the output, and `out` never moves backwards.
        let filled = unsafe { out.offset_from_unsigned(bytes.start) };
        if distance > filled {
            break Err(Error::TooFarBack);
        }
        // SAFETY: the match begins in the output, and the margin has room for it.
        unsafe {
            copy_match(out, distance, length);
            out = out.add(length);
        }
        if next > in_limit || out > out_limit {
            break Ok(false);
        }
    };

    // SAFETY: each pair comes from one slice, and neither cursor moved before its start.
    unsafe {
        bits.position = next.offset_from_unsigned(input.start);
        output.filled = out.offset_from_unsigned(bytes.start);
    }
    bits.count = count & 0xff;
    bits.held = held & ((1 << bits.count) - 1);
    Ok(result?)
}

/// Repeats `length` bytes from `distance` before `to` on.
///
/// # Safety
///
/// `distance` is at least 1, and from so many bytes before `to` up to `length` and
/// `COPY_MARGIN` bytes behind it all is in one slice, which is the caller's to write.
#[inline(always)]
unsafe fn copy_match(to: *mut u8, distance: usize, length: usize) {
    // SAFETY: every write is of the first `COPIED` bytes, or begins before `end` and ends no
    // further than a margin behind it. Every read is before the write.
    unsafe {
        let mut from = to.sub(distance).cast_const();
        let mut to = to;
        let end = to.add(length);
        if distance >= 8 {
            // 16 bytes at a time measured slower by 4 %.
            copy_words::<{ COPIED / 8 }>(from, to);
            if length > COPIED {
                from = from.add(COPIED);
                to = to.add(COPIED);
                while to < end {
                    copy_words::<4>(from, to);
                    from = from.add(32);
                    to = to.add(32);
                }
            }
        } else {
            // A word that repeats the distance's bytes, and how far the repetition goes on.
            const REPEAT: [(u64, usize); 8] = {
                let mut repeat = [(0, 0); 8];
                let mut distance = 1;
                while distance < 8 {
                    let mut at = 0;
                    while at < 8 {
                        repeat[distance].0 |= 1 << (at * 8);
                        at += distance;
                    }
                    repeat[distance].1 = 8 / distance * distance;
                    distance += 1;
                }
                repeat
            };
            let (factor, step) = REPEAT[distance % 8];
            // The write may overlap the read: these bytes are whatever they are.
            let word = u64::from_le_bytes(from.cast::<[u8; 8]>().read());
            let word = (word & !(!0 << (distance * 8)))
                .wrapping_mul(factor)
                .to_le_bytes();
            while to < end {
                to.cast::<[u8; 8]>().write(word);
                to = to.add(step);
            }
        }
    }
}

/// Copies words one after the other, each before the next one is read.
///
/// # Safety
///
/// `N` words at `from` can be read, and `N` words at `to` written.
#[inline(always)]
unsafe fn copy_words<const N: usize>(from: *const u8, to: *mut u8) {
    for i in 0..N {
        // SAFETY: the caller promises that these words can be read and written.
        unsafe {
            let word = from.add(8 * i).cast::<[u8; 8]>().read();
            to.add(8 * i).cast::<[u8; 8]>().write(word);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;
    use crate::Inflater;

    /// Each form of the loop that the processor can run gives the same as zlib.
    #[test]
    fn every_form() {
        // Short and long codes and distances, runs, text, noise.
        let mut state = 7_u32;
        let mut contents = Vec::new();
        while contents.len() < 600_000 {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let (kind, number) = (state >> 30, (state >> 8) as usize % 3000);
            match kind {
                0 => contents.extend((0..number).map(|i| b"etaoin shrdlu\n"[i * i % 14])),
                1 => contents.extend(vec![state as u8; number / 4]),
                2 => contents.extend((0..number).map(|i| ((state as usize * i) >> 9) as u8)),
                _ => {
                    let start = contents.len().saturating_sub(number * 11);
                    let end = contents.len().min(start + number / 2);
                    contents.extend_from_within(start..end);
                }
            }
        }
        for level in [1, 6, 9] {
            let level = flate2::Compression::new(level);
            let mut encoder = flate2::write::DeflateEncoder::new(Vec::new(), level);
            encoder.write_all(&contents).unwrap();
            let stream = encoder.finish().unwrap();
            for form in [best(), portable] {
                let mut inflater = Inflater::new();
                inflater.fast = form;
                let mut buffer = vec![0; contents.len() + 1000];
                let progress = inflater.inflate(&stream, &mut buffer, 0).unwrap();
                assert!(progress.ended);
                assert!(buffer[..progress.produced] == contents[..]);
            }
        }
    }
}
