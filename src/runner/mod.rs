//! Running a program: make a loop, run, end in an orderly way.

mod builder;
mod ending;
mod interrupt;
mod limit;
mod tasks;

pub use builder::RunnerBuilder;

use std::fmt;
use std::io;
use std::panic::{AssertUnwindSafe, Location, catch_unwind, resume_unwind};
use std::time::Duration;

use crate::constants::SHUTDOWN_BOUND;
use crate::error::{RunError, Stopped, invalid_input};
use crate::event_loop::root::{RootEnd, RunRoot};
use crate::event_loop::tasks::TaskBuilder;
use crate::event_loop::{EventLoop, running};
use crate::executor::no_loop;
use crate::runner::ending::finish;
use crate::runner::interrupt::Interrupt;
use crate::sched::active::Kind;
use crate::sched::context::{self, Context, Slot};
use crate::sched::join::Task;

/// Makes an event loop, runs the future on it, ends everything in an orderly way, and returns the future's output.
///
/// It is `asyncio.run`. The end: servers stop accepting; what is left of the tasks is cancelled and waited for,
/// [gracefully](Task::cancel_gracefully) where a task looks whether it was asked to end; async generators are
/// [closed](EventLoop::shutdown_asyncgens); open connections are closed and their protocols get `connection_lost`, and child
/// processes that still run are killed; the default executor is shut down; the loop is closed.
///
/// All of it takes at most 5 seconds beyond what the application's own code takes. What still cleans up is dropped then,
/// and so is what is not sent; a job that is not done is abandoned. The exception handler is told by one report, which
/// names them: its subjects are a [`TaskInfo`](crate::TaskInfo), an [`AsyncGenInfo`](crate::AsyncGenInfo), a
/// [`Transport`](crate::Transport) (or another handle) or a [`JobInfo`](crate::JobInfo) each. So a program ends though a
/// lookup hangs, a peer does not read or a thread computes without end. What blocks the loop's own thread, as a destructor
/// may, is not helped by that. A [`Runner`] has settings.
///
/// `SIGINT` is left alone: Ctrl-C ends the process, as it does any other. [`RunnerBuilder::cancel_on_interrupt`] changes
/// that.
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
#[doc(alias("run", "asyncio.run"))]
#[track_caller]
pub fn block_on<F: IntoFuture>(future: F) -> F::Output {
    refuse_nesting("block_on");
    // Not in closures: those know nothing of the caller's place.
    let el = match EventLoop::new() {
        Ok(el) => el,
        Err(error) => panic!("block_on(): cannot make an event loop: {error}"),
    };
    run_to_end(&el, RunRoot::plain("block_on"), future)
}

/// Runs the future on a loop of its own, and ends that.
#[track_caller]
pub(crate) fn run_to_end<F: IntoFuture>(el: &EventLoop, how: RunRoot, future: F) -> F::Output {
    let method = how.method;
    let result = catch_unwind(AssertUnwindSafe(|| el.core.run_root(how, future.into_future())));
    finish(el, SHUTDOWN_BOUND);
    match result {
        Ok(Ok(output)) => output,
        Ok(Err(RootEnd::Stopped | RootEnd::Cancelled)) => panic!("{method}(): {Stopped}"),
        Err(payload) => resume_unwind(payload),
    }
}

#[track_caller]
pub(crate) fn refuse_nesting(method: &str) {
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
#[doc(alias = "ensure_future")]
#[track_caller]
pub fn spawn<F>(future: F) -> Task<F::Output>
where
    F: IntoFuture,
    F::IntoFuture: 'static,
    F::Output: 'static,
{
    let spawned_at = Location::caller();
    match running::with_current(|core| core.map(|core| TaskBuilder::new(core).spawn_at(spawned_at, future))) {
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
    /// The grace of [`RunnerBuilder::cancel_on_interrupt`].
    interrupt_grace: Option<Duration>,
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
        RunnerBuilder::new()
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
    /// way of its [`TaskInfo`](crate::TaskInfo), [`RunError::Interrupted`] if that was so because of Ctrl-C: see
    /// [`RunnerBuilder::cancel_on_interrupt`].
    ///
    /// # Panics
    ///
    /// If no loop can be made, if the runner is closed, if an event loop is running on this thread, if it is to listen for
    /// Ctrl-C and cannot for want of descriptors, and with the panic of the future.
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
        // On a closed loop it is the run that says so.
        let interrupt = match self.interrupt_grace.filter(|_| !el.is_closed()) {
            Some(grace) => match Interrupt::watch(&el, grace) {
                Ok(interrupt) => Some(interrupt),
                Err(error) => panic!("Runner::run(): cannot listen for SIGINT: {error}"),
            },
            None => None,
        };
        el.core.run_root(how, future.into_future()).map_err(|end| match end {
            RootEnd::Stopped => RunError::Stopped,
            RootEnd::Cancelled if interrupt.is_some_and(|interrupt| interrupt.was_heard()) => RunError::Interrupted,
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
