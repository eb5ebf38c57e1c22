//! What was given out and can still be referred to, and where the rest goes.

use crate::error::Error;

/// The format's longest distance.
const WINDOW: usize = 32 * 1024;

/// The last bytes of earlier calls.
pub(crate) struct History {
    /// Twice the window: the recent bytes are moved to its front only when it is full, so
    /// that many small calls cost no more than few large ones.
    bytes: Box<[u8]>,
    end: usize,
}

impl History {
    pub(crate) fn new() -> Self {
        Self {
            bytes: vec![0; 2 * WINDOW].into(),
            end: 0,
        }
    }

    pub(crate) fn clear(&mut self) {
        self.end = 0;
    }

    pub(crate) fn append(&mut self, new: &[u8]) {
        let new = &new[new.len().saturating_sub(WINDOW)..];
        if new.len() > self.bytes.len() - self.end {
            let keep = WINDOW - new.len();
            self.bytes.copy_within(self.end - keep..self.end, 0);
            self.end = keep;
        }
        self.bytes[self.end..][..new.len()].copy_from_slice(new);
        self.end += new.len();
    }

    fn recent(&self) -> &[u8] {
        &self.bytes[self.end.saturating_sub(WINDOW)..self.end]
    }
}

/// The output of one call.
pub(crate) struct Output<'a> {
    pub(crate) bytes: &'a mut [u8],
    pub(crate) filled: usize,
    pub(crate) history: &'a History,
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
        let length = length.min(self.bytes.len() - self.filled);
        let end = self.filled + length;
        if let Some(back @ 1..) = distance.checked_sub(self.filled) {
            let recent = self.history.recent();
            let start = recent.len().checked_sub(back).ok_or(Error::TooFarBack)?;
            self.extend(&recent[start..][..back.min(length)]);
        }
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

    /// The definition: byte by byte.
    fn expected(written: &[u8], distance: usize, length: usize) -> Vec<u8> {
        let mut all = written.to_vec();
        for _ in 0..length {
            all.push(all[all.len() - distance]);
        }
        all
    }

    #[test]
    fn repeats_from_history_and_output() {
        let written: Vec<u8> = (0..40).collect();
        for split in 0..=written.len() {
            let mut history = History::new();
            history.append(&written[..split]);
            for distance in 1..=written.len() {
                for length in [1, 2, 7, 30, 100] {
                    let mut bytes = vec![0; written.len() - split + length];
                    let mut output = Output {
                        bytes: &mut bytes,
                        filled: 0,
                        history: &history,
                    };
                    output.extend(&written[split..]);
                    assert_eq!(output.repeat(distance, length), Ok(length));
                    let all = expected(&written, distance, length);
                    assert_eq!(bytes, all[split..], "{split} {distance} {length}");
                }
            }
        }
    }

    #[test]
    fn refuses_what_lies_before_the_stream() {
        let mut history = History::new();
        history.append(b"ab");
        let mut bytes = [0; 8];
        let mut output = Output {
            bytes: &mut bytes,
            filled: 0,
            history: &history,
        };
        output.push(b'c');
        assert_eq!(output.repeat(4, 1), Err(Error::TooFarBack));
        assert_eq!(output.repeat(3, 1), Ok(1));
        assert_eq!(output.bytes[1], b'a');
    }

    #[test]
    fn history_keeps_a_whole_window() {
        let stream: Vec<u8> = (0..400_000_u32)
            .map(|i| (i.wrapping_mul(i) >> 7) as u8)
            .collect();
        for steps in [[1, 1], [255, 7], [WINDOW, 1], [WINDOW - 1, 2], [70_000, 5]] {
            let mut history = History::new();
            let mut end = 0;
            for step in steps.into_iter().cycle() {
                let next = end + step;
                if next > stream.len() {
                    break;
                }
                history.append(&stream[end..next]);
                end = next;
                // Comparing after each byte would take long.
                if step > 1 || end % 977 == 0 {
                    let start = end.saturating_sub(WINDOW);
                    assert_eq!(history.recent(), &stream[start..end]);
                }
            }
        }
    }
}
