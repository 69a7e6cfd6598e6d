//! The handle of a task.

use std::any::type_name;
use std::fmt;
use std::future::Future;
use std::panic::Location;
use std::pin::Pin;
use std::rc::{Rc, Weak};
use std::task::{self, Poll, Waker};
use std::time::Duration;

use futures_core::FusedFuture;

use crate::error::JoinError;
use crate::sched::Local;
use crate::sched::active::{Awaiter, DoneCallback, Entry, Handle, Panicked, TaskId, TaskRef};
use crate::sched::branch::Branch;
use crate::sched::context::{self, Context, Slot};
use crate::sched::info::{AwaitKind, TaskInfo, TaskState};
use crate::sched::task::{Held, drop_output, subject};
use crate::sched::unasked::{self, ReportableError};
use crate::sched::watch;

/// How a task ended, as a done callback is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Outcome {
    /// It ran to its end; what it returned is with its [`Task`].
    Finished,
    /// It was cancelled.
    Cancelled,
    /// It panicked.
    Panicked,
    /// It is a child of a [`TaskGroup`](crate::TaskGroup) and gave an error, which the group has.
    Failed,
    /// The loop was closed under it.
    Closed,
}

/// A future that the loop runs by itself, and the handle to await its output or to cancel it.
///
/// Made by [`spawn`](crate::spawn), [`EventLoop::create_task`](crate::EventLoop::create_task) and
/// [`EventLoop::task_builder`](crate::EventLoop::task_builder). It is a future of `Result<T, JoinError>`.
///
/// Dropping it detaches the task, which goes on; [`cancel_on_drop`](Self::cancel_on_drop) gives a handle that cancels.
/// A panic of the task goes to whoever awaits it, and to the exception handler where nobody does.
///
/// ```
/// roundelay::block_on(async {
///     let task = roundelay::spawn(async { 6 * 7 });
///     assert_eq!(task.await.unwrap(), 42);
/// });
/// ```
#[must_use = "dropping a Task detaches it: write `drop(task)` or keep it"]
pub struct Task<T> {
    held: Held<T>,
}

impl<T> Task<T> {
    pub(crate) fn new(held: Held<T>) -> Self {
        Self { held }
    }

    fn outcome(&self) -> Option<Outcome> {
        self.held.entry().outcome()
    }

    /// The task's number, which no other task of the process has.
    pub fn id(&self) -> TaskId {
        self.held.entry().id()
    }

    /// What is known of the task, which is done.
    pub(crate) fn info(&self) -> TaskInfo {
        self.held.local().info_of(self.held.entry(), self.canceller())
    }

    /// The task's name: the one given to it, or `Task-<id>`.
    #[doc(alias = "get_name")]
    pub fn name(&self) -> Rc<str> {
        self.held.entry().name()
    }

    /// Gives the task another name.
    pub fn set_name(&self, name: impl Into<Rc<str>>) {
        drop(self.held.entry().set_name(name.into()));
    }

    /// Whether the task has ended, in whichever way.
    #[doc(alias = "done")]
    pub fn is_done(&self) -> bool {
        self.outcome().is_some()
    }

    /// Whether the task has ended by being cancelled.
    #[doc(alias = "cancelled")]
    pub fn is_cancelled(&self) -> bool {
        self.outcome() == Some(Outcome::Cancelled)
    }

    /// Asks the task to end: its future is dropped at its await point, on the loop's thread, in the next turn.
    ///
    /// True if the task was not done yet. It is not done before its turn has come; a second call changes nothing. A
    /// task that cancels itself is dropped at its next await, or ends as cancelled if there is none.
    pub fn cancel(&self) -> bool {
        self.held.local().cancel(self.held.entry().task())
    }

    /// Cancels the task and waits until its future is dropped. Gives the output if the task was done before.
    ///
    /// # Errors
    ///
    /// [`JoinError`] as for awaiting the task; most often the one that says that it was cancelled.
    pub async fn cancel_and_wait(self) -> Result<T, JoinError> {
        self.cancel();
        self.await
    }

    /// Asks the task to end by itself, and drops its future if it has not done so after `grace`.
    ///
    /// The body hears of it by [`cancel_requested`](crate::cancel_requested) or
    /// [`is_cancel_requested`](crate::is_cancel_requested), may clean up with `await`, and what it returns is the task's
    /// output: a task that ends in time is not [cancelled](Self::is_cancelled). One whose time is over is, as by
    /// [`cancel`](Self::cancel).
    ///
    /// A task that has looked for neither of the two so far would not hear of it. It is cancelled at once, as by `cancel`:
    /// nobody waits in vain for the grace to pass. So is any task if `grace` is zero; `Duration::MAX` never ends. The time
    /// is that of the loop's clock.
    ///
    /// True if the task was not done yet. Of several calls the one whose time is over first counts; a `cancel` drops the
    /// future in the next turn, also during the grace.
    ///
    /// ```
    /// use roundelay::{cancel_requested, sleep, spawn, yield_now};
    /// use std::time::Duration;
    ///
    /// roundelay::block_on(async {
    ///     let worker = spawn(async {
    ///         cancel_requested().await;
    ///         sleep(Duration::from_millis(1)).await; // what was begun is brought to its end
    ///         "saved"
    ///     });
    ///     yield_now().await;
    ///     worker.cancel_gracefully(Duration::from_secs(5));
    ///     assert_eq!(worker.await.unwrap(), "saved");
    /// });
    /// ```
    pub fn cancel_gracefully(&self, grace: Duration) -> bool {
        self.held.local().cancel_gracefully(self.held.entry().task(), grace)
    }

    /// Asks the task to end by itself within `grace`, and waits until it has ended or its future is dropped. Gives the
    /// output where there is one.
    ///
    /// # Errors
    ///
    /// [`JoinError`] as for awaiting the task.
    pub async fn cancel_gracefully_and_wait(self, grace: Duration) -> Result<T, JoinError> {
        self.cancel_gracefully(grace);
        self.await
    }

    /// A handle that can do nothing but cancel, to be cloned into a timer, say.
    ///
    /// ```
    /// use roundelay::{get_running_loop, sleep, spawn};
    /// use std::time::Duration;
    ///
    /// roundelay::block_on(async {
    ///     let task = spawn(sleep(Duration::from_secs(5000)));
    ///     let canceller = task.canceller();
    ///     get_running_loop().unwrap().call_later(Duration::from_millis(1), move || canceller.cancel());
    ///     assert!(task.await.unwrap_err().is_cancelled());
    /// });
    /// ```
    pub fn canceller(&self) -> Canceller {
        Canceller { local: self.held.weak_local(), task: self.held.entry().task() }
    }

    /// Whether it is done; if not, the waker is woken when it is. Leaves the output where it is.
    ///
    /// # Panics
    ///
    /// If another loop than the task's own runs.
    pub(crate) fn watch(&mut self, waker: &Waker) -> bool {
        if super::runs_another_loop(self.held.entry().local) {
            refuse_foreign(self.held.local());
        }
        let is_done = self.is_done();
        if !is_done {
            // There is no output yet that it could take.
            let polled = self.held.poll(&mut task::Context::from_waker(waker));
            debug_assert!(polled.is_pending());
            let (entry, local) = (self.held.entry(), self.held.local());
            entry.awaiter.set(Awaiter { poll: Awaiter::IS_TOLD, ..local.awaiter() });
            entry.awaited_in.set(AwaitKind::Wait);
        }
        is_done
    }

    /// Nobody waits for it any more who has the handle.
    pub(crate) fn await_no_more(&self) {
        self.held.entry().awaiter.set(Awaiter::NOBODY);
    }

    /// Makes it one of those of a branch.
    pub(crate) fn join_branch(&self, branch: &Branch) {
        self.held.entry().branch.set(branch.key());
    }

    /// Lets `look` see the output, which stays where it is. `None` if there is none, or it was taken.
    pub(crate) fn look<R>(&mut self, look: impl FnOnce(&Result<T, JoinError>) -> R) -> Option<R> {
        if self.held.entry().handle.get() == Handle::Held { self.held.look(look) } else { None }
    }

    /// Calls `callback` in the turn after the task's end, in a copy of the context of this call; in the next turn if the
    /// task is done already. Several are called in the order in which they were added.
    ///
    /// The id is for [`remove_done_callback`](Self::remove_done_callback). A loop that is closed under the task calls
    /// nobody; adding a callback after that is reported to the exception handler, as any scheduling is.
    #[track_caller]
    pub fn add_done_callback(&self, callback: impl FnOnce(Outcome) + 'static) -> CallbackId {
        self.add_callback(context::fork_current(), Location::caller(), callback)
    }

    /// As [`add_done_callback`](Self::add_done_callback), in a context of your choice.
    #[track_caller]
    pub fn add_done_callback_in(&self, context: &Context, callback: impl FnOnce(Outcome) + 'static) -> CallbackId {
        self.add_callback(Slot::Shared(context.clone()), Location::caller(), callback)
    }

    fn add_callback<F>(&self, context: Slot, created_at: &'static Location<'static>, call: F) -> CallbackId
    where
        F: FnOnce(Outcome) + 'static,
    {
        let local = self.held.local();
        let id = CallbackId(local.next_callback_id());
        if !local.is_open() {
            drop(call);
            local.report_closed_by("Task::add_done_callback", created_at);
            return id;
        }
        let callback = DoneCallback { id: id.0, context, created_at, name: type_name::<F>(), call: Box::new(call) };
        match self.outcome() {
            Some(outcome) => local.schedule_done(callback, outcome),
            None => self.held.entry().add_done_callback(callback),
        }
        id
    }

    /// Takes a done callback back: true if it was still waiting for the task's end.
    pub fn remove_done_callback(&self, id: CallbackId) -> bool {
        self.held.entry().remove_done_callback(id.0).is_some()
    }

    /// A handle whose drop cancels the task.
    pub fn cancel_on_drop(self) -> CancelOnDrop<T> {
        CancelOnDrop { task: Some(self) }
    }
}

impl<T: 'static, E: 'static> Task<Result<T, E>> {
    /// Detaches the task, as dropping it does, and has its error reported to the exception handler, too, when it comes:
    /// in the task's own context, with the task as the report's subject. What the task returns otherwise is dropped. Of a
    /// task that is done already, the error is reported here and now.
    ///
    /// A task that is cancelled has no error to report; one that panics is reported as any that nobody awaits.
    ///
    /// The error may be of any type that is an [`Error`](std::error::Error), a text, or a boxed error.
    ///
    /// ```
    /// use std::cell::Cell;
    /// use std::rc::Rc;
    ///
    /// let el = roundelay::EventLoop::new()?;
    /// let seen = Rc::new(Cell::new(None));
    /// let log = seen.clone();
    /// el.set_exception_handler(Some(Rc::new(move |_, context| {
    ///     let task = context.task().unwrap();
    ///     log.set(Some(format!("{}: {}", task.name, context.exception.unwrap())));
    /// })));
    /// el.task_builder().name("saver").spawn(async { Err::<(), _>("the disk is full") }).report_errors();
    /// el.run_once(Some(std::time::Duration::ZERO))?;
    /// assert_eq!(seen.take().as_deref(), Some("saver: the disk is full"));
    /// # std::io::Result::Ok(())
    /// ```
    pub fn report_errors<Way>(mut self)
    where
        E: ReportableError<Way>,
    {
        if !self.is_done() {
            self.held.entry().set_unasked(unasked::report::<T, E, Way>);
        } else if self.held.entry().handle.get() == Handle::Held {
            self.end_untaken(|task, output| unasked::report(task.held.local(), Some(task.info()), output));
        }
    }
}

impl<T> Future for Task<T> {
    type Output = Result<T, JoinError>;

    /// # Panics
    ///
    /// If it is polled again after it was ready, or by another loop than the task's own before it is done.
    #[inline(always)]
    fn poll(mut self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<Self::Output> {
        let entry = self.held.entry();
        assert!(entry.handle.get() == Handle::Held, "Task polled after its output was taken");
        // What is done, as by the end of its loop, nobody has to be woken for.
        if super::runs_another_loop(entry.local) && entry.outcome().is_none() {
            refuse_foreign(self.held.local());
        }
        let Poll::Ready(result) = self.held.poll(cx) else {
            note_awaiter(self.held.entry(), self.held.local(), cx.waker());
            return Poll::Pending;
        };
        self.held.entry().handle.set(Handle::Answered);
        Poll::Ready(result)
    }
}

impl<T> FusedFuture for Task<T> {
    /// Whether it has given its output, and is not to be polled again: `select!` leaves it out then.
    fn is_terminated(&self) -> bool {
        self.held.entry().handle.get() == Handle::Answered
    }
}

impl<T> Drop for Task<T> {
    #[inline]
    fn drop(&mut self) {
        let entry = self.held.entry();
        if entry.outcome().is_some() && entry.handle.get() == Handle::Held {
            self.end_untaken(|task, output| drop_output(task.held.local(), output));
        }
    }
}

impl<T> Task<T> {
    /// Ends an output that nobody took. Its destructor must not run inside async-task, which would abort on a panic.
    #[cold]
    fn end_untaken(&mut self, end: impl FnOnce(&Self, T)) {
        let output = self.held.poll(&mut task::Context::from_waker(Waker::noop()));
        self.held.entry().handle.set(Handle::Answered);
        match output {
            Poll::Ready(Ok(output)) => end(self, output),
            Poll::Ready(Err(error)) => self.report_lost(error),
            Poll::Pending => {}
        }
    }

    /// Tells of a panic that nobody has asked for, in the context that the task had.
    fn report_lost(&self, error: JoinError) {
        if error.is_heard_elsewhere() {
            return;
        }
        let Ok(payload) = error.try_into_panic() else {
            return;
        };
        let (info, context) = match self.held.entry().take_panicked() {
            Some(Panicked { info, context }) => (Some(info), context),
            None => (None, Slot::EMPTY),
        };
        let local = self.held.local();
        let (subject, spawned_at) = subject(info);
        let ((), left) = context::enter(context, || {
            local.caught("Task exception was never retrieved", payload, subject, spawned_at);
        });
        local.dispose(left);
    }
}

/// Notes that the task being polled waits for this one. Out of line: what is polled is best inlined where it is awaited.
#[inline(never)]
fn note_awaiter(entry: &Entry, local: &Local, waker: &Waker) {
    entry.awaiter.set(local.awaiter());
    if local.inspection.is_on() {
        entry.awaited_in.set(watch::await_kind(local, waker));
    }
}

#[cold]
fn refuse_foreign(local: &Local) -> ! {
    let (own, running) = (local.loop_id(), super::running_loop_id());
    panic!("a task of loop {own} was awaited in loop {running}: use RemoteTask to cross loops");
}

impl<T> fmt::Debug for Task<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match self.outcome() {
            Some(Outcome::Finished) => "finished",
            Some(Outcome::Cancelled) => "cancelled",
            Some(Outcome::Panicked) => "panicked",
            Some(Outcome::Failed) => "failed",
            Some(Outcome::Closed) => "closed",
            None => "pending",
        };
        let live = self.held.local().task_info(self.held.entry().task());
        let cancelling = live.as_ref().is_some_and(|info| info.state == TaskState::Cancelling);
        let (state, place) = (if cancelling { "cancelling" } else { state }, self.held.entry().spawned_at());
        write!(f, "<Task {state} name={:?} spawned at {place}", self.name())?;
        if let Some(info) = live {
            info.write_waits(f, " ")?;
        }
        f.write_str(">")
    }
}

/// Names a done callback, so that it can be removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct CallbackId(pub(crate) u64);

/// A [`Task`] that is cancelled when this handle is dropped. It is awaited like the task.
#[must_use = "dropping it cancels the task"]
pub struct CancelOnDrop<T> {
    /// `None` after the drop only.
    task: Option<Task<T>>,
}

impl<T> CancelOnDrop<T> {
    /// The task itself, which from now on survives its handle.
    pub fn detach_on_drop(mut self) -> Task<T> {
        self.task.take().expect("the task is there until the handle is dropped")
    }
}

impl<T> std::ops::Deref for CancelOnDrop<T> {
    type Target = Task<T>;

    fn deref(&self) -> &Task<T> {
        self.task.as_ref().expect("the task is there until the handle is dropped")
    }
}

impl<T> Future for CancelOnDrop<T> {
    type Output = Result<T, JoinError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<Self::Output> {
        let task = self.task.as_mut().expect("the task is there until the handle is dropped");
        Pin::new(task).poll(cx)
    }
}

impl<T> FusedFuture for CancelOnDrop<T> {
    fn is_terminated(&self) -> bool {
        self.task.as_ref().is_none_or(FusedFuture::is_terminated)
    }
}

impl<T> Drop for CancelOnDrop<T> {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.cancel();
        }
    }
}

impl<T> fmt::Debug for CancelOnDrop<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("CancelOnDrop").field(&self.task).finish()
    }
}

/// Cancels a task, and does nothing else. Cheap to clone; keeps nothing alive.
#[derive(Clone)]
pub struct Canceller {
    local: Weak<Local>,
    task: TaskRef,
}

impl Canceller {
    pub(crate) fn new(local: &Rc<Local>, task: TaskRef) -> Self {
        Self { local: Rc::downgrade(local), task }
    }

    pub(crate) fn task(&self) -> TaskRef {
        self.task
    }

    /// As [`Task::cancel`]: true if the task was not done yet.
    pub fn cancel(&self) -> bool {
        self.local.upgrade().is_some_and(|local| local.cancel(self.task))
    }

    /// As [`Task::cancel_gracefully`]: true if the task was not done yet.
    pub fn cancel_gracefully(&self, grace: Duration) -> bool {
        self.local.upgrade().is_some_and(|local| local.cancel_gracefully(self.task, grace))
    }

    pub(crate) fn set_name(&self, name: Rc<str>) -> bool {
        let Some(local) = self.local.upgrade() else { return false };
        let active = local.active.borrow();
        active.get_live(self.task).map(|entry| entry.set_name(name)).is_some()
    }
}

impl fmt::Debug for Canceller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Canceller").field(&self.task.id).finish()
    }
}
