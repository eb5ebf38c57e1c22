//! Changes a byte at a time and compares the verdicts.

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};
use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use tar2vhd::Volume;
use tar2vhd::verify::{Finding, Verdict, VerifyOptions};

use crate::common::oracle::run;
use crate::common::skip;
use crate::explained::{Explanation, explain};
use crate::images::{self, Image};
use crate::metadata::{Map, Piece, Structure};

/// Changes that every run of the tests makes.
const SAMPLE: usize = 240;

/// Pseudo-random numbers that are the same every time.
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        // splitmix64
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ z >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((z ^ z >> 31) >> 11) as usize % end
    }
}

/// A change and what became of it.
pub(crate) struct Case {
    pub(crate) image: &'static str,
    pub(crate) structure: Structure,
    /// Whether the checksums were made right again.
    pub(crate) corrected: bool,
    /// The byte, counted from the start of its structure.
    pub(crate) within: usize,
    pub(crate) change: String,
    pub(crate) verdicts: Verdicts,
}

/// What is said of an image.
pub(crate) struct Verdicts {
    pub(crate) is_clean: bool,
    pub(crate) findings: Vec<Finding>,
    /// The verdict in words, or the error.
    pub(crate) verdict: String,
    pub(crate) e2fsck_is_content: bool,
    pub(crate) e2fsck_says: String,
}

impl Verdicts {
    /// Asks of an image, in memory and in a file; `None` without e2fsck.
    pub(crate) fn of(bytes: Vec<u8>, file: &Path) -> Option<Self> {
        // On some images e2fsck does not end, after it said that they are damaged.
        let output = run("timeout", |c| c.args(["60", "e2fsck", "-fn"]).arg(file))?;
        if output.status.code() == Some(127) {
            return None;
        }
        let found = Volume::from_bytes(bytes)
            .and_then(|disk| disk.verify(&VerifyOptions::new().max_findings(50)));
        let (is_clean, verdict) = match &found {
            Ok(found) => (
                found.verdict() == Verdict::Clean,
                found.verdict().as_str().into(),
            ),
            Err(error) => (false, error.to_string()),
        };
        Some(Self {
            is_clean,
            findings: found.map_or_else(|_| Vec::new(), |found| found.findings),
            verdict,
            e2fsck_is_content: output.status.success() && !complains(&output.stdout),
            e2fsck_says: String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into(),
        })
    }

    fn agree(&self) -> bool {
        self.is_clean == self.e2fsck_is_content
    }
}

/// For a person to read: findings, and the first lines of e2fsck's.
impl fmt::Display for Verdicts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "  verify: {}", self.verdict)?;
        for finding in self.findings.iter().take(5) {
            writeln!(f, "    {}: {finding}", finding.kind)?;
        }
        writeln!(f, "  e2fsck is content: {}", self.e2fsck_is_content)?;
        let said = self.e2fsck_says.lines().filter(|line| {
            !line.is_empty() && !line.starts_with("Pass") && !line.starts_with("e2fsck 1")
        });
        said.take(6).try_for_each(|line| writeln!(f, "    {line}"))
    }
}

#[derive(Default)]
struct Tally {
    tried: usize,
    clean: usize,
    damaged: usize,
    explained: usize,
    open: usize,
}

fn setting(name: &str, default: usize) -> usize {
    let set = std::env::var(name).ok();
    set.map_or(default, |value| value.parse().unwrap())
}

#[test]
fn verdicts_agree_with_e2fsck_on_changed_metadata() {
    let mut images = images::ours();
    let Some(foreign) = images::foreign() else {
        return;
    };
    images.extend(foreign);
    let count = setting("TAR2VHD_FLIPS", SAMPLE);
    let seed = setting("TAR2VHD_FLIPS_SEED", 1);
    let per_image = count.div_ceil(images.len());
    let cases = Mutex::new(Vec::new());
    let next = AtomicUsize::new(0);
    let work = || {
        while let Some(image) = images.get(next.fetch_add(1, Ordering::Relaxed)) {
            let number = image.name.bytes().fold(seed as u64, |sum, byte| {
                sum.wrapping_mul(31).wrapping_add(byte.into())
            });
            let Some(found) = changed(image, per_image, Random(number)) else {
                return;
            };
            let mut cases = cases.lock().unwrap_or_else(PoisonError::into_inner);
            cases.extend(found);
        }
    };
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        (0..threads).for_each(|_| {
            scope.spawn(work);
        });
    });
    let cases = cases.into_inner().unwrap_or_else(PoisonError::into_inner);
    if cases.is_empty() {
        return skip::note("changed metadata: there is no e2fsck");
    }
    report(&cases);
}

/// Makes changes to an image; `None` without e2fsck.
fn changed(image: &Image, count: usize, mut random: Random) -> Option<Vec<Case>> {
    let map = Map::read(&image.bytes).unwrap();
    let mut structures: BTreeMap<Structure, Vec<Piece>> = BTreeMap::new();
    for piece in &map.pieces {
        structures.entry(piece.structure).or_default().push(*piece);
    }
    let untouched = Volume::from_bytes(image.bytes.clone())
        .and_then(|disk| disk.verify(&VerifyOptions::new()))
        .unwrap();
    assert_eq!(
        untouched.verdict(),
        Verdict::Clean,
        "{}: {untouched:#?}",
        image.name
    );
    let mut corrected = image.bytes.clone();
    map.correct(&mut corrected);
    assert!(
        corrected == image.bytes,
        "{}: the checksums are others",
        image.name
    );

    let mut file = tempfile::NamedTempFile::new().unwrap();
    let mut on_disk = vec![0; image.bytes.len()];
    file.as_file().set_len(on_disk.len() as u64).unwrap();
    let mut cases = Vec::new();
    let kinds: Vec<_> = structures.keys().copied().collect();
    while cases.len() < count {
        let turn = cases.len();
        let structure = kinds[turn % kinds.len()];
        let pieces = &structures[&structure];
        let piece = pieces[random.below(pieces.len())];
        let is_corrected = (turn + turn / kinds.len()) % 2 == 1;
        let Some(within) = byte_of(&piece, &image.bytes, &mut random) else {
            continue;
        };
        let at = piece.start + within;
        let mut bytes = image.bytes.clone();
        bytes[at] = match random.below(4) {
            0 | 1 => bytes[at] ^ 1 << random.below(8),
            2 => random.below(256) as u8,
            _ => [0, 0xFF, bytes[at].wrapping_add(1)][random.below(3)],
        };
        if bytes == image.bytes {
            continue;
        }
        let change = format!("byte {at}: {:02x} -> {:02x}", image.bytes[at], bytes[at]);
        let mut right = bytes.clone();
        map.correct(&mut right);
        if is_corrected {
            bytes.clone_from(&right);
        }
        let is_correct = bytes == right;
        update(file.as_file_mut(), &mut on_disk, &bytes);
        let case = Case {
            image: image.name,
            structure,
            corrected: is_corrected,
            within,
            change,
            verdicts: Verdicts::of(bytes, file.path())?,
        };
        assert!(
            !case.verdicts.is_clean || is_correct,
            "{}: {} makes a checksum wrong",
            image.name,
            case.change
        );
        cases.push(case);
    }
    Some(cases)
}

/// Whether e2fsck offered to mend something, or took a copy of the superblock, which its exit
/// status with -n does not always tell. What it calls an optimisation is no damage.
fn complains(stdout: &[u8]) -> bool {
    let text = String::from_utf8_lossy(stdout);
    text.lines().any(|line| {
        line.ends_with("? no") && !line.ends_with("Optimize? no")
            || line.ends_with("trying backup blocks...")
    })
}

/// A byte of a piece, more often one that is in use than not.
fn byte_of(piece: &Piece, image: &[u8], random: &mut Random) -> Option<usize> {
    let bytes = &image[piece.start..piece.start + piece.len];
    if random.below(8) == 0 {
        return Some(random.below(bytes.len()));
    }
    (0..64).map(|_| random.below(bytes.len())).find(|at| {
        let near = at.saturating_sub(2)..(at + 3).min(bytes.len());
        bytes[near].iter().any(|byte| *byte != 0)
    })
}

/// Writes the blocks that differ from those in the file.
fn update(file: &mut File, on_disk: &mut [u8], bytes: &[u8]) {
    use std::io::{Seek, SeekFrom};
    let pairs = on_disk.chunks_mut(4096).zip(bytes.chunks(4096));
    for (i, (old, new)) in pairs.enumerate().filter(|(_, (old, new))| old != new) {
        old.copy_from_slice(new);
        file.seek(SeekFrom::Start(i as u64 * 4096)).unwrap();
        file.write_all(new).unwrap();
    }
}

fn report(cases: &[Case]) {
    let mut tallies: BTreeMap<(Structure, bool), Tally> = BTreeMap::new();
    let mut explanations: BTreeMap<&str, usize> = BTreeMap::new();
    let mut open = Vec::new();
    for case in cases {
        let tally = tallies.entry((case.structure, case.corrected)).or_default();
        tally.tried += 1;
        match (case.verdicts.agree(), case.verdicts.is_clean) {
            (true, true) => tally.clean += 1,
            (true, false) => tally.damaged += 1,
            (false, _) => match explain(&case.verdicts) {
                Some(Explanation { name, .. }) => {
                    tally.explained += 1;
                    *explanations.entry(name).or_default() += 1;
                }
                None => {
                    tally.open += 1;
                    open.push(case);
                }
            },
        }
    }
    let mut text = format!(
        "{:<14}{:<12}{:>7}{:>7}{:>9}{:>11}{:>6}\n",
        "structure", "checksums", "tried", "clean", "damaged", "explained", "open"
    );
    for ((structure, corrected), tally) in &tallies {
        let half = if *corrected { "corrected" } else { "as it was" };
        let _ = writeln!(
            text,
            "{:<14}{half:<12}{:>7}{:>7}{:>9}{:>11}{:>6}",
            format!("{structure:?}"),
            tally.tried,
            tally.clean,
            tally.damaged,
            tally.explained,
            tally.open
        );
    }
    for (name, count) in &explanations {
        let _ = writeln!(text, "{count:>7} x {name}");
    }
    for case in &open {
        let half = if case.corrected { ", corrected" } else { "" };
        let _ = writeln!(
            text,
            "\n{}, {:?} + {:#x}, {}{half}\n{}",
            case.image, case.structure, case.within, case.change, case.verdicts
        );
    }
    let _ = writeln!(std::io::stdout(), "{text}");
    let agreed: usize = tallies
        .values()
        .map(|tally| tally.clean + tally.damaged)
        .sum();
    assert!(agreed > cases.len() / 2, "{text}");
    assert!(
        open.is_empty(),
        "{} cases are not explained:\n{text}",
        open.len()
    );
}
