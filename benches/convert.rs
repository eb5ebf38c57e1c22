//! The whole conversion, in memory, of generated layers in each compression.
//!
//! Every image timed is the one that was read back, file by file, before.

use std::error::Error;
use std::hint::black_box;
use std::time::{Duration, Instant};

use criterion::{Criterion, Throughput};
use ext4_view::Ext4;
use sha2::{Digest as _, Sha256};
use tar2vhd::disk::MemoryDisk;
use tar2vhd::{Compression, Options, Summary};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

fn main() -> Result<()> {
    let mut criterion = Criterion::default().configure_from_args();
    for layer in [Layer::few_large(), Layer::many_small(), Layer::deep_tree()] {
        layer.bench(&mut criterion)?;
    }
    criterion.final_summary();
    Ok(())
}

/// A generated layer: directories before what is in them.
struct Layer {
    name: &'static str,
    directories: Vec<String>,
    files: Vec<(String, Vec<u8>)>,
}

impl Layer {
    fn few_large() -> Self {
        let mut text = Text::new();
        let files = (0..3).map(|i| (format!("opt/large-{i}"), text.take(16 << 20)));
        Self {
            name: "few-large",
            directories: vec!["opt".into()],
            files: files.collect(),
        }
    }

    fn many_small() -> Self {
        let mut text = Text::new();
        let directories = (0..100).map(|i| format!("package-{i:03}"));
        let files = (0..10_000).map(|i| {
            let path = format!("package-{:03}/module-{i:05}.js", i % 100);
            (path, text.take(i * 7919 % 4000))
        });
        Self {
            name: "many-small",
            directories: directories.collect(),
            files: files.collect(),
        }
    }

    /// Every directory has two below it, eleven times over, and one file.
    fn deep_tree() -> Self {
        let mut text = Text::new();
        let mut directories = vec!["root-of-the-tree".to_owned()];
        for parent in 0..2047 {
            for side in ["left-branch", "right-branch"] {
                directories.push(format!("{}/{side}", directories[parent]));
            }
        }
        let files = directories
            .iter()
            .map(|path| (format!("{path}/leaf"), text.take(100)));
        let files = files.collect();
        Self {
            name: "deep-tree",
            directories,
            files,
        }
    }

    fn tar(&self) -> Result<Vec<u8>> {
        let mut tar = tar::Builder::new(Vec::new());
        let mut append = |kind, mode, path: &str, data: &[u8]| {
            let mut header = tar::Header::new_gnu();
            header.set_entry_type(kind);
            header.set_mode(mode);
            header.set_uid(0);
            header.set_gid(0);
            header.set_mtime(1_700_000_000);
            header.set_size(data.len() as u64);
            tar.append_data(&mut header, path, data)
        };
        for path in &self.directories {
            append(tar::EntryType::Directory, 0o755, path, b"")?;
        }
        for (path, data) in &self.files {
            append(tar::EntryType::Regular, 0o644, path, data)?;
        }
        Ok(tar.into_inner()?)
    }

    fn bench(&self, criterion: &mut Criterion) -> Result<()> {
        let tar = self.tar()?;
        let mut group = criterion.benchmark_group(format!("convert/{}", self.name));
        group.throughput(Throughput::Bytes(tar.len() as u64));
        group.sample_size(10);
        for compression in [Compression::None, Compression::Gzip, Compression::Zstd] {
            let (name, blob) = compress(compression, &tar)?;
            let (image, summary) = run(&blob)?;
            self.check(&image, &summary, &tar, compression)?;
            group.bench_function(name, |bencher| {
                bencher.iter_custom(|iterations| {
                    let mut total = Duration::ZERO;
                    for _ in 0..iterations {
                        let disk = MemoryDisk::new();
                        let options = Options::new();
                        let start = Instant::now();
                        let result = tar2vhd::convert(black_box(&blob[..]), &disk, &options);
                        total += start.elapsed();
                        assert_eq!(result.ok().as_ref(), Some(&summary));
                        assert!(disk.into_vec() == image, "the image is another one");
                    }
                    total
                });
            });
        }
        group.finish();
        Ok(())
    }

    /// Reads everything back by another implementation of ext4.
    fn check(
        &self,
        image: &[u8],
        summary: &Summary,
        tar: &[u8],
        compression: Compression,
    ) -> Result<()> {
        assert_eq!(summary.compression, compression);
        assert_eq!(summary.layer.digest.0[..], Sha256::digest(tar)[..]);
        assert_eq!(summary.layer.size, tar.len() as u64);
        assert_eq!(summary.entries.files, self.files.len() as u64);
        // The root is the one more.
        assert_eq!(
            summary.entries.directories,
            self.directories.len() as u64 + 1
        );

        // Reading the superblock checks its magic and its checksum.
        let fs = Ext4::load(Box::new(image.to_vec()))?;
        assert_eq!(fs.uuid().as_bytes(), &summary.disk.uuid);
        for path in &self.directories {
            assert!(fs.metadata(&format!("/{path}"))?.is_dir(), "{path}");
        }
        for (path, data) in &self.files {
            assert!(fs.read(&format!("/{path}"))? == *data, "{path}");
        }
        Ok(())
    }
}

fn run(blob: &[u8]) -> Result<(Vec<u8>, Summary)> {
    let disk = MemoryDisk::new();
    let summary = tar2vhd::convert(blob, &disk, &Options::new())?;
    Ok((disk.into_vec(), summary))
}

fn compress(compression: Compression, tar: &[u8]) -> Result<(&'static str, Vec<u8>)> {
    use std::io::Write;

    Ok(match compression {
        Compression::Gzip => {
            let mut encoder = flate2::write::GzEncoder::new(Vec::new(), Default::default());
            encoder.write_all(tar)?;
            ("gzip", encoder.finish()?)
        }
        Compression::Zstd => ("zstd", zstd::encode_all(tar, 3)?),
        _ => ("none", tar.to_vec()),
    })
}

/// Lines of words and numbers, the same on every run, that compress about as program text does.
struct Text {
    state: u64,
}

impl Text {
    const WORDS: [&str; 16] = [
        "return",
        "const",
        "function",
        "value",
        "index",
        "result",
        "=> {",
        "});",
        "if (",
        "null",
        "module.exports",
        "require(",
        "this.",
        "===",
        "options",
        "length",
    ];

    fn new() -> Self {
        Self {
            state: 0x9e37_79b9_7f4a_7c15,
        }
    }

    /// xorshift64
    fn next(&mut self) -> u64 {
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        self.state
    }

    fn take(&mut self, length: usize) -> Vec<u8> {
        let mut text = Vec::with_capacity(length + 32);
        while text.len() < length {
            let random = self.next();
            text.extend_from_slice(Self::WORDS[random as usize % Self::WORDS.len()].as_bytes());
            match random >> 60 {
                0 => text.extend_from_slice(format!("{:x}", random >> 32).as_bytes()),
                1 => text.push(b'\n'),
                _ => text.push(b' '),
            }
        }
        text.truncate(length);
        text
    }
}
