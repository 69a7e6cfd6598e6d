//! A future that somebody else completes.

use std::any::type_name;
use std::cell::{Cell, RefCell};
use std::error::Error;
use std::fmt;
use std::future::Future;
use std::panic::Location;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{self, Poll, Waker};

use crate::error::{FutureError, InvalidState};
use crate::sched::context::{self, Context, Slot};
use crate::sched::handle::{NewCallback, schedule};
use crate::sched::info::WaitsFor;
use crate::sched::join::CallbackId;
use crate::sched::report::{Exception, Problem};
use crate::sched::{Local, is_running_inspected, running_loop_id};

/// What a future holds.
enum State<T> {
    Pending,
    Result(T),
    Exception(Rc<dyn Error>),
    Cancelled,
    /// The result was moved out by `take`.
    Taken,
}

type Call<T> = Box<dyn FnOnce(&LoopFuture<T>)>;

struct Callback<T> {
    context: Slot,
    created_at: &'static Location<'static>,
    /// The name of the application's closure.
    name: &'static str,
    call: Call<T>,
}

/// Who is to be told of completion.
enum Waiting<T> {
    Awaiter(Waker),
    Callback(Callback<T>),
}

/// Those who wait, in the order in which they came. To come, to be found and to leave does not take a look at all of them.
struct Line<T> {
    /// By ascending ids; `None` where somebody has left.
    places: Vec<(CallbackId, Option<Waiting<T>>)>,
    /// How many have left.
    left: usize,
}

impl<T> Line<T> {
    const EMPTY: Self = Self { places: Vec::new(), left: 0 };

    /// Puts somebody at the end, under an id that is greater than all before.
    fn enter(&mut self, id: CallbackId, waiting: Waiting<T>) {
        self.places.push((id, Some(waiting)));
    }

    fn place(&self, id: CallbackId) -> Option<usize> {
        self.places.binary_search_by_key(&id.0, |(id, _)| id.0).ok()
    }

    /// Whoever is still here.
    fn get_mut(&mut self, id: CallbackId) -> Option<&mut Waiting<T>> {
        let place = self.place(id)?;
        self.places[place].1.as_mut()
    }

    /// The waker of an awaiter that is still here.
    fn waker(&mut self, id: CallbackId) -> Option<&mut Waker> {
        match self.get_mut(id) {
            Some(Waiting::Awaiter(waker)) => Some(waker),
            _ => None,
        }
    }

    /// Takes somebody out, to be dropped with nothing borrowed.
    fn leave(&mut self, id: CallbackId) -> Option<Waiting<T>> {
        let place = self.place(id)?;
        let gone = self.places[place].1.take()?;
        self.left += 1;
        // Now and then those who are left move up: for each of them somebody has gone.
        if self.left > self.places.len() / 2 {
            self.places.retain(|(_, waiting)| waiting.is_some());
            self.left = 0;
        }
        Some(gone)
    }

    fn iter(&self) -> impl Iterator<Item = &Waiting<T>> {
        self.places.iter().filter_map(|(_, waiting)| waiting.as_ref())
    }
}

struct Shared<T> {
    local: Rc<Local>,
    state: RefCell<State<T>>,
    waiting: RefCell<Line<T>>,
    created_at: &'static Location<'static>,
    /// Whether an exception was seen by anybody.
    retrieved: Cell<bool>,
}

/// A value that will be there later: set by a callback, awaited by tasks.
///
/// Made by [`EventLoop::create_future`](crate::EventLoop::create_future). Clones refer to the same future. Where
/// `T: Clone` it can be awaited many times; [`take`](Self::take) moves the value to one awaiter, for any `T`.
///
/// ```
/// let el = roundelay::EventLoop::new()?;
/// let future = el.create_future();
/// let setter = future.clone();
/// el.call_soon(move || setter.set_result("done").unwrap());
/// assert_eq!(el.run_until_complete(future).unwrap().unwrap(), "done");
/// # std::io::Result::Ok(())
/// ```
#[doc(alias = "Future")]
pub struct LoopFuture<T> {
    shared: Rc<Shared<T>>,
    /// The place of this handle among those who wait, once it was awaited.
    place: Cell<Option<CallbackId>>,
}

impl<T> Drop for Shared<T> {
    fn drop(&mut self) {
        self.local.counters.futures.closed();
        if let (State::Exception(error), false) = (self.state.get_mut(), self.retrieved.get()) {
            self.local.report(Problem {
                message: "Future exception was never retrieved".into(),
                exception: Some(Exception::Error(&**error)),
                subject: Some(Rc::new(FutureInfo { created_at: self.created_at })),
                created_at: Some(self.created_at),
            });
        }
    }
}

/// What is known of a [`LoopFuture`]: the subject of a report about it.
#[derive(Clone)]
#[non_exhaustive]
pub struct FutureInfo {
    /// Where the future was made.
    pub created_at: &'static Location<'static>,
}

impl fmt::Debug for FutureInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "<LoopFuture created at {}>", self.created_at)
    }
}

impl<T> LoopFuture<T> {
    pub(crate) fn new(local: Rc<Local>, created_at: &'static Location<'static>) -> Self {
        local.counters.futures.opened();
        let shared = Shared {
            local,
            state: RefCell::new(State::Pending),
            waiting: RefCell::new(Line::EMPTY),
            created_at,
            retrieved: Cell::new(false),
        };
        Self { shared: Rc::new(shared), place: Cell::new(None) }
    }

    fn invalid(method: &str, why: &str) -> InvalidState {
        InvalidState::new(format!("LoopFuture::{method}(): the future {why}"))
    }

    /// Leaves `Pending` and tells everybody.
    fn settle(&self, method: &str, state: State<T>) -> Result<(), InvalidState>
    where
        T: 'static,
    {
        if !matches!(*self.shared.state.borrow(), State::Pending) {
            return Err(Self::invalid(method, "is done already"));
        }
        *self.shared.state.borrow_mut() = state;
        let waiting = self.shared.waiting.replace(Line::EMPTY);
        for waiting in waiting.places.into_iter().filter_map(|(_, waiting)| waiting) {
            match waiting {
                Waiting::Awaiter(waker) => self.shared.local.wake(waker),
                Waiting::Callback(callback) => self.schedule(callback),
            }
        }
        Ok(())
    }

    fn schedule(&self, callback: Callback<T>)
    where
        T: 'static,
    {
        let Callback { context, created_at, name, call } = callback;
        if !self.shared.local.is_open() {
            return;
        }
        let future = self.clone();
        let new = NewCallback { method: "call_soon", name, context, created_at, when: None };
        drop(schedule(&self.shared.local, new, move || call(&future)));
    }

    /// Completes the future with a value.
    ///
    /// # Errors
    ///
    /// [`InvalidState`] if it is done or cancelled already; the value it has stays.
    pub fn set_result(&self, value: T) -> Result<(), InvalidState>
    where
        T: 'static,
    {
        self.settle("set_result", State::Result(value))
    }

    /// Completes the future with an error: of your own, or simply a text.
    ///
    /// If the last handle goes before anybody has seen the error, the exception handler is told.
    ///
    /// # Errors
    ///
    /// [`InvalidState`] if it is done or cancelled already.
    pub fn set_exception(&self, error: impl Into<Box<dyn Error>>) -> Result<(), InvalidState>
    where
        T: 'static,
    {
        self.settle("set_exception", State::Exception(error.into().into()))
    }

    /// Cancels the future: true if it was pending. Whoever awaits it gets [`FutureError::Cancelled`].
    pub fn cancel(&self) -> bool
    where
        T: 'static,
    {
        // As in asyncio, a cancel after completion says that the error does not matter.
        self.shared.retrieved.set(true);
        self.settle("cancel", State::Cancelled).is_ok()
    }

    /// Whether it has a value or an error, or was cancelled.
    #[doc(alias = "done")]
    pub fn is_done(&self) -> bool {
        !matches!(*self.shared.state.borrow(), State::Pending)
    }

    /// Whether it was cancelled.
    #[doc(alias = "cancelled")]
    pub fn is_cancelled(&self) -> bool {
        matches!(*self.shared.state.borrow(), State::Cancelled)
    }

    /// The value.
    ///
    /// # Errors
    ///
    /// [`FutureError`]: the error that was set, that it was cancelled, that it is not done, or that the value was taken.
    pub fn result(&self) -> Result<T, FutureError>
    where
        T: Clone,
    {
        match &*self.shared.state.borrow() {
            State::Result(value) => Ok(value.clone()),
            state => Err(self.failure("result", state)),
        }
    }

    /// The error, or `None` where there is a value.
    ///
    /// # Errors
    ///
    /// [`FutureError::Cancelled`] if it was cancelled, [`FutureError::InvalidState`] if it is not done.
    pub fn exception(&self) -> Result<Option<Rc<dyn Error>>, FutureError> {
        match &*self.shared.state.borrow() {
            State::Result(_) | State::Taken => Ok(None),
            state => match self.failure("exception", state) {
                FutureError::Exception(error) => Ok(Some(error)),
                error => Err(error),
            },
        }
    }

    /// Why there is no value.
    fn failure(&self, method: &str, state: &State<T>) -> FutureError {
        match state {
            State::Exception(error) => {
                self.shared.retrieved.set(true);
                FutureError::Exception(error.clone())
            }
            State::Cancelled => FutureError::Cancelled,
            State::Pending => FutureError::InvalidState(Self::invalid(method, "is not done yet")),
            State::Taken | State::Result(_) => {
                FutureError::InvalidState(Self::invalid(method, "has given its value away"))
            }
        }
    }

    /// Calls `callback` in the turn after completion, in a copy of the context of this call; in the next turn if the
    /// future is done already. Several are called in the order in which they were added.
    ///
    /// The id is for [`remove_done_callback`](Self::remove_done_callback). A closed loop calls nobody; adding a
    /// callback to a done future of such a loop is reported to the exception handler, as any scheduling is.
    #[track_caller]
    pub fn add_done_callback(&self, callback: impl FnOnce(&LoopFuture<T>) + 'static) -> CallbackId
    where
        T: 'static,
    {
        self.add_callback(context::fork_current(), Location::caller(), callback)
    }

    /// As [`add_done_callback`](Self::add_done_callback), in a context of your choice.
    #[track_caller]
    pub fn add_done_callback_in(&self, context: &Context, callback: impl FnOnce(&LoopFuture<T>) + 'static) -> CallbackId
    where
        T: 'static,
    {
        self.add_callback(Slot::Shared(context.clone()), Location::caller(), callback)
    }

    fn add_callback<F>(&self, context: Slot, created_at: &'static Location<'static>, call: F) -> CallbackId
    where
        F: FnOnce(&Self) + 'static,
        T: 'static,
    {
        let local = &self.shared.local;
        let id = CallbackId(local.next_callback_id());
        let callback = Callback { context, created_at, name: type_name::<F>(), call: Box::new(call) };
        if !self.is_done() {
            self.shared.waiting.borrow_mut().enter(id, Waiting::Callback(callback));
        } else if local.is_open() {
            self.schedule(callback);
        } else {
            drop(callback);
            local.report_closed_by("LoopFuture::add_done_callback", created_at);
        }
        id
    }

    /// Takes a done callback back: true if it was still waiting for completion.
    pub fn remove_done_callback(&self, id: CallbackId) -> bool {
        let mut waiting = self.shared.waiting.borrow_mut();
        // An id of another loop may be that of an awaiter here.
        let is_callback = matches!(waiting.get_mut(id), Some(Waiting::Callback(_)));
        let removed = if is_callback { waiting.leave(id) } else { None };
        drop(waiting);
        removed.is_some()
    }

    /// Awaits the value and moves it out; other awaiters then get [`FutureError::InvalidState`].
    pub fn take(self) -> Take<T> {
        Take { future: self }
    }

    /// Pending, or whatever `value` makes of the state.
    fn poll_with(
        &self,
        cx: &mut task::Context<'_>,
        value: impl FnOnce(&RefCell<State<T>>) -> Option<T>,
    ) -> Poll<Result<T, FutureError>> {
        let (own, running) = (self.shared.local.loop_id(), running_loop_id());
        if running != 0 && running != own && !self.is_done() {
            let why = format!("belongs to loop {own} and was awaited in loop {running}");
            return Poll::Ready(Err(FutureError::InvalidState(Self::invalid("poll", &why))));
        }
        if self.wait(cx.waker()) {
            if is_running_inspected() {
                self.shared.local.note_wait(WaitsFor::Future { created_at: self.shared.created_at });
            }
            return Poll::Pending;
        }
        match value(&self.shared.state) {
            Some(value) => Poll::Ready(Ok(value)),
            None => Poll::Ready(Err(self.failure("poll", &self.shared.state.borrow()))),
        }
    }

    /// Takes a place among those who wait, or keeps it with another waker. False if the future is done.
    ///
    /// A waker may be the application's: it is cloned and dropped with nothing borrowed.
    fn wait(&self, waker: &Waker) -> bool {
        if self.is_done() {
            return false;
        }
        let wakes = |id| self.shared.waiting.borrow_mut().waker(id).is_some_and(|own| own.will_wake(waker));
        if self.place.get().is_some_and(wakes) {
            return true;
        }
        let waker = waker.clone();
        if self.is_done() {
            return false;
        }
        let mut waiting = self.shared.waiting.borrow_mut();
        let before = match self.place.get().and_then(|id| waiting.waker(id)) {
            Some(own) => Some(std::mem::replace(own, waker)),
            None => {
                let id = CallbackId(self.shared.local.next_callback_id());
                waiting.enter(id, Waiting::Awaiter(waker));
                self.place.set(Some(id));
                None
            }
        };
        drop(waiting);
        drop(before);
        true
    }
}

impl<T> Clone for LoopFuture<T> {
    fn clone(&self) -> Self {
        Self { shared: self.shared.clone(), place: Cell::new(None) }
    }
}

impl<T> Drop for LoopFuture<T> {
    fn drop(&mut self) {
        if let Some(id) = self.place.get() {
            let awaiter = self.shared.waiting.borrow_mut().leave(id);
            drop(awaiter);
        }
    }
}

impl<T: Clone> Future for LoopFuture<T> {
    type Output = Result<T, FutureError>;

    fn poll(self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<Self::Output> {
        // The application's `clone` may look at the future.
        self.poll_with(cx, |state| match &*state.borrow() {
            State::Result(value) => Some(value.clone()),
            _ => None,
        })
    }
}

impl<T> fmt::Debug for LoopFuture<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match &*self.shared.state.borrow() {
            State::Pending => "pending",
            State::Result(_) | State::Taken => "finished",
            State::Exception(_) => "exception",
            State::Cancelled => "cancelled",
        };
        write!(f, "<LoopFuture {state}")?;
        let error = match &*self.shared.state.borrow() {
            State::Exception(error) => Some(error.clone()),
            _ => None,
        };
        if let Some(error) = error {
            write!(f, "={error}")?;
        }
        let is_callback = |waiting: &&Waiting<T>| matches!(waiting, Waiting::Callback(_));
        let callbacks = self.shared.waiting.borrow().iter().filter(is_callback).count();
        if callbacks > 0 {
            write!(f, " callbacks={callbacks}")?;
        }
        write!(f, " created at {}>", self.shared.created_at)
    }
}

/// The future that [`LoopFuture::take`] gives.
#[must_use = "futures do nothing unless they are awaited"]
#[derive(Debug)]
pub struct Take<T> {
    future: LoopFuture<T>,
}

impl<T> Future for Take<T> {
    type Output = Result<T, FutureError>;

    fn poll(self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<Self::Output> {
        self.future.poll_with(cx, |state| {
            let mut state = state.borrow_mut();
            match std::mem::replace(&mut *state, State::Taken) {
                State::Result(value) => Some(value),
                other => {
                    *state = other;
                    None
                }
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One who stays does not keep the places of all who came and went after it.
    #[test]
    fn places_that_were_left_do_not_pile_up() {
        let mut line = Line::<()>::EMPTY;
        let awaiter = || Waiting::Awaiter(Waker::noop().clone());
        line.enter(CallbackId(1), awaiter());
        line.enter(CallbackId(2), awaiter());
        for id in 3..1000 {
            line.enter(CallbackId(id), awaiter());
            assert!(line.leave(CallbackId(id - 1)).is_some());
            assert!(line.leave(CallbackId(id - 1)).is_none());
            assert_eq!(line.iter().count(), 2);
            assert!(line.places.len() <= 5, "{}", line.places.len());
        }
        assert!(line.waker(CallbackId(1)).is_some() && line.waker(CallbackId(999)).is_some());
    }
}
