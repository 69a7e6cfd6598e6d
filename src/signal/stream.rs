//! Signals as a stream.

use std::fmt;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use futures_core::Stream;

use crate::error::NoRunningLoop;
use crate::event_loop::inspection::waits_for;
use crate::event_loop::{Core, EventLoop, running};
use crate::sched::info::WaitsFor;
use crate::signal::SignalKind;
use crate::signal::service::{Desk, Ear, Received};

/// The signals of a kind that the process gets from now on, one item for each: see [`signal`].
///
/// None is missed while nobody asks: they are counted, and given one by one. Dropping it ends that, and brings the previous
/// disposition back if nobody else listens for the signal. It ends when its loop is closed.
#[must_use = "a stream does nothing unless it is polled"]
pub struct Signals {
    core: Rc<Core>,
    desk: Rc<Desk>,
    received: Rc<Received>,
    kind: SignalKind,
    id: u64,
}

/// Listens, in the running loop, for a signal.
///
/// It is [`EventLoop::add_signal_handler`] as a stream: see there for what is told, and when. There may be several, and a
/// handler beside them: each gets all signals.
///
/// # Errors
///
/// [`NoRunningLoop`], as an `io::Error`, outside of a running loop; else as
/// [`add_signal_handler`](EventLoop::add_signal_handler).
///
/// ```no_run
/// use roundelay::{SignalKind, signal};
///
/// roundelay::block_on(async {
///     let mut hangups = signal(SignalKind::hangup())?;
///     while hangups.recv().await.is_some() {
///         println!("reading the configuration anew");
///     }
///     std::io::Result::Ok(())
/// })?;
/// # std::io::Result::Ok(())
/// ```
pub fn signal(kind: impl Into<SignalKind>) -> io::Result<Signals> {
    let core = running::current().ok_or(NoRunningLoop)?;
    open(&EventLoop::handle(core), "signal", kind.into())
}

impl EventLoop {
    /// Listens for a signal, as [`signal`](crate::signal) does in the running loop.
    ///
    /// # Errors
    ///
    /// As [`add_signal_handler`](Self::add_signal_handler).
    ///
    /// ```
    /// use roundelay::{EventLoop, SignalKind};
    ///
    /// let el = EventLoop::new()?;
    /// let mut changes = el.signal(SignalKind::window_change())?;
    /// let waits = el.run_until_complete(roundelay::timeout(std::time::Duration::from_millis(1), changes.recv()));
    /// assert!(waits.unwrap().is_err()); // none has come
    /// # std::io::Result::Ok(())
    /// ```
    pub fn signal(&self, kind: impl Into<SignalKind>) -> io::Result<Signals> {
        open(self, "EventLoop::signal", kind.into())
    }
}

fn open(el: &EventLoop, method: &str, kind: SignalKind) -> io::Result<Signals> {
    let desk = Desk::of(el)?;
    let received = Rc::new(Received::default());
    let id = desk.add(el, method, kind, Ear::Stream(received.clone()))?;
    Ok(Signals { core: el.core.clone(), desk, received, kind, id })
}

impl Signals {
    /// Which signal it listens for.
    pub fn kind(&self) -> SignalKind {
        self.kind
    }

    /// Waits for the next signal; `None` once the loop is closed. Cancelling it loses none.
    pub async fn recv(&mut self) -> Option<SignalKind> {
        poll_fn(|cx| Pin::new(&mut *self).poll_next(cx)).await
    }
}

impl Stream for Signals {
    type Item = SignalKind;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<SignalKind>> {
        let received = &self.received;
        let count = received.count.get();
        if count > 0 {
            ready!(self.core.poll_budget(cx));
            self.core.spend_budget();
            received.count.set(count - 1);
            return Poll::Ready(Some(self.kind));
        }
        if received.ended.get() {
            return Poll::Ready(None);
        }
        let waker = cx.waker().clone();
        drop(received.waker.replace(Some(waker)));
        waits_for(|| WaitsFor::Other("a signal"));
        Poll::Pending
    }
}

impl Drop for Signals {
    fn drop(&mut self) {
        drop(self.received.waker.take());
        self.desk.leave(self.kind, self.id);
    }
}

impl fmt::Debug for Signals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Signals").field("kind", &self.kind).field("received", &self.received.count.get()).finish()
    }
}
