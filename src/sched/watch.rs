//! What is noted of tasks while a loop is inspected, as it is in debug mode: what wakes them, what they wait for, how long
//! their polls take, and that nothing can wake them any more.
//!
//! Then a task is polled with a waker of our own around async-task's, of which we hear when the last one that somebody has
//! kept is gone. The task's entry has none but while it is polled: a task that is not in the queue, and whose wakers are
//! gone, waits for ever. Nothing of this costs anything while the loop is not inspected; see `Guarded::poll_inside`.

use std::cell::Cell;
use std::panic::Location;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::task::{Wake, Waker};
use std::time::{Duration, Instant};

use crate::sched::active::{Ending, Entry, TaskRef, WakeParts};
use crate::sched::info::{AwaitKind, TaskInfo, TaskState, WaitsFor, WokenBy};
use crate::sched::ran::Post;
use crate::sched::ready::{Injected, Posted, Posting};
use crate::sched::{Due, Local, Shared, is_running_inspected, report, running_loop_id, set_running_loop};

/// The most things that are noted of what a task waits for at the same time.
const MOST_WAITS: usize = 16;

/// Says, if the loop is inspected, by what tasks are awaited that are polled while this lives.
#[inline]
pub(crate) fn within(kind: AwaitKind) -> Within {
    Within { before: is_running_inspected().then(|| WITHIN.replace(Some(kind))) }
}

thread_local! {
    static WITHIN: Cell<Option<AwaitKind>> = const { Cell::new(None) };
}

/// Brings back what was before, if it was replaced: the inspection may have ended or begun meanwhile.
pub(crate) struct Within {
    before: Option<Option<AwaitKind>>,
}

impl Drop for Within {
    #[inline]
    fn drop(&mut self) {
        if let Some(before) = self.before {
            WITHIN.set(before);
        }
    }
}

/// By what the task being polled awaits another one with this waker; the loop is inspected.
#[cold]
pub(crate) fn await_kind(local: &Local, waker: &Waker) -> AwaitKind {
    let is_own = local.current.get().is_none_or(|task| {
        let active = local.active.borrow();
        active.get_live(task).is_none_or(|entry| entry.is_held(waker))
    });
    match WITHIN.get() {
        Some(kind) => kind,
        None if is_own => AwaitKind::Handle,
        None => AwaitKind::Combinator,
    }
}

/// What a loop is doing just now where no task is polled, as far as it is known.
#[derive(Clone, Copy, Default)]
pub(crate) enum Cause {
    /// It runs none of its items.
    #[default]
    Outside,
    Timer,
    Descriptor(i32),
    Callback(&'static Location<'static>),
    Posted,
}

/// How closely a loop looks at its tasks.
#[derive(Default)]
pub(crate) struct Inspection {
    is_on: Cell<bool>,
    /// Whether it tells of tasks that nothing can wake.
    warns: Cell<bool>,
    pub(crate) cause: Cell<Cause>,
}

impl Inspection {
    #[inline]
    pub(crate) fn is_on(&self) -> bool {
        self.is_on.get()
    }
}

/// What is noted of a task.
#[derive(Default)]
pub(crate) struct Details {
    /// What it was polled with last: gone when nobody holds it.
    watch: Weak<Watch>,
    /// The waker of the poll that is under way.
    held: Option<Waker>,
    /// The number of the latest poll that was watched.
    poll: u64,
    /// What has woken it since the latest poll.
    woken: Option<WokenBy>,
    /// What had woken it for the latest poll.
    woken_by: Option<WokenBy>,
    waits: Vec<WaitsFor>,
    busy: Option<Duration>,
    /// Whether it was named as one that nothing can wake.
    is_named: bool,
}

/// What is to be told of a task's details.
#[derive(Default)]
pub(crate) struct Told {
    pub(crate) busy: Option<Duration>,
    pub(crate) woken_by: Option<WokenBy>,
    pub(crate) waits_for: Vec<WaitsFor>,
}

/// The waker of a watched task.
pub(crate) struct Watch {
    shared: Arc<Shared>,
    task: TaskRef,
    /// The one that it is around.
    waker: Waker,
    /// Whether it was used since it was last polled with: then another poll comes.
    is_woken: AtomicBool,
}

impl Wake for Watch {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if !self.is_woken.swap(true, Ordering::AcqRel) {
            if let Some(local) = self.shared.local() {
                local.note_woken(self.task);
            }
        }
        self.waker.wake_by_ref();
    }
}

impl Drop for Watch {
    /// On any thread.
    fn drop(&mut self) {
        if !*self.is_woken.get_mut() {
            // It is looked at in its turn: then everything that was woken before was polled.
            let _ = self.shared.post(Injected::Posted(Posting::new(Lost(self.task))));
        }
    }
}

/// Whoever could wake this task is gone.
struct Lost(TaskRef);

impl Posted for Lost {
    fn run(self, local: &Local) {
        local.guarded(|| local.name_lost(self.0));
    }

    fn about(&self) -> Post {
        Post { method: "lost task", origin: None }
    }
}

impl Local {
    /// The watched task that was polled with this waker. Looks at all tasks.
    pub(crate) fn watched_task(&self, waker: &Waker) -> Option<TaskRef> {
        let active = self.active.borrow();
        let is_own = |entry: &&Entry| {
            // What is held by so much as a weak reference has its address to itself.
            let is_own = |details: &Details| std::ptr::addr_eq(details.watch.as_ptr(), waker.data());
            entry.has_extra() && entry.with_extra(|extra| extra.details.as_deref().is_some_and(is_own))
        };
        active.iter().find(is_own).map(Entry::task)
    }
}

impl Entry {
    /// A poll begins that is watched; its number was counted. Gives the waker that it is polled with, which is good until
    /// [`end_watched`](Self::end_watched) or the task's end.
    pub(crate) fn begin_watched(&self, local: &Local, waker: &Waker) -> WakeParts {
        self.kept.set(self.kept.get().unsettled());
        let (task, polls) = (self.task(), self.polls());
        self.with_extra(|extra| {
            let details = extra.details.get_or_insert_default();
            details.woken_by = match details.woken.take() {
                None if polls == 1 => Some(WokenBy::Spawn),
                // Unless it was woken while nobody looked.
                None => (details.poll != 0).then_some(WokenBy::Thread),
                by => by,
            };
            details.poll = polls;
            details.waits.clear();
            let watch = details.watch.upgrade().unwrap_or_else(|| {
                let (shared, waker) = (local.shared(), waker.clone());
                let watch = Arc::new(Watch { shared, task, waker, is_woken: AtomicBool::new(false) });
                details.watch = Arc::downgrade(&watch);
                watch
            });
            watch.is_woken.store(false, Ordering::Release);
            let held = Waker::from(watch);
            let parts = WakeParts::of(&held);
            details.held = Some(held);
            parts
        })
    }

    /// As `begin_watched`, with a count for the waker.
    pub(crate) fn watched_waker(&self, local: &Local, waker: &Waker) -> Waker {
        self.begin_watched(local, waker);
        let held = self.with_extra(|extra| extra.details.as_ref().and_then(|details| details.held.clone()));
        held.unwrap_or_else(|| waker.clone())
    }

    /// The poll is over, and the task is not.
    pub(crate) fn end_watched(&self) {
        if self.has_extra() {
            let held = self.with_extra(|extra| extra.details.as_mut().and_then(|details| details.held.take()));
            drop(held);
        }
    }

    /// The task ends: nobody need hear of it that its wakers go.
    pub(crate) fn stop_watching(&self) {
        if self.has_extra() {
            let watch = self.with_extra(|extra| extra.details.as_ref().and_then(|details| details.watch.upgrade()));
            if let Some(watch) = watch {
                watch.is_woken.store(true, Ordering::Release);
            }
        }
    }

    /// Whether it is being polled with this waker.
    fn is_held(&self, waker: &Waker) -> bool {
        let is_held = |details: &Details| details.held.as_ref().is_none_or(|held| held.will_wake(waker));
        !self.has_extra() || self.with_extra(|extra| extra.details.as_deref().is_none_or(is_held))
    }

    /// Whether all was noted of its latest poll that there is to be noted.
    pub(crate) fn is_watched(&self) -> bool {
        let polls = self.polls();
        self.has_extra() && self.with_extra(|extra| extra.details.as_ref().is_some_and(|details| details.poll == polls))
    }

    /// What has woken it, of several the first. The loop is inspected.
    pub(crate) fn note_woken(&self, by: WokenBy) {
        self.with_extra(|extra| {
            let details = extra.details.get_or_insert_default();
            details.woken.get_or_insert(by);
        });
    }

    /// It was asked to end.
    pub(crate) fn note_cancelled(&self) {
        if self.has_extra() {
            self.with_extra(|extra| {
                if let Some(details) = &mut extra.details {
                    details.woken = Some(WokenBy::Cancel);
                }
            });
        }
    }

    /// Its polls have taken so much more.
    pub(crate) fn add_busy(&self, time: Duration) {
        self.with_extra(|extra| {
            let busy = &mut extra.details.get_or_insert_default().busy;
            *busy = Some(busy.unwrap_or_default() + time);
        });
    }

    /// What was noted.
    pub(crate) fn details(&self, now: Instant, state: TaskState) -> Told {
        let polls = self.polls();
        if !self.has_extra() {
            return Told::default();
        }
        self.with_extra(|extra| {
            let Some(details) = &extra.details else { return Told::default() };
            let mut told = Told { busy: details.busy, ..Told::default() };
            if details.poll != polls && polls != 0 {
                // From a time when the loop was inspected.
                return told;
            }
            told.woken_by = details.woken.or(details.woken_by);
            if state != TaskState::Running {
                told.waits_for.clone_from(&details.waits);
            }
            for wait in &mut told.waits_for {
                if let WaitsFor::Timer { until, left } = wait {
                    *left = until.saturating_duration_since(now);
                }
            }
            told
        })
    }

    /// What it waits for where it has named nothing.
    pub(crate) fn unnamed_wait(&self) -> Option<WaitsFor> {
        if !self.is_watched() || self.ending.get().is_asked() {
            return None;
        }
        self.with_extra(|extra| {
            let details = extra.details.as_ref().filter(|details| details.woken.is_none())?;
            let watch = details.watch.upgrade();
            match watch {
                None => Some(WaitsFor::Nothing),
                Some(watch) if watch.is_woken.load(Ordering::Acquire) => None,
                Some(_) => Some(WaitsFor::Unknown),
            }
        })
    }

    /// Whether nothing can wake it, for all that its wakers tell, and nobody was told of it.
    fn is_lost(&self) -> bool {
        let polls = self.polls();
        let is_lost = |details: &mut Details| {
            let is_waiting = details.poll == polls && details.held.is_none() && details.woken.is_none();
            is_waiting && !details.is_named && details.watch.strong_count() == 0
        };
        self.ending.get() == Ending::Watched
            && self.has_extra()
            && self.with_extra(|extra| extra.details.as_deref_mut().is_some_and(is_lost))
    }
}

impl Local {
    /// Looks at its tasks closely from now on, or not any more; and whether to tell of those that nothing can wake.
    pub(crate) fn inspect(&self, is_on: bool, warns: bool) {
        self.inspection.warns.set(warns);
        if self.inspection.is_on.replace(is_on) == is_on {
            return;
        }
        let (from, to) = if is_on { (Ending::No, Ending::Watched) } else { (Ending::Watched, Ending::No) };
        {
            let mut active = self.active.borrow_mut();
            active.begin = to;
            active.iter().filter(|entry| entry.ending.get() == from).for_each(|entry| entry.ending.set(to));
        }
        if running_loop_id() == self.loop_id() {
            set_running_loop(Some(self));
        }
    }

    /// The task that is being polled waits for this; the loop is inspected.
    #[cold]
    pub(crate) fn note_wait(&self, what: WaitsFor) {
        let active = self.active.borrow();
        let entry = self.current.get().and_then(|task| active.get_live(task)).filter(|entry| entry.has_extra());
        let Some(entry) = entry else { return };
        entry.with_extra(|extra| {
            if let Some(details) = extra.details.as_mut().filter(|details| details.waits.len() < MOST_WAITS) {
                if !details.waits.contains(&what) {
                    details.waits.push(what);
                }
            }
        });
    }

    /// A task is woken by whatever runs just now.
    #[cold]
    fn note_woken(&self, task: TaskRef) {
        let by = match (self.current.get(), self.inspection.cause.get()) {
            (Some(waker), _) if waker == task => WokenBy::Itself,
            (Some(waker), _) => WokenBy::Task(waker.id),
            (None, Cause::Timer) => WokenBy::Timer,
            (None, Cause::Descriptor(fd)) => WokenBy::Descriptor(fd),
            (None, Cause::Callback(place)) => WokenBy::Callback(place),
            (None, Cause::Posted) => WokenBy::Posted,
            (None, Cause::Outside) => WokenBy::Outside,
        };
        if let Some(entry) = self.active.borrow().get_live(task) {
            entry.note_woken(by);
        }
    }

    /// A task's polls have taken so much more.
    pub(crate) fn note_busy(&self, task: TaskRef, time: Duration) {
        if let Some(entry) = self.active.borrow().get_live(task) {
            entry.add_busy(time);
        }
    }

    /// Tells of a task that waits for ever, if it does.
    fn name_lost(&self, task: TaskRef) {
        let is_lost = self.active.borrow().get_live(task).is_some_and(Entry::is_lost);
        let of_task = |due: &Due| matches!(due, Due::Task(other) | Due::Cancel(other) if *other == task);
        if !self.inspection.warns.get() || !is_lost || self.timers.borrow().iter().any(|(_, due)| of_task(due)) {
            return;
        }
        let Some(info) = self.brief_info(task) else { return };
        if let Some(entry) = self.active.borrow().get_live(task) {
            entry.with_extra(|extra| {
                if let Some(details) = &mut extra.details {
                    details.is_named = true;
                }
            });
        }
        report::emit(tracing::Level::WARN, &lost_text(&info));
    }
}

fn lost_text(info: &TaskInfo) -> String {
    let TaskInfo { id, name, spawned_at, polls, is_root, .. } = info;
    let what = if *is_root { "the root task" } else { "task" };
    let times = if *polls == 1 { "once" } else { &*format!("{polls} times") };
    format!(
        "{what} {name:?} #{id} waits for ever: nothing holds its waker any more, so that it can only be \
         cancelled\n  spawned at {spawned_at}, polled {times}"
    )
}
