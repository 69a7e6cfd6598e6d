//! The future of a group.

use std::any::Any;
use std::fmt;
use std::future::Future;
use std::panic::{AssertUnwindSafe, Location, catch_unwind, resume_unwind};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use crate::error::Fatal;
use crate::event_loop::grace::{CancelRequested, cancel_requested};
use crate::event_loop::timer::Sleep;
use crate::executor::required_loop;
use crate::group::TaskGroup;
use crate::group::error::{BoxError, ChildError, GroupError};
use crate::group::state::{Group, State, Why};
use crate::sched::{running_loop_id, runs_another_loop};

pin_project_lite::pin_project! {
    /// The future of [`TaskGroup::scope`] and [`TaskGroup::try_scope`]: of `Result<T, GroupError>`.
    ///
    /// Dropping it drops the body and then the children, in the order in which they came, there and then: nothing of
    /// them outlives it. Errors that it has by then are reported to the exception handler. A child that is just being
    /// polled, and drops its own scope, is dropped when it gives way.
    #[must_use = "futures do nothing unless they are awaited"]
    pub struct Scope<B, F: Future, T> {
        // `None` once the future is made of it.
        body: Option<B>,
        // Dropped before the children.
        #[pin]
        future: Option<F>,
        progress: Progress<T>,
        group: Option<Members>,
        into_result: fn(F::Output) -> Result<T, BoxError>,
        limit: Option<Sleep>,
        grace: Duration,
        // Whether the task itself was asked to end; `None` where that is no concern of the scope's.
        asked: Option<CancelRequested>,
        created_at: &'static Location<'static>,
    }
}

/// What came of the body.
enum Progress<T> {
    Running,
    Returned(T),
    /// It has failed, has panicked, or was cut short.
    Nothing,
    /// The scope has given its output.
    Over,
}

/// The scope's side of a group: the children go with it.
struct Members {
    group: Rc<Group>,
    /// What the body has panicked with, until everybody has ended.
    panic: Option<Box<dyn Any + Send>>,
}

impl Members {
    /// The body has panicked, or one of the values that it held.
    fn panicked(&mut self, payload: Box<dyn Any + Send>) {
        if self.panic.is_some() {
            // Only one can unwind.
            let message = "Exception in the destructor of a task group's body";
            return self.group.caught(message, payload);
        }
        self.panic = Some(payload);
        self.group.end_by_failure();
    }
}

impl Drop for Members {
    fn drop(&mut self) {
        self.group.revoke();
        if let Some(payload) = self.panic.take() {
            let message = "Exception in the body of a task group whose scope was dropped";
            self.group.caught(message, payload);
        }
    }
}

impl<B, F: Future, T> Scope<B, F, T> {
    #[track_caller]
    pub(super) fn new(body: B, into_result: fn(F::Output) -> Result<T, BoxError>) -> Self {
        Self {
            body: Some(body),
            future: None,
            progress: Progress::Running,
            group: None,
            into_result,
            limit: None,
            grace: Duration::ZERO,
            asked: None,
            created_at: Location::caller(),
        }
    }

    /// Limits the time of the body and all children, counted from the first poll. When it is over they are cancelled,
    /// and the error says [`is_timed_out`](GroupError::is_timed_out).
    pub fn timeout(mut self, time: Duration) -> Self {
        self.limit = Some(Sleep::after(time));
        self
    }

    /// As [`timeout`](Self::timeout), until a moment of the loop's clock.
    pub fn deadline(mut self, deadline: Instant) -> Self {
        self.limit = Some(Sleep::until(deadline));
        self
    }

    /// Cancels gracefully: children that look whether they were [asked to end](crate::cancel_requested) may take so long
    /// to do so (no time at all).
    ///
    /// Then the scope looks, too: if its own task is [asked to end](crate::Task::cancel_gracefully), it cancels the group,
    /// and goes on when the children have ended. The body, as in every end, is dropped at its await point.
    ///
    /// ```
    /// use roundelay::{TaskGroup, cancel_requested, sleep, yield_now};
    /// use std::time::Duration;
    ///
    /// roundelay::block_on(async {
    ///     let group = TaskGroup::scope(async |group| {
    ///         let saved = group.spawn_infallible(async {
    ///             cancel_requested().await;
    ///             sleep(Duration::from_millis(1)).await;
    ///             "saved"
    ///         });
    ///         yield_now().await;
    ///         group.cancel();
    ///         saved
    ///     });
    ///     let saved = group.grace(Duration::from_secs(5)).await.unwrap();
    ///     assert_eq!(saved.await.unwrap(), "saved");
    /// });
    /// ```
    pub fn grace(mut self, grace: Duration) -> Self {
        self.grace = grace;
        self.asked = (!grace.is_zero()).then(cancel_requested);
        self
    }
}

impl<B, F, T> Future for Scope<B, F, T>
where
    B: FnOnce(TaskGroup) -> F,
    F: Future,
{
    type Output = Result<T, GroupError>;

    /// # Panics
    ///
    /// If it is polled outside of a running event loop, by another loop than before, or again after it was ready. With
    /// the panic of the body, once the children have ended.
    #[track_caller]
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        assert!(!matches!(this.progress, Progress::Over), "TaskGroup::scope(): polled after it was ready");
        let (grace, created_at) = (*this.grace, *this.created_at);
        let members = this.group.get_or_insert_with(|| {
            let group = Group::new(required_loop("TaskGroup::scope"), grace, created_at);
            Members { group, panic: None }
        });
        let group = members.group.clone();
        refuse_foreign(&group);
        group.wait(cx);

        // The body's turn.
        if matches!(this.progress, Progress::Running) && group.state() == State::Open {
            let polled = catch_unwind(AssertUnwindSafe(|| {
                if let Some(body) = this.body.take() {
                    this.future.set(Some(body(TaskGroup::new(group.clone()))));
                }
                this.future.as_mut().as_pin_mut().map_or(Poll::Pending, |future| future.poll(cx))
            }));
            match polled.map(|polled| polled.map(this.into_result)) {
                Ok(Poll::Pending) => {}
                Ok(Poll::Ready(Ok(value))) => *this.progress = Progress::Returned(value),
                Ok(Poll::Ready(Err(error))) => group.fail(ChildError::of_body(error)),
                // Not ours: it unwinds out of the loop's run.
                Err(payload) if payload.is::<Fatal>() => resume_unwind(payload),
                Err(payload) => members.panicked(payload),
            }
        }

        // Is it time to end?
        let is_waiting = matches!(this.progress, Progress::Running) || !group.is_empty();
        if is_waiting && group.state() == State::Open {
            let mut is_time = |future: Option<Pin<&mut dyn Future<Output = ()>>>| {
                future.is_some_and(|future| future.poll(cx).is_ready())
            };
            if is_time(this.limit.as_mut().map(|limit| Pin::new(limit) as _)) {
                group.end(Why::TimedOut);
            } else if is_time(this.asked.as_mut().map(|asked| Pin::new(asked) as _)) {
                group.end(Why::Cancelled);
            }
        }

        // The body is not needed any more.
        if group.state() != State::Open || !matches!(this.progress, Progress::Running) {
            if matches!(this.progress, Progress::Running) {
                *this.progress = Progress::Nothing;
            }
            *this.body = None;
            if let Err(payload) = catch_unwind(AssertUnwindSafe(|| this.future.set(None))) {
                members.panicked(payload);
            }
        }
        if matches!(this.progress, Progress::Running) || !group.is_empty() {
            return Poll::Pending;
        }

        // All have ended.
        (*this.limit, *this.asked) = (None, None);
        let why = match group.state() {
            State::Ending(why) => why,
            State::Open | State::Over => Why::Failed,
        };
        let errors = group.finish();
        let value = match std::mem::replace(this.progress, Progress::Over) {
            Progress::Returned(value) if errors.is_empty() && why != Why::TimedOut => Some(value),
            progress => {
                // A value that nobody is given: its destructor must not take the errors with it.
                if let Err(payload) = catch_unwind(AssertUnwindSafe(|| drop(progress))) {
                    members.panicked(payload);
                }
                None
            }
        };
        if let Some(payload) = members.panic.take() {
            for error in &errors {
                group.report("whose body has panicked", error);
            }
            resume_unwind(payload);
        }
        Poll::Ready(value.ok_or_else(|| GroupError::new(why, errors)))
    }
}

fn refuse_foreign(group: &Group) {
    if runs_another_loop(group.local()) {
        let (own, running) = (group.local().loop_id(), running_loop_id());
        panic!("a task group of loop {own} was awaited in loop {running}");
    }
}

impl<B, F: Future, T> fmt::Debug for Scope<B, F, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("Scope");
        if let Some(members) = &self.group {
            debug.field("group", &members.group);
        }
        debug.field("limit", &self.limit).finish_non_exhaustive()
    }
}
