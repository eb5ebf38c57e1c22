//! ACLs as they lie on disk, and what they make of the mode.
//!
//! The kernel keeps an access ACL and the nine permission bits of the mode in step: whichever is
//! set changes the other. What a tool wrote that did not know so gives other permissions than
//! `ls` shows, and no check of e2fsck's looks at it. Where the mode gives the group nothing, the
//! kernel does not even read the ACL (acl_permission_check).
//!
//! Source: Linux, fs/ext4/acl.c, fs/posix_acl.c and fs/namei.c.

/// e_name_index of the access ACL and of the default ACL of a directory, whose names are empty.
pub(super) const INDEX_ACCESS: u8 = 2;
pub(super) const INDEX_DEFAULT: u8 = 3;

/// The most bytes of a value that an ACL is looked for in.
pub(super) const SIZE_MAX: usize = 1 << 16;

const VERSION: [u8; 4] = [1, 0, 0, 0];

const USER_OBJ: u16 = 0x01;
const USER: u16 = 0x02;
const GROUP_OBJ: u16 = 0x04;
const GROUP: u16 = 0x08;
const MASK: u16 = 0x10;
const OTHER: u16 = 0x20;

/// An ACL as it lies on disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Acl {
    /// It has no entries, which is to the kernel as if it were not there.
    Empty,
    /// As an access ACL it belongs to these nine bits of the mode.
    Mode(u16),
    /// The kernel cannot read it, or could never have stored it.
    Malformed(&'static str),
}

impl Acl {
    /// Reads it as the kernel does, and checks what that checks when an ACL is set.
    pub(super) fn read(value: &[u8]) -> Self {
        match perms(value) {
            Err(why) => Self::Malformed(why),
            Ok(None) => Self::Empty,
            Ok(Some([user, group, other])) => Self::Mode(user << 6 | group << 3 | other),
        }
    }
}

/// The permissions of owner, group class and others.
fn perms(value: &[u8]) -> Result<Option<[u16; 3]>, &'static str> {
    const CUT: &str = "it ends within an entry";
    let Some(mut rest) = value.strip_prefix(&VERSION) else {
        return Err("it is not of version 1");
    };
    if rest.is_empty() {
        return Ok(None);
    }
    let (mut owner, mut owning, mut mask, mut other) = (None, None, None, None);
    let (mut last, mut names) = (0, false);
    while !rest.is_empty() {
        let (entry, after) = rest.split_first_chunk::<4>().ok_or(CUT)?;
        rest = after;
        let tag = u16::from_le_bytes([entry[0], entry[1]]);
        let perm = u16::from_le_bytes([entry[2], entry[3]]);
        if perm > 7 {
            return Err("an entry has unknown permissions");
        }
        if tag < last {
            return Err("its entries are out of order");
        }
        last = tag;
        let only = match tag {
            USER | GROUP => {
                let (id, after) = rest.split_first_chunk::<4>().ok_or(CUT)?;
                rest = after;
                if *id == [0xff; 4] {
                    return Err("an entry names nobody");
                }
                names = true;
                continue;
            }
            USER_OBJ => &mut owner,
            GROUP_OBJ => &mut owning,
            MASK => &mut mask,
            OTHER => &mut other,
            _ => return Err("an entry has an unknown tag"),
        };
        if only.replace(perm).is_some() {
            return Err("an entry is there twice");
        }
    }
    let (Some(owner), Some(owning), Some(other)) = (owner, owning, other) else {
        return Err("the entry of the owner, the owning group or others is missing");
    };
    if names && mask.is_none() {
        return Err("it names somebody and has no mask");
    }
    Ok(Some([owner, mask.unwrap_or(owning), other]))
}

/// The value of an attribute as it comes, kept as long as it may be an ACL.
#[derive(Default)]
pub(super) struct Gathered(Option<Vec<u8>>);

impl Gathered {
    pub(super) fn new(size: usize) -> Self {
        Self((size <= SIZE_MAX).then(Vec::new))
    }

    pub(super) fn push(&mut self, part: &[u8]) {
        let Some(bytes) = &mut self.0 else {
            return;
        };
        bytes.extend_from_slice(part);
        if !bytes.starts_with(&VERSION) {
            self.0 = None;
        }
    }

    /// The bytes as an ACL, once all of them have come.
    pub(super) fn finish(self) -> Acl {
        match self.0 {
            Some(bytes) => Acl::read(&bytes),
            None => Acl::Malformed("it is too large or not of version 1"),
        }
    }
}

/// How the bits of a mode that is not that of the ACL are at odds with it; `None` if they agree.
pub(super) fn disagreement(mode: u16, acl: u16) -> Option<String> {
    let permissions = mode & 0o777;
    if permissions == acl {
        return None;
    }
    let effect = match permissions & 0o070 {
        0 => ": the kernel does not heed the ACL",
        _ => "",
    };
    Some(format!(
        "the mode has the permissions {permissions:03o}, but the ACL is that of {acl:03o}{effect}"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(entries: &[(u16, u16, Option<u32>)]) -> Vec<u8> {
        let mut bytes = VERSION.to_vec();
        for (tag, perm, id) in entries {
            bytes.extend(tag.to_le_bytes());
            bytes.extend(perm.to_le_bytes());
            bytes.extend(id.iter().flat_map(|id| id.to_le_bytes()));
        }
        bytes
    }

    #[test]
    fn an_acl_is_that_of_a_mode() {
        let (owner, others) = ((USER_OBJ, 7, None), (OTHER, 1, None));
        for (between, mode) in [
            (vec![(GROUP_OBJ, 5, None)], 0o751),
            (vec![(GROUP_OBJ, 5, None), (MASK, 0, None)], 0o701),
            (
                vec![(USER, 7, Some(9)), (GROUP_OBJ, 0, None), (MASK, 6, None)],
                0o761,
            ),
            (
                vec![(GROUP_OBJ, 7, None), (GROUP, 7, Some(9)), (MASK, 4, None)],
                0o741,
            ),
        ] {
            let entries = [&[owner], &between[..], &[others]].concat();
            assert_eq!(Acl::read(&value(&entries)), Acl::Mode(mode));
        }
        assert_eq!(Acl::read(&VERSION), Acl::Empty);
    }

    #[test]
    fn what_the_kernel_would_not_have_is_malformed() {
        let good = value(&[
            (USER_OBJ, 7, None),
            (USER, 7, Some(9)),
            (GROUP_OBJ, 0, None),
            (MASK, 6, None),
            (OTHER, 0, None),
        ]);
        assert_eq!(Acl::read(&good), Acl::Mode(0o760));
        let is_malformed = |value: &[u8]| matches!(Acl::read(value), Acl::Malformed(_));
        for cut in 0..good.len() {
            assert!(cut == 4 || is_malformed(&good[..cut]), "{cut}");
        }
        for (at, byte) in [(0, 2), (4, 3), (6, 8), (16, 9), (20, 1), (24, 0)] {
            let mut bad = good.clone();
            bad[at] = byte;
            assert!(is_malformed(&bad), "{at}");
        }
        let mut nobody = good.clone();
        nobody[12..16].fill(255);
        assert!(is_malformed(&nobody));
        assert!(is_malformed(b"\x02\0\0\0\x01\0\x06\0\xff\xff\xff\xff"));
        assert!(is_malformed(b""));
    }

    #[test]
    fn every_bit_has_to_agree() {
        assert_eq!(disagreement(0o104_750, 0o750), None);
        let ignored = disagreement(0o100_600, 0o660).unwrap();
        assert!(ignored.contains("does not heed"), "{ignored}");
        for mode in [0o640, 0o661, 0o460] {
            let message = disagreement(mode, 0o660).unwrap();
            assert!(!message.contains("heed"), "{message}");
        }
    }

    #[test]
    fn a_value_is_gathered_while_it_may_be_an_acl() {
        let acl = value(&[(USER_OBJ, 7, None), (GROUP_OBJ, 0, None), (OTHER, 0, None)]);
        let mut gathered = Gathered::new(acl.len());
        acl.chunks(5).for_each(|part| gathered.push(part));
        assert_eq!(gathered.finish(), Acl::Mode(0o700));
        let mut other = Gathered::new(9);
        other.push(b"something");
        assert!(other.0.is_none());
        assert!(matches!(other.finish(), Acl::Malformed(_)));
    }
}
