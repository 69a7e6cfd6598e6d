//! The turn of the loop, and the ways to run it and to end it.

use std::future::Future;
use std::io;
use std::panic::{AssertUnwindSafe, Location, catch_unwind, resume_unwind};
use std::pin::pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};

use crate::constants::{CLOSING_WAIT, MAX_WAIT, POSTS_PER_TURN};
use crate::error::{Fatal, Stopped};
use crate::event_loop::running::{self, Running};
use crate::event_loop::source::FULL_BUDGET;
use crate::event_loop::{Core, EventLoop, RunState};
use crate::reactor::slot::Listener;
use crate::reactor::{Fired, Readiness};
use crate::sched::active::{Ending, Entry, Kind, TaskId, TaskRef};
use crate::sched::context::{self, Slot};
use crate::sched::ready::{Injected, Item};
use crate::sched::{Due, Phase, Shared, task};

impl EventLoop {
    /// Runs the loop until [`stop`](Self::stop) is called.
    ///
    /// If `stop` was called before, one turn is made: what is ready and due runs once.
    ///
    /// # Panics
    ///
    /// If the loop is closed or running, if another loop runs on this thread, if its selector fails, or with the payload
    /// of a [`Fatal`](crate::Fatal) panic of a callback.
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
struct Run<'a> {
    core: &'a Rc<Core>,
    running: Option<Running>,
}

impl<'a> Run<'a> {
    #[track_caller]
    fn enter(core: &'a Rc<Core>, method: &str) -> Self {
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
        let waiting = core.local.shared_ref().inject_queue().leave();
        if core.hosted.get() && (waiting || core.has_own_work()) {
            core.local.shared_ref().wake_if_asleep();
        }
        if close {
            core.close();
        }
    }
}

/// The future of `run_until_complete`, which is polled in place and not known by its type here.
trait RootFuture {
    /// Polls it if the id is its own.
    fn poll(&mut self, core: &Core, id: u64);
}

/// Wakes the root. Wakers of an earlier root carry another id and wake nobody.
struct RootWaker {
    shared: Arc<Shared>,
    id: u64,
    /// Whether it is in the queue already.
    queued: AtomicBool,
}

impl Wake for RootWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if !self.queued.swap(true, Ordering::AcqRel) {
            // A loop that is closed or closing has no root any more.
            let _ = self.shared.post(Injected::Root(self.id));
        }
    }
}

struct Root<'a, P: FnMut(Option<&mut Context<'_>>) -> Poll<()>> {
    poll: P,
    core: &'a Core,
    task: TaskRef,
    waker: Waker,
    handle: Arc<RootWaker>,
    done: bool,
}

impl<'a, P: FnMut(Option<&mut Context<'_>>) -> Poll<()>> Root<'a, P> {
    /// `poll` polls the future, or drops it where it is given no context.
    fn new(core: &'a Core, how: RunRoot, poll: P) -> Self {
        let local = &core.local;
        let id = TaskId::next();
        let handle = Arc::new(RootWaker { shared: local.shared(), id: id.as_u64(), queued: AtomicBool::new(false) });
        let waker: Waker = handle.clone().into();
        let mut entry = Entry::new(id, how.context, None, how.spawned_at);
        entry.kind = how.kind;
        if how.kind == Kind::Main {
            entry.waker = Some(waker.clone());
        }
        let task = local.active.borrow_mut().insert(entry);
        Self { poll, core, task, waker, handle, done: false }
    }
}

impl<P: FnMut(Option<&mut Context<'_>>) -> Poll<()>> RootFuture for Root<'_, P> {
    fn poll(&mut self, core: &Core, id: u64) {
        if id != self.handle.id || self.done {
            return;
        }
        self.handle.queued.store(false, Ordering::Release);
        let local = &core.local;
        let (slot, cancelled) = match local.active.borrow_mut().get_mut(self.task) {
            Some(entry) => {
                entry.polls += 1;
                (std::mem::replace(&mut entry.context, Slot::EMPTY), entry.ending != Ending::No)
            }
            None => (Slot::EMPTY, false),
        };
        let _current = CurrentRoot { core, outer: local.current.replace(Some(self.task)) };
        let mut cx = Context::from_waker(&self.waker);
        let (polled, slot) = context::enter(slot, || (self.poll)((!cancelled).then_some(&mut cx)));
        self.done = polled.is_ready();
        if let Some(entry) = local.active.borrow_mut().get_mut(self.task) {
            entry.context = slot;
        }
    }
}

impl<P: FnMut(Option<&mut Context<'_>>) -> Poll<()>> Drop for Root<'_, P> {
    fn drop(&mut self) {
        let entry = self.core.local.active.borrow_mut().remove(self.task);
        if let (Some(entry), false) = (entry, self.done) {
            // Its destructors run in its context, as a task's do.
            let (_, left) = context::enter(entry.context, || (self.poll)(None));
            drop(left);
        }
    }
}

/// Brings the current task back, also when the root panics.
struct CurrentRoot<'a> {
    core: &'a Core,
    outer: Option<TaskRef>,
}

impl Drop for CurrentRoot<'_> {
    fn drop(&mut self) {
        self.core.local.current.set(self.outer);
        self.core.local.budget.set(None);
    }
}

/// How a root is run.
pub(crate) struct RunRoot {
    /// What was called, for the panics.
    pub(crate) method: &'static str,
    pub(crate) kind: Kind,
    pub(crate) context: Slot,
    /// Where it was called.
    pub(crate) spawned_at: &'static Location<'static>,
}

impl RunRoot {
    /// A future that cannot be cancelled, in a copy of the current context.
    #[track_caller]
    pub(crate) fn plain(method: &'static str) -> Self {
        Self { method, kind: Kind::Root, context: context::fork_current(), spawned_at: Location::caller() }
    }
}

/// Why a root gave no output.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RootEnd {
    Stopped,
    Cancelled,
}

impl Core {
    /// Runs until the future, which is polled in place, is done.
    #[track_caller]
    pub(crate) fn run_root<F: Future>(self: &Rc<Self>, how: RunRoot, future: F) -> Result<F::Output, RootEnd> {
        let _run = Run::enter(self, how.method);
        let mut future = pin!(Some(future));
        let mut output = None;
        let mut root = Root::new(self, how, |cx: Option<&mut Context<'_>>| {
            let polled = match (cx, future.as_mut().as_pin_mut()) {
                (Some(cx), Some(pinned)) => catch_unwind(AssertUnwindSafe(|| pinned.poll(cx))),
                // Cancelled.
                _ => {
                    future.set(None);
                    return Poll::Ready(());
                }
            };
            let ended = match polled {
                Ok(Poll::Pending) => return Poll::Pending,
                Ok(Poll::Ready(value)) => Ok(value),
                Err(payload) if payload.is::<Fatal>() => resume_unwind(payload),
                Err(payload) => Err(payload),
            };
            // What it holds is released before its end is seen, as a task's is.
            let released = catch_unwind(AssertUnwindSafe(|| future.set(None)));
            output = Some(match (ended, released) {
                (ended, Ok(())) => ended,
                (Ok(_), Err(payload)) => Err(payload),
                (Err(payload), Err(second)) => {
                    // Only one can unwind.
                    self.local.caught("Exception in the destructor of the root future", second, None, None);
                    Err(payload)
                }
            });
            Poll::Ready(())
        });
        root.waker.wake_by_ref();
        loop {
            self.turn_or_panic(Some(&mut root));
            if self.stopping.get() {
                break;
            }
            if root.done {
                if !self.has_more() {
                    break;
                }
                // As asyncio's own done callback: what is scheduled, due or ready by now still runs.
                self.stopping.set(true);
            }
        }
        let end = if root.done { RootEnd::Cancelled } else { RootEnd::Stopped };
        drop(root);
        match output {
            Some(Ok(value)) => Ok(value),
            Some(Err(payload)) => resume_unwind(payload),
            None => Err(end),
        }
    }

    /// Whether anything is ready.
    pub(crate) fn has_work(&self) -> bool {
        self.has_own_work() || self.local.shared_ref().inject_queue().len() > 0
    }

    /// The same without what other threads have posted.
    fn has_own_work(&self) -> bool {
        self.local.ready.len() > 0 || self.reactor.borrow().has_events()
    }

    /// Whether another turn that does not wait might find something to do.
    fn has_more(&self) -> bool {
        let local = &self.local;
        let (opened, closed) = self.reactor.borrow().counts();
        self.has_work()
            || opened > closed
            || local.timers.borrow().next_deadline().is_some_and(|deadline| self.is_due(deadline, self.now()))
    }

    #[track_caller]
    fn turn_or_panic(&self, root: Option<&mut dyn RootFuture>) {
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
        let deadline = local.timers.borrow().next_deadline();

        // 2. and 3.
        let ready = local.ready.len() > 0;
        let stopping = self.stopping.get();
        let mut now = self.now();
        let turns = self.turns_since_wait.get().saturating_add(1);
        let wait = !ready
            || stopping
            || turns >= self.event_interval
            || deadline.is_some_and(|deadline| self.is_due(deadline, now))
            || now.saturating_duration_since(self.waited_at.get()) >= self.event_period;
        self.turns_since_wait.set(turns);
        if wait {
            let timeout = if ready || stopping || self.reactor.borrow().has_events() {
                Some(Duration::ZERO)
            } else {
                let sleep = deadline.and_then(|deadline| self.sleep_until(deadline)).map(|sleep| sleep.min(MAX_WAIT));
                shorter(sleep, limit)
            };
            self.wait(timeout)?;
            if timeout != Some(Duration::ZERO) {
                now = self.now();
            }
            self.waited_at.set(now);
            self.turns_since_wait.set(0);
        }

        // 4.
        if deadline.is_some() {
            self.queue_due(now);
        }

        // 5. No more than are there now, and no more than a turn may well take: a flood from another thread does not hold
        // it up, nor the next one twice as long.
        let inject = local.shared_ref().inject_queue();
        for _ in 0..inject.len().min(POSTS_PER_TURN) {
            let Some(posted) = inject.pop() else { break };
            local.ready.push(posted.into());
        }

        // 6.
        let batch = local.ready.len();
        for _ in 0..batch {
            let Some(item) = local.ready.pop() else { break };
            self.run_item(item, &mut root);
            if let Some(payload) = local.fatal.take() {
                resume_unwind(payload);
            }
        }
        Ok(batch)
    }

    /// Asks the selector and queues what it found.
    fn wait(&self, timeout: Option<Duration>) -> io::Result<()> {
        let local = &*self.local;
        let inject = local.shared_ref().inject_queue();
        let sleeps = timeout != Some(Duration::ZERO);
        let timeout = if sleeps && !inject.prepare_sleep() { Some(Duration::ZERO) } else { timeout };
        self.counters.waits.set(self.counters.waits.get() + 1);
        let mut fired = self.fired.take();
        let result = self.reactor.borrow_mut().wait(timeout, &mut fired);
        inject.wake_up();
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

    fn is_due(&self, deadline: Instant, now: Instant) -> bool {
        now.checked_add(self.resolution).is_none_or(|limit| deadline <= limit)
    }

    /// Queues the timers that are due.
    fn queue_due(&self, now: Instant) {
        let limit = now.checked_add(self.resolution).unwrap_or(now);
        loop {
            let due = self.local.timers.borrow_mut().pop_due(limit);
            match due {
                Some(Due::Callback(callback)) => self.local.ready.push(Item::Callback(callback)),
                Some(Due::Waker(waker)) => self.local.wake(waker),
                None => return,
            }
        }
    }

    fn run_item(&self, item: Item, root: &mut Option<&mut dyn RootFuture>) {
        let local = &*self.local;
        match item {
            Item::Task(runnable) => {
                local.budget.set(Some(FULL_BUDGET));
                task::step(local, runnable);
                local.budget.set(None);
            }
            Item::Callback(callback) => callback.run(),
            Item::Event { key, readiness } => {
                let handler = match self.reactor.borrow().get(key).map(|slot| &slot.listener) {
                    Some(Listener::Handler(handler)) => handler.clone(),
                    // Deregistered since the event was queued.
                    _ => return,
                };
                handler.on_ready(Readiness::from_bits(readiness));
            }
            Item::Root(id) => {
                if let Some(root) = root {
                    local.budget.set(Some(FULL_BUDGET));
                    root.poll(self, id);
                    local.budget.set(None);
                }
            }
            Item::Job(job) => job.run(),
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
        let tasks: Vec<TaskRef> = local.active.borrow().iter().map(|(task, _)| task).collect();
        for task in tasks {
            local.end_task(task, Ending::Closed);
        }
        while local.active.borrow().len() > 0 {
            // One by one: threads that never stop posting must not hold this up once the last task is gone.
            if self.end_next() {
                continue;
            }
            if inject.prepare_sleep() {
                let mut fired = Vec::new();
                let _ = self.reactor.borrow_mut().wait(Some(CLOSING_WAIT), &mut fired);
                drop(fired);
            }
            inject.wake_up();
        }

        // No future is left, so no waker can schedule: now the way in is shut, and what was posted is refused.
        inject.close();
        self.drain();
        let timers = local.timers.borrow_mut().clear();
        for due in timers {
            match due {
                Due::Callback(callback) => local.discard(Item::Callback(callback)),
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
                    local.dispose(watch.reader);
                    local.dispose(watch.writer);
                }
            });
        }
        local.dispose(selector);
        local.guarded(|| self.wake.close());
        drop(self.clock_wake.take());

        // Destructors that ran above may have left something behind.
        self.drain();
        local.phase.set(Phase::Closed);
        self.drain();
        local.dispose(self.task_factory.take());
        local.ready.shrink();
        local.active.borrow_mut().shrink();
        drop(self.receive_buffer.take());
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
        let posted = || local.shared_ref().inject_queue().pop().map(Item::from);
        match local.ready.pop().or_else(posted) {
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
