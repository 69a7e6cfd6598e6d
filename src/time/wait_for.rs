//! A task with a limit.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use crate::error::{JoinError, TimedOut};
use crate::event_loop::timer::Sleep;
use crate::sched::info::AwaitKind;
use crate::sched::join::Task;
use crate::sched::watch;

/// Gives a task a limited time. When it is over the task is cancelled [gracefully](Task::cancel_gracefully), and waited for:
/// whatever it did is done when the error is there. `None` is no limit.
///
/// Where [`timeout`](crate::timeout) drops a future, this lets a task that looks whether it was asked to end do what is left
/// to be done, by default for as long as it takes; [`grace`](WaitFor::grace) sets a bound. What the task gives in spite of it,
/// a value or a panic, is the output. A task that does not look is cancelled at once.
///
/// A task that is not done when a limit of zero is first looked at never begins. Dropping the future cancels the task; one
/// that is to go on is [lent to a timeout](crate::shield).
///
/// ```
/// use roundelay::{TimedOut, cancel_requested, sleep, spawn, wait_for};
/// use std::{cell::Cell, rc::Rc, time::Duration};
///
/// roundelay::block_on(async {
///     let cleaned_up = Rc::new(Cell::new(false));
///     let flag = cleaned_up.clone();
///     let task = spawn(async move {
///         cancel_requested().await;
///         sleep(Duration::from_millis(2)).await;
///         flag.set(true);
///         "stopped half-way"
///     });
///     assert_eq!(wait_for(Duration::from_millis(1), task).await.unwrap().unwrap(), "stopped half-way");
///     assert!(cleaned_up.get());
///
///     let task = spawn(sleep(Duration::MAX));
///     assert_eq!(wait_for(Duration::from_millis(1), task).await.unwrap_err(), TimedOut);
/// });
/// ```
pub fn wait_for<T>(time: impl Into<Option<Duration>>, task: Task<T>) -> WaitFor<T> {
    let limit = match time.into() {
        None => Limit::None,
        Some(Duration::ZERO) => Limit::Zero,
        Some(time) => Limit::Time(Sleep::after(time)),
    };
    WaitFor { task, limit, grace: Duration::MAX }
}

/// The future of [`wait_for`]: of `Result<Result<T, JoinError>, TimedOut>`.
#[must_use = "dropping it cancels the task"]
pub struct WaitFor<T> {
    task: Task<T>,
    limit: Limit,
    grace: Duration,
}

enum Limit {
    None,
    Zero,
    Time(Sleep),
    /// The task was cancelled.
    Over,
}

impl<T> WaitFor<T> {
    /// How long the task may take to end once its time is over (as long as it likes).
    pub fn grace(mut self, grace: Duration) -> Self {
        self.grace = grace;
        self
    }
}

impl<T> Future for WaitFor<T> {
    type Output = Result<Result<T, JoinError>, TimedOut>;

    /// # Panics
    ///
    /// As the [`Task`]'s; and if it is polled outside of a running event loop, with a limit.
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        let within = watch::within(AwaitKind::WaitFor);
        let polled = Pin::new(&mut this.task).poll(cx);
        drop(within);
        if let Poll::Ready(result) = polled {
            let is_end = matches!(&result, Err(error) if error.is_cancelled());
            let timed_out = is_end && matches!(this.limit, Limit::Over);
            // Its timer goes at once.
            this.limit = Limit::None;
            return Poll::Ready(if timed_out { Err(TimedOut) } else { Ok(result) });
        }
        match &mut this.limit {
            Limit::None | Limit::Over => return Poll::Pending,
            Limit::Zero => {}
            Limit::Time(sleep) => std::task::ready!(Pin::new(sleep).poll(cx)),
        }
        this.limit = Limit::Over;
        this.task.cancel_gracefully(this.grace);
        Poll::Pending
    }
}

impl<T> Drop for WaitFor<T> {
    fn drop(&mut self) {
        self.task.cancel();
    }
}

impl<T> fmt::Debug for WaitFor<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WaitFor").field("task", &self.task).field("grace", &self.grace).finish_non_exhaustive()
    }
}
