//! From the bytes that the fuzzer gives to a conversion.

use std::io::{self, Read};

use tar2vhd::disk::MemoryDisk;
use tar2vhd::lower::{
    LowerContents, LowerEntry, LowerKind, LowerLayers, LowerMetadata, LowerPiece,
};
use tar2vhd::{DiskFormat, Options, Summary};

/// The error text of [`Choice::convert`]'s lower layers.
pub const LOWER_FAILS: &str = "the layers below are gone";

/// Bytes before the layer that choose the options.
pub const PREFIX: usize = 2;

/// The choices that the prefix of an input makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Choice {
    first: u8,
    second: u8,
}

impl Choice {
    /// The options and the layer of one input; `None` when it is too short for both.
    pub fn split(data: &[u8]) -> Option<(Self, &[u8])> {
        let (prefix, layer) = data.split_first_chunk::<PREFIX>()?;
        Some((
            Self {
                first: prefix[0],
                second: prefix[1],
            },
            layer,
        ))
    }

    /// Whether small files may lie inside their inodes.
    pub fn inline_data(self) -> bool {
        self.first & 1 << 2 != 0
    }

    /// Whether the conversion is repeated with threads; its bytes must not change.
    pub fn twice(self) -> bool {
        self.first & 1 << 7 != 0
    }

    /// Whether there are layers below.
    pub fn lower_layers(self) -> bool {
        self.first & 1 << 5 != 0
    }

    /// Whether the disk has a VHD footer.
    pub fn vhd(self) -> bool {
        self.first & 1 != 0
    }

    fn options(self, threads: usize) -> Options {
        let first = |bit: u8| self.first & 1 << bit != 0;
        let second = |bit: u8| self.second & 1 << bit != 0;
        let options = Options::new()
            .format(if self.vhd() {
                DiskFormat::Vhd
            } else {
                DiskFormat::Raw
            })
            .whiteouts(!first(1))
            .inline_data(self.inline_data())
            .keep_zeros(first(3))
            .bottom_layer(first(4) && !self.lower_layers())
            .allow_empty(second(0))
            .align(if second(1) { 1 << 20 } else { 0 })
            // The output of a few kilobytes must not slow the fuzzer down.
            .max_size(if second(2) { 1 << 20 } else { 16 << 20 })
            .max_entries(if second(3) { 8 } else { 1 << 16 })
            .max_window(8 << 20)
            .threads(threads);
        if self.lower_layers() {
            options.lower_layers(Lower)
        } else {
            options
        }
    }

    /// Converts the layer in memory.
    pub fn convert(self, layer: &[u8], threads: usize) -> tar2vhd::Result<(Vec<u8>, Summary)> {
        let disk = MemoryDisk::new();
        let options = self.options(threads);
        let summary = if self.first & 1 << 6 != 0 {
            tar2vhd::convert(
                Trickle {
                    rest: layer,
                    turn: 0,
                },
                &disk,
                &options,
            )?
        } else {
            tar2vhd::convert(layer, &disk, &options)?
        };
        Ok((disk.into_vec(), summary))
    }
}

/// Reads a few bytes at a time, each time another number, now and then interrupted.
struct Trickle<'a> {
    rest: &'a [u8],
    turn: usize,
}

impl Read for Trickle<'_> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        self.turn += 1;
        if self.turn.is_multiple_of(5) {
            return Err(io::ErrorKind::Interrupted.into());
        }
        let limit = buf.len().min(self.turn * 37 % 700 + 1);
        self.rest.read(&mut buf[..limit])
    }
}

/// Lower layers of a few levels that hold something of every kind, chosen by the last byte of
/// the path.
struct Lower;

impl LowerLayers for Lower {
    fn lookup(&self, path: &[u8]) -> io::Result<Option<LowerEntry>> {
        if path.iter().filter(|byte| **byte == b'/').count() > 6 {
            return Ok(None);
        }
        let entry = match path.last().unwrap_or(&0) % 8 {
            0 => return Err(io::Error::other(LOWER_FAILS)),
            1 => other(LowerKind::Symlink(path.to_vec())),
            2 => other(LowerKind::Symlink(b"../x/./y//".to_vec())),
            3 => other(LowerKind::Other),
            4 => return Ok(None),
            5 => LowerEntry::new(LowerKind::File(5000), LowerMetadata::new(0o644, 1, 2)).with_id(7),
            last => LowerEntry::new(
                LowerKind::Directory,
                LowerMetadata::new(0o1777, last.into(), 0)
                    .mtime(i64::MAX, 999_999_999)
                    .xattr("user.lower", path),
            ),
        };
        Ok(Some(entry))
    }

    fn contents(&self, _: &[u8]) -> io::Result<LowerContents<'_>> {
        let pieces = [LowerPiece::Data(vec![7; 900]), LowerPiece::Hole(4100)];
        Ok(Box::new(pieces.into_iter().map(Ok)))
    }
}

fn other(kind: LowerKind) -> LowerEntry {
    LowerEntry::new(kind, LowerMetadata::default())
}
