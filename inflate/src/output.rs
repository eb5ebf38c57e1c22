//! Where the output goes, and what stands before it.

use crate::error::Error;

/// The format's longest distance: how far back in the contents a match may reach, in bytes
/// (RFC 1951, section 3.2.5).
pub const WINDOW: usize = 32 * 1024;

/// The output of one call, behind the contents that matches can refer to.
pub(crate) struct Output<'a> {
    /// Begin where the stream does, or at least [`WINDOW`] before what the call produces.
    pub(crate) bytes: &'a mut [u8],
    pub(crate) filled: usize,
}

impl Output<'_> {
    pub(crate) fn is_full(&self) -> bool {
        self.filled == self.bytes.len()
    }

    pub(crate) fn push(&mut self, byte: u8) {
        self.bytes[self.filled] = byte;
        self.filled += 1;
    }

    pub(crate) fn extend(&mut self, bytes: &[u8]) {
        self.bytes[self.filled..][..bytes.len()].copy_from_slice(bytes);
        self.filled += bytes.len();
    }

    /// Repeats what stands `distance` bytes back, as much as fits; says how much that was.
    pub(crate) fn repeat(&mut self, distance: usize, length: usize) -> Result<usize, Error> {
        if distance > self.filled {
            return Err(Error::TooFarBack);
        }
        let length = length.min(self.bytes.len() - self.filled);
        let end = self.filled + length;
        while self.filled < end {
            // Each round doubles the stretch that can be copied at once.
            let start = self.filled - distance;
            let step = distance.min(end - self.filled);
            self.bytes.copy_within(start..start + step, self.filled);
            self.filled += step;
        }
        Ok(length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repeats_byte_by_byte() {
        let written: Vec<u8> = (0..40).collect();
        for distance in 1..=written.len() {
            for length in [0, 1, 2, 7, 30, 100] {
                let mut expected = written.clone();
                for _ in 0..length {
                    expected.push(expected[expected.len() - distance]);
                }
                for room in [0, 1, length / 2, length, length + 5] {
                    let mut bytes = vec![0xa5; written.len() + room];
                    let mut output = Output {
                        bytes: &mut bytes,
                        filled: 0,
                    };
                    output.extend(&written);
                    let fits = length.min(room);
                    assert_eq!(output.repeat(distance, length), Ok(fits));
                    let end = written.len() + fits;
                    assert_eq!(output.filled, end);
                    assert_eq!(bytes[..end], expected[..end]);
                    assert!(bytes[end..].iter().all(|byte| *byte == 0xa5));
                }
            }
        }
    }

    #[test]
    fn refuses_what_lies_before_the_stream() {
        let mut bytes = [0; 8];
        let mut output = Output {
            bytes: &mut bytes,
            filled: 0,
        };
        output.extend(b"abc");
        assert_eq!(output.repeat(4, 1), Err(Error::TooFarBack));
        assert_eq!(output.repeat(3, 1), Ok(1));
        assert_eq!(output.bytes[3], b'a');
    }
}
