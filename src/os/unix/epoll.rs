//! epoll and eventfd as they are, with the fallback for a kernel that has no `epoll_pwait2`.

#![allow(unsafe_code)]

use std::io;
use std::time::Duration;

use rustix::event::epoll::{self, CreateFlags, EventData};
use rustix::event::{EventfdFlags, Timespec};
use rustix::time::{Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags};

use crate::os::fault::{Call, retry};
use crate::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

pub(crate) use rustix::event::epoll::{Event, EventFlags};

/// An epoll instance.
pub(crate) struct EpollFd {
    fd: OwnedFd,
    /// Whether `epoll_pwait2` may be called; cleared for good when the kernel or a filter refuses it.
    precise: bool,
}

impl EpollFd {
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self { fd: epoll::create(CreateFlags::CLOEXEC)?, precise: true })
    }

    /// Never calls `epoll_pwait2`: timeouts are rounded up to milliseconds, as on a kernel before 5.11.
    pub(crate) fn forget_pwait2(&mut self) {
        self.precise = false;
    }

    pub(crate) fn is_precise(&self) -> bool {
        self.precise
    }

    pub(crate) fn add(&self, fd: BorrowedFd<'_>, key: u64, flags: EventFlags) -> io::Result<()> {
        retry(Call::Watch, |_| epoll::add(&self.fd, fd, EventData::new_u64(key), flags))
    }

    pub(crate) fn modify(&self, fd: BorrowedFd<'_>, key: u64, flags: EventFlags) -> io::Result<()> {
        retry(Call::Watch, |_| epoll::modify(&self.fd, fd, EventData::new_u64(key), flags))
    }

    pub(crate) fn delete(&self, fd: BorrowedFd<'_>) -> io::Result<()> {
        retry(Call::Watch, |_| epoll::delete(&self.fd, fd))
    }

    /// Waits for events into the spare capacity of `events`, which is cleared before. `None` waits without end.
    pub(crate) fn wait(&mut self, events: &mut Vec<Event>, timeout: Option<Duration>) -> io::Result<()> {
        events.clear();
        match timeout {
            None => self.wait_millis(events, -1),
            Some(Duration::ZERO) => self.wait_millis(events, 0),
            Some(timeout) if self.precise => match self.wait_precise(events, timeout) {
                // An old kernel says ENOSYS, a seccomp filter often EPERM.
                Err(error) if matches!(error.raw_os_error(), Some(libc::ENOSYS | libc::EPERM)) => {
                    note!(
                        DEBUG,
                        "roundelay::loop",
                        "epoll_pwait2 is not available ({error}): timeouts are rounded up to milliseconds"
                    );
                    self.precise = false;
                    self.wait(events, Some(timeout))
                }
                result => result,
            },
            // Rounded up: waking early would spin until the deadline.
            Some(timeout) => {
                let millis = timeout.as_nanos().div_ceil(1_000_000);
                self.wait_millis(events, i32::try_from(millis).unwrap_or(i32::MAX))
            }
        }
    }

    fn wait_millis(&mut self, events: &mut Vec<Event>, millis: i32) -> io::Result<()> {
        let (buffer, capacity) = room(events);
        // SAFETY: the buffer has room for `capacity` events, and `rustix`'s `Event` has the kernel's layout, which is
        // that of `libc::epoll_event`. The kernel writes the first `n` of them.
        unsafe {
            let n = libc::epoll_wait(self.fd.as_raw_fd(), buffer, capacity, millis);
            finish(events, n.into())
        }
    }

    fn wait_precise(&mut self, events: &mut Vec<Event>, timeout: Duration) -> io::Result<()> {
        let timeout = Timespec {
            tv_sec: timeout.as_secs().try_into().unwrap_or(i64::MAX),
            tv_nsec: timeout.subsec_nanos().into(),
        };
        let (buffer, capacity) = room(events);
        // SAFETY: as in `wait_millis`; the timeout outlives the call, and the signal mask may be null. The C library may
        // be older than this system call, so it is made by number.
        unsafe {
            let n = libc::syscall(
                libc::SYS_epoll_pwait2,
                self.fd.as_raw_fd(),
                buffer,
                capacity,
                &raw const timeout,
                std::ptr::null::<libc::sigset_t>(),
                0_usize,
            );
            finish(events, n)
        }
    }
}

/// The spare room of the vector as the C library takes it.
fn room(events: &mut Vec<Event>) -> (*mut libc::epoll_event, i32) {
    const { assert!(size_of::<Event>() == size_of::<libc::epoll_event>()) };
    let spare = events.spare_capacity_mut();
    (spare.as_mut_ptr().cast(), i32::try_from(spare.len()).unwrap_or(i32::MAX))
}

/// Takes the result of a wait: a count, or `-1` with `errno`.
///
/// # Safety
///
/// The kernel must have written the first `n` events of the vector's buffer.
unsafe fn finish(events: &mut Vec<Event>, n: libc::c_long) -> io::Result<()> {
    match usize::try_from(n) {
        Ok(n) => {
            // SAFETY: the caller's promise.
            unsafe { events.set_len(n) };
            Ok(())
        }
        Err(_) => Err(io::Error::last_os_error()),
    }
}

impl AsFd for EpollFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// A timer that wakes whoever waits for it, exactly: a timeout is late by the thread's timer slack, 50 microseconds where
/// nobody has set another.
pub(crate) struct TimerFd {
    fd: OwnedFd,
}

impl TimerFd {
    pub(crate) fn new() -> io::Result<Self> {
        let flags = TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK;
        Ok(Self { fd: rustix::time::timerfd_create(TimerfdClockId::Monotonic, flags)? })
    }

    /// Fires after this time, which must not be zero; what was set before is forgotten.
    pub(crate) fn set(&self, time: Duration) -> io::Result<()> {
        let it_value =
            Timespec { tv_sec: time.as_secs().try_into().unwrap_or(i64::MAX), tv_nsec: time.subsec_nanos().into() };
        let once = Itimerspec { it_interval: Timespec { tv_sec: 0, tv_nsec: 0 }, it_value };
        rustix::time::timerfd_settime(&self.fd, TimerfdTimerFlags::empty(), &once)?;
        Ok(())
    }
}

impl AsFd for TimerFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// A counter that wakes whoever waits for it.
pub(crate) struct EventFd {
    fd: OwnedFd,
}

impl EventFd {
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self { fd: rustix::event::eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)? })
    }

    /// Adds one. A full counter (after 2^64 - 2 wake-ups) is emptied first: watched edge-triggered, every write tells.
    pub(crate) fn ring(&self) {
        while let Err(error) = rustix::io::write(&self.fd, &1_u64.to_ne_bytes()) {
            match error {
                rustix::io::Errno::INTR => {}
                rustix::io::Errno::AGAIN => {
                    let mut count = [0; 8];
                    let _ = rustix::io::read(&self.fd, &mut count);
                }
                error => {
                    note!(ERROR, "roundelay", "eventfd write failed, a wake-up may be lost: {error}");
                    return;
                }
            }
        }
    }
}

impl AsFd for EventFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}
