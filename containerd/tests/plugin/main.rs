//! The plugin as a process: called by gRPC here, and by a real containerd.
//!
//! The modules are configured for tests by name so that the lints know that failing loudly
//! is their job.
#![cfg(unix)]

#[cfg(test)]
mod apply;
#[cfg(test)]
mod containerd;
#[cfg(test)]
mod feed;
#[cfg(test)]
mod hostile;
#[cfg(test)]
mod image;
#[cfg(test)]
mod life;
#[cfg(test)]
mod loss;
#[cfg(test)]
mod process;
#[cfg(test)]
mod rules;
#[cfg(test)]
mod scratch;
#[cfg(test)]
#[path = "../../../tests/suite/common/skip.rs"]
mod skip;
#[cfg(test)]
mod tree;

/// Clients of the API that the plugin serves.
#[cfg(test)]
mod api {
    #![expect(
        unreachable_pub,
        clippy::allow_attributes,
        clippy::allow_attributes_without_reason,
        reason = "generated"
    )]
    #![allow(
        dead_code,
        clippy::tabs_in_doc_comments,
        reason = "not every message of a file is used; comments are Go's"
    )]

    include!(concat!(env!("OUT_DIR"), "/containerd.rs"));
}
