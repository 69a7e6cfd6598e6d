//! One after the other, as they come.

use std::fmt;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_core::Stream;

use crate::combine::lineup::Lineup;
use crate::error::TimedOut;
use crate::event_loop::timer::Sleep;
use crate::sched::info::AwaitKind;
use crate::sched::watch;

/// Gives the outputs of several futures in the order in which they are done, each with the number of its future.
///
/// The futures are polled by whoever asks for the next output, and dropped with the stream. So a [`Task`](crate::Task) among
/// them goes on meanwhile, and after the stream; what is no task rests while nobody asks. To have both, give it tasks, and
/// [`cancel_on_drop`](crate::Task::cancel_on_drop). `FuturesUnordered` of the `futures` crate is the same without numbers, for
/// futures of which more may come later.
///
/// ```
/// use roundelay::{as_completed, sleep, spawn};
/// use std::time::Duration;
///
/// roundelay::block_on(async {
///     let slow = spawn(async { sleep(Duration::from_millis(2)).await });
///     let fast = spawn(async {});
///     let mut completed = as_completed([slow, fast]);
///     assert_eq!(completed.next().await.map(|(number, _)| number), Some(1));
///     assert_eq!(completed.next().await.map(|(number, _)| number), Some(0));
///     assert!(completed.next().await.is_none());
/// });
/// ```
pub fn as_completed<I>(futures: I) -> AsCompleted<<I::Item as IntoFuture>::IntoFuture>
where
    I: IntoIterator,
    I::Item: IntoFuture,
{
    let futures: Vec<_> = futures.into_iter().map(|future| Some(Box::pin(future.into_future()))).collect();
    AsCompleted { lineup: Lineup::new(futures.len()), left: futures.len(), futures }
}

/// The stream of [`as_completed`]: of each future's number and output.
///
/// It may be left and taken up again: what is done meanwhile is there then.
#[must_use = "streams do nothing unless they are polled"]
pub struct AsCompleted<F> {
    lineup: Lineup,
    /// `None` for those that are done.
    futures: Vec<Option<Pin<Box<F>>>>,
    left: usize,
}

impl<F: Future> AsCompleted<F> {
    /// The next future's number and output; `None` when all are done.
    pub async fn next(&mut self) -> Option<(usize, F::Output)> {
        poll_fn(|cx| Pin::new(&mut *self).poll_next(cx)).await
    }

    /// Limits the time, which counts from when the first output is asked for. When it is over the stream gives [`TimedOut`],
    /// once, and ends. Those that are not done are dropped with the stream.
    ///
    /// ```
    /// use roundelay::{TimedOut, as_completed, sleep};
    /// use std::time::Duration;
    ///
    /// roundelay::block_on(async {
    ///     let times = [Duration::MAX, Duration::ZERO];
    ///     let mut completed = as_completed(times.map(sleep)).timeout(Duration::from_millis(1));
    ///     assert_eq!(completed.next().await, Some(Ok((1, ()))));
    ///     assert_eq!(completed.next().await, Some(Err(TimedOut)));
    ///     assert_eq!(completed.next().await, None);
    /// });
    /// ```
    pub fn timeout(self, time: Duration) -> AsCompletedInTime<F> {
        AsCompletedInTime { completed: self, limit: Some(Sleep::after(time)), is_over: false }
    }
}

impl<F: Future> Stream for AsCompleted<F> {
    type Item = (usize, F::Output);

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        if this.left == 0 {
            return Poll::Ready(None);
        }
        // One that wakes itself has its turn when the others have had theirs.
        for _ in 0..this.lineup.wait(cx) {
            let Some((number, waker)) = this.lineup.next() else { break };
            // Not put back where it panics.
            let Some(mut future) = this.futures[number].take() else { continue };
            this.left -= 1;
            let _within = watch::within(AwaitKind::AsCompleted);
            if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
                return Poll::Ready(Some((number, output)));
            }
            this.futures[number] = Some(future);
            this.left += 1;
        }
        Poll::Pending
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl<F> fmt::Debug for AsCompleted<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AsCompleted").field("left", &self.left).field("of", &self.futures.len()).finish()
    }
}

/// The stream of [`AsCompleted::timeout`]: the number and output of each future that is done in time.
#[must_use = "streams do nothing unless they are polled"]
pub struct AsCompletedInTime<F> {
    completed: AsCompleted<F>,
    /// `None` when it is not needed any more.
    limit: Option<Sleep>,
    is_over: bool,
}

impl<F: Future> AsCompletedInTime<F> {
    /// The next future's number and output, or that the time is over; `None` after that, and when all are done.
    pub async fn next(&mut self) -> Option<Result<(usize, F::Output), TimedOut>> {
        poll_fn(|cx| Pin::new(&mut *self).poll_next(cx)).await
    }
}

impl<F: Future> Stream for AsCompletedInTime<F> {
    type Item = Result<(usize, F::Output), TimedOut>;

    /// # Panics
    ///
    /// If it is polled outside of a running event loop, and has to wait.
    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.is_over {
            return Poll::Ready(None);
        }
        if let Poll::Ready(next) = Pin::new(&mut self.completed).poll_next(cx) {
            if self.completed.left == 0 {
                self.limit = None;
            } else if let Some(limit) = &mut self.limit {
                limit.begin();
            }
            return Poll::Ready(next.map(Ok));
        }
        if let Some(limit) = &mut self.limit {
            std::task::ready!(Pin::new(limit).poll(cx));
        }
        (self.is_over, self.limit) = (true, None);
        Poll::Ready(Some(Err(TimedOut)))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        if self.is_over { (0, Some(0)) } else { (0, Some(self.completed.left + 1)) }
    }
}

impl<F> fmt::Debug for AsCompletedInTime<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("AsCompletedInTime");
        debug.field("completed", &self.completed).field("limit", &self.limit).field("is_over", &self.is_over).finish()
    }
}
