//! A descriptor that several tasks use at once, by `&self`.

use std::future::poll_fn;
use std::io;
use std::task::{Context, Poll};

use crate::error::LoopClosed;
use crate::event_loop::source::Source;
use crate::event_loop::waiters::Waiters;
use crate::os::fd::AsFd;
use crate::os::socket::would_block;
use crate::reactor::slot::Direction;

/// Of those who wait for a direction all are woken, and each tries again.
pub(super) struct SharedSource<S> {
    source: Source<S>,
    readers: Waiters,
    writers: Waiters,
}

impl<S: AsFd> SharedSource<S> {
    pub(super) fn new(source: Source<S>) -> Self {
        Self { source, readers: Waiters::new(), writers: Waiters::new() }
    }

    pub(super) fn source(&self) -> &Source<S> {
        &self.source
    }

    pub(super) fn io(&self) -> &S {
        self.source.io()
    }

    pub(super) fn io_mut(&mut self) -> &mut S {
        self.source.io_mut()
    }

    pub(super) fn into_io(self) -> S {
        let (registration, io) = self.source.into_parts();
        drop(registration);
        io
    }

    pub(super) fn waiters(&self, direction: Direction) -> &Waiters {
        match direction {
            Direction::Read => &self.readers,
            Direction::Write => &self.writers,
        }
    }

    /// Calls `call` until it does not block, waiting in between.
    pub(super) async fn io_loop<R>(
        &self,
        direction: Direction,
        mut call: impl FnMut(&S) -> io::Result<R>,
    ) -> io::Result<R> {
        let waiter = self.waiters(direction).join();
        poll_fn(|cx| {
            // With the task's own waker, which is woken at once where the budget is used up.
            std::task::ready!(self.source.core().poll_budget(cx));
            waiter.poll(cx, |cx| self.source.poll_io(direction, cx, &mut call))
        })
        .await
    }

    /// The same for whoever polls: the one who polled last is woken.
    pub(super) fn poll_io<R>(
        &self,
        direction: Direction,
        cx: &mut Context<'_>,
        call: impl FnMut(&S) -> io::Result<R>,
    ) -> Poll<io::Result<R>> {
        std::task::ready!(self.source.core().poll_budget(cx));
        self.waiters(direction).poll(cx, |cx| self.source.poll_io(direction, cx, call))
    }

    /// Calls `call` once.
    pub(super) fn try_io<R>(&self, direction: Direction, call: impl FnOnce(&S) -> io::Result<R>) -> io::Result<R> {
        let result = self.once(call);
        if result.as_ref().is_err_and(would_block) {
            self.source.clear_ready(direction);
        }
        result
    }

    /// The same where it says nothing about the descriptor if it would have blocked.
    pub(super) fn once<R>(&self, call: impl FnOnce(&S) -> io::Result<R>) -> io::Result<R> {
        if !self.source.core().is_open() {
            return Err(LoopClosed.into());
        }
        call(self.source.io())
    }

    /// Waits until a call in this direction is worth a try.
    pub(super) async fn ready(&self, direction: Direction) -> io::Result<()> {
        let waiter = self.waiters(direction).join();
        poll_fn(|cx| {
            std::task::ready!(self.source.core().poll_budget(cx));
            std::task::ready!(waiter.poll(cx, |cx| self.source.poll_ready(direction, cx)))?;
            self.source.core().spend_budget();
            Poll::Ready(Ok(()))
        })
        .await
    }
}
