//! Random entries, few names and shallow: what happens to one path again and again is what
//! there is to find.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use super::entry::{Entry, Kind, Pairs, Segment};

/// So many cases of a property, or what PROPTEST_CASES says.
pub(crate) fn cases(cases: u32) -> ProptestConfig {
    let asked = std::env::var("PROPTEST_CASES").ok();
    ProptestConfig {
        cases: asked.and_then(|n| n.parse().ok()).unwrap_or(cases),
        failure_persistence: None,
        max_shrink_iters: 2000,
        ..ProptestConfig::default()
    }
}

pub(crate) fn name() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        20 => (b'a'..=b'e').prop_map(|letter| vec![letter]),
        1 => Just(vec![b'n'; 255]),
        1 => Just(b"\xff\n\\".to_vec()),
    ]
}

/// A path of a few names, plainly spelled.
pub(crate) fn plain_path() -> impl Strategy<Value = Vec<u8>> {
    vec(name(), 1..4).prop_map(|names| names.join(&b'/'))
}

/// The same path as some tars spell it.
fn path() -> impl Strategy<Value = Vec<u8>> {
    let prefix = prop_oneof![
        6 => Just(""),
        3 => Just("./"),
        1 => Just("/"),
        1 => Just("../"),
        1 => Just(".//a/../"),
    ];
    (prefix, plain_path()).prop_map(|(prefix, path)| [prefix.as_bytes(), &path].concat())
}

fn segments() -> impl Strategy<Value = Vec<Segment>> {
    let data = (select(&[1_usize, 100, 4096, 5000, 30_000][..]), 1_u8..=255)
        .prop_map(|(len, byte)| Segment::Data(vec![byte; len]));
    let hole = select(&[1_u64, 4095, 4096, 12_288, 100_001][..]).prop_map(Segment::Hole);
    prop_oneof![
        2 => Just(Vec::new()),
        3 => data.clone().prop_map(|data| vec![data]),
        1 => vec(prop_oneof![data, hole], 1..5),
    ]
    .prop_map(|segments| {
        // Neighbours of one kind are one in a sparse map.
        let mut merged: Vec<Segment> = Vec::new();
        for segment in segments {
            match (merged.last_mut(), segment) {
                (Some(Segment::Data(a)), Segment::Data(b)) => a.extend(b),
                (Some(Segment::Hole(a)), Segment::Hole(b)) => *a += b,
                (_, segment) => merged.push(segment),
            }
        }
        merged
    })
}

fn xattrs() -> impl Strategy<Value = Pairs> {
    let names: &[&[u8]] = &[
        b"user.a",
        b"user.bb",
        b"user.longer-name-than-the-others",
        b"security.x",
        b"trusted.t",
        b"com.apple.x",
    ];
    let value = prop_oneof![
        8 => vec(any::<u8>(), 0..40),
        2 => vec(any::<u8>(), 100..400),
        1 => (any::<u8>(), 3000_usize..9000).prop_map(|(byte, len)| vec![byte; len]),
    ];
    let pair = (select(names).prop_map(<[u8]>::to_vec), value);
    prop_oneof![
        5 => Just(Vec::new()),
        1 => vec(pair, 1..5),
    ]
}

/// Everything but hard links and markers, at the path "x".
pub(crate) fn node() -> impl Strategy<Value = Entry> {
    let target = prop_oneof![
        4 => plain_path(),
        1 => plain_path().prop_map(|path| [&b"/"[..], &path].concat()),
        1 => plain_path().prop_map(|path| [&b"../"[..], &path].concat()),
        1 => Just(vec![b't'; 80]),
    ];
    let kind = prop_oneof![
        8 => segments().prop_map(Kind::File),
        6 => Just(Kind::Dir),
        4 => target.prop_map(Kind::Symlink),
        1 => (0_u32..4096, 0_u32..300).prop_map(|(a, b)| Kind::Char(a, b)),
        1 => (0_u32..300, 0_u32..70_000).prop_map(|(a, b)| Kind::Block(a, b)),
        1 => Just(Kind::Fifo),
    ];
    let modes = select(&[0o644_u32, 0o755, 0, 0o7777, 0o1777, 0o600][..]);
    let ids = select(&[0_u64, 1, 1000, 65_536, 0xffff_fffe][..]);
    // What ext4-view can read; the others have tests of their own.
    let time = (
        0_i64..(1 << 31),
        select(&[0_u32, 1, 500_000_000, 999_999_999][..]),
    );
    (kind, modes, ids.clone(), ids, time, xattrs()).prop_map(
        |(kind, mode, uid, gid, (seconds, nanos), xattrs)| {
            let mut entry = Entry::new("x", kind, mode)
                .owner(uid, gid)
                .mtime(seconds, nanos);
            entry.xattrs = xattrs;
            if !matches!(entry.kind, Kind::File(_) | Kind::Dir) {
                // Symbolic links hold no more than a block of them.
                entry.xattrs.retain(|(_, value)| value.len() < 1000);
            }
            entry
        },
    )
}

/// An entry of a layer: a thing, a link, or a marker.
pub(crate) fn entry() -> impl Strategy<Value = Entry> {
    let marker = |names: Vec<u8>, name: &[u8]| {
        let parent = names
            .iter()
            .rposition(|b| *b == b'/')
            .map_or(0, |at| at + 1);
        let name: &[u8] = if name == b".wh." {
            &[name, &names[parent..]].concat()
        } else {
            name
        };
        [&names[..parent], name].concat()
    };
    (
        node(),
        path(),
        prop_oneof![
            14 => Just(None),
            2 => plain_path().prop_map(Some),
        ],
        prop_oneof![
            14 => Just(None),
            3 => Just(Some(&b".wh."[..])),
            1 => Just(Some(&b".wh..wh..opq"[..])),
        ],
        any::<bool>(),
    )
        .prop_map(move |(mut entry, path, link, hides, slash)| {
            entry.path = path;
            if let Some(name) = hides {
                let mtime = entry.mtime;
                entry = Entry::new(marker(entry.path, name), Kind::File(Vec::new()), 0);
                entry.mtime = mtime;
            } else if let Some(target) = link {
                entry.kind = Kind::Link(target);
                entry.xattrs.retain(|(_, value)| value.len() < 1000);
            } else if entry.kind == Kind::Dir && slash {
                entry.path.push(b'/');
            }
            entry
        })
}

pub(crate) fn layer(most: usize) -> impl Strategy<Value = Vec<Entry>> {
    vec(entry(), 0..most)
}

/// A layer of hard links, most of them before their targets, below directories and symbolic
/// links that are replaced again and again.
pub(crate) fn shifting_layer(most: usize) -> impl Strategy<Value = Vec<Entry>> {
    let name = (b'a'..=b'c').prop_map(|letter| vec![letter]);
    let path = vec(name, 1..4).prop_map(|names| names.join(&b'/'));
    let target = prop_oneof![
        3 => path.clone(),
        1 => path.clone().prop_map(|path| [&b"/"[..], &path].concat()),
        1 => path.clone().prop_map(|path| [&b"../"[..], &path].concat()),
        1 => path.clone().prop_map(|path| [&path[..], b"/.."].concat()),
    ];
    let kind = prop_oneof![
        5 => Just(Kind::Dir),
        3 => (1_u8..=255).prop_map(|byte| Kind::File(vec![Segment::Data(vec![byte])])),
        4 => target.prop_map(Kind::Symlink),
        7 => path.clone().prop_map(Kind::Link),
        1 => Just(Kind::Fifo),
    ];
    let hides = prop_oneof![9 => Just(false), 1 => Just(true)];
    let value = prop_oneof![3 => Just(None), 1 => any::<u8>().prop_map(Some)];
    let entry = (path, kind, hides, value).prop_map(|(mut path, kind, hides, value)| {
        if hides {
            let name = path.iter().rposition(|b| *b == b'/').map_or(0, |at| at + 1);
            path.splice(name..name, *b".wh.");
            return Entry::new(path, Kind::File(Vec::new()), 0);
        }
        let mut entry = Entry::new(path, kind, 0o755);
        let xattrs = value.map(|value| (b"security.x".to_vec(), vec![value]));
        entry.xattrs.extend(xattrs);
        entry
    });
    vec(entry, 0..most)
}
