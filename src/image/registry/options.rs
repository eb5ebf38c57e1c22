//! How a registry is spoken to.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use super::credentials::Credentials;
use crate::cancel::CancelToken;

/// How registries are spoken to.
///
/// ```
/// use tar2vhd::image::registry::RegistryOptions;
///
/// let options = RegistryOptions::new().ca_file("/etc/ssl/registry.pem").retries(2);
/// ```
#[derive(Clone)]
#[must_use]
pub struct RegistryOptions {
    pub(super) tls_verify: bool,
    pub(super) ca_file: Option<PathBuf>,
    pub(super) credentials: Option<Credentials>,
    pub(super) auth_file: Option<PathBuf>,
    pub(super) retries: u32,
    pub(super) retry_pause: Duration,
    pub(super) timeout: Duration,
    pub(super) cancel: CancelToken,
}

impl Default for RegistryOptions {
    fn default() -> Self {
        Self {
            tls_verify: true,
            ca_file: None,
            credentials: None,
            auth_file: None,
            retries: 5,
            retry_pause: Duration::from_millis(500),
            timeout: Duration::from_secs(60),
            cancel: CancelToken::new(),
        }
    }
}

impl RegistryOptions {
    /// The defaults: verified TLS, the credentials that `docker login` and the like have kept, five
    /// retries, a minute of patience.
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether the registry has to prove by TLS who it is; default yes. Without that, any
    /// certificate does, and plain HTTP is tried where there is no TLS.
    pub fn tls_verify(mut self, verify: bool) -> Self {
        self.tls_verify = verify;
        self
    }

    /// A PEM file with certificate authorities that are trusted beside those of the system.
    pub fn ca_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.ca_file = Some(path.into());
        self
    }

    /// A user and a password for every registry; no file is asked then.
    pub fn credentials(mut self, user: impl Into<String>, password: impl Into<String>) -> Self {
        self.credentials = Some(Credentials::Password {
            user: user.into(),
            password: password.into(),
        });
        self
    }

    /// The file with credentials; by default that of podman, skopeo and docker is looked for, see
    /// the [module's page](super#credentials).
    pub fn auth_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.auth_file = Some(path.into());
        self
    }

    /// How often a request is sent again whose connection broke off, or that the registry could
    /// not answer at the time; default 5. A layer of which another MiB came in has them all again.
    pub fn retries(mut self, retries: u32) -> Self {
        self.retries = retries;
        self
    }

    /// The pause before the first retry; default half a second. Each further one is twice as long,
    /// up to 10 seconds, or as long as the registry asks for, up to a minute.
    pub fn retry_pause(mut self, pause: Duration) -> Self {
        self.retry_pause = pause;
        self
    }

    /// How long nothing may come in before a connection counts as broken; default a minute.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Lets another thread end requests and readers.
    pub fn cancel(mut self, token: CancelToken) -> Self {
        self.cancel = token;
        self
    }
}

impl fmt::Debug for RegistryOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RegistryOptions")
            .field("tls_verify", &self.tls_verify)
            .field("ca_file", &self.ca_file)
            .field("credentials", &self.credentials)
            .field("auth_file", &self.auth_file)
            .field("retries", &self.retries)
            .field("retry_pause", &self.retry_pause)
            .field("timeout", &self.timeout)
            .field("cancel", &self.cancel)
            .finish()
    }
}
