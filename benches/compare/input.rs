//! A layer in the form that is timed, and what is known of it.

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use sha2::{Digest as _, Sha256};
use tar2vhd::Compression;

use crate::program::find;
use crate::result::Result;

/// A layer to convert.
pub(crate) struct Input {
    pub(crate) layer: String,
    pub(crate) compression: Compression,
    pub(crate) path: PathBuf,
    pub(crate) size: u64,
    /// SHA-256 of the input, by another program where there is one.
    pub(crate) digest: String,
    /// The uncompressed layer, which is the input itself if that is.
    pub(crate) tar: PathBuf,
    pub(crate) tar_size: u64,
    /// SHA-256 of the uncompressed layer, likewise.
    pub(crate) diff_id: String,
    /// Facts that tar2vhd reported of the layer.
    pub(crate) entries: u64,
    pub(crate) inodes: u64,
    pub(crate) blocks: u64,
    /// SHA-256 of the image, which is the same in each compression.
    pub(crate) image: Option<String>,
}

impl Input {
    pub(crate) fn new(layer: &str, path: PathBuf, tar: PathBuf) -> Result<Self> {
        let compression = compression(&path)?;
        let diff_id = sha256(&tar)?;
        Ok(Self {
            layer: layer.to_owned(),
            compression,
            size: fs::metadata(&path)?.len(),
            digest: match compression {
                Compression::None => diff_id.clone(),
                _ => sha256(&path)?,
            },
            tar_size: fs::metadata(&tar)?.len(),
            path,
            tar,
            diff_id,
            entries: 0,
            inodes: 0,
            blocks: 0,
            image: None,
        })
    }

    pub(crate) fn title(&self) -> String {
        let compression = match self.compression {
            Compression::Gzip => "gzip",
            Compression::Zstd => "zstd",
            _ => "plain",
        };
        format!("{}, {compression}", self.layer)
    }

    /// Converts the layer once and has the image checked. What it is held against afterwards,
    /// and in every other compression, is this image.
    pub(crate) fn convert(&mut self, work: &Path) -> Result<String> {
        let image = work.join("checked.vhd");
        let converted = Command::new(env!("CARGO_BIN_EXE_tar2vhd"))
            .args(["convert", "--quiet", "--json", "--no-fsync"])
            .args([&self.path, Path::new("-o"), &image])
            .output()?;
        if !converted.status.success() {
            return Err(String::from_utf8_lossy(&converted.stderr).into());
        }
        let summary: Value = serde_json::from_slice(&converted.stdout)?;
        let field = |object: &str, name: &str| {
            let field = summary[object][name].as_u64();
            field.ok_or_else(|| format!("no {object}.{name} in {summary}"))
        };
        self.entries = field("entries", "tarEntries")?;
        self.inodes = field("disk", "inodes")?;
        self.blocks = field("disk", "blocks")?;
        self.image = Some(sha256(&image)?);
        let said = e2fsck(&image);
        fs::remove_file(&image)?;
        said
    }

    /// Blocks and inodes for converters that want to know them beforehand: some more than the
    /// image has, since they may need more for the same.
    pub(crate) fn room(&self) -> (u64, u64) {
        let inodes = self.inodes + self.inodes / 50 + 100;
        let tables = inodes / 16;
        (self.blocks + self.blocks / 8 + tables + 4096, inodes)
    }
}

fn e2fsck(image: &Path) -> Result<String> {
    let Some(e2fsck) = find("e2fsck") else {
        return Ok("e2fsck: not on PATH, so no image was checked by it".to_owned());
    };
    let checked = Command::new(e2fsck).arg("-fn").arg(image).output()?;
    if !checked.status.success() {
        let said = String::from_utf8_lossy(&checked.stdout);
        return Err(format!("e2fsck found the image wrong: {said}").into());
    }
    Ok("e2fsck found the image clean".to_owned())
}

/// Told by the first bytes, as tar2vhd does.
fn compression(path: &Path) -> Result<Compression> {
    let mut magic = Vec::new();
    File::open(path)?.take(4).read_to_end(&mut magic)?;
    Ok(match magic[..] {
        [0x1f, 0x8b, ..] => Compression::Gzip,
        [0x28, 0xb5, 0x2f, 0xfd] | [0x50..0x60, 0x2a, 0x4d, 0x18] => Compression::Zstd,
        _ => Compression::None,
    })
}

/// In hexadecimal. By openssl or sha256sum, which share nothing with tar2vhd; without them by
/// the crate that tar2vhd uses too.
pub(crate) fn sha256(path: &Path) -> Result<String> {
    let said = if let Some(openssl) = find("openssl") {
        Command::new(openssl)
            .args(["dgst", "-sha256", "-r"])
            .arg(path)
            .output()?
    } else if let Some(sha256sum) = find("sha256sum") {
        Command::new(sha256sum).arg(path).output()?
    } else {
        let mut hasher = Sha256::new();
        let mut input = BufReader::with_capacity(1 << 20, File::open(path)?);
        while let part @ [_, ..] = input.fill_buf()? {
            hasher.update(part);
            let read = part.len();
            input.consume(read);
        }
        return Ok(hasher
            .finalize()
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect());
    };
    let said = String::from_utf8(said.stdout)?;
    match said.get(..64) {
        Some(digest) => Ok(digest.to_owned()),
        None => Err(format!("no digest of {}", path.display()).into()),
    }
}

/// Compresses as builders of images do: by gzip at level 6, by zstd at level 3.
pub(crate) fn compress(tar: &Path, gzip: &Path, zstd: &Path) -> Result<()> {
    let open = || Ok::<_, std::io::Error>(BufReader::with_capacity(1 << 20, File::open(tar)?));
    let create = |path| Ok::<_, std::io::Error>(BufWriter::new(File::create(path)?));
    std::thread::scope(|scope| {
        let by_zstd = scope.spawn(|| -> std::io::Result<()> {
            let mut out = create(zstd)?;
            zstd::stream::copy_encode(open()?, &mut out, 3)?;
            out.flush()
        });
        let mut encoder = flate2::write::GzEncoder::new(create(gzip)?, flate2::Compression::new(6));
        std::io::copy(&mut open()?, &mut encoder)?;
        encoder.finish()?.flush()?;
        by_zstd
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })?;
    Ok(())
}

/// The uncompressed layer of a file, by decoders that are not tar2vhd's.
pub(crate) fn decompress(path: &Path, tar: &Path) -> Result<PathBuf> {
    let input = BufReader::with_capacity(1 << 20, File::open(path)?);
    let mut out = BufWriter::new(File::create(tar)?);
    match compression(path)? {
        Compression::Gzip => {
            std::io::copy(&mut flate2::bufread::MultiGzDecoder::new(input), &mut out)?;
        }
        Compression::Zstd => zstd::stream::copy_decode(input, &mut out)?,
        _ => {
            fs::remove_file(tar)?;
            return Ok(path.to_owned());
        }
    }
    out.flush()?;
    Ok(tar.to_owned())
}
