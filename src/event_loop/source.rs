//! A descriptor that tasks wait for: the ground of the plain async types.
//!
//! The call is tried first, and waited for only if it would have blocked. Which directions are worth trying is
//! remembered, so that a drained socket costs no second call to find that out.

use std::future::poll_fn;
use std::io;
use std::rc::Rc;
use std::task::{Context, Poll};

use crate::constants::{TASK_IO_BUDGET, TASK_IO_BUDGET_BYTES, TASK_IO_REFUSALS};
use crate::error::LoopClosed;
use crate::event_loop::inspection::waits_for;
use crate::event_loop::{Core, LoopRegistration};
use crate::os::fd::AsFd;
use crate::reactor::slot::{Direction, Listener, WakerPair};
use crate::reactor::{Interest, Mode, Readiness};
use crate::sched::info::WaitsFor;

/// A registered descriptor, and whoever waits for it.
pub(crate) struct Source<S> {
    /// Before `io`: deregistered before the descriptor is closed.
    registration: LoopRegistration,
    io: S,
    wakers: Rc<WakerPair>,
    core: Rc<Core>,
}

impl<S: AsFd> Source<S> {
    /// Registers a descriptor that is non-blocking. Both directions are worth a try at first.
    pub(crate) fn new(core: &Rc<Core>, io: S) -> io::Result<Self> {
        Self::with_interest(core, io, Interest::BOTH, Readiness::READABLE.union(Readiness::WRITABLE))
    }

    /// Takes over a registration that somebody else has used so far, and the descriptor with it.
    pub(crate) fn adopt(core: &Rc<Core>, registration: LoopRegistration, io: S) -> io::Result<Self> {
        let wakers = Rc::new(WakerPair::new(Readiness::READABLE.union(Readiness::WRITABLE)));
        registration.hand_over(Listener::Wakers(wakers.clone()), Interest::BOTH)?;
        Ok(Self { registration, io, wakers, core: core.clone() })
    }

    /// Registers a descriptor of which only `interest` matters, and which is known to be `ready`.
    pub(crate) fn with_interest(core: &Rc<Core>, io: S, interest: Interest, ready: Readiness) -> io::Result<Self> {
        if !core.is_open() {
            return Err(LoopClosed.into());
        }
        let wakers = Rc::new(WakerPair::new(ready));
        let listener = Listener::Wakers(wakers.clone());
        let registration = LoopRegistration::new(&core.reactor, io.as_fd(), interest, Mode::Edge, listener)?;
        Ok(Self { registration, io, wakers, core: core.clone() })
    }
}

impl<S> Source<S> {
    pub(crate) fn io(&self) -> &S {
        &self.io
    }

    pub(crate) fn io_mut(&mut self) -> &mut S {
        &mut self.io
    }

    /// What the descriptor is ready for, as far as is known, and how many events have told of it.
    pub(crate) fn readiness(&self) -> (Readiness, u32) {
        (self.wakers.readiness(), self.wakers.events())
    }

    pub(crate) fn core(&self) -> &Rc<Core> {
        &self.core
    }

    /// Gives the registration up to somebody else's use, and the descriptor with it.
    pub(crate) fn into_parts(self) -> (LoopRegistration, S) {
        (self.registration, self.io)
    }

    /// Whether a short read may be followed by an end of file at once.
    pub(crate) fn is_hangup(&self) -> bool {
        self.wakers.is_hangup()
    }

    /// The direction is drained or full: the next try waits for an event.
    pub(crate) fn clear_ready(&self, direction: Direction) {
        self.wakers.clear_ready(direction);
    }

    /// Ready when a call in this direction is worth a try.
    #[inline]
    pub(crate) fn poll_ready(&self, direction: Direction, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.core.is_open() {
            return Poll::Ready(Err(LoopClosed.into()));
        }
        if self.wakers.is_ready(direction) {
            return Poll::Ready(Ok(()));
        }
        self.wait(direction, cx)
    }

    #[inline(never)]
    fn wait(&self, direction: Direction, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.wakers.register(direction, cx);
        if !self.registration.is_edge() {
            // A level-triggered selector was told to be quiet while nobody waited.
            let want = Interest {
                readable: self.wakers.is_waited_for(Direction::Read),
                writable: self.wakers.is_waited_for(Direction::Write),
            };
            if let Err(error) = self.registration.set_interest(want) {
                return Poll::Ready(Err(error));
            }
        }
        waits_for(|| WaitsFor::Descriptor { fd: self.registration.fd(), write: direction == Direction::Write });
        Poll::Pending
    }

    /// Calls `call` until it does not block, waiting in between.
    pub(crate) fn poll_io<R>(
        &self,
        direction: Direction,
        cx: &mut Context<'_>,
        mut call: impl FnMut(&S) -> io::Result<R>,
    ) -> Poll<io::Result<R>> {
        std::task::ready!(self.core.poll_budget(cx));
        loop {
            std::task::ready!(self.poll_ready(direction, cx))?;
            match call(&self.io) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.clear_ready(direction),
                result => {
                    self.core.spend_budget();
                    return Poll::Ready(result);
                }
            }
        }
    }

    /// As `poll_io`, for an `async` function.
    pub(crate) async fn io_loop<R>(
        &self,
        direction: Direction,
        mut call: impl FnMut(&S) -> io::Result<R>,
    ) -> io::Result<R> {
        poll_fn(|cx| self.poll_io(direction, cx, &mut call)).await
    }
}

/// What a task begins its turn with: completions, and then refusals.
pub(crate) const FULL_BUDGET: u32 = TASK_IO_BUDGET + TASK_IO_REFUSALS;

impl Core {
    /// Pending, with a wake-up, when the task being polled has had its share of I/O: the others come first.
    ///
    /// Outside of a task of this loop there is no budget. It stays used up for the rest of the task's turn, so that the
    /// task's other streams wait, too; but after many refusals it is refilled, so that an executor inside of a task,
    /// which may poll on regardless, is slowed down and never stuck.
    pub(crate) fn poll_budget(&self, cx: &mut Context<'_>) -> Poll<()> {
        match self.local.budget.get() {
            Some(0) => self.local.budget.set(Some(FULL_BUDGET)),
            Some(left @ 1..=TASK_IO_REFUSALS) => {
                self.local.budget.set(Some(left - 1));
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            Some(_) | None => {}
        }
        Poll::Ready(())
    }

    /// One completion of I/O.
    pub(crate) fn spend_budget(&self) {
        self.spend(1);
    }

    /// So many bytes have come into the process.
    #[inline(always)]
    pub(crate) fn count_in(&self, n: usize) {
        self.local.counters.bytes_in.add(n as u64);
    }

    /// So many bytes have left the process.
    #[inline(always)]
    pub(crate) fn count_out(&self, n: usize) {
        self.local.counters.bytes_out.add(n as u64);
    }

    /// So many bytes were received by a completion.
    pub(crate) fn received(&self, n: usize) {
        self.count_in(n);
        self.spend_bytes(n);
    }

    /// So many bytes were sent by a completion.
    pub(crate) fn sent(&self, n: usize) {
        self.count_out(n);
        self.spend_bytes(n);
    }

    /// What the bytes of a completion count beyond the completion itself.
    pub(crate) fn spend_bytes(&self, n: usize) {
        self.spend(u32::try_from(n / TASK_IO_BUDGET_BYTES).unwrap_or(u32::MAX));
    }

    fn spend(&self, units: u32) {
        if let Some(left) = self.local.budget.get().filter(|left| *left > TASK_IO_REFUSALS) {
            self.local.budget.set(Some(left.saturating_sub(units).max(TASK_IO_REFUSALS)));
        }
    }
}
