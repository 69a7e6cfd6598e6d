//! A future with a limit.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use crate::error::TimedOut;
use crate::event_loop::timer::Sleep;
use crate::sched::info::AwaitKind;
use crate::sched::watch;

/// Gives a future a limited time, and drops it when the time is over. `None` is no limit.
///
/// To wait for what a task has to do when it is cancelled there is [`wait_for`](crate::wait_for); for a limit that is
/// changed from the inside, [`timeout_scope`](crate::timeout_scope).
///
/// A future that is done at its first poll is done in time, whatever the limit.
///
/// ```
/// use roundelay::{TimedOut, sleep, timeout};
/// use std::time::Duration;
///
/// roundelay::block_on(async {
///     assert_eq!(timeout(Duration::from_secs(5), async { 1 }).await, Ok(1));
///     assert_eq!(timeout(Duration::from_millis(1), sleep(Duration::MAX)).await, Err(TimedOut));
/// });
/// ```
///
/// # Panics
///
/// If it is polled outside of a running event loop, and the future is not done at once.
pub fn timeout<F: IntoFuture>(time: impl Into<Option<Duration>>, future: F) -> Timeout<F::IntoFuture> {
    Timeout { future: Some(future.into_future()), limit: time.into().map(Sleep::after) }
}

/// As [`timeout`], until a moment of the loop's clock.
///
/// # Panics
///
/// If it is polled outside of a running event loop, and the future is not done at once.
pub fn timeout_at<F: IntoFuture>(deadline: impl Into<Option<Instant>>, future: F) -> Timeout<F::IntoFuture> {
    Timeout { future: Some(future.into_future()), limit: deadline.into().map(Sleep::until) }
}

pin_project_lite::pin_project! {
    /// The future of [`timeout`] and [`timeout_at`]: of `Result<T, TimedOut>`.
    #[must_use = "futures do nothing unless they are awaited"]
    pub struct Timeout<F> {
        // Dropped as soon as the time is over.
        #[pin]
        future: Option<F>,
        limit: Option<Sleep>,
    }
}

impl<F> Timeout<F> {
    /// The moment at which the time is over; `None` without a limit, and before the first poll of a [`timeout`].
    #[doc(alias = "when")]
    pub fn deadline(&self) -> Option<Instant> {
        self.limit.as_ref().and_then(Sleep::deadline)
    }

    /// Whether the time was over before the future was done.
    pub fn expired(&self) -> bool {
        self.future.is_none()
    }

    /// Gives the future another limit from now on, or none. Does nothing once the time is over.
    ///
    /// Where there was no limit, it counts from the next poll on.
    pub fn reschedule(self: Pin<&mut Self>, deadline: impl Into<Option<Instant>>) {
        set_limit(self.project().limit, deadline.into());
    }
}

impl<F: Future> Future for Timeout<F> {
    type Output = Result<F::Output, TimedOut>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        let Some(future) = this.future.as_mut().as_pin_mut() else { return Poll::Ready(Err(TimedOut)) };
        let within = watch::within(AwaitKind::Timeout);
        let polled = future.poll(cx);
        drop(within);
        if let Poll::Ready(output) = polled {
            return Poll::Ready(Ok(output));
        }
        let Some(limit) = this.limit else { return Poll::Pending };
        std::task::ready!(Pin::new(limit).poll(cx));
        this.future.set(None);
        Poll::Ready(Err(TimedOut))
    }
}

/// Changes a limit, so that whoever waits for it need not poll again, if there was one.
pub(super) fn set_limit(limit: &mut Option<Sleep>, deadline: Option<Instant>) {
    match (limit.as_mut(), deadline) {
        (Some(limit), Some(deadline)) => limit.reset(deadline),
        (_, deadline) => *limit = deadline.map(Sleep::until),
    }
}

impl<F> fmt::Debug for Timeout<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Timeout").field("limit", &self.limit).finish_non_exhaustive()
    }
}
