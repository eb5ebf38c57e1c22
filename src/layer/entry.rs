//! The walk over a tar: headers put together to entries, contents handed on in pieces.

mod body;
mod bounds;
mod contents;

use super::blocks::{Blocks, padding, truncated};
use super::header::{BLOCK_SIZE, Header, until_nul};
use super::model::{ChunkSource, Entry, EntryKind, Piece, Reading, Time};
use super::pax::{self, AttributeNames, Extensions, Records};
use super::shape::{Names, WINDOWS};
use super::sparse::PaxSparse;
use crate::error::{Error, Result};
use crate::summary::{WarningKind, Warnings};
use body::Body;

/// Longer extension headers of one entry are an attack on memory.
const MAX_EXTENSION_BYTES: u64 = 1 << 20;

/// Reads the entries of an uncompressed layer.
///
/// Its errors, but for those of the source, name the entry's path, where that is known, and
/// the offset of its first header.
pub(crate) struct Entries<S> {
    blocks: Blocks<S>,
    pub(super) reading: Reading,
    max_entries: u64,
    entries: u64,
    /// The contents of an extension header.
    extension: Vec<u8>,
    extensions: Extensions,
    /// Bytes of extension headers since the last entry.
    extension_bytes: u64,
    /// Extension headers wait for their entry.
    pending: bool,
    body: Body,
    /// A block that was read before its turn.
    peeked: Option<[u8; BLOCK_SIZE]>,
    /// Path and offset of the current entry, for errors.
    path: Vec<u8>,
    offset: u64,
    ended: bool,
    names: Names,
    /// Whether archives that are no Linux layers are read all the same.
    accept_all: bool,
    warnings: Warnings,
}

impl<S: ChunkSource> Entries<S> {
    pub(crate) fn new(source: S, max_entries: u64) -> Self {
        Self {
            blocks: Blocks::new(source),
            reading: Reading::Full,
            max_entries,
            entries: 0,
            extension: Vec::new(),
            extensions: Extensions::default(),
            extension_bytes: 0,
            pending: false,
            body: Body::default(),
            peeked: None,
            path: Vec::new(),
            offset: 0,
            ended: false,
            names: Names::default(),
            accept_all: false,
            warnings: Warnings::default(),
        }
    }

    /// Takes another view of the tar.
    pub(crate) fn reading(mut self, reading: Reading) -> Self {
        self.reading = reading;
        self
    }

    /// Reads the headers of the next entry; false at the end of the archive. What was not
    /// read of the entry before is skipped.
    // Counted by benches/instructions.
    #[inline(never)]
    pub(crate) fn next(&mut self, entry: &mut Entry) -> Result<bool> {
        self.read_entry(entry).map_err(|error| self.locate(error))
    }

    /// The next piece of a file's contents. They are in order, without a gap, and add up to
    /// the file's size.
    pub(crate) fn next_piece(&mut self) -> Result<Option<Piece>> {
        self.read_piece().map_err(|error| self.locate(error))
    }

    /// Whether the layer had no bytes at all, once its end was found.
    pub(crate) fn is_empty(&self) -> bool {
        self.ended && self.blocks.offset() == 0
    }

    /// Names the entry; an error of the source tells of the blob instead.
    fn locate(&self, error: Error) -> Error {
        if self.blocks.failed() {
            return error;
        }
        let error = error.at_offset(self.offset);
        if self.path.is_empty() {
            return error;
        }
        error.at_path(&self.path)
    }

    fn read_entry(&mut self, entry: &mut Entry) -> Result<bool> {
        if self.ended {
            return Ok(false);
        }
        self.skip_body()?;
        self.begin(entry);
        let mut block = [0; BLOCK_SIZE];
        while self.read_header(&mut block)? {
            let header = match Header::parse(&block) {
                Ok(header) => header,
                Err(error) => return Err(self.judge_start(&block, error)),
            };
            match header.type_flag() {
                b'L' => {
                    self.read_extension(header.size()?)?;
                    self.extensions.gnu_path = non_empty(until_nul(&self.extension));
                }
                b'K' => {
                    self.read_extension(header.size()?)?;
                    self.extensions.gnu_link = non_empty(until_nul(&self.extension));
                }
                // Go knows neither of these, which are files to it then.
                b'X' | b'V' | b'A' if self.reading == Reading::Go => {
                    self.complete(&header, entry)?;
                    return Ok(true);
                }
                b'g' if self.reading == Reading::Go => {
                    self.complete_global(&header, entry)?;
                    return Ok(true);
                }
                // Solaris wrote X before POSIX chose x.
                b'x' | b'X' => {
                    self.read_extension(header.size()?)?;
                    if self.reading == Reading::Go {
                        self.forget_records(entry);
                    }
                    // Names without escapes are the same to all.
                    if memchr::memchr(b'%', &self.extension).is_some() {
                        let mut name = Vec::new();
                        header.read_path(&mut name);
                        let mode = header.mode().ok();
                        self.extensions.names = AttributeNames::of_writer(&name, mode);
                    }
                    for record in Records::new(&self.extension) {
                        let (key, value) = record?;
                        if self.reading == Reading::Full || !pax::is_ignored_by_go(key, entry) {
                            self.extensions.apply(key, value, self.reading, entry)?;
                        }
                    }
                }
                b'g' => self.read_global(&header)?,
                b'V' => self.skip_entry(&header, entry, "a volume label was skipped")?,
                b'A' => self.skip_entry(&header, entry, "a Solaris ACL was skipped")?,
                _ => {
                    self.complete(&header, entry)?;
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }

    /// Forgets the entry before.
    fn begin(&mut self, entry: &mut Entry) {
        entry.clear();
        if self.pending {
            self.extensions = Extensions::default();
            self.pending = false;
        }
        self.extension_bytes = 0;
        self.body.begin(0);
        self.path.clear();
        let peeked = usize::from(self.peeked.is_some()) * BLOCK_SIZE;
        self.offset = self.blocks.offset() - peeked as u64;
        entry.offset = self.offset;
    }

    /// Reads a header's block; false at the end of the archive.
    fn read_header(&mut self, block: &mut [u8; BLOCK_SIZE]) -> Result<bool> {
        let read = match &self.peeked {
            None => self.blocks.read(block)?,
            Some(peeked) => {
                *block = *peeked;
                self.peeked = None;
                BLOCK_SIZE
            }
        };
        let marked = match read {
            0 => false,
            BLOCK_SIZE if block[0] != 0 || !is_zero(block) => return Ok(true),
            BLOCK_SIZE => match self.blocks.read(block)? {
                0 => false,
                BLOCK_SIZE if is_zero(block) => true,
                // Readers disagree whether the archive ends here or goes on.
                BLOCK_SIZE => {
                    let error = Error::corrupt("a lone zero block stands between entries");
                    let both = [&[0; BLOCK_SIZE], &block[..]].concat();
                    return Err(self.judge_start(&both, error));
                }
                _ => return Err(truncated("a header")),
            },
            read => return Err(self.judge_start(&block[..read], truncated("a header"))),
        };
        if self.pending {
            return Err(match marked {
                true => Error::corrupt("an extension header has no entry behind it"),
                false => truncated("the headers of an entry"),
            });
        }
        self.ended = true;
        if !marked && !self.is_empty() {
            self.warnings.push(
                WarningKind::NoEndMarker,
                b"",
                "the archive ends without its marker of two zero blocks",
            );
        }
        Ok(false)
    }

    /// Reads what an extension header says of the next entry.
    fn read_extension(&mut self, size: u64) -> Result<()> {
        self.pending = true;
        self.read_extension_data(size)
    }

    fn read_extension_data(&mut self, size: u64) -> Result<()> {
        self.count_extension(size)?;
        self.extension.clear();
        let mut left = size;
        while left > 0 {
            let part = self.blocks.take(left)?;
            let part = part.ok_or_else(|| truncated("an extension header"))?;
            self.extension.extend_from_slice(&part);
            left -= part.len() as u64;
        }
        if !self.blocks.skip(padding(size))? {
            return Err(truncated("an extension header"));
        }
        Ok(())
    }

    fn count_extension(&mut self, bytes: u64) -> Result<()> {
        self.extension_bytes = self.extension_bytes.saturating_add(bytes);
        if self.extension_bytes > MAX_EXTENSION_BYTES {
            return Err(Error::limit(format!(
                "the extension headers of one entry exceed {MAX_EXTENSION_BYTES} bytes"
            )));
        }
        Ok(())
    }

    /// Reads a global header and ignores it, as container runtimes do: one layer must not
    /// unpack differently by the reader's taste.
    fn read_global(&mut self, header: &Header<'_>) -> Result<()> {
        self.read_extension_data(header.size()?)?;
        let mut ignored = None;
        for record in Records::new(&self.extension) {
            let (key, value) = record?;
            if let Some(why) = pax::refused_globally(key, value) {
                return Err(Error::unsupported(why));
            }
            if key != b"comment" {
                ignored = ignored.or(Some(key));
            }
        }
        if let Some(key) = ignored {
            let message = format!("a global header was ignored; it sets {}", pax::shown(key));
            self.warnings.push(WarningKind::GlobalHeader, b"", message);
        }
        Ok(())
    }

    /// Skips what is no file, with its extension headers.
    fn skip_entry(&mut self, header: &Header<'_>, entry: &mut Entry, why: &str) -> Result<()> {
        self.read_path(header, entry);
        self.warnings.push(WarningKind::Skipped, &self.path, why);
        let stored = self.stored(header)?;
        self.body.begin(stored);
        self.skip_body()?;
        self.begin(entry);
        Ok(())
    }

    /// Puts the entry together from its own header, the last, and its extension headers.
    fn complete(&mut self, header: &Header<'_>, entry: &mut Entry) -> Result<()> {
        self.read_path(header, entry);
        self.count_entry()?;
        if self.reading == Reading::Go {
            self.judge_sparse(header, entry)?;
        }
        if entry.path.is_empty() && self.reading == Reading::Full {
            return Err(Error::entry("the name is empty"));
        }
        if self.extensions.windows {
            if self.reading == Reading::Full {
                return Err(Error::unsupported(WINDOWS));
            }
            entry.wrong.push(WINDOWS.to_owned());
        }
        entry.mode = header.mode()?;
        let wrong = (self.reading == Reading::Go).then_some(&mut entry.wrong_inode);
        (entry.uid, entry.gid) = self.owner(header, wrong)?;
        entry.mtime = match self.extensions.mtime {
            Some(time) => time,
            None => Time {
                seconds: self.header_mtime(header)?,
                nanos: 0,
            },
        };
        if self.pending {
            pax::unite_xattrs(&mut entry.xattrs);
            self.judge_records()?;
        }
        if self.reading == Reading::Go {
            header.read_times(entry)?;
        }
        entry.kind = self.kind(header, entry)?;
        let is_directory = entry.kind == EntryKind::Directory;
        self.names.see(&entry.path, is_directory);
        // To Go it comes before all other names, and says nothing of the type.
        if self.reading == Reading::Go
            && let Some(name) = self.extensions.sparse.name.take()
        {
            entry.path = name;
            self.path.clone_from(&entry.path);
        }
        Ok(())
    }

    /// Seconds since 1970; 0, with a warning, where that cannot be read.
    fn header_mtime(&mut self, header: &Header<'_>) -> Result<i64> {
        match header.mtime() {
            Err(error) if self.reading == Reading::Full => {
                let message = format!("{error}: it is taken for 1970-01-01");
                self.warnings
                    .push(WarningKind::TimeUnreadable, &self.path, message);
                Ok(0)
            }
            mtime => mtime,
        }
    }

    /// Tells what of the records of extension headers is lost, and refuses what may not be.
    fn judge_records(&mut self) -> Result<()> {
        let extensions = &mut self.extensions;
        if let Some(why) = extensions.refused {
            return Err(Error::unsupported(why));
        }
        let warnings = &mut self.warnings;
        let mut warn = |kind, message: String| warnings.push(kind, &self.path, message);
        if extensions.nfs4_acl {
            warn(WarningKind::Skipped, "an NFSv4 ACL was skipped".to_owned());
        }
        if let Some(flags) = extensions.flags.take() {
            let flags = pax::shown(&flags);
            let message = format!("the file flags \"{flags}\" were left out: no layer sets any");
            warn(WarningKind::Skipped, message);
        }
        if let Some(key) = extensions.unknown.take() {
            let key = pax::shown(&key);
            let message = format!("the PAX record {key} was skipped: its meaning is not known");
            warn(WarningKind::Skipped, message);
        }
        for (key, unreadable) in pax::TIMES.iter().zip(&mut extensions.unreadable) {
            if let Some(value) = unreadable.take() {
                let value = pax::shown(&value);
                let message = format!("the PAX record {key} was skipped: \"{value}\" is no time");
                warn(WarningKind::TimeUnreadable, message);
            }
        }
        Ok(())
    }

    fn count_entry(&mut self) -> Result<()> {
        self.entries += 1;
        if self.entries > self.max_entries {
            return Err(Error::limit(format!(
                "the layer has more than {} entries",
                self.max_entries
            ))
            .allowed_by("max-entries"));
        }
        Ok(())
    }

    /// Leaves the records of a sparse file only where Go heeds them.
    fn judge_sparse(&mut self, header: &Header<'_>, entry: &mut Entry) -> Result<()> {
        let sparse = &mut self.extensions.sparse;
        if !sparse.present {
            return Ok(());
        }
        let has_contents = match header.type_flag() {
            0 => !entry.path.ends_with(b"/"),
            flag => !matches!(flag, b'1'..=b'6'),
        };
        if header.type_flag() != b'S' && sparse.is_known_to_go() {
            return match has_contents {
                true => Ok(()),
                false => Err(Error::corrupt("a sparse file that has no contents")),
            };
        }
        if has_contents || sparse.name.is_some() {
            let message = "the records of a sparse file are passed over";
            entry.wrong.push(message.to_owned());
        }
        *sparse = PaxSparse::default();
        Ok(())
    }

    fn owner(
        &self,
        header: &Header<'_>,
        mut wrong: Option<&mut Vec<String>>,
    ) -> Result<(u32, u32)> {
        let uid = self
            .extensions
            .uid
            .map_or_else(|| header.uid(), |id| Ok(id.into()))?;
        let gid = self
            .extensions
            .gid
            .map_or_else(|| header.gid(), |id| Ok(id.into()))?;
        let id = |name: &str, id: i128, wrong: Option<&mut Vec<String>>| {
            let message = match u32::try_from(id) {
                Ok(id) if id != u32::MAX => return Ok(id),
                _ => format!("the {name} {id} exceeds what Linux has"),
            };
            match wrong {
                None => Err(Error::entry(message)),
                Some(wrong) => {
                    wrong.push(format!("{message}: it is cut to 32 bits"));
                    Ok(id as u32)
                }
            }
        };
        let uid = id("uid", uid, wrong.as_deref_mut())?;
        Ok((uid, id("gid", gid, wrong)?))
    }

    /// Go makes an entry of a global header, of no contents; what comes before is lost to it.
    fn complete_global(&mut self, header: &Header<'_>, entry: &mut Entry) -> Result<()> {
        self.read_extension(header.size()?)?;
        self.extensions = Extensions::default();
        self.forget_records(entry);
        for record in Records::new(&self.extension) {
            let (key, value) = record?;
            if !pax::is_ignored_by_go(key, entry) {
                self.extensions.apply(key, value, self.reading, entry)?;
            }
        }
        self.read_path(header, entry);
        self.count_entry()?;
        pax::unite_xattrs(&mut entry.xattrs);
        (entry.mode, entry.uid, entry.gid) = (0, 0, 0);
        (entry.mtime, entry.atime, entry.ctime) = (Time::default(), None, None);
        entry
            .wrong
            .push("a global header is made a file".to_owned());
        entry.kind = EntryKind::File { size: 0 };
        Ok(())
    }

    /// Forgets what an extended header before said: to Go the last one counts.
    fn forget_records(&mut self, entry: &mut Entry) {
        self.extensions = Extensions {
            gnu_path: self.extensions.gnu_path.take(),
            gnu_link: self.extensions.gnu_link.take(),
            ..Extensions::default()
        };
        entry.xattrs.clear();
        (entry.atime, entry.ctime) = (None, None);
        entry.ignored.clear();
    }

    fn read_path(&mut self, header: &Header<'_>, entry: &mut Entry) {
        let extensions = &mut self.extensions;
        let path = extensions.gnu_path.take();
        let path = path.or_else(|| match self.reading {
            Reading::Full => extensions.sparse.name.take(),
            Reading::Go => None,
        });
        match path.or_else(|| extensions.path.take()) {
            Some(path) => entry.path = path,
            None => header.read_path(&mut entry.path),
        }
        self.path.clone_from(&entry.path);
    }

    /// The entry's type; begins its body.
    fn kind(&mut self, header: &Header<'_>, entry: &mut Entry) -> Result<EntryKind> {
        Ok(match header.type_flag() {
            flag if self.reading == Reading::Go && !flag_known_to_go(flag) => {
                let flag = flag.escape_ascii();
                let message = format!("an entry of type '{flag}' is made a file");
                entry.wrong.push(message);
                self.begin_file(header)?
            }
            // Before there was a type for directories, which is what Go knows of it.
            0 if entry.path.ends_with(b"/") => self.old_directory(header)?,
            b'0' | b'7' if self.reading == Reading::Full && entry.path.ends_with(b"/") => {
                self.old_directory(header)?
            }
            0 | b'0' | b'7' => self.begin_file(header)?,
            b'S' => self.begin_gnu_sparse(header)?,
            b'1' => EntryKind::HardLink(self.link(header)?),
            b'2' => EntryKind::Symlink(self.link(header)?),
            b'3' => {
                let (major, minor) = self.device(header, entry)?;
                EntryKind::CharDevice { major, minor }
            }
            b'4' => {
                let (major, minor) = self.device(header, entry)?;
                EntryKind::BlockDevice { major, minor }
            }
            b'5' => EntryKind::Directory,
            b'6' => EntryKind::Fifo,
            // A directory of an incremental dump, with a list of what was in it.
            b'D' => {
                let stored = self.stored(header)?;
                self.body.begin(stored);
                EntryKind::Directory
            }
            b'M' => {
                return Err(Error::unsupported(
                    "multi-volume archives are not supported",
                ));
            }
            other => {
                return Err(Error::unsupported(format!(
                    "entries of type '{}' are not supported",
                    other.escape_ascii()
                )));
            }
        })
    }

    /// A directory with the type of a file, of whatever size: some old writers put there what it
    /// takes on disk. What is no header behind it can only be its contents, which are left out.
    fn old_directory(&mut self, header: &Header<'_>) -> Result<EntryKind> {
        let size = self.stored(header)?;
        if self.reading == Reading::Go || size == 0 {
            return Ok(EntryKind::Directory);
        }
        let mut next = [0; BLOCK_SIZE];
        let read = self.blocks.read(&mut next)?;
        let lost = match read {
            0 => "its size",
            BLOCK_SIZE if is_zero(&next) || Header::parse(&next).is_ok() => {
                self.peeked = Some(next);
                "its size"
            }
            BLOCK_SIZE => {
                self.body.begin(size);
                self.body.consume_block();
                "its contents"
            }
            _ => return Err(truncated("the contents")),
        };
        let message = format!(
            "a file whose name ends in a slash is a directory: {lost} of {size} bytes was left out"
        );
        self.warnings
            .push(WarningKind::Skipped, &self.path, message);
        Ok(EntryKind::Directory)
    }

    fn link(&mut self, header: &Header<'_>) -> Result<Vec<u8>> {
        let extensions = &mut self.extensions;
        let link = extensions.gnu_link.take();
        let link = link.or_else(|| extensions.link.take());
        let link = link.unwrap_or_else(|| header.link_name().to_vec());
        if link.is_empty() && self.reading == Reading::Full {
            return Err(Error::entry("the target of the link is empty"));
        }
        Ok(link)
    }

    /// A device's numbers, which Linux packs into 12 and 20 bits.
    fn device(&self, header: &Header<'_>, entry: &mut Entry) -> Result<(u32, u32)> {
        let (major, minor) = header.device()?;
        let major = self.extensions.device_major.map_or(major, i128::from);
        let minor = self.extensions.device_minor.map_or(minor, i128::from);
        match (u32::try_from(major), u32::try_from(minor)) {
            (Ok(major), Ok(minor)) if major < 1 << 12 && minor < 1 << 20 => Ok((major, minor)),
            _ if self.reading == Reading::Go => {
                entry.wrong_inode.push(format!(
                    "the device {major}:{minor} is mangled: 12 bits and 20 are possible"
                ));
                Ok((major as u32, minor as u32))
            }
            _ => Err(Error::entry(format!(
                "the device {major}:{minor} has a major number over 12 bits or a minor over 20"
            ))),
        }
    }
}

/// Whether Go, or hcsshim after it, has a meaning for a type of entry.
fn flag_known_to_go(flag: u8) -> bool {
    matches!(flag, 0 | b'0'..=b'7' | b'S')
}

fn is_zero(block: &[u8; BLOCK_SIZE]) -> bool {
    block.iter().all(|byte| *byte == 0)
}

fn non_empty(bytes: &[u8]) -> Option<Vec<u8>> {
    (!bytes.is_empty()).then(|| bytes.to_vec())
}

#[cfg(test)]
mod tests;
