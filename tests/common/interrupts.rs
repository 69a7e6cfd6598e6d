//! Signals that a shell has its children ignore.

#![allow(dead_code, unreachable_pub)]

use std::sync::Once;

/// A shell has what it starts in the background ignore SIGINT and SIGQUIT, and so do all processes that the tests start.
#[allow(unsafe_code)]
pub fn heed_interrupts() {
    static ONCE: Once = Once::new();
    // SAFETY: no function is given, and nobody else has set one yet.
    ONCE.call_once(|| unsafe {
        libc::signal(libc::SIGINT, libc::SIG_DFL);
        libc::signal(libc::SIGQUIT, libc::SIG_DFL);
    });
}
