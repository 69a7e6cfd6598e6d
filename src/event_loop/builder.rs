//! Making a loop.

use std::cell::{Cell, OnceCell, RefCell};
use std::fmt;
use std::io;
use std::ops::Deref;
use std::panic::Location;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::time::Duration;

use crate::constants::{EVENT_INTERVAL, EVENT_PERIOD};
use crate::error::invalid_input;
use crate::event_loop::debug::DebugMode;
use crate::event_loop::host::WakeTargets;
use crate::event_loop::inspection::Inspecting;
use crate::event_loop::observe::Observers;
use crate::event_loop::root::RootWakers;
use crate::event_loop::services::Services;
use crate::event_loop::stats::TransportsWaiter;
use crate::event_loop::{Core, EventLoop, RunState, debug};
#[cfg(feature = "async-io")]
use crate::reactor::async_io::AsyncIo;
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
    /// `None`: the default.
    slow_callback_duration: Option<Duration>,
    event_interval: u32,
    event_period: Duration,
    spin: Duration,
    #[cfg(feature = "async-io")]
    drive_async_io: bool,
    name: Option<Box<str>>,
}

impl Builder {
    pub(crate) fn new() -> Self {
        Self {
            selector: None,
            clock: ClockSource::Monotonic,
            debug: None,
            slow_callback_duration: None,
            event_interval: EVENT_INTERVAL,
            event_period: EVENT_PERIOD,
            spin: Duration::ZERO,
            #[cfg(feature = "async-io")]
            drive_async_io: false,
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
        self.clock = ClockSource::of(clock);
        self
    }

    /// Turns debug mode on or off, whatever the environment variable `ROUNDELAY_DEBUG` says.
    pub fn debug(mut self, debug: bool) -> Self {
        self.debug = Some(debug);
        self
    }

    /// How long something may run, in debug mode, until the loop warns of it (100 milliseconds); see
    /// [`EventLoop::set_slow_callback_duration`].
    pub fn slow_callback_duration(mut self, duration: Duration) -> Self {
        self.slow_callback_duration = Some(duration);
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

    /// Has the loop's own wait drive the reactor of the crate `async-io` (false): what `async_io::Async` and
    /// `async_io::Timer` wait for wakes the loop's tasks on the loop's own thread. So do the libraries that are built on them,
    /// as async-net and zbus.
    ///
    /// They work without it as well: async-io has a thread of its own, named `async-io`, which waits for them and wakes the
    /// loop from there, at the cost of a change of threads (5 to 50 microseconds) and two system calls each time.
    ///
    /// # What it is good for, and what it costs
    ///
    /// In [`run_until_complete`](EventLoop::run_until_complete), [`run_forever`](EventLoop::run_forever) and
    /// [`block_on`](crate::block_on) the loop waits inside of `async_io::block_on`, whatever it waits for. A sleep takes seven
    /// system calls then instead of one, and five more if it has a deadline that is new. It pays where most of what the loop
    /// waits for is async-io's.
    ///
    /// Under work the loop drives async-io at least once in [`event_period`](Self::event_period), and the thread of async-io
    /// does so where a callback takes longer: what becomes ready while the loop is busy may be told by that thread. It wakes
    /// up a hundred times in a second meanwhile, some twelve times behind a sleep of more than ten milliseconds, and not at
    /// all while the loop sleeps.
    ///
    /// Where a turn is made by [`run_once`](EventLoop::run_once), as a host does, async-io is driven while that waits, and not
    /// in a call with a timeout of zero: in between, the thread of async-io does it, and each wait begins by taking the
    /// reactor from it.
    ///
    /// async-io has one reactor for the process. Of several loops that drive it one does at a time, and wakes the others'
    /// tasks; those wait in their own selectors. A child of `fork` has no thread of async-io's, and shares the parent's
    /// descriptors: async-io cannot be used there, and a loop that goes on in the child drives it no more.
    ///
    /// # Errors
    ///
    /// [`build`](Self::build) refuses it together with [`spin`](Self::spin), with a [`selector`](Self::selector) that has no
    /// descriptor, and (`Unsupported`) in a child of `fork` whose parent has made such a loop.
    ///
    /// ```
    /// use roundelay::EventLoop;
    /// use std::time::Duration;
    ///
    /// let el = EventLoop::builder().drive_async_io(true).build()?;
    /// el.run_until_complete(async {
    ///     async_io::Timer::after(Duration::from_millis(1)).await;
    /// })
    /// .unwrap();
    /// # std::io::Result::Ok(())
    /// ```
    #[cfg(feature = "async-io")]
    #[cfg_attr(docsrs, doc(cfg(feature = "async-io")))]
    pub fn drive_async_io(mut self, drive: bool) -> Self {
        self.drive_async_io = drive;
        self
    }

    /// What drives async-io, if it is to be.
    #[cfg(feature = "async-io")]
    fn driver(&self, selector: &dyn Selector) -> io::Result<Option<Rc<AsyncIo>>> {
        if !self.drive_async_io {
            return Ok(None);
        }
        if !self.spin.is_zero() {
            return Err(invalid_input(
                "Builder::drive_async_io() and Builder::spin() exclude each other: a loop that spins asks its own selector",
            ));
        }
        AsyncIo::new(selector).map(|async_io| Some(Rc::new(async_io)))
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
    #[track_caller]
    pub fn build(mut self) -> io::Result<EventLoop> {
        let created_at = Location::caller();
        if self.event_interval == 0 {
            return Err(invalid_input("Builder::event_interval(): it must be at least 1"));
        }
        let foreign = self.selector.is_some();
        let selector = match self.selector.take() {
            Some(selector) => selector,
            None => default_selector()?,
        };
        let notifier = selector.notifier();
        #[cfg(feature = "async-io")]
        let async_io = self.driver(&*selector)?;
        #[cfg(feature = "async-io")]
        let notifier = match &async_io {
            Some(async_io) => async_io.notifier(notifier),
            None => notifier,
        };
        let wake = Arc::new(WakeTargets::new(notifier));
        let targets = wake.clone();
        let now = self.clock.now();
        let resolution = self.clock.own().map_or_else(|| MonotonicClock.resolution(), Clock::resolution);
        let local = Local::new(self.clock.clone(), Box::new(move || targets.wake()));
        let mut clock_wake = None;
        if let Some(clock) = self.clock.own() {
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
        let own_clock = self.clock.own().is_some();
        let core = Rc::new_cyclic(|me: &Weak<Core>| Core {
            me: me.clone(),
            local,
            reactor: Rc::new(RefCell::new(Reactor::new(selector, foreign))),
            clock: self.clock,
            clock_wake: Cell::new(clock_wake),
            backend_fd: OnceCell::new(),
            resolution,
            name: self.name,
            created_at: Cell::new(created_at),
            wake,
            run_state: Cell::new(RunState::Idle),
            has_run: Cell::new(false),
            told_run: Cell::new(None),
            stopping: Cell::new(false),
            ending: Cell::new(false),
            hosted: Cell::new(false),
            driven: Cell::new(false),
            turns_since_wait: Cell::new(0),
            waited_at: Cell::new(now),
            event_interval: self.event_interval,
            event_period: self.event_period,
            spin: if own_clock { Duration::ZERO } else { self.spin },
            #[cfg(feature = "async-io")]
            async_io: RefCell::new(async_io),
            fired: Cell::new(Vec::new()),
            root_waker: RootWakers::default(),
            exception_handler: RefCell::new(None),
            handling: Cell::new(0),
            task_factory: RefCell::new(None),
            eager_tasks: Cell::new(false),
            debug: DebugMode::default(),
            #[cfg(feature = "test-util")]
            virtual_time: OnceCell::new(),
            #[cfg(feature = "test-util")]
            order: OnceCell::new(),
            inspection: Inspecting::default(),
            services: Services::default(),
            transports_waiter: TransportsWaiter::default(),
            observers: Observers::default(),
            receive_buffer: Cell::new(None),
            spare_buffers: Cell::default(),
        });
        let me: Weak<dyn Report> = core.me.clone();
        core.local.set_report(me);
        let el = EventLoop { core, owner: true };
        el.set_debug(self.debug.unwrap_or_else(debug::from_environment));
        if let Some(duration) = self.slow_callback_duration {
            el.set_slow_callback_duration(duration);
        }
        note!(DEBUG, "roundelay::loop", "using selector {}: {el:?}", el.selector_name());
        Ok(el)
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
    #[track_caller]
    pub fn new() -> io::Result<Self> {
        EventLoop::new().map(Self)
    }

    /// A loop on a selector of your choice.
    ///
    /// # Errors
    ///
    /// As [`Builder::build`].
    #[track_caller]
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
