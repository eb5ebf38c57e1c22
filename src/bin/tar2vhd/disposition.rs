//! How the process was started: which signals it ignores, and whether standard output is closed.
#![expect(
    unsafe_code,
    reason = "no safe interface tells either, and the second only before main"
)]

use std::mem::MaybeUninit;
use std::ptr;
use std::sync::atomic::{AtomicBool, Ordering};

/// Whether a signal is ignored.
pub(crate) fn is_ignored(signal: i32) -> bool {
    let mut found = MaybeUninit::<libc::sigaction>::zeroed();
    // SAFETY: without a new action the call changes nothing, and it writes a whole action to
    // `found`, which has room for one and is valid even if it stays zero.
    let found = unsafe {
        libc::sigaction(signal, ptr::null(), found.as_mut_ptr());
        found.assume_init()
    };
    found.sa_sigaction == libc::SIG_IGN
}

/// Whether standard output was closed at the start. The standard library puts /dev/null in its
/// place before main, where every report would vanish without an error.
pub(crate) fn stdout_is_closed() -> bool {
    STDOUT_IS_CLOSED.load(Ordering::Relaxed)
}

static STDOUT_IS_CLOSED: AtomicBool = AtomicBool::new(false);

// SAFETY: the sections hold functions of this type, which the system calls before main; this one
// needs nothing of the standard library that is set up later.
#[cfg_attr(
    any(target_os = "linux", target_os = "android", target_os = "freebsd"),
    used,
    unsafe(link_section = ".init_array")
)]
#[cfg_attr(
    target_vendor = "apple",
    used,
    unsafe(link_section = "__DATA,__mod_init_func")
)]
#[cfg_attr(
    not(any(
        target_os = "linux",
        target_os = "android",
        target_os = "freebsd",
        target_vendor = "apple"
    )),
    expect(dead_code, reason = "elsewhere a closed output goes unnoticed")
)]
static LOOK: extern "C" fn() = look;

extern "C" fn look() {
    // SAFETY: the call takes any number for a descriptor and changes nothing.
    let flags = unsafe { libc::fcntl(libc::STDOUT_FILENO, libc::F_GETFD) };
    STDOUT_IS_CLOSED.store(flags == -1, Ordering::Relaxed);
}
