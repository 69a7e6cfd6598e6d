//! The one call of the `polling` crate that is `unsafe`.

#![allow(unsafe_code)]

use std::io;

use polling::{Event, PollMode, Poller};

use crate::os::fd::{AsRawFd, BorrowedFd};

/// The descriptor that becomes readable when a wait would return, where the poller has one.
pub(crate) fn backend_fd(poller: &Poller) -> Option<BorrowedFd<'_>> {
    #[cfg(any(target_os = "linux", target_vendor = "apple", target_os = "freebsd"))]
    return Some(std::os::fd::AsFd::as_fd(poller));
    #[cfg(not(any(target_os = "linux", target_vendor = "apple", target_os = "freebsd")))]
    return None;
}

/// Registers a descriptor with a poller.
pub(crate) fn add(poller: &Poller, fd: BorrowedFd<'_>, event: Event, mode: PollMode) -> io::Result<()> {
    // SAFETY: `Poller::add_with_mode` asks that the source is deleted from the poller before it is closed. Descriptors
    // that the loop owns are: `reactor::Registration` deregisters when it is dropped, and it is dropped before the
    // socket it belongs to. Descriptors lent to `add_reader` may be closed by their owner; epoll, kqueue and poll then
    // forget them or report an error, and touch no memory of ours, because their keys are numbers.
    unsafe { poller.add_with_mode(fd.as_raw_fd(), event, mode) }
}
