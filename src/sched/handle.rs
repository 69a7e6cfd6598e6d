//! Callbacks and their handles.
//!
//! A callback is one allocation that the queue (or the timers) and the handle share. async-task is not used here: it
//! keeps a closure until its turn comes, while cancelling a handle must free what the closure captured at once.

use std::cell::Cell;
use std::fmt;
use std::future::Future;
use std::panic::{AssertUnwindSafe, Location, catch_unwind};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use crate::error::JoinError;
use crate::sched::Local;
use crate::sched::context::{self, Slot};
use crate::sched::info::WaitsFor;
use crate::sched::is_running_inspected;
use crate::sched::ran::Ran;
use crate::sched::ready::{Item, Ready};
use crate::sched::task::drop_output;
use crate::sched::timers::TimerKey;

/// Where a callback stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// In the queue or among the timers.
    Scheduled,
    /// Being called just now.
    Running,
    /// It returned or panicked.
    Done,
    /// Cancelled before it ran.
    Cancelled,
    /// The loop was closed before it ran.
    Closed,
}

/// What is known of a callback: the subject of a report about it.
#[derive(Clone)]
#[non_exhaustive]
pub struct HandleInfo {
    /// The type name of the closure, which tells the function it was written in.
    pub name: &'static str,
    /// Where the callback was scheduled.
    pub created_at: &'static Location<'static>,
    /// Its deadline, if it is a timer.
    pub when: Option<Instant>,
    /// Whether it was cancelled.
    pub is_cancelled: bool,
}

impl fmt::Debug for HandleInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = if self.when.is_some() { "TimerHandle" } else { "Handle" };
        let cancelled = if self.is_cancelled { "cancelled " } else { "" };
        write!(f, "<{kind} {cancelled}{} at {}>", self.name, self.created_at)
    }
}

/// What the handle and the queue share, apart from the closure.
struct Head<T> {
    local: Rc<Local>,
    state: Cell<State>,
    /// Where it stands among the timers, if it does.
    timer: Cell<Option<TimerKey>>,
    when: Option<Instant>,
    created_at: &'static Location<'static>,
    name: &'static str,
    /// Whether a handle is left that may ask for the result.
    watched: Cell<bool>,
    result: Cell<Option<Result<T, JoinError>>>,
    /// Who awaits the handle.
    waker: Cell<Option<Waker>>,
}

impl<T> Head<T> {
    /// Leaves `Scheduled` or `Running` for good.
    fn settle(&self, state: State) {
        self.state.set(state);
        let counters = &self.local.counters;
        if self.when.is_some() {
            counters.timers.closed()
        } else {
            counters.handles.closed()
        }
        if let Some(waker) = self.waker.take() {
            self.local.wake(waker);
        }
    }

    fn info(&self) -> HandleInfo {
        HandleInfo {
            name: self.name,
            created_at: self.created_at,
            when: self.when,
            is_cancelled: self.state.get() == State::Cancelled,
        }
    }
}

/// A callback with its closure.
struct Callback<F, T> {
    head: Head<T>,
    /// Taken when it runs or is cancelled.
    call: Cell<Option<F>>,
    /// The context it runs in.
    context: Cell<Slot>,
}

/// What a handle can do with a callback whose closure type it does not know.
trait Control<T> {
    fn head(&self) -> &Head<T>;

    /// Drops the closure and the context.
    fn forget_call(&self);
}

impl<F, T> Control<T> for Callback<F, T> {
    fn head(&self) -> &Head<T> {
        &self.head
    }

    fn forget_call(&self) {
        // Both go, also when the destructor of the one panics.
        let (_context, call) = (self.context.replace(Slot::EMPTY), self.call.take());
        drop(call);
    }
}

impl<F, T> Ready for Callback<F, T>
where
    F: FnOnce() -> T + 'static,
    T: 'static,
{
    fn run(self: Rc<Self>) {
        let head = &self.head;
        if head.state.get() != State::Scheduled {
            return;
        }
        // Before the closure is moved, which what other threads may look at would cut into two moves.
        head.local.counters.callbacks.add(1);
        let Some(call) = self.call.take() else { return };
        head.state.set(State::Running);
        let slot = self.context.replace(Slot::EMPTY);
        let (called, left) = context::enter(slot, || {
            let called = catch_unwind(AssertUnwindSafe(call));
            // The handler runs in the callback's context, therefore here.
            called.map_err(|payload| {
                let local = &head.local;
                let payload = local.take_fatal(payload)?;
                local.report_panic(
                    &format!("Exception in callback {}", head.name),
                    &*payload,
                    Some(Rc::new(head.info())),
                    Some(head.created_at),
                );
                Some(payload)
            })
        });
        head.local.dispose(left);
        let result = match called {
            Ok(value) => Ok(value),
            Err(Some(payload)) => Err(JoinError::panic(payload)),
            Err(None) => Err(JoinError::fatal()),
        };
        if head.watched.get() {
            head.result.set(Some(result));
        } else {
            drop_output(&head.local, result);
        }
        head.settle(State::Done);
    }

    fn about(self: Rc<Self>) -> Option<Ran> {
        (self.head.state.get() == State::Scheduled).then(|| Ran::Callback(self.head.info()))
    }

    fn close(self: Rc<Self>) {
        if self.head.state.get() == State::Scheduled {
            self.head.settle(State::Closed);
            self.forget_call();
        }
    }
}

/// Where and when a new callback runs.
pub(crate) struct NewCallback {
    /// The method that was called, for the report of a closed loop.
    pub(crate) method: &'static str,
    /// The name of the application's closure.
    pub(crate) name: &'static str,
    pub(crate) context: Slot,
    pub(crate) created_at: &'static Location<'static>,
    /// The deadline; `None` for the next turn.
    pub(crate) when: Option<Instant>,
}

/// Schedules a callback; on a closed loop it is dropped, and the handle says so.
pub(crate) fn schedule<F, T>(local: &Rc<Local>, new: NewCallback, call: F) -> Handle<T>
where
    F: FnOnce() -> T + 'static,
    T: 'static,
{
    let NewCallback { method, name, context, created_at, when } = new;
    let open = local.is_open();
    let callback = Rc::new(Callback {
        head: Head {
            local: local.clone(),
            state: Cell::new(State::Scheduled),
            timer: Cell::new(None),
            when,
            created_at,
            name,
            watched: Cell::new(true),
            result: Cell::new(None),
            waker: Cell::new(None),
        },
        call: Cell::new(Some(call)),
        context: Cell::new(context),
    });
    let counters = &local.counters;
    if when.is_some() {
        counters.timers.opened()
    } else {
        counters.handles.opened()
    }
    if !open {
        local.refuse(callback.call.take(), drop);
        callback.clone().close();
        local.report_closed(method, created_at);
    } else if let Some(when) = when {
        callback.head.timer.set(Some(local.arm_callback(when, callback.clone())));
    } else {
        local.push(Item::Callback(callback.clone()));
    }
    Handle { control: callback }
}

/// A callback that was given to the loop: to cancel it, or to await what it returns.
///
/// It is a future of `Result<T, JoinError>`. Dropping it changes nothing: the callback runs. A panic of the callback is
/// reported to the exception handler when it happens, whoever holds the handle, and given to whoever awaits it, too.
///
/// ```
/// use roundelay::EventLoop;
///
/// let el = EventLoop::new()?;
/// let sum = el.call_soon(|| 1 + 1);
/// let never = el.call_soon(|| panic!("not called"));
/// never.cancel();
/// assert_eq!(el.run_until_complete(sum).unwrap().unwrap(), 2);
/// # std::io::Result::Ok(())
/// ```
pub struct Handle<T = ()> {
    control: Rc<dyn Control<T>>,
}

impl<T> Handle<T> {
    /// Takes the callback back: it will not run, and what it captured is dropped now.
    ///
    /// True if it had not run yet. Cancelling a callback that is running, has run or was cancelled changes nothing.
    pub fn cancel(&self) -> bool {
        let head = self.control.head();
        if head.state.get() != State::Scheduled {
            return false;
        }
        if let Some(key) = head.timer.take() {
            drop(head.local.disarm(key));
        }
        head.settle(State::Cancelled);
        self.control.forget_call();
        true
    }

    /// Whether it was cancelled before it ran.
    #[doc(alias = "cancelled")]
    pub fn is_cancelled(&self) -> bool {
        self.control.head().state.get() == State::Cancelled
    }

    /// Whether nothing more will happen: it has run, was cancelled, or the loop was closed.
    pub fn is_done(&self) -> bool {
        !matches!(self.control.head().state.get(), State::Scheduled | State::Running)
    }

    /// What is known of the callback.
    pub fn info(&self) -> HandleInfo {
        self.control.head().info()
    }
}

impl<T> Future for Handle<T> {
    type Output = Result<T, JoinError>;

    /// # Panics
    ///
    /// If it is polled again after it gave the result.
    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let head = self.control.head();
        match head.state.get() {
            State::Scheduled | State::Running => {
                let waker = match head.waker.take() {
                    Some(waker) if waker.will_wake(cx.waker()) => waker,
                    _ => cx.waker().clone(),
                };
                head.waker.set(Some(waker));
                if is_running_inspected() {
                    head.local.note_wait(WaitsFor::Other("a callback of the loop"));
                }
                Poll::Pending
            }
            State::Done => Poll::Ready(head.result.take().expect("Handle polled after its result was taken")),
            State::Cancelled => Poll::Ready(Err(JoinError::cancelled())),
            State::Closed => Poll::Ready(Err(JoinError::closed())),
        }
    }
}

impl<T> Drop for Handle<T> {
    fn drop(&mut self) {
        let head = self.control.head();
        head.watched.set(false);
        drop(head.waker.take());
        if let Some(result) = head.result.take() {
            drop_output(&head.local, result);
        }
    }
}

impl<T> fmt::Debug for Handle<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.info().fmt(f)
    }
}

/// The handle of a callback with a deadline.
///
/// It does what a [`Handle`] does; cancelling it also takes it off the loop's timers at once.
pub struct TimerHandle<T = ()> {
    handle: Handle<T>,
    when: Instant,
}

impl<T> TimerHandle<T> {
    pub(crate) fn new(handle: Handle<T>, when: Instant) -> Self {
        Self { handle, when }
    }

    /// The deadline, in the time of the loop's clock. It stays the same after the timer has fired or was cancelled.
    pub fn when(&self) -> Instant {
        self.when
    }

    /// See [`Handle::cancel`].
    pub fn cancel(&self) -> bool {
        self.handle.cancel()
    }

    /// See [`Handle::is_cancelled`].
    #[doc(alias = "cancelled")]
    pub fn is_cancelled(&self) -> bool {
        self.handle.is_cancelled()
    }

    /// See [`Handle::is_done`].
    pub fn is_done(&self) -> bool {
        self.handle.is_done()
    }

    /// See [`Handle::info`].
    pub fn info(&self) -> HandleInfo {
        self.handle.info()
    }
}

impl<T> Future for TimerHandle<T> {
    type Output = Result<T, JoinError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.handle).poll(cx)
    }
}

impl<T> fmt::Debug for TimerHandle<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.handle.fmt(f)
    }
}
