//! The time of the running loop, as its test sees it.

use std::borrow::Cow;
use std::fmt;
use std::future::poll_fn;
use std::panic::Location;
use std::rc::Rc;
use std::time::{Duration, Instant};

use crate::event_loop::virtual_time::{self, Resting, VirtualTime};
use crate::event_loop::{EventLoop, running};
use crate::executor::no_loop;

/// The virtual time of the running loop.
#[track_caller]
fn required(function: &str) -> Rc<VirtualTime> {
    let Some(core) = running::current() else { no_loop(&format!("testing::{function}")) };
    match core.virtual_time.get() {
        Some(time) => time.clone(),
        None => panic!(
            "testing::{function}() was called in {:?}, whose time is not virtual: see testing::block_on()",
            EventLoop::handle(core.clone())
        ),
    }
}

/// Moves the time forward, and lets everything run that becomes due on the way, each timer at its own time.
///
/// It is ready when the time has come and the loop has nothing left to do at that moment, as [`settle`] is. The time is
/// moved though something is outstanding, and also where it does not jump by itself ([`Builder::jump`](super::Builder::jump)).
///
/// ```
/// use std::time::Duration;
///
/// use roundelay::testing;
///
/// testing::Builder::new().jump(false).block_on(async {
///     let el = roundelay::get_running_loop().unwrap();
///     let timer = el.call_later(Duration::from_secs(60), testing::elapsed);
///     testing::advance(Duration::from_secs(59)).await;
///     assert!(!timer.is_done());
///     testing::advance(Duration::from_secs(41)).await;
///     assert_eq!(timer.await.unwrap(), Duration::from_secs(60));
///     assert_eq!(testing::elapsed(), Duration::from_secs(100));
/// });
/// ```
///
/// # Panics
///
/// If it is polled outside of a running loop that [`Builder`](super::Builder) has made, or if the time would be more than
/// 292 years from its start.
pub fn advance(by: Duration) -> impl Future<Output = ()> {
    rest("advance", by)
}

/// Waits until the loop has nothing left to do at the present time: every task waits for something, no callback is
/// queued, no timer is due, and what was sent to a descriptor of this loop has arrived.
///
/// ```
/// use std::cell::Cell;
/// use std::rc::Rc;
///
/// use roundelay::testing;
///
/// testing::block_on(async {
///     let turns = Rc::new(Cell::new(0));
///     let counted = turns.clone();
///     roundelay::spawn(async move {
///         for _ in 0..10 {
///             counted.set(counted.get() + 1);
///             roundelay::yield_now().await;
///         }
///     });
///     testing::settle().await;
///     assert_eq!(turns.get(), 10);
/// });
/// ```
///
/// # Panics
///
/// If it is polled outside of a running loop that [`Builder`](super::Builder) has made.
pub fn settle() -> impl Future<Output = ()> {
    rest("settle", Duration::ZERO)
}

async fn rest(function: &'static str, by: Duration) {
    let time = required(function);
    assert!(time.can_move(by), "testing::{function}(): {by:?} from now are more than 292 years from the start");
    let mut resting = Resting::default();
    poll_fn(|cx| resting.poll(&time, by, cx)).await;
}

/// The time of the running loop: that of [`EventLoop::time`].
///
/// # Panics
///
/// Outside of a running loop that [`Builder`](super::Builder) has made.
#[track_caller]
pub fn now() -> Instant {
    required("now");
    running::with_current(|core| core.map(|core| core.now())).expect("looked at above")
}

/// How much time has passed since the loop was made, from [`Builder::start`](super::Builder::start) on.
///
/// # Panics
///
/// Outside of a running loop that [`Builder`](super::Builder) has made.
#[track_caller]
pub fn elapsed() -> Duration {
    required("elapsed").elapsed()
}

/// Holds the time of the running loop until the guard is dropped: it does not jump while another thread, say, is about to
/// post something. The guard can be dropped on any thread.
///
/// `what` is named where nothing happens for too long.
///
/// ```
/// use std::time::Duration;
///
/// use roundelay::testing;
///
/// testing::block_on(async {
///     let remote = roundelay::get_running_loop().unwrap().remote();
///     let busy = testing::busy("the worker");
///     let (sender, receiver) = futures::channel::oneshot::channel();
///     std::thread::spawn(move || {
///         remote.call_soon_threadsafe(move || sender.send(5)).unwrap();
///         drop(busy);
///     });
///     // Without the guard an hour might be over before the thread begins.
///     let answer = roundelay::timeout(Duration::from_secs(3600), receiver).await;
///     assert_eq!(answer.unwrap().unwrap(), 5);
/// });
/// ```
///
/// # Panics
///
/// Outside of a running loop that [`Builder`](super::Builder) has made.
#[track_caller]
pub fn busy(what: impl Into<Cow<'static, str>>) -> Busy {
    let place = Location::caller();
    let what = format!("{}, busy since {place}", what.into());
    Busy { _guard: required("busy").busy(what) }
}

/// Holds the time of a loop: see [`busy`].
#[must_use = "dropped at once, it holds nothing"]
pub struct Busy {
    _guard: virtual_time::Busy,
}

impl fmt::Debug for Busy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Busy")
    }
}
