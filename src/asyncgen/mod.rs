//! Async generators: streams whose items a body gives out as it goes.
//!
//! The body is polled by whoever iterates, in his task and context, and by nobody else, until it is to come to its end.
//! Then it may have to `await` on its way out, which a destructor cannot do. So it is polled on by whoever closes it: that
//! may be who iterates, the loop that ends, or a task of the loop's where the generator was dropped. Of these there may be
//! several at once, and each may give up; so the body is woken for all of them, and belongs to the generator alone.

mod channel;
mod closing;

use std::any::type_name;
use std::cell::{Cell, OnceCell};
use std::error::Error;
use std::fmt;
use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, Location, catch_unwind, resume_unwind};
use std::pin::Pin;
use std::rc::{Rc, Weak};
use std::task::{Context, Poll};

use futures_core::{FusedStream, Stream};

use crate::asyncgen::channel::{Channel, State};
use crate::asyncgen::closing::{AsyncGens, Closable};
use crate::error::Closed;
use crate::event_loop::waiters::{Waiter, Waiters};

pub use channel::Emitter;
pub use closing::AsyncGenInfo;
pub(crate) use closing::unfinished;

/// Makes a stream of what a body emits: asyncio's async generator, with `emit` for `yield`.
///
/// The body runs when an item is asked for, up to where it emits one, in the task of whoever asks. It does not begin before
/// the first one is asked for. It may pass on that it was [`Closed`], and need not: either is its end. [`try_async_gen`] is
/// for a body that may fail.
///
/// ```
/// use futures::StreamExt;
/// use roundelay::async_gen;
///
/// roundelay::block_on(async {
///     let mut squares = async_gen(|y| async move {
///         let result = async {
///             for n in 1.. {
///                 y.emit(n * n).await?;
///             }
///             Ok(())
///         }
///         .await;
///         // Here it may clean up, and wait for it.
///         roundelay::yield_now().await;
///         result
///     });
///     assert_eq!(squares.by_ref().take(3).collect::<Vec<u64>>().await, [1, 4, 9]);
///     squares.aclose().await;
///     assert_eq!(squares.next().await, None);
/// });
/// ```
#[track_caller]
pub fn async_gen<T, F, Fut>(body: F) -> AsyncGen<T>
where
    F: FnOnce(Emitter<T>) -> Fut + 'static,
    Fut: Future<Output = Result<(), Closed>> + 'static,
    T: 'static,
{
    AsyncGen::new(Location::caller(), |channel, _| {
        let emitter = Emitter::new(channel, |item| item);
        Box::pin(async move {
            let (Ok(()) | Err(Closed)) = body(emitter).await;
            None
        })
    })
}

/// As [`async_gen`], for a body that may fail: its error is the stream's last item.
///
/// An error by which it passes [`Closed`] on is none. Any other that it ends with while it is being closed goes to the
/// exception handler: there is nobody left to take an item. To tell them apart, `Closed` is looked for in the error and in its
/// [sources](Error::source).
///
/// ```
/// use futures::TryStreamExt;
/// use roundelay::{AsyncGen, try_async_gen};
/// use std::io::{self, ErrorKind};
///
/// fn numbers(text: &'static str) -> AsyncGen<io::Result<u32>> {
///     try_async_gen(async move |y| {
///         for word in text.split(' ') {
///             let number = word.parse().map_err(|error| io::Error::new(ErrorKind::InvalidData, error))?;
///             y.emit(number).await?;
///         }
///         Ok(())
///     })
/// }
///
/// roundelay::block_on(async {
///     let mut numbers = numbers("1 2 three 4");
///     assert_eq!(numbers.try_next().await.unwrap(), Some(1));
///     assert_eq!(numbers.try_next().await.unwrap(), Some(2));
///     assert_eq!(numbers.try_next().await.unwrap_err().kind(), ErrorKind::InvalidData);
///     assert_eq!(numbers.try_next().await.unwrap(), None);
/// });
/// ```
#[track_caller]
pub fn try_async_gen<T, E, F, Fut>(body: F) -> AsyncGen<Result<T, E>>
where
    F: FnOnce(Emitter<T, Result<T, E>>) -> Fut + 'static,
    Fut: Future<Output = Result<(), E>> + 'static,
    E: Into<Box<dyn Error>> + 'static,
    T: 'static,
{
    AsyncGen::new(Location::caller(), |channel, info| {
        let emitter = Emitter::new(channel.clone(), Ok);
        Box::pin(async move {
            // The body's own future is gone before its error is given out.
            let result = body(emitter).await;
            match result {
                Ok(()) => None,
                Err(error) if channel.state() != State::Closing => Some(Err(error)),
                Err(error) => {
                    closing::report_error(&*error.into(), info);
                    None
                }
            }
        })
    })
}

/// What runs in a generator. It ends with an item that is to be the last one, perhaps.
type Body<I> = Pin<Box<dyn Future<Output = Option<I>>>>;

/// A generator, behind its handle.
struct Generator<I> {
    channel: Rc<Channel<I>>,
    /// `None` while it is polled, and once it is gone.
    body: Cell<Option<Body<I>>>,
    /// Those who poll it while it comes to its end.
    closers: OnceCell<Waiters>,
    /// The loop it was first iterated in, and its number there.
    home: OnceCell<(Weak<AsyncGens>, u64)>,
    info: AsyncGenInfo,
}

/// A stream of what the body of a generator emits, made by [`async_gen`] and [`try_async_gen`].
///
/// A body that has begun should come to its end, with what it cleans up by `await`. Where the stream is not iterated to its
/// end, [`aclose`](Self::aclose) makes it so: the body's [`emit`](Emitter::emit) gives [`Closed`] then. A generator that is
/// dropped before its end is closed by a task of the loop it was first iterated in; outside of a loop, or where that loop is
/// closed, its body is dropped where it stands, as any future. [`EventLoop::shutdown_asyncgens`](crate::EventLoop::shutdown_asyncgens)
/// closes all of a loop, and so does the end of [`block_on`](crate::block_on).
///
/// A body that panics does so in whoever asks for the item, or closes the generator; the stream is over then.
#[must_use = "streams do nothing unless they are polled"]
pub struct AsyncGen<I: 'static> {
    generator: Rc<Generator<I>>,
    /// That of this handle among those who close it.
    closer: Option<Waiter>,
}

impl<I: 'static> AsyncGen<I> {
    fn new(created_at: &'static Location<'static>, make: impl FnOnce(Rc<Channel<I>>, AsyncGenInfo) -> Body<I>) -> Self {
        let info = AsyncGenInfo { created_at, item: type_name::<I>() };
        let channel = Rc::new(Channel::new());
        let body = Cell::new(Some(make(channel.clone(), info)));
        let generator = Generator { channel, body, closers: OnceCell::new(), home: OnceCell::new(), info };
        Self { generator: Rc::new(generator), closer: None }
    }

    /// Brings the body to its end, and waits for it: its `emit` gives [`Closed`] from now on. One that has not begun is
    /// dropped; one that has ended is left alone.
    ///
    /// A body that waits for something else than its item to be taken is not disturbed: it goes on until it emits. It may
    /// wait for [`Emitter::closed`] meanwhile. If this future is dropped, the generator stays one that is to end: the next
    /// `aclose`, or the drop of the generator, goes on with it.
    ///
    /// # Panics
    ///
    /// With the panic of the body.
    pub async fn aclose(&mut self) {
        self.generator.close();
        poll_fn(|cx| self.poll_closed(cx)).await
    }

    fn poll_closed(&mut self, cx: &Context<'_>) -> Poll<()> {
        let closer = self.closer.get_or_insert_with(|| self.generator.join());
        self.generator.poll_close(closer, cx)
    }

    /// What is known of it.
    pub fn info(&self) -> AsyncGenInfo {
        self.generator.info
    }
}

impl<I: 'static> Stream for AsyncGen<I> {
    type Item = I;

    /// # Panics
    ///
    /// With the panic of the body.
    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<I>> {
        let generator = self.generator.clone();
        let channel = &generator.channel;
        match channel.state() {
            State::New => generator.begin(),
            State::Open => {}
            State::Closing => return self.poll_closed(cx).map(|()| None),
            State::Done => return Poll::Ready(channel.take()),
        }
        channel.ask(cx);
        let polled = generator.poll_body(cx);
        match channel.take() {
            None if polled.is_pending() => {
                channel.wait(cx);
                Poll::Pending
            }
            item => Poll::Ready(item),
        }
    }
}

impl<I: 'static> FusedStream for AsyncGen<I> {
    fn is_terminated(&self) -> bool {
        self.generator.channel.is_exhausted()
    }
}

impl<I: 'static> Drop for AsyncGen<I> {
    fn drop(&mut self) {
        if matches!(self.generator.channel.state(), State::Open | State::Closing) {
            self.generator.close();
            let home = self.generator.home();
            if !home.is_some_and(|(home, id)| home.adopt(id, self.generator.clone())) {
                self.generator.abandon();
            }
        }
    }
}

impl<I: 'static> Generator<I> {
    /// The first item is asked for.
    fn begin(self: &Rc<Self>) {
        self.channel.begin();
        if let Some(home) = AsyncGens::enter(Rc::downgrade(self) as _, self.info) {
            let _ = self.home.set(home);
        }
    }

    fn home(&self) -> Option<(Rc<AsyncGens>, u64)> {
        let (home, id) = self.home.get()?;
        Some((home.upgrade()?, *id))
    }

    fn is_being_polled(&self) -> bool {
        let body = self.body.take();
        let is_away = body.is_none();
        self.body.set(body);
        is_away
    }

    /// Polls the body.
    fn poll_body(&self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(mut body) = self.body.take() else { return Poll::Pending };
        match catch_unwind(AssertUnwindSafe(|| body.as_mut().poll(cx))) {
            Ok(Poll::Pending) => {
                self.body.set(Some(body));
                Poll::Pending
            }
            Ok(Poll::Ready(last)) => {
                self.finish(last);
                Poll::Ready(())
            }
            Err(payload) => {
                self.finish(None);
                resume_unwind(payload)
            }
        }
    }

    /// The body has come to its end, or is dropped.
    fn finish(&self, last: Option<I>) {
        if let Some((home, id)) = self.home() {
            home.leave(id);
        }
        self.channel.finish(last);
        if let Some(closers) = self.closers.get() {
            closers.wake();
        }
    }

    /// Drops the body where it stands.
    fn abandon(&self) {
        let body = self.body.take();
        self.finish(None);
        drop(body);
    }
}

impl<I: 'static> Closable for Generator<I> {
    fn info(&self) -> AsyncGenInfo {
        self.info
    }

    fn close(&self) {
        match self.channel.state() {
            State::New => self.abandon(),
            State::Open => self.channel.close(),
            State::Closing | State::Done => {}
        }
    }

    fn join(&self) -> Waiter {
        self.closers.get_or_init(Waiters::new).join()
    }

    fn poll_close(&self, closer: &Waiter, cx: &Context<'_>) -> Poll<()> {
        if self.channel.state() == State::Done {
            return Poll::Ready(());
        }
        let closers = self.closers.get_or_init(Waiters::new);
        closer.wait(cx);
        if self.is_being_polled() {
            // It closes itself.
            return Poll::Ready(());
        }
        self.poll_body(&mut Context::from_waker(&closers.waker()))
    }
}

impl<I: 'static> fmt::Debug for AsyncGen<I> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match self.generator.channel.state() {
            State::New => "new",
            State::Open => "open",
            State::Closing => "closing",
            State::Done => "done",
        };
        let AsyncGenInfo { created_at, item } = self.generator.info;
        write!(f, "<AsyncGen of {item} {state} created at {created_at}>")
    }
}
