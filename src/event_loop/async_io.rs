//! A run of a loop that drives async-io's reactor: turns that do not wait, inside of a future that is pending while the loop
//! sleeps.

use std::io;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use crate::constants::MAX_WAIT;
use crate::event_loop::{Core, EventLoop};
use crate::reactor::async_io::{AsyncIo, Sleep};
use crate::sched::clock;

/// Makes a turn that waits for so long at most, and says whether it was the last.
type Turn<'a> = &'a mut dyn FnMut(Option<Duration>) -> io::Result<bool>;

const NO_TIME: Option<Duration> = Some(Duration::ZERO);

impl EventLoop {
    /// Whether the loop's own wait drives async-io's reactor: see [`Builder::drive_async_io`](crate::Builder::drive_async_io).
    #[cfg_attr(docsrs, doc(cfg(feature = "async-io")))]
    pub fn drives_async_io(&self) -> bool {
        !self.is_closed() && self.core.driver().is_some()
    }
}

impl Core {
    /// What drives async-io, if the loop is to.
    pub(super) fn driver(&self) -> Option<Rc<AsyncIo>> {
        self.async_io.borrow().clone()
    }

    /// The loop ends, or is in a child of `fork`.
    #[cold]
    pub(super) fn drive_no_more(&self) {
        let async_io = self.async_io.borrow_mut().take();
        drop(async_io);
    }

    /// One turn, which waits for so long at most.
    pub(super) fn drive_once(&self, async_io: &AsyncIo, limit: Option<Duration>) -> io::Result<usize> {
        let mut ran = 0;
        let until = limit.map(|limit| clock::deadline(Instant::now(), limit));
        self.drive(async_io, until, &mut |limit| {
            ran = self.turn(limit, None)?;
            Ok(true)
        })?;
        Ok(ran)
    }

    /// Makes turns until one is the last. A sleep ends at `until`.
    pub(super) fn drive(&self, async_io: &AsyncIo, until: Option<Instant>, turn: Turn<'_>) -> io::Result<()> {
        let mut drive = Drive { core: self, async_io, until, asleep_since: None, turns: 0 };
        async_io.block_on(|cx| drive.poll(cx, turn))
    }

    /// Until when the next turn would sleep, without a limit of its own: `None` if it would not.
    fn sleeps_until(&self) -> Option<Option<Instant>> {
        if self.stopping.get() || self.local.alerts.has_fatal() || self.has_work() {
            return None;
        }
        let Some(deadline) = self.local.timers.borrow_mut().next_deadline() else { return Some(None) };
        let now = self.now();
        if self.is_due(deadline, now) {
            return None;
        }
        if !self.has_own_clock() {
            return Some(Some(deadline.min(now + MAX_WAIT)));
        }
        match self.sleep_until(deadline, now) {
            Some(Duration::ZERO) => None,
            sleep => Some(sleep.map(|sleep| Instant::now() + sleep.min(MAX_WAIT))),
        }
    }
}

/// A run under way.
struct Drive<'a> {
    core: &'a Core,
    async_io: &'a AsyncIo,
    /// When a sleep ends, whatever there is.
    until: Option<Instant>,
    /// Since when the loop sleeps, if it does.
    asleep_since: Option<Instant>,
    /// How many turns were made since it last slept, or drove.
    turns: u32,
}

impl Drive<'_> {
    fn poll(&mut self, cx: &mut Context<'_>, turn: Turn<'_>) -> Poll<io::Result<()>> {
        loop {
            let sleep = match self.core.sleeps_until() {
                None => Sleep::Over,
                Some(deadline) => self.poll_sleep(cx, deadline),
            };
            if sleep == Sleep::Here {
                return Poll::Pending;
            }
            self.wake_up();
            let is_last = if sleep == Sleep::Elsewhere {
                let _elsewhere = self.async_io.elsewhere();
                turn(self.until.map(|until| until.saturating_duration_since(Instant::now())))
            } else {
                turn(NO_TIME)
            };
            if !matches!(is_last, Ok(false)) {
                return Poll::Ready(is_last.map(drop));
            }
            self.turns += 1;
            // The clock is read where the loop has just done so itself, or has not for long.
            let may_look = self.core.turns_since_wait.get() == 0 || self.turns % self.core.event_interval == 0;
            if may_look && self.async_io.is_overdue(self.core.event_period) && self.core.sleeps_until().is_none() {
                self.async_io.look(cx);
                return Poll::Pending;
            }
        }
    }

    /// Goes to sleep until the deadline, if there is nothing to do.
    fn poll_sleep(&mut self, cx: &mut Context<'_>, deadline: Option<Instant>) -> Sleep {
        let core = self.core;
        let inject = core.local.shared_ref().inject_queue();
        // From now on whoever gives the loop something to do wakes it, also on this thread.
        inject.wake_up();
        if !inject.prepare_sleep() {
            return Sleep::Over;
        }
        core.local.hosted_idle.set(true);
        if self.asleep_since.is_none() {
            self.asleep_since = Some(Instant::now());
            core.local.counters.fall_asleep(core.nanos(), core.event_interval);
        }
        let deadline = match (deadline, self.until) {
            (Some(deadline), Some(until)) => Some(deadline.min(until)),
            (deadline, until) => deadline.or(until),
        };
        self.async_io.poll_sleep(cx, deadline)
    }

    /// The loop goes on to make a turn.
    fn wake_up(&mut self) {
        let Some(asleep_since) = self.asleep_since.take() else { return };
        let local = &self.core.local;
        local.hosted_idle.set(false);
        local.shared_ref().inject_queue().wake_up();
        let (_, nanos) = local.counters.read_both(&self.core.clock);
        local.counters.wake_up(nanos);
        self.turns = 0;
        self.async_io.awake(asleep_since);
    }
}

impl Drop for Drive<'_> {
    fn drop(&mut self) {
        // Where it unwinds.
        self.wake_up();
    }
}
