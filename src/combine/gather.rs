//! The outputs of all.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::future::Future;
use std::panic::{AssertUnwindSafe, Location, catch_unwind, resume_unwind};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use crate::error::{Fatal, JoinError};
use crate::event_loop::EventLoop;
use crate::event_loop::tasks::TaskBuilder;
use crate::executor::required_loop;
use crate::sched::branch::Branch;
use crate::sched::info::AwaitKind;
use crate::sched::join::Task;
use crate::sched::task::subject;

/// Runs each of the futures as a task of the running loop, and gives the outputs of all in the order of the futures.
///
/// If one panics or is cancelled, that is the error, at once; the others go on, and what they have to say nobody asks for
/// any more. With [`return_exceptions`](Gather::return_exceptions) there is a result for each. For futures that may fail there
/// is [`try_gather`].
///
/// Dropping it before it is done cancels those that are not. What it was given as a [`Task`] is awaited by its child, and goes
/// on then, unless it is [`cancel_on_drop`](Task::cancel_on_drop). `join_all` of the `futures` crate polls its futures inside of
/// one task, and a panic there is the panic of all; a [`TaskGroup`](crate::TaskGroup) leaves nobody running.
///
/// # Panics
///
/// Outside of a running event loop; if the task factory panics.
///
/// ```
/// use roundelay::gather;
///
/// async fn square(number: u32) -> u32 {
///     number * number
/// }
///
/// roundelay::block_on(async {
///     assert_eq!(gather([3, 1, 2].map(square)).await.unwrap(), [9, 1, 4]);
/// });
/// ```
#[track_caller]
pub fn gather<I>(futures: I) -> Gather<<I::Item as IntoFuture>::Output>
where
    I: IntoIterator,
    I::Item: IntoFuture,
    <I::Item as IntoFuture>::IntoFuture: 'static,
    <I::Item as IntoFuture>::Output: 'static,
{
    Gather { children: Children::spawn(AwaitKind::Gather, futures, Result::is_err) }
}

/// As [`gather`], of futures of a `Result`: the first error is that of the whole. The others go on.
///
/// A child that panics or is cancelled gives an error made of that [`JoinError`].
///
/// # Panics
///
/// As `gather`.
///
/// ```
/// use roundelay::try_gather;
/// use std::io;
///
/// async fn check(number: u32) -> io::Result<u32> {
///     if number > 2 { Err(io::Error::other("too much")) } else { Ok(number) }
/// }
///
/// roundelay::block_on(async {
///     assert_eq!(try_gather((0..3).map(check)).await.unwrap(), [0, 1, 2]);
///     assert_eq!(try_gather((2..9).map(check)).await.unwrap_err().to_string(), "too much");
/// });
/// ```
#[track_caller]
pub fn try_gather<I, T, E>(futures: I) -> TryGather<T, E>
where
    I: IntoIterator,
    I::Item: IntoFuture<Output = Result<T, E>>,
    <I::Item as IntoFuture>::IntoFuture: 'static,
    T: 'static,
    E: From<JoinError> + 'static,
{
    TryGather { children: Children::spawn(AwaitKind::TryGather, futures, |result| !matches!(result, Ok(Ok(_)))) }
}

/// The future of [`gather`]: of `Result<Vec<T>, JoinError>`. Its children run whether it is awaited or not.
#[must_use = "dropping it cancels the children"]
pub struct Gather<T> {
    children: Children<T>,
}

impl<T> Gather<T> {
    /// Waits for all, whatever they do, and gives a result for each: a child that panics or is cancelled is no error of the
    /// whole.
    ///
    /// ```
    /// use roundelay::gather;
    ///
    /// roundelay::block_on(async {
    ///     let results = gather([1, 0].map(|n| async move { 6 / n })).return_exceptions().await;
    ///     assert_eq!(results[0].as_ref().unwrap(), &6);
    ///     assert!(results[1].as_ref().unwrap_err().is_panic());
    /// });
    /// ```
    pub fn return_exceptions(self) -> GatherAll<T> {
        GatherAll { children: self.children }
    }

    /// Cancels the children that are not done: true if there was one. Then the whole is cancelled, too, and done when all of
    /// them have ended. If all are done this changes nothing.
    pub fn cancel(&self) -> bool {
        self.children.cancel()
    }
}

impl<T> Future for Gather<T> {
    type Output = Result<Vec<T>, JoinError>;

    /// # Panics
    ///
    /// If it is polled again after it was ready.
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.children.poll_all_or_failure(cx).map(|results| results.into_iter().collect())
    }
}

/// The future of [`Gather::return_exceptions`]: of a `Vec<Result<T, JoinError>>`.
#[must_use = "dropping it cancels the children"]
pub struct GatherAll<T> {
    children: Children<T>,
}

impl<T> GatherAll<T> {
    /// Cancels the children that are not done: true if there was one.
    pub fn cancel(&self) -> bool {
        self.children.cancel()
    }
}

impl<T> Future for GatherAll<T> {
    type Output = Vec<Result<T, JoinError>>;

    /// # Panics
    ///
    /// If it is polled again after it was ready.
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.children.poll_all(cx)
    }
}

/// The future of [`try_gather`]: of `Result<Vec<T>, E>`. Its children run whether it is awaited or not.
#[must_use = "dropping it cancels the children"]
pub struct TryGather<T, E> {
    children: Children<Result<T, E>>,
}

impl<T, E> TryGather<T, E> {
    /// As [`Gather::cancel`].
    pub fn cancel(&self) -> bool {
        self.children.cancel()
    }
}

impl<T, E: From<JoinError>> Future for TryGather<T, E> {
    type Output = Result<Vec<T>, E>;

    /// # Panics
    ///
    /// If it is polled again after it was ready.
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let results = self.children.poll_all_or_failure(cx);
        results.map(|results| results.into_iter().map(|result| result?).collect())
    }
}

/// The tasks of a gather, and what has come of them.
struct Children<T> {
    tasks: Vec<Task<()>>,
    gathering: Rc<Gathering<T>>,
}

/// What the children tell.
struct Gathering<T> {
    el: EventLoop,
    progress: Cell<Progress>,
    results: RefCell<Vec<Option<Result<T, JoinError>>>>,
    /// How many have not ended.
    left: Cell<usize>,
    has_failed: fn(&Result<T, JoinError>) -> bool,
    waker: Cell<Option<Waker>>,
    branch: Branch,
}

/// Whether anybody wants to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Progress {
    Running,
    /// The result with this number is an error.
    Failed(usize),
    Cancelled,
    /// The output was given. What comes now is of no interest.
    Answered,
    /// It was dropped before.
    Dropped,
}

impl<T> Children<T> {
    #[track_caller]
    fn spawn<I>(kind: AwaitKind, futures: I, has_failed: fn(&Result<T, JoinError>) -> bool) -> Self
    where
        I: IntoIterator,
        I::Item: IntoFuture<Output = T>,
        <I::Item as IntoFuture>::IntoFuture: 'static,
        T: 'static,
    {
        let (el, spawned_at) = (required_loop(&kind.to_string()), Location::caller());
        let futures: Vec<_> = futures.into_iter().map(IntoFuture::into_future).collect();
        let gathering = Rc::new(Gathering {
            branch: Branch::new(&el.core.local, kind, spawned_at),
            el,
            progress: Cell::new(Progress::Running),
            results: RefCell::new(futures.iter().map(|_| None).collect()),
            left: Cell::new(futures.len()),
            has_failed,
            waker: Cell::new(None),
        });
        // Dropped with those that are there already, should the task factory panic.
        let mut children = Self { tasks: Vec::with_capacity(futures.len()), gathering };
        for (number, future) in futures.into_iter().enumerate() {
            let gathering = children.gathering.clone();
            let core = gathering.el.core.clone();
            let child = Gathered { future, seat: Seat { gathering, number, is_filled: false } };
            let task = TaskBuilder::new(&core).spawn_at(spawned_at, child);
            task.join_branch(&children.gathering.branch);
            children.tasks.push(task);
        }
        children
    }

    fn cancel(&self) -> bool {
        let mut cancelled = false;
        for task in &self.tasks {
            cancelled |= task.cancel();
        }
        if cancelled && self.gathering.progress.get() == Progress::Running {
            self.gathering.progress.set(Progress::Cancelled);
        }
        cancelled
    }

    /// A result for each.
    fn poll_all(&self, cx: &Context<'_>) -> Poll<Vec<Result<T, JoinError>>> {
        let gathering = &*self.gathering;
        gathering.refuse_answered();
        drop(gathering.waker.replace(Some(cx.waker().clone())));
        if gathering.left.get() > 0 {
            gathering.branch.await_here(&gathering.el.core.local);
            return Poll::Pending;
        }
        Poll::Ready(gathering.answer().into_iter().flatten().collect())
    }

    /// As `poll_all`, or nothing but the error of the whole.
    fn poll_all_or_failure(&self, cx: &Context<'_>) -> Poll<Vec<Result<T, JoinError>>> {
        let gathering = &*self.gathering;
        gathering.refuse_answered();
        match gathering.progress.get() {
            Progress::Failed(number) => {
                let mut results = gathering.answer();
                let failure = results[number].take();
                gathering.el.core.local.dispose(results);
                Poll::Ready(failure.into_iter().collect())
            }
            Progress::Cancelled => self.poll_all(cx).map(|results| {
                gathering.el.core.local.dispose(results);
                vec![Err(JoinError::cancelled())]
            }),
            _ => self.poll_all(cx),
        }
    }
}

impl<T> Drop for Children<T> {
    fn drop(&mut self) {
        let gathering = &*self.gathering;
        if gathering.progress.get() == Progress::Answered {
            return;
        }
        self.cancel();
        gathering.progress.set(Progress::Dropped);
        let local = &gathering.el.core.local;
        for (number, result) in gathering.results.take().into_iter().enumerate() {
            let Some(result) = result else { continue };
            match result.map_err(JoinError::try_into_panic) {
                Err(Ok(payload)) => {
                    let (subject, spawned_at) = subject(self.tasks.get(number).map(Task::info));
                    local.caught("Task exception was never retrieved", payload, subject, spawned_at);
                }
                other => local.dispose(other),
            }
        }
    }
}

impl<T> fmt::Debug for Children<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (tasks, left) = (self.tasks.len(), self.gathering.left.get());
        f.debug_struct("Children").field("tasks", &tasks).field("left", &left).finish_non_exhaustive()
    }
}

impl<T> Gathering<T> {
    fn refuse_answered(&self) {
        assert!(self.progress.get() != Progress::Answered, "gather(): polled after it was ready");
    }

    /// What is there, for the only time.
    fn answer(&self) -> Vec<Option<Result<T, JoinError>>> {
        self.progress.set(Progress::Answered);
        self.results.take()
    }

    /// Takes what came of a child, if it is asked for.
    fn fill(&self, number: usize, result: Result<T, JoinError>) {
        self.left.set(self.left.get() - 1);
        let progress = self.progress.get();
        if let Progress::Answered | Progress::Dropped = progress {
            return self.el.core.local.dispose(result);
        }
        let has_failed = progress == Progress::Running && (self.has_failed)(&result);
        if has_failed {
            self.progress.set(Progress::Failed(number));
        }
        self.results.borrow_mut()[number] = Some(result);
        if has_failed || self.left.get() == 0 {
            if let Some(waker) = self.waker.take() {
                self.el.core.local.wake(waker);
            }
        }
    }
}

/// A child's place among the results.
struct Seat<T> {
    gathering: Rc<Gathering<T>>,
    number: usize,
    is_filled: bool,
}

impl<T> Seat<T> {
    fn fill(&mut self, result: Result<T, JoinError>) {
        self.is_filled = true;
        self.gathering.fill(self.number, result);
    }
}

impl<T> Drop for Seat<T> {
    fn drop(&mut self) {
        if !self.is_filled {
            let is_open = self.gathering.el.core.is_open();
            self.fill(Err(if is_open { JoinError::cancelled() } else { JoinError::closed() }));
        }
    }
}

pin_project_lite::pin_project! {
    /// What the task of a child runs.
    struct Gathered<F, T> {
        // Dropped before its seat is.
        #[pin]
        future: F,
        seat: Seat<T>,
    }
}

impl<F: Future> Future for Gathered<F, F::Output> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.project();
        match catch_unwind(AssertUnwindSafe(|| this.future.poll(cx))) {
            Ok(polled) => polled.map(|output| this.seat.fill(Ok(output))),
            // Not ours: it unwinds out of the loop's run.
            Err(payload) if payload.is::<Fatal>() => {
                this.seat.fill(Err(JoinError::fatal()));
                resume_unwind(payload)
            }
            // There is nobody who could hear of it.
            Err(payload) if this.seat.gathering.progress.get() == Progress::Dropped => resume_unwind(payload),
            Err(payload) => {
                this.seat.fill(Err(JoinError::panic(payload)));
                Poll::Ready(())
            }
        }
    }
}

impl<T> fmt::Debug for Gather<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Gather").field(&self.children).finish()
    }
}

impl<T> fmt::Debug for GatherAll<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("GatherAll").field(&self.children).finish()
    }
}

impl<T, E> fmt::Debug for TryGather<T, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("TryGather").field(&self.children).finish()
    }
}
