//! System calls that fail on purpose, on one thread: by a filter of the kernel's that asks another thread what to say.

#![allow(dead_code, unreachable_pub, unsafe_code)]

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::sync::mpsc;
use std::thread;

/// The kernel's `struct seccomp_notif`.
#[repr(C)]
#[derive(Default)]
struct Notice {
    id: u64,
    pid: u32,
    flags: u32,
    number: i32,
    arch: u32,
    instruction: u64,
    arguments: [u64; 6],
}

/// The kernel's `struct seccomp_notif_resp`.
#[repr(C)]
struct Answer {
    id: u64,
    value: i64,
    error: i32,
    flags: u32,
}

const RECEIVE: u64 = 0xC050_2100;
const SEND: u64 = 0xC018_2101;
const CONTINUE: u32 = 1;

/// Runs `body` on a thread of its own. Each system call `number` that it makes fails with the error that `fault` gives
/// for its arguments, or is let through where that is `None`.
///
/// False, and nothing has run, where the kernel or the sandbox does not allow it.
#[must_use]
pub fn with_faults(
    number: i64,
    mut fault: impl FnMut(&[u64; 6]) -> Option<i32> + Send,
    body: impl FnOnce() + Send,
) -> bool {
    let (give, take) = mpsc::channel::<OwnedFd>();
    thread::scope(|scope| {
        // First, because a filtered thread's children are filtered, too.
        scope.spawn(move || {
            if let Ok(notices) = take.recv() {
                while let Some(notice) = receive(&notices) {
                    answer(&notices, notice.id, fault(&notice.arguments));
                }
            }
        });
        let filtered = scope.spawn(move || {
            match install(number) {
                Ok(notices) => give.send(notices).unwrap(),
                Err(error) => {
                    eprintln!("SKIPPED: system calls cannot be filtered here: {error}");
                    return false;
                }
            }
            body();
            true
        });
        match filtered.join() {
            Ok(ran) => ran,
            Err(payload) => std::panic::resume_unwind(payload),
        }
    })
}

/// Filters the calling thread.
fn install(number: i64) -> io::Result<OwnedFd> {
    let op = |code: u32, jt, jf, k| libc::sock_filter { code: code as u16, jt, jf, k };
    let mut filter = [
        // The number of the call stands first in what the filter is given.
        op(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, 0),
        op(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 0, 1, number as u32),
        op(libc::BPF_RET | libc::BPF_K, 0, 0, libc::SECCOMP_RET_USER_NOTIF),
        op(libc::BPF_RET | libc::BPF_K, 0, 0, libc::SECCOMP_RET_ALLOW),
    ];
    let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_mut_ptr() };
    // SAFETY: plain system calls; the program and its filter outlive the one that reads them. The descriptor that it
    // returns belongs to nobody else.
    unsafe {
        if libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 {
            return Err(io::Error::last_os_error());
        }
        let (mode, flags) = (libc::SECCOMP_SET_MODE_FILTER, libc::SECCOMP_FILTER_FLAG_NEW_LISTENER);
        match libc::syscall(libc::SYS_seccomp, mode, flags, &raw const program) {
            -1 => Err(io::Error::last_os_error()),
            fd => Ok(OwnedFd::from_raw_fd(fd as i32)),
        }
    }
}

/// The next call; `None` when the filtered thread is gone.
fn receive(notices: &OwnedFd) -> Option<Notice> {
    loop {
        let mut poll = libc::pollfd { fd: notices.as_raw_fd(), events: libc::POLLIN, revents: 0 };
        let mut notice = Notice::default();
        // SAFETY: both calls fill in what they are given, which has the kernel's layout.
        unsafe {
            libc::poll(&raw mut poll, 1, -1);
            if poll.revents & libc::POLLIN != 0 && libc::ioctl(notices.as_raw_fd(), RECEIVE, &raw mut notice) == 0 {
                return Some(notice);
            }
        }
        if poll.revents & libc::POLLHUP != 0 {
            return None;
        }
    }
}

fn answer(notices: &OwnedFd, id: u64, fault: Option<i32>) {
    let flags = if fault.is_none() { CONTINUE } else { 0 };
    let mut answer = Answer { id, value: 0, error: -fault.unwrap_or(0), flags };
    // SAFETY: the answer has the kernel's layout. It fails if the thread was interrupted: then the call comes again.
    unsafe { libc::ioctl(notices.as_raw_fd(), SEND, &raw mut answer) };
}
