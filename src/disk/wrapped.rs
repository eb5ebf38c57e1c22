//! A disk in its format, on its way to an output.

use std::time::Duration;

use super::container::{Container, DiskIds};
use super::output::DiskOutput;
use super::stream::Stream;
use crate::error::{Error, Result};

/// Takes the bytes that a guest sees, and puts them where the format has them.
pub(crate) struct Wrapped<'scope> {
    stream: Stream<'scope>,
    container: Container,
    output: &'scope dyn DiskOutput,
}

impl<'scope> Wrapped<'scope> {
    /// A disk of which the stream writes to the output.
    pub(crate) fn new(
        stream: Stream<'scope>,
        container: Container,
        output: &'scope dyn DiskOutput,
    ) -> Self {
        Self {
            stream,
            container,
            output,
        }
    }

    /// How long writers kept the caller waiting.
    pub(crate) fn waited(&self) -> Duration {
        self.stream.waited()
    }

    /// Writes bytes of the disk.
    pub(crate) fn put(&mut self, mut offset: u64, mut data: &[u8]) -> Result<()> {
        while !data.is_empty() {
            let (place, len) = self.container.place(offset, data.len())?;
            let (now, later) = data.split_at(len);
            self.stream.write(place, now)?;
            offset += len as u64;
            data = later;
        }
        Ok(())
    }

    /// Ends the disk, and says how many bytes its file has. Where nothing was put it reads as
    /// zero before `zero_end`; behind it they are not read.
    pub(crate) fn finish(mut self, virtual_size: u64, zero_end: u64, ids: &DiskIds) -> Result<u64> {
        self.container.finish(virtual_size, zero_end, ids)?;
        for (offset, structure) in self.container.structures() {
            self.stream.write(offset, &structure)?;
        }
        self.stream.finish()?;
        let len = self.container.file_size(virtual_size);
        self.output
            .set_len(len)
            .map_err(|error| Error::output("cannot set the size of the disk", error))?;
        Ok(len)
    }
}
