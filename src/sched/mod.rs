//! What runs next: tasks, callbacks, timers, and the queues they wait in. No descriptor and no system call in here.
//!
//! A loop's state has two parts. [`Local`] is touched by the loop's thread only and needs no lock. [`Shared`] is what
//! wakers and other threads hold: the inject queue, and the way to `Local` for those on the right thread.

pub(crate) mod active;
pub(crate) mod alerts;
pub(crate) mod branch;
pub(crate) mod clock;
pub(crate) mod context;
pub(crate) mod counters;
#[cfg(feature = "test-util")]
pub(crate) mod dice;
pub(crate) mod future;
pub(crate) mod grace;
pub(crate) mod handle;
pub(crate) mod info;
pub(crate) mod inject;
pub(crate) mod join;
#[cfg(feature = "test-util")]
pub(crate) mod order;
pub(crate) mod ran;
pub(crate) mod ready;
pub(crate) mod report;
pub(crate) mod span;
pub(crate) mod stamp;
pub(crate) mod task;
pub(crate) mod timers;
pub(crate) mod unasked;
pub(crate) mod watch;

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, Location, catch_unwind};
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::task::Waker;
use std::time::Instant;

use crate::constants::{DUE_AT_ONCE, NESTED_REFUSALS, POSTS_PER_TURN};
use crate::error::{Fatal, PanicPayload, give_up_payload};
use crate::os::fork::Home;
use crate::sched::active::{Active, DoneCallback, Ending, Kind, TaskRef};
use crate::sched::alerts::Alerts;
use crate::sched::branch::Branches;
use crate::sched::clock::ClockSource;
use crate::sched::context::Slot;
use crate::sched::counters::Counters;
use crate::sched::handle::NewCallback;
use crate::sched::info::WokenBy;
use crate::sched::inject::{Inject, Wake};
use crate::sched::join::Outcome;
use crate::sched::ready::{Injected, Item, Ready, ReadyQueue, ThreadBound};
use crate::sched::report::{Exception, Problem, Report, Subject};
use crate::sched::task::Waiting;
use crate::sched::timers::{TimerKey, Timers};
use crate::sched::watch::{Cause, Inspection};

thread_local! {
    /// The loop that runs on this thread: its id, where its own part is, to be compared with, and whether it is inspected;
    /// zero and null where none does.
    static RUNNING: Cell<(u64, *const Local, bool)> = const { Cell::new((0, std::ptr::null(), false)) };
}

/// The id of the loop that runs on this thread, zero where none does.
#[inline]
pub(crate) fn running_loop_id() -> u64 {
    RUNNING.get().0
}

/// Whether the loop that runs on this thread is inspected.
#[inline]
pub(crate) fn is_running_inspected() -> bool {
    RUNNING.get().2
}

/// Whether a loop runs on this thread, and is another one than that of `local`.
#[inline]
pub(crate) fn runs_another_loop(local: *const Local) -> bool {
    let running = RUNNING.get().1;
    !running.is_null() && running != local
}

/// Marks a loop as the one that runs on this thread, or none.
pub(crate) fn set_running_loop(local: Option<&Local>) {
    RUNNING.set(local.map_or((0, std::ptr::null(), false), |local| (local.loop_id, local, local.inspection.is_on())));
}

/// Where a loop is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    Open,
    /// `close()` is at work: nothing new is taken, what is live is being ended.
    Closing,
    Closed,
}

/// What happens when a timer is due.
pub(crate) enum Due {
    Callback(Rc<dyn Ready>),
    /// A task of the loop, by its entry: no waker need be counted for it.
    Task(TaskRef),
    Waker(Waker),
    /// The end of the time that a task was given to end by itself.
    Cancel(TaskRef),
}

impl Due {
    /// What wakes as `waker` does.
    pub(crate) fn of(local: &Local, waker: &Waker) -> Self {
        local.task_of(waker).map_or_else(|| Self::Waker(waker.clone()), Self::Task)
    }

    /// Whether it wakes as `waker` does.
    pub(crate) fn wakes(&self, local: &Local, waker: &Waker) -> bool {
        match self {
            Self::Task(task) => local.task_of(waker) == Some(*task),
            Self::Waker(own) => own.will_wake(waker),
            Self::Callback(_) | Self::Cancel(_) => false,
        }
    }
}

/// The part of a loop that only its own thread touches.
pub(crate) struct Local {
    loop_id: u64,
    /// The process that the loop is of. The shared part has another one, which other threads do not keep from this cache.
    home: Home,
    shared: Arc<Shared>,
    clock: ClockSource,
    pub(crate) ready: ReadyQueue,
    /// What was posted by other threads and taken out of their queue.
    posted: RefCell<VecDeque<Injected>>,
    /// How many of them, from the first one, have an [`Item::Taken`] in the ready queue.
    marked: Cell<usize>,
    pub(crate) timers: RefCell<Timers<Due>>,
    pub(crate) active: RefCell<Active>,
    /// The task that is being polled.
    pub(crate) current: Cell<Option<TaskRef>>,
    /// What was being polled where a task began inside of something else, the innermost last; `None` for a callback.
    pub(crate) interrupted: RefCell<Vec<Option<TaskRef>>>,
    /// The context of the task that has just ended, to be dropped when nothing of the task is on the stack.
    pub(crate) left: Cell<Slot>,
    pub(crate) phase: Cell<Phase>,
    /// A [`Fatal`] payload on its way out of `run_*`.
    pub(crate) alerts: Alerts,
    /// Where panics and lost errors are reported.
    report: RefCell<Option<Weak<dyn Report>>>,
    pub(crate) counters: Arc<Counters>,
    callback_ids: Cell<u64>,
    /// Whether a push must wake the loop: it lives in a foreign loop and is outside of a turn.
    pub(crate) hosted_idle: Cell<bool>,
    /// How deep `refuse` is nested.
    refusals: Cell<u32>,
    /// I/O completions that are left to the task being polled; `None` outside of one.
    pub(crate) budget: Cell<Option<u32>>,
    /// The number of the poll that the current task is in: its first, its second and so on.
    pub(crate) poll: Cell<u64>,
    /// What the clock showed when it was last looked at for others: when the selector was asked, or a run began. In
    /// nanoseconds since the loop was made.
    pub(crate) looked_at: Cell<u64>,
    pub(crate) branches: RefCell<Branches>,
    pub(crate) inspection: Inspection,
}

impl Local {
    /// A loop's two parts. `wake` ends its sleep, from any thread.
    pub(crate) fn new(clock: ClockSource, wake: Box<dyn Fn() + Send + Sync>) -> Rc<Self> {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let loop_id = NEXT.fetch_add(1, Ordering::Relaxed);
        let local = ThreadBound::empty();
        let counters = Arc::new(Counters::new(&clock));
        let (home, inject, stamps) = (Home::here(), Inject::new(), AtomicUsize::new(0));
        let shared = Shared { id: loop_id, home, local, inject, stamps, wake, counters: counters.clone() };
        let shared = Arc::new(shared);
        let local = Rc::new(Self {
            loop_id,
            home: Home::here(),
            shared,
            clock,
            ready: ReadyQueue::new(),
            posted: RefCell::new(VecDeque::new()),
            marked: Cell::new(0),
            timers: RefCell::new(Timers::new()),
            active: RefCell::new(Active::new()),
            current: Cell::new(None),
            interrupted: RefCell::new(Vec::new()),
            left: Cell::new(Slot::EMPTY),
            phase: Cell::new(Phase::Open),
            alerts: Alerts::default(),
            report: RefCell::new(None),
            counters,
            callback_ids: Cell::new(1),
            hosted_idle: Cell::new(false),
            refusals: Cell::new(0),
            budget: Cell::new(None),
            poll: Cell::new(0),
            looked_at: Cell::new(0),
            branches: RefCell::default(),
            inspection: Inspection::default(),
        });
        local.active.borrow_mut().belong_to(&local);
        local.shared.local.fill(local.clone());
        local
    }

    /// Breaks the tie between the two parts, at the end of the loop.
    pub(crate) fn part(&self) {
        self.shared_ref().local.clear();
    }

    pub(crate) fn loop_id(&self) -> u64 {
        self.loop_id
    }

    pub(crate) fn shared(&self) -> Arc<Shared> {
        self.shared_ref().clone()
    }

    pub(crate) fn shared_ref(&self) -> &Arc<Shared> {
        &self.shared
    }

    pub(crate) fn set_report(&self, report: Weak<dyn Report>) {
        *self.report.borrow_mut() = Some(report);
    }

    /// Whether new work is taken. In a child of `fork` a loop of its parent takes none.
    #[inline]
    pub(crate) fn is_open(&self) -> bool {
        self.phase.get() == Phase::Open && !self.is_inherited()
    }

    /// Whether the loop belongs to a process that has forked this one.
    #[inline]
    pub(crate) fn is_inherited(&self) -> bool {
        !self.home.is_here()
    }

    /// In a child of `fork`: the loop is this process's from now on. False if that cannot be, because another thread of the
    /// parent's was just posting something: it will never come to an end with that.
    pub(crate) fn after_fork_child(&self) -> bool {
        let is_free = self.shared.inject.is_free();
        if is_free {
            self.home.move_here();
            self.shared.home.move_here();
        }
        is_free
    }

    /// Puts an item at the tail of the ready queue.
    pub(crate) fn push(&self, item: Item) {
        self.push_with(|| item);
    }

    /// As `push`, of an item that is made where it is to be.
    #[inline(always)]
    pub(crate) fn push_with(&self, make: impl FnOnce() -> Item) {
        if self.phase.get() == Phase::Closed {
            return self.discard(make());
        }
        self.ready.push_with(make);
        self.nudge();
    }

    /// Whether other threads have posted something that is not queued yet.
    #[inline]
    pub(crate) fn has_posts(&self) -> bool {
        self.shared.inject.has_items() || self.posted.borrow().len() > self.marked.get()
    }

    /// Queues what other threads have posted, so much at most.
    #[inline(always)]
    pub(crate) fn queue_posts(&self, most: usize) {
        if self.has_posts() {
            self.queue_some_posts(most);
        }
    }

    /// How much that other threads have posted is queued.
    pub(crate) fn queued_posts(&self) -> usize {
        self.marked.get()
    }

    /// How many posts of other threads are not queued yet.
    pub(crate) fn waiting_posts(&self) -> u64 {
        (self.posted.borrow().len() - self.marked.get() + self.shared.inject.len()) as u64
    }

    #[inline(never)]
    fn queue_some_posts(&self, most: usize) {
        let mut posted = self.posted.borrow_mut();
        let marked = self.marked.get();
        if posted.len() - marked < most && self.shared.inject.has_items() {
            if posted.is_empty() {
                if posted.capacity() > 4 * POSTS_PER_TURN {
                    // A burst that is over.
                    *posted = VecDeque::new();
                }
                self.shared.inject.take(&mut posted);
            } else {
                let mut more = VecDeque::new();
                self.shared.inject.take(&mut more);
                posted.append(&mut more);
            }
        }
        let n = (posted.len() - marked).min(most);
        for _ in 0..n {
            self.ready.push_with(|| Item::Taken);
        }
        self.marked.set(marked + n);
        self.counters.posts.add(n as u64);
    }

    /// What the next [`Item::Taken`] stands for.
    pub(crate) fn next_taken(&self) -> Option<Injected> {
        self.marked.set(self.marked.get().saturating_sub(1));
        self.posted.borrow_mut().pop_front()
    }

    /// Looks at what the next [`Item::Taken`] stands for; `look` runs no code of the application's.
    pub(crate) fn with_next_taken<R>(&self, look: impl FnOnce(&Injected) -> Option<R>) -> Option<R> {
        self.posted.borrow().front().and_then(look)
    }

    /// Takes out the next item that is to be ended, for a loop that is being closed.
    pub(crate) fn next_to_end(&self) -> Option<Item> {
        match self.ready.pop() {
            Some(Item::Taken) => self.next_taken().map(Item::from),
            Some(item) => Some(item),
            None => {
                let mut posted = self.posted.borrow_mut();
                if posted.is_empty() && (!self.is_inherited() || self.shared.inject.is_free()) {
                    self.shared.inject.take(&mut posted);
                }
                posted.pop_front().map(Item::from)
            }
        }
    }

    /// There is something to do, whereof the host has to hear if there is one.
    #[inline]
    pub(crate) fn nudge(&self) {
        if self.hosted_idle.get() {
            self.wake_host();
        }
    }

    /// Tells the host. What tells it may be the application's, and must not unwind into whoever has scheduled something,
    /// nor out of a run that ends.
    #[cold]
    pub(crate) fn wake_host(&self) {
        if let Err(payload) = catch_unwind(AssertUnwindSafe(|| self.shared_ref().wake_if_asleep())) {
            self.caught("Exception in the wake hook", payload, None, None);
        }
    }

    /// Arms a timer that queues a callback.
    pub(crate) fn arm_callback(&self, when: Instant, callback: Rc<dyn Ready>) -> TimerKey {
        self.arm(when, Due::Callback(callback))
    }

    /// Arms a timer.
    #[inline]
    pub(crate) fn arm(&self, when: Instant, due: Due) -> TimerKey {
        let key = self.timers.borrow_mut().insert(when, due);
        // The host has computed its own wait from a deadline that may be later.
        self.nudge();
        key
    }

    /// The task that is being polled, if the waker is its own and no combinator's.
    #[inline]
    fn task_of(&self, waker: &Waker) -> Option<TaskRef> {
        let task = self.current.get()?;
        let active = self.active.borrow();
        let parts = active.get_live(task)?.wake.get()?;
        (parts.data == waker.data() && std::ptr::eq(parts.vtable, waker.vtable())).then_some(task)
    }

    /// Queues what is due, in order. In a turn only: otherwise a host would be called in the middle of it.
    #[inline]
    pub(crate) fn queue_due(&self, limit: Instant) -> bool {
        let is_due = self.timers.borrow_mut().has_due(limit);
        if is_due {
            self.queue_all_due(|places| self.take_due(limit, places));
        }
        is_due
    }

    /// As `queue_due`; each is shown with its deadline before. `seen` runs no code of the application's.
    pub(crate) fn queue_due_seen(&self, limit: Instant, mut seen: impl FnMut(Instant, &Due)) {
        self.queue_all_due(|places| {
            let mut timers = self.timers.borrow_mut();
            let Some((when, due)) = timers.next_deadline().zip(timers.pop_due(limit)) else { return 0 };
            seen(when, &due);
            places[0] = Some(due);
            1
        });
    }

    /// Queues what `take` puts into the places that it is given, until it has nothing more. It says how much it is.
    fn queue_all_due(&self, mut take: impl FnMut(&mut [Option<Due>]) -> usize) {
        self.inspection.cause.set(Cause::Timer);
        loop {
            let mut due = [const { None }; DUE_AT_ONCE];
            let n = take(&mut due);
            if n == 0 {
                return;
            }
            self.counters.timers_fired.add(n as u64);
            let mut waiting = [const { None }; DUE_AT_ONCE];
            {
                let active = self.active.borrow();
                for (due, waiting) in due[..n].iter().zip(&mut waiting) {
                    if let Some(Due::Task(task)) = due {
                        *waiting = active.get_live(*task).and_then(Waiting::find);
                        if self.inspection.is_on() {
                            active.get_live(*task).into_iter().for_each(|entry| entry.note_woken(WokenBy::Timer));
                        }
                    }
                }
            }
            for (due, waiting) in due.into_iter().take(n).zip(waiting) {
                match due {
                    Some(Due::Callback(callback)) => self.ready.push(Item::Callback(callback)),
                    Some(Due::Task(_)) => waiting.into_iter().for_each(Waiting::wake),
                    Some(Due::Waker(waker)) => self.wake(waker),
                    Some(Due::Cancel(task)) => {
                        self.cancel(task);
                    }
                    None => {}
                }
            }
        }
    }

    /// Takes out what is due, as much as there are places for, and no more behind the first whose waker may run code of
    /// the application's: that may disarm another. Says how much.
    fn take_due(&self, limit: Instant, places: &mut [Option<Due>]) -> usize {
        let mut timers = self.timers.borrow_mut();
        for (n, place) in places.iter_mut().enumerate() {
            *place = timers.pop_due(limit);
            match place {
                Some(Due::Waker(_)) => return n + 1,
                Some(_) => {}
                None => return n,
            }
        }
        places.len()
    }

    /// Disarms a timer. The payload is returned so that it is dropped with nothing borrowed.
    #[inline]
    pub(crate) fn disarm(&self, key: TimerKey) -> Option<Due> {
        self.timers.borrow_mut().remove(key)
    }

    pub(crate) fn next_callback_id(&self) -> u64 {
        let id = self.callback_ids.get();
        self.callback_ids.set(id + 1);
        id
    }

    /// Asks a task to end: true if it was live.
    pub(crate) fn cancel(&self, task: TaskRef) -> bool {
        self.end_task(task, Ending::Cancelled)
    }

    /// Marks a task for its end and schedules it.
    pub(crate) fn end_task(&self, task: TaskRef, ending: Ending) -> bool {
        let waker = {
            let active = self.active.borrow();
            let Some(entry) = active.get_live(task).filter(|entry| entry.kind() != Kind::Root) else {
                return false;
            };
            if !entry.ending.get().is_asked() {
                entry.ending.set(ending);
                entry.note_cancelled();
            }
            task::waker(entry)
        };
        // One that was never polled is in the queue.
        if let Some(waker) = waker {
            waker.wake();
        }
        true
    }

    /// Queues a task's done callback.
    pub(crate) fn schedule_done(&self, callback: DoneCallback, outcome: Outcome) {
        // Nobody is left to call when the loop itself ends.
        let Some(local) = self.shared_ref().local().filter(|local| local.is_open()) else {
            return self.dispose(callback);
        };
        let DoneCallback { context, created_at, name, call, .. } = callback;
        let new = NewCallback { method: "call_soon", name, context, created_at, when: None };
        drop(handle::schedule(&local, new, move || call(outcome)));
    }

    /// Tells the exception handler; where the loop is gone, whoever reads the log.
    pub(crate) fn report(&self, problem: Problem<'_>) {
        let report = self.report.borrow().as_ref().and_then(Weak::upgrade);
        match report {
            Some(report) => report.report(problem),
            None => report::emit(tracing::Level::ERROR, &problem.to_string()),
        }
    }

    pub(crate) fn report_panic(
        &self,
        message: &str,
        payload: &(dyn Any + Send),
        subject: Option<Rc<dyn Subject>>,
        created_at: Option<&'static Location<'static>>,
    ) {
        let exception = Some(Exception::Panic(payload));
        self.report(Problem { message: message.into(), exception, subject, created_at });
    }

    /// Tells that something was asked of a closed loop.
    pub(crate) fn report_closed(&self, method: &str, created_at: &'static Location<'static>) {
        self.report_closed_by(&format!("EventLoop::{method}"), created_at);
    }

    /// As `report_closed`, for a method of something that belongs to the loop.
    pub(crate) fn report_closed_by(&self, method: &str, created_at: &'static Location<'static>) {
        self.report(Problem {
            message: format!("{method}(): event loop is closed").into(),
            exception: Some(Exception::Error(&crate::error::LoopClosed)),
            subject: None,
            created_at: Some(created_at),
        });
    }

    /// Keeps a [`Fatal`] payload for the end of the step; gives any other back, to be reported.
    ///
    /// So is a second fatal one, for only one can unwind, and one that comes when the loop will not run any more.
    pub(crate) fn take_fatal(&self, payload: PanicPayload) -> Option<PanicPayload> {
        if !payload.is::<Fatal>() || self.phase.get() == Phase::Closed {
            return Some(payload);
        }
        self.alerts.set_fatal(payload)
    }

    /// Calls what may drop values of the application's, where a panic of a destructor must not go any further: it is
    /// reported.
    pub(crate) fn guarded(&self, f: impl FnOnce()) {
        if let Err(payload) = catch_unwind(AssertUnwindSafe(f)) {
            self.caught("Exception in a destructor", payload, None, None);
        }
    }

    /// Wakes one of those who wait. A waker may be the application's own, and panic: the others are woken all the same.
    pub(crate) fn wake(&self, waker: Waker) {
        if let Err(payload) = catch_unwind(AssertUnwindSafe(|| waker.wake())) {
            self.caught("Exception in a waker", payload, None, None);
        }
    }

    /// Drops a value of the application's; see `guarded`.
    #[inline]
    pub(crate) fn dispose<T>(&self, value: T) {
        if std::mem::needs_drop::<T>() {
            self.guarded(|| drop(value));
        }
    }

    /// Ends what a closed loop was asked to run. Its destructor may ask again, and so may that one's: where there is no
    /// end to it, it is leaked.
    pub(crate) fn refuse<T>(&self, value: T, end: impl FnOnce(T)) {
        struct Depth<'a>(&'a Cell<u32>);
        impl Drop for Depth<'_> {
            fn drop(&mut self) {
                self.0.set(self.0.get() - 1);
            }
        }

        if self.refusals.get() >= NESTED_REFUSALS {
            std::mem::forget(value);
            let message =
                "a destructor schedules on the closed event loop without end: what it scheduled last is leaked";
            return self.report(Problem { message: message.into(), exception: None, subject: None, created_at: None });
        }
        self.refusals.set(self.refusals.get() + 1);
        let _depth = Depth(&self.refusals);
        end(value);
    }

    /// Ends an item that no turn will run.
    #[cold]
    pub(crate) fn discard(&self, item: Item) {
        self.guarded(|| match item {
            Item::Callback(callback) => callback.close(),
            Item::Job(job) => job.close(self),
            Item::Posted(posting) => drop(posting),
            Item::Taken => drop(self.next_taken()),
            // A live task does not get here: `close()` has ended them all before anything is discarded.
            Item::Task(runnable) => drop(runnable),
            Item::Event { .. } | Item::Root(_) => {}
        });
    }

    /// Deals with a panic that nobody else will hear of.
    pub(crate) fn caught(
        &self,
        message: &str,
        payload: PanicPayload,
        subject: Option<Rc<dyn Subject>>,
        created_at: Option<&'static Location<'static>>,
    ) {
        if let Some(payload) = self.take_fatal(payload) {
            self.report_panic(message, &*payload, subject, created_at);
            self.drop_payload(payload);
        }
    }

    /// Drops the payload of a panic that was reported. If it panics itself, that is reported, too, and its own payload
    /// is given up: there is no end to it otherwise.
    fn drop_payload(&self, payload: PanicPayload) {
        if let Err(second) = catch_unwind(AssertUnwindSafe(|| drop(payload))) {
            if let Some(second) = self.take_fatal(second) {
                self.report_panic("Exception in the destructor of a panic's payload", &*second, None, None);
                give_up_payload(second);
            }
        }
    }
}

/// The part of a loop that every thread may hold.
pub(crate) struct Shared {
    id: u64,
    /// The process that the loop is of. A child must wait for no lock of its parent's, which a thread may hold that it does
    /// not have.
    home: Home,
    local: ThreadBound<Local>,
    inject: Inject<Injected>,
    /// How many want to know when and by which thread something was posted.
    stamps: AtomicUsize,
    /// Ends the loop's sleep.
    wake: Box<dyn Fn() + Send + Sync>,
    counters: Arc<Counters>,
}

impl Shared {
    pub(crate) fn id(&self) -> u64 {
        self.id
    }

    /// The token of the loop's thread.
    pub(crate) fn thread(&self) -> u64 {
        self.local.owner()
    }

    /// The loop's own part: on its thread, until it is closed for good.
    #[inline]
    pub(crate) fn local(&self) -> Option<Rc<Local>> {
        self.local.get()
    }

    pub(crate) fn counters(&self) -> &Counters {
        &self.counters
    }

    pub(crate) fn inject_queue(&self) -> &Inject<Injected> {
        &self.inject
    }

    /// Posts from another thread and wakes the loop if it sleeps. A closed loop gives the item back.
    pub(crate) fn inject(&self, item: Injected) -> Result<(), Injected> {
        if !self.home.is_here() {
            return Err(item);
        }
        let item = if self.stamps.load(Ordering::Relaxed) == 0 { item } else { item.stamped() };
        if self.inject.push(item).map_err(Injected::unstamped)? == Wake::Needed {
            (self.wake)();
        }
        Ok(())
    }

    /// From now on, or no more, somebody wants to know when and by which thread something was posted.
    pub(crate) fn stamp(&self, stamps: bool) {
        if stamps {
            self.stamps.fetch_add(1, Ordering::Relaxed);
        } else {
            self.stamps.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// Posts from any thread: at the tail of the local queue on the loop's own.
    pub(crate) fn post(&self, item: Injected) -> Result<(), Injected> {
        match self.local() {
            Some(local) if local.is_open() => {
                local.push(item.into());
                Ok(())
            }
            Some(_) => Err(item),
            None => self.inject(item),
        }
    }

    /// Whether `post` refuses everything.
    pub(crate) fn is_closed(&self) -> bool {
        match self.local() {
            Some(local) => !local.is_open(),
            None => !self.home.is_here() || self.inject.is_closed(),
        }
    }

    pub(crate) fn wake_if_asleep(&self) {
        if self.claim_wake() == Wake::Needed {
            (self.wake)();
        }
    }

    /// As that of the queue. The loop of a process that has forked this one is not called.
    pub(crate) fn claim_wake(&self) -> Wake {
        if self.home.is_here() { self.inject.claim_wake() } else { Wake::NotNeeded }
    }

    /// Whether the loop belongs to a process that has forked this one.
    pub(crate) fn is_inherited(&self) -> bool {
        !self.home.is_here()
    }
}
