//! Blocks that are made in parallel, in parts, and written one after the other.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use rayon::ThreadPool;

use super::area::BlockSink;
use crate::error::Result;

/// The most blocks of a part, of which a task makes one at a time.
pub(super) const PART_BLOCKS: usize = 64;

/// Parts that each thread may be ahead of what is written.
const AHEAD: usize = 4;

/// A thread that works, and those that it has to help it.
///
/// It does not leave the work to them and wait: a system is slow to notice that it has more
/// threads than one on a processor and none on another, and how it places those that wake is
/// luck.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Crew<'p> {
    helpers: Option<&'p ThreadPool>,
}

impl<'p> Crew<'p> {
    /// A thread without help.
    pub(crate) const ALONE: Self = Self { helpers: None };

    /// The helpers are not to ask for help themselves: those that they wait for may wait for them.
    pub(crate) fn with(helpers: &'p ThreadPool) -> Self {
        Self {
            helpers: Some(helpers),
        }
    }

    fn threads(&self) -> usize {
        self.helpers.map_or(0, ThreadPool::current_num_threads) + 1
    }

    /// Runs `work` on up to `threads` threads and returns when all are done.
    fn all(&self, threads: usize, work: impl Fn() + Sync) {
        let Some(helpers) = self.helpers else {
            return work();
        };
        helpers.in_place_scope(|scope| {
            for _ in 1..threads.min(self.threads()) {
                scope.spawn(|_| work());
            }
            work();
        });
    }
}

/// Writes parts in their order, while those that come next are made.
///
/// `make` makes a buffer the blocks of a part, whatever it held before, and says where the first
/// one goes.
pub(super) fn write<P: Sync>(
    crew: Crew<'_>,
    sink: &mut impl BlockSink,
    parts: &[P],
    make: impl Fn(&P, &mut Vec<u8>) -> Result<u64> + Sync,
) -> Result<()> {
    let make = |part: &P, mut blocks| {
        let start = make(part, &mut blocks)?;
        Ok((start, blocks))
    };
    make_and_write(crew, parts, make, |(start, blocks)| {
        sink.write(start, &blocks)?;
        Ok(blocks)
    })
}

/// Makes parts, in parallel, and writes them in order.
///
/// The thread that made the next part in order writes it, and those behind it that are ready. Of
/// several errors the first in order is told.
///
/// `make` is given a new buffer, or one as `write` gave it back: to zero all of it, where little
/// was written to it, can take longer than everything else.
pub(super) fn make_and_write<P: Sync, M: Send>(
    crew: Crew<'_>,
    parts: &[P],
    make: impl Fn(&P, Vec<u8>) -> Result<M> + Sync,
    write: impl FnMut(M) -> Result<Vec<u8>> + Send,
) -> Result<()> {
    let line = Line {
        parts,
        make,
        ahead: AHEAD * crew.threads(),
        state: Mutex::new(State {
            begun: 0,
            made: BTreeMap::new(),
            written: 0,
            write: Some(write),
            buffers: Vec::new(),
            waiting: false,
            result: Ok(()),
        }),
        room: Condvar::new(),
    };
    crew.all(parts.len(), || {
        let work = AssertUnwindSafe(|| line.work());
        if let Err(panic) = catch_unwind(work) {
            // The others would wait for this part.
            line.end(line.state());
            resume_unwind(panic);
        }
    });
    line.state
        .into_inner()
        .unwrap_or_else(PoisonError::into_inner)
        .result
}

/// Parts on their way.
struct Line<'p, P, F, M, W> {
    parts: &'p [P],
    make: F,
    /// Parts that may have begun and not been written.
    ahead: usize,
    state: Mutex<State<M, W>>,
    room: Condvar,
}

struct State<M, W> {
    /// Parts that somebody makes or has made; all, when no more are to be made.
    begun: usize,
    /// Parts that wait for earlier ones, by number.
    made: BTreeMap<usize, Result<M>>,
    written: usize,
    /// Away while somebody writes.
    write: Option<W>,
    /// To be used again: to zero one takes less time than the faults of a new one.
    buffers: Vec<Vec<u8>>,
    /// Whether a thread waits for room. A wake-up without need would cost a system call.
    waiting: bool,
    result: Result<()>,
}

impl<P, F, M, W> Line<'_, P, F, M, W>
where
    F: Fn(&P, Vec<u8>) -> Result<M>,
    W: FnMut(M) -> Result<Vec<u8>>,
{
    /// Makes and writes until there is nothing left to make.
    fn work(&self) {
        while let Some((number, buffer)) = self.begin() {
            let made = (self.make)(&self.parts[number], buffer);
            self.hand_in(number, made);
        }
    }

    /// The next part to be made, as soon as there is room, and a buffer for it.
    fn begin(&self) -> Option<(usize, Vec<u8>)> {
        let mut state = self.state();
        let all = self.parts.len();
        while state.begun < all && state.begun - state.written >= self.ahead {
            state.waiting = true;
            state = self
                .room
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
        }
        if state.begun == all {
            return None;
        }
        state.begun += 1;
        Some((state.begun - 1, state.buffers.pop().unwrap_or_default()))
    }

    /// Writes what is due, unless somebody else is at it and will see this part, too.
    fn hand_in(&self, number: usize, made: Result<M>) {
        let mut state = self.state();
        state.made.insert(number, made);
        let Some(mut write) = state.write.take() else {
            return;
        };
        loop {
            let due = state.written;
            let Some(made) = state.made.remove(&due) else {
                break;
            };
            drop(state);
            let written = made.and_then(&mut write);
            state = self.state();
            state.written += 1;
            match written {
                Ok(buffer) => state.buffers.push(buffer),
                Err(error) => {
                    state.result = Err(error);
                    self.end(state);
                    return;
                }
            }
            // With room for one part, those who wake would soon wait again.
            if state.waiting && state.begun - state.written <= self.ahead / 2 {
                state.waiting = false;
                self.room.notify_all();
            }
        }
        state.write = Some(write);
    }

    fn end(&self, mut state: MutexGuard<'_, State<M, W>>) {
        state.begun = self.parts.len();
        self.room.notify_all();
    }

    fn state(&self) -> MutexGuard<'_, State<M, W>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use rayon::ThreadPoolBuilder;

    use super::*;
    use crate::error::Error;

    fn helpers(count: usize) -> ThreadPool {
        let pool = ThreadPoolBuilder::new().num_threads(count).build();
        pool.unwrap()
    }

    /// Does this with crews of several sizes.
    fn with_crews(work: impl Fn(Crew<'_>)) {
        work(Crew::ALONE);
        for count in [1, 3] {
            work(Crew::with(&helpers(count)));
        }
    }

    /// A moment in which others may do something.
    fn dawdle(part: usize) {
        if part.is_multiple_of(3) {
            std::thread::sleep(std::time::Duration::from_micros(part as u64 % 50));
        }
    }

    #[test]
    fn few_parts_are_ahead_and_buffers_are_used_again() {
        with_crews(|crew| {
            let (new, begun) = (AtomicUsize::new(0), AtomicUsize::new(0));
            let most = AHEAD * crew.threads();
            let parts: Vec<usize> = (0..200).collect();
            let make = |part: &usize, mut buffer: Vec<u8>| {
                begun.fetch_add(1, Ordering::Relaxed);
                new.fetch_add(usize::from(buffer.capacity() == 0), Ordering::Relaxed);
                buffer.push(1);
                Ok((*part, buffer))
            };
            let write = |(part, buffer)| {
                assert!(begun.load(Ordering::Relaxed) <= part + most);
                dawdle(part);
                Ok(buffer)
            };
            make_and_write(crew, &parts, make, write).unwrap();
            assert!((1..=most).contains(&new.load(Ordering::Relaxed)), "{new:?}");
        });
    }

    /// Runs numbered parts of which some fail to be made or written; answers what was
    /// written and the error.
    fn run(
        crew: Crew<'_>,
        made_until: usize,
        written_until: usize,
    ) -> (Vec<usize>, Option<String>) {
        let parts: Vec<usize> = (0..60).collect();
        let mut written = Vec::new();
        let failed = |what: &str, part: usize| Error::limit(format!("{what} {part}"));
        let result = make_and_write(
            crew,
            &parts,
            |part, mut buffer| {
                // It was given back as it was.
                assert!(buffer.len() <= 1);
                buffer.clear();
                dawdle(part * 7);
                buffer.push(*part as u8);
                match *part < made_until {
                    true => Ok((*part, buffer)),
                    false => Err(failed("make", *part)),
                }
            },
            |(part, buffer)| {
                assert_eq!(buffer, [part as u8]);
                dawdle(part);
                if part >= written_until {
                    return Err(failed("write", part));
                }
                written.push(part);
                Ok(buffer)
            },
        );
        (written, result.err().map(|error| error.to_string()))
    }

    #[test]
    fn parts_are_written_in_order_and_the_first_error_is_told() {
        with_crews(|crew| {
            assert_eq!(run(crew, 60, 60), ((0..60).collect(), None));
            for failing in [0, 1, 7, 8, 17, 59] {
                let before: Vec<_> = (0..failing).collect();
                let of = |what: &str| Some(format!("{what} {failing}"));
                assert_eq!(run(crew, 60, failing), (before.clone(), of("write")));
                assert_eq!(run(crew, failing, 60), (before.clone(), of("make")));
                assert_eq!(run(crew, failing, failing), (before, of("make")));
            }
            assert_eq!(run(crew, 40, 6), ((0..6).collect(), Some("write 6".into())));
        });
    }

    #[test]
    fn a_panic_leaves_nobody_waiting() {
        with_crews(|crew| {
            for panicking in [0, 1, 30] {
                let parts: Vec<usize> = (0..60).collect();
                let make = |part: &usize, buffer| {
                    if *part == panicking {
                        // The others have come as far as they can.
                        std::thread::sleep(std::time::Duration::from_millis(20));
                        panic!("part {part}");
                    }
                    Ok(buffer)
                };
                let run = AssertUnwindSafe(|| make_and_write(crew, &parts, make, Ok));
                let panic = catch_unwind(run).unwrap_err();
                let message: &String = panic.downcast_ref().unwrap();
                assert_eq!(*message, format!("part {panicking}"));
            }
        });
    }

    #[test]
    fn all_of_a_crew_work_at_a_time() {
        let pool = helpers(2);
        // Passed by three at a time.
        let barrier = std::sync::Barrier::new(3);
        let parts: Vec<usize> = (0..12).collect();
        let make = |_: &usize, buffer| {
            barrier.wait();
            Ok(buffer)
        };
        make_and_write(Crew::with(&pool), &parts, make, Ok).unwrap();
    }
}
