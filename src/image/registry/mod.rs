//! Images in registries.
//!
//! A [`Registry`] finds the manifest or index of a name; [`Images::choose`](super::Images::choose)
//! then reads the documents of one image, and [`Image::open_layer`](super::Image::open_layer) gives
//! a layer as a stream, while it comes in.
//!
//! ```no_run
//! use tar2vhd::image::registry::{ImageName, Registry, RegistryOptions};
//!
//! let registry = Registry::new(RegistryOptions::new())?;
//! let name: ImageName = "docker.io/library/debian:13".parse()?;
//! let image = registry.images(&name)?.choose(None, Some(&"linux/arm64".parse()?))?;
//! for layer in image.layers() {
//!     let mut blob = image.open_layer(layer)?;
//!     std::io::copy(&mut blob, &mut std::io::sink())?;
//! }
//! # Ok::<_, Box<dyn std::error::Error>>(())
//! ```
//!
//! # Trust
//!
//! A document that has not the digest that leads to it is refused. A layer has as many bytes as the
//! manifest says, or reading it is an error; its digest is
//! [`Layer::digest`](super::Layer::digest), which a reader has to hold it against, as
//! [`Image::convert`](super::Image::convert) does.
//!
//! TLS is that of rustls, with the certificate authorities of the system, or on Linux those of
//! `SSL_CERT_FILE` and `SSL_CERT_DIR`, beside those of [`RegistryOptions::ca_file`].
//! `HTTPS_PROXY`, `HTTP_PROXY` and `NO_PROXY` count, but not for registries on this machine.
//!
//! # Credentials
//!
//! Unless they are given, the credentials for a name are looked for in these files, the first of
//! which that has any counts:
//!
//! 1. [`RegistryOptions::auth_file`], else `$REGISTRY_AUTH_FILE`; if there is one of them, no other;
//! 2. `$XDG_RUNTIME_DIR/containers/auth.json`, on Linux else `/run/containers/UID/auth.json`;
//! 3. `$XDG_CONFIG_HOME/containers/auth.json`, else `~/.config/containers/auth.json`;
//! 4. `$DOCKER_CONFIG/config.json`, else `~/.docker/config.json`.
//!
//! In each, a helper of `credHelpers` is asked first, then the entries of `auths` count, the one
//! closest to the repository, then the helper of `credsStore` is asked. Passwords and identity
//! tokens go to the registry and to the token server that it names, over TLS alone unless that is
//! not to be verified. Nothing of them goes where either redirects to, or into errors.
//!
//! # Connections
//!
//! One thread does the requests of a `Registry` and of what was read through it. What waits to be
//! read takes up to 4 MiB for each open layer; documents up to 4 MiB each, and 16 MiB in all. A
//! layer whose connection breaks off goes on where it broke off, by a range if the server knows
//! them. A request that may succeed later is sent again ([`RegistryOptions::retries`]).
//!
//! Layers that are kept elsewhere than in the registry (`urls`, which images of Windows have) are
//! asked of the registry alone.

mod blob;
mod credentials;
mod failure;
mod name;
mod options;
mod repository;
mod store;
mod tls;
mod token;
mod worker;

use std::fmt;
use std::sync::Arc;

pub use name::{ImageName, ParseNameError};
pub use options::RegistryOptions;

use self::repository::Repository;
use self::store::RegistryStore;
use self::worker::Worker;
use super::images::Images;
use crate::error::{Error, ErrorKind, Result};

/// Registries, all of which are spoken to in the same way.
#[derive(Clone)]
pub struct Registry {
    options: RegistryOptions,
    tls: Arc<rustls::ClientConfig>,
    worker: Arc<Worker>,
}

impl Registry {
    /// Starts the thread that does the requests.
    ///
    /// # Errors
    /// [`InvalidOptions`](ErrorKind::InvalidOptions) if the file of certificate authorities cannot
    /// be read, [`Input`](ErrorKind::Input) if the system gives no thread or no authorities.
    pub fn new(options: RegistryOptions) -> Result<Self> {
        let tls = Arc::new(tls::configuration(&options)?);
        let worker = Worker::start().map_err(|e| {
            Error::new(ErrorKind::Input, "cannot start a thread for registries").with_source(e)
        })?;
        Ok(Self {
            options,
            tls,
            worker: Arc::new(worker),
        })
    }

    /// The images of a name: one, or one for each of several platforms.
    ///
    /// The document that the name leads to is read; others when an image is
    /// [chosen](Images::choose).
    ///
    /// # Errors
    /// [`Mismatch`](ErrorKind::Mismatch) if the registry has no image of the name, or another than
    /// the digest says. [`Input`](ErrorKind::Input) if it cannot be reached, asks for other
    /// credentials or does not answer. [`Cancelled`](ErrorKind::Cancelled) by
    /// [`RegistryOptions::cancel`].
    pub fn images(&self, name: &ImageName) -> Result<Images> {
        let options = self.options.clone();
        let credentials = match &options.credentials {
            Some(given) => Some(given.clone()),
            None => credentials::find(name, options.auth_file.as_deref())?,
        };
        let repository = Repository::new(name.clone(), options, &self.tls, credentials)?;
        let worker = Arc::clone(&self.worker);
        let store = RegistryStore::new(worker, Arc::new(repository))?;
        Ok(Images::remote(store))
    }
}

impl fmt::Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registry")
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}
