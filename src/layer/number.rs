//! Numbers and escapes in headers.

/// The number in a header field of at most 12 bytes; none if it has no such form.
///
/// It is octal text, led by spaces or NULs and ended by one or by the field. For what is
/// larger or negative, GNU's form is a first byte with its top bit set and all other bits a
/// two's complement number, the most significant first.
pub(super) fn number(field: &[u8]) -> Option<i128> {
    if let [first @ 0x80..=0xff, rest @ ..] = field {
        // Bit 6, not bit 7, is the sign.
        let first = i128::from((first << 1).cast_signed() >> 1);
        return Some(
            rest.iter()
                .fold(first, |number, byte| number << 8 | i128::from(*byte)),
        );
    }
    let blank = |byte: &u8| matches!(byte, b' ' | 0);
    // As most are written: digits to the end of the field or to a blank.
    if let Some(first) = field.first_chunk() {
        let (value, count) = leading_octal(first);
        if count > 0 && field.get(count).is_none_or(blank) {
            return Some(value.into());
        }
    }
    let start = field.iter().position(|byte| !blank(byte));
    let mut digits = &field[start.unwrap_or(field.len())..];
    let mut number = 0_u64;
    if let Some(first) = digits.first_chunk() {
        let (value, count) = leading_octal(first);
        (number, digits) = (value, &digits[count..]);
    }
    for digit in digits.iter().take_while(|byte| !blank(byte)) {
        match digit {
            b'0'..=b'7' => number = number << 3 | u64::from(digit - b'0'),
            _ => return None,
        }
    }
    Some(number.into())
}

/// The number that the octal digits at the beginning are, and how many these are.
fn leading_octal(text: &[u8; 8]) -> (u64, usize) {
    let word = u64::from_be_bytes(*text);
    let others = (word ^ u64::from_be_bytes([b'0'; 8])) & 0xf8f8_f8f8_f8f8_f8f8;
    let count = others.leading_zeros() / 8;
    // The digits to the end, then two by two together.
    let digits = word & 0x0707_0707_0707_0707;
    let number = digits.checked_shr(64 - 8 * count).unwrap_or(0);
    let number = (number | number >> 5) & 0x003f_003f_003f_003f;
    let number = (number | number >> 10) & 0x0000_0fff_0000_0fff;
    let number = (number | number >> 20) & 0x0000_0000_00ff_ffff;
    (number, count as usize)
}

/// A decimal number of digits alone; none if it has another form or exceeds 64 bits.
pub(super) fn decimal(text: &[u8]) -> Option<u64> {
    if text.is_empty() {
        return None;
    }
    text.iter().try_fold(0_u64, |number, digit| {
        let digit = digit.checked_sub(b'0').filter(|digit| *digit <= 9)?;
        number.checked_mul(10)?.checked_add(digit.into())
    })
}

/// The byte of the `%XX` that a text begins with.
pub(super) fn escaped_byte(text: &[u8]) -> Option<u8> {
    let [b'%', high, low, ..] = text else {
        return None;
    };
    let digit = |byte: &u8| char::from(*byte).to_digit(16);
    Some((digit(high)? << 4 | digit(low)?) as u8)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn numbers() {
        for (field, expected) in [
            (&b"0000644\0"[..], Some(0o644)),
            (b"000644 \0", Some(0o644)),
            (b"   644 \0", Some(0o644)),
            (b"\0\0\0" as &[u8], Some(0)),
            (b"\0\0 0644\0", Some(0o644)),
            (b"77777777", Some(0o77_777_777)),
            (b"777777777777", Some((1 << 36) - 1)),
            // Bytes behind the terminator are ignored, as GNU tar does.
            (b"7\0999999", Some(7)),
            (b"        ", Some(0)),
            (b"\0\0\0\0\0\0\0\0", Some(0)),
            (b"0000648\0", None),
            (b"-000644\0", None),
            (b"0x1f\0\0\0\0", None),
            (b"7,7\0\0\0\0\0", None),
            (b"\x7f\0\0\0\0\0\0\0", None),
            (b"\x80\0\0\0\0\0\x01\x02", Some(0x102)),
            (b"\xff\xff\xff\xff\xff\xff\xff\xfe", Some(-2)),
            (b"\xbf\xff\xff\xff\xff\xff\xff\xff", Some((1 << 62) - 1)),
            (b"\xc0\0\0\0\0\0\0\0", Some(-(1 << 62))),
            (b"\xc0\0\0\0\0\0\0\0\0\0\0\0", Some(-(1 << 94))),
        ] {
            assert_eq!(number(field), expected, "{}", field.escape_ascii());
        }
    }

    proptest! {
        #[test]
        fn numbers_in_both_forms(value in 0..1_u64 << 33, negative: i64, blanks in 0..2_usize) {
            let octal = format!("{:blanks$}{value:011o}", "");
            prop_assert_eq!(number(&octal.as_bytes()[..11 + blanks]), Some(value.into()));
            let mut binary = [0xff; 12];
            binary[4..].copy_from_slice(&negative.to_be_bytes());
            if negative >= 0 {
                binary[..4].copy_from_slice(&[0x80, 0, 0, 0]);
            }
            prop_assert_eq!(number(&binary), Some(negative.into()));
        }

        #[test]
        fn digits_end_where_they_do(digits in "[0-7]{0,8}", end: u8) {
            let mut text = [end; 8];
            text[..digits.len()].copy_from_slice(digits.as_bytes());
            let ends = digits.len() == 8 || !matches!(end, b'0'..=b'7');
            prop_assume!(ends);
            let value = u64::from_str_radix(&digits, 8).unwrap_or(0);
            prop_assert_eq!(leading_octal(&text), (value, digits.len()));
        }

        #[test]
        fn any_field_is_a_number_or_is_not(field: [u8; 12]) {
            if let Some(number) = number(&field) {
                prop_assert!((-(1 << 94)..1 << 94).contains(&number));
            }
        }
    }
}
