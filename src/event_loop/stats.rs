//! Counters by which every test finds out whether anything leaked.

use std::cell::Cell;
use std::task::{Context, Poll, Waker};

use crate::event_loop::{Core, EventLoop};
use crate::sched::counters::Counter;

/// How many of a kind were made, and how many of them are gone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Made since the loop began.
    pub opened: u64,
    /// Gone since then.
    pub closed: u64,
}

impl Tally {
    /// How many there are now.
    pub fn live(self) -> u64 {
        self.opened - self.closed
    }

    fn of(counter: &Counter) -> Self {
        let (opened, closed) = counter.get();
        Self { opened, closed }
    }
}

/// The loop's counters at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Turns of the loop.
    pub turns: u64,
    /// Times the selector was asked.
    pub waits: u64,
    /// Callbacks of `call_soon`; gone when they have run or were cancelled.
    pub handles: Tally,
    /// Callbacks of `call_later` and `call_at`; gone when they have fired or were cancelled.
    pub timers: Tally,
    /// Tasks; gone when their future was dropped.
    pub tasks: Tally,
    /// Futures of `create_future`; gone with their last handle.
    pub futures: Tally,
    /// Descriptors registered with the selector.
    pub descriptors: Tally,
    /// Transports; gone after `connection_lost`.
    pub transports: Tally,
    /// Servers; gone when their listening sockets are closed.
    pub servers: Tally,
}

impl Stats {
    /// Whether everything that was made is gone: a closed loop that leaked nothing.
    pub fn is_balanced(&self) -> bool {
        let tallies =
            [self.handles, self.timers, self.tasks, self.futures, self.descriptors, self.transports, self.servers];
        tallies.into_iter().all(|tally| tally.live() == 0)
    }
}

/// Who waits for the last transport to go.
#[derive(Default)]
pub(crate) struct TransportsWaiter(Cell<Option<Waker>>);

impl Core {
    /// A transport is gone.
    pub(crate) fn transport_gone(&self) {
        let counters = &self.local.counters;
        counters.transports.closed();
        if counters.transports.live() == 0 {
            if let Some(waiter) = self.transports_waiter.0.take() {
                waiter.wake();
            }
        }
    }

    /// Ready when no transport is left.
    pub(crate) fn poll_transports_gone(&self, cx: &Context<'_>) -> Poll<()> {
        if self.local.counters.transports.live() == 0 {
            return Poll::Ready(());
        }
        self.transports_waiter.0.set(Some(cx.waker().clone()));
        Poll::Pending
    }
}

impl EventLoop {
    /// The loop's counters. They can be read at any time, also after `close`.
    pub fn stats(&self) -> Stats {
        let (core, counters) = (&*self.core, &self.core.local.counters);
        let (opened, closed) = core.reactor.borrow().counts();
        Stats {
            turns: counters.turns.get(),
            waits: counters.waits.get(),
            handles: Tally::of(&counters.handles),
            timers: Tally::of(&counters.timers),
            tasks: Tally::of(&counters.tasks),
            futures: Tally::of(&counters.futures),
            descriptors: Tally { opened, closed },
            transports: Tally::of(&counters.transports),
            servers: Tally::of(&counters.servers),
        }
    }
}
