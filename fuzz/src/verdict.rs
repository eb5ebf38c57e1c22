//! Changes to the metadata of sound images, of which some have a verdict that is known.

#[path = "../../tests/flips/images.rs"]
mod images;
#[path = "../../tests/flips/metadata.rs"]
pub mod metadata;

use std::sync::Arc;

use tar2vhd::Volume;
use tar2vhd::verify::{Verdict, Verification, VerifyOptions};

use metadata::{Map, Piece};

/// Bytes of an input before its changes, and of each change.
const PREFIX: usize = 2;
pub const CHANGE: usize = 5;
/// Changes that are made at most.
pub const CHANGES_MAX: usize = 8;

/// The most findings to list.
const MOST: usize = 20;

/// A sound image, where its metadata is, and a copy to change.
struct Seed {
    name: &'static str,
    sound: Vec<u8>,
    changed: Shared,
    map: Map,
}

/// An image that is lent to `verify` and comes back.
#[derive(Clone)]
struct Shared(Arc<Vec<u8>>);

impl AsRef<[u8]> for Shared {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

/// All images that the machine can make.
pub struct Seeds(Vec<Seed>);

/// A byte of a piece, and the bits of it that change.
struct Change {
    piece: Piece,
    at: usize,
    bits: u8,
}

impl Default for Seeds {
    /// Makes the images, those of mke2fs where there is one.
    fn default() -> Self {
        let images = images::ours()
            .into_iter()
            .chain(images::foreign().unwrap_or_default());
        let seeds = images.map(|image| Seed {
            name: image.name,
            map: Map::read(&image.bytes).unwrap(),
            changed: Shared(Arc::new(image.bytes.clone())),
            sound: image.bytes,
        });
        Self(seeds.collect())
    }
}

impl Seeds {
    /// Changes an image as the input says, and holds the verdict against what is known of it: an
    /// image without changes is sound, and one of which a checksum is wrong is not.
    pub fn exercise(&mut self, data: &[u8]) {
        let Some(([choice, corrects], changes)) = data.split_first_chunk::<PREFIX>() else {
            return;
        };
        let seed = usize::from(*choice) % self.0.len();
        self.0[seed].exercise(corrects & 1 == 1, changes);
    }

    /// Shows an image that is changed as the input says, and whether it is as before.
    pub fn show(&mut self, data: &[u8], look: impl FnOnce(Volume, bool)) {
        let Some(([choice, corrects], changes)) = data.split_first_chunk::<PREFIX>() else {
            return;
        };
        let seed = usize::from(*choice) % self.0.len();
        self.0[seed].show(corrects & 1 == 1, changes, look);
    }
}

impl Seed {
    /// Makes the changes, and the checksums right again if asked for.
    fn apply(&mut self, corrects: bool, changes: &[u8]) -> Vec<Change> {
        let changes: Vec<_> = changes
            .chunks_exact(CHANGE)
            .take(CHANGES_MAX)
            .map(|change| self.change(change))
            .collect();
        let bytes = Arc::make_mut(&mut self.changed.0);
        for change in &changes {
            bytes[change.at] ^= change.bits;
        }
        if corrects {
            self.map.correct(bytes);
        }
        changes
    }

    /// Takes the changes back: all that was changed and corrected is metadata.
    fn restore(&mut self) {
        let bytes = Arc::make_mut(&mut self.changed.0);
        for Piece { start, len, .. } in &self.map.pieces {
            let range = *start..*start + *len;
            bytes[range.clone()].copy_from_slice(&self.sound[range]);
        }
    }

    fn show(&mut self, corrects: bool, changes: &[u8], look: impl FnOnce(Volume, bool)) {
        self.apply(corrects, changes);
        let is_sound = bytes_of(&self.map, &self.changed.0) == bytes_of(&self.map, &self.sound);
        if let Ok(volume) = Volume::from_bytes(self.changed.clone()) {
            look(volume, is_sound);
        }
        self.restore();
    }

    fn exercise(&mut self, corrects: bool, changes: &[u8]) {
        let changes = self.apply(corrects, changes);
        let bytes = Arc::make_mut(&mut self.changed.0);
        let metadata = bytes_of(&self.map, bytes);
        let is_sound = metadata == bytes_of(&self.map, &self.sound);

        let options = VerifyOptions::new().max_findings(MOST);
        let found = Volume::from_bytes(self.changed.clone())
            .and_then(|disk| disk.verify(&options))
            .ok();
        let is_clean = |found: &Verification| found.verdict() == Verdict::Clean;
        let is_clean = found.as_ref().is_some_and(is_clean);
        let told = || {
            let changes = changes.iter().map(|change| {
                let Change { piece, at, bits } = change;
                format!("{piece:?}: byte {at} ^ {bits:#x}")
            });
            let changes: Vec<_> = changes.collect();
            format!("{}, {changes:#?}: {found:#?}", self.name)
        };
        assert!(is_clean || !is_sound, "{}", told());
        if changes.len() > 1 {
            let again = Volume::from_bytes(self.changed.clone())
                .and_then(|disk| disk.verify(&options))
                .ok();
            assert_eq!(again, found, "the threads decide what is found");
        }

        let bytes = Arc::make_mut(&mut self.changed.0);
        self.map.correct(bytes);
        let was_correct = bytes_of(&self.map, bytes) == metadata;
        assert!(!is_clean || was_correct, "{}", told());
        self.restore();
    }

    /// Reads a change: which piece, which of its bytes, and which bits.
    fn change(&self, bytes: &[u8]) -> Change {
        let number = |at: usize| usize::from(u16::from_le_bytes([bytes[at], bytes[at + 1]]));
        let piece = self.map.pieces[number(0) % self.map.pieces.len()];
        Change {
            piece,
            at: piece.start + number(2) % piece.len,
            bits: bytes[4],
        }
    }
}

/// The bytes of all pieces.
fn bytes_of(map: &Map, image: &[u8]) -> Vec<u8> {
    let pieces = map.pieces.iter();
    pieces
        .flat_map(|piece| &image[piece.start..piece.start + piece.len])
        .copied()
        .collect()
}
