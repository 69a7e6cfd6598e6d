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
}

impl RunnerBuilder {
    pub(super) fn new() -> Self {
        Self { loop_factory: None, debug: None, shutdown_bound: SHUTDOWN_BOUND }
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
