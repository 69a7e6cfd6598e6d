//! Running a program: make a loop, run, end in an orderly way.

use std::fmt;
use std::future::{Future, poll_fn};
use std::io;
use std::panic::{AssertUnwindSafe, Location, catch_unwind, resume_unwind};
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::task::{Poll, Waker};
use std::thread;
use std::time::{Duration, Instant};

use crate::constants::{END_ROUNDS, SHUTDOWN_BOUND};
use crate::error::{RunError, Stopped, invalid_input};
use crate::event_loop::exception::ExceptionContext;
use crate::event_loop::root::{RootEnd, RunRoot};
use crate::event_loop::tasks::create_task;
use crate::event_loop::{EventLoop, running};
use crate::executor::no_loop;
use crate::reactor::slot::End;
use crate::sched::active::Kind;
use crate::sched::clock::deadline;
use crate::sched::context::{self, Context, Slot};
use crate::sched::join::Task;
use crate::sched::report::Exception;
use crate::time::{sleep_until, yield_now};

/// Makes an event loop, runs the future on it, ends everything in an orderly way, and returns the future's output.
///
/// It is `asyncio.run`. The end: servers stop accepting; what is left of the tasks is cancelled and waited for; open
/// connections are closed and their protocols get `connection_lost`; the default executor is shut down; the loop is
/// closed. All of it takes at most 5 seconds beyond what the application's own code takes: what is not sent by then is
/// dropped, and jobs that are not done are abandoned and reported. So a program ends though a lookup hangs or a peer
/// does not read. A [`Runner`] has settings.
///
/// `SIGINT` is left alone.
///
/// # Panics
///
/// If no loop can be made; if an event loop is running on this thread; if the loop is stopped under the future; and
/// with the panic of the future, after the orderly end.
///
/// ```
/// let answer = roundelay::block_on(async {
///     roundelay::sleep(std::time::Duration::from_millis(1)).await;
///     42
/// });
/// assert_eq!(answer, 42);
/// ```
#[track_caller]
pub fn block_on<F: IntoFuture>(future: F) -> F::Output {
    refuse_nesting("block_on");
    // Not in closures: those know nothing of the caller's place.
    let el = match EventLoop::new() {
        Ok(el) => el,
        Err(error) => panic!("block_on(): cannot make an event loop: {error}"),
    };
    let how = RunRoot::plain("block_on");
    let result = catch_unwind(AssertUnwindSafe(|| el.core.run_root(how, future.into_future())));
    finish(&el, SHUTDOWN_BOUND);
    match result {
        Ok(Ok(output)) => output,
        Ok(Err(RootEnd::Stopped | RootEnd::Cancelled)) => panic!("block_on(): {Stopped}"),
        Err(payload) => resume_unwind(payload),
    }
}

#[track_caller]
fn refuse_nesting(method: &str) {
    if let Some(core) = running::current() {
        let outer = EventLoop::handle(core);
        panic!("{method}(): cannot be called while an event loop is running on this thread: {outer:?}");
    }
}

/// Runs a future as a task of the running loop: for library code, which has no loop at hand.
///
/// See [`EventLoop::create_task`].
///
/// # Panics
///
/// Outside of a running loop.
///
/// ```
/// roundelay::block_on(async {
///     let task = roundelay::spawn(async { 1 + 1 });
///     assert_eq!(task.await.unwrap(), 2);
/// });
/// ```
#[track_caller]
pub fn spawn<F>(future: F) -> Task<F::Output>
where
    F: IntoFuture,
    F::IntoFuture: 'static,
    F::Output: 'static,
{
    let spawned_at = Location::caller();
    match running::with_current(|core| core.map(|core| create_task(core, None, None, spawned_at, future))) {
        Some(task) => task,
        None => no_loop("spawn"),
    }
}

type LoopFactory = Box<dyn FnOnce() -> io::Result<EventLoop>>;

/// Runs several futures, one after the other, on one loop and in one [`Context`], and ends it in an orderly way.
///
/// The loop is made when it is first needed, and so is the context: a copy of the one that is current then. Dropping the
/// runner closes it, as [`close`](Self::close) does; inside of a running loop, without the orderly end.
///
/// ```
/// let mut runner = roundelay::Runner::new();
/// assert_eq!(runner.run(async { 1 })?, 1);
/// assert_eq!(runner.run(async { 2 })?, 2);
/// runner.close();
/// # Ok::<(), roundelay::RunError>(())
/// ```
pub struct Runner {
    state: State,
    context: Context,
    shutdown_bound: Duration,
    debug: Option<bool>,
}

enum State {
    New(Option<LoopFactory>),
    Ready(EventLoop),
    Closed,
}

impl Runner {
    /// A runner with the default settings.
    pub fn new() -> Self {
        Self::builder().build()
    }

    /// A runner with settings of your own.
    pub fn builder() -> RunnerBuilder {
        RunnerBuilder { loop_factory: None, debug: None, shutdown_bound: SHUTDOWN_BOUND }
    }

    /// A handle to the loop, which is made now if there is none.
    ///
    /// # Errors
    ///
    /// The loop factory's, and then the runner is closed; an error of kind `InvalidInput` if it is closed already.
    pub fn get_loop(&mut self) -> io::Result<EventLoop> {
        if let State::New(factory) = &mut self.state {
            let factory = factory.take();
            // A factory that fails cannot be asked again.
            self.state = State::Closed;
            let el = factory.map_or_else(EventLoop::new, |factory| factory())?;
            if let Some(debug) = self.debug {
                el.set_debug(debug);
            }
            self.context = Context::from_slot(context::fork_current());
            self.state = State::Ready(el);
        }
        match &self.state {
            State::Ready(el) => Ok(el.clone()),
            _ => Err(invalid_input("Runner::get_loop(): the runner is closed")),
        }
    }

    /// Runs the loop until the future is done. The future runs in the runner's own context: what it sets is there for
    /// the next one.
    ///
    /// # Errors
    ///
    /// [`RunError::Stopped`] if the loop was stopped before, [`RunError::Cancelled`] if the future was cancelled, by
    /// way of its [`TaskInfo`](crate::TaskInfo).
    ///
    /// # Panics
    ///
    /// If no loop can be made, if the runner is closed, if an event loop is running on this thread, and with the panic
    /// of the future.
    #[track_caller]
    pub fn run<F: IntoFuture>(&mut self, future: F) -> Result<F::Output, RunError> {
        refuse_nesting("Runner::run");
        assert!(!matches!(self.state, State::Closed), "Runner::run(): the runner is closed");
        let el = match self.get_loop() {
            Ok(el) => el,
            Err(error) => panic!("Runner::run(): cannot make an event loop: {error}"),
        };
        let how = RunRoot {
            method: "Runner::run",
            kind: Kind::Main,
            context: Slot::Shared(self.context.clone()),
            spawned_at: Location::caller(),
        };
        el.core.run_root(how, future.into_future()).map_err(|end| match end {
            RootEnd::Stopped => RunError::Stopped,
            RootEnd::Cancelled => RunError::Cancelled,
        })
    }

    /// Ends everything in an orderly way, as [`block_on`] does. A second call does nothing.
    ///
    /// # Panics
    ///
    /// If an event loop, the runner's own or another, is running on this thread.
    #[track_caller]
    pub fn close(&mut self) {
        if let State::Ready(_) = self.state {
            refuse_nesting("Runner::close");
        }
        if let State::Ready(el) = std::mem::replace(&mut self.state, State::Closed) {
            finish(&el, self.shutdown_bound);
        }
    }
}

impl Default for Runner {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Runner {
    fn drop(&mut self) {
        if let State::Ready(el) = std::mem::replace(&mut self.state, State::Closed) {
            // From within its own loop there is nothing to wait for: the owner's drop sees to the end.
            if running::current().is_none() {
                finish(&el, self.shutdown_bound);
            }
        }
    }
}

impl fmt::Debug for Runner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("Runner");
        match &self.state {
            State::New(_) => debug.field("loop", &"not made yet"),
            State::Ready(el) => debug.field("loop", el),
            State::Closed => debug.field("loop", &"closed"),
        };
        debug.field("shutdown_bound", &self.shutdown_bound).finish()
    }
}

/// Settings for a [`Runner`].
///
/// ```
/// use roundelay::{EventLoop, Runner};
/// use std::time::Duration;
///
/// let mut runner = Runner::builder()
///     .debug(true)
///     .shutdown_bound(Duration::from_secs(1))
///     .loop_factory(|| EventLoop::builder().name("main").build())
///     .build();
/// assert!(runner.run(async { roundelay::get_running_loop().unwrap().debug() }).unwrap());
/// ```
#[must_use = "a builder does nothing before build()"]
pub struct RunnerBuilder {
    loop_factory: Option<LoopFactory>,
    debug: Option<bool>,
    shutdown_bound: Duration,
}

impl RunnerBuilder {
    /// Turns debug mode on or off, whatever the environment says.
    pub fn debug(mut self, debug: bool) -> Self {
        self.debug = Some(debug);
        self
    }

    /// Makes the loop by this function.
    pub fn loop_factory(mut self, factory: impl FnOnce() -> io::Result<EventLoop> + 'static) -> Self {
        self.loop_factory = Some(Box::new(factory));
        self
    }

    /// How long the end waits for what has to be sent and for blocking jobs (5 seconds).
    pub fn shutdown_bound(mut self, bound: Duration) -> Self {
        self.shutdown_bound = bound;
        self
    }

    /// Makes the runner.
    pub fn build(self) -> Runner {
        Runner {
            state: State::New(self.loop_factory),
            context: Context::new(),
            shutdown_bound: self.shutdown_bound,
            debug: self.debug,
        }
    }
}

impl fmt::Debug for RunnerBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RunnerBuilder")
            .field("debug", &self.debug)
            .field("shutdown_bound", &self.shutdown_bound)
            .finish_non_exhaustive()
    }
}

/// When the end of a loop has taken long enough: by the loop's clock, and by the real one where that clock is one of the
/// application's, which may stand still.
struct EndLimit {
    el: EventLoop,
    bound: Duration,
    until: Instant,
    real: Option<Arc<RealLimit>>,
    /// Dropped, it ends the thread that measures the real time.
    _end: Option<mpsc::Sender<()>>,
}

#[derive(Default)]
struct RealLimit {
    state: Mutex<(bool, Option<Waker>)>,
}

impl RealLimit {
    fn with<R>(&self, f: impl FnOnce(&mut bool, &mut Option<Waker>) -> R) -> R {
        let (over, waker) = &mut *self.state.lock().unwrap_or_else(PoisonError::into_inner);
        f(over, waker)
    }

    fn measure(&self, bound: Duration, end: &mpsc::Receiver<()>) {
        if end.recv_timeout(bound) == Err(mpsc::RecvTimeoutError::Timeout) {
            let waker = self.with(|over, waker| {
                *over = true;
                waker.take()
            });
            if let Some(waker) = waker {
                waker.wake();
            }
        }
    }
}

impl EndLimit {
    fn new(el: &EventLoop, bound: Duration) -> Self {
        let (real, end) = match el.core.has_own_clock() {
            true => Self::measure(bound).unzip(),
            false => (None, None),
        };
        Self { el: el.clone(), bound, until: deadline(el.time(), bound), real, _end: end }
    }

    fn measure(bound: Duration) -> Option<(Arc<RealLimit>, mpsc::Sender<()>)> {
        let real = Arc::new(RealLimit::default());
        let (sender, end) = mpsc::channel();
        let measured = real.clone();
        let thread = thread::Builder::new().name("roundelay_end".into());
        // Without a thread the application's clock is all there is.
        thread.spawn(move || measured.measure(bound, &end)).ok()?;
        Some((real, sender))
    }

    fn is_over(&self) -> bool {
        self.el.time() >= self.until || self.real.as_ref().is_some_and(|real| real.with(|over, _| *over))
    }

    async fn wait(&self) {
        let mut sleep = pin!(sleep_until(self.until));
        poll_fn(|cx| {
            if let Some(real) = &self.real {
                let over = real.with(|over, waker| {
                    *waker = Some(cx.waker().clone());
                    *over
                });
                if over {
                    return Poll::Ready(());
                }
            }
            sleep.as_mut().poll(cx)
        })
        .await
    }
}

/// The orderly end of a loop, in at most `bound`.
fn finish(el: &EventLoop, bound: Duration) {
    if el.is_closed() {
        return;
    }
    let limit = EndLimit::new(el, bound);
    for step in [Step::Listeners, Step::Tasks, Step::Connections, Step::Tasks, Step::Executor] {
        // A callback that stops the loop or panics fatally cuts no step short: it goes on in another run.
        let mut end = pin!(end_step(el, step, &limit));
        let mut panics = 0;
        while panics < END_ROUNDS {
            match catch_unwind(AssertUnwindSafe(|| el.run_until_complete(end.as_mut()))) {
                Ok(Ok(())) => break,
                Ok(Err(Stopped)) => {}
                Err(payload) => {
                    panics += 1;
                    let context = ExceptionContext::new("Fatal panic while the loop was ending");
                    el.call_exception_handler(&context.with_exception(Exception::Panic(&*payload)));
                    el.core.local.dispose(payload);
                }
            }
        }
    }
    el.close();
}

#[derive(Clone, Copy)]
enum Step {
    Listeners,
    Tasks,
    Connections,
    Executor,
}

async fn end_step(el: &EventLoop, step: Step, limit: &EndLimit) {
    match step {
        // Connections are left alone: tasks that are about to be cancelled may have something to say on them.
        Step::Listeners => stop_accepting(el),
        Step::Tasks => cancel_tasks(el, limit).await,
        Step::Connections => end_connections(el, limit).await,
        Step::Executor => {
            el.end_default_executor(Some(limit.wait()), limit.bound).await;
        }
    }
}

fn stop_accepting(el: &EventLoop) {
    let handlers = el.core.reactor.borrow().handlers();
    for handler in handlers {
        handler.stop_accepting();
    }
    el.core.services.stop_accepting();
}

/// Cancels all tasks but the one that runs this, and waits until their futures are dropped. What is left after that, for
/// another thread spawns on and on, ends when the loop is closed.
async fn cancel_tasks(el: &EventLoop, limit: &EndLimit) {
    for _ in 0..END_ROUNDS {
        let tasks: Vec<_> = el.all_tasks().into_iter().filter(|task| !task.is_root).collect();
        if tasks.is_empty() {
            return;
        }
        for task in tasks {
            task.cancel();
        }
        yield_now().await;
        if limit.is_over() {
            return;
        }
    }
}

/// Closes all connections, gives them until the limit to send what is queued, and aborts the rest.
async fn end_connections(el: &EventLoop, limit: &EndLimit) {
    let end = |how| {
        let handlers = el.core.reactor.borrow().handlers();
        for handler in handlers {
            handler.end(how);
        }
        el.core.services.end(how);
    };
    end(End::Flush);
    let mut over = pin!(limit.wait());
    let in_time = poll_fn(|cx| match el.core.poll_transports_gone(cx) {
        Poll::Ready(()) => Poll::Ready(true),
        Poll::Pending => over.as_mut().poll(cx).map(|()| false),
    });
    if in_time.await {
        return;
    }
    for _ in 0..END_ROUNDS {
        end(End::Now);
        yield_now().await;
        if el.stats().transports.live() == 0 {
            return;
        }
    }
}
