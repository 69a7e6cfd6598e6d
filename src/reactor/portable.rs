//! The `polling` crate: what every other platform has, selectable on Linux as well.
//!
//! A wait of it costs five system calls on Linux (a timerfd is set and re-registered, the notifier read and
//! re-registered) where the native selector needs one.

use std::fmt;
use std::io;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use polling::{Event as PollingEvent, Events, PollMode, Poller};

use crate::constants::{EVENTS_PER_WAIT, FIRST_SLOTS};
use crate::os::fd::BorrowedFd;
use crate::os::poller;
use crate::reactor::{Event, Interest, Mode, Notify, Readiness, Selector};

/// The portable selector, on the `polling` crate.
pub struct Polling {
    poller: Arc<Bell>,
    /// What the latest wait found; kept for its memory.
    buffer: Events,
    /// The whole key of each place: `polling`'s keys have the size of a pointer, which may be half of ours.
    keys: Vec<u64>,
}

struct Bell(Poller);

impl Notify for Bell {
    fn notify(&self) {
        if let Err(error) = self.0.notify() {
            note!(ERROR, "roundelay", "notifying the poller failed, a wake-up may be lost: {error}");
        }
    }
}

impl Polling {
    /// A new poller.
    ///
    /// # Errors
    ///
    /// The operating system's, most often for want of descriptors.
    pub fn new() -> io::Result<Self> {
        let capacity = NonZeroUsize::new(EVENTS_PER_WAIT).expect("a constant above zero");
        Ok(Self { poller: Arc::new(Bell(Poller::new()?)), buffer: Events::with_capacity(capacity), keys: Vec::new() })
    }

    fn event(&mut self, key: u64, interest: Interest) -> PollingEvent {
        // The low half of a key is a small number: the place of its slot.
        let place = key as u32 as usize;
        if place >= self.keys.len() {
            // As the slots do.
            if place >= self.keys.capacity() {
                self.keys.reserve_exact((place + 1 - self.keys.len()).max(FIRST_SLOTS).max(self.keys.len() / 4));
            }
            self.keys.resize(place + 1, 0);
        }
        self.keys[place] = key;
        PollingEvent::new(place, interest.readable, interest.writable)
    }
}

impl fmt::Debug for Polling {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Polling").field("supports_edge", &self.supports_edge()).finish_non_exhaustive()
    }
}

fn poll_mode(mode: Mode) -> PollMode {
    match mode {
        Mode::Level => PollMode::Level,
        Mode::Edge => PollMode::Edge,
    }
}

impl Selector for Polling {
    fn name(&self) -> &'static str {
        "polling"
    }

    fn supports_edge(&self) -> bool {
        self.poller.0.supports_edge()
    }

    fn add(&mut self, fd: BorrowedFd<'_>, key: u64, interest: Interest, mode: Mode) -> io::Result<()> {
        let event = self.event(key, interest);
        poller::add(&self.poller.0, fd, event, poll_mode(mode))
    }

    fn modify(&mut self, fd: BorrowedFd<'_>, key: u64, interest: Interest, mode: Mode) -> io::Result<()> {
        let event = self.event(key, interest);
        self.poller.0.modify_with_mode(fd, event, poll_mode(mode))
    }

    fn delete(&mut self, fd: BorrowedFd<'_>) -> io::Result<()> {
        self.poller.0.delete(fd)
    }

    fn wait(&mut self, timeout: Option<Duration>, events: &mut Vec<Event>) -> io::Result<()> {
        self.buffer.clear();
        self.poller.0.wait(&mut self.buffer, timeout)?;
        events.extend(self.buffer.iter().map(|event| {
            let mut readiness = Readiness::NONE;
            if event.readable {
                // `polling` does not ask the kernel for half-closed peers: any readable one may be at its end.
                readiness = readiness.union(Readiness::READABLE).union(Readiness::HANGUP);
            }
            if event.writable {
                readiness = readiness.union(Readiness::WRITABLE);
            }
            if event.is_err() == Some(true) {
                readiness = readiness.union(Readiness::ERROR);
            }
            Event { key: self.keys[event.key], readiness }
        }));
        Ok(())
    }

    fn notifier(&self) -> Arc<dyn Notify> {
        self.poller.clone()
    }

    fn after_fork_child(&mut self) -> io::Result<()> {
        let inherited = std::mem::replace(self, Self::new()?);
        if !poller::leave_to_parent(&inherited.poller.0) {
            std::mem::forget(inherited.poller.clone());
        }
        Ok(())
    }

    fn backend_fd(&self) -> Option<BorrowedFd<'_>> {
        poller::backend_fd(&self.poller.0)
    }
}
