//! A function that one thread gives to another, with what becomes of it.
//!
//! Both directions use it: what other threads post to a loop, and what a loop gives to an executor's threads.

use std::any::type_name;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, TryLockError};
use std::task::{Context, Poll, Waker};
use std::thread::{self, ThreadId};
use std::time::Duration;

use crate::error::JoinError;
#[cfg(feature = "test-util")]
use crate::event_loop::{running, virtual_time::Busy};

/// Locks a mutex under which no code of the user's runs, so that a poisoned one holds nothing broken.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poison| poison.into_inner())
}

/// As `lock`, without waiting: for a child of `fork`, which may not have the thread that holds it.
pub(crate) fn try_lock<T>(mutex: &Mutex<T>) -> Option<MutexGuard<'_, T>> {
    match mutex.try_lock() {
        Ok(locked) => Some(locked),
        Err(TryLockError::Poisoned(poison)) => Some(poison.into_inner()),
        Err(TryLockError::WouldBlock) => None,
    }
}

/// Wakes the threads that are blocked until something behind a lock has changed. It knows whether there are any, for to
/// tell them is a system call.
#[derive(Default)]
pub(crate) struct Changed {
    condition: Condvar,
    /// How many threads are blocked. Counted under the lock.
    blocked: AtomicU32,
}

impl Changed {
    /// Blocks until told, or for a time.
    pub(crate) fn wait<'a, T>(&self, locked: MutexGuard<'a, T>, time: Option<Duration>) -> MutexGuard<'a, T> {
        self.blocked.fetch_add(1, Ordering::Relaxed);
        let locked = match time {
            Some(time) => self.condition.wait_timeout(locked, time).unwrap_or_else(|poison| poison.into_inner()).0,
            None => self.condition.wait(locked).unwrap_or_else(|poison| poison.into_inner()),
        };
        self.blocked.fetch_sub(1, Ordering::Relaxed);
        locked
    }

    /// Tells all of them. The change was made under the lock, which is free again: whoever locks it from now on sees the
    /// change, and whoever was blocked before was counted before.
    pub(crate) fn tell(&self) {
        if self.blocked.load(Ordering::Relaxed) > 0 {
            self.condition.notify_all();
        }
    }
}

/// Who awaits what another thread will give.
pub(crate) struct Awaiting {
    waker: Waker,
    /// Until the waker has been called, the time of a loop under test stands still.
    #[cfg(feature = "test-util")]
    _busy: Option<Busy>,
}

impl Awaiting {
    /// The task of this context; `what` is awaited. `loop_id` is the loop that will give it, zero where none does.
    pub(crate) fn new(cx: &Context<'_>, what: &'static str, loop_id: u64) -> Self {
        #[cfg(not(feature = "test-util"))]
        let _ = (what, loop_id);
        #[cfg(feature = "test-util")]
        let busy = || {
            // What the loop itself is to give may take its time.
            running::with_current(|core| {
                let core = core.filter(|core| core.local.loop_id() != loop_id)?;
                core.busy(|| format!("{what}, which is awaited"))
            })
        };
        Self {
            waker: cx.waker().clone(),
            #[cfg(feature = "test-util")]
            _busy: busy(),
        }
    }

    pub(crate) fn wake(self) {
        self.waker.wake();
    }
}

/// Where the function stands.
enum State<F, T> {
    Scheduled(F),
    /// On this thread.
    Running(ThreadId),
    Done(Result<T, JoinError>),
    /// Done, and the result was given out.
    Taken,
    Cancelled,
    /// Whoever was to run it ended before.
    Closed,
}

/// Whether `cancel` waits for a function that is running.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum IfRunning {
    Wait,
    LetGo,
}

/// The function and its fate.
pub(crate) struct Job<F, T> {
    inner: Mutex<Inner<F, T>>,
    /// Told whenever the state changes.
    changed: Changed,
}

struct Inner<F, T> {
    state: State<F, T>,
    /// Who awaits the result.
    waker: Option<Awaiting>,
    /// Whether nobody will ask for the result.
    detached: bool,
}

impl<F, T> Job<F, T> {
    pub(crate) fn new(function: F) -> Self {
        let inner = Inner { state: State::Scheduled(function), waker: None, detached: false };
        Self { inner: Mutex::new(inner), changed: Changed::default() }
    }

    /// Takes the function to run it on this thread; `None` if it is not to run.
    pub(crate) fn begin(&self) -> Option<F> {
        let mut inner = lock(&self.inner);
        if !matches!(inner.state, State::Scheduled(_)) {
            return None;
        }
        match std::mem::replace(&mut inner.state, State::Running(thread::current().id())) {
            State::Scheduled(function) => Some(function),
            _ => unreachable!("looked at above"),
        }
    }

    /// The function has run. The result comes back if nobody will ask for it.
    pub(crate) fn finish(&self, result: Result<T, JoinError>) -> Option<Result<T, JoinError>> {
        let mut inner = lock(&self.inner);
        let unwanted = if inner.detached {
            inner.state = State::Taken;
            Some(result)
        } else {
            inner.state = State::Done(result);
            None
        };
        self.tell(inner);
        unwanted
    }

    /// Whoever was to run it has ended: true if it had not begun.
    pub(crate) fn close(&self) -> bool {
        self.leave_scheduled(lock(&self.inner), State::Closed)
    }

    /// This is a child of `fork`, and whoever was to run it, or does, is a thread of the parent's. False if that one was just
    /// looking at it, and so will for ever.
    pub(crate) fn after_fork_child(&self) -> bool {
        let Some(mut inner) = try_lock(&self.inner) else { return false };
        if let State::Running(_) = inner.state {
            inner.state = State::Closed;
            self.tell(inner);
        } else {
            self.leave_scheduled(inner, State::Closed);
        }
        true
    }

    /// Takes the function back: true if it had not begun.
    pub(crate) fn cancel(&self, if_running: IfRunning) -> bool {
        let mut inner = lock(&self.inner);
        if if_running == IfRunning::Wait {
            // From within the function itself waiting would never end.
            while matches!(inner.state, State::Running(runner) if runner != thread::current().id()) {
                inner = self.changed.wait(inner, None);
            }
        }
        self.leave_scheduled(inner, State::Cancelled)
    }

    fn leave_scheduled(&self, mut inner: MutexGuard<'_, Inner<F, T>>, state: State<F, T>) -> bool {
        if !matches!(inner.state, State::Scheduled(_)) {
            return false;
        }
        let function = std::mem::replace(&mut inner.state, state);
        self.tell(inner);
        // What it captured is dropped with nothing locked.
        drop(function);
        true
    }

    fn tell(&self, mut inner: MutexGuard<'_, Inner<F, T>>) {
        let waker = inner.waker.take();
        drop(inner);
        self.changed.tell();
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    pub(crate) fn is_cancelled(&self) -> bool {
        matches!(lock(&self.inner).state, State::Cancelled)
    }

    pub(crate) fn is_done(&self) -> bool {
        !matches!(lock(&self.inner).state, State::Scheduled(_) | State::Running(_))
    }

    /// Nobody will ask for the result; one that is there comes back.
    pub(crate) fn detach(&self) -> Option<Result<T, JoinError>> {
        let mut inner = lock(&self.inner);
        inner.detached = true;
        let waker = inner.waker.take();
        let result = match &inner.state {
            State::Done(_) => Self::take(&mut inner).flatten(),
            _ => None,
        };
        drop(inner);
        drop(waker);
        result
    }

    /// The result, once there is one; `Some(None)` where it was given out before.
    fn take(inner: &mut Inner<F, T>) -> Option<Option<Result<T, JoinError>>> {
        match inner.state {
            State::Scheduled(_) | State::Running(_) => None,
            State::Cancelled => Some(Some(Err(JoinError::cancelled()))),
            State::Closed => Some(Some(Err(JoinError::closed()))),
            State::Taken => Some(None),
            State::Done(_) => match std::mem::replace(&mut inner.state, State::Taken) {
                State::Done(result) => Some(Some(result)),
                _ => unreachable!("looked at above"),
            },
        }
    }

    /// Blocks until there is a result; `None` if it was given out before.
    pub(crate) fn wait(&self) -> Option<Result<T, JoinError>> {
        let mut inner = lock(&self.inner);
        loop {
            if let Some(result) = Self::take(&mut inner) {
                return result;
            }
            inner = self.changed.wait(inner, None);
        }
    }

    /// The function of a job that nobody else knows of, to be run, if it is to run.
    pub(crate) fn into_function(self) -> Option<F> {
        match self.into_state() {
            State::Scheduled(function) => Some(function),
            _ => None,
        }
    }

    /// The result, or error, that is left in a job that nobody else knows of any more.
    pub(crate) fn into_result(self) -> Option<Result<T, JoinError>> {
        match self.into_state() {
            State::Done(result) => Some(result),
            _ => None,
        }
    }

    fn into_state(self) -> State<F, T> {
        self.inner.into_inner().unwrap_or_else(|poison| poison.into_inner()).state
    }

    /// As `wait`, for whoever awaits.
    pub(crate) fn poll(&self, cx: &mut Context<'_>) -> Poll<Option<Result<T, JoinError>>> {
        // With nothing locked: a waker may be the application's.
        let waker = Awaiting::new(cx, type_name::<F>(), 0);
        let mut inner = lock(&self.inner);
        if let Some(result) = Self::take(&mut inner) {
            return Poll::Ready(result);
        }
        let before = inner.waker.replace(waker);
        drop(inner);
        drop(before);
        Poll::Pending
    }
}

/// What a handle can do with a job whose function type it does not know.
pub(crate) trait JobControl<T>: Send + Sync {
    fn cancel(&self, if_running: IfRunning) -> bool;
    fn is_cancelled(&self) -> bool;
    fn is_done(&self) -> bool;
    fn detach(&self) -> Option<Result<T, JoinError>>;
    /// As `detach`, of a job that was never awaited. Costs no lock: whoever lets go of the job last drops what is left.
    fn release(self: Arc<Self>);
    /// `None` where the result was given out before.
    fn wait(&self) -> Option<Result<T, JoinError>>;
    /// Panics where the result was given out before.
    fn poll(&self, cx: &mut Context<'_>) -> Poll<Result<T, JoinError>>;
}

/// Implemented by whatever carries a job to the other thread.
pub(crate) trait HasJob: Send + Sync {
    type Function;
    type Output;

    fn job(&self) -> &Job<Self::Function, Self::Output>;

    fn into_job(self) -> Job<Self::Function, Self::Output>;
}

impl<J: HasJob> JobControl<J::Output> for J {
    fn cancel(&self, if_running: IfRunning) -> bool {
        self.job().cancel(if_running)
    }

    fn is_cancelled(&self) -> bool {
        self.job().is_cancelled()
    }

    fn is_done(&self) -> bool {
        self.job().is_done()
    }

    fn detach(&self) -> Option<Result<J::Output, JoinError>> {
        self.job().detach()
    }

    fn release(self: Arc<Self>) {
        drop(Arc::into_inner(self).map(|carrier| carrier.into_job().into_result()));
    }

    fn wait(&self) -> Option<Result<J::Output, JoinError>> {
        self.job().wait()
    }

    fn poll(&self, cx: &mut Context<'_>) -> Poll<Result<J::Output, JoinError>> {
        self.job().poll(cx).map(|result| result.expect("polled after its result was taken"))
    }
}
