//! Streams that can be decoded in several places at once, by the number of threads.

use std::io::Write;

use super::{gzip, sha256, zstd};
use crate::common::entry::{dir, file};
use crate::common::layer::{convert, options};
use crate::common::oracle;
use crate::common::tar::Tar;

#[test]
fn streams_of_parts_make_one_disk_with_any_number_of_threads() {
    let mut noise = 7_u32;
    let data: Vec<u8> = std::iter::repeat_with(|| {
        noise = noise.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        if noise >> 31 == 0 {
            (noise >> 23) as u8
        } else {
            7
        }
    })
    .take(5_000_000)
    .collect();
    let tar = Tar::of(&[dir("d"), file("d/f", data), file("g", "small")]);
    let wanted = convert(&tar, &options().threads(1)).unwrap().0;

    let pieces = || tar.chunks(100_000);
    let mut streams = vec![
        ("members".to_owned(), pieces().flat_map(gzip).collect()),
        ("frames".to_owned(), pieces().flat_map(zstd).collect()),
    ];
    let mut plain = tempfile::NamedTempFile::new().unwrap();
    plain.write_all(&tar).unwrap();
    for tool in [
        &["pigz", "--independent", "--stdout"][..],
        &["pigz", "--stdout"],
        &["pzstd", "--quiet", "--processes", "4", "--stdout"],
    ] {
        let packed = oracle::run(tool[0], |command| {
            command.args(&tool[1..]).arg(plain.path())
        });
        if let Some(packed) = packed {
            assert!(packed.status.success(), "{}", oracle::shown(&packed));
            streams.push((tool.join(" "), packed.stdout));
        }
    }
    for (what, stream) in &streams {
        for threads in [1, 2, 3, 4, 7] {
            let (disk, summary) = convert(stream, &options().threads(threads)).unwrap();
            assert!(disk == wanted, "{what}, {threads} threads");
            assert_eq!(summary.layer.digest, sha256(&tar), "{what}");
            assert_eq!(summary.compressed.digest, sha256(stream), "{what}");
        }
    }
}
