//! hcsshim's bytes.

use std::collections::BTreeMap;
use std::env;
use std::fs;
use std::path::Path;

use sha2::{Digest, Sha256};
use tar2vhd::{Options, Profile, Verity};

use crate::common::layer::{convert, options};
use crate::common::oracle::run;
use crate::common::skip;

/// What hcsshim made of a tar.
struct Golden {
    file: String,
    variant: String,
    /// The digest of the image, its bytes, and the root hash; or its error.
    image: Result<(String, u64, String), String>,
}

fn golden(table: &Path) -> Vec<Golden> {
    let text = fs::read_to_string(table).unwrap();
    let row = |line: &str| {
        let mut fields = line.split('\t').map(str::to_owned);
        let mut next = || fields.next().unwrap_or_default();
        let (file, variant, image, bytes, root) = (next(), next(), next(), next(), next());
        let image = match bytes.parse() {
            Ok(bytes) => Ok((image, bytes, root)),
            Err(_) => Err(image),
        };
        Golden {
            file,
            variant,
            image,
        }
    };
    text.lines().skip(1).map(row).collect()
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
    let tool = match bytes.get(..4)? {
        [0xfd, b'7', b'z', b'X'] => "xz",
        [b'B', b'Z', b'h', _] => "bzip2",
        [0x04, 0x22, 0x4d, 0x18] => "lz4",
        // A frame to skip, as zstd has it too.
        [0x50..=0x5f, 0x2a, 0x4d, 0x18] if path.extension()? == "lz4" => "lz4",
        [0x1f, 0x9d, ..] => "uncompress",
        _ => return Some(bytes),
    };
    let output = run(tool, |c| c.arg("-dc").arg(path))?;
    Some(output.stdout)
}

/// Holds every row against what we write.
fn hold(table: &Path, corpus: &Path) -> BTreeMap<String, Vec<String>> {
    let mut outcomes = BTreeMap::<String, Vec<String>>::new();
    for row in golden(table) {
        let name = format!("{} {}", row.file, row.variant);
        let Some(tar) = tar(&corpus.join(&row.file)) else {
            continue;
        };
        let Ok((digest, bytes, root)) = row.image else {
            continue;
        };
        let outcome = match convert(&tar, &variant(&row.variant).faithful(true)) {
            Err(error) => format!("refused: {error}"),
            Ok((image, summary)) => {
                let verity = summary.verity.expect("a hash tree was asked for");
                let size = verity.hash_offset;
                fs::write("/tmp/hcsshim/img", &image[..size as usize]).unwrap();
                let o = run("e2fsck", |c| c.arg("-fn").arg("/tmp/hcsshim/img")).unwrap();
                let t = crate::common::oracle::shown(&o);
                let plain = convert(&tar, &variant(&row.variant)).map(|_| ()).map_err(|e| e.to_string());
                eprintln!("FSCK {name}\t{plain:?}\t{:?}", t.lines().filter(|l| !l.starts_with("Pass") && !l.contains("adding at end of inode") && !l.contains("WARNING: Filesystem still") && !l.contains(" files (") && !l.starts_with("exit status") && !l.is_empty() && !l.starts_with("e2fsck ") && !l.contains("Fix? no")).collect::<Vec<_>>());
                let same = hex(&Sha256::digest(&image[..size as usize])) == digest;
                match (same, size == bytes, hex(&verity.root_hash.0) == root) {
                    (true, true, true) => "equal".to_owned(),
                    (same, size, root) => format!("bytes {same} size {size} root {root}"),
                }
            }
        };
        outcomes.entry(outcome).or_default().push(name);
    }
    outcomes
}

#[test]
fn all_of_the_table() {
    let (Some(table), Some(corpus)) =
        (env::var_os("TAR2VHD_GOLDEN"), env::var_os("TAR2VHD_CORPUS"))
    else {
        skip::note("hcsshim's table: TAR2VHD_GOLDEN and TAR2VHD_CORPUS name no folders");
        return;
    };
    let table = Path::new(&table).join("hcsshim.tsv");
    for (outcome, rows) in hold(&table, Path::new(&corpus)) {
        eprintln!("{outcome}: {}", rows.len());
        if outcome != "equal" {
            for row in rows {
                eprintln!("    {row}");
            }
        }
    }
}
