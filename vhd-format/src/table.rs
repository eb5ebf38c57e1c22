//! A table in the file, read in pages as it is used.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::{PoisonError, RwLock};

use crate::ReadAt;

/// Pages kept although they are clean. A block allocation table can have half a gigabyte:
/// forgetting all clean pages at this many keeps the memory bounded and the code small.
const MAX_CLEAN_PAGES: usize = 4096;

pub(crate) const PAGE_SIZE: usize = 4096;
pub(crate) type Page = [u8; PAGE_SIZE];

/// An array of fixed-size entries at an offset in the file. Changed pages stay in memory until
/// [`take_dirty`](Self::take_dirty) hands them out to be written.
#[derive(Debug)]
pub(crate) struct Table {
    offset: u64,
    size: u64,
    pages: RwLock<BTreeMap<u64, Box<Page>>>,
    dirty: BTreeSet<u64>,
}

impl Table {
    pub(crate) fn new(offset: u64, size: u64) -> Self {
        Self {
            offset,
            size,
            pages: RwLock::default(),
            dirty: BTreeSet::new(),
        }
    }

    /// The `N` bytes of the entry at that index; `N` divides the page size.
    pub(crate) fn get<const N: usize>(
        &self,
        storage: &(impl ReadAt + ?Sized),
        index: u64,
    ) -> io::Result<[u8; N]> {
        let (page, start) = locate::<N>(index);
        let pick = |bytes: &Page| {
            let mut entry = [0; N];
            entry.copy_from_slice(&bytes[start..start + N]);
            entry
        };
        let pages = self.pages.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(bytes) = pages.get(&page) {
            return Ok(pick(bytes));
        }
        drop(pages);
        let bytes = self.load(storage, page)?;
        let entry = pick(&bytes);
        let mut pages = self.pages.write().unwrap_or_else(PoisonError::into_inner);
        if pages.len() - self.dirty.len() >= MAX_CLEAN_PAGES {
            pages.retain(|page, _| self.dirty.contains(page));
        }
        pages.insert(page, bytes);
        Ok(entry)
    }

    /// Shows every entry with its index, in order, without keeping anything. Entries that were
    /// changed are shown as the file still has them.
    pub(crate) fn scan<const N: usize>(
        &self,
        storage: &(impl ReadAt + ?Sized),
        entries: u64,
        mut visit: impl FnMut(u64, [u8; N]),
    ) -> io::Result<()> {
        let mut piece = vec![0; 64 << 10];
        let end = entries * N as u64;
        let (mut start, mut index) = (0, 0);
        while start < end {
            let len = (end - start).min(piece.len() as u64) as usize;
            storage.read_at(self.offset + start, &mut piece[..len])?;
            for bytes in piece[..len].chunks_exact(N) {
                let mut entry = [0; N];
                entry.copy_from_slice(bytes);
                visit(index, entry);
                index += 1;
            }
            start += len as u64;
        }
        Ok(())
    }

    /// Changes the entry at that index, in memory.
    pub(crate) fn set<const N: usize>(
        &mut self,
        storage: &(impl ReadAt + ?Sized),
        index: u64,
        entry: [u8; N],
    ) -> io::Result<()> {
        let (page, start) = locate::<N>(index);
        let loaded = match self.pages_mut().remove(&page) {
            Some(bytes) => Ok(bytes),
            None => self.load(storage, page),
        };
        let mut bytes = loaded?;
        bytes[start..start + N].copy_from_slice(&entry);
        self.pages_mut().insert(page, bytes);
        self.dirty.insert(page);
        Ok(())
    }

    /// The number of pages that differ from the file's.
    pub(crate) fn dirty_pages(&self) -> usize {
        self.dirty.len()
    }

    /// The changed pages with their offsets in the file, in order; the last one of the table
    /// may be short.
    pub(crate) fn dirty(&mut self) -> Vec<(u64, Vec<u8>)> {
        let (offset, size) = (self.offset, self.size);
        let dirty = &self.dirty;
        let pages = self.pages.get_mut().unwrap_or_else(PoisonError::into_inner);
        dirty
            .iter()
            .filter_map(|page| {
                let bytes = pages.get(page)?;
                let start = page * PAGE_SIZE as u64;
                let len = (size - start).min(PAGE_SIZE as u64) as usize;
                Some((offset + start, bytes[..len].to_vec()))
            })
            .collect()
    }

    /// The changed pages have been written.
    pub(crate) fn set_clean(&mut self) {
        self.dirty.clear();
    }

    fn pages_mut(&mut self) -> &mut BTreeMap<u64, Box<Page>> {
        self.pages.get_mut().unwrap_or_else(PoisonError::into_inner)
    }

    fn load(&self, storage: &(impl ReadAt + ?Sized), page: u64) -> io::Result<Box<Page>> {
        let mut bytes = Box::new([0; PAGE_SIZE]);
        let start = page * PAGE_SIZE as u64;
        let len = self.size.saturating_sub(start).min(PAGE_SIZE as u64);
        storage.read_at(self.offset + start, &mut bytes[..len as usize])?;
        Ok(bytes)
    }
}

fn locate<const N: usize>(index: u64) -> (u64, usize) {
    const { assert!(PAGE_SIZE.is_multiple_of(N)) };
    let entries_per_page = (PAGE_SIZE / N) as u64;
    let start = (index % entries_per_page) as usize * N;
    (index / entries_per_page, start)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_pages_and_hands_out_the_changed_ones() {
        let mut file: Vec<u8> = (0..9000_u32).map(|i| i as u8).collect();
        let mut table = Table::new(100, 8500);
        assert_eq!(table.get::<4>(&file, 0).unwrap(), file[100..104]);
        assert_eq!(table.get::<4>(&file, 1024).unwrap(), file[4196..4200]);
        assert_eq!(table.dirty_pages(), 0);

        table.set(&file, 1025, *b"abcd").unwrap();
        table.set(&file, 2050, *b"efgh").unwrap();
        assert_eq!(table.get::<4>(&file, 1025).unwrap(), *b"abcd");
        assert_eq!(table.dirty_pages(), 2);
        let before = file.clone();
        for (offset, bytes) in table.dirty() {
            let start = offset as usize;
            file[start..start + bytes.len()].copy_from_slice(&bytes);
        }
        table.set_clean();
        assert_eq!(table.dirty_pages(), 0);
        assert_eq!(&file[4200..4204], b"abcd");
        assert_eq!(&file[8300..8304], b"efgh");
        assert_eq!(file.len(), 9000);
        assert_eq!((0..9000).filter(|&i| file[i] != before[i]).count(), 8);
    }

    #[test]
    fn forgets_clean_pages_only() {
        let pages = MAX_CLEAN_PAGES as u64 + 10;
        let file = vec![7; pages as usize * PAGE_SIZE];
        let mut table = Table::new(0, file.len() as u64);
        table.set(&file, 5, *b"mine").unwrap();
        for page in 0..pages {
            table.get::<4>(&file, page * 1024).unwrap();
        }
        assert!(table.pages_mut().len() <= MAX_CLEAN_PAGES + 1);
        assert_eq!(table.get::<4>(&file, 5).unwrap(), *b"mine");
    }
}
