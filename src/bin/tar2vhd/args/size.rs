//! Numbers of bytes, as qemu-img, truncate and docker take them.

/// A number of bytes.
pub(super) fn size(text: &str) -> Result<u64, String> {
    let digits = |text: &str| text.bytes().take_while(u8::is_ascii_digit).count();
    let (whole, rest) = text.split_at(digits(text));
    let (fraction, unit) = match rest.strip_prefix('.') {
        Some(rest) => rest.split_at(digits(rest)),
        None => ("", rest),
    };
    if whole.is_empty() || (fraction.is_empty() && rest.starts_with('.')) {
        return Err("a size is a number, with or without a unit: 4096, 512MiB, 1.5G".into());
    }
    let unit = unit_bytes(unit).ok_or(
        "the unit has to be one of B, K, M, G, T, P or KiB, MiB, GiB, TiB, PiB, each 1024 times \
         the one before, or KB, MB, GB, TB, PB, each 1000 times",
    )?;
    let too_large = || "that is more than 64 bits hold".to_owned();
    let whole: u64 = whole.parse().map_err(|_| too_large())?;
    let fraction = fraction.trim_end_matches('0');
    let mut bytes = u128::from(whole) * u128::from(unit);
    if !fraction.is_empty() {
        // 10^15 or 2^50 bytes have no longer fraction of whole bytes.
        let parts = fraction.len().try_into().ok().filter(|len| *len <= 50);
        let exact = parts.and_then(|len: u32| {
            // The twos and fives of ten are divided out one by one: 10^50 is too large.
            let mut unit = u128::from(unit);
            let (mut twos, mut fives) = (len, len);
            let mut digits: u128 = fraction.parse().ok()?;
            for (prime, left) in [(2, &mut twos), (5, &mut fives)] {
                while *left > 0 && unit.is_multiple_of(prime) {
                    (unit, *left) = (unit / prime, *left - 1);
                }
                while *left > 0 && digits.is_multiple_of(prime) {
                    (digits, *left) = (digits / prime, *left - 1);
                }
            }
            (twos == 0 && fives == 0)
                .then_some(digits)?
                .checked_mul(unit)
        });
        bytes += exact.ok_or("that is not a whole number of bytes")?;
    }
    u64::try_from(bytes).map_err(|_| too_large())
}

/// Bytes of a unit, in upper or lower case.
fn unit_bytes(unit: &str) -> Option<u64> {
    let unit = unit.to_ascii_uppercase();
    if matches!(&*unit, "" | "B") {
        return Some(1);
    }
    let (first, rest) = unit.split_at_checked(1)?;
    let exponent = "KMGTP".find(first)? as u32 + 1;
    match rest {
        "" | "IB" => 1024_u64.checked_pow(exponent),
        "B" => 1000_u64.checked_pow(exponent),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_those_of_other_tools() {
        for (text, bytes) in [
            ("0", 0),
            ("4096", 4096),
            ("7B", 7),
            ("7b", 7),
            ("1K", 1024),
            ("1k", 1024),
            ("1kib", 1024),
            ("1m", 1 << 20),
            ("1MiB", 1 << 20),
            ("512MiB", 512 << 20),
            ("1G", 1 << 30),
            ("1.5G", 3 << 29),
            ("0.25g", 1 << 28),
            ("1.50GiB", 3 << 29),
            ("1.0", 1),
            ("0.0009765625K", 1),
            ("128GiB", 128 << 30),
            ("16T", 16 << 40),
            ("16777215TiB", 16_777_215 << 40),
            ("1p", 1 << 50),
            ("1KB", 1000),
            ("1MB", 1_000_000),
            ("20gb", 20_000_000_000),
            ("0.001MB", 1000),
            ("1.000000000001TB", 1_000_000_000_001),
        ] {
            assert_eq!(size(text), Ok(bytes), "{text}");
        }
        for text in [
            "",
            "GiB",
            "-1",
            "+1",
            "1 G",
            "1GiB ",
            ".5G",
            "1.G",
            "1.5",
            "0.3K",
            "1.2.3G",
            "1e3",
            "1Ki",
            "1E",
            "1kk",
            "1\u{3a9}",
            "16777216TiB",
            "16384P",
            "18446744073709551616",
            "0.00000000000000000000000000000000000000000000000000001P",
        ] {
            size(text).unwrap_err();
        }
    }
}
