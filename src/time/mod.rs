//! Waiting for time to pass.

mod interval;
mod timeout;
mod timeout_scope;
mod wait_for;

pub use crate::event_loop::timer::Sleep;
pub use interval::{Interval, MissedTicks, interval, interval_at};
pub use timeout::{Timeout, timeout, timeout_at};
pub use timeout_scope::{TimeLimit, TimeoutScope, timeout_scope};
pub use wait_for::{WaitFor, wait_for};

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

/// Waits for a time.
///
/// The time counts from the first poll. A time of zero lets everything run that is ready; one that the clock cannot
/// add, such as `Duration::MAX`, never ends. Dropping the future disarms its timer.
///
/// ```
/// use std::time::{Duration, Instant};
///
/// roundelay::block_on(async {
///     let start = Instant::now();
///     roundelay::sleep(Duration::from_millis(2)).await;
///     assert!(start.elapsed() >= Duration::from_millis(2));
/// });
/// ```
///
/// # Panics
///
/// If it is polled outside of a running event loop.
pub fn sleep(time: Duration) -> Sleep {
    Sleep::after(time)
}

/// Waits until a moment of the loop's clock.
///
/// # Panics
///
/// If it is polled outside of a running event loop.
pub fn sleep_until(deadline: Instant) -> Sleep {
    Sleep::until(deadline)
}

/// Lets everything run that is ready: resumes in the next turn of the loop.
///
/// ```
/// use std::{cell::Cell, rc::Rc};
///
/// roundelay::block_on(async {
///     let called = Rc::new(Cell::new(false));
///     let flag = called.clone();
///     roundelay::get_running_loop().unwrap().call_soon(move || flag.set(true));
///     roundelay::yield_now().await;
///     assert!(called.get());
/// });
/// ```
pub fn yield_now() -> YieldNow {
    YieldNow { yielded: false }
}

/// The future of [`yield_now`].
#[must_use = "futures do nothing unless they are awaited"]
#[derive(Debug)]
pub struct YieldNow {
    yielded: bool,
}

impl Future for YieldNow {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if self.yielded {
            return Poll::Ready(());
        }
        self.yielded = true;
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}
