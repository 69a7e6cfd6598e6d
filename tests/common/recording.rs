//! A selector that notes what the loop asks of it and answers as the test wants, and a clock that stands still.
//!
//! Used by `#[path]` in the files that need it.

#![allow(dead_code, unreachable_pub)]

use std::cell::{Cell, RefCell};
use std::io;
use std::os::fd::BorrowedFd;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use roundelay::selector::{Epoll, Event, Interest, Mode, Notify, Selector};
use roundelay::{Builder, Clock, EventLoop};

/// Given the timeout of a wait, the one to be used in its place, or the error that the wait ends with.
type Answer = Box<dyn FnMut(Option<Duration>) -> io::Result<Option<Duration>>>;

struct Inner {
    /// The timeouts the loop has waited with.
    waits: RefCell<Vec<Option<Duration>>>,
    /// How often a registration was made, changed or ended.
    changes: Cell<usize>,
    answer: RefCell<Answer>,
    /// Whether the selector below can wait to the nanosecond, as of its latest wait.
    precise: Cell<bool>,
}

/// What the loop asked of its selector. Clones show the same.
#[derive(Clone)]
pub struct Tape(Rc<Inner>);

impl Tape {
    /// A tape whose selector never blocks.
    pub fn new() -> Self {
        Self(Rc::new(Inner {
            waits: RefCell::new(Vec::new()),
            changes: Cell::new(0),
            answer: RefCell::new(Box::new(|_| Ok(Some(Duration::ZERO)))),
            precise: Cell::new(true),
        }))
    }

    /// A selector that notes everything here.
    pub fn selector(&self) -> Recorder {
        self.selector_on(Epoll::new().unwrap())
    }

    /// As `selector`, on this one.
    pub fn selector_on(&self, epoll: Epoll) -> Recorder {
        Recorder { below: epoll, tape: self.clone() }
    }

    /// Says how the selector answers from now on.
    pub fn answer(&self, answer: impl FnMut(Option<Duration>) -> io::Result<Option<Duration>> + 'static) {
        *self.0.answer.borrow_mut() = Box::new(answer);
    }

    /// The timeouts since the last call.
    pub fn waits(&self) -> Vec<Option<Duration>> {
        self.0.waits.take()
    }

    /// How often a registration was made, changed or ended since the last call.
    pub fn changes(&self) -> usize {
        self.0.changes.take()
    }

    pub fn is_precise(&self) -> bool {
        self.0.precise.get()
    }

    fn changed(&self) {
        self.0.changes.set(self.0.changes.get() + 1);
    }
}

/// The selector of a [`Tape`]: epoll, under observation.
pub struct Recorder {
    below: Epoll,
    tape: Tape,
}

impl Selector for Recorder {
    fn name(&self) -> &'static str {
        "recorder"
    }
    fn supports_edge(&self) -> bool {
        self.below.supports_edge()
    }
    fn add(&mut self, fd: BorrowedFd<'_>, key: u64, interest: Interest, mode: Mode) -> io::Result<()> {
        self.tape.changed();
        self.below.add(fd, key, interest, mode)
    }
    fn modify(&mut self, fd: BorrowedFd<'_>, key: u64, interest: Interest, mode: Mode) -> io::Result<()> {
        self.tape.changed();
        self.below.modify(fd, key, interest, mode)
    }
    fn delete(&mut self, fd: BorrowedFd<'_>) -> io::Result<()> {
        self.tape.changed();
        self.below.delete(fd)
    }
    fn wait(&mut self, timeout: Option<Duration>, events: &mut Vec<Event>) -> io::Result<()> {
        self.tape.0.waits.borrow_mut().push(timeout);
        let timeout = (*self.tape.0.answer.borrow_mut())(timeout)?;
        let result = self.below.wait(timeout, events);
        self.tape.0.precise.set(self.below.is_precise());
        result
    }
    fn notifier(&self) -> Arc<dyn Notify> {
        self.below.notifier()
    }
    fn backend_fd(&self) -> Option<BorrowedFd<'_>> {
        self.below.backend_fd()
    }
}

/// A clock that goes on only when it is told. Unlike `ManualClock` it lets the loop sleep until its deadlines, so that
/// the timeouts are there to be seen.
#[derive(Clone)]
pub struct StillClock {
    now: Rc<Cell<Instant>>,
    resolution: Duration,
}

impl StillClock {
    pub fn new() -> Self {
        Self::with_resolution(Duration::from_nanos(1))
    }

    pub fn with_resolution(resolution: Duration) -> Self {
        Self { now: Rc::new(Cell::new(Instant::now())), resolution }
    }

    pub fn advance(&self, by: Duration) {
        self.now.set(self.now.get() + by);
    }
}

impl Clock for StillClock {
    fn now(&self) -> Instant {
        self.now.get()
    }
    fn resolution(&self) -> Duration {
        self.resolution
    }
}

/// A builder of a loop on a tape's selector and a still clock.
pub fn builder(tape: &Tape, clock: &StillClock) -> Builder {
    EventLoop::builder().selector(tape.selector()).clock(clock.clone())
}

/// Answers each wait by letting its time pass on the clock: years in no time.
pub fn let_time_pass(tape: &Tape, clock: &StillClock) {
    let clock = clock.clone();
    tape.answer(move |timeout| {
        clock.advance(timeout.expect("a wait without end would never return here"));
        Ok(Some(Duration::ZERO))
    });
}
