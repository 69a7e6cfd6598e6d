//! Loops for tests, and running a test on one.

use std::cell::RefCell;
use std::fmt;
use std::io;
use std::rc::Rc;
use std::time::Duration;

use crate::constants::{IO_GRACE, REAL_LIMIT};
use crate::event_loop::root::RunRoot;
use crate::event_loop::virtual_time::{Passing, VirtualTime};
use crate::event_loop::{self, EventLoop};
use crate::reactor::Selector;
use crate::runner::{refuse_nesting, run_to_end};
use crate::sched::clock::ManualClock;
use crate::sched::order::Order;

/// Runs a test on a loop of its own whose time jumps: as [`Builder::block_on`] with the settings that [`Builder::new`]
/// begins with.
///
/// ```
/// use std::time::{Duration, Instant};
///
/// use roundelay::testing;
///
/// let began = Instant::now();
/// testing::block_on(async {
///     let slept = roundelay::timeout(Duration::from_secs(3600), roundelay::sleep(Duration::from_secs(1800))).await;
///     assert!(slept.is_ok());
///     assert_eq!(testing::elapsed(), Duration::from_secs(1800));
/// });
/// assert!(began.elapsed() < Duration::from_secs(1800));
/// ```
///
/// # Panics
///
/// As [`Builder::block_on`].
#[track_caller]
pub fn block_on<F: IntoFuture>(future: F) -> F::Output {
    Builder::new().run("testing::block_on", future)
}

/// Settings for a loop whose time is virtual.
#[must_use = "a builder does nothing before block_on() or build()"]
pub struct Builder {
    inner: event_loop::Builder,
    passing: Passing,
    start: Duration,
    strict: bool,
    seed: Option<u64>,
    permute_callbacks: bool,
    permute_timers: bool,
}

impl Builder {
    /// Time jumps while nothing is outstanding, and reports fail the test.
    pub fn new() -> Self {
        let passing = Passing { jump: true, with_io: false, with_jobs: false, grace: IO_GRACE, real_limit: REAL_LIMIT };
        Self {
            inner: EventLoop::builder(),
            passing,
            start: Duration::ZERO,
            strict: true,
            seed: None,
            permute_callbacks: false,
            permute_timers: false,
        }
    }

    /// Has [`elapsed`](super::elapsed) begin at this time instead of zero.
    ///
    /// # Panics
    ///
    /// If it is more than 292 years: so far the time can be moved.
    #[track_caller]
    pub fn start(mut self, start: Duration) -> Self {
        assert!(i64::try_from(start.as_nanos()).is_ok(), "testing::Builder::start(): {start:?} is more than 292 years");
        self.start = start;
        self
    }

    /// Whether time jumps to the next deadline when the loop has nothing to do and nothing is outstanding (true). Otherwise
    /// it stands still until [`advance`](super::advance) is called.
    pub fn jump(mut self, jump: bool) -> Self {
        self.passing.jump = jump;
        self
    }

    /// Whether time jumps also while descriptors are waited for that somebody else may make ready (false): a pipe, a child
    /// process, a connection whose other end is not in the loop.
    ///
    /// What they would have said comes too late then, if it does not come within [`io_grace`](Self::io_grace).
    pub fn jump_with_io(mut self, jump: bool) -> Self {
        self.passing.with_io = jump;
        self
    }

    /// Whether time jumps also while a job of an executor is outstanding, or somebody is [`busy`](super::busy) (false).
    /// The end of the loop waits for them all the same.
    pub fn jump_with_jobs(mut self, jump: bool) -> Self {
        self.passing.with_jobs = jump;
        self
    }

    /// How long, in real time, the loop waits before each jump for what is on its way between two descriptors of its own
    /// (1 ms). It does not where no descriptor is registered.
    pub fn io_grace(mut self, grace: Duration) -> Self {
        self.passing.grace = grace;
        self
    }

    /// How long, in real time, nothing may happen while time stands still, before the test fails with what is outstanding
    /// and which tasks there are (10 s).
    pub fn real_limit(mut self, limit: Duration) -> Self {
        self.passing.real_limit = limit;
        self
    }

    /// Whether [`block_on`](Self::block_on) fails where something was reported to the exception handler, and where the
    /// loop's statistics say that something was not closed (true).
    ///
    /// A test that sets an [exception handler](EventLoop::set_exception_handler) of its own hears of the reports instead.
    pub fn strict(mut self, strict: bool) -> Self {
        self.strict = strict;
        self
    }

    /// Has tasks that are ready at the same time run in an order by this seed, not in that in which they became ready: to
    /// find out whether anything relies on that. The same seed gives the same order, on every platform and in every release.
    ///
    /// Turned around, in each turn, are tasks that stand next to each other in the queue, and among them the future that is
    /// run. What is promised stays as it is: a callback runs after what was queued before it, and before what was queued
    /// behind it; timers of equal deadline run first in, first out.
    ///
    /// ```
    /// use std::cell::RefCell;
    /// use std::rc::Rc;
    ///
    /// use roundelay::testing;
    ///
    /// let order = |seed| {
    ///     testing::Builder::new().seed(seed).block_on(async {
    ///         let log = Rc::new(RefCell::new(String::new()));
    ///         for name in ['a', 'b', 'c', 'd'] {
    ///             let log = log.clone();
    ///             roundelay::spawn(async move { log.borrow_mut().push(name) });
    ///         }
    ///         testing::settle().await;
    ///         log.take()
    ///     })
    /// };
    /// assert_eq!(order(7), order(7));
    /// assert!((0..20).any(|seed| order(seed) != "abcd"));
    /// ```
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = Some(seed);
        self
    }

    /// With a seed: whether callbacks are turned around with the tasks, against what is promised (false). What transports
    /// tell their protocols, and what other threads have posted, keeps its place all the same.
    ///
    /// Callbacks of timers are among them, whether [`permute_timers`](Self::permute_timers) is set or not.
    pub fn permute_callbacks(mut self, permute: bool) -> Self {
        self.permute_callbacks = permute;
        self
    }

    /// With a seed: whether callbacks of timers of equal deadline are turned around among themselves, against what is
    /// promised (false).
    pub fn permute_timers(mut self, permute: bool) -> Self {
        self.permute_timers = permute;
        self
    }

    /// Uses this selector instead of the platform's best.
    pub fn selector(mut self, selector: impl Selector) -> Self {
        self.inner = self.inner.selector(selector);
        self
    }

    /// Turns debug mode on or off, whatever the environment says.
    pub fn debug(mut self, debug: bool) -> Self {
        self.inner = self.inner.debug(debug);
        self
    }

    /// Makes the loop, on this thread.
    ///
    /// # Errors
    ///
    /// The operating system's, most often for want of descriptors.
    pub fn build(self) -> io::Result<EventLoop> {
        let clock = ManualClock::new();
        clock.advance(self.start);
        let el = self.inner.clock(clock.clone()).build()?;
        let time = VirtualTime::new(clock, self.passing, &el.core.local);
        let _ = el.core.virtual_time.set(Rc::new(time));
        if let Some(seed) = self.seed {
            let _ = el.core.order.set(Order::new(seed, self.permute_callbacks, self.permute_timers));
        }
        Ok(el)
    }

    /// Makes a loop, runs the future on it, and ends everything in an orderly way, as [`block_on`](crate::block_on) does.
    ///
    /// # Panics
    ///
    /// As [`block_on`](crate::block_on); where nothing happens for the [real limit](Self::real_limit); and where
    /// [`strict`](Self::strict) finds something.
    #[track_caller]
    pub fn block_on<F: IntoFuture>(self, future: F) -> F::Output {
        self.run("testing::Builder::block_on", future)
    }

    #[track_caller]
    fn run<F: IntoFuture>(self, method: &'static str, future: F) -> F::Output {
        refuse_nesting(method);
        let strict = self.strict;
        let el = match self.build() {
            Ok(el) => el,
            Err(error) => panic!("{method}(): cannot make an event loop: {error}"),
        };
        let reports = strict.then(|| Reports::of(&el));
        let output = run_to_end(&el, RunRoot::plain(method), future);
        if let Some(reports) = reports {
            reports.check(method, &el);
        }
        output
    }
}

impl Default for Builder {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Builder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("Builder");
        debug.field("jump", &self.passing.jump).field("jump_with_io", &self.passing.with_io);
        debug.field("jump_with_jobs", &self.passing.with_jobs).field("real_limit", &self.passing.real_limit);
        debug.field("strict", &self.strict).field("seed", &self.seed).finish_non_exhaustive()
    }
}

/// What was reported during a test, and not to a handler of its own.
struct Reports(Rc<RefCell<Vec<String>>>);

impl Reports {
    fn of(el: &EventLoop) -> Self {
        let reports = Self(Rc::default());
        let texts = reports.0.clone();
        el.set_exception_handler(Some(Rc::new(move |el, context| {
            // In case that the rest of it cannot be shown.
            let place = texts.borrow().len();
            texts.borrow_mut().push(context.message.clone().into_owned());
            // Also where it can be seen if the test fails for another reason.
            el.default_exception_handler(context);
            let text = context.to_string();
            texts.borrow_mut()[place] = text;
        })));
        reports
    }

    /// After the end of the loop.
    #[track_caller]
    fn check(self, method: &str, el: &EventLoop) {
        let texts = self.0.take();
        assert!(
            texts.is_empty(),
            "{method}(): reported to the exception handler, which strict(false) would let pass:\n{}",
            texts.join("\n")
        );
        let mut stats = el.stats();
        // What the test returns may hold some.
        stats.futures = Default::default();
        assert!(stats.is_balanced(), "{method}(): something was not closed, by the loop's statistics: {stats:#?}");
    }
}
