//! Blocks that are made in parallel, in parts, and what writes them one after the other.

use std::sync::{Mutex, MutexGuard, PoisonError};

use rayon::prelude::*;

use super::writer::BlockSink;
use crate::error::Result;

/// The most blocks of a part, of which a task makes one at a time.
pub(super) const PART_BLOCKS: usize = 64;

/// Writes parts in their order, while those that come next are made.
///
/// `make` appends the blocks of a part to an empty buffer and says where the first one goes; it
/// is called on all threads of the current pool.
pub(super) fn write<P: Sync>(
    sink: &mut impl BlockSink,
    parts: &[P],
    make: impl Fn(&P, &mut Vec<u8>) -> Result<u64> + Sync,
) -> Result<()> {
    let make = |part: &P, mut blocks| {
        let start = make(part, &mut blocks)?;
        Ok((start, blocks))
    };
    make_and_write(parts, make, |(start, blocks)| {
        sink.write(start, &blocks)?;
        Ok(blocks)
    })
}

/// Makes parts, in parallel, and writes them in order, a batch of them while the next one is
/// made.
///
/// `make` is given an empty buffer, which `write` gives back.
pub(super) fn make_and_write<P: Sync, M: Send>(
    parts: &[P],
    make: impl Fn(&P, Vec<u8>) -> Result<M> + Sync,
    mut write: impl FnMut(M) -> Result<Vec<u8>> + Send,
) -> Result<()> {
    // More would only take memory.
    let at_a_time = 2 * rayon::current_num_threads();
    let buffers = Buffers::default();
    let make = |part: &P| make(part, buffers.get());
    let make = |batch: &[P]| batch.par_iter().map(make).collect::<Vec<_>>();
    let mut write = |made: Vec<Result<M>>| {
        made.into_iter().try_for_each(|made| {
            buffers.put(write(made?)?);
            Ok(())
        })
    };
    let mut last = None;
    for batch in parts.chunks(at_a_time) {
        let (made, written) = match last.take() {
            Some(last) => rayon::join(|| make(batch), || write(last)),
            None => (make(batch), Ok(())),
        };
        written?;
        last = Some(made);
    }
    last.map_or(Ok(()), write)
}

/// Buffers to be used again: to zero one takes less time than the faults of a new one.
#[derive(Default)]
struct Buffers(Mutex<Vec<Vec<u8>>>);

impl Buffers {
    fn get(&self) -> Vec<u8> {
        self.unused().pop().unwrap_or_default()
    }

    fn put(&self, mut buffer: Vec<u8>) {
        buffer.clear();
        self.unused().push(buffer);
    }

    fn unused(&self) -> MutexGuard<'_, Vec<Vec<u8>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::error::Error;

    #[test]
    fn buffers_are_used_again() {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(2).build();
        let new = AtomicUsize::new(0);
        let make = |_: &u32, mut buffer: Vec<u8>| {
            new.fetch_add(usize::from(buffer.capacity() == 0), Ordering::Relaxed);
            buffer.push(1);
            Ok(buffer)
        };
        let result = pool
            .unwrap()
            .install(|| make_and_write(&(0..100).collect::<Vec<_>>(), make, Ok));
        result.unwrap();
        // Of the batch that is made and the one that is written.
        assert!((1..=8).contains(&new.load(Ordering::Relaxed)), "{new:?}");
    }

    /// Runs numbered parts of which some fail to be made or written; answers what was
    /// written and the error, in a pool of so many threads.
    fn run(threads: usize, made_until: u32, written_until: u32) -> (Vec<u32>, Option<String>) {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build();
        let parts: Vec<u32> = (0..30).collect();
        let mut written = Vec::new();
        let failed = |what: &str, part: u32| Error::limit(format!("{what} {part}"));
        let result = pool.unwrap().install(|| {
            make_and_write(
                &parts,
                |part, mut buffer| {
                    assert!(buffer.is_empty());
                    buffer.push(*part as u8);
                    match *part < made_until {
                        true => Ok((*part, buffer)),
                        false => Err(failed("make", *part)),
                    }
                },
                |(part, buffer)| {
                    assert_eq!(buffer, [part as u8]);
                    if part >= written_until {
                        return Err(failed("write", part));
                    }
                    written.push(part);
                    Ok(buffer)
                },
            )
        });
        (written, result.err().map(|error| error.to_string()))
    }

    #[test]
    fn parts_are_written_in_order_and_the_first_error_is_told() {
        for threads in [1, 2, 4] {
            assert_eq!(run(threads, 30, 30), ((0..30).collect(), None));
            for failing in [0, 1, 7, 8, 17, 29] {
                let before: Vec<_> = (0..failing).collect();
                let of = |what: &str| Some(format!("{what} {failing}"));
                assert_eq!(run(threads, 30, failing), (before.clone(), of("write")));
                assert_eq!(run(threads, failing, 30), (before.clone(), of("make")));
                assert_eq!(run(threads, failing, failing), (before, of("make")));
            }
            assert_eq!(
                run(threads, 20, 6),
                ((0..6).collect(), Some("write 6".into()))
            );
        }
    }
}
