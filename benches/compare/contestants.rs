//! Contestants: tar2vhd, the floors that no conversion can be under, and other converters.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;
use tar2vhd::Compression;

use crate::input::{self, Input};
use crate::program::find;
use crate::result::Result;

/// A command that is timed.
pub(crate) struct Contestant {
    pub(crate) name: &'static str,
    pub(crate) program: PathBuf,
    pub(crate) args: Vec<OsString>,
    /// Where it writes; removed before each run.
    pub(crate) output: Option<PathBuf>,
    pub(crate) check: Check,
}

/// The check of a run that reports success.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Check {
    /// The summary's digests are the layer's, and the image that of the runs before.
    Summary,
    /// The digest that it printed is the layer's.
    Digest,
    /// There is an ext file system with as many inodes as the layer has, at least.
    Image,
    /// It copied all bytes.
    Copy,
    /// Its exit status: it checks a checksum itself.
    Status,
}

impl Contestant {
    /// Whether what it prints is looked at; else it is thrown away.
    pub(crate) fn prints(&self) -> bool {
        [Check::Summary, Check::Digest].contains(&self.check)
    }
}

/// The names, which the table of ratios looks for.
pub(crate) const TAR2VHD: &str = "tar2vhd";
pub(crate) const ONE_THREAD: &str = "tar2vhd --threads 1";
pub(crate) const SYNCED: &str = "tar2vhd, synced";
pub(crate) const IGZIP: &str = "igzip -dc";
pub(crate) const ZSTD: &str = "zstd -dc";
pub(crate) const COPY: &str = "cp";
pub(crate) const OPENSSL: &str = "openssl dgst -sha256";
pub(crate) const SHA256SUM: &str = "sha256sum";

/// The contestants, and lines that name the missing ones and the reasons.
pub(crate) struct Field {
    pub(crate) contestants: Vec<Contestant>,
    pub(crate) missing: Vec<String>,
}

/// Resources of the contestants.
pub(crate) struct Place<'a> {
    pub(crate) work: &'a Path,
    /// A directory on a disk, for the run that is synced.
    pub(crate) disk: Option<&'a Path>,
    pub(crate) floors_only: bool,
}

impl Field {
    pub(crate) fn of(input: &Input, place: &Place<'_>) -> Self {
        let mut field = Self {
            contestants: Vec::new(),
            missing: Vec::new(),
        };
        field.ours(input, place);
        match input.compression {
            Compression::Gzip => {
                for (program, name) in
                    [("igzip", IGZIP), ("pigz", "pigz -dc"), ("gzip", "gzip -dc")]
                {
                    field.decompressor(program, name, input);
                }
            }
            Compression::Zstd => {
                field.decompressor("zstd", ZSTD, input);
                field.digest(input);
            }
            _ => {
                field.digest(input);
                field.copy(input, place);
            }
        }
        if !place.floors_only {
            field.tar2ext4(input, place);
            if input.compression == Compression::None {
                field.mke2fs(input, place);
                field.genext2fs(input, place);
                field.runhcs(input, place);
            }
        }
        field
    }

    fn add(
        &mut self,
        name: &'static str,
        program: impl Into<PathBuf>,
        args: impl IntoIterator<Item = OsString>,
        output: Option<PathBuf>,
        check: Check,
    ) {
        self.contestants.push(Contestant {
            name,
            program: program.into(),
            args: args.into_iter().collect(),
            output,
            check,
        });
    }

    /// A program's path, or a line that it is missing.
    fn find(&mut self, program: &str, why: &str) -> Option<PathBuf> {
        let found = find(program);
        if found.is_none() {
            self.missing.push(format!("{program}: not on PATH{why}"));
        }
        found
    }

    fn ours(&mut self, input: &Input, place: &Place<'_>) {
        let mut ways: Vec<(_, _, &[&str])> = vec![(TAR2VHD, place.work, &["--no-fsync"])];
        if input.compression == Compression::Gzip {
            ways.push((ONE_THREAD, place.work, &["--no-fsync", "--threads", "1"]));
        }
        if let Some(disk) = place.disk {
            ways.push((SYNCED, disk, &[]));
        }
        for (name, directory, options) in ways {
            let output = directory.join("tar2vhd.vhd");
            let mut args: Vec<OsString> = vec!["convert".into(), input.path.clone().into()];
            args.extend(["-o".into(), output.clone().into()]);
            args.extend(["--quiet", "--json"].map(Into::into));
            args.extend(options.iter().map(Into::into));
            let program = env!("CARGO_BIN_EXE_tar2vhd");
            self.add(name, program, args, Some(output), Check::Summary);
        }
    }

    fn decompressor(&mut self, program: &str, name: &'static str, input: &Input) {
        if let Some(path) = self.find(program, "") {
            let args = ["-dc".into(), input.path.clone().into()];
            self.add(name, path, args, None, Check::Status);
        }
    }

    fn digest(&mut self, input: &Input) {
        if let Some(path) = find("openssl") {
            let args = ["dgst".into(), "-sha256".into(), input.tar.clone().into()];
            self.add(OPENSSL, path, args, None, Check::Digest);
        } else if let Some(path) = self.find("sha256sum", ", nor is openssl") {
            let args = [input.tar.clone().into()];
            self.add(SHA256SUM, path, args, None, Check::Digest);
        }
    }

    fn copy(&mut self, input: &Input, place: &Place<'_>) {
        if let Some(path) = self.find("cp", "") {
            let output = place.work.join("copy");
            let args = [input.tar.clone().into(), output.clone().into()];
            self.add(COPY, path, args, Some(output), Check::Copy);
        }
    }

    /// From a compressed layer behind the fastest decompressor there is, and without digests:
    /// less than tar2vhd does.
    fn tar2ext4(&mut self, input: &Input, place: &Place<'_>) {
        let Some(path) = self.find("tar2ext4", "") else {
            return;
        };
        let output = place.work.join("tar2ext4.vhd");
        if input.compression == Compression::None {
            let args = ["-vhd", "-i"].map(OsString::from).into_iter();
            let args = args.chain([input.tar.clone().into(), "-o".into(), output.clone().into()]);
            self.add("tar2ext4", path, args, Some(output), Check::Image);
            return;
        }
        let decompressors: &[(&str, &'static str)] = match input.compression {
            Compression::Gzip => &[
                ("igzip", "igzip and tar2ext4"),
                ("pigz", "pigz and tar2ext4"),
                ("gzip", "gzip and tar2ext4"),
            ],
            _ => &[("zstd", "zstd and tar2ext4")],
        };
        let found = decompressors
            .iter()
            .find_map(|(program, name)| Some((find(program)?, *name)));
        if let (Some((program, name)), Some(shell)) = (found, find("sh")) {
            let script = r#""$1" -dc "$2" | "$3" -vhd -o "$4""#;
            let args = ["-c".into(), script.into(), "sh".into(), program.into()];
            let args = args.into_iter().chain([
                input.path.clone().into(),
                path.into(),
                output.clone().into(),
            ]);
            self.add(name, shell, args, Some(output), Check::Image);
        }
    }

    /// From the tar where mke2fs takes one, else from a directory with its contents.
    fn mke2fs(&mut self, input: &Input, place: &Place<'_>) {
        let Some(path) = self.find("mke2fs", "") else {
            return;
        };
        let output = place.work.join("mke2fs.img");
        let (name, source) = if mke2fs_takes_tar(&path, place.work) {
            ("mke2fs -d TAR", input.tar.clone())
        } else {
            match extracted(input, place.work) {
                Ok(directory) => ("mke2fs -d DIRECTORY", directory),
                Err(why) => {
                    self.missing
                        .push(format!("mke2fs: takes no tar, and {why}"));
                    return;
                }
            }
        };
        let (blocks, inodes) = input.room();
        let args = [
            "-q", "-F", "-t", "ext4", "-b", "4096", "-I", "256", "-m", "0",
        ];
        let args = args.map(OsString::from).into_iter().chain([
            "-O".into(),
            "^has_journal".into(),
            "-N".into(),
            inodes.to_string().into(),
            "-d".into(),
            source.into(),
            output.clone().into(),
            blocks.to_string().into(),
        ]);
        self.add(name, path, args, Some(output), Check::Image);
    }

    fn genext2fs(&mut self, input: &Input, place: &Place<'_>) {
        let Some(path) = self.find("genext2fs", "") else {
            return;
        };
        let output = place.work.join("genext2fs.img");
        let (blocks, inodes) = input.room();
        let args = ["-B".into(), "4096".into(), "-b".into(), blocks.to_string()];
        let args = args.map(OsString::from).into_iter().chain([
            "-N".into(),
            inodes.to_string().into(),
            "-a".into(),
            input.tar.clone().into(),
            output.clone().into(),
        ]);
        self.add("genext2fs -a", path, args, Some(output), Check::Image);
    }

    fn runhcs(&mut self, input: &Input, place: &Place<'_>) {
        const SCRATCH: &str = "RUNHCS_SCRATCH";
        let Some(path) = self.find("runhcs", "") else {
            return;
        };
        let Some(scratch) = std::env::var_os(SCRATCH) else {
            let line = format!("runhcs: wants a scratch.vhdx, and {SCRATCH} names none");
            self.missing.push(line);
            return;
        };
        let output = place.work.join("runhcs.vhd");
        let args = [
            "tar2vhd".into(),
            "--sourcepath".into(),
            input.tar.clone().into(),
        ];
        let args = args.into_iter().chain([
            "--scratchpath".into(),
            scratch,
            "--destpath".into(),
            output.clone().into(),
        ]);
        self.add("runhcs tar2vhd", path, args, Some(output), Check::Image);
    }
}

/// Tries it with an empty archive: whether it can is decided when it is built.
fn mke2fs_takes_tar(mke2fs: &Path, work: &Path) -> bool {
    let (tar, image) = (work.join("empty.tar"), work.join("empty.img"));
    let done = fs::write(&tar, [0; 1024]).and_then(|()| {
        Command::new(mke2fs)
            .args(["-q", "-F", "-t", "ext4", "-d"])
            .args([&tar, &image])
            .arg("1M")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
    });
    let _ = (fs::remove_file(tar), fs::remove_file(image));
    done.is_ok_and(|status| status.success())
}

/// A directory with the layer's contents.
fn extracted(input: &Input, work: &Path) -> Result<PathBuf> {
    let directory = work.join("extracted");
    fs::create_dir(&directory)?;
    if !owns_all(&directory)? {
        return Err("only root can give a directory the owners that it has".into());
    }
    let tar = find("tar").ok_or("there is no tar to make a directory of it")?;
    let status = Command::new(tar)
        .args(["--numeric-owner", "-xpf"])
        .args([&input.tar, Path::new("-C"), &directory])
        .status()?;
    if !status.success() {
        return Err(format!("tar ended with {status}").into());
    }
    Ok(directory)
}

#[cfg(unix)]
fn owns_all(directory: &Path) -> Result<bool> {
    use std::os::unix::fs::chown;

    let other = chown(directory, Some(1), Some(1));
    Ok(other
        .and_then(|()| chown(directory, Some(0), Some(0)))
        .is_ok())
}

#[cfg(not(unix))]
fn owns_all(_: &Path) -> Result<bool> {
    Ok(false)
}

impl Check {
    /// Fails if a run's result is not what it has to be. The image as a whole is looked at after
    /// the first run alone.
    pub(crate) fn holds(
        self,
        input: &Input,
        stdout: &Path,
        output: Option<&Path>,
        first: bool,
    ) -> Result<()> {
        let output = output.unwrap_or(Path::new(""));
        match self {
            Self::Summary => {
                let summary: Value = serde_json::from_slice(&fs::read(stdout)?)?;
                for (object, what, digest) in [
                    (&summary, "diff ID", &input.diff_id),
                    (&summary["compressed"], "digest", &input.digest),
                ] {
                    let said = &object["digest"];
                    if *said != format!("sha256:{digest}") {
                        return Err(format!("the {what} is sha256:{digest}, not {said}").into());
                    }
                }
                if first && Some(&input::sha256(output)?) != input.image.as_ref() {
                    return Err("the image differs from the one before".into());
                }
            }
            Self::Digest => {
                let said = fs::read_to_string(stdout)?;
                if !said.contains(&input.diff_id) {
                    return Err(format!("the diff ID is {}, not {said}", input.diff_id).into());
                }
            }
            Self::Image => {
                let inodes = inodes_in_use(output)?;
                if inodes < input.inodes {
                    let line = format!("{inodes} inodes in use, of a layer with {}", input.inodes);
                    return Err(line.into());
                }
            }
            Self::Copy => {
                if fs::metadata(output)?.len() != input.tar_size {
                    return Err("the copy has another size".into());
                }
            }
            Self::Status => {}
        }
        Ok(())
    }
}

/// Fields of an ext superblock.
fn inodes_in_use(image: &Path) -> Result<u64> {
    let mut superblock = [0; 1024];
    let mut file = File::open(image)?;
    file.seek(SeekFrom::Start(1024))?;
    file.read_exact(&mut superblock)?;
    if superblock[56..58] != 0xef53_u16.to_le_bytes() {
        return Err(format!("{} is no ext file system", image.display()).into());
    }
    let field = |at: usize| {
        superblock[at..at + 4]
            .iter()
            .rev()
            .fold(0, |n, b| n << 8 | u64::from(*b))
    };
    let (inodes, free) = (field(0), field(16));
    Ok(inodes.saturating_sub(free))
}
