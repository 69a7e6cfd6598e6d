//! Which process something belongs to, and what a child of `fork` does with descriptors that it must not use.
//!
//! The child has a copy of everything in memory, and shares with its parent what descriptors refer to: the same epoll
//! instance, the same event counter, the same connections. Whoever would touch those asks first whether it is at home. That
//! is a look at a counter which a handler of `pthread_atfork` moves on in each child; `getpid` would be a system call each
//! time. Children that no `fork` of the C library has made (`vfork`, `posix_spawn`, `_Fork`, a bare `clone`) do not run the
//! handler; all but the last two run nothing of ours before `exec`.

#![allow(unsafe_code)]

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

#[cfg(target_os = "linux")]
use crate::os::fd::AsRawFd;
use crate::os::fd::{BorrowedFd, OwnedFd};

/// How many forks lie between the first process that has asked and this one.
static FORKS: AtomicU32 = AtomicU32::new(0);

/// The process to which something belongs.
#[derive(Debug)]
pub(crate) struct Home(AtomicU32);

impl Home {
    /// This process.
    pub(crate) fn here() -> Self {
        count_forks();
        Self(AtomicU32::new(FORKS.load(Ordering::Relaxed)))
    }

    /// Whether that is this process: false in a child that was forked since.
    #[inline]
    pub(crate) fn is_here(&self) -> bool {
        self.0.load(Ordering::Relaxed) == FORKS.load(Ordering::Relaxed)
    }

    /// From now on it belongs to this process.
    pub(crate) fn move_here(&self) {
        self.0.store(FORKS.load(Ordering::Relaxed), Ordering::Relaxed);
    }
}

/// Counts the forks from now on.
fn count_forks() {
    static COUNTED: AtomicBool = AtomicBool::new(false);
    if COUNTED.load(Ordering::Relaxed) {
        return;
    }
    // Without a lock, which another thread might hold at a fork. Done twice, each child counts for two.
    // SAFETY: the handler is a function of this program, and does nothing but add to an atomic number, which may be done in
    // any child, whatever its parent's threads were doing.
    let error = unsafe { libc::pthread_atfork(None, None, Some(in_child)) };
    if error != 0 {
        let error = io::Error::from_raw_os_error(error);
        note!(WARN, "roundelay", "pthread_atfork: {error}: loops will not notice that they were forked");
        return;
    }
    COUNTED.store(true, Ordering::Relaxed);
}

extern "C" fn in_child() {
    FORKS.fetch_add(1, Ordering::Relaxed);
}

/// Lets a descriptor of an epoll instance refer to another one, and to what it did no more: what its owner does with it from
/// now on, and be it to close it, does not reach the parent process.
#[cfg(target_os = "linux")]
pub(crate) fn replace(fd: BorrowedFd<'_>, by: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: `fd` is open and stays its owner's; both refer to something of the same kind.
    match unsafe { libc::dup3(by.as_raw_fd(), fd.as_raw_fd(), libc::O_CLOEXEC) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

/// A child does not inherit a kqueue: the number is free in it, or another descriptor's by now.
#[cfg(not(target_os = "linux"))]
pub(crate) fn replace(_: BorrowedFd<'_>, _: BorrowedFd<'_>) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

/// Lets go of a selector's descriptor.
pub(crate) fn give_up(fd: OwnedFd) {
    if cfg!(target_os = "linux") {
        drop(fd);
    } else {
        // See above: it would be closed for somebody else.
        std::mem::forget(fd);
    }
}
