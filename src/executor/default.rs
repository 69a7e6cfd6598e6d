//! The loop's default executor.
//!
//! It may be anybody's, and several loops may share one. So it is the loop that remembers what it has given to it, and that
//! waits for the end of that; the executor itself is merely let go of.

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::io;
use std::panic::Location;
use std::rc::Rc;
use std::sync::{Arc, Weak};
use std::time::Duration;

use crate::error::executor_overrun;
use crate::event_loop::EventLoop;
use crate::event_loop::exception::ExceptionContext;
use crate::event_loop::fork::lock_held;
use crate::event_loop::services::Service;
use crate::event_loop::timer::Sleep;
use crate::event_loop::unfinished::{Kind, Unfinished};
use crate::executor::blocking::{self, Blocking, IfForgotten};
use crate::executor::job_info::JobInfo;
use crate::executor::thread_pool::ThreadPoolExecutor;
use crate::executor::{Executor, Runs, Work, wait_for};
use crate::sched::report::Exception;

struct DefaultExecutor {
    /// The application's, or a pool that is made when it is first needed.
    executor: RefCell<Option<Rc<dyn Executor>>>,
    /// What it was given. What is over goes when the vector would have to grow.
    jobs: RefCell<Vec<Weak<dyn Runs>>>,
    /// Whether it was shut down: nothing is taken any more.
    ended: Cell<bool>,
    /// Whether jobs were abandoned: nobody who comes after that waits for them.
    abandoned: Cell<bool>,
}

impl Service for DefaultExecutor {
    fn new(_: &EventLoop) -> Self {
        Self {
            executor: RefCell::default(),
            jobs: RefCell::default(),
            ended: Cell::new(false),
            abandoned: Cell::new(false),
        }
    }

    /// What is at work is not here. An executor of threads begins anew by itself.
    fn after_fork_child(&self, _: &EventLoop) -> io::Result<()> {
        if self.let_go() {
            return Ok(());
        }
        Err(lock_held("EventLoop::after_fork_child(): a thread was looking at a job of the default executor"))
    }

    fn close_inherited(&self) {
        self.ended.set(true);
        self.let_go();
        drop(self.executor.take());
    }

    fn close(&self) {
        self.ended.set(true);
        for job in self.jobs.take().iter().filter_map(Weak::upgrade) {
            job.close();
        }
        drop(self.executor.take());
    }
}

impl DefaultExecutor {
    /// In a child of `fork`: whoever awaits a job is told that it will not be done. False if that cannot be, for one of them.
    fn let_go(&self) -> bool {
        let mut are_free = true;
        for job in self.jobs.take().iter().filter_map(Weak::upgrade) {
            are_free &= job.after_fork_child();
        }
        are_free
    }

    fn submit(&self, work: Work) -> io::Result<()> {
        if self.ended.get() {
            return Err(io::Error::other("the default executor was shut down"));
        }
        let executor = self.executor.borrow_mut().get_or_insert_with(|| Rc::new(ThreadPoolExecutor::default())).clone();
        self.remember(&work);
        executor.submit(work)
    }

    fn remember(&self, work: &Work) {
        let mut jobs = self.jobs.borrow_mut();
        if jobs.len() == jobs.capacity() {
            jobs.retain(|job| job.upgrade().is_some_and(|job| !job.is_over()));
        }
        jobs.push(Arc::downgrade(&work.work));
    }
}

impl EventLoop {
    /// Runs a function that may block on a thread of an executor: the loop's default one, or another.
    ///
    /// The default executor has up to `min(32, processors + 4)` threads, made when they are needed, unless
    /// [`set_default_executor`](Self::set_default_executor) has set another one.
    ///
    /// On a closed loop, or when the executor was shut down or can make no thread, the function is dropped, the result
    /// says [`is_closed`](crate::JoinError::is_closed), and the exception handler is told why.
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
        let (work, blocking) = blocking::pair(function, if_forgotten, self, created_at);
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
            let context =
                ExceptionContext::new("EventLoop::run_in_executor()").with_exception(Exception::Error(&error));
            self.call_exception_handler(&context.with_created_at(created_at));
        }
        blocking
    }

    /// Sets the executor that [`run_in_executor`](Self::run_in_executor) with `None`, [`spawn_blocking`](crate::spawn_blocking)
    /// and the loop itself (for names that have to be looked up, files that are read) give their work to. With `None`, the
    /// next work makes a pool again.
    ///
    /// What the one before was given goes on there. On a loop that is closed, or whose default executor was shut down, the
    /// executor is dropped: nothing is taken any more.
    ///
    /// ```
    /// use std::rc::Rc;
    ///
    /// use roundelay::{EventLoop, ThreadPoolExecutor};
    ///
    /// // Two loops that share a pool of two threads.
    /// let pool = ThreadPoolExecutor::new(2);
    /// let threads: Vec<_> = (0..2)
    ///     .map(|number| {
    ///         let pool = pool.clone();
    ///         std::thread::spawn(move || {
    ///             let el = EventLoop::new().unwrap();
    ///             el.set_default_executor(Some(Rc::new(pool)));
    ///             el.run_until_complete(el.run_in_executor(None, move || number * 2)).unwrap().unwrap()
    ///         })
    ///     })
    ///     .collect();
    /// let sum: i32 = threads.into_iter().map(|thread| thread.join().unwrap()).sum();
    /// assert_eq!(sum, 2);
    /// ```
    pub fn set_default_executor(&self, executor: Option<Rc<dyn Executor>>) {
        if self.is_closed() {
            return;
        }
        let service = self.core.service::<DefaultExecutor>(self);
        if !service.ended.get() {
            // Dropped with nothing borrowed.
            drop(service.executor.replace(executor));
        }
    }

    /// Ends the default executor: it takes nothing more from this loop, and what this loop has given to it is waited for, at
    /// most `timeout` long; `None` waits without end. The loop goes on meanwhile.
    ///
    /// True if all is done. What is not done in time is abandoned: queued jobs never begin, running ones are let go,
    /// and the exception handler is told how many, and of the first ones which: they are subjects of type
    /// [`JobInfo`]. That is all that is heard of them: neither a later call, which is then true at once, nor the end of
    /// [`block_on`](crate::block_on) or of a [`Runner`](crate::Runner) waits for them or names them again.
    ///
    /// The loop's own pool is gone then. An executor of the application's, which other loops may share, is merely let go
    /// of: to end it is up to the application, as by [`ThreadPoolExecutor::shutdown`].
    ///
    /// # Panics
    ///
    /// If it is polled outside of a running event loop, with a timeout and with jobs that are not done.
    pub async fn shutdown_default_executor(&self, timeout: Option<Duration>) -> bool {
        let mut abandoned = Unfinished::default();
        for job in self.end_default_executor(timeout.map(Sleep::after)).await {
            abandoned.add(Kind::Job, job);
        }
        if !abandoned.is_empty() {
            let text = executor_overrun(abandoned.len(), timeout.unwrap_or_default());
            self.call_exception_handler(&abandoned.name_in(ExceptionContext::new(text)));
        }
        abandoned.is_empty()
    }

    /// The same with any limit. Gives the jobs that are abandoned, and reports nothing.
    pub(crate) async fn end_default_executor(&self, limit: Option<impl Future<Output = ()>>) -> Vec<JobInfo> {
        let service = self.core.service::<DefaultExecutor>(self);
        service.ended.set(true);
        // They stay there while they are waited for, so that a second call waits, too.
        let jobs = if service.abandoned.get() { Vec::new() } else { service.jobs.borrow().clone() };
        let abandoned = wait_for(jobs, limit).await;
        if !abandoned.is_empty() {
            service.abandoned.set(true);
        }
        // The application's, perhaps: what it does when it goes is not to hide what was abandoned.
        self.core.local.dispose(service.executor.take());
        abandoned
    }
}
