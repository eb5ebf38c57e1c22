//! hcsshim's bytes.

use std::collections::BTreeSet;
use std::env;
use std::fs;
use std::path::Path;

use proptest::prelude::*;
use sha2::{Digest, Sha256};
use tar2vhd::disk::DiskOutput;
use tar2vhd::verity::Verity;
use tar2vhd::{Error, ErrorKind, Options, Profile, WarningKind};

use crate::common::entry::{
    Entry, Kind, Segment, char_device, dir, fifo, file, link, marker, sparse, symlink,
};
use crate::common::layer::{convert, options};
use crate::common::oracle::{run, shown};
use crate::common::random::cases;
use crate::common::tar::{Header, Sparse, Tar};
use crate::common::{skip, view};

/// What hcsshim made of a tar.
struct Golden {
    file: String,
    variant: String,
    /// None where hcsshim gave an error.
    image: Option<GoldenImage>,
}

struct GoldenImage {
    sha256: String,
    bytes: u64,
    root_hash: String,
}

fn golden(table: &Path) -> Vec<Golden> {
    let text = fs::read_to_string(table).unwrap();
    let row = |line: &str| {
        let mut fields = line.split('\t').map(str::to_owned);
        let mut next = || fields.next().unwrap_or_default();
        let (file, variant, sha256) = (next(), next(), next());
        let (bytes, root_hash) = (next(), next());
        let image = bytes.parse().ok().map(|bytes| GoldenImage {
            sha256,
            bytes,
            root_hash,
        });
        Golden {
            file,
            variant,
            image,
        }
    };
    text.lines().skip(1).map(row).collect()
}

/// Layers of which hcsshim makes an image, and we none: why.
const REFUSED: [(&str, &str); 1] = [(
    "odd/go/pax-path-hdr.tar",
    // Go takes a header that the end of the input cuts short for the end of the archive.
    "the layer ends inside the headers of an entry",
)];

/// Layers that are refused unless the errors are wanted: why.
const WRONG: [(&str, &str); 5] = [
    (
        "odd/commons-compress/archives/SunOS_cAEf.tar",
        "an entry of type 'X' is made a file",
    ),
    (
        "odd/go/pax-global-records.tar",
        "a global header is made a file",
    ),
    (
        "odd/libarchive/test_compat_star_acl_posix1e.tar",
        "a global header is made a file",
    ),
    (
        "odd/node-tar/fixtures/tars/global-header.tar",
        "a global header is made a file",
    ),
    (
        "real/umoci-alpine/layout/blobs/sha256/7a6672da366b2d824bd67368691adeefcf55b35769a0d73da1ec461465a10ef8",
        "no kernel can read system.posix_acl_access as it is stored",
    ),
];

/// Layers that are so with inline contents.
const WRONG_INLINE: [(&str, &str); 3] = [
    (
        "odd/libarchive/test_acl_pax_nfs4.tar",
        "system.data of what it replaces stays behind",
    ),
    (
        "odd/moby/daemon/builder/remotecontext/internal/tarsum/testdata/collision/collision-0.tar",
        "system.data of what it replaces stays behind",
    ),
    (
        "odd/moby/daemon/builder/remotecontext/internal/tarsum/testdata/collision/collision-1.tar",
        "system.data of what it replaces stays behind",
    ),
];

fn why<'a>(list: &[(&str, &'a str)], file: &str) -> Option<&'a str> {
    let found = list.iter().find(|(name, _)| *name == file);
    found.map(|(_, why)| *why)
}

fn variant(name: &str) -> Options {
    let plain = options().profile(Profile::Hcsshim).verity(Verity::new());
    match name {
        "plain-16g" => plain.whiteouts(false).max_size(16 << 30),
        "overlay-128g" => plain.max_size(128 << 30),
        "overlay-16g-inline" => plain.max_size(16 << 30).inline_data(true),
        other => panic!("a variant {other}"),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A tar, decompressed where tar2vhd does not do that itself.
fn tar(path: &Path) -> Option<Vec<u8>> {
    let bytes = fs::read(path).unwrap();
    let tool = match bytes.get(..4) {
        Some([0xfd, b'7', b'z', b'X']) => "xz",
        Some([b'B', b'Z', b'h', _]) => "bzip2",
        Some([0x04, 0x22, 0x4d, 0x18]) => "lz4",
        // A frame to skip, as zstd has it too.
        Some([0x50..=0x5f, 0x2a, 0x4d, 0x18]) if path.extension()? == "lz4" => "lz4",
        Some([0x1f, 0x9d, ..]) => "uncompress",
        _ => return Some(bytes),
    };
    let output = run(tool, |c| c.arg("-dc").arg(path))?;
    Some(output.stdout)
}

/// The padding of inode bitmaps is all that e2fsck says.
#[track_caller]
fn fsck(image: &[u8]) {
    let file = tempfile::NamedTempFile::new().unwrap().into_temp_path();
    fs::write(&file, image).unwrap();
    let Some(output) = run("e2fsck", |c| c.arg("-fn").arg(&file)) else {
        return;
    };
    let said = shown(&output);
    let known = [
        "Padding at end of inode bitmap is not set. Fix? no",
        "WARNING: Filesystem still has errors",
        // Times before 1970, which hcsshim stores as others.
        "are likely pre-1970.",
        "Fix? no",
    ];
    let mut other = said.lines().filter(|line| {
        let is_noise = line.is_empty()
            || line.starts_with("Pass ")
            || line.starts_with("exit status")
            || line.starts_with("e2fsck 1.")
            || line.contains(" files (")
            || line.contains("********** ");
        !is_noise && !known.iter().any(|known| line.contains(known))
    });
    assert_eq!(other.next(), None, "{said}");
}

/// Holds every row against what we write; how many files had an image to be equal to.
fn hold(table: &Path, files: &Path) -> usize {
    let mut equal = BTreeSet::new();
    let mut refused = BTreeSet::new();
    for row in golden(table) {
        let name = format!("{} {}", row.file, row.variant);
        let (Some(wanted), Some(tar)) = (&row.image, tar(&files.join(&row.file))) else {
            continue;
        };
        let strict = variant(&row.variant);
        let faithful = convert(&tar, &strict.clone().faithful(true));
        if let Some(why) = why(&REFUSED, &row.file) {
            assert_says(faithful.map(|_| ()), why, &name);
            refused.insert(row.file);
            continue;
        }
        let (bytes, summary) = faithful.unwrap_or_else(|error| panic!("{name}: {error}"));
        let verity = summary.verity.expect("a hash tree was asked for");
        let image = &bytes[..verity.hash_offset as usize];
        assert_eq!(image.len() as u64, wanted.bytes, "{name}");
        assert_eq!(hex(&verity.root_hash.0), wanted.root_hash, "{name}");
        assert_eq!(hex(&Sha256::digest(image)), wanted.sha256, "{name}");
        fsck(image);
        let inline = match &row.variant[..] {
            "overlay-16g-inline" => &WRONG_INLINE[..],
            _ => &[],
        };
        match why(&WRONG, &row.file).or(why(inline, &row.file)) {
            None => {
                let (same, _) = convert(&tar, &strict).unwrap_or_else(|e| panic!("{name}: {e}"));
                assert!(same == bytes, "{name}");
            }
            Some(why) => {
                assert_says(convert(&tar, &strict).map(|_| ()), why, &name);
                let warned = summary.warnings.iter();
                let mut warned = warned.filter(|warning| warning.kind == WarningKind::Hcsshim);
                assert!(
                    warned.any(|warning| warning.message.contains(why)),
                    "{name}"
                );
                refused.insert(row.file.clone());
            }
        }
        equal.insert(row.file);
    }
    for (file, _) in REFUSED.iter().chain(&WRONG).chain(&WRONG_INLINE) {
        assert_eq!(refused.contains(*file), files.join(file).exists(), "{file}");
    }
    equal.len()
}

#[track_caller]
fn assert_says(result: Result<(), Error>, why: &str, name: &str) {
    let error = result.map(|()| name).unwrap_err().to_string();
    assert!(error.contains(why), "{name}: {error}");
}

#[test]
fn equal_to_the_rows_of_testdata() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/hcsshim");
    assert!(hold(&folder.join("golden.tsv"), &folder) >= 50);
}

#[test]
fn equal_to_all_of_the_table() {
    let folder = env::var_os("TAR2VHD_GOLDEN").zip(env::var_os("TAR2VHD_CORPUS"));
    let Some((golden, corpus)) = folder else {
        skip::note("hcsshim's table: TAR2VHD_GOLDEN and TAR2VHD_CORPUS name no folders");
        return;
    };
    hold(&Path::new(&golden).join("hcsshim.tsv"), Path::new(&corpus));
}

fn profile() -> Options {
    options().profile(Profile::Hcsshim)
}

fn refusal(entries: &[Entry], options: &Options) -> Error {
    // Holes stay holes: some are large.
    let tar = Tar::new().sparse(Sparse::Pax10);
    let tar = entries.iter().fold(tar, Tar::add).finish();
    convert(&tar, options).map(|_| ()).unwrap_err()
}

#[test]
fn what_hcsshim_gets_wrong_is_refused_or_told_of() {
    let acl = b"\x02\0\0\0\x01\0\x06\0\xff\xff\xff\xff";
    for (entry, why) in [
        (file("f", "").mtime(-1, 0), "the time of -1 seconds"),
        (file("f", "").mtime(0x8000_0000, 0), "is stored as another"),
        (file("f", "").atime(1 << 31, 5), "is stored as another"),
        (file("f", "").owner(1 << 32, 0), "the uid 4294967296"),
        (
            file("f", "").owner(0, u64::from(u32::MAX)),
            "the gid 4294967295",
        ),
        (
            file("f", "").xattr("system.posix_acl_access", acl),
            "no kernel can read system.posix_acl_access",
        ),
        (
            file("f", "").xattr("com.apple.x", "y"),
            "Linux has no place for com.apple.x",
        ),
        (char_device("c", 4096, 1), "the device 4096:1"),
    ] {
        let entries = [dir("d"), entry];
        let error = refusal(&entries, &profile());
        assert_eq!(error.kind(), ErrorKind::Entry);
        assert!(error.to_string().contains(why), "{why}: {error}");
        assert_eq!(error.path(), Some(&entries[1].path[..]), "{why}");
        let (_, summary) = convert(&Tar::of(&entries), &profile().faithful(true)).unwrap();
        let told = summary
            .warnings
            .iter()
            .any(|warning| warning.kind == WarningKind::Hcsshim && warning.message.contains(why));
        assert!(told, "{why}: {:?}", summary.warnings);
    }
    let wide = Tar::new().header(&Header::new(b'A').name("f"), "").finish();
    assert!(convert(&wide, &profile()).is_err());
    convert(&wide, &profile().faithful(true)).unwrap();
}

/// Layers of more than an entry that are wrong by what stands between them.
#[test]
fn layers_that_hcsshim_gets_wrong_are_refused_or_told_of() {
    let sparse: [(&[u8], &[u8]); 2] = [
        (b"GNU.sparse.size", b"5000"),
        (b"GNU.sparse.numblocks", b"0"),
    ];
    let twice = |second| Tar::of(&[file("f", "x"), second]);
    let inline = WRONG_INLINE[0].1;
    for (tar, why) in [
        (
            Tar::new().pax(&sparse).add(&file("f", "")).finish(),
            "the records of a sparse file are passed over",
        ),
        (twice(file("f", "y")), inline),
        (twice(file("f", [1; 5000])), inline),
        (twice(symlink("f", "x")), inline),
        (twice(marker(".wh.f")), inline),
    ] {
        let options = profile().inline_data(true);
        assert_says(convert(&tar, &options).map(|_| ()), why, "strict");
        let (_, summary) = convert(&tar, &options.faithful(true)).unwrap();
        let mut warnings = summary.warnings.iter();
        assert!(
            warnings.any(|w| w.kind == WarningKind::Hcsshim && w.message.contains(why)),
            "{why}"
        );
    }
}

/// Neither a hard link nor a whiteout has an owner of its own.
#[test]
fn owners_that_nobody_looks_at_may_be_wrong() {
    let target = file("f", "x");
    for entry in [link("l", "f"), marker(".wh.gone"), marker(".wh..wh..opq")] {
        let wide = entry.clone().owner(1 << 32, u64::from(u32::MAX));
        let (bytes, summary) = convert(&Tar::of(&[target.clone(), wide]), &profile()).unwrap();
        let (same, expected) = convert(&Tar::of(&[target.clone(), entry]), &profile()).unwrap();
        assert!(bytes == same);
        assert_eq!(summary.warnings, expected.warnings);
    }
    // What it is at all matters to them as well.
    let tar = Tar::new().pax_global(&[(b"path", b".wh.gone")]).finish();
    let result = convert(&tar, &profile()).map(|_| ());
    assert_says(result, "a global header is made a file", "a whiteout");
}

#[test]
fn the_largest_size_is_rounded_up() {
    let tar = Tar::of(&[file("f", "x")]);
    let of = |size| convert(&tar, &profile().max_size(size)).unwrap().0;
    let (less, more) = (of(32 << 30), of((32 << 30) + 4096));
    assert!(less != more, "another group begins");
    for size in [(32 << 30) + 1, (32 << 30) + 1024] {
        assert!(of(size) == more, "{size}");
    }
}

/// What is in the inode is kept, though the mark is made without it.
#[test]
fn an_opaque_mark_keeps_system_data() {
    let faithful = profile().faithful(true);
    let data = dir("d").xattr("system.data", "abc");
    let marked = Tar::of(&[data.clone(), marker("d/.wh..wh..opq")]);
    let at_once = Tar::of(&[data.xattr("trusted.overlay.opaque", "y")]);
    let (bytes, _) = convert(&marked, &faithful).unwrap();
    assert!(bytes == convert(&at_once, &faithful).unwrap().0);
}

#[test]
fn what_is_damaged_or_refused_by_hcsshim_stays_refused() {
    let long = || symlink("l", "t".repeat(4096));
    let hole = |len| sparse("f", vec![Segment::Hole(len)]);
    // In a block, all of them: how hcsshim misorders them is not known.
    let many = (0..13_u8).fold(file("f", ""), |file, i| {
        let letter = String::from(char::from(b'z' - i));
        file.xattr(
            format!("user.{}", letter.repeat(usize::from(i) + 1)),
            [1; 100],
        )
    });
    let largest = 339 * (128 << 20);
    for entries in [
        vec![long()],
        vec![hole(largest + 1)],
        vec![file("f", "x"), file("f", "y")],
        vec![dir("d"), file("d", "")],
        vec![file("d", ""), dir("d")],
        vec![link("l", "later"), file("later", "")],
        vec![symlink("l", "d"), dir("d"), file("l/f", "")],
        vec![file("lost+found", "")],
        vec![file("f", ""), link("f", "f")],
        vec![file("f", "").xattr("user.a", [0; 4096])],
        vec![many],
        vec![marker(".wh.")],
    ] {
        for faithful in [false, true] {
            let error = refusal(&entries, &profile().max_size(128 << 30).faithful(faithful));
            assert!(
                matches!(error.kind(), ErrorKind::Entry | ErrorKind::Limit),
                "{error}"
            );
        }
    }
    // The largest file has its place, though nothing of it is written. The host's file
    // systems hold it as a hole, and this memory does not: nothing is kept of it.
    struct Nothing;
    impl DiskOutput for Nothing {
        fn write_at(&self, _: u64, _: &[u8]) -> std::io::Result<()> {
            Ok(())
        }
        fn set_len(&self, _: u64) -> std::io::Result<()> {
            Ok(())
        }
    }
    let tar = Tar::new()
        .sparse(Sparse::Pax10)
        .add(&hole(largest))
        .finish();
    let summary = tar2vhd::convert(&tar[..], &Nothing, &profile().max_size(16 << 30));
    let kind = summary.map(|_| ()).map_err(|e| e.kind());
    assert_eq!(kind, Err(ErrorKind::Limit), "16 GiB are too few");
    let summary = tar2vhd::convert(&tar[..], &Nothing, &profile().max_size(128 << 30)).unwrap();
    assert!(summary.disk.size > largest);
}

#[test]
fn its_own_options_are_all_it_has() {
    for options in [
        profile().bottom_layer(true),
        profile().keep_zeros(true),
        options().faithful(true),
    ] {
        let error = refusal(&[], &options);
        assert_eq!(error.kind(), ErrorKind::InvalidOptions);
    }
}

/// Layers on which both profiles' rules agree: paths once, parents and targets first.
fn layer_for_both() -> impl Strategy<Value = Vec<Entry>> {
    let owner = (any::<u32>(), any::<u32>()).prop_map(|(u, g)| (u / 2, g / 2));
    let looks = (
        0..0o10_000_u32,
        owner,
        0..i64::from(i32::MAX),
        0..1_000_000_000_u32,
    );
    let values = proptest::collection::vec(("[a-z]{1,12}", 0..120_usize), 0..4);
    let thing = (0..7_u32, 0..30_000_usize, 0..4_usize, looks, values);
    proptest::collection::vec(thing, 1..40).prop_map(|things| {
        let dirs = (0..4).map(|i| dir(format!("d{i}")).atime(1, 1).ctime(1, 2));
        let mut entries: Vec<Entry> = dirs.collect();
        let mut target: Option<Entry> = None;
        for (i, (kind, len, parent, (mode, (uid, gid), seconds, nanos), xattrs)) in
            things.into_iter().enumerate()
        {
            let path = format!("d{parent}/{i}-{}", "n".repeat(len % 200));
            let looks = |entry: Entry| {
                let entry = entry.mode(mode).mtime(seconds, nanos);
                entry
                    .owner(uid.into(), gid.into())
                    .atime(seconds, 1)
                    .ctime(seconds, 2)
            };
            let with_xattrs = |entry: Entry| {
                let pairs = xattrs.iter();
                pairs.fold(entry, |e, (name, len)| {
                    e.xattr(format!("user.{name}"), vec![7; *len])
                })
            };
            entries.push(match (kind, &target) {
                (0, Some(target)) => {
                    let same = Entry {
                        path: path.into_bytes(),
                        ..target.clone()
                    };
                    Entry {
                        kind: Kind::Link(target.path.clone()),
                        xattrs: Vec::new(),
                        ..same
                    }
                }
                (1, _) => looks(with_xattrs(dir(path))),
                (2, _) => looks(symlink(path, "t".repeat(1 + len % 255))).mode(0o777),
                (3, _) => looks(fifo(path)),
                (4, _) => looks(char_device(path, 1 + len as u32 % 4000, len as u32 * 30)),
                _ => {
                    let zeros = vec![0; len];
                    let data = if len % 3 == 0 {
                        zeros
                    } else {
                        vec![len as u8; len]
                    };
                    let file = looks(with_xattrs(file(path, data)));
                    target = Some(file.clone());
                    file
                }
            });
        }
        entries
    })
}

proptest! {
    #![proptest_config(cases(60))]

    #[test]
    fn both_profiles_hold_the_same_tree(entries in layer_for_both(), inline: bool) {
        let tar = Tar::of(&entries);
        let (ours, _) = convert(&tar, &options().inline_data(inline)).unwrap();
        let (bytes, summary) = convert(&tar, &profile().inline_data(inline)).unwrap();
        fsck(&bytes);
        prop_assert_eq!(summary.warnings, []);
        let (with_tree, summary) =
            convert(&tar, &profile().inline_data(inline).verity(Verity::new())).unwrap();
        let tree = summary.verity.unwrap();
        prop_assert!(with_tree[..tree.hash_offset as usize] == bytes, "the hash tree is behind");
        let (Some(ours), Some(mut theirs)) = (view::read(&ours), view::read(&bytes)) else {
            return Ok(());
        };
        prop_assert!(theirs.0.remove(&b"lost+found"[..]).is_some());
        let differences = theirs.differences(&ours);
        prop_assert!(differences.is_empty(), "{differences}");
    }
}

/// What hcsshim's rules say of a large tree: inodes are numbered as entries come, parents
/// that are missing before them; directories list inodes in order.
#[test]
#[cfg(target_os = "linux")]
fn a_large_tree_is_numbered_as_it_comes() {
    use std::os::unix::fs::MetadataExt;

    let mut tar = Tar::new();
    // The root is 2, lost+found 11.
    let mut model = Vec::new();
    let mut seen = BTreeSet::new();
    let mut next = 12;
    for i in 0..6_000_u32 {
        let spread = i.wrapping_mul(2_654_435_761);
        let path = match i % 3 {
            0 => format!("many/a-name-of-some-length-{spread}"),
            1 => format!("deep/{}/{}/{i}", spread % 7, spread / 7 % 11),
            _ => format!("wide/{}/{i}", spread % 500),
        };
        for (end, _) in path.match_indices('/') {
            if seen.insert(path[..end].to_owned()) {
                model.push((path[..end].to_owned(), next));
                next += 1;
            }
        }
        let data = vec![i as u8; (spread % 9_000) as usize];
        tar = tar.add(&file(&path, data));
        model.push((path, next));
        next += 1;
    }
    let (bytes, summary) = convert(&tar.finish(), &profile()).unwrap();
    assert_eq!(summary.disk.inodes as usize, model.len() + 2);
    fsck(&bytes);
    let image = tempfile::NamedTempFile::new().unwrap().into_temp_path();
    fs::write(&image, &bytes).unwrap();
    let Some(mount) = crate::common::kernel::Mount::image(&image) else {
        return;
    };
    for (path, number) in &model {
        let found = mount.path().join(path).symlink_metadata().unwrap();
        assert_eq!(found.ino(), *number, "{path}");
    }
    for list in ["", "many", "wide", "deep/3"] {
        let numbers: Vec<_> = fs::read_dir(mount.path().join(list))
            .unwrap()
            .map(|entry| entry.unwrap().metadata().unwrap().ino())
            .collect();
        assert!(numbers.is_sorted(), "{list}: {numbers:?}");
    }
}
