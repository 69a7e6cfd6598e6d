//! A limit that is changed from the inside.

use std::cell::Cell;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use crate::error::{InvalidState, TimedOut};
use crate::event_loop::timer::Sleep;
use crate::executor::required_loop;
use crate::sched::clock::deadline;
use crate::sched::info::AwaitKind;
use crate::sched::watch;
use crate::time::timeout::set_limit;

/// As [`timeout`](crate::timeout), of a body that is given a handle to its own limit: to look at it, to extend it, to make
/// an end of it. `None` is no limit, for now.
///
/// ```
/// use roundelay::{TimedOut, get_running_loop, sleep, timeout_scope};
/// use std::time::Duration;
///
/// roundelay::block_on(async {
///     let minute = Duration::from_secs(60);
///     let connected = timeout_scope(Duration::from_millis(1), async |limit| {
///         // There was a sign of life: there is no hurry any more.
///         limit.reschedule(get_running_loop().unwrap().time() + minute).unwrap();
///         sleep(Duration::from_millis(5)).await;
///     });
///     assert_eq!(connected.await, Ok(()));
/// });
/// ```
pub fn timeout_scope<B, F>(time: impl Into<Option<Duration>>, body: B) -> TimeoutScope<B, F>
where
    B: FnOnce(TimeLimit) -> F,
    F: Future,
{
    TimeoutScope { body: Some((body, time.into())), future: None, sleep: None, limit: None }
}

pin_project_lite::pin_project! {
    /// The future of [`timeout_scope`]: of `Result<T, TimedOut>`.
    #[must_use = "futures do nothing unless they are awaited"]
    pub struct TimeoutScope<B, F> {
        // `None` once the future is made of it.
        body: Option<(B, Option<Duration>)>,
        // Dropped as soon as the time is over.
        #[pin]
        future: Option<F>,
        sleep: Option<Sleep>,
        // `None` before the first poll only.
        limit: Option<Inside>,
    }
}

/// The limit as the scope knows it.
struct Inside(Rc<Limit>);

impl Drop for Inside {
    fn drop(&mut self) {
        self.0.end(State::Finished);
    }
}

struct Limit {
    deadline: Cell<Option<Instant>>,
    state: Cell<State>,
    /// Wakes the scope.
    waker: Cell<Option<Waker>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Running,
    /// The time was over first.
    Expired,
    /// The body was done first, or dropped.
    Finished,
}

impl Limit {
    /// The first end counts.
    fn end(&self, state: State) {
        if self.state.get() == State::Running {
            self.state.set(state);
            drop(self.waker.take());
        }
    }
}

impl<B, F> Future for TimeoutScope<B, F>
where
    B: FnOnce(TimeLimit) -> F,
    F: Future,
{
    type Output = Result<F::Output, TimedOut>;

    /// # Panics
    ///
    /// If it is polled outside of a running event loop, or again after it gave the body's output.
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        if let Some((body, time)) = this.body.take() {
            let now = required_loop("timeout_scope").time();
            let limit = Rc::new(Limit {
                deadline: Cell::new(time.map(|time| deadline(now, time))),
                state: Cell::new(State::Running),
                waker: Cell::new(None),
            });
            *this.limit = Some(Inside(limit.clone()));
            this.future.set(Some(body(TimeLimit { limit })));
        }
        let limit = this.limit.as_ref().map(|inside| inside.0.clone());
        let (Some(limit), Some(future)) = (limit, this.future.as_mut().as_pin_mut()) else {
            return Poll::Ready(Err(TimedOut));
        };
        assert!(limit.state.get() == State::Running, "timeout_scope(): polled after it was ready");
        drop(limit.waker.replace(Some(cx.waker().clone())));
        let within = watch::within(AwaitKind::Timeout);
        let polled = future.poll(cx);
        drop(within);
        if let Poll::Ready(output) = polled {
            limit.end(State::Finished);
            *this.sleep = None;
            return Poll::Ready(Ok(output));
        }
        if this.sleep.as_ref().and_then(Sleep::deadline) != limit.deadline.get() {
            set_limit(this.sleep, limit.deadline.get());
        }
        let Some(sleep) = this.sleep else { return Poll::Pending };
        std::task::ready!(Pin::new(sleep).poll(cx));
        limit.end(State::Expired);
        this.future.set(None);
        Poll::Ready(Err(TimedOut))
    }
}

impl<B, F> fmt::Debug for TimeoutScope<B, F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TimeoutScope").field("limit", &self.sleep).finish_non_exhaustive()
    }
}

/// The limit of a [`timeout_scope`], as its body has it. Clones are of the same limit.
#[derive(Clone)]
pub struct TimeLimit {
    limit: Rc<Limit>,
}

impl TimeLimit {
    /// The moment at which the time is over; `None` where there is no limit.
    #[doc(alias = "when")]
    pub fn deadline(&self) -> Option<Instant> {
        self.limit.deadline.get()
    }

    /// Whether the time was over before the body was done.
    pub fn expired(&self) -> bool {
        self.limit.state.get() == State::Expired
    }

    /// Sets another moment, in the past, too, or none.
    ///
    /// # Errors
    ///
    /// [`InvalidState`] once the time is over, or the body is done or dropped.
    pub fn reschedule(&self, deadline: impl Into<Option<Instant>>) -> Result<(), InvalidState> {
        match self.limit.state.get() {
            State::Running => {}
            State::Expired => return Err(InvalidState::new("TimeLimit::reschedule(): the time is over")),
            State::Finished => return Err(InvalidState::new("TimeLimit::reschedule(): the body is done")),
        }
        self.limit.deadline.set(deadline.into());
        if let Some(waker) = self.limit.waker.take() {
            waker.wake();
        }
        Ok(())
    }
}

impl fmt::Debug for TimeLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Limit { deadline, state, .. } = &*self.limit;
        f.debug_struct("TimeLimit").field("deadline", &deadline.get()).field("state", &state.get()).finish()
    }
}
