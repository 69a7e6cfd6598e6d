//! The tests' own unsafe code. Filters of system calls: to see what the crate does where one is refused, and which ones
//! it makes.
//!
//! Used by `#[path]` in the files that need it. A filter cannot be taken back: set it on a thread or in a process that
//! ends soon.

#![allow(dead_code, unreachable_pub)]
#![allow(unsafe_code)]

use std::ffi::{c_int, c_long};
use std::io::{self, Write};
use std::os::fd::{BorrowedFd, RawFd};

use libc::{
    BPF_ABS, BPF_JEQ, BPF_JMP, BPF_K, BPF_LD, BPF_RET, BPF_W, SECCOMP_RET_ALLOW, SECCOMP_RET_ERRNO,
    SECCOMP_RET_KILL_PROCESS, sock_filter, sock_fprog,
};

fn step(code: u32, k: u32, if_true: u8, if_false: u8) -> sock_filter {
    sock_filter { code: code as u16, jt: if_true, jf: if_false, k }
}

/// `Err` where the kernel does not know filters, or an outer filter forbids them.
fn install(program: &mut [sock_filter]) -> io::Result<()> {
    let program = sock_fprog { len: program.len() as u16, filter: program.as_mut_ptr() };
    // SAFETY: both calls take numbers, and the second one a program that outlives it. They change what this thread and
    // its children may ask of the kernel, and nothing else.
    let result = unsafe {
        match libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) {
            0 => libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program, 0, 0),
            error => error,
        }
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// From now on this thread gets `errno` for the system call.
pub fn refuse(call: c_long, errno: c_int) -> io::Result<()> {
    install(&mut [
        step(BPF_LD | BPF_W | BPF_ABS, 0, 0, 0),
        step(BPF_JMP | BPF_JEQ | BPF_K, call as u32, 0, 1),
        step(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | errno as u32, 0, 0),
        step(BPF_RET | BPF_K, SECCOMP_RET_ALLOW, 0, 0),
    ])
}

/// From now on every other system call than these ends the process.
pub fn allow_only(calls: &[c_long]) -> io::Result<()> {
    let mut program = vec![step(BPF_LD | BPF_W | BPF_ABS, 0, 0, 0)];
    for &call in calls {
        program.push(step(BPF_JMP | BPF_JEQ | BPF_K, call as u32, 0, 1));
        program.push(step(BPF_RET | BPF_K, SECCOMP_RET_ALLOW, 0, 0));
    }
    program.push(step(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS, 0, 0));
    install(&mut program)
}

/// Ends the process by the system call alone: no destructors, no flush.
pub fn exit_now(status: c_int) -> ! {
    // SAFETY: it takes a number and does not return. Not `_exit`: ThreadSanitizer puts more before that.
    unsafe { libc::syscall(libc::SYS_exit_group, status) };
    unreachable!("the process has ended")
}

/// Calls `f` where SIGPIPE ends the process, as it does in programs that are not Rust's.
pub fn with_default_sigpipe(f: impl FnOnce()) {
    // SAFETY: the system's own answers to the signal, no function of ours.
    let before = unsafe { libc::signal(libc::SIGPIPE, libc::SIG_DFL) };
    f();
    // SAFETY: as it was before.
    unsafe { libc::signal(libc::SIGPIPE, before) };
}

/// A descriptor by its number, for a selector that keeps numbers.
pub fn borrow<'a>(fd: RawFd) -> BorrowedFd<'a> {
    // SAFETY: it is used for one call, while the descriptor is registered and therefore open.
    unsafe { BorrowedFd::borrow_raw(fd) }
}

/// Says, where the harness does not swallow it, that a test could not be made here.
pub fn skip(test: &str, error: &io::Error) {
    let _ = writeln!(io::stderr(), "SKIPPED {test}: the kernel refuses the filter: {error}");
}
