//! How long the end of a loop may take.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::{Duration, Instant};

use crate::event_loop::EventLoop;
use crate::sched::clock::deadline;
use crate::time::sleep_until;

/// When the end of a loop has taken long enough: by the loop's clock, and by the real one where that clock is one of the
/// application's, which may stand still.
pub(super) struct EndLimit {
    el: EventLoop,
    until: Instant,
    real: Option<Arc<RealLimit>>,
    /// Dropped, it ends the thread that measures the real time.
    _end: Option<mpsc::Sender<()>>,
}

#[derive(Default)]
struct RealLimit {
    state: Mutex<(bool, Option<Waker>)>,
}

impl RealLimit {
    fn with<R>(&self, f: impl FnOnce(&mut bool, &mut Option<Waker>) -> R) -> R {
        let (over, waker) = &mut *self.state.lock().unwrap_or_else(PoisonError::into_inner);
        f(over, waker)
    }

    fn measure(&self, bound: Duration, end: &mpsc::Receiver<()>) {
        if end.recv_timeout(bound) == Err(mpsc::RecvTimeoutError::Timeout) {
            let waker = self.with(|over, waker| {
                *over = true;
                waker.take()
            });
            if let Some(waker) = waker {
                waker.wake();
            }
        }
    }
}

impl EndLimit {
    pub(super) fn new(el: &EventLoop, bound: Duration) -> Self {
        let (real, end) = match el.core.has_own_clock() {
            true => Self::measure(bound).unzip(),
            false => (None, None),
        };
        Self { el: el.clone(), until: deadline(el.time(), bound), real, _end: end }
    }

    fn measure(bound: Duration) -> Option<(Arc<RealLimit>, mpsc::Sender<()>)> {
        let real = Arc::new(RealLimit::default());
        let (sender, end) = mpsc::channel();
        let measured = real.clone();
        let thread = thread::Builder::new().name("roundelay_end".into());
        // Without a thread the application's clock is all there is.
        thread.spawn(move || measured.measure(bound, &end)).ok()?;
        Some((real, sender))
    }

    pub(super) fn is_over(&self) -> bool {
        self.el.time() >= self.until || self.real.as_ref().is_some_and(|real| real.with(|over, _| *over))
    }

    /// Waits for something, until the limit at most: true if it came in time.
    pub(super) async fn before(&self, mut poll: impl FnMut(&mut Context<'_>) -> Poll<()>) -> bool {
        let mut over = pin!(self.wait());
        poll_fn(|cx| match poll(cx) {
            Poll::Ready(()) => Poll::Ready(true),
            Poll::Pending => over.as_mut().poll(cx).map(|()| false),
        })
        .await
    }

    pub(super) async fn wait(&self) {
        let mut sleep = pin!(sleep_until(self.until));
        poll_fn(|cx| {
            if let Some(real) = &self.real {
                let over = real.with(|over, waker| {
                    *waker = Some(cx.waker().clone());
                    *over
                });
                if over {
                    return Poll::Ready(());
                }
            }
            sleep.as_mut().poll(cx)
        })
        .await
    }
}
