//! POSIX ACLs: from the system call's form, or from text, to the form on disk, and what they and
//! the mode are to each other.
//!
//! Sources: Linux, include/uapi/linux/posix_acl_xattr.h, fs/ext4/acl.h and fs/posix_acl.c; POSIX
//! 1003.1e draft 17 for the text.

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

/// An ACL that the kernel accepts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Acl(Vec<AclEntry>);

/// The meaning of an ACL's text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Text {
    /// An ACL.
    Acl(Acl),
    /// An ACL with a name that has no number, which nothing here can resolve; the permissions
    /// that owner, owning group and others have under it, if it says.
    Unresolved(Option<u16>),
}

impl Acl {
    /// Reads the form of the system call (version 2, eight bytes an entry). `Ok(None)`: an ACL
    /// without entries, which removes the one that is there.
    pub(crate) fn from_xattr(value: &[u8]) -> Result<Option<Self>, &'static str> {
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
        Self::valid(entries.collect()).map(Some)
    }

    /// Reads the form on disk; `None` if it is damaged.
    pub(crate) fn from_disk(disk: &[u8]) -> Option<Self> {
        Self::valid(entries_of_disk(disk)?).ok()
    }

    /// Reads text as star, GNU tar and libarchive write it: `tag:name:rwx[:id]`, separated by
    /// commas or line ends.
    pub(crate) fn from_text(text: &[u8]) -> Result<Text, &'static str> {
        let text = std::str::from_utf8(text).map_err(|_| "ACL is not text")?;
        let mut entries = Vec::new();
        let mut is_resolved = true;
        for line in text.split([',', '\n']) {
            let line = line.split('#').next().unwrap_or_default().trim();
            let line = line.strip_prefix("default:").unwrap_or(line);
            if line.is_empty() {
                continue;
            }
            let (entry, has_number) = entry_of_text(line)?;
            is_resolved &= has_number;
            entries.push(entry);
        }
        if entries.is_empty() {
            return Err("ACL is empty");
        }
        let named = |entry: &AclEntry| matches!(entry.tag, USER | GROUP);
        if entries.iter().any(named) && !entries.iter().any(|entry| entry.tag == MASK) {
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
        if is_resolved {
            return Self::valid(entries).map(Text::Acl);
        }
        // Numbers that are not known cannot be wrong; the rest must be right.
        for entry in entries.iter_mut().filter(|entry| named(entry)) {
            entry.id = entry.id.min(NO_ID - 1);
        }
        Ok(Text::Unresolved(
            Self::valid(entries).ok().map(|acl| acl.mode_without()),
        ))
    }

    /// Checks what the kernel checks (posix_acl_valid).
    fn valid(entries: Vec<AclEntry>) -> Result<Self, &'static str> {
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
        for entry in &entries {
            match entry.tag {
                USER | GROUP if entry.id == NO_ID => return Err("ACL entry names nobody"),
                USER_OBJ | USER | GROUP_OBJ | GROUP | MASK | OTHER => {}
                _ => return Err("ACL entry has an unknown tag"),
            }
        }
        Ok(Self(entries))
    }

    /// The short form that the disk has.
    pub(crate) fn to_disk(&self) -> Box<[u8]> {
        let mut out = DISK_VERSION.to_le_bytes().to_vec();
        for entry in &self.0 {
            out.extend(entry.tag.to_le_bytes());
            out.extend(entry.perm.to_le_bytes());
            if matches!(entry.tag, USER | GROUP) {
                out.extend(entry.id.to_le_bytes());
            }
        }
        out.into()
    }

    /// The permissions of an entry that there is at most once.
    fn perm(&self, tag: u16) -> Option<u16> {
        let mut entries = self.0.iter();
        entries
            .find(|entry| entry.tag == tag)
            .map(|entry| entry.perm)
    }

    /// The nine bits of the mode once this is a file's access ACL (posix_acl_update_mode): the
    /// group's are those of the mask, or of the owning group where there is no mask.
    pub(crate) fn mode(&self) -> u16 {
        let perm = |tag| self.perm(tag).unwrap_or(0);
        let group = self.perm(MASK).unwrap_or_else(|| perm(GROUP_OBJ));
        perm(USER_OBJ) << 6 | group << 3 | perm(OTHER)
    }

    /// Whether the mode says all that the ACL says (posix_acl_equiv_mode): the kernel stores no
    /// such access ACL.
    pub(crate) fn is_mode_alone(&self) -> bool {
        let mut entries = self.0.iter();
        entries.all(|entry| matches!(entry.tag, USER_OBJ | GROUP_OBJ | OTHER))
    }

    /// The nine bits of a mode that leaves owner, owning group and others what they have under
    /// this ACL: the mask may give a group more than its own entry, or less.
    pub(crate) fn mode_without(&self) -> u16 {
        let group = self.perm(GROUP_OBJ).unwrap_or(0) & self.perm(MASK).unwrap_or(7);
        self.mode() & 0o707 | group << 3
    }

    /// Changes the access ACL of a file that gets another mode (posix_acl_chmod): the bits of the
    /// group go to the mask, or to the owning group where there is no mask.
    pub(crate) fn chmod(&mut self, mode: u16) {
        let group = match self.perm(MASK) {
            Some(_) => MASK,
            None => GROUP_OBJ,
        };
        for entry in &mut self.0 {
            match entry.tag {
                USER_OBJ => entry.perm = mode >> 6 & 7,
                OTHER => entry.perm = mode & 7,
                tag if tag == group => entry.perm = mode >> 3 & 7,
                _ => {}
            }
        }
    }
}

/// Converts the form on disk to that of the system call; `None` if it is damaged.
pub(crate) fn to_xattr(disk: &[u8]) -> Option<Vec<u8>> {
    let mut out = XATTR_VERSION.to_le_bytes().to_vec();
    for entry in entries_of_disk(disk)? {
        out.extend(entry.tag.to_le_bytes());
        out.extend(entry.perm.to_le_bytes());
        out.extend(entry.id.to_le_bytes());
    }
    Some(out)
}

/// The entries of the form on disk, as far as they can be told apart.
fn entries_of_disk(disk: &[u8]) -> Option<Vec<AclEntry>> {
    let (head, mut rest) = disk.split_at_checked(4)?;
    if LE::read_u32(head) != DISK_VERSION {
        return None;
    }
    let mut entries = Vec::new();
    while !rest.is_empty() {
        let (entry, after) = rest.split_at_checked(4)?;
        rest = after;
        let (tag, perm) = (LE::read_u16(entry), LE::read_u16(&entry[2..]));
        let id = match tag {
            USER | GROUP => {
                let (id, after) = rest.split_at_checked(4)?;
                rest = after;
                LE::read_u32(id)
            }
            _ => NO_ID,
        };
        entries.push(AclEntry { tag, id, perm });
    }
    Some(entries)
}

/// An entry, and whether it has a number where it needs one.
fn entry_of_text(line: &str) -> Result<(AclEntry, bool), &'static str> {
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
    let mut entry = AclEntry {
        tag,
        perm: bits,
        id: NO_ID,
    };
    if !matches!(tag, USER | GROUP) {
        return Ok((entry, true));
    }
    match id.unwrap_or(name).parse() {
        Ok(id) => {
            entry.id = id;
            Ok((entry, true))
        }
        Err(_) => Ok((entry, false)),
    }
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

    fn of(text: &str) -> Acl {
        match Acl::from_text(text.as_bytes()) {
            Ok(Text::Acl(acl)) => acl,
            other => panic!("{text}: {other:?}"),
        }
    }

    #[test]
    fn both_forms_give_the_form_on_disk() {
        let from_xattr = Acl::from_xattr(&xattr()).unwrap().unwrap();
        assert_eq!(*from_xattr.to_disk(), DISK);
        for text in [
            "user::rw-,user:lisa:r--:1000,group::r--,mask::r--,other::---",
            "user::rw-\nuser:1000:r--\ngroup::r--\nmask:r--\nother:---\n",
            "u::rw-,g::r--,o::---,u:1000:r--  # effective",
        ] {
            assert_eq!(*of(text).to_disk(), DISK, "{text}");
        }
        assert_eq!(Acl::from_disk(&DISK), Some(from_xattr));
    }

    #[test]
    fn the_form_on_disk_gives_the_system_calls() {
        assert_eq!(to_xattr(&DISK).unwrap(), xattr());
        for damaged in [&DISK[..3], &DISK[..6], &DISK[..14], &[2, 0, 0, 0]] {
            assert_eq!(to_xattr(damaged), None, "{damaged:?}");
            assert_eq!(Acl::from_disk(damaged), None, "{damaged:?}");
        }
    }

    #[test]
    fn no_entries_are_no_acl() {
        assert_eq!(Acl::from_xattr(&[2, 0, 0, 0]), Ok(None));
    }

    /// posix_acl_equiv_mode, and what `setfacl -b` leaves.
    #[test]
    fn the_mode_has_the_mask_and_without_the_acl_what_the_group_has() {
        for (text, mode, is_alone, without) in [
            ("u::rwx,g::r-x,o::---", 0o750, true, 0o750),
            ("u::---,g::---,o::rwx", 0o007, true, 0o007),
            ("u::rw-,g::r--,m::rw-,o::r--", 0o664, false, 0o644),
            ("u::rw-,g::rw-,m::r--,o::---", 0o640, false, 0o640),
            ("u::rw-,g::rw-,m::---,o::---", 0o600, false, 0o600),
            ("u::rw-,u:1:rwx,g::---,o::---", 0o670, false, 0o600),
            ("u::rw-,g:1:-w-,g::r--,o::---", 0o660, false, 0o640),
            ("u::rw-,u:1:rwx,g::r-x,m::-wx,o::r--", 0o634, false, 0o614),
        ] {
            let acl = of(text);
            let got = (acl.mode(), acl.is_mode_alone(), acl.mode_without());
            assert_eq!(got, (mode, is_alone, without), "{text}");
        }
    }

    #[test]
    fn another_mode_changes_the_mask_or_the_group() {
        for (text, mode, changed) in [
            (
                "u::rwx,u:1:rwx,g::rwx,m::rwx,o::rwx",
                0o751,
                "u::rwx,u:1:rwx,g::rwx,m::r-x,o::--x",
            ),
            ("u::---,g::---,o::---", 0o754, "u::rwx,g::r-x,o::r--"),
            (
                "u::rw-,g::r--,m::rw-,o::r--",
                0o7000,
                "u::---,g::r--,m::---,o::---",
            ),
        ] {
            let mut acl = of(text);
            acl.chmod(mode);
            assert_eq!(acl, of(changed), "{text}");
            assert_eq!(acl.mode(), mode & 0o777, "{text}");
        }
    }

    #[test]
    fn a_name_without_a_number_cannot_be_resolved() {
        for (text, mode) in [
            (
                "user::rw-,user:lisa:r--,group::r--,mask::rw-,other::---",
                Some(0o640),
            ),
            (
                "user::rw-,group:staff:rwx,group::---,other::r--",
                Some(0o604),
            ),
            ("user:lisa:rw-,group::r--", None),
        ] {
            let unresolved = Ok(Text::Unresolved(mode));
            assert_eq!(Acl::from_text(text.as_bytes()), unresolved, "{text}");
        }
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
            assert!(Acl::from_xattr(&value).is_err(), "{value:?}");
        }
        assert!(Acl::from_text(b"").is_err());
        assert!(Acl::from_text(b"user::rwz,group::r--,other::r--").is_err());
    }
}
