use super::layout::Layout;
use super::open::Vhdx;
use super::parameters::Parameters;
use crate::{Error, Result, Storage};

impl<S: Storage> Vhdx<S> {
    /// Makes a new disk in storage that is empty and opens it for writing.
    ///
    /// # Errors
    /// If a parameter is out of range, the storage is not empty or writing fails.
    pub fn create(mut storage: S, parameters: &Parameters) -> Result<Self> {
        let layout = Layout::new(parameters)?;
        layout.write_to(&mut storage)?;
        storage.flush().map_err(Error::flush)?;
        let mut disk = Self::open(storage)?;
        disk.start_writing(parameters.identity)?;
        Ok(disk)
    }
}
