//! An epoll selector that is listened to: how it is asked, and when it is called. Included by path, beside `common`.

#![allow(dead_code, unreachable_pub)]

use std::io;
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use roundelay::selector::{Epoll, Event, Interest, Mode, Notify, Selector};

/// Tells `on_wait` of each wait before it begins, and counts wake-up calls.
pub struct Heard {
    epoll: Epoll,
    bell: Arc<CountedBell>,
    on_wait: Box<dyn FnMut(Option<Duration>)>,
}

pub struct CountedBell {
    bell: Arc<dyn Notify>,
    calls: AtomicUsize,
}

impl CountedBell {
    /// How many wake-up calls there were.
    pub fn calls(&self) -> usize {
        self.calls.load(Ordering::SeqCst)
    }
}

impl Notify for CountedBell {
    fn notify(&self) {
        self.calls.fetch_add(1, Ordering::SeqCst);
        self.bell.notify();
    }
}

impl Heard {
    pub fn new(on_wait: impl FnMut(Option<Duration>) + 'static) -> (Self, Arc<CountedBell>) {
        let epoll = Epoll::new().unwrap();
        let bell = Arc::new(CountedBell { bell: epoll.notifier(), calls: AtomicUsize::new(0) });
        (Self { epoll, bell: bell.clone(), on_wait: Box::new(on_wait) }, bell)
    }
}

impl Selector for Heard {
    fn name(&self) -> &'static str {
        "heard"
    }
    fn supports_edge(&self) -> bool {
        true
    }
    fn add(&mut self, fd: BorrowedFd<'_>, key: u64, interest: Interest, mode: Mode) -> io::Result<()> {
        self.epoll.add(fd, key, interest, mode)
    }
    fn modify(&mut self, fd: BorrowedFd<'_>, key: u64, interest: Interest, mode: Mode) -> io::Result<()> {
        self.epoll.modify(fd, key, interest, mode)
    }
    fn delete(&mut self, fd: BorrowedFd<'_>) -> io::Result<()> {
        self.epoll.delete(fd)
    }
    fn wait(&mut self, timeout: Option<Duration>, events: &mut Vec<Event>) -> io::Result<()> {
        (self.on_wait)(timeout);
        self.epoll.wait(timeout, events)
    }
    fn notifier(&self) -> Arc<dyn Notify> {
        self.bell.clone()
    }
    fn backend_fd(&self) -> Option<BorrowedFd<'_>> {
        self.epoll.backend_fd()
    }
}
