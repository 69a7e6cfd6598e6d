//! An operation on a descriptor that stays the application's: tried first, registered only while it waits.
//!
//! Level triggered, and told once: the registration may be shared with an operation, or a callback, of the other direction,
//! and neither has seen what the other one was told.

use std::future::poll_fn;
use std::io;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use crate::error::LoopClosed;
use crate::event_loop::Core;
use crate::event_loop::inspection::waits_for;
use crate::event_loop::watch::{busy, owned, watched};
use crate::os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd};
use crate::reactor::Mode;
use crate::reactor::registration::borrow;
use crate::reactor::slot::{Direction, Listener, Operation, Watch, Watcher};
use crate::sched::info::WaitsFor;

/// One operation, with the descriptor that it is about. Dropping it takes its interest back, and nobody else's.
pub(crate) struct Wait<S> {
    core: Rc<Core>,
    method: &'static str,
    direction: Direction,
    place: Option<Place>,
    /// Whether its place was found taken, a turn ago.
    was_busy: bool,
    /// The last field: the interest is gone before the descriptor can be closed.
    io: S,
}

/// Where it waits.
struct Place {
    key: u64,
    fd: RawFd,
    operation: Rc<Operation>,
}

impl<S: AsFd> Wait<S> {
    /// `method` is what the application has called, for messages.
    pub(crate) fn new(core: &Rc<Core>, method: &'static str, direction: Direction, io: S) -> Self {
        Self { core: core.clone(), method, direction, place: None, was_busy: false, io }
    }

    pub(crate) fn method(&self) -> &'static str {
        self.method
    }

    pub(crate) fn io(&self) -> BorrowedFd<'_> {
        self.io.as_fd()
    }

    /// Calls `call` until it does not block, waiting in between.
    pub(crate) async fn io_loop<R>(&mut self, mut call: impl FnMut(BorrowedFd<'_>) -> io::Result<R>) -> io::Result<R> {
        poll_fn(|cx| self.poll_io(cx, &mut call)).await
    }

    /// As `io_loop`, for whoever polls.
    pub(crate) fn poll_io<R>(
        &mut self,
        cx: &mut Context<'_>,
        call: impl FnMut(BorrowedFd<'_>) -> io::Result<R>,
    ) -> Poll<io::Result<R>> {
        if let Some(Place { operation, .. }) = self.place.as_ref().filter(|place| place.operation.is_waiting()) {
            // Not told yet: polled for another reason.
            operation.wait(cx.waker().clone());
            self.note();
            return Poll::Pending;
        }
        match std::task::ready!(self.poll_try(cx, call)) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => match self.wait(cx.waker().clone()) {
                Ok(()) => {
                    self.note();
                    Poll::Pending
                }
                Err(error) => Poll::Ready(Err(error)),
            },
            result => Poll::Ready(result),
        }
    }

    /// Notes what is waited for, if anybody wants to know.
    fn note(&self) {
        let (fd, write) = (self.io.as_fd().as_raw_fd(), self.direction == Direction::Write);
        waits_for(|| WaitsFor::Descriptor { fd, write });
    }

    /// Calls `call` once, if the descriptor is nobody else's, and the task has not had its share of I/O.
    pub(crate) fn poll_try<R>(
        &mut self,
        cx: &mut Context<'_>,
        mut call: impl FnMut(BorrowedFd<'_>) -> io::Result<R>,
    ) -> Poll<io::Result<R>> {
        if !self.core.is_open() {
            return Poll::Ready(Err(LoopClosed.into()));
        }
        match self.check() {
            // Whoever waits there may have been cancelled, and is gone in a turn.
            Err(error) if error.kind() == io::ErrorKind::ResourceBusy && !self.was_busy => {
                self.was_busy = true;
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            result => result?,
        }
        std::task::ready!(self.core.poll_budget(cx));
        let result = call(self.io.as_fd());
        if result.is_ok() {
            self.core.spend_budget();
        }
        Poll::Ready(result)
    }

    /// Whether the descriptor is free in this direction: what waits there already is not robbed.
    fn check(&self) -> io::Result<()> {
        let fd = self.io.as_fd();
        let mut reactor = self.core.reactor.borrow_mut();
        let Some((_, slot)) = reactor.find(fd.as_raw_fd()) else { return Ok(()) };
        let Listener::Watch(watch) = &mut slot.listener else { return Err(owned(self.method, fd)) };
        match watch.place(self.direction) {
            None => Ok(()),
            Some(watcher) if self.place.as_ref().is_some_and(|place| watcher.is(&place.operation)) => Ok(()),
            Some(Watcher::Operation(other)) => Err(busy(self.method, fd, other.method)),
            Some(Watcher::Callback(_)) => Err(watched(self.method, fd, self.direction)),
        }
    }

    /// Registers, or asks to be told once more.
    fn wait(&mut self, waker: Waker) -> io::Result<()> {
        let fd = self.io.as_fd();
        if let Some(Place { key, operation, .. }) = &self.place {
            let mut reactor = self.core.reactor.borrow_mut();
            if let Some(watch) = reactor.watch(*key) {
                operation.wait(waker);
                let want = watch.interest();
                return reactor.set_interest(*key, fd, want);
            }
        }
        // Outlives the borrow: refused, the waker is dropped with nothing borrowed.
        let operation = Operation::new(self.method, waker);
        let watcher = Watcher::Operation(operation.clone());
        let mut reactor = self.core.reactor.borrow_mut();
        let key = match reactor.find(fd.as_raw_fd()) {
            None => {
                let watch = Watch::of(self.direction, watcher);
                let interest = watch.interest();
                let (key, ..) = reactor.insert(fd, interest, Mode::Level, Listener::Watch(Box::new(watch)))?;
                key
            }
            Some((key, slot)) => {
                let Listener::Watch(watch) = &mut slot.listener else { return Err(owned(self.method, fd)) };
                *watch.place(self.direction) = Some(watcher);
                let want = watch.interest();
                if let Err(error) = reactor.renew_interest(key, fd, want) {
                    if let Some(watch) = reactor.watch(key) {
                        *watch.place(self.direction) = None;
                    }
                    return Err(error);
                }
                key
            }
        };
        drop(reactor);
        self.place = Some(Place { key, fd: fd.as_raw_fd(), operation });
        Ok(())
    }
}

impl<S> Drop for Wait<S> {
    fn drop(&mut self) {
        let Some(Place { key, fd, operation }) = self.place.take() else { return };
        let mut reactor = self.core.reactor.borrow_mut();
        let Some(place) = reactor.watch(key).map(|watch| watch.place(self.direction)) else { return };
        if !place.as_ref().is_some_and(|watcher| watcher.is(&operation)) {
            return;
        }
        let watcher = place.take();
        let slot = reactor.watcher_left(key, borrow(fd));
        drop(reactor);
        drop((watcher, slot));
    }
}
