//! What the tests share: a loop of each kind, and the checks that every test ends with.
//!
//! Each test runs alone in its process's test binary, so that descriptors can be counted before and after. At its end
//! the loop's statistics must be balanced, no descriptor may be left, and nothing may have been reported to the
//! exception handler but what the test has taken with [`take_reports`].

#![allow(dead_code, unreachable_pub)]

mod interrupts;

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::io;
use std::os::fd::BorrowedFd;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};

pub use interrupts::heed_interrupts;
use roundelay::selector::{Epoll, Interest, Mode, Polling, Selector};
use roundelay::{Builder, EventLoop, JoinError, ManualClock, Task};

/// How long a test waits for something that must happen, before it fails.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// The selectors that every network test runs on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The native one.
    Epoll,
    /// The portable one.
    Polling,
    /// One that knows no edges: what the loop does where it has to make do with levels.
    Level,
}

impl Kind {
    /// A builder of a loop on this selector. On a busy machine anything may be slow, of which debug mode is not to warn.
    pub fn builder(self) -> Builder {
        let builder = EventLoop::builder().slow_callback_duration(Duration::MAX);
        match self {
            Kind::Epoll => builder.selector(Epoll::new().unwrap()),
            Kind::Polling => builder.selector(Polling::new().unwrap()),
            Kind::Level => builder.selector(LevelOnly(Epoll::new().unwrap())),
        }
    }
}

#[cfg(feature = "test-util")]
impl Kind {
    /// The same of a loop whose time is virtual.
    pub fn testing(self) -> roundelay::testing::Builder {
        let builder = roundelay::testing::Builder::new();
        match self {
            Kind::Epoll => builder.selector(Epoll::new().unwrap()),
            Kind::Polling => builder.selector(Polling::new().unwrap()),
            Kind::Level => builder.selector(LevelOnly(Epoll::new().unwrap())),
        }
    }
}

/// The methods that a selector of the application's own, which is one around another, leaves to that one.
#[macro_export]
macro_rules! left_to_the_inner_one {
    ($($method:ident)*) => { $($crate::left_to_the_inner_one!(@ $method);)* };
    (@ supports_edge) => {
        fn supports_edge(&self) -> bool {
            self.0.supports_edge()
        }
    };
    (@ add) => {
        fn add(
            &mut self,
            fd: std::os::fd::BorrowedFd<'_>,
            key: u64,
            interest: roundelay::selector::Interest,
            mode: roundelay::selector::Mode,
        ) -> std::io::Result<()> {
            self.0.add(fd, key, interest, mode)
        }
    };
    (@ modify) => {
        fn modify(
            &mut self,
            fd: std::os::fd::BorrowedFd<'_>,
            key: u64,
            interest: roundelay::selector::Interest,
            mode: roundelay::selector::Mode,
        ) -> std::io::Result<()> {
            self.0.modify(fd, key, interest, mode)
        }
    };
    (@ delete) => {
        fn delete(&mut self, fd: std::os::fd::BorrowedFd<'_>) -> std::io::Result<()> {
            self.0.delete(fd)
        }
    };
    (@ wait) => {
        fn wait(
            &mut self,
            timeout: Option<std::time::Duration>,
            events: &mut Vec<roundelay::selector::Event>,
        ) -> std::io::Result<()> {
            self.0.wait(timeout, events)
        }
    };
    (@ notifier) => {
        fn notifier(&self) -> std::sync::Arc<dyn roundelay::selector::Notify> {
            self.0.notifier()
        }
    };
    (@ backend_fd) => {
        fn backend_fd(&self) -> Option<std::os::fd::BorrowedFd<'_>> {
            self.0.backend_fd()
        }
    };
}

/// A selector of the application's own: epoll, without edges.
struct LevelOnly(Epoll);

impl Selector for LevelOnly {
    fn name(&self) -> &'static str {
        "level"
    }
    fn supports_edge(&self) -> bool {
        false
    }
    fn add(&mut self, fd: BorrowedFd<'_>, key: u64, interest: Interest, mode: Mode) -> io::Result<()> {
        assert_eq!(mode, Mode::Level);
        self.0.add(fd, key, interest, mode)
    }
    fn modify(&mut self, fd: BorrowedFd<'_>, key: u64, interest: Interest, mode: Mode) -> io::Result<()> {
        assert_eq!(mode, Mode::Level);
        self.0.modify(fd, key, interest, mode)
    }
    fn after_fork_child(&mut self) -> io::Result<()> {
        self.0.after_fork_child()
    }
    left_to_the_inner_one! { delete wait notifier backend_fd }
}

/// Makes five tests of each function: on epoll and polling with debug mode off and on, and on a selector without edges.
///
/// ```ignore
/// on_every_loop! {
///     /// CL-10
///     fn one_connection_lost(el) {
///         // el: &EventLoop
///     }
/// }
/// ```
#[macro_export]
macro_rules! on_every_loop {
    ($($(#[$meta:meta])* fn $name:ident($el:ident) $body:block)*) => {
        $($(#[$meta])*
        mod $name {
            #[allow(unused_imports)]
            use super::*;
            #[allow(unused_variables)]
            pub(super) fn body($el: &roundelay::EventLoop) $body
            #[test]
            fn epoll() { $crate::common::run($crate::common::Kind::Epoll, false, body); }
            #[test]
            fn epoll_debug() { $crate::common::run($crate::common::Kind::Epoll, true, body); }
            #[test]
            fn polling() { $crate::common::run($crate::common::Kind::Polling, false, body); }
            #[test]
            fn polling_debug() { $crate::common::run($crate::common::Kind::Polling, true, body); }
            #[test]
            fn level() { $crate::common::run($crate::common::Kind::Level, false, body); }
        })*
    };
}

thread_local! {
    /// What was reported to the exception handler and not taken yet.
    static REPORTS: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

/// What was reported to the exception handler since the last call, as text.
pub fn take_reports() -> Vec<String> {
    REPORTS.with(|reports| reports.take())
}

/// One test at a time in this process: descriptors and memory are the process's.
pub fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    heed_interrupts();
    ALONE.lock().unwrap_or_else(|poison| poison.into_inner())
}

/// The process's open descriptors.
///
/// Not counted is what the C library and the panic hook open for a moment, on any thread: settings, the size of a control
/// group, the program itself for a backtrace. Nor is the timer that a loop makes for its first short sleep, whenever that
/// is; what every test ends with counts it.
pub fn open_descriptors() -> usize {
    descriptors(&["anon_inode:[timerfd]"])
}

/// The same, but for those whose targets are named.
fn descriptors(uncounted: &[&str]) -> usize {
    const PASSING: [&str; 5] = ["/proc/", "/sys/", "/lib", "/usr/", "/etc/"];
    let program = std::env::current_exe().unwrap_or_default();
    let entries = std::fs::read_dir("/proc/self/fd").unwrap();
    let targets = entries.filter_map(|entry| std::fs::read_link(entry.ok()?.path()).ok());
    let passing = |target: &str| PASSING.iter().any(|folder| target.starts_with(folder)) || uncounted.contains(&target);
    targets.filter(|target| *target != program && !passing(&target.to_string_lossy())).count()
}

/// Runs a test on a loop of this kind, and makes the checks that every test ends with.
pub fn run(kind: Kind, debug: bool, body: impl FnOnce(&EventLoop)) {
    run_on(|| kind.builder().debug(debug), body);
}

/// Runs a test on the default loop.
pub fn on_loop(body: impl FnOnce(&EventLoop)) {
    run_on(EventLoop::builder, body);
}

/// Runs a test on a loop that asks the selector in every turn, as asyncio does: for tests of order.
pub fn on_strict_loop(body: impl FnOnce(&EventLoop)) {
    run_on(|| EventLoop::builder().event_interval(1), body);
}

/// Runs a test on a loop whose clock the test turns by hand.
pub fn on_manual_clock(body: impl FnOnce(&EventLoop, &ManualClock)) {
    let clock = ManualClock::new();
    let given = clock.clone();
    run_on(move || EventLoop::builder().clock(given), |el| body(el, &clock));
}

/// What makes a loop.
pub trait Build {
    fn build(self) -> io::Result<EventLoop>;
}

impl Build for Builder {
    fn build(self) -> io::Result<EventLoop> {
        self.build()
    }
}

#[cfg(feature = "test-util")]
impl Build for roundelay::testing::Builder {
    fn build(self) -> io::Result<EventLoop> {
        self.build()
    }
}

/// Runs a test on a loop from this builder, and makes the checks that every test ends with.
pub fn run_on<B: Build>(builder: impl FnOnce() -> B, body: impl FnOnce(&EventLoop)) {
    let _alone = alone();
    run_alone(builder, body);
}

/// As [`run_on`], for a test that is [`alone`] already.
pub fn run_alone<B: Build>(builder: impl FnOnce() -> B, body: impl FnOnce(&EventLoop)) {
    let before = descriptors(&[]);
    drop(take_reports());
    let el = builder().build().unwrap();
    watch_reports(&el);
    body(&el);
    if !el.is_closed() {
        el.close();
    }
    let stats = el.stats();
    assert!(stats.is_balanced(), "the loop's statistics are not balanced: {stats:#?}");
    drop(el);
    let reports = take_reports();
    assert!(reports.is_empty(), "reported to the exception handler:\n{}", reports.join("\n"));
    // A thread that has just woken the loop may hold on to its notifier for a moment.
    let deadline = Instant::now() + Duration::from_secs(2);
    while descriptors(&[]) != before && Instant::now() < deadline {
        std::thread::yield_now();
    }
    assert_eq!(descriptors(&[]), before, "descriptors are left open, or were closed that are not ours");
}

/// Collects what the loop reports, for `take_reports`.
pub fn watch_reports(el: &EventLoop) {
    el.set_exception_handler(Some(Rc::new(|_, context| {
        REPORTS.with(|reports| reports.borrow_mut().push(context.to_string()));
    })));
}

/// Runs the loop, turn by turn, until the condition holds; fails after [`PATIENCE`].
#[track_caller]
pub fn run_until(el: &EventLoop, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "the condition did not come true in time");
        el.run_once(Some(Duration::from_millis(50))).unwrap();
    }
}

/// Runs the future to its end; fails after [`PATIENCE`].
#[track_caller]
pub fn complete<F: IntoFuture>(el: &EventLoop, future: F) -> F::Output {
    let deadline = Instant::now() + PATIENCE;
    match el.run_until_complete(roundelay::timeout(PATIENCE, future)) {
        Ok(Ok(output)) => {
            // At its end the timeout looks once more, and would hide that nobody has woken the loop.
            assert!(Instant::now() < deadline, "the future was done in time, but its wake-up was lost");
            output
        }
        Ok(Err(error)) => panic!("the future was not done in time: {error}"),
        Err(error) => panic!("{error}"),
    }
}

/// The output of a task; fails after [`PATIENCE`], also where the loop's clock stands still.
#[track_caller]
pub fn finish<T: 'static>(el: &EventLoop, mut task: Task<T>) -> Result<T, JoinError> {
    run_until(el, || task.is_done());
    el.run_until_complete(&mut task).unwrap()
}

/// Makes turns that never block, until one has nothing to do.
pub fn settle(el: &EventLoop) {
    for _ in 0..10_000 {
        if el.run_once(Some(Duration::ZERO)).unwrap() == 0 {
            return;
        }
    }
    panic!("the loop does not come to rest");
}

/// A log that callbacks and tasks append to.
#[derive(Clone, Default)]
pub struct Log(Rc<RefCell<Vec<String>>>);

impl Log {
    pub fn new() -> Self {
        Self::default()
    }

    pub fn push(&self, entry: impl Into<String>) {
        self.0.borrow_mut().push(entry.into());
    }

    /// The entries so far; the log is empty afterwards.
    pub fn take(&self) -> Vec<String> {
        self.0.take()
    }

    pub fn len(&self) -> usize {
        self.0.borrow().len()
    }

    /// A callback that appends an entry.
    pub fn entry(&self, entry: impl Into<String>) -> impl FnOnce() + 'static {
        let (log, entry) = (self.clone(), entry.into());
        move || log.push(entry)
    }
}

/// Counts how many of its clones were dropped: to see when something captured is let go of.
#[derive(Clone, Default)]
pub struct DropCounter(Rc<Cell<usize>>);

impl DropCounter {
    pub fn new() -> Self {
        Self::default()
    }

    /// Something whose drop is counted.
    pub fn guard(&self) -> DropGuard {
        DropGuard(self.0.clone())
    }

    pub fn count(&self) -> usize {
        self.0.get()
    }

    /// Begins again at zero.
    pub fn reset(&self) {
        self.0.set(0);
    }
}

pub struct DropGuard(Rc<Cell<usize>>);

impl Drop for DropGuard {
    fn drop(&mut self) {
        self.0.set(self.0.get() + 1);
    }
}

/// Polls once and drops nothing: to cancel a future at each of its await points.
pub struct PollTimes<F> {
    future: Pin<Box<F>>,
    left: usize,
}

/// A future that gives up after so many polls: `Err` with itself unfinished, so that dropping it cancels.
pub fn poll_times<F: Future>(future: F, times: usize) -> PollTimes<F> {
    PollTimes { future: Box::pin(future), left: times }
}

impl<F: Future> Future for PollTimes<F> {
    /// `None` if the future was not done after so many polls.
    type Output = Option<F::Output>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        if self.left == 0 {
            return Poll::Ready(None);
        }
        self.left -= 1;
        match self.future.as_mut().poll(cx) {
            Poll::Ready(output) => Poll::Ready(Some(output)),
            Poll::Pending if self.left == 0 => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        }
    }
}

/// A waker that counts.
#[derive(Default)]
pub struct CountingWaker(std::sync::atomic::AtomicUsize);

impl CountingWaker {
    pub fn new() -> (Arc<Self>, Waker) {
        let counter = Arc::new(Self::default());
        (counter.clone(), counter.into())
    }

    pub fn count(&self) -> usize {
        self.0.load(std::sync::atomic::Ordering::SeqCst)
    }
}

impl Wake for CountingWaker {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
    }
}
