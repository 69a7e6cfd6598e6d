//! How the body of a task hears that it was asked to end.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::rc::{Rc, Weak};
use std::task::{Context, Poll};

use crate::event_loop::running;
use crate::sched::Local;
use crate::sched::active::TaskRef;

/// Waits until the current task is asked to end, by [`Task::cancel_gracefully`](crate::Task::cancel_gracefully).
///
/// It is ready from then on, each time it is awaited. The task goes on until it returns or its grace is over; what it
/// returns is its output. The question concerns the task that polls the future: in a future inside of a task it is that
/// task. Where there is none, in a callback or outside of a loop, nobody asks, and it is never ready.
///
/// A task that has not polled it, and has not called [`is_cancel_requested`], would not hear of the request, and is
/// cancelled at once.
///
/// ```
/// use futures::future::{Either, select};
/// use roundelay::{cancel_requested, sleep, spawn, yield_now};
/// use std::{pin::pin, time::Duration};
///
/// roundelay::block_on(async {
///     let worker = spawn(async {
///         let mut rounds = 0;
///         loop {
///             let round = pin!(sleep(Duration::from_millis(1)));
///             match select(pin!(cancel_requested()), round).await {
///                 Either::Left(_) => return rounds,
///                 Either::Right(_) => rounds += 1,
///             }
///         }
///     });
///     sleep(Duration::from_millis(5)).await;
///     assert!(worker.cancel_gracefully_and_wait(Duration::from_secs(1)).await.is_ok());
/// });
/// ```
pub fn cancel_requested() -> CancelRequested {
    CancelRequested { watch: None }
}

/// Whether the current task was asked to end, by [`Task::cancel_gracefully`](crate::Task::cancel_gracefully); false where
/// there is no task.
///
/// For a body that looks from time to time. From the first call on it is given its grace, even where it never looks again.
#[doc(alias = "cancelling")]
pub fn is_cancel_requested() -> bool {
    running::with_current(|core| core.and_then(|core| core.local.is_current_asked()).is_some_and(|(_, asked)| asked))
}

/// The future of [`cancel_requested`].
#[must_use = "futures do nothing unless they are awaited"]
pub struct CancelRequested {
    watch: Option<Watch>,
}

/// The place of one who waits, in what is kept of the task.
struct Watch {
    local: Weak<Local>,
    task: TaskRef,
    key: u64,
}

impl Drop for Watch {
    fn drop(&mut self) {
        if let Some(local) = self.local.upgrade() {
            local.forget_grace(self.task, self.key);
        }
    }
}

impl Future for CancelRequested {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let local = running::with_current(|core| core.map(|core| core.local.clone()));
        let Some((local, (task, asked))) = local.and_then(|local| local.is_current_asked().map(|asked| (local, asked)))
        else {
            self.watch = None;
            return Poll::Pending;
        };
        if asked {
            self.watch = None;
            return Poll::Ready(());
        }
        // It may have been polled by another task before.
        if self.watch.as_ref().is_none_or(|watch| watch.task != task) {
            self.watch = Some(Watch { local: Rc::downgrade(&local), task, key: local.next_callback_id() });
        }
        match &self.watch {
            Some(watch) => local.watch_grace(task, watch.key, cx),
            None => Poll::Pending,
        }
    }
}

impl fmt::Debug for CancelRequested {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let task = self.watch.as_ref().map(|watch| watch.task.id);
        f.debug_struct("CancelRequested").field("task", &task).finish()
    }
}
