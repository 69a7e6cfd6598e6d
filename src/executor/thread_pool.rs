//! A pool of threads that come when they are needed and go when they are idle.

use std::collections::VecDeque;
use std::fmt;
use std::future::{Future, poll_fn};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::{Arc, Condvar, Mutex, Weak};
use std::task::{Poll, Waker};
use std::thread;
use std::time::{Duration, Instant};

use crate::constants::{EXECUTOR_EXTRA_THREADS, EXECUTOR_IDLE, EXECUTOR_MAX_THREADS};
use crate::event_loop::job::{lock, try_lock};
use crate::executor::{Executor, Runs, Work};
use crate::os::fork::Home;

/// An [`Executor`] of threads. They are made on demand, up to a limit, and end when they have been idle for a while.
///
/// Dropping it lets the jobs that are queued or running go on; the threads end after them.
///
/// A child of `fork` does not have its threads: there it takes nothing, and what it was given before is not done.
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
pub struct ThreadPoolExecutor {
    shared: Arc<Pool>,
    limit: usize,
    /// The process that has the threads.
    home: Home,
}

struct Pool {
    inner: Mutex<Inner>,
    /// Told when there is work, or when threads are to end.
    work: Condvar,
}

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
    /// Who waits for the end of all jobs.
    waiters: Vec<Waker>,
}

impl Inner {
    /// How many jobs are not done that somebody wants.
    fn left(&self) -> usize {
        let queued = self.queue.iter().filter(|work| work.is_wanted()).count();
        queued + self.running.iter().filter_map(Weak::upgrade).filter(|work| work.is_wanted()).count()
    }
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
        let (queue, running, waiters) = (VecDeque::new(), Vec::new(), Vec::new());
        let inner = Inner { queue, threads: 0, idle: 0, running, ended: false, made: 0, waiters };
        Self {
            shared: Arc::new(Pool { inner: Mutex::new(inner), work: Condvar::new() }),
            limit: max_threads,
            home: Home::here(),
        }
    }

    /// How many threads there are now.
    pub fn threads(&self) -> usize {
        if self.home.is_here() { lock(&self.shared.inner).threads } else { 0 }
    }

    /// Waits until all jobs are done, or the limit is over; returns how many are abandoned.
    pub(crate) async fn shutdown(&self, limit: Option<impl Future<Output = ()>>) -> usize {
        {
            lock(&self.shared.inner).ended = true;
            self.shared.work.notify_all();
        }
        let mut limit = pin!(limit);
        let left = poll_fn(|cx| {
            let over = limit.as_mut().as_pin_mut().is_some_and(|limit| limit.poll(cx).is_ready());
            let mut inner = lock(&self.shared.inner);
            let left = inner.left();
            if over || left == 0 {
                return Poll::Ready(left);
            }
            if !inner.waiters.iter().any(|waiter| waiter.will_wake(cx.waker())) {
                inner.waiters.push(cx.waker().clone());
            }
            Poll::Pending
        });
        let left = left.await;
        self.abandon();
        left
    }

    /// In a child of `fork`: whoever awaits a job is told that it will not be done. False if a lock is held by a thread that
    /// this process does not have.
    pub(crate) fn after_fork_child(&self) -> bool {
        let (queue, running) = match try_lock(&self.shared.inner) {
            Some(mut inner) => (std::mem::take(&mut inner.queue), std::mem::take(&mut inner.running)),
            None => return false,
        };
        let mut are_free = true;
        for running in running.iter().filter_map(Weak::upgrade) {
            are_free &= running.after_fork_child();
        }
        for work in queue {
            if !work.work.after_fork_child() {
                are_free = false;
                std::mem::forget(work);
            }
        }
        are_free
    }

    /// Lets go of what runs, and drops what is queued.
    pub(crate) fn abandon(&self) {
        let (queue, waiters) = {
            let mut inner = lock(&self.shared.inner);
            inner.ended = true;
            (std::mem::take(&mut inner.queue), std::mem::take(&mut inner.waiters))
        };
        self.shared.work.notify_all();
        drop(queue);
        // There may be nothing left to wait for.
        waiters.into_iter().for_each(Waker::wake);
    }
}

impl Default for ThreadPoolExecutor {
    /// A pool of `min(32, processors + 4)` threads, as in Python.
    fn default() -> Self {
        let processors = thread::available_parallelism().map_or(1, usize::from);
        Self::new(EXECUTOR_MAX_THREADS.min(processors + EXECUTOR_EXTRA_THREADS))
    }
}

impl Executor for ThreadPoolExecutor {
    fn submit(&self, work: Work) -> io::Result<()> {
        if !self.home.is_here() {
            return Err(io::Error::other("the executor's threads are those of a process that has forked this one"));
        }
        let mut inner = lock(&self.shared.inner);
        inner.queue.push_back(work);
        // An idle thread that was told of work and has not come for it yet still counts as idle.
        if inner.idle < inner.queue.len() && inner.threads < self.limit {
            inner.threads += 1;
            inner.made += 1;
            let name = format!("roundelay_{}", inner.made - 1);
            let shared = self.shared.clone();
            if let Err(error) = thread::Builder::new().name(name).spawn(move || shared.work()) {
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
        self.shared.work.notify_one();
        Ok(())
    }
}

impl Pool {
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
                if !inner.waiters.is_empty() && inner.left() == 0 {
                    let waiters = std::mem::take(&mut inner.waiters);
                    drop(inner);
                    waiters.into_iter().for_each(Waker::wake);
                    inner = lock(&self.inner);
                }
                continue;
            }
            if inner.ended {
                break;
            }
            let until = Instant::now() + EXECUTOR_IDLE;
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

impl Drop for ThreadPoolExecutor {
    fn drop(&mut self) {
        if !self.home.is_here() {
            return;
        }
        lock(&self.shared.inner).ended = true;
        self.shared.work.notify_all();
    }
}

impl fmt::Debug for ThreadPoolExecutor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.home.is_here() {
            return f.debug_struct("ThreadPoolExecutor").field("max_threads", &self.limit).finish_non_exhaustive();
        }
        let inner = lock(&self.shared.inner);
        f.debug_struct("ThreadPoolExecutor")
            .field("max_threads", &self.limit)
            .field("threads", &inner.threads)
            .field("queued", &inner.queue.len())
            .field("running", &inner.running.len())
            .finish()
    }
}
