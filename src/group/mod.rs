//! Task groups: tasks that live no longer than the block that started them.
//!
//! A child is a task whose future lies in a place that the group knows, too. So the scope can take it away when it is
//! dropped itself, at once and in the child's context, where cancelling the task would take a turn of the loop, which
//! there may not be. What is left of the task then ends in its next turn.

mod child;
mod error;
mod scope;
mod state;

use std::convert::Infallible;
use std::fmt;
use std::future::Future;
use std::ops::Deref;
use std::panic::Location;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{self, Poll};

use crate::error::JoinError;
use crate::event_loop::tasks::TaskBuilder;
use crate::group::child::{ChildFuture, ChildTask};
use crate::group::error::BoxError;
use crate::group::state::{Group, State};
use crate::sched::context::Context;
use crate::sched::join::Task;

pub use error::{ChildError, GroupError};
pub use scope::Scope;

/// Starts tasks that belong together: they succeed together or fail together, and none of them outlives the scope.
///
/// ```
/// use roundelay::TaskGroup;
///
/// async fn fetch(name: &str) -> std::io::Result<String> {
///     roundelay::yield_now().await;
///     Ok(format!("<{name}>"))
/// }
///
/// # fn main() -> std::io::Result<()> {
/// roundelay::block_on(async {
///     let (a, b) = TaskGroup::scope(async |group| (group.spawn(fetch("a")), group.spawn(fetch("b")))).await?;
///     // Both are done, and neither has failed.
///     assert_eq!((a.await?, b.await?), ("<a>".to_owned(), "<b>".to_owned()));
///     Ok(())
/// })
/// # }
/// ```
///
/// This is the handle of a group that the body of its [`scope`](Self::scope) is given. It may be cloned, kept and given to
/// children, which may start siblings.
///
/// A child **fails** if it gives an `Err` or panics. In the next turn of the loop that cancels all other children, and drops
/// the body at its await point. When the futures of all children are gone, the scope gives a [`GroupError`] with everything
/// that went wrong. A child that somebody cancels has not failed: nobody else is cancelled for it.
#[derive(Clone)]
pub struct TaskGroup {
    group: Rc<Group>,
}

impl TaskGroup {
    fn new(group: Rc<Group>) -> Self {
        Self { group }
    }

    /// Runs the body and the children that it starts. Done when the body and all of them are, those that were started
    /// late, too.
    ///
    /// The body is part of the task that awaits the scope: it may borrow from it, as children may not. The output is that of
    /// the body, whatever it is, such as handles of children (in a tuple or a `Vec`: clippy takes a single one for a forgotten
    /// `await`); one that may fail is run by [`try_scope`](Self::try_scope). Children are cancelled by
    /// [`cancel`](Self::cancel), by a [`timeout`](Scope::timeout), and when the scope is [dropped](Scope).
    ///
    /// # Errors
    ///
    /// [`GroupError`] if a child has failed, if the time was over, or if the group was cancelled before the body returned.
    ///
    /// # Panics
    ///
    /// When it is awaited, with the panic of the body: as in every failure the children are cancelled, and waited for,
    /// first. What they have to say is reported then. Also outside of a running event loop.
    #[track_caller]
    pub fn scope<B, F>(body: B) -> Scope<B, F, F::Output>
    where
        B: FnOnce(TaskGroup) -> F,
        F: Future,
    {
        Scope::new(body, Ok)
    }

    /// As [`scope`](Self::scope), of a body that may fail as a child may: its error cancels the children and is among
    /// those of the group.
    ///
    /// ```
    /// use roundelay::TaskGroup;
    ///
    /// roundelay::block_on(async {
    ///     let number = TaskGroup::try_scope(async |group| {
    ///         group.spawn(std::future::pending::<()>());
    ///         Ok("many".parse::<i32>()?)
    ///     });
    ///     let error = number.await.unwrap_err();
    ///     assert_eq!(error.to_string(), "task group failed: body: invalid digit found in string");
    /// });
    /// ```
    ///
    /// # Errors
    ///
    /// As `scope`, and if the body gives one.
    ///
    /// # Panics
    ///
    /// As `scope`.
    #[track_caller]
    pub fn try_scope<B, F, T>(body: B) -> Scope<B, F, T>
    where
        B: FnOnce(TaskGroup) -> F,
        F: Future<Output = Result<T, BoxError>>,
    {
        Scope::new(body, |output| output)
    }

    /// Starts a child. It begins in the next turn, unless tasks are [eager](crate::EventLoop::set_eager_tasks), in a copy of the
    /// current [`Context`].
    ///
    /// The child gives nothing, or a `Result`; see [`ChildOutput`]. Its handle may be dropped: the group keeps the child.
    ///
    /// If the group is ending or over, the future is dropped unpolled and the task is done as cancelled; if it is over, the
    /// exception handler is told. On a closed loop: as [`EventLoop::create_task`](crate::EventLoop::create_task).
    ///
    /// # Panics
    ///
    /// If the task factory panics.
    #[doc(alias = "create_task")]
    #[track_caller]
    pub fn spawn<F>(&self, future: F) -> Child<<F::Output as ChildOutput>::Value>
    where
        F: IntoFuture,
        F::IntoFuture: 'static,
        F::Output: ChildOutput,
    {
        self.task_builder().spawn(future)
    }

    /// Starts a child that has no error to give: whatever it returns is its output. It fails if it panics.
    ///
    /// Otherwise as [`spawn`](Self::spawn).
    ///
    /// # Panics
    ///
    /// If the task factory panics.
    #[track_caller]
    pub fn spawn_infallible<F>(&self, future: F) -> Child<F::Output>
    where
        F: IntoFuture,
        F::IntoFuture: 'static,
        F::Output: 'static,
    {
        self.task_builder().spawn_infallible(future)
    }

    /// As [`spawn`](Self::spawn), with a name, a context, or begun at once.
    pub fn task_builder(&self) -> ChildBuilder<'_> {
        ChildBuilder { group: &self.group, task: TaskBuilder::new(&self.group.el().core) }
    }

    /// Cancels all children, and the body at its next await. Nobody may come any more.
    ///
    /// If the body has returned, or returns without another await, its output is that of the scope: so the first of
    /// several may end the others. If not, there is a [`GroupError`] that says [`is_cancelled`](GroupError::is_cancelled).
    /// A group that is ending already goes on to do so.
    ///
    /// ```
    /// use roundelay::{TaskGroup, sleep};
    /// use std::time::Duration;
    ///
    /// roundelay::block_on(async {
    ///     let done = TaskGroup::scope(async |group| {
    ///         group.spawn(sleep(Duration::MAX));
    ///         group.cancel();
    ///         "enough"
    ///     });
    ///     assert_eq!(done.await.unwrap(), "enough");
    /// });
    /// ```
    pub fn cancel(&self) {
        self.group.end(state::Why::Cancelled);
    }

    /// Whether children may still be started: false as soon as the group has failed, was cancelled or is over.
    pub fn is_open(&self) -> bool {
        self.group.state() == State::Open
    }
}

impl fmt::Debug for TaskGroup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.group.fmt(f)
    }
}

/// What a child of a [`TaskGroup`] may return: nothing, or a `Result` whose error makes the group fail.
///
/// What cannot fail and has something to give is started by [`spawn_infallible`](TaskGroup::spawn_infallible).
pub trait ChildOutput: 'static {
    /// What the child's handle gives.
    type Value: 'static;

    /// The value, or the error for the group.
    ///
    /// # Errors
    ///
    /// The child's.
    fn into_result(self) -> Result<Self::Value, Box<dyn std::error::Error + Send + Sync>>;
}

impl ChildOutput for () {
    type Value = ();

    fn into_result(self) -> Result<(), BoxError> {
        Ok(())
    }
}

impl ChildOutput for Infallible {
    type Value = Infallible;

    fn into_result(self) -> Result<Infallible, BoxError> {
        Ok(self)
    }
}

impl<T: 'static, E: Into<BoxError> + 'static> ChildOutput for Result<T, E> {
    type Value = T;

    fn into_result(self) -> Result<T, BoxError> {
        self.map_err(Into::into)
    }
}

/// A child that is about to be started, by [`TaskGroup::task_builder`].
#[must_use = "nothing happens before spawn()"]
pub struct ChildBuilder<'a> {
    group: &'a Rc<Group>,
    task: TaskBuilder<'a>,
}

impl ChildBuilder<'_> {
    /// Names the task; otherwise it is called `Task-<id>`.
    pub fn name(mut self, name: impl Into<Rc<str>>) -> Self {
        self.task = self.task.name(name);
        self
    }

    /// Runs the task in this context itself, not in a copy of the current one.
    pub fn context(mut self, context: &Context) -> Self {
        self.task = self.task.context(context);
        self
    }

    /// Begins the child here and now, or, with `false`, in the next turn, as [`TaskBuilder::eager`](crate::TaskBuilder::eager)
    /// does for any task.
    pub fn eager(mut self, eager: bool) -> Self {
        self.task = self.task.eager(eager);
        self
    }

    /// Starts the child. See [`TaskGroup::spawn`].
    ///
    /// # Panics
    ///
    /// If the task factory panics.
    #[track_caller]
    pub fn spawn<F>(self, future: F) -> Child<<F::Output as ChildOutput>::Value>
    where
        F: IntoFuture,
        F::IntoFuture: 'static,
        F::Output: ChildOutput,
    {
        self.start(Location::caller(), future.into_future(), ChildOutput::into_result)
    }

    /// Starts a child that has no error to give. See [`TaskGroup::spawn_infallible`].
    ///
    /// # Panics
    ///
    /// If the task factory panics.
    #[track_caller]
    pub fn spawn_infallible<F>(self, future: F) -> Child<F::Output>
    where
        F: IntoFuture,
        F::IntoFuture: 'static,
        F::Output: 'static,
    {
        self.start(Location::caller(), future.into_future(), Ok)
    }

    fn start<F, T>(
        self,
        spawned_at: &'static Location<'static>,
        future: F,
        into_result: fn(F::Output) -> Result<T, BoxError>,
    ) -> Child<T>
    where
        F: Future + 'static,
        T: 'static,
    {
        let Self { group, task } = self;
        if group.state() != State::Open && !group.el().is_closed() {
            let task = task.refuse(spawned_at, future);
            if group.state() == State::Over {
                group.report_late(spawned_at);
            }
            return Child { task };
        }
        let future = ChildFuture::new(future);
        let key = group.enter(future.clone());
        let child = ChildTask::new(future, into_result, group.clone(), key);
        let task = task.spawn_owned(spawned_at, child, |child| child);
        group.entered(key, task.canceller());
        Child { task }
    }
}

impl fmt::Debug for ChildBuilder<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ChildBuilder").field("name", &self.task.name).finish_non_exhaustive()
    }
}

/// The handle of a child of a [`TaskGroup`]: a [`Task`] that may be forgotten, for its group looks after it.
///
/// It is a future of `Result<T, JoinError>`, to be awaited in the scope or after it. Of a child that has failed it says
/// [`is_failed`](JoinError::is_failed) or [`is_panic`](JoinError::is_panic); the error itself is with the group.
pub struct Child<T> {
    task: Task<T>,
}

impl<T> Child<T> {
    /// The task itself.
    pub fn into_task(self) -> Task<T> {
        self.task
    }
}

impl<T> Deref for Child<T> {
    type Target = Task<T>;

    fn deref(&self) -> &Task<T> {
        &self.task
    }
}

impl<T> Future for Child<T> {
    type Output = Result<T, JoinError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.task).poll(cx)
    }
}

impl<T> fmt::Debug for Child<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.task.fmt(f)
    }
}
