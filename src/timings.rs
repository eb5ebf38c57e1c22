//! Where the time of a conversion goes.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crate::names::names;

/// A part of a conversion that works beside the others, but for the last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Stage {
    /// Reads the input and undoes its compression. With four threads or more, also waits for
    /// those that undo parts of it before their turn; their own time is not counted.
    Decompress,
    /// SHA-256 of the layer, and of the input if that is compressed.
    Digest,
    /// Reads headers and says where everything goes.
    Place,
    /// Writes to the output.
    Write,
    /// Directories, inode tables and the rest, once the layer has ended.
    Finish,
}

names!(Stage, "stage", {
    Decompress = "decompress",
    Digest = "digest",
    Place = "place",
    Write = "write",
    Finish = "finish",
});

/// How long a stage took.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct StageTiming {
    /// The stage.
    pub stage: Stage,
    /// From its beginning to its end; of digests and writing, which others may do in between,
    /// what they took.
    pub wall: Duration,
    /// Of that, waiting for something to do, or digesting meanwhile: for the input, or for the
    /// stage before.
    pub starved: Duration,
    /// Of that, waiting for the stages behind to take what it made, or doing their work.
    pub blocked: Duration,
    /// Bytes of the layer or disk that went through it; compressed ones too where they are
    /// digested.
    pub bytes: u64,
}

impl StageTiming {
    /// The rest of the wall time. The stage that was busy for longest is what the
    /// conversion's speed depends on.
    #[must_use]
    pub fn busy(&self) -> Duration {
        self.wall
            .saturating_sub(self.starved)
            .saturating_sub(self.blocked)
    }
}

/// Measures the one conversion that it was [given to](crate::Options::timings); clones share
/// what is measured.
#[derive(Clone, Debug, Default)]
pub struct Timings(Arc<[Counters; Stage::ALL.len()]>);

#[derive(Debug, Default)]
struct Counters {
    wall: AtomicU64,
    starved: AtomicU64,
    blocked: AtomicU64,
    bytes: AtomicU64,
}

impl Timings {
    /// Timings without a measurement.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// All stages in their order.
    #[must_use]
    pub fn stages(&self) -> Vec<StageTiming> {
        let nanos = |counter: &AtomicU64| Duration::from_nanos(counter.load(Ordering::Relaxed));
        let timing = |(&stage, counters): (&Stage, &Counters)| StageTiming {
            stage,
            wall: nanos(&counters.wall),
            starved: nanos(&counters.starved),
            blocked: nanos(&counters.blocked),
            bytes: counters.bytes.load(Ordering::Relaxed),
        };
        Stage::ALL.iter().zip(&*self.0).map(timing).collect()
    }

    fn of(&self, stage: Stage) -> &Counters {
        &self.0[stage as usize]
    }

    /// Does a part of a stage.
    pub(crate) fn run<T>(&self, stage: Stage, part: impl FnOnce() -> T) -> T {
        measure(&self.of(stage).wall, part)
    }

    /// Waits for what a stage is to do next.
    pub(crate) fn starve<T>(&self, stage: Stage, wait: impl FnOnce() -> T) -> T {
        measure(&self.of(stage).starved, wait)
    }

    /// Waits for somebody to take what a stage made.
    pub(crate) fn block<T>(&self, stage: Stage, wait: impl FnOnce() -> T) -> T {
        measure(&self.of(stage).blocked, wait)
    }

    /// Notes such a wait that was measured elsewhere.
    pub(crate) fn was_blocked(&self, stage: Stage, time: Duration) {
        add(&self.of(stage).blocked, time);
    }

    pub(crate) fn count(&self, stage: Stage, bytes: usize) {
        let counter = &self.of(stage).bytes;
        counter.fetch_add(bytes as u64, Ordering::Relaxed);
    }
}

fn measure<T>(counter: &AtomicU64, action: impl FnOnce() -> T) -> T {
    let start = Instant::now();
    let result = action();
    add(counter, start.elapsed());
    result
}

fn add(counter: &AtomicU64, time: Duration) {
    let nanos = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
    counter.fetch_add(nanos, Ordering::Relaxed);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn busy_is_what_is_not_waiting() {
        let timings = Timings::new();
        let same = timings.clone();
        same.run(Stage::Place, || {
            let pause = || std::thread::sleep(Duration::from_millis(2));
            same.starve(Stage::Place, pause);
            same.block(Stage::Place, pause);
            pause();
            same.count(Stage::Place, 7);
        });
        for timing in timings.stages() {
            if timing.stage != Stage::Place {
                assert_eq!((timing.wall, timing.bytes), (Duration::ZERO, 0));
                continue;
            }
            let pause = Duration::from_millis(2);
            assert!(timing.busy() >= pause && timing.starved >= pause);
            assert!(timing.blocked >= pause && timing.wall >= 3 * pause);
            assert_eq!(timing.bytes, 7);
        }
    }
}
