//! Entries of layers in few bytes, to be applied when all layers were read.

use std::collections::HashMap;

use crate::error::{Error, Result};
use crate::ext4::tree::Ino;
use crate::layer::{Entry, EntryKind, Time};

/// The most bytes of the records of all layers.
pub(super) const RECORDS_MAX: usize = 1 << 30;

/// The entries of one layer in their order.
#[derive(Default)]
pub(super) struct Records {
    bytes: Vec<u8>,
    last: Last,
    /// Attributes and ACLs by their encoding: mostly many entries have the same.
    sets: HashMap<Vec<u8>, u64>,
    sets_size: usize,
}

/// The fields that the next record refers to.
#[derive(Default)]
struct Last {
    path: Vec<u8>,
    offset: u64,
    ino: u32,
    time: i64,
}

/// Bits of a record's first byte beside the kind.
const HAS_TIMES: u8 = 1 << 4;
const HAS_SET: u8 = 1 << 5;

impl Records {
    /// Adds an entry; of a regular file with the inode that has its contents, if there is one.
    pub(super) fn push(&mut self, entry: &Entry, contents: Option<Ino>) {
        let (kind, target): (u8, &[u8]) = match &entry.kind {
            EntryKind::File { .. } => (0, b""),
            EntryKind::Directory => (1, b""),
            EntryKind::Symlink(target) => (2, target),
            EntryKind::HardLink(target) => (3, target),
            EntryKind::CharDevice { .. } => (4, b""),
            EntryKind::BlockDevice { .. } => (5, b""),
            EntryKind::Fifo => (6, b""),
        };
        let set = self.set(entry);
        let has_times = entry.atime.is_some() || entry.ctime.is_some() || entry.created.is_some();
        let flags = [(has_times, HAS_TIMES), (set.is_some(), HAS_SET)];
        let flags = flags.iter().filter(|(is, _)| *is).map(|(_, bit)| bit);
        self.bytes.push(flags.fold(kind, |byte, bit| byte | bit));

        let last = std::mem::take(&mut self.last);
        let shared = last.path.iter().zip(&entry.path);
        let shared = shared.take_while(|(one, other)| one == other).count();
        self.number(shared as u64);
        self.slice(&entry.path[shared..]);
        self.number(entry.offset.wrapping_sub(last.offset));
        self.number(entry.mode.into());
        self.number(entry.uid.into());
        self.number(entry.gid.into());
        self.number(zigzag(entry.mtime.seconds.wrapping_sub(last.time)));
        self.number(entry.mtime.nanos.into());
        if has_times {
            for time in [entry.atime, entry.ctime, entry.created] {
                self.number(u64::from(time.is_some()));
                let Time { seconds, nanos } = time.unwrap_or_default();
                self.number(zigzag(seconds));
                self.number(nanos.into());
            }
        }
        if let Some(set) = set {
            self.number(set);
        }
        let mut ino = last.ino;
        match &entry.kind {
            EntryKind::File { size } => {
                self.number(*size);
                // Contents come in the order of the entries.
                let ahead = contents.map_or(0, |contents| contents.get().wrapping_sub(ino));
                self.number(ahead.into());
                ino = contents.map_or(ino, Ino::get);
            }
            EntryKind::Symlink(_) | EntryKind::HardLink(_) => self.slice(target),
            EntryKind::CharDevice { major, minor } | EntryKind::BlockDevice { major, minor } => {
                self.number((*major).into());
                self.number((*minor).into());
            }
            EntryKind::Directory | EntryKind::Fifo => {}
        }
        let mut path = last.path;
        path.truncate(shared);
        path.extend_from_slice(&entry.path[shared..]);
        self.last = Last {
            path,
            offset: entry.offset,
            ino,
            time: entry.mtime.seconds,
        };
    }

    /// The number of the set of an entry's attributes and ACLs; none if it has none.
    fn set(&mut self, entry: &Entry) -> Option<u64> {
        if entry.xattrs.is_empty() && entry.acl_access.is_none() && entry.acl_default.is_none() {
            return None;
        }
        let mut encoded = Self::default();
        encoded.number(entry.xattrs.len() as u64);
        for (name, value) in &entry.xattrs {
            encoded.slice(name);
            encoded.slice(value);
        }
        for acl in [&entry.acl_access, &entry.acl_default] {
            encoded.number(u64::from(acl.is_some()));
            encoded.slice(acl.as_deref().unwrap_or_default());
        }
        let next = self.sets.len() as u64;
        let len = encoded.bytes.len();
        Some(*self.sets.entry(encoded.bytes).or_insert_with(|| {
            self.sets_size += len + 64;
            next
        }))
    }

    /// Bytes of memory.
    pub(super) fn size(&self) -> usize {
        self.bytes.len() + self.sets_size
    }

    fn number(&mut self, mut number: u64) {
        while number >= 0x80 {
            self.bytes.push(number as u8 | 0x80);
            number >>= 7;
        }
        self.bytes.push(number as u8);
    }

    fn slice(&mut self, slice: &[u8]) {
        self.number(slice.len() as u64);
        self.bytes.extend_from_slice(slice);
    }

    /// Gives back memory that no record needs.
    pub(super) fn shrink(&mut self) {
        self.bytes.shrink_to_fit();
    }

    /// Reads the records in their order.
    pub(super) fn read(&self) -> Reader<'_> {
        let mut sets = vec![&[][..]; self.sets.len()];
        for (set, number) in &self.sets {
            if let Some(slot) = sets.get_mut(*number as usize) {
                *slot = set;
            }
        }
        Reader {
            rest: &self.bytes,
            sets,
            last_offset: 0,
            last_ino: 0,
            last_time: 0,
        }
    }
}

/// Reads records.
pub(super) struct Reader<'a> {
    rest: &'a [u8],
    sets: Vec<&'a [u8]>,
    last_offset: u64,
    last_ino: u32,
    last_time: i64,
}

impl Reader<'_> {
    /// Reads the next record into the entry that holds the one before, or nothing yet. Returns the
    /// number of the inode that has its contents, 0 if none has; `None` at the end.
    pub(super) fn next(&mut self, entry: &mut Entry) -> Result<Option<u32>> {
        let Some((first, rest)) = self.rest.split_first() else {
            return Ok(None);
        };
        self.rest = rest;
        let rest = &mut self.rest;
        let shared = number(rest)? as usize;
        entry.path.truncate(shared);
        entry.path.extend_from_slice(slice(rest)?);
        self.last_offset = self.last_offset.wrapping_add(number(rest)?);
        entry.offset = self.last_offset;
        entry.mode = number(rest)? as u16;
        entry.uid = number(rest)? as u32;
        entry.gid = number(rest)? as u32;
        self.last_time = self.last_time.wrapping_add(unzigzag(number(rest)?));
        entry.mtime.seconds = self.last_time;
        entry.mtime.nanos = number(rest)? as u32;
        (entry.atime, entry.ctime, entry.created) = match first & HAS_TIMES {
            0 => (None, None, None),
            _ => (time(rest)?, time(rest)?, time(rest)?),
        };
        entry.xattrs.clear();
        (entry.acl_access, entry.acl_default) = (None, None);
        if first & HAS_SET != 0 {
            let set = number(rest)? as usize;
            let mut set = *self.sets.get(set).ok_or_else(broken)?;
            for _ in 0..number(&mut set)? {
                let name = slice(&mut set)?.to_vec();
                entry.xattrs.push((name, slice(&mut set)?.to_vec()));
            }
            entry.acl_access = acl(&mut set)?;
            entry.acl_default = acl(&mut set)?;
        }
        let mut contents = 0;
        entry.kind = match first & 0xf {
            0 => {
                let size = number(rest)?;
                let ahead = number(rest)? as u32;
                if ahead != 0 {
                    self.last_ino = self.last_ino.wrapping_add(ahead);
                    contents = self.last_ino;
                }
                EntryKind::File { size }
            }
            1 => EntryKind::Directory,
            2 => EntryKind::Symlink(slice(rest)?.to_vec()),
            3 => EntryKind::HardLink(slice(rest)?.to_vec()),
            kind @ (4 | 5) => {
                let (major, minor) = (number(rest)? as u32, number(rest)? as u32);
                match kind {
                    4 => EntryKind::CharDevice { major, minor },
                    _ => EntryKind::BlockDevice { major, minor },
                }
            }
            _ => EntryKind::Fifo,
        };
        Ok(Some(contents))
    }
}

/// No record is like this: memory of this process changed.
fn broken() -> Error {
    Error::corrupt("the records of the entries are damaged")
}

fn number(rest: &mut &[u8]) -> Result<u64> {
    let mut number = 0;
    for shift in (0..64).step_by(7) {
        let (byte, after) = rest.split_first().ok_or_else(broken)?;
        *rest = after;
        number |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Ok(number);
        }
    }
    Err(broken())
}

fn slice<'a>(rest: &mut &'a [u8]) -> Result<&'a [u8]> {
    let len = number(rest)? as usize;
    let (slice, after) = rest.split_at_checked(len).ok_or_else(broken)?;
    *rest = after;
    Ok(slice)
}

fn time(rest: &mut &[u8]) -> Result<Option<Time>> {
    let is_there = number(rest)? != 0;
    let seconds = unzigzag(number(rest)?);
    let nanos = number(rest)? as u32;
    Ok(is_there.then_some(Time { seconds, nanos }))
}

fn acl(rest: &mut &[u8]) -> Result<Option<Vec<u8>>> {
    let is_there = number(rest)? != 0;
    let text = slice(rest)?;
    Ok(is_there.then(|| text.to_vec()))
}

/// Signed numbers as small ones where they are near zero.
fn zigzag(number: i64) -> u64 {
    (number << 1 ^ number >> 63) as u64
}

fn unzigzag(number: u64) -> i64 {
    (number >> 1) as i64 ^ -((number & 1) as i64)
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::option;
    use proptest::prelude::*;

    use super::*;

    fn kind() -> impl Strategy<Value = EntryKind> {
        let bytes = || vec(any::<u8>(), 1..20);
        prop_oneof![
            any::<u64>().prop_map(|size| EntryKind::File { size }),
            Just(EntryKind::Directory),
            bytes().prop_map(EntryKind::Symlink),
            bytes().prop_map(EntryKind::HardLink),
            any::<(u32, u32)>().prop_map(|(major, minor)| EntryKind::CharDevice { major, minor }),
            any::<(u32, u32)>().prop_map(|(major, minor)| EntryKind::BlockDevice { major, minor }),
            Just(EntryKind::Fifo),
        ]
    }

    fn moment() -> impl Strategy<Value = Time> {
        any::<(i64, u32)>().prop_map(|(seconds, nanos)| Time { seconds, nanos })
    }

    prop_compose! {
        fn entry()(
            path in vec(0..3_u8, 1..8),
            kind in kind(),
            (offset, mode, uid, gid) in any::<(u64, u16, u32, u32)>(),
            mtime in moment(),
            times in [option::of(moment()), option::of(moment()), option::of(moment())],
            xattrs in vec((vec(0..2_u8, 1..3), vec(0..2_u8, 0..3)), 0..3),
            acls in [option::of(vec(0..2_u8, 0..3)), option::of(vec(0..2_u8, 0..3))],
        ) -> Entry {
            let [atime, ctime, created] = times;
            let [acl_access, acl_default] = acls;
            Entry {
                offset, path, kind, mode, uid, gid, mtime, atime, ctime, created, xattrs,
                acl_access, acl_default, ..Entry::default()
            }
        }
    }

    proptest! {
        #[test]
        fn entries_come_back_as_they_were(entries in vec((entry(), option::of(12..40_u32)), 0..12)) {
            let mut records = Records::default();
            let mut expected = Vec::new();
            let mut ino = 11;
            for (entry, ahead) in entries {
                let is_file = matches!(entry.kind, EntryKind::File { .. });
                let contents = ahead.filter(|_| is_file).map(|ahead| { ino += ahead; ino });
                records.push(&entry, contents.map(Ino::numbered));
                expected.push((entry, contents.unwrap_or(0)));
            }
            let mut reader = records.read();
            let mut entry = Entry::default();
            for expected in &expected {
                let contents = reader.next(&mut entry).unwrap();
                prop_assert_eq!((&entry, contents), (&expected.0, Some(expected.1)));
            }
            prop_assert_eq!(reader.next(&mut entry).unwrap(), None);
        }
    }

    #[test]
    fn an_entry_like_the_one_before_takes_few_bytes() {
        let mut records = Records::default();
        let mut entry = Entry {
            path: b"usr/share/doc/package/copyright".to_vec(),
            mode: 0o644,
            mtime: Time {
                seconds: 1_700_000_000,
                nanos: 0,
            },
            xattrs: vec![(b"security.selinux".to_vec(), vec![b'x'; 40])],
            ..Entry::default()
        };
        records.push(&entry, Some(Ino::numbered(12)));
        let first = records.size();
        entry.path = b"usr/share/doc/package/changelog".to_vec();
        entry.offset += 4096;
        records.push(&entry, Some(Ino::numbered(13)));
        assert!(records.size() - first < 32, "{}", records.size() - first);
    }
}
