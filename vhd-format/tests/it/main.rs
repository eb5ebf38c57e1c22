//! The crate against other programs, plain vectors and crashes.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "tests fail loudly, in functions beside them too, and say what they skip"
)]

mod support;
mod vhd;
mod vhdx;
mod vhdx_layout;
mod vhdx_log;
mod vhdx_parent;
