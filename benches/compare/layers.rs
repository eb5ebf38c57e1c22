//! Generated layers: the kinds of tree that images are made of.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

use tar::{Builder, EntryType, Header};

use crate::contents::{Random, Text, compressed, machine_code};
use crate::result::Result;

/// A kind of layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Kind {
    /// 200,000 small files of program text in 25,000 directories, as npm installs packages.
    Small,
    /// 211 MB of programs, libraries, scripts, manuals and links, as a root of Debian.
    Debian,
    /// Eight files of 64 MiB of machine code.
    Large,
    /// 1,000,000 empty files in 2,000 directories.
    Empty,
}

impl Kind {
    pub(crate) const ALL: [Self; 4] = [Self::Small, Self::Debian, Self::Large, Self::Empty];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Small => "small",
            Self::Debian => "debian",
            Self::Large => "large",
            Self::Empty => "empty",
        }
    }

    /// About the size of the tar, at full scale.
    pub(crate) fn size(self) -> u64 {
        match self {
            Self::Small => 1_300_000_000,
            Self::Debian => 211_000_000,
            Self::Large => 8 * (64 << 20),
            Self::Empty => 512_000_000,
        }
    }

    /// Writes the tar of a layer with `scale` times what the kind has.
    pub(crate) fn write(self, scale: f64, text: &Text, path: &Path) -> Result<()> {
        let of = |count: usize| ((count as f64 * scale) as usize).max(1);
        let out = BufWriter::with_capacity(1 << 20, File::create(path)?);
        let mut layer = Layer {
            tar: Builder::new(out),
            text,
            random: Random::new(1),
            data: Vec::new(),
            written: 0,
        };
        match self {
            Self::Small => layer.packages(of(200_000))?,
            Self::Debian => layer.debian(of(211_000_000))?,
            Self::Large => layer.large(of(64 << 20))?,
            Self::Empty => layer.empty(of(1_000_000))?,
        }
        layer.tar.into_inner()?.flush()?;
        Ok(())
    }
}

struct Layer<'t, W: Write> {
    tar: Builder<W>,
    text: &'t Text,
    random: Random,
    /// The contents of the next file.
    data: Vec<u8>,
    /// Bytes of contents.
    written: usize,
}

/// Sizes of files, at every 1/32: most are small, a few are not.
const TEXT_SIZES: [usize; 33] = [
    0, 60, 110, 160, 220, 290, 370, 460, 550, 650, 750, 860, 980, 1_100, 1_240, 1_400, 1_600,
    1_800, 2_050, 2_350, 2_700, 3_100, 3_600, 4_200, 4_900, 5_800, 7_000, 8_500, 10_500, 13_500,
    18_500, 30_000, 90_000,
];
const CODE_SIZES: [usize; 9] = [
    6_000, 14_000, 19_000, 31_000, 47_000, 71_000, 130_000, 300_000, 2_400_000,
];

impl<W: Write> Layer<'_, W> {
    /// Appends an entry with what `data` holds.
    fn append(&mut self, kind: EntryType, path: &str) -> Result<()> {
        let mut header = self.header(kind);
        header.set_size(self.data.len() as u64);
        self.tar.append_data(&mut header, path, &self.data[..])?;
        self.written += self.data.len();
        self.data.clear();
        Ok(())
    }

    fn link(&mut self, kind: EntryType, path: &str, target: &str) -> Result<()> {
        let mut header = self.header(kind);
        self.tar.append_link(&mut header, path, target)?;
        Ok(())
    }

    fn header(&mut self, kind: EntryType) -> Header {
        let mut header = Header::new_ustar();
        header.set_entry_type(kind);
        header.set_mode(match kind {
            EntryType::Directory => 0o755,
            EntryType::Symlink => 0o777,
            _ => 0o644,
        });
        header.set_uid(0);
        header.set_gid(0);
        header.set_size(0);
        header.set_mtime(1_700_000_000 + self.random.below(10_000_000) as u64);
        header
    }

    fn directory(&mut self, path: &str) -> Result<()> {
        self.append(EntryType::Directory, path)
    }

    fn text_file(&mut self, path: &str) -> Result<()> {
        let size = self.random.size(&TEXT_SIZES);
        self.text.take(size, &mut self.random, &mut self.data);
        self.append(EntryType::Regular, path)
    }

    fn packages(&mut self, files: usize) -> Result<()> {
        const TOP: [&str; 4] = ["package.json", "README.md", "LICENSE", "index.js"];
        const DIRECTORIES: [&str; 8] = [
            "lib",
            "dist",
            "dist/esm",
            "dist/types",
            "src",
            "src/internal",
            "test",
            "test/fixtures",
        ];
        const SUFFIXES: [&str; 4] = ["js", "d.ts", "js.map", "mjs"];
        for path in ["srv", "srv/app", "srv/app/node_modules"] {
            self.directory(path)?;
        }
        let mut left = files;
        for package in 0.. {
            let root = format!("srv/app/node_modules/package-{package:05}");
            self.directory(&root)?;
            for name in TOP {
                self.text_file(&format!("{root}/{name}"))?;
                left -= 1;
                if left == 0 {
                    return Ok(());
                }
            }
            for directory in DIRECTORIES {
                self.directory(&format!("{root}/{directory}"))?;
                for file in 0..4 + self.random.below(9) {
                    let word = self.random.below(1000);
                    let suffix = SUFFIXES[self.random.below(SUFFIXES.len())];
                    let path = format!("{root}/{directory}/module-{word:03}-{file:02}.{suffix}");
                    self.text_file(&path)?;
                    left -= 1;
                    if left == 0 {
                        return Ok(());
                    }
                }
            }
        }
        Ok(())
    }

    fn debian(&mut self, bytes: usize) -> Result<()> {
        const DIRECTORIES: [&str; 14] = [
            "etc",
            "usr",
            "usr/bin",
            "usr/lib",
            "usr/lib/x86_64-linux-gnu",
            "usr/lib/x86_64-linux-gnu/gconv",
            "usr/share",
            "usr/share/doc",
            "usr/share/man",
            "usr/share/man/man1",
            "usr/share/perl",
            "usr/share/zoneinfo",
            "var",
            "var/lib",
        ];
        for path in DIRECTORIES {
            self.directory(path)?;
        }
        self.link(EntryType::Symlink, "bin", "usr/bin")?;
        self.link(EntryType::Symlink, "lib", "usr/lib")?;
        for package in 0.. {
            let code = self.random.size(&CODE_SIZES);
            machine_code(code, &mut self.random, &mut self.data);
            let library = format!("usr/lib/x86_64-linux-gnu/libpart{package}.so");
            self.append(EntryType::Regular, &format!("{library}.1.0.{package}"))?;
            let name = format!("libpart{package}.so.1.0.{package}");
            self.link(EntryType::Symlink, &format!("{library}.1"), &name)?;
            let code = self.random.size(&CODE_SIZES[..8]);
            machine_code(code, &mut self.random, &mut self.data);
            let program = format!("usr/bin/program-{package}");
            self.append(EntryType::Regular, &program)?;
            if package % 16 == 0 {
                self.link(EntryType::Link, &format!("{program}-alias"), &program)?;
            }

            let docs = format!("usr/share/doc/part{package}");
            self.directory(&docs)?;
            self.text_file(&format!("{docs}/copyright"))?;
            for path in [
                format!("{docs}/changelog.Debian.gz"),
                format!("usr/share/man/man1/program-{package}.1.gz"),
            ] {
                let size = self.random.size(&TEXT_SIZES);
                compressed(size, &mut self.random, &mut self.data);
                self.append(EntryType::Regular, &path)?;
            }
            let perl = format!("usr/share/perl/Part{package}");
            self.directory(&perl)?;
            for file in 0..8 {
                self.text_file(&format!("{perl}/Module{file}.pm"))?;
            }
            self.text_file(&format!("etc/part{package}.conf"))?;
            if self.written >= bytes {
                break;
            }
        }
        Ok(())
    }

    fn large(&mut self, size: usize) -> Result<()> {
        self.directory("opt")?;
        for file in 0..8 {
            machine_code(size, &mut self.random, &mut self.data);
            self.append(EntryType::Regular, &format!("opt/large-{file}"))?;
        }
        Ok(())
    }

    fn empty(&mut self, files: usize) -> Result<()> {
        for file in 0..files {
            let directory = format!("directory-{:04}", file / 500);
            if file % 500 == 0 {
                self.directory(&directory)?;
            }
            self.append(
                EntryType::Regular,
                &format!("{directory}/empty-file-{file:07}"),
            )?;
        }
        Ok(())
    }
}
