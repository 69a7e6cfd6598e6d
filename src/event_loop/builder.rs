//! Making a loop.

use std::cell::{Cell, OnceCell, RefCell};
use std::fmt;
use std::io;
use std::ops::Deref;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::time::Duration;

use crate::constants::{EVENT_INTERVAL, EVENT_PERIOD};
use crate::error::invalid_input;
use crate::event_loop::root::RootWakers;
use crate::event_loop::services::Services;
use crate::event_loop::stats::LoopCounters;
use crate::event_loop::{Core, EventLoop, RunState, WakeTargets, debug};
use crate::reactor::{Reactor, Selector, default_selector};
use crate::sched::Local;
use crate::sched::clock::{Clock, ClockSource, MonotonicClock};
use crate::sched::inject::Wake;
use crate::sched::report::Report;

/// The kinds of loop that asyncio knows. There is one so far; a completion-based one will follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum LoopKind {
    /// A loop that waits for readiness, on a [`Selector`].
    Selector,
}

/// Settings for a loop, made by [`EventLoop::builder`].
///
/// ```
/// use roundelay::{EventLoop, selector};
///
/// let el = EventLoop::builder().selector(selector::Polling::new()?).debug(true).name("worker").build()?;
/// assert_eq!(el.selector_name(), "polling");
/// el.close();
/// # std::io::Result::Ok(())
/// ```
#[must_use = "a builder does nothing before build()"]
pub struct Builder {
    selector: Option<Box<dyn Selector>>,
    clock: ClockSource,
    /// `None`: as the environment says.
    debug: Option<bool>,
    event_interval: u32,
    event_period: Duration,
    spin: Duration,
    name: Option<Box<str>>,
}

impl Builder {
    pub(crate) fn new() -> Self {
        Self {
            selector: None,
            clock: ClockSource::Monotonic,
            debug: None,
            event_interval: EVENT_INTERVAL,
            event_period: EVENT_PERIOD,
            spin: Duration::ZERO,
            name: None,
        }
    }

    /// Uses this selector instead of the platform's best.
    pub fn selector(mut self, selector: impl Selector) -> Self {
        self.selector = Some(Box::new(selector));
        self
    }

    /// Uses this clock instead of the operating system's monotonic one.
    pub fn clock(mut self, clock: impl Clock) -> Self {
        self.clock = ClockSource::Custom(Rc::new(clock));
        self
    }

    /// Turns debug mode on or off, whatever the environment variable `ROUNDELAY_DEBUG` says.
    pub fn debug(mut self, debug: bool) -> Self {
        self.debug = Some(debug);
        self
    }

    /// While there is ready work, asks the selector at least once in this many turns (61). With 1, each turn asks it,
    /// as asyncio does.
    pub fn event_interval(mut self, turns: u32) -> Self {
        self.event_interval = turns;
        self
    }

    /// While there is ready work, asks the selector at least this often (250 microseconds).
    pub fn event_period(mut self, period: Duration) -> Self {
        self.event_period = period;
        self
    }

    /// Asks the selector again and again for this long before the loop sleeps (zero: it sleeps at once).
    ///
    /// What comes meanwhile, from a descriptor or from another thread, is seen without the 5 to 50 microseconds that the
    /// operating system takes to wake a thread; and whoever posts saves a system call. It pays where answers come within
    /// some 50 microseconds, as in a conversation with one peer, on a processor that has nothing else to do: it is kept
    /// busy for that long each time the loop runs out of work. A loop with a [`clock`](Self::clock) of its own does not
    /// do it, nor does one that is only ever asked not to wait, by `run_once(Some(Duration::ZERO))`.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// let el = roundelay::EventLoop::builder().spin(Duration::from_micros(50)).build()?;
    /// assert_eq!(el.run_until_complete(async { 1 }).unwrap(), 1);
    /// # std::io::Result::Ok(())
    /// ```
    pub fn spin(mut self, time: Duration) -> Self {
        self.spin = time;
        self
    }

    /// Gives the loop a name, for people.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into().into_boxed_str());
        self
    }

    /// Makes the loop, on this thread.
    ///
    /// # Errors
    ///
    /// The operating system's, most often for want of descriptors; `InvalidInput` for an event interval of zero.
    pub fn build(self) -> io::Result<EventLoop> {
        if self.event_interval == 0 {
            return Err(invalid_input("Builder::event_interval(): it must be at least 1"));
        }
        let foreign = self.selector.is_some();
        let selector = match self.selector {
            Some(selector) => selector,
            None => default_selector()?,
        };
        let wake = Arc::new(WakeTargets::new(selector.notifier()));
        let targets = wake.clone();
        let local = Local::new(self.clock.clone(), Box::new(move || targets.wake()));
        let mut clock_wake = None;
        if let ClockSource::Custom(clock) = &self.clock {
            // A clock outlives its loops, and then wakes nobody.
            let (targets, shared) = (Arc::downgrade(&wake), Arc::downgrade(&local.shared()));
            let wake: Arc<dyn Fn() + Send + Sync> = Arc::new(move || {
                let Some((targets, shared)) = targets.upgrade().zip(shared.upgrade()) else { return };
                match shared.claim_wake() {
                    Wake::Needed => targets.wake(),
                    Wake::NotNeeded if shared.is_inherited() => {}
                    // The selector all the same: the new time counts for the next wait, too.
                    Wake::NotNeeded => targets.notify(),
                }
            });
            clock.attach(Arc::downgrade(&wake));
            clock_wake = Some(wake);
        }
        let (now, resolution) = match &self.clock {
            ClockSource::Monotonic => (MonotonicClock.now(), MonotonicClock.resolution()),
            ClockSource::Custom(clock) => (clock.now(), clock.resolution()),
        };
        let own_clock = matches!(self.clock, ClockSource::Custom(_));
        let core = Rc::new_cyclic(|me: &Weak<Core>| Core {
            me: me.clone(),
            local,
            reactor: Rc::new(RefCell::new(Reactor::new(selector, foreign))),
            clock: self.clock,
            clock_wake: Cell::new(clock_wake),
            backend_fd: OnceCell::new(),
            resolution,
            name: self.name,
            wake,
            run_state: Cell::new(RunState::Idle),
            stopping: Cell::new(false),
            ending: Cell::new(false),
            hosted: Cell::new(false),
            turns_since_wait: Cell::new(0),
            waited_at: Cell::new(now),
            event_interval: self.event_interval,
            event_period: self.event_period,
            spin: if own_clock { Duration::ZERO } else { self.spin },
            fired: Cell::new(Vec::new()),
            root_waker: RootWakers::default(),
            exception_handler: RefCell::new(None),
            handling: Cell::new(0),
            task_factory: RefCell::new(None),
            eager_tasks: Cell::new(false),
            debug: Cell::new(self.debug.unwrap_or_else(debug::from_environment)),
            services: Services::default(),
            counters: LoopCounters::default(),
            receive_buffer: Cell::new(None),
            spare_buffers: Cell::default(),
        });
        let me: Weak<dyn Report> = core.me.clone();
        core.local.set_report(me);
        Ok(EventLoop { core, owner: true })
    }
}

impl fmt::Debug for Builder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder")
            .field("selector", &self.selector.as_ref().map(|selector| selector.name()))
            .field("debug", &self.debug)
            .field("event_interval", &self.event_interval)
            .field("event_period", &self.event_period)
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

/// A loop on a selector: asyncio's name for what [`EventLoop`] is.
///
/// It owns its loop and derefs to it.
///
/// ```
/// use roundelay::{SelectorEventLoop, selector};
///
/// let el = SelectorEventLoop::with_selector(selector::Polling::new()?)?;
/// assert_eq!(el.run_until_complete(async { 1 + 1 }), Ok(2));
/// # std::io::Result::Ok(())
/// ```
#[derive(Debug)]
pub struct SelectorEventLoop(EventLoop);

impl SelectorEventLoop {
    /// A loop on the platform's best selector.
    ///
    /// # Errors
    ///
    /// As [`EventLoop::new`].
    pub fn new() -> io::Result<Self> {
        EventLoop::new().map(Self)
    }

    /// A loop on a selector of your choice.
    ///
    /// # Errors
    ///
    /// As [`Builder::build`].
    pub fn with_selector(selector: impl Selector) -> io::Result<Self> {
        EventLoop::builder().selector(selector).build().map(Self)
    }
}

impl Deref for SelectorEventLoop {
    type Target = EventLoop;

    fn deref(&self) -> &EventLoop {
        &self.0
    }
}

impl From<SelectorEventLoop> for EventLoop {
    fn from(el: SelectorEventLoop) -> Self {
        el.0
    }
}
