use std::fmt;
use std::fs::File;
use std::io::{self, Seek, SeekFrom, Write};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::platform;

/// Where a disk is written: at any offset, in any order, from several threads at once.
///
/// It starts out empty.
pub trait DiskOutput: Sync {
    /// Writes all of `data` at `offset`, and makes the output longer where needed.
    ///
    /// # Errors
    /// Any error ends the conversion; [`io::ErrorKind::StorageFull`] lets it count on, to say
    /// how much is missing.
    fn write_at(&self, offset: u64, data: &[u8]) -> io::Result<()>;

    /// Sets the length. Bytes that were never written read as zero.
    ///
    /// # Errors
    /// Any error ends the conversion.
    fn set_len(&self, len: u64) -> io::Result<()>;
}

/// The file has to be open for writing and empty; its own position is not used, but moves on
/// Windows.
impl DiskOutput for File {
    fn write_at(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        platform::write_all_at(self, offset, data)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        File::set_len(self, len)
    }
}

/// A disk in memory.
#[derive(Default)]
pub struct MemoryDisk(Mutex<Vec<u8>>);

impl MemoryDisk {
    /// An empty disk.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The bytes of the disk.
    #[must_use]
    pub fn into_vec(self) -> Vec<u8> {
        self.0.into_inner().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock(&self) -> MutexGuard<'_, Vec<u8>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for MemoryDisk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryDisk")
            .field("len", &self.lock().len())
            .finish()
    }
}

impl DiskOutput for MemoryDisk {
    fn write_at(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let start = usize::try_from(offset).map_err(|_| io::ErrorKind::OutOfMemory)?;
        let end = start
            .checked_add(data.len())
            .ok_or(io::ErrorKind::OutOfMemory)?;
        let mut bytes = self.lock();
        if end > bytes.len() {
            grow(&mut bytes, end)?;
        }
        bytes[start..end].copy_from_slice(data);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let len = usize::try_from(len).map_err(|_| io::ErrorKind::OutOfMemory)?;
        let mut bytes = self.lock();
        if len > bytes.len() {
            grow(&mut bytes, len)?;
        }
        bytes.truncate(len);
        Ok(())
    }
}

fn grow(bytes: &mut Vec<u8>, len: usize) -> io::Result<()> {
    bytes.try_reserve(len - bytes.len())?;
    bytes.resize(len, 0);
    Ok(())
}

/// A disk in whatever can be written and sought, one write at a time.
#[derive(Debug)]
pub struct SeekDisk<W>(Mutex<Seeker<W>>);

#[derive(Debug)]
struct Seeker<W> {
    inner: W,
    /// Where `inner` stands; unknown after an error.
    position: Option<u64>,
    /// The end of what was written.
    len: u64,
}

impl<W: Write + Seek + Send> SeekDisk<W> {
    /// Writes to `inner`, which has to be empty and to fill what is sought over with zeros, as
    /// files and [`io::Cursor`] do.
    ///
    /// # Errors
    /// If `inner` cannot seek or is not empty.
    pub fn new(mut inner: W) -> io::Result<Self> {
        if inner.seek(SeekFrom::End(0))? != 0 {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "the output of a disk has to be empty at first",
            ));
        }
        Ok(Self(Mutex::new(Seeker {
            inner,
            position: Some(0),
            len: 0,
        })))
    }

    /// Flushes, and gives the writer back.
    ///
    /// # Errors
    /// If flushing fails.
    pub fn into_inner(self) -> io::Result<W> {
        let mut inner = self
            .0
            .into_inner()
            .unwrap_or_else(PoisonError::into_inner)
            .inner;
        inner.flush()?;
        Ok(inner)
    }

    fn lock(&self) -> MutexGuard<'_, Seeker<W>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<W: Write + Seek> Seeker<W> {
    fn write_at(&mut self, offset: u64, data: &[u8]) -> io::Result<()> {
        let end = offset
            .checked_add(data.len() as u64)
            .ok_or(io::ErrorKind::FileTooLarge)?;
        if data.is_empty() {
            return Ok(());
        }
        // A seek makes a `BufWriter` flush: those that change nothing are spared.
        if self.position.take() != Some(offset) {
            self.inner.seek(SeekFrom::Start(offset))?;
        }
        self.inner.write_all(data)?;
        self.position = Some(end);
        self.len = self.len.max(end);
        Ok(())
    }
}

impl<W: Write + Seek + Send> DiskOutput for SeekDisk<W> {
    fn write_at(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.lock().write_at(offset, data)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut seeker = self.lock();
        match len.checked_sub(1) {
            Some(last) if len > seeker.len => seeker.write_at(last, &[0]),
            _ if len == seeker.len => Ok(()),
            _ => Err(io::Error::new(
                io::ErrorKind::Unsupported,
                "a seekable writer cannot be made shorter",
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufWriter, Cursor};

    use super::*;

    /// The contract of every output.
    fn exercise(output: &dyn DiskOutput) {
        output.write_at(10, b"late").unwrap();
        output.write_at(2, b"early").unwrap();
        output.write_at(4, b"RL").unwrap();
        output.write_at(u64::MAX, b"").ok();
        output.write_at(u64::MAX, b"x").unwrap_err();
        output.write_at(14, b"more").unwrap();
        output.set_len(20).unwrap();
        output.set_len(20).unwrap();
    }

    const EXERCISED: &[u8] = b"\0\0eaRLy\0\0\0latemore\0\0";

    #[test]
    fn outputs_hold_what_was_written_and_zeros() {
        let memory = MemoryDisk::new();
        exercise(&memory);
        memory.set_len(30).unwrap();
        memory.set_len(20).unwrap();
        assert_eq!(memory.into_vec(), EXERCISED);

        let cursor = SeekDisk::new(Cursor::new(Vec::new())).unwrap();
        exercise(&cursor);
        assert_eq!(cursor.into_inner().unwrap().into_inner(), EXERCISED);

        let buffered = SeekDisk::new(BufWriter::new(Cursor::new(Vec::new()))).unwrap();
        exercise(&buffered);
        let buffered = buffered.into_inner().unwrap();
        assert_eq!(buffered.get_ref().get_ref(), EXERCISED);

        let mut file = tempfile::tempfile().unwrap();
        exercise(&file);
        let mut read = Vec::new();
        file.rewind().unwrap();
        io::Read::read_to_end(&mut file, &mut read).unwrap();
        assert_eq!(read, EXERCISED);
    }

    #[test]
    fn a_seekable_output_starts_empty_and_never_shrinks() {
        let error = SeekDisk::new(Cursor::new(vec![1])).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
        let disk = SeekDisk::new(Cursor::new(Vec::new())).unwrap();
        disk.set_len(0).unwrap();
        disk.set_len(5).unwrap();
        let error = disk.set_len(4).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::Unsupported);
    }

    /// Takes a byte at a time, is interrupted before each, and fails once.
    #[derive(Debug, Default)]
    struct Stutter {
        inner: Cursor<Vec<u8>>,
        calls: usize,
        fail_at: usize,
    }

    impl Write for Stutter {
        fn write(&mut self, data: &[u8]) -> io::Result<usize> {
            self.calls += 1;
            if self.calls == self.fail_at {
                return Err(io::ErrorKind::Other.into());
            }
            if self.calls % 2 == 1 {
                return Err(io::ErrorKind::Interrupted.into());
            }
            self.inner.write(&data[..data.len().min(1)])
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Seek for Stutter {
        fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
            self.inner.seek(to)
        }
    }

    #[test]
    fn short_and_interrupted_writes_are_continued() {
        let disk = SeekDisk::new(Stutter::default()).unwrap();
        exercise(&disk);
        assert_eq!(disk.into_inner().unwrap().inner.into_inner(), EXERCISED);
    }

    #[test]
    fn after_a_failure_writes_go_where_they_belong() {
        let disk = SeekDisk::new(Stutter {
            fail_at: 4,
            ..Stutter::default()
        })
        .unwrap();
        disk.write_at(0, b"abc").unwrap_err();
        disk.write_at(0, b"xyz").unwrap();
        disk.write_at(3, b"!").unwrap();
        assert_eq!(disk.into_inner().unwrap().inner.into_inner(), b"xyz!");
    }

    #[test]
    fn memory_that_there_is_not_is_an_error() {
        let disk = MemoryDisk::new();
        for (offset, len) in [(1 << 60, 1 << 60), (u64::MAX, u64::MAX)] {
            let error = disk.write_at(offset, b"x").unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::OutOfMemory);
            let error = disk.set_len(len).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::OutOfMemory);
        }
        assert!(disk.into_vec().is_empty());
    }
}
