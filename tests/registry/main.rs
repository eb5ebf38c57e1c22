//! Images in registries: in Debian's, filled by skopeo, and in small servers that misbehave.
//!
//! The modules are configured for tests by name so that the lints know that failing loudly
//! is their job.

#[cfg(test)]
mod image;
#[cfg(test)]
mod proxy;
#[cfg(test)]
mod real;
#[cfg(test)]
mod refusals;
#[cfg(test)]
mod server;
#[cfg(test)]
#[path = "../suite/common/skip.rs"]
mod skip;
#[cfg(test)]
mod tokens;
#[cfg(test)]
mod tools;
#[cfg(test)]
mod transfers;
