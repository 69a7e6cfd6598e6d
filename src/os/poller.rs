//! The one call of the `polling` crate that is `unsafe`.

#![allow(unsafe_code)]

use std::io;

use polling::{Event, PollMode, Poller};

#[cfg(target_os = "linux")]
use crate::os::fd::AsFd;
use crate::os::fd::{AsRawFd, BorrowedFd};

/// The descriptor that becomes readable when a wait would return, where the poller has one.
pub(crate) fn backend_fd(poller: &Poller) -> Option<BorrowedFd<'_>> {
    #[cfg(any(target_os = "linux", target_vendor = "apple", target_os = "freebsd"))]
    return Some(std::os::fd::AsFd::as_fd(poller));
    #[cfg(not(any(target_os = "linux", target_vendor = "apple", target_os = "freebsd")))]
    return None;
}

/// Makes a poller that a child of `fork` has inherited harmless: true if it may be dropped then. To drop it is to take its
/// notifier out of the epoll instance, which is the parent's.
pub(crate) fn leave_to_parent(poller: &Poller) -> bool {
    #[cfg(target_os = "linux")]
    if let Some(fd) = backend_fd(poller) {
        let other = crate::os::epoll::EpollFd::new();
        return other.and_then(|other| crate::os::fork::replace(fd, other.as_fd())).is_ok();
    }
    // A child does not inherit a kqueue: another descriptor may have its number.
    let _ = poller;
    false
}

/// Registers a descriptor with a poller.
pub(crate) fn add(poller: &Poller, fd: BorrowedFd<'_>, event: Event, mode: PollMode) -> io::Result<()> {
    // SAFETY: `Poller::add_with_mode` asks that the source is deleted from the poller before it is closed. Descriptors
    // that the loop owns are: `reactor::Registration` deregisters when it is dropped, and it is dropped before the
    // socket it belongs to. Descriptors lent to `add_reader` may be closed by their owner; epoll, kqueue and poll then
    // forget them or report an error, and touch no memory of ours, because their keys are numbers.
    unsafe { poller.add_with_mode(fd.as_raw_fd(), event, mode) }
}
