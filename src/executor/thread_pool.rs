//! A pool of threads that come when they are needed and go when they are idle.

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, Weak};
use std::thread;
use std::time::{Duration, Instant};

use crate::constants::{EXECUTOR_EXTRA_THREADS, EXECUTOR_IDLE, EXECUTOR_MAX_THREADS};
use crate::event_loop::job::{lock, try_lock};
use crate::event_loop::timer::Sleep;
use crate::executor::{Executor, Runs, Work, wait_for};
use crate::os::fork::Home;
use crate::sched::clock::deadline;

/// An [`Executor`] of threads. They are made on demand, up to a limit, and end when they have been idle for a while.
///
/// Clones are the same pool, which any number of loops and threads may share. When the last one is dropped, the jobs that
/// are queued or running go on; the threads end after them.
///
/// A child of `fork` does not have the threads: there the pool begins anew, with none of the jobs that it had.
///
/// ```
/// use roundelay::{EventLoop, ThreadPoolExecutor};
///
/// let el = EventLoop::new()?;
/// let pool = ThreadPoolExecutor::new(2);
/// let answer = el.run_in_executor(Some(&pool), || 6 * 7);
/// assert_eq!(el.run_until_complete(answer).unwrap().unwrap(), 42);
/// # std::io::Result::Ok(())
/// ```
#[derive(Clone)]
pub struct ThreadPoolExecutor {
    owner: Arc<Owner>,
}

/// What the application holds: the threads end when it is gone.
struct Owner {
    pool: Arc<Pool>,
}

struct Pool {
    settings: ThreadPoolBuilder,
    /// The process that has the threads.
    home: Home,
    inner: Mutex<Inner>,
    /// Told when there is work, or when threads are to end.
    work: Condvar,
}

#[derive(Default)]
struct Inner {
    queue: VecDeque<Work>,
    /// Threads that are there, and those of them that wait for work.
    threads: usize,
    idle: usize,
    /// Jobs under way. Not kept alive from here: what they hold must not be dropped under the lock.
    running: Vec<Weak<dyn Runs>>,
    /// Nothing more will come: threads end when the queue is empty.
    ended: bool,
    /// Names the threads.
    made: usize,
}

impl ThreadPoolExecutor {
    /// A pool of at most `max_threads` threads.
    ///
    /// # Panics
    ///
    /// If `max_threads` is zero.
    #[track_caller]
    pub fn new(max_threads: usize) -> Self {
        assert!(max_threads > 0, "ThreadPoolExecutor::new(): it needs at least one thread");
        Self::builder().max_threads(max_threads).build()
    }

    /// A pool with settings of your own.
    pub fn builder() -> ThreadPoolBuilder {
        let processors = thread::available_parallelism().map_or(1, usize::from);
        ThreadPoolBuilder {
            max_threads: EXECUTOR_MAX_THREADS.min(processors + EXECUTOR_EXTRA_THREADS),
            name_prefix: "roundelay".to_owned(),
            idle_timeout: EXECUTOR_IDLE,
            stack_size: None,
        }
    }

    /// How many threads there are now.
    pub fn threads(&self) -> usize {
        self.owner.pool.lock().map_or(0, |inner| inner.threads)
    }

    /// Ends the pool, whoever else has a clone of it: it takes nothing more, and what it has is waited for, at most
    /// `timeout` long; `None` waits without end. The threads end as soon as they have nothing to do.
    ///
    /// True if all is done. What is not done in time is abandoned: queued jobs never begin, running ones are let go.
    ///
    /// # Panics
    ///
    /// If it is polled outside of a running event loop, with a timeout and with jobs that are not done.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// use roundelay::{ThreadPoolExecutor, get_running_loop};
    ///
    /// roundelay::block_on(async {
    ///     let (el, pool) = (get_running_loop().unwrap(), ThreadPoolExecutor::new(1));
    ///     let job = el.run_in_executor(Some(&pool), || "done");
    ///     assert!(pool.shutdown(Some(Duration::from_secs(60))).await);
    ///     assert_eq!(job.await.unwrap(), "done");
    /// });
    /// ```
    pub async fn shutdown(&self, timeout: Option<Duration>) -> bool {
        let pool = &self.owner.pool;
        let jobs = {
            let Some(mut inner) = pool.lock() else { return true };
            inner.ended = true;
            let queued = inner.queue.iter().map(|work| Arc::downgrade(&work.work));
            queued.chain(inner.running.iter().cloned()).collect()
        };
        pool.work.notify_all();
        wait_for(jobs, timeout.map(Sleep::after)).await.is_empty()
    }
}

impl Default for ThreadPoolExecutor {
    /// A pool of `min(32, processors + 4)` threads, as in Python.
    fn default() -> Self {
        Self::builder().build()
    }
}

impl Executor for ThreadPoolExecutor {
    fn submit(&self, work: Work) -> io::Result<()> {
        let pool = &self.owner.pool;
        let Some(mut inner) = pool.lock() else {
            return Err(io::Error::other("a thread was looking at the pool when this process was forked"));
        };
        if inner.ended {
            drop(inner);
            drop(work);
            return Err(io::Error::other("the pool was shut down"));
        }
        inner.queue.push_back(work);
        // An idle thread that was told of work and has not come for it yet still counts as idle.
        if inner.idle < inner.queue.len() && inner.threads < pool.settings.max_threads {
            inner.threads += 1;
            inner.made += 1;
            if let Err(error) = Pool::spawn(pool, inner.made - 1) {
                inner.threads -= 1;
                // With other threads at work it is merely late.
                if inner.threads == 0 {
                    let work = inner.queue.pop_back();
                    drop(inner);
                    drop(work);
                    return Err(io::Error::new(error.kind(), format!("cannot make a thread: {error}")));
                }
            }
        }
        drop(inner);
        pool.work.notify_one();
        Ok(())
    }
}

impl Pool {
    /// `None` in a child of `fork`, if a thread has the lock that is not there.
    fn lock(&self) -> Option<MutexGuard<'_, Inner>> {
        if self.home.is_here() {
            return Some(lock(&self.inner));
        }
        let mut inner = try_lock(&self.inner)?;
        let left = std::mem::take(&mut *inner);
        (inner.ended, inner.made) = (left.ended, left.made);
        self.home.move_here();
        drop(inner);
        let running = left.running.iter().filter_map(Weak::upgrade);
        for job in running.chain(left.queue.iter().map(|work| work.work.clone())) {
            job.after_fork_child();
        }
        // Whoever was looking at one of them, and has its lock, is not there.
        std::mem::forget(left.queue);
        Some(lock(&self.inner))
    }

    fn spawn(pool: &Arc<Self>, number: usize) -> io::Result<()> {
        let mut thread = thread::Builder::new().name(format!("{}_{number}", pool.settings.name_prefix));
        if let Some(stack_size) = pool.settings.stack_size {
            thread = thread.stack_size(stack_size);
        }
        let pool = pool.clone();
        thread.spawn(move || pool.work()).map(drop)
    }

    /// What each thread does.
    fn work(&self) {
        let mut inner = lock(&self.inner);
        loop {
            if let Some(work) = inner.queue.pop_front() {
                let running = Arc::downgrade(&work.work);
                inner.running.push(running.clone());
                drop(inner);
                // Only a waker that panics gets here. The panic hook has told of it, and the thread is still good.
                let _ = catch_unwind(AssertUnwindSafe(|| work.run()));
                inner = lock(&self.inner);
                inner.running.retain(|other| !other.ptr_eq(&running));
                continue;
            }
            if inner.ended {
                break;
            }
            let until = deadline(Instant::now(), self.settings.idle_timeout);
            inner.idle += 1;
            while inner.queue.is_empty() && !inner.ended {
                let left = until.saturating_duration_since(Instant::now());
                if left == Duration::ZERO {
                    break;
                }
                inner = self.work.wait_timeout(inner, left).unwrap_or_else(|poison| poison.into_inner()).0;
            }
            inner.idle -= 1;
            if inner.queue.is_empty() {
                break;
            }
        }
        inner.threads -= 1;
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        if let Some(mut inner) = self.pool.lock() {
            inner.ended = true;
            drop(inner);
            self.pool.work.notify_all();
        }
    }
}

impl fmt::Debug for ThreadPoolExecutor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("ThreadPoolExecutor");
        debug.field("max_threads", &self.owner.pool.settings.max_threads);
        let Some(inner) = self.owner.pool.lock() else { return debug.finish_non_exhaustive() };
        debug
            .field("threads", &inner.threads)
            .field("queued", &inner.queue.len())
            .field("running", &inner.running.len())
            .finish()
    }
}

/// Settings for a [`ThreadPoolExecutor`].
///
/// ```
/// use std::time::Duration;
///
/// let pool = roundelay::ThreadPoolExecutor::builder()
///     .max_threads(4)
///     .name_prefix("database")
///     .idle_timeout(Duration::from_secs(60))
///     .stack_size(256 * 1024)
///     .build();
/// assert_eq!(pool.threads(), 0);
/// ```
#[derive(Clone, Debug)]
#[must_use = "a builder does nothing before build()"]
pub struct ThreadPoolBuilder {
    max_threads: usize,
    name_prefix: String,
    idle_timeout: Duration,
    stack_size: Option<usize>,
}

impl ThreadPoolBuilder {
    /// The most threads that there are at a time (`min(32, processors + 4)`).
    ///
    /// # Panics
    ///
    /// If it is zero.
    #[track_caller]
    pub fn max_threads(mut self, max_threads: usize) -> Self {
        assert!(max_threads > 0, "ThreadPoolBuilder::max_threads(): a pool needs at least one thread");
        self.max_threads = max_threads;
        self
    }

    /// What the threads' names begin with (`roundelay`); an underscore and a number follow. Linux shows the first 15 bytes.
    ///
    /// # Panics
    ///
    /// If a byte of it is zero: the system could not be told.
    #[track_caller]
    pub fn name_prefix(mut self, prefix: impl Into<String>) -> Self {
        let prefix = prefix.into();
        assert!(!prefix.contains('\0'), "ThreadPoolBuilder::name_prefix(): a byte of it is zero");
        self.name_prefix = prefix;
        self
    }

    /// How long a thread waits for another job before it ends (10 seconds). With zero it waits for none.
    pub fn idle_timeout(mut self, timeout: Duration) -> Self {
        self.idle_timeout = timeout;
        self
    }

    /// How large the threads' stacks are, in bytes; without it, as large as those of other threads.
    pub fn stack_size(mut self, bytes: usize) -> Self {
        self.stack_size = Some(bytes);
        self
    }

    /// Makes the pool. Its threads are made when they are needed.
    pub fn build(self) -> ThreadPoolExecutor {
        let (inner, work) = (Mutex::new(Inner::default()), Condvar::new());
        ThreadPoolExecutor {
            owner: Arc::new(Owner { pool: Arc::new(Pool { settings: self, home: Home::here(), inner, work }) }),
        }
    }
}
