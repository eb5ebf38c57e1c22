//! Access ACLs and the mode, which are one thing told twice: what the kernel leaves of both when
//! it sets them is what a converted layer has, whatever record brought them.

use std::io;

use tar2vhd::WarningKind;
use tar2vhd::lower::{LowerEntry, LowerKind, LowerLayers, LowerMetadata};

use crate::common::entry::{Entry, block_device, char_device, dir, fifo, file, link, symlink};
use crate::common::layer::{Image, layer, layer_with, options};
use crate::common::tree::text;

const USER_OBJ: u16 = 0x01;
const USER: u16 = 0x02;
const GROUP_OBJ: u16 = 0x04;
const GROUP: u16 = 0x08;
const MASK: u16 = 0x10;
const OTHER: u16 = 0x20;
const NO_ID: u32 = u32::MAX;

const ACCESS: &str = "system.posix_acl_access";
const DEFAULT: &str = "system.posix_acl_default";

type Acl = Vec<(u16, u16, u32)>;

/// Of owner, owning group and others, with a mask and names as they are given.
fn acl(
    [user, group, other]: [u16; 3],
    mask: Option<u16>,
    users: &[(u32, u16)],
    groups: &[(u32, u16)],
) -> Acl {
    let mut entries = vec![(USER_OBJ, user, NO_ID)];
    entries.extend(users.iter().map(|(id, perm)| (USER, *perm, *id)));
    entries.push((GROUP_OBJ, group, NO_ID));
    entries.extend(groups.iter().map(|(id, perm)| (GROUP, *perm, *id)));
    entries.extend(mask.map(|perm| (MASK, perm, NO_ID)));
    entries.push((OTHER, other, NO_ID));
    entries
}

/// The form of the system call.
fn raw(acl: &Acl) -> Vec<u8> {
    let mut bytes = 2_u32.to_le_bytes().to_vec();
    for (tag, perm, id) in acl {
        bytes.extend_from_slice(&tag.to_le_bytes());
        bytes.extend_from_slice(&perm.to_le_bytes());
        bytes.extend_from_slice(&id.to_le_bytes());
    }
    bytes
}

/// An ACL without entries, which removes the one that is there.
const EMPTY: [u8; 4] = [2, 0, 0, 0];

/// The form of star, with a number for each name.
fn written(acl: &Acl) -> String {
    let entries = acl.iter().map(|(tag, perm, id)| {
        let who = match *tag {
            USER_OBJ => "user:".to_owned(),
            USER => format!("user:u{id}"),
            GROUP_OBJ => "group:".to_owned(),
            GROUP => format!("group:g{id}"),
            MASK => "mask:".to_owned(),
            _ => "other:".to_owned(),
        };
        let bit = |bit: u16, letter| if perm & bit != 0 { letter } else { '-' };
        let number = match *tag {
            USER | GROUP => format!(":{id}"),
            _ => String::new(),
        };
        format!(
            "{who}:{}{}{}{number}",
            bit(4, 'r'),
            bit(2, 'w'),
            bit(1, 'x')
        )
    });
    entries.collect::<Vec<_>>().join(",")
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::new();
    for chunk in bytes.chunks(3) {
        let word = chunk
            .iter()
            .enumerate()
            .fold(0, |word, (i, byte)| word | u32::from(*byte) << (16 - 8 * i));
        for i in 0..=chunk.len() {
            out.push(char::from(DIGITS[(word >> (18 - 6 * i) & 63) as usize]));
        }
    }
    out
}

/// The nine bits that the kernel gives the mode of a file with this access ACL.
fn bits(acl: &Acl) -> u32 {
    let perm = |wanted| {
        let mut entries = acl.iter().filter(|(tag, ..)| *tag == wanted);
        entries.next().map(|(_, perm, _)| u32::from(*perm))
    };
    let group = perm(MASK).or(perm(GROUP_OBJ)).unwrap();
    perm(USER_OBJ).unwrap() << 6 | group << 3 | perm(OTHER).unwrap()
}

/// Each with its name: without and with names and masks, these wider and narrower than the rest.
fn shapes() -> Vec<(&'static str, Acl)> {
    vec![
        ("minimal", acl([7, 5, 0], None, &[], &[])),
        ("minimal-open", acl([4, 0, 7], None, &[], &[])),
        ("mask-alone", acl([6, 4, 0], Some(6), &[], &[])),
        ("mask-alone-narrow", acl([6, 6, 0], Some(4), &[], &[])),
        ("user", acl([6, 0, 0], Some(6), &[(1042, 6)], &[])),
        ("user-narrow", acl([6, 7, 0], Some(4), &[(1042, 7)], &[])),
        ("user-denied", acl([7, 5, 7], Some(7), &[(1042, 0)], &[])),
        ("empty-mask", acl([7, 7, 4], Some(0), &[(1042, 7)], &[])),
        ("group", acl([6, 0, 0], Some(6), &[], &[(2000, 6)])),
        ("group-narrow", acl([6, 6, 4], Some(2), &[], &[(2000, 7)])),
        (
            "all",
            acl(
                [7, 1, 0],
                Some(5),
                &[(1001, 4), (1042, 7), (70_000, 2)],
                &[(1001, 4), (2000, 6)],
            ),
        ),
    ]
}

/// The ACL that a file has where one can be read.
#[track_caller]
fn assert_acl(image: &Image, path: &str, name: &str, wanted: Option<&Acl>) {
    if let Some(xattrs) = &image.at(path).xattrs {
        let found = xattrs.get(name.as_bytes()).map(|value| text(value));
        assert_eq!(found, wanted.map(|acl| text(&raw(acl))), "{path}");
    }
}

/// Mode and access ACL.
#[track_caller]
fn assert_access(image: &Image, path: &str, mode: u32, wanted: Option<&Acl>) {
    assert_eq!(
        format!("{:o}", image.at(path).mode),
        format!("{mode:o}"),
        "{path}"
    );
    assert_acl(image, path, ACCESS, wanted);
}

// SCHILY.acl.access, SCHILY.xattr and LIBARCHIVE.xattr | the mode's group bits become the mask's

#[test]
fn the_mode_follows_the_acl_whatever_record_brought_it() {
    for (name, acl) in shapes() {
        let stored = acl.len() > 3;
        let kinds: [fn(&str) -> Entry; 5] = [
            |path| file(path, "data"),
            |path| dir(path),
            |path| char_device(path, 1, 3),
            |path| block_device(path, 7, 0),
            |path| fifo(path),
        ];
        let spellings: [fn(Entry, &Acl) -> Entry; 4] = [
            |entry, acl| entry.record("SCHILY.acl.access", written(acl)),
            |entry, acl| entry.xattr(ACCESS, raw(acl)),
            |entry, acl| entry.record(format!("LIBARCHIVE.xattr.{ACCESS}"), base64(&raw(acl))),
            |entry, acl| {
                let text = entry.record("SCHILY.acl.access", written(acl));
                text.xattr(ACCESS, raw(acl))
            },
        ];
        let mut entries = Vec::new();
        for (k, kind) in kinds.iter().enumerate() {
            for (s, spelling) in spellings.iter().enumerate() {
                // A header as bsdtar writes it, one that denies everything, one that allows it.
                for (m, mode) in [0o640, 0o4000, 0o1777].into_iter().enumerate() {
                    let entry = kind(&format!("{k}.{s}.{m}")).mode(mode);
                    entries.push(spelling(entry, &acl));
                }
            }
        }
        let image = layer(&entries);
        image.assert_no_warnings();
        for entry in &entries {
            let mode = entry.mode & 0o7000 | bits(&acl);
            let path = text(&entry.path);
            assert_access(&image, &path, mode, stored.then_some(&acl));
            assert!(image.at(&path).mode == mode, "{name}");
        }
    }
}

#[test]
fn the_raw_form_wins_over_text_that_names_nobody_known() {
    let named = "user::rwx,user:joe:rwx,group::r--,mask::rwx,other::---";
    let acl = acl([7, 4, 0], Some(6), &[(1042, 6)], &[]);
    let both = file("f", "")
        .record("SCHILY.acl.access", named)
        .xattr(ACCESS, raw(&acl));
    let image = layer(&[both]);
    image.assert_no_warnings();
    assert_access(&image, "f", 0o760, Some(&acl));
}

#[test]
fn a_default_acl_leaves_the_mode_and_is_kept_with_three_entries_too() {
    for (_, acl) in shapes() {
        let image = layer(&[
            dir("raw").mode(0o2751).xattr(DEFAULT, raw(&acl)),
            dir("text")
                .mode(0o2751)
                .record("SCHILY.acl.default", written(&acl)),
        ]);
        image.assert_no_warnings();
        for path in ["raw", "text"] {
            assert_access(&image, path, 0o2751, None);
            assert_acl(&image, path, DEFAULT, Some(&acl));
        }
    }
}

// one that is dropped leaves what the owning group has under it

#[test]
fn a_dropped_acl_leaves_owner_group_and_others_what_they_have_under_it() {
    for (acl, header, mode) in [
        (
            "user::rwx,user:joe:rwx,group::r--,mask::rwx,other::---",
            0o4770,
            0o4740,
        ),
        (
            "user::rw-,group::rwx,group:staff:r--,mask::r--,other::---",
            0o670,
            0o640,
        ),
        ("u::rw-,u:joe:rwx,g::---,o::r--", 0o674, 0o604),
        // Without the entries of owner, group and others it says nothing of the mode.
        ("user:joe:rwx", 0o640, 0o640),
    ] {
        for entry in [file("x", ""), dir("x"), fifo("x")] {
            let image = layer(&[entry.mode(header).record("SCHILY.acl.access", acl)]);
            assert_access(&image, "x", mode, None);
            image.assert_warnings(&[(WarningKind::XattrDropped, "x")]);
        }
    }
    let link = symlink("s", "t").record("SCHILY.acl.access", "u::rw-,g::r--,o::---");
    let image = layer(&[link]);
    assert_access(&image, "s", 0o777, None);
    image.assert_warnings(&[(WarningKind::XattrDropped, "s")]);
}

// the same path again, and hard links: the last header's mode changes the ACL as chmod does

/// Named user, mask and others of a mode.
fn with_mode(mode: u16) -> Acl {
    acl(
        [mode >> 6 & 7, 5, mode & 7],
        Some(mode >> 3 & 7),
        &[(1042, 7)],
        &[],
    )
}

#[test]
fn a_later_header_of_a_directory_changes_the_acl_as_chmod_does() {
    let first = || dir("d").mode(0o777).xattr(ACCESS, raw(&with_mode(0o770)));
    let named = "user::rwx,user:joe:rwx,group::r-x,mask::rwx,other::---";
    let last: [(Entry, u32, Option<Acl>); 7] = [
        (dir("d").mode(0o1751), 0o1751, Some(with_mode(0o751))),
        (dir("d").mode(0o700), 0o700, Some(with_mode(0o700))),
        (
            dir("d").mode(0o700).xattr(ACCESS, raw(&with_mode(0o757))),
            0o757,
            Some(with_mode(0o757)),
        ),
        (dir("d").mode(0o711).xattr(ACCESS, EMPTY), 0o711, None),
        (
            dir("d").xattr(ACCESS, raw(&acl([7, 1, 0], None, &[], &[]))),
            0o710,
            None,
        ),
        (
            dir("d").mode(0o770).record("SCHILY.acl.access", named),
            0o750,
            None,
        ),
        (
            dir("d").mode(0o751).xattr("user.a", "v"),
            0o751,
            Some(with_mode(0o751)),
        ),
    ];
    for (last, mode, acl) in last {
        for first in [first(), first().xattr(DEFAULT, raw(&with_mode(0o640)))] {
            let has_default = first.xattrs.len() > 1;
            let image = layer(&[first, file("d/f", ""), last.clone()]);
            assert_access(&image, "d", mode, acl.as_ref());
            let default = has_default.then(|| with_mode(0o640));
            assert_acl(&image, "d", DEFAULT, default.as_ref());
        }
    }
    // Of the root, too.
    let image = layer(&[
        dir("./").xattr(ACCESS, raw(&with_mode(0o770))),
        dir("./").mode(0o711),
    ]);
    assert_access(&image, "", 0o711, Some(&with_mode(0o711)));
}

#[test]
fn an_empty_default_acl_removes_the_one_before() {
    let first = dir("d").xattr(DEFAULT, raw(&with_mode(0o640)));
    let image = layer(&[first, dir("d").xattr(DEFAULT, EMPTY)]);
    assert_acl(&image, "d", DEFAULT, None);
}

#[test]
fn the_last_header_of_a_hard_link_changes_the_acl_as_chmod_does() {
    let with_acl = |entry: Entry, mode| entry.mode(0o644).xattr(ACCESS, raw(&with_mode(mode)));
    for first in [file("f", "data"), fifo("f"), char_device("f", 1, 3)] {
        for (last, mode, acl) in [
            (link("l", "f").mode(0o640), 0o640, Some(with_mode(0o640))),
            (
                with_acl(link("l", "f"), 0o607),
                0o607,
                Some(with_mode(0o607)),
            ),
            (link("l", "f").mode(0o604).xattr(ACCESS, EMPTY), 0o604, None),
        ] {
            let image = layer(&[with_acl(first.clone(), 0o670), last]);
            image.assert_linked("f", "l");
            assert_access(&image, "f", mode, acl.as_ref());
        }
        // Before its target: the target's header is the last.
        let forward = || with_acl(link("l", "f"), 0o670);
        let image = layer(&[forward(), first.clone().mode(0o604)]);
        assert_access(&image, "l", 0o604, Some(&with_mode(0o604)));
        let image = layer(&[forward(), with_acl(first, 0o611)]);
        assert_access(&image, "l", 0o611, Some(&with_mode(0o611)));
    }
}

#[test]
fn a_target_without_an_acl_takes_none_of_a_link_before_it() {
    let minimal = acl([6, 4, 0], None, &[], &[]);
    let named = "user::rw-,user:joe:rwx,group::r--,mask::rwx,other::---";
    let forward = || {
        link("l", "f")
            .mode(0o670)
            .xattr(ACCESS, raw(&with_mode(0o670)))
    };
    for (target, mode) in [
        (
            file("f", "").mode(0o670).xattr(ACCESS, raw(&minimal)),
            0o640,
        ),
        (
            file("f", "")
                .mode(0o670)
                .record("SCHILY.acl.access", written(&minimal)),
            0o640,
        ),
        (file("f", "").mode(0o670).xattr(ACCESS, EMPTY), 0o670),
        // One that has to be left out.
        (
            file("f", "").mode(0o670).record("SCHILY.acl.access", named),
            0o640,
        ),
    ] {
        let image = layer(&[forward(), target]);
        image.assert_linked("f", "l");
        assert_access(&image, "f", mode, None);
    }
    // The link's own names stay, and so does the ACL where the target's header is silent.
    let image = layer(&[forward().xattr("user.a", "b"), file("f", "").mode(0o604)]);
    assert_access(&image, "f", 0o604, Some(&with_mode(0o604)));
    let minimal = file("f", "").mode(0o640).xattr(ACCESS, raw(&minimal));
    let image = layer(&[forward().xattr("user.a", "b"), minimal]);
    image.assert_xattrs("f", &[("user.a", "b")]);
}

#[test]
fn a_hard_link_does_not_give_back_what_a_dropped_acl_took() {
    let named = "user::rwx,user:joe:rwx,group::r--,mask::rwx,other::---";
    let with_acl = |entry: Entry| entry.mode(0o770).record("SCHILY.acl.access", named);
    for (entries, mode) in [
        // As GNU tar writes them: the mode has the mask, and the link no record.
        ([with_acl(file("f", "")), link("l", "f").mode(0o770)], 0o740),
        ([with_acl(link("l", "f")), file("f", "").mode(0o770)], 0o740),
        // Another mode says something new.
        ([with_acl(file("f", "")), link("l", "f").mode(0o750)], 0o750),
        ([with_acl(link("l", "f")), file("f", "").mode(0o750)], 0o750),
    ] {
        let image = layer(&entries);
        assert_access(&image, "f", mode, None);
        image.assert_linked("f", "l");
    }
}

// what layers below say of a parent

/// Has one directory, whose mode and ACL disagree.
struct Lower(Vec<(Vec<u8>, Vec<u8>)>);

impl LowerLayers for Lower {
    fn lookup(&self, path: &[u8]) -> io::Result<Option<LowerEntry>> {
        Ok((path == b"d").then(|| {
            let mut metadata = LowerMetadata::new(0o1707, 0, 0);
            metadata.xattrs = self.0.clone();
            LowerEntry::new(LowerKind::Directory, metadata)
        }))
    }
}

#[test]
fn a_parent_of_the_layers_below_has_the_mode_of_its_acl() {
    for (acl, mode, stored) in [
        (with_mode(0o750), 0o1750, true),
        (acl([7, 5, 0], None, &[], &[]), 0o1750, false),
    ] {
        let lower = Lower(vec![
            (ACCESS.into(), raw(&acl)),
            (DEFAULT.into(), raw(&acl)),
        ]);
        let options = options().lower_layers(lower);
        let image = layer_with(&[file("d/f", "")], &options);
        assert_access(&image, "d", mode, stored.then_some(&acl));
        assert_acl(&image, "d", DEFAULT, Some(&acl));
    }
}

#[cfg(target_os = "linux")]
mod against_the_kernel;
