//! Time that jumps to the next deadline when the loop has nothing to do, or that a test moves: what is behind `testing`.
//!
//! The problem: a loop that has nothing to do is idle, or waits for somebody whom it cannot see. A jump in the second case
//! ends by a timeout what was about to be answered, on some machines and on others not. tokio's paused clock jumps
//! whatever is awaited, but for its blocking pool; trio's waits some real time before each jump, and is then as good as
//! that time. Here the loop looks who could still give it something to do, and time stands still meanwhile:
//!
//! * A job of an executor that is not over, a child process, and whatever the test says by `testing::busy`. They are
//!   counted ([`BusyTable`]).
//! * A descriptor that somebody waits for, unless nobody but this loop can make it ready: see `Reactor::outstanding`.
//!
//! What is left cannot be seen: a thread that will post something by a `Remote` or a waker, a client in another thread that
//! will connect. For them there is `testing::busy`. Bytes between two ends that are both here are on their way for a moment
//! only; before a jump the loop waits for them for a millisecond, if anything is registered at all.

use std::borrow::Cow;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::io;
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use crate::event_loop::job::lock;
use crate::event_loop::{Core, EventLoop};
use crate::sched::clock::{Clock, ManualClock, deadline};
use crate::sched::{Local, Shared};

/// When time moves by itself.
#[derive(Clone, Debug)]
pub(crate) struct Passing {
    /// Whether it does at all.
    pub(crate) jump: bool,
    /// Also while a descriptor is waited for.
    pub(crate) with_io: bool,
    /// Also while a job is outstanding, or anything else that was counted.
    pub(crate) with_jobs: bool,
    /// How long, in real time, bytes between two ends that are both here may be on their way.
    pub(crate) grace: Duration,
    /// How long, in real time, nothing may happen.
    pub(crate) real_limit: Duration,
}

/// The time of a loop under test.
pub(crate) struct VirtualTime {
    clock: ManualClock,
    passing: Passing,
    busy: Arc<BusyTable>,
    /// Who waits until the loop has come to rest at a moment, in that order.
    resting: RefCell<BTreeMap<(Instant, u64), Waker>>,
    next_rest: Cell<u64>,
    /// Whether the time for something to happen is over, and all tasks were polled once more, to say what they wait for.
    is_over: Cell<bool>,
}

impl VirtualTime {
    pub(crate) fn new(clock: ManualClock, passing: Passing, local: &Local) -> Self {
        let busy = Arc::new(BusyTable { shared: local.shared(), inner: Mutex::default() });
        Self { clock, passing, busy, resting: RefCell::default(), next_rest: Cell::new(0), is_over: Cell::new(false) }
    }

    /// How far the time is.
    pub(crate) fn elapsed(&self) -> Duration {
        self.clock.elapsed()
    }

    /// Holds the time for as long as the guard is there.
    pub(crate) fn busy(&self, what: impl Into<Cow<'static, str>>) -> Busy {
        BusyTable::enter(&self.busy, what.into())
    }

    /// Whether the time can be moved so far from now.
    pub(crate) fn can_move(&self, by: Duration) -> bool {
        self.clock.can_reach(deadline(self.clock.now(), by))
    }

    /// Has the time move to a moment, and whoever waits woken when the loop has come to rest there.
    fn rest(&self, rest: &mut Option<(Instant, u64)>, when: Instant, waker: &Waker) -> Poll<()> {
        // The application's, which may call back: nothing is borrowed meanwhile.
        let waker = waker.clone();
        let key = match *rest {
            Some(key) => key,
            None => {
                let key = (when, self.next_rest.get());
                self.next_rest.set(key.1 + 1);
                self.resting.borrow_mut().insert(key, waker);
                *rest = Some(key);
                return Poll::Pending;
            }
        };
        let before = match self.resting.borrow_mut().get_mut(&key) {
            Some(before) => std::mem::replace(before, waker),
            // Taken out: it was woken.
            None => return Poll::Ready(()),
        };
        drop(before);
        Poll::Pending
    }

    fn next_rest(&self) -> Option<Instant> {
        self.resting.borrow().first_key_value().map(|(key, _)| key.0)
    }

    /// Wakes who waited for this moment. True if anybody did.
    fn wake_resting(&self, now: Instant, local: &Local) -> bool {
        let later = self.resting.borrow_mut().split_off(&(now, u64::MAX));
        let woken = self.resting.replace(later);
        let any = !woken.is_empty();
        woken.into_values().for_each(|waker| local.wake(waker));
        any
    }

    /// The next deadline that ever comes.
    fn next_deadline(&self, core: &Core) -> Option<Instant> {
        let next = core.local.timers.borrow_mut().next_deadline();
        next.filter(|deadline| self.clock.can_reach(*deadline))
    }

    /// Whether nobody but the loop can give it anything to do.
    fn is_alone(&self, core: &Core) -> bool {
        // At the end there is nobody whom a job could keep waiting, and it may be just about to be over.
        (self.passing.with_jobs && !core.ending.get() || self.busy.is_empty())
            && (self.passing.with_io || core.reactor.borrow().outstanding().is_empty())
    }

    /// The loop has nothing to do: time passes, or real time does until there is something.
    ///
    /// The limit is one of the loop's time where that may move, and of real time otherwise. Gives the limit for the rest of
    /// the turn: none is left where the time for it has passed here.
    fn pass(&self, core: &Core, limit: Option<Duration>) -> io::Result<Option<Duration>> {
        const NO_TIME: Option<Duration> = Some(Duration::ZERO);
        // One that never comes is none.
        let limit = limit.filter(|limit| self.can_move(*limit));
        let until = limit.map(|limit| deadline(self.clock.now(), limit));
        let began = Instant::now();
        // Whether nothing is on its way between two ends that are both here.
        let mut is_quiet = false;
        loop {
            if !core.is_bare() {
                core.wait_beforehand(NO_TIME)?;
            }
            if core.has_work() {
                self.is_over.set(false);
                return Ok(limit);
            }
            let now = self.clock.now();
            let next = self.next_deadline(core);
            // Not within the clock's resolution: the turn would sleep until its time has come.
            if next.is_some_and(|deadline| deadline <= now) {
                return Ok(limit);
            }
            if until.is_some_and(|until| until <= now) {
                return Ok(NO_TIME);
            }
            let rest = self.next_rest();
            let left = limit.unwrap_or(self.passing.real_limit).saturating_sub(began.elapsed());
            // The end of a loop has a bound of its own, which must come.
            let is_ending = core.ending.get();
            let is_stuck = is_ending && left.is_zero();
            let target = [next, rest, until].into_iter().flatten().min();
            let moves = rest.is_some() || is_stuck || (self.passing.jump && self.is_alone(core));
            match target.filter(|_| moves) {
                Some(_) if !is_quiet && !self.passing.grace.is_zero() && core.has_descriptors() => {
                    core.wait_beforehand(Some(self.passing.grace))?;
                    is_quiet = true;
                }
                // What a thread posted before it was done is seen by now.
                Some(_) if core.has_work() => {}
                Some(target) => {
                    if self.wake_resting(now, &core.local) {
                        return Ok(limit);
                    }
                    core.sleep_through(|| self.clock.reach(target));
                    self.is_over.set(false);
                }
                None if left.is_zero() && limit.is_some() => return Ok(NO_TIME),
                None if !is_ending && limit.is_none() && (left.is_zero() || self.is_over.get()) => {
                    if self.is_over.replace(true) || !self.ask_tasks(core) {
                        self.give_up(core);
                    }
                    return Ok(limit);
                }
                None => {
                    is_quiet = false;
                    core.wait_beforehand(Some(if is_stuck { self.passing.real_limit } else { left }))?;
                }
            }
        }
    }

    /// Has all tasks polled once more, in which they say what they wait for. True if there are any.
    fn ask_tasks(&self, core: &Core) -> bool {
        if let Some(core) = core.me.upgrade() {
            EventLoop::handle(core).set_inspection(true);
        }
        core.has_work()
    }

    /// Nothing has happened for too long.
    fn give_up(&self, core: &Core) -> ! {
        // The loop may be run again.
        self.is_over.set(false);
        let outstanding: Vec<String> = self.busy.all().into_iter().chain(core.reactor.borrow().outstanding()).collect();
        let mut text = format!("virtual time: nothing has happened for {:?} of real time", self.passing.real_limit);
        text.push_str(match (outstanding.is_empty(), self.passing.jump) {
            (false, true) => ", and time stands still while something is outstanding:",
            (false, false) => ", and time is moved by advance() alone. Outstanding:",
            (true, false) if self.next_deadline(core).is_some() => ": time is moved by advance() alone",
            (true, _) => ": a deadlock, for nothing is outstanding and there is no timer to jump to",
        });
        for what in &outstanding {
            let _ = write!(text, "\n  {what}");
        }
        if let Some(core) = core.me.upgrade() {
            let _ = write!(text, "\n{}", EventLoop::handle(core).dump_tasks());
        }
        if !outstanding.is_empty() && self.passing.jump {
            text.push_str("\nSee roundelay::testing for what holds the time, and Builder::jump_with_io()");
        }
        panic!("{text}");
    }
}

impl Core {
    /// Under `testing`, and where there is nothing to do: lets time pass until there is, or until the limit.
    #[inline]
    pub(super) fn pass_time(&self, limit: Option<Duration>) -> io::Result<Option<Duration>> {
        match self.virtual_time.get() {
            Some(time) if limit != Some(Duration::ZERO) && !self.stopping.get() && !self.has_work() => {
                time.pass(self, limit)
            }
            _ => Ok(limit),
        }
    }

    /// What passes meanwhile is time in which the loop sleeps.
    fn sleep_through(&self, time: impl FnOnce()) {
        let counters = &self.local.counters;
        counters.fall_asleep(self.nanos(), self.event_interval);
        time();
        let (now, nanos) = counters.read_both(&self.clock);
        counters.wake_up(nanos);
        self.local.looked_at.set(nanos);
        self.waited_at.set(now);
    }

    fn is_bare(&self) -> bool {
        self.reactor.borrow().is_bare()
    }

    fn has_descriptors(&self) -> bool {
        self.reactor.borrow().live() > 0
    }

    /// Holds the time of a loop under test for as long as the guard is there.
    pub(crate) fn busy(&self, what: impl FnOnce() -> String) -> Option<Busy> {
        self.virtual_time.get().map(|time| time.busy(what()))
    }
}

/// Waits until the loop has come to rest at a moment.
#[derive(Default)]
pub(crate) struct Resting {
    time: Option<Rc<VirtualTime>>,
    key: Option<(Instant, u64)>,
}

impl Resting {
    /// Moves the time by `by` from now, at the first call, and is ready when nothing is left to do then.
    pub(crate) fn poll(&mut self, time: &Rc<VirtualTime>, by: Duration, cx: &Context<'_>) -> Poll<()> {
        let time = self.time.get_or_insert_with(|| time.clone());
        let when = deadline(time.clock.now(), by);
        time.rest(&mut self.key, when, cx.waker())
    }
}

impl Drop for Resting {
    fn drop(&mut self) {
        if let (Some(time), Some(key)) = (&self.time, &self.key) {
            let waker = time.resting.borrow_mut().remove(key);
            drop(waker);
        }
    }
}

/// What holds the time, beside descriptors.
struct BusyTable {
    shared: Arc<Shared>,
    inner: Mutex<BusyInner>,
}

#[derive(Default)]
struct BusyInner {
    next: u64,
    what: BTreeMap<u64, Cow<'static, str>>,
}

impl BusyTable {
    fn enter(table: &Arc<Self>, what: Cow<'static, str>) -> Busy {
        let mut inner = lock(&table.inner);
        let key = inner.next;
        inner.next += 1;
        inner.what.insert(key, what);
        Busy { table: table.clone(), key }
    }

    fn is_empty(&self) -> bool {
        lock(&self.inner).what.is_empty()
    }

    fn all(&self) -> Vec<String> {
        lock(&self.inner).what.values().map(|what| what.clone().into_owned()).collect()
    }
}

/// Holds the time of a loop under test; may be dropped on any thread.
pub(crate) struct Busy {
    table: Arc<BusyTable>,
    key: u64,
}

impl Drop for Busy {
    fn drop(&mut self) {
        let (what, is_last) = {
            let mut inner = lock(&self.table.inner);
            (inner.what.remove(&self.key), inner.what.is_empty())
        };
        drop(what);
        if is_last {
            // It may go on now.
            self.table.shared.wake_if_asleep();
        }
    }
}
