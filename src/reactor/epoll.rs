//! Linux, native: one system call a wait, nanosecond timeouts, and an eventfd that is written only while the loop sleeps.
//!
//! The eventfd is watched edge-triggered, so that it need not be read: each write is an edge of its own. So is the timer
//! that ends short sleeps: the kernel may let a timeout be late by 50 microseconds, and a timer not. It is set when a
//! sleep begins whose deadline is another one than before, and made for the first such sleep. Where deadlines are less than
//! 100 microseconds apart, timeouts do: what the kernel gathers saves a wake-up each.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::constants::{DENSE_DEADLINES, EVENTS_PER_WAIT, SAME_DEADLINE, SHORT_SLEEP};
use crate::os::epoll::{self, EpollFd, EventFd, EventFlags, TimerFd};
use crate::os::fd::{AsFd, BorrowedFd};
use crate::reactor::{Event, Interest, Mode, Notify, Readiness, Selector};

/// The key of the eventfd.
const NOTIFIER: u64 = u64::MAX;

/// The key of the timer.
const TIMER: u64 = u64::MAX - 1;

/// The timer that ends short sleeps.
enum ShortSleeps {
    /// There was none yet.
    None,
    Timer {
        timer: TimerFd,
        /// When it fires, if it is set.
        until: Option<Instant>,
    },
    /// The system refuses: for want of descriptors, say. Timeouts do.
    Refused,
}

/// The native selector of Linux, on `epoll`.
pub struct Epoll {
    epoll: EpollFd,
    notifier: Arc<Bell>,
    short_sleeps: ShortSleeps,
    /// When the latest short sleep was to end.
    latest: Option<Instant>,
    /// What the kernel wrote in the latest wait; kept for its memory.
    buffer: Vec<epoll::Event>,
}

struct Bell(EventFd);

impl Notify for Bell {
    fn notify(&self) {
        self.0.ring();
    }
}

impl Epoll {
    /// A new epoll instance with its eventfd.
    ///
    /// # Errors
    ///
    /// The operating system's, most often for want of descriptors: it needs two.
    pub fn new() -> io::Result<Self> {
        let epoll = EpollFd::new()?;
        let notifier = Arc::new(Bell(EventFd::new()?));
        epoll.add(notifier.0.as_fd(), NOTIFIER, EventFlags::IN | EventFlags::ET)?;
        let buffer = Vec::with_capacity(EVENTS_PER_WAIT);
        Ok(Self { epoll, notifier, short_sleeps: ShortSleeps::None, latest: None, buffer })
    }

    /// Uses `epoll_wait` alone, as on a kernel before 5.11 that has no `epoll_pwait2`: timeouts are rounded up to
    /// milliseconds. A kernel or a filter that refuses the newer call is found out by itself; this is for tests.
    pub fn without_pwait2(mut self) -> Self {
        self.epoll.forget_pwait2();
        self
    }

    /// Whether the timer will end a sleep of this time.
    fn set_timer(&mut self, time: Duration) -> bool {
        if let ShortSleeps::None = self.short_sleeps {
            let made = TimerFd::new().and_then(|timer| {
                self.epoll.add(timer.as_fd(), TIMER, EventFlags::IN | EventFlags::ET)?;
                Ok(timer)
            });
            self.short_sleeps = match made {
                Ok(timer) => ShortSleeps::Timer { timer, until: None },
                Err(error) => {
                    note!(
                        DEBUG,
                        "roundelay::loop",
                        "no timer for short sleeps ({error}): they may end 50 microseconds late"
                    );
                    ShortSleeps::Refused
                }
            };
        }
        let ShortSleeps::Timer { timer, until } = &mut self.short_sleeps else { return false };
        let deadline = Instant::now() + time;
        let before = self.latest.replace(deadline);
        let is_set = until.is_some_and(|until| {
            until.saturating_duration_since(deadline) < SAME_DEADLINE
                && deadline.saturating_duration_since(until) < SAME_DEADLINE
        });
        if !is_set {
            // Many timers: those that the kernel's slack gathers are worth more than the slack.
            if before.is_some_and(|before| deadline.saturating_duration_since(before) < DENSE_DEADLINES) {
                return false;
            }
            if timer.set(time).is_err() {
                self.short_sleeps = ShortSleeps::Refused;
                return false;
            }
            *until = Some(deadline);
        }
        true
    }

    /// Whether timeouts are exact to the nanosecond.
    pub fn is_precise(&self) -> bool {
        self.epoll.is_precise()
    }
}

impl fmt::Debug for Epoll {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Epoll").field("precise", &self.is_precise()).finish_non_exhaustive()
    }
}

fn flags(interest: Interest, mode: Mode) -> EventFlags {
    let mut flags = match mode {
        Mode::Level => EventFlags::empty(),
        // A half-closed peer must be told from a drained socket: its end of file makes no edge of its own. So must
        // urgent data, at which a read stops short.
        Mode::Edge if interest.readable => EventFlags::ET | EventFlags::RDHUP | EventFlags::PRI,
        Mode::Edge => EventFlags::ET,
    };
    if interest.readable {
        flags |= EventFlags::IN;
    }
    if interest.writable {
        flags |= EventFlags::OUT;
    }
    flags
}

fn readiness(flags: EventFlags) -> Readiness {
    let mut readiness = Readiness::NONE;
    if flags.contains(EventFlags::IN) {
        readiness = readiness.union(Readiness::READABLE);
    }
    if flags.contains(EventFlags::OUT) {
        readiness = readiness.union(Readiness::WRITABLE);
    }
    if flags.intersects(EventFlags::RDHUP | EventFlags::HUP | EventFlags::PRI) {
        readiness = readiness.union(Readiness::HANGUP);
    }
    if flags.contains(EventFlags::HUP) {
        // Both sides are closed: a writer will get its error.
        readiness = readiness.union(Readiness::WRITABLE);
    }
    if flags.contains(EventFlags::ERR) {
        readiness = readiness.union(Readiness::ERROR);
    }
    readiness
}

impl Selector for Epoll {
    fn name(&self) -> &'static str {
        "epoll"
    }

    fn supports_edge(&self) -> bool {
        true
    }

    fn add(&mut self, fd: BorrowedFd<'_>, key: u64, interest: Interest, mode: Mode) -> io::Result<()> {
        self.epoll.add(fd, key, flags(interest, mode))
    }

    fn modify(&mut self, fd: BorrowedFd<'_>, key: u64, interest: Interest, mode: Mode) -> io::Result<()> {
        self.epoll.modify(fd, key, flags(interest, mode))
    }

    fn delete(&mut self, fd: BorrowedFd<'_>) -> io::Result<()> {
        self.epoll.delete(fd)
    }

    fn wait(&mut self, timeout: Option<Duration>, events: &mut Vec<Event>) -> io::Result<()> {
        let timeout = match timeout {
            Some(time) if !time.is_zero() && time <= SHORT_SLEEP && self.is_precise() && self.set_timer(time) => None,
            timeout => timeout,
        };
        self.epoll.wait(&mut self.buffer, timeout)?;
        for event in &self.buffer {
            match event.data.u64() {
                NOTIFIER => {}
                TIMER => {
                    if let ShortSleeps::Timer { until, .. } = &mut self.short_sleeps {
                        *until = None;
                    }
                }
                key => events.push(Event { key, readiness: readiness(event.flags) }),
            }
        }
        Ok(())
    }

    fn notifier(&self) -> Arc<dyn Notify> {
        self.notifier.clone()
    }

    fn after_fork_child(&mut self) -> io::Result<()> {
        let mut new = Self::new()?;
        if !self.is_precise() {
            new = new.without_pwait2();
        }
        // Of the old one descriptors are closed, and nothing else is done.
        *self = new;
        Ok(())
    }

    fn backend_fd(&self) -> Option<BorrowedFd<'_>> {
        Some(self.epoll.as_fd())
    }
}
