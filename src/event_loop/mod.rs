//! The loop: joins the scheduler and the reactor, and opens no socket itself.
//!
//! # The iteration contract
//!
//! One turn of the loop:
//!
//! 1. Forget cancelled timers; find the next deadline.
//! 2. Poll timeout: zero if anything is ready or the loop is stopping; else the time to the next deadline, at most
//!    24 hours; else without end.
//! 3. Ask the selector. Each event becomes an item at the tail of the ready queue.
//! 4. Timers that are due (`when <= now + clock resolution`) go to the tail in order of (when, sequence of creation).
//! 5. What other threads have posted goes to the tail in the order in which it was posted, at most 4096 of it.
//! 6. Take the length of the ready queue; run exactly that many items, first in, first out. What they schedule runs in
//!    the next turn: I/O and timers cannot be starved by callbacks that schedule callbacks.
//! 7. If `stop()` was called, leave.
//!
//! A ready item is a task, a callback, an event for a transport, a job from another thread, or the root: the future of
//! `run_until_complete`, polled in place, in its turn. There is one queue, so order is one fact.
//!
//! While there is ready work the selector need not be asked on every turn: it is asked at least once in 61 turns and at
//! least once in 250 microseconds (both settable; an interval of 1 is asyncio's own behaviour), and always in the first
//! turn of a run, when nothing is ready, when a timer is due, and when the loop is stopping. A selector of the loop's own
//! making with which nothing is registered, and for which no foreign loop waits, is asked only to sleep: it could say
//! nothing else.
//!
//! No one starves the others: one event lets a transport read at most 16 times or 256 KiB, and it goes on in the next
//! turn; a task whose I/O is always ready yields after 128 completions or 4 MiB in one poll. A turn in which nothing
//! happened costs one system call.

mod abstract_loop;
#[cfg(feature = "async-io")]
mod async_io;
mod builder;
mod callbacks;
mod debug;
pub(crate) mod dump;
mod eager;
pub(crate) mod exception;
pub(crate) mod fork;
pub(crate) mod grace;
pub(crate) mod host;
pub(crate) mod inspection;
pub(crate) mod job;
pub(crate) mod json;
pub(crate) mod lost;
pub(crate) mod metrics;
pub(crate) mod observe;
pub(crate) mod remote;
pub(crate) mod root;
pub(crate) mod run;
pub(crate) mod running;
pub(crate) mod services;
pub(crate) mod source;
mod stalls;
pub(crate) mod stats;
pub(crate) mod tasks;
pub(crate) mod timeline;
pub(crate) mod timer;
pub(crate) mod unfinished;
#[cfg(feature = "test-util")]
pub(crate) mod virtual_time;
pub(crate) mod wait;
pub(crate) mod waiters;
pub(crate) mod watch;

pub use abstract_loop::{AbstractEventLoop, AbstractHandle};
pub use builder::{Builder, LoopKind, SelectorEventLoop};
pub use dump::{TaskDump, TaskNode};

use std::cell::{Cell, OnceCell, RefCell};
use std::fmt;
use std::io;
use std::panic::Location;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::event_loop::debug::DebugMode;
use crate::event_loop::exception::ExceptionHandler;
use crate::event_loop::host::WakeTargets;
use crate::event_loop::inspection::Inspecting;
use crate::event_loop::observe::Observers;
use crate::event_loop::root::RootWakers;
use crate::event_loop::services::Services;
use crate::event_loop::stats::TransportsWaiter;
use crate::event_loop::tasks::TaskFactory;
use crate::os::fd::OwnedFd;
use crate::reactor::registration::Registration;
use crate::reactor::slot::Slot;
use crate::reactor::{Fired, Reactor};
use crate::sched::Local;
use crate::sched::clock::ClockSource;
use crate::sched::ready::Ready;

/// The reactor as the loop uses it.
pub(crate) type LoopReactor = Reactor<Rc<dyn Ready>>;
pub(crate) type LoopRegistration = Registration<Rc<dyn Ready>>;
pub(crate) type LoopSlot = Slot<Rc<dyn Ready>>;
pub(crate) type LoopFired = Fired<Rc<dyn Ready>>;

/// The name of the program, without its folder.
pub(crate) fn program_name() -> String {
    let path = std::env::args_os().next().unwrap_or_default();
    std::path::Path::new(&path).file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// Where the loop is in a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum RunState {
    Idle,
    Running,
    /// Running, and to be closed when the run ends: its owner was dropped meanwhile.
    ClosingAfterwards,
}

/// Everything about a loop, behind its handles.
pub(crate) struct Core {
    pub(crate) me: Weak<Core>,
    pub(crate) local: Rc<Local>,
    pub(crate) reactor: Rc<RefCell<LoopReactor>>,
    clock: ClockSource,
    /// What a clock of the application's wakes the loop by; it has a weak reference.
    clock_wake: Cell<Option<Arc<dyn Fn() + Send + Sync>>>,
    /// The selector's descriptor as it was lent to a host.
    backend_fd: OnceCell<OwnedFd>,
    resolution: Duration,
    name: Option<Box<str>>,
    pub(crate) created_at: Cell<&'static Location<'static>>,
    wake: Arc<WakeTargets>,
    run_state: Cell<RunState>,
    /// Whether it was run.
    has_run: Cell<bool>,
    /// The method of the run that is under way, if its beginning was told to `tracing`.
    told_run: Cell<Option<&'static str>>,
    /// Whether `stop()` was called.
    stopping: Cell<bool>,
    /// Whether a runner ends it in an orderly way, and closes what is open.
    pub(crate) ending: Cell<bool>,
    /// Whether a foreign loop was told how to wait for this one.
    hosted: Cell<bool>,
    /// Whether the foreign loop has it as a future: see [`EventLoop::drive`].
    pub(crate) driven: Cell<bool>,
    /// Turns since the selector was asked.
    turns_since_wait: Cell<u32>,
    /// When it was asked.
    waited_at: Cell<Instant>,
    event_interval: u32,
    event_period: Duration,
    /// How long the selector is asked again and again before the loop sleeps.
    spin: Duration,
    /// By which its sleep drives async-io's reactor.
    #[cfg(feature = "async-io")]
    async_io: RefCell<Option<Rc<crate::reactor::async_io::AsyncIo>>>,
    /// What the latest wait found out; kept for its memory.
    fired: Cell<Vec<LoopFired>>,
    /// What woke the latest root; kept for its memory.
    root_waker: RootWakers,
    exception_handler: RefCell<Option<ExceptionHandler>>,
    /// How many calls of it are on the stack.
    handling: Cell<u32>,
    task_factory: RefCell<Option<TaskFactory>>,
    /// Whether tasks begin where they are made.
    eager_tasks: Cell<bool>,
    debug: DebugMode,
    /// How time passes under `testing`, where it does not pass by itself.
    #[cfg(feature = "test-util")]
    pub(crate) virtual_time: OnceCell<Rc<virtual_time::VirtualTime>>,
    /// Another order than that of the queue.
    #[cfg(feature = "test-util")]
    pub(crate) order: OnceCell<crate::sched::order::Order>,
    inspection: Inspecting,
    pub(crate) services: Services,
    transports_waiter: TransportsWaiter,
    observers: Observers,
    /// The receive buffer, lent to whoever reads; made when first used.
    receive_buffer: Cell<Option<Box<[u8]>>>,
    /// More of them, where a transport stands on another: as many as have been lent at the same time.
    spare_buffers: Cell<Vec<Box<[u8]>>>,
}

impl Core {
    /// The time of the loop's clock.
    #[inline]
    pub(crate) fn now(&self) -> Instant {
        self.clock.now()
    }

    /// The time of the loop's clock, in nanoseconds since the loop was made.
    #[inline]
    fn nanos(&self) -> u64 {
        self.local.counters.read(&self.clock)
    }

    /// How long to sleep, at `now`, until a deadline.
    fn sleep_until(&self, deadline: Instant, now: Instant) -> Option<Duration> {
        match self.clock.own() {
            None => Some(deadline.saturating_duration_since(now)),
            Some(clock) => clock.sleep_until(deadline),
        }
    }

    /// Whether the clock is one of the application's.
    pub(crate) fn has_own_clock(&self) -> bool {
        self.clock.own().is_some()
    }

    /// How many turns have begun.
    pub(crate) fn turn_number(&self) -> u64 {
        self.local.counters.turns.get()
    }

    pub(crate) fn is_running(&self) -> bool {
        self.run_state.get() != RunState::Idle
    }

    pub(crate) fn is_open(&self) -> bool {
        self.local.is_open()
    }

    /// Lends the receive buffer. Where a transport stands on another, what the lower one has received is lent while the
    /// upper one receives, which gets a spare one.
    pub(crate) fn with_receive_buffer<R>(&self, f: impl FnOnce(&mut [u8]) -> R) -> R {
        let buffer = self.receive_buffer.take();
        let mut buffer = buffer.unwrap_or_else(|| self.spare_buffer());
        let result = f(&mut buffer);
        if let Some(other) = self.receive_buffer.replace(Some(buffer)) {
            let mut spares = self.spare_buffers.take();
            spares.push(other);
            self.spare_buffers.set(spares);
        }
        result
    }

    #[cold]
    fn spare_buffer(&self) -> Box<[u8]> {
        let mut spares = self.spare_buffers.take();
        let spare = spares.pop();
        self.spare_buffers.set(spares);
        spare.unwrap_or_else(|| vec![0; crate::constants::READ_SIZE].into_boxed_slice())
    }
}

impl Drop for Core {
    fn drop(&mut self) {
        // The owner closes the loop before the last handle can go; this is for one that was never built to its end.
        self.local.part();
        if self.local.counters.tasks.live() > 0 {
            // The selector has panicked while the loop was being closed. Wakers of what is left may be anywhere, and look
            // at it: it is leaked.
            std::mem::forget(self.local.clone());
        }
        if let (Some(fd), true) = (self.backend_fd.take(), self.local.is_inherited()) {
            crate::os::fork::give_up(fd);
        }
    }
}

/// An event loop: runs callbacks, tasks, timers, transports and servers on one thread.
///
/// The value that [`new`](Self::new) or the [`builder`](Self::builder) gives owns the loop: dropping it closes the loop.
/// Clones, and what [`get_running_loop`](crate::get_running_loop) gives, are handles: they keep nothing open, so a task
/// may hold one. A loop belongs to the thread that made it; other threads talk to it through its
/// [`Remote`](crate::Remote).
///
/// Most applications need no more than [`block_on`](crate::block_on).
///
/// ```
/// use roundelay::EventLoop;
/// use std::time::Duration;
///
/// let el = EventLoop::new()?;
/// let handle = el.clone();
/// el.call_soon(|| println!("hello"));
/// el.call_later(Duration::from_millis(5), move || handle.stop());
/// el.run_forever();
/// el.close();
/// # std::io::Result::Ok(())
/// ```
///
/// A loop cannot leave its thread:
///
/// ```compile_fail
/// let el = roundelay::EventLoop::new().unwrap();
/// std::thread::spawn(move || el.run_forever());
/// ```
#[doc(alias("BaseEventLoop", "loop"))]
pub struct EventLoop {
    pub(crate) core: Rc<Core>,
    /// Whether dropping this value closes the loop.
    owner: bool,
}

impl EventLoop {
    /// A loop on the platform's best selector.
    ///
    /// # Errors
    ///
    /// The operating system's, most often for want of descriptors.
    #[track_caller]
    pub fn new() -> io::Result<Self> {
        Self::builder().build()
    }

    /// A loop with settings of your own.
    pub fn builder() -> Builder {
        Builder::new()
    }

    /// A handle to a loop.
    pub(crate) fn handle(core: Rc<Core>) -> Self {
        Self { core, owner: false }
    }

    /// Whether the loop is in one of the `run_*` methods.
    pub fn is_running(&self) -> bool {
        self.core.is_running()
    }

    /// Whether the loop was closed. True as well in a child of `fork` that has inherited it: see
    /// [`after_fork_child`](Self::after_fork_child).
    pub fn is_closed(&self) -> bool {
        !self.core.is_open()
    }

    /// The time of the loop's clock: monotonic, and the one that deadlines are in. It goes on during a callback.
    pub fn time(&self) -> Instant {
        self.core.now()
    }

    /// The smallest step of the loop's clock; a timer is due when its deadline is at most this far ahead.
    pub fn clock_resolution(&self) -> Duration {
        self.core.resolution
    }

    /// The number of the loop, which no other loop of the process has.
    pub fn id(&self) -> u64 {
        self.core.local.loop_id()
    }

    /// The name given by [`Builder::name`].
    pub fn name(&self) -> Option<&str> {
        self.core.name.as_deref()
    }

    /// Which kind of loop it is.
    pub fn kind(&self) -> LoopKind {
        LoopKind::Selector
    }

    /// The name of the selector: `epoll`, `polling` or what your own says; empty once the loop is closed.
    pub fn selector_name(&self) -> &'static str {
        self.core.reactor.borrow().selector().map_or("", |selector| selector.name())
    }
}

impl Clone for EventLoop {
    /// A handle: it keeps nothing open.
    fn clone(&self) -> Self {
        Self::handle(self.core.clone())
    }
}

impl Drop for EventLoop {
    fn drop(&mut self) {
        if !self.owner {
            return;
        }
        if self.core.is_open() {
            self.core.resource_warning(format_args!("unclosed event loop {self:?}"), Some(self.core.created_at.get()));
        }
        if self.is_running() {
            // Dropped from within one of its own callbacks: it ends its turn and is closed then.
            self.core.run_state.set(RunState::ClosingAfterwards);
            self.stop();
        } else {
            self.close();
        }
        // A handler that has captured a handle to its loop would keep both for ever.
        self.core.local.dispose(self.core.exception_handler.take());
    }
}

impl fmt::Debug for EventLoop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "<EventLoop {}", self.id())?;
        if let Some(name) = self.name() {
            write!(f, " {name:?}")?;
        }
        write!(f, " running={} closed={} debug={}>", self.is_running(), self.is_closed(), self.debug())
    }
}
