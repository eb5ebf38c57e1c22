//! Storage of disk files.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::sync::{Mutex, PoisonError};

/// A file that can be read at any offset.
///
/// Implemented by [`File`], byte slices and vectors, references to and boxes of these, every
/// disk of this crate (so that a disk inside a disk opens like any other) and, for whatever
/// only seeks, [`Seekable`].
pub trait ReadAt {
    /// The number of bytes in the file.
    ///
    /// # Errors
    /// As the storage below fails.
    fn size(&self) -> io::Result<u64>;

    /// Fills the buffer from that offset.
    ///
    /// # Errors
    /// [`io::ErrorKind::UnexpectedEof`] if the file ends first.
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()>;
}

/// A file that can be written at any offset.
///
/// The crate's promises about crashes rest on [`flush`](Self::flush): without it writes may
/// reach the medium in any order; after it, all earlier ones have.
pub trait Storage: ReadAt {
    /// Writes all of the data at that offset; the file grows where it must, and bytes between
    /// its old end and the offset read as zero.
    ///
    /// # Errors
    /// As the storage below fails.
    fn write_at(&mut self, offset: u64, data: &[u8]) -> io::Result<()>;

    /// Makes the file at least that long; bytes that are new read as zero.
    ///
    /// # Errors
    /// As the storage below fails.
    fn grow(&mut self, len: u64) -> io::Result<()>;

    /// Waits until everything written so far would survive a loss of power.
    ///
    /// # Errors
    /// As the storage below fails. What reached the medium is unknown then.
    fn flush(&mut self) -> io::Result<()>;
}

/// Storage of any kind, as the parents of a differencing disk need it.
pub type AnyStorage = Box<dyn ReadAt + Send + Sync>;

macro_rules! forward_read_at {
    ($($kind:ty),*) => {$(
        impl<T: ReadAt + ?Sized> ReadAt for $kind {
            fn size(&self) -> io::Result<u64> {
                (**self).size()
            }

            fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
                (**self).read_at(offset, buffer)
            }
        }
    )*};
}
forward_read_at!(&T, &mut T, Box<T>, std::sync::Arc<T>);

macro_rules! forward_storage {
    ($($kind:ty),*) => {$(
        impl<T: Storage + ?Sized> Storage for $kind {
            fn write_at(&mut self, offset: u64, data: &[u8]) -> io::Result<()> {
                (**self).write_at(offset, data)
            }

            fn grow(&mut self, len: u64) -> io::Result<()> {
                (**self).grow(len)
            }

            fn flush(&mut self) -> io::Result<()> {
                (**self).flush()
            }
        }
    )*};
}
forward_storage!(&mut T, Box<T>);

impl ReadAt for [u8] {
    fn size(&self) -> io::Result<u64> {
        Ok(self.len() as u64)
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        let found = usize::try_from(offset)
            .ok()
            .and_then(|start| self.get(start..)?.get(..buffer.len()))
            .ok_or(io::ErrorKind::UnexpectedEof)?;
        buffer.copy_from_slice(found);
        Ok(())
    }
}

/// A file in memory. Flushing it does nothing.
impl ReadAt for Vec<u8> {
    fn size(&self) -> io::Result<u64> {
        self.as_slice().size()
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.as_slice().read_at(offset, buffer)
    }
}

impl Storage for Vec<u8> {
    fn write_at(&mut self, offset: u64, data: &[u8]) -> io::Result<()> {
        let end = offset.saturating_add(data.len() as u64);
        if end > self.len() as u64 {
            self.grow(end)?;
        }
        // In range: the vector has just been made that long.
        let start = offset as usize;
        self[start..start + data.len()].copy_from_slice(data);
        Ok(())
    }

    fn grow(&mut self, len: u64) -> io::Result<()> {
        let len = usize::try_from(len).map_err(|_| io::ErrorKind::OutOfMemory)?;
        let more = len.saturating_sub(self.len());
        // A disk's own fields choose the size: too much is an error, not an abort.
        self.try_reserve(more)
            .map_err(|_| io::ErrorKind::OutOfMemory)?;
        self.resize(self.len() + more, 0);
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Flushing is `sync_data`; it also makes a changed size durable.
impl ReadAt for File {
    fn size(&self) -> io::Result<u64> {
        // Block devices have a metadata length of 0.
        let mut file = self;
        match self.metadata()?.len() {
            0 => file.seek(SeekFrom::End(0)),
            len => Ok(len),
        }
    }

    #[cfg(unix)]
    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        std::os::unix::fs::FileExt::read_exact_at(self, buffer, offset)
    }

    #[cfg(windows)]
    fn read_at(&self, mut offset: u64, mut buffer: &mut [u8]) -> io::Result<()> {
        while !buffer.is_empty() {
            match std::os::windows::fs::FileExt::seek_read(self, buffer, offset) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(n) => {
                    buffer = &mut buffer[n..];
                    offset += n as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

impl Storage for File {
    #[cfg(unix)]
    fn write_at(&mut self, offset: u64, data: &[u8]) -> io::Result<()> {
        std::os::unix::fs::FileExt::write_all_at(self, data, offset)
    }

    #[cfg(windows)]
    fn write_at(&mut self, mut offset: u64, mut data: &[u8]) -> io::Result<()> {
        while !data.is_empty() {
            match std::os::windows::fs::FileExt::seek_write(self, data, offset) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(n) => {
                    data = &data[n..];
                    offset += n as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn grow(&mut self, len: u64) -> io::Result<()> {
        if self.size()? < len {
            self.set_len(len)?;
        }
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.sync_data()
    }
}

/// Anything that seeks, as positioned storage.
///
/// Reads from several threads wait for each other. Flushing is as durable as `T`'s own
/// [`Write::flush`], which for a [`File`] is not at all: give the file itself instead.
#[derive(Debug)]
pub struct Seekable<T>(Mutex<T>);

impl<T> Seekable<T> {
    /// Wraps it; where it stands does not matter.
    pub fn new(inner: T) -> Self {
        Self(Mutex::new(inner))
    }

    /// Gives it back, standing anywhere.
    pub fn into_inner(self) -> T {
        self.0.into_inner().unwrap_or_else(PoisonError::into_inner)
    }

    fn get_mut(&mut self) -> &mut T {
        self.0.get_mut().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T: Read + Seek> ReadAt for Seekable<T> {
    fn size(&self) -> io::Result<u64> {
        let mut inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        inner.seek(SeekFrom::End(0))
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        let mut inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        inner.seek(SeekFrom::Start(offset))?;
        inner.read_exact(buffer)
    }
}

impl<T: Read + Write + Seek> Storage for Seekable<T> {
    fn write_at(&mut self, offset: u64, data: &[u8]) -> io::Result<()> {
        let inner = self.get_mut();
        inner.seek(SeekFrom::Start(offset))?;
        inner.write_all(data)
    }

    fn grow(&mut self, len: u64) -> io::Result<()> {
        // Seeking past the end and writing is the only way to grow that the traits have.
        if self.size()? < len {
            self.write_at(len - 1, &[0])?;
        }
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.get_mut().flush()
    }
}

/// Storage whose flushes do nothing: faster, and unsafe against loss of power.
///
/// For files that are made again when anything goes wrong, such as scratch disks.
#[derive(Debug)]
pub struct WithoutFlush<S>(pub S);

impl<S: ReadAt> ReadAt for WithoutFlush<S> {
    fn size(&self) -> io::Result<u64> {
        self.0.size()
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.0.read_at(offset, buffer)
    }
}

impl<S: Storage> Storage for WithoutFlush<S> {
    fn write_at(&mut self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.0.write_at(offset, data)
    }

    fn grow(&mut self, len: u64) -> io::Result<()> {
        self.0.grow(len)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Cursor;

    fn exercise(storage: &mut impl Storage) {
        storage.write_at(3, b"abc").unwrap();
        assert_eq!(storage.size().unwrap(), 6);
        storage.grow(10).unwrap();
        storage.grow(5).unwrap();
        storage.write_at(9, b"x").unwrap();
        storage.flush().unwrap();
        let mut all = [1; 10];
        storage.read_at(0, &mut all).unwrap();
        assert_eq!(&all, b"\0\0\0abc\0\0\0x");
        for (offset, len) in [(0, 11), (10, 1), (11, 1), (u64::MAX, 1)] {
            storage
                .read_at(offset, &mut vec![0; len])
                .expect_err("past the end");
        }
        storage.read_at(10, &mut []).unwrap();
    }

    #[test]
    fn every_storage_behaves_alike() {
        exercise(&mut Vec::new());
        exercise(&mut Seekable::new(Cursor::new(Vec::new())));
        exercise(&mut WithoutFlush(Vec::new()));
        exercise(&mut (Box::new(Vec::new()) as Box<dyn Storage>));
        exercise(&mut tempfile::tempfile().unwrap());
        exercise(&mut Seekable::new(tempfile::tempfile().unwrap()));
    }

    #[test]
    fn memory_that_cannot_be_had_is_an_error() {
        Vec::new().grow(u64::MAX).unwrap_err();
        Vec::new().grow(u64::MAX / 4).unwrap_err();
        Vec::new().write_at(u64::MAX, b"ab").unwrap_err();
    }
}
