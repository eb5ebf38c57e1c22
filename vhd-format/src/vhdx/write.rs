use std::io;

use uuid::Uuid;

use super::bat::{BlockState, Entry};
use super::log::{LogWriter, MAX_PAGES};
use super::open::Vhdx;
use super::parameters::Identity;
use super::session::Session;
use crate::range::{check_range, first_error, is_zero, pieces};
use crate::{Error, ReadAt, Result, Storage};

impl<S: Storage> Vhdx<S> {
    /// Opens a fixed or dynamic disk for reading and writing. A log that was left behind is
    /// replayed; otherwise nothing is written before the first write is.
    ///
    /// The block allocation table is checked to the last entry, so that no write can harm
    /// another block or a structure.
    ///
    /// # Errors
    /// As [`open`](Self::open), and for differencing disks, which are only read, and headers
    /// whose sequence numbers are used up.
    pub fn open_writable(storage: S) -> Result<Self> {
        let mut disk = Self::open(storage)?;
        if disk.parent_locator().is_some() {
            return Err(Error::read_only("differencing VHDXs are only read"));
        }
        disk.structures.headers.check_numbers()?;
        let size = disk.file_size()?;
        let mut end = 0;
        first_error(|report| {
            end = disk.check_table(size, report)?;
            Ok(())
        })?;
        let mut session = Session::new(LogWriter::new(Uuid::new_v4()), end, size);
        if disk.file.entries > 0 {
            // §2.2.2: the id of the file's contents changes before the log is replayed.
            let guid = Uuid::new_v4();
            session.file_write_guid = guid;
            let headers = &mut disk.structures.headers;
            let storage = &mut disk.file.storage;
            headers.update(storage, |header| header.file_write_guid = guid)?;
            disk.file.apply()?;
            let storage = &mut disk.file.storage;
            headers.update(storage, |header| header.log_guid = Uuid::nil())?;
        }
        disk.session = Some(Box::new(session));
        Ok(disk)
    }

    /// Goes on to write to a disk that this program has just made. Its ids are new already.
    pub(super) fn start_writing(&mut self, identity: Identity) -> Result<()> {
        // Any id will do for the log that this file has not had; one that follows from the
        // others makes the same file again.
        let id = identity.file_write_guid.as_u128() ^ u128::from_le_bytes(*b"log of a new one");
        let size = self.file_size()?;
        let mut session = Session::new(LogWriter::new(Uuid::from_u128(id)), size, size);
        session.file_write_guid = identity.file_write_guid;
        session.data_write_guid = identity.data_write_guid;
        self.session = Some(Box::new(session));
        Ok(())
    }

    /// Writes the data at that offset of the virtual disk. Zeros that are written to a block
    /// without contents give it the state [`Zero`](BlockState::Zero) and no space.
    ///
    /// # Errors
    /// If the range ends past the disk, or the disk is open for reading only, or writing
    /// fails.
    pub fn write_at(&mut self, offset: u64, data: &[u8]) -> Result<()> {
        self.session_mut()?;
        check_range(self.virtual_size(), offset, data.len())?;
        if data.is_empty() {
            return Ok(());
        }
        self.change_ids()?;
        for piece in pieces(offset, data.len(), self.block_size()) {
            let part = &data[piece.range];
            let (state, place) = self.entry(piece.block)?;
            let zeros = || is_zero(part);
            match state {
                BlockState::FullyPresent => {
                    let offset = place + piece.within;
                    self.file
                        .storage
                        .write_at(offset, part)
                        .map_err(|error| Error::write("a block", offset, error))?;
                }
                BlockState::Zero if zeros() => {}
                _ if zeros() => self.set_entry(piece.block, Entry::new(BlockState::Zero, 0))?,
                _ => self.allocate(piece.block, piece.within, part)?,
            }
        }
        Ok(())
    }

    /// Makes everything written so far durable.
    ///
    /// # Errors
    /// If writing or flushing fails. The disk takes no more writes then, for it is not known
    /// which of the earlier ones are on the medium.
    pub fn flush(&mut self) -> Result<()> {
        self.session_mut()?;
        if self.table.dirty_pages() == 0 {
            let flushed = self.file.storage.flush().map_err(Error::flush);
            return self.trust(flushed);
        }
        self.commit()
    }

    /// Flushes a disk that was opened for writing, leaves its log empty and gives the storage
    /// back.
    ///
    /// # Errors
    /// As [`flush`](Self::flush).
    pub fn close(mut self) -> Result<S> {
        if self.session.is_some() {
            self.flush()?;
            // The log may also be in use by a program that ended before its first entry.
            if self.session_mut()?.log.active || self.file.log_is_unused {
                // Writes that the log's last entry covers may not have reached the medium.
                self.file.storage.flush().map_err(Error::flush)?;
                let headers = &mut self.structures.headers;
                let storage = &mut self.file.storage;
                headers.update(storage, |header| header.log_guid = Uuid::nil())?;
            }
        }
        Ok(self.file.storage)
    }

    fn session_mut(&mut self) -> Result<&mut Session> {
        match &mut self.session {
            None => Err(Error::read_only("the VHDX is open for reading only")),
            Some(session) if session.failed => {
                let error = io::Error::other("an earlier flush failed");
                Err(Error::io("cannot write to the VHDX", error))
            }
            Some(session) => Ok(session),
        }
    }

    /// Remembers whether something failed after which the disk is not to be written to.
    fn trust<T>(&mut self, result: Result<T>) -> Result<T> {
        if result.is_err()
            && let Some(session) = &mut self.session
        {
            session.failed = true;
        }
        result
    }

    /// §2.2.2: both ids change before the first write of a session.
    fn change_ids(&mut self) -> Result<()> {
        let session = self.session_mut()?;
        if !session.data_write_guid.is_nil() {
            return Ok(());
        }
        if session.file_write_guid.is_nil() {
            session.file_write_guid = Uuid::new_v4();
        }
        let file_write_guid = session.file_write_guid;
        let data_write_guid = Uuid::new_v4();
        let headers = &mut self.structures.headers;
        let updated = headers.update(&mut self.file.storage, |header| {
            header.file_write_guid = file_write_guid;
            header.data_write_guid = data_write_guid;
        });
        self.trust(updated)?;
        self.session_mut()?.data_write_guid = data_write_guid;
        Ok(())
    }

    fn allocate(&mut self, block: u64, within: u64, data: &[u8]) -> Result<()> {
        let block_size = u64::from(self.block_size());
        let session = self.session_mut()?;
        let start = session.end;
        let end = start
            .checked_add(block_size)
            .ok_or_else(|| Error::input("the file is full"))?;
        let stale = start < session.stale_end;
        // Should a write fail, the place is tried again, and then is not fresh.
        session.stale_end = session.stale_end.max(end);
        let storage = &mut self.file.storage;
        let failed = |error| Error::write("a new block", start, error);
        storage.grow(end).map_err(failed)?;
        let (data_start, data_end) = (start + within, start + within + data.len() as u64);
        if stale {
            zero(storage, start, data_start).map_err(failed)?;
            zero(storage, data_end, end).map_err(failed)?;
        }
        storage.write_at(data_start, data).map_err(failed)?;
        self.set_entry(block, Entry::new(BlockState::FullyPresent, start))?;
        self.session_mut()?.end = end;
        Ok(())
    }

    fn set_entry(&mut self, block: u64, entry: Entry) -> Result<()> {
        let index = self.structures.numbering.payload_index(block);
        self.table
            .set(&self.file, index, entry.0.to_le_bytes())
            .map_err(|error| {
                let place = self.structures.regions.bat.offset + index * 8;
                Error::read("the block allocation table", place, error)
            })?;
        if self.table.dirty_pages() >= MAX_PAGES {
            self.commit()?;
        }
        Ok(())
    }

    /// Brings the changed pages of the block allocation table into the file through the log.
    fn commit(&mut self) -> Result<()> {
        let committed = self.try_commit();
        self.trust(committed)
    }

    fn try_commit(&mut self) -> Result<()> {
        let pages = self.table.dirty();
        let Some(session) = &mut self.session else {
            return Ok(());
        };
        let storage = &mut self.file.storage;
        let headers = &mut self.structures.headers;
        let (log_offset, log_length) = (headers.current.log_offset, headers.current.log_length);
        for pages in pages.chunks(MAX_PAGES) {
            // The blocks before the entries that point to them; and what the entry of the log
            // before this one replaced, before that entry loses its meaning.
            storage.flush().map_err(Error::flush)?;
            let size = storage
                .size()
                .map_err(|error| Error::io("cannot tell the size of the file", error))?;
            for (position, bytes) in session.log.entry(pages, size, log_length) {
                let offset = log_offset + u64::from(position);
                storage
                    .write_at(offset, &bytes)
                    .map_err(|error| Error::write("the log", offset, error))?;
            }
            storage.flush().map_err(Error::flush)?;
            if !session.log.active {
                let guid = session.log.guid;
                headers.update(storage, |header| header.log_guid = guid)?;
                session.log.active = true;
            }
            // From here on the change is made: a crash leaves it to the log's replay.
            for (offset, bytes) in pages {
                storage
                    .write_at(*offset, bytes)
                    .map_err(|error| Error::write("the block allocation table", *offset, error))?;
            }
        }
        self.table.set_clean();
        Ok(())
    }
}

fn zero(storage: &mut impl Storage, start: u64, end: u64) -> io::Result<()> {
    let zeros = vec![0; end.saturating_sub(start).min(1 << 20) as usize];
    let mut position = start;
    while position < end {
        let len = (end - position).min(zeros.len() as u64);
        storage.write_at(position, &zeros[..len as usize])?;
        position += len;
    }
    Ok(())
}
