//! The loop from other threads.

use std::any::type_name;
use std::fmt;
use std::future::Future;
use std::panic::{AssertUnwindSafe, Location, catch_unwind, resume_unwind};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use tracing::Span;

use crate::error::{Fatal, JoinError, LoopClosed, PanicPayload};
use crate::event_loop::inspection::waits_for;
use crate::event_loop::job::{Awaiting, Changed, HasJob, IfRunning, Job, JobControl, lock};
use crate::event_loop::lost::Lost;
use crate::event_loop::running;
use crate::event_loop::{Core, EventLoop};
use crate::sched::active::TaskRef;
use crate::sched::clock::deadline;
use crate::sched::context;
use crate::sched::counters::Counters;
use crate::sched::handle::HandleInfo;
use crate::sched::info::WaitsFor;
use crate::sched::ran::Post;
use crate::sched::ready::{Injected, Posted, Posting, RemoteJob, thread_token};
use crate::sched::task::{drop_caught, drop_output};
use crate::sched::unasked::{self, ReportableError, Unasked};
use crate::sched::{Local, Shared, span};

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

    pub(super) fn counters(&self) -> &Counters {
        self.shared.counters()
    }

    pub(super) fn post_job(&self, job: Arc<dyn RemoteJob>) -> Result<(), LoopClosed> {
        self.shared.post(Injected::Job(job)).map_err(|_| LoopClosed)
    }

    /// The loop's own part, on its thread.
    pub(super) fn own_local(&self) -> Option<Rc<Local>> {
        self.shared.local()
    }

    /// Whether the loop belongs to a process that has forked this one.
    pub(crate) fn is_inherited(&self) -> bool {
        self.shared.is_inherited()
    }

    /// See `refuse_blocking`.
    #[track_caller]
    fn refuse_blocking(&self, method: &str, is_done: bool) {
        refuse_blocking(self.shared.thread(), method, is_done);
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
        self.post_job(job.clone())?;
        Ok(RemoteHandle { control: Some(job), polled: false, thread: self.shared.thread() })
    }

    /// As [`call_soon_threadsafe`](Self::call_soon_threadsafe), for a callback that nobody will ask about: without a handle
    /// the two threads share nothing but the queue, and what captures no more than 24 bytes needs no memory but there.
    ///
    /// ```
    /// let el = roundelay::EventLoop::new()?;
    /// let remote = el.remote();
    /// let thread = std::thread::spawn(move || {
    ///     remote.post(|| println!("on the loop")).unwrap();
    ///     remote.stop().unwrap();
    /// });
    /// el.run_forever();
    /// thread.join().unwrap();
    /// # std::io::Result::Ok(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`LoopClosed`]; the callback is dropped.
    #[track_caller]
    pub fn post<F>(&self, callback: F) -> Result<(), LoopClosed>
    where
        F: FnOnce() + Send + 'static,
    {
        let posting = Posting::new(PostedCallback { callback, created_at: Location::caller() });
        self.shared.post(Injected::Posted(posting)).map_err(|_| LoopClosed)
    }

    /// Makes a task on the loop: `make` is called there and gives the future, which need not be `Send`.
    ///
    /// Dropping the returned handle detaches the task.
    ///
    /// # Errors
    ///
    /// [`LoopClosed`]; `make` is dropped.
    #[doc(alias = "run_coroutine_threadsafe")]
    #[track_caller]
    pub fn spawn<F, Fut>(&self, make: F) -> Result<RemoteTask<Fut::Output>, LoopClosed>
    where
        F: FnOnce() -> Fut + Send + 'static,
        Fut: IntoFuture,
        Fut::IntoFuture: 'static,
        Fut::Output: Send + 'static,
    {
        let spawned_at = Location::caller();
        let state = Arc::new(TaskState::new());
        let make = Mutex::new(Some((make, span::current())));
        self.post_job(Arc::new(RemoteSpawn { make, state: state.clone(), spawned_at }))?;
        Ok(RemoteTask { state, remote: self.clone(), spawned_at })
    }

    /// Whether the loop is closed, as far as this thread can know: then whatever is given to it is refused.
    ///
    /// ```
    /// let el = roundelay::EventLoop::new()?;
    /// let remote = el.remote();
    /// assert!(!remote.is_closed());
    /// el.close();
    /// assert!(remote.is_closed() && remote.post(|| {}).is_err());
    /// # std::io::Result::Ok(())
    /// ```
    pub fn is_closed(&self) -> bool {
        self.shared.is_closed()
    }

    /// Stops the loop, as [`EventLoop::stop`] does, when what was posted before has been queued.
    ///
    /// # Errors
    ///
    /// [`LoopClosed`].
    pub fn stop(&self) -> Result<(), LoopClosed> {
        self.post_job(Arc::new(Stop))
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

/// A wait that would never end is refused: inside of a running loop, and on the loop's own thread, where nothing could
/// run it meanwhile.
#[track_caller]
fn refuse_blocking(thread: u64, method: &str, is_done: bool) {
    assert!(
        running::current().is_none(),
        "{method}() would block the event loop that runs on this thread: await instead"
    );
    // A closed loop has ended all that was posted.
    assert!(
        is_done || thread != thread_token(),
        "{method}() would block the thread of its own event loop: run the loop instead"
    );
}

/// The job of [`Remote::stop`].
struct Stop;

impl RemoteJob for Stop {
    fn run(self: Arc<Self>, _: &Local) {
        if let Some(core) = running::current() {
            EventLoop::handle(core).stop();
        }
    }

    fn close(self: Arc<Self>, _: &Local) {}

    fn about(&self) -> Post {
        Post { method: "Remote::stop", origin: None }
    }
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

    fn into_job(self) -> Job<F, T> {
        self.job
    }
}

impl<F, T> RemoteJob for RemoteCallback<F, T>
where
    F: FnOnce() -> T + Send + 'static,
    T: Send + 'static,
{
    fn run(self: Arc<Self>, local: &Local) {
        let created_at = self.created_at;
        match Arc::try_unwrap(self) {
            // Nobody holds the handle: no lock is needed, and the result is wanted by nobody.
            Ok(alone) => {
                let Some(callback) = alone.job.into_function() else { return };
                drop_output(local, call(local, callback, created_at));
            }
            Err(shared) => {
                let Some(callback) = shared.job.begin() else { return };
                // An error holds the payload of a panic.
                drop_output(local, shared.job.finish(call(local, callback, created_at)));
                if let Some(alone) = Arc::into_inner(shared) {
                    drop_output(local, alone.job.into_result());
                }
            }
        }
    }

    fn close(self: Arc<Self>, _: &Local) {
        self.job.close();
    }

    fn about(&self) -> Post {
        Post { method: "Remote::call_soon_threadsafe", origin: Some((type_name::<F>(), self.created_at)) }
    }
}

/// The callback of [`Remote::post`].
struct PostedCallback<F> {
    callback: F,
    created_at: &'static Location<'static>,
}

impl<F: FnOnce() + Send> Posted for PostedCallback<F> {
    fn run(self, local: &Local) {
        let Self { callback, created_at } = self;
        // What panicked was reported; the payload is dropped here.
        drop_output(local, call(local, callback, created_at));
    }

    fn about(&self) -> Post {
        Post { method: "Remote::post", origin: Some((type_name::<F>(), self.created_at)) }
    }
}

/// Calls a posted function in a copy of the base context.
fn call<F, T>(local: &Local, callback: F, created_at: &'static Location<'static>) -> Result<T, JoinError>
where
    F: FnOnce() -> T,
{
    local.counters.callbacks.add(1);
    let (called, left) = context::enter(context::fork_current(), || {
        catch_unwind(AssertUnwindSafe(callback)).map_err(|payload| report(local, payload, type_name::<F>(), created_at))
    });
    local.dispose(left);
    called
}

/// Reports the panic of a posted function; it becomes its result, too.
#[cold]
fn report(
    local: &Local,
    payload: PanicPayload,
    name: &'static str,
    created_at: &'static Location<'static>,
) -> JoinError {
    let Some(payload) = local.take_fatal(payload) else {
        return JoinError::fatal();
    };
    let info = HandleInfo { name, created_at, when: None, is_cancelled: false };
    local.report_panic(&format!("Exception in callback {name}"), &*payload, Some(Rc::new(info)), Some(created_at));
    JoinError::panic(payload)
}

/// A callback that was posted to a loop: to cancel it, to await it or to wait for it by blocking, from any thread.
///
/// It is a `Send` future of `Result<T, JoinError>`. Dropping it changes nothing: the callback runs.
pub struct RemoteHandle<T> {
    /// `None` after the drop only.
    control: Option<Arc<dyn JobControl<T>>>,
    /// Whether it has left a waker behind, perhaps.
    polled: bool,
    /// That of the loop.
    thread: u64,
}

impl<T> RemoteHandle<T> {
    fn control(&self) -> &dyn JobControl<T> {
        &**self.control.as_ref().expect("the job is there until the handle is dropped")
    }
}

impl<T> RemoteHandle<T> {
    /// Takes the callback back: true if it had not begun. What it captured is dropped now, on this thread.
    ///
    /// If the callback is running, this returns when it has ended; from within the callback itself, at once.
    pub fn cancel(&self) -> bool {
        self.control().cancel(IfRunning::Wait)
    }

    /// Whether it was cancelled before it ran.
    #[doc(alias = "cancelled")]
    pub fn is_cancelled(&self) -> bool {
        self.control().is_cancelled()
    }

    /// Whether nothing more will happen: it has run, was cancelled, or the loop was closed.
    pub fn is_done(&self) -> bool {
        self.control().is_done()
    }

    /// Blocks until the callback has run, and gives what it returned.
    ///
    /// # Errors
    ///
    /// [`JoinError`] if it panicked, was cancelled, or the loop was closed before.
    ///
    /// # Panics
    ///
    /// Inside of a running loop, where it would block everything, and on the loop's own thread if the callback has not
    /// run yet: it never would. And if awaiting it gave the result already.
    #[track_caller]
    pub fn wait(self) -> Result<T, JoinError> {
        refuse_blocking(self.thread, "RemoteHandle::wait", self.is_done());
        match self.control().wait() {
            Some(result) => result,
            None => panic!("RemoteHandle::wait() was called after the result was taken"),
        }
    }
}

impl<T> Future for RemoteHandle<T> {
    type Output = Result<T, JoinError>;

    /// # Panics
    ///
    /// If it is polled again after it gave the result.
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.polled = true;
        self.control().poll(cx)
    }
}

impl<T> Drop for RemoteHandle<T> {
    fn drop(&mut self) {
        if self.polled {
            drop(self.control().detach());
        }
        if let Some(control) = self.control.take() {
            control.release();
        }
    }
}

impl<T> fmt::Debug for RemoteHandle<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RemoteHandle").field("done", &self.is_done()).field("cancelled", &self.is_cancelled()).finish()
    }
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
    waker: Option<Awaiting>,
    /// Whether it is to be cancelled, perhaps before it exists.
    cancelled: bool,
    /// Whether nobody will ask for the result.
    detached: bool,
    /// The task, once it exists.
    task: Option<TaskRef>,
    /// Whether the future was dropped before the task existed.
    dropped_early: bool,
    /// What is done with an output that nobody will ask for, where it is not merely dropped.
    unasked: Option<Unasked<T>>,
}

struct TaskState<T> {
    inner: Mutex<TaskInner<T>>,
    /// Told when there is a result.
    changed: Changed,
}

impl<T> TaskState<T> {
    fn new() -> Self {
        let inner = TaskInner {
            progress: Progress::Waiting,
            waker: None,
            cancelled: false,
            detached: false,
            task: None,
            dropped_early: false,
            unasked: None,
        };
        Self { inner: Mutex::new(inner), changed: Changed::default() }
    }

    /// The first result counts. It comes back if nobody will ask for it.
    fn finish(&self, result: Result<T, JoinError>) -> Option<Result<T, JoinError>> {
        let mut inner = lock(&self.inner);
        if !matches!(inner.progress, Progress::Waiting) {
            return None;
        }
        if inner.detached {
            inner.progress = Progress::Taken;
            return Some(result);
        }
        inner.progress = Progress::Done(result);
        let waker = inner.waker.take();
        drop(inner);
        self.changed.tell();
        if let Some(waker) = waker {
            waker.wake();
        }
        None
    }
}

impl<T> TaskInner<T> {
    /// The result, if it is there.
    fn take(&mut self) -> Option<Result<T, JoinError>> {
        match std::mem::replace(&mut self.progress, Progress::Taken) {
            Progress::Done(result) => Some(result),
            Progress::Taken => None,
            Progress::Waiting => {
                self.progress = Progress::Waiting;
                None
            }
        }
    }

    /// The same for whoever asks for it, which is to be done once. `method` says how.
    #[track_caller]
    fn give(&mut self, method: &str) -> Option<Result<T, JoinError>> {
        assert!(
            !matches!(self.progress, Progress::Taken),
            "RemoteTask::{method}() was called after the output was taken"
        );
        self.take()
    }
}

/// The job of [`Remote::spawn`].
struct RemoteSpawn<F, T> {
    /// With the span that the thread was in: the parent of the task's own.
    make: Mutex<Option<(F, Option<Box<Span>>)>>,
    state: Arc<TaskState<T>>,
    spawned_at: &'static Location<'static>,
}

/// Resolves the remote side however the task ends, also when its future is dropped.
struct Finish<T> {
    state: Arc<TaskState<T>>,
    el: EventLoop,
}

impl<T> Finish<T> {
    /// The future has come to its end.
    fn finish(&self, result: Result<T, JoinError>) {
        match self.state.finish(result) {
            // As any other task that panics with nobody to see it.
            Some(Err(error)) if error.is_panic() => resume_unwind(error.into_panic()),
            Some(Ok(output)) => {
                let unasked = lock(&self.state.inner).unasked;
                match unasked {
                    Some(unasked) => unasked(&self.el.core.local, self.el.current_task(), output),
                    None => drop(output),
                }
            }
            unwanted => drop(unwanted),
        }
    }
}

impl<T> Drop for Finish<T> {
    fn drop(&mut self) {
        {
            let mut inner = lock(&self.state.inner);
            if inner.task.is_none() {
                // The task factory has dropped the future. It may be about to panic, which then is the result.
                inner.dropped_early = true;
                return;
            }
        }
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
    fn run(self: Arc<Self>, _: &Local) {
        let Some(core) = running::current() else {
            return;
        };
        let Some((make, parent)) = lock(&self.make).take() else {
            return;
        };
        if lock(&self.state.inner).cancelled {
            drop_caught(&core.local, (make, parent), "Exception in the destructor of a cancelled closure");
            self.state.finish(Err(JoinError::cancelled()));
            return;
        }
        let spawn = || {
            let el = EventLoop::handle(core.clone());
            let future = CatchUnwind { future: make().into_future(), state: self.state.clone() };
            let finish = Finish { state: self.state.clone(), el: el.clone() };
            let future = async move { finish.finish(future.await) };
            el.task_builder().spawn_at(self.spawned_at, future)
        };
        let (made, left) = span::inside(parent, &core.local, || {
            context::enter(context::fork_current(), || catch_unwind(AssertUnwindSafe(spawn)))
        });
        core.local.dispose(left);
        match made {
            Ok(task) => {
                let canceller = task.canceller();
                let mut inner = lock(&self.state.inner);
                inner.task = Some(canceller.task());
                let (cancelled, dropped_early) = (inner.cancelled, inner.dropped_early);
                drop(inner);
                if dropped_early {
                    self.state.finish(Err(JoinError::cancelled()));
                }
                if cancelled {
                    canceller.cancel();
                }
            }
            Err(payload) => {
                let error = report(&core.local, payload, type_name::<F>(), self.spawned_at);
                drop_output(&core.local, self.state.finish(Err(error)));
            }
        }
    }

    fn close(self: Arc<Self>, local: &Local) {
        let make = lock(&self.make).take();
        local.dispose(make);
        self.state.finish(Err(JoinError::closed()));
    }

    fn about(&self) -> Post {
        Post { method: "Remote::spawn", origin: Some((type_name::<F>(), self.spawned_at)) }
    }
}

pin_project_lite::pin_project! {
    /// Makes an error of a panic, for the awaiter on the other thread.
    struct CatchUnwind<F, T> {
        #[pin]
        future: F,
        state: Arc<TaskState<T>>,
    }
}

impl<F: Future> Future for CatchUnwind<F, F::Output> {
    type Output = Result<F::Output, JoinError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        match catch_unwind(AssertUnwindSafe(|| this.future.poll(cx))) {
            Ok(polled) => polled.map(Ok),
            // Not ours: it unwinds out of the loop's run.
            Err(payload) if payload.is::<Fatal>() => {
                this.state.finish(Err(JoinError::fatal()));
                resume_unwind(payload)
            }
            Err(payload) => Poll::Ready(Err(JoinError::panic(payload))),
        }
    }
}

/// The job of [`RemoteTask::cancel`] and of [`RemoteTask::cancel_gracefully`], which gives a grace.
struct CancelTask {
    task: TaskRef,
    grace: Option<Duration>,
}

impl RemoteJob for CancelTask {
    fn run(self: Arc<Self>, local: &Local) {
        match self.grace {
            Some(grace) => local.cancel_gracefully(self.task, grace),
            None => local.cancel(self.task),
        };
    }

    fn close(self: Arc<Self>, _: &Local) {}

    fn about(&self) -> Post {
        Post { method: "RemoteTask::cancel", origin: None }
    }
}

/// A task that was posted to a loop: a `Send` future of `Result<T, JoinError>`, which can also be waited for by
/// blocking, or cancelled, from any thread.
///
/// Dropping it detaches the task. A panic of the task goes to whoever awaits it, and to the loop's exception handler
/// where nobody does.
#[must_use = "dropping a RemoteTask detaches it: write `drop(task)` or keep it"]
pub struct RemoteTask<T> {
    state: Arc<TaskState<T>>,
    remote: Remote,
    spawned_at: &'static Location<'static>,
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
    /// Inside of a running loop, where it would block everything: await it there. On the loop's own thread if the task is
    /// not done: it never would be. And if the output was given out already, by [`wait_timeout`](Self::wait_timeout) or to
    /// an `await`.
    #[track_caller]
    pub fn wait(self) -> Result<T, JoinError> {
        self.remote.refuse_blocking("RemoteTask::wait", self.is_done());
        let mut inner = lock(&self.state.inner);
        loop {
            if let Some(result) = inner.give("wait") {
                return result;
            }
            inner = self.state.changed.wait(inner, None);
        }
    }

    /// As [`wait`](Self::wait), for a limited time: `None` if the task is not done by then. It goes on; cancel it if
    /// that is meant.
    ///
    /// # Panics
    ///
    /// As [`wait`](Self::wait).
    #[track_caller]
    pub fn wait_timeout(&self, timeout: Duration) -> Option<Result<T, JoinError>> {
        self.remote.refuse_blocking("RemoteTask::wait_timeout", self.is_done());
        let deadline = deadline(Instant::now(), timeout);
        let mut inner = lock(&self.state.inner);
        loop {
            if let Some(result) = inner.give("wait_timeout") {
                return Some(result);
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return None;
            }
            inner = self.state.changed.wait(inner, Some(left));
        }
    }

    /// Asks the task to end, as [`Task::cancel`](crate::Task::cancel) does, in a turn of its loop: true if it was not
    /// done yet.
    pub fn cancel(&self) -> bool {
        self.end(None)
    }

    /// Asks the task to end by itself within `grace`, as [`Task::cancel_gracefully`](crate::Task::cancel_gracefully)
    /// does, in a turn of its loop: true if it was not done yet. The grace counts from that turn.
    pub fn cancel_gracefully(&self, grace: Duration) -> bool {
        self.end(Some(grace))
    }

    fn end(&self, grace: Option<Duration>) -> bool {
        let task = {
            let mut inner = lock(&self.state.inner);
            if !matches!(inner.progress, Progress::Waiting) {
                return false;
            }
            // A task that does not exist yet has not looked whether it was asked to end: it need not begin.
            if grace.is_none() || inner.task.is_none() {
                inner.cancelled = true;
            }
            inner.task
        };
        // On a closed loop the task has ended.
        task.is_none_or(|task| self.remote.post_job(Arc::new(CancelTask { task, grace })).is_ok())
    }

    /// Whether the task has ended, in whichever way.
    pub fn is_done(&self) -> bool {
        !matches!(lock(&self.state.inner).progress, Progress::Waiting)
    }
}

impl<T: Send + 'static, E: Send + 'static> RemoteTask<Result<T, E>> {
    /// Detaches the task, as dropping it does, and has its error reported to the loop's exception handler, too, when it
    /// comes; see [`Task::report_errors`](crate::Task::report_errors).
    ///
    /// ```
    /// use roundelay::{EventLoop, LoopClosed};
    ///
    /// let el = EventLoop::new()?;
    /// let remote = el.remote();
    /// std::thread::spawn(move || {
    ///     // Instead of an error that nobody sees:
    ///     remote.spawn(|| async { std::fs::remove_file("/there/is/no/such/file") })?.report_errors();
    ///     remote.stop()
    /// });
    /// el.set_exception_handler(Some(std::rc::Rc::new(|_, context| {
    ///     assert!(context.to_string().contains("No such file"));
    /// })));
    /// el.run_forever();
    /// # std::io::Result::Ok(())
    /// ```
    pub fn report_errors<Way: 'static>(self)
    where
        E: ReportableError<Way>,
    {
        let done = {
            let mut inner = lock(&self.state.inner);
            inner.unasked = Some(unasked::report::<T, E, Way>);
            // Now: the task may end before this is dropped.
            inner.detached = true;
            if let Progress::Done(Ok(_)) = inner.progress { inner.take() } else { None }
        };
        if let Some(Ok(Err(error))) = done {
            let lost = Lost::error(unasked::MESSAGE, || error.into_error(), None, self.spawned_at);
            self.remote.report_lost(lost);
        }
    }
}

impl<T> Future for RemoteTask<T> {
    type Output = Result<T, JoinError>;

    /// # Panics
    ///
    /// If it is polled again after it gave the output.
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        // With nothing locked: a waker may be the application's.
        let waker = Awaiting::new(cx, type_name::<Self>(), self.remote.loop_id());
        let mut inner = lock(&self.state.inner);
        match inner.give("poll") {
            Some(result) => Poll::Ready(result),
            None => {
                let before = inner.waker.replace(waker);
                drop(inner);
                drop(before);
                waits_for(|| WaitsFor::Other("a task of another loop"));
                Poll::Pending
            }
        }
    }
}

impl<T> Drop for RemoteTask<T> {
    fn drop(&mut self) {
        let mut inner = lock(&self.state.inner);
        inner.detached = true;
        let (waker, result) = (inner.waker.take(), inner.take());
        drop(inner);
        drop(waker);
        // A panic that was not looked at is not lost: the loop hears of it.
        if let Some(Err(error)) = result {
            if let Ok(payload) = error.try_into_panic() {
                let message = "Task exception was never retrieved";
                self.remote.report_lost(Lost::panic(message, payload, None, self.spawned_at));
            }
        }
    }
}

impl<T> fmt::Debug for RemoteTask<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RemoteTask").field("loop", &self.remote.loop_id()).field("done", &self.is_done()).finish()
    }
}
