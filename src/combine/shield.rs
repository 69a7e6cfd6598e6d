//! Awaiting without holding.

use std::fmt;
use std::future::Future;
use std::ops::Deref;
use std::pin::Pin;
use std::task::{Context, Poll};

use crate::error::JoinError;
use crate::sched::info::AwaitKind;
use crate::sched::join::Task;
use crate::sched::watch;

/// Awaits a task which goes on if whoever awaits it is cancelled.
///
/// Here that is so of every [`Task`], for dropping one detaches it: `shield` is for those who look for asyncio's name, and
/// for readers of the line. What it protects is the task; a future that is no task is one after [`spawn`](crate::spawn).
/// A task that is asked for again after a timeout is lent instead: `timeout(time, &mut task)`.
///
/// If the task panics after the shield was dropped, the exception handler is told, as of any task that nobody awaits.
///
/// ```
/// use roundelay::{shield, sleep, spawn, timeout};
/// use std::{cell::Cell, rc::Rc, time::Duration};
///
/// roundelay::block_on(async {
///     let saved = Rc::new(Cell::new(false));
///     let flag = saved.clone();
///     let saving = spawn(async move {
///         sleep(Duration::from_millis(2)).await;
///         flag.set(true);
///     });
///     assert!(timeout(Duration::from_millis(1), shield(saving)).await.is_err());
///     sleep(Duration::from_millis(5)).await;
///     assert!(saved.get());
/// });
/// ```
pub fn shield<T>(task: Task<T>) -> Shield<T> {
    Shield { task }
}

/// The future of [`shield`]: of `Result<T, JoinError>`, as that of the task.
#[must_use = "futures do nothing unless they are awaited"]
pub struct Shield<T> {
    task: Task<T>,
}

impl<T> Shield<T> {
    /// The task itself.
    pub fn into_task(self) -> Task<T> {
        self.task
    }
}

impl<T> Deref for Shield<T> {
    type Target = Task<T>;

    fn deref(&self) -> &Task<T> {
        &self.task
    }
}

impl<T> Future for Shield<T> {
    type Output = Result<T, JoinError>;

    /// # Panics
    ///
    /// As the [`Task`]'s.
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let _within = watch::within(AwaitKind::Shield);
        Pin::new(&mut self.task).poll(cx)
    }
}

impl<T> fmt::Debug for Shield<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Shield").field(&self.task).finish()
    }
}
