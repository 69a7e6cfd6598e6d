//! Waiting until enough of several tasks are done.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use crate::combine::lineup::Lineup;
use crate::error::JoinError;
use crate::event_loop::timer::Sleep;
use crate::sched::join::Task;

/// Waits until all of the tasks are done, or until the [first](Wait::first_completed) one is, or the first has
/// [failed](Wait::first_exception), or the time is [over](Wait::timeout). It cancels nobody, and gives the tasks back.
///
/// If it is dropped before it is done the tasks go on, as tasks do whose handles are dropped.
///
/// To wait for one of a few futures of different kinds there is `select` in the `futures` crate.
///
/// # Panics
///
/// If there is no task. When it is awaited, if a task belongs to another loop.
///
/// ```
/// use roundelay::{sleep, spawn, wait};
/// use std::time::Duration;
///
/// roundelay::block_on(async {
///     let tasks = [1, 5000].map(|ms| spawn(sleep(Duration::from_millis(ms))));
///     let waited = wait(tasks).first_completed().await;
///     assert_eq!((waited.done.len(), waited.pending.len()), (1, 1));
///     waited.pending[0].cancel();
/// });
/// ```
#[doc(alias = "ALL_COMPLETED")]
#[track_caller]
pub fn wait<T>(tasks: impl IntoIterator<Item = Task<T>>) -> Wait<T> {
    let tasks: Vec<_> = tasks.into_iter().map(|task| (task, false)).collect();
    assert!(!tasks.is_empty(), "wait(): there is no task to wait for");
    Wait { lineup: Lineup::new(tasks.len()), left: tasks.len(), tasks, until: Until::All, limit: None }
}

/// What a [`Wait`] waits for.
enum Until<T> {
    All,
    First,
    /// The first of which this is true.
    Failure(fn(&mut Task<T>) -> bool),
}

/// The future of [`wait`]: of [`Waited`].
#[must_use = "futures do nothing unless they are awaited"]
pub struct Wait<T> {
    lineup: Lineup,
    /// Each with whether it was seen done.
    tasks: Vec<(Task<T>, bool)>,
    /// How many were not.
    left: usize,
    until: Until<T>,
    limit: Option<Sleep>,
}

/// What became of the tasks given to [`wait`], in their order.
#[derive(Debug)]
pub struct Waited<T> {
    /// Those that were done when the wait ended: awaiting them waits no more.
    pub done: Vec<Task<T>>,
    /// The others.
    pub pending: Vec<Task<T>>,
}

impl<T> Wait<T> {
    /// Waits until one is done, in whichever way.
    #[doc(alias("FIRST_COMPLETED", "return_when"))]
    pub fn first_completed(mut self) -> Self {
        self.until = Until::First;
        self
    }

    /// Waits no longer than so, counted from the first poll. What is not done by then is pending.
    pub fn timeout(mut self, time: Duration) -> Self {
        self.limit = Some(Sleep::after(time));
        self
    }
}

impl<T, E> Wait<Result<T, E>> {
    /// Waits until one has given an error or panicked, or until all are done. One that was cancelled has not failed.
    #[doc(alias("FIRST_EXCEPTION", "return_when"))]
    pub fn first_exception(mut self) -> Self {
        self.until = Until::Failure(|task| {
            let has_failed = |result: &Result<Result<T, E>, JoinError>| match result {
                Ok(output) => output.is_err(),
                Err(error) => !error.is_cancelled(),
            };
            task.look(has_failed).unwrap_or(false)
        });
        self
    }
}

impl<T> Future for Wait<T> {
    type Output = Waited<T>;

    /// # Panics
    ///
    /// If a task belongs to another loop than the one that runs; if none runs, and there is a [`timeout`](Self::timeout);
    /// if it is polled again after it was ready.
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Waited<T>> {
        let this = &mut *self;
        assert!(!this.tasks.is_empty(), "wait(): polled after it was ready");
        let mut is_enough = false;
        for _ in 0..this.lineup.wait(cx) {
            let Some((number, waker)) = this.lineup.next() else { break };
            let (task, is_done) = &mut this.tasks[number];
            if *is_done || !task.watch(&waker) {
                continue;
            }
            *is_done = true;
            this.left -= 1;
            is_enough |= match this.until {
                Until::All => false,
                Until::First => true,
                Until::Failure(has_failed) => has_failed(task),
            };
        }
        if !is_enough && this.left > 0 {
            match &mut this.limit {
                Some(limit) => std::task::ready!(Pin::new(limit).poll(cx)),
                None => return Poll::Pending,
            }
        }
        this.limit = None;
        // Also those that were done after the one that was enough.
        let tasks = std::mem::take(&mut this.tasks).into_iter().map(|(task, _)| task);
        let (done, pending): (Vec<_>, Vec<_>) = tasks.partition(Task::is_done);
        pending.iter().for_each(Task::await_no_more);
        Poll::Ready(Waited { done, pending })
    }
}

impl<T> fmt::Debug for Wait<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let until = match self.until {
            Until::All => "all completed",
            Until::First => "first completed",
            Until::Failure(_) => "first exception",
        };
        let mut debug = f.debug_struct("Wait");
        debug.field("left", &self.left).field("until", &until).field("limit", &self.limit).finish_non_exhaustive()
    }
}
