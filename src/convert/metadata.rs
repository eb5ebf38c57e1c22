//! Owner, mode, times and extended attributes: from an entry's to an inode's.

use crate::error::{Error, Result};
use crate::ext4::acl;
use crate::ext4::inode::{Attributes, Timestamp};
use crate::ext4::xattr::{
    Attribute, INDEX_ACL_ACCESS, INDEX_ACL_DEFAULT, INDEX_TRUSTED, INDEX_USER, NAME_MAX, Set,
    VALUE_MAX, Value, split_name,
};
use crate::layer::{Entry, Time};
use crate::options::LowerMetadata;
use crate::summary::{WarningKind, Warnings};

/// What kind of inode attributes are for.
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
        warnings.push(
            WarningKind::TimeClamped,
            &entry.path,
            "a time outside 1901-12-13 to 2446-05-10 was moved to the nearest in it",
        );
    }
    attributes
}

/// What a directory that no entry describes takes from the layers below.
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

/// The attributes that an inode of a kind takes; the others are named in warnings.
///
/// In `whiteouts` mode a layer may not forge the state of overlayfs.
pub(super) fn xattrs(
    raw: &Raw<'_>,
    kind: InodeKind,
    whiteouts: bool,
    warnings: &mut Warnings,
) -> Result<Set> {
    let mut set = Set::default();
    let mut dropped = |name: &[u8], why: &str| {
        let name = crate::summary::display_path(name);
        let message = format!("the extended attribute {name} was left out: {why}");
        warnings.push(WarningKind::XattrDropped, raw.path, message);
    };
    let texts = [
        (
            raw.acl_access,
            &b"system.posix_acl_access"[..],
            INDEX_ACL_ACCESS,
        ),
        (
            raw.acl_default,
            b"system.posix_acl_default",
            INDEX_ACL_DEFAULT,
        ),
    ];
    for (text, name, index) in texts {
        let Some(text) = text else { continue };
        if let Some(why) = acl_misplaced(index, kind) {
            dropped(name, why);
            continue;
        }
        match acl::from_text(text).map_err(|why| bad_acl(name, why))? {
            Some(value) => set.insert(attribute(index, b"", value)),
            None => dropped(name, "it names a user or group without its number"),
        }
    }
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
                if let Some(why) = acl_misplaced(index, kind) {
                    dropped(name, why);
                } else if let Some(value) =
                    acl::from_xattr(value).map_err(|why| bad_acl(name, why))?
                {
                    set.insert(attribute(index, b"", value));
                }
            }
            Some((index, rest)) => {
                check_size(name, value)?;
                set.insert(attribute(index, rest, value.as_slice().into()));
            }
        }
    }
    Ok(set)
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
