use super::layout::Layout;
use super::open::Vhd;
use super::parameters::Parameters;
use crate::{Error, Result, Storage};

impl<S: Storage> Vhd<S> {
    /// Makes a new disk in storage that is empty and opens it for writing.
    ///
    /// # Errors
    /// If a parameter is out of range, the storage is not empty or writing fails.
    pub fn create(mut storage: S, parameters: &Parameters) -> Result<Self> {
        Layout::new(parameters)?.write_to(&mut storage)?;
        storage.flush().map_err(Error::flush)?;
        Self::open_writable(storage)
    }
}
