//! Where a file has holes.

use std::sync::{Mutex, PoisonError};

/// Holes that are remembered: half a MiB of memory.
const MAX_HOLES: usize = 32 << 10;

/// Smaller holes are read, which takes less time than to ask for them one by one.
const LEAST_HOLE: u64 = 64 << 10;

/// The holes of a file, which is asked for each of them once, in order and as far as somebody
/// wants to know.
///
/// To find where data ends, some file systems (tmpfs) look at every page of it: asked at every
/// read, a file takes quadratic time. What changes in the file after it was asked goes unseen.
pub(super) struct Holes {
    size: u64,
    known: Mutex<Known>,
}

struct Known {
    /// Start and end of each, in ascending order.
    holes: Vec<(u64, u64)>,
    /// Before this, what is no hole is data.
    end: u64,
    /// Holes that are smaller count as data. It grows when there are too many to remember.
    least: u64,
}

impl Holes {
    /// The holes of a file of `size` bytes.
    pub(super) fn new(size: u64) -> Self {
        Self {
            size,
            known: Mutex::new(Known {
                holes: Vec::new(),
                end: 0,
                least: LEAST_HOLE,
            }),
        }
    }

    /// Whether there may be data at `offset` of the file, or zeros for certain, and up to where
    /// that is known. `ask` tells whether there is data at an offset, and where that changes.
    pub(super) fn extent(&self, offset: u64, ask: impl Fn(u64) -> (bool, u64)) -> (bool, u64) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        while known.end <= offset && known.end < self.size {
            let start = known.end;
            let (data, end) = ask(start);
            known.end = end.clamp(start + 1, self.size);
            let end = known.end;
            if !data && end - start >= known.least {
                known.add(start, end);
            }
        }
        let next = known.holes.partition_point(|&(_, end)| end <= offset);
        match known.holes.get(next) {
            Some(&(start, end)) if start <= offset => (false, end),
            Some(&(start, _)) => (true, start),
            None => (true, known.end),
        }
    }
}

impl Known {
    fn add(&mut self, start: u64, end: u64) {
        match self.holes.last_mut() {
            Some(last) if last.1 == start => last.1 = end,
            _ => self.holes.push((start, end)),
        }
        if self.holes.len() > MAX_HOLES {
            while self.holes.len() > MAX_HOLES / 2 {
                self.least *= 2;
                let least = self.least;
                self.holes.retain(|(start, end)| end - start >= least);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    /// A file of units that are data or not, and how many bytes were looked at to tell.
    struct Units {
        unit: u64,
        data: Vec<bool>,
        looked_at: RefCell<u64>,
    }

    impl Units {
        fn new(unit: u64, data: impl IntoIterator<Item = bool>) -> Self {
            Self {
                unit,
                data: data.into_iter().collect(),
                looked_at: RefCell::new(0),
            }
        }

        fn size(&self) -> u64 {
            self.unit * self.data.len() as u64
        }

        fn ask(&self, offset: u64) -> (bool, u64) {
            let first = (offset / self.unit) as usize;
            let alike = self.data[first..].iter();
            let data = self.data[first];
            let len = alike.take_while(|other| **other == data).count();
            let end = (first + len) as u64 * self.unit;
            *self.looked_at.borrow_mut() += end - offset;
            (data, end)
        }
    }

    /// A pseudo-random sequence, the same every time.
    fn random() -> impl FnMut(u64) -> u64 {
        let mut state = 88_172_645_463_325_252_u64;
        move |below| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state % below
        }
    }

    #[test]
    fn what_is_called_a_hole_is_one_and_each_byte_is_looked_at_once() {
        let mut random = random();
        for unit in [4096, LEAST_HOLE, 1 << 20] {
            let mut data = false;
            let units = Units::new(
                unit,
                (0..5000).map(|_| {
                    data ^= random(20) == 0;
                    data
                }),
            );
            let holes = Holes::new(units.size());
            for i in 0..20_000 {
                let offset = match i {
                    // In order, and from anywhere.
                    0..10_000 => i * units.size() / 10_000,
                    _ => random(units.size()),
                };
                let (data, end) = holes.extent(offset, |offset| units.ask(offset));
                assert!(end > offset && end <= units.size());
                let first = (offset / unit) as usize;
                let last = ((end - 1) / unit) as usize;
                if !data {
                    assert!(units.data[first..=last].iter().all(|data| !data));
                } else if unit >= LEAST_HOLE {
                    assert!(units.data[first], "a large hole is one");
                }
            }
            assert_eq!(*units.looked_at.borrow(), units.size());
        }
    }

    #[test]
    fn memory_is_bounded_and_large_holes_are_kept() {
        const MANY: usize = 4 * MAX_HOLES;
        // A unit of data, then a hole of one unit, or of 64 after every thousandth.
        let hole = |i: usize| if i.is_multiple_of(1000) { 64 } else { 1 };
        let pattern = (0..MANY).flat_map(|i| {
            let hole = std::iter::repeat_n(false, hole(i));
            std::iter::once(true).chain(hole)
        });
        let units = Units::new(LEAST_HOLE, pattern);
        let holes = Holes::new(units.size());
        let ask = |offset| units.ask(offset);
        holes.extent(units.size() - 1, ask);
        assert!(holes.known.lock().unwrap().holes.len() <= MAX_HOLES);
        let (mut position, mut large) = (0, 0);
        while position < units.size() {
            let (data, end) = holes.extent(position, ask);
            large += usize::from(!data && end - position == 64 * LEAST_HOLE);
            position = end;
        }
        assert_eq!(large, MANY.div_ceil(1000));
        assert_eq!(*units.looked_at.borrow(), units.size());
    }

    #[test]
    fn a_file_that_cannot_tell_is_data() {
        let holes = Holes::new(1000);
        assert_eq!(holes.extent(5, |_| (true, u64::MAX)), (true, 1000));
        let holes = Holes::new(1000);
        // However wrong the answer, it goes on.
        assert_eq!(holes.extent(999, |_| (true, 0)), (true, 1000));
        assert_eq!(holes.extent(1000, |_| (false, 0)), (true, 1000));
    }
}
