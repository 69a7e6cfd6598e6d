//! The loop from other threads.

use std::any::type_name;
use std::fmt;
use std::future::Future;
use std::panic::{AssertUnwindSafe, Location, catch_unwind, resume_unwind};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::{Arc, Condvar, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use crate::error::{Fatal, JoinError, LoopClosed, PanicPayload};
use crate::event_loop::job::{HasJob, IfRunning, Job, JobControl, lock};
use crate::event_loop::running;
use crate::event_loop::{Core, EventLoop};
use crate::sched::Shared;
use crate::sched::active::TaskRef;
use crate::sched::clock::deadline;
use crate::sched::context;
use crate::sched::handle::HandleInfo;
use crate::sched::ready::{Injected, RemoteJob};
use crate::sched::task::drop_output;

/// A loop as other threads see it: to schedule on it, to wake it, to stop it.
///
/// Made by [`EventLoop::remote`]; cheap to clone, `Send` and `Sync`. It keeps nothing open: once the loop is closed,
/// every method says [`LoopClosed`].
///
/// ```
/// let el = roundelay::EventLoop::new()?;
/// let remote = el.remote();
/// let thread = std::thread::spawn(move || {
///     let task = remote.spawn(|| async { 6 * 7 }).unwrap();
///     let answer = task.wait().unwrap();
///     remote.stop().unwrap();
///     answer
/// });
/// el.run_forever();
/// assert_eq!(thread.join().unwrap(), 42);
/// # std::io::Result::Ok(())
/// ```
#[derive(Clone)]
pub struct Remote {
    shared: Arc<Shared>,
}

impl Remote {
    pub(crate) fn new(core: &Core) -> Self {
        Self { shared: core.local.shared() }
    }

    fn post(&self, job: Arc<dyn RemoteJob>) -> Result<(), LoopClosed> {
        self.shared.post(Injected::Job(job)).map_err(|_| LoopClosed)
    }

    /// The number of the loop.
    pub fn loop_id(&self) -> u64 {
        self.shared.id()
    }

    /// Calls `callback` on the loop, in its turn, in a copy of the loop's base context.
    ///
    /// On the loop's own thread the order is that of [`EventLoop::call_soon`]; the calls of another thread keep their
    /// order among each other.
    ///
    /// # Errors
    ///
    /// [`LoopClosed`]; the callback is dropped.
    #[track_caller]
    pub fn call_soon_threadsafe<T, F>(&self, callback: F) -> Result<RemoteHandle<T>, LoopClosed>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        let job = Arc::new(RemoteCallback { job: Job::new(callback), created_at: Location::caller() });
        self.post(job.clone())?;
        Ok(RemoteHandle { control: job })
    }

    /// Makes a task on the loop: `make` is called there and gives the future, which need not be `Send`.
    ///
    /// Dropping the returned handle detaches the task.
    ///
    /// # Errors
    ///
    /// [`LoopClosed`]; `make` is dropped.
    #[track_caller]
    pub fn spawn<F, Fut>(&self, make: F) -> Result<RemoteTask<Fut::Output>, LoopClosed>
    where
        F: FnOnce() -> Fut + Send + 'static,
        Fut: IntoFuture,
        Fut::IntoFuture: 'static,
        Fut::Output: Send + 'static,
    {
        let state = Arc::new(TaskState {
            inner: Mutex::new(TaskInner { progress: Progress::Waiting, waker: None, cancelled: false, task: None }),
            changed: Condvar::new(),
        });
        let job = RemoteSpawn { make: Mutex::new(Some(make)), state: state.clone(), spawned_at: Location::caller() };
        self.post(Arc::new(job))?;
        Ok(RemoteTask { state, remote: self.clone() })
    }

    /// Stops the loop, as [`EventLoop::stop`] does, when what was posted before has been queued.
    ///
    /// # Errors
    ///
    /// [`LoopClosed`].
    pub fn stop(&self) -> Result<(), LoopClosed> {
        self.post(Arc::new(Stop))
    }
}

impl fmt::Debug for Remote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Remote").field("loop", &self.shared.id()).finish()
    }
}

impl EventLoop {
    /// The loop for other threads.
    pub fn remote(&self) -> Remote {
        Remote::new(&self.core)
    }

    /// See [`Remote::call_soon_threadsafe`].
    ///
    /// # Errors
    ///
    /// [`LoopClosed`]; the callback is dropped.
    #[track_caller]
    pub fn call_soon_threadsafe<T, F>(&self, callback: F) -> Result<RemoteHandle<T>, LoopClosed>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        self.remote().call_soon_threadsafe(callback)
    }
}

/// The job of [`Remote::stop`].
struct Stop;

impl RemoteJob for Stop {
    fn run(self: Arc<Self>) {
        if let Some(core) = running::current() {
            EventLoop::handle(core).stop();
        }
    }

    fn close(self: Arc<Self>) {}
}

/// The job of [`Remote::call_soon_threadsafe`].
struct RemoteCallback<F, T> {
    job: Job<F, T>,
    created_at: &'static Location<'static>,
}

impl<F: Send, T: Send> HasJob for RemoteCallback<F, T> {
    type Function = F;
    type Output = T;

    fn job(&self) -> &Job<F, T> {
        &self.job
    }
}

impl<F, T> RemoteJob for RemoteCallback<F, T>
where
    F: FnOnce() -> T + Send + 'static,
    T: Send + 'static,
{
    fn run(self: Arc<Self>) {
        let Some(core) = running::current() else { return };
        let Some(callback) = self.job.begin() else { return };
        let (called, left) = context::enter(context::fork_current(), || {
            catch_unwind(AssertUnwindSafe(callback))
                .map_err(|payload| report(&core, payload, type_name::<F>(), self.created_at))
        });
        core.local.dispose(left);
        if let Some(Ok(unwanted)) = self.job.finish(called) {
            drop_output(&core.local, unwanted);
        }
    }

    fn close(self: Arc<Self>) {
        self.job.close();
    }
}

/// Reports the panic of a posted function; it becomes its result, too.
fn report(core: &Core, payload: PanicPayload, name: &'static str, created_at: &'static Location<'static>) -> JoinError {
    let Some(payload) = core.local.take_fatal(payload) else {
        return JoinError::cancelled();
    };
    let info = HandleInfo { name, created_at, when: None, is_cancelled: false };
    core.local.report_panic(&format!("Exception in callback {name}"), &*payload, Some(Rc::new(info)), Some(created_at));
    JoinError::panic(payload)
}

/// A callback that was posted to a loop: to cancel it, to await it or to wait for it by blocking, from any thread.
///
/// It is a `Send` future of `Result<T, JoinError>`. Dropping it changes nothing: the callback runs.
pub struct RemoteHandle<T> {
    control: Arc<dyn JobControl<T>>,
}

impl<T> RemoteHandle<T> {
    /// Takes the callback back: true if it had not begun. What it captured is dropped now, on this thread.
    ///
    /// If the callback is running, this returns when it has ended; from within the callback itself, at once.
    pub fn cancel(&self) -> bool {
        self.control.cancel(IfRunning::Wait)
    }

    /// Whether it was cancelled before it ran.
    pub fn is_cancelled(&self) -> bool {
        self.control.is_cancelled()
    }

    /// Whether nothing more will happen: it has run, was cancelled, or the loop was closed.
    pub fn is_done(&self) -> bool {
        self.control.is_done()
    }

    /// Blocks until the callback has run, and gives what it returned.
    ///
    /// # Errors
    ///
    /// [`JoinError`] if it panicked, was cancelled, or the loop was closed before.
    ///
    /// # Panics
    ///
    /// Inside of a running loop, where it would block everything.
    #[track_caller]
    pub fn wait(self) -> Result<T, JoinError> {
        refuse_inside_loop("RemoteHandle::wait");
        self.control.wait()
    }
}

impl<T> Future for RemoteHandle<T> {
    type Output = Result<T, JoinError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.control.poll(cx)
    }
}

impl<T> Drop for RemoteHandle<T> {
    fn drop(&mut self) {
        drop(self.control.detach());
    }
}

impl<T> fmt::Debug for RemoteHandle<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RemoteHandle").field("done", &self.is_done()).field("cancelled", &self.is_cancelled()).finish()
    }
}

#[track_caller]
fn refuse_inside_loop(method: &str) {
    assert!(
        running::current().is_none(),
        "{method}() would block the event loop that runs on this thread: await instead"
    );
}

/// How far a posted task has come.
enum Progress<T> {
    /// Posted, or running on the loop.
    Waiting,
    Done(Result<T, JoinError>),
    Taken,
}

struct TaskInner<T> {
    progress: Progress<T>,
    /// Who awaits it.
    waker: Option<Waker>,
    /// Whether it is to be cancelled, perhaps before it exists.
    cancelled: bool,
    /// The task, once it exists.
    task: Option<TaskRef>,
}

struct TaskState<T> {
    inner: Mutex<TaskInner<T>>,
    /// Told when there is a result.
    changed: Condvar,
}

impl<T> TaskState<T> {
    fn finish(&self, result: Result<T, JoinError>) {
        let waker = {
            let mut inner = lock(&self.inner);
            if !matches!(inner.progress, Progress::Waiting) {
                return;
            }
            inner.progress = Progress::Done(result);
            inner.waker.take()
        };
        self.changed.notify_all();
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl<T> TaskInner<T> {
    fn take(&mut self) -> Option<Result<T, JoinError>> {
        match std::mem::replace(&mut self.progress, Progress::Taken) {
            Progress::Done(result) => Some(result),
            Progress::Taken => Some(Err(JoinError::closed())),
            Progress::Waiting => {
                self.progress = Progress::Waiting;
                None
            }
        }
    }
}

/// The job of [`Remote::spawn`].
struct RemoteSpawn<F, T> {
    make: Mutex<Option<F>>,
    state: Arc<TaskState<T>>,
    spawned_at: &'static Location<'static>,
}

/// Resolves the remote side however the task ends, also when its future is dropped.
struct Finish<T> {
    state: Arc<TaskState<T>>,
    el: EventLoop,
}

impl<T> Drop for Finish<T> {
    fn drop(&mut self) {
        let error = if self.el.is_closed() { JoinError::closed() } else { JoinError::cancelled() };
        self.state.finish(Err(error));
    }
}

impl<F, Fut> RemoteJob for RemoteSpawn<F, Fut::Output>
where
    F: FnOnce() -> Fut + Send + 'static,
    Fut: IntoFuture,
    Fut::IntoFuture: 'static,
    Fut::Output: Send + 'static,
{
    fn run(self: Arc<Self>) {
        let Some(core) = running::current() else {
            return;
        };
        let Some(make) = lock(&self.make).take() else {
            return;
        };
        if lock(&self.state.inner).cancelled {
            core.local.dispose(make);
            self.state.finish(Err(JoinError::cancelled()));
            return;
        }
        let el = EventLoop::handle(core.clone());
        let finish = Finish { state: self.state.clone(), el: el.clone() };
        let spawn = || {
            let future = CatchUnwind { future: make().into_future() };
            let future = async move { finish.state.finish(future.await) };
            el.task_builder().spawn_at(self.spawned_at, future)
        };
        let (made, left) = context::enter(context::fork_current(), || catch_unwind(AssertUnwindSafe(spawn)));
        core.local.dispose(left);
        match made {
            Ok(task) => {
                let (canceller, mut inner) = (task.canceller(), lock(&self.state.inner));
                inner.task = Some(canceller.task());
                if inner.cancelled {
                    drop(inner);
                    canceller.cancel();
                }
            }
            Err(payload) => {
                let error = report(&core, payload, type_name::<F>(), self.spawned_at);
                self.state.finish(Err(error));
            }
        }
    }

    fn close(self: Arc<Self>) {
        // The waiter first: the destructor of what was captured may panic.
        let make = lock(&self.make).take();
        self.state.finish(Err(JoinError::closed()));
        drop(make);
    }
}

pin_project_lite::pin_project! {
    /// Makes an error of a panic, for the awaiter on the other thread.
    struct CatchUnwind<F> {
        #[pin]
        future: F,
    }
}

impl<F: Future> Future for CatchUnwind<F> {
    type Output = Result<F::Output, JoinError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let future = self.project().future;
        match catch_unwind(AssertUnwindSafe(|| future.poll(cx))) {
            Ok(polled) => polled.map(Ok),
            // Not ours: it unwinds out of the loop's run.
            Err(payload) if payload.is::<Fatal>() => resume_unwind(payload),
            Err(payload) => Poll::Ready(Err(JoinError::panic(payload))),
        }
    }
}

/// The job of [`RemoteTask::cancel`].
struct CancelTask(TaskRef);

impl RemoteJob for CancelTask {
    fn run(self: Arc<Self>) {
        if let Some(core) = running::current() {
            core.local.cancel(self.0);
        }
    }

    fn close(self: Arc<Self>) {}
}

/// A task that was posted to a loop: a `Send` future of `Result<T, JoinError>`, which can also be waited for by
/// blocking, or cancelled, from any thread.
///
/// Dropping it detaches the task.
#[must_use = "dropping a RemoteTask detaches it: write `drop(task)` or keep it"]
pub struct RemoteTask<T> {
    state: Arc<TaskState<T>>,
    remote: Remote,
}

impl<T> RemoteTask<T> {
    /// Blocks until the task is done, and gives its output.
    ///
    /// # Errors
    ///
    /// [`JoinError`] if it panicked, was cancelled, or the loop was closed before.
    ///
    /// # Panics
    ///
    /// Inside of a running loop, where it would block everything: await it there.
    #[track_caller]
    pub fn wait(self) -> Result<T, JoinError> {
        refuse_inside_loop("RemoteTask::wait");
        let mut inner = lock(&self.state.inner);
        loop {
            if let Some(result) = inner.take() {
                return result;
            }
            inner = self.state.changed.wait(inner).unwrap_or_else(|poison| poison.into_inner());
        }
    }

    /// As [`wait`](Self::wait), for a limited time: `None` if the task is not done by then. It goes on; cancel it if
    /// that is meant.
    ///
    /// # Panics
    ///
    /// Inside of a running loop.
    #[track_caller]
    pub fn wait_timeout(&self, timeout: Duration) -> Option<Result<T, JoinError>> {
        refuse_inside_loop("RemoteTask::wait_timeout");
        let deadline = deadline(Instant::now(), timeout);
        let mut inner = lock(&self.state.inner);
        loop {
            if let Some(result) = inner.take() {
                return Some(result);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return None;
            }
            inner = self.state.changed.wait_timeout(inner, left).unwrap_or_else(|poison| poison.into_inner()).0;
        }
    }

    /// Asks the task to end, as [`Task::cancel`](crate::Task::cancel) does, in a turn of its loop: true if it was not
    /// done yet.
    pub fn cancel(&self) -> bool {
        let task = {
            let mut inner = lock(&self.state.inner);
            if !matches!(inner.progress, Progress::Waiting) {
                return false;
            }
            inner.cancelled = true;
            inner.task
        };
        // On a closed loop the task has ended.
        task.is_none_or(|task| self.remote.post(Arc::new(CancelTask(task))).is_ok())
    }

    /// Whether the task has ended, in whichever way.
    pub fn is_done(&self) -> bool {
        !matches!(lock(&self.state.inner).progress, Progress::Waiting)
    }
}

impl<T> Future for RemoteTask<T> {
    type Output = Result<T, JoinError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut inner = lock(&self.state.inner);
        match inner.take() {
            Some(result) => Poll::Ready(result),
            None => {
                let before = inner.waker.replace(cx.waker().clone());
                drop(inner);
                drop(before);
                Poll::Pending
            }
        }
    }
}

impl<T> fmt::Debug for RemoteTask<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RemoteTask").field("loop", &self.remote.loop_id()).field("done", &self.is_done()).finish()
    }
}
