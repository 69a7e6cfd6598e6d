//! Work that would block: executors, and the loop's default one.

pub(crate) mod thread_pool;

use std::any::type_name;
use std::cell::{Cell, RefCell};
use std::fmt;
use std::future::Future;
use std::io;
use std::panic::{AssertUnwindSafe, Location, catch_unwind};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use crate::error::{JoinError, executor_overrun};
use crate::event_loop::EventLoop;
use crate::event_loop::exception::ExceptionContext;
use crate::event_loop::fork::lock_held;
use crate::event_loop::job::{HasJob, IfRunning, Job, JobControl};
use crate::event_loop::remote::{LostPanic, Remote};
use crate::event_loop::running;
use crate::event_loop::services::Service;
use crate::event_loop::timer::Sleep;
use crate::executor::thread_pool::ThreadPoolExecutor;
use crate::sched::handle::HandleInfo;

/// One piece of work for an [`Executor`].
///
/// Dropping it without running it tells whoever awaits it that the executor has ended.
pub struct Work {
    work: Arc<dyn Runs>,
}

impl Work {
    /// Does the work, on this thread. Does not panic: a panic of the work goes to whoever awaits it.
    pub fn run(self) {
        self.work.run();
    }

    /// Whether the end of the work is worth waiting for.
    fn is_wanted(&self) -> bool {
        self.work.is_wanted()
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        // Changes nothing where the work has begun.
        self.work.close();
    }
}

impl fmt::Debug for Work {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Work")
    }
}

/// Runs blocking work, elsewhere than on the loop's thread.
pub trait Executor {
    /// Takes a piece of work, to be [run](Work::run) soon, on a thread that may be blocked.
    ///
    /// # Errors
    ///
    /// If the executor has ended, or no thread can be made. The work is dropped.
    fn submit(&self, work: Work) -> io::Result<()>;
}

/// A job without its types.
trait Runs: Send + Sync {
    fn run(&self);
    fn close(&self);
    /// See `Job::after_fork_child`.
    fn after_fork_child(&self) -> bool;
    fn is_wanted(&self) -> bool;
}

/// What becomes of a job whose [`Blocking`] is dropped.
#[derive(Clone, Copy, PartialEq, Eq)]
enum IfForgotten {
    /// It runs all the same, and is waited for when the executor ends.
    Runs,
    /// It does not begin, and if it has begun nobody waits for it.
    IsGivenUp,
}

struct BlockingJob<F, T> {
    job: Job<F, T>,
    if_forgotten: IfForgotten,
    /// Where the panic of a forgotten job is reported.
    remote: Remote,
    created_at: &'static Location<'static>,
}

impl<F: Send, T: Send> HasJob for BlockingJob<F, T> {
    type Function = F;
    type Output = T;

    fn job(&self) -> &Job<F, T> {
        &self.job
    }

    fn into_job(self) -> Job<F, T> {
        self.job
    }
}

impl<F, T> Runs for BlockingJob<F, T>
where
    F: FnOnce() -> T + Send + 'static,
    T: Send + 'static,
{
    fn run(&self) {
        let Some(function) = self.job.begin() else { return };
        let result = catch_unwind(AssertUnwindSafe(function)).map_err(JoinError::panic);
        match self.job.finish(result) {
            Some(Err(error)) if error.is_panic() => self.report(error),
            unwanted => {
                if let Err(payload) = catch_unwind(AssertUnwindSafe(|| drop(unwanted))) {
                    self.report(JoinError::panic(payload));
                }
            }
        }
    }

    fn close(&self) {
        if let Err(payload) = catch_unwind(AssertUnwindSafe(|| self.job.close())) {
            self.report(JoinError::panic(payload));
        }
    }

    fn after_fork_child(&self) -> bool {
        self.job.after_fork_child()
    }

    fn is_wanted(&self) -> bool {
        self.if_forgotten == IfForgotten::Runs || !self.job.is_detached()
    }
}

/// What a [`Blocking`] can do with its job.
trait BlockingControl<T>: JobControl<T> {
    /// Nobody will ask for the result. A panic that is there already is not lost: the loop hears of it.
    fn forget(&self);
}

impl<F: Send, T: Send> BlockingControl<T> for BlockingJob<F, T> {
    fn forget(&self) {
        if self.remote.is_inherited() {
            // A thread that this process does not have may be looking at the job for ever.
            return;
        }
        if self.if_forgotten == IfForgotten::IsGivenUp {
            self.job.cancel(IfRunning::LetGo);
        }
        if let Some(Err(error)) = self.job.detach() {
            self.report(error);
        }
    }
}

impl<F, T> BlockingJob<F, T> {
    /// Tells the loop of a panic that nobody awaits.
    fn report(&self, error: JoinError) {
        let Ok(payload) = error.try_into_panic() else { return };
        let (name, created_at) = (type_name::<F>(), self.created_at);
        let info = HandleInfo { name, created_at, when: None, is_cancelled: false };
        let message = "Exception in a blocking job that nobody awaits";
        self.remote.report_lost(LostPanic::new(message, payload, Some(info), created_at));
    }
}

/// Work on an executor's thread: a future of `Result<T, JoinError>`.
///
/// Dropping it lets the work go on by itself. [`cancel`](Self::cancel) takes work back that has not begun; what has
/// begun cannot be stopped.
pub struct Blocking<T> {
    control: Arc<dyn BlockingControl<T>>,
}

impl<T> Blocking<T> {
    /// Takes the work back: true if it had not begun, and then it never will.
    pub fn cancel(&self) -> bool {
        self.control.cancel(IfRunning::LetGo)
    }

    /// Whether it was cancelled before it began.
    pub fn is_cancelled(&self) -> bool {
        self.control.is_cancelled()
    }

    /// Whether the work is done, was cancelled, or will never begin because its executor has ended.
    pub fn is_done(&self) -> bool {
        self.control.is_done()
    }
}

impl<T> Future for Blocking<T> {
    type Output = Result<T, JoinError>;

    /// # Panics
    ///
    /// If it is polled again after it gave the result.
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.control.poll(cx)
    }
}

impl<T> Drop for Blocking<T> {
    fn drop(&mut self) {
        self.control.forget();
    }
}

impl<T> fmt::Debug for Blocking<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Blocking").field("done", &self.is_done()).field("cancelled", &self.is_cancelled()).finish()
    }
}

/// The loop's default executor: made when it is first needed.
struct DefaultExecutor {
    /// Stays here while it is being shut down, so that a second call waits, too.
    pool: RefCell<Option<Rc<ThreadPoolExecutor>>>,
    /// Whether it was shut down: nothing is taken any more.
    ended: Cell<bool>,
}

impl Service for DefaultExecutor {
    fn new(_: &EventLoop) -> Self {
        Self { pool: RefCell::new(None), ended: Cell::new(false) }
    }

    fn after_fork_child(&self) -> io::Result<()> {
        match self.pool.take() {
            Some(pool) if !pool.after_fork_child() => {
                Err(lock_held("EventLoop::after_fork_child(): a thread was looking at the default executor"))
            }
            _ => Ok(()),
        }
    }

    fn close(&self) {
        self.ended.set(true);
        if let Some(pool) = self.pool.take() {
            pool.abandon();
        }
    }
}

impl DefaultExecutor {
    fn submit(&self, work: Work) -> io::Result<()> {
        if self.ended.get() {
            return Err(io::Error::other("the default executor was shut down"));
        }
        let pool = self.pool.borrow_mut().get_or_insert_with(Rc::default).clone();
        pool.submit(work)
    }
}

impl EventLoop {
    /// Runs a function that may block on a thread of an executor: the loop's default one, or another.
    ///
    /// The default executor has up to `min(32, processors + 4)` threads, made when they are needed.
    ///
    /// On a closed loop, or when the executor was shut down or can make no thread, the function is dropped, the result
    /// says [`is_closed`](JoinError::is_closed), and the exception handler is told why.
    ///
    /// ```
    /// let el = roundelay::EventLoop::new()?;
    /// let sum = el.run_in_executor(None, || (1..=10).sum::<i32>());
    /// assert_eq!(el.run_until_complete(sum).unwrap().unwrap(), 55);
    /// # std::io::Result::Ok(())
    /// ```
    #[track_caller]
    pub fn run_in_executor<F, T>(&self, executor: Option<&dyn Executor>, function: F) -> Blocking<T>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        self.submit(executor, function, IfForgotten::Runs, Location::caller())
    }

    /// As `run_in_executor` with the default executor, for what nobody needs but whoever awaits it: where that one is gone
    /// it does not begin, and if it has begun it holds up nobody's end.
    #[track_caller]
    pub(crate) fn run_while_awaited<F, T>(&self, function: F) -> Blocking<T>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        self.submit(None, function, IfForgotten::IsGivenUp, Location::caller())
    }

    fn submit<F, T>(
        &self,
        executor: Option<&dyn Executor>,
        function: F,
        if_forgotten: IfForgotten,
        created_at: &'static Location<'static>,
    ) -> Blocking<T>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        let job = Arc::new(BlockingJob { job: Job::new(function), if_forgotten, remote: self.remote(), created_at });
        let blocking = Blocking { control: job.clone() };
        let work = Work { work: job };
        if self.is_closed() {
            drop(work);
            self.core.local.report_closed("run_in_executor", created_at);
            return blocking;
        }
        let submitted = match executor {
            Some(executor) => executor.submit(work),
            None => self.core.service::<DefaultExecutor>(self).submit(work),
        };
        if let Err(error) = submitted {
            let context = ExceptionContext::new(format!("EventLoop::run_in_executor(): {error}"));
            self.call_exception_handler(&context.with_created_at(created_at));
        }
        blocking
    }

    /// Ends the default executor: it takes nothing more, and what it has is waited for, at most `timeout` long; `None`
    /// waits without end. The loop goes on meanwhile.
    ///
    /// True if all is done. What is not done in time is abandoned: queued jobs never begin, running ones are let go,
    /// and the exception handler is told how many.
    ///
    /// # Panics
    ///
    /// If it is polled outside of a running event loop, with a timeout and with jobs that are not done.
    pub async fn shutdown_default_executor(&self, timeout: Option<Duration>) -> bool {
        self.end_default_executor(timeout.map(Sleep::after), timeout.unwrap_or_default()).await
    }

    /// The same with any limit; `bound` is what the report says of it.
    pub(crate) async fn end_default_executor(&self, limit: Option<impl Future<Output = ()>>, bound: Duration) -> bool {
        let executor = self.core.service::<DefaultExecutor>(self);
        executor.ended.set(true);
        let pool = executor.pool.borrow().clone();
        let Some(pool) = pool else { return true };
        let abandoned = pool.shutdown(limit).await;
        if abandoned > 0 {
            let text = executor_overrun(abandoned, bound);
            self.call_exception_handler(&ExceptionContext::new(text));
        }
        abandoned == 0
    }
}

/// Runs a function that may block on a thread of the running loop's default executor.
///
/// The result is a named future that may be dropped and forgotten: the function runs all the same.
///
/// # Panics
///
/// Outside of a running loop.
///
/// ```
/// roundelay::block_on(async {
///     let text = roundelay::spawn_blocking(|| std::fs::read_to_string("Cargo.toml")).await.unwrap();
///     assert!(text.unwrap().contains("roundelay"));
/// });
/// ```
#[track_caller]
pub fn spawn_blocking<F, T>(function: F) -> Blocking<T>
where
    F: FnOnce() -> T + Send + 'static,
    T: Send + 'static,
{
    required_loop("spawn_blocking").run_in_executor(None, function)
}

/// The running loop of a future that a free function has made: the one in which it was made, else the one in which it is
/// awaited.
pub(crate) struct LaterLoop {
    made_in: Option<EventLoop>,
    function: &'static str,
    called_at: &'static Location<'static>,
}

impl LaterLoop {
    #[track_caller]
    pub(crate) fn new(function: &'static str) -> Self {
        Self { made_in: running::current().map(EventLoop::handle), function, called_at: Location::caller() }
    }

    /// The loop, at the first poll.
    ///
    /// # Panics
    ///
    /// If no loop runs, and none did when the function was called.
    pub(crate) fn get(self) -> EventLoop {
        let Self { made_in, function, called_at } = self;
        match made_in.or_else(|| running::current().map(EventLoop::handle)) {
            Some(el) => el,
            None => panic!("roundelay::{function}() of {called_at} was awaited outside of a running event loop"),
        }
    }
}

/// The running loop, for a free function that cannot do without.
#[track_caller]
pub(crate) fn required_loop(function: &str) -> EventLoop {
    match running::current() {
        Some(core) => EventLoop::handle(core),
        None => no_loop(function),
    }
}

#[cold]
#[track_caller]
pub(crate) fn no_loop(function: &str) -> ! {
    panic!("roundelay::{function}() was called outside of a running event loop")
}
