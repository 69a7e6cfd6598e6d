//! `SIGPIPE`, which ends a process that writes where nobody reads any more. Rust's programs ignore it from their beginning;
//! where another program hosts this code it may be otherwise. Calls on sockets refrain from it by a flag, others cannot.

#![allow(unsafe_code)]

use std::io;
use std::mem::MaybeUninit;
use std::ptr;
use std::sync::atomic::{AtomicBool, Ordering};

/// Whether something that is no socket was opened while the signal would have ended the process. It stays so: a host that
/// changes its mind has a few system calls too many. Each descriptor knowing for itself would have every connection pay.
static ON_GUARD: AtomicBool = AtomicBool::new(false);

/// Something is opened of which the signal may come.
pub(crate) fn beware() {
    if would_kill() {
        ON_GUARD.store(true, Ordering::Relaxed);
    }
}

#[inline]
pub(crate) fn is_on_guard() -> bool {
    ON_GUARD.load(Ordering::Relaxed)
}

/// Whether the signal would end the process.
pub(crate) fn would_kill() -> bool {
    // SAFETY: zero is a value of each of the structure's fields, and the call fills it in. It changes nothing.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        libc::sigaction(libc::SIGPIPE, ptr::null(), &raw mut action) == 0 && action.sa_sigaction == libc::SIG_DFL
    }
}

/// Makes a call that may raise the signal, and does not let it come through: the error says it all. Not by the signal's
/// disposition, which is the process's.
#[cold]
pub(crate) fn withheld<T>(call: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    let pipe = just_sigpipe();
    let mut before = MaybeUninit::uninit();
    // What was pending before is somebody else's.
    let foreign = is_pending();
    // SAFETY: one set is ours, and the other one is filled in.
    if unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, &raw const pipe, before.as_mut_ptr()) } != 0 {
        return Err(io::Error::last_os_error());
    }
    let result = call();
    let broken = matches!(&result, Err(error) if error.kind() == io::ErrorKind::BrokenPipe);
    if broken && !foreign && is_pending() {
        let mut number = 0;
        // SAFETY: as above. It does not wait: the signal is this thread's, and pending.
        unsafe { libc::sigwait(&raw const pipe, &raw mut number) };
    }
    // SAFETY: the set was filled in, for the call has succeeded.
    unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, before.as_ptr(), ptr::null_mut()) };
    result
}

fn just_sigpipe() -> libc::sigset_t {
    let mut set = MaybeUninit::uninit();
    // SAFETY: the first call fills the set in, the second one adds to it.
    unsafe {
        libc::sigemptyset(set.as_mut_ptr());
        libc::sigaddset(set.as_mut_ptr(), libc::SIGPIPE);
        set.assume_init()
    }
}

fn is_pending() -> bool {
    let mut set = MaybeUninit::uninit();
    // SAFETY: the first call fills in the set that the second one reads.
    unsafe { libc::sigpending(set.as_mut_ptr()) == 0 && libc::sigismember(set.as_ptr(), libc::SIGPIPE) == 1 }
}
