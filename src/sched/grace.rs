//! The time that a task is given to end by itself, once it was asked to.

use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use crate::sched::active::{Entry, Kind, TaskRef};
use crate::sched::clock::deadline;
use crate::sched::info::WaitsFor;
use crate::sched::is_running_inspected;
use crate::sched::timers::TimerKey;
use crate::sched::{Due, Local};

/// What is kept of a task that has looked whether it was asked to end. One that never did would not hear of it.
pub(crate) enum Grace {
    /// It was not, so far. Whom to tell, each under a number of its own.
    Watched(Vec<(u64, Waker)>),
    /// It was. When its time is over, if ever, and the timer that ends it then.
    Granted(Option<(Instant, TimerKey)>),
}

/// What is left to do, with nothing borrowed, after a task was asked.
#[derive(Default)]
struct Asked {
    /// Who waits to hear of it.
    told: Vec<(u64, Waker)>,
    /// A timer that is of no use: an earlier one counts.
    superfluous: Option<TimerKey>,
}

impl Entry {
    /// Whether the task was asked to end by itself.
    pub(crate) fn is_asked(&self) -> bool {
        self.has_extra() && self.with_extra(|extra| matches!(extra.grace, Some(Grace::Granted(_))))
    }

    /// What is kept of it, at the task's end.
    #[inline]
    pub(crate) fn take_grace(&self) -> Option<Grace> {
        if self.has_extra() { self.with_extra(|extra| extra.grace.take()) } else { None }
    }

    /// Whether the task would hear of it, and could do something about it.
    fn listens(&self) -> bool {
        let could = self.kind() != Kind::Root && !self.ending.get().is_asked();
        could && self.has_extra() && self.with_extra(|extra| extra.grace.is_some())
    }

    /// Whether the task was asked to end, in whichever way. From now on it counts as one that listens.
    fn heed(&self) -> bool {
        let asked = self.with_extra(|extra| {
            let grace = extra.grace.get_or_insert_with(|| Grace::Watched(Vec::new()));
            matches!(grace, Grace::Granted(_))
        });
        asked || self.ending.get().is_asked()
    }

    /// Asks the task, with the timer that ends its time.
    fn ask(&self, timer: Option<(Instant, TimerKey)>) -> Asked {
        self.with_extra(|extra| match extra.grace.replace(Grace::Granted(timer)) {
            None => Asked::default(),
            Some(Grace::Watched(told)) => Asked { told, superfluous: None },
            Some(Grace::Granted(before)) => {
                let superfluous = match (timer, before) {
                    (Some((new, key)), Some((old, _))) if new >= old => {
                        extra.grace = Some(Grace::Granted(before));
                        Some(key)
                    }
                    (None, _) => {
                        extra.grace = Some(Grace::Granted(before));
                        None
                    }
                    (Some(_), before) => before.map(|(_, key)| key),
                };
                Asked { told: Vec::new(), superfluous }
            }
        })
    }
}

impl Local {
    /// Asks a task to end by itself within `grace`: true if it was live.
    pub(crate) fn cancel_gracefully(&self, task: TaskRef, grace: Duration) -> bool {
        let listens = {
            let active = self.active.borrow();
            active.get_live(task).is_some_and(Entry::listens)
        };
        if !listens || grace.is_zero() {
            return self.cancel(task);
        }
        let end = (grace != Duration::MAX).then(|| deadline(self.clock.now(), grace));
        let timer = end.map(|end| (end, self.arm(end, Due::Cancel(task))));
        let asked = {
            let active = self.active.borrow();
            active.get_live(task).map(|entry| entry.ask(timer))
        };
        // The clock, or the host that was told of the timer, may be the application's, and have ended the task.
        let is_live = asked.is_some();
        let asked = asked.unwrap_or_else(|| Asked { superfluous: timer.map(|(_, key)| key), ..Asked::default() });
        if let Some(key) = asked.superfluous {
            drop(self.disarm(key));
        }
        for (_, waker) in asked.told {
            self.wake(waker);
        }
        is_live
    }

    /// Whether the task that is being polled was asked to end; `None` if none is.
    pub(crate) fn is_current_asked(&self) -> Option<(TaskRef, bool)> {
        let task = self.current.get()?;
        Some((task, self.active.borrow().get_live(task)?.heed()))
    }

    /// Remembers whom to wake, under this number, when the task is asked to end.
    pub(crate) fn watch_grace(&self, task: TaskRef, key: u64, cx: &Context<'_>) -> Poll<()> {
        // A waker may be the application's: it is cloned and dropped with nothing borrowed.
        let mut waker = Some(cx.waker().clone());
        let polled = self.with_watchers(task, |watchers| match watchers.iter_mut().find(|(other, _)| *other == key) {
            Some((_, before)) => waker = waker.take().map(|waker| std::mem::replace(before, waker)),
            None => watchers.extend(waker.take().map(|waker| (key, waker))),
        });
        if polled.is_none() {
            return Poll::Ready(());
        }
        if is_running_inspected() {
            self.note_wait(WaitsFor::Other("being asked to end"));
        }
        Poll::Pending
    }

    /// Forgets whom to wake.
    pub(crate) fn forget_grace(&self, task: TaskRef, key: u64) {
        let forgotten = self.with_watchers(task, |watchers| {
            let place = watchers.iter().position(|(other, _)| *other == key)?;
            Some(watchers.remove(place))
        });
        drop(forgotten);
    }

    /// `f` runs no code of the application's. `None` if the task is not watched, or is not any more.
    fn with_watchers<R>(&self, task: TaskRef, f: impl FnOnce(&mut Vec<(u64, Waker)>) -> R) -> Option<R> {
        let active = self.active.borrow();
        active.get_live(task)?.with_extra(|extra| match &mut extra.grace {
            Some(Grace::Watched(watchers)) => Some(f(watchers)),
            _ => None,
        })
    }

    /// The task has ended: there is nothing to wait for.
    #[cold]
    pub(crate) fn end_grace(&self, grace: Grace) {
        match grace {
            Grace::Granted(None) => {}
            Grace::Granted(Some((_, key))) => drop(self.disarm(key)),
            Grace::Watched(watchers) => self.dispose(watchers),
        }
    }
}
