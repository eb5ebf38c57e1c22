//! POSIX ACLs: from the system call's form, or from text, to the form on disk.
//!
//! Sources: Linux, include/uapi/linux/posix_acl_xattr.h and fs/ext4/acl.h; POSIX 1003.1e
//! draft 17 for the text.

use byteorder::{ByteOrder, LE};

const USER_OBJ: u16 = 0x01;
const USER: u16 = 0x02;
const GROUP_OBJ: u16 = 0x04;
const GROUP: u16 = 0x08;
const MASK: u16 = 0x10;
const OTHER: u16 = 0x20;

/// Version of the form that getxattr and setxattr speak.
const XATTR_VERSION: u32 = 2;
/// Version of the form on disk.
const DISK_VERSION: u32 = 1;

/// The identifier of no user and no group.
const NO_ID: u32 = u32::MAX;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct AclEntry {
    tag: u16,
    id: u32,
    perm: u16,
}

/// Converts the form of the system call (version 2, eight bytes an entry). `Ok(None)`: an ACL
/// without entries, which says that there is none.
pub(crate) fn from_xattr(value: &[u8]) -> Result<Option<Box<[u8]>>, &'static str> {
    let (head, rest) = value
        .split_at_checked(4)
        .ok_or("ACL is shorter than its header")?;
    if LE::read_u32(head) != XATTR_VERSION {
        return Err("ACL is not of version 2");
    }
    if rest.is_empty() {
        return Ok(None);
    }
    if rest.len() % 8 != 0 {
        return Err("ACL ends within an entry");
    }
    let entries = rest.chunks_exact(8).map(|entry| AclEntry {
        tag: LE::read_u16(entry),
        perm: LE::read_u16(&entry[2..]),
        id: LE::read_u32(&entry[4..]),
    });
    to_disk(entries.collect()).map(Some)
}

/// Converts the form on disk to that of the system call; `None` if it is damaged.
pub(crate) fn to_xattr(disk: &[u8]) -> Option<Vec<u8>> {
    let (head, mut rest) = disk.split_at_checked(4)?;
    if LE::read_u32(head) != DISK_VERSION {
        return None;
    }
    let mut out = XATTR_VERSION.to_le_bytes().to_vec();
    while !rest.is_empty() {
        let (entry, after) = rest.split_at_checked(4)?;
        out.extend_from_slice(entry);
        rest = after;
        let id = match LE::read_u16(entry) {
            USER | GROUP => {
                let (id, after) = rest.split_at_checked(4)?;
                rest = after;
                LE::read_u32(id)
            }
            _ => NO_ID,
        };
        out.extend(id.to_le_bytes());
    }
    Some(out)
}

/// Converts text as star, GNU tar and libarchive write it: `tag:name:rwx[:id]`, separated by
/// commas or line ends. `Ok(None)`: a name without a number, which nothing here can resolve.
pub(crate) fn from_text(text: &[u8]) -> Result<Option<Box<[u8]>>, &'static str> {
    let text = std::str::from_utf8(text).map_err(|_| "ACL is not text")?;
    let mut entries = Vec::new();
    for line in text.split([',', '\n']) {
        let line = line.split('#').next().unwrap_or_default().trim();
        let line = line.strip_prefix("default:").unwrap_or(line);
        if line.is_empty() {
            continue;
        }
        let mut fields = line.split(':').map(str::trim);
        let tag = fields.next().unwrap_or_default();
        // `mask:rwx` and `other:rwx` are common short forms.
        let rest: Vec<_> = fields.collect();
        let (name, perm, id) = match (tag, &rest[..]) {
            ("mask" | "m" | "other" | "o", [perm]) => ("", *perm, None),
            (_, [name, perm]) => (*name, *perm, None),
            (_, [name, perm, id]) => (*name, *perm, Some(*id)),
            _ => return Err("ACL entry is not of the form tag:name:permissions"),
        };
        let tag = match (tag, name.is_empty() && id.is_none()) {
            ("user" | "u", true) => USER_OBJ,
            ("user" | "u", false) => USER,
            ("group" | "g", true) => GROUP_OBJ,
            ("group" | "g", false) => GROUP,
            ("mask" | "m", true) => MASK,
            ("other" | "o", true) => OTHER,
            _ => return Err("ACL entry has an unknown tag"),
        };
        let mut bits = 0;
        for c in perm.chars() {
            bits |= match c {
                'r' => 4,
                'w' => 2,
                'x' => 1,
                '-' => 0,
                _ => return Err("ACL entry has unknown permissions"),
            };
        }
        let id = if matches!(tag, USER | GROUP) {
            match id.unwrap_or(name).parse() {
                Ok(id) => id,
                Err(_) => return Ok(None),
            }
        } else {
            NO_ID
        };
        entries.push(AclEntry {
            tag,
            perm: bits,
            id,
        });
    }
    if entries.is_empty() {
        return Err("ACL is empty");
    }
    let named = entries
        .iter()
        .any(|entry| matches!(entry.tag, USER | GROUP));
    if named && !entries.iter().any(|entry| entry.tag == MASK) {
        let class = entries
            .iter()
            .filter(|entry| matches!(entry.tag, USER | GROUP | GROUP_OBJ));
        let perm = class.fold(0, |all, entry| all | entry.perm);
        entries.push(AclEntry {
            tag: MASK,
            perm,
            id: NO_ID,
        });
    }
    entries.sort_unstable();
    to_disk(entries).map(Some)
}

/// Checks what the kernel checks (posix_acl_valid) and writes the short form.
fn to_disk(entries: Vec<AclEntry>) -> Result<Box<[u8]>, &'static str> {
    let count = |tag| entries.iter().filter(|entry| entry.tag == tag).count();
    let named = count(USER) + count(GROUP) > 0;
    if [USER_OBJ, GROUP_OBJ, OTHER]
        .iter()
        .any(|tag| count(*tag) != 1)
        || count(MASK) > 1
        || (named && count(MASK) == 0)
    {
        return Err("ACL lacks an entry or has one twice");
    }
    if entries.iter().any(|entry| entry.perm > 7) {
        return Err("ACL entry has unknown permissions");
    }
    if !entries.is_sorted_by_key(|entry| entry.tag) {
        return Err("ACL entries are out of order");
    }
    let mut out = DISK_VERSION.to_le_bytes().to_vec();
    for entry in entries {
        out.extend(entry.tag.to_le_bytes());
        out.extend(entry.perm.to_le_bytes());
        match entry.tag {
            USER | GROUP if entry.id == NO_ID => return Err("ACL entry names nobody"),
            USER | GROUP => out.extend(entry.id.to_le_bytes()),
            USER_OBJ | GROUP_OBJ | MASK | OTHER => {}
            _ => return Err("ACL entry has an unknown tag"),
        }
    }
    Ok(out.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// user::rw-, user:1000:r--, group::r--, mask::r--, other::---
    fn xattr() -> Vec<u8> {
        let mut value = vec![2, 0, 0, 0];
        for (tag, perm, id) in [
            (1u16, 6u16, NO_ID),
            (2, 4, 1000),
            (4, 4, NO_ID),
            (16, 4, NO_ID),
            (32, 0, NO_ID),
        ] {
            value.extend(tag.to_le_bytes());
            value.extend(perm.to_le_bytes());
            value.extend(id.to_le_bytes());
        }
        value
    }

    const DISK: [u8; 28] = [
        1, 0, 0, 0, 1, 0, 6, 0, 2, 0, 4, 0, 0xe8, 3, 0, 0, 4, 0, 4, 0, 16, 0, 4, 0, 32, 0, 0, 0,
    ];

    #[test]
    fn both_forms_give_the_form_on_disk() {
        assert_eq!(*from_xattr(&xattr()).unwrap().unwrap(), DISK);
        for text in [
            "user::rw-,user:lisa:r--:1000,group::r--,mask::r--,other::---",
            "user::rw-\nuser:1000:r--\ngroup::r--\nmask:r--\nother:---\n",
            "u::rw-,g::r--,o::---,u:1000:r--  # effective",
        ] {
            assert_eq!(
                *from_text(text.as_bytes()).unwrap().unwrap(),
                DISK,
                "{text}"
            );
        }
    }

    #[test]
    fn the_form_on_disk_gives_the_system_calls() {
        assert_eq!(to_xattr(&DISK).unwrap(), xattr());
        for damaged in [&DISK[..3], &DISK[..6], &DISK[..14], &[2, 0, 0, 0]] {
            assert_eq!(to_xattr(damaged), None, "{damaged:?}");
        }
    }

    #[test]
    fn no_entries_are_no_acl() {
        assert_eq!(from_xattr(&[2, 0, 0, 0]), Ok(None));
    }

    #[test]
    fn a_name_without_a_number_cannot_be_resolved() {
        let text = b"user::rw-,user:lisa:r--,group::r--,mask::r--,other::---";
        assert_eq!(from_text(text), Ok(None));
    }

    #[test]
    fn what_the_kernel_refuses_is_refused() {
        let mut cases = vec![vec![], xattr()[..11].to_vec(), xattr()[..12].to_vec()];
        for (at, byte) in [(0, 1), (6, 8), (4, 64), (16, 255)] {
            let mut value = xattr();
            value[at] = byte;
            if at == 16 {
                value[16..20].fill(255);
            }
            cases.push(value);
        }
        let mut swapped = xattr();
        swapped[4..20].rotate_left(8);
        cases.push(swapped);
        for value in cases {
            assert!(from_xattr(&value).is_err(), "{value:?}");
        }
        assert!(from_text(b"").is_err());
        assert!(from_text(b"user::rwz,group::r--,other::r--").is_err());
    }
}
