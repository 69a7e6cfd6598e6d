//! Who looks at the loop at work: debug mode's reports, the timeline.
//!
//! While nobody does, an item costs one look at a flag. While somebody does, the clock is read before and after each.

use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::time::{Duration, Instant};

use crate::event_loop::Core;
use crate::event_loop::root::RootFuture;
use crate::reactor::slot::Listener;
use crate::sched::Due;
use crate::sched::ran::Ran;
use crate::sched::ready::{Injected, Item};
use crate::sched::stamp::Stamp;
use crate::sched::task::{self, Runnable};
use crate::sched::watch::Cause;

/// What sees the loop at work. All times are those of the loop's clock. A panic is reported and goes no further.
#[allow(unused_variables)]
pub(crate) trait Observer {
    /// Something ran. Tasks that began inside of it, at once, belong to it.
    fn item(&self, core: &Core, ran: &Ran, began: Instant, ended: Instant) {}

    /// A task ran that began inside of something else, at once.
    fn nested(&self, core: &Core, ran: &Ran, began: Instant, ended: Instant) {}

    /// What ran was posted, or woken, by another thread, as the stamp says. Before `item`.
    fn posted(&self, core: &Core, stamp: &Stamp, ran: &Ran, began: Instant) {}

    /// Something was reported to the exception handler.
    fn reported(&self, core: &Core, message: &str) {}

    /// The selector was asked.
    fn waited(&self, core: &Core, wait: &Waited) {}

    /// A timer is due, and what it wakes is queued. Before the items of the turn.
    fn timer(&self, core: &Core, timer: &Timer) {}

    /// A turn is over, unless it was left by a panic.
    fn turn(&self, core: &Core, turn: &Turn) {}
}

/// One question to the selector.
pub(crate) struct Waited {
    pub(crate) asked_at: Instant,
    pub(crate) until: Instant,
    /// What it was to wait at most; `None` if without end.
    pub(crate) timeout: Option<Duration>,
    /// How many descriptors had something to say.
    pub(crate) events: usize,
}

/// A timer that is due.
pub(crate) struct Timer {
    /// What it is for: a callback, or a task, if that is known.
    pub(crate) what: Option<Ran>,
    /// Its deadline.
    pub(crate) when: Instant,
    /// When it was found to be due.
    pub(crate) found_at: Instant,
}

impl Timer {
    /// How late it is.
    pub(crate) fn late(&self) -> Duration {
        self.found_at.saturating_duration_since(self.when)
    }
}

/// One turn, without the wait.
pub(crate) struct Turn {
    /// Its number, from one on.
    pub(crate) number: u64,
    pub(crate) began: Instant,
    pub(crate) ended: Instant,
    /// How many items ran.
    pub(crate) items: usize,
    /// How many of them were posted by other threads.
    pub(crate) posts: usize,
    /// How many timers were due.
    pub(crate) timers: usize,
    /// How late the latest of them was.
    pub(crate) latest: Duration,
}

/// The observers of a loop.
#[derive(Default)]
pub(crate) struct Observers {
    /// Counted, so that showing something to all of them asks for no memory.
    list: RefCell<Rc<Vec<Rc<dyn Observer>>>>,
    /// What runs just now, while somebody looks. Borrowed by whoever prints it, and replaced between two items only.
    running: RefCell<Option<Ran>>,
}

/// Something runs, while somebody looks.
struct Running<'a> {
    core: &'a Core,
}

impl<'a> Running<'a> {
    fn begin(core: &'a Core, ran: Ran) -> Self {
        core.local.dispose(core.observers.running.replace(Some(ran)));
        Self { core }
    }

    fn end(self) -> Option<Ran> {
        self.core.observers.running.take()
    }
}

impl Drop for Running<'_> {
    /// Also where a fatal panic of the root unwinds.
    fn drop(&mut self) {
        if let Some(ran) = self.core.observers.running.take() {
            self.core.local.dispose(ran);
        }
    }
}

impl Core {
    /// Adds an observer, which sees the next item that runs. At any time.
    pub(crate) fn observe(&self, observer: Rc<dyn Observer>) {
        Rc::make_mut(&mut *self.observers.list.borrow_mut()).push(observer);
        self.local.alerts.set_observed(true);
    }

    /// Takes an observer away; it sees nothing more but what it is just being shown. At any time.
    pub(crate) fn unobserve(&self, observer: &Rc<dyn Observer>) {
        let removed = {
            let mut list = self.observers.list.borrow_mut();
            let list = Rc::make_mut(&mut list);
            // The address alone: the same type may have several tables of functions.
            let place = list.iter().position(|other| std::ptr::addr_eq(Rc::as_ptr(other), Rc::as_ptr(observer)));
            let removed = place.map(|place| list.remove(place));
            self.local.alerts.set_observed(!list.is_empty());
            removed
        };
        self.local.dispose(removed);
    }

    #[inline(always)]
    pub(super) fn is_observed(&self) -> bool {
        self.local.alerts.is_observed()
    }

    /// A line that says what runs just now; empty if nothing does, or nobody looks.
    pub(super) fn while_running(&self) -> String {
        let running = self.observers.running.borrow();
        running.as_ref().map(|ran| format!("\n  while running {ran}")).unwrap_or_default()
    }

    fn show(&self, show: impl Fn(&dyn Observer)) {
        let observers = self.observers.list.borrow().clone();
        for observer in &*observers {
            // What it does with what it sees may call the application's code: a subscriber, a `Debug`.
            if let Err(payload) = catch_unwind(AssertUnwindSafe(|| show(&**observer))) {
                self.local.caught("Exception while the loop was looked at", payload, None, None);
            }
        }
    }

    /// Runs an item that somebody looks at.
    #[cold]
    #[inline(never)]
    pub(super) fn run_observed(&self, item: Item, root: &mut Option<&mut dyn RootFuture>) {
        let Some(ran) = self.what(&item, root.as_deref()) else { return self.run_item(item, root) };
        let stamp = match item {
            Item::Taken => self.local.with_next_taken(|next| next.open().1.cloned()),
            _ => None,
        };
        self.local.inspection.cause.set(self.cause(&item, &ran));
        let running = Running::begin(self, ran);
        let began = self.now();
        self.run_item(item, root);
        let ended = self.now();
        self.local.inspection.cause.set(Cause::Outside);
        let Some(ran) = running.end().filter(|_| !self.is_inherited()) else { return };
        self.show(|observer| {
            if let Some(stamp) = &stamp {
                observer.posted(self, stamp, &ran, began);
            }
            observer.item(self, &ran, began, ended);
        });
        // It may be the last to hold a transport.
        self.local.dispose(ran);
    }

    /// Polls a task that begins inside of something else, while somebody looks.
    #[cold]
    pub(super) fn run_nested(&self, runnable: Runnable) {
        let local = &*self.local;
        let ran = local.step_of(task::task_of(&runnable));
        let began = self.now();
        task::step_inside(local, runnable);
        let ended = self.now();
        if let Some(ran) = ran {
            self.show(|observer| observer.nested(self, &ran, began, ended));
        }
    }

    /// Shows what is told to the exception handler.
    #[cold]
    pub(super) fn show_report(&self, message: &str) {
        self.show(|observer| observer.reported(self, message));
    }

    /// What wakes the tasks that an item wakes.
    fn cause(&self, item: &Item, ran: &Ran) -> Cause {
        match (item, ran) {
            (Item::Event { key, .. }, _) => {
                self.reactor.borrow().get(*key).map_or(Cause::Outside, |slot| Cause::Descriptor(slot.fd))
            }
            (_, Ran::Callback(info)) => Cause::Callback(info.created_at),
            (_, Ran::Posted(_)) => Cause::Posted,
            _ => Cause::Outside,
        }
    }

    /// What an item is; `None` if nothing will run.
    fn what(&self, item: &Item, root: Option<&dyn RootFuture>) -> Option<Ran> {
        let local = &*self.local;
        let root_of = |id| local.step_of(root.and_then(|root| root.task(id))?);
        match item {
            Item::Task(runnable) => local.step_of(task::task_of(runnable)),
            Item::Callback(callback) => callback.clone().about(),
            Item::Event { key, .. } => match self.reactor.borrow().get(*key).map(|slot| &slot.listener) {
                Some(Listener::Handler(handler)) => Some(Ran::Event(handler.clone().about())),
                _ => None,
            },
            Item::Root(id) => root_of(*id),
            Item::Job(job) => Some(Ran::Posted(job.about())),
            Item::Posted(posting) => Some(Ran::Posted(posting.about())),
            Item::Taken => local.with_next_taken(|next| match next.open().0 {
                Injected::Task(runnable) => local.step_of(task::task_of(runnable)),
                Injected::Root(id) => root_of(*id),
                Injected::Job(job) => Some(Ran::Posted(job.about())),
                Injected::Posted(posting) => Some(Ran::Posted(posting.about())),
                // No stamp is stamped.
                Injected::Stamped(_) => None,
            }),
        }
    }

    /// Shows a question to the selector, and how it was answered.
    #[cold]
    pub(super) fn show_wait(&self, asked_at: Instant, timeout: Option<Duration>, events: usize) {
        let wait = Waited { asked_at, until: self.now(), timeout, events };
        self.show(|observer| observer.waited(self, &wait));
    }

    /// Queues the timers that are due, and shows them. Says how many they are, and how late the latest is.
    #[cold]
    pub(super) fn queue_due_observed(&self, limit: Instant, now: Instant) -> (usize, Duration) {
        let local = &*self.local;
        let mut timers = Vec::new();
        let slow = self.slow_duration();
        local.queue_due_seen(limit, |when, due| {
            let what = match due {
                Due::Callback(callback) => callback.clone().about(),
                Due::Task(task) | Due::Cancel(task) => local.step_of(*task),
                // It takes a look at all tasks: for what is too late, and for one timer of a turn.
                Due::Waker(waker) if timers.is_empty() && now.saturating_duration_since(when) >= slow => {
                    local.watched_task(waker).and_then(|task| local.step_of(task))
                }
                Due::Waker(_) => None,
            };
            timers.push(Timer { what, when, found_at: now });
        });
        for timer in &timers {
            self.show(|observer| observer.timer(self, timer));
        }
        let counted = (timers.len(), timers.first().map_or(Duration::ZERO, Timer::late));
        local.dispose(timers);
        counted
    }

    #[cold]
    pub(super) fn begin_turn(&self, now: Option<Instant>) -> Turn {
        let began = now.unwrap_or_else(|| self.now());
        let (number, latest) = (self.turn_number(), Duration::ZERO);
        Turn { number, began, ended: began, items: 0, posts: 0, timers: 0, latest }
    }

    #[cold]
    pub(super) fn end_turn(&self, mut turn: Turn, items: usize) {
        (turn.ended, turn.items) = (self.now(), items);
        self.show(|observer| observer.turn(self, &turn));
    }
}
