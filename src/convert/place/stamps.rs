//! The layer of each name, while several layers are applied one above the other.

use std::collections::HashSet;

use crate::ext4::tree::Ino;

/// Which names belong to which layer.
#[derive(Default)]
pub(super) struct Stamps {
    /// The number of the layer that is applied, the lowest is 0.
    layer: u16,
    /// The layer of each name, by its number.
    layers: Vec<u16>,
    /// The layer that described the root last.
    root: u16,
    /// Directories in which nothing of lower layers is left.
    cleared: HashSet<Ino>,
}

impl Stamps {
    pub(super) fn begin_layer(&mut self, layer: u16) {
        self.layer = layer;
        self.cleared = HashSet::new();
    }

    /// The name belongs to the layer that is applied.
    pub(super) fn mark(&mut self, dirent: u32) {
        let index = dirent as usize;
        if self.layers.len() <= index {
            self.layers.resize(index + 1, self.layer);
        }
        self.layers[index] = self.layer;
    }

    pub(super) fn is_lower(&self, dirent: u32) -> bool {
        let layer = self.layers.get(dirent as usize);
        layer.is_some_and(|layer| *layer < self.layer)
    }

    /// The root belongs to the layer that is applied. Whether it was a lower one's.
    pub(super) fn mark_root(&mut self) -> bool {
        std::mem::replace(&mut self.root, self.layer) < self.layer
    }

    /// Nothing of lower layers is left in a directory. Whether there was before.
    pub(super) fn clear(&mut self, dir: Ino) -> bool {
        self.cleared.insert(dir)
    }
}
