//! The loop's timers for hyper.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use hyper::rt;

use crate::event_loop::remote::Remote;
use crate::event_loop::running;
use crate::event_loop::timer::{Asleep, Sleep};

/// The loop's timers as hyper's: for `timer(..)` of its builders, without which their timeouts do nothing.
///
/// The time is that of the running loop's clock, and the timers are the loop's own: arming, moving and dropping one costs
/// what [`sleep`](crate::sleep) does. A sleep of `sleep(duration)` counts from the call.
///
/// hyper wants its sleeps to be `Send`, and they are. They are to be polled on a thread on which a loop runs, and it need
/// not be the same one each time; dropped they may be anywhere.
///
/// # Panics
///
/// A sleep panics if it is polled outside of a running event loop.
///
/// ```
/// use std::time::{Duration, Instant};
///
/// use hyper::rt::Timer;
/// use roundelay::compat::HyperTimer;
///
/// roundelay::block_on(async {
///     let start = Instant::now();
///     HyperTimer.sleep(Duration::from_millis(2)).await;
///     assert!(start.elapsed() >= Duration::from_millis(2));
/// });
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HyperTimer;

impl HyperTimer {
    /// The timer.
    pub fn new() -> Self {
        Self
    }
}

impl rt::Timer for HyperTimer {
    fn sleep(&self, duration: Duration) -> Pin<Box<dyn rt::Sleep>> {
        let mut sleep = Sleep::after(duration);
        sleep.begin();
        Box::pin(HyperSleep::new(sleep))
    }

    fn sleep_until(&self, deadline: Instant) -> Pin<Box<dyn rt::Sleep>> {
        Box::pin(HyperSleep::new(Sleep::until(deadline)))
    }

    fn now(&self) -> Instant {
        running::with_current(|core| core.map(|core| core.now())).unwrap_or_else(Instant::now)
    }

    fn reset(&self, sleep: &mut Pin<Box<dyn rt::Sleep>>, new_deadline: Instant) {
        match sleep.as_mut().downcast_mut_pin::<HyperSleep>() {
            Some(sleep) => sleep.get_mut().reset(new_deadline),
            None => *sleep = self.sleep_until(new_deadline),
        }
    }
}

/// A sleep that may be sent: the timer stays with its loop, and this has its key.
struct HyperSleep {
    asleep: Asleep,
    /// The loop in which the timer is armed, if it is.
    home: Option<Remote>,
}

impl HyperSleep {
    fn new(sleep: Sleep) -> Self {
        Self { asleep: sleep.into_asleep(), home: None }
    }

    /// Calls `f` with the sleep as that of the loop that runs; `None` if none does.
    fn with<R>(&mut self, f: impl FnOnce(&mut Sleep) -> R) -> Option<R> {
        let core = running::current()?;
        if self.home.as_ref().is_some_and(|home| home.loop_id() != core.local.loop_id()) {
            self.disarm();
        }
        let mut sleep = self.asleep.wake(&core);
        let result = f(&mut sleep);
        self.asleep = sleep.into_asleep();
        if !self.asleep.is_armed() {
            self.home = None;
        } else if self.home.is_none() {
            self.home = Some(Remote::new(&core));
        }
        Some(result)
    }

    fn reset(&mut self, deadline: Instant) {
        if self.with(|sleep| sleep.reset(deadline)).is_none() {
            self.disarm();
            self.asleep = Sleep::until(deadline).into_asleep();
        }
    }

    /// Disarms the timer: now where its loop is at home, soon from elsewhere. A closed loop has none any more.
    fn disarm(&mut self) {
        if let (Some(home), Some(key)) = (self.home.take(), self.asleep.take_key()) {
            home.disarm(key);
        }
    }
}

impl Future for HyperSleep {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        match self.get_mut().with(|sleep| Pin::new(sleep).poll(cx)) {
            Some(polled) => polled,
            None => panic!("a sleep of compat::HyperTimer was polled outside of a running roundelay event loop"),
        }
    }
}

impl rt::Sleep for HyperSleep {}

impl Drop for HyperSleep {
    fn drop(&mut self) {
        self.disarm();
    }
}

impl fmt::Debug for HyperSleep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HyperSleep").field("armed", &self.home.is_some()).finish()
    }
}
