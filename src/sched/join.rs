//! The handle of a task.

use std::fmt;
use std::future::Future;
use std::marker::PhantomData;
use std::panic::{AssertUnwindSafe, Location, catch_unwind};
use std::pin::Pin;
use std::rc::{Rc, Weak};
use std::task::{self, Poll, Waker};

use crate::error::{JoinError, panic_text};
use crate::sched::Local;
use crate::sched::active::{DoneCallback, Panicked, TaskId, TaskRef, TaskState, default_name};
use crate::sched::context::{self, Context, Slot};
use crate::sched::report::emit;
use crate::sched::task::{Joinable, detach, drop_output, subject};

/// How a task ended, as a done callback is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
#[repr(u8)]
pub enum Outcome {
    /// It ran to its end; what it returned is with its [`Task`].
    Finished = 1,
    /// It was cancelled.
    Cancelled = 2,
    /// It panicked.
    Panicked = 3,
    /// The loop was closed under it.
    Closed = 4,
}

impl Outcome {
    pub(crate) fn from_u8(number: u8) -> Option<Self> {
        [Self::Finished, Self::Cancelled, Self::Panicked, Self::Closed]
            .into_iter()
            .find(|&outcome| outcome as u8 == number)
    }
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
    /// `None` where the loop was closed before the task could be made.
    inner: Option<Joinable<T>>,
    /// The loop, which this does not keep alive.
    local: Weak<Local>,
    id: TaskId,
    /// Whether the output was given out.
    taken: bool,
    /// A task belongs to its loop's thread.
    not_send: PhantomData<Rc<()>>,
}

impl<T> Task<T> {
    pub(crate) fn new(local: &Rc<Local>, inner: Joinable<T>, id: TaskId) -> Self {
        Self { inner: Some(inner), local: Rc::downgrade(local), id, taken: false, not_send: PhantomData }
    }

    /// A task of a closed loop: done, with [`JoinError::is_closed`].
    pub(crate) fn closed(local: &Rc<Local>, id: TaskId) -> Self {
        Self { inner: None, local: Rc::downgrade(local), id, taken: false, not_send: PhantomData }
    }

    /// Where the task is listed while it is live.
    fn task_ref(&self) -> TaskRef {
        match &self.inner {
            Some(inner) => inner.metadata().task(),
            None => None,
        }
        // An id names no other task, wherever it is looked for.
        .unwrap_or(TaskRef { place: 0, id: self.id })
    }

    fn outcome(&self) -> Option<Outcome> {
        match &self.inner {
            Some(inner) => inner.metadata().outcome(),
            None => Some(Outcome::Closed),
        }
    }

    /// The task's number, which no other task of the process has.
    pub fn id(&self) -> TaskId {
        self.id
    }

    /// The task's name: the one given to it, or `Task-<id>`.
    pub fn name(&self) -> Rc<str> {
        let kept = self.local.upgrade().and_then(|local| match local.active.borrow().get(self.task_ref()) {
            Some(entry) => Some(entry.name()),
            None => local.names.borrow().get(&self.id).cloned(),
        });
        kept.unwrap_or_else(|| default_name(self.id))
    }

    /// Gives the task another name.
    pub fn set_name(&self, name: impl Into<Rc<str>>) {
        let Some(local) = self.local.upgrade() else {
            return;
        };
        let name = name.into();
        match local.active.borrow().get(self.task_ref()) {
            Some(entry) => drop(entry.set_name(name)),
            None => {
                local.names.borrow_mut().insert(self.id, name);
                if let Some(inner) = &self.inner {
                    inner.metadata().note_record();
                }
            }
        }
    }

    /// Whether the task has ended, in whichever way.
    pub fn is_done(&self) -> bool {
        self.outcome().is_some()
    }

    /// Whether the task has ended by being cancelled.
    pub fn is_cancelled(&self) -> bool {
        self.outcome() == Some(Outcome::Cancelled)
    }

    /// Asks the task to end: its future is dropped at its await point, on the loop's thread, in the next turn.
    ///
    /// True if the task was not done yet. It is not done before its turn has come; a second call changes nothing. A
    /// task that cancels itself is dropped at its next await, or ends as cancelled if there is none.
    pub fn cancel(&self) -> bool {
        self.canceller().cancel()
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
        Canceller { local: self.local.clone(), task: self.task_ref() }
    }

    /// Calls `callback` in the turn after the task's end, in a copy of the context of this call; in the next turn if the
    /// task is done already. Several are called in the order in which they were added.
    ///
    /// The id is for [`remove_done_callback`](Self::remove_done_callback). A loop that is closed under the task calls
    /// nobody; adding a callback after that is reported to the exception handler, as any scheduling is.
    #[track_caller]
    pub fn add_done_callback(&self, callback: impl FnOnce(Outcome) + 'static) -> CallbackId {
        self.add_callback(context::fork_current(), Location::caller(), Box::new(callback))
    }

    /// As [`add_done_callback`](Self::add_done_callback), in a context of your choice.
    #[track_caller]
    pub fn add_done_callback_in(&self, context: &Context, callback: impl FnOnce(Outcome) + 'static) -> CallbackId {
        self.add_callback(Slot::Shared(context.clone()), Location::caller(), Box::new(callback))
    }

    fn add_callback(
        &self,
        context: Slot,
        created_at: &'static Location<'static>,
        call: Box<dyn FnOnce(Outcome)>,
    ) -> CallbackId {
        let Some(local) = self.local.upgrade() else {
            return CallbackId(0);
        };
        let id = CallbackId(local.next_callback_id());
        if !local.is_open() {
            drop(call);
            local.report_closed_by("Task::add_done_callback", created_at);
            return id;
        }
        let callback = DoneCallback { id: id.0, context, created_at, call };
        match self.outcome() {
            Some(outcome) => local.schedule_done(callback, outcome),
            None => {
                if let Some(entry) = local.active.borrow().get(self.task_ref()) {
                    entry.add_done_callback(callback);
                }
            }
        }
        id
    }

    /// Takes a done callback back: true if it was still waiting for the task's end.
    pub fn remove_done_callback(&self, id: CallbackId) -> bool {
        let Some(local) = self.local.upgrade() else {
            return false;
        };
        let removed = local.active.borrow().get(self.task_ref()).and_then(|entry| entry.remove_done_callback(id.0));
        removed.is_some()
    }

    fn forget_name(&self) {
        if let Some(local) = self.local.upgrade() {
            let _name = local.names.borrow_mut().remove(&self.id);
        }
    }

    /// A handle whose drop cancels the task.
    pub fn cancel_on_drop(self) -> CancelOnDrop<T> {
        CancelOnDrop { task: Some(self) }
    }
}

impl<T> Future for Task<T> {
    type Output = Result<T, JoinError>;

    /// # Panics
    ///
    /// If it is polled again after it was ready, or by another loop than the task's own.
    fn poll(mut self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<Self::Output> {
        assert!(!self.taken, "Task polled after its output was taken");
        let this = &mut *self;
        let Some(inner) = &mut this.inner else {
            this.taken = true;
            return Poll::Ready(Err(JoinError::closed()));
        };
        if super::runs_another_loop(&this.local) {
            refuse_foreign(&this.local);
        }
        let result = std::task::ready!(Pin::new(inner).poll(cx));
        self.taken = true;
        Poll::Ready(result)
    }
}

impl<T> Drop for Task<T> {
    fn drop(&mut self) {
        let Some(mut inner) = self.inner.take() else {
            return self.forget_name();
        };
        if self.taken && !inner.metadata().has_record() {
            return inner.detach();
        }
        let local = self.local.upgrade();
        if !self.taken && !inner.is_finished() {
            return detach(local.as_deref(), inner);
        }
        self.forget_name();
        let panicked = local.as_ref().and_then(|local| local.panicked.borrow_mut().remove(&self.id));
        if self.taken {
            return inner.detach();
        }
        // An output that nobody took. Its destructor must not run inside async-task, which would abort on a panic.
        let output = Pin::new(&mut inner).poll(&mut task::Context::from_waker(Waker::noop()));
        inner.detach();
        match (output, local) {
            (Poll::Ready(Ok(output)), Some(local)) => drop_output(&local, output),
            (Poll::Ready(Err(error)), local) => report_lost(local, error, panicked, self.id),
            (output, _) => drop(catch_unwind(AssertUnwindSafe(|| drop(output)))),
        }
    }
}

#[cold]
fn refuse_foreign(local: &Weak<Local>) -> ! {
    let (own, running) = (local.upgrade().map_or(0, |local| local.loop_id()), super::running_loop_id());
    panic!("a task of loop {own} was awaited in loop {running}: use RemoteTask to cross loops");
}

/// Tells of a panic that nobody has asked for, in the context that the task had.
fn report_lost(local: Option<Rc<Local>>, error: JoinError, panicked: Option<Panicked>, id: TaskId) {
    if error.is_fatal() {
        return;
    }
    let Ok(payload) = error.try_into_panic() else {
        return;
    };
    const MESSAGE: &str = "Task exception was never retrieved";
    let Some(local) = local else {
        // The loop is gone for good.
        let name = default_name(id);
        emit(tracing::Level::ERROR, &format!("{MESSAGE}: {}\n  <Task {name:?}>", panic_text(&*payload)));
        return drop(catch_unwind(AssertUnwindSafe(|| drop(payload))));
    };
    let (info, context) = match panicked {
        Some(Panicked { info, context }) => (Some(info), context),
        None => (None, Slot::EMPTY),
    };
    let (subject, spawned_at) = subject(info);
    let ((), left) = context::enter(context, || local.caught(MESSAGE, payload, subject, spawned_at));
    local.dispose(left);
}

impl<T> fmt::Debug for Task<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match self.outcome() {
            Some(Outcome::Finished) => "finished",
            Some(Outcome::Cancelled) => "cancelled",
            Some(Outcome::Panicked) => "panicked",
            Some(Outcome::Closed) => "closed",
            None => "pending",
        };
        let live = self.local.upgrade().and_then(|local| local.task_info(self.task_ref()));
        let cancelling = live.as_ref().is_some_and(|info| info.state == TaskState::Cancelling);
        write!(f, "<Task {} name={:?}", if cancelling { "cancelling" } else { state }, self.name())?;
        if let Some(info) = live {
            write!(f, " spawned at {}", info.spawned_at)?;
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
}

impl fmt::Debug for Canceller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Canceller").field(&self.task.id).finish()
    }
}
