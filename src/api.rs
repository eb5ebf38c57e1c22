//! containerd's gRPC API, generated from `proto/`.

#![expect(
    unreachable_pub,
    clippy::allow_attributes,
    clippy::allow_attributes_without_reason,
    reason = "generated"
)]
#![allow(
    dead_code,
    clippy::tabs_in_doc_comments,
    rustdoc::invalid_rust_codeblocks,
    reason = "not every message of a file is used; comments are Go's"
)]

include!(concat!(env!("OUT_DIR"), "/containerd.rs"));

pub(crate) use containerd::services::{content, diff, introspection, snapshots};
pub(crate) use containerd::types;
