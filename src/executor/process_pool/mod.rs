//! A pool of worker processes: feature `process-pool`.
//!
//! # The problem
//!
//! A closure cannot be sent to another process, so a job is the name of a function and the function's arguments. Both sides
//! have to know the function: they are the same program. A worker process is started as that program, goes through `main`
//! as far as [`ProcessFunctions::init`], and stays there. A program that does not call it would start itself without end;
//! so the pool cannot be made where it was not called.
//!
//! # Rejected
//!
//! * A process that is forked off and goes on without `exec`: in a process with threads nothing may be done in it that
//!   takes a lock, and memory allocation does.
//! * An extra program for the workers: it would have to be found, and be of the same build.
//! * Pipes of the loop's own: the pool would belong to one loop. It is shared by loops and threads.
//!
//! # How it goes
//!
//! Each worker has a thread here, its keeper, which starts it, talks to it over a pair of sockets, is the only one that
//! waits for it as a child, and starts another one in its place (`keeper.rs`, `worker.rs`). Keepers take jobs from the
//! pool's queue, when they are through with one or when their bell is rung. A keeper whose worker is idle waits on the
//! connection as well: a worker that dies is missed at once, and not by the next job. The end of the connection is what ends
//! a worker, so that none is left when this process ends, in whatever way; and it is how the keeper hears that its worker
//! has ended. What is said is in `wire.rs`; what the worker does in `functions.rs`; how it knows that it is one in
//! `os/worker.rs`.

mod call;
mod error;
mod functions;
mod keeper;
mod wire;
mod worker;

use std::fmt;
use std::future::{Future, poll_fn};
use std::io;
use std::panic::Location;
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::thread;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::error::invalid_input;
use crate::event_loop::timer::Sleep;
use crate::executor::process_pool::keeper::{Pool, Settings, fail};
use crate::executor::process_pool::wire::Request;
use crate::os::fork::Home;

pub use self::call::ProcessJob;
pub use self::error::ProcessPoolError;
pub use self::functions::ProcessFunctions;

/// Runs functions in other processes: for work that keeps a processor busy, that may crash, or that needs a process's
/// memory, environment or working directory for itself.
///
/// The functions are registered by name, once, [at the top of `main`](Self::functions). What they take and give goes
/// through [serde](https://serde.rs), as MessagePack: what [`run`](Self::run) is given need not be of the function's own
/// type, but has to look like it. `&str` and `String` do, `u8` and `u64`, an array and a `Vec`. (Many bytes are best wrapped
/// by the crate `serde_bytes`: serde takes those of a `Vec<u8>` one by one.)
///
/// Workers are started when they are needed, up to a limit, and are kept. They are processes of the same program. Their
/// standard input is empty, standard output and error are this process's, environment and working directory are those that
/// it had when the worker was started, and of its descriptors they have none but those that any program inherits which it
/// starts. They ignore `SIGINT` (and so does what they start): a
/// Ctrl-C is for this process to deal with. A worker ends when this process ends, in whatever way: at once if it is idle,
/// else when its function returns.
///
/// A worker that dies, for whatever reason, fails the job that it was running with
/// [`ProcessPoolError::WorkerDied`], and another one takes its place. The other jobs go on.
///
/// Clones are the same pool, which any number of loops and threads may share. When the last one is dropped, the jobs that
/// are queued or running go on; the workers end after them, at the latest with this process.
/// [`shutdown`](Self::shutdown) waits for that. In a process that is forked off, a pool of its parent's is closed.
///
/// ```
/// use roundelay::{ProcessPoolError, ProcessPoolExecutor};
///
/// fn fib(n: u32) -> u64 {
///     if n < 2 { u64::from(n) } else { fib(n - 1) + fib(n - 2) }
/// }
///
/// fn parse((text, radix): (String, u32)) -> Result<i64, String> {
///     i64::from_str_radix(&text, radix).map_err(|error| error.to_string())
/// }
///
/// fn main() -> std::io::Result<()> {
///     // First of all: worker processes get no further.
///     ProcessPoolExecutor::functions().add("fib", fib).add("parse", parse).init();
///
///     let pool = ProcessPoolExecutor::new(2)?;
///     roundelay::block_on(async {
///         let number = pool.run::<u64>("fib", 20).await?;
///         assert_eq!(number, 6765);
///         let parsed = pool.run::<Result<i64, String>>("parse", ("ff", 16)).await?;
///         assert_eq!(parsed, Ok(255));
///         pool.shutdown(None).await;
///         Ok::<(), ProcessPoolError>(())
///     })
///     .map_err(std::io::Error::from)
/// }
/// ```
#[derive(Clone)]
pub struct ProcessPoolExecutor {
    owner: Arc<Owner>,
}

/// What the application holds: the workers end when it is gone.
struct Owner {
    pool: Arc<Pool>,
    /// The process that it belongs to. Its keepers are not there in one that is forked off.
    home: Home,
}

impl Drop for Owner {
    fn drop(&mut self) {
        if self.home.is_here() {
            self.pool.end();
        }
    }
}

impl ProcessPoolExecutor {
    /// Begins to name the functions that worker processes may run, to be ended by [`init`](ProcessFunctions::init), at the
    /// top of `main`.
    ///
    /// See the [type's](Self) example. Without functions,
    /// `ProcessPoolExecutor::functions().init()`, there is a pool, but nothing that it could run.
    pub fn functions() -> ProcessFunctions {
        ProcessFunctions::default()
    }

    /// A pool of at most `max_workers` processes.
    ///
    /// # Errors
    ///
    /// Of kind `InvalidInput`, if [`ProcessFunctions::init`] was not called in this process: its workers would start the
    /// program again, and again.
    ///
    /// # Panics
    ///
    /// If `max_workers` is zero.
    #[track_caller]
    pub fn new(max_workers: usize) -> io::Result<Self> {
        assert!(max_workers > 0, "ProcessPoolExecutor::new(): it needs at least one worker");
        Self::builder().max_workers(max_workers).build()
    }

    /// A pool with settings of your own.
    pub fn builder() -> ProcessPoolBuilder {
        let max_workers = thread::available_parallelism().map_or(1, usize::from);
        ProcessPoolBuilder { settings: Settings { max_workers, max_jobs_per_worker: None } }
    }

    /// Runs a registered function in a worker process: a future of its result, which may be awaited in any loop, and may
    /// be dropped and forgotten.
    ///
    /// The arguments are serialised now, on this thread, so they may be borrowed; the result is read on another one. Jobs
    /// begin in the order in which they were given.
    ///
    /// # Errors
    ///
    /// The future's: [`ProcessPoolError`].
    ///
    /// ```no_run
    /// # async fn resize(pool: &roundelay::ProcessPoolExecutor, image: &[u8]) -> std::io::Result<()> {
    /// let small = pool.run::<Vec<u8>>("resize", (image, 320, 240)).await?;
    /// # drop(small);
    /// # Ok(())
    /// # }
    /// ```
    #[track_caller]
    pub fn run<R>(&self, function: &str, arguments: impl Serialize) -> ProcessJob<R>
    where
        R: DeserializeOwned + Send + 'static,
    {
        let serialised = if !functions::contains(function) {
            Err(ProcessPoolError::UnknownFunction(function.to_owned()))
        } else {
            wire::to_bytes(&arguments).map_err(|error| ProcessPoolError::Arguments(format!("{function:?}: {error}")))
        };
        let (arguments, error) = match serialised {
            Ok(arguments) => (arguments, None),
            Err(error) => (Vec::new(), Some(error)),
        };
        let (call, job) = call::pair(Request { name: function.to_owned(), arguments }, Location::caller());
        match error {
            Some(error) => fail(&*call, error),
            None if !self.owner.home.is_here() => call.close(),
            None => self.owner.pool.submit(call),
        }
        job
    }

    /// How many workers there are now, or are just being started.
    pub fn workers(&self) -> usize {
        self.owner.pool.counts().workers
    }

    /// Ends the pool, whoever else has a clone of it: it takes nothing more, and what it has is waited for, at most
    /// `timeout` long; `None` waits without end. Then its processes have ended.
    ///
    /// True if all is done. What is not done in time is [closed](ProcessPoolError::Closed): queued jobs never begin, and
    /// workers that are still at work are killed.
    ///
    /// # Panics
    ///
    /// If it is polled outside of a running event loop, with a timeout and with workers that are there.
    pub async fn shutdown(&self, timeout: Option<Duration>) -> bool {
        let pool = &self.owner.pool;
        if !self.owner.home.is_here() {
            return true;
        }
        pool.end();
        let mut limit = pin!(timeout.map(Sleep::after));
        let in_time = poll_fn(|cx| match pool.poll_gone(cx) {
            Poll::Ready(()) => Poll::Ready(true),
            Poll::Pending => match limit.as_mut().as_pin_mut() {
                Some(limit) => limit.poll(cx).map(|()| false),
                None => Poll::Pending,
            },
        });
        if in_time.await {
            return true;
        }
        pool.kill();
        poll_fn(|cx| pool.poll_gone(cx)).await;
        false
    }
}

impl fmt::Debug for ProcessPoolExecutor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let pool = &self.owner.pool;
        let counts = pool.counts();
        f.debug_struct("ProcessPoolExecutor")
            .field("max_workers", &pool.settings.max_workers)
            .field("workers", &counts.workers)
            .field("idle", &counts.idle)
            .field("queued", &counts.queued)
            .finish()
    }
}

/// Settings for a [`ProcessPoolExecutor`].
///
/// ```
/// use roundelay::ProcessPoolExecutor;
///
/// ProcessPoolExecutor::functions().add("length", |text: String| text.len()).init();
/// let pool = ProcessPoolExecutor::builder().max_workers(4).max_jobs_per_worker(100).build()?;
/// assert_eq!(pool.workers(), 0);
/// # std::io::Result::Ok(())
/// ```
#[derive(Clone, Debug)]
#[must_use = "a builder does nothing before build()"]
pub struct ProcessPoolBuilder {
    settings: Settings,
}

impl ProcessPoolBuilder {
    /// The most workers that there are at a time (as many as there are processors).
    ///
    /// # Panics
    ///
    /// If it is zero.
    #[track_caller]
    pub fn max_workers(mut self, max_workers: usize) -> Self {
        assert!(max_workers > 0, "ProcessPoolBuilder::max_workers(): a pool needs at least one worker");
        self.settings.max_workers = max_workers;
        self
    }

    /// How many jobs a worker does before a new one takes its place (any number): for functions that leave something behind.
    ///
    /// # Panics
    ///
    /// If it is zero.
    #[track_caller]
    pub fn max_jobs_per_worker(mut self, jobs: usize) -> Self {
        assert!(jobs > 0, "ProcessPoolBuilder::max_jobs_per_worker(): a worker does at least one job");
        self.settings.max_jobs_per_worker = Some(jobs);
        self
    }

    /// Makes the pool. Its workers are started when they are needed.
    ///
    /// # Errors
    ///
    /// Of kind `InvalidInput`, if [`ProcessFunctions::init`] was not called in this process: its workers would start the
    /// program again, and again.
    pub fn build(self) -> io::Result<ProcessPoolExecutor> {
        if !functions::are_registered() {
            return Err(invalid_input(
                "ProcessPoolExecutor: no functions were registered in this process; call \
                 ProcessPoolExecutor::functions().add(\"name\", function).init() at the top of main",
            ));
        }
        let pool = Arc::new(Pool::new(self.settings));
        Ok(ProcessPoolExecutor { owner: Arc::new(Owner { pool, home: Home::here() }) })
    }
}
