use std::collections::VecDeque;
use std::io;
use std::mem;
use std::panic;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, Scope, ScopedJoinHandle};
use std::time::{Duration, Instant};

use super::DiskOutput;
use crate::buffer::aligned::Aligned;
use crate::error::{Error, ErrorKind, Result};
use crate::threads;

/// Adjacent writes are gathered into buffers of this size.
const BUFFER_SIZE: usize = 256 * 1024;

/// As many bytes at a time are written as they are, without the copy into a buffer.
const DIRECT_MIN: usize = BUFFER_SIZE / 4;

/// Buffers for each writer thread: one that it writes and two that wait.
const BUFFERS_PER_WRITER: usize = 3;

/// Gathers adjacent writes and passes them to an output, here or on threads of its own.
///
/// No write may overlap another: the threads execute them in any order.
pub(crate) struct Stream<'scope> {
    sink: Sink<'scope>,
    /// Bytes that belong at `start` and are not passed on yet.
    buffer: Aligned,
    start: u64,
    waited: Duration,
}

enum Sink<'scope> {
    Inline {
        output: &'scope dyn DiskOutput,
        outcome: Outcome,
    },
    Threaded(Writers<'scope>),
}

impl<'scope> Stream<'scope> {
    /// Writes on the caller's thread.
    pub(crate) fn inline(output: &'scope dyn DiskOutput) -> Self {
        Self::new(Sink::Inline {
            output,
            outcome: Outcome::default(),
        })
    }

    /// Writes on `writers` threads of `scope`, at least one, that end with the stream.
    pub(crate) fn threaded<'env>(
        scope: &'scope Scope<'scope, 'env>,
        output: &'scope dyn DiskOutput,
        writers: usize,
    ) -> Result<Self> {
        let writers = Writers::start(scope, output, writers.max(1))?;
        Ok(Self::new(Sink::Threaded(writers)))
    }

    fn new(sink: Sink<'scope>) -> Self {
        Self {
            sink,
            buffer: Aligned::with_capacity(BUFFER_SIZE),
            start: 0,
            waited: Duration::ZERO,
        }
    }

    /// How long writing kept the caller waiting.
    pub(crate) fn waited(&self) -> Duration {
        self.waited
    }

    /// Writes `data` at `offset`, at the latest when the stream is finished.
    ///
    /// A full device is not reported before [`finish`](Self::finish).
    pub(crate) fn write(&mut self, offset: u64, mut data: &[u8]) -> Result<()> {
        if data.is_empty() {
            return Ok(());
        }
        let end = self.start.checked_add(self.buffer.len() as u64);
        let is_direct = matches!(self.sink, Sink::Inline { .. }) && data.len() >= DIRECT_MIN;
        if end != Some(offset) || is_direct {
            self.flush()?;
            self.start = offset;
        }
        if let Sink::Inline { output, outcome } = &mut self.sink
            && is_direct
        {
            outcome.write(*output, offset, data, &mut self.waited);
            self.start = offset.saturating_add(data.len() as u64);
            return outcome.check();
        }
        while !data.is_empty() {
            let (now, later) = data.split_at(data.len().min(BUFFER_SIZE - self.buffer.len()));
            self.buffer.extend_from_slice(now);
            data = later;
            if self.buffer.len() == BUFFER_SIZE {
                self.flush()?;
            }
        }
        Ok(())
    }

    /// Passes the buffer on; the next byte then belongs behind it.
    fn flush(&mut self) -> Result<()> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let end = self.start.saturating_add(self.buffer.len() as u64);
        let start = mem::replace(&mut self.start, end);
        match &mut self.sink {
            Sink::Inline { output, outcome } => {
                outcome.write(*output, start, &self.buffer, &mut self.waited);
                self.buffer.clear();
                outcome.check()
            }
            Sink::Threaded(writers) => {
                let next = writers.shared.next_buffer(&mut self.waited)?;
                let data = mem::replace(&mut self.buffer, next);
                writers.shared.push(Job {
                    offset: start,
                    data,
                });
                Ok(())
            }
        }
    }

    /// Waits until everything is written, and tells whether it was.
    pub(crate) fn finish(mut self) -> Result<()> {
        self.flush()?;
        match self.sink {
            Sink::Inline { outcome, .. } => outcome.finish(),
            Sink::Threaded(writers) => writers.finish(),
        }
    }
}

/// The outcome of the writes so far.
#[derive(Default)]
enum Outcome {
    #[default]
    Written,
    /// No space is left: nothing is written any more, only counted.
    Full { source: io::Error, missing: u64 },
    /// Failed otherwise; the error leaves with the first call that reports it.
    Failed(Option<Error>),
}

impl Outcome {
    /// Whether writes are still executed. If not, this one is accounted for.
    fn goes_on(&mut self, len: usize) -> bool {
        match self {
            Self::Written => true,
            Self::Full { missing, .. } => {
                *missing = missing.saturating_add(len as u64);
                false
            }
            Self::Failed(_) => false,
        }
    }

    /// Notes how a write ended.
    fn record(&mut self, offset: u64, len: usize, result: io::Result<()>) {
        if let Err(source) = result
            && self.goes_on(len)
        {
            *self = match source.kind() {
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Self::Full {
                    source,
                    missing: len as u64,
                },
                _ => Self::Failed(Some(Error::output(
                    format!("cannot write {len} bytes at byte {offset} of the disk"),
                    source,
                ))),
            };
        }
    }

    /// Executes a write and adds the time that it took.
    fn write(&mut self, output: &dyn DiskOutput, offset: u64, data: &[u8], took: &mut Duration) {
        if self.goes_on(data.len()) {
            let start = Instant::now();
            let result = output.write_at(offset, data);
            *took += start.elapsed();
            self.record(offset, data.len(), result);
        }
    }

    fn check(&mut self) -> Result<()> {
        match self {
            Self::Written | Self::Full { .. } => Ok(()),
            Self::Failed(error) => Err(error.take().unwrap_or_else(|| {
                Error::new(ErrorKind::Output, "writing the disk failed before")
            })),
        }
    }

    fn finish(mut self) -> Result<()> {
        self.check()?;
        match self {
            Self::Full { source, missing } => Err(Error::output(
                format!("the output device is full: {missing} bytes more are needed"),
                source,
            )),
            _ => Ok(()),
        }
    }
}

/// Threads that write what is queued for them.
struct Writers<'scope> {
    shared: Arc<Shared>,
    threads: Vec<ScopedJoinHandle<'scope, ()>>,
}

struct Job {
    offset: u64,
    data: Aligned,
}

struct Shared {
    state: Mutex<State>,
    /// A job came or no more will.
    work: Condvar,
    /// A buffer was given back or none will be.
    room: Condvar,
}

struct State {
    jobs: VecDeque<Job>,
    /// Buffers that were written and can be filled anew.
    free: Vec<Aligned>,
    /// Buffers that may still be allocated.
    unallocated: usize,
    /// No more jobs will come.
    closed: bool,
    outcome: Outcome,
}

impl<'scope> Writers<'scope> {
    fn start<'env>(
        scope: &'scope Scope<'scope, 'env>,
        output: &'scope dyn DiskOutput,
        writers: usize,
    ) -> Result<Self> {
        let shared = Arc::new(Shared {
            state: Mutex::new(State {
                jobs: VecDeque::new(),
                free: Vec::new(),
                unallocated: writers.saturating_mul(BUFFERS_PER_WRITER),
                closed: false,
                outcome: Outcome::default(),
            }),
            work: Condvar::new(),
            room: Condvar::new(),
        });
        let mut started = Self {
            shared,
            threads: Vec::with_capacity(writers),
        };
        for _ in 0..writers {
            let shared = Arc::clone(&started.shared);
            // If this fails, dropping `started` ends the threads before.
            let thread = threads::spawn(scope, "write", move || shared.run(output))?;
            started.threads.push(thread);
        }
        Ok(started)
    }

    fn finish(mut self) -> Result<()> {
        self.shared.lock().closed = true;
        self.shared.work.notify_all();
        for thread in mem::take(&mut self.threads) {
            // An output that panics does so for its caller.
            thread
                .join()
                .unwrap_or_else(|panic| panic::resume_unwind(panic));
        }
        mem::take(&mut self.shared.lock().outcome).finish()
    }
}

impl Drop for Writers<'_> {
    /// Ends the threads, early or after all is written.
    fn drop(&mut self) {
        self.shared.abandon(None);
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A buffer to fill, as soon as there is one.
    fn next_buffer(&self, waited: &mut Duration) -> Result<Aligned> {
        let mut state = self.lock();
        loop {
            state.outcome.check()?;
            if let Some(buffer) = state.free.pop() {
                return Ok(buffer);
            }
            if let Some(left) = state.unallocated.checked_sub(1) {
                state.unallocated = left;
                return Ok(Aligned::with_capacity(BUFFER_SIZE));
            }
            let start = Instant::now();
            state = self
                .room
                .wait(state)
                .unwrap_or_else(PoisonError::into_inner);
            *waited += start.elapsed();
        }
    }

    fn push(&self, job: Job) {
        self.lock().jobs.push_back(job);
        self.work.notify_one();
    }

    /// Drops queued writes and wakes every waiting thread.
    fn abandon(&self, error: Option<Error>) {
        let mut state = self.lock();
        state.jobs.clear();
        state.closed = true;
        if error.is_some() {
            state.outcome = Outcome::Failed(error);
        }
        drop(state);
        self.work.notify_all();
        self.room.notify_all();
    }

    /// The life of a writer.
    fn run(&self, output: &dyn DiskOutput) {
        let _guard = AbandonOnPanic(self);
        let mut state = self.lock();
        loop {
            let Some(Job { offset, mut data }) = state.jobs.pop_front() else {
                if state.closed {
                    return;
                }
                state = self
                    .work
                    .wait(state)
                    .unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            if state.outcome.goes_on(data.len()) {
                drop(state);
                let result = output.write_at(offset, &data);
                state = self.lock();
                state.outcome.record(offset, data.len(), result);
            }
            data.clear();
            state.free.push(data);
            self.room.notify_one();
        }
    }
}

/// A panic of the output ends its writer thread; the others must not wait for it then.
struct AbandonOnPanic<'a>(&'a Shared);

impl Drop for AbandonOnPanic<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            self.0
                .abandon(Some(Error::new(ErrorKind::Output, "the output panicked")));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::MemoryDisk;
    use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

    /// Runs `body` with a stream of each kind.
    fn with_streams(output: impl Fn() -> Box<dyn DiskOutput>, body: impl Fn(Stream<'_>)) {
        body(Stream::inline(&*output()));
        for writers in [0, 1, 2, 5] {
            let output = output();
            thread::scope(|scope| body(Stream::threaded(scope, &*output, writers).unwrap()));
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
    fn everything_arrives_where_it_belongs() {
        let mut random = random();
        let mut model = Vec::new();
        let mut writes = Vec::new();
        while model.len() < 8 << 20 {
            if random(4) == 0 {
                model.resize(model.len() + random(5000) as usize, 0);
            }
            let len = match random(3) {
                0 => random(100),
                1 => random(10_000),
                _ => random(3 * BUFFER_SIZE as u64),
            };
            let data: Vec<u8> = (0..len).map(|_| random(256) as u8).collect();
            writes.push((model.len() as u64, data.clone()));
            model.extend(data);
        }
        // Jumps back as well as ahead.
        let third = writes.len() / 3;
        writes.rotate_left(third);
        for writers in [None, Some(0), Some(1), Some(2), Some(5)] {
            let disk = MemoryDisk::new();
            thread::scope(|scope| {
                let mut stream = match writers {
                    None => Stream::inline(&disk),
                    Some(writers) => Stream::threaded(scope, &disk, writers).unwrap(),
                };
                for (offset, data) in &writes {
                    stream.write(*offset, data).unwrap();
                }
                stream.finish().unwrap();
            });
            let mut written = disk.into_vec();
            written.resize(model.len(), 0);
            assert!(written == model, "{writers:?}");
        }
    }

    /// Counts writes, and fails the ones from `from` to `to`.
    struct Failing {
        from: usize,
        to: usize,
        kind: io::ErrorKind,
        calls: AtomicUsize,
        bytes: AtomicU64,
    }

    impl Failing {
        fn new(from: usize, to: usize, kind: io::ErrorKind) -> Self {
            Self {
                from,
                to,
                kind,
                calls: AtomicUsize::new(0),
                bytes: AtomicU64::new(0),
            }
        }
    }

    impl DiskOutput for Failing {
        fn write_at(&self, _: u64, data: &[u8]) -> io::Result<()> {
            let call = self.calls.fetch_add(1, Ordering::Relaxed);
            if (self.from..self.to).contains(&call) {
                return Err(self.kind.into());
            }
            self.bytes.fetch_add(data.len() as u64, Ordering::Relaxed);
            Ok(())
        }

        fn set_len(&self, _: u64) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn small_adjacent_writes_are_gathered() {
        for threaded in [false, true] {
            let output = Failing::new(0, 0, io::ErrorKind::Other);
            thread::scope(|scope| {
                let mut stream = match threaded {
                    false => Stream::inline(&output),
                    true => Stream::threaded(scope, &output, 2).unwrap(),
                };
                for i in 0..3000 {
                    stream.write(4096 + i * 1000, &[1; 1000]).unwrap();
                }
                stream.finish().unwrap();
            });
            assert_eq!(output.bytes.into_inner(), 3_000_000);
            assert_eq!(
                output.calls.into_inner(),
                3_000_000_usize.div_ceil(BUFFER_SIZE)
            );
        }
    }

    #[test]
    fn a_failure_surfaces_and_ends_the_writing() {
        for failing in [0, 1, 7] {
            with_streams(
                || Box::new(Failing::new(failing, failing + 1, io::ErrorKind::TimedOut)),
                |mut stream| {
                    // Long enough for any queue to run full.
                    let result = (0..200).try_for_each(|i| {
                        stream.write(i * BUFFER_SIZE as u64 * 2, &[0; BUFFER_SIZE])
                    });
                    let error = result.unwrap_err();
                    assert_eq!(error.kind(), ErrorKind::Output);
                    assert!(error.to_string().contains("cannot write"), "{error}");
                    let again = stream.finish().unwrap_err();
                    assert_eq!(again.kind(), ErrorKind::Output);
                },
            );
            // The same when nothing but the end can tell.
            with_streams(
                || Box::new(Failing::new(0, 1, io::ErrorKind::TimedOut)),
                |mut stream| {
                    stream.write(7, b"x").unwrap();
                    let error = stream.finish().unwrap_err();
                    assert_eq!(error.kind(), ErrorKind::Output);
                    assert!(error.to_string().contains("byte 7 "), "{error}");
                },
            );
        }
    }

    #[test]
    fn a_full_device_is_told_with_what_it_lacks() {
        for kind in [io::ErrorKind::StorageFull, io::ErrorKind::QuotaExceeded] {
            for threaded in [false, true] {
                // It has room again later, which no longer helps.
                let output = Failing::new(3, 4, kind);
                let error = thread::scope(|scope| {
                    let mut stream = match threaded {
                        false => Stream::inline(&output),
                        true => Stream::threaded(scope, &output, 1).unwrap(),
                    };
                    for i in 0..100 {
                        stream.write(i * 1000, &[0; 500]).unwrap();
                    }
                    stream.finish().unwrap_err()
                });
                assert_eq!(error.kind(), ErrorKind::StorageFull);
                assert!(error.to_string().contains(" 48500 bytes more"), "{error}");
                assert_eq!(output.bytes.into_inner(), 1500);
            }
        }
    }

    /// Sleeps in every write.
    struct Slow;

    impl DiskOutput for Slow {
        fn write_at(&self, _: u64, _: &[u8]) -> io::Result<()> {
            thread::sleep(Duration::from_millis(5));
            Ok(())
        }

        fn set_len(&self, _: u64) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_stream_that_is_dropped_ends_its_writers() {
        with_streams(
            || Box::new(Slow),
            |mut stream| {
                for i in 0..12 {
                    stream.write(i << 20, &[0; BUFFER_SIZE]).unwrap();
                }
            },
        );
        with_streams(|| Box::new(Slow), |_dropped| {});
    }

    struct Panicking;

    impl DiskOutput for Panicking {
        fn write_at(&self, _: u64, _: &[u8]) -> io::Result<()> {
            panic!("as the test wants");
        }

        fn set_len(&self, _: u64) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn an_output_that_panics_blocks_nobody() {
        let panic = panic::catch_unwind(|| {
            thread::scope(|scope| {
                let mut stream = Stream::threaded(scope, &Panicking, 2).unwrap();
                let result = (0..200).try_for_each(|i| stream.write(i << 20, &[0; BUFFER_SIZE]));
                assert_eq!(result.unwrap_err().kind(), ErrorKind::Output);
            });
        });
        panic.unwrap_err();
        let panic = panic::catch_unwind(|| {
            thread::scope(|scope| {
                let mut stream = Stream::threaded(scope, &Panicking, 2).unwrap();
                stream.write(0, b"x").unwrap();
                stream.finish().unwrap();
            });
        });
        let payload = panic.unwrap_err();
        assert_eq!(payload.downcast_ref(), Some(&"as the test wants"));
    }
}
