//! A process as a descriptor, where the system has that.
//!
//! It becomes readable when the process has ended, and a signal that is sent by it cannot hit another process that has got
//! the number of one that is gone.

#![cfg_attr(target_os = "linux", allow(unsafe_code))]

use std::io;
use std::process::ExitStatus;

use crate::os::fd::{BorrowedFd, OwnedFd};

/// The descriptor of a child that was not reaped yet. Linux has it from 5.3 on, and a filter may refuse it.
#[cfg(target_os = "linux")]
pub(super) fn open(pid: u32) -> io::Result<OwnedFd> {
    use rustix::process::{Pid, PidfdFlags, pidfd_open};

    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw).ok_or(io::ErrorKind::InvalidInput)?;
    crate::os::fault::retry(crate::os::fault::Call::Process, |_| pidfd_open(pid, PidfdFlags::empty()))
}

#[cfg(not(target_os = "linux"))]
pub(super) fn open(_: u32) -> io::Result<OwnedFd> {
    Err(io::ErrorKind::Unsupported.into())
}

/// Reaps a child that has ended. `None` where that cannot be done in this way, as before Linux 5.4.
#[cfg(target_os = "linux")]
pub(super) fn try_wait(fd: BorrowedFd<'_>) -> Option<io::Result<Option<ExitStatus>>> {
    use std::os::unix::process::ExitStatusExt;

    use rustix::io::Errno;
    use rustix::process::{WaitId, WaitIdOptions, waitid};

    let ended = match waitid(WaitId::PidFd(fd), WaitIdOptions::EXITED | WaitIdOptions::NOHANG) {
        Ok(ended) => ended,
        Err(Errno::INVAL) => return None,
        Err(error) => return Some(Err(error.into())),
    };
    // Put together as the other calls of the system have it.
    let status = ended.map(|ended| match (ended.exit_status(), ended.terminating_signal()) {
        (Some(code), _) => (code & 0xff) << 8,
        (None, signal) => signal.unwrap_or_default() | if ended.dumped() { 0x80 } else { 0 },
    });
    Some(Ok(status.map(ExitStatus::from_raw)))
}

#[cfg(not(target_os = "linux"))]
pub(super) fn try_wait(_: BorrowedFd<'_>) -> Option<io::Result<Option<ExitStatus>>> {
    None
}

/// Sends a signal. `None` where that cannot be done in this way.
#[cfg(target_os = "linux")]
pub(super) fn signal(fd: BorrowedFd<'_>, signal: i32) -> Option<io::Result<()>> {
    use crate::os::fd::AsRawFd;

    let (no_info, no_flags) = (std::ptr::null::<libc::siginfo_t>(), 0_u32);
    // SAFETY: a descriptor that is open, and numbers; the information about the signal may be null.
    let result = unsafe { libc::syscall(libc::SYS_pidfd_send_signal, fd.as_raw_fd(), signal, no_info, no_flags) };
    if result == 0 {
        return Some(Ok(()));
    }
    let error = io::Error::last_os_error();
    match error.raw_os_error() {
        // Also where the process may not be signalled, which the other way then says again.
        Some(libc::ENOSYS | libc::EPERM) => None,
        _ => Some(Err(error)),
    }
}

#[cfg(not(target_os = "linux"))]
pub(super) fn signal(_: BorrowedFd<'_>, _: i32) -> Option<io::Result<()>> {
    None
}
