//! Times the inflater against zlib-rs, and against igzip (Debian's isal) if it is there.
//!
//! usage: compare [FILE.gz [ROUNDS]]
//!
//! Without a file it makes one of 64 MiB that looks like a tar of programs and texts. Each
//! round runs each decoder once, over pieces of 256 KiB, with the CRC-32 that all of them
//! check. What counts is CPU time, and the median of the rounds.

use std::error::Error;
use std::fs;
use std::io::Write;
use std::process::{Command, Stdio};

use flate2::bufread::GzDecoder;
use flate2::write::GzEncoder;
use flate2::{Compression, Crc, Decompress, FlushDecompress, Status};
use inflate::{Inflater, WINDOW};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

const PIECE: usize = 256 * 1024;

/// How much of input and output was used, and whether that was all.
type Step = Result<(usize, usize, bool)>;

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let made = std::env::temp_dir().join("inflate-compare.gz");
    let path = match arguments.next() {
        Some(path) => path.into(),
        None => {
            fs::write(&made, generate()?)?;
            made.clone()
        }
    };
    let rounds = arguments.next().map_or(Ok(7), |rounds| rounds.parse())?;
    let file = fs::read(&path)?;
    let member = Member::parse(&file)?;

    let mut out = std::io::stdout().lock();
    let mut times = [const { Vec::new() }; 3];
    for _ in 0..rounds {
        times[0].push(timed(|| member.inflate(with_inflater()))?);
        times[1].push(timed(|| member.inflate(with_zlib_rs()))?);
        if let Some(seconds) = igzip(&path)? {
            times[2].push(seconds);
        }
    }
    let mut base = None;
    for (name, times) in ["inflate", "zlib-rs", "igzip"].iter().zip(&mut times) {
        times.sort_by(f64::total_cmp);
        let (Some(least), Some(&median)) = (times.first(), times.get(times.len() / 2)) else {
            writeln!(out, "{name}: not found")?;
            continue;
        };
        let ratio = median / *base.get_or_insert(median);
        let speed = f64::from(member.length) / median / 1e6;
        writeln!(
            out,
            "{name}: {median:.3} s (least {least:.3}), {speed:.0} MB/s, {ratio:.2} of ours"
        )?;
    }
    if path == made {
        fs::remove_file(made)?;
    }
    Ok(())
}

/// A gzip file's only member.
struct Member<'a> {
    stream: &'a [u8],
    crc: u32,
    length: u32,
}

impl<'a> Member<'a> {
    fn parse(file: &'a [u8]) -> Result<Self> {
        let mut decoder = GzDecoder::new(file);
        std::io::copy(&mut decoder, &mut std::io::sink())?;
        if !decoder.into_inner().is_empty() {
            return Err("the file has more than one member".into());
        }
        let (body, trailer) = file.split_last_chunk::<8>().ok_or("too short")?;
        let flags = file[3];
        let mut start = 10;
        if flags & 4 != 0 {
            start += 2 + usize::from(u16::from_le_bytes([file[start], file[start + 1]]));
        }
        for text in [8, 16] {
            if flags & text != 0 {
                start += 1 + file[start..].iter().take_while(|byte| **byte != 0).count();
            }
        }
        let [c0, c1, c2, c3, l0, l1, l2, l3] = *trailer;
        Ok(Self {
            stream: &body[start + usize::from(flags & 2)..],
            crc: u32::from_le_bytes([c0, c1, c2, c3]),
            length: u32::from_le_bytes([l0, l1, l2, l3]),
        })
    }

    /// The function takes input, output and where to go on in it.
    fn inflate<F>(&self, mut decode: F) -> Result<()>
    where
        F: FnMut(&[u8], &mut [u8], usize) -> Step,
    {
        let mut crc = Crc::new();
        let mut output = vec![0; WINDOW + PIECE];
        let mut filled = WINDOW;
        let mut rest = self.stream;
        loop {
            let input = &rest[..rest.len().min(PIECE)];
            let (consumed, produced, ended) = decode(input, &mut output, filled)?;
            rest = &rest[consumed..];
            crc.update(&output[filled..filled + produced]);
            filled += produced;
            if filled == output.len() {
                output.copy_within(PIECE.., 0);
                filled = WINDOW;
            }
            if ended {
                break;
            }
            if consumed == 0 && produced == 0 {
                return Err("it is stuck".into());
            }
        }
        if (crc.sum(), crc.amount()) != (self.crc, self.length) {
            return Err("the contents are wrong".into());
        }
        Ok(())
    }
}

fn with_inflater() -> impl FnMut(&[u8], &mut [u8], usize) -> Step {
    let mut inflater = Inflater::new();
    move |input, output, start| {
        let progress = inflater.inflate(input, output, start)?;
        Ok((progress.consumed, progress.produced, progress.ended))
    }
}

fn with_zlib_rs() -> impl FnMut(&[u8], &mut [u8], usize) -> Step {
    let mut engine = Decompress::new(false);
    move |input, output, start| {
        let (consumed, produced) = (engine.total_in(), engine.total_out());
        let status = engine.decompress(input, &mut output[start..], FlushDecompress::None)?;
        Ok((
            (engine.total_in() - consumed) as usize,
            (engine.total_out() - produced) as usize,
            status == Status::StreamEnd,
        ))
    }
}

/// Seconds of CPU time that it took.
fn timed(work: impl FnOnce() -> Result<()>) -> Result<f64> {
    // Nanoseconds that this thread ran.
    let now = || -> Result<f64> {
        let stat = fs::read_to_string("/proc/thread-self/schedstat")?;
        let nanos: u64 = stat.split(' ').next().ok_or("no time")?.parse()?;
        Ok(nanos as f64 / 1e9)
    };
    let before = now()?;
    work()?;
    Ok(now()? - before)
}

/// Seconds of CPU time that igzip takes for the file; none if there is no igzip.
fn igzip(path: &std::path::Path) -> Result<Option<f64>> {
    // Hundredths of a second that children ran, in the kernel and not.
    let now = || -> Result<f64> {
        let stat = fs::read_to_string("/proc/self/stat")?;
        let fields = stat.rsplit(')').next().ok_or("no fields")?;
        let mut fields = fields.split_whitespace().skip(13);
        let mut next = || -> Result<f64> { Ok(fields.next().ok_or("no time")?.parse()?) };
        Ok((next()? + next()?) / 100.0)
    };
    let before = now()?;
    let mut command = Command::new("igzip");
    command.arg("-dc").arg(path).stdout(Stdio::null());
    let Ok(mut child) = command.spawn() else {
        return Ok(None);
    };
    if !child.wait()?.success() {
        return Err("igzip fails".into());
    }
    Ok(Some(now()? - before))
}

fn generate() -> Result<Vec<u8>> {
    let mut state = 1_u64;
    let mut random = |below: u64| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % below
    };
    let words: Vec<Vec<u8>> = (0..4000)
        .map(|_| {
            let length = 2 + random(9);
            (0..length)
                .map(|_| b"etaoinshrdlucmfw"[random(16) as usize])
                .collect()
        })
        .collect();
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    let mut tar = Vec::new();
    while tar.len() < 64 << 20 {
        let start = tar.len();
        // A header is mostly zeros.
        tar.resize(start + 512, 0);
        tar.extend_from_slice(b"usr/share/");
        let size = 1 << (8 + random(10));
        let binary = random(2) == 0;
        while tar.len() < start + size {
            if binary {
                // Instructions: few that are new, many that were seen nearby.
                if random(4) == 0 || tar.len() < 4096 {
                    tar.extend((0..4).map(|_| (random(256) & random(256)) as u8));
                } else {
                    let from = tar.len() - 8 - random(3000) as usize;
                    tar.extend_from_within(from..from + 3 + random(6) as usize);
                }
            } else {
                // Small numbers are likelier.
                let most = 1 + random(4000);
                tar.extend_from_slice(&words[random(most) as usize]);
                tar.push(b' ');
            }
        }
        tar.resize(tar.len().next_multiple_of(512), 0);
    }
    encoder.write_all(&tar)?;
    Ok(encoder.finish()?)
}
