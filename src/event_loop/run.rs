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
use crate::reactor::slot::{Listener, Watcher};
use crate::reactor::{Fired, Readiness};
use crate::sched::active::{Ending, Entry, TaskRef};
use crate::sched::ready::{Injected, Item};
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
        let _run = Run::enter(&self.core, "EventLoop::run_forever");
        loop {
            self.core.turn_or_panic(None);
            if self.core.stopping.get() {
                return;
            }
        }
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
    /// Returns how many items ran. With a timeout of zero it never blocks: for a foreign loop that hosts this one.
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
        let _run = Run::enter(&self.core, "EventLoop::run_once");
        self.core.turn(timeout, None)
    }

    /// Ends the current run after the turn that is under way; if the loop is not running, the next run makes one turn.
    pub fn stop(&self) {
        self.core.stopping.set(true);
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
        tracing::debug!(target: "roundelay", "close {self:?}");
        core.close();
    }
}

/// A run of the loop; ends it however it is left.
pub(super) struct Run<'a> {
    core: &'a Rc<Core>,
    running: Option<Running>,
}

impl<'a> Run<'a> {
    #[track_caller]
    pub(super) fn enter(core: &'a Rc<Core>, method: &str) -> Self {
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
        core.run_state.set(RunState::Running);
        core.local.hosted_idle.set(false);
        // The first turn of a run asks the selector.
        core.turns_since_wait.set(u32::MAX);
        if core.hosted.get() {
            core.local.shared_ref().inject_queue().wake_up();
        }
        Self { core, running: Some(Running::enter(core.clone())) }
    }
}

impl Drop for Run<'_> {
    fn drop(&mut self) {
        let core = self.core;
        self.running = None;
        core.stopping.set(false);
        core.local.hosted_idle.set(core.hosted.get());
        let close = core.run_state.replace(RunState::Idle) == RunState::ClosingAfterwards;
        // Without a host nobody need be told of what comes between two runs: the next one looks for it.
        let hosted = core.hosted.get() && !core.is_inherited();
        if hosted && (core.local.shared_ref().inject_queue().leave() || core.has_work()) {
            core.local.wake_host();
        }
        if close {
            core.close();
        }
    }
}

impl Core {
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
        let local = &self.local;
        let (opened, closed) = self.reactor.borrow().counts();
        self.has_work()
            || opened > closed
            || local.timers.borrow_mut().next_deadline().is_some_and(|deadline| self.is_due(deadline, self.now()))
    }

    #[track_caller]
    pub(super) fn turn_or_panic(&self, root: Option<&mut dyn RootFuture>) {
        if let Err(error) = self.turn(None, root) {
            panic!("the event loop's selector failed: {error}");
        }
    }

    /// One turn, by the contract at the head of `event_loop`. Returns how many items ran.
    fn turn(&self, limit: Option<Duration>, mut root: Option<&mut dyn RootFuture>) -> io::Result<usize> {
        let local = &*self.local;
        self.counters.turns.set(self.counters.turns.get() + 1);
        // One from outside of a run, where nothing could unwind.
        if let Some(payload) = local.fatal.take() {
            resume_unwind(payload);
        }

        // 1. Cancelled timers are gone already: cancelling takes them out.
        let deadline = local.timers.borrow_mut().next_deadline();

        // 2. and 3.
        let ready = local.ready.len() > 0 || local.has_posts();
        let mut now = None;
        if let Some(timeout) = self.timeout(ready, deadline, limit, &mut now) {
            self.wait(timeout)?;
            let asked_at = match now {
                Some(now) if timeout == Some(Duration::ZERO) => now,
                _ => self.now(),
            };
            now = Some(asked_at);
            self.waited_at.set(asked_at);
            self.turns_since_wait.set(0);
        }

        // 4.
        if deadline.is_some() {
            let now = now.unwrap_or_else(|| self.now());
            local.queue_due(now.checked_add(self.resolution).unwrap_or(now));
        }

        // 5. No more than are there now, and no more than a turn may well take: a flood from another thread does not hold
        // it up, nor the next one twice as long.
        local.queue_posts(POSTS_PER_TURN);

        // 6.
        let batch = local.ready.len();
        for _ in 0..batch {
            local.ready.prefetch();
            let Some(item) = local.ready.pop() else { break };
            self.run_item(item, &mut root);
            if let Some(payload) = local.fatal.take() {
                resume_unwind(payload);
            }
            if local.is_inherited() {
                self.leave_to_parent();
            }
        }
        Ok(batch)
    }

    /// How long this turn waits, at most, when it asks the selector; `None` if it does not ask. Says what time it is if
    /// that had to be looked up.
    ///
    /// Where nothing is registered, a wait that does not sleep could find nothing, and is left out: then a turn that has
    /// work and no timers costs no system call and does not read the clock.
    fn timeout(
        &self,
        ready: bool,
        deadline: Option<Instant>,
        limit: Option<Duration>,
        now: &mut Option<Instant>,
    ) -> Option<Option<Duration>> {
        const AT_ONCE: Option<Option<Duration>> = Some(Some(Duration::ZERO));
        let stopping = self.stopping.get();
        let (bare, has_events) = {
            let reactor = self.reactor.borrow();
            (reactor.is_bare() && !self.hosted.get(), reactor.has_events())
        };
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

    /// Asks the selector and queues what it found.
    fn wait(&self, timeout: Option<Duration>) -> io::Result<()> {
        let local = &*self.local;
        let mut fired = self.fired.take();
        let result = if timeout == Some(Duration::ZERO) {
            self.ask(timeout, &mut fired)
        } else {
            self.sleep(timeout, &mut fired)
        };
        for fired in fired.drain(..) {
            match fired {
                Fired::Callback(callback) => local.ready.push(Item::Callback(callback)),
                Fired::Event(key, readiness) => local.ready.push(Item::Event { key, readiness: readiness.bits() }),
                // Queues the task at once: its place in the line is that of the event.
                Fired::Wake(waker) => local.wake(waker),
            }
        }
        self.fired.set(fired);
        result
    }

    fn ask(&self, timeout: Option<Duration>, fired: &mut Vec<LoopFired>) -> io::Result<()> {
        self.counters.waits.set(self.counters.waits.get() + 1);
        self.reactor.borrow_mut().wait(timeout, fired)
    }

    /// Asks the selector, and sleeps until it has something to say or is called.
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

    fn is_due(&self, deadline: Instant, now: Instant) -> bool {
        now.checked_add(self.resolution).is_none_or(|limit| deadline <= limit)
    }

    #[inline]
    fn run_item(&self, item: Item, root: &mut Option<&mut dyn RootFuture>) {
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
            None => {}
        }
    }

    /// Ends everything the loop has. See [`EventLoop::close`].
    ///
    /// Whatever runs destructors of the application's is guarded: one that panics is reported, and the rest still ends.
    fn close(&self) {
        let local = &*self.local;
        let inject = local.shared_ref().inject_queue();
        local.phase.set(Phase::Closing);

        // All tasks are told to end. Those that a thread is just waking are not in any queue yet: an empty queue proves
        // nothing, the number of live tasks does.
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
        local.part();
        if let Some(payload) = local.fatal.take() {
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

/// The shorter of two waits, where `None` is endless.
fn shorter(a: Option<Duration>, b: Option<Duration>) -> Option<Duration> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (a, b) => a.or(b),
    }
}
