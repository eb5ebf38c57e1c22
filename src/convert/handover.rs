//! Chunks on their way from the thread that decodes to the one that places, and to the digests.
//!
//! Digesting needs no thread of its own: whoever of the two would have to wait for the other
//! digests instead. So they keep two processors busy however the work divides between the
//! stages, which three threads on two processors do not: the system leaves a thread that waited
//! for a moment where it was, behind another one, and the other processor idle. Where there are
//! more processors a third thread does nothing but digest.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, LockResult, Mutex, MutexGuard, PoisonError, TryLockError};

use crate::buffer::chunk::Chunk;
use crate::error::Result;
use crate::layer::{BlobHasher, ChunkSource};
use crate::summary::{Blob, Compression};
use crate::timings::{Stage, Timings};

/// Chunks that may wait to be placed.
const TO_PLACE: usize = 16;

/// Chunks that end a starvation. After fewer of them the placing thread would be back at once,
/// and find the other one digesting.
const ENOUGH: usize = TO_PLACE / 2;

/// Chunks that may wait to be digested, of layer and blob; twice as many while placing starves.
const TO_DIGEST: usize = 16;

/// The most bytes of either that are digested at a time. Who finds nothing to place waits for as
/// long until the other one lets it digest.
const AT_A_TIME: usize = 32 * 1024;

/// The digests of the layer and of the blob it comes in, unless they are the same bytes.
#[derive(Default)]
pub(super) struct Digests {
    pub layer: BlobHasher,
    pub blob: BlobHasher,
}

impl Digests {
    /// Goes on with either or with both, which takes less time than one after the other.
    pub(super) fn update(&mut self, layer: Option<&Chunk>, blob: Option<&Chunk>) {
        match (layer, blob) {
            (Some(layer), Some(blob)) => {
                BlobHasher::update_both([(&mut self.layer, layer), (&mut self.blob, blob)]);
            }
            (Some(layer), None) => self.layer.update(layer),
            (None, Some(blob)) => self.blob.update(blob),
            (None, None) => {}
        }
    }

    /// The layer's, then the blob's.
    pub(super) fn finish(self, compression: Compression) -> (Blob, Blob) {
        let layer = self.layer.finish();
        match compression {
            Compression::None => (layer, layer),
            _ => (layer, self.blob.finish()),
        }
    }
}

/// State shared by the threads.
pub(super) struct Handover<'a> {
    state: Mutex<State>,
    /// Held by who digests, so that chunks are digested in their order. Locked before `state`.
    digests: Mutex<Digests>,
    giver: Condvar,
    taker: Condvar,
    digester: Condvar,
    timings: &'a Timings,
}

#[derive(Default)]
struct State {
    to_place: VecDeque<Result<Chunk>>,
    /// Chunks of the layer and of the blob to be digested.
    layer: VecDeque<Chunk>,
    blob: VecDeque<Chunk>,
    /// The sender is done.
    ended: bool,
    /// The receiver is done.
    abandoned: bool,
    /// The placing thread waits for chunks, or digests until there are enough.
    starved: bool,
    /// The threads that wait. Waking one that does not wait would cost a system call.
    waits: Waits,
}

#[derive(Default)]
struct Waits {
    giver: bool,
    taker: bool,
    digester: bool,
}

impl State {
    fn has_room(&self) -> bool {
        // A starved receiver is given chunks first, and digests them while more come.
        let most = if self.starved {
            2 * TO_DIGEST
        } else {
            TO_DIGEST
        };
        self.to_place.len() < TO_PLACE && self.to_digest() < most
    }

    /// The next piece to digest: equally long pieces of both streams, which takes less time.
    fn next_to_digest(&mut self) -> (Option<Chunk>, Option<Chunk>) {
        let firsts = [self.layer.front(), self.blob.front()];
        let lens = firsts.into_iter().flatten().map(|chunk| chunk.len());
        let len = lens.fold(AT_A_TIME, usize::min);
        (
            take_bytes(&mut self.layer, len),
            take_bytes(&mut self.blob, len),
        )
    }

    /// The number of chunks that wait for the digest.
    fn to_digest(&self) -> usize {
        self.layer.len() + self.blob.len()
    }
}

/// Takes `len` bytes of the first chunk, if there is one.
fn take_bytes(chunks: &mut VecDeque<Chunk>, len: usize) -> Option<Chunk> {
    let first = chunks.front_mut()?;
    if first.len() == len {
        return chunks.pop_front();
    }
    let now = first.slice(0..len);
    *first = first.slice(len..first.len());
    Some(now)
}

/// The two ends.
pub(super) fn handover(timings: &Timings) -> (Giver<'_>, Taker<'_>) {
    let shared = Arc::new(Handover {
        state: Mutex::default(),
        digests: Mutex::default(),
        giver: Condvar::new(),
        taker: Condvar::new(),
        digester: Condvar::new(),
        timings,
    });
    (Giver(Arc::clone(&shared)), Taker(shared))
}

impl Handover<'_> {
    /// The work of a thread that does nothing but digest.
    pub(super) fn digest_all(&self) {
        let mut state = self.lock();
        loop {
            if state.to_digest() > 0 {
                drop(state);
                drop(self.digest_rest());
                state = self.lock();
            } else if state.ended || state.abandoned {
                return;
            } else {
                state.waits.digester = true;
                state = wait(&self.digester, state);
            }
        }
    }

    /// The digests, once nothing more comes to be digested.
    pub(super) fn take_digests(&self) -> Digests {
        std::mem::take(&mut self.digest_rest())
    }

    /// Digests what is there, after what others are at.
    fn digest_rest(&self) -> MutexGuard<'_, Digests> {
        let mut digests = ignore_poison(self.digests.lock());
        while self.digest_next(&mut digests) {}
        digests
    }

    /// Digests something, unless there is nothing or somebody is at it already.
    fn digest_one(&self) -> bool {
        match self.digests.try_lock() {
            Ok(mut digests) => self.digest_next(&mut digests),
            Err(TryLockError::Poisoned(poisoned)) => self.digest_next(&mut poisoned.into_inner()),
            Err(TryLockError::WouldBlock) => false,
        }
    }

    fn digest_next(&self, digests: &mut Digests) -> bool {
        let mut state = self.lock();
        let (layer, blob) = state.next_to_digest();
        if layer.is_none() && blob.is_none() {
            return false;
        }
        self.wake_giver(state);
        let timings = self.timings;
        timings.run(Stage::Digest, || {
            digests.update(layer.as_ref(), blob.as_ref())
        });
        let len = layer.iter().chain(&blob).map(|chunk| chunk.len()).sum();
        timings.count(Stage::Digest, len);
        true
    }

    fn wake_giver(&self, mut state: MutexGuard<'_, State>) {
        if state.waits.giver && state.has_room() {
            state.waits.giver = false;
            drop(state);
            self.giver.notify_one();
        }
    }

    fn wake_taker(&self, state: &mut State) {
        if std::mem::take(&mut state.waits.taker) {
            self.taker.notify_one();
        }
    }

    fn wake_others(&self, mut state: MutexGuard<'_, State>) {
        self.wake_taker(&mut state);
        if std::mem::take(&mut state.waits.digester) {
            self.digester.notify_one();
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        ignore_poison(self.state.lock())
    }
}

/// Ignores poison: a panic leaves no half-done state, and continues where its thread is joined.
fn ignore_poison<G>(result: LockResult<G>) -> G {
    result.unwrap_or_else(PoisonError::into_inner)
}

fn wait<'m>(condition: &Condvar, state: MutexGuard<'m, State>) -> MutexGuard<'m, State> {
    ignore_poison(condition.wait(state))
}

/// The decoding thread's end.
pub(super) struct Giver<'a>(Arc<Handover<'a>>);

impl<'a> Giver<'a> {
    pub(super) fn shared(&self) -> Arc<Handover<'a>> {
        Arc::clone(&self.0)
    }

    /// Hands on a chunk of the layer, or the error instead of it, as soon as there is room;
    /// says whether anybody wants more.
    pub(super) fn give(&self, chunk: Result<Chunk>) -> bool {
        self.hand_on(|state| {
            state.layer.extend(chunk.as_ref().ok().cloned());
            state.to_place.push_back(chunk);
        })
    }

    /// Hands on a chunk of the blob likewise.
    pub(super) fn give_blob(&self, chunk: &Chunk) -> bool {
        self.hand_on(|state| state.blob.push_back(chunk.clone()))
    }

    fn hand_on(&self, add: impl FnOnce(&mut State)) -> bool {
        let mut state = self.room();
        let wanted = !state.abandoned;
        if wanted {
            add(&mut state);
            self.0.wake_others(state);
        }
        wanted
    }

    /// Makes itself useful until there is room.
    fn room(&self) -> MutexGuard<'_, State> {
        let shared = &self.0;
        let mut state = shared.lock();
        while !state.has_room() && !state.abandoned {
            // A starved thread has nothing else to do: it digests rather than this one, when it is
            // woken below. Awake it may just have been kept from it, and be about to sleep.
            if !(state.starved && state.waits.taker) {
                drop(state);
                let digested = shared.digest_one();
                state = shared.lock();
                if digested || state.has_room() || state.abandoned {
                    continue;
                }
            }
            state.waits.giver = true;
            shared.wake_taker(&mut state);
            state = wait(&shared.giver, state);
        }
        // It may have waited for the digests that this thread was at.
        shared.wake_taker(&mut state);
        state
    }
}

impl Drop for Giver<'_> {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.ended = true;
        self.0.wake_others(state);
    }
}

/// The placing thread's end, whose error comes last.
pub(super) struct Taker<'a>(Arc<Handover<'a>>);

impl Taker<'_> {
    fn take(&self) -> Option<Result<Chunk>> {
        let shared = &self.0;
        let mut enough = 1;
        loop {
            let mut state = shared.lock();
            if state.to_place.len() >= enough || state.ended {
                state.starved = false;
                let chunk = state.to_place.pop_front();
                shared.wake_giver(state);
                return chunk;
            }
            state.starved = true;
            enough = ENOUGH;
            shared.wake_giver(state);
            if !shared.digest_one() {
                let mut state = shared.lock();
                if state.to_place.len() < enough && !state.ended {
                    state.waits.taker = true;
                    drop(wait(&shared.taker, state));
                }
            }
        }
    }
}

impl ChunkSource for Taker<'_> {
    fn next_chunk(&mut self) -> Result<Option<Chunk>> {
        let timings = self.0.timings;
        let chunk = timings.starve(Stage::Place, || self.take()).transpose()?;
        timings.count(Stage::Place, chunk.as_ref().map_or(0, |chunk| chunk.len()));
        Ok(chunk)
    }
}

impl Drop for Taker<'_> {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.abandoned = true;
        state.to_place.clear();
        state.waits = Waits::default();
        drop(state);
        self.0.giver.notify_one();
        self.0.digester.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use std::thread;
    use std::time::Duration;

    use super::*;
    use crate::buffer::chunk::Pool;
    use crate::error::{Error, ErrorKind};

    /// A pseudo-random sequence, the same every time.
    fn random(seed: u64) -> impl FnMut(u64) -> u64 {
        let mut state = seed ^ 0x2545_f491_4f6c_dd1d;
        move |below| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state % below
        }
    }

    /// Works for as long as a stage might.
    fn dawdle(random: &mut impl FnMut(u64) -> u64, most: u64) {
        match random(4) {
            0 => thread::sleep(Duration::from_micros(random(most + 1))),
            1 => thread::yield_now(),
            _ => {}
        }
    }

    fn chunk(pool: &Pool, bytes: &[u8]) -> Chunk {
        let mut chunk = pool.get();
        chunk[..bytes.len()].copy_from_slice(bytes);
        chunk.freeze(bytes.len())
    }

    /// Hands over numbered chunks, of the layer and between them of the blob.
    fn hand_over(chunks: u64, pace: [u64; 2], digester: bool) {
        let timings = Timings::new();
        let pool = Pool::new();
        let mut expected = Digests::default();
        let (giver, mut taker) = handover(&timings);
        let shared = giver.shared();
        let digests = thread::scope(|scope| {
            let placing = scope.spawn(move || {
                let mut random = random(2);
                let mut taken = 0_u64;
                while let Some(chunk) = taker.next_chunk().unwrap() {
                    assert!(chunk.starts_with(&taken.to_le_bytes()));
                    taken += 1;
                    dawdle(&mut random, pace[1]);
                }
                taken
            });
            if digester {
                scope.spawn({
                    let shared = Arc::clone(&shared);
                    move || shared.digest_all()
                });
            }
            let mut random = random(1);
            for number in 0..chunks {
                // Many are digested at once, others in pieces of unequal number.
                let mut part = || {
                    let len = [8, 100, 3 * AT_A_TIME][random(3) as usize] + random(2) as usize;
                    let mut part = pool.get();
                    part[..8].copy_from_slice(&number.to_le_bytes());
                    part.freeze(len)
                };
                let (layer, blob) = (part(), part());
                for _ in 0..random(3) {
                    expected.blob.update(&blob);
                    assert!(giver.give_blob(&blob));
                }
                expected.layer.update(&layer);
                assert!(giver.give(Ok(layer)));
                dawdle(&mut random, pace[0]);
            }
            drop(giver);
            let digests = shared.take_digests();
            assert_eq!(placing.join().unwrap(), chunks);
            digests
        });
        assert_eq!(
            digests.finish(Compression::Gzip),
            expected.finish(Compression::Gzip)
        );
    }

    #[test]
    fn everything_is_placed_and_digested_in_order() {
        for digester in [false, true] {
            for chunks in [0, 1, 3, 5] {
                hand_over(chunks, [0, 0], digester);
            }
            for pace in [[0, 0], [300, 0], [0, 300], [100, 100]] {
                hand_over(1500, pace, digester);
            }
        }
    }

    #[test]
    fn memory_is_bounded_by_who_is_slow() {
        let timings = Timings::new();
        let pool = Pool::new();
        let (giver, taker) = handover(&timings);
        let most = thread::scope(|scope| {
            let placing = scope.spawn(move || {
                while taker.take().is_some() {
                    thread::sleep(Duration::from_micros(200));
                }
            });
            let most = (0..300)
                .map(|_| {
                    assert!(giver.give(Ok(chunk(&pool, b"chunk"))));
                    let state = giver.0.lock();
                    (state.to_place.len(), state.to_digest())
                })
                .fold((0, 0), |most, now| (most.0.max(now.0), most.1.max(now.1)));
            drop(giver);
            placing.join().unwrap();
            most
        });
        assert!(most.0 <= TO_PLACE && most.1 <= 2 * TO_DIGEST, "{most:?}");
    }

    #[test]
    fn who_has_no_room_does_not_count_on_one_who_falls_asleep() {
        let timings = Timings::new();
        let pool = Pool::new();
        let (giver, taker) = handover(&timings);
        // It has found the other one digesting, and does not sleep yet.
        giver.0.lock().starved = true;
        let blob = chunk(&pool, b"blob");
        for _ in 0..2 * TO_DIGEST {
            assert!(giver.give_blob(&blob));
        }
        let wanted = thread::scope(|scope| {
            let giving = scope.spawn(|| giver.give_blob(&blob));
            for _ in 0..5000 {
                if giving.is_finished() {
                    break;
                }
                thread::sleep(Duration::from_millis(1));
            }
            drop(taker);
            giving.join().unwrap()
        });
        assert!(wanted, "nobody digested");
    }

    #[test]
    fn as_much_of_layer_and_blob_is_digested_at_a_time() {
        let pool = Pool::new();
        let mut random = random(3);
        let mut chunks = |lens: &[usize]| -> VecDeque<Chunk> {
            let chunk_of = |len: &usize| {
                let mut chunk = pool.get();
                chunk[..*len].fill_with(|| random(256) as u8);
                chunk.freeze(*len)
            };
            lens.iter().map(chunk_of).collect()
        };
        let mut state = State {
            layer: chunks(&[1, AT_A_TIME, 3 * AT_A_TIME + 7, 0, 100]),
            blob: chunks(&[5, 2 * AT_A_TIME]),
            ..State::default()
        };
        let all = |chunks: &VecDeque<Chunk>| -> Vec<u8> {
            chunks.iter().flat_map(|chunk| chunk.to_vec()).collect()
        };
        let expected = [all(&state.layer), all(&state.blob)];
        let (mut layer, mut blob) = (Vec::new(), Vec::new());
        while state.to_digest() > 0 {
            let (now, too) = state.next_to_digest();
            assert!(now.iter().chain(&too).all(|chunk| chunk.len() <= AT_A_TIME));
            if let (Some(now), Some(too)) = (&now, &too) {
                assert_eq!(now.len(), too.len());
            }
            layer.extend(now.iter().flat_map(|chunk| chunk.to_vec()));
            blob.extend(too.iter().flat_map(|chunk| chunk.to_vec()));
        }
        assert!([layer, blob] == expected);
    }

    #[test]
    fn an_error_comes_after_what_was_before_it() {
        let timings = Timings::new();
        let pool = Pool::new();
        let (giver, mut taker) = handover(&timings);
        assert!(giver.give(Ok(chunk(&pool, b"good"))));
        assert!(giver.give(Err(Error::corrupt("bad"))));
        drop(giver);
        assert_eq!(*taker.next_chunk().unwrap().unwrap(), *b"good");
        let error = taker.next_chunk().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt);
        assert!(taker.next_chunk().unwrap().is_none());
    }

    #[test]
    fn who_gives_learns_that_nothing_is_taken_any_more() {
        for digester in [false, true] {
            let timings = Timings::new();
            let pool = Pool::new();
            let (giver, mut taker) = handover(&timings);
            let shared = giver.shared();
            let given = thread::scope(|scope| {
                scope.spawn(move || taker.next_chunk().unwrap().is_some());
                if digester {
                    scope.spawn(move || shared.digest_all());
                }
                (0..)
                    .take_while(|_| giver.give(Ok(chunk(&pool, b"chunk"))))
                    .count()
            });
            assert!(given >= 1);
            assert!(!giver.give_blob(&chunk(&pool, b"blob")));
        }
    }
}
