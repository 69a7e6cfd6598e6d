//! What a runner is made of.

use std::fmt;
use std::io;
use std::time::Duration;

use crate::constants::SHUTDOWN_BOUND;
use crate::event_loop::EventLoop;
use crate::runner::{LoopFactory, Runner, State};
use crate::sched::context::Context;

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
    interrupt_grace: Option<Duration>,
}

impl RunnerBuilder {
    pub(super) fn new() -> Self {
        Self { loop_factory: None, debug: None, shutdown_bound: SHUTDOWN_BOUND, interrupt_grace: None }
    }

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

    /// How long the end waits, all in all, for tasks that clean up, for what has to be sent and for blocking jobs
    /// (5 seconds). It is measured by the loop's clock, and where that is one of the application's by real time, too.
    #[doc(alias = "THREAD_JOIN_TIMEOUT")]
    pub fn shutdown_bound(mut self, bound: Duration) -> Self {
        self.shutdown_bound = bound;
        self
    }

    /// Lets Ctrl-C (SIGINT) cancel the future of [`Runner::run`], gracefully: see
    /// [`Task::cancel_gracefully`](crate::Task::cancel_gracefully). It may end by itself within `grace`, and what it returns
    /// then is what `run` returns; otherwise `run` fails with [`RunError::Interrupted`](crate::RunError::Interrupted), and
    /// the program can end in an orderly way.
    ///
    /// A second Ctrl-C in the same run ends the process there and then, as the first one does without this, also while a
    /// callback keeps the loop busy. So does any that comes when `run` has returned: the previous disposition is back.
    ///
    /// Where SIGINT is ignored when `run` is called, as in a background job of a script, or has a handler that is none of
    /// roundelay's, it is left alone. Handlers and streams of this loop and of others hear of the first one, too, and do not
    /// hold up the second.
    ///
    /// ```
    /// use roundelay::{RunError, Runner};
    /// use std::time::Duration;
    ///
    /// let mut runner = Runner::builder().cancel_on_interrupt(Duration::from_secs(5)).build();
    /// match runner.run(async { "done" }) {
    ///     Ok(result) => println!("{result}"),
    ///     Err(RunError::Interrupted) => std::process::exit(130),
    ///     Err(error) => panic!("{error}"),
    /// }
    /// ```
    pub fn cancel_on_interrupt(mut self, grace: Duration) -> Self {
        self.interrupt_grace = Some(grace);
        self
    }

    /// Makes the runner.
    pub fn build(self) -> Runner {
        Runner {
            state: State::New(self.loop_factory),
            context: Context::new(),
            shutdown_bound: self.shutdown_bound,
            debug: self.debug,
            interrupt_grace: self.interrupt_grace,
        }
    }
}

impl fmt::Debug for RunnerBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RunnerBuilder")
            .field("debug", &self.debug)
            .field("shutdown_bound", &self.shutdown_bound)
            .field("cancel_on_interrupt", &self.interrupt_grace)
            .finish_non_exhaustive()
    }
}
