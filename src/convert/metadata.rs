//! Owner, mode, times and extended attributes: from an entry's to an inode's.

use crate::error::{Error, ErrorKind, Result};
use crate::ext4::acl::{Acl, Text};
use crate::ext4::inode::{Attributes, Timestamp};
use crate::ext4::xattr::{
    Attribute, INDEX_ACL_ACCESS, INDEX_ACL_DEFAULT, INDEX_TRUSTED, INDEX_USER, NAME_MAX, Set,
    VALUE_MAX, Value, split_name,
};
use crate::layer::{Entry, Time};
use crate::lower::LowerMetadata;
use crate::summary::{WarningKind, Warnings};

/// The kind of inode that attributes belong to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum InodeKind {
    File,
    Directory,
    Symlink,
    /// A device or a FIFO.
    Special,
}

/// The attributes of an entry, each once, that a link to it may have to hand on.
pub(super) struct Raw<'a> {
    pub path: &'a [u8],
    pub xattrs: &'a [(Vec<u8>, Vec<u8>)],
    pub acl_access: Option<&'a [u8]>,
    pub acl_default: Option<&'a [u8]>,
}

impl<'a> Raw<'a> {
    pub(super) fn of(entry: &'a Entry) -> Self {
        Self {
            path: &entry.path,
            xattrs: &entry.xattrs,
            acl_access: entry.acl_access.as_deref(),
            acl_default: entry.acl_default.as_deref(),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.xattrs.is_empty() && self.acl_access.is_none() && self.acl_default.is_none()
    }
}

/// When the file was made, if that is said.
pub(super) fn created(entry: &Entry, warnings: &mut Warnings) -> Option<Timestamp> {
    let created = entry.created?;
    let (timestamp, held) = Timestamp::new(created.seconds, created.nanos);
    if !held {
        warn_of_clamping(entry, warnings);
    }
    Some(timestamp)
}

fn warn_of_clamping(entry: &Entry, warnings: &mut Warnings) {
    warnings.push(
        WarningKind::TimeClamped,
        &entry.path,
        "a time outside 1901-12-13 to 2446-05-10 was moved to the nearest in it",
    );
}

/// Mode, owner and times; the mode is the caller's to change.
pub(super) fn attributes(entry: &Entry, warnings: &mut Warnings) -> Attributes {
    let mut exact = true;
    let mut timestamp = |time: Time| {
        let (timestamp, held) = Timestamp::new(time.seconds, time.nanos);
        exact &= held;
        timestamp
    };
    let mtime = timestamp(entry.mtime);
    let attributes = Attributes {
        mode: entry.mode,
        uid: entry.uid,
        gid: entry.gid,
        atime: entry.atime.map_or(mtime, &mut timestamp),
        ctime: entry.ctime.map_or(mtime, &mut timestamp),
        mtime,
    };
    if !exact {
        warn_of_clamping(entry, warnings);
    }
    attributes
}

/// Attributes taken over from the layers below.
pub(super) fn of_lower(lower: &LowerMetadata) -> Attributes {
    let (mtime, _) = Timestamp::new(lower.mtime.0, lower.mtime.1);
    Attributes {
        mode: lower.mode & 0o7777,
        uid: lower.uid,
        gid: lower.gid,
        atime: mtime,
        ctime: mtime,
        mtime,
    }
}

/// The extended attributes that an entry describes.
#[derive(Default)]
pub(super) struct Described {
    /// Those that the inode takes; an access ACL is here where there is one to store.
    pub set: Set,
    pub access: Access,
    /// It is said that there is no default ACL.
    pub no_default: bool,
}

/// The access ACL that an entry describes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Access {
    /// The entry has none; an ACL that is already there follows the entry's mode, as after chmod.
    #[default]
    Unsaid,
    /// There is none; the nine bits that the mode has instead of the header's.
    Absent(Option<u16>),
    /// There is one that had to be left out; the nine bits that leave owner, owning group and
    /// others what they have under it, which the header's would not where it has the mask's.
    Dropped(Option<u16>),
    /// There is one; the nine bits that it gives the mode, as after setxattr.
    Present(u16),
}

/// The attributes that an inode of a kind takes; the others are named in warnings.
///
/// In `whiteouts` mode a layer may not forge the state of overlayfs.
pub(super) fn describe(
    raw: &Raw<'_>,
    kind: InodeKind,
    whiteouts: bool,
    warnings: &mut Warnings,
) -> Result<Described> {
    let mut described = Described::default();
    let mut dropped = |name: &[u8], why: &str| {
        let name = crate::summary::display_path(name);
        let message = format!("the extended attribute {name} was left out: {why}");
        warnings.push(WarningKind::XattrDropped, raw.path, message);
    };
    let mut acls = [AclRecords::default(), AclRecords::default()];
    for (name, value) in raw.xattrs {
        match split_name(name) {
            None => dropped(name, "Linux has no place for its prefix"),
            Some((INDEX_TRUSTED, _)) if whiteouts => {
                dropped(name, "a layer may not set what overlayfs trusts");
            }
            Some((INDEX_USER, _)) if matches!(kind, InodeKind::Symlink | InodeKind::Special) => {
                dropped(name, "only files and directories have those");
            }
            Some((index @ (INDEX_ACL_ACCESS | INDEX_ACL_DEFAULT), _)) => {
                check_size(name, value)?;
                acls[usize::from(index == INDEX_ACL_DEFAULT)].raw = Some(value);
            }
            Some((index, rest)) => {
                check_size(name, value)?;
                let attribute = attribute(index, rest, value.as_slice().into());
                described.set.insert(attribute);
            }
        }
    }
    let [access, default] = &mut acls;
    (access.text, default.text) = (raw.acl_access, raw.acl_default);
    for (records, index) in [(access, INDEX_ACL_ACCESS), (default, INDEX_ACL_DEFAULT)] {
        let name: &[u8] = match index {
            INDEX_ACL_ACCESS => b"system.posix_acl_access",
            _ => b"system.posix_acl_default",
        };
        if records.raw.is_none() && records.text.is_none() {
            continue;
        }
        if let Some(why) = acl_misplaced(index, kind) {
            dropped(name, why);
            continue;
        }
        let said = records.read().map_err(|why| bad_acl(name, why))?;
        if matches!(said, Said::Unresolved(_)) {
            dropped(name, "it names a user or group without its number");
        }
        let is_access = index == INDEX_ACL_ACCESS;
        match said {
            Said::Acl(acl) if is_access && acl.is_mode_alone() => {
                described.access = Access::Absent(Some(acl.mode()));
            }
            Said::Acl(acl) => {
                if is_access {
                    described.access = Access::Present(acl.mode());
                }
                described.set.insert(attribute(index, b"", acl.to_disk()));
            }
            Said::Unresolved(mode) if is_access => described.access = Access::Dropped(mode),
            Said::Empty if is_access => described.access = Access::Absent(None),
            Said::Unresolved(_) | Said::Empty => described.no_default = true,
        }
    }
    Ok(described)
}

impl Described {
    /// Gives the access ACL the mode of a header that came after it.
    pub(super) fn follow(&mut self, mode: u16) {
        self.set.change(INDEX_ACL_ACCESS, b"", |value| {
            let mut acl = Acl::from_disk(value)?;
            acl.chmod(mode);
            Some(acl.to_disk())
        });
    }
}

/// The records of one ACL.
#[derive(Default)]
struct AclRecords<'a> {
    /// In the form of the system call.
    raw: Option<&'a [u8]>,
    text: Option<&'a [u8]>,
}

/// The ACL that its records make together.
enum Said {
    /// The records say that there is none.
    Empty,
    Acl(Acl),
    /// See [`Text::Unresolved`].
    Unresolved(Option<u16>),
}

impl AclRecords<'_> {
    /// The raw form wins, which has numbers for all names.
    fn read(&self) -> std::result::Result<Said, &'static str> {
        let raw = self.raw.map(Acl::from_xattr).transpose()?;
        let text = self.text.map(Acl::from_text).transpose()?;
        Ok(match (raw, text) {
            (Some(Some(acl)), _) | (_, Some(Text::Acl(acl))) => Said::Acl(acl),
            (_, Some(Text::Unresolved(mode))) => Said::Unresolved(mode),
            (_, None) => Said::Empty,
        })
    }
}

/// Refuses what the kernel could not give back.
fn check_size(name: &[u8], value: &[u8]) -> Result<()> {
    if name.len() > NAME_MAX || value.len() > VALUE_MAX {
        let (name, value) = (name.len(), value.len());
        return Err(Error::entry(format!(
            "an extended attribute with a name of {name} and a value of {value} bytes; at \
             most {NAME_MAX} and {VALUE_MAX} are possible"
        )));
    }
    Ok(())
}

fn attribute(index: u8, name: &[u8], value: Box<[u8]>) -> Attribute {
    Attribute {
        index,
        name: name.into(),
        value: Value::Bytes(value),
    }
}

fn bad_acl(name: &[u8], why: &str) -> Error {
    Error::entry(format!("{}: {why}", crate::summary::display_path(name)))
}

/// Why the kernel would not have such an ACL there.
fn acl_misplaced(index: u8, kind: InodeKind) -> Option<&'static str> {
    match (index, kind) {
        (_, InodeKind::Symlink) => Some("a symbolic link has no ACL"),
        (INDEX_ACL_DEFAULT, InodeKind::File | InodeKind::Special) => {
            Some("only a directory has a default ACL")
        }
        _ => None,
    }
}

/// Names the entry in an error that it caused. Errors of the input say where they are themselves.
pub(super) fn in_entry(error: Error, entry: &Entry) -> Error {
    match error.kind() {
        ErrorKind::Output | ErrorKind::StorageFull | ErrorKind::Cancelled | ErrorKind::Input => {
            error
        }
        _ if error.offset().is_some() => error,
        _ => error.at_path(&entry.path).at_offset(entry.offset),
    }
}
