//! Looking closely at tasks, and who asks for it.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Instant;

use crate::event_loop::observe::Observer;
use crate::event_loop::{Core, EventLoop, running};
use crate::sched::info::WaitsFor;
use crate::sched::ran::Ran;
use crate::sched::{is_running_inspected, task};

/// What the task that is being polled waits for, if the loop is inspected.
#[inline]
pub(crate) fn waits_for(what: impl FnOnce() -> WaitsFor) {
    if is_running_inspected() {
        let what = what();
        running::with_current(|core| core.map(|core| core.local.note_wait(what)));
    }
}

/// Who has asked for it.
#[derive(Default)]
pub(super) struct Inspecting {
    /// Whether the application has.
    is_asked: Cell<bool>,
    /// How many there are inside of the crate who ask for as long as they are there.
    askers: Cell<usize>,
    /// There while somebody does, or debug mode is on.
    stopwatch: RefCell<Option<Rc<dyn Observer>>>,
}

/// Measures how long the polls of each task take.
struct Stopwatch;

impl Observer for Stopwatch {
    fn item(&self, core: &Core, ran: &Ran, began: Instant, ended: Instant) {
        if let Ran::Task(step) = ran {
            core.local.note_busy(step.task, ended.saturating_duration_since(began));
        }
    }
}

/// Has the loop inspected for as long as it lives.
pub(crate) struct Inspected {
    core: Rc<Core>,
}

impl Inspected {
    pub(crate) fn new(core: &Rc<Core>) -> Self {
        core.inspection.askers.set(core.inspection.askers.get() + 1);
        core.inspect_anew();
        Self { core: core.clone() }
    }
}

impl Drop for Inspected {
    fn drop(&mut self) {
        let askers = &self.core.inspection.askers;
        askers.set(askers.get() - 1);
        self.core.inspect();
    }
}

impl Core {
    /// Looks closely at tasks from now on, if somebody asks for it, or not any more.
    pub(super) fn inspect(&self) {
        let Inspecting { is_asked, askers, stopwatch } = &self.inspection;
        let is_on = self.is_debug() || is_asked.get() || askers.get() > 0;
        self.local.inspect(is_on, self.is_debug());
        let before = stopwatch.take();
        match before {
            None if is_on => {
                let new: Rc<dyn Observer> = Rc::new(Stopwatch);
                self.observe(new.clone());
                *stopwatch.borrow_mut() = Some(new);
            }
            Some(before) if !is_on => self.unobserve(&before),
            before => *stopwatch.borrow_mut() = before,
        }
    }

    /// As `inspect`; and if that is new to the tasks, they are polled once more, for which they say what they wait for.
    fn inspect_anew(&self) {
        let was_on = self.local.inspection.is_on();
        self.inspect();
        if self.local.inspection.is_on() && !was_on {
            let wakers: Vec<_> = self.local.active.borrow().iter().filter_map(task::waker).collect();
            for waker in wakers {
                self.local.wake(waker);
            }
        }
    }
}

impl EventLoop {
    /// Looks closely at the tasks from now on, or not any more, at any time. Debug mode does so anyhow.
    ///
    /// While a loop is inspected, [`TaskInfo`](crate::TaskInfo) says of each task what has woken it, what it waits for, be
    /// it of this crate or not, and how long its polls have taken. It costs some memory per task and two readings of the
    /// clock per poll, and nothing while it is off.
    ///
    /// A task that waits tells nothing: so all tasks are polled once more, in the next turn, when this is turned on. Futures
    /// must bear being polled without need, and do.
    ///
    /// ```
    /// use roundelay::{EventLoop, WaitsFor, sleep, spawn, yield_now};
    /// use std::time::Duration;
    ///
    /// let el = EventLoop::new()?;
    /// el.set_inspection(true);
    /// el.run_until_complete(async {
    ///     let el = roundelay::get_running_loop().unwrap();
    ///     let sleeper = spawn(sleep(Duration::from_secs(60)));
    ///     yield_now().await;
    ///     let info = el.all_tasks().into_iter().find(|info| info.id == sleeper.id()).unwrap();
    ///     assert!(matches!(info.waits_for[..], [WaitsFor::Timer { .. }]));
    /// })
    /// .unwrap();
    /// # std::io::Result::Ok(())
    /// ```
    pub fn set_inspection(&self, inspection: bool) {
        self.core.inspection.is_asked.set(inspection);
        self.core.inspect_anew();
    }

    /// Whether the loop looks closely at its tasks: because of [`set_inspection`](Self::set_inspection), in debug mode, or
    /// for somebody who is looking at them.
    pub fn inspection(&self) -> bool {
        self.core.local.inspection.is_on()
    }
}
