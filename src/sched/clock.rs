//! Where the loop takes its time from.

use std::any::Any;
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
    /// Not one of the others, for it need not be asked twice for a moment and for how many nanoseconds that is.
    Manual(ManualClock),
    Custom(Rc<dyn Clock>),
}

impl ClockSource {
    pub(crate) fn of(clock: impl Clock) -> Self {
        let manual = (&clock as &dyn Any).downcast_ref::<ManualClock>().cloned();
        manual.map_or_else(|| Self::Custom(Rc::new(clock)), Self::Manual)
    }

    #[inline]
    pub(crate) fn now(&self) -> Instant {
        match self {
            Self::Monotonic => MonotonicClock.now(),
            Self::Manual(clock) => clock.now(),
            Self::Custom(clock) => clock.now(),
        }
    }

    /// The clock, if it is not the usual one.
    pub(crate) fn own(&self) -> Option<&dyn Clock> {
        match self {
            Self::Monotonic => None,
            Self::Manual(clock) => Some(clock),
            Self::Custom(clock) => Some(&**clock),
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

impl ManualClock {
    /// The time, in nanoseconds since the clock was made.
    #[inline]
    pub(super) fn nanos(&self) -> u64 {
        self.shared.offset.load(Ordering::Acquire)
    }

    /// So many nanoseconds after the clock was made.
    #[inline]
    pub(super) fn at(&self, nanos: u64) -> Instant {
        self.shared.base + Duration::from_nanos(nanos)
    }
}

/// What a loop moves itself, under `testing`.
#[cfg(feature = "test-util")]
impl ManualClock {
    /// How far the clock was moved.
    pub(crate) fn elapsed(&self) -> Duration {
        Duration::from_nanos(self.nanos())
    }

    /// Whether the clock may be moved so far: not to what stands for a moment that never comes, nor where the timers would
    /// take it for one, but 292 years.
    pub(crate) fn can_reach(&self, when: Instant) -> bool {
        i64::try_from(when.saturating_duration_since(self.shared.base).as_nanos()).is_ok()
    }

    /// Moves the time forward to a moment that it can reach, and wakes nobody: for the loop's own turn.
    pub(crate) fn reach(&self, when: Instant) {
        let offset = u64::try_from(when.saturating_duration_since(self.shared.base).as_nanos());
        self.shared.offset.fetch_max(offset.unwrap_or(0), Ordering::AcqRel);
    }
}

impl Default for ManualClock {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for ManualClock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let offset = Duration::from_nanos(self.nanos());
        f.debug_struct("ManualClock").field("advanced", &offset).finish()
    }
}

impl Clock for ManualClock {
    #[inline]
    fn now(&self) -> Instant {
        self.at(self.nanos())
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
