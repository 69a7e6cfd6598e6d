//! The turn of the loop, and the ways to run it and to end it.

use std::io;
use std::panic::resume_unwind;
use std::rc::Rc;
use std::time::{Duration, Instant};

use crate::constants::{CLOSING_WAIT, LOOKS_PER_ASK, MAX_WAIT, POSTS_PER_TURN};
use crate::error::Stopped;
use crate::event_loop::root::{RootEnd, RootFuture, RunRoot};
use crate::event_loop::running::{self, Running};
use crate::event_loop::source::FULL_BUDGET;
use crate::event_loop::{Core, EventLoop, LoopFired, RunState};
use crate::note::is_taken;
use crate::reactor::slot::{Listener, Watcher};
use crate::reactor::{Fired, Readiness};
use crate::sched::active::{Ending, Entry, TaskRef};
use crate::sched::counters::{Counters, whole_nanos};
use crate::sched::ready::{Injected, Item};
use crate::sched::watch::Cause;
use crate::sched::{Due, Phase, task};

impl EventLoop {
    /// Runs the loop until [`stop`](Self::stop) is called.
    ///
    /// If `stop` was called before, one turn is made: what is ready and due runs once.
    ///
    /// # Panics
    ///
    /// If the loop is closed or running, or is that of a process that has forked this one, if another loop runs on this
    /// thread, if its selector fails, or with the payload of a [`Fatal`](crate::Fatal) panic of a callback.
    #[track_caller]
    pub fn run_forever(&self) {
        let run = Run::enter(&self.core, "EventLoop::run_forever");
        let result = self.core.make_turns(|limit| {
            self.core.turn_of_run(limit, None)?;
            Ok(self.core.stopping.get())
        });
        or_panic(result);
        run.end();
    }

    /// Runs the loop until the future is done, and returns its output.
    ///
    /// The future need not be `'static`; it is polled in place. What is scheduled, due or ready at its end runs before
    /// this returns, and what that schedules stays for the next run.
    ///
    /// # Errors
    ///
    /// [`Stopped`] if [`stop`](Self::stop) was called before the future was done. The future is then dropped; pass
    /// `&mut task` to go on with it later:
    ///
    /// ```
    /// let el = roundelay::EventLoop::new()?;
    /// let handle = el.clone();
    /// let mut task = el.create_task(async move {
    ///     handle.stop();
    ///     roundelay::yield_now().await;
    ///     5
    /// });
    /// assert_eq!(el.run_until_complete(&mut task).unwrap_err(), roundelay::Stopped);
    /// assert_eq!(el.run_until_complete(&mut task).unwrap().unwrap(), 5);
    /// # std::io::Result::Ok(())
    /// ```
    ///
    /// # Panics
    ///
    /// As [`run_forever`](Self::run_forever), and with the panic of the future itself, once what was scheduled has run.
    #[track_caller]
    pub fn run_until_complete<F: IntoFuture>(&self, future: F) -> Result<F::Output, Stopped> {
        match self.core.run_root(RunRoot::plain("EventLoop::run_until_complete"), future.into_future()) {
            Ok(output) => Ok(output),
            Err(RootEnd::Stopped | RootEnd::Cancelled) => Err(Stopped),
        }
    }

    /// Makes one turn, and waits at most `timeout` for something to do; `None` waits without end.
    ///
    /// Returns how many items ran. With a timeout of zero it never blocks, and always asks the selector: that is the turn of
    /// a loop inside of another one, which waits for the [descriptor](std::os::fd::AsFd) or the
    /// [deadline](Self::next_deadline). After it, [`next_deadline`](Self::next_deadline) says whether there is more to do at
    /// once; what is ready is left to the next turn, so that the host gets its own turn in between.
    ///
    /// What a turn may do: everything that is ready when it begins, at most 4096 posts of other threads, and what its tasks
    /// and callbacks take. So a host that has a frame to draw loses no more time than they hold the thread for.
    ///
    /// # Errors
    ///
    /// The selector's; the loop stays usable.
    ///
    /// # Panics
    ///
    /// As [`run_forever`](Self::run_forever), but for a selector that fails.
    #[track_caller]
    pub fn run_once(&self, timeout: Option<Duration>) -> io::Result<usize> {
        let _run = Run::enter(&self.core, RUN_ONCE);
        self.core.make_one_turn(timeout)
    }

    /// Ends the current run after the turn that is under way; if the loop is not running, the next run makes one turn.
    pub fn stop(&self) {
        self.core.stopping.set(true);
        // A host that waits makes that turn.
        self.core.local.nudge();
    }

    /// Closes the loop, for good. A second call does nothing.
    ///
    /// What is ready and what is armed is discarded without being run. All tasks are dropped, on this thread, before it
    /// returns; their handles say [`is_closed`](crate::JoinError::is_closed). Protocols are let go of silently:
    /// [`block_on`](crate::block_on) gives them their `connection_lost` before. The default executor is told to end and
    /// is not waited for. Wakers, handles and remotes that outlive the loop are inert.
    ///
    /// In a child of `fork`, the loop of the parent is let go of without the parent's notice: see
    /// [`after_fork_child`](Self::after_fork_child).
    ///
    /// # Panics
    ///
    /// If the loop is running.
    #[track_caller]
    pub fn close(&self) {
        let core = &*self.core;
        assert!(!self.is_running(), "EventLoop::close(): cannot close a running event loop");
        if core.local.phase.get() != Phase::Open {
            return;
        }
        note!(DEBUG, "roundelay::loop", "close {self:?}");
        core.close();
    }
}

/// The run of which nothing is told: a host makes many.
const RUN_ONCE: &str = "EventLoop::run_once";

/// A run of the loop; ends it however it is left.
pub(super) struct Run<'a> {
    core: &'a Rc<Core>,
    running: Option<Running>,
}

impl<'a> Run<'a> {
    #[track_caller]
    pub(super) fn enter(core: &'a Rc<Core>, method: &'static str) -> Self {
        let run = Self::enter_hosted(core, method);
        if core.driven.get() {
            // It would be woken instead of the selector, and its deadline may be another one afterwards.
            core.wake_driver();
        }
        if is_taken(&tracing::Level::DEBUG) {
            core.tell_begin(method);
        }
        run
    }

    /// As `enter`, by whoever makes some turns and then leaves the loop to its host.
    #[track_caller]
    pub(super) fn enter_hosted(core: &'a Rc<Core>, method: &'static str) -> Self {
        assert!(
            !core.is_inherited(),
            "{method}(): event loop {} is that of a process that has forked this one: make another one here, or call \
             after_fork_child() first",
            core.local.loop_id()
        );
        assert!(core.is_open(), "{method}(): event loop is closed");
        assert!(!core.is_running(), "{method}(): this event loop is already running");
        if let Some(other) = running::current() {
            panic!(
                "{method}(): cannot run loop {} while loop {} is running on this thread",
                core.local.loop_id(),
                other.local.loop_id()
            );
        }
        if !core.has_run.get() {
            core.begin();
        }
        core.run_state.set(RunState::Running);
        core.local.hosted_idle.set(false);
        // The first turn of a run asks the selector.
        core.turns_since_wait.set(u32::MAX);
        if core.hosted.get() {
            core.local.shared_ref().inject_queue().wake_up();
        }
        Self { core, running: Some(Running::enter(core.clone())) }
    }

    /// The loop is not run from now on. A program that calls `run_once` again and again says so only if it is a host: else
    /// it is busy in between.
    #[inline]
    pub(super) fn end(self) {
        self.core.leave();
    }
}

impl Drop for Run<'_> {
    fn drop(&mut self) {
        let core = self.core;
        if core.told_run.get().is_some() {
            core.tell_end();
        }
        self.running = None;
        core.stopping.set(false);
        core.local.hosted_idle.set(core.hosted.get());
        let close = core.run_state.replace(RunState::Idle) == RunState::ClosingAfterwards;
        // Without a host nobody need be told of what comes between two runs: the next one looks for it.
        let hosted = core.hosted.get() && !core.is_inherited();
        if hosted {
            // The clock may be the application's.
            core.local.guarded(|| core.leave());
        }
        if hosted && (core.local.shared_ref().inject_queue().leave() || core.has_work()) {
            core.local.wake_host();
        }
        if close {
            core.close();
        }
    }
}

impl Core {
    /// The loop is run for the first time.
    #[cold]
    #[inline(never)]
    fn begin(&self) {
        self.local.counters.begin(self.nanos());
        self.has_run.set(true);
    }

    /// Tells of a run that is more than one turn, and the application's: not of those in which a runner ends things.
    #[cold]
    #[inline(never)]
    fn tell_begin(self: &Rc<Self>, method: &'static str) {
        if method != RUN_ONCE && !self.ending.get() {
            let el = EventLoop::handle(self.clone());
            note!(DEBUG, "roundelay::loop", "{method}() begins: {el:?}");
            self.told_run.set(Some(method));
        }
    }

    /// Tells of its end.
    #[cold]
    #[inline(never)]
    fn tell_end(self: &Rc<Self>) {
        if let Some(method) = self.told_run.take() {
            let el = EventLoop::handle(self.clone());
            note!(DEBUG, "roundelay::loop", "{method}() ends: {el:?}");
        }
    }

    /// The loop is not run from now on, which its metrics tell. A run that never asked the selector read no clock, and does
    /// not now.
    #[inline]
    fn leave(&self) {
        if !self.local.counters.away.is_running() {
            self.leave_now();
        }
    }

    #[inline(never)]
    fn leave_now(&self) {
        self.local.counters.leave(self.nanos(), self.event_interval);
    }

    /// Whether anything is ready.
    pub(crate) fn has_work(&self) -> bool {
        self.has_own_work() || self.local.has_posts()
    }

    /// The same without what other threads have posted.
    fn has_own_work(&self) -> bool {
        self.local.ready.len() > 0 || self.reactor.borrow().has_events()
    }

    /// Whether another turn that does not wait might find something to do.
    pub(super) fn has_more(&self) -> bool {
        self.has_work() || self.reactor.borrow().live() > 0 || self.has_due()
    }

    /// Whether a timer is due.
    pub(super) fn has_due(&self) -> bool {
        let deadline = self.local.timers.borrow_mut().next_deadline();
        deadline.is_some_and(|deadline| self.is_due(deadline, self.now()))
    }

    /// Makes turns until one is the last. `turn` makes one, which waits for so long at most, and says whether it was.
    #[inline(always)]
    pub(super) fn make_turns(&self, mut turn: impl FnMut(Option<Duration>) -> io::Result<bool>) -> io::Result<()> {
        #[cfg(feature = "async-io")]
        if let Some(async_io) = self.driver() {
            return self.drive(&async_io, None, &mut turn);
        }
        while !turn(None)? {}
        Ok(())
    }

    /// Makes one turn. Returns how many items ran.
    #[inline(always)]
    fn make_one_turn(&self, limit: Option<Duration>) -> io::Result<usize> {
        #[cfg(feature = "async-io")]
        if let Some(async_io) = self.driver().filter(|_| limit != Some(Duration::ZERO)) {
            return self.drive_once(&async_io, limit);
        }
        self.turn(limit, None)
    }

    /// One turn of many, which as a rule waits without a limit: that case is compiled for itself.
    #[inline(always)]
    pub(super) fn turn_of_run(&self, limit: Option<Duration>, root: Option<&mut dyn RootFuture>) -> io::Result<usize> {
        if limit.is_none() { self.turn_without_limit(root) } else { self.turn(limit, root) }
    }

    #[inline(never)]
    fn turn_without_limit(&self, root: Option<&mut dyn RootFuture>) -> io::Result<usize> {
        self.turn(None, root)
    }

    /// One turn. Returns how many items ran.
    #[inline(always)]
    pub(super) fn turn(&self, limit: Option<Duration>, root: Option<&mut dyn RootFuture>) -> io::Result<usize> {
        if self.local.alerts.any() { self.turn_alerted(limit, root) } else { self.make_turn::<false>(limit, root) }
    }

    #[cold]
    #[inline(never)]
    fn turn_alerted(&self, limit: Option<Duration>, root: Option<&mut dyn RootFuture>) -> io::Result<usize> {
        // One from outside of a run, where nothing could unwind.
        if let Some(payload) = self.local.alerts.take_fatal() {
            self.local.counters.turns.add(1);
            resume_unwind(payload);
        }
        self.make_turn::<true>(limit, root)
    }

    /// One turn, by the contract at the head of `event_loop`. An observer that comes in the middle of it sees the items
    /// from then on, and not the turn.
    #[inline(always)]
    fn make_turn<const OBSERVED: bool>(
        &self,
        limit: Option<Duration>,
        mut root: Option<&mut dyn RootFuture>,
    ) -> io::Result<usize> {
        let local = &*self.local;
        let counters = &*local.counters;
        counters.turns.add(1);

        #[cfg(feature = "test-util")]
        let limit = self.pass_time(limit)?;

        // 1. Cancelled timers are gone already: cancelling takes them out.
        let deadline = local.timers.borrow_mut().next_deadline();

        // 2. and 3.
        let ready = local.ready.len() > 0 || local.has_posts();
        let mut now = None;
        if let Some(timeout) = self.timeout(counters, ready, deadline, limit, &mut now) {
            let sleeps = timeout != Some(Duration::ZERO);
            if sleeps {
                let now = now.map_or_else(|| self.nanos(), |now| counters.nanos(now));
                counters.fall_asleep(now, self.event_interval);
            }
            let result = self.wait::<OBSERVED>(timeout);
            let (asked_at, nanos) = match now {
                Some(now) if !sleeps => (now, counters.nanos(now)),
                _ => counters.read_both(&self.clock),
            };
            if sleeps {
                counters.wake_up(nanos);
            } else {
                counters.look(nanos, self.event_interval);
            }
            result?;
            now = Some(asked_at);
            local.looked_at.set(nanos);
            self.waited_at.set(asked_at);
            self.turns_since_wait.set(0);
        }

        // 4.
        let mut seen = OBSERVED.then(|| self.begin_turn(now));
        if let Some(deadline) = deadline {
            let now = now.unwrap_or_else(|| self.now());
            let limit = now.checked_add(self.resolution).unwrap_or(now);
            let is_due = match &mut seen {
                None => local.queue_due(limit),
                Some(turn) => {
                    (turn.timers, turn.latest) = self.queue_due_observed(limit, now);
                    turn.timers > 0
                }
            };
            if is_due {
                counters.lateness.record(whole_nanos(now.saturating_duration_since(deadline)));
            }
        }

        // 5. No more than are there now, and no more than a turn may well take: a flood from another thread does not hold
        // it up, nor the next one twice as long.
        local.queue_posts(POSTS_PER_TURN);

        // 6.
        let batch = local.ready.len();
        #[cfg(feature = "test-util")]
        if let Some(order) = self.order.get() {
            order.permute(&local.ready, batch);
        }
        counters.ready.set(batch as u64);
        counters.longest_ready.raise_to(batch as u64);
        note!(TRACE, "roundelay::loop", "turn {} of loop {}: {batch} items", self.turn_number(), local.loop_id());
        if let Some(turn) = &mut seen {
            turn.posts = local.queued_posts();
        }
        for _ in 0..batch {
            if local.alerts.any() {
                self.run_alerted(&mut root);
            } else {
                local.ready.prefetch();
                let Some(item) = local.ready.pop() else { break };
                self.run_item(item, &mut root);
            }
            if local.is_inherited() {
                self.leave_to_parent();
            }
        }
        if local.alerts.any() {
            self.unwind();
        }
        if let Some(turn) = seen {
            self.end_turn(turn, batch);
        }
        Ok(batch)
    }

    /// Runs the next item, if the run need not end.
    #[cold]
    #[inline(never)]
    fn run_alerted(&self, root: &mut Option<&mut dyn RootFuture>) {
        self.unwind();
        if let Some(item) = self.local.ready.pop() {
            self.run_observed(item, root);
        }
    }

    /// Ends the run if something has panicked fatally.
    #[cold]
    #[inline(never)]
    pub(super) fn unwind(&self) {
        if let Some(payload) = self.local.alerts.take_fatal() {
            resume_unwind(payload);
        }
    }

    /// How long this turn waits, at most, when it asks the selector; `None` if it does not ask. Says what time it is if
    /// that had to be looked up.
    ///
    /// Where nothing is registered, a wait that does not sleep could find nothing, and is left out: then a turn that has
    /// work and no timers costs no system call and does not read the clock.
    #[inline(always)]
    fn timeout(
        &self,
        counters: &Counters,
        ready: bool,
        deadline: Option<Instant>,
        limit: Option<Duration>,
        now: &mut Option<Instant>,
    ) -> Option<Option<Duration>> {
        const AT_ONCE: Option<Option<Duration>> = Some(Some(Duration::ZERO));
        let stopping = self.stopping.get();
        let (live, bare, has_events) = {
            let reactor = self.reactor.borrow();
            (reactor.live(), reactor.is_bare() && !self.hosted.get(), reactor.has_events())
        };
        counters.descriptors.set(live);
        if ready || stopping {
            if bare {
                return None;
            }
            let turns = self.turns_since_wait.get().saturating_add(1);
            self.turns_since_wait.set(turns);
            if stopping || turns >= self.event_interval {
                return AT_ONCE;
            }
            let time = *now.insert(self.now());
            let asks = deadline.is_some_and(|deadline| self.is_due(deadline, time))
                || time.saturating_duration_since(self.waited_at.get()) >= self.event_period;
            return if asks { AT_ONCE } else { None };
        }
        if has_events {
            return AT_ONCE;
        }
        let Some(deadline) = deadline else { return Some(limit) };
        let time = *now.insert(self.now());
        let sleep = self.sleep_until(deadline, time).map(|sleep| sleep.min(MAX_WAIT));
        if bare && sleep == Some(Duration::ZERO) && limit != Some(Duration::ZERO) {
            return None;
        }
        Some(shorter(sleep, limit))
    }

    /// Asks the selector outside of a turn's own wait.
    #[cfg(feature = "test-util")]
    pub(super) fn wait_beforehand(&self, timeout: Option<Duration>) -> io::Result<()> {
        self.local.counters.descriptors.set(self.reactor.borrow().live());
        if self.is_observed() { self.wait::<true>(timeout) } else { self.wait::<false>(timeout) }
    }

    /// Asks the selector and queues what it found.
    #[inline(always)]
    fn wait<const OBSERVED: bool>(&self, timeout: Option<Duration>) -> io::Result<()> {
        let local = &*self.local;
        let mut fired = self.fired.take();
        let asked_at = OBSERVED.then(|| self.now());
        let result = if timeout == Some(Duration::ZERO) {
            self.ask(timeout, &mut fired)
        } else {
            self.sleep(timeout, &mut fired)
        };
        if let Some(asked_at) = asked_at {
            self.show_wait(asked_at, timeout, fired.len());
        }
        local.counters.events.add(fired.len() as u64);
        // Turned round, the first one is taken first; a drain would have something to put right at its end.
        fired.reverse();
        while let Some(fired) = fired.pop() {
            match fired {
                Fired::Callback(callback) => local.ready.push(Item::Callback(callback)),
                Fired::Event(key, readiness) => local.ready.push(Item::Event { key, readiness: readiness.bits() }),
                // Queues the task at once: its place in the line is that of the event.
                Fired::Wake(waker, fd) => {
                    local.inspection.cause.set(Cause::Descriptor(fd));
                    local.wake(waker);
                }
            }
        }
        // What was there meanwhile has no memory.
        std::mem::forget(self.fired.replace(fired));
        result
    }

    #[inline(always)]
    fn ask(&self, timeout: Option<Duration>, fired: &mut Vec<LoopFired>) -> io::Result<()> {
        let counters = &self.local.counters;
        let mut reactor = self.reactor.borrow_mut();
        counters.waits.add(1);
        counters.armed.set(self.local.timers.borrow().len() as u64);
        reactor.wait(timeout, fired)
    }

    /// Asks the selector, and sleeps until it has something to say or is called.
    #[inline(always)]
    fn sleep(&self, mut timeout: Option<Duration>, fired: &mut Vec<LoopFired>) -> io::Result<()> {
        let inject = self.local.shared_ref().inject_queue();
        if !self.spin.is_zero() {
            let spun = self.spin(timeout, fired)?;
            if !fired.is_empty() || inject.has_items() {
                return Ok(());
            }
            timeout = timeout.map(|timeout| timeout.saturating_sub(spun));
        }
        let timeout = if inject.prepare_sleep() { timeout } else { Some(Duration::ZERO) };
        let result = self.ask(timeout, fired);
        inject.wake_up();
        result
    }

    /// Asks the selector again and again, until there is something to do or the time for it is over. Says how long.
    fn spin(&self, timeout: Option<Duration>, fired: &mut Vec<LoopFired>) -> io::Result<Duration> {
        let inject = self.local.shared_ref().inject_queue();
        let limit = timeout.map_or(self.spin, |timeout| timeout.min(self.spin));
        let began = Instant::now();
        loop {
            self.ask(Some(Duration::ZERO), fired)?;
            // A look at the queue costs next to nothing beside one at the selector.
            let posted = (0..LOOKS_PER_ASK).any(|_| {
                std::hint::spin_loop();
                inject.has_items()
            });
            let spun = began.elapsed();
            if posted || !fired.is_empty() || spun >= limit {
                return Ok(spun);
            }
        }
    }

    pub(super) fn is_due(&self, deadline: Instant, now: Instant) -> bool {
        now.checked_add(self.resolution).is_none_or(|limit| deadline <= limit)
    }

    #[inline(always)]
    pub(super) fn run_item(&self, item: Item, root: &mut Option<&mut dyn RootFuture>) {
        let local = &*self.local;
        match item {
            Item::Task(runnable) => self.run_task(runnable),
            Item::Callback(callback) => callback.run(),
            Item::Event { key, readiness } => {
                let handler = match self.reactor.borrow().get(key).map(|slot| &slot.listener) {
                    Some(Listener::Handler(handler)) => handler.clone(),
                    // Deregistered since the event was queued.
                    _ => return,
                };
                handler.on_ready(Readiness::from_bits(readiness));
            }
            Item::Root(id) => self.run_root_item(id, root),
            Item::Job(job) => job.run(local),
            Item::Posted(posting) => posting.run(local),
            Item::Taken => self.run_taken(root),
        }
    }

    #[inline(always)]
    fn run_task(&self, runnable: task::Runnable) {
        let local = &*self.local;
        local.budget.set(Some(FULL_BUDGET));
        task::step(local, runnable);
        local.budget.set(None);
    }

    fn run_root_item(&self, id: u64, root: &mut Option<&mut dyn RootFuture>) {
        if let Some(root) = root {
            self.local.budget.set(Some(FULL_BUDGET));
            root.poll(self, id);
            self.local.budget.set(None);
        }
    }

    /// Runs what another thread has posted.
    #[inline(never)]
    fn run_taken(&self, root: &mut Option<&mut dyn RootFuture>) {
        match self.local.next_taken() {
            Some(Injected::Task(runnable)) => self.run_task(runnable),
            Some(Injected::Root(id)) => self.run_root_item(id, root),
            Some(Injected::Job(job)) => job.run(&self.local),
            Some(Injected::Posted(posting)) => posting.run(&self.local),
            Some(Injected::Stamped(stamped)) => self.run_stamped(stamped.item, root),
            None => {}
        }
    }

    /// The same while somebody wants to know where it came from.
    #[cold]
    fn run_stamped(&self, injected: Injected, root: &mut Option<&mut dyn RootFuture>) {
        self.run_item(injected.into(), root);
    }

    /// Ends everything the loop has. See [`EventLoop::close`].
    ///
    /// Whatever runs destructors of the application's is guarded: one that panics is reported, and the rest still ends.
    fn close(&self) {
        let local = &*self.local;
        let inject = local.shared_ref().inject_queue();
        local.phase.set(Phase::Closing);
        self.wake_driver();

        // All tasks are told to end. Those that a thread is just waking are not in any queue yet: an empty queue proves
        // nothing, the number of live tasks does.
        self.warn_of_pending_tasks();
        let tasks: Vec<TaskRef> = local.active.borrow().iter().map(Entry::task).collect();
        for task in tasks {
            local.end_task(task, Ending::Closed);
        }
        while local.counters.tasks.live() > 0 {
            // One by one: threads that never stop posting must not hold this up once the last task is gone.
            if self.end_next() {
                continue;
            }
            if local.is_inherited() {
                // They are with threads that this process does not have.
                break;
            }
            if inject.prepare_sleep() {
                let mut fired = Vec::new();
                let _ = self.reactor.borrow_mut().wait(Some(CLOSING_WAIT), &mut fired);
                drop(fired);
            }
            inject.wake_up();
        }

        // No future is left, so no waker can schedule: now the way in is shut, and what was posted is refused.
        if !local.is_inherited() {
            inject.close();
        }
        self.drain();
        let timers = local.timers.borrow_mut().clear();
        for due in timers {
            match due {
                Due::Callback(callback) => local.discard(Item::Callback(callback)),
                Due::Task(_) | Due::Cancel(_) => {}
                Due::Waker(waker) => local.dispose(waker),
            }
        }
        self.services.close(local);
        #[cfg(feature = "async-io")]
        self.drive_no_more();
        let (slots, selector) = self.reactor.borrow_mut().close();
        for slot in slots {
            local.guarded(|| match slot.listener {
                Listener::Handler(handler) => handler.on_close(),
                Listener::Wakers(pair) => pair.close(),
                Listener::Watch(watch) => {
                    for watcher in watch.reader.into_iter().chain(watch.writer) {
                        match watcher {
                            Watcher::Callback(callback) => local.dispose(callback),
                            Watcher::Operation(operation) => operation.wake(),
                        }
                    }
                }
            });
        }
        local.dispose(selector);
        local.guarded(|| if local.is_inherited() { self.wake.close_inherited() } else { self.wake.close() });
        drop(self.clock_wake.take());

        // Destructors that ran above may have left something behind.
        self.drain();
        local.phase.set(Phase::Closed);
        self.drain();
        local.dispose(self.task_factory.take());
        local.ready.shrink();
        local.active.borrow_mut().shrink();
        drop((self.receive_buffer.take(), self.spare_buffers.take()));
        // The clock may be the application's.
        local.guarded(|| local.counters.end(self.nanos()));
        local.part();
        if let Some(payload) = local.alerts.take_fatal() {
            local.report_panic("Fatal panic while closing", &*payload, None, None);
            local.dispose(payload);
        }
    }

    /// Ends everything that is queued.
    fn drain(&self) {
        while self.end_next() {}
    }

    /// Ends the next item that is queued, if there is one: a task is polled, which ends it, for it has been told; the
    /// rest is discarded.
    fn end_next(&self) -> bool {
        let local = &*self.local;
        match local.next_to_end() {
            Some(Item::Task(runnable)) => task::step(local, runnable),
            Some(item) => local.discard(item),
            None => return false,
        }
        true
    }
}

/// Panics if the selector has failed.
#[track_caller]
pub(super) fn or_panic(result: io::Result<()>) {
    if let Err(error) = result {
        panic!("the event loop's selector failed: {error}");
    }
}

/// The shorter of two waits, where `None` is endless.
fn shorter(a: Option<Duration>, b: Option<Duration>) -> Option<Duration> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
}
