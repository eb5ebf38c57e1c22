//! The ratios that tar2vhd is held to: a limit for each, and what is aimed at.

use tar2vhd::Compression;

use crate::case::{Case, Row, Spread};
use crate::contestants::{COPY, IGZIP, ONE_THREAD, TAR2VHD};
use crate::measure::Run;

/// A ratio, or another figure, of all rounds.
pub(crate) struct Line {
    pub(crate) what: String,
    pub(crate) spread: Spread,
    pub(crate) limit: f64,
    pub(crate) aim: f64,
}

/// The lines for which everything ran.
pub(crate) fn lines(cases: &[Case]) -> Vec<Line> {
    let mut lines: Vec<Line> = Vec::new();
    let mut add = |what: &str, spread: Option<Spread>, limit, aim| {
        lines.extend(spread.map(|spread| Line {
            what: what.to_owned(),
            spread,
            limit,
            aim,
        }));
    };
    let case = |layer, compression| {
        let mut cases = cases.iter();
        cases.find(|case| case.layer == layer && case.compression == compression)
    };
    let (small, debian) = ("small", "debian");
    for (layer, compression, what, limit, aim) in [
        (
            small,
            Compression::Gzip,
            "gzip, small files: wall against igzip",
            1.25,
            1.05,
        ),
        (
            debian,
            Compression::Gzip,
            "gzip, Debian root: wall against igzip",
            1.20,
            1.00,
        ),
        (
            small,
            Compression::Zstd,
            "zstd, small files: wall against zstd or SHA-256",
            1.25,
            1.05,
        ),
        (
            debian,
            Compression::Zstd,
            "zstd, Debian root: wall against zstd or SHA-256",
            1.25,
            1.05,
        ),
        (
            "large",
            Compression::None,
            "plain, large files: wall against SHA-256",
            1.05,
            0.85,
        ),
        (
            small,
            Compression::None,
            "plain, small files: wall against SHA-256",
            1.30,
            0.95,
        ),
    ] {
        let ratio = case(layer, compression)
            .and_then(|case| ratio(case.row(TAR2VHD)?, case.floor()?, |run| Some(run.wall)));
        add(what, ratio, limit, aim);
    }
    let per_entry = case(small, Compression::None).and_then(per_entry);
    add(
        "plain, small files: µs of CPU per entry beyond SHA-256 and cp",
        per_entry,
        1.5,
        0.7,
    );
    let gzip = case(small, Compression::Gzip);
    let cpu = gzip.and_then(|case| ratio(case.row(TAR2VHD)?, case.row(IGZIP)?, |run| run.cpu));
    add(
        "gzip, small files: CPU seconds against igzip's",
        cpu,
        2.2,
        1.9,
    );
    let one_thread = gzip.and_then(|case| {
        let figures = pairs(case.row(ONE_THREAD)?, case.row(TAR2VHD)?);
        Spread::of(
            figures
                .map(|(one, all)| Some(one.wall / all.cpu?))
                .collect::<Option<_>>()?,
        )
    });
    add(
        "gzip, small files: wall of one thread against CPU of all",
        one_thread,
        1.0,
        1.0,
    );
    if let Some(empty) = case("empty", Compression::None) {
        let row = empty.row(TAR2VHD);
        add("empty files: s", row.and_then(Row::wall), 4.0, 2.0);
        let mb = |peak: Spread| peak.map(|bytes| bytes / 1e6);
        add(
            "empty files: MB of memory",
            row.and_then(Row::peak).map(mb),
            350.0,
            200.0,
        );
    }
    let mut memory: Vec<_> = cases.iter().filter_map(memory).collect();
    memory.sort_by(|a, b| a.spread.median.total_cmp(&b.spread.median));
    lines.extend(memory.pop());
    lines
}

/// The runs of two commands in the same round.
fn pairs<'a>(a: &'a Row, b: &'a Row) -> impl Iterator<Item = (&'a Run, &'a Run)> {
    a.runs.iter().zip(&b.runs)
}

/// The ratios of each round: what slows down the machine for a while does so to both.
fn ratio(a: &Row, b: &Row, figure: impl Fn(&Run) -> Option<f64>) -> Option<Spread> {
    let ratios = pairs(a, b).map(|(a, b)| Some(figure(a)? / figure(b)?));
    Spread::of(ratios.collect::<Option<_>>()?)
}

/// Peak memory against an allowance for all and some for each entry.
fn memory(case: &Case) -> Option<Line> {
    let allowance = |all: u64, each: u64| ((all << 20) + each * case.entries) as f64;
    let (limit, aim) = (allowance(64, 256), allowance(32, 160));
    let spread = case.row(TAR2VHD)?.peak()?.map(|bytes| bytes / limit);
    Some(Line {
        what: format!(
            "{}: memory against 64 MiB and 256 B per entry, the worst",
            case.title
        ),
        spread,
        limit: 1.0,
        aim: aim / limit,
    })
}

/// The cost of an entry: CPU time without that of a digest and of a copy of the same bytes.
fn per_entry(case: &Case) -> Option<Spread> {
    let (ours, digest, copy) = (case.row(TAR2VHD)?, case.digest()?, case.row(COPY)?);
    let rounds = pairs(ours, digest).zip(&copy.runs);
    let figures = rounds.map(|((ours, digest), copy)| {
        Some((ours.cpu? - digest.cpu? - copy.cpu?) * 1e6 / case.entries as f64)
    });
    Spread::of(figures.collect::<Option<_>>()?)
}
