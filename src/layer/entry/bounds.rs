//! Checks of the archive's first bytes and of those behind its end: whether it is a layer.

use super::super::model::ChunkSource;
use super::Entries;
use crate::error::{Error, Result};
use crate::layer::header::{self, BLOCK_SIZE};
use crate::layer::shape::{Shape, WINDOWS};
use crate::signature::{self, Class, HEAD};
use crate::summary::{WarningKind, Warnings};

impl<S: ChunkSource> Entries<S> {
    /// Takes what is no layer of Linux for one, with a warning.
    pub(crate) fn accept_all(mut self, accept: bool) -> Self {
        self.accept_all = accept;
        self
    }

    /// Reads on to the end of the source. What follows the end marker counts for digests and is
    /// never parsed; if it is more than zeros, that is a warning, and an error where there was no
    /// entry, because then it is no archive.
    pub(crate) fn finish(mut self) -> Result<(S, Warnings)> {
        self.judge_shape()?;
        let marker_end = self.blocks.offset();
        if self.blocks.skip_zeros()? {
            self.judge_rest(marker_end)?;
        }
        Ok((self.blocks.drain()?, self.warnings))
    }

    /// An error at the archive's first header, `start`: what the archive is instead, if that can
    /// be told.
    pub(super) fn judge_start(&mut self, start: &[u8], otherwise: Error) -> Error {
        if self.blocks.offset() != start.len() as u64 {
            return otherwise;
        }
        let mut head = start.to_vec();
        // An error is reported in any case, so a failed read here only makes its text less exact.
        let _ = self.blocks.append(&mut head, HEAD);
        let found = signature::identify(&head).and_then(|found| found.instead_of_layer());
        found.map_or(otherwise, Error::unsupported)
    }

    /// Where there is data behind zeros behind the end marker.
    fn judge_rest(&mut self, marker_end: u64) -> Result<()> {
        let start = self.blocks.offset();
        let mut rest = Vec::new();
        self.blocks.append(&mut rest, HEAD)?;
        if marker_end == MARKER && !self.accept_all {
            // All that was seen before are zeros.
            let mut head = vec![0; start.min(HEAD as u64) as usize];
            head.extend_from_slice(&rest[..rest.len().min(HEAD - head.len())]);
            // A fixed VHD of zeros has nothing but its footer.
            let footer = || signature::identify(&rest).filter(|f| f.class == Class::VirtualDisk);
            let found = signature::identify(&head).or_else(footer);
            let found = found.and_then(|found| found.instead_of_layer());
            let error = match found {
                Some(message) => Error::unsupported(message),
                None => Error::corrupt(
                    "not a layer: it begins with zeros as an archive of no entries does, and \
                    goes on with other bytes, as a disk may",
                ),
            };
            return Err(error.at_offset(start));
        }
        self.blocks.skip_all()?;
        let length = self.blocks.offset() - start;
        let is_header =
            start.is_multiple_of(BLOCK_SIZE as u64) && header::starts_with_header(&rest);
        let what = match signature::identify(&rest) {
            _ if is_header => ", where another tar archive begins".to_owned(),
            Some(found) => format!(", where they look like {}", found.name),
            None => String::new(),
        };
        let message = format!(
            "{length} bytes behind the end-of-archive marker are not on the disk: they begin at \
            byte {start}{what}"
        );
        self.warnings.push(WarningKind::TrailingBytes, b"", message);
        Ok(())
    }

    fn judge_shape(&mut self) -> Result<()> {
        let Some(shape) = self.names.shape() else {
            return Ok(());
        };
        let what = match shape {
            Shape::DockerArchive => {
                "this is an archive of images as `docker save` writes it, not a layer: the disk has \
                the archive's own files. `tar2vhd image convert` makes a disk of each layer, `tar2vhd \
                image flatten` one of all"
            }
            Shape::ImageLayout => {
                "this is an image in a tar (an OCI layout), not a layer: the disk has the archive's \
                own files. `tar2vhd image convert` makes a disk of each layer, `tar2vhd image flatten` \
                one of all"
            }
            Shape::WindowsLayer if self.accept_all => WINDOWS,
            Shape::WindowsLayer => return Err(Error::unsupported(WINDOWS)),
        };
        let kind = match shape {
            Shape::WindowsLayer => WarningKind::Hcsshim,
            _ => WarningKind::ImageArchive,
        };
        self.warnings.push(kind, b"", what);
        Ok(())
    }
}

/// Bytes of an end marker.
const MARKER: u64 = 2 * BLOCK_SIZE as u64;
