//! Debug mode, and the warnings it gives about what was left open.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::panic::{AssertUnwindSafe, Location, catch_unwind};
use std::rc::Rc;
use std::time::Duration;

use crate::constants::{NAMED_AT_END, SLOW_CALLBACK};
use crate::event_loop::exception::emit;
use crate::event_loop::observe::Observer;
use crate::event_loop::stalls::Stalls;
use crate::event_loop::{Core, EventLoop};
use crate::sched::info::TaskState;

/// Whether the environment asks for debug mode: `ROUNDELAY_DEBUG` with any value but empty and `0`.
pub(crate) fn from_environment() -> bool {
    std::env::var_os("ROUNDELAY_DEBUG").is_some_and(|value| !value.is_empty() && value != "0")
}

/// What debug mode consists of.
pub(crate) struct DebugMode {
    on: Cell<bool>,
    /// See [`EventLoop::set_slow_callback_duration`].
    slow: Cell<Duration>,
    /// Who looks for what takes too long, while it is on.
    stalls: RefCell<Option<Rc<dyn Observer>>>,
}

impl Default for DebugMode {
    fn default() -> Self {
        Self { on: Cell::new(false), slow: Cell::new(SLOW_CALLBACK), stalls: RefCell::new(None) }
    }
}

impl EventLoop {
    /// Whether debug mode is on.
    #[doc(alias = "get_debug")]
    pub fn debug(&self) -> bool {
        self.core.is_debug()
    }

    /// Turns debug mode on or off, at any time. It begins as the builder or the environment variable
    /// `ROUNDELAY_DEBUG` (any value but empty and `0`) says.
    ///
    /// In debug mode the loop warns, by `tracing` (target `roundelay`) or on stderr where no subscriber takes it:
    ///
    /// - of each callback, step of a task or event of a transport that ran for
    ///   [`slow_callback_duration`](Self::slow_callback_duration) or longer, and has kept all others from running: what it
    ///   was, where it was made, and how long it took;
    /// - of a turn of the loop that took so long though nothing in it did: how many ran in it, and which of them the
    ///   longest;
    /// - of a timer that is found to be due so much too late: by how much, and what has held it up;
    /// - of what is closed by being dropped, or by the end of the loop, and of tasks that were pending then, each with the
    ///   place where it was made. A [`Runner`](crate::Runner) and [`block_on`](crate::block_on) end everything in an
    ///   orderly way, and leave nothing to warn of. See the chapter on errors of the guide;
    /// - of each task that nothing can wake any more: one that is pending, and of whose wakers nobody has kept one, such as
    ///   a task that awaits `std::future::pending()`, or a channel of which the other end was forgotten. Such a task can
    ///   only be cancelled.
    ///
    /// No stall is reported twice: a turn with something slow in it is not, nor a timer that was held up by what was
    /// reported before it. So a late timer is one that no callback has held up, but a machine that slept, or a host that
    /// does not let the loop run.
    ///
    /// Besides, the loop is [inspected](Self::set_inspection), `sock_*` methods refuse sockets that would block the loop,
    /// reports of the default exception handler that do not know where their subject was made name what was running, and
    /// waits for events are logged at the level of debugging.
    ///
    /// asyncio's debug mode looks for one more thing, calls from another thread than the loop's. Here they do not compile:
    ///
    /// ```compile_fail
    /// let el = roundelay::EventLoop::new().unwrap();
    /// std::thread::spawn(move || el.call_soon(|| println!("from another thread")));
    /// ```
    ///
    /// Other threads have a [`Remote`](crate::Remote):
    ///
    /// ```
    /// let el = roundelay::EventLoop::new()?;
    /// let remote = el.remote();
    /// std::thread::spawn(move || remote.post(|| println!("posted by another thread"))).join().unwrap().unwrap();
    /// assert_eq!(el.run_once(None)?, 1);
    /// # std::io::Result::Ok(())
    /// ```
    ///
    /// It costs two readings of the clock for each item that runs. A change counts from the next item on.
    #[doc(alias = "PYTHONASYNCIODEBUG")]
    pub fn set_debug(&self, debug: bool) {
        self.core.set_debug(debug);
    }

    /// How long something may run, in debug mode, until the loop warns of it: see [`set_debug`](Self::set_debug). 100
    /// milliseconds, unless it was set.
    pub fn slow_callback_duration(&self) -> Duration {
        self.core.debug.slow.get()
    }

    /// Sets the [`slow_callback_duration`](Self::slow_callback_duration), in the time of the loop's clock. With zero
    /// everything that runs is reported, but neither turns nor timers are; with `Duration::MAX` nothing is.
    ///
    /// ```
    /// use roundelay::EventLoop;
    /// use std::time::Duration;
    ///
    /// let el = EventLoop::builder().debug(true).build()?;
    /// el.set_slow_callback_duration(Duration::from_millis(10));
    /// // WARN roundelay: Executing <Handle my_program::main::{{closure}} at src/main.rs:5:4> took 0.020 seconds
    /// el.call_soon(|| std::thread::sleep(Duration::from_millis(20)));
    /// el.run_once(None)?;
    /// # std::io::Result::Ok(())
    /// ```
    pub fn set_slow_callback_duration(&self, duration: Duration) {
        self.core.debug.slow.set(duration);
    }
}

impl Core {
    pub(crate) fn is_debug(&self) -> bool {
        self.debug.on.get()
    }

    pub(super) fn set_debug(&self, debug: bool) {
        if self.debug.on.replace(debug) == debug {
            return;
        }
        let stalls = debug.then(|| Rc::new(Stalls::default()) as Rc<dyn Observer>);
        let before = self.debug.stalls.replace(stalls.clone());
        if let Some(before) = before {
            self.unobserve(&before);
        }
        if let Some(stalls) = stalls {
            self.observe(stalls);
        }
        self.inspect();
    }

    /// What debug mode calls slow.
    pub(super) fn slow_duration(&self) -> Duration {
        self.debug.slow.get()
    }

    fn warns_of_leftovers(&self) -> bool {
        self.is_debug() && !self.ending.get() && !self.is_inherited()
    }

    /// In debug mode, names the tasks that the end of the loop cuts short though nobody has asked them to end.
    pub(crate) fn warn_of_pending_tasks(&self) {
        if !self.warns_of_leftovers() {
            return;
        }
        let tasks = self.local.all_tasks().into_iter();
        let pending: Vec<_> = tasks.filter(|task| task.state == TaskState::Pending && !task.is_root).collect();
        for task in pending.iter().take(NAMED_AT_END) {
            self.resource_warning(format_args!("the loop is closed while a task is pending: {task:?}"), None);
        }
        if let Some(more @ 1..) = pending.len().checked_sub(NAMED_AT_END) {
            self.resource_warning(format_args!("the loop is closed while {more} more tasks are pending"), None);
        }
    }

    /// In debug mode, tells of something that was left open; not while the orderly end closes everything, by which tasks
    /// drop what they would have closed. In a child of `fork` it is the parent's.
    pub(crate) fn resource_warning(&self, text: fmt::Arguments<'_>, created_at: Option<&'static Location<'static>>) {
        if self.warns_of_leftovers() {
            let place = created_at.map(|place| format!("\n  created at {place}")).unwrap_or_default();
            self.debug_warning(format_args!("resource warning: {text}{place}"));
        }
    }

    /// A warning that debug mode alone gives; when, is that of `resource_warning`.
    pub(crate) fn debug_warning(&self, text: fmt::Arguments<'_>) {
        if !self.warns_of_leftovers() {
            return;
        }
        // The subscriber is the application's, and must not unwind into a destructor.
        if let Err(payload) = catch_unwind(AssertUnwindSafe(|| emit(tracing::Level::WARN, &text.to_string()))) {
            self.local.caught("Exception in a subscriber", payload, None, None);
        }
    }
}
