//! Where the body of a generator leaves an item, and whoever iterates finds it.

use std::cell::{Cell, RefCell};
use std::fmt;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use crate::error::Closed;

/// How far a generator is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// Nobody has asked for an item: the body has not begun.
    New,
    Open,
    /// The body was told, or will be, that it is to come to its end.
    Closing,
    /// The body is gone.
    Done,
}

/// The one place that there is for an item.
enum Place<I> {
    Empty,
    Full(I),
    /// The item was taken. Whoever has emitted it waits until another one is asked for.
    Taken,
}

/// What the body and whoever iterates have in common.
pub(super) struct Channel<I> {
    state: Cell<State>,
    place: RefCell<Place<I>>,
    /// How many items there have been: whose turn the place is.
    items: Cell<u64>,
    /// The item that comes after all that were emitted: the error that has ended the body.
    last: Cell<Option<I>>,
    /// Who waits in the body, to be woken though the body itself is polled anyway: there may be other executors in it.
    inside: RefCell<Vec<Waker>>,
    /// Who waits for an item: one may come from elsewhere than the body.
    outside: Cell<Option<Waker>>,
    /// Whether somebody in the body has been told that it is over.
    told: Cell<bool>,
}

impl<I> Channel<I> {
    pub(super) fn new() -> Self {
        Self {
            state: Cell::new(State::New),
            place: RefCell::new(Place::Empty),
            items: Cell::new(0),
            last: Cell::new(None),
            inside: RefCell::new(Vec::new()),
            outside: Cell::new(None),
            told: Cell::new(false),
        }
    }

    pub(super) fn state(&self) -> State {
        self.state.get()
    }

    pub(super) fn begin(&self) {
        self.state.set(State::Open);
    }

    /// The next item is asked for: whoever has emitted the one before goes on.
    pub(super) fn ask(&self, cx: &Context<'_>) {
        drop(self.outside.take());
        let is_taken = matches!(*self.place.borrow(), Place::Taken);
        if is_taken {
            *self.place.borrow_mut() = Place::Empty;
        }
        self.wake_inside(Some(cx.waker()));
    }

    /// There is none yet.
    pub(super) fn wait(&self, cx: &Context<'_>) {
        self.outside.set(Some(cx.waker().clone()));
    }

    /// Takes the item out, if there is one.
    pub(super) fn take(&self) -> Option<I> {
        let is_full = matches!(*self.place.borrow(), Place::Full(_));
        if !is_full {
            return if self.state.get() == State::Done { self.last.take() } else { None };
        }
        match self.place.replace(Place::Taken) {
            Place::Full(item) => Some(item),
            Place::Empty | Place::Taken => None,
        }
    }

    /// The body is to come to its end: what was not taken is dropped, and all in it are told. So is who waits for an item:
    /// who closes it polls the body from now on, and may give up before it is done.
    pub(super) fn close(&self) {
        self.state.set(State::Closing);
        let left = self.place.replace(Place::Empty);
        self.wake_inside(None);
        if let Some(waker) = self.outside.take() {
            waker.wake();
        }
        drop(left);
    }

    /// The body is gone.
    pub(super) fn finish(&self, last: Option<I>) {
        self.state.set(State::Done);
        let before = self.last.replace(last);
        if let Some(waker) = self.outside.take() {
            waker.wake();
        }
        self.wake_inside(None);
        drop(before);
    }

    pub(super) fn is_exhausted(&self) -> bool {
        let is_full = matches!(*self.place.borrow(), Place::Full(_));
        let last = self.last.take();
        let has_last = last.is_some();
        self.last.set(last);
        self.state.get() == State::Done && !is_full && !has_last
    }

    fn is_closed(&self) -> bool {
        matches!(self.state.get(), State::Closing | State::Done)
    }

    /// Wakes all who wait in the body, but for the one who is running.
    fn wake_inside(&self, running: Option<&Waker>) {
        if self.inside.borrow().is_empty() {
            return;
        }
        for waker in self.inside.take() {
            if running.is_none_or(|running| !running.will_wake(&waker)) {
                waker.wake();
            }
        }
    }

    fn wait_inside(&self, cx: &Context<'_>) {
        let is_known = self.inside.borrow().iter().any(|waker| waker.will_wake(cx.waker()));
        if !is_known {
            // It may be the application's: it is cloned with nothing borrowed.
            let waker = cx.waker().clone();
            self.inside.borrow_mut().push(waker);
        }
    }

    /// Whoever waits for an item may have to be told of one.
    fn wake_outside(&self, running: &Waker) {
        if let Some(waker) = self.outside.take().filter(|waker| !waker.will_wake(running)) {
            waker.wake();
        }
    }
}

/// One item on its way. `number` is that of its turn, once it has had one.
struct Emission<'a, I> {
    channel: &'a Channel<I>,
    item: Option<I>,
    number: u64,
    /// Whether others had a turn since it found the generator closed.
    waited: bool,
}

impl<I> Emission<'_, I> {
    fn poll(&mut self, cx: &Context<'_>) -> Poll<Result<(), Closed>> {
        let channel = self.channel;
        if channel.is_closed() {
            // A body that emits on and on all the same does not hold up the loop.
            if channel.told.replace(true) && !std::mem::replace(&mut self.waited, true) {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            return Poll::Ready(Err(Closed));
        }
        let is_empty = matches!(*channel.place.borrow(), Place::Empty);
        if self.number != 0 && (is_empty || channel.items.get() != self.number) {
            return Poll::Ready(Ok(()));
        }
        if let Some(item) = self.item.take_if(|_| is_empty) {
            *channel.place.borrow_mut() = Place::Full(item);
            self.number = channel.items.get() + 1;
            channel.items.set(self.number);
            channel.wake_outside(cx.waker());
        }
        channel.wait_inside(cx);
        Poll::Pending
    }
}

/// What the body of an [`AsyncGen`](crate::AsyncGen) gives its items to. `T` is what it emits, and `I` what comes out.
pub struct Emitter<T, I = T> {
    channel: Rc<Channel<I>>,
    wrap: fn(T) -> I,
}

impl<T, I> Emitter<T, I> {
    pub(super) fn new(channel: Rc<Channel<I>>, wrap: fn(T) -> I) -> Self {
        Self { channel, wrap }
    }

    /// Gives an item to whoever iterates, and goes on when the next one is asked for.
    ///
    /// # Errors
    ///
    /// [`Closed`], from the moment on in which the generator is to come to its end: nobody will take an item any more. The
    /// body should clean up, with `await` where needed, and return.
    pub async fn emit(&self, value: T) -> Result<(), Closed> {
        let mut emission =
            Emission { channel: &*self.channel, item: Some((self.wrap)(value)), number: 0, waited: false };
        poll_fn(|cx| emission.poll(cx)).await
    }

    /// Waits until the generator is to come to its end: for a body that waits long for something else than its items to be
    /// taken, beside which it can wait for this.
    pub async fn closed(&self) {
        poll_fn(|cx| {
            if self.channel.is_closed() {
                return Poll::Ready(());
            }
            self.channel.wait_inside(cx);
            Poll::Pending
        })
        .await
    }

    /// Whether it is to come to its end.
    pub fn is_closed(&self) -> bool {
        self.channel.is_closed()
    }
}

impl<T, I> fmt::Debug for Emitter<T, I> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Emitter").field("closed", &self.is_closed()).finish()
    }
}
