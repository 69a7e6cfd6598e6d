//! Where the loop takes its time from.

use std::fmt;
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use crate::constants::{FAR_FUTURE, NEAR_FUTURE};

/// A source of monotonic time for an event loop, given to its [`Builder`](crate::Builder::clock).
pub trait Clock: 'static {
    /// The time now. It never goes back.
    fn now(&self) -> Instant;

    /// The smallest step of the clock: a timer is due when its deadline is at most this far ahead.
    fn resolution(&self) -> Duration {
        Duration::from_nanos(1)
    }

    /// How long the loop may sleep, in real time, until `deadline`; `None` where only a call to the wake-up given to
    /// [`attach`](Self::attach) can bring the deadline closer.
    fn sleep_until(&self, deadline: Instant) -> Option<Duration> {
        Some(deadline.saturating_duration_since(self.now()))
    }

    /// Called once by each loop that uses the clock, with a function that wakes the loop so that it looks at the clock
    /// again. The function is gone once the loop is closed. A clock that runs by itself needs none.
    fn attach(&self, wake: Weak<dyn Fn() + Send + Sync>) {
        let _ = wake;
    }
}

/// The operating system's monotonic clock, [`Instant::now`].
#[derive(Clone, Copy, Debug, Default)]
pub struct MonotonicClock;

impl Clock for MonotonicClock {
    #[inline]
    fn now(&self) -> Instant {
        Instant::now()
    }
}

/// The source of a loop's time: the usual one without a virtual call.
#[derive(Clone)]
pub(crate) enum ClockSource {
    Monotonic,
    Custom(Rc<dyn Clock>),
}

impl ClockSource {
    #[inline]
    pub(crate) fn now(&self) -> Instant {
        match self {
            Self::Monotonic => MonotonicClock.now(),
            Self::Custom(clock) => clock.now(),
        }
    }
}

/// A clock that stands still until [`advance`](Self::advance) is called, for tests that must not wait.
///
/// Clones show the same time. It can be advanced from any thread; the loops that use it wake up and run what is due.
///
/// ```
/// use roundelay::{EventLoop, ManualClock};
/// use std::time::Duration;
///
/// let clock = ManualClock::new();
/// let el = EventLoop::builder().clock(clock.clone()).build()?;
/// let timer = el.call_later(Duration::from_secs(3600), || "an hour later");
/// el.run_once(Some(Duration::ZERO))?;
/// assert!(!timer.is_done());
/// clock.advance(Duration::from_secs(3600));
/// el.run_once(Some(Duration::ZERO))?;
/// assert!(timer.is_done());
/// # std::io::Result::Ok(())
/// ```
#[derive(Clone)]
pub struct ManualClock {
    shared: Arc<ManualShared>,
}

struct ManualShared {
    /// Real time at which the clock was made: where its own time starts.
    base: Instant,
    /// Nanoseconds by which it was advanced.
    offset: AtomicU64,
    /// What wakes the loops that use the clock.
    wakes: Mutex<Vec<Weak<dyn Fn() + Send + Sync>>>,
}

impl ManualClock {
    /// A clock that stands at the present moment.
    pub fn new() -> Self {
        let shared = ManualShared { base: Instant::now(), offset: AtomicU64::new(0), wakes: Mutex::new(Vec::new()) };
        Self { shared: Arc::new(shared) }
    }

    /// Moves the time forward and wakes the loops that use the clock.
    ///
    /// # Panics
    ///
    /// If the sum of all advances exceeds 2^64 nanoseconds (584 years).
    #[track_caller]
    pub fn advance(&self, by: Duration) {
        let by = u64::try_from(by.as_nanos()).ok();
        let add = |offset: u64| offset.checked_add(by?);
        if self.shared.offset.fetch_update(Ordering::AcqRel, Ordering::Acquire, add).is_err() {
            panic!("ManualClock::advance(): the sum of all advances exceeds 2^64 ns");
        }
        let wakes = self.shared.wakes.lock().unwrap_or_else(PoisonError::into_inner).clone();
        for wake in wakes.iter().filter_map(Weak::upgrade) {
            wake();
        }
    }
}

impl Default for ManualClock {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for ManualClock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let offset = Duration::from_nanos(self.shared.offset.load(Ordering::Acquire));
        f.debug_struct("ManualClock").field("advanced", &offset).finish()
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Instant {
        self.shared.base + Duration::from_nanos(self.shared.offset.load(Ordering::Acquire))
    }

    fn sleep_until(&self, deadline: Instant) -> Option<Duration> {
        (deadline <= self.now()).then_some(Duration::ZERO)
    }

    fn attach(&self, wake: Weak<dyn Fn() + Send + Sync>) {
        let mut wakes = self.shared.wakes.lock().unwrap_or_else(PoisonError::into_inner);
        wakes.retain(|other| other.strong_count() > 0);
        wakes.push(wake);
    }
}

/// `start + delay`, or a moment that never comes where `Instant` cannot hold the sum.
pub(crate) fn deadline(start: Instant, delay: Duration) -> Instant {
    // The farther one where the platform's `Instant` can hold it: beyond all that a `ManualClock` can be advanced by.
    let never = || start.checked_add(FAR_FUTURE).unwrap_or_else(|| start + NEAR_FUTURE);
    start.checked_add(delay).unwrap_or_else(never)
}
