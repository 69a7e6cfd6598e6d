//! Signals as the system sees them: to send them, and to look at what the process does with them. Included by path, beside
//! `common`.

#![allow(dead_code, unreachable_pub, unsafe_code)]

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, OwnedFd};
use std::ptr::{null, null_mut};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::{JoinHandle, yield_now};
use std::time::Instant;

use roundelay::SignalKind;
use rustix::process::{Pid, Signal, kill_process};

use crate::common::PATIENCE;

/// Sends this thread a signal, which is handled before this returns.
pub fn raise(kind: impl Into<SignalKind>) {
    // SAFETY: it takes a number.
    assert_eq!(unsafe { libc::raise(kind.into().as_raw()) }, 0);
}

/// The error that the C library keeps for this thread, after a signal that comes when it is `EBADF`.
pub fn errno_after(kind: SignalKind) -> Option<i32> {
    // SAFETY: it takes a number, which is no descriptor's.
    assert_eq!(unsafe { libc::close(-1) }, -1);
    raise(kind);
    std::io::Error::last_os_error().raw_os_error()
}

/// Sends a process a signal.
pub fn send(pid: u32, kind: SignalKind) {
    let signal = Signal::from_named_raw(kind.as_raw()).unwrap();
    kill_process(Pid::from_raw(pid as i32).unwrap(), signal).unwrap();
}

/// A thread that signals can be sent to.
#[derive(Clone, Copy)]
pub struct Target(libc::pthread_t);

impl Target {
    /// This thread.
    pub fn here() -> Self {
        // SAFETY: there is nothing to keep to.
        Self(unsafe { libc::pthread_self() })
    }

    /// A thread that was not joined.
    pub fn of<T>(thread: &JoinHandle<T>) -> Self {
        use std::os::unix::thread::JoinHandleExt;

        Self(thread.as_pthread_t())
    }

    /// Sends the thread a signal. It must not have been joined.
    pub fn send(self, kind: SignalKind) {
        // SAFETY: a thread that was not joined has its number, ended or not.
        unsafe { libc::pthread_kill(self.0, kind.as_raw()) };
    }
}

/// Reads once, and says so if that is interrupted.
///
/// By way of the C library: ThreadSanitizer lets handlers run at once in the calls that it knows.
pub fn read_once(fd: &OwnedFd) -> io::Result<usize> {
    let mut data = [0_u8; 8];
    // SAFETY: there is room for so many bytes.
    let n = unsafe { libc::read(fd.as_raw_fd(), data.as_mut_ptr().cast(), data.len()) };
    usize::try_from(n).map_err(|_| io::Error::last_os_error())
}

/// What a process does with a signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Disposition {
    pub handler: usize,
    pub flags: i32,
    pub masks_interrupt: bool,
}

pub const DEFAULT: usize = libc::SIG_DFL;
pub const IGNORED: usize = libc::SIG_IGN;

/// What this process does with a signal.
pub fn disposition(kind: SignalKind) -> Disposition {
    let mut action = MaybeUninit::<libc::sigaction>::uninit();
    // SAFETY: the disposition is written to a place that is there.
    unsafe {
        assert_eq!(libc::sigaction(kind.as_raw(), null(), action.as_mut_ptr()), 0);
        let action = action.assume_init();
        Disposition {
            handler: action.sa_sigaction,
            flags: action.sa_flags,
            masks_interrupt: libc::sigismember(&raw const action.sa_mask, libc::SIGINT) == 1,
        }
    }
}

/// How often `foreign` was called.
static FOREIGN: AtomicUsize = AtomicUsize::new(0);

extern "C" fn foreign(_: libc::c_int) {
    FOREIGN.fetch_add(1, Ordering::SeqCst);
}

/// How often the handler of [`Set::foreign`] was called in this process.
pub fn foreign_calls() -> usize {
    FOREIGN.load(Ordering::SeqCst)
}

/// A disposition that was set by the test itself; the one before comes back when it is dropped.
pub struct Set {
    kind: SignalKind,
    before: libc::sigaction,
}

impl Set {
    /// A handler that is none of roundelay's, and counts.
    pub fn foreign(kind: SignalKind) -> Self {
        Self::to(kind, foreign as extern "C" fn(libc::c_int) as usize)
    }

    pub fn ignored(kind: SignalKind) -> Self {
        Self::to(kind, IGNORED)
    }

    fn to(kind: SignalKind, handler: usize) -> Self {
        let mut before = MaybeUninit::uninit();
        // SAFETY: all bytes of the structure may be zero; the handler does nothing but count, if it is one. The disposition
        // before is filled in.
        let before = unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = handler;
            action.sa_flags = libc::SA_NODEFER;
            libc::sigemptyset(&raw mut action.sa_mask);
            libc::sigaddset(&raw mut action.sa_mask, libc::SIGINT);
            assert_eq!(libc::sigaction(kind.as_raw(), &raw const action, before.as_mut_ptr()), 0);
            before.assume_init()
        };
        Self { kind, before }
    }
}

impl Drop for Set {
    fn drop(&mut self) {
        // SAFETY: the disposition is the one that was there before.
        unsafe { libc::sigaction(self.kind.as_raw(), &raw const self.before, null_mut()) };
    }
}

/// The signals of a set that the kernel knows of this process: `SigCgt`, `SigIgn`, `SigBlk`.
pub fn set(which: &str) -> Vec<i32> {
    let status = std::fs::read_to_string("/proc/thread-self/status").unwrap();
    set_in(&status, which)
}

/// The same, of a process whose status was read.
pub fn set_in(status: &str, which: &str) -> Vec<i32> {
    let line = status.lines().find_map(|line| line.strip_prefix(which)?.strip_prefix(':')).unwrap();
    let set = u64::from_str_radix(line.trim(), 16).unwrap();
    (1..=64).filter(|signal| set & 1 << (signal - 1) != 0).collect()
}

/// The signals for which there is a handler.
pub fn caught() -> Vec<i32> {
    set("SigCgt")
}

pub fn is_caught(kind: SignalKind) -> bool {
    caught().contains(&kind.as_raw())
}

/// Waits until a thread of this process, known by its number, sleeps in a system call.
#[track_caller]
pub fn wait_until_asleep(thread: u32) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let stat = std::fs::read_to_string(format!("/proc/self/task/{thread}/stat")).unwrap();
        if stat.rsplit(')').next().is_some_and(|rest| rest.trim_start().starts_with('S')) {
            return;
        }
        assert!(Instant::now() < deadline, "the thread does not sleep");
        yield_now();
    }
}
