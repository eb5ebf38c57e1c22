//! The buffers that a layer travels in, from stage to stage without being copied.

use std::fmt;
use std::ops::{Deref, DerefMut, Range};
use std::sync::{Arc, Mutex, PoisonError};

use crate::buffer::aligned::Aligned;
use crate::buffer::segment::Lent;

/// The most bytes of a chunk: a multiple of the tar block and of the file system block, small
/// enough that a stage's working set stays in the second-level cache.
pub(crate) const CHUNK_SIZE: usize = 256 * 1024;

/// Bytes of the previous chunk, at most, that are copied in front of a chunk because matches refer
/// to them: the decoder then works as if all chunks lay in one buffer.
pub(crate) const WINDOW: usize = inflate::WINDOW;

/// Recycles buffers of a chunk behind a window between the stages. A clone shares the buffers.
#[derive(Clone, Default)]
pub(crate) struct Pool(Arc<Mutex<Vec<Aligned>>>);

impl Pool {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// A recycled buffer, whose old contents are still there, or a new one.
    pub(crate) fn get(&self) -> ChunkMut {
        let recycled = self.buffers().pop();
        ChunkMut(Buffer {
            bytes: recycled.unwrap_or_else(|| Aligned::zeroed(WINDOW + CHUNK_SIZE)),
            pool: self.clone(),
        })
    }

    /// The number of buffers that wait for reuse.
    #[cfg(test)]
    pub(crate) fn idle(&self) -> usize {
        self.buffers().len()
    }

    /// A panic elsewhere cannot leave the list in a bad state: poison is ignored.
    fn buffers(&self) -> std::sync::MutexGuard<'_, Vec<Aligned>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Returns its bytes to the pool when dropped.
struct Buffer {
    /// The window, with the chunk behind it.
    bytes: Aligned,
    pool: Pool,
}

impl Drop for Buffer {
    fn drop(&mut self) {
        let bytes = std::mem::take(&mut self.bytes);
        self.pool.buffers().push(bytes);
    }
}

/// A buffer that is being filled.
pub(crate) struct ChunkMut(Buffer);

impl ChunkMut {
    /// Lets the end of the chunk before, and of what stood in front of that, stand in front: so
    /// many bytes, at most a [`WINDOW`].
    pub(crate) fn follow(&mut self, before: &Chunk, window: usize) {
        let end = before.range.end;
        let end = &before.bytes[end - window..end];
        self.0.bytes[WINDOW - window..WINDOW].copy_from_slice(end);
    }

    /// The window and, from [`WINDOW`] on, the chunk.
    pub(crate) fn with_window(&mut self) -> &mut [u8] {
        &mut self.0.bytes
    }

    /// Keeps the first `len` bytes, read-only from here on.
    ///
    /// # Panics
    /// When `len` exceeds [`CHUNK_SIZE`].
    pub(crate) fn freeze(self, len: usize) -> Chunk {
        assert!(len <= CHUNK_SIZE, "a chunk holds {CHUNK_SIZE} bytes");
        Chunk {
            bytes: Arc::new(Bytes::Pooled(self.0)),
            range: WINDOW..WINDOW + len,
        }
    }
}

impl Deref for ChunkMut {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0.bytes[WINDOW..]
    }
}

impl DerefMut for ChunkMut {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.0.bytes[WINDOW..]
    }
}

/// Where the bytes of a chunk are.
enum Bytes {
    Pooled(Buffer),
    Lent(Lent),
}

impl Deref for Bytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Pooled(buffer) => &buffer.bytes,
            Self::Lent(lent) => lent,
        }
    }
}

/// Immutable bytes, shared. A buffer goes back to its pool with the last clone.
#[derive(Clone)]
pub(crate) struct Chunk {
    bytes: Arc<Bytes>,
    range: Range<usize>,
}

impl From<Lent> for Chunk {
    fn from(lent: Lent) -> Self {
        let range = 0..lent.len();
        Self {
            bytes: Arc::new(Bytes::Lent(lent)),
            range,
        }
    }
}

impl Chunk {
    /// A part of this chunk that shares its buffer.
    ///
    /// # Panics
    /// When `range` is not within the chunk.
    pub(crate) fn slice(&self, range: Range<usize>) -> Self {
        assert!(
            range.start <= range.end && range.end <= self.len(),
            "{range:?} is outside a chunk of {} bytes",
            self.len()
        );
        Self {
            bytes: Arc::clone(&self.bytes),
            range: self.range.start + range.start..self.range.start + range.end,
        }
    }
}

impl Deref for Chunk {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes[self.range.clone()]
    }
}

impl fmt::Debug for Chunk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Chunk({} bytes)", self.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_returns_with_its_last_slice() {
        let pool = Pool::new();
        let mut chunk = pool.get();
        chunk[..5].copy_from_slice(b"hello");
        let chunk = chunk.freeze(5);
        let ell = chunk.slice(1..4);
        let l = ell.slice(1..2);
        assert_eq!(
            (&*chunk, &*ell, &*l),
            (&b"hello"[..], &b"ell"[..], &b"l"[..])
        );
        drop((chunk, ell));
        assert_eq!(pool.idle(), 0);
        let address = l.as_ptr_range().start;
        drop(l);
        assert_eq!(pool.idle(), 1);
        let again = pool.get();
        assert_eq!(pool.idle(), 0);
        assert!(again.as_ptr_range().contains(&address));
        drop(again);
        assert_eq!(pool.idle(), 1);
    }

    #[test]
    #[should_panic(expected = "outside a chunk")]
    fn a_slice_cannot_reach_past_the_frozen_bytes() {
        let chunk = Pool::new().get().freeze(4);
        let _ = chunk.slice(3..5);
    }
}
