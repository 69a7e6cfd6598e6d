//! Pipes.

#![allow(unsafe_code)]

use std::io;

use crate::os::fault::{Call, retry_io};
use crate::os::fd::{OwnedFd, RawFd};

/// A pipe: its reading end and its writing end, of which no program hears that is started.
pub(crate) fn pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    let mut ends: [RawFd; 2] = [-1; 2];
    retry_io(Call::Pipe, || open(&mut ends))?;
    let [reader, writer] = ends.map(own);
    Ok((reader, writer))
}

fn own(fd: RawFd) -> OwnedFd {
    use std::os::fd::FromRawFd;
    // SAFETY: it comes from a call of `pipe` that succeeded just now, and nobody else knows of it.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

#[cfg(not(target_vendor = "apple"))]
fn open(ends: &mut [RawFd; 2]) -> io::Result<()> {
    // SAFETY: there is room for both numbers.
    match unsafe { libc::pipe2(ends.as_mut_ptr(), libc::O_CLOEXEC) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Without `pipe2` a program that another thread starts just now may hear of it.
#[cfg(target_vendor = "apple")]
fn open(ends: &mut [RawFd; 2]) -> io::Result<()> {
    // SAFETY: there is room for both numbers.
    if unsafe { libc::pipe(ends.as_mut_ptr()) } != 0 {
        return Err(io::Error::last_os_error());
    }
    for &fd in &*ends {
        // SAFETY: a descriptor of ours, which has no other flag.
        unsafe { libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC) };
    }
    Ok(())
}
